import { CommitteeAttestor__factory, UsageEscrow__factory } from "../../typechain-types";
import { unpackOutcomes } from "../protocol/entries";
import { ChainRefusal, type SettlementEscrow } from "../settler/sender";
import type { RpcProvider } from "./ethersChain";
import { refusalOf } from "./refusal";
import { isAnswer } from "./smartAccount";
import { AS_OF_NOW, statusName } from "./statuses";
import { finalHeight, tagOf, type Finality, type Witness } from "./witness";

/** The escrow at an address, through ethers. */
export function connectEscrow(
  provider: RpcProvider,
  witness: Witness,
  { escrow: address, finality }: { escrow: string; finality: Finality },
): SettlementEscrow {
  const escrow = UsageEscrow__factory.connect(address, { provider });

  return {
    async vouches(committee, digest, proof) {
      const attestor = CommitteeAttestor__factory.connect(committee, { provider });
      const signers = await attestor.vouches(digest, proof, AS_OF_NOW).catch((error: Error) => {
        if (isAnswer(error)) return 0n;
        throw error;
      });
      return signers > 0n;
    },

    async preview(header, entries) {
      const { outcomes } = await escrow.previewSettle(header, entries, AS_OF_NOW).catch((error: Error) => {
        const refusal = refusalOf(error);
        throw refusal === undefined ? error : new ChainRefusal(refusal, { cause: error });
      });
      return unpackOutcomes(outcomes);
    },

    async isSettled(batchId, by) {
      const block = by === "latest" ? await witness.height() : await finalHeight(witness, finality);
      if (block < 0) return false;
      const data = escrow.interface.encodeFunctionData("batchOf", [batchId]);
      const answer = (await witness.ask("eth_call", [{ to: address, data }, tagOf(block)])) as string;
      const [{ status }] = escrow.interface.decodeFunctionResult("batchOf", answer);
      return statusName("BatchStatus", status as bigint) !== "None";
    },

    settlement: (header, entries, proof) => escrow.settle.populateTransaction(header, entries, proof),

    renewal: (licenseId) => escrow.renew.populateTransaction(licenseId),
  };
}
