/** Where an attestor takes receipts and grants ahead of batches, and gives them back to the operator that lost its own. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { listOf, MOST_RECEIPTS_SENT, objectOf, RECEIPTS_PATH } from "./attestorApi";
import type { Copies } from "./copies";
import { Intake } from "./intake";
import {
  BATCHES_PATH,
  GRANTS_PATH,
  knownGrantToJson,
  LAST_RECEIPTS_PATH,
  MOST_GRANTS_SENT,
  POSITION,
  POSITION_HEADER,
  RETRIEVAL_HEADER,
  retrievalFromText,
} from "./retrievalApi";
import { MalformedMessage, signedGrantFromJson, signedReceiptFromJson } from "../protocol/messages";
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

  const operatorOf = ({ headers }: FastifyRequest) =>
    copies.operatorIn(retrievalFromText(headers[RETRIEVAL_HEADER]), self);
  const giveRecords = (reply: FastifyReply, { records, position }: { records: Uint8Array[]; position: bigint }) =>
    reply.type(RECEIPTS_MEDIA_TYPE).header(POSITION_HEADER, String(position)).send(frameOf(records));
  server.get(RECEIPTS_PATH, async (request, reply) => {
    const after = positionIn(request, 127n);
    return giveRecords(reply, await copies.copiesAfter(await operatorOf(request), after));
  });
  server.get(LAST_RECEIPTS_PATH, async (request, reply) => {
    const after = positionIn(request, 63n);
    return giveRecords(reply, await copies.lastReceiptsAfter(await operatorOf(request), after));
  });
  server.get(GRANTS_PATH, async (request) => {
    const { after = "0x" } = request.query as { after?: unknown };
    if (typeof after !== "string" || !/^0x([0-9a-f]{64})?$/.test(after)) {
      throw new MalformedMessage(`after must be the hash of an answer's last grant, or 0x, not ${shown(after)}`);
    }
    return { grants: (await copies.grantsAfter(await operatorOf(request), after)).map(knownGrantToJson) };
  });
  server.get(BATCHES_PATH, async (request) => ({ batches: await copies.openBatchesOf(await operatorOf(request)) }));

  const asked = new WeakMap<FastifyRequest, number>();
  const admitOperator = async (request: FastifyRequest, reply: FastifyReply) => {
    asked.set(request, await operatorOf(request));
    intake.admit(request, reply);
  };
  server.post(GRANTS_PATH, { bodyLimit: BODY_LIMIT, onRequest: admitOperator }, async (request) => {
    const grants = listOf("grants", objectOf(request.body).grants);
    if (grants.length > MOST_GRANTS_SENT) {
      throw new MalformedMessage(`${grants.length} grants came at once; ${MOST_GRANTS_SENT} are the most`);
    }
    return { kept: await copies.keepGrants(asked.get(request)!, grants.map(signedGrantFromJson)) };
  });
}

/** @param bits that it may have */
function positionIn({ query }: FastifyRequest, bits: bigint): bigint {
  const { after = "0" } = query as { after?: unknown };
  if (typeof after === "string" && POSITION.test(after) && BigInt(after) >> bits === 0n) return BigInt(after);
  throw new MalformedMessage(`after must be the position of an answer, not ${shown(after)}`);
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
