import { expect } from "chai";
import { id, solidityPackedKeccak256, TypedDataEncoder, Wallet } from "ethers";
import { MalformedMessage, REQUEST_TYPES, requestDigest, signDigest } from "../../oracle/protocol/messages";
import {
  packRequestSignature,
  REQUEST_SIGNATURE_BYTES,
  requestSignatureBytes,
  requestSignatureHash,
  requestSignedAt,
  requestSigner,
} from "../../oracle/protocol/requestSignature";
import { DOMAIN } from "../support/fakeMessages";

const KEY = new Wallet(id("request key"));
const REQUEST = { grantHash: id("grant"), requestHash: id("request"), at: 1_700_000_000 };
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

describe("requestSignature", () => {
  const signature = signDigest(KEY.privateKey, requestDigest(DOMAIN, REQUEST));
  const packed = requestSignatureBytes(packRequestSignature(REQUEST.at, signature));

  it("is the time in 5 bytes, and the signature that any wallet makes", async () => {
    expect(packed).to.have.length(REQUEST_SIGNATURE_BYTES);
    expect(requestSignedAt(packed)).to.equal(REQUEST.at);
    expect(`0x${packed.toString("hex", 5)}`).to.equal(await KEY.signTypedData(DOMAIN, REQUEST_TYPES, REQUEST));
  });

  it("hashes as a contract packs it", () => {
    const types = ["uint40", "bytes"];
    expect(requestSignatureHash(packed)).to.equal(solidityPackedKeccak256(types, [REQUEST.at, signature]));
  });

  it("is of the type that is said everywhere", () => {
    expect(TypedDataEncoder.from(REQUEST_TYPES).encodeType("Request")).to.equal(
      "Request(bytes32 grantHash,bytes32 requestHash,uint40 at)",
    );
  });

  it("gives back its signer, and another one where anything of the request is another", () => {
    const signerOf = (changes: object, domain: object = DOMAIN, bytes = packed) =>
      requestSigner(domain, { ...REQUEST, ...changes }, bytes);
    expect(signerOf({})).to.equal(KEY.address);
    expect(signerOf({ grantHash: id("another grant") })).not.to.equal(KEY.address);
    expect(signerOf({ requestHash: id("another request") })).not.to.equal(KEY.address);
    expect(signerOf({}, { ...DOMAIN, chainId: 1n })).not.to.equal(KEY.address);
    const later = requestSignatureBytes(packRequestSignature(REQUEST.at + 1, signature));
    expect(signerOf({}, DOMAIN, later)).not.to.equal(KEY.address);
  });

  it("is refused with the upper s, so that a request has no second signature that others can make", () => {
    const s = (CURVE_ORDER - BigInt(`0x${signature.slice(66, 130)}`)).toString(16).padStart(64, "0");
    const high = signature.slice(0, 66) + s + (signature.endsWith("1b") ? "1c" : "1b");
    const bytes = requestSignatureBytes(packRequestSignature(REQUEST.at, high));
    expect(() => requestSigner(DOMAIN, REQUEST, bytes)).to.throw(MalformedMessage, "upper half of the order");
  });

  it("is refused at any other length, or in another form", () => {
    for (const bad of [undefined, "", signature, packRequestSignature(REQUEST.at, signature).slice(2)]) {
      expect(() => requestSignatureBytes(bad)).to.throw(MalformedMessage, "must be 70 bytes in hex with 0x");
    }
  });
});
