import { readFileSync } from "node:fs";
import type { Clock } from "./chain/ethersChain";
import type { AuditedLane } from "./attestor/audits";
import type { ClassificationCanary } from "./attestor/classificationCanary";
import { COPIES_PER_OPERATOR } from "./attestor/copies";
import { PLAUSIBLE, type Plausible } from "./attestor/plausibility";
import type { TokenizerConfig } from "./attestor/recount";
import type { Finality } from "./chain/witness";
import { type EvidencePolicy, evidencePolicyOf } from "./evidence/policy";
import { GATEWAY_DEFAULTS } from "./gateway/gateway";
import { DISCLOSURES_DEFAULTS, type DisclosuresConfig } from "./gateway/disclosures";
import type { Limits, Quota } from "./gateway/limits";
import type { UpstreamConfig } from "./gateway/models";
import { LEAST_VALIDITY, MOST_VALIDITY } from "./x402/exact";
import { keySettingOf, type KeySetting } from "./keys/keySetting";
import { reasonOf, shown } from "./problem";
import { ConfigError, parseJson, Section, type Environment, type Range } from "./configSection";
import type { ProverConfig } from "./disputes/receiptProver";
import type { EconomyConfig } from "./settler/economy";
import { parseModel, requireInput } from "../zk/network";

/** What a configuration file says, with its secrets read from where it says that they are. */
export interface OracleConfig {
  clock: Clock;
  logLevel: LogLevel;
  /** Where files are kept: stores that are in no database, and records of evidence. */
  dataFolder?: string;
  /** Where stores are kept, if not in that folder. */
  database?: DatabaseSetting;
  /** How long an operator's store keeps receipts that are settled, or never will be. */
  retentionSeconds: number;
  gateway?: GatewaySection;
  settler?: SettlerSection;
  attestor?: AttestorSection;
  evidence?: EvidenceSection;
  disputes: DisputesSection;
  operations?: OperationsSection;
  /** For `licet-oracle`; the task `oracle:run` goes by its network where this is left out. */
  chain?: ChainSection;
}

/** PostgreSQL. */
export interface DatabaseSetting {
  url: string;
  /** What its schemas' names begin with. */
  schema: string;
}

const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
type LogLevel = (typeof LOG_LEVELS)[number];

export interface GatewaySection {
  host: string;
  port: number;
  operatorId: number;
  signingKey: KeySetting;
  models: { id: string; upstreams: UpstreamConfig[]; versionId: bigint; keepInputs?: boolean }[];
  defaultMaxTokens: number;
  maxTokensCeiling: number;
  requestTimeoutMs: number;
  receiveTimeoutMs: number;
  chainTimeoutMs: number;
  healthIntervalMs: number;
  stopTimeoutMs: number;
  firstByteTimeoutMs: number;
  voucherCredit: bigint;
  limits: Limits;
  disclosures: DisclosuresConfig;
  x402?: X402Section;
}

/** How licenses are sold to whoever pays by x402. */
export interface X402Section {
  planId: number;
  /** Of the account that is paid, and buys. */
  key: KeySetting;
  /** Units of the currency. */
  deposit: bigint;
  fee: bigint;
  validSeconds: number;
  perHour: number;
  confirmations: Finality;
  /** In wei; undefined is any. */
  maxFeePerGas?: bigint;
}

export interface SettlerSection {
  /** Of the account that pays for gas. */
  key: KeySetting;
  signingKey: KeySetting;
  attestors: { address: string; url: string }[];
  confirmations: Finality;
  /** In wei; undefined is any. */
  maxFeePerGas?: bigint;
  /** Whether it releases what is due, too. */
  release: boolean;
  /** Undefined where whatever is due settles, whatever its gas costs. */
  economy?: EconomyConfig;
  intervalMs: number;
  /** How long a voucher may wait to be posted. */
  voucherIntervalSeconds: number;
  epochSeconds?: number;
  receiptsPerBatch?: number;
}

export interface AttestorSection {
  host: string;
  port: number;
  key: KeySetting;
  receiveTimeoutMs: number;
  /** The most copies of receipts that are kept of one operator with stake. */
  copiesPerOperator: number;
  /** Undefined where copies are kept only as long as a batch with them may settle. */
  keepCopiesSeconds?: number;
  /** What is believed of operators of whom no canary says otherwise. */
  plausible: Plausible;
  /** What evidence is accepted; without it, none is taken. */
  evidencePolicy?: EvidencePolicy;
  /** What canaries ask; without it, they ask what comes with the program. */
  prompts?: string[];
  /** URLs that are up whenever this machine's network is. */
  controls: string[];
  canaries: CanarySection[];
}

