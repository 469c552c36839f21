import { loadFixture, takeSnapshot, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet, ZeroAddress, ZeroHash } from "ethers";
import hre from "hardhat";
import { packVouchers, signVoucher } from "../../oracle/protocol/vouchers";
import { BlocklistingCurrency__factory } from "../../typechain-types";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import { Leaver, pauseIfPossible } from "../support/leaver";
import { Life } from "../support/life";
import {
  addAsset,
  addOperator,
  addPlan,
  ANY_SHARES,
  ATTESTORS,
  BatchStatus,
  BOND,
  BondStatus,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  domainOf,
  HOUR,
  LicenseStatus,
  postBond,
  proofBy,
  Relation,
  settle,
  usd,
  WAIT,
  worth,
  type Market,
  type PlanTerms,
} from "../support/market";
import { SHARES, STAKE_THAW } from "../support/staking";

type Person = Market["licensee"];
type Reach<Subject> = (market: Market) => Promise<Subject>;
type Step = (market: Market, licenseId: bigint) => Promise<unknown>;

/** Something that is somebody's, and the states in which its owner may be left alone with it. */
interface Belonging<Subject> {
  owner: (market: Market, subject: Subject) => Person | Promise<Person>;
  leave: (leaver: Leaver, subject: Subject) => Promise<unknown>;
  /** What has become of it, and what must have at the end. */
  end?: [view: (market: Market, subject: Subject) => Promise<unknown>, last: unknown];
  /** By its name: what brings a state about, what the owner then calls, and what it takes home. */
  states: Record<string, [reach: Reach<Subject>, calls: string, gets: bigint]>;
}

/** Where nobody was before. */
const REFUGE = new Wallet(id("refuge")).address;

const minimum = { minimumSpend: usd(10) };
const upfront = { upfrontPrice: usd(7), holdPeriod: 30 * DAY };
const once = { renewable: false };

