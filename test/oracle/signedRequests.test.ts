import { expect } from "chai";
import { id, keccak256, Wallet, ZeroHash } from "ethers";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { request } from "undici";
import { GATEWAY_DEFAULTS, startGateway, type Gateway } from "../../oracle/gateway/gateway";
import { localSigner } from "../../oracle/keys/digestSigner";
import { createLog } from "../../oracle/log";
import { grantDigest, requestDigest, saltedHash, signDigest } from "../../oracle/protocol/messages";
import { packRequestSignature, REQUEST_SIGNATURE_HEADER } from "../../oracle/protocol/requestSignature";
import type { Grant, Receipt } from "../../oracle/protocol/types";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { FakeChain } from "../support/fakeChain";
import { bearerOf, DOMAIN, grantWith, usage } from "../support/fakeMessages";
import { FakeUpstream, failing } from "../support/fakeUpstream";

const OWNER = new Wallet(id("owner"));
const REQUEST_KEY = new Wallet(id("request key"));
const STRANGER = new Wallet(id("stranger"));
const OPERATOR_KEY = new Wallet(id("operator"));
const MANIFEST = id("manifest");
const VERSION_ID = (5n << 32n) | 1n;
const BODY = JSON.stringify({ model: "writer", messages: [{ role: "user", content: "May I copy this?" }] });

