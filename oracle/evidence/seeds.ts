import { hexlify } from "ethers";
import { randomBytes } from "node:crypto";

/** 32 bytes that an attestor chose, for one operator and one of its receipt signers, to be answered once and soon. */
export interface Seed {
  value: string;
  operatorId: number;
  receiptSigner: string;
  /** Unix seconds. */
  issuedAt: number;
}

/** Where an attestor keeps its seeds. A store may implement it: what matters is that `use` happens once, also after a crash. */
export interface SeedBook {
  /** The seed as it was issued, if it was, and whether it was used since. */
  find(value: string): Promise<(Seed & { used: boolean }) | undefined>;
  /** Marks it as used. False where it was used already, or isn't known: of two that come at once, one gets true. */
  use(value: string): Promise<boolean>;
}

/** Keeps seeds in memory, the newest of them: one that fell out counts as never issued. */
export class MemorySeeds implements SeedBook {
  private readonly seeds = new Map<string, Seed & { used: boolean }>();

  constructor(private readonly most = 10_000) {}

  issue(operatorId: number, receiptSigner: string, issuedAt: number): Seed {
    const seed = { value: hexlify(randomBytes(32)), operatorId, receiptSigner, issuedAt };
    this.seeds.set(seed.value, { ...seed, used: false });
    for (const oldest of this.seeds.keys()) {
      if (this.seeds.size <= this.most) break;
      this.seeds.delete(oldest);
    }
    return seed;
  }

  async find(value: string): Promise<(Seed & { used: boolean }) | undefined> {
    const found = this.seeds.get(value);
    return found && { ...found };
  }

  async use(value: string): Promise<boolean> {
    const found = this.seeds.get(value);
    if (found === undefined || found.used) return false;
    found.used = true;
    return true;
  }
}
