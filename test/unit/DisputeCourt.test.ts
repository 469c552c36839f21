import { loadFixture, setCode, setStorageAt, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, parseEther, Wallet, ZeroHash } from "ethers";
import hre from "hardhat";
import { receiptDigest } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import {
  DisputeCourt__factory,
  FeeOnTransferCurrency__factory,
  type DisputeCourt,
  type ReportCourt,
} from "../../typechain-types";
import {
  ChallengeStatus,
  deployCourtMarket,
  entryIn,
  keyedGrant,
  NO_RECEIPT,
  proofOf,
  receiptOf,
  RULING,
  settleReceipts,
  Side,
  signedRequest,
  signReceipt,
  TURN,
  type CourtMarket,
  type SettledBatch,
} from "../support/court";
import { BatchStatus, buyLicense, DAY, domainOf, HOUR, structOf, usd } from "../support/market";

const FEE = parseEther("0.1");

describe("DisputeCourt", () => {
  let market: CourtMarket;
  let court: DisputeCourt;
  let reports: ReportCourt;
  let asLicensee: DisputeCourt;
  let asOperator: DisputeCourt;
  let asOutsider: DisputeCourt;
  let licenseId: bigint;

  beforeEach(async () => {
    market = await loadFixture(deployCourtMarket);
    ({ court } = market.licet);
    reports = market.licet.reports.connect(market.outsider);
    ({ licenseId } = market);
    asLicensee = court.connect(market.licensee);
    asOperator = court.connect(market.operator);
    asOutsider = court.connect(market.outsider);
  });

  /** Settles a receipt of the license's, for a dollar, and another's; `changes` are the first one's. */
  const settled = async (changes: Partial<Receipt> = {}): Promise<SettledBatch> => {
    await time.increase(HOUR);
    const domain = await domainOf(market);
    const receipts = [await receiptOf(market, licenseId, changes), await receiptOf(market, market.otherId)];
    await time.increase(1);
    return settleReceipts(
      market,
      receipts.map((receipt) => signReceipt(domain, receipt)),
    );
  };
  const chargeIdOf = async (batch: SettledBatch, ofLicense = licenseId) =>
    (await market.licet.escrow.chargeOf(batch.header, batch.entries, batch.outcomes, ofLicense)).chargeId;
  const statusOf = async (challengeId: bigint) => (await court.challengeOf(challengeId)).status;
  const balanceOf = async (ofLicense = licenseId) => (await market.licet.escrow.accountOf(ofLicense)).balance;
  const stake = async () => (await market.licet.staking.poolOf(market.operatorId)).active;

  /** Challenges the license's charge in a batch, about its receipt if that is doubted. */
  const challenge = async (batch: SettledBatch, doubts = false): Promise<bigint> => {
    await asLicensee.challenge(entryIn(batch, licenseId), doubts ? batch.signed[0] : NO_RECEIPT, "ipfs://why");
    return court.challengeCount();
  };
  const answered = async (batch: SettledBatch) => {
    const challengeId = await challenge(batch);
    await asOperator.answer(challengeId, "ipfs://data");
    return challengeId;
  };
  const escalated = async (batch: SettledBatch) => {
    const challengeId = await answered(batch);
    await asLicensee.escalate(challengeId, { value: FEE });
    return challengeId;
  };
  const disputed = async (batch: SettledBatch) => {
    const challengeId = await escalated(batch);
    await asOperator.payFee(challengeId, { value: FEE });
    return challengeId;
  };
  const ruled = async (ruling: number, disputeId = 0) => {
    await market.arbitrator.giveRuling(disputeId, ruling);
    await time.increase(TURN);
    await market.arbitrator.executeRuling(disputeId);
  };
  /** Nothing is left in the court but what somebody can fetch. */
  const drained = async () => {
    const { currency } = market.licet;
    for (const { address } of [market.licensee, market.operator, market.outsider]) {
      const signer = court.connect(await hre.ethers.getSigner(address));
      if ((await court.bondsOf(address)) > 0n) await signer.withdrawBonds(address);
      if ((await court.feesOf(address)) > 0n) await signer.withdrawFees(address);
    }
    expect(await currency.balanceOf(court)).to.equal(0);
    expect(await hre.ethers.provider.getBalance(court)).to.equal(0);
  };

  describe("challenge", () => {
    it("freezes the license's charge alone, and takes a bond of a tenth or the least", async () => {
      const batch = await settled();
      const chargeId = await chargeIdOf(batch);
      const { currency, escrow } = market.licet;
      const deadline = (await time.latest()) + 10 + TURN;
      await time.setNextBlockTimestamp(deadline - TURN);
      const opened = asLicensee.challenge(entryIn(batch, licenseId), batch.signed[0], "ipfs://why");

      const receiptHash = receiptDigest(await domainOf(market), batch.signed[0].receipt);
      await expect(opened)
        .to.emit(court, "ChallengeOpened")
        .withArgs(1, chargeId, licenseId, market.licensee.address, receiptHash, usd(1), usd(5), deadline);
      await expect(opened)
        .to.emit(court, "Evidence")
        .withArgs(await market.arbitrator.getAddress(), 1, market.licensee.address, "ipfs://why");
      await expect(opened).to.changeTokenBalances(currency, [market.licensee, court], [-usd(5), usd(5)]);
      expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Frozen);
      expect((await escrow.batchOf(batch.batchId)).charged).to.equal(usd(1));
      expect(await court.challengeOfCharge(chargeId)).to.equal(1);

      await time.increase(3 * DAY);
      await escrow.release(batch.batchId);
      expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Frozen);
    });

    it("takes a tenth of what is dear", async () => {
      const batch = await settled({ inputTokens: usd(80) - 100n });
      const opened = asLicensee.challenge(entryIn(batch, licenseId), NO_RECEIPT, "");
      await expect(opened).to.changeTokenBalance(market.licet.currency, court, usd(8));
      expect(await court.bondFor(usd(80))).to.equal(usd(8));
    });

    it("is for the license's owner, once a charge, while it is held", async () => {
      const batch = await settled();
      const entry = entryIn(batch, licenseId);
      await expect(asOutsider.challenge(entry, NO_RECEIPT, ""))
        .to.be.revertedWithCustomError(court, "CallerNotOwner")
        .withArgs(licenseId, market.outsider.address);
      await expect(asLicensee.challenge(entryIn(batch, market.otherId), NO_RECEIPT, ""))
        .to.be.revertedWithCustomError(court, "CallerNotOwner")
        .withArgs(market.otherId, market.licensee.address);

      const challengeId = await answered(batch);
      await expect(asLicensee.challenge(entry, NO_RECEIPT, "")).to.be.revertedWithCustomError(
        market.licet.escrow,
        "ChargeNotHeld",
      );
      await time.increase(TURN + 1);
      await court.close(challengeId);
      await expect(asLicensee.challenge(entry, NO_RECEIPT, "")).to.be.reverted;

      const late = await settled({ sequence: 2n });
      await time.increase(3 * DAY);
      await expect(asLicensee.challenge(entryIn(late, licenseId), NO_RECEIPT, "")).to.be.revertedWithCustomError(
        market.licet.escrow,
        "HoldOver",
      );
    });

    it("takes no receipt of another epoch, version or key", async () => {
      const batch = await settled();
      const domain = await domainOf(market);
      const { receipt } = batch.signed[0];
      for (const changes of [
        { finishedAt: batch.header.epochEnd },
        { finishedAt: batch.header.epochStart - 1 },
        { manifestHash: id("manifest") },
        { licenseId: market.otherId },
        { operatorId: 2 },
        { planId: 1 },
      ]) {
        const doubted = signReceipt(domain, { ...receipt, ...changes });
        await expect(asLicensee.challenge(entryIn(batch, licenseId), doubted, ""))
          .to.be.revertedWithCustomError(court, "ReceiptNotOfEntry")
          .withArgs(receiptDigest(domain, doubted.receipt));
      }
      const forger = new Wallet(id("forger"));
      await expect(asLicensee.challenge(entryIn(batch, licenseId), signReceipt(domain, receipt, forger), ""))
        .to.be.revertedWithCustomError(court, "ReceiptNotSigned")
        .withArgs(receiptDigest(domain, receipt), forger.address);
      await expect(
        asLicensee.challenge(entryIn(batch, licenseId), { receipt, signature: "0x1234" }, ""),
      ).to.be.revertedWithCustomError(court, "SignatureMalformed");
    });
  });

  describe("a challenge that nobody answers", () => {
    it("refunds the charge, returns the bond and costs the operator as much stake", async () => {
      const before = await balanceOf();
      const batch = await settled();
      const challengeId = await challenge(batch, true);
      await expect(court.close(challengeId))
        .to.be.revertedWithCustomError(court, "TurnRunning")
        .withArgs(challengeId, (await court.challengeOf(challengeId)).deadline);
      await time.increase(TURN + 1);
      const staked = await stake();
      await expect(asOutsider.close(challengeId))
        .to.emit(court, "ChallengeResolved")
        .withArgs(challengeId, ChallengeStatus.Upheld);

      expect(await balanceOf()).to.equal(before);
      expect(await court.bondsOf(market.licensee.address)).to.equal(usd(5));
      expect(await stake()).to.equal(staked - usd(5));
      expect(await market.licet.staking.proceedsOf(market.licensee.address)).to.equal(usd(5));
      expect((await market.licet.staking.poolOf(1)).inFlight).to.equal(usd(1));
      await drained();
    });

    it("refunds a whole entry, and costs no stake: attestors alone could have made it up", async () => {
      const before = await balanceOf();
      const challengeId = await challenge(await settled());
      const staked = await stake();
      await time.increase(TURN + 1);
      await court.close(challengeId);
      expect(await balanceOf()).to.equal(before);
      expect(await stake()).to.equal(staked);
      expect(await market.licet.staking.proceedsOf(market.licensee.address)).to.equal(0);
      await drained();
    });

    it("can't be about a receipt of nothing", async () => {
      const batch = await settled();
      const nothing = { ...batch.signed[0].receipt, requests: 0n, inputTokens: 0n };
      const signed = signReceipt(await domainOf(market), nothing);
      await expect(asLicensee.challenge(entryIn(batch, licenseId), signed, "")).to.be.revertedWithCustomError(
        court,
        "ReceiptEmpty",
      );
    });

    it("can't be answered when its turn is over", async () => {
      const challengeId = await challenge(await settled());
      const { deadline } = await court.challengeOf(challengeId);
      await time.setNextBlockTimestamp(deadline + 1n);
      await expect(asOperator.answer(challengeId, "ipfs://data"))
        .to.be.revertedWithCustomError(court, "TurnOver")
        .withArgs(challengeId, deadline);
    });
  });

  describe("answer", () => {
    it("is the operator's, its owner's or its keys', and flips the default", async () => {
      const challengeId = await challenge(await settled());
      await expect(asOutsider.answer(challengeId, "ipfs://data"))
        .to.be.revertedWithCustomError(court, "CallerNotOperator")
        .withArgs(1, market.outsider.address);
      const deadline = (await time.latest()) + 5 + TURN;
      await time.setNextBlockTimestamp(deadline - TURN);
      await expect(asOperator.answer(challengeId, "ipfs://data"))
        .to.emit(court, "ChallengeAnswered")
        .withArgs(challengeId, "ipfs://data", deadline);
      await expect(asOperator.answer(challengeId, "ipfs://data"))
        .to.be.revertedWithCustomError(court, "ChallengeStatusUnfit")
        .withArgs(challengeId, ChallengeStatus.Answered);

      await time.increase(TURN + 1);
      await court.close(challengeId);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Rejected);
      expect(await court.bondsOf(market.operator.address)).to.equal(usd(5));
      const { chargeId } = await court.challengeOf(challengeId);
      expect(await market.licet.escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Releasable);
      await market.licet.escrow.release(chargeId);
      await drained();
    });

    it("isn't enough where a proof could decide it", async () => {
      const batch = await settled();
      const challengeId = await challenge(batch, true);
      await expect(asOperator.answer(challengeId, "ipfs://data"))
        .to.be.revertedWithCustomError(court, "ProofNeeded")
        .withArgs(challengeId, receiptDigest(await domainOf(market), batch.signed[0].receipt));
    });
  });

  describe("answerWithProof", () => {
    const provable = async () => {
      const batch = await settled();
      const { receipt } = batch.signed[0];
      const receiptHash = receiptDigest(await domainOf(market), receipt);
      return {
        batch,
        challengeId: await challenge(batch, true),
        receipt,
        receiptHash,
        proof: proofOf(receipt, receiptHash),
      };
    };

    it("releases the charge at once and earns the operator the bond, whoever sends it", async () => {
      const { challengeId, receipt, receiptHash, proof } = await provable();
      const sent = asOutsider.answerWithProof(challengeId, receipt, proof);
      await expect(sent).to.emit(court, "ChallengeProven").withArgs(challengeId, receiptHash);
      await expect(sent).to.emit(court, "ChallengeResolved").withArgs(challengeId, ChallengeStatus.Rejected);
      const { chargeId } = await court.challengeOf(challengeId);
      await market.licet.escrow.release(chargeId);
      expect(await court.isProven(chargeId)).to.equal(true);
      expect(await court.bondsOf(market.operator.address)).to.equal(usd(5));
      await drained();
    });

    it("refuses another receipt, another's proof, and a malformed one", async () => {
      const { challengeId, receipt, receiptHash, proof } = await provable();
      const other = { ...receipt, responseHash: id("another answer") };
      await expect(asOperator.answerWithProof(challengeId, other, proof))
        .to.be.revertedWithCustomError(court, "ReceiptNotChallenged")
        .withArgs(receiptDigest(await domainOf(market), other), receiptHash);
      await expect(asOperator.answerWithProof(challengeId, receipt, proofOf(receipt, receiptHash, id("other weights"))))
        .to.be.revertedWithCustomError(court, "ProofInvalid")
        .withArgs(receiptHash);
      await expect(asOperator.answerWithProof(challengeId, receipt, "0x12")).to.be.reverted;
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Open);
    });

    it("comes too late after the turn, and answers nothing where no receipt is doubted", async () => {
      const { challengeId, receipt, proof } = await provable();
      await time.increase(TURN + 1);
      await expect(asOperator.answerWithProof(challengeId, receipt, proof)).to.be.revertedWithCustomError(
        court,
        "TurnOver",
      );
      const batch = await settled({ sequence: 2n });
      const whole = await challenge(batch);
      await expect(asOperator.answerWithProof(whole, batch.signed[0].receipt, proof)).to.be.revertedWithCustomError(
        court,
        "ReceiptNotChallenged",
      );
      await court.close(challengeId);
      await expect(asOperator.answerWithProof(challengeId, receipt, proof))
        .to.be.revertedWithCustomError(court, "ChallengeStatusUnfit")
        .withArgs(challengeId, ChallengeStatus.Upheld);
    });
  });

  describe("arbitration", () => {
    it("costs the loser its fee: the challenger's side", async () => {
      const challengeId = await disputed(await settled());
      await ruled(Side.Operator);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Rejected);
      expect(await court.feesOf(market.operator.address)).to.equal(FEE);
      expect(await court.bondsOf(market.operator.address)).to.equal(usd(5));
      await drained();
    });

    it("costs the loser its fee: the operator's side, with its stake", async () => {
      const before = await balanceOf();
      const staked = await stake();
      const challengeId = await disputed(await settled());
      await ruled(Side.Challenger);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Upheld);
      expect(await court.feesOf(market.licensee.address)).to.equal(FEE);
      expect(await balanceOf()).to.equal(before);
      expect(await stake()).to.equal(staked - usd(5));
      await drained();
    });

    it("that refuses to rule, or is silent, costs nobody stake: fees are halved and bonds returned", async () => {
      const staked = await stake();
      const challengeId = await disputed(await settled());
      await ruled(Side.None);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Undecided);
      const silent = await disputed(await settled({ sequence: 2n }));
      await expect(court.close(silent)).to.be.revertedWithCustomError(court, "TurnRunning");
      await time.increase(RULING + 1);
      await court.close(silent);
      expect(await statusOf(silent)).to.equal(ChallengeStatus.Undecided);
      expect(await stake()).to.equal(staked);
      expect(await court.feesOf(market.licensee.address)).to.equal(FEE);
      expect(await court.feesOf(market.operator.address)).to.equal(FEE);
      expect(await court.bondsOf(market.licensee.address)).to.equal(usd(10));

      // A ruling that comes after that changes nothing.
      await market.arbitrator.giveRuling(1, Side.Challenger);
      await time.increase(TURN);
      await expect(market.arbitrator.executeRuling(1))
        .to.emit(court, "Ruling")
        .withArgs(await market.arbitrator.getAddress(), 1, Side.Challenger);
      expect(await statusOf(silent)).to.equal(ChallengeStatus.Undecided);
      await drained();
    });

    it("begins when both have paid, and gives back what is above the fee", async () => {
      const challengeId = await answered(await settled());
      await expect(asOutsider.escalate(challengeId, { value: FEE }))
        .to.be.revertedWithCustomError(court, "CallerNotChallenger")
        .withArgs(challengeId, market.outsider.address);
      await expect(asLicensee.escalate(challengeId, { value: FEE - 1n }))
        .to.be.revertedWithCustomError(court, "FeeTooSmall")
        .withArgs(FEE - 1n, FEE);
      const deadline = (await time.latest()) + 5 + TURN;
      await time.setNextBlockTimestamp(deadline - TURN);
      await expect(asLicensee.escalate(challengeId, { value: FEE + 7n }))
        .to.emit(court, "ChallengeEscalated")
        .withArgs(challengeId, FEE, deadline);
      expect(await court.feesOf(market.licensee.address)).to.equal(7);
      const { arbitrator } = market;
      const paid = asOutsider.payFee(challengeId, { value: FEE });
      await expect(paid)
        .to.emit(court, "Dispute")
        .withArgs(await arbitrator.getAddress(), 0, 0, challengeId);
      await expect(paid)
        .to.emit(arbitrator, "DisputeCreation")
        .withArgs(0, await court.getAddress());
      expect(structOf(await court.arbitrationOf(challengeId))).to.deep.equal({
        disputeId: 0n,
        pool: FEE,
        appealPool: 0n,
        appellant: 0n,
      });
    });

    it("isn't reached by an operator that doesn't pay: the challenger wins, its fee comes back", async () => {
      const challengeId = await escalated(await settled());
      await time.increase(TURN + 1);
      await expect(asOperator.payFee(challengeId, { value: FEE })).to.be.revertedWithCustomError(court, "TurnOver");
      await court.close(challengeId);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Upheld);
      expect(await court.feesOf(market.licensee.address)).to.equal(FEE);
      await drained();
    });

    it("takes rulings from the dispute's arbitrator alone", async () => {
      await disputed(await settled());
      await expect(asOutsider.rule(0, 1))
        .to.be.revertedWithCustomError(court, "CallerNotArbitrator")
        .withArgs(0, market.outsider.address);
    });

    it("hears evidence of both sides alone, until it is decided", async () => {
      const challengeId = await disputed(await settled());
      const arbitrator = await market.arbitrator.getAddress();
      await expect(asOperator.submitEvidence(challengeId, "ipfs://more"))
        .to.emit(court, "Evidence")
        .withArgs(arbitrator, challengeId, market.operator.address, "ipfs://more");
      await expect(asLicensee.submitEvidence(challengeId, "ipfs://else"))
        .to.emit(court, "Evidence")
        .withArgs(arbitrator, challengeId, market.licensee.address, "ipfs://else");
      await expect(asOutsider.submitEvidence(challengeId, "ipfs://spam"))
        .to.be.revertedWithCustomError(court, "CallerNotParty")
        .withArgs(challengeId, market.outsider.address);
      await ruled(Side.Operator);
      await expect(asOperator.submitEvidence(challengeId, "ipfs://late"))
        .to.be.revertedWithCustomError(court, "ChallengeStatusUnfit")
        .withArgs(challengeId, ChallengeStatus.Rejected);
    });
  });

  describe("appeals", () => {
    const appealable = async (ruling: number) => {
      const challengeId = await disputed(await settled());
      const { arbitrator } = market;
      await expect(arbitrator.giveRuling(0, ruling))
        .to.emit(arbitrator, "AppealPossible")
        .withArgs(0, await court.getAddress());
      return challengeId;
    };

    it("are made when both have paid, and the last ruling counts", async () => {
      const challengeId = await appealable(Side.Challenger);
      await expect(asOperator.payAppeal(challengeId, Side.Operator, { value: FEE }))
        .to.emit(court, "AppealPaid")
        .withArgs(challengeId, Side.Operator, FEE);
      await expect(asOperator.payAppeal(challengeId, Side.Operator, { value: FEE }))
        .to.be.revertedWithCustomError(court, "AppealPaidBefore")
        .withArgs(challengeId, Side.Operator);
      const { arbitrator } = market;
      await expect(asLicensee.payAppeal(challengeId, Side.Challenger, { value: FEE }))
        .to.emit(arbitrator, "AppealDecision")
        .withArgs(0, await court.getAddress());
      await ruled(Side.Operator);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Rejected);
      expect(await court.feesOf(market.operator.address)).to.equal(2n * FEE);
      await drained();
    });

    it("that one side alone has paid are won by it", async () => {
      const challengeId = await appealable(Side.Challenger);
      await asOperator.payAppeal(challengeId, Side.Operator, { value: FEE });
      await time.increase(TURN);
      await market.arbitrator.executeRuling(0);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Rejected);
      expect(await court.feesOf(market.operator.address)).to.equal(2n * FEE);
      await drained();
    });

    it("that nobody followed come back when the arbitrator falls silent", async () => {
      const challengeId = await appealable(Side.Challenger);
      await asOperator.payAppeal(challengeId, Side.Operator, { value: FEE });
      await time.increase(RULING + 1);
      await court.close(challengeId);
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Undecided);
      expect(await court.feesOf(market.operator.address)).to.equal(FEE + FEE / 2n);
      expect(await court.feesOf(market.licensee.address)).to.equal(FEE / 2n);
      await drained();
    });

    it("are anybody's in the first half of the time where nobody is losing, and then the other side's", async () => {
      const challengeId = await appealable(Side.None);
      await time.increase(DAY + 1);
      await expect(asOperator.payAppeal(challengeId, Side.Operator, { value: FEE })).to.be.revertedWithCustomError(
        court,
        "AppealClosed",
      );
    });

    it("are the losing side's in the first half of the time only", async () => {
      const challengeId = await appealable(Side.Challenger);
      await expect(asOperator.payAppeal(challengeId, Side.None, { value: FEE })).to.be.revertedWithCustomError(
        court,
        "AppealPaidBefore",
      );
      await time.increase(DAY + 1);
      const [start, end] = await market.arbitrator.appealPeriod(0);
      await expect(asOperator.payAppeal(challengeId, Side.Operator, { value: FEE }))
        .to.be.revertedWithCustomError(court, "AppealClosed")
        .withArgs(challengeId, start, (start + end) / 2n);
      await asLicensee.payAppeal(challengeId, Side.Challenger, { value: FEE });
      await time.increase(DAY);
      await expect(asLicensee.payAppeal(challengeId, Side.Operator, { value: FEE })).to.be.revertedWithCustomError(
        court,
        "AppealClosed",
      );
    });
  });

  describe("signed requests", () => {
    /** Settles two signed requests of the license's, in an epoch from which signing is demanded on. */
    const demanded = async (count = 2) => {
      const grant = await keyedGrant(market, licenseId);
      await asLicensee.demandSigning(licenseId, true);
      await time.increase(3 * HOUR);
      const proofs = [];
      for (let i = 0; i < count; i++) {
        const hashes = { requestHash: id(`asked ${i}`), requestId: id(`request ${i}`) };
        proofs.push(await signedRequest(market, grant, { sequence: BigInt(i + 1), ...hashes }));
      }
      await time.increase(1);
      const domain = await domainOf(market);
      const batch = await settleReceipts(
        market,
        proofs.map(({ receipt }) => signReceipt(domain, receipt)),
      );
      proofs.sort((a, b) => (a.receipt.requestSignatureHash < b.receipt.requestSignatureHash ? -1 : 1));
      return { batch, grant, proofs, challengeId: await challenge(batch) };
    };

    it("are demanded by the license's owner, from an hour ahead on, until it is another's", async () => {
      await expect(asOutsider.demandSigning(licenseId, true)).to.be.revertedWithCustomError(court, "CallerNotOwner");
      const at = (await time.latest()) + 5;
      await time.setNextBlockTimestamp(at);
      await expect(asLicensee.demandSigning(licenseId, true))
        .to.emit(court, "SigningDemanded")
        .withArgs(licenseId, at + HOUR);
      await asLicensee.demandSigning(licenseId, true);
      expect(await court.signedSince(licenseId)).to.equal(at + HOUR);
      await asLicensee.demandSigning(licenseId, false);
      expect(await court.signedSince(licenseId)).to.equal(0);

      await asLicensee.demandSigning(licenseId, true);
      const { escrow, licenses } = market.licet;
      await escrow.connect(market.licensee).lock(licenseId);
      await time.increase(10 * DAY);
      await licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, licenseId);
      expect(await court.signedSince(licenseId)).to.equal(0);
    });

    it("must all be shown before the operator can answer", async () => {
      const { challengeId, proofs } = await demanded();
      expect((await court.challengeOf(challengeId)).signed).to.equal(true);
      const one = [1, 999_900, 0, 0, 0];
      const both = [2, 2 * 999_900, 0, 0, 0];
      await asOperator.showRequests(challengeId, proofs.slice(0, 1));
      await expect(asOperator.answer(challengeId, "ipfs://data"))
        .to.be.revertedWithCustomError(court, "RequestsNotShown")
        .withArgs(one, both);
      await expect(asOperator.showRequests(challengeId, proofs.slice(1)))
        .to.emit(court, "RequestsShown")
        .withArgs(challengeId, both);
      await asOperator.answer(challengeId, "ipfs://data");
      expect(await statusOf(challengeId)).to.equal(ChallengeStatus.Answered);
    });

    it("can be shown anew, so that nobody's order of them stands in the way", async () => {
      const { challengeId, proofs } = await demanded();
      await asOperator.showRequests(challengeId, proofs.slice(1));
      await asOperator.showRequests(challengeId, proofs);
      expect((await court.challengeOf(challengeId)).shown.requests).to.equal(2);
      await asOperator.answer(challengeId, "ipfs://data");
    });

    it("are still shown when the license has another owner since, or its owner's account other code", async () => {
      const { challengeId, proofs } = await demanded();
      await setCode(market.licensee.address, "0x60006000fd");
      await asOperator.showRequests(challengeId, proofs);
      await setCode(market.licensee.address, "0x");
    });

    it("count once, whatever receipts say that they led to", async () => {
      const { challengeId, proofs, batch } = await demanded();
      const [first] = proofs;
      await asOperator.showRequests(challengeId, [first]);
      const receipt = { ...first.receipt, sequence: 9n, requestId: id("again") };
      const again = { ...first, ...signReceipt(await domainOf(market), receipt) };
      const { requestSignatureHash } = first.receipt;
      await expect(asOperator.showRequests(challengeId, [first, again]))
        .to.be.revertedWithCustomError(court, "RequestsOutOfOrder")
        .withArgs(requestSignatureHash, requestSignatureHash);
      const many = { ...first, ...signReceipt(await domainOf(market), { ...first.receipt, requests: 2n }) };
      await expect(asOperator.showRequests(challengeId, [many]))
        .to.be.revertedWithCustomError(court, "ReceiptOfMany")
        .withArgs(2);
      const unsigned = { ...first, receipt: { ...first.receipt, outputTokens: 7n } };
      await expect(asOperator.showRequests(challengeId, [unsigned])).to.be.revertedWithCustomError(
        court,
        "ReceiptNotSigned",
      );
      expect(batch.header.requests).to.equal(2n);
    });

    it("are refused of another key, grant, owner, request or time, and beyond what the entry says", async () => {
      const { challengeId, proofs, grant } = await demanded();
      const [first] = proofs;
      const { receipt } = first;
      const domain = await domainOf(market);
      const receiptHash = receiptDigest(domain, receipt);
      const show = (proof: typeof first) => asOperator.showRequests(challengeId, [proof]);

      await expect(show({ ...first, at: first.at - 1 }))
        .to.be.revertedWithCustomError(court, "RequestNotSigned")
        .withArgs(receiptHash, grant.grant.key);
      await expect(show({ ...first, at: first.at + DAY }))
        .to.be.revertedWithCustomError(court, "RequestOutOfEpoch")
        .withArgs(receiptHash, first.at + DAY);
      await expect(
        show({ ...first, receipt: { ...receipt, requestHash: id("never asked") } }),
      ).to.be.revertedWithCustomError(court, "RequestNotSigned");
      await expect(
        show({ ...first, receipt: { ...receipt, finishedAt: receipt.finishedAt - DAY } }),
      ).to.be.revertedWithCustomError(court, "ReceiptNotOfEntry");
      const above = { ...first, ...signReceipt(domain, { ...receipt, inputTokens: 2n ** 32n - 1n }) };
      await expect(show(above))
        .to.be.revertedWithCustomError(court, "RequestsAboveEntry")
        .withArgs([1, 2n ** 32n - 1n, 0, 0, 0], [2, 2 * 999_900, 0, 0, 0]);
      await expect(show({ ...first, grantSignature: first.requestSignature }))
        .to.be.revertedWithCustomError(court, "GrantNotSigned")
        .withArgs(grant.grantHash, market.licensee.address);
      const bearer = await keyedGrant(market, licenseId, { key: "0x0000000000000000000000000000000000000000" });
      await expect(show({ ...first, grant: bearer.grant }))
        .to.be.revertedWithCustomError(court, "GrantNotOfReceipt")
        .withArgs(bearer.grantHash, grant.grantHash);
      const unkeyed = { ...first, grant: bearer.grant, receipt: { ...receipt, grantHash: bearer.grantHash } };
      await expect(show(unkeyed)).to.be.revertedWithCustomError(court, "GrantWithoutKey").withArgs(bearer.grantHash);
      const stranger = await signedRequest(market, grant, {}, { key: new Wallet(id("stranger")), at: first.at });
      const { finishedAt } = receipt;
      await expect(show({ ...stranger, receipt: { ...stranger.receipt, finishedAt } })).to.be.revertedWithCustomError(
        court,
        "RequestNotSigned",
      );
    });

    it("aren't asked of epochs before they were demanded", async () => {
      const batch = await settled();
      await asLicensee.demandSigning(licenseId, true);
      const challengeId = await challenge(batch);
      expect((await court.challengeOf(challengeId)).signed).to.equal(false);
      await asOperator.answer(challengeId, "ipfs://data");
    });

    describe("proven ahead", () => {
      const proofsFor = async (proofs: Awaited<ReturnType<typeof demanded>>["proofs"]) => {
        const domain = await domainOf(market);
        return proofs.map(({ receipt }) => proofOf(receipt, receiptDigest(domain, receipt)));
      };
      const unchallenged = async () => {
        const grant = await keyedGrant(market, licenseId);
        await time.increase(HOUR);
        const proof = await signedRequest(market, grant);
        await time.increase(1);
        const batch = await settleReceipts(market, [signReceipt(await domainOf(market), proof.receipt)]);
        return { batch, proofs: [proof] };
      };

      it("leave a quarter of the hold", async () => {
        const { batch, proofs } = await unchallenged();
        const { releasableAt } = await market.licet.escrow.batchOf(batch.batchId);
        const chargeId = await chargeIdOf(batch);
        const at = (await time.latest()) + 100;
        const quarter = BigInt(at) + (releasableAt - BigInt(at)) / 4n;
        await time.setNextBlockTimestamp(at);
        await expect(reports.proveCharge(entryIn(batch, licenseId), proofs, await proofsFor(proofs)))
          .to.emit(reports, "ChargeProven")
          .withArgs(chargeId, licenseId, quarter);
        expect((await market.licet.escrow.batchOf(chargeId)).releasableAt).to.equal(quarter);
        expect(await reports.isProven(chargeId)).to.equal(true);
        await expect(reports.proveCharge(entryIn(batch, licenseId), proofs, await proofsFor(proofs)))
          .to.be.revertedWithCustomError(reports, "ChargeProvenBefore")
          .withArgs(chargeId);
        // What is left of the hold, its licensee can still use.
        await challenge(batch);
      });

      it("need a proof for each receipt, and all receipts", async () => {
        const { batch, proofs } = await unchallenged();
        const entry = entryIn(batch, licenseId);
        await expect(reports.proveCharge(entry, proofs, []))
          .to.be.revertedWithCustomError(reports, "ProofsMismatch")
          .withArgs(1, 0);
        await expect(reports.proveCharge(entry, [], [])).to.be.revertedWithCustomError(court, "RequestsNotShown");
        await expect(reports.proveCharge(entry, proofs, [ZeroHash])).to.be.revertedWithCustomError(
          reports,
          "ProofInvalid",
        );
      });
    });
  });

  describe("what it needs", () => {
    it("is a turn of an hour to two weeks, and a bond", async () => {
      const { reports } = market.licet;
      const deploy = (turn: number, bond: bigint) =>
        new DisputeCourt__factory(market.outsider).deploy(reports, turn, bond, "ipfs://meta");
      for (const turn of [HOUR - 1, 14 * DAY + 1]) {
        await expect(deploy(turn, 1n))
          .to.be.revertedWithCustomError(court, "PeriodOutOfRange")
          .withArgs(turn, HOUR, 14 * DAY);
      }
      await expect(deploy(HOUR, 0n)).to.be.revertedWithCustomError(court, "BondZero");
      const another = await deploy(14 * DAY, 1n);
      await expect(another.deploymentTransaction()).to.emit(another, "MetaEvidence").withArgs(0, "ipfs://meta");
    });

    it("is an arbitrator, to escalate, and a verifier, to prove", async () => {
      const plain = { ...market, planId: 1, versionId: market.versionId - 1n };
      const ofPlain = await buyLicense(plain, usd(100));
      await time.increase(HOUR);
      const changes = { planId: 1, manifestHash: id("manifest") };
      const signed = signReceipt(await domainOf(market), await receiptOf(market, ofPlain, changes));
      await time.increase(1);
      const batch = await settleReceipts(plain, [signed]);
      await asLicensee.challenge(entryIn(batch, ofPlain), signed, "");
      const receiptHash = receiptDigest(await domainOf(market), signed.receipt);
      await expect(asOperator.answerWithProof(1, signed.receipt, proofOf(signed.receipt, receiptHash)))
        .to.be.revertedWithCustomError(court, "VerifierNone")
        .withArgs(receiptHash);
      await asOperator.answer(1, "ipfs://data");
      await expect(asLicensee.escalate(1, { value: FEE }))
        .to.be.revertedWithCustomError(court, "ArbitratorNone")
        .withArgs(1);
    });

    it("is the whole bond, and a number of its own for each dispute", async () => {
      const first = await escalated(await settled());
      await asOperator.payFee(first, { value: FEE });
      const second = await escalated(await settled({ sequence: 2n }));
      const { arbitrator } = market;
      const address = await arbitrator.getAddress();
      // An arbitrator that forgets its cases gives their numbers again.
      await setStorageAt(address, 1, 0);
      await expect(asOperator.payFee(second, { value: FEE }))
        .to.be.revertedWithCustomError(court, "DisputeTaken")
        .withArgs(address, 0);

      const batch = await settled({ sequence: 3n });
      const { currency } = market.licet;
      await setCode(
        await currency.getAddress(),
        (await hre.artifacts.readArtifact("FeeOnTransferCurrency")).deployedBytecode,
      );
      await FeeOnTransferCurrency__factory.connect(await currency.getAddress(), market.outsider).takeToll(1);
      await expect(asLicensee.challenge(entryIn(batch, licenseId), NO_RECEIPT, ""))
        .to.be.revertedWithCustomError(court, "TransferIncomplete")
        .withArgs(usd(5), usd(5) - 1n);
    });
  });

  describe("withdrawals", () => {
    it("are for those who have something there", async () => {
      await expect(asOutsider.withdrawBonds(market.outsider.address))
        .to.be.revertedWithCustomError(court, "WithdrawalEmpty")
        .withArgs(market.outsider.address);
      await expect(asOutsider.withdrawFees(market.outsider.address))
        .to.be.revertedWithCustomError(court, "WithdrawalEmpty")
        .withArgs(market.outsider.address);
    });

    it("send what is the caller's, where it wants it", async () => {
      const challengeId = await answered(await settled());
      await asLicensee.escalate(challengeId, { value: FEE });
      await time.increase(TURN + 1);
      await court.close(challengeId);
      const { licensee, outsider, licet } = market;
      const bonds = asLicensee.withdrawBonds(outsider.address);
      await expect(bonds).to.emit(court, "BondsWithdrawn").withArgs(licensee.address, outsider.address, usd(5));
      await expect(bonds).to.changeTokenBalances(licet.currency, [court, outsider], [-usd(5), usd(5)]);
      const fees = asLicensee.withdrawFees(outsider.address);
      await expect(fees).to.emit(court, "FeesWithdrawn").withArgs(licensee.address, outsider.address, FEE);
      await expect(fees).to.changeEtherBalances([court, outsider], [-FEE, FEE]);
    });
  });

  it("has no status of what was never challenged", async () => {
    for (const call of [
      asOperator.answer(7, ""),
      asLicensee.escalate(7),
      court.close(7),
      asOperator.submitEvidence(7, ""),
    ]) {
      await expect(call).to.be.revertedWithCustomError(court, "ChallengeStatusUnfit").withArgs(7, ChallengeStatus.None);
    }
  });

  it("charges entries that weren't charged in full only what they were", async () => {
    const batch = await settled({ inputTokens: usd(150) });
    const chargeId = await chargeIdOf(batch);
    await challenge(batch);
    expect((await market.licet.escrow.batchOf(chargeId)).charged).to.equal(usd(100));
  });
});
