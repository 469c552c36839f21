import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, ZeroHash } from "ethers";
import { network } from "hardhat";
import { deployMarket, HOUR, NOTICE, structOf, VersionStatus, type Market } from "../support/market";

const versionId = (assetId: number, number: number) => (BigInt(assetId) << 32n) | BigInt(number);

describe("AssetRegistry", () => {
  let market: Market;
  let assets: Market["licet"]["assets"];

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
    assets = market.licet.assets;
  });

  it("is an ERC-721 with metadata that may change (ERC-4906)", async () => {
    expect([await assets.name(), await assets.symbol()]).to.deep.equal(["Licet Asset", "LICET-A"]);
    expect(await assets.supportsInterface("0x80ac58cd")).to.equal(true);
    expect(await assets.supportsInterface("0x49064906")).to.equal(true);
  });

  describe("register", () => {
    describe("when the URI is empty", () => {
      it("reverts with AssetUriEmpty", async () => {
        await expect(assets.register("")).to.be.revertedWithCustomError(assets, "AssetUriEmpty").withArgs();
      });
    });

    describe("when all is well", () => {
      it("mints the next token to the caller, with its URI", async () => {
        await assets.connect(market.outsider).register("ipfs://second");

        expect(await assets.assetCount()).to.equal(2);
        expect(await assets.ownerOf(2)).to.equal(market.outsider.address);
        expect(await assets.tokenURI(2)).to.equal("ipfs://second");
        expect(await assets.versionCountOf(2)).to.equal(0);
      });

      it("emits AssetRegistered", async () => {
        await expect(assets.connect(market.outsider).register("ipfs://second"))
          .to.emit(assets, "AssetRegistered")
          .withArgs(2, market.outsider.address, "ipfs://second");
      });
    });
  });

  describe("publish", () => {
    const manifest = id("manifest of version 2");
    const publish = (by = market.publisher, assetId = 1, manifestHash = manifest) =>
      assets.connect(by).publish(assetId, manifestHash, id("weights 2"), "ipfs://version-2");

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

    describe("when the manifest was published before as a version of another asset", () => {
      it("publishes it under this asset, too", async () => {
        await assets.connect(market.outsider).register("ipfs://copy");
        await assets.connect(market.outsider).publish(2, id("manifest"), ZeroHash, "");

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
          "ipfs://version-2",
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
          .withArgs(1, versionId(1, 2), manifest, id("weights 2"), "ipfs://version-2")
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
        await assets.connect(market.publisher).publish(1, id("manifest 2"), ZeroHash, "");
        await recall();
        await assets.connect(market.publisher).publish(1, id("manifest 3"), ZeroHash, "");
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
        await owner.publish(1, id(`manifest ${number}`), ZeroHash, "");
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
      await owner.publish(1, id("manifest 2"), ZeroHash, "");
      await assets.connect(market.outsider).register("ipfs://other");
      await assets.connect(market.outsider).publish(2, id("manifest"), ZeroHash, "");
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
