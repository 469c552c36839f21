/** `licet-oracle evidence`: shows an operator's evidence to its attestors, keeps the record, and names it on chain. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Provider } from "ethers";
import { OperatorRegistry__factory, UsageEscrow__factory } from "../../typechain-types";
import { type Deployment, openDeployment } from "../chain/deployment";
import { refusalOf } from "../chain/refusal";
import type { OracleConfig } from "../config";
import { KeyAccount } from "../keys/account";
import { openKey } from "../keys/openKey";
import type { Log } from "../log";
import { dateOf, Problem, reasonOf } from "../problem";
import { Tier } from "../protocol/tiers";
import { presentEvidence } from "./present";
import { recordHashOf, recordToText, standsUntil } from "./record";

const ATTESTOR_TIMEOUT_MS = 60_000;

/** What became of an operator's evidence. */
export interface EvidenceShown {
  tier: Tier;
  /** Unix seconds. */
  until: number;
  /** Where the record is. */
  file: string;
  hash: string;
  isOnChain: boolean;
}

/** @throws Problem if no tier is reached, or the record can't be kept or named on chain */
export async function showEvidence(config: OracleConfig, deployment: Deployment, log: Log): Promise<EvidenceShown> {
  const { evidence, gateway, settler, dataFolder, clock } = config;
  if (evidence === undefined || gateway === undefined || settler === undefined) {
    throw new Problem("evidence needs the sections evidence, gateway (for whom), and settler (before whom).");
  }
  if (dataFolder === undefined) throw new Problem("evidence needs a dataFolder, to keep its record in.");
  const { chain } = await openDeployment(deployment, clock, log);
  const record = await presentEvidence(
    {
      ...evidence,
      operatorId: gateway.operatorId,
      signer: await openKey(gateway.signingKey),
      attestors: settler.attestors,
      attestorTimeoutMs: ATTESTOR_TIMEOUT_MS,
      committee: deployment.committee,
    },
    { chain, log },
  );
  if (record.tier === Tier.signed) {
    throw new Problem(
      `Of ${settler.attestors.length} attestors ${record.findings.length} were convinced, which are too few: the log says why. ` +
        `The chain still names what it named before.`,
    );
  }
  const text = recordToText(record);
  const hash = recordHashOf(text);
  const file = keepRecord(dataFolder, hash, text);
  const account = evidence.ownerKey && new KeyAccount(await openKey(evidence.ownerKey), deployment.provider);
  if (account !== undefined) {
    if (account.address === (await openKey(settler.key)).address) {
      throw new Problem(
        `evidence.ownerKey is the settler's account, for which nothing else may send: name the operator's owner's, or leave ` +
          `it out and run operator:describe --operator ${gateway.operatorId} --evidence ${hash}.`,
      );
    }
    await nameOnChain(account, deployment, gateway.operatorId, hash);
  }
  return { tier: record.tier, until: standsUntil(record), file, hash, isOnChain: account !== undefined };
}

/** What it says to people. */
export function describeShown({ tier, until, file, hash, isOnChain }: EvidenceShown, operatorId: number): string {
  const named = isOnChain
    ? `named on chain`
    : `name it on chain: npx hardhat operator:describe --operator ${operatorId} --evidence ${hash}`;
  return `tier        ${tier}, until ${dateOf(until)}\nrecord      ${file}\nhash        ${hash}, ${named}\n`;
}

function keepRecord(folder: string, hash: string, text: string): string {
  const file = path.resolve(folder, `evidence-${hash.slice(2, 18)}.json`);
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, text);
    return file;
  } catch (cause) {
    throw new Problem(`The record can't be written to ${file} (${reasonOf(cause)}): name another dataFolder.`, {
      cause,
    });
  }
}

async function nameOnChain(
  account: KeyAccount,
  { provider, escrow }: { provider: Provider; escrow: string },
  operatorId: number,
  hash: string,
): Promise<void> {
  try {
    const at = await UsageEscrow__factory.connect(escrow, { provider }).OPERATORS();
    const operators = OperatorRegistry__factory.connect(at, account);
    const { endpoint, metadataUri, evidenceHash } = await operators.operatorOf(operatorId);
    if (evidenceHash === hash) return;
    const sent = await operators.describe(operatorId, endpoint, metadataUri, hash);
    await sent.wait();
  } catch (cause) {
    throw new Problem(
      `The chain doesn't take the evidence of operator ${operatorId} from ${account.address}: ` +
        `${refusalOf(cause) ?? reasonOf(cause)}`,
      { cause },
    );
  }
}
