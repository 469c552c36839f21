import { expect } from "chai";
import { computeAddress, keccak256, toBeHex, ZeroHash } from "ethers";
import { setTimeout as wait } from "node:timers/promises";
import { Presence } from "../../oracle/gateway/presence";
import { createLog } from "../../oracle/log";
import { receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { decodeReceipt, splitRecord } from "../../oracle/protocol/receiptBytes";
import { type Receipt, ReceiptFlag } from "../../oracle/protocol/types";
import type { Database } from "../../oracle/store/database";
import { Store } from "../../oracle/store/store";
import { GATEWAY_LEASE, type OpenRequest } from "../../oracle/store/requestBooks";
import type { Claim, VoucherClaim } from "../../oracle/store/tallies";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN, grantWith, usage } from "../support/fakeMessages";
import { until } from "../support/gatewayBench";

const GRANT = toBeHex(0x47, 32);
const KEY = toBeHex(0x42, 32);
const EPOCH = { epochStart: 1_000, epochEnd: 2_000 };
const LANE = { operatorId: 2, planId: 3, versionId: 4n };
const id = (n: number) => toBeHex(n, 32);

const request = (n: number, licenseId = 1n): OpenRequest => ({
  facts: {
    requestId: id(n),
    licenseId,
    operatorId: LANE.operatorId,
    planId: LANE.planId,
    manifestHash: id(5),
    generation: 1,
    grantHash: GRANT,
    requestHash: id(6),
    requestSignatureHash: ZeroHash,
  },
  versionId: LANE.versionId,
  openedAt: 1_000,
});

const claim = (fields: Partial<Claim> = {}): Claim => ({ gateway: "a", amount: 10n, grantCap: 0n, ...fields });

function sign(receipt: Receipt) {
  const hash = receiptDigest(DOMAIN, receipt);
  return { hash, signature: signDigest(KEY, hash), signer: computeAddress(KEY) };
}

const OUTCOME = {
  ...usage({ requests: 1n, outputTokens: 5n }),
  responseHash: id(7),
  finishedAt: 1_500,
  durationMs: 20,
  ttftMs: 10,
  flags: 0,
};

