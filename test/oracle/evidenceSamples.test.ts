import { expect } from "chai";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pemOf } from "../../oracle/evidence/certificates";
import { type GpuPolicy, gpuReportOf, verifyGpuReport } from "../../oracle/evidence/gpuReport";
import { type NrasPolicy, nrasTokenOf, verifyNrasToken } from "../../oracle/evidence/nras";
import { ROOTS } from "../../oracle/evidence/roots";
import { type SnpPolicy, snpReportOf, verifySnpReport } from "../../oracle/evidence/snp";
import { type TdxPolicy, tdxQuoteOf, trimmedTdxQuote, verifyTdxQuote } from "../../oracle/evidence/tdx";
import type { Verdict } from "../../oracle/evidence/verdict";
import { nrasService } from "../support/evidence";

const REPOSITORY = resolve(__dirname, "../..");
const SAMPLES = process.env.LICET_EVIDENCE_SAMPLES ?? join(REPOSITORY, "../shared/samples/evidence");
const NOTHING = { crls: [], ocsp: [] };

const sample = (name: string) => readFileSync(join(SAMPLES, name));
const json = (name: string) => JSON.parse(sample(name).toString());
const hex = (bytes: Buffer) => bytes.toString("hex");

function expectVerdict(verdict: Verdict<unknown>, result: string, reason: RegExp) {
  expect(verdict.reason).to.match(reason);
  expect(verdict.result).to.equal(result);
}

