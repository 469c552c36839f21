import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import { readEach } from "../oracle/chain/parallel";
import {
  address,
  bytes32,
  dateOf,
  eventOf,
  flag,
  listOf,
  operatorId,
  optional,
  period,
  planId,
  readingTask,
  requireOne,
  send,
  sendingTask,
  text,
  timeOf,
  type Amount,
  type Session,
  type TaskRecord,
} from "./support";

export interface RegisterOperator {
  /** Base URL of its gateway. */
  endpoint: string;
  metadata: string;
  /** Address of the key that will sign its receipts. */
  key: string;
  /** How long it is valid, in seconds. */
  keyValid: number;
  /** Ids of the plans that it serves. */
  plans: number[];
}

/** Registers the signer as an operator, with a signing key and the plans that it serves. */
export async function registerOperator(
  session: Session,
  args: RegisterOperator,
): Promise<TaskRecord & { operator: number }> {
  const { licenses, operators } = session.licet;
  for (const planId of args.plans) await licenses.termsOf(planId);
  const { operatorId } = eventOf(await send(operators.register, args.endpoint, args.metadata), "OperatorRegistered");
  const expiresAt = (await timeOf(session.hre)) + args.keyValid;
  await send(operators.addKey, operatorId, args.key, expiresAt);
  for (const planId of args.plans) await send(operators.setServed, operatorId, planId, true);
  return {
    operator: Number(operatorId),
    owner: session.signer.address,
    endpoint: args.endpoint,
    "signing key": args.key,
    "key expires": dateOf(expiresAt),
    plans: args.plans,
  };
}

/** An operator: where it serves, which plans, and with which keys. */
export async function showOperator({ licet, money, book }: Session, args: { operator: number }): Promise<TaskRecord> {
  const { operators, staking } = licet;
  const { operator } = args;
  const { owner, endpoint, metadataUri, evidenceHash } = await operators.operatorOf(operator);
  const [status, added, served, active] = await Promise.all([
    staking.statusOf(operator, AS_OF_NOW),
    operators.queryFilter(operators.filters.SigningKeyAdded(operator), book.block),
    operators.queryFilter(operators.filters.PlanServed(operator), book.block),
    staking.activeStakeOf(operator),
  ]);
  const plans = [...new Set(served.map(({ args }) => args.planId))];
  const stillServed = await readEach(plans, (plan) => operators.serves(operator, plan));
  return {
    operator,
    status: statusName("OperatorStatus", status),
    owner,
    endpoint,
    metadata: metadataUri || "none",
    evidence: evidenceHash,
    "active stake": money.of(active),
    plans: plans.filter((_, i) => stillServed[i]),
    keys: await readEach(added, ({ args: { key } }) => describeKey(licet, operator, key)),
  };
}

async function describeKey({ operators }: Session["licet"], operator: number, key: string) {
  const [{ expiresAt, revokedAt }, status] = await Promise.all([
    operators.keyOf(operator, key),
    operators.statusOf(operator, key, AS_OF_NOW),
  ]);
  return {
    key,
    status: statusName("KeyStatus", status),
    expires: dateOf(expiresAt),
    ...(revokedAt === 0n ? {} : { revoked: dateOf(revokedAt) }),
  };
}

export interface ChangeKeys {
  operator: number;
  /** A key that may sign from now on. */
  add?: string;
  /** How long it is valid, in seconds. */
  valid: number;
  /** A key of which everything that isn't settled is void from now on. */
  revoke?: string;
}

/** Adds a signing key to the signer's operator, or revokes one. */
export async function changeKeys(session: Session, { operator, add, valid, revoke }: ChangeKeys): Promise<TaskRecord> {
  const { operators } = session.licet;
  requireOne({ "--add": add, "--revoke": revoke });
  if (revoke !== undefined) {
    await send(operators.revokeKey, operator, revoke);
    return { operator, revoked: revoke, "void from now on": "everything that it signed and that isn't settled" };
  }
  const expiresAt = (await timeOf(session.hre)) + valid;
  await send(operators.addKey, operator, add!, expiresAt);
  return { operator, added: add, expires: dateOf(expiresAt) };
}

