import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { type FunctionFragment, Interface, type InterfaceAbi, type ParamType, type Signer } from "ethers";
import hre from "hardhat";
import { OPEN, RESTRICTED, ROLES, SEALED, TIMELOCK, type ManagedContract, type RoleName } from "../../deploy/roles";
import {
  changingFunctions,
  departuresFromRoles,
  MANAGED,
  managedContract,
  roleHolders,
} from "../../deploy/rolesOnChain";
import { DAY, deployMarket, type Market } from "../support/market";

/** What Authority, which is OpenZeppelin's AccessManager, lets anybody call: acts that it then checks, and giving up one's own role. */
const AUTHORITY_OPEN = ["cancel", "consumeScheduledOp", "execute", "multicall", "renounceRole", "schedule"];

/** Every contract of a deployment: the root of contracts/ is their table. */
const DEPLOYABLE = readdirSync(path.join(hre.config.paths.sources))
  .filter((file) => file.endsWith(".sol"))
  .map((file) => path.basename(file, ".sol"));

const abiOf = async (contract: string) =>
  new Interface((await hre.artifacts.readArtifact(contract)).abi as InterfaceAbi);

const restrictionsOf = (contract: string) =>
  RESTRICTED.filter((row) => row.contract === contract).flatMap(({ role, functions }) =>
    functions.map((signature) => ({ role, signature })),
  );

/** In which parts of the table a function of a contract is: one, if all is well. */
function partsOf(contract: string, fragment: FunctionFragment): string[] {
  const isRestricted = restrictionsOf(contract).some(({ signature }) => signature === fragment.format("sighash"));
  return [
    ...(isRestricted ? ["restricted"] : []),
    ...(OPEN[contract]?.includes(fragment.name) ? ["open"] : []),
    ...((MANAGED as string[]).includes(contract) && SEALED.includes(fragment.name) ? ["sealed"] : []),
    ...(contract === "Timelock"
      ? Object.entries(TIMELOCK).flatMap(([who, functions]) => (functions.includes(fragment.name) ? [who] : []))
      : []),
  ];
}

/** Functions that aren't in exactly one part of the table. */
const misclassified = (contract: string, abi: Interface) =>
  changingFunctions(abi)
    .filter((fragment) => partsOf(contract, fragment).length !== 1)
    .map((fragment) => `${contract}.${fragment.format("sighash")}`);

/** An argument of a type, of no particular meaning. */
function anyArgument({ type, components }: ParamType): unknown {
  if (components) return components.map(anyArgument);
  if (type === "address") return "0x00000000000000000000000000000000000000A1";
  if (type.startsWith("uint")) return 1;
  if (type === "bool") return true;
  if (type === "string") return "";
  if (type.endsWith("[]")) return [];
  if (type.startsWith("bytes") && type !== "bytes") return `0x${"11".repeat(Number(type.slice(5)))}`;
  return "0x";
}

const courtsOf = ({ licet }: Market) => Promise.all([licet.reports.getAddress(), licet.court.getAddress()]);

