/** What becomes of an answer that its licensee doubts, where answers can be proven, and of a receipt that gives itself away. */
import { time } from "@nomicfoundation/hardhat-network-helpers";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { concat, parseEther, toBeHex, Wallet, type HDNodeWallet, type TypedDataDomain } from "ethers";
import { statusName } from "../../oracle/chain/statuses";
import { listReceipts } from "../../oracle/licensee/receiptList";
import { decodeBearer, domainOf, receiptDigest, signDigest, signedReceiptHash } from "../../oracle/protocol/messages";
import { usageOf } from "../../oracle/protocol/meters";
import { SumTree, type Leaf, type SumProof } from "../../oracle/protocol/sumTree";
import { METERS, type Receipt, type SignedReceipt } from "../../oracle/protocol/types";
import { DIGITS } from "../../zk/architecture";
import { publicInputsOf, type Statement } from "../../zk/circuit";
import { contextOf, saltUnder } from "../../zk/commitments";
import { modelToJson, type Model } from "../../zk/network";
import { prove } from "../../zk/prover";
import type { ProvingKit } from "../../zk/provingKit";
import { startClassifier } from "../../zk/server";
import { quantise, train } from "../../zk/training";
import { releaseBatch } from "../batch";
import { mintCurrency } from "../currency";
import { registerOperator } from "../operator";
import { addStake } from "../stake";
import { allow, eventOf, send, textOf, type Session } from "../support";
import { DAY } from "./cast";
import { buyReading, READING_DEPOSIT, settleReadings, type Asked, type Digits, type Reader } from "./digits";
import { gainOf } from "./ending";
import type { Settled } from "./epochs";
import type { Narrator } from "./narrator";
import type { Holding, Market } from "./opening";
import { startOperation, type Operation } from "./operation";
import { DIGITS_ID, modelAt, type Oracle } from "./oracle";
import { refusalBy } from "./refusals";

/** The demo's operator is doubted, proves its answer, and earns the challenger's bond. @returns the rest of its batch */
export async function proveDoubted(
  narrator: Narrator,
  oracle: Oracle,
  market: Market,
  digits: Digits,
): Promise<{ settled: Settled; holdings: Holding[] }> {
  const { cast, operator } = market;
  const { escrow, court } = cast.outsider.licet;
  const { money } = cast.licensee;
  const customers = [
    await buyReading(cast.licensee, digits, operator),
    await buyReading(cast.secondLicensee, digits, operator),
  ];
  const { settled, readers } = await settleReadings(narrator, oracle, oracle, market, digits, { operator, customers });
  const [doubter] = readers;
  const [asked] = doubter.asked;
  const doubt = await challenge(narrator, oracle, settled, doubter, asked);

  const startedAt = Date.now();
  await oracle.answerer.answerDue();
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  const [proven] = await court.queryFilter(court.filters.ChallengeProven(doubt.challengeId));
  const { gasUsed } = await proven.getTransactionReceipt();
  narrator.say(`the operator's own process, which kept what was asked, answers by itself after ${seconds} s`);
  narrator.check(
    `its proof that the registered weights answer ${asked.answer} is checked on chain, in ${gasUsed} gas`,
    proven.args.receiptHash === doubt.receiptHash && gasUsed <= MOST_ANSWER_GAS,
  );
  const { status } = await court.challengeOf(doubt.challengeId);
  narrator.checkEqual("the challenge is", statusName("ChallengeStatus", status), "Rejected");
  narrator.checkEqual(
    "the rest of the batch still waits out its hold",
    statusName("BatchStatus", await escrow.batchStatusOf(settled.batch.batchId)),
    "Held",
  );
  await releaseBatch(cast.outsider, { batch: doubt.chargeId });
  const { operator: earned, publisher, attestor, fee, bonus } = await escrow.splitOf(doubt.chargeId);
  narrator.check(
    `the doubted charge is released at once: ${doubt.charged} = operator ${earned} + publisher ${publisher} + ` +
      `attestors ${attestor} + protocol ${fee} + the operator's stake ${bonus}`,
    earned + publisher + attestor + fee + bonus === doubt.charged,
  );
  const bond = await gainOf(cast.operator, () =>
    send(cast.operator.licet.court.withdrawBonds, cast.operator.signer.address),
  );
  narrator.checkEqual(`units that the operator gets of the bond of ${textOf(money.of(doubt.bond))}`, bond, doubt.bond);
  return { settled: { ...settled, charged: settled.charged - doubt.charged }, holdings: customers };
}

/** More than an answered challenge may cost, all included. */
const MOST_ANSWER_GAS = 950_000n;
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
    await reportContradiction(narrator, market, cheat, readings.settled, readings.readers[1]);
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
  await send(court.close, doubt.challengeId);
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
  const returned = await gainOf(session, () => send(court.withdrawBonds, session.signer.address));
  narrator.checkEqual("units of its bond that the licensee has back", returned, doubt.bond);
  const taken = await gainOf(session, () => send(staking.withdrawProceeds, session.signer.address));
  narrator.checkEqual("and units of the operator's stake that it has besides", taken, doubt.bond);
}

