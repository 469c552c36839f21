import { expect } from "chai";
import { encryptKeystoreJsonSync, id, Transaction, Wallet } from "ethers";
import hre from "hardhat";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSocket, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { spawn } from "node:child_process";
import { KeyAccount } from "../../oracle/keys/account";
import {
  batchToSign,
  localSigner,
  measurementToSign,
  proposalToSign,
  receiptToSign,
  type Purpose,
  type Signable,
} from "../../oracle/keys/digestSigner";
import { remoteSigner, SignerFailed } from "../../oracle/keys/remoteSigner";
import { parseSignerConfig } from "../../oracle/keys/signerConfig";
import { startSigner, type SignerServer } from "../../oracle/keys/signerServer";
import { ConfigError } from "../../oracle/configSection";
import { createLog } from "../../oracle/log";
import { Problem } from "../../oracle/problem";
import fc from "../support/fastCheck";
import { anyHeader, anyMeasurement, anyReceipt, DOMAIN, receiptWith } from "../support/fakeMessages";

const PASSWORD = "correct horse battery";
const KEYS = { receipts: id("receipts"), account: id("account"), attestor: id("attestor") };
const TOKENS = { operator: id("operator's token"), attestor: id("attestor's token") };
const addressOf = (key: string) => new Wallet(key).address;
const ELSEWHERE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
const header = fc.sample(anyHeader, { numRuns: 1, seed: 1 })[0];
const measurement = fc.sample(anyMeasurement, { numRuns: 1, seed: 1 })[0];

