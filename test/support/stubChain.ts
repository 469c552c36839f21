import type { LaneState } from "../../oracle/chain/chain";
import { FakeChain } from "./fakeChain";

interface KeySpan {
  operatorId: number;
  addedAt: number;
  expiresAt: number;
}

/** A fake chain with a past: keys that came and went, generations that were raised, batches that settled. */
export class StubChain extends FakeChain {
  /** Signing keys by address. */
  readonly keys = new Map<string, KeySpan>();
  /** When a license's generation was raised, and to what, in order of time. */
  readonly generations = new Map<bigint, { at: number; generation: number }[]>();
  /** Of the only lane there is. */
  lastBatch: LaneState = { sequence: 0n, epochStart: 0, epochEnd: 0 };

  override async isSigningKey(operatorId: number, address: string, at = this.time): Promise<boolean> {
    const key = this.keys.get(address);
    return key !== undefined && key.operatorId === operatorId && key.addedAt <= at && at < key.expiresAt;
  }

  override async generationAt(licenseId: bigint, at = this.time): Promise<number> {
    const raised = (this.generations.get(licenseId) ?? []).filter((raise) => raise.at <= at);
    return raised.at(-1)?.generation ?? 0;
  }

  override async lane(): Promise<LaneState> {
    return this.lastBatch;
  }
}
