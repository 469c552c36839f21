import { expect } from "chai";
import { randomUUID } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const ORACLE = path.join(__dirname, "../../oracle");
const LOADER = path.join(ORACLE, "loadTypeScript.js");

/** Loads a file in a process of its own, and gives what it exports, and whether that took the compiler. */
const PROGRAM = `
  require(${JSON.stringify(LOADER)});
  let loaded;
  try { loaded = require(process.argv[1]).value; } catch (error) { loaded = error.stack; }
  const isCompiled = Object.keys(require.cache).some((file) => file.endsWith("typescript.js"));
  console.log(JSON.stringify({ loaded, isCompiled }));
`;

describe("loading TypeScript", function () {
  this.timeout(60_000);

  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "licet-load-"));
    file = path.join(folder, "one.ts");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const run = (...words: string[]) => execFileSync(process.execPath, words, { encoding: "utf8" });
  const load = (text: string): { loaded: string; isCompiled: boolean } => {
    writeFileSync(file, text);
    return JSON.parse(run("-e", PROGRAM, file));
  };
  /** Nobody compiled it before. */
  const unique = () => `export const value: string = "${randomUUID()}";\n`;
  const valueIn = (text: string) => /"(.*)"/.exec(text)![1];

  it("takes the compiler once for what a file says", () => {
    const text = unique();
    expect(load(text)).to.deep.equal({ loaded: valueIn(text), isCompiled: true });
    expect(load(text)).to.deep.equal({ loaded: valueIn(text), isCompiled: false });
  });

  it("compiles a file again that was changed", () => {
    const [before, after] = [unique(), unique()];
    load(before);
    expect(load(after)).to.deep.equal({ loaded: valueIn(after), isCompiled: true });
  });

  it("names the lines of the source in an error's stack, kept or not", () => {
    const text = `interface Gone {\n  field: number;\n}\n${unique()}throw new Error(value as unknown as Gone & string);\n`;
    for (const isCompiled of [true, false]) {
      const { loaded, ...rest } = load(text);
      expect(rest).to.deep.equal({ isCompiled });
      expect(loaded).to.contain(`${file}:5:7`);
    }
  });

  it("takes no compiler for the oracle and its threads, once it was compiled", () => {
    run(path.join(ORACLE, "compile.js"));
    for (const one of ["cli", "attestor/verifyRecords", "disputes/proveReceipt"]) {
      expect(JSON.parse(run("-e", PROGRAM, path.join(ORACLE, one)))).to.deep.equal({ isCompiled: false });
    }
  });
});