// Everybody else is gone, governance as well: no transaction of theirs comes any more. The currency blocks all of them, and
// the owner, too, who has the money sent to a refuge.
describe("the way out", () => {
  leaving<bigint>("a license", {
    owner: async ({ licet }, licenseId) => hre.ethers.getSigner(await licet.licenses.ownerOf(licenseId)),
    leave: (leaver, licenseId) => leaver.license(licenseId),
    end: [({ licet }, licenseId) => licet.escrow.statusOf(licenseId), BigInt(LicenseStatus.Closed)],
    states: {
      Running: [license({}), "end thaw withdraw", usd(100)],
      "Running, in a later term": [license({}, toExpiry, use(1)), "end thaw withdraw", usd(99)],
      "Running, with a batch held": [license({}, use(30)), "end thaw withdraw", usd(70)],
      "Running, with use that nobody attests to": [license({}, pass(HOUR)), "end thaw withdraw", usd(100)],
      "Running, with a minimum": [license(minimum, use(4)), "end closeTerm thaw withdraw", usd(90)],
      "Running, with a minimum that is used up": [license(minimum, use(15)), "end closeTerm thaw withdraw", usd(85)],
      "Running, for the last time": [license(minimum, renewalOff), "end closeTerm thaw withdraw", usd(90)],
      "Running again, the term before not closed": [
        license(minimum, toExpiry, renew),
        "end closeTerm closeTerm thaw withdraw",
        usd(80),
      ],
      Lapsed: [license(minimum, toExpiry), "end closeTerm thaw withdraw", usd(90)],
      "Lapsed, its term closed": [license(minimum, toExpiry, wait, close), "end thaw withdraw", usd(90)],
      "Lapsed, its term not closed, nor the one before": [
        license(minimum, toExpiry, renew, toExpiry),
        "end closeTerm closeTerm thaw withdraw",
        usd(80),
      ],
      Locked: [license({}, lock), "unlock end thaw withdraw", usd(100)],
      "Locked, with a minimum": [license(minimum, lock), "unlock end closeTerm thaw withdraw", usd(90)],
      "Locked, its last term over": [
        license(minimum, renewalOff, nearExpiry, lock, toExpiry),
        "unlock closeTerm thaw withdraw",
        usd(90),
      ],
      "Locked, its last term closed": [
        license(minimum, renewalOff, nearExpiry, lock, toExpiry, wait, close),
        "unlock thaw withdraw",
        usd(90),
      ],
      Movable: [license({}, lock, wait), "unlock end thaw withdraw", usd(100)],
      "Movable, with a minimum": [license(minimum, lock, wait), "unlock end closeTerm thaw withdraw", usd(90)],
      "bought from another, and still Locked": [license({}, lock, wait, sell), "unlock end thaw withdraw", usd(100)],
      Ended: [license({}, end), "thaw withdraw", usd(100)],
      "Ended, with a minimum": [license(minimum, end), "closeTerm thaw withdraw", usd(90)],
      "Ended long ago, with a minimum": [license(minimum, end, wait), "closeTerm thaw withdraw", usd(90)],
      "Ended by its last term's end": [license(once, toExpiry), "thaw withdraw", usd(100)],
      Closed: [license({}, end, wait), "thaw withdraw", usd(100)],
      "Closed years ago": [license(minimum, end, wait, close, pass(1_000 * DAY)), "thaw withdraw", usd(90)],

      "with a thaw open": [license({}, thaw(40)), "end thaw withdraw", usd(100)],
      "with a thaw of everything open": [license({}, thaw(100)), "end withdraw", usd(100)],
      "with a thaw that is long over": [license({}, thaw(100), pass(100 * DAY)), "end withdraw", usd(100)],
      "with no more than its minimum left": [license(minimum, thaw(100), wait, withdraw), "end closeTerm", 0n],
      "with no more than its minimum left, which a recall has freed": [
        license(minimum, thaw(100), wait, withdraw, recall, pass(7 * DAY)),
        "end closeTerm withdraw",
        usd(10),
      ],
      "with a lower cap announced": [license({}, cap(20), cap(1)), "end thaw withdraw", usd(100)],
      "with another operator and road announced": [license({}, changeService), "end thaw withdraw", usd(100)],
      "with another operator and road due": [license({}, changeService, wait), "end thaw withdraw", usd(100)],

      "with another plan announced": [license({}, changePlan({})), "end thaw withdraw", usd(100)],
      "with another plan announced, which can't be had any more": [
        license(minimum, changePlan({}, closeLatestPlan), toExpiry),
        "end closeTerm thaw withdraw",
        usd(90),
      ],
      "with another plan due, for which nobody renewed it": [
        license(minimum, changePlan({}), toExpiry, wait),
        "end closeTerm thaw withdraw",
        usd(90),
      ],
      "under another plan than before, which had a minimum": [
        license(minimum, changePlan({}), toExpiry, renew),
        "end closeTerm thaw withdraw",
        usd(90),
      ],
      "under another plan than before, which had none": [
        license({}, changePlan({ minimumSpend: usd(20) }), toExpiry, renew),
        "end closeTerm closeTerm thaw withdraw",
        usd(80),
      ],
      "under another plan than before, both with a minimum": [
        license(minimum, changePlan({ minimumSpend: usd(20) }), toExpiry, renew),
        "end closeTerm closeTerm thaw withdraw",
        usd(70),
      ],

      "on the voucher road": [license({}, toVoucherRoad), "end thaw withdraw", usd(100)],
      "on the voucher road, with a minimum": [
        license(minimum, toVoucherRoad, addKey, voucher(4)),
        "end closeTerm thaw withdraw",
        usd(90),
      ],
      "on the voucher road, its key live": [
        license({}, toVoucherRoad, addKey, voucher(20)),
        "end thaw withdraw",
        usd(80),
      ],
      "on the voucher road, with a voucher that was never brought": [
        license({}, toVoucherRoad, addKey, withheldVoucher(20)),
        "end thaw withdraw",
        usd(100),
      ],
      "on the voucher road, with a voucher above what is left": [
        license({}, toVoucherRoad, addKey, voucher(99), withheldVoucher(100), thaw(1), wait, withdraw),
        "end",
        0n,
      ],
      "on the voucher road, with another plan due": [
        license({}, toVoucherRoad, addKey, voucher(20), changePlan({}), toExpiry, wait),
        "end thaw withdraw",
        usd(80),
      ],
      "on the voucher road, under another plan than before, its vouchers of both terms brought": [
        license({}, toVoucherRoad, addKey, changePlan({}), toExpiry, renew, voucher(20, 1), formerVoucher(10)),
        "end thaw withdraw",
        usd(70),
      ],
      "on the voucher road, its key revoked": [
        license({}, toVoucherRoad, addKey, voucher(20), revokeKey),
        "end thaw withdraw",
        usd(80),
      ],
      "on the voucher road, its key revoked before the last voucher came": [
        license({}, toVoucherRoad, addKey, revokeKey, voucher(20)),
        "end thaw withdraw",
        usd(80),
      ],
      "on the voucher road, where a voucher came too late": [
        license({}, toVoucherRoad, addKey, revokeKey, wait, voucher(20)),
        "end thaw withdraw",
        usd(100),
      ],
      "on the voucher road, its generation over": [
        license({}, toVoucherRoad, addKey, raiseGeneration, wait, voucher(20)),
        "end thaw withdraw",
        usd(100),
      ],
      "on the voucher road, bought from another whose key was live": [
        license({}, toVoucherRoad, addKey, lock, wait, sell, voucher(20)),
        "unlock end thaw withdraw",
        usd(100),
      ],
      "back from the voucher road": [
        license({}, toVoucherRoad, addKey, voucher(20), fromVoucherRoad),
        "end thaw withdraw",
        usd(80),
      ],

      "with an upfront price held": [license(upfront), "end releaseUpfront thaw withdraw", usd(100)],
      "with an upfront price held, and a minimum": [
        license({ ...upfront, ...minimum }),
        "end releaseUpfront closeTerm thaw withdraw",
        usd(90),
      ],
      "with an upfront price held, and a recall announced": [
        license(upfront, recall),
        "end releaseUpfront thaw withdraw",
        usd(107),
      ],
      "Closed and empty, but for an upfront price, and then recalled": [
        license(upfront, end, wait, thaw(100), wait, withdraw, recall),
        "releaseUpfront thaw withdraw",
        usd(7),
      ],

      "of an operator that serves nobody any more": [license({}, unserve), "end thaw withdraw", usd(100)],
      "of an operator in jail": [license({}, jail), "end thaw withdraw", usd(97.9)],
      "of an operator that lost all its stake": [license({}, use(30), slash(1e6)), "end thaw withdraw", usd(70)],
      "under a plan that is closed": [license({}, closePlan), "end thaw withdraw", usd(100)],
      "of a model that was sold, and recalled": [
        license(minimum, recall, sellModel, pass(7 * DAY)),
        "end closeTerm thaw withdraw",
        usd(100),
      ],
      "in an escrow that takes no more in": [license({}, reachCeiling), "end thaw withdraw", usd(100)],
    },
  });

  // Of 30 USD: the publisher's 9, two attestors' 0.3 each, a fee of 0.15 and as much as a bonus. Of the operator's 20.1, half is
  // its pool's, which two back with as much.
  const shares: [string, Belonging<string>["owner"], (leaver: Leaver) => Promise<void>, string, bigint][] = [
    [
      "the publisher's",
      ({ publisher }) => publisher,
      (leaver) => leaver.assets(1),
      "payAsset distribute withdraw",
      usd(9),
    ],
    ["an attestor's", ({ payees }) => payees[0], (leaver) => leaver.attestor(), "withdraw", usd(0.3)],
    [
      "the operator's",
      ({ operator }) => operator,
      (leaver) => leaver.operator(1),
      "withdrawEarnings payPool",
      usd(10.05),
    ],
    [
      "a delegator's",
      ({ payees }) => payees[7],
      (leaver) => leaver.stake(1),
      "payPool thaw withdraw",
      // The last unit that doesn't divide stays with who stays.
      usd(10_005.1) - 1n,
    ],
    ["the treasury's", ({ treasury }) => treasury, (leaver) => leaver.fees(), "withdrawFees", usd(0.15)],
  ];
  for (const [whose, owner, take, calls, gets] of shares) {
    leaving<string>(`${whose} share of a batch`, {
      owner,
      leave: async (leaver, batchId) => {
        await leaver.batch(batchId);
        await take(leaver);
      },
      end: [({ licet }, batchId) => licet.escrow.batchStatusOf(batchId), BigInt(BatchStatus.Collected)],
      states: {
        Held: [batch(), `release shareIncome ${calls}`, gets],
        Releasable: [batch(pass(3 * DAY)), `release shareIncome ${calls}`, gets],
        Released: [batch(pass(3 * DAY), releaseLast), `shareIncome ${calls}`, gets],
        Collected: [batch(pass(3 * DAY), releaseLast, shareLast), calls, gets],
      },
    });
  }

  leaving<string>("the share of an operator without any stake", {
    owner: ({ operator }) => operator,
    leave: async (leaver, batchId) => {
      await leaver.batch(batchId);
      await leaver.operator(1);
    },
    states: {
      Held: [
        batch(slash(1e6)),
        "release shareIncome withdrawEarnings payPool withdrawProceeds",
        // All of it, and the bonus.
        usd(20.25),
      ],
    },
  });

  leaving<number>("an operator's own stake", {
    owner: ({ operator }) => operator,
    leave: (leaver, operatorId) => leaver.stake(operatorId),
    end: [sharesOf(({ operator }) => operator), 0n],
    states: {
      active: [stake(), "thaw withdraw", usd(10_000)],
      thawing: [stake(thawStake(2_500)), "thaw withdraw", usd(10_000)],
      "thawing to the last": [stake(thawStake(10_000)), "withdraw", usd(10_000)],
      "thawed long ago": [stake(thawStake(10_000), pass(1_000 * DAY)), "withdraw", usd(10_000)],
      "thawing in sixteen parts": [stake(thawStake(...Array(16).fill(100))), "withdraw thaw withdraw", usd(10_000)],
      "in flight": [stake(use(30)), "thaw release withdraw", usd(10_000)],
      "in flight, and thawed": [stake(use(30), thawStake(10_000), pass(STAKE_THAW)), "release withdraw", usd(10_000)],
      frozen: [stake(freeze), "thaw withdraw", usd(10_000)],
      "frozen when it had thawed": [stake(thawStake(10_000), pass(STAKE_THAW), freeze), "withdraw", usd(10_000)],
      "in jail": [stake(jail), "thaw release release release withdraw", usd(9_900)],
      "slashed in part": [stake(slash(4_000)), "thaw withdraw", usd(6_000)],
      "slashed while a part thaws": [stake(thawStake(5_000), slash(4_000)), "thaw withdraw", usd(6_000)],
      "slashed to nothing": [stake(slash(1e6)), "", 0n],
      "slashed to nothing, and staked again": [stake(slash(1e6), restake), "thaw withdraw", usd(1_000)],
      "with income that hasn't vested": [stake(earn), "thaw withdraw", usd(10_000) + usd(20.25)],
      "with income that waits in the escrow": [
        stake(keepNothing, use(30), pass(3 * DAY), releaseLast),
        "payPool thaw withdraw",
        usd(10_000) + usd(20.25),
      ],
    },
  });

  leaving<number>("a delegation", {
    owner: ({ payees }) => payees[7],
    leave: (leaver, operatorId) => leaver.stake(operatorId),
    end: [sharesOf(({ payees }) => payees[7]), 0n],
    states: {
      active: [stake(delegate), "thaw withdraw", usd(1_000)],
      "with the operator's own stake gone": [
        stake(delegate, thawStake(10_000), pass(STAKE_THAW + 1), withdrawStake),
        "thaw withdraw",
        usd(1_000),
      ],
      "in flight, alone": [
        stake(delegate, thawStake(10_000), pass(STAKE_THAW + 1), withdrawStake, use(30)),
        "thaw release withdraw",
        usd(1_000),
      ],
      frozen: [stake(delegate, freeze), "thaw withdraw", usd(1_000)],
      "of an operator in jail": [stake(delegate, jail), "thaw release release release withdraw", usd(990)],
      "slashed in part": [stake(delegate, slash(1_100)), "thaw withdraw", usd(900)],
      "slashed to nothing": [stake(delegate, slash(1e6)), "", 0n],
      "slashed to nothing, where another has staked since": [stake(delegate, slash(1e6), restake), "", 0n],
      // Slashed to one unit, which is worth so many shares that the pool takes nothing in any more.
      "in a pool that is worn out": [stake(delegateMuch, slash(159_999), slash(0.999_999)), "thaw withdraw", 1n],
      // An eleventh of 20.25, but for what doesn't divide.
      "with income that hasn't vested": [stake(delegate, earn), "thaw withdraw", usd(1_000) + 1_840_909n],
    },
  });

  leaving<number>("what a slash of delegations has left", {
    owner: ({ treasury }) => treasury,
    leave: (leaver) => leaver.proceeds(),
    states: { "not fetched": [stake(delegate, slash(1_100)), "withdrawProceeds", usd(100)] },
  });

  leaving<number>("what a slash of an operator's own has left", {
    owner: ({ licensee }) => licensee,
    leave: (leaver) => leaver.proceeds(),
    states: { "not fetched": [stake(delegate, slash(1_100)), "withdrawProceeds", usd(1_000)] },
  });

  leaving<void>("an asset's income", {
    owner: ({ publisher }) => publisher,
    leave: (leaver) => leaver.assets(1),
    states: {
      "in the escrow": [income(), "payAsset distribute withdraw", usd(9)],
      "in the pot": [income(payAsset), "distribute withdraw", usd(9)],
      claimable: [income(payAsset, distribute), "withdraw", usd(9)],
      "in the pot, with as many payees as may be": [
        income(addPayees(8), payAsset),
        "distribute withdraw",
        // All but eight shares of a tenth.
        usd(1.8),
      ],
      "in the pot, with payees who gave up": [income(addPayees(1), giveUp, payAsset), "distribute withdraw", usd(9)],
    },
  });

  leaving<void>("a payee's income", {
    owner: ({ payees }) => payees[8],
    leave: (leaver) => leaver.assets(1),
    states: {
      "in the escrow": [income(addPayees(1)), "payAsset distribute withdraw", usd(0.9)],
      "in the pot": [income(addPayees(1), payAsset), "distribute withdraw", usd(0.9)],
      "in the pot, of a position given up": [income(addPayees(1), payAsset, giveUp), "distribute", 0n],
      claimable: [income(addPayees(1), payAsset, distribute), "withdraw", usd(0.9)],
      "claimable, of a position given up": [income(addPayees(1), payAsset, distribute, giveUp), "withdraw", usd(0.9)],
    },
  });

  leaving<void>("the income of who bought an asset", {
    owner: ({ licensee }) => licensee,
    leave: (leaver) => leaver.assets(1),
    states: {
      "in the pot": [income(payAsset, sellModel), "distribute withdraw", usd(9)],
      "claimable by who sold it": [income(payAsset, distribute, sellModel), "", 0n],
    },
  });

  leaving<void>("what a derived asset owes to the one that it came from", {
    owner: ({ publisher }) => publisher,
    leave: (leaver) => leaver.assets(2, 1),
    states: { "in the escrow": [childIncome, "payAsset distribute distribute withdraw", usd(0.9)] },
  });

  leaving<string>("a member's bond", {
    owner: ({ payees }) => payees[0],
    leave: (leaver, signer) => leaver.bond(signer),
    end: [({ licet, payees }, signer) => licet.committee.bondStatusOf(signer, payees[0]), BigInt(BondStatus.None)],
    states: {
      posted: [bond(), "thawBond withdrawBond", BOND],
      "posted for more than it weighs": [bond(raiseBond), "thawBond withdrawBond", 3n * BOND],
      thawing: [bond(thawBond), "withdrawBond", BOND],
      "thawed long ago": [bond(thawBond, pass(1_000 * DAY)), "withdrawBond", BOND],
      "of an announced committee": [bond(rotate([0, 1])), "thawBond withdrawBond", BOND],
      "of a former committee": [bond(rotate([1, 2]), takeOffice), "thawBond withdrawBond", BOND],
      "of a committee that is past": [bond(rotate([1, 2]), takeOffice, wait), "thawBond withdrawBond", BOND],
    },
  });

  leaving<string>("a bond that is lost", {
    owner: ({ payees }) => payees[0],
    leave: (leaver, signer) => leaver.bond(signer),
    end: [({ licet, payees }, signer) => licet.committee.bondStatusOf(signer, payees[0]), BigInt(BondStatus.Slashed)],
    states: {
      "when it was posted": [bond(report), "", 0n],
      "when it was thawing": [bond(thawBond, report), "", 0n],
    },
  });

  for (const [whose, owner, gets] of [
    ["the reporter's", ({ outsider }: Market) => outsider, BOND / 10n],
    ["the treasury's", ({ treasury }: Market) => treasury, (BOND * 9n) / 10n],
    ["its holder's earlier", ({ payees }: Market) => payees[0], usd(0.3)],
  ] as const) {
    leaving<string>(`${whose} income, where a bond was lost`, {
      owner,
      leave: (leaver) => leaver.attestor(),
      states: {
        "not fetched": [bond(use(30), pass(3 * DAY), releaseLast, shareLast, report), "withdraw", gets],
      },
    });
  }

  it("is open to everybody at once, at whatever time: what is left then is what nobody was owed", async () => {
    const snapshot = await takeSnapshot();
    const life = await Life.begin(await deployMarket(), 1);
    await life.live(200);
    const { market } = life;
    const { currency, escrow, staking, waterfall, committee } = market.licet;
    const donations = { escrow: 1n, staking: 20n, waterfall: 300n, committee: 4_000n };
    for (const [contract, donation] of [
      [escrow, donations.escrow],
      [staking, donations.staking],
      [waterfall, donations.waterfall],
      [committee, donations.committee],
    ] as const) {
      await currency.connect(market.outsider).transfer(contract, donation);
    }
    await time.increase(LONGEST_FREEZE);
    await pauseIfPossible(market);
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal(donations);
    await snapshot.restore();
  });
});

