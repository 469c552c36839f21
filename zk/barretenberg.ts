/** The native prover that comes with `@aztec/bb.js`. It is a process of its own, so that nothing waits for it. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import type { Multiply } from "./setup/ceremony";
import { Problem } from "../oracle/problem";

const PLATFORMS: Record<string, string> = {
  "linux-x64": "amd64-linux",
  "linux-arm64": "arm64-linux",
  "darwin-x64": "amd64-macos",
  "darwin-arm64": "arm64-macos",
};
/** Of what it prints when it fails, the end. */
const SAID_LENGTH = 500;

/** The program's file. @throws Problem where there is none for this machine */
export function barretenbergPath(): string {
  const platform = `${process.platform}-${process.arch}`;
  const folder = PLATFORMS[platform];
  const [root] = require.resolve("@aztec/bb.js").split(`${path.sep}dest${path.sep}`);
  const file = path.join(root, "build", folder ?? "", "bb");
  if (folder !== undefined && existsSync(file)) return file;
  throw new Problem(`Proofs can't be made on ${platform}: bb comes for ${Object.keys(PLATFORMS).join(", ")}.`);
}

/**
 * @param onStart told the process's id
 * @returns what it printed
 * @throws Problem with what it printed, if it fails
 */
export function runBarretenberg(args: readonly string[], onStart: (pid: number) => void = () => {}): Promise<string> {
  const child = spawn(barretenbergPath(), args, { stdio: ["ignore", "pipe", "pipe"] });
  if (child.pid !== undefined) onStart(child.pid);
  let printed = "";
  let complained = "";
  child.stdout.on("data", (piece: Buffer) => (printed += piece.toString("utf8")));
  child.stderr.on("data", (piece: Buffer) => (complained += piece.toString("utf8")));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) return resolve(printed);
      const said = (complained + printed).trim().slice(-SAID_LENGTH);
      reject(new Problem(`bb ${args[0]} ended with ${signal ?? `code ${code}`}: ${said}`));
    });
  });
}

/** Multiplies points by the same program, about seven times as fast as JavaScript does. */
export async function nativeMultiply(): Promise<{ multiply: Multiply; close(): void }> {
  const { BackendType, BarretenbergSync } = await import("@aztec/bb.js");
  const api = await BarretenbergSync.new({ backend: BackendType.NativeSharedMemory, bbPath: barretenbergPath() });
  return {
    multiply: (bytes, scalar) => {
      const point = { x: bytes.subarray(0, 32), y: bytes.subarray(32) };
      const { x, y } = api.bn254G1Mul({ point, scalar }).point;
      return Buffer.concat([x, y]);
    },
    close: () => void api.destroy(),
  };
}
