import { Contract, dataLength, getAddress, isError, type ContractRunner, type Provider } from "ethers";
import {
  AssetRegistry__factory,
  CommitteeAttestor__factory,
  LicenseRegistry__factory,
  OperatorRegistry__factory,
  UsageEscrow__factory,
  type CommitteeAttestor,
  type LicenseRegistry,
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
  Renewal,
  ServiceChange,
  VersionState,
} from "./chain";
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
  /** The deployment's first block: events before it are not looked for. */
  fromBlock: number;
  clock: Clock;
}

const ERC1271 = ["function isValidSignature(bytes32 hash, bytes signature) view returns (bytes4)"];
const ERC1271_MAGIC = "0x1626ba7e";
const ADDRESS_BYTES = 20;

/** The deployment of an escrow, read through ethers. Everything else is found from the escrow's address. */
export async function connectChain(provider: RpcProvider, config: ChainConfig): Promise<Chain> {
  const runner: ContractRunner = { provider };
  const escrow = UsageEscrow__factory.connect(config.escrow, runner);
  const [{ chainId }, licensesAt, operatorsAt, assetsAt, epochPeriod, windowPeriod] = await Promise.all([
    provider.getNetwork(),
    escrow.LICENSES(),
    escrow.OPERATORS(),
    escrow.ASSETS(),
    escrow.EPOCH_PERIOD(),
    escrow.WINDOW_PERIOD(),
  ]);
  const licenses = LicenseRegistry__factory.connect(licensesAt, runner);
  const operators = OperatorRegistry__factory.connect(operatorsAt, runner);
  const assets = AssetRegistry__factory.connect(assetsAt, runner);
  const noticePeriod = await assets.NOTICE_PERIOD();

  async function now(): Promise<number> {
    if (config.clock === "machine") return Math.floor(Date.now() / 1000);
    // A pending block has no number, which ethers' own `getBlock` doesn't bear.
    const pending = (await provider.send("eth_getBlockByNumber", ["pending", false])) as { timestamp: string } | null;
    if (pending === null) throw new Error('the node tells no pending block: say "clock": "machine", or use another');
    return Number(pending.timestamp);
  }

  async function license(licenseId: bigint): Promise<LicenseState | null> {
    const account = await escrow.accountOf(licenseId);
    if (account.planId === 0n) return null;
    // A lower cap that was announced is respected at once, though it is in force only later.
    const capCode = account.capCutCode === 0n ? account.capCode : account.capCutCode;
    const [owner, plan, ownCap, time] = await Promise.all([
      licenses.ownerOf(licenseId),
      licenses.termsOf(account.planId),
      capCode === 0n ? 0n : escrow.capOf(capCode),
      now(),
    ]);
    const expiresAt = Number(account.expiresAt);
    const renewal = renewalOf(account, plan);
    // Use counts in the term in which its epoch started: for an epoch after a term's end, the ended term's cap may still bind.
    const startsAnew = renewal === "settled" && time >= expiresAt + Number(epochPeriod);
    return {
      licenseId,
      owner,
      planId: Number(account.planId),
      operatorId: Number(account.operatorId),
      generation: Number(account.generation),
      balance: account.balance,
      thawing: account.thawing < account.balance ? account.thawing : account.balance,
      owed: await owedBy(account, plan),
      spent: startsAnew ? 0n : account.spent,
      cap: lowerCap(plan.cap, ownCap),
      expiresAt,
      countsFrom: countsFromOf(account, plan),
      renewal,
      onVoucherRoad: account.onVoucherRoad,
      stop: account.stoppedAt === 0n ? null : account.isEnded ? "ended" : "locked",
      serviceChange: serviceChangeOf(account),
    };
  }

  /** What is missing to the minimum of a term that is over and not closed: nothing if a recall was announced and took effect in it. */
  async function owedBy(account: AccountView, plan: PlanTerms): Promise<bigint> {
    const { endedAt, endedSpent } = account;
    if (endedAt === 0n || endedSpent >= plan.minimumSpend) return 0n;
    const recalls = await assets.recallsBetween(plan.assetId, endedAt - plan.termPeriod + noticePeriod, endedAt);
    return recalls > 0n ? 0n : plan.minimumSpend - endedSpent;
  }

  async function generationAt(licenseId: bigint, at: number): Promise<number> {
    const raised = await escrow.queryFilter(escrow.filters.GenerationRaised(licenseId), config.fromBlock);
    // The moment asked for is recent: from the last raise backwards it is soon found.
    for (const event of raised.reverse()) {
      const { timestamp } = await event.getBlock();
      if (timestamp <= at) return Number(event.args.generation);
    }
    return 0;
  }

  async function plan(planId: number): Promise<PlanState | null> {
    if (!isKnown(planId, await licenses.planCount())) return null;
    const { assetId, rates, attestor } = await licenses.termsOf(planId);
    return { planId, assetId: Number(assetId), rates: usageBy((meter) => rates[meter]), attestor };
  }

  async function version(versionId: bigint): Promise<VersionState | null> {
    const usableUntil = await assets.usableUntil(versionId);
    if (usableUntil === 0n) return null;
    const { manifestHash } = await assets.versionOf(versionId);
    return { versionId, assetId: assetOf(versionId), manifestHash, usableUntil: Number(usableUntil) };
  }

  async function operator(operatorId: number): Promise<OperatorState | null> {
    if (!isKnown(operatorId, await operators.operatorCount())) return null;
    const { owner, endpoint, evidenceHash } = await operators.operatorOf(operatorId);
    return { operatorId, owner, endpoint, evidenceHash };
  }

  async function isSignatureOf(account: string, digest: string, signature: string): Promise<boolean> {
    // The key's own signature counts whatever code the account has: an EIP-7702 delegation can't unsay it.
    if (isRecoveredFrom(account, digest, signature)) return true;
    if ((await provider.getCode(account)) === "0x") return false;
    const wallet = new Contract(account, ERC1271, runner);
    return wallet.isValidSignature(digest, signature).then(
      (answer: string) => answer === ERC1271_MAGIC,
      (error) => {
        if (isAnswer(error)) return false;
        throw error;
      },
    );
  }

  async function committees(attestor: string): Promise<Committees> {
    const contract = CommitteeAttestor__factory.connect(attestor, runner);
    const [number, time] = await Promise.all([contract.presentRotation(), now()]);
    const numbers = [number - 1n, number, number + 1n].filter((one) => one >= 0n);
    const rotations = (await Promise.all(numbers.map((one) => contract.rotationOf(one))))
      .filter(({ since }) => since > 0n)
      .map((rotation) => committeeOf(attestor, rotation));
    const begun = rotations.filter(({ since }) => since <= time);
    const [present, former] = [begun.at(-1), begun.at(-2)];
    if (present === undefined) throw new Error(`The committee ${attestor} begins after ${time}: check the clock`);
    const isFormer = former !== undefined && time <= present.since + Number(windowPeriod);
    return {
      present,
      former: isFormer ? former : null,
      announced: rotations.find(({ since }) => since > time) ?? null,
    };
  }

  async function lane(operatorId: number, planId: number, versionId: bigint): Promise<LaneState> {
    const { sequence, epochStart, epochEnd } = await escrow.laneOf(operatorId, planId, versionId);
    return { sequence, epochStart: Number(epochStart), epochEnd: Number(epochEnd) };
  }

  return {
    domain: domainOf(chainId, config.escrow),
    epochPeriod: Number(epochPeriod),
    windowPeriod: Number(windowPeriod),
    now,
    license,
    generationAt,
    plan,
    version,
    operator,
    isSigningKey: (operatorId, key, at) => operators.isSigningKey(operatorId, key, at),
    isRevokedKey: async (operatorId, key) =>
      statusName("KeyStatus", await operators.statusOf(operatorId, key)) === "Revoked",
    isSignatureOf,
    committees,
    lane,
  };
}

