import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { entriesOf } from "../../oracle/protocol/entries";
import {
  deployCourtMarket,
  entryIn,
  leafIn,
  NO_LEAF,
  placedIn,
  receiptOf,
  settleReceipts,
  signReceipt,
} from "../support/court";
import { domainOf, HOUR } from "../support/market";

describe("A report that shows nobody's guilt", () => {
  it("takes no stake for a challenge of a batch that attestors made up, whatever receipt it names", async () => {
    const market = await loadFixture(deployCourtMarket);
    const { court, staking, reports } = market.licet;
    await time.increase(HOUR);
    const domain = await domainOf(market);
    const signed = signReceipt(domain, await receiptOf(market, market.licenseId));
    await time.increase(1);
    // Attestors alone: twice what the operator signed, and no proposal.
    const [entry] = entriesOf([signed.receipt]);
    const usage = { ...entry, inputTokens: entry.inputTokens * 2n };
    const padding = signReceipt(domain, { ...signed.receipt, licenseId: market.otherId });
    const batch = await settleReceipts(market, [signed, padding], {
      entries: [usage, { ...entriesOf([padding.receipt])[0], inputTokens: 0n }],
    });
    await court.connect(market.licensee).challenge(entryIn(batch, market.licenseId), signed, "");
    await reports
      .connect(market.outsider)
      .reportWrongSum(entryIn(batch, market.licenseId), NO_LEAF, leafIn(batch, 1), "0x");
    const before = (await staking.poolOf(market.operatorId)).active;
    await court.close(1);
    expect((await staking.poolOf(market.operatorId)).active).to.equal(before);
  });

  it("takes no stake for an honest entry that was answered, though attestors put its receipt into a batch of their own", async () => {
    const market = await loadFixture(deployCourtMarket);
    const { court, staking, reports } = market.licet;
    await time.increase(HOUR);
    const domain = await domainOf(market);
    const signed = signReceipt(domain, await receiptOf(market, market.licenseId));
    await time.increase(1);
    const honest = await settleReceipts(market, [signed]);
    await court
      .connect(market.licensee)
      .challenge(entryIn(honest, market.licenseId), { receipt: signed.receipt, signature: "0x" }, "");
    await court.connect(market.operator).answer(1, "ipfs://data");
    await time.increase(HOUR);
    // Attestors alone.
    const madeUp = await settleReceipts(market, [signed], {
      sequence: 2n,
      epochStart: honest.header.epochEnd,
      epochEnd: await time.latest(),
    });
    await reports
      .connect(market.outsider)
      .reportRepetition(
        entryIn(honest, market.licenseId),
        placedIn(honest, 0),
        madeUp.header,
        0,
        placedIn(madeUp, 0).siblings,
        "0x",
        "0x",
      );
    const before = (await staking.poolOf(market.operatorId)).active;
    await court.close(1);
    expect((await staking.poolOf(market.operatorId)).active).to.equal(before);
  });
});
