import { expect } from "chai";
import { id } from "ethers";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { Copies, REPORT_SECONDS, Unarchived, type CopiesConfig } from "../../oracle/attestor/copies";
import { ReceiptVerifier } from "../../oracle/attestor/receiptVerifier";
import { shownBatch } from "../../oracle/attestor/shownBatch";
import {
  batchDigest,
  headerFromJson,
  proposalDigest,
  receiptDigest,
  signDigest,
  signedGrantFromJson,
  signedReceiptFromJson,
} from "../../oracle/protocol/messages";
import { zeroUsage } from "../../oracle/protocol/meters";
import type { BatchHeader, Receipt } from "../../oracle/protocol/types";
import { subjectOf } from "../../oracle/protocol/receiptBytes";
import { counted, summarize } from "../../oracle/settler/batches";
import { archiveProblem } from "../../oracle/store/archive";
import { copiesFolder, CopyArchive } from "../../oracle/store/copyArchive";
import type { Database } from "../../oracle/store/database";
import { Store } from "../../oracle/store/store";
import { ReportCourt__factory } from "../../typechain-types";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN } from "../support/fakeMessages";
import { freshMarket } from "../support/market";
import type { StubChain } from "../support/stubChain";
import {
  brought,
  chained,
  COMMITTEE,
  EPOCH,
  KEYS,
  LANE,
  receiptUnder,
  requestSignedBy,
  signGrant,
  signMeasurement,
  stubMarket,
} from "../support/stubMarket";

interface Shown {
  header: unknown;
  proposal: string;
  missing: number;
  receipts: { receipt: unknown; signature: string; request_signature: string | null }[];
}

