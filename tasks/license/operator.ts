import {
  choice,
  flag,
  licenseId,
  operatorId,
  optional,
  Problem,
  send,
  sendingTask,
  type Session,
  type TaskRecord,
} from "../support";
import { accountOf, ATTESTED, serviceOf, VOUCHERS } from "./show";

export interface ChangeOperator {
  license: bigint;
  /** The present one, if it isn't named. */
  operator?: number;
  /** The present one, if it isn't named. */
  road?: typeof ATTESTED | typeof VOUCHERS;
  /** Put in force what was announced. */
  apply?: boolean;
}

/** Announces another operator or road for a license, or puts the announced one in force. */
export async function changeOperator(session: Session, args: ChangeOperator): Promise<TaskRecord> {
  const { escrow } = session.licet;
  const { license, operator, road, apply } = args;
  const account = await accountOf(session, license);
  const isNamed = operator !== undefined || road !== undefined;
  if (isNamed === (apply === true)) throw new Problem("Say --operator, --road or both, or --apply alone.");
  if (apply === true) {
    await send(escrow.applyServiceChange, license);
  } else {
    const onVoucherRoad = road === undefined ? account.onVoucherRoad : road === VOUCHERS;
    await send(escrow.changeService, license, operator ?? account.operatorId, onVoucherRoad);
  }
  return { license, ...serviceOf(await accountOf(session, license)) };
}

sendingTask("license:operator", {
  about: "Announces another operator or road for your license; naming the present ones takes it back",
  example: "--license 1 --operator 2",
  parameters: {
    license: licenseId(),
    operator: optional(operatorId("The id of the operator that shall serve it")),
    road: optional(choice("How it shall settle: attested batches, or vouchers that you sign", ATTESTED, VOUCHERS)),
    apply: flag("Put in force what was announced, after its wait; anybody may"),
  },
  act: changeOperator,
});
