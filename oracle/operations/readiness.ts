import { formatEther } from "ethers";
import type { Committees } from "../chain/chain";
import type { Clock, RpcProvider } from "../chain/ethersChain";
import { withDeadline } from "../chain/deadline";
import type { GatewayFigures } from "../gateway/observer";
import { dateOf, reasonOf } from "../problem";
import type { Turn } from "../store/leases";

/** Why something can't do its work at the moment; null if it can. */
export type Check = () => Promise<string | null> | string | null;

const CHECK_TIMEOUT_MS = 3_000;
/** An answer serves so long: nobody can keep the disk and the chain's node busy by asking. */
const ANSWER_MS = 1_000;

/** Whether the process should be sent work, and why not. */
export class Readiness {
  private stage: "starts" | "runs" | "stops" = "starts";
  private readonly needs = new Checks();
  private readonly others = new Checks();

  /** @param name what is checked, as a reason begins */
  add(name: string, check: Check): void {
    this.needs.add(name, check);
  }

  /** The same of what only a part of its work needs: without it, it is ready all the same. */
  addWarning(name: string, check: Check): void {
    this.others.add(name, check);
  }

  started(): void {
    if (this.stage === "starts") this.stage = "runs";
  }

  /** From now on it isn't ready, whatever the checks say. */
  stopping(): void {
    this.stage = "stops";
  }

  /** None if it is ready. */
  async reasons(): Promise<string[]> {
    return this.stage === "runs" ? this.needs.reasons() : [`the oracle ${this.stage}`];
  }

  /** What of its work it can't do, ready though it is. */
  async warnings(): Promise<string[]> {
    return this.stage === "runs" ? this.others.reasons() : [];
  }
}

class Checks {
  private readonly checks = new Map<string, Check>();
  private last: { at: number; reasons: Promise<string[]> } | null = null;

  add(name: string, check: Check): void {
    this.checks.set(name, check);
  }

  reasons(): Promise<string[]> {
    const now = performance.now();
    if (this.last === null || now - this.last.at >= ANSWER_MS) this.last = { at: now, reasons: this.ask() };
    return this.last.reasons;
  }

  private async ask(): Promise<string[]> {
    const answers = await Promise.all([...this.checks].map(([name, check]) => answerOf(name, check)));
    return answers.flatMap((answer) => answer ?? []);
  }
}

async function answerOf(name: string, check: Check): Promise<string | null> {
  try {
    const reason = await withDeadline(CHECK_TIMEOUT_MS, async () => check());
    return reason === null ? null : `${name}: ${reason}`;
  } catch (cause) {
    return `${name}: ${reasonOf(cause)}`;
  }
}

/** @param staleSeconds how old the latest block may be; by the chain's own clock, any age is right */
export function chainCheck(
  provider: Pick<RpcProvider, "send">,
  clock: Clock,
  staleSeconds: number,
  now: () => number = () => Date.now() / 1_000,
): Check {
  return async () => {
    const block = (await provider.send("eth_getBlockByNumber", ["latest", false])) as { timestamp?: string } | null;
    if (typeof block?.timestamp !== "string") return "its node gives no latest block";
    const age = Math.floor(now() - Number(block.timestamp));
    if (clock === "chain" || age <= staleSeconds) return null;
    return `its latest block is ${age} s old, and ${staleSeconds} s are the most: is its node in step?`;
  };
}

export function storeCheck(store: { probe(): Promise<void> }): Check {
  return async () => {
    await store.probe();
    return null;
  };
}

/** A model without a server that is up can't be served. */
export function upstreamsCheck(figures: () => Pick<GatewayFigures, "upstreams">): Check {
  return () => {
    const down = figures().upstreams.filter(({ up }) => up === 0);
    return down.length === 0 ? null : `none is up of ${down.map(({ model }) => model).join(", ")}`;
  };
}

/** An account that pays for gas, as AccountSender is one. */
export interface GasAccount {
  address: string;
  /** In wei. */
  balance(): Promise<bigint>;
  /** In wei. */
  mostFor(gas: bigint): Promise<bigint>;
}

/** @param gas of what the account has to send next */
export function gasCheck(account: GasAccount, gas: () => Promise<bigint>): Check {
  return async () => {
    const [has, needs] = await Promise.all([account.balance(), gas().then((units) => account.mostFor(units))]);
    if (has >= needs) return null;
    return `gas account ${account.address} has ${formatEther(has)} coins, and needs ${formatEther(needs)}: send it some`;
  };
}

/** What is lost soon unless somebody does something. */
export function disputesCheck(figures: () => { endangered: number; deadline: number | null }): Check {
  return () => {
    const { endangered, deadline } = figures();
    if (endangered === 0) return null;
    const first = deadline === null ? "" : `, the first at ${dateOf(deadline)}`;
    return `${endangered} of the challenges of charges are lost soon${first}, since what answers them fails or isn't mined: the log says why`;
  };
}

/** Of processes with one attestor's key one works: the others needn't be sent anything. */
export function turnCheck(turn: Pick<Turn, "isMine">): Check {
  return () => (turn.isMine ? null : "it isn't this process's turn: another attests, or will in a moment");
}

/** An attestor whose signatures don't count is of no use, however well it runs. */
export function membershipCheck(address: string, committees: () => Promise<Committees>): Check {
  return async () => {
    const { present, former } = await committees();
    const own = [present, former].filter((one) => one?.members.includes(address));
    if (own.length === 0) return `${address} isn't a member of the committee in force, nor of the one before`;
    if (own.every((one) => one?.unbonded.includes(address))) {
      return `the bond doesn't cover ${address}, whose signatures don't count: post one, with committee:bond`;
    }
    return null;
  };
}
