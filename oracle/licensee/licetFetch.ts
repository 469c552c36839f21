/**
 * A `fetch` for OpenAI clients and others: it shows the grant, signs each request where the grant has a key, and signs vouchers
 * when the gateway asks for them, as far as its own books agree.
 *
 *   new OpenAI({ baseURL, apiKey, fetch: licetFetch({ apiKey, voucherKey, ...(await connectLicensee(provider, deployment)) }) })
 */
import { KeyObject } from "node:crypto";
import { isHexString, Wallet, ZeroAddress, type Signer } from "ethers";
import { connectChain, type Clock, type RpcProvider } from "../chain/ethersChain";
import { connectVoucherChain } from "../chain/voucherChain";
import { Problem, reasonOf } from "../problem";
import { DISCLOSE_HEADER, DISCLOSE_TO } from "../protocol/disclosure";
import { decodeBearer } from "../protocol/messages";
import { REQUEST_SIGNATURE_HEADER } from "../protocol/requestSignature";
import { RequestSigner } from "./requestSigner";
import { inFile, inMemory } from "./voucherBooks";
import { VoucherSigner, type Demand, type LicenseeChain, type VoucherLimits } from "./voucherSigner";

export interface LicetFetchConfig extends LicenseeChain {
  /** A grant of the license, as `mintGrant` or `license:grant` gives it. */
  apiKey: string;
  /** The key that the grant names, if it names one: its private key in hex, or a signer that has it. */
  requestKey?: Signer | string;
  /**
   * The key that was registered for the license with a cap, in the same forms, or a private key of the curve P-256 as `node:crypto`
   * has it; without it, no vouchers are signed.
   */
  voucherKey?: Signer | string | KeyObject;
  limits?: VoucherLimits;
  /** Whether attestors may see the requests and their answers, to hold them against the receipts; they may not if left out. */
  disclose?: boolean;
  /** Where what was verified and signed is kept; in memory if left out: then it is read again after a restart. */
  file?: string;
  /** What requests are sent by; the platform's if left out. */
  fetch?: typeof fetch;
}

export interface LicetFetch {
  (input: string | URL | Request, init?: RequestInit): Promise<Response>;
  /** Signs for all that is owed, before the gateway asks for it, and hands it over. @throws Problem if that can't be done */
  pay(gatewayUrl: string): Promise<void>;
}

const VOUCHER_HEADER = "x-licet-voucher";
const PAYMENT_REQUIRED = 402;

/** What a licensee needs of the chain: a node, and the deployment's escrow and first block, by its address book. */
export async function connectLicensee(
  provider: RpcProvider,
  { escrow, fromBlock, clock = "machine" }: { escrow: string; fromBlock: number; clock?: Clock },
): Promise<LicenseeChain> {
  const [chain, vouchers] = await Promise.all([
    connectChain(provider, { escrow, fromBlock, clock }),
    connectVoucherChain(provider, { escrow, fromBlock }),
  ]);
  return { chain, vouchers };
}

/** A request that may be sent more than once. */
interface Prepared {
  request: Request;
  init: RequestInit | undefined;
  body: Uint8Array<ArrayBuffer>;
}

/**
 * What it won't sign is answered by 402 with the code `voucher_refused` and the reason, which an OpenAI client throws as an
 * APIError and doesn't repeat.
 * @throws Problem if the file is another license's or no such file, a key is none, or the grant's is lacking
 */
