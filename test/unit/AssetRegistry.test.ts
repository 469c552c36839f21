import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import {
  id,
  TypedDataEncoder,
  ZeroAddress,
  ZeroHash,
  type FunctionFragment,
  type Signer,
  type TypedDataDomain,
} from "ethers";
import hre, { network } from "hardhat";
import { DERIVATION_TYPES, derivationDomainOf } from "../../oracle/protocol/derivations";
import type { IAssetRegistry } from "../../typechain-types/contracts/AssetRegistry";
import {
  addAsset,
  AssetKind,
  deployMarket,
  DerivativePolicy,
  HOUR,
  NO_APPROVAL,
  NOTICE,
  registration,
  Relation,
  structOf,
  VersionStatus,
  type Market,
} from "../support/market";

type Edge = IAssetRegistry.EdgeStruct;
type Derivation = IAssetRegistry.DerivationStruct;

const versionId = (assetId: number, number: number) => (BigInt(assetId) << 32n) | BigInt(number);

describe("AssetRegistry", () => {
  let market: Market;
  let assets: Market["licet"]["assets"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    assets = market.licet.assets;
  });

  it("is an ERC-721 with metadata that may change (ERC-4906) and royalties (ERC-2981)", async () => {
    expect([await assets.name(), await assets.symbol()]).to.deep.equal(["Licet Asset", "LICET-A"]);
    for (const id of ["0x80ac58cd", "0x5b5e139f", "0x49064906", "0x2a55205a", "0x01ffc9a7"]) {
      expect(await assets.supportsInterface(id), id).to.equal(true);
    }
    expect(await assets.supportsInterface("0xffffffff")).to.equal(false);
  });

  const edgeTo = (parentId: number, changes: Partial<Edge> = {}): Edge => ({
    parentId,
    relation: Relation.FineTunedFrom,
    incomeBps: 1_000,
    ...changes,
  });
  /** Has the outsider register an asset that came from the market's, of the publisher, or from `parents`. */
  const derive = (
    changes: Partial<IAssetRegistry.RegistrationStruct> = {},
    approvals?: IAssetRegistry.DerivationApprovalStruct[],
    by: Signer = market.outsider,
  ) => {
    const { parents, ...rest } = registration({ parents: [edgeTo(1)], ...changes });
    return assets.connect(by).register({ ...rest, parents }, approvals ?? parents.map(() => NO_APPROVAL));
  };
  const setPolicy = (policy: number, minShareBps = 0) =>
    assets.connect(market.publisher).setPolicy(1, policy, minShareBps);

  describe("register", () => {
    const { Model, Adapter, Dataset } = AssetKind;

    describe("when the URI is empty", () => {
      it("reverts with AssetUriEmpty", async () => {
        await expect(derive({ uri: "" }))
          .to.be.revertedWithCustomError(assets, "AssetUriEmpty")
          .withArgs();
      });
    });

    describe("when the royalty is above its bound", () => {
      it("reverts with RoyaltyAboveBound, and allows the bound", async () => {
        await expect(derive({ royaltyBps: 1_001 }))
          .to.be.revertedWithCustomError(assets, "RoyaltyAboveBound")
          .withArgs(1_001, 1_000);
        await derive({ royaltyBps: 1_000 });
      });
    });

    describe("when it has too many parents", () => {
      it("reverts with ParentsAboveLimit, and allows as many as the limit", async () => {
        for (let i = 0; i < 8; i++) await addAsset(market, market.publisher);
        const parents = Array.from({ length: 9 }, (_, i) => edgeTo(i + 1));
        await expect(derive({ parents })).to.be.revertedWithCustomError(assets, "ParentsAboveLimit").withArgs(9, 8);

        await derive({ parents: parents.slice(1) });
        expect(await assets.parentsOf(10)).to.have.length(8);
      });
    });

    describe("when there isn't an approval for each parent", () => {
      it("reverts with ApprovalsNotParallel", async () => {
        for (const approvals of [[], [NO_APPROVAL, NO_APPROVAL]]) {
          await expect(derive({}, approvals))
            .to.be.revertedWithCustomError(assets, "ApprovalsNotParallel")
            .withArgs(approvals.length, 1);
        }
      });
    });

    describe("when a parent doesn't exist", () => {
      it("reverts with AssetUnknown: nor can an asset be its own parent, or its child's", async () => {
        for (const parentId of [0, 2, 9]) {
          await expect(derive({ parents: [edgeTo(parentId)] }))
            .to.be.revertedWithCustomError(assets, "AssetUnknown")
            .withArgs(parentId);
        }
      });
    });

    describe("when parents don't ascend", () => {
      it("reverts with ParentsNotAscending, also for one that is named twice", async () => {
        await addAsset(market, market.publisher);
        await expect(derive({ parents: [edgeTo(2), edgeTo(1)] }))
          .to.be.revertedWithCustomError(assets, "ParentsNotAscending")
          .withArgs(1, 2);
        await expect(derive({ parents: [edgeTo(1), edgeTo(1, { relation: Relation.MergedFrom })] }))
          .to.be.revertedWithCustomError(assets, "ParentsNotAscending")
          .withArgs(1, 1);
      });
    });

    describe("when a relation doesn't fit the kinds", () => {
      const fits: Record<keyof typeof Relation, [child: number, parent: number][]> = {
        FineTunedFrom: [
          [Model, Model],
          [Model, Adapter],
          [Adapter, Model],
          [Adapter, Adapter],
        ],
        AdapterOf: [[Adapter, Model]],
        DistilledFrom: everyPair(),
        MergedFrom: everyPair(),
        QuantizedFrom: [
          [Model, Model],
          [Model, Adapter],
          [Adapter, Model],
          [Adapter, Adapter],
        ],
        TrainedOn: [
          [Model, Dataset],
          [Adapter, Dataset],
        ],
        EvaluatedOn: [
          [Model, Dataset],
          [Adapter, Dataset],
        ],
      };

      for (const [name, pairs] of Object.entries(fits)) {
        it(`reverts with RelationUnfit: ${name}, of ${everyPair().length - pairs.length} pairs of kinds`, async () => {
          const relation = Relation[name as keyof typeof Relation];
          const parents: { [kind: number]: number } = {};
          for (const kind of [Model, Adapter, Dataset]) {
            parents[kind] = await addAsset(market, market.publisher, { kind });
          }
          for (const [child, parent] of everyPair()) {
            const registered = derive({ kind: child, parents: [edgeTo(parents[parent], { relation })] });
            if (pairs.some(([a, b]) => a === child && b === parent)) await registered;
            else {
              await expect(registered)
                .to.be.revertedWithCustomError(assets, "RelationUnfit")
                .withArgs(parents[parent], relation, child, parent);
            }
          }
        });
      }

      function everyPair(): [child: number, parent: number][] {
        return [Model, Adapter, Dataset].flatMap((child) =>
          [Model, Adapter, Dataset].map((parent): [number, number] => [child, parent]),
        );
      }
    });

    describe("when it permits a use that a parent forbids", () => {
      it("reverts with UsesNotPermitted, whoever registers, and allows what all parents do", async () => {
        const strict = await addAsset(market, market.publisher, { permittedUses: 0b0110 });
        const other = await addAsset(market, market.publisher, { permittedUses: 0b0011 });
        const parents = [edgeTo(strict), edgeTo(other)];
        for (const by of [market.outsider, market.publisher]) {
          await expect(derive({ parents, permittedUses: 0b0111 }, undefined, by))
            .to.be.revertedWithCustomError(assets, "UsesNotPermitted")
            .withArgs(strict, 0b0001);
          await expect(derive({ parents, permittedUses: 0b0110 }, undefined, by))
            .to.be.revertedWithCustomError(assets, "UsesNotPermitted")
            .withArgs(other, 0b0100);
        }
        await derive({ parents, permittedUses: 0b0010 });
        await derive({ parents, permittedUses: 0 });
      });
    });

    describe("when the parents share more than the whole", () => {
      it("reverts with IncomeAboveWhole, and allows the whole", async () => {
        await addAsset(market, market.publisher);
        await expect(derive({ parents: [edgeTo(1, { incomeBps: 5_000 }), edgeTo(2, { incomeBps: 5_001 })] }))
          .to.be.revertedWithCustomError(assets, "IncomeAboveWhole")
          .withArgs(10_001);
        await derive({ parents: [edgeTo(1, { incomeBps: 5_000 }), edgeTo(2, { incomeBps: 5_000 })] });
      });
    });

    describe("when its minimum share is more than the whole", () => {
      it("reverts with MinShareAboveWhole", async () => {
        await expect(derive({ minShareBps: 10_001 }))
          .to.be.revertedWithCustomError(assets, "MinShareAboveWhole")
          .withArgs(10_001);
      });
    });

    describe("when a parent's policy is closed", () => {
      it("reverts with DerivativesClosed, but for who controls the parent", async () => {
        await setPolicy(DerivativePolicy.Closed);
        await expect(derive()).to.be.revertedWithCustomError(assets, "DerivativesClosed").withArgs(1);

        await derive({}, undefined, market.publisher);
        await assets.connect(market.publisher).approve(market.operator, 1);
        await derive({ parents: [edgeTo(1, { incomeBps: 0 })] }, undefined, market.operator);
        expect(await assets.assetCount()).to.equal(3);
      });

      it("reverts with DerivativesClosed with an approval, too: closing voids those that were signed", async () => {
        const approval = await approve();
        await setPolicy(DerivativePolicy.Closed);
        await expect(derive({}, [approval]))
          .to.be.revertedWithCustomError(assets, "DerivativesClosed")
          .withArgs(1);
      });
    });

    describe("when a parent's policy is open", () => {
      it("reverts with IncomeShareBelowMinimum for less than it asks for", async () => {
        await setPolicy(DerivativePolicy.Open, 1_001);
        await expect(derive())
          .to.be.revertedWithCustomError(assets, "IncomeShareBelowMinimum")
          .withArgs(1, 1_000, 1_001);
        await derive({ parents: [edgeTo(1, { incomeBps: 1_001 })] });
      });

      it("takes less with an approval, which it doesn't use up for as much as it asks for", async () => {
        await setPolicy(DerivativePolicy.Open, 1_000);
        const approval = await approve();
        await derive({}, [approval]);
        const cheap = await approve({ incomeBps: 999 });
        await expect(derive({ parents: [edgeTo(1, { incomeBps: 999 })] }, [cheap])).to.emit(assets, "DerivationUsed");
        expect(await assets.isDerivationUsed(await hashOf({}))).to.equal(false);
      });
    });

    describe("when a parent's policy is by approval", () => {
      beforeEach(async () => {
        await setPolicy(DerivativePolicy.ByApproval);
      });
      const refused = (approval: IAssetRegistry.DerivationApprovalStruct, changes: Partial<Edge> = {}, by?: Signer) =>
        expect(derive({ parents: [edgeTo(1, changes)] }, [approval], by)).to.be.revertedWithCustomError(
          assets,
          "DerivationNotApproved",
        );

      it("reverts with DerivationNotApproved without one", async () => {
        await refused(NO_APPROVAL).withArgs(1, market.outsider.address);
        await refused({ ...NO_APPROVAL, deadline: 2n ** 40n }).withArgs(1, market.outsider.address);
      });

      it("reverts with DerivationNotApproved for one of somebody else, or for anything else", async () => {
        const { address } = market.outsider;
        await refused(await approve({}, market.outsider)).withArgs(1, address);
        await refused(await approve(), { incomeBps: 999 }).withArgs(1, address);
        await refused(await approve(), { relation: Relation.QuantizedFrom }).withArgs(1, address);
        await refused({ ...(await approve()), salt: 8 }).withArgs(1, address);
        await refused({ ...(await approve()), deadline: 2n ** 40n }).withArgs(1, address);
        await refused(await approve(), {}, market.operator).withArgs(1, market.operator.address);
      });

      it("reverts with DerivationNotApproved for one of another parent, chain or registry", async () => {
        const sibling = await addAsset(market, market.publisher, { policy: DerivativePolicy.ByApproval });
        const { address } = market.outsider;
        await expect(derive({ parents: [edgeTo(sibling)] }, [await approve()]))
          .to.be.revertedWithCustomError(assets, "DerivationNotApproved")
          .withArgs(sibling, address);
        await refused(await approve({}, market.publisher, { chainId: 1n })).withArgs(1, address);
        await refused(await approve({}, market.publisher, { verifyingContract: address })).withArgs(1, address);
      });

      it("reverts with DerivationNotApproved for one of a former owner, and takes one of the present owner", async () => {
        const approval = await approve();
        await assets.connect(market.publisher).transferFrom(market.publisher, market.operator, 1);
        await refused(approval).withArgs(1, market.outsider.address);
        await derive({}, [await approve({}, market.operator)]);
      });

      it("reverts with DerivationNotApproved for one from before the parent was sold, also if it came back", async () => {
        const approval = await approve();
        await assets.connect(market.publisher).transferFrom(market.publisher, market.operator, 1);
        await assets.connect(market.operator).transferFrom(market.operator, market.publisher, 1);
        expect(await assets.transferCountOf(1)).to.equal(2);
        await refused(approval).withArgs(1, market.outsider.address);
        await derive({}, [await approve()]);
      });

      it("reverts with DerivationExpired after its last second", async () => {
        const deadline = (await time.latest()) + HOUR;
        const approval = await approve({ deadline });
        await time.setNextBlockTimestamp(deadline + 1);
        await expect(derive({}, [approval]))
          .to.be.revertedWithCustomError(assets, "DerivationExpired")
          .withArgs(1, deadline);
      });

      it("takes it at its last second", async () => {
        const deadline = (await time.latest()) + HOUR;
        const approval = await approve({ deadline });
        await time.setNextBlockTimestamp(deadline);
        await derive({}, [approval]);
      });

      it("uses an approval up, and reverts with DerivationUsedBefore the second time", async () => {
        const approval = await approve();
        const digest = await hashOf({});
        await expect(derive({}, [approval]))
          .to.emit(assets, "DerivationUsed")
          .withArgs(1, digest);
        expect(await assets.isDerivationUsed(digest)).to.equal(true);
        await expect(derive({}, [approval]))
          .to.be.revertedWithCustomError(assets, "DerivationUsedBefore")
          .withArgs(1, digest);
        await derive({}, [await approve({ salt: 2 })]);
      });

      it("takes a smart account's (ERC-1271)", async () => {
        const key = market.payees[0];
        const wallet = await hre.ethers.deployContract("SmartWallet", [key.address]);
        await assets.connect(market.publisher).transferFrom(market.publisher, wallet, 1);
        await refused(await approve({}, market.publisher)).withArgs(1, market.outsider.address);
        await derive({}, [await approve({}, key)]);
      });

      it("asks for each parent's", async () => {
        const sibling = await addAsset(market, market.operator, { policy: DerivativePolicy.ByApproval });
        const parents = [edgeTo(1), edgeTo(sibling)];
        await expect(derive({ parents }, [await approve(), NO_APPROVAL]))
          .to.be.revertedWithCustomError(assets, "DerivationNotApproved")
          .withArgs(sibling, market.outsider.address);
        await derive({ parents }, [await approve(), await approve({ parentId: sibling }, market.operator)]);
      });
    });

    describe("when all is well", () => {
      const parents = [edgeTo(1, { incomeBps: 500 }), edgeTo(2, { relation: Relation.TrainedOn, incomeBps: 0 })];
      const whole = {
        kind: Adapter,
        uri: "ipfs://adapter",
        permittedUses: 0b11,
        policy: DerivativePolicy.ByApproval,
        minShareBps: 200,
        royaltyBps: 250,
        parents,
      };

      beforeEach(async () => {
        await addAsset(market, market.operator, { kind: Dataset });
      });

      it("mints the next token to the caller, with its URI", async () => {
        await derive(whole);

        expect(await assets.assetCount()).to.equal(3);
        expect(await assets.ownerOf(3)).to.equal(market.outsider.address);
        expect(await assets.tokenURI(3)).to.equal("ipfs://adapter");
        expect(await assets.versionCountOf(3)).to.equal(0);
      });

      it("keeps what it is, permits and came from", async () => {
        await derive(whole);

        expect(structOf(await assets.assetOf(3))).to.deep.equal({
          kind: BigInt(Adapter),
          policy: BigInt(DerivativePolicy.ByApproval),
          minShareBps: 200n,
          permittedUses: 0b11n,
        });
        expect((await assets.parentsOf(3)).map((edge) => [...edge])).to.deep.equal([
          [1n, BigInt(Relation.FineTunedFrom), 500n],
          [2n, BigInt(Relation.TrainedOn), 0n],
        ]);
        expect(await assets.royaltyInfo(3, 10_000)).to.deep.equal([market.outsider.address, 250n]);
      });

      it("emits AssetRegistered, AssetDerived for each parent, PolicySet and MetadataUpdate", async () => {
        await expect(derive(whole))
          .to.emit(assets, "AssetRegistered")
          .withArgs(3, market.outsider.address, Adapter, "ipfs://adapter", 0b11, 250)
          .and.to.emit(assets, "AssetDerived")
          .withArgs(3, 1, Relation.FineTunedFrom, 500)
          .and.to.emit(assets, "AssetDerived")
          .withArgs(3, 2, Relation.TrainedOn, 0)
          .and.to.emit(assets, "PolicySet")
          .withArgs(3, DerivativePolicy.ByApproval, 200)
          .and.to.emit(assets, "MetadataUpdate")
          .withArgs(3);
      });
    });
  });

  /** What the market's model's owner signs for the outsider. */
  const derivation = (changes: Partial<Derivation> = {}): Derivation => ({
    parentId: 1,
    registrant: market.outsider.address,
    relation: Relation.FineTunedFrom,
    incomeBps: 1_000,
    salt: 1,
    deadline: 2n ** 39n,
    ...changes,
  });
  const hashOf = (changes: Partial<Derivation>) => assets.derivationHash(derivation(changes));
  const approve = async (
    changes: Partial<Derivation> = {},
    by: Signer = market.publisher,
    domain: TypedDataDomain = {},
  ): Promise<IAssetRegistry.DerivationApprovalStruct> => {
    const message = derivation(changes);
    const transferCount = await assets.transferCountOf(message.parentId);
    const own = derivationDomainOf(31337n, await assets.getAddress());
    const signed = { ...message, transferCount };
    const signature = await by.signTypedData({ ...own, ...domain }, DERIVATION_TYPES, signed);
    return { salt: message.salt, deadline: message.deadline, signature };
  };

  describe("derivationHash", () => {
    it("is what ethers signs, anew after each transfer of the parent", async () => {
      const domain = derivationDomainOf(31337n, await assets.getAddress());
      for (const transferCount of [0, 1]) {
        const signed = { ...derivation(), transferCount };
        expect(await hashOf({})).to.equal(TypedDataEncoder.hash(domain, DERIVATION_TYPES, signed));
        await assets.connect(market.publisher).transferFrom(market.publisher, market.publisher, 1);
      }
    });
  });

  describe("withdrawDerivation", () => {
    const withdraw = (by: Signer = market.publisher, changes: Partial<Derivation> = {}) =>
      assets.connect(by).withdrawDerivation(derivation(changes));

    describe("when the caller is neither the parent's owner nor approved", () => {
      it("reverts with CallerNotAssetOwner", async () => {
        await expect(withdraw(market.outsider))
          .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when it was used or taken back before", () => {
      it("reverts with DerivationUsedBefore", async () => {
        await withdraw();
        await expect(withdraw())
          .to.be.revertedWithCustomError(assets, "DerivationUsedBefore")
          .withArgs(1, await hashOf({}));
      });
    });

    describe("when all is well", () => {
      it("voids the approval and no other, and emits DerivationWithdrawn", async () => {
        await setPolicy(DerivativePolicy.ByApproval);
        await expect(withdraw())
          .to.emit(assets, "DerivationWithdrawn")
          .withArgs(1, await hashOf({}));
        await expect(derive({}, [await approve()]))
          .to.be.revertedWithCustomError(assets, "DerivationUsedBefore")
          .withArgs(1, await hashOf({}));
        await derive({}, [await approve({ salt: 2 })]);
      });
    });
  });

  describe("describe", () => {
    const redescribe = (by: Signer, uri = "ipfs://new") => assets.connect(by).describe(1, uri);

    it("reverts with CallerNotAssetOwner for a stranger", async () => {
      await expect(redescribe(market.outsider))
        .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
        .withArgs(1, market.outsider.address);
    });

    it("reverts with AssetUriEmpty for nothing", async () => {
      await expect(redescribe(market.publisher, "")).to.be.revertedWithCustomError(assets, "AssetUriEmpty").withArgs();
    });

    it("changes the metadata's address, and emits AssetDescribed and MetadataUpdate", async () => {
      await expect(redescribe(market.publisher))
        .to.emit(assets, "AssetDescribed")
        .withArgs(1, "ipfs://new")
        .and.to.emit(assets, "MetadataUpdate")
        .withArgs(1);
      expect(await assets.tokenURI(1)).to.equal("ipfs://new");
    });
  });

  describe("setPolicy", () => {
    it("reverts with CallerNotAssetOwner for a stranger", async () => {
      await expect(assets.connect(market.outsider).setPolicy(1, DerivativePolicy.Open, 0))
        .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
        .withArgs(1, market.outsider.address);
    });

    it("reverts with MinShareAboveWhole for more than the whole", async () => {
      await expect(setPolicy(DerivativePolicy.Open, 10_001))
        .to.be.revertedWithCustomError(assets, "MinShareAboveWhole")
        .withArgs(10_001);
    });

    it("binds children from then on, and emits PolicySet", async () => {
      await derive();
      const before = await assets.parentsOf(2);
      await expect(setPolicy(DerivativePolicy.Open, 5_000))
        .to.emit(assets, "PolicySet")
        .withArgs(1, DerivativePolicy.Open, 5_000);

      expect(await assets.parentsOf(2)).to.deep.equal(before);
      await expect(derive()).to.be.revertedWithCustomError(assets, "IncomeShareBelowMinimum");
      const { kind, permittedUses } = await assets.assetOf(1);
      expect([kind, permittedUses]).to.deep.equal([BigInt(AssetKind.Model), 2n ** 32n - 1n]);
    });
  });

  describe("setRoyaltyReceiver", () => {
    it("reverts with CallerNotRoyaltyReceiver for everybody but the present one, the token's buyer included", async () => {
      await assets.connect(market.publisher).transferFrom(market.publisher, market.operator, 1);
      for (const by of [market.operator, market.outsider]) {
        await expect(assets.connect(by).setRoyaltyReceiver(1, by))
          .to.be.revertedWithCustomError(assets, "CallerNotRoyaltyReceiver")
          .withArgs(1, by.address);
      }
    });

    it("reverts with ERC2981InvalidTokenRoyaltyReceiver for nobody", async () => {
      await expect(assets.connect(market.publisher).setRoyaltyReceiver(1, ZeroAddress))
        .to.be.revertedWithCustomError(assets, "ERC2981InvalidTokenRoyaltyReceiver")
        .withArgs(1, ZeroAddress);
    });

    it("hands the royalty on, at the same rate, and emits RoyaltyReceiverSet", async () => {
      await derive({ royaltyBps: 1_000 });
      await expect(assets.connect(market.outsider).setRoyaltyReceiver(2, market.treasury))
        .to.emit(assets, "RoyaltyReceiverSet")
        .withArgs(2, market.treasury.address);
      expect(await assets.royaltyInfo(2, 50_000)).to.deep.equal([market.treasury.address, 5_000n]);
      await assets.connect(market.treasury).setRoyaltyReceiver(2, market.outsider);
      expect(await assets.royaltyInfo(2, 50_000)).to.deep.equal([market.outsider.address, 5_000n]);
    });
  });

  describe("royaltyInfo", () => {
    it("is nothing for a token that doesn't exist", async () => {
      expect(await assets.royaltyInfo(9, 10_000)).to.deep.equal([ZeroAddress, 0n]);
    });
  });

  describe("assetOf", () => {
    it("reverts with AssetUnknown for an asset that doesn't exist", async () => {
      await expect(assets.assetOf(9)).to.be.revertedWithCustomError(assets, "AssetUnknown").withArgs(9);
    });
  });

  describe("lineage, under attack", () => {
    const share = async () => (await assets.parentsOf(2)).map(({ incomeBps }) => incomeBps);

    beforeEach(async () => {
      await derive();
    });

    it("gives the child's owner no way to lower what its parent gets: no function but `register` writes an edge", async () => {
      const { publish, describe, setPolicy, setRoyaltyReceiver, recall } = assets.connect(market.outsider);
      await publish(2, id("manifest"), ZeroHash, ZeroAddress, "ipfs://version", "");
      await recall(versionId(2, 1));
      await describe(2, "ipfs://other");
      await setPolicy(2, DerivativePolicy.Closed, 0);
      await setRoyaltyReceiver(2, market.licensee);
      await assets.connect(market.outsider).transferFrom(market.outsider, market.licensee, 2);
      expect(await share()).to.deep.equal([1_000n]);
      const writers = assets.interface.fragments.filter(
        (fragment) => fragment.type === "function" && fragment.format("full").includes("incomeBps"),
      );
      expect(writers.map((fragment) => (fragment as FunctionFragment).name)).to.have.members([
        "register",
        "parentsOf",
        "derivationHash",
        "withdrawDerivation",
      ]);
    });

    it("gives the parent's owner no way to raise it", async () => {
      await setPolicy(DerivativePolicy.Open, 10_000);
      await setPolicy(DerivativePolicy.Closed, 0);
      await assets.connect(market.publisher).transferFrom(market.publisher, market.licensee, 1);
      expect(await share()).to.deep.equal([1_000n]);
    });

    it("lets the parent's owner take no more than its child named, however the two are ordered", async () => {
      await setPolicy(DerivativePolicy.Open, 1_001);
      await expect(derive()).to.be.revertedWithCustomError(assets, "IncomeShareBelowMinimum").withArgs(1, 1_000, 1_001);
    });

    it("can't be closed into a ring: whoever was there before can't have come from what is new", async () => {
      await expect(derive({ parents: [edgeTo(2), edgeTo(3)] }))
        .to.be.revertedWithCustomError(assets, "AssetUnknown")
        .withArgs(3);
    });
  });

  describe("publish", () => {
    const manifest = id("manifest of version 2");
    const publish = (by = market.publisher, assetId = 1, manifestHash = manifest) =>
      assets
        .connect(by)
        .publish(assetId, manifestHash, id("weights 2"), ZeroAddress, "ipfs://version-2", "better at sums");

    /** Any contract: the registry doesn't ask what it verifies. */
    let verifier: string;
    const publishWith = (commitment: string, inferenceVerifier: string) =>
      assets.connect(market.publisher).publish(1, manifest, commitment, inferenceVerifier, "", "");

    beforeEach(async () => {
      verifier = await market.licet.committee.getAddress();
    });

    describe("when the caller is neither the owner nor approved", () => {
      it("reverts with CallerNotAssetOwner", async () => {
        await expect(publish(market.outsider))
          .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when there is no such asset", () => {
      it("reverts with CallerNotAssetOwner", async () => {
        await expect(publish(market.publisher, 9))
          .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
          .withArgs(9, market.publisher.address);
      });
    });

    describe("when the manifest hash is zero", () => {
      it("reverts with ManifestHashZero", async () => {
        await expect(publish(market.publisher, 1, ZeroHash))
          .to.be.revertedWithCustomError(assets, "ManifestHashZero")
          .withArgs(1);
      });
    });

    describe("when the manifest was published before as a version of the asset", () => {
      it("reverts with ManifestPublishedBefore", async () => {
        await expect(publish(market.publisher, 1, id("manifest")))
          .to.be.revertedWithCustomError(assets, "ManifestPublishedBefore")
          .withArgs(1, id("manifest"), versionId(1, 1));
      });
    });

    describe("when it names a verifier and no commitment", () => {
      it("reverts with VerifierWithoutCommitment", async () => {
        await expect(publishWith(ZeroHash, verifier))
          .to.be.revertedWithCustomError(assets, "VerifierWithoutCommitment")
          .withArgs(1, verifier);
      });
    });

    describe("when no contract is at the verifier's address", () => {
      it("reverts with VerifierNotContract", async () => {
        await expect(publishWith(id("weights 2"), market.outsider.address))
          .to.be.revertedWithCustomError(assets, "VerifierNotContract")
          .withArgs(1, market.outsider.address);
      });
    });

    describe("when it names a commitment and a verifier", () => {
      it("keeps both, and tells of both", async () => {
        await expect(publishWith(id("weights 2"), verifier))
          .to.emit(assets, "VersionPublished")
          .withArgs(1, versionId(1, 2), manifest, id("weights 2"), verifier, market.publisher.address, "", "");
        const { weightsCommitment, inferenceVerifier } = await assets.versionOf(versionId(1, 2));
        expect({ weightsCommitment, inferenceVerifier }).to.deep.equal({
          weightsCommitment: id("weights 2"),
          inferenceVerifier: verifier,
        });
      });
    });

    describe("when the manifest was published before as a version of another asset", () => {
      it("publishes it under this asset, too", async () => {
        await addAsset(market, market.outsider);
        await assets.connect(market.outsider).publish(2, id("manifest"), ZeroHash, ZeroAddress, "", "");

        expect(await assets.versionOfManifest(1, id("manifest"))).to.equal(versionId(1, 1));
        expect(await assets.versionOfManifest(2, id("manifest"))).to.equal(versionId(2, 1));
      });
    });

    describe("when all is well", () => {
      it("appends the version and leaves the one before as it was", async () => {
        const first = await assets.versionOf(versionId(1, 1));
        await publish();

        expect(await assets.versionCountOf(1)).to.equal(2);
        expect(await assets.versionOf(versionId(1, 2))).to.deep.equal([
          manifest,
          id("weights 2"),
          await time.latest(),
          0,
          market.publisher.address,
          ZeroAddress,
          "ipfs://version-2",
          "better at sums",
        ]);
        expect(await assets.versionOf(versionId(1, 1))).to.deep.equal(first);
      });

      it("finds the version by its manifest", async () => {
        await publish();
        expect(await assets.versionOfManifest(1, manifest)).to.equal(versionId(1, 2));
      });

      it("emits VersionPublished and MetadataUpdate", async () => {
        await expect(publish())
          .to.emit(assets, "VersionPublished")
          .withArgs(
            1,
            versionId(1, 2),
            manifest,
            id("weights 2"),
            ZeroAddress,
            market.publisher.address,
            "ipfs://version-2",
            "better at sums",
          )
          .and.to.emit(assets, "MetadataUpdate")
          .withArgs(1);
      });
    });

    describe("when the caller is approved for the token, or for all of its owner's", () => {
      it("publishes", async () => {
        await assets.connect(market.publisher).approve(market.outsider, 1);
        await publish(market.outsider);
        await assets.connect(market.publisher).setApprovalForAll(market.operator, true);
        await publish(market.operator, 1, id("manifest 3"));

        expect(await assets.versionCountOf(1)).to.equal(3);
        expect((await assets.versionOf(versionId(1, 3))).publishedBy).to.equal(market.operator.address);
      });
    });

    describe("when the asset was sold", () => {
      it("publishes for the new owner and no longer for the old one", async () => {
        await assets.connect(market.publisher).transferFrom(market.publisher, market.outsider, 1);

        await expect(publish(market.publisher))
          .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
          .withArgs(1, market.publisher.address);
        await publish(market.outsider);
        expect(await assets.versionCountOf(1)).to.equal(2);
      });
    });
  });

  describe("recall", () => {
    const first = versionId(1, 1);
    const recall = (by = market.publisher, version = first) => assets.connect(by).recall(version);

    describe("when there is no such version", () => {
      it("reverts with VersionUnknown, whoever asks", async () => {
        for (const version of [versionId(1, 2), versionId(9, 1), 0n]) {
          await expect(recall(market.outsider, version))
            .to.be.revertedWithCustomError(assets, "VersionUnknown")
            .withArgs(version);
        }
      });
    });

    describe("when the caller is neither the owner nor approved", () => {
      it("reverts with CallerNotAssetOwner, for a former owner, too", async () => {
        await expect(recall(market.outsider))
          .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
          .withArgs(1, market.outsider.address);
        await assets.connect(market.publisher).transferFrom(market.publisher, market.operator, 1);
        await expect(recall())
          .to.be.revertedWithCustomError(assets, "CallerNotAssetOwner")
          .withArgs(1, market.publisher.address);
      });
    });

    describe("when it was recalled before", () => {
      it("reverts with VersionRecalledBefore, while the notice runs and after", async () => {
        await recall();
        const recallAt = (await time.latest()) + NOTICE;
        for (const wait of [HOUR, NOTICE]) {
          await time.increase(wait);
          await expect(recall())
            .to.be.revertedWithCustomError(assets, "VersionRecalledBefore")
            .withArgs(first, recallAt);
        }
      });
    });

    describe("when all is well", () => {
      it("takes effect after the notice, and changes nothing else of the version", async () => {
        const before = structOf(await assets.versionOf(first));
        await recall();
        const recallAt = BigInt((await time.latest()) + NOTICE);

        expect(structOf(await assets.versionOf(first))).to.deep.equal({ ...before, recallAt });
        expect(await assets.usableUntil(first)).to.equal(recallAt);
      });

      it("leaves other versions as they were, and takes new ones", async () => {
        await assets.connect(market.publisher).publish(1, id("manifest 2"), ZeroHash, ZeroAddress, "", "");
        await recall();
        await assets.connect(market.publisher).publish(1, id("manifest 3"), ZeroHash, ZeroAddress, "", "");
        for (const number of [2, 3]) {
          expect(await assets.statusOf(versionId(1, number))).to.equal(VersionStatus.Usable);
        }
      });

      it("emits VersionRecalled and MetadataUpdate", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(recall())
          .to.emit(assets, "VersionRecalled")
          .withArgs(1, first, now + NOTICE)
          .and.to.emit(assets, "MetadataUpdate")
          .withArgs(1);
      });

      it("is for whom the owner approved, too", async () => {
        await assets.connect(market.publisher).approve(market.outsider, 1);
        await recall(market.outsider);
        expect(await assets.statusOf(first)).to.equal(VersionStatus.Recalling);
      });
    });
  });

  describe("statusOf", () => {
    it("is None for a version that doesn't exist, and Usable for one that does", async () => {
      expect(await assets.statusOf(versionId(1, 2))).to.equal(VersionStatus.None);
      expect(await assets.statusOf(versionId(1, 1))).to.equal(VersionStatus.Usable);
    });

    it("is Recalling until the second in which a recall takes effect, and Recalled from then on", async () => {
      await assets.connect(market.publisher).recall(versionId(1, 1));
      const recallAt = (await time.latest()) + NOTICE;
      await time.increaseTo(recallAt - 1);
      expect(await assets.statusOf(versionId(1, 1))).to.equal(VersionStatus.Recalling);
      await time.increaseTo(recallAt);
      expect(await assets.statusOf(versionId(1, 1))).to.equal(VersionStatus.Recalled);
    });
  });

  describe("recallsBetween", () => {
    it("counts the recalls that take effect from the first time on and before the second", async () => {
      const owner = assets.connect(market.publisher);
      const effects: number[] = [];
      for (const number of [2, 3, 4]) {
        await owner.publish(1, id(`manifest ${number}`), ZeroHash, ZeroAddress, "", "");
        await time.increase(HOUR);
        await owner.recall(versionId(1, number));
        effects.push((await time.latest()) + NOTICE);
      }
      const [a, b, c] = effects;
      for (const [from, to, count] of [
        [a, a, 0],
        [a, a + 1, 1],
        [a + 1, b, 0],
        [a, b, 1],
        [a, b + 1, 2],
        [a, c + 1, 3],
        [a + 1, c + 1, 2],
        [0, a, 0],
        [0, c, 2],
        [0, 2 ** 40, 3],
        [c + 1, 2 ** 40, 0],
        [c + 1, a, 0],
        [0, 0, 0],
      ]) {
        expect(await assets.recallsBetween(1, from, to), `from ${from - a} to ${to - a}`).to.equal(count);
      }
    });

    it("counts those of the same second, and of its asset alone", async () => {
      const owner = assets.connect(market.publisher);
      await owner.publish(1, id("manifest 2"), ZeroHash, ZeroAddress, "", "");
      await addAsset(market, market.outsider);
      await assets.connect(market.outsider).publish(2, id("manifest"), ZeroHash, ZeroAddress, "", "");
      await network.provider.send("evm_setAutomine", [false]);
      const sent = [await owner.recall(versionId(1, 1)), await owner.recall(versionId(1, 2))];
      await network.provider.send("evm_mine");
      await network.provider.send("evm_setAutomine", [true]);
      await Promise.all(sent.map((transaction) => transaction.wait()));
      const at = (await time.latest()) + NOTICE;

      expect(await assets.recallsBetween(1, at, at + 1)).to.equal(2);
      expect(await assets.recallsBetween(2, 0, at + 1)).to.equal(0);
    });
  });

  describe("versionOf", () => {
    it("reverts with VersionUnknown for a version that doesn't exist", async () => {
      await expect(assets.versionOf(versionId(1, 2)))
        .to.be.revertedWithCustomError(assets, "VersionUnknown")
        .withArgs(versionId(1, 2));
    });
  });

  describe("versionOfManifest", () => {
    it("is zero for a manifest that wasn't published", async () => {
      expect(await assets.versionOfManifest(1, id("unheard of"))).to.equal(0);
    });
  });

  describe("usableUntil", () => {
    it("is for ever for a version that exists, and never for one that doesn't", async () => {
      expect(await assets.usableUntil(versionId(1, 1))).to.equal(2n ** 40n - 1n);
      expect(await assets.usableUntil(versionId(1, 2))).to.equal(0);
    });
  });

  describe("isController", () => {
    it("tells the owner and whom it approved from everybody else", async () => {
      expect(await assets.isController(1, market.publisher)).to.equal(true);
      expect(await assets.isController(1, market.outsider)).to.equal(false);
      await assets.connect(market.publisher).approve(market.outsider, 1);
      expect(await assets.isController(1, market.outsider)).to.equal(true);
    });

    it("is false for an asset that doesn't exist, whoever asks", async () => {
      expect(await assets.isController(2, market.publisher)).to.equal(false);
      expect(await assets.isController(0, market.publisher)).to.equal(false);
    });
  });
});
