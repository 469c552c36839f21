import type { Lane } from "../protocol/types";
import type { Row, SqlValue } from "./database";

export function laneValues({ operatorId, planId, versionId }: Lane): SqlValue[] {
  return [operatorId, planId, versionId];
}

export function laneOf(row: Row): Lane {
  return {
    operatorId: Number(row.operator_id),
    planId: Number(row.plan_id),
    versionId: row.version_id as bigint,
  };
}
