import { loadFixture, takeSnapshot, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, keccak256, Wallet, ZeroAddress, ZeroHash } from "ethers";
import fc from "../support/fastCheck";
import { gasLimitFor, MOST_GAS } from "../../oracle/chain/gas";
import { packEntries, packOutcomes, totalOf } from "../../oracle/protocol/entries";
import { batchDigest } from "../../oracle/protocol/messages";
import { UINT32_MAX, usageBy, zeroUsage } from "../../oracle/protocol/meters";
import type { BatchHeader, Entry } from "../../oracle/protocol/types";
import { BATCH_LIMITS } from "../../oracle/settler/batches";
import {
  addOperator,
  addPlan,
  ATTESTORS,
  batchOf,
  buyLicense,
  chargesIn,
  DAY,
  deployMarket,
  domainOf,
  entryOf,
  HOUR,
  NOTICE,
  proofBy,
  registration,
  settle,
  STOP_GRACE,
  structOf,
  underCoverage,
  usd,
  worth,
  type Batch,
  type Market,
} from "../support/market";

const EPOCH = DAY;
const WINDOW = 2 * DAY;
/** What `entryOf` costs under the market's plan: a request, 1,000 tokens in, 500 out. */
const PRICE = 100n + 1_000n + 1_500n;
const ENTRY_BYTES = 28;
/** Licenses with something aside cost more: the settler makes no larger parts. */
const LATE_PART = BigInt(BATCH_LIMITS.licenses);

