import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

/** The test currency, for local chains. */
export default buildModule("Currency", (m) => ({ currency: m.contract("TestCurrency") }));
