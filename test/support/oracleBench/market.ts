/** The market of the benchmark's batches, and the attestor that judges them: in a thread of its own, as it is another's. */
import { computeAddress } from "ethers";
import { startAttestor } from "../../../oracle/attestor/attestor";
import { PLAUSIBLE } from "../../../oracle/attestor/plausibility";
import type { LaneState } from "../../../oracle/chain/chain";
import { localSigner } from "../../../oracle/keys/digestSigner";
import { createLog } from "../../../oracle/log";
import type { StubChain } from "../stubChain";
import { COMMITTEE, evenly, KEYS, stubMarket } from "../stubMarket";
import { openBenchStore } from "./stores";

export const BENCH_LOG = createLog("error", console.error);

/** A market with licenses from 1 on, and one attestor. */
export function marketOf(licenses: number): StubChain {
  const chain = stubMarket();
  const [like, generations] = [chain.licenses.get(7n)!, chain.generations.get(7n)!];
  for (let licenseId = 1n; licenseId <= BigInt(licenses); licenseId++) {
    chain.licenses.set(licenseId, { ...like, licenseId });
    chain.generations.set(licenseId, generations);
  }
  const alone = { ...COMMITTEE, ...evenly([computeAddress(KEYS.attestors[0])]), threshold: 1 };
  chain.committeesAt.set(COMMITTEE.address, { present: alone, former: null, announced: null });
  return chain;
}

export interface BenchAttestor {
  url: string;
  /** Tells it which batch of the lane has settled. */
  settled(last: LaneState): void;
  close(): Promise<void>;
}

/** @param path of its store, which is made */
export async function startBenchAttestor(path: string, licenses: number): Promise<BenchAttestor> {
  const chain = marketOf(licenses);
  const store = openBenchStore(path);
  const attestor = await startAttestor(
    { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address },
    { chain, store, log: BENCH_LOG, plausible: () => ({ ...PLAUSIBLE, gpus: 1_000_000, slots: 1_000_000 }) },
  );
  return {
    url: attestor.url,
    settled: (last) => void (chain.lastBatch = last),
    close: async () => {
      await attestor.close();
      await store.close();
    },
  };
}
