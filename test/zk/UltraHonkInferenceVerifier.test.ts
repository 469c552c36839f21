import { readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { expect } from "chai";
import { getBytes, hexlify, id, toBeHex, ZeroHash } from "ethers";
import hre from "hardhat";
import { deployInferenceVerifier, requireSetup } from "../../deploy/inferenceVerifier";
import { UltraHonkInferenceVerifier__factory, type UltraHonkInferenceVerifier } from "../../typechain-types";
import { DIGITS } from "../../zk/architecture";
import { publicInputsOf, type PublicInputs, type Statement } from "../../zk/circuit";
import { contextOf, FIELD, outputCommitment, saltUnder } from "../../zk/commitments";
import { classify } from "../../zk/network";
import { prove, proveWitness, witnessOf, type Proof } from "../../zk/prover";
import { seeded } from "../../zk/random";
import { CANONICAL_POWER_IN_G2, DEVELOPMENT_SETUP, loadPowers, setupIdOf } from "../../zk/setup/files";
import { verifierName } from "../../zk/verifierContract";
import {
  digits,
  digitsKit,
  digitsProof,
  GRANT_SALT,
  RECEIPT_HASH,
  signerOnChain,
  statementOf,
} from "../support/digits";

const CANONICAL = setupIdOf(CANONICAL_POWER_IN_G2);
const DEVELOPMENT = setupIdOf(loadPowers(DEVELOPMENT_SETUP).powerInG2);

/** `CORRUPTIONS=10000` tries as many; about half a minute a thousand. */
const CORRUPTIONS = Number(process.env.CORRUPTIONS ?? 500);

/** In the order of the verifier's arguments. */
type Asked = [weightsCommitment: string, requestHash: string, responseHash: string, receiptHash: string, proof: string];

const askedOf = ({ publicInputs, proof }: Proof, receiptHash = RECEIPT_HASH): Asked => {
  const { weightsCommitment, requestHash, responseHash } = publicInputs;
  return [weightsCommitment, requestHash, responseHash, receiptHash, proof];
};

describe("UltraHonkInferenceVerifier", function () {
  this.timeout(300_000 + CORRUPTIONS * 200);

  let verifier: UltraHonkInferenceVerifier;
  let asked: Asked;

  before(async () => {
    const [deployer] = await hre.ethers.getSigners();
    ({ verifier } = await deployInferenceVerifier(hre.artifacts, deployer));
    asked = askedOf(await digitsProof());
  });

  /** Whether it says so: false and a revert are the same. */
  const isProven = (...args: Asked): Promise<boolean> => verifier.verify(...args).catch(() => false);
  const changed = (at: number, value: string): Asked => asked.map((old, i) => (i === at ? value : old)) as Asked;

  describe("deployment", () => {
    it("reverts with NoVerifier where there is no code", async () => {
      const [deployer, somebody] = await hre.ethers.getSigners();
      const factory = new UltraHonkInferenceVerifier__factory(deployer);
      await expect(factory.deploy(somebody.address, DEVELOPMENT))
        .to.be.revertedWithCustomError(factory, "NoVerifier")
        .withArgs(somebody.address);
    });

    it("reverts with DevelopmentSetup on any chain but a local one, unless the setup is Aztec's", async () => {
      for (const chainId of [1, 137, 31_338]) {
        const deployer = await signerOnChain(chainId);
        const { abi, bytecode } = await hre.artifacts.readArtifact(verifierName(DIGITS));
        const honk = await (await hre.ethers.getContractFactory(abi, bytecode, deployer)).deploy();
        const factory = new UltraHonkInferenceVerifier__factory(deployer);
        await expect(factory.deploy(honk, DEVELOPMENT))
          .to.be.revertedWithCustomError(factory, "DevelopmentSetup")
          .withArgs(chainId, DEVELOPMENT);
        const canonical = await factory.deploy(honk, CANONICAL);
        expect(await canonical.isDevelopmentSetup()).to.equal(false);
      }
    });

    it("is refused by the script before anything is sent", async () => {
      const deployer = await signerOnChain(10);
      const sent = () => deployer.getNonce();
      const before = await sent();
      await expect(deployInferenceVerifier(hre.artifacts, deployer)).to.be.rejectedWith(
        /setup made for development \(0x\w{64}\), and chain 10 isn't a local one.*docs\/trust\.md/,
      );
      expect(await sent()).to.equal(before);
      expect(() => requireSetup(CANONICAL, 10n)).not.to.throw();
      expect(() => requireSetup(DEVELOPMENT, 1337n)).not.to.throw();
    });

    it("goes by the setup that the generated code holds", async () => {
      expect(await verifier.SETUP_ID()).to.equal(DEVELOPMENT);
      expect(await verifier.isDevelopmentSetup()).to.equal(true);
      expect(await verifier.CANONICAL_SETUP()).to.equal(CANONICAL);
      expect(await verifier.FIELD()).to.equal(FIELD);
      const code = await hre.ethers.provider.getCode(await verifier.HONK());
      expect(code.length / 2).to.be.lessThan(24_576);
    });
  });

  describe("the generated contract", () => {
    it("is what the circuit and the setup give, to the byte", async () => {
      const { verifier: file } = await digitsKit();
      const committed = path.join(hre.config.paths.sources, "zk/generated", `${verifierName(DIGITS)}.sol`);
      expect(readFileSync(committed, "utf8") === readFileSync(file, "utf8"), "run `npx hardhat zk:verifier`").to.equal(true); // prettier-ignore
    });
  });

  describe("verify", () => {
    it("says that a proof is one, for at most 850,000 gas", async () => {
      expect(await verifier.verify(...asked)).to.equal(true);
      expect(Number(await verifier.verify.estimateGas(...asked))).to.be.lessThan(850_000);
    });

    it("says so of two proofs of one statement, which have nothing in common", async () => {
      const again = askedOf(await prove(await digitsKit(), statementOf()));
      expect(again[4]).not.to.equal(asked[4]);
      expect(await isProven(...again)).to.equal(true);
    });

    for (const [at, what] of ["weights commitment", "request hash", "response hash"].entries()) {
      it(`refuses another ${what}, by one more and one less`, async () => {
        for (const by of [1n, -1n]) {
          expect(await isProven(...changed(at, toBeHex(BigInt(asked[at]) + by, 32)))).to.equal(false);
        }
      });

      it(`reverts with NotInField for the same ${what} by another name`, async () => {
        const alias = toBeHex(BigInt(asked[at]) + FIELD, 32);
        await expect(verifier.verify(...changed(at, alias)))
          .to.be.revertedWithCustomError(verifier, "NotInField")
          .withArgs(at, alias);
      });
    }

    it("refuses another receipt, down to the lowest bit that counts", async () => {
      for (const by of [256n, -256n]) {
        expect(await isProven(...changed(3, toBeHex(BigInt(asked[3]) + by, 32)))).to.equal(false);
      }
    });

    it("takes the highest 248 bits of a receipt's hash: no two receipts are found that share them", async () => {
      expect(await isProven(...changed(3, toBeHex(BigInt(asked[3]) ^ 1n, 32)))).to.equal(true);
    });

    it("refuses proofs that are too short, too long, empty, or nothing but zeros or ones", async () => {
      const proof = asked[4];
      const zeros = `0x${"00".repeat(8_000)}`;
      const ones = `0x${"ff".repeat(8_000)}`;
      const cut = [proof.slice(0, -64), proof.slice(0, -2), `0x${proof.slice(66)}`, "0x", "0x00"];
      for (const wrong of [...cut, `${proof}00`, proof + "00".repeat(32), proof + proof.slice(2), zeros, ones]) {
        expect(await isProven(...changed(4, wrong)), `${wrong.length / 2 - 1} bytes`).to.equal(false);
      }
    });

    it("refuses calldata that is cut off", async () => {
      const data = getBytes(verifier.interface.encodeFunctionData("verify", asked));
      const to = await verifier.getAddress();
      expect(BigInt(await hre.ethers.provider.call({ to, data: hexlify(data) }))).to.equal(1n);
      for (const length of [4, 36, 132, 164, 196, data.length - 4_000, data.length - 32, data.length - 1]) {
        const call = hre.ethers.provider.call({ to, data: hexlify(data.subarray(0, length)) });
        expect(await call.then(BigInt, () => 0n), `${length} bytes`).to.equal(0n);
      }
    });

    it(`refuses a proof with bits, bytes or words changed at random, ${CORRUPTIONS} times`, async () => {
      const random = seeded(20_261_123);
      const accepted: string[] = [];
      for (let i = 0; i < CORRUPTIONS; i++) {
        const wrong = corrupted(getBytes(asked[4]), random);
        if (await isProven(...changed(4, hexlify(wrong)))) accepted.push(hexlify(wrong));
      }
      expect(accepted).to.deep.equal([]);
      expect(await isProven(...asked)).to.equal(true);
    });
  });

  describe("another statement's proof", () => {
    /** Its proof is one for it, and none for the first statement, whichever of its words differ. */
    const refusesProofOf = async (
      statement: Statement,
      receiptHash = RECEIPT_HASH,
      differing: (keyof PublicInputs)[],
    ) => {
      const proof = await prove(await digitsKit(), statement);
      expect(await isProven(...askedOf(proof, receiptHash))).to.equal(true);
      expect(await isProven(...changed(4, proof.proof))).to.equal(false);
      expect(await isProven(...([...askedOf(proof, receiptHash).slice(0, 4), asked[4]] as Asked))).to.equal(false);
      const first = publicInputsOf(statementOf());
      const names = Object.keys(first) as (keyof PublicInputs)[];
      expect(names.filter((name) => first[name] !== proof.publicInputs[name])).to.deep.equal(differing);
    };

    it("is refused if it is another model's, which differs by one in one weight", async () => {
      const { model } = statementOf();
      const hiddenWeights = model.network.hiddenWeights.map((weight, i) => (i === 1_000 ? weight ^ 1 : weight));
      const other = { ...model, network: { ...model.network, hiddenWeights } };
      const isSeen = classify(other.network, statementOf().input).logits.join() !== classify(model.network, statementOf().input).logits.join(); // prettier-ignore
      await refusesProofOf(statementOf({ model: other }), RECEIPT_HASH, ["weightsCommitment", ...(isSeen ? ["responseHash" as const] : [])]); // prettier-ignore
    });

    it("is refused if it is of another input", async () => {
      const { input } = digits().heldOut[1];
      await refusesProofOf(statementOf({ input }), RECEIPT_HASH, ["requestHash", "responseHash"]);
    });

    it("is refused if it is under another grant", async () => {
      await refusesProofOf(statementOf({ grantSalt: ZeroHash }), RECEIPT_HASH, ["requestHash", "responseHash"]);
    });

    it("is refused if it was made for another receipt, license or chain, all of which are in the receipt's hash", async () => {
      const other = id("a receipt on another chain");
      await refusesProofOf(statementOf({ receiptHash: other }), other, ["context"]);
    });
  });

  describe("a statement that isn't true", () => {
    const forgedOutput = () => {
      const { model, input } = statementOf();
      const answer = classify(model.network, input);
      const salt = saltUnder(GRANT_SALT, "output");
      return outputCommitment(model.network, { ...answer, class: (answer.class + 1) % 10 }, salt);
    };

    it("has no witness, and the prover says which part isn't true", async () => {
      const kit = await digitsKit();
      const shown = publicInputsOf(statementOf());
      const lies: [Partial<PublicInputs>, RegExp][] = [
        [{ weightsCommitment: toBeHex(1n, 32) }, /these aren't the model's weights/],
        [{ requestHash: toBeHex(1n, 32) }, /this isn't the request's input/],
        [{ responseHash: forgedOutput() }, /this isn't the response/],
        [{ context: toBeHex(FIELD - 1n, 32) }, /isn't true/],
      ];
      for (const [lie, reason] of lies) {
        await expect(witnessOf(kit, statementOf(), { ...shown, ...lie })).to.be.rejectedWith(reason);
      }
    });

    it("can't be proven by a witness that was changed to fit it", async () => {
      const kit = await digitsKit();
      const shown = publicInputsOf(statementOf());
      const forgeries: Partial<PublicInputs>[] = [
        { responseHash: forgedOutput() },
        { requestHash: toBeHex(BigInt(shown.requestHash) + 1n, 32) },
        { weightsCommitment: toBeHex(BigInt(shown.weightsCommitment) + 1n, 32) },
      ];
      const witness = gunzipSync(await witnessOf(kit, statementOf()));
      for (const forgery of forgeries) {
        const [[name, word]] = Object.entries(forgery) as [keyof PublicInputs, string][];
        const forged = replaceAll(witness, getBytes(shown[name]), getBytes(word));
        const proof = await proveWitness(kit, gzipSync(forged));
        expect(proof.publicInputs).to.deep.equal({ ...shown, ...forgery });
        expect(await isProven(...askedOf(proof)), name).to.equal(false);
      }
    });

    it("can't be proven by weights, inputs or sums that were changed within a witness", async () => {
      const kit = await digitsKit();
      const witness = gunzipSync(await witnessOf(kit, statementOf()));
      const random = seeded(7);
      for (let i = 0; i < 5; i++) {
        const forged = Uint8Array.from(witness);
        // A word begins with zeros wherever a small number is: its last byte is changed.
        const at = lastByteOfSmallNumber(witness, Math.floor((0.2 + random() * 0.7) * witness.length));
        forged[at] ^= 1;
        const proof = await proveWitness(kit, gzipSync(forged));
        expect(await isProven(...askedOf(proof)), `byte ${at}`).to.equal(false);
      }
    });
  });

  it("shows a receipt's hash as the circuit takes it", () => {
    expect(contextOf(`0x${"ab".repeat(32)}`)).to.equal(`0x00${"ab".repeat(31)}`);
  });
});

/** Some bits, a byte, a word, or two words' places: always something else than before. */
function corrupted(proof: Uint8Array, random: () => number): Uint8Array {
  const below = (bound: number) => Math.floor(random() * bound);
  const wrong = Uint8Array.from(proof);
  const kind = below(4);
  const [word, other] = [below(proof.length / 32) * 32, below(proof.length / 32) * 32];
  if (kind === 0) for (let i = 0; i <= below(4); i++) wrong[below(proof.length)] ^= 1 << below(8);
  if (kind === 1) wrong[below(proof.length)] ^= 1 + below(255);
  if (kind === 2) for (let i = 0; i < 32; i++) wrong[word + i] = below(256);
  if (kind === 3) wrong.copyWithin(word, other, other + 32);
  return Buffer.compare(wrong, proof) === 0 ? corrupted(proof, random) : wrong;
}

function replaceAll(bytes: Uint8Array, from: Uint8Array, to: Uint8Array): Uint8Array {
  const replaced = Buffer.from(bytes);
  let found = 0;
  for (let at = replaced.indexOf(from); at >= 0; at = replaced.indexOf(from, at + 32), found++) replaced.set(to, at);
  expect(found, "places in the witness").to.be.greaterThan(0);
  return replaced;
}

function lastByteOfSmallNumber(witness: Uint8Array, from: number): number {
  const zeros = Buffer.alloc(31);
  const at = Buffer.from(witness).indexOf(zeros, from);
  expect(at, "a small number in the witness").to.be.greaterThan(0);
  return at + 31;
}
