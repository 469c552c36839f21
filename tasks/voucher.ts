import { concat, dataSlice } from "ethers";
import { domainOf } from "../oracle/protocol/messages";
import { packVouchers, signVoucher, unpackVoucherOutcomes } from "../oracle/protocol/vouchers";
import { accountOf } from "./license";
import {
  bytes,
  eventOf,
  licenseId,
  listOf,
  optional,
  planId,
  Problem,
  readingTask,
  send,
  sendingTask,
  text,
  wholeNumber,
  type Session,
  type TaskRecord,
} from "./support";

export interface SignVoucher {
  license: bigint;
  /** All that was spent in the term so far, in whole units of the currency. */
  spent: string;
  /** Number of the term; the one that the account is in, if it isn't named. */
  term?: number;
}

/** Signs, with the signer's key, for all that a license has spent in a term. Nothing is sent to the chain. */
export async function signForSpent(session: Session, args: SignVoucher): Promise<TaskRecord & { voucher: string }> {
  const { hre, licet, money, signer } = session;
  const account = await accountOf(session, args.license);
  const { chainId } = await hre.ethers.provider.getNetwork();
  const voucher = {
    licenseId: args.license,
    operatorId: Number(account.operatorId),
    generation: Number(account.generation),
    term: args.term ?? Number(account.term),
    spent: money.parse(args.spent, "--spent", 56),
  };
  const signed = await signVoucher(domainOf(chainId, await licet.escrow.getAddress()), voucher, signer);
  return {
    license: voucher.licenseId,
    operator: voucher.operatorId,
    term: voucher.term,
    "spent so far": money.of(voucher.spent),
    key: signer.address,
    voucher: packVouchers([signed]),
  };
}

/** Where a packed voucher has its license. */
const LICENSE_AT = [1, 9];

export interface SettleVouchers {
  vouchers: string[];
  /** The plan that they were signed under; that of the first one's license, if it isn't named. */
  plan?: number;
}

/** Posts vouchers of licenses under one plan, served by one operator. */
export async function settleVouchers(session: Session, { vouchers, plan }: SettleVouchers): Promise<TaskRecord> {
  const { escrow } = session.licet;
  const byLicense = vouchers.map((packed) => ({ license: licenseIn(packed), packed }));
  byLicense.sort((a, b) => (a.license < b.license ? -1 : Number(a.license > b.license)));
  const account = await accountOf(session, byLicense[0].license);
  const { operatorId } = account;
  const underPlan = plan ?? account.planId;
  const packed = concat(byLicense.map((each) => each.packed));
  const settled = eventOf(await send(escrow.settleVouchers, operatorId, underPlan, packed), "VouchersSettled");
  return {
    operator: operatorId,
    plan: underPlan,
    charged: session.money.of(settled.charged),
    "to the operator": session.money.of(settled.split.operator),
    "of it to its pool": session.money.of(settled.forPool),
    vouchers: unpackVoucherOutcomes(settled.outcomes).map(({ licenseId, term, charged, status }) => ({
      license: licenseId,
      term,
      ...session.money.of(charged),
      status,
    })),
  };
}

function licenseIn(packed: string): bigint {
  try {
    return BigInt(dataSlice(packed, ...LICENSE_AT));
  } catch (cause) {
    throw new Problem(`--vouchers must be what voucher:sign prints; one is ${packed}.`, { cause });
  }
}

readingTask("voucher:sign", {
  about: "Signs with your key for all that a license has spent in a term; nothing is sent to the chain",
  example: "--license 1 --spent 2.5",
  parameters: {
    license: licenseId(),
    spent: text("All that was spent in the term so far, such as 2.5"),
    term: optional(wholeNumber("Number of the term (default: the one that its account is in)", 0, 2 ** 16 - 1)),
  },
  act: signForSpent,
});

sendingTask("voucher:settle", {
  about: "Posts vouchers of licenses under one plan, served by one operator, who is paid at once; anybody may",
  example: `--vouchers 0x${"00".repeat(84)}`,
  parameters: {
    vouchers: listOf(bytes("What voucher:sign printed, with commas between several")),
    plan: optional(
      planId("The plan that they were signed under (default: the present one of the first one's license)"),
    ),
  },
  act: settleVouchers,
});
