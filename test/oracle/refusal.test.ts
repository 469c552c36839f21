import { expect } from "chai";
import { ErrorFragment, Interface, type JsonFragment } from "ethers";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { refusalOf, sentenceFor, WAYS } from "../../oracle/chain/refusal";
import { REFUSAL_SENTENCES } from "../../oracle/chain/refusalSentences";
import { LINEAGE, STATUSES } from "../../oracle/chain/statuses";
import * as factories from "../../typechain-types";

const root = path.join(__dirname, "../..");

/** Every contract that is deployed, its libraries, and the currency of local markets. */
const CONTRACTS = readdirSync(path.join(root, "contracts"))
  .concat(readdirSync(path.join(root, "contracts/libraries")), ["TestCurrency.sol"])
  .filter((file) => file.endsWith(".sol"))
  .map((file) => path.basename(file, ".sol"));

function errorsOf(contract: string): ErrorFragment[] {
  const factory = (factories as Record<string, object>)[`${contract}__factory`];
  if (factory === undefined) return [];
  const { abi } = factory as { abi: readonly JsonFragment[] };
  return abi.filter(({ type }) => type === "error").map((fragment) => ErrorFragment.from(fragment));
}

const errors = [
  ...new Map(CONTRACTS.flatMap(errorsOf).map((fragment) => [fragment.format("sighash"), fragment])).values(),
];

/** What ethers throws of a call that reverted so. */
const reverted = (fragment: ErrorFragment, values: unknown[]) => {
  const data = new Interface([fragment]).encodeErrorResult(fragment, values);
  return Object.assign(new Error("execution reverted"), { info: { error: { data } } });
};

/** A value of a type, of no particular meaning. */
function anyValue(type: string): unknown {
  if (type === "address") return "0x00000000000000000000000000000000000000A1";
  if (type === "string") return "words";
  if (type === "bytes") return "0x1234";
  if (type.startsWith("bytes")) return `0x${"11".repeat(Number(type.slice(5)))}`;
  if (type.startsWith("uint")) return 1n;
  if (type === "bool") return true;
  throw new Error(`No value for ${type}`);
}

const valuesFor = ({ inputs }: ErrorFragment): unknown[] =>
  inputs.map((input) =>
    input.components === null ? anyValue(input.type) : input.components.map(({ type }) => anyValue(type)),
  );

