import { expect } from "chai";
import { assess } from "../../oracle/evidence/assess";
import { Tier } from "../../oracle/protocol/tiers";
import { bundleOf, bundleToText, type EvidenceBundle, signedPartOf } from "../../oracle/evidence/bundle";
import { verifyGpuReport } from "../../oracle/evidence/gpuReport";
import { gpuDigestOf, nonceOf, reportDataOf } from "../../oracle/evidence/nonce";
import { verifyNrasToken } from "../../oracle/evidence/nras";
import { verifySnpReport } from "../../oracle/evidence/snp";
import { verifyTdxQuote } from "../../oracle/evidence/tdx";
import { Refused } from "../../oracle/evidence/verdict";
import { type Bench, benchOf, bundleFor } from "../support/bundles";
import { ocspAnswer, revocationList } from "../support/der";
import { type Gpu, gpuMaker, gpuPolicy, newGpu, snpMaker, snpPolicy, tdxMaker } from "../support/evidence";
import { Chance } from "../support/random";

/** Corruptions of each bundle, besides those of each that go through all of it. */
const CORRUPTIONS = Number(process.env.EVIDENCE_CORRUPTIONS ?? 5_000);
const WHOLE = 300;
const SEED = Number(process.env.SEED ?? 20_231_114);

describe("evidence that was corrupted at random", function () {
  this.timeout(600_000);

  let gpu: Gpu;
  let chance: Chance;

  before(() => {
    gpu = newGpu();
    chance = new Chance(SEED);
  });

  /** Answers are demanded, so that each of them counts. */
  const bench = () => benchOf({ gpu: gpuPolicy({ revocation: "issuers" }), snp: snpPolicy({ revocation: "issuers" }) });

  const forGpuAndTdx = () => {
    const { root, identity, provisioner } = gpuMaker();
    const ocsp = [ocspAnswer(gpu.device, provisioner), ocspAnswer(provisioner, identity), ocspAnswer(identity, root)];
    return { ...tdxMaker().answers, ocsp };
  };

  const forSnp = () => ({ crls: [revocationList(snpMaker().ark)], ocsp: [] });

  const bundles: [name: string, make: (of: Bench) => EvidenceBundle][] = [
    [
      "a GPU's report and a TDX quote",
      (of) => ({ ...bundleFor(of, { gpus: [gpu], cpu: "tdx" }), answers: forGpuAndTdx() }),
    ],
    [
      "a token and an SEV-SNP report",
      (of) => ({ ...bundleFor(of, { gpus: ["nras"], cpu: "snp" }), answers: forSnp() }),
    ],
  ];

  for (const [name, make] of bundles) {
    describe(`in ${name}`, () => {
      it(`never passes, in ${CORRUPTIONS} corruptions (seed ${SEED})`, async () => {
        const of = bench();
        const good = make(of);
        const text = bundleToText(good);
        expect(await verdictsOn(of, good, good, true)).to.deep.equal(["pass", "pass"]);
        const ends: Record<string, number> = { unreadable: 0, "GPU refused": 0, "CPU refused": 0 };
        for (let round = 0; round < CORRUPTIONS; round++) {
          const corrupted = corrupt(text);
          const bundle = read(corrupted.text);
          if (bundle === undefined) {
            ends.unreadable++;
            continue;
          }
          const verdicts = await verdictsOn(of, bundle, good, false);
          expect(verdicts, `round ${round}: ${corrupted.how}`).to.not.deep.equal(["pass", "pass"]);
          ends[verdicts[0] === "pass" ? "CPU refused" : "GPU refused"]++;
        }
        // Every part was hit, and most corruptions got past the reading of the text.
        for (const [end, count] of Object.entries(ends)) expect(count, end).to.be.greaterThan(CORRUPTIONS / 50);
      });

      it(`never reaches its tier as a whole, in ${WHOLE} corruptions`, async () => {
        for (let round = 0; round < WHOLE; round++) {
          const of = bench();
          const text = bundleToText(make(of));
          const corrupted = corrupt(text);
          const bundle = read(corrupted.text);
          if (bundle === undefined) continue;
          const { tier, gpu: verdict } = await assess(bundle, of.subject, of.judges);
          expect(tier, corrupted.how).to.be.lessThan(Tier.cpuTee);
          expect(tier === Tier.gpu, corrupted.how).to.equal(verdict.result === "pass");
        }
      });
    });
  }

  /** What `assess` would find of GPU and CPU; parts that are as they were are known to pass. */
  async function verdictsOn({ subject, judges }: Bench, bundle: EvidenceBundle, good: EvidenceBundle, all: boolean) {
    const same = (left: unknown, right: unknown) => !all && JSON.stringify(left) === JSON.stringify(right);
    if (bundle.seed !== good.seed) return ["fail", "fail"];
    const { policy } = judges;
    const { at } = subject;
    const nonce = nonceOf({ ...subject, seed: bundle.seed });
    const gpus = async () => {
      if (bundle.gpus.length !== 1) return "fail";
      const [evidence] = bundle.gpus;
      return evidence.kind === "nras"
        ? (await verifyNrasToken(evidence, policy.nras!, { nonce, at })).result
        : (await verifyGpuReport(evidence, policy.gpu!, { nonce, at, answers: bundle.answers })).result;
    };
    const cpu = async () => {
      if (bundle.cpu === null) return "fail";
      const reportData = reportDataOf(nonce, gpuDigestOf(bundle.gpus.map(signedPartOf)));
      const question = { reportData, at, answers: bundle.answers };
      return bundle.cpu.kind === "tdx"
        ? (await verifyTdxQuote(bundle.cpu, policy.tdx!, question)).result
        : (await verifySnpReport(bundle.cpu, policy.snp!, question)).result;
    };
    const sameAnswers = same(bundle.answers, good.answers);
    const sameGpus = same(bundle.gpus, good.gpus);
    const first = sameGpus && sameAnswers ? "pass" : await gpus();
    if (first !== "pass") return [first, "fail"];
    return [first, sameGpus && sameAnswers && same(bundle.cpu, good.cpu) ? "pass" : await cpu()];
  }

  function read(text: string): EvidenceBundle | undefined {
    try {
      return bundleOf(text);
    } catch (error) {
      expect(error).to.be.instanceOf(Refused);
      return undefined;
    }
  }

  /** Half of them change characters of the text, half bytes of what the text has as base64, or of the text in it. */
  function corrupt(text: string): { text: string; how: string } {
    for (;;) {
      const changed = chance.happens(0.5) ? inText(text) : inLeaf(text);
      if (changed.text !== text) return changed;
    }
  }

  function inText(text: string) {
    const at = chance.between(0, text.length - 1);
    const [changed, how] = spliced(text, at, String.fromCharCode(chance.between(32, 126)));
    return { text: changed, how: `text: ${how}` };
  }

  function inLeaf(text: string) {
    const leaves: { holder: Record<string, unknown>; name: string }[] = [];
    const json = JSON.parse(text);
    const walk = (holder: Record<string, unknown>) => {
      for (const [name, value] of Object.entries(holder)) {
        if (typeof value === "string" && value.length > 60) leaves.push({ holder, name });
        else if (typeof value === "object" && value !== null) walk(value as Record<string, unknown>);
      }
    };
    walk(json);
    const { holder, name } = chance.pick(leaves);
    const value = holder[name] as string;
    const bytes = Buffer.from(value, "base64");
    const isBase64 = bytes.toString("base64") === value;
    const content = isBase64 ? bytes.toString("latin1") : value;
    const at = chance.between(0, content.length - 1);
    const character = isBase64 ? String.fromCharCode(chance.between(0, 255)) : chance.pick([..."ABCabc019+/=\n "]);
    const [changed, how] = spliced(content, at, character);
    holder[name] = isBase64 ? Buffer.from(changed, "latin1").toString("base64") : changed;
    return { text: JSON.stringify(json), how: `${name}: ${how}` };
  }

  /** One thing done to a text: a character replaced, flipped, put in or left out, an end cut off, a piece doubled or exchanged. */
  function spliced(text: string, at: number, character: string): [string, string] {
    const [before, after] = [text.slice(0, at), text.slice(at)];
    const length = chance.between(1, 40);
    const other = chance.between(0, text.length - 1);
    const ways: [how: string, result: () => string][] = [
      ["replaced", () => before + character + after.slice(1)],
      ["replaced", () => before + character + after.slice(1)],
      ["replaced", () => before + character + after.slice(1)],
      ["put in", () => before + character + after],
      ["left out", () => before + after.slice(1)],
      ["cut off", () => before],
      ["doubled", () => before + after.slice(0, length) + after],
      ["left out a piece", () => before + after.slice(length)],
      ["overwritten", () => before + text.slice(other, other + length) + after.slice(length)],
    ];
    const [how, result] = chance.pick(ways);
    return [result(), `${how} at ${at} (${JSON.stringify(character)}, ${length} from ${other})`];
  }
});
