/** An adapter that came from two assets of others: what it earns is theirs, too. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LINEAGE } from "../../oracle/chain/statuses";
import { approveDerivation, setPolicy, shareIncome, withdrawIncome } from "../asset";
import { registerModel } from "../model";
import { servePlans } from "../operator";
import { createPlan } from "../plan";
import { textOf } from "../support";
import { DAY } from "./cast";
import { gainOf } from "./ending";
import type { Narrator } from "./narrator";
import type { Market } from "./opening";
import { refusalBy } from "./refusals";

/** What comes from the demo's model, and how its use is sold. */
export interface Derived {
  dataset: number;
  adapter: number;
  plan: number;
}

const MODEL_BPS = 2_000;
const DATASET_BPS = 500;
const WHOLE_BPS = 10_000n;
const URI = "https://example.org/derived";

/** The curator publishes a dataset, the tuner an adapter of the publisher's model that was trained on it. */
export async function deriveAdapter(narrator: Narrator, market: Market, root: string): Promise<Derived> {
  const scratch = mkdtempSync(path.join(tmpdir(), "licet-derived-"));
  try {
    const dataset = await publishDataset(narrator, market, path.join(scratch, "dataset"));
    const adapter = await publishAdapter(narrator, market, dataset, scratch);
    const terms = path.join(root, "models/lic380k-plan.json");
    const licenseText = path.join(root, "models/lic380k/LICENSE");
    const { plan } = await createPlan(market.cast.tuner, { asset: adapter, terms, licenseText });
    await servePlans(market.cast.operator, { operator: market.operator, plans: [plan], stop: false });
    return { dataset, adapter, plan };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

async function publishDataset(narrator: Narrator, { cast }: Market, folder: string): Promise<number> {
  writeFiles(folder, { "questions.jsonl": '{"question":"What does this license permit?"}\n' });
  const { asset } = await registerModel(cast.curator, {
    folder,
    uri: `${URI}/dataset`,
    versionUri: `${URI}/dataset/1`,
    kind: LINEAGE.AssetKind.indexOf("Dataset"),
    policy: LINEAGE.DerivativePolicy.indexOf("Open"),
    minShare: DATASET_BPS,
  });
  narrator.say(`asset ${asset}: a dataset, open to whoever gives it ${DATASET_BPS / 100} % of what came from it earns`);
  return asset;
}

/** The model's owner asks to be asked: without its signature the adapter isn't registered. */
async function publishAdapter(
  narrator: Narrator,
  { cast, model }: Market,
  dataset: number,
  scratch: string,
): Promise<number> {
  const folder = path.join(scratch, "adapter");
  writeFiles(folder, { "adapter_config.json": '{"base":"lic380k","rank":4}\n' });
  const approval = path.join(scratch, "approval.json");
  const relation = LINEAGE.Relation.indexOf("AdapterOf");
  const adapter = {
    folder,
    uri: `${URI}/adapter`,
    versionUri: `${URI}/adapter/1`,
    kind: LINEAGE.AssetKind.indexOf("Adapter"),
    parents: [
      { parentId: model.asset, relation, incomeBps: MODEL_BPS },
      { parentId: dataset, relation: LINEAGE.Relation.indexOf("TrainedOn"), incomeBps: DATASET_BPS },
    ],
  };
  const policy = LINEAGE.DerivativePolicy.indexOf("ByApproval");
  await setPolicy(cast.publisher, { asset: model.asset, policy, minShare: 0 });
  await narrator.checkRefused("an adapter of the model, without its owner's approval", /DerivationNotApproved/, () =>
    refusalBy(registerModel(cast.tuner, adapter)),
  );

  const registrant = cast.tuner.signer.address;
  const terms = { asset: model.asset, registrant, relation, share: MODEL_BPS, valid: DAY };
  await approveDerivation(cast.publisher, { ...terms, out: approval });
  const { asset } = await registerModel(cast.tuner, { ...adapter, approvals: [approval] });
  const parents = await cast.outsider.licet.assets.parentsOf(asset);
  narrator.check(
    `with it, asset ${asset} is registered for ever as ` +
      parents
        .map(({ parentId, relation, incomeBps }) => {
          return `${LINEAGE.Relation[Number(relation)]} asset ${parentId} (${Number(incomeBps) / 100} %)`;
        })
        .join(" and "),
    parents.length === 2,
  );
  return asset;
}

function writeFiles(folder: string, files: Record<string, string>): void {
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) writeFileSync(path.join(folder, name), content);
}

/** What the adapter has earned runs on to those whose work it came from. */
export async function shareAlongLineage(narrator: Narrator, { cast }: Market, derived: Derived): Promise<void> {
  const { outsider, publisher, curator, tuner } = cast;
  const { escrow, waterfall } = outsider.licet;
  const earned = await escrow.assetIncomeOf(derived.adapter);
  narrator.say(`the adapter has earned ${textOf(outsider.money.of(earned))}`);
  const before = await waterfall.claimableOf(publisher.signer.address);
  await shareIncome(outsider, { asset: derived.adapter, through: true });

  const forModel = (earned * BigInt(MODEL_BPS)) / WHOLE_BPS;
  const forDataset = (earned * BigInt(DATASET_BPS)) / WHOLE_BPS;
  const claimable = (await waterfall.claimableOf(publisher.signer.address)) - before;
  narrator.checkEqual("units of it that are the model's owner's to claim", claimable, forModel);
  const curated = await gainOf(curator, () => withdrawIncome(curator, {}));
  narrator.checkEqual("units that the dataset's owner withdraws", curated, forDataset);
  const tuned = await gainOf(tuner, () => withdrawIncome(tuner, {}));
  narrator.checkEqual("units that the adapter's owner withdraws: the rest", tuned, earned - forModel - forDataset);
}
