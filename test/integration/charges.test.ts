import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id } from "ethers";
import { chargesOf, settledEntryOf, stateOfCharge } from "../../oracle/chain/charges";
import { chargeIdOf } from "../../oracle/protocol/entries";
import {
  deployCourtMarket,
  NO_RECEIPT,
  placedIn,
  receiptOf,
  settleReceipts,
  signReceipt,
  TURN,
  type CourtMarket,
} from "../support/court";
import { domainOf, HOUR, usd } from "../support/market";

describe("charges, as the chain alone tells of them", () => {
  /** A market in which two licenses were charged a dollar each by one batch, and the first one more by another. */
  async function charged() {
    const market = await deployCourtMarket();
    const domain = await domainOf(market);
    const signed = async (licenseId: bigint, sequence: bigint) =>
      signReceipt(domain, await receiptOf(market, licenseId, { sequence }));
    const first = [await signed(market.licenseId, 1n), await signed(market.otherId, 1n)];
    await time.increase(1);
    const both = await settleReceipts(market, first);
    await time.increase(HOUR);
    const second = await signed(market.licenseId, 2n);
    await time.increase(1);
    const one = await settleReceipts(market, [second]);
    return { market, domain, both, one };
  }

  const entry = ({ market, domain }: Awaited<ReturnType<typeof charged>>, batchId: string) =>
    settledEntryOf(market.licet.escrow, domain, 0, { batchId, licenseId: market.licenseId });
  const stateOf = ({ licet, licenseId }: CourtMarket, batchId: string) =>
    stateOfCharge(licet, { batchId, chargeId: chargeIdOf(batchId, licenseId) });

  it("are told of a license, of one operator, or of one batch, in the order in which they settled", async () => {
    const { market, both, one } = await loadFixture(charged);
    const { escrow } = market.licet;
    const all = await chargesOf(escrow, 0, market.licenseId);
    expect(all.map(({ batchId }) => batchId)).to.deep.equal([both.batchId, one.batchId]);
    const { epochStart, epochEnd, operatorId, planId, versionId } = both.header;
    expect(all[0]).to.deep.equal({
      ...{ batchId: both.batchId, chargeId: chargeIdOf(both.batchId, market.licenseId), licenseId: market.licenseId },
      ...{ operatorId, planId, versionId, epochStart, epochEnd, charged: usd(1), discountBps: 0, status: "Charged" },
    });
    expect(await chargesOf(escrow, 0, market.otherId)).to.have.length(1);
    expect(await chargesOf(escrow, 0, market.licenseId, { operatorId: 9 })).to.deep.equal([]);
    expect(await chargesOf(escrow, 0, market.licenseId, { batchId: one.batchId })).to.have.length(1);
  });

  it("are shown to courts by their batch's transaction", async () => {
    const found = await loadFixture(charged);
    const { market, both } = found;
    const shown = await entry(found, both.batchId);
    const { header, entries, outcomes } = both;
    expect(shown).to.deep.equal({ header, entries, outcomes, licenseId: market.licenseId });
    await market.licet.court.connect(market.licensee).challenge(shown, NO_RECEIPT, "");
    expect(await market.licet.court.challengeCount()).to.equal(1);
  });

  it("aren't shown by a transaction that somebody else's contract sent, nor by a batch that there isn't", async () => {
    const found = await loadFixture(charged);
    // Of another chain, the same transaction would be of another batch.
    const elsewhere = { ...found, domain: { ...found.domain, chainId: 5n } };
    await expect(entry(elsewhere, found.both.batchId)).to.be.rejectedWith(
      /^Batch 0x\w+ was settled through another contract, in transaction 0x\w+, which doesn't show its entries: have its header/,
    );
    await expect(entry(found, id("none"))).to.be.rejectedWith(`Batch ${id("none")}: no such batch has settled.`);
  });

  it("are held with their batch, and by themselves once they were challenged, reported or let go", async () => {
    const found = await loadFixture(charged);
    const { market, both, one, domain } = found;
    const { court, reports, escrow } = market.licet;
    const fresh = { challengeId: 0n, isReported: false, isProven: false };
    const { releasableAt } = await escrow.batchOf(both.batchId);
    expect(await stateOf(market, both.batchId)).to.deep.equal({
      status: "Held",
      releasableAt: Number(releasableAt),
      ...fresh,
    });

    await court.connect(market.licensee).challenge(await entry(found, both.batchId), NO_RECEIPT, "");
    expect(await stateOf(market, both.batchId)).to.include({ status: "Frozen", challengeId: 1n });
    expect(
      (await stateOfCharge(market.licet, { batchId: both.batchId, chargeId: chargeIdOf(both.batchId, market.otherId) }))
        .status,
    ).to.equal("Held");

    const other = signReceipt(domain, { ...one.signed[0].receipt, requestId: id("another") });
    await reports.reportContradiction(await entry(found, one.batchId), placedIn(one, 0), other);
    expect(await stateOf(market, one.batchId)).to.include({ status: "Refunded", challengeId: 0n, isReported: true });

    await court.connect(market.operator).answer(1, "ipfs://data");
    await time.increase(TURN + 1);
    await court.close(1);
    expect(await stateOf(market, both.batchId)).to.include({ status: "Releasable", challengeId: 1n });
  });
});
