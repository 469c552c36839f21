import {
  address,
  dateOf,
  eventOf,
  licenseId,
  optional,
  send,
  sendingTask,
  text,
  thawFlags,
  thawStep,
  timeOf,
  Problem,
  type Session,
  type TaskRecord,
} from "../support";
import { ownAccountOf } from "./show";

export interface WithdrawFromLicense {
  license: bigint;
  /** All that the license holds, if it isn't named. */
  amount?: string;
  /** Who gets it; the signer if it isn't named. */
  to?: string;
  anew?: boolean;
  cancel?: boolean;
}

/** Announces a withdrawal; called again once its wait is over, sends the money. */
export async function withdrawFromLicense(session: Session, args: WithdrawFromLicense): Promise<TaskRecord> {
  const { money } = session;
  const { escrow } = session.licet;
  const { license } = args;
  const { balance, thawing, thawReadyAt } = await ownAccountOf(session, license);
  const amount = args.amount === undefined ? undefined : money.parse(args.amount, "--amount");
  const free = async () => {
    const committed = await escrow.committedOf(license);
    return committed < balance ? balance - committed : balance;
  };
  const announce = async (units: bigint) => eventOf(await send(escrow.thaw, license, units), "ThawStarted");

  switch (thawStep({ amount: thawing, readyAt: thawReadyAt }, await timeOf(session.hre), { ...args, amount })) {
    case "announce": {
      if (balance === 0n) throw new Problem(`License ${license} holds no money.`);
      const { amount: announced, readyAt } = await announce(amount ?? (await free()));
      return { license, announced: money.of(announced), "can be withdrawn after": dateOf(readyAt) };
    }
    case "wait":
      return { license, announced: money.of(thawing), "can be withdrawn after": dateOf(thawReadyAt) };
    case "collect": {
      const to = args.to ?? session.signer.address;
      const { amount: withdrawn } = eventOf(await send(escrow.withdraw, license, to), "Withdrawn");
      return { license, withdrawn: money.of(withdrawn), to };
    }
    case "cancel":
      await announce(0n);
      return { license, "stays in": money.of(thawing) };
  }
}

sendingTask("license:withdraw", {
  about: "Announces a withdrawal from your license; run again after the wait, sends the money",
  example: "--license 1 --amount 12.5",
  parameters: {
    license: licenseId(),
    amount: optional(text("Such as 12.5 (default: all that it holds)")),
    to: optional(address("Who gets it (default: you)")),
    ...thawFlags,
  },
  act: withdrawFromLicense,
});
