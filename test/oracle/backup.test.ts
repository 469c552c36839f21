import { expect } from "chai";
import { id } from "ethers";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { backUp } from "../../oracle/store/backup";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { serveReceipt } from "../support/stubMarket";

describe("backUp", () => {
  let folder: string;
  let data: string;
  let store: Store;

  const at = (...names: string[]) => path.join(folder, ...names);
  let served = 0;
  /** @returns its request's id */
  async function serve(): Promise<string> {
    const requestId = id(`request ${++served}`);
    await serveReceipt(store, { requestId });
    return requestId;
  }

  const openAt = (...names: string[]) => new Store(sqliteDatabase(at(...names)));

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "licet-backup-"));
    data = at("data");
    mkdirSync(data);
    store = openAt("data", "operator.sqlite");
  });
  afterEach(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  it("copies stores that are in use, with all that was in them, and nothing that came later", async () => {
    const attestors = openAt("data", "attestor.sqlite");
    const before = await serve();
    expect(backUp(data, at("copy", "today"))).to.deep.equal(
      ["attestor.sqlite", "operator.sqlite"].map((name) => at("copy", "today", name)),
    );
    const after = await serve();
    await attestors.close();
    expect(readdirSync(at("copy", "today")).sort()).to.deep.equal(["attestor.sqlite", "operator.sqlite"]);

    const copy = openAt("copy", "today", "operator.sqlite");
    expect(await copy.receipts.ofRequest(before)).to.deep.equal(await store.receipts.ofRequest(before));
    expect(await copy.receipts.ofRequest(after)).to.equal(null);
    await copy.close();
  });

  it("copies while receipts are written, each copy as the store was at one moment", async () => {
    let isOver = false;
    const writing = (async () => {
      while (!isOver) await serve();
    })();
    for (let i = 0; i < 5; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      backUp(data, at(`copy${i}`));
    }
    isOver = true;
    await writing;
    const counts: number[] = [];
    for (let i = 0; i < 5; i++) {
      const copy = openAt(`copy${i}`, "operator.sqlite");
      const { unbatched, cost } = await copy.figures();
      expect(cost).to.equal(11n * BigInt(unbatched));
      counts.push(unbatched);
      await copy.close();
    }
    expect(counts).to.deep.equal([...counts].sort((a, b) => a - b));
    expect(counts[4]).to.be.greaterThan(counts[0]);
  });

  it("touches no copy that is there, and makes none then", async () => {
    mkdirSync(at("copy"));
    writeFileSync(at("copy", "operator.sqlite"), "yesterday's");
    await openAt("data", "attestor.sqlite").close();
    expect(() => backUp(data, at("copy"))).to.throw("operator.sqlite is there already: name another folder");
    expect(readdirSync(at("copy"))).to.deep.equal(["operator.sqlite"]);
  });

  it("says that there is nothing to copy, or no place for it", async () => {
    expect(() => backUp(at("nowhere"), at("copy"))).to.throw(/dataFolder .*nowhere can't be read \(ENOENT/);
    mkdirSync(at("empty"));
    expect(() => backUp(at("empty"), at("copy"))).to.throw(/has no store: nothing to back up/);
    writeFileSync(at("file"), "");
    expect(() => backUp(data, at("file", "copy"))).to.throw(/The backup in .* can't be made \(ENOTDIR/);
  });

  it("leaves no part of a copy that fails", async () => {
    writeFileSync(
      at("data", "attestor.sqlite"),
      "no store at all, but longer than a header of one would have to be: ".repeat(20),
    );
    expect(() => backUp(data, at("copy"))).to.throw(/The backup in .* can't be made \(.*not a database/);
    expect(readdirSync(at("copy"))).to.deep.equal([]);
  });
});
