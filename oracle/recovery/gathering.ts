/** What attestors give back to an operator. Nothing of it is believed yet. */
import {
  type KnownGrant,
  MOST_GRANTS_SENT,
  retrieveBatches,
  retrieveGrants,
  retrieveLastReceipts,
  retrieveReceipts,
  signRetrieval,
  type SignedRetrieval,
} from "../attestor/retrievalApi";
import type { Chain } from "../chain/chain";
import type { DigestSigner } from "../keys/digestSigner";
import { reasonOf } from "../problem";
import type { AttestorEndpoint } from "../settler/attestorPool";
import type { SignedOff } from "../store/operatorCopies";

/** An attestor doesn't give back what it is asked for. */
export class AttestorSilent extends Error {}

/** What an attestor has, besides receipts. */
export interface Returned {
  attestor: string;
  grants: KnownGrant[];
  batches: SignedOff[];
}

/** One attestor, asked for what it has of one operator. */
export class Source {
  /** @param signer one of the operator's signing keys */
  constructor(
    readonly attestor: AttestorEndpoint,
    private readonly operatorId: number,
    private readonly timeoutMs: number,
    private readonly chain: Chain,
    private readonly signer: DigestSigner,
  ) {}

  /**
   * All receipts, a page at a time, in their binary form.
   * @throws AttestorSilent; or Error if the chain can't be read
   */
  async *receipts(): AsyncGenerator<Buffer[]> {
    for (const retrieve of [retrieveReceipts, retrieveLastReceipts]) {
      for (let after = 0n; ;) {
        const { records, position } = await this.ask((url, signed) => retrieve(url, signed, after, this.timeoutMs));
        if (records.length === 0 || position <= after) break;
        yield records;
        after = position;
      }
    }
  }

  /** @throws AttestorSilent; or Error if the chain can't be read */
  async rest(): Promise<Returned> {
    const grants: KnownGrant[] = [];
    for (let after = "0x"; ;) {
      const page = await this.ask((url, signed) => retrieveGrants(url, signed, after, this.timeoutMs));
      grants.push(...page);
      const last = page.at(-1)?.hash;
      if (last === undefined || page.length < MOST_GRANTS_SENT || last <= after) break;
      after = last;
    }
    const batches = await this.ask((url, signed) => retrieveBatches(url, signed, this.timeoutMs));
    return { attestor: this.attestor.address, grants, batches };
  }

  /** What is signed is good for minutes: each question is signed anew. */
  private async ask<T>(question: (url: string, signed: SignedRetrieval) => Promise<T>): Promise<T> {
    const { chain, operatorId } = this;
    const { address, url } = this.attestor;
    const retrieval = { operatorId, attestor: address, at: await chain.now() };
    const signed = await signRetrieval(chain.domain, this.signer, retrieval);
    return question(url, signed).catch((cause) => {
      throw new AttestorSilent(reasonOf(cause), { cause });
    });
  }
}
