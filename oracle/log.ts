import { reasonOf } from "./problem";

type Level = "debug" | "info" | "warn" | "error";
type Fields = Record<string, unknown>;

/** One line an event: a fixed message, and what varies as fields. */
export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** A log whose lines carry these fields, too. */
  with(fields: Fields): Log;
}

const LEVELS: Level[] = ["debug", "info", "warn", "error"];

/** Writes JSON lines of at least the given level, to standard error unless told otherwise. Bigints become decimal strings. */
export function createLog(
  least: Level = "info",
  write: (line: string) => void = (line) => process.stderr.write(line + "\n"),
  common: Fields = {},
): Log {
  const at = (level: Level) => (message: string, fields?: Fields) => {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
    write(lineOf({ time: new Date().toISOString(), level, message }, { ...common, ...fields }));
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (fields) => createLog(least, write, { ...common, ...fields }),
  };
}

/** What can't be written down must not stop what it tells about. A field that is called like what each line has gets another name. */
function lineOf(event: Fields, fields: Fields): string {
  const others = Object.entries(fields).map(([name, value]) => [name in event ? `${name}_` : name, value]);
  try {
    return JSON.stringify({ ...event, ...Object.fromEntries(others) }, plain);
  } catch (cause) {
    return JSON.stringify({ ...event, unwritable: reasonOf(cause) });
  }
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) {
    return { name: value.name, message: value.message || reasonOf(value), cause: value.cause };
  }
  return value;
}
