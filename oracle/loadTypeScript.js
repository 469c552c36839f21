/* eslint-disable @typescript-eslint/no-require-imports -- what loads TypeScript can't be TypeScript */
"use strict";
const { createHash, randomUUID } = require("node:crypto");
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const Module = require("node:module");
const path = require("node:path");

// Has this thread's Node load TypeScript; types are checked by `npm run check`, and not at each start. What a file becomes is kept, by
// what it says, so that the compiler, which takes 90 MB and most of a start's time in each thread, is loaded after changes alone.

const ROOT = path.join(__dirname, "..");
const CACHE = path.join(ROOT, "node_modules", ".cache", "licet");
const SETTINGS = readFileSync(path.join(ROOT, "tsconfig.json"), "utf8");
const COMPILER = readFileSync(require.resolve("typescript/package.json"), "utf8");
const SELF = readFileSync(__filename, "utf8");

Module._extensions[".ts"] = (module, file) => {
  const source = readFileSync(file, "utf8");
  // Its source map has the file's name, without a folder.
  const hash = createHash("sha256")
    .update([SELF, COMPILER, SETTINGS, path.basename(file), source].join("\0"))
    .digest("hex");
  const kept = path.join(CACHE, `${hash}.js`);
  module._compile(read(kept) ?? write(kept, javaScriptOf(file, source)), file);
};
process.setSourceMapsEnabled(true);

function javaScriptOf(fileName, source) {
  const { parseConfigFileTextToJson, transpileModule } = require("typescript");
  const { compilerOptions } = parseConfigFileTextToJson("tsconfig.json", SETTINGS).config;
  return transpileModule(source, { fileName, compilerOptions: { ...compilerOptions, inlineSourceMap: true } })
    .outputText;
}

function read(kept) {
  try {
    return readFileSync(kept, "utf8") || undefined;
  } catch {
    return undefined;
  }
}

/** Whole or not at all, as others read it. Where nothing can be written, each start is as slow as the first. */
function write(kept, text) {
  const unfinished = `${kept}.${randomUUID()}`;
  try {
    mkdirSync(CACHE, { recursive: true });
    writeFileSync(unfinished, text, { flush: true });
    renameSync(unfinished, kept);
  } catch {
    // It is loaded all the same.
  }
  return text;
}
