import { time } from "@nomicfoundation/hardhat-network-helpers";
import { id } from "ethers";
import { releaseBatch } from "../batch";
import { showEquivocation, thawBond, withdrawBond } from "../committee";
import { withdrawEarnings } from "../earnings";
import { payPool } from "../operator";
import { thawStake, withdrawStake } from "../stake";
import { textOf, type Session } from "../support";
import type { Cast } from "./cast";
import type { Settled } from "./epochs";
import type { Narrator } from "./narrator";
import type { Holding, Market } from "./opening";
import { refusalBy } from "./refusals";

export async function tryEarlyRelease(narrator: Narrator, { cast }: Market, { batch }: Settled): Promise<void> {
  await narrator.checkRefused("its release before the hold is over", /HoldRunning/, () =>
    refusalBy(cast.outsider.licet.escrow.release.staticCall(batch.batchId)),
  );
}

/** The holds are waited out; then the charges are divided. */
export async function releaseAll(narrator: Narrator, { cast }: Market, settled: Settled[]): Promise<void> {
  const { escrow } = cast.outsider.licet;
  const { money } = cast.outsider;
  const releasable = await Promise.all(settled.map(async ({ batch }) => escrow.batchOf(batch.batchId)));
  const latest = releasable.map(({ releasableAt }) => Number(releasableAt)).reduce((a, b) => Math.max(a, b));
  if ((await time.latest()) < latest) await time.increaseTo(latest);
  for (const { batch, charged, discountBps } of settled) {
    await releaseBatch(cast.outsider, { batch: batch.batchId });
    const { operator, publisher, attestor, fee, bonus } = await escrow.splitOf(batch.batchId);
    narrator.check(
      `batch ${batch.header.sequence}: ${textOf(money.of(charged))} = operator ${operator} + publisher ${publisher} + ` +
        `attestors ${attestor} + protocol ${fee}` +
        (bonus > 0n ? ` + the operator's stake ${bonus}, since the service met its levels` : "") +
        (discountBps > 0n ? "; the discount came out of the operator's share alone" : ""),
      operator + publisher + attestor + fee + bonus === charged,
    );
  }
}

/** Everybody takes what is theirs. */
export async function payOut(narrator: Narrator, { cast, operator }: Market): Promise<void> {
  const payees: [string, Session][] = [
    ["operator", cast.operator],
    ["publisher", cast.publisher],
    ...cast.attestors.map(({ session }, i): [string, Session] => [`attestor ${i + 1}`, session]),
  ];
  for (const [name, session] of payees) {
    const earned = await gainOf(session, () => withdrawEarnings(session, {}));
    narrator.check(`the ${name} withdraws ${textOf(session.money.of(earned))}`, earned > 0n);
  }
  const { added } = await payPool(cast.outsider, { operator });
  narrator.check(`the operator's pool gets ${textOf(added)}: its bonus, and its part of the income`, added.units > 0n);
  const fees = await gainOf(cast.treasury, async () => (await cast.outsider.licet.escrow.withdrawFees()).wait());
  narrator.check(`the treasury gets ${textOf(cast.treasury.money.of(fees))}`, fees > 0n);
}

/** An attestor signs two batches for one number, and somebody who sees both shows them. */
export async function punishEquivocation(narrator: Narrator, { cast }: Market, { batch }: Settled): Promise<void> {
  const { committee, escrow } = cast.outsider.licet;
  const { money, signer: reporter } = cast.outsider;
  const { session, wallet } = cast.attestors[2];
  const signed = async (header: typeof batch.header) => {
    const digest = await escrow.batchIdOf(header);
    return { header, signature: wallet.signingKey.sign(digest).serialized };
  };
  const [first, second] = [await signed(batch.header), await signed({ ...batch.header, root: id("another root") })];
  const holder = session.signer.address;
  await showEquivocation(cast.outsider, committee, { signer: wallet.address, holder, first, second });

  const bond = await committee.BOND();
  const [reward, rest] = await Promise.all([
    committee.incomeOf(reporter.address),
    committee.incomeOf(cast.treasury.signer.address),
  ]);
  narrator.check(
    `the third attestor's bond of ${textOf(money.of(bond))} is lost: ${reward} to who showed it, ${rest} to the treasury`,
    reward + rest === bond && rest > reward,
  );
  narrator.check("and its signatures count no more", await committee.hasEquivocated(wallet.address));
  for (const receiver of [cast.outsider, cast.treasury]) await withdrawEarnings(receiver, {});
}

/** Who leaves besides those that the opening brought. */
export interface Left {
  holdings: Holding[];
  /** The id of the operator that cheated. */
  cheat: number;
}

