/** What every function of the money contracts that changes state takes, called once where it is typically called. */
import { reset, setBalance, takeSnapshot, time } from "@nomicfoundation/hardhat-network-helpers";
import { id, type BaseContract, type Signer, type TransactionResponse, ZeroAddress } from "ethers";
import hre from "hardhat";
import { SEALED } from "../../deploy/roles";
import { changingFunctions } from "../../deploy/rolesOnChain";
import { chargeIdOf } from "../../oracle/protocol/entries";
import { packVouchers, signVoucher } from "../../oracle/protocol/vouchers";
import { callerOf, COURT_CALLS, setCourtStage, type CourtStage } from "./courtCalls";
import { START, usageOf, VOUCHER_KEY } from "./gas";
import {
  addAsset,
  addPlan,
  ANY_SHARES,
  ATTESTORS,
  AssetKind,
  batchOf,
  buyLicense,
  creditAsset,
  DAY,
  deployMarket,
  DerivativePolicy,
  domainOf,
  HOUR,
  NO_APPROVAL,
  NO_LIMITS,
  planTerms,
  postBond,
  proofBy,
  purchaseOf,
  registration,
  Relation,
  signOffer,
  signPayment,
  signPermit,
  usd,
  WAIT,
  type Batch,
  type Market,
} from "./market";

/** Gas by contract and function; of functions of one name, by their signatures. */
export type EntryPoints = Record<string, Record<string, number>>;

/** A market some weeks old, in which everybody has done before what they do now. */
interface Stage {
  market: Market;
  /** Another plan of the model's, and one with a minimum, an upfront price and a term that is just over. */
  otherPlan: number;
  minimumPlan: number;
  /** On the attested road, and on the voucher road: both were charged in this term. */
  attested: bigint;
  onVouchers: bigint;
  /** A lower cap, another road and a withdrawal were announced, and are due. */
  waiting: bigint;
  /** Lapsed, with an upfront price that is due. */
  lapsed: bigint;
  /** Of a transferable plan: it may be locked; and one that was, and may move. */
  lockable: bigint;
  movable: bigint;
  /** Batches: one that may be released, and one that was; and one that may settle. */
  held: string;
  released: string;
  next: Batch;
  /** An asset that came from the model, with a payee; both have had income before. */
  child: number;
  payee: number;
  /** UsageEscrow, as it calls the others. */
  asEscrow: Signer;
}

type Call = (stage: Stage) => Promise<TransactionResponse>;

const NOW = START + 40 * DAY;
const FAR = NO_LIMITS.deadline;
const KEY = "0x00000000000000000000000000000000000000A1";
const NEW_KEY = "0x00000000000000000000000000000000000000b2";
const MEMBER = ATTESTORS[0].address;
const BY_TOKEN = "safeTransferFrom(address,address,uint256)";
const WITH_DATA = "safeTransferFrom(address,address,uint256,bytes)";

const escrowOf = ({ market }: Stage) => market.licet.escrow.connect(market.licensee);
const courtOf = ({ market }: Stage) => market.licet.escrow.connect(market.court);
const stakingOf = ({ market }: Stage) => market.licet.staking.connect(market.outsider);
const assetsOf = ({ market }: Stage) => market.licet.assets.connect(market.publisher);
const plansOf = ({ market }: Stage) => market.licet.licenses.connect(market.publisher);
const tokensOf = ({ market }: Stage) => market.licet.licenses.connect(market.licensee);
const operatorsOf = ({ market }: Stage) => market.licet.operators.connect(market.operator);
const waterfallOf = ({ market }: Stage) => market.licet.waterfall.connect(market.publisher);
const committeeOf = ({ market }: Stage) => market.licet.committee.connect(market.payees[0]);

