import { time } from "@nomicfoundation/hardhat-network-helpers";
import { id, Wallet, ZeroAddress, ZeroHash, type Signer, type TransactionResponse, type TypedDataDomain } from "ethers";
import hre from "hardhat";
import { generateKeyPairSync } from "node:crypto";
import { unpackOutcomes } from "../../oracle/protocol/entries";
import type { BatchHeader, Entry } from "../../oracle/protocol/types";
import {
  ecdsaKeyBytes,
  p256KeyBytes,
  packVouchers,
  signVoucher,
  signVoucherByP256,
  type SignedVoucher,
  type Voucher,
} from "../../oracle/protocol/vouchers";
import type { Licet } from "../../deploy/deploy";
import type { UsageEscrow } from "../../typechain-types";
import {
  addAsset,
  addOperator,
  addPlan,
  AssetKind,
  ATTESTORS,
  batchOf,
  BatchStatus,
  buyLicense,
  DAY,
  domainOf,
  HOUR,
  planTerms,
  proofBy,
  purchaseOf,
  Relation,
  signOffer,
  signPayment,
  signPermit,
  usd,
  WAIT,
  worth,
  type Market,
  type Purchase,
} from "./market";
import { Chance } from "./random";
import type { Account } from "./replay/escrow";
import { constantsOf, Replay } from "./replay/replay";

/** A fixed time, far ahead: with the same seed, the same comes about in every run. */
const BIRTH = 2_000_000_000;
/** From one act to the next, in seconds. */
const PAUSES = [60, HOUR, 6 * HOUR, DAY];

/** The data that a child of the market's model was trained on, and the child. */
const DATASET = 2n;
const CHILD = 3n;
const ASSETS = [1n, DATASET, CHILD];
/** The plans that are open from the start are numbered to this. */
const PLANS = 7n;
const OPERATORS = [1n, 2n];
/** A batch that never settled, and a license that nobody ever bought. */
const NO_BATCH = ZeroHash;
const NOBODYS = 1_000_000n;
const PASSKEY = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;

interface VoucherKey {
  bytes: string;
  sign: (domain: TypedDataDomain, voucher: Voucher) => SignedVoucher | Promise<SignedVoucher>;
}

/** Keys that sign vouchers: two of wallets, and one as passkeys have them. */
const VOUCHER_KEYS: VoucherKey[] = [
  ...["voucher key one", "voucher key two"].map((name) => {
    const wallet = new Wallet(id(name));
    return {
      bytes: ecdsaKeyBytes(wallet.address),
      sign: (domain: TypedDataDomain, voucher: Voucher) => signVoucher(domain, voucher, wallet),
    };
  }),
  {
    bytes: p256KeyBytes(PASSKEY),
    sign: (domain, voucher) => signVoucherByP256(domain, voucher, PASSKEY),
  },
];
/** Keys that may sit on the committee for a while, beside the attestors who always do. */
const SPARES = Array.from({ length: 8 }, (_, i) => new Wallet(id(`spare ${i}`)));

type Person = Market["licensee"];
type Sent = Promise<TransactionResponse>;
type Act = (life: Life) => Sent;
type Fits = (account: Account, life: Life) => boolean;

/**
 * A market in which everybody does at random what they may, and some of what they may not. What they know of it, its logs
 * have told.
 */
export class Life {
  /** How often each act was done, and how often it was refused. */
  readonly tally = Object.fromEntries(Object.keys(ACTS).map((name) => [name, { done: 0, refused: 0 }]));
  /** What attestors signed, by the batch's id. */
  readonly proposed = new Map<string, { header: BatchHeader; entries: string; licenseIds: bigint[] }>();
  /** When the next act happens, in Unix seconds. */
  now = 0n;
  private learnt = 0;

  private constructor(
    readonly market: Market,
    readonly chance: Chance,
    readonly replay: Replay,
    readonly people: Map<string, Signer>,
  ) {}

  static async begin(market: Market, seed: number): Promise<Life> {
    await furnish(market);
    await time.increaseTo(BIRTH);
    const people = new Map((await hre.ethers.getSigners()).map((signer) => [signer.address, signer]));
    return new Life(market, new Chance(seed), new Replay(market.licet, await constantsOf(market.licet)), people);
  }

  async live(steps: number): Promise<void> {
    const deck = Object.entries(ACTS).flatMap(([name, [weight, act]]) =>
      Array<[string, Act]>(weight).fill([name, act]),
    );
    let [name, act] = this.chance.pick(deck);
    for (let step = 0; step < steps; step += 1) {
      await this.learn();
      // What one has done, one often does again.
      if (this.chance.happens(0.65)) [name, act] = this.chance.pick(deck);
      this.now = BigInt((await time.latest()) + this.chance.pick(PAUSES));
      await time.setNextBlockTimestamp(this.now);
      this.tally[name][(await isDone(act(this))) ? "done" : "refused"] += 1;
    }
    await this.learn();
  }