/** How whoever settles answers challenges of its charges. */
export interface DisputesSection {
  /** The most that one dispute or appeal may cost, in wei. */
  maxFee: bigint;
  /** By what receipts of versions that name a verifier are proven. */
  provers: ({ versionId: bigint } & ProverConfig)[];
}

/** How an operator shows evidence of its hardware. */
export interface EvidenceSection {
  collectCommand: string[];
  collectTimeoutMs: number;
  /** Of the account that owns the operator, to name the evidence on chain; without it, somebody must do that by hand. */
  ownerKey?: KeySetting;
}

export interface ChainSection {
  /** The nodes'. There may be keys in them: they aren't shown. */
  urls: string[];
  /** How many nodes must say the same of what money hangs on. */
  quorum: number;
  /** The address book. */
  deployment: string;
}

/** Where whoever runs the oracle sees how it does. */
export interface OperationsSection {
  host: string;
  port: number;
  /** A chain whose latest block is older is stale. */
  chainStaleSeconds: number;
}

/** How an attestor looks at requests of a lane that licensees disclosed. */
export type AuditSection = Pick<AuditedLane, "percent" | "leastSamples" | "mostDisagreeing" | "reexecute">;

export interface CanarySection {
  operatorId: number;
  planId: number;
  versionId: bigint;
  gatewayUrl: string;
  /** Without it, no disclosed request is looked at. */
  disclosed?: AuditSection;
  apiKey: string;
  modelId: string;
  meanIntervalMs: number;
  timeoutMs: number;
  maxTokens: number;
  /** A server of the same model that the attestor trusts to count tokens. */
  tokenizer?: TokenizerConfig;
  /** Of a model that classifies. */
  classification?: ClassificationCanary;
  /** What is believed of the operator's servers of this model. */
  plausible: Plausible;
}

/**
 * Reads a configuration. Secrets are never in it: it names the environment variables and the files that hold them.
 * @throws ConfigError
 */
export function parseConfig(text: string, environment: Environment): OracleConfig {
  const root = new Section("", parseJson(text), environment);
  const database = databaseOf(root);
  const needsFolder = database === undefined || root.has("dataFolder");
  const config: OracleConfig = {
    clock: root.choice("clock", ["machine", "chain"] as const, "machine"),
    logLevel: root.choice("logLevel", LOG_LEVELS, "info"),
    dataFolder: needsFolder ? root.text("dataFolder") : undefined,
    database,
    retentionSeconds: (root.optional("retention", retentionOf) ?? RETENTION_DAYS) * 86_400,
    gateway: root.optional("gateway", gatewayOf),
    settler: root.optional("settler", settlerOf),
    attestor: root.optional("attestor", attestorOf),
    evidence: root.optional("evidence", evidenceOf),
    disputes: root.optional("disputes", disputesOf) ?? { maxFee: 0n, provers: [] },
    operations: root.optional("operations", operationsOf),
    chain: root.optional("chain", chainOf),
  };
  root.end();
  if (root.has("disputes") && config.settler === undefined) {
    throw new ConfigError("disputes says how the settler answers challenges: it needs a section settler.");
  }
  if (config.gateway === undefined && config.settler === undefined && config.attestor === undefined) {
    throw new ConfigError("The configuration starts nothing: it needs a section gateway, settler or attestor.");
  }
  return config;
}

function disputesOf(section: Section): DisputesSection {
  const proverOf = (prover: Section) => {
    const modelFile = prover.text("modelFile");
    readIn(prover, "modelFile", parseModel);
    return {
      ...{ versionId: prover.id("versionId"), modelFile },
      ...(prover.has("setup") ? { setup: prover.text("setup") } : {}),
    };
  };
  return {
    maxFee: section.has("maxFee") ? section.decimal("maxFee", 18) : 0n,
    provers: section.has("provers") ? section.listOf("provers", "versionId", proverOf) : [],
  };
}

/** The longest epoch, window and hold that contracts allow have 51 days together. */
const LEAST_RETENTION_DAYS = 60;
const RETENTION_DAYS = 90;

function retentionOf(section: Section): number {
  return section.count("days", [LEAST_RETENTION_DAYS, 36_500], RETENTION_DAYS);
}

