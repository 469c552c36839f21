import { time } from "@nomicfoundation/hardhat-network-helpers";
import path from "node:path";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { createLog } from "../../oracle/log";
import { DIGITS } from "../../zk/architecture";
import { provingKit, type ProvingKit } from "../../zk/provingKit";
import { castOf } from "./cast";
import { catchCheat } from "./cheat";
import { backOperator, watchVesting } from "./delegation";
import { publishDigits, weightsOf, type Digits } from "./digits";
import { proveDoubted } from "./disputes";
import { accountForAll, leave, payOut, punishEquivocation, releaseAll, tryEarlyRelease, type Left } from "./ending";
import { checkSettled, epochFromNow, settleEpoch, useModel, type Settled } from "./epochs";
import { deriveAdapter, shareAlongLineage } from "./lineage";
import { Narrator } from "./narrator";
import { openMarket, type Holding, type Market } from "./opening";
import { startOracle, type Oracle } from "./oracle";
import { recallAndLeave, sellSubscription } from "./subscription";
import { moveToVouchers, payByVouchers } from "./vouchers";
import { resettle, tryAboveStake, tryForgedReceipt, tryOverCap, tryRevokedGrant } from "./refusals";

/** Plays the whole story on the chain at hand. @returns whether every check held */
export async function play(hre: HardhatRuntimeEnvironment): Promise<boolean> {
  const narrator = new Narrator();
  const { root } = hre.config.paths;
  // It takes half a minute the first time, and much memory, which the rest takes later.
  const making = provingKit(DIGITS);
  making.catch(() => undefined);
  const market = await openMarket(narrator, await castOf(hre), root);

  narrator.title(
    "The publisher registers another: a network that reads digits, by a commitment to its weights, so that answers can be proven",
  );
  const digits = await publishDigits(narrator, market, root);
  const kit = await making;

  narrator.title("Gateway, attestors and settler start, in front of servers with the models that were registered");
  const lane = { operatorId: market.operator, planId: market.plan, versionId: market.model.version };
  const served = {
    model: market.model,
    weights: path.join(root, "models/lic380k/lic380k.q8.gguf"),
    digits: digits.registered,
    digitsWeights: weightsOf(root),
  };
  const logged: string[] = [];
  const log = createLog("warn", (line) => logged.push(line));
  const oracle = await startOracle(market.cast, served, lane, log);
  narrator.say(`gateway ${oracle.gateway.url}, attestors ${oracle.attestors.map(({ url }) => url).join(", ")}`);
  try {
    const settled = [await goodEpoch(narrator, oracle, market), await badEpoch(narrator, oracle, market)];
    await lateEpoch(narrator, oracle, market);
    await delegation(narrator, market);
    const holding = await derivation(narrator, market, root);
    await subscription(narrator, market, root);
    const disputed = await disputes(narrator, oracle, market, digits, kit);
    const holdings = [holding, ...disputed.holdings];
    await end(narrator, market, [...settled, disputed.settled], { ...disputed, holdings });
  } finally {
    await oracle.close();
  }
  const holds = narrator.end();
  if (!holds) console.log(`\nWhat the services logged:\n${logged.join("\n")}`);
  return holds;
}

async function goodEpoch(narrator: Narrator, oracle: Oracle, market: Market): Promise<Settled> {
  narrator.title("First epoch: real requests from unmodified OpenAI clients, well served");
  const epoch = await epochFromNow(oracle);
  const counted = await useModel(narrator, oracle, market, 25);
  await tryOverCap(narrator, oracle, market.customers[0]);

  narrator.title("The epoch ends: the batch is drafted, attested and settled");
  const settled = await checkSettled(narrator, oracle, market, await settleEpoch(oracle, epoch), counted);
  narrator.checkEqual("discount, in basis points", settled.discountBps, 0n);
  await narrator.checkRefused("the same batch, settled again", /BatchSettledBefore/, () =>
    resettle(market.cast.outsider, settled.batch),
  );
  await tryEarlyRelease(narrator, market, settled);
  return settled;
}

