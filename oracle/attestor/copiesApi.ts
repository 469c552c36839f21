/** Where an attestor takes receipts ahead of their batches, and gives them back to the operator that lost its own. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { MOST_RECEIPTS_SENT, POSITION_HEADER, RECEIPTS_PATH, RETRIEVAL_HEADER, retrievalFromText } from "./attestorApi";
import type { Copies } from "./copies";
import { Intake } from "./intake";
import { MalformedMessage, signedReceiptFromJson } from "../protocol/messages";
import { requestSignatureBytes } from "../protocol/requestSignature";
import { reasonOf, shown } from "../problem";
import { encodeReceipt, frameOf, RECEIPTS_MEDIA_TYPE, recordsOf } from "../protocol/receiptBytes";

/** A thousand receipts have 350 kB as a frame, and 1.3 MB as JSON. */
const BODY_LIMIT = 2 * 2 ** 20;

/** How much of such requests is read at once. */
const READ_AT_ONCE = 32 * BODY_LIMIT;

const NDJSON_MEDIA_TYPE = "application/x-ndjson";

/** Takes frames of receipts, or their JSON a line each, and gives operators their own. */
export function serveCopies(server: FastifyInstance, copies: Copies, self: string): void {
  server.addContentTypeParser(RECEIPTS_MEDIA_TYPE, { parseAs: "buffer" }, async (_: FastifyRequest, body: Buffer) =>
    recordsOf(body),
  );
  server.addContentTypeParser(NDJSON_MEDIA_TYPE, { parseAs: "string" }, async (_: FastifyRequest, body: string) =>
    recordsFromLines(body),
  );
  const intake = new Intake(READ_AT_ONCE);
  const onRequest = async (request: FastifyRequest, reply: FastifyReply) => intake.admit(request, reply);
  server.post(RECEIPTS_PATH, { bodyLimit: BODY_LIMIT, onRequest }, async ({ body }) => {
    if (!Array.isArray(body)) {
      throw new MalformedMessage(`receipts come as ${RECEIPTS_MEDIA_TYPE} or as ${NDJSON_MEDIA_TYPE}, not otherwise`);
    }
    if (body.length > MOST_RECEIPTS_SENT) {
      throw new MalformedMessage(`${body.length} receipts came at once; ${MOST_RECEIPTS_SENT} are the most`);
    }
    return copies.keep(body as Buffer[]);
  });

  server.get(RECEIPTS_PATH, async ({ headers, query }, reply) => {
    const { after = "0" } = query as { after?: unknown };
    if (typeof after !== "string" || !/^[0-9]{1,18}$/.test(after)) {
      throw new MalformedMessage(`after must be the position of an answer, not ${shown(after)}`);
    }
    const signed = retrievalFromText(headers[RETRIEVAL_HEADER]);
    const { records, position } = await copies.retrieve(signed, self, BigInt(after));
    return reply.type(RECEIPTS_MEDIA_TYPE).header(POSITION_HEADER, String(position)).send(frameOf(records));
  });
}

/** A signed receipt, and in `requestSignature` that of its request, if it was signed. */
function recordFromJson(json: unknown): Buffer {
  const { requestSignature, ...signed } = (json ?? {}) as Record<string, unknown>;
  if (requestSignature === undefined) return encodeReceipt(signedReceiptFromJson(json));
  return Buffer.concat([encodeReceipt(signedReceiptFromJson(signed)), requestSignatureBytes(requestSignature)]);
}

/** @throws MalformedMessage that names the line */
function recordsFromLines(text: string): Buffer[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line, i) => {
      try {
        return recordFromJson(JSON.parse(line));
      } catch (cause) {
        throw new MalformedMessage(`receipt ${i + 1}: ${reasonOf(cause)}`, { cause });
      }
    });
}
