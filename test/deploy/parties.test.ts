import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, toBeHex, ZeroAddress, ZeroHash, type Signer } from "ethers";
import hre from "hardhat";
import { OPEN, RESTRICTED, type RoleName } from "../../deploy/roles";
import { ANSWERED, callerOf, COURT_CALLS, OPENED, setCourtStage, type CourtStage } from "../support/courtCalls";
import {
  addPlan,
  ANY_SHARES,
  ATTESTORS,
  batchOf,
  buyLicense,
  creditAsset,
  DAY,
  deployMarket,
  entryOf,
  planTerms,
  proofBy,
  purchaseOf,
  registration,
  settle,
  signOffer,
  signPayment,
  usd,
  WAIT,
  worth,
  type Market,
} from "../support/market";

const KEY = "0x00000000000000000000000000000000000000A1";

/** A market in which everything that anybody may do is due, but for what time alone brings. */
interface Ready {
  market: Market;
  /** Of a plan with a minimum and an upfront price, whose term is over. */
  lapsed: bigint;
  /** With a lower cap and another road announced, and money that has thawed. */
  waiting: bigint;
  /** Locked, and movable. */
  movable: bigint;
  /** Batches: held and releasable, and released. */
  held: string;
  released: string;
}

interface Party {
  /** Who may; everybody else is refused. */
  who: string;
  act: (ready: Ready, by: Signer) => Promise<unknown>;
  /** With which error a stranger is refused, and its arguments; none where a stranger may. */
  refusal?: { error: string; args: (ready: Ready, caller: string) => unknown[] };
}

/** A plan that nobody has offered yet. */
async function offerOf({ assetId, licet }: Market) {
  const terms = planTerms(assetId, await licet.committee.getAddress());
  return { terms, buyer: KEY, salt: 1, deadline: 2n ** 40n };
}

const anybody = (act: Party["act"]): Party => ({ who: "anybody", act });
const only =
  (who: string, error: string, args: (ready: Ready, caller: string) => unknown[]) =>
  (act: Party["act"]): Party => ({ who, act, refusal: { error, args } });

const publisherOnly = only("the model's owner, or whom it approved", "CallerNotAssetOwner", (_, by) => [1, by]);
const operatorOnly = only("the operator's owner", "CallerNotOperator", (_, by) => [1, by]);
const ownerOf = (license: "lapsed" | "waiting" | "movable") =>
  only("the license's owner", "CallerNotOwner", (ready, by) => [ready[license], by]);
const earnerOnly = (error: string) => only("who has earned something", error, (_, by) => [by]);
const MEMBER = ATTESTORS[0].address.toLowerCase();
const bondHolderOnly = only("who posted the bond", "BondNone", (_, by) => [MEMBER, by]);
const tokenOwnerOnly = (error: string, args: (ready: Ready, caller: string) => unknown[]) =>
  only("the token's owner, or whom it approved", error, args);