describe("signed requests, at the gateway", () => {
  let folder: string;
  let store: Store;
  let chain: FakeChain;
  let upstream: FakeUpstream;
  let gateway: Gateway;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "licet-signed-"));
    store = new Store(sqliteDatabase(join(folder, "store.sqlite")));
    upstream = await FakeUpstream.start();
    chain = new FakeChain();
    chain.signingKeys.set(2, [OPERATOR_KEY.address]);
    const rates = usage({ outputTokens: 1_000_000n });
    chain.plans.set(3, { planId: 3, assetId: 5, rates, attestor: STRANGER.address, minEvidenceTier: 0 });
    chain.versions.set(VERSION_ID, {
      versionId: VERSION_ID,
      assetId: 5,
      manifestHash: MANIFEST,
      usableUntil: 2 ** 40 - 1,
    });
    setLicense({});
    gateway = await startGateway(
      {
        ...GATEWAY_DEFAULTS,
        port: 0,
        operatorId: 2,
        signer: localSigner(OPERATOR_KEY.privateKey),
        models: [
          {
            id: "writer",
            upstreams: [{ url: upstream.url }],
            assetId: 5,
            versionId: VERSION_ID,
            manifestHash: MANIFEST,
          },
        ],
      },
      { chain, store, log: createLog("error", () => {}) },
    );
  });

  afterEach(async () => {
    await gateway.close();
    await upstream.stop();
    await store.close();
    rmSync(folder, { recursive: true });
  });

  function setLicense(changes: object): void {
    chain.licenses.set(1n, {
      licenseId: 1n,
      owner: OWNER.address,
      planId: 3,
      operatorId: 2,
      generation: 1,
      balance: 1_000_000n,
      thawing: 0n,
      owed: 0n,
      spent: 0n,
      cap: 0n,
      expiresAt: chain.time + 10_000,
      countsFrom: 0,
      signedSince: 0,
      renewal: "none",
      onVoucherRoad: false,
      stop: null,
      serviceChange: null,
      planChange: null,
      formerPlan: null,
      ...changes,
    });
  }

  const keyed = (fields: Partial<Grant> = {}) => grantWith({ key: REQUEST_KEY.address, ...fields });
  const tokenOf = (grant: Grant) =>
    bearerOf({ grant, signature: signDigest(OWNER.privateKey, grantDigest(DOMAIN, grant)) });

  interface Signing {
    grant?: Grant;
    body?: string;
    at?: number;
    key?: Wallet;
    domain?: typeof DOMAIN;
  }

  /** What the grant's key signs for a body. */
  function signatureFor({
    grant = keyed(),
    body = BODY,
    at = chain.time,
    key = REQUEST_KEY,
    domain = DOMAIN,
  }: Signing = {}) {
    const requestHash = saltedHash(grant.salt, Buffer.from(body));
    const digest = requestDigest(domain, { grantHash: grantDigest(domain, grant), requestHash, at });
    return packRequestSignature(at, signDigest(key.privateKey, digest));
  }

  async function post(signature: string | null, { grant = keyed(), body = BODY } = {}) {
    const headers: Record<string, string> = {
      "content-type": "application/json",
      authorization: `Bearer ${tokenOf(grant)}`,
    };
    if (signature !== null) headers[REQUEST_SIGNATURE_HEADER] = signature;
    const answer = await request(`${gateway.url}/v1/chat/completions`, { method: "POST", headers, body });
    const json = (await answer.body.json()) as { error?: { code: string; message: string; type: string } };
    return { status: answer.statusCode, code: json.error?.code, type: json.error?.type, message: json.error?.message };
  }

  async function receipts(): Promise<Receipt[]> {
    const lane = { operatorId: 2, planId: 3, versionId: VERSION_ID };
    return (await store.unbatched.receipts(lane, { epochStart: 0, epochEnd: 2 ** 40 })).map(({ receipt }) => receipt);
  }

  it("are served, and their receipts have the hash of what was signed", async () => {
    const signature = signatureFor();
    expect(await post(signature)).to.include({ status: 200 });
    const [receipt] = await receipts();
    expect(receipt.requestSignatureHash).to.equal(keccak256(signature));
    expect(receipt.requestHash).to.equal(saltedHash(keyed().salt, Buffer.from(BODY)));
  });

  it("can be shown afterwards, to whoever has the grant", async () => {
    const signature = signatureFor();
    await post(signature);
    const headers = { authorization: `Bearer ${tokenOf(keyed())}` };
    const list = await request(`${gateway.url}/v1/receipts`, { headers });
    const { data } = (await list.body.json()) as { data: { request_signature: string; receipt: Receipt }[] };
    expect(data.map((one) => one.request_signature)).to.deep.equal([signature]);
    const one = await request(`${gateway.url}/v1/receipts/${data[0].receipt.requestId}`, { headers });
    expect(await one.body.json()).to.deep.equal(data[0]);
  });

  it("needn't be signed under a grant without a key, and then have no such hash", async () => {
    expect(await post(null, { grant: grantWith() })).to.include({ status: 200 });
    expect((await receipts())[0].requestSignatureHash).to.equal(ZeroHash);
  });

  const wrong: [string, () => string | null, string, RegExp][] = [
    ["without a signature", () => null, "request_unsigned", /must be signed by 0x.*x-licet-request-signature/],
    ["with something else", () => "0x1234", "malformed_request_signature", /must be 70 bytes in hex/],
    ["signed by another", () => signatureFor({ key: STRANGER }), "wrong_request_signature", /the grant's key is 0x/],
    ["signed for another body", () => signatureFor({ body: BODY + " " }), "wrong_request_signature", /sign the bytes/],
    [
      "signed under another grant",
      () => signatureFor({ grant: keyed({ cap: 7n }) }),
      "wrong_request_signature",
      /if its grant is 0x/,
    ],
    [
      "signed for another chain",
      () => signatureFor({ domain: { ...DOMAIN, chainId: 1n } }),
      "wrong_request_signature",
      /the grant's key is 0x/,
    ],
    ["signed too long ago", () => signatureFor({ at: chain.time - 121 }), "request_signature_expired", /within 120 s/],
    ["signed ahead of time", () => signatureFor({ at: chain.time + 31 }), "request_signature_expired", /set the clock/],
    [
      "with a time that wasn't signed",
      () => packRequestSignature(chain.time - 1, `0x${signatureFor().slice(12)}`),
      "wrong_request_signature",
      /the grant's key is 0x/,
    ],
  ];
  for (const [what, signature, code, message] of wrong) {
    it(`are refused ${what}, and reach no model`, async () => {
      const refused = await post(signature());
      expect(refused).to.include({ status: 401, code, type: "authentication_error" });
      expect(refused.message).to.match(message);
      expect(upstream.received).to.have.length(0);
    });
  }

  describe("of a license whose owner demands them", () => {
    const longest = 330;

    it("are served, and under a grant without a key none is that might end when they are demanded", async () => {
      setLicense({ signedSince: chain.time + longest });
      await gateway.refresh(1n);
      const refused = await post(null, { grant: grantWith() });
      expect(refused).to.include({ status: 403, code: "signed_requests_demanded" });
      expect(refused.message).to.match(/from 2023-11-14T.* on: use a grant that names a key/);
      expect(upstream.received).to.have.length(0);
      expect(await post(signatureFor())).to.include({ status: 200 });
    });

    it("are served under no grant that a contract has signed, which could deny it before the court", async () => {
      const contract = "0x00000000000000000000000000000000000000C0";
      const digest = grantDigest(DOMAIN, keyed());
      chain.accepted.add(`${contract} ${digest} ${signDigest(OWNER.privateKey, digest)}`);
      setLicense({ owner: contract, signedSince: chain.time + longest + 1 });
      await gateway.refresh(1n);
      expect(await post(signatureFor())).to.include({ status: 200 });
      setLicense({ owner: contract, signedSince: chain.time + longest });
      await gateway.refresh(1n);
      const refused = await post(signatureFor({ at: chain.time - 1 }));
      expect(refused).to.include({ status: 403, code: "grant_unprovable" });
      expect(refused.message).to.match(/0x0+C0 is a contract, which could deny later.*end the demand/);
      expect(upstream.received).to.have.length(1);
    });

    it("may come under a grant without a key as long as they aren't demanded yet", async () => {
      setLicense({ signedSince: chain.time + longest + 1 });
      await gateway.refresh(1n);
      expect(await post(null, { grant: grantWith() })).to.include({ status: 200 });
    });
  });

  it("are taken for two minutes, and half a minute ahead: then their receipts are of no earlier than they", async () => {
    for (const at of [chain.time - 120, chain.time + 30]) {
      expect(await post(signatureFor({ at }))).to.include({ status: 200 });
    }
    const [old, ahead] = await receipts();
    expect([old.finishedAt, ahead.finishedAt]).to.deep.equal([chain.time, chain.time + 30]);
  });

  it("are served once: whoever shows one again, even at once, is refused", async () => {
    const signature = signatureFor();
    const answers = await Promise.all([post(signature), post(signature), post(signature)]);
    expect(answers.map(({ status }) => status).sort()).to.deep.equal([200, 401, 401]);
    expect(await post(signature)).to.include({ status: 401, code: "request_signature_used" });
    expect(await post(signatureFor({ at: chain.time - 1 }))).to.include({ status: 200 });
    expect(await receipts()).to.have.length(2);
    expect(gateway.figures().reserved).to.equal(0n);
  });

  it("may come again where no server could be reached", async () => {
    await upstream.stop();
    const signature = signatureFor();
    expect(await post(signature)).to.include({ status: 503, code: "upstream_unreachable" });
    expect(await post(signature)).to.include({ status: 503, code: "upstream_unreachable" });
  });

  it("have a receipt with their signature where the model failed, too", async () => {
    upstream.script = failing(500, { error: "broken" });
    const signature = signatureFor();
    expect(await post(signature)).to.include({ status: 500 });
    const [receipt] = await receipts();
    expect(receipt).to.include({ requestSignatureHash: keccak256(signature), outputTokens: 0n });
  });
});
