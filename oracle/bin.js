#!/usr/bin/env node
/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";
const path = require("node:path");

// As Hardhat does with its tasks: types are checked by `npm run check`, and not at each start.
require("ts-node").register({ transpileOnly: true, cwd: path.join(__dirname, "..") });
require("./cli")
  .main(process.argv.slice(2))
  .then((code) => {
    process.exitCode = code;
  });
