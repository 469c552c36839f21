import { computeAddress, getAddress, parseUnits } from "ethers";
import { Problem, shown } from "./problem";
import { decodeBearer } from "./protocol/messages";

/** The configuration can't be used: the message names the field, its value, and what it should be. */
export class ConfigError extends Problem {
  override name = "ConfigError";
}

export type Environment = Record<string, string | undefined>;

/** The least and the most. */
export type Range = readonly [number, number];

/** Of variables as people name them: a key or a grant that stands where its variable's name should is none. */
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const BARE_KEY = /^[0-9a-fA-F]{40,}$/;

const BYTE_ORDER_MARK = /^\uFEFF/;

/** @throws ConfigError */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.replace(BYTE_ORDER_MARK, ""));
  } catch (cause) {
    throw new ConfigError(`The configuration is no JSON: ${(cause as Error).message}`, { cause });
  }
}

/** One object of the file. Every field is asked for by name; `end` refuses those that nobody asked for. */
export class Section {
  private readonly fields: Record<string, unknown>;
  private readonly asked = new Set<string>();

  constructor(
    private readonly path: string,
    value: unknown,
    private readonly environment: Environment,
  ) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new ConfigError(`${path || "The configuration"} must be an object; it is ${shown(value)}.`);
    }
    this.fields = value as Record<string, unknown>;
  }

  has(name: string): boolean {
    this.asked.add(name);
    return this.fields[name] !== undefined;
  }

  text(name: string, fallback?: string): string {
    const value = this.value(name, fallback);
    if (typeof value === "string" && value !== "") return value;
    throw this.wrong(name, value, "a text");
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.value(name, fallback);
    if (choices.includes(value as T)) return value as T;
    throw this.wrong(name, value, `one of ${choices.join(", ")}`);
  }

  count(name: string, range: Range, fallback?: number): number {
    const value = this.value(name, fallback);
    if (isCount(value, range)) return value;
    throw this.wrong(name, value, `a whole number from ${range[0]} to ${range[1]}`);
  }

  /** A count, or a word in its place. */
  countOr<W extends string>(name: string, word: W, range: Range, fallback: number): number | W {
    const value = this.value(name, fallback);
    if (value === word) return word;
    if (isCount(value, range)) return value;
    throw this.wrong(name, value, `a whole number from ${range[0]} to ${range[1]}, or "${word}"`);
  }

  /** An amount above zero, as a number or a decimal in quotes, in units of which one has so many decimals. */
  decimal(name: string, decimals: number): bigint {
    const value = this.value(name);
    const text = typeof value === "number" ? String(value) : value;
    if (typeof text === "string" && /^\d{1,12}(\.\d+)?$/.test(text) && (text.split(".")[1] ?? "").length <= decimals) {
      const amount = parseUnits(text, decimals);
      if (amount > 0n) return amount;
    }
    throw this.wrong(name, value, `an amount above 0 with at most ${decimals} decimals, such as 0.5`);
  }

  flag(name: string): boolean {
    const value = this.value(name);
    if (typeof value === "boolean") return value;
    throw this.wrong(name, value, "true or false");
  }

  texts(name: string, fallback?: readonly string[]): string[] {
    const value = this.value(name, fallback);
    const texts = Array.isArray(value) && (value.length > 0 || fallback !== undefined);
    if (texts && value.every((item) => typeof item === "string" && item !== "")) return value as string[];
    throw this.wrong(name, value, fallback === undefined ? "a list of at least one text" : "a list of texts");
  }

  /** Given in seconds, and meant in milliseconds, as the fallback is. */
  seconds(name: string, range: Range, fallbackMs: number): number {
    return this.count(name, range, fallbackMs / 1_000) * 1_000;
  }

  /** A 64-bit id, as a decimal string, since JSON's numbers are too short for it. */
  id(name: string): bigint {
    const value = this.value(name);
    if (typeof value === "string" && /^[1-9]\d{0,18}$/.test(value) && BigInt(value) < 2n ** 63n) return BigInt(value);
    throw this.wrong(name, value, 'an id in quotes, such as "4294967297"');
  }

  /** A server's root: paths are put behind it. */
  url(name: string): string {
    const value = this.text(name);
    const root = value.replace(/\/+$/, "");
    if (!/^https?:\/\/[^?#]+$/.test(value) || !URL.canParse(value)) {
      throw this.wrong(name, value, "a URL such as http://127.0.0.1:8000");
    }
    if (root.endsWith("/v1")) throw this.wrong(name, value, `the server's root, without /v1`);
    return root;
  }

  address(name: string): string {
    return this.addressIn(name, this.text(name));
  }

  addresses(name: string): string[] {
    return this.texts(name).map((value) => this.addressIn(name, value));
  }

  private addressIn(name: string, value: string): string {
    try {
      return getAddress(value);
    } catch {
      throw this.wrong(name, value, "an address");
    }
  }

  /** What the environment variable holds that the field names. */
  secret(name: string): string {
    const variable = this.text(name);
    // What stands here may be the secret itself: it isn't repeated.
    if (!VARIABLE.test(variable) || BARE_KEY.test(variable)) {
      throw new ConfigError(`${this.at(name)} must be the name of an environment variable, which holds the secret.`);
    }
    const value = this.environment[variable];
    if (value !== undefined && value !== "") return value;
    throw new ConfigError(`${this.at(name)} names the environment variable ${variable}, which isn't set.`);
  }

  privateKey(name: string): string {
    const key = this.secret(name);
    if (isPrivateKey(key)) return key;
    throw new ConfigError(`${this.at(name)}: its environment variable must hold a private key, 0x and 64 hex digits.`);
  }

  apiKey(name: string): string {
    const key = this.secret(name);
    if (isApiKey(key)) return key;
    throw new ConfigError(
      `${this.at(name)}: its environment variable must hold an API key, as license:grant prints it.`,
    );
  }

  /** @param key the field by which they are told apart: each of its values may be there once */
  listOf<T extends object>(name: string, key: (keyof T & string) | null, parse: (section: Section) => T): T[] {
    const value = this.value(name);
    if (!Array.isArray(value) || value.length === 0) throw this.wrong(name, value, "a list of at least one");
    const items = value.map((item, i) => this.inner(`${name}[${i}]`, item, parse));
    if (key === null) return items;
    const values = items.map((item) => item[key]);
    const twice = values.find((one, i) => values.indexOf(one) !== i);
    if (twice === undefined) return items;
    throw new ConfigError(`${this.at(name)} has ${key} ${shown(twice)} twice: leave one of them out.`);
  }

  optional<T>(name: string, parse: (section: Section) => T): T | undefined {
    return this.has(name) ? this.inner(name, this.fields[name], parse) : undefined;
  }

  /** @throws if the section has a field that nothing reads */
  end(): void {
    const unknown = Object.keys(this.fields).filter((name) => !this.asked.has(name));
    if (unknown.length === 0) return;
    throw new ConfigError(`${this.at(unknown[0])} is no setting; there are ${[...this.asked].join(", ")}.`);
  }

  private inner<T>(name: string, value: unknown, parse: (section: Section) => T): T {
    const section = new Section(this.at(name), value, this.environment);
    const parsed = parse(section);
    section.end();
    return parsed;
  }

  private value(name: string, fallback?: unknown): unknown {
    this.asked.add(name);
    const given = this.fields[name];
    const value = given === undefined ? fallback : given;
    if (value === undefined) throw new ConfigError(`${this.at(name)} is missing.`);
    return value;
  }

  /** A field, by its path in the file. */
  at(name: string): string {
    return this.path === "" ? name : `${this.path}.${name}`;
  }

  private wrong(name: string, value: unknown, expected: string): ConfigError {
    return new ConfigError(`${this.at(name)} must be ${expected}; it is ${shown(value)}.`);
  }
}

function isCount(value: unknown, [least, most]: Range): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
}

/** Not every 32 bytes are one: zero and what is beyond the curve's order aren't. */
function isPrivateKey(text: string): boolean {
  return /^0x[0-9a-fA-F]{64}$/.test(text) && isParsed(() => computeAddress(text));
}

function isApiKey(text: string): boolean {
  return isParsed(() => decodeBearer(text));
}

function isParsed(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
}
