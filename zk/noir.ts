/** Noir, in threads of its own. */
import path from "node:path";
import { Worker } from "node:worker_threads";

/** A circuit as Noir's compiler writes it. */
export interface CompiledCircuit {
  abi: unknown;
  bytecode: string;
}

/** Numbers as text, by the names of the circuit's parameters. */
export type CircuitInputs = Record<string, string | string[]>;

/** Compiles the package in a folder. */
export const compilePackage = (folder: string): Promise<CompiledCircuit> => inWorker("compile", { folder });

/** The compressed witness. @throws Error with the assertion that doesn't hold, if one doesn't */
export const executeCircuit = (circuit: CompiledCircuit, inputs: CircuitInputs): Promise<Uint8Array> =>
  inWorker("witness", { circuit, inputs });

function inWorker<T>(job: string, given: object): Promise<T> {
  // What the compiler prints is of no use to anybody.
  const worker = new Worker(path.join(__dirname, "noirWorker.js"), { workerData: { job, given }, stdout: true });
  return new Promise<T>((resolve, reject) => {
    worker.once("message", ({ result, error }: { result: T; error?: string }) => {
      if (error === undefined) resolve(result);
      else reject(new Error(error));
      void worker.terminate();
    });
    worker.once("error", reject);
  });
}
