import { expect } from "chai";
import { hexlify, keccak256, randomBytes, toUtf8Bytes, Wallet, zeroPadValue, toBeHex, concat } from "ethers";
import { Tier } from "../../oracle/protocol/tiers";
import { bundleOf, bundleToText, evidenceHashOf } from "../../oracle/evidence/bundle";
import { MemorySeeds } from "../../oracle/evidence/seeds";
import { MemoryDevices } from "../../oracle/evidence/devices";
import { gpuDigestOf, NONCE_TAG, nonceOf, reportDataOf } from "../../oracle/evidence/nonce";
import { Refused } from "../../oracle/evidence/verdict";
import { assessmentOf, type Bench, benchOf, bundleFor, issued } from "../support/bundles";
import { gpuPolicy, newGpu, NOW, withValue } from "../support/evidence";

describe("the tier that evidence reaches", function () {
  // Keys of RSA take seconds to make.
  this.timeout(60_000);

  let bench: Bench;

  beforeEach(() => {
    bench = benchOf();
  });

  describe("when all of it holds", () => {
    it("is GPU with reports of GPUs under a fresh seed, for as long as the policy says", async () => {
      const assessment = await assessmentOf(bench, bundleFor(bench, { gpus: [newGpu(), newGpu()] }));
      expect(assessment.tier, assessment.gpu.reason).to.equal(Tier.gpu);
      expect(assessment.validUntil).to.equal(NOW + 86_400);
      expect(assessment.gpu.claims).to.have.length(2);
      expect(assessment.cpu).to.deep.equal({ result: "unknown", reason: "No CPU evidence came.", claims: null });
    });

    it("is GPU with a token of NVIDIA's service", async () => {
      const assessment = await assessmentOf(bench, bundleFor(bench, { gpus: ["nras"] }));
      expect(assessment.tier, assessment.gpu.reason).to.equal(Tier.gpu);
    });

    for (const cpu of ["tdx", "snp"] as const) {
      for (const gpu of ["report", "nras"] as const) {
        it(`is CPU-TEE with ${cpu} over ${gpu === "nras" ? "a token" : "a GPU's report"}`, async () => {
          const assessment = await assessmentOf(
            bench,
            bundleFor(bench, { gpus: [gpu === "nras" ? "nras" : newGpu()], cpu }),
          );
          expect(assessment.tier, assessment.cpu.reason).to.equal(Tier.cpuTee);
          expect(assessment.cpu.claims?.kind).to.equal(cpu);
        });
      }
    }

    it("says beside the tier whether receipts were recounted", async () => {
      const without = benchOf();
      const empty = { ...bundleFor(without), gpus: [] };
      expect(await assessmentOf(without, empty)).to.include({ tier: Tier.signed, recounted: false, validUntil: NOW });
      expect(await assessmentOf(without, empty, { recounted: true })).to.include({
        tier: Tier.recounted,
        recounted: true,
      });
      expect(await assessmentOf(bench, bundleFor(bench), { recounted: true })).to.include({
        tier: Tier.gpu,
        recounted: true,
      });
      expect(await assessmentOf(bench, bundleFor(bench))).to.include({ tier: Tier.gpu, recounted: false });
    });

    it("reads the same from the bundle's text", async () => {
      const text = bundleToText(bundleFor(bench, { cpu: "tdx", telemetry: { signed: false, gpus: [] } }));
      expect((await assessmentOf(bench, bundleOf(text))).tier).to.equal(Tier.cpuTee);
    });
  });

  describe("when the seed isn't good", () => {
    const refused = async (bundle: Parameters<typeof assessmentOf>[1], reason: RegExp, subject = {}) => {
      const assessment = await assessmentOf(bench, bundle, subject);
      expect(assessment.gpu.reason).to.match(reason);
      expect(assessment.cpu.result).to.not.equal("pass");
      expect(assessment).to.include({ tier: Tier.signed, validUntil: bench.subject.at });
      expect(assessment.gpu.result).to.equal("fail");
    };

    it("is none where the attestor didn't issue it", async () => {
      await refused(
        bundleFor(bench, { seed: hexlify(randomBytes(32)), cpu: "tdx" }),
        /isn't one that this attestor issued/,
      );
    });

    it("says of the CPU's evidence that it is for a seed that doesn't hold", async () => {
      const bundle = bundleFor(bench, { seed: hexlify(randomBytes(32)), cpu: "tdx" });
      const { cpu } = await assessmentOf(bench, bundle);
      expect(cpu.reason).to.match(/is for a seed that doesn't hold: The seed .* isn't one that this attestor issued/);
      expect(cpu.result).to.equal("fail");
    });

    it("is none where it was answered before, by the same evidence or other", async () => {
      const seed = issued(bench, bench.subject);
      const bundle = bundleFor(bench, { seed, cpu: "tdx" });
      expect((await assessmentOf(bench, bundle)).tier).to.equal(Tier.cpuTee);
      await refused(bundle, /was used already/);
      await refused(bundleFor(bench, { seed }), /was used already/);
    });

    it("is given once where the same evidence comes twice at once", async () => {
      const bundle = bundleFor(bench);
      const both = await Promise.all([assessmentOf(bench, bundle), assessmentOf(bench, bundle)]);
      expect(both.map(({ tier }) => tier).sort()).to.deep.equal([Tier.signed, Tier.gpu]);
      expect(both.map(({ gpu }) => gpu.reason).join()).to.match(/was used meanwhile/);
    });

    it("is none where it was issued for another operator or signer", async () => {
      const other = { ...bench.subject, operatorId: 8 };
      const stranger = { ...bench.subject, receiptSigner: Wallet.createRandom().address };
      for (const subject of [other, stranger]) {
        await refused(bundleFor(bench, { subject }), /was issued for operator .* not for operator 7/);
      }
    });

    it("is none where the answer took longer than the policy allows, or came before the question", async () => {
      const bundle = bundleFor(bench);
      await refused(bundle, /issued at .* 301 seconds ago; an answer may take 300/, { at: (bench.subject.at += 291) });
      bench.subject.at = NOW;
      await refused(bundle, /-11 seconds ago/, { at: (bench.subject.at = NOW - 21) });
      bench.subject.at = NOW;
      expect((await assessmentOf(bench, bundle, { at: NOW + 290 })).tier).to.equal(Tier.gpu);
    });

    it("stays usable when the evidence fails", async () => {
      const seed = issued(bench, bench.subject);
      const bundle = bundleFor(bench, { seed });
      await refused(
        { ...bundle, gpus: [{ kind: "nvidia-report", report: Buffer.alloc(5), certificates: "" }] },
        /doesn't begin with SPDM/,
      );
      expect((await assessmentOf(bench, bundle)).tier).to.equal(Tier.gpu);
    });
  });

  describe("when evidence was made for something else", () => {
    it("is none for each part of the nonce that differs", async () => {
      for (const change of [
        { chainId: 1n },
        { contract: Wallet.createRandom().address },
        { operatorId: 8 },
        { receiptSigner: Wallet.createRandom().address },
      ]) {
        const seed = issued(bench, bench.subject);
        const bundle = bundleFor(bench, { seed, subject: { ...bench.subject, ...change } });
        const { tier, gpu } = await assessmentOf(bench, bundle);
        expect(gpu.reason, Object.keys(change)[0]).to.match(/this seed asks for/);
        expect(tier).to.equal(Tier.signed);
      }
    });

    it("is GPU, not CPU-TEE, where the CPU reports the nonce alone, or over other GPUs", async () => {
      for (const reportData of [
        (right: Buffer) => Buffer.concat([right.subarray(0, 32), Buffer.alloc(32)]),
        (right: Buffer) => Buffer.concat([Buffer.alloc(32), right.subarray(32)]),
        () => reportDataOf(hexlify(randomBytes(32)), gpuDigestOf([])),
      ]) {
        const { tier, cpu } = await assessmentOf(bench, bundleFor(bench, { cpu: "tdx", reportData }));
        expect(cpu.reason).to.match(/this seed asks for/);
        expect(cpu.result).to.equal("fail");
        expect(tier).to.equal(Tier.gpu);
      }
    });

    it("is GPU, not CPU-TEE, where a GPU of another machine took the place of one that the CPU saw", async () => {
      const seed = issued(bench, bench.subject);
      const seen = bundleFor(bench, { seed, cpu: "snp" });
      const elsewhere = bundleFor(bench, { seed });
      const { tier, gpu, cpu } = await assessmentOf(bench, { ...seen, gpus: elsewhere.gpus });
      expect([gpu.result, cpu.result, tier]).to.deep.equal(["pass", "fail", Tier.gpu]);
    });

    it("is GPU, not CPU-TEE, where the order of GPUs isn't the one that the CPU saw", async () => {
      const bundle = bundleFor(bench, { gpus: [newGpu(), newGpu()], cpu: "tdx" });
      expect((await assessmentOf(bench, { ...bundle, gpus: [...bundle.gpus].reverse() })).tier).to.equal(Tier.gpu);
    });
  });

  describe("when part of it doesn't hold", () => {
    it("is none with one GPU of two that fails, whatever the CPU says", async () => {
      const bundle = bundleFor(bench, { gpus: [newGpu(), newGpu()], cpu: "tdx" });
      const [first, second] = bundle.gpus;
      if (second.kind !== "nvidia-report") throw new Error("not a report");
      const report = Buffer.from(second.report);
      report[60] ^= 1;
      const { tier, gpu } = await assessmentOf(bench, { ...bundle, gpus: [first, { ...second, report }] });
      expect([tier, gpu.result]).to.deep.equal([Tier.signed, "fail"]);
      expect(gpu.reason).to.match(/^GPU 2 of 2: The GPU's report isn't signed by/);
    });

    it("is none with a CPU alone: it covers no GPU", async () => {
      const { tier, cpu, gpu } = await assessmentOf(bench, bundleFor(bench, { gpus: [], cpu: "tdx" }));
      expect(gpu).to.include({ result: "unknown" });
      expect(cpu.reason).to.match(/holds, but covers no GPU: No GPU evidence came/);
      expect([tier, cpu.result]).to.deep.equal([Tier.signed, "unknown"]);
    });

    it("is none where a GPU's verdict is unknown, though the CPU's evidence holds", async () => {
      bench = benchOf({ gpu: gpuPolicy({ revocation: "issuers" }) });
      const { tier, cpu, gpu } = await assessmentOf(bench, bundleFor(bench, { cpu: "tdx" }));
      expect(gpu.result).to.equal("unknown");
      expect(cpu.reason).to.match(/covers no GPU: .* is open/);
      expect(tier).to.equal(Tier.signed);
    });

    it("is GPU where the CPU's verdict is unknown", async () => {
      const bundle = { ...bundleFor(bench, { cpu: "tdx" }), answers: { crls: [], ocsp: [] } };
      const { tier, cpu } = await assessmentOf(bench, bundle);
      expect([tier, cpu.result]).to.deep.equal([Tier.gpu, "unknown"]);
    });

    it("is unknown for every kind of evidence that the policy doesn't speak of", async () => {
      bench = benchOf({ gpu: undefined, nras: undefined });
      for (const [gpu, section] of [
        [newGpu(), "gpu"],
        ["nras", "nras"],
      ] as const) {
        const assessment = await assessmentOf(bench, bundleFor(bench, { gpus: [gpu] }));
        expect(assessment.gpu).to.include({ result: "unknown" });
        expect(assessment.gpu.reason).to.contain(`no section "${section}"`);
        expect(assessment.tier).to.equal(Tier.signed);
      }
      bench = benchOf({ tdx: undefined, snp: undefined });
      for (const cpu of ["tdx", "snp"] as const) {
        const assessment = await assessmentOf(bench, bundleFor(bench, { cpu }));
        expect(assessment.cpu.reason).to.contain(`no section "${cpu}"`);
        expect([assessment.tier, assessment.cpu.result]).to.deep.equal([Tier.gpu, "unknown"]);
      }
    });

    it("doesn't rise by anything that telemetry says", async () => {
      const telemetry = { signed: true, tier: 3, gpus: [{ name: "H100" }] };
      expect((await assessmentOf(bench, bundleFor(bench, { gpus: [], telemetry }))).tier).to.equal(Tier.signed);
    });
  });

  describe("when the attestor's own records can't be read", () => {
    const broken = () => Promise.reject(new Error("database is locked"));

    it("is none and unknown: the operator is asked to try again", async () => {
      for (const name of ["find", "use"] as const) {
        const sick = benchOf();
        const bundle = bundleFor(sick, { cpu: "tdx" });
        sick.judges.seeds[name] = broken;
        const { tier, gpu } = await assessmentOf(sick, bundle);
        expect(gpu.reason).to.equal("The attestor's own records can't be read: database is locked. Try again later.");
        expect([tier, gpu.result]).to.deep.equal([Tier.signed, "unknown"]);
      }
      const sick = benchOf({ exclusiveCpus: true });
      const bundle = bundleFor(sick, { cpu: "tdx" });
      sick.judges.devices.claim = broken;
      expect(await assessmentOf(sick, bundle)).to.include({ tier: Tier.signed });
    });
  });

  describe("when a device is shown twice", () => {
    it("is none within one bundle", async () => {
      const gpu = newGpu();
      const { tier, gpu: verdict } = await assessmentOf(bench, bundleFor(bench, { gpus: [gpu, gpu] }));
      expect(verdict.reason).to.match(/The device nvidia-key:[0-9a-f]{64} comes twice/);
      expect(tier).to.equal(Tier.signed);
    });

    it("is none for a second operator, until the first one's evidence has run out", async () => {
      const gpu = newGpu();
      expect((await assessmentOf(bench, bundleFor(bench, { gpus: [gpu] }))).tier).to.equal(Tier.gpu);
      const other = { ...bench.subject, operatorId: 8 };
      const refused = await assessmentOf(bench, bundleFor(bench, { gpus: [newGpu(), gpu], subject: other }), other);
      expect(refused.gpu.reason).to.match(
        /is shown by operator 7 until 2023-11-15T22:13:20.000Z: no device counts for two/,
      );
      expect(refused.tier).to.equal(Tier.signed);
      const later = { ...other, at: NOW + 86_401 };
      expect((await assessmentOf(bench, bundleFor(bench, { gpus: [gpu], subject: later }), later)).tier).to.equal(
        Tier.gpu,
      );
    });

    it("is given again to the same operator, for another of its signers too", async () => {
      const gpu = newGpu();
      for (const receiptSigner of [bench.subject.receiptSigner, Wallet.createRandom().address]) {
        const subject = { ...bench.subject, receiptSigner };
        expect((await assessmentOf(bench, bundleFor(bench, { gpus: [gpu], subject }), subject)).tier).to.equal(
          Tier.gpu,
        );
      }
    });

    it("is CPU-TEE for two operators on one CPU, unless the policy says that it counts once", async () => {
      for (const [exclusiveCpus, expected] of [
        [false, Tier.cpuTee],
        [true, Tier.gpu],
      ] as const) {
        const shared = benchOf({ exclusiveCpus });
        const other = { ...shared.subject, operatorId: 8 };
        expect((await assessmentOf(shared, bundleFor(shared, { cpu: "snp" }))).tier).to.equal(Tier.cpuTee);
        const second = await assessmentOf(shared, bundleFor(shared, { cpu: "snp", subject: other }), other);
        expect(second.tier, second.cpu.reason).to.equal(expected);
      }
    });

    it("notes all devices or none", async () => {
      const devices = new MemoryDevices();
      expect(await devices.claim(["a", "b"], 1, 0, 10)).to.deep.equal([]);
      expect(await devices.claim(["c", "b"], 2, 5, 20)).to.deep.equal([{ device: "b", operatorId: 1, until: 10 }]);
      expect(await devices.claim(["c"], 3, 5, 20)).to.deep.equal([]);
      expect(await devices.claim(["b"], 2, 10, 20)).to.have.length(1);
      expect(await devices.claim(["b"], 2, 11, 20)).to.deep.equal([]);
    });
  });

  describe("seeds in memory", () => {
    it("are used once, never the same, and forgotten from the oldest on", async () => {
      const seeds = new MemorySeeds(2);
      const [first, second, third] = [1, 2, 3].map((operatorId) =>
        seeds.issue(operatorId, bench.subject.receiptSigner, NOW),
      );
      expect(new Set([first.value, second.value, third.value]).size).to.equal(3);
      expect(await seeds.find(first.value)).to.equal(undefined);
      expect(await seeds.use(first.value)).to.equal(false);
      expect(await seeds.find(second.value)).to.deep.equal({ ...second, used: false });
      expect([await seeds.use(second.value), await seeds.use(second.value)]).to.deep.equal([true, false]);
      expect(await seeds.find(second.value)).to.deep.equal({ ...second, used: true });
    });
  });

  describe("the nonce", () => {
    const parts = {
      chainId: 31_337n,
      contract: "0x5FbDB2315678afecb367f032d93F642f64180aa3",
      operatorId: 7,
      receiptSigner: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
      seed: `0x${"11".repeat(32)}`,
    };

    it("is keccak256 over six words, as documented", () => {
      expect(NONCE_TAG).to.equal(keccak256(toUtf8Bytes("Licet evidence nonce 1")));
      const word = (value: string | bigint) => zeroPadValue(typeof value === "bigint" ? toBeHex(value) : value, 32);
      const words = [NONCE_TAG, word(31_337n), word(parts.contract), word(7n), word(parts.receiptSigner), parts.seed];
      expect(nonceOf(parts)).to.equal(keccak256(concat(words)));
      expect(nonceOf(parts)).to.equal("0x8bc3fe115a5a8df973f46813170e7eacacdaeb5a8f3119b7c6805cf6ea8a4e53");
    });

    it("differs with each of its parts", () => {
      const others = [
        { ...parts, chainId: 1n },
        { ...parts, contract: parts.receiptSigner },
        { ...parts, operatorId: 8 },
        { ...parts, receiptSigner: parts.contract },
        { ...parts, seed: `0x${"12".repeat(32)}` },
      ];
      expect(new Set([parts, ...others].map(nonceOf)).size).to.equal(6);
    });

    it("comes first in the report data, and the digest of the GPUs' evidence second", () => {
      const [first, second] = [Buffer.from("one"), Buffer.from("two")];
      const digest = keccak256(concat([keccak256(first), keccak256(second)]));
      expect(gpuDigestOf([first, second])).to.equal(digest);
      expect(hexlify(reportDataOf(parts.seed, digest))).to.equal(concat([parts.seed, digest]));
      expect(gpuDigestOf([second, first])).to.not.equal(digest);
      expect(gpuDigestOf([Buffer.from("onetwo")])).to.not.equal(digest);
    });
  });

  describe("bundleOf", () => {
    let text: string;
    let json: Record<string, unknown>;

    before(() => {
      const market = benchOf();
      text = bundleToText(bundleFor(market, { gpus: [newGpu(), "nras"], cpu: "tdx", telemetry: { signed: false } }));
      json = JSON.parse(text);
    });

    it("reads what bundleToText writes, of every kind", () => {
      expect(bundleToText(bundleOf(text))).to.equal(text);
      const snp = bundleToText(bundleFor(bench, { cpu: "snp" }));
      expect(bundleToText(bundleOf(snp))).to.equal(snp);
      const bare = bundleToText({ ...bundleFor(bench), gpus: [], cpu: null });
      expect(bundleToText(bundleOf(bare))).to.equal(bare);
      expect(evidenceHashOf(text)).to.equal(keccak256(toUtf8Bytes(text)));
    });

    const refusals: [what: string, path: string, value: unknown, reason: RegExp][] = [
      ["another version", "version", 2, /of version 2; 1 is understood/],
      ["an unknown field", "tier", 3, /field "tier", which means nothing here/],
      ["a missing field", "gpus", undefined, /has no field gpus/],
      ["a seed in capitals", "seed", `0x${"AB".repeat(32)}`, /seed must be 0x/],
      ["a seed cut short", "seed", "0x11", /seed must be 0x/],
      ["GPUs that are no list", "gpus", {}, /gpus must be a list/],
      ["seventeen GPUs", "gpus", Array(17).fill(null), /17 items; 16 are read/],
      ["a GPU of an unknown kind", "gpus.0.kind", "amd", /of no kind that is understood: nvidia-report or nras/],
      ["a GPU that is null", "gpus", [null], /of no kind that is understood/],
      ["a report that is no text", "gpus.0.report", 5, /report must be text/],
      ["a report that isn't base64", "gpus.0.report", "A", /must be base64/],
      ["a report with another field", "gpus.0.nonce", "", /field "nonce"/],
      ["a token of another form", "gpus.1.token", "x", /must have the form/],
      ["a CPU of an unknown kind", "cpu.kind", "sgx", /of no kind that is understood: tdx or snp/],
      ["a CPU that is left out without saying so", "cpu", undefined, /has no field cpu/],
      ["collateral with a hole", "cpu.collateral.tcbInfo", undefined, /collateral has no field tcbInfo/],
      ["collateral that is no text", "cpu.collateral.tcbInfo", {}, /tcbInfo must be text/],
      ["thirty-three revocation lists", "crls", Array(33).fill(""), /33 items; 32 are read/],
      ["an OCSP answer in base64url", "ocsp", ["-_-_"], /OCSP answer 1 must be base64/],
    ];
    for (const [what, path, value, reason] of refusals) {
      it(`refuses ${what}`, () => {
        expect(() => bundleOf(JSON.stringify(withValue(json, path, value)))).to.throw(Refused, reason);
      });
    }

    it("refuses what is no object", () => {
      for (const other of ["[]", "null", "5", '"text"'])
        expect(() => bundleOf(other)).to.throw(Refused, /must be an object/);
    });

    it("refuses every other way to write the same", () => {
      for (const other of [
        ` ${text}`,
        JSON.stringify(json, null, 1),
        text.replace('{"version":1', '{"version":1,"version":1'),
        text.replace("nvidia", "\\u006evidia"),
      ]) {
        expect(() => bundleOf(other)).to.throw(Refused, /as JSON.stringify writes it/);
      }
      expect(() => bundleOf(text.slice(0, -1))).to.throw(Refused, /is no JSON/);
    });

    it("refuses what is nested without end", () => {
      const depth = 400_000;
      const nested = text.replace(
        '"telemetry":{"signed":false}',
        `"telemetry":${"[".repeat(depth)}${"]".repeat(depth)}`,
      );
      expect(nested.length).to.be.within(2 * depth, 1 << 20);
      expect(() => bundleOf(nested)).to.throw(Refused, /is no JSON/);
    });

    it("refuses more than a megabyte before it reads it", () => {
      expect(() => bundleOf("[".repeat((1 << 20) + 1))).to.throw(Refused, /1048577 characters; 1048576 are read/);
    });
  });
});
