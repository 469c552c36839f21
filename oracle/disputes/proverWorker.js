/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";
const path = require("node:path");

// A thread that proves a receipt: see `receiptProver.ts`.
require("ts-node").register({ transpileOnly: true, cwd: path.join(__dirname, "..", "..") });
require("./proveReceipt").serveProof();