describeOnEach("What a store's gateways set aside", (placeOf) => {
  let place: Place;
  let database: Database;
  let store: Store;

  beforeEach(async () => {
    place = placeOf();
    database = await place.open();
    store = new Store(database);
    await store.grants.save(GRANT, { grant: grantWith(), signature: "0xabcd" });
  });

  afterEach(async () => {
    await store.close();
    place.remove();
  });

  const limits: [string, Partial<Claim>, object][] = [
    ["balance", { balance: 25n }, { limit: "balance", needed: 10n, available: 5n, reserved: 20n }],
    ["cap", { balance: 99n, cap: 29n }, { limit: "cap", needed: 10n, available: 9n, reserved: 20n }],
    ["grant", { grantCap: 20n }, { limit: "grant", needed: 10n, available: 0n, reserved: 20n }],
    ["stake", { stake: 28n }, { limit: "stake", needed: 10n, available: 8n, reserved: 20n }],
  ];
  for (const [limit, fields, refusal] of limits) {
    it(`stays within the ${limit}, and a request beyond it is not opened`, async () => {
      for (const n of [1, 2]) expect(await store.requests.open(request(n), claim(fields))).to.equal(null);
      expect(await store.requests.open(request(3), claim({ ...fields, gateway: "b" }))).to.deep.equal(refusal);
      expect((await store.requests.running()).map(({ facts }) => facts.requestId)).to.deep.equal([id(1), id(2)]);
      expect((await store.tallies.of(1n)).reserved).to.equal(20n);
    });
  }

  it("is given back when a request is dropped, and becomes what it cost when it ends", async () => {
    for (const n of [1, 2]) await store.requests.open(request(n), claim());
    await store.requests.drop(id(1));
    await store.requests.drop(id(1));
    await store.requests.finish(id(2), OUTCOME, 7n, sign);
    expect(await store.tallies.of(1n)).to.deep.equal({ cost: 7n, freed: 0n, reserved: 0n });
    expect(await store.tallies.ofAll()).to.deep.equal({ cost: 7n, freed: 0n, reserved: 0n });
    expect(await store.requests.open(request(3), claim({ grantCap: 17n }))).to.equal(null);
    expect(await store.requests.open(request(4), claim({ grantCap: 17n }))).to.include({
      limit: "grant",
      available: 0n,
    });
  });

  describe("for a license on the voucher road", () => {
    const term = (n: number) => ({ operatorId: LANE.operatorId, licenseId: 1n, planId: LANE.planId, term: n });
    const byVoucher = (n: number): OpenRequest => ({ ...request(n), onVoucherRoad: true });
    const voucher: VoucherClaim = { terms: [1, 2], present: 2, credit: 1_000n, balance: 1_000n };
    const of = (fields: Partial<VoucherClaim>) => claim({ voucher: { ...voucher, ...fields } });

    /** Of term 1 it owes 30, all charged; of term 2 25, of which 5 are charged, and it has signed for 15. */
    beforeEach(async () => {
      await store.vouchers.openTerm({ ...term(1), since: 0, endsAt: 1_400 }, 30n);
      await store.vouchers.openTerm({ ...term(2), since: 1_400, endsAt: 3_000 }, 5n);
      await store.requests.open(byVoucher(100), of({}));
      await store.requests.finish(id(100), OUTCOME, 20n, sign);
      await store.vouchers.save(term(2), 15n, "0x", 1_500);
    });

    const cases: [string, Partial<VoucherClaim>, object][] = [
      ["the credit, on what isn't signed for", { credit: 35n }, { limit: "credit", available: 5n, reserved: 20n }],
      ["the balance, on what isn't charged", { balance: 45n }, { limit: "balance", available: 5n, reserved: 20n }],
      ["the cap, on what the present term owes", { cap: 54n }, { limit: "cap", available: 9n, reserved: 20n }],
    ];
    for (const [limit, fields, refusal] of cases) {
      it(`stays within ${limit}, whatever gateway serves it`, async () => {
        for (const n of [1, 2]) {
          expect(await store.requests.open(byVoucher(n), { ...of(fields), gateway: String(n) })).to.equal(null);
        }
        expect(await store.requests.open(byVoucher(3), of(fields))).to.deep.equal({ needed: 10n, ...refusal });
        expect(await store.vouchers.reserved(1n)).to.equal(20n);
        expect(await store.vouchers.reserved(2n)).to.equal(0n);
        await store.requests.drop(id(1));
        expect(await store.requests.open(byVoucher(3), of(fields))).to.equal(null);
      });
    }

    it("doesn't count terms that can't be claimed any more", async () => {
      await store.vouchers.openTerm({ ...term(3), since: 3_000, endsAt: 4_000 }, 0n);
      const limits = { terms: [3], present: 3, credit: 10n, balance: 10n, cap: 10n };
      expect(await store.requests.open(byVoucher(1), of(limits))).to.equal(null);
    });

    it("takes nothing of what batches pay", async () => {
      await store.requests.open(byVoucher(1), of({}));
      expect((await store.tallies.of(1n)).reserved).to.equal(0n);
      expect((await store.tallies.ofAll()).reserved).to.equal(0n);
    });
  });

  it("is of as many licenses as owe something", async () => {
    for (const [n, licenseId] of [
      [1, 1n],
      [2, 1n],
      [3, 8n],
    ] as const) {
      await store.requests.open(request(n, licenseId), claim());
      await store.requests.finish(id(n), OUTCOME, 7n, sign);
    }
    expect(await store.tallies.owingLicenses()).to.equal(2);
    await store.unbatched.void(LANE, EPOCH);
    expect(await store.tallies.owingLicenses()).to.equal(0);
  });

  it("lets nobody spend twice what settled after the chain was read", async () => {
    const { freed } = await store.tallies.of(1n);
    const old = claim({ balance: freed + 10n });
    await store.requests.open(request(1), old);
    const { hash } = await store.requests.finish(id(1), OUTCOME, 10n, sign);
    const header = {
      ...LANE,
      ...EPOCH,
      ...usage({ requests: 1n }),
      ...{ sequence: 1n, root: id(8), count: 1n, availabilityBps: 10_000, p95TtftMs: 1, samples: 20 },
      ...{ entriesHash: id(9), evidenceHash: id(10) },
    };
    await store.batches.saveDraft(id(100), header, "0x", [], [hash]);
    await store.batches.markAttested(id(100), "0x");
    await store.batches.markSubmitted(id(100));
    await store.batches.markSettled(id(100));
    expect(await store.tallies.of(1n)).to.deep.equal({ cost: 10n, freed: 10n, reserved: 0n });
    expect(await store.requests.open(request(2), old)).to.include({ limit: "balance", available: 0n });
    const fresh = claim({ balance: (await store.tallies.of(1n)).freed + 10n });
    expect(await store.requests.open(request(3), fresh)).to.equal(null);
    await store.batches.markUndone(id(100));
    expect(await store.tallies.unsettled(1n)).to.equal(10n);
    expect(await store.tallies.unsettledOfAll()).to.equal(10n);
  });

  it("is never more than a limit, with no number twice and no gap, when two stores race for it", async function () {
    this.timeout(120_000);
    // SQLite's file is one process's: there, both are of one database.
    const other = new Store(place.isShared ? await place.open() : database);
    const stores = [store, other];
    const MOST = 600n;
    const open: { n: number; by: Store }[] = [];
    let refused = 0;
    const ask = async (n: number) => {
      const by = stores[n % 2];
      const refusal = await by.requests.open(
        request(n),
        claim({ gateway: String(n % 2), balance: MOST, stake: 10_000n }),
      );
      if (refusal === null) open.push({ n, by });
      else refused += 1;
      const { reserved, cost } = await stores[(n + 1) % 2].tallies.of(1n);
      expect(reserved + cost <= MOST).to.equal(true);
    };
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => ask(i + 1)));
    expect([open.length, refused]).to.deep.equal([60, 940]);
    // Each ends in the store in which it didn't begin.
    await Promise.all(open.map(({ n }) => stores[(n + 1) % 2].requests.finish(id(n), OUTCOME, 4n, sign)));
    await Promise.all(Array.from({ length: 500 }, (_, i) => ask(2_000 + i)));
    expect(open).to.have.length(60 + 36);
    await Promise.all(open.slice(60).map(({ n, by }) => by.requests.finish(id(n), OUTCOME, 4n, sign)));
    const receipts = (await store.receipts.from(LANE.operatorId, 1n, 1n, 1_000)).map(({ receipt }) => receipt);
    expect(receipts.map(({ sequence }) => sequence)).to.deep.equal(receipts.map((_, i) => BigInt(i + 1)));
    receipts.forEach(({ previousHash }, i) =>
      expect(previousHash).to.equal(i === 0 ? ZeroHash : receiptDigest(DOMAIN, receipts[i - 1])),
    );
    expect(await store.tallies.of(1n)).to.deep.equal({ cost: 96n * 4n, freed: 0n, reserved: 0n });
    if (place.isShared) await other.close();
  });

  it("takes a request's signature once, and again only where the request never reached its model", async () => {
    const requestSignature = Buffer.concat([Buffer.from([0, 0, 0, 3, 232]), Buffer.alloc(65, 7)]);
    const requestSignatureHash = keccak256(requestSignature);
    const signed = (n: number): OpenRequest => {
      const { facts, ...rest } = request(n);
      return { ...rest, facts: { ...facts, requestSignatureHash }, requestSignature };
    };
    const usedBy = async () =>
      (await store.requestSignatures.of(LANE.operatorId, [requestSignatureHash])).get(requestSignatureHash)?.usedBy;

    expect(await store.requests.open(signed(1), claim())).to.equal(null);
    expect(await store.requests.open(signed(2), claim())).to.equal("replayed");
    expect(await store.requests.running()).to.have.length(1);
    expect(await usedBy()).to.equal(id(1));

    await store.requests.drop(id(1));
    expect(await usedBy()).to.equal(undefined);
    const refused = await store.requests.open(signed(3), claim({ balance: 9n }));
    expect(refused).to.include({ limit: "balance" });
    expect(await usedBy()).to.equal(undefined);
    expect(await store.requests.open(signed(4), claim())).to.equal(null);
    await store.requests.finish(id(4), OUTCOME, 3n, sign);
    expect(await store.requests.open(signed(5), claim())).to.equal("replayed");

    const [placed] = await store.feeds.receiptsAfter(0n, 10);
    const { record, requestSignature: kept } = splitRecord(placed.record);
    expect(kept).to.deep.equal(requestSignature);
    const hash = receiptDigest(DOMAIN, decodeReceipt(record).receipt);
    expect(await store.receipts.records([hash])).to.deep.equal([placed.record]);
  });

  it("is left behind by a gateway that runs no more, and by no other", async () => {
    await store.requests.open(request(1), claim({ gateway: "gone" }));
    await store.requests.open(request(2), claim({ gateway: "running" }));
    await store.requests.open(request(3), claim({ gateway: "own" }));
    await store.leases.acquire(`${GATEWAY_LEASE}gone`, "gone", 1);
    await store.leases.acquire(`${GATEWAY_LEASE}running`, "running", 60_000);
    await wait(20);
    const left = await store.requests.leftBehind("own");
    expect(left.map(({ facts }) => facts.requestId)).to.deep.equal([id(1)]);
  });
});

