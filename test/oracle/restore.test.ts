import { DatabaseSync } from "@photostructure/sqlite";
import { expect } from "chai";
import { id } from "ethers";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Problem } from "../../oracle/problem";
import { backUp } from "../../oracle/store/backup";
import { restore } from "../../oracle/store/restore";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { MIGRATIONS } from "../../oracle/store/storeSchema";
import { EPOCH, serveReceipt } from "../support/stubMarket";

const NOW = 1_700_000_000;

describe("restore", () => {
  let folder: string;
  let store: Store;

  const at = (...names: string[]) => path.join(folder, ...names);
  const openAt = (...names: string[]) => new Store(sqliteDatabase(at(...names)));
  const attempt = (from = at("copy"), to = at("new")) => restore(from, to, NOW);
  const copy = () => at("copy", "operator.sqlite");

  beforeEach(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "licet-restore-"));
    mkdirSync(at("data"));
    store = openAt("data", "operator.sqlite");
    for (const i of [1, 2]) await serveReceipt(store, { requestId: id(`request ${i}`) });
    backUp(at("data"), at("copy"));
  });

  afterEach(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  it("puts a copy back as it was, and lets nobody serve from it before it is rebuilt", async () => {
    const { file, schema, figures, lastReceiptAt } = await attempt();
    expect({ file, schema, lastReceiptAt }).to.deep.equal({
      file: at("new", "operator.sqlite"),
      schema: MIGRATIONS.length,
      lastReceiptAt: EPOCH.epochStart + 10,
    });
    expect(figures).to.include({ unbatched: 2, cost: 22n });
    expect(readdirSync(at("new"))).to.deep.equal(["operator.sqlite"]);
    const restored = openAt("new", "operator.sqlite");
    expect(await restored.receipts.ofRequest(id("request 2"))).to.deep.equal(
      await store.receipts.ofRequest(id("request 2")),
    );
    expect(await restored.recovery.incompleteSince()).to.equal(NOW);
    await restored.close();
    expect(await store.recovery.incompleteSince()).to.equal(null);
  });

  it("touches no store that is there", async () => {
    await expect(attempt(at("copy"), at("data"))).to.be.rejectedWith(
      Problem,
      /operator\.sqlite is there already: move it/,
    );
    expect((await store.figures()).unbatched).to.equal(2);
  });

  it("takes what a try that was cut short has left for nothing", async () => {
    mkdirSync(at("new"));
    for (const ending of [".part", ".part-wal"]) writeFileSync(at("new", `operator.sqlite${ending}`), "half of it");
    expect((await attempt()).figures.unbatched).to.equal(2);
    expect(readdirSync(at("new"))).to.deep.equal(["operator.sqlite"]);
  });

  const refused: [string, () => void, RegExp][] = [
    ["a folder without a copy", () => rmSync(copy()), /operator\.sqlite isn't there: name a folder of a backup/],
    [
      "an attestor's copy",
      () => {
        rmSync(copy());
        writeFileSync(at("copy", "attestor.sqlite"), "");
      },
      /has an attestor's store alone.*another key, with an empty store/,
    ],
    ["a copy that is cut short", () => truncateSync(copy(), 20_480), /operator\.sqlite isn't whole \(.*take another/],
    ["what is no store", () => writeFileSync(copy(), "no store at all ".repeat(99)), /isn't whole \(.*not a database/],
    ["another program's database", () => recreate(1, "CREATE TABLE other (a)"), /isn't a store of Licet's/],
    [
      "a copy of a later release",
      () => recreate(MIGRATIONS.length + 1, "CREATE TABLE receipts (finished_at)"),
      /has schema \d+, this program knows \d+: update Licet/,
    ],
  ];
  for (const [what, arrange, sentence] of refused) {
    it(`refuses ${what}, and leaves nothing behind`, async () => {
      arrange();
      await expect(attempt()).to.be.rejectedWith(Problem, sentence);
      expect(existsSync(at("new"))).to.equal(false);
    });
  }

  function recreate(version: number, sql: string): void {
    rmSync(copy());
    const db = new DatabaseSync(copy());
    db.exec(`${sql}; PRAGMA user_version = ${version}`);
    db.close();
  }

  it("says where it can't be put", async () => {
    writeFileSync(at("file"), "");
    await expect(attempt(at("copy"), at("file", "data"))).to.be.rejectedWith(Problem, /can't be put in .* \(ENOTDIR/);
  });
});
