/** Whether what a gateway serves can be defended: where a version names a verifier, only a proof does. */
import type { Court } from "./court";

export interface ServedModel {
  id: string;
  versionId: bigint;
  keepInputs?: boolean;
}

/**
 * What is lacking to prove receipts of models whose versions name a verifier, in sentences that say what to do.
 * @param provers of which versions
 */
export async function provingProblems(
  court: Pick<Court, "inferenceOf">,
  models: readonly ServedModel[],
  provers: ReadonlySet<bigint>,
): Promise<string[]> {
  const problems = await Promise.all(
    models.map(async ({ id, versionId, keepInputs }) => {
      if ((await court.inferenceOf(versionId)) === null) return [];
      const lacking = [
        ...(keepInputs === true ? [] : [`"keepInputs": true in its section of gateway.models`]),
        ...(provers.has(versionId) ? [] : [`its model's file in disputes.provers`]),
      ];
      if (lacking.length === 0) return [];
      return [
        `Version ${versionId} of model ${id} names a verifier, so that a doubted receipt is lost unless it is proven: say ` +
          lacking.join(", and "),
      ];
    }),
  );
  return problems.flat();
}
