import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { AccountHarness__factory, type AccountHarness } from "../../typechain-types";
import { usd } from "../support/market";

/** The word's fields from its lowest bit up: the table in Account.sol. */
const LAYOUT = [
  ["balance", 64],
  ["spent", 56],
  ["capCode", 8],
  ["term", 16],
  ["planId", 32],
  ["expiresAt", 32],
  ["operatorId", 24],
  ["generation", 16],
  ["flags", 8],
] as const;

/** The flags from their lowest bit up; the others are always zero. Not renewing is the flag, so that accounts start with none. */
const FLAGS = ["onVoucherRoad", "hasAside", "isNotRenewing", "isClosed"] as const;
const flag = (name: (typeof FLAGS)[number]) => 1n << BigInt(FLAGS.indexOf(name));

type Field = (typeof LAYOUT)[number][0];
/** The reference: an account as a plain struct. */
type Model = Record<Field, bigint>;

const widthOf = Object.fromEntries(LAYOUT) as Record<Field, number>;
const mostOf = (field: Field) => 2n ** BigInt(widthOf[field]) - 1n;
const anyValueOf = (field: Field) => fc.bigInt({ min: 0n, max: mostOf(field) });
const fieldsBy = <T>(valueOf: (field: Field) => T) =>
  Object.fromEntries(LAYOUT.map(([field]) => [field, valueOf(field)])) as Record<Field, T>;

/** Any account, often with fields at the ends of their ranges, where neighbours would show a stray bit. */
const anyModel: fc.Arbitrary<Model> = fc.record(
  fieldsBy((field) => fc.oneof(anyValueOf(field), fc.constantFrom(0n, mostOf(field)))),
);

function pack(model: Model): bigint {
  return LAYOUT.reduceRight((word, [field, width]) => (word << BigInt(width)) | model[field], 0n);
}

function unpack(word: bigint): Model {
  let rest = word;
  return fieldsBy((field) => {
    const value = rest & mostOf(field);
    rest >>= BigInt(widthOf[field]);
    return value;
  });
}

async function deploy(): Promise<AccountHarness> {
  const harness = await hre.ethers.deployContract("AccountHarness");
  return AccountHarness__factory.connect(await harness.getAddress(), hre.ethers.provider);
}

