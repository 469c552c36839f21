import { expect } from "chai";
import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import {
  concat,
  dataLength,
  dataSlice,
  getBytes,
  id,
  recoverAddress,
  Signature,
  toBeHex,
  TypedDataEncoder,
  Wallet,
} from "ethers";
import fc from "../support/fastCheck";
import { MAX_ENTRIES } from "../../oracle/protocol/entries";
import {
  ecdsaKeyBytes,
  p256KeyBytes,
  packVoucherOutcomes,
  packVouchers,
  signVoucher,
  signVoucherByP256,
  unpackVoucher,
  unpackVoucherOutcomes,
  VOUCHER_TYPES,
  voucherDigest,
  voucherKeyOf,
  VoucherStatus,
  type SignedVoucher,
  type Voucher,
  type VoucherStatusName,
} from "../../oracle/protocol/vouchers";
import { DOMAIN } from "../support/fakeMessages";

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const P256_HALF_ORDER = 0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8n;

const wallet = new Wallet(id("voucher key"));
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });

const voucherWith = (fields: Partial<Voucher> = {}): Voucher => ({
  licenseId: 258n,
  operatorId: 7,
  generation: 3,
  term: 4,
  spent: 5n,
  ...fields,
});
const signed = (fields: Partial<Voucher> = {}, signature = "0x" + "ab".repeat(64)): SignedVoucher => ({
  voucher: voucherWith(fields),
  signature,
});

const uint = (bits: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n });
const uintNumber = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const anyVoucher: fc.Arbitrary<Voucher> = fc.record({
  licenseId: uint(64),
  operatorId: uintNumber(24),
  generation: uintNumber(16),
  term: uintNumber(16),
  spent: uint(56),
});

