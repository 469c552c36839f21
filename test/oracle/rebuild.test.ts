import { expect } from "chai";
import { computeAddress, id, ZeroHash } from "ethers";
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import { sendReceipts } from "../../oracle/attestor/attestorApi";
import {
  BATCHES_PATH,
  GRANTS_PATH,
  POSITION_HEADER,
  retrieveGrants,
  sendGrants,
  signRetrieval,
} from "../../oracle/attestor/retrievalApi";
import type { SettledBatch } from "../../oracle/chain/settledBatches";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { Problem } from "../../oracle/problem";
import { batchDigest, grantDigest, receiptDigest, signDigest, signedGrantToJson } from "../../oracle/protocol/messages";
import { encodeReceipt, frameOf, RECEIPTS_MEDIA_TYPE, RECORD_BYTES } from "../../oracle/protocol/receiptBytes";
import { packRequestSignature, requestSignatureHash } from "../../oracle/protocol/requestSignature";
import type { Receipt, SignedGrant } from "../../oracle/protocol/types";
import { rebuild, type Rebuilt } from "../../oracle/recovery/rebuild";
import { counted, summarize } from "../../oracle/settler/batches";
import type { SignedOff } from "../../oracle/store/operatorCopies";
import { signedOffToJson } from "../../oracle/store/operatorCopies";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN } from "../support/fakeMessages";
import type { StubChain } from "../support/stubChain";
import {
  chained,
  COMMITTEE,
  EPOCH,
  KEYS,
  LANE,
  offer,
  receiptUnder,
  requestOf,
  serveReceipt,
  signGrant,
  stubMarket,
} from "../support/stubMarket";

const silent = createLog("error", () => {});
const hashOf = (receipt: Receipt) => receiptDigest(DOMAIN, receipt);
const recordOf = (receipt: Receipt, key = KEYS.operator) =>
  encodeReceipt({ receipt, signature: signDigest(key, hashOf(receipt)) });

/** An attestor that says what a test wants. */
interface Liar {
  records: Buffer[];
  grants: { signed: SignedGrant; used: bigint }[];
  batches: SignedOff[];
}

