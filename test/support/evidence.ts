import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { pemOf } from "../../oracle/evidence/certificates";
import type { GpuPolicy, GpuReport } from "../../oracle/evidence/gpuReport";
import type { NrasKey, NrasPolicy, NrasToken } from "../../oracle/evidence/nras";
import type { SnpPolicy, SnpReport } from "../../oracle/evidence/snp";
import type { TdxPolicy, TdxQuote } from "../../oracle/evidence/tdx";
import { certify, type CertificateParts, integer, octets, type Party, revocationList, sequence, objectId } from "./der";

/** Makers of hardware that doesn't exist: authorities, devices and what they sign, whole or with one thing wrong. */

/** A moment at which everything here is valid: 14 November 2023. */
export const NOW = 1_700_000_000;

export const fingerprintOf = (party: Party) => createHash("sha256").update(party.certificate).digest("hex");
export const chainOf = (...parties: Party[]) => pemOf(parties.map(({ certificate }) => certificate));
const hash = (text: string, length = 48) =>
  createHash(length === 48 ? "sha384" : "sha256")
    .update(text)
    .digest();

const u16 = (value: number) => Buffer.from([value & 0xff, value >> 8]);
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};

const lazily = <Value>(make: () => Value) => {
  let made: Value | undefined;
  return () => (made ??= make());
};

// GPUs

export interface GpuMaker {
  root: Party;
  identity: Party;
  provisioner: Party;
}

export interface Gpu {
  device: Party;
  leaf: Party;
  chain: string;
}

export const FIRMWARE_ID = hash("gpu firmware");
const DICE = "2.23.133.5.4.1";

export const gpuMaker = lazily((): GpuMaker => {
  const root = certify({ name: "Test Device Identity CA", ca: true });
  const identity = certify({ name: "Test GH100 Identity", ca: true }, root);
  return { root, identity, provisioner: certify({ name: "Test GH100 Provisioner", ca: true }, identity) };
});

/** What the leaf's certificate says of the firmware it was made for. */
export const firmwareExtension = (id: Buffer): [string, boolean, Buffer] => [
  DICE,
  false,
  sequence(integer(1), sequence(), sequence(objectId("2.16.840.1.101.3.4.2.2"), octets(id))),
];

export function newGpu(leafParts: Partial<CertificateParts> = {}): Gpu {
  const { root, identity, provisioner } = gpuMaker();
  const device = certify({ name: "GH100 BROM", ca: true }, provisioner);
  const leaf = certify({ name: "GH100 FMC LF", extensions: [firmwareExtension(FIRMWARE_ID)], ...leafParts }, device);
  return { device, leaf, chain: chainOf(leaf, device, provisioner, identity, root) };
}

export const MEASUREMENTS = Array.from({ length: 8 }, (_, index) => hash(`measurement ${index + 1}`));

export interface GpuReportParts {
  measurements: Buffer[];
  driverVersion: string;
  vbios: Buffer;
  /** Fields of the opaque data by type, besides the versions. */
  opaque: [type: number, value: Buffer][];
  /** Changes what is signed, before it is. */
  shape: (unsigned: Buffer) => Buffer;
}

export const field = (type: number, value: Buffer) => Buffer.concat([u16(type), u16(value.length), value]);

export function gpuReport(gpu: Gpu, nonce: string, parts: Partial<GpuReportParts> = {}): GpuReport {
  const {
    measurements = MEASUREMENTS,
    driverVersion = "550.90.07",
    vbios = Buffer.from("009f009601000000", "hex"),
  } = parts;
  const { opaque = [[20, FIRMWARE_ID] as [number, Buffer]], shape = (same: Buffer) => same } = parts;
  const blocks = Buffer.concat(
    measurements.map((value, index) =>
      Buffer.concat([Buffer.from([index + 1, 1]), u16(value.length + 3), Buffer.from([1]), u16(value.length), value]),
    ),
  );
  const fields = Buffer.concat([
    field(6, vbios),
    field(3, Buffer.from(`${driverVersion}\0`)),
    ...opaque.map(([type, value]) => field(type, value)),
  ]);
  const unsigned = shape(
    Buffer.concat([
      Buffer.from([0x11, 0xe0, 0x01, 0xff]),
      Buffer.from(nonce.slice(2), "hex"),
      Buffer.from([0]),
      Buffer.from([0x11, 0x60, 0, 0, measurements.length]),
      u32(blocks.length).subarray(0, 3),
      blocks,
      randomBytes(32),
      u16(fields.length),
      fields,
    ]),
  );
  return { report: signedGpuReport(gpu, unsigned), certificates: gpu.chain };
}

