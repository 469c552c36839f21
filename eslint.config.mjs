import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["typechain-types/", "artifacts/", "cache/", "coverage/", "node_modules/"] },
  ...tseslint.configs.recommended,
);
