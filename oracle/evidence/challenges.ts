import { hexlify } from "ethers";
import { randomBytes } from "node:crypto";

/** 32 bytes that an attestor chose, for one operator and one of its receipt signers, to be answered once and soon. */
export interface Challenge {
  value: string;
  operatorId: number;
  receiptSigner: string;
  /** Unix seconds. */
  issuedAt: number;
}

/** Where an attestor keeps its challenges. A store may implement it: what matters is that `use` happens once, also after a crash. */
export interface ChallengeBook {
  /** The challenge as it was issued, if it was, and whether it was used since. */
  find(value: string): Promise<(Challenge & { used: boolean }) | undefined>;
  /** Marks it as used. False where it was used already, or isn't known: of two that come at once, one gets true. */
  use(value: string): Promise<boolean>;
}

/** Keeps challenges in memory, the newest of them: one that fell out counts as never issued. */
export class MemoryChallenges implements ChallengeBook {
  private readonly challenges = new Map<string, Challenge & { used: boolean }>();

  constructor(private readonly most = 10_000) {}

  issue(operatorId: number, receiptSigner: string, issuedAt: number): Challenge {
    const challenge = { value: hexlify(randomBytes(32)), operatorId, receiptSigner, issuedAt };
    this.challenges.set(challenge.value, { ...challenge, used: false });
    for (const oldest of this.challenges.keys()) {
      if (this.challenges.size <= this.most) break;
      this.challenges.delete(oldest);
    }
    return challenge;
  }

  async find(value: string): Promise<(Challenge & { used: boolean }) | undefined> {
    const found = this.challenges.get(value);
    return found && { ...found };
  }

  async use(value: string): Promise<boolean> {
    const found = this.challenges.get(value);
    if (found === undefined || found.used) return false;
    found.used = true;
    return true;
  }
}