  /** What chance hardly ever brings about: a jail, income that finds no stake, an upfront price that a recall gives back. */
  async suffer(): Promise<void> {
    const { market, licet } = this;
    const { guardian, publisher, slasher, licensee, payees, assetId } = market;
    const planId = await addPlan(market, { upfrontPrice: usd(2) });
    const operatorId = await addOperator(market, payees[3], usd(100));
    await licet.operators.connect(payees[3]).setServed(operatorId, planId, true);
    await licet.assets.connect(publisher).publish(assetId, id("unlucky"), ZeroHash, ZeroAddress, "ipfs://unlucky", "");
    await licet.escrow.connect(guardian).unpause();
    const licenseId = await buyLicense(market, usd(20), { planId, operatorId });

    const batchIds: string[] = [];
    for (const availabilityBps of [10_000, 5_000, 5_000, 5_000]) {
      await time.increase(DAY);
      const { batchId, sent } = await settleUnder(this, [worth(licenseId, 1)], planId, operatorId, { availabilityBps });
      await sent;
      batchIds.push(batchId);
    }
    await licet.staking.connect(slasher).slash(operatorId, usd(1_000), licensee);
    await time.increase(3 * DAY);
    await licet.escrow.release(batchIds[0]);
    await licet.escrow.payPool(operatorId);

    const another = await buyLicense(market, usd(1), { planId });
    const version = await licet.assets.versionOfManifest(assetId, id("unlucky"));
    await licet.assets.connect(publisher).recall(version);
    await licet.escrow.releaseUpfront(another);
    await this.learn();
  }

  /** The contracts, for anybody. */
  get licet(): Licet {
    return this.market.licet;
  }

  /** Who has an address; now and then, a stranger. */
  as = (address: string): Signer => (this.chance.happens(0.08) ? this.market.outsider : this.people.get(address)!);

  /** Somebody who fits, most often. */
  somebody = (fits: (address: string) => boolean): Signer =>
    this.people.get(this.chance.pickFitting([...this.people.keys()], fits))!;

  payer = (): Person => this.chance.pick(payersOf(this.market));
  amount = (most: number): bigint => BigInt(this.chance.between(1, most * 1e6));

  /** A license whose account fits, most often. */
  license(fits: Fits): bigint {
    const { escrow, licenses } = this.replay;
    return this.chance.pickFitting(licenses.licenseIds(), (one) => fits(escrow.accountOf(one), this));
  }

  planId(): bigint {
    return this.chance.pick(this.replay.licenses.planIds());
  }

  batch(status: number): string {
    const { escrow } = this.replay;
    const ids = [...escrow.batchIds(), NO_BATCH];
    return this.chance.pickFitting(ids, (one) => escrow.batchStatusOf(one, this.now) === BigInt(status));
  }

  /** Takes in what was logged since the last time. */
  private async learn(): Promise<void> {
    const { provider } = hre.ethers;
    const toBlock = await provider.getBlockNumber();
    for (const log of await provider.getLogs({ fromBlock: this.learnt + 1, toBlock })) {
      this.replay.take(log, BigInt((await provider.getBlock(log.blockNumber))!.timestamp));
    }
    this.learnt = toBlock;
  }
}

/** Whether the chain took it. What it refuses, it refuses by one of its rules. */
async function isDone(sent: Sent): Promise<boolean> {
  try {
    await sent;
    return true;
  } catch (error) {
    if (!/reverted with (an unrecognized )?custom error/.test((error as Error).message)) throw error;
    return false;
  }
}

const payersOf = ({ licensee, payees }: Market): Person[] => [licensee, ...payees.slice(5, 8)];
/** Who pays by permits, each of which ends the allowance before. */
const permittingOf = ({ deployer }: Market): Person => deployer;
const backersOf = ({ operator, payees }: Market): Person[] => [operator, ...payees.slice(7, 10)];

