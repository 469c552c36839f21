import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ROLES } from "../../deploy/roles";
import { parseManifest, verifyFolder } from "../../oracle/protocol/manifest";
import { postBond } from "../committee";
import { mintCurrency } from "../currency";
import { buyLicense, fundLicense, grantUse } from "../license";
import { registerModel, type RegisteredModel } from "../model";
import { registerOperator } from "../operator";
import { createPlan } from "../plan";
import { addStake } from "../stake";
import type { Session } from "../support";
import { DAY, type Cast } from "./cast";
import type { Narrator } from "./narrator";

/** A license and its owner. */
export interface Holding {
  session: Session;
  license: bigint;
}

/** A license and the API key that its owner signed. */
export interface Customer extends Holding {
  apiKey: string;
}

/** What the opening leaves for the acts after it. */
export interface Market {
  cast: Cast;
  model: RegisteredModel;
  plan: number;
  operator: number;
  customers: [Customer, Customer];
  /** The attestors' own licenses, for canaries. */
  canaries: Customer[];
}

const STAKE = "1000";
const FIRST_DEPOSIT = "5";
const CANARY_DEPOSIT = "2";

export async function openMarket(narrator: Narrator, cast: Cast, root: string): Promise<Market> {
  await showDeployment(narrator, cast);
  const model = await publishModel(narrator, cast, path.join(root, "models/lic380k"));
  const plan = await offerPlan(narrator, cast, model, root);
  const operator = await bringOperator(narrator, cast, plan);
  const customers = await sellLicenses(narrator, cast, plan, operator);
  const canaries = await equipAttestors(narrator, cast, plan, operator);
  return { cast, model, plan, operator, customers, canaries };
}

async function showDeployment(narrator: Narrator, { book, deployer }: Cast): Promise<void> {
  narrator.title("A market is deployed, and its wiring sealed");
  for (const [name, address] of Object.entries(book.contracts)) narrator.say(`${name.padEnd(20)} ${address}`);
  const [isAdmin] = await deployer.licet.authority.hasRole(ROLES.ADMIN, deployer.signer.address);
  narrator.check("not even the deployer can rewire it", !isAdmin);
}

async function publishModel(narrator: Narrator, cast: Cast, folder: string): Promise<RegisteredModel> {
  narrator.title("A publisher registers a model: its real files, by their hashes");
  const scratch = mkdtempSync(path.join(tmpdir(), "licet-manifest-"));
  const out = path.join(scratch, "manifest.json");
  const uri = "https://example.org/models/lic380k";
  const model = await registerModel(cast.publisher, { folder, uri, versionUri: `${uri}/1`, out });
  const manifest = parseManifest(readFileSync(out, "utf8"));
  rmSync(scratch, { recursive: true });

  for (const file of model.files) narrator.say(file);
  narrator.say(`manifest ${model.manifest}`);
  const version = await cast.licensee.licet.assets.versionOf(model.version);
  narrator.checkEqual("the chain has this manifest", version.manifestHash, model.manifest);
  const differences = await verifyFolder(folder, manifest);
  narrator.checkEqual("files that differ from the manifest", differences.length, 0);
  return model;
}

async function offerPlan(narrator: Narrator, cast: Cast, { asset }: RegisteredModel, root: string): Promise<number> {
  narrator.title("The publisher offers a plan: immutable terms");
  const terms = path.join(root, "models/lic380k-plan.json");
  const licenseText = path.join(root, "models/lic380k/LICENSE");
  const created = await createPlan(cast.publisher, { asset, terms, licenseText });
  const { rates, publisherBps, attestorBps, holdPeriod } = await cast.licensee.licet.licenses.termsOf(created.plan);
  narrator.say(
    `per million: requests ${usd(rates.requests)}, input ${usd(rates.inputTokens)}, cached ` +
      `${usd(rates.cachedInputTokens)}, output ${usd(rates.outputTokens)}, compute ms ${usd(rates.computeMs)}`,
  );
  narrator.say(`publisher ${percent(publisherBps)}, attestors ${percent(attestorBps)}, hold ${holdPeriod} s`);
  return created.plan;
}

