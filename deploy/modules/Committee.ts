import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

/** A committee of attestors for an escrow. Plans name the committee that they trust: there may be any number. */
export default buildModule("Committee", (m) => ({
  committee: m.contract("CommitteeAttestor", [
    m.getParameter<string>("escrow"),
    m.getParameter<bigint>("bond"),
    m.getParameter("members"),
    m.getParameter<number>("threshold"),
  ]),
}));
