import { mulberry32 } from "../support/random";

/** One line of a contract, changed as a slip of the hand would. */
export interface Mutant {
  file: string;
  /** Counts from 1. */
  line: number;
  before: string;
  after: string;
}

/** A mutant that no test could ever tell from the contract, and why. */
export interface Equivalent {
  file: string;
  before: string;
  after: string;
  reason: string;
}

type Mutation = [pattern: RegExp, replacement: string];

const MUTATIONS: Mutation[] = [
  [/ >= /, " > "],
  [/ <= /, " < "],
  [/ > /, " >= "],
  [/ < /, " <= "],
  [/ == /, " != "],
  [/ != /, " == "],
  [/ && /, " || "],
  [/ \|\| /, " && "],
  [/ \+ /, " - "],
  [/ - /, " + "],
  [/ \* /, " / "],
  [/ \/ /, " * "],
  [/ \+= /, " -= "],
  [/ -= /, " += "],
  [/Math\.min\(/, "Math.max("],
  [/Math\.max\(/, "Math.min("],
  [/\btrue\b/, "false"],
  [/\bfalse\b/, "true"],
  [/ restricted\b/, ""],
  [/ nonReentrant\b/, ""],
  // A check, an effect, an event or a call is left out.
  [/^(\s+)require\(.*\);$/, "$1{}"],
  [/^(\s+)emit .*\);$/, "$1{}"],
  [/^(\s+)delete .*;$/, "$1{}"],
  [/^(\s+)[\w.[\]()]+ (?:[-+|]?=) .*;$/, "$1{}"],
  [/^(\s+)(?:\+\+|--)[\w.[\]()]+;$/, "$1{}"],
  [/^(\s+)_?[a-zA-Z][\w.]*(?:\[[^\]]*\])*\.?\w*\(.*\);$/, "$1{}"],
];

/** Lines that say nothing about what happens, or that the compiler checks. */
const IDLE = /^\s*(?:\/\/|\/\*|\*|@|import\b|pragma\b|using\b|error\b|event\b|struct\b|enum\b|\}|$)/;

/** Every mutant of a source: each line by each mutation that fits it, at its first place. */
export function mutantsOf(file: string, source: string): Mutant[] {
  return source.split("\n").flatMap((before, index) =>
    IDLE.test(before)
      ? []
      : MUTATIONS.filter(([pattern]) => pattern.test(codeOf(before)))
          .map(([pattern, replacement]) => before.replace(pattern, replacement))
          .filter((after) => after !== before)
          .map((after) => ({ file, line: index + 1, before, after })),
  );
}

export function mutate(source: string, { line, before, after }: Mutant): string {
  const lines = source.split("\n");
  if (lines[line - 1] !== before) throw new Error(`Line ${line} isn't ${JSON.stringify(before)} any more.`);
  lines[line - 1] = after;
  return lines.join("\n");
}

/** All of `items`, in an order that only the seed decides. */
export function shuffled<Item>(items: Item[], seed: number): Item[] {
  const random = mulberry32(seed);
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

export const isEquivalent = (mutant: Mutant, known: Equivalent[]): boolean =>
  known.some(
    ({ file, before, after }) =>
      file === mutant.file && before.trim() === mutant.before.trim() && after.trim() === mutant.after.trim(),
  );

/** A line without the comment at its end. */
const codeOf = (line: string): string => line.replace(/\s+\/\/.*$/, "");
