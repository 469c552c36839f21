import type { BaseContract, Log } from "ethers";
import type { Licet } from "../../../deploy/deploy";
import { ReplayedCommittee } from "./committee";
import { ReplayedEscrow } from "./escrow";
import { ReplayedLicenses } from "./licenses";
import { nothing } from "./reducer";
import { ReplayedStaking } from "./staking";
import { ReplayedWaterfall } from "./waterfall";

/** What of a deployment never changes. */
export interface Constants {
  treasury: string;
  curePeriod: bigint;
}

export async function constantsOf({ escrow, staking }: Licet): Promise<Constants> {
  return { treasury: await escrow.TREASURY(), curePeriod: await staking.CURE_PERIOD() };
}

/** The contracts whose logs make up a market's books. */
const SOURCES = ["licenses", "staking", "escrow", "waterfall", "committee"] as const;

/** What an event says is of the type that its reducer takes: the contract's interface sees to that. */
type Reduce = (told: never, at: bigint) => void;

/**
 * The books of a market from its logs alone, and the times of their blocks: no contract is asked anything. The copy of each
 * contract's books answers what the contract's views answer.
 */
export class Replay {
  readonly licenses = new ReplayedLicenses();
  readonly staking: ReplayedStaking;
  readonly escrow: ReplayedEscrow;
  readonly waterfall = new ReplayedWaterfall();
  readonly committee: ReplayedCommittee;

  private readonly sources: Map<string, { contract: BaseContract; reducer: Record<string, Reduce> }>;
  private readonly heard = new Set<Reduce>();

  /** @param licet Whose addresses and events it knows */
  constructor(licet: Licet, constants: Constants) {
    this.staking = new ReplayedStaking(constants);
    this.escrow = new ReplayedEscrow(this.licenses, this.staking);
    this.committee = new ReplayedCommittee(constants);
    this.sources = new Map(
      SOURCES.map((name) => {
        const reducer: Record<string, Reduce> = this[name].on;
        return [String(licet[name].target), { contract: licet[name], reducer }];
      }),
    );
  }

  /** Takes in the next log, if it is one of the market's. */
  take(log: Log, at: bigint): void {
    const source = this.sources.get(log.address);
    if (source === undefined) return;
    const { name, args } = source.contract.interface.parseLog(log)!;
    this.heard.add(source.reducer[name]);
    source.reducer[name](args as never, at);
  }

  /** The events that say something and never came. */
  get unheard(): string[] {
    const reductions = [...this.sources.values()].flatMap(({ reducer }) => Object.entries(reducer));
    return reductions.filter(([, reduce]) => reduce !== nothing && !this.heard.has(reduce)).map(([name]) => name);
  }
}

/** The books of a market by all logs that its chain has. */
export async function replayOf(licet: Licet): Promise<Replay> {
  const provider = licet.escrow.runner!.provider!;
  const replay = new Replay(licet, await constantsOf(licet));
  const address = SOURCES.map((name) => String(licet[name].target));
  let block = { number: -1, at: 0n };
  for (const log of await provider.getLogs({ address, fromBlock: 0, toBlock: "latest" })) {
    if (log.blockNumber !== block.number) {
      const { timestamp } = (await provider.getBlock(log.blockNumber))!;
      block = { number: log.blockNumber, at: BigInt(timestamp) };
    }
    replay.take(log, block.at);
  }
  return replay;
}