export function signedGpuReport(gpu: Gpu, unsigned: Buffer): Buffer {
  const hashName = gpu.leaf.privateKey.asymmetricKeyDetails?.namedCurve === "prime256v1" ? "sha256" : "sha384";
  return Buffer.concat([unsigned, sign(hashName, unsigned, { key: gpu.leaf.privateKey, dsaEncoding: "ieee-p1363" })]);
}

export const gpuPolicy = (changes: Partial<GpuPolicy> = {}): GpuPolicy => ({
  roots: [fingerprintOf(gpuMaker().root)],
  distrusted: [],
  revocation: "none",
  firmware: [
    {
      name: "550.90.07 on H100",
      model: "GH100 FMC LF",
      driverVersion: "550.90.07",
      vbiosVersion: "96.00.9F.00.01",
      measurements: Object.fromEntries(MEASUREMENTS.map((value, index) => [index + 1, [value.toString("hex")]])),
    },
  ],
  ...changes,
});

// NVIDIA's service

export interface NrasService {
  privateKey: KeyObject;
  publicKey: KeyObject;
  key: NrasKey;
}

export function nrasService(curve: "P-384" | "P-256" = "P-384", kid = "key-1"): NrasService {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: curve });
  const { x, y } = publicKey.export({ format: "jwk" });
  return { privateKey, publicKey, key: { kid, kty: "EC", crv: curve, x: x!, y: y! } };
}

export const nvidiaService = lazily(() => nrasService());
export const NRAS_ISSUER = "https://nras.example";

/** A token: any header, any claims, any signature. */
export function token(header: object, claims: unknown, signature: (input: Buffer) => Buffer): string {
  const part = (json: unknown) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const input = `${part(header)}.${part(claims)}`;
  return `${input}.${signature(Buffer.from(input)).toString("base64url")}`;
}

export const es384 =
  ({ privateKey }: { privateKey: KeyObject }, hashName = "sha384") =>
  (input: Buffer) =>
    sign(hashName, input, { key: privateKey, dsaEncoding: "ieee-p1363" });

export const nrasHeader = (service: NrasService) => ({ kid: service.key.kid, alg: "ES384" });

export const nrasBase = (nonce: string) => ({
  iss: NRAS_ISSUER,
  iat: NOW - 10,
  nbf: NOW - 10,
  exp: NOW + 3_590,
  eat_nonce: nonce.slice(2),
});

const goodChain = { "x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good" };

export const nrasDevice = (
  nonce: string,
  ueid = "478176379286082186618948445787393647364802107249",
): Record<string, unknown> => ({
  ...nrasBase(nonce),
  ueid,
  hwmodel: "GH100 A01 GSP BROM",
  measres: "success",
  secboot: true,
  dbgstat: "disabled",
  "x-nvidia-gpu-driver-version": "550.90.07",
  "x-nvidia-gpu-vbios-version": "96.00.9F.00.01",
  "x-nvidia-attestation-warning": null,
  ...Object.fromEntries(
    [
      "arch-check",
      "attestation-report-parsed",
      "attestation-report-nonce-match",
      "attestation-report-signature-verified",
      "attestation-report-cert-chain-fwid-match",
      "driver-rim-fetched",
      "driver-rim-signature-verified",
      "driver-rim-version-match",
      "driver-rim-measurements-available",
      "vbios-rim-fetched",
      "vbios-rim-signature-verified",
      "vbios-rim-version-match",
      "vbios-rim-measurements-available",
      "vbios-index-no-conflict",
    ].map((name) => [`x-nvidia-gpu-${name}`, true]),
  ),
  "x-nvidia-gpu-attestation-report-cert-chain": goodChain,
  "x-nvidia-gpu-driver-rim-cert-chain": goodChain,
  "x-nvidia-gpu-vbios-rim-cert-chain": goodChain,
});

export interface NrasParts {
  service: NrasService;
  overall: Record<string, unknown>;
  devices: Record<string, Record<string, unknown>>;
}