describe("refusals", () => {
  describe("every error of the contracts", () => {
    it("is looked for in all of them", () => {
      expect(CONTRACTS).to.include.members([
        "UsageEscrow",
        "BatchDesk",
        "LicenseDesk",
        "VoucherDesk",
        "AssetRegistry",
        "Authority",
        "TestCurrency",
      ]);
      expect(errors.length).to.be.greaterThan(100);
    });

    for (const fragment of errors) {
      const signature = fragment.format("sighash");

      it(`has a sentence: ${signature}`, () => {
        const sentence = refusalOf(reverted(fragment, valuesFor(fragment)), { symbol: "TUSD", decimals: 6 });
        expect(sentence).to.match(new RegExp(`^[A-Z0-9“].{12,} \\(${fragment.name}\\)$`));
        expect(sentence).not.to.match(/[{}]|undefined|null/);
      });

      it(`says only what the error tells: ${signature}`, () => {
        const names = fragment.inputs.map(({ name }) => name);
        for (const [, name, way] of sentenceFor(fragment.name, signature)!.matchAll(/\{(\w+)(?::(\w+))?\}/g)) {
          expect(names).to.include(name);
          if (way !== undefined) expect(WAYS).to.have.property(way);
        }
      });
    }
  });

  it("have no sentence for an error that isn't there any more", () => {
    const known = new Set([...errors.flatMap((e) => [e.name, e.format("sighash")])]);
    expect(Object.keys(REFUSAL_SENTENCES).filter((name) => !known.has(name))).to.deep.equal([]);
  });

  it("of a verifier, which no ABI names, say that a proof is none", () => {
    const verifier = readFileSync(path.join(root, "contracts/zk/generated/Honk64x32x10s4Verifier.sol"), "utf8");
    const selectors = [...verifier.matchAll(/ (\w+)_SELECTOR = (0x[0-9a-f]{8});/g)];
    expect(selectors.length).to.be.greaterThan(8);
    for (const [, name, selector] of selectors) {
      // The precompile that it is about fails at no input that comes there.
      if (name === "MODEXP_FAILED") continue;
      const data = name.startsWith("PROOF_LENGTH") ? selector + "00".repeat(96) : selector;
      const sentence = refusalOf(Object.assign(new Error("execution reverted"), { data }));
      expect(sentence, name).to.match(/^The verifier takes it for no proof .*: prove that receipt, by them \(\w+\)$/);
    }
  });

  describe("values", () => {
    const say = (declaration: string, ...values: unknown[]) =>
      refusalOf(reverted(ErrorFragment.from(declaration), values), { symbol: "TUSD", decimals: 6 });

    it("are said as dates", () => {
      expect(
        say("error HoldRunning(bytes32 batchId, uint256 releasableAt)", `0x${"11".repeat(32)}`, 1_800_000_000n),
      ).to.equal(
        `Batch 0x${"11".repeat(32)} is held until 2027-01-15T08:00:00Z: release it from then on (HoldRunning)`,
      );
    });

    it("are said as never where no date is that late", () => {
      const declaration = "error CapCutRunning(uint64 licenseId, uint256 readyAt)";
      expect(say(declaration, 1n, 2n ** 255n)).to.equal(
        "The lower cap of license 1 can be put in force from never on (CapCutRunning)",
      );
    });

    it("are said as money, in whole units and in smallest ones", () => {
      const declaration = "error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed)";
      const sender = "0x00000000000000000000000000000000000000A1";
      expect(say(declaration, sender, 0n, 12_500_000n)).to.equal(
        `${sender} has 0.0 TUSD (0 units) and needs 12.5 TUSD (12500000 units): send it the rest (ERC20InsufficientBalance)`,
      );
      const error = reverted(ErrorFragment.from(declaration), [sender, 0n, 12_500_000n]);
      expect(refusalOf(error)).to.contain("needs 12500000 units of the currency");
    });

    it("are said as lengths of time and as shares", () => {
      expect(
        say(
          "error HoldPeriodOutOfRange(uint256 holdPeriod, uint256 shortest, uint256 longest)",
          301n,
          3_600n,
          2_592_000n,
        ),
      ).to.equal("A hold lasts 1 hour to 30 days, and not 301 seconds (HoldPeriodOutOfRange)");
      expect(say("error FeeAboveBound(uint256 feeBps, uint256 bound)", 512n, 500n)).to.equal(
        "A protocol fee of 5.12 % is above its bound of 5 % (FeeAboveBound)",
      );
    });

    it("are said as versions, statuses and roles", () => {
      expect(say("error VersionUnknown(uint64 versionId)", (3n << 32n) | 2n)).to.contain("no version 2 of asset 3 (");
      expect(say("error BatchNotHeld(bytes32 batchId, uint8 status)", `0x${"11".repeat(32)}`, 4n)).to.contain(
        "is collected",
      );
      expect(say("error BatchNotHeld(bytes32 batchId, uint8 status)", `0x${"11".repeat(32)}`, 0n)).to.contain(
        "is unknown",
      );
      expect(
        say("error AccessManagerUnauthorizedAccount(address msgsender, uint64 roleId)", `0x${"11".repeat(20)}`, 2n),
      ).to.contain("role GOVERNOR");
    });
  });

  describe("what isn't an error of the contracts", () => {
    it("is nothing where nothing was refused", () => {
      expect(refusalOf(new Error("timeout"))).to.equal(undefined);
      expect(refusalOf(undefined)).to.equal(undefined);
    });

    it("is shown as it is", () => {
      expect(refusalOf({ data: "0xdeadbeef" })).to.equal("0xdeadbeef, which is no error of this release");
    });

    it("is Solidity's own: a reason, or a panic", () => {
      expect(refusalOf(reverted(ErrorFragment.from("error Error(string message)"), ["paused by the issuer"]))).to.equal(
        "paused by the issuer",
      );
      expect(refusalOf(reverted(ErrorFragment.from("error Panic(uint256 code)"), [0x11n]))).to.contain("panic 17");
    });
  });
});

describe("statuses", () => {
  const sources = readdirSync(path.join(root, "contracts/interfaces"))
    .map((file) => readFileSync(path.join(root, "contracts/interfaces", file), "utf8"))
    .join("\n");

  for (const [kind, names] of Object.entries({ ...STATUSES, ...LINEAGE })) {
    it(`are the contracts' own: ${kind}`, () => {
      const declared = new RegExp(`enum ${kind} \\{([^}]*)\\}`).exec(sources);
      expect(declared?.[1].split(",").map((name) => name.trim())).to.deep.equal(names);
    });
  }

  it("are all of the contracts', but for those of entries and vouchers, which are the protocol's, and of disputes, which are arbitrators'", () => {
    const declared = [...sources.matchAll(/enum (\w+Status) /g)].map(([, name]) => name);
    const others = ["EntryStatus", "VoucherStatus", "DisputeStatus"];
    expect(declared.filter((name) => !others.includes(name))).to.have.members(Object.keys(STATUSES));
  });
});
