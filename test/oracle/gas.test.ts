import { expect } from "chai";
import { gasLimitFor, lacksEther } from "../../oracle/chain/gas";

describe("gas", () => {
  it("is limited to a fifth more than was estimated", () => {
    expect(gasLimitFor(100_000n)).to.equal(120_000n);
  });

  it("is limited to what a transaction may ask for, where a fifth more were beyond that", () => {
    expect(gasLimitFor(15_500_000n)).to.equal(16_777_216n);
  });

  it("is limited to the estimate on a chain that allows more", () => {
    expect(gasLimitFor(20_000_000n)).to.equal(20_000_000n);
  });

  it("can't be paid for by an account of which the node says so, in its own words or through ethers", () => {
    expect(lacksEther(new Error("sender doesn't have enough funds to send tx"))).to.equal(true);
    expect(lacksEther(new Error("failed", { cause: new Error("insufficient funds for gas") }))).to.equal(true);
    expect(lacksEther(Object.assign(new Error("no"), { code: "INSUFFICIENT_FUNDS" }))).to.equal(true);
    expect(lacksEther(new Error("execution reverted"))).to.equal(false);
  });
});
