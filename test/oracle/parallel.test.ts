import { expect } from "chai";
import { setTimeout as wait } from "node:timers/promises";
import { readEach } from "../../oracle/chain/parallel";

describe("readEach", () => {
  it("keeps the items' order, whichever read ends first", async () => {
    expect(await readEach([30, 1, 15], (ms) => wait(ms, ms))).to.deep.equal([30, 1, 15]);
    expect(await readEach([], () => expect.fail("nothing is there to read"))).to.deep.equal([]);
  });

  it("reads no more at once than it may", async () => {
    let [running, most] = [0, 0];
    await readEach(
      Array.from({ length: 20 }, (_, i) => i),
      async () => {
        most = Math.max(most, ++running);
        await wait(1);
        running--;
      },
      3,
    );
    expect(most).to.equal(3);
  });

  it("throws what a read throws", async () => {
    const failed = await readEach([1, 2, 3], async (item) => {
      if (item === 2) throw new Error(`${item} can't be read`);
    }).catch((error) => error);
    expect(failed.message).to.equal("2 can't be read");
  });
});
