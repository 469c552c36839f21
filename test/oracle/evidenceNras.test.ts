import { expect } from "chai";
import { hexlify, randomBytes } from "ethers";
import { createHash, createHmac, generateKeyPairSync } from "node:crypto";
import { type NrasPolicy, type NrasToken, nrasTokenOf, verifyNrasToken } from "../../oracle/evidence/nras";
import { Refused } from "../../oracle/evidence/verdict";
import {
  es384,
  NOW,
  nrasBase,
  nrasDevice,
  nrasHeader,
  nrasPolicy,
  nrasService,
  nrasToken,
  nvidiaService,
  reasonAgainst,
  token,
} from "../support/evidence";

describe("the verifier of NVIDIA's tokens", () => {
  const nonce = hexlify(randomBytes(32));
  const question = { nonce, at: NOW };

  const verdictOn = (evidence: NrasToken, policy: Partial<NrasPolicy> = {}, asked = question) =>
    verifyNrasToken(evidence, nrasPolicy(policy), asked);
  const refusal = async (evidence: NrasToken, policy: Partial<NrasPolicy> = {}, asked = question) =>
    reasonAgainst(await verdictOn(evidence, policy, asked), "fail");
  const deviceWith = (changes: Record<string, unknown>) =>
    nrasToken(nonce, { devices: { "GPU-0": { ...nrasDevice(nonce), ...changes } } });

  /** A token for all with this header and signature, over the usual claims. */
  const overallBy = (header: object, signature: (input: Buffer) => Buffer): NrasToken => {
    const { devices } = nrasToken(nonce);
    const digest = createHash("sha256").update(devices["GPU-0"]).digest("hex");
    const claims = {
      ...nrasBase(nonce),
      "x-nvidia-overall-att-result": true,
      submods: { "GPU-0": ["DIGEST", ["SHA-256", digest]] },
    };
    return { overall: token(header, claims, signature), devices };
  };

  it("passes a token of the service, and says of which GPUs", async () => {
    const devices = { "GPU-0": nrasDevice(nonce, "11"), "GPU-1": nrasDevice(nonce, "22") };
    const { result, reason, claims } = await verdictOn(nrasToken(nonce, { devices }));
    expect(result, reason).to.equal("pass");
    const gpu = { model: "GH100 A01 GSP BROM", driverVersion: "550.90.07", vbiosVersion: "96.00.9F.00.01" };
    expect(claims).to.deep.equal({
      kind: "nras",
      devices: ["nvidia-ueid:11", "nvidia-ueid:22"],
      gpus: [gpu, gpu],
      issuedAt: NOW - 10,
    });
  });

  describe("when it isn't signed as it must be", () => {
    it("fails with no algorithm, with and without a signature", async () => {
      for (const alg of ["none", "None", undefined]) {
        const header = { kid: "key-1", alg };
        expect(await refusal(overallBy(header, () => Buffer.alloc(0)))).to.match(
          /only ES384 is accepted|has no field alg/,
        );
        expect(await refusal(overallBy(header, es384(nvidiaService())))).to.match(
          /only ES384 is accepted|has no field alg/,
        );
      }
    });

    it("fails with an HMAC keyed by the public key, in each form in which it is public", async () => {
      const { publicKey, key } = nvidiaService();
      const secrets = [
        publicKey.export({ type: "spki", format: "pem" }),
        publicKey.export({ type: "spki", format: "der" }),
        JSON.stringify(key),
        Buffer.from(key.x, "base64url"),
      ];
      for (const secret of secrets) {
        const hmac = (input: Buffer) => createHmac("sha256", secret).update(input).digest();
        expect(await refusal(overallBy({ kid: "key-1", alg: "HS256" }, hmac))).to.match(
          /signed by "HS256"; only ES384 is accepted/,
        );
      }
    });

    it("fails with ES256 by a key on P-256, also where the policy holds that key", async () => {
      const small = nrasService("P-256");
      const evidence = overallBy({ kid: "key-1", alg: "ES256" }, es384(small, "sha256"));
      expect(await refusal(evidence, { keys: [small.key] })).to.match(/"ES256"; only ES384/);
      const mislabeled = overallBy({ kid: "key-1", alg: "ES384" }, es384(small, "sha384"));
      expect(await refusal(mislabeled, { keys: [small.key] })).to.match(/"key-1" as EC P-256; ES384 needs EC P-384/);
    });

    it("is unknown with a key id that the policy hasn't, and fails with another key under an id that it has", async () => {
      const stranger = nrasService("P-384", "key-2");
      const verdict = await verdictOn(nrasToken(nonce, { service: stranger }));
      expect(reasonAgainst(verdict, "unknown")).to.match(
        /signed with the key "key-2", which the attestor doesn't have/,
      );
      const impostor = nrasService("P-384", "key-1");
      expect(await refusal(nrasToken(nonce, { service: impostor }))).to.match(/isn't signed by the key "key-1"/);
    });

    it("fails where the policy has the id twice", async () => {
      const keys = [nvidiaService().key, nrasService().key];
      expect(await refusal(nrasToken(nonce), { keys })).to.match(/has the key "key-1" twice/);
    });

    it("fails with a key of its own in the header, and with anything else there that means something", async () => {
      const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
      const jwk = publicKey.export({ format: "jwk" });
      for (const extra of [{ jwk }, { x5c: [] }, { jku: "https://evil.example" }, { crit: ["b64"], b64: false }]) {
        const header = { ...nrasHeader(nvidiaService()), ...extra };
        expect(await refusal(overallBy(header, es384({ privateKey })))).to.match(
          /header has a field .* which means nothing here/,
        );
      }
    });

    it("fails with a signature in DER, of another curve's length, or empty", async () => {
      for (const signature of [Buffer.alloc(64, 1), Buffer.alloc(0), Buffer.alloc(96)]) {
        expect(await refusal(overallBy(nrasHeader(nvidiaService()), () => signature))).to.match(
          /isn't signed by the key/,
        );
      }
    });

    it("fails with any character of the token changed", async () => {
      const evidence = nrasToken(nonce);
      for (let index = 0; index < evidence.overall.length; index += 7) {
        const other = evidence.overall[index] === "A" ? "B" : "A";
        const overall = evidence.overall.slice(0, index) + other + evidence.overall.slice(index + 1);
        expect((await verdictOn({ ...evidence, overall })).result, `character ${index}`).to.not.equal("pass");
      }
    });

    it("fails with claims of one token under the signature of another", async () => {
      const evidence = nrasToken(nonce);
      const [head, , signature] = evidence.overall.split(".");
      const other = nrasToken(nonce, { overall: { extra: 1 } }).overall.split(".")[1];
      expect(await refusal({ ...evidence, overall: [head, other, signature].join(".") })).to.match(
        /isn't signed by the key/,
      );
    });

    it("fails with a signature over what holds no claims", async () => {
      const { devices } = nrasToken(nonce);
      for (const claims of [[], null, 5]) {
        const overall = token(nrasHeader(nvidiaService()), claims, es384(nvidiaService()));
        expect(await refusal({ overall, devices })).to.equal("NVIDIA's token holds no claims.");
      }
    });

    it("fails with parts too few or too many, padding, and what is no JSON", async () => {
      const { overall, devices } = nrasToken(nonce);
      for (const [text, reason] of [
        [overall.split(".").slice(0, 2).join("."), /has 2 parts/],
        [`${overall}.AAAA`, /has 4 parts/],
        [`${overall}==`, /must be base64url without padding/],
        ["", /has 1 parts/],
        ["AAAA.AAAA.AAAA", /can't be read/],
      ] as [string, RegExp][]) {
        expect(await refusal({ overall: text, devices })).to.match(reason);
      }
    });
  });

  describe("when it is of another time, place or question", () => {
    const at = (claims: Record<string, unknown>) => refusal(nrasToken(nonce, { overall: claims }));

    it("fails with another issuer", async () => {
      expect(await at({ iss: "https://evil.example" })).to.match(
        /was issued by "https:\/\/evil.example", not by "https:\/\/nras.example"/,
      );
    });

    it("fails with another audience than the policy names, or none", async () => {
      expect(await refusal(nrasToken(nonce), { audience: "licet" })).to.match(/is for undefined, not for "licet"/);
      const devices = { "GPU-0": { ...nrasDevice(nonce), aud: "licet" } };
      const addressed = (aud: string) => nrasToken(nonce, { overall: { aud }, devices });
      expect(await refusal(addressed("other"), { audience: "licet" })).to.match(/is for "other"/);
      expect((await verdictOn(addressed("licet"), { audience: "licet" })).result).to.equal("pass");
    });

    it("fails once it has ended, before it begins, and where it comes from the future", async () => {
      expect(await at({ exp: NOW })).to.match(/ended at/);
      expect(await at({ nbf: NOW + 61 })).to.match(/isn't valid before/);
      expect(await at({ iat: NOW + 61 })).to.match(/isn't valid before/);
      expect((await verdictOn(nrasToken(nonce, { overall: { iat: NOW + 60, nbf: NOW + 60 } }))).result).to.equal(
        "pass",
      );
    });

    it("fails when it is older than the policy accepts", async () => {
      expect(await at({ iat: NOW - 601 })).to.match(/is 601 seconds old, and the policy accepts 600/);
      expect((await verdictOn(nrasToken(nonce, { overall: { iat: NOW - 600 } }))).result).to.equal("pass");
    });

    it("fails with times missing or that are no numbers", async () => {
      for (const name of ["iat", "nbf", "exp"]) {
        for (const value of [undefined, "soon", 1.5, -1, 1e300])
          expect(await at({ [name]: value })).to.match(/not a time in seconds/);
      }
    });

    it("fails with another nonce, in the token for all or in a part", async () => {
      const other = "ab".repeat(32);
      expect(await at({ eat_nonce: other })).to.match(/Attest again, with the nonce of this seed/);
      expect(await refusal(deviceWith({ eat_nonce: other }))).to.match(/of GPU-0 has the nonce "abab/);
      expect(await at({ eat_nonce: [nonce.slice(2)] })).to.match(/has the nonce \[/);
    });
  });

  describe("when NVIDIA found something", () => {
    it("fails as a whole", async () => {
      for (const result of [false, "true", 1, undefined]) {
        expect(await refusal(nrasToken(nonce, { overall: { "x-nvidia-overall-att-result": result } }))).to.match(
          /failed as a whole/,
        );
      }
    });

    it("fails with each finding that isn't as it must be, also where it is missing", async () => {
      const needed = Object.keys(nrasDevice(nonce)).filter((name) =>
        /^x-nvidia-gpu-.*(check|match|verified|parsed|fetched|available|conflict)$/.test(name),
      );
      expect(needed).to.have.length(14);
      for (const name of [...needed, "secboot"]) {
        expect(await refusal(deviceWith({ [name]: false })), name).to.contain(`${name} is false, where true is needed`);
        expect(await refusal(deviceWith({ [name]: undefined })), name).to.contain(`${name} is undefined`);
      }
      expect(await refusal(deviceWith({ measres: "fail" }))).to.match(/measres is "fail", where "success" is needed/);
      expect(await refusal(deviceWith({ dbgstat: "enabled" }))).to.match(
        /dbgstat is "enabled", where "disabled" is needed/,
      );
    });

    it("fails with a certificate that is expired or revoked, and with a chain that it doesn't mention", async () => {
      for (const name of ["attestation-report", "driver-rim", "vbios-rim"].map(
        (part) => `x-nvidia-gpu-${part}-cert-chain`,
      )) {
        const good = { "x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good" };
        for (const chain of [
          { ...good, "x-nvidia-cert-status": "expired" },
          { ...good, "x-nvidia-cert-ocsp-status": "revoked" },
          null,
        ]) {
          expect(await refusal(deviceWith({ [name]: chain })), name).to.match(/where "valid" and "good" are needed/);
        }
      }
    });

    it("fails with a warning", async () => {
      expect(await refusal(deviceWith({ "x-nvidia-attestation-warning": "update soon" }))).to.match(
        /comes with a warning: "update soon"/,
      );
    });
  });

  describe("when a GPU isn't on the allow-list", () => {
    it("fails with another model, driver or VBIOS", async () => {
      expect(await refusal(deviceWith({ hwmodel: "AD102" }))).to.match(
        /is of a "AD102", which isn't on the allow-list/,
      );
      expect(await refusal(deviceWith({ "x-nvidia-gpu-driver-version": "1" }))).to.match(
        /driver "1" with VBIOS .* isn't on the allow-list/,
      );
      expect(await refusal(deviceWith({ "x-nvidia-gpu-vbios-version": "1" }))).to.match(
        /VBIOS "1" isn't on the allow-list/,
      );
      expect(await refusal(deviceWith({ ueid: 5 }))).to.match(/ueid must be text/);
    });

    it("is unknown where the list is empty", async () => {
      expect(reasonAgainst(await verdictOn(nrasToken(nonce), { firmware: [] }), "unknown")).to.match(
        /allows no GPU firmware yet/,
      );
    });
  });

  describe("when its parts aren't those that it names", () => {
    it("fails with a part exchanged, missing, added, or named otherwise", async () => {
      const { overall, devices } = nrasToken(nonce);
      const other = nrasToken(nonce, { devices: { "GPU-0": nrasDevice(nonce, "33") } }).devices["GPU-0"];
      expect(await refusal({ overall, devices: { "GPU-0": other } })).to.match(/isn't the one whose hash/);
      expect(await refusal({ overall, devices: {} })).to.match(/is of GPU-0, and the parts that come with it are none/);
      expect(await refusal({ overall, devices: { ...devices, "GPU-1": other } })).to.match(
        /parts that come with it are GPU-0, GPU-1/,
      );
      expect(await refusal({ overall, devices: { "GPU-1": devices["GPU-0"] } })).to.match(
        /parts that come with it are GPU-1/,
      );
    });

    it("fails with a part by another issuer's key, though its hash is named", async () => {
      const stolen = nrasService("P-384", "key-1");
      const part = token(nrasHeader(stolen), nrasDevice(nonce), es384(stolen));
      const submods = { "GPU-0": ["DIGEST", ["SHA-256", createHash("sha256").update(part).digest("hex")]] };
      const { overall } = nrasToken(nonce, { overall: { submods } });
      expect(await refusal({ overall, devices: { "GPU-0": part } })).to.match(/of GPU-0 isn't signed by the key/);
    });

    it("fails with parts named by something else than SHA-256, and with none", async () => {
      const { devices } = nrasToken(nonce);
      const withSubmods = async (submods: unknown) =>
        refusal({ overall: nrasToken(nonce, { overall: { submods } }).overall, devices });
      expect(await withSubmods({ "GPU-0": ["DIGEST", ["MD5", "00"]] })).to.match(/something else than its SHA-256/);
      expect(await withSubmods({ "GPU-0": ["DIGEST", ["SHA-256", 5]] })).to.match(/must be text/);
      expect(await withSubmods({ "GPU-0": "DIGEST" })).to.match(/something else than its SHA-256/);
      expect(await withSubmods({})).to.match(/is of nothing/);
      expect(await withSubmods(null)).to.match(/must be an object/);
    });
  });

  describe("nrasTokenOf", () => {
    it("reads what the service answers with, and refuses every other form", () => {
      const { overall, devices } = nrasToken(nonce);
      expect(nrasTokenOf([["JWT", overall], devices])).to.deep.equal({ overall, devices });
      for (const other of [
        null,
        [],
        ["JWT"],
        [["JWT", overall]],
        [["CWT", overall], devices],
        [["JWT", overall, 1], devices],
      ]) {
        expect(() => nrasTokenOf(other), JSON.stringify(other)?.slice(0, 30)).to.throw(Refused);
      }
      expect(() => nrasTokenOf([["JWT", overall], devices, 1])).to.throw(Refused, /must have the form/);
      expect(() => nrasTokenOf([["JWT", overall], { "GPU-0": 1 }])).to.throw(Refused, /must be text/);
      expect(() => nrasTokenOf([["JWT", 1], devices])).to.throw(Refused, /must be text/);
    });
  });
});