/** Brings about each state, and has its owner leave it: while new money comes in, and while it is stopped. */
function leaving<Subject>(what: string, { owner, leave, end, states }: Belonging<Subject>): void {
  describe(`of ${what}`, () => {
    for (const [state, [reach, calls, gets]] of Object.entries(states)) {
      it(`${state}: ${calls || "nothing to call"}`, async () => {
        const market = await loadFixture(deployWithBlocklist);
        const subject = await reach(market);
        const person = await owner(market, subject);
        await blockEverybody(market);
        const alone = await takeSnapshot();
        for (const isPaused of [false, true]) {
          const leaver = new Leaver(market, person, REFUGE, isPaused);
          if (isPaused) await pauseIfPossible(market);
          const before = await worthOf(market, person);
          await leave(leaver, subject);

          expect(leaver.calls.join(" ")).to.equal(calls);
          expect((await worthOf(market, person)) - before).to.equal(gets);
          if (end !== undefined) expect(await end[0](market, subject)).to.equal(end[1]);
          expect(await heldBy(market)).to.deep.equal(await owedBy(market));
          await alone.restore();
        }
      });
    }
  });
}

async function deployWithBlocklist(): Promise<Market> {
  const currency = await hre.ethers.deployContract("BlocklistingCurrency");
  return deployMarket({ currency: await currency.getAddress() });
}

