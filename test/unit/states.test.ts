import { loadFixture, setBalance, takeSnapshot, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, parseEther, Wallet, ZeroAddress } from "ethers";
import hre from "hardhat";
import { readFileSync } from "node:fs";
import path from "node:path";
import { chargeIdOf } from "../../oracle/protocol/entries";
import { receiptDigest } from "../../oracle/protocol/messages";
import {
  courtMarketOf,
  entryIn,
  NO_RECEIPT,
  placedIn,
  proofOf,
  receiptOf,
  RULING,
  settleReceipts,
  Side,
  signReceipt,
  type CourtMarket,
  type SettledBatch,
} from "../support/court";
import {
  addOperator,
  addPlan,
  ANY_SHARES,
  ATTESTORS,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  domainOf,
  entryOf,
  HOUR,
  planTerms,
  postBond,
  proofBy,
  settle,
  signOffer,
  usd,
  type Batch,
  type Market,
  type PlanTerms,
} from "../support/market";

const DOCUMENT = "docs/states.md";
const EPOCH = DAY;
const WINDOW = 2 * DAY;
/** What had begun may still end. */
const GRACE = HOUR;
const WAIT = GRACE + EPOCH + WINDOW;

const key = ATTESTORS[0].address;

type Act<Case> = (market: Market, subject: Case) => Promise<unknown>;

/** A drawing of docs/states.md, and how to walk it. */
interface Machine<Case> {
  /** The drawing's heading, up to its colon. */
  heading: string;
  /** The Solidity enum, and the file that has it. */
  enum: [name: string, file: string];
  /** The state that is drawn as `[*]`. */
  origin: string;
  status: (market: Market, subject: Case) => Promise<bigint>;
  /** Ways into each state: its name, with a remark in brackets where there are several. */
  ways: Record<string, (market: Market) => Promise<Case>>;
  /** What may be tried in every state; of those that are tried in several ways, each. */
  acts: Record<string, Act<Case>[]>;
}

/** A batch, and what is walked: itself, or what it has charged to its only license. */
interface BatchOrCharge extends Batch {
  batchId: string;
  subjectId: string;
}

type Step = (market: Market, licenseId: bigint) => Promise<unknown>;

const withMinimum = { minimumSpend: usd(10) };
const withoutMinimum = {};
const oneTerm = { renewable: false };
const lock: Step = (market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.lock(licenseId));
const end: Step = (market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.end(licenseId));
const renew: Step = ({ licet }, licenseId) => licet.escrow.renew(licenseId);
const close: Step = ({ licet }, licenseId) => licet.escrow.closeTerm(licenseId);
const wait: Step = () => time.increase(WAIT + 1);
const renewalOff: Step = (market, licenseId) =>
  asOwner(market, licenseId, (escrow) => escrow.setRenewal(licenseId, false));
const toExpiry: Step = async ({ licet }, licenseId) =>
  time.increaseTo((await licet.escrow.accountOf(licenseId)).expiresAt);
const nearExpiry: Step = async ({ licet }, licenseId) =>
  time.increaseTo((await licet.escrow.accountOf(licenseId)).expiresAt - BigInt(HOUR));

/** Has a plan created that the model's owner offers to the licensee. */
async function offerPlan(market: Market): Promise<unknown> {
  const terms = planTerms(market.assetId, await market.licet.committee.getAddress(), { supply: 1 });
  const offer = { terms, buyer: market.licensee.address, salt: 1, deadline: (await time.latest()) + DAY };
  return market.licet.licenses.acceptOffer(offer, await signOffer(market, offer));
}

/** Announces another plan, without a minimum. */
const changeOver: Step = async (market, licenseId) => {
  const planId = await addPlan(market, { transferable: true });
  return asOwner(market, licenseId, (escrow) => escrow.changePlan(licenseId, planId));
};

const pass = (seconds: number) => () => time.increase(seconds);

/** A charge of the licensee's, and what it is challenged by. */
interface Challenged {
  market: CourtMarket;
  batch: SettledBatch;
  challengeId: number;
}

const FEE = parseEther("0.1");

async function charged(plain: Market): Promise<Challenged> {
  const market = await courtMarketOf(plain);
  await time.increase(HOUR);
  const signed = signReceipt(await domainOf(market), await receiptOf(market, market.licenseId));
  await time.increase(1);
  return { market, batch: await settleReceipts(market, [signed]), challengeId: 1 };
}