const CALLS: Record<string, Record<string, Call>> = {
  UsageEscrow: {
    buy: (stage) => escrowOf(stage).buy(purchaseOf(stage.market, { amount: usd(50) })),
    buyWithPermit: async (stage) => {
      const { v, r, s } = await signPermit(stage.market, usd(50), FAR);
      return escrowOf(stage).buyWithPermit(purchaseOf(stage.market, { amount: usd(50), maxPrice: usd(50) }), v, r, s);
    },
    buyWithAuthorization: async (stage) => {
      const { escrow } = stage.market.licet;
      const purchase = purchaseOf(stage.market, { amount: usd(50) });
      const payment = await signPayment(stage.market, usd(50), (salt) => escrow.purchaseHash(purchase, salt));
      return escrow.connect(stage.market.outsider).buyWithAuthorization(purchase, payment);
    },
    deposit: (stage) => escrowOf(stage).deposit(stage.attested, usd(50)),
    depositWithPermit: async (stage) => {
      const { v, r, s } = await signPermit(stage.market, usd(50), FAR);
      return escrowOf(stage).depositWithPermit(stage.attested, usd(50), FAR, v, r, s);
    },
    depositWithAuthorization: async (stage) => {
      const { attested, market } = stage;
      const { escrow, licenses } = market.licet;
      const owner = await licenses.ownerOf(attested);
      const payment = await signPayment(market, usd(50), (salt) => escrow.depositHash(attested, owner, usd(50), salt));
      return escrow.connect(market.outsider).depositWithAuthorization(attested, usd(50), payment);
    },
    releaseUpfront: (stage) => escrowOf(stage).releaseUpfront(stage.lapsed),
    setCap: (stage) => escrowOf(stage).setCap(stage.attested, 17),
    applyCapCut: (stage) => escrowOf(stage).applyCapCut(stage.waiting),
    changeService: (stage) => escrowOf(stage).changeService(stage.attested, 1, true),
    applyServiceChange: (stage) => escrowOf(stage).applyServiceChange(stage.waiting),
    changePlan: (stage) => escrowOf(stage).changePlan(stage.attested, stage.otherPlan),
    setRenewal: (stage) => escrowOf(stage).setRenewal(stage.lapsed, false),
    lock: (stage) => escrowOf(stage).lock(stage.lockable),
    unlock: (stage) => escrowOf(stage).unlock(stage.movable),
    end: (stage) => escrowOf(stage).end(stage.attested),
    raiseGeneration: (stage) => escrowOf(stage).raiseGeneration(stage.attested),
    addVoucherKey: (stage) => escrowOf(stage).addVoucherKey(stage.onVouchers, NEW_KEY, usd(50)),
    revokeVoucherKey: (stage) => escrowOf(stage).revokeVoucherKey(stage.onVouchers, VOUCHER_KEY.address),
    thaw: (stage) => escrowOf(stage).thaw(stage.attested, usd(10)),
    withdraw: (stage) => escrowOf(stage).withdraw(stage.waiting, stage.market.licensee),
    renew: (stage) => escrowOf(stage).renew(stage.lapsed),
    closeTerm: async (stage) => {
      await time.increaseTo(NOW + WAIT);
      return escrowOf(stage).closeTerm(stage.lapsed);
    },
    settle: (stage) => settle(stage.market, stage.next),
    settleVouchers: ({ market, onVouchers }) => settleVoucher(market, onVouchers, usd(2)),
    release: (stage) => escrowOf(stage).release(stage.held),
    collectAttestorShare: async ({ market, released }) =>
      market.licet.escrow.connect(await actingFor(market.licet.committee)).collectAttestorShare(released),
    freezeCharge: freezeNext,
    refundCharge: async (stage) => {
      await freezeNext(stage);
      return courtOf(stage).refundCharge(await nextChargeOf(stage));
    },
    releaseCharge: async (stage) => {
      await freezeNext(stage);
      return courtOf(stage).releaseCharge(await nextChargeOf(stage), NOW);
    },
    payPool: (stage) => escrowOf(stage).payPool(1),
    payAsset: (stage) => escrowOf(stage).payAsset(1),
    withdrawEarnings: ({ market }) => market.licet.escrow.connect(market.operator).withdrawEarnings(1, market.operator),
    withdrawFees: (stage) => escrowOf(stage).withdrawFees(),
    setFee: ({ market }) => market.licet.escrow.connect(market.governor).setFee(50),
    raiseDepositCeiling: ({ market }) =>
      market.licet.escrow.connect(market.governor).raiseDepositCeiling(usd(1_000_000)),
    pause: ({ market }) => market.licet.escrow.connect(market.guardian).pause(),
    unpause: async ({ market }) => {
      const escrow = market.licet.escrow.connect(market.guardian);
      await escrow.pause();
      return escrow.unpause();
    },
  },
  PerformanceStaking: {
    addStake: (stage) => stakingOf(stage).addStake(1, usd(50), ...ANY_SHARES),
    thaw: (stage) => stakingOf(stage).thaw(1, usd(5)),
    unthaw: (stage) => stakingOf(stage).unthaw(1),
    withdraw: (stage) => stakingOf(stage).withdraw(1, stage.market.outsider),
    setCommission: ({ market }) => market.licet.staking.connect(market.operator).setCommission(1, 9_000),
    charge: ({ market, asEscrow }) =>
      market.licet.staking
        .connect(asEscrow)
        .charge({ operatorId: 1, planId: 1, amount: usd(1), day: Math.floor(NOW / DAY), breached: false }),
    release: ({ market, asEscrow }) => market.licet.staking.connect(asEscrow).release(1, usd(0.1), usd(0.06)),
    addIncome: ({ market, asEscrow }) => market.licet.staking.connect(asEscrow).addIncome(1, usd(1)),
    slash: ({ market }) => market.licet.staking.connect(market.slasher).slash(1, usd(5), market.slasher),
    freeze: ({ market }) => market.licet.staking.connect(market.slasher).freeze(1, usd(5), NOW + DAY),
    unfreeze: async ({ market }) => {
      const staking = market.licet.staking.connect(market.slasher);
      await staking.freeze(1, usd(5), NOW + DAY);
      return staking.unfreeze(1);
    },
    withdrawProceeds: ({ market }) => market.licet.staking.connect(market.slasher).withdrawProceeds(market.slasher),
  },
  RevenueWaterfall: {
    credit: ({ market, asEscrow }) => market.licet.waterfall.connect(asEscrow).credit(1, usd(1)),
    addPayee: (stage) => waterfallOf(stage).addPayee(stage.child, stage.market.licensee, 1_000),
    giveUp: (stage) => waterfallOf(stage).giveUp(stage.payee),
    distribute: (stage) => waterfallOf(stage).distribute(stage.child),
    withdraw: (stage) => waterfallOf(stage).withdraw(stage.market.publisher),
    approve: (stage) => waterfallOf(stage).approve(KEY, stage.payee),
    setApprovalForAll: (stage) => waterfallOf(stage).setApprovalForAll(KEY, true),
    transferFrom: (stage) => waterfallOf(stage).transferFrom(stage.market.publisher, KEY, stage.payee),
    [BY_TOKEN]: (stage) => waterfallOf(stage)[BY_TOKEN](stage.market.publisher, KEY, stage.payee),
    [WITH_DATA]: (stage) => waterfallOf(stage)[WITH_DATA](stage.market.publisher, KEY, stage.payee, "0x"),
  },
  CommitteeAttestor: {
    rotate: async (stage) => {
      const { committee } = stage.market.licet;
      const members = ATTESTORS.map(({ address }) => ({ signer: address, weight: 1, payee: KEY }));
      const digest = await committee.rotationHash(members, 2, FAR);
      return committee.rotate(members, 2, FAR, proofBy(digest));
    },
    postBond: async ({ market }) => {
      await market.licet.currency.mint(market.payees[0], usd(1_000));
      await market.licet.currency.connect(market.payees[0]).approve(market.licet.committee, usd(1_000));
      return market.licet.committee.connect(market.payees[0]).postBond(NEW_KEY, 1);
    },
    thawBond: (stage) => committeeOf(stage).thawBond(MEMBER),
    withdrawBond: (stage) => committeeOf(stage).withdrawBond(KEY, stage.market.payees[0]),
    reportEquivocation: async ({ market, next: { header } }) => {
      const other = { ...header, root: id("another root") };
      const [first, second] = await Promise.all(
        [header, other].map(
          async (signed) => ATTESTORS[0].signingKey.sign(await market.licet.escrow.batchIdOf(signed)).serialized,
        ),
      );
      const committee = market.licet.committee.connect(market.outsider);
      return committee.reportEquivocation(MEMBER, market.payees[0], header, first, other, second);
    },
    shareIncome: (stage) => committeeOf(stage).shareIncome(stage.released),
    withdraw: (stage) => committeeOf(stage).withdraw(stage.market.payees[0]),
  },
  LicenseRegistry: {
    createPlan: async (stage) => plansOf(stage).createPlan(await termsIn(stage)),
    acceptOffer: async (stage) => {
      const offer = await offerIn(stage);
      return plansOf(stage).acceptOffer(offer, await signOffer(stage.market, offer));
    },
    withdrawOffer: async (stage) => plansOf(stage).withdrawOffer(await offerIn(stage)),
    closePlan: (stage) => plansOf(stage).closePlan(stage.otherPlan),
    mint: ({ market, asEscrow }) => market.licet.licenses.connect(asEscrow).mint(market.licensee, 1),
    changePlan: ({ market, asEscrow, attested, otherPlan }) =>
      market.licet.licenses.connect(asEscrow).changePlan(attested, otherPlan),
    setMovable: ({ market, asEscrow, lockable }) =>
      market.licet.licenses.connect(asEscrow).setMovable(lockable, NOW + WAIT),
    approve: (stage) => tokensOf(stage).approve(KEY, stage.movable),
    setApprovalForAll: (stage) => tokensOf(stage).setApprovalForAll(KEY, true),
    transferFrom: (stage) => tokensOf(stage).transferFrom(stage.market.licensee, KEY, stage.movable),
    [BY_TOKEN]: (stage) => tokensOf(stage)[BY_TOKEN](stage.market.licensee, KEY, stage.movable),
    [WITH_DATA]: (stage) => tokensOf(stage)[WITH_DATA](stage.market.licensee, KEY, stage.movable, "0x"),
  },
  AssetRegistry: {
    register: (stage) =>
      assetsOf(stage).register(
        registration({ parents: [{ parentId: 1, relation: Relation.FineTunedFrom, incomeBps: 500 }] }),
        [NO_APPROVAL],
      ),
    describe: (stage) => assetsOf(stage).describe(1, "ipfs://another-asset"),
    setPolicy: (stage) => assetsOf(stage).setPolicy(1, DerivativePolicy.Open, 500),
    setRoyaltyReceiver: (stage) => assetsOf(stage).setRoyaltyReceiver(1, KEY),
    withdrawDerivation: (stage) =>
      assetsOf(stage).withdrawDerivation({
        parentId: 1,
        registrant: KEY,
        relation: Relation.FineTunedFrom,
        incomeBps: 500,
        salt: 1,
        deadline: FAR,
      }),
    publish: (stage) =>
      assetsOf(stage).publish(1, id("manifest 2"), id("weights 2"), ZeroAddress, "ipfs://version-2", "better"),
    recall: (stage) => assetsOf(stage).recall(stage.market.versionId),
    approve: (stage) => assetsOf(stage).approve(KEY, 1),
    setApprovalForAll: (stage) => assetsOf(stage).setApprovalForAll(KEY, true),
    transferFrom: (stage) => assetsOf(stage).transferFrom(stage.market.publisher, KEY, 1),
    [BY_TOKEN]: (stage) => assetsOf(stage)[BY_TOKEN](stage.market.publisher, KEY, 1),
    [WITH_DATA]: (stage) => assetsOf(stage)[WITH_DATA](stage.market.publisher, KEY, 1, "0x"),
  },
  OperatorRegistry: {
    register: (stage) => operatorsOf(stage).register("https://gateway.example", "ipfs://another-operator"),
    describe: (stage) => operatorsOf(stage).describe(1, "https://gateway.example", "ipfs://operator", id("evidence")),
    addKey: (stage) => operatorsOf(stage).addKey(1, NEW_KEY, FAR),
    revokeKey: (stage) => operatorsOf(stage).revokeKey(1, KEY),
    setServed: (stage) => operatorsOf(stage).setServed(1, stage.minimumPlan, false),
  },
};

