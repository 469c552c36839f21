/** A license with an upfront price and a minimum: it is sold on, and freed by a recall. */
import { time } from "@nomicfoundation/hardhat-network-helpers";
import path from "node:path";
import { numberOf } from "../../oracle/protocol/versionId";
import { mintCurrency } from "../currency";
import { buyLicense, endLicense, releaseUpfront, statusOf, transferLicense, withdrawFromLicense } from "../license";
import { recallVersion } from "../model";
import { servePlans } from "../operator";
import { createPlan } from "../plan";
import { textOf } from "../support";
import type { Narrator } from "./narrator";
import type { Market } from "./opening";
import { refusalBy } from "./refusals";

const DEPOSIT = "5";
const UPFRONT_PRICE = "2";
const PAID = String(Number(DEPOSIT) + Number(UPFRONT_PRICE));

/** The subscriber buys, locks and sells; its buyer gets nothing that is about to leave, and no bill that hasn't come. */
export async function sellSubscription(narrator: Narrator, market: Market, root: string): Promise<bigint> {
  const { cast, model, operator } = market;
  const { subscriber, buyer, publisher } = cast;
  const { money, licet } = subscriber;
  const { plan } = await createPlan(publisher, {
    asset: model.asset,
    terms: path.join(root, "models/lic380k-subscription.json"),
    licenseText: path.join(root, "models/lic380k/LICENSE"),
  });
  await servePlans(cast.operator, { operator, plans: [plan], stop: false });
  await mintCurrency(subscriber, { amount: PAID });
  const { license } = await buyLicense(subscriber, { plan, operator, fund: DEPOSIT });
  const { amount: held } = await licet.escrow.upfrontOf(license);
  narrator.checkEqual("an upfront price is held, in units", held, money.parse(UPFRONT_PRICE, "price"));
  const committed = await licet.escrow.committedOf(license);
  narrator.check(
    `and ${textOf(money.of(committed))} of its balance are committed to the term's minimum`,
    committed > 0n,
  );

  await transferLicense(subscriber, { license });
  const { address: to } = buyer.signer;
  const move = () => licet.licenses.transferFrom.staticCall(subscriber.signer.address, to, license);
  await narrator.checkRefused("its sale before what it used can have settled", /LicenseNotMovable/, () =>
    refusalBy(move()),
  );
  await narrator.checkRefused("to take money out of it while it is for sale", /LicenseStatusUnfit/, () =>
    refusalBy(licet.escrow.thaw.staticCall(license, 1)),
  );
  await time.increaseTo((await licet.licenses.movableAt(license)) + 1n);
  await transferLicense(subscriber, { license, to });
  await transferLicense(buyer, { license, unlock: true });
  narrator.checkEqual("license's owner after the wait", await licet.licenses.ownerOf(license), to);
  narrator.checkEqual("and its status, once its new owner unlocked it", await statusOf(buyer, license), "Running");
  return license;
}

/** The publisher recalls the version: the subscription owes nothing, and its price comes back. */
export async function recallAndLeave(narrator: Narrator, { cast, model }: Market, license: bigint): Promise<void> {
  const { buyer, publisher, outsider } = cast;
  const { escrow } = buyer.licet;
  await recallVersion(publisher, { asset: model.asset, number: numberOf(model.version) });
  narrator.checkEqual("what is committed to the minimum after a recall", await escrow.committedOf(license), 0n);
  await releaseUpfront(outsider, { license });
  const { balance } = await escrow.accountOf(license);
  narrator.check(
    `the upfront price is back: ${textOf(buyer.money.of(balance))} in the account`,
    balance === buyer.money.parse(PAID, "paid"),
  );

  await endLicense(buyer, { license });
  await withdrawFromLicense(buyer, { license });
  await time.increaseTo((await escrow.accountOf(license)).thawReadyAt + 1n);
  await withdrawFromLicense(buyer, { license });
  const back = await buyer.licet.currency.balanceOf(buyer.signer.address);
  narrator.checkEqual("the buyer leaves with all of it, in units", back, balance);
}
