import {
  CommitteeAttestor__factory,
  IERC20Metadata__factory,
  LicenseRegistry__factory,
  UsageEscrow__factory,
} from "../../typechain-types";
import { unpackOutcomes } from "../protocol/entries";
import { ChainRefusal, type SettlementEscrow } from "../settler/sender";
import type { RpcProvider } from "./ethersChain";
import { gasPriceOf } from "./gas";
import { refusalOf } from "./refusal";
import { isAnswer } from "./smartAccount";
import { AS_OF_NOW, statusName } from "./statuses";
import { finalHeight, logsIn, tagOf, type Finality, type Witness } from "./witness";

interface Log {
  topics: string[];
}

/** What `ChargeFrozen` events tell, once each: nodes that agree may say it with other fields around it. */
const chargesIn = (logs: unknown): string[] => [
  ...new Set((logs as Log[]).map(({ topics: [, chargeId] }) => chargeId)),
];

/** The escrow at an address, through ethers. @param fromBlock The deployment's first: events before it are not looked for */
export function connectEscrow(
  provider: RpcProvider,
  witness: Witness,
  { escrow: address, fromBlock, finality }: { escrow: string; fromBlock: number; finality: Finality },
): SettlementEscrow {
  const escrow = UsageEscrow__factory.connect(address, { provider });

  /** By enough nodes' word. */
  async function batchAt(batchId: string, block: number): Promise<{ status: bigint }> {
    const data = escrow.interface.encodeFunctionData("batchOf", [batchId]);
    const answer = (await witness.ask("eth_call", [{ to: address, data }, tagOf(block)])) as string;
    const [batch] = escrow.interface.decodeFunctionResult("batchOf", answer);
    return batch as { status: bigint };
  }

  let decimals: Promise<number> | null = null;

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
      const { status } = await batchAt(batchId, block);
      return statusName("BatchStatus", status) !== "None";
    },

    settlement: (header, entries, proof) => escrow.settle.populateTransaction(header, entries, proof),

    renewal: (licenseId) => escrow.renew.populateTransaction(licenseId),

    async chargesOf(batchId) {
      const topics = escrow.interface.encodeFilterTopics("ChargeFrozen", [null, batchId]);
      const span = { from: fromBlock, to: await witness.height() };
      return chargesIn(await logsIn(witness, { address, topics }, span, chargesIn));
    },

    async holdOf(batchId) {
      const finalBlock = await finalHeight(witness, finality);
      const [final, { releasableAt }, now, { operator, bonus }] = await Promise.all([
        batchAt(batchId, Math.max(0, finalBlock)),
        escrow.batchOf(batchId),
        escrow.batchStatusOf(batchId, AS_OF_NOW),
        escrow.splitOf(batchId),
      ]);
      const isReleased = ["Released", "Collected", "Refunded"].includes(statusName("BatchStatus", final.status));
      const isReleasable = statusName("BatchStatus", now) === "Releasable";
      return {
        status: isReleased ? "Released" : isReleasable ? "Releasable" : "Held",
        releasableAt: Number(releasableAt),
        income: operator + bonus,
      };
    },

    release: (batchId) => escrow.release.populateTransaction(batchId),

    poolIncomeOf: async (operatorId) => (await escrow.operatorIncomeOf(operatorId)).forPool,

    poolPayment: (operatorId) => escrow.payPool.populateTransaction(operatorId),

    async operatorShareBps(planId) {
      const licenses = LicenseRegistry__factory.connect(await escrow.LICENSES(), { provider });
      const [{ publisherBps, attestorBps }, feeBps] = await Promise.all([licenses.sharesOf(planId), escrow.feeBps()]);
      return 10_000 - Number(publisherBps + attestorBps + feeBps);
    },

    decimals() {
      decimals ??= escrow
        .CURRENCY()
        .then((currency) => IERC20Metadata__factory.connect(currency, { provider }).decimals())
        .then(Number)
        .catch((error) => {
          decimals = null;
          throw error;
        });
      return decimals;
    },

    gasPrice: () => gasPriceOf(provider),
  };
}
