export * from "./approve";
export * from "./history";
export * from "./income";
export * from "./payee";
export * from "./register";
export * from "./settings";
export * from "./show";
