import { dataLength, getAddress, type ContractRunner, type Provider } from "ethers";
import {
  AssetRegistry__factory,
  CommitteeAttestor__factory,
  LicenseRegistry__factory,
  OperatorRegistry__factory,
  PerformanceStaking__factory,
  UsageEscrow__factory,
  type AssetRegistry,
  type CommitteeAttestor,
  type LicenseRegistry,
  type OperatorRegistry,
  type PerformanceStaking,
  type UsageEscrow,
} from "../../typechain-types";
import type {
  Chain,
  Committee,
  Committees,
  LaneState,
  LicenseState,
  OperatorState,
  PlanState,
  VersionState,
} from "./chain";
import { capCodeToRespect, licenseStateOf, type AccountView, type PlanTerms } from "./licenseState";
import { connectDemands, type SignedSince } from "./signedDemands";
import { isSignedByAccount } from "./smartAccount";
import { statusName } from "./statuses";
import { domainOf, recoverSigner } from "../protocol/messages";
import { usageBy } from "../protocol/meters";
import { assetOf } from "../protocol/versionId";

/** Whose time a daemon goes by: the machine's, or the chain's, where the chain's clock is moved by hand. */
export type Clock = "machine" | "chain";

/** What ethers' and Hardhat's JSON-RPC providers have in common. */
export interface RpcProvider extends Provider {
  send(method: string, params: unknown[]): Promise<unknown>;
}

export interface ChainConfig {
  escrow: string;
  /** Address of the DisputeCourt; left out where the deployment has none. */
  court?: string;
  /** The deployment's first block: events before it are not looked for. */
  fromBlock: number;
  clock: Clock;
}

const ADDRESS_BYTES = 20;

/** The deployment of an escrow, read through ethers. All but the court is found from the escrow's address. */
export async function connectChain(provider: RpcProvider, config: ChainConfig): Promise<Chain> {
  const runner: ContractRunner = { provider };
  const escrow = UsageEscrow__factory.connect(config.escrow, runner);
  const [{ chainId }, licensesAt, operatorsAt, assetsAt, stakingAt, epochPeriod, windowPeriod] = await Promise.all([
    provider.getNetwork(),
    escrow.LICENSES(),
    escrow.OPERATORS(),
    escrow.ASSETS(),
    escrow.STAKING(),
    escrow.EPOCH_PERIOD(),
    escrow.WINDOW_PERIOD(),
  ]);
  const assets = AssetRegistry__factory.connect(assetsAt, runner);
  return new EthersChain(provider, config, {
    escrow,
    assets,
    licenses: LicenseRegistry__factory.connect(licensesAt, runner),
    operators: OperatorRegistry__factory.connect(operatorsAt, runner),
    staking: PerformanceStaking__factory.connect(stakingAt, runner),
    signedSince: connectDemands(runner, config.court),
    chainId,
    epochPeriod: Number(epochPeriod),
    windowPeriod: Number(windowPeriod),
    noticePeriod: await assets.NOTICE_PERIOD(),
  });
}

/** What never changes about a deployment. */
interface Connected {
  escrow: UsageEscrow;
  assets: AssetRegistry;
  licenses: LicenseRegistry;
  operators: OperatorRegistry;
  staking: PerformanceStaking;
  signedSince: SignedSince;
  chainId: bigint;
  /** All in seconds. */
  epochPeriod: number;
  windowPeriod: number;
  noticePeriod: bigint;
}

class EthersChain implements Chain {
  readonly domain: Chain["domain"];
  readonly epochPeriod: number;
  readonly windowPeriod: number;

  constructor(
    private readonly provider: RpcProvider,
    private readonly config: ChainConfig,
    private readonly connected: Connected,
  ) {
    this.domain = domainOf(connected.chainId, config.escrow);
    this.epochPeriod = connected.epochPeriod;
    this.windowPeriod = connected.windowPeriod;
  }

  async now(): Promise<number> {
    if (this.config.clock === "machine") return Math.floor(Date.now() / 1000);
    const time = await pendingTime(this.provider);
    if (time === null) throw new Error('the node tells no pending block: say "clock": "machine", or use another');
    return time;
  }

  async license(licenseId: bigint): Promise<LicenseState | null> {
    const { escrow, licenses } = this.connected;
    const account = await escrow.accountOf(licenseId);
    if (account.planId === 0n) return null;
    const capCode = capCodeToRespect(account);
    const [owner, plan, ownCap, now, signedSince] = await Promise.all([
      licenses.ownerOf(licenseId),
      licenses.termsOf(account.planId),
      capCode === 0n ? 0n : escrow.capOf(capCode),
      this.now(),
      this.connected.signedSince(licenseId),
    ]);
    const owed = await this.owedBy(
      account,
      account.formerPlanId === 0n ? plan : await licenses.termsOf(account.formerPlanId),
    );
    const { epochPeriod } = this;
    return licenseStateOf({ licenseId, owner, account, plan, ownCap, owed, signedSince, now, epochPeriod });
  }

  /** What is missing to the minimum of a term that is over and not closed: nothing if a recall was announced and took effect in it. */
  private async owedBy({ endedAt, endedSpent }: AccountView, plan: PlanTerms): Promise<bigint> {
    if (endedAt === 0n || endedSpent >= plan.minimumSpend) return 0n;
    const { assets, noticePeriod } = this.connected;
    const recalls = await assets.recallsBetween(plan.assetId, endedAt - plan.termPeriod + noticePeriod, endedAt);
    return recalls > 0n ? 0n : plan.minimumSpend - endedSpent;
  }