/** The contracts, as the table above names them. */
const contractsOf = ({ licet }: Market): Record<string, BaseContract> => ({
  UsageEscrow: licet.escrow,
  PerformanceStaking: licet.staking,
  RevenueWaterfall: licet.waterfall,
  CommitteeAttestor: licet.committee,
  LicenseRegistry: licet.licenses,
  AssetRegistry: licet.assets,
  OperatorRegistry: licet.operators,
});

/** Calls every function of the tables, each in the same state. @throws Error unless they have every one that there is */
export async function measureEntryPoints(): Promise<EntryPoints> {
  const stage = await setStage();
  const measured = await measure(stage, contractsOf(stage.market), CALLS, NOW);
  await reset();
  await time.setNextBlockTimestamp(START);
  const courts = await setCourtStage();
  const { reports, court } = courts.market.licet;
  const now = (await time.latest()) + 60;
  const calls = await courtCallsBy(courts);
  return { ...measured, ...(await measure(courts, { ReportCourt: reports, DisputeCourt: court }, calls, now)) };
}

/** The courts' calls, each by who may call it. */
async function courtCallsBy({
  market,
}: CourtStage): Promise<Record<string, Record<string, (stage: CourtStage) => Promise<TransactionResponse>>>> {
  const byName = async ([name, call]: [string, (typeof COURT_CALLS)[string][string]]) => {
    const by = await callerOf(name, market);
    return [name, (stage: CourtStage) => call(stage, by)] as const;
  };
  const byContract = async ([contract, calls]: [string, (typeof COURT_CALLS)[string]]) =>
    [contract, Object.fromEntries(await Promise.all(Object.entries(calls).map(byName)))] as const;
  return Object.fromEntries(await Promise.all(Object.entries(COURT_CALLS).map(byContract)));
}

