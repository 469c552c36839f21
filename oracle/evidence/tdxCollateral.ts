import { shown } from "../problem";
import { hexOf } from "./bytes";
import type { Platform } from "./pck";
import type { EnclaveReport } from "./tdx";
import { Refused, refuseUnless } from "./verdict";

/** What Intel calls a part of a platform, by its security versions. */
export interface Standing {
  of: "platform" | "TDX module" | "quoting enclave";
  status: string;
  advisories: string[];
}

interface Dated {
  /** Unix seconds. */
  issuedAt: number;
  nextUpdate: number;
  /** Intel's number of the round of fixes that it knows of. */
  evaluation: number;
}

/** Levels come best first: the first whose security versions are all reached counts. */
interface Level {
  status: string;
  advisories: string[];
}

/** Attributes count where the mask has a bit. */
interface Identity {
  mrSigner: string;
  attributes: Buffer;
  attributesMask: Buffer;
}

export interface TcbInfo extends Dated {
  fmspc: string;
  pceId: string;
  module: Identity;
  modules: (Identity & { id: string; levels: (Level & { isvSvn: number })[] })[];
  levels: (Level & { sgx: number[]; tdx: number[]; pceSvn: number })[];
}

export interface QeIdentity extends Dated, Identity {
  miscSelect: Buffer;
  miscSelectMask: Buffer;
  isvProdId: number;
  levels: (Level & { isvSvn: number })[];
}

/** Reads Intel's TCB info, version 3. What is signed is still read with care: an error in it is a refusal. */
export function tcbInfoOf(text: string): TcbInfo {
  const json = new Json(JSON.parse(text), "Intel's TCB info");
  refuseUnless(json.text("id") === "TDX" && json.count("version") === 3, "Intel's TCB info isn't of TDX, version 3.");
  refuseUnless(json.count("tcbType") === 0, `Intel's TCB info is of type ${json.count("tcbType")}; 0 is understood.`);
  return {
    ...datesOf(json),
    fmspc: json.hex("fmspc", 6),
    pceId: json.hex("pceId", 2),
    module: identityOf(json.object("tdxModule"), 48, 8),
    modules: json.has("tdxModuleIdentities")
      ? json.list("tdxModuleIdentities").map((module) => ({
          ...identityOf(module, 48, 8),
          id: module.text("id"),
          levels: module
            .list("tcbLevels")
            .map((level) => ({ ...levelOf(level), isvSvn: level.object("tcb").count("isvsvn") })),
        }))
      : [],
    levels: json.list("tcbLevels").map((level) => {
      const tcb = level.object("tcb");
      const versions = (name: string) => {
        const components = tcb.list(name).map((component) => component.count("svn"));
        refuseUnless(
          components.length === 16,
          `Intel's TCB info has ${components.length} components in ${name}; it should have 16.`,
        );
        return components;
      };
      return {
        ...levelOf(level),
        sgx: versions("sgxtcbcomponents"),
        tdx: versions("tdxtcbcomponents"),
        pceSvn: tcb.count("pcesvn"),
      };
    }),
  };
}

/** Reads Intel's identity of the quoting enclave of TDX, version 2. */
export function qeIdentityOf(text: string): QeIdentity {
  const json = new Json(JSON.parse(text), "Intel's identity of the quoting enclave");
  refuseUnless(
    json.text("id") === "TD_QE" && json.count("version") === 2,
    "Intel's identity of the quoting enclave isn't of TDX's, version 2.",
  );
  return {
    ...datesOf(json),
    ...identityOf(json, 32, 16),
    miscSelect: json.bytes("miscselect", 4),
    miscSelectMask: json.bytes("miscselectMask", 4),
    isvProdId: json.count("isvprodid"),
    levels: json.list("tcbLevels").map((level) => ({ ...levelOf(level), isvSvn: level.object("tcb").count("isvsvn") })),
  };
}

function datesOf(json: Json): Dated {
  return {
    issuedAt: json.time("issueDate"),
    nextUpdate: json.time("nextUpdate"),
    evaluation: json.count("tcbEvaluationDataNumber"),
  };
}

function identityOf(json: Json, signerLength: number, attributesLength: number): Identity {
  return {
    mrSigner: json.hex("mrsigner", signerLength),
    attributes: json.bytes("attributes", attributesLength),
    attributesMask: json.bytes("attributesMask", attributesLength),
  };
}

function levelOf(level: Json): Level {
  return { status: level.text("tcbStatus"), advisories: level.has("advisoryIDs") ? level.texts("advisoryIDs") : [] };
}

/** @throws Refused where Intel's TCB info knows no level as low as this platform's */
export function matchingPlatform(tcb: TcbInfo, platform: Platform, teeTcbSvn: Buffer): Standing {
  // From TDX 1.5 on the first two bytes are the module's, which has levels of its own.
  const first = teeTcbSvn[1] > 0 ? 2 : 0;
  const level = tcb.levels.find(
    ({ sgx, tdx, pceSvn }) =>
      sgx.every((least, index) => platform.components[index] >= least) &&
      tdx.every((least, index) => index < first || teeTcbSvn[index] >= least) &&
      platform.pceSvn >= pceSvn,
  );
  if (level === undefined) {
    throw new Refused(
      `Intel knows no level for this platform's security versions (components ${platform.components.join(" ")}, PCE ${platform.pceSvn}, TDX ` +
        `${hexOf(teeTcbSvn)}): update its firmware.`,
    );
  }
  return { of: "platform", status: level.status, advisories: level.advisories };
}