/** Every function that no role guards: who may call it, and what a stranger is told. */
const PARTIES: Record<string, Record<string, Party>> = {
  AssetRegistry: {
    register: anybody(({ market }, by) =>
      market.licet.assets.connect(by).register(registration({ uri: "ipfs://another" }), []),
    ),
    describe: publisherOnly(({ market }, by) => market.licet.assets.connect(by).describe(1, "ipfs://new")),
    setPolicy: publisherOnly(({ market }, by) => market.licet.assets.connect(by).setPolicy(1, 0, 0)),
    setRoyaltyReceiver: only("who receives the royalty", "CallerNotRoyaltyReceiver", (_, by) => [1, by])(
      ({ market }, by) => market.licet.assets.connect(by).setRoyaltyReceiver(1, KEY),
    ),
    withdrawDerivation: publisherOnly(({ market }, by) =>
      market.licet.assets
        .connect(by)
        .withdrawDerivation({ parentId: 1, registrant: KEY, relation: 0, incomeBps: 0, salt: 0, deadline: 1 }),
    ),
    publish: publisherOnly(({ market }, by) =>
      market.licet.assets.connect(by).publish(1, id("x"), ZeroHash, ZeroAddress, "", ""),
    ),
    recall: publisherOnly(({ market }, by) => market.licet.assets.connect(by).recall(market.versionId)),
    approve: tokenOwnerOnly("ERC721InvalidApprover", (_, by) => [by])(({ market }, by) =>
      market.licet.assets.connect(by).approve(KEY, 1),
    ),
    setApprovalForAll: anybody(({ market }, by) => market.licet.assets.connect(by).setApprovalForAll(KEY, true)),
    transferFrom: tokenOwnerOnly("ERC721InsufficientApproval", (_, by) => [by, 1])(({ market }, by) =>
      market.licet.assets.connect(by).transferFrom(market.publisher, KEY, 1),
    ),
    safeTransferFrom: tokenOwnerOnly("ERC721InsufficientApproval", (_, by) => [by, 1])(({ market }, by) =>
      market.licet.assets.connect(by)["safeTransferFrom(address,address,uint256)"](market.publisher, KEY, 1),
    ),
  },
  LicenseRegistry: {
    createPlan: only("the model's owner, or whom it approved", "CallerNotPublisher", (_, by) => [1, by])(
      async ({ market }, by) =>
        market.licet.licenses.connect(by).createPlan(planTerms(1, await market.licet.committee.getAddress())),
    ),
    acceptOffer: anybody(async ({ market }, by) => {
      const offer = await offerOf(market);
      return market.licet.licenses.connect(by).acceptOffer(offer, await signOffer(market, offer));
    }),
    withdrawOffer: only("the model's owner, or whom it approved", "CallerNotPublisher", (_, by) => [1, by])(
      async ({ market }, by) => market.licet.licenses.connect(by).withdrawOffer(await offerOf(market)),
    ),
    closePlan: only("the model's owner, or whom it approved", "CallerNotPublisher", (_, by) => [1, by])(
      ({ market }, by) => market.licet.licenses.connect(by).closePlan(1),
    ),
    approve: tokenOwnerOnly("ERC721InvalidApprover", (_, by) => [by])(({ market, movable }, by) =>
      market.licet.licenses.connect(by).approve(KEY, movable),
    ),
    setApprovalForAll: anybody(({ market }, by) => market.licet.licenses.connect(by).setApprovalForAll(KEY, true)),
    transferFrom: tokenOwnerOnly("ERC721InsufficientApproval", ({ movable }, by) => [by, movable])(
      ({ market, movable }, by) => market.licet.licenses.connect(by).transferFrom(market.licensee, KEY, movable),
    ),
    safeTransferFrom: tokenOwnerOnly("ERC721InsufficientApproval", ({ movable }, by) => [by, movable])(
      ({ market, movable }, by) =>
        market.licet.licenses.connect(by)["safeTransferFrom(address,address,uint256)"](market.licensee, KEY, movable),
    ),
  },
  OperatorRegistry: {
    register: anybody(({ market }, by) => market.licet.operators.connect(by).register("http://another", "")),
    describe: operatorOnly(({ market }, by) =>
      market.licet.operators.connect(by).describe(1, "http://x", "", ZeroHash),
    ),
    addKey: operatorOnly(({ market }, by) => market.licet.operators.connect(by).addKey(1, KEY, 2n ** 40n - 1n)),
    revokeKey: operatorOnly(({ market }, by) => market.licet.operators.connect(by).revokeKey(1, ATTESTORS[0].address)),
    setServed: operatorOnly(({ market }, by) => market.licet.operators.connect(by).setServed(1, 1, false)),
  },
  PerformanceStaking: {
    addStake: anybody(({ market }, by) => market.licet.staking.connect(by).addStake(1, 1, ...ANY_SHARES)),
    thaw: only("who holds shares", "SharesAbovePosition", () => [1, 1, 0])(({ market }, by) =>
      market.licet.staking.connect(by).thaw(1, 1),
    ),
    unthaw: only("who holds shares that thaw", "ThawEmpty", (_, by) => [1, by])(({ market }, by) =>
      market.licet.staking.connect(by).unthaw(1),
    ),
    setCommission: operatorOnly(({ market }, by) => market.licet.staking.connect(by).setCommission(1, 1)),
    withdraw: only("who holds shares that thawed", "ThawEmpty", (_, by) => [1, by])(({ market }, by) =>
      market.licet.staking.connect(by).withdraw(1, by),
    ),
    withdrawProceeds: earnerOnly("ProceedsEmpty")(({ market }, by) =>
      market.licet.staking.connect(by).withdrawProceeds(by),
    ),
  },
  RevenueWaterfall: {
    addPayee: publisherOnly(({ market }, by) => market.licet.waterfall.connect(by).addPayee(1, KEY, 1)),
    giveUp: tokenOwnerOnly("ERC721InsufficientApproval", (_, by) => [by, 1])(({ market }, by) =>
      market.licet.waterfall.connect(by).giveUp(1),
    ),
    distribute: anybody(({ market }, by) => market.licet.waterfall.connect(by).distribute(1)),
    withdraw: earnerOnly("IncomeEmpty")(({ market }, by) => market.licet.waterfall.connect(by).withdraw(by)),
    approve: tokenOwnerOnly("ERC721InvalidApprover", (_, by) => [by])(({ market }, by) =>
      market.licet.waterfall.connect(by).approve(KEY, 1),
    ),
    setApprovalForAll: anybody(({ market }, by) => market.licet.waterfall.connect(by).setApprovalForAll(KEY, true)),
    transferFrom: tokenOwnerOnly("ERC721InsufficientApproval", (_, by) => [by, 1])(({ market }, by) =>
      market.licet.waterfall.connect(by).transferFrom(market.publisher, KEY, 1),
    ),
    safeTransferFrom: tokenOwnerOnly("ERC721InsufficientApproval", (_, by) => [by, 1])(({ market }, by) =>
      market.licet.waterfall.connect(by)["safeTransferFrom(address,address,uint256)"](market.publisher, KEY, 1),
    ),
  },
  UsageEscrow: {
    buy: anybody(({ market }, by) => market.licet.escrow.connect(by).buy(purchaseOf(market, { to: KEY }))),
    buyWithPermit: anybody(({ market }, by) =>
      market.licet.escrow.connect(by).buyWithPermit(purchaseOf(market, { to: KEY }), 27, id("r"), id("s")),
    ),
    buyWithAuthorization: anybody(async ({ market }, by) => {
      const { escrow } = market.licet;
      const purchase = purchaseOf(market, { amount: 1n });
      const payment = await signPayment(market, 1n, (salt) => escrow.purchaseHash(purchase, salt));
      return escrow.connect(by).buyWithAuthorization(purchase, payment);
    }),
    depositWithAuthorization: anybody(async ({ market, waiting }, by) => {
      const { escrow } = market.licet;
      const owner = await market.licet.licenses.ownerOf(waiting);
      const payment = await signPayment(market, 1n, (salt) => escrow.depositHash(waiting, owner, 1, salt));
      return escrow.connect(by).depositWithAuthorization(waiting, 1, payment);
    }),
    deposit: anybody(({ market, waiting }, by) => market.licet.escrow.connect(by).deposit(waiting, 1)),
    depositWithPermit: anybody(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).depositWithPermit(waiting, 1, 0, 27, id("r"), id("s")),
    ),
    releaseUpfront: anybody(({ market, lapsed }, by) => market.licet.escrow.connect(by).releaseUpfront(lapsed)),
    setCap: ownerOf("waiting")(({ market, waiting }, by) => market.licet.escrow.connect(by).setCap(waiting, 1)),
    applyCapCut: anybody(({ market, waiting }, by) => market.licet.escrow.connect(by).applyCapCut(waiting)),
    changeService: ownerOf("waiting")(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).changeService(waiting, 1, false),
    ),
    applyServiceChange: anybody(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).applyServiceChange(waiting),
    ),
    changePlan: ownerOf("waiting")(({ market, waiting }, by) => market.licet.escrow.connect(by).changePlan(waiting, 1)),
    setRenewal: ownerOf("lapsed")(({ market, lapsed }, by) =>
      market.licet.escrow.connect(by).setRenewal(lapsed, false),
    ),
    lock: ownerOf("lapsed")(({ market, lapsed }, by) => market.licet.escrow.connect(by).lock(lapsed)),
    unlock: ownerOf("movable")(({ market, movable }, by) => market.licet.escrow.connect(by).unlock(movable)),
    end: ownerOf("waiting")(({ market, waiting }, by) => market.licet.escrow.connect(by).end(waiting)),
    raiseGeneration: ownerOf("waiting")(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).raiseGeneration(waiting),
    ),
    thaw: ownerOf("waiting")(({ market, waiting }, by) => market.licet.escrow.connect(by).thaw(waiting, 1)),
    withdraw: ownerOf("waiting")(({ market, waiting }, by) => market.licet.escrow.connect(by).withdraw(waiting, by)),
    renew: anybody(({ market, lapsed }, by) => market.licet.escrow.connect(by).renew(lapsed)),
    closeTerm: anybody(async ({ market, lapsed }, by) => {
      await time.increase(WAIT);
      return market.licet.escrow.connect(by).closeTerm(lapsed);
    }),
    addVoucherKey: ownerOf("waiting")(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).addVoucherKey(waiting, KEY, usd(5)),
    ),
    revokeVoucherKey: ownerOf("waiting")(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).revokeVoucherKey(waiting, ATTESTORS[0].address),
    ),
    settleVouchers: anybody(({ market, waiting }, by) =>
      market.licet.escrow.connect(by).settleVouchers(1, 1, `0x00${toBeHex(waiting, 8).slice(2)}${"00".repeat(75)}`),
    ),
    settle: anybody(({ market, waiting }, by) => settle(market, [entryOf(waiting)], {}, by)),
    release: anybody(({ market, held }, by) => market.licet.escrow.connect(by).release(held)),
    collectAttestorShare: only("the plan's attestor", "CallerNotAttestor", ({ released }, by) => [released, by])(
      ({ market, released }, by) => market.licet.escrow.connect(by).collectAttestorShare(released),
    ),
    payPool: anybody(({ market }, by) => market.licet.escrow.connect(by).payPool(1)),
    payAsset: anybody(({ market }, by) => market.licet.escrow.connect(by).payAsset(1)),
    withdrawEarnings: operatorOnly(({ market }, by) => market.licet.escrow.connect(by).withdrawEarnings(1, by)),
    withdrawFees: anybody(({ market }, by) => market.licet.escrow.connect(by).withdrawFees()),
  },
  CommitteeAttestor: {
    rotate: {
      who: "anybody with the committee's signatures",
      act: async ({ market }, by) => {
        const { committee } = market.licet;
        const members = ATTESTORS.map(({ address }) => ({ signer: address, weight: 1, payee: KEY }));
        const deadline = 2n ** 40n;
        const isTheirs = (await by.getAddress()) === market.outsider.address;
        const digest = await committee.rotationHash(members, 2, deadline);
        const proof = proofBy(digest, ATTESTORS.slice(0, isTheirs ? 1 : 2));
        return committee.connect(by).rotate(members, 2, deadline, proof);
      },
      refusal: { error: "RotationNotSigned", args: () => [] },
    },
    postBond: anybody(async ({ market: { licet } }, by) => {
      await licet.currency.mint(by, usd(1_000));
      await licet.currency.connect(by).approve(licet.committee, usd(1_000));
      return licet.committee.connect(by).postBond(KEY, 1);
    }),
    thawBond: bondHolderOnly(({ market }, by) => market.licet.committee.connect(by).thawBond(MEMBER)),
    withdrawBond: bondHolderOnly(({ market }, by) => market.licet.committee.connect(by).withdrawBond(MEMBER, by)),
    reportEquivocation: anybody(async ({ market, waiting }, by) => {
      const { committee, escrow } = market.licet;
      const { header: first } = await batchOf(market, [entryOf(waiting)]);
      const second = { ...first, root: id("another root") };
      const sign = async (header: typeof first) =>
        ATTESTORS[0].signingKey.sign(await escrow.batchIdOf(header)).serialized;
      return committee
        .connect(by)
        .reportEquivocation(MEMBER, market.payees[0], first, await sign(first), second, await sign(second));
    }),
    shareIncome: anybody(({ market, released }, by) => market.licet.committee.connect(by).shareIncome(released)),
    withdraw: earnerOnly("IncomeEmpty")(({ market }, by) => market.licet.committee.connect(by).withdraw(by)),
  },
};

