/** Signs requests under a grant with a key, each at a time of its own: two that are alike aren't taken for one that was replayed. */
import { setTimeout as wait } from "node:timers/promises";
import type { Signer } from "ethers";
import type { Chain } from "../chain/chain";
import { Problem } from "../problem";
import { requestHashAt } from "../protocol/classification";
import { decodeBearer, grantDigest, REQUEST_TYPES } from "../protocol/messages";
import { packRequestSignature } from "../protocol/requestSignature";
import type { Grant } from "../protocol/types";

/** How old a time may be: gateways take two minutes, and clocks differ. */
const MOST_SECONDS = 90;

export class RequestSigner {
  private readonly grant: Grant;
  private readonly grantHash: string;
  /** Times at which a request was signed, with its hash: those that may come again. */
  private readonly used = new Map<string, number>();
  private isOwn: Promise<void> | undefined;

  /** @param key the key that the grant in the API key names */
  constructor(
    private readonly chain: Pick<Chain, "domain" | "now">,
    apiKey: string,
    private readonly key: Signer,
  ) {
    this.grant = decodeBearer(apiKey).grant;
    this.grantHash = grantDigest(chain.domain, this.grant);
  }

  /** The packed signature of a request with this body to a URL. @throws Problem if the key isn't the grant's */
  async sign(url: string, body: Uint8Array): Promise<string> {
    await (this.isOwn ??= this.requireOwn());
    const { grantHash } = this;
    const requestHash = requestHashAt(url, this.grant.salt, body);
    const at = await this.freeTime(requestHash);
    return packRequestSignature(
      at,
      await this.key.signTypedData(this.chain.domain, REQUEST_TYPES, { grantHash, requestHash, at }),
    );
  }

  private async requireOwn(): Promise<void> {
    const address = await this.key.getAddress();
    if (address === this.grant.key) return;
    throw new Problem(
      `requestKey is ${address}, and the grant wants requests signed by ${this.grant.key}: use its key.`,
    );
  }

  /** The latest time at which no request alike was signed; waited for where there is none. */
  private async freeTime(requestHash: string): Promise<number> {
    for (;;) {
      const now = await this.chain.now();
      for (const [one, at] of this.used) {
        if (at >= now - 2 * MOST_SECONDS) break;
        this.used.delete(one);
      }
      for (let off = 0; off <= MOST_SECONDS; off++) {
        const at = now - off;
        if (this.used.has(`${requestHash}/${at}`)) continue;
        this.used.set(`${requestHash}/${at}`, at);
        return at;
      }
      await wait(1_000);
    }
  }
}