export function licetFetch(config: LicetFetchConfig): LicetFetch {
  const { apiKey, fetch: send = fetch } = config;
  const signer = voucherSignerOf(config);
  const requests = requestSignerOf(config);
  /** What the gateway has, so that it needn't be sent again. */
  let delivered: string | null = null;

  async function attempt({ request, init, body }: Prepared, voucher: string | null): Promise<Response> {
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${apiKey}`);
    if (config.disclose === true) headers.set(DISCLOSE_HEADER, DISCLOSE_TO);
    if (voucher !== null) headers.set(VOUCHER_HEADER, voucher);
    if (requests !== null && body.length > 0)
      headers.set(REQUEST_SIGNATURE_HEADER, await requests.sign(request.url, body));
    const { url, method, signal, redirect } = request;
    const sent = body.length > 0 ? body : undefined;
    const response = await send(url, { ...init, method, signal, redirect, headers, body: sent });
    if (response.ok && voucher !== null) delivered = voucher;
    return response;
  }

  async function fetchAndPay(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    const body = new Uint8Array(await request.arrayBuffer());
    if (signer === null) return attempt({ request, init, body }, null);
    if (body.length > 0) await signer.note(request.url, body);
    let voucher = signer.newest === delivered ? null : signer.newest;
    // Others' requests may use up what was signed for: as long as a demand leads to another voucher, it is answered.
    for (;;) {
      const response = await attempt({ request, init, body }, voucher);
      const demand = await demandIn(response);
      if (demand === null) return response;
      try {
        const next = await signer.answer(gatewayOf(request.url), demand);
        if (next === voucher) return response;
        voucher = next;
      } catch (cause) {
        if (cause instanceof Problem) return refusal(cause);
        throw cause;
      }
    }
  }

  async function pay(gatewayUrl: string): Promise<void> {
    if (signer === null) throw new Problem("There is no voucherKey to sign with: give licetFetch one.");
    for (const voucher of await signer.signAll(gatewayUrl)) {
      const url = `${gatewayUrl.replace(/\/+$/, "")}/v1/vouchers`;
      const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
      const response = await send(url, { method: "POST", headers, body: JSON.stringify({ voucher }) });
      if (!response.ok) throw new Problem(`${url} doesn't take the voucher: ${messageIn(await response.text())}`);
    }
  }

  return Object.assign(fetchAndPay, { pay });
}

function voucherSignerOf(config: LicetFetchConfig): VoucherSigner | null {
  const { voucherKey, file } = config;
  if (voucherKey === undefined) return null;
  const shelf = file === undefined ? inMemory() : inFile(file);
  const key = voucherKey instanceof KeyObject ? p256KeyOf(voucherKey) : signerOf("voucherKey", voucherKey);
  return new VoucherSigner({ ...config, voucherKey: key, shelf });
}

function p256KeyOf(key: KeyObject): KeyObject {
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (key.type === "private" && curve === "prime256v1") return key;
  const kind = [key.type, key.asymmetricKeyType, curve].filter((one) => one !== undefined).join(", ");
  throw new Problem(`voucherKey must be a private key of the curve P-256 (prime256v1), and this is another: ${kind}.`);
}

function requestSignerOf({ apiKey, chain, requestKey }: LicetFetchConfig): RequestSigner | null {
  const { key } = decodeBearer(apiKey).grant;
  if (key === ZeroAddress && requestKey === undefined) return null;
  if (key === ZeroAddress)
    throw new Problem("The grant names no key, so requests aren't signed: leave requestKey out.");
  if (requestKey !== undefined) return new RequestSigner(chain, apiKey, signerOf("requestKey", requestKey));
  throw new Problem(`The grant wants requests signed by ${key}: give licetFetch that key as requestKey.`);
}

function signerOf(what: string, key: Signer | string): Signer {
  if (typeof key !== "string") return key;
  if (isHexString(key, 32)) return new Wallet(key);
  throw new Problem(`${what} must be a signer, or a private key of 32 bytes in hex with 0x; it isn't shown here.`);
}

/** The gateway's root: what stands before `/v1`. */
function gatewayOf(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname.replace(/\/v1\/.*$/, "");
}

/** What the gateway wants to be signed; null if it answered otherwise. */
async function demandIn(response: Response): Promise<Demand | null> {
  if (response.status !== PAYMENT_REQUIRED) return null;
  try {
    const { error } = (await response.clone().json()) as { error: { code: string; voucher: Record<string, unknown> } };
    if (error.code !== "voucher_due") return null;
    const { licenseId, operatorId, generation, term, owed } = error.voucher;
    return {
      licenseId: BigInt(licenseId as string),
      operatorId: Number(operatorId),
      generation: Number(generation),
      term: Number(term),
      owed: BigInt(owed as string),
    };
  } catch {
    return null;
  }
}

function refusal(problem: Problem): Response {
  const error = { message: reasonOf(problem), type: "insufficient_quota", param: null, code: "voucher_refused" };
  return new Response(JSON.stringify({ error }), {
    status: PAYMENT_REQUIRED,
    headers: { "content-type": "application/json" },
  });
}

function messageIn(text: string): string {
  try {
    return (JSON.parse(text) as { error: { message: string } }).error.message;
  } catch {
    return text;
  }
}
