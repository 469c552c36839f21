import { LINEAGE } from "../../oracle/chain/statuses";
import {
  address,
  assetId,
  oneOf,
  optional,
  send,
  sendingTask,
  percent,
  text,
  type Session,
  type TaskRecord,
} from "../support";
import { showAsset } from "./show";

export interface SetPolicy {
  asset: number;
  /** Number of a DerivativePolicy. */
  policy: number;
  /** Basis points. */
  minShare: number;
}

/** Says who may register assets that come from the signer's, from now on. */
export async function setPolicy(session: Session, { asset, policy, minShare }: SetPolicy): Promise<TaskRecord> {
  await send(session.licet.assets.setPolicy, asset, policy, minShare);
  return showAsset(session, { asset });
}

/** Says where the metadata of the signer's asset now is. */
export async function describeAsset(session: Session, args: { asset: number; uri: string }): Promise<TaskRecord> {
  await send(session.licet.assets.describe, args.asset, args.uri);
  return showAsset(session, args);
}

/** Hands the signer's royalty on sales of an asset's token to somebody else. */
export async function handOnRoyalty(session: Session, args: { asset: number; to: string }): Promise<TaskRecord> {
  await send(session.licet.assets.setRoyaltyReceiver, args.asset, args.to);
  return showAsset(session, args);
}

sendingTask("asset:policy", {
  about: "Says who may register assets that come from yours, from now on",
  example: "--asset 1 --policy Open --min-share 20%",
  parameters: {
    asset: assetId(),
    policy: oneOf("Who else may derive from it", LINEAGE.DerivativePolicy),
    minShare: optional(percent("The least share of its income that a child must give under an open policy"), "0%"),
  },
  act: setPolicy,
});

sendingTask("asset:describe", {
  about: "Says where your asset's metadata now is",
  example: "--asset 1 --uri ipfs://new",
  parameters: { asset: assetId(), uri: text("Where the asset's metadata is") },
  act: describeAsset,
});

sendingTask("asset:royalty", {
  about: "Hands your royalty on sales of an asset's token (ERC-2981) to somebody else",
  example: `--asset 1 --to 0x${"00".repeat(19)}a1`,
  parameters: { asset: assetId(), to: address("Who gets it from now on") },
  act: handOnRoyalty,
});
