import { expect } from "chai";
import { computeAddress, hexlify, id, toBeHex } from "ethers";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import {
  batchDigest,
  grantDigest,
  receiptDigest,
  signDigest,
  signedGrantFromJson,
} from "../../oracle/protocol/messages";
import {
  packRequestSignature,
  requestSignatureBytes,
  requestSignatureHash,
} from "../../oracle/protocol/requestSignature";
import type { Epoch, Receipt, SignedGrant } from "../../oracle/protocol/types";
import { counted, headerOf, summarize } from "../../oracle/settler/batches";
import { Archive, archiveProblem } from "../../oracle/store/archive";
import { NONCES_KEPT } from "../../oracle/store/archiveRows";
import { Store } from "../../oracle/store/store";
import type { StoredReceipt } from "../../oracle/store/receiptRows";
import { describeOnEach, type Place } from "../support/databases";
import type { Prepayment } from "../../oracle/x402/prepayments";
import { DOMAIN, usage } from "../support/fakeMessages";
import { EPOCH, EVIDENCE_HASH, KEYS, LANE, MANIFEST_HASH, serveReceipt, signGrant } from "../support/stubMarket";

const A_DAY = 86_400;
const LATER = EPOCH.epochEnd + 90 * A_DAY;
const NEXT = { epochStart: EPOCH.epochEnd, epochEnd: EPOCH.epochEnd + 3_600 };

const grantHashFor = (licenseId: bigint) => grantDigest(DOMAIN, signGrant({ licenseId }).grant);

function signReceipt(receipt: Receipt) {
  const hash = receiptDigest(DOMAIN, receipt);
  return { hash, signature: signDigest(KEYS.operator, hash), signer: computeAddress(KEYS.operator) };
}

