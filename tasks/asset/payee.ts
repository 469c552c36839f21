import { percentOf } from "../../oracle/chain/refusal";
import {
  address,
  assetId,
  eventOf,
  optional,
  Problem,
  requireOne,
  send,
  sendingTask,
  percent,
  wholeNumber,
  type Session,
  type TaskRecord,
} from "../support";

export interface ChangePayee {
  asset?: number;
  /** Who gets a share of the asset's income. */
  add?: string;
  /** Basis points. */
  share?: number;
  /** The payee that gives its share up. */
  giveUp?: number;
}

/** Gives somebody a share of an asset's income, or gives up the signer's own. */
export async function changePayee(session: Session, args: ChangePayee): Promise<TaskRecord> {
  requireOne({ "--add": args.add, "--give-up": args.giveUp });
  return args.giveUp === undefined ? addPayee(session, args) : giveUp(session, args.giveUp);
}

async function addPayee({ licet }: Session, { asset, add, share: incomeBps }: ChangePayee): Promise<TaskRecord> {
  if (asset === undefined || incomeBps === undefined) throw new Problem("--add takes --asset and --share, too.");
  const added = await send(licet.waterfall.addPayee, asset, add!, incomeBps);
  const { payeeId, holder } = eventOf(added, "PayeeAdded");
  return { payee: payeeId as bigint, asset, holder: holder as string, share: percentOf(BigInt(incomeBps)) };
}

async function giveUp({ licet }: Session, payee: number): Promise<TaskRecord> {
  const { assetId: asset, holder } = eventOf(await send(licet.waterfall.giveUp, payee), "PayeeGivenUp");
  return { payee, asset: asset as bigint, holder: holder as string, share: "given up" };
}

sendingTask("asset:payee", {
  about: "Gives somebody a share of your asset's income for ever, or gives up your own share of another's",
  example: `--asset 1 --add 0x${"00".repeat(19)}a1 --share 10%`,
  parameters: {
    asset: optional(assetId("The asset's id (with --add)")),
    add: optional(address("Who gets a share")),
    share: optional(percent("What of the asset's income is the payee's, such as 10% (with --add)")),
    giveUp: optional(wholeNumber("The id of your position, whose share is the owner's again", 1, 2 ** 32 - 1)),
  },
  act: changePayee,
});