/** But the treasury: its fees go nowhere else. */
async function blockEverybody({ licet, treasury, outsider }: Market): Promise<void> {
  const currency = BlocklistingCurrency__factory.connect(String(licet.currency.target), outsider);
  for (const { address } of await hre.ethers.getSigners()) {
    if (address !== treasury.address) await currency.blockAccount(address);
  }
}

/** What somebody has, with what is in the refuge. */
async function worthOf({ licet: { currency } }: Market, person: Person): Promise<bigint> {
  return (await currency.balanceOf(person)) + (await currency.balanceOf(REFUGE));
}

const LONGEST_FREEZE = 90 * DAY;

// States

/** A license of a plan of its own, funded with 100 USD, after some steps. */
function license(terms: Partial<PlanTerms>, ...steps: Step[]): Reach<bigint> {
  return async (market) => {
    const planId = await addPlan(market, { transferable: true, ...terms });
    return steppedFrom(market, await buyLicense(market, usd(100), { planId }), steps);
  };
}

/** A batch that charges 30 USD, of an operator that shares half with its pool, after some steps. */
function batch(...steps: Step[]): Reach<string> {
  return async (market) => {
    await market.licet.staking.connect(market.operator).setCommission(1, 5_000);
    await stakeBy(market, market.payees[7], usd(10_000));
    await steppedFrom(market, await buyLicense(market, usd(100)), [use(30), ...steps]);
    return lastBatch(market);
  };
}

