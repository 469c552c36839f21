import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, parseEther } from "ethers";
import hre from "hardhat";
import { receiptDigest } from "../../oracle/protocol/messages";
import fc from "../support/fastCheck";
import {
  ChallengeStatus,
  deployCourtMarket,
  entryIn,
  NO_RECEIPT,
  placedIn,
  proofOf,
  receiptOf,
  RULING,
  settleReceipts,
  Side,
  signReceipt,
  TURN,
  type CourtMarket,
  type SettledBatch,
} from "../support/court";
import { CourtModel, type CourtAct } from "../support/courtModel";
import { addPlan, BatchStatus, buyLicense, DAY, domainOf, HOUR, usd } from "../support/market";

const FEE = parseEther("0.1");
const BOND = usd(5);
const CHARGES = 3;

const ACTS: CourtAct[] = [
  "open",
  "answer",
  "prove",
  "escalate",
  "payFee",
  "appealForChallenger",
  "appealForOperator",
  "ruleForChallenger",
  "ruleForOperator",
  "ruleForNobody",
  "execute",
  "report",
  "close",
];
const anyWait = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 1, max: HOUR }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: TURN }) },
  { weight: 1, arbitrary: fc.constantFrom(TURN, TURN + 1, DAY, RULING + 1) },
);
/** Mostly what may be done then, since most of what is tried blindly is refused. */
const anyStep = fc.record({
  i: fc.nat(CHARGES - 1),
  wait: anyWait,
  pick: fc.nat(),
  isBlind: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
});

/** A court beside the model of what it should be: one charge of a dollar in each of several batches. */
class Twins {
  readonly done = new Map<CourtAct, number>();

  private constructor(
    private readonly market: CourtMarket,
    private readonly batches: SettledBatch[],
    private readonly chargeIds: string[],
    readonly model: CourtModel,
  ) {}

  static async of(market: CourtMarket): Promise<Twins> {
    const arbitrator = await market.arbitrator.getAddress();
    const planId = await addPlan(market, { arbitrator, holdPeriod: 30 * DAY });
    const at = { ...market, planId };
    const licenseId = await buyLicense(at, usd(100));
    const [domain, { escrow }] = [await domainOf(at), market.licet];
    const batches: SettledBatch[] = [];
    const chargeIds: string[] = [];
    const charges = [];
    for (let i = 0; i < CHARGES; i++) {
      await time.increase(HOUR);
      const receipt = await receiptOf(at, licenseId, { sequence: BigInt(i + 1) });
      await time.increase(1);
      const batch = await settleReceipts(at, [signReceipt(domain, receipt)]);
      const { chargeId } = await escrow.chargeOf(batch.header, batch.entries, batch.outcomes, licenseId);
      batches.push(batch);
      chargeIds.push(chargeId);
      const heldUntil = Number((await escrow.batchOf(batch.batchId)).releasableAt);
      charges.push({ provable: i === 0, heldUntil, reportableUntil: batch.header.epochEnd + 60 * DAY });
    }
    return new Twins({ ...at, licenseId }, batches, chargeIds, new CourtModel(charges));
  }

  private get court() {
    return this.market.licet.court;
  }

  private async challengeId(i: number): Promise<bigint> {
    return this.court.challengeOfCharge(this.chargeIds[i]);
  }

  async steps({ i, wait, pick, isBlind }: typeof anyStep extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
    const now = (await time.latest()) + wait;
    const open = isBlind ? ACTS : ACTS.filter((act) => this.model.may(act, i, now));
    if (open.length > 0) await this.does(open[pick % open.length], i, wait);
  }