async function measure<S>(
  stage: S,
  contracts: Record<string, BaseContract>,
  calls: Record<string, Record<string, (stage: S) => Promise<TransactionResponse>>>,
  now: number,
): Promise<EntryPoints> {
  const snapshot = await takeSnapshot();
  const measured: EntryPoints = {};
  for (const [name, contract] of Object.entries(contracts)) {
    measured[name] = {};
    for (const entryPoint of entryPointsOf(contract)) {
      const call = calls[name][entryPoint];
      if (call === undefined) throw new Error(`test/support has no call of ${name}.${entryPoint}`);
      await time.setNextBlockTimestamp(now);
      const receipt = await (await call(stage)).wait();
      measured[name][entryPoint] = Number(receipt!.gasUsed);
      await snapshot.restore();
    }
    const unknown = Object.keys(calls[name]).filter((entryPoint) => !(entryPoint in measured[name]));
    if (unknown.length > 0) throw new Error(`${name} has no ${unknown.join(", ")}, which can't be measured`);
  }
  return measured;
}

/** Names of the functions that anybody can have a contract run; of functions of one name, their signatures. */
export function entryPointsOf(contract: BaseContract): string[] {
  const functions = changingFunctions(contract.interface).filter(({ name }) => !SEALED.includes(name));
  const isOverloaded = (name: string) => functions.filter((each) => each.name === name).length > 1;
  return functions.map((fragment) => (isOverloaded(fragment.name) ? fragment.format("sighash") : fragment.name)).sort();
}

