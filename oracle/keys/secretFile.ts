import { readFileSync, statSync } from "node:fs";
import { Problem, reasonOf } from "../problem";

/** Whoever isn't the file's user or of its group. */
const OTHERS = 0o007;

/**
 * A file with a secret in it, which no message repeats.
 * @param what names the file's purpose in a message
 * @throws Problem if it can't be read, or everybody on this machine can
 */
export function readSecretFile(file: string, what: string): string {
  const mode = attempt(file, what, () => statSync(file).mode);
  if ((mode & OTHERS) !== 0) {
    throw new Problem(
      `${what} ${file} is open to every user of this machine (mode ${(mode & 0o777).toString(8)}): chmod 600 it, and take ` +
        `another secret if somebody may have read it.`,
    );
  }
  return attempt(file, what, () => readFileSync(file, "utf8"));
}

function attempt<T>(file: string, what: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new Problem(`${what} ${file} can't be read (${reasonOf(cause)}): check its path, and whose it is.`, {
      cause,
    });
  }
}