export function nrasToken(nonce: string, parts: Partial<NrasParts> = {}): NrasToken {
  const { service = nvidiaService(), overall = {}, devices = { "GPU-0": nrasDevice(nonce) } } = parts;
  const tokens = Object.fromEntries(
    Object.entries(devices).map(([name, claims]) => [name, token(nrasHeader(service), claims, es384(service))]),
  );
  const submods = Object.fromEntries(
    Object.entries(tokens).map(([name, text]) => [name, ["DIGEST", ["SHA-256", hash(text, 32).toString("hex")]]]),
  );
  const claims = { ...nrasBase(nonce), "x-nvidia-overall-att-result": true, submods, ...overall };
  return { overall: token(nrasHeader(service), claims, es384(service)), devices: tokens };
}

export const nrasPolicy = (changes: Partial<NrasPolicy> = {}): NrasPolicy => ({
  issuer: NRAS_ISSUER,
  audience: null,
  keys: [nvidiaService().key],
  models: ["GH100 A01 GSP BROM"],
  firmware: [{ driverVersion: "550.90.07", vbiosVersion: "96.00.9F.00.01" }],
  maxAgeSeconds: 600,
  ...changes,
});

// TDX

export interface TdxMaker {
  root: Party;
  platformCa: Party;
  tcbSigner: Party;
  pck: Party;
  answers: { crls: Buffer[]; ocsp: Buffer[] };
}

const SGX = "1.2.840.113741.1.13.1";
export const PPID = hash("ppid", 32).subarray(0, 16);

export interface PlatformParts {
  components: number[];
  pceSvn: number;
  fmspc: string;
  pceId: string;
  ppid: Buffer;
  /** Fields of Intel's extension besides the usual ones. */
  more: Buffer[];
  certificate: Partial<CertificateParts>;
}

export function pckOf(platformCa: Party, parts: Partial<PlatformParts> = {}): Party {
  const {
    components = Array.from({ length: 16 }, () => 3),
    pceSvn = 11,
    fmspc = "b0c06f000000",
    pceId = "0000",
    certificate = {},
  } = parts;
  const { ppid = PPID, more = [] } = parts;
  const item = (id: string, value: Buffer) => sequence(objectId(`${SGX}.${id}`), value);
  const extension = sequence(
    item("1", octets(ppid)),
    item(
      "2",
      sequence(
        ...components.map((svn, index) => item(`2.${index + 1}`, integer(svn))),
        item("2.17", integer(pceSvn)),
        item("2.18", octets(Buffer.from(components))),
      ),
    ),
    item("3", octets(Buffer.from(pceId, "hex"))),
    item("4", octets(Buffer.from(fmspc, "hex"))),
    ...more,
  );
  return certify({ name: "Test PCK", key: "P-256", extensions: [[SGX, false, extension]], ...certificate }, platformCa);
}

export const tdxMaker = lazily((): TdxMaker => {
  const root = certify({ name: "Test SGX Root CA", key: "P-256", ca: true, pathLength: 1 });
  const platformCa = certify({ name: "Test PCK Platform CA", key: "P-256", ca: true, pathLength: 0 }, root);
  const tcbSigner = certify({ name: "Intel SGX TCB Signing", key: "P-256" }, root);
  const crls = [revocationList(root), revocationList(platformCa)];
  return { root, platformCa, tcbSigner, pck: pckOf(platformCa), answers: { crls, ocsp: [] } };
});

export const tdMeasurement = (name: string) => hash(`td ${name}`);

export interface TdParts {
  version: number;
  keyType: number;
  tee: number;
  vendor: Buffer;
  teeTcbSvn: number[];
  mrSignerSeam: Buffer;
  seamAttributes: bigint;
  tdAttributes: bigint;
  mrTd: Buffer;
  mrConfigId: Buffer;
  mrOwner: Buffer;
  mrOwnerConfig: Buffer;
  rtMr: Buffer[];
  mrServiceTd: Buffer;
  enclave: Partial<EnclaveParts>;
  pck: Party;
  chain: string;
  collateral: Partial<CollateralParts> | null;
  /** Changes what follows the quote's body, before its length is written. */
  shape: (signature: Buffer) => Buffer;
}

export interface EnclaveParts {
  mrSigner: Buffer;
  isvProdId: number;
  isvSvn: number;
  attributes: Buffer;
  miscSelect: number;
  /** What the enclave vouches for, in place of the hash of its key. */
  reportData: Buffer;
}

