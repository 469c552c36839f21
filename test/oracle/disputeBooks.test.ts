import { expect } from "chai";
import { id } from "ethers";
import { zeroUsage } from "../../oracle/protocol/meters";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import { EPOCH, LANE, serveReceipt } from "../support/stubMarket";

const INPUT = Uint8Array.of(0, 7, 255);

describeOnEach("What a store keeps for challenges", (placeOf) => {
  let place: Place;
  let store: Store;

  beforeEach(async () => {
    place = placeOf();
    store = new Store(await place.open());
  });

  afterEach(async () => {
    await store.close();
    place.remove();
  });

  const serve = (name: string) => serveReceipt(store, { requestId: id(name), input: INPUT });
  const kept = async (requestId: string) => (await store.disputes.input(requestId)) !== null;

  async function draft(batchId: string): Promise<void> {
    const service = { availabilityBps: 10_000, p95TtftMs: 1, samples: 1 };
    const hashes = { root: id("root"), entriesHash: id("entries"), evidenceHash: id("evidence") };
    const header = { ...LANE, ...EPOCH, ...zeroUsage(), ...service, ...hashes, sequence: 1n, count: 1n };
    const receipts = (await store.unbatched.receipts(LANE, EPOCH)).map(({ hash }) => hash);
    await store.batches.saveDraft(batchId, header, "0x", [], receipts);
  }

  async function settle(batchId: string): Promise<void> {
    await draft(batchId);
    await store.batches.markAttested(batchId, "0x");
    await store.batches.markSubmitted(batchId);
    await store.batches.markSettled(batchId);
  }

  it("is how far challenges are over, until it is rebuilt: those of batches that it lacked were taken for others'", async () => {
    await store.disputes.noteOver(7n);
    await store.disputes.noteOver(5n);
    expect(await store.disputes.overUpTo()).to.equal(7n);
    await store.recovery.reopenReceipts();
    expect(await store.disputes.overUpTo()).to.equal(0n);
  });

  it("is the input of each request, until what it cost is released and nothing of it is in dispute", async () => {
    const requestId = await serve("one");
    expect([...(await store.disputes.input(requestId))!]).to.deep.equal([...INPUT]);
    for (const step of [async () => {}, () => settle(id("batch"))]) {
      await step();
      expect(await store.disputes.dropInputs(3_600)).to.equal(0);
      expect(await kept(requestId)).to.equal(true);
    }
    await store.batches.markReleased(id("batch"));
    expect(await store.disputes.dropInputs(3_600)).to.equal(1);
    expect(await kept(requestId)).to.equal(false);
  });

  it("is the input of another receipt of the same time, too, as long as one may be challenged", async () => {
    const requestId = await serve("void");
    await store.unbatched.void(LANE, EPOCH);
    const charged = await serve("charged");
    await serveReceipt(store, { requestId: id("later"), input: INPUT, finishedAt: EPOCH.epochEnd + 3_600 });
    await settle(id("batch"));
    expect(await store.disputes.dropInputs(3_600)).to.equal(0);
    await store.batches.markReleased(id("batch"));
    expect(await store.disputes.dropInputs(3_600)).to.equal(2);
    expect([await kept(requestId), await kept(charged), await kept(id("later"))]).to.deep.equal([false, false, true]);
  });

  it("is an input of a batch in the making, and none of one that came too late", async () => {
    const requestId = await serve("one");
    await draft(id("batch"));
    expect(await store.disputes.dropInputs(3_600)).to.equal(0);
    await store.batches.markAttested(id("batch"), "0x");
    await store.batches.markExpired(id("batch"));
    expect(await store.disputes.dropInputs(3_600)).to.equal(1);
    expect(await kept(requestId)).to.equal(false);
  });

  it("is no input of what nobody is charged for", async () => {
    const requestId = await serve("void");
    await store.unbatched.void(LANE, EPOCH);
    await store.disputes.dropInputs(3_600);
    expect(await kept(requestId)).to.equal(false);
    expect(await kept(id("never served"))).to.equal(false);
  });

  it("is the input of a request that runs, and not of one that never reached its model", async () => {
    await serve("one");
    const [{ receipt, versionId }] = await store.unbatched.receipts(LANE, EPOCH);
    const facts = { ...receipt, requestId: id("running") };
    await store.requests.open({ facts, versionId, openedAt: 1, input: INPUT });
    await store.disputes.dropInputs(3_600);
    expect(await kept(id("running"))).to.equal(true);
    await store.requests.drop(id("running"));
    expect(await kept(id("running"))).to.equal(false);
  });

  it("is up to which challenge all are over, which never becomes less", async () => {
    expect(await store.disputes.overUpTo()).to.equal(0n);
    for (const upTo of [3n, 9n, 4n]) await store.disputes.noteOver(upTo);
    expect(await store.disputes.overUpTo()).to.equal(9n);
  });
});
