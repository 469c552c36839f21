/**
 * Something that whoever runs Licet can put right. The message says what is wrong, with its values, and what to do about
 * it: people see it as it is, without a stack.
 */
export class Problem extends Error {
  override name = "Problem";
}

/** Most characters of a value from outside that a message repeats. */
const MOST_SHOWN = 120;

/** A value from outside as a message shows it: as JSON, and cut where it is long. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= MOST_SHOWN ? text : `${text.slice(0, MOST_SHOWN)}… (${text.length} characters)`;
}

/** A moment as a message shows it. An unsigned 40-bit time may be beyond what a Date can hold. */
export function dateOf(unixSeconds: number): string {
  const time = new Date(unixSeconds * 1_000);
  return Number.isNaN(time.getTime()) ? `second ${unixSeconds}` : time.toISOString();
}

/** Why something failed, in one line, whatever was thrown. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { message, code, errors } = cause as Error & { code?: unknown; errors?: unknown[] };
  const inner = Array.isArray(errors) && errors.length > 0 ? reasonOf(errors[0]) : String(code ?? cause.name);
  return (message || inner).split("\n")[0];
}
