import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, Wallet } from "ethers";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import {
  ATTESTORS,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  HOUR,
  postBond,
  proofBy,
  RotationStatus,
  usd,
  worth,
  type Market,
} from "../support/market";

const WINDOW = 2 * DAY;

describe("an attestor", () => {
  let market: Market;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
  });

  it("attests, is paid, is rotated out, attests to what is late, and is paid for that, too", async () => {
    const { payees } = market;
    const { committee, escrow, currency } = market.licet;
    const [first, second, third] = ATTESTORS;
    const successor = new Wallet(id("successor"));
    const license = await buyLicense(market, usd(50));
    const expectEvenBooks = async () => expect(await heldBy(market)).to.deep.equal(await owedBy(market));

    /** An hour's use of a dollar, signed by some; and settled, if they may. */
    const attest = async (signers: Wallet[]) => {
      await time.increase(HOUR);
      const { header, entries } = await batchOf(market, [worth(license, 1)]);
      const batchId = await escrow.batchIdOf(header);
      return { batchId, submit: () => escrow.settle(header, entries, proofBy(batchId, signers)) };
    };
    const share = async (batchId: string) => {
      await time.increase(3 * DAY);
      await escrow.release(batchId);
      await committee.shareIncome(batchId);
    };
    const incomes = () => Promise.all([0, 1, 2, 3].map((i) => committee.incomeOf(payees[i])));

    // Two of three sign: each has half of 2 %.
    const early = await attest([first, second]);
    await early.submit();
    await share(early.batchId);
    expect(await incomes()).to.deep.equal([10_000n, 10_000n, 0n, 0n]);
    await expect(committee.connect(payees[0]).withdraw(payees[0])).to.changeTokenBalance(currency, payees[0], 10_000n);

    // The first wants to leave. All but the third sign who shall follow.
    const members = [second, third, successor].map(({ address }, i) => ({
      signer: address,
      weight: 1,
      payee: payees[i + 1].address,
    }));
    const deadline = (await time.latest()) + HOUR;
    const digest = await committee.rotationHash(members, 2, deadline);
    await committee.rotate(members, 2, deadline, proofBy(digest, [first, second]));
    expect(await committee.statusOf(1)).to.equal(RotationStatus.Announced);
    await postBond(market.licet, successor.address, payees[3]);

    // Until then nothing changes: who will follow can't sign yet.
    const eager = await attest([third, successor]);
    await expect(eager.submit())
      .to.be.revertedWithCustomError(escrow, "BatchNotVouchedFor")
      .withArgs(eager.batchId, await committee.getAddress());
    await time.increaseTo((await committee.rotationOf(1)).since - BigInt(2 * HOUR));
    const meanwhile = await attest([first, third]);
    await meanwhile.submit();

    // The next committee is in force; what the former one signed in time still settles.
    await time.increaseTo((await committee.rotationOf(1)).since);
    expect(await committee.statusOf(0)).to.equal(RotationStatus.Former);
    const late = await attest([first, second]);
    await late.submit();
    const mixed = await attest([first, successor]);
    await expect(mixed.submit())
      .to.be.revertedWithCustomError(escrow, "BatchNotVouchedFor")
      .withArgs(mixed.batchId, await committee.getAddress());
    const fresh = await attest([third, successor]);
    await fresh.submit();
    await expectEvenBooks();

    // A window later the former committee's word is worth nothing.
    await time.increase(WINDOW);
    expect(await committee.statusOf(0)).to.equal(RotationStatus.Past);
    const tooLate = await attest([first, second]);
    await expect(tooLate.submit())
      .to.be.revertedWithCustomError(escrow, "BatchNotVouchedFor")
      .withArgs(tooLate.batchId, await committee.getAddress());

    // Everybody is paid for what it signed, in whichever committee it sat then.
    await share(meanwhile.batchId);
    expect(await incomes()).to.deep.equal([10_000n, 10_000n, 10_000n, 0n]);
    await share(late.batchId);
    expect(await incomes()).to.deep.equal([20_000n, 20_000n, 10_000n, 0n]);
    await share(fresh.batchId);
    expect(await incomes()).to.deep.equal([20_000n, 20_000n, 20_000n, 10_000n]);
    await expect(committee.connect(payees[0]).withdraw(payees[7])).to.changeTokenBalance(currency, payees[7], 20_000n);

    await expectEvenBooks();
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
  });
});
