/**
 * The manifest of a version: what its files are, down to the last byte. An asset's version commits to the manifest's hash,
 * so the JSON is canonical (RFC 8785: keys in order, no white space) and one folder has one manifest.
 */
import { keccak256, toUtf8Bytes } from "ethers";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Problem } from "../problem";

const FORMAT = "manifest/1";

export interface ManifestFile {
  /** Relative to the folder, with forward slashes. */
  path: string;
  /** In bytes. */
  size: number;
  /** 64 lower-case hex digits, as `sha256sum` prints them. */
  sha256: string;
}

export interface Manifest {
  licet: typeof FORMAT;
  /** Ascending by path, in UTF-16 code units. */
  files: ManifestFile[];
}

/** How a folder departs from its manifest. */
export interface Difference {
  path: string;
  problem: "missing" | "extra" | "changed";
}

/** Called as bytes are hashed: those done and those there are in all. */
export type OnProgress = (bytesDone: number, bytesTotal: number) => void;

/** A folder or a manifest that no version can be made of. The message names the file and what is wrong with it. */
export class ManifestError extends Problem {
  override name = "ManifestError";
}

interface FoundFile {
  path: string;
  size: number;
}

/**
 * Hashes every file of a folder.
 * @throws ManifestError if there is no file, or a symbolic link or something else that isn't a plain file
 */
export async function buildManifest(folder: string, onProgress: OnProgress = () => {}): Promise<Manifest> {
  const found = await filesIn(folder);
  if (found.length === 0) throw new ManifestError(`${folder} has no files; a version needs at least one`);
  return { licet: FORMAT, files: await hashFiles(folder, found, onProgress) };
}

/**
 * What differs between a folder and a manifest, by path; nothing if the folder is the version.
 * Files whose size differs aren't read.
 * @throws ManifestError as `buildManifest` does
 */
export async function verifyFolder(
  folder: string,
  manifest: Manifest,
  onProgress: OnProgress = () => {},
): Promise<Difference[]> {
  const expected = new Map(manifest.files.map((file) => [file.path, file]));
  const found = new Map((await filesIn(folder)).map((file) => [file.path, file]));

  const sameSize = [...found.values()].filter((file) => expected.get(file.path)?.size === file.size);
  const hashed = await hashFiles(folder, sameSize, onProgress);
  const intact = new Set(
    hashed.filter((file) => expected.get(file.path)!.sha256 === file.sha256).map(({ path }) => path),
  );

  const differences: Difference[] = [];
  for (const path of [...new Set([...expected.keys(), ...found.keys()])].sort()) {
    if (!found.has(path)) differences.push({ path, problem: "missing" });
    else if (!expected.has(path)) differences.push({ path, problem: "extra" });
    else if (!intact.has(path)) differences.push({ path, problem: "changed" });
  }
  return differences;
}

/** The one JSON text of a manifest. */
export function canonicalJson({ files, licet }: Manifest): string {
  return JSON.stringify({ files: files.map(({ path, sha256, size }) => ({ path, sha256, size })), licet });
}

/** keccak256 of the canonical JSON: what a version commits to on chain. */
export function manifestHash(manifest: Manifest): string {
  return keccak256(toUtf8Bytes(canonicalJson(manifest)));
}

/**
 * Reads a manifest that somebody else wrote.
 * @throws ManifestError if it isn't canonical or a path could lead out of the folder
 */
export function parseManifest(text: string): Manifest {
  const manifest = parseJson(text);
  if (manifest?.licet !== FORMAT) throw new ManifestError(`A manifest says "licet":"${FORMAT}"; this one doesn't`);
  if (!Array.isArray(manifest.files) || manifest.files.length === 0) {
    throw new ManifestError("A manifest lists at least one file; this one doesn't");
  }
  manifest.files.forEach(requireFile);
  requireAscending(manifest.files);
  if (canonicalJson(manifest) !== text) {
    throw new ManifestError("The manifest isn't canonical: keys must be in order, without white space or other keys");
  }
  return manifest;
}

function parseJson(text: string): Manifest {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ManifestError("The manifest isn't JSON", { cause });
  }
}

function requireFile(file: ManifestFile): void {
  requirePath(file?.path);
  if (!Number.isSafeInteger(file.size) || file.size < 0) {
    throw new ManifestError(`${file.path}: the size must be a number of bytes, not ${JSON.stringify(file.size)}`);
  }
  if (!/^[0-9a-f]{64}$/.test(file.sha256)) {
    throw new ManifestError(`${file.path}: the sha256 must be 64 lower-case hex digits, not "${file.sha256}"`);
  }
}

/** Backslashes are refused since they separate folders on one system and not on another. */
function requirePath(path: unknown): void {
  const portable = typeof path === "string" && !path.includes("\\") && !path.includes("\0");
  if (!portable || path.split("/").some((name) => name === "" || name === "." || name === "..")) {
    throw new ManifestError(
      `${JSON.stringify(path)} isn't a file's path: names with forward slashes between them, none of them empty, "." or ".."`,
    );
  }
}

function requireAscending(files: ManifestFile[]): void {
  const misplaced = files.findIndex((file, i) => i > 0 && file.path <= files[i - 1].path);
  if (misplaced > 0) {
    throw new ManifestError(`${files[misplaced].path} must come before ${files[misplaced - 1].path}, and only once`);
  }
}

/** Every file below the folder, ascending by path. */
async function filesIn(folder: string): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  const visit = async (prefix: string) => {
    for (const entry of await readdir(join(folder, prefix), { withFileTypes: true })) {
      const path = prefix + entry.name;
      requirePath(path);
      if (entry.isDirectory()) await visit(`${path}/`);
      else if (entry.isFile()) found.push({ path, size: (await stat(join(folder, path))).size });
      else throw new ManifestError(`${path} is neither a plain file nor a folder; replace links by what they point to`);
    }
  };
  await visit("");
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function hashFiles(folder: string, files: FoundFile[], onProgress: OnProgress): Promise<ManifestFile[]> {
  const bytesTotal = files.reduce((sum, file) => sum + file.size, 0);
  let bytesDone = 0;
  const hashed: ManifestFile[] = [];
  for (const { path, size } of files) {
    const hash = createHash("sha256");
    let read = 0;
    for await (const chunk of createReadStream(join(folder, path))) {
      hash.update(chunk);
      read += chunk.length;
      onProgress(bytesDone + read, bytesTotal);
    }
    if (read !== size) throw new ManifestError(`${path} changed while it was read: it had ${size} bytes, then ${read}`);
    bytesDone += size;
    hashed.push({ path, size, sha256: hash.digest("hex") });
  }
  return hashed;
}
