import { verify } from "node:crypto";
import { shown } from "../problem";
import { hexOf, Reader } from "./bytes";
import { type Certificate, certificatesOf, keyFingerprintOf, verifyChain } from "./certificates";
import { childrenOf, contentOf, elementOf, Tag } from "./der";
import { checkRevocation, type RevocationAnswers, type RevocationDemand } from "./revocation";
import { Refused, refuseUnless, undecidedUnless, type Verdict, verdictOf } from "./verdict";

/** What a GPU says in answer to SPDM's GET_MEASUREMENTS: the request, the response, and the chain of the key that signed both. */
export interface GpuReport {
  report: Buffer;
  /** PEM, the leaf first, down to NVIDIA's root. */
  certificates: string;
}

export interface GpuPolicy {
  /** SHA-256 fingerprints of the roots, in small hex. */
  roots: readonly string[];
  distrusted: readonly string[];
  /** NVIDIA's responder answers for the issuers of a leaf; leaves are made by the device itself. */
  revocation: RevocationDemand;
  firmware: readonly GpuFirmware[];
}

/** A driver and VBIOS whose measurements are known, from NVIDIA's reference manifests (RIM) or a machine that is trusted. */
export interface GpuFirmware {
  name: string;
  /** Whom the leaf's certificate names: GH100 A01 GSP FMC LF. Other products of NVIDIA's stand under the same root. */
  model: string;
  driverVersion: string;
  /** As NVIDIA writes it: 96.00.9F.00.01. */
  vbiosVersion: string;
  /** The values that are right for an index, in small hex. At least one index; what isn't named isn't compared. */
  measurements: Readonly<Record<number, readonly string[]>>;
}

export interface GpuClaims {
  kind: "nvidia-report";
  /** Names of this GPU: one of its soldered-in key, one as NVIDIA's service names it. */
  devices: string[];
  model: string;
  driverVersion: string;
  vbiosVersion: string;
  /** The entry of the allow-list that it matched. */
  firmware: string;
  /** How many of the chain's certificates a current revocation answer covers. */
  revocationCovered: number;
}

export interface GpuQuestion {
  /** What the GPU was asked to sign, as hex with 0x. */
  nonce: string;
  at: number;
  answers: RevocationAnswers;
}

const ABOUT = "The GPU's report";

/** Verifies one GPU's report. */
export function verifyGpuReport(
  evidence: GpuReport,
  policy: GpuPolicy,
  question: GpuQuestion,
): Promise<Verdict<GpuClaims>> {
  return verdictOf(
    ABOUT,
    () => {
      const report = gpuReportOf(evidence.report);
      const chain = certificatesOf(evidence.certificates, "The GPU's certificates");
      checkSignature(evidence.report, chain[0]);
      verifyChain(
        chain,
        {
          at: question.at,
          roots: policy.roots,
          leafKey: "P-384",
          issuerKeys: ["P-384"],
          distrusted: policy.distrusted,
        },
        "The GPU's certificates",
      );
      refuseUnless(
        `0x${hexOf(report.nonce)}` === question.nonce,
        `${ABOUT} has the nonce 0x${hexOf(report.nonce)}, and this seed asks for ${question.nonce}: it was made for something ` +
          `else. Ask the GPU again, with the nonce of this seed.`,
      );
      checkFirmwareId(report, chain[0]);
      const firmware = matchingFirmware(report, chain[0].name, policy.firmware);
      const revocationCovered = checkRevocation(
        chain,
        question.answers,
        { demand: policy.revocation, at: question.at },
        "The GPU's certificates",
      );
      return {
        kind: "nvidia-report" as const,
        devices: [`nvidia-key:${keyFingerprintOf(chain[1])}`, `nvidia-ueid:${chain[0].serial}`],
        model: chain[0].name,
        driverVersion: report.driverVersion,
        vbiosVersion: report.vbiosVersion,
        firmware: firmware.name,
        revocationCovered,
      };
    },
    ({ model, firmware }) => `A genuine ${model} signed this nonce, with the firmware "${firmware}".`,
  );
}

