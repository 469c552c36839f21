import { expect } from "chai";
import { id } from "ethers";
import hre from "hardhat";
import path from "node:path";
import { deployInferenceVerifier } from "../../deploy/inferenceVerifier";
import { receiptProver } from "../../oracle/disputes/receiptProver";
import { publicInputsOf } from "../../zk/circuit";
import { weightsCommitment } from "../../zk/commitments";
import { AnsweringBench } from "../support/answering";
import { ChallengeStatus, courtMarketOf } from "../support/court";
import { digits, DIGITS_FOLDER, digitsKit, digitsModel, statementOf } from "../support/digits";
import { deployMarket } from "../support/market";

const MODEL_FILE = path.join(DIGITS_FOLDER, "model.json");

describe("a receipt's prover", function () {
  this.timeout(300_000);

  const [{ input }] = digits().heldOut;
  const grantSalt = id("salt");
  const hashes = publicInputsOf(statementOf({ input, grantSalt }));
  const asked = () => ({
    ...{ receipt: hashes, receiptHash: id("a receipt"), input, grantSalt },
    weightsCommitment: weightsCommitment(digitsModel()),
  });

  it("defends a doubted classification before the courts, by what the store kept of its request", async () => {
    await digitsKit();
    const plain = await deployMarket();
    const { verifier } = await deployInferenceVerifier(hre.artifacts, plain.deployer);
    const weights = weightsCommitment(digitsModel());
    const market = await courtMarketOf(plain, { verifier: await verifier.getAddress(), weights });
    const provers = new Map([[market.versionId, receiptProver({ modelFile: MODEL_FILE })]]);
    const bench = await AnsweringBench.start(market, { provers });
    const batch = await bench.settle(market.licenseId, [{ hashes, input }]);
    const challengeId = await bench.challenge(batch, market.licenseId, batch.signed[0]);
    await bench.answerer.answerDue();
    await bench.answerer.idle();
    expect(await bench.statusOf(challengeId), JSON.stringify(bench.lines)).to.equal(ChallengeStatus.Rejected);
    await bench.store.close();
  });

  it("proves nothing of what another model has answered", async () => {
    const receipt = { ...hashes, responseHash: id("another answer") };
    await expect(receiptProver({ modelFile: MODEL_FILE }).prove({ ...asked(), receipt })).to.be.rejectedWith(
      /gives another answer to what was asked than receipt .* served by other weights/,
    );
  });

  it("says so where its model isn't the one that was published, or its file isn't there", async () => {
    const other = { ...asked(), weightsCommitment: id("another model") };
    await expect(receiptProver({ modelFile: MODEL_FILE }).prove(other)).to.be.rejectedWith(
      /has the weights commitment 0x[0-9a-f]{64}, and its version .*: name the model that was published/,
    );
    await expect(receiptProver({ modelFile: "no/such.json" }).prove(asked())).to.be.rejectedWith("no/such.json");
  });
});
