import { expect } from "chai";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { nativeMultiply } from "../../zk/barretenberg";
import { contribute, emptySetup, powerAt, verifySetup, type Multiply, type Setup } from "../../zk/setup/ceremony";
import { CANONICAL_POWER_IN_G2, DEVELOPMENT_SETUP, loadSetup, saveSetup } from "../../zk/setup/files";
import { bytesToScalar, g1FromBytes, g1ToBytes, G2_GENERATOR, g2FromBytes, g2ToBytes } from "../../zk/setup/points";

/** The same in JavaScript. */
const multiply: Multiply = (point, scalar) => g1ToBytes(g1FromBytes(point).multiply(bytesToScalar(scalar)));

describe("setups of proofs", function () {
  this.timeout(120_000);

  let setup: Setup;
  before(async () => {
    setup = await contribute(emptySetup(16), "one", multiply);
    setup = await contribute(setup, "two", multiply);
  });

  it("are those of their transcripts: the committed one, and one made by two parties just now", () => {
    verifySetup(loadSetup(DEVELOPMENT_SETUP));
    verifySetup(setup);
    expect(setup.transcript.map(({ party }) => party)).to.deep.equal(["one", "two"]);
  });

  it("come out the same by the native prover's arithmetic", async () => {
    const native = await nativeMultiply();
    try {
      for (let i = 1; i < 16; i++) {
        const [point, scalar] = [powerAt(setup.powers, i), powerAt(setup.powers, 16 - i).slice(0, 32)];
        expect(Buffer.compare(native.multiply(point, scalar), multiply(point, scalar))).to.equal(0);
      }
      verifySetup(await contribute(setup, "three", native.multiply));
    } finally {
      native.close();
    }
  });

  it("are told apart from those that are none", async () => {
    const { powers, powerInG2, transcript } = setup;
    const withPower = (at: number, bytes: Uint8Array) => {
      const changed = Uint8Array.from(powers);
      changed.set(bytes, at * 64);
      return { ...setup, powers: changed };
    };
    const [first, second] = transcript;
    const withSecond = (change: Partial<typeof second>) => ({
      ...setup,
      transcript: [first, { ...second, ...change }],
    });
    const twice = Buffer.from(g2ToBytes(g2FromBytes(powerInG2).double()));
    const idle = await contribute(setup, "idle", (point) => point);
    const wrong: [string, Setup, RegExp][] = [
      ["nobody's", emptySetup(16), /names no party/],
      ["a power in another's place", withPower(7, powerAt(powers, 8)), /aren't those of one number/],
      ["the last power wrong", withPower(15, powerAt(powers, 14)), /aren't those of one number/],
      ["a power off the curve", withPower(7, new Uint8Array(64).fill(1)), /Power 7 of the setup is no point/],
      ["another generator", withPower(0, powerAt(powers, 1)), /aren't those that its transcript ends with/],
      ["another first power", withPower(1, powerAt(powers, 2)), /aren't those that its transcript ends with/],
      ["another power in G2", { ...setup, powerInG2: twice }, /power in G2 isn't that which its transcript ends with/],
      [
        "a power in G2 of another number, in the transcript, too",
        { ...withSecond({ powerInG2: twice.toString("hex") }), powerInG2: twice },
        /aren't those of one number/,
      ],
      ["a contribution left out", { ...setup, transcript: [second] }, /two doesn't prove/],
      ["contributions in another order", { ...setup, transcript: [second, first] }, /two doesn't prove/],
      ["a contribution by another name", withSecond({ party: "three" }), /three doesn't prove/],
      ["another's proof", withSecond({ proof: first.proof }), /two doesn't prove/],
      ["a party that contributed nothing", idle, /idle/],
    ];
    for (const [what, candidate, reason] of wrong) expect(() => verifySetup(candidate), what).to.throw(reason);
  });

  it("are kept in files, and refused if these aren't whole", () => {
    const folder = mkdtempSync(path.join(tmpdir(), "licet-setup-"));
    try {
      expect(() => loadSetup(folder)).to.throw(/has no bn254_g1\.dat/);
      saveSetup(setup, folder);
      verifySetup(loadSetup(folder));
      writeFileSync(path.join(folder, "bn254_g1.dat"), setup.powers.subarray(0, 100));
      expect(() => loadSetup(folder)).to.throw(/holds no setup: bn254_g1\.dat has 100 bytes and bn254_g2\.dat 128/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("know Aztec's power in G2, a point of its group and not the generator", () => {
    expect(g2FromBytes(CANONICAL_POWER_IN_G2).equals(G2_GENERATOR)).to.equal(false);
  });
});
