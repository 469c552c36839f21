import {
  address,
  dateOf,
  eventOf,
  flag,
  licenseId,
  optional,
  Problem,
  send,
  sendingTask,
  type Session,
  type TaskRecord,
} from "../support";
import { accountOf, statusOf } from "./show";

export interface TransferLicense {
  license: bigint;
  /** Who gets it, once its wait is over. */
  to?: string;
  /** Let it be used again, by its owner of now. */
  unlock?: boolean;
}

/** Locks a license; called again once its wait is over, transfers it. Its new owner unlocks it. */
export async function transferLicense(session: Session, args: TransferLicense): Promise<TaskRecord> {
  const { escrow, licenses } = session.licet;
  const { license, to } = args;
  await accountOf(session, license);
  if (args.unlock === true) {
    await send(escrow.unlock, license);
    return { license, status: await statusOf(session, license) };
  }
  const movableAt = await licenses.movableAt(license);
  switch (await statusOf(session, license)) {
    case "Locked": {
      if (movableAt === 0n) throw new Problem(`License ${license} was transferred: its owner says --unlock to use it.`);
      return { license, status: "Locked", "can be transferred after": dateOf(movableAt) };
    }
    case "Movable": {
      if (to === undefined) throw new Problem(`License ${license} can be transferred now: say --to whom, or --unlock.`);
      await send(licenses["safeTransferFrom(address,address,uint256)"], session.signer.address, to, license);
      return { license, owner: to, status: await statusOf(session, license) };
    }
    default: {
      const { movableAt } = eventOf(await send(escrow.lock, license), "LicenseLocked");
      return { license, status: "Locked", "can be transferred after": dateOf(movableAt) };
    }
  }
}

sendingTask("license:transfer", {
  about: "Locks your license, and when run again after the wait transfers it; the new owner unlocks it",
  example: "--license 1 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
  parameters: {
    license: licenseId(),
    to: optional(address("Who gets it, once its wait is over")),
    unlock: flag("Let a locked license be used again, by its owner of now"),
  },
  act: transferLicense,
});
