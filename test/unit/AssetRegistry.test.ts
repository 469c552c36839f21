import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, ZeroHash } from "ethers";
import { deployMarket, type Market } from "../support/market";

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