async function setStage(): Promise<Stage> {
  await reset();
  await time.setNextBlockTimestamp(START);
  const market = await deployMarket();
  const { licet, licensee, operator, publisher, outsider, slasher, payees } = market;
  const { currency, escrow, staking, waterfall, operators, committee } = licet;
  const owner = escrow.connect(licensee);
  const termEnd = 39 * DAY + 12 * HOUR;

  const otherPlan = await addPlan(market);
  const terms = { minimumSpend: usd(10), upfrontPrice: usd(5), termPeriod: termEnd };
  const minimumPlan = await addPlan(market, terms);
  const transferablePlan = await addPlan(market, { transferable: true });
  await operators.connect(operator).addKey(1, KEY, FAR);
  await currency.mint(outsider, usd(1_000));
  await currency.connect(outsider).approve(staking, usd(1_000));
  await staking.connect(outsider).addStake(1, usd(100), ...ANY_SHARES);
  await staking.connect(outsider).thaw(1, usd(10));
  await staking.connect(operator).setCommission(1, 8_000);
  await postBond(licet, KEY, payees[0]);
  await committee.connect(payees[0]).thawBond(KEY);

  const lapsed = await buyLicense(market, usd(50), { planId: minimumPlan });
  const [attested, onVouchers, waiting] = [
    await buyLicense(market, usd(50)),
    await buyLicense(market, usd(50)),
    await buyLicense(market, usd(50), { capCode: 24 }),
  ];
  const [lockable, movable] = [
    await buyLicense(market, usd(50), { planId: transferablePlan }),
    await buyLicense(market, usd(50), { planId: transferablePlan }),
  ];
  await owner.changeService(onVouchers, 1, true);
  await owner.addVoucherKey(onVouchers, VOUCHER_KEY.address, usd(50));
  await owner.setCap(waiting, 17);
  await owner.changeService(waiting, 1, true);
  await owner.thaw(waiting, usd(5));
  await owner.lock(movable);

  const parents = [{ parentId: 1, relation: Relation.FineTunedFrom, incomeBps: 2_000 }];
  const child = await addAsset(market, publisher, { kind: AssetKind.Model, parents });
  await waterfall.connect(publisher).addPayee(child, publisher, 1_000);
  for (const assetId of [child, 1]) {
    await creditAsset(market, assetId, usd(1));
    await waterfall.distribute(assetId);
  }
  await creditAsset(market, child, usd(1));

  // In their second term, which began when the first one's use couldn't be claimed any more.
  await time.increaseTo(START + 34 * DAY);
  await escrow.applyServiceChange(onVouchers);
  await settleVoucher(market, onVouchers, usd(1));
  const batches: string[] = [];
  for (const day of [34, 35, 36]) {
    const batch = await batchAt(market, attested, START + day * DAY);
    await time.increaseTo(batch.header.epochEnd + HOUR);
    await settle(market, batch);
    batches.push(await escrow.batchIdOf(batch.header));
  }
  const [shared, released, held] = batches;
  await time.increaseTo(START + 39 * DAY);
  await escrow.release(shared);
  await escrow.payPool(1);
  await escrow.payAsset(1);
  await committee.shareIncome(shared);
  await escrow.release(released);
  await staking.connect(slasher).slash(1, usd(5), slasher);
  const next = await batchAt(market, attested, NOW - HOUR);
  const asEscrow = await actingFor(escrow);
  await time.increaseTo(NOW - HOUR);
  const payee = Number(await waterfall.payeeCount());
  return {
    market,
    otherPlan,
    minimumPlan,
    attested,
    onVouchers,
    waiting,
    lapsed,
    lockable,
    movable,
    held,
    released,
    next,
    child,
    payee,
    asEscrow,
  };
}

