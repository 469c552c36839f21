/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";

// A thread of the benchmark: see `threadJobs.ts`.
require("../../../oracle/loadTypeScript");
require("./threadJobs").serveJobs();
