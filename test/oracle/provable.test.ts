import { expect } from "chai";
import { ZeroHash } from "ethers";
import type { Inference } from "../../oracle/disputes/court";
import { provingProblems } from "../../oracle/disputes/provable";

const PROVABLE = 5n;

describe("provingProblems", () => {
  const court = {
    inferenceOf: async (versionId: bigint): Promise<Inference | null> =>
      versionId === PROVABLE ? { weightsCommitment: ZeroHash, verifier: "0xverifier" } : null,
  };
  const digits = { id: "digits", versionId: PROVABLE };
  const problems = (model: object, ...provers: bigint[]) =>
    provingProblems(court, [{ ...digits, ...model }], new Set(provers));

  it("finds none where nothing has to be proven, or all is there", async () => {
    expect(await problems({ versionId: 6n })).to.deep.equal([]);
    expect(await problems({ keepInputs: true }, PROVABLE)).to.deep.equal([]);
    expect(await provingProblems(court, [], new Set())).to.deep.equal([]);
  });

  it("says of each model what it lacks", async () => {
    expect(await problems({ keepInputs: false }, PROVABLE, 6n)).to.deep.equal([
      'Version 5 of model digits names a verifier, so that a doubted receipt is lost unless it is proven: say "keepInputs": true ' +
        "in its section of gateway.models",
    ]);
    const [both] = await problems({}, 6n);
    expect(both).to.match(/gateway\.models, and its model's file in disputes\.provers$/);
  });
});
