/** Where prepayments are made, over HTTP: what is asked for, what is taken, and what comes of it. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { ApiError } from "../gateway/openai";
import { GRANT_TYPES } from "../protocol/messages";
import type { Chain } from "../chain/chain";
import {
  PAYMENT_HEADER,
  PaymentMalformed,
  REQUIRED_HEADER,
  requiredHeader,
  RESPONSE_HEADER,
  responseHeader,
} from "./exact";
import { NotOnSale, PaymentRefused, StillUnderWay, type Prepayment, type Prepayments } from "./prepayments";

/** Where licenses are sold; paying at any other place buys one, too. */
export const LICENSES_PATH = "/v1/licenses";

const RETRY_SECONDS = 5;
const SOLD_OUT_RETRY_SECONDS = 60;

export class Counter {
  constructor(
    private readonly prepayments: Prepayments,
    private readonly chain: Pick<Chain, "domain">,
  ) {}

  /** Answers a request that has no grant: sells a license if it comes with a payment, and asks for one if not. */
  async serve(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const header = request.headers[PAYMENT_HEADER];
    try {
      if (typeof header !== "string") {
        await this.prepayments.requireGas();
        return this.ask(request, reply, NO_PAYMENT, "payment_required");
      }
      this.answer(await this.prepayments.take(header), reply);
    } catch (cause) {
      if (cause instanceof PaymentMalformed) return this.ask(request, reply, cause.message, "payment_malformed");
      if (cause instanceof PaymentRefused) return this.ask(request, reply, cause.message, "payment_refused");
      throw toApiError(cause);
    }
  }

  private ask(request: FastifyRequest, reply: FastifyReply, problem: string, code: string): void {
    const { requirements } = this.prepayments;
    const resource = {
      url: `${request.protocol}://${request.host}${LICENSES_PATH}`,
      description: "A license of this gateway's model, funded and yours: you sign its API keys yourself",
      mimeType: "application/json",
    };
    const message = `${problem}: ${requirements.amount} units buy and fund a license (x402), whose owner signs the API key`;
    reply
      .code(402)
      .header(REQUIRED_HEADER, requiredHeader(requirements, resource, problem))
      .header("content-type", "application/json")
      .send(new ApiError(402, code, message).toBytes());
  }

  private answer(prepayment: Prepayment, reply: FastifyReply): void {
    const { state, payment, paymentHash, resultHash, reason } = prepayment;
    const { network } = this.prepayments.requirements;
    const settled = { success: state === "bought", network, payer: payment.payer };
    if (state === "bought") {
      reply.header(RESPONSE_HEADER, responseHeader({ ...settled, transaction: paymentHash! }));
      void reply.code(201).send(this.licenseToShow(prepayment));
      return;
    }
    const transaction = resultHash ?? "";
    reply.header(RESPONSE_HEADER, responseHeader({ ...settled, transaction, errorReason: state }));
    const back = state === "refunded" ? `, and the payment went back in transaction ${resultHash}` : "";
    throw new ApiError(409, `payment_${state}`, `no license was bought (${reason})${back}: sign another payment`);
  }

  /** What its owner needs to sign a grant: see `mintGrant`. */
  private licenseToShow({ payment, licenseId, planId, deposit, paymentHash, resultHash }: Prepayment): object {
    const { chainId, ...domain } = this.chain.domain;
    return {
      object: "license",
      licenseId: String(licenseId),
      planId,
      owner: payment.payer,
      deposit: String(deposit),
      paid: String(payment.amount),
      paymentTransaction: paymentHash,
      transaction: resultHash,
      howToSignAGrant: {
        text:
          "Sign a Grant of this license with its owner's key, EIP-712: the API key is base64url of its packed fields, a " +
          "secret of which its salt is the hash, and the signature (mintGrant of Licet makes one)",
        domain: { ...domain, chainId: Number(chainId) },
        types: GRANT_TYPES,
        generation: 0,
      },
    };
  }
}

const NO_PAYMENT = "send your grant ('Authorization: Bearer <API key>'), or buy a license";

function toApiError(cause: unknown): unknown {
  const { message } = cause as Error;
  if (cause instanceof NotOnSale) {
    return new ApiError(503, "not_on_sale", message, { cause, retryAfterSeconds: SOLD_OUT_RETRY_SECONDS });
  }
  if (cause instanceof StillUnderWay) {
    const what = `the payment is under way (${message}): send the same request again, it is paid once`;
    return new ApiError(503, "payment_under_way", what, { cause, retryAfterSeconds: RETRY_SECONDS });
  }
  return cause;
}