export interface CollateralParts {
  tcbInfo: (info: Record<string, unknown>) => object;
  qeIdentity: (identity: Record<string, unknown>) => object;
  signer: Party;
  issuers: string;
}

const QE_SIGNER = hash("quoting enclave's signer", 32);
const iso = (at: number) => new Date(at * 1_000).toISOString().replace(".000", "");

export function tdxQuote(reportData: Buffer, parts: Partial<TdParts> = {}): TdxQuote {
  const maker = tdxMaker();
  const {
    version = 4,
    keyType = 2,
    tee = 0x81,
    vendor = Buffer.from("939a7233f79c4ca9940a0db3957f0607", "hex"),
  } = parts;
  const {
    teeTcbSvn = [6, 1, 3],
    mrSignerSeam = Buffer.alloc(48),
    seamAttributes = 0n,
    tdAttributes = 1n << 28n,
  } = parts;
  const { mrTd = tdMeasurement("firmware"), rtMr = [0, 1, 2, 3].map((index) => tdMeasurement(`rtmr ${index}`)) } =
    parts;
  const { mrConfigId = Buffer.alloc(48), mrOwner = Buffer.alloc(48), mrOwnerConfig = Buffer.alloc(48) } = parts;
  const {
    pck = maker.pck,
    collateral = {},
    enclave = {},
    mrServiceTd = Buffer.alloc(48),
    shape = (same: Buffer) => same,
  } = parts;
  const { chain = chainOf(pck, maker.platformCa, maker.root) } = parts;
  const report = Buffer.concat([
    Buffer.from([...teeTcbSvn, ...Array.from({ length: 16 - teeTcbSvn.length }, () => 0)]),
    hash("the module"),
    mrSignerSeam,
    u64(seamAttributes),
    u64(tdAttributes),
    u64(0x602e7n),
    mrTd,
    mrConfigId,
    mrOwner,
    mrOwnerConfig,
    ...rtMr,
    reportData,
  ]);
  const body = version === 5 ? Buffer.concat([u16(3), u32(648), report, Buffer.alloc(16), mrServiceTd]) : report;
  const signedPart = Buffer.concat([
    u16(version),
    u16(keyType),
    u32(tee),
    Buffer.alloc(4),
    vendor,
    Buffer.alloc(20),
    body,
  ]);
  const attestation = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { x, y } = attestation.publicKey.export({ format: "jwk" });
  const rawKey = Buffer.concat([Buffer.from(x!, "base64url"), Buffer.from(y!, "base64url")]);
  const enclaveData = randomBytes(32);
  const qe = enclaveReport({
    reportData: Buffer.concat([createHash("sha256").update(rawKey).update(enclaveData).digest(), Buffer.alloc(32)]),
    ...enclave,
  });
  const p1363 = (key: KeyObject, bytes: Buffer) => sign("sha256", bytes, { key, dsaEncoding: "ieee-p1363" });
  const certificates = Buffer.from(chain);
  const certification = Buffer.concat([
    qe,
    p1363(pck.privateKey, qe),
    u16(enclaveData.length),
    enclaveData,
    u16(5),
    u32(certificates.length),
    certificates,
  ]);
  const signature = shape(
    Buffer.concat([
      p1363(attestation.privateKey, signedPart),
      rawKey,
      u16(6),
      u32(certification.length),
      certification,
    ]),
  );
  const quote = Buffer.concat([signedPart, u32(signature.length), signature]);
  return { quote, ...(collateral === null ? {} : { collateral: tdxCollateral(collateral) }) };
}

function enclaveReport(parts: Partial<EnclaveParts>): Buffer {
  const {
    mrSigner = QE_SIGNER,
    isvProdId = 2,
    isvSvn = 6,
    attributes = Buffer.from("1500000000000000e700000000000000", "hex"),
  } = parts;
  const bytes = Buffer.alloc(384);
  bytes.writeUInt32LE(parts.miscSelect ?? 0, 16);
  attributes.copy(bytes, 48);
  mrSigner.copy(bytes, 128);
  bytes.writeUInt16LE(isvProdId, 256);
  bytes.writeUInt16LE(isvSvn, 258);
  parts.reportData?.copy(bytes, 320);
  return bytes;
}