/** What was neither spent nor staked away comes back, after the waits that protect who served. */
export async function leave(
  narrator: Narrator,
  { cast, customers, canaries, operator }: Market,
  { holdings, cheat }: Left,
): Promise<void> {
  const leaving: Holding[] = [...customers, ...holdings];
  const everyone = [...leaving, ...canaries];
  const { staking } = cast.operator.licet;
  for (const { session, license } of everyone) {
    const { balance } = await session.licet.escrow.accountOf(license);
    await (await session.licet.escrow.thaw(license, balance)).wait();
  }
  const bonded = cast.attestors.slice(0, 2);
  for (const { session, wallet } of bonded) await thawBond(session, { signer: wallet.address });
  const { shares } = await staking.positionOf(operator, cast.operator.signer.address);
  await (await staking.thaw(operator, shares)).wait();
  await thawStake(cast.backer, { operator });
  await thawStake(cast.cheat, { operator: cheat });

  const [{ session, license }] = customers;
  await narrator.checkRefused("a withdrawal before the thaw is over", /ThawRunning/, () =>
    refusalBy(session.licet.escrow.withdraw.staticCall(license, session.signer.address)),
  );
  const { escrow } = session.licet;
  await time.increase((await escrow.EPOCH_PERIOD()) + (await escrow.WINDOW_PERIOD()) + 1n);
  for (const [i, customer] of everyone.entries()) {
    const back = await gainOf(customer.session, () => withdrawLicense(customer));
    if (i < leaving.length)
      narrator.check(`license ${customer.license} pays ${textOf(session.money.of(back))} back`, back > 0n);
  }
  await narrator.checkRefused("the backer's withdrawal before its thaw is over", /StakeStillThawing/, () =>
    refusalBy(cast.backer.licet.staking.withdraw.staticCall(operator, cast.backer.signer.address)),
  );
  await time.increase((await staking.THAW_PERIOD()) + 1n);
  const stake = await gainOf(cast.operator, async () =>
    (await staking.withdraw(operator, cast.operator.signer.address)).wait(),
  );
  narrator.check(`the operator's stake of ${textOf(session.money.of(stake))} comes back`, stake > 0n);
  const delegated = await gainOf(cast.backer, () => withdrawStake(cast.backer, { operator }));
  narrator.check(`its backer leaves with ${textOf(session.money.of(delegated))}`, delegated > 0n);
  const kept = await gainOf(cast.cheat, () => withdrawStake(cast.cheat, { operator: cheat }));
  narrator.check(`who cheated with what was left of its stake: ${textOf(session.money.of(kept))}`, kept > 0n);
  const bond = await cast.operator.licet.committee.BOND();
  for (const [i, attestor] of bonded.entries()) {
    const back = await gainOf(attestor.session, () =>
      withdrawBond(attestor.session, { signer: attestor.wallet.address }),
    );
    narrator.checkEqual(`units of attestor ${i + 1}'s bond that come back`, back, bond);
  }
}

async function withdrawLicense({ session, license }: Holding): Promise<void> {
  await (await session.licet.escrow.withdraw(license, session.signer.address)).wait();
}

/** What an act brings somebody, in units. */
export async function gainOf(session: Session, act: () => Promise<unknown>): Promise<bigint> {
  const before = await session.licet.currency.balanceOf(session.signer.address);
  await act();
  return (await session.licet.currency.balanceOf(session.signer.address)) - before;
}

/** Every unit is in somebody's hand, and none in a contract. */
export async function accountForAll(narrator: Narrator, { cast }: Market): Promise<void> {
  const { currency } = cast.outsider.licet;
  const { UsageEscrow, PerformanceStaking, RevenueWaterfall, CommitteeAttestor } = cast.book.contracts;
  const { DisputeCourt, ReportCourt } = cast.book.contracts;
  const holders = { UsageEscrow, PerformanceStaking, RevenueWaterfall, CommitteeAttestor, DisputeCourt, ReportCourt };
  for (const [name, address] of Object.entries(holders)) {
    narrator.checkEqual(`units left in ${name}`, await currency.balanceOf(address), 0n);
  }
  let held = 0n;
  for (const [name, session] of peopleOf(cast)) {
    const balance = await currency.balanceOf(session.signer.address);
    held += balance;
    narrator.say(`${name.padEnd(17)} ${textOf(session.money.of(balance))}`);
  }
  narrator.checkEqual(
    "every unit of currency that was made is accounted for: units held by people",
    held,
    await currency.totalSupply(),
  );
}

function peopleOf(cast: Cast): [string, Session][] {
  return [
    ["licensee", cast.licensee],
    ["second licensee", cast.secondLicensee],
    ["subscriber", cast.subscriber],
    ["its buyer", cast.buyer],
    ["integrator", cast.integrator],
    ["publisher", cast.publisher],
    ["dataset's owner", cast.curator],
    ["adapter's owner", cast.tuner],
    ["operator", cast.operator],
    ["its backer", cast.backer],
    ["cheating operator", cast.cheat],
    ...cast.attestors.map(({ session }, i): [string, Session] => [`attestor ${i + 1}`, session]),
    ["reporter", cast.outsider],
    ["treasury", cast.treasury],
  ];
}