const DATABASE_URL = /^postgres(ql)?:\/\//;

function databaseOf(root: Section): DatabaseSetting | undefined {
  if (!root.has("databaseUrlVariable")) return undefined;
  const url = root.secret("databaseUrlVariable");
  const schema = root.text("databaseSchema", "licet");
  if (DATABASE_URL.test(url)) return { url, schema };
  throw new ConfigError(
    "databaseUrlVariable names a variable that holds no PostgreSQL URL: postgresql://user:password@host/database.",
  );
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
    signingKey: keySettingOf(section, "signingKey"),
    models: section.listOf("models", "id", (model) => ({
      id: model.text("id"),
      versionId: model.id("versionId"),
      upstreams: upstreamsOf(model),
      ...(model.has("keepInputs") ? { keepInputs: model.flag("keepInputs") } : {}),
    })),
    defaultMaxTokens: section.count("defaultMaxTokens", [1, maxTokensCeiling], defaultMaxTokens),
    maxTokensCeiling,
    requestTimeoutMs: section.seconds("requestTimeoutSeconds", AN_HOUR, GATEWAY_DEFAULTS.requestTimeoutMs),
    receiveTimeoutMs: section.seconds("receiveTimeoutSeconds", AN_HOUR, GATEWAY_DEFAULTS.receiveTimeoutMs),
    chainTimeoutMs: section.seconds("chainTimeoutSeconds", [1, 60], GATEWAY_DEFAULTS.chainTimeoutMs),
    stopTimeoutMs: section.seconds("stopTimeoutSeconds", [0, 3_600], GATEWAY_DEFAULTS.stopTimeoutMs),
    healthIntervalMs: section.seconds("healthIntervalSeconds", AN_HOUR, GATEWAY_DEFAULTS.healthIntervalMs),
    firstByteTimeoutMs: section.seconds("firstByteTimeoutSeconds", AN_HOUR, GATEWAY_DEFAULTS.firstByteTimeoutMs),
    voucherCredit: BigInt(section.count("voucherCredit", [0, Number.MAX_SAFE_INTEGER], 0)),
    limits: section.optional("limits", limitsOf) ?? GATEWAY_DEFAULTS.limits,
    disclosures: section.optional("disclosed", disclosuresOf) ?? GATEWAY_DEFAULTS.disclosures,
    x402: section.optional("x402", x402Of),
  };
}

function x402Of(section: Section): X402Section {
  const units = (name: string, least: number) => BigInt(section.count(name, [least, Number.MAX_SAFE_INTEGER]));
  return {
    planId: section.count("planId", PLANS),
    key: keySettingOf(section, "key"),
    deposit: units("deposit", 1),
    fee: units("fee", 0),
    validSeconds: section.count("validSeconds", [2 * LEAST_VALIDITY, MOST_VALIDITY / 2], 600),
    perHour: section.count("perHour", MANY, 60),
    confirmations: section.countOr("confirmations", "finalized", [1, 100], 2),
    maxFeePerGas: section.has("maxFeeGwei") ? section.decimal("maxFeeGwei", 9) : undefined,
  };
}

const MANY: Range = [1, 1_000_000];
const MEBIBYTE = 2 ** 20;

function limitsOf(section: Section): Limits {
  const { perGrant, perLicense, concurrent, bodyBytes, connections, unproven } = GATEWAY_DEFAULTS.limits;
  return {
    perGrant: section.optional("perGrant", (quota) => quotaOf(quota, perGrant)) ?? perGrant,
    perLicense: section.optional("perLicense", (quota) => quotaOf(quota, perLicense)) ?? perLicense,
    concurrent: section.count("concurrent", MANY, concurrent),
    bodyBytes: section.count("bodyMebibytes", [4, 65_536], bodyBytes / MEBIBYTE) * MEBIBYTE,
    connections: section.count("connections", MANY, connections),
    unproven: section.count("unproven", MANY, unproven),
  };
}

function disclosuresOf(section: Section): DisclosuresConfig {
  const { keepSeconds, mostBytes } = DISCLOSURES_DEFAULTS;
  return {
    keepSeconds: section.count("keepHours", [1, 720], keepSeconds / 3_600) * 3_600,
    mostBytes: section.count("mebibytes", [0, 65_536], mostBytes / MEBIBYTE) * MEBIBYTE,
  };
}

