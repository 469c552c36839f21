export * from "./close";
export * from "./create";
export * from "./show";
