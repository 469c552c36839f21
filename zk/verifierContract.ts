/** The Solidity verifier that `bb` writes for a verification key, for the setup that the key was made with. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { hexlify } from "ethers";
import type { Architecture } from "./architecture";
import { runBarretenberg } from "./barretenberg";
import { CANONICAL_POWER_IN_G2 } from "./setup/files";
import { Problem } from "../oracle/problem";

const CONTRACT = "contract HonkVerifier is IVerifier";
const INTERFACE = "interface IVerifier";

/** What the verifier of an architecture is called. */
export function verifierName({ inputs, hidden, outputs, shift }: Architecture): string {
  return `Honk${inputs}x${hidden}x${outputs}s${shift}Verifier`;
}

/**
 * @param verificationKey its file
 * @param powerInG2 of the setup: 128 bytes
 * @throws Problem if `bb` writes another kind of verifier than this one knows
 */
export async function writeVerifier(
  architecture: Architecture,
  verificationKey: string,
  powerInG2: Uint8Array,
): Promise<string> {
  const name = verifierName(architecture);
  const written = await verifierOf(verificationKey);
  const ours = wordsOf(powerInG2);
  const changes: [string, string][] = [
    // `bb` writes Aztec's power into every verifier, whatever the setup.
    ...wordsOf(CANONICAL_POWER_IN_G2).map((word, i): [string, string] => [word, ours[i]]),
    [CONTRACT, `contract ${name} is I${name}`],
    [INTERFACE, `interface I${name}`],
  ];
  return changes.reduce((source, [from, to]) => replaceOnly(source, from, to), written);
}

const wordsOf = (powerInG2: Uint8Array): string[] =>
  [0, 32, 64, 96].map((at) => hexlify(powerInG2.subarray(at, at + 32)));

async function verifierOf(verificationKey: string): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "licet-verifier-"));
  try {
    const file = path.join(folder, "verifier.sol");
    await runBarretenberg(["write_solidity_verifier", "-k", verificationKey, "-o", file, "-t", "evm", "--optimized"]);
    return readFileSync(file, "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function replaceOnly(source: string, from: string, to: string): string {
  const parts = source.split(new RegExp(from, "i"));
  if (parts.length === 2) return parts.join(to);
  throw new Problem(
    `bb writes a verifier that has "${from}" ${parts.length - 1} times, and not once: use @aztec/bb.js 5.0.0.`,
  );
}
