import { types } from "hardhat/config";
import { dateOf, eventOf, licetTask, parsePeriod, UserError, type Session, type TaskRecord } from "./support";

export interface RegisterOperator {
  /** Base URL of its gateway. */
  endpoint: string;
  metadata: string;
  /** Address of the key that will sign its receipts. */
  key: string;
  keyValid: string;
  /** Ids of the plans that it serves, with commas between them. */
  plans: string;
}

/** Registers the signer as an operator, with a signing key and the plans that it serves. */
export async function registerOperator(
  session: Session,
  args: RegisterOperator,
): Promise<TaskRecord & { operator: number }> {
  const { licenses, operators } = session.licet;
  const plans = idsOf(args.plans, "--plans");
  for (const planId of plans) await licenses.termsOf(planId);
  const { operatorId } = await eventOf(await operators.register(args.endpoint, args.metadata), "OperatorRegistered");
  const { timestamp } = (await session.hre.ethers.provider.getBlock("latest"))!;
  const expiresAt = timestamp + parsePeriod(args.keyValid, "--key-valid");
  await (await operators.addKey(operatorId, args.key, expiresAt)).wait();
  for (const planId of plans) await (await operators.setServed(operatorId, planId, true)).wait();
  return {
    operator: Number(operatorId),
    owner: session.signer.address,
    endpoint: args.endpoint,
    "signing key": args.key,
    "key expires": dateOf(expiresAt),
    plans,
  };
}

/** @throws UserError unless `text` is whole numbers with commas between them */
function idsOf(text: string, name: string): number[] {
  const ids = text.split(",").map(Number);
  if (ids.every((id) => Number.isInteger(id) && id > 0)) return ids;
  throw new UserError(`${name} must be ids such as 1 or 1,2; it is "${text}".`);
}

licetTask("operator:register", "Registers you as an operator", registerOperator)
  .addParam("endpoint", "Base URL of your gateway")
  .addOptionalParam("metadata", "Where your description is", "")
  .addParam("key", "Address of the key that will sign your receipts")
  .addOptionalParam("keyValid", "How long the key is valid, such as 90d", "90d", types.string)
  .addParam("plans", "Ids of the plans that you serve, whose terms you accept, with commas between them");
