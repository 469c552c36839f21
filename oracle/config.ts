import { computeAddress, getAddress } from "ethers";
import type { Clock } from "./chain/ethersChain";
import { GATEWAY_DEFAULTS } from "./gateway/gateway";
import { Problem, shown } from "./problem";
import { decodeBearer } from "./protocol/messages";

/** What a configuration file says, with its keys read from the environment. */
export interface OracleConfig {
  clock: Clock;
  logLevel: LogLevel;
  /** Where stores are kept. */
  dataFolder: string;
  gateway?: GatewaySection;
  settler?: SettlerSection;
  attestor?: AttestorSection;
}

const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
type LogLevel = (typeof LOG_LEVELS)[number];

export interface GatewaySection {
  host: string;
  port: number;
  operatorId: number;
  signingKey: string;
  models: { id: string; upstreamUrl: string; upstreamModel?: string; versionId: bigint; gpus?: number }[];
  defaultMaxTokens: number;
  maxTokensCeiling: number;
  requestTimeoutMs: number;
  receiveTimeoutMs: number;
  chainTimeoutMs: number;
}

export interface SettlerSection {
  privateKey: string;
  proposalKey: string;
  attestors: { address: string; url: string }[];
  confirmations: number;
  intervalMs: number;
  epochSeconds?: number;
  receiptsPerBatch?: number;
}

export interface AttestorSection {
  host: string;
  port: number;
  privateKey: string;
  receiveTimeoutMs: number;
  canaries: CanarySection[];
}

export interface CanarySection {
  operatorId: number;
  planId: number;
  versionId: bigint;
  gatewayUrl: string;
  apiKey: string;
  modelId: string;
  meanIntervalMs: number;
  timeoutMs: number;
  maxTokens: number;
}

/** The configuration can't be used: the message names the field, its value, and what it should be. */
export class ConfigError extends Problem {
  override name = "ConfigError";
}

type Environment = Record<string, string | undefined>;

/**
 * Reads a configuration. Secrets are never in it: it names the environment variables that hold them.
 * @throws ConfigError
 */
export function parseConfig(text: string, environment: Environment): OracleConfig {
  const root = new Section("", parseJson(text), environment);
  const config: OracleConfig = {
    clock: root.choice("clock", ["machine", "chain"] as const, "machine"),
    logLevel: root.choice("logLevel", LOG_LEVELS, "info"),
    dataFolder: root.text("dataFolder"),
    gateway: root.optional("gateway", gatewayOf),
    settler: root.optional("settler", settlerOf),
    attestor: root.optional("attestor", attestorOf),
  };
  root.end();
  if (config.gateway === undefined && config.settler === undefined && config.attestor === undefined) {
    throw new ConfigError("The configuration starts nothing: it needs a section gateway, settler or attestor.");
  }
  return config;
}

const PORTS: Range = [0, 65_535];
const OPERATORS: Range = [1, 2 ** 24 - 1];
const PLANS: Range = [1, 2 ** 32 - 1];
const AN_HOUR: Range = [1, 3_600];
const A_DAY: Range = [1, 86_400];

