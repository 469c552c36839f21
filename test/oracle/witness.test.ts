import { expect } from "chai";
import { logsIn, type Witness } from "../../oracle/chain/witness";

describe("logs of a span", () => {
  /** A node that tells of so many blocks at once, each of which has a log, and keeps what it was asked. */
  const nodeTelling = (most: number) => {
    const asked: [number, number][] = [];
    const witness: Pick<Witness, "ask"> = {
      ask: async (method, [filter]) => {
        const { fromBlock, toBlock, address } = filter as Record<string, string>;
        expect([method, address]).to.deep.equal(["eth_getLogs", "0x12"]);
        const [from, to] = [Number(fromBlock), Number(toBlock)];
        asked.push([from, to]);
        if (to - from + 1 > most) throw new Error(`query returned more than ${most} results`);
        return Array.from({ length: to - from + 1 }, (_, i) => from + i);
      },
    };
    return { asked, read: (from: number, to: number) => logsIn(witness, { address: "0x12" }, { from, to }, String) };
  };
  const blocks = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

  it("are asked for at once where a node tells of them", async () => {
    const { asked, read } = nodeTelling(10_000);
    expect(await read(5, 10_004)).to.deep.equal(blocks(5, 10_004));
    expect(asked).to.deep.equal([[5, 10_004]]);
  });

  it("are asked for in halves where it doesn't, each once and in order", async () => {
    const { asked, read } = nodeTelling(2_000);
    expect(await read(1, 7_999)).to.deep.equal(blocks(1, 7_999));
    expect(asked).to.deep.equal([
      [1, 7_999],
      [1, 4_000],
      [1, 2_000],
      [2_001, 4_000],
      [4_001, 7_999],
      [4_001, 6_000],
      [6_001, 7_999],
    ]);
  });

  it("aren't asked for ever again where it tells of none, and what it said is told", async () => {
    const { asked, read } = nodeTelling(0);
    await expect(read(1, 1_000_000)).to.be.rejectedWith("query returned more than 0 results");
    expect(asked).to.have.length(11);
  });
});
