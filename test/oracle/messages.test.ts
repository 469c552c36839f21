import { expect } from "chai";
import { getAddress, id, keccak256, concat, SigningKey, TypedDataEncoder, Wallet, ZeroAddress } from "ethers";
import fc from "../support/fastCheck";
import {
  BATCH_TYPES,
  batchDigest,
  decodeBearer,
  DISCLOSURE_TYPES,
  disclosureDigest,
  encodeBearer,
  FINDING_TYPES,
  findingDigest,
  GRANT_TYPES,
  grantDigest,
  headerFromJson,
  headerToJson,
  MalformedMessage,
  MEASUREMENT_TYPES,
  measurementDigest,
  measurementFromJson,
  measurementToJson,
  PROPOSAL_TYPES,
  proposalDigest,
  RECEIPT_TYPES,
  receiptDigest,
  recoverSigner,
  REQUEST_TYPES,
  requestDigest,
  REVOCATION_TYPES,
  revocationDigest,
  saltedHash,
  SaltedHasher,
  SEED_REQUEST_TYPES,
  seedRequestDigest,
  signDigest,
  signedGrantFromJson,
  signedGrantToJson,
  signedReceiptFromJson,
  signedReceiptHash,
  signedReceiptToJson,
} from "../../oracle/protocol/messages";
import {
  bearerOf,
  anyGrant,
  anyHeader,
  anyMeasurement,
  anyReceipt,
  DOMAIN,
  grantWith,
  receiptWith,
} from "../support/fakeMessages";

const wallet = new Wallet("0x" + "42".repeat(32));
const DIGEST = keccak256("0x1234");
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

/** The other signature that mathematics allows for the same digest and key. */
function highTwin(signature: string): string {
  const s = CURVE_ORDER - BigInt("0x" + signature.slice(66, 130));
  return signature.slice(0, 66) + s.toString(16).padStart(64, "0") + (signature.endsWith("1b") ? "1c" : "1b");
}

