import { ZeroAddress } from "ethers";
import type { RevenueWaterfall } from "../../../typechain-types";
import { Amounts, Ledger, nothing, type Reducer } from "./reducer";

/** RevenueWaterfall's books, by its logs. Its views are named as the contract's. */
export class ReplayedWaterfall {
  private readonly pots = new Amounts<bigint>();
  private readonly incomes = new Amounts<bigint>();
  private readonly claimables = new Amounts<string>();
  private readonly holders = new Map<bigint, string>();
  private readonly payees = new Ledger<bigint, Map<bigint, bigint>>(() => new Map());

  readonly on: Reducer<RevenueWaterfall> = {
    IncomeCredited: ({ assetId, amount }) => {
      this.pots.add(assetId, amount);
      this.incomes.add(assetId, amount);
    },
    IncomeDistributed: ({ assetId, amount }) => {
      this.pots.add(assetId, -amount);
    },
    IncomeClaimable: ({ holder, amount }) => {
      this.claimables.add(holder, amount);
    },
    IncomeWithdrawn: ({ payee, amount }) => {
      this.claimables.add(payee, -amount);
    },
    PayeeAdded: ({ payeeId, assetId, incomeBps }) => {
      this.payees.get(assetId).set(payeeId, incomeBps);
    },
    PayeeGivenUp: ({ payeeId, assetId }) => {
      this.payees.get(assetId).delete(payeeId);
    },
    Transfer: ({ to, tokenId }) => {
      if (to === ZeroAddress) this.holders.delete(tokenId);
      else this.holders.set(tokenId, to);
    },
    Approval: nothing,
    ApprovalForAll: nothing,
    AuthorityUpdated: nothing,
  };

  potOf(assetId: bigint): bigint {
    return this.pots.get(assetId);
  }

  incomeOf(assetId: bigint): bigint {
    return this.incomes.get(assetId);
  }

  claimableOf(payee: string): bigint {
    return this.claimables.get(payee);
  }

  /** By their numbers. */
  payeesOf(assetId: bigint) {
    const payees = [...this.payees.get(assetId)].map(([payeeId, incomeBps]) => ({ payeeId, incomeBps }));
    return payees.sort((a, b) => Number(a.payeeId - b.payeeId));
  }

  /** The positions that exist, and whose they are. */
  positions(): [payeeId: bigint, holder: string][] {
    return [...this.holders];
  }
}
