module.exports = {
  // With all of its steps the optimizer merges away some of the marks that coverage counts.
  configureYulOptimizer: true,
  skipFiles: ["mocks", "zk"],
  // Each use of a modifier counts as a branch otherwise.
  modifierWhitelist: ["nonReentrant", "restricted"],
  istanbulReporter: ["text-summary", "json-summary", "lcov"],
};
