/** What `receipts:verify` says of a license that pays by vouchers, which a gateway serves and the chain has charged. */
import { expect } from "chai";
import hre from "hardhat";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { connectLicensee, licetFetch } from "../../oracle/licensee";
import { verifyReceipts } from "../../tasks/receipts";
import { moneyOf } from "../../tasks/support/session";
import type { Session } from "../../tasks/support";
import { LICENSE, VOUCHER_KEY, VoucherMarket } from "../support/voucherMarket";

describe("receipts:verify on the voucher road", function () {
  this.timeout(120_000);
  let world: VoucherMarket;
  let apiKey: string;
  let folder: string;
  let books: string;

  beforeEach(async () => {
    world = await VoucherMarket.open();
    apiKey = await world.apiKey();
    folder = mkdtempSync(join(tmpdir(), "licet-verify-"));
    books = join(folder, "books.json");
    await use();
  });

  afterEach(async () => {
    await world.close();
    rmSync(folder, { recursive: true });
  });

  /** Requests beyond the gateway's credit, which licetFetch signs vouchers for. */
  async function use(): Promise<void> {
    const escrow = await world.market.licet.escrow.getAddress();
    const licensee = await connectLicensee(hre.ethers.provider, { escrow, fromBlock: 0, clock: "chain" });
    const fetch = licetFetch({ ...licensee, apiKey, voucherKey: VOUCHER_KEY, file: books });
    const openai = new OpenAI({ baseURL: `${world.gateway.url}/v1`, apiKey: "none", fetch, maxRetries: 0 });
    const messages = [{ role: "user" as const, content: "May I copy this?" }];
    for (let i = 0; i < 20; i++) await openai.chat.completions.create({ model: "writer", messages });
  }

  const term = async () => (await world.store.vouchers.terms(1, LICENSE))[0];
  const post = (voucher: string) =>
    world.market.licet.escrow.connect(world.market.outsider).settleVouchers(1, 1, voucher);

  async function verified(withBooks = true) {
    const { licet } = world.market;
    const session = { hre, licet, money: await moneyOf(licet), book: { block: 0 } } as unknown as Session;
    const record = await verifyReceipts(session, {
      key: apiKey,
      url: world.gateway.url,
      books: withBooks ? books : undefined,
    });
    return record as Record<string, { units: bigint }> & { problems: string[] };
  }

  it("finds that what was signed, served and charged is one, and says what isn't charged yet", async () => {
    const { owed, signed, voucher } = await term();
    expect(signed > 0n && signed < owed).to.equal(true);
    const before = await verified();
    expect(before.problems).to.deep.equal([]);
    expect(before["of it by vouchers"].units).to.equal(0n);
    expect(before["not settled yet"].units).to.equal(owed);
    await post(voucher!);
    const after = await verified();
    expect(after.problems).to.deep.equal([]);
    expect(after["of it by vouchers"].units).to.equal(signed);
    expect(after["charged so far"].units).to.equal(signed);
    expect(after["not settled yet"].units).to.equal(owed - signed);
    expect((await verified(false)).problems).to.deep.equal([]);
  });

  it("finds a voucher that was charged beyond what was served, and that the books haven't signed it", async () => {
    const { owed, signed } = await term();
    await post(await world.voucher(owed + 5n));
    const worth = `Vouchers were charged ${owed + 5n} units; the receipts that they pay are worth ${owed}`;
    expect((await verified(false)).problems).to.deep.equal([worth]);
    expect((await verified()).problems).to.deep.equal([
      worth,
      `Term 0 was charged up to ${owed + 5n} units, and the books have signed for ${signed}: who else has the voucher key?`,
    ]);
  });

  it("finds a gateway that asks for more than its receipts make", async () => {
    const { owed } = await term();
    const { vouchers } = world.store;
    const { terms } = vouchers;
    vouchers.terms = async (...of) => (await terms.apply(vouchers, of)).map((one) => ({ ...one, owed: one.owed + 7n }));
    expect((await verified(false)).problems).to.deep.equal([
      `The gateway says that ${owed + 7n} units are owed for term 0; its receipts, and what was charged before, make ${owed}`,
    ]);
  });

  it("finds books that have signed for more than was served, or that aren't what was signed", async () => {
    const { owed, signed } = await term();
    const text = readFileSync(books, "utf8");
    const more = text.replace(`"spent":"${signed}n"`, `"spent":"${owed + 1n}n"`);
    expect(more).not.to.equal(text);
    writeFileSync(books, more);
    expect((await verified()).problems).to.deep.equal([
      `The books have signed for ${owed + 1n} units of term 0; its receipts, and what was charged before, make ${owed}`,
      `The books have signed for ${owed + 1n} units of license 1's term 0; the voucher in them says ${signed} units of license 1's term 0`,
    ]);
    writeFileSync(books, text.replace(/"voucher":"0x/, '"voucher":"0xff'));
    expect((await verified()).problems[0]).to.match(
      /the voucher in them says nothing \(a voucher's first byte must be/,
    );
  });

  it("refuses books of another license", async () => {
    writeFileSync(books, readFileSync(books, "utf8").replace('"licenseId":"1n"', '"licenseId":"2n"'));
    const problem = await verified().catch((cause) => cause);
    expect(problem.message).to.contain("has the books of license 2, and the API key is of 1: name another");
  });
});
