import { expect } from "chai";
import { setCode, time } from "@nomicfoundation/hardhat-network-helpers";
import { getAddress, id, makeError, Wallet } from "ethers";
import hre from "hardhat";
import type { Chain } from "../../oracle/chain/chain";
import { connectChain } from "../../oracle/chain/ethersChain";
import { connectEscrow } from "../../oracle/chain/ethersEscrow";
import { isAnswer } from "../../oracle/chain/smartAccount";
import { chargeIdOf, unpackOutcomes } from "../../oracle/protocol/entries";
import { committeeProof } from "../../oracle/settler/attestorPool";
import { onlyWitness } from "../../oracle/chain/witness";
import { type Call, ChainRefusal, type SettlementEscrow } from "../../oracle/settler/sender";
import {
  addPlan,
  ATTESTORS,
  batchOf,
  buyLicense,
  DAY,
  entryOf,
  freshMarket,
  HOUR,
  proofBy,
  settle,
  usd,
  type Market,
} from "../support/market";

const { provider } = hre.ethers;

describe("connectChain", () => {
  let market: Market;
  let chain: Chain;
  let license: bigint;

  beforeEach(async () => {
    market = await freshMarket();
    license = await buyLicense(market, usd(50), { capCode: 17 });
    chain = await connectChain(provider, {
      escrow: await market.licet.escrow.getAddress(),
      fromBlock: 0,
      clock: "chain",
    });
  });

  it("finds the domain and the periods from the escrow's address", async () => {
    const { name, version, chainId, verifyingContract } = await market.licet.escrow.eip712Domain();
    expect(chain.domain).to.deep.equal({ name, version, chainId, verifyingContract });
    expect([chain.epochPeriod, chain.windowPeriod]).to.deep.equal([DAY, 2 * DAY]);
  });

  it("goes by the next block's time, or by the machine's", async () => {
    await time.increase(3 * HOUR);
    expect(await chain.now()).to.be.closeTo(await time.latest(), 5);
    const { escrow } = market.licet;
    const machine = await connectChain(provider, { escrow: await escrow.getAddress(), fromBlock: 0, clock: "machine" });
    expect(await machine.now()).to.be.closeTo(Date.now() / 1000, 5);
  });

  it("knows since when a license's requests must be signed, where the deployment has a court", async () => {
    const court = getAddress("0x" + "c0".repeat(20));
    // Answers any call with 1700000000.
    await setCode(court, "0x636553f1005f5260205ff3");
    const where = { escrow: await market.licet.escrow.getAddress(), fromBlock: 0, clock: "chain" as const };
    const withCourt = await connectChain(provider, { ...where, court });
    expect((await withCourt.license(license))?.signedSince).to.equal(1_700_000_000);
    expect((await chain.license(license))?.signedSince).to.equal(0);
  });

  describe("license", () => {
    it("tells all about a license", async () => {
      const expiresAt = Number((await market.licet.escrow.accountOf(license)).expiresAt);
      expect(await chain.license(license)).to.deep.equal({
        licenseId: license,
        owner: market.licensee.address,
        planId: 1,
        operatorId: 1,
        generation: 0,
        balance: usd(50),
        thawing: 0n,
        owed: 0n,
        spent: 0n,
        cap: await market.licet.escrow.capOf(17),
        expiresAt,
        countsFrom: 0,
        signedSince: 0,
        renewal: "settled",
        onVoucherRoad: false,
        stop: null,
        serviceChange: null,
        planChange: null,
        formerPlan: null,
      });
    });

    it("is null for one that was never sold", async () => {
      expect(await chain.license(99n)).to.equal(null);
    });

    it("respects a lower cap from its announcement on", async () => {
      const { escrow } = market.licet;
      await escrow.connect(market.licensee).setCap(license, 1);
      expect((await chain.license(license))?.cap).to.equal(await escrow.capOf(1));
    });

    it("shows what thaws, at most the balance that is left", async () => {
      const { escrow } = market.licet;
      await escrow.connect(market.licensee).thaw(license, usd(50));
      await settle(market, [entryOf(license)]);
      const state = await chain.license(license);
      expect(state?.thawing).to.equal(state?.balance);
      expect(state?.balance).to.be.below(usd(50));
    });

    it("counts nothing as spent once an epoch of the new term must have begun", async () => {
      await settle(market, [entryOf(license)]);
      const { spent, expiresAt } = (await chain.license(license))!;
      expect(spent).to.be.above(0n);
      await time.increaseTo(expiresAt + DAY - 10);
      expect((await chain.license(license))?.spent).to.equal(spent);
      await time.increaseTo(expiresAt + DAY);
      expect((await chain.license(license))?.spent).to.equal(0n);
    });
  });

  describe("license under a plan with a minimum", () => {
    const MINIMUM = usd(20);
    let own: bigint;

    beforeEach(async () => {
      const planId = await addPlan(market, { minimumSpend: MINIMUM, transferable: true });
      own = await buyLicense(market, usd(50), { planId });
    });

    const stateOf = async () => (await chain.license(own))!;
    const renew = async (secondsLate = 0) => {
      await time.increaseTo((await stateOf()).expiresAt + secondsLate);
      await market.licet.escrow.connect(market.licensee).renew(own);
    };

    it("is renewed by a call, unless its owner said no", async () => {
      expect(await stateOf()).to.deep.include({ renewal: "called", owed: 0n, stop: null });
      await market.licet.escrow.connect(market.licensee).setRenewal(own, false);
      expect((await stateOf()).renewal).to.equal("none");
    });

    it("owes what its last term didn't use of the minimum, until that term is closed", async () => {
      await settle(market, [entryOf(own, { requests: 20_000n })], { planId: 2 });
      const { spent } = await stateOf();
      await renew();
      expect(await stateOf()).to.include({ owed: MINIMUM - spent, countsFrom: 0 });
      await time.increase(3 * DAY + 1);
      await market.licet.escrow.closeTerm(own);
      expect((await stateOf()).owed).to.equal(0n);
    });

    it("counts what its last term spent while use may still be that term's, so that no cap is free", async () => {
      await settle(market, [entryOf(own, { requests: 20_000n })], { planId: 2 });
      const { spent, expiresAt } = await stateOf();
      await renew();
      expect(spent).to.be.above(0n);
      await time.setNextBlockTimestamp(expiresAt + DAY - 1);
      expect((await stateOf()).spent).to.equal(spent);
      await time.setNextBlockTimestamp(expiresAt + DAY);
      expect((await stateOf()).spent).to.equal(0n);
    });

    it("owes nothing for a term that a recall freed", async () => {
      await time.increaseTo((await stateOf()).expiresAt - 8 * DAY);
      await market.licet.assets.connect(market.publisher).recall(market.versionId);
      await renew();
      expect((await stateOf()).owed).to.equal(0n);
      expect((await chain.version(market.versionId))?.usableUntil).to.be.below(await time.latest());
    });

    it("counts the use of epochs from its renewal on, if that came late", async () => {
      await renew(2 * DAY);
      const { countsFrom, expiresAt } = await stateOf();
      expect({ countsFrom, expiresAt }).to.deep.equal({
        countsFrom: await time.latest(),
        expiresAt: (await time.latest()) + 30 * DAY,
      });
      await time.increase(HOUR);
      const usage = [entryOf(own)];
      const outcomes = async (epochStart: number) => {
        const { header, entries } = await batchOf(market, usage, { planId: 2, epochStart });
        const { outcomes } = await market.licet.escrow.previewSettle(header, entries);
        return unpackOutcomes(outcomes)[0].status;
      };
      expect(await outcomes(countsFrom - 1)).to.equal("TermNotRunning");
      expect(await outcomes(countsFrom)).to.equal("Charged");
    });

    it("is stopped while it is locked, and for ever once it has ended", async () => {
      const { escrow } = market.licet;
      await escrow.connect(market.licensee).lock(own);
      expect((await stateOf()).stop).to.equal("locked");
      await escrow.connect(market.licensee).unlock(own);
      expect((await stateOf()).stop).to.equal(null);
      await escrow.connect(market.licensee).end(own);
      expect((await stateOf()).stop).to.equal("ended");
    });

    it("tells of a change of operator and road from its announcement to its end", async () => {
      const { escrow } = market.licet;
      await escrow.connect(market.licensee).changeService(own, 1, true);
      const readyAt = (await time.latest()) + 3 * DAY;
      expect((await stateOf()).serviceChange).to.deep.equal({ operatorId: 1, onVoucherRoad: true, readyAt });
      await time.increaseTo(readyAt + 1);
      await escrow.applyServiceChange(own);
      expect(await stateOf()).to.include({ serviceChange: null, onVoucherRoad: true });
    });
  });

  describe("committees", () => {
    const newcomer = new Wallet(id("newcomer"));
    const oldMembers = ATTESTORS.map(({ address }) => address);
    const newMembers = [newcomer.address, ...oldMembers.slice(1)];
    let address: string;

    const announce = async () => {
      const { committee } = market.licet;
      const next = [
        ...newMembers.map((signer, i) => ({ signer, weight: i === 2 ? 2 : 1, payee: market.payees[i].address })),
        { signer: `${market.outsider.address}${"ab".repeat(64)}`, weight: 1, payee: market.outsider.address },
      ];
      const deadline = (await time.latest()) + HOUR;
      await committee.rotate(next, 3, deadline, proofBy(await committee.rotationHash(next, 3, deadline)));
      return (await time.latest()) + Number(await committee.ROTATION_PERIOD());
    };

    beforeEach(async () => {
      address = await market.licet.committee.getAddress();
    });

    it("are the first one, at first", async () => {
      const { since } = await market.licet.committee.rotationOf(0);
      const weights = Object.fromEntries(oldMembers.map((member) => [member, 1]));
      const present = { address, members: oldMembers, weights, unbonded: [], threshold: 2, since: Number(since) };
      expect(await chain.committees(address)).to.deep.equal({ present, former: null, announced: null });
    });

    it("are the announced one beside it, then the new one with the former for a window, then the new one", async () => {
      const since = await announce();
      const { present: old, announced } = await chain.committees(address);
      // Keys that aren't addresses can't be asked.
      const weights = Object.fromEntries(newMembers.map((member, i) => [member, i === 2 ? 2 : 1]));
      // The newcomer has no bond yet, and the last one's covers what it weighs in the present committee, and no more.
      const unbonded = [newMembers[0], newMembers[2]];
      expect(announced).to.deep.equal({ address, members: newMembers, weights, unbonded, threshold: 3, since });
      expect(old.members).to.deep.equal(oldMembers);

      await time.setNextBlockTimestamp(since);
      expect(await chain.committees(address)).to.deep.equal({ present: announced, former: old, announced: null });

      await time.increaseTo(since + 2 * DAY);
      expect((await chain.committees(address)).former).to.equal(null);
    });
  });

  it("tells a license's generation at a time", async () => {
    const before = await time.latest();
    await time.increase(HOUR);
    await market.licet.escrow.connect(market.licensee).raiseGeneration(license);
    const raisedAt = await time.latest();
    expect(await chain.generationAt(license, before)).to.equal(0);
    expect(await chain.generationAt(license, raisedAt - 1)).to.equal(0);
    expect(await chain.generationAt(license, raisedAt)).to.equal(1);
  });

  it("tells it of many that were raised by looking at a few blocks", async () => {
    const raisedAt: number[] = [];
    for (let i = 0; i < 40; i++) {
      await market.licet.escrow.connect(market.licensee).raiseGeneration(license);
      raisedAt.push(await time.latest());
    }
    const getBlock = provider.getBlock.bind(provider);
    let blocks = 0;
    provider.getBlock = (...args) => (blocks++, getBlock(...args));
    try {
      for (const generation of [1, 7, 40]) {
        blocks = 0;
        expect(await chain.generationAt(license, raisedAt[generation - 1])).to.equal(generation);
        expect(blocks).to.be.within(1, 6);
      }
    } finally {
      provider.getBlock = getBlock;
    }
  });

  it("tells plans, versions and operators, and null for what isn't there", async () => {
    const plan = await chain.plan(1);
    expect(plan).to.include({ planId: 1, assetId: 1, attestor: await market.licet.committee.getAddress() });
    expect(plan?.rates.outputTokens).to.equal(usd(3));
    expect(await chain.version(market.versionId)).to.deep.equal({
      versionId: market.versionId,
      assetId: 1,
      manifestHash: id("manifest"),
      usableUntil: 2 ** 40 - 1,
    });
    expect(await chain.operator(1)).to.include({ operatorId: 1, owner: market.operator.address });
    expect([await chain.plan(2), await chain.plan(0), await chain.version(7n), await chain.operator(2)]).to.deep.equal([
      null,
      null,
      null,
      null,
    ]);
  });

  it("tells whether a key could sign at a time", async () => {
    const key = Wallet.createRandom().address;
    const expiresAt = (await time.latest()) + DAY;
    await market.licet.operators.connect(market.operator).addKey(1, key, expiresAt);
    const addedAt = await time.latest();
    const at = (moment: number) => chain.isSigningKey(1, key, moment);
    expect([await at(addedAt - 1), await at(addedAt), await at(expiresAt)]).to.deep.equal([false, true, false]);
    expect(await chain.isRevokedKey(1, key)).to.equal(false);
    await market.licet.operators.connect(market.operator).revokeKey(1, key);
    expect(await at(addedAt)).to.equal(false);
    expect(await chain.isRevokedKey(1, key)).to.equal(true);
    expect(await chain.isRevokedKey(2, key)).to.equal(false);
  });

  it("checks signatures of keys and of smart accounts", async () => {
    const wallet = Wallet.createRandom();
    const digest = id("anything");
    const signature = wallet.signingKey.sign(digest).serialized;
    const account = await hre.ethers.deployContract("SmartWallet", [wallet.address]);
    const check = async (who: string, what: string) => chain.isSignatureOf(who, what, signature);
    expect(await check(wallet.address, digest)).to.equal(true);
    expect(await check(await account.getAddress(), digest)).to.equal(true);
    expect(await check(wallet.address, id("another"))).to.equal(false);
    expect(await check(await account.getAddress(), id("another"))).to.equal(false);
    expect(await check(await market.licet.escrow.getAddress(), digest)).to.equal(false);
    expect(await chain.isSignatureOf(wallet.address, digest, "0x12")).to.equal(false);
  });

  it("takes the key's own signature for an account that was given code since (EIP-7702)", async () => {
    const wallet = Wallet.createRandom();
    const digest = id("anything");
    const signature = wallet.signingKey.sign(digest).serialized;
    const other = await hre.ethers.deployContract("SmartWallet", [Wallet.createRandom().address]);
    await hre.network.provider.send("hardhat_setCode", [wallet.address, await provider.getCode(other)]);
    expect(await chain.isSignatureOf(wallet.address, digest, signature)).to.equal(true);
  });

  for (const [title, code] of [
    ["loops", "0x5b600056"],
    ["runs into an invalid opcode", "0xfe"],
    ["answers too much", "0x620100006000f3"],
    ["answers too little", "0x60016000f3"],
    ["says nothing", "0x00"],
  ]) {
    it(`takes an account that ${title} for one that says no`, async () => {
      const account = Wallet.createRandom().address;
      await hre.network.provider.send("hardhat_setCode", [account, code]);
      expect(await chain.isSignatureOf(account, id("x"), `0x${"11".repeat(65)}`)).to.equal(false);
    });
  }

  it("takes a node that has been asked too often for none that says no", async () => {
    const error = { code: -32005, message: "rate limit exceeded" };
    const info = { error };
    expect(isAnswer(makeError("missing revert data", "CALL_EXCEPTION", { info, data: null } as never))).to.equal(false);
  });

  it("doesn't take a chain that can't be asked for an account that says no", async () => {
    const account = await (
      await hre.ethers.deployContract("SmartWallet", [Wallet.createRandom().address])
    ).getAddress();
    let isDown = false;
    const flaky = new Proxy(provider, {
      get: (target, name) => {
        if (name === "call" && isDown) return () => Promise.reject(new Error("429 Too Many Requests"));
        const value = Reflect.get(target, name) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const escrow = await market.licet.escrow.getAddress();
    const reading = await connectChain(flaky, { escrow, fromBlock: 0, clock: "chain" });
    const ask = () => reading.isSignatureOf(account, id("x"), `0x${"11".repeat(65)}`);
    expect(await ask()).to.equal(false);
    isDown = true;
    await expect(ask()).to.be.rejectedWith("429");
  });

  it("tells what an operator's stake still secures, which a batch takes and a release gives back", async () => {
    const { escrow, staking } = market.licet;
    const before = await chain.headroom(1);
    expect(before)
      .to.equal(await staking.activeStakeOf(1))
      .and.be.above(0n);
    await settle(market, [entryOf(license)]);
    const { inFlight } = await staking.poolOf(1);
    expect(inFlight).to.be.above(0n);
    expect(await chain.headroom(1)).to.equal(before - inFlight);
    expect(await chain.headroom(99)).to.equal(0n);
    expect(await escrow.STAKING()).to.equal(await staking.getAddress());
  });

  it("tells a lane's last batch", async () => {
    expect(await chain.lane(1, 1, market.versionId)).to.deep.equal({ sequence: 0n, epochStart: 0, epochEnd: 0 });
    const { header } = await settle(market, [entryOf(license)]);
    const { epochStart, epochEnd } = header;
    expect(await chain.lane(1, 1, market.versionId)).to.deep.equal({ sequence: 1n, epochStart, epochEnd });
  });
});

describe("connectEscrow", () => {
  let market: Market;
  let escrow: SettlementEscrow;

  beforeEach(async () => {
    market = await freshMarket();
    escrow = connectEscrow(provider, onlyWitness(provider), {
      escrow: await market.licet.escrow.getAddress(),
      fromBlock: 0,
      finality: 3,
    });
  });

  async function attestedBatch() {
    const license = await buyLicense(market, usd(50));
    await time.increase(HOUR);
    const { header, entries } = await batchOf(market, [entryOf(license)]);
    const batchId = await market.licet.escrow.batchIdOf(header);
    return { header, entries, batchId, proof: proofBy(batchId) };
  }

  const send = async (call: Call) => market.outsider.sendTransaction(call);

  it("previews a batch, settles it, and tells since when it is settled and final", async () => {
    const { header, entries, batchId, proof } = await attestedBatch();
    expect(await escrow.preview(header, entries)).to.deep.equal([
      { licenseId: 1n, charged: 2_600n, status: "Charged" },
    ]);
    expect(await escrow.isSettled(batchId, "latest")).to.equal(false);
    await send(await escrow.settlement(header, entries, proof));
    const states = async () => [await escrow.isSettled(batchId, "latest"), await escrow.isSettled(batchId, "final")];
    expect(await states()).to.deep.equal([true, false]);
    await hre.network.provider.send("hardhat_mine", ["0x1"]);
    expect(await states()).to.deep.equal([true, false]);
    await hre.network.provider.send("hardhat_mine", ["0x1"]);
    expect(await states()).to.deep.equal([true, true]);
  });

  it("tells what was split off a batch to be disputed, and when all of it is final: released, or refunded", async () => {
    const [one, two] = [await buyLicense(market, usd(50)), await buyLicense(market, usd(50))];
    await time.increase(HOUR);
    const { header, entries } = await batchOf(market, [entryOf(one), entryOf(two)]);
    const batchId = await market.licet.escrow.batchIdOf(header);
    await send(await escrow.settlement(header, entries, proofBy(batchId)));
    expect(await escrow.chargesOf(batchId)).to.deep.equal([]);

    const court = market.licet.escrow.connect(market.court);
    const charges = [one, two].map((license) => chargeIdOf(batchId, license));
    for (const license of [one, two]) await court.freezeCharge(header, entries, "0x", license);
    await court.releaseCharge(charges[0], 2n ** 40n - 1n);
    await court.freezeCharge(header, entries, "0x", one);
    expect(await escrow.chargesOf(batchId)).to.deep.equal(charges);
    const states = async () => Promise.all(charges.map(async (charge) => (await escrow.holdOf(charge)).status));
    expect(await states()).to.deep.equal(["Held", "Held"]);

    await court.releaseCharge(charges[0], 0);
    await court.refundCharge(charges[1]);
    expect(await states()).to.deep.equal(["Releasable", "Held"]);
    expect((await escrow.holdOf(charges[0])).releasableAt).to.equal(0);
    await send(await escrow.release(charges[0]));
    await hre.network.provider.send("hardhat_mine", ["0x2"]);
    expect(await states()).to.deep.equal(["Released", "Released"]);
  });

  it("says why the escrow would refuse, with the error's values", async () => {
    const { header, entries } = await attestedBatch();
    const wrong = { ...header, count: 0n };
    await expect(escrow.preview(wrong, entries)).to.be.rejectedWith(ChainRefusal, "(SummaryInvalid)");
  });

  it("tells beforehand what won't be charged", async () => {
    const { header, entries } = await attestedBatch();
    await market.licet.escrow.connect(market.licensee).changeService(1, 1, true);
    await time.increase(3 * DAY);
    await market.licet.escrow.applyServiceChange(1);
    const outcomes = await escrow
      .preview({ ...header, epochEnd: header.epochStart + 2 * HOUR }, entries)
      .catch((e) => e);
    expect(outcomes).to.be.instanceOf(ChainRefusal);
    const now = await time.latest();
    const later = { ...header, epochStart: now - HOUR, epochEnd: now };
    expect(await escrow.preview(later, entries)).to.deep.equal([{ licenseId: 1n, charged: 0n, status: "WrongRoad" }]);
  });

  it("renews a license whose term is over", async () => {
    const planId = await addPlan(market, { minimumSpend: usd(20) });
    const license = await buyLicense(market, usd(100), { planId });
    for (const term of [1n, 2n]) {
      await time.increaseTo((await market.licet.escrow.accountOf(license)).expiresAt);
      await send(await escrow.renewal(license));
      expect((await market.licet.escrow.accountOf(license)).term).to.equal(term);
    }
  });

  it("tells whether the committee takes signatures: of bonded members, whatever code their keys were given", async () => {
    const committee = await market.licet.committee.getAddress();
    const digest = id("a batch");
    const [first, second, third] = ATTESTORS.map(({ address: signer, signingKey }) => ({
      signer,
      signature: signingKey.sign(digest).serialized,
    }));
    const vouches = (...signatures: (typeof first)[]) => escrow.vouches(committee, digest, committeeProof(signatures));
    expect(await vouches(first, second, third)).to.equal(true);

    const other = await hre.ethers.deployContract("SmartWallet", [Wallet.createRandom().address]);
    await hre.network.provider.send("hardhat_setCode", [first.signer, await provider.getCode(other)]);
    expect(await vouches(first, second)).to.equal(true);

    await market.licet.committee.connect(market.payees[0]).thawBond(first.signer);
    expect(await vouches(first, second)).to.equal(false);
    expect(await vouches(first, second, third)).to.equal(true);
    expect(await escrow.vouches(committee, digest, "0x1234")).to.equal(false);
  });
});
