import { expect } from "chai";
import { id, Wallet } from "ethers";
import { Audits, type AuditedLane } from "../../oracle/attestor/audits";
import { auditOf, type Means } from "../../oracle/attestor/audit";
import { tokenizerOf } from "../../oracle/attestor/recount";
import { differenceOf, isDeterministic } from "../../oracle/attestor/reexecution";
import { startEngine } from "../../oracle/engine";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { DISCLOSE_HEADER, type DisclosedRequest } from "../../oracle/protocol/disclosure";
import { grantDigest, receiptDigest, saltedHash, signDigest } from "../../oracle/protocol/messages";
import { requestHashOf, responseHashOf } from "../../oracle/protocol/classification";
import { checkRecord, decodeReceipt, encodeReceipt } from "../../oracle/protocol/receiptBytes";
import { ReceiptFlag, type Receipt } from "../../oracle/protocol/types";
import type { DueAudit } from "../../oracle/store/disclosureBooks";
import { Store } from "../../oracle/store/store";
import type { Copy } from "../../oracle/store/copyRows";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN, grantWith, receiptWith } from "../support/fakeMessages";
import { failing, FakeUpstream, streaming, USAGE, whole } from "../support/fakeUpstream";
import { GatewayBench, LANE, MANIFEST, MESSAGES, modelAt, PLAN_ID } from "../support/gatewayBench";

const MEMBER = new Wallet(id("member"));
const GREEDY = { model: "writer", messages: MESSAGES, temperature: 0 };
const silent = createLog("error", () => {});

