/** What every function of the courts that changes state takes, called once where it is typically called. */
import { setBalance, time } from "@nomicfoundation/hardhat-network-helpers";
import { id, parseEther, Wallet, type Signer, type TransactionResponse } from "ethers";
import hre from "hardhat";
import { entriesOf } from "../../oracle/protocol/entries";
import { receiptDigest } from "../../oracle/protocol/messages";
import {
  deployCourtMarket,
  entryIn,
  keyedGrant,
  leafIn,
  NO_LEAF,
  NO_RECEIPT,
  placedIn,
  proofOf,
  proposalOf,
  settleReceipts,
  Side,
  signedRequest,
  signReceipt,
  type CourtMarket,
  type SettledBatch,
} from "./court";
import { buyLicense, domainOf, HOUR, usd } from "./market";

const FEE = parseEther("0.1");
const OLD_KEY = new Wallet(id("old key"));
/** Each license has one charge in the batch; these are challenged, and their challenges stand as they are called. */
const LICENSES = 9;
export const [FREE, RESOLVED, OPENED, DOUBTED, ANSWERED, ESCALATED, RULED, DEMANDED, SILENT] = Array.from(
  { length: LICENSES },
  (_, i) => i,
);

/** A market in which a batch of several licenses was settled, and challenges of them stand in every state. */
export interface CourtStage {
  market: CourtMarket;
  batch: SettledBatch;
  /** What each license asked, and what came of it. */
  requests: Awaited<ReturnType<typeof signedRequest>>[];
  /** A batch with the first receipt once more. */
  repeated: SettledBatch;
  challenges: Map<number, bigint>;
}

export async function setCourtStage(): Promise<CourtStage> {
  const market = await deployCourtMarket();
  const { licet, licensee, operator, arbitrator } = market;
  const domain = await domainOf(market);
  const [asLicensee, asOperator] = [licet.court.connect(licensee), licet.court.connect(operator)];
  const licenseIds = [market.licenseId];
  while (licenseIds.length < LICENSES) licenseIds.push(await buyLicense(market, usd(100)));
  await asLicensee.demandSigning(licenseIds[DEMANDED], true);
  await time.increase(3 * HOUR);
  const epochStart = (await time.latest()) - HOUR;
  const requests: CourtStage["requests"] = [];
  for (const licenseId of licenseIds) {
    requests.push(await signedRequest(market, await keyedGrant(market, licenseId)));
  }
  await time.increase(1);
  const signed = requests.map(({ receipt }) => signReceipt(domain, receipt));
  const batch = await settleReceipts(market, signed, { epochStart });
  await time.increase(HOUR);
  const repeated = await settleReceipts(market, [signed[FREE], signed[SILENT]]);

  const challenges = new Map<number, bigint>();
  const challenge = async (i: number) => {
    const doubted = i === DOUBTED ? signed[i] : NO_RECEIPT;
    await asLicensee.challenge(entryIn(batch, licenseIds[i]), doubted, "ipfs://why");
    challenges.set(i, await licet.court.challengeCount());
    return challenges.get(i)!;
  };
  const answer = async (i: number) => asOperator.answer(await challenge(i), "ipfs://data");
  const escalate = async (i: number) => {
    await answer(i);
    return asLicensee.escalate(challenges.get(i)!, { value: FEE });
  };
  const dispute = async (i: number) => {
    await escalate(i);
    return asOperator.payFee(challenges.get(i)!, { value: FEE });
  };
  await dispute(RESOLVED);
  await arbitrator.giveRuling(0, Side.Operator);
  await challenge(SILENT);
  await time.increase(48 * HOUR + 1);
  await arbitrator.executeRuling(0);
  for (const i of [OPENED, DOUBTED, DEMANDED]) await challenge(i);
  await answer(ANSWERED);
  await escalate(ESCALATED);
  await dispute(RULED);
  await arbitrator.giveRuling(1, Side.Operator);
  return { market, batch, requests, repeated, challenges };
}

/** The one party that may call a function; anybody may the others. */
const CALLERS: Record<string, (market: CourtMarket) => Signer | Promise<Signer>> = {
  demandSigning: ({ licensee }) => licensee,
  challenge: ({ licensee }) => licensee,
  escalate: ({ licensee }) => licensee,
  answer: ({ operator }) => operator,
  showRequests: ({ operator }) => operator,
  submitEvidence: ({ operator }) => operator,
  withdrawBonds: ({ operator }) => operator,
  withdrawFees: ({ operator }) => operator,
  rule: async ({ arbitrator }) => {
    const signer = await hre.ethers.getImpersonatedSigner(await arbitrator.getAddress());
    await setBalance(signer.address, parseEther("1"));
    return signer;
  },
};

export const callerOf = async (name: string, market: CourtMarket): Promise<Signer> =>
  (await CALLERS[name]?.(market)) ?? market.outsider;

type Call = (stage: CourtStage, by: Signer) => Promise<TransactionResponse>;