describe("messages", () => {
  describe("digests", () => {
    const ethersDigest = (types: typeof GRANT_TYPES, message: object) => TypedDataEncoder.hash(DOMAIN, types, message);

    it("are those of ethers for every grant", () => {
      fc.assert(fc.property(anyGrant, (grant) => grantDigest(DOMAIN, grant) === ethersDigest(GRANT_TYPES, grant)));
    });

    it("are those of ethers for every receipt", () => {
      fc.assert(
        fc.property(anyReceipt, (receipt) => receiptDigest(DOMAIN, receipt) === ethersDigest(RECEIPT_TYPES, receipt)),
      );
    });

    it("are those of ethers for every batch header", () => {
      fc.assert(fc.property(anyHeader, (header) => batchDigest(DOMAIN, header) === ethersDigest(BATCH_TYPES, header)));
    });

    it("are those of ethers for a finding, and for a request of a seed", () => {
      const request = { operatorId: 7, at: 1_700_000_000 };
      const finding = { operatorId: 7, receiptSigner: wallet.address, tier: 3, from: 1, until: 2 ** 40 - 1 };
      const found = { ...finding, evidenceHash: DIGEST };
      expect(seedRequestDigest(DOMAIN, request)).to.equal(ethersDigest(SEED_REQUEST_TYPES, request));
      expect(findingDigest(DOMAIN, found)).to.equal(ethersDigest(FINDING_TYPES, found));
    });

    it("are those of ethers for every measurement", () => {
      fc.assert(
        fc.property(anyMeasurement, (m) => measurementDigest(DOMAIN, m) === ethersDigest(MEASUREMENT_TYPES, m)),
      );
    });

    it("is that of ethers for a question for disclosed bodies", () => {
      const disclosure = { operatorId: 7, requestId: DIGEST, at: 2 ** 40 - 1 };
      expect(disclosureDigest(DOMAIN, disclosure)).to.equal(ethersDigest(DISCLOSURE_TYPES, disclosure));
    });

    it("is that of ethers for a proposal, and for a revocation", () => {
      const proposal = { batchId: DIGEST };
      expect(proposalDigest(DOMAIN, proposal)).to.equal(ethersDigest(PROPOSAL_TYPES, proposal));
      const revocation = { grantHash: DIGEST, licenseId: 7n, operatorId: 2, expiresAt: 9 };
      expect(revocationDigest(DOMAIN, revocation)).to.equal(ethersDigest(REVOCATION_TYPES, revocation));
    });

    it("are those of ethers for every request", () => {
      const anyRequest = anyReceipt.map(({ grantHash, requestHash, finishedAt }) => ({
        grantHash,
        requestHash,
        at: finishedAt,
      }));
      fc.assert(
        fc.property(anyRequest, (request) => requestDigest(DOMAIN, request) === ethersDigest(REQUEST_TYPES, request)),
      );
    });

    it("bind the chain and the contract", () => {
      const elsewhere = { ...DOMAIN, chainId: 1n };
      expect(grantDigest(DOMAIN, grantWith())).not.to.equal(grantDigest(elsewhere, grantWith()));
      expect(grantDigest(elsewhere, grantWith())).to.equal(TypedDataEncoder.hash(elsewhere, GRANT_TYPES, grantWith()));
    });

    it("refuse a field out of range and name it", () => {
      expect(() => receiptDigest(DOMAIN, receiptWith({ inputTokens: 2n ** 32n }))).to.throw(
        MalformedMessage,
        "inputTokens must fit in uint32, not 4294967296",
      );
      expect(() => grantDigest(DOMAIN, grantWith({ salt: "0x1234" }))).to.throw("salt must have 32 bytes, not 2");
    });
  });

  describe("signatures", () => {
    it("are byte for byte those of ethers", () => {
      expect(signDigest(wallet.privateKey, DIGEST)).to.equal(new SigningKey(wallet.privateKey).sign(DIGEST).serialized);
    });

    it("give back their signer", () => {
      const anyKey = fc.bigInt({ min: 1n, max: CURVE_ORDER - 1n }).map((k) => "0x" + k.toString(16).padStart(64, "0"));
      fc.assert(
        fc.property(anyKey, (key) => recoverSigner(DIGEST, signDigest(key, DIGEST)) === new Wallet(key).address),
        { numRuns: 25 },
      );
    });

    it("are refused with the upper s, though the curve accepts them", () => {
      const signature = highTwin(signDigest(wallet.privateKey, DIGEST));
      expect(() => recoverSigner(DIGEST, signature)).to.throw(MalformedMessage, "upper half");
    });

    it("are refused at any other length than 65 bytes", () => {
      const signature = signDigest(wallet.privateKey, DIGEST);
      expect(() => recoverSigner(DIGEST, signature.slice(0, -2))).to.throw("signature must have 65 bytes, not 64");
      expect(() => recoverSigner(DIGEST, signature + "00")).to.throw("signature must have 65 bytes, not 66");
    });

    it("are refused with another v than 27 or 28", () => {
      const signature = signDigest(wallet.privateKey, DIGEST).slice(0, -2) + "00";
      expect(() => recoverSigner(DIGEST, signature)).to.throw("v must be 27 or 28, not 0");
    });

    it("are refused if no key can have made them", () => {
      expect(() => recoverSigner(DIGEST, "0x" + "00".repeat(64) + "1b")).to.throw(MalformedMessage, "is of no key");
    });
  });

  describe("a signed receipt's hash", () => {
    const signature = signDigest(wallet.privateKey, DIGEST);

    it("is keccak256 of the receipt's hash and the signature", () => {
      expect(signedReceiptHash(DIGEST, signature)).to.equal(keccak256(concat([DIGEST, signature])));
      expect(signedReceiptHash("0x" + "12".repeat(32), `0x${"34".repeat(64)}1c`)).to.equal(
        "0xaac6bd398a056f4c20dadb75671224f465500a85c3f682bf1ba3cae4ca411caf",
      );
    });

    it("is of another key's signature another", () => {
      expect(signedReceiptHash(DIGEST, signDigest(id("another key"), DIGEST))).not.to.equal(
        signedReceiptHash(DIGEST, signature),
      );
    });

    it("is of a signature in its one form only", () => {
      expect(() => signedReceiptHash(DIGEST, highTwin(signature))).to.throw(MalformedMessage, "upper half");
      expect(() => signedReceiptHash(DIGEST, signature.slice(0, -2) + "01")).to.throw("v must be 27 or 28, not 1");
      expect(() => signedReceiptHash(DIGEST, signature.slice(0, -2))).to.throw("signature must have 65 bytes, not 64");
      expect(() => signedReceiptHash("0x12", signature)).to.throw("receipt hash must have 32 bytes, not 1");
    });
  });

  describe("bearer tokens", () => {
    const anySigned = fc.record({
      grant: anyGrant,
      signature: fc
        .uint8Array({ minLength: 1, maxLength: 200 })
        .map((bytes) => "0x" + Buffer.from(bytes).toString("hex")),
    });

    it("carry any grant and signature there and back", () => {
      fc.assert(
        fc.property(anySigned, (signed) => {
          const back = decodeBearer(bearerOf(signed));
          expect(back).to.deep.equal({ ...signed, grant: { ...signed.grant, key: getAddress(signed.grant.key) } });
        }),
      );
    });

    it("pack the grant into 80 bytes before the signature", () => {
      const token = bearerOf({ grant: grantWith({ licenseId: 258n, key: ZeroAddress }), signature: "0xabcd" });
      const bytes = Buffer.from(token, "base64url");
      expect(bytes).to.have.length(82);
      expect(bytes.subarray(0, 8).toString("hex")).to.equal("0000000000000102");
      expect(bytes.subarray(80).toString("hex")).to.equal("abcd");
    });

    it("have a secret that who is shown grant and signature can't find out, and no salt", () => {
      const secret = "0x" + "77".repeat(32);
      const signed = { grant: grantWith({ salt: keccak256(secret) }), signature: "0xabcd" };
      const token = encodeBearer(signed, secret);
      expect(decodeBearer(token)).to.deep.equal(signed);
      const bytes = Buffer.from(token, "base64url");
      expect(bytes.subarray(48, 80).toString("hex")).to.equal("77".repeat(32));
      expect(bytes.includes(Buffer.from(signed.grant.salt.slice(2), "hex"))).to.equal(false);
      // What an attestor could try: the salt that it knows, in place of the secret that it doesn't.
      expect(() => encodeBearer(signed, signed.grant.salt)).to.throw(MalformedMessage, "salt isn't this secret's");
      bytes.set(Buffer.from(signed.grant.salt.slice(2), "hex"), 48);
      expect(decodeBearer(bytes.toString("base64url")).grant.salt).not.to.equal(signed.grant.salt);
    });

    it("are refused with a reason when they aren't one", () => {
      expect(() => decodeBearer("sk-not/ours")).to.throw(MalformedMessage, "base64url");
      expect(() => decodeBearer("")).to.throw("base64url");
      expect(() => decodeBearer("c2hvcnQ")).to.throw("cut short");
    });

    it("are refused with a signature that is longer than any account needs", () => {
      const token = (bytes: number) => bearerOf({ grant: grantWith(), signature: `0x${"ab".repeat(bytes)}` });
      expect(decodeBearer(token(2_048)).signature).to.have.length(2 + 2 * 2_048);
      expect(() => decodeBearer(token(2_049))).to.throw(MalformedMessage, "at most 2048 bytes");
    });

    it("are refused with a license that can't be, and that no store could keep", () => {
      const token = (licenseId: bigint) => bearerOf({ grant: grantWith({ licenseId }), signature: "0xabcd" });
      expect(decodeBearer(token(2n ** 63n - 1n)).grant.licenseId).to.equal(2n ** 63n - 1n);
      expect(() => decodeBearer(token(2n ** 63n))).to.throw(
        MalformedMessage,
        "licenseId must be below 2^63, not 9223372036854775808",
      );
    });

    it("have one spelling only", () => {
      const token = bearerOf({ grant: grantWith(), signature: "0xabcd" });
      const stray = token.slice(0, -1) + String.fromCharCode(token.charCodeAt(token.length - 1) + 1);
      expect(() => decodeBearer(stray)).to.throw("stray bits");
      expect(() => decodeBearer(token + "=")).to.throw("without padding");
    });
  });

  describe("salted hashes", () => {
    const salt = "0x" + "5a".repeat(32);

    it("are keccak256 of salt and bytes", () => {
      const body = Buffer.from('{"model":"m"}');
      expect(saltedHash(salt, body)).to.equal(keccak256(concat([salt, body])));
    });

    it("are the same in pieces, with others running in between", async () => {
      const anyPieces = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 });
      await fc.assert(
        fc.asyncProperty(anyPieces, anyPieces, async (ours, theirs) => {
          const [a, b] = [await SaltedHasher.start(salt), await SaltedHasher.start(salt)];
          for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
            a.update(ours[i] ?? new Uint8Array());
            b.update(theirs[i] ?? new Uint8Array());
          }
          expect(a.digest()).to.equal(saltedHash(salt, Buffer.concat(ours)));
          expect(b.digest()).to.equal(saltedHash(salt, Buffer.concat(theirs)));
        }),
      );
    });
  });

  describe("JSON", () => {
    const overTheWire = (json: unknown) => JSON.parse(JSON.stringify(json));
    const signature = "0x" + "ab".repeat(65);

    it("carries receipts, grants, headers and measurements there and back", () => {
      fc.assert(
        fc.property(anyReceipt, anyGrant, anyHeader, anyMeasurement, (receipt, grant, header, measurement) => {
          const signedReceipt = { receipt, signature };
          expect(signedReceiptFromJson(overTheWire(signedReceiptToJson(signedReceipt)))).to.deep.equal(signedReceipt);
          const signedGrant = { grant: { ...grant, key: getAddress(grant.key) }, signature };
          expect(signedGrantFromJson(overTheWire(signedGrantToJson(signedGrant)))).to.deep.equal(signedGrant);
          expect(headerFromJson(overTheWire(headerToJson(header)))).to.deep.equal(header);
          expect(measurementFromJson(overTheWire(measurementToJson(measurement)))).to.deep.equal(measurement);
        }),
      );
    });

    it("writes money, wide ids and meters as decimal strings", () => {
      const { receipt } = overTheWire(signedReceiptToJson({ receipt: receiptWith(), signature }));
      expect(receipt).to.include({ licenseId: "1", inputTokens: "30", operatorId: 2, finishedAt: 1_700_000_000 });
    });

    const refusals: [string, object, string][] = [
      ["a meter above a uint32", { inputTokens: "4294967296" }, "inputTokens must fit in uint32, not 4294967296"],
      ["a meter as a number", { inputTokens: 30 }, "inputTokens must be a decimal string, not 30"],
      ["a negative", { outputTokens: "-1" }, "outputTokens must be a decimal string"],
      ["a leading zero", { licenseId: "01" }, "licenseId must be a decimal string"],
      ["a fraction", { durationMs: 1.5 }, "durationMs must be a whole number, not 1.5"],
      ["an id out of range", { operatorId: 2 ** 24 }, "operatorId must fit in uint24, not 16777216"],
      ["a license that can't be", { licenseId: String(2n ** 63n) }, "licenseId must be below 2^63"],
      ["a sequence that can't be", { sequence: String(2n ** 64n - 1n) }, "sequence must be below 2^63"],
      ["a short hash", { requestId: "0x01" }, "requestId must have 32 bytes, not 1"],
      ["a hash without 0x", { requestId: "01".repeat(32) }, "requestId must be a hex string"],
      ["an unknown field", { tip: "1" }, 'Receipt has unknown fields ["tip"]'],
    ];
    for (const [what, change, message] of refusals) {
      it(`refuses ${what}`, () => {
        const json = overTheWire(signedReceiptToJson({ receipt: receiptWith(), signature }));
        const changed = { ...json, receipt: { ...json.receipt, ...change } };
        expect(() => signedReceiptFromJson(changed)).to.throw(MalformedMessage, message);
      });
    }

    it("refuses a version that can't be", () => {
      const [header] = fc.sample(anyHeader, 1);
      const changed = headerToJson({ ...header, versionId: 2n ** 63n });
      expect(() => headerFromJson(changed)).to.throw(MalformedMessage, "versionId must be below 2^63");
    });

    it("refuses what lacks a field or isn't an object", () => {
      expect(() => signedReceiptFromJson({ receipt: {} })).to.throw("signed receipt lacks signature");
      expect(() => headerFromJson([])).to.throw("Batch must be a JSON object");
    });
  });
});
