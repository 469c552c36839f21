import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadFixture } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, TypedDataEncoder, ZeroAddress } from "ethers";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { glob, runTypeChain } from "typechain";
import { readAddressBook, writeAddressBook } from "../../deploy/addressBook";
import { DEFAULT_PARAMETERS, deployLicet } from "../../deploy/deploy";
import { BATCH_TYPES, batchDigest } from "../../oracle/protocol/messages";
import { anyHeader } from "../support/fakeMessages";
import { DAY, deployMarket, deploymentParameters, domainOf, HOUR, underCoverage, type Market } from "../support/market";

const BATCH_TYPE =
  "Batch(uint24 operatorId,uint32 planId,uint64 versionId,uint64 sequence,uint40 epochStart,uint40 epochEnd," +
  "bytes32 root,uint64 count,uint64 requests,uint64 inputTokens,uint64 cachedInputTokens,uint64 outputTokens," +
  "uint64 computeMs,uint16 availabilityBps,uint32 p95TtftMs,uint32 samples,bytes32 entriesHash,bytes32 evidenceHash)";

/** A folder that lives as long as a test. */
async function inTemporaryFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(path.join(tmpdir(), "licet-"));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("deployment", () => {
  let market: Market;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
  });

  describe("UsageEscrow's constructor", () => {
    const deploy = async (changes: Record<string, unknown> = {}) => {
      const { authority, currency, licenses, operators, staking, waterfall } = market.licet;
      const desks = ["BatchDesk", "ChargeDesk", "LicenseDesk", "VoucherDesk"];
      const libraries = await Promise.all(
        desks.map(async (name) => [name, await (await hre.ethers.deployContract(name)).getAddress()] as const),
      );
      const deployment = {
        authority: await authority.getAddress(),
        currency: await currency.getAddress(),
        licenses: await licenses.getAddress(),
        operators: await operators.getAddress(),
        staking: await staking.getAddress(),
        waterfall: await waterfall.getAddress(),
        treasury: market.treasury.address,
        epochPeriod: DAY,
        windowPeriod: 2 * DAY,
        feeBps: 100,
        depositCeiling: 1,
        ...changes,
      };
      return hre.ethers.deployContract("UsageEscrow", [deployment], {
        libraries: Object.fromEntries(libraries),
      });
    };

    describe("when the currency has fewer than 4 decimals, or more than 8", () => {
      it("reverts with CurrencyDecimalsUnsupported", async () => {
        for (const decimals of [0, 3, 9, 18]) {
          const currency = await hre.ethers.deployContract("CurrencyOfDecimals", [decimals]);
          await expect(deploy({ currency: await currency.getAddress() }))
            .to.be.revertedWithCustomError(market.licet.escrow, "CurrencyDecimalsUnsupported")
            .withArgs(decimals, 4, 8);
        }
      });

      it("takes 8, and 4, and measures the licensees' caps in whole units of them", async () => {
        for (const decimals of [8, 4]) {
          const currency = await (await hre.ethers.deployContract("CurrencyOfDecimals", [decimals])).getAddress();
          const staking = await stakingWith({ currency });
          const escrow = await deploy({ currency, staking, waterfall: await waterfallWith({ currency }) });
          expect(await escrow.getFunction("capOf")(1)).to.equal(9n * 10n ** BigInt(decimals));
        }
      });
    });

    describe("when there is no treasury", () => {
      it("reverts with TreasuryZero", async () => {
        await expect(deploy({ treasury: ZeroAddress }))
          .to.be.revertedWithCustomError(market.licet.escrow, "TreasuryZero")
          .withArgs();
      });
    });

    for (const [period, shortest, longest] of [
      ["epochPeriod", 60, 7 * DAY],
      ["windowPeriod", HOUR, 14 * DAY],
    ] as const) {
      describe(`when the ${period} is out of its bounds`, () => {
        it("reverts with PeriodOutOfRange", async () => {
          const staking = await stakingWithThaw(60 * DAY);
          for (const seconds of [0, shortest - 1, longest + 1]) {
            await expect(deploy({ [period]: seconds, staking }))
              .to.be.revertedWithCustomError(market.licet.escrow, "PeriodOutOfRange")
              .withArgs(seconds, shortest, longest);
          }
          await deploy({ [period]: shortest, staking });
          await deploy({ [period]: longest, staking });
        });
      });
    }

    const stakingWith = async (changes: {
      currency?: string;
      operators?: string;
      treasury?: string;
      thawPeriod?: number;
    }) => {
      const { authority, currency, operators } = market.licet;
      const staking = await hre.ethers.deployContract("PerformanceStaking", [
        await authority.getAddress(),
        changes.currency ?? (await currency.getAddress()),
        changes.operators ?? (await operators.getAddress()),
        changes.treasury ?? market.treasury.address,
        changes.thawPeriod ?? 32 * DAY,
      ]);
      return staking.getAddress();
    };
    const stakingWithThaw = (thawPeriod: number) => stakingWith({ thawPeriod });

    describe("when the staking is of another market", () => {
      it("reverts with StakingOfAnotherMarket", async () => {
        const currency = await (await hre.ethers.deployContract("TestCurrency")).getAddress();
        const operators = await (await hre.ethers.deployContract("OperatorRegistry")).getAddress();
        const treasury = market.outsider.address;
        for (const changes of [{ currency }, { operators }, { treasury }]) {
          const staking = await stakingWith(changes);
          await expect(deploy({ staking }))
            .to.be.revertedWithCustomError(market.licet.escrow, "StakingOfAnotherMarket")
            .withArgs(staking);
        }
      });
    });

    const waterfallWith = async (changes: { currency?: string; assets?: string }) => {
      const { authority, currency, assets } = market.licet;
      const waterfall = await hre.ethers.deployContract("RevenueWaterfall", [
        await authority.getAddress(),
        changes.currency ?? (await currency.getAddress()),
        changes.assets ?? (await assets.getAddress()),
      ]);
      return waterfall.getAddress();
    };

    describe("when the waterfall is of another market", () => {
      it("reverts with WaterfallOfAnotherMarket", async () => {
        const currency = await (await hre.ethers.deployContract("TestCurrency")).getAddress();
        const assets = await (await hre.ethers.deployContract("AssetRegistry")).getAddress();
        for (const changes of [{ currency }, { assets }]) {
          const waterfall = await waterfallWith(changes);
          await expect(deploy({ waterfall }))
            .to.be.revertedWithCustomError(market.licet.escrow, "WaterfallOfAnotherMarket")
            .withArgs(waterfall);
        }
      });
    });

    describe("when stake could leave before what it secures may be released", () => {
      it("reverts with StakeThawTooShort", async () => {
        const shortest = 32 * DAY;
        await expect(deploy({ staking: await stakingWithThaw(shortest - 1) }))
          .to.be.revertedWithCustomError(market.licet.escrow, "StakeThawTooShort")
          .withArgs(shortest - 1, shortest);
        await deploy({ staking: await stakingWithThaw(shortest) });
      });
    });

    describe("when the fee is above its bound", () => {
      it("reverts with FeeAboveBound", async () => {
        await expect(deploy({ feeBps: 501 }))
          .to.be.revertedWithCustomError(market.licet.escrow, "FeeAboveBound")
          .withArgs(501, 500);
        await deploy({ feeBps: 500 });
      });
    });
  });

  describe("PerformanceStaking's constructor", () => {
    it("reverts with TreasuryZero when there is no treasury", async () => {
      const { authority, currency, operators, staking } = market.licet;
      const wired = await Promise.all([authority, currency, operators].map((contract) => contract.getAddress()));
      await expect(hre.ethers.deployContract("PerformanceStaking", [...wired, ZeroAddress, DAY]))
        .to.be.revertedWithCustomError(staking, "TreasuryZero")
        .withArgs();
    });
  });

  describe("a deployment by default", () => {
    it("has the periods and the fee of the protocol", async () => {
      const { escrow, staking } = market.licet;
      expect(await escrow.EPOCH_PERIOD()).to.equal(DAY);
      expect(await escrow.WINDOW_PERIOD()).to.equal(2 * DAY);
      expect(await staking.THAW_PERIOD()).to.equal(32 * DAY);
      expect(await escrow.feeBps()).to.equal(100);
      expect(await escrow.depositCeiling()).to.equal(DEFAULT_PARAMETERS.depositCeiling);
      expect(DEFAULT_PARAMETERS.governanceDelay).to.equal(2 * DAY);
    });

    it("wires each contract to those that it calls", async () => {
      const { escrow, licenses, operators, staking, waterfall, assets, currency, committee } = market.licet;
      expect(await escrow.CURRENCY()).to.equal(await currency.getAddress());
      expect(await escrow.ASSETS()).to.equal(await assets.getAddress());
      expect(await escrow.LICENSES()).to.equal(await licenses.getAddress());
      expect(await escrow.OPERATORS()).to.equal(await operators.getAddress());
      expect(await escrow.STAKING()).to.equal(await staking.getAddress());
      expect(await escrow.WATERFALL()).to.equal(await waterfall.getAddress());
      expect(await waterfall.CURRENCY()).to.equal(await currency.getAddress());
      expect(await waterfall.ASSETS()).to.equal(await assets.getAddress());
      expect(await escrow.TREASURY()).to.equal(market.treasury.address);
      expect(await licenses.ASSETS()).to.equal(await assets.getAddress());
      expect(await staking.CURRENCY()).to.equal(await currency.getAddress());
      expect(await staking.OPERATORS()).to.equal(await operators.getAddress());
      expect(await committee.ESCROW()).to.equal(await escrow.getAddress());
      expect(await committee.CURRENCY()).to.equal(await currency.getAddress());
    });

    it("is written down in an address book, which is read back", async () => {
      const book = await deployLicet(hre, deploymentParameters(market));
      await inTemporaryFolder(async (folder) => {
        writeAddressBook(folder, "here", book);
        expect(readAddressBook(folder, "here")).to.deep.equal(book);
        expect(() => readAddressBook(folder, "there")).to.throw("deploy first");
      });
      expect(await hre.ethers.provider.getCode(book.contracts.UsageEscrow)).not.to.equal("0x");
      expect(book.currency).to.equal(book.contracts.TestCurrency);
    });
  });

  describe("every deployable contract", () => {
    const names = readdirSync(hre.config.paths.sources)
      .filter((file) => file.endsWith(".sol"))
      .map((file) => path.basename(file, ".sol"))
      .concat("BatchDesk", "ChargeDesk", "LicenseDesk", "VoucherDesk");
    for (const name of names) {
      it(`has at most 24,000 bytes: ${name}`, async function () {
        if (underCoverage) this.skip();
        const { deployedBytecode } = await hre.artifacts.readArtifact(name);
        expect((deployedBytecode.length - 2) / 2)
          .to.be.greaterThan(0)
          .and.at.most(24_000);
      });
    }
  });

  describe("what attestors sign", () => {
    it("is of UsageEscrow's EIP-712 domain", async () => {
      const [fields, name, version, chainId, verifyingContract] = await market.licet.escrow.eip712Domain();
      expect(fields).to.equal("0x0f");
      expect({ name, version, chainId, verifyingContract }).to.deep.equal(await domainOf(market));
    });

    it("is the Batch of the documentation", () => {
      const encoder = TypedDataEncoder.from(BATCH_TYPES);
      expect(encoder.encodeType("Batch")).to.equal(BATCH_TYPE);
      const { deployedBytecode } = artifactOf("UsageEscrow");
      if (!underCoverage) expect(deployedBytecode).to.include(id(BATCH_TYPE).slice(2));
    });

    it("has the same digest on chain as off it, for any header", async () => {
      const domain = await domainOf(market);
      await fc.assert(
        fc.asyncProperty(anyHeader, async (header) => {
          expect(await market.licet.escrow.batchIdOf(header)).to.equal(batchDigest(domain, header));
        }),
        { numRuns: 50 },
      );
    });
  });

  describe("the bindings in typechain-types", () => {
    const committed = path.join(hre.config.paths.root, "typechain-types");

    /** The bindings of the compiled contracts, as `npm run typechain` makes them. */
    const generateInto = async (outDir: string) => {
      const cwd = hre.config.paths.root;
      const files = glob(cwd, ["artifacts/!(build-info)/**/+([a-zA-Z0-9_]).json"]);
      await runTypeChain({
        cwd,
        filesToProcess: files,
        allFiles: files,
        outDir,
        target: "ethers-v6",
        flags: {
          node16Modules: false,
          alwaysGenerateOverloads: false,
          discriminateTypes: false,
          tsNocheck: false,
          environment: undefined,
        },
      });
    };

    it("are fresh to the byte", async function () {
      if (underCoverage) this.skip();
      await inTemporaryFolder(async (generated) => {
        await generateInto(generated);
        expect(differences(committed, generated), "run `npm run typechain`").to.deep.equal([]);
      });
    });

    it("would not be, with a line more, a file less or a file more", async function () {
      if (underCoverage) this.skip();
      await inTemporaryFolder(async (folder) => {
        const [generated, changed] = [path.join(folder, "generated"), path.join(folder, "changed")];
        await generateInto(generated);
        cpSync(generated, changed, { recursive: true });
        expect(differences(generated, changed)).to.deep.equal([]);

        appendFileSync(path.join(changed, "contracts/UsageEscrow.ts"), "\n");
        rmSync(path.join(changed, "contracts/AssetRegistry.ts"));
        appendFileSync(path.join(changed, "more.ts"), "export {};\n");
        expect(differences(generated, changed)).to.deep.equal([
          "contracts/AssetRegistry.ts",
          "contracts/UsageEscrow.ts",
          "more.ts",
        ]);
      });
    });
  });
});

const artifactOf = (name: string) => hre.artifacts.readArtifactSync(name);

/** The files that two folders don't have in common, byte by byte. */
function differences(a: string, b: string): string[] {
  const filesOf = (root: string) =>
    new Map(
      readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name))
        .map((file) => [path.relative(root, file), readFileSync(file)] as const),
    );
  const [left, right] = [filesOf(a), filesOf(b)];
  const names = [...new Set([...left.keys(), ...right.keys()])].sort();
  return names.filter((name) => !left.get(name)?.equals(right.get(name) ?? Buffer.alloc(0)));
}
