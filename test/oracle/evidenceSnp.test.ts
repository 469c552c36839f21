import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { type SnpPolicy, type SnpProgram, type SnpQuestion, verifySnpReport } from "../../oracle/evidence/snp";
import { certify, type Party, revocationList } from "../support/der";
import {
  chainOf,
  CHIP_ID,
  fingerprintOf,
  NOW,
  reasonAgainst,
  snpMaker,
  type SnpParts,
  snpPolicy,
  snpReport,
  SNP_MEASUREMENT,
  vcekOf,
} from "../support/evidence";

describe("the verifier of SEV-SNP reports", function () {
  // Keys of RSA take seconds to make.
  this.timeout(60_000);

  const reportData = randomBytes(64);
  const question: SnpQuestion = { reportData, at: NOW, answers: { crls: [], ocsp: [] } };
  let maker: ReturnType<typeof snpMaker>;

  before(() => {
    maker = snpMaker();
  });

  const verdictOn = (parts: Partial<SnpParts> = {}, policy: Partial<SnpPolicy> = {}, asked = question) =>
    verifySnpReport(snpReport(reportData, parts), snpPolicy(policy), asked);
  const refusal = async (parts: Partial<SnpParts>, policy: Partial<SnpPolicy> = {}, asked = question) =>
    reasonAgainst(await verdictOn(parts, policy, asked), "fail");

  it("passes a genuine report of each version that it knows, and says of which chip and program", async () => {
    for (const version of [2, 3, 5]) {
      const { reason, claims } = await verdictOn({ version });
      expect(claims, reason).to.deep.equal({
        kind: "snp",
        devices: [`amd-chip:${CHIP_ID.toString("hex")}`],
        program: "gateway 1.0 on SNP",
        measurement: SNP_MEASUREMENT.toString("hex"),
        tcb: { bootloader: 3, tee: 0, snp: 22, microcode: 213 },
        revocationCovered: 0,
      });
    }
  });

  it("fails for every byte of it changed", async () => {
    const evidence = snpReport(reportData);
    for (let index = 0; index < evidence.report.length; index++) {
      const report = Buffer.from(evidence.report);
      report[index] ^= 1 << (index % 8);
      expect((await verifySnpReport({ ...evidence, report }, snpPolicy(), question)).result, `byte ${index}`).to.equal(
        "fail",
      );
    }
  });

  it("fails when cut short, or with something behind it", async () => {
    const evidence = snpReport(reportData);
    for (let length = 0; length < 1184; length += 37) {
      const verdict = await verifySnpReport(
        { ...evidence, report: evidence.report.subarray(0, length) },
        snpPolicy(),
        question,
      );
      expect(reasonAgainst(verdict, "fail")).to.match(/cut short|version 0/);
    }
    const longer = { ...evidence, report: Buffer.concat([evidence.report, Buffer.from([0])]) };
    expect(reasonAgainst(await verifySnpReport(longer, snpPolicy(), question), "fail")).to.match(/1 more follow/);
  });

  it("fails with another seed's report data, in its first half or its second", async () => {
    for (const index of [0, 63]) {
      const other = Buffer.from(reportData);
      other[index] ^= 1;
      expect(await refusal({}, {}, { ...question, reportData: other })).to.match(
        /this seed asks for .*Have the guest report again/,
      );
    }
  });

  describe("when its chip, or the chip's certificate, isn't good", () => {
    const withVcek = (vcek: Party): Partial<SnpParts> => ({ vcek });

    it("fails under another root, and with a chain that isn't whole", async () => {
      expect(await refusal({}, { roots: ["cd".repeat(32)] })).to.match(/ARK-Test .* isn't a trusted root/);
      expect(await refusal({ chain: chainOf(maker.vcek, maker.ask) })).to.match(/SEV-Test .* isn't a trusted root/);
    });

    it("fails with a chip's certificate that AMD's key didn't issue", async () => {
      const impostor = certify({ name: "SEV-Test", keys: maker.ark, ca: true });
      expect(await refusal(withVcek(vcekOf(impostor)))).to.match(/didn't sign SEV-VCEK/);
      expect(await refusal({ vcek: vcekOf(impostor), chain: chainOf(maker.vcek, maker.ask, maker.ark) })).to.match(
        /isn't signed by SEV-VCEK/,
      );
    });

    it("fails with an expired certificate, and with one that isn't valid yet", async () => {
      expect(await refusal(withVcek(vcekOf(maker.ask, { certificate: { notAfter: NOW - 1 } })))).to.match(
        /SEV-VCEK expired/,
      );
      expect(await refusal(withVcek(vcekOf(maker.ask, { certificate: { notBefore: NOW + 1 } })))).to.match(
        /isn't valid before/,
      );
    });

    it("fails with the certificate of another chip, of other security versions, or of none", async () => {
      expect(await refusal(withVcek(vcekOf(maker.ask, { chipId: Buffer.alloc(64, 9) })))).to.match(
        /and the certificate of 0909/,
      );
      for (const part of ["bootloader", "tee", "snp", "microcode"] as const) {
        const tcb = { bootloader: 3, tee: 0, snp: 22, microcode: 213, [part]: 99 };
        expect(await refusal(withVcek(vcekOf(maker.ask, { tcb })))).to.match(
          new RegExp(`security version of ${part} is 99, and the report says`),
        );
      }
      expect(await refusal(withVcek(vcekOf(maker.ask, { certificate: { extensions: [] } })))).to.match(
        /and the certificate of none/,
      );
    });

    it("fails where AMD revoked its signing key, and is unknown where that is open and must not be", async () => {
      const { ark, ask } = maker;
      const revoked = { crls: [revocationList(ark, { revoked: [ask.serial] })], ocsp: [] };
      expect(await refusal({}, {}, { ...question, answers: revoked })).to.match(/ARK-Test has revoked SEV-Test/);
      const open = await verdictOn({}, { revocation: "issuers" });
      expect(reasonAgainst(open, "unknown")).to.match(/SEV-Test .* is open/);
      const { claims } = await verdictOn(
        {},
        { revocation: "issuers" },
        { ...question, answers: { crls: [revocationList(ark)], ocsp: [] } },
      );
      expect(claims?.revocationCovered).to.equal(1);
    });

    it("fails where the policy distrusts a certificate", async () => {
      expect(await refusal({}, { distrusted: [fingerprintOf(maker.vcek)] })).to.match(/aren't trusted any/);
    });
  });

  describe("when a genuine chip signed what isn't acceptable", () => {
    const shaped: [what: string, parts: Partial<SnpParts>, reason: RegExp][] = [
      ["a version that it doesn't know", { version: 4 }, /version 4; versions 2, 3, 5/],
      ["a guest that its host may debug", { policy: 0xb0000n }, /may debug.*bit 19/],
      ["a guest that may be moved", { policy: 0x70000n }, /may be moved.*bit 18/],
      ["a policy without the bit that is always one", { policy: 0x10000n }, /policy that this verifier doesn't know/],
      ["a policy of a later version", { policy: 0x30000n | (1n << 26n) }, /policy that this verifier doesn't know/],
      ["another signature algorithm", { algorithm: 2 }, /signature algorithm 2/],
      ["a loaded key", { keys: 0x4 }, /isn't signed by the chip's own key/],
      ["a masked key", { keys: 0x2 }, /isn't signed by the chip's own key/],
      ["a masked chip", { chipId: Buffer.alloc(64) }, /doesn't name its chip/],
      ["a later family of chips", { family: 0x1a }, /family 1ah/],
      [
        "something in a reserved field",
        { shape: (report) => report.fill(1, 0x4c, 0x4d) },
        /reserved field \(bytes 76 to 79\)/,
      ],
      ["something behind the chip's model", { shape: (report) => report.fill(1, 0x19f, 0x1a0) }, /reserved field/],
      ["something before the signature", { shape: (report) => report.fill(1, 0x29f, 0x2a0) }, /reserved field/],
      ["mitigations in a version that has none", { shape: (report) => report.fill(1, 0x1f8, 0x1f9) }, /reserved field/],
    ];
    for (const [what, parts, reason] of shaped) {
      it(`fails with ${what}`, async () => {
        expect(await refusal(parts)).to.match(reason);
      });
    }
  });

  describe("when its program isn't on the allow-list", () => {
    const program = (changes: Partial<SnpProgram>): Partial<SnpPolicy> => ({
      programs: [{ ...snpPolicy().programs[0], ...changes }],
    });

    it("fails with another measurement, host data, or privilege level", async () => {
      expect(await refusal({ measurement: Buffer.alloc(48, 1) })).to.match(
        /it measures 0101.*, and "gateway 1\.0 on SNP"/,
      );
      expect(await refusal({ hostData: Buffer.alloc(32, 2) })).to.match(/its host data is 0202.*, and that of/);
      expect(await refusal({ vmpl: 1 })).to.match(/comes from privilege level 1, and .* reports from 0/);
      expect(await refusal({ vmpl: 0xffffffff })).to.match(/privilege level 4294967295/);
    });

    it("passes with host data and a privilege level that the list asks for", async () => {
      const hostData = Buffer.alloc(32, 2);
      const verdict = await verdictOn({ hostData, vmpl: 2 }, program({ hostData: hostData.toString("hex"), vmpl: 2 }));
      expect(verdict.result, verdict.reason).to.equal("pass");
    });

    it("fails with any part of the firmware older than the list asks for", async () => {
      const { minimumTcb } = snpPolicy().programs[0];
      for (const part of ["bootloader", "tee", "snp", "microcode"] as const) {
        const newer = { ...minimumTcb, [part]: minimumTcb[part] + 1 };
        expect(await refusal({}, program({ minimumTcb: newer }))).to.match(
          new RegExp(`its ${part} has security version ${minimumTcb[part]}`),
        );
        expect(await refusal({}, program({ minimumTcb: { ...minimumTcb, [part]: NaN } }))).to.match(/needs NaN/);
      }
    });

    it("is unknown where the list is empty", async () => {
      expect(reasonAgainst(await verdictOn({}, { programs: [] }), "unknown")).to.match(/allows no SEV-SNP program yet/);
    });
  });
});
