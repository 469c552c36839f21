/** What the documents say that can be checked: their sections, commands, links, and what they name as code. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

const ROOT = path.join(__dirname, "../..");

export interface Section {
  heading: string;
  /** What links call it. */
  anchor: string;
  /** Command lines of its `sh` blocks. */
  commands: string[];
  /** Links of its line "Comes after …": what must have been done before. */
  after: string[];
}

export interface Page {
  /** Path from the project's root. */
  file: string;
  text: string;
  sections: Section[];
}

export function readPage(file: string): Page {
  const text = readFileSync(path.join(ROOT, file), "utf8");
  const sections = text.split(/^## /m).slice(1).map(sectionOf);
  return { file, text, sections };
}

function sectionOf(text: string): Section {
  const heading = text.slice(0, text.indexOf("\n"));
  const comesAfter = /^Comes after .*?^$/ms.exec(text)?.[0] ?? "";
  return { heading, anchor: anchorOf(heading), commands: commandsOf(text), after: linksOf(comesAfter) };
}

/** README, AGENTS and everything in docs/. */
export function allPages(): Page[] {
  const docs = readdirSync(path.join(ROOT, "docs"), { recursive: true, encoding: "utf8" });
  const pages = docs.filter((file) => file.endsWith(".md")).map((file) => path.join("docs", file));
  return ["README.md", "AGENTS.md", ...pages.sort()].map(readPage);
}

const commandsOf = (text: string): string[] =>
  [...text.matchAll(/^```sh\n(.*?)^```$/gms)]
    .flatMap(([, block]) => block.split("\n"))
    .filter((line) => line !== "" && !line.startsWith("#"));

/** Targets of links, but for those on other sites. */
export const linksOf = (text: string): string[] =>
  [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, target]) => target).filter((target) => !target.includes("://"));

/** The page and the section that a link on a page leads to. */
export function targetOf(page: Page, link: string): { file: string; anchor?: string } {
  const [file, anchor] = link.split("#");
  return { file: file === "" ? page.file : path.join(path.dirname(page.file), file), anchor };
}

/** What a page calls a heading in links. */
export const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\w\s-]/g, "")
    .replace(/\s/g, "-");

export const anchorsOf = ({ text }: Page): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading));

/** What a page says between backticks, in its text and as commands. */
export function codeOf({ text, sections }: Page): string[] {
  const prose = text.replace(/^```.*?^```$/gms, "");
  return [
    ...[...prose.matchAll(/`([^`]+)`/g)].map(([, code]) => code.replace(/\s+/g, " ")),
    ...sections.flatMap(({ commands }) => commands),
  ];
}

/**
 * The words of a command line, as a shell reads them.
 * @throws Error if it has anything that a shell would do more with
 */
export function wordsOf(command: string): string[] {
  const word = /\s*(?:"([^"$`\\]*)"|'([^']*)'|([\w@%+=:,./-]+))(?=\s|$)/y;
  const words: string[] = [];
  while (word.lastIndex < command.length) {
    const from = word.lastIndex;
    const match = word.exec(command);
    if (match === null) throw new Error(`Only plain and quoted words are run here; this isn't: ${command.slice(from)}`);
    words.push(match[1] ?? match[2] ?? match[3]);
  }
  return words;
}
