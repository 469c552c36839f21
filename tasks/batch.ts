import { licetTask, type Session, type TaskRecord } from "./support";

/** Releases a batch whose hold is over, and has the committee share its part. */
export async function releaseBatch(session: Session, args: { batch: string }): Promise<TaskRecord> {
  const { escrow, committee } = session.licet;
  await (await escrow.release(args.batch)).wait();
  const { charged, planId } = await escrow.batchOf(args.batch);
  const split = await escrow.splitOf(args.batch);
  const { attestor } = await session.licet.licenses.sharesOf(planId);
  if (attestor === session.book.contracts.CommitteeAttestor) await (await committee.shareIncome(args.batch)).wait();
  const { money } = session;
  return {
    batch: args.batch,
    charged: money.of(charged),
    operator: money.of(split.operator),
    publisher: money.of(split.publisher),
    attestors: money.of(split.attestor),
    "protocol fee": money.of(split.fee),
  };
}

licetTask("batch:release", "Releases a batch whose hold is over", releaseBatch).addParam("batch", "The batch's id");
