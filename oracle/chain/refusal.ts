import { Interface } from "ethers";
import * as factories from "../../typechain-types";

/** All errors of the contracts, one of a kind. */
const errors = new Interface(
  Object.values(factories)
    .flatMap((factory) => ("abi" in factory ? [...factory.abi] : []))
    .filter((fragment) => fragment.type === "error")
    .filter((fragment, i, all) => all.findIndex((other) => sameError(fragment, other)) === i),
);

function sameError(a: { name?: string; inputs?: readonly unknown[] }, b: typeof a): boolean {
  return a.name === b.name && JSON.stringify(a.inputs) === JSON.stringify(b.inputs);
}

/** What a contract said when it refused a call, with its values: `HoldRunning(batchId 0x…, releasableAt 1795…)`; else nothing. */
export function refusalOf(error: unknown): string | undefined {
  const data = revertDataOf(error);
  if (data === undefined) return undefined;
  const parsed = errors.parseError(data);
  if (parsed === null) return `${data}, which is no error of this release`;
  const values = parsed.fragment.inputs.map(({ name }, i) => `${name} ${parsed.args[i]}`);
  return `${parsed.name}(${values.join(", ")})`;
}

/** The bytes that a call reverted with, wherever ethers, Hardhat or a node put them. */
export function revertDataOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { data, error: inner, info, cause } = error as Record<string, unknown>;
  if (typeof data === "string" && data.startsWith("0x") && data.length >= 10) return data;
  return revertDataOf(data) ?? revertDataOf(inner) ?? revertDataOf(info) ?? revertDataOf(cause);
}
