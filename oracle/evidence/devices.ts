/** Who shows which device. A store may implement it; attestors that compare theirs see more than each alone. */
export interface DeviceRegistry {
  /**
   * Notes that an operator shows these devices until then. All or none: where another operator holds one of them at `at`, nothing
   * is noted, and those are returned.
   * @param at Unix seconds, as is `until`
   */
  claim(devices: readonly string[], operatorId: number, at: number, until: number): Promise<HeldDevice[]>;
}

export interface HeldDevice {
  device: string;
  operatorId: number;
  until: number;
}

/** Keeps claims in memory. A device is free again when its holder's evidence has run out, so that hardware may be sold. */
export class MemoryDevices implements DeviceRegistry {
  private readonly held = new Map<string, HeldDevice>();

  async claim(devices: readonly string[], operatorId: number, at: number, until: number): Promise<HeldDevice[]> {
    const conflicts = devices.flatMap((device) => {
      const holder = this.held.get(device);
      return holder !== undefined && holder.operatorId !== operatorId && holder.until >= at ? [{ ...holder }] : [];
    });
    if (conflicts.length > 0) return conflicts;
    for (const device of devices) this.held.set(device, { device, operatorId, until });
    return [];
  }
}