function quotaOf(section: Section, fallback: Quota): Quota {
  return {
    requestsPerMinute: section.count("requestsPerMinute", MANY, fallback.requestsPerMinute),
    concurrent: section.count("concurrent", MANY, fallback.concurrent),
  };
}

/** One server can stand in the model's own section; several are a list. */
function upstreamsOf(model: Section): UpstreamConfig[] {
  if (!model.has("upstreams")) {
    return [upstreamOf(model, { url: "upstreamUrl", model: "upstreamModel", key: "upstreamKeyVariable" })];
  }
  return model.listOf("upstreams", "url", (upstream) =>
    upstreamOf(upstream, { url: "url", model: "model", key: "keyVariable" }),
  );
}

function upstreamOf(section: Section, names: Record<"url" | "model" | "key", string>): UpstreamConfig {
  return {
    url: section.url(names.url),
    model: section.has(names.model) ? section.text(names.model) : undefined,
    // A receipt counts the milliseconds of all of them, over an hour at the most, in 32 bits.
    gpus: section.has("gpus") ? section.count("gpus", [1, 1_000]) : undefined,
    apiKey: section.has(names.key) ? section.secret(names.key) : undefined,
  };
}

function settlerOf(section: Section): SettlerSection {
  return {
    key: keySettingOf(section, "key"),
    signingKey: keySettingOf(section, "signingKey"),
    attestors: section.listOf("attestors", "address", (attestor) => ({
      address: attestor.address("address"),
      url: attestor.url("url"),
    })),
    // Nodes that aren't archives know the state of some 128 blocks.
    confirmations: section.countOr("confirmations", "finalized", [1, 100], 2),
    release: section.has("release") ? section.flag("release") : true,
    economy: section.optional("economy", economyOf),
    maxFeePerGas: section.has("maxFeeGwei") ? section.decimal("maxFeeGwei", 9) : undefined,
    intervalMs: section.seconds("intervalSeconds", A_DAY, 30_000),
    voucherIntervalSeconds: section.count("voucherIntervalSeconds", A_DAY, 86_400),
    epochSeconds: section.has("epochSeconds") ? section.count("epochSeconds", [1, 7 * 86_400]) : undefined,
    receiptsPerBatch: section.has("receiptsPerBatch") ? section.count("receiptsPerBatch", [1, 100_000]) : undefined,
  };
}

function economyOf(section: Section): EconomyConfig {
  return {
    gasTokenPrice: section.decimal("gasTokenPrice", 8),
    minValueToGas: section.count("minValueToGas", [1, 10_000], 10),
    settleWithinSeconds: section.has("settleWithinSeconds")
      ? section.count("settleWithinSeconds", [0, 14 * 86_400])
      : undefined,
  };
}

function attestorOf(section: Section): AttestorSection {
  const plausible = section.optional("plausible", (limits) => plausibleOf(limits, PLAUSIBLE)) ?? PLAUSIBLE;
  return {
    host: section.text("host", "127.0.0.1"),
    port: section.count("port", PORTS, 8090),
    key: keySettingOf(section, "key"),
    receiveTimeoutMs: section.seconds("receiveTimeoutSeconds", AN_HOUR, 60_000),
    copiesPerOperator: section.count("copiesPerOperator", [1_000, 1_000_000_000], COPIES_PER_OPERATOR),
    keepCopiesSeconds: section.has("keepCopiesDays") ? section.count("keepCopiesDays", [1, 60]) * 86_400 : undefined,
    plausible,
    prompts: section.has("promptsFile") ? promptsIn(section, "promptsFile") : undefined,
    controls: section.texts("controls", []).map((url) => controlOf(section, url)),
    evidencePolicy: section.has("evidencePolicyFile") ? policyIn(section, "evidencePolicyFile") : undefined,
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
      tokenizer: canary.optional("tokenizer", tokenizerIn),
      classification: canary.optional("classification", classificationOf),
      disclosed: canary.optional("disclosed", auditOf),
      plausible: canary.optional("plausible", (limits) => plausibleOf(limits, plausible)) ?? plausible,
    })),
  };
}

/** One a line; as few as are needed not to be known again. */
const LEAST_PROMPTS = 20;

function promptsIn(section: Section, name: string): string[] {
  const file = section.text(name);
  const prompts = readIn(section, name, (text) => text.split(/\r?\n/).filter((line) => line.trim() !== ""));
  if (new Set(prompts).size >= LEAST_PROMPTS) return prompts;
  throw new ConfigError(
    `${section.at(name)}: ${file} has ${new Set(prompts).size} prompts; ${LEAST_PROMPTS} are the least.`,
  );
}

