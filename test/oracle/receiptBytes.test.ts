import { expect } from "chai";
import { computeAddress, id, TypedDataEncoder } from "ethers";
import fc from "../support/fastCheck";
import {
  MalformedMessage,
  RECEIPT_TYPES,
  receiptDigest,
  signDigest,
  signedReceiptHash,
} from "../../oracle/protocol/messages";
import {
  checkRecord,
  countsOf,
  decodeReceipt,
  encodeReceipt,
  frameOf,
  RECORD_BYTES,
  recordDigest,
  receiptIn,
  recordLeaf,
  recordsOf,
  requestSignatureHashIn,
  splitRecord,
} from "../../oracle/protocol/receiptBytes";
import { leafHash } from "../../oracle/protocol/sumTree";
import type { Receipt, SignedReceipt } from "../../oracle/protocol/types";
import { anyReceipt, DOMAIN, receiptWith } from "../support/fakeMessages";

const KEY = id("operator");
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const signed = (receipt: Receipt): SignedReceipt => ({
  receipt,
  signature: signDigest(KEY, receiptDigest(DOMAIN, receipt)),
});
const anySigned = anyReceipt.map(signed);
const hexOf = (bytes: Uint8Array) => "0x" + Buffer.from(bytes).toString("hex");

describe("receiptBytes", () => {
  const record = encodeReceipt(signed(receiptWith()));
  const changed = (at: number, byte: number) => {
    const copy = Buffer.from(record);
    copy[at] = byte;
    return copy;
  };

  describe("a record", () => {
    it("has 351 bytes, the fields in the struct's order and then the signature", () => {
      const { signature } = signed(receiptWith());
      expect(record).to.have.length(351).and.to.have.length(RECORD_BYTES);
      expect(record.readBigUInt64BE(0)).to.equal(1n);
      expect(record.readUIntBE(8, 3)).to.equal(2);
      expect(record.readUInt32BE(11)).to.equal(3);
      expect(hexOf(record.subarray(15, 47))).to.equal(receiptWith().manifestHash);
      expect(record.readUInt32BE(282)).to.equal(0);
      expect(hexOf(record.subarray(286))).to.equal(signature);
    });

    it("decodes to the receipt that it was encoded from", () => {
      fc.assert(
        fc.property(anySigned, (one) => {
          expect(decodeReceipt(encodeReceipt(one))).to.deep.equal(one);
        }),
      );
    });

    it("has every field of its receipt, read where it is asked for", () => {
      fc.assert(
        fc.property(anySigned, ({ receipt, signature }) => {
          const read = receiptIn(encodeReceipt({ receipt, signature }));
          for (const name of Object.keys(receipt) as (keyof Receipt)[]) expect(read[name]).to.equal(receipt[name]);
        }),
      );
      expect(() => receiptIn(changed(0, 0x80))).to.throw(MalformedMessage, "licenseId must be below 2^63, not 92");
    });

    it("is the only one that decodes to its receipt: any bytes that decode encode to themselves", () => {
      const anyRecord = fc
        .tuple(anySigned.map(encodeReceipt), fc.nat(RECORD_BYTES - 1), fc.nat(255))
        .map(([bytes, at, byte]) => {
          bytes[at] = byte;
          return bytes;
        });
      let decoded = 0;
      fc.assert(
        fc.property(anyRecord, (bytes) => {
          try {
            expect(hexOf(encodeReceipt(decodeReceipt(bytes)))).to.equal(hexOf(bytes));
            decoded++;
          } catch (error) {
            if (!(error instanceof MalformedMessage)) throw error;
          }
        }),
      );
      expect(decoded).to.be.above(50);
    });

    it("says so where it is of another length", () => {
      expect(() => decodeReceipt(record.subarray(1))).to.throw(MalformedMessage, "has 351 bytes, not 350");
    });

    it("says so where an id or a number is beyond what stores hold", () => {
      expect(() => decodeReceipt(changed(0, 0x80))).to.throw(MalformedMessage, "licenseId must be below 2^63, not 92");
      const sequenceAt = 81;
      expect(() => decodeReceipt(changed(sequenceAt, 0xff))).to.throw(MalformedMessage, "sequence must be below 2^63");
      expect(() => encodeReceipt(signed(receiptWith({ sequence: 2n ** 63n })))).to.throw("sequence must be below 2^63");
    });

    it("says so where its signature isn't one of low s", () => {
      expect(() => decodeReceipt(changed(350, 29))).to.throw(MalformedMessage, "v must be 27 or 28, not 29");
      const high = Buffer.from(record);
      const s = CURVE_ORDER - BigInt(hexOf(record.subarray(318, 350)));
      high.set(Buffer.from(s.toString(16).padStart(64, "0"), "hex"), 318);
      high[350] = 55 - high[350];
      expect(() => decodeReceipt(high)).to.throw(MalformedMessage, "upper half of the order");
    });

    it("takes the highest s that is low, and not the next", () => {
      const edge = Buffer.from(record);
      edge.set(Buffer.from("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", "hex"), 318);
      expect(() => decodeReceipt(edge)).not.to.throw();
      edge[349]++;
      expect(() => decodeReceipt(edge)).to.throw("upper half of the order");
    });

    it("isn't made of what doesn't fit", () => {
      const encoding = (fields: Partial<Receipt>) => () =>
        encodeReceipt({ receipt: receiptWith(fields), signature: signed(receiptWith()).signature });
      expect(encoding({ operatorId: 2 ** 24 })).to.throw(
        MalformedMessage,
        "operatorId must fit in uint24, not 16777216",
      );
      expect(encoding({ outputTokens: 2n ** 32n })).to.throw("outputTokens must fit in uint32, not 4294967296");
      expect(encoding({ durationMs: -1 })).to.throw("durationMs must fit in uint32, not -1");
      expect(encoding({ ttftMs: 0.5 })).to.throw("ttftMs must be a whole number, not 0.5");
      expect(encoding({ requestId: "0x12" })).to.throw("requestId must be 32 bytes in hex with 0x, not 0x12");
      expect(() => encodeReceipt({ receipt: receiptWith(), signature: "0x" })).to.throw("signature must be 65 bytes");
    });
  });

  describe("a record's digest", () => {
    it("is that of ethers for every receipt", () => {
      fc.assert(
        fc.property(
          anySigned,
          (one) =>
            hexOf(recordDigest(DOMAIN, encodeReceipt(one))) ===
            TypedDataEncoder.hash(DOMAIN, RECEIPT_TYPES, one.receipt),
        ),
      );
    });

    it("is of its domain", () => {
      const elsewhere = { ...DOMAIN, chainId: 1n };
      expect(hexOf(recordDigest(elsewhere, record))).to.equal(receiptDigest(elsewhere, receiptWith()));
      expect(hexOf(recordDigest(DOMAIN, record))).to.equal(receiptDigest(DOMAIN, receiptWith()));
    });
  });

  describe("a record's leaf", () => {
    it("is that of the receipt as it is signed, for every receipt", () => {
      fc.assert(
        fc.property(anySigned, (one) => {
          const { receipt, signature } = one;
          const signedHash = signedReceiptHash(receiptDigest(DOMAIN, receipt), signature);
          const bytes = encodeReceipt(one);
          const leaf = leafHash({ signedReceiptHash: signedHash, licenseId: receipt.licenseId, usage: receipt });
          return hexOf(recordLeaf(bytes, recordDigest(DOMAIN, bytes))) === hexOf(leaf);
        }),
      );
    });
  });

  describe("countsOf", () => {
    it("gives what a batch counts of every receipt", () => {
      fc.assert(
        fc.property(anySigned, (one) => {
          expect(one.receipt).to.include(countsOf(encodeReceipt(one)));
        }),
      );
    });
  });

  describe("checkRecord", () => {
    it("gives the hash and the signer of every receipt", () => {
      fc.assert(
        fc.property(anySigned, (one) => {
          expect(checkRecord(DOMAIN, encodeReceipt(one))).to.deep.equal({
            hash: receiptDigest(DOMAIN, one.receipt),
            signer: computeAddress(KEY),
          });
        }),
      );
    });

    it("refuses a record with a signature of no key, or none that is canonical", () => {
      const unsigned = Buffer.from(record).fill(0, 286, 350);
      expect(() => checkRecord(DOMAIN, unsigned)).to.throw(MalformedMessage, "is of no key");
      expect(() => checkRecord(DOMAIN, changed(350, 0))).to.throw(MalformedMessage, "v must be 27 or 28, not 0");
    });
  });

  describe("a record that is brought", () => {
    it("is split into the receipt and its request's signature", () => {
      const signature = Buffer.alloc(70, 7);
      expect(splitRecord(record)).to.deep.equal({ record, requestSignature: null });
      expect(splitRecord(Buffer.concat([record, signature]))).to.deep.equal({ record, requestSignature: signature });
    });

    it("says the hash of its request's signature, and none where that is zero", () => {
      const requestSignatureHash = id("signature");
      expect(requestSignatureHashIn(encodeReceipt(signed(receiptWith({ requestSignatureHash }))))).to.equal(
        requestSignatureHash,
      );
      expect(requestSignatureHashIn(record)).to.equal(null);
    });
  });

  describe("a frame", () => {
    it("has the records that it was made of", () => {
      fc.assert(
        fc.property(fc.array(anySigned.map(encodeReceipt), { maxLength: 5 }), (records) => {
          expect(recordsOf(frameOf(records)).map(hexOf)).to.deep.equal(records.map(hexOf));
        }),
        { numRuns: 30 },
      );
    });

    it("has the signatures of requests, each after its receipt", () => {
      const anySignature = fc.uint8Array({ minLength: 70, maxLength: 70 });
      const anyBrought = fc
        .tuple(anySigned.map(encodeReceipt), fc.option(anySignature))
        .map(([bytes, signature]) => Buffer.concat([bytes, signature ?? Buffer.alloc(0)]));
      fc.assert(
        fc.property(fc.array(anyBrought, { maxLength: 5 }), (brought) => {
          const frame = frameOf(brought);
          expect(frame[0]).to.equal(brought.every(({ length }) => length === RECORD_BYTES) ? 1 : 2);
          expect(recordsOf(frame).map(hexOf)).to.deep.equal(brought.map(hexOf));
        }),
        { numRuns: 30 },
      );
    });

    it("with requests' signatures says so where it is marked wrongly or cut short", () => {
      const frame = frameOf([record, Buffer.concat([record, Buffer.alloc(70)])]);
      expect(() => recordsOf(frame.subarray(0, frame.length - 1))).to.throw(MalformedMessage, "cut short after 420");
      frame[1] = 2;
      expect(() => recordsOf(frame)).to.throw(MalformedMessage, "is marked with 0 or 1, not 2");
    });

    it("says so where it isn't one", () => {
      expect(() => recordsOf(Buffer.alloc(0))).to.throw(MalformedMessage, "begins with its version: this is empty");
      expect(() => recordsOf(Buffer.of(3))).to.throw(MalformedMessage, "version 1 or 2, not 3: update the other side");
      const cut = frameOf([record, record]).subarray(0, 2 * RECORD_BYTES);
      expect(() => recordsOf(cut)).to.throw(MalformedMessage, "cut short after 350");
    });
  });
});
