import { expect } from "chai";
import { computeAddress, getBytes, id, ZeroHash } from "ethers";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import {
  type Attestation,
  type AttestationRefusal,
  evidenceToJson,
  PROPOSAL_HEADER,
  proposedBatchToText,
  requestMeasurement,
  sendReceipts,
} from "../../oracle/attestor/attestorApi";
import { type AttestationRequest, gatherFacts } from "../../oracle/attestor/batchFacts";
import type { Committee, Committees } from "../../oracle/chain/chain";
import { localSigner } from "../../oracle/keys/digestSigner";
import { refusalsOf } from "../../oracle/attestor/inspection";
import { recall } from "../../oracle/attestor/memory";
import type { CanaryAnswer } from "../../oracle/attestor/recount";
import { PLAUSIBLE, type Plausible } from "../../oracle/attestor/plausibility";
import { createLog } from "../../oracle/log";
import {
  batchDigest,
  measurementDigest,
  receiptDigest,
  recoverSigner,
  signDigest,
} from "../../oracle/protocol/messages";
import { splitRecord } from "../../oracle/protocol/receiptBytes";
import { type Receipt, ReceiptFlag } from "../../oracle/protocol/types";
import { counted } from "../../oracle/settler/batches";
import { spansOf } from "../../oracle/store/attestedReceipts";
import type { Database } from "../../oracle/store/database";
import { Store } from "../../oracle/store/store";
import type { Copy } from "../../oracle/store/copyRows";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN } from "../support/fakeMessages";
import type { StubChain } from "../support/stubChain";
import {
  chained,
  COMMITTEE,
  EPOCH,
  evenly,
  KEYS,
  LANE,
  type Offer,
  offer,
  brought,
  receiptUnder,
  type RequestParts,
  requestOf,
  requestSignedBy,
  signGrant,
  signMeasurement,
  stubMarket,
} from "../support/stubMarket";

const SELF = COMMITTEE.members[0];
const OUTSIDER = computeAddress(KEYS.outsider);
const PROPOSER = computeAddress(KEYS.proposer);

