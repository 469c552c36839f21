import { expect } from "chai";
import { id, Wallet } from "ethers";
import hre from "hardhat";
import path from "node:path";
import { deployInferenceVerifier } from "../../deploy/inferenceVerifier";
import { RequestSigner } from "../../oracle/licensee/requestSigner";
import { checkReceipts } from "../../oracle/licensee/receiptCheck";
import { listReceipts } from "../../oracle/licensee/receiptList";
import { receiptDigest, saltedHash } from "../../oracle/protocol/messages";
import { CLASSIFICATIONS_PATH, requestHashOf, responseHashOf } from "../../oracle/protocol/classification";
import { REQUEST_SIGNATURE_HEADER } from "../../oracle/protocol/requestSignature";
import { ReceiptFlag, type Receipt } from "../../oracle/protocol/types";
import { publicInputsOf } from "../../zk/circuit";
import { classify } from "../../zk/network";
import { prove } from "../../zk/prover";
import { startClassifier, type Classifier } from "../../zk/server";
import { digits, DIGITS_FOLDER, digitsKit, digitsModel, statementOf } from "../support/digits";
import { DOMAIN, grantWith } from "../support/fakeMessages";
import { GatewayBench, keyFor, modelAt } from "../support/gatewayBench";

const KEY = new Wallet(id("a key that signs requests"));
const MODEL_FILE = path.join(DIGITS_FOLDER, "model.json");