describeOnEach("rebuild", (placeOf) => {
  let chain: StubChain;
  let place: Place;
  let store: Store;
  let attestors: { attestor: Attestor; kept: Store }[];
  let liar: Liar;
  let liarServer: Server;

  const GRANT = signGrant({ cap: 1_000n });
  const OTHER = signGrant({ licenseId: 8n });

  beforeEach(async () => {
    chain = stubMarket();
    place = placeOf();
    store = new Store(await place.open());
    attestors = [];
    for (const i of [0, 1]) {
      const kept = new Store(sqliteDatabase(":memory:"));
      const config = { signer: localSigner(KEYS.attestors[i]), committee: COMMITTEE.address };
      attestors.push({ attestor: await startAttestor(config, { chain, store: kept, log: silent }), kept });
    }
    liar = { records: [], grants: [], batches: [] };
    liarServer = await startLiar();
  });

  afterEach(async () => {
    for (const { attestor, kept } of attestors) {
      await attestor.close();
      await kept.close();
    }
    liarServer.closeAllConnections();
    liarServer.close();
    await store.close();
    place.remove();
  });

  async function startLiar(): Promise<Server> {
    const server = createServer(({ url }, response) => {
      const { pathname, searchParams } = new URL(url!, "http://liar");
      const json = (body: object) => response.setHeader("content-type", "application/json").end(JSON.stringify(body));
      if (pathname === BATCHES_PATH) return json({ batches: liar.batches.map(signedOffToJson) });
      if (pathname === GRANTS_PATH) {
        return json({
          grants: liar.grants.map(({ signed, used }) => ({
            ...signedGrantToJson(signed),
            ...{ hash: grantDigest(DOMAIN, signed.grant), used: String(used) },
          })),
        });
      }
      const isFirst = searchParams.get("after") === "0" && !pathname.endsWith("last");
      const [records, position] = isFirst ? [liar.records, "9"] : [[], searchParams.get("after")!];
      response.setHeader("content-type", RECEIPTS_MEDIA_TYPE).setHeader(POSITION_HEADER, position);
      return response.end(frameOf(records));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return server;
  }

  const liarUrl = () => `http://127.0.0.1:${(liarServer.address() as { port: number }).port}`;

  const bring = (to: number, records: Buffer[]) => sendReceipts(attestors[to].attestor.url, records, 5_000);
  const retrievalOf = (to: number) => {
    const retrieval = { operatorId: LANE.operatorId, attestor: COMMITTEE.members[to], at: chain.time };
    return signRetrieval(DOMAIN, localSigner(KEYS.proposer), retrieval);
  };
  const bringGrants = async (to: number, ...grants: SignedGrant[]) =>
    sendGrants(attestors[to].attestor.url, await retrievalOf(to), grants, 5_000);

  const rebuilt = (settled: SettledBatch[] = [], urls?: string[]): Promise<Rebuilt> => {
    const from = urls ?? [...attestors.map(({ attestor }) => attestor.url), liarUrl()];
    return rebuild(
      {
        operatorId: LANE.operatorId,
        attestors: from.map((url, i) => ({ address: COMMITTEE.members[i], url })),
        attestorTimeoutMs: 5_000,
      },
      { store, chain, signer: localSigner(KEYS.proposer), log: silent, settled, finalBlock: 100 },
    );
  };

  const some = (count: number, grant = GRANT, fields: Partial<Receipt> = {}) =>
    chained(Array.from({ length: count }, (_, i) => receiptUnder(grant, BigInt(i + 1), fields)));

  /** On the chain, of these receipts and the lane's epoch. */
  const settledOf = (receipts: Receipt[], fields: Partial<SettledBatch> = {}): SettledBatch => {
    const { header } = requestOf({ grants: [GRANT], receipts });
    const licenses = [...new Set(receipts.map(({ licenseId }) => licenseId))];
    const signed = receipts.map((receipt) => ({
      ...{ receipt, hash: hashOf(receipt), signature: signDigest(KEYS.operator, hashOf(receipt)) },
    }));
    const { entries } = summarize(signed.map(counted));
    const batchId = batchDigest(DOMAIN, header);
    return { batchId, header, entries, proof: "0x12", licenses, block: 50, isReleased: false, ...fields };
  };

  const stateOf = async ({ requestId }: Receipt) => (await store.receipts.ofRequest(requestId))?.state;
  const costOf = ({ outputTokens }: Receipt) => 1n + 2n * outputTokens;
  const sumOf = (receipts: Receipt[]) => receipts.reduce((sum, receipt) => sum + costOf(receipt), 0n);

  it("takes what any of the attestors has, once, and owes just that", async () => {
    const [mine, others] = [some(4), some(2, OTHER)];
    await bring(
      0,
      [...mine.slice(0, 3), ...others].map((one) => recordOf(one)),
    );
    await bring(
      1,
      mine.slice(1).map((one) => recordOf(one)),
    );
    await bringGrants(0, GRANT, OTHER);
    const result = await rebuilt();
    expect(result).to.include({ added: 6, refused: 0, unsettled: 6, unsettledCost: sumOf([...mine, ...others]) });
    expect(result.lackingGrants).to.deep.equal([]);
    expect(await store.tallies.unsettled(7n)).to.equal(sumOf(mine));
    expect(await store.tallies.unsettledOfAll()).to.equal(sumOf([...mine, ...others]));
    expect(await store.grants.used(grantDigest(DOMAIN, GRANT.grant))).to.equal(sumOf(mine));
    expect(await store.grants.find(grantDigest(DOMAIN, OTHER.grant))).to.deep.equal(OTHER);
    expect((await store.receipts.from(LANE.operatorId, 7n, 1n, 9)).map(({ hash }) => hash)).to.deep.equal(
      mine.map(hashOf),
    );

    expect(await rebuilt()).to.include({ added: 0, unsettled: 6, unsettledCost: sumOf([...mine, ...others]) });
    expect(await store.grants.used(grantDigest(DOMAIN, GRANT.grant))).to.equal(sumOf(mine));
  });

  it("gives out no number that could have been given out before, and links to the last that is known", async () => {
    const mine = some(2);
    await bring(
      0,
      mine.map((one) => recordOf(one)),
    );
    const { numbersAbove } = await rebuilt();
    expect(numbersAbove).to.equal(BigInt(chain.time) * 2n ** 20n);
    await serveReceipt(store, { requestId: id("new"), licenseId: 7n });
    await serveReceipt(store, { requestId: id("of a license that nobody remembers"), licenseId: 8n });
    const [next, first] = await Promise.all(
      ["new", "of a license that nobody remembers"].map(
        async (name) => (await store.receipts.ofRequest(id(name)))!.receipt,
      ),
    );
    expect([next.sequence, first.sequence]).to.deep.equal([numbersAbove + 1n, numbersAbove + 1n]);
    expect([next.previousHash, first.previousHash]).to.deep.equal([hashOf(mine[1]), ZeroHash]);
    expect(await store.batches.lastSequence(LANE)).to.equal(BigInt(chain.time));

    chain.time += 1;
    expect((await rebuilt()).numbersAbove).to.equal(BigInt(chain.time) * 2n ** 20n);
    chain.time -= 1_000;
    const { numbersAbove: later } = await rebuilt();
    expect(later > next.sequence, "a clock that went back").to.equal(true);
  });

  it("says by the chain what is settled, what still may, and what has missed its window", async () => {
    const [mine, others] = [some(3), some(2, OTHER)];
    const next = receiptUnder(GRANT, 4n, { finishedAt: EPOCH.epochEnd + 5, previousHash: hashOf(mine[2]) });
    await bring(
      0,
      [...mine, ...others, next].map((one) => recordOf(one)),
    );
    const batch = settledOf(mine);
    const result = await rebuilt([batch]);
    expect(result).to.include({ settledBatches: 1, lackingOfSettled: 0n, unsettled: 3, voided: 0 });
    expect(await Promise.all([mine[2], others[0], next].map(stateOf))).to.deep.equal([
      "settled",
      "unbatched",
      "unbatched",
    ]);
    expect(await store.tallies.unsettled(7n)).to.equal(costOf(next));
    expect(await store.receipts.hashesIn(batch.batchId)).to.deep.equal(mine.map(hashOf));
    expect(await store.batches.unreleased(9)).to.deep.equal([{ batchId: batch.batchId, operatorId: LANE.operatorId }]);
    chain.time = EPOCH.epochEnd + chain.epochPeriod + chain.windowPeriod + 1;
    expect(await rebuilt([{ ...batch, isReleased: true }])).to.include({ voided: 2, unsettled: 1 });
    expect(await stateOf(others[1])).to.equal("void");
    expect(await store.batches.unreleased(9)).to.deep.equal([]);
  });

  it("leaves to the settler what a reorganization may still undo", async () => {
    const mine = some(2);
    await bring(
      0,
      mine.map((one) => recordOf(one)),
    );
    const batch = settledOf(mine, { block: 101 });
    expect(await rebuilt([batch])).to.include({ unsettled: 2, unsettledCost: sumOf(mine) });
    expect((await store.batches.find(batch.batchId))?.state).to.equal("submitted");
    await store.batches.markSettled(batch.batchId);
    expect(await store.tallies.unsettled(7n)).to.equal(0n);
  });

  it("tells how many of a settled batch's receipts nobody has", async () => {
    const mine = some(5);
    await bring(
      0,
      mine.slice(0, 2).map((one) => recordOf(one)),
    );
    expect(await rebuilt([settledOf(mine)])).to.include({ lackingOfSettled: 3n, unsettled: 0 });
  });

  it("takes the place of an older copy: what was drafted in it, and settled in other batches since, is owed no more", async () => {
    for (const i of [1, 2, 3]) await serveReceipt(store, { requestId: id(`served ${i}`) });
    const receipts = (await store.unbatched.receipts(LANE, EPOCH)).map(({ receipt }) => receipt);
    for (const to of [0, 1])
      await bring(
        to,
        receipts.map((one) => recordOf(one)),
      );
    const stale = settledOf(receipts.slice(0, 2));
    const header = { ...stale.header, sequence: 1n };
    await store.batches.saveDraft(
      batchDigest(DOMAIN, header),
      header,
      stale.entries,
      [],
      receipts.slice(0, 2).map(hashOf),
    );
    const grantHash = receipts[0].grantHash;
    await store.requests.open(
      { facts: { ...receipts[0], requestId: id("ran then") }, versionId: LANE.versionId, openedAt: chain.time },
      { gateway: "gone", amount: 500n, grantCap: 0n },
    );

    const settled = settledOf(receipts);
    const { added, unsettled } = await rebuilt([{ ...settled, header: { ...settled.header, sequence: 2n } }]);
    expect({ added, unsettled }).to.deep.equal({ added: 0, unsettled: 0 });
    expect(await store.tallies.of(7n)).to.deep.include({ reserved: 0n });
    expect(await store.tallies.unsettledOfAll()).to.equal(0n);
    expect(await store.requests.running()).to.deep.equal([]);
    expect(await store.grants.used(grantHash)).to.equal(33n);
  });

  it("has of licenses that idle their last receipts, long after their copies were dropped", async () => {
    const [mine, others] = [some(3), some(1, OTHER)];
    for (const to of [0, 1])
      await bring(
        to,
        [...mine, ...others].map((one) => recordOf(one)),
      );
    chain.time += chain.epochPeriod + chain.windowPeriod + 3_600;
    for (const { kept } of attestors)
      expect(await kept.copies.drop(chain.time - 3_600, chain.time, 0n, 10)).to.include({ dropped: 4 });
    expect(await rebuilt([settledOf([...mine, ...others])])).to.include({ added: 2, unsettled: 0 });
    expect(await stateOf(mine[2])).to.equal("settled");
    await serveReceipt(store, { requestId: id("new"), licenseId: 7n, finishedAt: chain.time });
    expect((await store.receipts.ofRequest(id("new")))!.receipt.previousHash).to.equal(hashOf(mine[2]));
  });

  it("has the signatures of requests back, which prove that their licensees asked", async () => {
    const packed = Buffer.from(packRequestSignature(EPOCH.epochStart, `0x${"12".repeat(65)}`).slice(2), "hex");
    const [signed] = some(1, OTHER, { requestSignatureHash: requestSignatureHash(packed) });
    liar.records = [Buffer.concat([recordOf(signed), Buffer.alloc(70, 1)])];
    await rebuilt();
    expect((await store.feeds.receiptsAfter(0n, 9)).map(({ record }) => record.length)).to.deep.equal([RECORD_BYTES]);
    liar.records = [Buffer.concat([recordOf(signed), packed])];
    await rebuilt();
    const [{ record }] = await store.feeds.receiptsAfter(0n, 9);
    expect(Buffer.from(record).toString("hex")).to.equal(liar.records[0].toString("hex"));
  });

  describe("of a batch that attestors have signed", () => {
    /** Has both attestors sign a batch, and @returns what they were asked. */
    async function sign(receipts: Receipt[], grants = [GRANT]) {
      const asked = requestOf({ grants, receipts });
      for (const { attestor } of attestors) {
        const answer = await offer(attestor.url, asked);
        expect("refusals" in answer ? answer.refusals : []).to.deep.equal([]);
      }
      return asked;
    }

    it("takes it up as it was, for they sign no other", async () => {
      const [mine, others] = [some(3), some(2, OTHER)];
      const { header } = await sign(mine);
      await bring(
        0,
        others.map((one) => recordOf(one)),
      );
      for (const to of [0, 1]) await bringGrants(to, GRANT, OTHER);
      const { resumed, lost, unsettled } = await rebuilt();
      const batchId = batchDigest(DOMAIN, header);
      expect({ resumed, lost, unsettled }).to.deep.equal({ resumed: [batchId], lost: [], unsettled: 5 });
      const { state, measurements, entries } = (await store.batches.find(batchId))!;
      expect({ state, measurements: measurements.length }).to.deep.equal({ state: "drafted", measurements: 3 });
      expect(await store.receipts.hashesIn(batchId)).to.deep.equal(mine.map(hashOf));
      expect(entries).to.equal(settledOf(mine).entries);
      expect(await stateOf(others[0])).to.equal("unbatched");
      // What they have attested of the grant's counts once.
      expect(await store.grants.used(grantDigest(DOMAIN, GRANT.grant))).to.equal(sumOf(mine));
      expect((await rebuilt()).resumed).to.deep.equal([batchId]);
    });

    it("names it, and until when its lane waits, where its receipts aren't all there", async () => {
      const mine = some(3);
      const { header } = await sign(mine);
      for (const { kept } of attestors) await kept.copies.drop(EPOCH.epochStart + 25, chain.time, 0n, 9);
      const { resumed, lost } = await rebuilt([], [attestors[0].attestor.url]);
      expect(resumed).to.deep.equal([]);
      const until = EPOCH.epochEnd + chain.windowPeriod;
      expect(lost).to.deep.equal([{ batchId: batchDigest(DOMAIN, header), until }]);
    });

    it("isn't asked for any more once it has settled", async () => {
      const mine = some(2);
      const { header } = await sign(mine);
      chain.lastBatch = { sequence: 1n, ...EPOCH };
      const { resumed, lost } = await rebuilt([{ ...settledOf(mine), header }]);
      expect({ resumed, lost }).to.deep.equal({ resumed: [], lost: [] });
    });

    it("believes only the operator's own proposals, whatever an attestor says that it signed", async () => {
      const mine = some(2);
      await bring(
        0,
        mine.map((one) => recordOf(one)),
      );
      const header = { sequence: 2n ** 40n };
      liar.batches = [requestOf({ grants: [GRANT], receipts: mine, header, proposalKey: KEYS.outsider })];
      expect(await rebuilt()).to.deep.include({ resumed: [], lost: [], unsettled: 2 });
      expect(await store.batches.lastSequence(LANE)).to.equal(BigInt(chain.time));
    });

    it("takes it up by an honest attestor's word where another shows other measurements", async () => {
      const asked = await sign(some(2));
      const measurements = asked.measurements.map((one) => ({
        ...one,
        measurement: { ...one.measurement, samples: 7 },
      }));
      liar.batches = [{ ...asked, measurements }];
      expect((await rebuilt()).resumed).to.have.length(1);
    });
  });

  describe("whom it doesn't believe", () => {
    it("takes no receipt of another key, operator, plan or version, and says why", async () => {
      const [good] = some(1);
      await bring(0, [recordOf(good)]);
      const planted = [
        recordOf(receiptUnder(GRANT, 2n), KEYS.outsider),
        recordOf(receiptUnder(GRANT, 3n, { operatorId: 5 })),
        recordOf(receiptUnder(GRANT, 4n, { planId: 9 })),
        recordOf(receiptUnder(GRANT, 5n, { manifestHash: id("other") })),
      ];
      liar.records = planted;
      const { added, refused, reasons } = await rebuilt();
      expect({ added, refused }).to.deep.equal({ added: 1, refused: 4 });
      expect(reasons).to.deep.equal([
        `Receipt 2 of license 7 is signed by ${computeAddress(KEYS.outsider)}, not a key of operator 2 at 100020, or revoked since`,
        "Receipt 3 of license 7 is of operator 5",
        "Receipt 4 of license 7 is under plan 9, which doesn't exist",
        `Receipt 5 of license 7 is of manifest ${id("other")}; asset 4 has no such version`,
      ]);
      expect(await store.tallies.unsettledOfAll()).to.equal(costOf(good));
    });

    it("keeps the first of two receipts for one number, or one request, and reports the other", async () => {
      const [one] = some(1);
      const twin = { ...one, requestId: id("twin") };
      const again = receiptUnder(GRANT, 9n, { requestId: one.requestId });
      await bring(0, [recordOf(one)]);
      liar.records = [twin, again].map((receipt) => recordOf(receipt));
      const { added, conflicts } = await rebuilt();
      expect(added).to.equal(1);
      const known = { licenseId: 7n, storedHash: hashOf(one) };
      expect(conflicts).to.deep.equal([
        { ...known, sequence: 1n, otherHash: hashOf(twin) },
        { ...known, sequence: 9n, otherHash: hashOf(again) },
      ]);
    });

    it("takes a grant that its license's owner signed, whoever else shows it signed by nobody", async () => {
      await bring(
        0,
        some(1).map((one) => recordOf(one)),
      );
      await bringGrants(1, GRANT);
      liar.grants = [{ signed: { ...GRANT, signature: `0x${"11".repeat(65)}` }, used: 0n }];
      expect((await rebuilt()).lackingGrants).to.deep.equal([]);
      expect(await store.grants.find(grantDigest(DOMAIN, GRANT.grant))).to.deep.equal(GRANT);
    });

    it("names grants that nobody has, and takes them when their licensees come", async () => {
      await bring(
        0,
        some(1).map((one) => recordOf(one)),
      );
      const hash = grantDigest(DOMAIN, GRANT.grant);
      liar.grants = [{ signed: { ...GRANT, signature: `0x${"11".repeat(65)}` }, used: 0n }];
      expect((await rebuilt()).lackingGrants).to.deep.equal([{ hash, licenseId: 7n }]);
      expect(await store.grants.find(hash)).to.equal(null);
      await store.grants.save(hash, GRANT);
      expect(await store.grants.find(hash)).to.deep.equal(GRANT);
    });

    it("lets no single attestor say how much of a grant's cap is used", async () => {
      const mine = some(2);
      const asked = requestOf({ grants: [GRANT], receipts: mine });
      for (const { attestor } of attestors) await offer(attestor.url, asked);
      for (const to of [0, 1]) await bringGrants(to, GRANT);
      liar.grants = [{ signed: GRANT, used: 999n }];
      const known = await retrieveGrants(attestors[0].attestor.url, await retrievalOf(0), "0x", 5_000);
      expect(known).to.deep.equal([{ hash: grantDigest(DOMAIN, GRANT.grant), signed: GRANT, used: sumOf(mine) }]);
      for (const { kept } of attestors) await kept.copies.drop(2 ** 40, chain.time, 0n, 9);
      chain.lastBatch = { sequence: 1n, ...EPOCH };
      await rebuilt([{ ...settledOf(mine), header: asked.header }]);
      expect(await store.grants.used(grantDigest(DOMAIN, GRANT.grant))).to.equal(sumOf(mine));
    });
  });

  it("does without an attestor that doesn't answer, and names it", async () => {
    await bring(
      0,
      some(1).map((one) => recordOf(one)),
    );
    const { silent: missing, added } = await rebuilt([], [attestors[0].attestor.url, "http://127.0.0.1:1"]);
    expect(added).to.equal(1);
    expect(missing.map(({ attestor }) => attestor)).to.deep.equal([COMMITTEE.members[1]]);
  });

  it("changes nothing where no attestor answers", async () => {
    const attempt = rebuilt([], ["http://127.0.0.1:1"]);
    await expect(attempt).to.be.rejectedWith(Problem, /^No attestor gives back what it has \(0x.*: fetch failed/);
    expect(await store.recovery.incompleteSince()).to.equal(null);
    expect(await store.recovery.isEmpty()).to.equal(true);
  });

  it("is to be done again where the chain falls silent in the middle, and nobody works with the store until then", async () => {
    await bring(
      0,
      some(2).map((one) => recordOf(one)),
    );
    const plan = chain.plan.bind(chain);
    chain.plan = () => Promise.reject(new Error("the node is gone"));
    await expect(rebuilt()).to.be.rejectedWith("the node is gone");
    expect(await store.recovery.incompleteSince()).to.equal(chain.time);
    chain.plan = plan;
    expect(await rebuilt()).to.include({ added: 2 });
    expect(await store.recovery.incompleteSince()).to.equal(null);
  });
});
