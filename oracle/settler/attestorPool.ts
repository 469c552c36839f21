/** The members of plans' committees, as a settler talks to them: all at once, each in its time, none believed unchecked. */
import { AbiCoder, getAddress, keccak256, type TypedDataDomain } from "ethers";
import {
  askToAttest,
  type Attestation,
  type AttestationRefusal,
  type RecordsOf,
  requestMeasurement,
} from "../attestor/attestorApi";
import type { AttestationRequest } from "../attestor/batchFacts";
import type { Committee } from "../chain/chain";
import { weightOf } from "../chain/committee";
import type { Log } from "../log";
import { batchDigest, measurementDigest, recoverSigner } from "../protocol/messages";
import type { Epoch, Lane, SignedMeasurement } from "../protocol/types";

export interface AttestorEndpoint {
  /** The committee member's address. */
  address: string;
  url: string;
}

export interface AttestorsConfig {
  /** All members of the committee in force, and those of the next one before it comes. */
  attestors: AttestorEndpoint[];
  /** How long one attestor may take to answer. */
  attestorTimeoutMs: number;
  /** How long the others are waited for, once enough have answered: 5,000 if left out, or as long again as that took, if it is more. */
  othersMs?: number;
}

const OTHERS_MS = 5_000;

/** A member that didn't sign, and why. */
export interface MemberRefusal extends AttestationRefusal {
  attestor: string;
}

/** How the members took a batch. */
export interface CommitteeAnswer {
  /** By all who signed it, now or before. */
  signed: Attestation[];
  refused: MemberRefusal[];
  /** The weight that signed or could still: of those who measured for the batch and didn't refuse it. */
  possible: number;
  /** The weight that isn't needed: a receipt that more refuse gets through with no batch. */
  spare: number;
}

export class AttestorPool {
  private readonly attestors: AttestorEndpoint[];

  constructor(
    private readonly domain: TypedDataDomain,
    private readonly config: AttestorsConfig,
    private readonly log: Log,
  ) {
    this.attestors = config.attestors.map(({ address, url }) => ({ address: getAddress(address), url }));
  }

  /** Those of a committee's members of whom it is known where they are. */
  membersOf({ members }: Committee): AttestorEndpoint[] {
    return this.attestors.filter(({ address }) => members.includes(address));
  }

  /** The measurements of all members who answer. */
  measure(lane: Lane, epoch: Epoch, committee: Committee): Promise<SignedMeasurement[]> {
    const isEnough = (measured: SignedMeasurement[]) =>
      weightOf(committee, this.signersOf(measured)) >= committee.threshold;
    return this.ask(this.membersOf(committee), isEnough, async ({ address, url }, signal) => {
      const signed = await requestMeasurement(url, lane, epoch, this.config.attestorTimeoutMs, signal);
      requireSigner(address, measurementDigest(this.domain, signed.measurement), signed.signature);
      requireMeasured(signed, lane, epoch);
      return signed;
    });
  }

  /** Who signed measurements. */
  signersOf(measurements: SignedMeasurement[]): string[] {
    return measurements.map(({ measurement, signature }) =>
      recoverSigner(measurementDigest(this.domain, measurement), signature),
    );
  }

  /**
   * Asks the members who measured for the batch, and haven't signed it, to sign it: no other would.
   * @param recordsOf of the batch's receipts, for members who lack them
   * @param ahead what each is shown before it is asked
   */
  async attest(
    request: AttestationRequest,
    committee: Committee,
    recordsOf: RecordsOf,
    before: readonly Attestation[] = [],
    ahead?: (attestor: AttestorEndpoint, signal: AbortSignal) => Promise<void>,
  ): Promise<CommitteeAnswer> {
    const batchId = batchDigest(this.domain, request.header);
    const measured = this.signersOf(request.measurements);
    const members = this.membersOf(committee);
    const known = before.filter(({ signer }) => committee.members.includes(signer));
    const asked = members.filter(
      ({ address }) => measured.includes(address) && !known.some(({ signer }) => signer === address),
    );
    const isEnough = (answers: (Attestation | MemberRefusal)[]) => {
      const signers = [...known, ...answers.filter((answer) => "signature" in answer)].map(({ signer }) => signer);
      return weightOf(committee, signers) >= committee.threshold;
    };
    const answers = await this.ask<Attestation | MemberRefusal>(asked, isEnough, async ({ address, url }, signal) => {
      await ahead?.({ address, url }, signal);
      const answer = await askToAttest(url, request, recordsOf, this.config.attestorTimeoutMs, signal);
      if ("refusals" in answer) return { attestor: address, ...answer };
      requireSigner(address, batchId, answer.signature);
      return { signer: address, signature: answer.signature };
    });
    const refused = answers.filter((answer) => "refusals" in answer);
    const refusers = refused.map(({ attestor }) => attestor);
    const open = asked.map(({ address }) => address).filter((address) => !refusers.includes(address));
    const listed = members.map(({ address }) => address);
    return {
      signed: [...known, ...answers.filter((answer) => "signature" in answer)],
      refused,
      possible: weightOf(committee, [...known.map(({ signer }) => signer), ...open]),
      spare: Math.max(0, weightOf(committee, listed) - committee.threshold),
    };
  }

  /**
   * Who doesn't answer as it should is logged and left out, and so is who is much slower than enough others: one that hangs would
   * hold up all that is attested after it.
   */
  private async ask<T>(
    attestors: AttestorEndpoint[],
    isEnough: (answers: T[]) => boolean,
    question: (attestor: AttestorEndpoint, signal: AbortSignal) => Promise<T>,
  ): Promise<T[]> {
    const startedAt = performance.now();
    const others = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const answered: T[] = [];
    const note = (answer: T) => {
      answered.push(answer);
      if (timer !== undefined || !isEnough(answered)) return;
      const ms = Math.max(this.config.othersMs ?? OTHERS_MS, performance.now() - startedAt);
      const slow = new Error(`it took more than ${Math.round(ms)} ms longer than enough others`);
      timer = setTimeout(() => others.abort(slow), ms);
    };
    const answers = await Promise.all(
      attestors.map(async (attestor) => {
        try {
          const answer = await question(attestor, others.signal);
          note(answer);
          return [answer];
        } catch (cause) {
          this.log.warn("Attestor didn't answer", { attestor: attestor.address, url: attestor.url, cause });
          return [];
        }
      }),
    );
    clearTimeout(timer);
    return answers.flat();
  }
}

/** What a CommitteeAttestor takes for a proof: signers and signatures, here ascending by the signers' keccak256. */
export function committeeProof(attestations: Attestation[]): string {
  const sorted = attestations
    .map((attestation) => ({ ...attestation, order: keccak256(attestation.signer) }))
    .sort((a, b) => (a.order < b.order ? -1 : 1));
  const signers = sorted.map(({ signer }) => signer);
  const signatures = sorted.map(({ signature }) => signature);
  return AbiCoder.defaultAbiCoder().encode(["bytes[]", "bytes[]"], [signers, signatures]);
}

function requireSigner(address: string, digest: string, signature: string): void {
  const signer = recoverSigner(digest, signature);
  if (signer !== address) throw new Error(`The signature is by ${signer}, not by ${address}`);
}

function requireMeasured({ measurement }: SignedMeasurement, lane: Lane, epoch: Epoch): void {
  const asked = { ...lane, ...epoch };
  const fields = ["operatorId", "planId", "versionId", "epochStart", "epochEnd"] as const;
  const wrong = fields.filter((field) => measurement[field] !== asked[field]);
  if (wrong.length > 0) throw new Error(`The measurement is of another ${wrong.join(", ")}`);
}
