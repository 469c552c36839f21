import { expect } from "chai";
import fc from "../support/fastCheck";
import type { ServerResponse } from "node:http";
import { Readable, Writable } from "node:stream";
import type { Dispatcher } from "undici";
import { StreamRelay } from "../../oracle/gateway/relay";
import { EventSplitter } from "../../oracle/gateway/upstream";
import { saltedHash } from "../../oracle/protocol/messages";
import { eventOf } from "../support/fakeUpstream";

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

describe("StreamRelay", () => {
  const SALT = `0x${"5a".repeat(32)}`;
  const delta = (content: string) => eventOf({ choices: [{ index: 0, delta: { content } }] });
  const USAGE = eventOf({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 2 } });
  const DONE = "data: [DONE]\r\n\r\n";
  /** What servers send, and strange things that a stream may have in it. */
  const PIECES = [
    ...[delta("Yes"), delta("ÿ€😀"), delta(""), USAGE],
    ...[": ping\n\n", "event: x\nid: 7\nretry: 9\n\n", "data: {{{\n\n", "data:\n\n", "\r\n", "\n"],
    ...['data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\r\n\r\n'],
  ];

  async function relayed(sent: Buffer, lengths: number[], includeUsage: boolean) {
    const cut = function* () {
      for (let at = 0, i = 0; at < sent.length; i++) {
        const end = at + 1 + lengths[i % lengths.length];
        yield sent.subarray(at, end);
        at = end;
      }
    };
    const got: Buffer[] = [];
    const client = new Writable({
      highWaterMark: 40,
      write: (piece: Buffer, _encoding, done) => void (got.push(piece), setImmediate(done)),
    });
    const body = Object.assign(Readable.from(cut()), { dump: async () => undefined });
    let begun = 0;
    const request = { kind: "chat", includeUsage } as const;
    const relay = await StreamRelay.start(client as unknown as ServerResponse, SALT, request, () => void begun++);
    await relay.run(body as unknown as Dispatcher.ResponseData["body"], new AbortController().signal);
    await relay.finish(1_000);
    return { bytes: Buffer.concat(got), begun, relay };
  }

  it("gives the client every byte, in order, but for usage that it didn't ask for, wherever the network cuts", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...PIECES), { maxLength: 25 }),
        fc.array(fc.nat(40), { minLength: 1 }),
        fc.boolean(),
        async (pieces, lengths, includeUsage) => {
          const sent = [delta("first"), ...pieces, DONE];
          const { bytes, begun, relay } = await relayed(Buffer.from(sent.join("")), lengths, includeUsage);
          const expected = Buffer.from(sent.filter((piece) => includeUsage || piece !== USAGE).join(""));
          expect(bytes.toString()).to.equal(expected.toString());
          expect(begun).to.equal(1);
          expect(relay.responseHash).to.equal(saltedHash(SALT, expected));
          const said = sent.flatMap((piece) => /"(?:content|text)":"([^"]+)"/.exec(piece)?.[1] ?? []);
          expect(relay.generated.texts()).to.deep.equal([said.join("")]);
        },
      ),
      { numRuns: 60 },
    ));
});
