import { expect } from "chai";
import { ZeroHash } from "ethers";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DIGITS } from "../../zk/architecture";
import { publicInputsOf, type Statement } from "../../zk/circuit";
import {
  contextOf,
  FIELD,
  inputCommitment,
  outputCommitment,
  saltUnder,
  weightsCommitment,
} from "../../zk/commitments";
import { classify } from "../../zk/network";
import { witnessOf } from "../../zk/prover";
import { provingKit, type ProvingKit } from "../../zk/provingKit";
import { seeded } from "../../zk/random";
import { DEVELOPMENT_SETUP } from "../../zk/setup/files";
import { digits, digitsKit, digitsModel, networkOf, statementOf } from "../support/digits";

const TINY = { inputs: 3, hidden: 4, outputs: 3, shift: 2 };

describe("circuits", function () {
  this.timeout(300_000);

  /** The circuit has a witness for it: it commits and computes as TypeScript does. */
  const agrees = (kit: ProvingKit, statement: Statement) => witnessOf(kit, statement);

  it("answer and commit as TypeScript does: digits, nothing, everything", async () => {
    const kit = await digitsKit();
    const inputs = [
      ...digits()
        .heldOut.slice(1, 4)
        .map(({ input }) => input),
      Array(64).fill(0),
      Array(64).fill(255),
    ];
    for (const input of inputs) await agrees(kit, statementOf({ input }));
  });

  it("answer as TypeScript does with weights and biases at their extremes", async () => {
    const kit = await digitsKit();
    const [least, most] = [-(2 ** 23), 2 ** 23 - 1];
    const networks = [
      networkOf(
        DIGITS,
        () => 127,
        () => most,
      ),
      networkOf(
        DIGITS,
        () => -128,
        () => least,
      ),
      networkOf(
        DIGITS,
        (i) => (i % 2 ? 127 : -128),
        (i) => (i % 2 ? most : least),
      ),
    ];
    for (const network of networks) {
      const model = { network, salt: 0n };
      for (const input of [Array(64).fill(255), Array(64).fill(1)]) await agrees(kit, statementOf({ model, input }));
    }
  });

  it("answer as TypeScript does with random networks of another architecture", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "licet-kits-"));
    try {
      const kit = await provingKit(TINY, { cache: folder });
      const random = seeded(3);
      const below = (bound: number) => Math.floor(random() * bound);
      for (let i = 0; i < 10; i++) {
        const network = networkOf(
          TINY,
          () => below(256) - 128,
          () => below(2 ** 17) - 2 ** 16,
        );
        const input = Array.from({ length: 3 }, () => below(256));
        await agrees(kit, statementOf({ model: { network, salt: BigInt(i) }, input }));
      }
      await expect(agrees(kit, statementOf())).to.be.rejectedWith(
        /The model is 64-32-10-s4, and the circuit 3-4-3-s2: use its own/,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("have a word for each thing that they bind, and never the same for two", () => {
    const statement = statementOf();
    const { network, salt } = digitsModel();
    const base = publicInputsOf(statement);
    const words = [
      ...Object.values(base),
      weightsCommitment({ network, salt: salt + 1n }),
      weightsCommitment({ network: { ...network, shift: 5 }, salt }),
      weightsCommitment({ network: { ...network, outputBiases: network.outputBiases.map((bias) => bias + 1) }, salt }),
      inputCommitment({ ...DIGITS, inputs: 65 }, [...statement.input, 0], statement.inputSalt),
      inputCommitment(DIGITS, statement.input, statement.outputSalt),
      outputCommitment(DIGITS, classify(network, statement.input), statement.inputSalt),
      contextOf(ZeroHash),
    ];
    expect(new Set(words).size).to.equal(words.length);
    expect(words.every((word) => BigInt(word) < FIELD)).to.equal(true);
    expect(saltUnder(ZeroHash, "input")).not.to.equal(saltUnder(ZeroHash, "output"));
  });

  describe("what is kept of them", () => {
    let cache: string;
    beforeEach(() => (cache = mkdtempSync(path.join(tmpdir(), "licet-kits-"))));
    afterEach(() => rmSync(cache, { recursive: true }));

    /** What is done to get a kit. */
    const stepsFor = async (setup = DEVELOPMENT_SETUP) => {
      const steps: string[] = [];
      const kit = await provingKit(TINY, { cache, setup, onStep: (step) => steps.push(step) });
      return { kit, steps };
    };

    it("is used again", async () => {
      const first = await stepsFor();
      expect(first.steps[0]).to.equal("compiling the circuit 3-4-3-s2");
      const madeAt = statSync(first.kit.circuit).mtimeMs;
      const again = await stepsFor();
      expect(again).to.deep.equal({ kit: first.kit, steps: [] });
      expect(statSync(again.kit.circuit).mtimeMs).to.equal(madeAt);
    });

    it("is made anew where a byte of it was changed, or a file is gone", async () => {
      const { kit } = await stepsFor();
      const whole = readFileSync(kit.verificationKey);
      for (const harm of [() => appendFileSync(kit.verificationKey, "x"), () => rmSync(kit.circuit)]) {
        harm();
        expect((await stepsFor()).steps).to.have.length(3);
        expect(readFileSync(kit.verificationKey).equals(whole)).to.equal(true);
      }
    });

    it("is made anew where its index can't be read", async () => {
      const { kit } = await stepsFor();
      writeFileSync(path.join(path.dirname(kit.circuit), "index.json"), "{");
      expect((await stepsFor()).steps).to.have.length(3);
    });

    it("needs a setup that is large enough", async () => {
      const wide = { inputs: 200, hidden: 32, outputs: 10, shift: 4 };
      await expect(provingKit(wide, { cache })).to.be.rejectedWith(
        /200-32-10-s4 has \d+ gates and needs a setup of 32768 points; this one has 16384\. Make a larger one: npx hardhat zk:setup --points 32768/,
      );
      await expect(stepsFor(cache)).to.be.rejectedWith(/has no bn254_g1\.dat: make a setup by zk:setup/);
    });
  });
});
