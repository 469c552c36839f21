/**
 * Every task, with good input and with bad, on a node in a process of its own. The rows are one story: each builds on those
 * before it. A row of a task that sends transactions is first played as a dry run, where it is the task's first.
 */
import { expect } from "chai";
import { ContractFactory, HDNodeWallet, id, keccak256, Mnemonic, ZeroHash } from "ethers";
import hre from "hardhat";
import { HardhatContext } from "hardhat/internal/context";
import { ArgumentsParser } from "hardhat/internal/cli/ArgumentsParser";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { addressBookPath } from "../../deploy/addressBook";
import { packEntries, totalOf } from "../../oracle/protocol/entries";
import {
  batchDigest,
  decodeBearer,
  domainOf,
  encodeBearer,
  grantDigest,
  headerFromJson,
  headerToJson,
  receiptDigest,
  saltedHash,
  saltOf,
  signDigest,
  signedGrantToJson,
  signedReceiptToJson,
} from "../../oracle/protocol/messages";
import { requestHashOf, responseHashOf } from "../../oracle/protocol/classification";
import type { BatchHeader, Entry, Receipt, SignedReceipt } from "../../oracle/protocol/types";
import { sqliteDatabase } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import { committeeProof } from "../../oracle/settler/attestorPool";
import { waitOnChain } from "../../tasks/chain";
import { EXAMPLES } from "../../tasks/support";
import { AssetRegistry__factory, CentralArbitrator__factory, type CentralArbitrator } from "../../typechain-types";
import { publicInputsOf } from "../../zk/circuit";
import { weightsCommitment } from "../../zk/commitments";
import { digits, digitsModel, statementOf } from "../support/digits";
import {
  dollarReceipt,
  grantOf,
  requestSignedBy,
  signed,
  type StoryFacts,
  writeBatch,
  writeStore,
} from "../support/disputeStory";
import { grantWith, receiptWith } from "../support/fakeMessages";
import { entryOf, HOUR } from "../support/market";
import { NETWORK, TaskBench } from "../support/taskBench";
import type { TaskResult } from "../support/taskRunner";

const DAY = 24 * HOUR;
/** A classification's bodies. */
const CLASSIFIED = Buffer.from(JSON.stringify({ model: "digits", input: [1, 2, 3] }));
const CLASS = Buffer.from(JSON.stringify({ architecture: "3-4-2-s0", class: 1, logits: [-5, 7] }));
/** From an announcement to its effect, in a market with epochs and windows of an hour; a lock takes an hour more. */
const WAIT = 3 * HOUR + 1;

/** Who acts: numbers of the node's accounts, as the command line names them. */
const PUBLISHER = "--account 1";
const OPERATOR = "--account 2";
const LICENSEE = "--account 3";
const OTHER_OPERATOR = "--account 4";
const HEIR = "--account 5";
const ATTESTORS = [6, 7, 8];
const OUTSIDER = "--account 9";

const wallets = Array.from({ length: 10 }, (_, i) =>
  HDNodeWallet.fromMnemonic(
    Mnemonic.fromPhrase("test test test test test test test test test test test junk"),
    `m/44'/60'/0'/0/${i}`,
  ),
);
const addressOf = (account: number) => wallets[account].address;
const attestors = ATTESTORS.map(addressOf).join(",");

/** Tasks that scripts of package.json run. */
const RUN_ELSEWHERE = ["demo", "bench:gas", "bench:oracle", "bench:zk", "mutate"];
/** Tasks that run until they are stopped: what they do is tested elsewhere, and here only what they refuse. */
const ENDLESS = ["engine:run", "oracle:run", "zk:serve"];

type Record = { [key: string]: unknown };
/** Fields of a record: a value, a pattern of its text, or what must hold of it. */
type Expected = { [key: string]: unknown };

const usd = (amount: string) => ({
  amount: amount.includes(".") ? amount : `${amount}.0`,
  symbol: "TUSD",
  units: String(Math.round(Number(amount) * 1e6)),
});

