import { getAddress } from "ethers";
import { dateOf, reasonOf, shown } from "../problem";
import { Tier } from "../protocol/tiers";
import { type CpuEvidence, type EvidenceBundle, type GpuEvidence, signedPartOf } from "./bundle";
import type { SeedBook } from "./seeds";
import type { DeviceRegistry } from "./devices";
import { type GpuClaims, verifyGpuReport } from "./gpuReport";
import { gpuDigestOf, nonceOf, reportDataOf } from "./nonce";
import { type NrasClaims, verifyNrasToken } from "./nras";
import type { EvidencePolicy } from "./policy";
import { type SnpClaims, verifySnpReport } from "./snp";
import { type TdxClaims, verifyTdxQuote } from "./tdx";
import { Refused, refuseUnless, Undecided, undecidedUnless, type Verdict, verdictOf } from "./verdict";

export interface Subject {
  chainId: bigint;
  /** UsageEscrow, whose receipts the signer signs. */
  contract: string;
  operatorId: number;
  receiptSigner: string;
  /** Unix seconds. */
  at: number;
  /** Whether the attestor recounted this operator's receipts itself. Hardware evidence says nothing about that. */
  recounted: boolean;
}

export interface Judges {
  policy: EvidencePolicy;
  seeds: SeedBook;
  devices: DeviceRegistry;
}

export interface Assessment {
  tier: Tier;
  /** Beside the tier: a higher one doesn't include it. */
  recounted: boolean;
  gpu: Verdict<(GpuClaims | NrasClaims)[]>;
  cpu: Verdict<TdxClaims | SnpClaims>;
  /** Unix seconds from which on the tier must be shown anew; `at` where no hardware was. */
  validUntil: number;
}

/**
 * Which tier a bundle of evidence reaches for one receipt signer of one operator. An attestor, when an operator asks for one:
 *
 *     const seed = seeds.issue(operatorId, receiptSigner, now);           // sent to the operator
 *     …                                                                           // which gathers evidence under nonceOf(…)
 *     const assessment = await assess(
 *       bundleOf(text),                                                           // as it came; throws Refused
 *       { chainId, contract, operatorId, receiptSigner, at: now, recounted },
 *       { policy, seeds, devices },
 *     );
 *     if (assessment.tier >= Tier.gpu) …                                            // until assessment.validUntil
 *     else log(assessment.gpu.reason);
 *
 * The operator gathers the GPUs' evidence under the nonce first; then measured code on its CPU, which holds the receipt key,
 * makes the nonce itself and asks for a report over `reportDataOf(nonce, gpuDigestOf(…))`.
 */
export async function assess(bundle: EvidenceBundle, subject: Subject, judges: Judges): Promise<Assessment> {
  const { policy } = judges;
  const floor = subject.recounted ? Tier.recounted : Tier.signed;
  const { nonce, gpu } = await gpuVerdict(bundle, subject, judges);
  const cpu = await cpuVerdict(bundle, nonce, gpu, subject, judges);
  if (gpu.result !== "pass") return { tier: floor, recounted: subject.recounted, gpu, cpu, validUntil: subject.at };
  const tier = cpu.result === "pass" ? Tier.cpuTee : Tier.gpu;
  return { tier, recounted: subject.recounted, gpu, cpu, validUntil: subject.at + policy.validForSeconds };
}

/** @returns the nonce too, where the seed was ours */
async function gpuVerdict(bundle: EvidenceBundle, subject: Subject, judges: Judges) {
  let nonce: string | undefined;
  const gpu = await verdictOf(
    "The GPUs' evidence",
    async () => {
      await checkSeed(bundle.seed, subject, judges);
      nonce = nonceOf({ ...subject, seed: bundle.seed });
      undecidedUnless(bundle.gpus.length > 0, "No GPU evidence came. Send a report of each GPU, under this seed.");
      const claims: (GpuClaims | NrasClaims)[] = [];
      for (const [index, evidence] of bundle.gpus.entries()) {
        const verdict = await verifyGpu(evidence, bundle, nonce, subject, judges.policy);
        claims.push(claimsOf(verdict, `GPU ${index + 1} of ${bundle.gpus.length}: `));
      }
      // First: nothing is noted for an answer that came twice.
      refuseUnless(
        await recorded(() => judges.seeds.use(bundle.seed)),
        `The seed ${bundle.seed} was used meanwhile. Ask for another.`,
      );
      await claimDevices(claims, subject, judges);
      return claims;
    },
    (claims) => `The evidence of ${claims.flatMap(({ devices }) => devices).join(", ")} holds under this seed.`,
  );
  return { nonce, gpu };
}

