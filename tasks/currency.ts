import { address, optional, send, sendingTask, text, Problem, type Session, type TaskRecord } from "./support";

/** Makes test currency, where the market has one. */
export async function mintCurrency(session: Session, args: { to?: string; amount: string }): Promise<TaskRecord> {
  if (session.book.contracts.TestCurrency === undefined) {
    throw new Problem(`This market's currency is ${session.book.currency}, which only its issuer can make.`);
  }
  const units = session.money.parse(args.amount, "--amount");
  const to = args.to ?? session.signer.address;
  await send(session.licet.currency.mint, to, units);
  return { to, minted: session.money.of(units) };
}

sendingTask("currency:mint", {
  about: "Makes test currency, on a local chain",
  example: "--amount 1000",
  parameters: { to: optional(address("Who gets it (default: you)")), amount: text("Such as 1000") },
  act: mintCurrency,
});