describe("the signer", () => {
  let folder: string;
  let lines: string[];
  let server: SignerServer;

  const keyOf = (name: keyof typeof KEYS, tokenVariable: string, purposes: Purpose[]) => ({
    keystore: path.join(folder, `${name}.json`),
    passwordVariable: "PASSWORD",
    tokenVariable,
    purposes,
  });

  const settings = (changes: object = {}) => ({
    dataFolder: path.join(folder, "data"),
    port: 0,
    chainId: "31337",
    escrow: DOMAIN.verifyingContract,
    keys: [
      keyOf("receipts", "OPERATOR", ["receipt", "proposal"]),
      keyOf("account", "OPERATOR", ["transaction"]),
      keyOf("attestor", "ATTESTOR", ["measurement", "batch"]),
    ],
    ...changes,
  });

  const parse = (config: object) =>
    parseSignerConfig(JSON.stringify(config), {
      PASSWORD,
      ...{ OPERATOR: TOKENS.operator, ATTESTOR: TOKENS.attestor },
    });

  async function start(changes: object = {}): Promise<SignerServer> {
    server = await startSigner(
      parse(settings(changes)),
      createLog("debug", (line) => lines.push(line)),
    );
    return server;
  }

  beforeEach(async () => {
    lines = [];
    folder = mkdtempSync(path.join(tmpdir(), "licet-signer-"));
    for (const [name, privateKey] of Object.entries(KEYS)) {
      const account = { address: addressOf(privateKey), privateKey };
      const json = encryptKeystoreJsonSync(account, PASSWORD, { scrypt: { N: 1_024, r: 8, p: 1 } });
      writeFileSync(path.join(folder, `${name}.json`), json, { mode: 0o600 });
    }
    await start();
  });

  afterEach(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });

  const remote = (key: string, token: string, url = server.url) =>
    remoteSigner({ url, address: addressOf(key), token });
  const receipts = () => remote(KEYS.receipts, TOKENS.operator);
  const account = () => remote(KEYS.account, TOKENS.operator);
  const attestor = () => remote(KEYS.attestor, TOKENS.attestor);

  async function failureOf(attempt: unknown): Promise<string> {
    const error = await Promise.resolve(attempt).then(
      () => null,
      (cause: Error) => cause,
    );
    expect(error).to.be.instanceOf(SignerFailed);
    return error!.message;
  }

  describe("for a key of its own", () => {
    it("signs as the key itself does, each message that the key is for", async () => {
      const receipt = receiptWith();
      const messages: [string, ReturnType<typeof receipts>, Signable][] = [
        [KEYS.receipts, receipts(), receiptToSign(DOMAIN, receipt)],
        [KEYS.receipts, receipts(), proposalToSign(DOMAIN, { batchId: id("batch") })],
        [KEYS.attestor, attestor(), measurementToSign(DOMAIN, measurement)],
        [KEYS.attestor, attestor(), batchToSign(DOMAIN, header)],
      ];
      for (const [key, signer, signable] of messages) {
        expect(await signer.sign(signable), signable.purpose).to.equal(localSigner(key).sign(signable));
      }
    });

    it("signs any receipt", async () => {
      const property = fc.asyncProperty(anyReceipt, async (receipt) => {
        const signable = receiptToSign(DOMAIN, receipt);
        expect(await receipts().sign(signable)).to.equal(localSigner(KEYS.receipts).sign(signable));
      });
      await fc.assert(property, { numRuns: 20 });
    });

    it("sends transactions for an account that ethers takes", async () => {
      const [funder] = await hre.ethers.getSigners();
      const sender = new KeyAccount(account(), hre.ethers.provider);
      await funder.sendTransaction({ to: sender.address, value: 10n ** 18n });
      const sent = await sender.sendTransaction({ to: DOMAIN.verifyingContract, data: "0x1234" });
      const { from, status } = (await sent.wait())!;
      expect([from, status]).to.deep.equal([addressOf(KEYS.account), 1]);
      const same = {
        to: DOMAIN.verifyingContract,
        nonce: 3,
        gasLimit: 50_000,
        chainId: 31_337,
        type: 2,
        maxFeePerGas: 9,
      };
      expect(await sender.signTransaction(same)).to.equal(await new Wallet(KEYS.account).signTransaction(same));
    });

    it("says who it is, and that it is well", async () => {
      const answer = await fetch(`${server.url}/healthz`);
      expect(await answer.json()).to.deep.equal({ status: "ok", addresses: Object.values(KEYS).map(addressOf) });
    });
  });

  describe("at a socket", () => {
    it("answers as at a port, and only to its user and group", async () => {
      await server.close();
      const socket = path.join(folder, "signer.sock");
      await start({ port: undefined, socket });
      expect(server.url).to.equal(`unix:${socket}`);
      expect(statSync(socket).mode & 0o777).to.equal(0o660);
      const signable = receiptToSign(DOMAIN, receiptWith());
      expect(await receipts().sign(signable)).to.equal(localSigner(KEYS.receipts).sign(signable));
    });

    it("takes the place of a process that was killed, and of none that lives", async () => {
      const socket = path.join(folder, "signer.sock");
      const dying = spawn(process.execPath, [
        "-e",
        `require("net").createServer().listen("${socket}", () => console.log(1))`,
      ]);
      await once(dying.stdout, "data");
      await server.close();
      const refused = await startSigner(parse(settings({ port: undefined, socket })), createLog("error")).catch(
        (e) => e,
      );
      expect(refused).to.be.instanceOf(Problem);
      expect((refused as Problem).message).to.match(/signer\.sock can't be listened at \(.*EADDRINUSE/);
      dying.kill("SIGKILL");
      await once(dying, "close");
      await start({ port: undefined, socket });
      expect((await fetchHealth(socket)).status).to.equal("ok");
    });
  });

  describe("refuses", () => {
    const transaction = (fields: object = {}) => {
      const unsigned = Transaction.from({
        ...{ type: 2, chainId: 31_337, to: DOMAIN.verifyingContract, nonce: 1, gasLimit: 100_000, maxFeePerGas: 10 },
        ...fields,
      });
      const { unsignedHash: digest, unsignedSerialized } = unsigned;
      const json = () => ({ unsigned: unsignedSerialized });
      return { purpose: "transaction" as const, digest, domain: null, json };
    };
    const otherDomain = { ...DOMAIN, chainId: 1n };
    const rows: [string, () => unknown, RegExp][] = [
      [
        "another's token",
        () => remote(KEYS.attestor, TOKENS.operator).sign(batchToSign(DOMAIN, header)),
        /signs no batch: 401, "the token isn't one for a key 0x/,
      ],
      ["no token", () => remote(KEYS.attestor, "").sign(batchToSign(DOMAIN, header)), /: 401, "the token isn't one/],
      [
        "for a key that it hasn't, as if the token were wrong",
        () => remote(id("other"), TOKENS.operator).sign(receiptToSign(DOMAIN, receiptWith())),
        /: 401, "the token isn't one/,
      ],
      [
        "a batch by a key for receipts",
        () => receipts().sign(batchToSign(DOMAIN, header)),
        /signs no batch: 403, "0x\w+ signs receipt, proposal, and no batch"/,
      ],
      [
        "a receipt by an attestor's",
        () => attestor().sign(receiptToSign(DOMAIN, receiptWith())),
        /: 403, .* no receipt/,
      ],
      ["a transaction by a key for receipts", () => receipts().sign(transaction()), /: 403, .* and no transaction/],
      [
        "a receipt of another chain",
        () => receipts().sign(receiptToSign(otherDomain, receiptWith())),
        /: 403, "the receipt's digest is 0x\w+ on chain 31337, and not 0x/,
      ],
      [
        "a digest that is of something else",
        () => receipts().sign({ ...receiptToSign(DOMAIN, receiptWith()), digest: batchToSign(DOMAIN, header).digest }),
        /: 403, "the receipt's digest is/,
      ],
      [
        "a message that is none",
        () => receipts().sign({ ...receiptToSign(DOMAIN, receiptWith()), json: () => ({ licenseId: "1" }) }),
        /: 400, "Receipt lacks operatorId/,
      ],
      [
        "a proposal of nothing",
        () => receipts().sign({ ...proposalToSign(DOMAIN, { batchId: id("a") }), json: () => null }),
        /: 400, "batchId must be a hex string/,
      ],
      [
        "a digest that is none",
        () => receipts().sign({ ...transaction(), digest: "0x12" }),
        /: 400, "digest must be 32/,
      ],
      [
        "a purpose that is none",
        () => receipts().sign({ ...transaction(), purpose: "text" as Purpose }),
        /: 400, "purpose/,
      ],
      [
        "a transaction of another chain",
        () => account().sign(transaction({ chainId: 1 })),
        /: 403, "the transaction is for chain 1, and this key is for 31337"/,
      ],
      [
        "one that calls another",
        () => account().sign(transaction({ to: ELSEWHERE })),
        /: 403, .* calls 0x3C44\w+, and not 0x7/,
      ],
      ["one that deploys", () => account().sign(transaction({ to: null })), /: 403, .* calls nobody/],
      ["one that sends ether", () => account().sign(transaction({ value: 1 })), /: 403, .* sends 1 wei/],
      [
        "a transaction that is none",
        () => account().sign({ ...transaction(), json: () => ({ unsigned: "0x02" }) }),
        /: 400, /,
      ],
    ];
    for (const [what, attempt, sentence] of rows) {
      it(what, async () => {
        expect(await failureOf(attempt())).to.match(sentence);
        expect(lines.join("\n")).to.not.contain("Signer signed");
      });
    }

    it("data to oneself, where nothing is to be sent to take the place of what is stuck", async () => {
      const nothing = transaction({ to: account().address, data: "0x" });
      expect(await account().sign(nothing)).to.equal(localSigner(KEYS.account).sign(nothing));
      expect(await failureOf(account().sign(transaction({ to: account().address, data: "0x12" })))).to.match(/: 403/);
    });

    it("nothing of what `calls` names", async () => {
      await server.close();
      await start({ keys: [{ ...keyOf("account", "OPERATOR", ["transaction"]), calls: [ELSEWHERE] }] });
      const signable = transaction({ to: ELSEWHERE });
      expect(await account().sign(signable)).to.equal(localSigner(KEYS.account).sign(signable));
      expect(await failureOf(account().sign(transaction()))).to.match(/calls 0x7777\w+, and not 0x3C44/);
    });

    it("a second batch for one number of a lane, whatever becomes of it meanwhile", async () => {
      const first = batchToSign(DOMAIN, header);
      const second = batchToSign(DOMAIN, { ...header, count: header.count + 1n });
      const signature = await attestor().sign(first);
      const refusal = /403, ".* signed batch 0x\w+ for number \d+ of this lane: another would cost its bond"/;
      expect(await failureOf(attestor().sign(second))).to.match(refusal);
      await server.close();
      await start();
      expect(await failureOf(attestor().sign(second))).to.match(refusal);
      expect(await attestor().sign(first)).to.equal(signature);
      const next = batchToSign(DOMAIN, { ...header, sequence: header.sequence + 1n });
      expect(await attestor().sign(next)).to.equal(localSigner(KEYS.attestor).sign(next));
    });

    it("to share what it has signed with another signer", async () => {
      const another = await startSigner(
        parse(settings()),
        createLog("error", () => {}),
      ).catch((cause: Error) => cause);
      expect(another).to.be.instanceOf(Problem);
      expect((another as Problem).message).to.match(/signer\.sqlite can't be opened .*one signer at a time/);
    });
  });

  it("never says or logs a key, a password or a token", async () => {
    const said = [
      await failureOf(remote(KEYS.attestor, TOKENS.operator).sign(batchToSign(DOMAIN, header))),
      await failureOf(receipts().sign(batchToSign(DOMAIN, header))),
      await failureOf(receipts().sign({ ...receiptToSign(DOMAIN, receiptWith()), json: () => "{" })),
      await failureOf(
        remote(KEYS.receipts, TOKENS.operator, "http://127.0.0.1:1").sign(receiptToSign(DOMAIN, receiptWith())),
      ),
      ...lines,
    ].join("\n");
    for (const secret of [...Object.values(KEYS).map((key) => key.slice(2)), PASSWORD, ...Object.values(TOKENS)]) {
      expect(said).to.not.contain(secret);
    }
    expect(said).to.contain("Signer refused");
  });

  describe("its configuration", () => {
    const rows: [string, object, RegExp][] = [
      ["no keys", { keys: [] }, /keys must be a list of at least one/],
      [
        "an unknown purpose",
        { keys: [{ keystore: "a", purposes: ["texts"] }] },
        /keys\[0\]\.purposes has texts, which is none of/,
      ],
      ["no escrow", { escrow: undefined }, /escrow is missing/],
      ["a chain that is none", { chainId: 31_337 }, /chainId must be an id in quotes/],
      ["an unknown field", { host: "0.0.0.0" }, /host is no setting/],
    ];
    for (const [what, changes, sentence] of rows) {
      it(`is refused: ${what}`, () => {
        expect(() => parse(settings(changes))).to.throw(ConfigError, sentence);
      });
    }

    it("is refused: a short token, and two keystores of one key", async () => {
      const short = () =>
        parseSignerConfig(JSON.stringify(settings()), { PASSWORD, OPERATOR: "short", ATTESTOR: "short" });
      expect(short).to.throw(
        ConfigError,
        /keys\[0\]\.token: its file or variable must hold 32 or more letters and digits: openssl rand -hex 32\./,
      );
      const copy = path.join(folder, "copy.json");
      writeFileSync(copy, readFileSync(path.join(folder, "receipts.json")), { mode: 0o600 });
      const keys = [...settings().keys, { ...keyOf("receipts", "OPERATOR", ["receipt"]), keystore: copy }];
      const refused = await startSigner(parse(settings({ keys })), createLog("error")).catch((cause: Error) => cause);
      expect((refused as Problem).message).to.match(/copy\.json is of 0x\w+, as another is/);
    });
  });

  async function fetchHealth(socketPath: string): Promise<{ status: string }> {
    const { Client } = await import("undici");
    const client = new Client("http://localhost", { socketPath });
    const { body } = await client.request({ path: "/healthz", method: "GET" });
    const health = (await body.json()) as { status: string };
    await client.close();
    return health;
  }
});

describe("remoteSigner", () => {
  const key = id("key");
  const signable = receiptToSign(DOMAIN, receiptWith());
  const servers: { close(): unknown }[] = [];

  afterEach(() => servers.splice(0).forEach((server) => server.close()));

  async function answering(listener: RequestListener): Promise<string> {
    const server: Server = createServer(listener).listen(0, "127.0.0.1");
    servers.push({ close: () => (server.closeAllConnections(), server.close()) });
    await once(server, "listening");
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  const saying = (body: unknown) => answering((_request, response) => response.end(JSON.stringify(body)));

  async function failureOf(url: string): Promise<string> {
    const signer = remoteSigner({ url, address: addressOf(key), token: "the token" }, 300);
    const error = await Promise.resolve(signer.sign(signable)).catch((cause: Error) => cause);
    expect(error).to.be.instanceOf(SignerFailed);
    expect((error as Error).message).to.not.contain("the token");
    return (error as Error).message;
  }

  it("believes no signature but one of the digest, by the key, with the lower s", async () => {
    const good = localSigner(key).sign(signable);
    const highTwin = highTwinOf(good);
    const wrong: [unknown, RegExp][] = [
      [localSigner(id("another")).sign(signable), new RegExp(`with ${addressOf(id("another"))}, not with one by`)],
      [localSigner(key).sign({ digest: id("another digest") }), /with 0x\w+, not with one by/],
      [highTwin, /with no signature, not with one by/],
      [`${good.slice(0, -2)}00`, /with no signature/],
      [good.slice(0, -2), /with no signature/],
      [undefined, /with no signature/],
    ];
    for (const [signature, sentence] of wrong) expect(await failureOf(await saying({ signature }))).to.match(sentence);
    expect(await failureOf(await saying(null))).to.match(/with no signature/);
    const url = await saying({ signature: good });
    expect(await remoteSigner({ url, address: addressOf(key), token: "t" }).sign(signable)).to.equal(good);
  });

  it("gives up a signer that hangs, is down, says nonsense, too much, or begins and doesn't end", async () => {
    expect(await failureOf(await answering(() => {}))).to.match(/doesn't answer \(.*(timeout|aborted)/i);
    expect(await failureOf("http://127.0.0.1:1")).to.match(/doesn't answer \(connect ECONNREFUSED/);
    expect(await failureOf("unix:/nowhere/signer.sock")).to.match(
      /at unix:\/nowhere\/signer\.sock doesn't answer \(.*ENOENT/,
    );
    expect(await failureOf(await answering((_q, response) => response.end("<html>")))).to.match(
      /doesn't answer \(.*JSON/,
    );
    expect(await failureOf(await saying({ signature: "0x" + "11".repeat(9_000) }))).to.match(
      /doesn't answer \(.*size/i,
    );
    expect(await failureOf(await answering((_q, response) => void response.write("{")))).to.match(/doesn't answer/);
    const deaf = createSocket((socket) => socket.destroy()).listen(0, "127.0.0.1");
    servers.push(deaf);
    await once(deaf, "listening");
    expect(await failureOf(`http://127.0.0.1:${(deaf.address() as AddressInfo).port}`)).to.match(/doesn't answer/);
  });

  it("makes an account that signs transactions of its own, and nothing else", async () => {
    const sender = new KeyAccount(localSigner(key));
    const from = addressOf(id("another"));
    const problem = async (attempt: Promise<unknown>) => (await attempt.catch((cause: Error) => cause)) as Error;
    expect((await problem(sender.signTransaction({ from, to: from }))).message).to.match(
      /from 0x\w+ can't be signed by/,
    );
    expect((await problem(sender.signMessage())).message).to.match(/signs transactions only, and no texts/);
    expect((await problem(sender.signTypedData())).message).to.match(/signs transactions only, and no typed data/);
  });
});

/** The same signature with the upper s, which other libraries take. */
function highTwinOf(signature: string): string {
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const s = order - BigInt(`0x${signature.slice(66, 130)}`);
  const v = signature.endsWith("1b") ? "1c" : "1b";
  return signature.slice(0, 66) + s.toString(16).padStart(64, "0") + v;
}