describe("Account", () => {
  let account: AccountHarness;

  beforeEach(async () => {
    account = await loadFixture(deploy);
  });

  it("is one word: the fields' widths add up to 256 bits", () => {
    expect(LAYOUT.reduce((bits, [, width]) => bits + width, 0)).to.equal(256);
  });

  describe("getters", () => {
    it("read each field where the layout has it, and nothing of its neighbours", async () => {
      await fc.assert(
        fc.asyncProperty(anyModel, async (model) => {
          const fields = await account.fieldsOf(pack(model));
          expect(fields.exists).to.equal(pack(model) !== 0n);
          for (const field of ["balance", "spent", "capCode", "term", "planId", "expiresAt", "operatorId"] as const) {
            expect(fields[field], field).to.equal(model[field]);
          }
          expect(fields.generation, "generation").to.equal(model.generation);
          expect(fields.onVoucherRoad, "onVoucherRoad").to.equal((model.flags & flag("onVoucherRoad")) !== 0n);
          expect(fields.hasAside, "hasAside").to.equal((model.flags & flag("hasAside")) !== 0n);
          expect(fields.isRenewing, "isRenewing").to.equal((model.flags & flag("isNotRenewing")) === 0n);
          expect(fields.isClosed, "isClosed").to.equal((model.flags & flag("isClosed")) !== 0n);
        }),
      );
    });

    for (const [field] of LAYOUT) {
      it(`see a full ${field} and nothing else when only that is set`, async () => {
        const fields = await account.fieldsOf(pack({ ...fieldsBy(() => 0n), [field]: mostOf(field) }));
        const seen = {
          balance: fields.balance,
          spent: fields.spent,
          capCode: fields.capCode,
          term: fields.term,
          planId: fields.planId,
          expiresAt: fields.expiresAt,
          operatorId: fields.operatorId,
          generation: fields.generation,
          flags:
            fields.onVoucherRoad && fields.hasAside && !fields.isRenewing && fields.isClosed ? mostOf("flags") : 0n,
        };
        expect(seen).to.deep.equal({ ...fieldsBy(() => 0n), [field]: mostOf(field) });
      });
    }
  });

  describe("exists", () => {
    it("is false for the word zero alone", async () => {
      expect((await account.fieldsOf(0)).exists).to.equal(false);
      expect((await account.fieldsOf(1)).exists).to.equal(true);
      expect((await account.fieldsOf(1n << 255n)).exists).to.equal(true);
    });
  });

  describe("opened", () => {
    it("sets plan, operator, expiry and cap code, and leaves all else zero", async () => {
      await fc.assert(
        fc.asyncProperty(anyModel, async ({ planId, operatorId, expiresAt, capCode }) => {
          const word = await account.opened(planId, operatorId, expiresAt, capCode);
          expect(unpack(word)).to.deep.equal({ ...fieldsBy(() => 0n), planId, operatorId, expiresAt, capCode });
        }),
      );
    });
  });

  describe("parties", () => {
    it("are those of an attested batch exactly when plan and operator are the same and the road is the attested one", async () => {
      await fc.assert(
        fc.asyncProperty(anyModel, async (model) => {
          const { parties } = await account.fieldsOf(pack(model));
          const attested = await account.attestedParties(model.planId, model.operatorId);
          expect(parties === attested).to.equal((model.flags & 1n) === 0n);
          expect(await account.attestedParties(model.planId ^ 1n, model.operatorId)).not.to.equal(parties);
          expect(await account.attestedParties(model.planId, model.operatorId ^ 1n)).not.to.equal(parties);
        }),
      );
    });

    it("are the same whatever else the account says", async () => {
      const quiet = { ...fieldsBy(() => 0n), planId: 5n, operatorId: 6n };
      const loud = { ...fieldsBy(mostOf), planId: 5n, operatorId: 6n, flags: 0n };
      expect((await account.fieldsOf(pack(loud))).parties).to.equal((await account.fieldsOf(pack(quiet))).parties);
    });
  });

  const setters: { name: string; field: Field; set: (word: bigint, value: bigint) => Promise<bigint> }[] = [
    { name: "withBalance", field: "balance", set: (word, value) => account.withBalance(word, value) },
    { name: "withSpent", field: "spent", set: (word, value) => account.withSpent(word, value) },
    { name: "withCapCode", field: "capCode", set: (word, value) => account.withCapCode(word, value) },
    { name: "withGeneration", field: "generation", set: (word, value) => account.withGeneration(word, value) },
  ];
  for (const { name, field, set } of setters) {
    describe(name, () => {
      it(`replaces the ${field} and touches nothing else`, async () => {
        const anyValue = fc.oneof(anyValueOf(field), fc.constantFrom(0n, mostOf(field)));
        await fc.assert(
          fc.asyncProperty(anyModel, anyValue, async (model, value) => {
            expect(unpack(await set(pack(model), value))).to.deep.equal({ ...model, [field]: value });
          }),
        );
      });
    });
  }

  describe("withService", () => {
    it("replaces the operator and the road and touches nothing else", async () => {
      await fc.assert(
        fc.asyncProperty(anyModel, anyValueOf("operatorId"), fc.boolean(), async (model, operatorId, voucherRoad) => {
          const word = await account.withService(pack(model), operatorId, voucherRoad);
          const flags = (model.flags & ~flag("onVoucherRoad")) | (voucherRoad ? flag("onVoucherRoad") : 0n);
          expect(unpack(word)).to.deep.equal({ ...model, operatorId, flags });
        }),
      );
    });
  });

  const flagSetters: {
    name: string;
    flagged: (typeof FLAGS)[number];
    /** Whether the flag is set for `true`. */
    straight: boolean;
    set: (word: bigint, value: boolean) => Promise<bigint>;
  }[] = [
    { name: "withAside", flagged: "hasAside", straight: true, set: (word, value) => account.withAside(word, value) },
    {
      name: "withRenewing",
      flagged: "isNotRenewing",
      straight: false,
      set: (word, value) => account.withRenewing(word, value),
    },
    { name: "withClosed", flagged: "isClosed", straight: true, set: (word, value) => account.withClosed(word, value) },
  ];
  for (const { name, flagged, straight, set } of flagSetters) {
    describe(name, () => {
      it("sets or clears its flag and touches nothing else", async () => {
        await fc.assert(
          fc.asyncProperty(anyModel, fc.boolean(), async (model, value) => {
            const rest = model.flags & ~flag(flagged);
            const flags = value === straight ? rest | flag(flagged) : rest;
            expect(unpack(await set(pack(model), value))).to.deep.equal({ ...model, flags });
          }),
        );
      });
    });
  }

  describe("inEndedTerm", () => {
    it("sets spent and expiry, counts a term back, and touches nothing else: the balance is today's", async () => {
      await fc.assert(
        fc.asyncProperty(
          anyModel,
          anyValueOf("expiresAt"),
          fc.oneof(anyValueOf("spent"), fc.constant(mostOf("spent"))),
          async (model, expiresAt, spent) => {
            const term = (model.term + 2n ** 16n - 1n) % 2n ** 16n;
            const word = await account.inEndedTerm(pack(model), expiresAt, spent);
            expect(unpack(word)).to.deep.equal({ ...model, expiresAt, spent, term });
          },
        ),
      );
    });

    it("is what renewed started from", async () => {
      await fc.assert(
        fc.asyncProperty(anyModel, anyValueOf("expiresAt"), async (model, expiresAt) => {
          const renewed = await account.renewed(pack(model), 1, expiresAt);
          expect(await account.inEndedTerm(renewed, model.expiresAt, model.spent)).to.equal(pack(model));
        }),
      );
    });
  });

  describe("charged", () => {
    it("moves an amount from balance to spent and touches nothing else", async () => {
      const anyCharge = anyModel.chain((model) => {
        const room = mostOf("spent") - model.spent;
        const most = model.balance < room ? model.balance : room;
        return fc.tuple(fc.constant(model), fc.oneof(fc.bigInt({ min: 0n, max: most }), fc.constantFrom(0n, most)));
      });
      await fc.assert(
        fc.asyncProperty(anyCharge, async ([model, amount]) => {
          expect(unpack(await account.charged(pack(model), amount))).to.deep.equal({
            ...model,
            balance: model.balance - amount,
            spent: model.spent + amount,
          });
        }),
      );
    });

    it("empties a full balance into a counter that is just wide enough", async () => {
      const full = { ...fieldsBy(mostOf), spent: 0n };
      expect(unpack(await account.charged(pack(full), mostOf("spent")))).to.deep.equal({
        ...full,
        balance: mostOf("balance") - mostOf("spent"),
        spent: mostOf("spent"),
      });
    });
  });

  describe("renewed", () => {
    it("counts the terms on, sets the expiry, forgets what was spent, and touches nothing else", async () => {
      await fc.assert(
        fc.asyncProperty(
          anyModel,
          fc.bigInt({ min: 1n, max: 2n ** 20n }),
          anyValueOf("expiresAt"),
          async (model, terms, expiresAt) => {
            expect(unpack(await account.renewed(pack(model), terms, expiresAt))).to.deep.equal({
              ...model,
              spent: 0n,
              term: (model.term + terms) % 2n ** 16n,
              expiresAt,
            });
          },
        ),
      );
    });

    it("wraps the number of the term after 2^16 of them, without a carry", async () => {
      const last = { ...fieldsBy(() => 0n), term: mostOf("term"), planId: 1n };
      expect(unpack(await account.renewed(pack(last), 1, 9))).to.deep.equal({ ...last, term: 0n, expiresAt: 9n });
    });
  });

  describe("capOf", () => {
    it("is none, the highest number, for code 0", async () => {
      expect(await account.capOf(0, usd(1))).to.equal(2n ** 256n - 1n);
    });

    it("is (8 | code & 7) << (code >> 3) whole units for every other code", async () => {
      for (let code = 1n; code < 256n; code += 1n) {
        expect(await account.capOf(code, usd(1)), `code ${code}`).to.equal(
          ((8n | (code & 7n)) << (code >> 3n)) * usd(1),
        );
      }
    });

    it("rises with the code, by at most an eighth, from 9 to 32 billion", async () => {
      const caps = await Promise.all(Array.from({ length: 255 }, (_, i) => account.capOf(i + 1, 1)));
      caps.slice(1).forEach((cap, i) => {
        expect(cap > caps[i]).to.equal(true);
        expect((cap - caps[i]) * 8n <= caps[i]).to.equal(true);
      });
      expect([caps[0], caps[254]]).to.deep.equal([9n, 15n << 31n]);
    });
  });
});