describeOnEach("A gateway among those of a store", (placeOf) => {
  const LEASE_MS = 600;
  let place: Place;
  let store: Store;
  let presence: Presence;
  let isAway: boolean;
  /** Flags and costs of receipts that whoever counts was told of. */
  let counted: [number, bigint][];

  beforeEach(async () => {
    isAway = false;
    counted = [];
    place = placeOf();
    store = new Store(await place.open());
    await store.grants.save(GRANT, { grant: grantWith(), signature: "0xabcd" });
    const holds = store.leases.holds.bind(store.leases);
    store.leases.holds = async (...lease) =>
      isAway ? Promise.reject(new Error("the store is away")) : holds(...lease);
    presence = new Presence(
      store,
      sign,
      async () => 1_500,
      createLog("error", () => {}),
      { charged: ({ flags }, cost) => void counted.push([flags, cost]) },
      LEASE_MS,
    );
  });

  afterEach(async () => {
    await presence.end();
    await store.close();
    place.remove();
  });

  const isOpen = async (n: number) => (await store.requests.running()).some(({ facts }) => facts.requestId === id(n));
  const leftBehind = () => store.requests.open(request(1), claim({ gateway: "other" }));

  it("ends what another left behind as soon as it begins", async () => {
    await leftBehind();
    await presence.begin();
    expect(await isOpen(1)).to.equal(false);
    expect(counted).to.deep.equal([[ReceiptFlag.recovered, 0n]]);
  });

  it("gives the others time to say that they run when the store comes back, and then ends what they left behind", async () => {
    await presence.begin();
    isAway = true;
    await leftBehind();
    await wait(1.5 * LEASE_MS);
    let isBack = false;
    const acquire = store.leases.acquire.bind(store.leases);
    store.leases.acquire = async (...lease) => {
      isBack = true;
      return acquire(...lease);
    };
    isAway = false;
    await until(() => isBack);
    await until(async () => (await store.leases.acquire(GATEWAY_LEASE + presence.id, "another", 1)) === null);
    expect(await isOpen(1)).to.equal(true);
    await until(async () => !(await isOpen(1)));
  });
});