describe("vouchers", () => {
  describe("voucherDigest", () => {
    it("is EIP-712's of the voucher's type", () => {
      expect(TypedDataEncoder.from(VOUCHER_TYPES).encodeType("Voucher")).to.equal(
        "Voucher(uint64 licenseId,uint24 operatorId,uint16 generation,uint16 term,uint56 spent)",
      );
      expect(voucherDigest(DOMAIN, voucherWith())).to.equal(
        TypedDataEncoder.hash(DOMAIN, VOUCHER_TYPES, voucherWith()),
      );
    });

    it("binds chain, contract and every field", () => {
      const digests = [
        voucherDigest(DOMAIN, voucherWith()),
        voucherDigest({ ...DOMAIN, chainId: 1n }, voucherWith()),
        voucherDigest({ ...DOMAIN, verifyingContract: wallet.address }, voucherWith()),
        ...[{ licenseId: 1n }, { operatorId: 1 }, { generation: 1 }, { term: 1 }, { spent: 1n }].map((fields) =>
          voucherDigest(DOMAIN, voucherWith(fields)),
        ),
      ];
      expect(new Set(digests)).to.have.property("size", digests.length);
    });

    it("refuses a field out of range", () => {
      for (const fields of [{ licenseId: 2n ** 64n }, { term: 65_536 }, { spent: 2n ** 56n }, { spent: -1n }]) {
        expect(() => voucherDigest(DOMAIN, voucherWith(fields))).to.throw("out-of-bounds");
      }
    });
  });

  describe("signVoucher", () => {
    it("signs in 64 bytes, which give back the key", async () => {
      for (let spent = 1n; spent <= 20n; spent += 1n) {
        const voucher = voucherWith({ spent });
        const { signature, ...rest } = await signVoucher(DOMAIN, voucher, wallet);
        expect(rest).to.deep.equal({ voucher });
        expect(dataLength(signature)).to.equal(64);
        expect(recoverAddress(voucherDigest(DOMAIN, voucher), Signature.from(signature))).to.equal(wallet.address);
      }
    });
  });

  describe("signVoucherByP256", () => {
    it("signs the SHA-256 of the digest with the lower s, after the key's point", () => {
      for (let spent = 1n; spent <= 20n; spent += 1n) {
        const voucher = voucherWith({ spent });
        const { signature, ...rest } = signVoucherByP256(DOMAIN, voucher, p256.privateKey);
        expect(rest).to.deep.equal({ voucher });
        expect(dataLength(signature)).to.equal(128);
        expect(dataSlice(signature, 0, 64)).to.equal(p256KeyBytes(p256.publicKey));
        expect(BigInt(dataSlice(signature, 96)) <= P256_HALF_ORDER).to.equal(true);
        const key = { key: p256.publicKey, dsaEncoding: "ieee-p1363" as const };
        const digest = getBytes(voucherDigest(DOMAIN, voucher));
        expect(verify("sha256", digest, key, getBytes(dataSlice(signature, 64)))).to.equal(true);
      }
    });

    it("refuses a key of another curve", () => {
      const other = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
      const edwards = generateKeyPairSync("ed25519");
      const rsa = generateKeyPairSync("rsa", { modulusLength: 1_024 });
      for (const [{ privateKey }, found] of [
        [other, "secp256k1"],
        [edwards, "Ed25519"],
        [rsa, "rsa"],
      ] as const) {
        expect(() => signVoucherByP256(DOMAIN, voucherWith(), privateKey)).to.throw(
          RangeError,
          `a voucher's key must be of the curve P-256, not ${found}`,
        );
      }
    });
  });

  describe("keys", () => {
    it("are an address in 20 bytes, or a point in 64, the same of a private key and its public one", () => {
      expect(ecdsaKeyBytes(wallet.address)).to.equal(wallet.address.toLowerCase());
      expect(() => ecdsaKeyBytes("0x1234")).to.throw("invalid address");
      const point = p256KeyBytes(p256.publicKey);
      expect(dataLength(point)).to.equal(64);
      expect(p256KeyBytes(p256.privateKey)).to.equal(point);
    });

    it("keep the zeros that a coordinate starts with", () => {
      const points = [
        "0x986ae2506f1ff104d04230861d8f4b498f4bc4c6d009b30f7544dc129b82d28d003cccc0a6460e0ae328a4d97d3c7b61d86fc6289c189f2525110c441bb07e97",
        "0x005543894af3d00ed7d740abdbd75c96b06877b787db5f70eea78b90a8d7c00abb4c85a3d8ea29efaafa24406912dd84d5b14dc32bf656ef6c6bd58a5d943f92",
      ];
      for (const point of points) {
        const [x, y] = [dataSlice(point, 0, 32), dataSlice(point, 32)].map((half) =>
          Buffer.from(getBytes(half)).toString("base64url"),
        );
        const key = createPublicKey({ key: { kty: "EC", crv: "P-256", x, y }, format: "jwk" });
        expect(p256KeyBytes(key)).to.equal(point);
      }
    });
  });

  describe("voucherKeyOf", () => {
    it("is the key that signed, as the escrow registers it", async () => {
      for (let spent = 1n; spent <= 10n; spent += 1n) {
        const voucher = voucherWith({ spent });
        const byEcdsa = await signVoucher(DOMAIN, voucher, wallet);
        expect(voucherKeyOf(DOMAIN, byEcdsa)).to.equal(ecdsaKeyBytes(wallet.address));
        const byP256 = signVoucherByP256(DOMAIN, voucher, p256.privateKey);
        expect(voucherKeyOf(DOMAIN, byP256)).to.equal(p256KeyBytes(p256.publicKey));
      }
    });

    it("is another of an ECDSA voucher that says something else, and none of a P-256 voucher", async () => {
      const voucher = voucherWith();
      const byEcdsa = await signVoucher(DOMAIN, voucherWith({ spent: 6n }), wallet);
      expect(voucherKeyOf(DOMAIN, { ...byEcdsa, voucher })).not.to.equal(ecdsaKeyBytes(wallet.address));
      const byP256 = signVoucherByP256(DOMAIN, voucherWith({ spent: 6n }), p256.privateKey);
      expect(() => voucherKeyOf(DOMAIN, { ...byP256, voucher })).to.throw(RangeError, "hasn't signed the voucher");
    });

    it("is none of what is no signature, or has the upper s", () => {
      const { voucher, signature } = signVoucherByP256(DOMAIN, voucherWith(), p256.privateKey);
      const s = BigInt(dataSlice(signature, 96));
      const twin = concat([dataSlice(signature, 0, 96), toBeHex(P256_ORDER - s, 32)]);
      expect(() => voucherKeyOf(DOMAIN, { voucher, signature: twin })).to.throw(RangeError, "the one with the lower s");
      const offCurve = concat(["0x" + "01".repeat(64), dataSlice(signature, 64)]);
      expect(() => voucherKeyOf(DOMAIN, { voucher, signature: offCurve })).to.throw(RangeError, "hasn't signed");
      const zeros = "0x" + "00".repeat(64);
      expect(() => voucherKeyOf(DOMAIN, { voucher, signature: zeros })).to.throw(RangeError, "no ECDSA key has signed");
    });
  });

  describe("unpackVoucher", () => {
    it("gives back what was packed, of both schemes", () => {
      fc.assert(
        fc.property(anyVoucher, fc.constantFrom(64, 128), (voucher, bytes) => {
          const packed = { voucher, signature: "0x" + "5a".repeat(bytes) };
          expect(unpackVoucher(packVouchers([packed]), voucher.operatorId)).to.deep.equal(packed);
        }),
      );
    });

    it("refuses anything else", () => {
      const packed = packVouchers([signed()]);
      const refused = (what: string, sentence: string) =>
        expect(() => unpackVoucher(what, 7)).to.throw(RangeError, sentence);
      refused("voucher", 'must be hex with 0x, not "voucher"');
      refused("0x", "first byte must be 0 or 1, not undefined");
      refused("0x02" + packed.slice(4), "first byte must be 0 or 1, not 2");
      refused(packed + "00", "a voucher of scheme 0 has 84 bytes, not 85");
      refused("0x01" + packed.slice(4), "a voucher of scheme 1 has 148 bytes, not 84");
    });
  });

  describe("packVouchers", () => {
    it("writes scheme, license, generation, term and spent, big-endian, and the signature", () => {
      const [ecdsa, p256Signature] = ["0x" + "ab".repeat(64), "0x" + "cd".repeat(128)];
      expect(
        packVouchers([signed({}, ecdsa), signed({ term: 0xfffe, spent: 2n ** 56n - 2n }, p256Signature)]),
      ).to.equal(
        concat([
          "0x00" + "0000000000000102" + "0003" + "0004" + "00000000000005",
          ecdsa,
          "0x01" + "0000000000000102" + "0003" + "fffe" + "fffffffffffffe",
          p256Signature,
        ]),
      );
    });

    it("writes every field where it belongs", () => {
      fc.assert(
        fc.property(anyVoucher, (voucher) => {
          const packed = packVouchers([{ voucher, signature: "0x" + "00".repeat(64) }]);
          const at = (start: number, end: number) => BigInt(dataSlice(packed, start, end));
          expect(dataLength(packed)).to.equal(84);
          expect([at(0, 1), at(1, 9), at(9, 11), at(11, 13), at(13, 20)]).to.deep.equal([
            0n,
            voucher.licenseId,
            BigInt(voucher.generation),
            BigInt(voucher.term),
            voucher.spent,
          ]);
        }),
      );
    });

    it("keeps the order of one license's vouchers", () => {
      const [first, second] = [packVouchers([signed({ spent: 9n })]), packVouchers([signed({ spent: 1n })])];
      expect(packVouchers([signed({ spent: 9n }), signed({ spent: 1n })])).to.equal(concat([first, second]));
    });

    it("refuses vouchers that don't ascend by license", () => {
      expect(() => packVouchers([signed(), signed({ licenseId: 257n })])).to.throw(
        RangeError,
        "vouchers must ascend by license: 257 comes after 258",
      );
    });

    it("refuses vouchers of two operators, since a call is for one", () => {
      expect(() => packVouchers([signed(), signed({ operatorId: 8 })])).to.throw(
        RangeError,
        "vouchers must be of one operator, not of 7 and 8",
      );
    });

    it("refuses a signature of another length", () => {
      for (const length of [0, 63, 65, 127, 129]) {
        expect(() => packVouchers([signed({}, "0x" + "00".repeat(length))])).to.throw(
          RangeError,
          `a voucher's signature must have 64 or 128 bytes, not ${length}`,
        );
      }
    });

    it("refuses a number out of range", () => {
      for (const spent of [-1n, 2n ** 56n]) {
        expect(() => packVouchers([signed({ spent })])).to.throw(RangeError, `spent must fit in uint56, not ${spent}`);
      }
      for (const fields of [{ licenseId: 2n ** 64n }, { generation: 65_536 }, { term: -1 }]) {
        expect(() => packVouchers([signed(fields)])).to.throw(RangeError, "out of range");
      }
    });

    it("refuses more than a call takes", () => {
      const many = Array.from({ length: MAX_ENTRIES + 1 }, () => signed());
      expect(dataLength(packVouchers(many.slice(1)))).to.equal(MAX_ENTRIES * 84);
      expect(() => packVouchers(many)).to.throw(RangeError, "168084 bytes of vouchers: a call takes 168000");
    });
  });

  describe("outcomes", () => {
    it("are 64 bits of license, 16 of term, 56 of charge and 8 of status", () => {
      expect(packVoucherOutcomes([{ licenseId: 7n, term: 515, charged: 258n, status: "CapReached" }])).to.equal(
        "0x" + "0000000000000007" + "0203" + "00000000000102" + "02",
      );
    });

    it("survive packing", () => {
      const anyOutcome = fc.record({
        licenseId: uint(64),
        term: uintNumber(16),
        charged: uint(56),
        status: fc.constantFrom(...(Object.keys(VoucherStatus) as VoucherStatusName[])),
      });
      fc.assert(
        fc.property(fc.array(anyOutcome), (outcomes) => {
          expect(unpackVoucherOutcomes(packVoucherOutcomes(outcomes))).to.deep.equal(outcomes);
        }),
      );
    });

    it("name every status by its number on chain", () => {
      const head = "0x" + "0000000000000009" + "0001";
      expect(unpackVoucherOutcomes(head + "00000000000000" + "0d")).to.deep.equal([
        { licenseId: 9n, term: 1, charged: 0n, status: "Stopped" },
      ]);
      expect(() => unpackVoucherOutcomes(head + "00000000000000" + "0e")).to.throw(
        RangeError,
        "14 is no voucher status",
      );
    });

    it("are refused when a record is cut", () => {
      expect(() => unpackVoucherOutcomes("0x" + "00".repeat(17))).to.throw(
        RangeError,
        "outcomes of vouchers must come in records of 18 bytes, not 17 bytes",
      );
    });
  });
});