export interface ServePlans {
  operator: number;
  plans: number[];
  /** Serve them no longer: licenses that chose the operator run on. */
  stop?: boolean;
}

/** Says which plans the signer's operator serves, or no longer. */
export async function servePlans({ licet }: Session, { operator, plans, stop }: ServePlans): Promise<TaskRecord> {
  const { licenses, operators } = licet;
  for (const planId of plans) await licenses.termsOf(planId);
  for (const planId of plans) await send(operators.setServed, operator, planId, stop !== true);
  return { operator, [stop === true ? "serves no longer" : "serves"]: plans };
}

export interface DescribeOperator {
  operator: number;
  endpoint?: string;
  metadata?: string;
  /** keccak256 of the evidence about its hardware. */
  evidence?: string;
}

/** Replaces what the signer's operator says of itself; what isn't named stays. */
export async function describeOperator({ licet }: Session, args: DescribeOperator): Promise<TaskRecord> {
  const { operators } = licet;
  const { operator } = args;
  const { endpoint, metadataUri, evidenceHash } = await operators.operatorOf(operator);
  const said = {
    endpoint: args.endpoint ?? endpoint,
    metadata: args.metadata ?? metadataUri,
    evidence: args.evidence ?? evidenceHash,
  };
  await send(operators.describe, operator, said.endpoint, said.metadata, said.evidence);
  return { operator, ...said };
}

/** Sends what an operator's pool has earned to it. */
export async function payPool(
  { licet, money }: Session,
  { operator }: { operator: number },
): Promise<TaskRecord & { added: Amount }> {
  const { amount } = eventOf(await send(licet.escrow.payPool, operator), "PoolPaid");
  return { operator, added: money.of(amount) };
}

sendingTask("operator:register", {
  about: "Registers you as an operator",
  example: "--endpoint https://gateway.example --key 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --plans 1",
  parameters: {
    endpoint: text("Base URL of your gateway"),
    metadata: optional(text("Where your description is"), ""),
    key: address("Address of the key that will sign your receipts"),
    keyValid: optional(period("How long the key is valid"), "90d"),
    plans: listOf(planId("Ids of the plans that you serve, whose terms you accept, with commas between them")),
  },
  act: registerOperator,
});

readingTask("operator:show", {
  about: "Shows an operator, the plans that it serves and its keys",
  example: "--operator 1",
  parameters: { operator: operatorId() },
  act: showOperator,
});

sendingTask("operator:key", {
  about: "Adds a signing key to your operator, or revokes one",
  example: "--operator 1 --add 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --valid 90d",
  parameters: {
    operator: operatorId(),
    add: optional(address("Address of a key that may sign your receipts from now on")),
    valid: optional(period("How long it is valid"), "90d"),
    revoke: optional(address("Address of a key that may sign no longer: what it signed and isn't settled is void")),
  },
  act: changeKeys,
});

sendingTask("operator:serve", {
  about: "Says which plans your operator serves, or no longer",
  example: "--operator 1 --plans 2",
  parameters: {
    operator: operatorId(),
    plans: listOf(planId("Ids of the plans, whose terms you accept, with commas between them")),
    stop: flag("Serve them no longer; licenses that chose you run on"),
  },
  act: servePlans,
});

sendingTask("operator:describe", {
  about: "Replaces what your operator says of itself; what isn't named stays",
  example: "--operator 1 --endpoint https://gateway.example",
  parameters: {
    operator: operatorId(),
    endpoint: optional(text("Base URL of your gateway")),
    metadata: optional(text("Where your description is")),
    evidence: optional(bytes32("keccak256 of the evidence about your hardware")),
  },
  act: describeOperator,
});

sendingTask("operator:pool", {
  about: "Sends what an operator's pool has earned, bonuses and its part of the income, to its stake; anybody may",
  example: "--operator 1",
  parameters: { operator: operatorId() },
  act: payPool,
});
