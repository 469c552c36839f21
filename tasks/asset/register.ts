import { LINEAGE } from "../../oracle/chain/statuses";
import type { IAssetRegistry } from "../../typechain-types/contracts/AssetRegistry";
import {
  eventOf,
  listOf,
  numberOf,
  oneOf,
  optional,
  parsePercent,
  Problem,
  send,
  sendingTask,
  percent,
  text,
  wholeNumber,
  type Parameter,
  type Session,
  type TaskRecord,
} from "../support";
import { readApproval } from "./approve";

const UINT32_MAX = 2 ** 32 - 1;

type Edge = IAssetRegistry.EdgeStruct & { parentId: number };

/** What an asset is registered as. */
export interface RegistrationArguments {
  /** Where its metadata is. */
  uri: string;
  /** Number of an AssetKind; a model if it isn't named. */
  kind?: number;
  /** What it came from. */
  parents?: Edge[];
  /** Files that `asset:approve` wrote, of parents that ask for it. */
  approvals?: string[];
  /** Bit field of what it may be used for; all that its parents permit if it isn't named. */
  uses?: number;
  /** Number of a DerivativePolicy; closed if it isn't named. */
  policy?: number;
  /** Basis points of its income that a child must give, under an open policy. */
  minShare?: number;
  /** Basis points of the price that a sale of its token owes. */
  royalty?: number;
}

/** Registers an asset. @returns its id */
export async function registerAssetOf(session: Session, args: RegistrationArguments): Promise<number> {
  const { assets } = session.licet;
  const parents = [...(args.parents ?? [])].sort((a, b) => a.parentId - b.parentId);
  const registration = {
    kind: args.kind ?? LINEAGE.AssetKind.indexOf("Model"),
    uri: args.uri,
    permittedUses: args.uses ?? (await usesOf(session, parents)),
    policy: args.policy ?? LINEAGE.DerivativePolicy.indexOf("Closed"),
    minShareBps: args.minShare ?? 0,
    royaltyBps: args.royalty ?? 0,
    parents,
  };
  const registered = await send(assets.register, registration, approvalsFor(parents, args.approvals ?? []));
  return Number(eventOf(registered, "AssetRegistered").assetId);
}

/** What all of the parents permit; everything where there are none. */
async function usesOf({ licet: { assets } }: Session, parents: Edge[]): Promise<number> {
  const permitted = await Promise.all(
    parents.map(async ({ parentId }) => (await assets.assetOf(parentId)).permittedUses),
  );
  return Number(permitted.reduce((uses, one) => uses & one, BigInt(UINT32_MAX)));
}

/** One for each parent, all zero where no file is of it. @throws Problem for a file that is of none */
function approvalsFor(parents: Edge[], files: string[]): IAssetRegistry.DerivationApprovalStruct[] {
  const read = files.map((file) => ({ file, ...readApproval(file) }));
  const stray = read.find(({ derivation }) => parents.every(({ parentId }) => parentId !== derivation.parentId));
  if (stray !== undefined) {
    throw new Problem(`--approvals: ${stray.file} is of asset ${stray.derivation.parentId}, which isn't a parent.`);
  }
  return parents.map(({ parentId }) => {
    const found = read.find(({ derivation }) => derivation.parentId === parentId);
    if (found === undefined) return { salt: 0, deadline: 0, signature: "0x" };
    return { salt: found.derivation.salt, deadline: found.derivation.deadline, signature: found.signature };
  });
}

/** Registers an asset without a version. */
export async function registerAsset(
  session: Session,
  args: RegistrationArguments,
): Promise<TaskRecord & { asset: number }> {
  const asset = await registerAssetOf(session, args);
  const { kind, permittedUses } = await session.licet.assets.assetOf(asset);
  return { asset, kind: LINEAGE.AssetKind[Number(kind)], "permitted uses": permittedUses };
}

/** A parent as the command line names it: `1:FineTunedFrom:20%`. */
const parent: Parameter<Edge> = {
  ...text("A parent"),
  parse: (value, name) => {
    const parts = /^(\d{1,10}):(\w+):([^:]+)$/.exec(value);
    if (parts === null) {
      throw new Problem(
        `${name} must be an asset's id, a relation and a share, such as 1:FineTunedFrom:20%; it is "${value}".`,
      );
    }
    const [, parentId, relation, incomeBps] = parts;
    return {
      parentId: wholeNumber("", 1, UINT32_MAX).parse(parentId, name),
      relation: numberOf(relation, name, LINEAGE.Relation),
      incomeBps: parsePercent(incomeBps, name),
    };
  },
};

const PARENTS = `What it came from, with the share of its income that is each one's, such as 1:FineTunedFrom:20%,3:TrainedOn:5%`;

export const REGISTRATION_PARAMETERS = {
  uri: text("Where the asset's metadata is"),
  kind: optional(oneOf("What it is", LINEAGE.AssetKind), "Model"),
  parents: optional({ ...listOf(parent), about: PARENTS }),
  approvals: optional(listOf(text("Files of asset:approve, of parents that ask for it, with commas between them"))),
  uses: optional(
    wholeNumber("Bit field of what it may be used for (default: all that its parents permit)", 0, UINT32_MAX),
  ),
  policy: optional(oneOf("Who else may derive from it", LINEAGE.DerivativePolicy), "Closed"),
  minShare: optional(percent("The least share of its income that a child must give under an open policy"), "0%"),
  royalty: optional(percent("What a sale of its token owes you of the price (ERC-2981)"), "0%"),
};

sendingTask("asset:register", {
  about: "Registers a model, an adapter or a dataset, without a version: model:publish adds them",
  example: "--uri ipfs://dataset --kind Dataset --policy Open --min-share 5%",
  parameters: REGISTRATION_PARAMETERS,
  act: registerAsset,
});
