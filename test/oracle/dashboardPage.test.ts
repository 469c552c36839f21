import { expect } from "chai";
import type { Browser, Page } from "playwright-core";
import { Figures } from "../../oracle/operations/figures";
import { startOperations, type Operations } from "../../oracle/operations/operations";
import { Readiness } from "../../oracle/operations/readiness";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { startBrowser } from "../support/browser";
import { receiptWith } from "../support/fakeMessages";
import { serveReceipt } from "../support/stubMarket";

const PHONE = { width: 360, height: 740 };
const DESK = { width: 1280, height: 800 };

describe("the dashboard in a browser", () => {
  const ending = new AbortController();
  let browser: Browser | null;
  let store: Store;
  let figures: Figures;
  let operations: Operations;
  let page: Page;
  let complaints: string[];

  before(async function () {
    browser = await startBrowser();
    if (browser === null) {
      console.log("      (skipped: there is no Chromium at /usr/bin/chromium, and CHROMIUM names none)");
      this.skip();
    }
  });
  after(async () => {
    ending.abort();
    await browser?.close();
  });

  beforeEach(async () => {
    store = new Store(sqliteDatabase(":memory:"));
    figures = new Figures(ending.signal);
    figures.watchOperatorStore(store, () => 1_000_000);
    const upstreams = [{ model: "m", count: 2, up: 1 }];
    figures.watchGateway(
      () => ({ running: 3, reserved: 5n, upstreams }),
      store,
      async () => 123_456_789_012n,
    );
    const readiness = new Readiness();
    readiness.add("chain", () => "its latest block is 300 seconds old: is the node in sync?");
    readiness.started();
    operations = await startOperations({ host: "127.0.0.1", port: 0 }, figures.registry, readiness);
    await serveReceipt(store);
    figures.ofGateway.charged(receiptWith({ ttftMs: 90, durationMs: 800 }), 1n);
    figures.ofGateway.answered("/v1/chat/completions", 503);
    figures.ofGateway.refused({ code: "<b>stake_exceeded</b>", status: 503 } as never);
    page = await browser!.newPage();
    complaints = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
  });

  afterEach(async () => {
    await page.close();
    await operations.close();
    await store.close();
  });

  async function open(viewport: { width: number; height: number }): Promise<void> {
    await page.setViewportSize(viewport);
    await page.goto(operations.url);
    await page.getByText("not ready").waitFor();
  }

  const boxOf = (name: string) => page.locator("#figures div", { has: page.getByText(name, { exact: true }) });

  it("shows the figures under its own policy, with nothing to complain of", async () => {
    await open(DESK);
    expect(await boxOf("In-flight headroom, units").locator("dd").textContent()).to.equal("123 456 788 996");
    expect(await boxOf("Receipts in no batch").locator("dd").textContent()).to.equal("1");
    expect(await page.locator("#reasons").textContent()).to.contain("its latest block is 300 seconds old");
    // /readyz answers 503 while it isn't ready, which browsers note of themselves.
    expect(complaints.filter((text) => !text.includes("503"))).to.deep.equal([]);
  });

  it("sets its boxes side by side on a desk, and below each other on a phone, never wider than the screen", async () => {
    const columns = () =>
      page.locator("#figures").evaluate((list) => getComputedStyle(list).gridTemplateColumns.split(" ").length);
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    await open(DESK);
    expect(await columns()).to.be.greaterThan(2);
    expect(await overflow()).to.be.at.most(0);
    await open(PHONE);
    expect(await columns()).to.equal(1);
    expect(await overflow()).to.be.at.most(0);
  });

  it("marks what is bad by a line, too, and not by its colour alone", async () => {
    await open(DESK);
    const shadowOf = (name: string) => boxOf(name).evaluate((box) => getComputedStyle(box).boxShadow);
    expect(await shadowOf("Upstreams down")).to.contain("inset");
    expect(await shadowOf("Receipts in no batch")).to.equal("none");
  });

  it("shows as text what looks like markup", async () => {
    await open(DESK);
    expect(await page.locator("#errors").textContent()).to.contain("<b>stake_exceeded</b>");
    expect(await page.locator("#errors b").count()).to.equal(0);
  });
});