export interface ParsedGpuReport {
  nonce: Buffer;
  /** In small hex, by index. */
  measurements: ReadonlyMap<number, string>;
  driverVersion: string;
  vbiosVersion: string;
  /** Hash of the firmware that holds the signing key, where the driver reports it. */
  firmwareId?: Buffer;
}

const SPDM_1_1 = 0x11;
const GET_MEASUREMENTS = 0xe0;
const MEASUREMENTS = 0x60;
const SIGNED = 0x01;
const ALL = 0xff;
const DMTF = 0x01;
const SIGNATURE_LENGTH = 96;
const HASH_LENGTH = 48;
const DRIVER_VERSION = 3;
const VBIOS_VERSION = 6;
const FIRMWARE_ID = 20;

/** Takes a report apart (DMTF DSP0274 1.1, with NVIDIA's opaque data). @throws Refused */
export function gpuReportOf(bytes: Buffer): ParsedGpuReport {
  const reader = new Reader(bytes, ABOUT);
  const request = [
    reader.u8("the request's version"),
    reader.u8("the request's code"),
    reader.u8("the request's attributes"),
  ];
  refuseUnless(
    request[0] === SPDM_1_1 &&
      request[1] === GET_MEASUREMENTS &&
      request[2] === SIGNED &&
      reader.u8("what is asked") === ALL,
    `${ABOUT} doesn't begin with SPDM 1.1's request for all measurements, signed.`,
  );
  const nonce = reader.take(32, "the nonce");
  const slot = reader.u8("the slot");
  refuseUnless(
    reader.u8("the response's version") === SPDM_1_1 && reader.u8("the response's code") === MEASUREMENTS,
    `${ABOUT} doesn't answer with SPDM 1.1's measurements.`,
  );
  refuseUnless(
    reader.u8("the response's first parameter") === 0 && reader.u8("the response's slot") === slot,
    `${ABOUT} answers for another slot of certificates than slot ${slot}, which was asked.`,
  );
  const count = reader.u8("the number of measurements");
  const measurements = measurementsOf(reader.take(reader.u24("the measurements' length"), "the measurements"), count);
  reader.take(32, "the GPU's own nonce");
  const opaque = opaqueFieldsOf(reader.take(reader.u16("the opaque data's length"), "the opaque data"));
  reader.take(SIGNATURE_LENGTH, "the signature");
  reader.end();
  return {
    nonce,
    measurements,
    driverVersion: textOf(opaque, DRIVER_VERSION, "driver version"),
    vbiosVersion: vbiosVersionOf(opaque.get(VBIOS_VERSION)),
    firmwareId: opaque.get(FIRMWARE_ID),
  };
}

function measurementsOf(bytes: Buffer, count: number): Map<number, string> {
  const about = `${ABOUT}'s measurements`;
  const reader = new Reader(bytes, about);
  const measurements = new Map<number, string>();
  for (let expected = 1; expected <= count; expected++) {
    const index = reader.u8("an index");
    refuseUnless(index === expected, `${about} have index ${index} where ${expected} comes next.`);
    const specification = reader.u8("a specification");
    const size = reader.u16("a size");
    const type = reader.u8("a type");
    const length = reader.u16("a value's size");
    refuseUnless(
      specification === DMTF && (type & 0x80) === 0 && length === HASH_LENGTH && size === HASH_LENGTH + 3,
      `${about} have no SHA-384 hash at index ${index} (specification ${specification}, type ${type}, ${length} bytes).`,
    );
    measurements.set(index, hexOf(reader.take(length, `measurement ${index}`)));
  }
  reader.end();
  return measurements;
}

function opaqueFieldsOf(bytes: Buffer): Map<number, Buffer> {
  const about = `${ABOUT}'s opaque data`;
  const reader = new Reader(bytes, about);
  const fields = new Map<number, Buffer>();
  while (reader.position < bytes.length) {
    const type = reader.u16("a field's type");
    refuseUnless(!fields.has(type), `${about} has field ${type} twice.`);
    fields.set(type, reader.take(reader.u16("a field's length"), `field ${type}`));
  }
  return fields;
}

