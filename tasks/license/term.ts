import {
  choice,
  dateOf,
  eventOf,
  licenseId,
  optional,
  send,
  sendingTask,
  type Session,
  type TaskRecord,
} from "../support";
import { accountOf, statusOf } from "./show";

export interface RenewLicense {
  license: bigint;
  /** Whether it shall renew at its terms' ends; without it, it is renewed now. */
  auto?: "on" | "off";
}

/** Starts the next term of a license with a minimum spend, or says whether it shall ever start one. */
export async function renewLicense(session: Session, { license, auto }: RenewLicense): Promise<TaskRecord> {
  const { escrow } = session.licet;
  await accountOf(session, license);
  if (auto === undefined) await send(escrow.renew, license);
  else await send(escrow.setRenewal, license, auto === "on");
  const { term, expiresAt, renews } = await accountOf(session, license);
  return { license, term, "term ends": dateOf(expiresAt), "starts another term": renews };
}

/** Ends a license for ever. What is missing to its minimum stays due. */
export async function endLicense(session: Session, { license }: { license: bigint }): Promise<TaskRecord> {
  const { escrow } = session.licet;
  await accountOf(session, license);
  await send(escrow.end, license);
  const due = await escrow.committedOf(license);
  return { license, status: await statusOf(session, license), "stays due": session.money.of(due) };
}

/** Charges what is missing to the minimum of a term that is over. */
export async function closeTerm(session: Session, { license }: { license: bigint }): Promise<TaskRecord> {
  const { escrow } = session.licet;
  await accountOf(session, license);
  const { endedAt, charged } = eventOf(await send(escrow.closeTerm, license), "TermClosed");
  return {
    license,
    "term that ended": dateOf(endedAt),
    charged: session.money.of(charged),
    status: await statusOf(session, license),
  };
}

/** Pays an upfront price out: to the publisher, or after a recall back into the license. */
export async function releaseUpfront(session: Session, { license }: { license: bigint }): Promise<TaskRecord> {
  const { escrow } = session.licet;
  await accountOf(session, license);
  const { amount } = await escrow.upfrontOf(license);
  const { logs } = await send(escrow.releaseUpfront, license);
  const isReturned = logs.some((log) => "eventName" in log && log.eventName === "UpfrontReturned");
  return { license, price: session.money.of(amount), goes: isReturned ? "back into its account" : "to the publisher" };
}

sendingTask("license:renew", {
  about: "Starts the next term of a license with a minimum spend; --auto says whether yours shall ever start one",
  example: "--license 1 --auto off",
  parameters: {
    license: licenseId(),
    auto: optional(choice("Whether your license shall renew when a term ends", "on", "off")),
  },
  act: renewLicense,
});

const parameters = { license: licenseId() };

sendingTask("license:end", {
  about: "Ends your license for ever; what is missing to its minimum spend stays due",
  example: "--license 1",
  parameters,
  act: endLicense,
});

sendingTask("license:close", {
  about: "Closes a term that is over: charges what is missing to its minimum spend",
  example: "--license 1",
  parameters,
  act: closeTerm,
});

sendingTask("license:upfront", {
  about: "Pays an upfront price to the publisher after its hold, or back into its account after a recall",
  example: "--license 1",
  parameters,
  act: releaseUpfront,
});
