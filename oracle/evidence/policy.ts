import { ConfigError, Section } from "../configSection";
import { fingerprintOf } from "./certificates";
import type { GpuFirmware, GpuPolicy } from "./gpuReport";
import type { NrasPolicy } from "./nras";
import type { RevocationDemand } from "./revocation";
import type { SnpPolicy } from "./snp";
import type { TdxPolicy } from "./tdx";

/** What an attestor accepts. A kind of evidence without a section is never accepted. */
export interface EvidencePolicy {
  /** How long an answer to a seed may take. */
  maxAgeSeconds: number;
  /** How long a tier stands once it was reached. */
  validForSeconds: number;
  /** Whether a CPU counts for one operator only, as GPUs do. Clouds put several guests on one. */
  exclusiveCpus: boolean;
  gpu?: GpuPolicy;
  nras?: NrasPolicy;
  tdx?: TdxPolicy;
  snp?: SnpPolicy;
}

const A_MONTH = 31 * 86_400;
const SHA_256 = 32;
const SHA_384 = 48;

/**
 * Reads a policy file.
 * @throws ConfigError
 */
export function evidencePolicyOf(text: string): EvidencePolicy {
  const root = new Section("", jsonOf(text), {});
  const policy: EvidencePolicy = {
    maxAgeSeconds: root.count("maxAgeSeconds", [1, 3_600]),
    validForSeconds: root.count("validForSeconds", [60, A_MONTH]),
    exclusiveCpus: root.flag("exclusiveCpus"),
    gpu: root.optional("gpu", (section) => ({
      ...trustOf(section, "issuers"),
      firmware: section.listOf("firmware", "name", firmwareOf),
    })),
    nras: root.optional("nras", nrasOf),
    tdx: root.optional("tdx", tdxOf),
    snp: root.optional("snp", snpOf),
  };
  root.end();
  return policy;
}

const DEMANDS: readonly RevocationDemand[] = ["every", "issuers", "none"];

function trustOf(section: Section, demand: RevocationDemand) {
  const fingerprints = (name: string, fallback?: string[]) =>
    section.texts(name, fallback).map((text) => hexOf(fingerprintOf(text), SHA_256, name));
  return {
    roots: fingerprints("roots"),
    distrusted: fingerprints("distrusted", []),
    revocation: section.choice("revocation", DEMANDS, demand),
  };
}

function firmwareOf(section: Section): GpuFirmware {
  return {
    name: section.text("name"),
    model: section.text("model"),
    driverVersion: section.text("driverVersion"),
    vbiosVersion: section.text("vbiosVersion"),
    measurements: Object.fromEntries(
      section
        .listOf("measurements", "index", (measurement) => ({
          index: measurement.count("index", [1, 254]),
          values: measurement.texts("values").map((value) => hexOf(value, SHA_384, "values")),
        }))
        .map(({ index, values }) => [index, values]),
    ),
  };
}

function nrasOf(section: Section): NrasPolicy {
  return {
    issuer: section.text("issuer"),
    audience: section.has("audience") ? section.text("audience") : null,
    maxAgeSeconds: section.count("maxAgeSeconds", [1, 86_400]),
    models: section.texts("models"),
    // As the service publishes them: what isn't needed of a key is left out here.
    keys: section.listOf("keys", "kid", (key) => ({
      kid: key.text("kid"),
      kty: key.text("kty"),
      crv: key.text("crv"),
      x: key.text("x"),
      y: key.text("y"),
    })),
    firmware: section.listOf("firmware", null, (firmware) => ({
      driverVersion: firmware.text("driverVersion"),
      vbiosVersion: firmware.text("vbiosVersion"),
    })),
  };
}

function tdxOf(section: Section): TdxPolicy {
  return {
    ...trustOf(section, "every"),
    statuses: section.texts("statuses", ["UpToDate"]),
    minimumEvaluation: section.count("minimumEvaluation", [0, 1_000_000]),
    programs: section.listOf("programs", "name", (program) => {
      const values = (name: string) => program.texts(name).map((value) => hexOf(value, SHA_384, name));
      return {
        name: program.text("name"),
        mrTd: values("mrTd"),
        rtMr: [values("rtMr0"), values("rtMr1"), values("rtMr2"), values("rtMr3")],
        mrConfigId: optionalHex(program, "mrConfigId", SHA_384),
        mrOwner: optionalHex(program, "mrOwner", SHA_384),
        mrOwnerConfig: optionalHex(program, "mrOwnerConfig", SHA_384),
      };
    }),
  };
}

function snpOf(section: Section): SnpPolicy {
  return {
    ...trustOf(section, "issuers"),
    programs: section.listOf("programs", "name", (program) => ({
      name: program.text("name"),
      measurement: hexOf(program.text("measurement"), SHA_384, "measurement"),
      hostData: optionalHex(program, "hostData", 32),
      vmpl: program.count("vmpl", [0, 3], 0),
      minimumTcb: {
        bootloader: program.count("minimumBootloader", [0, 255]),
        tee: program.count("minimumTee", [0, 255]),
        snp: program.count("minimumSnp", [0, 255]),
        microcode: program.count("minimumMicrocode", [0, 255]),
      },
    })),
  };
}

function optionalHex(section: Section, name: string, length: number): string | undefined {
  return section.has(name) ? hexOf(section.text(name), length, name) : undefined;
}

/** Small hex, whatever was written. */
function hexOf(text: string, length: number, name: string): string {
  const hex = text.replace(/^0x/, "").toLowerCase();
  if (/^[0-9a-f]*$/.test(hex) && hex.length === 2 * length) return hex;
  throw new ConfigError(`${name} must be ${length} bytes of hex; ${JSON.stringify(text)} isn't.`);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`The evidence policy is no JSON: ${(cause as Error).message}`, { cause });
  }
}
