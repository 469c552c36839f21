/** An operator that promises weights and serves others: what is doubted it can't prove. And it has signed one number twice. */
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseEther, Wallet, type HDNodeWallet } from "ethers";
import { shownBatch } from "../../oracle/attestor/shownBatch";
import { chargesOf } from "../../oracle/chain/charges";
import { statusName } from "../../oracle/chain/statuses";
import { receiptDigest, signDigest, signedReceiptToJson } from "../../oracle/protocol/messages";
import { DIGITS } from "../../zk/architecture";
import { publicInputsOf } from "../../zk/circuit";
import { modelToJson, type Model } from "../../zk/network";
import { prove } from "../../zk/prover";
import type { ProvingKit } from "../../zk/provingKit";
import { startClassifier } from "../../zk/server";
import { quantise, train } from "../../zk/training";
import { mintCurrency } from "../currency";
import { closeChallenge, withdrawFromDisputes } from "../dispute";
import { escrowDomain } from "../dispute/charge";
import { registerOperator } from "../operator";
import { reportContradiction } from "../report";
import { addStake } from "../stake";
import { readReceipts } from "../support";
import { DAY } from "./cast";
import { buyReading, READING_DEPOSIT, settleReadings, type Digits, type Reader } from "./digits";
import { challenge, statementFor } from "./doubt";
import { gainOf } from "./ending";
import type { Settled } from "./epochs";
import type { Narrator } from "./narrator";
import type { Holding, Market } from "./opening";
import { startOperation, type Operation } from "./operation";
import { DIGITS_ID, modelAt, type Oracle } from "./oracle";
import { refusalBy } from "./refusals";

const CHEATS_STAKE = "100";

/** An operator that promised the registered weights and serves cheaper ones. */
interface Cheat {
  operator: number;
  receiptKey: HDNodeWallet;
  weights: Model;
  operation: Operation;
  close(): Promise<void>;
}

/** Another operator serves other weights: what is doubted it can't prove, and pays for. @returns its id, and its licenses */
export async function catchCheat(
  narrator: Narrator,
  oracle: Oracle,
  market: Market,
  digits: Digits,
  kit: ProvingKit,
): Promise<{ operator: number; holdings: Holding[] }> {
  const { cast } = market;
  const cheat = await startCheat(narrator, oracle, market, digits);
  try {
    const { operator, operation } = cheat;
    const customers = [
      await buyReading(cast.secondLicensee, digits, operator),
      await buyReading(cast.integrator, digits, operator),
    ];
    const readings = await settleReadings(narrator, oracle, operation, market, digits, { operator, customers });
    await loseDoubted(narrator, market, digits, kit, cheat, readings);
    narrator.title("It has signed one number of a license twice: whoever shows both is rewarded, at once");
    await showContradiction(narrator, oracle, market, cheat, readings.settled, readings.readers[1]);
    return { operator, holdings: customers };
  } finally {
    await cheat.close();
  }
}

async function startCheat(
  narrator: Narrator,
  oracle: Oracle,
  { cast }: Market,
  { plan, registered, network, training }: Digits,
): Promise<Cheat> {
  const { cheat: session } = cast;
  const [receiptKey, settlerKey] = [Wallet.createRandom(), Wallet.createRandom()];
  await session.signer.sendTransaction({ to: settlerKey.address, value: parseEther("1") });
  await mintCurrency(session, { amount: CHEATS_STAKE });
  const { operator } = await registerOperator(session, {
    endpoint: "http://127.0.0.1",
    metadata: "https://example.org/operators/cheat",
    key: receiptKey.address,
    keyValid: 90 * DAY,
    plans: [plan],
  });
  await addStake(session, { operator, amount: CHEATS_STAKE });

  const hasty = train(DIGITS, training, { epochs: 1, seed: 1, inputScale: 16 });
  const weights = { network: quantise(hasty, DIGITS.shift), salt: network.salt };
  const folder = path.join(oracle.folder, "cheat");
  mkdirSync(folder);
  const file = path.join(folder, "model.json");
  writeFileSync(file, modelToJson(weights));
  const classifier = await startClassifier({ modelPath: file, modelId: DIGITS_ID });
  const models = [modelAt(DIGITS_ID, registered, classifier.url)];
  const { attestors } = oracle;
  const config = { operatorId: operator, receiptKey, settlerKey, models, provers: new Map(), attestors, folder };
  const operation = await startOperation(cast, oracle.chain, config, oracle.log);
  narrator.say(`operator ${operator} promises the registered version, and serves what it trained itself, in a hurry`);
  return {
    operator,
    receiptKey,
    weights,
    operation,
    close: async () => {
      await operation.close();
      await classifier.close();
    },
  };
}

