import { expect } from "chai";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { reset } from "@nomicfoundation/hardhat-network-helpers";
import hre from "hardhat";
import { addressBookPath } from "../../deploy/addressBook";
import { decodeBearer } from "../../oracle/protocol/messages";
import { ATTESTORS } from "../support/market";

/** Numbers of the accounts that act. */
const PUBLISHER = 1;
const OPERATOR = 2;
const LICENSEE = 3;

const book = addressBookPath(hre.config.paths.root, hre.network.name);
const folder = mkdtempSync(path.join(tmpdir(), "licet-tasks-"));

type TaskArguments = Record<string, string | number | bigint | boolean>;

/** Runs a task, and keeps what it prints. */
async function run(name: string, args: TaskArguments = {}) {
  const printed: string[] = [];
  const { log, error } = console;
  console.log = console.error = (line: string) => printed.push(line);
  try {
    const record = (await hre.run(name, args)) as Record<string, unknown> | undefined;
    const failed = process.exitCode === 1;
    return { record, failed, printed: printed.join("\n") };
  } finally {
    process.exitCode = undefined;
    Object.assign(console, { log, error });
  }
}

async function refused(name: string, args: TaskArguments, reason: string | RegExp) {
  const { record, failed, printed } = await run(name, args);
  expect({ record, failed }).to.deep.equal({ record: undefined, failed: true });
  expect(printed).to.match(new RegExp(reason));
}

