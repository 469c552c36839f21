import { expect } from "chai";
import { id, Wallet } from "ethers";
import { disclosureDigest, saltedHash, signDigest } from "../../oracle/protocol/messages";
import {
  DISCLOSE_HEADER,
  type DisclosedRequest,
  disclosedFromText,
  DISCLOSURE_HEADER,
  DISCLOSURES_PATH,
  disclosureToText,
} from "../../oracle/protocol/disclosure";
import { ReceiptFlag, type Disclosure } from "../../oracle/protocol/types";
import { request } from "undici";
import { DOMAIN, grantWith } from "../support/fakeMessages";
import { failing, streaming, whole } from "../support/fakeUpstream";
import { GatewayBench, MESSAGES, OPERATOR_ID, PLAN_ID, STRANGER } from "../support/gatewayBench";

const MEMBER = new Wallet(id("member"));
const FORMER = new Wallet(id("former member"));

describe("disclosures, at the gateway", () => {
  let bench: GatewayBench;

  beforeEach(async () => {
    bench = await GatewayBench.start();
    const address = bench.chain.plans.get(PLAN_ID)!.attestor;
    const committeeOf = ({ address: member }: Wallet) => ({
      ...{ address, members: [member], weights: { [member]: 1 }, unbonded: [] },
      ...{ threshold: 1, since: 1 },
    });
    const [present, former] = [committeeOf(MEMBER), committeeOf(FORMER)];
    bench.chain.committeesAt.set(address, { present, former, announced: null });
    await bench.serve();
  });

  afterEach(() => bench.close());

  const BODY = JSON.stringify({ model: "writer", messages: MESSAGES });
  const STREAMED = JSON.stringify({ model: "writer", messages: MESSAGES, stream: true });
  const post = (body = BODY, to: string | null = "attestors") =>
    bench.post(body, { headers: to === null ? {} : { [DISCLOSE_HEADER]: to } });
  const last = async () => (await bench.receipts()).at(-1)!;
  const isFlagged = async () => ((await last()).flags & ReceiptFlag.disclosed) !== 0;

  async function ask(requestId: string, changes: Partial<Disclosure> = {}, key = MEMBER) {
    const disclosure = { operatorId: OPERATOR_ID, requestId, at: bench.chain.time, ...changes };
    const signature = signDigest(key.privateKey, disclosureDigest(DOMAIN, disclosure));
    return askBy(requestId, disclosureToText({ disclosure, signature }));
  }

  async function askBy(requestId: string, header: string | undefined) {
    const headers: Record<string, string> = header === undefined ? {} : { [DISCLOSURE_HEADER]: header };
    const answer = await request(`${bench.gateway.url}${DISCLOSURES_PATH}/${requestId}`, { headers });
    return { status: answer.statusCode, text: await answer.body.text() };
  }

  async function given(): Promise<DisclosedRequest> {
    const { status, text } = await ask((await last()).requestId);
    expect(status, text).to.equal(200);
    return disclosedFromText(text);
  }

  it("gives a member of the committee what was asked and answered, to the byte, and what hashes it", async () => {
    const { text } = await post();
    const { kind, grant, request: asked, response } = await given();
    expect({ kind, asked: asked.toString(), response: response.toString() }).to.deep.equal({
      ...{ kind: "chat", asked: BODY, response: text },
    });
    const { requestHash, responseHash, flags } = await last();
    expect(saltedHash(grant.grant.salt, asked)).to.equal(requestHash);
    expect(saltedHash(grant.grant.salt, response)).to.equal(responseHash);
    expect(grant.grant).to.deep.equal(grantWith());
    expect(flags).to.equal(ReceiptFlag.disclosed);
  });

  it("gives a stream as it was sent, and to members of the former committee, too", async () => {
    bench.upstreams[0].script = streaming();
    const { text } = await post(STREAMED);
    expect((await given()).response.toString()).to.equal(text);
    expect((await ask((await last()).requestId, {}, FORMER)).status).to.equal(200);
  });

  it("keeps nothing that the licensee hasn't disclosed, and its receipt says nothing of it", async () => {
    await post(BODY, null);
    expect(await isFlagged()).to.equal(false);
    const { status, text } = await ask((await last()).requestId);
    expect(status).to.equal(404);
    expect(text).to.contain("nothing is kept of request 0x");
    expect(await bench.store.disclosures.keptBytes()).to.equal(0);
  });

  it("refuses a disclosure to anybody else, before the request costs anything", async () => {
    const { status, text } = await post(BODY, "everybody");
    expect(status).to.equal(400);
    expect(text).to.contain("x-licet-disclose: must be attestors, or left out");
    expect(await bench.receipts()).to.deep.equal([]);
  });

  const refused: [string, (requestId: string) => ReturnType<typeof ask>, number, RegExp][] = [
    ["nobody in particular", (requestId) => askBy(requestId, undefined), 400, /say who asks in the header/],
    ["nonsense", (requestId) => askBy(requestId, "AAAA"), 400, /must be JSON/],
    ["a stranger", (requestId) => ask(requestId, {}, STRANGER), 403, /isn't a member of the committee/],
    ["who asks another operator", (requestId) => ask(requestId, { operatorId: 9 }), 403, /asked is operator 9/],
    [
      "who asks for another request",
      (requestId) => ask(requestId, { requestId: id("x") }),
      403,
      /asked is operator 2 for/,
    ],
    ["who asked long ago", (requestId) => ask(requestId, { at: bench.chain.time - 301 }), 403, /sign it anew/],
  ];
  for (const [who, asking, status, sentence] of refused) {
    it(`gives nothing to ${who}`, async () => {
      await post();
      const answer = await asking((await last()).requestId);
      expect(answer.status).to.equal(status);
      expect(answer.text).to.match(sentence);
    });
  }

  it("keeps no answer that is too long, or failed", async () => {
    bench.upstreams[0].script = whole({ text: "x".repeat(2 ** 20) });
    await post();
    expect(await isFlagged()).to.equal(false);
    bench.upstreams[0].script = streaming({ words: ["x".repeat(2 ** 20)] });
    await post(STREAMED);
    expect(await isFlagged()).to.equal(false);
    bench.upstreams[0].script = failing(500, { error: "broken" });
    await post();
    expect(await isFlagged()).to.equal(false);
    expect(await bench.store.disclosures.keptBytes()).to.equal(0);
  });

  it("keeps no more than it may, and nothing where that is nothing", async () => {
    await post();
    const once = await bench.store.disclosures.keptBytes();
    await bench.serve({ disclosures: { keepSeconds: 3_600, mostBytes: 2 * once } });
    for (const expected of [true, false]) {
      await post();
      expect(await isFlagged()).to.equal(expected);
    }
    expect(await bench.store.disclosures.keptBytes()).to.equal(2 * once);
    await bench.serve({ disclosures: { keepSeconds: 3_600, mostBytes: 0 } });
    await post();
    expect(await isFlagged()).to.equal(false);
  });

  it("forgets what it has kept for long enough", async () => {
    await post();
    const { requestId } = await last();
    bench.chain.time += 3_601;
    await bench.serve({ disclosures: { keepSeconds: 3_600, mostBytes: 2 ** 20 } });
    await post();
    expect((await ask(requestId)).status).to.equal(404);
    expect((await given()).request.toString()).to.equal(BODY);
  });
});
