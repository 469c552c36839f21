import { keccak256 } from "ethers";
import { readFileSync } from "node:fs";
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

export interface CreatePlan {
  asset: number;
  /** A JSON file of the terms, as people write them. */
  terms: string;
  /** The license text that people read. */
  licenseText: string;
  /** The attestor that vouches for batches; the deployment's committee if it isn't named. */
  attestor?: string;
}

/** Offers licenses of a model on the terms of a file. */
export async function createPlan(session: Session, args: CreatePlan): Promise<TaskRecord & { plan: number }> {
  const { licenses } = session.licet;
  const terms = planTermsOf(readJson(args.terms, "--terms"), session.money, {
    assetId: args.asset,
    attestor: args.attestor ?? session.book.contracts.CommitteeAttestor,
    licenseTextHash: keccak256(readFileSync(args.licenseText)),
  });
  const { planId } = eventOf(await send(licenses.createPlan, terms), "PlanCreated");
  return { plan: Number(planId), ...describeTerms(await licenses.termsOf(planId), session.money) };
}

sendingTask("plan:create", {
  about: "Offers licenses of your model",
  example: "--asset 1 --terms models/lic380k-plan.json --license-text models/lic380k/LICENSE",
  parameters: {
    asset: assetId(),
    terms: text("A JSON file of the terms, such as models/lic380k-plan.json"),
    licenseText: text("The file of the license text that people read"),
    attestor: optional(address("Address of the attestor (default: the deployment's committee)")),
  },
  act: createPlan,
});