async function bringOperator(narrator: Narrator, cast: Cast, plan: number): Promise<number> {
  narrator.title("An operator registers, with a signing key and a stake");
  await mintCurrency(cast.operator, { amount: STAKE });
  const { operator } = await registerOperator(cast.operator, {
    endpoint: "http://127.0.0.1",
    metadata: "https://example.org/operators/demo",
    key: cast.receiptKey.address,
    keyValid: 90 * DAY,
    plans: [plan],
  });
  await addStake(cast.operator, { operator, amount: STAKE });
  const active = await cast.operator.licet.staking.activeStakeOf(operator);
  narrator.checkEqual("its active stake, in units", active, cast.operator.money.parse(STAKE, "stake"));
  return operator;
}

async function sellLicenses(
  narrator: Narrator,
  cast: Cast,
  plan: number,
  operator: number,
): Promise<[Customer, Customer]> {
  narrator.title("Two licensees buy; one funds by permit, one by approval; each signs a grant: its API key");
  const first = await buy(cast.licensee, plan, operator, "0", "9");
  await fundLicense(cast.licensee, { license: first, amount: FIRST_DEPOSIT, permit: true });
  const second = await buy(cast.secondLicensee, plan, operator, FIRST_DEPOSIT);
  const customers: [Customer, Customer] = [
    await withKey(cast.licensee, first),
    await withKey(cast.secondLicensee, second),
  ];
  for (const { session, license, apiKey } of customers) {
    const { balance } = await session.licet.escrow.accountOf(license);
    narrator.checkEqual(`balance of license ${license}, in units`, balance, session.money.parse(FIRST_DEPOSIT, ""));
    narrator.say(`API key of license ${license}: ${apiKey.slice(0, 24)}… (${apiKey.length} characters)`);
  }
  return customers;
}

async function equipAttestors(narrator: Narrator, cast: Cast, plan: number, operator: number): Promise<Customer[]> {
  narrator.title("Three attestors post bonds, and buy licenses of their own, like anybody, for canary requests");
  await bondAttestors(narrator, cast);
  const canaries: Customer[] = [];
  for (const { session } of cast.attestors) {
    canaries.push(await withKey(session, await buy(session, plan, operator, CANARY_DEPOSIT)));
  }
  narrator.say(`licenses ${canaries.map(({ license }) => license).join(", ")}`);
  return canaries;
}

/** Whoever signs two batches for one number loses its bond: without one its signature doesn't count. */
async function bondAttestors(narrator: Narrator, { attestors, outsider }: Cast): Promise<void> {
  const { committee } = outsider.licet;
  for (const { session, wallet } of attestors) {
    await mintCurrency(session, { amount: session.money.of(await committee.BOND()).amount });
    await postBond(session, { signer: wallet.address });
  }
  const counting = await committee.weightsOf(await committee.presentRotation());
  narrator.checkEqual(
    "attestors whose bonds cover them",
    counting.filter((weight) => weight > 0n).length,
    attestors.length,
  );
}

/** Makes the buyer's money and buys; a buyer who funds later has it by then. */
export async function buy(
  session: Session,
  plan: number,
  operator: number,
  fund: string,
  cap?: string,
): Promise<bigint> {
  await mintCurrency(session, { amount: fund === "0" ? FIRST_DEPOSIT : fund });
  const { license } = await buyLicense(session, { plan, operator, fund, cap });
  return license;
}

export async function withKey(session: Session, license: bigint, cap?: string): Promise<Customer> {
  const { key } = await grantUse(session, { license, valid: 30 * DAY, cap });
  return { session, license, apiKey: key };
}

const usd = (units: bigint): string => `${Number(units) / 1e6} USD`;
const percent = (bps: bigint): string => `${Number(bps) / 100} %`;