function textOf(opaque: ReadonlyMap<number, Buffer>, type: number, name: string): string {
  const text = /^([\x20-\x7e]+)\0*$/.exec(opaque.get(type)?.toString("latin1") ?? "")?.[1];
  if (text === undefined) throw new Refused(`${ABOUT} has no ${name}.`);
  return text;
}

/** Eight bytes that NVIDIA's tools write as five numbers: 00 5E 00 96 01 00 00 00 is 96.00.5E.00.01. */
function vbiosVersionOf(bytes: Buffer | undefined): string {
  if (bytes?.length !== 8) throw new Refused(`${ABOUT} has no VBIOS version of 8 bytes.`);
  return [bytes[3], bytes[2], bytes[1], bytes[0], bytes[4]]
    .map((byte) => byte.toString(16).toUpperCase().padStart(2, "0"))
    .join(".");
}

/** The GPU signs the request and its response, both without the signature. */
function checkSignature(report: Buffer, leaf: Certificate): void {
  const signature = report.subarray(-SIGNATURE_LENGTH);
  const body = report.subarray(0, -SIGNATURE_LENGTH);
  refuseUnless(
    leaf.key.asymmetricKeyType === "ec" &&
      verify("sha384", body, { key: leaf.key, dsaEncoding: "ieee-p1363" }, signature),
    `${ABOUT} isn't signed by ${leaf.name}, whose certificate comes with it: it was altered, or the certificates are another GPU's.`,
  );
}

const DICE_FIRMWARE_ID = "2.23.133.5.4.1";

/** The firmware that the key's certificate was made for is the firmware that reports. */
function checkFirmwareId(report: ParsedGpuReport, leaf: Certificate): void {
  if (report.firmwareId === undefined) return;
  const about = "The GPU certificate's firmware id";
  const extension = leaf.extensions.get(DICE_FIRMWARE_ID);
  refuseUnless(extension !== undefined, `${about} is missing, and the report names one (${hexOf(report.firmwareId)}).`);
  const [, , firmware] = childrenOf(elementOf(extension, about), Tag.sequence, about);
  const [, digest] = childrenOf(firmware, Tag.sequence, about);
  const certified = contentOf(digest, Tag.octetString, about);
  refuseUnless(
    certified.equals(report.firmwareId),
    `${about} is ${hexOf(certified)}, and the report says ${hexOf(report.firmwareId)}: the key was made for other firmware.`,
  );
}

function matchingFirmware(report: ParsedGpuReport, model: string, allowed: readonly GpuFirmware[]): GpuFirmware {
  const versions = `driver ${shown(report.driverVersion)} with VBIOS ${report.vbiosVersion}`;
  undecidedUnless(
    allowed.length > 0,
    `The policy allows no GPU firmware yet, and this ${model} runs ${versions}. Add it, with measurements from NVIDIA's reference ` +
      `manifest.`,
  );
  const known = allowed.filter(
    (firmware) =>
      firmware.model === model &&
      firmware.driverVersion === report.driverVersion &&
      firmware.vbiosVersion === report.vbiosVersion,
  );
  refuseUnless(
    known.length > 0,
    `This ${model} runs ${versions}, which isn't on the allow-list (${allowed.map(({ name }) => name).join(", ")}). Install what is, or ` +
      `ask the attestor to add it.`,
  );
  const differences = known.map((firmware) => differenceOf(report, firmware));
  const match = differences.indexOf(undefined);
  refuseUnless(
    match >= 0,
    `This ${model} runs ${versions}, but not as measured by its maker: ${differences.join("; ")}.`,
  );
  return known[match];
}

function differenceOf(report: ParsedGpuReport, { name, measurements }: GpuFirmware): string | undefined {
  const entries = Object.entries(measurements);
  if (entries.length === 0) return `"${name}" lists no measurement`;
  for (const [index, values] of entries) {
    const value = report.measurements.get(Number(index));
    if (value === undefined || !values.includes(value)) {
      return `measurement ${index} is ${value ?? "missing"}, which "${name}" doesn't allow`;
    }
  }
  return undefined;
}
