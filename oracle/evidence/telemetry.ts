import { execFile } from "node:child_process";
import { reasonOf } from "../problem";

/**
 * What this machine's driver says of its GPUs. Nobody signed it: whoever runs the machine can make it say anything, so it is
 * kept beside evidence and never counts as any.
 */
export interface Telemetry {
  signed: false;
  source: "nvidia-smi";
  /** Unix seconds. */
  takenAt: number;
  gpus: GpuTelemetry[];
}

/** What the driver doesn't know is null. */
export interface GpuTelemetry {
  name: string | null;
  uuid: string | null;
  driverVersion: string | null;
  vbiosVersion: string | null;
  memoryTotalMiB: number | null;
  memoryUsedMiB: number | null;
  utilizationPercent: number | null;
  temperatureCelsius: number | null;
  powerWatts: number | null;
}

const TEXTS = { name: "name", uuid: "uuid", driverVersion: "driver_version", vbiosVersion: "vbios_version" } as const;
const NUMBERS = {
  memoryTotalMiB: "memory.total",
  memoryUsedMiB: "memory.used",
  utilizationPercent: "utilization.gpu",
  temperatureCelsius: "temperature.gpu",
  powerWatts: "power.draw",
} as const;
const QUERY = [...Object.values(TEXTS), ...Object.values(NUMBERS)];

/**
 * Asks nvidia-smi, without a shell, for at most `timeoutMs`.
 * @returns why there is nothing, where there is no such program or no GPU; it never throws
 */
export async function readTelemetry(
  takenAt: number,
  { command = "nvidia-smi", timeoutMs = 5_000 }: { command?: string; timeoutMs?: number } = {},
): Promise<Telemetry | { missing: string }> {
  try {
    const output = await outputOf(
      command,
      [`--query-gpu=${QUERY.join(",")}`, "--format=csv,noheader,nounits"],
      timeoutMs,
    );
    const gpus = output
      .split("\n")
      .filter((line) => line.trim() !== "")
      .map(gpuOf);
    return gpus.length === 0
      ? { missing: `${command} lists no GPU` }
      : { signed: false, source: "nvidia-smi", takenAt, gpus };
  } catch (cause) {
    return { missing: `${command} can't be asked: ${reasonOf(cause)}` };
  }
}

function gpuOf(line: string): GpuTelemetry {
  const values = line.split(",").map((value) => value.trim());
  if (values.length !== QUERY.length) {
    throw new Error(`it answered ${values.length} values a GPU where ${QUERY.length} were asked`);
  }
  const valueOf = (field: string) => values[(QUERY as string[]).indexOf(field)];
  const text = (field: string) => (/^\[?N\/A\]?$|^\[.*\]$/.test(valueOf(field)) ? null : valueOf(field));
  const number = (field: string) => (/^\d+(\.\d+)?$/.test(valueOf(field)) ? Number(valueOf(field)) : null);
  return {
    ...mapped(TEXTS, text),
    ...mapped(NUMBERS, number),
  };
}

function mapped<Name extends string, Value>(
  fields: Record<Name, string>,
  read: (field: string) => Value,
): Record<Name, Value> {
  return Object.fromEntries(Object.entries<string>(fields).map(([name, field]) => [name, read(field)])) as Record<
    Name,
    Value
  >;
}

function outputOf(command: string, words: string[], timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, words, { timeout: timeoutMs, maxBuffer: 1 << 20, encoding: "utf8" }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
}
