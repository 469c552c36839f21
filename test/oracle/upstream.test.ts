import { expect } from "chai";
import fc from "fast-check";
import { EventSplitter } from "../../oracle/gateway/upstream";

/** Events with their data, and bytes that are none. */
const SAMPLES: [string, string | null][] = [
  ["data: one\n\n", "one"],
  ["data: ÿ€😀\n\n", "ÿ€😀"],
  ["data: two\r\n\r\n", "two"],
  [": a comment\n\n", null],
  ["event: message\nid: 7\ndata: first line\ndata: second line\n\n", "first line\nsecond line"],
  ["\n", null],
  ["\r\n", null],
];

describe("EventSplitter", () => {
  it("keeps every byte and every event, wherever the network cuts", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...SAMPLES)), fc.array(fc.nat(9), { minLength: 1 }), (samples, lengths) => {
        const bytes = Buffer.from(samples.map(([text]) => text).join("") + "data: last\n\n");
        const splitter = new EventSplitter();
        const events = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + 1 + lengths[i % lengths.length];
          events.push(...splitter.push(bytes.subarray(at, end)));
          at = end;
        }
        expect(Buffer.concat(events.map((event) => event.bytes))).to.deep.equal(bytes);
        const expected = [...samples.map(([, data]) => data), "last"].filter((data) => data !== null);
        expect(events.map(({ data }) => data).filter((data) => data !== null)).to.deep.equal(expected);
      }),
    );
  });

  it("reads the data of an event and gives null for comments", () => {
    const events = new EventSplitter().push(Buffer.from(": hello\n\ndata: a\ndata: b\n\ndata: [DONE]\r\n\r\n"));
    expect(events.map(({ data }) => data)).to.deep.equal([null, "a\nb", "[DONE]"]);
  });
});