describe("classifications", function () {
  this.timeout(300_000);

  let classifier: Classifier;
  let bench: GatewayBench;
  const [example] = digits().heldOut;
  const body = JSON.stringify({ model: "digits", input: example.input });

  before(async () => {
    classifier = await startClassifier({ modelPath: MODEL_FILE });
  });
  after(() => classifier.close());

  beforeEach(async () => {
    bench = await GatewayBench.start();
    await bench.serve({ models: [{ ...modelAt({ url: classifier.url }), id: "digits" }] });
  });
  afterEach(() => bench.close());

  const post = (sent: string | object = body, options = {}) => bench.post(sent, { path: CLASSIFICATIONS_PATH, ...options }); // prettier-ignore

  it("are answered by the model's own arithmetic, and metered by their inputs", async () => {
    const { status, text, headers } = await post();
    expect(status, text).to.equal(200);
    const { class: answer, logits } = classify(digitsModel().network, example.input);
    expect(JSON.parse(text)).to.deep.include({
      ...{ object: "classification", model: "digits", architecture: "64-32-10-s4", class: answer, logits },
    });
    const receipt = await bench.onlyReceipt();
    expect(headers["x-licet-receipt-id"]).to.equal(receipt.requestId);
    expect(receipt).to.deep.include({ requests: 1n, inputTokens: 64n, outputTokens: 0n, flags: 0 });
  });

  it("have receipts that commit to what was asked and answered, whatever bytes it came as", async () => {
    const { text } = await post();
    const spaced = JSON.stringify({ input: example.input, model: "digits" }, null, 2);
    await post(spaced);
    const { salt } = grantWith();
    const { requestHash, responseHash } = publicInputsOf(statementOf({ grantSalt: salt }));
    const receipts = await bench.receipts();
    expect(receipts).to.have.length(2);
    for (const receipt of receipts) expect(receipt).to.deep.include({ requestHash, responseHash });
    expect(requestHashOf(salt, Buffer.from(spaced))).to.equal(requestHash);
    expect(responseHashOf(salt, Buffer.from(text))).to.equal(responseHash);
  });

  it("have receipts that their licensee can verify like any other", async () => {
    await post();
    const listed = await listReceipts(bench.gateway.url, keyFor());
    expect((await checkReceipts(bench.chain, 1n, listed, [])).problems).to.deep.equal([]);
  });

  it("can be proven: the chain then knows the answer was the registered weights', of this receipt and no other", async () => {
    await post();
    await post();
    const [first, second] = await bench.receipts();
    const { salt } = grantWith();
    const receiptHash = receiptDigest(DOMAIN, first);
    const proof = await prove(await digitsKit(), statementOf({ grantSalt: salt, receiptHash }));
    const [deployer] = await hre.ethers.getSigners();
    const { verifier } = await deployInferenceVerifier(hre.artifacts, deployer);
    const { weightsCommitment } = proof.publicInputs;
    const isProven = ({ requestHash, responseHash }: Receipt, hash: string) =>
      verifier.verify(weightsCommitment, requestHash, responseHash, hash, proof.proof).catch(() => false);
    expect(await isProven(first, receiptHash)).to.equal(true);
    expect(await isProven(second, receiptDigest(DOMAIN, second))).to.equal(false);
    expect(await isProven(first, receiptDigest({ ...DOMAIN, chainId: 1n }, first))).to.equal(false);
    expect(await isProven(first, receiptDigest(DOMAIN, { ...first, licenseId: 2n }))).to.equal(false);
  });

  it("leave what they asked in the store where their model's receipts may have to be proven, and not otherwise", async () => {
    await post();
    const model = { ...modelAt({ url: classifier.url }), id: "digits", keepInputs: true };
    await bench.serve({ models: [model] });
    await post();
    const [other, kept] = await bench.receipts();
    expect(await bench.store.disputes.input(other.requestId)).to.equal(null);
    expect([...(await bench.store.disputes.input(kept.requestId))!]).to.deep.equal([...example.input]);
    await post({ model: "digits", input: [1, 2, 3] });
    await bench.store.disputes.dropInputs(3_600);
    expect(await bench.store.disputes.input(kept.requestId)).not.to.equal(null);
  });

  it("are signed, where a grant's key must sign requests, by what their receipt will say of them", async () => {
    const apiKey = keyFor({ key: KEY.address });
    const signer = new RequestSigner({ domain: DOMAIN, now: async () => bench.chain.time }, apiKey, KEY);
    const signed = await signer.sign(`${bench.gateway.url}${CLASSIFICATIONS_PATH}`, Buffer.from(body));
    const headers = { [REQUEST_SIGNATURE_HEADER]: signed };
    const { status, text } = await post(body, { apiKey, headers });
    expect(status, text).to.equal(200);
    expect((await bench.onlyReceipt()).requestHash).to.equal(requestHashOf(grantWith().salt, Buffer.from(body)));
    const other = JSON.stringify({ model: "digits", input: digits().heldOut[1].input });
    expect((await post(other, { apiKey, headers })).status).to.equal(401);
  });

  const refused: [string, object | string, RegExp][] = [
    ["without an input", { model: "digits" }, /input must be a list of 1 to 65535 numbers, not undefined/],
    ["with text for an input", { model: "digits", input: "zero" }, /input must be a list .* not \\"zero\\"/],
    ["with a number that is no byte", { model: "digits", input: [0, 256] }, /input has 256 at 1: send whole numbers from 0 to 255/], // prettier-ignore
    ["with another parameter", { model: "digits", input: [1], stream: true }, /stream: isn't taken here/],
    ["that isn't JSON", "{", /isn't JSON/],
  ];
  for (const [what, sent, reason] of refused) {
    it(`are refused ${what}, at no cost and without a receipt`, async () => {
      const { status, text } = await post(sent);
      expect(status).to.equal(400);
      expect(text).to.match(reason);
      expect(await bench.receipts()).to.deep.equal([]);
    });
  }

  it("of another length than the model takes are refused by it, and cost nothing", async () => {
    const { status, text } = await post({ model: "digits", input: [1, 2, 3] });
    expect(status).to.equal(400);
    expect(text).to.contain("The input must be 64 numbers; it is 3 numbers.");
    const receipt = await bench.onlyReceipt();
    expect(receipt).to.deep.include({ requests: 0n, inputTokens: 0n, flags: ReceiptFlag.upstreamError });
    expect(receipt.responseHash).to.equal(saltedHash(grantWith().salt, Buffer.from(text)));
  });

  it("cost nothing where the server's answer is none: a class that isn't the greatest logit's, logits out of bounds", async () => {
    const good = { architecture: "1-1-2-s0", class: 1, logits: [0, 5] };
    const answers = [
      { ...good, class: 0 },
      { ...good, logits: [0, 2 ** 40] },
      { ...good, logits: [5] },
      { class: 1 },
      {},
    ];
    for (const answer of answers) {
      bench.upstreams[0].script = (response) => void response.end(JSON.stringify(answer));
      await bench.serve({ models: [{ ...modelAt({ url: bench.upstreams[0].url }), id: "digits" }] });
      expect((await post({ model: "digits", input: [1] })).status, JSON.stringify(answer)).to.equal(502);
      expect((await bench.receipts()).at(-1)).to.deep.include({ requests: 0n, flags: ReceiptFlag.upstreamError });
    }
  });

  it("are served by no file that isn't a model's", async () => {
    await expect(startClassifier({ modelPath: "LICENSE" })).to.be.rejectedWith(/LICENSE can't be served: The model isn't JSON/); // prettier-ignore
  });
});
