import { expect } from "chai";
import { computeAddress, hexlify, id } from "ethers";
import { Copies, type CopiesConfig, COPIES_WITHOUT_STAKE } from "../../oracle/attestor/copies";
import { ReceiptVerifier } from "../../oracle/attestor/receiptVerifier";
import { RECEIPT_TYPES, receiptDigest, signDigest } from "../../oracle/protocol/messages";
import { encodeReceipt, subjectOf } from "../../oracle/protocol/receiptBytes";
import type { Receipt } from "../../oracle/protocol/types";
import { counted } from "../../oracle/settler/batches";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import { DOMAIN } from "../support/fakeMessages";
import type { StubChain } from "../support/stubChain";
import {
  brought,
  chained,
  COMMITTEE,
  EPOCH,
  KEYS,
  LANE,
  receiptUnder,
  requestSignedBy,
  signGrant,
  stubMarket,
} from "../support/stubMarket";

const SIGNER = computeAddress(KEYS.operator);

const signed = (receipt: Receipt, key = KEYS.operator) => ({
  receipt,
  signature: signDigest(key, receiptDigest(DOMAIN, receipt)),
});

/** The binary forms of receipts, signed by one key. */
const nameOf = (receipt: Receipt) => ({
  licenseId: receipt.licenseId,
  sequence: receipt.sequence,
  hash: receiptDigest(DOMAIN, receipt),
});
const recordsOf = (receipts: Receipt[], key = KEYS.operator): Buffer[] =>
  receipts.map((receipt) => encodeReceipt(signed(receipt, key)));

const hashOf = (receipt: Receipt) => receiptDigest(DOMAIN, receipt);

/** Also of one that lies in its record. */
const fieldsOf = (receipt: Receipt) => RECEIPT_TYPES.Receipt.map(({ name }) => receipt[name as keyof Receipt]);

