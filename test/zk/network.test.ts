import { expect } from "chai";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { DIGITS, nameOf, parseArchitecture, sumBits, weightCount } from "../../zk/architecture";
import { loadExamples } from "../../zk/dataset";
import { classify, modelToJson, parseModel, requireInput } from "../../zk/network";
import { accuracy, integerAccuracy, predict, quantise, train } from "../../zk/training";
import { digits, digitsModel, networkOf } from "../support/digits";
import fc from "../support/fastCheck";

describe("networks", () => {
  describe("training", () => {
    const { training, heldOut } = digits();
    const float = train(DIGITS, training, { epochs: 40, seed: 7, inputScale: 16 });

    it("gives the shipped model's weights again, to the bit", () => {
      expect(quantise(float, DIGITS.shift)).to.deep.equal(digitsModel().network);
    });

    it("is right on at least 97 % of digits that it never saw, in floating point and in integers", () => {
      expect(heldOut).to.have.length(359);
      expect(accuracy(heldOut, (input) => predict(float, input))).to.be.at.least(0.97);
      expect(integerAccuracy(digitsModel().network, heldOut)).to.be.at.least(0.97);
    });

    it("gives others by another seed", () => {
      const other = train(DIGITS, training.slice(0, 64), { epochs: 1, seed: 8, inputScale: 16 });
      const same = train(DIGITS, training.slice(0, 64), { epochs: 1, seed: 7, inputScale: 16 });
      expect(quantise(other, 4).hiddenWeights).not.to.deep.equal(quantise(same, 4).hiddenWeights);
    });

    it("keeps what is held out apart from what it trains on, every row in one of the two", () => {
      expect(training.length + heldOut.length).to.equal(1_797);
      expect(training.filter((example) => heldOut.includes(example))).to.deep.equal([]);
    });
  });

  describe("classify", () => {
    it("takes the first of equal logits", () => {
      const network = networkOf(
        DIGITS,
        () => 0,
        () => 3,
      );
      expect(classify(network, Array(64).fill(9))).to.deep.equal({ class: 0, logits: Array(10).fill(3) });
    });

    it("shifts positive sums, and makes nothing of negative ones", () => {
      const tiny = { inputs: 1, hidden: 2, outputs: 1, shift: 2 };
      const network = {
        ...networkOf(
          tiny,
          () => 1,
          () => 0,
        ),
        hiddenBiases: Int32Array.from([6, -8]),
      };
      expect(classify(network, [1]).logits).to.deep.equal([1]);
      expect(classify(network, [7]).logits).to.deep.equal([3]);
      expect(classify(network, [16]).logits).to.deep.equal([5 + 2]);
    });

    it("never leaves the bounds that its circuit gives sums, at the extremes of every architecture", () => {
      const extreme = fc.record({
        architecture: fc.record({
          inputs: fc.integer({ min: 1, max: 40 }),
          hidden: fc.integer({ min: 1, max: 40 }),
          outputs: fc.integer({ min: 1, max: 5 }),
          shift: fc.integer({ min: 0, max: 12 }),
        }),
        first: fc.constantFrom(-128, 127),
        bias: fc.constantFrom(-(2 ** 23), 2 ** 23 - 1),
        input: fc.constantFrom(0, 255),
      });
      fc.assert(
        fc.property(extreme, ({ architecture, first, bias, input }) => {
          const network = networkOf(
            architecture,
            (i) => (i % 2 ? first : 127),
            () => bias,
          );
          const { logits } = classify(network, Array(architecture.inputs).fill(input));
          const bound = 2 ** sumBits(architecture).logit;
          expect(logits.every((logit) => Number.isSafeInteger(logit) && Math.abs(logit) < bound)).to.equal(true);
        }),
      );
    });
  });

  describe("a model's file", () => {
    const text = modelToJson(digitsModel());
    const changed = (change: object) => JSON.stringify({ ...(JSON.parse(text) as object), ...change });

    it("is read as it was written", () => {
      expect(modelToJson(parseModel(text))).to.equal(text);
      expect(nameOf(parseModel(text).network)).to.equal("64-32-10-s4");
    });

    const refused: [string, string, RegExp][] = [
      ["text that isn't JSON", "weights", /isn't JSON/],
      ["another file", "{}", /says "licet": "network\/1"/],
      ["null", "null", /says "licet": "network\/1"/],
      ["no architecture", changed({ architecture: undefined }), /inputs must be a whole number from 1 to 65535; they are undefined/], // prettier-ignore
      [
        "too large a shift",
        changed({ architecture: { ...DIGITS, shift: 25 } }),
        /shift must be 0 to 24 bits; it is 25/,
      ],
      ["sums beyond exact integers", changed({ architecture: { inputs: 65_535, hidden: 65_535, outputs: 1, shift: 0 } }), /may need \d+ bits, and 50 are the most/], // prettier-ignore
      [
        "a weight too few",
        changed({ hiddenWeights: "AAAA" }),
        /hiddenWeights must be 2048 bytes in base64; they are 3/,
      ],
      ["a bias beyond its bits", changed({ outputBiases: Buffer.from(Int32Array.of(...Array(10).fill(2 ** 23)).buffer).toString("base64") }), /Bias 0 of the output layer of 64-32-10-s4 is 8388608, which 24 bits don't hold/], // prettier-ignore
      [
        "a salt of 256 bits",
        changed({ salt: `0x${"ff".repeat(32)}` }),
        /salt must be 0x, 00 and 62 hex digits; it is "0xff/,
      ],
    ];
    for (const [what, file, reason] of refused) {
      it(`is refused with ${what}`, () => expect(() => parseModel(file)).to.throw(reason));
    }
  });

  describe("an architecture's name", () => {
    it("says all that its circuit depends on", () => {
      expect(parseArchitecture("784-128-10-s6")).to.deep.equal({ inputs: 784, hidden: 128, outputs: 10, shift: 6 });
      expect(weightCount(parseArchitecture("784-128-10-s6"))).to.equal(101_632);
    });

    for (const wrong of ["", "64-32-10", "64-32-10-4", "0-32-10-s4", "64-32-10-s4 ", "70000-1-1-s1"]) {
      it(`isn't "${wrong}"`, () =>
        expect(() => parseArchitecture(wrong)).to.throw(/architecture|must be a whole number/));
    }
  });

  describe("an input", () => {
    const refused: [string, unknown, RegExp][] = [
      ["a number too few", Array(63).fill(0), /must be 64 numbers; it is 63 numbers/],
      ["no list", "0,1", /must be 64 numbers; it is string/],
      ["a fraction", Array(64).fill(0.5), /whole numbers from 0 to 255; the one at 0 is 0\.5/],
      ["more than a byte", [...Array(63).fill(0), 256], /the one at 63 is 256/],
      ["less than nothing", [-1, ...Array(63).fill(0)], /the one at 0 is -1/],
      ["text", [...Array(63).fill(0), "1"], /the one at 63 is "1"/],
    ];
    for (const [what, input, reason] of refused) {
      it(`is refused with ${what}`, () => expect(() => requireInput(DIGITS, input)).to.throw(reason));
    }
  });

  describe("examples", () => {
    it("are refused with the row and the file that has it", () => {
      const folder = mkdtempSync(path.join(tmpdir(), "licet-examples-"));
      try {
        const file = path.join(folder, "examples.csv.gz");
        writeFileSync(file, gzipSync("1,2,0\n1,2\n"));
        expect(() => loadExamples(file)).to.throw(/Row 2 of .*examples\.csv\.gz isn't 3 whole numbers from 0 to 255/);
        writeFileSync(file, "1,2,0");
        expect(() => loadExamples(file)).to.throw(/can't be read as a compressed CSV file: incorrect header/);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
});
