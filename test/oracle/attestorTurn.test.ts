import { expect } from "chai";
import { setTimeout as wait } from "node:timers/promises";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import { type AttestationRefusal, requestMeasurement } from "../../oracle/attestor/attestorApi";
import { ATTESTING, Duty } from "../../oracle/duty";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import type { Database } from "../../oracle/store/database";
import { type Turn, TurnLost } from "../../oracle/store/leases";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import type { StubChain } from "../support/stubChain";
import {
  chained,
  COMMITTEE,
  EPOCH,
  KEYS,
  LANE,
  offer,
  type Offer,
  receiptUnder,
  requestOf,
  signGrant,
  stubMarket,
} from "../support/stubMarket";

const LEASE_MS = 400;
const TIMEOUT_MS = 10_000;

/** Another's, as far as is known. */
const ANOTHERS: Turn = {
  isMine: false,
  get lease(): never {
    throw new TurnLost(ATTESTING.name);
  },
};

describeOnEach("an attestor's turn", (placeOf) => {
  let place: Place;
  let database: Database;
  let store: Store;
  let chain: StubChain;
  let lines: string[];
  let ends: (() => Promise<unknown>)[];

  beforeEach(async () => {
    place = placeOf();
    database = await place.open();
    store = new Store(database);
    chain = stubMarket();
    [lines, ends] = [[], []];
  });

  afterEach(async () => {
    for (const end of ends.reverse()) await end();
    await store.close();
    place.remove();
  });

  const start = async (turn: Turn, own = store, copiesPerOperator?: number): Promise<Attestor> => {
    const attestor = await startAttestor(
      { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address, copiesPerOperator },
      { chain, store: own, log: createLog("warn", (line) => lines.push(line)), turn },
    );
    ends.push(() => attestor.close());
    return attestor;
  };

  /** A turn that this process believes to have still: another took it when this one said nothing for too long. */
  const lostTurn = async (): Promise<Turn> => {
    const lease = (await store.leases.acquire(ATTESTING.name, "frozen", 60_000))!;
    await store.leases.release(lease);
    expect(await store.leases.acquire(ATTESTING.name, "next", 60_000)).not.to.equal(null);
    return { isMine: true, lease };
  };

  const requestWith = (outputTokens: bigint): Offer => {
    const grant = signGrant();
    return requestOf({ grants: [grant], receipts: chained([{ ...receiptUnder(grant, 1n), outputTokens }]) });
  };
  const statusOf = async (url: string, path: string, method = "GET") => (await fetch(url + path, { method })).status;

  describe("while it is another's", () => {
    it("is no time to answer anybody, but that it lives", async () => {
      const { url } = await start(ANOTHERS);
      const paths = ["attestations", "measurements", "receipts", "grants"].map((path) => ["POST", `/v1/${path}`]);
      const reads = ["receipts", "receipts/last", "grants", "batches"].map((path) => ["GET", `/v1/${path}`]);
      for (const [method, path] of [...paths, ...reads]) {
        expect(await statusOf(url, path, method), `${method} ${path}`).to.equal(503);
      }
      expect(await statusOf(url, "/healthz")).to.equal(200);
      const { message } = await offer(url, requestWith(50n)).catch((cause) => cause);
      expect(message).to.contain("Another process attests for this key at the moment, or none: try again");
      expect(await store.attested.at(LANE, 1n)).to.equal(null);
      expect(await store.copies.count()).to.deep.equal(new Map());
    });
  });

  describe("that was lost since the question came", () => {
    it("leaves a batch unsigned, and its number to who has the turn", async () => {
      const { url } = await start(await lostTurn());
      const { message } = await offer(url, requestWith(50n)).catch((cause) => cause);
      expect(message).to.contain("503").and.contain("it isn't this process's turn any more (attestor)");
      expect(await store.attested.at(LANE, 1n)).to.equal(null);
      expect(lines.join()).to.contain("Attestor signs nothing: it isn't its turn any more");

      const next = (await store.leases.acquire(ATTESTING.name, "next", 60_000))!;
      const { url: nextUrl } = await start({ isMine: true, lease: next });
      expect(await offer(nextUrl, requestWith(51n))).to.have.property("signature");
    });

    it("leaves an epoch unmeasured: what canaries get of it still counts", async () => {
      const { url } = await start(await lostTurn());
      const answer = await requestMeasurement(url, LANE, EPOCH, TIMEOUT_MS).catch((cause) => cause);
      expect(answer.message).to.contain("503").and.contain("turn");
      await store.canaries.record(LANE, { at: EPOCH.epochEnd - 1, ok: true, ttftMs: 5 });
      expect(await store.canaries.samples(LANE, EPOCH)).to.have.length(1);
    });

    it("leaves a canary uncounted, and a finding unwritten", async () => {
      const { lease } = await lostTurn();
      const sample = { at: EPOCH.epochEnd - 1, ok: true, ttftMs: 5 };
      const finding = { operatorId: 2, receiptSigner: COMMITTEE.address, tier: 2, from: 1, until: 9 };
      const attempts = [
        store.canaries.record(LANE, sample, lease),
        store.evidence.recordFinding({ ...finding, evidenceHash: "0x00" }, lease),
      ];
      for (const attempt of attempts) expect(await attempt.catch((cause) => cause)).to.be.instanceOf(TurnLost);
      expect(await store.canaries.samples(LANE, EPOCH)).to.deep.equal([]);
      expect(await store.evidence.findings(2, { epochStart: 0, epochEnd: 10 })).to.deep.equal([]);
    });
  });

  describe("of two processes with one store", () => {
    const quiet = createLog("error", () => {});

    async function process(holder: string): Promise<{ duty: Duty; attestor: Attestor }> {
      const own = place.isShared ? new Store(await place.open()) : store;
      if (own !== store) ends.push(() => own.close());
      const duty = new Duty(ATTESTING, own.leases, holder, quiet, LEASE_MS);
      const attestor = await start(duty, own, 2);
      ends.push(() => duty.end());
      await duty.begin();
      return { duty, attestor };
    }

    async function until(holds: () => boolean): Promise<void> {
      for (const deadline = Date.now() + 20_000; !holds(); await wait(10)) expect(Date.now()).to.be.lessThan(deadline);
    }

    it("is the first's until that ends, and then the second's, which signs no other batch for a number", async () => {
      const first = await process("first");
      const second = await process("second");
      const request = requestWith(50n);
      const waits = await offer(second.attestor.url, requestWith(51n)).catch((cause) => cause);
      expect(waits.message).to.contain("503");
      const signed = await offer(first.attestor.url, request);
      expect(signed).to.have.property("signature");

      await first.duty.end();
      await until(() => second.duty.isMine);
      expect((await offer(first.attestor.url, request).catch((cause) => cause)).message).to.contain("503");
      expect(await offer(second.attestor.url, request)).to.deep.equal(signed);
    });

    it("comes with the copies that the other took, and the room that these leave", async () => {
      const first = await process("first");
      const second = await process("second");
      expect(await offer(first.attestor.url, requestWith(50n))).to.have.property("signature");
      await first.duty.end();
      await until(() => second.duty.isMine);
      const refusalOf = async (url: string, outputTokens: bigint) =>
        (await offer(url, requestWith(outputTokens))) as AttestationRefusal;
      expect((await refusalOf(second.attestor.url, 51n)).refusals[0]).to.contain("is equivocation");

      await second.duty.end();
      await first.duty.begin();
      await until(() => first.duty.isMine);
      const { refusals } = await refusalOf(first.attestor.url, 52n);
      expect(refusals[0]).to.contain("is too much: 2 of operator 2 are kept at the most");
    });
  });
});
