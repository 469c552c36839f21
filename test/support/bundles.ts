import { hexlify, randomBytes, Wallet } from "ethers";
import { assess, type Judges, type Subject } from "../../oracle/evidence/assess";
import { type CpuEvidence, type EvidenceBundle, type GpuEvidence, signedPartOf } from "../../oracle/evidence/bundle";
import { MemorySeeds } from "../../oracle/evidence/seeds";
import { MemoryDevices } from "../../oracle/evidence/devices";
import { gpuDigestOf, nonceOf, reportDataOf } from "../../oracle/evidence/nonce";
import type { EvidencePolicy } from "../../oracle/evidence/policy";
import {
  type Gpu,
  gpuPolicy,
  gpuReport,
  newGpu,
  NOW,
  nrasDevice,
  nrasPolicy,
  nrasToken,
  snpPolicy,
  snpReport,
  tdxMaker,
  tdxPolicy,
  tdxQuote,
} from "./evidence";

/** An operator with hardware, and an attestor that judges it. */

export const policyOf = (changes: Partial<EvidencePolicy> = {}): EvidencePolicy => ({
  maxAgeSeconds: 300,
  validForSeconds: 86_400,
  exclusiveCpus: false,
  gpu: gpuPolicy(),
  nras: nrasPolicy(),
  tdx: tdxPolicy(),
  snp: snpPolicy(),
  ...changes,
});

export interface Bench {
  judges: Judges & { seeds: MemorySeeds; devices: MemoryDevices };
  subject: Subject;
}

export function benchOf(changes: Partial<EvidencePolicy> = {}): Bench {
  return {
    judges: { policy: policyOf(changes), seeds: new MemorySeeds(), devices: new MemoryDevices() },
    subject: {
      chainId: 31_337n,
      contract: Wallet.createRandom().address,
      operatorId: 7,
      receiptSigner: Wallet.createRandom().address,
      at: NOW,
      recounted: false,
    },
  };
}

export interface BundleParts {
  gpus: (Gpu | "nras")[];
  cpu: "tdx" | "snp" | null;
  /** Who is asked, where it isn't the bench's subject. */
  subject: Subject;
  seed: string;
  /** What the CPU reports in place of what it should. */
  reportData: (right: Buffer) => Buffer;
  telemetry: unknown;
}

/** Evidence as a good operator gathers it: GPUs first, then the CPU over them. */
export function bundleFor(bench: Bench, parts: Partial<BundleParts> = {}): EvidenceBundle {
  const {
    subject = bench.subject,
    gpus: asked = [newGpu()],
    cpu = null,
    reportData = (right: Buffer) => right,
  } = parts;
  const { seed = issued(bench, subject), telemetry = null } = parts;
  const nonce = nonceOf({ ...subject, seed });
  const gpus = asked.map((gpu): GpuEvidence =>
    gpu === "nras"
      ? {
          kind: "nras",
          ...nrasToken(nonce, { devices: { "GPU-0": nrasDevice(nonce, BigInt(hexlify(randomBytes(20))).toString()) } }),
        }
      : { kind: "nvidia-report", ...gpuReport(gpu, nonce) },
  );
  const data = reportData(reportDataOf(nonce, gpuDigestOf(gpus.map(signedPartOf))));
  const evidence = {
    tdx: (): CpuEvidence => ({ kind: "tdx", ...tdxQuote(data) }),
    snp: (): CpuEvidence => ({ kind: "snp", ...snpReport(data) }),
  };
  return {
    seed,
    gpus,
    cpu: cpu && evidence[cpu](),
    answers: cpu === "tdx" ? tdxMaker().answers : { crls: [], ocsp: [] },
    telemetry,
  };
}

export function issued({ judges }: Bench, { operatorId, receiptSigner, at }: Subject): string {
  return judges.seeds.issue(operatorId, receiptSigner, at - 10).value;
}

export const assessmentOf = (bench: Bench, bundle: EvidenceBundle, subject: Partial<Subject> = {}) =>
  assess(bundle, { ...bench.subject, ...subject }, bench.judges);