  /** Does it in both, `wait` seconds after the latest block: the court reverts where the model refuses. */
  async does(act: CourtAct, i: number, wait: number): Promise<void> {
    const call = await this.callOf(act, i);
    const now = (await time.latest()) + wait;
    const [before, may] = [this.model.cases[i].status, this.model.does(act, i, now)];
    await time.setNextBlockTimestamp(now);
    const note = `${act} of ${i} in status ${before}, after ${wait} s`;
    if (may) {
      await (await call()).wait();
      this.done.set(act, (this.done.get(act) ?? 0) + 1);
    } else {
      await expect(call(), note).to.be.reverted;
    }
    const challengeId = await this.challengeId(i);
    expect((await this.court.challengeOf(challengeId)).status, note).to.equal(this.model.cases[i].status);
  }

  private async callOf(act: CourtAct, i: number) {
    const { licensee, operator, outsider, arbitrator, licenseId, licet } = this.market;
    const [batch, challengeId] = [this.batches[i], await this.challengeId(i)];
    const { disputeId } = await this.court.arbitrationOf(challengeId);
    // The first dispute's number is what a challenge without one would have, too.
    const isDisputed = this.model.cases[i].stage !== "none";
    const ruling = (side: number) => () =>
      arbitrator.giveRuling(isDisputed ? disputeId : 99, side, { gasLimit: 1_000_000 });
    const options = { gasLimit: 3_000_000 };
    const calls = {
      open: () => {
        const doubted = this.model.cases[i].provable ? batch.signed[0] : NO_RECEIPT;
        return this.court.connect(licensee).challenge(entryIn(batch, licenseId), doubted, "", options);
      },
      answer: () => this.court.connect(operator).answer(challengeId, "ipfs://data", options),
      prove: async () => {
        const { receipt } = batch.signed[0];
        const proof = proofOf(receipt, receiptDigest(await domainOf(this.market), receipt));
        return this.court.connect(outsider).answerWithProof(challengeId, receipt, proof, options);
      },
      escalate: () => this.court.connect(licensee).escalate(challengeId, { value: FEE, ...options }),
      payFee: () => this.court.connect(operator).payFee(challengeId, { value: FEE, ...options }),
      appealForChallenger: () =>
        this.court.connect(licensee).payAppeal(challengeId, Side.Challenger, { value: FEE, ...options }),
      appealForOperator: () =>
        this.court.connect(operator).payAppeal(challengeId, Side.Operator, { value: FEE, ...options }),
      ruleForChallenger: ruling(Side.Challenger),
      ruleForOperator: ruling(Side.Operator),
      ruleForNobody: ruling(Side.None),
      execute: () => arbitrator.executeRuling(isDisputed ? disputeId : 99, options),
      report: async () => {
        const { receipt } = batch.signed[0];
        const other = signReceipt(await domainOf(this.market), { ...receipt, requestId: id("another request") });
        return licet.reports
          .connect(outsider)
          .reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other, options);
      },
      close: () => this.court.connect(outsider).close(challengeId, options),
    };
    return calls[act];
  }

  /** Money stands where the model says, to the unit, and nowhere else. */
  async agree(): Promise<void> {
    const { licensee, operator, licet } = this.market;
    const { court, model } = this;
    const bonds = {
      challenger: await court.bondsOf(licensee.address),
      operator: await court.bondsOf(operator.address),
    };
    expect(bonds).to.deep.equal({
      challenger: BOND * BigInt(model.bonds.challenger),
      operator: BOND * BigInt(model.bonds.operator),
    });
    const fees = { challenger: await court.feesOf(licensee.address), operator: await court.feesOf(operator.address) };
    expect(fees).to.deep.equal({
      challenger: (FEE * BigInt(model.fees.challenger * 2)) / 2n,
      operator: (FEE * BigInt(model.fees.operator * 2)) / 2n,
    });
    const open = model.cases.filter(({ status }) => status > ChallengeStatus.None && status < ChallengeStatus.Upheld);
    expect(await licet.currency.balanceOf(court)).to.equal(
      bonds.challenger + bonds.operator + BOND * BigInt(open.length),
    );
    const pooled = model.cases.reduce((sum, { pool, appealPool }) => sum + pool + appealPool, 0);
    expect(await hre.ethers.provider.getBalance(court)).to.equal(
      fees.challenger + fees.operator + FEE * BigInt(pooled),
    );
    expect(await licet.staking.proceedsOf(licensee.address)).to.equal(
      BOND * BigInt(model.penalties) + usd(0.2) * BigInt(model.cases.filter(({ reported }) => reported).length),
    );
    const { balance } = await licet.escrow.accountOf(this.market.licenseId);
    expect(balance).to.equal(usd(100) - usd(CHARGES - model.refunds));
  }

  /** Nothing that was begun is left: waiting alone brings everything to its end, and everybody to their money. */
  async end(): Promise<void> {
    await time.increase(RULING + 31 * DAY);
    const { escrow, staking } = this.market.licet;
    for (const [i, { status }] of this.model.cases.entries()) {
      if (status > ChallengeStatus.None && status < ChallengeStatus.Upheld) await this.does("close", i, 1);
      const isSplit = (await escrow.batchStatusOf(this.chargeIds[i])) === BigInt(BatchStatus.Releasable);
      if (isSplit) await escrow.release(this.chargeIds[i]);
      await escrow.release(this.batches[i].batchId);
    }
    await this.agree();
    expect((await staking.poolOf(this.market.operatorId)).inFlight).to.equal(0);
    const { licensee, operator } = this.market;
    for (const side of [licensee, operator]) {
      if ((await this.court.bondsOf(side.address)) > 0n) await this.court.connect(side).withdrawBonds(side.address);
      if ((await this.court.feesOf(side.address)) > 0n) await this.court.connect(side).withdrawFees(side.address);
    }
    expect(await this.market.licet.currency.balanceOf(this.court)).to.equal(0);
    expect(await hre.ethers.provider.getBalance(this.court)).to.equal(0);
  }
}