async function checkSeed(value: string, subject: Subject, { policy, seeds }: Judges): Promise<void> {
  const seed = await recorded(() => seeds.find(value));
  refuseUnless(seed !== undefined, `The seed ${value} isn't one that this attestor issued. Ask it for one.`);
  refuseUnless(
    seed.operatorId === subject.operatorId && getAddress(seed.receiptSigner) === getAddress(subject.receiptSigner),
    `The seed ${value} was issued for operator ${seed.operatorId} and signer ${seed.receiptSigner}, not for operator ` +
      `${subject.operatorId} and signer ${subject.receiptSigner}.`,
  );
  refuseUnless(!seed.used, `The seed ${value} was used already. Ask for another.`);
  const age = subject.at - seed.issuedAt;
  refuseUnless(
    age >= 0 && age <= policy.maxAgeSeconds,
    `The seed ${value} was issued at ${dateOf(seed.issuedAt)}, ${age} seconds ago; an answer may take ` +
      `${policy.maxAgeSeconds}. Ask for another.`,
  );
}

function verifyGpu(
  evidence: GpuEvidence,
  { answers }: EvidenceBundle,
  nonce: string,
  { at }: Subject,
  policy: EvidencePolicy,
): Promise<Verdict<GpuClaims | NrasClaims>> {
  if (evidence.kind === "nras") {
    return policy.nras === undefined ? notAccepted("nras") : verifyNrasToken(evidence, policy.nras, { nonce, at });
  }
  return policy.gpu === undefined ? notAccepted("gpu") : verifyGpuReport(evidence, policy.gpu, { nonce, at, answers });
}

function verifyCpu(
  evidence: CpuEvidence,
  { answers }: EvidenceBundle,
  reportData: Buffer,
  { at }: Subject,
  policy: EvidencePolicy,
): Promise<Verdict<TdxClaims | SnpClaims>> {
  const question = { reportData, at, answers };
  if (evidence.kind === "tdx") {
    return policy.tdx === undefined ? notAccepted("tdx") : verifyTdxQuote(evidence, policy.tdx, question);
  }
  return policy.snp === undefined ? notAccepted("snp") : verifySnpReport(evidence, policy.snp, question);
}

async function notAccepted(section: string): Promise<Verdict<never>> {
  const reason = `The attestor's policy has no section ${shown(section)}: it can't tell what such evidence is worth.`;
  return { result: "unknown", reason, claims: null };
}

async function cpuVerdict(
  bundle: EvidenceBundle,
  nonce: string | undefined,
  gpu: Assessment["gpu"],
  subject: Subject,
  judges: Judges,
): Promise<Assessment["cpu"]> {
  return verdictOf(
    "The CPU's evidence",
    async () => {
      undecidedUnless(bundle.cpu !== null, "No CPU evidence came.");
      refuseUnless(nonce !== undefined, `The CPU's evidence is for a seed that doesn't hold: ${gpu.reason}`);
      const gpuDigest = gpuDigestOf(bundle.gpus.map(signedPartOf));
      const claims = claimsOf(
        await verifyCpu(bundle.cpu, bundle, reportDataOf(nonce, gpuDigest), subject, judges.policy),
      );
      undecidedUnless(gpu.result === "pass", `The CPU's evidence holds, but covers no GPU: ${gpu.reason}`);
      if (judges.policy.exclusiveCpus) await claimDevices([claims], subject, judges);
      return claims;
    },
    ({ program }) => `"${program}" runs on a genuine CPU, holds the receipt key, and gathered the GPUs' evidence.`,
  );
}

/** Devices count once: in one bundle, and of one operator. */
async function claimDevices(
  claims: readonly { devices: readonly string[] }[],
  subject: Subject,
  judges: Judges,
): Promise<void> {
  const devices = claims.flatMap((claim) => claim.devices);
  const twice = devices.find((device, index) => devices.indexOf(device) !== index);
  refuseUnless(twice === undefined, `The device ${twice} comes twice. Send each GPU's evidence once.`);
  const { at, operatorId } = subject;
  const held = await recorded(() => judges.devices.claim(devices, operatorId, at, at + judges.policy.validForSeconds));
  refuseUnless(
    held.length === 0,
    `The device ${held[0]?.device} is shown by operator ${held[0]?.operatorId} until ${dateOf(held[0]?.until ?? 0)}: no device counts ` +
      `for two. If it has changed hands, wait until then.`,
  );
}

/** What the attestor's own books say: where they can't be read, that isn't the evidence's fault. */
async function recorded<Value>(look: () => Promise<Value>): Promise<Value> {
  try {
    return await look();
  } catch (cause) {
    throw new Undecided(`The attestor's own records can't be read: ${reasonOf(cause)}. Try again later.`);
  }
}

/** @param which what the reason is about, as it begins */
function claimsOf<Claims>({ result, reason, claims }: Verdict<Claims>, which = ""): Claims {
  if (result === "pass") return claims;
  throw result === "fail" ? new Refused(which + reason) : new Undecided(which + reason);
}
