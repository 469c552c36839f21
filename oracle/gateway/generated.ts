import type { ChoiceText } from "./openai";

/** So many characters are put together as one piece. */
const PIECE_LENGTH = 4_096;

/**
 * What was generated so far, by choice: what is counted if the upstream says no counts. Packed, since a stream comes in
 * thousands of pieces, which would take many times their text's length as strings, for each of thousands of streams.
 */
export class Generated {
  /** In how many pieces it came. */
  chunks = 0;
  private readonly choices = new Map<number, { packed: Buffer[]; tail: string }>();

  get isEmpty(): boolean {
    return this.chunks === 0;
  }

  add({ choice, text }: ChoiceText): void {
    const held = this.choices.get(choice) ?? { packed: [], tail: "" };
    this.choices.set(choice, held);
    held.tail += text;
    this.chunks += 1;
    if (held.tail.length < PIECE_LENGTH) return;
    held.packed.push(Buffer.from(held.tail));
    held.tail = "";
  }

  /** Of each choice, whole: tokens of choices that came in turns aren't tokens of what came. */
  texts(): string[] {
    return [...this.choices.values()].map(({ packed, tail }) => Buffer.concat(packed).toString() + tail);
  }
}
