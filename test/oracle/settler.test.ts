import { expect } from "chai";
import { AbiCoder, computeAddress, getAddress, id, keccak256, toBeHex, ZeroHash } from "ethers";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import { PLAUSIBLE } from "../../oracle/attestor/plausibility";
import type { Committee } from "../../oracle/chain/chain";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { zeroUsage } from "../../oracle/protocol/meters";
import { recoverSigner } from "../../oracle/protocol/messages";
import type { Epoch, Lane, Usage } from "../../oracle/protocol/types";
import { type EconomyConfig, settlementGas } from "../../oracle/settler/economy";
import { type SettlementOutcome, Settler, type SettlerConfig } from "../../oracle/settler/settler";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import type { BatchState } from "../../oracle/store/batchRows";
import { describeOnEach, type Place } from "../support/databases";
import type { StubChain } from "../support/stubChain";
import { until } from "../support/gatewayBench";
import { type Life, lifeOf, mortal } from "../support/stubCrash";
import { StubEscrow } from "../support/stubEscrow";
import {
  AFTER_EPOCH,
  COMMITTEE,
  EPOCH,
  evenly,
  KEYS,
  LANE,
  offer,
  requestOf,
  serveReceipt,
  signGrant,
  stubMarket,
} from "../support/stubMarket";

const silent = createLog("error", () => {});
const DEAD_URL = "http://127.0.0.1:1";

/** A market with its committee, its escrow, and a settler with a store of its own. */
class World {
  readonly chain: StubChain = stubMarket();
  readonly escrow = new StubEscrow(this.chain);
  readonly attestorStores = KEYS.attestors.map(() => new Store(sqliteDatabase(":memory:")));
  attestors: Attestor[] = [];
  /** The settler's log. */
  readonly lines: string[] = [];
  private served = 0;

  private constructor(
    private readonly place: Place,
    public store: Store,
  ) {}

  static async open(place: Place): Promise<World> {
    const world = new World(place, new Store(await place.open()));
    world.attestors = await Promise.all(
      KEYS.attestors.map((key, i) =>
        startAttestor(
          { signer: localSigner(key), committee: COMMITTEE.address },
          // Tests of counts that fill their fields don't wait for as much to be served.
          { chain: world.chain, store: world.attestorStores[i], log: silent, plausible: () => UNBOUNDED },
        ),
      ),
    );
    return world;
  }

  async close(): Promise<void> {
    await Promise.all(this.attestors.map((attestor) => attestor.close()));
    await Promise.all([this.store, ...this.attestorStores].map((store) => store.close()));
    this.place.remove();
  }

  settler(config: Partial<SettlerConfig> = {}, life?: Life): Settler {
    const log = createLog("debug", (line) => this.lines.push(line));
    const deps = { chain: this.chain, store: this.store, escrow: this.escrow, sender: this.escrow };
    const used = life && {
      chain: mortal(deps.chain, life),
      store: mortal(deps.store, life),
      escrow: mortal(deps.escrow, life),
      sender: mortal(deps.sender, life),
    };
    return new Settler(
      { ...(used ?? deps), log },
      {
        proposer: localSigner(KEYS.proposer),
        committee: COMMITTEE.address,
        attestors: this.endpoints(),
        attestorTimeoutMs: 5_000,
        ...config,
      },
    );
  }

  /** The committee's endpoints, some of which don't answer. */
  endpoints(...dead: number[]): SettlerConfig["attestors"] {
    return this.attestors.map(({ address, url }, i) => ({ address, url: dead.includes(i) ? DEAD_URL : url }));
  }

  /** What a restart does to the settler's store. */
  async reopen(): Promise<void> {
    await this.store.close();
    this.store = new Store(await this.place.open());
  }

  /** A request of a license, served and signed by the operator. */
  async serve(
    licenseId = 7n,
    finishedAt = EPOCH.epochStart + 10,
    key = KEYS.operator,
    meters: Partial<Usage> = { requests: 1n, outputTokens: 5n },
  ): Promise<string> {
    const requestId = toBeHex(++this.served, 32);
    await serveReceipt(this.store, { requestId, licenseId, finishedAt, key, meters });
    return requestId;
  }

  async stateOf(requestId: string): Promise<string | undefined> {
    return (await this.store.receipts.ofRequest(requestId))?.state;
  }

  statesOf(requestIds: string[]): Promise<(string | undefined)[]> {
    return Promise.all(requestIds.map((requestId) => this.stateOf(requestId)));
  }

  batches(...states: BatchState[]) {
    return this.store.batches.in(...states);
  }

  messages(): string[] {
    return this.lines.map((line) => JSON.parse(line).message);
  }
}

const UNBOUNDED = { ...PLAUSIBLE, gpus: 1e12 };

