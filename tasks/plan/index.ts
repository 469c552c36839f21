export * from "./close";
export * from "./create";
export * from "./offer";
export * from "./show";
