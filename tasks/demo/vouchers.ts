/** A license whose use isn't attested: its holder signs what it spent, and the operator is paid as soon as that is posted. */
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { Wallet, type TypedDataDomain } from "ethers";
import { domainOf } from "../../oracle/protocol/messages";
import {
  ecdsaKeyBytes,
  packVouchers,
  signVoucher,
  unpackVoucherOutcomes,
  type SignedVoucher,
} from "../../oracle/protocol/vouchers";
import { mintCurrency } from "../currency";
import { withdrawEarnings } from "../earnings";
import { buyLicense, changeOperator, VOUCHERS } from "../license";
import { eventOf, send, textOf } from "../support";
import { gainOf } from "./ending";
import type { Narrator } from "./narrator";
import type { Holding, Market } from "./opening";
import { refusalBy } from "./refusals";

const DEPOSIT = "5";
const KEY_CAP = "3";
/** What the key signs, one voucher after the other: each is all that was spent so far. */
const SPENT = ["0.4", "1.1", "2.5"];
const SPENT_ABOVE_CAP = "4";

/** The integrator buys a license and changes it from attested batches to vouchers. */
export async function moveToVouchers(narrator: Narrator, market: Market, plan: number): Promise<Holding> {
  const { cast, operator } = market;
  const { integrator: session, outsider } = cast;
  const { escrow } = outsider.licet;
  await mintCurrency(session, { amount: DEPOSIT });
  const { license } = await buyLicense(session, { plan, operator, fund: DEPOSIT });
  await changeOperator(session, { license, road: VOUCHERS });
  await narrator.checkRefused(
    "the change before what was used can have settled by batches",
    /ServiceChangeRunning/,
    () => refusalBy(escrow.applyServiceChange.staticCall(license)),
  );
  await time.increaseTo((await escrow.accountOf(license)).serviceChangeReadyAt + 1n);
  await changeOperator(outsider, { license, apply: true });
  const { onVoucherRoad } = await escrow.accountOf(license);
  narrator.check(`after the wait license ${license} settles by vouchers`, onVoucherRoad);
  return { session, license };
}

/** Its key signs vouchers, each in place of the one before; whoever has the last posts it, and the operator is paid. */
export async function payByVouchers(narrator: Narrator, market: Market, plan: number, holding: Holding): Promise<void> {
  const { cast, operator } = market;
  const { session, license } = holding;
  const { money } = session;
  const { escrow } = cast.outsider.licet;
  const key = Wallet.createRandom();
  await send(session.licet.escrow.addVoucherKey, license, ecdsaKeyBytes(key.address), money.parse(KEY_CAP, "cap"));
  const sign = await signerFor(market, license);
  const vouchers: SignedVoucher[] = [];
  for (const spent of SPENT) vouchers.push(await sign(key, money.parse(spent, "spent")));
  narrator.say(`${key.address} signs for ${SPENT.join(", then ")} ${money.symbol}: nothing is sent to the chain`);

  const last = vouchers[vouchers.length - 1];
  const receipt = await send(cast.outsider.licet.escrow.settleVouchers, operator, plan, packVouchers([last]));
  const { charged, split, forPool } = eventOf(receipt, "VouchersSettled");
  narrator.checkEqual("units charged, by the last voucher alone", charged, last.voucher.spent);
  narrator.check(
    `posted by somebody else in ${receipt.gasUsed} gas, and divided at once: operator ${split.operator} + publisher ` +
      `${split.publisher} + protocol ${split.fee}`,
    split.operator + split.publisher + split.fee === charged,
  );
  const paid = await gainOf(cast.operator, () => withdrawEarnings(cast.operator, {}));
  narrator.check(
    `the operator withdraws ${textOf(money.of(paid))} without a hold; its pool's part is ${forPool}`,
    paid + forPool === split.operator && forPool > 0n,
  );

  const postable = async (voucher: SignedVoucher) => {
    const [, outcomes] = await escrow.settleVouchers.staticCall(operator, plan, packVouchers([voucher]));
    return unpackVoucherOutcomes(outcomes)[0];
  };
  narrator.checkEqual("an earlier voucher, posted afterwards", (await postable(vouchers[0])).status, "NothingDue");
  const forged = await sign(Wallet.createRandom(), money.parse(KEY_CAP, "spent"));
  narrator.checkEqual("a voucher that another key signed", (await postable(forged)).status, "KeyUnknown");
  const above = await postable(await sign(key, money.parse(SPENT_ABOVE_CAP, "spent")));
  narrator.checkEqual(
    `units that a voucher of ${SPENT_ABOVE_CAP} ${money.symbol} can bring, above its key's cap of ${KEY_CAP}`,
    above.charged,
    money.parse(KEY_CAP, "cap") - charged,
  );
}

/** Signs for what a license has spent in the term that it is in. */
async function signerFor({ cast, operator }: Market, licenseId: bigint) {
  const { hre, licet, book } = cast.outsider;
  const { chainId } = await hre.ethers.provider.getNetwork();
  const domain: TypedDataDomain = domainOf(chainId, book.contracts.UsageEscrow);
  const account = await licet.escrow.accountOf(licenseId);
  const [generation, term] = [Number(account.generation), Number(account.term)];
  return (key: Parameters<typeof signVoucher>[2], spent: bigint): Promise<SignedVoucher> =>
    signVoucher(domain, { licenseId, operatorId: operator, generation, term, spent }, key);
}
