import { expect } from "chai";
import { ConfigError } from "../../oracle/configSection";
import { evidencePolicyOf } from "../../oracle/evidence/policy";
import { ROOTS } from "../../oracle/evidence/roots";
import { withValue } from "../support/evidence";

const HASH = "ab".repeat(48);
const MEASUREMENT = { index: 1, values: [HASH.toUpperCase(), `0x${HASH}`] };
const NRAS_KEY = { kid: "key-1", kty: "EC", crv: "P-384", x: "x", y: "y" };

const file = () => ({
  maxAgeSeconds: 300,
  validForSeconds: 86_400,
  exclusiveCpus: false,
  gpu: {
    roots: ["10:2B:F6:59:D5:41:96:14:C9:D8:E6:AE:CE:BC:80:45:4E:B2:6B:1D:F6:A7:69:AC:72:0B:9A:69:0B:16:7B:48"],
    firmware: [
      {
        name: "H100",
        model: "GH100 A01 GSP FMC LF",
        driverVersion: "550.90.07",
        vbiosVersion: "96.00.9F.00.01",
        measurements: [MEASUREMENT],
      },
    ],
  },
  nras: {
    issuer: "https://nras.attestation.nvidia.com",
    maxAgeSeconds: 600,
    models: ["GH100 A01 GSP BROM"],
    keys: [NRAS_KEY],
    firmware: [{ driverVersion: "550.90.07", vbiosVersion: "96.00.9F.00.01" }],
  },
  tdx: {
    roots: [ROOTS.intel],
    distrusted: ["ab".repeat(32)],
    revocation: "issuers",
    minimumEvaluation: 17,
    programs: [
      { name: "gateway", mrTd: [HASH], rtMr0: [HASH], rtMr1: [HASH], rtMr2: [HASH], rtMr3: [HASH], mrConfigId: HASH },
    ],
  },
  snp: {
    roots: [ROOTS.amdMilan],
    programs: [
      {
        name: "gateway",
        measurement: HASH,
        minimumBootloader: 3,
        minimumTee: 0,
        minimumSnp: 8,
        minimumMicrocode: 115,
        hostData: "cd".repeat(32),
      },
    ],
  },
});

describe("evidencePolicyOf", () => {
  it("reads a policy, and demands revocation answers where its makers give some", () => {
    expect(evidencePolicyOf(JSON.stringify(file()))).to.deep.equal({
      maxAgeSeconds: 300,
      validForSeconds: 86_400,
      exclusiveCpus: false,
      gpu: {
        roots: [ROOTS.nvidia],
        distrusted: [],
        revocation: "issuers",
        firmware: [
          {
            name: "H100",
            model: "GH100 A01 GSP FMC LF",
            driverVersion: "550.90.07",
            vbiosVersion: "96.00.9F.00.01",
            measurements: { 1: [HASH, HASH] },
          },
        ],
      },
      nras: { ...file().nras, audience: null },
      tdx: {
        roots: [ROOTS.intel],
        distrusted: ["ab".repeat(32)],
        revocation: "issuers",
        statuses: ["UpToDate"],
        minimumEvaluation: 17,
        programs: [
          {
            name: "gateway",
            mrTd: [HASH],
            rtMr: [[HASH], [HASH], [HASH], [HASH]],
            mrConfigId: HASH,
            mrOwner: undefined,
            mrOwnerConfig: undefined,
          },
        ],
      },
      snp: {
        roots: [ROOTS.amdMilan],
        distrusted: [],
        revocation: "issuers",
        programs: [
          {
            name: "gateway",
            measurement: HASH,
            hostData: "cd".repeat(32),
            vmpl: 0,
            minimumTcb: { bootloader: 3, tee: 0, snp: 8, microcode: 115 },
          },
        ],
      },
    });
    expect(
      evidencePolicyOf(JSON.stringify({ ...file(), tdx: { ...file().tdx, revocation: undefined } })).tdx?.revocation,
    ).to.equal("every");
  });

  it("accepts no kind of evidence that it has no section for", () => {
    const { maxAgeSeconds, validForSeconds, exclusiveCpus } = file();
    expect(evidencePolicyOf(JSON.stringify({ maxAgeSeconds, validForSeconds, exclusiveCpus }))).to.deep.equal({
      maxAgeSeconds,
      validForSeconds,
      exclusiveCpus,
      gpu: undefined,
      nras: undefined,
      tdx: undefined,
      snp: undefined,
    });
  });

  const refusals: [what: string, path: string, value: unknown, reason: RegExp][] = [
    ["no age", "maxAgeSeconds", undefined, /maxAgeSeconds is missing/],
    ["an age beyond an hour", "maxAgeSeconds", 3_601, /maxAgeSeconds must be a whole number from 1 to 3600/],
    ["CPUs neither exclusive nor not", "exclusiveCpus", "no", /exclusiveCpus must be true or false; it is "no"/],
    ["no roots", "gpu.roots", [], /gpu\.roots must be a list of at least one text/],
    ["roots that are no texts", "gpu.roots", [5], /gpu\.roots must be a list of at least one text/],
    ["a fingerprint by SHA-1", "gpu.roots", ["ab".repeat(20)], /roots must be 32 bytes of hex/],
    ["distrust that is no list", "tdx.distrusted", "all", /tdx\.distrusted must be a list of texts/],
    ["a demand that it doesn't know", "tdx.revocation", "soft", /tdx\.revocation must be one of every, issuers, none/],
    ["no firmware", "gpu.firmware", [], /gpu\.firmware must be a list of at least one/],
    ["firmware without measurements", "gpu.firmware.0.measurements", [], /measurements must be a list of at least one/],
    ["a measurement's index twice", "gpu.firmware.0.measurements", [MEASUREMENT, MEASUREMENT], /index 1 twice/],
    [
      "a measurement cut short",
      "gpu.firmware.0.measurements.0.values",
      ["ab"],
      /values must be 48 bytes of hex; "ab" isn't/,
    ],
    ["a key twice", "nras.keys", [NRAS_KEY, NRAS_KEY], /kid "key-1" twice/],
    ["a program without RTMR 0", "tdx.programs.0.rtMr0", undefined, /rtMr0 is missing/],
    ["a program's host data cut short", "snp.programs.0.hostData", "00", /hostData must be 32 bytes of hex/],
    ["no minimum", "snp.programs.0.minimumSnp", undefined, /minimumSnp is missing/],
    ["a misspelt setting", "tdx.programs.0.mrtd", [], /mrtd is no setting/],
    ["a misspelt section", "sgx", {}, /sgx is no setting/],
  ];
  for (const [what, path, value, reason] of refusals) {
    it(`refuses ${what}`, () => {
      expect(() => evidencePolicyOf(JSON.stringify(withValue(file(), path, value)))).to.throw(ConfigError, reason);
    });
  }

  it("refuses what is no JSON", () => {
    expect(() => evidencePolicyOf("{")).to.throw(ConfigError, /evidence policy is no JSON/);
  });
});
