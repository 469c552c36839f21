import { expect } from "chai";
import { createHash } from "node:crypto";
import { createContext, runInContext } from "node:vm";
import { Figures } from "../../oracle/operations/figures";
import { startOperations, type Operations } from "../../oracle/operations/operations";
import { Readiness } from "../../oracle/operations/readiness";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { receiptWith } from "../support/fakeMessages";
import { serveReceipt } from "../support/stubMarket";

/** As much of a document as the page's script needs. */
class Node {
  textContent = "";
  className = "";
  inner: Node[] = [];

  append(...inner: Node[]): void {
    this.inner.push(...inner);
  }

  replaceChildren(...inner: Node[]): void {
    this.inner = inner;
  }

  get texts(): string[] {
    return [this.textContent, ...this.inner.flatMap(({ texts }) => texts)].filter((text) => text !== "");
  }
}

describe("the dashboard", () => {
  const ending = new AbortController();
  let store: Store;
  let figures: Figures;
  let readiness: Readiness;
  let operations: Operations;
  let elements: Map<string, Node>;
  let refresh: () => Promise<void>;
  let isGone: boolean;

  beforeEach(async () => {
    store = new Store(sqliteDatabase(":memory:"));
    figures = new Figures(ending.signal);
    figures.watchCommits(store, "operator.sqlite");
    readiness = new Readiness();
    operations = await startOperations({ host: "127.0.0.1", port: 0 }, figures.registry, readiness);
    elements = new Map();
    isGone = false;
  });

  afterEach(async () => {
    await operations.close();
    await store.close();
  });
  after(() => ending.abort());

  const page = async () => fetch(operations.url);

  /** Runs the page's script against the server, and gives what it shows once it has asked. */
  async function open(): Promise<void> {
    const [, script] = /<script>(.*)<\/script>/s.exec(await (await page()).text())!;
    const byId = (id: string) => elements.get(id) ?? elements.set(id, new Node()).get(id)!;
    const context = createContext({
      document: { createElement: () => new Node(), getElementById: byId },
      fetch: (path: string) => (isGone ? Promise.reject(new Error("gone")) : fetch(operations.url + path)),
      setTimeout: () => undefined,
    });
    runInContext(script.replace("void refresh();", ""), context);
    refresh = runInContext("refresh", context) as () => Promise<void>;
    await refresh();
  }

  const shown = (id: string) => elements.get(id)!.texts;
  const figure = (name: string) => {
    const box = elements.get("figures")!.inner.find(({ texts }) => texts[0] === name)!;
    return { value: box.texts[1], isBad: box.className === "bad" };
  };

  it("loads nothing from elsewhere, and runs nothing but its own script", async () => {
    const answer = await page();
    const text = await answer.text();
    expect(answer.headers.get("content-type")).to.equal("text/html; charset=utf-8");
    expect(text).not.to.match(/https?:|src=|<link|@import|url\(/);
    const [, script] = /<script>(.*)<\/script>/s.exec(text)!;
    const hash = createHash("sha256").update(script).digest("base64");
    const policy = answer.headers.get("content-security-policy");
    expect(policy)
      .to.match(/^default-src 'none';/)
      .and.contain(`script-src 'sha256-${hash}'`);
    expect(text.match(/<script/g)).to.have.length(1);
    expect(text).not.to.match(/innerHTML|\son\w+=|\sstyle=/);
  });

  it("shows queue depth, unsettled value, headroom, p95 and errors", async () => {
    figures.watchOperatorStore(store, () => 1_000_000);
    const upstreams = [{ model: "m", count: 2, up: 1 }];
    const headroom = async () => 12_345_678n;
    figures.watchGateway(() => ({ running: 0, reserved: 5n, upstreams }), store, headroom);
    await serveReceipt(store);
    for (let i = 0; i < 99; i++) figures.ofGateway.charged(receiptWith({ ttftMs: 90, durationMs: 800 }), 1n);
    figures.ofGateway.charged(receiptWith({ ttftMs: 9_000, durationMs: 20_000 }), 1n);
    figures.ofGateway.answered("/v1/chat/completions", 200);
    figures.ofGateway.answered("/v1/chat/completions", 503);
    figures.ofGateway.refused({ code: 'a"b\\c', status: 503 } as never);
    readiness.started();
    await open();
    expect(shown("state")).to.deep.equal(["ready"]);
    expect(figure("Receipts in no batch").value).to.equal("1");
    expect(figure("Unsettled value, units").value).to.equal("11");
    expect(figure("Reserved value, units").value).to.equal("5");
    expect(figure("In-flight headroom, units")).to.deep.equal({ value: "12 345 662", isBad: false });
    expect(figure("First token, p95").value).to.equal("≤ 100 ms");
    expect(figure("Request, p95").value).to.equal("≤ 1 s");
    expect(figure("Answers 5xx")).to.deep.equal({ value: "1 of 2", isBad: true });
    expect(figure("Upstreams down")).to.deep.equal({ value: "1", isBad: true });
    expect(figure("Batches drafted").value).to.equal("0");
    expect(shown("errors")).to.deep.equal(['answered 503 a"b\\c', "1"]);
  });

  it("counts errors and p95 from its own last minutes, and not from the process's start", async () => {
    figures.ofGateway.answered("/v1/models", 500);
    figures.ofGateway.charged(receiptWith({ ttftMs: 4_000 }), 1n);
    await open();
    figures.ofGateway.answered("/v1/models", 200);
    figures.ofGateway.charged(receiptWith({ ttftMs: 20 }), 1n);
    await refresh();
    expect(figure("Answers 5xx")).to.deep.equal({ value: "0 of 1", isBad: false });
    expect(figure("First token, p95").value).to.equal("≤ 25 ms");
    expect(shown("errors")).to.deep.equal([]);
  });

  it("shows challenges, and marks those that fail or are lost soon", async () => {
    await open();
    expect([figure("Challenges open").value, figure("Challenge is lost in").value]).to.deep.equal(["–", "–"]);
    const state = {
      open: { Open: 2, Answered: 1, Escalated: 0, Disputed: 0 },
      failing: 0,
      endangered: 0,
      deadline: 101_000,
    };
    figures.watchDisputes({ figures: () => state }, async () => 1_000);
    await refresh();
    expect(figure("Challenges open")).to.deep.equal({ value: "3", isBad: false });
    expect(figure("Challenge is lost in")).to.deep.equal({ value: "28 h", isBad: false });
    Object.assign(state, { failing: 1, deadline: 4_600 });
    await refresh();
    expect(figure("Challenges open")).to.deep.equal({ value: "3, 1 failing", isBad: true });
    expect(figure("Challenge is lost in")).to.deep.equal({ value: "60 min", isBad: true });
  });

  it("says why the oracle isn't ready, that stake is used up, and that nothing answers", async () => {
    figures.watchGateway(
      () => ({ running: 0, reserved: 9n, upstreams: [] }),
      store,
      async () => 2n,
    );
    readiness.add("chain", () => "its latest block is old");
    readiness.started();
    await open();
    expect(shown("state")).to.deep.equal(["not ready"]);
    expect(shown("reasons")).to.deep.equal(["chain: its latest block is old"]);
    expect(figure("In-flight headroom, units")).to.deep.equal({ value: "-7", isBad: true });
    expect(figure("First token, p95").value).to.equal("–");
    isGone = true;
    await refresh();
    expect(shown("state")).to.deep.equal(["doesn't answer"]);
  });
});