/** The market's operator, after some steps. */
function stake(...steps: Step[]): Reach<number> {
  return async (market) => {
    await steppedFrom(market, await buyLicense(market, usd(100)), steps);
    return market.operatorId;
  };
}

/** Income of the market's model, after some steps. */
function income(...steps: Step[]): Reach<void> {
  return async (market) => {
    const licenseId = await buyLicense(market, usd(100));
    await steppedFrom(market, licenseId, [use(30), pass(3 * DAY), releaseLast, ...steps]);
  };
}

/** The first attestor's key, after some steps. */
function bond(...steps: Step[]): Reach<string> {
  return async (market) => {
    await steppedFrom(market, await buyLicense(market, usd(100)), steps);
    return ATTESTORS[0].address;
  };
}

async function steppedFrom(market: Market, licenseId: bigint, steps: Step[]): Promise<bigint> {
  for (const step of steps) await step(market, licenseId);
  return licenseId;
}

// Steps of time

function pass(seconds: number): Step {
  return () => time.increase(seconds);
}

function wait(): Promise<unknown> {
  return time.increase(HOUR + WAIT + 1);
}

async function toExpiry({ licet }: Market, licenseId: bigint): Promise<unknown> {
  return time.increaseTo((await licet.escrow.accountOf(licenseId)).expiresAt);
}

