import { expect } from "chai";
import { hexlify, randomBytes } from "ethers";
import { generateKeyPairSync } from "node:crypto";
import { type GpuQuestion, gpuReportOf, verifyGpuReport } from "../../oracle/evidence/gpuReport";
import { certify, ocspAnswer, revocationList } from "../support/der";
import {
  chainOf,
  field,
  fingerprintOf,
  firmwareExtension,
  FIRMWARE_ID,
  type Gpu,
  gpuMaker,
  gpuPolicy,
  gpuReport,
  type GpuReportParts,
  MEASUREMENTS,
  newGpu,
  NOW,
  reasonAgainst,
  signedGpuReport,
} from "../support/evidence";

describe("the verifier of GPU reports", () => {
  const nonce = hexlify(randomBytes(32));
  const question: GpuQuestion = { nonce, at: NOW, answers: { crls: [], ocsp: [] } };
  let gpu: Gpu;

  before(() => {
    gpu = newGpu();
  });

  const verdictOn = (parts: Partial<GpuReportParts> = {}, from = gpu) =>
    verifyGpuReport(gpuReport(from, nonce, parts), gpuPolicy(), question);
  const refusal = async (parts: Partial<GpuReportParts>, from = gpu) =>
    reasonAgainst(await verdictOn(parts, from), "fail");
  const unsigned = () => gpuReport(gpu, nonce).report.subarray(0, -96);

  it("passes a genuine report, and says whose it is", async () => {
    const { result, reason, claims } = await verdictOn();
    expect(result, reason).to.equal("pass");
    expect(claims).to.deep.include({
      kind: "nvidia-report",
      model: "GH100 FMC LF",
      driverVersion: "550.90.07",
      vbiosVersion: "96.00.9F.00.01",
      firmware: "550.90.07 on H100",
      revocationCovered: 0,
    });
    expect(claims!.devices).to.have.length(2);
    expect(claims!.devices[0]).to.match(/^nvidia-key:[0-9a-f]{64}$/);
    expect(claims!.devices[1]).to.equal(`nvidia-ueid:${gpu.leaf.serial}`);
  });

  it("names a GPU by its own key, whatever its firmware's key is", async () => {
    const { root, identity, provisioner } = gpuMaker();
    const updated = certify({ name: "GH100 FMC LF", extensions: [firmwareExtension(FIRMWARE_ID)] }, gpu.device);
    const again: Gpu = {
      device: gpu.device,
      leaf: updated,
      chain: chainOf(updated, gpu.device, provisioner, identity, root),
    };
    const [first, second, other] = await Promise.all([verdictOn(), verdictOn({}, again), verdictOn({}, newGpu())]);
    expect(second.claims!.devices[0]).to.equal(first.claims!.devices[0]);
    expect(second.claims!.devices[1]).to.not.equal(first.claims!.devices[1]);
    expect(other.claims!.devices[0]).to.not.equal(first.claims!.devices[0]);
  });

  describe("when a byte was changed", () => {
    it("fails for every one of them", async () => {
      const { report, certificates } = gpuReport(gpu, nonce);
      for (let index = 0; index < report.length; index++) {
        const changed = Buffer.from(report);
        changed[index] ^= 1 << (index % 8);
        const { result } = await verifyGpuReport({ report: changed, certificates }, gpuPolicy(), question);
        expect(result, `byte ${index}`).to.equal("fail");
      }
    });
  });

  describe("when it was made for something else", () => {
    it("fails with the nonce of another seed", async () => {
      const verdict = await verifyGpuReport(gpuReport(gpu, hexlify(randomBytes(32))), gpuPolicy(), question);
      expect(reasonAgainst(verdict, "fail")).to.match(/Ask the GPU again, with the nonce of this seed/);
    });

    it("fails with the certificates of another GPU", async () => {
      const evidence = { ...gpuReport(gpu, nonce), certificates: newGpu().chain };
      expect(reasonAgainst(await verifyGpuReport(evidence, gpuPolicy(), question), "fail")).to.match(
        /isn't signed by GH100 FMC LF/,
      );
    });
  });

  describe("when its chain isn't good", () => {
    const refusalOf = async (policy: Parameters<typeof gpuPolicy>[0], asked = question, from = gpu) =>
      reasonAgainst(await verifyGpuReport(gpuReport(from, nonce), gpuPolicy(policy), asked), "fail");

    it("fails under another root", async () => {
      expect(await refusalOf({ roots: ["ab".repeat(32)] })).to.match(/isn't a trusted root \(trusted: abab/);
    });

    it("fails before and after its certificates' time", async () => {
      expect(await refusalOf({}, { ...question, at: 0 })).to.match(/isn't valid before/);
      expect(await refusalOf({}, { ...question, at: 4e9 })).to.match(/expired/);
    });

    it("fails with a leaf on another curve, though it signed", async () => {
      const keys = generateKeyPairSync("ec", { namedCurve: "brainpoolP384r1" });
      const other = newGpu({ keys });
      expect(await refusalOf({}, question, other)).to.match(/GH100 FMC LF has a key of kind ec, where P-384 belongs/);
    });

    it("fails with a leaf on a smaller curve, whose signature is shorter", async () => {
      const other = newGpu({ key: "P-256" });
      const report = signedGpuReport(other, unsigned());
      const verdict = await verifyGpuReport({ report, certificates: other.chain }, gpuPolicy(), question);
      expect(reasonAgainst(verdict, "fail")).to.match(/cut short/);
    });

    it("fails where the policy distrusts one of its certificates, or an answer revokes it", async () => {
      expect(await refusalOf({ distrusted: [fingerprintOf(gpu.device)] })).to.match(
        /GH100 BROM .* aren't trusted any more/,
      );
      const { provisioner } = gpuMaker();
      const crls = [revocationList(provisioner, { revoked: [gpu.device.serial] })];
      expect(await refusalOf({}, { ...question, answers: { crls, ocsp: [] } })).to.match(
        /Test GH100 Provisioner has revoked GH100 BROM/,
      );
      const ocsp = [ocspAnswer(gpu.device, provisioner, { status: "revoked" })];
      expect(await refusalOf({}, { ...question, answers: { crls: [], ocsp } })).to.match(/has revoked GH100 BROM/);
    });

    it("is unknown where answers are demanded and missing, and passes with all of them", async () => {
      const policy = gpuPolicy({ revocation: "issuers" });
      const missing = await verifyGpuReport(gpuReport(gpu, nonce), policy, question);
      expect(reasonAgainst(missing, "unknown")).to.match(/GH100 BROM .* is open/);
      const { root, identity, provisioner } = gpuMaker();
      const ocsp = [ocspAnswer(gpu.device, provisioner), ocspAnswer(provisioner, identity), ocspAnswer(identity, root)];
      const { claims, reason } = await verifyGpuReport(gpuReport(gpu, nonce), policy, {
        ...question,
        answers: { crls: [], ocsp },
      });
      expect(claims?.revocationCovered, reason).to.equal(3);
    });

    it("fails with a chain that is no PEM", async () => {
      const evidence = { ...gpuReport(gpu, nonce), certificates: "nonsense" };
      expect(reasonAgainst(await verifyGpuReport(evidence, gpuPolicy(), question), "fail")).to.match(
        /isn't PEM as OpenSSL writes it/,
      );
    });
  });

  describe("when its firmware isn't on the allow-list", () => {
    it("fails with another driver or VBIOS", async () => {
      expect(await refusal({ driverVersion: "535.1" })).to.match(
        /driver "535\.1" with VBIOS 96\.00\.9F\.00\.01, which isn't on the allow-list/,
      );
      expect(await refusal({ vbios: Buffer.from("005e009601000000", "hex") })).to.match(
        /VBIOS 96\.00\.5E\.00\.01, which isn't/,
      );
    });

    it("fails with another product of the same maker", async () => {
      expect(await refusal({}, newGpu({ name: "LS10 NVSwitch" }))).to.match(
        /This LS10 NVSwitch runs .*, which isn't on the allow-list/,
      );
    });

    it("fails with a measurement that its maker doesn't give", async () => {
      const measurements = MEASUREMENTS.map((value, index) => (index === 3 ? Buffer.alloc(48, 7) : value));
      expect(await refusal({ measurements })).to.match(
        /measurement 4 is 0707.*, which "550\.90\.07 on H100" doesn't allow/,
      );
    });

    it("fails with a measurement missing that the list names", async () => {
      expect(await refusal({ measurements: MEASUREMENTS.slice(0, 7) })).to.match(/measurement 8 is missing/);
    });

    it("fails where the list names no measurement to compare", async () => {
      const [firmware] = gpuPolicy().firmware;
      const verdict = await verifyGpuReport(
        gpuReport(gpu, nonce),
        gpuPolicy({ firmware: [{ ...firmware, measurements: {} }] }),
        question,
      );
      expect(reasonAgainst(verdict, "fail")).to.match(/lists no measurement/);
    });

    it("passes by the second entry of the same versions", async () => {
      const [firmware] = gpuPolicy().firmware;
      const first = { ...firmware, name: "other", measurements: { 1: ["00".repeat(48)] } };
      const { claims } = await verifyGpuReport(
        gpuReport(gpu, nonce),
        gpuPolicy({ firmware: [first, firmware] }),
        question,
      );
      expect(claims?.firmware).to.equal(firmware.name);
    });

    it("is unknown where nothing is on it", async () => {
      const verdict = await verifyGpuReport(gpuReport(gpu, nonce), gpuPolicy({ firmware: [] }), question);
      expect(reasonAgainst(verdict, "unknown")).to.match(/allows no GPU firmware yet/);
    });

    it("fails where its key was made for other firmware, and where its certificate names none", async () => {
      expect(await refusal({ opaque: [[20, Buffer.alloc(48, 1)]] })).to.match(/the key was made for other firmware/);
      expect(await refusal({}, newGpu({ extensions: [] }))).to.match(/firmware id is missing/);
    });

    it("passes where an older driver reports no firmware id", async () => {
      expect((await verdictOn({ opaque: [] })).result).to.equal("pass");
    });
  });

  describe("when a genuine key signed something that isn't such a report", () => {
    const shaped: [what: string, parts: Partial<GpuReportParts>, reason: RegExp][] = [
      ["another version of SPDM", { shape: (bytes) => bytes.fill(0x12, 0, 1) }, /SPDM 1\.1's request/],
      ["another request", { shape: (bytes) => bytes.fill(0xe1, 1, 2) }, /SPDM 1\.1's request/],
      ["a request without signature", { shape: (bytes) => bytes.fill(0, 2, 3) }, /SPDM 1\.1's request/],
      ["a request for one measurement", { shape: (bytes) => bytes.fill(1, 3, 4) }, /SPDM 1\.1's request/],
      [
        "another slot's answer",
        { shape: (bytes) => bytes.fill(3, 36, 37) },
        /another slot of certificates than slot 3/,
      ],
      ["another version's answer", { shape: (bytes) => bytes.fill(0x12, 37, 38) }, /doesn't answer with SPDM/],
      ["an error for an answer", { shape: (bytes) => bytes.fill(0x7f, 38, 39) }, /doesn't answer with SPDM/],
      ["more measurements than it counts", { shape: (bytes) => bytes.fill(7, 41, 42) }, /more follow/],
      ["fewer measurements than it counts", { shape: (bytes) => bytes.fill(9, 41, 42) }, /cut short/],
      ["measurements out of order", { shape: (bytes) => bytes.fill(2, 45, 46) }, /index 2 where 1 comes next/],
      [
        "measurements of another body than DMTF",
        { shape: (bytes) => bytes.fill(2, 46, 47) },
        /no SHA-384 hash at index 1/,
      ],
      ["raw measurements", { shape: (bytes) => bytes.fill(0x81, 49, 50) }, /no SHA-384 hash at index 1/],
      [
        "shorter measurements",
        { measurements: MEASUREMENTS.map((value) => value.subarray(16)) },
        /no SHA-384 hash at index 1 .*32 bytes/,
      ],
      ["a field twice", { opaque: [[3, Buffer.from("550.1\0")]] }, /field 3 twice/],
      ["no driver version", { driverVersion: "" }, /no driver version/],
      ["no VBIOS version", { vbios: Buffer.alloc(4) }, /no VBIOS version of 8 bytes/],
      ["opaque data cut short", { shape: (bytes) => bytes.subarray(0, -1) }, /cut short/],
      ["something more", { shape: (bytes) => Buffer.concat([bytes, field(99, Buffer.alloc(1))]) }, /more follow/],
    ];
    for (const [what, parts, reason] of shaped) {
      it(`fails with ${what}`, async () => {
        expect(await refusal(parts)).to.match(reason);
      });
    }

    it("fails with what is cut short or goes on after the signature", async () => {
      const { report, certificates } = gpuReport(gpu, nonce);
      for (let length = 0; length < report.length; length += 13) {
        const { result } = await verifyGpuReport(
          { report: report.subarray(0, length), certificates },
          gpuPolicy(),
          question,
        );
        expect(result, `${length} bytes`).to.equal("fail");
      }
      const longer = { report: Buffer.concat([report, Buffer.from([0])]), certificates };
      expect(reasonAgainst(await verifyGpuReport(longer, gpuPolicy(), question), "fail")).to.match(/1 more follow/);
    });
  });

  it("takes a report apart as it was put together", () => {
    const parsed = gpuReportOf(gpuReport(gpu, nonce).report);
    expect(hexlify(parsed.nonce)).to.equal(nonce);
    expect([...parsed.measurements.values()]).to.deep.equal(MEASUREMENTS.map((value) => value.toString("hex")));
    expect(parsed.firmwareId).to.deep.equal(FIRMWARE_ID);
  });
});