function classificationOf(section: Section): ClassificationCanary {
  const network = section.has("modelFile")
    ? readIn(section, "modelFile", (text) => parseModel(text).network)
    : undefined;
  const inputs = network?.inputs ?? section.count("inputs", [1, 65_535]);
  const examples = section.has("inputsFile") ? examplesIn(section, "inputsFile", inputs) : undefined;
  return { inputs, network, examples };
}

function examplesIn(section: Section, name: string, inputs: number): number[][] {
  const examples = readIn(section, name, (text) => {
    const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
    return lines.map((line) => requireInput({ inputs }, JSON.parse(line)));
  });
  if (examples.length >= LEAST_PROMPTS) return examples;
  throw new ConfigError(
    `${section.at(name)}: ${section.text(name)} has ${examples.length} inputs; ${LEAST_PROMPTS} are the least.`,
  );
}

function controlOf(section: Section, url: string): string {
  if (/^https?:/.test(url) && URL.canParse(url)) return url;
  throw new ConfigError(`${section.at("controls")} must be URLs such as https://example.org; one is ${shown(url)}.`);
}

function policyIn(section: Section, name: string): EvidencePolicy {
  return readIn(section, name, evidencePolicyOf);
}

/** What a file says that a field names. */
function readIn<T>(section: Section, name: string, read: (text: string) => T): T {
  const file = section.text(name);
  try {
    return read(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new ConfigError(`${section.at(name)}: ${file} can't be used: ${reasonOf(cause)}`, { cause });
  }
}

function evidenceOf(section: Section): EvidenceSection {
  const hasOwner = section.has("ownerKey") || section.has("ownerKeyVariable");
  return {
    collectCommand: section.texts("collectCommand"),
    collectTimeoutMs: section.seconds("collectTimeoutSeconds", AN_HOUR, 120_000),
    ownerKey: hasOwner ? keySettingOf(section, "ownerKey") : undefined,
  };
}

function auditOf(section: Section): AuditSection {
  return {
    percent: section.count("percent", [1, 100], 5),
    leastSamples: section.count("leastSamples", [1, 1_000], 10),
    mostDisagreeing: section.count("mostDisagreeingPercent", [0, 99], 20),
    reexecute: section.optional("reexecute", (server) => ({
      ...tokenizerIn(server),
      exact: server.has("exact") ? server.flag("exact") : false,
    })),
  };
}

function tokenizerIn(section: Section): TokenizerConfig {
  return {
    url: section.url("url"),
    model: section.text("model"),
    apiKey: section.has("keyVariable") ? section.secret("keyVariable") : undefined,
  };
}

function plausibleOf(section: Section, fallback: Plausible): Plausible {
  const limit = (name: keyof Plausible) => section.count(name, [1, 1_000_000_000], fallback[name]);
  return {
    outputTokensPerSecond: limit("outputTokensPerSecond"),
    inputTokensPerSecond: limit("inputTokensPerSecond"),
    gpus: limit("gpus"),
    slots: limit("slots"),
  };
}

function chainOf(section: Section): ChainSection {
  const urls = nodeUrlsOf(section);
  for (const url of urls) {
    if (/^https?:/.test(url) && URL.canParse(url)) continue;
    throw new ConfigError("chain: a node's URL must be one, such as http://127.0.0.1:8545; it isn't shown here.");
  }
  if (new Set(urls).size < urls.length) throw new ConfigError("chain: a node's URL is there twice: leave one out.");
  return {
    urls,
    quorum: section.count("quorum", [1, urls.length], 1),
    deployment: section.text("deployment"),
  };
}

function nodeUrlsOf(section: Section): string[] {
  if (section.has("urlVariable")) return [section.secret("urlVariable")];
  if (section.has("urlsVariable"))
    return section
      .secret("urlsVariable")
      .split(/[\s,]+/)
      .filter((url) => url !== "");
  return section.has("urls") ? section.texts("urls") : [section.text("url")];
}

function operationsOf(section: Section): OperationsSection {
  return {
    host: section.text("host", "127.0.0.1"),
    port: section.count("port", PORTS, 9464),
    chainStaleSeconds: section.count("chainStaleSeconds", A_DAY, 300),
  };
}
