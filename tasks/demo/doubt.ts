/** A licensee's doubt of one answer, as the court takes it. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { chargesOf } from "../../oracle/chain/charges";
import { statusName } from "../../oracle/chain/statuses";
import { decodeBearer } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import type { Statement } from "../../zk/circuit";
import { contextOf, saltUnder } from "../../zk/commitments";
import type { Model } from "../../zk/network";
import { mintCurrency } from "../currency";
import { openChallenge } from "../dispute";
import { readReceipt, textOf } from "../support";
import type { Asked, Reader } from "./digits";
import { gainOf } from "./ending";
import type { Settled } from "./epochs";
import type { Narrator } from "./narrator";
import type { Operation } from "./operation";

/** A charge that its licensee has challenged, for one receipt. */
export interface Doubt {
  challengeId: bigint;
  chargeId: string;
  /** Currency units. */
  charged: bigint;
  bond: bigint;
  receipt: Receipt;
  receiptHash: string;
}

/** A licensee challenges what it was charged, for a receipt that the gateway gave it. */
export async function challenge(
  narrator: Narrator,
  { gateway, folder }: Operation,
  { batch: { batchId } }: Settled,
  { session, license, apiKey }: Reader,
  { requestId }: Asked,
): Promise<Doubt> {
  const { licet, money, signer, book } = session;
  const { escrow, court, currency } = licet;
  const shown = await fetch(`${gateway.url}/v1/receipts/${requestId}`, {
    headers: { authorization: `Bearer ${apiKey}` },
  });
  const file = path.join(folder, `${requestId}.json`);
  writeFileSync(file, await shown.text());
  const { receipt } = readReceipt(file, "receipt");
  const [{ chargeId, charged }] = await chargesOf(escrow, book.block, license, { batchId });
  const bond = await court.bondFor(charged);
  await mintCurrency(session, { amount: money.of(bond).amount });
  const paid = await gainOf(session, () => openChallenge(session, { license, receipt: file, uri: "" }));
  const challengeId = await court.challengeOfCharge(chargeId);
  narrator.say(`${signer.address} doubts receipt ${receipt.sequence} of license ${license}: challenge ${challengeId}`);
  narrator.check(
    `its charge of ${textOf(money.of(charged))} is frozen, and no other; ${textOf(money.of(bond))} are its bond`,
    statusName("BatchStatus", await escrow.batchStatusOf(chargeId)) === "Frozen" &&
      statusName("BatchStatus", await escrow.batchStatusOf(batchId)) === "Held" &&
      (await currency.balanceOf(book.contracts.DisputeCourt)) === bond &&
      paid === -bond,
  );
  const { receiptHash } = await court.challengeOf(challengeId);
  return { challengeId, chargeId, charged, bond, receipt, receiptHash };
}

/** That a network answers what was asked, as the receipt says. */
export function statementFor(model: Model, { apiKey }: Reader, { input }: Asked, receiptHash: string): Statement {
  const { salt } = decodeBearer(apiKey).grant;
  return {
    model,
    input,
    inputSalt: saltUnder(salt, "input"),
    outputSalt: saltUnder(salt, "output"),
    context: contextOf(receiptHash),
  };
}
