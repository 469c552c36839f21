import { expect } from "chai";
import { computeAddress, id } from "ethers";
import { type Attestor, startAttestor } from "../../oracle/attestor/attestor";
import { Tier } from "../../oracle/protocol/tiers";
import { bundleToText, evidenceHashOf } from "../../oracle/evidence/bundle";
import { requestSeed, submitEvidence } from "../../oracle/evidence/evidenceApi";
import { presentEvidence, type Presentation } from "../../oracle/evidence/present";
import { recordHashOf, recordOf, recordToText, standsUntil } from "../../oracle/evidence/record";
import { localSigner, seedRequestToSign } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { Problem } from "../../oracle/problem";
import { findingDigest, recoverSigner } from "../../oracle/protocol/messages";
import { zeroUsage } from "../../oracle/protocol/meters";
import type { Receipt } from "../../oracle/protocol/types";
import { Store } from "../../oracle/store/store";
import { type BundleParts, bundleFor, policyOf } from "../support/bundles";
import { describeOnEach, type Place } from "../support/databases";
import { newGpu, NOW } from "../support/evidence";
import { DOMAIN, usage } from "../support/fakeMessages";
import type { StubChain } from "../support/stubChain";
import {
  chained,
  COMMITTEE,
  KEYS,
  LANE,
  offer,
  receiptUnder,
  requestOf,
  signGrant,
  signMeasurement,
  stubMarket,
} from "../support/stubMarket";

const OPERATOR_KEY = computeAddress(KEYS.operator);
const SPAN = { epochStart: NOW, epochEnd: NOW + 3_600 };
const TIMEOUT_MS = 10_000;