/** What there is before anything happens: assets, plans of many kinds, another operator, and money for everybody. */
async function furnish(market: Market): Promise<void> {
  const { licet, publisher, licensee, payees } = market;
  const { assets, currency, committee, escrow, operators, staking } = licet;
  for (const person of await hre.ethers.getSigners()) {
    await currency.mint(person, usd(1_000_000));
    for (const spender of [escrow, staking, committee]) await currency.connect(person).approve(spender, usd(1_000_000));
  }
  await addAsset(market, publisher, { kind: AssetKind.Dataset });
  await addAsset(market, publisher, {
    parents: [
      { parentId: market.assetId, relation: Relation.FineTunedFrom, incomeBps: 1_000 },
      { parentId: DATASET, relation: Relation.TrainedOn, incomeBps: 550 },
    ],
  });
  await assets.connect(publisher).publish(CHILD, id("child"), ZeroHash, ZeroAddress, "ipfs://child", "");

  const transferable = true;
  const own = { termPeriod: 5 * DAY, cap: usd(40), transferable };
  const minimum = { minimumSpend: usd(5), termPeriod: 10 * DAY, transferable };
  await addPlan(market, own);
  await addPlan(market, minimum);
  await addPlan(market, { upfrontPrice: usd(3), holdPeriod: 30 * DAY, renewable: false, termPeriod: 20 * DAY });
  await addPlan(market, {
    upfrontPrice: usd(2),
    holdPeriod: 30 * DAY,
    minimumSpend: usd(4),
    cap: usd(20),
    termPeriod: 7 * DAY,
  });
  for (const terms of [own, minimum]) await addPlan({ ...market, assetId: Number(CHILD) }, terms);

  // The other operator is backed by little: what it may have in flight is less than what is used.
  const other = await addOperator(market, payees[4], usd(60));
  await staking.connect(payees[4]).setCommission(other, 2_000);
  for (let planId = 1; planId <= PLANS; planId += 1) await operators.connect(payees[4]).setServed(other, planId, true);
  await buyLicense(market, usd(50));
  for (const planId of [2, 3]) {
    const licenseId = await buyLicense(market, usd(50), { planId });
    await escrow.connect(licensee).changeService(licenseId, 1, true);
    for (const { bytes } of VOUCHER_KEYS) await escrow.connect(licensee).addVoucherKey(licenseId, bytes, usd(60));
  }
  await time.increase(WAIT + 1);
  for (const licenseId of [2, 3]) await escrow.applyServiceChange(licenseId);
  // One attestor weighs as much as the two others, from the first rotation on.
  await committee.connect(payees[0]).postBond(ATTESTORS[0].address, 2);
}

// Licenses that fit

const any: Fits = () => true;
const isInUse: Fits = ({ stoppedAt, nextPlanId }) => stoppedAt === 0n || nextPlanId !== 0n;
const isLockable: Fits = (account, life) =>
  isInUse(account, life) && account.thawing === 0n && life.replay.licenses.termsOf(account.planId).transferable;
const isLocked: Fits = ({ stoppedAt, nextPlanId, isEnded }) => stoppedAt !== 0n && nextPlanId === 0n && !isEnded;
const isOpen: Fits = ({ isEnded }) => !isEnded;
const isOnVoucherRoad: Fits = (account, life) => account.onVoucherRoad && isInUse(account, life);
const isRunning: Fits = (account, life) => isInUse(account, life) && account.expiresAt > life.now;
const isPayingByVouchers: Fits = (account, life) => account.onVoucherRoad && isRunning(account, life);
const isAttested: Fits = ({ onVoucherRoad, isEnded }) => !onVoucherRoad && !isEnded;
const isUnderFirstPlan: Fits = (account, life) => isAttested(account, life) && account.planId === 1n;
const isForVouchers: Fits = (account, life) =>
  isRunning(account, life) && (account.onVoucherRoad || account.nextOnVoucherRoad);
const hasMinimum: Fits = ({ planId }, { replay }) => replay.licenses.termsOf(planId).minimumSpend > 0n;
const isRenewable: Fits = (account, life) => {
  const { nextPlanId, stoppedAt, expiresAt } = account;
  if (nextPlanId !== 0n) return stoppedAt <= life.now;
  return isInUse(account, life) && hasMinimum(account, life) && expiresAt <= life.now;
};
const isClosable: Fits = (account, life) => {
  const { endedAt, expiresAt, isEnded, stoppedAt, isClosed } = account;
  const last = isEnded && stoppedAt < expiresAt ? stoppedAt : expiresAt;
  const isDue = (endedAt || last) + BigInt(WAIT) < life.now;
  return (endedAt !== 0n || (hasMinimum(account, life) && !isClosed)) && isDue;
};
const isCapCutDue: Fits = ({ capCutReadyAt }, { now }) => capCutReadyAt !== 0n && capCutReadyAt < now;
const isServiceDue: Fits = ({ serviceChangeReadyAt }, { now }) =>
  serviceChangeReadyAt !== 0n && serviceChangeReadyAt < now;
const isThawed: Fits = ({ thawing, thawReadyAt }, { now }) => thawing > 0n && thawReadyAt < now;

/** What a license's owner does with it. */
const own =
  (fits: Fits, act: (escrow: UsageEscrow, licenseId: bigint, life: Life) => Sent): Act =>
  (life) => {
    const licenseId = life.license(fits);
    return act(life.licet.escrow.connect(life.as(life.replay.licenses.ownerOf(licenseId))), licenseId, life);
  };