interface Desk {
  /** Which function of UsageEscrow each of the library's runs for. */
  runs: Record<string, string>;
  /** Whose functions these are; anybody's, if it isn't named. */
  role?: RoleName;
  views: string[];
}

const BATCH_DESK: Desk = {
  runs: { settle: "settle", release: "release", takeAttestorShare: "collectAttestorShare" },
  views: ["previewSettle", "splitOf", "statusOf", "laneOf"],
};
const CHARGE_DESK: Desk = {
  runs: { freeze: "freezeCharge", refund: "refundCharge", letGo: "releaseCharge" },
  role: "COURT",
  views: ["chargeOf"],
};
const VOUCHER_DESK: Desk = {
  runs: {
    addVoucherKey: "addVoucherKey",
    revokeVoucherKey: "revokeVoucherKey",
    settleVouchers: "settleVouchers",
  },
  views: ["previewVouchers", "voucherKeyOf"],
};
const LICENSE_DESK: Record<string, string> = {
  buy: "buy",
  buyWithPermit: "buyWithPermit",
  buyWithAuthorization: "buyWithAuthorization",
  deposit: "deposit",
  depositWithPermit: "depositWithPermit",
  depositWithAuthorization: "depositWithAuthorization",
  setCap: "setCap",
  applyCapCut: "applyCapCut",
  changeService: "changeService",
  applyServiceChange: "applyServiceChange",
  lock: "lock",
  unlock: "unlock",
  end: "end",
  raiseGeneration: "raiseGeneration",
  changePlan: "changePlan",
  setRenewal: "setRenewal",
  renew: "renew",
  closeTerm: "closeTerm",
  thaw: "thaw",
  takeThawed: "withdraw",
  takeUpfront: "releaseUpfront",
};
const DESKS: Record<string, Desk> = {
  BatchDesk: BATCH_DESK,
  ChargeDesk: CHARGE_DESK,
  LicenseDesk: { runs: LICENSE_DESK, views: ["statusOf", "committedOf", "encodedAccountOf"] },
  VoucherDesk: VOUCHER_DESK,
};

