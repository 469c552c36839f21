import { takeSnapshot, time, type SnapshotRestorer } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { Result } from "ethers";
import { EntryStatus, unpackOutcomes, type EntryStatusName } from "../../oracle/protocol/entries";
import { unpackVoucherOutcomes, VoucherStatus, type VoucherStatusName } from "../../oracle/protocol/vouchers";
import { heldBy, owedBy } from "../support/books";
import { Life } from "../support/life";
import { deployMarket } from "../support/market";
import { replayOf, type Replay } from "../support/replay/replay";

const STEPS = 4_000;
const SEED = 8;

describe("a market's logs", () => {
  let snapshot: SnapshotRestorer;
  let life: Life;
  let replay: Replay;
  let now: bigint;

  before(async () => {
    snapshot = await takeSnapshot();
    life = await Life.begin(await deployMarket(), SEED);
    await life.live(STEPS);
    await life.suffer();
    replay = await replayOf(life.licet);
    now = BigInt(await time.latest());
  });

  after(() => snapshot.restore());

  it("come of every kind of act, and so do refusals", () => {
    const never = (what: "done" | "refused") => Object.keys(life.tally).filter((name) => life.tally[name][what] === 0);
    expect(never("done"), "never done").to.deep.equal([]);
    expect(never("refused"), "never refused").to.have.length.below(15);
  });

  it("come of every kind that says something, and with every status that a charge may have", async () => {
    const { escrow } = life.licet;
    const batches = await escrow.queryFilter(escrow.filters.BatchSettled());
    const runs = await escrow.queryFilter(escrow.filters.VouchersSettled());
    const ofEntries = new Set(batches.flatMap(({ args }) => unpackOutcomes(args.outcomes)).map(({ status }) => status));
    const ofVouchers = new Set(
      runs.flatMap(({ args }) => unpackVoucherOutcomes(args.outcomes)).map(({ status }) => status),
    );
    expect(replay.unheard).to.deep.equal([]);
    expect(Object.keys(EntryStatus).filter((status) => !ofEntries.has(status as EntryStatusName))).to.deep.equal([]);
    expect(Object.keys(VoucherStatus).filter((status) => !ofVouchers.has(status as VoucherStatusName))).to.deep.equal(
      [],
    );
  });

  it("tell every license's account, and what waits in it", async () => {
    const { escrow, licenses } = life.licet;
    for (const id of idsTo(await licenses.licenseCount())) {
      same(await escrow.accountOf(id), replay.escrow.accountOf(id), `account of ${id}`);
      same(await escrow.upfrontOf(id), replay.escrow.upfrontOf(id), `upfront price of ${id}`);
      same(await licenses.ownerOf(id), replay.licenses.ownerOf(id), `owner of ${id}`);
      same(await licenses.movableAt(id), replay.licenses.movableAt(id), `when ${id} may be transferred`);
    }
  });

  it("tell every key that signs vouchers, in every generation", async () => {
    const { escrow } = life.licet;
    for (const { args } of await escrow.queryFilter(escrow.filters.VoucherKeyAdded())) {
      const { licenseId, generation, key } = args;
      const [, record] = await escrow.voucherKeyOf(licenseId, generation, key);
      same(record, replay.escrow.voucherKeyOf(licenseId, generation, key), `voucher key ${key} of ${licenseId}`);
    }
  });

  it("tell what was sold", async () => {
    const { licenses } = life.licet;
    for (const id of idsTo(await licenses.planCount())) {
      same(await licenses.termsOf(id), replay.licenses.termsOf(id), `terms of ${id}`);
      same(await licenses.salesOf(id), replay.licenses.salesOf(id), `sales of ${id}`);
    }
  });

  it("tell what became of every batch", async () => {
    const { escrow } = life.licet;
    for (const id of replay.escrow.batchIds()) {
      same(await escrow.batchStatusOf(id), replay.escrow.batchStatusOf(id, now), `status of ${id}`);
    }
  });

  it("tell what waits for operators, assets and the protocol, and what is owed to all", async () => {
    const { escrow, operators, assets } = life.licet;
    for (const id of idsTo(await operators.operatorCount())) {
      same(await escrow.operatorIncomeOf(id), replay.escrow.operatorIncomeOf(id), `income of operator ${id}`);
    }
    for (const id of idsTo(await assets.assetCount())) {
      same(await escrow.assetIncomeOf(id), replay.escrow.assetIncomeOf(id), `income of asset ${id}`);
    }
    for (const figure of ["protocolFees", "totalOwed", "feeBps", "depositCeiling", "pausedUntil"] as const) {
      same(await escrow[figure](), replay.escrow[figure](), figure);
    }
  });

  it("tell every pool, position and thaw, and all proceeds", async () => {
    const { staking, operators } = life.licet;
    for (const id of idsTo(await operators.operatorCount())) {
      same(await staking.poolOf(id), replay.staking.poolOf(id, now), `pool of ${id}`);
      same(await staking.commissionOf(id), replay.staking.commissionOf(id, now), `commission of ${id}`);
      for (const who of life.people.keys()) {
        same(await staking.positionOf(id, who), replay.staking.positionOf(id, who, now), `position of ${who} in ${id}`);
        same(await staking.thawsOf(id, who), replay.staking.thawsOf(id, who), `thaws of ${who} in ${id}`);
      }
    }
    for (const who of life.people.keys()) {
      same(await staking.proceedsOf(who), replay.staking.proceedsOf(who), `proceeds of ${who}`);
    }
  });

  it("tell every pot, every payee, and what anybody may claim", async () => {
    const { waterfall, assets } = life.licet;
    for (const id of idsTo(await assets.assetCount())) {
      same(await waterfall.potOf(id), replay.waterfall.potOf(id), `pot of ${id}`);
      same(await waterfall.incomeOf(id), replay.waterfall.incomeOf(id), `income of ${id}`);
      const payees = [...(await waterfall.payeesOf(id))].sort((a, b) => Number(a.payeeId - b.payeeId));
      same(payees, replay.waterfall.payeesOf(id), `payees of ${id}`);
    }
    for (const [payeeId, holder] of replay.waterfall.positions()) {
      same(await waterfall.ownerOf(payeeId), holder, `holder of ${payeeId}`);
    }
    for (const who of life.people.keys()) {
      same(await waterfall.claimableOf(who), replay.waterfall.claimableOf(who), `claimable by ${who}`);
    }
  });

  it("tell every committee, every bond, and what attestors have earned", async () => {
    const { committee } = life.licet;
    for (const number of idsTo((await committee.presentRotation()) + 1n).map((one) => one - 1n)) {
      same(await committee.rotationOf(number), replay.committee.rotationOf(number), `rotation ${number}`);
    }
    for (const { args } of await committee.queryFilter(committee.filters.BondPosted())) {
      const { signer, holder } = args;
      same(await committee.bondOf(signer, holder), replay.committee.bondOf(signer, holder), `bond for ${signer}`);
    }
    for (const who of life.people.keys()) {
      same(await committee.incomeOf(who), replay.committee.incomeOf(who), `attestor's income of ${who}`);
    }
  });

  it("account for all that the contracts hold", async () => {
    expect(await heldBy(life.market)).to.deep.equal(await owedBy(life.market));
  });
});

const idsTo = (count: bigint): bigint[] => Array.from({ length: Number(count) }, (_, i) => BigInt(i + 1));

function same(onChain: unknown, replayed: unknown, what: string): void {
  expect(plain(onChain), what).to.deep.equal(plain(replayed));
}

/** Without ethers' wrapping: structs as objects of their fields, lists as lists. */
function plain(value: unknown): unknown {
  if (value instanceof Result) return plain(isStruct(value) ? value.toObject() : value.toArray());
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
}

/** Whether all of its parts have names. */
function isStruct(result: Result): boolean {
  try {
    return result.length > 0 && !("_" in result.toObject());
  } catch {
    return false;
  }
}
