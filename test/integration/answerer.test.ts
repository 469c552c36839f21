/** An operator's answerer before the courts themselves. */
import { loadFixture, mine, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, parseEther, Wallet } from "ethers";
import { ethers, network } from "hardhat";
import { AnsweringBench } from "../support/answering";
import { ChallengeStatus, deployCourtMarket, proofOf, RULING, Side, TURN } from "../support/court";
import { BatchStatus, HOUR, usd } from "../support/market";

describe("an operator that sleeps", function () {
  this.timeout(120_000);

  let bench: AnsweringBench;
  afterEach(() => bench.store.close());

  const start = async (changes: Parameters<typeof AnsweringBench.start>[1] = {}) => {
    const market = await loadFixture(deployCourtMarket);
    bench = await AnsweringBench.start(market, changes);
    return market;
  };
  const errors = () => bench.lines.filter(({ level }) => level === "error").map(({ cause }) => cause?.message ?? "");

  it("has a challenge of a whole entry answered with data, and closed when nobody escalates it: the bond is its owner's", async () => {
    const { licet, licenseId, operator } = await start();
    const batch = await bench.settle(licenseId, [{}, {}, {}]);
    const challengeId = await bench.challenge(batch, licenseId);
    await bench.answerer.answerDue();
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Answered);
    const [{ args }] = await licet.court.queryFilter(licet.court.filters.ChallengeAnswered(challengeId));
    expect(decodeURIComponent(args.uri)).to.contain(`License ${licenseId} in batch ${batch.batchId}`);

    await time.increase(TURN + 1);
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Rejected);
    expect(await licet.court.bondsOf(operator.address)).to.equal(usd(5));
    const { chargeId } = await licet.court.challengeOf(challengeId);
    expect(await licet.escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Releasable);
    await bench.answerer.answerDue();
    expect(await bench.store.disputes.overUpTo()).to.equal(challengeId);
    expect(errors()).to.deep.equal([]);
  });

  it("has all requests shown first where the license demands that they are signed", async () => {
    const { licet, licenseId, licensee } = await start();
    await licet.court.connect(licensee).demandSigning(licenseId, true);
    await time.increase(3 * HOUR);
    const batch = await bench.settle(licenseId, Array(60).fill({ isSigned: true }));
    const challengeId = await bench.challenge(batch, licenseId);
    for (const shown of [50n, 60n]) {
      await bench.answerer.answerDue();
      expect((await licet.court.challengeOf(challengeId)).shown.requests, JSON.stringify(bench.lines)).to.equal(shown);
    }
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Open);
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Answered);
    expect(errors()).to.deep.equal([]);
  });

  it("has a doubted receipt proven where the version names a verifier: it is decided at once", async () => {
    const prove = async ({ receipt, receiptHash }: { receipt: object; receiptHash: string }) =>
      proofOf(receipt as never, receiptHash);
    const market = await loadFixture(deployCourtMarket);
    bench = await AnsweringBench.start(market, { provers: new Map([[market.versionId, { prove }]]) });
    const { licenseId } = market;
    const batch = await bench.settle(licenseId, [{ input: [1, 2] }, { input: [3, 4] }]);
    const challengeId = await bench.challenge(batch, licenseId, batch.signed[1]);
    await bench.answerer.answerDue();
    await bench.answerer.idle();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Rejected);
  });

  it("answers nothing that its own records don't support, and loses no stake for it", async () => {
    const { licet, licenseId } = await start();
    const batch = await bench.settle(licenseId, [{}, {}]);
    const challengeId = await bench.challenge(batch, licenseId);
    const staked = (await licet.staking.poolOf(1)).active;
    await bench.store.close();
    bench = await AnsweringBench.start(bench.market);
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Open);
    expect(errors()[0]).to.contain(`0 receipts of license ${licenseId} in batch ${batch.batchId}`);
    await time.increase(TURN + 1);
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Open);
    await licet.court.close(challengeId);
    await bench.answerer.answerDue();
    expect((await licet.staking.poolOf(1)).active).to.equal(staked);
    expect(bench.lines.at(-1)?.message).to.equal("Challenge is lost: the charge went back");
  });

  it("pays its side of an escalated challenge, and of an appeal, and closes it when the arbitrator stays silent", async () => {
    const { licet, licenseId, licensee, arbitrator, operator } = await start();
    const batch = await bench.settle(licenseId, [{}]);
    const challengeId = await bench.challenge(batch, licenseId);
    await bench.answerer.answerDue();
    const fee = { value: parseEther("0.1") };
    await licet.court.connect(licensee).escalate(challengeId, fee);
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Disputed);

    await arbitrator.giveRuling(0, Side.Operator);
    await licet.court.connect(licensee).payAppeal(challengeId, Side.Challenger, fee);
    await bench.answerer.answerDue();
    expect((await arbitrator.cases(0)).status).to.equal(0n);

    await time.increase(RULING + 1);
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Undecided);
    expect(await licet.court.feesOf(operator.address)).to.equal(parseEther("0.1"));
    expect(errors()).to.deep.equal([]);
  });

  it("pays no fee above what is allowed", async () => {
    const { licet, licenseId, licensee } = await start({ maxFee: parseEther("0.099") });
    const batch = await bench.settle(licenseId, [{}]);
    const challengeId = await bench.challenge(batch, licenseId);
    await bench.answerer.answerDue();
    await licet.court.connect(licensee).escalate(challengeId, { value: parseEther("0.1") });
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Escalated);
    expect(errors()[0]).to.contain("100000000000000000 wei, and disputes.maxFee allows 99000000000000000");
  });

  it("has its answer sent again where the chain has undone it", async () => {
    const { licenseId } = await start();
    const batch = await bench.settle(licenseId, [{}]);
    const challengeId = await bench.challenge(batch, licenseId);
    const before: unknown = await network.provider.send("evm_snapshot");
    await bench.answerer.answerDue();
    await bench.sender.tend();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Answered);
    await network.provider.send("evm_revert", [before]);
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Open);
    for (let i = 0; i < 6; i++) {
      await mine();
      await bench.answerer.answerDue();
      await bench.sender.tend();
    }
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Answered);
    expect(bench.lines.map(({ message }) => message)).to.include.members([
      "The chain has undone a transaction that was final: it is sent again",
    ]);
  });

  it("pays a fee once where two settlers of one store come at the same time, each with an account of its own", async () => {
    const { licet, licenseId, licensee, arbitrator } = await start();
    const other = await AnsweringBench.start(bench.market, {}, bench.store, new Wallet(id("another settler")));
    const batch = await bench.settle(licenseId, [{}]);
    const challengeId = await bench.challenge(batch, licenseId);
    await bench.answerer.answerDue();
    await licet.court.connect(licensee).escalate(challengeId, { value: parseEther("0.1") });
    await network.provider.send("evm_setAutomine", [false]);
    try {
      await Promise.all([bench, other].map(({ answerer }) => answerer.answerDue()));
      await mine();
    } finally {
      await network.provider.send("evm_setAutomine", [true]);
    }
    await Promise.all([bench, other].map(({ answerer }) => answerer.answerDue()));
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Disputed);
    const held = await Promise.all([arbitrator, licet.court].map((one) => ethers.provider.getBalance(one)));
    expect(held).to.deep.equal([parseEther("0.1"), parseEther("0.1")]);
    expect(errors()).to.deep.equal([]);
  });

  it("leaves others' challenges alone", async () => {
    const { licenseId, licet } = await start();
    const batch = await bench.settle(licenseId, [{}]);
    const challengeId = await bench.challenge(batch, licenseId);
    const market = bench.market;
    await bench.store.close();
    await licet.operators.connect(market.outsider).register("http://127.0.0.1:9", "ipfs://another");
    bench = await AnsweringBench.start(market, { operatorId: 2 });
    await bench.answerer.answerDue();
    expect(await bench.statusOf(challengeId)).to.equal(ChallengeStatus.Open);
    expect(bench.lines).to.deep.equal([]);
  });
});