describe("parties of the courts", () => {
  /** With which error a stranger is refused, and its arguments; whoever isn't here may be anybody. */
  const refusals: Record<string, (stage: CourtStage, caller: string) => [error: string, args: unknown[]]> = {
    demandSigning: ({ market }, by) => ["CallerNotOwner", [market.licenseId, by]],
    challenge: ({ market }, by) => ["CallerNotOwner", [market.licenseId, by]],
    escalate: ({ challenges }, by) => ["CallerNotChallenger", [challenges.get(ANSWERED), by]],
    answer: (_, by) => ["CallerNotOperator", [1, by]],
    showRequests: (_, by) => ["CallerNotOperator", [1, by]],
    submitEvidence: ({ challenges }, by) => ["CallerNotParty", [challenges.get(OPENED), by]],
    withdrawBonds: (_, by) => ["WithdrawalEmpty", [by]],
    withdrawFees: (_, by) => ["WithdrawalEmpty", [by]],
    rule: (_, by) => ["CallerNotArbitrator", [1, by]],
  };
  for (const [contract, calls] of Object.entries(COURT_CALLS)) {
    for (const [name, call] of Object.entries(calls)) {
      const who = name in refusals ? "one party alone" : "anybody";
      it(`${contract}.${name} is for ${who}`, async () => {
        const stage = await loadFixture(setCourtStage);
        const { outsider, licet } = stage.market;
        if (name in refusals) {
          const [error, args] = refusals[name](stage, outsider.address);
          await expect(call(stage, outsider))
            .to.be.revertedWithCustomError(licet.court, error)
            .withArgs(...args);
        }
        await call(stage, await callerOf(name, stage.market));
      });
    }
  }
});

