import type { CommitteeAttestor } from "../../../typechain-types";
import type { ICommitteeAttestor } from "../../../typechain-types/contracts/CommitteeAttestor";
import { Amounts, Ledger, nothing, type Reducer } from "./reducer";

/** A note of who signed has the number of their rotation above so many bits. */
const MEMBER_BITS = 32n;

interface Rotation {
  members: ICommitteeAttestor.MemberStructOutput[];
  threshold: bigint;
  since: bigint;
}

interface Bond {
  weight: bigint;
  readyAt: bigint;
  isSlashed: boolean;
}

/** CommitteeAttestor's books, by its logs. Its views are named as the contract's. */
export class ReplayedCommittee {
  private readonly rotations = new Map<bigint, Rotation>();
  private readonly bonds = new Ledger<string, Bond>(() => ({ weight: 0n, readyAt: 0n, isSlashed: false }));
  private readonly incomes = new Amounts<string>();

  constructor(private readonly constants: { treasury: string }) {}

  readonly on: Reducer<CommitteeAttestor> = {
    RotationAnnounced: ({ number, members, threshold, since }) => {
      this.rotations.set(number, { members, threshold, since });
    },
    IncomeShared: ({ signers, amount }) => {
      this.divide(signers, amount);
    },
    IncomeWithdrawn: ({ payee, amount }) => {
      this.incomes.add(payee, -amount);
    },
    BondPosted: ({ holder, signer, weight }) => {
      this.setBond(signer, holder, { weight });
    },
    BondThawed: ({ holder, signer, readyAt }) => {
      this.setBond(signer, holder, { weight: this.bondOf(signer, holder).weight, readyAt });
    },
    BondWithdrawn: ({ holder, signer }) => {
      this.setBond(signer, holder, {});
    },
    BondSlashed: ({ holder, signer, reporter, amount, reward }) => {
      this.setBond(signer, holder, { isSlashed: true });
      this.incomes.add(reporter, reward);
      this.incomes.add(this.constants.treasury, amount - reward);
    },
    EIP712DomainChanged: nothing,
  };

  rotationOf(number: bigint): Rotation {
    return this.rotations.get(number)!;
  }

  bondOf(signer: string, holder: string): Bond {
    return this.bonds.get(`${signer} ${holder}`);
  }

  incomeOf(payee: string): bigint {
    return this.incomes.get(payee);
  }

  private setBond(signer: string, holder: string, bond: Partial<Bond>): void {
    this.bonds.set(`${signer} ${holder}`, { weight: 0n, readyAt: 0n, isSlashed: false, ...bond });
  }

  /** By weight, among those who signed; what doesn't divide is the first one's. */
  private divide(signers: bigint, amount: bigint): void {
    const { members } = this.rotationOf(signers >> MEMBER_BITS);
    const signed = members.filter((_, i) => (signers >> BigInt(i)) & 1n);
    const weight = signed.reduce((sum, member) => sum + member.weight, 0n);
    const parts = signed.map((member) => (amount * member.weight) / weight);
    const rest = parts.reduce((left, part) => left - part, amount);
    signed.forEach(({ payee }, i) => this.incomes.add(payee, parts[i] + (i === 0 ? rest : 0n)));
  }
}
