import { expect } from "chai";
import { keccak256, toUtf8Bytes } from "ethers";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  buildManifest,
  canonicalJson,
  type Manifest,
  ManifestError,
  manifestHash,
  parseManifest,
  verifyFolder,
} from "../../oracle/protocol/manifest";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

describe("manifest", () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "licet-manifest-"));
  });

  afterEach(() => rm(folder, { recursive: true }));

  const write = async (files: Record<string, string>) => {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(folder, path, ".."), { recursive: true });
      await writeFile(join(folder, path), text);
    }
  };

  const problemOf = async (promise: Promise<unknown>): Promise<Error> =>
    promise.then(
      () => expect.fail("nothing was refused"),
      (error) => error,
    );

  describe("buildManifest", () => {
    it("refuses a folder without files", async () => {
      await mkdir(join(folder, "empty"));
      const problem = await problemOf(buildManifest(folder));
      expect(problem).to.be.instanceOf(ManifestError);
      expect(problem.message).to.contain(folder);
    });

    it("refuses a symbolic link, by name", async () => {
      await write({ "weights.gguf": "w" });
      await symlink(join(folder, "weights.gguf"), join(folder, "latest.gguf"));
      expect((await problemOf(buildManifest(folder))).message).to.contain("latest.gguf");
    });

    it("refuses a name with a backslash", async () => {
      await write({ "a\\b": "w" });
      expect((await problemOf(buildManifest(folder))).message).to.contain("a\\\\b");
    });

    it("lists every file below the folder, ascending by path, with size and SHA-256", async () => {
      await write({ "b.txt": "bb", "a/z.bin": "", "a.txt": "α", ".hidden": "h" });
      expect(await buildManifest(folder)).to.deep.equal({
        licet: "manifest/1",
        files: [
          { path: ".hidden", size: 1, sha256: sha256("h") },
          { path: "a.txt", size: 2, sha256: sha256("α") },
          { path: "a/z.bin", size: 0, sha256: sha256("") },
          { path: "b.txt", size: 2, sha256: sha256("bb") },
        ],
      });
    });

    it("tells how far it is, up to the last byte", async () => {
      await write({ one: "1".repeat(100_000), two: "2".repeat(50_000) });
      const calls: [number, number][] = [];
      await buildManifest(folder, (done, total) => calls.push([done, total]));
      expect(calls.every(([, total]) => total === 150_000)).to.equal(true);
      expect(calls.map(([done]) => done)).to.deep.equal([...calls.map(([done]) => done)].sort((a, b) => a - b));
      expect(calls.at(-1)).to.deep.equal([150_000, 150_000]);
    });
  });

  describe("canonicalJson", () => {
    const manifest: Manifest = { licet: "manifest/1", files: [{ size: 1, path: 'a"b', sha256: sha256("x") }] };

    it("has its keys in order and no white space", () => {
      expect(canonicalJson(manifest)).to.equal(
        `{"files":[{"path":"a\\"b","sha256":"${sha256("x")}","size":1}],"licet":"manifest/1"}`,
      );
    });

    it("is what the hash is of", () => {
      expect(manifestHash(manifest)).to.equal(keccak256(toUtf8Bytes(canonicalJson(manifest))));
    });

    it("survives parsing", async () => {
      await write({ "a/b": "1", c: "2" });
      const built = await buildManifest(folder);
      expect(parseManifest(canonicalJson(built))).to.deep.equal(built);
    });
  });

  describe("parseManifest", () => {
    const file = (path: unknown) => ({ path, sha256: sha256("x"), size: 1 });
    const text = (...files: unknown[]) => JSON.stringify({ files, licet: "manifest/1" });

    const refused: [string, string, string][] = [
      ["what isn't JSON", "{", "JSON"],
      ["what is JSON and no object", "null", "licet"],
      ["another format", '{"files":[],"licet":"manifest/2"}', "manifest/1"],
      ["no files", text(), "at least one"],
      ["a path out of the folder", text(file("../secret")), "../secret"],
      ["an absolute path", text(file("/etc/passwd")), "/etc/passwd"],
      ["a path that is no text", text(file(7)), "7"],
      ["a negative size", text({ ...file("a"), size: -1 }), "-1"],
      ["a hash in capitals", text({ ...file("a"), sha256: sha256("x").toUpperCase() }), "lower-case"],
      ["files out of order", text(file("b"), file("a")), "a must come before b"],
      ["a file twice", text(file("a"), file("a")), "only once"],
      ["an unknown key", text({ ...file("a"), mode: 7 }), "canonical"],
      ["white space", text(file("a")) + "\n", "canonical"],
    ];
    for (const [what, given, said] of refused) {
      it(`refuses ${what}`, () => {
        expect(() => parseManifest(given))
          .to.throw(ManifestError)
          .with.property("message")
          .that.contains(said);
      });
    }
  });

  describe("verifyFolder", () => {
    it("finds nothing in the folder that the manifest was made of", async () => {
      await write({ a: "1", "b/c": "2" });
      expect(await verifyFolder(folder, await buildManifest(folder))).to.deep.equal([]);
    });

    it("lists what is missing, extra and changed, by path", async () => {
      await write({ gone: "1", kept: "2", longer: "3", other: "4" });
      const manifest = await buildManifest(folder);
      await rm(join(folder, "gone"));
      await write({ longer: "33", other: "5", "new/file": "6" });
      expect(await verifyFolder(folder, manifest)).to.deep.equal([
        { path: "gone", problem: "missing" },
        { path: "longer", problem: "changed" },
        { path: "new/file", problem: "extra" },
        { path: "other", problem: "changed" },
      ]);
    });

    it("reads only the files whose size is right", async () => {
      await write({ kept: "2", longer: "3" });
      const manifest = await buildManifest(folder);
      await write({ longer: "3".repeat(1_000) });
      let total = 0;
      await verifyFolder(folder, manifest, (_done, bytesTotal) => (total = bytesTotal));
      expect(total).to.equal(1);
    });
  });
});