describeOnEach("A batch that an attestor signed", (placeOf) => {
  let place: Place;
  let chain: StubChain;
  let store: Store;
  let database: Database;
  let verifier: ReceiptVerifier;
  let header: BatchHeader;
  let batchId: string;

  const signed = (receipt: Receipt) => ({
    receipt,
    signature: signDigest(KEYS.operator, receiptDigest(DOMAIN, receipt)),
  });
  const seven = signGrant();
  const eight = signGrant({ licenseId: 8n });
  const receipts = [
    ...chained([receiptUnder(seven, 1n), requestSignedBy(receiptUnder(seven, 2n), KEYS.outsider)]),
    receiptUnder(eight, 1n),
  ].map(signed);
  /** Of the same time, and of no batch. */
  const other = signed(receiptUnder(seven, 9n, { finishedAt: EPOCH.epochStart + 50 }));

  beforeEach(async () => {
    place = placeOf();
    chain = stubMarket();
    database = await place.open();
    store = new Store(database);
    verifier = new ReceiptVerifier(DOMAIN, 1);
    await copies().keep([receipts[2], other, ...receipts.slice(0, 2)].map(brought));
    const withHash = receipts.map((one) => ({ ...one, hash: receiptDigest(DOMAIN, one.receipt) }));
    const { summary } = summarize(withHash.map(counted));
    const service = { availabilityBps: 10_000, p95TtftMs: 1, samples: 20 };
    const hashes = { root: summary.root, entriesHash: id("entries"), evidenceHash: id("evidence") };
    header = { ...LANE, ...EPOCH, ...zeroUsage(), ...service, ...hashes, sequence: 1n, count: 3n };
    batchId = batchDigest(DOMAIN, header);
    await store.attested.record(
      batchId,
      header,
      withHash.map(({ receipt, hash }) => ({ receipt, hash, cost: 1n })),
      { measurements: [signMeasurement(KEYS.attestors[0])], proposal: proposalOf(batchId) },
    );
  });

  afterEach(async () => {
    await verifier.close();
    await store.close();
    place.remove();
  });

  const proposalOf = (of: string) => signDigest(KEYS.proposer, proposalDigest(DOMAIN, { batchId: of }));
  const copies = (config: Partial<CopiesConfig> = {}) =>
    new Copies({ chain, store }, { committee: COMMITTEE.address, ...config }, verifier);
  const parsed = ({ receipt, signature }: Shown["receipts"][number]) => signedReceiptFromJson({ receipt, signature });
  const show = async () => (await shownBatch(database, batchId)) as unknown as Shown;
  const settleable = () => chain.epochPeriod + chain.windowPeriod;

  it("is shown with its operator's proposal, and its receipts in the order of its tree, as gateways show receipts", async () => {
    const { header: shownHeader, proposal, missing, receipts: shown } = await show();
    expect(headerFromJson(shownHeader)).to.deep.equal(header);
    expect([proposal, missing]).to.deep.equal([proposalOf(batchId), 0]);
    expect(shown.map(parsed)).to.deep.equal(receipts);
    expect(shown.map(({ request_signature: packed }) => packed?.length)).to.deep.equal([undefined, 142, undefined]);
    const made = shown.map(parsed).map((one) => ({ ...one, hash: receiptDigest(DOMAIN, one.receipt) }));
    expect(summarize(made.map(counted)).summary.root).to.equal(header.root);
  });

  it("keeps its proposal as long as breaches can be reported, and its receipts until it can't settle", async () => {
    chain.time = EPOCH.epochEnd + settleable() + 1;
    await copies().dropOld();
    const { proposal, missing, receipts: shown } = await show();
    expect([proposal, missing, shown]).to.deep.equal([proposalOf(batchId), 3, []]);
    chain.time = EPOCH.epochEnd + REPORT_SECONDS;
    await copies().dropOld();
    expect((await show()).proposal).to.equal(proposalOf(batchId));
    chain.time += 1;
    await copies().dropOld();
    await expect(show()).to.be.rejectedWith("ended over sixty days ago: breaches of it can't be reported any more");
  });

  it("keeps its receipts longer where the attestor is told to", async () => {
    const keepCopiesSeconds = 30 * 86_400;
    chain.time = EPOCH.epochStart + keepCopiesSeconds;
    await copies({ keepCopiesSeconds }).dropOld();
    const { missing, receipts: shown } = await show();
    expect([missing, shown[1].request_signature?.length]).to.deep.equal([0, 142]);
    chain.time = EPOCH.epochEnd + keepCopiesSeconds + chain.epochPeriod + 1;
    await copies({ keepCopiesSeconds }).dropOld();
    expect((await show()).missing).to.equal(3);
  });

  describe("in an archive", () => {
    const KEEP_SECONDS = 60 * 86_400;
    let folder: string;
    let archive: CopyArchive;

    beforeEach(() => {
      folder = mkdtempSync(path.join(tmpdir(), "licet-copies-"));
      archive = new CopyArchive(store, folder, KEEP_SECONDS);
      chain.time = EPOCH.epochEnd + chain.windowPeriod + 1;
    });

    afterEach(() => rmSync(folder, { recursive: true }));

    const archiving = (config: Partial<CopiesConfig> = {}, into: Pick<CopyArchive, "archiveDue"> = archive) =>
      new Copies({ chain, store, archive: into }, { committee: COMMITTEE.address, ...config }, verifier);
    const file = () => path.join(folder, "attestor", "archive", `${batchId}.ndjson.gz`);
    const rows = async () =>
      (await store.copies.after(LANE.operatorId, { licenseId: 0n, sequence: 0n }, 99)).map(
        ({ record }) => subjectOf(record).sequence,
      );
    const facts = async () => (await store.archive.list())[0];

    it("is shown as before, when its copies are no rows any more but for what no batch has", async () => {
      const before = await show();
      expect(await rows()).to.deep.equal([1n, 2n, 9n, 1n]);
      await archiving().dropOld();
      expect(await rows()).to.deep.equal([9n]);
      expect(await shownBatch(database, batchId, folder)).to.deep.equal(before);
      expect(archiveProblem(copiesFolder(folder), await facts())).to.equal(null);
      const [head] = gunzipSync(readFileSync(file())).toString().split("\n");
      expect(JSON.parse(head)).to.include({ batch: batchId, proposal: proposalOf(batchId) });
      const last = await store.operatorCopies.lastReceiptsAfter(LANE.operatorId, 0n, 9);
      expect(last.map(({ record }) => subjectOf(record).sequence)).to.deep.equal([2n, 1n]);
    });

    it("isn't while it may still settle, nor while its copies are to stay in the store", async () => {
      chain.time -= 1;
      await archiving().dropOld();
      const keepCopiesSeconds = 30 * 86_400;
      chain.time = EPOCH.epochEnd + keepCopiesSeconds;
      await archiving({ keepCopiesSeconds }).dropOld();
      expect([existsSync(file()), await rows()]).to.deep.equal([false, [1n, 2n, 9n, 1n]]);
      chain.time += 1;
      await archiving({ keepCopiesSeconds }).dropOld();
      expect([existsSync(file()), await rows()]).to.deep.equal([true, [9n]]);
    });

    it("leaves room for others of the operator's", async () => {
      const attestor = archiving({ copiesPerOperator: 4 });
      const next = brought(signed(receiptUnder(eight, 2n, { finishedAt: chain.time })));
      expect((await attestor.keep([next])).refused).to.have.length(1);
      await attestor.dropOld();
      expect((await attestor.keep([next])).kept).to.equal(1);
    });

    it("loses nothing where it dies between the file and the rows", async () => {
      const { dropCopies } = store.attested;
      store.attested.dropCopies = () => Promise.reject(new Error("killed"));
      await expect(archiving().dropOld()).to.be.rejectedWith("killed");
      const written = readFileSync(file());
      expect(await rows()).to.have.length(4);
      store.attested.dropCopies = dropCopies;
      await archiving().dropOld();
      expect(await rows()).to.deep.equal([9n]);
      expect(readFileSync(file()).equals(written)).to.equal(true);
      expect(await store.archive.unmoved()).to.deep.equal([]);
      expect((await shownBatch(database, batchId, folder)) as object).to.include({ missing: 0 });
    });

    it("stays rows where no file can be written", async () => {
      const blocked = path.join(folder, "file");
      writeFileSync(blocked, "");
      chain.time += settleable();
      const attempt = archiving({}, new CopyArchive(store, blocked, KEEP_SECONDS)).dropOld();
      await expect(attempt).to.be.rejectedWith(/ENOTDIR|EEXIST/);
      expect(await rows()).to.have.length(4);
    });

    /** A second batch, of a lane of its own, whose epoch ended later. */
    const attestSecond = async () => {
      const one = signed(receiptUnder(eight, 2n, { finishedAt: EPOCH.epochEnd + 10 }));
      await copies().keep([brought(one)]);
      const times = { epochStart: EPOCH.epochEnd, epochEnd: EPOCH.epochEnd + 20 };
      const { root } = summarize([counted({ ...one, hash: receiptDigest(DOMAIN, one.receipt) })]).summary;
      const second = { ...header, ...times, root, sequence: 2n, count: 1n };
      const secondId = batchDigest(DOMAIN, second);
      const attested = [{ receipt: one.receipt, hash: receiptDigest(DOMAIN, one.receipt), cost: 1n }];
      await store.attested.record(secondId, second, attested, { measurements: [], proposal: proposalOf(secondId) });
      return secondId;
    };

    it("isn't waited for by others where it can't be made, and is made the next time", async () => {
      const secondId = await attestSecond();
      chain.time += settleable() + 20;
      mkdirSync(`${file()}.part`, { recursive: true });
      await expect(archiving().dropOld()).to.be.rejectedWith(
        Unarchived,
        new RegExp(`^Batch ${batchId} can't be archived: EISDIR`),
      );
      expect(await rows()).to.deep.equal([1n, 2n, 9n, 1n]);
      expect((await store.archive.list()).map(({ name }) => name)).to.deep.equal([secondId]);
      rmSync(`${file()}.part`, { recursive: true });
      await archiving().dropOld();
      expect(await rows()).to.deep.equal([]);
      expect(await shownBatch(database, batchId, folder)).to.include({ missing: 0 });
    });

    it("is written again where another process wrote it into a folder of its own, and died", async () => {
      const { dropCopies } = store.attested;
      store.attested.dropCopies = () => Promise.reject(new Error("killed"));
      const others = path.join(folder, "others");
      await expect(archiving({}, new CopyArchive(store, others, KEEP_SECONDS)).dropOld()).to.be.rejectedWith("killed");
      store.attested.dropCopies = dropCopies;
      expect(existsSync(file())).to.equal(false);
      await archiving().dropOld();
      expect([existsSync(file()), await rows()]).to.deep.equal([true, [9n]]);
      expect(await shownBatch(database, batchId, folder)).to.include({ missing: 0 });
    });

    it("keeps the copies that are left where its file can't be read, and some are gone", async () => {
      const { dropCopies } = store.attested;
      store.attested.dropCopies = async ({ ...batch }) => {
        await dropCopies.call(store.attested, { ...batch, receipts: batch.receipts.slice(0, 1), batchId: id("none") });
        throw new Error("killed");
      };
      await expect(archiving().dropOld()).to.be.rejectedWith("killed");
      store.attested.dropCopies = dropCopies;
      const elsewhere = new CopyArchive(store, path.join(folder, "elsewhere"), KEEP_SECONDS);
      await expect(archiving({}, elsewhere).dropOld()).to.be.rejectedWith(
        "put it back from a backup, or have the attestor's processes share the folder",
      );
      expect(await rows()).to.deep.equal([2n, 9n, 1n]);
      await archiving().dropOld();
      expect(await rows()).to.deep.equal([9n]);
    });

    it("has the grants that its receipts came under, once each, which have gone from the store by then", async () => {
      const keepCopiesSeconds = 30 * 86_400;
      await copies().keepGrants(LANE.operatorId, [seven, eight]);
      chain.time = EPOCH.epochEnd + keepCopiesSeconds + 1;
      await archiving({ keepCopiesSeconds }).dropOld();
      const lines = gunzipSync(readFileSync(file())).toString().trim().split("\n").slice(1); // prettier-ignore
      const grants = lines.map((line) => (JSON.parse(line) as { grant?: unknown }).grant);
      expect(grants.map((grant) => grant && signedGrantFromJson(grant))).to.deep.equal([seven, undefined, eight]);
    });

    it("is told from what was written", async () => {
      await archiving().dropOld();
      writeFileSync(file(), "something else");
      expect(archiveProblem(copiesFolder(folder), await facts())).to.match(/has the SHA-256 \w+, and was written with/);
      await expect(shownBatch(database, batchId, folder)).to.be.rejectedWith(/can't be read .*: put it back from a/);
    });

    it("is removed when it was kept long enough", async () => {
      await archiving().dropOld();
      chain.time += KEEP_SECONDS;
      await archiving().dropOld();
      expect(existsSync(file())).to.equal(true);
      chain.time += 1;
      await archiving().dropOld();
      expect([existsSync(file()), await facts()]).to.deep.equal([false, undefined]);
    });
  });

  it("is refused by a name that is none, or that nothing was signed under", async () => {
    await expect(shownBatch(database, "7")).to.be.rejectedWith(
      "--id must be a batch's, 0x and 64 lowercase hex digits",
    );
    await expect(shownBatch(database, id("another"))).to.be.rejectedWith(`never signed a batch ${id("another")}`);
  });

  it("is given to no operator that lost its store once it can't settle any more", async () => {
    expect(await copies().openBatchesOf(LANE.operatorId)).to.have.length(1);
    chain.time = EPOCH.epochEnd + chain.windowPeriod + 1;
    expect(await copies().openBatchesOf(LANE.operatorId)).to.deep.equal([]);
  });

  it("has its requests remembered until no breach of it can be reported any more", async () => {
    const ids = receipts.map(({ receipt }) => receipt.requestId);
    const seen = async () => (await store.attested.seenRequests(LANE.operatorId, ids)).size;
    chain.time = EPOCH.epochEnd + REPORT_SECONDS;
    await copies().dropOld();
    expect(await seen()).to.equal(3);
    chain.time += 1;
    await copies().dropOld();
    expect(await seen()).to.equal(0);
  });

  it("has requests forgotten some at a time, of old batches alone, over and over", async () => {
    const young = signed(receiptUnder(seven, 3n));
    const hash = receiptDigest(DOMAIN, young.receipt);
    const later = { ...header, sequence: 2n, epochStart: EPOCH.epochEnd, epochEnd: EPOCH.epochEnd + 10 };
    await store.attested.record(id("a younger batch"), later, [{ ...young, hash, cost: 1n }]);
    const ids = [...receipts, young].map(({ receipt }) => receipt.requestId);
    const left = async () => [...(await store.attested.seenRequests(LANE.operatorId, ids)).values()];
    let place = null;
    const lefts = [];
    for (let look = 0; look < 3; look++) {
      place = await store.attested.forgetRequests(EPOCH.epochEnd + 1, place, 2);
      lefts.push((await left()).length);
    }
    expect(lefts[0]).to.be.within(2, 3);
    expect(await left()).to.deep.equal([id("a younger batch")]);
    expect(await store.attested.forgetRequests(EPOCH.epochEnd + 1, null, 2)).to.equal(null);
  });

  it("has what its grants cost remembered until they have ended, and nothing may settle under them", async () => {
    await store.operatorCopies.keepGrants(LANE.operatorId, [{ hash: hashOfGrant(), signed: seven }], 9);
    chain.time = seven.grant.expiresAt + settleable();
    await copies().dropOld();
    expect(await store.attested.cost(hashOfGrant(), "")).to.equal(2n);
    chain.time += 1;
    await copies().dropOld();
    expect(await store.attested.cost(hashOfGrant(), "")).to.equal(0n);
  });

  const hashOfGrant = () => receipts[0].receipt.grantHash;

  it("can be reported as long as the court says", async () => {
    const { licet } = await freshMarket();
    const reports = ReportCourt__factory.connect(await licet.reports.getAddress(), licet.reports.runner);
    expect(await reports.REPORT_PERIOD()).to.equal(BigInt(REPORT_SECONDS));
  });
});
