import { expect } from "chai";
import { id, Wallet } from "ethers";
import { GATEWAY_DEFAULTS, startGateway, type Gateway } from "../../oracle/gateway/gateway";
import { MOST_REVOKED } from "../../oracle/gateway/revocation";
import { localSigner } from "../../oracle/keys/digestSigner";
import { revokeGrantAt, type RevocationProof } from "../../oracle/licensee/revoke";
import { createLog } from "../../oracle/log";
import { Problem } from "../../oracle/problem";
import { grantDigest, revocationDigest, signDigest } from "../../oracle/protocol/messages";
import type { Grant, Revocation } from "../../oracle/protocol/types";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import { FakeChain } from "../support/fakeChain";
import { bearerOf, DOMAIN, grantWith, saltFrom } from "../support/fakeMessages";
import { FakeUpstream } from "../support/fakeUpstream";

const OWNER = new Wallet(id("owner"));
const STRANGER = new Wallet(id("stranger"));
const OPERATOR_KEY = new Wallet(id("operator's key"));
const OPERATOR_ID = 2;
const MANIFEST = id("manifest");

describeOnEach("revoking a grant at its gateway", (placeOf) => {
  let place: Place;
  let store: Store;
  let chain: FakeChain;
  let upstream: FakeUpstream;
  let gateway: Gateway;

  beforeEach(async () => {
    place = placeOf();
    upstream = await FakeUpstream.start();
    chain = new FakeChain();
    chain.signingKeys.set(OPERATOR_ID, [OPERATOR_KEY.address]);
    const rates = { requests: 1n, inputTokens: 0n, cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
    chain.plans.set(3, { planId: 3, assetId: 5, rates, attestor: STRANGER.address, minEvidenceTier: 0 });
    chain.versions.set(1n, { versionId: 1n, assetId: 5, manifestHash: MANIFEST, usableUntil: 2 ** 40 - 1 });
    for (const licenseId of [1n, 2n]) setLicense(licenseId, {});
    await open();
  });

  afterEach(async () => {
    await close();
    await upstream.stop();
    place.remove();
  });

  function setLicense(licenseId: bigint, changes: object): void {
    chain.licenses.set(licenseId, {
      licenseId,
      owner: licenseId === 1n ? OWNER.address : STRANGER.address,
      planId: 3,
      operatorId: OPERATOR_ID,
      generation: 1,
      balance: 1_000_000n,
      thawing: 0n,
      owed: 0n,
      spent: 0n,
      cap: 0n,
      expiresAt: chain.time + 100_000,
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

  async function open(): Promise<void> {
    store = new Store(await place.open());
    const models = [{ id: "m", upstreams: [{ url: upstream.url }], assetId: 5, versionId: 1n, manifestHash: MANIFEST }];
    const signer = localSigner(OPERATOR_KEY.privateKey);
    gateway = await startGateway(
      { ...GATEWAY_DEFAULTS, port: 0, operatorId: OPERATOR_ID, signer, models },
      { chain, store, log: createLog("error", () => {}) },
    );
  }

  async function close(): Promise<void> {
    await gateway.close();
    await store.close();
  }

  const grant = (changes: Partial<Grant> = {}) => grantWith(changes);
  const hashOf = (changes: Partial<Grant> = {}) => grantDigest(DOMAIN, grant(changes));
  const keyFor = (changes: Partial<Grant> = {}, { privateKey } = OWNER) =>
    bearerOf({ grant: grant(changes), signature: signDigest(privateKey, hashOf(changes)) });

  function signed(changes: Partial<Revocation> = {}, { privateKey } = OWNER, domain = DOMAIN): RevocationProof {
    const fields = { grantHash: hashOf(), licenseId: 1n, operatorId: OPERATOR_ID, expiresAt: chain.time + 600 };
    const revocation = { ...fields, ...changes };
    return { revocation, signature: signDigest(privateKey, revocationDigest(domain, revocation)) };
  }

  const revoke = (proof: RevocationProof) => revokeGrantAt(gateway.url, proof);

  /** The status of a chat under an API key, and the code of the error if there is one. */
  async function chat(apiKey = keyFor()): Promise<[number, string | undefined]> {
    const answer = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}` },
      body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "May I?" }], max_tokens: 1 }),
    });
    const { error } = (await answer.json()) as { error?: { code: string } };
    return [answer.status, error?.code];
  }

  async function refusalOf(proof: RevocationProof): Promise<string> {
    const error = await revoke(proof).then(
      () => null,
      (cause: Error) => cause,
    );
    expect(error).to.be.instanceOf(Problem);
    return error!.message;
  }

  const ways: [string, () => RevocationProof][] = [
    ["whoever has its API key", () => ({ apiKey: keyFor() })],
    ["its license's owner", () => signed()],
  ];
  for (const [who, proof] of ways) {
    it(`ends it at once, and no other, when ${who} says so`, async () => {
      expect(await chat()).to.deep.equal([200, undefined]);
      expect(await revoke(proof())).to.equal(chain.time);
      expect(await chat()).to.deep.equal([401, "grant_revoked"]);
      expect(await chat(keyFor({ salt: saltFrom(MANIFEST) }))).to.deep.equal([200, undefined]);
    });
  }

  it("counts from the first time on, however often it is said, and by whom", async () => {
    const first = chain.time;
    expect(await revoke(signed())).to.equal(first);
    chain.time += 10;
    expect(await revoke(signed())).to.equal(first);
    expect(await revoke({ apiKey: keyFor() })).to.equal(first);
  });

  it("survives a restart, and the signature that did it", async () => {
    await revoke(signed());
    await close();
    chain.time += 10_000;
    await open();
    expect(await chat()).to.deep.equal([401, "grant_revoked"]);
  });

  it("ends grants that were never used, or aren't valid yet, or not any more", async () => {
    await revoke({ apiKey: keyFor({ notBefore: chain.time + 1_000 }) });
    await revoke({ apiKey: keyFor({ expiresAt: chain.time - 1 }) });
    await revoke({ apiKey: keyFor({ generation: 0 }) });
    chain.time += 2_000;
    expect(await chat(keyFor({ notBefore: chain.time - 1_000 }))).to.deep.equal([401, "grant_revoked"]);
  });

  it("takes the word of an account with code", async () => {
    const account = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
    setLicense(1n, { owner: account });
    const proof = signed() as Extract<RevocationProof, { revocation: unknown }>;
    expect(await refusalOf(proof)).to.match(/answered 401, "the revocation isn't signed by the owner of license 1"/);
    const signature = "0x1234";
    chain.accepted.add(`${account} ${revocationDigest(DOMAIN, proof.revocation)} ${signature}`);
    expect(await revoke({ ...proof, signature })).to.equal(chain.time);
    const key = bearerOf({ grant: grant(), signature });
    chain.accepted.add(`${account} ${hashOf()} ${signature}`);
    expect(await chat(key)).to.deep.equal([401, "grant_revoked"]);
  });

  it("lets nobody end another license's grant, though its hash is no secret", async () => {
    expect(await refusalOf(signed({}, STRANGER))).to.match(
      /401, "the revocation isn't signed by the owner of license 1"/,
    );
    await revoke(signed({ licenseId: 2n }, STRANGER));
    expect(await chat()).to.deep.equal([200, undefined]);
  });

  const bad: [string, () => RevocationProof, RegExp][] = [
    ["a grant that its owner didn't sign", () => ({ apiKey: keyFor({}, STRANGER) }), /401, "the grant isn't signed by/],
    ["half an API key", () => ({ apiKey: keyFor().slice(0, 50) }), /401, "API key is cut short/],
    ["a license that isn't there", () => signed({ licenseId: 9n }), /401, "license 9 doesn't exist on this chain"/],
    [
      "what is meant for another operator",
      () => signed({ operatorId: 3 }),
      /403, "the revocation is for operator 3, this is 2's/,
    ],
    [
      "what was signed too long ago",
      () => signed({ expiresAt: chain.time }),
      /401, "the revocation counted until 2023-11-14T22:13:20.000Z: sign another"/,
    ],
    [
      "what was signed for another chain",
      () => signed({}, OWNER, { ...DOMAIN, chainId: 1n }),
      /401, "the revocation isn't/,
    ],
    [
      "a signature that is longer than any",
      () => ({ ...(signed() as { revocation: Revocation }), signature: "0x" + "11".repeat(2_049) }),
      /400, "signature must have at most 2048 bytes/,
    ],
  ];
  for (const [what, proof, sentence] of bad) {
    it(`refuses ${what}`, async () => {
      expect(await refusalOf(proof())).to.match(sentence);
      expect(await chat()).to.deep.equal([200, undefined]);
    });
  }

  it("refuses what is no revocation, or far too long", async () => {
    const post = async (body: string) =>
      (await fetch(`${gateway.url}/v1/grants/revoke`, { method: "POST", body })).status;
    expect(await post("{")).to.equal(400);
    expect(await post('{"revocation":{},"signature":"0x"}')).to.equal(400);
    expect(await post("null")).to.equal(400);
    expect(await post("x".repeat(9_000))).to.equal(413);
    expect(await post("")).to.equal(401);
  });

  it("says so when the chain can't be read, and has ended nothing", async () => {
    chain.isHalted = true;
    expect(await refusalOf(signed())).to.match(/503, "the chain can't be read at the moment: try again"/);
    chain.isHalted = false;
    expect(await chat()).to.deep.equal([200, undefined]);
  });

  it("keeps no more of a license than it says, and names what ends all", async () => {
    for (let i = 0; i < MOST_REVOKED; i++) await store.grants.revoke(1n, id(`grant ${i}`), 1, MOST_REVOKED);
    expect(await refusalOf(signed())).to.match(/409, "license 1 has 1000 revoked grants here: raise its generation/);
  });
});