/** What real hardware and real services signed, at the time they did, and what is wrong with it today. */
describe("evidence of real hardware", () => {
  before(function () {
    if (existsSync(SAMPLES)) return;
    console.log(`      no samples in ${SAMPLES}: set LICET_EVIDENCE_SAMPLES to a folder that has them`);
    this.skip();
  });

  describe("a Hopper GPU's report", () => {
    const at = Date.UTC(2025, 0, 1) / 1_000;
    let report: Buffer;
    let certificates: string;
    let policy: GpuPolicy;

    before(() => {
      const [evidence] = json("hopper_evidence.json");
      report = Buffer.from(evidence.evidence, "base64");
      certificates = Buffer.from(evidence.certificate, "base64").toString();
      policy = policyFor(report);
    });

    /** Allows exactly what this report measures. */
    const policyFor = (bytes: Buffer): GpuPolicy => {
      const { driverVersion, vbiosVersion, measurements } = gpuReportOf(bytes);
      const values = Object.fromEntries([...measurements].map(([index, value]) => [index, [value]]));
      const firmware = [
        { name: "sample", model: "GH100 A01 GSP FMC LF", driverVersion, vbiosVersion, measurements: values },
      ];
      return { roots: [ROOTS.nvidia], distrusted: [], revocation: "none", firmware };
    };

    const nonceOf = (bytes: Buffer) => `0x${hex(gpuReportOf(bytes).nonce)}`;
    const question = () => ({ nonce: nonceOf(report), at, answers: NOTHING });

    it("passes with NVIDIA's root, its own nonce and its own measurements", async () => {
      const { claims, reason } = await verifyGpuReport({ report, certificates }, policy, question());
      expect(reason).to.contain("GH100");
      expect(claims).to.deep.include({ driverVersion: "590.12", vbiosVersion: "96.00.A5.00.01", firmware: "sample" });
      expect(claims?.devices[1]).to.equal("nvidia-ueid:655333107904478077882826344426270545524203067314");
    });

    it("passes with an older driver, which reports no firmware id", async () => {
      const older = Buffer.from(sample("hopperAttestationReport.hex.txt").toString().trim(), "hex");
      const chain = sample("hopperCertChain.b64.txt").toString();
      const asked = { nonce: nonceOf(older), at, answers: NOTHING };
      const { claims, reason } = await verifyGpuReport({ report: older, certificates: chain }, policyFor(older), asked);
      expect(claims, reason).to.deep.include({ driverVersion: "535.86.09", vbiosVersion: "96.00.5E.00.01" });
    });

    it("fails with the chain of another GPU", async () => {
      const other = sample("hopperCertChain.b64.txt").toString();
      expectVerdict(
        await verifyGpuReport({ report, certificates: other }, policy, question()),
        "fail",
        /isn't signed by/,
      );
    });

    it("fails with another nonce, and with other firmware", async () => {
      const asked = { ...question(), nonce: `0x${"00".repeat(32)}` };
      expectVerdict(
        await verifyGpuReport({ report, certificates }, policy, asked),
        "fail",
        /was made for something else/,
      );
      const firmware = [{ ...policy.firmware[0], driverVersion: "570.1" }];
      expectVerdict(
        await verifyGpuReport({ report, certificates }, { ...policy, firmware }, question()),
        "fail",
        /allow-list/,
      );
    });

    it("is unknown where its issuers must be known not to be revoked", async () => {
      const strict: GpuPolicy = { ...policy, revocation: "issuers" };
      expectVerdict(
        await verifyGpuReport({ report, certificates }, strict, question()),
        "unknown",
        /GH100 A01 GSP BROM .* is open/,
      );
    });

    it("fails with each byte of it that a step of 97 meets changed", async () => {
      for (let index = 0; index < report.length; index += 97) {
        const changed = Buffer.from(report);
        changed[index] ^= 0x10;
        const { result } = await verifyGpuReport({ report: changed, certificates }, policy, question());
        expect(result, `byte ${index}`).to.equal("fail");
      }
    });
  });

  describe("a TDX quote", () => {
    let quote: Buffer;
    let collateral: Record<string, string>;
    let policy: TdxPolicy;
    let issued: number;

    before(() => {
      quote = trimmedTdxQuote(sample("tdx_quote"));
      collateral = json("tdx_quote_collateral.json");
      issued = Date.parse(JSON.parse(collateral.tcb_info).issueDate) / 1_000;
      const { body } = tdxQuoteOf(quote);
      const [rtMr0, rtMr1, rtMr2, rtMr3] = body.rtMr.map((value) => [hex(value)]);
      policy = {
        roots: [ROOTS.intel],
        distrusted: [],
        revocation: "every",
        statuses: ["UpToDate"],
        minimumEvaluation: 17,
        programs: [{ name: "sample", mrTd: [hex(body.mrTd)], rtMr: [rtMr0, rtMr1, rtMr2, rtMr3] }],
      };
    });

    const evidence = () => ({
      quote,
      collateral: {
        tcbInfo: collateral.tcb_info,
        tcbInfoSignature: collateral.tcb_info_signature,
        tcbInfoIssuers: collateral.tcb_info_issuer_chain,
        qeIdentity: collateral.qe_identity,
        qeIdentitySignature: collateral.qe_identity_signature,
        qeIdentityIssuers: collateral.qe_identity_issuer_chain,
      },
    });

    const question = (at = issued + 3_600) => ({
      reportData: tdxQuoteOf(quote).body.reportData,
      at,
      answers: { crls: [collateral.root_ca_crl, collateral.pck_crl].map((der) => Buffer.from(der, "hex")), ocsp: [] },
    });

    it("passes at its time, with every certificate covered by Intel's revocation lists", async () => {
      const { claims, reason } = await verifyTdxQuote(evidence(), policy, question());
      expect(reason).to.contain("genuine Intel platform");
      expect(claims).to.deep.include({
        statuses: ["UpToDate", "UpToDate", "UpToDate"],
        advisories: [],
        revocationCovered: 2,
      });
    });

    it("fails a month later, when what Intel said has expired", async () => {
      expectVerdict(await verifyTdxQuote(evidence(), policy, question(issued + 31 * 86_400)), "fail", /Fetch it anew/);
    });

    it("fails with another seed's report data", async () => {
      const asked = { ...question(), reportData: Buffer.alloc(64) };
      expectVerdict(await verifyTdxQuote(evidence(), policy, asked), "fail", /report data 9a9d48e7/);
    });

    it("is unknown without Intel's revocation lists", async () => {
      const asked = { ...question(), answers: NOTHING };
      expectVerdict(await verifyTdxQuote(evidence(), policy, asked), "unknown", /is open/);
    });

    it("fails with the zeros that the platform filled it up with", async () => {
      const filled = { ...evidence(), quote: sample("tdx_quote") };
      expectVerdict(await verifyTdxQuote(filled, policy, question()), "fail", /70 more follow/);
    });

    it("is unknown without collateral, of a second platform", async () => {
      const other = trimmedTdxQuote(
        Buffer.from(json("dstack.json").SAMPLE_DSTACK_QUOTE.quote.replace(/^0x/, ""), "hex"),
      );
      const { body } = tdxQuoteOf(other);
      const [rtMr0, rtMr1, rtMr2, rtMr3] = body.rtMr.map((value) => [hex(value)]);
      const programs = [
        {
          name: "dstack",
          mrTd: [hex(body.mrTd)],
          rtMr: [rtMr0, rtMr1, rtMr2, rtMr3] as const,
          mrConfigId: hex(body.mrConfigId),
        },
      ];
      const asked = { ...question(), reportData: body.reportData };
      const verdict = await verifyTdxQuote({ quote: other }, { ...policy, programs }, asked);
      expectVerdict(verdict, "unknown", /comes without what Intel says/);
    });
  });

  describe("an SEV-SNP report", () => {
    const at = Date.UTC(2024, 0, 1) / 1_000;
    let report: Buffer;
    let certificates: string;
    let policy: SnpPolicy;

    before(() => {
      report = sample("snp_report.bin");
      certificates = pemOf([sample("snp_vcek.der")]) + sample("snp_ask_ark_milan.pem").toString();
      const minimumTcb = { bootloader: 0, tee: 0, snp: 0, microcode: 0 };
      const program = { name: "sample", measurement: hex(snpReportOf(report).measurement), minimumTcb };
      policy = { roots: [ROOTS.amdMilan], distrusted: [], revocation: "none", programs: [program] };
    });

    const question = (when = at) => ({ reportData: snpReportOf(report).reportData, at: when, answers: NOTHING });

    it("holds by its signature, its chain and its chip, and fails since its host may debug the guest", async () => {
      const verdict = await verifySnpReport({ report, certificates }, policy, question());
      expectVerdict(verdict, "fail", /may debug.*0xb0000, bit 19/);
    });

    it("fails with its debug bit cleared by hand, since AMD's chip didn't sign that", async () => {
      const cleared = Buffer.from(report);
      cleared.writeBigUInt64LE(0x30000n, 8);
      expectVerdict(
        await verifySnpReport({ report: cleared, certificates }, policy, question()),
        "fail",
        /isn't signed by SEV-VCEK/,
      );
    });

    it("fails once its chip's certificate has expired", async () => {
      const verdict = await verifySnpReport({ report, certificates }, policy, question(Date.UTC(2030, 0, 1) / 1_000));
      expectVerdict(verdict, "fail", /SEV-VCEK expired at 2029-09-24/);
    });

    it("fails under Intel's root", async () => {
      const verdict = await verifySnpReport({ report, certificates }, { ...policy, roots: [ROOTS.intel] }, question());
      expectVerdict(verdict, "fail", /ARK-Milan .* isn't a trusted root/);
    });
  });

  describe("a token of NVIDIA's service", () => {
    const at = 1_749_601_900;
    const nonce = "0x931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";

    const policy = (keys: NrasPolicy["keys"]): NrasPolicy => ({
      issuer: "https://nras.attestation.nvidia.com",
      audience: null,
      keys,
      models: ["GH100 A01 GSP BROM"],
      firmware: [{ driverVersion: "550.90.07", vbiosVersion: "96.00.9F.00.01" }],
      maxAgeSeconds: 600,
    });

    const read = () => nrasTokenOf(json("nras_hopper_v3_detached_eat.json"));

    it("is unknown without the key set of its day", async () => {
      const verdict = await verifyNrasToken(read(), policy([nrasService().key]), { nonce, at });
      expectVerdict(verdict, "unknown", /nv-eat-kid-prod-20250609/);
    });

    it("fails with another key under that key's id", async () => {
      const { kid } = JSON.parse(Buffer.from(read().overall.split(".")[0], "base64url").toString());
      const verdict = await verifyNrasToken(read(), policy([nrasService("P-384", kid).key]), { nonce, at });
      expectVerdict(verdict, "fail", /isn't signed by the key/);
    });
  });
});
