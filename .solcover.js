// Each use of a modifier counts as a branch otherwise.
module.exports = {
  skipFiles: ["mocks", "verifiers"],
  modifierWhitelist: ["nonReentrant", "restricted"],
  istanbulReporter: ["text-summary", "json-summary", "lcov"],
};
