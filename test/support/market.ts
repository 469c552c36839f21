import { loadFixture, setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import {
  AbiCoder,
  getBytes,
  id,
  keccak256,
  MaxUint256,
  parseEther,
  Signature,
  toBeHex,
  Wallet,
  ZeroAddress,
  type BytesLike,
  type Result,
  type Signer,
  type TypedDataDomain,
} from "ethers";
import hre from "hardhat";
import {
  connectLicet,
  DEFAULT_PARAMETERS,
  deployLicet,
  type DeploymentParameters,
  type Licet,
} from "../../deploy/deploy";
import { packEntries, totalOf, unpackOutcomes } from "../../oracle/protocol/entries";
import { zeroUsage } from "../../oracle/protocol/meters";
import { OFFER_TYPES, offerDomainOf } from "../../oracle/protocol/offers";
import type { IAssetRegistry } from "../../typechain-types/contracts/AssetRegistry";
import type { BatchHeader, Entry, Usage } from "../../oracle/protocol/types";

export const HOUR = 3600;
export const DAY = 24 * HOUR;

/** An epoch and the window: as long as use of the running epoch may still settle. */
export const WAIT = DAY + 2 * DAY;
/** What had begun when a license was stopped may end as long after it. */
export const STOP_GRACE = HOUR;
/** From a recall to its effect. */
export const NOTICE = 7 * DAY;

/** Whether the contracts are instrumented: their sizes, their code and their gas say nothing then. */
export const underCoverage = (hre as { __SOLIDITY_COVERAGE_RUNNING?: boolean }).__SOLIDITY_COVERAGE_RUNNING === true;

/** `amount` whole units of the test currency. */
export const usd = (amount: number): bigint => BigInt(Math.round(amount * 1e6));

/** The statuses that contracts derive, as they number them. */
export const VersionStatus = { None: 0, Usable: 1, Recalling: 2, Recalled: 3 } as const;
export const PlanStatus = { None: 0, Open: 1, SoldOut: 2, Closed: 3 } as const;
export const KeyStatus = { None: 0, Active: 1, Expired: 2, Revoked: 3 } as const;
export const LicenseStatus = { None: 0, Running: 1, Locked: 2, Movable: 3, Lapsed: 4, Ended: 5, Closed: 6 } as const;
export const BatchStatus = {
  None: 0,
  Held: 1,
  Releasable: 2,
  Released: 3,
  Collected: 4,
  Frozen: 5,
  Refunded: 6,
} as const;
export const OperatorStatus = { Unstaked: 0, Active: 1, Jailed: 2 } as const;
export const RotationStatus = { None: 0, Announced: 1, Present: 2, Former: 3, Past: 4 } as const;
export const BondStatus = { None: 0, Posted: 1, Thawing: 2, Thawed: 3, Slashed: 4 } as const;

export const AssetKind = { Model: 0, Adapter: 1, Dataset: 2 } as const;
export const Relation = {
  FineTunedFrom: 0,
  AdapterOf: 1,
  DistilledFrom: 2,
  MergedFrom: 3,
  QuantizedFrom: 4,
  TrainedOn: 5,
  EvaluatedOn: 6,
} as const;
export const DerivativePolicy = { Closed: 0, Open: 1, ByApproval: 2 } as const;

/** A struct that a call returned, as a plain object. */
export const structOf = (returned: object) => (returned as unknown as Result).toObject(true);

/** A member's bond for each unit of its weight. */
export const BOND = usd(1_000);

/** Three attestors' keys, of whom two must sign. Each weighs one, and is bonded. */
export const ATTESTORS = ["attestor one", "attestor two", "attestor three"].map((name) => new Wallet(id(name)));

/** Of who stakes at whatever price, whenever. */
export const ANY_SHARES = [0n, MaxUint256] as const;

/** The people of a market, each with test currency where they need it. */
export async function namedActors() {
  const [deployer, proposer, guardian, treasury, slasher, publisher, licensee, operator, outsider, ...payees] =
    await hre.ethers.getSigners();
  return { deployer, proposer, guardian, treasury, slasher, publisher, licensee, operator, outsider, payees };
}

export type Actors = Awaited<ReturnType<typeof namedActors>>;

export interface Market extends Actors {
  licet: Licet;
  /** The timelock, as it acts once the delay of what `proposer` scheduled is over. */
  governor: Signer & { address: string };
  /** Who freezes, refunds and releases charges. */
  court: Signer & { address: string };
  /** The model that everybody deals in, its published version, a plan and an operator who serves it. */
  assetId: number;
  versionId: bigint;
  planId: number;
  operatorId: number;
  /** Currency units of the operator's stake. */
  stake: bigint;
}

/** What an asset is registered as: a model that permits every use and everybody's derivatives, unless `changes` say otherwise. */
export function registration(changes: Partial<IAssetRegistry.RegistrationStruct> = {}) {
  return {
    kind: AssetKind.Model,
    uri: "ipfs://asset",
    permittedUses: 2 ** 32 - 1,
    policy: DerivativePolicy.Open,
    minShareBps: 0,
    royaltyBps: 0,
    parents: [],
    ...changes,
  };
}

/** In the place of an approval that a derivation doesn't need. */
export const NO_APPROVAL: IAssetRegistry.DerivationApprovalStruct = { salt: 0, deadline: 0, signature: "0x" };

/** Registers an asset that came from `parents`, which must permit it. @returns its id */
export async function addAsset(
  { licet: { assets } }: Market,
  by: Signer,
  changes: Partial<IAssetRegistry.RegistrationStruct> = {},
): Promise<number> {
  const { parents, ...rest } = registration(changes);
  await assets.connect(by).register(
    { ...rest, parents },
    parents.map(() => NO_APPROVAL),
  );
  return Number(await assets.assetCount());
}

/** Has UsageEscrow send an asset some income. */
export async function creditAsset({ licet }: Market, assetId: number, amount: bigint): Promise<void> {
  const { currency, escrow, waterfall } = licet;
  const address = await escrow.getAddress();
  await setBalance(address, 10n ** 18n);
  await currency.mint(waterfall, amount);
  await waterfall.connect(await hre.ethers.getImpersonatedSigner(address)).credit(assetId, amount);
}

/** Terms of a plan: what the demo asks for, unless `changes` say otherwise. */
export function planTerms(assetId: number, attestor: string, changes: Partial<PlanTerms> = {}): PlanTerms {
  return {
    assetId,
    attestor,
    arbitrator: "0x0000000000000000000000000000000000000000",
    // 100 USD a million requests, 1, 0.25 and 3 USD a million tokens, 0.05 USD a thousand seconds.
    rates: {
      requests: usd(100),
      inputTokens: usd(1),
      cachedInputTokens: usd(0.25),
      outputTokens: usd(3),
      computeMs: usd(0.05),
    },
    levels: {
      availabilityFloorBps: 9_900,
      availabilityDiscountBps: 1_000,
      severeAvailabilityFloorBps: 9_000,
      severeAvailabilityDiscountBps: 3_000,
      ttftCeilingMs: 800,
      ttftDiscountBps: 1_000,
      severeTtftCeilingMs: 3_000,
      severeTtftDiscountBps: 2_500,
    },
    upfrontPrice: 0n,
    minimumSpend: 0n,
    cap: 0n,
    termPeriod: 30 * DAY,
    renewable: true,
    transferable: false,
    holdPeriod: 3 * DAY,
    publisherBps: 3_000,
    attestorBps: 200,
    minEvidenceTier: 0,
    permittedUses: 1,
    supply: 0,
    licenseTextHash: id("license text"),
    ...changes,
  };
}

export interface PlanTerms {
  assetId: number;
  attestor: string;
  arbitrator: string;
  rates: Usage;
  levels: {
    availabilityFloorBps: number;
    availabilityDiscountBps: number;
    severeAvailabilityFloorBps: number;
    severeAvailabilityDiscountBps: number;
    ttftCeilingMs: number;
    ttftDiscountBps: number;
    severeTtftCeilingMs: number;
    severeTtftDiscountBps: number;
  };
  upfrontPrice: bigint;
  minimumSpend: bigint;
  cap: bigint;
  termPeriod: number;
  renewable: boolean;
  transferable: boolean;
  holdPeriod: number;
  publisherBps: number;
  attestorBps: number;
  minEvidenceTier: number;
  permittedUses: number;
  supply: number;
  licenseTextHash: string;
}

export function deploymentParameters(
  actors: Actors,
  changes: Partial<DeploymentParameters> = {},
): DeploymentParameters {
  return {
    ...DEFAULT_PARAMETERS,
    treasury: actors.treasury.address,
    governor: actors.proposer.address,
    guardian: actors.guardian.address,
    committee: {
      members: ATTESTORS.map(({ address }, i) => ({ signer: address, weight: 1, payee: actors.payees[i].address })),
      threshold: 2,
      bond: BOND,
    },
    ...changes,
  };
}

/**
 * A fresh market: deployed, a model published, a plan offered, an operator registered and staked, no license yet.
 * `changes` say what is different about the deployment.
 */
export async function deployMarket(changes: Partial<DeploymentParameters> = {}): Promise<Market> {
  const actors = await namedActors();
  const { deployer, publisher, licensee, operator } = actors;
  const licet = connectLicet(await deployLicet(hre, deploymentParameters(actors, changes)), deployer);
  const { currency, assets, licenses, operators, staking, escrow, committee, timelock } = licet;
  const governor = await hre.ethers.getImpersonatedSigner(await timelock.getAddress());
  // What a court may do, tests do in the name of one.
  const court = await hre.ethers.getImpersonatedSigner(await licet.reports.getAddress());
  for (const { address } of [governor, court]) await setBalance(address, parseEther("100"));

  await assets.connect(publisher).register(registration({ uri: "ipfs://model" }), []);
  await assets.connect(publisher).publish(1, id("manifest"), id("weights"), ZeroAddress, "ipfs://version-1", "");
  await licenses.connect(publisher).createPlan(planTerms(1, await committee.getAddress()));

  await operators.connect(operator).register("http://127.0.0.1:8080", "ipfs://operator");
  await operators.connect(operator).setServed(1, 1, true);
  const stake = usd(10_000);
  await currency.mint(operator.address, usd(100_000));
  await currency.connect(operator).approve(staking, usd(100_000));
  await staking.connect(operator).addStake(1, stake, ...ANY_SHARES);

  await currency.mint(licensee.address, usd(100_000));
  await currency.connect(licensee).approve(escrow, usd(100_000));

  for (const [i, { address }] of ATTESTORS.entries()) await postBond(licet, address, actors.payees[i]);

  const versionId = (1n << 32n) | 1n;
  return { ...actors, governor, court, slasher: court, licet, assetId: 1, versionId, planId: 1, operatorId: 1, stake };
}

/** Has `holder` post a bond for a signer, with money that is made for it. */
export async function postBond({ currency, committee }: Licet, signer: string, holder: Signer, weight = 1) {
  await currency.mint(holder, BOND * BigInt(weight));
  await currency.connect(holder).approve(committee, BOND * BigInt(weight));
  return committee.connect(holder).postBond(signer, weight);
}

export const freshMarket = (): Promise<Market> => loadFixture(deployMarket);

/** The domain of what the market's attestors sign. */
export async function domainOf({ licet }: Market) {
  const { chainId } = await hre.ethers.provider.getNetwork();
  return { name: "Licet UsageEscrow", version: "1", chainId, verifyingContract: await licet.escrow.getAddress() };
}

/** Another plan for the market's model, which the market's operator serves. */
export async function addPlan(market: Market, changes: Partial<PlanTerms> = {}): Promise<number> {
  const { licenses, operators, committee } = market.licet;
  await licenses.connect(market.publisher).createPlan(planTerms(market.assetId, await committee.getAddress(), changes));
  const planId = Number(await licenses.planCount());
  await operators.connect(market.operator).setServed(market.operatorId, planId, true);
  return planId;
}

/** The signature of an offer by the model's owner, or by another; `changes` say what is different about its domain. */
export async function signOffer(
  { licet, publisher }: Market,
  offer: { terms: { assetId: bigint | number } },
  by: Signer = publisher,
  changes: TypedDataDomain = {},
): Promise<string> {
  const { chainId } = await hre.ethers.provider.getNetwork();
  const domain = offerDomainOf(chainId, await licet.licenses.getAddress());
  const transferCount = await licet.assets.transferCountOf(offer.terms.assetId);
  return by.signTypedData({ ...domain, ...changes }, OFFER_TYPES, { ...offer, transferCount });
}

/** All that backs an operator, in currency units: active, on its way out, and not vested yet. */
export async function stakeOf({ licet }: Pick<Market, "licet">, operatorId: number): Promise<bigint> {
  const { active, thawing, unvested } = await licet.staking.poolOf(operatorId);
  return active + thawing + unvested;
}

/** Another operator who serves the market's plan, owned by `owner`, with `stake`. */
export async function addOperator(market: Market, owner: Signer, stake: bigint): Promise<number> {
  const { operators, currency, staking } = market.licet;
  await operators.connect(owner).register("http://127.0.0.1:8081", "ipfs://another-operator");
  const operatorId = Number(await operators.operatorCount());
  await operators.connect(owner).setServed(operatorId, market.planId, true);
  if (stake > 0n) {
    await currency.mint(owner, stake);
    await currency.connect(owner).approve(staking, stake);
    await staking.connect(owner).addStake(operatorId, stake, ...ANY_SHARES);
  }
  return operatorId;
}

export interface Purchase {
  planId: number;
  operatorId: number;
  /** Whose the license is. */
  to: string;
  capCode: number;
  amount: bigint;
  /** Currency units that it may cost in all. */
  maxPrice: bigint;
  /** Unix seconds, inclusive. */
  deadline: number;
}

/** The most that a purchase's limits can say: none. */
export const NO_LIMITS = { maxPrice: 2n ** 64n - 1n, deadline: 2 ** 40 - 1 };

/** The purchase of a license of the market's plan for the licensee, unfunded and without limits, but for `changes`. */
export const purchaseOf = ({ planId, operatorId, licensee }: Market, changes: Partial<Purchase> = {}): Purchase => ({
  planId,
  operatorId,
  to: licensee.address,
  capCode: 0,
  amount: 0n,
  ...NO_LIMITS,
  ...changes,
});

/** A license's account as it is stored: where, and what. */
export async function accountWord({ licet }: Market, licenseId: bigint): Promise<{ slot: string; word: bigint }> {
  const slot = toBeHex(BigInt.asUintN(256, BigInt(id("licet.accounts")) << 64n) | licenseId, 32);
  return { slot, word: BigInt(await hre.ethers.provider.getStorage(licet.escrow, slot)) };
}

/** Has the licensee buy a license of the market's plan, funded with `amount`. */
export async function buyLicense(market: Market, amount: bigint, changes: Partial<Purchase> = {}): Promise<bigint> {
  const { escrow, licenses } = market.licet;
  await escrow.connect(market.licensee).buy(purchaseOf(market, { amount, ...changes }));
  return licenses.licenseCount();
}

/** What EIP-3009 has a payer sign. */
const AUTHORIZATION_FIELDS = [
  { name: "from", type: "address" },
  { name: "to", type: "address" },
  { name: "value", type: "uint256" },
  { name: "validAfter", type: "uint256" },
  { name: "validBefore", type: "uint256" },
  { name: "nonce", type: "bytes32" },
];

export interface Payment {
  /** Whose money it is; the signer's, if it isn't named. */
  from: string;
  /** Whom it is for. */
  to: string;
  validAfter: number;
  validBefore: number;
  /** As what it is signed. */
  as: "ReceiveWithAuthorization" | "TransferWithAuthorization";
  chainId: bigint;
}

/** A payment of `value` for what `hashOf` says of a salt, signed by `signer`; `changes` say what is different. */
export async function signPayment(
  { licet, licensee }: Market,
  value: bigint,
  hashOf: (salt: string) => Promise<string>,
  {
    signer = licensee as Signer,
    salt = id("salt"),
    ...changes
  }: Partial<Payment & { signer: Signer; salt: string }> = {},
) {
  const { chainId } = await hre.ethers.provider.getNetwork();
  const payment: Payment = {
    from: await signer.getAddress(),
    to: await licet.escrow.getAddress(),
    validAfter: 0,
    validBefore: 2 ** 40,
    as: "ReceiveWithAuthorization",
    chainId,
    ...changes,
  };
  const { from, validAfter, validBefore } = payment;
  const signature = await signer.signTypedData(
    { name: "Test USD", version: "1", chainId: payment.chainId, verifyingContract: await licet.currency.getAddress() },
    { [payment.as]: AUTHORIZATION_FIELDS },
    { from, to: payment.to, value, validAfter, validBefore, nonce: await hashOf(salt) },
  );
  return { from, validAfter, validBefore, salt, signature };
}

/** The caller's permit (EIP-2612) for the escrow, as its arguments are. */
export async function signPermit(
  { licet, licensee }: Market,
  value: bigint,
  deadline: bigint | number,
  signer: Signer = licensee,
) {
  const { chainId } = await hre.ethers.provider.getNetwork();
  const owner = licensee.address;
  const fields = "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline".split(",");
  const signature = await signer.signTypedData(
    { name: "Test USD", version: "1", chainId, verifyingContract: await licet.currency.getAddress() },
    { Permit: fields.map((field) => field.split(" ")).map(([type, name]) => ({ type, name })) },
    {
      owner,
      spender: await licet.escrow.getAddress(),
      value,
      nonce: await licet.currency.nonces(owner),
      deadline,
    },
  );
  const { v, r, s } = Signature.from(signature);
  return { v, r, s };
}

/** A license's usage in a batch: a request of 1,000 tokens in and 500 out, unless `usage` says otherwise. */
export function entryOf(licenseId: bigint, usage: Partial<Usage> = {}): Entry {
  return {
    ...zeroUsage(),
    requests: 1n,
    inputTokens: 1_000n,
    outputTokens: 500n,
    ...usage,
    licenseId,
  };
}

/** Usage of a license that costs so many whole units under the market's rates. */
export const worth = (licenseId: bigint, dollars: number): Entry =>
  entryOf(licenseId, { ...zeroUsage(), inputTokens: usd(dollars) });

export interface Batch {
  header: BatchHeader;
  /** Packed. */
  entries: string;
}

/**
 * The next batch of the market's lane, for an epoch of an hour that has just ended, with good service; `changes` say
 * what is different.
 */
export async function batchOf(market: Market, entries: Entry[], changes: Partial<BatchHeader> = {}): Promise<Batch> {
  const packed = packEntries(entries);
  const { operatorId, planId, versionId } = { ...market, ...changes };
  const lane = await market.licet.escrow.laneOf(operatorId, planId, versionId);
  const now = await time.latest();
  const epochStart = Math.max(now - HOUR, Number(lane.epochEnd));
  return {
    entries: packed,
    header: {
      operatorId,
      planId,
      versionId,
      sequence: lane.sequence + 1n,
      epochStart,
      epochEnd: now,
      root: id("root"),
      count: BigInt(entries.length),
      ...totalOf(entries),
      availabilityBps: 10_000,
      p95TtftMs: 300,
      samples: 60,
      entriesHash: keccak256(packed),
      evidenceHash: id("evidence"),
      ...changes,
    },
  };
}

/** The committee's proof for a digest, by the first `count` attestors. */
export function proofBy(digest: BytesLike, attestors: Wallet[] = ATTESTORS.slice(0, 2)): string {
  const sorted = [...attestors].sort((a, b) => (keccak256(a.address) < keccak256(b.address) ? -1 : 1));
  return AbiCoder.defaultAbiCoder().encode(
    ["bytes[]", "bytes[]"],
    [
      sorted.map(({ address }) => address),
      sorted.map(({ signingKey }) => signingKey.sign(getBytes(digest)).serialized),
    ],
  );
}

/** What packed outcomes say of the charges, but for whose they are. */
export const chargesIn = (outcomes: string) =>
  unpackOutcomes(outcomes).map(({ charged, status }) => ({ charged, status }));

/** Lets an hour of use pass and settles it. */
export async function settle(market: Market, entries: Entry[], changes: Partial<BatchHeader> = {}, sender?: Signer) {
  await time.increase(HOUR);
  const { escrow } = market.licet;
  const batch = await batchOf(market, entries, changes);
  const batchId = await escrow.batchIdOf(batch.header);
  const transaction = await escrow
    .connect(sender ?? market.outsider)
    .settle(batch.header, batch.entries, proofBy(batchId));
  return { ...batch, batchId, transaction };
}
