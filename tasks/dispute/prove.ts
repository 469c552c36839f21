import { type Result, ZeroAddress, ZeroHash } from "ethers";
import { receiptDigest } from "../../oracle/protocol/messages";
import type { Receipt } from "../../oracle/protocol/types";
import { IInferenceVerifier__factory } from "../../typechain-types";
import { DEVELOPMENT_SETUP } from "../../zk/setup/files";
import {
  bytes32,
  optional,
  Problem,
  readReceipt,
  requireOne,
  saySteps,
  send,
  sendingTask,
  text,
  type Session,
  type TaskRecord,
} from "../support";
import { makeProof, readNumbers, readProof } from "../zk";
import { escrowDomain } from "./charge";
import { decisionIn } from "./decision";
import { inputIn } from "./requests";
import { challengeNumber, challengeOf, showChallenge, statusOf, type Challenge } from "./show";

export interface ProveChallenge {
  challenge: bigint;
  /** File of a proof that was made before. */
  proof?: string;
  /** Or the file of the model, to make one. */
  model?: string;
  /** With that, the operator's store, if its gateway kept the request's input. */
  store?: string;
  /** Or the file of the input, and the salt of the grant that the request came under. */
  input?: string;
  salt?: string;
  /** Folder of the setup. */
  setup: string;
  /** File of the receipt, where the challenge's transaction doesn't show it. */
  receipt?: string;
}

/** Answers a challenge of a receipt with a proof of its inference, which decides it at once. */
export async function proveChallenge(session: Session, args: ProveChallenge): Promise<TaskRecord> {
  const { challenge } = args;
  const found = await challengeOf(session, challenge);
  if (statusOf(found) !== "Open") {
    throw new Problem(`Challenge ${challenge} is ${statusOf(found).toLowerCase()}: a proof answers one that is open.`);
  }
  if (found.receiptHash === ZeroHash) {
    throw new Problem(
      `Challenge ${challenge} is about the whole entry, and a proof answers one about a receipt: see \`dispute:answer\`.`,
    );
  }
  requireOne({ "--proof": args.proof, "--model": args.model });
  const receipt = await challengedReceipt(session, args, found);
  const proof = await proofOf(args, found.receiptHash);
  await requireProven(session, { versionId: found.versionId, receipt, receiptHash: found.receiptHash, proof });
  const sent = await send(session.licet.court.answerWithProof, challenge, receipt, proof);
  return { ...(await decisionIn(session, sent)), ...(await showChallenge(session, { challenge })) };
}

/** The receipt that a challenge is about, out of its own transaction, or of a file. */
async function challengedReceipt(
  session: Session,
  { challenge, receipt: file }: ProveChallenge,
  { receiptHash }: Challenge,
): Promise<Receipt> {
  const receipt = file === undefined ? await namedReceipt(session, challenge) : readReceipt(file, "--receipt").receipt;
  if (receipt === undefined) {
    throw new Problem(
      `The transaction of challenge ${challenge} doesn't show its receipt, since another contract sent it: name the receipt's ` +
        "file with --receipt.",
    );
  }
  const hash = receiptDigest(await escrowDomain(session), receipt);
  if (hash === receiptHash) return receipt;
  throw new Problem(`--receipt ${file} is ${hash}, and challenge ${challenge} is about ${receiptHash}: name that one.`);
}

async function namedReceipt({ licet, book }: Session, challenge: bigint): Promise<Receipt | undefined> {
  const { court } = licet;
  const [opened] = await court.queryFilter(court.filters.ChallengeOpened(challenge), book.block);
  const { data } = await opened.getTransaction();
  const call = court.interface.parseTransaction({ data });
  if (call?.name !== "challenge") return undefined;
  return (call.args.doubted as { receipt: Result }).receipt.toObject() as unknown as Receipt;
}

async function proofOf({ proof, model, setup, ...args }: ProveChallenge, receipt: string): Promise<string> {
  if (model !== undefined)
    return (await makeProof({ model, setup, receipt, ...(await askedFor(args, receipt)) })).proof.proof;
  const made = readProof(proof!, "--proof");
  if (made.receiptHash === receipt) return made.proof;
  throw new Problem(
    `--proof ${proof} is of receipt ${made.receiptHash}, and the challenge about ${receipt}: prove that.`,
  );
}

/** What was asked, and under which grant: as it was said, or as the operator's store has kept it. */
async function askedFor(
  { input, salt, store }: Pick<ProveChallenge, "input" | "salt" | "store">,
  receipt: string,
): Promise<{ input: unknown; salt: string }> {
  if (store !== undefined && input === undefined && salt === undefined) return inputIn(store, receipt);
  if (input !== undefined && salt !== undefined && store === undefined) return { input: readNumbers(input), salt };
  throw new Problem("A proof by --model takes --store, or --input and --salt as zk:prove does.");
}

export interface ProvenInference {
  versionId: bigint;
  receipt: Pick<Receipt, "requestHash" | "responseHash">;
  /** Its EIP-712 digest. */
  receiptHash: string;
  proof: string;
}

/** @throws Problem unless the version's verifier takes the proof for one */
export async function requireProven(session: Session, proven: ProvenInference): Promise<void> {
  const { versionId, receipt, receiptHash, proof } = proven;
  const { weightsCommitment, inferenceVerifier } = await session.licet.assets.inferenceOf(versionId);
  if (inferenceVerifier === ZeroAddress) {
    throw new Problem(
      `Version ${versionId} names no verifier, so its receipts can't be proven: see \`dispute:answer\`.`,
    );
  }
  saySteps("asking the version's verifier");
  const verifier = IInferenceVerifier__factory.connect(inferenceVerifier, session.signer);
  const { requestHash, responseHash } = receipt;
  // Whatever goes wrong, nothing is proven: the verifier reverts at most proofs that are none.
  const isProof = await verifier
    .verify(weightsCommitment, requestHash, responseHash, receiptHash, proof)
    .catch(() => false);
  if (isProof) return;
  throw new Problem(
    `The verifier ${inferenceVerifier} doesn't take that for a proof of receipt ${receiptHash} by the weights of version ` +
      `${versionId}: prove that receipt, by the model that was published, with the request's own input and its grant's salt.`,
  );
}

sendingTask("dispute:prove", {
  about: "Answers a challenge of a receipt with a proof of its inference: it is decided at once, and the bond is yours",
  example: "--challenge 1 --proof proof.json --account 2",
  parameters: {
    challenge: challengeNumber(),
    proof: optional(text("File with the proof, as zk:prove wrote it")),
    model: optional(text("Or the model's file, to make it")),
    store: optional(text("With --model: your store, operator.sqlite in its dataFolder, if the input was kept")),
    input: optional(text("With --model: or a file with the request's input, a list of numbers in JSON")),
    salt: optional(bytes32("With --input: the salt of the grant that the request came under")),
    setup: optional(text("Folder of the setup"), DEVELOPMENT_SETUP),
    receipt: optional(
      text("File with the receipt, where a contract sent the challenge (default: out of its transaction)"),
    ),
  },
  act: proveChallenge,
});