/** What people do, and how often they try. */
const ACTS: Record<string, [weight: number, Act]> = {
  // Licensees
  buy: [6, (life) => life.licet.escrow.connect(life.payer()).buy(purchase(life))],
  buyWithPermit: [
    3,
    async (life) => {
      const payer = permittingOf(life.market);
      const wanted = purchase(life, { deadline: Number(life.now) + HOUR });
      const { v, r, s } = await signPermit(life.market, wanted.maxPrice, wanted.deadline, payer);
      return life.licet.escrow.connect(payer).buyWithPermit(wanted, v, r, s);
    },
  ],
  buyWithAuthorization: [
    4,
    async (life) => {
      const { escrow } = life.licet;
      const wanted = purchase(life);
      const { upfrontPrice } = life.replay.licenses.termsOf(BigInt(wanted.planId));
      const payment = await pay(life, upfrontPrice + wanted.amount, (salt) => escrow.purchaseHash(wanted, salt));
      return escrow.buyWithAuthorization(wanted, payment);
    },
  ],
  deposit: [3, (life) => life.licet.escrow.connect(life.payer()).deposit(life.license(isOpen), life.amount(20))],
  depositWithPermit: [
    2,
    async (life) => {
      const [payer, licenseId, amount] = [permittingOf(life.market), life.license(isOpen), life.amount(20)];
      const { v, r, s } = await signPermit(life.market, amount, life.now, payer);
      return life.licet.escrow.connect(payer).depositWithPermit(licenseId, amount, life.now, v, r, s);
    },
  ],
  depositWithAuthorization: [
    2,
    async (life) => {
      const { escrow } = life.licet;
      const [licenseId, amount] = [life.license(isOpen), life.amount(20)];
      const owner = await life.licet.licenses.ownerOf(licenseId);
      const payment = await pay(life, amount, (salt) => escrow.depositHash(licenseId, owner, amount, salt));
      return escrow.depositWithAuthorization(licenseId, amount, payment);
    },
  ],
  setCap: [3, own(any, (escrow, licenseId, { chance }) => escrow.setCap(licenseId, chance.between(0, 24)))],
  applyCapCut: [3, own(isCapCutDue, (escrow, licenseId) => escrow.applyCapCut(licenseId))],
  changeService: [
    12,
    own(isRunning, (escrow, licenseId, { chance }) =>
      escrow.changeService(licenseId, chance.pick(OPERATORS), chance.happens(0.7)),
    ),
  ],
  applyServiceChange: [10, own(isServiceDue, (escrow, licenseId) => escrow.applyServiceChange(licenseId))],
  changePlan: [
    10,
    own(isInUse, (escrow, licenseId, { chance, replay }) => {
      // Of the same asset, but for one that it can't go over to.
      const isOfAsset = replay.licenses.termsOf(replay.escrow.accountOf(licenseId).planId).assetId === 1n;
      return escrow.changePlan(licenseId, chance.pick(isOfAsset ? [1, 2, 3, 4] : [6, 7, 7, 2]));
    }),
  ],
  addVoucherKey: [
    10,
    own(isForVouchers, (escrow, licenseId, { chance }) =>
      escrow.addVoucherKey(licenseId, chance.pick(VOUCHER_KEYS).bytes, usd(chance.between(1, 60))),
    ),
  ],
  revokeVoucherKey: [
    3,
    own(isForVouchers, (escrow, licenseId, { chance }) =>
      escrow.revokeVoucherKey(licenseId, chance.pick(VOUCHER_KEYS).bytes),
    ),
  ],
  setRenewal: [
    2,
    own(hasMinimum, (escrow, licenseId, { chance }) => escrow.setRenewal(licenseId, chance.happens(0.6))),
  ],
  lock: [3, own(isLockable, (escrow, licenseId) => escrow.lock(licenseId))],
  transfer: [
    5,
    (life) => {
      const { licenses } = life.replay;
      const isMovable = (one: bigint) => licenses.movableAt(one) !== 0n && licenses.movableAt(one) < life.now;
      const licenseId = life.chance.pickFitting(licenses.licenseIds(), isMovable);
      const owner = licenses.ownerOf(licenseId);
      return life.licet.licenses.connect(life.as(owner)).transferFrom(owner, life.payer(), licenseId);
    },
  ],
  unlock: [2, own(isLocked, (escrow, licenseId) => escrow.unlock(licenseId))],
  end: [2, own(any, (escrow, licenseId) => escrow.end(licenseId))],
  raiseGeneration: [3, own(any, (escrow, licenseId) => escrow.raiseGeneration(licenseId))],
  thaw: [
    3,
    own(any, (escrow, licenseId, { chance, replay }) =>
      escrow.thaw(licenseId, partOf(replay.escrow.accountOf(licenseId).balance, chance.between(0, 105))),
    ),
  ],
  withdraw: [4, own(isThawed, (escrow, licenseId, life) => escrow.withdraw(licenseId, life.payer()))],
  renew: [4, own(isRenewable, (escrow, licenseId) => escrow.renew(licenseId))],
  closeTerm: [4, (life) => life.licet.escrow.closeTerm(life.license(isClosable))],
  releaseUpfront: [
    4,
    ({ chance, licet, replay: { escrow, licenses } }) =>
      licet.escrow.releaseUpfront(
        chance.pickFitting(licenses.licenseIds(), (one) => escrow.upfrontOf(one).amount > 0n),
      ),
  ],

  // Settlement
  settle: [14, (life) => settleFor(life, isAttested, life.chance.pick([{}, {}, { samples: 5 }, { p95TtftMs: 900 }]))],
  // Under one plan, so that it comes to a jail.
  settleBadly: [16, (life) => settleFor(life, isUnderFirstPlan, { availabilityBps: 5_000 })],
  settleVouchers: [
    30,
    async (life) => {
      const { planId, operatorId } = life.replay.escrow.accountOf(life.license(isPayingByVouchers));
      const vouchers = await vouchersLike(life, planId, operatorId);
      const caller = life.as(await life.licet.operators.ownerOf(operatorId));
      return life.licet.escrow.connect(caller).settleVouchers(operatorId, planId, packVouchers(vouchers));
    },
  ],
  release: [10, (life) => life.licet.escrow.release(life.batch(BatchStatus.Releasable))],
  shareIncome: [8, (life) => life.licet.committee.shareIncome(life.batch(BatchStatus.Released))],
  freezeCharge: [10, freezeSomething],
  refundCharge: [
    4,
    (life) => life.licet.escrow.connect(life.market.court).refundCharge(life.batch(BatchStatus.Frozen)),
  ],
  releaseCharge: [
    4,
    (life) =>
      life.licet.escrow
        .connect(life.market.court)
        .releaseCharge(life.batch(BatchStatus.Frozen), life.now + life.chance.pick([0n, BigInt(9 * DAY)])),
  ],
  payPool: [
    5,
    ({ chance, licet, replay: { escrow } }) =>
      licet.escrow.payPool(chance.pickFitting(OPERATORS, (one) => escrow.operatorIncomeOf(one).forPool > 0n)),
  ],
  payAsset: [
    5,
    ({ chance, licet, replay: { escrow } }) =>
      licet.escrow.payAsset(chance.pickFitting(ASSETS, (one) => escrow.assetIncomeOf(one) > 0n)),
  ],
  withdrawEarnings: [
    3,
    async (life) => {
      const { escrow } = life.replay;
      const operatorId = life.chance.pickFitting(OPERATORS, (one) => escrow.operatorIncomeOf(one).earnings > 0n);
      const owner = life.as(await life.licet.operators.ownerOf(operatorId));
      return life.licet.escrow.connect(owner).withdrawEarnings(operatorId, owner);
    },
  ],
  withdrawFees: [2, ({ licet }) => licet.escrow.withdrawFees()],

  // Operators and who backs them
  addStake: [
    4,
    ({ chance, licet, market, now, amount }) => {
      const minShares = chance.pick([0n, 0n, usd(1_000)]);
      const staking = licet.staking.connect(chance.pick(backersOf(market)));
      return staking.addStake(chance.pick([1n, 1n, 2n]), amount(200), minShares, now);
    },
  ],
  thawStake: [
    5,
    (life) => {
      const { staking, operatorId, shares } = backing(life, (one) => one.shares > 0n);
      return staking.thaw(operatorId, partOf(shares, life.chance.pick([0, 10, 30, 60, 100])));
    },
  ],
  unthaw: [
    3,
    (life) => {
      const { staking, operatorId } = backing(life, ({ thaws }) => thaws.length > 0);
      return staking.unthaw(operatorId);
    },
  ],
  withdrawStake: [
    6,
    (life) => {
      const { staking, operatorId, backer } = backing(life, ({ thaws }) =>
        thaws.some(({ readyAt }) => readyAt < life.now),
      );
      return staking.withdraw(operatorId, backer);
    },
  ],
  setCommission: [
    3,
    async ({ chance, licet, as }) => {
      const operatorId = chance.pick(OPERATORS);
      const owner = as(await licet.operators.ownerOf(operatorId));
      return licet.staking.connect(owner).setCommission(operatorId, chance.between(0, 103) * 100);
    },
  ],
  slash: [
    3,
    ({ chance, licet, market, payer, amount }) => {
      const staking = licet.staking.connect(market.slasher);
      // The second operator may lose everything.
      return chance.happens(0.3) ? staking.slash(2, usd(1_000), payer()) : staking.slash(1, amount(20), payer());
    },
  ],
  freeze: [
    2,
    ({ chance, licet, market, now, amount }) => {
      const until = now + BigInt(chance.between(0, 95) * DAY);
      return licet.staking.connect(market.slasher).freeze(chance.pick(OPERATORS), amount(20), until);
    },
  ],
  unfreeze: [2, ({ chance, licet, market }) => licet.staking.connect(market.slasher).unfreeze(chance.pick(OPERATORS))],
  withdrawProceeds: [
    3,
    async (life) => {
      const who = life.somebody((address) => life.replay.staking.proceedsOf(address) > 0n);
      return life.licet.staking.connect(who).withdrawProceeds(who);
    },
  ],

  // Publishers and whom they pay
  publish: [
    4,
    ({ chance, licet, market, now }) =>
      licet.assets
        .connect(market.publisher)
        .publish(chance.pick([1n, CHILD]), id(`v ${now}`), ZeroHash, ZeroAddress, "ipfs://v", ""),
  ],
  recall: [
    5,
    async ({ licet, market }) => {
      // The latest version stays, so that there is one to use.
      const number = (await licet.assets.versionCountOf(1)) - 1n;
      return licet.assets.connect(market.publisher).recall((1n << 32n) | number);
    },
  ],
  acceptOffer: [
    2,
    async (life) => {
      const { licet, market, chance, now } = life;
      const buyer = chance.pick(payersOf(market));
      const terms = planTerms(1, String(licet.committee.target), {
        termPeriod: 4 * DAY,
        transferable: true,
        supply: 2,
      });
      const offer = { terms, buyer: buyer.address, salt: now, deadline: now };
      return licet.licenses.acceptOffer(offer, await signOffer(market, offer));
    },
  ],
  closePlan: [
    3,
    // Of those that were offered to one buyer.
    ({ chance, licet, market, replay }) =>
      licet.licenses
        .connect(market.publisher)
        .closePlan(chance.pick([PLANS + 1n, ...replay.licenses.planIds().slice(Number(PLANS))])),
  ],
  serve: [
    2,
    async (life) => {
      const operatorId = life.chance.pick(OPERATORS);
      const owner = life.as(await life.licet.operators.ownerOf(operatorId));
      return life.licet.operators.connect(owner).setServed(operatorId, life.planId(), life.chance.happens(0.9));
    },
  ],
  addPayee: [
    4,
    ({ chance, licet, market, payer, as }) =>
      licet.waterfall
        .connect(as(market.publisher.address))
        .addPayee(chance.pick(ASSETS), payer(), 100 * chance.between(0, 25)),
  ],
  giveUp: [
    2,
    (life) => {
      const [payeeId, holder] = payeePosition(life);
      return life.licet.waterfall.connect(life.as(holder)).giveUp(payeeId);
    },
  ],
  sellPosition: [
    2,
    (life) => {
      const [payeeId, holder] = payeePosition(life);
      return life.licet.waterfall.connect(life.as(holder)).transferFrom(holder, life.payer(), payeeId);
    },
  ],
  sellDataset: [
    2,
    async (life) => {
      const owner = await life.licet.assets.ownerOf(DATASET);
      return life.licet.assets.connect(life.as(owner)).transferFrom(owner, life.payer(), DATASET);
    },
  ],
  distribute: [
    6,
    ({ chance, licet, replay: { waterfall } }) =>
      licet.waterfall.distribute(chance.pickFitting(ASSETS, (one) => waterfall.potOf(one) > 0n)),
  ],
  withdrawIncome: [
    4,
    async (life) => {
      const who = life.somebody((address) => life.replay.waterfall.claimableOf(address) > 0n);
      return life.licet.waterfall.connect(who).withdraw(who);
    },
  ],

  // Attestors
  postBond: [
    3,
    (life) => {
      const { signer, holder } = bond(life, ({ weight }) => weight === 0n);
      return life.licet.committee.connect(holder).postBond(signer, life.chance.between(1, 2));
    },
  ],
  thawBond: [
    2,
    (life) => {
      const { signer, holder } = bond(life, ({ weight, readyAt }) => weight > 0n && readyAt === 0n);
      return life.licet.committee.connect(holder).thawBond(signer);
    },
  ],
  withdrawBond: [
    12,
    (life) => {
      const { signer, holder } = bond(life, ({ readyAt }) => readyAt !== 0n && readyAt < life.now);
      return life.licet.committee.connect(holder).withdrawBond(signer, holder);
    },
  ],
  reportEquivocation: [
    2,
    async (life) => {
      const { licet, market } = life;
      const { signer, holder } = bond(life, ({ weight }) => weight > 0n);
      const { header } = await batchOf(market, [worth(1n, 1)]);
      const another = { ...header, root: id("another") };
      const [one, two] = [await licet.escrow.batchIdOf(header), await licet.escrow.batchIdOf(another)];
      const { signingKey } = SPARES.find(({ address }) => address === signer)!;
      const [signature, contradiction] = [one, two].map((batchId) => signingKey.sign(batchId).serialized);
      const committee = licet.committee.connect(life.payer());
      return committee.reportEquivocation(signer, holder, header, signature, another, contradiction);
    },
  ],
  rotate: [
    2,
    async ({ chance, licet, market, now }) => {
      const { committee } = licet;
      const members = ATTESTORS.map(({ address }, i) => ({
        signer: address,
        weight: i === 0 ? 2 : 1,
        payee: market.payees[i].address,
      }));
      const spares = SPARES.filter(() => chance.happens(0.2)).map(({ address }) => ({
        signer: address,
        weight: 1,
        payee: market.payees[10].address,
      }));
      const all = [...members, ...spares];
      // The attestors are enough.
      const proof = proofBy(await committee.rotationHash(all, 4, now), ATTESTORS);
      return committee.rotate(all, 4, now, proof);
    },
  ],
  withdrawAttestorIncome: [
    3,
    (life) => {
      const who = life.somebody((address) => life.replay.committee.incomeOf(address) > 0n);
      return life.licet.committee.connect(who).withdraw(who);
    },
  ],

  // Governance
  setFee: [2, ({ chance, licet, market }) => licet.escrow.connect(market.governor).setFee(chance.between(0, 550))],
  raiseDepositCeiling: [
    2,
    async ({ chance, licet, market }) => {
      const raised = (await licet.escrow.depositCeiling()) + usd(chance.between(-5, 5));
      return licet.escrow.connect(market.governor).raiseDepositCeiling(raised);
    },
  ],
  pause: [2, ({ licet, market, as }) => licet.escrow.connect(as(market.guardian.address)).pause()],
  unpause: [2, ({ licet, market, as }) => licet.escrow.connect(as(market.guardian.address)).unpause()],
};

