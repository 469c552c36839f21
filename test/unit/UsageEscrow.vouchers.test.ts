import { loadFixture, setBalance, setStorageAt, takeSnapshot, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import {
  concat,
  dataLength,
  dataSlice,
  getBytes,
  hexlify,
  id,
  toBeHex,
  Wallet,
  ZeroAddress,
  type ContractTransactionResponse,
  type Signer,
} from "ethers";
import fc from "../support/fastCheck";
import hre from "hardhat";
import { generateKeyPairSync, KeyObject, sign as signBytes } from "node:crypto";
import { unpackOutcomes } from "../../oracle/protocol/entries";
import { domainOf as domainOn } from "../../oracle/protocol/messages";
import {
  ecdsaKeyBytes,
  p256KeyBytes,
  packVoucherOutcomes,
  packVouchers,
  signVoucher,
  signVoucherByP256,
  unpackVoucherOutcomes,
  voucherDigest,
  type SignedVoucher,
  type Voucher,
  type VoucherOutcome,
  type VoucherStatusName,
} from "../../oracle/protocol/vouchers";
import { heldBy, owedBy } from "../support/books";
import {
  accountWord,
  addOperator,
  addPlan,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  domainOf,
  HOUR,
  LicenseStatus,
  proofBy,
  settle,
  STOP_GRACE,
  structOf,
  usd,
  WAIT,
  worth,
  type Market,
} from "../support/market";

const TERM = 30 * DAY;
const FUNDS = usd(300);
const MINIMUM = usd(100);
const KEY_CAP = usd(1_000);
const NONE = 99n;
const VoucherKeyStatus = { None: 0n, Active: 1n, Ending: 2n, Ended: 3n };

const SECP256K1_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** Registered for every license; for none; and of the other scheme, for the first. */
const KEY = new Wallet(id("voucher key"));
const STRANGER = new Wallet(id("stranger's key"));
const P256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
type Key = Wallet | KeyObject;

/** Licenses on the voucher road, each with 300 USD: of the market's plan, which has no minimum and renews, twice; */
const [FREE, OTHER] = [1n, 2n];
/** of a plan with a minimum that lets them be sold; of one without, that does, too; of one term alone; */
const [COMMITTED, SELLABLE, ONCE] = [3n, 4n, 5n];
/** of a plan with a cap of 50 USD a term; with a cap of 9 USD of its licensee's own; and of a plan with terms of a day. */
const [CAPPED, FRUGAL, DAILY] = [6n, 7n, 8n];

/** What VouchersSettled says: the split is the operator's, the publisher's, the attestors', the fee and the bonus. */
interface Settled {
  charged: bigint;
  split: bigint[];
  forPool: bigint;
  outcomes: string;
}

interface Posting {
  by?: Signer;
  operatorId?: number;
  planId?: number;
  /** Unix seconds. */
  at?: number;
}

describe("UsageEscrow", () => {
  let market: Market;
  /** As somebody who has nothing to do with it, and as the licensee. */
  let escrow: Market["licet"]["escrow"];
  let owner: Market["licet"]["escrow"];
  let domain: Awaited<ReturnType<typeof domainOf>>;

  beforeEach(async () => {
    market = await loadFixture(deployOnVoucherRoad);
    escrow = market.licet.escrow.connect(market.outsider);
    owner = market.licet.escrow.connect(market.licensee);
    domain = await domainOf(market);
  });

  const accountOf = async (licenseId: bigint) =>
    structOf(await escrow.accountOf(licenseId)) as Record<string, bigint | boolean>;
  const expiryOf = async (licenseId: bigint) => Number((await escrow.accountOf(licenseId)).expiresAt);
  const keyOf = async (key: Key, licenseId = FREE, generation = 0) => {
    const [status, { cap, endsAt }] = await escrow.voucherKeyOf(licenseId, generation, bytesOf(key));
    return { status, cap, endsAt };
  };
  const expectRefused = (call: Promise<unknown>, error: string, args: readonly unknown[]) =>
    expect(call)
      .to.be.revertedWithCustomError(escrow, error)
      .withArgs(...args);

  /** A voucher for 10 USD of the first license's term of now, unless `changes` say otherwise. */
  const voucherOf = (changes: Partial<Voucher> = {}): Voucher => ({
    licenseId: FREE,
    operatorId: market.operatorId,
    generation: 0,
    term: 0,
    spent: usd(10),
    ...changes,
  });
  const sign = async (changes: Partial<Voucher> = {}, key: Key = KEY) =>
    key instanceof KeyObject
      ? signVoucherByP256(domain, voucherOf(changes), key)
      : signVoucher(domain, voucherOf(changes), key);
  /** Posts vouchers, after a preview that must say the same. */
  const post = async (vouchers: SignedVoucher[], { by = market.outsider, at, ...changes }: Posting = {}) => {
    const { planId } = await escrow.accountOf(vouchers[0].voucher.licenseId);
    const lane = { operatorId: market.operatorId, planId: Number(planId) || market.planId, ...changes };
    const packed = packVouchers(vouchers);
    if (at !== undefined) await time.setNextBlockTimestamp(at);
    const previewed = await escrow
      .connect(by)
      .previewVouchers(lane.operatorId, lane.planId, packed, { blockTag: "pending" });
    const settled = await settledIn(await escrow.connect(by).settleVouchers(lane.operatorId, lane.planId, packed));
    expect(previewed).to.deep.equal([settled.charged, settled.outcomes]);
    return settled;
  };
  const settledIn = async (transaction: ContractTransactionResponse) => {
    const receipt = await transaction.wait();
    const logs = receipt!.logs.map((log) => escrow.interface.parseLog(log));
    const { charged, split, forPool, outcomes } = logs.find((log) => log?.name === "VouchersSettled")!.args;
    return { charged, split: [...split], forPool, outcomes } as Settled;
  };
  /** What became of vouchers in one call. */
  const claimAll = async (vouchers: SignedVoucher[], posting: Posting = {}) =>
    unpackVoucherOutcomes((await post(vouchers, posting)).outcomes).map(({ charged, status }) => ({ charged, status }));
  /** What became of one. */
  const claim = async (changes: Partial<Voucher> = {}, { key, ...posting }: Posting & { key?: Key } = {}) =>
    (await claimAll([await sign(changes, key)], posting))[0];
  const paid = (dollars: number, status: VoucherStatusName = "Charged") => ({ charged: usd(dollars), status });
  const refused = (status: VoucherStatusName) => paid(0, status);

  const byOperator = () => ({ by: market.operator });
  /** A voucher's last second, and the next: it pays 1 USD more in the one, and is refused in the other. */
  const expectUntil = async (
    last: number,
    status: VoucherStatusName,
    changes: Partial<Voucher> = {},
    posting: Posting & { key?: Key } = {},
  ) => {
    const spent = changes.spent ?? usd(10);
    expect(await claim({ ...changes, spent }, { ...posting, at: last })).to.deep.equal(paid(10));
    expect(await claim({ ...changes, spent: spent + usd(1) }, { ...posting, at: last + 1 })).to.deep.equal(
      refused(status),
    );
  };
  /** Another operator who serves all plans. */
  const addRival = async () => {
    const rival = await addOperator(market, market.payees[4], usd(100));
    for (let planId = 1; planId <= Number(await market.licet.licenses.planCount()); planId += 1) {
      await market.licet.operators.connect(market.payees[4]).setServed(rival, planId, true);
    }
    return rival;
  };
  /** Locks a license and sells it, as soon as it may be. @returns when it was stopped */
  const sell = async (licenseId: bigint, meanwhile: () => Promise<unknown> = async () => {}) => {
    await owner.lock(licenseId);
    const stoppedAt = Number((await escrow.accountOf(licenseId)).stoppedAt);
    await time.increaseTo(stoppedAt + WAIT + 1);
    await meanwhile();
    await market.licet.licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, licenseId);
    return stoppedAt;
  };

  for (const [name, act] of [
    [
      "addVoucherKey",
      (licenseId: bigint, by: Signer, key = "0x12") => escrow.connect(by).addVoucherKey(licenseId, key, 1),
    ],
    [
      "revokeVoucherKey",
      (licenseId: bigint, by: Signer, key = "0x12") => escrow.connect(by).revokeVoucherKey(licenseId, key),
    ],
  ] as const) {
    describe(name, () => {
      describe("when the caller isn't the license's owner", () => {
        it("reverts with CallerNotOwner, for whom the owner approved and for the key itself, too", async () => {
          await market.licet.licenses.connect(market.licensee).approve(market.outsider, FREE);
          await setBalance(KEY.address, 10n ** 18n);
          const { outsider, operator, publisher, governor } = market;
          for (const caller of [outsider, operator, publisher, governor, KEY.connect(hre.ethers.provider)]) {
            await expectRefused(act(FREE, caller), "CallerNotOwner", [FREE, await caller.getAddress()]);
          }
        });
      });

      describe("when there is no such license", () => {
        it("reverts with CallerNotOwner", async () => {
          for (const licenseId of [NONE, 0n]) {
            await expectRefused(act(licenseId, market.licensee), "CallerNotOwner", [
              licenseId,
              market.licensee.address,
            ]);
          }
        });
      });

      describe("when the key is no key", () => {
        it("reverts with VoucherKeyInvalid at any length but 20 and 64 bytes", async () => {
          for (const length of [0, 1, 19, 21, 32, 33, 63, 65, 84]) {
            const key = "0x" + "42".repeat(length);
            await expectRefused(act(FREE, market.licensee, key), "VoucherKeyInvalid", [key]);
          }
        });

        it("reverts with VoucherKeyInvalid for the zero address, which is what bad signatures recover to", async () => {
          await expectRefused(act(FREE, market.licensee, ZeroAddress), "VoucherKeyInvalid", [ZeroAddress]);
        });

        it("reverts with VoucherKeyInvalid for what is no point of P-256", async () => {
          const point = getBytes(p256KeyBytes(P256.publicKey));
          const beside = hexlify(point.map((byte, i) => (i === 63 ? byte ^ 1 : byte)));
          const swapped = hexlify(concat([point.slice(32), point.slice(0, 32)]));
          const notReduced = concat([new Uint8Array(32).fill(255), point.slice(32)]);
          for (const key of [beside, swapped, notReduced, "0x" + "00".repeat(64)]) {
            await expectRefused(act(FREE, market.licensee, key), "VoucherKeyInvalid", [key]);
          }
        });
      });
    });
  }

  describe("addVoucherKey", () => {
    const NEW = new Wallet(id("new key"));
    const add = (cap: bigint, key: Key = NEW, licenseId = FREE) => owner.addVoucherKey(licenseId, bytesOf(key), cap);

    describe("when the license is locked or over", () => {
      it("reverts with LicenseStatusUnfit, for a key that is there, too", async () => {
        const expectUnfit = async (status: number) => {
          for (const key of [KEY, NEW]) {
            await expectRefused(add(KEY_CAP * 2n, key, COMMITTED), "LicenseStatusUnfit", [COMMITTED, status]);
          }
        };
        await owner.lock(COMMITTED);
        await expectUnfit(LicenseStatus.Locked);
        await time.increase(STOP_GRACE + WAIT);
        await expectUnfit(LicenseStatus.Movable);
        await owner.unlock(COMMITTED);
        await owner.end(COMMITTED);
        await expectUnfit(LicenseStatus.Ended);
        await time.increase(STOP_GRACE + WAIT);
        await escrow.closeTerm(COMMITTED);
        await expectUnfit(LicenseStatus.Closed);
      });
    });

    describe("when the key was revoked in this generation", () => {
      it("reverts with VoucherKeyRevoked while it ends, and after it, whatever the cap", async () => {
        await owner.revokeVoucherKey(FREE, bytesOf(KEY));
        for (const wait of [0, WAIT, DAY]) {
          await time.increase(wait + 1);
          for (const cap of [0n, KEY_CAP, KEY_CAP + 1n]) {
            await expectRefused(add(cap, KEY), "VoucherKeyRevoked", [FREE, bytesOf(KEY)]);
          }
        }
      });
    });

    describe("when the cap isn't higher", () => {
      it("reverts with VoucherCapNotRaised", async () => {
        for (const cap of [KEY_CAP, KEY_CAP - 1n, 0n]) {
          await expectRefused(add(cap, KEY), "VoucherCapNotRaised", [cap, KEY_CAP]);
        }
        await expectRefused(add(0n), "VoucherCapNotRaised", [0, 0]);
      });
    });

    describe("when all is well", () => {
      it("lets the key sign from now on up to the cap, and touches nothing of the account", async () => {
        const before = await accountOf(FREE);
        expect(await keyOf(NEW)).to.deep.equal({ status: VoucherKeyStatus.None, cap: 0n, endsAt: 0n });
        expect(await claim({}, { key: NEW })).to.deep.equal(refused("KeyUnknown"));
        await add(usd(7));
        expect(await accountOf(FREE)).to.deep.equal(before);
        expect(await keyOf(NEW)).to.deep.equal({ status: VoucherKeyStatus.Active, cap: usd(7), endsAt: 0n });
        expect(await claim({}, { key: NEW })).to.deep.equal(paid(7, "CapReached"));
      });

      it("raises the cap of a key at once", async () => {
        await add(usd(7));
        await claim({}, { key: NEW });
        await add(usd(9));
        expect((await keyOf(NEW)).cap).to.equal(usd(9));
        expect(await claim({}, { key: NEW })).to.deep.equal(paid(2, "CapReached"));
      });

      it("takes a P-256 key, and the highest cap", async () => {
        const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
        await add(2n ** 56n - 1n, key);
        expect((await keyOf(key)).cap).to.equal(2n ** 56n - 1n);
        expect(await claim({}, { key })).to.deep.equal(paid(10));
      });

      it("emits VoucherKeyAdded, for either scheme and for a raise", async () => {
        for (const key of [NEW, generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey]) {
          for (const cap of [usd(7), usd(8)]) {
            await expect(add(cap, key)).to.emit(escrow, "VoucherKeyAdded").withArgs(FREE, 0, bytesOf(key), cap);
          }
        }
      });

      it("adds it to that license alone", async () => {
        await add(usd(7));
        expect(await claim({ licenseId: OTHER }, { key: NEW })).to.deep.equal(refused("KeyUnknown"));
      });

      it("adds it to this generation alone: in the next, it may come again, after a revocation, too", async () => {
        await owner.revokeVoucherKey(FREE, bytesOf(KEY));
        await owner.raiseGeneration(FREE);
        expect(await claim({ generation: 1 })).to.deep.equal(refused("KeyUnknown"));
        await expect(add(usd(7), KEY))
          .to.emit(escrow, "VoucherKeyAdded")
          .withArgs(FREE, 1, bytesOf(KEY), usd(7));
        expect(await claim({ generation: 1 })).to.deep.equal(paid(7, "CapReached"));
      });

      it("is for a license whose term is over and may be renewed", async () => {
        await time.increaseTo(await expiryOf(COMMITTED));
        expect(await escrow.statusOf(COMMITTED)).to.equal(LicenseStatus.Lapsed);
        await add(usd(7), NEW, COMMITTED);
        expect((await keyOf(NEW, COMMITTED)).status).to.equal(VoucherKeyStatus.Active);
      });

      it("is for a license on the other road, which may be about to change it", async () => {
        const attested = await buyLicense(market, usd(5));
        await add(usd(7), NEW, attested);
        expect(await claim({ licenseId: attested }, { key: NEW })).to.deep.equal(refused("WrongRoad"));
      });
    });

    describe("when a smart account owns the license", () => {
      /** A license of a smart account (ERC-1271) on the voucher road, and the account. */
      const deploySmartOwner = async (contract: string, args: unknown[]) => {
        const address = await (await hre.ethers.deployContract(contract, args)).getAddress();
        const account = await hre.ethers.getImpersonatedSigner(address);
        await setBalance(address, 10n ** 18n);
        const licenseId = await buyLicense(market, usd(50), { to: address });
        await escrow.connect(account).changeService(licenseId, market.operatorId, true);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(licenseId);
        return { account, licenseId };
      };

      it("registers a key that signs; the key that signs for the account itself is none", async () => {
        const { account, licenseId } = await deploySmartOwner("SmartWallet", [STRANGER.address]);
        await escrow.connect(account).addVoucherKey(licenseId, bytesOf(NEW), usd(20));
        expect(await claim({ licenseId }, { key: NEW })).to.deep.equal(paid(10));
        expect(await claim({ licenseId, spent: usd(11) }, { key: STRANGER })).to.deep.equal(refused("KeyUnknown"));
      });

      it("can't register itself to any use: what it says of signatures, it could unsay", async () => {
        const { account, licenseId } = await deploySmartOwner("WalletThatAlwaysSigns", []);
        await escrow.connect(account).addVoucherKey(licenseId, account.address, usd(20));
        expect(await claim({ licenseId }, { key: STRANGER })).to.deep.equal(refused("KeyUnknown"));
      });
    });
  });

  describe("revokeVoucherKey", () => {
    const revoke = (key: Key = KEY, licenseId = FREE) => owner.revokeVoucherKey(licenseId, bytesOf(key));

    describe("when there is no such key", () => {
      it("reverts with VoucherKeyUnknown, for one of another license or generation, too", async () => {
        await expectRefused(revoke(STRANGER), "VoucherKeyUnknown", [FREE, bytesOf(STRANGER)]);
        const p256 = P256.privateKey;
        await expectRefused(revoke(p256, OTHER), "VoucherKeyUnknown", [OTHER, bytesOf(p256)]);
        await owner.raiseGeneration(FREE);
        await expectRefused(revoke(), "VoucherKeyUnknown", [FREE, bytesOf(KEY)]);
      });
    });

    describe("when it was revoked before", () => {
      it("reverts with VoucherKeyRevoked, and its end stays where it was", async () => {
        await revoke();
        const { endsAt } = await keyOf(KEY);
        for (const wait of [HOUR, WAIT]) {
          await time.increase(wait);
          await expectRefused(revoke(), "VoucherKeyRevoked", [FREE, bytesOf(KEY)]);
        }
        expect((await keyOf(KEY)).endsAt).to.equal(endsAt);
      });
    });

    describe("when all is well", () => {
      for (const [scheme, key] of [
        ["an ECDSA key", KEY],
        ["a P-256 key", P256.privateKey],
      ] as const) {
        it(`lets what ${scheme} signed count as long as use may still settle, and never again`, async () => {
          await revoke(key);
          const endsAt = (await time.latest()) + WAIT;
          expect(await keyOf(key)).to.deep.equal({
            status: VoucherKeyStatus.Ending,
            cap: KEY_CAP,
            endsAt: BigInt(endsAt),
          });
          await expectUntil(endsAt, "KeyRevoked", {}, { key });
          expect((await keyOf(key)).status).to.equal(VoucherKeyStatus.Ended);
        });
      }

      it("emits VoucherKeyEnding", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(revoke())
          .to.emit(escrow, "VoucherKeyEnding")
          .withArgs(FREE, 0, bytesOf(KEY), now + WAIT);
      });

      it("leaves the license's other keys, and the key of other licenses", async () => {
        await revoke();
        await time.increase(WAIT + 1);
        expect(await claim({}, { key: P256.privateKey })).to.deep.equal(paid(10));
        expect(await claim({ licenseId: OTHER })).to.deep.equal(paid(10));
      });

      it("is for a license that is locked, and for one that is over", async () => {
        await owner.lock(SELLABLE);
        await revoke(KEY, SELLABLE);
        await owner.end(FREE);
        await revoke();
        expect((await keyOf(KEY, SELLABLE)).status).to.equal(VoucherKeyStatus.Ending);
        expect((await keyOf(KEY)).status).to.equal(VoucherKeyStatus.Ending);
      });
    });
  });

  describe("voucherKeyOf", () => {
    it("is all zero for a key, a license or a generation that never was", async () => {
      const nothing = { status: VoucherKeyStatus.None, cap: 0n, endsAt: 0n };
      expect(await keyOf(STRANGER)).to.deep.equal(nothing);
      expect(await keyOf(KEY, NONE)).to.deep.equal(nothing);
      expect(await keyOf(KEY, FREE, 1)).to.deep.equal(nothing);
      await owner.raiseGeneration(FREE);
      expect(await keyOf(STRANGER)).to.deep.equal(nothing);
    });

    it("reverts with VoucherKeyInvalid for what is no key", async () => {
      await expectRefused(escrow.voucherKeyOf(FREE, 0, "0x12"), "VoucherKeyInvalid", ["0x12"]);
    });

    it("says the earlier of a key's end and its generation's", async () => {
      await owner.revokeVoucherKey(FREE, bytesOf(KEY));
      const { endsAt } = await keyOf(KEY);
      await time.increase(HOUR);
      await owner.raiseGeneration(FREE);
      const generationEndsAt = BigInt((await time.latest()) + WAIT);
      expect(await keyOf(KEY)).to.deep.equal({ status: VoucherKeyStatus.Ending, cap: KEY_CAP, endsAt });
      expect(await keyOf(P256.privateKey)).to.deep.equal({
        status: VoucherKeyStatus.Ending,
        cap: KEY_CAP,
        endsAt: generationEndsAt,
      });
      await time.increaseTo(generationEndsAt);
      expect((await keyOf(P256.privateKey)).status).to.equal(VoucherKeyStatus.Ending);
      await time.increase(1);
      for (const key of [KEY, P256.privateKey]) expect((await keyOf(key)).status).to.equal(VoucherKeyStatus.Ended);
    });
  });

  describe("settleVouchers", () => {
    /** Asserts that settleVouchers and previewVouchers revert so. */
    const expectBothRefused = async (packed: string, error: string, args: readonly unknown[]) => {
      await expectRefused(escrow.previewVouchers(1, 1, packed), error, args);
      await expectRefused(escrow.settleVouchers(1, 1, packed), error, args);
    };

    describe("when there is no such plan", () => {
      it("reverts with PlanUnknown", async () => {
        const packed = packVouchers([await sign()]);
        for (const planId of [0, 77]) {
          for (const call of [escrow.previewVouchers(1, planId, packed), escrow.settleVouchers(1, planId, packed)]) {
            await expect(call).to.be.revertedWithCustomError(market.licet.licenses, "PlanUnknown").withArgs(planId);
          }
        }
      });
    });

    describe("when the vouchers aren't packed as they should be", () => {
      it("reverts with VouchersMalformed for none", async () => {
        await expectBothRefused("0x", "VouchersMalformed", [0]);
      });

      it("reverts with VouchersMalformed when one is cut, or is followed by something", async () => {
        for (const key of [KEY, P256.privateKey]) {
          const packed = packVouchers([await sign({}, key)]);
          const size = dataLength(packed);
          for (const cut of [dataSlice(packed, 0, size - 1), dataSlice(packed, 0, 20), dataSlice(packed, 0, 1)]) {
            await expectBothRefused(cut, "VouchersMalformed", [dataLength(cut)]);
            await expectBothRefused(concat([packed, cut]), "VouchersMalformed", [size + dataLength(cut)]);
          }
          await expectBothRefused(concat([packed, "0x00"]), "VouchersMalformed", [size + 1]);
        }
      });

      it("reverts with VouchersMalformed for an unknown scheme, wherever it stands, and charges nothing", async () => {
        const good = packVouchers([await sign()]);
        for (const scheme of ["0x02", "0x80", "0xff"]) {
          const bad = concat([scheme, dataSlice(good, 1)]);
          await expectBothRefused(bad, "VouchersMalformed", [84]);
          await expectBothRefused(concat([good, bad]), "VouchersMalformed", [168]);
        }
        expect((await accountOf(FREE)).balance).to.equal(FUNDS);
      });

      it("reverts with VouchersMalformed for a scheme with the other one's signature", async () => {
        const ecdsa = packVouchers([await sign()]);
        await expectBothRefused(concat(["0x01", dataSlice(ecdsa, 1)]), "VouchersMalformed", [84]);
        const p256 = packVouchers([await sign({}, P256.privateKey)]);
        await expectBothRefused(concat(["0x00", dataSlice(p256, 1)]), "VouchersMalformed", [148]);
      });

      it("reverts with VouchersMalformed for more than MAX_ENTRIES, and takes as many", async () => {
        const signature = "0x" + "00".repeat(64);
        const most = Array.from({ length: 2_000 }, (_, i) => ({
          voucher: voucherOf({ licenseId: 1_000n + BigInt(i) }),
          signature,
        }));
        const packed = packVouchers(most);
        const [charged, outcomes] = await escrow.previewVouchers(1, 1, packed);
        expect(charged).to.equal(0);
        expect(unpackVoucherOutcomes(outcomes)).to.deep.equal(
          most.map(({ voucher: { licenseId, term } }) => ({
            licenseId,
            term,
            charged: 0n,
            status: "UnknownLicense",
          })),
        );
        await expectRefused(
          escrow.previewVouchers(1, 1, concat([packed, packVouchers([await sign({ licenseId: 9_999n })])])),
          "VouchersMalformed",
          [2_001 * 84],
        );
      });
    });

    describe("when they don't ascend by license", () => {
      it("reverts with VouchersOutOfOrder, and charges nothing", async () => {
        const [first, second] = [packVouchers([await sign()]), packVouchers([await sign({ licenseId: OTHER })])];
        await expectBothRefused(concat([second, first]), "VouchersOutOfOrder", [FREE, OTHER]);
        await expectBothRefused(concat([first, second, first]), "VouchersOutOfOrder", [FREE, OTHER]);
        expect((await accountOf(OTHER)).balance).to.equal(FUNDS);
      });
    });

    describe("when all is well", () => {
      for (const [scheme, key] of [
        ["an ECDSA key", KEY],
        ["a P-256 key", P256.privateKey],
      ] as const) {
        it(`charges what ${scheme} signed, and touches nothing else of the account`, async () => {
          const before = await accountOf(FREE);
          expect(await claim({}, { key })).to.deep.equal(paid(10));
          expect(await accountOf(FREE)).to.deep.equal({ ...before, balance: FUNDS - usd(10), spent: usd(10) });
        });
      }

      it("charges what is new of it", async () => {
        await claim({ spent: usd(10) });
        expect(await claim({ spent: usd(10) + 1n })).to.deep.equal({ charged: 1n, status: "Charged" });
        expect(await claim({ spent: usd(25) }, { key: P256.privateKey })).to.deep.equal({
          charged: usd(15) - 1n,
          status: "Charged",
        });
        const { balance, spent } = await accountOf(FREE);
        expect([balance, spent]).to.deep.equal([FUNDS - usd(25), usd(25)]);
      });

      it("goes on from what attested batches have charged in the term before", async () => {
        const licenseId = await buyLicense(market, usd(50));
        await settle(market, [worth(licenseId, 4)]);
        await owner.addVoucherKey(licenseId, bytesOf(KEY), KEY_CAP);
        await owner.changeService(licenseId, market.operatorId, true);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(licenseId);
        expect(await claim({ licenseId, spent: usd(4) })).to.deep.equal(refused("NothingDue"));
        expect(await claim({ licenseId, spent: usd(5) })).to.deep.equal(paid(1));
      });

      it("charges many licenses, of either scheme, whatever becomes of those between", async () => {
        const vouchers = [
          await sign({ spent: usd(1) }, P256.privateKey),
          await sign({ licenseId: OTHER, spent: usd(2) }, STRANGER),
          await sign({ licenseId: COMMITTED, spent: usd(3) }),
          await sign({ licenseId: FRUGAL, spent: usd(4) }),
          await sign({ licenseId: NONE, spent: usd(5) }),
        ];
        const { charged, outcomes } = await post(vouchers);
        expect(charged).to.equal(usd(5));
        expect(unpackVoucherOutcomes(outcomes)).to.deep.equal([
          { licenseId: FREE, term: 0, charged: usd(1), status: "Charged" },
          { licenseId: OTHER, term: 0, charged: 0n, status: "KeyUnknown" },
          { licenseId: COMMITTED, term: 0, charged: 0n, status: "WrongPlan" },
          { licenseId: FRUGAL, term: 0, charged: usd(4), status: "Charged" },
          { licenseId: NONE, term: 0, charged: 0n, status: "UnknownLicense" },
        ]);
        const spent = await Promise.all([FREE, OTHER, COMMITTED, FRUGAL].map(async (i) => (await accountOf(i)).spent));
        expect(spent).to.deep.equal([usd(1), 0n, 0n, usd(4)]);
      });

      it("charges several vouchers of one license in their order", async () => {
        const amounts = [5, 3, 8, 8, 20];
        const vouchers = await Promise.all(amounts.map((dollars) => sign({ spent: usd(dollars) })));
        expect(await claimAll(vouchers)).to.deep.equal([
          paid(5),
          refused("NothingDue"),
          paid(3),
          refused("NothingDue"),
          paid(12),
        ]);
        expect((await accountOf(FREE)).spent).to.equal(usd(20));
      });

      it("divides the sum at once: fee, the publisher's, and the rest for the operator; nothing for attestors", async () => {
        const { charged, split, forPool } = await post([
          await sign({ spent: 333n }),
          await sign({ licenseId: OTHER, spent: 334n }),
        ]);
        expect([charged, split, forPool]).to.deep.equal([667n, [461n, 200n, 0n, 6n, 0n], 0n]);
        expect(await escrow.operatorIncomeOf(1)).to.deep.equal([461n, 0n]);
        expect(await escrow.assetIncomeOf(market.assetId)).to.equal(200);
        expect(await escrow.protocolFees()).to.equal(6);
        expect(await heldBy(market)).to.deep.equal(await owedBy(market));
      });

      it("takes the fee of the day", async () => {
        await escrow.connect(market.governor).setFee(500);
        expect((await post([await sign()])).split).to.deep.equal([usd(6.5), usd(3), 0n, usd(0.5), 0n]);
        await escrow.connect(market.governor).setFee(0);
        expect((await post([await sign({ spent: usd(20) })])).split).to.deep.equal([usd(7), usd(3), 0n, 0n, 0n]);
      });

      it("gives the operator's pool what its commission leaves", async () => {
        await market.licet.staking.connect(market.operator).setCommission(1, 6_000);
        const { split, forPool } = await post([await sign()]);
        expect([split[0], forPool]).to.deep.equal([usd(6.9), usd(2.76)]);
        expect(await escrow.operatorIncomeOf(1)).to.deep.equal([usd(4.14), usd(2.76)]);
        await expect(escrow.payPool(1)).to.emit(market.licet.staking, "IncomeAdded");
        expect(await heldBy(market)).to.deep.equal(await owedBy(market));
      });

      it("gives it to the operator where its pool has nobody", async () => {
        const { staking } = market.licet;
        await staking.connect(market.operator).setCommission(1, 6_000);
        const { shares } = await staking.positionOf(1, market.operator);
        await staking.connect(market.operator).thaw(1, shares);
        expect((await post([await sign()])).forPool).to.equal(0);
        expect(await escrow.operatorIncomeOf(1)).to.deep.equal([usd(6.9), 0n]);
      });

      it("puts nothing in flight and holds nothing: it needs no stake, and the operator has it at once", async () => {
        const { staking, currency } = market.licet;
        const { shares } = await staking.positionOf(1, market.operator);
        await staking.connect(market.operator).thaw(1, shares);
        await claim();
        expect((await staking.poolOf(1)).inFlight).to.equal(0);
        await expect(escrow.connect(market.operator).withdrawEarnings(1, market.operator)).to.changeTokenBalance(
          currency,
          market.operator,
          usd(6.9),
        );
      });

      it("goes on while deposits are paused", async () => {
        await escrow.connect(market.guardian).pause();
        expect(await claim()).to.deep.equal(paid(10));
      });

      it("returns what it charged and the outcomes, moves no currency, and emits VouchersSettled", async () => {
        const packed = packVouchers([await sign(), await sign({ licenseId: OTHER, term: 3 })]);
        const outcomes = packVoucherOutcomes([
          { licenseId: FREE, term: 0, charged: usd(10), status: "Charged" },
          { licenseId: OTHER, term: 3, charged: 0n, status: "TermNotRunning" },
        ]);
        expect(await escrow.settleVouchers.staticCall(1, 1, packed)).to.deep.equal([usd(10), outcomes]);
        const owed = await escrow.totalOwed();
        await expect(escrow.settleVouchers(1, 1, packed))
          .to.emit(escrow, "VouchersSettled")
          .withArgs(1, 1, market.assetId, usd(10), [usd(6.9), usd(3), 0, usd(0.1), 0], 0, outcomes)
          .and.not.to.emit(market.licet.currency, "Transfer");
        expect(await escrow.totalOwed()).to.equal(owed);
      });
    });

    describe("when it was charged before", () => {
      it("charges nothing, in the same call, in a later one, or for less", async () => {
        const voucher = await sign();
        expect(await claimAll([voucher, voucher])).to.deep.equal([paid(10), refused("NothingDue")]);
        expect(await claimAll([voucher])).to.deep.equal([refused("NothingDue")]);
        expect(await claim({ spent: usd(9) })).to.deep.equal(refused("NothingDue"));
        expect(await claim({ spent: 0n })).to.deep.equal(refused("NothingDue"));
      });

      it("emits VouchersSettled with nothing in it, and changes nothing", async () => {
        await claim();
        const before = await accountOf(FREE);
        const income = await escrow.operatorIncomeOf(1);
        const { charged, split, forPool } = await post([await sign()]);
        expect([charged, split, forPool]).to.deep.equal([0n, [0n, 0n, 0n, 0n, 0n], 0n]);
        expect(await accountOf(FREE)).to.deep.equal(before);
        expect(await escrow.operatorIncomeOf(1)).to.deep.equal(income);
      });
    });

    describe("when it isn't the operator's and the plan's to charge", () => {
      it("says UnknownLicense for a license that doesn't exist", async () => {
        for (const licenseId of [0n, NONE, 2n ** 64n - 1n]) {
          expect(await claim({ licenseId })).to.deep.equal(refused("UnknownLicense"));
        }
      });

      it("says WrongPlan for a license of another plan", async () => {
        expect(await claim({ licenseId: COMMITTED }, { planId: 1 })).to.deep.equal(refused("WrongPlan"));
        expect(await claim({}, { planId: 2 })).to.deep.equal(refused("WrongPlan"));
      });

      it("says WrongOperator for a license that chose another", async () => {
        const operatorId = await addRival();
        expect(await claim({ operatorId }, { operatorId })).to.deep.equal(refused("WrongOperator"));
        expect(await claim({ operatorId: 77 }, { operatorId: 77 })).to.deep.equal(refused("WrongOperator"));
      });

      it("says WrongRoad for a license that settles by batches", async () => {
        const licenseId = await buyLicense(market, usd(50));
        await owner.addVoucherKey(licenseId, bytesOf(KEY), KEY_CAP);
        expect(await claim({ licenseId })).to.deep.equal(refused("WrongRoad"));
      });

      it("says the first of them that is so", async () => {
        const operatorId = await addRival();
        const licenseId = await buyLicense(market, usd(50), { operatorId });
        const [rival, plan] = [{ operatorId }, { planId: 2 }];
        expect(await claim({ licenseId }, plan)).to.deep.equal(refused("WrongPlan"));
        expect(await claim({ licenseId })).to.deep.equal(refused("WrongOperator"));
        expect(await claim({ licenseId, ...rival }, rival)).to.deep.equal(refused("WrongRoad"));
        expect(await claim({ ...rival }, { ...rival, ...plan })).to.deep.equal(refused("WrongPlan"));
      });
    });

    describe("when no key of the license's signed it", () => {
      const tampered = async (changes: Partial<Voucher>, key: Key = KEY) => ({
        ...(await sign({}, key)),
        voucher: voucherOf(changes),
      });

      it("says KeyUnknown for a stranger's signature", async () => {
        expect(await claim({}, { key: STRANGER })).to.deep.equal(refused("KeyUnknown"));
        const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
        expect(await claim({}, { key: privateKey })).to.deep.equal(refused("KeyUnknown"));
        expect(await claim({ licenseId: OTHER }, { key: P256.privateKey })).to.deep.equal(refused("KeyUnknown"));
      });

      it("says KeyUnknown for a signature under another domain: chain, contract, name or version", async () => {
        const licenses = await market.licet.licenses.getAddress();
        for (const elsewhere of [
          domainOn(1n, domain.verifyingContract),
          domainOn(domain.chainId, licenses),
          { ...domain, name: "Licet LicenseRegistry" },
          { ...domain, version: "2" },
        ]) {
          const vouchers = [
            await signVoucher(elsewhere, voucherOf(), KEY),
            signVoucherByP256(elsewhere, voucherOf(), P256.privateKey),
          ];
          for (const voucher of vouchers) {
            expect(await claimAll([voucher])).to.deep.equal([refused("KeyUnknown")]);
          }
        }
      });

      it("says KeyUnknown for a voucher for another operator", async () => {
        const operatorId = await addRival();
        for (const key of [KEY, P256.privateKey]) {
          const voucher = await sign({ operatorId }, key);
          expect(await claimAll([voucher])).to.deep.equal([refused("KeyUnknown")]);
        }
      });

      it("says KeyUnknown when anything of it was changed", async () => {
        await owner.addVoucherKey(OTHER, bytesOf(P256.privateKey), KEY_CAP);
        await owner.raiseGeneration(FREE);
        await owner.addVoucherKey(FREE, bytesOf(KEY), KEY_CAP);
        await owner.addVoucherKey(FREE, bytesOf(P256.privateKey), KEY_CAP);
        for (const key of [KEY, P256.privateKey]) {
          for (const changes of [{ licenseId: OTHER }, { generation: 1 }, { spent: usd(11) }]) {
            expect(await claimAll([await tampered(changes, key)])).to.deep.equal([refused("KeyUnknown")]);
          }
        }
        await time.increaseTo(await expiryOf(FREE));
        for (const key of [KEY, P256.privateKey]) {
          expect(await claimAll([await tampered({ generation: 1, term: 1 }, key)], byOperator())).to.deep.equal([
            refused("KeyUnknown"),
          ]);
        }
      });

      it("says KeyUnknown for the other signature that mathematics allows, and for halves out of range", async () => {
        const ecdsa = await sign();
        const [r, vs] = [dataSlice(ecdsa.signature, 0, 32), BigInt(dataSlice(ecdsa.signature, 32))];
        const [parity, s] = [vs >> 255n, vs & (2n ** 255n - 1n)];
        const compact = (newParity: bigint, newS: bigint) =>
          concat([r, toBeHex(((newParity << 255n) | newS) & (2n ** 256n - 1n), 32)]);
        for (const signature of [
          compact(1n - parity, s),
          // The upper s has 256 bits: what is left of it in 255 is another number.
          compact(1n - parity, SECP256K1_ORDER - s),
          compact(parity, 0n),
          concat([toBeHex(0, 32), toBeHex(vs, 32)]),
          "0x" + "ff".repeat(64),
          "0x" + "00".repeat(64),
        ]) {
          expect(await claimAll([{ ...ecdsa, signature }])).to.deep.equal([refused("KeyUnknown")]);
        }

        const p256 = await sign({}, P256.privateKey);
        const part = (start: number) => dataSlice(p256.signature, start, start + 32);
        const point = dataSlice(p256.signature, 0, 64);
        for (const signature of [
          concat([point, part(64), toBeHex(P256_ORDER - BigInt(part(96)), 32)]),
          concat([point, part(96), part(64)]),
          concat([point, toBeHex(0, 32), part(96)]),
          concat([point, part(64), toBeHex(0, 32)]),
          concat([point, toBeHex(P256_ORDER, 32), part(96)]),
          concat([part(32), part(0), part(64), part(96)]),
          "0x" + "00".repeat(128),
        ]) {
          expect(await claimAll([{ ...p256, signature }])).to.deep.equal([refused("KeyUnknown")]);
        }
        expect(await claimAll([p256])).to.deep.equal([paid(10)]);
      });

      it("says KeyUnknown for a P-256 signature over another hash than the SHA-256 of the digest", async () => {
        const digest = getBytes(voucherDigest(domain, voucherOf()));
        const options = { key: P256.privateKey, dsaEncoding: "ieee-p1363" as const };
        for (const pair of [signBytes("sha512", digest, options), signBytes("sha384", digest, options)]) {
          const signature = concat([bytesOf(P256.privateKey), pair]);
          expect(await claimAll([{ voucher: voucherOf(), signature }])).to.deep.equal([refused("KeyUnknown")]);
        }
      });
    });

    describe("when there is less than was signed", () => {
      it("says BalanceExhausted, and the same voucher pays the rest once there is more", async () => {
        const voucher = await sign({ spent: usd(400) });
        expect(await claimAll([voucher])).to.deep.equal([paid(300, "BalanceExhausted")]);
        expect(await claimAll([voucher])).to.deep.equal([refused("BalanceExhausted")]);
        await owner.deposit(FREE, usd(40));
        expect(await claimAll([voucher])).to.deep.equal([paid(40, "BalanceExhausted")]);
        await owner.deposit(FREE, usd(100));
        expect(await claimAll([voucher])).to.deep.equal([paid(60)]);
        expect(await claimAll([voucher])).to.deep.equal([refused("NothingDue")]);
        expect((await accountOf(FREE)).balance).to.equal(usd(40));
      });

      it("says Charged where the balance is just enough", async () => {
        expect(await claim({ spent: FUNDS })).to.deep.equal(paid(300));
        expect((await accountOf(FREE)).balance).to.equal(0);
      });

      it("takes what is on its way out, too, until it is gone", async () => {
        await owner.thaw(FREE, FUNDS);
        const readyAt = (await time.latest()) + WAIT;
        expect(await claim({ spent: usd(290) }, { at: readyAt })).to.deep.equal(paid(290));
        await expect(owner.withdraw(FREE, market.licensee)).to.emit(escrow, "Withdrawn");
        expect(await claim({ spent: usd(300) })).to.deep.equal(refused("BalanceExhausted"));
      });
    });

    describe("when a cap is in the way", () => {
      it("says CapReached up to the plan's, a term", async () => {
        expect(await claim({ licenseId: CAPPED, spent: usd(50) })).to.deep.equal(paid(50));
        expect(await claim({ licenseId: CAPPED, spent: usd(60) })).to.deep.equal(refused("CapReached"));
        const at = await expiryOf(CAPPED);
        const next = { licenseId: CAPPED, term: 1, spent: usd(60) };
        expect(await claim(next, { ...byOperator(), at })).to.deep.equal(paid(50, "CapReached"));
      });

      it("says CapReached up to the licensee's own, and the same voucher pays the rest once that is raised", async () => {
        expect(await claim({ licenseId: FRUGAL })).to.deep.equal(paid(9, "CapReached"));
        await owner.setCap(FRUGAL, 0);
        expect(await claim({ licenseId: FRUGAL })).to.deep.equal(paid(1));
      });

      it("says CapReached up to the key's, and the same voucher pays the rest once that is raised", async () => {
        await owner.addVoucherKey(FREE, bytesOf(STRANGER), usd(4));
        expect(await claim({}, { key: STRANGER })).to.deep.equal(paid(4, "CapReached"));
        await owner.addVoucherKey(FREE, bytesOf(STRANGER), usd(10));
        expect(await claim({}, { key: STRANGER })).to.deep.equal(paid(6));
      });

      it("charges nothing where another key has brought the counter further than this one may", async () => {
        await owner.addVoucherKey(FREE, bytesOf(STRANGER), usd(4));
        await claim({ spent: usd(5) });
        expect(await claim({ spent: usd(6) }, { key: STRANGER })).to.deep.equal(refused("CapReached"));
        expect(await claim({ spent: usd(6) })).to.deep.equal(paid(1));
      });

      it("takes the lowest of the three, and says BalanceExhausted where the balance is lower still", async () => {
        await owner.addVoucherKey(CAPPED, bytesOf(STRANGER), usd(40));
        expect(await claim({ licenseId: CAPPED, spent: usd(99) }, { key: STRANGER })).to.deep.equal(
          paid(40, "CapReached"),
        );
        await owner.thaw(CAPPED, usd(255));
        await time.increase(WAIT + 1);
        await owner.withdraw(CAPPED, market.licensee);
        expect(await claim({ licenseId: CAPPED, spent: usd(99) })).to.deep.equal(paid(5, "BalanceExhausted"));
      });

      it("counts up to the highest number that a counter has", async () => {
        const most = 2n ** 56n - 1n;
        await market.licet.currency.mint(market.licensee, most);
        await market.licet.currency.connect(market.licensee).approve(escrow, most);
        await escrow.connect(market.governor).raiseDepositCeiling(2n ** 64n - 1n);
        await owner.deposit(FREE, most);
        await owner.addVoucherKey(FREE, bytesOf(KEY), most);
        expect(await claim({ spent: most })).to.deep.equal({ charged: most, status: "Charged" });
        expect(await claim({ spent: most })).to.deep.equal(refused("NothingDue"));
        const { balance, spent, term, capCode } = await accountOf(FREE);
        expect([balance, spent, term, capCode]).to.deep.equal([FUNDS, most, 0n, 0n]);
      });
    });

    describe("when its generation was ended", () => {
      it("counts as long as use may still settle, and says GenerationEnded from then on", async () => {
        const now = (await time.latest()) + 10;
        await time.setNextBlockTimestamp(now);
        await expect(owner.raiseGeneration(FREE))
          .to.emit(escrow, "GenerationRaised")
          .withArgs(FREE, 1, now + WAIT);
        await expectUntil(now + WAIT, "GenerationEnded");
      });

      it("counts in each of several that have ended, until its own end", async () => {
        await owner.raiseGeneration(FREE);
        const firstEnd = (await time.latest()) + WAIT;
        await owner.addVoucherKey(FREE, bytesOf(KEY), KEY_CAP);
        await time.increase(DAY);
        await owner.raiseGeneration(FREE);
        const secondEnd = (await time.latest()) + WAIT;
        await expectUntil(firstEnd, "GenerationEnded");
        expect(await claim({ generation: 1, spent: usd(20) })).to.deep.equal(paid(10));
        await expectUntil(secondEnd, "GenerationEnded", { generation: 1, spent: usd(30) });
      });

      it("says GenerationEnded for one that hasn't begun", async () => {
        for (const generation of [1, 65_535]) {
          expect(await claim({ generation })).to.deep.equal(refused("GenerationEnded"));
        }
      });

      it("says KeyRevoked where the key was, before its generation's end", async () => {
        await owner.revokeVoucherKey(FREE, bytesOf(KEY));
        const endsAt = (await time.latest()) + WAIT;
        await time.increase(HOUR);
        await owner.raiseGeneration(FREE);
        await expectUntil(endsAt, "KeyRevoked");
      });
    });

    describe("when the term is another than the account's, without a minimum", () => {
      let expiresAt: number;

      beforeEach(async () => {
        expiresAt = await expiryOf(FREE);
      });

      it("says TermNotRunning for one that hasn't begun, for the operator, too", async () => {
        for (const posting of [{}, byOperator()]) {
          expect(await claim({ term: 1 }, { ...posting })).to.deep.equal(refused("TermNotRunning"));
          expect(await claim({ term: 65_535 }, { ...posting })).to.deep.equal(refused("TermNotRunning"));
        }
        expect(await claim({ term: 1 }, { ...byOperator(), at: expiresAt - 1 })).to.deep.equal(
          refused("TermNotRunning"),
        );
        expect(await claim({ term: 2 }, { ...byOperator(), at: expiresAt })).to.deep.equal(refused("TermNotRunning"));
      });

      it("renews the license in the same write once it has begun, for the operator's owner", async () => {
        await claim({ spent: usd(5) });
        const before = await accountOf(FREE);
        expect(await claim({ term: 1 }, { ...byOperator(), at: expiresAt })).to.deep.equal(paid(10));
        expect(await accountOf(FREE)).to.deep.equal({
          ...before,
          balance: FUNDS - usd(15),
          spent: usd(10),
          term: 1n,
          expiresAt: BigInt(expiresAt + TERM),
        });
      });

      it("renews it for a signing key of the operator's, while that is in force", async () => {
        const { operators } = market.licet;
        const [active, revoked, expired, ofRival] = market.payees.slice(5);
        const until = expiresAt + WAIT;
        await operators.connect(market.operator).addKey(1, active, until);
        await operators.connect(market.operator).addKey(1, revoked, until);
        await operators.connect(market.operator).addKey(1, expired, expiresAt - 1);
        await operators.connect(market.operator).revokeKey(1, revoked);
        await operators.connect(market.payees[4]).addKey(await addRival(), ofRival, until);
        await time.increaseTo(expiresAt);
        for (const by of [revoked, expired, ofRival, market.payees[4]]) {
          expect(await claim({ term: 1 }, { by })).to.deep.equal(refused("TermNotRunning"));
        }
        expect(await claim({ term: 1 }, { by: active })).to.deep.equal(paid(10));
      });

      it("renews it for nobody else while the term before may still be claimed, and for everybody after it", async () => {
        await time.increaseTo(expiresAt);
        const { licensee, publisher, governor, outsider } = market;
        for (const by of [licensee, publisher, governor, outsider]) {
          expect(await claim({ term: 1 }, { by })).to.deep.equal(refused("TermNotRunning"));
        }
        expect(await claim({ term: 1 }, { at: expiresAt + WAIT })).to.deep.equal(refused("TermNotRunning"));
        expect(await claim({ term: 1 }, { at: expiresAt + WAIT + 1 })).to.deep.equal(paid(10));
        expect(await accountOf(FREE)).to.include({ term: 1n, expiresAt: BigInt(expiresAt + TERM) });
      });

      it("goes on for everybody in a term that has begun", async () => {
        await claim({ term: 1 }, { ...byOperator(), at: expiresAt });
        expect(await claim({ term: 1, spent: usd(11) })).to.deep.equal(paid(1));
      });

      it("says TermClosed for the term before, once the license was renewed, and as long as use may settle until then", async () => {
        await expectUntil(expiresAt + WAIT, "TermClosed");
        await claim({ term: 1 }, byOperator());
        expect(await claim({ spent: usd(20) })).to.deep.equal(refused("TermClosed"));
      });

      it("takes a term's last voucher and the next one's first in one call", async () => {
        const [last, first] = [await sign({ spent: usd(30) }), await sign({ term: 1, spent: usd(7) })];
        await time.increaseTo(expiresAt);
        expect(await claimAll([last, first], byOperator())).to.deep.equal([paid(30), paid(7)]);
        const { balance, spent, term } = await accountOf(FREE);
        expect([balance, spent, term]).to.deep.equal([usd(263), usd(7), 1n]);
      });

      it("takes the last voucher alone where the next one's first isn't for the caller to post", async () => {
        const [last, first] = [await sign({ spent: usd(30) }), await sign({ term: 1, spent: usd(7) })];
        await time.increaseTo(expiresAt);
        expect(await claimAll([last, first])).to.deep.equal([paid(30), refused("TermNotRunning")]);
        expect(await claimAll([first, last], byOperator())).to.deep.equal([paid(7), refused("TermClosed")]);
      });

      it("renews by several terms at once", async () => {
        await time.increaseTo(expiresAt + 3 * TERM + 5);
        expect(await claim({ term: 4 }, byOperator())).to.deep.equal(paid(10));
        expect(await accountOf(FREE)).to.include({
          term: 4n,
          spent: usd(10),
          expiresAt: BigInt(expiresAt + 4 * TERM),
        });
      });

      it("says TermClosed for one between that is over, from the second on in which no use of it may settle", async () => {
        const last = expiresAt + TERM + WAIT;
        const snapshot = await takeSnapshot();
        expect(await claim({ term: 1 }, { at: last })).to.deep.equal(paid(10));
        await snapshot.restore();
        for (const posting of [{ at: last + 1 }, byOperator()]) {
          expect(await claim({ term: 1 }, posting)).to.deep.equal(refused("TermClosed"));
        }
      });

      it("renews for nobody else while any term between may still be claimed", async () => {
        const startsAt = expiresAt + TERM;
        expect(await claim({ term: 2 }, { at: startsAt })).to.deep.equal(refused("TermNotRunning"));
        expect(await claim({ term: 2 }, { at: startsAt + WAIT })).to.deep.equal(refused("TermNotRunning"));
        const snapshot = await takeSnapshot();
        expect(await claim({ term: 1 }, {})).to.deep.equal(refused("TermClosed"));
        await snapshot.restore();
        expect(await claim({ term: 2 }, { at: startsAt + WAIT + 1 })).to.deep.equal(paid(10));
      });

      it("leaves the account where nothing can be charged in the new term", async () => {
        await claim({ spent: FUNDS });
        const before = await accountOf(FREE);
        expect(await claim({ term: 1 }, { ...byOperator(), at: expiresAt })).to.deep.equal(refused("BalanceExhausted"));
        expect(await claim({ term: 1, spent: 0n }, byOperator())).to.deep.equal(refused("NothingDue"));
        expect(await claim({ term: 1 }, { ...byOperator(), key: STRANGER })).to.deep.equal(refused("KeyUnknown"));
        expect(await accountOf(FREE)).to.deep.equal(before);
      });

      it("says TermNotRunning for a next term where the plan has one alone", async () => {
        const at = await expiryOf(ONCE);
        expect(await claim({ licenseId: ONCE, term: 1 }, { ...byOperator(), at })).to.deep.equal(
          refused("TermNotRunning"),
        );
        await expectUntil(at + WAIT, "TermClosed", { licenseId: ONCE });
        expect(await claim({ licenseId: ONCE, term: 1 }, byOperator())).to.deep.equal(refused("TermNotRunning"));
      });

      it("keeps terms that are shorter than the wait apart", async () => {
        const start = await expiryOf(DAILY);
        const dailyVouchers = await Promise.all(
          [0, 1, 2, 3, 4].map((term) => sign({ licenseId: DAILY, term, spent: usd(1 + term) })),
        );
        expect(await claimAll(dailyVouchers.slice(1))).to.deep.equal([
          refused("TermNotRunning"),
          refused("TermNotRunning"),
          refused("TermNotRunning"),
          refused("TermNotRunning"),
        ]);
        expect(await claimAll(dailyVouchers, byOperator())).to.deep.equal([
          paid(1),
          paid(2),
          paid(3),
          paid(4),
          refused("TermNotRunning"),
        ]);
        expect(await accountOf(DAILY)).to.include({ term: 3n, spent: usd(4), expiresAt: BigInt(start + 3 * DAY) });
      });
    });

    describe("when the plan has a minimum", () => {
      const licenseId = COMMITTED;
      let expiresAt: number;

      beforeEach(async () => {
        expiresAt = await expiryOf(licenseId);
      });

      it("says TermNotRunning for a next term until the license was renewed, whoever posts it", async () => {
        await time.increaseTo(expiresAt);
        expect(await claim({ licenseId, term: 1 }, byOperator())).to.deep.equal(refused("TermNotRunning"));
        await escrow.renew(licenseId);
        expect(await claim({ licenseId, term: 1 })).to.deep.equal(paid(10));
        expect(await claim({ licenseId, term: 2 }, byOperator())).to.deep.equal(refused("TermNotRunning"));
      });

      it("counts to the minimum of its term", async () => {
        expect(await claim({ licenseId, spent: usd(40) })).to.deep.equal(paid(40));
        expect(await escrow.committedOf(licenseId)).to.equal(usd(60));
      });

      it("charges a term that stands aside and the running one apart, in any order, from one balance", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        const before = await accountOf(licenseId);
        const vouchers = await Promise.all([
          sign({ licenseId, term: 0, spent: usd(20) }),
          sign({ licenseId, term: 1, spent: usd(3) }),
          sign({ licenseId, term: 0, spent: usd(25) }),
          sign({ licenseId, term: 1, spent: usd(4) }),
          sign({ licenseId, term: 0, spent: usd(25) }),
        ]);
        expect(await claimAll(vouchers)).to.deep.equal([paid(20), paid(3), paid(5), paid(1), refused("NothingDue")]);
        expect(await accountOf(licenseId)).to.deep.equal({
          ...before,
          balance: FUNDS - usd(29),
          spent: usd(4),
          endedSpent: usd(25),
        });
      });

      it("charges a term that stands aside alone", async () => {
        await claim({ licenseId, spent: usd(20) });
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        const before = await accountOf(licenseId);
        expect(await claim({ licenseId, spent: usd(45) })).to.deep.equal(paid(25));
        expect(await accountOf(licenseId)).to.deep.equal({
          ...before,
          balance: FUNDS - usd(45),
          endedSpent: usd(45),
        });
      });

      it("caps a term that stands aside by what was spent in it", async () => {
        await owner.addVoucherKey(licenseId, bytesOf(STRANGER), usd(30));
        await claim({ licenseId, spent: usd(20) });
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        expect(await claim({ licenseId, spent: usd(45) }, { key: STRANGER })).to.deep.equal(paid(10, "CapReached"));
        expect(await claim({ licenseId, term: 1, spent: usd(45) }, { key: STRANGER })).to.deep.equal(
          paid(30, "CapReached"),
        );
      });

      it("charges a term that is over until somebody closes it, however late, and then says TermClosed", async () => {
        await time.increaseTo(expiresAt + WAIT + DAY);
        expect(await claim({ licenseId, spent: usd(40) })).to.deep.equal(paid(40));
        await expect(escrow.closeTerm(licenseId))
          .to.emit(escrow, "TermClosed")
          .withArgs(licenseId, market.assetId, expiresAt, usd(60), usd(0.6));
        expect(await claim({ licenseId, spent: usd(50) })).to.deep.equal(refused("TermClosed"));
      });

      it("charges a term that stands aside until somebody closes it, and then says TermClosed", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        await time.increaseTo(expiresAt + WAIT + DAY);
        expect(await claim({ licenseId, spent: usd(40) })).to.deep.equal(paid(40));
        await escrow.closeTerm(licenseId);
        expect(await claim({ licenseId, spent: usd(50) })).to.deep.equal(refused("TermClosed"));
        expect(await claim({ licenseId, term: 1 })).to.deep.equal(paid(10));
        expect((await accountOf(licenseId)).endedSpent).to.equal(0);
      });

      it("says TermClosed for a term that is two terms back, and for one before a closed one", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        await owner.deposit(licenseId, usd(500));
        await time.increaseTo(expiresAt + TERM);
        await escrow.renew(licenseId);
        expect((await accountOf(licenseId)).term).to.equal(2);
        expect(await claim({ licenseId, term: 0 })).to.deep.equal(refused("TermClosed"));
        expect(await claim({ licenseId, term: 1 })).to.deep.equal(paid(10));
        await time.increaseTo(expiresAt + TERM + WAIT + 1);
        await escrow.closeTerm(licenseId);
        expect(await claim({ licenseId, term: 1, spent: usd(20) })).to.deep.equal(refused("TermClosed"));
      });

      it("reads what stands aside of one license for no other", async () => {
        await time.increaseTo(expiresAt);
        await escrow.renew(licenseId);
        const planId = Number((await accountOf(licenseId)).planId);
        const next = await buyLicense(market, FUNDS, { planId });
        await owner.addVoucherKey(next, bytesOf(KEY), KEY_CAP);
        await owner.changeService(next, 1, true);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(next);
        const vouchers = await Promise.all([
          sign({ licenseId, term: 0 }),
          sign({ licenseId: next, term: 0, spent: usd(7) }),
        ]);
        expect(await claimAll(vouchers)).to.deep.equal([paid(10), paid(7)]);
        expect(await accountOf(licenseId)).to.include({ spent: 0n, endedSpent: usd(10) });
        expect(await accountOf(next)).to.include({ spent: usd(7), endedSpent: 0n, endedAt: 0n });
      });
    });

    describe("when the license is locked", () => {
      it("counts until use before the stop can have settled, and then says Stopped", async () => {
        for (const licenseId of [SELLABLE, COMMITTED]) {
          const snapshot = await takeSnapshot();
          await owner.lock(licenseId);
          const { stoppedAt } = await accountOf(licenseId);
          await expectUntil(Number(stoppedAt) + WAIT, "Stopped", { licenseId });
          await snapshot.restore();
        }
      });

      it("says Stopped for a term that stands aside, too", async () => {
        const licenseId = COMMITTED;
        await time.increaseTo(await expiryOf(licenseId));
        await escrow.renew(licenseId);
        await owner.lock(licenseId);
        const { stoppedAt } = await accountOf(licenseId);
        await expectUntil(Number(stoppedAt) + WAIT, "Stopped", { licenseId, term: 0 });
        expect(await claim({ licenseId, term: 1 })).to.deep.equal(refused("Stopped"));
      });

      it("counts no longer than its term does", async () => {
        const expiresAt = await expiryOf(SELLABLE);
        await time.setNextBlockTimestamp(expiresAt + DAY);
        await owner.lock(SELLABLE);
        await expectUntil(expiresAt + WAIT, "TermClosed", { licenseId: SELLABLE });
      });

      it("begins no term at the stop or after it, and one before it", async () => {
        const expiresAt = await expiryOf(SELLABLE);
        const next = { licenseId: SELLABLE, term: 1 };
        for (const [stoppedAt, outcome] of [
          [expiresAt - 1, refused("Stopped")],
          [expiresAt, refused("Stopped")],
          [expiresAt + 1, paid(10)],
        ] as const) {
          const snapshot = await takeSnapshot();
          await time.setNextBlockTimestamp(stoppedAt - STOP_GRACE);
          await owner.lock(SELLABLE);
          expect(await claim(next, { ...byOperator(), at: expiresAt })).to.deep.equal(outcome);
          await snapshot.restore();
        }
      });

      it("counts again once it is unlocked", async () => {
        await owner.lock(SELLABLE);
        await time.increase(STOP_GRACE + WAIT + 1);
        expect(await claim({ licenseId: SELLABLE })).to.deep.equal(refused("Stopped"));
        await owner.unlock(SELLABLE);
        expect(await claim({ licenseId: SELLABLE })).to.deep.equal(paid(10));
        expect((await accountOf(SELLABLE)).generation).to.equal(0);
      });
    });

    describe("when the license has ended", () => {
      it("counts until use before the stop can have settled, without a minimum", async () => {
        await owner.end(FREE);
        const { stoppedAt } = await accountOf(FREE);
        await expectUntil(Number(stoppedAt) + WAIT, "TermClosed");
      });

      it("counts until use of its term can have settled, where the term ends first", async () => {
        const expiresAt = await expiryOf(FREE);
        await time.setNextBlockTimestamp(expiresAt - STOP_GRACE + 60);
        await owner.end(FREE);
        await expectUntil(expiresAt + WAIT, "TermClosed");
      });

      it("counts with a minimum until its term is closed", async () => {
        await owner.end(COMMITTED);
        const { stoppedAt } = await accountOf(COMMITTED);
        await time.increaseTo(Number(stoppedAt) + WAIT + 1);
        expect(await claim({ licenseId: COMMITTED })).to.deep.equal(paid(10));
        await escrow.closeTerm(COMMITTED);
        expect(await claim({ licenseId: COMMITTED, spent: usd(11) })).to.deep.equal(refused("TermClosed"));
      });

      it("counts for both terms of a license with a minimum until each is closed", async () => {
        await time.increaseTo(await expiryOf(COMMITTED));
        await escrow.renew(COMMITTED);
        await owner.end(COMMITTED);
        await time.increase(STOP_GRACE + WAIT + 1);
        const both = await Promise.all([0, 1].map((term) => sign({ licenseId: COMMITTED, term })));
        expect(await claimAll(both)).to.deep.equal([paid(10), paid(10)]);
        await escrow.closeTerm(COMMITTED);
        const more = await Promise.all([0, 1].map((term) => sign({ licenseId: COMMITTED, term, spent: usd(11) })));
        expect(await claimAll(more)).to.deep.equal([refused("TermClosed"), paid(1)]);
        await escrow.closeTerm(COMMITTED);
        expect(await claimAll(more)).to.deep.equal([refused("TermClosed"), refused("TermClosed")]);
      });

      it("begins no term at the stop or after it; one before it counts until its own end's wait", async () => {
        const expiresAt = await expiryOf(FREE);
        for (const [stoppedAt, outcome] of [
          [expiresAt, refused("Stopped")],
          [expiresAt + 1, paid(10)],
        ] as const) {
          const snapshot = await takeSnapshot();
          await time.setNextBlockTimestamp(stoppedAt - STOP_GRACE);
          await owner.end(FREE);
          expect(await claim({ term: 1 }, { ...byOperator(), at: expiresAt })).to.deep.equal(outcome);
          await snapshot.restore();
        }
        await time.setNextBlockTimestamp(expiresAt + DAY);
        await owner.end(FREE);
        const last = expiresAt + DAY + STOP_GRACE + WAIT;
        await expectUntil(last, "TermClosed", { term: 1 }, byOperator());
      });

      it("says TermClosed for a next term whose use can't settle any more", async () => {
        const expiresAt = await expiryOf(FREE);
        await time.setNextBlockTimestamp(expiresAt + DAY);
        await owner.end(FREE);
        const last = expiresAt + DAY + STOP_GRACE + WAIT;
        expect(await claim({ term: 1 }, { ...byOperator(), at: last + 1 })).to.deep.equal(refused("TermClosed"));
      });
    });

    describe("when the license changes its operator or road", () => {
      it("counts until the change is in force, and then says WrongRoad or WrongOperator", async () => {
        const rival = await addRival();
        for (const [operatorId, onVoucherRoad, status] of [
          [1, false, "WrongRoad"],
          [rival, true, "WrongOperator"],
        ] as const) {
          const snapshot = await takeSnapshot();
          await owner.changeService(FREE, operatorId, onVoucherRoad);
          const readyAt = (await time.latest()) + WAIT;
          expect(await claim({}, { at: readyAt })).to.deep.equal(paid(10));
          await escrow.applyServiceChange(FREE);
          expect(await claim({ spent: usd(11) })).to.deep.equal(refused(status));
          await snapshot.restore();
        }
      });

      it("lets the next operator go on where the last one ended, by vouchers of its own", async () => {
        const rival = await addRival();
        await claim();
        await owner.changeService(FREE, rival, true);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(FREE);
        const toRival = { operatorId: rival };
        expect(await claim({ ...toRival, spent: usd(10) }, toRival)).to.deep.equal(refused("NothingDue"));
        expect(await claim({ ...toRival, spent: usd(12) }, toRival)).to.deep.equal(paid(2));
        expect(await escrow.operatorIncomeOf(rival)).to.deep.equal([usd(1.38), 0n]);
      });

      it("is charged by one road at a time: a batch says WrongRoad where a voucher counts, and the other way round", async () => {
        const batched = async () => {
          await time.increase(HOUR);
          const { header, entries } = await batchOf(market, [worth(FREE, 5)]);
          const transaction = await escrow.settle(header, entries, proofBy(await escrow.batchIdOf(header)));
          const receipt = await transaction.wait();
          const logs = receipt!.logs.map((log) => escrow.interface.parseLog(log));
          const { outcomes } = logs.find((log) => log?.name === "BatchSettled")!.args;
          return unpackOutcomes(outcomes).map(({ charged, status }) => ({ charged, status }));
        };
        expect(await batched()).to.deep.equal([refused("WrongRoad")]);
        expect(await claim()).to.deep.equal(paid(10));
        await owner.changeService(FREE, 1, false);
        await time.increase(WAIT + 1);
        await escrow.applyServiceChange(FREE);
        expect(await claim({ spent: usd(20) })).to.deep.equal(refused("WrongRoad"));
        expect(await batched()).to.deep.equal([paid(5)]);
        expect((await accountOf(FREE)).spent).to.equal(usd(15));
      });
    });
  });

  describe("previewVouchers", () => {
    it("stores nothing, sent as a transaction, too", async () => {
      const packed = packVouchers([await sign()]);
      const before = await accountOf(FREE);
      expect((await escrow.previewVouchers(1, 1, packed)).charged).to.equal(usd(10));
      const preview = await escrow.previewVouchers.populateTransaction(1, 1, packed);
      await (await market.outsider.sendTransaction(preview)).wait();
      expect(await accountOf(FREE)).to.deep.equal(before);
    });
  });

  describe("a sale of a license on the voucher road", () => {
    const licenseId = SELLABLE;
    const buyer = () => market.licet.escrow.connect(market.outsider);

    it("makes all that its former owner's keys signed void, from the buyer's unlock on", async () => {
      const stoppedAt = await sell(licenseId);
      expect(await claim({ licenseId })).to.deep.equal(refused("Stopped"));
      await expect(buyer().unlock(licenseId))
        .to.emit(escrow, "GenerationRaised")
        .withArgs(licenseId, 1, stoppedAt + WAIT);
      expect(await claim({ licenseId })).to.deep.equal(refused("GenerationEnded"));
      expect(await claim({ licenseId, generation: 1 })).to.deep.equal(refused("KeyUnknown"));
      expect((await keyOf(KEY, licenseId)).status).to.equal(VoucherKeyStatus.Ended);
      await buyer().addVoucherKey(licenseId, bytesOf(STRANGER), usd(20));
      expect(await claim({ licenseId, generation: 1 }, { key: STRANGER })).to.deep.equal(paid(10));
    });

    it("takes the keys from the former owner", async () => {
      await sell(licenseId);
      await buyer().unlock(licenseId);
      const args = [licenseId, market.licensee.address] as const;
      await expectRefused(owner.addVoucherKey(licenseId, bytesOf(KEY), 1), "CallerNotOwner", args);
      await expectRefused(owner.revokeVoucherKey(licenseId, bytesOf(KEY)), "CallerNotOwner", args);
    });

    it("isn't outlived by a key whose generation the seller raised while it was locked", async () => {
      await sell(licenseId, () => owner.raiseGeneration(licenseId));
      await buyer().unlock(licenseId);
      expect((await accountOf(licenseId)).generation).to.equal(2);
      for (const generation of [0, 1]) {
        expect(await claim({ licenseId, generation })).to.deep.equal(refused("GenerationEnded"));
      }
      expect((await keyOf(KEY, licenseId)).status).to.equal(VoucherKeyStatus.Ended);
    });

    it("isn't outlived by one whose generation the buyer itself raised before it unlocked", async () => {
      await sell(licenseId);
      await buyer().raiseGeneration(licenseId);
      await buyer().unlock(licenseId);
      expect(await claim({ licenseId })).to.deep.equal(refused("GenerationEnded"));
    });

    it("isn't outlived by one that was revoked, or whose generation was raised, just before the lock", async () => {
      await owner.addVoucherKey(licenseId, bytesOf(STRANGER), KEY_CAP);
      await owner.revokeVoucherKey(licenseId, bytesOf(STRANGER));
      await owner.raiseGeneration(licenseId);
      await sell(licenseId);
      await buyer().unlock(licenseId);
      for (const key of [KEY, STRANGER]) {
        expect(await claim({ licenseId }, { key })).to.deep.equal(refused("GenerationEnded"));
      }
    });

    it("leaves the last generation to the buyer: a license that is in it can't be locked again", async () => {
      // 65,534 calls later: the account's word is written as it would be.
      const generations = 65_534;
      const { slot, word } = await accountWord(market, licenseId);
      await setStorageAt(domain.verifyingContract, slot, toBeHex(word | (BigInt(generations) << 232n), 32));
      await expectRefused(owner.raiseGeneration(licenseId), "GenerationExhausted", [licenseId]);
      await sell(licenseId);
      await buyer().unlock(licenseId);
      expect((await accountOf(licenseId)).generation).to.equal(generations + 1);
      await expectRefused(buyer().lock(licenseId), "GenerationExhausted", [licenseId]);
      await expectRefused(buyer().raiseGeneration(licenseId), "GenerationExhausted", [licenseId]);
    });
  });

  describe("what a licensee has used and signed", () => {
    /** What the operator was given and hasn't posted: 100 USD. */
    const due = (licenseId = FREE) => sign({ licenseId, spent: usd(100) });
    const expectDue = async (voucher: SignedVoucher, posting: Posting = {}) =>
      expect(await claimAll([voucher], posting)).to.deep.equal([paid(100)]);
    /** A wait after what the licensee does now, to the second. */
    const afterWait = async () => ({ at: (await time.latest()) + WAIT });

    it("can't be unsaid by revoking the key", async () => {
      const voucher = await due();
      await owner.revokeVoucherKey(FREE, bytesOf(KEY));
      await expectDue(voucher, await afterWait());
    });

    it("can't be unsaid by raising the generation, once or often, with the key revoked or not", async () => {
      const voucher = await due();
      await owner.revokeVoucherKey(FREE, bytesOf(KEY));
      for (let i = 0; i < 3; i += 1) await owner.raiseGeneration(FREE);
      await expectDue(voucher, { at: Number((await keyOf(KEY)).endsAt) });
    });

    it("can't be unsaid by adding the key again with a lower cap", async () => {
      const voucher = await due();
      await expectRefused(owner.addVoucherKey(FREE, bytesOf(KEY), 1), "VoucherCapNotRaised", [1, KEY_CAP]);
      await owner.revokeVoucherKey(FREE, bytesOf(KEY));
      await expectRefused(owner.addVoucherKey(FREE, bytesOf(KEY), 1), "VoucherKeyRevoked", [FREE, bytesOf(KEY)]);
      await owner.raiseGeneration(FREE);
      await owner.addVoucherKey(FREE, bytesOf(KEY), 1);
      await expectDue(voucher);
    });

    it("can't be unsaid by a smaller voucher, or by another key's", async () => {
      const voucher = await due();
      await owner.addVoucherKey(FREE, bytesOf(STRANGER), usd(1));
      const posting = { by: market.licensee };
      expect(await claim({ spent: 1n }, posting)).to.deep.equal({ charged: 1n, status: "Charged" });
      await claim({ spent: usd(1) }, { ...posting, key: STRANGER });
      expect(await claimAll([voucher])).to.deep.equal([paid(99)]);
    });

    it("can't be unsaid by lowering the cap", async () => {
      const voucher = await due();
      await owner.setCap(FREE, 1);
      await expectDue(voucher, await afterWait());
    });

    it("can't be unsaid by another operator or road", async () => {
      const voucher = await due();
      await owner.changeService(FREE, 1, false);
      await expectDue(voucher, await afterWait());
    });

    it("can't be unsaid by taking the money out", async () => {
      const voucher = await due();
      await owner.thaw(FREE, FUNDS);
      await expectDue(voucher, await afterWait());
      await expect(owner.withdraw(FREE, market.licensee)).to.changeTokenBalance(
        market.licet.currency,
        market.licensee,
        usd(200),
      );
    });

    it("can't be unsaid by a lock, an unlock, or a lock that sells the license to itself", async () => {
      const voucher = await due(SELLABLE);
      await owner.lock(SELLABLE);
      await owner.unlock(SELLABLE);
      await owner.lock(SELLABLE);
      await owner.raiseGeneration(SELLABLE);
      const { stoppedAt } = await accountOf(SELLABLE);
      await expectRefused(owner.addVoucherKey(SELLABLE, bytesOf(KEY), 1), "LicenseStatusUnfit", [
        SELLABLE,
        LicenseStatus.Locked,
      ]);
      await expect(
        market.licet.licenses.connect(market.licensee).transferFrom(market.licensee, market.outsider, SELLABLE),
      ).to.be.revertedWithCustomError(market.licet.licenses, "LicenseNotMovable");
      const { endsAt } = await keyOf(KEY, SELLABLE);
      expect(Number(stoppedAt) + WAIT - Number(endsAt)).to.be.lessThanOrEqual(STOP_GRACE);
      await expectDue(voucher, { at: Number(endsAt) });
    });

    it("can't be unsaid by an end", async () => {
      const voucher = await due();
      await owner.end(FREE);
      await owner.thaw(FREE, FUNDS);
      await expectDue(voucher, await afterWait());
    });

    it("can't be unsaid by a voucher of its own for the next term, however small", async () => {
      const voucher = await due();
      const expiresAt = await expiryOf(FREE);
      const tiny = await sign({ term: 1, spent: 1n });
      const posting = { by: market.licensee };
      expect(await claimAll([tiny], { ...posting, at: expiresAt })).to.deep.equal([refused("TermNotRunning")]);
      expect(await claimAll([tiny], { ...posting, at: expiresAt + WAIT - 1 })).to.deep.equal([
        refused("TermNotRunning"),
      ]);
      await expectDue(voucher, { at: expiresAt + WAIT });
    });

    it("can't be unsaid by such a voucher where nothing was used in the terms before", async () => {
      // The account is still in term 0. What was used in term 2 is due, and term 3 has just begun.
      const startsAt = (await expiryOf(FREE)) + 2 * TERM;
      const [voucher, tiny] = [await sign({ term: 2, spent: usd(100) }), await sign({ term: 3, spent: 1n })];
      const posting = { by: market.licensee };
      expect(await claimAll([tiny], { ...posting, at: startsAt })).to.deep.equal([refused("TermNotRunning")]);
      expect(await claimAll([tiny], { ...posting, at: startsAt + WAIT - 1 })).to.deep.equal([
        refused("TermNotRunning"),
      ]);
      await expectDue(voucher, { ...byOperator(), at: startsAt + WAIT });
    });

    it("can't be unsaid by renewing, or by closing the term", async () => {
      const voucher = await due(COMMITTED);
      const expiresAt = await expiryOf(COMMITTED);
      await time.increaseTo(expiresAt);
      await owner.renew(COMMITTED);
      await time.setNextBlockTimestamp(expiresAt + WAIT - 1);
      await expectRefused(owner.closeTerm(COMMITTED), "TermOpen", [COMMITTED, expiresAt + WAIT]);
      await expectDue(voucher, { at: expiresAt + WAIT });
    });

    it("can't be unsaid by not renewing, or by renewing late", async () => {
      const voucher = await due(COMMITTED);
      const expiresAt = await expiryOf(COMMITTED);
      await owner.setRenewal(COMMITTED, false);
      await owner.setRenewal(COMMITTED, true);
      await time.increaseTo(expiresAt + WAIT - 60);
      await owner.renew(COMMITTED);
      await expectDue(voucher, { at: expiresAt + WAIT });
    });

    it("is posted by anybody just as by the operator, who gets it", async () => {
      const voucher = await due();
      await expectDue(voucher, { by: market.payees[0] });
      expect(await escrow.operatorIncomeOf(1)).to.deep.equal([usd(69), 0n]);
    });
  });

  describe("random vouchers", () => {
    const LOW = new Wallet(id("low key"));
    const licenseIds = [FREE, OTHER, COMMITTED, SELLABLE, FRUGAL, NONE];
    const anyOf = <T>(...values: T[]) => fc.constantFrom(...values);
    const anyVoucher = fc.record({
      licenseId: anyOf(...licenseIds),
      generation: anyOf(0, 0, 0, 1, 2),
      term: anyOf(0, 0, 0, 1, 1, 2),
      spent: fc.oneof(fc.bigInt({ min: 0n, max: usd(50) }), fc.bigInt({ min: 0n, max: usd(400) })),
    });
    const anyKey = anyOf<Key>(KEY, KEY, KEY, LOW, STRANGER, P256.privateKey);
    const anyMix = fc
      .array(fc.tuple(anyVoucher, anyKey), { minLength: 1, maxLength: 8 })
      .map((mix) => mix.sort(([a], [b]) => Number(a.licenseId - b.licenseId)));

    type Books = Record<"balance" | "spent" | "term" | "endedSpent", bigint>;
    const booksOf = async (licenseId: bigint): Promise<Books> => {
      const { balance, spent, term, endedSpent } = await escrow.accountOf(licenseId);
      return { balance, spent, term, endedSpent };
    };
    const incomes = async () => {
      const { earnings, forPool } = await escrow.operatorIncomeOf(1);
      return [earnings, forPool, await escrow.assetIncomeOf(1), await escrow.protocolFees()];
    };
    /** The account as the log alone tells it. */
    const rebuilt = (before: Books, outcomes: VoucherOutcome[]) =>
      outcomes.reduce((books, { term, charged }) => {
        if (charged === 0n) return books;
        const balance = books.balance - charged;
        if (BigInt(term) < books.term) return { ...books, balance, endedSpent: books.endedSpent + charged };
        if (BigInt(term) > books.term) return { ...books, balance, term: BigInt(term), spent: charged };
        return { ...books, balance, spent: books.spent + charged };
      }, before);

    beforeEach(async () => {
      await market.licet.staking.connect(market.operator).setCommission(1, 7_777);
      for (const licenseId of licenseIds.filter((one) => one !== NONE)) {
        await owner.addVoucherKey(licenseId, bytesOf(LOW), usd(20));
      }
      // One is in its second generation, one has a key that ends, one is locked, one has a term aside.
      await time.increaseTo((await expiryOf(COMMITTED)) - HOUR);
      await owner.raiseGeneration(OTHER);
      await owner.addVoucherKey(OTHER, bytesOf(KEY), KEY_CAP);
      await owner.revokeVoucherKey(FRUGAL, bytesOf(LOW));
      await owner.lock(SELLABLE);
      await time.increaseTo(await expiryOf(COMMITTED));
      await escrow.renew(COMMITTED);
    });

    it("are charged as the preview says, divided to the last unit, told by the log, and charged once", async () => {
      const snapshot = await takeSnapshot();
      const property = fc.asyncProperty(
        anyMix,
        anyOf(0, HOUR, WAIT - HOUR, WAIT, WAIT + HOUR, TERM),
        anyOf(1, 1, 1, 2, 3),
        fc.boolean(),
        async (mix, wait, planId, isByOperator) => {
          await snapshot.restore();
          const vouchers = await Promise.all(mix.map(([changes, key]) => sign(changes, key)));
          if (wait > 0) await time.increase(wait);
          const before = new Map(await Promise.all(licenseIds.map(async (one) => [one, await booksOf(one)] as const)));
          const [incomeBefore, owedBefore] = [await incomes(), await escrow.totalOwed()];
          const posting = { planId, by: isByOperator ? market.operator : market.outsider };

          const { charged, split, forPool, outcomes: packed } = await post(vouchers, posting);
          const outcomes = unpackVoucherOutcomes(packed);
          expect(outcomes.map(({ licenseId, term }) => [licenseId, term])).to.deep.equal(
            mix.map(([{ licenseId, term }]) => [licenseId, term]),
          );
          for (const { charged: amount, status } of outcomes) {
            if (amount > 0n) expect(status).to.be.oneOf(["Charged", "BalanceExhausted", "CapReached"]);
            if (status === "Charged") expect(amount > 0n).to.equal(true);
          }
          for (const licenseId of licenseIds) {
            const own = outcomes.filter((one) => one.licenseId === licenseId);
            expect(await booksOf(licenseId)).to.deep.equal(rebuilt(before.get(licenseId)!, own));
          }

          expect(outcomes.reduce((total, { charged: amount }) => total + amount, 0n)).to.equal(charged);
          const [fee, publisher] = [charged / 100n, (charged * 3n) / 10n];
          expect(split).to.deep.equal([charged - fee - publisher, publisher, 0n, fee, 0n]);
          expect(forPool).to.equal((split[0] * 2_223n) / 10_000n);
          const income = [split[0] - forPool, forPool, publisher, fee];
          expect(await incomes()).to.deep.equal(incomeBefore.map((amount, i) => amount + income[i]));
          expect(await escrow.totalOwed()).to.equal(owedBefore);

          expect((await post(vouchers, posting)).charged).to.equal(0);
        },
      );
      await fc.assert(property, { numRuns: 40 });
      expect(await heldBy(market)).to.deep.equal(await owedBy(market));
    });
  });
});