describeOnEach("Copies", (placeOf) => {
  let place: Place;
  let chain: StubChain;
  let store: Store;
  let verifier: ReceiptVerifier;

  beforeEach(async () => {
    place = placeOf();
    chain = stubMarket();
    store = new Store(await place.open());
    verifier = new ReceiptVerifier(DOMAIN, 1);
  });

  afterEach(async () => {
    await verifier.close();
    await store.close();
    place.remove();
  });

  const copies = (config: Partial<CopiesConfig> = {}) =>
    new Copies({ chain, store }, { committee: COMMITTEE.address, ...config }, verifier);

  const grant = signGrant();
  const some = (count: number, fields: Partial<Receipt> = {}) =>
    chained(Array.from({ length: count }, (_, i) => receiptUnder(grant, BigInt(i + 1), fields)));

  describe("keep", () => {
    it("keeps what is new, once, with its signer and the time when it came first", async () => {
      const receipts = some(3);
      const kept = copies();
      expect(await kept.keep(recordsOf(receipts))).to.deep.equal({ kept: 3, known: 0, refused: [] });
      const arrivedAt = chain.time;
      chain.time += 60;
      expect(await kept.keep(recordsOf(receipts))).to.deep.equal({ kept: 0, known: 3, refused: [] });
      const { found, lacking } = await kept.find(LANE.operatorId, receipts.map(nameOf));
      expect(lacking).to.deep.equal([]);
      const expected = receipts.map((receipt) => {
        const hash = hashOf(receipt);
        const leaf = hexlify(counted({ ...signed(receipt), hash }).leaf);
        return { receipt: fieldsOf(receipt), leaf, hash, signer: SIGNER, arrivedAt };
      });
      expect(
        found.map(({ receipt, leaf, ...rest }) => ({ receipt: fieldsOf(receipt), leaf: hexlify(leaf), ...rest })),
      ).to.deep.equal(expected);
    });

    it("gives those alone that are named, of several with one number, too", async () => {
      const kept = copies();
      const [first, second, third] = some(3);
      const twins = [1n, 2n, 3n].map((outputTokens) => ({ ...second, outputTokens }));
      const hashesIn = async (named: Receipt[]) => [
        ...(await store.copies.find(LANE.operatorId, named.map(nameOf))).keys(),
      ];
      await kept.keep(recordsOf([first, twins[0], third]));
      expect(await hashesIn([first, twins[1], third])).to.have.members([first, third].map(hashOf));
      await kept.keep(recordsOf(twins));
      expect(await hashesIn([first, twins[1], third])).to.have.members([first, twins[1], third].map(hashOf));
    });

    it("keeps those of many that aren't there yet, each once, and gives them by their numbers", async () => {
      const receipts = some(250);
      const kept = copies();
      await kept.keep(recordsOf(receipts.filter((_, i) => i % 3 === 0)));
      const again = [...receipts.slice(0, 230), ...receipts.slice(200)];
      expect(await kept.keep(recordsOf(again))).to.deep.equal({ kept: 166, known: 114, refused: [] });
      expect((await kept.find(LANE.operatorId, receipts.map(nameOf))).lacking).to.deep.equal([]);
      const numbersAfter = async (sequence: bigint, most: number) =>
        (await store.copies.after(LANE.operatorId, { licenseId: 7n, sequence }, most)).map(
          ({ record }) => subjectOf(record).sequence,
        );
      expect(await numbersAfter(0n, 300)).to.deep.equal(receipts.map(({ sequence }) => sequence));
      expect(await numbersAfter(200n, 3)).to.deep.equal([201n, 202n, 203n]);
      expect(await numbersAfter(250n, 3)).to.deep.equal([]);
    });

    it("keeps every receipt that an operator gave one number, and gives them together", async () => {
      const [one, two] = some(2);
      const other = { ...one, requestId: id("another request") };
      const kept = copies();
      expect(await kept.keep(recordsOf([one, other, two]))).to.deep.equal({ kept: 3, known: 0, refused: [] });
      for (const receipt of [one, other]) {
        const { found } = await kept.find(LANE.operatorId, [nameOf(receipt), nameOf(two)]);
        expect(found.map(({ hash }) => hash)).to.deep.equal([hashOf(receipt), hashOf(two)]);
      }
      const first = await store.copies.after(LANE.operatorId, { licenseId: 0n, sequence: 0n }, 2);
      expect(first.map(({ sequence }) => sequence)).to.deep.equal([one.sequence, one.sequence]);
    });

    it("knows a receipt again by what it says, whatever its signature", async () => {
      const [receipt] = some(1);
      chain.keys.set(computeAddress(id("second key")), { operatorId: 2, addedAt: 0, expiresAt: 2 ** 40 - 1 });
      const kept = copies();
      await kept.keep(recordsOf([receipt]));
      expect(await kept.keep(recordsOf([receipt], id("second key")))).to.deep.equal({ kept: 0, known: 1, refused: [] });
      expect((await kept.find(LANE.operatorId, [nameOf(receipt)])).found[0].signer).to.equal(SIGNER);
    });

    it("keeps the good ones of a frame with others in it, and says of each of those what is wrong", async () => {
      const [good] = some(1);
      const strange = receiptUnder(signGrant({ licenseId: 8n }), 1n);
      const [unsigned] = recordsOf([receiptUnder(grant, 9n)]);
      unsigned.fill(0, 286, 350);
      const brought = [...recordsOf([good]), ...recordsOf([strange], KEYS.outsider), unsigned];
      const { kept, known, refused } = await copies().keep(brought);
      expect({ kept, known }).to.deep.equal({ kept: 1, known: 0 });
      expect(refused.map(({ hash }) => hash)).to.have.members([hashOf(strange), hashOf(receiptUnder(grant, 9n))]);
      const said = refused.map(({ reason }) => reason).join("\n");
      expect(said).to.contain("Receipt 9 of license 7 isn't signed: signature 0x00");
      expect(said).to.contain(
        `Receipt 1 of license 8 is signed by ${computeAddress(KEYS.outsider)}, not a key of operator 2 at ${strange.finishedAt}`,
      );
    });

    const refusing = (what: string, arrange: () => Receipt[], reason: string | RegExp) =>
      it(`refuses ${what}`, async () => {
        const { kept, refused } = await copies().keep(recordsOf(arrange()));
        expect(kept).to.equal(0);
        expect(refused[0].reason).to.match(reason instanceof RegExp ? reason : new RegExp(reason));
        expect([...(await store.copies.count())]).to.deep.equal([]);
      });

    refusing("one under a plan that doesn't exist", () => some(1, { planId: 9 }), "Plan 9 doesn't exist");
    refusing(
      "one under another committee's plan",
      () => {
        chain.plans.set(9, { ...chain.plans.get(3)!, planId: 9, attestor: SIGNER });
        return some(1, { planId: 9 });
      },
      `Plan 9 names the attestor ${SIGNER}, not our committee`,
    );
    refusing("one of another operator", () => some(1, { operatorId: 5 }), "not a key of operator 5");
    refusing(
      "one of a key that had expired",
      () => {
        chain.keys.set(SIGNER, { operatorId: 2, addedAt: 0, expiresAt: EPOCH.epochStart });
        return some(1);
      },
      `not a key of operator 2 at ${EPOCH.epochStart + 10}`,
    );
    refusing(
      "one that no batch can settle any more",
      () => {
        chain.time += chain.epochPeriod + chain.windowPeriod + 3_600;
        return some(1);
      },
      /no batch with what is older than \d+ can settle/,
    );
    refusing(
      "one of a clock that is over an hour ahead",
      () => some(1, { finishedAt: chain.time + 3_601 }),
      /finished at \d+, and it is \d+: set the gateway's clock/,
    );

    it("takes those of a key's time where others of the same frame aren't", async () => {
      chain.keys.set(SIGNER, { operatorId: 2, addedAt: EPOCH.epochStart + 15, expiresAt: EPOCH.epochStart + 25 });
      const { kept, refused } = await copies().keep(recordsOf(some(3)));
      expect({ kept, refused: refused.length }).to.deep.equal({ kept: 1, refused: 2 });
    });

    it("throws while the chain can't be read, and keeps the same afterwards", async () => {
      const kept = copies();
      chain.isHalted = true;
      expect(await kept.keep(recordsOf(some(1))).catch((error: Error) => error)).to.be.instanceOf(Error);
      chain.isHalted = false;
      expect(await kept.keep(recordsOf(some(1)))).to.include({ kept: 1 });
    });

    it("keeps no more of an operator than its share, counted over restarts", async () => {
      const receipts = some(5);
      await copies({ copiesPerOperator: 3 }).keep(recordsOf(receipts.slice(0, 2)));
      const { kept, refused } = await copies({ copiesPerOperator: 3 }).keep(recordsOf(receipts));
      expect({ kept, refused: refused.length }).to.deep.equal({ kept: 1, refused: 2 });
      expect(refused[0].reason).to.equal("Receipt 4 of license 7 is too much: 3 of operator 2 are kept at the most");
    });

    it("keeps a trial's worth of an operator whose stake secures nothing", async () => {
      chain.stakeHeadroom = 0n;
      const receipts = some(COPIES_WITHOUT_STAKE + 1, { finishedAt: EPOCH.epochStart });
      const { kept, refused } = await copies().keep(recordsOf(receipts));
      expect({ kept, refused: refused.length }).to.deep.equal({ kept: COPIES_WITHOUT_STAKE, refused: 1 });
    });

    it("gives the same for many, which threads look at, as for each alone", async () => {
      const receipts = some(60, { finishedAt: EPOCH.epochStart });
      const brought = recordsOf(receipts);
      brought[41] = recordsOf([receipts[41]], KEYS.outsider)[0];
      const many = await verifier.verify(brought);
      const each = await Promise.all(brought.map(async (record) => (await verifier.verify([record]))[0]));
      expect(many).to.deep.equal(each);
      expect(many.map(({ signer }) => signer)).to.deep.equal(
        receipts.map((_, i) => (i === 41 ? computeAddress(KEYS.outsider) : SIGNER)),
      );
    });
  });

  describe("find", () => {
    it("says which it lacks, and gives the others in the order in which they were asked for", async () => {
      const receipts = some(4);
      const kept = copies();
      await kept.keep(recordsOf([receipts[0], receipts[3]]));
      const { found, lacking } = await kept.find(
        LANE.operatorId,
        [3, 1, 0].map((i) => nameOf(receipts[i])),
      );
      expect(found.map(({ hash }) => hash)).to.deep.equal([hashOf(receipts[3]), hashOf(receipts[0])]);
      expect(lacking).to.deep.equal([hashOf(receipts[1])]);
    });
  });

  describe("dropOld", () => {
    it("drops what no batch can settle any more, which makes room", async () => {
      const [old, young] = [some(1), [receiptUnder(grant, 7n, { finishedAt: EPOCH.epochEnd })]];
      const kept = copies({ copiesPerOperator: 2 });
      await kept.keep(recordsOf([...old, ...young]));
      chain.time = EPOCH.epochStart + 10 + chain.epochPeriod + chain.windowPeriod;
      expect(await kept.dropOld()).to.equal(0);
      chain.time += 1;
      expect(await kept.dropOld()).to.equal(1);
      expect((await kept.find(LANE.operatorId, [...old, ...young].map(nameOf))).lacking).to.deep.equal(old.map(hashOf));
      expect(await store.copies.count()).to.deep.equal(new Map([[LANE.operatorId, 1]]));
      expect(await kept.keep(recordsOf([receiptUnder(grant, 8n, { finishedAt: EPOCH.epochEnd })]))).to.include({
        kept: 1,
      });
    });

    it("drops what is old behind what is young, and looks at nothing that came behind young receipts alone", async () => {
      const kept = copies();
      const receipts = [60, 10, 61, 20, 62, 63, 11].map((finishedAt, i) =>
        receiptUnder(grant, BigInt(i + 1), { finishedAt }),
      );
      for (const [i, receipt] of receipts.entries()) {
        chain.time = i < 4 ? 30 : 70;
        await kept.keep(recordsOf([receipt]));
      }
      const drop = (finishedBefore: number, after: bigint) => store.copies.drop(finishedBefore, 70, after, 2);
      expect(await drop(50, 0n)).to.deep.equal({ dropped: 1, next: 2n });
      expect(await drop(50, 2n)).to.deep.equal({ dropped: 1, next: 4n });
      expect(await drop(50, 4n)).to.deep.equal({ dropped: 0, next: null });
      expect(await drop(50, 6n)).to.deep.equal({ dropped: 1, next: null });
      expect(await store.copies.count()).to.deep.equal(new Map([[LANE.operatorId, 4]]));
    });

    it("drops old copies, however many younger ones came before them", async () => {
      const kept = copies();
      const receipts = Array.from({ length: 2_500 }, (_, i) =>
        receiptUnder(grant, BigInt(i + 1), { finishedAt: EPOCH.epochStart + (i === 0 || i >= 2_000 ? 10 : 500) }),
      );
      chain.time = EPOCH.epochStart + 20;
      await kept.keep(recordsOf(receipts));
      chain.time = EPOCH.epochStart + 100 + chain.epochPeriod + chain.windowPeriod;
      expect(await kept.dropOld()).to.equal(501);
      expect(await kept.dropOld()).to.equal(0);
    });

    it("isn't held up by what came while the clock was far ahead", async () => {
      const kept = copies();
      const bring = (number: number) =>
        kept.keep(recordsOf([receiptUnder(grant, BigInt(number), { finishedAt: chain.time })]));
      chain.time = 2 ** 39;
      for (const number of [1, 2]) await bring(number);
      chain.time = EPOCH.epochStart + 20;
      await bring(3);
      const now = chain.time + 1_000;
      expect(await store.copies.drop(now, now, 0n, 2)).to.deep.equal({ dropped: 0, next: 2n });
      expect(await store.copies.drop(now, now, 2n, 2)).to.deep.equal({ dropped: 1, next: null });
    });

    it("drops requests' signatures three hours later, when no receipt may have them any more", async () => {
      const receipts = [1n, 2n].map((n) => requestSignedBy(receiptUnder(grant, n), KEYS.outsider, 90_000 + Number(n)));
      const hashes = receipts.map(({ requestSignatureHash }) => requestSignatureHash);
      const kept = copies();
      await kept.keep(receipts.map((receipt) => brought(signed(receipt))));
      chain.time = 90_002 + chain.epochPeriod + chain.windowPeriod + 3 * 3_600;
      await kept.dropOld();
      expect([...(await store.requestSignatures.of(LANE.operatorId, hashes)).keys()]).to.deep.equal(hashes.slice(1));
    });
  });
});