/** The operator wrote ten times the input into another receipt of the same number: the reporter needs no bond, and no judge. */
async function reportContradiction(
  narrator: Narrator,
  { cast }: Market,
  { operator, receiptKey, operation }: Cheat,
  { batch, outcomes }: Settled,
  { session, license }: Reader,
): Promise<void> {
  const { outsider } = cast;
  const { escrow, reports, staking } = outsider.licet;
  const { header, entries, batchId } = batch;
  const domain = await domainIn(outsider);
  const signed = await operation.store.receiptsOf(batchId);
  const index = signed.findIndex(({ receipt }) => receipt.licenseId === license);
  const { receipt, signature } = signed[index];
  const other = { ...receipt, inputTokens: receipt.inputTokens * 10n };
  const contradiction = { receipt: other, signature: signDigest(receiptKey.privateKey, receiptDigest(domain, other)) };
  const siblings = packedPath(SumTree.of(signed.map((one) => leafOf(domain, one))).proofOf(index));

  const staked = (await staking.poolOf(operator)).active;
  const entry = { header, entries, outcomes, licenseId: license };
  const [, charged] = await escrow.chargeOf(header, entries, outcomes, license);
  const report = [entry, { receipt, signature, index, siblings }, contradiction] as const;
  const { refunded, damages, reward } = eventOf(await send(reports.reportContradiction, ...report), "BreachReported");
  narrator.checkEqual(
    `units of its charge that license ${license} has back, in the same transaction`,
    refunded,
    charged,
  );
  const { balance } = await escrow.accountOf(license);
  narrator.checkEqual("units in its account", balance, session.money.parse(READING_DEPOSIT, "deposit"));
  const { active } = await staking.poolOf(operator);
  narrator.check(
    `the operator's stake pays ${damages} units to its licensee and ${reward} to the reporter`,
    staked - active === damages + reward && damages === charged / 5n && reward === (await reports.MIN_REWARD()),
  );
  await narrator.checkRefused("to report it again", /ChargeReportedBefore/, () =>
    refusalBy(reports.reportContradiction.staticCall(...report)),
  );
  for (const [name, receiver, owed] of [
    ["licensee", session, damages],
    ["reporter", outsider, reward],
  ] as const) {
    const paid = await gainOf(receiver, () => send(receiver.licet.staking.withdrawProceeds, receiver.signer.address));
    narrator.checkEqual(`units that the ${name} withdraws`, paid, owed);
  }
}

const domainIn = async ({ hre, book }: Session) =>
  domainOf((await hre.ethers.provider.getNetwork()).chainId, book.contracts.UsageEscrow);

const leafOf = (domain: TypedDataDomain, { receipt, signature }: SignedReceipt): Leaf => ({
  signedReceiptHash: signedReceiptHash(receiptDigest(domain, receipt), signature),
  licenseId: receipt.licenseId,
  usage: usageOf(receipt),
});

/** As the courts take a path. */
const packedPath = ({ siblings }: SumProof): string =>
  concat(siblings.flatMap(({ hash, sums }) => [hash, ...METERS.map((meter) => toBeHex(sums[meter], 8))]));

/** A charge that its licensee has challenged, for one receipt. */
interface Doubt {
  challengeId: bigint;
  chargeId: string;
  /** Currency units. */
  charged: bigint;
  bond: bigint;
  receipt: Receipt;
  receiptHash: string;
}

/** A licensee challenges what it was charged, for a receipt that its own client got. */
async function challenge(
  narrator: Narrator,
  { gateway }: Operation,
  { batch, outcomes }: Settled,
  { session, license, apiKey }: Reader,
  { requestId }: Asked,
): Promise<Doubt> {
  const { licet, money, signer, book } = session;
  const { escrow, court, currency } = licet;
  const { receipt, signature } = (await listReceipts(gateway.url, apiKey)).find(
    ({ receipt }) => receipt.requestId === requestId,
  )!;
  const { header, entries } = batch;
  const entry = { header, entries, outcomes, licenseId: license };
  const [chargeId, charged] = await escrow.chargeOf(header, entries, outcomes, license);
  const bond = await court.bondFor(charged);
  await mintCurrency(session, { amount: money.of(bond).amount });
  await allow(session, book.contracts.DisputeCourt, bond);
  const paid = await gainOf(session, () => send(court.challenge, entry, { receipt, signature }, ""));
  const challengeId = await court.challengeOfCharge(chargeId);
  narrator.say(`${signer.address} doubts receipt ${receipt.sequence} of license ${license}: challenge ${challengeId}`);
  narrator.check(
    `its charge of ${textOf(money.of(charged))} is frozen, and no other; ${textOf(money.of(bond))} are its bond`,
    statusName("BatchStatus", await escrow.batchStatusOf(chargeId)) === "Frozen" &&
      statusName("BatchStatus", await escrow.batchStatusOf(batch.batchId)) === "Held" &&
      (await currency.balanceOf(book.contracts.DisputeCourt)) === bond &&
      paid === -bond,
  );
  const receiptHash = receiptDigest(await domainIn(session), receipt);
  return { challengeId, chargeId, charged, bond, receipt, receiptHash };
}

/** That a network answers what was asked, as the receipt says. */
function statementFor(model: Model, { apiKey }: Reader, { input }: Asked, receiptHash: string): Statement {
  const { salt } = decodeBearer(apiKey).grant;
  return {
    model,
    input,
    inputSalt: saltUnder(salt, "input"),
    outputSalt: saltUnder(salt, "output"),
    context: contextOf(receiptHash),
  };
}
