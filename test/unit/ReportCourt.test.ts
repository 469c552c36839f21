import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet, ZeroHash } from "ethers";
import { entriesOf } from "../../oracle/protocol/entries";
import { receiptDigest } from "../../oracle/protocol/messages";
import type { Entry, Receipt } from "../../oracle/protocol/types";
import { AttestorThatAlwaysVouches__factory, ReportCourt__factory, type ReportCourt } from "../../typechain-types";
import fc from "../support/fastCheck";
import {
  Breach,
  ChallengeStatus,
  deployCourtMarket,
  entryIn,
  keyedGrant,
  leafIn,
  NO_LEAF,
  NO_RECEIPT,
  placedIn,
  proposalOf,
  RECEIPT_KEY,
  receiptOf,
  settleReceipts,
  signReceipt,
  type CourtMarket,
  type SettledBatch,
  type SignedOne,
} from "../support/court";
import { BatchStatus, DAY, domainOf, HOUR, planTerms, usd } from "../support/market";

describe("ReportCourt", () => {
  let market: CourtMarket;
  let reports: ReportCourt;
  let licenseId: bigint;
  let otherId: bigint;

  beforeEach(async () => {
    market = await loadFixture(deployCourtMarket);
    reports = market.licet.reports.connect(market.outsider);
    ({ licenseId, otherId } = market);
  });

  const sign = async (receipt: Receipt, key?: Wallet) => signReceipt(await domainOf(market), receipt, key);
  const digestOf = async ({ receipt }: SignedOne) => receiptDigest(await domainOf(market), receipt);
  /** Settles receipts of the license, each as `changes` say, and one of another license. */
  const settled = async (
    changes: Partial<Receipt>[] = [{}],
    rest: { entries?: Entry[]; key?: Wallet } = {},
  ): Promise<SettledBatch> => {
    await time.increase(HOUR);
    const signed: SignedOne[] = [];
    for (const [i, change] of changes.entries()) {
      signed.push(await sign(await receiptOf(market, licenseId, { sequence: BigInt(i + 1), ...change }), rest.key));
    }
    signed.push(await sign(await receiptOf(market, otherId)));
    await time.increase(1);
    return settleReceipts(market, signed, { entries: rest.entries });
  };
  const chargeIdOf = async (batch: SettledBatch, ofLicense = licenseId) =>
    (await market.licet.escrow.chargeOf(batch.header, batch.entries, batch.outcomes, ofLicense)).chargeId;
  const balanceOf = async () => (await market.licet.escrow.accountOf(licenseId)).balance;
  const stake = async () => (await market.licet.staking.poolOf(market.operatorId)).active;

  describe("reportContradiction", () => {
    for (const [name, changes] of [
      ["sequence", { sequence: 1n, requestId: id("another request") }],
      ["request", { sequence: 2n }],
    ] as const) {
      it(`refunds the charge, and takes damages and a reward, for two receipts of one ${name}`, async () => {
        const before = await balanceOf();
        const batch = await settled();
        const other = await sign({ ...batch.signed[0].receipt, ...changes });
        const staked = await stake();
        await expect(reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other))
          .to.emit(reports, "BreachReported")
          .withArgs(await chargeIdOf(batch), Breach.Contradiction, market.outsider.address, usd(1), usd(0.2), usd(5));
        expect(await balanceOf()).to.equal(before);
        expect(await stake()).to.equal(staked - usd(5.2));
        expect(await market.licet.staking.proceedsOf(market.licensee.address)).to.equal(usd(0.2));
        expect(await market.licet.staking.proceedsOf(market.outsider.address)).to.equal(usd(5));
      });
    }

    it("pays a tenth where that is more than the least", async () => {
      const batch = await settled([{ inputTokens: usd(80) - 100n }]);
      const other = await sign({ ...batch.signed[0].receipt, requestId: id("another request") });
      await expect(reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other))
        .to.emit(reports, "BreachReported")
        .withArgs(await chargeIdOf(batch), 0, market.outsider.address, usd(80), usd(16), usd(8));
    });

    it("takes no receipt twice, nor two that agree, nor one of another license", async () => {
      const batch = await settled();
      const [one] = batch.signed;
      const chargeId = await chargeIdOf(batch);
      for (const other of [
        one,
        await sign({ ...one.receipt, sequence: 2n, requestId: id("another request") }),
        await sign({ ...one.receipt, licenseId: otherId }),
      ]) {
        await expect(reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other))
          .to.be.revertedWithCustomError(reports, "BreachNone")
          .withArgs(chargeId, Breach.Contradiction);
      }
    });

    it("takes nobody's word but that of keys that could sign, and were not revoked since", async () => {
      const batch = await settled();
      const forged = { ...batch.signed[0].receipt, requestId: id("another request") };
      const forger = new Wallet(id("forger"));
      const bySomebody = await sign(forged, forger);
      const report = (other: SignedOne) =>
        reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other);
      await expect(report(bySomebody))
        .to.be.revertedWithCustomError(reports, "ReceiptNotSigned")
        .withArgs(await digestOf(bySomebody), forger.address);

      const { operators } = market.licet;
      await operators.connect(market.operator).addKey(1, forger.address, 2 ** 40 - 1);
      await expect(report(bySomebody)).to.be.revertedWithCustomError(reports, "ReceiptNotSigned");
      await operators.connect(market.operator).revokeKey(1, RECEIPT_KEY.address);
      await expect(report(await sign(forged))).to.be.revertedWithCustomError(reports, "ReceiptNotSigned");
    });

    it("comes too late after sixty days", async () => {
      const batch = await settled();
      const other = await sign({ ...batch.signed[0].receipt, requestId: id("another request") });
      await time.increase(61 * DAY);
      await expect(reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other))
        .to.be.revertedWithCustomError(reports, "ReportTooLate")
        .withArgs(await chargeIdOf(batch), batch.header.epochEnd + 60 * DAY);
    });

    it("counts one signature of a request that two receipts name", async () => {
      const batch = await settled([{ requestSignatureHash: id("signed") }]);
      const twice = { sequence: 9n, requestId: id("another request") };
      const other = await sign({ ...batch.signed[0].receipt, ...twice });
      await expect(reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other)).to.emit(
        reports,
        "BreachReported",
      );
    });

    it("counts one breach of a charge, and what was released stays released", async () => {
      const batch = await settled();
      const chargeId = await chargeIdOf(batch);
      const other = await sign({ ...batch.signed[0].receipt, requestId: id("another request") });
      await time.increase(3 * DAY);
      const before = await balanceOf();
      const report = () => reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other);
      await expect(report())
        .to.emit(reports, "BreachReported")
        .withArgs(chargeId, Breach.Contradiction, market.outsider.address, 0, usd(0.2), usd(5));
      expect(await balanceOf()).to.equal(before);
      await expect(report()).to.be.revertedWithCustomError(reports, "ChargeReportedBefore").withArgs(chargeId);
      expect(await reports.isReported(chargeId)).to.equal(true);
    });

    it("decides a challenge of the charge, whatever its state", async () => {
      const { court, currency, escrow } = market.licet;
      const before = await balanceOf();
      const batch = await settled();
      const chargeId = await chargeIdOf(batch);
      await currency.connect(market.licensee).approve(court, usd(100));
      await court.connect(market.licensee).challenge(entryIn(batch, licenseId), NO_RECEIPT, "");
      await court.connect(market.operator).answer(1, "ipfs://lies");
      const other = await sign({ ...batch.signed[0].receipt, requestId: id("another request") });
      await reports.reportContradiction(entryIn(batch, licenseId), placedIn(batch, 0), other);
      expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Frozen);
      await court.close(1);
      expect((await court.challengeOf(1)).status).to.equal(ChallengeStatus.Upheld);
      expect(await escrow.batchStatusOf(chargeId)).to.equal(BatchStatus.Refunded);
      expect(await balanceOf()).to.equal(before);
    });

    it("takes what isn't in the batch for nothing", async () => {
      const batch = await settled([{}, {}, {}]);
      const other = await sign({ ...batch.signed[0].receipt, requestId: id("another request") });
      const report = (placed: ReturnType<typeof placedIn>) =>
        reports.reportContradiction(entryIn(batch, licenseId), placed, other);
      const placed = placedIn(batch, 0);
      await expect(report({ ...placed, index: 1 })).to.be.revertedWithCustomError(reports, "PathNotOfBatch");
      await expect(report({ ...placed, index: 4 }))
        .to.be.revertedWithCustomError(reports, "LeafBeyondTree")
        .withArgs(4, 4);
      await expect(report({ ...placed, siblings: "0x" })).to.be.revertedWithCustomError(reports, "PathLengthWrong");
      await expect(report({ ...placed, siblings: placed.siblings + "00" })).to.be.revertedWithCustomError(
        reports,
        "PathLengthWrong",
      );
      const cheaper = await sign({ ...placed.receipt, inputTokens: 1n });
      await expect(report({ ...placed, ...cheaper })).to.be.revertedWithCustomError(reports, "PathNotOfBatch");
      await expect(report(placedIn(batch, 3)))
        .to.be.revertedWithCustomError(reports, "ReceiptNotOfLicense")
        .withArgs(await digestOf(batch.signed[3]), licenseId);
      await expect(
        report({ ...placed, ...(await sign(placed.receipt, new Wallet(id("forger")))) }),
      ).to.be.revertedWithCustomError(reports, "PathNotOfBatch");
    });
  });

  describe("reportOutsideGrant", () => {
    const under = async (grantChanges: Parameters<typeof keyedGrant>[2], changes: Partial<Receipt> = {}) => {
      const { grant, grantHash } = await keyedGrant(market, licenseId, grantChanges);
      const batch = await settled([{ grantHash, requestSignatureHash: id("signed"), ...changes }]);
      return {
        batch,
        grant,
        report: () => reports.reportOutsideGrant(entryIn(batch, licenseId), placedIn(batch, 0), grant),
      };
    };

    for (const [name, grantChanges, changes] of [
      ["another license's", { licenseId: 77n }, {}],
      ["of another generation", { generation: 3 }, {}],
      ["not begun", { notBefore: 2 ** 39 }, {}],
      ["over", { expiresAt: 1 }, {}],
      ["of a key that hasn't signed", {}, { requestSignatureHash: ZeroHash }],
    ] as const) {
      it(`refunds use under a grant that is ${name}`, async () => {
        const { report, batch } = await under(grantChanges, changes);
        await expect(report())
          .to.emit(reports, "BreachReported")
          .withArgs(await chargeIdOf(batch), Breach.OutsideGrant, market.outsider.address, usd(1), usd(0.2), usd(5));
      });
    }

    it("finds nothing wrong with use within its grant, nor with what came to nothing too late", async () => {
      const { report, batch } = await under({});
      await expect(report())
        .to.be.revertedWithCustomError(reports, "BreachNone")
        .withArgs(await chargeIdOf(batch), Breach.OutsideGrant);
      const late = await keyedGrant(market, licenseId, { expiresAt: 1, notBefore: 0 });
      const nothing = { requests: 0n, inputTokens: 0n, sequence: 8n };
      const signedLate = { grantHash: late.grantHash, requestSignatureHash: id("signed") };
      const second = await settled([
        { ...nothing, ...signedLate },
        { sequence: 9n, requestId: id("paid") },
      ]);
      await expect(
        reports.reportOutsideGrant(entryIn(second, licenseId), placedIn(second, 0), late.grant),
      ).to.be.revertedWithCustomError(reports, "BreachNone");
    });

    it("can't be escaped by revoking the key once it has settled", async () => {
      const { report, batch } = await under({ licenseId: 77n });
      await time.increase(1);
      await market.licet.operators.connect(market.operator).revokeKey(1, RECEIPT_KEY.address);
      await expect(report()).to.emit(reports, "BreachReported");
      expect(await reports.isReported(await chargeIdOf(batch))).to.equal(true);
    });

    it("refuses another grant than the receipt's", async () => {
      const { batch, grant } = await under({});
      const { grantHash } = await keyedGrant(market, licenseId, { ...grant, salt: id("other salt") });
      await expect(
        reports.reportOutsideGrant(entryIn(batch, licenseId), placedIn(batch, 0), { ...grant, salt: id("other salt") }),
      )
        .to.be.revertedWithCustomError(reports, "GrantNotOfReceipt")
        .withArgs(grantHash, batch.signed[0].receipt.grantHash);
    });
  });

  describe("reportRepetition", () => {
    /** The same receipt, settled in two batches: attestors have vouched for both. */
    const twice = async () => {
      const first = await settled();
      await time.increase(HOUR);
      const second = await settleReceipts(market, first.signed);
      return { first, second };
    };
    const report = (
      batch: SettledBatch,
      other: SettledBatch,
      [proposal, otherProposal]: [string, string] = ["0x", "0x"],
      otherIndex = 0,
    ) =>
      reports.reportRepetition(
        entryIn(batch, licenseId),
        placedIn(batch, 0),
        other.header,
        otherIndex,
        placedIn(other, otherIndex).siblings,
        proposal,
        otherProposal,
      );
    const bothProposals = async (...batches: [SettledBatch, SettledBatch]): Promise<[string, string]> => [
      await proposalOf(market, batches[0]),
      await proposalOf(market, batches[1]),
    ];

    it("refunds one of two charges, and takes stake from an operator that proposed it", async () => {
      const { first, second } = await twice();
      await expect(report(second, first, await bothProposals(second, first)))
        .to.emit(reports, "BreachReported")
        .withArgs(await chargeIdOf(second), Breach.Repetition, market.outsider.address, usd(1), usd(0.2), usd(5));
      await expect(report(first, second))
        .to.be.revertedWithCustomError(reports, "ChargeReportedBefore")
        .withArgs(await chargeIdOf(second));
    });

    it("takes no stake where nobody shows that the operator proposed it: attestors alone could have made it", async () => {
      const { first, second } = await twice();
      const staked = await stake();
      const [, other] = await bothProposals(second, first);
      const forged = await proposalOf(market, second, new Wallet(id("forger")));
      await expect(report(second, first, [forged, other]))
        .to.emit(reports, "BreachReported")
        .withArgs(await chargeIdOf(second), Breach.Repetition, market.outsider.address, usd(1), 0, 0);
      expect(await stake()).to.equal(staked);

      // Who shows the operator's guilt later isn't too late; nobody is punished twice.
      await expect(report(second, first, await bothProposals(second, first)))
        .to.emit(reports, "BreachReported")
        .withArgs(await chargeIdOf(second), Breach.Repetition, market.outsider.address, 0, usd(0.2), usd(5));
      await expect(report(second, first, await bothProposals(second, first))).to.be.revertedWithCustomError(
        reports,
        "ChargeReportedBefore",
      );
    });

    it("finds nothing in a batch of another plan, which anybody can make up with attestors of its own", async () => {
      const honest = await settled();
      const { licet, publisher, outsider } = market;
      const attestor = await new AttestorThatAlwaysVouches__factory(outsider).deploy();
      const terms = planTerms(market.assetId, await attestor.getAddress());
      await licet.licenses.connect(publisher).createPlan(terms);
      const planId = Number(await licet.licenses.planCount());
      await time.increase(HOUR);
      const madeUp = await settleReceipts({ ...market, planId }, honest.signed);
      expect((await licet.escrow.batchOf(madeUp.batchId)).charged).to.equal(0);
      const proposals = await bothProposals(honest, madeUp);
      await expect(report(honest, madeUp, proposals)).to.be.revertedWithCustomError(reports, "BreachNone");
    });

    it("finds a receipt that stands twice in one batch, and none in its only place or in what never settled", async () => {
      await time.increase(HOUR);
      const one = await sign(await receiptOf(market, licenseId));
      await time.increase(1);
      const batch = await settleReceipts(market, [one, one]);
      await expect(report(batch, batch))
        .to.be.revertedWithCustomError(reports, "BreachNone")
        .withArgs(await chargeIdOf(batch), Breach.Repetition);
      await expect(
        reports.reportRepetition(
          entryIn(batch, licenseId),
          placedIn(batch, 0),
          { ...batch.header, sequence: 9 },
          1,
          "0x",
          "0x",
          "0x",
        ),
      ).to.be.revertedWithCustomError(reports, "BreachNone");
      await expect(report(batch, batch, ["0x", "0x"], 1)).to.emit(reports, "BreachReported");
    });
  });

  describe("reportDeadKey", () => {
    const OLD_KEY = new Wallet(id("old key"));
    const signedBy = async (key: Wallet, changes: Partial<Receipt> = {}) => {
      const batch = await settled([changes], { key });
      return {
        batch,
        report: async (proposed = true) =>
          reports.reportDeadKey(
            entryIn(batch, licenseId),
            placedIn(batch, 0),
            proposed ? await proposalOf(market, batch) : "0x",
          ),
      };
    };

    it("refunds what a key signed that had expired", async () => {
      const now = await time.latest();
      await market.licet.operators.connect(market.operator).addKey(1, OLD_KEY.address, now + HOUR / 2);
      const { report, batch } = await signedBy(OLD_KEY);
      await expect(report())
        .to.emit(reports, "BreachReported")
        .withArgs(await chargeIdOf(batch), Breach.DeadKey, market.outsider.address, usd(1), usd(0.2), usd(5));
    });

    it("refunds what a key signed after it was revoked, or before it was added", async () => {
      const { operators } = market.licet;
      await operators.connect(market.operator).addKey(1, OLD_KEY.address, 2 ** 40 - 1);
      await operators.connect(market.operator).revokeKey(1, OLD_KEY.address);
      const { report } = await signedBy(OLD_KEY);
      await expect(report(false)).to.emit(reports, "BreachReported");

      const newKey = new Wallet(id("new key"));
      const early = await signedBy(newKey, { sequence: 5n, requestId: id("early") });
      await operators.connect(market.operator).addKey(1, newKey.address, 2 ** 40 - 1);
      await expect(early.report()).to.emit(reports, "BreachReported");
    });

    it("finds nothing wrong with a key that could sign, and nobody's fault in one that is a stranger's", async () => {
      const { report, batch } = await signedBy(RECEIPT_KEY);
      await expect(report())
        .to.be.revertedWithCustomError(reports, "BreachNone")
        .withArgs(await chargeIdOf(batch), Breach.DeadKey);
      const stranger = await signedBy(OLD_KEY, { sequence: 5n });
      await expect(stranger.report())
        .to.be.revertedWithCustomError(reports, "ReceiptNotSigned")
        .withArgs(await digestOf(stranger.batch.signed[0]), OLD_KEY.address);
    });

    it("can't say of an honest receipt that a dead key signed it, since the tree names who did", async () => {
      const { operators } = market.licet;
      await operators.connect(market.operator).addKey(1, OLD_KEY.address, 2 ** 40 - 1);
      await operators.connect(market.operator).revokeKey(1, OLD_KEY.address);
      const batch = await settled();
      const reSigned = await sign(batch.signed[0].receipt, OLD_KEY);
      await expect(
        reports.reportDeadKey(entryIn(batch, licenseId), { ...placedIn(batch, 0), ...reSigned }, "0x"),
      ).to.be.revertedWithCustomError(reports, "PathNotOfBatch");
    });
  });

  describe("reportWrongSum", () => {
    /** Licenses in order, the reported one in the middle, whose entry has `more` input tokens than its receipts. */
    const summed = async (more: bigint) => {
      await time.increase(HOUR);
      const lower = market.licenseId < otherId ? market.licenseId : otherId;
      const upper = lower === otherId ? market.licenseId : otherId;
      const signed = [
        await sign(await receiptOf(market, lower, { sequence: 1n })),
        await sign(await receiptOf(market, lower, { sequence: 2n })),
        await sign(await receiptOf(market, upper, { sequence: 1n })),
      ];
      await time.increase(1);
      const entries = entriesOf(signed.map(({ receipt }) => receipt));
      const [a, b] = entries;
      const lied = [
        { ...a, inputTokens: a.inputTokens + more },
        { ...b, inputTokens: b.inputTokens - more },
      ];
      return { batch: await settleReceipts(market, signed, { entries: lied }), lower, upper };
    };

    it("refunds an entry that is above its receipts, with stake of an operator that proposed it", async () => {
      const { batch, lower } = await summed(50n);
      expect(lower).to.equal(licenseId);
      await expect(
        reports.reportWrongSum(entryIn(batch, licenseId), NO_LEAF, leafIn(batch, 2), await proposalOf(market, batch)),
      )
        .to.emit(reports, "BreachReported")
        .withArgs(
          await chargeIdOf(batch),
          Breach.WrongSum,
          market.outsider.address,
          usd(2) + 50n,
          (usd(2) + 50n) / 5n,
          usd(5),
        );
    });

    it("refunds the last license's, and takes no stake without the operator's proposal", async () => {
      const { batch, upper } = await summed(-50n);
      const staked = await stake();
      await expect(reports.reportWrongSum(entryIn(batch, upper), leafIn(batch, 1), NO_LEAF, "0x")).to.emit(
        reports,
        "BreachReported",
      );
      expect(await stake()).to.equal(staked);
    });

    it("finds nothing wrong with an honest entry, nor where leaves enclose too much", async () => {
      const { batch, lower, upper } = await summed(0n);
      for (const [license, before, behind] of [
        [lower, NO_LEAF, leafIn(batch, 2)],
        [upper, leafIn(batch, 1), NO_LEAF],
        [upper, leafIn(batch, 0), NO_LEAF],
        [lower, NO_LEAF, NO_LEAF],
      ] as const) {
        await expect(reports.reportWrongSum(entryIn(batch, license), before, behind, "0x"))
          .to.be.revertedWithCustomError(reports, "BreachNone")
          .withArgs(await chargeIdOf(batch, license), Breach.WrongSum);
      }
    });

    it("refuses leaves that don't enclose the license's", async () => {
      const { batch, lower, upper } = await summed(50n);
      for (const [license, before, behind] of [
        [lower, NO_LEAF, leafIn(batch, 1)],
        [upper, leafIn(batch, 2), NO_LEAF],
        [lower, leafIn(batch, 0), leafIn(batch, 2)],
      ] as const) {
        await expect(reports.reportWrongSum(entryIn(batch, license), before, behind, "0x"))
          .to.be.revertedWithCustomError(reports, "LeavesNotAround")
          .withArgs(before.licenseId, behind.licenseId, license);
      }
      const moved = { ...leafIn(batch, 2), index: 1 };
      await expect(reports.reportWrongSum(entryIn(batch, lower), NO_LEAF, moved, "0x")).to.be.revertedWithCustomError(
        reports,
        "PathLengthWrong",
      );
    });
  });

  it("needs a reward", async () => {
    const { escrow } = market.licet;
    await expect(new ReportCourt__factory(market.outsider).deploy(escrow, 0)).to.be.revertedWithCustomError(
      reports,
      "RewardZero",
    );
  });

  it("follows every path of every tree that the oracle builds, and none that was bent", async () => {
    const probe = fc.record({
      count: fc.integer({ min: 1, max: 9 }),
      at: fc.nat(),
      bend: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(probe, async ({ count, at, bend }) => {
        await loadFixture(deployCourtMarket);
        const batch = await settled(Array.from({ length: count }, () => ({})));
        const index = at % count;
        const placed = placedIn(batch, index);
        const other = await sign({ ...placed.receipt, requestId: id("another request") });
        const bytes = Buffer.from(placed.siblings.slice(2), "hex");
        const report = reports.reportContradiction.staticCall;
        await report(entryIn(batch, licenseId), placed, other);
        bytes[bend % bytes.length] ^= 1 + (bend % 255);
        const bent = { ...placed, siblings: "0x" + bytes.toString("hex") };
        await expect(report(entryIn(batch, licenseId), bent, other)).to.be.reverted;
      }),
      { numRuns: 20 },
    );
  });
});
