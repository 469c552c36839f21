/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";
const path = require("node:path");

// A thread of the benchmark: see `threadJobs.ts`.
require("ts-node").register({ transpileOnly: true, cwd: path.join(__dirname, "..", "..", "..") });
require("./threadJobs").serveJobs();