describe("parties", () => {
  let ready: Ready;

  beforeEach(async () => {
    ready = await loadFixture(deployReady);
  });

  it("are told for every open function, and for none that doesn't exist", () => {
    const told: Record<string, object> = { ...PARTIES, ...COURT_CALLS };
    for (const [contract, names] of Object.entries(OPEN)) {
      expect(Object.keys(told[contract] ?? {}).sort(), contract).to.deep.equal([...names].sort());
    }
    expect(Object.keys(told).sort()).to.deep.equal(Object.keys(OPEN).sort());
  });

  for (const [contract, functions] of Object.entries(PARTIES)) {
    describe(contract, () => {
      for (const [name, { who, act, refusal }] of Object.entries(functions)) {
        it(`${name} is for ${who}`, async () => {
          const { outsider, licet } = ready.market;
          if (refusal === undefined) return act(ready, outsider);
          const target = {
            AssetRegistry: licet.assets,
            LicenseRegistry: licet.licenses,
            OperatorRegistry: licet.operators,
            PerformanceStaking: licet.staking,
            RevenueWaterfall: licet.waterfall,
            UsageEscrow: licet.escrow,
            CommitteeAttestor: licet.committee,
          }[contract]!;
          const refused = expect(act(ready, outsider)).to.be.revertedWithCustomError(
            target as typeof licet.escrow,
            refusal.error as "CallerNotOwner",
          );
          const args = refusal.args(ready, outsider.address);
          await (args.length > 0 ? refused.withArgs(...(args as [bigint, string])) : refused);
        });
      }
    });
  }

  for (const [desk, { runs, role, views }] of Object.entries(DESKS)) {
    describe(desk, () => {
      const signatures = async (): Promise<Record<string, string>> => {
        const name = `contracts/libraries/${desk}.sol`;
        const info = await hre.artifacts.getBuildInfo(`${name}:${desk}`);
        return info!.output.contracts[name][desk].evm.methodIdentifiers;
      };
      const nameOf = (signature: string) => signature.slice(0, signature.indexOf("("));

      it(`has no function but those that UsageEscrow's ${role ?? "open"} ones run, and views`, async () => {
        const names = Object.keys(await signatures()).map(nameOf);
        expect(names.sort()).to.deep.equal([...Object.keys(runs), ...views].sort());
        const open = role === undefined ? OPEN.UsageEscrow : [];
        const restricted = RESTRICTED.filter((row) => row.contract === "UsageEscrow" && row.role === role);
        const allowed = [...open, ...restricted.flatMap(({ functions }) => functions.map(nameOf))];
        expect(allowed).to.include.members(Object.values(runs));
      });

      it("refuses every call that isn't UsageEscrow's own: there is nothing in it to change, nor to take", async () => {
        const library = await hre.ethers.deployContract(desk);
        for (const [signature, selector] of Object.entries(await signatures())) {
          if (views.includes(nameOf(signature))) continue;
          const data = `0x${selector}${"01".padStart(64, "0").repeat(40)}`;
          await expect(ready.market.outsider.sendTransaction({ to: await library.getAddress(), data }), signature).to.be
            .reverted;
        }
        expect(await hre.ethers.provider.getBalance(library)).to.equal(0);
      });
    });
  }
});

