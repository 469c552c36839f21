const WIDTH = 30;

/** Says on standard error what is done next, where that is a terminal. */
export function saySteps(step: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${step} …\n`);
}

/** A progress bar on standard error, drawn only where that is a terminal. */
export function progressBar(label: string, unit = "bytes"): { update(done: number, total: number): void; end(): void } {
  const { stderr } = process;
  if (!stderr.isTTY) return { update: () => {}, end: () => {} };
  return {
    update: (done, total) => {
      const filled = total === 0 ? WIDTH : Math.round((done / total) * WIDTH);
      stderr.write(`\r${label} [${"#".repeat(filled)}${" ".repeat(WIDTH - filled)}] ${done} of ${total} ${unit}`);
    },
    end: () => stderr.write("\n"),
  };
}