const challengeOf = ({ market, batch }: Challenged, doubted: object) =>
  market.licet.court
    .connect(market.licensee)
    .challenge(entryIn(batch, market.licenseId), doubted as SettledBatch["signed"][0], "");

const COURT_ACTS = {
  challenge: (_, subject) => challengeOf(subject, NO_RECEIPT),
  challengeReceipt: (_, subject) => challengeOf(subject, subject.batch.signed[0]),
  answer: ({ licet, operator }, { challengeId }) => licet.court.connect(operator).answer(challengeId, "ipfs://data"),
  prove: async ({ licet, operator }, { market, batch, challengeId }) => {
    const { receipt } = batch.signed[0];
    const proof = proofOf(receipt, receiptDigest(await domainOf(market), receipt));
    return licet.court.connect(operator).answerWithProof(challengeId, receipt, proof);
  },
  escalate: ({ licet, licensee }, { challengeId }) =>
    licet.court.connect(licensee).escalate(challengeId, { value: FEE }),
  payFee: ({ licet, operator }, { challengeId }) => licet.court.connect(operator).payFee(challengeId, { value: FEE }),
  report: async ({ licet, outsider }, { market, batch }) => {
    const other = { ...batch.signed[0].receipt, requestId: id("another request") };
    const signed = signReceipt(await domainOf(market), other);
    const entry = entryIn(batch, market.licenseId);
    return licet.reports.connect(outsider).reportContradiction(entry, placedIn(batch, 0), signed);
  },
  /** Once every turn, and the arbitrator's, is over. */
  close: async ({ licet }, { challengeId }) => {
    await time.increase(RULING + 1);
    return licet.court.close(challengeId);
  },
} satisfies Record<string, Act<Challenged>>;

const ruleFor =
  (side: number): Act<Challenged> =>
  async ({ licet }, { market }) => {
    const address = await market.arbitrator.getAddress();
    await setBalance(address, FEE);
    return licet.court.connect(await hre.ethers.getImpersonatedSigner(address)).rule(0, side);
  };

async function challengedBy(plain: Market, ...acts: (keyof typeof COURT_ACTS)[]): Promise<Challenged> {
  const subject = await charged(plain);
  for (const act of acts) await COURT_ACTS[act](subject.market, subject);
  return subject;
}

