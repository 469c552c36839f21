import { reasonOf } from "../problem";

/**
 * What a verifier found. `pass` carries what was proven. `fail` says that the evidence is wrong; `unknown` says that nobody can
 * tell with what was given (a revocation list, a key set or an allow-list is missing). Neither hands on a single claim: what
 * isn't proven isn't there to be used by mistake. The reason is a sentence for the operator whose evidence it is.
 */
export type Verdict<Claims> =
  { result: "pass"; reason: string; claims: Claims } | { result: "fail" | "unknown"; reason: string; claims: null };

/** Thrown inside a verifier where the evidence is wrong. */
export class Refused extends Error {
  override name = "Refused";
}

/** Thrown inside a verifier where what was given isn't enough to tell. */
export class Undecided extends Error {
  override name = "Undecided";
}

/** @throws Refused where the rule doesn't hold */
export function refuseUnless(rule: boolean, sentence: string): asserts rule {
  if (!rule) throw new Refused(sentence);
}

/** @throws Undecided where the rule doesn't hold */
export function undecidedUnless(rule: boolean, sentence: string): asserts rule {
  if (!rule) throw new Undecided(sentence);
}

/**
 * Runs a verifier. Whatever it throws but Undecided is a fail: bytes that make a parser stumble prove nothing.
 * @param about the evidence, as a sentence begins with it
 */
export async function verdictOf<Claims>(
  about: string,
  verify: () => Claims | Promise<Claims>,
  passed: (claims: Claims) => string,
): Promise<Verdict<Claims>> {
  try {
    const claims = await verify();
    return { result: "pass", reason: passed(claims), claims };
  } catch (cause) {
    if (cause instanceof Undecided) return { result: "unknown", reason: cause.message, claims: null };
    if (cause instanceof Refused) return { result: "fail", reason: cause.message, claims: null };
    return { result: "fail", reason: `${about} can't be read: ${reasonOf(cause)}`, claims: null };
  }
}