const level = (svns: { sgx: number; tdx: number[]; pce: number }, tcbStatus: string, advisoryIDs?: string[]) => ({
  tcb: {
    sgxtcbcomponents: Array.from({ length: 16 }, () => ({ svn: svns.sgx })),
    pcesvn: svns.pce,
    tdxtcbcomponents: Array.from({ length: 16 }, (_, index) => ({ svn: svns.tdx[index] ?? 0 })),
  },
  tcbDate: iso(NOW - 86_400),
  tcbStatus,
  ...(advisoryIDs ? { advisoryIDs } : {}),
});

export function tdxCollateral(parts: Partial<CollateralParts> = {}): NonNullable<TdxQuote["collateral"]> {
  const maker = tdxMaker();
  const { tcbInfo = (same) => same, qeIdentity = (same) => same, signer = maker.tcbSigner } = parts;
  const { issuers = chainOf(signer, maker.root) } = parts;
  const dates = { issueDate: iso(NOW - 86_400), nextUpdate: iso(NOW + 29 * 86_400), tcbEvaluationDataNumber: 17 };
  const module = { mrsigner: "00".repeat(48), attributes: "0000000000000000", attributesMask: "FFFFFFFFFFFFFFFF" };
  const info = JSON.stringify(
    tcbInfo({
      id: "TDX",
      version: 3,
      ...dates,
      fmspc: "B0C06F000000",
      pceId: "0000",
      tcbType: 0,
      tdxModule: module,
      tdxModuleIdentities: [
        {
          id: "TDX_01",
          ...module,
          tcbLevels: [
            { tcb: { isvsvn: 4 }, tcbStatus: "UpToDate" },
            { tcb: { isvsvn: 2 }, tcbStatus: "OutOfDate" },
          ],
        },
      ],
      tcbLevels: [
        level({ sgx: 3, tdx: [5, 0, 2], pce: 11 }, "UpToDate"),
        level({ sgx: 2, tdx: [5, 0, 2], pce: 5 }, "OutOfDate", ["INTEL-SA-00001"]),
      ],
    }),
  );
  const identity = JSON.stringify(
    qeIdentity({
      id: "TD_QE",
      version: 2,
      ...dates,
      miscselect: "00000000",
      miscselectMask: "FFFFFFFF",
      attributes: "11000000000000000000000000000000",
      attributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
      mrsigner: QE_SIGNER.toString("hex").toUpperCase(),
      isvprodid: 2,
      tcbLevels: [
        { tcb: { isvsvn: 4 }, tcbStatus: "UpToDate" },
        { tcb: { isvsvn: 1 }, tcbStatus: "OutOfDate" },
      ],
    }),
  );
  const by = (text: string) =>
    sign("sha256", Buffer.from(text), { key: signer.privateKey, dsaEncoding: "ieee-p1363" }).toString("hex");
  return {
    tcbInfo: info,
    tcbInfoSignature: by(info),
    tcbInfoIssuers: issuers,
    qeIdentity: identity,
    qeIdentitySignature: by(identity),
    qeIdentityIssuers: issuers,
  };
}

const hexes = (bytes: Buffer) => [bytes.toString("hex")];

export const tdxPolicy = (changes: Partial<TdxPolicy> = {}): TdxPolicy => ({
  roots: [fingerprintOf(tdxMaker().root)],
  distrusted: [],
  revocation: "every",
  statuses: ["UpToDate"],
  minimumEvaluation: 17,
  programs: [
    {
      name: "gateway 1.0 on TDX",
      mrTd: hexes(tdMeasurement("firmware")),
      rtMr: [
        hexes(tdMeasurement("rtmr 0")),
        hexes(tdMeasurement("rtmr 1")),
        hexes(tdMeasurement("rtmr 2")),
        hexes(tdMeasurement("rtmr 3")),
      ],
    },
  ],
  ...changes,
});

// SEV-SNP

export interface SnpMaker {
  ark: Party;
  ask: Party;
  vcek: Party;
}

export const CHIP_ID = Buffer.concat([hash("chip"), hash("chip", 32).subarray(0, 16)]);
const TCB = { bootloader: 3, tee: 0, snp: 22, microcode: 213 };
const AMD = "1.3.6.1.4.1.3704.1";

export interface ChipParts {
  chipId: Buffer;
  tcb: typeof TCB;
  certificate: Partial<CertificateParts>;
}

