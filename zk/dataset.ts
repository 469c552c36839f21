/** What networks are trained on and tested with. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { seeded, shuffle } from "./random";
import { Problem } from "../oracle/problem";

export interface Example {
  /** Bytes. */
  input: number[];
  class: number;
}

export interface Split {
  training: Example[];
  /** What training never sees. */
  heldOut: Example[];
}

/**
 * @param file a compressed CSV file: a row an example, its inputs, then its class
 * @throws Problem that names the row that isn't one
 */
export function loadExamples(file: string): Example[] {
  const rows = readRows(file).trim().split("\n");
  const width = rows[0].split(",").length;
  return rows.map((row, at) => {
    const numbers = row.split(",").map(Number);
    const isExample = numbers.length === width && width > 1 && numbers.every((n) => Number.isInteger(n) && n >= 0 && n <= 255); // prettier-ignore
    if (!isExample) throw new Problem(`Row ${at + 1} of ${file} isn't ${width} whole numbers from 0 to 255.`);
    return { input: numbers.slice(0, -1), class: numbers[width - 1] };
  });
}

/** A fifth is held out, the same for a seed. */
export function splitExamples(examples: readonly Example[], seed: number): Split {
  const shuffled = shuffle([...examples], seeded(seed));
  const count = Math.round(examples.length / 5);
  return { heldOut: shuffled.slice(0, count), training: shuffled.slice(count) };
}

function readRows(file: string): string {
  try {
    return gunzipSync(readFileSync(file)).toString("utf8");
  } catch (cause) {
    throw new Problem(`${file} can't be read as a compressed CSV file: ${(cause as Error).message}`, { cause });
  }
}
