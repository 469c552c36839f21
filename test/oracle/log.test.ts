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

  it("tells an error without words by its code, or by what it is made of", () => {
    const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    const log = createLog("info", (line) => lines.push(line));
    log.warn("down", { cause: new AggregateError([refused]) });
    log.warn("down", { cause: Object.assign(new Error(), { code: "ENOENT" }) });
    expect(written().map(({ cause }) => cause.message)).to.deep.equal(["connect ECONNREFUSED", "ENOENT"]);
  });

  it("writes a line even where a field can't be written", () => {
    const circle: { itself?: object } = {};
    circle.itself = circle;
    createLog("info", (line) => lines.push(line)).warn("odd", { circle });
    expect(written()[0]).to.include({ level: "warn", message: "odd" });
    expect(written()[0].unwritable).to.contain("circular");
  });

  it("lets no field take the place of the time, the level or the message", () => {
    createLog("info", (line) => lines.push(line))
      .with({ level: "shrill" })
      .warn("it broke", { message: "values", time: 5 });
    expect(written()[0]).to.include({
      level: "warn",
      message: "it broke",
      message_: "values",
      level_: "shrill",
      time_: 5,
    });
    expect(written()[0].time).to.match(/^\d{4}-/);
  });

  it("adds common fields to each line", () => {
    createLog("info", (line) => lines.push(line))
      .with({ part: "gateway" })
      .with({ port: 1 })
      .info("up");
    expect(written()[0]).to.include({ part: "gateway", port: 1 });
  });
});
