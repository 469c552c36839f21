import { DatabaseSync } from "@photostructure/sqlite";
import { expect } from "chai";
import { hexlify } from "ethers";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { Problem } from "../../oracle/problem";
import { type Database, StoreUnavailable } from "../../oracle/store/database";
import { postgresDatabase } from "../../oracle/store/postgresDatabase";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { MIGRATIONS } from "../../oracle/store/storeSchema";
import { receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { decodeReceipt, encodeReceipt } from "../../oracle/protocol/receiptBytes";
import { DOMAIN } from "../support/fakeMessages";
import { KEYS, LANE, receiptUnder, signGrant } from "../support/stubMarket";
import { describeOnEach, type Place } from "../support/databases";
import { freshSchema, TEST_DATABASE_URL } from "../support/postgres";

describeOnEach("A database", (placeOf) => {
  let place: Place;
  let database: Database;

  beforeEach(async () => {
    place = placeOf();
    database = await place.open();
  });

  afterEach(async () => {
    await database.close();
    place.remove();
  });

  const note = (what: string) => database.run("INSERT INTO owner VALUES (?, ?)", [what, "1"]);
  const noted = async () => (await database.all("SELECT what FROM owner ORDER BY what")).map(({ what }) => what);

  it("gives whole numbers as bigint, texts, bytes and null as they came, and counts changes", async () => {
    const bytes = Uint8Array.of(0, 255, 7);
    const values = [2n ** 63n - 1n, 1, 7, 8, bytes, 2, 3, "0xAb", bytes, null];
    await database.run("INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values);
    const row = (await database.row("SELECT * FROM copies"))!;
    expect([row.position, row.operator_id, row.signer]).to.deep.equal([2n ** 63n - 1n, 1n, "0xAb"]);
    expect(Uint8Array.from(row.record as Uint8Array)).to.deep.equal(bytes);
    expect(await database.run("UPDATE copies SET arrived_at = arrived_at + ?", [1])).to.equal(1);
    expect(
      await database.row("SELECT count(*) AS count, sum(arrived_at) AS sum, max(1) AS one FROM copies"),
    ).to.deep.equal({
      count: 1n,
      sum: 4n,
      one: 1n,
    });
    expect(row.leaf).to.equal(null);
    expect(await database.row("SELECT unposted_since FROM voucher_terms")).to.equal(null);
  });

  it("orders texts by their bytes, whatever the server's language", async () => {
    for (const what of ["b", "B", "a", "0x1"]) await note(what);
    expect(await noted()).to.deep.equal(["0x1", "B", "a", "b"]);
  });

  it("does all of a transaction or nothing", async () => {
    const attempt = database.transaction(async (queries) => {
      await queries.run("INSERT INTO owner VALUES (?, ?)", ["a", "1"]);
      throw new Error("no");
    });
    await expect(attempt).to.be.rejectedWith("no");
    expect(await noted()).to.deep.equal([]);
  });

  it("undoes a transaction whose statement failed, though its work went on", async () => {
    const attempt = database.transaction(async (queries) => {
      await queries.run("INSERT INTO owner VALUES (?, ?)", ["a", "1"]);
      await queries.run("INSERT INTO owner VALUES (?, ?)", ["a", "1"]);
    });
    await expect(attempt).to.be.rejectedWith(/unique/i);
    expect(await noted()).to.deep.equal([]);
    await note("b");
    expect(await noted()).to.deep.equal(["b"]);
  });

  it("has transactions wait for each other, and shows nobody what may be undone", async () => {
    const steps: string[] = [];
    const work = (name: string) => async () => {
      steps.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      steps.push(`${name} ends`);
    };
    let seen: unknown;
    const first = database.transaction(async (queries) => {
      await queries.run("INSERT INTO owner VALUES (?, ?)", ["a", "1"]);
      await work("first")();
      throw new Error("no");
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
    await Promise.allSettled([first, database.transaction(work("second")), noted().then((all) => (seen = all))]);
    expect(steps).to.deep.equal(["first begins", "first ends", "second begins", "second ends"]);
    expect(seen).to.deep.equal([]);
  });
});

describeOnEach("A store that keeps copies by their hashes alone", (placeOf) => {
  it("finds them by their numbers once it is brought up to date", async () => {
    const place = placeOf();
    const later = MIGRATIONS.splice(MIGRATIONS.findIndex((migration) => migration.includes("copies_by_number")));
    const older = await place.open().finally(() => MIGRATIONS.push(...later));
    const receipts = [3n, 2n ** 40n + 5n].map((sequence) => receiptUnder(signGrant(), sequence, { finishedAt: 100 }));
    for (const [i, receipt] of receipts.entries()) {
      const record = encodeReceipt({ receipt, signature: signDigest(KEYS.operator, receiptDigest(DOMAIN, receipt)) });
      const values = [i + 1, Buffer.alloc(32, i), LANE.operatorId, receipt.finishedAt, 90, "0xab", record, null];
      await older.run("INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values);
    }
    await older.close();

    const store = new Store(await place.open());
    const names = receipts.map(({ licenseId, sequence }, i) => ({
      licenseId,
      sequence,
      hash: hexlify(Buffer.alloc(32, i)),
    }));
    const found = await store.copies.find(LANE.operatorId, names);
    expect(names.map(({ hash }) => decodeReceipt(found.get(hash)!.record).receipt.sequence)).to.deep.equal(
      receipts.map(({ sequence }) => sequence),
    );
    expect(await store.copies.count()).to.deep.equal(new Map([[LANE.operatorId, 2]]));
    await store.close();
    place.remove();
  });
});

describeOnEach("A store that remembers each attested receipt by itself", (placeOf) => {
  it("remembers as much once it is brought up to date", async () => {
    const place = placeOf();
    const later = MIGRATIONS.splice(MIGRATIONS.findIndex((migration) => migration.includes("seen_spans")));
    const older = await place.open().finally(() => MIGRATIONS.push(...later));
    const hash = (digit: number) => "0x" + String(digit).repeat(64);
    for (const [sequence, batch] of [1, 2].entries()) {
      await older.run("INSERT INTO attested_batches VALUES (2, 3, 4, ?, ?, ?)", [sequence, 1_000 + batch, hash(batch)]);
    }
    const receipts = [
      [hash(5), hash(6), 2, 7, 1, hash(0), hash(9), 11, hash(1), 900],
      [hash(7), hash(8), 2, 7, 2, hash(5), hash(9), 31, hash(2), null],
    ];
    const columns = receipts[0].map(() => "?").join(", ");
    for (const receipt of receipts) await older.run(`INSERT INTO seen_receipts VALUES (${columns})`, receipt);
    await older.close();

    const store = new Store(await place.open());
    const license = { operatorId: 2, licenseId: 7n };
    expect(await store.attested.seenSpans([{ ...license, first: 1n, last: 2n }])).to.deep.equal([
      {
        ...{ ...license, first: 1n, last: 1n, batchId: hash(1), previousHash: hash(0), lastHash: hash(5) },
        ...{ firstFinishedAt: 900, lastFinishedAt: 900 },
      },
      {
        ...{ ...license, first: 2n, last: 2n, batchId: hash(2), previousHash: hash(5), lastHash: hash(7) },
        ...{ firstFinishedAt: null, lastFinishedAt: null },
      },
    ]);
    const requests = new Map([6, 8].map((request, i) => [hash(request), hash(i + 1)]));
    expect(await store.attested.seenRequests(2, [hash(6), hash(8), hash(5)])).to.deep.equal(requests);
    expect(await store.attested.cost(hash(9), hash(2))).to.equal(11n);
    expect(await store.attested.cost(hash(9), hash(3))).to.equal(42n);
    await store.close();
    place.remove();
  });
});

describe("A store of another version", () => {
  it("is refused in SQLite where a newer program wrote it", () => {
    const folder = mkdtempSync(join(tmpdir(), "licet-store-"));
    const newer = join(folder, "newer.sqlite");
    const db = new DatabaseSync(newer);
    db.exec("PRAGMA user_version = 99");
    db.close();
    expect(() => sqliteDatabase(newer)).to.throw(
      Problem,
      `has schema 99, this program knows ${MIGRATIONS.length}: update Licet.`,
    );
    rmSync(folder, { recursive: true });
  });

  it("writes ahead in SQLite, so that a backup can be taken while it is in use", async () => {
    const folder = mkdtempSync(join(tmpdir(), "licet-store-"));
    const path = join(folder, "store.sqlite");
    const store = sqliteDatabase(path);
    const db = new DatabaseSync(path);
    expect(db.prepare("PRAGMA journal_mode").get()).to.deep.include({ journal_mode: "wal" });
    db.close();
    await store.close();
    rmSync(folder, { recursive: true });
  });
});

const describePostgres = TEST_DATABASE_URL === undefined ? describe.skip : describe;
describePostgres("A database in PostgreSQL, which LICET_TEST_DATABASE_URL names", () => {
  const url = TEST_DATABASE_URL!;
  let client: Client;

  beforeEach(async () => {
    client = new Client({ connectionString: url });
    await client.connect();
  });

  afterEach(() => client.end());

  it("is refused where a newer program wrote it", async () => {
    const schema = freshSchema();
    await (await postgresDatabase(url, schema)).close();
    await client.query(`UPDATE ${schema}.schema_version SET version = 99`);
    await expect(postgresDatabase(url, schema)).to.be.rejectedWith(
      Problem,
      `has schema 99, this program knows ${MIGRATIONS.length}: update Licet.`,
    );
  });

  it("is refused where another program's tables are, and where its name isn't one", async () => {
    const schema = freshSchema();
    await client.query(`CREATE SCHEMA ${schema}`);
    await client.query(`CREATE TABLE ${schema}.songs (title TEXT)`);
    await expect(postgresDatabase(url, schema)).to.be.rejectedWith(Problem, /isn't a store of Licet's/);
    await expect(postgresDatabase(url, "Licet; DROP")).to.be.rejectedWith(Problem, /take lowercase letters/);
  });

  it("is refused without its URL being shown where no server is", async () => {
    const error = await postgresDatabase("postgresql://licet:secret@127.0.0.1:1/licet", "licet").catch(
      (cause) => cause,
    );
    expect(error).to.be.instanceOf(Problem);
    expect(error.message).to.match(/schema licet can't be used \(.*ECONNREFUSED.*\): its server must run/);
    expect(error.message).not.to.contain("secret");
  });

  it("is made once where several processes come at once, and each has its own in another schema", async () => {
    const schema = freshSchema();
    const all = await Promise.all(Array.from({ length: 4 }, () => postgresDatabase(url, schema)));
    const other = await postgresDatabase(url, freshSchema());
    await all[0].run("INSERT INTO owner VALUES ('a', '1')");
    expect(await all[3].row("SELECT what FROM owner")).to.deep.equal({ what: "a" });
    expect(await other.row("SELECT what FROM owner")).to.equal(null);
    await Promise.all([...all, other].map((one) => one.close()));
  });

  it("does a transaction anew that the server gave up", async () => {
    const database = await postgresDatabase(url, freshSchema());
    let attempts = 0;
    await database.transaction(async (queries) => {
      await queries.run("INSERT INTO owner VALUES ('a', '1')");
      if (++attempts === 1) throw Object.assign(new Error("could not serialize"), { code: "40001" });
    });
    expect(attempts).to.equal(2);
    expect(await database.all("SELECT what FROM owner")).to.have.length(1);
    await database.close();
  });

  it("takes the turn from a process that stands still in the midst of its transaction, and undoes that", async () => {
    const schema = freshSchema();
    const frozen = await postgresDatabase(url, schema, { statementMs: 300, silenceMs: 60_000 });
    const other = await postgresDatabase(url, schema);
    let wake = () => {};
    let attempt: Promise<unknown> = Promise.resolve();
    await new Promise<void>((stands) => {
      attempt = frozen.transaction(async (queries) => {
        await queries.run("INSERT INTO owner VALUES ('a', '1')");
        stands();
        await new Promise<void>((resolve) => (wake = resolve));
        await queries.run("INSERT INTO owner VALUES ('b', '1')");
      });
    });
    attempt.catch(() => undefined);
    await other.transaction((queries) => queries.run("INSERT INTO owner VALUES ('c', '1')"));
    wake();
    await expect(attempt).to.be.rejectedWith(StoreUnavailable, /can't be reached/);
    expect(await frozen.all("SELECT what FROM owner")).to.deep.equal([{ what: "c" }]);
    await Promise.all([frozen.close(), other.close()]);
  });

  it("gives up a statement that takes too long, fails who waited behind it, and goes on", async () => {
    const database = await postgresDatabase(url, freshSchema(), { statementMs: 300, silenceMs: 60_000 });
    const slow = database.transaction((queries) => queries.row("SELECT pg_sleep(600)"));
    const behind = database.transaction((queries) => queries.run("INSERT INTO owner VALUES ('a', '1')"));
    const read = database.row("SELECT pg_sleep(600)");
    for (const attempt of [slow, behind, read]) {
      await expect(attempt).to.be.rejectedWith(StoreUnavailable, /can't be reached \(.*(statement timeout|in vain)/);
    }
    await database.transaction((queries) => queries.run("INSERT INTO owner VALUES ('b', '1')"));
    expect(await database.all("SELECT what FROM owner")).to.deep.equal([{ what: "b" }]);
    await database.close();
  });

  it("says that it can't be reached where its connections are cut, and goes on by itself", async () => {
    const schema = freshSchema();
    const database = await postgresDatabase(url, schema);
    const cut = () =>
      client.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", [schema]);
    const attempt = database.transaction(async (queries) => {
      await queries.run("INSERT INTO owner VALUES ('a', '1')");
      await cut();
      await queries.run("INSERT INTO owner VALUES ('b', '1')");
    });
    await expect(attempt).to.be.rejectedWith(StoreUnavailable, /can't be reached/);
    expect(await database.all("SELECT what FROM owner")).to.deep.equal([]);
    await database.transaction((queries) => queries.run("INSERT INTO owner VALUES ('c', '1')"));
    expect(await database.all("SELECT what FROM owner")).to.deep.equal([{ what: "c" }]);
    await database.close();
  });
});