/** A key as the escrow knows it. */
const bytesOf = (key: Key): string => (key instanceof KeyObject ? p256KeyBytes(key) : ecdsaKeyBytes(key.address));

/** A market with licenses on the voucher road, for each of which KEY may sign. */
async function deployOnVoucherRoad(): Promise<Market> {
  const market = await deployMarket();
  const { escrow } = market.licet;
  const owner = escrow.connect(market.licensee);
  const plans = {
    committed: await addPlan(market, { minimumSpend: MINIMUM, transferable: true }),
    sellable: await addPlan(market, { transferable: true }),
    once: await addPlan(market, { renewable: false }),
    capped: await addPlan(market, { cap: usd(50) }),
    daily: await addPlan(market, { termPeriod: DAY }),
  };
  const licenseIds = [
    await buyLicense(market, FUNDS),
    await buyLicense(market, FUNDS),
    await buyLicense(market, FUNDS, { planId: plans.committed }),
    await buyLicense(market, FUNDS, { planId: plans.sellable }),
    await buyLicense(market, FUNDS, { planId: plans.once }),
    await buyLicense(market, FUNDS, { planId: plans.capped }),
    await buyLicense(market, FUNDS, { capCode: 1 }),
    await buyLicense(market, FUNDS, { planId: plans.daily }),
  ];
  for (const licenseId of licenseIds) {
    await owner.addVoucherKey(licenseId, ecdsaKeyBytes(KEY.address), KEY_CAP);
    await owner.changeService(licenseId, market.operatorId, true);
  }
  await owner.addVoucherKey(FREE, p256KeyBytes(P256.publicKey), KEY_CAP);
  await time.increase(WAIT + 1);
  for (const licenseId of licenseIds) await escrow.applyServiceChange(licenseId);
  return market;
}
