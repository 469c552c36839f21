/** Receipts that come back to their operator: which of them are its own, and what they cost. */
import { ReceiptVerifier, signatureProblem, type VerifiedRecord } from "../attestor/receiptVerifier";
import type { Chain, PlanState } from "../chain/chain";
import { costOf } from "../protocol/meters";
import { decodeReceipt, requestSignatureHashIn, splitRecord, subjectOf } from "../protocol/receiptBytes";
import { requestSignatureHash } from "../protocol/requestSignature";
import type { Receipt } from "../protocol/types";
import { versionIdOf } from "../protocol/versionId";
import type { ReturnedReceipt } from "../store/recovery";

const MOST_REASONS = 20;
const MOST_VERSIONS = 10_000;

export class Returns {
  /** How many receipts weren't taken. */
  refused = 0;
  /** The first reasons for it, in sentences. */
  readonly reasons: string[] = [];
  private readonly verifier: ReceiptVerifier;
  /** What doesn't change, by what was asked. */
  private readonly facts = new Map<string, Promise<unknown>>();

  constructor(
    private readonly operatorId: number,
    private readonly chain: Chain,
  ) {
    this.verifier = new ReceiptVerifier(chain.domain);
  }

  /** Those that the operator signed, under plans and versions that there are, by a key that counts. @throws if the chain can't be read */
  async check(brought: readonly Buffer[]): Promise<ReturnedReceipt[]> {
    const split = brought.map(splitRecord);
    const verified = await this.verifier.verify(split.map(({ record }) => record));
    const good: ReturnedReceipt[] = [];
    for (const [i, { record, hash, signer }] of verified.entries()) {
      const { receipt, signature } = decodeReceipt(record);
      const found = await this.judged(verified[i], receipt);
      if (typeof found === "string") this.refuse(record, found);
      else {
        const requestSignature = signatureFor(record, split[i].requestSignature);
        good.push({
          ...found,
          receipt,
          signature,
          signer: signer!,
          hash: `0x${hash.toString("hex")}`,
          requestSignature,
        });
      }
    }
    return good;
  }

  close(): Promise<void> {
    return this.verifier.close();
  }

  /** Why it isn't taken; if it is, what it costs, and of which version. */
  private async judged(
    verified: VerifiedRecord,
    receipt: Receipt,
  ): Promise<string | Pick<ReturnedReceipt, "cost" | "versionId">> {
    const { operatorId, planId, manifestHash, finishedAt } = receipt;
    const { signer } = verified;
    if (signer === null) return `isn't signed: ${signatureProblem(verified)}`;
    if (operatorId !== this.operatorId) return `is of operator ${operatorId}`;
    if (!(await this.isKeyAt(signer, finishedAt))) {
      return `is signed by ${signer}, not a key of operator ${operatorId} at ${finishedAt}, or revoked since`;
    }
    const plan = await this.fact(`plan ${planId}`, () => this.chain.plan(planId));
    if (plan === null) return `is under plan ${planId}, which doesn't exist`;
    const versionId = (await this.versionsOf(plan)).get(manifestHash);
    if (versionId === undefined) return `is of manifest ${manifestHash}; asset ${plan.assetId} has no such version`;
    return { cost: costOf(receipt, plan.rates), versionId };
  }

  /** Asked by the hour: a key that counts at both ends of one counts all through it. */
  private async isKeyAt(signer: string, at: number): Promise<boolean> {
    const { chain, operatorId } = this;
    const isKey = (time: number) =>
      this.fact(`key ${signer} ${time}`, () => chain.isSigningKey(operatorId, signer, time));
    const hour = at - (at % AN_HOUR);
    const [first, last] = await Promise.all([isKey(hour), isKey(hour + AN_HOUR - 1)]);
    return (first && last) || isKey(at);
  }

  private versionsOf({ assetId }: PlanState): Promise<Map<string, bigint>> {
    return this.fact(`versions of ${assetId}`, async () => {
      const found = new Map<string, bigint>();
      for (let number = 1; number <= MOST_VERSIONS; number++) {
        const version = await this.chain.version(versionIdOf(assetId, number));
        if (version === null) break;
        found.set(version.manifestHash, version.versionId);
      }
      return found;
    });
  }

  private fact<T>(about: string, read: () => Promise<T>): Promise<T> {
    const known = this.facts.get(about) as Promise<T> | undefined;
    if (known !== undefined) return known;
    const value = read();
    this.facts.set(about, value);
    return value;
  }

  private refuse(record: Buffer, reason: string): void {
    this.refused++;
    const { licenseId, sequence } = subjectOf(record);
    if (this.reasons.length < MOST_REASONS) this.reasons.push(`Receipt ${sequence} of license ${licenseId} ${reason}`);
  }
}

const AN_HOUR = 3_600;

/** What came as the signature of a receipt's request, if it is that one. */
function signatureFor(record: Buffer, packed: Buffer | null): Buffer | null {
  return packed !== null && requestSignatureHash(packed) === requestSignatureHashIn(record) ? packed : null;
}
