/**
 * The documents, as they are written: the commands of the pages for publishers, operators and licensees and of README, on a node
 * in a process of its own, and what all of them say that can be checked. A page goes from top to bottom on one chain; what
 * another page does before is in its lines "Comes after …".
 */
import { expect } from "chai";
import { HardhatContext } from "hardhat/internal/context";
import { existsSync, readFileSync } from "node:fs";
import { VoucherStatus } from "../../oracle/protocol/vouchers";
import { PLAN_FIELDS } from "../../tasks/plan/terms";
import * as factories from "../../typechain-types";
import { allPages, anchorsOf, codeOf, linksOf, readPage, targetOf, wordsOf, type Page } from "../support/pages";
import { TaskBench } from "../support/taskBench";

const PATHS = ["docs/publishers.md", "docs/operators.md", "docs/licensees.md"].map(readPage);
const README_COMMANDS = "Use it";
const NETWORK_AS_WRITTEN = ["--network", "localhost"];

describe("the documents", function () {
  this.timeout(120_000);

  const pages = allPages();

  describe("that are paths", () => {
    let bench: TaskBench;
    /** Sections whose commands were run on the chain as it is. */
    let done: Set<string>;
    /** The chain after the deployment, with which every page begins: it is made once. */
    let deployed: { by: string; snapshot: string } | undefined;

    before(async () => {
      bench = await TaskBench.start();
    });
    after(() => bench.close());

    /** Runs a page's commands from the top to the end of a section, but for those that were run. */
    async function goTo(page: Page, anchor: string): Promise<void> {
      const last = page.sections.findIndex((section) => section.anchor === anchor);
      expect(last, `${page.file} has no section #${anchor}`).to.be.at.least(0);
      for (const section of page.sections.slice(0, last + 1)) {
        const name = `${page.file}#${section.anchor}`;
        if (done.has(name)) continue;
        done.add(name);
        for (const link of section.after) {
          const target = targetOf(page, link);
          await goTo(
            PATHS.find(({ file }) => file === target.file)!,
            target.anchor!,
          );
        }
        for (const command of section.commands) await run(command);
      }
    }

    async function run(command: string): Promise<void> {
      const [npx, hardhat, task, ...words] = wordsOf(command);
      expect([npx, hardhat], command).to.deep.equal(["npx", "hardhat"]);
      expect(words.slice(0, 2), command).to.deep.equal(NETWORK_AS_WRITTEN);
      if (command === deployed?.by) await bench.provider.send("evm_revert", [deployed.snapshot]);
      else await runTask([task, ...words.slice(2)], command);
      if (task === "deploy") deployed = { by: command, snapshot: await bench.provider.send("evm_snapshot", []) };
    }

    async function runTask(words: string[], command: string): Promise<void> {
      const { exitCode, stderr, stdout } = await bench.run(words);
      expect({ exitCode, stderr }, command).to.deep.equal({ exitCode: 0, stderr: "" });
      expect(stdout, command).not.to.equal("");
    }

    for (const page of PATHS) {
      describe(page.file, () => {
        before(() => {
          done = new Set();
        });

        for (const { heading, anchor, commands } of page.sections.filter(({ commands }) => commands.length > 0)) {
          it(`${heading}: its ${commands.length} commands work`, () => goTo(page, anchor));
        }
      });
    }

    describe("README.md", () => {
      const { commands } = readPage("README.md").sections.find(({ heading }) => heading === README_COMMANDS)!;
      it(`${README_COMMANDS}: its ${commands.length} commands work`, async () => {
        expect(commands).not.to.deep.equal([]);
        for (const command of commands) await run(command);
      });
    });

    it("name every field of a plan, and no other", () => {
      const rows = PATHS[0].text.split("\n").filter((line) => line.startsWith("| `"));
      const named = rows.flatMap((row) => [...row.split("|")[1].matchAll(/`(\w+)`/g)].map(([, field]) => field));
      expect(named).to.have.members(PLAN_FIELDS);
    });
  });

  describe("name only what there is", () => {
    const { tasksDSL } = HardhatContext.getHardhatContext();
    const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: object };
    const fragments: readonly { type: string; name?: string }[] = Object.values(factories).flatMap((factory) =>
      "abi" in factory ? [...factory.abi] : [],
    );
    const errors = new Set(fragments.filter(({ type }) => type === "error").map(({ name }) => name));

    /** Parts of pages that are of a kind, with where they stand: what is wrong with them. */
    const wrong = (of: Page[], problemsOf: (page: Page) => (string | undefined)[]): string[] =>
      of.flatMap((page) =>
        problemsOf(page).flatMap((problem) => (problem === undefined ? [] : `${page.file}: ${problem}`)),
      );

    it("links to files and sections", () => {
      const problemOf = (page: Page, link: string) => {
        const { file, anchor } = targetOf(page, link);
        if (!existsSync(file)) return `${link} leads nowhere`;
        const isThere = anchor === undefined || anchorsOf(readPage(file)).includes(anchor);
        return isThere ? undefined : `${link} leads to no section`;
      };
      expect(pages.flatMap(({ text }) => linksOf(text))).to.have.length.above(10);
      expect(wrong(pages, (page) => linksOf(page.text).map((link) => problemOf(page, link)))).to.deep.equal([]);
    });

    it("tasks, with their parameters", () => {
      const problemOf = (code: string) => {
        const name = /^npx hardhat ([a-z:-]+)/.exec(code)?.[1] ?? /^([a-z]+:[a-z-]+)( --|$)/.exec(code)?.[1];
        if (name === undefined || name === "noun:verb") return undefined;
        const task = tasksDSL.getTaskDefinition(undefined, name);
        if (task === undefined) return `there is no task ${name}`;
        const given = [...code.matchAll(/ --([a-z-]+)/g)].map(([, flag]) =>
          flag.replace(/-(\w)/g, (_, c) => c.toUpperCase()),
        );
        const unknown = given.filter((flag) => flag !== "network" && !(flag in task.paramDefinitions));
        return unknown.length > 0 ? `${name} has no --${unknown.join(", --")}` : undefined;
      };
      expect(problemOf("npx hardhat license:sell --license 1")).to.equal("there is no task license:sell");
      expect(problemOf("license:buy --plans 1")).to.equal("license:buy has no --plans");
      expect(wrong(pages, (page) => codeOf(page).map(problemOf))).to.deep.equal([]);
    });

    it("scripts of package.json", () => {
      const problemOf = (code: string) => {
        const name = /^npm run ([\w:]+)/.exec(code)?.[1];
        return name === undefined || name in scripts ? undefined : `there is no script ${name}`;
      };
      expect(wrong(pages, (page) => codeOf(page).map(problemOf))).to.deep.equal([]);
    });

    it("errors of the contracts, and statuses of vouchers: every one of those", () => {
      const named = PATHS.flatMap((page) => codeOf(page).filter((code) => /^([A-Z][a-z]+){2,}$/.test(code)));
      expect(named).to.include("PlanNotServed");
      expect(named.filter((name) => !errors.has(name) && !(name in VoucherStatus))).to.deep.equal([]);
      expect(PATHS.flatMap(codeOf)).to.include.members(Object.keys(VoucherStatus));
    });
  });

  describe("quote gas as the snapshot has it", () => {
    const snapshot = JSON.parse(readFileSync("test/snapshots/gas.json", "utf8")) as GasRecord[];
    const textOf = (file: string) => readPage(file).text.replace(/\s+/g, " ");
    /** `{name}` is a figure of the snapshot, `{name.floor}` its floor. */
    const quoted = (sentence: string) =>
      sentence.replace(/\{([\w.]+?)(\.floor)?\}/g, (_all, name: string, floor?: string) => {
        const record = snapshot.find((one) => one.name === name)!;
        return (floor === undefined ? record.value : record.floor).toLocaleString("en");
      });

    const QUOTES: [string, string][] = [
      [
        "README.md",
        "of 200 licenses, attested use settles for {settle.attested.200} a license, everything included, and vouchers for " +
          "{settle.voucher.200}; buying takes {license.buy}, a deposit {escrow.deposit}, a release {batch.release}.",
      ],
    ];
    for (const [file, sentence] of QUOTES) {
      it(`in ${file}`, () => expect(textOf(file)).to.include(quoted(sentence)));
    }
  });
});

interface GasRecord {
  name: string;
  value: number;
  floor: number;
}
