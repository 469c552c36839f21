import { expect } from "chai";
import { createLog } from "../../oracle/log";

describe("createLog", () => {
  let lines: string[];
  const written = () => lines.map((line) => JSON.parse(line));

  beforeEach(() => {
    lines = [];
  });

  it("writes an object a line, with bigints as decimal strings", () => {
    createLog("info", (line) => lines.push(line)).info("license read", { licenseId: 2n ** 60n });
    expect(written()[0]).to.include({ level: "info", message: "license read", licenseId: "1152921504606846976" });
    expect(written()[0].time).to.match(/^\d{4}-\d{2}-\d{2}T/);
  });

  it("leaves out what is below its level", () => {
    const log = createLog("warn", (line) => lines.push(line));
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
    expect(written().map(({ message }) => message)).to.deep.equal(["c", "d"]);
  });

  it("tells errors with their causes", () => {
    const error = new Error("outer", { cause: new TypeError("inner") });
    createLog("info", (line) => lines.push(line)).error("it broke", { error });
    expect(written()[0].error).to.deep.equal({
      name: "Error",
      message: "outer",
      cause: { name: "TypeError", message: "inner" },
    });
  });

  it("adds common fields to each line", () => {
    createLog("info", (line) => lines.push(line))
      .with({ part: "gateway" })
      .with({ port: 1 })
      .info("up");
    expect(written()[0]).to.include({ part: "gateway", port: 1 });
  });
});
