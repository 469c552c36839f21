import type { Epoch } from "./types";

/** The epoch of a moment, where epochs are of `length` seconds and counted from 1970 on. */
export function epochAt(time: number, length: number): Epoch {
  const epochStart = time - (time % length);
  return { epochStart, epochEnd: epochStart + length };
}

export function isWithin({ epochStart, epochEnd }: Epoch, time: number): boolean {
  return epochStart <= time && time < epochEnd;
}