async function nearExpiry({ licet }: Market, licenseId: bigint): Promise<unknown> {
  return time.increaseTo((await licet.escrow.accountOf(licenseId)).expiresAt - BigInt(HOUR));
}

// Steps of a license's owner

const asOwner = ({ licet, licensee }: Market) => licet.escrow.connect(licensee);

function lock(market: Market, licenseId: bigint) {
  return asOwner(market).lock(licenseId);
}

function end(market: Market, licenseId: bigint) {
  return asOwner(market).end(licenseId);
}

function sell({ licet, licensee, payees }: Market, licenseId: bigint) {
  return licet.licenses.connect(licensee).transferFrom(licensee, payees[5], licenseId);
}

function renewalOff(market: Market, licenseId: bigint) {
  return asOwner(market).setRenewal(licenseId, false);
}

function renew(market: Market, licenseId: bigint) {
  return asOwner(market).renew(licenseId);
}

function close(market: Market, licenseId: bigint) {
  return asOwner(market).closeTerm(licenseId);
}

function cap(capCode: number): Step {
  return (market, licenseId) => asOwner(market).setCap(licenseId, capCode);
}

/** Of so many whole units, or of all that is left. */
function thaw(dollars: number): Step {
  return async (market, licenseId) => {
    const { balance } = await market.licet.escrow.accountOf(licenseId);
    return asOwner(market).thaw(licenseId, usd(dollars) < balance ? usd(dollars) : balance);
  };
}

function withdraw(market: Market, licenseId: bigint) {
  return asOwner(market).withdraw(licenseId, market.licensee);
}

async function changeService(market: Market, licenseId: bigint) {
  const { planId } = await market.licet.escrow.accountOf(licenseId);
  const operatorId = await addOperator(market, market.outsider, 0n);
  await market.licet.operators.connect(market.outsider).setServed(operatorId, planId, true);
  return asOwner(market).changeService(licenseId, operatorId, true);
}

