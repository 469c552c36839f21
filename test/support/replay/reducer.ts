import type { TypedContractEvent, TypedEventLog } from "../../../typechain-types/common";

/** The events of a contract, by their names alone. */
type EventName<Contract extends { filters: object }> = Exclude<
  keyof Contract["filters"],
  `${string}(${string}` | symbol
>;

/** What an event of a contract says. */
type Told<Event> = Event extends TypedContractEvent ? TypedEventLog<Event>["args"] : never;

/**
 * What each event of a contract does to a copy of its books: none may be left out. `at` is the time of the event's block,
 * in Unix seconds.
 */
export type Reducer<Contract extends { filters: object }> = {
  [Name in EventName<Contract>]: (told: Told<Contract["filters"][Name]>, at: bigint) => void;
};

/** Of events that say nothing about money, nor about what it hangs on. */
export const nothing = (): void => {};

/** A map in which everything is there from the start, as in a contract's storage. */
export class Ledger<Key, Value> {
  private readonly values = new Map<Key, Value>();

  constructor(private readonly initial: () => Value) {}

  get(key: Key): Value {
    if (!this.values.has(key)) this.values.set(key, this.initial());
    return this.values.get(key)!;
  }

  set(key: Key, value: Value): void {
    this.values.set(key, value);
  }

  clear(): void {
    this.values.clear();
  }
}

/** Amounts, zero where nobody added any. */
export class Amounts<Key> extends Ledger<Key, bigint> {
  constructor() {
    super(() => 0n);
  }

  add(key: Key, amount: bigint): void {
    this.set(key, this.get(key) + amount);
  }
}
