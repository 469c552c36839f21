import { randomBytes, toBigInt, TypedDataEncoder } from "ethers";
import { writeFileSync } from "node:fs";
import { percentOf } from "../../oracle/chain/refusal";
import { LINEAGE } from "../../oracle/chain/statuses";
import { DERIVATION_TYPES, derivationDomainOf } from "../../oracle/protocol/derivations";
import {
  address,
  assetId,
  dateOf,
  eventOf,
  oneOf,
  optional,
  parseBytes,
  period,
  Problem,
  readingTask,
  readJson,
  send,
  sendingTask,
  percent,
  text,
  timeOf,
  toJson,
  type Session,
  type TaskRecord,
} from "../support";

/** As the parent's owner signs it. */
export interface Derivation {
  parentId: number;
  registrant: string;
  /** Number of a Relation. */
  relation: number;
  incomeBps: number;
  salt: bigint;
  /** Unix seconds. */
  deadline: bigint;
  /** How often the parent has been transferred. */
  transferCount: bigint;
}

export interface ApproveDerivation {
  asset: number;
  /** Who may register what came from the asset. */
  registrant: string;
  relation: number;
  /** Basis points of its income that the asset gets. */
  share: number;
  /** How long it counts, in seconds. */
  valid: number;
  /** Where the approval is written to. */
  out: string;
}

/** Signs that somebody may register one asset that came from the signer's. Nothing is sent to the chain. */
export async function approveDerivation(session: Session, args: ApproveDerivation): Promise<TaskRecord> {
  const { asset, registrant, relation, share: incomeBps, valid, out } = args;
  await requireOwner(session, asset);
  const derivation: Derivation = {
    parentId: asset,
    registrant,
    relation,
    incomeBps,
    salt: toBigInt(randomBytes(32)),
    deadline: BigInt((await timeOf(session.hre)) + valid),
    transferCount: await session.licet.assets.transferCountOf(asset),
  };
  const { chainId } = await session.hre.ethers.provider.getNetwork();
  const domain = derivationDomainOf(chainId, await session.licet.assets.getAddress());
  const signature = await session.signer.signTypedData(domain, DERIVATION_TYPES, derivation);
  writeFileSync(out, toJson({ derivation, signature }));
  return {
    asset,
    registrant,
    relation: LINEAGE.Relation[relation],
    share: percentOf(BigInt(incomeBps)),
    "counts until": dateOf(derivation.deadline),
    hash: TypedDataEncoder.hash(domain, DERIVATION_TYPES, derivation),
    file: out,
  };
}

async function requireOwner({ licet, signer }: Session, asset: number): Promise<void> {
  const owner = await licet.assets.ownerOf(asset);
  if (owner === signer.address) return;
  throw new Problem(
    `Asset ${asset} is ${owner}'s, whose signature alone approves what comes from it: sign as its owner.`,
  );
}

/** Takes back an approval that wasn't used. */
export async function withdrawApproval(session: Session, { file }: { file: string }): Promise<TaskRecord> {
  const withdrawn = await send(session.licet.assets.withdrawDerivation, readApproval(file).derivation);
  const { parentId, digest } = eventOf(withdrawn, "DerivationWithdrawn");
  return { asset: parentId as bigint, hash: digest as string, status: "Withdrawn" };
}

/** @throws Problem unless the file is one that `asset:approve` wrote */
export function readApproval(file: string): { derivation: Derivation; signature: string } {
  const { derivation, signature } = readJson(file, "The approval") as Record<string, unknown>;
  try {
    const { parentId, salt, deadline, transferCount, ...rest } = derivation as Derivation;
    TypedDataEncoder.from(DERIVATION_TYPES).encode(derivation as Derivation);
    return {
      derivation: {
        ...rest,
        parentId: Number(parentId),
        salt: BigInt(salt),
        deadline: BigInt(deadline),
        transferCount: BigInt(transferCount),
      },
      signature: parseBytes(signature, "signature"),
    };
  } catch (cause) {
    throw new Problem(`${file} is no approval of asset:approve: ${(cause as Error).message}`, { cause });
  }
}

readingTask("asset:approve", {
  about: "Signs that somebody may register one asset that came from yours; nothing is sent to the chain",
  example: `--asset 1 --registrant 0x${"00".repeat(19)}a1 --relation FineTunedFrom --share 20% --out approval.json`,
  parameters: {
    asset: assetId("Your asset's id"),
    registrant: address("Who may register what came from it"),
    relation: oneOf("How it came from yours", LINEAGE.Relation),
    share: percent("What of its income is your asset's, such as 20%"),
    valid: optional(period("How long it counts, such as 12h or 30d"), "30d"),
    out: text("The file that the approval is written to"),
  },
  act: approveDerivation,
});

sendingTask("asset:disapprove", {
  about: "Takes back an approval of asset:approve that wasn't used",
  example: "--file approval.json",
  parameters: { file: text("What asset:approve wrote") },
  act: withdrawApproval,
});
