import { isAmount, textOf } from "./money";

/** What a task prints and returns: one flat record. */
export type TaskRecord = Record<string, unknown>;

/** Prints a record to standard output: a table for people, or JSON. */
export function print(record: TaskRecord, json: boolean): void {
  console.log(json ? toJson(record) : toTable(record));
}

/** A line a value; a list has a line for each of its items. */
function toTable(record: TaskRecord): string {
  const width = Math.max(0, ...Object.keys(record).map((key) => key.length));
  return Object.entries(record)
    .flatMap(([key, value]) => linesOf(value).map((line, i) => `${(i === 0 ? key : "").padEnd(width)}  ${line}`))
    .join("\n");
}

const linesOf = (value: unknown): string[] =>
  Array.isArray(value) && value.length > 0 ? value.map(toText) : [toText(value)];

function toText(value: unknown): string {
  if (isAmount(value)) return textOf(value);
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(toText).join(", ") || "none";
  if (isPlain(value)) {
    return Object.entries(value)
      .map(([key, field]) => `${key} ${toText(field)}`)
      .join(", ");
  }
  return String(value);
}

const isPlain = (value: unknown): value is object =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/** JSON with big integers as decimal strings. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (_key, field) => (typeof field === "bigint" ? field.toString() : field), 2);

/** A date for people; seconds since 1970 as the contracts have it. */
export const dateOf = (seconds: bigint | number): Date => new Date(Number(seconds) * 1000);