/** @throws Refused where the TDX module isn't one of Intel's */
export function matchingModule(tcb: TcbInfo, teeTcbSvn: Buffer, mrSigner: Buffer, attributes: Buffer): Standing {
  const major = teeTcbSvn[1];
  const id = `TDX_${major.toString(16).toUpperCase().padStart(2, "0")}`;
  const identified = tcb.modules.find((module) => module.id === id);
  refuseUnless(
    major === 0 || identified !== undefined,
    `Intel's TCB info doesn't know the TDX module ${id}. Fetch it anew.`,
  );
  const identity = major === 0 ? tcb.module : identified!;
  refuseUnless(
    hexOf(mrSigner) === identity.mrSigner && agrees(attributes, identity.attributes, identity.attributesMask),
    `The TDX module is signed by ${hexOf(mrSigner)} with attributes ${hexOf(attributes)}, which isn't Intel's module ${id}.`,
  );
  if (major === 0) return { of: "TDX module", status: "UpToDate", advisories: [] };
  return { of: "TDX module", ...levelFor(identified!.levels, teeTcbSvn[0], `TDX module ${id}`) };
}

/** @throws Refused where the quoting enclave isn't Intel's, or may be debugged */
export function matchingQuotingEnclave(identity: QeIdentity, enclave: EnclaveReport): Standing {
  const about = "The quoting enclave";
  refuseUnless(
    hexOf(enclave.mrSigner) === identity.mrSigner && enclave.isvProdId === identity.isvProdId,
    `${about} is signed by ${hexOf(enclave.mrSigner)} as product ${enclave.isvProdId}; Intel's is signed by ${identity.mrSigner} as ` +
      `product ${identity.isvProdId}.`,
  );
  refuseUnless(
    agrees(enclave.attributes, identity.attributes, identity.attributesMask) &&
      (enclave.attributes[0] & SGX_DEBUG) === 0,
    `${about} has the attributes ${hexOf(enclave.attributes)}, which Intel's hasn't.`,
  );
  refuseUnless(
    agrees(enclave.miscSelect, identity.miscSelect, identity.miscSelectMask),
    `${about} has the selection ${hexOf(enclave.miscSelect)}, which Intel's hasn't.`,
  );
  return { of: "quoting enclave", ...levelFor(identity.levels, enclave.isvSvn, "quoting enclave") };
}

const SGX_DEBUG = 0x02;

function levelFor(levels: readonly (Level & { isvSvn: number })[], version: number, of: string): Level {
  const level = levels.find(({ isvSvn }) => version >= isvSvn);
  if (level === undefined)
    throw new Refused(`Intel knows no level for the ${of}'s security version ${version}: update it.`);
  return { status: level.status, advisories: level.advisories };
}

/** Whether bytes are as expected where the mask has bits. */
function agrees(value: Buffer, expected: Buffer, mask: Buffer): boolean {
  return value.every((byte, index) => (byte & mask[index]) === (expected[index] & mask[index]));
}

/** Reads fields of JSON, each refused by name where it isn't what it should be. */
class Json {
  constructor(
    private readonly value: unknown,
    private readonly about: string,
  ) {
    refuseUnless(typeof value === "object" && value !== null && !Array.isArray(value), `${about} isn't an object.`);
  }

  private field(name: string): unknown {
    const value = (this.value as Record<string, unknown>)[name];
    refuseUnless(Object.hasOwn(this.value as object, name), `${this.about} has no ${name}.`);
    return value;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.value as object, name);
  }

  text(name: string): string {
    const value = this.field(name);
    if (typeof value !== "string") throw new Refused(`${this.about}'s ${name} is ${shown(value)}, not text.`);
    return value;
  }

  count(name: string): number {
    const value = this.field(name);
    const counts = typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
    if (!counts) throw new Refused(`${this.about}'s ${name} is ${shown(value)}, not a whole number.`);
    return value;
  }

  time(name: string): number {
    const time = Date.parse(this.text(name));
    refuseUnless(
      /Z$/.test(this.text(name)) && !Number.isNaN(time),
      `${this.about}'s ${name} is no time: ${shown(this.text(name))}.`,
    );
    return time / 1_000;
  }

  /** Small hex of so many bytes; Intel writes capitals. */
  hex(name: string, length: number): string {
    const text = this.text(name).toLowerCase();
    refuseUnless(
      /^[0-9a-f]*$/.test(text) && text.length === 2 * length,
      `${this.about}'s ${name} isn't ${length} bytes of hex.`,
    );
    return text;
  }

  bytes(name: string, length: number): Buffer {
    return Buffer.from(this.hex(name, length), "hex");
  }

  object(name: string): Json {
    return new Json(this.field(name), `${this.about}'s ${name}`);
  }

  private items(name: string): unknown[] {
    const value = this.field(name);
    if (!Array.isArray(value)) throw new Refused(`${this.about}'s ${name} isn't a list.`);
    return value;
  }

  list(name: string): Json[] {
    return this.items(name).map((item, index) => new Json(item, `${this.about}'s ${name}[${index}]`));
  }

  texts(name: string): string[] {
    return this.items(name).map((item) => {
      if (typeof item !== "string") throw new Refused(`${this.about}'s ${name} has ${shown(item)}, not text.`);
      return item;
    });
  }
}
