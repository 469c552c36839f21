export * from "./prove";
export * from "./report";
