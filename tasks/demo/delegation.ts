/** Somebody backs the operator with money of its own: it shares the operator's income, and would share its losses. */
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { mintCurrency } from "../currency";
import { delegateStake, setCommission } from "../stake";
import { textOf } from "../support";
import type { Narrator } from "./narrator";
import type { Market } from "./opening";

const DELEGATION = "250";
const COMMISSION_BPS = 8_000;

/** The operator offers a part of its income, and the backer comes. */
export async function backOperator(narrator: Narrator, { cast, operator }: Market): Promise<void> {
  const { backer } = cast;
  const { staking } = backer.licet;
  await setCommission(cast.operator, { operator, percent: COMMISSION_BPS });
  const { bps } = await staking.commissionOf(operator);
  narrator.checkEqual(
    "what the operator keeps of its income from now on, in basis points",
    bps,
    BigInt(COMMISSION_BPS),
  );

  const before = await staking.activeStakeOf(operator);
  await mintCurrency(backer, { amount: DELEGATION });
  await delegateStake(backer, { operator, amount: DELEGATION });
  const delegated = backer.money.parse(DELEGATION, "delegation");
  const { active } = await staking.positionOf(operator, backer.signer.address);
  narrator.checkEqual("the backer's stake, in units", active, delegated);
  const after = await staking.activeStakeOf(operator);
  narrator.check(`${textOf(backer.money.of(after))} back what the operator charges`, after === before + delegated);
}

/** What the pool was paid becomes its stake's little by little. */
export async function watchVesting(narrator: Narrator, { cast, operator }: Market): Promise<void> {
  const { backer, outsider } = cast;
  const { staking } = outsider.licet;
  const { money } = outsider;
  const worth = async (overrides = {}) => (await staking.positionOf(operator, backer.signer.address, overrides)).active;
  // Both as of one block: something vests with every second.
  const atOnce = { blockTag: await time.latestBlock() };
  const { unvested, active, vestsUntil } = await staking.poolOf(operator, atOnce);
  const before = await worth(atOnce);
  const now = BigInt(await time.latest());
  await time.increaseTo(now + (vestsUntil - now) / 2n);
  const halfway = (await worth()) - before;
  narrator.check(`half-way the backer's stake has earned ${textOf(money.of(halfway))}`, halfway > 0n);

  await time.increaseTo(vestsUntil);
  const earned = (await worth()) - before;
  const share = (unvested * before) / active;
  narrator.check(
    `at the end ${textOf(money.of(earned))}: its share of ${unvested} units, but for a unit's rounding`,
    earned >= share - 1n && earned <= share + 1n && earned > halfway,
  );
}
