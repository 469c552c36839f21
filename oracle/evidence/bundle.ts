import { keccak256, toUtf8Bytes } from "ethers";
import { bytesOfBase64, fieldsOf, textOf } from "./bytes";
import type { GpuReport } from "./gpuReport";
import { type NrasToken, nrasTokenOf } from "./nras";
import type { RevocationAnswers } from "./revocation";
import type { SnpReport } from "./snp";
import type { TdxCollateral, TdxQuote } from "./tdx";
import { Refused, refuseUnless } from "./verdict";

/** All that an operator shows at once, under one seed. */
export interface EvidenceBundle {
  /** The attestor's seed that it answers, 32 bytes as hex with 0x. */
  seed: string;
  gpus: GpuEvidence[];
  cpu: CpuEvidence | null;
  answers: RevocationAnswers;
  /** Unsigned: kept for people to look at, and never read as evidence. */
  telemetry: unknown;
}

export type GpuEvidence = ({ kind: "nvidia-report" } & GpuReport) | ({ kind: "nras" } & NrasToken);
export type CpuEvidence = ({ kind: "tdx" } & TdxQuote) | ({ kind: "snp" } & SnpReport);

/** Most characters of a bundle: eight GPUs and a quote with its collateral are a tenth of it. */
export const LONGEST_BUNDLE = 1 << 20;
const MOST_GPUS = 16;
const MOST_ANSWERS = 32;
const VERSION = 1;

/**
 * Reads a bundle. There is one way to write each: as JSON.stringify does, so that nothing can be changed in it unseen.
 * @throws Refused
 */
export function bundleOf(text: string): EvidenceBundle {
  refuseUnless(
    text.length <= LONGEST_BUNDLE,
    `The evidence has ${text.length} characters; ${LONGEST_BUNDLE} are read at most.`,
  );
  const json = jsonOf(text);
  const about = "The evidence";
  const fields = fieldsOf(json, ["version", "seed", "gpus", "cpu", "crls", "ocsp", "telemetry"], about, ["telemetry"]);
  refuseUnless(
    fields.version === VERSION,
    `${about} is of version ${JSON.stringify(fields.version)}; ${VERSION} is understood.`,
  );
  const seed = textOf(fields.seed, `${about}'s seed`);
  refuseUnless(/^0x[0-9a-f]{64}$/.test(seed), `${about}'s seed must be 0x and 64 hex digits in small letters.`);
  return {
    seed,
    gpus: listOf(fields.gpus, MOST_GPUS, `${about}'s gpus`).map(gpuOf),
    cpu: fields.cpu === null ? null : cpuOf(fields.cpu),
    answers: { crls: derOf(fields.crls, "Revocation list"), ocsp: derOf(fields.ocsp, "OCSP answer") },
    telemetry: fields.telemetry ?? null,
  };
}

/** What `bundleOf` reads. */
export function bundleToText({ seed, gpus, cpu, answers, telemetry }: EvidenceBundle): string {
  return JSON.stringify({
    version: VERSION,
    seed,
    gpus: gpus.map((gpu) =>
      gpu.kind === "nras"
        ? { kind: gpu.kind, token: [["JWT", gpu.overall], gpu.devices] }
        : { kind: gpu.kind, report: gpu.report.toString("base64"), certificates: gpu.certificates },
    ),
    cpu: cpu && cpuToJson(cpu),
    crls: answers.crls.map((der) => der.toString("base64")),
    ocsp: answers.ocsp.map((der) => der.toString("base64")),
    ...(telemetry === null ? {} : { telemetry }),
  });
}

/** The hash under which an operator names its evidence on chain. */
export function evidenceHashOf(text: string): string {
  return keccak256(toUtf8Bytes(text));
}

/** What of a GPU's evidence the CPU's report data covers: the report, or the token that names all others by their hashes. */
export function signedPartOf(gpu: GpuEvidence): Buffer {
  return gpu.kind === "nras" ? Buffer.from(gpu.overall) : gpu.report;
}

function gpuOf(json: unknown, index: number): GpuEvidence {
  const about = `The evidence of GPU ${index + 1}`;
  if (kindOf(json) === "nras") {
    const { token } = fieldsOf(json, ["kind", "token"], about);
    return { kind: "nras", ...nrasTokenOf(token) };
  }
  refuseUnless(kindOf(json) === "nvidia-report", `${about} is of no kind that is understood: nvidia-report or nras.`);
  const fields = fieldsOf(json, ["kind", "report", "certificates"], about);
  return {
    kind: "nvidia-report",
    report: bytesOfBase64(textOf(fields.report, `${about}'s report`), `${about}'s report`),
    certificates: textOf(fields.certificates, `${about}'s certificates`),
  };
}

function cpuOf(json: unknown): CpuEvidence {
  const about = "The CPU's evidence";
  if (kindOf(json) === "tdx") {
    const { quote, collateral } = fieldsOf(json, ["kind", "quote", "collateral"], about, ["collateral"]);
    return {
      kind: "tdx",
      quote: bytesOfBase64(textOf(quote, `${about}'s quote`), `${about}'s quote`),
      ...(collateral === undefined ? {} : { collateral: collateralOf(collateral) }),
    };
  }
  refuseUnless(kindOf(json) === "snp", `${about} is of no kind that is understood: tdx or snp.`);
  const fields = fieldsOf(json, ["kind", "report", "certificates"], about);
  return {
    kind: "snp",
    report: bytesOfBase64(textOf(fields.report, `${about}'s report`), `${about}'s report`),
    certificates: textOf(fields.certificates, `${about}'s certificates`),
  };
}

function cpuToJson(cpu: CpuEvidence) {
  return cpu.kind === "tdx"
    ? { kind: cpu.kind, quote: cpu.quote.toString("base64"), ...(cpu.collateral ? { collateral: cpu.collateral } : {}) }
    : { kind: cpu.kind, report: cpu.report.toString("base64"), certificates: cpu.certificates };
}

const COLLATERAL = [
  "tcbInfo",
  "tcbInfoSignature",
  "tcbInfoIssuers",
  "qeIdentity",
  "qeIdentitySignature",
  "qeIdentityIssuers",
] as const;

function collateralOf(json: unknown): TdxCollateral {
  const fields = fieldsOf(json, COLLATERAL, "The quote's collateral");
  return Object.fromEntries(
    COLLATERAL.map((name) => [name, textOf(fields[name], `The quote's collateral ${name}`)]),
  ) as unknown as TdxCollateral;
}

function jsonOf(text: string): unknown {
  let json: unknown;
  let written: string;
  try {
    json = JSON.parse(text);
    // Nested too deeply, it can't be written.
    written = JSON.stringify(json);
  } catch (cause) {
    throw new Refused(`The evidence is no JSON: ${(cause as Error).message}`);
  }
  refuseUnless(
    written === text,
    "The evidence must be JSON as JSON.stringify writes it: without spaces, each field once.",
  );
  return json;
}

function kindOf(json: unknown): unknown {
  return typeof json === "object" && json !== null ? (json as { kind?: unknown }).kind : undefined;
}

function listOf(value: unknown, most: number, about: string): unknown[] {
  if (!Array.isArray(value)) throw new Refused(`${about} must be a list.`);
  refuseUnless(value.length <= most, `${about} has ${value.length} items; ${most} are read at most.`);
  return value;
}

function derOf(value: unknown, about: string): Buffer[] {
  return listOf(value, MOST_ANSWERS, `${about}s`).map((item, index) =>
    bytesOfBase64(textOf(item, `${about} ${index + 1}`), `${about} ${index + 1}`),
  );
}