describeOnEach("Archive", (placeOf) => {
  let place: Place;
  let store: Store;
  let folder: string;
  let archive: Archive;
  let served: number;
  let batches: bigint;

  beforeEach(async () => {
    [served, batches] = [0, 0n];
    place = placeOf();
    store = new Store(await place.open());
    folder = mkdtempSync(path.join(tmpdir(), "licet-archive-"));
    archive = new Archive(store, folder);
  });

  afterEach(async () => {
    await store.close();
    place.remove();
    rmSync(folder, { recursive: true });
  });

  /** @returns its request's id */
  const serve = (licenseId: bigint, finishedAt: number) =>
    serveReceipt(store, { requestId: toBeHex(++served, 32), licenseId, finishedAt });

  async function draft(epoch: Epoch): Promise<string> {
    const receipts = await store.unbatched.receipts(LANE, epoch);
    const { summary, entries } = summarize(receipts.map(counted));
    const level = { availabilityBps: 9_900, p95TtftMs: 200, samples: 30 };
    const header = headerOf(LANE, epoch, ++batches, summary, level, EVIDENCE_HASH);
    const batchId = batchDigest(DOMAIN, header);
    await store.batches.saveDraft(
      batchId,
      header,
      entries,
      [],
      receipts.map(({ hash }) => hash),
    );
    return batchId;
  }

  /** Settles all of an epoch. @returns the batch's id */
  async function settle(epoch: Epoch): Promise<string> {
    const batchId = await draft(epoch);
    await store.batches.markAttested(batchId, "0x12");
    await store.batches.markSubmitted(batchId);
    await store.batches.markSettled(batchId);
    return batchId;
  }

  const rowsOf = async (licenseId: bigint) => (await store.receipts.from(LANE.operatorId, licenseId, 1n, 99)).length;

  /** As a licensee reads its receipts, so many a page. */
  async function listed(licenseId: bigint, limit: number): Promise<StoredReceipt[]> {
    const all: StoredReceipt[] = [];
    for (let hasMore = true; hasMore;) {
      const from = (all.at(-1)?.receipt.sequence ?? 0n) + 1n;
      const page = await archive.receiptsFrom(LANE.operatorId, licenseId, from, limit);
      expect(page.receipts.length).to.be.within(page.hasMore ? 1 : 0, limit);
      all.push(...page.receipts);
      hasMore = page.hasMore;
    }
    return all;
  }

  const fileOf = (name: string) => path.join(folder, "archive", `${name}.ndjson.gz`);

  describe("of a batch that settled long ago", () => {
    let requests: string[];
    let batchId: string;

    beforeEach(async () => {
      requests = [];
      for (const licenseId of [7n, 8n, 7n]) requests.push(await serve(licenseId, EPOCH.epochStart + 10));
      batchId = await settle(EPOCH);
      requests.push(await serve(7n, NEXT.epochStart + 10));
    });

    it("shows each receipt as before, and keeps of its rows only licenses' last", async () => {
      const before = await Promise.all(requests.map((requestId) => store.receipts.ofRequest(requestId)));
      const [made] = await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      expect(made).to.include({ name: batchId, receipts: 3, archivedAt: LATER });
      expect(await Promise.all(requests.map((requestId) => archive.receipt(requestId)))).to.deep.equal(before);
      expect(await Promise.all([7n, 8n].map(rowsOf))).to.deep.equal([1, 1]);
      expect(await store.receipts.ofRequest(requests[0])).to.equal(null);
      expect(await archive.receipt(id("of nobody"))).to.equal(null);
      expect(await archive.archiveDue(EPOCH.epochEnd + 1, LATER)).to.deep.equal([]);
    });

    it("is a file that others can read: the batch, and a line a receipt", async () => {
      await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      expect(readdirSync(path.join(folder, "archive"))).to.deep.equal([`${batchId}.ndjson.gz`]);
      const lines = gunzipSync(readFileSync(fileOf(batchId)))
        .toString()
        .trim()
        .split("\n");
      const [head, ...receipts] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(head).to.include({ batch: batchId, proof: "0x12" });
      expect(head.entries).to.match(/^0x0+7/);
      expect(receipts.map(({ batchId: of, state }) => [of, state])).to.deep.equal(Array(3).fill([batchId, "settled"]));
    });

    it("has what shows who asked: requests' signatures, and the grants that these are held against, once each", async () => {
      const packed = requestSignatureBytes(packRequestSignature(EPOCH.epochStart, `0x${"1b".repeat(65)}`));
      const [hash, finishedAt] = [requestSignatureHash(packed), NEXT.epochStart + 20];
      const signed = await serveReceipt(store, { requestId: id("signed"), finishedAt, requestSignature: packed });
      await settle(NEXT);
      await serve(7n, LATER);
      expect((await store.requestSignatures.of(LANE.operatorId, [hash])).size).to.equal(1);
      const [, { name }] = await archive.archiveDue(NEXT.epochEnd + 1, LATER);
      expect((await store.requestSignatures.of(LANE.operatorId, [hash])).size).to.equal(0);
      expect(Buffer.from((await archive.receipt(signed))!.requestSignature!).equals(packed)).to.equal(true);

      const lines = gunzipSync(readFileSync(fileOf(name))).toString().trim().split("\n").slice(1); // prettier-ignore
      const [first, second] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(signedGrantFromJson(first.grant)).to.deep.equal(signGrant({ licenseId: 7n }));
      expect(second.grant, "it stands with the first").to.equal(undefined);
      expect([first.requestSignature, second.requestSignature]).to.deep.equal([undefined, hexlify(packed)]);
    });

    it("keeps the signatures of requests whose receipts aren't in a file yet", async () => {
      const packed = requestSignatureBytes(packRequestSignature(EPOCH.epochStart, `0x${"1b".repeat(65)}`));
      await serveReceipt(store, { requestId: id("last"), finishedAt: LATER, requestSignature: packed });
      await archive.archiveDue(LATER, LATER);
      expect((await store.requestSignatures.of(LANE.operatorId, [requestSignatureHash(packed)])).size).to.equal(1);
    });

    it("forgets old signatures of requests that a rebuilt store knows nothing of, and of none that runs", async () => {
      const packedAt = (n: number) =>
        requestSignatureBytes(packRequestSignature(EPOCH.epochStart, `0x${toBeHex(n, 65).slice(2)}`));
      const hashes = [1, 2].map((n) => requestSignatureHash(packedAt(n)));
      const left = async () => [...(await store.requestSignatures.of(LANE.operatorId, hashes)).keys()];
      const grantHash = grantHashFor(7n);
      for (const n of [1, 2]) {
        if (n === 2) await store.recovery.reopenReceipts();
        const facts = { requestId: id(`running ${n}`), licenseId: 7n, ...LANE, manifestHash: MANIFEST_HASH, grantHash };
        await store.requests.open({
          facts: { ...facts, generation: 1, requestHash: id("r"), requestSignatureHash: hashes[n - 1] },
          ...{ versionId: LANE.versionId, openedAt: 1, requestSignature: packedAt(n) },
        });
      }
      await archive.archiveDue(EPOCH.epochStart, LATER);
      expect(await left()).to.have.members(hashes);
      await archive.archiveDue(EPOCH.epochStart + 1, LATER);
      expect(await left()).to.deep.equal([hashes[1]]);
    });

    it("is read as an older version wrote it, without grants, and its signatures without 0x", async () => {
      const packed = "1b".repeat(70);
      const [{ name }] = await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      const [span] = (await store.archive.spansOf(name)).filter(({ licenseId }) => licenseId === 7n);
      const bytes = readFileSync(fileOf(name));
      const member = gunzipSync(bytes.subarray(span.at, span.at + span.bytes)).toString().trim().split("\n"); // prettier-ignore
      const older = member.map((line) => {
        const { grant, ...rest } = JSON.parse(line) as Record<string, unknown>;
        expect(grant === undefined || typeof grant === "object").to.equal(true);
        return JSON.stringify({ ...rest, requestSignature: packed });
      });
      const written = gzipSync(`${older.join("\n")}\n`);
      writeFileSync(fileOf(name), Buffer.concat([bytes.subarray(0, span.at), written]));
      Object.assign(store.archive, { spansFrom: async () => [{ ...span, bytes: written.length }] });
      const [first] = await listed(7n, 9);
      expect(Buffer.from(first.requestSignature!).toString("hex")).to.equal(packed);
    });

    it("owes, counts and numbers on as if nothing had gone", async () => {
      const [used, tally] = [await store.grants.used(grantHashFor(7n)), await store.tallies.of(7n)];
      await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      expect([await store.grants.used(grantHashFor(7n)), await store.tallies.of(7n)]).to.deep.equal([used, tally]);
      const last = (await store.receipts.ofRequest(requests[1]))!;
      const { receipt } = (await store.receipts.ofRequest(await serve(8n, NEXT.epochStart + 20)))!;
      expect([receipt.sequence, receipt.previousHash]).to.deep.equal([2n, last.hash]);
      expect(await store.batches.lastSequence(LANE)).to.equal(1n);
      expect((await store.batches.find(batchId))?.state).to.equal("settled");
      await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      expect(await rowsOf(8n), "it isn't the last any more").to.equal(1);
    });

    it("isn't made while it may be disputed, or isn't settled", async () => {
      await draft(NEXT);
      expect(await archive.archiveDue(EPOCH.epochEnd, LATER)).to.deep.equal([]);
      expect((await archive.archiveDue(LATER, LATER)).map(({ name }) => name)).to.deep.equal([batchId]);
      expect((await store.receipts.ofRequest(requests[3]))?.state).to.equal("batched");
    });

    it("goes on where it died between the file and the rows, and loses none", async () => {
      const { move } = store.archive;
      store.archive.move = () => Promise.reject(new Error("killed"));
      await expect(archive.archiveDue(LATER, LATER)).to.be.rejectedWith("killed");
      expect(await rowsOf(7n)).to.equal(3);
      store.archive.move = move;
      await archive.archiveDue(LATER, LATER);
      expect(await rowsOf(7n)).to.equal(1);
      expect(await listed(7n, 9)).to.have.length(3);
    });

    it("is told from what was written, and says which file isn't", async () => {
      const [made] = await archive.archiveDue(LATER, LATER);
      expect(archiveProblem(folder, made)).to.equal(null);
      expect(archiveProblem(folder, { ...made, receipts: 4 })).to.match(/has 3 receipts, and was written with 4/);
      truncateSync(fileOf(batchId), 300);
      expect(archiveProblem(folder, made)).to.match(/has the SHA-256 \w+, and was written with \w+: put it back/);
      await expect(archive.receipt(requests[0])).to.be.rejectedWith(
        /ndjson\.gz can't be read \(.*\): put it back from/,
      );
      rmSync(fileOf(batchId));
      expect(archiveProblem(folder, made)).to.match(/can't be read \(ENOENT/);
    });

    it("takes no other file's place", async () => {
      await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      const bytes = readFileSync(fileOf(batchId));
      await store.close();
      place.remove();
      place = placeOf();
      const again = new Store(await place.open());
      [store, served, batches] = [again, 0, 0n];
      archive = new Archive(store, folder);
      for (const licenseId of [7n, 8n, 7n]) await serve(licenseId, EPOCH.epochStart + 10);
      expect(await settle(EPOCH)).to.equal(batchId);
      await archive.archiveDue(EPOCH.epochEnd + 1, LATER);
      expect(readFileSync(`${fileOf(batchId)}.before-${LATER}`).equals(bytes)).to.equal(true);
    });
  });

  describe("of what no batch has", () => {
    it("has void receipts by the day, and those that vouchers paid", async () => {
      await store.grants.save(grantHashFor(9n), signGrant({ licenseId: 9n }));
      const term = { operatorId: LANE.operatorId, licenseId: 9n, term: 1, planId: LANE.planId };
      await store.vouchers.openTerm({ ...term, since: 0, endsAt: 2 ** 40 }, 0n);
      const paid = [await serveByVoucher(EPOCH.epochStart), await serveByVoucher(EPOCH.epochStart + 5)];
      const lost = await serve(7n, EPOCH.epochStart + A_DAY);
      await store.unbatched.void(LANE, { epochStart: 0, epochEnd: LATER });
      await serve(7n, LATER);
      const made = await archive.archiveDue(LATER, LATER);
      const dayOf = (at: number) => new Date(at * 1_000).toISOString().slice(0, 10);
      expect(made.map(({ name }) => name)).to.deep.equal([dayOf(EPOCH.epochStart), dayOf(EPOCH.epochStart + A_DAY)]);
      expect((await archive.receipt(lost))?.state).to.equal("void");
      expect(await store.receipts.ofRequest(lost)).to.equal(null);
      expect((await archive.receipt(paid[0]))?.state).to.equal("voucher");
      expect(await store.receipts.ofRequest(paid[0])).to.equal(null);
      expect((await store.receipts.ofRequest(paid[1]))?.state, "the license's last").to.equal("voucher");

      await serveByVoucher(LATER);
      expect((await archive.archiveDue(LATER, LATER)).map(({ name }) => name)).to.deep.equal([
        `${dayOf(EPOCH.epochStart)}-2`,
      ]);
      expect(await store.receipts.ofRequest(paid[1])).to.equal(null);
      expect((await archive.receipt(paid[1]))?.state).to.equal("voucher");
      expect(await listed(9n, 2)).to.have.length(3);
    });

    async function serveByVoucher(finishedAt: number): Promise<string> {
      const requestId = toBeHex(++served, 32);
      const facts = {
        ...{ requestId, licenseId: 9n, operatorId: LANE.operatorId, planId: LANE.planId, manifestHash: MANIFEST_HASH },
        ...{ generation: 1, grantHash: grantHashFor(9n), requestHash: id("request") },
        requestSignatureHash: toBeHex(0, 32),
      };
      await store.requests.open({ facts, versionId: LANE.versionId, openedAt: finishedAt, onVoucherRoad: true });
      const ended = { responseHash: id("response"), finishedAt, durationMs: 9, ttftMs: 3, flags: 0 };
      await store.requests.finish(requestId, { ...usage({ requests: 1n }), ...ended }, 11n, signReceipt);
      return requestId;
    }
  });

  it("lists a license's receipts the same, by pages of any length, whichever of them are in which file", async () => {
    const epochs = Array.from({ length: 14 }, (_, i) => ({
      epochStart: EPOCH.epochStart + 3_600 * i,
      epochEnd: EPOCH.epochStart + 3_600 * (i + 1),
    }));
    for (const [i, epoch] of epochs.entries()) {
      for (const at of [10, 20, 30]) await serve(7n, epoch.epochStart + at);
      // Every third is never settled.
      if (i % 3 === 2) await store.unbatched.void(LANE, epoch);
      else await settle(epoch);
    }
    const before = await store.receipts.from(LANE.operatorId, 7n, 1n, 99);
    for (const cutoff of [epochs[4].epochEnd + 1, epochs[13].epochEnd + 2 * A_DAY]) {
      await archive.archiveDue(cutoff, LATER);
      for (const limit of [1, 2, 5, 100]) expect(await listed(7n, limit), `${limit} a page`).to.deep.equal(before);
    }
    expect(await rowsOf(7n)).to.equal(1);
  });

  it("forgets how old nonces ended, and sales that are over, and nothing that is under way", async () => {
    const account = "0xaccount";
    const save = (nonce: number) =>
      store.transactions.save({ account, nonce, attempt: 0, purpose: `${nonce}`, raw: "0x", hash: `${nonce}` });
    for (const nonce of [1, 2, 3, NONCES_KEPT + 2]) await save(nonce);
    for (const nonce of [1, 2, 3]) {
      if (nonce !== 2)
        await store.transactions.endNonce(account, nonce, { hash: `${nonce}`, state: "confirmed", block: 5 });
    }
    for (const [nonce, state] of [
      ["1", "bought"],
      ["2", "paid"],
    ] as const) {
      await store.prepayments.save({
        payment: { payer: "0xpayer", nonce, amount: 5n } as Prepayment["payment"],
        ...{ planId: 3, deposit: 4n, price: 4n, acceptedAt: EPOCH.epochStart, state },
        ...{ paymentHash: null, resultHash: null, licenseId: null, reason: null },
      });
    }
    await archive.archiveDue(LATER, LATER);
    expect(await store.prepayments.find("0xpayer", "1")).to.equal(null);
    expect((await store.prepayments.find("0xpayer", "2"))?.state).to.equal("paid");
    const left = await Promise.all(
      [1, 2, 3].map(async (nonce) => (await store.transactions.ofNonce(account, nonce)).length),
    );
    expect(left).to.deep.equal([0, 1, 1]);
    expect(await store.transactions.lastNonce(account)).to.equal(NONCES_KEPT + 2);
  });

  it("forgets grants that had ended and their revocations, once no receipt under them is left", async () => {
    const { grant } = signGrant({ licenseId: 7n });
    const hash = grantHashFor(7n);
    await serve(7n, EPOCH.epochStart + 10);
    await settle(EPOCH);
    await store.grants.revoke(7n, hash, EPOCH.epochStart + 20, 9);
    await archive.archiveDue(grant.expiresAt + 1, LATER);
    expect(await store.grants.find(hash), "the license's last receipt is here").not.to.equal(null);
    // Of another grant, so that the first one's receipt is its license's last no more.
    const younger = signGrant({ licenseId: 7n, expiresAt: grant.expiresAt + 10, salt: id("younger") });
    const last = grantDigest(DOMAIN, younger.grant);
    await serveUnder(younger, grant.expiresAt);
    await archive.archiveDue(grant.expiresAt, LATER);
    expect(await store.grants.find(hash), "it ended too late").not.to.equal(null);
    await archive.archiveDue(grant.expiresAt + 1, LATER);
    expect([await store.grants.find(hash), await store.grants.isRevoked(7n, hash)]).to.deep.equal([null, false]);
    expect(await store.grants.find(last)).not.to.equal(null);
    await archive.archiveDue(LATER, LATER);
    expect(await store.grants.find(last), "the license's last receipt is under it").not.to.equal(null);
  });

  it("keeps a grant under which a request runs, and revocations of grants that it never saw", async () => {
    const signed = signGrant({ licenseId: 9n });
    const hash = grantHashFor(9n);
    await store.grants.save(hash, signed);
    const facts = {
      ...{ requestId: id("running"), licenseId: 9n, operatorId: LANE.operatorId, planId: LANE.planId, generation: 1 },
      ...{ manifestHash: MANIFEST_HASH, grantHash: hash, requestHash: id("r"), requestSignatureHash: toBeHex(0, 32) },
    };
    await store.requests.open({ facts, versionId: LANE.versionId, openedAt: 1 });
    await store.grants.revoke(9n, id("of nobody"), 1, 9);
    await archive.archiveDue(LATER, LATER);
    expect(await store.grants.find(hash)).not.to.equal(null);
    expect(await store.grants.isRevoked(9n, id("of nobody"))).to.equal(true);
    await store.requests.drop(id("running"));
    await archive.archiveDue(LATER, LATER);
    expect(await store.grants.find(hash)).to.equal(null);
  });

  it("forgets ended grants that were stored before it was noted when they end", async () => {
    await store.close();
    const database = await place.open();
    store = new Store(database);
    await store.grants.save(grantHashFor(9n), signGrant({ licenseId: 9n }));
    await database.run("UPDATE grants SET expires_at = NULL");
    await new Archive(store, folder).archiveDue(LATER, LATER);
    expect(await store.grants.find(grantHashFor(9n))).to.equal(null);
  });

  async function serveUnder(signed: SignedGrant, finishedAt: number): Promise<void> {
    const grantHash = grantDigest(DOMAIN, signed.grant);
    await store.grants.save(grantHash, signed);
    const requestId = toBeHex(++served, 32);
    const facts = {
      ...{ requestId, licenseId: 7n, operatorId: LANE.operatorId, planId: LANE.planId, manifestHash: MANIFEST_HASH },
      ...{ generation: 1, grantHash, requestHash: id("request"), requestSignatureHash: toBeHex(0, 32) },
    };
    await store.requests.open({ facts, versionId: LANE.versionId, openedAt: finishedAt });
    const ended = { responseHash: id("response"), finishedAt, durationMs: 9, ttftMs: 3, flags: 0 };
    await store.requests.finish(requestId, { ...usage({ requests: 1n }), ...ended }, 11n, signReceipt);
  }

  it("says what can't be written, and leaves the rows", async () => {
    await serve(7n, EPOCH.epochStart + 10);
    await settle(EPOCH);
    writeFileSync(path.join(folder, "archive"), "a file");
    await expect(archive.archiveDue(LATER, LATER)).to.be.rejectedWith(/EEXIST|ENOTDIR/);
    expect(await rowsOf(7n)).to.equal(1);
  });
});
