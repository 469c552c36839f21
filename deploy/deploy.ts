import { rmSync } from "node:fs";
import path from "node:path";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { Problem } from "../oracle/problem";
import type { AddressBook } from "./addressBook";
import Committee from "./modules/Committee";
import Currency from "./modules/Currency";
import Licet from "./modules/Licet";
import {
  AssetRegistry__factory,
  Authority__factory,
  CommitteeAttestor__factory,
  DisputeCourt__factory,
  LicenseRegistry__factory,
  OperatorRegistry__factory,
  PerformanceStaking__factory,
  ReportCourt__factory,
  RevenueWaterfall__factory,
  TestCurrency__factory,
  Timelock__factory,
  UsageEscrow__factory,
  type TestCurrency,
} from "../typechain-types";
import type { Signer } from "ethers";

const HOUR = 3600;
const DAY = 24 * HOUR;

/** Whether a chain is one of a machine's own, where a test currency may be made and the clock be moved. */
export const isLocalChain = (chainId: bigint): boolean => chainId === 31337n || chainId === 1337n;

export interface DeploymentParameters {
  /** An ERC-20 of at most 8 decimals; none on a local chain makes a test currency. */
  currency?: string;
  treasury: string;
  /** Who schedules governance's acts, and may cancel them. */
  governor: string;
  guardian: string;
  /** Seconds that governance's acts wait. */
  governanceDelay: number;
  epochPeriod: number;
  windowPeriod: number;
  stakeThawPeriod: number;
  /** Seconds that each side of a challenge has for its turn. */
  turnPeriod: number;
  /** The least bond of a challenge and the least reward of a report, in currency units. */
  leastPenalty: bigint;
  /** Where arbitrators read what disputes are about (ERC-1497). */
  metaEvidence: string;
  feeBps: number;
  /** Currency units. */
  depositCeiling: bigint;
  committee: CommitteeParameters;
}

export interface CommitteeParameters {
  members: CommitteeMember[];
  /** How much weight must sign: more than half of all. */
  threshold: number;
  /** What a member's bond is for each unit of its weight, in currency units. */
  bond: bigint;
}

export interface CommitteeMember {
  /** An address, or a verifier's address and a key. */
  signer: string;
  weight: number;
  /** Who posts its bond, and is paid. */
  payee: string;
}

/** What an arbitrator is asked, as ERC-1497 has it: in itself, so that nobody can change or lose it. */
const META_EVIDENCE = `data:application/json,${encodeURIComponent(
  JSON.stringify({
    category: "AI inference",
    title: "Is this charge for AI inference right?",
    description:
      "A licensee challenges what an operator charged it for use of an AI model. Evidence says which receipts, requests and " +
      "answers the charge rests on, and what is wrong with them.",
    question: "Who is right?",
    rulingOptions: {
      titles: ["The licensee", "The operator"],
      descriptions: ["The charge is refunded, and the operator loses stake", "The charge stands"],
    },
  }),
)}`;

/** What a deployment gets where nobody says otherwise. */
export const DEFAULT_PARAMETERS = {
  governanceDelay: 2 * DAY,
  epochPeriod: DAY,
  windowPeriod: 2 * DAY,
  stakeThawPeriod: 32 * DAY,
  turnPeriod: 2 * DAY,
  leastPenalty: 5_000_000n,
  metaEvidence: META_EVIDENCE,
  feeBps: 100,
  depositCeiling: 100_000_000_000n,
} as const;

/** Of a currency of six decimals, a thousand. */
export const DEFAULT_BOND = 1_000_000_000n;

/** Deploys a whole market: the one path for tests, tasks and chains. */
export async function deployLicet(
  hre: HardhatRuntimeEnvironment,
  parameters: DeploymentParameters,
): Promise<AddressBook> {
  const { ethers, ignition } = hre;
  const { chainId } = await ethers.provider.getNetwork();
  const block = (await ethers.provider.getBlockNumber()) + 1;
  if (isLocalChain(chainId)) forgetJournal(hre, chainId);

  const testCurrency = parameters.currency === undefined ? await deployTestCurrency(hre, chainId) : undefined;
  const currency = parameters.currency ?? testCurrency!;
  const { committee, ...rest } = parameters;
  const licet = await ignition.deploy(Licet, { parameters: { Licet: { ...rest, currency } } });
  const escrow = await licet.escrow.getAddress();
  const attestor = await ignition.deploy(Committee, {
    parameters: { Committee: { escrow, ...committee, members: committee.members.map((member) => ({ ...member })) } },
  });

  return {
    chainId: chainId.toString(),
    block,
    contracts: {
      ...(testCurrency === undefined ? {} : { TestCurrency: testCurrency }),
      Authority: await licet.authority.getAddress(),
      Timelock: await licet.timelock.getAddress(),
      AssetRegistry: await licet.assets.getAddress(),
      LicenseRegistry: await licet.licenses.getAddress(),
      OperatorRegistry: await licet.operators.getAddress(),
      PerformanceStaking: await licet.staking.getAddress(),
      RevenueWaterfall: await licet.waterfall.getAddress(),
      UsageEscrow: escrow,
      ReportCourt: await licet.reports.getAddress(),
      DisputeCourt: await licet.court.getAddress(),
      CommitteeAttestor: await attestor.committee.getAddress(),
    },
    currency,
    parameters: Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, String(value)])),
  };
}

/** A local chain starts anew under the same id: what Ignition's journal says of the one before isn't there any more. */
function forgetJournal({ config }: HardhatRuntimeEnvironment, chainId: bigint): void {
  rmSync(path.join(config.paths.ignition, "deployments", `chain-${chainId}`), { recursive: true, force: true });
}

async function deployTestCurrency(hre: HardhatRuntimeEnvironment, chainId: bigint): Promise<string> {
  if (!isLocalChain(chainId)) {
    throw new Problem(`Chain ${chainId} is not a local one: name the currency of the market (an ERC-20's address).`);
  }
  const { currency } = await hre.ignition.deploy(Currency);
  return currency.getAddress();
}

/** The typed contracts of a deployment, for whom `runner` signs. */
export function connectLicet(book: AddressBook, runner: Signer) {
  const { contracts } = book;
  return {
    currency: TestCurrency__factory.connect(book.currency, runner) as TestCurrency,
    authority: Authority__factory.connect(contracts.Authority, runner),
    timelock: Timelock__factory.connect(contracts.Timelock, runner),
    assets: AssetRegistry__factory.connect(contracts.AssetRegistry, runner),
    licenses: LicenseRegistry__factory.connect(contracts.LicenseRegistry, runner),
    operators: OperatorRegistry__factory.connect(contracts.OperatorRegistry, runner),
    staking: PerformanceStaking__factory.connect(contracts.PerformanceStaking, runner),
    waterfall: RevenueWaterfall__factory.connect(contracts.RevenueWaterfall, runner),
    escrow: UsageEscrow__factory.connect(contracts.UsageEscrow, runner),
    reports: ReportCourt__factory.connect(contracts.ReportCourt, runner),
    court: DisputeCourt__factory.connect(contracts.DisputeCourt, runner),
    committee: CommitteeAttestor__factory.connect(contracts.CommitteeAttestor, runner),
  };
}

export type Licet = ReturnType<typeof connectLicet>;
