/** What a thread that proves a receipt does. */
import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { contextOf, saltUnder, weightsCommitment } from "../../zk/commitments";
import { publicInputsOf } from "../../zk/circuit";
import { parseModel, requireInput } from "../../zk/network";
import { prove } from "../../zk/prover";
import { provingKit } from "../../zk/provingKit";
import { Problem, reasonOf } from "../problem";
import type { ProverAnswer, ProverJob } from "./receiptProver";

export function serveProof(): void {
  const answer = (message: ProverAnswer) => parentPort!.postMessage(message);
  proofOf(workerData as ProverJob, (pid) => answer({ pid })).then(
    (proof) => answer({ proof }),
    (cause) => answer({ problem: reasonOf(cause) }),
  );
}

/** @throws Problem that says what isn't true */
async function proofOf({ modelFile, setup, ...asked }: ProverJob, onStart: (pid: number) => void): Promise<string> {
  const model = parseModel(readFileSync(modelFile, "utf8"));
  const own = weightsCommitment(model);
  if (own !== asked.weightsCommitment) {
    throw new Problem(
      `${modelFile} has the weights commitment ${own}, and its version ${asked.weightsCommitment}: name the model that was published`,
    );
  }
  const statement = {
    model,
    input: requireInput(model.network, asked.input),
    inputSalt: saltUnder(asked.grantSalt, "input"),
    outputSalt: saltUnder(asked.grantSalt, "output"),
    context: contextOf(asked.receiptHash),
  };
  const { requestHash, responseHash } = publicInputsOf(statement);
  const { receipt } = asked;
  if (requestHash !== receipt.requestHash || responseHash !== receipt.responseHash) {
    throw new Problem(
      `${modelFile} gives another answer to what was asked than receipt ${asked.receiptHash} has: it was served by other weights`,
    );
  }
  return (await prove(await provingKit(model.network, { setup }), statement, undefined, onStart)).proof;
}
