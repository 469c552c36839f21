import { expect } from "chai";
import type { Prepayment } from "../../oracle/x402/prepayments";
import { computeAddress, hexlify, ZeroHash, toBeHex } from "ethers";
import { receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { sumUsage, zeroUsage } from "../../oracle/protocol/meters";
import type { BatchHeader, Lane, Receipt, SignedMeasurement } from "../../oracle/protocol/types";
import { Problem } from "../../oracle/problem";
import { counted } from "../../oracle/settler/batches";
import { spansOf } from "../../oracle/store/attestedReceipts";
import { Store } from "../../oracle/store/store";
import type { OpenRequest, RequestOutcome } from "../../oracle/store/requestBooks";
import { Equivocation, StoreConflict } from "../../oracle/store/storeConflict";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN, grantWith, receiptWith, usage } from "../support/fakeMessages";

const LANE: Lane = { operatorId: 2, planId: 3, versionId: 4n };
const EPOCH = { epochStart: 1_000, epochEnd: 2_000 };
const GRANT = "0x" + "47".repeat(32);
const id = (n: number | bigint) => toBeHex(n, 32);

const openRequest = (n: number, licenseId = 1n): OpenRequest => ({
  facts: {
    requestId: id(n),
    licenseId,
    operatorId: LANE.operatorId,
    planId: LANE.planId,
    manifestHash: "0x" + "4d".repeat(32),
    generation: 1,
    grantHash: GRANT,
    requestHash: "0x" + "02".repeat(32),
    requestSignatureHash: ZeroHash,
  },
  versionId: LANE.versionId,
  openedAt: 1_000,
});

const outcome = (fields: Partial<RequestOutcome> = {}): RequestOutcome => ({
  ...usage({ requests: 1n, outputTokens: 5n }),
  responseHash: "0x" + "03".repeat(32),
  finishedAt: 1_500,
  durationMs: 20,
  ttftMs: 10,
  flags: 0,
  ...fields,
});

const header = (fields: Partial<BatchHeader> = {}): BatchHeader => ({
  ...LANE,
  ...EPOCH,
  ...zeroUsage(),
  sequence: 1n,
  root: id(7),
  count: 1n,
  availabilityBps: 10_000,
  p95TtftMs: 10,
  samples: 20,
  entriesHash: id(8),
  evidenceHash: id(9),
  ...fields,
});

const MEASUREMENT: SignedMeasurement = {
  measurement: { ...LANE, ...EPOCH, availabilityBps: 10_000, p95TtftMs: 10, samples: 20 },
  signature: "0x" + "ab".repeat(65),
};

const SIGNER = "0x" + "42".repeat(32);

function sign(receipt: Receipt) {
  const hash = receiptDigest(DOMAIN, receipt);
  return { hash, signature: signDigest(SIGNER, hash), signer: computeAddress(SIGNER) };
}