const RUNS = Number(process.env.COURT_RUNS ?? 12);

describe("DisputeCourt, beside a model of it", () => {
  it("does what the model does, in any order, at any time, and leaves nothing stuck", async function () {
    this.timeout(600_000);
    const done = new Map<CourtAct, number>();
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { minLength: 30, maxLength: 60 }), async (steps) => {
        const twins = await Twins.of(await loadFixture(deployCourtMarket));
        for (const step of steps) await twins.steps(step);
        await twins.agree();
        await twins.end();
        for (const [act, times] of twins.done) done.set(act, (done.get(act) ?? 0) + times);
      }),
      { numRuns: RUNS },
    );
    expect([...done.keys()], "acts that were ever done").to.include.members([
      "open",
      "answer",
      "escalate",
      "payFee",
      "close",
    ]);
  });

  /** A shortest way to each state that a challenge can stand in, with what the arbitrator has said of it. */
  const WAYS: Record<string, CourtAct[]> = {
    Open: ["open"],
    Answered: ["open", "answer"],
    Escalated: ["open", "answer", "escalate"],
    Disputed: ["open", "answer", "escalate", "payFee"],
    "Disputed and ruled for the challenger": ["open", "answer", "escalate", "payFee", "ruleForChallenger"],
    "Disputed and ruled for nobody": ["open", "answer", "escalate", "payFee", "ruleForNobody"],
    "half appealed": ["open", "answer", "escalate", "payFee", "ruleForChallenger", "appealForOperator"],
    "appealed by both": [
      "open",
      "answer",
      "escalate",
      "payFee",
      "ruleForOperator",
      "appealForChallenger",
      "appealForOperator",
    ],
    "reported while disputed": ["open", "answer", "escalate", "payFee", "report"],
    "reported while open": ["open", "report"],
  };
  for (const [state, way] of Object.entries(WAYS)) {
    it(`comes to an end from ${state} by waiting alone`, async () => {
      const twins = await Twins.of(await loadFixture(deployCourtMarket));
      for (const act of way) await twins.does(act, 1, 60);
      await twins.agree();
      await twins.end();
      expect(twins.model.cases[1].status).to.be.at.least(ChallengeStatus.Upheld);
    });
  }
});
