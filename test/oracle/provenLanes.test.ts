import { expect } from "chai";
import { computeAddress, getBytes, id, keccak256, toBeHex } from "ethers";
import { setTimeout as wait } from "node:timers/promises";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import {
  LONGEST_PROOF,
  MOST_PROOFS_SENT,
  PROOFS_PATH,
  sendProofs,
  type ShownProofs,
  shownProofsFromJson,
  shownProofsToJson,
} from "../../oracle/attestor/proofsApi";
import { RETRIEVAL_HEADER, signRetrieval } from "../../oracle/attestor/retrievalApi";
import type { Inferences } from "../../oracle/chain/inferences";
import type { Inference } from "../../oracle/disputes/court";
import type { ProofAsked, ReceiptProver } from "../../oracle/disputes/receiptProver";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { MalformedMessage } from "../../oracle/protocol/messages";
import { Tier } from "../../oracle/protocol/tiers";
import type { Usage } from "../../oracle/protocol/types";
import { ProvenLanes } from "../../oracle/settler/provenLanes";
import { Settler } from "../../oracle/settler/settler";
import { Store } from "../../oracle/store/store";
import { describeOnEach, memoryPlace, type Place } from "../support/databases";
import { until } from "../support/gatewayBench";
import { StubEscrow } from "../support/stubEscrow";
import { AFTER_EPOCH, COMMITTEE, EPOCH, KEYS, LANE, serveReceipt, stubMarket } from "../support/stubMarket";

const INFERENCE: Inference = { weightsCommitment: id("weights"), verifier: computeAddress(id("verifier")) };
const INPUT = Uint8Array.of(1, 2, 3);
/** When half of the epoch's window is over. */
const HALF_WINDOW = EPOCH.epochEnd + 86_400;

const GULLIBLE = computeAddress(id("takes everything"));

/** What the stub of a verifier takes for a proof of a receipt. */
const proofOf = (receiptHash: string) => keccak256(receiptHash);

/** A verifier that can be asked how often it was. */
class StubInferences implements Inferences {
  inference: Inference | null = INFERENCE;
  /** Versions whose verifiers take everything. */
  readonly gullible = new Set<bigint>();
  /** Is waited for before each verification. */
  before: () => Promise<void> = async () => {};
  /** Hashes of the receipts that it was asked about. */
  readonly asked: string[] = [];

  async inferenceOf(versionId: bigint): Promise<Inference | null> {
    return this.gullible.has(versionId) ? { ...INFERENCE, verifier: GULLIBLE } : this.inference;
  }

  async isProven({ verifier }: Inference, _: object, receiptHash: string, proof: Uint8Array): Promise<boolean> {
    await this.before();
    this.asked.push(receiptHash);
    return verifier === GULLIBLE || Buffer.from(proof).equals(Buffer.from(getBytes(proofOf(receiptHash))));
  }
}

class StubProver implements ReceiptProver {
  readonly asked: ProofAsked[] = [];
  /** By receipts' hashes. */
  readonly failing = new Map<string, string>();
  /** Makes something else of each proof. */
  damage = (proof: string) => proof;

  async prove(asked: ProofAsked): Promise<string> {
    this.asked.push(asked);
    const failure = this.failing.get(asked.receiptHash);
    if (failure !== undefined) throw new Error(failure);
    return this.damage(proofOf(asked.receiptHash));
  }
}