describe("roles", () => {
  let market: Market;
  let authority: Market["licet"]["authority"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    authority = market.licet.authority;
  });

  const managed = (contract: ManagedContract) => managedContract(market.licet, contract);
  const everybody = () => [
    market.deployer,
    market.governor,
    market.proposer,
    market.guardian,
    market.treasury,
    market.slasher,
    market.publisher,
    market.licensee,
    market.operator,
    market.outsider,
  ];
  const call = async (by: Signer, contract: { getAddress(): Promise<string> }, abi: Interface, signature: string) => {
    const fragment = abi.getFunction(signature)!;
    const data = abi.encodeFunctionData(fragment, fragment.inputs.map(anyArgument));
    return by.sendTransaction({ to: await contract.getAddress(), data });
  };

  describe("the table", () => {
    for (const contract of DEPLOYABLE.filter((name) => name !== "Authority")) {
      it(`has every function of ${contract} that changes state in exactly one part`, async () => {
        expect(misclassified(contract, await abiOf(contract))).to.deep.equal([]);
      });
    }

    it("names no function that doesn't exist", async () => {
      for (const { contract, functions } of RESTRICTED) {
        const abi = await abiOf(contract);
        for (const signature of functions) expect(abi.getFunction(signature)?.format("sighash")).to.equal(signature);
      }
      for (const [contract, functions] of Object.entries(OPEN)) {
        const names = changingFunctions(await abiOf(contract)).map(({ name }) => name);
        expect(names).to.include.members(functions);
      }
      const names = changingFunctions(await abiOf("Timelock")).map(({ name }) => name);
      expect(names).to.include.members(Object.values(TIMELOCK).flat());
    });

    it("would miss no new function", async () => {
      const abi = await abiOf("UsageEscrow");
      const grown = new Interface([...abi.fragments, "function sweep(address to)"]);
      expect(misclassified("UsageEscrow", grown)).to.deep.equal(["UsageEscrow.sweep(address)"]);
      const payable = new Interface(["function donate() payable"]);
      expect(misclassified("AssetRegistry", payable)).to.deep.equal(["AssetRegistry.donate()"]);
      const overloaded = new Interface(["function setFee(uint256 feeBps)"]);
      expect(misclassified("UsageEscrow", overloaded)).to.deep.equal(["UsageEscrow.setFee(uint256)"]);
    });
  });

  describe("docs/trust.md", () => {
    it("has a row for every power of the table, and for no other", () => {
      const page = readFileSync(path.join(hre.config.paths.root, "docs/trust.md"), "utf8");
      const [, section] = page.split("## What each power of governance is bounded by");
      const rows = section
        .split("\n## ")[0]
        .split("\n")
        .filter((line) => line.startsWith("| `"));
      const told = rows.flatMap((row) => [...row.split("|")[1].matchAll(/`(\w+\.\w+)`/g)].map(([, power]) => power));

      const restricted = RESTRICTED.flatMap(({ contract, functions }) =>
        functions.map((signature) => `${contract}.${signature.split("(")[0]}`),
      );
      const { PROPOSER, CANCELLER, ITSELF } = TIMELOCK;
      const timelocks = [...PROPOSER, ...CANCELLER, ...ITSELF, "execute", "executeBatch"];
      const powers = [...restricted, ...timelocks.map((name) => `Timelock.${name}`)];
      expect(told.sort()).to.deep.equal([...powers, "Authority.grantRole", "Authority.revokeRole"].sort());
    });
  });

  describe("the chain", () => {
    it("is as the table says", async () => {
      expect(await departuresFromRoles(market.licet, 0)).to.deep.equal([]);
    });

    it("is told where it departs: here, of another authority, which knows nothing of the table yet", async () => {
      const another = (await hre.ethers.deployContract("Authority", [market.deployer])) as unknown as typeof authority;
      await another.grantRole(77, market.outsider, 0);
      const departures = await departuresFromRoles({ ...market.licet, authority: another }, 0);

      const escrow = await market.licet.escrow.getAddress();
      expect(departures).to.include.members([
        `UsageEscrow obeys the authority ${await authority.getAddress()}, and not ${await another.getAddress()}`,
        ...RESTRICTED.flatMap(({ contract, role, functions }) =>
          functions.map((signature) => `${contract}.${signature} takes role ADMIN, and the table says ${role}`),
        ),
        "GUARDIAN is appointed by ADMIN, and the table says GOVERNOR",
        "role 77 was handed out, and isn't in the table",
        `${market.deployer.address} is an ADMIN, and could rewire everything`,
        `ESCROW is held by nobody, and the table says ${escrow}`,
        `GOVERNOR is held by nobody, and the table says ${market.governor.address}`,
      ]);
    });

    it("is told of a closed contract, of delays, of guardians and of functions that take a role for no reason", async () => {
      const another = (await hre.ethers.deployContract("Authority", [market.deployer])) as unknown as typeof authority;
      const { escrow } = market.licet;
      await another.setTargetClosed(escrow, true);
      await another.setTargetAdminDelay(escrow, 60);
      await another.setRoleGuardian(ROLES.GOVERNOR, ROLES.GUARDIAN);
      await another.setGrantDelay(ROLES.GUARDIAN, 60);
      await another.setTargetFunctionRole(escrow, [escrow.interface.getFunction("withdraw").selector], ROLES.GOVERNOR);
      await another.grantRole(ROLES.ESCROW, market.outsider, 0);
      await time.increase(30 * DAY);

      expect(await departuresFromRoles({ ...market.licet, authority: another }, 0)).to.include.members([
        "UsageEscrow is closed: nobody may call its restricted functions",
        "UsageEscrow has an admin delay of 60 seconds",
        "UsageEscrow.withdraw(uint64,address) takes role GOVERNOR, and the table says ADMIN",
        "what GOVERNOR schedules can be cancelled by GUARDIAN",
        "GUARDIAN is granted with a delay of 60 seconds",
        `ESCROW is held by ${market.outsider.address}, and the table says ${await escrow.getAddress()}`,
      ]);
    });

    it("is told of another timelock: here, of one that an admin rules and one alone executes", async () => {
      const { deployer, proposer, outsider } = market;
      const timelocks = "@openzeppelin/contracts/governance/TimelockController.sol:TimelockController";
      const another = (await hre.ethers.deployContract(timelocks, [
        0,
        [proposer.address],
        [outsider.address],
        deployer.address,
      ])) as unknown as typeof market.licet.timelock;
      const at = await another.getAddress();
      expect(await departuresFromRoles({ ...market.licet, timelock: another }, 0)).to.deep.equal([
        `GOVERNOR is held by ${market.governor.address}, and the table says ${at}`,
        `the timelock's roles are given by ${at}, ${deployer.address}, and not by its own acts alone`,
        `what is ready can be executed only by ${outsider.address}`,
      ]);
    });

    it("has one holder of each role, and none of ADMIN", async () => {
      const expected: Record<RoleName, string[]> = {
        ADMIN: [],
        GUARDIAN: [market.guardian.address],
        GOVERNOR: [market.governor.address],
        ESCROW: [await market.licet.escrow.getAddress()],
        SLASHER: await courtsOf(market),
        COURT: await courtsOf(market),
      };
      expect(await roleHolders(market.licet, 0)).to.deep.equal(expected);
    });
  });

  describe("a restricted function", () => {
    for (const { contract, role, functions } of RESTRICTED) {
      for (const signature of functions) {
        it(`${contract}.${signature} is refused to everybody but ${role}`, async () => {
          const target = managed(contract);
          const abi = await abiOf(contract);
          for (const caller of everybody()) {
            if ((await authority.hasRole(ROLES[role], caller)).isMember) continue;
            await expect(call(caller, target, abi, signature))
              .to.be.revertedWithCustomError(target, "AccessManagedUnauthorized")
              .withArgs(caller.address);
          }
        });
      }
    }
  });

  describe("a sealed function", () => {
    for (const contract of MANAGED) {
      it(`setAuthority of ${contract} is refused to everybody`, async () => {
        for (const caller of everybody()) {
          await expect(managed(contract).connect(caller).setAuthority(caller))
            .to.be.revertedWithCustomError(managed(contract), "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    }
  });

  describe("the authority's own functions", () => {
    it("are refused to everybody, but for those that anybody may call and the governor's appointments", async () => {
      const abi = await abiOf("Authority");
      const guarded = changingFunctions(abi).filter(({ name }) => !AUTHORITY_OPEN.includes(name));
      expect(guarded.map(({ name }) => name)).to.include.members([
        "grantRole",
        "setTargetFunctionRole",
        "updateAuthority",
      ]);
      for (const fragment of guarded) {
        const ofRole = fragment.name === "grantRole" || fragment.name === "revokeRole";
        for (const caller of everybody().filter(({ address }) => !ofRole || address !== market.governor.address)) {
          await expect(call(caller, authority, abi, fragment.format("sighash")), fragment.name)
            .to.be.revertedWithCustomError(authority, "AccessManagerUnauthorizedAccount")
            .withArgs(caller.address, ofRole ? ROLES.GOVERNOR : ROLES.ADMIN);
        }
      }
    });

    it("let nobody appoint an ADMIN, a GOVERNOR, an ESCROW or a SLASHER, nor dismiss one", async () => {
      for (const role of [ROLES.ADMIN, ROLES.GOVERNOR, ROLES.ESCROW, ROLES.SLASHER]) {
        for (const caller of everybody()) {
          await expect(authority.connect(caller).grantRole(role, caller, 0))
            .to.be.revertedWithCustomError(authority, "AccessManagerUnauthorizedAccount")
            .withArgs(caller.address, ROLES.ADMIN);
          await expect(authority.connect(caller).revokeRole(role, market.licet.escrow))
            .to.be.revertedWithCustomError(authority, "AccessManagerUnauthorizedAccount")
            .withArgs(caller.address, ROLES.ADMIN);
        }
      }
    });

    it("let the governor replace the guardian", async () => {
      await authority.connect(market.governor).revokeRole(ROLES.GUARDIAN, market.guardian);
      await authority.connect(market.governor).grantRole(ROLES.GUARDIAN, market.outsider, 0);

      await expect(market.licet.escrow.connect(market.guardian).pause())
        .to.be.revertedWithCustomError(market.licet.escrow, "AccessManagedUnauthorized")
        .withArgs(market.guardian.address);
      await market.licet.escrow.connect(market.outsider).pause();
    });
  });

  describe("the governor's acts", () => {
    it("need no delay of the authority's own: Timelock has made them wait", async () => {
      const [isMember, delay] = await authority.hasRole(ROLES.GOVERNOR, market.governor);
      expect({ isMember, delay }).to.deep.equal({ isMember: true, delay: 0n });
    });
  });

  describe("the guardian's", () => {
    it("need no delay: it may only pause", async () => {
      await market.licet.escrow.connect(market.guardian).pause();
      expect(await market.licet.escrow.pausedUntil()).to.be.greaterThan(await time.latest());
    });
  });
});
