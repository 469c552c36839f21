/** An operator's side of evidence: it has its hardware answer each attestor's seed, and keeps what they found. */
import { execFile } from "node:child_process";
import { getAddress } from "ethers";
import type { Chain } from "../chain/chain";
import { type DigestSigner, seedRequestToSign } from "../keys/digestSigner";
import type { Log } from "../log";
import { Problem, reasonOf, shown } from "../problem";
import { findingDigest, recoverSigner } from "../protocol/messages";
import type { SignedFinding } from "../protocol/types";
import type { AttestorEndpoint } from "../settler/attestorPool";
import { bundleOf, evidenceHashOf, LONGEST_BUNDLE } from "./bundle";
import { requestSeed, submitEvidence } from "./evidenceApi";
import { nonceOf } from "./nonce";
import { type EvidenceRecord, type RecordedFinding, tierFoundBy } from "./record";
import { readTelemetry } from "./telemetry";

export interface Presentation {
  operatorId: number;
  /** The key that signs receipts. */
  signer: DigestSigner;
  attestors: AttestorEndpoint[];
  /** A program and its arguments. It is told the nonce, and answers with a bundle's evidence. */
  collectCommand: string[];
  collectTimeoutMs: number;
  attestorTimeoutMs: number;
  /** The committee's contract. */
  committee: string;
}

export interface PresentDeps {
  chain: Pick<Chain, "domain" | "now" | "committees">;
  log: Log;
}

/**
 * Asks all attestors for seeds, one after the other, since hardware answers one at a time, and shows each its evidence.
 * An attestor that doesn't answer or isn't convinced is logged with its reasons, and left out.
 */
export async function presentEvidence(presentation: Presentation, deps: PresentDeps): Promise<EvidenceRecord> {
  const { operatorId, signer, attestors, committee } = presentation;
  const findings: (RecordedFinding & { address: string })[] = [];
  for (const attestor of attestors) {
    try {
      const found = await presentTo(attestor, presentation, deps);
      if (found !== null) findings.push({ ...found, address: attestor.address });
    } catch (cause) {
      if (cause instanceof Problem) throw cause;
      deps.log.warn("Evidence wasn't judged", { attestor: attestor.address, url: attestor.url, cause });
    }
  }
  const signers = findings.map(({ address, finding }) => ({ address: getAddress(address), tier: finding.tier }));
  const { present } = await deps.chain.committees(committee);
  return {
    operatorId,
    receiptSigner: signer.address,
    tier: tierFoundBy(signers, present),
    findings: findings.map(({ finding, signature, bundle }) => ({ finding, signature, bundle })),
  };
}

async function presentTo(
  { address, url }: AttestorEndpoint,
  presentation: Presentation,
  { chain, log }: PresentDeps,
): Promise<RecordedFinding | null> {
  const { operatorId, signer, attestorTimeoutMs } = presentation;
  const at = await chain.now();
  const request = { operatorId, at };
  const signature = await signer.sign(seedRequestToSign(chain.domain, request));
  const seed = await requestSeed(url, request, signature, attestorTimeoutMs);
  const bundle = await collect(seed, at, presentation, chain.domain);
  const { gpu, cpu, finding } = await submitEvidence(url, bundle, attestorTimeoutMs);
  const said = { attestor: address, tier: finding?.finding.tier ?? 0, gpu: gpu.reason, cpu: cpu.reason };
  if (finding === null) {
    log.warn("Evidence reached no tier", said);
    return null;
  }
  requireOwn(finding, bundle, address, presentation, chain.domain);
  log.info("Evidence holds", { ...said, until: finding.finding.until });
  return { ...finding, bundle };
}

/** The bundle that the operator's program gathers under a seed. @throws Problem if there is none to be had */
async function collect(
  seed: string,
  at: number,
  { operatorId, signer, collectCommand, collectTimeoutMs }: Presentation,
  { chainId, verifyingContract: contract }: Chain["domain"],
): Promise<string> {
  const subject = { chainId, contract, operatorId, receiptSigner: signer.address, seed };
  const environment = {
    LICET_NONCE: nonceOf(subject),
    LICET_SEED: seed,
    LICET_CHAIN_ID: String(chainId),
    LICET_CONTRACT: contract,
    LICET_OPERATOR: String(operatorId),
    LICET_SIGNER: signer.address,
  };
  const about = `evidence.collectCommand: ${collectCommand[0]}`;
  const output = await outputOf(collectCommand, environment, collectTimeoutMs).catch((cause) => {
    throw new Problem(`${about} failed (${reasonOf(cause)}): try it by itself, with LICET_NONCE set.`, { cause });
  });
  const telemetry = await readTelemetry(at);
  try {
    const { gpus = [], cpu = null, crls = [], ocsp = [] } = JSON.parse(output) as Record<string, unknown>;
    const more = "missing" in telemetry ? {} : { telemetry };
    const text = JSON.stringify({ version: 1, seed, gpus, cpu, crls, ocsp, ...more });
    bundleOf(text);
    return text;
  } catch (cause) {
    throw new Problem(
      `${about} answered ${shown(output)}, which is no evidence (${reasonOf(cause)}): it must write one JSON object with ` +
        `gpus, cpu, crls and ocsp to its standard output, as docs/evidence.md says.`,
      { cause },
    );
  }
}

function outputOf([program, ...words]: string[], environment: NodeJS.ProcessEnv, timeout: number): Promise<string> {
  // It runs with nothing of this process's environment but where programs are: secrets are in there.
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...environment };
  return new Promise((resolve, reject) => {
    execFile(program, words, { env, timeout, maxBuffer: LONGEST_BUNDLE, encoding: "utf8" }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
}

function requireOwn(
  { finding, signature }: SignedFinding,
  bundle: string,
  attestor: string,
  { operatorId, signer }: Presentation,
  domain: Chain["domain"],
): void {
  const by = recoverSigner(findingDigest(domain, finding), signature);
  if (by !== getAddress(attestor)) throw new Error(`The finding is signed by ${by}, not by ${attestor}`);
  const isOwn = finding.operatorId === operatorId && finding.receiptSigner === signer.address;
  if (!isOwn) throw new Error(`The finding is of operator ${finding.operatorId} and key ${finding.receiptSigner}`);
  if (finding.evidenceHash !== evidenceHashOf(bundle)) throw new Error("The finding is of another bundle");
}