/** The licensee was told what it knows is wrong, and challenges. */
async function loseDoubted(
  narrator: Narrator,
  { cast }: Market,
  digits: Digits,
  kit: ProvingKit,
  { operator, weights, operation }: Cheat,
  { settled, readers }: { settled: Settled; readers: Reader[] },
): Promise<void> {
  const [victim] = readers;
  const { session, license } = victim;
  const { escrow, court, staking } = session.licet;
  const { address } = session.signer;
  const asked = victim.asked.find(({ answer, label }) => answer !== label)!;
  narrator.say(`one digit is a ${asked.label}, as its licensee can see, and was read as a ${asked.answer}`);
  const staked = (await staking.poolOf(operator)).active;
  const doubt = await challenge(narrator, operation, settled, victim, asked);

  const asCheat = cast.cheat.licet.court;
  const own = statementFor(weights, victim, asked, doubt.receiptHash);
  const { proof } = await prove(kit, own);
  await narrator.checkRefused(
    "a true proof of the weights that answered, which aren't the registered ones,",
    /takes it for no proof/,
    () => refusalBy(asCheat.answerWithProof.staticCall(doubt.challengeId, doubt.receipt, proof)),
  );
  const promised = statementFor(digits.network, victim, asked, doubt.receiptHash);
  const { responseHash } = publicInputsOf(own);
  await narrator.checkRefused("to prove that the registered weights gave this answer", /isn't true/, () =>
    refusalBy(prove(kit, promised, { ...publicInputsOf(promised), responseHash })),
  );
  await narrator.checkRefused("an answer without a proof", /ProofNeeded/, () =>
    refusalBy(asCheat.answer.staticCall(doubt.challengeId, "https://example.org/excuses")),
  );

  await time.increaseTo((await court.challengeOf(doubt.challengeId)).deadline + 1n);
  await closeChallenge(session, { challenge: doubt.challengeId });
  const { status } = await court.challengeOf(doubt.challengeId);
  narrator.checkEqual("its turn passes, and the challenge is", statusName("ChallengeStatus", status), "Upheld");
  const { balance } = await escrow.accountOf(license);
  narrator.checkEqual(
    `units in license ${license}'s account, as before it was charged`,
    balance,
    session.money.parse(READING_DEPOSIT, "deposit"),
  );
  const { active } = await staking.poolOf(operator);
  narrator.checkEqual("units of its stake that the operator lost: as much as the bond", staked - active, doubt.bond);
  const [returned, taken] = [await court.bondsOf(address), await staking.proceedsOf(address)];
  narrator.checkEqual("units of its bond that the licensee has back", returned, doubt.bond);
  narrator.checkEqual("and units of the operator's stake that it has besides", taken, doubt.bond);
  const paid = await gainOf(session, () => withdrawFromDisputes(session, {}));
  narrator.checkEqual("it withdraws both", paid, returned + taken);
}

/** The operator wrote ten times the input into another receipt of the same number: who reports that needs no bond, and no judge. */
async function showContradiction(
  narrator: Narrator,
  { attestors, folder }: Oracle,
  { cast }: Market,
  { operator, receiptKey }: Cheat,
  { batch: { batchId } }: Settled,
  { session, license }: Reader,
): Promise<void> {
  const { outsider } = cast;
  const { escrow, staking } = outsider.licet;
  const [receipts, other] = [path.join(folder, "batch.json"), path.join(folder, "other.json")];
  writeFileSync(receipts, JSON.stringify(await shownBatch(attestors[0].database, batchId)));
  const attested = readReceipts(receipts, "receipts").receipts;
  const { receipt } = attested.find(({ receipt }) => receipt.licenseId === license)!;
  const changed = { ...receipt, inputTokens: receipt.inputTokens * 10n };
  const signature = signDigest(receiptKey.privateKey, receiptDigest(await escrowDomain(outsider), changed));
  writeFileSync(other, JSON.stringify(signedReceiptToJson({ receipt: changed, signature })));
  narrator.say(
    `an attestor shows what it attested; number ${receipt.sequence} of license ${license} is in it otherwise`,
  );

  const staked = (await staking.poolOf(operator)).active;
  const [{ charged }] = await chargesOf(escrow, outsider.book.block, license, { batchId });
  const report = { license, batch: batchId, receipts, other };
  await reportContradiction(outsider, report);
  const { balance } = await escrow.accountOf(license);
  narrator.checkEqual(
    `units in license ${license}'s account, as before it was charged, in the same transaction`,
    balance,
    session.money.parse(READING_DEPOSIT, "deposit"),
  );
  const damages = await gainOf(session, () => withdrawFromDisputes(session, {}));
  narrator.checkEqual(
    "units of the operator's stake, a fifth of the charge, that its licensee has besides",
    damages,
    charged / 5n,
  );
  const reward = await gainOf(outsider, () => withdrawFromDisputes(outsider, {}));
  narrator.checkEqual(
    "and units of it, the least reward, that the reporter has",
    reward,
    await outsider.licet.reports.MIN_REWARD(),
  );
  const { active } = await staking.poolOf(operator);
  narrator.checkEqual("units of its stake that the operator lost", staked - active, damages + reward);
  await narrator.checkRefused("to report it again", /ChargeReportedBefore/, () =>
    refusalBy(reportContradiction(outsider, report)),
  );
}
