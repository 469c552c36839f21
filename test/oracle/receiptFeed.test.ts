import { expect } from "chai";
import { toBeHex } from "ethers";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import { COPIES_WITHOUT_STAKE } from "../../oracle/attestor/copies";
import { retrieveReceipts, type SignedRetrieval } from "../../oracle/attestor/retrievalApi";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { grantDigest, retrievalDigest, signDigest } from "../../oracle/protocol/messages";
import type { Retrieval } from "../../oracle/protocol/types";
import { ReceiptFeed } from "../../oracle/settler/receiptFeed";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN } from "../support/fakeMessages";
import { until } from "../support/gatewayBench";
import type { StubChain } from "../support/stubChain";
import { COMMITTEE, EPOCH, KEYS, LANE, serveReceipt, signGrant, stubMarket } from "../support/stubMarket";

const silent = createLog("error", () => {});

describeOnEach("ReceiptFeed", (placeOf) => {
  let places: Place[];
  let chain: StubChain;
  let store: Store;
  let kept: Store;
  let attestor: Attestor;
  let lines: string[];
  let served: number;

  const start = async (port = 0) =>
    startAttestor(
      { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address, port },
      { chain, store: kept, log: silent },
    );

  beforeEach(async () => {
    [served, lines] = [0, []];
    chain = stubMarket();
    places = [placeOf(), placeOf()];
    [store, kept] = await Promise.all(places.map(async (place) => new Store(await place.open())));
    attestor = await start();
  });

  afterEach(async () => {
    await attestor.close();
    await store.close();
    await kept.close();
    places.forEach((place) => place.remove());
  });

  const feedTo = (...urls: string[]) =>
    new ReceiptFeed(
      { store, log: createLog("debug", (line) => lines.push(line)) },
      { attestors: urls.map((url, i) => ({ address: COMMITTEE.members[i], url })), attestorTimeoutMs: 2_000 },
    );
  const us = () => ({ address: COMMITTEE.members[0], url: attestor.url });
  const serve = async (count: number, key = KEYS.operator) => {
    for (let i = 0; i < count; i++) await serveReceipt(store, { requestId: toBeHex(++served, 32), key });
  };
  const copies = async () => (await kept.copies.count()).get(LANE.operatorId) ?? 0;
  const records = async (of: Promise<{ record: Uint8Array }[]>) =>
    (await of).map(({ record }) => Buffer.from(record).toString("hex"));

  it("sends each receipt once, in the order in which they were written", async () => {
    const feed = feedTo(attestor.url);
    await serve(3);
    expect(await feed.feed(us())).to.equal(3);
    await serve(2);
    expect(await feed.feed(us())).to.equal(2);
    expect(await feed.feed(us())).to.equal(0);
    expect(await records(kept.copies.after(LANE.operatorId, { licenseId: 0n, sequence: 0n }, 10))).to.deep.equal(
      await records(store.feeds.receiptsAfter(0n, 10)),
    );
  });

  it("sends requests' signatures along, which come back with the receipts", async () => {
    const requestSignature = Buffer.alloc(70, 1);
    await serve(1);
    await serveReceipt(store, { requestId: toBeHex(99, 32), requestSignature });
    expect(await feedTo(attestor.url).feed(us())).to.equal(2);
    const sent = await store.feeds.receiptsAfter(0n, 10);
    expect(sent.map(({ record }) => record.length)).to.deep.equal([351, 421]);
    expect(await records(kept.copies.after(LANE.operatorId, { licenseId: 0n, sequence: 0n }, 10))).to.deep.equal(
      await records(Promise.resolve(sent)),
    );

    const retrieval: Retrieval = { operatorId: LANE.operatorId, attestor: COMMITTEE.members[0], at: chain.time };
    const signature = signDigest(KEYS.operator, retrievalDigest(DOMAIN, retrieval));
    const back = await retrieveReceipts(attestor.url, { retrieval, signature }, 0n, 2_000);
    expect(back.records.map((record) => record.toString("hex"))).to.deep.equal(await records(Promise.resolve(sent)));
  });

  it("goes on where it was after a restart", async () => {
    await serve(2);
    await feedTo(attestor.url).feed(us());
    await serve(1);
    expect(await feedTo(attestor.url).feed(us())).to.equal(1);
  });

  it("sends the same again where the attestor didn't answer", async () => {
    await serve(2);
    const { url } = attestor;
    await attestor.close();
    const failure = await feedTo(url)
      .feed({ ...us(), url })
      .catch((error: Error) => error);
    expect(failure).to.be.instanceOf(Error);
    attestor = await start();
    expect(await feedTo(attestor.url).feed(us())).to.equal(2);
    expect(await copies()).to.equal(2);
  });

  it("leaves out what settled, or can't any more", async () => {
    await serve(2);
    await store.unbatched.void(LANE, EPOCH);
    await serve(1);
    expect(await feedTo(attestor.url).feed(us())).to.equal(1);
    expect(await copies()).to.equal(1);
  });

  it("goes past what an attestor refuses, and says why", async () => {
    await serve(1, KEYS.outsider);
    await serve(1);
    expect(await feedTo(attestor.url).feed(us())).to.equal(2);
    expect(await copies()).to.equal(1);
    expect(lines.join()).to.match(/Attestor doesn't keep receipts.*Receipt 1 of license 7 is signed by/);
  });

  describe("with a proposer's key", () => {
    const withKey = (key: string) =>
      new ReceiptFeed(
        { store, log: createLog("debug", (line) => lines.push(line)), chain, proposer: localSigner(key) },
        { attestors: [us()], attestorTimeoutMs: 2_000 },
      );
    const grantsAt = async () =>
      (await kept.operatorCopies.grantsAfter(LANE.operatorId, "0x", 9)).map(({ hash }) => hash);
    const hashOf = (licenseId: bigint) => grantDigest(DOMAIN, signGrant({ licenseId }).grant);

    it("brings each grant once, before the receipts under it", async () => {
      const feed = withKey(KEYS.proposer);
      await serve(2);
      await serveReceipt(store, { requestId: toBeHex(99, 32), licenseId: 8n });
      await feed.feed(us());
      const both = [hashOf(7n), hashOf(8n)].sort();
      expect(await grantsAt()).to.deep.equal(both);
      expect(await kept.operatorCopies.dropGrants(2 ** 40)).to.equal(2);
      await serve(1);
      await feed.feed(us());
      expect(await grantsAt()).to.deep.equal([]);
      await serve(1);
      await withKey(KEYS.proposer).feed(us());
      expect(await grantsAt()).to.deep.equal([hashOf(7n)]);
    });

    it("brings receipts all the same where the attestor doesn't know the key, and says so once", async () => {
      const feed = withKey(KEYS.outsider);
      for (const count of [1, 2]) {
        await serve(1);
        await feed.feed(us());
        expect(await copies()).to.equal(count);
      }
      expect(await grantsAt()).to.deep.equal([]);
      expect(lines.filter((line) => line.includes("isn't sent grants"))).to.have.length(1);
    });

    it("goes on where the attestor has no room for grants of an operator without stake", async () => {
      chain.stakeHeadroom = 0n;
      const grants = Array.from({ length: COPIES_WITHOUT_STAKE }, (_, i) => ({
        ...{ hash: toBeHex(i, 32), signed: signGrant() },
      }));
      await kept.operatorCopies.keepGrants(LANE.operatorId, grants, COPIES_WITHOUT_STAKE);
      await serve(1);
      await withKey(KEYS.proposer).feed(us());
      expect(await copies()).to.equal(1);
      expect(lines.join()).to.contain("Attestor has no room for more grants");
    });

    it("brings nothing while the attestor is away, and all of it afterwards", async () => {
      await serve(1);
      const feed = withKey(KEYS.proposer);
      const { port } = new URL(attestor.url);
      await attestor.close();
      await expect(feed.feed(us())).to.be.rejectedWith("fetch failed");
      attestor = await start(Number(port));
      await feed.feed(us());
      expect([await copies(), (await grantsAt()).length]).to.deep.equal([1, 1]);
    });
  });

  describe("what an attestor gives back", () => {
    const signedBy = (key: string, changes: Partial<Retrieval> = {}): SignedRetrieval => {
      const retrieval = { operatorId: LANE.operatorId, attestor: attestor.address, at: chain.time, ...changes };
      return { retrieval, signature: signDigest(key, retrievalDigest(DOMAIN, retrieval)) };
    };
    const refusal = (signed: SignedRetrieval) =>
      retrieveReceipts(attestor.url, signed, 0n, 2_000).catch((error: Error) => error.message);

    beforeEach(async () => {
      await serve(3);
      await feedTo(attestor.url).feed(us());
    });

    it("is the operator's receipts, as they were sent, page by page", async () => {
      const first = await retrieveReceipts(attestor.url, signedBy(KEYS.proposer), 0n, 2_000);
      expect(first.records.map((record) => record.toString("hex"))).to.deep.equal(
        await records(store.feeds.receiptsAfter(0n, 10)),
      );
      const second = await retrieveReceipts(attestor.url, signedBy(KEYS.proposer), first.position - 1n, 2_000);
      expect(second).to.deep.equal({ records: first.records.slice(2), position: first.position });
      const end = await retrieveReceipts(attestor.url, signedBy(KEYS.proposer), first.position, 2_000);
      expect(end).to.deep.equal({ records: [], position: first.position });
    });

    it("is nobody else's, nor what was asked of another or long ago", async () => {
      expect(await refusal(signedBy(KEYS.outsider)))
        .to.contain("403")
        .and.to.contain("isn't a key of operator 2");
      expect(await refusal(signedBy(KEYS.proposer, { operatorId: 5 }))).to.contain("isn't a key of operator 5");
      const other = COMMITTEE.members[1];
      expect(await refusal(signedBy(KEYS.proposer, { attestor: other }))).to.contain(`The request is to ${other}`);
      const old = signedBy(KEYS.proposer, { at: chain.time - 301 });
      expect(await refusal(old)).to.contain(`was signed at ${chain.time - 301}, and it is ${chain.time}`);
      const response = await fetch(`${attestor.url}/v1/receipts`);
      expect(response.status).to.equal(400);
    });
  });

  describe("beside one that takes nothing", () => {
    let hanging: Server;
    let asked: number;

    beforeEach(async () => {
      asked = 0;
      hanging = createServer(() => void asked++).listen(0, "127.0.0.1");
      await once(hanging, "listening");
    });

    afterEach(() => {
      hanging.closeAllConnections();
      hanging.close();
    });

    it("feeds the others, and ends when it is told to", async () => {
      const ending = new AbortController();
      const silentUrl = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`;
      await serve(1);
      const running = feedTo(attestor.url, silentUrl).run(ending.signal);
      let count = 0;
      const counting = setInterval(() => void copies().then((now) => (count = now)), 20);
      await until(() => count === 1 && asked === 1);
      await serve(2);
      await until(() => count === 3);
      clearInterval(counting);
      ending.abort();
      await running;
      expect(await store.feeds.upTo(COMMITTEE.members[1])).to.equal(0n);
    });
  });
});