// What acts need

function purchase(life: Life, changes: Partial<Purchase> = {}): Purchase {
  const { chance, replay, market, now } = life;
  const planId = life.planId();
  const { upfrontPrice } = replay.licenses.termsOf(planId);
  const amount = chance.happens(0.1) ? 0n : life.amount(50);
  const wanted = purchaseOf(market, {
    planId: Number(planId),
    operatorId: Number(chance.pick(OPERATORS)),
    to: life.payer().address,
    capCode: chance.pick([0, 0, 1, 9, 17]),
    amount,
    maxPrice: upfrontPrice + amount,
    deadline: Number(now),
    ...changes,
  });
  // Now and then it comes too late, or is dearer than its limit.
  if (chance.happens(0.05)) wanted.deadline -= 1;
  if (chance.happens(0.05) && wanted.maxPrice > 0n) wanted.maxPrice -= 1n;
  return wanted;
}

const pay = (life: Life, amount: bigint, hashOf: (salt: string) => Promise<string>) =>
  signPayment(life.market, amount, hashOf, { signer: life.payer(), salt: id(`salt ${life.now}`) });

/** Sends a batch of an operator's under a plan, for the latest version of its model. */
async function settleUnder(
  { licet, market, proposed }: Life,
  used: Entry[],
  planId: number,
  operatorId: number,
  service: Partial<BatchHeader>,
  signers = ATTESTORS,
) {
  const { assetId } = await licet.licenses.termsOf(planId);
  const versionId = (assetId << 32n) | (await licet.assets.versionCountOf(assetId));
  const { header, entries } = await batchOf(market, used, { planId, operatorId, versionId, ...service });
  const batchId = await licet.escrow.batchIdOf(header);
  proposed.set(batchId, { header, entries, licenseIds: used.map(({ licenseId }) => licenseId) });
  return { batchId, sent: licet.escrow.settle(header, entries, proofBy(batchId, signers)) };
}