function gatewayOf(section: Section): GatewaySection {
  const maxTokensCeiling = section.count("maxTokensCeiling", [1, 1_000_000], GATEWAY_DEFAULTS.maxTokensCeiling);
  const defaultMaxTokens = Math.min(GATEWAY_DEFAULTS.defaultMaxTokens, maxTokensCeiling);
  return {
    host: section.text("host", GATEWAY_DEFAULTS.host),
    port: section.count("port", PORTS, GATEWAY_DEFAULTS.port),
    operatorId: section.count("operatorId", OPERATORS),
    signingKey: section.privateKey("signingKeyVariable"),
    models: section.listOf("models", "id", (model) => ({
      id: model.text("id"),
      upstreamUrl: model.url("upstreamUrl"),
      upstreamModel: model.has("upstreamModel") ? model.text("upstreamModel") : undefined,
      versionId: model.id("versionId"),
      // A receipt counts the milliseconds of all of them, over an hour at the most, in 32 bits.
      gpus: model.has("gpus") ? model.count("gpus", [1, 1_000]) : undefined,
    })),
    defaultMaxTokens: section.count("defaultMaxTokens", [1, maxTokensCeiling], defaultMaxTokens),
    maxTokensCeiling,
    requestTimeoutMs: section.seconds("requestTimeoutSeconds", AN_HOUR, GATEWAY_DEFAULTS.requestTimeoutMs),
    receiveTimeoutMs: section.seconds("receiveTimeoutSeconds", AN_HOUR, GATEWAY_DEFAULTS.receiveTimeoutMs),
    chainTimeoutMs: section.seconds("chainTimeoutSeconds", [1, 60], GATEWAY_DEFAULTS.chainTimeoutMs),
  };
}

function settlerOf(section: Section): SettlerSection {
  return {
    privateKey: section.privateKey("keyVariable"),
    proposalKey: section.privateKey("signingKeyVariable"),
    attestors: section.listOf("attestors", "address", (attestor) => ({
      address: attestor.address("address"),
      url: attestor.url("url"),
    })),
    // Nodes that aren't archives know the state of some 128 blocks.
    confirmations: section.count("confirmations", [1, 100], 2),
    intervalMs: section.seconds("intervalSeconds", A_DAY, 30_000),
    epochSeconds: section.has("epochSeconds") ? section.count("epochSeconds", [1, 7 * 86_400]) : undefined,
    receiptsPerBatch: section.has("receiptsPerBatch") ? section.count("receiptsPerBatch", [1, 100_000]) : undefined,
  };
}

function attestorOf(section: Section): AttestorSection {
  return {
    host: section.text("host", "127.0.0.1"),
    port: section.count("port", PORTS, 8090),
    privateKey: section.privateKey("keyVariable"),
    receiveTimeoutMs: section.seconds("receiveTimeoutSeconds", AN_HOUR, 60_000),
    canaries: section.listOf("canaries", null, (canary) => ({
      operatorId: canary.count("operatorId", OPERATORS),
      planId: canary.count("planId", PLANS),
      versionId: canary.id("versionId"),
      gatewayUrl: canary.url("gatewayUrl"),
      apiKey: canary.apiKey("apiKeyVariable"),
      modelId: canary.text("modelId"),
      meanIntervalMs: canary.seconds("meanIntervalSeconds", A_DAY, 300_000),
      timeoutMs: canary.seconds("timeoutSeconds", AN_HOUR, 30_000),
      maxTokens: canary.count("maxTokens", [1, 4_096], 16),
    })),
  };
}

const BYTE_ORDER_MARK = /^\uFEFF/;

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.replace(BYTE_ORDER_MARK, ""));
  } catch (cause) {
    throw new ConfigError(`The configuration is no JSON: ${(cause as Error).message}`, { cause });
  }
}

/** The least and the most. */
type Range = readonly [number, number];

/** Of variables as people name them: a key or a grant that stands where its variable's name should is none. */
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const BARE_KEY = /^[0-9a-fA-F]{40,}$/;

/** One object of the file. Every field is asked for by name; `end` refuses those that nobody asked for. */
class Section {
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

  count(name: string, [least, most]: Range, fallback?: number): number {
    const value = this.value(name, fallback);
    if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    throw this.wrong(name, value, `a whole number from ${least} to ${most}`);
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
    const value = this.text(name);
    try {
      return getAddress(value);
    } catch {
      throw this.wrong(name, value, "an address");
    }
  }

  /** What the environment variable holds that the field names. */
  private secret(name: string): string {
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

  private at(name: string): string {
    return this.path === "" ? name : `${this.path}.${name}`;
  }

  private wrong(name: string, value: unknown, expected: string): ConfigError {
    return new ConfigError(`${this.at(name)} must be ${expected}; it is ${shown(value)}.`);
  }
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
