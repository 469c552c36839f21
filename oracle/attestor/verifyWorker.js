/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";

// A thread that checks receipts' signatures: see `receiptVerifier.ts`.
require("../loadTypeScript");
require("./verifyRecords").serveVerifier();