/** Announces a plan of its own, before some more steps. */
function changePlan(terms: Partial<PlanTerms>, ...steps: Step[]): Step {
  return async (market, licenseId) => {
    await asOwner(market).changePlan(licenseId, await addPlan(market, { transferable: true, ...terms }));
    return steppedFrom(market, licenseId, steps);
  };
}

async function takeRoad(market: Market, licenseId: bigint, onVoucherRoad: boolean) {
  await asOwner(market).changeService(licenseId, market.operatorId, onVoucherRoad);
  await wait();
  return asOwner(market).applyServiceChange(licenseId);
}

function toVoucherRoad(market: Market, licenseId: bigint) {
  return takeRoad(market, licenseId, true);
}

function fromVoucherRoad(market: Market, licenseId: bigint) {
  return takeRoad(market, licenseId, false);
}

const KEY = new Wallet(id("voucher key"));

function addKey(market: Market, licenseId: bigint) {
  return asOwner(market).addVoucherKey(licenseId, KEY.address, usd(100));
}

function revokeKey(market: Market, licenseId: bigint) {
  return asOwner(market).revokeVoucherKey(licenseId, KEY.address);
}

function raiseGeneration(market: Market, licenseId: bigint) {
  return asOwner(market).raiseGeneration(licenseId);
}

/** Signs a voucher of the first generation, for so many whole units of a term, which the operator keeps. */
function withheldVoucher(dollars: number, term = 0) {
  return async (market: Market, licenseId: bigint) => {
    const signed = { licenseId, operatorId: market.operatorId, generation: 0, term, spent: usd(dollars) };
    return packVouchers([await signVoucher(await domainOf(market), signed, KEY)]);
  };
}

/** Has the operator bring one. */
function voucher(dollars: number, term = 0): Step {
  return async (market, licenseId) => {
    const { planId } = await market.licet.escrow.accountOf(licenseId);
    return bringVoucher(market, planId, await withheldVoucher(dollars, term)(market, licenseId));
  };
}

/** Has the operator bring one of the first term, under the plan of that. */
function formerVoucher(dollars: number): Step {
  return async (market, licenseId) => {
    const { formerPlanId } = await market.licet.escrow.accountOf(licenseId);
    return bringVoucher(market, formerPlanId, await withheldVoucher(dollars)(market, licenseId));
  };
}

function bringVoucher({ licet, operator, operatorId }: Market, planId: bigint, voucher: string) {
  return licet.escrow.connect(operator).settleVouchers(operatorId, planId, voucher);
}

// Steps of settlement

/** An hour of use of so many whole units. */
function use(dollars: number, changes: object = {}): Step {
  return async (market, licenseId) => {
    const { planId } = await market.licet.escrow.accountOf(licenseId);
    return settle(market, [worth(licenseId, dollars)], { planId: Number(planId), ...changes });
  };
}

async function lastBatch({ licet: { escrow } }: Market): Promise<string> {
  return (await escrow.queryFilter(escrow.filters.BatchSettled())).at(-1)!.args.batchId;
}

async function releaseLast(market: Market) {
  return market.licet.escrow.release(await lastBatch(market));
}

async function shareLast(market: Market) {
  return market.licet.committee.shareIncome(await lastBatch(market));
}

// Steps of operators and who backs them

async function unserve({ licet, operator, operatorId }: Market, licenseId: bigint) {
  const { planId } = await licet.escrow.accountOf(licenseId);
  return licet.operators.connect(operator).setServed(operatorId, planId, false);
}

/** Three days of bad service, 0.7 USD each. */
async function jail(market: Market, licenseId: bigint) {
  for (let day = 0; day < 3; day += 1) {
    await use(1, { availabilityBps: 5_000 })(market, licenseId);
    await time.increase(DAY);
  }
}

/** Of so many whole units, for the licensee. */
function slash(dollars: number): Step {
  return ({ licet, slasher, licensee }) => licet.staking.connect(slasher).slash(1, usd(dollars), licensee);
}

async function freeze({ licet, slasher }: Market) {
  return licet.staking.connect(slasher).freeze(1, usd(1e6), (await time.latest()) + LONGEST_FREEZE);
}

async function stakeBy({ licet: { currency, staking } }: Market, who: Person, amount: bigint) {
  await currency.mint(who, amount);
  await currency.connect(who).approve(staking, amount);
  return staking.connect(who).addStake(1, amount, ...ANY_SHARES);
}

function delegate(market: Market) {
  return stakeBy(market, market.payees[7], usd(1_000));
}

function delegateMuch(market: Market) {
  return stakeBy(market, market.payees[7], usd(150_000));
}

function restake(market: Market) {
  return stakeBy(market, market.operator, usd(1_000));
}