describe("UsageEscrow", () => {
  let market: Market;
  let escrow: Market["licet"]["escrow"];
  let licenseId: bigint;

  beforeEach(async () => {
    market = await loadFixture(deployWithLicense);
    escrow = market.licet.escrow.connect(market.outsider);
    licenseId = 1n;
  });

  /** A batch with the market's license in it, for an epoch that has just ended. */
  const nextBatch = async (changes: Partial<BatchHeader> = {}, entries: Entry[] = [entryOf(licenseId)]) => {
    await time.increase(HOUR);
    return batchOf(market, entries, changes);
  };
  /** The batch with another content, of which the header says the truth. */
  const withPacked = ({ header }: Batch, packed: string): Batch => ({
    header: { ...header, entriesHash: keccak256(packed) },
    entries: packed,
  });
  const submit = async ({ header, entries }: Batch, attestors = ATTESTORS.slice(0, 2)) =>
    escrow.settle(header, entries, proofBy(await escrow.batchIdOf(header), attestors));
  const balanceOf = async (license: bigint) => (await escrow.accountOf(license)).balance;
  const outcomesOf = async (transaction: Awaited<ReturnType<typeof submit>>) => {
    const receipt = await transaction.wait();
    const logs = receipt!.logs.map((log) => escrow.interface.parseLog(log));
    return chargesIn(logs.find((log) => log?.name === "BatchSettled")!.args.outcomes);
  };

  /** Asserts that settle reverts so with a batch that its attestors signed, and previewSettle, too. */
  const expectRefused = async (batch: Batch, error: string, args: unknown[], contract: object = escrow) => {
    const at = contract as typeof escrow;
    await expect(escrow.previewSettle(batch.header, batch.entries))
      .to.be.revertedWithCustomError(at, error)
      .withArgs(...args);
    await expect(submit(batch))
      .to.be.revertedWithCustomError(at, error)
      .withArgs(...args);
  };

  describe("settle", () => {
    describe("when there is no such plan", () => {
      it("reverts with PlanUnknown", async () => {
        await expectRefused(await nextBatch({ planId: 9 }), "PlanUnknown", [9], market.licet.licenses);
      });
    });

    describe("when the batch was settled before", () => {
      it("reverts with BatchSettledBefore, whoever signed this time", async () => {
        const batch = await nextBatch();
        const batchId = await escrow.batchIdOf(batch.header);
        await submit(batch);
        await expectRefused(batch, "BatchSettledBefore", [batchId]);
        await expect(submit(batch, ATTESTORS))
          .to.be.revertedWithCustomError(escrow, "BatchSettledBefore")
          .withArgs(batchId);
      });

      it("reverts with BatchSettledBefore after its release, too", async () => {
        const batch = await nextBatch();
        const batchId = await escrow.batchIdOf(batch.header);
        await submit(batch);
        await time.increase(3 * DAY);
        await escrow.release(batchId);
        await expectRefused(batch, "BatchSettledBefore", [batchId]);
      });
    });

    describe("when the epoch is empty, runs backwards, or is longer than the deployment allows", () => {
      it("reverts with EpochInvalid", async () => {
        const now = await time.latest();
        for (const [epochStart, epochEnd] of [
          [now, now],
          [now, now - 1],
          [now - EPOCH - 1, now],
        ]) {
          await expectRefused(await batchOf(market, [entryOf(1n)], { epochStart, epochEnd }), "EpochInvalid", [
            epochStart,
            epochEnd,
            EPOCH,
          ]);
        }
        await submit(await batchOf(market, [entryOf(1n)], { epochStart: now - EPOCH, epochEnd: now }));
      });
    });

    describe("when the epoch hasn't ended", () => {
      it("reverts with EpochNotEnded until the second in which it ends", async () => {
        const epochEnd = (await time.latest()) + 2 * HOUR;
        const batch = await nextBatch({ epochStart: epochEnd - HOUR, epochEnd });
        await time.setNextBlockTimestamp(epochEnd - 1);
        await expect(submit(batch))
          .to.be.revertedWithCustomError(escrow, "EpochNotEnded")
          .withArgs(epochEnd, epochEnd - 1);

        await time.setNextBlockTimestamp(epochEnd);
        await submit(batch);
      });
    });

    describe("when the window has closed", () => {
      it("reverts with WindowClosed, one second after the last one in which it settles", async () => {
        const batch = await nextBatch();
        const closesAt = batch.header.epochEnd + WINDOW;
        const before = await takeSnapshot();
        await time.setNextBlockTimestamp(closesAt + 1);
        await expect(submit(batch))
          .to.be.revertedWithCustomError(escrow, "WindowClosed")
          .withArgs(closesAt, closesAt + 1);

        await before.restore();
        await time.setNextBlockTimestamp(closesAt);
        await submit(batch);
      });
    });

    describe("when the entries aren't whole entries", () => {
      for (const [problem, cut] of [
        ["there are none", "0x"],
        ["a byte is missing", "0x" + "11".repeat(ENTRY_BYTES - 1)],
        ["there is a byte too many", "0x" + "11".repeat(ENTRY_BYTES + 1)],
        ["there are more than 2,000", "0x" + "11".repeat(2_001 * ENTRY_BYTES)],
      ]) {
        it(`reverts with EntriesMalformed: ${problem}`, async () => {
          await expectRefused(withPacked(await nextBatch(), cut), "EntriesMalformed", [(cut.length - 2) / 2]);
        });
      }
    });

    describe("when the batch's number isn't above its lane's last", () => {
      it("reverts with BatchOutOfSequence", async () => {
        await expectRefused(await nextBatch({ sequence: 0n }), "BatchOutOfSequence", [0, 0]);
        await submit(await nextBatch({ sequence: 3n }));
        for (const sequence of [1n, 2n, 3n]) {
          await expectRefused(await nextBatch({ sequence }), "BatchOutOfSequence", [sequence, 3]);
        }
        await submit(await nextBatch({ sequence: 4n }));
      });
    });

    describe("when the epoch overlaps the one that the lane settled last", () => {
      it("reverts with EpochOverlaps", async () => {
        const { header } = await nextBatch();
        await submit(await batchOf(market, [entryOf(1n)], header));
        const { epochStart, epochEnd } = header;
        await time.increase(HOUR);
        for (const changes of [
          { epochStart: epochEnd - 1, epochEnd: epochEnd + 60 },
          { epochStart, epochEnd: epochEnd + 60 },
          { epochStart: epochStart - 60, epochEnd },
          { epochStart: epochStart - 60, epochEnd: epochStart },
          { epochStart: epochStart + 1, epochEnd: epochEnd - 1 },
        ]) {
          await expectRefused(await batchOf(market, [entryOf(1n)], changes), "EpochOverlaps", [
            changes.epochStart,
            epochEnd,
          ]);
        }
        await submit(await batchOf(market, [entryOf(1n)], { epochStart: epochEnd, epochEnd: epochEnd + 60 }));
      });

      it("doesn't matter to another operator's lane, nor another version's", async () => {
        const operatorId = await addOperator(market, market.payees[4], usd(100));
        await market.licet.assets.connect(market.publisher).publish(1, id("manifest 2"), ZeroHash, ZeroAddress, "", "");
        const batch = await nextBatch();
        const { epochStart, epochEnd } = batch.header;
        await submit(batch);
        await submit(await batchOf(market, [entryOf(1n)], { epochStart, epochEnd, operatorId }));
        await submit(await batchOf(market, [entryOf(1n)], { epochStart, epochEnd, versionId: (1n << 32n) | 2n }));
        expect(await balanceOf(1n)).to.equal(usd(50) - 2n * PRICE);
      });
    });

    describe("when the batch is a further part of the epoch", () => {
      it("goes on with the licenses after the last one of the part before", async () => {
        const ids = [await buyLicense(market, usd(1)), await buyLicense(market, usd(1))];
        const first = await nextBatch({}, [entryOf(1n), entryOf(ids[0])]);
        const { epochStart, epochEnd } = first.header;
        await submit(first);
        const second = await batchOf(market, [entryOf(ids[1])], { epochStart, epochEnd });
        await submit(second);

        expect(await balanceOf(ids[1])).to.equal(usd(1) - PRICE);
        expect(await escrow.laneOf(1, 1, market.versionId)).to.deep.equal([2, epochStart, epochEnd, ids[1]]);
      });

      it("reverts with EntriesOutOfOrder when it starts with that license or one before", async () => {
        const second = await buyLicense(market, usd(1));
        const first = await nextBatch({}, [entryOf(1n), entryOf(second)]);
        const { epochStart, epochEnd } = first.header;
        await submit(first);
        for (const again of [1n, second]) {
          await expectRefused(await batchOf(market, [entryOf(again)], { epochStart, epochEnd }), "EntriesOutOfOrder", [
            again,
            second,
          ]);
        }
      });
    });

    describe("when the version is another model's", () => {
      it("reverts with VersionNotOfModel", async () => {
        await market.licet.assets.connect(market.outsider).register(registration({ uri: "ipfs://other" }), []);
        await market.licet.assets
          .connect(market.outsider)
          .publish(2, id("other manifest"), ZeroHash, ZeroAddress, "", "");
        const versionId = (2n << 32n) | 1n;
        await expectRefused(await nextBatch({ versionId }), "VersionNotOfModel", [versionId, 1]);
      });
    });

    describe("when the version was never published", () => {
      it("reverts with VersionNotUsable", async () => {
        const versionId = (1n << 32n) | 2n;
        const batch = await nextBatch({ versionId });
        await expectRefused(batch, "VersionNotUsable", [versionId, 0, batch.header.epochEnd]);
      });
    });

    describe("when the summary is of no receipts, or of more than all canaries", () => {
      it("reverts with SummaryInvalid", async () => {
        await expectRefused(await nextBatch({ count: 0n }), "SummaryInvalid", [0, 10_000]);
        await expectRefused(await nextBatch({ availabilityBps: 10_001 }), "SummaryInvalid", [1, 10_001]);
      });
    });

    describe("when the entries aren't those that were signed", () => {
      it("reverts with EntriesMismatch", async () => {
        const { header } = await nextBatch();
        const tampered = packEntries([entryOf(licenseId, { inputTokens: 999n })]);
        await expectRefused({ header, entries: tampered }, "EntriesMismatch", [
          keccak256(tampered),
          header.entriesHash,
        ]);
      });
    });

    describe("when the attestor doesn't vouch for it", () => {
      const expectNotVouchedFor = async ({ header, entries }: Batch, proof: string) => {
        await expect(escrow.settle(header, entries, proof))
          .to.be.revertedWithCustomError(escrow, "BatchNotVouchedFor")
          .withArgs(await escrow.batchIdOf(header), await market.licet.committee.getAddress());
      };

      it("reverts with BatchNotVouchedFor: no proof", async () => {
        await expectNotVouchedFor(await nextBatch(), "0x");
      });

      it("reverts with BatchNotVouchedFor: one signer", async () => {
        const batch = await nextBatch();
        await expectNotVouchedFor(batch, proofBy(await escrow.batchIdOf(batch.header), [ATTESTORS[1]]));
      });

      it("reverts with BatchNotVouchedFor: one signer twice", async () => {
        const batch = await nextBatch();
        await expectNotVouchedFor(batch, proofBy(await escrow.batchIdOf(batch.header), [ATTESTORS[1], ATTESTORS[1]]));
      });

      it("reverts with BatchNotVouchedFor: a signer who isn't a member", async () => {
        const batch = await nextBatch();
        const proof = proofBy(await escrow.batchIdOf(batch.header), [ATTESTORS[1], new Wallet(id("stranger"))]);
        await expectNotVouchedFor(batch, proof);
      });

      it("reverts with BatchNotVouchedFor: signatures of a batch that differs in one field", async () => {
        const batch = await nextBatch();
        for (const changes of [
          { root: id("another root") },
          { count: 2n },
          { availabilityBps: 9_999 },
          { p95TtftMs: 301 },
          { samples: 61 },
          { evidenceHash: id("other evidence") },
        ]) {
          const signed = await escrow.batchIdOf({ ...batch.header, ...changes });
          await expectNotVouchedFor(batch, proofBy(signed));
        }
      });

      it("reverts with BatchNotVouchedFor: signatures for another deployment or another chain", async () => {
        const batch = await nextBatch();
        const domain = await domainOf(market);
        for (const changes of [{ chainId: 1n }, { verifyingContract: market.outsider.address }]) {
          await expectNotVouchedFor(batch, proofBy(batchDigest({ ...domain, ...changes }, batch.header)));
        }
      });
    });

    describe("when a license is out of order, or there twice, or zero", () => {
      const packedUnchecked = (entries: Entry[]) =>
        "0x" + entries.map((entry) => packEntries([entry]).slice(2)).join("");

      it("reverts with EntriesOutOfOrder", async () => {
        const second = await buyLicense(market, usd(1));
        for (const [ids, args] of [
          [
            [second, 1n],
            [1n, second],
          ],
          [
            [1n, 1n],
            [1n, 1n],
          ],
          [
            [0n, 1n],
            [0n, 0n],
          ],
        ] as const) {
          const entries = ids.map((license) => entryOf(license));
          const batch = await nextBatch(totalOf(entries), entries.slice(0, 1));
          const { header } = batch;
          await expectRefused(
            withPacked({ ...batch, header: { ...header, ...totalOf(entries) } }, packedUnchecked(entries)),
            "EntriesOutOfOrder",
            [...args],
          );
        }
      });
    });

    describe("when the entries don't add up to the header's totals", () => {
      for (const meter of ["requests", "inputTokens", "cachedInputTokens", "outputTokens", "computeMs"] as const) {
        it(`reverts with TotalsMismatch: ${meter}`, async () => {
          const entry = entryOf(
            licenseId,
            usageBy(() => 5n),
          );
          await expectRefused(await nextBatch({ [meter]: 4n }, [entry]), "TotalsMismatch", []);
          await expectRefused(await nextBatch({ [meter]: 6n }, [entry]), "TotalsMismatch", []);
        });
      }

      it("reverts with TotalsMismatch: one meter too many in exchange for another", async () => {
        await expectRefused(
          await nextBatch({ inputTokens: 999n, outputTokens: 501n }, [entryOf(licenseId)]),
          "TotalsMismatch",
          [],
        );
      });
    });

    describe("when more would be in flight than the operator's active stake", () => {
      const tokens = (usdWorth: number): Partial<Entry> => ({
        ...zeroUsage(),
        inputTokens: BigInt(usdWorth) * 1_000_000n,
      });

      beforeEach(async () => {
        await escrow.connect(market.licensee).deposit(licenseId, usd(20_000));
      });

      it("reverts with InFlightAboveActiveStake, and charges nothing", async () => {
        const tooLarge = entryOf(licenseId, { ...zeroUsage(), inputTokens: 4_000_000_000n });
        const [first, second] = [await nextBatch({}, [tooLarge]), await nextBatch({}, [tooLarge])];
        await submit(first);
        await submit({ ...second, header: { ...second.header, sequence: 2n } });
        await expectRefused(
          await nextBatch({}, [tooLarge]),
          "InFlightAboveActiveStake",
          [1, usd(12_000), usd(10_000)],
          market.licet.staking,
        );
        await submit(await nextBatch({}, [entryOf(licenseId, tokens(2_000))]));
        expect(await balanceOf(licenseId)).to.equal(usd(20_050) - usd(10_000));
        await expectRefused(
          await nextBatch({}, [entryOf(licenseId, { ...zeroUsage(), inputTokens: 1n })]),
          "InFlightAboveActiveStake",
          [1, usd(10_000) + 1n, usd(10_000)],
          market.licet.staking,
        );
      });

      it("counts what a release freed", async () => {
        const { batchId } = await settle(market, [entryOf(licenseId, tokens(4_000))]);
        await settle(market, [entryOf(licenseId, tokens(4_000))]);
        await time.increase(3 * DAY);
        await escrow.release(batchId);
        await submit(await nextBatch({}, [entryOf(licenseId, tokens(4_000))]));
        expect((await market.licet.staking.poolOf(1)).inFlight).to.equal(usd(8_000));
      });

      it("reverts after a slash that leaves too little", async () => {
        await market.licet.staking.connect(market.slasher).slash(1, usd(9_000), market.treasury);
        await expectRefused(
          await nextBatch({}, [entryOf(licenseId, tokens(1_001))]),
          "InFlightAboveActiveStake",
          [1, usd(1_001), usd(1_000)],
          market.licet.staking,
        );
        await submit(await nextBatch({}, [entryOf(licenseId, tokens(1_000))]));
      });

      it("reverts while too much of the stake thaws, though it is still there", async () => {
        const { shares } = await market.licet.staking.poolOf(1);
        await market.licet.staking.connect(market.operator).thaw(1, (shares * 9n) / 10n);
        await expectRefused(
          await nextBatch({}, [entryOf(licenseId, tokens(1_001))]),
          "InFlightAboveActiveStake",
          [1, usd(1_001), usd(1_000)],
          market.licet.staking,
        );
        await submit(await nextBatch({}, [entryOf(licenseId, tokens(1_000))]));
      });
    });

    describe("when all is well", () => {
      it("moves each charge from the license's balance to what it has spent, and nothing else", async () => {
        const before = structOf(await escrow.accountOf(licenseId));
        await submit(await nextBatch());
        expect(structOf(await escrow.accountOf(licenseId))).to.deep.equal({
          ...before,
          balance: usd(50) - PRICE,
          spent: PRICE,
        });
      });

      it("moves no currency", async () => {
        await expect(submit(await nextBatch())).to.changeTokenBalance(market.licet.currency, escrow, 0);
      });

      it("records the batch", async () => {
        const batch = await nextBatch();
        await submit(batch, [ATTESTORS[0], ATTESTORS[2]]);
        expect(structOf(await escrow.batchOf(await escrow.batchIdOf(batch.header)))).to.deep.equal({
          operatorId: 1n,
          planId: 1n,
          releasableAt: BigInt((await time.latest()) + 3 * DAY),
          charged: PRICE,
          discountBps: 0n,
          feeBps: 100n,
          signers: 0b101n,
          earnsBonus: true,
          status: 1n,
        });
      });

      it("advances the lane", async () => {
        const batch = await nextBatch();
        await submit(batch);
        const { epochStart, epochEnd } = batch.header;
        expect(await escrow.laneOf(1, 1, market.versionId)).to.deep.equal([1, epochStart, epochEnd, licenseId]);
        expect(await escrow.laneOf(1, 1, market.versionId + 1n)).to.deep.equal([0, 0, 0, 0]);
      });

      it("puts the charge in flight", async () => {
        await submit(await nextBatch());
        expect((await market.licet.staking.poolOf(1)).inFlight).to.equal(PRICE);
      });

      it("emits BatchSettled", async () => {
        const second = await buyLicense(market, 100n);
        const batch = await nextBatch({ availabilityBps: 9_500 }, [entryOf(licenseId), entryOf(second)]);
        const charged = (PRICE * 9n) / 10n;
        await expect(submit(batch))
          .to.emit(escrow, "BatchSettled")
          .withArgs(
            await escrow.batchIdOf(batch.header),
            1,
            1,
            market.versionId,
            1,
            batch.header.epochStart,
            batch.header.epochEnd,
            batch.header.root,
            charged + 100n,
            1_000,
            packOutcomes([
              { licenseId, charged, status: "Charged" },
              { licenseId: second, charged: 100n, status: "BalanceExhausted" },
            ]),
          );
      });

      it("takes as many as 2,000 entries in one transaction", async function () {
        if (underCoverage) this.skip();
        const entries = Array.from({ length: 2_000 }, (_, i) =>
          entryOf(
            BigInt(i + 2),
            usageBy(() => UINT32_MAX),
          ),
        );
        const batch = await nextBatch({}, entries);
        const transaction = await submit(batch);
        expect((await transaction.wait())!.gasUsed < 16_777_216n).to.equal(true);
        expect(new Set((await outcomesOf(transaction)).map(({ status }) => status))).to.deep.equal(
          new Set(["UnknownLicense"]),
        );
      });
    });

    describe("when some entries can't be charged", () => {
      it("gives each a status, charges it nothing, and goes on with the rest", async () => {
        const otherPlan = await addPlan(market);
        const otherOperator = await addOperator(market, market.payees[4], 0n);
        const wrongPlan = await buyLicense(market, usd(5), { planId: otherPlan });
        const wrongOperator = await buyLicense(market, usd(5), { operatorId: otherOperator });
        const last = await buyLicense(market, usd(5));
        const unknown = last + 1n;
        const ids = [licenseId, wrongPlan, wrongOperator, last, unknown];

        const transaction = await submit(
          await nextBatch(
            {},
            ids.map((license) => entryOf(license)),
          ),
        );

        expect(await outcomesOf(transaction)).to.deep.equal([
          { charged: PRICE, status: "Charged" },
          { charged: 0n, status: "WrongPlan" },
          { charged: 0n, status: "WrongOperator" },
          { charged: PRICE, status: "Charged" },
          { charged: 0n, status: "UnknownLicense" },
        ]);
        expect(await Promise.all(ids.map(balanceOf))).to.deep.equal([
          usd(50) - PRICE,
          usd(5),
          usd(5),
          usd(5) - PRICE,
          0n,
        ]);
        expect((await market.licet.staking.poolOf(1)).inFlight).to.equal(2n * PRICE);
      });

      it("leaves an account that nobody bought as empty as it was", async () => {
        await submit(await nextBatch({}, [entryOf(7n)]));
        expect((await escrow.accountOf(7n)).planId).to.equal(0);
      });

      it("says TermNotRunning of a license that was bought after the epoch", async () => {
        const batch = await nextBatch();
        const late = await buyLicense(market, usd(5));
        const { epochStart, epochEnd } = batch.header;
        const transaction = await submit(await batchOf(market, [entryOf(late)], { epochStart, epochEnd }));
        expect(await outcomesOf(transaction)).to.deep.equal([{ charged: 0n, status: "TermNotRunning" }]);
      });
    });

    describe("caps", () => {
      it("stop charges at the plan's, over all batches of a term, and start anew with the next", async () => {
        const planId = await addPlan(market, { cap: 2n * PRICE - 1n, termPeriod: DAY });
        const capped = await buyLicense(market, usd(1), { planId });
        const settleOne = async () =>
          (await outcomesOf((await settle(market, [entryOf(capped)], { planId })).transaction))[0];

        expect(await settleOne()).to.deep.equal({ charged: PRICE, status: "Charged" });
        expect(await settleOne()).to.deep.equal({ charged: PRICE - 1n, status: "CapReached" });
        expect(await settleOne()).to.deep.equal({ charged: 0n, status: "CapReached" });
        await time.increase(DAY);
        expect(await settleOne()).to.deep.equal({ charged: PRICE, status: "Charged" });
        const { term, spent } = await escrow.accountOf(capped);
        expect([term, spent]).to.deep.equal([1, PRICE]);
      });

      it("stop charges at the licensee's own", async () => {
        const capped = await buyLicense(market, usd(50), { capCode: 1 });
        const spend = entryOf(capped, { ...zeroUsage(), inputTokens: 8_000_000n });
        const settleOne = async () => (await outcomesOf(await submit(await nextBatch({}, [spend]))))[0];

        expect(await settleOne()).to.deep.equal({ charged: usd(8), status: "Charged" });
        expect(await settleOne()).to.deep.equal({ charged: usd(1), status: "CapReached" });
        await escrow.connect(market.licensee).setCap(capped, 0);
        expect(await settleOne()).to.deep.equal({ charged: usd(8), status: "Charged" });
      });

      it("stop charges at a lower one only once it is in force", async () => {
        const spend = entryOf(licenseId, { ...zeroUsage(), inputTokens: 8_000_000n });
        const settleOne = async () => (await outcomesOf(await submit(await nextBatch({}, [spend]))))[0];

        await escrow.connect(market.licensee).setCap(licenseId, 1);
        expect(await settleOne()).to.deep.equal({ charged: usd(8), status: "Charged" });
        expect(await settleOne()).to.deep.equal({ charged: usd(8), status: "Charged" });
        await time.increase(3 * DAY);
        await escrow.applyCapCut(licenseId);
        expect(await settleOne()).to.deep.equal({ charged: 0n, status: "CapReached" });
      });
    });

    describe("when the plan has a minimum", () => {
      let planId: number;
      let own: bigint;
      let expiresAt: number;
      beforeEach(async () => {
        planId = await addPlan(market, { minimumSpend: usd(10), transferable: true, cap: usd(40) });
        own = await buyLicense(market, usd(100), { planId });
        expiresAt = Number((await escrow.accountOf(own)).expiresAt);
      });
      const settleEpoch = async (epochStart: number, dollars: number, changes: Partial<BatchHeader> = {}) => {
        const epochEnd = epochStart + HOUR;
        if ((await time.latest()) < epochEnd) await time.increaseTo(epochEnd);
        const batch = await batchOf(market, [worth(own, dollars)], { planId, epochStart, epochEnd, ...changes });
        const { outcomes } = await escrow.previewSettle(batch.header, batch.entries);
        const [outcome] = await outcomesOf(await submit(batch));
        expect(chargesIn(outcomes)).to.deep.equal([outcome]);
        return outcome;
      };
      const termsOf = async () => {
        const { balance, spent, term, endedAt, endedSpent } = await escrow.accountOf(own);
        return { balance, spent, term, endedAt, endedSpent };
      };
      const renew = async () => {
        if ((await time.latest()) < expiresAt) await time.increaseTo(expiresAt);
        await escrow.renew(own);
      };

      it("starts no term by itself: an epoch that starts after the term is TermNotRunning", async () => {
        expect(await settleEpoch(expiresAt - 1, 3)).to.deep.equal({ charged: usd(3), status: "Charged" });
        expect(await settleEpoch(expiresAt + HOUR, 3)).to.deep.equal({ charged: 0n, status: "TermNotRunning" });
        expect((await escrow.accountOf(own)).term).to.equal(0);
      });

      it("charges late use of the term before to that term, and leaves the running one's", async () => {
        expect(await settleEpoch(expiresAt - 4 * HOUR, 5)).to.deep.equal({ charged: usd(5), status: "Charged" });
        await renew();
        expect(await settleEpoch(expiresAt - HOUR, 7)).to.deep.equal({ charged: usd(7), status: "Charged" });
        const ended = { balance: usd(88), spent: 0n, term: 1n, endedAt: BigInt(expiresAt), endedSpent: usd(12) };
        expect(await termsOf()).to.deep.equal(ended);
        expect(await settleEpoch(expiresAt, 2)).to.deep.equal({ charged: usd(2), status: "Charged" });
        expect(await termsOf()).to.deep.equal({ ...ended, balance: usd(86), spent: usd(2) });
      });

      it("stops late use at the cap of its own term, whatever was spent since", async () => {
        await settleEpoch(expiresAt - 4 * HOUR, 35);
        await renew();
        expect(await settleEpoch(expiresAt - HOUR, 30)).to.deep.equal({ charged: usd(5), status: "CapReached" });
        expect(await settleEpoch(expiresAt, 30)).to.deep.equal({ charged: usd(30), status: "Charged" });
        expect(await settleEpoch(expiresAt + HOUR, 30)).to.deep.equal({ charged: usd(10), status: "CapReached" });
      });

      it("charges late use as far as today's balance goes", async () => {
        const planB = await addPlan(market, { minimumSpend: usd(10) });
        own = await buyLicense(market, usd(30), { planId: planB });
        planId = planB;
        expiresAt = Number((await escrow.accountOf(own)).expiresAt);
        await renew();
        expect(await settleEpoch(expiresAt - HOUR, 31)).to.deep.equal({
          charged: usd(30),
          status: "BalanceExhausted",
        });
      });

      it("charges late use no more once the term is closed: no such use could settle", async () => {
        await renew();
        await time.increaseTo(expiresAt + 3 * DAY);
        await escrow.closeTerm(own);
        const { header, entries } = await batchOf(market, [worth(own, 5)], {
          planId,
          epochStart: expiresAt - 1,
          epochEnd: expiresAt - 1 + DAY,
        });
        await expect(escrow.previewSettle(header, entries)).to.be.revertedWithCustomError(escrow, "WindowClosed");
      });

      it("says of another plan what it says of any license, with a term aside", async () => {
        await renew();
        const { header, entries } = await batchOf(market, [worth(own, 5)], { planId: 1 });
        expect(chargesIn((await escrow.previewSettle(header, entries)).outcomes)).to.deep.equal([
          { charged: 0n, status: "WrongPlan" },
        ]);
      });
    });

    describe("when the license was stopped", () => {
      let planId: number;
      let own: bigint;
      let stoppedAt: number;
      const stopBy = async (act: "lock" | "end", terms = {}) => {
        planId = await addPlan(market, { transferable: true, ...terms });
        own = await buyLicense(market, usd(100), { planId });
        await escrow.connect(market.licensee)[act](own);
        stoppedAt = (await time.latest()) + STOP_GRACE;
        await time.increaseTo(stoppedAt + 2 * HOUR);
      };
      const settleEpoch = async (epochStart: number, changes: Partial<BatchHeader> = {}) => {
        const epochEnd = epochStart + HOUR;
        const batch = await batchOf(market, [worth(own, 5)], { planId, epochStart, epochEnd, ...changes });
        const { outcomes } = await escrow.previewSettle(batch.header, batch.entries);
        const [outcome] = await outcomesOf(await submit(batch));
        expect(chargesIn(outcomes)).to.deep.equal([outcome]);
        return outcome;
      };

      for (const act of ["lock", "end"] as const) {
        for (const minimumSpend of [0n, usd(10)]) {
          const plan = minimumSpend > 0n ? "with a minimum" : "without a minimum";
          it(`charges what began before, and Stopped nothing of what began later: ${act}, ${plan}`, async () => {
            await stopBy(act, { minimumSpend });
            expect(await settleEpoch(stoppedAt - 1)).to.deep.equal({ charged: usd(5), status: "Charged" });
            await time.increase(HOUR);
            expect(await settleEpoch(stoppedAt + HOUR)).to.deep.equal({ charged: 0n, status: "Stopped" });
            expect(await balanceOf(own)).to.equal(usd(95));
          });
        }
      }

      it("is Stopped from the very second on", async () => {
        await stopBy("end");
        expect(await settleEpoch(stoppedAt)).to.deep.equal({ charged: 0n, status: "Stopped" });
      });

      it("says of another operator, plan or road what it says of any license", async () => {
        await stopBy("end");
        const rival = await addOperator(market, market.payees[4], usd(10));
        expect(await settleEpoch(stoppedAt, { operatorId: rival })).to.deep.equal({
          charged: 0n,
          status: "WrongOperator",
        });
        expect(await settleEpoch(stoppedAt, { planId: 1 })).to.deep.equal({ charged: 0n, status: "WrongPlan" });
      });

      it("is charged again from its unlock on", async () => {
        await stopBy("lock");
        await escrow.connect(market.licensee).unlock(own);
        await time.increase(HOUR);
        expect(await settleEpoch((await time.latest()) - HOUR)).to.deep.equal({ charged: usd(5), status: "Charged" });
      });

      it("charges late use of an ended term beside a lock to that term", async () => {
        planId = await addPlan(market, { transferable: true, minimumSpend: usd(10) });
        own = await buyLicense(market, usd(100), { planId });
        const expiresAt = Number((await escrow.accountOf(own)).expiresAt);
        await time.increaseTo(expiresAt);
        await escrow.renew(own);
        await escrow.connect(market.licensee).lock(own);
        stoppedAt = (await time.latest()) + STOP_GRACE;
        await time.increaseTo(stoppedAt + 2 * HOUR);
        expect(await settleEpoch(expiresAt - HOUR)).to.deep.equal({ charged: usd(5), status: "Charged" });
        expect(await settleEpoch(stoppedAt - 1)).to.deep.equal({ charged: usd(5), status: "Charged" });
        expect(await settleEpoch(stoppedAt + HOUR - 1)).to.deep.equal({ charged: 0n, status: "Stopped" });
        const { spent, endedSpent, balance } = await escrow.accountOf(own);
        expect([spent, endedSpent, balance]).to.deep.equal([usd(5), usd(5), usd(90)]);
      });
    });

    describe("when the license is on the voucher road", () => {
      it("says WrongRoad, and charges nothing", async () => {
        await escrow.connect(market.licensee).changeService(licenseId, 1, true);
        await time.increase(3 * DAY + 1);
        await escrow.applyServiceChange(licenseId);
        expect(await outcomesOf(await submit(await nextBatch()))).to.deep.equal([{ charged: 0n, status: "WrongRoad" }]);
      });
    });

    describe("when the version was recalled", () => {
      it("settles what ended before the recall takes effect, and reverts with VersionNotUsable from then on", async () => {
        await market.licet.assets.connect(market.publisher).recall(market.versionId);
        const recallAt = (await time.latest()) + NOTICE;
        await time.increaseTo(recallAt + HOUR);
        await submit(await batchOf(market, [entryOf(licenseId)], { epochStart: recallAt - HOUR, epochEnd: recallAt }));
        const late = { epochStart: recallAt, epochEnd: recallAt + 1 };
        await expectRefused(await batchOf(market, [entryOf(licenseId)], late), "VersionNotUsable", [
          market.versionId,
          recallAt,
          recallAt + 1,
        ]);
      });
    });

    describe("the most entries that the settler makes a part of", () => {
      it("fit into one transaction with its margin, even if all are late use of an ended term", async function () {
        if (underCoverage) this.skip();
        const planId = await addPlan(market, { minimumSpend: 1n });
        const ids: bigint[] = [];
        for (let i = 0; i < 120; i += 1) ids.push(await buyLicense(market, usd(20), { planId }));
        const expiresAt = Number((await escrow.accountOf(ids.at(-1)!)).expiresAt);
        await time.increaseTo(expiresAt);
        for (const id of ids) await escrow.renew(id);
        const before = Number((await escrow.accountOf(ids[0])).endedAt);
        let at = before - 6 * HOUR;
        const gasOf = async (count: number) => {
          const changes = { planId, epochStart: at, epochEnd: (at += HOUR) };
          const entries = ids.slice(0, count).map((id) => entryOf(id));
          return (await (await submit(await batchOf(market, entries, changes))).wait())!.gasUsed;
        };
        await gasOf(120);
        const [small, large] = [await gasOf(60), await gasOf(120)];
        const each = (large - small) / 60n;
        expect(gasLimitFor(small + each * (LATE_PART - 60n)) < MOST_GAS).to.equal(true);
      });
    });

    describe("discounts", () => {
      for (const [title, measured, discountBps] of [
        ["none for service as promised", { availabilityBps: 9_900, p95TtftMs: 800 }, 0n],
        ["the first tier's for a little too few answers", { availabilityBps: 9_899, p95TtftMs: 800 }, 1_000n],
        ["the severe tier's for far too few answers", { availabilityBps: 8_999, p95TtftMs: 800 }, 3_000n],
        ["the first tier's for slow answers", { availabilityBps: 10_000, p95TtftMs: 801 }, 1_000n],
        ["the severe tier's for very slow answers", { availabilityBps: 10_000, p95TtftMs: 3_001 }, 2_500n],
        ["the larger of both", { availabilityBps: 9_500, p95TtftMs: 3_001 }, 2_500n],
        ["none when fewer than 20 canaries say so", { availabilityBps: 0, p95TtftMs: 9_999, samples: 19 }, 0n],
        ["those of 20 canaries", { availabilityBps: 0, p95TtftMs: 9_999, samples: 20 }, 3_000n],
      ] as [string, Partial<BatchHeader>, bigint][]) {
        it(`are ${title}`, async () => {
          const batch = await nextBatch(measured);
          await submit(batch);
          const settled = await escrow.batchOf(await escrow.batchIdOf(batch.header));
          expect(settled.discountBps).to.equal(discountBps);
          expect(settled.charged).to.equal((PRICE * (10_000n - discountBps)) / 10_000n);
        });
      }
    });
  });

  describe("previewSettle", () => {
    it("stores nothing, sent as a transaction, too", async () => {
      const batch = await nextBatch();
      const before = structOf(await escrow.accountOf(licenseId));
      expect((await escrow.previewSettle(batch.header, batch.entries)).charged).to.be.above(0);
      const preview = await escrow.previewSettle.populateTransaction(batch.header, batch.entries);
      await (await market.outsider.sendTransaction(preview)).wait();
      expect(structOf(await escrow.accountOf(licenseId))).to.deep.equal(before);
    });

    it("says what settle then does, to the unit, for any batch", async () => {
      const anyEntry = fc.record({
        license: fc.integer({ min: 1, max: 9 }),
        inputTokens: fc.bigInt({ min: 0n, max: 20_000_000n }),
        outputTokens: fc.bigInt({ min: 0n, max: 1_000_000n }),
        requests: fc.bigInt({ min: 0n, max: 5_000n }),
        cachedInputTokens: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: UINT32_MAX })),
        computeMs: fc.bigInt({ min: 0n, max: 100_000_000n }),
      });
      const anyBatch = fc.record({
        entries: fc.uniqueArray(anyEntry, { minLength: 1, maxLength: 9, selector: ({ license }) => license }),
        availabilityBps: fc.integer({ min: 8_000, max: 10_000 }),
        p95TtftMs: fc.integer({ min: 0, max: 5_000 }),
        samples: fc.integer({ min: 15, max: 60 }),
        late: fc.constantFrom(1, 1, 40 * DAY),
      });
      const seen = new Set<string>();
      await fc.assert(
        fc.asyncProperty(anyBatch, async ({ entries, late, ...measured }) => {
          market = await loadFixture(deployWithManyLicenses);
          escrow = market.licet.escrow.connect(market.outsider);
          await time.increase(late);
          const sorted = [...entries]
            .sort((a, b) => a.license - b.license)
            .map(({ license, ...usage }) => entryOf(BigInt(license), usage));
          const batch = await nextBatch(measured, sorted);
          const before = await Promise.all(sorted.map(({ licenseId: license }) => escrow.accountOf(license)));

          const preview = await escrow.previewSettle(batch.header, batch.entries);
          const transaction = await submit(batch);

          const settled = await escrow.batchOf(await escrow.batchIdOf(batch.header));
          const outcomes = await outcomesOf(transaction);
          expect(preview.outcomes).to.equal(
            packOutcomes(outcomes.map((outcome, i) => ({ licenseId: sorted[i].licenseId, ...outcome }))),
          );
          expect([preview.charged, preview.discountBps]).to.deep.equal([settled.charged, settled.discountBps]);
          expect(outcomes.reduce((sum, { charged }) => sum + charged, 0n)).to.equal(settled.charged);
          const after = await Promise.all(sorted.map(({ licenseId: license }) => escrow.accountOf(license)));
          outcomes.forEach(({ charged, status }, i) => {
            seen.add(status);
            expect(before[i].balance - after[i].balance).to.equal(charged);
          });
        }),
        { numRuns: 30 },
      );
      expect([...seen]).to.include.members(["Charged", "BalanceExhausted", "CapReached", "WrongPlan", "WrongOperator"]);
    });

    it("reverts with just what settle reverts with, for any broken batch", async () => {
      const anyBreak = fc.constantFrom<(batch: Batch) => Batch>(
        ({ header, entries }) => ({ header: { ...header, planId: 9 }, entries }),
        ({ header, entries }) => ({ header: { ...header, epochEnd: header.epochStart }, entries }),
        ({ header, entries }) => ({ header: { ...header, epochEnd: header.epochEnd + 9_999 }, entries }),
        ({ header, entries }) => ({
          header: { ...header, epochStart: header.epochStart - 9 * DAY, epochEnd: header.epochEnd - 9 * DAY },
          entries,
        }),
        ({ header }) => ({ header, entries: "0x" }),
        ({ header, entries }) => ({ header: { ...header, sequence: 0n }, entries }),
        ({ header, entries }) => ({ header: { ...header, versionId: 7n }, entries }),
        ({ header, entries }) => ({ header: { ...header, versionId: header.versionId + 1n }, entries }),
        ({ header, entries }) => ({ header: { ...header, count: 0n }, entries }),
        ({ header, entries }) => ({ header: { ...header, availabilityBps: 20_000 }, entries }),
        ({ header, entries }) => ({ header: { ...header, entriesHash: ZeroHash }, entries }),
        ({ header, entries }) => ({ header: { ...header, requests: 9n }, entries }),
        ({ header, entries }) => ({ header: { ...header, computeMs: 9n }, entries }),
      );
      const batch = await nextBatch();
      const revertOf = (call: Promise<unknown>) =>
        call.then(
          () => "none",
          (error: { data?: string }) => error.data ?? "no data",
        );
      await fc.assert(
        fc.asyncProperty(fc.array(anyBreak, { minLength: 1, maxLength: 3 }), async (breaks) => {
          const { header, entries } = breaks.reduce((broken, apply) => apply(broken), batch);
          const preview = await revertOf(escrow.previewSettle.staticCall(header, entries));
          const proof = proofBy(await escrow.batchIdOf(header));
          expect(preview).to.match(/^0x[0-9a-f]{8}/);
          expect(await revertOf(escrow.settle.staticCall(header, entries, proof))).to.equal(preview);
        }),
        { numRuns: 60 },
      );
    });
  });

  describe("batchIdOf", () => {
    it("is the EIP-712 digest that attestors sign", async () => {
      const { header } = await nextBatch();
      expect(await escrow.batchIdOf(header)).to.equal(batchDigest(await domainOf(market), header));
    });
  });
});

/** A market with one license, funded with 50 USD. */
async function deployWithLicense(): Promise<Market> {
  const market = await deployMarket();
  await buyLicense(market, usd(50));
  return market;
}

/** A market with seven licenses of all sorts, 1 to 7. */
async function deployWithManyLicenses(): Promise<Market> {
  const market = await deployMarket();
  const otherPlan = await addPlan(market);
  const otherOperator = await addOperator(market, market.payees[4], 0n);
  await buyLicense(market, usd(50));
  await buyLicense(market, usd(2));
  await buyLicense(market, usd(500), { capCode: 1 });
  await buyLicense(market, usd(500), { capCode: 2 });
  await buyLicense(market, usd(50), { planId: otherPlan });
  await buyLicense(market, usd(50), { operatorId: otherOperator });
  await buyLicense(market, 0n);
  return market;
}
