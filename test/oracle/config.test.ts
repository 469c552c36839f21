import { expect } from "chai";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PLAUSIBLE } from "../../oracle/attestor/plausibility";
import { id } from "ethers";
import { readFileSync } from "node:fs";
import { parseConfig } from "../../oracle/config";
import { ConfigError } from "../../oracle/configSection";
import { GATEWAY_DEFAULTS } from "../../oracle/gateway/gateway";
import { DIGITS_FOLDER, digitsModel } from "../support/digits";
import { bearerOf, grantWith } from "../support/fakeMessages";

const ENVIRONMENT = {
  SIGNING: id("signing"),
  SETTLER: id("settler"),
  ATTESTOR: id("attestor"),
  CANARY: bearerOf({ grant: grantWith(), signature: "0x" + "11".repeat(65) }),
  NODES: "http://one.example, http://two.example/KEY",
  BAD: "0x12",
};

const gateway = () => ({
  operatorId: 1,
  signingKeyVariable: "SIGNING",
  models: [{ id: "m", upstreamUrl: "http://127.0.0.1:8000/", versionId: "4294967297" }] as object[],
});
const settler = () => ({
  keyVariable: "SETTLER",
  signingKeyVariable: "SIGNING",
  attestors: [{ address: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", url: "https://attestor.example" }],
});
const attestor = () => ({
  keyVariable: "ATTESTOR",
  canaries: [
    {
      operatorId: 1,
      planId: 1,
      versionId: "4294967297",
      gatewayUrl: "http://127.0.0.1:8080",
      apiKeyVariable: "CANARY",
      modelId: "m",
    },
  ],
});
const parse = (config: object) => parseConfig(JSON.stringify({ dataFolder: "data", ...config }), ENVIRONMENT);

describe("parseConfig", () => {
  it("reads all sections, with keys from the environment and defaults for the rest", () => {
    const config = parse({
      gateway: gateway(),
      settler: { ...settler(), receiptsPerBatch: 500 },
      attestor: attestor(),
    });
    expect(config.clock).to.equal("machine");
    expect(config.gateway).to.deep.include({
      port: 8080,
      operatorId: 1,
      signingKey: { privateKey: ENVIRONMENT.SIGNING },
    });
    expect(config.gateway?.models).to.deep.equal([
      {
        id: "m",
        versionId: 4294967297n,
        upstreams: [{ url: "http://127.0.0.1:8000", model: undefined, gpus: undefined, apiKey: undefined }],
      },
    ]);
    expect(config.settler).to.deep.include({
      key: { privateKey: ENVIRONMENT.SETTLER },
      signingKey: { privateKey: ENVIRONMENT.SIGNING },
      confirmations: 2,
      intervalMs: 30_000,
      receiptsPerBatch: 500,
    });
    expect(config.attestor?.canaries[0]).to.include({
      apiKey: ENVIRONMENT.CANARY,
      meanIntervalMs: 300_000,
      maxTokens: 16,
    });
  });

  it("reads how disclosed requests are looked at, and looks at none if that is left out", () => {
    const [canary] = attestor().canaries;
    const parsed = (disclosed?: object) =>
      parse({ attestor: { ...attestor(), canaries: [{ ...canary, disclosed }] } }).attestor?.canaries[0].disclosed;
    expect(parsed()).to.equal(undefined);
    const defaults = { percent: 5, leastSamples: 10, mostDisagreeing: 20 };
    expect(parsed({})).to.deep.equal({ ...defaults, reexecute: undefined });
    const reexecute = { url: "http://127.0.0.1:8000", model: "twin", exact: true };
    expect(parsed({ percent: 50, leastSamples: 3, mostDisagreeingPercent: 0, reexecute })).to.deep.equal({
      ...{ percent: 50, leastSamples: 3, mostDisagreeing: 0 },
      reexecute: { ...reexecute, apiKey: undefined },
    });
  });

  it("believes of each operator what its canaries say, else what the attestor says, else what any hardware can do", () => {
    const [canary] = attestor().canaries;
    const own = { outputTokensPerSecond: 9_000, slots: 64 };
    const canaries = [canary, { ...canary, plausible: { slots: 4 } }];
    const read = parse({ attestor: { ...attestor(), plausible: own, canaries } }).attestor!;
    expect(read.plausible).to.deep.equal({ ...PLAUSIBLE, ...own });
    expect(read.canaries[0].plausible).to.deep.equal({ ...PLAUSIBLE, ...own });
    expect(read.canaries[1].plausible).to.deep.equal({ ...PLAUSIBLE, ...own, slots: 4 });
    expect(parse({ attestor: attestor() }).attestor!.plausible).to.deep.equal(PLAUSIBLE);
  });

  describe("files that it names", () => {
    let folder: string;
    const fileOf = (text: string) => {
      const file = join(folder, "file");
      writeFileSync(file, text);
      return file;
    };
    beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "licet-config-"))));
    afterEach(() => rmSync(folder, { recursive: true }));

    const withFile = (name: string, text: string) => () =>
      parse({ attestor: { ...attestor(), [name]: fileOf(text) } }).attestor!;

    it("has canaries ask what a file says, a line each, if it has enough of them", () => {
      const lines = Array.from({ length: 20 }, (_, i) => `Question ${i}?`);
      expect(withFile("promptsFile", `${lines.join("\r\n\n")}\n`)().prompts).to.deep.equal(lines);
      const few = [...lines.slice(1), lines[1]].join("\n");
      expect(withFile("promptsFile", few)).to.throw(ConfigError, "has 19 prompts; 20 are the least");
      expect(parse({ attestor: attestor() }).attestor!.prompts).to.equal(undefined);
    });

    const classifying = (classification: object) => () => {
      const [canary] = attestor().canaries;
      const canaries = [{ ...canary, classification }];
      return parse({ attestor: { ...attestor(), canaries } }).attestor!.canaries[0].classification;
    };
    const linesOf = (count: number, input: unknown = [1, 2, 255]) =>
      fileOf(Array.from({ length: count }, () => JSON.stringify(input)).join("\n"));

    it("has canaries of a model that classifies send as many numbers as it takes", () => {
      expect(classifying({ inputs: 784 })()).to.deep.equal({ inputs: 784, network: undefined, examples: undefined });
      expect(parse({ attestor: attestor() }).attestor!.canaries[0].classification).to.equal(undefined);
      expect(classifying({})).to.throw(ConfigError, "classification.inputs is missing");
    });

    it("has them compare with the model of a file, whose inputs it knows", () => {
      const modelFile = join(DIGITS_FOLDER, "model.json");
      expect(classifying({ modelFile })()).to.deep.equal({
        inputs: 64,
        network: digitsModel().network,
        examples: undefined,
      });
      expect(classifying({ modelFile: fileOf("{}") })).to.throw(ConfigError, /modelFile: .* can't be used: A model's file says/); // prettier-ignore
    });

    it("has them made of a file's inputs, a line each, if there are enough of them, each of as many numbers", () => {
      const read = classifying({ inputs: 3, inputsFile: linesOf(20) })()!;
      expect(read.examples).to.have.length(20);
      expect(read.examples![7]).to.deep.equal([1, 2, 255]);
      expect(classifying({ inputs: 3, inputsFile: linesOf(19) })).to.throw(ConfigError, "has 19 inputs; 20 are the least"); // prettier-ignore
      expect(classifying({ inputs: 4, inputsFile: linesOf(20) })).to.throw(ConfigError, "The input must be 4 numbers; it is 3 numbers"); // prettier-ignore
      expect(classifying({ inputs: 1, inputsFile: linesOf(20, [256]) })).to.throw(ConfigError, "the one at 0 is 256");
    });

    it("takes evidence by a file's policy", () => {
      const policy = { maxAgeSeconds: 300, validForSeconds: 86_400, exclusiveCpus: false };
      expect(withFile("evidencePolicyFile", JSON.stringify(policy))().evidencePolicy).to.include(policy);
      expect(withFile("evidencePolicyFile", "{}")).to.throw(
        ConfigError,
        /evidencePolicyFile: .* can't be used: maxAge/,
      );
      expect(parse({ attestor: attestor() }).attestor!.evidencePolicy).to.equal(undefined);
    });

    it("says which file isn't there", () => {
      const missing = { ...attestor(), promptsFile: join(folder, "none") };
      expect(() => parse({ attestor: missing })).to.throw(
        ConfigError,
        /attestor.promptsFile: .*none can't be used: ENOENT/,
      );
    });
  });

  it("reads how an operator shows evidence", () => {
    const read = (evidence: object) => parse({ gateway: gateway(), evidence }).evidence;
    expect(read({ collectCommand: ["collect", "--all"] })).to.deep.equal({
      collectCommand: ["collect", "--all"],
      collectTimeoutMs: 120_000,
      ownerKey: undefined,
    });
    expect(() => read({ collectCommand: "collect" })).to.throw(ConfigError, "a list of at least one text");
    expect(() => read({ collectCommand: ["x"], ownerKeyVariable: "NONE" })).to.throw(ConfigError, "which isn't set");
  });

  it("reads whose tokenizer a canary's answers are counted by", () => {
    const [canary] = attestor().canaries;
    const read = (tokenizer?: object) =>
      parse({ attestor: { ...attestor(), canaries: [{ ...canary, tokenizer }] } }).attestor!.canaries[0].tokenizer;
    expect(read({ url: "http://127.0.0.1:8000/", model: "m" })).to.deep.equal({
      url: "http://127.0.0.1:8000",
      model: "m",
      apiKey: undefined,
    });
    expect(read()).to.equal(undefined);
    expect(() => read({ url: "http://127.0.0.1:8000" })).to.throw(ConfigError, "tokenizer.model is missing");
  });

  it("reads which others are up whenever the network is", () => {
    const read = (controls: unknown) => parse({ attestor: { ...attestor(), controls } }).attestor!.controls;
    expect(read(["https://example.org"])).to.deep.equal(["https://example.org"]);
    expect(read(undefined)).to.deep.equal([]);
    expect(() => read(["example.org"])).to.throw(ConfigError, "must be URLs such as https://example.org; one is");
  });

  it("shows operations on this machine alone unless it is told otherwise, and not at all if it isn't told to", () => {
    expect(parse({ gateway: gateway() }).operations).to.equal(undefined);
    const defaults = { host: "127.0.0.1", port: 9464, chainStaleSeconds: 300 };
    expect(parse({ gateway: gateway(), operations: {} }).operations).to.deep.equal(defaults);
    const own = { host: "10.0.0.5", port: 9000, chainStaleSeconds: 60 };
    expect(parse({ gateway: gateway(), operations: own }).operations).to.deep.equal(own);
    expect(() => parse({ gateway: gateway(), operations: { port: 70_000 } })).to.throw(ConfigError, /operations\.port/);
  });

  it("reads where the chain is, and doesn't repeat a node's URL, which may have a key in it", () => {
    const chainIn = (chain: object) => parse({ gateway: gateway(), chain }).chain;
    const url = "https://node.example/v2/key?x=1";
    const one = { urls: [url], quorum: 1, deployment: "book.json" };
    expect(chainIn({ url, deployment: "book.json" })).to.deep.equal(one);
    const two = { ...one, urls: [url, "http://other.example"], quorum: 2 };
    expect(chainIn({ urls: two.urls, quorum: 2, deployment: "book.json" })).to.deep.equal(two);
    expect(chainIn({ urlsVariable: "NODES", quorum: 2, deployment: "book.json" })).to.deep.equal({
      ...two,
      urls: ["http://one.example", "http://two.example/KEY"],
    });
    expect(() => chainIn({ urls: [url], quorum: 2, deployment: "book.json" })).to.throw(
      ConfigError,
      "chain.quorum must be a whole number from 1 to 1; it is 2",
    );
    expect(() => chainIn({ urls: [url, url], deployment: "book.json" })).to.throw(ConfigError, "is there twice");
    expect(() => chainIn({ urlVariable: "BAD", deployment: "book.json" }))
      .to.throw(ConfigError, /chain: a node's URL must be one/)
      .with.property("message")
      .that.does.not.contain(ENVIRONMENT.BAD);
    expect(() => chainIn({ url })).to.throw(ConfigError, "chain.deployment is missing");
  });

  it("has vouchers wait for a day at most", () => {
    const settlerWith = (fields: object) => parse({ gateway: gateway(), settler: { ...settler(), ...fields } }).settler;
    expect(settlerWith({})?.voucherIntervalSeconds).to.equal(86_400);
    expect(settlerWith({ voucherIntervalSeconds: 3_600 })?.voucherIntervalSeconds).to.equal(3_600);
    expect(() => settlerWith({ voucherIntervalSeconds: 86_401 })).to.throw(
      ConfigError,
      /settler\.voucherIntervalSeconds/,
    );
  });

  it("reads how challenges are answered, and pays no fees and has no prover where that is left out", () => {
    const disputes = {
      maxFee: "0.25",
      provers: [{ versionId: "4294967297", modelFile: "models/digits/model.json", setup: "zk/development-setup" }],
    };
    expect(parse({ settler: settler() }).disputes).to.deep.equal({ maxFee: 0n, provers: [] });
    expect(parse({ settler: settler(), disputes }).disputes).to.deep.equal({
      maxFee: 25n * 10n ** 16n,
      provers: [{ ...disputes.provers[0], versionId: 4294967297n }],
    });
    const [model] = gateway().models;
    const models = [{ ...model, keepInputs: true }];
    expect(parse({ gateway: { ...gateway(), models } }).gateway?.models[0].keepInputs).to.equal(true);
  });

  it("has an attestor keep copies for as many days as it is told, sixty at the most", () => {
    const kept = (keepCopiesDays?: number) =>
      parse({ attestor: { ...attestor(), keepCopiesDays } }).attestor?.keepCopiesSeconds;
    expect([kept(), kept(60)]).to.deep.equal([undefined, 60 * 86_400]);
    expect(() => kept(61)).to.throw(ConfigError, "attestor.keepCopiesDays must be a whole number from 1 to 60");
  });

  it("takes vouchers on the credit that it is told, and none if it isn't", () => {
    expect(parse({ gateway: gateway() }).gateway?.voucherCredit).to.equal(0n);
    expect(parse({ gateway: { ...gateway(), voucherCredit: 1_000_000 } }).gateway?.voucherCredit).to.equal(1_000_000n);
    expect(() => parse({ gateway: { ...gateway(), voucherCredit: "1" } })).to.throw(
      ConfigError,
      /gateway\.voucherCredit/,
    );
  });

  it("reads several upstreams of a model, with their keys from the environment", () => {
    const upstreams = [
      { url: "http://a:8000/", model: "org/m", gpus: 8, keyVariable: "BAD" },
      { url: "http://b:8000" },
    ];
    const config = parse({
      gateway: {
        ...gateway(),
        models: [{ id: "m", versionId: "4294967297", upstreams }],
        healthIntervalSeconds: 3,
        stopTimeoutSeconds: 0,
      },
    });
    expect(config.gateway?.healthIntervalMs).to.equal(3_000);
    expect(config.gateway?.stopTimeoutMs).to.equal(0);
    expect(config.gateway?.models[0].upstreams).to.deep.equal([
      { url: "http://a:8000", model: "org/m", gpus: 8, apiKey: ENVIRONMENT.BAD },
      { url: "http://b:8000", model: undefined, gpus: undefined, apiKey: undefined },
    ]);
  });

  it("has the limits for defaults that its page says", () => {
    const page = readFileSync("docs/oracle.md", "utf8");
    const limits = JSON.parse(/```json\n(\{\s*"perGrant"[^`]*)```/.exec(page)![1]) as object;
    expect(parse({ gateway: { ...gateway(), limits } }).gateway?.limits).to.deep.equal(GATEWAY_DEFAULTS.limits);
  });

  it("reads how licenses are sold by x402", () => {
    const x402 = { planId: 1, deposit: 900_000, fee: 50_000, keyVariable: "SETTLER" };
    const sellingBy = (changes: object) =>
      parse({ gateway: { ...gateway(), x402: { ...x402, ...changes } } }).gateway?.x402;
    expect(sellingBy({})).to.deep.equal({
      planId: 1,
      key: { privateKey: ENVIRONMENT.SETTLER },
      deposit: 900_000n,
      fee: 50_000n,
      validSeconds: 600,
      perHour: 60,
      confirmations: 2,
      maxFeePerGas: undefined,
    });
    expect(sellingBy({ confirmations: "finalized", maxFeeGwei: 3 })).to.include({
      confirmations: "finalized",
      maxFeePerGas: 3_000_000_000n,
    });
    expect(() => sellingBy({ deposit: 0 })).to.throw(ConfigError, "gateway.x402.deposit must be a whole number from 1");
    expect(() => sellingBy({ validSeconds: 60 })).to.throw(ConfigError, "must be a whole number from 120 to 43200");
    expect(() => sellingBy({ keyVariable: undefined })).to.throw(ConfigError, "gateway.x402.keyVariable is missing");
  });

  it("reads what is kept of disclosed requests, and keeps some if that is left out", () => {
    const parsed = (disclosed?: object) => parse({ gateway: { ...gateway(), disclosed } }).gateway?.disclosures;
    expect(parsed()).to.deep.equal(GATEWAY_DEFAULTS.disclosures);
    expect(parsed({ mebibytes: 64, keepHours: 72 })).to.deep.equal(GATEWAY_DEFAULTS.disclosures);
    expect(parsed({ mebibytes: 0, keepHours: 1 })).to.deep.equal({ mostBytes: 0, keepSeconds: 3_600 });
  });

  it("reads the limits, each of which may be left out", () => {
    const limits = { perGrant: { requestsPerMinute: 60 }, concurrent: 10, bodyMebibytes: 8, unproven: 50 };
    expect(parse({ gateway: { ...gateway(), limits } }).gateway?.limits).to.deep.equal({
      ...GATEWAY_DEFAULTS.limits,
      perGrant: { requestsPerMinute: 60, concurrent: GATEWAY_DEFAULTS.limits.perGrant.concurrent },
      concurrent: 10,
      bodyBytes: 8 * 2 ** 20,
      unproven: 50,
    });
    expect(parse({ gateway: gateway() }).gateway?.limits).to.deep.equal(GATEWAY_DEFAULTS.limits);
  });

  it("reads a database, with a folder beside it or without one", () => {
    const environment = { ...ENVIRONMENT, URL: "postgresql://licet:secret@host/licet" };
    const read = (config: object) => parseConfig(JSON.stringify({ gateway: gateway(), ...config }), environment);
    const named = read({ databaseUrlVariable: "URL" });
    expect([named.database, named.dataFolder]).to.deep.equal([{ url: environment.URL, schema: "licet" }, undefined]);
    const both = read({ databaseUrlVariable: "URL", databaseSchema: "second", dataFolder: "data" });
    expect([both.database?.schema, both.dataFolder]).to.deep.equal(["second", "data"]);
  });

  const bad: [string, () => unknown, string][] = [
    ["no JSON", () => parseConfig("{", ENVIRONMENT), "The configuration is no JSON"],
    ["no object", () => parseConfig("[]", ENVIRONMENT), "The configuration must be an object; it is []."],
    ["no folder for data", () => parseConfig('{"gateway":{}}', ENVIRONMENT), "dataFolder is missing."],
    [
      "a database that is no PostgreSQL",
      () => parseConfig('{"databaseUrlVariable":"WORD"}', { WORD: "mysql://a" }),
      "databaseUrlVariable names a variable that holds no PostgreSQL URL",
    ],
    [
      "a schema without a database",
      () => parse({ databaseSchema: "a", gateway: gateway() }),
      "databaseSchema is no setting",
    ],
    ["nothing to start", () => parse({}), "it needs a section gateway, settler or attestor"],
    [
      "a retention within which receipts may be disputed",
      () => parse({ gateway: gateway(), retention: { days: 59 } }),
      "retention.days must be a whole number from 60",
    ],
    ["an unknown section", () => parse({ gateway: gateway(), getaway: {} }), "getaway is no setting; there are"],
    ["an unknown field", () => parse({ gateway: { ...gateway(), prot: 1 } }), "gateway.prot is no setting"],
    [
      "a wrong clock",
      () => parse({ clock: "sun", gateway: gateway() }),
      'clock must be one of machine, chain; it is "sun"',
    ],
    [
      "a text for a port",
      () => parse({ gateway: { ...gateway(), port: "80" } }),
      'gateway.port must be a whole number from 0 to 65535; it is "80"',
    ],
    ["a port too high", () => parse({ gateway: { ...gateway(), port: 70_000 } }), "it is 70000"],
    [
      "no models",
      () => parse({ gateway: { ...gateway(), models: [] } }),
      "gateway.models must be a list of at least one",
    ],
    [
      "a number for a version's id",
      () => parse({ gateway: { ...gateway(), models: [{ id: "m", upstreamUrl: "http://a", versionId: 5 }] } }),
      "gateway.models[0].versionId must be an id in quotes",
    ],
    [
      "a URL without a scheme",
      () => parse({ gateway: { ...gateway(), models: [{ id: "m", upstreamUrl: "localhost:8000", versionId: "5" }] } }),
      "gateway.models[0].upstreamUrl must be a URL",
    ],
    [
      "an unset variable",
      () => parse({ settler: { ...settler(), keyVariable: "NONE" } }),
      "settler.keyVariable names the environment variable NONE, which isn't set.",
    ],
    [
      "a key that is none",
      () => parse({ settler: { ...settler(), keyVariable: "BAD" } }),
      "settler.keyVariable: its environment variable must hold a private key, 0x and 64 hex digits.",
    ],
    [
      "a settler that can't propose",
      () => parse({ settler: { ...settler(), signingKeyVariable: undefined } }),
      "settler.signingKeyVariable is missing.",
    ],
    [
      "an address that is none",
      () => parse({ settler: { ...settler(), attestors: [{ address: "0x1", url: "http://a" }] } }),
      'settler.attestors[0].address must be an address; it is "0x1"',
    ],
    [
      "answers to challenges without a settler",
      () => parse({ gateway: gateway(), disputes: {} }),
      "disputes says how the settler answers challenges: it needs a section settler.",
    ],
    [
      "a prover without its model",
      () => parse({ settler: settler(), disputes: { provers: [{ versionId: "5", modelFile: "LICENSE" }] } }),
      "disputes.provers[0].modelFile: LICENSE can't be used: The model isn't JSON",
    ],
    [
      "a fee that is none",
      () => parse({ settler: settler(), disputes: { maxFee: "much" } }),
      'disputes.maxFee must be an amount above 0 with at most 18 decimals, such as 0.5; it is "much"',
    ],
    [
      "a canary without a key",
      () => parse({ attestor: { ...attestor(), canaries: [{ ...attestor().canaries[0], apiKeyVariable: "NONE" }] } }),
      "attestor.canaries[0].apiKeyVariable names",
    ],
  ];
  for (const [what, attempt, message] of bad) {
    it(`refuses ${what}`, () => {
      expect(attempt).to.throw(ConfigError, message);
    });
  }

  it("never repeats a wrong key", () => {
    expect(() => parse({ settler: { ...settler(), keyVariable: "BAD" } }))
      .to.throw(ConfigError)
      .with.property("message")
      .that.does.not.contain(ENVIRONMENT.BAD);
  });
});
