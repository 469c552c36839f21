import { time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, ZeroHash } from "ethers";
import hre from "hardhat";
import { deployInferenceVerifier } from "../../deploy/inferenceVerifier";
import { receiptDigest } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import { publicInputsOf, type Statement } from "../../zk/circuit";
import { contextOf, weightsCommitment } from "../../zk/commitments";
import type { Model } from "../../zk/network";
import { prove } from "../../zk/prover";
import {
  ChallengeStatus,
  courtMarketOf,
  entryIn,
  receiptOf,
  settleReceipts,
  signReceipt,
  TURN,
  type CourtMarket,
  type SettledBatch,
} from "../support/court";
import { digits, digitsKit, digitsModel, networkOf, statementOf } from "../support/digits";
import { BatchStatus, deployMarket, domainOf, HOUR, usd } from "../support/market";

describe("a doubted classification", function () {
  this.timeout(300_000);

  let market: CourtMarket;
  let number = 0n;

  before(async () => {
    const plain = await deployMarket();
    const { verifier } = await deployInferenceVerifier(hre.artifacts, plain.deployer);
    const weights = weightsCommitment(digitsModel());
    market = await courtMarketOf(plain, { verifier: await verifier.getAddress(), weights });
  });

  const court = () => market.licet.court;
  /** What a network answers to the `i`-th digit that was held out. */
  const asked = (i: number, model: Model = digitsModel()): Statement =>
    statementOf({ model, input: digits().heldOut[i].input, grantSalt: id(`grant ${i}`), context: ZeroHash });

  /** Serves a digit by the statement's network, settles its receipt, and has the licensee challenge it. */
  const challenged = async (statement: Statement) => {
    await time.increase(HOUR);
    const { requestHash, responseHash } = publicInputsOf(statement);
    const hashes = { requestHash, responseHash, requestId: id(`request ${number}`) };
    const receipt = await receiptOf(market, market.licenseId, { sequence: ++number, ...hashes });
    await time.increase(1);
    const domain = await domainOf(market);
    const batch = await settleReceipts(market, [signReceipt(domain, receipt)]);
    await court().connect(market.licensee).challenge(entryIn(batch, market.licenseId), batch.signed[0], "");
    return { batch, receipt, challengeId: await court().challengeCount(), receiptHash: receiptDigest(domain, receipt) };
  };
  const proofFor = async (statement: Statement, receiptHash: string) =>
    (await prove(await digitsKit(), { ...statement, context: contextOf(receiptHash) })).proof;
  const answer = (challengeId: bigint, receipt: Receipt, proof: string) =>
    court().connect(market.operator).answerWithProof(challengeId, receipt, proof);
  const chargeOf = async ({ header, entries, outcomes }: SettledBatch) =>
    (await market.licet.escrow.chargeOf(header, entries, outcomes, market.licenseId)).chargeId;

  it("is proven for at most 950,000 gas, released at once, and earns its operator the bond", async () => {
    const statement = asked(0);
    const { batch, receipt, challengeId, receiptHash } = await challenged(statement);
    const proof = await proofFor(statement, receiptHash);
    const before = await court().bondsOf(market.operator.address);
    const { gasUsed } = (await (await answer(challengeId, receipt, proof)).wait())!;
    expect(Number(gasUsed)).to.be.at.most(950_000);
    expect((await court().challengeOf(challengeId)).status).to.equal(ChallengeStatus.Rejected);
    expect((await court().bondsOf(market.operator.address)) - before).to.equal(usd(5));
    const chargeId = await chargeOf(batch);
    expect(await market.licet.escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Releasable);
    expect(await court().isProven(chargeId)).to.equal(true);
    await market.licet.escrow.release(chargeId);
  });

  it("by other weights can't be proven: its licensee is made whole, unit by unit, and the operator pays", async () => {
    const { escrow, staking } = market.licet;
    const balance = async () => (await escrow.accountOf(market.licenseId)).balance;
    const [before, staked] = [await balance(), (await staking.poolOf(1)).active];
    const { network } = digitsModel();
    const cheap: Model = {
      ...digitsModel(),
      network: networkOf(
        network,
        (i) => (i % 3) - 1,
        () => 0,
      ),
    };
    const statement = asked(1, cheap);
    const { receipt, challengeId, receiptHash } = await challenged(statement);
    expect(await balance()).to.equal(before - usd(1));

    // A true proof of its own network, one of the registered network, and one of another answer's receipt.
    for (const proof of [
      await proofFor(statement, receiptHash),
      await proofFor(asked(1), receiptHash),
      await proofFor(asked(1), id("another receipt")),
    ]) {
      await expect(answer(challengeId, receipt, proof)).to.be.reverted;
    }
    await expect(court().connect(market.operator).answer(challengeId, "ipfs://excuses"))
      .to.be.revertedWithCustomError(court(), "ProofNeeded")
      .withArgs(challengeId, receiptHash);

    await time.increase(TURN + 1);
    await court().close(challengeId);
    expect((await court().challengeOf(challengeId)).status).to.equal(ChallengeStatus.Upheld);
    expect(await balance()).to.equal(before);
    expect((await staking.poolOf(1)).active).to.equal(staked - usd(5));
    expect(await staking.proceedsOf(market.licensee.address)).to.equal(usd(5));
  });

  it("of one receipt isn't proven by the proof of another, though both asked the same", async () => {
    const statement = asked(2);
    const first = await challenged(statement);
    const second = await challenged(statement);
    const proof = await proofFor(statement, first.receiptHash);
    await expect(answer(second.challengeId, second.receipt, proof)).to.be.reverted;
    await expect(answer(second.challengeId, first.receipt, proof))
      .to.be.revertedWithCustomError(court(), "ReceiptNotChallenged")
      .withArgs(first.receiptHash, second.receiptHash);
    await answer(first.challengeId, first.receipt, proof);
  });
});
