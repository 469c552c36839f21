import { expect } from "chai";
import { computeAddress, id, toBeHex, ZeroHash } from "ethers";
import { receiptDigest, signDigest } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import { Store } from "../../oracle/store/store";
import { StoreConflict } from "../../oracle/store/storeConflict";
import type { VoucherTermFacts } from "../../oracle/store/voucherBooks";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN, grantWith, usage } from "../support/fakeMessages";

const KEY = id("operator's key");
const GRANT = id("grant");
const LANE = { operatorId: 2, planId: 3, versionId: 4n };
const TERM: VoucherTermFacts = { operatorId: 2, licenseId: 1n, term: 0, planId: 3, since: 1_000, endsAt: 2_000 };
const NEXT: VoucherTermFacts = { ...TERM, term: 1, since: 2_000, endsAt: 3_000 };

function sign(receipt: Receipt) {
  const hash = receiptDigest(DOMAIN, receipt);
  return { hash, signature: signDigest(KEY, hash), signer: computeAddress(KEY) };
}

describeOnEach("Store, of vouchers,", (placeOf) => {
  let place: Place;
  let store: Store;
  let served = 0;

  beforeEach(async () => {
    place = placeOf();
    store = new Store(await place.open());
    await store.grants.save(GRANT, { grant: grantWith(), signature: "0xabcd" });
  });

  afterEach(async () => {
    await store.close();
    place.remove();
  });

  async function serve(finishedAt: number, cost: bigint, onVoucherRoad = true, licenseId = 1n) {
    const requestId = toBeHex(++served, 32);
    const facts = {
      ...{ requestId, licenseId, operatorId: LANE.operatorId, planId: LANE.planId, generation: 1, grantHash: GRANT },
      ...{ manifestHash: id("manifest"), requestHash: id("request"), requestSignatureHash: ZeroHash },
    };
    await store.requests.open({ facts, versionId: LANE.versionId, openedAt: finishedAt, onVoucherRoad });
    const outcome = {
      ...usage({ requests: 1n }),
      ...{ responseHash: id("response"), finishedAt, durationMs: 1, ttftMs: 0, flags: 0 },
    };
    return store.requests.finish(requestId, outcome, cost, sign);
  }

  const terms = async () =>
    (await store.vouchers.terms(2, 1n)).map(({ term, owed, signed, charged }) => ({ term, owed, signed, charged }));

  it("adds what receipts cost to the term in which they finished", async () => {
    await store.vouchers.openTerm(TERM, 100n);
    await store.vouchers.openTerm(NEXT, 0n);
    expect(await serve(1_500, 10n)).to.include({ state: "voucher", batchId: null, owed: 110n });
    expect(await serve(1_999, 5n)).to.include({ owed: 115n });
    expect(await serve(2_000, 3n)).to.include({ owed: 3n });
    expect(await terms()).to.deep.equal([
      { term: 0, owed: 115n, signed: 100n, charged: 100n },
      { term: 1, owed: 3n, signed: 0n, charged: 0n },
    ]);
  });

  it("adds to the first term what finished before it by another clock", async () => {
    await store.vouchers.openTerm(NEXT, 0n);
    await store.vouchers.openTerm({ ...NEXT, term: 2, since: 3_000 }, 0n);
    expect(await serve(1_990, 10n)).to.include({ owed: 10n });
    expect((await terms())[0]).to.include({ term: 1, owed: 10n });
  });

  it("has no receipt of them in a lane, nor in what batches must settle", async () => {
    await store.vouchers.openTerm(TERM, 0n);
    const byVoucher = await serve(1_500, 10n);
    const attested = await serve(1_501, 20n, false);
    expect(attested.state).to.equal("unbatched");
    expect(attested).not.to.have.property("owed");
    expect([byVoucher, attested].map(({ receipt }) => receipt.sequence)).to.deep.equal([1n, 2n]);
    expect(attested.receipt.previousHash).to.equal(byVoucher.hash);
    expect(await store.tallies.unsettled(1n)).to.equal(20n);
    expect(await store.tallies.unsettledOfAll()).to.equal(20n);
    const span = { epochStart: 0, epochEnd: 9_999 };
    expect((await store.unbatched.receipts(LANE, span)).map(({ hash }) => hash)).to.deep.equal([attested.hash]);
    expect(await store.grants.used(GRANT)).to.equal(30n);
    expect((await store.receipts.ofRequest(byVoucher.receipt.requestId))?.state).to.equal("voucher");
    expect((await store.receipts.from(2, 1n, 1n, 9)).map(({ state }) => state)).to.deep.equal(["voucher", "unbatched"]);
  });

  it("refuses a receipt of a license that has no term", async () => {
    const refusal = await serve(1_500, 10n).catch((cause: Error) => cause);
    expect(refusal).to.be.instanceOf(StoreConflict).with.property("message").that.contains("license 1 has no term");
  });

  it("counts a term once, and anew if its license has come back since", async () => {
    await store.vouchers.openTerm(TERM, 100n);
    await serve(1_500, 10n);
    await store.vouchers.save(TERM, 110n, "0x01", 1_600);
    await store.vouchers.openTerm(TERM, 500n);
    expect(await terms()).to.deep.equal([{ term: 0, owed: 110n, signed: 110n, charged: 100n }]);
    await store.vouchers.openTerm({ ...TERM, since: 1_800 }, 700n);
    expect(await terms()).to.deep.equal([{ term: 0, owed: 700n, signed: 700n, charged: 700n }]);
    expect(await store.vouchers.unposted()).to.deep.equal([]);
  });

  it("keeps the voucher for the most, since when one wasn't posted, and forgets neither", async () => {
    await store.vouchers.openTerm(TERM, 0n);
    expect(await store.vouchers.save(TERM, 50n, "0x50", 1_100)).to.equal(true);
    expect(await store.vouchers.save(TERM, 70n, "0x70", 1_200)).to.equal(true);
    expect(await store.vouchers.save(TERM, 70n, "0x71", 1_300)).to.equal(false);
    expect(await store.vouchers.save(TERM, 60n, "0x60", 1_300)).to.equal(false);
    await store.close();
    store = new Store(await place.open());
    const [held] = await store.vouchers.unposted();
    expect(held).to.deep.include({ ...TERM, signed: 70n, voucher: "0x70", unpostedSince: 1_100 });
  });

  it("has posted what the chain has charged", async () => {
    await store.vouchers.openTerm(TERM, 0n);
    await store.vouchers.save(TERM, 70n, "0x70", 1_200);
    await store.vouchers.noteCharged(TERM, 40n, 1_300);
    expect((await store.vouchers.unposted())[0]).to.include({ charged: 40n, unpostedSince: 1_300 });
    await store.vouchers.noteCharged(TERM, 30n, 1_400);
    expect((await terms())[0]).to.include({ charged: 40n });
    await store.vouchers.noteCharged(TERM, 70n, 1_400);
    expect(await store.vouchers.unposted()).to.deep.equal([]);
    await store.vouchers.save(TERM, 80n, "0x80", 1_400);
    expect((await store.vouchers.unposted())[0]).to.include({ unpostedSince: 1_400 });
  });

  it("looks at all that it holds again where the chain has undone a posting", async () => {
    await store.vouchers.openTerm(TERM, 0n);
    await store.vouchers.openTerm(NEXT, 0n);
    await store.vouchers.save(TERM, 70n, "0x70", 1_200);
    await store.vouchers.noteCharged(TERM, 70n, 1_300);
    await store.vouchers.markUnposted(0);
    expect(await store.vouchers.unposted()).to.have.length(1);
    expect((await store.vouchers.unposted())[0]).to.include({ term: 0, charged: 70n, unpostedSince: 0 });
  });

  it("neither shows a closed term nor takes vouchers of it", async () => {
    await store.vouchers.openTerm(TERM, 0n);
    await store.vouchers.save(TERM, 70n, "0x70", 1_200);
    await store.vouchers.closeTerm(TERM);
    expect(await terms()).to.deep.equal([]);
    expect(await store.vouchers.unposted()).to.deep.equal([]);
    expect(await store.vouchers.save(TERM, 90n, "0x90", 1_300)).to.equal(false);
  });

  it("sums what is to be signed for and to be posted, of terms that aren't closed", async () => {
    expect(await store.vouchers.figures()).to.deep.equal({ unsigned: 0n, unposted: 0n, oldestUnpostedAt: null });
    await store.vouchers.openTerm(TERM, 100n);
    await store.vouchers.openTerm(NEXT, 0n);
    await serve(1_500, 10n);
    await serve(2_500, 7n);
    await store.vouchers.save(TERM, 104n, "0x04", 1_600);
    const figures = { unsigned: 13n, unposted: 4n, oldestUnpostedAt: 1_600 };
    expect(await store.vouchers.figures()).to.deep.equal(figures);
    await store.vouchers.closeEnded(9_000);
    expect(await store.vouchers.figures()).to.deep.equal({ ...figures, unsigned: 6n });
    expect((await terms()).map(({ term }) => term)).to.deep.equal([0]);
    await store.vouchers.noteCharged(TERM, 104n, 1_700);
    await store.vouchers.closeEnded(2_001);
    expect(await terms()).to.deep.equal([]);
  });

  it("gives vouchers to post by operator, plan, license and term", async () => {
    const rows = [
      { ...NEXT, licenseId: 1n },
      { ...TERM, licenseId: 1n },
      { ...TERM, licenseId: 2n, planId: 1 },
      { ...TERM, licenseId: 9n },
    ];
    for (const row of rows) {
      await store.vouchers.openTerm(row, 0n);
      await store.vouchers.save(row, 1n, "0x01", 1_200);
    }
    const order = (await store.vouchers.unposted()).map(({ planId, licenseId, term }) => [planId, licenseId, term]);
    expect(order).to.deep.equal([
      [1, 2n, 0],
      [3, 1n, 0],
      [3, 1n, 1],
      [3, 9n, 0],
    ]);
  });
});
