import type { Epoch, Finding } from "../protocol/types";
import type { Lease } from "../store/leases";
import type { DeviceRegistry } from "./devices";
import type { Seed, SeedBook } from "./seeds";

/** All that an attestor must not forget of operators' evidence. */
export interface EvidenceBooks extends SeedBook, DeviceRegistry {
  /**
   * Notes a seed before it goes out, and forgets what was issued before `forgetBefore` (Unix seconds). False, and nothing is
   * noted, where `most` of its signer's wait for their answers.
   */
  issue(seed: Seed, forgetBefore: number, most: number): Promise<boolean>;
  /** Notes, before it is signed, what was found. @param lease under which it is: throws TurnLost if another has that */
  recordFinding(finding: Finding, lease?: Lease): Promise<void>;
  /** What was found of an operator that stands at some time of the span, the latest first. */
  findings(operatorId: number, span: Epoch): Promise<Finding[]>;
}
