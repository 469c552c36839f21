/** `licet-oracle rebuild`: what it works with, and how it says what came of it. */
import { mkdirSync } from "node:fs";
import type { OracleConfig } from "../config";
import { openDeployment, type Deployment } from "../chain/deployment";
import { witnessOf } from "../chain/nodes";
import { settledBatches } from "../chain/settledBatches";
import { finalHeight } from "../chain/witness";
import { openKey } from "../keys/openKey";
import type { Log } from "../log";
import { Problem } from "../problem";
import { openDatabase } from "../store/openDatabase";
import { Store } from "../store/store";
import { rebuild, type Rebuilt } from "./rebuild";

const ATTESTOR_TIMEOUT_MS = 60_000;

/**
 * Rebuilds the store of the operator that the configuration's gateway is of.
 * @throws Problem if that can't be done, or somebody works with the store
 */
export async function rebuildStore(config: OracleConfig, deployment: Deployment, log: Log): Promise<Rebuilt> {
  const { gateway, settler, dataFolder } = config;
  if (gateway === undefined || settler === undefined) {
    throw new Problem(
      "A store is rebuilt by the sections gateway, which says whose it is, and settler, which lists the attestors: add what lacks.",
    );
  }
  const { operatorId } = gateway;
  const { chain, firstBlock } = await openDeployment(deployment, config.clock, log);
  const witness = witnessOf(deployment.provider);
  const finalBlock = await finalHeight(witness, settler.confirmations);
  const { batches, hidden } = await settledBatches(deployment.provider, chain, deployment, operatorId);
  if (hidden.length > 0) {
    throw new Problem(
      `${hidden.length} batches of operator ${operatorId} weren't settled by a plain transaction to the escrow, such as ${hidden[0]}: ` +
        "which receipts are in them can't be read from the chain.",
    );
  }
  if (dataFolder !== undefined) mkdirSync(dataFolder, { recursive: true });
  const store = new Store(await openDatabase(config, "operator"));
  try {
    await store.claim({
      role: "operator",
      operator: String(operatorId),
      chain: String(deployment.chainId),
      "first block": firstBlock,
      escrow: deployment.escrow,
    });
    const held = await store.leases.held();
    if (held.length > 0) {
      throw new Problem(`A gateway or a settler works with the store (${held.join(", ")}): stop it, or wait a minute.`);
    }
    return await rebuild(
      { operatorId, attestors: settler.attestors, attestorTimeoutMs: ATTESTOR_TIMEOUT_MS },
      { store, chain, signer: await openKey(settler.signingKey), log, settled: batches, finalBlock },
    );
  } finally {
    await store.close();
  }
}

const MOST_LISTED = 10;

/** What came of it, for people. */
export function describeRebuilt(rebuilt: Rebuilt): string {
  const { added, unsettled, unsettledCost, voided, settledBatches: settled, resumed, numbersAbove } = rebuilt;
  const lines = [
    `${added} receipts came back; ${unsettled} in the store may still settle, for ${unsettledCost} units.`,
    `${settled} batches are settled, and ${resumed.length} that attestors have signed settle as they are.`,
    `Receipts have numbers above ${numbersAbove} from now on.`,
    ...(voided > 0 ? [`${voided} receipts have missed their window: they are void.`] : []),
    ...losses(rebuilt),
    "Lost, if there were any: vouchers that weren't posted (licensees send theirs again when asked), grants' revocations that",
    "only the gateway knew (tell who made them to repeat them, or to raise their license's generation), and x402 payments that",
    "hadn't brought a license. The gateway may be started.",
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function losses({ refused, reasons, conflicts, lackingOfSettled, lost, lackingGrants, silent }: Rebuilt): string[] {
  const listed = (lines: string[]) => lines.slice(0, MOST_LISTED).map((line) => `  ${line}`);
  const some = (count: number | bigint, what: string, lines: string[] = []) =>
    count > 0 ? [`${count} ${what}`, ...listed(lines)] : [];
  return [
    ...some(
      silent.length,
      "attestors don't give back what they have: rebuild again once they do, for what only they had.",
      silent.map(({ attestor, reason }) => `${attestor}: ${reason}`),
    ),
    ...some(lackingOfSettled, "receipts of settled batches are lost: they are paid, and can't be shown any more."),
    ...some(
      lost.length,
      "batches that attestors have signed can't be had again: their lanes wait until these can't settle any more.",
      lost.map(({ batchId, until }) => `${batchId}, until ${until}`),
    ),
    ...some(
      lackingGrants.length,
      "grants are lacking: what came under them settles if their licensees show them again in time.",
      lackingGrants.map(({ hash, licenseId }) => `${hash} of license ${licenseId}`),
    ),
    ...some(refused, "receipts that attestors gave aren't the operator's, or don't count:", reasons),
    ...some(
      conflicts.length,
      "receipts contradict others of the same number or request, which are kept:",
      conflicts.map(
        ({ licenseId, sequence, storedHash, otherHash }) =>
          `${otherHash}, number ${sequence} of license ${licenseId}, and ${storedHash}`,
      ),
    ),
  ];
}
