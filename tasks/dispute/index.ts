export * from "./answer";
export * from "./arbitration";
export * from "./challenge";
export * from "./close";
export * from "./list";
export * from "./prove";
export * from "./show";