describeOnEach("attestor", (placeOf) => {
  let place: Place;
  let database: Database;
  let chain: StubChain;
  let store: Store;
  let attestor: Attestor;
  /** What the attestor told of the batches that it judged. */
  let judged: string[][];

  /** What was offered for a look at disclosed requests, and what was found. */
  let noted: Copy[];
  let audited: string[];

  /** What the attestor believes of the operator. */
  let plausible: Plausible;

  const start = async () => {
    database = await place.open();
    store = new Store(database);
    [judged, noted, audited] = [[], [], []];
    plausible = PLAUSIBLE;
    attestor = await startAttestor(
      { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address },
      {
        chain,
        store,
        log: createLog("error", () => {}),
        onJudged: (reasons) => judged.push(reasons),
        plausible: () => plausible,
        audits: {
          note: async (copies) => void noted.push(...copies),
          refusals: async () => audited.map((reason) => ({ reason, receiptHash: null })),
        },
      },
    );
  };

  const stop = async () => {
    await attestor.close();
    await store.close();
  };

  beforeEach(async () => {
    place = placeOf();
    chain = stubMarket();
    await start();
  });

  afterEach(async () => {
    await stop();
    place.remove();
  });

  const ask = (request: Offer) => offer(attestor.url, request);

  const signatureFor = async (request: Offer): Promise<Attestation> => {
    const answer = await ask(request);
    if ("refusals" in answer) expect.fail(`refused: ${answer.refusals.join("; ")}`);
    return answer;
  };

  const refusalOf = async (request: Offer): Promise<AttestationRefusal> => {
    const answer = await ask(request);
    if ("signature" in answer) expect.fail("it was signed");
    return answer;
  };

  /** Two receipts of license 7 and one of license 8, changed by `change` before they are chained and signed. */
  const parts = (change: (receipts: Receipt[]) => Receipt[] = (receipts) => receipts): RequestParts => {
    const grants = [signGrant(), signGrant({ licenseId: 8n })];
    const [one, two, other] = change([
      receiptUnder(grants[0], 1n),
      receiptUnder(grants[0], 2n),
      receiptUnder(grants[1], 1n),
    ]);
    return { grants, receipts: [...chained([one, two]), ...chained([other])] };
  };

  /** The parts with the last receipt changed. */
  const withLast = (fields: Partial<Receipt>) => parts(([one, two, other]) => [one, two, { ...other, ...fields }]);

  describe("startAttestor", () => {
    it("refuses a key that isn't a member's", async () => {
      const config = { signer: localSigner(KEYS.outsider), committee: COMMITTEE.address };
      const problem = await startAttestor(config, { chain, store, log: createLog("error", () => {}) }).catch((e) => e);
      expect(problem.message).to.contain(OUTSIDER).and.to.contain("isn't a member");
    });

    const startedBy = async (key: string, committees: Partial<Committees>) => {
      const lines: string[] = [];
      chain.committeesAt.set(COMMITTEE.address, { present: COMMITTEE, former: null, announced: null, ...committees });
      const log = createLog("warn", (line) => lines.push(line));
      const started = await startAttestor(
        { signer: localSigner(key), committee: COMMITTEE.address },
        { chain, store, log },
      );
      await started.close();
      return lines.join();
    };
    const ofOutsider = { ...COMMITTEE, ...evenly([OUTSIDER]) };

    it("takes a key of the next committee's, and says that it isn't in force yet", async () => {
      expect(await startedBy(KEYS.outsider, { announced: ofOutsider })).to.contain("isn't in force yet");
    });

    it("takes a key of the former committee's, and says that its time ends", async () => {
      expect(await startedBy(KEYS.outsider, { former: ofOutsider })).to.contain("isn't in force any more");
    });

    it("takes a member's key, and says where no bond covers it", async () => {
      expect(await startedBy(KEYS.attestors[0], {})).to.equal("");
      const unbonded = { ...COMMITTEE, unbonded: [SELF] };
      expect(await startedBy(KEYS.attestors[0], { present: unbonded })).to.contain("its signatures don't count");
    });

    it("answers /healthz with its address", async () => {
      const health = await (await fetch(`${attestor.url}/healthz`)).json();
      expect(health).to.deep.equal({ status: "ok", address: SELF });
    });
  });

  describe("/v1/measurements", () => {
    const measured = () => requestMeasurement(attestor.url, LANE, EPOCH, 10_000);

    it("refuses an epoch that hasn't ended", async () => {
      chain.time = EPOCH.epochEnd - 1;
      const problem = await measured().catch((error) => error);
      expect(problem.message)
        .to.contain("422")
        .and.to.contain(`The epoch ends at ${EPOCH.epochEnd}; it is ${chain.time}`);
    });

    it("answers 400 to a lane that isn't one", async () => {
      const response = await fetch(`${attestor.url}/v1/measurements`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ lane: { ...LANE, versionId: 7 }, epoch: EPOCH }),
      });
      expect(response.status).to.equal(400);
      expect((await response.json()).error).to.contain("versionId");
    });

    it("signs what its own canaries measured", async () => {
      await store.canaries.record(LANE, { at: EPOCH.epochStart, ok: true, ttftMs: 120 });
      await store.canaries.record(LANE, { at: EPOCH.epochEnd - 1, ok: false, ttftMs: 0 });
      await store.canaries.record(LANE, { at: EPOCH.epochEnd, ok: false, ttftMs: 0 });
      await store.canaries.record(LANE, { at: EPOCH.epochEnd - chain.epochPeriod - 1, ok: false, ttftMs: 0 });
      await store.canaries.record({ ...LANE, planId: 9 }, { at: EPOCH.epochStart, ok: false, ttftMs: 0 });
      const { measurement, signature } = await measured();
      expect(measurement).to.deep.equal({ ...LANE, ...EPOCH, availabilityBps: 5_000, p95TtftMs: 120, samples: 2 });
      expect(recoverSigner(measurementDigest(DOMAIN, measurement), signature)).to.equal(SELF);
    });
  });

  describe("/v1/measurements of an epoch that was measured", () => {
    it("are the same ever after, whatever canaries say of it later, by a clock that went back", async () => {
      const asked = () => requestMeasurement(attestor.url, LANE, EPOCH, 10_000);
      await store.canaries.record(LANE, { at: EPOCH.epochStart, ok: true, ttftMs: 120 });
      const first = await asked();
      await store.canaries.record(LANE, { at: EPOCH.epochEnd - 1, ok: false, ttftMs: 0 });
      expect(await asked()).to.deep.equal(first);
      await stop();
      await start();
      await store.canaries.record(LANE, { at: EPOCH.epochEnd - 1, ok: false, ttftMs: 0 });
      expect(await asked()).to.deep.equal(first);
      const next = { epochStart: EPOCH.epochEnd, epochEnd: EPOCH.epochEnd + 10 };
      expect(await store.canaries.samples(LANE, next)).to.have.length(2);
    });
  });

  describe("/v1/measurements of a short epoch", () => {
    it("states the latest 20 samples of the longest epoch that ends with it", async () => {
      for (let i = 0; i < 25; i++) {
        await store.canaries.record(LANE, { at: EPOCH.epochEnd - 1_000 + i, ok: i >= 15, ttftMs: 50 });
      }
      const short = { epochStart: EPOCH.epochEnd - 1, epochEnd: EPOCH.epochEnd };
      const { measurement } = await requestMeasurement(attestor.url, LANE, short, 10_000);
      expect(measurement).to.deep.equal({ ...LANE, ...short, availabilityBps: 5_000, p95TtftMs: 50, samples: 20 });
    });
  });

  describe("/v1/attestations", () => {
    it("signs the digest of an honest batch", async () => {
      const request = requestOf(parts());
      const { signer, signature } = await signatureFor(request);
      expect(signer).to.equal(SELF);
      expect(recoverSigner(batchDigest(DOMAIN, request.header), signature)).to.equal(SELF);
    });

    it("tells who counts what became of each batch, and why", async () => {
      await signatureFor(requestOf(parts()));
      const { refusals } = await refusalOf(requestOf({ ...parts(), header: { evidenceHash: id("other") } }));
      expect(judged).to.deep.equal([[], refusals]);
    });

    describe("when the committee has changed", () => {
      const others = [id("newcomer one"), id("newcomer two")];
      const present = { ...COMMITTEE, ...evenly([SELF, ...others.map((key) => computeAddress(key))]), threshold: 3 };
      const rotate = (committees: Partial<Committees>) =>
        chain.committeesAt.set(COMMITTEE.address, { present, former: null, announced: null, ...committees });
      const measuredBy = (...keys: string[]) =>
        requestOf({ ...parts(), measurements: keys.map((key) => signMeasurement(key)) });

      it("signs what either committee's members measured, by that committee's threshold", async () => {
        rotate({ former: COMMITTEE });
        await signatureFor(measuredBy(...KEYS.attestors.slice(0, 2)));
        const { refusals } = await refusalOf(measuredBy(KEYS.attestors[0], others[0]));
        expect(refusals).to.deep.equal(["Members with a weight of 2 measured; 3 is the least"]);
      });

      it("signs nothing that members of both measured", async () => {
        rotate({ former: COMMITTEE });
        const { refusals } = await refusalOf(measuredBy(KEYS.attestors[0], KEYS.attestors[1], ...others));
        expect(refusals).to.deep.equal([`A measurement is signed by ${COMMITTEE.members[1]}, who isn't a member`]);
      });

      it("signs by the new one alone once the former's window is over", async () => {
        rotate({});
        const { refusals } = await refusalOf(measuredBy(...KEYS.attestors));
        expect(refusals[0]).to.contain(`signed by ${COMMITTEE.members[1]}, who isn't a member`);
        await signatureFor(measuredBy(KEYS.attestors[0], ...others));
      });

      it("signs nothing as a member of the next one only", async () => {
        rotate({ present: { ...COMMITTEE, members: COMMITTEE.members.slice(1) }, announced: present });
        const { refusals } = await refusalOf(measuredBy(...KEYS.attestors));
        expect(refusals).to.deep.equal([`${SELF} isn't a member of the committee in force, nor of the one before`]);
        expect(await store.attested.at(LANE, 1n)).to.equal(null);
      });
    });

    it("doesn't mind the order of the receipts", async () => {
      const request = requestOf(parts());
      await signatureFor({ ...request, receipts: [...request.receipts].reverse() });
    });

    const post = async (proposed: string, body: string | ReadableStream) => {
      const response = await fetch(`${attestor.url}/v1/attestations`, {
        method: "POST",
        headers: { "content-type": "application/json", [PROPOSAL_HEADER]: proposed },
        body,
        duplex: "half",
      } as RequestInit);
      return { status: response.status, said: await response.text() };
    };
    const bodyOf = (request: AttestationRequest) => JSON.stringify(evidenceToJson(request));

    it("answers 400 to what isn't a request", async () => {
      const request = requestOf(parts());
      const malformed = JSON.stringify({ ...evidenceToJson(request), receipts: "AAAA" });
      const { status, said } = await post(proposedBatchToText(request), malformed);
      expect({ status, said: JSON.parse(said).error }).to.deep.equal({
        status: 400,
        said: "receipts must be base64 of 48 bytes for each, a license's id, a number and a hash, not of 3 bytes",
      });
    });

    describe("what it reads", () => {
      /** Bytes that a settler begins to send and never ends. */
      const endless = () => new ReadableStream({ start: (body) => body.enqueue(Buffer.from("{")) });
      const begin = (proposed: string, headers: string) => {
        const { port } = new URL(attestor.url);
        const socket = connect(Number(port), "127.0.0.1");
        socket.write(
          `POST /v1/attestations HTTP/1.1\r\nHost: x\r\n${PROPOSAL_HEADER}: ${proposed}\r\n` +
            `Content-Type: application/json\r\n${headers}\r\n\r\n{`,
        );
        return socket;
      };
      const answerTo = async (proposed: string, headers: string) => {
        const socket = begin(proposed, headers);
        const [answer] = await once(socket, "data");
        socket.destroy();
        return String(answer);
      };

      it("is nothing of a batch that isn't proposed by its operator", async () => {
        const stranger = requestOf({ ...parts(), proposalKey: KEYS.outsider });
        const answer = await answerTo(proposedBatchToText(stranger), "Content-Length: 200000000");
        expect(answer)
          .to.match(/^HTTP\/1.1 422 /)
          .and.to.contain(`signed by ${OUTSIDER}, not a key of operator 2`);
      });

      it("is nothing of a batch under another committee's plan, or none", async () => {
        const proposed = proposedBatchToText(requestOf(parts()));
        chain.plans.set(LANE.planId, { ...chain.plans.get(LANE.planId)!, attestor: OUTSIDER });
        expect(await answerTo(proposed, "Content-Length: 200000000"))
          .to.match(/^HTTP\/1.1 422 /)
          .and.to.contain(`Plan 3 names the attestor ${OUTSIDER}, not our committee`);
        chain.plans.delete(LANE.planId);
        expect(await answerTo(proposed, "Content-Length: 200000000")).to.contain("Plan 3 doesn't exist");
      });

      it("is nothing large of an operator whose stake lets nothing more be in flight", async () => {
        const proposed = proposedBatchToText(requestOf(parts()));
        chain.stakeHeadroom = 0n;
        expect(await answerTo(proposed, `Content-Length: ${2 ** 20 + 1}`))
          .to.match(/^HTTP\/1.1 402 /)
          .and.to.contain("Operator 2's stake lets nothing more be in flight");
        await signatureFor(requestOf(parts()));
        chain.stakeHeadroom = 1n;
        const socket = begin(proposed, `Content-Length: ${2 ** 20 + 1}`);
        const answer = await Promise.race([once(socket, "data").then(String), wait(100, "it reads on")]);
        socket.destroy();
        expect(answer).to.equal("it reads on");
      });

      it("is nothing without a proposal", async () => {
        expect(await answerTo("", "Content-Length: 200000000")).to.match(/^HTTP\/1.1 400 /);
        expect(await answerTo("e30", "Content-Length: 200000000")).to.match(/^HTTP\/1.1 400 [^]*Batch must be/);
        expect(await answerTo("~~~", "Content-Length: 200000000")).to.match(/^HTTP\/1.1 400 [^]*base64url of JSON/);
      });

      it("is nothing of unknown length", async () => {
        const { status, said } = await post(proposedBatchToText(requestOf(parts())), endless());
        expect({ status, said }).to.deep.equal({
          status: 411,
          said: JSON.stringify({ error: "Say how long the request is, by content-length" }),
        });
      });

      it("is nothing above its limit", async () => {
        const answer = await answerTo(proposedBatchToText(requestOf(parts())), `Content-Length: ${2 ** 25 + 1}`);
        expect(answer).to.match(/^HTTP\/1.1 413 [^]*make batches smaller/);
      });

      it("is never more than its limit at once, and what was begun and given up frees its place", async () => {
        const request = requestOf(parts());
        await signatureFor(request);
        const proposed = proposedBatchToText(request);
        const hog = begin(proposed, `Content-Length: ${2 ** 25}`);
        await wait(50);
        let answer = await post(proposed, bodyOf(request));
        for (let i = 0; answer.status === 200 && i < 50; i++) answer = await post(proposed, bodyOf(request));
        expect(answer).to.include({ status: 429 }).and.to.have.property("said").that.contains("try again soon");
        hog.destroy();
        for (let i = 0; answer.status === 429 && i < 50; i++) answer = await post(proposed, bodyOf(request));
        expect(answer.status).to.equal(200);
      });
    });

    it("answers 503 and signs nothing while the chain can't be read", async () => {
      chain.isHalted = true;
      expect((await ask(requestOf(parts())).catch((error) => error)).message).to.contain("503");
      chain.isHalted = false;
      expect(await store.attested.at(LANE, 1n)).to.equal(null);
    });

    it("names every reason, and the receipts that are to blame", async () => {
      const request = requestOf({ ...withLast({ requests: 2n, ttftMs: 901 }), header: { evidenceHash: id("none") } });
      const { refusals, receipts } = await refusalOf(request);
      expect(refusals).to.have.length(3);
      expect(receipts).to.deep.equal([request.receipts[2].hash]);
    });

    it("remembers nothing of what it refuses", async () => {
      await refusalOf(requestOf({ ...parts(), header: { count: 9n } }));
      expect(await store.attested.at(LANE, 1n)).to.equal(null);
      await signatureFor(requestOf(parts()));
    });

    /** Each request is honest but for one thing, and is refused for the one reason. */
    const only = (what: string, arrange: () => Offer, reason: string) =>
      it(`refuses ${what}`, async () => {
        const request = arrange();
        const { refusals } = await refusalOf(request);
        expect(refusals).to.have.length(1);
        expect(refusals[0]).to.contain(reason);
      });

    describe("the proposal", () => {
      only(
        "one by a key that isn't the operator's, whatever else there is",
        () => requestOf({ ...parts(), header: { count: 9n }, proposalKey: KEYS.outsider }),
        `The proposal is signed by ${OUTSIDER}, not a key of operator 2 at ${EPOCH.epochEnd + 60}`,
      );
      only(
        "one by a key that has expired since",
        () => {
          chain.keys.set(PROPOSER, { operatorId: 2, addedAt: 0, expiresAt: chain.time });
          return requestOf(parts());
        },
        `The proposal is signed by ${PROPOSER}, not a key of operator 2 at ${EPOCH.epochEnd + 60}`,
      );
      only(
        "one of another batch",
        () => ({ ...requestOf(parts()), proposal: requestOf({ ...parts(), header: { sequence: 2n } }).proposal }),
        "The proposal is signed by 0x",
      );
      only("one that isn't signed", () => ({ ...requestOf(parts()), proposal: "0x" }), "The proposal isn't signed");

      it("reads nothing of a license before", async () => {
        chain.license = () => expect.fail("a license was read");
        await refusalOf(requestOf({ ...parts(), proposalKey: KEYS.outsider }));
      });
    });

    describe("the lane", () => {
      const arranged = (change: () => void) => () => {
        change();
        return requestOf(parts());
      };
      const changed = <T>(map: Map<unknown, T>, key: unknown, fields: Partial<T>) =>
        map.set(key, { ...map.get(key)!, ...fields });

      only(
        "an operator that doesn't exist",
        arranged(() => chain.operators.clear()),
        "Operator 2 doesn't exist",
      );
      only(
        "a plan that doesn't exist",
        arranged(() => chain.plans.clear()),
        "Plan 3 doesn't exist",
      );
      only(
        "a version that doesn't exist",
        arranged(() => chain.versions.clear()),
        "doesn't exist",
      );
      only(
        "other evidence than the operator's on record",
        () => requestOf({ ...parts(), header: { evidenceHash: ZeroHash } }),
        `The evidence hash is ${ZeroHash}; operator 2 has`,
      );
      only(
        "a plan that names another attestor",
        arranged(() => changed(chain.plans, 3, { attestor: OUTSIDER })),
        `Plan 3 names the attestor ${OUTSIDER}`,
      );
      only(
        "a version of another model than the plan's",
        arranged(() => changed(chain.versions, LANE.versionId, { assetId: 5 })),
        "is of asset 5, plan 3 of asset 4",
      );
      only(
        "a version that was recalled before the epoch ended",
        arranged(() => changed(chain.versions, LANE.versionId, { usableUntil: EPOCH.epochEnd - 1 })),
        `is usable until ${EPOCH.epochEnd - 1}`,
      );
      only(
        "a sequence that isn't above the lane's last",
        arranged(() => (chain.lastBatch = { sequence: 1n, epochStart: 1, epochEnd: 2 })),
        "The sequence is 1; the lane's last batch that settled has 1, so it must be higher",
      );
    });

    describe("the epoch", () => {
      const spanning = (epoch: Partial<typeof EPOCH>) => {
        const span = { ...EPOCH, ...epoch };
        const measurements = KEYS.attestors.map((key) => signMeasurement(key, span));
        return requestOf({ ...parts(), measurements, header: span });
      };

      it("refuses one that ends before it starts", async () => {
        const { refusals } = await refusalOf(spanning({ epochEnd: EPOCH.epochStart }));
        expect(refusals[0]).to.contain("isn't a span of time");
      });

      only(
        "one that is too long",
        () => spanning({ epochStart: EPOCH.epochEnd - chain.epochPeriod - 1 }),
        "The epoch has 86401 s; 86400 are the most",
      );
      only(
        "one that hasn't ended",
        () => {
          chain.time = EPOCH.epochEnd - 1;
          return requestOf(parts());
        },
        `The epoch ends at ${EPOCH.epochEnd}; it is ${EPOCH.epochEnd - 1}`,
      );
      only(
        "one whose window has closed",
        () => {
          chain.time = EPOCH.epochEnd + chain.windowPeriod + 1;
          return requestOf(parts());
        },
        `The window closed at ${EPOCH.epochEnd + 172_800}`,
      );
      only(
        "one that overlaps the lane's last",
        () => {
          chain.lastBatch = { sequence: 0n, epochStart: 1, epochEnd: EPOCH.epochStart + 1 };
          return requestOf(parts());
        },
        `before the end of the lane's last at ${EPOCH.epochStart + 1}`,
      );

      it("takes the last second of the window, and a further part of the lane's last epoch", async () => {
        chain.time = EPOCH.epochEnd + chain.windowPeriod;
        chain.lastBatch = { sequence: 0n, ...EPOCH };
        await signatureFor(requestOf(parts()));
      });
    });

    describe("the summary", () => {
      const saying = (header: RequestParts["header"], reason: string) =>
        only(
          `another ${Object.keys(header!)[0]} than the receipts make`,
          () => requestOf({ ...parts(), header }),
          reason,
        );

      saying({ count: 2n }, "The header's count is 2; the receipts make 3");
      saying({ requests: 4n }, "The header's requests is 4; the receipts make 3");
      saying({ inputTokens: 0n }, "The header's inputTokens is 0; the receipts make 90");
      saying({ cachedInputTokens: 1n }, "The header's cachedInputTokens is 1; the receipts make 30");
      saying({ outputTokens: 151n }, "The header's outputTokens is 151; the receipts make 150");
      saying({ computeMs: 1n }, "The header's computeMs is 1; the receipts make 2400");
      saying({ root: ZeroHash }, `The header's root is ${ZeroHash}`);
      saying({ entriesHash: ZeroHash }, `The header's entriesHash is ${ZeroHash}`);

      it("refuses a batch of nothing", async () => {
        const { refusals } = await refusalOf({ ...requestOf(parts()), receipts: [] });
        expect(refusals[0]).to.contain("The receipts don't make a batch");
      });
    });

    describe("the measurements", () => {
      const measuredBy =
        (...measurements: RequestParts["measurements"] & object) =>
        () =>
          requestOf({ ...parts(), measurements });
      const [ours, second, third] = KEYS.attestors;

      only(
        "one by an outsider",
        measuredBy(signMeasurement(ours), signMeasurement(second), signMeasurement(KEYS.outsider)),
        `A measurement is signed by ${OUTSIDER}, who isn't a member`,
      );
      only(
        "one that isn't signed",
        measuredBy(signMeasurement(ours), signMeasurement(second), {
          ...signMeasurement(third),
          signature: "0x" + "00".repeat(65),
        }),
        "A measurement is not signed",
      );
      only(
        "one of another epoch",
        measuredBy(signMeasurement(ours), signMeasurement(second), signMeasurement(third, { epochStart: 1 })),
        `from 1 to ${EPOCH.epochEnd}`,
      );
      only(
        "one of another lane",
        measuredBy(signMeasurement(ours), signMeasurement(second), signMeasurement(third, { planId: 9 })),
        "plan 9",
      );
      only(
        "a member's twice",
        measuredBy(signMeasurement(ours), signMeasurement(second), signMeasurement(second)),
        "A member's measurement is there twice",
      );
      only(
        "to sign where its own is missing",
        measuredBy(signMeasurement(second), signMeasurement(third)),
        `The measurement of ${SELF}, which is asked to sign, isn't there`,
      );
      only(
        "fewer than the threshold",
        measuredBy(signMeasurement(ours)),
        "Members with a weight of 1 measured; 2 is the least",
      );

      const saying = (header: RequestParts["header"], reason: string) =>
        only(`another ${Object.keys(header!)[0]} than their median`, () => requestOf({ ...parts(), header }), reason);
      saying({ availabilityBps: 10_000 }, "The header's availabilityBps is 10000; the median is 9900");
      saying({ p95TtftMs: 1 }, "The header's p95TtftMs is 1; the median is 200");
      saying({ samples: 31 }, "The header's samples is 31; the median is 30");

      it("takes as many as the threshold", async () => {
        await signatureFor(measuredBy(signMeasurement(ours), signMeasurement(second))());
      });

      it("counts the weight of those who are bonded, and not heads", async () => {
        const [first, other] = COMMITTEE.members;
        const among = (changes: Partial<Committee>) =>
          chain.committeesAt.set(COMMITTEE.address, {
            present: { ...COMMITTEE, threshold: 3, ...changes },
            former: null,
            announced: null,
          });
        const request = measuredBy(signMeasurement(ours), signMeasurement(second))();
        const weights = { ...COMMITTEE.weights, [first]: 2 };
        among({ weights, unbonded: [other] });
        expect((await refusalOf(request)).refusals).to.deep.equal([
          "Members with a weight of 2 measured; 3 is the least",
        ]);
        among({ weights });
        await signatureFor(request);
      });
    });

    describe("a receipt that came first by another of the operator's signatures", () => {
      let request: Offer;
      let leaves: Uint8Array;
      const leavesOf = (signed: Offer["signed"]) =>
        Buffer.concat(signed.map((one, i) => counted({ ...one, ...request.receipts[i] }).leaf));
      const twin = (one: Offer["signed"][number]) => ({
        ...one,
        signature: signDigest(KEYS.proposer, receiptDigest(DOMAIN, one.receipt)),
      });
      const post = (records: Buffer[]) => sendReceipts(attestor.url, records, 10_000);
      const copyOf = async () =>
        [...(await store.copies.find(LANE.operatorId, request.receipts.slice(0, 1))).values()][0];

      beforeEach(async () => {
        request = requestOf(parts());
        leaves = leavesOf(request.signed);
        expect(await post([brought(twin(request.signed[0]))])).to.deep.include({ kept: 1 });
      });

      it("is asked for once more by a batch that names the other, and signed", async () => {
        await signatureFor({ ...request, leaves });
        expect((await copyOf()).signer).to.equal(computeAddress(KEYS.operator));
      });

      it("stands in the way of a batch that doesn't name its leaves", async () => {
        expect((await refusalOf(request)).refusals.join()).to.contain("root");
      });

      it("keeps its place from whatever no batch asks for", async () => {
        expect(await post([brought(request.signed[0])])).to.deep.include({ kept: 0, known: 1 });
        expect((await copyOf()).signer).to.equal(PROPOSER);
        await signatureFor({ ...request, leaves });
        await post([brought(twin(request.signed[0]))]);
        expect((await copyOf()).signer).to.equal(computeAddress(KEYS.operator));
      });

      it("keeps its place once a batch with it was signed, whatever another batch names", async () => {
        await signatureFor({ ...request, leaves });
        await ask({ ...request, leaves: leavesOf(request.signed.map(twin)) }).catch(() => undefined);
        await post([brought(twin(request.signed[0]))]);
        expect((await copyOf()).signer).to.equal(computeAddress(KEYS.operator));
      });

      it("is refused where there are more leaves than receipts", async () => {
        const answer = await ask({ ...request, leaves: leaves.subarray(32) }).catch((error) => error);
        expect(answer.message).to.contain("there are 2 leaves, and 3 receipts");
      });
    });

    describe("a receipt's signature", () => {
      only(
        "one by a key that isn't the operator's",
        () => {
          const request = requestOf(parts());
          request.signed[2] = requestOf({ ...parts(), receiptKey: KEYS.outsider }).signed[2];
          return request;
        },
        `Receipt 1 of license 8 is signed by ${OUTSIDER}, not a key of operator 2`,
      );
      only(
        "one by the operator's key for another chain",
        () => {
          const request = requestOf(parts());
          const { receipt } = request.signed[0];
          const elsewhere = receiptDigest({ ...DOMAIN, chainId: 1n }, receipt);
          request.signed[0] = { receipt, signature: signDigest(KEYS.operator, elsewhere) };
          return request;
        },
        "Receipt 1 of license 7 is signed by 0x",
      );
      only(
        "one by a key that expired before the request ended",
        () => {
          const expiresAt = EPOCH.epochStart + 20;
          chain.keys.set(computeAddress(KEYS.operator), { operatorId: 2, addedAt: 0, expiresAt });
          return requestOf(parts());
        },
        `not a key of operator 2 at ${EPOCH.epochStart + 20}`,
      );
      only(
        "one by a key that was added after the request ended",
        () => {
          const addedAt = EPOCH.epochStart + 11;
          chain.keys.set(computeAddress(KEYS.operator), { operatorId: 2, addedAt, expiresAt: 2 ** 40 });
          return requestOf(withLast({ finishedAt: addedAt }));
        },
        `not a key of operator 2 at ${EPOCH.epochStart + 10}`,
      );
    });

    describe("a receipt", () => {
      it("refuses one of another operator, which this one can't have signed", async () => {
        const { refusals } = await refusalOf(requestOf(withLast({ operatorId: 5 })));
        const signer = computeAddress(KEYS.operator);
        expect(refusals).to.deep.equal([
          `Receipt 1 of license 8 is signed by ${signer}, not a key of operator 5 at ${EPOCH.epochStart + 10}`,
        ]);
      });
      only(
        "one under another plan",
        () => {
          chain.plans.set(5, { ...chain.plans.get(3)!, planId: 5 });
          return requestOf(withLast({ planId: 5 }));
        },
        "is under plan 5, the batch under 3",
      );
      only("one of another manifest", () => requestOf(withLast({ manifestHash: ZeroHash })), "is of the manifest 0x00");
      only(
        "one that finished before the epoch",
        () => requestOf(withLast({ finishedAt: EPOCH.epochStart - 1 })),
        `finished at ${EPOCH.epochStart - 1}, out of the epoch`,
      );
      only(
        "one that finished after the epoch",
        () => requestOf(withLast({ finishedAt: EPOCH.epochEnd })),
        `finished at ${EPOCH.epochEnd}, out of the epoch`,
      );
      only("one of two requests", () => requestOf(withLast({ requests: 2n })), "counts 2 requests");
      only(
        "one that charges for what the upstream failed at",
        () => requestOf(withLast({ flags: ReceiptFlag.upstreamError })),
        "charges for a request that its flags (2) call failed or lost",
      );
      only(
        "one that charges for what a restart lost",
        () => requestOf(withLast({ flags: ReceiptFlag.recovered | ReceiptFlag.estimated })),
        "charges for a request that its flags (12) call failed or lost",
      );
      only(
        "one that charges more than output for a stream that broke off",
        () => requestOf(withLast({ flags: ReceiptFlag.broken })),
        "charges more than output for a stream that its flags (16) call broken",
      );
      only(
        "one whose first token came after its end",
        () => requestOf(withLast({ ttftMs: 901 })),
        "has its first token after 901 ms of 900",
      );

      only(
        "one whose flags nobody knows",
        () => requestOf(withLast({ flags: 2 ** 31 + ReceiptFlag.cancelled })),
        "has flags (2147483649) that mean nothing; 63 are all",
      );

      it("takes one that failed and charges nothing", async () => {
        const free = { requests: 0n, inputTokens: 0n, cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
        await signatureFor(requestOf(withLast({ flags: ReceiptFlag.upstreamError, ...free })));
      });

      it("takes one of a stream that broke off and charges its output", async () => {
        const output = { requests: 0n, inputTokens: 0n, cachedInputTokens: 0n, computeMs: 0n };
        await signatureFor(requestOf(withLast({ flags: ReceiptFlag.broken, ...output })));
      });
    });

    describe("what a receipt says of speed", () => {
      const second = { durationMs: 1_000, ttftMs: 100 };
      const believing = (limits: Partial<Plausible>, fields: Partial<Receipt>) => () => {
        plausible = { ...PLAUSIBLE, ...limits };
        return requestOf(withLast({ ...second, ...fields }));
      };

      only(
        "more output than the operator's hardware writes in its time",
        believing({ outputTokensPerSecond: 200 }, { outputTokens: 401n }),
        "Receipt 1 of license 8 has 401 output tokens in 1000 ms; 200 a second are plausible",
      );
      only(
        "more input than it reads",
        believing({ inputTokensPerSecond: 1_000 }, { inputTokens: 2_001n }),
        "Receipt 1 of license 8 has 2001 input tokens in 1000 ms; 1000 a second are plausible",
      );
      only(
        "more compute than its GPUs have in that time",
        believing({ gpus: 8 }, { computeMs: 16_001n }),
        "Receipt 1 of license 8 has 16001 ms of compute in 1000 ms; 8 GPUs at once are plausible",
      );
      only(
        "what no hardware writes, where the operator's isn't known",
        () => requestOf(withLast({ ...second, outputTokens: 40_001n })),
        "20000 a second are plausible",
      );

      it("takes as much as is plausible, and a second's work more for the clocks", async () => {
        const limits = { outputTokensPerSecond: 200, inputTokensPerSecond: 1_000, gpus: 8 };
        const fields = { outputTokens: 400n, inputTokens: 2_000n, computeMs: 16_000n };
        await signatureFor(believing(limits, fields)());
      });

      describe("of several requests at once", () => {
        const grant = signGrant();
        /** Three requests of ten seconds that end a second apart: all of them ran during eight seconds. */
        const overlapping = (slots: number, durationMs = 10_000) => {
          plausible = { ...PLAUSIBLE, slots };
          const ends = [1n, 2n, 3n].map((sequence) =>
            receiptUnder(grant, sequence, { finishedAt: EPOCH.epochStart + 100 + Number(sequence), durationMs }),
          );
          return requestOf({ grants: [grant], receipts: chained(ends) });
        };

        only(
          "more than the operator has slots",
          () => overlapping(2),
          `The receipts have over 2 requests run at once, at ${EPOCH.epochStart + 94}; 2 slots are plausible`,
        );

        it("takes as many as it has slots", async () => {
          await signatureFor(overlapping(3));
        });

        it("doesn't count two that may have come one after the other within a second", async () => {
          await signatureFor(overlapping(1, 2_000));
        });
      });
    });

    describe("the receipt of a canary of the attestor's own", () => {
      const got = (fields: Partial<CanaryAnswer> = {}) => {
        const { requestHash, responseHash } = requestOf(parts()).signed[2].receipt;
        const known = { ...LANE, requestHash, responseHash, at: EPOCH.epochStart + 10 };
        return store.canaries.recordAnswer({
          ...known,
          mostInput: 40,
          mostOutput: 50,
          isCounted: true,
          difference: null,
          ...fields,
        });
      };
      /** Only its third receipt is of the canary. */
      const batch = (fields: Partial<Receipt> = {}) =>
        requestOf(
          parts(([one, two, other]) => [
            { ...one, requestHash: id("one") },
            { ...two, requestHash: id("two") },
            { ...other, ...fields },
          ]),
        );
      const refused = async (request: Offer, reason: string) =>
        expect((await refusalOf(request)).refusals).to.deep.equal([`Receipt 1 of license 8 ${reason}`]);

      it("is taken with as many tokens as the attestor counted", async () => {
        await got();
        await signatureFor(batch());
      });

      it("is refused with more output, or more input, than it counted", async () => {
        await got({ mostOutput: 49 });
        await refused(batch(), "has 50 output tokens; 49 are the most, by the attestor's own count");
        await got({ mostInput: 39, responseHash: id("other answer") });
        const more = batch({ responseHash: id("other answer") });
        await refused(more, "has 40 input tokens; 39 are the most, by the attestor's own count");
      });

      it("is refused with more than there can be at all, where nobody counted", async () => {
        await got({ mostOutput: 49, isCounted: false });
        await refused(batch(), "has 50 output tokens; 49 are the most, as it can be at all");
      });

      it("is refused where it is of another answer than came", async () => {
        await got({ responseHash: id("what came") });
        await refused(batch(), "says another answer than the attestor got");
      });

      it("is refused where the attestor's own copy of the model answers otherwise, though that is what came", async () => {
        await got({
          difference: "is answered otherwise by the attestor's own copy of the model: class 3, and there 5",
        });
        await refused(batch(), "is answered otherwise by the attestor's own copy of the model: class 3, and there 5");
      });

      it("is any of those that came to the same question", async () => {
        await got({ responseHash: id("what came") });
        await got();
        await signatureFor(batch());
      });

      it("isn't another operator's, nor of hours before or after", async () => {
        await got({ operatorId: 9, mostOutput: 1 });
        await got({ at: EPOCH.epochStart - 3_601, mostOutput: 1 });
        await got({ at: EPOCH.epochEnd + 3_600, mostOutput: 1 });
        await signatureFor(batch());
      });

      it("reaches the tier of recounting, if it was counted, and was right", async () => {
        chain.plans.set(LANE.planId, { ...chain.plans.get(LANE.planId)!, minEvidenceTier: 1 });
        expect((await refusalOf(batch())).refusals[0]).to.contain("plan 3 demands tier 1");
        await got({ isCounted: false });
        expect((await refusalOf(batch())).refusals[0]).to.contain("plan 3 demands tier 1");
        await got();
        expect(await ask(batch({ outputTokens: 51n })))
          .to.have.property("refusals")
          .that.has.length(4);
      });

      it("reaches it for the whole batch", async () => {
        chain.plans.set(LANE.planId, { ...chain.plans.get(LANE.planId)!, minEvidenceTier: 1 });
        await got();
        await signatureFor(batch());
      });

      it("reaches it for a part of the epoch that has no canary's receipt, and not for other lanes or epochs", async () => {
        chain.plans.set(LANE.planId, { ...chain.plans.get(LANE.planId)!, minEvidenceTier: 1 });
        const elsewhere = { requestHash: id("in another part") };
        await got({ ...elsewhere, versionId: LANE.versionId + 1n });
        await got({ ...elsewhere, planId: LANE.planId + 1 });
        await got({ ...elsewhere, at: EPOCH.epochEnd + 3_600 });
        expect((await refusalOf(batch())).refusals[0]).to.contain("plan 3 demands tier 1");
        await got(elsewhere);
        await signatureFor(batch());
      });
    });

    describe("a receipt's time", () => {
      only(
        "one that goes back behind the receipt before it",
        () => {
          const request = parts(([one, two, other]) => [one, { ...two, finishedAt: one.finishedAt - 1 }, other]);
          return requestOf(request);
        },
        `Receipt 2 of license 7 finished at ${EPOCH.epochStart + 9}, earlier than the one before it, at ${EPOCH.epochStart + 10}`,
      );

      const arriving = async (arrivedAt: number) => {
        const request = requestOf(parts());
        const receipts = request.signed.map(({ receipt, signature }, i) => ({
          ...counted({ receipt, signature, hash: request.receipts[i].hash }),
          receipt,
          hash: request.receipts[i].hash,
          signer: computeAddress(KEYS.operator),
          arrivedAt: i === 2 ? arrivedAt : receipt.finishedAt,
        }));
        const facts = await gatherFacts(chain, { ...request, receipts });
        return (await refusalsOf(facts, await recall(store, facts), COMMITTEE, SELF)).map(({ reason }) => reason);
      };
      const finishedAt = EPOCH.epochStart + 10;

      it("refuses one that arrived over two minutes before it says that it was written", async () => {
        expect(await arriving(finishedAt - 121)).to.deep.equal([
          `Receipt 1 of license 8 finished at ${finishedAt}, and arrived at ${finishedAt - 121}: its clock is over 120 s ahead`,
        ]);
      });

      it("takes one of a clock that is two minutes ahead, and one that came late", async () => {
        expect(await arriving(finishedAt - 120)).to.deep.equal([]);
        expect(await arriving(finishedAt + 9_999)).to.deep.equal([]);
      });
    });

    describe("a receipt's license", () => {
      const withLicense = (fields: object) => () => {
        chain.licenses.set(8n, { ...chain.licenses.get(8n)!, ...fields });
        return requestOf(parts());
      };

      it("refuses one that doesn't exist", async () => {
        chain.licenses.delete(8n);
        const { refusals } = await refusalOf(requestOf(parts()));
        expect(refusals[0]).to.contain("Receipt 1 of license 8 is of a license that doesn't exist");
      });

      only("one under another plan", withLicense({ planId: 9 }), "is of a license under plan 9, the batch under 3");
      only(
        "one that finished before its license came under the batch's plan",
        withLicense({ formerPlan: { planId: 9, endedAt: EPOCH.epochEnd } }),
        `when its license was under plan 9, until ${EPOCH.epochEnd}`,
      );
      it("takes one under the plan of its license's term before", async () => {
        const formerPlan = { planId: 3, endedAt: EPOCH.epochEnd };
        expect(await ask(withLicense({ planId: 9, formerPlan })())).to.have.property("signature");
      });
      only("one of another operator", withLicense({ operatorId: 9 }), "is of a license of operator 9, the batch of 2");
      only(
        "a generation that ended an hour before the epoch",
        () => {
          chain.generations.set(8n, [{ at: EPOCH.epochStart - 3_600, generation: 2 }]);
          return withLicense({ generation: 2 })();
        },
        "is of generation 1; the license's was 2 to 2 from an hour before the epoch on",
      );
      only(
        "a generation that doesn't exist yet",
        () => {
          const grant = signGrant({ licenseId: 8n, generation: 2 });
          return requestOf({ grants: [grant], receipts: chained([receiptUnder(grant, 1n)]) });
        },
        "is of generation 2; the license's was 1 to 1",
      );

      it("takes a generation that ended just before the epoch, when what is in it was running", async () => {
        chain.generations.get(8n)!.push({ at: EPOCH.epochStart - 3_599, generation: 2 });
        await signatureFor(withLicense({ generation: 2 })());
      });

      it("takes a generation that ended within the epoch", async () => {
        chain.generations.get(8n)!.push({ at: EPOCH.epochStart + 1, generation: 2 });
        await signatureFor(withLicense({ generation: 2 })());
      });
    });

    describe("a batch of many licenses and grants", () => {
      it("reads many of them from the chain at once, but not all", async () => {
        const running = { licenses: 0, grants: 0 };
        const most = { licenses: 0, grants: 0 };
        const counted = async <T>(what: keyof typeof most, read: () => Promise<T>): Promise<T> => {
          most[what] = Math.max(most[what], ++running[what]);
          await wait(5);
          return read().finally(() => running[what]--);
        };
        const [license, isSignatureOf] = [chain.license.bind(chain), chain.isSignatureOf.bind(chain)];
        chain.license = (licenseId) => counted("licenses", () => license(licenseId));
        chain.isSignatureOf = (...signed) => counted("grants", () => isSignatureOf(...signed));

        const grants = Array.from({ length: 100 }, (_, i) => signGrant({ licenseId: BigInt(1_000 + i) }));
        for (const { grant } of grants) {
          chain.licenses.set(grant.licenseId, { ...chain.licenses.get(7n)!, licenseId: grant.licenseId });
          chain.generations.set(grant.licenseId, [{ at: 1, generation: 1 }]);
        }
        await signatureFor(requestOf({ grants, receipts: grants.map((grant) => receiptUnder(grant, 1n)) }));
        expect(most).to.deep.equal({ licenses: 32, grants: 32 });
      });
    });

    it("refuses what its looks at disclosed requests speak against, and has each new copy looked at", async () => {
      audited = ["Of 10 disclosed requests that were looked at, 9 aren't as their receipts say"];
      const request = requestOf(parts());
      expect((await refusalOf(request)).refusals).to.deep.equal(audited);
      expect(noted).to.have.length(request.receipts.length);
      audited = [];
      await signatureFor(request);
      expect(noted).to.have.length(request.receipts.length);
    });

    describe("a receipt's grant", () => {
      const under = (fields: Parameters<typeof signGrant>[0], key?: string, receipt?: Partial<Receipt>) => () => {
        const grant = signGrant({ licenseId: 8n, ...fields }, key);
        return requestOf({ grants: [grant], receipts: chained([receiptUnder(grant, 1n, receipt)]) });
      };

      only(
        "one that wasn't sent",
        () => {
          const { grants, receipts } = parts();
          return requestOf({ grants: grants.slice(0, 1), receipts });
        },
        "Receipt 1 of license 8 came under the grant 0x",
      );
      only("one by another than the owner", under({}, KEYS.outsider), "that the license's owner didn't sign");
      only(
        "one of another license",
        () => {
          const { grants, receipts } = parts();
          const [one, two, other] = receipts;
          return requestOf({ grants, receipts: [one, two, { ...other, grantHash: one.grantHash }] });
        },
        "Receipt 1 of license 8 came under a grant of license 7",
      );
      only(
        "one of another generation",
        () => {
          chain.licenses.set(8n, { ...chain.licenses.get(8n)!, generation: 2 });
          return under({}, undefined, { generation: 2 })();
        },
        "says generation 2, its grant 1",
      );
      only("one that wasn't valid yet", under({ notBefore: EPOCH.epochStart + 11 }), "its grant runs from 100011");
      only("one that had expired", under({ expiresAt: EPOCH.epochStart + 9 }), "its grant runs from 90000 to 100009");
      only("one whose requests must be signed", under({ key: OUTSIDER }), `its grant wants one of ${OUTSIDER}`);

      describe("of a license whose owner demands signed requests", () => {
        const demanded = (signedSince: number) => () => {
          chain.licenses.set(8n, { ...chain.licenses.get(8n)!, signedSince });
          return under({})();
        };
        only(
          "one without a key, in an epoch that starts when that begins",
          demanded(EPOCH.epochStart),
          "came under a grant without a key; its license's owner demands that requests are signed",
        );

        it("takes one without a key in an epoch that started before", async () => {
          await signatureFor(demanded(EPOCH.epochStart + 1)());
        });

        it("takes one with a key", async () => {
          chain.licenses.set(7n, { ...chain.licenses.get(7n)!, signedSince: 1 });
          const keyed = signGrant({ key: OUTSIDER });
          const receipt = requestSignedBy(receiptUnder(keyed, 1n), KEYS.outsider);
          await signatureFor(requestOf({ grants: [keyed], receipts: [receipt] }));
        });
      });

      describe("with a key", () => {
        const keyed = signGrant({ key: OUTSIDER });
        const OUTSIDER_KEY = KEYS.outsider;
        const served = (sequence: bigint, fields: Partial<Receipt> = {}, at?: number) =>
          requestSignedBy(receiptUnder(keyed, sequence, fields), OUTSIDER_KEY, at);
        const of = (...receipts: Receipt[]) => requestOf({ grants: [keyed], receipts: chained(receipts) });

        it("takes receipts whose requests it signed, and bearer grants' beside them", async () => {
          const bearer = signGrant({ licenseId: 8n });
          const receipts = [...chained([served(1n), served(2n)]), receiptUnder(bearer, 1n)];
          await signatureFor(requestOf({ grants: [keyed, bearer], receipts }));
        });

        only(
          "one whose request's signature didn't come along",
          () => of(receiptUnder(keyed, 1n, { requestSignatureHash: id("lost") })),
          `says ${id("lost")} of its request's signature; none came with it`,
        );
        only(
          "one whose request another signed",
          () => of(requestSignedBy(receiptUnder(keyed, 1n), KEYS.owner)),
          `its grant wants the signature of ${OUTSIDER}`,
        );
        only(
          "one whose signature is for other bytes than it says",
          () => of({ ...served(1n), requestHash: id("more tokens") }),
          `its grant wants the signature of ${OUTSIDER}`,
        );
        only(
          "one whose signature is under another grant",
          () => {
            const other = receiptUnder(signGrant({ key: OUTSIDER, cap: 5n }), 1n);
            const { requestSignatureHash } = requestSignedBy(other, OUTSIDER_KEY);
            return of({ ...receiptUnder(keyed, 1n), requestSignatureHash });
          },
          `its grant wants the signature of ${OUTSIDER}`,
        );
        only(
          "one with the signature of another request in the batch",
          () => {
            const { requestSignatureHash } = served(1n);
            return of(served(1n), receiptUnder(keyed, 2n, { requestSignatureHash }));
          },
          "Receipt 2 of license 7 has its request's signature from receipt 0x",
        );
        only(
          "one that was signed after it was served",
          () => of(served(1n, {}, EPOCH.epochStart + 11)),
          "finished at 100010, before its request was signed, at 100011",
        );
        only(
          "one that was signed long before it was served",
          () => of(served(1n, { durationMs: 2_000 }, EPOCH.epochStart + 10 - 2 - 3_601)),
          "was signed at 96407, over 3600 s before it was served, up to 100010",
        );

        it("takes one that waited for its model, or none", async () => {
          const waited = served(1n, { durationMs: 2_000 }, EPOCH.epochStart + 10 - 2 - 3_600);
          await signatureFor(of(waited, served(2n, {}, EPOCH.epochStart + 20)));
        });

        it("takes one that costs nothing, and was closed long after", async () => {
          const meters = { requests: 0n, inputTokens: 0n, cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
          const flags = ReceiptFlag.recovered;
          await signatureFor(of(served(1n, { ...meters, flags, durationMs: 0, ttftMs: 0 }, EPOCH.epochStart - 9_000)));
        });

        it("refuses one with the signature of a request that was in an earlier batch", async () => {
          const first = served(1n);
          await signatureFor(of(first));
          chain.lastBatch = { sequence: 1n, ...EPOCH };
          const again = receiptUnder(keyed, 2n, { requestSignatureHash: first.requestSignatureHash });
          const { refusals } = await refusalOf(
            requestOf({ grants: [keyed], receipts: chained([first, again]).slice(1), header: { sequence: 2n } }),
          );
          expect(refusals).to.have.length(1);
          expect(refusals[0]).to.contain(`from receipt ${receiptDigest(DOMAIN, chained([first])[0])}`);
        });

        it("doesn't let another operator use a signature up", async () => {
          const receipt = served(1n);
          const strange = { receipt: { ...receipt, operatorId: 9 }, signature: "0x" };
          const hash = receiptDigest(DOMAIN, strange.receipt);
          strange.signature = signDigest(KEYS.operator, hash);
          const [record] = [brought(strange)];
          const { requestSignature } = splitRecord(record);
          const copy = { operatorId: 9, finishedAt: receipt.finishedAt, arrivedAt: 1, signer: PROPOSER };
          await store.copies.keep([
            {
              ...copy,
              hash: getBytes(hash),
              record: record.subarray(0, 351),
              leaf: getBytes(id("a leaf")),
              requestSignature: requestSignature!,
            },
          ]);
          await signatureFor(of(receipt));
        });
      });

      describe("with a cap", () => {
        const capped = (cap: bigint) => {
          const grant = signGrant({ cap });
          return { grants: [grant], receipts: chained([receiptUnder(grant, 1n), receiptUnder(grant, 2n)]) };
        };

        it("takes what reaches it", async () => {
          await signatureFor(requestOf(capped(202n)));
        });

        only("what exceeds it", () => requestOf(capped(201n)), "Receipt 2 of license 7 costs 101; its grant has 100");

        it("counts what it attested before", async () => {
          const { grants, receipts } = capped(201n);
          await signatureFor(requestOf({ grants, receipts: receipts.slice(0, 1) }));
          chain.lastBatch = { sequence: 1n, ...EPOCH };
          const { refusals } = await refusalOf(
            requestOf({ grants, receipts: receipts.slice(1), header: { sequence: 2n } }),
          );
          expect(refusals).to.have.length(1);
          expect(refusals[0]).to.contain("costs 101; its grant has 100 of its cap of 201 left");
        });
      });
    });

    describe("the chain of receipts", () => {
      const grant = signGrant();
      const [one, two, three] = chained([1n, 2n, 3n].map((sequence) => receiptUnder(grant, sequence)));
      const batch = (receipts: Receipt[], sequence = 1n) =>
        requestOf({ grants: [grant], receipts, header: { sequence } });
      const attested = async (...receipts: Receipt[]) => {
        await signatureFor(batch(receipts));
        chain.lastBatch = { sequence: 1n, ...EPOCH };
      };
      const onlyAfter = (what: string, before: Receipt[], then: () => Offer, reason: string) =>
        it(`refuses ${what}`, async () => {
          await attested(...before);
          const { refusals } = await refusalOf(then());
          expect(refusals.filter((refusal) => !refusal.includes(reason))).to.deep.equal([]);
          expect(refusals).to.have.length(1);
        });

      it("refuses the same receipt twice", async () => {
        const { refusals } = await refusalOf(batch([one, one]));
        expect(refusals.join()).to.contain("has the number of another receipt in the batch");
      });

      only(
        "a number twice",
        () => batch([one, { ...one, requestId: id("another") }]),
        "Receipt 1 of license 7 has the number of another receipt in the batch",
      );
      only(
        "a request twice",
        () => batch(chained([one, { ...two, requestId: one.requestId }])),
        `Receipt 2 of license 7 is of request ${one.requestId}, as another receipt in the batch`,
      );
      only(
        "a first receipt that follows another",
        () => batch([{ ...one, previousHash: id("before") }]),
        `follows ${id("before")}; the receipt before it is ${ZeroHash}`,
      );
      only(
        "a receipt that follows another than the one before it",
        () => batch([one, { ...two, previousHash: ZeroHash }]),
        `Receipt 2 of license 7 says that it follows ${ZeroHash}`,
      );
      onlyAfter(
        "a receipt that follows another than the one attested before it",
        [one],
        () => batch([{ ...two, previousHash: ZeroHash }], 2n),
        `Receipt 2 of license 7 says that it follows ${ZeroHash}`,
      );
      onlyAfter(
        "a receipt that isn't the one that the attested one after it follows",
        [two],
        () => batch([{ ...one, outputTokens: 1n }], 2n),
        `the receipt after it follows ${two.previousHash}`,
      );
      onlyAfter(
        "a receipt of a time before that of the one attested before it",
        [one],
        () => batch([{ ...two, finishedAt: one.finishedAt - 1 }], 2n),
        `Receipt 2 of license 7 finished at ${one.finishedAt - 1}, earlier than the one before it, at ${one.finishedAt}`,
      );
      it("refuses a receipt of a time after that of the attested one after it", async () => {
        const [first, next] = chained([{ ...one, finishedAt: EPOCH.epochStart + 500 }, two]);
        await attested(next);
        const { refusals } = await refusalOf(batch([first], 2n));
        expect(refusals).to.deep.equal([
          `Receipt 1 of license 7 finished at ${first.finishedAt}, later than the one after it, at ${next.finishedAt}`,
        ]);
      });
      onlyAfter(
        "a number that was in another batch",
        [one],
        () => batch([{ ...one, requestId: id("another") }], 2n),
        `has its number from batch 0x`,
      );
      onlyAfter(
        "a request that was in another batch",
        [one],
        () => batch([{ ...three, requestId: one.requestId }], 2n),
        `is of request ${one.requestId}, which was in batch 0x`,
      );

      it("takes a receipt whose neighbours it hasn't seen", async () => {
        await signatureFor(batch([three]));
      });

      it("takes the missing receipt between two that it attested", async () => {
        await attested(one, three);
        await signatureFor(batch([two], 2n));
      });
    });

    describe("equivocation", () => {
      const another = () => requestOf(withLast({ outputTokens: 51n, requestId: id("another") }));

      it("signs the same digest again", async () => {
        const request = requestOf(parts());
        expect(await signatureFor(request)).to.deep.equal(await signatureFor(request));
      });

      it("never signs another digest for the same sequence, although the first never settled", async () => {
        await signatureFor(requestOf(parts()));
        expect((await refusalOf(another())).refusals[0]).to.contain("is equivocation");
      });

      it("never signs two for one sequence where two processes share its store, whichever is asked", async () => {
        const other = new Store(place.isShared ? await place.open() : database);
        const config = { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address };
        const beside = await startAttestor(config, { chain, store: other, log: createLog("error", () => {}) });
        const answers = await Promise.all([ask(requestOf(parts())), offer(beside.url, another())]);
        const refused = answers.flatMap((answer) => ("refusals" in answer ? [answer.refusals] : []));
        expect(refused).to.have.length(1);
        // There are more reasons where the other was signed for before this one was looked at.
        expect(refused[0].some((reason) => /sequence 1 .*signed/i.test(reason))).to.equal(true, refused[0].join("\n"));
        // And each says the same again.
        const again = await Promise.all([offer(beside.url, requestOf(parts())), ask(another())]);
        expect(again.map((answer) => "refusals" in answer)).to.deep.equal(
          answers.map((answer) => "refusals" in answer),
        );
        await beside.close();
        if (place.isShared) await other.close();
      });

      only(
        "a sequence far above the lane's last",
        () => requestOf({ ...parts(), header: { sequence: 2n ** 32n + 1n } }),
        "more than 4294967296 above the lane's last",
      );

      it("signs for a sequence as far above the lane's last as a lifetime of refused drafts leaves it", async () => {
        await signatureFor(requestOf({ ...parts(), header: { sequence: 2n ** 32n } }));
      });

      it("signs for no later sequence while the batch that it signed may still settle", async () => {
        await signatureFor(requestOf(parts()));
        const later = requestOf({
          ...withLast({ outputTokens: 51n, requestId: id("another") }),
          header: { sequence: 2n },
        });
        const { refusals } = await refusalOf(later);
        expect(refusals[0]).to.contain("was signed for sequence 1 and may still settle; 2 has to wait for it");
      });

      it("holds that against no receipt that is in both", async () => {
        await signatureFor(requestOf(parts()));
        const { refusals, receipts } = await refusalOf(requestOf({ ...parts(), header: { sequence: 2n } }));
        expect(refusals).to.have.length(1);
        expect(receipts).to.deep.equal([]);
      });

      it("goes on with a later sequence once the window of a batch that never settled is over", async () => {
        await signatureFor(requestOf(parts()));
        const { epochStart, epochEnd } = EPOCH;
        const shift = chain.windowPeriod + 1;
        chain.time += shift;
        const epoch = { epochStart: epochStart + shift, epochEnd: epochEnd + shift };
        expect(await store.attested.since(LANE, 0n, chain.time - chain.windowPeriod)).to.deep.equal([]);
        const { refusals } = await refusalOf(requestOf({ ...parts(), header: { ...epoch, sequence: 2n } }));
        expect(refusals.filter((reason) => reason.includes("may still settle"))).to.deep.equal([]);
      });

      it("remembers what it signed across a restart", async () => {
        const request = requestOf(parts());
        await signatureFor(request);
        await stop();
        await start();
        expect((await refusalOf(another())).refusals[0]).to.contain("is equivocation");
        await signatureFor(request);
      });

      it("signs one of two digests that it is asked for at the same time", async () => {
        const answers = await Promise.all([ask(requestOf(parts())), ask(another())]);
        expect(answers.filter((answer) => "signature" in answer)).to.have.length(1);
        expect(answers.filter((answer) => "refusals" in answer)).to.have.length(1);
      });

      it("remembers the batch and its receipts before the signature goes out", async () => {
        const request = requestOf(parts());
        const remember = store.attested.record.bind(store);
        store.attested.record = () => {
          throw new Error("disk full");
        };
        expect((await ask(request).catch((error) => error)).message).to.contain("503");
        store.attested.record = remember;
        await signatureFor(request);
        const { receipt } = request.signed[0];
        expect((await store.attested.seenSpans(spansOf([receipt])))[0].previousHash).to.equal(receipt.previousHash);
      });
    });
  });
});