describeOnEach("Store", (placeOf) => {
  let place: Place;
  let store: Store;

  beforeEach(async () => {
    place = placeOf();
    store = new Store(await place.open());
    await store.grants.save(GRANT, { grant: grantWith(), signature: "0xabcd" });
  });

  afterEach(async () => {
    await store.close();
    place.remove();
  });

  async function served(n: number, { licenseId = 1n, cost = 10n, ...fields }: ServedFields = {}) {
    await store.requests.open(openRequest(n, licenseId));
    return store.requests.finish(id(n), outcome(fields), cost, sign);
  }
  type ServedFields = Partial<RequestOutcome> & { licenseId?: bigint; cost?: bigint };

  async function reopen() {
    await store.close();
    store = new Store(await place.open());
  }

  describe("opening", () => {
    it("keeps what was written before", async () => {
      const { hash } = await served(1);
      await reopen();
      expect((await store.receipts.ofRequest(id(1)))?.hash).to.equal(hash);
    });

    it("refuses another's, and says whose it is", async () => {
      const owner = { role: "operator", chain: "1", "first block": "0x1", escrow: "0x2", operator: "7" } as const;
      await store.claim(owner);
      await store.claim({ ...owner, operator: undefined });
      await reopen();
      await expect(store.claim({ ...owner, operator: "8" })).to.be.rejectedWith(
        Problem,
        /was used with operator 7, and this is operator 8/,
      );
    });
  });

  describe("grants", () => {
    it("come back as they were saved, and only once", async () => {
      await store.grants.save(GRANT, { grant: grantWith({ cap: 99n }), signature: "0xffff" });
      expect(await store.grants.find(GRANT)).to.deep.equal({ grant: grantWith(), signature: "0xabcd" });
      expect(await store.grants.find(id(1))).to.equal(null);
    });

    it("carry money and ids beyond 2^53 and refuse what a column can't hold", async () => {
      const wide = grantWith({ licenseId: 2n ** 63n - 1n, cap: 2n ** 64n - 1n });
      await store.grants.save(id(1), { grant: wide, signature: "0xabcd" });
      expect((await store.grants.find(id(1)))?.grant).to.deep.equal(wide);
      const wider = { grant: grantWith({ licenseId: 2n ** 63n }), signature: "0xabcd" };
      await expect(store.grants.save(id(2), wider)).to.be.rejectedWith(/too large to bind|out of range/);
    });

    it("stay revoked from the first time on, even if they weren't seen before, and are those of one license", async () => {
      expect(await store.grants.isRevoked(1n, id(5))).to.equal(false);
      expect(await store.grants.revoke(1n, id(5), 1_000, 2)).to.equal(1_000);
      expect(await store.grants.revoke(1n, id(5), 1_001, 2)).to.equal(1_000);
      await reopen();
      expect(await store.grants.isRevoked(1n, id(5))).to.equal(true);
      expect(await store.grants.isRevoked(2n, id(5))).to.equal(false);
    });

    it("are revoked so often of one license, and no oftener", async () => {
      await store.grants.revoke(1n, id(5), 1_000, 2);
      expect(await store.grants.revoke(1n, id(6), 1_000, 2)).to.equal(1_000);
      expect(await store.grants.revoke(1n, id(7), 1_000, 2)).to.equal(null);
      expect(await store.grants.isRevoked(1n, id(7))).to.equal(false);
      expect(await store.grants.revoke(1n, id(6), 1_001, 2)).to.equal(1_000);
      expect(await store.grants.revoke(2n, id(7), 1_001, 2)).to.equal(1_001);
    });
  });

  describe("prepayments", () => {
    const payer = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
    const prepayment = (n: number, changes: Partial<Prepayment> = {}): Prepayment => ({
      payment: {
        ...{
          payer,
          payTo: payer,
          amount: 2n ** 62n,
          validAfter: 0,
          validBefore: 9_000,
          nonce: id(n),
          signature: "0x12",
        },
      },
      planId: 3,
      deposit: 5n,
      price: 6n,
      acceptedAt: 1_000 + n,
      state: "accepted",
      paymentHash: null,
      resultHash: null,
      licenseId: null,
      reason: null,
      ...changes,
    });

    it("are kept once, with what came of them, and those that aren't finished are found", async () => {
      expect(await store.prepayments.save(prepayment(1))).to.equal(true);
      expect(await store.prepayments.save(prepayment(1, { deposit: 99n }))).to.equal(false);
      for (const n of [2, 3]) await store.prepayments.save(prepayment(n));
      const paid = prepayment(1, { state: "paid", paymentHash: id(7) });
      const bought = prepayment(2, { state: "bought", paymentHash: id(8), resultHash: id(9), licenseId: 7n });
      for (const one of [paid, bought]) await store.prepayments.update(one);
      await reopen();
      expect(await store.prepayments.find(payer, id(1))).to.deep.equal(paid);
      expect(await store.prepayments.find(payer, id(2))).to.deep.equal(bought);
      expect(await store.prepayments.find(payer, id(4))).to.equal(null);
      expect(await store.prepayments.unfinished()).to.deep.equal([paid, prepayment(3)]);
      expect(await store.prepayments.countSince(1_001)).to.equal(2);
    });
  });

  describe("openRequest", () => {
    it("lists the request until it is finished or dropped", async () => {
      await Promise.all([1, 2, 3].map((n) => store.requests.open(openRequest(n))));
      await store.requests.drop(id(2));
      await store.requests.finish(id(3), outcome(), 1n, sign);
      expect(await store.requests.running()).to.deep.equal([openRequest(1)]);
    });

    it("refuses a request id twice without harm to what comes with it", async () => {
      const attempts = [openRequest(1), openRequest(1), openRequest(2)].map((request) => store.requests.open(request));
      const results = await Promise.allSettled(attempts);
      expect(results.map((result) => result.status)).to.deep.equal(["fulfilled", "rejected", "fulfilled"]);
      expect(await store.requests.running()).to.have.length(2);
    });

    it("refuses a request under a grant that wasn't saved", async () => {
      const request = openRequest(1);
      const stranger = { ...request, facts: { ...request.facts, grantHash: id(66) } };
      const error = await store.requests.open(stranger).catch((cause: Error) => cause);
      expect(error)
        .to.be.instanceOf(Error)
        .with.property("message")
        .that.matches(/foreign key/i);
    });
  });

  describe("finishRequest", () => {
    it("numbers, links, signs and stores the receipt", async () => {
      const first = await served(1);
      const second = await served(2);
      const other = await served(3, { licenseId: 9n });
      expect(first.receipt).to.include({ sequence: 1n, previousHash: ZeroHash, requestId: id(1) });
      expect(second.receipt).to.include({ sequence: 2n, previousHash: first.hash });
      expect(other.receipt).to.include({ sequence: 1n, previousHash: ZeroHash });
      expect(second.hash).to.equal(receiptDigest(DOMAIN, second.receipt));
      expect(await store.receipts.ofRequest(id(2))).to.deep.equal(second);
    });

    it("leaves no gap or fork when many finish at once", async () => {
      const ids = Array.from({ length: 50 }, (_, i) => i + 1);
      const receipts = await Promise.all(ids.map((n) => served(n)));
      receipts.sort((a, b) => Number(a.receipt.sequence - b.receipt.sequence));
      receipts.forEach(({ receipt }, i) => {
        expect(receipt.sequence).to.equal(BigInt(i + 1));
        expect(receipt.previousHash).to.equal(i === 0 ? ZeroHash : receipts[i - 1].hash);
      });
    });

    it("refuses a request that is finished already", async () => {
      await served(1);
      const again = await store.requests.finish(id(1), outcome(), 1n, sign).catch((cause: Error) => cause);
      expect(again).to.be.instanceOf(StoreConflict).with.property("message").that.contains("isn't open");
    });

    it("leaves the request open if signing fails", async () => {
      await store.requests.open(openRequest(1));
      const fails = () => {
        throw new Error("no key");
      };
      const error = await store.requests.finish(id(1), outcome(), 1n, fails).catch((cause: Error) => cause);
      expect(error).to.have.property("message", "no key");
      expect(await store.requests.running()).to.have.length(1);
      expect(await store.receipts.ofRequest(id(1))).to.equal(null);
    });

    it("never lets a license's time run backwards", async () => {
      await served(1, { finishedAt: 1_600 });
      expect((await served(2, { finishedAt: 1_590 })).receipt.finishedAt).to.equal(1_600);
    });

    it("moves a late receipt out of an epoch that is drafted already", async () => {
      const { hash } = await served(1);
      await store.batches.saveDraft(id(100), header(), "0x", [], [hash]);
      expect((await served(2, { finishedAt: 1_999 })).receipt.finishedAt).to.equal(EPOCH.epochEnd);
    });

    it("adds to what the license owes and the grant has used", async () => {
      await served(1, { cost: 30n });
      await served(2, { cost: 12n });
      expect(await store.tallies.unsettled(1n)).to.equal(42n);
      expect(await store.tallies.unsettledOfAll()).to.equal(42n);
      expect(await store.grants.used(GRANT)).to.equal(42n);
      expect(await store.tallies.unsettled(2n)).to.equal(0n);
      expect(await store.grants.used(id(77))).to.equal(0n);
    });
  });

  describe("unbatched", () => {
    it("gives a lane's receipts of an epoch by license and sequence", async () => {
      await served(1, { licenseId: 300n, finishedAt: 1_000 });
      await served(2, { licenseId: 20n, finishedAt: 1_999 });
      await served(3, { licenseId: 300n, finishedAt: 1_500 });
      await served(4, { licenseId: 20n, finishedAt: 2_000 });
      await served(5, { licenseId: 7n, finishedAt: 999 });
      const order = (await store.unbatched.receipts(LANE, EPOCH)).map(({ receipt }) => receipt.requestId);
      expect(order).to.deep.equal([id(2), id(1), id(3)]);
      expect(await store.unbatched.receipts({ ...LANE, versionId: 5n }, EPOCH)).to.deep.equal([]);
    });

    it("is known by license without the receipts, whose counts are read for some licenses", async () => {
      await served(1, { licenseId: 300n, finishedAt: 1_100 });
      await served(2, { licenseId: 20n, finishedAt: 1_999 });
      await served(3, { licenseId: 300n, finishedAt: 1_500 });
      await served(4, { licenseId: 20n, finishedAt: 2_000 });
      const all = await store.unbatched.receipts(LANE, EPOCH);
      const usageOfLicense = (wanted: bigint) =>
        sumUsage(all.flatMap(({ receipt }) => (receipt.licenseId === wanted ? [receipt] : [])));
      expect(await store.unbatched.totals(LANE, EPOCH)).to.deep.equal({
        upTo: 4n,
        oldestFinishedAt: 1_100,
        licenses: [
          { licenseId: 20n, receipts: 1, usage: usageOfLicense(20n) },
          { licenseId: 300n, receipts: 2, usage: usageOfLicense(300n) },
        ],
      });
      expect(await store.unbatched.totals({ ...LANE, versionId: 5n }, EPOCH)).to.equal(null);

      const found = await store.unbatched.ofLicenses(LANE, EPOCH, [7n, 300n]);
      expect(found.map(({ leaf }) => hexlify(leaf))).to.deep.equal(
        all.slice(1).map((one) => hexlify(counted(one).leaf)),
      );
      expect(found.map(({ hash }) => hash)).to.deep.equal(all.slice(1).map(({ hash }) => hash));
      for (const [i, { receipt }] of found.entries()) expect(all[i + 1].receipt).to.include(receipt);
    });

    it("is what lanesWithUnbatched announces", async () => {
      expect(await store.unbatched.lanes()).to.deep.equal([]);
      await served(1, { licenseId: 1n, finishedAt: 1_700 });
      await served(2, { licenseId: 2n, finishedAt: 1_600 });
      expect(await store.unbatched.lanes()).to.deep.equal([{ ...LANE, oldestFinishedAt: 1_600 }]);
    });
  });

  describe("batches", () => {
    const BATCH = id(100);
    let hashes: string[];

    beforeEach(async () => {
      hashes = [(await served(1)).hash, (await served(2)).hash];
      await store.batches.saveDraft(BATCH, header(), "0xee", [MEASUREMENT], hashes);
    });

    it("hold what was drafted and take its receipts out of the free ones", async () => {
      expect(await store.batches.find(BATCH)).to.deep.equal({
        batchId: BATCH,
        header: header(),
        entries: "0xee",
        measurements: [MEASUREMENT],
        state: "drafted",
        proof: null,
      });
      expect((await store.receipts.ofBatch(BATCH)).map(({ hash }) => hash)).to.deep.equal(hashes);
      expect(await store.unbatched.receipts(LANE, EPOCH)).to.deep.equal([]);
    });

    it("are refused whole if one of their receipts is taken", async () => {
      const { hash } = await served(3, { finishedAt: 2_500 });
      const next = header({ sequence: 2n });
      await expect(store.batches.saveDraft(id(101), next, "0x", [], [hash, hashes[0]])).to.be.rejectedWith(
        StoreConflict,
        "isn't free",
      );
      expect(await store.batches.find(id(101))).to.equal(null);
      expect((await store.receipts.ofRequest(id(3)))?.state).to.equal("unbatched");
    });

    it("are refused if the lane's sequence is taken", async () => {
      await expect(store.batches.saveDraft(id(101), header(), "0x", [], [])).to.be.rejectedWith(
        StoreConflict,
        "has a batch of sequence 1",
      );
    });

    it("go from drafted over attested and submitted to settled", async () => {
      await store.batches.markAttested(BATCH, "0x11");
      await store.batches.markSubmitted(BATCH);
      await store.batches.markSubmitted(BATCH);
      expect(await store.batches.in("submitted")).to.have.length(1);
      expect((await store.batches.find(BATCH))?.proof).to.equal("0x11");
      expect(await store.tallies.unsettled(1n)).to.equal(20n);
      await store.batches.markSettled(BATCH);
      expect((await store.batches.find(BATCH))?.state).to.equal("settled");
      expect((await store.receipts.ofRequest(id(1)))?.state).to.equal("settled");
      expect(await store.tallies.unsettled(1n)).to.equal(0n);
      expect(await store.grants.used(GRANT)).to.equal(20n);
    });

    it("go back to submitted, and their receipts with them, where the chain has undone their settlement", async () => {
      await store.batches.markAttested(BATCH, "0x11");
      await store.batches.markSubmitted(BATCH);
      await expect(store.batches.markUndone(BATCH)).to.be.rejectedWith(
        StoreConflict,
        "is submitted and can't be submitted",
      );
      await store.batches.markSettled(BATCH);
      await store.batches.markUndone(BATCH);
      expect((await store.batches.find(BATCH))?.state).to.equal("submitted");
      expect(await store.tallies.unsettled(1n)).to.equal(20n);
      await store.batches.markSettled(BATCH);
      expect(await store.tallies.unsettled(1n)).to.equal(0n);
    });

    it("don't leave their path", async () => {
      await expect(store.batches.markSettled(BATCH)).to.be.rejectedWith(
        StoreConflict,
        `batch ${BATCH} is drafted and can't be settled`,
      );
      await expect(store.batches.markSubmitted(BATCH)).to.be.rejectedWith("is drafted and can't be submitted");
      await store.batches.markAttested(BATCH, "0x11");
      await expect(store.batches.discardDraft(BATCH)).to.be.rejectedWith("is attested and can't be discarded");
      expect((await store.receipts.ofRequest(id(1)))?.state).to.equal("batched");
      await store.batches.markSubmitted(BATCH);
      await store.batches.markSettled(BATCH);
      await expect(store.batches.markExpired(BATCH)).to.be.rejectedWith("is settled and can't be expired");
      await expect(store.batches.markAttested(id(999), "0x")).to.be.rejectedWith("is unknown and can't be attested");
    });

    it("void their receipts when they expire, which frees the license and not the grant", async () => {
      await store.batches.markExpired(BATCH);
      expect((await store.receipts.ofRequest(id(2)))?.state).to.equal("void");
      expect(await store.tallies.unsettled(1n)).to.equal(0n);
      expect(await store.grants.used(GRANT)).to.equal(20n);
      await store.batches.saveDraft(id(101), { ...header(), sequence: header().sequence + 1n }, "0x", [], []);
      expect((await store.batches.in("expired", "drafted")).map(({ batchId }) => batchId)).to.have.members([
        BATCH,
        id(101),
      ]);
    });

    it("free their receipts when a draft is discarded", async () => {
      await store.batches.discardDraft(BATCH);
      expect((await store.batches.find(BATCH))?.state).to.equal("expired");
      expect(await store.unbatched.receipts(LANE, EPOCH)).to.have.length(2);
    });

    it("take the lane's later drafts with them, and none is drafted after them any more", async () => {
      const next = { ...header(), sequence: header().sequence + 1n };
      const other = { ...next, versionId: next.versionId + 1n };
      await store.batches.saveDraft(id(101), next, "0x", [], [(await served(3)).hash], undefined, BATCH);
      await store.batches.saveDraft(id(102), other, "0x", [], []);
      await store.batches.discardDraft(BATCH);
      expect((await store.batches.in("drafted")).map(({ batchId }) => batchId)).to.deep.equal([id(102)]);
      const states = [1, 2, 3].map(async (n) => (await store.receipts.ofRequest(id(n)))?.state);
      expect(await Promise.all(states)).to.deep.equal(["unbatched", "unbatched", "unbatched"]);
      const third = { ...next, sequence: next.sequence + 1n };
      await expect(store.batches.saveDraft(id(103), third, "0x", [], [], undefined, BATCH)).to.be.rejectedWith(
        StoreConflict,
        `batch ${BATCH}, which batch ${id(103)} comes after, was taken back`,
      );
    });

    it("leave the lane's earlier drafts, and what was attested, when a draft is discarded", async () => {
      const next = { ...header(), sequence: header().sequence + 1n };
      const last = { ...next, sequence: next.sequence + 1n };
      await store.batches.saveDraft(id(101), next, "0x", [], [], undefined, BATCH);
      await store.batches.saveDraft(id(102), last, "0x", [], [], undefined, id(101));
      await store.batches.markAttested(id(102), "0x11");
      await store.batches.discardDraft(id(101));
      expect((await store.batches.in("drafted", "attested")).map(({ batchId }) => batchId)).to.deep.equal([
        BATCH,
        id(102),
      ]);
    });

    it("never use a sequence twice, since attestors may have signed for it", async () => {
      await store.batches.discardDraft(BATCH);
      expect(await store.batches.lastSequence(LANE)).to.equal(header().sequence);
      await expect(store.batches.saveDraft(id(101), header(), "0x", [], [])).to.be.rejectedWith(
        StoreConflict,
        "sequence",
      );
    });

    it("void the hopeless receipts of a discarded draft, which frees the license and not the grant", async () => {
      await store.batches.discardDraft(BATCH, [hashes[0]]);
      expect((await store.receipts.ofRequest(id(1)))?.state).to.equal("void");
      expect((await store.unbatched.receipts(LANE, EPOCH)).map(({ hash }) => hash)).to.deep.equal([hashes[1]]);
      expect(await store.tallies.unsettled(1n)).to.equal(10n);
      expect(await store.grants.used(GRANT)).to.equal(20n);
    });
  });

  describe("voidUnbatched", () => {
    it("voids what no batch took in time", async () => {
      await served(1, { finishedAt: 1_100 });
      await served(2, { finishedAt: 1_900 });
      expect(await store.unbatched.void(LANE, { epochStart: 0, epochEnd: 1_500 })).to.equal(1);
      expect((await store.receipts.ofRequest(id(1)))?.state).to.equal("void");
      expect(await store.tallies.unsettled(1n)).to.equal(10n);
      expect(await store.grants.used(GRANT)).to.equal(20n);
    });
  });

  describe("recordAttestation", () => {
    const seen = (fields: Partial<Receipt> = {}) => {
      const receipt = receiptWith({ operatorId: LANE.operatorId, ...fields });
      return { hash: receiptDigest(DOMAIN, receipt), receipt, cost: 7n };
    };

    it("remembers the digest and the receipts, and takes the same batch again", async () => {
      const one = seen();
      await store.attested.record(id(1), header(), [one]);
      await store.attested.record(id(1), header(), [one]);
      expect(await store.attested.at(LANE, 1n)).to.equal(id(1));
      expect(await store.attested.at(LANE, 2n)).to.equal(null);
      const [span] = spansOf([one.receipt]);
      const { finishedAt, requestId } = one.receipt;
      const ends = {
        previousHash: ZeroHash,
        lastHash: one.hash,
        firstFinishedAt: finishedAt,
        lastFinishedAt: finishedAt,
      };
      expect(await store.attested.seenSpans([span])).to.deep.equal([{ ...span, ...ends, batchId: id(1) }]);
      expect(await store.attested.seenRequests(LANE.operatorId, [requestId, id(77)])).to.deep.equal(
        new Map([[requestId, id(1)]]),
      );
      expect(await store.attested.seenRequests(LANE.operatorId + 1, [requestId])).to.have.property("size", 0);
      expect(await store.attested.seenSpans([{ ...span, first: 3n, last: 3n }])).to.deep.equal([]);
      expect(await store.attested.seenSpans([{ ...span, licenseId: 2n }])).to.deep.equal([]);
    });

    const following = (numbers: number[]) => {
      const receipts: ReturnType<typeof seen>[] = [];
      for (const number of numbers) {
        const previousHash = receipts.at(-1)?.hash ?? id(99);
        receipts.push(
          seen({ sequence: BigInt(number), requestId: id(number), previousHash, finishedAt: 1_000 + number }),
        );
      }
      return receipts;
    };

    it("remembers of receipts that follow each other the first and the last", async () => {
      const receipts = following([4, 5, 6]);
      await store.attested.record(id(1), header(), [receipts[2], receipts[0], receipts[1]]);
      expect(await store.attested.seenSpans(spansOf([receipts[1].receipt]))).to.deep.equal([
        {
          ...{ operatorId: LANE.operatorId, licenseId: 1n, first: 4n, last: 6n, batchId: id(1) },
          ...{ previousHash: id(99), lastHash: receipts[2].hash, firstFinishedAt: 1_004, lastFinishedAt: 1_006 },
        },
      ]);
    });

    it("keeps receipts apart that don't follow each other, by number or by what they say", async () => {
      const [four, five] = following([4, 5]);
      const other = seen({ sequence: 6n, requestId: id(6), previousHash: id(98) });
      const later = seen({ sequence: 9n, requestId: id(9), previousHash: other.hash });
      await store.attested.record(id(1), header(), [four, five, other, later]);
      const spans = await store.attested.seenSpans(spansOf([four.receipt, later.receipt]));
      expect(spans.map(({ first, last }) => [first, last])).to.deep.equal([[4n, 5n], [6n, 6n], [9n, 9n]]); // prettier-ignore
    });

    it("finds the receipts next to a batch's own, on either side", async () => {
      const [before, after] = [seen({ sequence: 4n, requestId: id(4) }), seen({ sequence: 9n, requestId: id(9) })];
      await store.attested.record(id(1), header(), [before, after]);
      const asked = [5n, 6n, 8n].map((sequence) => ({ operatorId: LANE.operatorId, licenseId: 1n, sequence }));
      const found = await store.attested.seenSpans(spansOf(asked));
      expect(found.map(({ lastHash }) => lastHash)).to.deep.equal([before.hash, after.hash]);
      const last = { ...asked[0], sequence: 2n ** 63n - 1n };
      expect(await store.attested.seenSpans(spansOf([last]))).to.deep.equal([]);
    });

    it("sums what the receipts under a grant cost, over all batches but one", async () => {
      await store.attested.record(id(1), header(), [seen()]);
      await store.attested.record(id(2), header({ sequence: 2n }), [seen({ sequence: 2n, requestId: id(2) })]);
      expect(await store.attested.cost(GRANT, id(3))).to.equal(14n);
      expect(await store.attested.cost(GRANT, id(2))).to.equal(7n);
      expect(await store.attested.cost(id(9), id(3))).to.equal(0n);
    });

    it("refuses a second digest for one sequence of a lane", async () => {
      await store.attested.record(id(1), header(), []);
      await expect(store.attested.record(id(2), header(), [])).to.be.rejectedWith(
        Equivocation,
        `was signed as ${id(1)}`,
      );
    });

    const repeats: [string, Partial<Receipt>][] = [
      ["a receipt", {}],
      ["a request", { sequence: 2n }],
      ["a number", { requestId: id(55) }],
    ];
    for (const [what, change] of repeats) {
      it(`refuses ${what} that was in another batch, and remembers nothing of the refused one`, async () => {
        await store.attested.record(id(1), header(), [seen()]);
        const fresh = seen({ licenseId: 8n, requestId: id(56) });
        const attest = () => store.attested.record(id(2), header({ sequence: 2n }), [fresh, seen(change)]);
        await expect(attest()).to.be.rejectedWith(StoreConflict, `repeats one of batch ${id(1)}`);
        expect(await store.attested.at(LANE, 2n)).to.equal(null);
        expect(await store.attested.seenSpans(spansOf([fresh.receipt]))).to.deep.equal([]);
      });
    }

    it("refuses a number within a span that another batch has, and one that a batch has twice", async () => {
      await store.attested.record(id(1), header(), following([4, 5, 6]));
      const attest = (...receipts: ReturnType<typeof seen>[]) =>
        store.attested.record(id(2), header({ sequence: 2n }), receipts);
      await expect(attest(seen({ sequence: 5n, requestId: id(55) }))).to.be.rejectedWith(
        StoreConflict,
        `receipt 5 of license 1, or its request, repeats one of batch ${id(1)}`,
      );
      const twice = [id(57), id(58)].map((requestId) => seen({ sequence: 7n, requestId }));
      await expect(attest(...twice)).to.be.rejectedWith(
        `receipt 7 of license 1, or its request, repeats one of batch ${id(2)}`,
      );
      const ofOneRequest = [7n, 8n].map((sequence) => seen({ sequence, requestId: id(57) }));
      await expect(attest(...ofOneRequest)).to.be.rejectedWith(`repeats one of batch ${id(2)}`);
    });
  });

  describe("canaries", () => {
    it("come back by lane and epoch", async () => {
      await store.canaries.record(LANE, { at: 1_900, ok: false, ttftMs: 0 });
      await store.canaries.record(LANE, { at: 1_000, ok: true, ttftMs: 80 });
      await store.canaries.record(LANE, { at: 2_000, ok: true, ttftMs: 81 });
      await store.canaries.record({ ...LANE, planId: 9 }, { at: 1_500, ok: true, ttftMs: 82 });
      expect(await store.canaries.samples(LANE, EPOCH)).to.deep.equal([
        { at: 1_000, ok: true, ttftMs: 80 },
        { at: 1_900, ok: false, ttftMs: 0 },
      ]);
    });
  });
});
