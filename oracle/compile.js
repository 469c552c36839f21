/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";

// Compiles what the oracle and its threads load, for whom they run as can't keep it: see `loadTypeScript.js`.
require("./loadTypeScript");
for (const file of ["./cli", "./attestor/verifyRecords", "./disputes/proveReceipt"]) require(file);