describeOnEach("A lease", (placeOf) => {
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

  it("is one holder's until it is over or released, and each next one's token is higher", async () => {
    const { leases } = store;
    const first = (await leases.acquire("settler", "a", 60_000))!;
    expect(first).to.deep.equal({ name: "settler", holder: "a", token: 1n });
    expect(await leases.acquire("settler", "b", 60_000)).to.equal(null);
    expect(await leases.holds(first)).to.equal(true);
    await leases.release(first);
    expect(await leases.holds(first)).to.equal(false);
    const second = (await leases.acquire("settler", "b", 1))!;
    expect(second).to.include({ holder: "b", token: 2n });
    await wait(20);
    expect(await leases.holds(second)).to.equal(false);
    expect(await leases.acquire("settler", "c", 60_000)).to.include({ token: 3n });
    expect(await leases.renew(second, 60_000)).to.equal(false);
    expect(await leases.acquire("gateway", "c", 60_000)).to.include({ token: 1n });
  });

  it("lasts as long as it is renewed, and what a former holder does with it changes nothing", async () => {
    const { leases } = store;
    const lease = (await leases.acquire("settler", "a", 300))!;
    for (let i = 0; i < 4; i++) {
      await wait(100);
      expect(await leases.renew(lease, 300)).to.equal(true);
    }
    const newer = (await leases.acquire("settler", "a", 60_000))!;
    expect(newer.token).to.equal(2n);
    expect(await leases.renew(lease, 1)).to.equal(false);
    await leases.release(lease);
    expect(await leases.holds(newer)).to.equal(true);
  });

  it("is renewed after it was over, if nobody took it in between, and never once it was left", async () => {
    const { leases } = store;
    const lease = (await leases.acquire("settler", "a", 1))!;
    while (await leases.holds(lease)) await wait(5);
    expect(await leases.renew(lease, 60_000)).to.equal(true);
    expect(await leases.holds(lease)).to.equal(true);
    expect(await leases.acquire("settler", "b", 60_000)).to.equal(null);
    await leases.release(lease);
    expect(await leases.renew(lease, 60_000)).to.equal(false);
    expect(await leases.acquire("settler", "b", 60_000)).to.include({ token: 2n });
  });

  it("goes to one of many who want it at once", async () => {
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.leases.acquire("settler", `${i}`, 60_000)),
    );
    expect(all.filter((lease) => lease !== null)).to.have.length(1);
  });
});