describeOnEach("evidence before attestors", function (placeOf) {
  // Keys of RSA take seconds to make.
  this.timeout(60_000);

  let places: Place[];
  let chain: StubChain;
  let stores: Store[];
  let attestors: Attestor[];
  let lines: string[];
  let tiers: number[];

  beforeEach(async () => {
    [chain, lines, tiers] = [stubMarket(), [], []];
    chain.time = NOW;
    places = KEYS.attestors.map(() => placeOf());
    stores = await Promise.all(places.map(async (place) => new Store(await place.open())));
    const log = createLog("info", (line) => lines.push(line));
    attestors = await Promise.all(
      KEYS.attestors.map((key, i) =>
        startAttestor(
          { signer: localSigner(key), committee: COMMITTEE.address },
          {
            ...{ chain, store: stores[i], log },
            evidence: {
              books: stores[i].evidence,
              policy: policyOf(),
              onAssessed: (tier) => tiers.push(tier),
            },
          },
        ),
      ),
    );
  });

  afterEach(async () => {
    await Promise.all(attestors.map((attestor) => attestor.close()));
    for (const one of stores) await one.close();
    places.forEach((place) => place.remove());
  });

  const seedFor = async (key = KEYS.operator, { at = chain.time, operatorId = LANE.operatorId } = {}) => {
    const request = { operatorId, at };
    const signature = localSigner(key).sign(seedRequestToSign(DOMAIN, request));
    return requestSeed(attestors[0].url, request, signature, TIMEOUT_MS);
  };
  const subjectOf = (key = KEYS.operator) => ({
    ...{ chainId: DOMAIN.chainId, contract: DOMAIN.verifyingContract, operatorId: LANE.operatorId },
    ...{ receiptSigner: computeAddress(key), at: chain.time, recounted: false },
  });
  const bundleUnder = (seed: string, parts: Partial<BundleParts> = {}) =>
    bundleToText(bundleFor(undefined as never, { seed, subject: subjectOf(), ...parts }));
  const submit = (bundle: string) => submitEvidence(attestors[0].url, bundle, TIMEOUT_MS);
  const problemOf = async (attempt: Promise<unknown>): Promise<string> => {
    const problem = await attempt.then(
      () => expect.fail("it was granted"),
      (cause: Error) => cause,
    );
    return problem.message;
  };

  describe("a seed", () => {
    it("is another each time", async () => {
      expect(await seedFor()).to.not.equal(await seedFor());
    });

    it("is given to a key of the operator, and to nobody else", async () => {
      expect(await problemOf(seedFor(KEYS.outsider))).to.contain(
        `${computeAddress(KEYS.outsider)} isn't a key of operator 2 at ${NOW}: register it`,
      );
      expect(await problemOf(seedFor(KEYS.operator, { operatorId: 3 }))).to.contain("isn't a key of operator 3");
    });

    it("is given for a request of now, and not for one that somebody kept", async () => {
      await seedFor(KEYS.operator, { at: NOW - 120 });
      expect(await problemOf(seedFor(KEYS.operator, { at: NOW - 121 }))).to.contain("120 s apart are the most");
      expect(await problemOf(seedFor(KEYS.operator, { at: NOW + 121 }))).to.contain("120 s apart are the most");
    });

    it("is given while 16 wait for evidence, and again when they have run out", async () => {
      for (let n = 0; n < 16; n++) await seedFor();
      expect(await problemOf(seedFor()))
        .to.contain("429")
        .and.to.contain("16 seeds of");
      chain.time += 301;
      await seedFor();
    });
  });

  describe("a bundle", () => {
    it("that holds gets a finding, signed, from its seed on and as long as the policy says", async () => {
      const bundle = bundleUnder(await seedFor());
      chain.time += 100;
      const { gpu, finding } = await submit(bundle);
      expect(gpu.result, gpu.reason).to.equal("pass");
      expect(finding!.finding).to.deep.equal({
        ...{ operatorId: 2, receiptSigner: OPERATOR_KEY, tier: Tier.gpu },
        ...{ from: NOW, until: NOW + 100 + 86_400, evidenceHash: evidenceHashOf(bundle) },
      });
      expect(recoverSigner(findingDigest(DOMAIN, finding!.finding), finding!.signature)).to.equal(COMMITTEE.members[0]);
      expect(tiers).to.deep.equal([Tier.gpu]);
    });

    it("with a CPU's report over the GPUs' gets the tier of that", async () => {
      const { finding } = await submit(bundleUnder(await seedFor(), { cpu: "tdx" }));
      expect(finding!.finding.tier).to.equal(Tier.cpuTee);
    });

    it("counts once", async () => {
      const bundle = bundleUnder(await seedFor());
      await submit(bundle);
      const { gpu, finding } = await submit(bundle);
      expect(gpu).to.include({ result: "fail" }).and.to.have.property("reason").that.contains("was used already");
      expect(finding).to.equal(null);
    });

    it("that came too late, or is of other hardware than it says, gets the reason and no finding", async () => {
      const late = bundleUnder(await seedFor());
      chain.time += 301;
      expect((await submit(late)).gpu.reason).to.contain("301 seconds ago; an answer may take 300");
      const elsewhere = bundleUnder(await seedFor(), { subject: { ...subjectOf(), operatorId: 3 } });
      const { gpu, finding } = await submit(elsewhere);
      expect(gpu.reason).to.contain("this seed asks for");
      expect(finding).to.equal(null);
      expect(await stores[0].evidence.findings(2, SPAN)).to.deep.equal([]);
    });

    it("of a device that another operator shows gets none", async () => {
      const gpu = newGpu();
      await submit(bundleUnder(await seedFor(), { gpus: [gpu] }));
      chain.keys.set(computeAddress(KEYS.outsider), { operatorId: 3, addedAt: 0, expiresAt: 2 ** 40 });
      const seed = await seedFor(KEYS.outsider, { operatorId: 3 });
      const subject = { ...subjectOf(KEYS.outsider), operatorId: 3 };
      const { gpu: verdict, finding } = await submit(bundleUnder(seed, { gpus: [gpu], subject }));
      expect(verdict.reason).to.contain("is shown by operator 2 until");
      expect(finding).to.equal(null);
    });

    it("is given no finding by a process whose turn another has taken", async () => {
      const { leases, evidence: books } = stores[0];
      const lease = (await leases.acquire("attestor", "frozen", 60_000))!;
      await leases.release(lease);
      await leases.acquire("attestor", "next", 60_000);
      const { url, close } = await startAttestor(
        { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address },
        {
          ...{ chain, store: stores[0], log: createLog("error", () => {}) },
          ...{ turn: { isMine: true, lease }, evidence: { books, policy: policyOf() } },
        },
      );
      const bundle = bundleUnder(await seedFor());
      expect(await problemOf(submitEvidence(url, bundle, TIMEOUT_MS))).to.contain("turn any more");
      expect(await books.findings(LANE.operatorId, SPAN)).to.deep.equal([]);
      await close();
    });

    it("under a seed of nobody's, or of a key that was revoked meanwhile, isn't looked at", async () => {
      expect(await problemOf(submit(bundleUnder(id("nobody's"))))).to.contain("isn't one that this attestor issued");
      const bundle = bundleUnder(await seedFor());
      chain.keys.delete(OPERATOR_KEY);
      expect(await problemOf(submit(bundle))).to.contain(`${OPERATOR_KEY} isn't a key of operator 2`);
    });

    it("that is none is answered 400, and one that is too long 413", async () => {
      expect(await problemOf(submit("{}")))
        .to.contain("400")
        .and.to.contain("The evidence");
      expect(await problemOf(submit("x".repeat(4 * 2 ** 20 + 1)))).to.contain("413");
      const asJson = await fetch(`${attestors[0].url}/v1/evidence`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      });
      expect(asJson.status).to.equal(415);
    });
  });

  describe("a batch under a plan that demands evidence", () => {
    const demand = (minEvidenceTier: number) =>
      chain.plans.set(LANE.planId, { ...chain.plans.get(LANE.planId)!, minEvidenceTier });
    const request = (fields: Partial<Receipt> = {}, receiptKey = KEYS.operator) => {
      const grant = signGrant({ notBefore: NOW - 10, expiresAt: NOW + 200_000 });
      const receipts = chained(
        [1n, 2n].map((n) => receiptUnder(grant, n, { finishedAt: NOW + 10 * Number(n), ...fields })),
      );
      const measurements = KEYS.attestors.map((key) => signMeasurement(key, SPAN));
      return requestOf({ grants: [grant], receipts, measurements, header: SPAN, receiptKey });
    };
    const answerTo = async (batch = request()) => {
      chain.time = SPAN.epochEnd + 60;
      return offer(attestors[0].url, batch);
    };
    const refusalsOf = async (batch = request()) => {
      const answer = await answerTo(batch);
      return "refusals" in answer ? answer : expect.fail("it was signed");
    };
    const show = async (parts: Partial<BundleParts> = {}) => submit(bundleUnder(await seedFor(), parts));
    const receipt = (n: number, tier: number, demanded: number) =>
      `Receipt ${n} of license 7 has evidence of tier ${tier} for ${NOW + 10 * n}; plan 3 demands tier ${demanded}`;

    it("is signed without any where the plan demands none", async () => {
      expect(await answerTo()).to.have.property("signature");
    });

    it("is refused where none was shown, receipt by receipt", async () => {
      demand(Tier.gpu);
      const { refusals, receipts } = await refusalsOf();
      expect(refusals).to.deep.equal([receipt(1, 0, 2), receipt(2, 0, 2)]);
      expect(receipts).to.have.length(2);
    });

    it("is signed without any as far as its receipts count nothing, such as of a request that failed", async () => {
      demand(Tier.gpu);
      const grant = signGrant({ notBefore: NOW - 10, expiresAt: NOW + 200_000 });
      const receipts = chained(
        [zeroUsage(), usage({ requests: 1n }), usage({ outputTokens: 1n })].map((counts, i) =>
          receiptUnder(grant, BigInt(i + 1), { finishedAt: NOW + 10 * (i + 1), ...counts }),
        ),
      );
      const measurements = KEYS.attestors.map((key) => signMeasurement(key, SPAN));
      const { refusals } = await refusalsOf(requestOf({ grants: [grant], receipts, measurements, header: SPAN }));
      expect(refusals).to.deep.equal([receipt(2, 0, 2), receipt(3, 0, 2)]);
    });

    it("is signed where the evidence reaches the tier", async () => {
      demand(Tier.gpu);
      await show();
      expect(await answerTo()).to.have.property("signature");
    });

    it("is refused where it reaches a lower one, or failed", async () => {
      demand(Tier.cpuTee);
      await show();
      expect((await refusalsOf()).refusals[0]).to.equal(receipt(1, 2, 3));
      demand(Tier.gpu);
      chain.time = NOW;
      chain.keys.set(computeAddress(KEYS.proposer), { operatorId: 2, addedAt: 0, expiresAt: 2 ** 40 });
      const byProposer = request({ requestHash: id("another") }, KEYS.proposer);
      const seed = await seedFor(KEYS.proposer);
      expect((await submit(bundleUnder(seed))).finding).to.equal(null);
      expect((await refusalsOf(byProposer)).refusals[0]).to.equal(receipt(1, 0, 2));
    });

    it("is refused where the evidence was shown for another of the operator's keys", async () => {
      demand(Tier.gpu);
      await show();
      expect((await refusalsOf(request({}, KEYS.proposer))).refusals[0]).to.equal(receipt(1, 0, 2));
    });

    it("is refused as far as it is older than the evidence, or the evidence has run out", async () => {
      demand(Tier.gpu);
      chain.time = NOW + 15;
      await show();
      const { refusals } = await refusalsOf();
      expect(refusals).to.deep.equal([receipt(1, 0, 2)]);
      await stores[0].evidence.recordFinding({
        ...{ operatorId: 2, receiptSigner: OPERATOR_KEY, tier: 2, from: NOW, until: NOW + 10, evidenceHash: id("old") },
      });
      expect((await refusalsOf()).refusals).to.deep.equal([receipt(1, 0, 2)]);
    });

    it("is refused by an attestor that takes no evidence", async () => {
      demand(Tier.gpu);
      const none = await startAttestor(
        { signer: localSigner(KEYS.attestors[0]), committee: COMMITTEE.address },
        { chain, store: stores[0], log: createLog("error", () => {}) },
      );
      chain.time = SPAN.epochEnd + 60;
      const answer = await offer(none.url, request());
      expect(answer).to.deep.include({ refusals: [receipt(1, 0, 2), receipt(2, 0, 2)] });
      await none.close();
    });

    it("is refused at the tier of recounting while nothing was recounted", async () => {
      demand(Tier.recounted);
      expect((await refusalsOf()).refusals[0]).to.equal(receipt(1, 0, 1));
    });
  });

  describe("presentEvidence", () => {
    /** A program that has the test make its evidence. */
    const collecting = (output: string) => [process.execPath, "-e", output];
    const presentation = (fields: Partial<Presentation> = {}): Presentation => ({
      operatorId: LANE.operatorId,
      signer: localSigner(KEYS.operator),
      attestors: attestors.map(({ address, url }) => ({ address, url })),
      collectCommand: [],
      collectTimeoutMs: 20_000,
      attestorTimeoutMs: TIMEOUT_MS,
      committee: COMMITTEE.address,
      ...fields,
    });
    const present = (fields: Partial<Presentation>) =>
      presentEvidence(presentation(fields), { chain, log: createLog("info", (line) => lines.push(line)) });

    /** A server where the program fetches evidence under its seed, as from hardware. */
    const hardware = async (parts: Partial<BundleParts>, work: (command: string[]) => Promise<void>) => {
      const { createServer } = await import("node:http");
      const server = createServer((asked, response) => {
        const seed = asked.url!.slice(1);
        const { gpus, cpu, crls, ocsp } = JSON.parse(bundleUnder(seed, parts)) as Record<string, unknown>;
        response.end(JSON.stringify({ gpus, cpu, crls, ocsp }));
      }).listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      const { port } = server.address() as { port: number };
      const script = `fetch("http://127.0.0.1:${port}/" + process.env.LICET_SEED).then((r) => r.text()).then((t) => process.stdout.write(t))`;
      try {
        await work(collecting(script));
      } finally {
        server.close();
      }
    };

    it("gathers the findings of all attestors, in a record that anybody can check", async () => {
      await hardware({ cpu: "snp" }, async (collectCommand) => {
        const record = await present({ collectCommand });
        expect(record, lines.join("\n")).to.include({ operatorId: 2, receiptSigner: OPERATOR_KEY, tier: Tier.cpuTee });
        expect(record.findings).to.have.length(3);
        const text = recordToText(record);
        expect(recordOf(text, DOMAIN, COMMITTEE)).to.deep.equal(record);
        expect(standsUntil(record)).to.equal(NOW + 86_400);
        expect(recordHashOf(text)).to.match(/^0x[0-9a-f]{64}$/);
      });
    });

    it("counts a tier that the committee's threshold found, and goes on without an attestor that is down", async () => {
      await hardware({}, async (collectCommand) => {
        await attestors[2].close();
        const two = await present({ collectCommand });
        expect(two.tier).to.equal(Tier.gpu);
        expect(lines.join()).to.contain("Evidence wasn't judged");
        await attestors[1].close();
        const one = await present({ collectCommand });
        expect(one).to.include({ tier: Tier.signed });
        expect(one.findings).to.have.length(1);
      });
    });

    it("leaves a finding out that another signed, or that is of another bundle", async () => {
      await hardware({}, async (collectCommand) => {
        const [first, second] = presentation().attestors;
        const swapped = [{ address: second.address, url: first.url }];
        const record = await present({ collectCommand, attestors: swapped });
        expect(record.findings).to.deep.equal([]);
        expect(lines.join()).to.contain(`signed by ${first.address}, not by ${second.address}`);
      });
    });

    it("says what is wrong with a program that fails, or writes no evidence", async () => {
      const failing = await present({ collectCommand: collecting("process.exit(3)") }).catch((cause) => cause);
      expect(failing).to.be.instanceOf(Problem);
      expect(failing.message).to.contain("failed").and.to.contain("LICET_NONCE");
      const chatty = await present({ collectCommand: collecting("console.log('hello')") }).catch((cause) => cause);
      expect(chatty).to.be.instanceOf(Problem);
      expect(chatty.message).to.contain("which is no evidence");
    });

    it("gives the program nothing of its own environment, where secrets are", async () => {
      process.env.LICET_TEST_SECRET = "sesame";
      try {
        const said = await present({
          collectCommand: collecting("process.stdout.write(`it is ${process.env.LICET_TEST_SECRET}`)"),
        }).catch((cause: Error) => cause);
        expect(String(said)).to.contain("it is undefined");
      } finally {
        delete process.env.LICET_TEST_SECRET;
      }
    });

    describe("the record", () => {
      const made = async () => {
        let text = "";
        await hardware({}, async (collectCommand) => {
          text = recordToText(await present({ collectCommand }));
        });
        return JSON.parse(text) as { tier: number; findings: { bundle: string; signature: string }[] };
      };
      const read =
        (record: object, committee = COMMITTEE) =>
        () =>
          recordOf(JSON.stringify(record), DOMAIN, committee);

      it("is refused with another tier than its findings make, another bundle, or another's finding", async () => {
        const record = await made();
        expect(read(record)).to.not.throw();
        expect(read({ ...record, tier: 3 })).to.throw("says tier 3; its findings make 2");
        expect(read({ ...record, findings: record.findings.slice(1, 2) })).to.throw("says tier 2; its findings make 0");
        const [one, two, three] = record.findings;
        expect(read({ ...record, findings: [{ ...one, bundle: two.bundle }, two, three] })).to.throw(
          "of another bundle",
        );
        expect(read({ ...record, operatorId: 3 })).to.throw("A finding is of operator 2");
        const strangers = { ...COMMITTEE, members: COMMITTEE.members.slice(1) };
        expect(read(record, strangers)).to.throw("who isn't a member");
        expect(read({ ...record, findings: [one, one, three] }, { ...COMMITTEE, threshold: 3 })).to.throw("make 0");
      });
    });
  });
});