const courtOf = ({ market }: CourtStage, by: Signer) => market.licet.court.connect(by);
const reportsOf = ({ market }: CourtStage, by: Signer) => market.licet.reports.connect(by);
const entryOf = ({ batch, requests }: CourtStage, i: number) => entryIn(batch, requests[i].receipt.licenseId);
const inference = async ({ market, requests }: CourtStage, i: number) => {
  const { receipt } = requests[i];
  return { receipt, proof: proofOf(receipt, receiptDigest(await domainOf(market), receipt)) };
};

export const COURT_CALLS: Record<string, Record<string, Call>> = {
  ReportCourt: {
    reportContradiction: async (stage, by) => {
      const { market, batch, requests } = stage;
      const other = { ...requests[FREE].receipt, requestId: id("another request") };
      const signed = signReceipt(await domainOf(market), other);
      return reportsOf(stage, by).reportContradiction(entryOf(stage, FREE), placedIn(batch, FREE), signed);
    },
    reportOutsideGrant: async (stage, by) => {
      const { market, requests } = stage;
      const late = await keyedGrant(market, market.licenseId, { expiresAt: 1, notBefore: 0 });
      const receipt = { ...requests[FREE].receipt, grantHash: late.grantHash, finishedAt: await time.latest() };
      await time.increase(1);
      const batch = await settleReceipts(market, [signReceipt(await domainOf(market), receipt)]);
      return reportsOf(stage, by).reportOutsideGrant(entryIn(batch, market.licenseId), placedIn(batch, 0), late.grant);
    },
    reportRepetition: async (stage, by) => {
      const { market, batch, repeated } = stage;
      const path = placedIn(batch, FREE);
      const entry = entryIn(repeated, market.licenseId);
      const proposals = [await proposalOf(market, repeated), await proposalOf(market, batch)] as const;
      return reportsOf(stage, by).reportRepetition(
        entry,
        placedIn(repeated, 0),
        batch.header,
        FREE,
        path.siblings,
        ...proposals,
      );
    },
    reportDeadKey: async (stage, by) => {
      const { market, requests } = stage;
      await market.licet.operators.connect(market.operator).addKey(1, OLD_KEY.address, (await time.latest()) + HOUR);
      await time.increase(2 * HOUR);
      const receipt = { ...requests[FREE].receipt, finishedAt: await time.latest() };
      await time.increase(1);
      const batch = await settleReceipts(market, [signReceipt(await domainOf(market), receipt, OLD_KEY)]);
      const proposal = await proposalOf(market, batch);
      return reportsOf(stage, by).reportDeadKey(entryIn(batch, market.licenseId), placedIn(batch, 0), proposal);
    },
    reportWrongSum: async (stage, by) => {
      const { market, requests } = stage;
      const receipts = [FREE, SILENT].map((i) => requests[i].receipt);
      const [a, b] = entriesOf(receipts);
      const entries = [
        { ...a, inputTokens: a.inputTokens + 5n },
        { ...b, inputTokens: b.inputTokens - 5n },
      ];
      await time.increase(1);
      const domain = await domainOf(market);
      const batch = await settleReceipts(
        market,
        receipts.map((receipt) => signReceipt(domain, receipt)),
        { entries },
      );
      const proposal = await proposalOf(market, batch);
      return reportsOf(stage, by).reportWrongSum(entryIn(batch, market.licenseId), NO_LEAF, leafIn(batch, 1), proposal);
    },
    proveCharge: async (stage, by) => {
      const { proof } = await inference(stage, FREE);
      return reportsOf(stage, by).proveCharge(entryOf(stage, FREE), [stage.requests[FREE]], [proof]);
    },
  },
  DisputeCourt: {
    demandSigning: (stage, by) => courtOf(stage, by).demandSigning(stage.market.licenseId, true),
    challenge: (stage, by) =>
      courtOf(stage, by).challenge(entryOf(stage, FREE), stage.batch.signed[FREE], "ipfs://why"),
    showRequests: (stage, by) =>
      courtOf(stage, by).showRequests(stage.challenges.get(DEMANDED)!, [stage.requests[DEMANDED]]),
    answer: (stage, by) => courtOf(stage, by).answer(stage.challenges.get(OPENED)!, "ipfs://data"),
    answerWithProof: async (stage, by) => {
      const { receipt, proof } = await inference(stage, DOUBTED);
      return courtOf(stage, by).answerWithProof(stage.challenges.get(DOUBTED)!, receipt, proof);
    },
    escalate: (stage, by) => courtOf(stage, by).escalate(stage.challenges.get(ANSWERED)!, { value: FEE }),
    payFee: (stage, by) => courtOf(stage, by).payFee(stage.challenges.get(ESCALATED)!, { value: FEE }),
    payAppeal: (stage, by) =>
      courtOf(stage, by).payAppeal(stage.challenges.get(RULED)!, Side.Challenger, { value: FEE }),
    rule: (stage, by) => courtOf(stage, by).rule(1, Side.Challenger),
    submitEvidence: (stage, by) => courtOf(stage, by).submitEvidence(stage.challenges.get(OPENED)!, "ipfs://more"),
    close: (stage, by) => courtOf(stage, by).close(stage.challenges.get(SILENT)!),
    withdrawBonds: (stage, by) => courtOf(stage, by).withdrawBonds(by),
    withdrawFees: (stage, by) => courtOf(stage, by).withdrawFees(by),
  },
};
