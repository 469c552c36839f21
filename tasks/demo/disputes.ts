/** An answer that its licensee doubts, where answers can be proven: the operator proves it. */
import { statusName } from "../../oracle/chain/statuses";
import { releaseBatch } from "../batch";
import { withdrawFromDisputes } from "../dispute";
import { textOf } from "../support";
import { buyReading, settleReadings, type Digits } from "./digits";
import { challenge } from "./doubt";
import { gainOf } from "./ending";
import type { Settled } from "./epochs";
import type { Narrator } from "./narrator";
import type { Holding, Market } from "./opening";
import type { Oracle } from "./oracle";

/** The demo's operator is doubted, proves its answer, and earns the challenger's bond. @returns the rest of its batch */
export async function proveDoubted(
  narrator: Narrator,
  oracle: Oracle,
  market: Market,
  digits: Digits,
): Promise<{ settled: Settled; holdings: Holding[] }> {
  const { cast, operator } = market;
  const { escrow, court } = cast.outsider.licet;
  const { money } = cast.licensee;
  const customers = [
    await buyReading(cast.licensee, digits, operator),
    await buyReading(cast.secondLicensee, digits, operator),
  ];
  const { settled, readers } = await settleReadings(narrator, oracle, oracle, market, digits, { operator, customers });
  const [doubter] = readers;
  const [asked] = doubter.asked;
  const doubt = await challenge(narrator, oracle, settled, doubter, asked);

  const startedAt = Date.now();
  await oracle.answerer.answerDue();
  await oracle.answerer.idle();
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  const [proven] = await court.queryFilter(court.filters.ChallengeProven(doubt.challengeId));
  const { gasUsed } = await proven.getTransactionReceipt();
  narrator.say(`the operator's own process, which kept what was asked, answers by itself after ${seconds} s`);
  narrator.check(
    `its proof that the registered weights answer ${asked.answer} is checked on chain, in ${gasUsed} gas`,
    proven.args.receiptHash === doubt.receiptHash && gasUsed <= MOST_ANSWER_GAS,
  );
  const { status } = await court.challengeOf(doubt.challengeId);
  narrator.checkEqual("the challenge is", statusName("ChallengeStatus", status), "Rejected");
  narrator.checkEqual(
    "the rest of the batch still waits out its hold",
    statusName("BatchStatus", await escrow.batchStatusOf(settled.batch.batchId)),
    "Held",
  );
  await releaseBatch(cast.outsider, { batch: doubt.chargeId });
  const { operator: earned, publisher, attestor, fee, bonus } = await escrow.splitOf(doubt.chargeId);
  narrator.check(
    `the doubted charge is released at once: ${doubt.charged} = operator ${earned} + publisher ${publisher} + ` +
      `attestors ${attestor} + protocol ${fee} + the operator's stake ${bonus}`,
    earned + publisher + attestor + fee + bonus === doubt.charged,
  );
  const bond = await gainOf(cast.operator, () => withdrawFromDisputes(cast.operator, {}));
  narrator.checkEqual(`units that the operator gets of the bond of ${textOf(money.of(doubt.bond))}`, bond, doubt.bond);
  return { settled: { ...settled, charged: settled.charged - doubt.charged }, holdings: customers };
}

/** More than an answered challenge may cost, all included. */
const MOST_ANSWER_GAS = 950_000n;
