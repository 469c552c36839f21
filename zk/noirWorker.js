/* eslint-disable @typescript-eslint/no-require-imports -- a worker is a plain file */
/** Compiles circuits and makes witnesses in a thread of its own: either keeps a processor for seconds. */
const { parentPort, workerData } = require("node:worker_threads");

const JOBS = {
  /** @returns the compiled circuit of the package in a folder */
  compile: async ({ folder }) => {
    const { compile, createFileManager } = require("@noir-lang/noir_wasm");
    const silent = () => {};
    return (await compile(createFileManager(folder), undefined, silent, silent)).program;
  },
  /** @returns the compressed witness of a circuit for inputs */
  witness: async ({ circuit, inputs }) => {
    const { Noir } = require("@noir-lang/noir_js");
    return (await new Noir(circuit).execute(inputs)).witness;
  },
};

JOBS[workerData.job](workerData.given).then(
  (result) => parentPort.postMessage({ result }),
  (error) => parentPort.postMessage({ error: error instanceof Error ? error.message : String(error) }),
);
