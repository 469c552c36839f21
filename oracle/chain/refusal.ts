import { formatUnits, Interface, type Result } from "ethers";
import { roleNameOf } from "../../deploy/roles";
import * as factories from "../../typechain-types";
import { assetOf, numberOf } from "../protocol/versionId";
import { REFUSAL_SENTENCES } from "./refusalSentences";
import { LINEAGE, statusName, type StatusName } from "./statuses";

/** What amounts are of: without it they are said in smallest units. */
export interface Currency {
  symbol: string;
  decimals: number;
}

/** All errors of the contracts, one of a kind. */
const errors = new Interface(
  Object.values(factories)
    .flatMap((factory) => ("abi" in factory ? [...factory.abi] : []))
    .filter((fragment) => fragment.type === "error")
    .filter((fragment, i, all) => all.findIndex((other) => sameError(fragment, other)) === i),
);

/** Generated verifiers revert by hand-written code, of which their ABI says nothing. */
const proofErrors = new Interface([
  "error ValueGeLimbMax()",
  "error ValueGeGroupOrder()",
  "error ValueGeFieldOrder()",
  "error SumcheckFailed()",
  "error ShpleminiFailed()",
  "error ConsistencyCheckFailed()",
  "error GeminiChallengeInSubgroup()",
  "error PublicInputsLengthWrong()",
  "error ProofLengthWrongWithLogN(uint256 logN, uint256 length, uint256 expected)",
]);

function sameError(a: { name?: string; inputs?: readonly unknown[] }, b: typeof a): boolean {
  return a.name === b.name && JSON.stringify(a.inputs) === JSON.stringify(b.inputs);
}

/**
 * Why a contract refused a call, and what to do about it, with the error's name behind it:
 * `Batch 0x… is held until 2026-11-30T12:00:00Z: release it from then on (HoldRunning)`. Nothing if it wasn't a contract that refused.
 */
export function refusalOf(error: unknown, currency?: Currency): string | undefined {
  const data = revertDataOf(error);
  if (data === undefined) return undefined;
  const parsed = errors.parseError(data);
  if (parsed === null) return disproofIn(data) ?? `${data}, which is no error of this release`;
  // Solidity's own two.
  if (parsed.name === "Error") return String(parsed.args[0]);
  if (parsed.name === "Panic")
    return `The contract broke off with panic ${parsed.args[0]}: report that, it is a bug (Panic)`;
  const template = sentenceFor(parsed.name, parsed.signature);
  if (template === undefined) return `${parsed.name}(${parsed.args.map(String).join(", ")})`;
  return `${fill(template, parsed.args, currency)} (${parsed.name})`;
}

const DISPROVEN =
  "The verifier takes it for no proof that the version's weights answer what that receipt says: prove that receipt, by them";

function disproofIn(data: string): string | undefined {
  const parsed = proofErrors.parseError(data);
  return parsed === null ? undefined : `${DISPROVEN} (${parsed.name})`;
}

/** The template for an error; nothing if there is none yet. */
export const sentenceFor = (name: string, signature: string): string | undefined =>
  REFUSAL_SENTENCES[signature] ?? REFUSAL_SENTENCES[name];

/** The ways to say a value, as a sentence names them after the colon. */
export const WAYS: Record<string, (value: bigint, currency?: Currency) => string> = {
  time: timeOf,
  period: periodOf,
  money: moneyOf,
  percent: percentOf,
  version: versionOf,
  Version: (versionId) => versionOf(versionId).replace("v", "V"),
  batch: (status) =>
    (statusName("BatchStatus", status) === "None" ? "unknown" : statusName("BatchStatus", status)).toLowerCase(),
  challenge: (status) =>
    (statusName("ChallengeStatus", status) === "None"
      ? "unknown"
      : statusName("ChallengeStatus", status)
    ).toLowerCase(),
  license: (status) => LICENSE_STATES[statusName("LicenseStatus", status)],
  kind: (kind) => `a ${LINEAGE.AssetKind[Number(kind)].toLowerCase()}`,
  relation: (relation) => LINEAGE.Relation[Number(relation)],
  waited: (time) => (time === 0n ? "not begun" : `over after ${timeOf(time)}`),
  role: roleNameOf,
};

const LICENSE_STATES: Record<StatusName<"LicenseStatus">, string> = {
  None: "was never sold",
  Running: "is running",
  Locked: "is locked for a transfer",
  Movable: "is locked for a transfer",
  Lapsed: "has lapsed and could be renewed",
  Ended: "has ended",
  Closed: "has ended and is closed",
};

function fill(template: string, values: Result, currency?: Currency): string {
  return template.replace(/\{(\w+)(?::(\w+))?\}/g, (_all, name: string, way?: string) => {
    const value: unknown = values.getValue(name);
    return way === undefined ? String(value) : WAYS[way](value as bigint, currency);
  });
}

/** Unix seconds as a date; the highest numbers, which no date has, as never. */
function timeOf(seconds: bigint): string {
  const milliseconds = seconds * 1000n;
  return milliseconds > LATEST_DATE ? "never" : new Date(Number(milliseconds)).toISOString().replace(".000Z", "Z");
}

const LATEST_DATE = 8_640_000_000_000_000n;

const UNITS: [string, bigint][] = [
  ["day", 86_400n],
  ["hour", 3_600n],
  ["minute", 60n],
  ["second", 1n],
];

/** Basis points as a percentage: `2.5 %`. */
export function percentOf(bps: bigint): string {
  return `${Number(bps) / 100} %`;
}

/** Seconds in the largest unit that divides them: `90 minutes`. */
export function periodOf(seconds: bigint): string {
  const [unit, length] = UNITS.find(([, length]) => seconds >= length && seconds % length === 0n) ?? UNITS[3];
  const count = seconds / length;
  return `${count} ${unit}${count === 1n ? "" : "s"}`;
}

function moneyOf(units: bigint, currency?: Currency): string {
  if (currency === undefined) return `${units} units of the currency`;
  return `${formatUnits(units, currency.decimals)} ${currency.symbol} (${units} units)`;
}

function versionOf(versionId: bigint): string {
  return `version ${numberOf(versionId)} of asset ${assetOf(versionId)} (${versionId})`;
}

/** The bytes that a call reverted with, wherever ethers, Hardhat or a node put them. */
function revertDataOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { data, error: inner, info, cause } = error as Record<string, unknown>;
  if (typeof data === "string" && data.startsWith("0x") && data.length >= 10) return data;
  return revertDataOf(data) ?? revertDataOf(inner) ?? revertDataOf(info) ?? revertDataOf(cause);
}
