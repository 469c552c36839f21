import type { Lane } from "./types";

export function isSameLane(one: Lane, other: Lane): boolean {
  return one.operatorId === other.operatorId && one.planId === other.planId && one.versionId === other.versionId;
}
