import { dateOf, flag, licenseId, send, sendingTask, type Session, type TaskRecord } from "../support";
import { ownAccountOf } from "./show";

export interface DemandSigning {
  license: bigint;
  /** Ask for it no more. */
  withdraw?: boolean;
}

/** Has only such use of the signer's license count as its grants' keys have signed, request by request. */
export async function demandSigning(session: Session, { license, withdraw }: DemandSigning): Promise<TaskRecord> {
  const { court } = session.licet;
  await ownAccountOf(session, license);
  await send(court.demandSigning, license, withdraw !== true);
  const since = await court.signedSince(license);
  return { license, "signed requests only, in epochs from": since === 0n ? "never" : dateOf(since) };
}

sendingTask("license:signing", {
  about: "Has only such use of your license count as your keys sign request by request, from an hour ahead on",
  example: "--license 1",
  parameters: { license: licenseId(), withdraw: flag("Ask for it no more") },
  act: demandSigning,
});
