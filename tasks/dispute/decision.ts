/** What a court's decision did with money, as a transaction's events tell. */
import type { ContractTransactionReceipt } from "ethers";
import { dateOf, eventsOf, type Session, type TaskRecord } from "../support";

export async function decisionIn(session: Session, sent: ContractTransactionReceipt): Promise<TaskRecord> {
  const { licet, money } = session;
  const [[refund], [release], slashes] = await Promise.all([
    eventsOf(licet.escrow, sent, "ChargeRefunded"),
    eventsOf(licet.escrow, sent, "ChargeReleased"),
    eventsOf(licet.staking, sent, "StakeSlashed"),
  ]);
  const record: TaskRecord = {};
  if (refund !== undefined) {
    const kept = (refund.toAsset as bigint) + (refund.fee as bigint);
    record["back in the license's balance"] = money.of(refund.toBalance as bigint);
    if (kept > 0n) record["kept for its term's minimum"] = money.of(kept);
  }
  if (release !== undefined) record["the charge can be released from"] = dateOf(release.releasableAt as bigint);
  if (slashes.length > 0) {
    const sum = (name: string) => slashes.reduce((total, event) => total + (event[name] as bigint), 0n);
    record["taken of the operator's own stake"] = money.of(sum("toBeneficiary"));
    record["taken of delegations, for the treasury"] = money.of(sum("toTreasury"));
  }
  return record;
}
