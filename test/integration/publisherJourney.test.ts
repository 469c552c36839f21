import { loadFixture, time } from "@nomicfoundation/hardhat-network-helpers";
import { expect } from "chai";
import { id, ZeroAddress, ZeroHash } from "ethers";
import { DERIVATION_TYPES, derivationDomainOf } from "../../oracle/protocol/derivations";
import { everybodyLeaves, heldBy, owedBy } from "../support/books";
import {
  addAsset,
  addPlan,
  AssetKind,
  batchOf,
  buyLicense,
  DAY,
  deployMarket,
  DerivativePolicy,
  entryOf,
  HOUR,
  LicenseStatus,
  NO_APPROVAL,
  NOTICE,
  PlanStatus,
  planTerms,
  proofBy,
  registration,
  Relation,
  settle,
  usd,
  VersionStatus,
  WAIT,
  worth,
  type Market,
} from "../support/market";

const TERM = 30 * DAY;

describe("a publisher", () => {
  let market: Market;

  beforeEach(async () => {
    market = await loadFixture(deployMarket);
  });

  it("lives on upfront prices, shares of use and minimums, recalls a version, and sells the model", async () => {
    const { publisher, licensee, outsider } = market;
    const { assets, licenses, escrow, waterfall, committee, currency } = market.licet;
    const supply = await currency.totalSupply();
    const expectEvenBooks = async () => expect(await heldBy(market)).to.deep.equal(await owedBy(market));
    const earned = () => escrow.assetIncomeOf(market.assetId);
    const distribute = async () => {
      await escrow.payAsset(market.assetId);
      await waterfall.distribute(market.assetId);
    };

    // It offers a subscription: 20 upfront, at least 100 a month, two of them.
    const planId = await addPlan(market, { upfrontPrice: usd(20), minimumSpend: usd(100), supply: 2 });
    const quiet = await buyLicense(market, usd(300), { planId });
    const busy = await buyLicense(market, usd(300), { planId });
    const expiresAt = Number((await escrow.accountOf(busy)).expiresAt);
    expect(await licenses.statusOf(planId)).to.equal(PlanStatus.SoldOut);
    await licenses.connect(publisher).closePlan(planId);
    expect(await licenses.statusOf(planId)).to.equal(PlanStatus.Closed);

    // One uses 40 of its minimum, the other 130.
    const { batchId } = await settle(market, [worth(quiet, 40), worth(busy, 130)], { planId, samples: 0 });
    await expectEvenBooks();

    // After the hold: 30 % of use, and 99 % of the prices.
    await time.increase(3 * DAY);
    await escrow.release(batchId);
    expect(await earned()).to.equal(usd(51));
    await escrow.releaseUpfront(quiet);
    await escrow.releaseUpfront(busy);
    expect(await earned()).to.equal(usd(51) + usd(39.6));

    // Both renew. A wait after the first term, who used too little pays the rest: 60, less 1 %.
    await time.increaseTo(expiresAt);
    await escrow.connect(publisher).renew(quiet);
    await escrow.connect(publisher).renew(busy);
    await time.increaseTo(expiresAt + WAIT + 1);
    await escrow.connect(publisher).closeTerm(quiet);
    await escrow.connect(publisher).closeTerm(busy);
    expect(await earned()).to.equal(usd(51) + usd(39.6) + usd(59.4));
    await expectEvenBooks();
    await distribute();
    await expect(waterfall.connect(publisher).withdraw(publisher)).to.changeTokenBalance(currency, publisher, usd(150));

    // A flaw turns up: the version is recalled, and a better one published. Whoever has just bought gets the price back.
    const another = await addPlan(market, { upfrontPrice: usd(20), minimumSpend: usd(100) });
    const unlucky = await buyLicense(market, usd(100), { planId: another });
    await assets.connect(publisher).recall(market.versionId);
    await assets.connect(publisher).publish(1, id("mended"), ZeroHash, ZeroAddress, "ipfs://version-2", "");
    const mended = await assets.versionOfManifest(1, id("mended"));
    await escrow.releaseUpfront(unlucky);
    expect((await escrow.accountOf(unlucky)).balance).to.equal(usd(120));
    for (const license of [quiet, busy, unlucky]) expect(await escrow.committedOf(license)).to.equal(0);

    // Use of the old one counts until the notice is over; use of the new one goes on.
    expect(await assets.statusOf(market.versionId)).to.equal(VersionStatus.Recalling);
    const last = await settle(market, [worth(busy, 10)], { planId, samples: 0 });
    await time.increase(NOTICE);
    expect(await assets.statusOf(market.versionId)).to.equal(VersionStatus.Recalled);
    await time.increase(HOUR);
    const { header, entries } = await batchOf(market, [worth(busy, 10)], { planId });
    await expect(escrow.settle(header, entries, proofBy(await escrow.batchIdOf(header))))
      .to.be.revertedWithCustomError(escrow, "VersionNotUsable")
      .withArgs(market.versionId, await assets.usableUntil(market.versionId), header.epochEnd);
    await settle(market, [worth(busy, 5)], { planId, versionId: mended, samples: 0 });

    // Nobody owes a minimum for that month, and nobody is renewed unasked.
    await time.increaseTo(expiresAt + TERM);
    await expect(escrow.connect(publisher).renew(busy))
      .to.be.revertedWithCustomError(escrow, "RenewalForOwner")
      .withArgs(busy);
    await time.increaseTo(expiresAt + TERM + WAIT + 1);
    await escrow.closeTerm(busy);
    expect(await earned()).to.equal(0);
    expect(await escrow.statusOf(busy)).to.equal(LicenseStatus.Lapsed);

    // It sells the model: what isn't distributed yet is the buyer's.
    await escrow.release(last.batchId);
    expect(await earned()).to.equal(usd(3));
    await distribute();
    await assets.connect(publisher).transferFrom(publisher, outsider, 1);
    await expect(licenses.connect(publisher).createPlan(planTerms(1, await committee.getAddress())))
      .to.be.revertedWithCustomError(licenses, "CallerNotPublisher")
      .withArgs(1, publisher.address);
    await escrow.connect(licensee).renew(busy);
    const afterSale = await settle(market, [entryOf(busy)], { planId, versionId: mended });
    await time.increase(3 * DAY);
    await escrow.release(afterSale.batchId);
    await distribute();
    const { publisher: sold } = await escrow.splitOf(afterSale.batchId);
    expect(await waterfall.claimableOf(outsider)).to.equal(sold);
    expect(await waterfall.claimableOf(publisher)).to.equal(usd(3));

    await expectEvenBooks();
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
    expect(await currency.totalSupply()).to.equal(supply);
    expect(await committee.incomeOf(publisher)).to.equal(0);
  });

  it("builds on others with their leave, and pays them of everything that it earns", async () => {
    const { publisher, operator, outsider, payees } = market;
    const [author, archive, backer] = payees.slice(3);
    const { assets, licenses, operators, escrow, committee, currency, waterfall } = market.licet;
    const supply = await currency.totalSupply();
    const expectEvenBooks = async () => expect(await heldBy(market)).to.deep.equal(await owedBy(market));

    // The model may be built on for a fifth; the archive's dataset by its word alone, which it gives for a twentieth.
    await assets.connect(publisher).setPolicy(1, DerivativePolicy.Open, 2_000);
    const dataset = await addAsset(market, archive, {
      kind: AssetKind.Dataset,
      policy: DerivativePolicy.ByApproval,
      permittedUses: 3,
    });
    const terms = { relation: Relation.TrainedOn, incomeBps: 500, salt: 1, deadline: 2n ** 39n };
    const domain = derivationDomainOf(31337n, await assets.getAddress());
    const signature = await archive.signTypedData(domain, DERIVATION_TYPES, {
      parentId: dataset,
      registrant: author.address,
      ...terms,
      transferCount: 0,
    });

    // An author fine-tunes the one on the other, and gives a backer a tenth.
    const parents = [
      { parentId: 1, relation: Relation.FineTunedFrom, incomeBps: 2_000 },
      { parentId: dataset, relation: terms.relation, incomeBps: terms.incomeBps },
    ];
    await assets
      .connect(author)
      .register(registration({ parents, permittedUses: 3 }), [
        NO_APPROVAL,
        { salt: terms.salt, deadline: terms.deadline, signature },
      ]);
    const child = Number(await assets.assetCount());
    await assets.connect(author).publish(child, id("fine-tuned"), ZeroHash, ZeroAddress, "ipfs://child-1", "first");
    await waterfall.connect(author).addPayee(child, backer, 1_000);

    // It is served and used like any model: a hundred, of which thirty are the author's to share.
    await licenses.connect(author).createPlan(planTerms(child, await committee.getAddress(), { permittedUses: 3 }));
    const planId = Number(await licenses.planCount());
    await operators.connect(operator).setServed(1, planId, true);
    const license = await buyLicense(market, usd(200), { planId });
    const versionId = (BigInt(child) << 32n) | 1n;
    const { batchId } = await settle(market, [worth(license, 100)], { planId, versionId });
    await time.increase(3 * DAY);
    await escrow.release(batchId);
    await escrow.connect(outsider).payAsset(child);
    for (const assetId of [child, dataset, 1]) await waterfall.connect(outsider).distribute(assetId);
    await expectEvenBooks();
    const claims = [publisher, archive, backer, author].map((person) => waterfall.claimableOf(person));
    expect(await Promise.all(claims)).to.deep.equal([usd(6), usd(1.5), usd(3), usd(19.5)]);

    // The model is sold, and so is the backer's position: the next income is their buyers'.
    await assets.connect(publisher).transferFrom(publisher, outsider, 1);
    await waterfall.connect(backer).transferFrom(backer, operator, 1);
    const next = await settle(market, [worth(license, 50)], { planId, versionId });
    await time.increase(3 * DAY);
    await escrow.release(next.batchId);
    await escrow.payAsset(child);
    for (const assetId of [child, dataset, 1]) await waterfall.distribute(assetId);
    expect(await waterfall.claimableOf(outsider)).to.equal(usd(3));
    expect(await waterfall.claimableOf(operator)).to.equal(usd(1.5));
    expect(await waterfall.claimableOf(publisher)).to.equal(usd(6));

    await expectEvenBooks();
    await everybodyLeaves(market);
    expect(await heldBy(market)).to.deep.equal({ escrow: 0n, staking: 0n, waterfall: 0n, committee: 0n });
    expect(await currency.totalSupply()).to.equal(supply);
  });
});
