/** What a task's parameters may be. Each is parsed at once: a task's action gets values that it can trust. */
import { getAddress, isAddress, isHexString, ZeroAddress } from "ethers";
import { readFileSync } from "node:fs";
import { Problem } from "../../oracle/problem";

export interface Parameter<T> {
  about: string;
  kind: "required" | "optional" | "flag";
  /** What stands for a parameter that isn't given; nothing if it may be missing. */
  ifMissing?: string;
  /** @throws Problem unless `text` is a value; `flag` is what it is called on the command line */
  parse(text: string, flag: string): T;
}

const required = <T>(about: string, parse: Parameter<T>["parse"]): Parameter<T> => ({ about, kind: "required", parse });

/** A parameter that may be left out, for which `ifMissing` then stands, if it is given. */
export function optional<T>(parameter: Parameter<T>, ifMissing: string): Parameter<T>;
export function optional<T>(parameter: Parameter<T>): Parameter<T | undefined>;
export function optional<T>(parameter: Parameter<T>, ifMissing?: string): Parameter<T | undefined> {
  return { ...parameter, kind: "optional", ifMissing };
}

export const flag = (about: string): Parameter<boolean> => ({ about, kind: "flag", parse: () => true });

/** Any text: a file, an address on the web, or an amount, which only the deployment's currency can read. */
export const text = (about: string): Parameter<string> => required(about, (value) => value);

export const wholeNumber = (about: string, least: number, most: number): Parameter<number> =>
  required(about, (value, name) => {
    if (/^\d+$/.test(value) && Number(value) >= least && Number(value) <= most) return Number(value);
    throw new Problem(`${name} must be a whole number from ${least} to ${most}; it is "${value}".`);
  });

const id = (what: string, bits: number, about = `The ${what}'s id`): Parameter<number> =>
  wholeNumber(about, 1, 2 ** bits - 1);

export const assetId = (about?: string) => id("asset", 32, about);
export const planId = (about?: string) => id("plan", 32, about);
export const operatorId = (about?: string) => id("operator", 24, about);

const UINT64_MAX = 2n ** 64n - 1n;

export const licenseId = (): Parameter<bigint> =>
  required("The license's id", (value, name) => {
    if (/^\d{1,20}$/.test(value) && BigInt(value) >= 1n && BigInt(value) <= UINT64_MAX) return BigInt(value);
    throw new Problem(`${name} must be a license's id, a whole number from 1 to ${UINT64_MAX}; it is "${value}".`);
  });

/** Several ids of one kind, with commas between them. */
export const listOf = <T>(parameter: Parameter<T>): Parameter<T[]> => ({
  ...parameter,
  parse: (value, name) => value.split(",").map((item) => parameter.parse(item.trim(), name)),
});

export const address = (about: string): Parameter<string> => required(about, parseAddress);

export function parseAddress(value: string, name: string): string {
  const hint = isHexString(value, 20) ? "a digit of it is mistyped, by its checksum" : "0x and 40 hex digits";
  if (!isAddress(value)) throw new Problem(`${name} must be an address (${hint}); it is "${value}".`);
  if (getAddress(value) !== ZeroAddress) return getAddress(value);
  throw new Problem(`${name} must be somebody's address: nobody has the zero address.`);
}

export const bytes32 = (about: string): Parameter<string> =>
  required(about, (value, name) => {
    if (isHexString(value, 32)) return value.toLowerCase();
    throw new Problem(`${name} must be 32 bytes (0x and 64 hex digits); it is "${value}".`);
  });

export const bytes = (about: string): Parameter<string> => required(about, parseBytes);

export function parseBytes(value: unknown, name: string): string {
  if (isHexString(value) && value.length % 2 === 0) return value.toLowerCase();
  throw new Problem(`${name} must be bytes (0x and an even number of hex digits); it is ${JSON.stringify(value)}.`);
}

/** A percentage with at most two decimals, as basis points. */
export const percent = (about: string): Parameter<number> => required(about, parsePercent);

/** Basis points of a percentage such as 2.5 or 2.5%. */
export function parsePercent(value: string, name: string): number {
  const bps = /^\d{1,3}(\.\d{1,2})?%?$/.test(value) ? Math.round(Number.parseFloat(value) * 100) : NaN;
  if (bps <= 10_000) return bps;
  throw new Problem(`${name} must be between 0 and 100 with at most two decimals; it is "${value}".`);
}

/** A length of time, as seconds. */
export const period = (about: string): Parameter<number> => required(about, parsePeriod);

export const choice = <T extends string>(about: string, ...among: T[]): Parameter<T> =>
  required(about, (value, name) => {
    const chosen = among.find((one) => one === value);
    if (chosen !== undefined) return chosen;
    throw new Problem(`${name} must be ${among.join(" or ")}; it is "${value}".`);
  });

/** One of the contracts' names for something, in capitals or not, as its number. */
export const oneOf = (about: string, names: readonly string[]): Parameter<number> =>
  required(`${about}: ${names.join(", ")}`, (value, flag) => numberOf(value, flag, names));

export function numberOf(value: string, name: string, names: readonly string[]): number {
  const number = names.findIndex((one) => one.toLowerCase() === value.toLowerCase());
  if (number >= 0) return number;
  throw new Problem(`${name} must be one of ${names.join(", ")}; it is "${value}".`);
}

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const LONGEST_DAYS = 36_500;

/** Seconds of a length of time such as 90s, 30m, 12h or 30d. */
export function parsePeriod(value: string, name: string): number {
  const match = /^(\d+)([smhd])$/.exec(value);
  if (match === null) {
    throw new Problem(`${name} must be a length of time such as 30m, 12h or 30d; it is "${value}".`);
  }
  const seconds = Number(match[1]) * SECONDS[match[2]];
  if (seconds === 0 || seconds > LONGEST_DAYS * SECONDS.d) {
    throw new Problem(`${name} must be longer than 0s and at most ${LONGEST_DAYS}d; it is "${value}".`);
  }
  return seconds;
}

/** Unix seconds of a date such as 2027-01-31 or 2027-01-31T12:00:00Z. */
export function parseTime(value: unknown, name: string): number {
  const milliseconds = typeof value === "string" && /^\d{4}-\d\d-\d\d/.test(value) ? Date.parse(value) : NaN;
  if (milliseconds > 0) return Math.floor(milliseconds / 1000);
  throw new Problem(
    `${name} must be a date such as 2027-01-31 or 2027-01-31T12:00:00Z; it is ${JSON.stringify(value)}.`,
  );
}

/** @throws Problem unless exactly one of the parameters is given */
export function requireOne(parameters: Record<string, unknown>): void {
  const given = Object.values(parameters).filter((value) => value !== undefined && value !== false);
  if (given.length !== 1) throw new Problem(`Say one of ${Object.keys(parameters).join(", ")}.`);
}

/** The object that a JSON file holds. @throws Problem if it can't be read, or isn't one */
export function readJson(file: string, name: string): object {
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    throw new Error("it isn't an object in braces");
  } catch (cause) {
    throw new Problem(`${name} ${file} must be a readable JSON file: ${(cause as Error).message}.`, { cause });
  }
}
