import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, MaxUint256, ZeroAddress, ZeroHash, type Signer } from "ethers";
import hre from "hardhat";
import { ROLES, TIMELOCK } from "../../deploy/roles";
import { timelockHolders } from "../../deploy/rolesOnChain";
import { buyLicense, DAY, deployMarket, settle, stakeOf, usd, WAIT, worth, type Market } from "../support/market";

const DELAY = 2 * DAY;
const [SHORTEST, LONGEST] = [DAY, 30 * DAY];
/** What OpenZeppelin's timelock says of an act in another state than is wanted: a bit for each that is. */
const [UNSET, WAITING, READY] = [1n, 2n, 4n].map((bit) => `0x${bit.toString(16).padStart(64, "0")}`);

describe("Timelock", () => {
  let market: Market;
  let licet: Market["licet"];
  let timelock: Market["licet"]["timelock"];
  let escrow: Market["licet"]["escrow"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    licet = market.licet;
    ({ timelock, escrow } = licet);
  });

  interface Act {
    target: string;
    data: string;
    salt: string;
  }
  const feeOf = async (feeBps: number, salt = ZeroHash): Promise<Act> => ({
    target: await escrow.getAddress(),
    data: escrow.interface.encodeFunctionData("setFee", [feeBps]),
    salt,
  });
  const onItself = async (data: string): Promise<Act> => ({
    target: await timelock.getAddress(),
    data,
    salt: ZeroHash,
  });
  const delayOf = (seconds: number | bigint) =>
    onItself(timelock.interface.encodeFunctionData("updateDelay", [seconds]));
  const idOf = ({ target, data, salt }: Act) => timelock.hashOperation(target, 0, data, ZeroHash, salt);
  const schedule = ({ target, data, salt }: Act, delay = DELAY, by: Signer = market.proposer) =>
    timelock.connect(by).schedule(target, 0, data, ZeroHash, salt, delay);
  const execute = ({ target, data, salt }: Act, by: Signer = market.outsider) =>
    timelock.connect(by).execute(target, 0, data, ZeroHash, salt);
  /** Schedules an act and executes it once it is ready. */
  const pass = async (act: Act) => {
    await schedule(act, Number(await timelock.getMinDelay()));
    await time.increase(await timelock.getMinDelay());
    return execute(act);
  };
  const everybody = () => [
    market.deployer,
    market.proposer,
    market.guardian,
    market.treasury,
    market.slasher,
    market.publisher,
    market.licensee,
    market.operator,
    market.outsider,
  ];

  describe("constructor", () => {
    const deploy = (delay: number) => hre.ethers.deployContract("Timelock", [delay, market.proposer.address]);

    describe("when the delay is below a day, or above thirty", () => {
      it("reverts with DelayOutOfRange", async () => {
        for (const delay of [0, SHORTEST - 1, LONGEST + 1]) {
          await expect(deploy(delay))
            .to.be.revertedWithCustomError(timelock, "DelayOutOfRange")
            .withArgs(delay, SHORTEST, LONGEST);
        }
      });

      it("takes either bound", async () => {
        for (const delay of [SHORTEST, LONGEST]) {
          expect(await (await deploy(delay)).getFunction("getMinDelay")()).to.equal(delay);
        }
      });
    });

    it("lets one propose and cancel, anybody execute, and nobody but itself change that", async () => {
      expect(await timelockHolders(licet, 0)).to.deep.equal({
        DEFAULT_ADMIN: [await timelock.getAddress()],
        PROPOSER: [market.proposer.address],
        CANCELLER: [market.proposer.address],
        EXECUTOR: [ZeroAddress],
      });
      expect(await timelock.getMinDelay()).to.equal(DELAY);
    });
  });

  describe("schedule", () => {
    describe("when the caller is no proposer", () => {
      it("reverts with AccessControlUnauthorizedAccount", async () => {
        const role = await timelock.PROPOSER_ROLE();
        for (const by of everybody().filter((one) => one !== market.proposer)) {
          await expect(schedule(await feeOf(300), DELAY, by))
            .to.be.revertedWithCustomError(timelock, "AccessControlUnauthorizedAccount")
            .withArgs(by.address, role);
        }
      });
    });

    describe("when the delay is too short", () => {
      it("reverts with TimelockInsufficientDelay", async () => {
        await expect(schedule(await feeOf(300), DELAY - 1))
          .to.be.revertedWithCustomError(timelock, "TimelockInsufficientDelay")
          .withArgs(DELAY - 1, DELAY);
      });
    });

    describe("when it is scheduled already", () => {
      it("reverts with TimelockUnexpectedOperationState, unless its salt is another", async () => {
        await schedule(await feeOf(300));
        await expect(schedule(await feeOf(300)))
          .to.be.revertedWithCustomError(timelock, "TimelockUnexpectedOperationState")
          .withArgs(await idOf(await feeOf(300)), UNSET);
        await schedule(await feeOf(300, id("again")));
      });
    });

    describe("when all is well", () => {
      it("emits CallScheduled, and changes nothing yet", async () => {
        const act = await feeOf(300);
        await expect(schedule(act))
          .to.emit(timelock, "CallScheduled")
          .withArgs(await idOf(act), 0, act.target, 0, act.data, ZeroHash, DELAY);
        expect(await escrow.feeBps()).to.equal(100);
      });
    });
  });

  describe("execute", () => {
    describe("when nobody scheduled it", () => {
      it("reverts with TimelockUnexpectedOperationState, whoever asks", async () => {
        const act = await feeOf(300);
        for (const by of everybody()) {
          await expect(execute(act, by))
            .to.be.revertedWithCustomError(timelock, "TimelockUnexpectedOperationState")
            .withArgs(await idOf(act), READY);
        }
      });
    });

    describe("when its delay isn't over", () => {
      it("reverts with TimelockUnexpectedOperationState up to the last second", async () => {
        const act = await feeOf(300);
        await schedule(act);
        const readyAt = (await time.latest()) + DELAY;
        await time.setNextBlockTimestamp(readyAt - 1);
        await expect(execute(act, market.proposer))
          .to.be.revertedWithCustomError(timelock, "TimelockUnexpectedOperationState")
          .withArgs(await idOf(act), READY);
        await time.setNextBlockTimestamp(readyAt);
        await execute(act);
        expect(await escrow.feeBps()).to.equal(300);
      });
    });

    describe("when it was executed before", () => {
      it("reverts with TimelockUnexpectedOperationState", async () => {
        const act = await feeOf(300);
        await pass(act);
        await expect(execute(act))
          .to.be.revertedWithCustomError(timelock, "TimelockUnexpectedOperationState")
          .withArgs(await idOf(act), READY);
      });
    });

    describe("when the act is beyond its bound", () => {
      it("reverts as the contract does: a fee above 5 %", async () => {
        await expect(pass(await feeOf(501)))
          .to.be.revertedWithCustomError(escrow, "FeeAboveBound")
          .withArgs(501, 500);
        expect(await escrow.feeBps()).to.equal(100);
      });

      it("reverts as the contract does: a lower ceiling", async () => {
        const ceiling = await escrow.depositCeiling();
        const data = escrow.interface.encodeFunctionData("raiseDepositCeiling", [ceiling - 1n]);
        await expect(pass({ target: await escrow.getAddress(), data, salt: ZeroHash }))
          .to.be.revertedWithCustomError(escrow, "CeilingNotRaised")
          .withArgs(ceiling - 1n, ceiling);
      });
    });

    describe("when all is well", () => {
      it("acts for anybody who asks, and emits CallExecuted", async () => {
        const act = await feeOf(300);
        await expect(pass(act))
          .to.emit(timelock, "CallExecuted")
          .withArgs(await idOf(act), 0, act.target, 0, act.data)
          .and.to.emit(escrow, "FeeSet")
          .withArgs(300);
      });

      it("replaces the guardian in one act", async () => {
        const { authority } = licet;
        const at = await authority.getAddress();
        const calls = [
          authority.interface.encodeFunctionData("revokeRole", [ROLES.GUARDIAN, market.guardian.address]),
          authority.interface.encodeFunctionData("grantRole", [ROLES.GUARDIAN, market.outsider.address, 0]),
        ];
        const act = [[at, at], [0, 0], calls, ZeroHash, ZeroHash] as const;
        await timelock.connect(market.proposer).scheduleBatch([at, at], [0, 0], calls, ZeroHash, ZeroHash, DELAY);
        await time.increase(DELAY);
        await timelock.connect(market.licensee).executeBatch([...act[0]], [...act[1]], act[2], act[3], act[4]);

        await expect(escrow.connect(market.guardian).pause())
          .to.be.revertedWithCustomError(escrow, "AccessManagedUnauthorized")
          .withArgs(market.guardian.address);
        await escrow.connect(market.outsider).pause();
      });
    });
  });

  describe("cancel", () => {
    describe("when the caller is no canceller", () => {
      it("reverts with AccessControlUnauthorizedAccount", async () => {
        const act = await feeOf(300);
        await schedule(act);
        const role = await timelock.CANCELLER_ROLE();
        for (const by of everybody().filter((one) => one !== market.proposer)) {
          await expect(timelock.connect(by).cancel(await idOf(act)))
            .to.be.revertedWithCustomError(timelock, "AccessControlUnauthorizedAccount")
            .withArgs(by.address, role);
        }
      });
    });

    describe("when nothing of the kind waits", () => {
      it("reverts with TimelockUnexpectedOperationState", async () => {
        const pending = `0x${(BigInt(WAITING) | BigInt(READY)).toString(16).padStart(64, "0")}`;
        await expect(timelock.connect(market.proposer).cancel(id("nothing")))
          .to.be.revertedWithCustomError(timelock, "TimelockUnexpectedOperationState")
          .withArgs(id("nothing"), pending);
      });
    });

    describe("when all is well", () => {
      it("forgets the act, even one that is ready, and emits Cancelled", async () => {
        const act = await feeOf(300);
        await schedule(act);
        await time.increase(DELAY);
        await expect(timelock.connect(market.proposer).cancel(await idOf(act)))
          .to.emit(timelock, "Cancelled")
          .withArgs(await idOf(act));
        await expect(execute(act)).to.be.revertedWithCustomError(timelock, "TimelockUnexpectedOperationState");
      });
    });
  });

  describe("updateDelay", () => {
    describe("when it isn't an act of its own", () => {
      it("reverts with TimelockUnauthorizedCaller", async () => {
        for (const by of everybody()) {
          await expect(timelock.connect(by).updateDelay(LONGEST))
            .to.be.revertedWithCustomError(timelock, "TimelockUnauthorizedCaller")
            .withArgs(by.address);
        }
      });
    });

    describe("when it is shorter than before, or above thirty days", () => {
      it("reverts with DelayOutOfRange", async () => {
        for (const delay of [0, SHORTEST, DELAY - 1, LONGEST + 1]) {
          await expect(pass(await delayOf(delay)))
            .to.be.revertedWithCustomError(timelock, "DelayOutOfRange")
            .withArgs(delay, DELAY, LONGEST);
        }
        await expect(pass(await delayOf(MaxUint256))).to.be.revertedWithCustomError(timelock, "DelayOutOfRange");
        expect(await timelock.getMinDelay()).to.equal(DELAY);
      });

      it("reverts with DelayOutOfRange where it was lengthened since: there is no way back", async () => {
        await pass(await delayOf(3 * DAY));
        await expect(pass(await delayOf(3 * DAY - 1)))
          .to.be.revertedWithCustomError(timelock, "DelayOutOfRange")
          .withArgs(3 * DAY - 1, 3 * DAY, LONGEST);
      });
    });

    describe("when all is well", () => {
      it("binds what is scheduled from then on, and emits MinDelayChange", async () => {
        await schedule(await feeOf(300));
        await expect(pass(await delayOf(LONGEST)))
          .to.emit(timelock, "MinDelayChange")
          .withArgs(DELAY, LONGEST);
        await execute(await feeOf(300));
        await expect(schedule(await feeOf(200), LONGEST - 1))
          .to.be.revertedWithCustomError(timelock, "TimelockInsufficientDelay")
          .withArgs(LONGEST - 1, LONGEST);
      });
    });
  });

  describe("its own roles", () => {
    it("are refused to everybody, but for giving up one's own", async () => {
      const admin = await timelock.DEFAULT_ADMIN_ROLE();
      const proposer = await timelock.PROPOSER_ROLE();
      expect(TIMELOCK.ITSELF).to.deep.equal(["updateDelay", "grantRole", "revokeRole"]);
      for (const by of everybody()) {
        for (const change of ["grantRole", "revokeRole"] as const) {
          await expect(timelock.connect(by)[change](proposer, market.outsider))
            .to.be.revertedWithCustomError(timelock, "AccessControlUnauthorizedAccount")
            .withArgs(by.address, admin);
        }
      }
    });

    it("pass to another proposer by an act like any other", async () => {
      const role = await timelock.PROPOSER_ROLE();
      await pass(await onItself(timelock.interface.encodeFunctionData("grantRole", [role, market.outsider.address])));
      await schedule(await feeOf(300), DELAY, market.outsider);
    });
  });

  describe("what governance can do at its worst", () => {
    it("takes nothing of what users own, and keeps nobody from it", async () => {
      const { currency, staking, authority, licenses } = licet;
      const licenseId = await buyLicense(market, usd(100));
      const { batchId } = await settle(market, [worth(licenseId, 10)]);
      const split = await escrow.splitOf(batchId);

      // Every power to its bound: the highest fee, a guardian of its own, a pause.
      const by = market.governor as Signer;
      await escrow.connect(by).setFee(500);
      await escrow.connect(by).raiseDepositCeiling(2n ** 64n - 1n);
      await authority.connect(by).grantRole(ROLES.GUARDIAN, market.governor, 0);
      await escrow.connect(by).pause();

      // Whatever else it tries is refused.
      for (const refused of [
        () => escrow.connect(by).withdraw(licenseId, market.governor),
        () => escrow.connect(by).thaw(licenseId, 1),
        () => escrow.connect(by).lock(licenseId),
        () => staking.connect(by).withdraw(market.operatorId, market.governor),
        () => staking.connect(by).slash(market.operatorId, 1, market.governor),
        () => licenses.connect(by).mint(market.governor, market.planId),
        () => currency.connect(by).transferFrom(escrow, market.governor, 1),
        () => escrow.connect(by).setAuthority(market.governor),
        () => authority.connect(by).updateAuthority(escrow, market.governor),
        () => authority.connect(by).setTargetClosed(escrow, true),
        () => authority.connect(by).grantRole(ROLES.ADMIN, market.governor, 0),
        () => authority.connect(by).grantRole(ROLES.SLASHER, market.governor, 0),
        () =>
          authority
            .connect(by)
            .execute(escrow, escrow.interface.encodeFunctionData("withdraw", [licenseId, market.governor.address])),
      ]) {
        await expect(refused()).to.be.reverted;
      }

      // The batch keeps the fee of its day, and the licensee takes out all that it didn't use.
      expect(await escrow.splitOf(batchId)).to.deep.equal(split);
      await escrow.connect(market.licensee).thaw(licenseId, usd(90));
      await time.increase(WAIT + 1);
      await expect(escrow.connect(market.licensee).withdraw(licenseId, market.licensee)).to.changeTokenBalance(
        currency,
        market.licensee,
        usd(90),
      );
      expect(await stakeOf(market, market.operatorId)).to.equal(market.stake);
    });

    it("can't pause for longer by another guardian, nor again before as long has passed", async () => {
      const { authority } = licet;
      await escrow.connect(market.guardian).pause();
      const until = await escrow.pausedUntil();
      await authority.connect(market.governor).grantRole(ROLES.GUARDIAN, market.outsider, 0);
      for (const at of [until - 1n, until, until + BigInt(7 * DAY) - 1n]) {
        await time.setNextBlockTimestamp(at);
        await expect(escrow.connect(market.outsider).pause())
          .to.be.revertedWithCustomError(escrow, "PauseTooSoon")
          .withArgs(until + BigInt(7 * DAY));
      }
      expect(await escrow.pausedUntil()).to.equal(until);
    });
  });
});
