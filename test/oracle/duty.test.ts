import { expect } from "chai";
import { setTimeout as wait } from "node:timers/promises";
import type { Log } from "../../oracle/log";
import { Duty, SETTLING } from "../../oracle/duty";
import { Store } from "../../oracle/store/store";
import { describeOnEach, type Place } from "../support/databases";

const LEASE_MS = 300;

describeOnEach("a settler's turn", (place) => {
  let here: Place;
  let store: Store;
  let lines: string[];
  let duties: Duty[];

  beforeEach(async () => {
    here = place();
    store = new Store(await here.open());
    lines = [];
    duties = [];
  });
  afterEach(async () => {
    await Promise.all(duties.map((duty) => duty.end()));
    await store.close();
    here.remove();
  });

  function dutyOf(holder: string): Duty {
    const say = (message: string) => void lines.push(`${holder}: ${message}`);
    const duty = new Duty(SETTLING, store.leases, holder, { info: say, warn: say } as unknown as Log, LEASE_MS);
    duties.push(duty);
    return duty;
  }

  async function until(holds: () => boolean): Promise<void> {
    for (const deadline = Date.now() + 10_000; !holds(); await wait(10)) expect(Date.now()).to.be.lessThan(deadline);
  }

  it("is one process's at a time, for as long as that keeps it", async () => {
    const [first, second] = [dutyOf("first"), dutyOf("second")];
    await first.begin();
    await second.begin();
    await wait(4 * LEASE_MS);
    expect([first.isMine, second.isMine]).to.deep.equal([true, false]);
    expect(lines).to.deep.equal(["first: Settler takes its turn", "second: Settler waits: it is another's turn"]);
  });

  it("is another's soon after it was left", async () => {
    const [first, second] = [dutyOf("first"), dutyOf("second")];
    await first.begin();
    await second.begin();
    await first.end();
    await until(() => second.isMine);
    expect(first.isMine).to.equal(false);
  });

  it("is another's once its process hasn't said for a while that it lives, and not before", async () => {
    const second = dutyOf("second");
    await store.leases.acquire("settler", "one that was killed", LEASE_MS);
    await second.begin();
    expect(second.isMine).to.equal(false);
    await until(() => second.isMine);
  });

  it("is taken at once by one who has the same name: the same file, opened anew", async () => {
    await store.leases.acquire("settler", "the only one", 60_000);
    const next = dutyOf("the only one");
    await next.begin();
    expect(next.isMine).to.equal(true);
  });

  it("is given up by one who finds that another has it", async () => {
    const first = dutyOf("first");
    await first.begin();
    await store.leases.release({ name: "settler", holder: "first", token: 1n });
    await store.leases.acquire("settler", "second", 60_000);
    await until(() => !first.isMine);
    expect(lines).to.include("first: Settler has lost its turn");
  });
});

describe("a settler's turn, while the store can't be used", () => {
  it("is nobody's, and is taken again when it can", async () => {
    let isDown = false;
    const leases = {
      acquire: async () => (isDown ? Promise.reject(new Error("down")) : { name: "settler", holder: "a", token: 1n }),
      renew: async () => (isDown ? Promise.reject(new Error("down")) : true),
      release: async () => undefined,
    };
    const ignored = () => undefined;
    const duty = new Duty(SETTLING, leases as never, "a", { info: ignored, warn: ignored } as unknown as Log, LEASE_MS);
    await duty.begin();
    expect(duty.isMine).to.equal(true);
    isDown = true;
    await wait(LEASE_MS);
    expect(duty.isMine).to.equal(false);
    isDown = false;
    await wait(LEASE_MS);
    expect(duty.isMine).to.equal(true);
    await duty.end();
  });
});
