import { expect } from "chai";
import { computeAddress, id, ZeroHash } from "ethers";
import { Answerer, type AnswererConfig } from "../../oracle/disputes/answerer";
import type { Challenge } from "../../oracle/disputes/court";
import type { ProofAsked, ReceiptProver } from "../../oracle/disputes/receiptProver";
import { createLog } from "../../oracle/log";
import { sumUsage, zeroUsage } from "../../oracle/protocol/meters";
import { packRequestSignature, requestSignatureBytes } from "../../oracle/protocol/requestSignature";
import { Store } from "../../oracle/store/store";
import type { StoredReceipt } from "../../oracle/store/receiptRows";
import { describeOnEach, type Place } from "../support/databases";
import fc from "../support/fastCheck";
import { usage } from "../support/fakeMessages";
import { type Life, lifeOf, mortal } from "../support/stubCrash";
import type { StubChain } from "../support/stubChain";
import { StubCourt } from "../support/stubCourt";
import { AFTER_EPOCH, EPOCH, KEYS, LANE, serveReceipt, stubMarket } from "../support/stubMarket";

const ACCOUNT = computeAddress(KEYS.outsider);
const BATCH = id("a batch");
const VERIFIER = { weightsCommitment: id("weights"), verifier: computeAddress(id("verifier")) };
const RETRY = 300;
const HOUR = 3_600;

