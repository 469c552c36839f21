/** The examples for operators: what of them can be tried without systemd and a container. */
import { expect } from "chai";
import { id } from "ethers";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { main } from "../../oracle/cli";
import { parseConfig } from "../../oracle/config";

const ROOT = path.join(__dirname, "../..");
const read = (file: string) => readFileSync(path.join(ROOT, "examples", file), "utf8");

const KEYS = {
  LICET_RPC_URL: "http://127.0.0.1:8545",
  LICET_SIGNING_KEY: id("signing"),
  LICET_SETTLER_KEY: id("settler"),
};

describe("the examples", function () {
  this.timeout(60_000);

  it("have a configuration that can be used", async () => {
    const said: string[] = [];
    const words = ["check", "--config", path.join(ROOT, "examples/oracle.json")];
    const note = (text: string) => void said.push(text);
    expect(await main(words, { out: note, err: note, environment: KEYS }), said.join("")).to.equal(0);
    expect(said.join(""))
      .to.match(/^gateway {5}on 127\.0\.0\.1, port 8080/m)
      .and.match(/^operations {2}on 127\.0\.0\.1/m);
  });

  it("have a unit that gives requests the time to end that the configuration does", () => {
    const unit = read("licet-oracle.service");
    const setting = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(unit)![1];
    const { gateway, dataFolder } = parseConfig(read("oracle.json"), KEYS);
    const CLIENTS_MS = 10_000;
    expect(Number(setting("TimeoutStopSec")) * 1_000).to.be.greaterThan(gateway!.stopTimeoutMs + CLIENTS_MS);
    expect(dataFolder).to.equal(`/var/lib/${setting("StateDirectory")}`);
    expect(setting("ExecStart")).to.equal("/usr/bin/node /opt/licet/oracle/bin.js all --config /etc/licet/oracle.json");
    for (const variable of Object.keys(KEYS)) expect(unit).to.contain(variable);
  });

  it("have a container file that copies all that the oracle needs", () => {
    const container = read("Containerfile");
    const folder = mkdtempSync(path.join(tmpdir(), "licet-container-"));
    try {
      for (const [, words] of container.matchAll(/^COPY (.*)$/gm)) {
        const names = words.split(" ");
        const to = names.pop()!;
        for (const name of names) {
          cpSync(path.join(ROOT, name), path.join(folder, to === "./" ? name : to), { recursive: true });
        }
      }
      symlinkSync(path.join(ROOT, "node_modules"), path.join(folder, "node_modules"));
      const words = ["oracle/bin.js", "check", "--config", path.join(ROOT, "examples/oracle.json")];
      const said = execFileSync(process.execPath, words, { cwd: folder, env: { PATH: process.env.PATH, ...KEYS } });
      expect(said.toString()).to.match(/^settler/m);
    } finally {
      rmSync(folder, { recursive: true });
    }
    const { operations } = parseConfig(read("oracle.json"), KEYS);
    expect(container).to.contain(`http://${operations!.host}:${operations!.port}/healthz`);
  });
});
