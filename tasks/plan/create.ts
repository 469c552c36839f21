import { keccak256 } from "ethers";
import { readFileSync } from "node:fs";
import type { PlanTermsStruct } from "../../typechain-types/contracts/LicenseRegistry";
import {
  address,
  assetId,
  eventOf,
  optional,
  readJson,
  send,
  sendingTask,
  text,
  type Session,
  type TaskRecord,
} from "../support";
import { describeTerms } from "./show";
import { planTermsOf } from "./terms";

/** What a plan's terms are made of. */
export interface TermsArguments {
  asset: number;
  /** A JSON file of the terms, as people write them. */
  terms: string;
  /** The license text that people read. */
  licenseText: string;
  /** The attestor that vouches for batches; the deployment's committee if it isn't named. */
  attestor?: string;
}

export const termsFrom = ({ money, book }: Session, args: TermsArguments): PlanTermsStruct =>
  planTermsOf(readJson(args.terms, "--terms"), money, {
    assetId: args.asset,
    attestor: args.attestor ?? book.contracts.CommitteeAttestor,
    licenseTextHash: keccak256(readFileSync(args.licenseText)),
  });

/** Offers licenses of a model on the terms of a file. */
export async function createPlan(session: Session, args: TermsArguments): Promise<TaskRecord & { plan: number }> {
  const { licenses } = session.licet;
  const { planId } = eventOf(await send(licenses.createPlan, termsFrom(session, args)), "PlanCreated");
  return { plan: Number(planId), ...describeTerms(await licenses.termsOf(planId), session.money) };
}

export const TERMS_PARAMETERS = {
  asset: assetId(),
  terms: text("A JSON file of the terms, such as models/lic380k-plan.json"),
  licenseText: text("The file of the license text that people read"),
  attestor: optional(address("Address of the attestor (default: the deployment's committee)")),
};

sendingTask("plan:create", {
  about: "Offers licenses of your model",
  example: "--asset 1 --terms models/lic380k-plan.json --license-text models/lic380k/LICENSE",
  parameters: TERMS_PARAMETERS,
  act: createPlan,
});