describeOnEach("audits", (placeOf) => {
  let bench: GatewayBench;
  let place: Place;
  let store: Store;
  /** A server of the attestor's own. */
  let own: FakeUpstream;
  let lane: AuditedLane;

  beforeEach(async () => {
    bench = await GatewayBench.start();
    const address = bench.chain.plans.get(PLAN_ID)!.attestor;
    const member = { members: [MEMBER.address], weights: { [MEMBER.address]: 1 }, unbonded: [] };
    const present = { address, ...member, threshold: 1, since: 1 };
    bench.chain.committeesAt.set(address, { present, former: null, announced: null });
    await bench.serve();
    place = placeOf();
    store = new Store(await place.open());
    own = await FakeUpstream.start();
    lane = {
      ...{ lane: LANE, gatewayUrl: bench.gateway.url, percent: 100, leastSamples: 2, mostDisagreeing: 20 },
      reexecute: { url: own.url, model: "twin", exact: true },
    };
  });

  afterEach(async () => {
    await bench.close();
    await own.stop();
    await store.close();
    place.remove();
  });

  const audits = (changes: Partial<AuditedLane> = {}, lanes = [{ ...lane, ...changes }]) =>
    new Audits(lanes, {
      ...{ chain: bench.chain, store, signer: localSigner(MEMBER.privateKey), log: silent },
      secret: Buffer.alloc(32, 7),
    });

  const copyOf = ({ receipt, signature }: { receipt: Receipt; signature: string }): Copy => {
    const record = encodeReceipt({ receipt, signature });
    const { hash, signer } = checkRecord(DOMAIN, record);
    const { operatorId, finishedAt } = receipt;
    const bytes = Buffer.from(hash.slice(2), "hex");
    return { hash: bytes, operatorId, finishedAt, arrivedAt: finishedAt, signer, record, leaf: bytes };
  };

  /** Has the gateway serve a request, and gives what an attestor then has of it. */
  async function served(body: object = GREEDY, disclosed = true): Promise<Copy> {
    await bench.post(body, { headers: disclosed ? { [DISCLOSE_HEADER]: "attestors" } : {} });
    const [{ receipt, signature }] = (
      await bench.store.unbatched.receipts(LANE, { epochStart: 0, epochEnd: 2 ** 40 })
    ).slice(-1);
    return copyOf({ receipt, signature });
  }

  const span = () => ({
    ...{ operatorId: LANE.operatorId, planId: LANE.planId, manifestHash: MANIFEST },
    ...{ from: 0, until: 2 ** 40 },
  });
  const verdicts = async () => (await store.disclosures.verdicts(span(), 100)).map(({ verdict }) => verdict);
  const reasons = async () => (await store.disclosures.verdicts(span(), 100)).map(({ reason }) => reason);

  async function looked(copies: Copy[], one = audits()): Promise<Audits> {
    await one.note(copies);
    await one.lookRound();
    return one;
  }

  it("agree with a request that a server of the same model answers the same", async () => {
    await looked([await served()]);
    expect(await verdicts()).to.deep.equal(["agree"]);
    const [{ path, body }] = own.received;
    expect(path).to.equal("/v1/chat/completions");
    expect(body).to.deep.equal({ ...GREEDY, model: "twin", stream: false, max_tokens: 4 });
  });

  it("agree with a stream, too, which they have answered whole", async () => {
    bench.upstreams[0].script = streaming();
    await looked([await served({ ...GREEDY, stream: true, stream_options: { include_usage: true } })]);
    expect(await verdicts()).to.deep.equal(["agree"]);
    expect(own.received[0].body).not.to.have.property("stream_options");
  });

  it("disagree where another model must have answered, and say where", async () => {
    bench.upstreams[0].script = whole({ text: "You may not." });
    await looked([await served()]);
    expect(await reasons()).to.deep.equal([
      "Receipt 1 of license 1 is answered otherwise by a server of the same model, from character 8 of 12 on: " +
        '"not.", and here "copy this."',
    ]);
  });

  it("disagree with a prompt that is counted too long", async () => {
    own.script = whole({ extra: { usage: { ...USAGE, prompt_tokens: 20 } } });
    await looked([await served()]);
    expect(await reasons()).to.deep.equal([
      "Receipt 1 of license 1 has 30 input tokens; a server of the same model counts 20",
    ]);
  });

  it("disagree with an answer that is counted too long, by a tokenizer alone", async () => {
    own.tokenizer = () => 30;
    const tokenizer = tokenizerOf({ url: own.url, model: "twin" }, silent);
    await looked([await served({ model: "writer", messages: MESSAGES })], audits({ tokenizer, reexecute: undefined }));
    expect(await verdicts()).to.deep.equal(["agree"]);
    bench.upstreams[0].script = whole({ extra: { usage: { ...USAGE, completion_tokens: 90 } } });
    await looked([await served({ model: "writer", messages: MESSAGES })], audits({ tokenizer, reexecute: undefined }));
    expect((await reasons()).join()).to.match(/has 90 output tokens; 39 are the most, by the attestor's own count/);
  });

  it("say nothing of what is answered otherwise each time, nor of kinds that they can't look at", async () => {
    await looked([await served({ model: "writer", messages: MESSAGES, temperature: 1 })]);
    expect(await verdicts()).to.deep.equal([]);
    expect(await store.disclosures.due(10)).to.deep.equal([]);
    expect(own.received).to.deep.equal([]);
  });

  it("never ask for what wasn't disclosed, nor for another lane's", async () => {
    const secret = await served(GREEDY, false);
    const disclosed = await served();
    const one = audits();
    await one.note([secret]);
    await audits({ lane: { ...LANE, planId: 9 } }).note([disclosed]);
    await audits({}, []).note([disclosed]);
    expect(await store.disclosures.due(10)).to.deep.equal([]);
  });

  it("are of as many in a hundred as are wanted, picked by what nobody else knows, and each once", async () => {
    const flags = ReceiptFlag.disclosed;
    const copies = Array.from({ length: 400 }, (_, i) => {
      const receipt = receiptWith({ ...LANE, manifestHash: MANIFEST, sequence: BigInt(i + 1), flags });
      return copyOf({ receipt, signature: signDigest(MEMBER.privateKey, receiptDigest(DOMAIN, receipt)) });
    });
    await audits({ percent: 25 }).note(copies);
    await audits({ percent: 25 }).note(copies);
    expect(await store.disclosures.due(400)).to.have.length.within(70, 130);
  });

  it("disagree where the operator shows nothing of what it says is disclosed", async () => {
    const copy = await served();
    await bench.store.disclosures.drop(2 ** 40);
    await looked([copy]);
    expect(await reasons()).to.deep.equal([
      "Receipt 1 of license 1 says that its request is disclosed, and its operator shows nothing of it",
    ]);
  });

  it("don't ask for what nobody need keep any more", async () => {
    const copy = await served();
    await bench.store.disclosures.drop(2 ** 40);
    bench.chain.time += 3_700;
    await looked([copy]);
    expect(await verdicts()).to.deep.equal([]);
  });

  it("are tried again where a server doesn't answer, and given up after five times", async () => {
    own.script = failing(503, { error: "busy" });
    const one = audits();
    await one.note([await served()]);
    const left: number[] = [];
    for (let i = 0; i < 5; i++) left.push(((await one.lookRound()) as number) && (await due()).length);
    expect(left).to.deep.equal([1, 1, 1, 1, 0]);
    expect(await verdicts()).to.deep.equal([]);
  });
  const due = (): Promise<DueAudit[]> => store.disclosures.due(10);

  it("agree to the letter with what llama.cpp answered on another process, and not with what another answered", async function () {
    this.timeout(60_000);
    const modelPath = "models/lic380k/lic380k.q8.gguf";
    const engines = await Promise.all([0, 1].map(() => startEngine({ modelPath, modelId: "lic380k" })));
    try {
      await bench.serve({ models: [modelAt({ url: engines[0].url, model: "lic380k" })], requestTimeoutMs: 30_000 });
      const { url } = engines[1];
      const tokenizer = tokenizerOf({ url, model: "lic380k" }, silent);
      const real = { gatewayUrl: bench.gateway.url, tokenizer, reexecute: { url, model: "lic380k", exact: true } };
      const greedy = { ...GREEDY, max_tokens: 40 };
      const copies = [await served(greedy), await served({ ...greedy, stream: true })];
      await looked(copies, audits(real));
      expect(await reasons()).to.deep.equal(["", ""]);
      const audited = await auditOf(DOMAIN, decodeReceipt(copies[0].record).receipt, await shownOf(copies[0]), {
        reexecute: { ...real.reexecute, model: "lic380k", url: own.url },
      });
      expect(audited.reason).to.match(/is answered otherwise by a server of the same model, from character \d of/);
    } finally {
      await Promise.all(engines.map((engine) => engine.close()));
    }
  });

  /** What the gateway keeps of a request. */
  async function shownOf({ record }: Copy): Promise<DisclosedRequest> {
    const { requestId, grantHash } = decodeReceipt(record).receipt;
    const kept = (await bench.store.disclosures.kept(requestId))!;
    const [request, response] = [kept.request, kept.response].map((bytes) => Buffer.from(bytes));
    return { kind: kept.kind, grant: (await bench.store.grants.find(grantHash))!, request, response };
  }

  describe("and a batch", () => {
    const facts = (changes: object = {}) => {
      const epochEnd = bench.chain.time + 1;
      const version = { ...bench.chain.versions.get(LANE.versionId)!, ...changes };
      return { header: { ...LANE, epochEnd }, version } as unknown as Parameters<Audits["refusals"]>[0];
    };

    it("is refused where too many disagree, with the last reason", async () => {
      const copies = [await served()];
      bench.upstreams[0].script = whole({ text: "Never." });
      copies.push(await served());
      const one = await looked(copies);
      const [{ reason, receiptHash }, ...others] = await one.refusals(facts());
      expect(others).to.deep.equal([]);
      expect(receiptHash).to.equal(null);
      expect(reason).to.match(
        /^Of 2 disclosed requests that were looked at, 1 aren't as their receipts say; 20 % may be. The last: Receipt 2 of/,
      );
    });

    it("isn't where they are few, within what may be, of another version, or of a former epoch", async () => {
      bench.upstreams[0].script = whole({ text: "Never." });
      const one = await looked([await served()]);
      expect(await one.refusals(facts())).to.deep.equal([]);
      await looked([await served()], one);
      expect(await one.refusals(facts())).to.have.length(1);
      expect(await audits({ mostDisagreeing: 99, leastSamples: 1 }).refusals(facts())).to.have.length(1);
      bench.upstreams[0].script = whole();
      await looked([await served()], one);
      expect(await audits({ mostDisagreeing: 67 }).refusals(facts())).to.deep.equal([]);
      expect(await audits({ mostDisagreeing: 66 }).refusals(facts())).to.have.length(1);
      expect(await one.refusals(facts({ manifestHash: id("another") }))).to.deep.equal([]);
      expect(await audits({}, []).refusals(facts())).to.deep.equal([]);
      bench.chain.time += bench.chain.epochPeriod + 1;
      expect(await one.refusals(facts())).to.deep.equal([]);
    });
  });
});

describe("auditOf", () => {
  const grant = { grant: grantWith(), signature: "0xabcd" };
  const [request, response] = [GREEDY, { choices: [{ message: { content: "Yes." } }] }].map((json) =>
    Buffer.from(JSON.stringify(json)),
  );
  const disclosed: DisclosedRequest = { kind: "chat", grant, request, response };
  const receipt = receiptWith({
    grantHash: grantDigest(DOMAIN, grant.grant),
    requestHash: saltedHash(grant.grant.salt, request),
    responseHash: saltedHash(grant.grant.salt, response),
    flags: ReceiptFlag.disclosed,
  });
  const NONE: Means = {};
  const found = (changes: Partial<DisclosedRequest>, of = receipt) =>
    auditOf(DOMAIN, of, { ...disclosed, ...changes }, NONE);

  it("finds what is shown in the place of what the receipt hashed", async () => {
    const other = Buffer.from("{}");
    expect((await found({ request: other })).reason).to.match(/^says 0x\w+ of its request; the one shown has 0x/);
    expect((await found({ response: other })).reason).to.match(/^says 0x\w+ of its answer; the one shown has 0x/);
    const salted = { ...grant, grant: grantWith({ cap: 5n }) };
    const { verdict, reason } = await found({ grant: salted });
    expect(verdict).to.equal("disagree");
    expect(reason).to.match(/^came under grant 0x\w+; shown is 0x/);
  });

  it("holds a classification against the commitments on its receipt, and not its bytes", async () => {
    const { salt } = grant.grant;
    const bytesOf = (json: object) => Buffer.from(JSON.stringify(json));
    const asked = bytesOf({ model: "digits", input: [1, 2, 3, 4] });
    const answered = bytesOf({ class: 1, logits: [-5, 7], architecture: "4-2-2-s1" });
    const [requestHash, responseHash] = [requestHashOf(salt, asked), responseHashOf(salt, answered)];
    const shown = { kind: "classification", request: asked, response: answered };
    const of = { ...receipt, requestHash, responseHash };
    expect((await found(shown, of)).verdict).to.equal("unknown");
    const spaced = { ...shown, request: Buffer.from(`${asked} `), response: Buffer.from(` ${answered}`) };
    expect((await found(spaced, of)).verdict).to.equal("unknown");
    const other = bytesOf({ model: "digits", input: [1, 2, 3, 5] });
    expect((await found({ ...shown, request: other }, of)).reason).to.match(
      /^says 0x\w+ of its request; the one shown/,
    );
    const forged = bytesOf({ class: 0, logits: [8, 7], architecture: "4-2-2-s1" });
    expect((await found({ ...shown, response: forged }, of)).reason).to.match(
      /^says 0x\w+ of its answer; the one shown/,
    );
    expect((await found({ ...shown, kind: "chat" }, of)).verdict).to.equal("disagree");
    const refused = bytesOf({ error: { message: "no" } });
    const free = { ...of, responseHash: saltedHash(salt, refused) };
    expect((await found({ ...shown, response: refused }, free)).verdict).to.equal("unknown");
  });

  it("says that it doesn't know where there is nothing to look by", async () => {
    expect((await found({})).verdict).to.equal("unknown");
    expect(await found({ kind: "embeddings" })).to.deep.equal({
      ...{ verdict: "unknown", reason: "is of a kind (embeddings) that isn't looked at" },
    });
  });
});

describe("re-execution", () => {
  it("is of requests that the same model answers the same", () => {
    expect(isDeterministic({ temperature: 0 }, false)).to.equal(true);
    expect(isDeterministic({ top_k: 1 }, false)).to.equal(true);
    expect(isDeterministic({ temperature: 0, n: 2 }, false)).to.equal(false);
    expect(isDeterministic({}, true)).to.equal(false);
    expect(isDeterministic({ temperature: 1, seed: 7 }, true)).to.equal(true);
    expect(isDeterministic({ temperature: 1, seed: 7 }, false)).to.equal(false);
  });

  it("wants the same to the letter of the same engine, and the same beginning of others", () => {
    const [text, near, far] = ["0123456789", "012x456789", "01xxxxxxxx"];
    expect(differenceOf(text, text, true)).to.equal(null);
    expect(differenceOf(text, `${text}0`, true)).to.match(/from character 10 of 10 on/);
    expect(differenceOf(text, near, true)).to.match(/from character 3 of 10 on: "3456789", and here "x456789"/);
    expect(differenceOf(text, near, false)).to.equal(null);
    expect(differenceOf(text, `${text}0`, false)).to.equal(null);
    expect(differenceOf(text, far, false)).to.match(/from character 2 of 10 on/);
  });
});
