import { task } from "hardhat/config";
import { addExample } from "./support";

task("demo", "Plays the whole story on a chain in memory, with real inference, and checks what it shows").setAction(
  async (_args, hre) => {
    await hre.run("compile", { quiet: true });
    // It needs a running Hardhat, as tests do, so it can't be loaded together with the configuration.
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    const { play } = require("./demo/play") as typeof import("./demo/play");
    if (!(await play(hre))) process.exitCode = 1;
  },
);

addExample("demo");
