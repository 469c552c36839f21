import { expect } from "chai";
import { id } from "ethers";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { receiptDigest, signDigest, signedReceiptToJson } from "../../oracle/protocol/messages";
import { readReceipt, readReceipts } from "../../tasks/support";
import { DOMAIN, receiptWith } from "../support/fakeMessages";

describe("a file of receipts", () => {
  const signed = [1n, 2n].map((sequence) => {
    const receipt = receiptWith({ sequence });
    return { receipt, signature: signDigest(id("a key"), receiptDigest(DOMAIN, receipt)) };
  });
  const [first, second] = signed.map(signedReceiptToJson);
  const packed = `0x${"12".repeat(70)}`;
  let folder: string;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "licet-receipts-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  const fileOf = (content: unknown): string => {
    const file = path.join(folder, "receipts");
    writeFileSync(file, typeof content === "string" || Buffer.isBuffer(content) ? content : JSON.stringify(content));
    return file;
  };
  const read = (content: unknown) => readReceipts(fileOf(content), "--receipts");
  const plain = signed.map((one) => ({ ...one, requestSignature: null }));

  it("has one, or a list of a gateway's, or of an attestor's with the batch's proposal", () => {
    expect(read(first)).to.deep.equal({ receipts: [plain[0]] });
    expect(read([first, second])).to.deep.equal({ receipts: plain });
    const shown = { ...first, hash: id("hash"), state: "settled", batch_id: null };
    expect(read({ object: "list", data: [shown, second], has_more: false })).to.deep.equal({ receipts: plain });
    expect(
      read({ batch: id("batch"), header: {}, proposal: "0x1234", missing: 0, receipts: [first, second] }),
    ).to.deep.equal({
      receipts: plain,
      proposal: "0x1234",
    });
  });

  it("has a line each, behind the batch's, compressed or not", () => {
    const lines = [{ batch: id("batch"), header: {}, entries: "0x" }, first, second].map((line) =>
      JSON.stringify(line),
    );
    expect(read(lines.join("\n"))).to.deep.equal({ receipts: plain });
    // Archives have a gzip member for each license.
    expect(read(Buffer.concat(lines.map((line) => gzipSync(`${line}\n`))))).to.deep.equal({ receipts: plain });
  });

  it("may have the requests' signatures, as gateways and as attestors name them", () => {
    const wanted = { receipts: [{ ...signed[0], requestSignature: packed }] };
    expect(read({ ...first, request_signature: packed })).to.deep.equal(wanted);
    expect(read({ ...first, requestSignature: packed })).to.deep.equal(wanted);
    expect(read({ ...first, request_signature: null })).to.deep.equal({ receipts: [plain[0]] });
  });

  it("is refused with what is wrong with it", () => {
    const refusal = (content: unknown, reason: RegExp) => expect(() => read(content)).to.throw(reason);
    refusal("", /--receipts .* must be receipts in JSON, as a gateway gives them: /);
    refusal("{ half", /must be receipts in JSON/);
    refusal([], /there is no receipt in it/);
    refusal({ header: {} }, /there is no receipt in it/);
    refusal([first, { receipt: first }], /receipt 2: Receipt lacks licenseId/);
    refusal({ ...first, request_signature: "0x12" }, /receipt 1: a request's signature must be 70 bytes/);
    refusal({ receipts: [first], proposal: "mine" }, /proposal must be bytes/);
    expect(() => readReceipts(path.join(folder, "none"), "--receipts")).to.throw(/ENOENT/);
  });

  it("is one receipt where one is asked for", () => {
    expect(readReceipt(fileOf(first), "--receipt")).to.deep.equal(plain[0]);
    expect(() => readReceipt(fileOf([first, second]), "--receipt")).to.throw(
      /has 2 receipts: keep the one that is meant/,
    );
  });
});