describe(DOCUMENT, () => {
  walk<number>({
    heading: "Version",
    enum: ["VersionStatus", "IAssetRegistry"],
    origin: "None",
    status: ({ licet, assetId }, number) => licet.assets.statusOf((BigInt(assetId) << 32n) | BigInt(number)),
    ways: {
      None: async () => 2,
      Usable: async () => 1,
      Recalling: async (market) => {
        await recall(market, 1);
        return 1;
      },
      Recalled: async (market) => {
        await recall(market, 1);
        await time.increase(7 * DAY);
        return 1;
      },
    },
    acts: {
      publish: [
        ({ licet, publisher }) =>
          licet.assets.connect(publisher).publish(1, id("another"), id("w"), ZeroAddress, "ipfs://2", ""),
      ],
      recall: [recall],
      time: [pass(7 * DAY)],
    },
  });

  walk<number>({
    heading: "Plan",
    enum: ["PlanStatus", "ILicenseRegistry"],
    origin: "None",
    status: ({ licet }, planId) => licet.licenses.statusOf(planId),
    ways: {
      None: async () => 2,
      Open: (market) => addPlan(market, { supply: 1 }),
      SoldOut: async (market) => {
        const planId = await addPlan(market, { supply: 1 });
        await buyLicense(market, 0n, { planId });
        return planId;
      },
      Closed: async (market) => {
        const planId = await addPlan(market, { supply: 1 });
        await market.licet.licenses.connect(market.publisher).closePlan(planId);
        return planId;
      },
      "Closed (when it was sold out)": async (market) => {
        const planId = await addPlan(market, { supply: 1 });
        await buyLicense(market, 0n, { planId });
        await market.licet.licenses.connect(market.publisher).closePlan(planId);
        return planId;
      },
    },
    acts: {
      createPlan: [(market) => addPlan(market, { supply: 1 })],
      acceptOffer: [offerPlan],
      buy: [(market, planId) => buyLicense(market, 0n, { planId })],
      closePlan: [({ licet, publisher }, planId) => licet.licenses.connect(publisher).closePlan(planId)],
      time: [pass(30 * DAY)],
    },
  });

  walk<void>({
    heading: "Signing key",
    enum: ["KeyStatus", "IOperatorRegistry"],
    origin: "None",
    status: ({ licet, operatorId }) => licet.operators.statusOf(operatorId, key),
    ways: {
      None: async () => {},
      Active: addKey,
      Expired: async (market) => {
        await addKey(market);
        await time.increase(30 * DAY);
      },
      Revoked: async (market) => {
        await addKey(market);
        await revokeKey(market);
      },
    },
    acts: { addKey: [addKey], revokeKey: [revokeKey], time: [pass(30 * DAY)] },
  });

  walk<bigint>({
    heading: "License",
    enum: ["LicenseStatus", "IUsageEscrow"],
    origin: "None",
    status: ({ licet }, licenseId) => licet.escrow.statusOf(licenseId),
    ways: licenseWays(),
    acts: {
      buy: [(market) => license(market, withMinimum)],
      deposit: [({ licet, licensee }, licenseId) => licet.escrow.connect(licensee).deposit(licenseId, 1)],
      lock: [(market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.lock(licenseId))],
      unlock: [(market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.unlock(licenseId))],
      end: [(market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.end(licenseId))],
      transfer: [(market, licenseId) => transfer(market, licenseId)],
      setRenewal: [
        (market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.setRenewal(licenseId, false)),
        (market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.setRenewal(licenseId, true)),
      ],
      renew: [
        ({ licet, outsider }, licenseId) => licet.escrow.connect(outsider).renew(licenseId),
        (market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.renew(licenseId)),
      ],
      changePlan: [
        (market, licenseId) =>
          asOwner(market, licenseId, async (escrow) => escrow.changePlan(licenseId, await planOf(market, licenseId))),
        async (market, licenseId) => changeOver(market, licenseId),
      ],
      closeTerm: [({ licet, outsider }, licenseId) => licet.escrow.connect(outsider).closeTerm(licenseId)],
      changeService: [
        (market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.changeService(licenseId, 1, true)),
      ],
      thaw: [(market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.thaw(licenseId, 1))],
      setCap: [(market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.setCap(licenseId, 9))],
      settle: [
        async (market, licenseId) => settle(market, [entryOf(licenseId)], { planId: await planOf(market, licenseId) }),
      ],
      time: [
        pass(WAIT + 1),
        async ({ licet }, licenseId) => {
          const { expiresAt } = await licet.escrow.accountOf(licenseId);
          if (expiresAt > BigInt(await time.latest())) await time.increaseTo(expiresAt);
        },
      ],
    },
  });

  walk<bigint>({
    heading: "Voucher key",
    enum: ["VoucherKeyStatus", "IUsageEscrow"],
    origin: "None",
    status: async ({ licet }, licenseId) => (await licet.escrow.voucherKeyOf(licenseId, 0, key)).status,
    ways: {
      None: (market) => license(market, withoutMinimum),
      "None (its license is in another generation)": (market) => license(market, withoutMinimum, endGeneration),
      Active: (market) => license(market, withoutMinimum, allowKey),
      "Active (its license has ended)": (market) => license(market, withoutMinimum, allowKey, end),
      "Active (its license ended long ago)": (market) => license(market, withoutMinimum, allowKey, end, wait),
      "Active (its license was sold)": (market) => license(market, withoutMinimum, allowKey, lock, wait, transfer),
      Ending: (market) => license(market, withoutMinimum, allowKey, endKey),
      "Ending (with its generation)": (market) => license(market, withoutMinimum, allowKey, endGeneration),
      "Ending (its license ended long ago)": (market) => license(market, withoutMinimum, allowKey, end, wait, endKey),
      "Ending (its license was sold)": (market) =>
        license(market, withoutMinimum, allowKey, lock, wait, endKey, transfer),
      Ended: (market) => license(market, withoutMinimum, allowKey, endKey, wait),
      "Ended (with its generation)": (market) => license(market, withoutMinimum, allowKey, endGeneration, wait),
    },
    acts: {
      addVoucherKey: [allowKey],
      revokeVoucherKey: [endKey],
      raiseGeneration: [endGeneration],
      lock: [lock],
      unlock: [(market, licenseId) => asOwner(market, licenseId, (escrow) => escrow.unlock(licenseId))],
      end: [end],
      transfer: [transfer],
      time: [pass(EPOCH + WINDOW + 1)],
    },
  });

  walk<BatchOrCharge>({
    heading: "Batch, or charge that was split off one",
    enum: ["BatchStatus", "IUsageEscrow"],
    origin: "None",
    status: ({ licet }, { subjectId }) => licet.escrow.batchStatusOf(subjectId),
    ways: {
      None: batch,
      "None (its window is over)": async (market) => {
        const made = await batch(market);
        await time.increase(WINDOW + 1);
        return made;
      },
      Held: settled,
      Releasable: async (market) => {
        const made = await settled(market);
        await time.increase(3 * DAY);
        return made;
      },
      Released: released,
      Collected: async (market) => {
        const made = await released(market);
        await market.licet.committee.shareIncome(made.batchId);
        return made;
      },
      "None (a charge of a batch that is held)": charge,
      "None (a charge of a batch that was released)": async (market) => asCharge(await released(market)),
      Frozen: (market) => charge(market, freezeCharge),
      "Frozen (its batch was released)": (market) => charge(market, freezeCharge, pass(3 * DAY), releaseBatch),
      Refunded: (market) => charge(market, freezeCharge, refundCharge),
      "Held (a charge that was let go)": (market) => charge(market, freezeCharge, letGo(DAY)),
      "Releasable (a charge that was let go at once)": (market) => charge(market, freezeCharge, letGo(0)),
      "Released (a charge)": (market) => charge(market, freezeCharge, letGo(0), release),
      "Collected (a charge)": (market) => charge(market, freezeCharge, letGo(0), release, shareIncome),
    },
    acts: {
      settle: [submit],
      release: [release],
      shareIncome: [shareIncome],
      freezeCharge: [freezeCharge],
      refundCharge: [refundCharge],
      releaseCharge: [letGo(0), letGo(DAY), letGo(30 * DAY)],
      time: [pass(3 * DAY)],
    },
  });

  walk<number>({
    heading: "Operator",
    enum: ["OperatorStatus", "IPerformanceStaking"],
    origin: "Unstaked",
    status: ({ licet }, operatorId) => licet.staking.statusOf(operatorId),
    ways: {
      Unstaked: (market) => addOperator(market, market.outsider, 0n),
      Active: (market) => addOperator(market, market.outsider, usd(10)),
      "Active (all of it has thawed)": async (market) => {
        const operatorId = await addOperator(market, market.outsider, usd(10));
        const { staking } = market.licet;
        const { shares } = await staking.poolOf(operatorId);
        await staking.connect(market.outsider).thaw(operatorId, shares);
        await time.increase((await staking.THAW_PERIOD()) + 1n);
        return operatorId;
      },
      "Active (two breaches)": async (market) =>
        breachTwice(market, await addOperator(market, market.outsider, usd(10))),
      Jailed: async (market) => {
        const operatorId = await breachTwice(market, await addOperator(market, market.outsider, usd(10)));
        await breach(market, operatorId);
        return operatorId;
      },
      "Jailed (and slashed to nothing)": async (market) => {
        const operatorId = await breachTwice(market, await addOperator(market, market.outsider, usd(10)));
        await breach(market, operatorId);
        await slash(market, operatorId);
        return operatorId;
      },
    },
    acts: {
      addStake: [
        async ({ licet, outsider }, operatorId) => {
          await licet.currency.mint(outsider, usd(1));
          await licet.currency.connect(outsider).approve(licet.staking, usd(1));
          await licet.staking.connect(outsider).addStake(operatorId, usd(1), ...ANY_SHARES);
        },
      ],
      thaw: [({ licet, outsider }, operatorId) => licet.staking.connect(outsider).thaw(operatorId, 1_000)],
      unthaw: [({ licet, outsider }, operatorId) => licet.staking.connect(outsider).unthaw(operatorId)],
      withdraw: [({ licet, outsider }, operatorId) => licet.staking.connect(outsider).withdraw(operatorId, outsider)],
      freeze: [
        async ({ licet, slasher }, operatorId) =>
          licet.staking.connect(slasher).freeze(operatorId, 1, (await time.latest()) + 60),
      ],
      slash: [slash],
      settle: [breach],
      time: [pass(7 * DAY)],
    },
  });

  walk<number>({
    heading: "Rotation of a committee",
    enum: ["RotationStatus", "ICommitteeAttestor"],
    origin: "None",
    status: ({ licet }, number) => licet.committee.statusOf(number),
    ways: {
      None: async () => 1,
      Announced: async (market) => {
        await rotate(market);
        return 1;
      },
      Present: rotated,
      "Present (the first)": async () => 0,
      "Present (the next is announced)": async (market) => {
        await rotated(market);
        await rotate(market);
        return 1;
      },
      Former: async (market) => {
        await rotated(market);
        await rotated(market);
        return 1;
      },
      Past: async (market) => {
        await rotated(market);
        await rotated(market);
        await time.increase(WINDOW + 1);
        return 1;
      },
    },
    acts: { rotate: [rotate], time: [async ({ licet }) => time.increase(await licet.committee.ROTATION_PERIOD())] },
  });

  walk<Challenged>({
    heading: "Challenge",
    enum: ["ChallengeStatus", "IDisputeCourt"],
    origin: "None",
    status: async ({ licet }, { challengeId }) => (await licet.court.challengeOf(challengeId)).status,
    ways: {
      None: charged,
      Open: (market) => challengedBy(market, "challenge"),
      "Open (about a receipt)": async (market) => challengedBy(market, "challengeReceipt"),
      "Open (about a receipt, and reported)": (market) => challengedBy(market, "challengeReceipt", "report"),
      Answered: (market) => challengedBy(market, "challenge", "answer"),
      "Answered (and reported)": (market) => challengedBy(market, "challenge", "answer", "report"),
      Escalated: (market) => challengedBy(market, "challenge", "answer", "escalate"),
      Disputed: (market) => challengedBy(market, "challenge", "answer", "escalate", "payFee"),
      "Disputed (and reported)": (market) =>
        challengedBy(market, "challenge", "answer", "escalate", "payFee", "report"),
      Upheld: (market) => challengedBy(market, "challenge", "close"),
      Rejected: (market) => challengedBy(market, "challenge", "answer", "close"),
      Undecided: (market) => challengedBy(market, "challenge", "answer", "escalate", "payFee", "close"),
    },
    acts: {
      challenge: [COURT_ACTS.challenge, COURT_ACTS.challengeReceipt],
      answer: [COURT_ACTS.answer],
      answerWithProof: [COURT_ACTS.prove],
      escalate: [COURT_ACTS.escalate],
      payFee: [COURT_ACTS.payFee],
      rule: [Side.None, Side.Challenger, Side.Operator].map(ruleFor),
      close: [COURT_ACTS.close, async (market, subject) => market.licet.court.close(subject.challengeId)],
      time: [() => time.increase(RULING + 1)],
    },
  });

  walk<Wallet>({
    heading: "Bond of a committee's member",
    enum: ["BondStatus", "ICommitteeAttestor"],
    origin: "None",
    status: ({ licet, payees }, { address }) => licet.committee.bondStatusOf(address, payees[0]),
    ways: {
      None: async () => new Wallet(id("new member")),
      "None (it was withdrawn)": (market) => bonded(market, thawBond, bondThaw, withdrawBond),
      Posted: (market) => bonded(market),
      "Posted (after it was thawing)": (market) => bonded(market, thawBond, addBond),
      Thawing: (market) => bonded(market, thawBond),
      Thawed: (market) => bonded(market, thawBond, bondThaw),
      Slashed: (market) => bonded(market, reportBond),
      "Slashed (while it was thawing)": (market) => bonded(market, thawBond, reportBond),
    },
    acts: {
      postBond: [addBond],
      thawBond: [thawBond],
      withdrawBond: [withdrawBond],
      reportEquivocation: [reportBond],
      time: [bondThaw],
    },
  });
});

