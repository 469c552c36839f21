import { type Provider, ZeroAddress } from "ethers";
import { AssetRegistry__factory, IInferenceVerifier__factory, UsageEscrow__factory } from "../../typechain-types";
import type { Inference } from "../disputes/court";
import type { Receipt } from "../protocol/types";
import { isAnswer } from "./smartAccount";

/** What versions say of their weights, and what their verifiers say of proofs. All methods throw if the chain can't be asked. */
export interface Inferences {
  /** Null if the version names no verifier. */
  inferenceOf(versionId: bigint): Promise<Inference | null>;
  /**
   * Whether the verifier takes it for a proof that weights with this commitment gave a receipt's answer.
   * @param receiptHash the receipt's EIP-712 digest
   */
  isProven(
    inference: Inference,
    receipt: Pick<Receipt, "requestHash" | "responseHash">,
    receiptHash: string,
    proof: Uint8Array,
  ): Promise<boolean>;
}

/** What a transaction may take (EIP-7825): a proof that needs more would answer no challenge. */
const MOST_GAS = 2n ** 24n;

/** Of the deployment of an escrow, through ethers. Verifiers' code is their publishers': whatever else it says or does is no. */
export async function connectInferences(provider: Provider, escrow: string): Promise<Inferences> {
  const runner = { provider };
  const assets = AssetRegistry__factory.connect(await UsageEscrow__factory.connect(escrow, runner).ASSETS(), runner);
  return {
    async inferenceOf(versionId) {
      const { weightsCommitment, inferenceVerifier: verifier } = await assets.inferenceOf(versionId);
      return verifier === ZeroAddress ? null : { weightsCommitment, verifier };
    },
    async isProven({ weightsCommitment, verifier }, { requestHash, responseHash }, receiptHash, proof) {
      const contract = IInferenceVerifier__factory.connect(verifier, runner);
      try {
        const asked = [weightsCommitment, requestHash, responseHash, receiptHash, proof] as const;
        return await contract.verify(...asked, { gasLimit: MOST_GAS });
      } catch (error) {
        if (isAnswer(error as Error)) return false;
        throw error;
      }
    },
  };
}
