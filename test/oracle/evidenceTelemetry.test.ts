import { expect } from "chai";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readTelemetry } from "../../oracle/evidence/telemetry";
import { NOW } from "../support/evidence";

describe("readTelemetry", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "licet-telemetry-"));
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  /** A program in nvidia-smi's place. */
  const program = (script: string) => {
    const path = join(folder, "nvidia-smi");
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const read = (script: string, timeoutMs?: number) => readTelemetry(NOW, { command: program(script), timeoutMs });

  it("reads what the driver says of each GPU, and calls it unsigned", async () => {
    const telemetry = await read(
      `[ "$2" = "--format=csv,noheader,nounits" ] || exit 1
      [ "$1" = "--query-gpu=name,uuid,driver_version,vbios_version,memory.total,memory.used,utilization.gpu,temperature.gpu,power.draw" ] || exit 1
      echo "NVIDIA H100 80GB HBM3, GPU-1, 550.90.07, 96.00.9F.00.01, 81559, 4, 0, 31, 69.51"
      echo "NVIDIA H100 80GB HBM3, GPU-2, 550.90.07, [N/A], 81559, 4, [Not Supported], N/A, 70"`,
    );
    const gpu = {
      name: "NVIDIA H100 80GB HBM3",
      uuid: "GPU-1",
      driverVersion: "550.90.07",
      vbiosVersion: "96.00.9F.00.01",
      memoryTotalMiB: 81_559,
      memoryUsedMiB: 4,
      utilizationPercent: 0,
      temperatureCelsius: 31,
      powerWatts: 69.51,
    };
    const other = {
      ...gpu,
      uuid: "GPU-2",
      vbiosVersion: null,
      utilizationPercent: null,
      temperatureCelsius: null,
      powerWatts: 70,
    };
    expect(telemetry).to.deep.equal({ signed: false, source: "nvidia-smi", takenAt: NOW, gpus: [gpu, other] });
  });

  it("says why there is nothing, where there is no such program, no GPU, no answer, or another", async () => {
    expect(await readTelemetry(NOW, { command: join(folder, "nothing") }))
      .to.have.property("missing")
      .that.matches(/can't be asked: .*ENOENT/);
    expect(await read("exit 0"))
      .to.have.property("missing")
      .that.matches(/lists no GPU/);
    expect(await read("echo broken >&2; exit 9"))
      .to.have.property("missing")
      .that.matches(/can't be asked/);
    expect(await read("echo one, two"))
      .to.have.property("missing")
      .that.matches(/answered 2 values a GPU where 9 were asked/);
    expect(await read("exec sleep 20", 100))
      .to.have.property("missing")
      .that.matches(/can't be asked/);
  });

  it("asks this machine's own driver, if it has one", async () => {
    const telemetry = await readTelemetry(NOW);
    if ("missing" in telemetry) expect(telemetry.missing).to.match(/nvidia-smi/);
    else expect(telemetry.gpus[0].uuid).to.match(/^GPU-/);
  });
});