  async generationAt(licenseId: bigint, at: number): Promise<number> {
    const { escrow } = this.connected;
    const raised = await escrow.queryFilter(escrow.filters.GenerationRaised(licenseId), this.config.fromBlock);
    let [first, last] = [0, raised.length];
    while (first < last) {
      const middle = (first + last) >> 1;
      const { timestamp } = await raised[middle].getBlock();
      if (timestamp <= at) first = middle + 1;
      else last = middle;
    }
    return first === 0 ? 0 : Number(raised[first - 1].args.generation);
  }

  async plan(planId: number): Promise<PlanState | null> {
    const { licenses } = this.connected;
    if (!isKnown(planId, await licenses.planCount())) return null;
    const { assetId, rates, attestor, minEvidenceTier } = await licenses.termsOf(planId);
    return {
      planId,
      assetId: Number(assetId),
      rates: usageBy((meter) => rates[meter]),
      attestor,
      minEvidenceTier: Number(minEvidenceTier),
    };
  }

  async version(versionId: bigint): Promise<VersionState | null> {
    const { assets } = this.connected;
    const usableUntil = await assets.usableUntil(versionId);
    if (usableUntil === 0n) return null;
    const { manifestHash } = await assets.versionOf(versionId);
    return { versionId, assetId: assetOf(versionId), manifestHash, usableUntil: Number(usableUntil) };
  }

  async operator(operatorId: number): Promise<OperatorState | null> {
    const { operators } = this.connected;
    if (!isKnown(operatorId, await operators.operatorCount())) return null;
    const { owner, endpoint, evidenceHash } = await operators.operatorOf(operatorId);
    return { operatorId, owner, endpoint, evidenceHash };
  }

  isSigningKey(operatorId: number, key: string, at: number): Promise<boolean> {
    return this.connected.operators.isSigningKey(operatorId, key, at);
  }

  async isRevokedKey(operatorId: number, key: string): Promise<boolean> {
    return statusName("KeyStatus", await this.connected.operators.statusOf(operatorId, key)) === "Revoked";
  }

  async isSignatureOf(account: string, digest: string, signature: string): Promise<boolean> {
    // The key's own signature counts whatever code the account has: an EIP-7702 delegation can't unsay it.
    if (isRecoveredFrom(account, digest, signature)) return true;
    if ((await this.provider.getCode(account)) === "0x") return false;
    return isSignedByAccount(this.provider, account, digest, signature);
  }

  async committees(attestor: string): Promise<Committees> {
    const contract = CommitteeAttestor__factory.connect(attestor, { provider: this.provider });
    const [number, time] = await Promise.all([contract.presentRotation(), this.now()]);
    const numbers = [number - 1n, number, number + 1n].filter((one) => one >= 0n);
    const found = await Promise.all(
      numbers.map((one) => Promise.all([contract.rotationOf(one), contract.weightsOf(one)])),
    );
    const rotations = found
      .filter(([{ since }]) => since > 0n)
      .map(([rotation, weights]) => committeeOf(attestor, rotation, weights));
    const begun = rotations.filter(({ since }) => since <= time);
    const [present, former] = [begun.at(-1), begun.at(-2)];
    if (present === undefined) throw new Error(`The committee ${attestor} begins after ${time}: check the clock`);
    const isFormer = former !== undefined && time <= present.since + this.windowPeriod;
    return {
      present,
      former: isFormer ? former : null,
      announced: rotations.find(({ since }) => since > time) ?? null,
    };
  }

  async lane(operatorId: number, planId: number, versionId: bigint): Promise<LaneState> {
    const { sequence, epochStart, epochEnd } = await this.connected.escrow.laneOf(operatorId, planId, versionId);
    return { sequence, epochStart: Number(epochStart), epochEnd: Number(epochEnd) };
  }

  headroom(operatorId: number): Promise<bigint> {
    return this.connected.staking.headroomOf(operatorId);
  }
}

/** The time of the block to come, in Unix seconds: on a chain that makes blocks on demand, the latest one's may be long past. Null if the node doesn't tell. */
export async function pendingTime(provider: RpcProvider): Promise<number | null> {
  // A pending block has no number, which ethers' own `getBlock` doesn't bear.
  const pending = (await provider.send("eth_getBlockByNumber", ["pending", false])) as { timestamp: string } | null;
  return pending && Number(pending.timestamp);
}

type Rotation = Awaited<ReturnType<CommitteeAttestor["rotationOf"]>>;

/** @param counting what each member's signature counts for now: nothing while its bond doesn't cover it */
function committeeOf(address: string, { members, threshold, since }: Rotation, counting: bigint[]): Committee {
  const plain = members
    .map(({ signer, weight }, i) => ({ signer, weight: Number(weight), isBonded: counting[i] > 0n }))
    .filter(({ signer }) => dataLength(signer) === ADDRESS_BYTES)
    .map((member) => ({ ...member, signer: getAddress(member.signer) }));
  return {
    address: getAddress(address),
    members: plain.map(({ signer }) => signer),
    weights: Object.fromEntries(plain.map(({ signer, weight }) => [signer, weight])),
    unbonded: plain.filter(({ isBonded }) => !isBonded).map(({ signer }) => signer),
    threshold: Number(threshold),
    since: Number(since),
  };
}

/** Ids count from 1. */
function isKnown(id: number, count: bigint): boolean {
  return id >= 1 && BigInt(id) <= count;
}

function isRecoveredFrom(account: string, digest: string, signature: string): boolean {
  try {
    return recoverSigner(digest, signature).toLowerCase() === account.toLowerCase();
  } catch {
    return false;
  }
}
