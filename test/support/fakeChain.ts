import { setTimeout as wait } from "node:timers/promises";
import type {
  Chain,
  Committees,
  LaneState,
  LicenseState,
  OperatorState,
  PlanState,
  VersionState,
} from "../../oracle/chain/chain";
import { recoverSigner } from "../../oracle/protocol/messages";
import { DOMAIN } from "./fakeMessages";

/** A chain that is what the test says, and that can be cut off. */
export class FakeChain implements Chain {
  readonly domain = DOMAIN;
  readonly epochPeriod = 86_400;
  readonly windowPeriod = 172_800;

  time = 1_700_000_000;
  readonly licenses = new Map<bigint, LicenseState>();
  readonly plans = new Map<number, PlanState>();
  readonly versions = new Map<bigint, VersionState>();
  readonly operators = new Map<number, OperatorState>();
  readonly signingKeys = new Map<number, string[]>();
  /** By address of their contract. */
  readonly committeesAt = new Map<string, Committees>();
  readonly revokedKeys = new Set<string>();
  /** What accounts with code say that they signed: account, digest and signature. */
  readonly accepted = new Set<string>();
  /** When all signing keys end, Unix seconds. */
  keysExpireAt = 2 ** 40 - 1;
  /** What operators' stakes still let be in flight. */
  stakeHeadroom = 2n ** 63n;
  /** While true, nothing can be read. */
  isHalted = false;
  /** While true, nothing that is asked is ever answered. */
  isHanging = false;
  /** How long it takes to read a license. */
  latencyMs = 0;

  async now(): Promise<number> {
    return this.read(this.time);
  }

  async license(licenseId: bigint): Promise<LicenseState | null> {
    await wait(this.latencyMs);
    const license = this.licenses.get(licenseId);
    return this.read(license === undefined ? null : { ...license });
  }

  async generationAt(licenseId: bigint): Promise<number> {
    return this.read(this.licenses.get(licenseId)?.generation ?? 0);
  }

  async plan(planId: number): Promise<PlanState | null> {
    return this.read(this.plans.get(planId) ?? null);
  }

  async version(versionId: bigint): Promise<VersionState | null> {
    return this.read(this.versions.get(versionId) ?? null);
  }

  async operator(operatorId: number): Promise<OperatorState | null> {
    return this.read(this.operators.get(operatorId) ?? null);
  }

  async isSigningKey(operatorId: number, key: string, at: number): Promise<boolean> {
    const isKnown = this.signingKeys.get(operatorId)?.includes(key) ?? false;
    return this.read(isKnown && at < this.keysExpireAt);
  }

  async isRevokedKey(_operatorId: number, key: string): Promise<boolean> {
    return this.read(this.revokedKeys.has(key));
  }

  async isSignatureOf(account: string, digest: string, signature: string): Promise<boolean> {
    return this.read(this.accepted.has(`${account} ${digest} ${signature}`) || isSignedBy(account, digest, signature));
  }

  async committees(attestor: string): Promise<Committees> {
    const committees = this.committeesAt.get(attestor);
    if (committees === undefined) throw new Error(`no committee is at ${attestor}`);
    return this.read(committees);
  }

  async lane(): Promise<LaneState> {
    return this.read({ sequence: 0n, epochStart: 0, epochEnd: 0 });
  }

  async headroom(): Promise<bigint> {
    return this.read(this.stakeHeadroom);
  }

  private async read<T>(value: T): Promise<T> {
    if (this.isHanging) await new Promise(() => {});
    if (this.isHalted) throw new Error("the chain is halted");
    return value;
  }
}

function isSignedBy(account: string, digest: string, signature: string): boolean {
  try {
    return recoverSigner(digest, signature) === account;
  } catch {
    return false;
  }
}