async function deployReady(): Promise<Ready> {
  const market = await deployMarket();
  const { escrow, staking, currency, operators } = market.licet;
  const owner = escrow.connect(market.licensee);
  const withMinimum = await addPlan(market, { minimumSpend: usd(10), upfrontPrice: usd(1), transferable: true });
  const transferable = await addPlan(market, { transferable: true });
  const lapsed = await buyLicense(market, usd(50), { planId: withMinimum });
  const waiting = await buyLicense(market, usd(50));
  const movable = await buyLicense(market, usd(50), { planId: transferable });
  await operators.connect(market.operator).addKey(1, ATTESTORS[0].address, 2n ** 40n - 1n);
  await currency.mint(market.outsider, usd(10));
  for (const payee of [escrow, staking]) await currency.connect(market.outsider).approve(payee, usd(10));

  await owner.setCap(waiting, 200);
  await owner.changeService(waiting, 1, true);
  await owner.thaw(waiting, usd(5));
  await owner.lock(movable);
  const { expiresAt } = await escrow.accountOf(lapsed);
  await time.increaseTo(expiresAt - BigInt(4 * DAY));
  const released = (await settle(market, [worth(waiting, 5)])).batchId;
  const held = (await settle(market, [worth(waiting, 5)])).batchId;
  await time.increaseTo(expiresAt);
  await escrow.release(released);
  await market.licet.waterfall.connect(market.publisher).addPayee(1, market.publisher, 1_000);
  await creditAsset(market, 1, usd(1));
  return { market, lapsed, waiting, movable, held, released };
}
