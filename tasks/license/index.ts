export * from "./buy";
export * from "./cap";
export * from "./grant";
export * from "./operator";
export * from "./show";
export * from "./term";
export * from "./transfer";
export * from "./withdraw";