/** Tries everything in every state, and compares what changed with what is drawn. */
function walk<Case>(machine: Machine<Case>): void {
  describe(machine.heading, () => {
    const states = statesOf(machine.enum);
    const drawn = edgesOf(machine.heading, machine.origin);
    const found = new Set<string>();

    it("draws every state of the code, and no other", () => {
      const named = new Set([...drawn].flatMap((edge) => edge.split(": ")[0].split(" --> ")));
      expect([...named].sort()).to.deep.equal([...states].sort());
      const reached = new Set(Object.keys(machine.ways).map((way) => way.split(" (")[0]));
      expect([...reached].sort()).to.deep.equal([...states].sort());
    });

    for (const [way, reach] of Object.entries(machine.ways)) {
      it(`leaves ${way} only along its arrows`, async () => {
        const market = await loadFixture(deployMarket);
        const subject = await reach(market);
        const state = async () => states[Number(await machine.status(market, subject))];
        const from = await state();
        expect(from).to.equal(way.split(" (")[0]);
        for (const [name, tries] of Object.entries(machine.acts)) {
          for (const act of tries) {
            const snapshot = await takeSnapshot();
            const refusal = await act(market, subject).then(
              () => undefined,
              (error: Error) => error,
            );
            if (refusal !== undefined) expect(refusal.message).to.match(/reverted with/);
            const to = await state();
            if (to !== from) found.add(`${from} --> ${to}: ${name}`);
            await snapshot.restore();
          }
        }
        const allowed = [...drawn].filter((edge) => edge.startsWith(`${from} `));
        expect(allowed).to.include.members([...found].filter((edge) => edge.startsWith(`${from} `)));
      });
    }

    it("goes along every arrow", () => {
      expect([...found].sort()).to.deep.equal([...drawn].sort());
    });
  });
}