/** Settles use under the plan of a license that fits, by its operator. */
async function settleFor(life: Life, fits: Fits, service: Partial<BatchHeader>): Sent {
  const { planId, operatorId } = life.replay.escrow.accountOf(life.license(fits));
  const signers = ATTESTORS.slice(0, life.chance.pick([3, 3, 3, 2, 1]));
  const used = entriesLike(life, planId, operatorId);
  return (await settleUnder(life, used, Number(planId), Number(operatorId), service, signers)).sent;
}

/** The court freezes what a batch that is held, most often, has charged to one of its licenses, most often to one that paid. */
async function freezeSomething(life: Life): Sent {
  const { chance, licet, market, replay, proposed, now } = life;
  if (proposed.size === 0) return settleFor(life, isAttested, {});
  const isHeld = (one: string) => replay.escrow.batchStatusOf(one, now) === BigInt(BatchStatus.Held);
  const [batchId, { header, entries, licenseIds }] = chance.pickFitting([...proposed], ([one]) => isHeld(one));
  const outcomes = replay.escrow.outcomesOf(batchId);
  const paying = unpackOutcomes(outcomes).flatMap(({ licenseId, charged }) => (charged > 0n ? [licenseId] : []));
  const licenseId = chance.pickFitting(licenseIds, (one) => paying.includes(one));
  return licet.escrow.connect(market.court).freezeCharge(header, entries, outcomes, licenseId);
}