/** The next hour of one license, which ends at `epochEnd`. */
const batchAt = (market: Market, licenseId: bigint, epochEnd: number): Promise<Batch> =>
  batchOf(market, [usageOf(licenseId)], { epochStart: epochEnd - HOUR, epochEnd });

async function settle({ licet, outsider }: Market, { header, entries }: Batch): Promise<TransactionResponse> {
  const proof = proofBy(await licet.escrow.batchIdOf(header));
  return licet.escrow.connect(outsider).settle(header, entries, proof);
}

/** Settles the next batch, and freezes its charge. */
async function freezeNext(stage: Stage): Promise<TransactionResponse> {
  await settle(stage.market, stage.next);
  return courtOf(stage).freezeCharge(stage.next.header, stage.next.entries, "0x", stage.attested);
}

async function nextChargeOf({ market, next, attested }: Stage): Promise<string> {
  return chargeIdOf(await market.licet.escrow.batchIdOf(next.header), attested);
}

/** Settles all that was spent in a license's second term. */
async function settleVoucher(market: Market, licenseId: bigint, spent: bigint): Promise<TransactionResponse> {
  const voucher = { licenseId, operatorId: 1, generation: 0, term: 1, spent };
  const signed = await signVoucher(await domainOf(market), voucher, VOUCHER_KEY);
  return market.licet.escrow.connect(market.outsider).settleVouchers(1, 1, packVouchers([signed]));
}

const termsIn = async ({ market }: Stage) => planTerms(1, await market.licet.committee.getAddress());

const offerIn = async (stage: Stage) => ({
  terms: await termsIn(stage),
  buyer: stage.market.licensee.address,
  salt: 1,
  deadline: FAR,
});

/** A contract as a sender, with something for gas. */
async function actingFor(contract: BaseContract): Promise<Signer> {
  const address = await contract.getAddress();
  await setBalance(address, 10n ** 18n);
  return hre.ethers.getImpersonatedSigner(address);
}
