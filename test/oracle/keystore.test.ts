import { expect } from "chai";
import { encryptKeystoreJsonSync, id, Wallet } from "ethers";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ConfigError, Section } from "../../oracle/configSection";
import { newKeystore, openKeystore, readPassword } from "../../oracle/keys/keystore";
import { keySettingOf } from "../../oracle/keys/keySetting";
import { describeKey, openKey } from "../../oracle/keys/openKey";
import { Problem } from "../../oracle/problem";

const KEY = id("a key");
const PASSWORD = "correct horse battery";
const TOKEN = id("token");
const ADDRESS = new Wallet(KEY).address;

describe("keys at rest", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "licet-keys-"));
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  function write(name: string, text: string, mode = 0o600): string {
    const file = path.join(folder, name);
    writeFileSync(file, text);
    chmodSync(file, mode);
    return file;
  }

  const keystore = (mode?: number) =>
    write(
      "key.json",
      encryptKeystoreJsonSync({ address: ADDRESS, privateKey: KEY }, PASSWORD, { scrypt: { N: 1_024, r: 8, p: 1 } }),
      mode,
    );

  async function problemOf(attempt: Promise<unknown>): Promise<string> {
    const error = await attempt.then(
      () => null,
      (cause: Error) => cause,
    );
    expect(error).to.be.instanceOf(Problem);
    return error!.message;
  }

  describe("a keystore", () => {
    it("gives the key to whoever has its password", async () => {
      const { address, sign } = await openKeystore(keystore(), PASSWORD);
      expect(address).to.equal(ADDRESS);
      expect(sign({ digest: id("digest") })).to.equal(new Wallet(KEY).signingKey.sign(id("digest")).serialized);
    });

    it("is made for this user alone, and doesn't show its key", async () => {
      const file = path.join(folder, "new.json");
      const address = await newKeystore(file, PASSWORD);
      expect(statSync(file).mode & 0o777).to.equal(0o600);
      const stored = JSON.parse(readFileSync(file, "utf8")) as object;
      expect(stored).to.include({ version: 3 }).and.not.to.have.property("x-ethers");
      expect((await openKeystore(file, PASSWORD)).address).to.equal(address);
    });

    it("isn't made where a file is, nor with a short password", async () => {
      const file = keystore();
      const before = readFileSync(file, "utf8");
      expect(await problemOf(newKeystore(file, PASSWORD))).to.match(/key\.json can't be written \(EEXIST/);
      expect(readFileSync(file, "utf8")).to.equal(before);
      expect(await problemOf(newKeystore(path.join(folder, "b.json"), "short"))).to.equal(
        "The password has 5 characters: take 12 or more.",
      );
    });

    const bad: [string, () => Promise<unknown>, RegExp][] = [
      ["another's password", () => openKeystore(keystore(), "another password"), /doesn't open with its password/],
      ["a file that isn't there", () => openKeystore("gone.json", PASSWORD), /gone\.json can't be read \(ENOENT/],
      [
        "a file that all can read",
        () => openKeystore(keystore(0o644), PASSWORD),
        /every user .*\(mode 644\): chmod 600/,
      ],
      ["a file that all can write", () => openKeystore(keystore(0o602), PASSWORD), /every user .*\(mode 602\)/],
      [
        "a bare key",
        () => openKeystore(write("bare", KEY), PASSWORD),
        /bare is none: name a file of Web3 Secret Storage/,
      ],
      ["other JSON", () => openKeystore(write("other", `{"key":"${KEY}"}`), PASSWORD), /other is none/],
    ];
    for (const [what, attempt, sentence] of bad) {
      it(`is refused, and not repeated: ${what}`, async () => {
        const said = await problemOf(attempt());
        expect(said).to.match(sentence);
        for (const secret of [KEY.slice(2), PASSWORD, "another password"]) expect(said).to.not.contain(secret);
      });
    }

    it("takes its password from a file, without the line's end", () => {
      expect(readPassword(write("password", `${PASSWORD}\n`))).to.equal(PASSWORD);
      expect(readPassword(write("password", ` ${PASSWORD}\r\n`))).to.equal(` ${PASSWORD}`);
      expect(() => readPassword(write("password", "\n"))).to.throw(Problem, /password is empty/);
      expect(() => readPassword(write("password", PASSWORD, 0o604))).to.throw(Problem, /open to every user/);
    });
  });

  describe("a key's setting", () => {
    const environment = { KEY, PASSWORD, TOKEN, SHORT: "token" };
    const read = (settings: object) => keySettingOf(new Section("settler", settings, environment), "key");
    const signer = (changes: object = {}) => ({
      key: { signer: { url: "http://127.0.0.1:8093", address: ADDRESS, tokenVariable: "TOKEN", ...changes } },
    });

    it("is a variable, a keystore or a signer", async () => {
      const file = keystore();
      const passwordFile = write("password", PASSWORD);
      const inKeystore = { keystore: file, password: PASSWORD };
      expect(read({ keyVariable: "KEY" })).to.deep.equal({ privateKey: KEY });
      expect(read({ key: { keystore: file, passwordVariable: "PASSWORD" } })).to.deep.equal(inKeystore);
      expect(read({ key: { keystore: file, passwordFile } })).to.deep.equal(inKeystore);
      const { url } = { url: "http://127.0.0.1:8093" };
      expect(read(signer())).to.deep.equal({ url, address: ADDRESS, token: TOKEN });
      expect(read(signer({ url: "unix:/run/signer.sock" }))).to.include({ url: "unix:/run/signer.sock" });
      expect(read(signer({ url: "https://signer.example/" }))).to.include({ url: "https://signer.example" });
      for (const setting of [read({ keyVariable: "KEY" }), inKeystore, read(signer())]) {
        expect((await openKey(setting)).address).to.equal(ADDRESS);
        expect(describeKey(setting)).to.not.contain(KEY).and.not.contain(PASSWORD);
      }
    });

    const bad: [string, () => object, string][] = [
      ["none", () => ({}), "settler.keyVariable is missing."],
      ["two", () => ({ keyVariable: "KEY", ...signer() }), "settler.key and settler.keyVariable both name a key"],
      ["a keystore without a password", () => ({ key: { keystore: "a" } }), "settler.key.passwordVariable is missing."],
      [
        "two passwords",
        () => ({ key: { keystore: "a", passwordVariable: "PASSWORD", passwordFile: "b" } }),
        "settler.key.passwordFile and settler.key.passwordVariable both name a secret",
      ],
      [
        "a password that isn't there",
        () => ({ key: { keystore: "a", passwordFile: "gone" } }),
        "settler.key.passwordFile: The file gone can't be read (ENOENT",
      ],
      [
        "a password that all can read",
        () => ({ key: { keystore: "a", passwordFile: write("open", PASSWORD, 0o644) } }),
        "is open to every user of this machine (mode 644)",
      ],
      [
        "a password that is empty",
        () => ({ key: { keystore: "a", passwordFile: write("empty", "\n") } }),
        "which is empty.",
      ],
      [
        "a keystore and a signer",
        () => ({ key: { ...signer().key, keystore: "a" } }),
        "settler.key.keystore is no setting",
      ],
      [
        "a signer of another machine without https",
        () => signer({ url: "http://10.0.0.5:8093" }),
        "settler.key.signer.url is 10.0.0.5's: from another machine, keys sign by https only.",
      ],
      ["a signer that is no URL", () => signer({ url: "signer" }), "settler.key.signer.url must be a URL"],
      ["a signer of no key", () => signer({ address: "0x12" }), "settler.key.signer.address must be an address"],
      [
        "a token for its variable",
        () => signer({ tokenVariable: "ab".repeat(32) }),
        "must be the name of an environment",
      ],
    ];
    for (const [what, settings, sentence] of bad) {
      it(`is refused: ${what}`, () => {
        expect(() => read(settings())).to.throw(ConfigError, sentence);
      });
    }
  });
});
