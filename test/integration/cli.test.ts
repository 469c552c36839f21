/** `licet-oracle` in processes of its own, with a node in this one. */
import { expect } from "chai";
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { computeAddress, encryptKeystoreJsonSync, HDNodeWallet, id, parseEther, Wallet } from "ethers";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import OpenAI from "openai";
import { main } from "../../oracle/cli";
import { receiptToSign } from "../../oracle/keys/digestSigner";
import { remoteSigner } from "../../oracle/keys/remoteSigner";
import { domainOf, grantDigest, recoverSigner, signDigest } from "../../oracle/protocol/messages";
import { zeroUsage } from "../../oracle/protocol/meters";
import { Archive } from "../../oracle/store/archive";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { bearerOf, DOMAIN, grantWith, receiptWith } from "../support/fakeMessages";
import { FakeUpstream, streaming } from "../support/fakeUpstream";
import { buyLicense, DAY, freshMarket, type Market, usd } from "../support/market";
import { freePort, serveNode, shut, urlOf } from "../support/processes";
import { EPOCH, LANE, serveReceipt } from "../support/stubMarket";

const ROOT = path.join(__dirname, "../..");
const KEY = new Wallet(id("operator's key"));
const MNEMONIC = "test test test test test test test test test test test junk";

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

describe("licet-oracle", function () {
  this.timeout(120_000);

  let folder: string;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "licet-cli-"));
  });

  afterEach(() => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });

  /** In this process. */
  async function call(words: string[], more: NodeJS.ProcessEnv = {}): Promise<Ended> {
    const said = { stdout: "", stderr: "" };
    const code = await main(words, {
      out: (text) => (said.stdout += text),
      err: (text) => (said.stderr += text),
      environment: { KEY: KEY.privateKey, ...more },
    });
    return { code, ...said };
  }

  function start(words: string[], more: NodeJS.ProcessEnv = {}): { child: ChildProcess; ended: Promise<Ended> } {
    const child = spawn(process.execPath, [path.join(ROOT, "oracle/bin.js"), ...words], {
      cwd: folder,
      env: { ...process.env, KEY: KEY.privateKey, ...more },
    });
    children.push(child);
    let stdout = "";
    let stderr = "";
    child.stdout!.on("data", (piece) => (stdout += piece));
    child.stderr!.on("data", (piece) => (stderr += piece));
    return { child, ended: once(child, "close").then(([code]) => ({ code: code as number | null, stdout, stderr })) };
  }

  function write(config: object): string {
    const file = path.join(folder, "oracle.json");
    writeFileSync(file, JSON.stringify({ dataFolder: path.join(folder, "data"), ...config }));
    return file;
  }

  const gateway = (changes: object = {}) => ({
    operatorId: 1,
    signingKeyVariable: "KEY",
    models: [{ id: "m", upstreamUrl: "http://127.0.0.1:1", versionId: "4294967297" }],
    ...changes,
  });

  describe("its command line", () => {
    const rows: [string, () => string[], number, RegExp][] = [
      [
        "no command",
        () => [],
        2,
        /^No command is none of gateway, settle, attest, all, check, [\w, -]*signer, key\.\nSee .*--help/,
      ],
      ["an unknown command", () => ["serve", "--config", "x"], 2, /^serve is none of/],
      ["no configuration", () => ["all"], 2, /^all needs --config FILE/],
      ["no keystore", () => ["key", "--password-file", "x"], 2, /^key needs --keystore FILE/],
      ["no password", () => ["key", "--keystore", "x"], 2, /^key needs --password-file FILE/],
      ["a backup without a place", () => ["backup", "--config", "x"], 2, /^backup needs --to FOLDER/],
      [
        "a backup of what isn't there",
        () => ["backup", "--config", write({ gateway: gateway() }), "--to", "copy"],
        1,
        /^dataFolder .* can't be read \(ENOENT/,
      ],
      ["a batch without a name", () => ["batch", "--config", "x"], 2, /^batch needs --id BATCH/],
      ["a restoring from nowhere", () => ["restore", "--config", "x"], 2, /^restore needs --from FOLDER/],
      [
        "a restoring of what isn't there",
        () => ["restore", "--config", write({ gateway: gateway() }), "--from", "copy"],
        1,
        /operator\.sqlite isn't there: name a folder of a backup/,
      ],
      [
        "a rebuild without a chain",
        () => ["rebuild", "--config", write({ gateway: gateway() })],
        1,
        /: chain is missing: say/,
      ],
      ["an unknown option", () => ["all", "--confg", "x"], 2, /^Unknown option '--confg'/],
      [
        "a file that isn't there",
        () => ["all", "--config", "gone.json"],
        1,
        /^--config gone\.json can't be read: ENOENT/,
      ],
      [
        "a configuration with a mistake",
        () => ["check", "--config", write({ gateway: gateway({ prot: 1 }) })],
        1,
        /oracle\.json: gateway\.prot is no setting; there are .*port/,
      ],
      [
        "a part that has no section",
        () => ["attest", "--config", write({ gateway: gateway() })],
        1,
        /there is no section attestor, which is to run/,
      ],
      ["no chain", () => ["all", "--config", write({ gateway: gateway() })], 1, /: chain is missing: say \{ "url": …/],
      [
        "an address book that is none",
        () => ["all", "--config", write({ gateway: gateway(), chain: { url: "http://a", deployment: __filename } })],
        1,
        /^chain\.deployment: .* can't be read as an address book/,
      ],
    ];
    for (const [what, words, code, sentence] of rows) {
      it(`is refused with a sentence: ${what}`, async () => {
        const { code: found, stderr, stdout } = await call(words());
        expect([found, stdout]).to.deep.equal([code, ""]);
        expect(stderr)
          .to.match(sentence)
          .and.not.to.match(/\n {4}at /);
      });
    }

    it("backs up a store, and says where the copy is; one in PostgreSQL is another program's", async () => {
      const file = write({ gateway: gateway() });
      mkdirSync(path.join(folder, "data"));
      const store = new Store(sqliteDatabase(path.join(folder, "data/operator.sqlite")));
      await store.claim({ role: "operator", chain: "1", "first block": "0x", escrow: "0x" });
      const to = path.join(folder, "copy");
      const copied = await call(["backup", "--config", file, "--to", to]);
      await store.close();
      expect(copied).to.deep.equal({ code: 0, stdout: `${path.join(to, "operator.sqlite")}\n`, stderr: "" });
      rmSync(path.join(folder, "data"), { recursive: true });
      const restored = await call(["restore", "--config", file, "--from", to]);
      expect([restored.code, restored.stderr]).to.deep.equal([0, ""]);
      expect(restored.stdout).to.match(
        /operator\.sqlite is the copy of .*, of schema \d+: receipts, none; 0 weren't settled/,
      );
      expect(restored.stdout).to.contain("npx licet-oracle rebuild makes it whole");

      const shared = write({ gateway: gateway(), databaseUrlVariable: "URL", databaseSchema: "mine" });
      const { code, stderr } = await call(["backup", "--config", shared, "--to", to], { URL: "postgresql://a@b/c" });
      expect([code, stderr]).to.deep.equal([
        1,
        "The stores are in PostgreSQL: pg_dump --schema=mine_operator (or _attestor) copies them.\n",
      ]);
      const back = await call(["restore", "--config", shared, "--from", to], { URL: "postgresql://a@b/c" });
      expect(back.stderr).to.match(/psql puts mine_operator back .* Rebuild it then, before anybody serves from it/);
    });

    it("lists archives while the store is in use, and says which isn't whole", async () => {
      const file = write({ gateway: gateway() });
      const data = path.join(folder, "data");
      mkdirSync(data);
      const store = new Store(sqliteDatabase(path.join(data, "operator.sqlite")));
      expect((await call(["archive", "--config", file])).stdout).to.equal(
        "There are no archives: nothing is old enough.\n",
      );
      await serveReceipt(store);
      await store.unbatched.void(LANE, { epochStart: 0, epochEnd: EPOCH.epochEnd });
      await serveReceipt(store, { requestId: id("next"), finishedAt: EPOCH.epochEnd });
      const [{ name }] = await new Archive(store, data).archiveDue(EPOCH.epochEnd + 2 * 86_400, EPOCH.epochEnd);
      const listed = await call(["archive", "--config", file]);
      expect([listed.code, listed.stderr]).to.deep.equal([0, ""]);
      expect(listed.stdout).to.match(/^1970-01-02 {2}1 receipts, \d+ bytes, of 1970-01-02T04:46:40.000Z: whole\n$/);
      writeFileSync(path.join(data, "archive", `${name}.ndjson.gz`), "something else");
      const broken = await call(["archive", "--config", file]);
      await store.close();
      expect([broken.code, broken.stdout]).to.deep.equal([1, ""]);
      expect(broken.stderr).to.match(/NOT WHOLE\n.*has the SHA-256 \w+, and was written with/s);
    });

    it("lists an attestor's archives beside an operator's", async () => {
      const lane = { operatorId: 1, planId: 1, versionId: "4294967297" };
      const canary = { ...lane, gatewayUrl: "http://127.0.0.1:1", apiKeyVariable: "CANARY", modelId: "m" };
      const file = write({ gateway: gateway(), attestor: { keyVariable: "KEY", canaries: [canary] } });
      const data = path.join(folder, "data");
      mkdirSync(data);
      for (const role of ["operator", "attestor"]) {
        const store = new Store(sqliteDatabase(path.join(data, `${role}.sqlite`)));
        const facts = { name: id(role), sha256: "00", bytes: 1, receipts: 1, archivedAt: 1_700_000_000 };
        await store.archive.add(facts, []);
        await store.close();
      }
      const key = { CANARY: bearerOf({ grant: grantWith(), signature: `0x${"11".repeat(65)}` }) };
      const { stderr } = await call(["archive", "--config", file], key);
      expect(stderr)
        .to.contain(`${id("operator")}  1 receipts`)
        .and.contain(`${id("attestor")}  1 receipts`);
      expect(stderr).to.contain(path.join("data", "archive", `${id("operator")}.ndjson.gz can't be read`));
      expect(stderr).to.contain(path.join("data", "attestor", "archive", `${id("attestor")}.ndjson.gz can't be read`));
    });

    it("prints what an attestor has of a batch, while it runs", async () => {
      const file = write({ gateway: gateway() });
      const data = path.join(folder, "data");
      mkdirSync(data);
      const store = new Store(sqliteDatabase(path.join(data, "attestor.sqlite")));
      const words = ["batch", "--config", file, "--id", id("a batch")];
      const lacking = await call(words);
      expect([lacking.code, lacking.stderr]).to.deep.equal([
        ...[1, `This attestor never signed a batch ${id("a batch")}: ask another of the committee.\n`],
      ]);
      const service = { availabilityBps: 10_000, p95TtftMs: 1, samples: 20, count: 2n, sequence: 1n };
      const hashes = { root: id("root"), entriesHash: id("entries"), evidenceHash: id("evidence") };
      const header = { ...LANE, ...EPOCH, ...zeroUsage(), ...service, ...hashes };
      await store.attested.record(id("a batch"), header, [], { measurements: [], proposal: "0xab" });
      const { code, stdout } = await call(words);
      await store.close();
      expect(code).to.equal(0);
      expect(JSON.parse(stdout)).to.deep.include({ batch: id("a batch"), proposal: "0xab", missing: 2, receipts: [] });
    });

    it("explains itself, and what a configuration would run, without secrets", async () => {
      const chain = { urlVariable: "NODE", deployment: "deployments/custom.json" };
      const file = write({ gateway: gateway(), operations: { port: 9000 }, chain });
      const { code, stdout } = await start(["--help"]).ended;
      const plan = await call(["check", "--config", file], { NODE: "https://node.example/v2/SECRET" });
      expect(code).to.equal(0);
      expect(stdout).to.contain("npx licet-oracle all     --config FILE");
      expect({ code: plan.code, stderr: plan.stderr }).to.deep.equal({ code: 0, stderr: "" });
      expect(plan.stdout).to.equal(
        [
          `data        ${path.join(folder, "data")}`,
          "chain       node node.example, address book deployments/custom.json",
          "gateway     on 127.0.0.1, port 8080, of operator 1: m (1 upstreams)",
          `            signs as ${KEY.address}, whose key is in the environment`,
          "operations  on 127.0.0.1, port 9000",
          "",
        ].join("\n"),
      );
    });
  });

  describe("keys", () => {
    const password = () => {
      const file = path.join(folder, "password");
      writeFileSync(file, "correct horse battery\n", { mode: 0o600 });
      return file;
    };

    it("are made in keystores, which a configuration can name", async () => {
      const keystore = path.join(folder, "key.json");
      const made = await call(["key", "--keystore", keystore, "--password-file", password()]);
      expect(made).to.include({ code: 0, stderr: "" });
      const address = made.stdout.trim();
      const signingKey = { keystore, passwordFile: password() };
      const file = write({ gateway: gateway({ signingKeyVariable: undefined, signingKey }) });
      const { stdout } = await call(["check", "--config", file]);
      expect(stdout).to.contain(`signs as ${address}, whose key is in keystore ${keystore}`);
      writeFileSync(password(), "another password\n");
      expect(await call(["check", "--config", file])).to.deep.equal({
        code: 1,
        stdout: "",
        stderr: `Keystore ${keystore} doesn't open with its password: check which password it was made with.\n`,
      });
    });

    it("sign for others until their process is told to stop", async () => {
      const keystore = path.join(folder, "key.json");
      const { stdout } = await call(["key", "--keystore", keystore, "--password-file", password()]);
      writeFileSync(path.join(folder, "token"), id("token"), { mode: 0o600 });
      const key = { keystore, passwordFile: password(), tokenFile: "token", purposes: ["receipt"] };
      const socket = path.join(folder, "signer.sock");
      const file = write({ socket, chainId: "31337", escrow: DOMAIN.verifyingContract, keys: [key] });
      const { child, ended } = start(["signer", "--config", file]);
      while (!existsSync(socket)) await wait(20);
      const signer = remoteSigner({ url: `unix:${socket}`, address: stdout.trim(), token: id("token") });
      const signable = receiptToSign(DOMAIN, receiptWith());
      expect(recoverSigner(signable.digest, await signer.sign(signable))).to.equal(stdout.trim());
      child.kill("SIGTERM");
      expect((await ended).code).to.equal(0);
      expect((await Promise.resolve(signer.sign(signable)).catch((cause: Error) => cause)) as Error).to.be.instanceOf(
        Error,
      );
    });
  });

  describe("a gateway that runs", () => {
    let market: Market;
    let node: Server;
    let upstream: FakeUpstream;
    let file: string;
    let places: { gateway: string; operations: string };
    let apiKey: string;

    beforeEach(async () => {
      market = await freshMarket();
      const { operators, escrow, committee } = market.licet;
      const now = await time.latest();
      await operators.connect(market.operator).addKey(1, KEY.address, now + 90 * DAY);
      const licenseId = await buyLicense(market, usd(1_000));
      const owner = HDNodeWallet.fromPhrase(MNEMONIC, "", "m/44'/60'/0'/0/6");
      expect(owner.address).to.equal(market.licensee.address);
      const grant = grantWith({ licenseId, generation: 0, notBefore: 0, expiresAt: now + 30 * DAY, cap: 0n });
      const domain = domainOf(31337n, await escrow.getAddress());
      apiKey = bearerOf({ grant, signature: signDigest(owner.privateKey, grantDigest(domain, grant)) });

      node = await serveNode();
      upstream = await FakeUpstream.start();
      const [port, shown] = [await freePort(), await freePort()];
      places = { gateway: `http://127.0.0.1:${port}`, operations: `http://127.0.0.1:${shown}` };
      const book = {
        chainId: "31337",
        block: 0,
        contracts: { UsageEscrow: await escrow.getAddress(), CommitteeAttestor: await committee.getAddress() },
      };
      writeFileSync(path.join(folder, "book.json"), JSON.stringify(book));
      const models = [{ id: "m", upstreamUrl: upstream.url, versionId: String(market.versionId) }];
      file = write({
        clock: "chain",
        gateway: gateway({ port, models }),
        operations: { port: shown },
        chain: { url: urlOf(node), deployment: "book.json" },
      });
    });

    afterEach(async () => {
      shut(node);
      await upstream.stop();
    });

    const readiness = async () => {
      const answer = await fetch(`${places.operations}/readyz`).catch(() => null);
      return answer?.status;
    };

    async function untilReady(running: Promise<Ended>): Promise<void> {
      let over: Ended | undefined;
      void running.then((ended) => (over = ended));
      while ((await readiness()) !== 200) {
        expect(over, JSON.stringify(over)).to.equal(undefined);
        await wait(50);
      }
    }

    /** Begins a stream of 40 words, each after 50 ms, and gives its text when it is over. */
    async function stream(): Promise<{ text: Promise<string> }> {
      const words = Array.from({ length: 40 }, (_, i) => `w${i} `);
      upstream.script = streaming({ words, delayMs: 50 });
      const openai = new OpenAI({ apiKey, baseURL: `${places.gateway}/v1`, maxRetries: 0 });
      const chunks = await openai.chat.completions.create({
        model: "m",
        messages: [{ role: "user", content: "May I?" }],
        stream: true,
      });
      const text = (async () => {
        let said = "";
        for await (const { choices } of chunks) said += choices[0]?.delta.content ?? "";
        return said;
      })();
      text.catch(() => undefined);
      return { text };
    }

    const receipts = async () => {
      const store = new Store(sqliteDatabase(path.join(folder, "data/operator.sqlite")));
      const lane = { operatorId: 1, planId: market.planId, versionId: market.versionId };
      const found = (await store.unbatched.receipts(lane, { epochStart: 0, epochEnd: 2 ** 40 })).map(
        ({ receipt }) => receipt,
      );
      const open = (await store.requests.running()).length;
      await store.close();
      return { found, open };
    };

    it("finishes its streams at SIGTERM, refuses others meanwhile, and ends with code 0", async () => {
      const { child, ended } = start(["gateway", "--config", file]);
      await untilReady(ended);
      const { text } = await stream();
      child.kill("SIGTERM");
      while ((await readiness()) === 200) await wait(10);
      expect(await readiness()).to.equal(503);
      const late = await fetch(`${places.gateway}/v1/chat/completions`, { method: "POST", body: "{}" });
      expect([late.status, late.headers.get("retry-after")]).to.deep.equal([503, "5"]);
      expect(await text).to.match(/^w0 .*w39 $/);
      const { code, stdout, stderr } = await ended;
      expect([code, stdout]).to.deep.equal([0, ""]);
      expect(
        stderr
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line).message),
      ).to.include.members(["Oracle stops"]);
      const { found, open } = await receipts();
      expect([found.map(({ flags }) => flags), open]).to.deep.equal([[0], 0]);
    });

    it("ends at once at a second signal, and leaves its request to the next start", async () => {
      const { child, ended } = start(["all", "--config", file]);
      await untilReady(ended);
      const { text } = await stream();
      child.kill("SIGTERM");
      while ((await readiness()) === 200) await wait(10);
      child.kill("SIGINT");
      expect((await ended).code).to.equal(130);
      expect(await text.catch(() => "cut off")).to.equal("cut off");
      expect(await receipts()).to.deep.equal({ found: [], open: 1 });
    });

    it("never says or logs a key, a password, a token or a grant's secret, whatever fails", async () => {
      const secrets = {
        KEY: KEY.privateKey,
        SELLER: id("seller's key"),
        PASSWORD: "correct horse battery staple",
        UPSTREAM: "sk-upstream-0123456789",
        NODE: `${urlOf(node)}/v2/node-key-0123456789`,
      };
      const { address } = KEY;
      const account = { address, privateKey: KEY.privateKey };
      const keystore = path.join(folder, "signing.json");
      const json = encryptKeystoreJsonSync(account, secrets.PASSWORD, { scrypt: { N: 1_024, r: 8, p: 1 } });
      writeFileSync(keystore, json, { mode: 0o600 });
      const config = JSON.parse(readFileSync(file, "utf8")) as { gateway: { models: object[] }; operations: object };
      const sections = (changes: object = {}) => ({
        ...config,
        logLevel: "debug",
        chain: { urlVariable: "NODE", deployment: "book.json" },
        gateway: {
          ...config.gateway,
          signingKeyVariable: undefined,
          signingKey: { keystore, passwordVariable: "PASSWORD" },
          models: config.gateway.models.map((model) => ({ ...model, upstreamKeyVariable: "UPSTREAM" })),
          x402: { planId: 1, deposit: 900_000, fee: 1, keyVariable: "SELLER", confirmations: 1 },
          ...changes,
        },
      });
      const output: string[] = [];
      const said = async (words: string[], more: NodeJS.ProcessEnv = {}) => {
        const { stdout, stderr, code } = await call(words, { ...secrets, ...more });
        output.push(stdout, stderr);
        return code;
      };
      file = write(sections());
      expect(await said(["check", "--config", file])).to.equal(0);
      expect(await said(["check", "--config", file], { PASSWORD: "another password" })).to.equal(1);
      expect(await said(["check", "--config", file], { SELLER: secrets.SELLER.slice(0, -1) })).to.equal(1);
      file = write(sections({ signingKeyVariable: secrets.KEY, signingKey: undefined }));
      expect(await said(["check", "--config", file])).to.equal(1);

      // It isn't ready while the account that sells can't pay for gas.
      await setBalance(computeAddress(secrets.SELLER), parseEther("1"));
      file = write(sections());
      const { child, ended } = start(["gateway", "--config", file], secrets);
      await untilReady(ended);
      const post = async (where: string, headers: Record<string, string>, body?: string) => {
        const answer = await fetch(`${places.gateway}${where}`, { method: "POST", headers, body }).catch(() => null);
        output.push((await answer?.text()) ?? "", JSON.stringify([...(answer?.headers ?? [])]));
        return answer?.status;
      };
      const chat = (key: string) =>
        post(
          "/v1/chat/completions",
          { authorization: `Bearer ${key}` },
          JSON.stringify({ model: "m", messages: [{ role: "user", content: "May I?" }], max_tokens: 2 }),
        );
      expect(await chat(apiKey)).to.equal(200);
      upstream.script = (response) =>
        void response.writeHead(500).end(`you sent ${secrets.UPSTREAM.length} characters`);
      expect(await chat(apiKey)).to.equal(502);
      expect(await chat(`${apiKey.slice(0, -6)}AAAAAA`)).to.equal(401);
      expect(await chat(secrets.KEY)).to.equal(401);
      expect(await post("/v1/licenses", {})).to.equal(402);
      const payment = { x402Version: 2, payload: { authorization: { from: address, nonce: id("nonce") } } };
      const header = Buffer.from(JSON.stringify(payment)).toString("base64");
      expect(await post("/v1/licenses", { "payment-signature": header })).to.equal(402);
      expect(await post("/v1/grants/revoke", { authorization: `Bearer ${apiKey}` })).to.equal(200);
      expect(await chat(apiKey)).to.equal(401);
      await shut(node);
      await wait(3_500);
      expect(await chat(apiKey)).to.equal(401);
      await post("/v1/licenses", { "payment-signature": header });
      child.kill("SIGTERM");
      const { stdout, stderr } = await ended;
      output.push(stdout, stderr);
      expect(stderr).to.match(/upstream_failed/);
      const grantSecret = Buffer.from(apiKey, "base64url").subarray(48, 80).toString("hex");
      const all = output.join("\n");
      for (const secret of [...Object.values(secrets), apiKey, grantSecret, "node-key-0123456789"]) {
        expect(all).to.not.contain(secret.replace(/^0x/, ""));
      }
    });

    it("says in a sentence that the node is of another chain", async () => {
      const book = path.join(folder, "book.json");
      writeFileSync(book, readFileSync(book, "utf8").replace("31337", "1"));
      const other = await start(["all", "--config", file]).ended;
      expect([other.code, other.stderr]).to.deep.equal([
        1,
        "The address book is of chain 1, and the node is of chain 31337: check chain.url and chain.deployment.\n",
      ]);
    });
  });
});