/** An operator's licenses under a plan that fit, most of them, and some that aren't; in the order of their ids. */
function licensesLike(life: Life, planId: bigint, operatorId: bigint, fits: Fits): bigint[] {
  const { chance, replay } = life;
  const isLike = (one: bigint) => {
    const account = replay.escrow.accountOf(one);
    return account.planId === planId && account.operatorId === operatorId && fits(account, life);
  };
  const chosen = replay.licenses.licenseIds().filter((one) => chance.happens(isLike(one) ? 0.9 : 0.05));
  return chosen.length === 0 || chance.happens(0.2) ? [...chosen, NOBODYS] : chosen;
}

/** Use of an operator's licenses under a plan, and of some that a batch of theirs can't charge. */
function entriesLike(life: Life, planId: bigint, operatorId: bigint): Entry[] {
  return licensesLike(life, planId, operatorId, any).map((licenseId) =>
    worth(licenseId, life.chance.pick([0, 0.000_003, 0.1, 0.234_567, 1, 3, 15, 40])),
  );
}

/** Vouchers of an operator's licenses under a plan, and some that can't be charged. */
async function vouchersLike(life: Life, planId: bigint, operatorId: bigint): Promise<SignedVoucher[]> {
  const { chance, replay, now } = life;
  const domain = await domainOf(life.market);
  const { termPeriod } = replay.licenses.termsOf(planId);
  const signed = licensesLike(life, planId, operatorId, isOnVoucherRoad).map((licenseId) => {
    const { generation, term, expiresAt, spent, balance } = replay.escrow.accountOf(licenseId);
    const running = now < expiresAt ? term : term + (now - expiresAt) / termPeriod + 1n;
    const voucher: Voucher = {
      licenseId,
      operatorId: Number(operatorId),
      generation: Math.max(0, Number(generation) - (chance.happens(0.8) ? 0 : 1)),
      term: Math.max(0, Number(chance.pick([term, running, running, running, term - 1n]))),
      spent: spent + chance.pick([0n, 1n, 700_000n, 3_000_000n, 50_000_000n, balance + 1n]),
    };
    const isRegistered = ({ bytes }: VoucherKey) => replay.escrow.voucherKeyOf(licenseId, generation, bytes).cap > 0n;
    const key = chance.happens(0.15) ? chance.pick(VOUCHER_KEYS) : chance.pickFitting(VOUCHER_KEYS, isRegistered);
    return key.sign(domain, voucher);
  });
  return Promise.all(signed);
}

