/** From canaries to the service level that a batch states. Pure: what attestors compute apart, they compute alike. */
import { isWithin } from "../protocol/epochs";
import type { BatchHeader, Epoch, Lane, Measurement } from "../protocol/types";
import type { CanarySample } from "../store/canaryBooks";

/** The measured fields of a batch's header. */
export type ServiceLevel = Pick<BatchHeader, "availabilityBps" | "p95TtftMs" | "samples">;

/** Fewer samples say nothing: no discount rests on them. */
const MIN_SAMPLES = 20;

/** The time from which samples may count for an epoch: its own, or the longest epoch's that ends with it. */
export function sampledTime({ epochStart, epochEnd }: Epoch, longestEpoch: number): Epoch {
  return { epochStart: Math.min(epochStart, epochEnd - longestEpoch), epochEnd };
}

/**
 * What the samples of one lane say about an epoch, the oldest first. Where the epoch has fewer than MIN_SAMPLES of its
 * own, as many of the latest count that were taken within `longestEpoch` seconds before its end: an operator would
 * otherwise escape all discounts by short epochs.
 */
export function measure(lane: Lane, epoch: Epoch, samples: readonly CanarySample[], longestEpoch: number): Measurement {
  const counted = samplesOf(epoch, samples, longestEpoch);
  const answered = counted.filter((sample) => sample.ok);
  return {
    operatorId: lane.operatorId,
    planId: lane.planId,
    versionId: lane.versionId,
    epochStart: epoch.epochStart,
    epochEnd: epoch.epochEnd,
    availabilityBps: counted.length === 0 ? 0 : Math.floor((answered.length * 10_000) / counted.length),
    p95TtftMs: p95(answered.map(({ ttftMs }) => ttftMs).filter((ttftMs) => ttftMs > 0)),
    samples: counted.length,
  };
}

function samplesOf(epoch: Epoch, samples: readonly CanarySample[], longestEpoch: number): CanarySample[] {
  const within = (span: Epoch) => samples.filter(({ at }) => isWithin(span, at));
  const own = within(epoch);
  return own.length >= MIN_SAMPLES ? own : within(sampledTime(epoch, longestEpoch)).slice(-MIN_SAMPLES);
}

/** The nearest-rank 95th percentile: the smallest value that at least 95 % of all don't exceed. 0 of none. */
export function p95(values: readonly number[]): number {
  if (values.length === 0) return 0;
  const rank = Math.ceil((values.length * 95) / 100);
  return ascending(values)[rank - 1];
}

/**
 * The median of each measured field. Of an even number, the middle one that is less favourable to the operator counts.
 * @throws RangeError if there is no measurement
 */
export function medianOf(measurements: readonly ServiceLevel[]): ServiceLevel {
  if (measurements.length === 0) throw new RangeError("The median of no measurements isn't defined");
  return {
    availabilityBps: lowerMedian(measurements.map((measurement) => measurement.availabilityBps)),
    p95TtftMs: upperMedian(measurements.map((measurement) => measurement.p95TtftMs)),
    samples: lowerMedian(measurements.map((measurement) => measurement.samples)),
  };
}

function lowerMedian(values: number[]): number {
  return ascending(values)[Math.floor((values.length - 1) / 2)];
}

function upperMedian(values: number[]): number {
  return ascending(values)[Math.floor(values.length / 2)];
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
