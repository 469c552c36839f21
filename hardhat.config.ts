import { readdirSync } from "node:fs";
import path from "node:path";
import { HardhatUserConfig, subtask } from "hardhat/config";
import {
  TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD,
  TASK_COMPILE_SOLIDITY_LOG_COMPILATION_ERRORS,
  TASK_TEST_GET_TEST_FILES,
} from "hardhat/builtin-tasks/task-names";
import "@nomicfoundation/hardhat-toolbox";
import "./tasks";

const SOLC_VERSION = "0.8.30";

/** OpenZeppelin's transient re-entrancy guard warns about transient storage (2394); nothing else may warn. */
const ACCEPTED_WARNINGS = new Set(["2394"]);

/** The compiler comes from the `solc` package: a fresh machine downloads nothing but packages. */
subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async (args: { solcVersion: string }, _hre, runSuper) =>
  args.solcVersion !== SOLC_VERSION
    ? runSuper()
    : {
        compilerPath: require.resolve("solc/soljson.js"),
        isSolcJs: true,
        version: SOLC_VERSION,
        // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only when something is compiled
        longVersion: require("solc").version().replace(".Emscripten.clang", ""),
      },
);

interface CompilationError {
  errorCode?: string;
  severity: string;
}

subtask(
  TASK_COMPILE_SOLIDITY_LOG_COMPILATION_ERRORS,
  async (args: { output: { errors?: CompilationError[] }; quiet: boolean }, _hre, runSuper) => {
    const errors = (args.output.errors ?? []).filter((error) => !ACCEPTED_WARNINGS.has(error.errorCode ?? ""));
    await runSuper({ ...args, output: { ...args.output, errors } });
    if (process.env.STRICT === "1" && errors.some((error) => error.severity === "warning")) {
      throw new Error("The contracts compile with warnings (above), and STRICT=1 allows none.");
    }
  },
);

/** Tests are what is named so: what supports them is loaded by those that need it. */
subtask(TASK_TEST_GET_TEST_FILES, async (args: { testFiles: string[] }, _hre, runSuper) => {
  const files = (await runSuper(args)) as string[];
  return args.testFiles.length > 0 ? files : files.filter((file) => file.endsWith(".test.ts"));
});

/** Of the network `custom`: where it is, and the key that acts there. */
const { LICET_RPC_URL, LICET_PRIVATE_KEY } = process.env;

const compiler = (viaIR: boolean) => ({
  version: SOLC_VERSION,
  settings: {
    optimizer: { enabled: true, runs: 1000 },
    viaIR,
    evmVersion: "prague",
    metadata: { bytecodeHash: "none" },
  },
});

/** The compiler breaks at verifiers of proofs by way of its intermediate language. */
const GENERATED = "contracts/zk/generated";
const generated = readdirSync(path.join(__dirname, GENERATED)).map((file) => `${GENERATED}/${file}`);

const config: HardhatUserConfig = {
  solidity: {
    compilers: [compiler(true)],
    overrides: Object.fromEntries(generated.map((file) => [file, compiler(false)])),
  },
  networks: {
    hardhat: { hardfork: "prague" },
    localhost: { url: "http://127.0.0.1:8545" },
    ...(LICET_RPC_URL
      ? { custom: { url: LICET_RPC_URL, accounts: LICET_PRIVATE_KEY ? [LICET_PRIVATE_KEY] : [] } }
      : {}),
  },
  paths: { ignition: "deploy" },
  // `npm run typechain` generates the bindings: compiling must not, or a stale one could never be found.
  typechain: { outDir: "typechain-types", target: "ethers-v6", dontOverrideCompile: true },
  mocha: { timeout: 120_000 },
};

export default config;
