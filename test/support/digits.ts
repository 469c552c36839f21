/** The shipped model and proofs by it, made once for all tests of a process. */
import { readFileSync } from "node:fs";
import path from "node:path";
import hre from "hardhat";
import { BrowserProvider, id, type Signer } from "ethers";
import { createProvider } from "hardhat/internal/core/providers/construction";
import { DIGITS, type Architecture } from "../../zk/architecture";
import type { Statement } from "../../zk/circuit";
import { contextOf, saltUnder } from "../../zk/commitments";
import { loadExamples, splitExamples } from "../../zk/dataset";
import { parseModel, type Model, type Network } from "../../zk/network";
import { prove, type Proof } from "../../zk/prover";
import { provingKit, type ProvingKit } from "../../zk/provingKit";

export const DIGITS_FOLDER = path.join(__dirname, "../../models/digits");
export const GRANT_SALT = id("a grant's salt");
export const RECEIPT_HASH = id("a receipt");

export const digitsModel = (): Model => parseModel(readFileSync(path.join(DIGITS_FOLDER, "model.json"), "utf8"));

/** As training splits them. */
export const digits = () => splitExamples(loadExamples(path.join(DIGITS_FOLDER, "digits.csv.gz")), 1);

let kit: Promise<ProvingKit> | undefined;
/** The first one takes half a minute, if none is cached. */
export const digitsKit = (): Promise<ProvingKit> => (kit ??= provingKit(DIGITS));

/** What is proven of a receipt, by default of the first digit that was held out. */
export function statementOf(
  changes: Partial<Statement> & { receiptHash?: string; grantSalt?: string } = {},
): Statement {
  const { receiptHash = RECEIPT_HASH, grantSalt = GRANT_SALT, ...rest } = changes;
  return {
    model: digitsModel(),
    input: digits().heldOut[0].input,
    inputSalt: saltUnder(grantSalt, "input"),
    outputSalt: saltUnder(grantSalt, "output"),
    context: contextOf(receiptHash),
    ...rest,
  };
}

let proof: Promise<Proof> | undefined;
/** Of the statement without changes. */
export const digitsProof = (): Promise<Proof> => (proof ??= digitsKit().then((made) => prove(made, statementOf())));

/** Somebody with money on a chain of another number, in memory. */
export async function signerOnChain(chainId: number): Promise<Signer> {
  const { config, artifacts } = hre;
  const network = { ...config.networks.hardhat, chainId };
  const provider = await createProvider({ ...config, networks: { ...config.networks, hardhat: network } }, "hardhat", artifacts); // prettier-ignore
  return new BrowserProvider(provider, chainId, { cacheTimeout: -1 }).getSigner();
}

/** A network all of whose numbers are as far out as they can be, or are the given ones. */
export function networkOf(
  architecture: Architecture,
  weight: (i: number) => number,
  bias: (i: number) => number,
): Network {
  const { inputs, hidden, outputs } = architecture;
  return {
    ...architecture,
    hiddenWeights: Int8Array.from({ length: inputs * hidden }, (_, i) => weight(i)),
    outputWeights: Int8Array.from({ length: hidden * outputs }, (_, i) => weight(i + 1)),
    hiddenBiases: Int32Array.from({ length: hidden }, (_, i) => bias(i)),
    outputBiases: Int32Array.from({ length: outputs }, (_, i) => bias(i + 1)),
  };
}