function statesOf([name, file]: [string, string]): string[] {
  const source = readFileSync(path.join(hre.config.paths.sources, "interfaces", `${file}.sol`), "utf8");
  const body = new RegExp(`enum ${name} {([^}]*)}`).exec(source)![1];
  return body.split(",").map((state) => state.trim());
}

function edgesOf(heading: string, origin: string): Set<string> {
  const document = readFileSync(path.join(hre.config.paths.root, DOCUMENT), "utf8");
  const section = document.split(/^## /m).find((part) => part.startsWith(`${heading}:`))!;
  const drawing = /```mermaid\nstateDiagram-v2\n([^`]*)```/.exec(section)![1];
  const lines = drawing.trim().split("\n");
  return new Set(lines.map((line) => line.trim().replaceAll("[*]", origin)));
}

function recall({ licet, publisher, assetId }: Market, number: number) {
  return licet.assets.connect(publisher).recall((BigInt(assetId) << 32n) | BigInt(number));
}

async function addKey({ licet, operator, operatorId }: Market) {
  await licet.operators.connect(operator).addKey(operatorId, key, (await time.latest()) + 30 * DAY);
}

async function revokeKey({ licet, operator, operatorId }: Market) {
  await licet.operators.connect(operator).revokeKey(operatorId, key);
}

// Licenses

function licenseWays(): Machine<bigint>["ways"] {
  return {
    None: async () => 1n,
    Running: (market) => license(market, withMinimum),
    "Running (without a minimum)": (market) => license(market, withoutMinimum),
    "Running (without a minimum, in a later term)": (market) => license(market, withoutMinimum, toExpiry),
    "Running (not renewable)": (market) => license(market, oneTerm),
    "Running (renewal is off)": (market) => license(market, withMinimum, renewalOff),
    "Running (renewed)": (market) => license(market, withMinimum, toExpiry, renew),
    "Running (goes over to another plan)": (market) => license(market, withMinimum, changeOver),
    "Running (goes over, and has no minimum)": (market) => license(market, withoutMinimum, changeOver),
    "Running (went over)": (market) => license(market, withMinimum, changeOver, toExpiry, renew),
    Lapsed: (market) => license(market, withMinimum, toExpiry),
    "Lapsed (goes over to another plan)": (market) => license(market, withMinimum, changeOver, toExpiry),
    "Lapsed (goes over, and has no minimum)": (market) => license(market, withoutMinimum, changeOver, toExpiry),
    "Lapsed (goes over, and could go on no longer)": (market) => license(market, oneTerm, changeOver, toExpiry),
    "Lapsed (goes over late, and could go on no longer)": (market) =>
      license(market, oneTerm, changeOver, toExpiry, wait),
    "Lapsed (and closed)": (market) => license(market, withMinimum, toExpiry, wait, close),
    Locked: (market) => license(market, withMinimum, lock),
    "Locked (the term is over)": (market) => license(market, withMinimum, nearExpiry, lock, toExpiry),
    "Locked (renewal is off, and the term over)": (market) =>
      license(market, withMinimum, renewalOff, nearExpiry, lock, toExpiry),
    "Locked (sold when all was over)": (market) =>
      license(market, withMinimum, renewalOff, nearExpiry, lock, toExpiry, wait, close, transfer),
    Movable: (market) => license(market, withMinimum, lock, wait),
    "Movable (the term is over)": (market) => license(market, withMinimum, nearExpiry, lock, wait),
    "Movable (renewal is off, and the term over)": (market) =>
      license(market, withMinimum, renewalOff, nearExpiry, lock, wait),
    "Movable (when all is over)": (market) =>
      license(market, withMinimum, renewalOff, nearExpiry, lock, toExpiry, wait, close),
    Ended: (market) => license(market, withMinimum, end),
    "Ended (long ago)": (market) => license(market, withMinimum, end, wait),
    "Ended (by its last term's end)": (market) => license(market, oneTerm, toExpiry),
    "Ended (without a minimum)": (market) => license(market, withoutMinimum, end),
    "Ended (went over, and owes the minimum of before)": (market) =>
      license(market, withMinimum, changeOver, toExpiry, renew, end, wait),
    Closed: (market) => license(market, withMinimum, end, wait, close),
    "Closed (went over)": (market) => license(market, withMinimum, changeOver, toExpiry, renew, end, wait, close),
    "Closed (without a minimum)": (market) => license(market, withoutMinimum, end, wait),
    "Closed (by its last term's end)": (market) => license(market, oneTerm, toExpiry, wait),
  };
}

async function license(market: Market, terms: Partial<PlanTerms>, ...steps: Step[]): Promise<bigint> {
  const planId = await addPlan(market, { transferable: true, ...terms });
  const licenseId = await buyLicense(market, usd(100), { planId });
  for (const step of steps) await step(market, licenseId);
  return licenseId;
}

async function asOwner(
  market: Market,
  licenseId: bigint,
  act: (escrow: Market["licet"]["escrow"]) => Promise<unknown>,
) {
  const { escrow, licenses } = market.licet;
  const owner = await licenses.ownerOf(licenseId).catch(() => market.licensee.address);
  return act(escrow.connect(await hre.ethers.getSigner(owner)));
}

/** Lets a key sign up to one unit more than it may. */
async function allowKey(market: Market, licenseId: bigint): Promise<unknown> {
  const { generation } = await market.licet.escrow.accountOf(licenseId);
  const [, { cap }] = await market.licet.escrow.voucherKeyOf(licenseId, generation, key);
  return asOwner(market, licenseId, (escrow) => escrow.addVoucherKey(licenseId, key, cap + 1n));
}

async function endKey(market: Market, licenseId: bigint): Promise<unknown> {
  return asOwner(market, licenseId, (escrow) => escrow.revokeVoucherKey(licenseId, key));
}

async function endGeneration(market: Market, licenseId: bigint): Promise<unknown> {
  return asOwner(market, licenseId, (escrow) => escrow.raiseGeneration(licenseId));
}

async function planOf({ licet }: Market, licenseId: bigint): Promise<number> {
  return Number((await licet.escrow.accountOf(licenseId)).planId) || 1;
}

async function transfer(market: Market, licenseId: bigint): Promise<unknown> {
  const { licenses } = market.licet;
  const { licensee, payees } = market;
  const owner = await licenses.ownerOf(licenseId).catch(() => licensee.address);
  const to = owner === licensee.address ? payees[5] : licensee;
  return licenses.connect(await hre.ethers.getSigner(owner)).transferFrom(owner, to, licenseId);
}

// Batches

async function batch(market: Market): Promise<BatchOrCharge> {
  const licenseId = await buyLicense(market, usd(100));
  await time.increase(HOUR);
  const made = await batchOf(market, [entryOf(licenseId)]);
  const batchId = await market.licet.escrow.batchIdOf(made.header);
  return { ...made, batchId, subjectId: batchId };
}

async function submit({ licet }: Market, { header, entries, batchId }: BatchOrCharge): Promise<unknown> {
  return licet.escrow.settle(header, entries, proofBy(batchId));
}

async function settled(market: Market): Promise<BatchOrCharge> {
  const made = await batch(market);
  await submit(market, made);
  return made;
}

async function released(market: Market): Promise<BatchOrCharge> {
  const made = await settled(market);
  await time.increase(3 * DAY);
  await market.licet.escrow.release(made.batchId);
  return made;
}

async function release({ licet }: Market, { subjectId }: BatchOrCharge): Promise<unknown> {
  return licet.escrow.release(subjectId);
}

async function releaseBatch({ licet }: Market, { batchId }: BatchOrCharge): Promise<unknown> {
  return licet.escrow.release(batchId);
}

async function shareIncome({ licet }: Market, { subjectId }: BatchOrCharge): Promise<unknown> {
  return licet.committee.shareIncome(subjectId);
}

async function freezeCharge({ licet, court }: Market, { header, entries }: BatchOrCharge): Promise<unknown> {
  return licet.escrow.connect(court).freezeCharge(header, entries, "0x", 1);
}

async function refundCharge({ licet, court }: Market, { subjectId }: BatchOrCharge): Promise<unknown> {
  return licet.escrow.connect(court).refundCharge(subjectId);
}

/** Lets a charge go, to be released so many seconds from now. */
function letGo(seconds: number): Act<BatchOrCharge> {
  return async ({ licet, court }, { subjectId }) =>
    licet.escrow.connect(court).releaseCharge(subjectId, (await time.latest()) + seconds);
}

/** The same, to walk what it has charged to its license. */
function asCharge(made: BatchOrCharge): BatchOrCharge {
  return { ...made, subjectId: chargeIdOf(made.batchId, 1n) };
}

/** What a batch that is held has charged to its license, after some steps. */
async function charge(market: Market, ...steps: Act<BatchOrCharge>[]): Promise<BatchOrCharge> {
  const made = asCharge(await settled(market));
  for (const step of steps) await step(market, made);
  return made;
}

// Operators

/** A batch of the operator's for an epoch of bad service. */
async function breach(market: Market, operatorId: number): Promise<unknown> {
  const licenseId = await market.licet.licenses.licenseCount();
  return settle(market, [entryOf(licenseId)], { operatorId, availabilityBps: 5_000 });
}

/** Two days of bad service: one more is a third breach. */
async function breachTwice(market: Market, operatorId: number): Promise<number> {
  await buyLicense(market, usd(10), { operatorId });
  for (let i = 0; i < 2; i++) {
    await breach(market, operatorId);
    await time.increase(DAY);
  }
  return operatorId;
}

async function slash({ licet, slasher, treasury }: Market, operatorId: number): Promise<unknown> {
  return licet.staking.connect(slasher).slash(operatorId, usd(1_000_000), treasury);
}

// Rotations

/** Announces the same members again, by two of them. */
async function rotate({ licet }: Market): Promise<unknown> {
  const { committee } = licet;
  const members = (await committee.members()).map(({ signer, weight, payee }) => ({ signer, weight, payee }));
  const deadline = (await time.latest()) + HOUR;
  return committee.rotate(members, 2, deadline, proofBy(await committee.rotationHash(members, 2, deadline)));
}

// Bonds

type BondStep = (market: Market, member: Wallet) => Promise<unknown>;

/** The first attestor, bonded by its payee, after some steps. */
async function bonded(market: Market, ...steps: BondStep[]): Promise<Wallet> {
  for (const step of steps) await step(market, ATTESTORS[0]);
  return ATTESTORS[0];
}

async function addBond({ licet, payees }: Market, { address }: Wallet): Promise<unknown> {
  return postBond(licet, address, payees[0]);
}

async function thawBond({ licet, payees }: Market, { address }: Wallet): Promise<unknown> {
  return licet.committee.connect(payees[0]).thawBond(address);
}

async function withdrawBond({ licet, payees }: Market, { address }: Wallet): Promise<unknown> {
  return licet.committee.connect(payees[0]).withdrawBond(address, payees[0]);
}

async function bondThaw({ licet }: Market): Promise<unknown> {
  return time.increase((await licet.committee.BOND_THAW_PERIOD()) + 1n);
}

/** Shows two batches of one number, which the member signed. */
async function reportBond(market: Market, member: Wallet): Promise<unknown> {
  const { escrow, committee } = market.licet;
  const { header: first } = await batchOf(market, [entryOf(1n)], { epochStart: 1, epochEnd: 2 });
  const second = { ...first, root: id("another root") };
  const sign = async (header: typeof first) => member.signingKey.sign(await escrow.batchIdOf(header)).serialized;
  const [firstSignature, secondSignature] = [await sign(first), await sign(second)];
  return committee.reportEquivocation(member.address, market.payees[0], first, firstSignature, second, secondSignature);
}

async function rotated(market: Market): Promise<number> {
  await rotate(market);
  await time.increase(await market.licet.committee.ROTATION_PERIOD());
  return 1;
}
