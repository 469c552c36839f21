import { formatUnits, parseUnits } from "ethers";
import type { Currency } from "../../oracle/chain/refusal";
import { Problem } from "../../oracle/problem";

/** An amount as tasks print it: in whole units of the currency, and in its smallest ones. */
export interface Amount {
  amount: string;
  symbol: string;
  units: bigint;
}

/** The currency of a deployment, for people. */
export class Money implements Currency {
  constructor(
    readonly symbol: string,
    readonly decimals: number,
  ) {}

  /** @throws Problem if `value` is no amount of at most the currency's decimals that is 0 or more and fits in `bits` bits */
  parse(value: unknown, name: string, bits = 64): bigint {
    const text = String(value);
    if (!/^\d+(\.\d+)?$/.test(text)) {
      throw new Problem(`${name} must be an amount of ${this.symbol} such as 12.5; it is ${JSON.stringify(value)}.`);
    }
    const units = this.unitsOf(text, name);
    const most = 2n ** BigInt(bits) - 1n;
    if (units > most) {
      throw new Problem(`${name} may be at most ${formatUnits(most, this.decimals)} ${this.symbol}; it is ${text}.`);
    }
    return units;
  }

  of(units: bigint): Amount {
    return { amount: formatUnits(units, this.decimals), symbol: this.symbol, units };
  }

  /** An amount for people: `12.5 USD (12500000 units)`. */
  textOf(units: bigint): string {
    return textOf(this.of(units));
  }

  private unitsOf(text: string, name: string): bigint {
    try {
      return parseUnits(text, this.decimals);
    } catch {
      throw new Problem(`${name} may have at most ${this.decimals} decimals; it is "${text}".`);
    }
  }
}

/** An amount of the chain's own coin; its units are wei. */
export const coinOf = (wei: bigint): Amount => ({ amount: formatUnits(wei, 18), symbol: "ether", units: wei });

/** An amount for people: `12.5 USD (12500000 units)`. */
export const textOf = ({ amount, symbol, units }: Amount): string => `${amount} ${symbol} (${units} units)`;

export const isAmount = (value: unknown): value is Amount =>
  typeof value === "object" && value !== null && "units" in value && "symbol" in value;
