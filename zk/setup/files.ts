/** Setups in folders, as `bb` reads them: `bn254_g1.dat`, `bn254_g2.dat`, and the transcript of those that we made. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { keccak256 } from "ethers";
import { powerAt, type Contribution, type Setup } from "./ceremony";
import { G1_BYTES, G1_GENERATOR, g1ToBytes, G2_BYTES } from "./points";
import { Problem } from "../../oracle/problem";

const [POWERS, POWER_IN_G2, TRANSCRIPT] = ["bn254_g1.dat", "bn254_g2.dat", "transcript.json"];

/** The setup that is committed here, enough for 64-32-10. Who made it could have kept its secrets: for development only. */
export const DEVELOPMENT_SETUP = path.join(__dirname, "../development-setup");

/** The power in G2 of Aztec's setup, a ceremony in which 176 parties took part. */
export const CANONICAL_POWER_IN_G2 = Buffer.from(
  "0118c4d5b837bcc2bc89b5b398b5974e9f5944073b32078b7e231fec938883b0" +
    "260e01b251f6f1c7e7ff4e580791dee8ea51d87a358e038b4efe30fac09383c1" +
    "22febda3c0c0632a56475b4214e5615e11e6dd3f96e6cea2854a87d4dacc5e55" +
    "04fc6369f7110fe3d25156c1bb9a72859cf2a04641f99ba4ee413c80da6a5fe4",
  "hex",
);

/** What names a setup: keccak256 of its power in G2, which is all of it that a verifier holds. */
export const setupIdOf = (powerInG2: Uint8Array): string => keccak256(powerInG2);

export function saveSetup({ powers, powerInG2, transcript }: Setup, folder: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, POWERS), powers);
  writeFileSync(path.join(folder, POWER_IN_G2), powerInG2);
  writeFileSync(path.join(folder, TRANSCRIPT), `${JSON.stringify(transcript, null, 2)}\n`);
}

/** @throws Problem if the folder has no whole setup */
export function loadSetup(folder: string): Setup {
  const { powers, powerInG2 } = loadPowers(folder);
  return { powers, powerInG2, transcript: JSON.parse(read(folder, TRANSCRIPT).toString("utf8")) as Contribution[] };
}

/** A setup without its transcript: of Aztec's nobody has it here. */
export function loadPowers(folder: string): Omit<Setup, "transcript"> {
  const [powers, powerInG2] = [read(folder, POWERS), read(folder, POWER_IN_G2)];
  const begins = powers.length >= 2 * G1_BYTES && Buffer.compare(powerAt(powers, 0), g1ToBytes(G1_GENERATOR)) === 0;
  if (begins && powers.length % G1_BYTES === 0 && powerInG2.length === G2_BYTES) return { powers, powerInG2 };
  throw new Problem(
    `${folder} holds no setup: ${POWERS} has ${powers.length} bytes and ${POWER_IN_G2} ${powerInG2.length}. Make one by zk:setup.`,
  );
}

function read(folder: string, file: string): Buffer {
  try {
    return readFileSync(path.join(folder, file));
  } catch (cause) {
    throw new Problem(`${folder} has no ${file}: make a setup by zk:setup, or name the folder of one.`, { cause });
  }
}
