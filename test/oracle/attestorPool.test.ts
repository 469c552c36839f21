import { expect } from "chai";
import { AbiCoder, computeAddress, id, keccak256 } from "ethers";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { AttestorPool, type AttestorsConfig, committeeProof } from "../../oracle/settler/attestorPool";
import { medianOf } from "../../oracle/attestor/measure";
import { createLog } from "../../oracle/log";
import { batchDigest, signDigest, signedMeasurementToJson } from "../../oracle/protocol/messages";
import { encodeReceipt } from "../../oracle/protocol/receiptBytes";
import { DOMAIN } from "../support/fakeMessages";
import {
  chained,
  COMMITTEE,
  EPOCH,
  KEYS,
  LANE,
  receiptUnder,
  requestOf,
  signGrant,
  signMeasurement,
} from "../support/stubMarket";

describe("attestorPool", () => {
  const [ours, theirs] = KEYS.attestors;
  const grant = signGrant();
  const request = requestOf({ grants: [grant], receipts: chained([receiptUnder(grant, 1n)]) });
  const batchId = batchDigest(DOMAIN, request.header);
  const recordsOf = async (hashes: string[]) =>
    hashes.map((hash) => encodeReceipt(request.signed[request.receipts.findIndex((named) => named.hash === hash)]));
  let server: Server;
  let pool: AttestorPool;
  let answer: { status: number; body: unknown };
  let lines: string[];

  /** A committee of three whose first member is all that answers, with whatever the test says. */
  beforeEach(async () => {
    lines = [];
    server = createServer((_request, response) => {
      response.writeHead(answer.status, { "content-type": "application/json" }).end(JSON.stringify(answer.body));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const attestors = COMMITTEE.members.map((address, i) => ({ address, url: i === 0 ? url : "http://127.0.0.1:1" }));
    const log = createLog("debug", (line) => lines.push(line));
    pool = new AttestorPool(DOMAIN, { attestors, attestorTimeoutMs: 2_000 }, log);
  });

  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  describe("measure", () => {
    const measuring = async (signed: ReturnType<typeof signMeasurement>) => {
      answer = { status: 200, body: signedMeasurementToJson(signed) };
      return pool.measure(LANE, EPOCH, COMMITTEE);
    };

    it("gives what the members measured, without those who don't answer", async () => {
      expect(await measuring(signMeasurement(ours))).to.deep.equal([signMeasurement(ours)]);
      expect(lines.filter((line) => line.includes("didn't answer"))).to.have.length(2);
    });

    it("leaves out a measurement that another signed", async () => {
      expect(await measuring(signMeasurement(theirs))).to.deep.equal([]);
      expect(lines.join()).to.contain(`by ${computeAddress(theirs)}, not by ${computeAddress(ours)}`);
    });

    it("leaves out a measurement of another lane or epoch", async () => {
      expect(await measuring(signMeasurement(ours, { planId: 9, epochEnd: 1 }))).to.deep.equal([]);
      expect(lines.join()).to.contain("another planId, epochEnd");
    });

    it("leaves out what isn't a measurement", async () => {
      answer = { status: 200, body: { measurement: 7 } };
      expect(await pool.measure(LANE, EPOCH, COMMITTEE)).to.deep.equal([]);
    });
  });

  describe("attest", () => {
    it("gives the signatures of members, and how many more there could be", async () => {
      const signature = signDigest(ours, batchId);
      answer = { status: 200, body: { signer: COMMITTEE.members[0], signature } };
      expect(await pool.attest(request, COMMITTEE, recordsOf)).to.deep.equal({
        signed: [{ signer: COMMITTEE.members[0], signature }],
        refused: [],
        possible: 3,
        spare: 1,
      });
    });

    it("leaves out a signature by another, whoever it says it is by", async () => {
      answer = { status: 200, body: { signer: COMMITTEE.members[0], signature: signDigest(theirs, batchId) } };
      expect((await pool.attest(request, COMMITTEE, recordsOf)).signed).to.deep.equal([]);
    });

    it("tells refusals from silence", async () => {
      answer = { status: 422, body: { refusals: ["No."], receipts: ["0xab"] } };
      expect(await pool.attest(request, COMMITTEE, recordsOf)).to.deep.equal({
        signed: [],
        refused: [{ attestor: COMMITTEE.members[0], refusals: ["No."], receipts: ["0xab"] }],
        possible: 2,
        spare: 1,
      });
      answer = { status: 503, body: { error: "later" } };
      expect(await pool.attest(request, COMMITTEE, recordsOf)).to.deep.equal({
        signed: [],
        refused: [],
        possible: 3,
        spare: 1,
      });
    });

    it("doesn't ask again who signed it before, and leaves out who isn't a member", async () => {
      answer = { status: 503, body: {} };
      const before = [KEYS.attestors[0], KEYS.outsider].map((key) => ({
        signer: computeAddress(key),
        signature: signDigest(key, batchId),
      }));
      expect(await pool.attest(request, COMMITTEE, recordsOf, before))
        .to.include({ possible: 3 })
        .and.to.deep.include({
          signed: before.slice(0, 1),
        });
      expect(lines.join()).not.to.contain("503");
    });

    it("asks only those who measured for the batch", async () => {
      answer = { status: 200, body: { signer: COMMITTEE.members[0], signature: signDigest(ours, batchId) } };
      const { signed, possible } = await pool.attest(
        { ...request, measurements: request.measurements.slice(1) },
        COMMITTEE,
        recordsOf,
      );
      expect({ signed, possible }).to.deep.equal({ signed: [], possible: 2 });
    });
  });

  describe("with members that are slow, silent, down, or lie", () => {
    type Behaviour = (response: ServerResponse) => void;
    const json = (status: number, body: unknown) => (response: ServerResponse) =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    const honest = (key: string) => json(200, { signer: computeAddress(key), signature: signDigest(key, batchId) });
    const TIMEOUT_MS = 300;
    let servers: Server[];

    afterEach(() => {
      for (const one of servers) {
        one.closeAllConnections();
        one.close();
      }
    });

    /** The members' servers, as each behaves; one without a behaviour is down. */
    const poolOf = (...behaviours: (Behaviour | null)[]) => poolWith({}, ...behaviours);
    const poolWith = async (config: Partial<AttestorsConfig>, ...behaviours: (Behaviour | null)[]) => {
      servers = [];
      const attestors = await Promise.all(
        COMMITTEE.members.map(async (address, i) => {
          const behave = behaviours[i];
          if (behave === null) return { address, url: "http://127.0.0.1:1" };
          const one = createServer((_request, response) => behave(response)).listen(0, "127.0.0.1");
          servers.push(one);
          await once(one, "listening");
          return { address, url: `http://127.0.0.1:${(one.address() as AddressInfo).port}` };
        }),
      );
      const log = createLog("debug", (line) => lines.push(line));
      return new AttestorPool(DOMAIN, { attestors, attestorTimeoutMs: TIMEOUT_MS, ...config }, log);
    };
    const endless: Behaviour = (response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const more = () => response.write(" ".repeat(2 ** 16), () => response.destroyed || setImmediate(more));
      more();
    };
    const drip: Behaviour = (response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const timer = setInterval(() => response.write(" "), 20);
      response.once("close", () => clearInterval(timer));
    };
    const bad: [string, Behaviour | null][] = [
      ["is down", null],
      ["never answers", () => undefined],
      ["answers a byte at a time, for ever", drip],
      ["answers without an end", endless],
      ["hangs up", (response) => response.destroy()],
      ["answers no JSON", (response) => void response.end("<html>")],
      ["answers 500", json(500, { error: "later" })],
      ["answers null", json(200, null)],
      [
        "signs another batch",
        json(200, { signer: COMMITTEE.members[2], signature: signDigest(KEYS.attestors[2], id("x")) }),
      ],
      ["gives another member's signature for its own", honest(KEYS.attestors[0])],
      ["sends elsewhere", (response) => void response.writeHead(302, { location: "http://127.0.0.1:1" }).end()],
    ];
    for (const [what, behaviour] of bad) {
      it(`goes on with the others where one ${what}, and waits no longer than it is allowed`, async () => {
        const others = [honest(KEYS.attestors[0]), honest(KEYS.attestors[1])];
        const several = await poolOf(...others, behaviour);
        const startedAt = performance.now();
        const { signed, refused } = await several.attest(request, COMMITTEE, recordsOf);
        expect(performance.now() - startedAt).to.be.lessThan(TIMEOUT_MS + 2_000);
        expect(signed.map(({ signer }) => signer)).to.deep.equal(COMMITTEE.members.slice(0, 2));
        expect(refused).to.deep.equal([]);
        expect(lines.filter((line) => line.includes("didn't answer"))).to.have.length(1);
      });
    }

    const patient = { attestorTimeoutMs: 600_000, othersMs: 100 };
    const silent: Behaviour = () => undefined;
    const measuring = (key: string) => json(200, signedMeasurementToJson(signMeasurement(key)));
    const [first, second] = KEYS.attestors;

    it("doesn't wait for one that hangs when enough have signed or measured, and says who was slow", async () => {
      const signing = await poolWith(patient, honest(first), honest(second), silent);
      expect((await signing.attest(request, COMMITTEE, recordsOf)).signed).to.have.length(2);
      servers.forEach((one) => one.closeAllConnections());
      const measured = await poolWith(patient, measuring(first), measuring(second), silent);
      expect(await measured.measure(LANE, EPOCH, COMMITTEE)).to.have.length(2);
      expect(lines.filter((line) => line.includes("ms longer than enough others"))).to.have.length(2);
    });

    it("doesn't wait for one that says again and again what it lacks", async () => {
      const hashes = Buffer.concat(Array(3_000).fill(Buffer.from(request.receipts[0].hash.slice(2), "hex")));
      const greedy = (response: ServerResponse) =>
        void setTimeout(() => json(409, { lacking: hashes.toString("base64") })(response), 50);
      const signing = await poolWith(patient, honest(first), honest(second), greedy);
      expect((await signing.attest(request, COMMITTEE, recordsOf)).signed).to.have.length(2);
    });

    it("waits for the others while too few have answered", async () => {
      const late = (response: ServerResponse) => void setTimeout(() => honest(second)(response), 400);
      const refusing = json(422, { refusals: ["No."], receipts: [] });
      const signing = await poolWith({ ...patient, othersMs: 1 }, honest(first), late, refusing);
      const { signed, refused } = await signing.attest(request, COMMITTEE, recordsOf);
      expect([signed.length, refused.length]).to.deep.equal([2, 1]);
    });

    it("isn't moved by one whose measurement is absurd, whatever it says", async () => {
      const saying = (key: string, fields: Parameters<typeof signMeasurement>[1]) =>
        json(200, signedMeasurementToJson(signMeasurement(key, fields)));
      const [first, second, third] = KEYS.attestors;
      const absurd = { availabilityBps: 0, p95TtftMs: 2 ** 32 - 1, samples: 2 ** 32 - 1 };
      const several = await poolOf(
        saying(first, { availabilityBps: 9_900, p95TtftMs: 200, samples: 30 }),
        saying(second, { availabilityBps: 9_950, p95TtftMs: 210, samples: 33 }),
        saying(third, absurd),
      );
      const measured = await several.measure(LANE, EPOCH, COMMITTEE);
      const { availabilityBps, p95TtftMs, samples } = medianOf(measured.map(({ measurement }) => measurement));
      expect(availabilityBps).to.be.within(9_900, 9_950);
      expect(p95TtftMs).to.be.within(200, 210);
      expect(samples).to.be.within(30, 33);
    });
  });

  describe("committeeProof", () => {
    it("has signers and their signatures, ascending by the signers' keccak256", () => {
      const attestations = KEYS.attestors.map((key) => ({
        signer: computeAddress(key).toLowerCase(),
        signature: signDigest(key, batchId),
      }));
      const proof = committeeProof(attestations);
      const [signers, signatures] = AbiCoder.defaultAbiCoder().decode(["bytes[]", "bytes[]"], proof);
      const sorted = attestations.sort((a, b) => (keccak256(a.signer) < keccak256(b.signer) ? -1 : 1));
      expect([...signers]).to.deep.equal(sorted.map(({ signer }) => signer));
      expect([...signatures]).to.deep.equal(sorted.map(({ signature }) => signature));
      expect(committeeProof([...attestations].reverse())).to.equal(proof);
    });
  });
});
