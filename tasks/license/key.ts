import { dataLength } from "ethers";
import { AS_OF_NOW, statusName } from "../../oracle/chain/statuses";
import {
  bytes,
  dateOf,
  flag,
  licenseId,
  optional,
  Problem,
  send,
  sendingTask,
  text,
  type Session,
  type TaskRecord,
} from "../support";
import { accountOf } from "./show";

export interface ChangeVoucherKey {
  license: bigint;
  /** 20 bytes of an ECDSA key's address, or 64 of a P-256 key's coordinates. */
  key: string;
  /** The most that it may bring a term's spending to, in whole units of the currency; more than before, if it has one. */
  cap?: string;
  /** It may sign no longer. */
  revoke?: boolean;
}

const KEY_BYTES = [20, 64];

/** Lets a key sign vouchers for a license of the signer's, or revokes it; with neither, only shows what it may. */
export async function changeVoucherKey(session: Session, args: ChangeVoucherKey): Promise<TaskRecord> {
  const { escrow } = session.licet;
  const { license, key, cap, revoke } = args;
  if (cap !== undefined && revoke === true) throw new Problem("Say either --cap or --revoke.");
  if (!KEY_BYTES.includes(dataLength(key))) {
    throw new Problem(`--key must have ${KEY_BYTES.join(" or ")} bytes; it has ${dataLength(key)}.`);
  }
  const { generation } = await accountOf(session, license);
  if (cap !== undefined) await send(escrow.addVoucherKey, license, key, session.money.parse(cap, "--cap", 56));
  if (revoke === true) await send(escrow.revokeVoucherKey, license, key);
  const [status, record] = await escrow.voucherKeyOf(license, generation, key, AS_OF_NOW);
  return {
    license,
    key,
    generation,
    status: statusName("VoucherKeyStatus", status),
    cap: session.money.of(record.cap),
    ...(record.endsAt === 0n ? {} : { "what it signed counts until": dateOf(record.endsAt) }),
  };
}

sendingTask("license:key", {
  about: "Lets a key sign vouchers for your license, or revokes it; with neither --cap nor --revoke, shows what it may",
  example: `--license 1 --key 0x${"00".repeat(19)}a1 --cap 5`,
  parameters: {
    license: licenseId(),
    key: bytes("The key: an address, or the 64 bytes of a P-256 key's coordinates"),
    cap: optional(text("The most that it may bring a term's spending to, such as 5; to lower it, add another key")),
    revoke: flag("It may sign no longer, nor ever again in this generation"),
  },
  act: changeVoucherKey,
});
