import type { SignedPayment } from "../x402/exact";
import type { Prepayment, PrepaymentState } from "../x402/prepayments";
import type { Database, Row } from "./database";
import type { Lease, Leases } from "./leases";

/** Payments that a gateway took for licenses that it buys. */
export class PrepaymentBooks {
  constructor(
    private readonly db: Database,
    private readonly leases: Leases,
  ) {}

  /** @returns false if the payment is there already */
  async save({ payment, ...prepayment }: Prepayment): Promise<boolean> {
    const { planId, deposit, price, acceptedAt, state, paymentHash, resultHash, licenseId, reason } = prepayment;
    const saved = await this.db.run(
      "INSERT INTO prepayments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      [
        ...[payment.payer, payment.nonce, JSON.stringify({ ...payment, amount: String(payment.amount) })],
        ...[planId, deposit, price, acceptedAt, state, paymentHash, resultHash, licenseId, reason],
      ],
    );
    return saved > 0;
  }

  async find(payer: string, nonce: string): Promise<Prepayment | null> {
    const row = await this.db.row("SELECT * FROM prepayments WHERE payer = ? AND nonce = ?", [payer, nonce]);
    return row === null ? null : prepaymentOf(row);
  }

  /**
   * Its state and what came of it.
   * @param lease under which that came about: throws TurnLost if another has that
   */
  async update(prepayment: Prepayment, lease?: Lease): Promise<void> {
    const { payment, state, paymentHash, resultHash, licenseId, reason } = prepayment;
    await this.db.transaction(async (queries) => {
      if (lease !== undefined) await this.leases.require(lease, queries);
      await queries.run(
        "UPDATE prepayments SET state = ?, payment_hash = ?, result_hash = ?, license_id = ?, reason = ? WHERE payer = ? AND nonce = ?",
        [state, paymentHash, resultHash, licenseId, reason, payment.payer, payment.nonce],
      );
    });
  }

  /** In their order. */
  async unfinished(): Promise<Prepayment[]> {
    const query = "SELECT * FROM prepayments WHERE state IN ('accepted', 'paid', 'refunding') ORDER BY accepted_at";
    return (await this.db.all(query)).map(prepaymentOf);
  }

  /** How many were accepted since then, Unix seconds. */
  async countSince(since: number): Promise<number> {
    const row = await this.db.row("SELECT count(*) AS count FROM prepayments WHERE accepted_at > ?", [since]);
    return Number(row!.count);
  }
}

function prepaymentOf(row: Row): Prepayment {
  const payment = JSON.parse(row.payment as string) as Omit<SignedPayment, "amount"> & { amount: string };
  return {
    payment: { ...payment, amount: BigInt(payment.amount) },
    planId: Number(row.plan_id),
    deposit: row.deposit as bigint,
    price: row.price as bigint,
    acceptedAt: Number(row.accepted_at),
    state: row.state as PrepaymentState,
    paymentHash: row.payment_hash as string | null,
    resultHash: row.result_hash as string | null,
    licenseId: row.license_id as bigint | null,
    reason: row.reason as string | null,
  };
}