export function vcekOf(ask: Party, parts: Partial<ChipParts> = {}): Party {
  const { chipId = CHIP_ID, tcb = TCB, certificate = {} } = parts;
  return certify(
    {
      name: "SEV-VCEK",
      keyUsage: null,
      serial: 0n,
      extensions: [
        [`${AMD}.3.1`, false, integer(tcb.bootloader)],
        [`${AMD}.3.2`, false, integer(tcb.tee)],
        [`${AMD}.3.3`, false, integer(tcb.snp)],
        [`${AMD}.3.8`, false, integer(tcb.microcode)],
        [`${AMD}.4`, false, chipId],
      ],
      ...certificate,
    },
    ask,
  );
}

export const snpMaker = lazily((): SnpMaker => {
  const ark = certify({ name: "ARK-Test", key: "RSA", ca: true });
  const ask = certify({ name: "SEV-Test", key: "RSA", ca: true, pathLength: 0 }, ark);
  return { ark, ask, vcek: vcekOf(ask) };
});

export const SNP_MEASUREMENT = hash("snp guest");

export interface SnpParts {
  version: number;
  policy: bigint;
  vmpl: number;
  algorithm: number;
  keys: number;
  family: number;
  measurement: Buffer;
  hostData: Buffer;
  tcb: typeof TCB;
  chipId: Buffer;
  vcek: Party;
  chain: string;
  /** Changes the report before it is signed. */
  shape: (report: Buffer) => void;
}

export function snpReport(reportData: Buffer, parts: Partial<SnpParts> = {}): SnpReport {
  const maker = snpMaker();
  const {
    version = 3,
    policy = 0x30000n,
    vmpl = 0,
    algorithm = 1,
    keys = 0,
    family = 0x19,
    tcb = TCB,
    chipId = CHIP_ID,
  } = parts;
  const { measurement = SNP_MEASUREMENT, hostData = Buffer.alloc(32), vcek = maker.vcek, shape = () => {} } = parts;
  const report = Buffer.alloc(1184);
  report.writeUInt32LE(version, 0);
  report.writeBigUInt64LE(policy, 8);
  report.writeUInt32LE(vmpl, 0x30);
  report.writeUInt32LE(algorithm, 0x34);
  report.writeUInt32LE(keys, 0x48);
  reportData.copy(report, 0x50);
  measurement.copy(report, 0x90);
  hostData.copy(report, 0xc0);
  const versions = Buffer.from([tcb.bootloader, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.microcode]);
  for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) versions.copy(report, at);
  if (version !== 2) report[0x188] = family;
  chipId.copy(report, 0x1a0);
  shape(report);
  const signature = sign("sha384", report.subarray(0, 0x2a0), { key: vcek.privateKey, dsaEncoding: "ieee-p1363" });
  Buffer.from(signature.subarray(0, 48)).reverse().copy(report, 0x2a0);
  Buffer.from(signature.subarray(48))
    .reverse()
    .copy(report, 0x2a0 + 72);
  return { report, certificates: parts.chain ?? chainOf(vcek, maker.ask, maker.ark) };
}

export const snpPolicy = (changes: Partial<SnpPolicy> = {}): SnpPolicy => ({
  roots: [fingerprintOf(snpMaker().ark)],
  distrusted: [],
  revocation: "none",
  programs: [
    {
      name: "gateway 1.0 on SNP",
      measurement: SNP_MEASUREMENT.toString("hex"),
      minimumTcb: { bootloader: 3, tee: 0, snp: 22, microcode: 213 },
    },
  ],
  ...changes,
});

/** The verdict's reason, where it isn't a pass. */
export function reasonAgainst(
  { result, reason, claims }: { result: string; reason: string; claims: unknown },
  expected: "fail" | "unknown",
): string {
  if (result !== expected || claims !== null) throw new Error(`expected ${expected}, got ${result}: ${reason}`);
  return reason;
}

/** A copy of a JSON object with another value at a path such as `gpus.0.report`; undefined leaves it out. */
export function withValue(json: object, path: string, value: unknown): object {
  const copy = structuredClone(json);
  const names = path.split(".");
  const last = names.pop()!;
  const holder = names.reduce(
    (holder, name) => holder[name] as Record<string, unknown>,
    copy as Record<string, unknown>,
  );
  if (value === undefined) delete holder[last];
  else holder[last] = value;
  return copy;
}
