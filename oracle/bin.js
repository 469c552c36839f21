#!/usr/bin/env node
/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";

require("./loadTypeScript");
require("./cli")
  .main(process.argv.slice(2))
  .then((code) => {
    process.exitCode = code;
  });
