import { time } from "@nomicfoundation/hardhat-network-helpers";
import { ContractTransactionResponse, type Signer } from "ethers";
import type { Licet } from "../../deploy/deploy";
import { BatchStatus, BondStatus, LicenseStatus, WAIT, type Market } from "./market";
import { MOST_THAWS } from "./staking";

type Method = (...args: unknown[]) => unknown;

/**
 * Somebody who drives what is theirs to its end, alone: what to do next, and how long to wait for it, the contracts' views
 * say. Nobody else does anything, but for a guardian who stops new money as often as may be, if `isPaused`.
 */
export class Leaver {
  /** The functions that it called. */
  readonly calls: string[] = [];
  private readonly own: Licet;

  /** @param refuge Where it has its money sent */
  constructor(
    private readonly market: Market,
    private readonly owner: Signer & { address: string },
    private readonly refuge: string,
    private readonly isPaused: boolean,
  ) {
    const contracts = Object.entries(market.licet).map(([name, contract]) => [
      name,
      this.noted(contract.connect(owner)),
    ]);
    this.own = Object.fromEntries(contracts) as Licet;
  }

  /** Ends a license, and takes its money out. */
  async license(id: bigint): Promise<void> {
    const { escrow } = this.own;
    const { Running, Locked, Movable, Lapsed, Closed } = LicenseStatus;
    const is = async (...statuses: number[]) => statuses.includes(Number(await escrow.statusOf(id)));
    if (await is(Locked, Movable)) await escrow.unlock(id);
    if (await is(Running, Lapsed)) await escrow.end(id);
    if ((await escrow.upfrontOf(id)).amount > 0n) await this.upfront(id);
    while (!(await is(Closed))) await this.closing(id);

    const { balance, thawing } = await escrow.accountOf(id);
    if (balance === 0n) return;
    if (thawing < balance) await escrow.thaw(id, balance);
    await this.until((await escrow.accountOf(id)).thawReadyAt);
    await escrow.withdraw(id, this.refuge);
  }

  /** Has a batch divided, down to the last share. */
  async batch(batchId: string): Promise<void> {
    const { escrow, committee } = this.own;
    const is = async (status: number) => (await escrow.batchStatusOf(batchId)) === BigInt(status);
    if (await is(BatchStatus.Held)) await this.until((await escrow.batchOf(batchId)).releasableAt);
    if (await is(BatchStatus.Releasable)) await escrow.release(batchId);
    if (await is(BatchStatus.Released)) await committee.shareIncome(batchId);
  }

  /** Takes an operator's income. */
  async operator(operatorId: number): Promise<void> {
    const { escrow } = this.own;
    const { earnings, forPool } = await escrow.operatorIncomeOf(operatorId);
    if (earnings > 0n) await escrow.withdrawEarnings(operatorId, this.refuge);
    if (forPool > 0n) await escrow.payPool(operatorId);
    await this.proceeds();
  }

  /** Takes what assets have earned, from where it was earned on. */
  async assets(...assetIds: number[]): Promise<void> {
    const { escrow, waterfall } = this.own;
    for (const assetId of assetIds) {
      if ((await escrow.assetIncomeOf(assetId)) > 0n) await escrow.payAsset(assetId);
      if ((await waterfall.potOf(assetId)) > 0n) await waterfall.distribute(assetId);
    }
    if ((await waterfall.claimableOf(this.owner)) > 0n) await waterfall.withdraw(this.refuge);
  }

  /** Takes its stake behind an operator out, with what it has earned. */
  async stake(operatorId: number): Promise<void> {
    const { escrow, staking } = this.own;
    if ((await escrow.operatorIncomeOf(operatorId)).forPool > 0n) await escrow.payPool(operatorId);
    const sharesOf = async () => (await staking.positionOf(operatorId, this.owner)).shares;
    const thaws = () => staking.thawsOf(operatorId, this.owner);
    const { shares, vestsUntil } = await staking.poolOf(operatorId);
    // Who is the last takes along what hasn't vested.
    if ((await sharesOf()) < shares) await this.until(vestsUntil);
    while ((await sharesOf()) > 0n || (await thaws()).length > 0) {
      const isThawable = (await sharesOf()) > 0n && (await thaws()).length < MOST_THAWS;
      if (isThawable) await staking.thaw(operatorId, await sharesOf());
      await this.until((await thaws()).at(-1)!.readyAt);
      await this.releaseAll(operatorId);
      await this.until((await staking.poolOf(operatorId)).frozenUntil);
      await staking.withdraw(operatorId, this.refuge);
    }
  }