describe("tasks", function () {
  this.timeout(120_000);

  let bench: TaskBench;
  /** What rows have found out for those after them: `$name` in a command. */
  const facts: { [name: string]: string } = {};
  const tried = { good: new Set<string>(), bad: new Set<string>(), dry: new Set<string>() };

  before(async () => {
    bench = await TaskBench.start();
    facts.folder = bench.folder;
  });

  after(() => bench.close());

  /** Words of a command line; those in quotes may have spaces, or be empty. */
  const wordsOf = (command: string): string[] =>
    [...command.replace(/\$(\w+)/g, (_all, name: string) => facts[name]).matchAll(/"([^"]*)"|(\S+)/g)].map(
      ([, quoted, plain]) => quoted ?? plain,
    );
  const taskOf = (command: string) => command.split(" ", 1)[0];
  const sends = (task: string) =>
    "dryRun" in HardhatContext.getHardhatContext().tasksDSL.getTaskDefinition(undefined, task)!.paramDefinitions;

  function recordIn({ stdout, stderr, exitCode }: TaskResult, expectedCode = 0): Record {
    expect({ stderr, exitCode }).to.deep.equal({ stderr: "", exitCode: expectedCode });
    return JSON.parse(stdout) as Record;
  }

  function expectFields(record: Record, expected: Expected): void {
    for (const [key, value] of Object.entries(expected)) {
      if (value instanceof RegExp) expect(String(record[key]), key).to.match(value);
      else expect(record[key], key).to.deep.equal(value);
    }
  }

  /** The task succeeds, and its record has these fields. */
  function good(command: string, expected: Expected, then: (record: Record) => void = () => {}): void {
    const task = taskOf(command);
    tried.good.add(task);
    const isFirst = sends(task) && !tried.dry.has(task);
    if (isFirst) tried.dry.add(task);
    it(command, async () => {
      const words = [...wordsOf(command), "--json"];
      const rehearsed = isFirst ? await rehearse(words) : undefined;
      const record = recordIn(await bench.run(words));
      expectFields(record, expected);
      if (rehearsed !== undefined) expect(Object.keys(record)).to.include.members(Object.keys(rehearsed));
      then(record);
    });
  }

  /** Plays a task as a dry run, after which the chain is as it was. @returns the record that it would print */
  async function rehearse(words: string[]): Promise<Record> {
    const before = await bench.provider.getBlockNumber();
    const { "dry run": said, transactions, ...rest } = recordIn(await bench.run([...words, "--dry-run"]));
    expect(said).to.equal("nothing was sent");
    expect(transactions).to.be.an("array").and.not.to.deep.equal([]);
    for (const { contract, call, gas } of transactions as Record[]) {
      expect(`${contract}.${call}`).to.match(/^\w+\.\w+/);
      expect(Number(gas)).to.be.greaterThan(21_000);
    }
    expect(await bench.provider.getBlockNumber()).to.equal(before);
    return rest;
  }

  /** The task ends with exit code 1 and a sentence, and prints nothing else. */
  function bad(command: string, reason: RegExp): void {
    tried.bad.add(taskOf(command));
    it(`${command} ✗`, async () => {
      const { exitCode, stdout, stderr } = await bench.run(wordsOf(command));
      expect({ exitCode, stdout }).to.deep.equal({ exitCode: 1, stdout: "" });
      expect(stderr).to.match(reason);
      expect(stderr).not.to.match(/\n {4}at /);
    });
  }

  /** The task finds that something isn't as it should be: a record, and exit code 1. */
  function finds(command: string, expected: Expected): void {
    tried.bad.add(taskOf(command));
    it(`${command} ✗`, async () => {
      expectFields(recordIn(await bench.run([...wordsOf(command), "--json"]), 1), expected);
    });
  }

  const later = (what: string, seconds: number) => it(`… ${what} later`, () => bench.later(seconds));
  const file = (name: string, content: unknown) =>
    writeFileSync(path.join(facts.folder, name), typeof content === "string" ? content : JSON.stringify(content));

  describe("before a deployment", () => {
    before(async () => {
      const { abi, bytecode } = await hre.artifacts.readArtifact("CurrencyOfDecimals");
      const signer = await bench.provider.getSigner(0);
      const currency = await new ContractFactory(abi, bytecode, signer).deploy(18);
      facts.wideCurrency = await currency.getAddress();
    });

    const noBook = /no readable address book at .*deploy first, with `npx hardhat deploy --network node`/;
    bad("status", noBook);
    bad("roles:check", noBook);
    bad("governance:show", noBook);
    bad("attestor:show", noBook);
    bad("license:show --license 1", noBook);
    bad("currency:mint --amount 5 --dry-run", noBook);

    bad("deploy", /'--attestors' parameter of task 'deploy' expects a value/);
    bad("deploy --attestors 0x1234", /--attestors must be an address \(0x and 40 hex digits\); it is "0x1234"/);
    bad(
      `deploy --attestors ${attestors.replace("0x976E", "0x976e")}`,
      /an address \(a digit of it is mistyped, by its checksum\)/,
    );
    bad(`deploy --attestors ${addressOf(6)},${addressOf(6)}`, /--attestors names 0x\w{40} twice/);
    bad(`deploy --attestors ${attestors} --threshold 1`, /--threshold 1 of a weight of 3: more than half/);
    bad(`deploy --attestors ${attestors} --threshold 4`, /--threshold 4 of a weight of 3: .* at most all/);
    bad(`deploy --attestors ${attestors} --weights 5,1`, /--weights names 2, and --attestors 3: each has one/);
    bad(`deploy --attestors ${attestors} --weights 5,1,1 --threshold 3`, /--threshold 3 of a weight of 7: more than/);
    bad(`deploy --attestors ${attestors} --weights 5,1,none`, /--weights must be a whole number from 1 to 65535/);
    bad(`deploy --attestors ${attestors} --bond much`, /--bond must be an amount of the currency such as 12\.5/);
    bad(`deploy --attestors ${attestors} --window "2 days"`, /--window must be a length of time such as .* "2 days"/);
    bad(`deploy --attestors ${attestors} --epoch 8d`, /--epoch must be 1m to 7d; it is 691200 s/);
    bad(`deploy --attestors ${attestors} --window 10m`, /--window must be 1h to 14d; it is 600 s/);
    bad(`deploy --attestors ${attestors} --currency ${addressOf(9)}`, /no ERC-20 is there on node/);
    bad(`deploy --attestors ${attestors} --currency $wideCurrency`, /has 18 decimals, and must have 4 to 8: /);
    bad(
      `deploy --attestors ${attestors} --treasury 0x${"0".repeat(40)}`,
      /--treasury must be somebody's address: nobody has the zero/,
    );
  });

  describe("a deployment", () => {
    good(`deploy --attestors ${attestors} --epoch 1h --window 1h`, {
      UsageEscrow: /^0x/,
      "address book": /node\.json$/,
    });
    good("roles:check", { departures: [], ADMIN: [], PROPOSER: [addressOf(0)], GUARDIAN: [addressOf(0)] });
    good("status", {
      network: NETWORK,
      "deposit ceiling": usd("100000"),
      "thaw of licenses": "2 hours",
      "thaw of stake": "721 hours",
      "purchases and deposits": "open",
      assets: "0",
    });
    bad("status --account 20", /--account 20: network node has accounts 0 to 19/);
    bad("status --account -1", /--account must be a whole number from 0 to \d+; it is "-1"/);
    bad("status --verbosely", /Unrecognized param --verbosely/);

    good("chain:wait --for 1m", { time: /^20/ });
    bad("chain:wait --for soon", /--for must be a length of time such as .* it is "soon"/);
    it("chain:wait moves no clock but a local chain's", async () => {
      const provider = { getNetwork: async () => ({ chainId: 1n }) };
      const elsewhere = { ethers: { provider } } as unknown as HardhatRuntimeEnvironment;
      await expect(waitOnChain(elsewhere, { for: 60 })).to.be.rejectedWith(
        "Chain 1 is not a local one: its time passes",
      );
    });

    good("attestor:show", { threshold: "2 of 3", "bond a unit of weight": usd("1000"), "weight that is bonded": "0" });
    bad(`attestor:show --attestor ${addressOf(9)}`, /no committee is there/);
    bad("attestor:show --attestor nobody", /--attestor must be an address/);

    for (const [account, amount] of [
      [2, 5_000],
      [3, 1_000],
      [4, 5_000],
      [6, 3_000],
      [7, 2_000],
      [8, 1_000],
    ]) {
      good(`currency:mint --amount ${amount} --to ${addressOf(account)}`, { minted: usd(String(amount)) });
    }
    bad("currency:mint --amount ten", /--amount must be an amount of TUSD such as 12\.5; it is "ten"/);
    bad("currency:mint --amount -5", /--amount must be an amount of TUSD such as 12\.5; it is "-5"/);
    bad("currency:mint --amount 0.0000001", /--amount may have at most 6 decimals/);
    bad("currency:mint --amount 99999999999999999999", /--amount may be at most 18446744073709\.551615 TUSD/);
    bad(
      `currency:mint --amount 5 --to 0x${"0".repeat(40)}`,
      /--to must be somebody's address: nobody has the zero address/,
    );
  });

  describe("attestors' bonds", () => {
    good("committee:bond --account 6", { weight: 1, paid: usd("1000"), bond: usd("1000"), status: "Posted" });
    good("committee:bond --account 6 --weight 3", { weight: 3, paid: usd("2000"), bond: usd("3000") });
    for (const account of [7, 8]) good(`committee:bond --account ${account}`, { status: "Posted" });
    bad("committee:bond --account 6", /covers a weight of 3 already, and 1 isn't more: .*\(BondNotRaised\)/);
    bad("committee:bond --account 6 --weight 0", /--weight must be a whole number from 1 to 65535; it is "0"/);
    bad(`committee:bond ${OUTSIDER}`, /0x\w+ isn't the payee of a member 0x\w+: say --weight/);
    bad(`committee:bond --signer ${addressOf(6)} --weight 1 ${OUTSIDER}`, /has 0\.0 TUSD and needs 1000\.0/);
    bad(`committee:bond --signer me ${OUTSIDER}`, /--signer must be bytes/);
    bad(`committee:bond --attestor ${addressOf(9)} --account 6`, /no committee is there/);
    good("attestor:show", { "weight that is bonded": "3" }, ({ members }) => {
      expect((members as Record[]).map((member) => member.bond)).to.deep.equal(["Posted", "Posted", "Posted"]);
    });
  });

  describe("governance", () => {
    const GOVERNOR = "--account 0";
    const remember = (record: Record) => {
      facts.act = String(record.id);
    };
    const pending = (...statuses: string[]) =>
      good("governance:show", { delay: "2 days", proposers: [addressOf(0)] }, ({ acts }) => {
        expect((acts as Record[]).map(({ status }) => status)).to.deep.equal(statuses);
      });

    pending();
    bad("governance:schedule", /Say one of --fee, --ceiling, --guardian, --proposer, --delay/);
    bad("governance:schedule --fee 1 --ceiling 5", /Say one of --fee, --ceiling/);
    bad("governance:schedule --fee 1.234", /--fee must be between 0 and 100 with at most two decimals; it is "1\.234"/);
    bad("governance:schedule --fee 101", /--fee must be between 0 and 100/);
    bad("governance:schedule --ceiling much", /--ceiling must be an amount of TUSD such as 12\.5; it is "much"/);
    bad(`governance:schedule --guardian ${addressOf(0)}`, /it is the only guardian already/);
    bad(`governance:schedule --proposer ${addressOf(0)}`, /it is the only one already/);
    bad(`governance:schedule --fee 2 ${OUTSIDER}`, /0x\w+ doesn't hold the role 0x\w+ of the timelock/);

    good(
      "governance:schedule --fee 5.01",
      {
        status: "Waiting",
        act: /^UsageEscrow\.setFee\(\w+ 501\)$/,
        "can be executed from": /^20/,
      },
      remember,
    );
    bad("governance:execute --id $act", /isn't in the state that this takes/);
    bad(`governance:cancel --id $act ${OUTSIDER}`, /doesn't hold the role/);
    bad(`governance:cancel --id ${ZeroHash}`, /no such act was scheduled/);
    bad("governance:execute --id 5", /--id must be 32 bytes/);
    later("governance's delay", 2 * DAY);
    bad("governance:execute --id $act", /A protocol fee of 5\.01 % is above its bound of 5 % \(FeeAboveBound\)/);
    good("governance:cancel --id $act", { status: "Cancelled" });
    bad("governance:cancel --id $act", /isn't in the state that this takes/);

    good("governance:schedule --ceiling 200000", { status: "Waiting" }, remember);
    good(`governance:schedule --guardian ${addressOf(9)}`, {
      act: [
        `Authority.revokeRole(roleId 1, account ${addressOf(0)})`,
        `Authority.grantRole(roleId 1, account ${addressOf(9)}, executionDelay 0)`,
      ],
    });
    good(`governance:schedule --proposer ${addressOf(1)}`, { status: "Waiting" });
    good("governance:schedule --delay 1d", { act: ["Timelock.updateDelay(newDelay 86400)"] }, (record) => {
      facts.shortening = String(record.id);
    });
    pending("Waiting", "Waiting", "Waiting", "Waiting");
    later("governance's delay", 2 * DAY);
    pending("Ready", "Ready", "Ready", "Ready");
    good(`governance:execute --id $act ${OUTSIDER}`, { status: "Done" });
    bad("governance:execute --id $act", /isn't in the state that this takes/);
    bad(
      "governance:execute --id $shortening",
      /Governance's delay can only be lengthened, to at most 30 days: .* 1 day/,
    );
    good("governance:cancel --id $shortening", { status: "Cancelled" });
    good("status", { "deposit ceiling": usd("200000") });

    good(`governance:pause ${GOVERNOR}`, { "purchases and deposits": "paused", until: /^20/ });
    bad(`governance:pause ${GOVERNOR}`, /\(PauseTooSoon\)/);
    bad(`governance:pause ${OUTSIDER}`, /doesn't hold the role that this takes/);
    bad(`governance:unpause ${OUTSIDER}`, /doesn't hold the role that this takes/);
    good(`governance:unpause ${GOVERNOR}`, { "purchases and deposits": "open" });
  });

  describe("models", () => {
    before(() => {
      cpSync("models/lic380k", path.join(facts.folder, "model"), { recursive: true });
      cpSync("models/lic380k", path.join(facts.folder, "changed"), { recursive: true });
      writeFileSync(path.join(facts.folder, "changed/LICENSE"), "another text");
      writeFileSync(path.join(facts.folder, "changed/more.txt"), "one more file");
      mkdirSync(path.join(facts.folder, "empty"));
    });

    const uris = "--uri ipfs://model --version-uri ipfs://version";
    const manifest = /^0x06aef6be590f39ebbf9926c91210750f217aa2589e9db34e7e717db92ced6ef7$/;
    good(`model:register --folder $folder/model ${uris} --out $folder/kept/manifest.json ${PUBLISHER}`, {
      asset: 1,
      version: String((1n << 32n) | 1n),
      manifest,
      files: ["LICENSE (586 bytes)", "README.md (836 bytes)", "lic380k.q8.gguf (421216 bytes)"],
    });
    bad(`model:register --folder $folder/nowhere ${uris}`, /nowhere can't be used: there is no such file or folder/);
    bad(`model:register --folder $folder/empty ${uris}`, /empty has no files; a version needs at least one/);
    bad(
      'model:register --folder $folder/model --version-uri ipfs://v --uri ""',
      /needs the address .* name one \(AssetUriEmpty\)/,
    );
    bad(
      `model:register --folder $folder/model ${uris} --weights-commitment 0x12`,
      /--weights-commitment must be 32 bytes/,
    );

    const next = "--folder $folder/changed --version-uri ipfs://version-2";
    good(`model:publish --asset 1 ${next} ${PUBLISHER}`, { asset: 1, version: String((1n << 32n) | 2n) });
    bad(
      `model:publish --asset 1 ${next} ${PUBLISHER}`,
      /has published the manifest .* before, as version 2 of asset 1 /,
    );
    bad(`model:publish --asset 1 ${next} ${LICENSEE}`, /Asset 1 isn't 0x\w+'s: .*\(CallerNotAssetOwner\)/);
    bad(`model:publish --asset 9 ${next}`, /There is no token 9 \(ERC721NonexistentToken\)/);
    bad(`model:publish --asset 1 --asset 1 ${next}`, /Repeated parameter --asset/);

    good("model:show --asset 1", { owner: addressOf(1), uri: "ipfs://model" }, ({ versions }) => {
      expect((versions as Record[]).map(({ number, status }) => [number, status])).to.deep.equal([
        [1, "Usable"],
        [2, "Usable"],
      ]);
    });
    bad("model:show --asset 9", /There is no token 9/);
    bad("model:show --asset 5000000000", /--asset must be a whole number from 1 to 4294967295; it is "5000000000"/);

    const kept = "--manifest $folder/kept/manifest.json";
    good("model:verify --asset 1 --folder $folder/model", {
      published: true,
      version: String((1n << 32n) | 1n),
      manifest,
    });
    good(`model:verify --asset 1 --folder $folder/model ${kept}`, { published: true, differences: [] });
    finds(`model:verify --asset 1 --folder $folder/changed ${kept}`, {
      published: false,
      differences: ["LICENSE: changed", "more.txt: extra"],
    });
    finds("model:verify --asset 1 --folder $folder/kept", { published: false, version: "none" });
    bad("model:verify --asset 1 --folder $folder/model --manifest LICENSE", /The manifest isn't JSON/);
    bad(
      `model:verify --asset 1 --folder $folder/model --manifest $folder/no.json`,
      /no\.json can't be used: there is no/,
    );
    bad("model:verify --asset 9 --folder $folder/model", /There is no token 9/);
  });

  describe("plans", () => {
    const text = "--license-text models/lic380k/LICENSE";
    const terms = { rates: { requests: "100" }, publisherPercent: 30, attestorPercent: 2, hold: "1h", term: "30d" };
    const dear = { ...terms, term: "1d", upfrontPrice: "5", minimumSpend: 10, transferable: true };
    /** A plan's file, by its name in commands. */
    const plan = (name: string, changes: object) => {
      before(() => file(`${name}.json`, { ...terms, ...changes }));
      return `plan:create --asset 1 --terms $folder/${name}.json ${text} ${PUBLISHER}`;
    };

    good(`plan:create --asset 1 --terms models/lic380k-plan.json ${text} ${PUBLISHER}`, {
      plan: 1,
      "rate of a million outputTokens": usd("3"),
      hold: "1 hour",
      "discount for availability": ["10 % below 99 %", "25 % below 90 %"],
    });
    good(plan("dear", dear), { plan: 2, "upfront price": usd("5"), "minimum a term": usd("10"), transferable: true });
    bad(
      `plan:create --asset 1 --terms nowhere.json ${text}`,
      /--terms nowhere\.json must be a readable JSON file: ENOENT/,
    );
    bad(`plan:create --asset 1 --terms LICENSE ${text}`, /--terms LICENSE must be a readable JSON file/);
    bad("plan:create --asset 1 --terms models/lic380k-plan.json --license-text none.txt", /none\.txt can't be used/);
    bad(plan("unknown-meter", { rates: { tokens: "1" } }), /rates has no tokens; it may have requests, inputTokens/);
    bad(plan("unknown-term", { price: "1" }), /The plan has no price; it may have rates, publisherPercent/);
    bad(
      plan("negative-rate", { rates: { requests: "-1" } }),
      /rates\.requests must be an amount of TUSD .* it is "-1"/,
    );
    bad(
      plan("absurd-rate", { rates: { requests: "999999999999" } }),
      /rates\.requests may be at most 281474976\.710655/,
    );
    bad(plan("all-taken", { publisherPercent: 130 }), /publisherPercent must be between 0 and 100 .* it is 130/);
    bad(plan("no-share", { publisherPercent: "30" }), /publisherPercent must be between 0 and 100 .* it is "30"/);
    bad(plan("nothing-left", { publisherPercent: 99 }), /publisher's 99 %, .* leave the operator nothing: lower/);
    bad(
      plan("short-hold", { hold: "5m" }),
      /A hold lasts 1 hour to 30 days, and not 5 minutes \(HoldPeriodOutOfRange\)/,
    );
    bad(plan("no-hold", { hold: undefined }), /hold must be a length of time such as .* it is "undefined"/);
    bad(plan("long-term", { term: "9999d" }), /A term lasts 1 day to 3650 days, and not 9999 days/);
    bad(plan("endless-term", { term: "0d" }), /term must be longer than 0s and at most 36500d; it is "0d"/);
    bad(plan("no-truth", { renewable: "yes" }), /renewable must be true or false; it is "yes"/);
    bad(plan("half-a-license", { supply: 1.5 }), /supply must be a whole number up to 4294967295; it is 1\.5/);
    bad(plan("one-tier", { availability: [{}] }), /availability must be a list of two tiers; it is \[\{\}\]/);
    bad(
      plan("minimum-above-cap", { ...dear, cap: "9" }),
      /minimum of 10\.0 TUSD \(10000000 units\) .* cap of 9\.0 TUSD/,
    );
    bad(`${plan("others", {})} --account 3`.replace(` ${PUBLISHER}`, ""), /its owner alone says on what terms/);
    bad(
      `plan:create --asset 1 --terms models/lic380k-plan.json ${text} ${PUBLISHER} --attestor ${addressOf(9)}`,
      /No contract is at 0x/,
    );

    bad(plan("ruled-by-somebody", { arbitrator: addressOf(9) }), /No contract is at 0x\w+, so it can't rule/);
    bad(plan("ruled-by-nonsense", { arbitrator: "0x12" }), /arbitrator must be an address/);

    bad(
      plan("backed-by-trust", { evidence: "trusted" }),
      /evidence must be one of signed, recounted, gpu, cpu-tee, proven; it is "trusted"/,
    );
    bad(plan("backed-by-number", { evidence: 4 }), /evidence must be one of signed, .*, proven; it is 4/);

    good("plan:show --plan 1", {
      arbitrator: "nobody",
      evidence: "signed",
      status: "Open",
      sold: "0",
      buyer: "anybody",
      term: "30 days",
    });
    bad("plan:show --plan 9", /There is no plan 9 \(PlanUnknown\)/);

    const offer = `plan:offer --asset 1 --terms $folder/dear.json ${text} --buyer ${addressOf(5)}`;
    good(`${offer} --valid 10d --out $folder/offer.json ${PUBLISHER}`, {
      buyer: addressOf(5),
      "can be accepted until": /^20/,
      hash: /^0x\w{64}$/,
    });
    good(`${offer} --out $folder/offer2.json ${PUBLISHER}`, {});
    bad(`${offer} --out $folder/offer3.json ${LICENSEE}`, /Model 1 is 0x\w+'s, whose signature alone makes an offer/);
    bad(`${offer} --valid never --out $folder/offer3.json`, /--valid must be a length of time/);
    good(`plan:withdraw --file $folder/offer2.json ${PUBLISHER}`, { asset: "1", status: "Withdrawn" });
    bad(`plan:withdraw --file $folder/offer.json ${LICENSEE}`, /its owner alone says on what terms/);
    good(`plan:accept --file $folder/offer.json ${OUTSIDER}`, {
      plan: 3,
      buyer: addressOf(5),
      "upfront price": usd("5"),
    });
    good(`plan:accept --file $folder/offer.json ${OUTSIDER}`, { plan: 3, buyer: addressOf(5) });
    bad(`plan:accept --file $folder/offer2.json ${OUTSIDER}`, /The offer 0x\w+ was accepted or withdrawn before/);
    bad(`plan:accept --file $folder/dear.json ${OUTSIDER}`, /dear\.json is no offer/);
    good("plan:show --plan 3", { status: "Open", buyer: addressOf(5) });
    good(plan("longer", { term: "60d" }), { plan: 4, term: "60 days" });
    good(plan("backed", { evidence: "cpu-tee" }), { plan: 5, evidence: "cpu-tee" });
    const proven = `plan:offer --asset 1 --terms $folder/proven.json ${text} --buyer ${addressOf(5)}`;
    before(() => file("proven.json", { ...terms, evidence: "proven" }));
    good(`${proven} --out $folder/proven-offer.json ${PUBLISHER}`, {});
    good(`plan:accept --file $folder/proven-offer.json ${OUTSIDER}`, { plan: 6, evidence: "proven" });
    bad("plan:show --plan 1.5", /--plan must be a whole number from 1 to 4294967295; it is "1\.5"/);
  });

  describe("operators", () => {
    const key = `--key ${addressOf(9)}`;
    const endpoint = "--endpoint http://127.0.0.1:8080";
    good(`operator:register ${endpoint} ${key} --plans 1,2 ${OPERATOR}`, { operator: 1, plans: [1, 2] });
    good(`operator:register ${endpoint} ${key} --plans 1 ${OTHER_OPERATOR}`, { operator: 2 });
    bad(
      `operator:register ${endpoint} ${key} --plans all`,
      /--plans must be a whole number from 1 to 4294967295; it is "all"/,
    );
    bad(`operator:register ${endpoint} ${key} --plans 1,9`, /There is no plan 9 \(PlanUnknown\)/);
    bad(`operator:register ${endpoint} --key 0x12 --plans 1`, /--key must be an address/);
    bad(`operator:register ${endpoint} ${key} --plans 1 --key-valid soon`, /--key-valid must be a length of time/);
    bad(`operator:register --endpoint "" ${key} --plans 1`, /The chain refused register: .* \(EndpointEmpty\)/);

    good(`operator:key --operator 1 --add ${addressOf(8)} --valid 1d ${OPERATOR}`, { added: addressOf(8) });
    good(`operator:key --operator 1 --revoke ${addressOf(8)} ${OPERATOR}`, { revoked: addressOf(8) });
    bad(`operator:key --operator 1 --revoke ${addressOf(8)} ${OPERATOR}`, /no key of operator 1 that could be revoked/);
    bad(`operator:key --operator 1 --add ${addressOf(8)} ${OPERATOR}`, /has added the key .* before/);
    bad(`operator:key --operator 1 --add ${addressOf(7)} ${LICENSEE}`, /Operator 1 isn't 0x\w+'s: act as its owner/);
    bad(`operator:key --operator 1 ${OPERATOR}`, /Say one of --add, --revoke/);
    bad(
      `operator:key --operator 16777216 --add ${addressOf(8)}`,
      /--operator must be a whole number from 1 to 16777215/,
    );

    good(`operator:serve --operator 2 --plans 2 ${OTHER_OPERATOR}`, { serves: [2] });
    good(`operator:serve --operator 2 --plans 2 --stop ${OTHER_OPERATOR}`, { "serves no longer": [2] });
    bad(`operator:serve --operator 2 --plans 9 ${OTHER_OPERATOR}`, /There is no plan 9/);
    bad(`operator:serve --operator 9 --plans 1 ${OTHER_OPERATOR}`, /There is no operator 9 \(OperatorUnknown\)/);

    good(`operator:describe --operator 1 --metadata ipfs://me ${OPERATOR}`, {
      endpoint: "http://127.0.0.1:8080",
      metadata: "ipfs://me",
      evidence: ZeroHash,
    });
    bad(`operator:describe --operator 1 --endpoint http://mine ${LICENSEE}`, /Operator 1 isn't 0x\w+'s/);
    bad("operator:describe --operator 9", /There is no operator 9/);

    good("operator:show --operator 1", { status: "Unstaked", owner: addressOf(2), plans: ["1", "2"] }, ({ keys }) => {
      expect((keys as Record[]).map(({ key, status }) => [key, status])).to.deep.equal([
        [addressOf(9), "Active"],
        [addressOf(8), "Revoked"],
      ]);
    });
    bad("operator:show --operator 9", /There is no operator 9/);
    bad("operator:show --operator me", /--operator must be a whole number/);

    good(`stake:add --operator 1 --amount 1000 ${OPERATOR}`, {
      added: usd("1000"),
      active: usd("1000"),
      status: "Active",
    });
    good(`stake:add --operator 2 --amount 500.5 ${OTHER_OPERATOR}`, { stake: usd("500.5") });
    bad(`stake:add --operator 1 --amount 0 ${OPERATOR}`, /The amount is 0: name a larger one \(AmountZero\)/);
    bad(`stake:add --operator 1 --amount 1 ${LICENSEE}`, /Operator 1 isn't 0x\w+'s: .* see `stake:delegate`/);
    bad(`stake:add --operator 9 --amount 1 ${OPERATOR}`, /There is no operator 9/);
    good(`stake:delegate --operator 1 --amount 2 ${LICENSEE}`, {
      added: usd("2"),
      stake: usd("1002"),
      delegated: usd("2"),
      "holder's stake": usd("2"),
    });
    bad(`stake:delegate --operator 1 --amount 0 ${LICENSEE}`, /The amount is 0: name a larger one \(AmountZero\)/);
    bad(`stake:delegate --operator 1 --amount 5 ${OPERATOR}`, /Operator 1 is your own: see `stake:add`/);
    bad(`stake:delegate --operator 9 --amount 5 ${LICENSEE}`, /There is no operator 9/);
    bad(`stake:delegate --operator 1 --amount 1 ${OUTSIDER}`, /has 0\.0 TUSD and needs 1\.0: send it the rest/);
    good(`stake:commission --operator 2 --percent 62.5 ${OTHER_OPERATOR}`, {
      commission: "62.5 %",
      "in force from": /^20/,
    });
    good(`stake:commission --operator 2 --percent 80 ${OTHER_OPERATOR}`, { commission: "80 %" });
    bad(`stake:commission --operator 2 --percent 10 ${LICENSEE}`, /Operator 2 isn't 0x\w+'s: act as its owner/);
    bad(
      `stake:commission --operator 2 --percent 100.5 ${OTHER_OPERATOR}`,
      /--percent must be between 0 and 100 .* "100\.5"/,
    );
    bad(`stake:commission --operator 2 --percent 1.125 ${OTHER_OPERATOR}`, /with at most two decimals; it is "1\.125"/);
    bad(`stake:commission --operator 9 --percent 10 ${OPERATOR}`, /There is no operator 9/);
    good("stake:show --operator 2", {
      commission: "62.5 %",
      "next commission": "80 %",
      "in force from": /^20/,
      "still vesting": usd("0"),
    });
    good("stake:show --operator 1", {
      stake: usd("1002"),
      "operator's own": usd("1000"),
      delegated: usd("2"),
      commission: "100 %",
      holder: addressOf(2),
      "holder's stake": usd("1000"),
    });
    good(`stake:show --operator 1 --holder ${addressOf(4)}`, { "holder's stake": usd("0"), thaws: [] });
    bad("stake:show --operator 9", /There is no operator 9/);
    bad("stake:show --operator 1 --holder me", /--holder must be an address/);
  });

  describe("licenses", () => {
    good(`license:buy --plan 1 --operator 1 --fund 25 --cap 100 ${LICENSEE}`, {
      license: "1",
      owner: addressOf(3),
      "own cap": usd("96"),
      funded: usd("25"),
    });
    good(`license:buy --plan 2 --operator 1 --fund 12 ${LICENSEE}`, { license: "2", "upfront price": usd("5") });
    good(`license:buy --plan 2 --operator 1 --fund 30 --max-price 35 --deadline 10m ${LICENSEE}`, { license: "3" });
    bad("license:buy --operator 1", /The '--plan' parameter of task 'license:buy' expects a value/);
    bad("license:buy --plan 5000000000 --operator 1", /--plan must be .* 4294967295; it is "5000000000"/);
    bad(
      `license:buy --plan 2 --operator 1 --fund 10 --max-price 14.9 ${LICENSEE}`,
      /It costs 15\.0 TUSD .* in all, more than the --max-price of 14\.9 TUSD/,
    );
    bad(`license:buy --plan 1 --operator 1 --deadline soon ${LICENSEE}`, /--deadline must be a length of time/);
    bad("license:buy --plan 9 --operator 1", /There is no plan 9 \(PlanUnknown\)/);
    bad(`license:buy --plan 1 --operator 7 ${LICENSEE}`, /Operator 7 doesn't serve plan 1: choose one that does/);
    bad(`license:buy --plan 2 --operator 2 --fund 20 ${LICENSEE}`, /Operator 2 doesn't serve plan 2/);
    bad(`license:buy --plan 1 --operator 1 --fund ten ${LICENSEE}`, /--fund must be an amount of TUSD/);
    bad(`license:buy --plan 1 --operator 1 --fund 5 ${OUTSIDER}`, /has 0\.0 TUSD and needs 5\.0: send it the rest/);
    bad(
      `license:buy --plan 2 --operator 1 --fund 9.5 ${LICENSEE}`,
      /9\.5 TUSD .* minimum of 10\.0 TUSD .*MinimumNotCovered/,
    );
    bad(`license:buy --plan 1 --operator 1 --cap 3 ${LICENSEE}`, /--cap must be 9 to 32212254720 whole units .* "3"/);
    bad(
      `license:buy --plan 1 --operator 1 --cap lots ${LICENSEE}`,
      /--cap must be 9 to 32212254720 whole units .* "lots"/,
    );
    bad(`license:buy --plan 1 --operator 1 --to 0x${"0".repeat(40)} ${LICENSEE}`, /--to must be somebody's address/);

    good(`license:fund --license 1 --amount 2.5 ${LICENSEE}`, { balance: usd("27.5") });
    good(`license:fund --license 1 --amount 2.5 --permit ${LICENSEE}`, { balance: usd("30") });
    bad(`license:fund --license 9 --amount 1 ${LICENSEE}`, /License 9 was never sold/);
    bad(`license:fund --license 1 --amount 0 ${LICENSEE}`, /The amount is 0/);
    bad(`license:fund --license 1 --amount 500000 ${LICENSEE}`, /has 9\d\d\.\d TUSD and needs 500000\.0/);
    bad(
      "license:fund --license 18446744073709551616 --amount 1",
      /--license must be a license's id, .* to 18446744073709551615/,
    );

    good(`license:grant --license 1 --cap 5 --valid 12h ${LICENSEE}`, { cap: usd("5"), generation: 0 }, ({ key }) => {
      const { grant } = decodeBearer(key as string);
      expect(grant).to.include({ licenseId: 1n, cap: 5_000_000n, generation: 0 });
      expect(grant.expiresAt - grant.notBefore).to.equal(12 * HOUR);
    });
    const signer = "0xBcd4042DE499D14e55001CcbB24a551F3b954096";
    good(
      `license:grant --license 1 --request-key ${signer} ${LICENSEE}`,
      { "requests signed by": signer },
      ({ key }) => void expect(decodeBearer(key as string).grant.key).to.equal(signer),
    );
    bad(`license:grant --license 1 --request-key 0x12 ${LICENSEE}`, /--request-key must be an address/);
    bad(`license:grant --license 1 ${OPERATOR}`, /License 1 is 0x\w+'s, and not 0x\w+'s: act as its owner/);
    bad(`license:grant --license 9 ${LICENSEE}`, /--license 9: no such license/);
    bad(`license:grant --license 1 --valid 0s ${LICENSEE}`, /--valid must be longer than 0s/);
    bad(`license:grant --license 1 --dry-run ${LICENSEE}`, /Unrecognized param --dry-run/);

    good("license:show --license 1", {
      status: "Running",
      balance: usd("30"),
      "own cap a term": usd("96"),
      road: "attested",
    });
    good("license:show --license 2", { "committed to its minimum": usd("10"), "upfront price that waits": usd("5") });
    bad("license:show --license 9", /--license 9: no such license/);
    bad("license:show --license 0", /--license must be a license's id, a whole number from 1/);

    good(`license:revoke --license 1 ${LICENSEE}`, { generation: "1" });
    bad(`license:revoke --license 1 ${OPERATOR}`, /License 1 isn't 0x\w+'s: act as its owner \(CallerNotOwner\)/);
    bad(`license:revoke --license 9 ${LICENSEE}`, /--license 9: no such license/);
  });

  describe("a batch", () => {
    it("… an hour of use later, signed by two attestors", async () => {
      await bench.later(HOUR);
      const entries = [entryOf(1n, { requests: 10n, inputTokens: 100_000n, outputTokens: 50_000n })];
      const packed = packEntries(entries);
      const epochEnd = await bench.now();
      const header: BatchHeader = {
        operatorId: 1,
        planId: 1,
        versionId: (1n << 32n) | 1n,
        sequence: 1n,
        epochStart: epochEnd - HOUR + 60,
        epochEnd,
        root: id("root"),
        count: 10n,
        ...totalOf(entries),
        availabilityBps: 10_000,
        p95TtftMs: 300,
        samples: 60,
        entriesHash: keccak256(packed),
        evidenceHash: ZeroHash,
      };
      const book = JSON.parse(readFileSync(addressBookPath(facts.folder, NETWORK), "utf8"));
      const { chainId } = await bench.provider.getNetwork();
      const verifyingContract = book.contracts.UsageEscrow as string;
      facts.batch = batchDigest({ name: "Licet UsageEscrow", version: "1", chainId, verifyingContract }, header);
      const proofBy = (accounts: number[]) =>
        committeeProof(
          accounts.map((account) => ({
            signer: addressOf(account),
            signature: wallets[account].signingKey.sign(facts.batch).serialized,
          })),
        );
      const batch = { header: headerToJson(header), entries: packed, proof: proofBy([6, 7]) };
      file("batch.json", batch);
      file("unsigned.json", { ...batch, proof: proofBy([6, 9]) });
      file("other-entries.json", { ...batch, entries: packEntries([entryOf(2n)]) });
      file("no-entries.json", { ...batch, entries: undefined });
      file("torn.json", { ...batch, entries: "0x1234" });
      file("no-header.json", { ...batch, header: { operatorId: 1 } });
      file("half.json", JSON.stringify(batch).slice(0, 200));

      const store = new Store(sqliteDatabase(path.join(bench.folder, "operator.sqlite")));
      await store.batches.saveDraft(facts.batch, header, packed, [], []);
      await store.batches.markAttested(facts.batch, batch.proof);
      const draft = { ...header, sequence: 2n };
      facts.draft = batchDigest({ name: "Licet UsageEscrow", version: "1", chainId, verifyingContract }, draft);
      await store.batches.saveDraft(facts.draft, draft, packed, [], []);
      await store.close();
    });

    const store = "--store $folder/operator.sqlite --out $folder/exported.json";
    good(`batch:export ${store} --batch $batch`, { state: "attested", entries: 1 });
    bad(`batch:export ${store} --batch $draft`, /--batch 0x\w+ is drafted: its attestors haven't signed it/);
    bad(`batch:export ${store} --batch ${id("none")}`, /operator\.sqlite has no such batch/);
    bad("batch:export --store $folder/no.sqlite --batch $batch --out a.json", /no\.sqlite: there is no such file/);
    bad("batch:export --store $folder/half.json --batch $batch --out a.json", /half\.json/);

    bad("batch:settle --file $folder/unsigned.json", /The proof doesn't vouch for batch 0x/);
    bad("batch:settle --file $folder/other-entries.json", /The entries' hash is 0x\w+, and the header says 0x/);
    bad("batch:settle --file $folder/no-entries.json", /no-entries\.json is no batch: entries must be bytes/);
    bad("batch:settle --file $folder/torn.json", /torn\.json is no batch: entries must come in records of 28 bytes/);
    bad("batch:settle --file $folder/no-header.json", /no-header\.json is no batch: /);
    bad("batch:settle --file $folder/half.json", /half\.json must be a readable JSON file/);
    bad("batch:settle --file $folder/nowhere.json", /nowhere\.json must be a readable JSON file: ENOENT/);
    good("batch:settle --file $folder/exported.json", {
      charged: usd("0.251"),
      discount: "0 %",
      entries: { Charged: 1 },
      "not charged in full": [],
    });
    bad("batch:settle --file $folder/batch.json", /Batch 0x\w+ has settled before: nothing is charged twice/);
    good("batch:show --batch $batch", { status: "Held", sequence: "1", charged: usd("0.251") });
    bad(`batch:show --batch ${id("none")}`, /--batch 0x\w+: no such batch has settled/);
    bad("batch:show --batch 0x1234", /--batch must be 32 bytes/);

    describe("of which the gateway shows receipts", () => {
      let gateway: Server;
      /** What it shows. */
      let shown: object[];
      const SECRET = id("secret");
      const SALT = saltOf(SECRET);

      before(async () => {
        const book = JSON.parse(readFileSync(addressBookPath(facts.folder, NETWORK), "utf8"));
        const { chainId } = await bench.provider.getNetwork();
        const domain = domainOf(chainId, book.contracts.UsageEscrow as string);
        const finishedAt = (await bench.now()) - 60;
        const grant = grantWith({ generation: 1, expiresAt: finishedAt + DAY, salt: SALT });
        const signatureOf = (account: number, digest: string) => signDigest(wallets[account].privateKey, digest);
        facts.key = encodeBearer({ grant, signature: signatureOf(3, grantDigest(domain, grant)) }, SECRET);
        const manifestHash = (await versionOf(book.contracts.AssetRegistry as string, (1n << 32n) | 1n)).manifestHash;
        let previousHash = ZeroHash;
        shown = Array.from({ length: 10 }, (_, i) => {
          const receipt = receiptWith({
            operatorId: 1,
            planId: 1,
            manifestHash,
            grantHash: grantDigest(domain, grant),
            sequence: BigInt(i + 1),
            previousHash,
            requestId: id(`request ${i}`),
            requestHash: i === 5 ? requestHashOf(SALT, CLASSIFIED) : saltedHash(SALT, Buffer.from("asked")),
            responseHash: i === 5 ? responseHashOf(SALT, CLASS) : saltedHash(SALT, Buffer.from("answered")),
            finishedAt,
            inputTokens: 10_000n,
            cachedInputTokens: 0n,
            outputTokens: 5_000n,
            computeMs: 0n,
          });
          previousHash = receiptDigest(domain, receipt);
          const signed = { receipt, signature: signatureOf(9, previousHash) };
          return { ...signedReceiptToJson(signed), state: "settled", batch_id: facts.batch };
        });
        gateway = createServer((request, response) => {
          const from = Number(new URL(request.url!, "http://x").searchParams.get("from"));
          const isKnown = request.headers.authorization === `Bearer ${facts.key}`;
          response.writeHead(isKnown || request.method === "POST" ? 200 : 401);
          if (request.method === "POST") return void revoking(request).then((body) => response.end(body));
          response.end(JSON.stringify({ data: shown.slice(from - 1), has_more: false }));
        }).listen(0, "127.0.0.1");
        await once(gateway, "listening");
        facts.gateway = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`;
        facts.request = id("request 4");
        facts.classified = id("request 5");
        file("classified.json", CLASSIFIED.toString());
        file("class.json", CLASS.toString());
        file("asked.txt", "asked");
        file("answered.txt", "answered");
      });

      after(() => {
        gateway.closeAllConnections();
        gateway.close();
      });

      const versionOf = async (assets: string, version: bigint) =>
        AssetRegistry__factory.connect(assets, bench.provider).versionOf(version);

      /** What is posted must be a revocation, by the key or by the license's owner. */
      async function revoking(request: IncomingMessage): Promise<string> {
        const pieces: Buffer[] = [];
        for await (const piece of request) pieces.push(piece as Buffer);
        const said = Buffer.concat(pieces).toString();
        const ok =
          said === "" ? request.headers.authorization === `Bearer ${facts.key}` : "revocation" in JSON.parse(said);
        return JSON.stringify(ok ? { revoked_at: 1_800_000_000 } : { error: { message: "no" } });
      }

      good("grant:revoke --url $gateway --key $key", { license: "1", revoked: /2027-01-15/ });
      good(`grant:revoke --url $gateway --hash ${id("grant")} --license 1 ${LICENSEE}`, { grant: id("grant") });
      bad("grant:revoke --url $gateway --key $key --hash 0x12", /--hash must be 32 bytes/);
      bad(`grant:revoke --url $gateway --hash ${id("grant")}`, /--hash needs --license: whose grant it is/);
      bad("grant:revoke --url $gateway", /Say one of --key, --hash/);
      bad("grant:revoke --key $key", /127\.0\.0\.1:8080.* can't be asked .*is the gateway there\?/);

      const verify = "receipts:verify --url $gateway --key $key";
      good(`${verify} --id $classified --request $folder/classified.json --response $folder/class.json`, {
        problems: [],
      });
      finds(`${verify} --id $classified --request $folder/class.json --response $folder/asked.txt`, {
        problems:
          /^Receipt 6 says 0x\w+ of its request; .*,Receipt 6 says 0x\w+ of its response; .*asked\.txt has 0x\w+$/,
      });
      good(verify, {
        license: "1",
        operator: "1",
        receipts: 10,
        requests: "10",
        inputTokens: "100000",
        outputTokens: "50000",
        "worth before discounts": usd("0.251"),
        "not settled yet": usd("0"),
        "charged so far": usd("0.251"),
        problems: [],
      });
      const bodies = "--id $request --request $folder/asked.txt";
      good(`${verify} ${bodies} --response $folder/answered.txt`, { problems: [] });
      finds(`${verify} ${bodies} --response $folder/asked.txt`, {
        problems: /^Receipt 5 says 0x\w+ of its response; .*asked\.txt has 0x\w+$/,
      });
      finds(`${verify} --id ${id("none")}`, { problems: /^Request 0x\w+ has no receipt$/ });
      it("… one of them left out", () => void shown.splice(4, 1));
      finds(verify, {
        receipts: 9,
        problems:
          /Receipt 6 says that it follows 0x\w+; the one before it is 0x\w+.*Batch 0x\w+ charged 251000 units; its 9 receipts are worth 225900/s,
      });
      it("… none of them left", () => void shown.splice(0, 9));
      finds(verify, { receipts: 0, problems: /^Batch 0x\w+ charged 251000 units, and no receipt of it was shown$/ });
      bad("receipts:verify --key $key", /127\.0\.0\.1:8080.* can't be read .*is the gateway there\?/);
      bad("receipts:verify --url $gateway --key sk-1234", /API key is cut short/);
      bad(`${verify} --response $folder/asked.txt`, /--request and --response need --id/);
      bad(`${verify} --id 0x12`, /--id must be 32 bytes/);
    });

    bad("batch:release --batch $batch", /is held until 20\d\d-.*: release it from then on \(HoldRunning\)/);
    later("the hold", HOUR);
    good("batch:release --batch $batch", {
      charged: usd("0.251"),
      publisher: usd("0.0753"),
      attestors: usd("0.00502"),
    });
    bad("batch:release --batch $batch", /is collected: only a batch that is held can be released/);
    bad(`batch:release --batch ${id("none")}`, /is unknown: only a batch that is held can be released/);

    good(`earnings:withdraw ${PUBLISHER}`, { "from models": usd("0.0753"), to: addressOf(1) });
    good(`earnings:withdraw --account 6 --to ${addressOf(9)}`, { "from attesting": usd("0.00251"), to: addressOf(9) });
    bad(`earnings:withdraw ${PUBLISHER}`, /has nothing to withdraw: releases bring earnings/);
    bad(`earnings:withdraw ${OPERATOR} --to 0x12`, /--to must be an address/);
    good("operator:pool --operator 1", { added: usd("0.001255") });
    bad("operator:pool --operator 1", /Nothing waits for the pool of operator 1/);
    bad("operator:pool --operator 9", /Nothing waits for the pool of operator 9/);

    good("license:upfront --license 2", { price: usd("5"), goes: "to the publisher" });
    bad("license:upfront --license 2", /No upfront price of license 2 waits/);
    bad("license:upfront --license 9", /--license 9: no such license/);
  });

  describe("another plan", () => {
    good(`operator:serve --operator 1 --plans 4 ${OPERATOR}`, { serves: [4] });
    good(`license:plan --license 1 --plan 4 ${LICENSEE}`, {
      plan: "1",
      "next plan": "4",
      "goes over to it": /^20/,
    });
    good("license:show --license 1", { status: "Running", plan: "1", "next plan": "4" });
    bad(`license:plan --license 1 --plan 2 ${LICENSEE}`, /Plan 2 has an upfront price of 5\.0 TUSD/);
    bad(`license:plan --license 1 --plan 4 ${OUTSIDER}`, /License 1 isn't 0x\w+'s/);
    good(`license:plan --license 1 --plan 1 ${LICENSEE}`, { plan: "1" });
    bad(`license:plan --license 1 --plan 1 ${LICENSEE}`, /no other one was announced \(PlanChangeNone\)/);
    bad(`license:plan --license 9 --plan 1 ${LICENSEE}`, /--license 9: no such license/);
  });

  describe("what waits", () => {
    good(`license:signing --license 1 ${LICENSEE}`, { "signed requests only, in epochs from": /^20/ });
    good(`license:signing --license 1 --withdraw ${LICENSEE}`, { "signed requests only, in epochs from": "never" });
    bad(`license:signing --license 1 ${OUTSIDER}`, /License 1 is 0x\w+'s, and not 0x/);
    bad(`license:signing --license 9 ${LICENSEE}`, /--license 9: no such license/);
    good(`license:cap --license 1 --cap 20 ${LICENSEE}`, { "own cap a term": usd("96"), "lower cap": usd("20") });
    good(`license:operator --license 1 --operator 2 --road vouchers ${LICENSEE}`, {
      operator: "1",
      "next operator": "2",
      "next road": "vouchers",
    });
    good(`license:withdraw --license 1 --amount 5 ${LICENSEE}`, {
      announced: usd("5"),
      "can be withdrawn after": /^20/,
    });
    good(`license:transfer --license 2 ${LICENSEE}`, { status: "Locked", "can be transferred after": /^20/ });
    good(`stake:thaw --operator 2 --amount 100 ${OTHER_OPERATOR}`, {
      announced: usd("100"),
      "can be withdrawn after": /^20/,
    });
    good(`stake:thaw --operator 1 ${LICENSEE}`, { announced: usd("2") });

    bad(`license:cap --license 1 --apply`, /The lower cap of license 1 can be put in force from 20\d\d-/);
    bad(`license:cap --license 2 --apply`, /No lower cap was announced for license 2/);
    bad(`license:cap --license 1 ${LICENSEE}`, /Say one of --cap, --apply/);
    bad(`license:cap --license 1 --cap 20 --apply ${LICENSEE}`, /Say one of --cap, --apply/);
    bad(`license:cap --license 1 --cap 1e9 ${LICENSEE}`, /--cap must be 9 to 32212254720 whole units/);
    bad(`license:cap --license 1 --cap 20 ${OPERATOR}`, /License 1 isn't 0x\w+'s/);
    bad(`license:cap --license 9 --cap 20 ${LICENSEE}`, /--license 9: no such license/);

    bad(
      "license:operator --license 1 --apply",
      /The other operator or road of license 1 can be put in force after 20\d\d-/,
    );
    bad("license:operator --license 3 --apply", /No other operator or road was announced for license 3/);
    bad(`license:operator --license 1 --operator 9 ${LICENSEE}`, /Operator 9 doesn't serve plan 1/);
    bad(
      `license:operator --license 1 --road pigeon ${LICENSEE}`,
      /--road must be attested or vouchers; it is "pigeon"/,
    );
    bad(`license:operator --license 1 ${LICENSEE}`, /Say --operator, --road or both, or --apply alone/);
    bad(`license:operator --license 1 --operator 2 ${OUTSIDER}`, /License 1 isn't 0x\w+'s/);

    good(`license:withdraw --license 1 ${LICENSEE}`, { announced: usd("5"), "can be withdrawn after": /^20/ });
    bad(`license:withdraw --license 1 --amount 7 ${LICENSEE}`, /Another amount is on its way out already: .* --anew/);
    bad(`license:withdraw --license 1 ${OPERATOR}`, /License 1 is 0x\w+'s, and not 0x\w+'s: act as its owner/);
    bad(
      `license:withdraw --license 3 --amount 31 ${LICENSEE}`,
      /31\.0 TUSD \(31000000 units\) is more than the 30\.0 TUSD/,
    );
    bad(`license:withdraw --license 3 --amount 0 ${LICENSEE}`, /--amount must be above 0/);
    bad(`license:withdraw --license 3 --cancel ${LICENSEE}`, /Nothing is on its way out/);
    bad(`license:withdraw --license 3 --cancel --anew ${LICENSEE}`, /Say either --anew or --cancel/);

    good(`license:transfer --license 2 ${LICENSEE}`, { status: "Locked", "can be transferred after": /^20/ });
    bad(`license:transfer --license 1 ${LICENSEE}`, /License 1 can't be transferred: its plan doesn't allow it/);
    bad(`license:transfer --license 1 --unlock ${LICENSEE}`, /License 1 is running: this can't be done with it now/);
    bad(`license:transfer --license 9 ${LICENSEE}`, /--license 9: no such license/);
    bad(`license:withdraw --license 2 ${LICENSEE}`, /License 2 is locked for a transfer: this can't be done/);

    good("stake:show --operator 2", { active: usd("400.5"), "on its way out": usd("100") }, ({ thaws }) => {
      expect(thaws as Record[]).to.have.length(1);
    });
    bad(`stake:withdraw --operator 2 ${OTHER_OPERATOR}`, /The stake in operator 2 thaws until 20\d\d-/);
    bad(`stake:withdraw --operator 2 ${LICENSEE}`, /0x\w+ has no stake in operator 2 on its way out/);
    bad(`stake:withdraw --operator 9 ${OPERATOR}`, /There is no operator 9/);
    bad(
      `stake:thaw --operator 1 --amount 1001.01 ${OPERATOR}`,
      /--amount 1001\.01 is more than your active stake in operator 1/,
    );
    bad(`stake:thaw --operator 1 --amount 0 ${OPERATOR}`, /The amount is 0: name a larger one/);
    bad(`stake:thaw --operator 1 ${LICENSEE}`, /has no active stake in operator 1/);
    bad(`stake:thaw --operator 9 ${OPERATOR}`, /There is no operator 9/);
    good(`stake:thaw --operator 2 --amount 7 ${OTHER_OPERATOR}`, { announced: usd("7") });
    good(`stake:unthaw --operator 2 ${OTHER_OPERATOR}`, { "stays in": usd("7"), "of it active": usd("400.5") });
    bad(`stake:unthaw --operator 2 ${LICENSEE}`, /0x\w+ has no stake in operator 2 on its way out/);
    bad(`stake:unthaw --operator 9 ${OTHER_OPERATOR}`, /There is no operator 9/);

    later("the wait", WAIT);
    good("license:cap --license 1 --apply", { "own cap a term": usd("20"), "lower cap": "none announced" });
    good(`license:cap --license 1 --cap none ${LICENSEE}`, { "own cap a term": "none" });
    good("license:operator --license 1 --apply", { operator: "2", road: "vouchers" });
    good(`license:withdraw --license 1 ${LICENSEE}`, { withdrawn: usd("5"), to: addressOf(3) });
    good(`license:withdraw --license 1 ${LICENSEE}`, { announced: usd("24.749") });
    good(`license:withdraw --license 1 --cancel ${LICENSEE}`, { "stays in": usd("24.749") });
    bad(`license:transfer --license 2 ${LICENSEE}`, /License 2 can be transferred now: say --to whom, or --unlock/);
    bad(`license:transfer --license 2 --to ${addressOf(5)} ${OUTSIDER}`, /Token 2 isn't 0x\w+'s: act as its owner/);
    good(`license:transfer --license 2 --to ${addressOf(5)} ${LICENSEE}`, { owner: addressOf(5), status: "Locked" });
    bad(`license:transfer --license 2 ${HEIR}`, /License 2 was transferred: its owner says --unlock to use it/);
    bad(`license:transfer --license 2 --unlock ${LICENSEE}`, /License 2 isn't 0x\w+'s/);
    good(`license:transfer --license 2 --unlock ${HEIR}`, { status: "Running" });
  });

  describe("vouchers", () => {
    const key = `license:key --license 1 --key ${addressOf(9)}`;
    good(`${key} --cap 2 ${LICENSEE}`, { status: "Active", cap: usd("2"), generation: "1" });
    good(key, { status: "Active", cap: usd("2") });
    bad(`${key} --cap 1 ${LICENSEE}`, /VoucherCapNotRaised/);
    bad(`${key} --cap 2 --revoke ${LICENSEE}`, /Say either --cap or --revoke/);
    bad(`${key} --cap 3 ${OUTSIDER}`, /License 1 isn't 0x\w+'s/);
    bad(`license:key --license 1 --key 0x1234 --cap 2 ${LICENSEE}`, /--key must have 20 or 64 bytes; it has 2/);
    bad(`license:key --license 9 --key ${addressOf(9)}`, /--license 9: no such license/);

    good(`voucher:sign --license 1 --spent 1.5 ${OUTSIDER}`, { operator: 2, key: addressOf(9) }, ({ voucher }) => {
      facts.voucher = voucher as string;
    });
    bad(`voucher:sign --license 9 --spent 1.5 ${OUTSIDER}`, /--license 9: no such license/);
    bad(`voucher:sign --license 1 --spent much ${OUTSIDER}`, /--spent must be an amount of TUSD such as 12\.5/);

    good(`voucher:settle --vouchers $voucher ${HEIR}`, { charged: usd("1.249") }, ({ vouchers }) => {
      expect((vouchers as Record[]).map(({ status }) => status)).to.deep.equal(["Charged"]);
    });
    good("voucher:settle --vouchers $voucher,$voucher", { charged: usd("0") }, ({ vouchers }) => {
      expect((vouchers as Record[]).map(({ status }) => status)).to.deep.equal(["NothingDue", "NothingDue"]);
    });
    good("voucher:settle --vouchers $voucher --plan 2", { plan: 2, charged: usd("0") }, ({ vouchers }) => {
      expect((vouchers as Record[]).map(({ status }) => status)).to.deep.equal(["WrongPlan"]);
    });
    bad("voucher:settle --vouchers 0x12", /--vouchers must be what voucher:sign prints/);
    good(`${key} --revoke ${LICENSEE}`, { status: "Ending", "what it signed counts until": /^20/ });
    bad(`${key} --revoke ${LICENSEE}`, /VoucherKeyRevoked/);
  });

  describe("terms", () => {
    good(`license:renew --license 3 --auto off ${LICENSEE}`, { "starts another term": false });
    good(`license:renew --license 3 --auto on ${LICENSEE}`, { "starts another term": true });
    bad(`license:renew --license 3 --auto maybe ${LICENSEE}`, /--auto must be on or off; it is "maybe"/);
    bad(`license:renew --license 3 ${LICENSEE}`, /License 3 is running: this can't be done with it now/);
    bad(`license:renew --license 1 --auto off ${LICENSEE}`, /The plan of license 1 has no minimum spend/);
    bad("license:renew --license 9", /--license 9: no such license/);
    bad("license:close --license 3", /The term of license 3 can be closed after 20\d\d-/);
    bad("license:close --license 1", /The plan of license 1 has no minimum spend/);
    bad("license:close --license 9", /--license 9: no such license/);

    later("the rest of a term", 19 * HOUR + 600);
    good("license:show --license 3", { status: "Lapsed" });
    good(`license:renew --license 3 ${OUTSIDER}`, { term: "1" });
    bad("license:renew --license 3", /License 3 is running/);
    bad(`license:end --license 2 ${LICENSEE}`, /License 2 isn't 0x\w+'s/);
    good(`license:end --license 2 ${HEIR}`, { status: "Ended", "stays due": usd("10") });
    bad(`license:end --license 2 ${HEIR}`, /License 2 has ended: this can't be done with it now/);
    bad(`license:end --license 9 ${HEIR}`, /--license 9: no such license/);
    bad("license:close --license 3", /can be closed after 20\d\d-/);
    later("the wait", WAIT);
    good("license:close --license 3", { charged: usd("10") });
    good("license:close --license 2", { charged: usd("10"), status: "Closed" });
    bad("license:close --license 2", /The last term of license 2 was closed before/);
  });

  describe("endings", () => {
    good(`model:recall --asset 1 --number 2 ${PUBLISHER}`, { number: 2, "usable until": /^20/ });
    bad(`model:recall --asset 1 --number 2 ${PUBLISHER}`, /Version 2 of asset 1 \(\d+\) was recalled before/);
    bad(`model:recall --asset 1 --number 9 ${PUBLISHER}`, /There is no version 9 of asset 1/);
    bad(`model:recall --asset 1 --number 1 ${LICENSEE}`, /Asset 1 isn't 0x\w+'s/);
    bad(`model:recall --asset 1 --number first ${PUBLISHER}`, /--number must be a whole number from 1/);

    good(`plan:close --plan 2 ${PUBLISHER}`, { status: "Closed", "licenses that run on": "2" });
    bad(`plan:close --plan 2 ${PUBLISHER}`, /Plan 2 is closed/);
    bad(`plan:close --plan 1 ${LICENSEE}`, /its owner alone says on what terms/);
    bad(`plan:close --plan 9 ${PUBLISHER}`, /There is no plan 9/);
    good("plan:show --plan 2", { status: "Closed", sold: "2" });
    bad(`license:buy --plan 2 --operator 1 --fund 20 ${LICENSEE}`, /Plan 2 is closed and sells no more licenses/);

    later("the thaw of stake", 30 * DAY);
    good(`stake:withdraw --operator 2 ${OTHER_OPERATOR}`, { withdrawn: usd("100"), to: addressOf(4) });
    good(`stake:withdraw --operator 1 --to ${addressOf(5)} ${LICENSEE}`, { withdrawn: usd("2"), to: addressOf(5) });
    good("stake:show --operator 2", { stake: usd("400.5") });
    good("status", { assets: "1", plans: "6", licenses: "3", operators: "2" });
    good("model:show --asset 1", {}, ({ versions }) => {
      expect((versions as Record[]).map(({ status }) => status)).to.deep.equal(["Usable", "Recalled"]);
    });
  });

  describe("what comes from a model", () => {
    const OWNER_OF_DATA = "--account 5";
    const text = "--license-text models/lic380k/LICENSE";
    before(() => {
      file("child.json", { publisherPercent: 30, attestorPercent: 2, hold: "1h", term: "30d", upfrontPrice: "100" });
      file("greedy.json", { publisherPercent: 30, attestorPercent: 2, hold: "1h", term: "30d", permittedUses: 4 });
    });

    const dataset = "asset:register --uri ipfs://dataset --kind dataset";
    good(`${dataset} --policy ByApproval --uses 3 ${OWNER_OF_DATA}`, {
      asset: 2,
      kind: "Dataset",
      "permitted uses": "3",
    });
    bad("asset:register --uri ipfs://song --kind song", /--kind must be one of Model, Adapter, Dataset; it is "song"/);
    bad(`${dataset} --royalty 11%`, /A royalty of 11 % is above its bound of 10 %/);
    bad(`${dataset} --min-share 101%`, /--min-share must be between 0 and 100 with at most two decimals; it is "101%"/);
    bad(
      `${dataset} --parents 1:FineTunedFrom:5%`,
      /would be a dataset, .* parent 1 is a model: that isn't FineTunedFrom/,
    );
    bad(`${dataset} --parents 1`, /--parents must be an asset's id, a relation and a share, .* it is "1"/);
    bad(`${dataset} --parents 1:Stolen:5%`, /--parents must be one of FineTunedFrom, .*; it is "Stolen"/);
    bad(`${dataset} --parents 1:MergedFrom:half`, /--parents must be between 0 and 100 .* it is "half"/);
    bad(`${dataset} --parents 9:MergedFrom:1%`, /There is no asset 9 \(AssetUnknown\)/);

    good(`asset:policy --asset 1 --policy open --min-share 10% ${PUBLISHER}`, {
      derivatives: "Open",
      "least share of derivatives": "10 %",
    });
    bad(`asset:policy --asset 1 --policy ajar ${PUBLISHER}`, /--policy must be one of Closed, Open, ByApproval/);
    bad(`asset:policy --asset 1 --policy Closed ${LICENSEE}`, /Asset 1 isn't 0x\w+'s/);
    good(`asset:describe --asset 1 --uri ipfs://card ${PUBLISHER}`, { uri: "ipfs://card" });
    bad(`asset:describe --asset 1 --uri ipfs://card ${LICENSEE}`, /Asset 1 isn't 0x\w+'s/);

    const approve = `asset:approve --asset 2 --registrant ${addressOf(9)} --relation TrainedOn --share 5%`;
    good(`${approve} --out $folder/approval.json ${OWNER_OF_DATA}`, {
      registrant: addressOf(9),
      relation: "TrainedOn",
      share: "5 %",
      "counts until": /^20/,
    });
    bad(`${approve} --out $folder/forged.json ${LICENSEE}`, /Asset 2 is 0x\w+'s, whose signature alone approves/);
    bad(`${approve} --valid never --out a.json ${OWNER_OF_DATA}`, /--valid must be a length of time/);

    const folder = "--folder $folder/model --uri ipfs://child --version-uri ipfs://child-1 --changes first";
    const child = `model:register ${folder} --parents 2:TrainedOn:5,1:FineTunedFrom:20% ${OUTSIDER}`;
    bad(child, /The owner of asset 2 didn't approve that 0x\w+ derives from it/);
    bad(child.replace("20%", "9.99%"), /Asset 1 asks for 10 % of the income .* and not 9\.99 %/);
    bad(`${child} --uses 7`, /Asset 2 doesn't permit the uses 4/);
    bad(`${child} --approvals $folder/child.json`, /child\.json is no approval of asset:approve/);
    bad(
      `model:register ${folder} --parents 1:FineTunedFrom:20% --approvals $folder/approval.json ${OUTSIDER}`,
      /approval\.json is of asset 2, which isn't a parent/,
    );
    good(`${child} --approvals $folder/approval.json --royalty 2.5%`, { asset: 3 });
    bad(`${child} --approvals $folder/approval.json`, /The approval 0x\w+ of asset 2's owner was used or taken back/);
    good(`${approve} --out $folder/another.json ${OWNER_OF_DATA}`, {});
    bad(`asset:disapprove --file $folder/another.json ${LICENSEE}`, /Asset 2 isn't 0x\w+'s/);
    good(`asset:disapprove --file $folder/another.json ${OWNER_OF_DATA}`, { asset: "2", status: "Withdrawn" });
    bad(`asset:disapprove --file $folder/half.json ${OWNER_OF_DATA}`, /half\.json must be a readable JSON file/);

    good(`asset:royalty --asset 3 --to ${addressOf(1)} ${OUTSIDER}`, { royalty: `2.5 % to ${addressOf(1)}` });
    bad(`asset:royalty --asset 3 --to ${addressOf(1)} ${OUTSIDER}`, /royalty on sales of asset 3 isn't 0x\w+'s/);
    good("asset:lineage --asset 3", {
      "came from": [
        { asset: 1, relation: "FineTunedFrom", of: 3, share: "20 %" },
        { asset: 2, relation: "TrainedOn", of: 3, share: "5 %" },
      ],
      "of its income runs on to": [
        { asset: 1, share: "20 %" },
        { asset: 2, share: "5 %" },
      ],
      "led to": [],
    });
    good("asset:lineage --asset 1", {
      "came from": [],
      "led to": [{ asset: "3", relation: "FineTunedFrom", share: "20 %" }],
    });
    bad("asset:lineage --asset 9", /There is no asset 9/);

    good(`asset:payee --asset 3 --add ${addressOf(3)} --share 10% ${OUTSIDER}`, { payee: "1", share: "10 %" });
    good(`asset:payee --asset 3 --add ${addressOf(4)} --share 65% ${OUTSIDER}`, { payee: "2" });
    bad(
      `asset:payee --asset 3 --add ${addressOf(4)} --share 0.01% ${OUTSIDER}`,
      /add up to 100\.01 %, more than the whole/,
    );
    bad(`asset:payee --asset 3 --add ${addressOf(4)} ${OUTSIDER}`, /--add takes --asset and --share, too/);
    bad(`asset:payee --asset 3 ${OUTSIDER}`, /Say one of --add, --give-up/);
    bad(`asset:payee --asset 3 --add ${addressOf(4)} --share 1% ${LICENSEE}`, /Asset 3 isn't 0x\w+'s/);
    bad(`asset:payee --give-up 2 ${OUTSIDER}`, /Token 2 isn't 0x\w+'s/);
    good(`asset:payee --give-up 2 ${OTHER_OPERATOR}`, { payee: 2, asset: "3", share: "given up" });
    good("asset:show --asset 3", {
      kind: "Model",
      owner: addressOf(9),
      derivatives: "Closed",
      "permitted uses": "3",
      payees: [{ payee: "1", holder: addressOf(3), share: "10 %" }],
      "income so far": usd("0"),
    });
    bad("asset:show --asset 9", /There is no asset 9/);

    bad(`plan:create --asset 3 --terms $folder/greedy.json ${text} ${OUTSIDER}`, /Asset 3 doesn't permit the uses 4/);
    good(`plan:create --asset 3 --terms $folder/child.json ${text} ${OUTSIDER}`, {}, ({ plan }) => {
      facts.childPlan = String(plan);
    });
    good(`operator:serve --operator 2 --plans $childPlan ${OTHER_OPERATOR}`, {});
    good(`license:buy --plan $childPlan --operator 2 ${LICENSEE}`, {}, ({ license }) => {
      facts.childLicense = String(license);
    });
    bad("asset:income --asset 3", /No income of asset 3 waits/);
    bad("asset:income --asset 9", /There is no token 9/);
    later("the hold", HOUR);
    good("asset:income --asset 1", { distributed: [{ from: 1, to: addressOf(1), ...usd("25.1247") }] });
    good("license:upfront --license $childLicense", { goes: "to the publisher" });
    good("asset:show --asset 3", { "income so far": usd("99"), "of it to be distributed": usd("99") });
    good("asset:income --asset 3 --through", {
      distributed: [
        { from: 3, to: "asset 1", ...usd("19.8") },
        { from: 3, to: "asset 2", ...usd("4.95") },
        { from: 3, to: addressOf(3), ...usd("9.9") },
        { from: 3, to: addressOf(9), ...usd("64.35") },
        { from: 2, to: addressOf(5), ...usd("4.95") },
        { from: 1, to: addressOf(1), ...usd("19.8") },
      ],
    });
    good(`asset:withdraw ${LICENSEE}`, { withdrawn: usd("9.9"), to: addressOf(3) });
    bad(`asset:withdraw ${LICENSEE}`, /has earned nothing here that isn't withdrawn yet/);
    good(`earnings:withdraw ${OUTSIDER}`, { "from models": usd("64.35") });

    good("asset:history --asset 1", {}, ({ events }) => {
      expect((events as Record[]).map(({ what }) => String(what).replace(/,? (at|usable) .*/, ""))).to.deep.equal([
        "registered as a model",
        "derivatives: Closed",
        "version 1 published",
        "version 2 published",
        "version 2 recalled:",
        "derivatives: Open",
        "described",
      ]);
      expect(new Set((events as Record[]).map(({ who }) => who))).to.deep.equal(new Set([addressOf(1)]));
    });
    bad("asset:history --asset 9", /There is no token 9/);
  });

  describe("payments that somebody else brings", () => {
    const purchase = "payment:license --plan 1 --operator 1 --fund 3 --cap 20";
    const deposit = "payment:deposit --license $childLicense --amount 2";
    const relay = (name: string) => `payment:relay --file $folder/${name}.json ${OUTSIDER}`;
    /** Writes a payment that was signed, with changes, to another file. */
    const changed = (name: string, change: (payment: Record) => Record) =>
      it(`… ${name}.json`, () => {
        const signed = JSON.parse(readFileSync(path.join(facts.folder, "deposit.json"), "utf8")) as Record;
        file(`${name}.json`, change(signed));
      });

    good(`${purchase} --out $folder/purchase.json ${LICENSEE}`, {
      plan: 1,
      owner: addressOf(3),
      payer: addressOf(3),
      pays: usd("3"),
      "counts until": /^20/,
      hash: /^0x\w{64}$/,
    });
    bad(`${purchase} --max-price 2 --out $folder/a.json ${LICENSEE}`, /more than the --max-price of 2\.0 TUSD/);
    bad(`${purchase} --deadline soon --out $folder/a.json ${LICENSEE}`, /--deadline must be a length of time/);
    bad(`payment:license --plan 9 --operator 1 --out $folder/a.json ${LICENSEE}`, /There is no plan 9/);
    bad(`${purchase} ${LICENSEE}`, /The '--out' parameter of task 'payment:license' expects a value/);
    good(relay("purchase"), {
      payer: addressOf(3),
      owner: addressOf(3),
      plan: 1,
      "own cap": usd("20"),
      funded: usd("3"),
    });
    bad(relay("purchase"), /0x\w+'s authorization 0x\w+ was used or cancelled: sign a new one/);

    good(`${deposit} --out $folder/deposit.json ${LICENSEE}`, { owner: addressOf(3), pays: usd("2") });
    bad(`${deposit} --out $folder/nowhere/a.json ${LICENSEE}`, /nowhere.*there is no such file or folder/);
    bad(`payment:deposit --license 99 --amount 2 --out a.json ${LICENSEE}`, /--license 99: no such license/);
    bad(`payment:deposit --license 1 --amount 0 --out a.json ${LICENSEE}`, /--amount must be above 0/);
    bad(`payment:deposit --license 1 --amount much --out a.json ${LICENSEE}`, /--amount must be an amount of TUSD/);
    changed("more", ({ deposit, ...rest }) => ({ ...rest, deposit: { ...(deposit as object), amount: "3000000" } }));
    bad(relay("more"), /The signature isn't 0x\w+'s/);
    changed("later", ({ authorization, ...rest }) => ({
      ...rest,
      authorization: { ...(authorization as object), validBefore: 2 ** 40 },
    }));
    bad(relay("later"), /The signature isn't 0x\w+'s/);
    good(relay("deposit"), { payer: addressOf(3), deposited: usd("2"), balance: usd("2") }, ({ license }) => {
      expect(license).to.equal(facts.childLicense);
    });
    bad(relay("deposit"), /was used or cancelled: sign a new one/);

    good(`payment:deposit --license 1 --amount 999 --out $folder/dear.json ${HEIR}`, { pays: usd("999") });
    bad(relay("dear"), /0x\w+ has \d+\.\d+ TUSD \(\d+ units\) and needs 999\.0 TUSD/);
    changed("nameless", ({ deposit }) => ({ deposit }));
    bad(relay("nameless"), /nameless\.json is no payment/);
    changed("aimless", ({ authorization }) => ({ authorization }));
    bad(relay("aimless"), /aimless\.json is no payment/);
    bad(relay("nowhere"), /nowhere\.json must be a readable JSON file/);

    good(`${deposit} --deadline 10m --out $folder/slow.json ${LICENSEE}`, {});
    good(`${purchase} --deadline 10m --out $folder/slower.json ${LICENSEE}`, {});
    later("their deadline", 601);
    bad(relay("slow"), /The authorization was valid until 20\d\d-.*: sign a new one \(AuthorizationExpired\)/);
    bad(relay("slower"), /\(DeadlinePassed\)/);
  });

  describe("another committee", () => {
    before(() => {
      const members = [6, 8, 9].map((account) => ({ signer: addressOf(account), payee: addressOf(account) }));
      const weights = [3, 1, 1];
      const weighty = members.map((member, i) => ({ ...member, weight: weights[i] }));
      file("committee.json", { members: weighty, threshold: 3, bond: "500" });
      file("free.json", { members, threshold: 2, bond: 0 });
      file("priceless.json", { members, threshold: 2 });
      const until = "2099-12-31";
      file("next.json", { members, threshold: 2, until });
      file("past.json", { members, threshold: 2, until: "2020-01-01" });
      file("no-end.json", { members, threshold: 2 });
      file("no-majority.json", { members, threshold: 1, until });
      file("too-many.json", { members, threshold: 4, until });
      file("nobody.json", { members: [{ signer: "me" }], threshold: 1, until });
      file("no-members.json", { threshold: 1, until });
    });

    const next = "committee:rotate --next $folder/next.json";
    it(`${next} says what to sign`, async () => {
      const record = recordIn(await bench.run([...wordsOf(next), "--json"]));
      expectFields(record, { "to sign": /^0x\w{64}$/, "weight that must sign": "2", threshold: 2, nonce: "0" });
    });
    for (const account of [6, 7]) {
      it(`${next} --sign --account ${account} prints a signature`, async () => {
        const { signature } = recordIn(await bench.run(wordsOf(`${next} --sign --account ${account} --json`)));
        facts[`signedBy${account}`] = signature as string;
      });
    }
    bad(`${next} --sign ${OUTSIDER}`, /isn't in the present committee/);
    bad(`${next} --signatures $signedBy6`, /isn't signed by as many of the present committee as must/);
    bad(`${next} --signatures $signedBy6,$signedBy6`, /isn't signed by as many of the present committee as must/);
    bad(`${next} --signatures 0x1234`, /0x1234 is no signature of 65 bytes; it has 2/);
    bad(`${next} --signatures mine`, /--signatures must be bytes/);
    bad(
      "committee:rotate --next $folder/no-majority.json --signatures $signedBy6",
      /isn't in the present committee, or signed something else/,
    );
    bad("committee:rotate --next $folder/too-many.json", /threshold must be a whole number from 1 to 3; it is "4"/);
    bad("committee:rotate --next $folder/nobody.json", /members\[0\]\.signer must be bytes/);
    bad("committee:rotate --next $folder/no-members.json", /members must be a list/);
    bad("committee:rotate --next $folder/no-end.json", /until must be a date such as 2027-01-31 .* it is undefined/);
    bad("committee:rotate --next $folder/past.json --signatures $signedBy6", /or signed something else/);
    bad("committee:rotate --next $folder/nowhere.json", /--next .*nowhere\.json must be a readable JSON file/);
    good(`${next} --signatures $signedBy6,$signedBy7`, { rotation: "1", "in force from": /^20/ });
    bad(`${next} --signatures $signedBy6,$signedBy7`, /or signed something else/);
    good("attestor:show", {}, ({ rotations }) => {
      expect((rotations as Record[]).map(({ status }) => status)).to.deep.equal(["Present", "Announced"]);
    });
  });

  describe("a committee of another kind", () => {
    good(
      `committee:deploy --committee $folder/committee.json ${OUTSIDER}`,
      { threshold: 3, "bond a unit of weight": usd("500") },
      ({ attestor }) => {
        facts.attestor = String(attestor);
      },
    );
    bad("committee:deploy --committee $folder/free.json", /A bond must be something for each unit of weight/);
    bad("committee:deploy --committee $folder/priceless.json", /bond must be an amount of TUSD .* it is undefined/);
    bad("committee:deploy --committee $folder/no-members.json", /members must be a list/);
    good("attestor:show --attestor $attestor", { threshold: "3 of 5", "weight that is bonded": "0" });
    good("committee:thaw --account 6", { status: "Thawing", "can be withdrawn after": /^20/ });
    good("committee:bond --account 6 --weight 3", { paid: usd("0"), status: "Posted" });
  });

  describe("bonds that go", () => {
    before(() => {
      const batch = JSON.parse(readFileSync(path.join(facts.folder, "batch.json"), "utf8")) as { header: Record };
      const book = JSON.parse(readFileSync(addressBookPath(facts.folder, NETWORK), "utf8"));
      const domain = {
        name: "Licet UsageEscrow",
        version: "1",
        chainId: 31_337n,
        verifyingContract: book.contracts.UsageEscrow as string,
      };
      const signed = (account: number, root: string) => {
        const header = { ...batch.header, root };
        const digest = batchDigest(domain, headerFromJson(header));
        return { header, signature: wallets[account].signingKey.sign(digest).serialized };
      };
      const [first, second] = [signed(7, id("one")), signed(7, id("another"))];
      const signer = addressOf(7);
      file("evidence.json", { signer, first, second });
      file("agreeing.json", { signer, first, second: first });
      file("forged.json", { signer, first, second: signed(9, id("another")) });
      file("stranger.json", { signer: addressOf(3), first, second });
      file("elsewhere.json", { signer, holder: addressOf(9), first, second });
      file("one-batch.json", { signer, first });
    });

    good("committee:thaw --account 8", { signer: addressOf(8), status: "Thawing", "can be withdrawn after": /^20/ });
    bad("committee:thaw --account 8", /is on its way out already: withdraw it after 20\d\d-/);
    bad(`committee:thaw ${OUTSIDER}`, /0x\w+ has no bond for 0x\w+/);
    bad("committee:withdraw-bond --account 8", /only once its wait is over, which is over after 20\d\d-/);
    bad("committee:withdraw-bond --account 7", /only once its wait is over, which is not begun/);
    bad(`committee:withdraw-bond ${OUTSIDER}`, /has no bond for/);

    const report = (name: string) => `committee:report --evidence $folder/${name}.json ${OUTSIDER}`;
    bad(report("agreeing"), /who signs one twice contradicts nothing/);
    bad(report("forged"), /isn't signed by 0x\w+: show its own signature/);
    bad(report("stranger"), /isn't in the committee any more: name the bond's "holder"/);
    bad(report("elsewhere"), /has no bond for/);
    bad(report("one-batch"), /Batch must be a JSON object/);
    bad(report("nowhere"), /--evidence .*nowhere\.json must be a readable JSON file/);
    good(report("evidence"), { signer: addressOf(7).toLowerCase(), lost: usd("1000"), "of it yours": usd("100") });
    bad(report("evidence"), /has no bond for .* or lost \(BondNone\)/);
    good(`earnings:withdraw ${OUTSIDER}`, { "from attesting": usd("100") });
    bad("committee:bond --account 7", /was shown to have signed two batches for one number/);
    good("attestor:show", { "weight that is bonded": "1" }, ({ members }) => {
      expect((members as Record[]).map((member) => member.bond)).to.deep.equal(["Posted", "Slashed", "Thawing"]);
    });

    later("the thaw of bonds", 30 * DAY + HOUR);
    good(`committee:withdraw-bond --account 8 --to ${addressOf(9)}`, { withdrawn: usd("1000"), to: addressOf(9) });
  });

  describe("a dry run", () => {
    const refusals: [string, number, RegExp][] = [
      [`license:fund --license 9 --amount 55 ${LICENSEE}`, 1, /The chain refused deposit: License 9 was never sold/],
      [`stake:commission --operator 2 --percent 5 ${LICENSEE}`, 0, /The chain refused setCommission: Operator 2 isn't/],
      [`license:end --license 3 ${OUTSIDER}`, 0, /The chain refused end: License 3 isn't 0x\w+'s/],
    ];
    for (const [command, before, reason] of refusals) {
      it(`${command} says what comes before the refusal, and ends with exit code 1`, async () => {
        const record = recordIn(await bench.run([...wordsOf(command), "--dry-run", "--json"]), 1);
        expectFields(record, { refused: reason });
        expect(record.transactions).to.have.length(before);
      });
    }

    it("says which money would move, from whom to whom", async () => {
      const command = `license:fund --license 1 --amount 55 ${LICENSEE} --dry-run --json`;
      const { transactions, balance } = recordIn(await bench.run(wordsOf(command)));
      expect((transactions as Record[]).map(({ moves }) => moves)).to.deep.equal([
        [],
        [{ from: addressOf(3), to: "UsageEscrow", ...usd("55") }],
      ]);
      expect(balance).to.deep.equal(usd("78.5"));
      const { stdout } = await bench.run(wordsOf("license:show --license 1"));
      expect(stdout).to.match(/^balance +23\.5 TUSD \(23500000 units\)$/m);
    });

    it("writes no file", async () => {
      const command = `model:register --folder models/lic380k --uri a --version-uri b --out $folder/new.json --dry-run --json`;
      recordIn(await bench.run(wordsOf(command)));
      expect(existsSync(path.join(facts.folder, "new.json"))).to.equal(false);
    });
  });

  describe("a chain that isn't the address book's", () => {
    const book = () => addressBookPath(facts.folder, NETWORK);
    let kept: string;

    beforeEach(() => {
      kept = readFileSync(book(), "utf8");
    });
    afterEach(() => writeFileSync(book(), kept));

    it("is told by its id", async () => {
      writeFileSync(book(), kept.replace('"31337"', '"1"'));
      const { exitCode, stderr } = await bench.run(["status"]);
      expect({ exitCode, stderr }).to.deep.equal({
        exitCode: 1,
        stderr: "The address book is of chain 1, and node is chain 31337: check --network, or deploy anew.",
      });
    });

    it("is told by what isn't there", async () => {
      const { contracts } = JSON.parse(kept);
      writeFileSync(book(), kept.replaceAll(contracts.UsageEscrow, addressOf(9)));
      const { exitCode, stderr } = await bench.run(["status"]);
      expect(exitCode).to.equal(1);
      expect(stderr).to.match(/No contract is at 0x\w+ any more: the chain was started anew\. Deploy again/);
    });

    it("is told where the book can't be read", async () => {
      writeFileSync(book(), kept.slice(0, 50));
      const { exitCode, stderr } = await bench.run(["status"]);
      expect(exitCode).to.equal(1);
      expect(stderr).to.match(/There is no readable address book at/);
    });
  });

  describe("the command line", () => {
    it("has the exit codes and the output that tasks promise", async () => {
      const [shown, unknown, refused, dead, help] = await Promise.all([
        bench.hardhat(["license:show", "--license", "1", "--json"]),
        bench.hardhat(["license:show", "--license", "99"]),
        bench.hardhat(wordsOf(`license:buy --plan 1 --operator 9 ${LICENSEE} --json`)),
        bench.hardhat(["status"], { LICET_TEST_NODE: "http://127.0.0.1:1" }),
        bench.hardhat(["help", "license:buy"]),
      ]);
      expectFields(recordIn(shown), { license: "1", balance: usd("23.5") });
      expect(unknown).to.deep.equal({ exitCode: 1, stdout: "", stderr: "--license 99: no such license.\n" });
      expect({ ...refused, stderr: JSON.parse(refused.stderr) as object }).to.deep.equal({
        exitCode: 1,
        stdout: "",
        stderr: {
          error:
            "The chain refused buy: Operator 9 doesn't serve plan 1: choose one that does, with `operator:show` (PlanNotServed).",
        },
      });
      expect(dead.exitCode).to.equal(1);
      expect(dead.stderr).to.match(/Cannot connect to the network node.*make sure your node is running/s);
      expect(dead.stderr).not.to.match(/\n {4}at /);
      expect(help.stdout).to.match(/--dry-run/);
      expect(help.stdout).to.match(/^Example: npx hardhat license:buy --plan 1 --operator 1 --fund 25 --cap 100$/m);
    });
  });

  describe("tasks without an end", () => {
    bad("oracle:run --settings $folder/nowhere.json", /nowhere\.json/);
    bad("oracle:run --settings LICENSE", /LICENSE/);
    it("there is a password for a key", () =>
      writeFileSync(path.join(bench.folder, "password"), "correct horse battery", { mode: 0o600 }));
    good("key:new --keystore $folder/key.json --password-file $folder/password", { address: /^0x\w{40}$/ });
    bad("key:new --keystore $folder/key.json --password-file $folder/password", /key\.json can't be written \(EEXIST/);
    bad("key:new --keystore $folder/new.json --password-file $folder/gone", /gone can't be read \(ENOENT/);

    bad("engine:run --port many", /Invalid value many for argument port of type int/);
  });

  describe("proofs of inference", () => {
    const word = (digit: string) => `0x${digit.repeat(64)}`;
    const prove = (input: string) =>
      `zk:prove --model models/digits/model.json --input $folder/${input}.json --salt ${word("a")} --receipt ${word("b")}`;

    it("there are inputs", () => {
      file("zero.json", digits().heldOut.find((example) => example.class === 0)!.input);
      file("short.json", [1, 2, 3]);
      file("words.json", "one, two");
      file("forged.json", "{}");
    });

    good("zk:train --out $folder/model.json --epochs 2", {
      architecture: "64-32-10-s4",
      "trained on": 1_438,
      "held out": 359,
      "accuracy in floating point": /^\d\d\.\d\d %$/,
      "accuracy in integers": /^\d\d\.\d\d %$/,
      weightsCommitment: /^0x[0-3]\w{63}$/,
    });
    bad("zk:train --out $folder/model.json", /model\.json is there already, with its salt: name another file/);
    bad("zk:train --out $folder/other.json --data LICENSE", /LICENSE can't be read as a compressed CSV file/);
    bad("zk:train --out $folder/other.json --hidden 0", /--hidden must be a whole number from 1 to 65535; it is "0"/);

    good("zk:commit --model models/digits/model.json", {
      architecture: "64-32-10-s4",
      weightsCommitment: weightsCommitment(digitsModel()),
    });
    bad("zk:commit --model LICENSE", /The model isn't JSON/);
    bad("zk:commit --model $folder/gone.json", /--model .*gone\.json can't be read: ENOENT/);

    good(
      "zk:setup --folder $folder/setup --points 64 --parties 2",
      { points: 64, parties: ["party 1", "party 2"], made: true, "for development only": true },
      ({ setup }) => (facts.setup = setup as string),
    );
    good("zk:setup --folder $folder/setup", { points: 64, verified: true });
    it("… a byte of it is changed", () => {
      const name = path.join(facts.folder, "setup/bn254_g1.dat");
      const powers = readFileSync(name);
      powers[64 * 9] ^= 1;
      writeFileSync(name, powers);
    });
    bad("zk:setup --folder $folder/setup", /Power 9 of the setup is no point of the curve/);
    bad("zk:setup --folder $folder/other --points 1", /--points must be a whole number from 2 to 4194304; it is "1"/);

    good("zk:verifier --architecture 64-32-10-s4 --out $folder", { gates: 13_077, verifier: /Honk64x32x10s4Verifier/ });
    bad("zk:verifier --architecture 64-32-10 --out $folder", /inputs-hidden-outputs-sSHIFT, such as 64-32-10-s4; not/);

    good(`${prove("zero")} --out $folder/proof.json`, { class: 0, receipt: word("b") });
    bad(`${prove("short")} --out $folder/no.json`, /The input must be 64 numbers; it is 3 numbers/);
    bad(`${prove("words")} --out $folder/no.json`, /--input .*words\.json isn't JSON: write the numbers as/);
    bad(`${prove("zero")} --setup $folder --out $folder/no.json`, /has no bn254_g1\.dat: make a setup by zk:setup/);

    good("zk:deploy", { architecture: "64-32-10-s4", "for development only": true }, ({ verifier }) => {
      facts.verifier = verifier as string;
    });
    bad("zk:deploy --account 99", /--account 99 isn't there: node has 20 accounts/);

    bad("zk:serve --model LICENSE", /LICENSE can't be served: The model isn't JSON/);
    bad("zk:serve --port many", /Invalid value many for argument port of type int/);

    good("zk:verify --proof $folder/proof.json --verifier $verifier", { proven: true, gas: /^8\d{5}$/ });
    good("zk:verify --proof $folder/proof.json", { proven: true });
    it("… the proof is said to be another receipt's", () => {
      const proof = JSON.parse(readFileSync(path.join(facts.folder, "proof.json"), "utf8")) as object;
      file("others.json", { ...proof, receiptHash: word("c") });
    });
    finds("zk:verify --proof $folder/others.json --verifier $verifier", { proven: false, gas: "none" });
    bad("zk:verify --proof $folder/forged.json", /A proof's file says "licet": "proof\/1", as zk:prove writes it/);
    bad(
      `zk:verify --proof $folder/proof.json --verifier 0x${"12".repeat(20)}`,
      /There is no contract at 0x12.* on node/,
    );
  });

  describe("disputes", () => {
    const OPERATOR_KEY = wallets[7];
    const REQUEST_KEY = wallets[9];
    const BATCH_HOLD = 3 * DAY;
    const TURN = 2 * DAY;
    /** Each has a charge of a dollar in the batch: what becomes of it. */
    const NAMES = [
      ...["proven", "silent", "ruled", "signed", "ahead"],
      ...["contradicted", "outside", "repeated", "dead", "above", "below"],
    ];
    const licenseOf = (name: string) => BigInt(facts[name]);
    let story: StoryFacts;
    let epochEnd: number;
    let arbitrator: CentralArbitrator;
    let repeated: SignedReceipt;

    before(async () => {
      arbitrator = await new CentralArbitrator__factory(await bench.provider.getSigner(0)).deploy();
      const terms = { publisherPercent: 30, attestorPercent: 2, hold: "3d", term: "365d" };
      const rates = { inputTokens: "1" };
      file("ruled-plan.json", { ...terms, rates, arbitrator: await arbitrator.getAddress() });
      file("unruled-plan.json", { ...terms, rates });
    });

    // A model whose answers can be proven, a plan that names an arbitrator, and who acts under it.
    const digitsFolder = "--folder models/digits --version-uri ipfs://digits";
    const proofsOf = `--weights-commitment ${weightsCommitment(digitsModel())} --inference-verifier $verifier`;
    good(`model:publish --asset 1 ${digitsFolder} ${proofsOf} ${PUBLISHER}`, {}, ({ manifest }) => {
      facts.digitsManifest = String(manifest);
    });
    good(
      `plan:create --asset 1 --terms $folder/ruled-plan.json --license-text models/lic380k/LICENSE ${PUBLISHER}`,
      {},
      ({ plan }) => {
        facts.ruledPlan = String(plan);
      },
    );
    good(`operator:serve --operator 1 --plans $ruledPlan ${OPERATOR}`, {});
    good(`operator:key --operator 1 --add ${OPERATOR_KEY.address} ${OPERATOR}`, {});
    good(`currency:mint --amount 1000 --to ${addressOf(8)}`, {});
    good("committee:bond --account 8", { status: "Posted" });
    good(`currency:mint --amount 500 --to ${addressOf(3)}`, {});
    for (const name of NAMES) {
      good(`license:buy --plan $ruledPlan --operator 1 --fund 10 ${LICENSEE}`, {}, ({ license }) => {
        facts[name] = String(license);
      });
    }
    good(`license:signing --license $signed ${LICENSEE}`, {});
    later("an hour's notice, and an hour of use", 2 * HOUR + 60);

    it("… a batch is attested, in which much is wrong", async () => {
      const book = JSON.parse(readFileSync(addressBookPath(facts.folder, NETWORK), "utf8"));
      const { chainId } = await bench.provider.getNetwork();
      epochEnd = await bench.now();
      story = {
        domain: domainOf(chainId, book.contracts.UsageEscrow as string),
        ...{ operatorId: 1, planId: Number(facts.ruledPlan), versionId: (1n << 32n) | 3n },
        manifestHash: facts.digitsManifest,
        ...{ operatorKey: OPERATOR_KEY, owner: wallets[3], attestors: [wallets[6], wallets[8]], folder: facts.folder },
      };
      const finishedAt = epochEnd - 30;
      const plain = (name: string, changes: Partial<Receipt> = {}) =>
        dollarReceipt(story, licenseOf(name), { finishedAt, ...changes });
      const input = digits().heldOut.find((example) => example.class === 0)!.input;
      const keyed = ["signed", "ahead"].map((name) => {
        const grant = grantOf(story, licenseOf(name), { key: REQUEST_KEY.address });
        const { salt } = grant.signed.grant;
        const hashes = classified(input, salt);
        const { packed, requestSignatureHash } = requestSignedBy(
          story,
          REQUEST_KEY,
          grant.grantHash,
          hashes.requestHash,
          finishedAt,
        );
        facts[`${name}Salt`] = salt;
        const receipt = plain(name, { grantHash: grant.grantHash, ...hashes, requestSignatureHash });
        return { receipt, grant: grant.signed, packed };
      });
      const bearer = grantOf(story, licenseOf("proven"));
      facts.provenSalt = bearer.signed.grant.salt;
      const late = grantOf(story, licenseOf("outside"), { expiresAt: finishedAt - 1 });
      facts.lateKey = encodeBearer(late.signed, id(`secret ${facts.outside}`));
      facts.coveringKey = encodeBearer(grantOf(story, licenseOf("outside")).signed, id(`secret ${facts.outside}`));
      file("late-grant.json", signedGrantToJson(late.signed));
      repeated = signed(story, plain("repeated"));
      const receipts = [
        signed(story, plain("proven", { grantHash: bearer.grantHash, ...classified(input, facts.provenSalt) })),
        ...["silent", "ruled"].map((name) => signed(story, plain(name))),
        ...keyed.map(({ receipt }) => signed(story, receipt)),
        signed(story, plain("contradicted")),
        signed(story, plain("outside", { grantHash: late.grantHash })),
        repeated,
        signed(story, plain("dead"), wallets[8]),
        ...["above", "below"].map((name) => signed(story, plain(name))),
      ];
      const more = (entry: Entry, name: string, by: bigint): Entry =>
        entry.licenseId === licenseOf(name) ? { ...entry, inputTokens: entry.inputTokens + by } : entry;
      const span = { sequence: 1n, epochStart: epochEnd - HOUR + 60, epochEnd };
      const batch = writeBatch(story, "disputed", receipts, span, (entries) =>
        entries.map((entry) => more(more(entry, "above", 250_000n), "below", -250_000n)),
      );
      facts.disputed = batch.batchId;
      facts.proposal = batch.proposal;
      facts.aheadHash = receiptDigest(story.domain, keyed[1].receipt);
      facts.provenHash = receiptDigest(story.domain, receipts[0].receipt);
      const provable = { receipt: receipts[0].receipt, grant: bearer.signed };
      const kept = [...keyed, { ...provable, input: Uint8Array.from(input) }];
      await writeStore(story, path.join(facts.folder, "disputed.sqlite"), batch, kept);
      const [{ receipt: whole, ...rest }] = keyed;
      const lessened = { ...rest, receipt: { ...whole, inputTokens: 1n } };
      await writeStore(story, path.join(facts.folder, "lessened.sqlite"), batch, [lessened, provable]);

      // As GET /v1/receipts/{id} shows them.
      const asShown = (one: SignedReceipt) => ({
        ...signedReceiptToJson(one),
        state: "settled",
        batch_id: facts.disputed,
      });
      file("receipt.json", asShown(receipts[0]));
      file("unsigned-receipt.json", asShown({ ...receipts[0], signature: `0x${"00".repeat(65)}` }));
      file("strangers.json", asShown(signed(story, receipts[0].receipt, wallets[5])));
      file("others-receipt.json", asShown(receipts[1]));
      file("unsettled.json", asShown(signed(story, { ...receipts[0].receipt, finishedAt: epochEnd })));
      file("empty.json", asShown(signed(story, { ...receipts[0].receipt, requests: 0n })));
      file("some.json", { object: "list", data: receipts.slice(0, 2).map(asShown), has_more: false });
      file("contradicting.json", asShown(signed(story, plain("contradicted", { requestId: id("another") }))));
      file("too-few.json", receipts.slice(1).map(signedReceiptToJson));
      const changed = { ...receipts[1].receipt, ttftMs: 1 };
      file(
        "changed.json",
        receipts.map((one, i) => signedReceiptToJson(i === 1 ? signed(story, changed) : one)),
      );
      file("bodiless.json", { receipts: [{ signature: "0x" }] });
    });
    good("batch:settle --file $folder/disputed.json", { charged: usd("11"), entries: { Charged: 11 } });

    /** What a network answers to an input, as a receipt commits to it. */
    const classified = (input: number[], grantSalt: string) => {
      const { requestHash, responseHash } = publicInputsOf(statementOf({ input, grantSalt, receiptHash: ZeroHash }));
      return { requestHash, responseHash };
    };

    // What can be challenged, and by whom

    good("dispute:list --license $proven", { challenges: [] }, (record) => {
      const [charge, ...others] = record["can be challenged"] as Record[];
      expect(others).to.deep.equal([]);
      expectFields(charge, { batch: facts.disputed, charged: usd("1"), bond: usd("5"), until: /^20/ });
    });
    good("dispute:list --license 1", { challenges: [], "can be challenged": [] });
    good("dispute:list --operator 1", { owner: addressOf(2), challenges: [] });
    bad("dispute:list", /Say one of --license, --operator/);
    bad("dispute:list --license 99", /--license 99: no such license/);
    bad("dispute:list --operator 99", /There is no operator 99/);
    bad("dispute:show --challenge 1", /--challenge 1: no such challenge; `dispute:list` says which there are/);
    bad("dispute:show --challenge first", /--challenge must be a whole number from 1 to \d+; it is "first"/);

    const doubt = `dispute:challenge --license $proven ${LICENSEE} --receipt $folder`;
    bad(`dispute:challenge --license $proven ${OUTSIDER}`, /License \d+ is 0x\w+'s, and not 0x\w+'s: act as its owner/);
    bad(
      `dispute:challenge --license 1 ${LICENSEE}`,
      /charged license 1 could be challenged until 20\d\d-.*: its hold is over/,
    );
    bad(`dispute:challenge --license $childLicense ${LICENSEE}`, /No batch has charged license \d+ anything/);
    bad(`dispute:challenge --license $proven --batch $batch ${LICENSEE}`, /Batch 0x\w+ has no entry of license \d+/);
    bad(
      `dispute:challenge --license $proven --batch ${id("none")} ${LICENSEE}`,
      /--batch 0x\w+: no such batch has settled/,
    );
    bad(`${doubt}/unsigned-receipt.json`, /The receipt's signature is none \(.*\): challenge the whole entry instead/);
    bad(`${doubt}/strangers.json`, /Receipt 1 is signed by 0x\w+, which wasn't a key of operator 1 then/);
    bad(
      `${doubt}/others-receipt.json`,
      /Receipt 1 isn't one of batch 0x\w+: its licenseId is \d+, and the charge's \d+/,
    );
    bad(`${doubt}/unsettled.json`, /No batch of operator 1 has charged license \d+ for the epoch of receipt 1/);
    bad(`${doubt}/unsettled.json --batch $disputed`, /isn't one of batch 0x\w+: it finished at \d+, out of \d+ to \d+/);
    bad(`${doubt}/empty.json`, /Receipt 1 is of nothing that was charged/);
    bad(`${doubt}/some.json`, /--receipt .*some\.json has 2 receipts: keep the one that is meant/);
    bad(
      `${doubt}/bodiless.json`,
      /bodiless\.json must be receipts in JSON, .*: receipt 1: Receipt must be a JSON object/,
    );
    bad(`${doubt}/nowhere.json`, /--receipt .*nowhere\.json must be receipts in JSON, as a gateway gives them: ENOENT/);
    bad(`${doubt}/half.json`, /half\.json must be receipts in JSON/);

    // A receipt that is doubted, and proven

    good(
      `${doubt}/receipt.json --uri ipfs://why`,
      {
        challenge: "1",
        status: "Open",
        paid: usd("5"),
        charged: usd("1"),
        charge: "Frozen",
        "the operator may":
          /^dispute:prove --challenge 1 --proof …: the charge is released at once, and the bond of 5\.0 TUSD/,
        otherwise: /^after 20.*, by dispute:close, the charge is refunded .*, with as much of the operator's stake/,
      },
      ({ about }) => expect(about).to.equal(`receipt ${facts.provenHash}`),
    );
    bad(`${doubt}/receipt.json`, /was challenged already: `dispute:show --challenge 1` says what became of it/);
    good("dispute:show --challenge 1", { status: "Open", operator: "1", challenger: addressOf(3) }, (record) => {
      facts.provenCharge = String(record["charge's id"]);
    });
    const prove = `dispute:prove --challenge 1 --model models/digits/model.json --input $folder/zero.json`;
    bad(
      `dispute:answer --challenge 1 --data ipfs://data ${OPERATOR}`,
      /Challenge 1 doubts the receipt 0x\w+, which can be proven/,
    );
    bad(`dispute:prove --challenge 1 ${OPERATOR}`, /Say one of --proof, --model/);
    const byModel = "dispute:prove --challenge 1 --model models/digits/model.json";
    bad(`${byModel} ${OPERATOR}`, /A proof by --model takes --store, or --input and --salt as zk:prove does/);
    bad(
      `${byModel} --store $folder/disputed.sqlite --salt $provenSalt ${OPERATOR}`,
      /A proof by --model takes --store, or/,
    );
    bad(
      `${byModel} --store $folder/operator.sqlite ${OPERATOR}`,
      /operator\.sqlite has no receipt 0x\w+: is it another's/,
    );
    bad(
      `${byModel} --store $folder/lessened.sqlite ${OPERATOR}`,
      /hasn't kept what was asked for receipt 0x\w+: say --input and/,
    );
    bad(
      `dispute:prove --challenge 1 --proof $folder/proof.json ${OPERATOR}`,
      /is of receipt 0xb{64}, and the challenge about 0x/,
    );
    bad(`dispute:prove --challenge 9 --proof $folder/proof.json ${OPERATOR}`, /--challenge 9: no such challenge/);
    bad(
      `${prove} --salt $aheadSalt ${OPERATOR}`,
      /doesn't take that for a proof of receipt 0x\w+ by the weights of version/,
    );
    bad(
      `${prove} --salt $provenSalt --receipt $folder/others-receipt.json ${OPERATOR}`,
      /is 0x\w+, and challenge 1 is about 0x/,
    );
    good(`${byModel} --store $folder/disputed.sqlite ${OPERATOR}`, {
      status: "Rejected",
      "the charge can be released from": /^20/,
      charge: "Releasable",
      "anybody may": /^dispute:withdraw sends either side what it got$/,
    });
    bad(`${prove} --salt $provenSalt ${OPERATOR}`, /Challenge 1 is rejected: a proof answers one that is open/);

    // A whole entry that nobody answers for; one that goes to the arbitrator; one whose requests must be shown

    for (const name of ["silent", "ruled", "signed"]) {
      good(
        `dispute:challenge --license $${name} ${LICENSEE}`,
        { status: "Open", about: "the whole entry" },
        ({ challenge }) => {
          facts[`${name}Challenge`] = String(challenge);
        },
      );
    }
    const [silent, rule, sign] = ["$silentChallenge", "$ruledChallenge", "$signedChallenge"].map(
      (n) => `--challenge ${n}`,
    );
    bad(`dispute:challenge --license $silent ${LICENSEE}`, /was challenged already/);
    bad(
      `dispute:prove ${silent} --proof $folder/proof.json ${OPERATOR}`,
      /is about the whole entry, .* see `dispute:answer`/,
    );
    bad(`dispute:close ${silent}`, /The turn in challenge 2 runs until 20\d\d-.*: wait until then \(TurnRunning\)/);
    bad(`dispute:escalate ${rule} ${LICENSEE}`, /Challenge 3 is open: the operator has to answer it first/);
    bad(`dispute:pay-fee ${rule} ${OPERATOR}`, /Challenge 3 is open: only one that was escalated takes a fee/);
    bad(`dispute:appeal ${rule} --side operator ${OPERATOR}`, /Challenge 3 is open: there is no ruling to appeal/);
    bad(`dispute:appeal ${rule} --side mine ${OPERATOR}`, /--side must be challenger or operator; it is "mine"/);
    good(`dispute:evidence ${rule} --uri ipfs://photo ${LICENSEE}`, { evidence: "ipfs://photo" });
    bad(
      `dispute:evidence ${rule} --uri ipfs://photo ${HEIR}`,
      /0x\w+ is neither side of challenge 3 \(CallerNotParty\)/,
    );
    bad(`dispute:evidence ${rule} --uri "" ${LICENSEE}`, /--uri must say where the evidence is; it is empty/);
    bad(
      `dispute:evidence --challenge 1 --uri ipfs://late ${LICENSEE}`,
      /Challenge 1 is rejected: this can't be done with it now/,
    );

    bad(`dispute:answer ${rule} --data ipfs://data ${HEIR}`, /Operator 1 isn't 0x\w+'s: act as its owner/);
    bad(`dispute:answer ${rule} --data "" ${OPERATOR}`, /--data must say where what was charged can be looked up/);
    good(`dispute:answer ${rule} --data ipfs://data ${OPERATOR}`, {
      status: "Answered",
      answer: "ipfs://data",
      "the challenger may": /^dispute:escalate --challenge 3, for a fee of 0\.1 ether \(100000000000000000 units\)/,
      otherwise: /the charge is released, and the bond of 5\.0 TUSD \(5000000 units\) is the operator's$/,
    });

    bad(
      `dispute:answer ${sign} --data ipfs://data ${OPERATOR}`,
      /The license demands signed requests: .* \(RequestsNotShown\)/,
    );
    good(`dispute:show ${sign}`, {
      "the operator may": /^dispute:show-requests --challenge 4 --store …, and then dispute:answer/,
    });
    const show = `dispute:show-requests ${sign} --store $folder`;
    bad(
      `${show}/operator.sqlite ${OPERATOR}`,
      /operator\.sqlite has no receipts of license \d+ in batch 0x\w+: is it another's/,
    );
    bad(`${show}/nowhere.sqlite ${OPERATOR}`, /nowhere\.sqlite can't be read/);
    bad(`${show}/disputed.sqlite ${HEIR}`, /Operator 1 isn't 0x\w+'s: act as its owner/);
    good(`${show}/disputed.sqlite ${OPERATOR}`, {
      "requests shown": 1,
      "of the entry still lacking": [],
      status: "Open",
    });
    good(`${show}/disputed.sqlite ${OPERATOR}`, { "requests shown": 1, "of the entry still lacking": [] });
    bad(`dispute:answer ${sign} ${OPERATOR}`, /Say one of --data, --store/);
    bad(
      `dispute:answer ${sign} --store $folder/lessened.sqlite ${OPERATOR}`,
      /has 1 receipts of license \d+ in the batch, which don't sum up to what was charged: inputTokens 1, and charged 1000000/,
    );
    bad(
      `dispute:answer ${silent} --store $folder/disputed.sqlite ${OPERATOR}`,
      /has no receipts of license \d+ in batch 0x/,
    );
    good(`dispute:answer ${sign} --store $folder/disputed.sqlite ${OPERATOR}`, {
      status: "Answered",
      answer: /^data:application\/json,.*1%20receipts,%20numbers%201%20to%201,/,
    });
    bad(`${show}/disputed.sqlite ${OPERATOR}`, /Challenge 4 is answered: requests are shown before it is answered/);

    bad(
      `dispute:escalate ${rule} ${OPERATOR}`,
      /Challenge 3 is 0x\w+'s, who alone may escalate it: act as that account/,
    );
    good(`dispute:escalate ${rule} ${LICENSEE}`, {
      status: "Escalated",
      paid: { amount: "0.1", symbol: "ether", units: "100000000000000000" },
      "the operator may": /^dispute:pay-fee --challenge 3, for a fee of 0\.1 ether/,
    });
    good(`dispute:pay-fee ${rule} ${OPERATOR}`, {
      status: "Disputed",
      otherwise: /^the arbitrator rules; if it never rules, after 20/,
    });
    bad(
      `dispute:appeal ${rule} --side operator ${OPERATOR}`,
      /The arbitrator of challenge 3 has given no ruling to appeal yet/,
    );
    it("… the arbitrator rules for the operator", async () => void (await (await arbitrator.giveRuling(0, 2)).wait()));
    good(`dispute:show ${rule}`, {
      "the challenger may":
        /^dispute:appeal --challenge 3 --side challenger, for 0\.1 ether .*: it wins unless the other side pays as much/,
      otherwise: /^the arbitrator's ruling for the operator stands unless it is appealed/,
    });
    good(`dispute:appeal ${rule} --side challenger ${LICENSEE}`, {
      "the operator may":
        /^dispute:appeal --challenge 3 --side operator, for 0\.1 ether .*: the arbitrator rules again/,
    });
    bad(`dispute:appeal ${rule} --side challenger ${LICENSEE}`, /That side's appeal of challenge 3 is paid for/);
    good(`dispute:appeal ${rule} --side operator ${OPERATOR}`, { status: "Disputed" });
    it("… and then for the licensee", async () => void (await (await arbitrator.giveRuling(0, 1)).wait()));

    // Proven before anybody doubts

    it("… the other one's receipt", () =>
      void (facts.zkAhead = `--salt ${facts.aheadSalt} --receipt ${facts.aheadHash}`));
    good("zk:prove --model models/digits/model.json --input $folder/zero.json $zkAhead --out $folder/ahead.json", {
      class: 0,
    });
    const ahead = `report:prove-charge --license $ahead --store $folder/disputed.sqlite`;
    bad(
      `${ahead} --batch $disputed --proofs $folder/proof.json`,
      /--proofs has none of receipt 1 \(0x\w+\): a charge is proven by all/,
    );
    bad(
      `${ahead} --batch $batch --proofs $folder/ahead.json`,
      /Batch 0x\w+ has no entry of license \d+: it charged that license/,
    );
    good(`${ahead} --batch $disputed --proofs $folder/ahead.json`, {
      charged: usd("1"),
      "receipts proven": 1,
      "was held until": /^20/,
      "can be released from": /^20/,
    });
    bad(
      `${ahead} --batch $disputed --proofs $folder/ahead.json`,
      /What batch 0x\w+ charged license \d+ was proven before/,
    );

    // What proves itself

    const reportOf = (task: string, name: string, receipts = "disputed.ndjson.gz") =>
      `report:${task} --license $${name} --batch $disputed --receipts $folder/${receipts} ${OUTSIDER}`;
    const refunded = { charged: usd("1"), "back in the license's balance": usd("1") };
    const punished = { ...refunded, "for the license's owner": usd("0.2"), "for you": usd("5") };
    bad(
      `${reportOf("contradiction", "contradicted")} --other $folder/receipt.json`,
      /Nothing to report: of the 1 receipts .* sequence 1/,
    );
    bad(
      `${reportOf("contradiction", "contradicted", "some.json")} --other $folder/receipt.json`,
      /has 2 receipts, and the batch 11/,
    );
    bad(
      `${reportOf("contradiction", "contradicted", "changed.json")} --other $folder/receipt.json`,
      /don't make the tree of the batch/,
    );
    good(`${reportOf("contradiction", "contradicted")} --other $folder/contradicting.json`, punished);
    bad(
      `${reportOf("contradiction", "contradicted")} --other $folder/contradicting.json`,
      /A breach of charge 0x\w+ was reported before/,
    );

    const outside = reportOf("outside-grant", "outside", "disputed-receipts.json");
    bad(`${outside} --key $coveringKey`, /of the 1 receipts of license \d+ in batch 0x\w+, none came under this grant/);
    bad(`${outside} --grant $folder/receipt.json`, /receipt\.json is no grant: Grant lacks licenseId/);
    bad(outside, /Say one of --key, --grant/);
    bad(`${reportOf("outside-grant", "proven")} --key $lateKey`, /none came under this grant/);
    bad(`${outside.replace("$outside", "$below")} --grant $folder/late-grant.json`, /none came under this grant/);
    good(`${outside} --key $lateKey`, punished);

    bad(reportOf("dead-key", "silent"), /Nothing to report: .* each is signed by a key that could sign then/);
    bad(
      `${reportOf("dead-key", "dead")} --proposal 0x1234`,
      /--proposal must be the operator's signature of the batch: signature must have 65/,
    );
    bad(
      `${reportOf("dead-key", "dead")} --proposal $signedBy6`,
      /--proposal is signed by 0x\w+, which isn't a key of operator 1/,
    );
    good(reportOf("dead-key", "dead"), { ...refunded, "for you": usd("0"), next: [] });
    good(`${reportOf("dead-key", "dead")} --proposal $proposal`, {
      "back in the license's balance": usd("0"),
      "not refunded since it": "was refunded before",
      "for you": usd("5"),
      next: ["dispute:withdraw sends what was taken of stake"],
    });

    bad(reportOf("wrong-sum", "below"), /Nothing to report: .* all are counted: its entry isn't above their sum/);
    good(reportOf("wrong-sum", "above", "disputed-receipts.json"), {
      breach: /: inputTokens 1250000 against 1000000$/,
      charged: usd("1.25"),
      "back in the license's balance": usd("1.25"),
      "for the license's owner": usd("0.25"),
      "for you": usd("5"),
    });

    bad(reportOf("repetition", "repeated"), /Nothing to report: .* none stands in batch 0x\w+, too/);
    bad(
      `${reportOf("repetition", "repeated")} --other-batch $batch`,
      /Say --other-batch and --other-receipts together/,
    );
    it("… an hour later, a batch has a receipt once more", async () => {
      await bench.later(HOUR);
      const span = { sequence: 2n, epochStart: epochEnd, epochEnd: epochEnd + HOUR };
      const finishedAt = span.epochEnd - 1;
      const more = dollarReceipt(story, licenseOf("below"), { sequence: 2n, finishedAt, requestId: id("more") });
      facts.again = writeBatch(story, "again", [repeated, signed(story, more)], span).batchId;
    });
    good("batch:settle --file $folder/again.json", { charged: usd("2") });
    bad(
      `dispute:challenge --license $repeated ${LICENSEE}`,
      /Several batches have charged license \d+ .*: say --batch, one of 0x\w+ \(1\.0 TUSD .*; 0x/,
    );
    good("dispute:list --license $below", {}, (record) => {
      expect((record["can be challenged"] as Record[]).map(({ charged }) => charged)).to.deep.equal([
        usd("0.75"),
        usd("1"),
      ]);
    });
    const other = "--other-batch $again --other-receipts $folder/again-receipts.json";
    good(`${reportOf("repetition", "repeated")} ${other}`, { ...refunded, "for you": usd("0") });
    good(`${reportOf("repetition", "repeated")} ${other} --proposal $proposal`, {
      "for the license's owner": usd("0.2"),
      "for you": usd("5"),
    });

    // A report decides a challenge, too

    good(`dispute:challenge --license $below --batch $again ${LICENSEE}`, { status: "Open" }, ({ challenge }) => {
      facts.belowChallenge = String(challenge);
    });
    it("… whose receipt is contradicted", () => {
      const receipt = dollarReceipt(story, licenseOf("below"), { sequence: 2n, requestId: id("yet another") });
      file("contradicting-below.json", signedReceiptToJson(signed(story, { ...receipt, finishedAt: epochEnd })));
    });
    good(
      `report:contradiction --license $below --batch $again --receipts $folder/again-receipts.json --other $folder/contradicting-below.json ${OUTSIDER}`,
      { "back in the license's balance": usd("0"), "for you": usd("5") },
      ({ next }) => expect(next).to.include(`dispute:close --challenge ${facts.belowChallenge} refunds the charge`),
    );
    good("dispute:show --challenge $belowChallenge", {
      "anybody may": /^dispute:close --challenge \d+: the charge is refunded/,
    });
    good("dispute:close --challenge $belowChallenge", { status: "Upheld", "back in the license's balance": usd("1") });

    // What comes of silence, and whose the money is

    later("every turn", TURN + HOUR);
    good(`dispute:show ${silent}`, {
      "anybody may": /^dispute:close --challenge 2: the charge is refunded and the bond goes back$/,
    });
    good("dispute:list --operator 1", {}, ({ challenges }) => {
      expect((challenges as Record[]).map(({ status }) => status)).to.deep.equal([
        "Rejected",
        "Open",
        "Disputed",
        "Answered",
        "Upheld",
      ]);
      expect((challenges as Record[])[1]["this turn ends"]).to.equal("is over: dispute:close");
    });
    bad(
      `dispute:answer ${silent} --data ipfs://late ${OPERATOR}`,
      /The turn in challenge 2 ended 20\d\d-.*: `dispute:close` decides it/,
    );
    good(`dispute:close ${silent} ${OUTSIDER}`, {
      status: "Upheld",
      "back in the license's balance": usd("1"),
      charge: "Refunded",
    });
    bad(`dispute:close ${silent}`, /Challenge 2 is upheld: this can't be done with it now/);
    bad("dispute:close --challenge 99", /--challenge 99: no such challenge/);
    good(`dispute:close ${sign}`, { status: "Rejected", "the charge can be released from": /^20/ });
    it("… the ruling is final", async () => void (await (await arbitrator.executeRuling(0)).wait()));
    good(`dispute:show ${rule}`, { status: "Upheld", charge: "Refunded" });

    good(`dispute:withdraw ${LICENSEE}`, {
      to: addressOf(3),
      "from bonds": usd("15"),
      "from fees": { amount: "0.2", symbol: "ether", units: "200000000000000000" },
      "from slashes": usd("6.25"),
    });
    good(`dispute:withdraw --to ${addressOf(2)} ${OPERATOR}`, {
      to: addressOf(2),
      "from bonds": usd("10"),
      "from slashes": usd("0"),
    });
    good(`dispute:withdraw ${OUTSIDER}`, { "from slashes": usd("30") });
    bad(`dispute:withdraw ${OUTSIDER}`, /has nothing to withdraw: disputes and reports that are decided bring it/);
    bad(`dispute:withdraw --to me ${OPERATOR}`, /--to must be an address/);

    // A plan that names no arbitrator

    good(
      `plan:create --asset 1 --terms $folder/unruled-plan.json --license-text models/lic380k/LICENSE ${PUBLISHER}`,
      {},
      ({ plan }) => {
        facts.unruledPlan = String(plan);
      },
    );
    good(`operator:serve --operator 1 --plans $unruledPlan ${OPERATOR}`, {});
    good(`license:buy --plan $unruledPlan --operator 1 --fund 10 ${LICENSEE}`, {}, ({ license }) => {
      facts.unruled = String(license);
    });
    it("… charges, an hour later", async () => {
      await bench.later(HOUR + 60);
      const end = await bench.now();
      const unruled = { ...story, planId: Number(facts.unruledPlan) };
      const receipt = dollarReceipt(unruled, BigInt(facts.unruled), { finishedAt: end - 2 });
      writeBatch(unruled, "unruled", [signed(unruled, receipt)], {
        sequence: 1n,
        epochStart: end - HOUR,
        epochEnd: end - 1,
      });
    });
    good("batch:settle --file $folder/unruled.json", { charged: usd("1") });
    good(`dispute:challenge --license $unruled ${LICENSEE}`, { arbitrator: "none" }, ({ challenge }) => {
      facts.unruledChallenge = String(challenge);
    });
    good(`dispute:answer --challenge $unruledChallenge --data ipfs://data ${OPERATOR}`, {
      status: "Answered",
      "the challenger may": /^dispute:evidence/,
    });
    bad(
      `dispute:escalate --challenge $unruledChallenge ${LICENSEE}`,
      /names no arbitrator: the operator's answer stands/,
    );
    later("the hold", BATCH_HOLD);
    good("batch:release --batch $provenCharge", { charged: usd("1"), publisher: usd("0.3"), attestors: usd("0.02") });
    bad(
      `dispute:challenge --license $below ${LICENSEE}`,
      /Nothing that license \d+ was charged can be challenged any more/,
    );
    bad(
      `dispute:challenge --license $below --batch $disputed ${LICENSEE}`,
      /could be challenged until 20\d\d-.*: its hold is over/,
    );
  });

  describe("every task of ours", () => {
    const { tasksDSL } = HardhatContext.getHardhatContext();
    const ours = [...EXAMPLES.keys()];

    it("is one that Hardhat knows, and none of those with a noun is forgotten", () => {
      const named = Object.keys(tasksDSL.getTaskDefinitions()).filter((name) => /^[a-z]+:[a-z]+$/.test(name));
      const foreign = ["gas-reporter:merge", "hhgas:merge"];
      const withNoun = named.filter(
        (name) => !foreign.includes(name) && !tasksDSL.getTaskDefinition(undefined, name)!.isSubtask,
      );
      expect(ours).to.include.members(withNoun);
    });

    it("has a row with good input and one with bad", () => {
      const tested = ours.filter((name) => !RUN_ELSEWHERE.includes(name));
      expect(tested.filter((name) => !tried.bad.has(name))).to.deep.equal([]);
      expect(tested.filter((name) => !tried.good.has(name) && !ENDLESS.includes(name))).to.deep.equal([]);
    });

    it("that sends transactions was played as a dry run", () => {
      const tested = ours.filter((name) => !RUN_ELSEWHERE.includes(name) && !ENDLESS.includes(name));
      expect(tested.filter((name) => sends(name) && !tried.dry.has(name))).to.deep.equal([]);
    });

    for (const [name, example] of EXAMPLES) {
      it(`has an example that its own parameters allow: ${example}`, () => {
        const words = example.split(" ").slice(2);
        expect(words[0]).to.equal(name);
        const definition = tasksDSL.getTaskDefinition(undefined, name)!;
        const [, ...given] = words.filter((word, i) => word !== "--network" && words[i - 1] !== "--network");
        expect(() => new ArgumentsParser().parseTaskArguments(definition, given)).not.to.throw();
      });
    }
  });
});
