import { type BaseContract, hexlify, ZeroAddress, ZeroHash } from "ethers";
import {
  type AssetRegistry,
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
type Arbitration = IDisputeCourt.ArbitrationStructOutput;
type InferenceOutput = Awaited<ReturnType<AssetRegistry["inferenceOf"]>>;
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

  /** What a contract says, by enough nodes' word: nothing when there was no block that counts, or no code. */
  async function read(on: BaseContract, name: string, args: unknown[] = [], by: "latest" | "final" = "latest") {
    const block = by === "latest" ? await witness.height() : await finalHeight(witness, finality);
    if (block < 0) return [];
    const [to, data] = [await on.getAddress(), on.interface.encodeFunctionData(name, args)];
    const answer = (await witness.ask("eth_call", [{ to, data }, tagOf(block)])) as string;
    return answer === "0x" ? [] : on.interface.decodeFunctionResult(name, answer);
  }

  /** The same of what must be there. */
  async function readOne<T>(on: BaseContract, name: string, ...args: unknown[]): Promise<T> {
    const said = await read(on, name, args);
    if (said.length > 0) return (said.length === 1 ? said[0] : said) as T;
    throw new Error(`No contract at ${await on.getAddress()} answers ${name}`);
  }

  return {
    count: async () => ((await read(court, "challengeCount", [], "final"))[0] as bigint | undefined) ?? 0n,

    async challenge(challengeId, by) {
      const [found] = await read(court, "challengeOf", [challengeId], by);
      if (found === undefined) throw new Error(`The court ${address} has no challenge ${challengeId} by then`);
      return challengeOf(challengeId, found as IDisputeCourt.ChallengeStructOutput);
    },

    async batchOf(chargeId) {
      return (await readOne<{ batchId: string }>(escrow, "chargeRecordOf", chargeId)).batchId;
    },

    isReported: (chargeId) => readOne(reports, "isReported", chargeId),

    async inferenceOf(versionId) {
      const inference = await readOne<InferenceOutput>(assets, "inferenceOf", versionId);
      const { weightsCommitment, inferenceVerifier: verifier } = inference;
      return verifier === ZeroAddress ? null : { weightsCommitment, verifier };
    },

    async mayAnswer(operatorId, account, at) {
      const [owner, isKey] = await Promise.all([
        readOne<string>(operators, "ownerOf", operatorId),
        readOne<boolean>(operators, "isSigningKey", operatorId, account, at),
      ]);
      return isKey || owner === account;
    },

    feeOf: (arbitrator) => readOne(IArbitrator__factory.connect(arbitrator, runner), "arbitrationCost", "0x"),

    async appealOf({ challengeId, arbitrator: at }, now) {
      if (at === null) return null;
      const { disputeId, appellant } = await readOne<Arbitration>(court, "arbitrationOf", challengeId);
      const arbitrator = IArbitrator__factory.connect(at, runner);
      const [[start, end], ruling] = await Promise.all([
        readOne<[bigint, bigint]>(arbitrator, "appealPeriod", disputeId),
        readOne<bigint>(arbitrator, "currentRuling", disputeId),
      ]);
      if (now < start || now >= end) return null;
      const appeal: Appeal = {
        ruling: SIDES[Number(ruling)] ?? "None",
        appellant: SIDES[Number(appellant)],
        cost: await readOne<bigint>(arbitrator, "appealCost", disputeId, "0x"),
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
