import { expect } from "chai";
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { batchDigest } from "../../oracle/messages";
import { DAY, batchOf, buyLicense, entryOf, freshMarket, settle, usd } from "../support/market";

describe("UsageEscrow", () => {
  it("settles and releases", async () => {
    const market = await freshMarket();
    const { escrow, committee } = market.licet;
    const a = await buyLicense(market, usd(50));
    const { batchId, transaction, header } = await settle(market, [entryOf(a)]);
    const receipt = await transaction.wait();
    console.log("gas", receipt!.gasUsed);
    const net = await market.licet.escrow.runner!.provider!.getNetwork();
    expect(batchDigest({ name: "Licet UsageEscrow", version: "1", chainId: net.chainId, verifyingContract: await escrow.getAddress() }, header)).to.equal(batchId);
    await time.increase(3 * DAY);
    await escrow.release(batchId);
    await committee.shareIncome(batchId);
    console.log(await escrow.batchOf(batchId), await escrow.accountOf(a));
    void batchOf;
  });
});
