/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";

// A thread that proves a receipt: see `receiptProver.ts`.
require("../loadTypeScript");
require("./proveReceipt").serveProof();
