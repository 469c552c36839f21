import { readFileSync } from "node:fs";
import { chargesOf } from "../oracle/chain/charges";
import { connectChain } from "../oracle/chain/ethersChain";
import { connectVoucherChain } from "../oracle/chain/voucherChain";
import { checkReceipts, requestKeysOf } from "../oracle/licensee/receiptCheck";
import { listReceipts, type ListedReceipt } from "../oracle/licensee/receiptList";
import { inFile } from "../oracle/licensee/voucherBooks";
import { checkVouchers, claimedTerms, type VoucherPayment } from "../oracle/licensee/voucherCheck";
import { isCommittedTo, requestHashOf, responseHashOf } from "../oracle/protocol/classification";
import { decodeBearer, grantDigest, saltedHash } from "../oracle/protocol/messages";
import type { SignedGrant } from "../oracle/protocol/types";
import { unpackVoucherOutcomes } from "../oracle/protocol/vouchers";
import { accountOf } from "./license/show";
import { bytes32, optional, Problem, readingTask, text, type Session, type TaskRecord } from "./support";

export interface VerifyReceipts {
  /** An API key of the license. */
  key: string;
  /** Base URL of the gateway; the endpoint that the license's operator has registered, if it isn't named. */
  url?: string;
  /** A request's id, as answers name it, to hold bodies against its receipt. */
  id?: string;
  /** Files with what was sent for that request, and with what came back. */
  request?: string;
  response?: string;
  /** The file of the books that licetFetch keeps of its vouchers. */
  books?: string;
}

/** Holds a license's receipts against each other, against the chain, and against what was charged, by batches and by vouchers. */
export async function verifyReceipts(session: Session, args: VerifyReceipts): Promise<TaskRecord> {
  const { licet, money, hre, book } = session;
  const signed = decodeBearer(args.key);
  const { licenseId } = signed.grant;
  const { operatorId: current } = await accountOf(session, licenseId);
  const url = args.url ?? (await licet.operators.operatorOf(current)).endpoint;
  const receipts = await listReceipts(url, args.key);
  const operatorId = BigInt(receipts[0]?.receipt.operatorId ?? current);

  const escrow = await licet.escrow.getAddress();
  const place = { escrow, fromBlock: book.block };
  const chain = await connectChain(hre.ethers.provider, { ...place, clock: "chain" });
  const charges = await chargesOf(licet.escrow, book.block, licenseId, { operatorId });
  const own = grantDigest(chain.domain, signed.grant);
  const keys = requestKeysOf(own, signed.grant);
  const checked = await checkReceipts(chain, licenseId, receipts, charges, undefined, keys);
  const { problems, usage, cost, unsettled, byVoucher, grants } = checked;
  const account = await (await connectVoucherChain(hre.ethers.provider, place)).account(licenseId, await chain.now());
  const vouchers = checkVouchers({
    ...{ licenseId, operatorId: Number(operatorId), receipts: byVoucher },
    payments: await paymentsOf(session, operatorId, licenseId),
    account: account?.operatorId === Number(operatorId) ? account : null,
    claimed: account === null ? [] : await claimedTerms(url, args.key),
    signed: args.books === undefined ? null : inFile(args.books).load(licenseId).signed,
  });
  const batched = charges.reduce((sum, { charged }) => sum + charged, 0n);
  problems.push(...vouchers.problems, ...bodyProblems(args, receipts, signed, own));
  return {
    license: licenseId,
    operator: operatorId,
    gateway: url,
    receipts: receipts.length,
    ...usage,
    "worth before discounts": money.of(cost),
    "not settled yet": money.of(unsettled + vouchers.unpaid),
    "charged so far": money.of(batched + vouchers.paid),
    "of it by vouchers": money.of(vouchers.paid),
    grants: [...grants].map(([grant, used]) => ({
      grant,
      receipts: used.receipts,
      worth: money.of(used.cost),
      "this key's": grant === own,
    })),
    problems,
  };
}

/** What an operator's vouchers were charged of a license, by their logs. */
async function paymentsOf({ licet, book }: Session, operatorId: bigint, licenseId: bigint): Promise<VoucherPayment[]> {
  const { escrow } = licet;
  const settled = await escrow.queryFilter(escrow.filters.VouchersSettled(operatorId), book.block);
  return settled
    .flatMap(({ args: { outcomes } }) => unpackVoucherOutcomes(outcomes))
    .filter((outcome) => outcome.licenseId === licenseId);
}

/** The hashes of bodies are keyed with the grant's salt: only who has the grant can hold them against bodies. */
function bodyProblems(
  { id, request, response }: VerifyReceipts,
  receipts: ListedReceipt[],
  { grant }: SignedGrant,
  grantHash: string,
): string[] {
  if (id === undefined) {
    if (request === undefined && response === undefined) return [];
    throw new Problem("--request and --response need --id: the request's, which x-licet-receipt-id named.");
  }
  const receipt = receipts.map((listed) => listed.receipt).find(({ requestId }) => requestId === id);
  if (receipt === undefined) return [`Request ${id} has no receipt`];
  if (receipt.grantHash !== grantHash) {
    throw new Problem(`Request ${id} came under grant ${receipt.grantHash}: give the key that it was sent with.`);
  }
  const bodies = [
    { flag: "--request", file: request, hash: receipt.requestHash },
    { flag: "--response", file: response, hash: receipt.responseHash },
  ];
  return bodies.flatMap(({ flag, file, hash }) => {
    if (file === undefined) return [];
    const bytes = readBytes(file, flag);
    const found = saltedHash(grant.salt, bytes);
    return found === hash ||
      isCommittedTo(hash, flag === "--request" ? requestHashOf : responseHashOf, grant.salt, bytes)
      ? []
      : [`Receipt ${receipt.sequence} says ${hash} of its ${flag.slice(2)}; ${file} has ${found}`];
  });
}

function readBytes(file: string, flag: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new Problem(`${flag} ${file} can't be read: ${(cause as Error).message}`, { cause });
  }
}

readingTask("receipts:verify", {
  about: "Verifies your license's receipts: their signatures, order and counts, and what was charged for them",
  example: "--key AAAA…",
  parameters: {
    key: text("An API key of the license, as license:grant printed it"),
    url: optional(text("Base URL of the gateway (default: the endpoint that the license's operator has registered)")),
    id: optional(bytes32("A request whose bodies are checked, by what x-licet-receipt-id said")),
    request: optional(text("File with the body that was sent for it, to the byte")),
    response: optional(text("File with the body that came back, to the byte")),
    books: optional(text("File with the books that licetFetch keeps of the vouchers that it signs")),
  },
  act: verifyReceipts,
  passes: ({ problems }) => (problems as string[]).length === 0,
});
