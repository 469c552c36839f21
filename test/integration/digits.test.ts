/** A model whose answers can be proven, sold, served, attested, settled and paid for like any other, by the real daemons. */
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { getBytes, HDNodeWallet, id, Wallet } from "ethers";
import hre from "hardhat";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { deployInferenceVerifier } from "../../deploy/inferenceVerifier";
import type { Deployment } from "../../oracle/chain/deployment";
import { parseConfig } from "../../oracle/config";
import { checkReceipts } from "../../oracle/licensee/receiptCheck";
import { signRetrieval } from "../../oracle/attestor/retrievalApi";
import { sendProofs } from "../../oracle/attestor/proofsApi";
import { connectChain } from "../../oracle/chain/ethersChain";
import { receiptProver } from "../../oracle/disputes/receiptProver";
import { localSigner } from "../../oracle/keys/digestSigner";
import { listReceipts } from "../../oracle/licensee/receiptList";
import { runOracle } from "../../oracle/main";
import { CLASSIFICATIONS_PATH } from "../../oracle/protocol/classification";
import { unpackEntries, unpackOutcomes } from "../../oracle/protocol/entries";
import { buildManifest, manifestHash } from "../../oracle/protocol/manifest";
import { decodeBearer, domainOf, grantDigest, receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { priceOf, sumUsage } from "../../oracle/protocol/meters";
import { Tier } from "../../oracle/protocol/tiers";
import type { Receipt } from "../../oracle/protocol/types";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { weightsCommitment } from "../../zk/commitments";
import { classify, modelToJson, type Model } from "../../zk/network";
import { startClassifier, type Classifier } from "../../zk/server";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import { digits, DIGITS_FOLDER, digitsModel, networkOf } from "../support/digits";
import { bearerOf, grantWith } from "../support/fakeMessages";
import { addPlan, ATTESTORS, BatchStatus, buyLicense, DAY, freshMarket, type Market, usd } from "../support/market";
import { freePort } from "../support/processes";

const KEY = new Wallet(id("operator's key"));
const SETTLER = new Wallet(id("settler's account"));
/** The market's licensee. */
const LICENSEE = HDNodeWallet.fromPhrase(
  "test test test test test test test test test test test junk",
  "",
  "m/44'/60'/0'/0/6",
);
const DEPOSIT = usd(10);
/** How many digits each licensee has read. */
const ASKED = [20, 10, 1];
const CANARIES = 12;
const PATIENCE_MS = 90_000;

interface Customer {
  licenseId: bigint;
  apiKey: string;
}

describe("the digits model", function () {
  this.timeout(300_000);

  let market: Market;
  let folder: string;
  let deployment: Deployment;
  let classifier: Classifier;
  let gatewayUrl: string;
  let attestorPorts: number[];
  let operationsUrl: string;
  let canary: Customer;
  let running: { ending: AbortController; over: Promise<void> }[];

  beforeEach(async () => {
    market = await freshMarket();
    [folder, running] = [mkdtempSync(join(tmpdir(), "licet-digits-")), []];
    const { assets, operators, escrow, committee } = market.licet;
    await operators.connect(market.operator).addKey(1, KEY.address, (await time.latest()) + 300 * DAY);
    await setBalance(SETTLER.address, 10n ** 20n);
    const { verifier } = await deployInferenceVerifier(hre.artifacts, market.deployer);
    const manifest = manifestHash(await buildManifest(DIGITS_FOLDER));
    const weights = weightsCommitment(digitsModel());
    await assets
      .connect(market.publisher)
      .publish(1, manifest, weights, await verifier.getAddress(), "ipfs://digits", "");
    // A request costs a cent.
    const rates = { requests: usd(10_000), inputTokens: 0n, cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
    market = { ...market, versionId: market.versionId + 1n, planId: await addPlan(market, { rates }) };
    const [escrowAt, committeeAt] = [await escrow.getAddress(), await committee.getAddress()];
    const provider = hre.ethers.provider;
    deployment = { provider, chainId: 31337n, escrow: escrowAt, committee: committeeAt, fromBlock: 0 };
    const ports = await Promise.all(Array.from({ length: 5 }, freePort));
    attestorPorts = ports.slice(0, 3);
    [gatewayUrl, operationsUrl] = [`http://127.0.0.1:${ports[3]}`, `http://127.0.0.1:${ports[4]}`];
    canary = await addCustomer();
  });

  afterEach(async () => {
    for (const { ending } of running) ending.abort();
    await Promise.allSettled(running.map(({ over }) => over));
    await classifier.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const domain = () => domainOf(31337n, deployment.escrow);

  async function addCustomer(): Promise<Customer> {
    const licenseId = await buyLicense(market, DEPOSIT);
    const fields = { notBefore: 0, expiresAt: (await time.latest()) + 300 * DAY, cap: 0n };
    const grant = grantWith({ licenseId, generation: 0, ...fields });
    return {
      licenseId,
      apiKey: bearerOf({ grant, signature: signDigest(LICENSEE.privateKey, grantDigest(domain(), grant)) }),
    };
  }

  function start(name: string, sections: object): void {
    const environment = {
      ...{ KEY: KEY.privateKey, SETTLER: SETTLER.privateKey, CANARY: canary.apiKey },
      ...Object.fromEntries(ATTESTORS.map(({ privateKey }, i) => [`MEMBER${i}`, privateKey])),
    };
    const settings = { clock: "chain", logLevel: "error", dataFolder: join(folder, name), ...sections };
    const ending = new AbortController();
    const over = runOracle(parseConfig(JSON.stringify(settings), environment), deployment, ending.signal);
    over.catch(() => undefined);
    running.push({ ending, over });
  }

  interface Started {
    /** What the operator serves; if left out, the registered network. */
    served?: Model;
    /** Sections and fields of the operator's settings. */
    operator?: { disputes?: object; model?: object };
    /** Mean time between an attestor's canaries. */
    canarySeconds?: number;
  }

  /** Has the operator serve a network, and attestors that have the registered one ask it, whatever it serves. */
  async function startAll({ served = digitsModel(), operator = {}, canarySeconds = 1 }: Started = {}): Promise<void> {
    const { model, ...sections } = operator;
    const modelPath = join(folder, "served.json");
    writeFileSync(modelPath, modelToJson(served));
    classifier = await startClassifier({ modelPath, modelId: "digits" });
    const versionId = String(market.versionId);
    start("operator", {
      gateway: {
        port: Number(new URL(gatewayUrl).port),
        ...{ operatorId: 1, signingKeyVariable: "KEY" },
        models: [{ id: "digits", upstreamUrl: classifier.url, versionId, ...model }],
      },
      settler: {
        ...{ keyVariable: "SETTLER", signingKeyVariable: "KEY", confirmations: 1, intervalSeconds: 1 },
        attestors: ATTESTORS.map(({ address }, i) => ({ address, url: `http://127.0.0.1:${attestorPorts[i]}` })),
      },
      ...sections,
    });
    await until("the gateway runs", async () => (await fetch(`${gatewayUrl}/healthz`)).ok);
    for (const [i, port] of attestorPorts.entries()) {
      const asked = {
        ...{ operatorId: 1, planId: market.planId, versionId, gatewayUrl, apiKeyVariable: "CANARY", modelId: "digits" },
        ...{ meanIntervalSeconds: canarySeconds, classification: { modelFile: join(DIGITS_FOLDER, "model.json") } },
      };
      const operations = i === 0 ? { operations: { port: Number(new URL(operationsUrl).port) } } : {};
      start(`attestor${i}`, {
        attestor: { port, keyVariable: `MEMBER${i}`, canaries: [asked] },
        ...operations,
      });
      await until("the attestor runs", async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).ok);
    }
  }

  async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await wait(100)) {
      if (await isSo().catch(() => false)) return;
    }
    throw new Error(`not so after ${PATIENCE_MS} ms: ${what}`);
  }

  const receiptsOf = ({ apiKey }: Customer) => listReceipts(gatewayUrl, apiKey);
  const canariesCame = () => until("canaries came", async () => (await receiptsOf(canary)).length >= CANARIES);

  async function ask({ apiKey }: Customer, count: number): Promise<void> {
    for (const { input } of digits().heldOut.slice(0, count)) {
      const response = await fetch(gatewayUrl + CLASSIFICATIONS_PATH, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
        body: JSON.stringify({ model: "digits", input }),
      });
      const answer = (await response.json()) as object;
      expect(answer).to.deep.include(classify(digitsModel().network, input));
    }
  }

  const endEpoch = async () => time.increaseTo((Math.floor((await time.latest()) / DAY) + 1) * DAY);
  const settled = async () => market.licet.escrow.queryFilter(market.licet.escrow.filters.BatchSettled());

  it("is sold, served, attested and settled like any other, and every unit goes to whom it is due", async () => {
    await startAll();
    const customers: Customer[] = [];
    for (const count of ASKED) {
      customers.push(await addCustomer());
      await ask(customers.at(-1)!, count);
    }
    await canariesCame();
    await endEpoch();
    await until("the batch settles", async () => (await settled()).length === 1);

    const { escrow, licenses } = market.licet;
    const [{ args, transactionHash }] = await settled();
    const { data } = (await hre.ethers.provider.getTransaction(transactionHash))!;
    const [header, entries] = escrow.interface.parseTransaction({ data })!.args;
    const chain = await connectChain(hre.ethers.provider, { escrow: deployment.escrow, fromBlock: 0, clock: "chain" });
    const { rates } = await licenses.termsOf(market.planId);
    let charges = 0n;
    const outcomes = unpackOutcomes(args.outcomes);
    for (const [i, entry] of unpackEntries(entries as string).entries()) {
      const customer = [canary, ...customers].find(({ licenseId }) => licenseId === entry.licenseId)!;
      const listed = (await receiptsOf(customer)).filter(({ batchId }) => batchId === args.batchId);
      const charge = { batchId: args.batchId, charged: outcomes[i].charged, discountBps: 0 };
      expect((await checkReceipts(chain, entry.licenseId, listed, [charge])).problems).to.deep.equal([]);
      const used = sumUsage(listed.map(({ receipt }) => receipt));
      expect({ ...used, licenseId: entry.licenseId }).to.deep.equal(entry);
      if (customer !== canary) expect(used.requests).to.equal(BigInt(ASKED[customers.indexOf(customer)]));
      expect(used.inputTokens).to.equal(64n * used.requests);
      expect(outcomes[i]).to.include({ charged: priceOf(used, rates), status: "Charged" });
      expect(outcomes[i].charged).to.equal(used.requests * usd(0.01));
      expect((await escrow.accountOf(entry.licenseId)).balance).to.equal(DEPOSIT - outcomes[i].charged);
      charges += outcomes[i].charged;
    }
    expect(outcomes).to.have.length(1 + ASKED.length);
    expect(args.charged).to.equal(charges);
    expect(header.samples, "canaries of each attestor").to.be.greaterThan(0n);
    expect(header.availabilityBps).to.equal(10_000n);
    expect(await heldBy(market)).to.deep.equal(await owedBy(market));

    // Once the hold is over the settler releases it by itself.
    await time.increaseTo((await escrow.batchOf(args.batchId)).releasableAt);
    await until(
      "it is released",
      async () => (await escrow.batchStatusOf(args.batchId)) >= BigInt(BatchStatus.Released),
    );
    const split = await escrow.splitOf(args.batchId);
    const { operator, publisher, attestor, fee, bonus } = split;
    expect(publisher).to.equal((charges * 30n) / 100n);
    expect(attestor).to.equal((charges * 2n) / 100n);
    expect(operator + publisher + attestor + fee + bonus).to.equal(charges);
    for (const { ending } of running) ending.abort();
    await Promise.all(running.map(({ over }) => over));
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
  });

  it("isn't settled where others' weights answer: attestors that have the model's refuse the batch", async () => {
    const { network, salt } = digitsModel();
    await startAll({ served: { salt, network: networkOf(network, (i) => (i % 3) - 1, () => 0) } }); // prettier-ignore
    await canariesCame();
    await endEpoch();
    const metrics = async () => (await fetch(`${operationsUrl}/metrics`)).text();
    await until("an attestor refuses", async () =>
      /licet_attestor_batches_total\{verdict="refused"\} [1-9]/.test(await metrics()),
    );
    const reasons = (await metrics()).split("\n").filter((line) => line.startsWith("licet_attestor_refusals_total"));
    expect(reasons.join("\n")).to.contain("answered otherwise by the attestor's own copy of the model");
    expect(await settled()).to.deep.equal([]);
  });

  describe("under a plan that demands proofs", () => {
    const modelFile = join(DIGITS_FOLDER, "model.json");

    beforeEach(async () => {
      const rates = { requests: usd(10_000), inputTokens: 0n, cachedInputTokens: 0n, outputTokens: 0n, computeMs: 0n };
      market = { ...market, planId: await addPlan(market, { rates, minEvidenceTier: Tier.proven }) };
    });

    it("is proven by the operator, verified by each attestor, settled and released", async () => {
      const provers = [{ versionId: String(market.versionId), modelFile }];
      await startAll({ operator: { disputes: { provers }, model: { keepInputs: true } }, canarySeconds: 3_600 });
      const customer = await addCustomer();
      await ask(customer, 2);
      await endEpoch();
      await until("the batch settles", async () => (await settled()).length === 1);

      const { escrow } = market.licet;
      const [{ args }] = await settled();
      expect(args.charged).to.equal(usd(0.02));
      const hashes = (await receiptsOf(customer)).map(({ receipt }) => receiptDigest(domain(), receipt));
      await time.increaseTo((await escrow.batchOf(args.batchId)).releasableAt);
      await until(
        "it is released",
        async () => (await escrow.batchStatusOf(args.batchId)) >= BigInt(BatchStatus.Released),
      );
      for (const { ending } of running) ending.abort();
      await Promise.all(running.map(({ over }) => over));
      const store = new Store(sqliteDatabase(join(folder, "attestor0", "attestor.sqlite")));
      expect([...(await store.proofs.provenOf(hashes))].sort()).to.deep.equal([...hashes].sort());
      await store.close();
    });

    it("isn't proven by a proof that was damaged, or another receipt's: the verifier on chain takes the true one alone", async () => {
      // This operator has no prover: what is shown is shown by hand.
      await startAll({ operator: { model: { keepInputs: true } }, canarySeconds: 3_600 });
      const customer = await addCustomer();
      await ask(customer, 2);
      const [one, other] = (await receiptsOf(customer)).map(({ receipt }) => receipt);
      const url = `http://127.0.0.1:${attestorPorts[0]}`;
      const grant = decodeBearer(customer.apiKey).grant;
      const [{ input }] = digits().heldOut;
      const proof = getBytes(
        await receiptProver({ modelFile }).prove({
          ...{ receipt: one, receiptHash: receiptDigest(domain(), one), input, grantSalt: grant.salt },
          weightsCommitment: weightsCommitment(digitsModel()),
        }),
      );
      const show = async (receipt: Receipt, shown: Uint8Array) => {
        // So long does an operator wait at most whose proof wasn't taken.
        await time.increase(60);
        const retrieval = { operatorId: 1, attestor: ATTESTORS[0].address, at: await time.latest() };
        const signed = await signRetrieval(domain(), localSigner(KEY.privateKey), retrieval);
        const name = { ...receipt, hash: receiptDigest(domain(), receipt) };
        return sendProofs(url, signed, { versionId: market.versionId, proofs: [{ name, proof: shown }] }, PATIENCE_MS);
      };
      await until("the attestor has copies", async () => (await show(other, proof)).lacking.length === 0);
      const damaged = Uint8Array.from(proof);
      damaged[proof.length >> 1] ^= 1;
      for (const [receipt, shown] of [
        [one, damaged],
        [one, proof.slice(0, -32)],
        [other, proof],
      ] as const) {
        const { proven, refused } = await show(receipt, shown);
        expect(proven).to.equal(0);
        expect(refused[0].reason).to.match(/isn't proven: the verifier 0x\w{40} doesn't take the \d+ bytes/);
      }
      expect(await show(one, proof)).to.deep.equal({ proven: 1, lacking: [], refused: [] });
    });
  });
});
