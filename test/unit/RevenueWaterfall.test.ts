import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { ZeroAddress, type Signer } from "ethers";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { BlocklistingCurrency__factory, ReentrantCurrency__factory } from "../../typechain-types";
import {
  addAsset,
  AssetKind,
  creditAsset,
  deployMarket,
  Relation,
  underCoverage,
  usd,
  type Market,
} from "../support/market";

/** What a hop may cost whose parts were all used before. */
const HOP_GAS = 60_000n;

/** Something that somebody does. Assets and payees are numbered from 1, people from 0. */
type Step =
  | { act: "credit"; asset: number; amount: bigint }
  | { act: "distribute"; asset: number }
  | { act: "addPayee"; asset: number; incomeBps: number }
  | { act: "giveUp"; payee: number }
  | { act: "withdraw"; who: number };

describe("RevenueWaterfall", () => {
  let market: Market;
  let waterfall: Market["licet"]["waterfall"];
  let currency: Market["licet"]["currency"];
  /** The market's model, of the publisher, which came from nothing; and one of the author's, which came from it. */
  const [base, child] = [1, 2];
  let author: Signer;
  let [alice, bob]: Signer[] = [];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    ({ waterfall, currency } = market.licet);
    [author, alice, bob] = market.payees;
  });

  const addressOf = (signer: Signer) => signer.getAddress();
  /** A model of the author's that gives the market's model `incomeBps`. */
  const derive = (incomeBps: number, parentId = base) =>
    addAsset(market, author, { parents: [{ parentId, relation: Relation.FineTunedFrom, incomeBps }] });
  const credit = (assetId: number, amount: bigint) => creditAsset(market, assetId, amount);
  const addPayee = (holder: Signer, incomeBps: number, assetId = base, by: Signer = market.publisher) =>
    waterfall.connect(by).addPayee(assetId, holder, incomeBps);
  const claimable = (holder: Signer) => waterfall.claimableOf(holder);
  const held = () => currency.balanceOf(waterfall);

  it("is an ERC-721 of payees' positions", async () => {
    expect([await waterfall.name(), await waterfall.symbol()]).to.deep.equal(["Licet Payee", "LICET-P"]);
    expect(await waterfall.supportsInterface("0x80ac58cd")).to.equal(true);
  });

  describe("credit", () => {
    describe("when the caller isn't UsageEscrow", () => {
      it("reverts with AccessManagedUnauthorized", async () => {
        await expect(waterfall.connect(market.outsider).credit(base, usd(5)))
          .to.be.revertedWithCustomError(waterfall, "AccessManagedUnauthorized")
          .withArgs(market.outsider.address);
      });
    });

    describe("when all is well", () => {
      it("adds to the asset's pot, and to what it ever earned", async () => {
        await credit(base, usd(5));
        await credit(base, usd(2));

        expect(await waterfall.potOf(base)).to.equal(usd(7));
        expect(await waterfall.incomeOf(base)).to.equal(usd(7));
        expect(await waterfall.potOf(child)).to.equal(0);
      });

      it("emits IncomeCredited, from no asset", async () => {
        await credit(base, usd(5));
        const [{ args }] = await waterfall.queryFilter(waterfall.filters.IncomeCredited());
        expect(args).to.deep.equal([BigInt(base), 0n, usd(5)]);
      });
    });
  });

  describe("addPayee", () => {
    describe("when the caller is neither the asset's owner nor approved", () => {
      it("reverts with CallerNotAssetOwner, for an asset that doesn't exist, too", async () => {
        for (const assetId of [base, 9]) {
          await expect(addPayee(alice, 1_000, assetId, market.outsider))
            .to.be.revertedWithCustomError(waterfall, "CallerNotAssetOwner")
            .withArgs(assetId, market.outsider.address);
        }
      });
    });

    describe("when the share is zero", () => {
      it("reverts with IncomeShareZero", async () => {
        await expect(addPayee(alice, 0)).to.be.revertedWithCustomError(waterfall, "IncomeShareZero").withArgs(base);
      });
    });

    describe("when the asset has as many payees as it may", () => {
      it("reverts with PayeesAboveLimit, until one gives up", async () => {
        for (let i = 0; i < 8; i++) await addPayee(alice, 1);
        await expect(addPayee(bob, 1)).to.be.revertedWithCustomError(waterfall, "PayeesAboveLimit").withArgs(base, 8);

        await waterfall.connect(alice).giveUp(3);
        await addPayee(bob, 1);
        expect(await waterfall.payeesOf(base)).to.have.length(8);
      });
    });

    describe("when parents and payees would share more than the whole", () => {
      it("reverts with IncomeAboveWhole, and allows all of it", async () => {
        await derive(6_000);
        await addPayee(alice, 3_000, child, author);
        await expect(addPayee(bob, 1_001, child, author))
          .to.be.revertedWithCustomError(waterfall, "IncomeAboveWhole")
          .withArgs(10_001);
        await addPayee(bob, 1_000, child, author);
      });
    });

    describe("when there is no holder", () => {
      it("reverts with ERC721InvalidReceiver", async () => {
        await expect(waterfall.connect(market.publisher).addPayee(base, ZeroAddress, 1))
          .to.be.revertedWithCustomError(waterfall, "ERC721InvalidReceiver")
          .withArgs(ZeroAddress);
      });
    });

    describe("when all is well", () => {
      it("mints the next position to the holder", async () => {
        await addPayee(alice, 1_000);
        await addPayee(bob, 500);

        expect(await waterfall.payeeCount()).to.equal(2);
        expect(await waterfall.ownerOf(2)).to.equal(await addressOf(bob));
        expect(await waterfall.assetOf(2)).to.equal(base);
        expect(await waterfall.payeesOf(base)).to.deep.equal([
          [1n, 1_000n],
          [2n, 500n],
        ]);
      });

      it("emits PayeeAdded", async () => {
        await expect(addPayee(alice, 1_000))
          .to.emit(waterfall, "PayeeAdded")
          .withArgs(1, base, await addressOf(alice), 1_000);
      });

      it("is for whom the owner approved, too, and for a buyer of the asset instead of its seller", async () => {
        const { assets } = market.licet;
        await assets.connect(market.publisher).approve(bob, base);
        await addPayee(alice, 1, base, bob);
        await assets.connect(market.publisher).transferFrom(market.publisher, market.operator, base);
        await addPayee(alice, 1, base, market.operator);
        await expect(addPayee(alice, 1))
          .to.be.revertedWithCustomError(waterfall, "CallerNotAssetOwner")
          .withArgs(base, market.publisher.address);
      });
    });
  });

  describe("giveUp", () => {
    beforeEach(async () => {
      await addPayee(alice, 1_000);
    });

    describe("when there is no such position", () => {
      it("reverts with ERC721NonexistentToken", async () => {
        await expect(waterfall.connect(alice).giveUp(2))
          .to.be.revertedWithCustomError(waterfall, "ERC721NonexistentToken")
          .withArgs(2);
      });
    });

    describe("when the caller is neither the holder nor approved", () => {
      it("reverts with ERC721InsufficientApproval: the asset's owner can't take a share back", async () => {
        await expect(waterfall.connect(market.publisher).giveUp(1))
          .to.be.revertedWithCustomError(waterfall, "ERC721InsufficientApproval")
          .withArgs(market.publisher.address, 1);
      });
    });

    describe("when all is well", () => {
      it("burns the position, and the share is the owner's again", async () => {
        await addPayee(bob, 500);
        await addPayee(bob, 200);
        await waterfall.connect(alice).giveUp(1);

        await expect(waterfall.ownerOf(1)).to.be.revertedWithCustomError(waterfall, "ERC721NonexistentToken");
        expect(await waterfall.assetOf(1)).to.equal(0);
        expect(await waterfall.payeesOf(base)).to.deep.equal([
          [3n, 200n],
          [2n, 500n],
        ]);
        await credit(base, usd(10));
        await waterfall.distribute(base);
        expect(await claimable(alice)).to.equal(0);
        expect(await claimable(bob)).to.equal(usd(0.7));
        expect(await claimable(market.publisher)).to.equal(usd(9.3));
      });

      it("leaves what was distributed before", async () => {
        await credit(base, usd(10));
        await waterfall.distribute(base);
        await waterfall.connect(alice).giveUp(1);
        expect(await claimable(alice)).to.equal(usd(1));
      });

      it("emits PayeeGivenUp", async () => {
        await waterfall.connect(alice).approve(bob, 1);
        await expect(waterfall.connect(bob).giveUp(1))
          .to.emit(waterfall, "PayeeGivenUp")
          .withArgs(1, base, await addressOf(alice));
      });
    });
  });

  describe("distribute", () => {
    describe("when the pot is empty", () => {
      it("reverts with PotEmpty, and again after it was distributed", async () => {
        await expect(waterfall.distribute(base)).to.be.revertedWithCustomError(waterfall, "PotEmpty").withArgs(base);
        await credit(base, 1n);
        await waterfall.distribute(base);
        await expect(waterfall.distribute(base)).to.be.revertedWithCustomError(waterfall, "PotEmpty").withArgs(base);
        await expect(waterfall.distribute(9)).to.be.revertedWithCustomError(waterfall, "PotEmpty").withArgs(9);
      });
    });

    describe("when all is well", () => {
      beforeEach(async () => {
        await derive(2_000);
        await addPayee(alice, 1_500, child, author);
        await credit(child, usd(100));
      });

      it("moves the parents' shares to their pots, the payees' to their holders, and the rest to the owner", async () => {
        await waterfall.connect(market.outsider).distribute(child);

        expect(await waterfall.potOf(child)).to.equal(0);
        expect(await waterfall.potOf(base)).to.equal(usd(20));
        expect(await waterfall.incomeOf(base)).to.equal(usd(20));
        expect(await claimable(alice)).to.equal(usd(15));
        expect(await claimable(author)).to.equal(usd(65));
        expect(await claimable(market.publisher)).to.equal(0);
      });

      it("moves one hop: the parent's pot waits for a call of its own", async () => {
        await waterfall.distribute(child);
        await waterfall.distribute(base);
        expect(await claimable(market.publisher)).to.equal(usd(20));
      });

      it("emits IncomeDistributed, IncomeCredited and IncomeClaimable", async () => {
        await expect(waterfall.distribute(child))
          .to.emit(waterfall, "IncomeDistributed")
          .withArgs(child, usd(100))
          .and.to.emit(waterfall, "IncomeCredited")
          .withArgs(base, child, usd(20))
          .and.to.emit(waterfall, "IncomeClaimable")
          .withArgs(child, await addressOf(alice), 1, usd(15))
          .and.to.emit(waterfall, "IncomeClaimable")
          .withArgs(child, await addressOf(author), 0, usd(65));
      });
    });

    describe("when shares don't divide", () => {
      it("rounds them down, and the owner gains what is left, to the last unit", async () => {
        await derive(3_333);
        await addPayee(alice, 3_333, child, author);
        for (const [amount, share] of [
          [1n, 0n],
          [3n, 0n],
          [4n, 1n],
          [10_001n, 3_333n],
        ]) {
          const before = await Promise.all([waterfall.potOf(base), claimable(alice), claimable(author)]);
          await credit(child, amount);
          await waterfall.distribute(child);
          const after = await Promise.all([waterfall.potOf(base), claimable(alice), claimable(author)]);
          expect(after.map((value, i) => value - before[i])).to.deep.equal([share, share, amount - 2n * share]);
        }
      });

      it("makes no entry of nothing", async () => {
        await derive(3_333);
        await credit(child, 1n);
        await expect(waterfall.distribute(child)).not.to.emit(waterfall, "IncomeCredited");
        expect(await waterfall.incomeOf(base)).to.equal(0);
      });
    });

    describe("when others have all of it", () => {
      it("leaves the owner nothing", async () => {
        await derive(10_000);
        await credit(child, usd(100));
        await expect(waterfall.distribute(child)).not.to.emit(waterfall, "IncomeClaimable");
        expect(await waterfall.potOf(base)).to.equal(usd(100));
        expect(await claimable(author)).to.equal(0);
      });
    });

    describe("when a token changed hands between credit and distribution", () => {
      it("pays who has it now: the asset's new owner, and the position's new holder", async () => {
        const { assets } = market.licet;
        await addPayee(alice, 1_000);
        await credit(base, usd(10));
        await assets.connect(market.publisher).transferFrom(market.publisher, market.operator, base);
        await waterfall.connect(alice).transferFrom(alice, bob, 1);
        await waterfall.distribute(base);

        expect(await Promise.all([market.publisher, market.operator, alice, bob].map(claimable))).to.deep.equal([
          0n,
          usd(9),
          0n,
          usd(1),
        ]);
      });

      it("leaves what was distributed before with whom it was distributed to", async () => {
        await addPayee(alice, 1_000);
        await credit(base, usd(10));
        await waterfall.distribute(base);
        await waterfall.connect(alice).transferFrom(alice, bob, 1);
        await waterfall.connect(alice).withdraw(alice);
        expect(await currency.balanceOf(alice)).to.equal(usd(1));
      });
    });

    describe("when a payee was added between credit and distribution", () => {
      it("takes its share from the owner's, and from nobody else's", async () => {
        await derive(2_000);
        await addPayee(alice, 1_000, child, author);
        await credit(child, usd(10));
        await addPayee(bob, 7_000, child, author);
        await waterfall.distribute(child);

        expect(await waterfall.potOf(base)).to.equal(usd(2));
        expect(await claimable(alice)).to.equal(usd(1));
        expect(await claimable(bob)).to.equal(usd(7));
        expect(await claimable(author)).to.equal(0);
      });
    });

    describe("of an asset whose parents share one grandparent", () => {
      it("pays the grandparent by both", async () => {
        const twins = [await derive(1_000), await derive(2_000)];
        const grandchild = await addAsset(market, market.operator, {
          parents: twins.map((parentId) => ({ parentId, relation: Relation.MergedFrom, incomeBps: 5_000 })),
        });
        await credit(grandchild, usd(10));
        for (const assetId of [grandchild, ...twins, base]) await waterfall.distribute(assetId);

        expect(await claimable(market.publisher)).to.equal(usd(1.5));
        expect(await claimable(author)).to.equal(usd(8.5));
        expect(await claimable(market.operator)).to.equal(0);
      });
    });
  });

  describe("withdraw", () => {
    beforeEach(async () => {
      await credit(base, usd(10));
    });

    describe("when nothing is the caller's to claim", () => {
      it("reverts with IncomeEmpty, before a distribution and after a withdrawal", async () => {
        const publisher = waterfall.connect(market.publisher);
        const refused = () =>
          expect(publisher.withdraw(alice))
            .to.be.revertedWithCustomError(waterfall, "IncomeEmpty")
            .withArgs(market.publisher.address);
        await refused();
        await waterfall.distribute(base);
        await publisher.withdraw(alice);
        await refused();
      });
    });

    describe("when all is well", () => {
      it("sends all of it where the caller says, and emits IncomeWithdrawn", async () => {
        await waterfall.distribute(base);
        const withdrawal = waterfall.connect(market.publisher).withdraw(alice);
        await expect(withdrawal)
          .to.emit(waterfall, "IncomeWithdrawn")
          .withArgs(market.publisher.address, await addressOf(alice), usd(10));
        await expect(withdrawal).to.changeTokenBalances(currency, [waterfall, alice], [-usd(10), usd(10)]);
        expect(await claimable(market.publisher)).to.equal(0);
      });
    });
  });

  describe("an attacker", () => {
    it("who distributes unit by unit takes less than a unit a call from a parent", async () => {
      await derive(9_999);
      for (let i = 0; i < 5; i++) {
        await credit(child, 1n);
        await waterfall.distribute(child);
      }
      expect(await waterfall.potOf(base)).to.equal(0);
      await credit(child, 100n);
      await waterfall.distribute(child);
      expect(await waterfall.potOf(base)).to.equal(99);
    });

    it("who sends currency here adds to nobody's income, and takes nothing from it", async () => {
      await currency.mint(waterfall, usd(7));
      await credit(base, usd(10));
      await waterfall.distribute(base);
      expect(await claimable(market.publisher)).to.equal(usd(10));
      expect(await held()).to.equal(usd(17));
    });

    it("who owns the child has no way to take a parent's share, nor a payee's", async () => {
      await derive(5_000);
      await addPayee(alice, 5_000, child, author);
      // All is given away: nothing can be added, taken over or emptied.
      for (const share of [1, 5_000, 10_000]) {
        await expect(addPayee(author, share, child, author))
          .to.be.revertedWithCustomError(waterfall, "IncomeAboveWhole")
          .withArgs(10_000 + share);
      }
      await expect(waterfall.connect(author).giveUp(1)).to.be.reverted;
      await expect(waterfall.connect(author).transferFrom(alice, author, 1)).to.be.reverted;
      await credit(child, usd(10));
      await expect(waterfall.connect(author).withdraw(author)).to.be.reverted;
      await waterfall.distribute(child);
      expect(await waterfall.potOf(base)).to.equal(usd(5));
      expect(await claimable(alice)).to.equal(usd(5));
    });

    it("who is blocked by the currency holds up nobody else", async () => {
      const blocking = await hre.ethers.deployContract("BlocklistingCurrency");
      market = await deployMarket({ currency: await blocking.getAddress() });
      ({ waterfall, currency } = market.licet);
      await addPayee(alice, 1_000);
      await credit(base, usd(10));
      const asBlocker = BlocklistingCurrency__factory.connect(await blocking.getAddress(), market.deployer);
      await asBlocker.blockAccount(alice);
      await waterfall.distribute(base);
      await waterfall.connect(market.publisher).withdraw(market.publisher);

      await expect(waterfall.connect(alice).withdraw(alice))
        .to.be.revertedWithCustomError(asBlocker, "AccountBlocked")
        .withArgs(await addressOf(alice));
      // It may have it sent elsewhere.
      await waterfall.connect(alice).withdraw(bob);
      expect(await held()).to.equal(0);
    });

    it("who is a contract that takes no tokens and no money is paid like anybody", async () => {
      const { licenses } = market.licet;
      await waterfall.connect(market.publisher).addPayee(base, licenses, 1_000);
      await credit(base, usd(10));
      await waterfall.distribute(base);
      expect(await waterfall.claimableOf(licenses)).to.equal(usd(1));
      expect(await claimable(market.publisher)).to.equal(usd(9));
    });

    it("who is called in the middle of a withdrawal finds nothing to take", async () => {
      const reentrant = await hre.ethers.deployContract("ReentrantCurrency");
      market = await deployMarket({ currency: await reentrant.getAddress() });
      ({ waterfall, currency } = market.licet);
      const armed = ReentrantCurrency__factory.connect(await reentrant.getAddress(), market.deployer);
      const target = await waterfall.getAddress();
      const call = (name: "distribute" | "withdraw", argument: number | string) =>
        armed.arm(target, waterfall.interface.encodeFunctionData(name as "distribute", [argument as number]));

      // The currency itself owns the model, so that its call counts as the owner's.
      await market.licet.assets.connect(market.publisher).transferFrom(market.publisher, armed, base);
      await addPayeeAsCurrency();
      await credit(base, usd(10));
      await waterfall.distribute(base);
      await credit(base, usd(4));

      await call("withdraw", await addressOf(bob));
      await expect(waterfall.connect(alice).withdraw(alice)).to.be.revertedWithCustomError(
        waterfall,
        "ReentrancyGuardReentrantCall",
      );
      await call("distribute", base);
      await expect(waterfall.connect(alice).withdraw(alice)).to.changeTokenBalances(
        currency,
        [waterfall, alice],
        [-usd(1), usd(1)],
      );
      expect(await claimable(alice)).to.equal(usd(0.4));
      expect(await waterfall.claimableOf(armed)).to.equal(usd(12.6));
      expect(await held()).to.equal(usd(13));

      async function addPayeeAsCurrency() {
        const owner = await hre.ethers.getImpersonatedSigner(await armed.getAddress());
        await hre.network.provider.send("hardhat_setBalance", [owner.address, "0xde0b6b3a7640000"]);
        await addPayee(alice, 1_000, base, owner);
      }
    });
  });

  describe("whatever is earned, shared and given up", () => {
    const share = fc.integer({ min: 0, max: 3_000 });
    const asset = fc.integer({ min: 1, max: 5 });
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.record({ act: fc.constant("credit" as const), asset, amount: fc.bigInt(1n, 10n ** 12n) }),
      fc.record({ act: fc.constant("distribute" as const), asset }),
      fc.record({ act: fc.constant("addPayee" as const), asset, incomeBps: fc.integer({ min: 1, max: 2_500 }) }),
      fc.record({ act: fc.constant("giveUp" as const), payee: fc.integer({ min: 1, max: 8 }) }),
      fc.record({ act: fc.constant("withdraw" as const), who: fc.nat(3) }),
    );

    it("is conserved: pots and claimables are the balance, and every split sums to what was split", async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(share, { minLength: 6, maxLength: 6 }), fc.array(step, { maxLength: 40 }), runSteps),
        { numRuns: 12 },
      );
    }).timeout(240_000);

    async function runSteps(shares: number[], steps: Step[]) {
      market = await loadFixture(deployMarket);
      ({ waterfall, currency } = market.licet);
      const people = market.payees.slice(0, 4);
      const edge = (parentId: number, i: number) => ({
        parentId,
        relation: Relation.MergedFrom,
        incomeBps: shares[i],
      });
      // A lattice: 2 and 3 from 1, 4 from 1, 2 and 3, 5 from 4 alone.
      await addAsset(market, people[0], { parents: [edge(1, 0)] });
      await addAsset(market, people[1], { parents: [edge(1, 1)] });
      await addAsset(market, people[2], { parents: [edge(1, 2), edge(2, 3), edge(3, 4)] });
      await addAsset(market, people[3], { parents: [edge(4, 5)] });
      const owners = [market.publisher, ...people];

      for (const one of steps) await take(one, owners, people);

      const pots = await Promise.all([1, 2, 3, 4, 5].map((assetId) => waterfall.potOf(assetId)));
      const claims = await Promise.all(owners.map(claimable));
      expect([...pots, ...claims].reduce((sum, amount) => sum + amount, 0n)).to.equal(await held());

      // Leaves to roots, everything comes to who may withdraw it.
      for (const assetId of [5, 4, 3, 2, 1]) {
        if ((await waterfall.potOf(assetId)) > 0n) await waterfall.distribute(assetId);
      }
      for (const owner of owners) {
        if ((await claimable(owner)) > 0n) await waterfall.connect(owner).withdraw(owner);
      }
      expect(await held()).to.equal(0);
      await expectWholeSplits();
    }

    /** Takes a step, if it can be taken. */
    async function take(step: Step, owners: Signer[], people: Signer[]) {
      if (step.act === "credit") {
        await credit(step.asset, step.amount);
      } else if (step.act === "distribute") {
        if ((await waterfall.potOf(step.asset)) > 0n) await waterfall.distribute(step.asset);
      } else if (step.act === "addPayee") {
        const holder = people[step.incomeBps % people.length];
        if ((await sharedOf(step.asset)) + step.incomeBps > 10_000) return;
        await addPayee(holder, step.incomeBps, step.asset, owners[step.asset - 1]);
      } else if (step.act === "giveUp") {
        if ((await waterfall.assetOf(step.payee)) === 0n) return;
        const holder = await hre.ethers.getSigner(await waterfall.ownerOf(step.payee));
        await waterfall.connect(holder).giveUp(step.payee);
      } else if ((await claimable(people[step.who])) > 0n) {
        await waterfall.connect(people[step.who]).withdraw(people[step.who]);
      }
    }

    /** What an asset's parents and payees have of its income; the whole where it has as many payees as it may. */
    async function sharedOf(assetId: number): Promise<number> {
      const payees = await waterfall.payeesOf(assetId);
      if (payees.length === 8) return 10_000;
      const parts = [...(await market.licet.assets.parentsOf(assetId)), ...payees];
      return parts.reduce((sum, { incomeBps }) => sum + Number(incomeBps), 0);
    }

    /** In each transaction that distributes, what left the pot is what came to other pots and to people. */
    async function expectWholeSplits() {
      const { filters } = waterfall;
      for (const { args, transactionHash } of await waterfall.queryFilter(filters.IncomeDistributed())) {
        const { logs } = (await hre.ethers.provider.getTransactionReceipt(transactionHash))!;
        const parts = logs
          .map((log) => waterfall.interface.parseLog(log))
          .filter((log) => log?.name === "IncomeCredited" || log?.name === "IncomeClaimable")
          .map((log) => log!.args.amount as bigint);
        expect(parts.reduce((sum, amount) => sum + amount, 0n)).to.equal(args.amount);
      }
    }
  });

  (underCoverage ? describe.skip : describe)("a hop's gas", () => {
    const gasOf = async (assetId: number) => (await (await waterfall.distribute(assetId)).wait())!.gasUsed;

    it("is at most 60,000 with one parent, also where owner and parent have fetched all that was theirs", async () => {
      await derive(2_000);
      await credit(child, usd(10));
      await waterfall.distribute(child);
      await credit(child, usd(10));
      expect(await gasOf(child)).to.be.at.most(HOP_GAS);

      await waterfall.distribute(base);
      await waterfall.connect(author).withdraw(author);
      await credit(child, usd(10));
      expect(await gasOf(child)).to.be.at.most(HOP_GAS);
    });

    it("is bounded with as many parents and payees as there may be, the first time", async () => {
      const parents: number[] = [];
      for (let i = 0; i < 8; i++) parents.push(await addAsset(market, market.operator, { kind: AssetKind.Dataset }));
      const wide = await addAsset(market, author, {
        parents: parents.map((parentId) => ({ parentId, relation: Relation.TrainedOn, incomeBps: 500 })),
      });
      for (let i = 0; i < 8; i++) await addPayee(market.payees[i + 1], 500, wide, author);
      await credit(wide, usd(10));
      expect(await gasOf(wide)).to.be.at.most(600_000n);
      expect(await claimable(author)).to.equal(usd(2));
    });
  });
});
