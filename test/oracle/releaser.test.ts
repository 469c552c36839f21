import { expect } from "chai";
import { ZeroHash } from "ethers";
import { createLog } from "../../oracle/log";
import { zeroUsage } from "../../oracle/protocol/meters";
import type { EconomyConfig } from "../../oracle/settler/economy";
import { Releaser } from "../../oracle/settler/releaser";
import type { Hold } from "../../oracle/settler/sender";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";
import type { StubChain } from "../support/stubChain";
import { StubEscrow } from "../support/stubEscrow";
import { EPOCH, LANE, stubMarket } from "../support/stubMarket";

const BATCHES = [1n, 2n].map((n) => `0x${"0".repeat(63)}${n}`);
/** A coin is worth a unit of the currency, of 6 decimals: so many units are the gas of a release at 10^13 wei. */
const ECONOMY: EconomyConfig = { gasTokenPrice: 10n ** 8n, minValueToGas: 10 };
const GAS_PRICE = 10n ** 13n;
const GAS_UNITS = 1_000_000n;

describeOnEach("Releaser", (placeOf) => {
  let place: Place;
  let chain: StubChain;
  let store: Store;
  let escrow: StubEscrow;
  let lines: string[];

  beforeEach(async () => {
    chain = stubMarket();
    place = placeOf();
    store = new Store(await place.open());
    escrow = new StubEscrow(chain);
    lines = [];
    for (const [i, batchId] of BATCHES.entries()) {
      await settled(batchId, BigInt(i + 1));
      hold(batchId, { status: "Held", releasableAt: chain.time + 100 * (i + 1) });
    }
  });

  afterEach(async () => {
    await store.close();
    place.remove();
  });

  async function settled(batchId: string, sequence: bigint): Promise<void> {
    const service = { availabilityBps: 10_000, p95TtftMs: 1, samples: 1 };
    const header = { ...LANE, ...EPOCH, ...zeroUsage(), ...service, sequence, root: ZeroHash, count: 0n };
    await store.batches.saveDraft(batchId, { ...header, entriesHash: ZeroHash, evidenceHash: ZeroHash }, "0x", [], []);
    await store.batches.markAttested(batchId, "0x");
    await store.batches.markSubmitted(batchId);
    await store.batches.markSettled(batchId);
  }

  const hold = (batchId: string, changes: Partial<Hold>) => {
    const before = escrow.holds.get(batchId) ?? { status: "Held", releasableAt: 0, income: 5n };
    escrow.holds.set(batchId, { ...before, ...changes });
  };

  const releaser = (economy?: EconomyConfig) =>
    new Releaser({ chain, store, escrow, sender: escrow, log: createLog("info", (line) => lines.push(line)) }, economy);

  const purposes = () => escrow.purposes();

  it("sends nothing for what is held, and doesn't ask again before it is due", async () => {
    const own = releaser();
    await own.releaseDue();
    escrow.holds.clear();
    await own.releaseDue();
    expect(purposes()).to.deep.equal([]);
    expect(lines).to.deep.equal([]);
  });

  it("releases each batch once its hold is over", async () => {
    const own = releaser();
    await own.releaseDue();
    chain.time += 100;
    hold(BATCHES[0], { status: "Releasable" });
    await own.releaseDue();
    await own.releaseDue();
    expect(purposes()).to.deep.equal([`release of batch ${BATCHES[0]}`]);
    hold(BATCHES[0], { status: "Released" });
    await own.releaseDue();
    expect((await store.batches.unreleased(9)).map(({ batchId }) => batchId)).to.deep.equal([BATCHES[1]]);
    chain.time += 100;
    hold(BATCHES[1], { status: "Released" });
    await own.releaseDue();
    expect(await store.batches.unreleased(9)).to.deep.equal([]);
    expect(purposes()).to.have.length(1);
  });

  it("releases what was disputed once it was let go, and follows a batch until nothing of it is in dispute", async () => {
    const [batchId] = BATCHES;
    const charges = [3n, 4n].map((n) => `0x${"0".repeat(63)}${n}`);
    escrow.charges.set(batchId, charges);
    hold(batchId, { status: "Releasable", releasableAt: chain.time });
    for (const charge of charges) hold(charge, { status: "Held", releasableAt: chain.time });
    const own = releaser();
    await own.releaseDue();
    expect(purposes()).to.deep.equal([`release of batch ${batchId}`]);

    hold(batchId, { status: "Released" });
    hold(charges[0], { status: "Releasable" });
    await own.releaseDue();
    expect(purposes().slice(1)).to.deep.equal([`release of charge ${charges[0]}`]);
    hold(charges[0], { status: "Released" });
    await own.releaseDue();
    expect((await store.batches.unreleased(9)).map((one) => one.batchId)).to.include(batchId);
    hold(charges[1], { status: "Released" });
    await own.releaseDue();
    expect((await store.batches.unreleased(9)).map((one) => one.batchId)).not.to.include(batchId);
    expect(purposes()).to.have.length(2);
  });

  it("isn't kept from one by what is wrong with another", async () => {
    escrow.holds.delete(BATCHES[0]);
    hold(BATCHES[1], { status: "Releasable", releasableAt: 0 });
    await releaser().releaseDue();
    expect(purposes()).to.deep.equal([`release of batch ${BATCHES[1]}`]);
    expect(lines.join()).to.contain("Release has to wait").and.to.contain(BATCHES[0]);
  });

  it("waits for cheaper gas with what isn't worth it, and says so once", async () => {
    escrow.gasPriceWei = GAS_PRICE;
    hold(BATCHES[0], { status: "Releasable", releasableAt: 0, income: 10n * GAS_UNITS - 1n });
    const own = releaser(ECONOMY);
    await own.releaseDue();
    await own.releaseDue();
    expect(purposes()).to.deep.equal([]);
    expect(lines.filter((line) => line.includes("Release waits for cheaper gas"))).to.have.length(1);
    escrow.gasPriceWei -= 10n ** 7n;
    await own.releaseDue();
    expect(purposes()).to.have.length(1);
  });

  it("brings the operator's pool what waits for it, once a day", async () => {
    const own = releaser();
    await own.releaseDue();
    escrow.poolIncome = 7n;
    await own.releaseDue();
    await own.releaseDue();
    const today = Math.floor(chain.time / 86_400);
    expect(purposes()).to.deep.equal([`pool of operator ${LANE.operatorId} on day ${today}`]);
    await escrow.follow(purposes()[0], 0);
    chain.time += 86_400;
    hold(BATCHES[0], { status: "Held", releasableAt: chain.time });
    await own.releaseDue();
    expect(purposes()).to.have.length(2);
  });
});