async function badEpoch(narrator: Narrator, oracle: Oracle, market: Market): Promise<Settled> {
  narrator.title("Second epoch: the operator is slow and fails some requests");
  const epoch = await epochFromNow(oracle);
  Object.assign(oracle.engine.faults, { delayMs: 1_700, failEvery: 6 });
  const counted = await useModel(narrator, oracle, market, 8);
  Object.assign(oracle.engine.faults, { delayMs: 0, failEvery: 0 });

  narrator.title("Bad service discounts itself");
  await time.increaseTo(epoch.epochEnd);
  await tryForgedReceipt(narrator, oracle, epoch);
  await tryAboveStake(narrator, oracle, market, () => settleEpoch(oracle, epoch));
  const settled = await checkSettled(narrator, oracle, market, await settleEpoch(oracle, epoch), counted);
  narrator.check(`the discount is ${Number(settled.discountBps) / 100} %`, settled.discountBps > 0n);
  return settled;
}

async function lateEpoch(narrator: Narrator, oracle: Oracle, market: Market): Promise<void> {
  narrator.title("Third epoch: a grant is revoked, and a batch that comes too late is never charged");
  const epoch = await epochFromNow(oracle);
  await tryRevokedGrant(narrator, oracle, market.customers[1]);
  const { escrow } = market.cast.licensee.licet;
  const { license } = market.customers[1];
  const before = await escrow.accountOf(license);
  const batchId = await tryAboveStake(narrator, oracle, market, () => settleEpoch(oracle, epoch));
  const late = (await oracle.store.batches.find(batchId))!;
  await time.increase(oracle.chain.windowPeriod + 1);
  await narrator.checkRefused("an attested batch after its window", /WindowClosed/, () =>
    resettle(market.cast.outsider, late),
  );
  const [outcome] = await oracle.settler.resume();
  narrator.checkEqual("the settler's word for it", outcome.status, "abandoned");
  const after = await escrow.accountOf(license);
  narrator.checkEqual(`balance of license ${license}, in units`, after.balance, before.balance);
}

async function delegation(narrator: Narrator, market: Market): Promise<void> {
  narrator.title("The operator lowers its commission, and somebody backs it with a stake");
  await backOperator(narrator, market);
}

/** @returns the license that pays for the adapter by vouchers */
async function derivation(narrator: Narrator, market: Market, root: string): Promise<Holding> {
  narrator.title("An adapter of the model is registered with its lineage: the model, and a dataset of another owner");
  const derived = await deriveAdapter(narrator, market, root);
  narrator.title("A license of the adapter changes to vouchers");
  const holding = await moveToVouchers(narrator, market, derived.plan);
  narrator.title("Its key signs vouchers, and the operator is paid at once");
  await payByVouchers(narrator, market, derived.plan, holding);
  narrator.title("The adapter's income runs on to the owners of what it came from");
  await shareAlongLineage(narrator, market, derived);
  return holding;
}

async function subscription(narrator: Narrator, market: Market, root: string): Promise<void> {
  narrator.title("A subscription changes hands");
  const license = await sellSubscription(narrator, market, root);
  narrator.title("The publisher recalls the version: who subscribed owes nothing more");
  await recallAndLeave(narrator, market, license);
}

/** What the acts of disputes leave. */
interface Disputed extends Left {
  /** What was charged to whom didn't doubt it. */
  settled: Settled;
}

async function disputes(
  narrator: Narrator,
  oracle: Oracle,
  market: Market,
  digits: Digits,
  kit: ProvingKit,
): Promise<Disputed> {
  narrator.title("A licensee doubts an answer: the operator proves it, and earns the bond");
  const honest = await proveDoubted(narrator, oracle, market, digits);
  narrator.title("An operator that serves other weights than it promised can't, and pays");
  const cheated = await catchCheat(narrator, oracle, market, digits, kit);
  return { settled: honest.settled, cheat: cheated.operator, holdings: [...honest.holdings, ...cheated.holdings] };
}

async function end(narrator: Narrator, market: Market, settled: Settled[], left: Left): Promise<void> {
  narrator.title("The holds end: charges are released and divided");
  await releaseAll(narrator, market, settled);
  narrator.title("Everybody fetches what they earned");
  await payOut(narrator, market);
  narrator.title("What the operator's pool earned vests: its backer earns with it");
  await watchVesting(narrator, market);
  narrator.title("An attestor contradicts itself, and loses its bond");
  await punishEquivocation(narrator, market, settled[0]);
  narrator.title(
    "The licensees leave with what they didn't spend, the operator and its backer with their stakes, the attestors with their bonds",
  );
  await leave(narrator, market, left);
  narrator.title("The books close");
  await accountForAll(narrator, market);
}
