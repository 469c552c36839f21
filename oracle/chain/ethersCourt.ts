import { hexlify, ZeroAddress, ZeroHash } from "ethers";
import {
  AssetRegistry__factory,
  DisputeCourt__factory,
  IArbitrator__factory,
  OperatorRegistry__factory,
  ReportCourt__factory,
  UsageEscrow__factory,
} from "../../typechain-types";
import type { IDisputeCourt, RequestProofStruct } from "../../typechain-types/contracts/DisputeCourt";
import type { Appeal, Challenge, Court, ShownRequest, SideName } from "../disputes/court";
import { usageBy } from "../protocol/meters";
import { requestSignedAt } from "../protocol/requestSignature";
import type { RpcProvider } from "./ethersChain";
import { statusName } from "./statuses";
import { finalHeight, tagOf, type Finality, type Witness } from "./witness";

const SIDES: readonly SideName[] = ["None", "Challenger", "Operator"];
const OPERATOR = SIDES.indexOf("Operator");

/** The court at an address, through ethers. */
export async function connectCourt(
  provider: RpcProvider,
  witness: Witness,
  { court: address, finality }: { court: string; finality: Finality },
): Promise<Court> {
  const runner = { provider };
  const court = DisputeCourt__factory.connect(address, runner);
  const [escrow, reports] = await Promise.all([
    court.ESCROW().then((at) => UsageEscrow__factory.connect(at, runner)),
    court.REPORTS().then((at) => ReportCourt__factory.connect(at, runner)),
  ]);
  const [assets, operators] = await Promise.all([
    escrow.ASSETS().then((at) => AssetRegistry__factory.connect(at, runner)),
    escrow.OPERATORS().then((at) => OperatorRegistry__factory.connect(at, runner)),
  ]);

  /** By enough nodes' word. @returns null before the first block that counts */
  async function read(name: "challengeCount" | "challengeOf", args: [] | [bigint], by: "latest" | "final") {
    const block = by === "latest" ? await witness.height() : await finalHeight(witness, finality);
    if (block < 0) return null;
    const data = court.interface.encodeFunctionData(name as "challengeOf", args as [bigint]);
    const answer = (await witness.ask("eth_call", [{ to: address, data }, tagOf(block)])) as string;
    // No code was there yet.
    return answer === "0x" ? null : (court.interface.decodeFunctionResult(name as "challengeOf", answer)[0] as unknown);
  }

  return {
    count: async () => ((await read("challengeCount", [], "final")) as bigint | null) ?? 0n,

    async challenge(challengeId, by) {
      const found = (await read("challengeOf", [challengeId], by)) as IDisputeCourt.ChallengeStructOutput | null;
      if (found === null) throw new Error(`The court ${address} has no challenge ${challengeId} by then`);
      return challengeOf(challengeId, found);
    },

    batchOf: async (chargeId) => (await escrow.chargeRecordOf(chargeId)).batchId,

    isReported: (chargeId) => reports.isReported(chargeId),

    async inferenceOf(versionId) {
      const { weightsCommitment, inferenceVerifier: verifier } = await assets.inferenceOf(versionId);
      return verifier === ZeroAddress ? null : { weightsCommitment, verifier };
    },

    async mayAnswer(operatorId, account, at) {
      const [owner, isKey] = await Promise.all([
        operators.ownerOf(operatorId),
        operators.isSigningKey(operatorId, account, at),
      ]);
      return isKey || owner === account;
    },

    feeOf: (arbitrator) => IArbitrator__factory.connect(arbitrator, runner).arbitrationCost("0x"),

    async appealOf({ challengeId, arbitrator: at }, now) {
      if (at === null) return null;
      const { disputeId, appellant } = await court.arbitrationOf(challengeId);
      const arbitrator = IArbitrator__factory.connect(at, runner);
      const [{ start, end }, ruling] = await Promise.all([
        arbitrator.appealPeriod(disputeId),
        arbitrator.currentRuling(disputeId),
      ]);
      if (now < start || now >= end) return null;
      const cost = await arbitrator.appealCost(disputeId, "0x");
      const appeal: Appeal = {
        ruling: SIDES[Number(ruling)] ?? "None",
        appellant: SIDES[Number(appellant)],
        cost,
        end: Number(end),
      };
      return appeal;
    },

    showing: (challengeId, requests) =>
      court.showRequests.populateTransaction(challengeId, requests.map(requestProofOf)),

    answer: (challengeId, uri) => court.answer.populateTransaction(challengeId, uri),

    proof: (challengeId, receipt, proof) => court.answerWithProof.populateTransaction(challengeId, receipt, proof),

    feePayment: (challengeId, wei) => court.payFee.populateTransaction(challengeId, { value: wei }),

    appealPayment: (challengeId, wei) => court.payAppeal.populateTransaction(challengeId, OPERATOR, { value: wei }),

    closing: (challengeId) => court.close.populateTransaction(challengeId),
  };
}

const SIGNATURE_BYTES = 65;

/** A request as the courts take it. */
export const requestProofOf = ({ receipt, signature, grant, requestSignature }: ShownRequest): RequestProofStruct => ({
  receipt,
  signature,
  grant: grant.grant,
  grantSignature: grant.signature,
  at: requestSignedAt(requestSignature),
  requestSignature: hexlify(requestSignature.subarray(-SIGNATURE_BYTES)),
});

function challengeOf(challengeId: bigint, found: IDisputeCourt.ChallengeStructOutput): Challenge {
  return {
    challengeId,
    status: statusName("ChallengeStatus", found.status),
    chargeId: found.chargeId,
    licenseId: found.licenseId,
    operatorId: Number(found.operatorId),
    planId: Number(found.planId),
    versionId: found.versionId,
    epochStart: Number(found.epochStart),
    epochEnd: Number(found.epochEnd),
    receiptHash: found.receiptHash === ZeroHash ? null : found.receiptHash,
    bond: found.bond,
    deadline: Number(found.deadline),
    usage: usageBy((meter) => found.usage[meter]),
    isSigned: found.signed,
    shown: usageBy((meter) => found.shown[meter]),
    shownThrough: found.shownThrough,
    arbitrator: found.arbitrator === ZeroAddress ? null : found.arbitrator,
  };
}
