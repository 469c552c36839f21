import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { writeAddressBook, type AddressBook } from "../deploy/addressBook";
import { connectLicet, DEFAULT_PARAMETERS, deployLicet, type DeploymentParameters } from "../deploy/deploy";
import {
  accountOf,
  address,
  copyChain,
  defineTask,
  DRY_RUN,
  listOf,
  Money,
  moneyOf,
  optional,
  period,
  Problem,
  text,
  transactionsOn,
  wholeNumber,
  type TaskRecord,
} from "./support";

export interface Deploy {
  /** Address of the market's ERC-20; none makes a test currency on a local chain. */
  currency?: string;
  treasury?: string;
  governor?: string;
  guardian?: string;
  attestors: string[];
  /** Of each attestor; 1 if they aren't named. */
  weights?: number[];
  /** How much weight must sign. */
  threshold: number;
  /** For each unit of weight, in whole units of the currency. */
  bond: string;
  /** Seconds. */
  epoch: number;
  /** Seconds. */
  window: number;
}

/** Deploys a market and writes its address book. */
export async function deployMarket(hre: HardhatRuntimeEnvironment, args: Deploy): Promise<TaskRecord> {
  const book = await deployLicet(hre, await parametersOf(hre, args));
  const file = writeAddressBook(hre.config.paths.root, hre.network.name, book);
  return { ...recordOf(book), "address book": file };
}

/** Deploys a market on a copy of the chain, and writes nothing. */
export async function rehearseDeployment(hre: HardhatRuntimeEnvironment, args: Deploy): Promise<TaskRecord> {
  const parameters = await parametersOf(hre, args);
  const copy = await copyChain(hre);
  const book = await deployLicet(copy.hre, parameters);
  const money = await moneyOf(connectLicet(book, await accountOf(copy.hre, 0)));
  return {
    "dry run": "nothing was sent",
    transactions: await transactionsOn(copy, book, money),
    ...recordOf(book),
  };
}

const recordOf = ({ contracts, currency }: AddressBook): TaskRecord => ({ ...contracts, currency });

async function parametersOf(hre: HardhatRuntimeEnvironment, args: Deploy): Promise<DeploymentParameters> {
  const deployer = (await accountOf(hre, 0)).address;
  const weights = weightsOf(args);
  requireWithin("--epoch", args.epoch, 60, 7 * DAY, "1m to 7d");
  requireWithin("--window", args.window, 3_600, 14 * DAY, "1h to 14d");
  const decimals = args.currency === undefined ? TEST_DECIMALS : await decimalsOf(hre, args.currency);
  return {
    ...DEFAULT_PARAMETERS,
    currency: args.currency,
    treasury: args.treasury ?? deployer,
    governor: args.governor ?? deployer,
    guardian: args.guardian ?? deployer,
    epochPeriod: args.epoch,
    windowPeriod: args.window,
    stakeThawPeriod: LONGEST_HOLD + args.window,
    committee: {
      members: args.attestors.map((attestor, i) => ({ signer: attestor, weight: weights[i], payee: attestor })),
      threshold: args.threshold,
      bond: new Money("the currency", decimals).parse(args.bond, "--bond"),
    },
  };
}

const DAY = 86_400;
const LONGEST_HOLD = 30 * DAY;
const MOST_MEMBERS = 32;
const MOST_WEIGHT = 65_535;
const FEWEST_DECIMALS = 4;
const MOST_DECIMALS = 8;
const TEST_DECIMALS = 6;

/** @throws Problem unless attestors, weights and threshold make a committee */
function weightsOf({ attestors, weights = attestors.map(() => 1), threshold }: Deploy): number[] {
  const twice = attestors.find((attestor, i) => attestors.indexOf(attestor) < i);
  if (twice !== undefined) throw new Problem(`--attestors names ${twice} twice: each signs once.`);
  if (attestors.length > MOST_MEMBERS) {
    throw new Problem(`--attestors names ${attestors.length}: a committee has at most ${MOST_MEMBERS} members.`);
  }
  if (weights.length !== attestors.length) {
    throw new Problem(`--weights names ${weights.length}, and --attestors ${attestors.length}: each has one.`);
  }
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (threshold * 2 <= total || threshold > total) {
    throw new Problem(
      `--threshold ${threshold} of a weight of ${total}: more than half of it must sign, and at most all.`,
    );
  }
  return weights;
}

function requireWithin(name: string, seconds: number, shortest: number, longest: number, bounds: string): void {
  if (seconds < shortest || seconds > longest) throw new Problem(`${name} must be ${bounds}; it is ${seconds} s.`);
}

/** @throws Problem unless an ERC-20 of enough decimals, and of few enough, is there */
async function decimalsOf(hre: HardhatRuntimeEnvironment, currency: string): Promise<number> {
  const token = await hre.ethers.getContractAt(["function decimals() view returns (uint8)"], currency);
  const decimals = (await token.decimals().catch(() => undefined)) as bigint | undefined;
  if (decimals === undefined) throw new Problem(`--currency ${currency}: no ERC-20 is there on ${hre.network.name}.`);
  if (decimals < FEWEST_DECIMALS || decimals > MOST_DECIMALS) {
    throw new Problem(
      `--currency ${currency} has ${decimals} decimals, and must have ${FEWEST_DECIMALS} to ${MOST_DECIMALS}: fewer make a ` +
        `unit too dear to round by, and an account holds no more. Take another.`,
    );
  }
  return Number(decimals);
}

defineTask<Deploy, { dryRun: boolean }>(
  "deploy",
  {
    about: "Deploys a market: contracts, roles, a committee; on a local chain a test currency, too",
    example:
      "--network localhost --attestors 0x70997970C51812dc3A010C7d01b50e0d17dc79C8," +
      "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC,0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    parameters: {
      currency: optional(address("Address of the market's ERC-20; none makes a test currency on a local chain")),
      treasury: optional(address("Who is paid the protocol fee (default: the deployer)")),
      governor: optional(address("Who schedules governance's acts (default: the deployer)")),
      guardian: optional(address("Who may pause purchases and deposits (default: the deployer)")),
      attestors: listOf(address("Addresses of the committee's members, with commas between them")),
      weights: optional(
        listOf(
          wholeNumber("What each one's signature counts for, with commas between them (default: 1)", 1, MOST_WEIGHT),
        ),
      ),
      threshold: optional(wholeNumber("How much weight must sign: more than half", 1, MOST_MEMBERS * MOST_WEIGHT), "2"),
      bond: optional(text("What each attestor's bond is for a unit of its weight, such as 1000"), "1000"),
      epoch: optional(period("The longest epoch"), "1d"),
      window: optional(period("How long after an epoch its batch may settle"), "2d"),
    },
  },
  DRY_RUN,
  (hre, args, { dryRun }) => (dryRun ? rehearseDeployment(hre, args) : deployMarket(hre, args)),
);
