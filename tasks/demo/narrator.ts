/** Tells the demo's story on standard output, and counts what it checked. */
export class Narrator {
  private act = 0;
  private checked = 0;
  private readonly broken: string[] = [];

  title(text: string): void {
    console.log(`\n${++this.act}. ${text}`);
  }

  say(text: string): void {
    console.log(`   ${text}`);
  }

  /** Says whether `holds`, and remembers it. */
  check(claim: string, holds: boolean): void {
    this.checked++;
    if (!holds) this.broken.push(claim);
    console.log(`   ${holds ? "✓" : "✗ NOT SO:"} ${claim}`);
  }

  /** Says whether both are the same, with their values. */
  checkEqual(claim: string, actual: unknown, expected: unknown): void {
    const same = actual === expected;
    this.check(same ? `${claim}: ${actual}` : `${claim}: ${actual}, and not ${expected}`, same);
  }

  /**
   * Tries what must be refused.
   * @param reasonOf Says why, from what was thrown or answered; a reason must match `expected`
   */
  async checkRefused(what: string, expected: RegExp, attempt: () => Promise<string | undefined>): Promise<void> {
    const reason = await attempt();
    if (reason === undefined) return this.check(`${what} is refused`, false);
    this.check(`${what} is refused: ${reason}`, expected.test(reason));
  }

  /** The last line; false if anything didn't hold. */
  end(): boolean {
    for (const claim of this.broken) console.log(`\nNot so: ${claim}`);
    console.log(`\n${this.checked - this.broken.length} of ${this.checked} checks hold.`);
    return this.broken.length === 0;
  }
}
