/** A network that reads digits, and whose every answer can be proven: its version names what checks the proofs. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { deployInferenceVerifier } from "../../deploy/inferenceVerifier";
import { CLASSIFICATIONS_PATH } from "../../oracle/protocol/classification";
import { addUsage, zeroUsage } from "../../oracle/protocol/meters";
import type { Epoch, Lane, Usage } from "../../oracle/protocol/types";
import { nameOf } from "../../zk/architecture";
import { weightsCommitment } from "../../zk/commitments";
import { loadExamples, splitExamples, type Example } from "../../zk/dataset";
import { parseModel, type Model } from "../../zk/network";
import { integerAccuracy } from "../../zk/training";
import { registerModel, type RegisteredModel } from "../model";
import { servePlans } from "../operator";
import { createPlan } from "../plan";
import { checkSettled, countedOf, epochFromNow, settleEpoch, type Counted, type Settled } from "./epochs";
import type { Narrator } from "./narrator";
import { buy, withKey, type Customer, type Market } from "./opening";
import { DIGITS_ID, type Oracle } from "./oracle";
import type { Operation } from "./operation";

/** The network, published and for sale. */
export interface Digits {
  registered: RegisteredModel;
  plan: number;
  network: Model;
  /** Digits that it never saw. */
  heldOut: Example[];
  training: Example[];
}

const FOLDER = "models/digits";
/** What a license of it is funded with. */
export const READING_DEPOSIT = "2";
/** As zk:train splits them. */
const SPLIT_SEED = 1;
const LEAST_ACCURACY = 0.97;
const REQUESTS = 20;

export const weightsOf = (root: string): string => path.join(root, FOLDER, "model.json");

/** The publisher registers it by a commitment to weights that stay its own, with what checks proofs against that. */
export async function publishDigits(narrator: Narrator, { cast, operator }: Market, root: string): Promise<Digits> {
  const network = parseModel(readFileSync(weightsOf(root), "utf8"));
  const examples = splitExamples(loadExamples(path.join(root, FOLDER, "digits.csv.gz")), SPLIT_SEED);
  const { publisher } = cast;
  const { verifier } = await deployInferenceVerifier(publisher.hre.artifacts, publisher.signer);
  const uri = "https://example.org/models/digits";
  const registered = await registerModel(publisher, {
    folder: path.join(root, FOLDER),
    uri,
    versionUri: `${uri}/1`,
    weightsCommitment: weightsCommitment(network),
    inferenceVerifier: await verifier.getAddress(),
  });
  const { plan } = await createPlan(publisher, {
    asset: registered.asset,
    terms: path.join(root, "models/digits-plan.json"),
    licenseText: path.join(root, "models/lic380k/LICENSE"),
  });
  await servePlans(cast.operator, { operator, plans: [plan], stop: false });

  const accuracy = integerAccuracy(network.network, examples.heldOut);
  const [, commitment, checker] = await cast.licensee.licet.assets.inferenceOf(registered.version);
  narrator.say(`weights commitment ${commitment}`);
  narrator.say(`proofs of ${nameOf(network.network)} are checked by ${checker}`);
  narrator.check(
    `in the integers that proofs are of, it reads ${(accuracy * 100).toFixed(2)} % of ${examples.heldOut.length} ` +
      "digits that it never saw",
    accuracy >= LEAST_ACCURACY,
  );
  return { registered, plan, network, ...examples };
}

export const digitsLane = ({ plan, registered }: Digits, operatorId: number): Lane => ({
  operatorId,
  planId: plan,
  versionId: registered.version,
});

/** What a licensee asked, and what it was told. */
export interface Asked {
  input: number[];
  /** What the digit is. */
  label: number;
  answer: number;
  /** Of its receipt. */
  requestId: string;
}

/** A licensee of the network, with what it has asked. */
export interface Reader extends Customer {
  asked: Asked[];
}

/** Buys a license of the network at an operator, and signs a grant. */
export async function buyReading(session: Customer["session"], { plan }: Digits, operator: number): Promise<Customer> {
  return withKey(session, await buy(session, plan, operator, READING_DEPOSIT));
}

/** An epoch in which licensees have digits read; it is settled like any other. */
export async function settleReadings(
  narrator: Narrator,
  oracle: Oracle,
  operation: Operation,
  { cast }: Market,
  digits: Digits,
  { operator, customers }: { operator: number; customers: Customer[] },
): Promise<{ settled: Settled; readers: Reader[] }> {
  const epoch: Epoch = await epochFromNow(oracle);
  const counted = new Map<bigint, Counted>();
  const readers: Reader[] = [];
  for (const customer of customers) {
    const { asked, usage } = await read(operation.gateway.url, customer, digits.heldOut.slice(0, REQUESTS));
    counted.set(customer.license, usage);
    readers.push({ ...customer, asked });
  }
  const right = readers[0].asked.filter(({ answer, label }) => answer === label).length;
  narrator.say(`each of ${customers.length} licensees has ${REQUESTS} digits read, of which ${right} are read right`);
  const outcome = await settleEpoch({ ...operation, lane: digitsLane(digits, operator) }, epoch);
  const settled = await checkSettled(narrator, operation, { cast, plan: digits.plan }, outcome, counted);
  return { settled, readers };
}

async function read(gateway: string, { apiKey }: Customer, examples: Example[]) {
  let usage: Usage = zeroUsage();
  const asked: Asked[] = [];
  for (const { input, class: label } of examples) {
    const response = await fetch(gateway + CLASSIFICATIONS_PATH, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
      body: JSON.stringify({ model: DIGITS_ID, input }),
    });
    if (!response.ok) throw new Error(`${gateway} answered ${response.status}: ${await response.text()}`);
    const body = (await response.json()) as { class: number; usage: Parameters<typeof countedOf>[0] };
    usage = addUsage(usage, countedOf(body.usage));
    asked.push({ input, label, answer: body.class, requestId: response.headers.get("x-licet-receipt-id")! });
  }
  return { asked, usage };
}
