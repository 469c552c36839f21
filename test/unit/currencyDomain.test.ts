import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import hre from "hardhat";
import { currencyDomainOf } from "../../tasks/support/currencyDomain";
import { TestCurrency__factory } from "../../typechain-types";
import { namedActors } from "../support/market";

const deploy = (contract: string, ...args: string[]) =>
  async function deployed() {
    const { outsider } = await namedActors();
    const currency = await hre.ethers.deployContract(contract, args);
    return TestCurrency__factory.connect(await currency.getAddress(), outsider);
  };
const modern = deploy("TestCurrency");
const old = deploy("CurrencyOfOldDomain", "1");
const misnamed = deploy("CurrencyOfOldDomain", "2");

describe("The domain of a currency's signatures", () => {
  for (const fixture of [modern, old]) {
    it(`is what it signs by, ${fixture === old ? "also where only its name and version tell it" : "as it tells it"}`, async () => {
      const currency = await loadFixture(fixture);
      const domain = await currencyDomainOf(currency);
      expect(hre.ethers.TypedDataEncoder.hashDomain(domain)).to.equal(await currency.DOMAIN_SEPARATOR());
      expect(domain.verifyingContract).to.equal(await currency.getAddress());
    });
  }

  it("isn't guessed: name and version that its separator contradicts are refused", async () => {
    const currency = await loadFixture(misnamed);
    await expect(currencyDomainOf(currency)).to.be.rejectedWith(
      `The currency at ${await currency.getAddress()} doesn't tell what domain its signatures are for (ERC-5267), and it ` +
        `isn't {"name":"Test USD","version":"2"}: pay by allowance, which needs no signature.`,
    );
  });

  it("doesn't take a node that is away for a currency without one", async () => {
    const currency = await loadFixture(old);
    const away = new hre.ethers.JsonRpcProvider("http://127.0.0.1:9", 1, { staticNetwork: true });
    await expect(currencyDomainOf(currency.connect(away))).to.be.rejectedWith("ECONNREFUSED");
    away.destroy();
  });
});
