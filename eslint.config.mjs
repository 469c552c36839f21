import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["typechain-types/", "artifacts/", "cache/", "coverage/", "node_modules/"] },
  ...tseslint.configs.recommended,
  {
    // A promise that nobody waits for hides what fails, makes a test that can't, and reads a store too early.
    files: ["**/*.ts"],
    languageOptions: { parserOptions: { projectService: true } },
    rules: { "@typescript-eslint/no-floating-promises": "error" },
  },
  { files: ["oracle/**/*.ts"], rules: { "@typescript-eslint/no-misused-promises": "error" } },
);