describeOnEach("lanes whose plan demands proofs", function (placeOf) {
  this.timeout(120_000);
  const chain = () => world.chain;

  /** An operator and its attestors, under a plan that demands proofs. */
  class World {
    readonly chain = stubMarket();
    readonly escrow = new StubEscrow(this.chain);
    readonly inferences = new StubInferences();
    readonly prover = new StubProver();
    readonly lines: { level: string; message: string; [field: string]: unknown }[] = [];
    readonly log = createLog("debug", (line) => this.lines.push(JSON.parse(line)));
    attestors: Attestor[] = [];
    attestorStores: Store[] = [];
    private served = 0;

    constructor(
      readonly place: Place,
      readonly attestorPlace: Place,
      readonly store: Store,
    ) {
      this.demand(Tier.proven);
    }

    static async open(): Promise<World> {
      const [place, attestorPlace] = [placeOf(), placeOf()];
      const opened = new World(place, attestorPlace, new Store(await place.open()));
      for (const [i, key] of KEYS.attestors.entries()) {
        const store = new Store(await (i === 0 ? attestorPlace : memoryPlace()).open());
        opened.attestorStores.push(store);
        opened.attestors.push(await opened.startAttestor(key, store));
      }
      return opened;
    }

    startAttestor(key: string, store: Store): Promise<Attestor> {
      const { chain, inferences } = this;
      const log = createLog("error", () => {});
      return startAttestor(
        { signer: localSigner(key), committee: COMMITTEE.address },
        { chain, store, log, inferences },
      );
    }

    demand(minEvidenceTier: number): void {
      this.chain.plans.set(LANE.planId, { ...this.chain.plans.get(LANE.planId)!, minEvidenceTier });
    }

    lanes(provers = new Map<bigint, ReceiptProver>([[LANE.versionId, this.prover]])): ProvenLanes {
      const { chain, store, inferences, log } = this;
      return new ProvenLanes(
        { chain, store, inferences, log },
        { proposer: localSigner(KEYS.proposer), attestors: this.endpoints(), attestorTimeoutMs: 5_000, provers },
      );
    }

    settler(proofs?: ProvenLanes): Settler {
      const { chain, store, escrow, log } = this;
      return new Settler(
        { chain, store, escrow, sender: escrow, log, proofs },
        {
          ...{ proposer: localSigner(KEYS.proposer), committee: COMMITTEE.address },
          ...{ attestors: this.endpoints(), attestorTimeoutMs: 5_000 },
        },
      );
    }

    endpoints() {
      return this.attestors.map(({ address, url }) => ({ address, url }));
    }

    /** Gives the receipt's hash. */
    async serve(
      input: Uint8Array | null = INPUT,
      meters: Partial<Usage> = { requests: 1n },
      licenseId = 7n,
    ): Promise<string> {
      const requestId = toBeHex(++this.served, 32);
      const finishedAt = EPOCH.epochStart + 10 * this.served;
      await serveReceipt(this.store, { requestId, licenseId, finishedAt, meters, input: input ?? undefined });
      return (await this.store.receipts.ofRequest(requestId))!.hash;
    }

    async stateOf(hash: string): Promise<string | undefined> {
      return (await this.store.receipts.withHash(hash))?.state;
    }

    async shown(hash: string, proof = proofOf(hash)): Promise<ShownProofs> {
      const { licenseId, sequence } = (await this.store.receipts.withHash(hash))!.receipt;
      return { versionId: LANE.versionId, proofs: [{ name: { licenseId, sequence, hash }, proof: getBytes(proof) }] };
    }

    async signed(key = KEYS.proposer, attestor = this.attestors[0].address) {
      const retrieval = { operatorId: LANE.operatorId, attestor, at: this.chain.time };
      return signRetrieval(this.chain.domain, localSigner(key), retrieval);
    }

    /** To the first attestor. */
    async show(shown: ShownProofs) {
      return sendProofs(this.attestors[0].url, await this.signed(), shown, 5_000);
    }

    /** To all attestors, by lanes that remember nothing. */
    async showAll(hashes: string[]): Promise<void> {
      const lanes = this.lanes();
      for (const attestor of this.endpoints()) await lanes.showTo(attestor, hashes);
    }

    said(message: string) {
      return this.lines.filter((line) => line.message === message);
    }

    async close(): Promise<void> {
      await Promise.all(this.attestors.map((attestor) => attestor.close()));
      await Promise.all([this.store, ...this.attestorStores].map((store) => store.close()));
      [this.place, this.attestorPlace].forEach((place) => place.remove());
    }
  }

  let world: World;

  beforeEach(async () => {
    world = await World.open();
  });

  afterEach(() => world.close());

  const LEFT_OUT =
    "Receipts left out, as their answers aren't proven: nobody is charged for them, and they may be challenged";

  describe("proving", () => {
    it("proves what counts anything, of what was asked, and keeps the proofs through a restart", async () => {
      const hash = await world.serve();
      await world.serve(INPUT, { requests: 0n });
      await world.lanes().proveDue();
      const [{ receiptHash, input, weightsCommitment }] = world.prover.asked;
      expect({ receiptHash, input, weightsCommitment }).to.deep.equal({
        ...{ receiptHash: hash, input: [...INPUT], weightsCommitment: INFERENCE.weightsCommitment },
      });
      await world.lanes().proveDue();
      expect(world.prover.asked, "proven once").to.have.length(1);
      expect((await world.store.proofs.proofs([hash])).get(hash)).to.deep.equal(getBytes(proofOf(hash)));
    });

    it("proves nothing where the plan demands less", async () => {
      world.demand(Tier.cpuTee);
      await world.serve();
      await world.lanes().proveDue();
      expect(world.prover.asked).to.deep.equal([]);
    });

    it("ends before the next proof once it isn't to go on", async () => {
      await world.serve();
      await world.serve();
      await world.lanes().proveDue(() => world.prover.asked.length === 0);
      expect(world.prover.asked).to.have.length(1);
    });

    it("has licenses take turns, so that none keeps the others waiting", async () => {
      const many = [await world.serve(), await world.serve(), await world.serve()];
      const other = await world.serve(INPUT, { requests: 1n }, 8n);
      await world.lanes().proveDue();
      expect(world.prover.asked.map(({ receiptHash }) => receiptHash)).to.deep.equal([
        many[0],
        other,
        many[1],
        many[2],
      ]);
    });

    it("proves what never failed before what failed", async () => {
      const failing = await world.serve();
      world.prover.failing.set(failing, "the machine is too small");
      const lanes = world.lanes();
      await lanes.proveDue();
      const other = await world.serve();
      chain().time += 300;
      await lanes.proveDue();
      expect(world.prover.asked.map(({ receiptHash }) => receiptHash)).to.deep.equal([failing, other, failing]);
    });

    it("waits twice as long after each failure, from its end on", async () => {
      world.prover.failing.set(await world.serve(), "the machine is too small");
      const prove = world.prover.prove.bind(world.prover);
      world.prover.prove = async (asked) => {
        chain().time += 900;
        return prove(asked);
      };
      const lanes = world.lanes();
      const tries = async (seconds: number) => {
        chain().time += seconds;
        await lanes.proveDue();
        return world.prover.asked.length;
      };
      expect(await tries(0)).to.equal(1);
      expect(await tries(299)).to.equal(1);
      expect(await tries(1)).to.equal(2);
      expect(await tries(599)).to.equal(2);
      expect(await tries(1)).to.equal(3);
    });

    it("tries what failed again after a while, tells it once, and goes on with others", async () => {
      const [failing, other] = [await world.serve(), await world.serve()];
      world.prover.failing.set(failing, "the machine is too small");
      const lanes = world.lanes();
      await lanes.proveDue();
      await lanes.proveDue();
      expect(world.prover.asked.map(({ receiptHash }) => receiptHash)).to.deep.equal([failing, other]);
      expect(lanes.figures()).to.deep.equal({ failing: 1, leftOut: 0 });
      chain().time += 300;
      await lanes.proveDue();
      expect(world.prover.asked).to.have.length(3);
      const told = world.said("Receipt can't be proven");
      expect(told.map(({ reason }) => reason)).to.deep.equal(["the machine is too small"]);
      world.prover.failing.clear();
      chain().time += 600;
      await lanes.proveDue();
      expect(lanes.figures()).to.deep.equal({ failing: 0, leftOut: 0 });
    });

    it("counts no failure of a receipt that is in no lane any more", async () => {
      world.prover.failing.set(await world.serve(), "the machine is too small");
      const lanes = world.lanes();
      await lanes.proveDue();
      await world.store.unbatched.void(LANE, EPOCH);
      chain().time += 300 + 3_600;
      await lanes.proveDue();
      expect(lanes.figures().failing).to.equal(1);
      chain().time += 1;
      await lanes.proveDue();
      expect(lanes.figures().failing).to.equal(0);
    });

    it("keeps no proof that the version's own verifier doesn't take", async () => {
      const hash = await world.serve();
      world.prover.damage = () => id("another setup's");
      await world.lanes().proveDue();
      expect((await world.store.proofs.proofs([hash])).size).to.equal(0);
      expect(world.said("Receipt can't be proven")[0].reason).to.match(/doesn't take the proof .* name the setup/);
    });
  });

  describe("settling", () => {
    it("settles what is proven, and what counts nothing", async () => {
      const hashes = [await world.serve(), await world.serve(INPUT, { requests: 0n })];
      const lanes = world.lanes();
      await lanes.proveDue();
      const [{ status, reason }] = await world.settler(lanes).settle(LANE, EPOCH);
      expect({ status, reason }).to.deep.equal({ status: "settled", reason: null });
      expect(await Promise.all(hashes.map((hash) => world.stateOf(hash)))).to.deep.equal(["settled", "settled"]);
    });

    it("has each attestor verify a proof once, whoever asks it again", async () => {
      const hash = await world.serve();
      const lanes = world.lanes();
      await lanes.proveDue();
      expect(world.inferences.asked, "its own, and three attestors").to.deep.equal(Array(4).fill(hash));
      expect(await world.show(await world.shown(hash))).to.deep.equal({ proven: 1, lacking: [], refused: [] });
      await world.showAll([hash]);
      expect(world.inferences.asked).to.have.length(4);
    });

    it("settles after a restart of all, with proofs that weren't shown before", async () => {
      const hash = await world.serve();
      const none = new ProvenLanes(
        { chain: world.chain, store: world.store, inferences: world.inferences, log: world.log },
        {
          ...{ proposer: localSigner(KEYS.proposer), attestors: [], attestorTimeoutMs: 5_000 },
          provers: new Map([[LANE.versionId, world.prover]]),
        },
      );
      await none.proveDue();
      const [{ status }] = await world.settler(world.lanes()).settle(LANE, EPOCH);
      expect(status).to.equal("settled");
      expect(await world.stateOf(hash)).to.equal("settled");
    });

    it("waits with the lane for what may still be proven, and says for what", async () => {
      const hash = await world.serve();
      const lanes = world.lanes();
      const [waiting] = await world.settler(lanes).settle(LANE, EPOCH);
      expect(waiting).to.include({ status: "retry", batchId: null });
      expect(waiting.reason).to.equal(
        `1 receipts from before ${EPOCH.epochEnd} wait for proofs, which plan 3 demands; the first, ${hash}: its turn hasn't come`,
      );
      world.prover.failing.set(hash, "the machine is too small");
      await lanes.proveDue();
      const [failing] = await world.settler(lanes).settle(LANE, EPOCH);
      expect(failing.reason).to.match(/: the machine is too small$/);
      expect(await world.stateOf(hash)).to.equal("unbatched");
    });

    it("leaves out what isn't proven when half of the window is over, and settles the rest", async () => {
      const [first, failing, last] = [await world.serve(), await world.serve(), await world.serve()];
      world.prover.failing.set(failing, "the machine is too small");
      const lanes = world.lanes();
      await lanes.proveDue();
      chain().time = HALF_WINDOW;
      expect((await world.settler(lanes).settle(LANE, EPOCH))[0].status).to.equal("retry");
      chain().time = HALF_WINDOW + 1;
      expect((await world.settler(lanes).settle(LANE, EPOCH))[0].status).to.equal("settled");
      const states = await Promise.all([first, failing, last].map((hash) => world.stateOf(hash)));
      expect(states).to.deep.equal(["settled", "void", "settled"]);
      expect(lanes.figures()).to.deep.equal({ failing: 0, leftOut: 1 });
      const [line] = world.said(LEFT_OUT);
      expect(line).to.deep.include({ level: "error", receipts: 1, hashes: [failing] });
      expect(line.reasons).to.deep.equal(["the machine is too small"]);
    });

    it("leaves out at once what will never be proven: without what was asked, or a verifier", async () => {
      const [lost, proven] = [await world.serve(null), await world.serve()];
      const lanes = world.lanes();
      await lanes.proveDue();
      expect((await world.settler(lanes).settle(LANE, EPOCH))[0].status).to.equal("settled");
      expect([await world.stateOf(lost), await world.stateOf(proven)]).to.deep.equal(["void", "settled"]);
      expect(String(world.said(LEFT_OUT)[0].reasons)).to.match(/^The store lacks what receipt 0x\w+ was asked/);
    });

    it("leaves out all of a version that names no verifier", async () => {
      world.inferences.inference = null;
      const hash = await world.serve();
      const lanes = world.lanes();
      await lanes.proveDue();
      expect(await world.settler(lanes).settle(LANE, EPOCH)).to.deep.equal([]);
      expect(await world.stateOf(hash)).to.equal("void");
      expect(world.said(LEFT_OUT)[0].reasons).to.deep.equal([`Version ${LANE.versionId} names no verifier`]);
    });

    it("waits where no prover is set for the version", async () => {
      await world.serve();
      const lanes = world.lanes(new Map());
      await lanes.proveDue();
      const [{ reason }] = await world.settler(lanes).settle(LANE, EPOCH);
      expect(reason).to.contain(`No prover is set for version ${LANE.versionId}: name its model's file`);
    });

    it("gets no signature without proofs: each attestor says of which receipt, and what is demanded", async () => {
      const hash = await world.serve();
      const [{ status }] = await world.settler().settle(LANE, EPOCH);
      expect(status).to.equal("retry");
      const { receipt } = (await world.store.receipts.withHash(hash))!;
      const refused = world.said("Attestor refused the batch");
      expect(refused).to.have.length(3);
      expect(refused[0].refusals).to.deep.equal([
        `Receipt 1 of license 7 has evidence of tier 0 for ${receipt.finishedAt}; plan 3 demands tier 4`,
      ]);
      expect(refused[0].receipts).to.deep.equal([hash]);
    });

    it("asks no attestor to attest that couldn't be shown the proofs, as its refusal would count", async () => {
      const hash = await world.serve();
      await world.lanes().proveDue();
      for (const { proofs } of world.attestorStores) await proofs.dropProven(2 ** 40);
      world.inferences.before = () => Promise.reject(new Error("the node says nothing"));
      const settler = world.settler(world.lanes());
      expect((await settler.settle(LANE, EPOCH))[0].status).to.equal("retry");
      expect(world.said("Attestor didn't answer")).to.have.length(3);
      expect(world.said("Attestor refused the batch")).to.deep.equal([]);
      world.inferences.before = async () => {};
      expect((await settler.settle(LANE, EPOCH))[0].status).to.equal("settled");
      expect(await world.stateOf(hash)).to.equal("settled");
    });

    it("shows an attestor nothing for whom others are enough by then", async () => {
      const hash = await world.serve();
      await world.lanes().proveDue();
      await world.attestorStores[0].proofs.dropProven(2 ** 40);
      const asked = world.inferences.asked.length;
      const [attestor] = world.endpoints();
      const showing = world.lanes().showTo(attestor, [hash], AbortSignal.abort(new Error("others were enough")));
      await expect(showing).to.be.rejectedWith("others were enough");
      expect(world.inferences.asked).to.have.length(asked);
    });

    it("shows the proofs again to attestors that have lost them", async () => {
      await world.serve();
      const lanes = world.lanes();
      await lanes.proveDue();
      for (const { proofs } of world.attestorStores) await proofs.dropProven(2 ** 40);
      const settler = world.settler(lanes);
      expect((await settler.settle(LANE, EPOCH))[0].status).to.equal("retry");
      expect(world.said("Attestor refused the batch")).to.have.length(3);
      expect((await settler.settle(LANE, EPOCH))[0].status).to.equal("settled");
    });

    it("isn't held up by an attestor that is away, where the others are enough", async () => {
      await world.serve();
      await world.attestors[2].close();
      const lanes = world.lanes();
      await lanes.proveDue();
      await world.serve();
      await lanes.proveDue();
      expect(world.said("Attestor takes no proofs"), "it is left alone for a while").to.have.length(1);
      // Who can't be asked for a measurement isn't asked to sign either.
      expect((await world.settler(lanes).settle(LANE, EPOCH))[0].status).to.equal("settled");
    });
  });

  describe("an attestor that is shown a proof", () => {
    let hash: string;

    beforeEach(async () => {
      hash = await world.serve();
      chain().time = AFTER_EPOCH;
    });

    const copied = () => world.showAll([hash]);
    const reasonOf = async (shown: ShownProofs) => {
      const { proven, lacking, refused } = await world.show(shown);
      expect({ proven, lacking }).to.deep.equal({ proven: 0, lacking: [] });
      expect(refused).to.have.length(1);
      expect(refused[0].hash).to.equal(hash);
      return refused[0].reason;
    };

    it("says that it lacks the receipt, and is shown the proof again after that", async () => {
      expect(await world.show(await world.shown(hash))).to.deep.equal({ proven: 0, lacking: [hash], refused: [] });
      await world.store.proofs.keep(hash, getBytes(proofOf(hash)));
      await copied();
      expect(await world.show(await world.shown(hash))).to.deep.equal({ proven: 1, lacking: [], refused: [] });
    });

    describe("and has the receipt", () => {
      /** Has its copies brought, with something that is no proof. */
      beforeEach(async () => {
        await world.store.proofs.keep(hash, Uint8Array.of(1));
        await copied();
        expect(world.said("Attestor takes a proof for none")).to.have.length(3);
      });

      it("refuses one that is damaged, another receipt's, or empty, and takes the true one after that", async () => {
        const damaged = toBeHex(BigInt(proofOf(hash)) ^ 1n, 32);
        for (const proof of [damaged, proofOf(id("another")), "0x"]) {
          chain().time += 60;
          expect(await reasonOf(await world.shown(hash, proof))).to.equal(
            `Receipt 1 of license 7 isn't proven: the verifier ${INFERENCE.verifier} doesn't take the ` +
              `${getBytes(proof).length} bytes that were shown for a proof`,
          );
        }
        expect((await world.attestorStores[0].proofs.provenOf([hash])).size).to.equal(0);
        chain().time += 60;
        expect(await world.show(await world.shown(hash))).to.deep.equal({ proven: 1, lacking: [], refused: [] });
      });

      it("refuses one of another version, of a version without a verifier, and under a plan that demands none", async () => {
        const shown = await world.shown(hash);
        const later = () => (chain().time += 60);
        later();
        expect(await reasonOf({ ...shown, versionId: 99n })).to.match(/is of asset \d+, and version 99 is unknown$/);
        later();
        world.inferences.inference = null;
        expect(await reasonOf(shown)).to.match(/can't be proven: version \d+ names no verifier$/);
        later();
        world.demand(Tier.gpu);
        expect(await reasonOf(shown)).to.equal("Receipt 1 of license 7 needs no proof: plan 3 demands gpu receipts");
      });

      it("refuses one by the verifier of another asset, which has published the same manifest", async () => {
        const own = chain().versions.get(LANE.versionId)!;
        const copied = { ...own, versionId: (9n << 32n) | 1n, assetId: 9 };
        chain().versions.set(copied.versionId, copied);
        world.inferences.gullible.add(copied.versionId);
        chain().time += 60;
        expect(await reasonOf({ ...(await world.shown(hash, "0x01")), versionId: copied.versionId })).to.match(
          new RegExp(`is of asset ${own.assetId}, and version ${copied.versionId} is of asset 9$`),
        );
        // Of the asset's own, the verifier is believed.
        world.inferences.gullible.add(LANE.versionId);
        chain().time += 60;
        expect(await world.show(await world.shown(hash, "0x01"))).to.include({ proven: 1 });
      });

      it("refuses another of another manifest of the asset", async () => {
        const versionId = LANE.versionId + 1n;
        chain().versions.set(versionId, {
          ...chain().versions.get(LANE.versionId)!,
          versionId,
          manifestHash: id("other"),
        });
        chain().time += 60;
        expect(await reasonOf({ ...(await world.shown(hash)), versionId })).to.contain(
          `version ${versionId} has ${id("other")}`,
        );
      });

      it("has its operator wait after a proof that wasn't taken, twice as long each time, a minute at most", async () => {
        const refused = () => world.show({ ...wrong }).then(({ refused: { length } }) => length);
        const wrong = await world.shown(hash, "0x02");
        await expect(refused()).to.be.rejectedWith("show others in 1 s");
        for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
          chain().time += seconds - 1;
          await expect(refused()).to.be.rejectedWith("show others in 1 s");
          chain().time += 1;
          expect(await refused()).to.equal(1);
        }
        chain().time += 60;
        expect(await world.show(await world.shown(hash))).to.include({ proven: 1 });
        expect(await world.show(await world.shown(hash)), "and needn't wait after that").to.include({ proven: 1 });
      });

      it("looks at two requests of an operator at once, and works for none that has gone", async () => {
        chain().time += 60;
        let go = () => {};
        const held = new Promise<void>((resolve) => (go = resolve));
        world.inferences.before = () => held;
        const asked = world.inferences.asked.length;
        const shown = await world.shown(hash, "0x03");
        const signed = await world.signed();
        const gone = new AbortController();
        const answers: string[] = [];
        for (let i = 0; i < 3; i++) {
          const answer = sendProofs(world.attestors[0].url, signed, shown, 5_000, gone.signal);
          void answer.then(String, String).then((said) => answers.push(said));
        }
        await until(() => answers.length > 0);
        expect(answers).to.have.length(1);
        expect(answers[0]).to.contain("2 requests of operator 2 are being looked at: wait for them");
        gone.abort();
        await until(() => answers.length === 3);
        // The attestor hears of it a little later.
        await wait(200);
        go();
        const proven = await world.shown(hash);
        await until(() => {
          chain().time += 60;
          return world.show(proven).then(
            () => true,
            () => false,
          );
        });
        expect(world.inferences.asked.slice(asked), "the first's, and the last's").to.have.length(2);
      });

      it("forgets what is proven once no batch can have it", async () => {
        chain().time += 60;
        await world.show(await world.shown(hash));
        const { proofs } = world.attestorStores[0];
        const { receipt } = (await world.store.receipts.withHash(hash))!;
        expect(await proofs.dropProven(receipt.finishedAt)).to.equal(0);
        expect(await proofs.dropProven(receipt.finishedAt + 1)).to.equal(1);
        expect((await proofs.provenOf([hash])).size).to.equal(0);
      });
    });

    it("looks at none that a stranger, or an operator without stake, shows", async () => {
      const { url } = world.attestors[0];
      const shown = await world.shown(hash);
      const problem = async (signed: Awaited<ReturnType<World["signed"]>>) => {
        const answer = sendProofs(url, signed, shown, 5_000);
        return answer.then(
          () => expect.fail("it was taken"),
          (error: Error) => error.message,
        );
      };
      expect(await problem(await world.signed(KEYS.outsider))).to.match(/403.*isn't a key of operator 2/);
      expect(await problem(await world.signed(KEYS.proposer, world.attestors[1].address))).to.match(/403/);
      chain().stakeHeadroom = 0n;
      expect(await problem(await world.signed())).to.match(/answered 402: .*Operator 2's stake lets nothing more/);
      expect(world.inferences.asked).to.deep.equal([]);
    });

    it("reads no more than so many bytes, and only in the one form", async () => {
      const { url } = world.attestors[0];
      const post = async (body: string, key = KEYS.proposer) => {
        const retrieval = Buffer.from(JSON.stringify(retrievalJson(await world.signed(key)))).toString("base64url");
        const headers = { "content-type": "application/json", [RETRIEVAL_HEADER]: retrieval };
        const response = await fetch(url + PROOFS_PATH, { method: "POST", headers, body });
        return `${response.status} ${await response.text()}`;
      };
      expect(await post(JSON.stringify({ versionId: "1", receipts: "", proofs: "x".repeat(2 ** 21) }))).to.match(
        /^413/,
      );
      expect(await post("[]")).to.match(/^400/);
      expect(await post("{}")).to.match(/^400.*receipts must be a string/);
    });
  });

  describe("what an operator keeps", () => {
    it("forgets proofs with their receipts", async () => {
      const hash = await world.serve();
      await world.lanes().proveDue();
      await world.store.proofs.keep(id("archived"), getBytes("0x01"));
      expect(await world.store.proofs.drop()).to.equal(1);
      expect([...(await world.store.proofs.proofs([hash, id("archived")])).keys()]).to.deep.equal([hash]);
    });

    it("knows whether so many wait for proofs", async () => {
      await world.serve();
      await world.serve(INPUT, { requests: 0n });
      const { proofs } = world.store;
      expect([await proofs.hasUnproven(LANE, 1), await proofs.hasUnproven(LANE, 2)]).to.deep.equal([true, false]);
      await world.lanes().proveDue();
      expect(await proofs.hasUnproven(LANE, 1)).to.equal(false);
    });

    it("gives up nothing that has a proof, or is in a batch", async () => {
      const hash = await world.serve();
      const lanes = world.lanes();
      await lanes.proveDue();
      expect(await world.store.proofs.giveUp([hash])).to.equal(0);
      await world.settler(lanes).settle(LANE, EPOCH);
      expect(await world.store.proofs.giveUp([hash])).to.equal(0);
      expect(await world.stateOf(hash)).to.equal("settled");
    });
  });
});

const retrievalJson = ({ retrieval, signature }: Awaited<ReturnType<typeof signRetrieval>>) => ({
  retrieval: { ...retrieval },
  signature,
});

describe("shown proofs", () => {
  const name = { licenseId: 7n, sequence: 1n, hash: id("receipt") };
  const shown: ShownProofs = { versionId: 5n, proofs: [{ name, proof: Buffer.from([1, 2]) }] };
  const json = shownProofsToJson(shown);
  const refuses = (changes: object, sentence: RegExp) =>
    expect(() => shownProofsFromJson({ ...json, ...changes })).to.throw(MalformedMessage, sentence);

  it("come back as they were", () => {
    expect(shownProofsFromJson(JSON.parse(JSON.stringify(json)))).to.deep.equal(shown);
  });

  it("are refused unless each is whole, and there are as many as receipts", () => {
    refuses({ proofs: [] }, /there are 0 proofs, and 1 receipts/);
    refuses({ proofs: ["A"] }, /a proof must be base64 of its bytes/);
    refuses({ proofs: [7] }, /a proof must be a string, not 7/);
    refuses({ proofs: Array(MOST_PROOFS_SENT + 1).fill("") }, /21 proofs came at once; 20 are the most/);
    const long = Buffer.alloc(LONGEST_PROOF + 1).toString("base64");
    refuses({ proofs: [long] }, /a proof has 65537 bytes; 65536 are the most/);
    refuses(shownProofsToJson({ ...shown, proofs: [...shown.proofs, ...shown.proofs] }), /a receipt is named twice/);
    refuses({ versionId: -1 }, /versionId must be a decimal string/);
    refuses({ receipts: "AA==" }, /receipts must be base64 of 48 bytes/);
  });
});
