/** What an operator names on chain: the attestors' findings of its evidence, and the evidence itself. */
import { getAddress, type TypedDataDomain } from "ethers";
import type { Committee } from "../chain/chain";
import { weightOf } from "../chain/committee";
import { findingDigest, recoverSigner, signedFindingFromJson, signedFindingToJson } from "../protocol/messages";
import type { SignedFinding } from "../protocol/types";
import { fieldsOf } from "./bytes";
import { Tier } from "../protocol/tiers";
import { bundleOf, evidenceHashOf } from "./bundle";
import { refuseUnless } from "./verdict";

/** One attestor's finding, with the bundle that it is about, so that anybody can judge that again. */
export interface RecordedFinding extends SignedFinding {
  bundle: string;
}

/** All findings of one operator and one of its keys. The chain has the hash of its text. */
export interface EvidenceRecord {
  operatorId: number;
  receiptSigner: string;
  /** As many as the committee's threshold found that one, or a higher one. */
  tier: Tier;
  findings: RecordedFinding[];
}

const VERSION = 1;
const FIELDS = ["version", "operatorId", "receiptSigner", "tier", "findings"] as const;

/** There is one way to write each record: its hash stands for it. */
export function recordToText({ operatorId, receiptSigner, tier, findings }: EvidenceRecord): string {
  const written = findings.map((one) => ({ ...signedFindingToJson(one), bundle: one.bundle }));
  return JSON.stringify({ version: VERSION, operatorId, receiptSigner, tier, findings: written });
}

/** keccak256 of the text: what the chain has. */
export const recordHashOf = evidenceHashOf;

/** The highest tier that members of the committee found whose weight reaches its threshold. */
export function tierFoundBy(signers: readonly { address: string; tier: number }[], committee: Committee): Tier {
  const found = (least: Tier) => new Set(signers.filter(({ tier }) => tier >= least).map(({ address }) => address));
  const reached = ([Tier.cpuTee, Tier.gpu] as const).find(
    (tier) => weightOf(committee, found(tier)) >= committee.threshold,
  );
  return reached ?? Tier.signed;
}

/**
 * Reads a record, and checks all that it says: each finding is signed by a member, is of this operator and key, and of its
 * bundle; and the tier is the one that those make. Whether it still stands is a question of time: see `standsUntil`.
 * @throws Refused, or MalformedMessage
 */
export function recordOf(text: string, domain: TypedDataDomain, committee: Committee): EvidenceRecord {
  const about = "The record of evidence";
  const json: unknown = JSON.parse(text);
  refuseUnless(JSON.stringify(json) === text, `${about} must be JSON as JSON.stringify writes it.`);
  const fields = fieldsOf(json, FIELDS, about);
  refuseUnless(
    fields.version === VERSION,
    `${about} is of version ${String(fields.version)}; ${VERSION} is understood.`,
  );
  const operatorId = Number(fields.operatorId);
  const receiptSigner = getAddress(String(fields.receiptSigner));
  refuseUnless(Array.isArray(fields.findings), `${about} must have a list of findings.`);
  const findings = (fields.findings as unknown[]).map((one) => {
    const { finding, signature, bundle } = fieldsOf(one, ["finding", "signature", "bundle"], "A finding");
    const text = String(bundle);
    bundleOf(text);
    return { ...signedFindingFromJson({ finding, signature }), bundle: text };
  });
  const signers = findings.map(({ finding, signature, bundle }) => {
    const address = recoverSigner(findingDigest(domain, finding), signature);
    refuseUnless(committee.members.includes(address), `A finding is signed by ${address}, who isn't a member.`);
    refuseUnless(
      finding.operatorId === operatorId && finding.receiptSigner === receiptSigner,
      `A finding is of operator ${finding.operatorId} and key ${finding.receiptSigner}.`,
    );
    refuseUnless(finding.evidenceHash === evidenceHashOf(bundle), `A finding by ${address} is of another bundle.`);
    return { address, tier: finding.tier };
  });
  const tier = tierFoundBy(signers, committee);
  refuseUnless(fields.tier === tier, `${about} says tier ${String(fields.tier)}; its findings make ${tier}.`);
  return { operatorId, receiptSigner, tier, findings };
}

/** Until when a record's tier stands, Unix seconds: as long as the first of its findings of that tier does. */
export function standsUntil({ findings, tier }: EvidenceRecord): number {
  return Math.min(...findings.filter(({ finding }) => finding.tier >= tier).map(({ finding }) => finding.until));
}