describe("tasks", () => {
  before(async () => {
    rmSync(book, { force: true });
    await reset();
  });

  after(() => {
    rmSync(book, { force: true });
    rmSync(folder, { recursive: true });
  });

  const plan = (changes: object) => {
    const file = path.join(folder, "plan.json");
    const terms = { rates: { requests: "100" }, publisherPercent: 30, attestorPercent: 2, hold: "1h", term: "30d" };
    writeFileSync(file, JSON.stringify({ ...terms, ...changes }));
    return { asset: 1, terms: file, licenseText: "models/lic380k/LICENSE", account: PUBLISHER };
  };
  const attestors = ATTESTORS.map(({ address }) => address).join(",");

  describe("before a deployment", () => {
    it("say that there is none, and how to make one", () =>
      refused("license:show", { license: 1n }, /no readable address book .* deploy first, with `npx hardhat deploy/));

    it("deploy refuses a window that is no length of time", () =>
      refused(
        "deploy",
        { attestors, window: "2 days" },
        /--window must be a length of time such as 30m, 12h or 30d; it is "2 days"/,
      ));

    it("deploy refuses a threshold that isn't a majority", async () => {
      await expect(run("deploy", { attestors, threshold: 1 })).to.be.rejectedWith(/ThresholdNotMajority/);
    });
  });

  describe("a market's life", () => {
    it("deploy writes the address book", async () => {
      const { record, printed } = await run("deploy", { attestors });
      expect(record).to.include.keys("UsageEscrow", "CommitteeAttestor", "TestCurrency");
      expect(printed).to.contain(book);
    });

    it("model:register hashes the folder and publishes its manifest", async () => {
      const { record } = await run("model:register", {
        folder: "models/lic380k",
        uri: "ipfs://model",
        versionUri: "ipfs://version",
        account: PUBLISHER,
      });
      expect(record).to.include({ asset: 1, version: 4294967297n });
      expect(record?.files).to.have.length(3);
    });

    it("plan:create reads people's terms", async () => {
      const { record } = await run("plan:create", {
        asset: 1,
        terms: "models/lic380k-plan.json",
        licenseText: "models/lic380k/LICENSE",
        account: PUBLISHER,
      });
      expect(record).to.include({ plan: 1, asset: 1 });
      expect(record?.["rate of outputTokens"]).to.deep.equal({ amount: "3.0", symbol: "TUSD", units: 3_000_000n });
    });

    it("operator:register registers a key and the plans that are served", async () => {
      const { record } = await run("operator:register", {
        endpoint: "http://127.0.0.1:8080",
        key: ATTESTORS[0].address,
        plans: "1",
        account: OPERATOR,
      });
      expect(record).to.deep.include({ operator: 1, plans: [1] });
    });

    it("stake:add stakes in whole units", async () => {
      await run("currency:mint", { amount: "1000", account: OPERATOR });
      const { printed } = await run("stake:add", { operator: 1, amount: "999.5", account: OPERATOR });
      expect(printed).to.match(/stake +999\.5 TUSD \(999500000 units\)/);
    });

    it("license:buy buys, funds and caps", async () => {
      await run("currency:mint", { amount: "50", account: LICENSEE });
      const { record } = await run("license:buy", { plan: 1, operator: 1, fund: "10", cap: "20", account: LICENSEE });
      expect(record?.license).to.equal(1n);
      expect(record?.["own cap"]).to.deep.include({ units: 20_000_000n });
    });

    it("license:fund funds, with an approval or a permit", async () => {
      await run("license:fund", { license: 1n, amount: "2.5", account: LICENSEE });
      const { record } = await run("license:fund", { license: 1n, amount: "2.5", permit: true, account: LICENSEE });
      expect(record?.balance).to.deep.include({ units: 15_000_000n });
    });

    it("license:grant prints an API key of the owner's", async () => {
      const { record } = await run("license:grant", { license: 1n, cap: "5", valid: "12h", account: LICENSEE });
      const { grant } = decodeBearer(record?.key as string);
      expect(grant).to.include({ licenseId: 1n, cap: 5_000_000n, generation: 0 });
      expect(grant.expiresAt - grant.notBefore).to.equal(12 * 3600);
    });

    it("license:show shows it, as a table and as JSON", async () => {
      expect((await run("license:show", { license: 1n })).printed).to.match(
        /^balance +15\.0 TUSD \(15000000 units\)$/m,
      );
      const { printed } = await run("license:show", { license: 1n, json: true });
      expect(JSON.parse(printed).balance).to.deep.equal({ amount: "15.0", symbol: "TUSD", units: "15000000" });
    });
  });

  describe("bad input", () => {
    const rows: [string, string, () => TaskArguments, RegExp][] = [
      [
        "license:buy",
        "an amount that is none",
        () => ({ plan: 1, operator: 1, fund: "ten" }),
        /--fund must be an amount of TUSD/,
      ],
      [
        "license:buy",
        "too many decimals",
        () => ({ plan: 1, operator: 1, fund: "0.0000001" }),
        /--fund may have at most 6 decimals/,
      ],
      [
        "license:buy",
        "an empty wallet",
        () => ({ plan: 1, operator: 1, fund: "5", account: 9 }),
        /has 0\.0 TUSD and needs 5\.0: send it the rest/,
      ],
      [
        "license:buy",
        "a plan that isn't there",
        () => ({ plan: 9, operator: 1 }),
        /The chain refused: PlanUnknown\(planId 9\)/,
      ],
      [
        "license:buy",
        "an operator that doesn't serve it",
        () => ({ plan: 1, operator: 7 }),
        /PlanNotServed\(operatorId 7, planId 1\)/,
      ],
      [
        "license:buy",
        "a cap below the lowest",
        () => ({ plan: 1, operator: 1, cap: "3" }),
        /--cap must be at least 9 whole units/,
      ],
      [
        "license:buy",
        "an account that isn't there",
        () => ({ plan: 1, operator: 1, account: 99 }),
        /--account 99: network hardhat has accounts 0 to 19/,
      ],
      [
        "license:fund",
        "a license that was never sold",
        () => ({ license: 9n, amount: "1", account: LICENSEE }),
        /LicenseUnknown\(licenseId 9\)/,
      ],
      [
        "license:grant",
        "somebody else's license",
        () => ({ license: 1n, account: OPERATOR }),
        /only its owner can sign grants/,
      ],
      ["license:grant", "a license that was never sold", () => ({ license: 9n }), /--license 9: no such license/],
      ["license:show", "a license that was never sold", () => ({ license: 9n }), /--license 9: no such license/],
      ["stake:add", "nothing", () => ({ operator: 1, amount: "0", account: OPERATOR }), /AmountZero\(\)/],
      [
        "stake:add",
        "somebody else's operator",
        () => ({ operator: 1, amount: "1", account: LICENSEE }),
        /CallerNotOperator\(operatorId 1/,
      ],
      [
        "operator:register",
        "plans that are no ids",
        () => ({ endpoint: "http://a", key: ATTESTORS[0].address, plans: "all" }),
        /--plans must be ids such as 1 or 1,2; it is "all"/,
      ],
      [
        "operator:register",
        "a plan that isn't there",
        () => ({ endpoint: "http://a", key: ATTESTORS[0].address, plans: "1,9" }),
        /PlanUnknown\(planId 9\)/,
      ],
      [
        "batch:release",
        "a batch that isn't there",
        () => ({ batch: `0x${"11".repeat(32)}` }),
        /BatchNotHeld\(batchId 0x11/,
      ],
      ["earnings:withdraw", "nothing earned", () => ({ account: LICENSEE }), /has nothing to withdraw/],
      [
        "plan:create",
        "no file",
        () => ({ ...plan({}), terms: "nowhere.json" }),
        /--terms nowhere\.json must be a readable JSON file/,
      ],
      [
        "plan:create",
        "an unknown meter",
        () => plan({ rates: { tokens: "1" } }),
        /no meter is called tokens; there are requests, inputTokens/,
      ],
      [
        "plan:create",
        "a percentage above the whole",
        () => plan({ publisherPercent: 130 }),
        /publisherPercent must be between 0 and 100/,
      ],
      [
        "plan:create",
        "shares that leave the operator nothing",
        () => plan({ publisherPercent: 99 }),
        /SharesAboveWhole\(publisherBps 9900/,
      ],
      [
        "plan:create",
        "a hold that is too short",
        () => plan({ hold: "5m" }),
        /HoldPeriodOutOfRange\(holdPeriod 300, shortest 3600/,
      ],
      [
        "plan:create",
        "somebody else's model",
        () => ({ ...plan({}), account: LICENSEE }),
        /CallerNotPublisher\(assetId 1/,
      ],
      [
        "oracle:run",
        "the chain in memory",
        () => ({ settings: "oracle.json" }),
        /The chain in memory ends with the task/,
      ],
    ];
    for (const [task, what, args, reason] of rows) {
      it(`${task} refuses ${what}`, () => refused(task, args(), reason.source));
    }
  });
});