type AccountView = Awaited<ReturnType<UsageEscrow["accountOf"]>>;
type PlanTerms = Awaited<ReturnType<LicenseRegistry["termsOf"]>>;
type Rotation = Awaited<ReturnType<CommitteeAttestor["rotationOf"]>>;

function renewalOf({ renews }: AccountView, { renewable, minimumSpend }: PlanTerms): Renewal {
  if (!renewable) return "none";
  if (minimumSpend === 0n) return "settled";
  return renews ? "called" : "none";
}

/** The first term takes the epoch in which it began; one that goes on where another ended leaves that one its epoch. */
function countsFromOf({ term, expiresAt, endedAt }: AccountView, { termPeriod }: PlanTerms): number {
  const startedAt = expiresAt - termPeriod;
  return term === 0n || endedAt === startedAt ? 0 : Number(startedAt);
}

function serviceChangeOf({
  nextOperatorId,
  nextOnVoucherRoad,
  serviceChangeReadyAt,
}: AccountView): ServiceChange | null {
  if (serviceChangeReadyAt === 0n) return null;
  return {
    operatorId: Number(nextOperatorId),
    onVoucherRoad: nextOnVoucherRoad,
    readyAt: Number(serviceChangeReadyAt),
  };
}

function committeeOf(address: string, { members, threshold, since }: Rotation): Committee {
  return {
    address: getAddress(address),
    members: members
      .filter(({ signer }) => dataLength(signer) === ADDRESS_BYTES)
      .map(({ signer }) => getAddress(signer)),
    threshold: Number(threshold),
    since: Number(since),
  };
}

/** Whether a contract itself refused, or isn't made for the question; a chain that can't be asked is no answer. */
export function isAnswer(error: Error): boolean {
  return isError(error, "CALL_EXCEPTION") || isError(error, "BAD_DATA") || /revert/i.test(error.message);
}

/** Ids count from 1. */
function isKnown(id: number, count: bigint): boolean {
  return id >= 1 && BigInt(id) <= count;
}

/** The lower of two caps, of which 0 is none. */
function lowerCap(a: bigint, b: bigint): bigint {
  if (a === 0n || b === 0n) return a + b;
  return a < b ? a : b;
}

function isRecoveredFrom(account: string, digest: string, signature: string): boolean {
  try {
    return recoverSigner(digest, signature).toLowerCase() === account.toLowerCase();
  } catch {
    return false;
  }
}