/** Has the operator thaw what so many whole units were worth at first. */
function thawStake(...dollars: number[]): Step {
  return async ({ licet, operator }) => {
    for (const amount of dollars) await licet.staking.connect(operator).thaw(1, usd(amount) * SHARES);
  };
}

function withdrawStake({ licet, operator }: Market) {
  return licet.staking.connect(operator).withdraw(1, operator);
}

function keepNothing({ licet, operator }: Market) {
  return licet.staking.connect(operator).setCommission(1, 0);
}

/** Has a batch's 20.1 USD and a bonus of 0.15 vest. */
async function earn(market: Market, licenseId: bigint) {
  await steppedFrom(market, licenseId, [keepNothing, use(30), pass(3 * DAY), releaseLast]);
  return market.licet.escrow.payPool(1);
}

function sharesOf(whose: (market: Market) => Person) {
  return async (market: Market) => {
    const { shares, thawingShares } = await market.licet.staking.positionOf(1, whose(market));
    return shares + thawingShares;
  };
}

// Steps of publishers and payees

function recall({ licet, publisher, versionId }: Market) {
  return licet.assets.connect(publisher).recall(versionId);
}

function sellModel({ licet, publisher, licensee, assetId }: Market) {
  return licet.assets.connect(publisher).transferFrom(publisher, licensee, assetId);
}

async function closePlan({ licet, publisher }: Market, licenseId: bigint) {
  return licet.licenses.connect(publisher).closePlan((await licet.escrow.accountOf(licenseId)).planId);
}

async function closeLatestPlan({ licet: { licenses }, publisher }: Market) {
  return licenses.connect(publisher).closePlan(await licenses.planCount());
}

function payAsset({ licet, assetId }: Market) {
  return licet.escrow.payAsset(assetId);
}

function distribute({ licet, assetId }: Market) {
  return licet.waterfall.distribute(assetId);
}

/** Of a tenth each, which one of the `payees` holds. */
function addPayees(count: number): Step {
  return async ({ licet, publisher, payees, assetId }) => {
    for (let i = 0; i < count; i += 1) await licet.waterfall.connect(publisher).addPayee(assetId, payees[8], 1_000);
  };
}

function giveUp({ licet, payees }: Market) {
  return licet.waterfall.connect(payees[8]).giveUp(1);
}

/** Income of 9 USD of a model that came from the market's, to which it owes a tenth. */
async function childIncome(market: Market): Promise<void> {
  const { licet, payees } = market;
  const parents = [{ parentId: 1, relation: Relation.FineTunedFrom, incomeBps: 1_000 }];
  const assetId = await addAsset(market, payees[6], { parents });
  await licet.assets.connect(payees[6]).publish(assetId, id("child"), ZeroHash, ZeroAddress, "ipfs://child", "");
  const child = { ...market, assetId, publisher: payees[6], versionId: (BigInt(assetId) << 32n) | 1n };
  child.planId = await addPlan(child);
  await steppedFrom(child, await buyLicense(child, usd(100)), [use(30), pass(3 * DAY), releaseLast]);
}

// Steps of attestors

function raiseBond({ licet, payees }: Market) {
  return postBond(licet, ATTESTORS[0].address, payees[0], 3);
}

function thawBond({ licet, payees }: Market) {
  return licet.committee.connect(payees[0]).thawBond(ATTESTORS[0].address);
}

/** Announces a committee of some of the attestors. */
function rotate(chosen: number[]): Step {
  return async ({ licet: { committee }, payees }) => {
    const members = chosen.map((i) => ({ signer: ATTESTORS[i].address, weight: 1, payee: payees[i].address }));
    const deadline = (await time.latest()) + HOUR;
    const digest = await committee.rotationHash(members, 2, deadline);
    return committee.rotate(members, 2, deadline, proofBy(digest));
  };
}

async function takeOffice({ licet: { committee } }: Market) {
  return time.increase(await committee.ROTATION_PERIOD());
}

/** Shows two batches of one number that the first attestor signed. */
async function report(market: Market) {
  const { licet, outsider, payees } = market;
  const { header } = await batchOf(market, [worth(1n, 1)]);
  const another = { ...header, root: id("another") };
  const signed = await Promise.all(
    [header, another].map(async (one) => ATTESTORS[0].signingKey.sign(await licet.escrow.batchIdOf(one)).serialized),
  );
  return licet.committee
    .connect(outsider)
    .reportEquivocation(ATTESTORS[0].address, payees[0], header, signed[0], another, signed[1]);
}

// Steps of governance

/** Has the escrow owe as much as it ever may. */
async function reachCeiling(market: Market) {
  const { escrow } = market.licet;
  return buyLicense(market, (await escrow.depositCeiling()) - (await escrow.totalOwed()));
}