const partOf = (amount: bigint, percent: number): bigint => (amount * BigInt(percent)) / 100n;

interface Position {
  operatorId: bigint;
  backer: Person;
  shares: bigint;
  thaws: { readyAt: bigint }[];
}

/** What somebody has in a pool that fits, most often, and the staking as they call it. */
function backing({ chance, licet, market, replay, now }: Life, fits: (position: Position) => boolean) {
  const positions = OPERATORS.flatMap((operatorId) =>
    [...backersOf(market), market.payees[4]].map((backer) => {
      const { address } = backer;
      const { shares } = replay.staking.positionOf(operatorId, address, now);
      return { operatorId, backer, shares, thaws: replay.staking.thawsOf(operatorId, address) };
    }),
  );
  const position = chance.pickFitting(positions, fits);
  return { ...position, staking: licet.staking.connect(position.backer) };
}

/** A payee's position and its holder. Before there is one, nobody's. */
function payeePosition({ chance, market, replay }: Life): [payeeId: bigint, holder: string] {
  const positions = replay.waterfall.positions();
  return positions.length > 0 ? chance.pick(positions) : [1n, market.publisher.address];
}

type Bond = ReturnType<Replay["committee"]["bondOf"]>;

/** A spare key's bond that fits, most often, and its holder. */
function bond({ chance, market, replay }: Life, fits: (bond: Bond) => boolean) {
  const holder = market.payees[10];
  const bondOf = (signer: string) => replay.committee.bondOf(signer.toLowerCase(), holder.address);
  const { address } = chance.pickFitting(SPARES, (spare) => fits(bondOf(spare.address)));
  return { signer: address, holder };
}
