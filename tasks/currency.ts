import { licetTask, UserError, type Session, type TaskRecord } from "./support";

/** Makes test currency, where the market has one. */
export async function mintCurrency(session: Session, args: { to?: string; amount: string }): Promise<TaskRecord> {
  if (session.book.contracts.TestCurrency === undefined) {
    throw new UserError(`This market's currency is ${session.book.currency}, which only its issuer can make.`);
  }
  const units = session.money.parse(args.amount, "--amount");
  const to = args.to ?? session.signer.address;
  await (await session.licet.currency.mint(to, units)).wait();
  return { to, minted: session.money.of(units) };
}

licetTask("currency:mint", "Makes test currency, on a local chain", mintCurrency)
  .addOptionalParam("to", "Who gets it (default: you)")
  .addParam("amount", "Such as 1000");
