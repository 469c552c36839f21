/** A real browser, for what no stand-in shows: whether a page's policy lets its own script and style work, and how it is laid out. */
import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

const { CHROMIUM = "/usr/bin/chromium" } = process.env;

/** Debian's `chromium`, or what the variable CHROMIUM names; null where there is none. */
export async function startBrowser(): Promise<Browser | null> {
  if (!existsSync(CHROMIUM)) return null;
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
