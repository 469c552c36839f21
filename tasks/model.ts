import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ZeroHash } from "ethers";
import { buildManifest, canonicalJson, manifestHash, type Manifest } from "../oracle/protocol/manifest";
import { progressBar } from "./progress";
import { eventOf, licetTask, type Session, type TaskRecord } from "./support";

export interface RegisterModel {
  /** The folder that holds the version's files, and nothing else. */
  folder: string;
  /** Where the model's metadata is. */
  uri: string;
  /** Where the version's manifest and files are. */
  versionUri: string;
  weightsCommitment?: string;
  /** File to keep the manifest in. */
  out?: string;
}

/** Hashes a folder, registers a model for it, and publishes the folder as the model's first version. */
export async function registerModel(session: Session, args: RegisterModel): Promise<TaskRecord & RegisteredModel> {
  const { assets } = session.licet;
  const bar = progressBar("hashing");
  const manifest = await buildManifest(args.folder, bar.update);
  bar.end();
  if (args.out !== undefined) keep(manifest, args.out);

  const hash = manifestHash(manifest);
  const registered = await eventOf(await assets.register(args.uri), "AssetRegistered");
  const published = await eventOf(
    await assets.publish(registered.assetId, hash, args.weightsCommitment ?? ZeroHash, args.versionUri),
    "VersionPublished",
  );
  return {
    asset: Number(registered.assetId),
    version: published.versionId as bigint,
    manifest: hash,
    files: manifest.files.map(({ path: file, size }) => `${file} (${size} bytes)`),
  };
}

export interface RegisteredModel {
  asset: number;
  version: bigint;
  manifest: string;
  files: string[];
}

function keep(manifest: Manifest, file: string): void {
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  writeFileSync(file, canonicalJson(manifest));
}

licetTask("model:register", "Registers a model and publishes a folder as its first version", registerModel)
  .addParam("folder", "The folder that holds the version's files, and nothing else")
  .addParam("uri", "Where the model's metadata is")
  .addParam("versionUri", "Where the version's manifest and files are")
  .addOptionalParam("weightsCommitment", "What proofs of inference are checked against, 32 bytes in hex")
  .addOptionalParam("out", "Also keep the manifest in this file");
