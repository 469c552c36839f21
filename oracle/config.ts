import { computeAddress, getAddress } from "ethers";
import type { Clock } from "./chain/ethersChain";
import { GATEWAY_DEFAULTS } from "./gateway/gateway";
import { Problem } from "./problem";

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

function gatewayOf(section: Section): GatewaySection {
  return {
    host: section.text("host", GATEWAY_DEFAULTS.host),
    port: section.count("port", GATEWAY_DEFAULTS.port, 0, 65_535),
    operatorId: section.count("operatorId"),
    signingKey: section.privateKey("signingKeyVariable"),
    models: section.list("models", (model) => ({
      id: model.text("id"),
      upstreamUrl: model.url("upstreamUrl"),
      upstreamModel: model.has("upstreamModel") ? model.text("upstreamModel") : undefined,
      versionId: model.id("versionId"),
      gpus: model.has("gpus") ? model.count("gpus") : undefined,
    })),
    defaultMaxTokens: section.count("defaultMaxTokens", GATEWAY_DEFAULTS.defaultMaxTokens),
    maxTokensCeiling: section.count("maxTokensCeiling", GATEWAY_DEFAULTS.maxTokensCeiling),
    requestTimeoutMs: section.count("requestTimeoutSeconds", GATEWAY_DEFAULTS.requestTimeoutMs / 1000) * 1000,
  };
}

function settlerOf(section: Section): SettlerSection {
  return {
    privateKey: section.privateKey("keyVariable"),
    proposalKey: section.privateKey("signingKeyVariable"),
    attestors: section.list("attestors", (attestor) => ({
      address: attestor.address("address"),
      url: attestor.url("url"),
    })),
    confirmations: section.count("confirmations", 2),
    intervalMs: section.count("intervalSeconds", 30) * 1000,
    epochSeconds: section.has("epochSeconds") ? section.count("epochSeconds") : undefined,
    receiptsPerBatch: section.has("receiptsPerBatch") ? section.count("receiptsPerBatch") : undefined,
  };
}

function attestorOf(section: Section): AttestorSection {
  return {
    host: section.text("host", "127.0.0.1"),
    port: section.count("port", 8090, 0, 65_535),
    privateKey: section.privateKey("keyVariable"),
    canaries: section.list("canaries", (canary) => ({
      operatorId: canary.count("operatorId"),
      planId: canary.count("planId"),
      versionId: canary.id("versionId"),
      gatewayUrl: canary.url("gatewayUrl"),
      apiKey: canary.secret("apiKeyVariable"),
      modelId: canary.text("modelId"),
      meanIntervalMs: canary.count("meanIntervalSeconds", 300) * 1000,
      timeoutMs: canary.count("timeoutSeconds", 30) * 1000,
      maxTokens: canary.count("maxTokens", 16),
    })),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`The configuration is no JSON: ${(cause as Error).message}`, { cause });
  }
}

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
      throw new ConfigError(`${path || "The configuration"} must be an object; it is ${JSON.stringify(value)}.`);
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

  count(name: string, fallback?: number, least = 1, most = Number.MAX_SAFE_INTEGER): number {
    const value = this.value(name, fallback);
    if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
    throw this.wrong(name, value, `a whole number of at least ${least}${most > 65_535 ? "" : ` and at most ${most}`}`);
  }

  /** A 64-bit id, as a decimal string, since JSON's numbers are too short for it. */
  id(name: string): bigint {
    const value = this.value(name);
    if (typeof value === "string" && /^[1-9]\d{0,18}$/.test(value)) return BigInt(value);
    throw this.wrong(name, value, 'an id in quotes, such as "4294967297"');
  }

  url(name: string): string {
    const value = this.text(name);
    if (/^https?:\/\//.test(value) && URL.canParse(value)) return value.replace(/\/+$/, "");
    throw this.wrong(name, value, "a URL such as http://127.0.0.1:8000");
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
  secret(name: string): string {
    const variable = this.text(name);
    const value = this.environment[variable];
    if (value !== undefined && value !== "") return value;
    throw new ConfigError(`${this.at(name)} names the environment variable ${variable}, which isn't set.`);
  }

  privateKey(name: string): string {
    const key = this.secret(name);
    try {
      computeAddress(key);
      return key;
    } catch {
      // What it holds is a secret, even if a wrong one.
      throw new ConfigError(`${this.at(name)}: its environment variable must hold 0x and 64 hex digits.`);
    }
  }

  list<T>(name: string, parse: (section: Section) => T): T[] {
    const value = this.value(name);
    if (!Array.isArray(value) || value.length === 0) throw this.wrong(name, value, "a list of at least one");
    return value.map((item, i) => this.inner(`${name}[${i}]`, item, parse));
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
    const value = this.fields[name] ?? fallback;
    if (value === undefined) throw new ConfigError(`${this.at(name)} is missing.`);
    return value;
  }

  private at(name: string): string {
    return this.path === "" ? name : `${this.path}.${name}`;
  }

  private wrong(name: string, value: unknown, expected: string): ConfigError {
    return new ConfigError(`${this.at(name)} must be ${expected}; it is ${JSON.stringify(value)}.`);
  }
}
