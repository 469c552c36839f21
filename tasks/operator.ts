import { types } from "hardhat/config";
import { dateOf, eventOf, licetTask, parsePeriod, type Session, type TaskRecord } from "./support";

export interface RegisterOperator {
  /** Base URL of its gateway. */
  endpoint: string;
  metadata: string;
  /** Address of the key that will sign its receipts. */
  key: string;
  keyValid: string;
  /** Ids of the models that it serves, with commas between them. */
  models: string;
}

/** Registers the signer as an operator, with a signing key and the models that it serves. */
export async function registerOperator(
  session: Session,
  args: RegisterOperator,
): Promise<TaskRecord & { operator: number }> {
  const { operators } = session.licet;
  const { operatorId } = await eventOf(await operators.register(args.endpoint, args.metadata), "OperatorRegistered");
  const { timestamp } = (await session.hre.ethers.provider.getBlock("latest"))!;
  const expiresAt = timestamp + parsePeriod(args.keyValid, "--key-valid");
  await (await operators.addKey(operatorId, args.key, expiresAt)).wait();
  const models = args.models.split(",").map(Number);
  for (const assetId of models) await (await operators.setServed(operatorId, assetId, true)).wait();
  return {
    operator: Number(operatorId),
    owner: session.signer.address,
    endpoint: args.endpoint,
    "signing key": args.key,
    "key expires": dateOf(expiresAt),
    models,
  };
}

licetTask("operator:register", "Registers you as an operator", registerOperator)
  .addParam("endpoint", "Base URL of your gateway")
  .addOptionalParam("metadata", "Where your description is", "")
  .addParam("key", "Address of the key that will sign your receipts")
  .addOptionalParam("keyValid", "How long the key is valid, such as 90d", "90d", types.string)
  .addParam("models", "Ids of the models that you serve, with commas between them");