  /** Takes what slashes have left for it. */
  async proceeds(): Promise<void> {
    const { staking } = this.own;
    if ((await staking.proceedsOf(this.owner)) > 0n) await staking.withdrawProceeds(this.refuge);
  }

  /** Takes its bond for a signer. */
  async bond(signer: string): Promise<void> {
    const { committee } = this.own;
    const is = async (status: number) => (await committee.bondStatusOf(signer, this.owner)) === BigInt(status);
    if (await is(BondStatus.Posted)) await committee.thawBond(signer);
    if (await is(BondStatus.Thawing)) await this.until((await committee.bondOf(signer, this.owner)).readyAt);
    if (await is(BondStatus.Thawed)) await committee.withdrawBond(signer, this.refuge);
  }

  /** Takes what it has earned by attesting, or by reports. */
  async attestor(): Promise<void> {
    const { committee } = this.own;
    if ((await committee.incomeOf(this.owner)) > 0n) await committee.withdraw(this.refuge);
  }

  /** Takes the protocol's fees, which go where the deployment says, whoever sends them. */
  async fees(): Promise<void> {
    const { escrow } = this.own;
    if ((await escrow.protocolFees()) > 0n) await escrow.withdrawFees();
  }

  /** Waits for the end of a license, or of a term before it that isn't closed, and closes what has a minimum. */
  private async closing(id: bigint): Promise<void> {
    const { escrow, licenses } = this.own;
    const { planId, formerPlanId, endedAt, expiresAt, stoppedAt, isEnded } = await escrow.accountOf(id);
    const { minimumSpend, renewable } = await licenses.termsOf(planId);
    const isOwedBefore = formerPlanId !== 0n && (await licenses.termsOf(formerPlanId)).minimumSpend > 0n;
    const isOwed = minimumSpend > 0n || isOwedBefore;
    const isStopped = isEnded && (stoppedAt < expiresAt || (renewable && minimumSpend === 0n));
    const last = isStopped ? stoppedAt : expiresAt;
    await this.until((isOwed && endedAt !== 0n ? endedAt : last) + BigInt(WAIT));
    if (isOwed) await escrow.closeTerm(id);
  }

  /** Releases what of an operator's charges is still in flight. */
  private async releaseAll(operatorId: number): Promise<void> {
    const { escrow } = this.own;
    for (const { args } of await escrow.queryFilter(escrow.filters.BatchSettled(undefined, operatorId))) {
      const { status, releasableAt } = await escrow.batchOf(args.batchId);
      if (status !== BigInt(BatchStatus.Held)) continue;
      await this.until(releasableAt);
      await escrow.release(args.batchId);
    }
  }

  /** Has an upfront price paid or returned, as soon as may be. */
  private async upfront(id: bigint): Promise<void> {
    const { escrow } = this.own;
    const isDue = await escrow.releaseUpfront.staticCall(id).then(
      () => true,
      () => false,
    );
    if (!isDue) await this.until((await escrow.upfrontOf(id)).releasableAt);
    await escrow.releaseUpfront(id);
  }

  /** Waits for the second after `at`, if that isn't over. */
  private async until(at: bigint): Promise<void> {
    if (BigInt(await time.latest()) <= at) await time.increaseTo(at + 1n);
    if (this.isPaused) await pauseIfPossible(this.market);
  }

  /** The contract, with a note of each transaction to it. */
  private noted<Contract extends object>(contract: Contract): Contract {
    const noting = (name: string): ProxyHandler<Method> => ({
      apply: async (method, _, args) => {
        const answer = await Reflect.apply(method, contract, args);
        if (answer instanceof ContractTransactionResponse) this.calls.push(name);
        return answer;
      },
    });
    return new Proxy(contract, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? new Proxy(member as Method, noting(String(name))) : member;
      },
    });
  }
}

/** Stops new money, unless that was done too short a time ago. */
export async function pauseIfPossible({ licet, guardian }: Market): Promise<void> {
  const pausedUntil = await licet.escrow.pausedUntil();
  const allowedAt = pausedUntil === 0n ? 0n : pausedUntil + (await licet.escrow.PAUSE_PERIOD());
  if (BigInt(await time.latest()) >= allowedAt) await licet.escrow.connect(guardian).pause();
}
