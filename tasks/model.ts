import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ZeroAddress, ZeroHash } from "ethers";
import {
  buildManifest,
  canonicalJson,
  manifestHash,
  parseManifest,
  verifyFolder,
  type Difference,
  type Manifest,
  type OnProgress,
} from "../oracle/protocol/manifest";
import { numberOf, versionIdOf } from "../oracle/protocol/versionId";
import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import { readEach } from "../oracle/chain/parallel";
import { REGISTRATION_PARAMETERS, registerAssetOf, type RegistrationArguments } from "./asset/register";
import {
  address,
  assetId,
  bytes32,
  dateOf,
  eventOf,
  optional,
  progressBar,
  readingTask,
  send,
  sendingTask,
  text,
  wholeNumber,
  type Session,
  type TaskRecord,
} from "./support";

/** A version that a folder is published as. */
export interface VersionOfFolder {
  /** The folder that holds the version's files, and nothing else. */
  folder: string;
  /** Where the version's manifest and files are. */
  versionUri: string;
  weightsCommitment?: string;
  /** The contract that checks proofs of inference against that. */
  inferenceVerifier?: string;
  /** What changed since the version before, for people. */
  changes?: string;
  /** File to keep the manifest in. */
  out?: string;
}

export type RegisterModel = VersionOfFolder & RegistrationArguments;

export interface RegisteredModel {
  asset: number;
  version: bigint;
  manifest: string;
  files: string[];
}

/** Hashes a folder, registers a model for it, and publishes the folder as the model's first version. */
export async function registerModel(session: Session, args: RegisterModel): Promise<TaskRecord & RegisteredModel> {
  const manifest = await hashFolder(args.folder);
  return publish(session, await registerAssetOf(session, args), manifest, args);
}

export interface PublishVersion extends VersionOfFolder {
  asset: number;
}

/** Hashes a folder and publishes it as a registered model's next version. */
export async function publishVersion(session: Session, args: PublishVersion): Promise<TaskRecord & RegisteredModel> {
  await session.licet.assets.ownerOf(args.asset);
  return publish(session, args.asset, await hashFolder(args.folder), args);
}

async function publish(
  session: Session,
  asset: number,
  manifest: Manifest,
  { versionUri, weightsCommitment, inferenceVerifier, changes, out }: VersionOfFolder,
): Promise<TaskRecord & RegisteredModel> {
  const hash = manifestHash(manifest);
  if (out !== undefined && !session.rehearsal) keep(manifest, out);
  const { versionId } = eventOf(
    await send(
      session.licet.assets.publish,
      asset,
      hash,
      weightsCommitment ?? ZeroHash,
      inferenceVerifier ?? ZeroAddress,
      versionUri,
      changes ?? "",
    ),
    "VersionPublished",
  );
  return {
    asset,
    version: versionId as bigint,
    manifest: hash,
    files: manifest.files.map(({ path: file, size }) => `${file} (${size} bytes)`),
  };
}

function keep(manifest: Manifest, file: string): void {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  writeFileSync(file, canonicalJson(manifest));
}

/** A model and all its versions. */
export async function showModel({ licet }: Session, { asset }: { asset: number }): Promise<TaskRecord> {
  const { assets } = licet;
  const [owner, uri, count] = await Promise.all([
    assets.ownerOf(asset),
    assets.tokenURI(asset),
    assets.versionCountOf(asset),
  ]);
  const ids = Array.from({ length: Number(count) }, (_, i) => versionIdOf(asset, i + 1));
  return { asset, owner, uri, versions: await readEach(ids, (id) => describeVersion(licet, id)) };
}

async function describeVersion({ assets }: Session["licet"], version: bigint) {
  const [{ manifestHash, publishedAt, publishedBy, recallAt, uri, changes }, status] = await Promise.all([
    assets.versionOf(version),
    assets.statusOf(version, AS_OF_NOW),
  ]);
  return {
    number: numberOf(version),
    version,
    status: statusName("VersionStatus", status),
    manifest: manifestHash,
    published: dateOf(publishedAt),
    by: publishedBy,
    ...(recallAt === 0n ? {} : { "usable until": dateOf(recallAt) }),
    uri,
    ...(changes === "" ? {} : { changes }),
  };
}