describeOnEach("Answerer", (placeOf) => {
  let place: Place;
  let chain: StubChain;
  let store: Store;
  let court: StubCourt;
  let lines: { level: string; message: string; [field: string]: unknown }[];
  let receipts: StoredReceipt[];

  beforeEach(async () => {
    chain = stubMarket();
    court = new StubCourt(chain);
    court.keys.add(ACCOUNT);
    place = placeOf();
    store = new Store(await place.open());
    lines = [];
  });

  afterEach(async () => {
    await store.close();
    place.remove();
  });

  /** Has license 7 served so many requests, and settles them in a batch. */
  async function settle(count = 3, options: { isSigned?: boolean; input?: Uint8Array } = {}): Promise<void> {
    for (let i = 0; i < count; i++) {
      const requestSignature = options.isSigned ? signatureOf(i) : undefined;
      await serveReceipt(store, { requestId: id(`request ${i}`), requestSignature, input: options.input });
    }
    receipts = await store.unbatched.receipts(LANE, EPOCH);
    const service = { availabilityBps: 10_000, p95TtftMs: 1, samples: 1 };
    const header = {
      ...LANE,
      ...EPOCH,
      ...zeroUsage(),
      ...service,
      sequence: 1n,
      root: ZeroHash,
      count: BigInt(count),
    };
    const hashes = receipts.map(({ hash }) => hash);
    await store.batches.saveDraft(
      BATCH,
      { ...header, entriesHash: ZeroHash, evidenceHash: ZeroHash },
      "0x",
      [],
      hashes,
    );
    await store.batches.markAttested(BATCH, "0x");
    await store.batches.markSubmitted(BATCH);
    await store.batches.markSettled(BATCH);
  }

  const signatureOf = (i: number) =>
    requestSignatureBytes(packRequestSignature(EPOCH.epochStart, id(`one ${i}`) + id(`two ${i}`).slice(2) + "1b"));

  /** What was charged, as the license's owner challenges it. */
  function challenge(changes: Partial<Challenge> = {}): Challenge {
    const sum = sumUsage(receipts.map(({ receipt }) => receipt));
    const challengeId = court.open({ usage: sum, ...changes });
    court.batches.set(court.of(challengeId).chargeId, BATCH);
    return court.of(challengeId);
  }

  const answerer = (changes: Partial<AnswererConfig> = {}, life?: Life) => {
    const alive = <T extends object>(one: T) => (life === undefined ? one : mortal(one, life));
    return new Answerer(
      {
        chain: alive(chain),
        court: alive(court),
        store: life === undefined ? store : alive(withBooks(life)),
        sender: alive(court.sender),
        log: createLog("info", (line) => lines.push(JSON.parse(line))),
      },
      {
        ...{ account: ACCOUNT, operatorId: LANE.operatorId, maxFee: 10n },
        provers: new Map(),
        ...changes,
      },
    );
  };

  /** Calls of the store's books end a life, too. */
  const withBooks = (life: Life): Store => {
    const disputes = mortal(store.disputes, life);
    return new Proxy(store, { get: (of, name) => (name === "disputes" ? disputes : bound(of, name)) });
  };
  const bound = (of: Store, name: string | symbol) => {
    const member = Reflect.get(of, name) as unknown;
    return typeof member === "function" ? member.bind(of) : member;
  };

  const proverOf = (prove: (asked: ProofAsked) => Promise<string>): ReadonlyMap<bigint, ReceiptProver> =>
    new Map([[LANE.versionId, { prove }]]);
  const errors = () => lines.filter(({ level }) => level === "error").map(({ message }) => message);
  const reasons = () => lines.map(({ cause }) => (cause as Error | undefined)?.message ?? "").join("\n");

  it("answers a challenge of a whole entry that its receipts sum up to, once, and says which they are", async () => {
    await settle();
    const { challengeId, chargeId } = challenge();
    const own = answerer();
    await own.answerDue();
    await own.answerDue();
    expect(court.purposes).to.deep.equal([`challenge 1 of charge ${chargeId}: answer`]);
    court.mine();
    expect(court.of(challengeId).status).to.equal("Answered");
    const [, , uri] = court.done[0].split(" ");
    const said = JSON.parse(decodeURIComponent(uri.replace("data:application/json,", ""))) as Record<string, string>;
    expect(said.name).to.equal(`License 7 in batch ${BATCH}`);
    expect(said.description).to.contain("3 receipts, numbers 1 to 3, sum up to the entry");
    await own.answerDue();
    expect(court.purposes).to.have.length(1);
    expect(own.figures()).to.deep.equal({
      ...{ open: { Open: 0, Answered: 1, Escalated: 0, Disputed: 0 }, failing: 0, endangered: 0, deadline: null },
    });
  });

  it("answers with data where a receipt is doubted and the version names no verifier", async () => {
    await settle();
    challenge({ receiptHash: receipts[1].hash });
    await answerer().answerDue();
    expect(court.purposes[0]).to.match(/: answer$/);
  });

  it("doesn't answer what its receipts don't sum up to, says so loudly once, and goes on when they do", async () => {
    await settle();
    const { challengeId } = challenge({ usage: usage({ requests: 4n, outputTokens: 15n }) });
    const own = answerer();
    await own.answerDue();
    chain.time += RETRY;
    await own.answerDue();
    expect(court.purposes).to.deep.equal([]);
    expect(errors()).to.deep.equal(["Charge can't be defended"]);
    expect(reasons()).to.contain("3 receipts of license 7").and.to.contain('"requests":"4"').and.to.contain("rebuild");
    expect(own.figures()).to.deep.include({ failing: 1, deadline: court.of(challengeId).deadline });
    court.of(challengeId).usage = sumUsage(receipts.map(({ receipt }) => receipt));
    chain.time += RETRY;
    await own.answerDue();
    expect(court.purposes).to.have.length(1);
    expect(own.figures().failing).to.equal(0);
  });

  it("doesn't answer for a batch that it never had", async () => {
    await settle();
    const { chargeId } = challenge();
    court.batches.set(chargeId, id("another batch"));
    await answerer().answerDue();
    expect(court.purposes).to.deep.equal([]);
    expect(reasons()).to.contain(`0 receipts of license 7 in batch ${id("another batch")}`);
  });

  it("leaves challenges of other operators alone, and never looks at them again", async () => {
    await settle();
    court.open({ operatorId: 99 });
    court.open({ operatorId: 98 });
    await answerer().answerDue();
    expect(court.purposes).to.deep.equal([]);
    expect(lines).to.deep.equal([]);
    expect(await store.disputes.overUpTo()).to.equal(2n);
  });

  it("answers for operators whose batches it has, without being told which, and for nobody who calls its keys its own", async () => {
    challengeOfNobody();
    court.keys.add(computeAddress(KEYS.proposer));
    await answerer({ operatorId: undefined }).answerDue();
    expect([lines, court.purposes]).to.deep.equal([[], []]);
    await settle();
    challenge();
    await answerer({ operatorId: undefined }).answerDue();
    expect(court.purposes.filter((purpose) => purpose.endsWith("answer"))).to.have.length(1);
  });

  const challengeOfNobody = () => court.open({ usage: usage({ requests: 1n }) });

  it("says which account may not answer, and what to do about it", async () => {
    await settle();
    challenge();
    court.keys.clear();
    await answerer().answerDue();
    expect(court.purposes).to.deep.equal([]);
    expect(reasons()).to.contain(ACCOUNT).and.to.contain("npx hardhat operator:key");
  });

  it("waits until a challenge is final, whose number another may have after a reorganization", async () => {
    await settle();
    challenge();
    court.unfinal = 1;
    const own = answerer();
    await own.answerDue();
    expect(court.purposes).to.deep.equal([]);
    court.unfinal = 0;
    await own.answerDue();
    expect(court.purposes).to.have.length(1);
  });

  it("answers the charge that has a number now, and not the one that had it before a reorganization", async () => {
    await settle();
    challenge();
    const own = answerer();
    await own.answerDue();
    court.of(1n).chargeId = id("another charge");
    court.batches.set(id("another charge"), BATCH);
    await own.answerDue();
    expect(new Set(court.purposes).size).to.equal(2);
  });

  it("tells what came of a challenge, and forgets it only once that is final", async () => {
    await settle();
    const { challengeId } = challenge();
    const own = answerer();
    await own.answerDue();
    court.mine();
    court.advance(challengeId, "Rejected");
    court.unfinalEnds.add(challengeId);
    await own.answerDue();
    expect(await store.disputes.overUpTo()).to.equal(0n);
    court.unfinalEnds.clear();
    await own.answerDue();
    expect(await store.disputes.overUpTo()).to.equal(1n);
    expect(lines.filter(({ message }) => message.startsWith("Challenge is over"))).to.have.length(1);
  });

  it("says loudly when a challenge is lost", async () => {
    await settle();
    challenge({ status: "Upheld" });
    await answerer().answerDue();
    expect(errors()).to.deep.equal(["Challenge is lost: the charge went back"]);
  });

  it("does nothing for a charge of which a breach was reported, or whose turn is over", async () => {
    await settle();
    court.reported.add(challenge().chargeId);
    challenge({ deadline: AFTER_EPOCH - 1 });
    challenge({ status: "Escalated", deadline: AFTER_EPOCH - 1 });
    await answerer().answerDue();
    expect(court.purposes).to.deep.equal([]);
    expect(errors()).to.deep.equal(Array(3).fill("Challenge can't be won any more"));
  });

  it("tells as an error what fails shortly before it is lost", async () => {
    await settle();
    const { challengeId } = challenge();
    court.refusal = "The court says no";
    const own = answerer();
    await own.answerDue();
    expect(errors()).to.deep.equal([]);
    expect(lines.map(({ message }) => message)).to.deep.equal(["Challenge has to wait"]);
    chain.time = court.of(challengeId).deadline - 6 * HOUR;
    await own.answerDue();
    expect(errors()).to.deep.equal(["Challenge is about to be lost"]);
    court.refusal = null;
    chain.time += RETRY;
    await own.answerDue();
    expect(court.purposes).to.have.length(1);
  });

  it("isn't kept from one challenge by another that fails, and does the most urgent first", async () => {
    await settle();
    challenge({ usage: usage({ requests: 99n }) });
    const late = challenge({ deadline: AFTER_EPOCH + 9 * HOUR });
    const soon = challenge({ deadline: AFTER_EPOCH + 8 * HOUR });
    await answerer().answerDue();
    expect(court.purposes.map((purpose) => purpose.split(" ")[1])).to.deep.equal([
      String(soon.challengeId),
      String(late.challengeId),
    ]);
  });

  it("isn't kept from others by a challenge that can't be read, and tells of that one", async () => {
    await settle();
    const unread = challenge();
    const read = challenge();
    court.unreadable.add(unread.challengeId);
    const own = answerer();
    await own.answerDue();
    expect(court.purposes).to.deep.equal([`challenge 2 of charge ${read.chargeId}: answer`]);
    expect(lines.find(({ message }) => message === "Challenge can't be read")).to.include({ challengeId: "1" });
    expect(await store.disputes.overUpTo()).to.equal(0n);
    court.unreadable.clear();
    await own.answerDue();
    expect(court.purposes).to.have.length(2);
  });

  it("goes by what it saw last of a challenge that can't be read", async () => {
    await settle();
    const { challengeId } = challenge();
    const own = answerer();
    court.refusal = "The court says no";
    await own.answerDue();
    court.unreadable.add(challengeId);
    court.refusal = null;
    chain.time += RETRY;
    await own.answerDue();
    expect(court.purposes).to.have.length(1);
    expect(own.figures().open.Open).to.equal(1);
  });

  it("answers no doubt of a receipt that it doesn't know, whatever the entry sums up to", async () => {
    await settle();
    challenge({ receiptHash: id("signed by a key that leaked") });
    challenge({ receiptHash: id("signed by a key that leaked"), status: "Escalated" });
    await answerer().answerDue();
    expect(court.purposes).to.deep.equal([]);
    expect(reasons()).to.contain(`The store lacks receipt ${id("signed by a key that leaked")}`);
  });

  it("has each step mined by its deadline, and what it closes at any time", async () => {
    await settle();
    const { deadline } = challenge();
    challenge({ status: "Answered", deadline: AFTER_EPOCH - 1 });
    challenge({ status: "Disputed" });
    court.appeal = { ruling: "Operator", appellant: "Challenger", cost: 7n, end: AFTER_EPOCH + 5 };
    await answerer().answerDue();
    expect(court.untils).to.have.members([deadline, undefined, AFTER_EPOCH + 5]);
  });

  it("tells as an error what is sent and not mined shortly before it is lost, but not what was only just sent", async () => {
    await settle();
    const { challengeId, deadline } = challenge();
    const own = answerer();
    chain.time = deadline - HOUR;
    await own.answerDue();
    expect([errors(), own.figures().endangered]).to.deep.equal([[], 0]);
    chain.time += RETRY;
    await own.answerDue();
    await own.answerDue();
    expect(errors()).to.deep.equal(["Challenge is about to be lost"]);
    expect(reasons()).to.match(/"answer" was begun at .*, and isn't mined yet/);
    expect(own.figures()).to.include({ endangered: 1, deadline });
    court.mine();
    expect(court.of(challengeId).status).to.equal("Answered");
    await own.answerDue();
    expect(own.figures()).to.include({ endangered: 0, deadline: null });
  });

  it("counts no turn that is over among those to come", async () => {
    await settle();
    challenge({ deadline: AFTER_EPOCH - 1 });
    const reported = challenge({ deadline: AFTER_EPOCH + 1 });
    court.reported.add(reported.chargeId);
    const { deadline } = challenge({ deadline: AFTER_EPOCH + 9 * HOUR });
    const own = answerer();
    await own.answerDue();
    expect(own.figures()).to.include({ deadline, endangered: 0 });
  });

  it("sends as many as have room, the most urgent first, also of those that came later", async () => {
    await settle();
    const challenges = [5, 4, 3, 2].map((hours) => challenge({ deadline: AFTER_EPOCH + (hours + 10) * HOUR }));
    court.mostOpen = 2;
    const own = answerer();
    await own.answerDue();
    expect(own.figures()).to.include({ failing: 2 });
    const soonest = challenge({ deadline: AFTER_EPOCH + HOUR });
    court.mine();
    await own.answerDue();
    court.mine();
    await own.answerDue();
    const order = [challenges[3], challenges[2], soonest, challenges[1], challenges[0]];
    expect(court.purposes).to.deep.equal(
      order.map(({ challengeId, chargeId }) => `challenge ${challengeId} of charge ${chargeId}: answer`),
    );
    expect(own.figures()).to.include({ failing: 0 });
  });

  it("fails as a whole only where not even the challenges can be read", async () => {
    await settle();
    challenge();
    court.isAway = true;
    await expect(answerer().answerDue()).to.be.rejectedWith("the chain is away");
  });

  describe("where requests must be shown", () => {
    it("shows them in the court's order, fifty at a time, and then answers", async () => {
      await settle(120, { isSigned: true });
      const { challengeId } = challenge({ isSigned: true });
      const own = answerer();
      for (let round = 0; round < 6; round++) {
        await own.answerDue();
        await own.answerDue();
        court.mine();
      }
      expect(court.done.map((deed) => deed.split(" ").slice(0, 2).join(" "))).to.deep.equal([
        ...["show 50", "show 50", "show 20"],
        `answer ${challengeId}`,
      ]);
    });

    it("shows fewer at once where so many have no room in a transaction", async () => {
      await settle(20, { isSigned: true });
      challenge({ isSigned: true });
      court.mostShown = 6;
      const own = answerer();
      for (let round = 0; round < 6; round++) {
        await own.answerDue();
        court.mine();
      }
      expect(court.done.map((deed) => deed.split(" ").slice(0, 2).join(" "))).to.deep.equal([
        ...["show 5", "show 4", "show 6", "show 5"],
        "answer 1",
      ]);
    });

    it("says so where not even one has room", async () => {
      await settle(2, { isSigned: true });
      challenge({ isSigned: true });
      court.mostShown = 0;
      await answerer().answerDue();
      expect(court.purposes).to.deep.equal([]);
      expect(reasons()).to.contain("1 are too many");
    });

    it("begins anew where something else was shown than the first of them", async () => {
      await settle(3, { isSigned: true });
      const hashes = receipts.map(({ receipt }) => receipt.requestSignatureHash).sort();
      challenge({ isSigned: true, shown: usage({ requests: 1n }), shownThrough: hashes[1] });
      const own = answerer();
      await own.answerDue();
      court.mine();
      expect(court.done).to.deep.equal([`show 3 of 1 from ${hashes[0]}`]);
    });

    it("goes on where it was", async () => {
      await settle(3, { isSigned: true });
      const inOrder = [...receipts].sort((a, b) =>
        a.receipt.requestSignatureHash < b.receipt.requestSignatureHash ? -1 : 1,
      );
      const [first] = inOrder;
      challenge({
        ...{ isSigned: true, shown: sumUsage([first.receipt]), shownThrough: first.receipt.requestSignatureHash },
      });
      await answerer().answerDue();
      court.mine();
      expect(court.done).to.deep.equal([`show 2 of 1 from ${inOrder[1].receipt.requestSignatureHash}`]);
    });

    it("doesn't answer where some that were charged were never signed", async () => {
      await settle(2, { isSigned: true });
      await store.requestSignatures.drop(EPOCH.epochEnd);
      challenge({ isSigned: true });
      await answerer().answerDue();
      expect(court.purposes).to.deep.equal([]);
      expect(reasons()).to.contain("signatures and grants of 0 of 2 that were charged");
    });
  });

  describe("where a version names a verifier", () => {
    const input = Uint8Array.of(1, 2, 255);
    beforeEach(() => (court.inference = VERIFIER));

    it("proves the receipt that is doubted, once, from what was kept of its request", async () => {
      await settle(2, { input });
      const { receipt, hash } = receipts[1];
      challenge({ receiptHash: hash });
      const asked: ProofAsked[] = [];
      const own = answerer({ provers: proverOf(async (one) => (asked.push(one), "0xproof")) });
      await own.answerDue();
      await own.answerDue();
      await own.idle();
      const { grant } = (await store.grants.find(receipt.grantHash))!;
      expect(asked).to.deep.equal([
        { receipt, receiptHash: hash, input: [1, 2, 255], grantSalt: grant.salt, ...VERIFIER },
      ]);
      court.mine();
      expect(court.done).to.deep.equal([`prove 1 ${receipt.requestId} 0xproof`]);
      court.keys.clear();
    });

    it("answers a challenge of the whole entry with data all the same", async () => {
      await settle(2);
      challenge();
      await answerer().answerDue();
      expect(court.purposes[0]).to.match(/: answer$/);
    });

    it("tries again what a prover failed at, and says why", async () => {
      await settle(1, { input });
      challenge({ receiptHash: receipts[0].hash });
      let isWell = false;
      const own = answerer({
        provers: proverOf(async () => {
          if (isWell) return "0x01";
          throw new Error("bb ended with code 1");
        }),
      });
      await own.answerDue();
      await own.idle();
      await own.answerDue();
      expect(court.purposes).to.deep.equal([]);
      expect(lines.map(({ message }) => message)).to.deep.equal(["Receipt is being proven", "Challenge has to wait"]);
      expect(reasons()).to.contain("bb ended with code 1");
      isWell = true;
      chain.time += RETRY;
      await own.answerDue();
      await own.idle();
      expect(court.purposes).to.have.length(1);
    });

    it("answers others while a proof is made, however long that takes", async () => {
      await settle(1, { input });
      challenge({ receiptHash: receipts[0].hash, deadline: AFTER_EPOCH + 8 * HOUR });
      let made: (proof: string) => void = () => {};
      const own = answerer({ provers: proverOf(() => new Promise((resolve) => (made = resolve))) });
      await own.answerDue();
      const other = challenge();
      await own.answerDue();
      expect(court.purposes).to.deep.equal([`challenge 2 of charge ${other.chargeId}: answer`]);
      chain.time = AFTER_EPOCH + 3 * HOUR;
      await own.answerDue();
      expect(errors()).to.deep.equal(["Challenge is about to be lost"]);
      expect(reasons()).to.contain('"making of the proof" was begun at');
      made("0x01");
      await own.idle();
      expect(court.purposes).to.have.length(2);
    });

    it("shows a proof that was made ahead, and makes another where the court refuses that one", async () => {
      await settle(1, { input });
      challenge({ receiptHash: receipts[0].hash });
      await store.proofs.keep(receipts[0].hash, Uint8Array.of(7));
      const own = answerer({ provers: proverOf(async () => "0x08") });
      court.refusal = "The verifier takes it for no proof";
      await own.answerDue();
      expect(lines.map(({ message }) => message)).to.deep.equal(["Challenge has to wait"]);
      court.refusal = null;
      await answerer().answerDue();
      chain.time += RETRY;
      expect(court.purposes).to.have.length(1);
      court.mine();
      expect(court.done).to.deep.equal([`prove 1 ${receipts[0].receipt.requestId} 0x07`]);
      challenge({ receiptHash: receipts[0].hash });
      await own.answerDue();
      await own.idle();
      court.mine();
      expect(court.done[1]).to.equal(`prove 2 ${receipts[0].receipt.requestId} 0x08`);
    });

    it("makes a proof anew that the court doesn't take", async () => {
      await settle(1, { input });
      challenge({ receiptHash: receipts[0].hash });
      let made = 0;
      const own = answerer({ provers: proverOf(async () => `0x0${++made}`) });
      court.refusal = "The verifier takes it for no proof";
      await own.answerDue();
      await own.idle();
      court.refusal = null;
      chain.time += RETRY;
      await own.answerDue();
      await own.idle();
      court.mine();
      expect(court.done).to.deep.equal([`prove 1 ${receipts[0].receipt.requestId} 0x02`]);
    });

    const lacks: [string, RegExp, (own: { hash: string }) => Promise<Partial<Challenge>>, boolean][] = [
      ["no prover is set", /No prover is set for version .* disputes.provers/, async ({ hash }) => ({ receiptHash: hash }), false],
      ["the input wasn't kept", /lacks the input of receipt .*"keepInputs": true/, async ({ hash }) => ({ receiptHash: hash }), true],
      ["the receipt isn't there", /lacks receipt 0x[0-9a-f]{64}.*rebuild/, async () => ({ receiptHash: id("lost") }), true],
    ]; // prettier-ignore
    for (const [why, reason, changes, hasProver] of lacks) {
      it(`says what to do where ${why}`, async () => {
        await settle(1);
        challenge(await changes(receipts[0]));
        await answerer(hasProver ? { provers: proverOf(async () => "0x") } : {}).answerDue();
        expect(court.purposes).to.deep.equal([]);
        expect(errors()).to.deep.equal(["Charge can't be defended"]);
        expect(reasons()).to.match(reason);
      });
    }
  });

  describe("before an arbitrator", () => {
    it("pays its fee up to the most that is allowed", async () => {
      await settle();
      const { challengeId } = challenge({ status: "Escalated" });
      await answerer().answerDue();
      court.mine();
      expect([court.of(challengeId).status, court.paid]).to.deep.equal(["Disputed", 10n]);
    });

    it("pays no more than that, and says what it would cost", async () => {
      await settle();
      challenge({ status: "Escalated" });
      court.fee = 11n;
      await answerer().answerDue();
      expect(court.purposes).to.deep.equal([]);
      expect(errors()).to.deep.equal(["Charge can't be defended"]);
      expect(reasons()).to.contain("fee is 11 wei, and disputes.maxFee allows 10").and.to.contain("dispute:pay-fee");
    });

    it("pays its part of each appeal that the challenger pays for", async () => {
      await settle();
      challenge({ status: "Disputed" });
      const own = answerer();
      await own.answerDue();
      expect(court.purposes).to.deep.equal([]);
      for (const end of [1, 2]) {
        court.appeal = { ruling: "Operator", appellant: "Challenger", cost: 7n, end };
        await own.answerDue();
        await own.answerDue();
        court.mine();
      }
      expect([court.purposes.length, court.paid]).to.deep.equal([2, 14n]);
      court.appeal = { ruling: "Operator", appellant: "Challenger", cost: 11n, end: 3 };
      await own.answerDue();
      expect(reasons()).to.contain("part of an appeal is 11 wei");
    });

    it("leaves it to people whether a ruling against the operator is appealed", async () => {
      await settle();
      challenge({ status: "Disputed" });
      court.appeal = { ruling: "Challenger", appellant: "None", cost: 7n, end: 1 };
      await answerer().answerDue();
      expect(court.purposes).to.deep.equal([]);
      expect(lines.map(({ level, message }) => `${level} ${message}`).join()).to.match(
        /^warn Arbitrator rules for the/,
      );
    });

    it("closes what nobody escalated in time, and what the arbitrator is silent about", async () => {
      await settle();
      challenge({ status: "Answered", deadline: AFTER_EPOCH });
      challenge({ status: "Disputed", deadline: AFTER_EPOCH });
      const own = answerer();
      await own.answerDue();
      expect(court.purposes).to.deep.equal([]);
      chain.time += 1;
      await own.answerDue();
      court.mine();
      expect(court.challenges.map(({ status }) => status)).to.deep.equal(["Rejected", "Undecided"]);
    });
  });

  it("wherever it dies, it goes on from there, and each step is taken once", async () => {
    await settle(60, { isSigned: true });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.boolean()), { maxLength: 6 }),
        async (lives) => {
          court = new StubCourt(chain);
          court.keys.add(ACCOUNT);
          const [signed, plain, disputed] = [
            challenge({ isSigned: true }),
            challenge(),
            challenge({ status: "Escalated" }),
          ];
          for (const [calls, lastCallHappens] of lives) {
            const life = lifeOf(calls, lastCallHappens);
            const dying = answerer({}, life);
            for (let round = 0; round < 4 && !life.isOver; round++) {
              await dying.answerDue().catch(() => undefined);
              court.mine();
            }
          }
          const last = answerer();
          for (let round = 0; round < 4; round++) {
            chain.time += RETRY;
            await last.answerDue();
            court.mine();
          }
          expect([signed, plain, disputed].map(({ challengeId }) => court.of(challengeId).status)).to.deep.equal([
            ...["Answered", "Answered", "Disputed"],
          ]);
          expect(court.done.filter((deed) => deed.startsWith("show"))).to.have.length(2);
          expect(court.done).to.have.length(5);
          expect(court.paid).to.equal(10n);
        },
      ),
      { numRuns: 25 },
    );
  });
});