describeOnEach("settler", function (placeOf) {
  this.timeout(120_000);
  let world: World;

  beforeEach(async () => {
    world = await World.open(placeOf());
  });

  afterEach(() => world.close());

  const settle = (config: Partial<SettlerConfig> = {}) => world.settler(config).settle(LANE, EPOCH);

  const only = (outcomes: SettlementOutcome[]): SettlementOutcome => {
    expect(outcomes).to.have.length(1);
    return outcomes[0];
  };

  const windowIsOver = () => {
    world.chain.time = EPOCH.epochEnd + world.chain.windowPeriod + 1;
  };

  /** Has something happen between a draft and its attestation. */
  const onceDrafted = (happen: () => void) => {
    const saveDraft = world.store.batches.saveDraft.bind(world.store);
    world.store.batches.saveDraft = async (...draft) => {
      world.store.batches.saveDraft = saveDraft;
      await saveDraft(...draft);
      happen();
    };
  };

  describe("settle", () => {
    describe("when nothing was served", () => {
      it("does nothing", async () => {
        expect(await settle()).to.deep.equal([]);
        expect(world.escrow.sent).to.deep.equal([]);
      });
    });

    describe("when the epoch hasn't ended", () => {
      it("waits", async () => {
        await world.serve();
        world.chain.time = EPOCH.epochEnd - 1;
        const reason = `The epoch ends at ${EPOCH.epochEnd} and hasn't yet`;
        expect(only(await settle())).to.include({ status: "retry", batchId: null, reason });
        expect(await world.batches("drafted")).to.deep.equal([]);
      });
    });

    describe("when all goes well", () => {
      it("settles the receipts of the epoch, and no others", async () => {
        const inEpoch = [await world.serve(7n), await world.serve(8n), await world.serve(7n)];
        const later = await world.serve(7n, EPOCH.epochEnd);
        const { status, batchId, reason } = only(await settle());
        expect({ status, reason }).to.deep.equal({ status: "settled", reason: null });
        expect(world.escrow.paid).to.deep.equal([batchId]);
        expect(await world.statesOf(inEpoch)).to.deep.equal(["settled", "settled", "settled"]);
        expect(await world.stateOf(later)).to.equal("unbatched");
      });

      it("states the sums, the median and the evidence in the header", async () => {
        world.attestorStores.forEach((store, i) =>
          store.canaries.record(LANE, { at: EPOCH.epochStart, ok: true, ttftMs: 100 * (i + 1) }),
        );
        await world.serve(7n);
        await world.serve(8n);
        const { batchId } = only(await settle());
        expect((await world.store.batches.find(batchId!))!.header).to.include({
          ...LANE,
          ...EPOCH,
          sequence: 1n,
          count: 2n,
          outputTokens: 10n,
          availabilityBps: 10_000,
          p95TtftMs: 200,
          samples: 1,
          evidenceHash: id("evidence"),
        });
      });

      it("proves it by all members' signatures, ascending by the signers' keccak256", async () => {
        await world.serve();
        const { batchId } = only(await settle());
        const [signers, signatures] = AbiCoder.defaultAbiCoder().decode(
          ["bytes[]", "bytes[]"],
          (await world.store.batches.find(batchId!))!.proof!,
        );
        const order = [...signers].map((signer) => keccak256(signer));
        expect(order).to.deep.equal([...order].sort());
        expect(signers).to.have.length(3);
        signatures.forEach((signature: string, i: number) =>
          expect(recoverSigner(batchId!, signature).toLowerCase()).to.equal(signers[i]),
        );
      });

      it("settles a later epoch of the lane as the next batch", async () => {
        await world.serve();
        await settle();
        const next = { epochStart: EPOCH.epochEnd, epochEnd: EPOCH.epochEnd + 3_600 };
        await world.serve(7n, next.epochStart);
        world.chain.time = next.epochEnd;
        expect(only(await world.settler().settle(LANE, next)).status).to.equal("settled");
        expect(world.chain.lastBatch.sequence).to.equal(2n);
      });

      it("settles an epoch of many licenses in parts, ascending by license", async () => {
        for (const licenseId of [8n, 7n, 7n]) await world.serve(licenseId);
        const outcomes = await settle({ licensesPerBatch: 1 });
        expect(outcomes.map(({ status }) => status)).to.deep.equal(["settled", "settled"]);
        const parts = await Promise.all(outcomes.map(({ batchId }) => world.store.receipts.ofBatch(batchId!)));
        expect(parts.map((part) => part.map(({ receipt }) => receipt.licenseId))).to.deep.equal([[7n, 7n], [8n]]);
      });

      it("drafts the next part while one is on its way", async () => {
        for (const licenseId of [7n, 8n]) await world.serve(licenseId);
        const follow = world.escrow.follow.bind(world.escrow);
        const drafted: bigint[][] = [];
        world.escrow.follow = async (purpose, nonce) => {
          if (drafted.length === 0) await until(async () => (await world.batches("drafted")).length > 0);
          drafted.push((await world.batches("drafted")).map(({ header }) => header.sequence));
          return follow(purpose, nonce);
        };
        const outcomes = await settle({ licensesPerBatch: 1 });
        expect(outcomes.map(({ status }) => status)).to.deep.equal(["settled", "settled"]);
        expect(drafted).to.deep.equal([[2n], []]);
      });

      it("has attestors sign it only once the one before has settled", async () => {
        const served = [await world.serve(7n), await world.serve(8n)];
        world.escrow.refusal = "no";
        expect(only(await settle({ licensesPerBatch: 1 })).status).to.equal("refused");
        expect((await world.batches("drafted")).map(({ header }) => header.sequence)).to.deep.equal([2n]);
        expect(only(await world.settler().settle(LANE, EPOCH)).status).to.equal("refused");
        for (const store of world.attestorStores) expect(await store.attested.at(LANE, 2n)).to.equal(null);

        world.escrow.refusal = null;
        expect((await settle({ licensesPerBatch: 1 })).map(({ status }) => status)).to.deep.equal([
          "settled",
          "settled",
        ]);
        expect(await world.statesOf(served)).to.deep.equal(["settled", "settled"]);
        expect(world.escrow.paid).to.have.length(2);
      });

      it("settles once when it is asked twice at the same time", async () => {
        await world.serve();
        const settler = world.settler();
        const [first, second] = await Promise.all([settler.settle(LANE, EPOCH), settler.settle(LANE, EPOCH)]);
        expect(only(first).status).to.equal("settled");
        expect(second).to.deep.equal([]);
        expect(world.escrow.paid).to.have.length(1);
      });
    });

    describe("when the epoch is too much for one batch", () => {
      const serveHeavy = (licenseId: bigint, finishedAt: number) =>
        world.serve(licenseId, finishedAt, KEYS.operator, { requests: 1n, computeMs: 3_000_000_000n });
      const epochsOf = (outcomes: SettlementOutcome[]) =>
        Promise.all(
          outcomes.map(async ({ batchId }) => {
            const { epochStart, epochEnd } = (await world.store.batches.find(batchId!))!.header;
            return { epochStart, epochEnd };
          }),
        );
      const { epochStart, epochEnd } = EPOCH;

      it("cuts it before a license's totals exceed a uint32", async () => {
        const served = [
          await world.serve(8n),
          await serveHeavy(7n, epochStart + 10),
          await serveHeavy(7n, epochStart + 20),
        ];
        const outcomes = await settle();
        expect(await epochsOf(outcomes)).to.deep.equal([
          { epochStart, epochEnd: epochStart + 20 },
          { epochStart: epochStart + 20, epochEnd },
        ]);
        expect(await world.statesOf(served)).to.deep.equal(["settled", "settled", "settled"]);
      });

      it("cuts it before its receipts are too many, and has attestors measure what it is cut to", async () => {
        const measured: Epoch[] = [];
        const samples = world.attestorStores[0].canaries.samples.bind(world.attestorStores[0]);
        world.attestorStores[0].canaries.samples = (lane, epoch) => (measured.push(epoch), samples(lane, epoch));
        for (const seconds of [1, 2, 3, 3]) await world.serve(7n, epochStart + seconds);
        const cut = [
          { epochStart, epochEnd: epochStart + 3 },
          { epochStart: epochStart + 3, epochEnd },
        ];
        expect(await epochsOf(await settle({ receiptsPerBatch: 2 }))).to.deep.equal(cut);
        expect(measured.map((epoch) => epoch.epochEnd)).to.deep.equal(cut.map((epoch) => epoch.epochEnd));
      });

      it("settles a single second in parts, and voids only a license that is too much by itself", async () => {
        const at = epochStart + 10;
        world.chain.licenses.set(9n, { ...world.chain.licenses.get(8n)!, licenseId: 9n });
        const bad = [await serveHeavy(7n, at), await serveHeavy(7n, at)];
        const good = [await world.serve(8n, at), await world.serve(9n, at), await world.serve(7n, at + 1)];
        const outcomes = await settle({ licensesPerBatch: 1 });
        expect(outcomes.map(({ status }) => status)).to.deep.equal(["settled", "settled", "abandoned", "settled"]);
        expect(await world.statesOf(good)).to.deep.equal(["settled", "settled", "settled"]);
        expect(await world.statesOf(bad)).to.deep.equal(["void", "void"]);
        expect(world.messages()).to.include("Receipts abandoned");
      });

      it("drafts nothing when receipts come in meanwhile that make it shorter", async () => {
        await serveHeavy(7n, epochStart + 10);
        const operator = world.chain.operator.bind(world.chain);
        world.chain.operator = async (operatorId) => {
          world.chain.operator = operator;
          await serveHeavy(7n, epochStart + 20);
          return operator(operatorId);
        };
        expect(only(await settle())).to.include({
          status: "retry",
          batchId: null,
          reason: `1 receipts from ${EPOCH.epochStart} to ${EPOCH.epochEnd} were written after the others were looked at`,
        });
        expect((await settle()).map(({ status }) => status)).to.deep.equal(["settled", "settled"]);
      });
    });

    describe("when the lane has settled a part of the time before", () => {
      const settledBefore = (epochStart: number, epochEnd: number) => {
        world.chain.lastBatch = { sequence: 1n, epochStart, epochEnd };
      };

      it("starts where that ended", async () => {
        const requestId = await world.serve();
        settledBefore(EPOCH.epochStart - 50, EPOCH.epochStart + 5);
        const { batchId } = only(await settle());
        expect(await world.stateOf(requestId)).to.equal("settled");
        expect((await world.store.batches.find(batchId!))!.header).to.include({
          ...EPOCH,
          epochStart: EPOCH.epochStart + 5,
        });
      });

      it("settles what is left of it as a further part", async () => {
        const served = [await world.serve(), await world.serve(7n, EPOCH.epochStart + 90)];
        const last = { epochStart: EPOCH.epochStart - 50, epochEnd: EPOCH.epochStart + 50 };
        settledBefore(last.epochStart, last.epochEnd);
        const batches = (await settle()).map(({ batchId }) => world.store.batches.find(batchId!));
        const headers = (await Promise.all(batches)).map((batch) => batch!.header);
        expect(headers[0]).to.include(last);
        expect(headers[1]).to.include({ epochStart: last.epochEnd, epochEnd: EPOCH.epochEnd });
        expect(await world.statesOf(served)).to.deep.equal(["settled", "settled"]);
      });

      it("voids what finished before that began, and settles the rest", async () => {
        const seconds = [10, 30, 90];
        const served = [];
        for (const second of seconds) served.push(await world.serve(7n, EPOCH.epochStart + second));
        settledBefore(EPOCH.epochStart + 20, EPOCH.epochStart + 50);
        expect((await settle()).map(({ status }) => status)).to.deep.equal(["settled", "abandoned", "settled"]);
        expect(await world.statesOf(served)).to.deep.equal(["void", "settled", "settled"]);
      });
    });

    describe("when somebody else has a batch of the lane's receipts attested", () => {
      it("settles as if nobody had tried", async () => {
        await world.serve();
        await world.serve(8n);
        const [{ receipt, signature }] = await world.store.unbatched.receipts(LANE, EPOCH);
        const header = { epochEnd: EPOCH.epochEnd, sequence: 900n };
        const parts = { grants: [signGrant()], receipts: [receipt], header, proposalKey: KEYS.outsider };
        const request = { ...requestOf(parts), signed: [{ receipt, signature }] };
        for (const { url } of world.attestors) {
          expect(await offer(url, request)).to.have.property("refusals");
        }
        expect(only(await settle()).status).to.equal("settled");
      });
    });

    describe("when the settler's key isn't the operator's", () => {
      it("drafts nothing, says what to do, and keeps the receipts", async () => {
        const requestId = await world.serve();
        const reason = `${computeAddress(KEYS.outsider)} is no signing key of operator 2: register another, and have`;
        const outcome = only(await settle({ proposer: localSigner(KEYS.outsider) }));
        expect(outcome).to.include({ status: "retry" }).and.to.have.property("reason").that.contains(reason);
        expect(await world.store.batches.lastSequence(LANE)).to.equal(0n);
        expect(await world.stateOf(requestId)).to.equal("unbatched");
        expect(only(await settle()).status).to.equal("settled");
      });
    });

    describe("when the version is recalled", () => {
      const recallAt = (usableUntil: number) => {
        world.chain.versions.get(LANE.versionId)!.usableUntil = usableUntil;
      };

      it("ends the epoch with it, so that what came before is paid, and voids only what came later", async () => {
        const cut = EPOCH.epochStart + 50;
        const served = [await world.serve(7n, cut - 1), await world.serve(8n, cut - 1), await world.serve(7n, cut)];
        recallAt(cut);
        const outcomes = await settle();
        expect(outcomes.map(({ status }) => status)).to.deep.equal(["settled", "abandoned"]);
        expect((await world.store.batches.find(outcomes[0].batchId!))!.header).to.include({
          ...EPOCH,
          epochEnd: cut,
          count: 2n,
        });
        expect(outcomes[1].reason).to.equal(
          `Version ${LANE.versionId} was recalled; what came from ${cut} on can't be charged`,
        );
        expect(await world.statesOf(served)).to.deep.equal(["settled", "settled", "void"]);
      });

      it("voids an epoch that began later, and nothing that came earlier", async () => {
        const earlier = await world.serve(7n, EPOCH.epochStart - 10);
        const later = await world.serve();
        recallAt(EPOCH.epochStart);
        expect(only(await settle()).status).to.equal("abandoned");
        expect(await world.statesOf([earlier, later])).to.deep.equal(["unbatched", "void"]);
      });

      it("changes nothing for an epoch that ends with it", async () => {
        await world.serve();
        recallAt(EPOCH.epochEnd);
        const { status, batchId } = only(await settle());
        expect(status).to.equal("settled");
        expect((await world.store.batches.find(batchId!))!.header).to.include(EPOCH);
      });
    });

    describe("when a signing key was revoked", () => {
      const revoke = (key: string) => {
        world.chain.revokedKeys.add(computeAddress(key));
        world.chain.keys.delete(computeAddress(key));
      };

      it("leaves out what it signed, and settles the rest at once", async () => {
        const bad = [await world.serve(), await world.serve(8n, EPOCH.epochEnd + 1)];
        const good = await world.serve(7n, EPOCH.epochStart + 20, KEYS.proposer);
        revoke(KEYS.operator);
        expect(only(await settle()).status).to.equal("settled");
        expect(await world.statesOf([...bad, good])).to.deep.equal(["void", "void", "settled"]);
        expect(world.messages())
          .to.include("Receipts void, as their key was revoked")
          .and.not.include("Draft taken back");
        expect(await world.store.tallies.unsettled(8n)).to.equal(0n);
      });

      it("takes a draft back that has some of its receipts, and settles the others", async () => {
        const bad = await world.serve();
        const good = await world.serve(7n, EPOCH.epochStart + 20, KEYS.proposer);
        onceDrafted(() => revoke(KEYS.operator));
        expect(only(await settle()).status).to.equal("retry");
        expect(world.messages()).to.include("Draft taken back");
        expect(only(await settle()).status).to.equal("settled");
        expect(await world.statesOf([bad, good])).to.deep.equal(["void", "settled"]);
      });

      it("keeps what a key signed that has only expired", async () => {
        const requestId = await world.serve();
        world.chain.keys.get(computeAddress(KEYS.operator))!.expiresAt = EPOCH.epochEnd;
        expect(only(await settle()).status).to.equal("settled");
        expect(await world.stateOf(requestId)).to.equal("settled");
      });
    });

    describe("when entries won't be charged", () => {
      it("says which, and settles the batch all the same", async () => {
        await world.serve(7n);
        await world.serve(8n);
        world.escrow.statuses.set(8n, "Stopped");
        expect(only(await settle()).status).to.equal("settled");
        const line = world.lines.map((line) => JSON.parse(line)).find(({ message }) => message.startsWith("Entries"));
        expect(line).to.deep.include({ level: "warn", message: "Entries aren't charged in full" });
        expect(line.entries).to.deep.equal([{ licenseId: "8", charged: "1", status: "Stopped" }]);
      });
    });

    describe("when the committee has changed", () => {
      const NEWCOMER = id("newcomer");
      /** Two of the former members, and one who is new. */
      const present: Committee = {
        ...COMMITTEE,
        ...evenly([computeAddress(NEWCOMER), ...COMMITTEE.members.slice(1)]),
        since: EPOCH.epochEnd,
      };
      let newcomer: Attestor;
      let newcomersStore: Store;

      const rotate = (former: Committee | null) =>
        world.chain.committeesAt.set(COMMITTEE.address, { present, former, announced: null });
      const everybody = (...dead: number[]) => [
        ...world.endpoints(...dead),
        { address: newcomer.address, url: newcomer.url },
      ];
      const signersOf = async (batchId: string) => {
        const [signers] = AbiCoder.defaultAbiCoder().decode(
          ["bytes[]", "bytes[]"],
          (await world.store.batches.find(batchId))!.proof!,
        );
        return [...signers].map((signer: string) => getAddress(signer)).sort();
      };

      beforeEach(async () => {
        newcomersStore = new Store(sqliteDatabase(":memory:"));
        rotate(COMMITTEE);
        const deps = { chain: world.chain, store: newcomersStore, log: silent };
        newcomer = await startAttestor({ signer: localSigner(NEWCOMER), committee: COMMITTEE.address }, deps);
      });

      afterEach(async () => {
        await newcomer.close();
        await newcomersStore.close();
      });

      it("has what came before attested by those who measured it, while their signatures count", async () => {
        await world.serve();
        const { status, batchId } = only(await settle({ attestors: everybody() }));
        expect(status).to.equal("settled");
        expect(await signersOf(batchId!)).to.deep.equal([...COMMITTEE.members].sort());
      });

      it("has it attested by the new ones if too few of the former answer", async () => {
        await world.serve();
        const { status, batchId } = only(await settle({ attestors: everybody(0, 1) }));
        expect(status).to.equal("settled");
        expect(await signersOf(batchId!)).to.deep.equal([computeAddress(NEWCOMER), COMMITTEE.members[2]].sort());
      });

      it("has what came since attested by the new ones alone", async () => {
        rotate(COMMITTEE);
        present.since = EPOCH.epochEnd - 1;
        await world.serve();
        const { batchId } = only(await settle({ attestors: everybody() }));
        present.since = EPOCH.epochEnd;
        expect(await signersOf(batchId!)).to.deep.equal([...present.members].sort());
      });

      it("takes a draft back whose committee's time is over, and drafts it anew", async () => {
        const requestId = await world.serve();
        onceDrafted(() => rotate(null));
        const { status, reason } = only(await settle({ attestors: everybody() }));
        expect(status).to.equal("retry");
        expect(reason).to.contain("isn't in force any more: it was taken back");
        const { batchId } = only(await settle({ attestors: everybody() }));
        expect(await signersOf(batchId!)).to.deep.equal([...present.members].sort());
        expect(await world.stateOf(requestId)).to.equal("settled");
      });

      it("says that its members must be listed", async () => {
        rotate(null);
        await world.serve();
        const { reason } = only(await settle({ attestors: [everybody()[3]] }));
        expect(reason).to.equal("1 of the 1 attestors that are listed measured: a weight of 1, and 2 is needed");
      });
    });

    describe("when attestors don't answer", () => {
      it("settles without them as long as the threshold is met", async () => {
        await world.serve();
        expect(only(await settle({ attestors: world.endpoints(1) })).status).to.equal("settled");
        expect(world.messages()).to.include("Attestor didn't answer");
      });

      it("drafts nothing while too few measure", async () => {
        const requestId = await world.serve();
        const { status, reason } = only(await settle({ attestors: world.endpoints(0, 1) }));
        expect({ status, reason }).to.deep.equal({
          status: "retry",
          reason: "1 of the 3 attestors that are listed measured: a weight of 1, and 2 is needed",
        });
        expect(await world.stateOf(requestId)).to.equal("unbatched");
      });

      it("doesn't wait for one longer than its time", async () => {
        await world.serve();
        const hanging = createServer(() => {}).listen(0, "127.0.0.1");
        await once(hanging, "listening");
        const [one, two, three] = world.endpoints();
        const url = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}`;
        expect(
          only(await settle({ attestors: [one, two, { ...three, url }], attestorTimeoutMs: 500 })).status,
        ).to.equal("settled");
        hanging.closeAllConnections();
        hanging.close();
      });

      it("keeps a draft that too few signed, and settles the same one later", async () => {
        await world.serve();
        const attest = world.attestorStores.slice(0, 2).map((store) => {
          const record = store.attested.record.bind(store);
          store.attested.record = () => {
            throw new Error("disk full");
          };
          return () => (store.attested.record = record);
        });
        const { status, batchId } = only(await settle());
        expect(status).to.equal("retry");
        attest.forEach((restore) => restore());
        expect(only(await settle())).to.include({ status: "settled", batchId });
      });
    });

    describe("when attestors refuse", () => {
      it("settles as long as the threshold signs", async () => {
        await world.serve();
        world.attestorStores[0].attested.at = async () => id("another batch");
        expect(only(await settle()).status).to.equal("settled");
        expect(world.messages()).not.to.include("Draft taken back");
      });

      it("takes the draft back when it can't get enough signatures any more, and drafts another", async () => {
        const requestId = await world.serve();
        const evidenceHash = id("newer evidence");
        const operator = world.chain.operators.get(LANE.operatorId)!;
        onceDrafted(() => world.chain.operators.set(LANE.operatorId, { ...operator, evidenceHash }));
        expect(only(await settle()).status).to.equal("retry");
        expect(await world.stateOf(requestId)).to.equal("unbatched");
        expect(await world.batches("drafted")).to.deep.equal([]);
        expect(only(await settle()).status).to.equal("settled");
      });

      /** Has a member refuse the receipts of a license, until the function that it gives is called. */
      const refuseLicense = (member: number, licenseId: bigint) => {
        const store = world.attestorStores[member];
        const seenSpans = store.attested.seenSpans.bind(store);
        const ends = { previousHash: ZeroHash, lastHash: id("h"), firstFinishedAt: null, lastFinishedAt: null };
        const another = { batchId: id("b"), ...ends };
        store.attested.seenSpans = async (spans) => {
          const itsOwn = spans.filter((span) => span.licenseId === licenseId);
          return [...(await seenSpans(spans)), ...itsOwn.map((span) => ({ ...span, ...another }))];
        };
        return () => (store.attested.seenSpans = seenSpans);
      };
      const tryAgain = async (times: number, config: Partial<SettlerConfig> = {}) => {
        const settler = world.settler(config);
        const outcomes: SettlementOutcome[] = [];
        for (let i = 0; i < times; i++) outcomes.push(...(await settler.settle(LANE, EPOCH)));
        return outcomes;
      };

      it("takes back with a part what was drafted after it, and drafts both anew", async () => {
        const served = [await world.serve(7n), await world.serve(8n)];
        const allow = [0, 1, 2].map((member) => refuseLicense(member, 7n));
        const settler = world.settler({ licensesPerBatch: 1 });
        expect(only(await settler.settle(LANE, EPOCH)).status).to.equal("retry");
        expect(await world.batches("drafted")).to.deep.equal([]);
        allow.forEach((allowed) => allowed());
        const outcomes = await settler.settle(LANE, EPOCH);
        expect(outcomes.map(({ status }) => status)).to.deep.equal(["settled", "settled"]);
        expect(await world.statesOf(served)).to.deep.equal(["settled", "settled"]);
        const headers = outcomes.map(async ({ batchId }) => (await world.store.batches.find(batchId!))!.header);
        const [first, second] = await Promise.all(headers);
        expect(second.sequence).to.equal(first.sequence + 1n);
        for (const header of [first, second]) expect(header).to.include(EPOCH);
      });

      it("leaves out a receipt that no committee lets through, and voids it only after an hour", async () => {
        const [good, bad] = [await world.serve(7n), await world.serve(8n, EPOCH.epochStart + 20, KEYS.outsider)];
        const settler = world.settler();
        const states = async () => {
          await settler.settle(LANE, EPOCH);
          return [await world.stateOf(good), await world.stateOf(bad)];
        };
        expect(await states()).to.deep.equal(["unbatched", "unbatched"]);
        for (let i = 0; i < 5; i++) expect(await states()).to.deep.equal(["settled", "unbatched"]);
        world.chain.time += 3_599;
        expect(await states()).to.deep.equal(["settled", "unbatched"]);
        world.chain.time += 1;
        expect(await states()).to.deep.equal(["settled", "void"]);
        expect(await settler.settle(LANE, EPOCH)).to.deep.equal([]);
      });

      it("doesn't void what many refuse at first, however long ago, and not again", async () => {
        const requestId = await world.serve();
        const restore = [0, 1, 2].map((member) => refuseLicense(member, 7n));
        const settler = world.settler();
        await settler.settle(LANE, EPOCH);
        world.chain.time += 3_600;
        await settler.settle(LANE, EPOCH);
        restore.forEach((undo) => undo());
        expect(await world.stateOf(requestId)).to.equal("unbatched");
        expect(only(await settler.settle(LANE, EPOCH)).status).to.equal("settled");
      });

      it("asks again for a draft that one signed and another refused, which may only be a block behind", async () => {
        const served = [await world.serve(7n), await world.serve(8n)];
        const restore = refuseLicense(2, 8n);
        const config = { attestors: world.endpoints(1) };
        const tried = await tryAgain(8, config);
        expect(new Set(tried.map(({ status }) => status))).to.deep.equal(new Set(["retry"]));
        expect(await world.statesOf(served)).to.deep.equal(["batched", "batched"]);
        restore();
        const { status, batchId } = only(await settle(config));
        expect({ status, batchId }).to.deep.equal({ status: "settled", batchId: tried[0].batchId });
        expect(world.messages()).not.to.include("Draft taken back");
      });

      it("makes batches smaller that attestors find too large to read", async () => {
        await Promise.all(world.attestors.map((attestor) => attestor.close()));
        world.attestors = await Promise.all(
          KEYS.attestors.map((key, i) =>
            startAttestor(
              { signer: localSigner(key), committee: COMMITTEE.address, bodyLimit: 1_500 },
              { chain: world.chain, store: world.attestorStores[i], log: silent },
            ),
          ),
        );
        const served: string[] = [];
        for (let i = 0; i < 8; i++) served.push(await world.serve(7n, EPOCH.epochStart + i));
        const outcomes = await tryAgain(4);
        expect(outcomes[0]).to.include({ status: "retry" });
        expect(new Set(await world.statesOf(served))).to.deep.equal(new Set(["settled"]));
      });

      it("keeps what one signed until another signs, too", async () => {
        await world.serve();
        const restore = refuseLicense(2, 7n);
        await settle({ attestors: world.endpoints(1) });
        restore();
        expect(only(await settle({ attestors: world.endpoints(0, 1) })).status).to.equal("settled");
      });

      it("leaves out what those refuse who are enough for another draft, after several tries", async () => {
        const [good, bad] = [await world.serve(7n), await world.serve(8n)];
        const restore = [1, 2].map((member) => refuseLicense(member, 8n));
        const settler = world.settler();
        const states = async () => {
          await settler.settle(LANE, EPOCH);
          return [await world.stateOf(good), await world.stateOf(bad)];
        };
        for (let i = 1; i < 5; i++) expect(await states()).to.deep.equal(["batched", "batched"]);
        expect(await states()).to.deep.equal(["unbatched", "unbatched"]);
        expect(await states()).to.deep.equal(["settled", "unbatched"]);
        restore.forEach((undo) => undo());
        expect(await states()).to.deep.equal(["settled", "settled"]);
      });
    });

    describe("when bonds don't cover members", () => {
      const withCommittee = (changes: Partial<typeof COMMITTEE>) =>
        world.chain.committeesAt.set(COMMITTEE.address, {
          present: { ...COMMITTEE, ...changes },
          former: null,
          announced: null,
        });
      const [first, second] = COMMITTEE.members;

      it("settles by the others, as long as their weight is enough", async () => {
        await world.serve();
        withCommittee({ unbonded: [first] });
        expect(only(await settle()).status).to.equal("settled");
      });

      it("waits while it isn't, and settles once they are bonded", async () => {
        await world.serve();
        withCommittee({ unbonded: [first, second] });
        const { status, reason } = only(await settle());
        expect(status).to.equal("retry");
        expect(reason).to.contain("3 of the 3 attestors that are listed measured: a weight of 1, and 2 is needed");
        withCommittee({});
        expect(only(await settle()).status).to.equal("settled");
      });

      it("counts weight, and not heads", async () => {
        await world.serve();
        const weights = { ...COMMITTEE.weights, [first]: 5 };
        withCommittee({ weights, threshold: 4, unbonded: [first] });
        expect(only(await settle()).reason).to.contain("a weight of 2, and 4 is needed");
        withCommittee({ weights, threshold: 4 });
        expect(only(await settle()).status).to.equal("settled");
      });

      it("waits if the committee's contract takes no proof", async () => {
        await world.serve();
        world.escrow.isUnproven = true;
        const { status, reason } = only(await settle());
        expect(status).to.equal("retry");
        expect(reason).to.contain("doesn't take the signatures of 3 attestors");
        world.escrow.isUnproven = false;
        expect(only(await settle()).status).to.equal("settled");
      });

      it("proves a batch anew that was attested before", async () => {
        await world.serve();
        world.escrow.refusal = "no";
        const { batchId } = only(await settle());
        expect(await world.batches("attested")).to.have.length(1);
        world.escrow.refusal = null;
        world.escrow.isUnproven = true;
        expect(only(await settle()).reason).to.contain("doesn't take the batch's proof any more");
        world.escrow.isUnproven = false;
        expect(only(await settle())).to.include({ status: "settled", batchId });
      });
    });

    describe("when the chain says no", () => {
      it("reports the decoded error, sends nothing, and tries again later", async () => {
        const requestId = await world.serve();
        world.escrow.refusal = "StakeBelowInFlight(2, 900, 1000)";
        const { status, reason, batchId } = only(await settle());
        expect({ status, reason }).to.deep.equal({ status: "refused", reason: "StakeBelowInFlight(2, 900, 1000)" });
        expect(world.escrow.sent).to.deep.equal([]);
        expect(await world.stateOf(requestId)).to.equal("batched");
        world.escrow.refusal = null;
        expect(only(await settle())).to.include({ status: "settled", batchId });
      });

      it("settles nothing else of the lane before", async () => {
        await world.serve();
        world.escrow.refusal = "no";
        await settle();
        const next = { epochStart: EPOCH.epochEnd, epochEnd: EPOCH.epochEnd + 3_600 };
        const later = await world.serve(7n, next.epochStart);
        world.chain.time = next.epochEnd;
        expect(only(await world.settler().settle(LANE, next)).status).to.equal("refused");
        expect(await world.stateOf(later)).to.equal("unbatched");
      });
    });

    describe("when the transaction gets lost", () => {
      it("sends the same one again", async () => {
        await world.serve();
        world.escrow.isLossy = true;
        expect(only(await settle()).status).to.equal("retry");
        expect(await world.batches("submitted")).to.have.length(1);
        world.escrow.isLossy = false;
        expect(only(await settle()).status).to.equal("settled");
        expect(new Set(world.escrow.sent).size).to.equal(1);
        expect(world.escrow.paid).to.have.length(1);
      });
    });

    describe("when its nonce goes to another transaction", () => {
      it("signs anew and settles once", async () => {
        await world.serve();
        world.escrow.isLossy = true;
        await settle();
        world.escrow.isLossy = false;
        world.escrow.spendNonce();
        expect(only(await settle()).status).to.equal("settled");
        expect(new Set(world.escrow.sent).size).to.equal(2);
        expect(world.escrow.paid).to.have.length(1);
      });
    });

    describe("when a stranger settles the batch first", () => {
      it("takes it as settled and pays no second time", async () => {
        await world.serve();
        world.escrow.isLossy = true;
        await settle();
        world.escrow.isLossy = false;
        world.escrow.settleByStranger();
        expect(only(await settle()).status).to.equal("settled");
        expect(world.escrow.paid).to.have.length(1);
      });
    });

    describe("when the chain reorganizes", () => {
      it("takes nothing for settled that isn't final, and sends the same transaction again", async () => {
        const requestId = await world.serve();
        world.escrow.blocksAfter = 0;
        expect(only(await settle()).status).to.equal("retry");
        expect(await world.stateOf(requestId)).to.equal("batched");
        world.escrow.reorganize();
        world.escrow.blocksAfter = 10;
        expect(only(await settle()).status).to.equal("settled");
        expect(new Set(world.escrow.sent).size).to.equal(1);
        expect(world.escrow.paid).to.have.length(1);
      });
    });

    describe("when the chain undoes what was final", () => {
      it("takes the batch up again, and settles it once more with the same transaction", async () => {
        const requestId = await world.serve();
        const { batchId } = only(await settle());
        const purpose = `settlement of batch ${batchId}`;
        world.escrow.reorganize();
        const settler = world.settler();
        await settler.undone("renewal of license 7");
        await settler.undone(purpose);
        await settler.undone(purpose);
        expect(await world.stateOf(requestId)).to.equal("batched");
        expect(only(await settler.resume()).status).to.equal("settled");
        expect(await world.stateOf(requestId)).to.equal("settled");
        expect(world.escrow.paid).to.have.length(1);
        expect(new Set(world.escrow.sent).size).to.equal(1);
      });
    });

    describe("when the window is over", () => {
      it("voids receipts that are in no batch, and says how many", async () => {
        const requestId = await world.serve();
        windowIsOver();
        expect(only(await settle())).to.include({ status: "abandoned", batchId: null });
        expect(await world.stateOf(requestId)).to.equal("void");
        expect(world.lines.some((line) => line.includes('"receipts":1') && line.includes("is over"))).to.equal(true);
      });

      const leftAt: [BatchState, () => void][] = [
        ["drafted", () => world.attestorStores.forEach((store) => (store.attested.at = failing))],
        ["attested", () => (world.escrow.refusal = "no")],
        ["submitted", () => (world.escrow.isLossy = true)],
      ];
      for (const [state, arrange] of leftAt) {
        it(`abandons a ${state} batch and voids its receipts`, async () => {
          const requestId = await world.serve();
          arrange();
          await settle();
          expect(await world.batches(state)).to.have.length(1);
          windowIsOver();
          expect(only(await world.settler().resume()).status).to.equal("abandoned");
          expect(await world.stateOf(requestId)).to.equal("void");
          expect(world.messages()).to.include("Batch abandoned");
        });
      }

      it("doesn't abandon a batch that settled at the last moment and isn't final yet", async () => {
        await world.serve();
        world.escrow.blocksAfter = 0;
        await settle();
        windowIsOver();
        expect(only(await world.settler().resume()).status).to.equal("retry");
        world.escrow.spendNonce();
        world.escrow.spendNonce();
        expect(only(await world.settler().resume()).status).to.equal("settled");
      });
    });
  });

  describe("renewals that gateways ask for", () => {
    it("has a license renewed with the next round, once", async () => {
      const settler = world.settler();
      await world.store.renewals.ask(7n);
      await world.store.renewals.ask(7n);
      await settler.settleDue();
      await world.store.renewals.ask(7n);
      await settler.settleDue();
      expect(new Set(world.escrow.sent).size).to.equal(1);
      expect(world.messages()).to.include("License's renewal is sent");
    });

    it("says why the chain doesn't renew one, and goes on", async () => {
      const settler = world.settler();
      world.escrow.refusal = "MinimumNotCovered(available 3, minimumSpend 9)";
      await world.store.renewals.ask(7n);
      expect(await settler.settleDue()).to.deep.equal([]);
      expect(world.lines.join()).to.contain("License isn't renewed").and.to.contain("MinimumNotCovered(available 3");
      expect(world.escrow.sent).to.deep.equal([]);
    });

    it("doesn't wait for a settlement that is under way", async () => {
      await world.serve();
      world.escrow.isLossy = true;
      await settle();
      world.escrow.isLossy = false;
      const settler = world.settler();
      await world.store.renewals.ask(7n);
      await settler.settleDue();
      expect(world.escrow.paid).to.have.length(1);
      await settler.settleDue();
      await world.escrow.follow(`renewal of license 7 from ${2 ** 32 - 1} on`, 1);
      expect(world.escrow.done).to.deep.equal(["renewal of 7"]);
    });
  });

  describe("settleDue", () => {
    const due = (time: number) => {
      world.chain.time = time;
      return world.settler({ epochSeconds: 3_600 }).settleDue();
    };
    const hour = (time: number) => time - (time % 3_600);

    it("settles each lane's oldest epoch once it has ended, epoch by epoch", async () => {
      const first = await world.serve(7n, 100_900);
      const second = await world.serve(7n, 104_500);
      expect(await due(hour(100_900) + 3_599)).to.deep.equal([]);
      expect(only(await due(AFTER_EPOCH + 5_000)).status).to.equal("settled");
      expect([await world.stateOf(first), await world.stateOf(second)]).to.deep.equal(["settled", "unbatched"]);
      expect(only(await due(AFTER_EPOCH + 5_000)).status).to.equal("settled");
      expect(await world.stateOf(second)).to.equal("settled");
    });

    it("leaves plans of another committee to another settler", async () => {
      const requestId = await world.serve(7n, 100_900);
      const plan = world.chain.plans.get(LANE.planId)!;
      world.chain.plans.set(LANE.planId, { ...plan, attestor: world.chain.operators.get(LANE.operatorId)!.owner });
      expect(await due(AFTER_EPOCH + 5_000)).to.deep.equal([]);
      expect(await world.stateOf(requestId)).to.equal("unbatched");
    });

    it("settles no later epoch of a lane before the batch that is open", async () => {
      await world.serve(7n, 100_900);
      const later = await world.serve(7n, 104_500);
      world.escrow.refusal = "no";
      await due(AFTER_EPOCH + 5_000);
      expect(only(await due(AFTER_EPOCH + 5_000)).status).to.equal("refused");
      expect(await world.stateOf(later)).to.equal("unbatched");
    });
  });

  describe("where a lane is in trouble", () => {
    const OTHER = { ...LANE, planId: LANE.planId + 1 };
    const due = () => world.settler({ epochSeconds: 3_600 }).settleDue();
    beforeEach(() => (world.chain.time = AFTER_EPOCH + 5_000));

    /** Drafts of another lane that no attestor will sign: of nothing. */
    const draftOthers = async (...sequences: bigint[]) => {
      const service = { availabilityBps: 10_000, p95TtftMs: 1, samples: 1 };
      const hashes = { root: id("root"), entriesHash: id("entries"), evidenceHash: id("evidence") };
      for (const sequence of sequences) {
        const header = { ...OTHER, ...EPOCH, ...zeroUsage(), ...service, ...hashes, sequence, count: 1n };
        await world.store.batches.saveDraft(id(`draft ${sequence}`), header, "0x", [], []);
      }
      world.chain.plans.set(OTHER.planId, { ...world.chain.plans.get(LANE.planId)!, planId: OTHER.planId });
    };
    const statusesOf = (outcomes: SettlementOutcome[], { planId }: Lane) =>
      outcomes.filter(({ lane }) => lane.planId === planId).map(({ status, reason }) => `${status} ${reason}`);

    it("goes on with the others where the store fails as a draft is discarded", async () => {
      await world.serve(7n, 100_900);
      await draftOthers(1n, 2n);
      world.store.batches.discardDraft = async () => {
        throw new Error("disk full");
      };
      const outcomes = await due();
      expect(statusesOf(outcomes, OTHER)).to.deep.equal(["retry disk full"]);
      expect(statusesOf(outcomes, LANE)).to.deep.equal(["settled null"]);
    });

    it("goes on with the others where its plan can't be read", async () => {
      await world.serve(7n, 100_900);
      await draftOthers(1n);
      const plan = world.chain.plan.bind(world.chain);
      world.chain.plan = async (planId) => {
        if (planId === OTHER.planId) throw new Error("the node says nothing");
        return plan(planId);
      };
      const outcomes = await due();
      expect(statusesOf(outcomes, OTHER)).to.deep.equal(["retry the node says nothing"]);
      expect(statusesOf(outcomes, LANE)).to.deep.equal(["settled null"]);
    });

    it("settles the others where its transactions always revert", async () => {
      await world.serve(7n, 100_900);
      await draftOthers(1n);
      await world.store.batches.markAttested(id("draft 1"), "0x");
      const submit = world.escrow.submit.bind(world.escrow);
      const follow = world.escrow.follow.bind(world.escrow);
      const isOther = (purpose: string) => purpose.includes(id("draft 1"));
      let sent = 0;
      world.escrow.submit = async (purpose, callOf) => (isOther(purpose) ? 900 + sent++ : submit(purpose, callOf));
      world.escrow.follow = async (purpose, nonce) =>
        isOther(purpose) ? { fate: "reverted", hash: "0x" } : follow(purpose, nonce);
      const outcomes = await due();
      expect(statusesOf(outcomes, OTHER)).to.deep.equal(["retry 3 transactions failed"]);
      expect(sent).to.equal(3);
      expect(statusesOf(outcomes, LANE)).to.deep.equal(["settled null"]);
    });
  });

  describe("when gas has its price", () => {
    const HOUR = 3_600;
    /** A coin is worth a unit of the currency, of 6 decimals. */
    const economy: EconomyConfig = { gasTokenPrice: 10n ** 8n, minValueToGas: 10 };
    /** One license's request of 5 tokens is charged 11 units, of which the operator's are 7. */
    const VALUE = 7n;
    /** At which settling one license costs so many units. */
    const priceOf = (units: bigint) => (units * 10n ** 12n) / settlementGas(1);
    const due = (settler: Settler, time: number) => {
      world.chain.time = time;
      return settler.settleDue();
    };
    const settlerOf = () => world.settler({ economy, epochSeconds: HOUR });
    const end = EPOCH.epochEnd - (EPOCH.epochEnd % HOUR) + HOUR;

    it("waits for cheaper gas, tells what waits, and settles once it is worth it", async () => {
      const requestId = await world.serve(7n, end - 10);
      world.escrow.gasPriceWei = priceOf(1n);
      const settler = settlerOf();
      const { status, reason } = only(await due(settler, end));
      expect(status).to.equal("retry");
      expect(reason).to.equal(`Settling the epoch that ended at ${end} brings ${VALUE} and costs 1 units`);
      await due(settler, end);
      expect(world.messages().filter((message) => message === "Batch waits for cheaper gas")).to.have.length(1);
      expect(settler.figures()).to.deep.equal({ waiting: VALUE, givenUp: 0n });
      expect(await world.stateOf(requestId)).to.equal("unbatched");
      world.escrow.gasPriceWei = 0n;
      expect(only(await due(settler, end)).status).to.equal("settled");
      expect(settler.figures()).to.deep.equal({ waiting: 0n, givenUp: 0n });
    });

    it("settles in the middle of the window what costs less than it brings", async () => {
      await world.serve(7n, end - 10);
      world.escrow.gasPriceWei = priceOf(VALUE - 1n);
      const settler = settlerOf();
      expect(only(await due(settler, end + world.chain.windowPeriod / 2 - 1)).status).to.equal("retry");
      expect(only(await due(settler, end + world.chain.windowPeriod / 2)).status).to.equal("settled");
    });

    it("gives up then what costs more, if later epochs wait for it, and settles those", async () => {
      const small = await world.serve(7n, end - 10);
      world.escrow.gasPriceWei = priceOf(VALUE + 1n);
      const settler = settlerOf();
      const middle = end + world.chain.windowPeriod / 2;
      expect(only(await due(settler, middle)).status).to.equal("retry");
      const later: string[] = [];
      for (let i = 0; i < 2; i++) later.push(await world.serve(7n, end + 10));
      expect((await due(settler, middle)).map(({ status }) => status)).to.deep.equal(["abandoned"]);
      expect(await world.stateOf(small)).to.equal("void");
      expect(settler.figures()).to.deep.equal({ waiting: 0n, givenUp: VALUE });
      const { status, reason } = only(await due(settler, end + HOUR + world.chain.windowPeriod / 2));
      expect({ status, reason }).to.deep.equal({ status: "settled", reason: null });
      expect(new Set(await world.statesOf(later))).to.deep.equal(new Set(["settled"]));
    });
  });

  describe("resume", () => {
    const lives = [false, true].flatMap((lastCallHappens) => [1, 2].map((parts) => ({ lastCallHappens, parts })));
    for (const { lastCallHappens, parts } of lives) {
      const moment = lastCallHappens ? "after the call's effect" : "before the call";
      const config = { licensesPerBatch: 2 / parts };

      it(`settles exactly once whatever call the settler died at, ${moment}, in batches: ${parts}`, async () => {
        let steps = 0;
        for (let survived = false; !survived; steps++) {
          const own = await World.open(placeOf());
          try {
            const requests = [await own.serve(7n), await own.serve(8n)];
            const life = lifeOf(steps + 1, lastCallHappens);
            await own
              .settler(config, life)
              .settle(LANE, EPOCH)
              .catch(() => undefined);
            survived = !life.isOver;

            await own.reopen();
            await own.settler(config).resume();
            await own.settler(config).settle(LANE, EPOCH);
            expect(own.escrow.paid, `died at call ${steps + 1}`).to.have.length(parts);
            expect(await own.statesOf(requests)).to.deep.equal(["settled", "settled"]);
            expect(new Set(own.escrow.sent).size, `died at call ${steps + 1}`).to.equal(parts);
          } finally {
            await own.close();
          }
        }
        expect(steps).to.be.greaterThan(20);
      });
    }
  });
});

function failing(): never {
  throw new Error("disk failure");
}