export interface RecallVersion {
  asset: number;
  /** Of the version within the model, from 1. */
  number: number;
}

/** Recalls a version, for ever: after a notice its use can't be charged any more. */
export async function recallVersion({ licet }: Session, { asset, number }: RecallVersion): Promise<TaskRecord> {
  const version = versionIdOf(asset, number);
  const { recallAt } = eventOf(await send(licet.assets.recall, version), "VersionRecalled");
  return { asset, number, version, "usable until": dateOf(recallAt) };
}

export interface VerifyModel {
  asset: number;
  folder: string;
  /** File of the manifest that the folder should be: what differs is named, file by file. */
  manifest?: string;
}

/** Hashes a folder and says which version of a model it is; with a manifest, what keeps it from being that one. */
export async function verifyModel(session: Session, args: VerifyModel): Promise<TaskRecord & { published: boolean }> {
  const { assets } = session.licet;
  await assets.ownerOf(args.asset);
  const expected = args.manifest === undefined ? undefined : parseManifest(readFileSync(args.manifest, "utf8"));
  const differences = expected && (await differencesFrom(expected, args.folder));
  const hash = manifestHash(expected ?? (await hashFolder(args.folder)));
  const version = await assets.versionOfManifest(args.asset, hash);
  return {
    asset: args.asset,
    folder: args.folder,
    manifest: hash,
    version: version === 0n ? "none" : version,
    status: statusName("VersionStatus", await assets.statusOf(version, AS_OF_NOW)),
    ...(differences && { differences: differences.map(({ path, problem }) => `${path}: ${problem}`) }),
    published: version !== 0n && (differences ?? []).length === 0,
  };
}

async function differencesFrom(manifest: Manifest, folder: string): Promise<Difference[]> {
  return withProgress((onProgress) => verifyFolder(folder, manifest, onProgress));
}

const hashFolder = (folder: string): Promise<Manifest> =>
  withProgress((onProgress) => buildManifest(folder, onProgress));

async function withProgress<T>(hash: (onProgress: OnProgress) => Promise<T>): Promise<T> {
  const bar = progressBar("hashing");
  try {
    return await hash(bar.update);
  } finally {
    bar.end();
  }
}

const folderParameters = {
  folder: text("The folder that holds the version's files, and nothing else"),
  versionUri: text("Where the version's manifest and files are"),
  weightsCommitment: optional(bytes32("What proofs of inference are checked against")),
  inferenceVerifier: optional(address("The contract that checks them against that")),
  changes: optional(text("What changed since the version before, for people")),
  out: optional(text("Also keep the manifest in this file")),
};

sendingTask("model:register", {
  about: "Registers a model, an adapter or a dataset, and publishes a folder as its first version",
  example: "--folder models/lic380k --uri ipfs://model --version-uri ipfs://version --parents 1:FineTunedFrom:20%",
  parameters: { ...folderParameters, ...REGISTRATION_PARAMETERS },
  act: registerModel,
});

sendingTask("model:publish", {
  about: "Publishes a folder as the next version of your model",
  example: "--asset 1 --folder models/lic380k --version-uri ipfs://version-2",
  parameters: { ...folderParameters, asset: assetId() },
  act: publishVersion,
});

readingTask("model:show", {
  about: "Shows a model and its versions",
  example: "--asset 1",
  parameters: { asset: assetId() },
  act: showModel,
});

sendingTask("model:recall", {
  about: "Recalls a version of your model, for ever: after a notice its use can't be charged any more",
  example: "--asset 1 --number 2",
  parameters: {
    asset: assetId(),
    number: wholeNumber("The version's number within the model, from 1", 1, 2 ** 32 - 1),
  },
  act: recallVersion,
});

readingTask("model:verify", {
  about: "Hashes a folder and says which version of a model it is; exit code 1 if it is none",
  example: "--asset 1 --folder models/lic380k --manifest manifest.json",
  parameters: {
    asset: assetId(),
    folder: text("The folder to hash"),
    manifest: optional(text("The manifest that it should have: every file that differs is named")),
  },
  act: verifyModel,
  passes: ({ published }) => published === true,
});
