import { impersonateAccount, loadFixture, setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { ZeroAddress, type ParamType } from "ethers";
import hre from "hardhat";
import {
  addAsset,
  addPlan,
  buyLicense,
  DAY,
  deployMarket,
  HOUR,
  PlanStatus,
  planTerms,
  structOf,
  type Market,
  type PlanTerms,
} from "../support/market";

const ZERO = "0x0000000000000000000000000000000000000000";

describe("LicenseRegistry", () => {
  let market: Market;
  let licenses: Market["licet"]["licenses"];
  let attestor: string;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    licenses = market.licet.licenses.connect(market.publisher);
    attestor = await market.licet.committee.getAddress();
  });

  /** The registry, as UsageEscrow calls it. */
  const escrowAsCaller = async () => {
    const escrow = await market.licet.escrow.getAddress();
    await impersonateAccount(escrow);
    await setBalance(escrow, 10n ** 18n);
    return licenses.connect(await hre.ethers.getSigner(escrow));
  };
  const create = (changes: Partial<PlanTerms> = {}) => licenses.createPlan(planTerms(1, attestor, changes));

  it("is an ERC-721", async () => {
    expect([await licenses.name(), await licenses.symbol()]).to.deep.equal(["Licet License", "LICET-L"]);
    expect(await licenses.supportsInterface("0x80ac58cd")).to.equal(true);
    expect(await licenses.ASSETS()).to.equal(await market.licet.assets.getAddress());
  });

  describe("createPlan", () => {
    describe("when the caller isn't the model's owner nor approved by it", () => {
      it("reverts with CallerNotPublisher", async () => {
        await expect(licenses.connect(market.outsider).createPlan(planTerms(1, attestor)))
          .to.be.revertedWithCustomError(licenses, "CallerNotPublisher")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when there is no such model", () => {
      it("reverts with CallerNotPublisher", async () => {
        await expect(create({ assetId: 0 }))
          .to.be.revertedWithCustomError(licenses, "CallerNotPublisher")
          .withArgs(0, market.publisher.address);
      });
    });

    describe("when its arbitrator isn't a contract", () => {
      it("reverts with ArbitratorNotContract, and allows none", async () => {
        const arbitrator = market.outsider.address;
        await expect(create({ arbitrator }))
          .to.be.revertedWithCustomError(licenses, "ArbitratorNotContract")
          .withArgs(arbitrator);
        await create({ arbitrator: ZeroAddress });
      });

      it("is kept, and told by arbitratorOf", async () => {
        const arbitrator = await market.licet.currency.getAddress();
        await create({ arbitrator });
        expect(await licenses.arbitratorOf(await licenses.planCount())).to.equal(arbitrator);
      });
    });

    describe("when it demands a tier of evidence that there isn't", () => {
      it("reverts with EvidenceTierUnknown, and keeps each that there is", async () => {
        for (const minEvidenceTier of [5, 255]) {
          await expect(create({ minEvidenceTier }))
            .to.be.revertedWithCustomError(licenses, "EvidenceTierUnknown")
            .withArgs(minEvidenceTier, 4);
        }
        for (const minEvidenceTier of [0, 1, 2, 3, 4]) {
          await create({ minEvidenceTier });
          const { minEvidenceTier: kept } = await licenses.termsOf(await licenses.planCount());
          expect(kept).to.equal(minEvidenceTier);
        }
      });
    });

    describe("when it permits a use that the asset forbids", () => {
      it("reverts with UsesNotPermitted, and allows what the asset does", async () => {
        const assetId = await addAsset(market, market.publisher, { permittedUses: 0b0110 });
        await expect(create({ assetId, permittedUses: 0b1111 }))
          .to.be.revertedWithCustomError(licenses, "UsesNotPermitted")
          .withArgs(assetId, 0b1001);
        await create({ assetId, permittedUses: 0b0100 });
        await create({ assetId, permittedUses: 0 });
      });
    });

    describe("when the attestor has no code", () => {
      it("reverts with AttestorNotContract", async () => {
        await expect(create({ attestor: market.outsider.address }))
          .to.be.revertedWithCustomError(licenses, "AttestorNotContract")
          .withArgs(market.outsider.address);
        await expect(create({ attestor: ZERO }))
          .to.be.revertedWithCustomError(licenses, "AttestorNotContract")
          .withArgs(ZERO);
      });
    });

    describe("when the term is shorter than a day or longer than ten years", () => {
      it("reverts with TermPeriodOutOfRange", async () => {
        for (const termPeriod of [0, DAY - 1, 3650 * DAY + 1]) {
          await expect(create({ termPeriod }))
            .to.be.revertedWithCustomError(licenses, "TermPeriodOutOfRange")
            .withArgs(termPeriod, DAY, 3650 * DAY);
        }
        await create({ termPeriod: DAY });
        await create({ termPeriod: 3650 * DAY });
      });
    });

    describe("when the hold is shorter than an hour or longer than thirty days", () => {
      it("reverts with HoldPeriodOutOfRange", async () => {
        for (const holdPeriod of [0, HOUR - 1, 30 * DAY + 1]) {
          await expect(create({ holdPeriod }))
            .to.be.revertedWithCustomError(licenses, "HoldPeriodOutOfRange")
            .withArgs(holdPeriod, HOUR, 30 * DAY);
        }
        await create({ holdPeriod: HOUR });
        await create({ holdPeriod: 30 * DAY });
      });
    });

    describe("when the minimum spend is above the cap", () => {
      it("reverts with MinimumAboveCap", async () => {
        await expect(create({ minimumSpend: 6n, cap: 5n }))
          .to.be.revertedWithCustomError(licenses, "MinimumAboveCap")
          .withArgs(6, 5);
        await create({ minimumSpend: 5n, cap: 5n });
        await create({ minimumSpend: 2n ** 56n - 1n, cap: 0n });
      });
    });

    describe("when the shares and the largest fee are more than the whole", () => {
      it("reverts with SharesAboveWhole", async () => {
        const levels = levelsWith({});
        await expect(create({ publisherBps: 9_000, attestorBps: 501, levels }))
          .to.be.revertedWithCustomError(licenses, "SharesAboveWhole")
          .withArgs(9_000, 501, 500);
        await expect(create({ publisherBps: 65_535, attestorBps: 65_535, levels }))
          .to.be.revertedWithCustomError(licenses, "SharesAboveWhole")
          .withArgs(65_535, 65_535, 500);
        await create({ publisherBps: 9_000, attestorBps: 500, levels });
      });
    });

    const disordered: [string, Partial<PlanTerms["levels"]>][] = [
      ["a floor is above the whole", { availabilityFloorBps: 10_001 }],
      ["the severe floor is above the first", { availabilityFloorBps: 9_000, severeAvailabilityFloorBps: 9_001 }],
      ["the severe floor is the cheaper", { availabilityDiscountBps: 2, severeAvailabilityDiscountBps: 1 }],
      ["the severe ceiling is below the first", { ttftCeilingMs: 800, severeTtftCeilingMs: 799 }],
      ["the severe ceiling is the cheaper", { ttftDiscountBps: 2, severeTtftDiscountBps: 1 }],
    ];
    for (const [problem, changes] of disordered) {
      describe(`when ${problem}`, () => {
        it("reverts with ServiceLevelsNotOrdered", async () => {
          const levels = levelsWith(changes);
          await expect(create({ levels }))
            .to.be.revertedWithCustomError(licenses, "ServiceLevelsNotOrdered")
            .withArgs(Object.values(levels));
        });
      });
    }

    describe("when the largest discount is more than what the operator is sure to get", () => {
      it("reverts with DiscountAboveOperatorShare", async () => {
        const shares = { publisherBps: 6_000, attestorBps: 500 };
        for (const discount of [{ severeAvailabilityDiscountBps: 3_001 }, { severeTtftDiscountBps: 3_001 }]) {
          await expect(create({ ...shares, levels: levelsWith(discount) }))
            .to.be.revertedWithCustomError(licenses, "DiscountAboveOperatorShare")
            .withArgs(3_001, 3_000);
        }
        await create({ ...shares, levels: levelsWith({ severeTtftDiscountBps: 3_000 }) });
      });
    });

    describe("when the shares leave the operator nothing", () => {
      it("refuses any discount, so that none can reach the whole", async () => {
        const shares = { publisherBps: 9_500, attestorBps: 0 };
        await expect(create({ ...shares, levels: levelsWith({ severeTtftDiscountBps: 1 }) }))
          .to.be.revertedWithCustomError(licenses, "DiscountAboveOperatorShare")
          .withArgs(1, 0);
      });
    });

    describe("when all is well", () => {
      it("keeps every term as it was given", async () => {
        const terms = planTerms(1, attestor, {
          upfrontPrice: 4n,
          minimumSpend: 3n,
          cap: 5n,
          supply: 7,
          permittedUses: 3,
          renewable: false,
          transferable: true,
        });
        await licenses.createPlan(terms);

        expect(await licenses.planCount()).to.equal(2);
        expect(structOf(await licenses.termsOf(2))).to.deep.equal(asOnChain(terms));
        expect(await licenses.salesOf(2)).to.deep.equal([0, false]);
      });

      it("emits PlanCreated", async () => {
        const terms = planTerms(1, attestor);
        await expect(licenses.createPlan(terms))
          .to.emit(licenses, "PlanCreated")
          .withArgs(2, 1, asTuple(licenses.interface.getFunction("createPlan").inputs[0], terms));
      });

      it("creates it for whom the owner approved", async () => {
        await market.licet.assets.connect(market.publisher).approve(market.outsider, 1);
        await licenses.connect(market.outsider).createPlan(planTerms(1, attestor));
        expect(await licenses.planCount()).to.equal(2);
      });
    });
  });

  describe("closePlan", () => {
    describe("when there is no such plan", () => {
      it("reverts with PlanUnknown", async () => {
        await expect(licenses.closePlan(2)).to.be.revertedWithCustomError(licenses, "PlanUnknown").withArgs(2);
      });
    });

    describe("when the caller isn't the model's owner nor approved by it", () => {
      it("reverts with CallerNotPublisher", async () => {
        await expect(licenses.connect(market.outsider).closePlan(1))
          .to.be.revertedWithCustomError(licenses, "CallerNotPublisher")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when the plan was closed before", () => {
      it("reverts with PlanIsClosed", async () => {
        await licenses.closePlan(1);
        await expect(licenses.closePlan(1)).to.be.revertedWithCustomError(licenses, "PlanIsClosed").withArgs(1);
      });
    });

    describe("when all is well", () => {
      it("closes the plan and keeps what was sold", async () => {
        await buyLicense(market, 0n);
        await licenses.closePlan(1);
        expect(await licenses.salesOf(1)).to.deep.equal([1, true]);
      });

      it("emits PlanClosed", async () => {
        await expect(licenses.closePlan(1)).to.emit(licenses, "PlanClosed").withArgs(1);
      });
    });
  });

  describe("mint", () => {
    describe("when the caller isn't the escrow", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        for (const caller of [market.outsider, market.publisher, market.governor, market.deployer]) {
          await expect(licenses.connect(caller).mint(caller, 1))
            .to.be.revertedWithCustomError(licenses, "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    });

    describe("when the escrow calls it", () => {
      beforeEach(async () => {
        licenses = await escrowAsCaller();
      });

      it("reverts with PlanUnknown for a plan that doesn't exist", async () => {
        await expect(licenses.mint(market.licensee, 2))
          .to.be.revertedWithCustomError(licenses, "PlanUnknown")
          .withArgs(2);
      });

      it("reverts with PlanIsClosed for a closed plan", async () => {
        await licenses.connect(market.publisher).closePlan(1);
        await expect(licenses.mint(market.licensee, 1))
          .to.be.revertedWithCustomError(licenses, "PlanIsClosed")
          .withArgs(1);
      });

      it("reverts with PlanSoldOut when as many were sold as the plan offers", async () => {
        await addPlan(market, { supply: 2 });
        await licenses.mint(market.licensee, 2);
        await licenses.mint(market.licensee, 2);
        await expect(licenses.mint(market.licensee, 2))
          .to.be.revertedWithCustomError(licenses, "PlanSoldOut")
          .withArgs(2, 2);
        expect(await licenses.salesOf(2)).to.deep.equal([2, false]);
      });

      it("mints the next license and counts the sale", async () => {
        await licenses.mint(market.licensee, 1);
        await licenses.mint(market.outsider, 1);

        expect(await licenses.licenseCount()).to.equal(2);
        expect(await licenses.ownerOf(2)).to.equal(market.outsider.address);
        expect(await licenses.salesOf(1)).to.deep.equal([2, false]);
      });

      it("emits LicenseMinted", async () => {
        await expect(licenses.mint(market.licensee, 1))
          .to.emit(licenses, "LicenseMinted")
          .withArgs(1, 1, market.licensee.address);
      });
    });
  });

  describe("changePlan", () => {
    it("reverts with AccessManagedUnauthorized when the caller isn't the escrow", async () => {
      await buyLicense(market, 0n);
      await expect(licenses.connect(market.licensee).changePlan(1, 1))
        .to.be.revertedWithCustomError(licenses, "AccessManagedUnauthorized")
        .withArgs(market.licensee.address);
    });

    it("counts a sale, and emits LicensePlanChanged", async () => {
      await buyLicense(market, 0n);
      const planId = await addPlan(market, { supply: 1 });
      const asEscrow = await escrowAsCaller();
      await expect(asEscrow.changePlan(1, planId)).to.emit(licenses, "LicensePlanChanged").withArgs(1, planId);
      expect(await licenses.salesOf(planId)).to.deep.equal([1, false]);
      await expect(asEscrow.changePlan(1, planId))
        .to.be.revertedWithCustomError(licenses, "PlanSoldOut")
        .withArgs(planId, 1);
    });
  });

  describe("setMovable", () => {
    let licenseId: bigint;
    beforeEach(async () => {
      licenseId = await buyLicense(market, 0n);
    });

    describe("when the caller isn't the escrow", () => {
      it("reverts with AccessManagedUnauthorized, for the license's owner, too", async () => {
        for (const caller of [market.licensee, market.publisher, market.governor, market.deployer]) {
          await expect(licenses.connect(caller).setMovable(licenseId, 1))
            .to.be.revertedWithCustomError(licenses, "AccessManagedUnauthorized")
            .withArgs(caller.address);
        }
      });
    });

    describe("when the escrow calls it", () => {
      it("keeps the time, and forgets it for 0", async () => {
        const asEscrow = await escrowAsCaller();
        await asEscrow.setMovable(licenseId, 77);
        expect(await licenses.movableAt(licenseId)).to.equal(77);
        await asEscrow.setMovable(licenseId, 0);
        expect(await licenses.movableAt(licenseId)).to.equal(0);
      });

      it("emits LicenseMovable", async () => {
        await expect((await escrowAsCaller()).setMovable(licenseId, 77))
          .to.emit(licenses, "LicenseMovable")
          .withArgs(licenseId, 77);
      });
    });
  });

  describe("transferFrom", () => {
    let movableAt: number;
    const lockedLicense = async () => {
      const licenseId = await buyLicense(market, 0n);
      movableAt = (await time.latest()) + DAY;
      await (await escrowAsCaller()).setMovable(licenseId, movableAt);
      return licenseId;
    };
    const transfer = (licenseId: bigint, by = market.licensee) =>
      licenses.connect(by).transferFrom(market.licensee, market.outsider, licenseId);

    it("reverts with LicenseNotMovable up to the very second in which its last use may settle", async () => {
      const licenseId = await lockedLicense();
      await time.setNextBlockTimestamp(movableAt);
      await expect(transfer(licenseId))
        .to.be.revertedWithCustomError(licenses, "LicenseNotMovable")
        .withArgs(licenseId, movableAt);
      await time.setNextBlockTimestamp(movableAt + 1);
      await transfer(licenseId);
      expect(await licenses.ownerOf(licenseId)).to.equal(market.outsider.address);
    });

    it("uses the lock up: the next transfer needs another", async () => {
      const licenseId = await lockedLicense();
      await time.increaseTo(movableAt);
      await transfer(licenseId);
      expect(await licenses.movableAt(licenseId)).to.equal(0);
      await expect(licenses.connect(market.outsider).transferFrom(market.outsider, market.licensee, licenseId))
        .to.be.revertedWithCustomError(licenses, "LicenseNotMovable")
        .withArgs(licenseId, 0);
    });

    it("is for whom the owner approved, too, and for nobody else", async () => {
      const licenseId = await lockedLicense();
      await time.increaseTo(movableAt);
      await expect(transfer(licenseId, market.operator))
        .to.be.revertedWithCustomError(licenses, "ERC721InsufficientApproval")
        .withArgs(market.operator.address, licenseId);
      await licenses.connect(market.licensee).approve(market.operator, licenseId);
      await transfer(licenseId, market.operator);
      expect(await licenses.ownerOf(licenseId)).to.equal(market.outsider.address);
    });

    it("reverts with LicenseNotMovable while it isn't locked, for the owner, and for whom the owner approved", async () => {
      const licenseId = await buyLicense(market, 0n);
      const { licensee, outsider, operator } = market;
      await licenses.connect(licensee).approve(outsider, licenseId);
      await licenses.connect(licensee).setApprovalForAll(operator, true);

      for (const caller of [licensee, outsider, operator]) {
        await expect(licenses.connect(caller).transferFrom(licensee, outsider, licenseId))
          .to.be.revertedWithCustomError(licenses, "LicenseNotMovable")
          .withArgs(licenseId, 0);
        await expect(
          licenses.connect(caller)["safeTransferFrom(address,address,uint256)"](licensee, outsider, licenseId),
        )
          .to.be.revertedWithCustomError(licenses, "LicenseNotMovable")
          .withArgs(licenseId, 0);
      }
      expect(await licenses.ownerOf(licenseId)).to.equal(licensee.address);
    });
  });

  describe("statusOf", () => {
    it("is None for a plan that doesn't exist", async () => {
      expect(await licenses.statusOf(0)).to.equal(PlanStatus.None);
      expect(await licenses.statusOf(2)).to.equal(PlanStatus.None);
    });

    it("is Open while licenses are left, SoldOut when none is, and Closed once it was closed", async () => {
      const planId = await addPlan(market, { supply: 2 });
      await buyLicense(market, 0n, { planId });
      expect(await licenses.statusOf(planId)).to.equal(PlanStatus.Open);
      await buyLicense(market, 0n, { planId });
      expect(await licenses.statusOf(planId)).to.equal(PlanStatus.SoldOut);
      await licenses.closePlan(planId);
      expect(await licenses.statusOf(planId)).to.equal(PlanStatus.Closed);
    });

    it("is never SoldOut without a supply", async () => {
      await buyLicense(market, 0n);
      expect(await licenses.statusOf(1)).to.equal(PlanStatus.Open);
    });
  });

  describe("sharesOf", () => {
    it("is the part of a plan's terms that says who gets what", async () => {
      expect(await licenses.sharesOf(1)).to.deep.equal([1, attestor, 3_000, 200]);
    });

    it("is all zero for a plan that doesn't exist", async () => {
      expect(await licenses.sharesOf(2)).to.deep.equal([0, ZERO, 0, 0]);
    });
  });

  describe("termsOf", () => {
    it("reverts with PlanUnknown for a plan that doesn't exist", async () => {
      for (const planId of [0, 2]) {
        await expect(licenses.termsOf(planId)).to.be.revertedWithCustomError(licenses, "PlanUnknown").withArgs(planId);
      }
    });
  });
});

/** Levels that never earn a discount, but for `changes`. */
function levelsWith(changes: Partial<PlanTerms["levels"]>): PlanTerms["levels"] {
  return {
    availabilityFloorBps: 9_000,
    availabilityDiscountBps: 0,
    severeAvailabilityFloorBps: 8_000,
    severeAvailabilityDiscountBps: 0,
    ttftCeilingMs: 800,
    ttftDiscountBps: 0,
    severeTtftCeilingMs: 3_000,
    severeTtftDiscountBps: 0,
    ...changes,
  };
}

type Value = string | bigint | boolean | { [name: string]: Value };

/** The terms as a call returns them: every number a bigint. */
function asOnChain(terms: object): { [name: string]: Value } {
  return Object.fromEntries(
    Object.entries(terms).map(([name, value]) => [
      name,
      typeof value === "number" ? BigInt(value) : typeof value === "object" ? asOnChain(value) : value,
    ]),
  );
}

/** A struct as an event's argument: a tuple in the order of the struct's fields. */
function asTuple(type: ParamType, struct: object): unknown[] {
  return type.components!.map((field) => {
    const value = (struct as Record<string, unknown>)[field.name];
    return field.components === null ? value : asTuple(field, value as object);
  });
}
