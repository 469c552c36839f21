import { expect } from "chai";
import { computeAddress, id } from "ethers";
import type { Seed } from "../../oracle/evidence/seeds";
import type { Finding } from "../../oracle/protocol/types";
import type { Database } from "../../oracle/store/database";
import { StoredBooks } from "../../oracle/store/evidenceBooks";
import { describeOnEach, type Place } from "../support/databases";

const SIGNER = computeAddress(id("signer"));
const NOW = 1_700_000_000;
const MOST = 3;

const seedOf = (n: number, fields: Partial<Seed> = {}): Seed => ({
  value: id(`seed ${n}`),
  operatorId: 2,
  receiptSigner: SIGNER,
  issuedAt: NOW,
  ...fields,
});
const findingOf = (n: number, from: number, until: number, fields: Partial<Finding> = {}): Finding => ({
  operatorId: 2,
  receiptSigner: SIGNER,
  tier: 2,
  from,
  until,
  evidenceHash: id(`evidence ${n}`),
  ...fields,
});

describeOnEach("an attestor's stored books of evidence", (placeOf) => {
  let place: Place;
  let db: Database;
  let books: StoredBooks;

  const open = async () => {
    db = await place.open();
    books = new StoredBooks(db);
  };

  beforeEach(async () => {
    place = placeOf();
    await open();
  });

  afterEach(async () => {
    await db.close();
    place.remove();
  });

  const reopen = async () => {
    await db.close();
    await open();
  };
  const issue = (seed: Seed, forgetBefore = 0) => books.issue(seed, forgetBefore, MOST);

  describe("seeds", () => {
    it("are found as they were issued, after a restart too", async () => {
      expect(await issue(seedOf(1))).to.equal(true);
      await reopen();
      expect(await books.find(id("seed 1"))).to.deep.equal({ ...seedOf(1), used: false });
      expect(await books.find(id("seed 2"))).to.equal(undefined);
    });

    it("are used once, whoever comes first, and stay used after a restart", async () => {
      await issue(seedOf(1));
      const uses = await Promise.all(Array.from({ length: 8 }, () => books.use(id("seed 1"))));
      expect(uses.filter((isFirst) => isFirst)).to.have.length(1);
      await reopen();
      expect(await books.use(id("seed 1"))).to.equal(false);
      expect(await books.find(id("seed 1"))).to.deep.include({ used: true });
    });

    it("can't be used where they weren't issued", async () => {
      expect(await books.use(id("seed 1"))).to.equal(false);
    });

    it("wait for their answers in no greater number than is allowed, of each signer", async () => {
      const issued = await Promise.all([1, 2, 3, 4].map((n) => issue(seedOf(n))));
      expect(issued.filter((isIssued) => isIssued)).to.have.length(MOST);
      expect(await issue(seedOf(5, { receiptSigner: computeAddress(id("other")) }))).to.equal(true);
      expect(await issue(seedOf(6, { operatorId: 3 }))).to.equal(true);
      await books.use(id("seed 1"));
      expect(await issue(seedOf(7))).to.equal(true);
    });

    it("are forgotten once no answer would be taken", async () => {
      await issue(seedOf(1));
      await issue(seedOf(2, { issuedAt: NOW + 1 }), NOW + 1);
      expect(await books.find(id("seed 1"))).to.equal(undefined);
      expect(await books.find(id("seed 2"))).to.deep.include({ used: false });
    });
  });

  describe("devices", () => {
    it("are one operator's at a time, all or none of a claim, after a restart too", async () => {
      expect(await books.claim(["GPU-1", "GPU-2"], 2, NOW, NOW + 100)).to.deep.equal([]);
      await reopen();
      const held = [{ device: "GPU-2", operatorId: 2, until: NOW + 100 }];
      expect(await books.claim(["GPU-3", "GPU-2"], 3, NOW + 50, NOW + 150)).to.deep.equal(held);
      expect(await books.claim(["GPU-3"], 4, NOW + 50, NOW + 150)).to.deep.equal([]);
    });

    it("go to one of two operators that show them at once", async () => {
      const claims = await Promise.all(
        [2, 3, 4, 5].map((operatorId) => books.claim(["GPU-1"], operatorId, NOW, NOW + 9)),
      );
      expect(claims.filter((held) => held.length === 0)).to.have.length(1);
    });

    it("may be shown again by the same operator, and by another when that evidence has run out", async () => {
      await books.claim(["GPU-1"], 2, NOW, NOW + 100);
      expect(await books.claim(["GPU-1"], 2, NOW + 50, NOW + 150)).to.deep.equal([]);
      expect(await books.claim(["GPU-1"], 3, NOW + 150, NOW + 250)).to.have.length(1);
      expect(await books.claim(["GPU-1"], 3, NOW + 151, NOW + 251)).to.deep.equal([]);
    });
  });

  describe("findings", () => {
    it("are given where they stand at some time of the span, the latest first", async () => {
      const findings = [findingOf(1, 100, 200), findingOf(2, 150, 300), findingOf(3, 300, 400)];
      for (const finding of findings) await books.recordFinding(finding);
      await books.recordFinding(findingOf(4, 100, 400, { operatorId: 3 }));
      await reopen();
      expect(await books.findings(2, { epochStart: 199, epochEnd: 300 })).to.deep.equal([findings[1], findings[0]]);
      expect(await books.findings(2, { epochStart: 200, epochEnd: 301 })).to.deep.equal([findings[2], findings[1]]);
      expect(await books.findings(2, { epochStart: 400, epochEnd: 500 })).to.deep.equal([]);
    });

    it("may be noted twice", async () => {
      await books.recordFinding(findingOf(1, 100, 200));
      await books.recordFinding(findingOf(1, 100, 200));
      expect(await books.findings(2, { epochStart: 100, epochEnd: 101 })).to.have.length(1);
    });
  });
});
