import { getBytes, recoverAddress, TypedDataEncoder, type TypedDataDomain } from "ethers";
import { committeeProof } from "../oracle/settler/attestorPool";
import { AS_OF_NOW } from "../oracle/chain/statuses";
import type { ICommitteeAttestor } from "../typechain-types/contracts/CommitteeAttestor";
import {
  dateOf,
  eventOf,
  flag,
  listOf,
  bytes,
  optional,
  parseAddress,
  parseBytes,
  parseTime,
  Problem,
  readJson,
  send,
  sendingTask,
  text,
  wholeNumber,
  type Session,
  type TaskRecord,
} from "./support";

type Member = ICommitteeAttestor.MemberStruct & { signer: string; payee: string };

export interface RotateCommittee {
  /** JSON of the next committee, which all sign alike: its members, threshold, and until when signatures count. */
  next: string;
  /** Sign it with the account that acts, and print the signature. */
  sign?: boolean;
  /** Of members of the present committee, as many as must sign. */
  signatures?: string[];
}

const ROTATION_TYPES = {
  Rotation: [
    { name: "members", type: "Member[]" },
    { name: "threshold", type: "uint64" },
    { name: "nonce", type: "uint256" },
    { name: "deadline", type: "uint256" },
  ],
  Member: [
    { name: "signer", type: "bytes" },
    { name: "payee", type: "address" },
  ],
};

/**
 * Announces the next committee, in force after a wait. Without signatures says what to sign; with `sign` signs it; with the
 * signatures sends it.
 */
export async function rotateCommittee(session: Session, args: RotateCommittee): Promise<TaskRecord> {
  const rotation = await readRotation(session, args.next);
  if (args.signatures !== undefined) return announce(session, rotation, args.signatures);
  const { members, threshold, nonce, deadline } = rotation.message;
  return {
    "to sign": rotation.digest,
    "signatures needed": await session.licet.committee.threshold(AS_OF_NOW),
    members,
    threshold,
    nonce,
    "signatures count until": dateOf(deadline),
    ...(args.sign === true ? await sign(session, rotation) : {}),
  };
}

async function sign({ licet, signer }: Session, { domain, message }: SignableRotation): Promise<TaskRecord> {
  await requireMember(licet, signer.address);
  return { signer: signer.address, signature: await signer.signTypedData(domain, ROTATION_TYPES, message) };
}

/** @throws Problem unless the signer is in the committee in force */
async function requireMember({ committee }: Session["licet"], signer: string): Promise<void> {
  const present = await committee.members(AS_OF_NOW);
  if (present.some((member) => member.signer.toLowerCase() === signer.toLowerCase())) return;
  throw new Problem(`${signer} isn't in the present committee, or signed something else.`);
}

interface SignableRotation {
  domain: TypedDataDomain;
  message: { members: Member[]; threshold: number; nonce: bigint; deadline: number };
  digest: string;
}

async function readRotation({ hre, licet }: Session, file: string): Promise<SignableRotation> {
  const { members, threshold, until } = readJson(file, "--next") as Record<string, unknown>;
  if (!Array.isArray(members)) throw new Problem(`--next ${file}: members must be a list of { "signer", "payee" }.`);
  const message = {
    members: members.map((member: Record<keyof Member, unknown>, i) => ({
      signer: parseBytes(member?.signer, `members[${i}].signer`),
      payee: parseAddress(String(member?.payee), `members[${i}].payee`),
    })),
    threshold: wholeNumber("", 1, members.length).parse(String(threshold), "threshold"),
    nonce: await licet.committee.rotationNonce(),
    deadline: parseTime(until, "until"),
  };
  const { chainId } = await hre.ethers.provider.getNetwork();
  const domain = {
    name: "Licet CommitteeAttestor",
    version: "1",
    chainId,
    verifyingContract: await licet.committee.getAddress(),
  };
  return { domain, message, digest: TypedDataEncoder.hash(domain, ROTATION_TYPES, message) };
}

async function announce(
  { licet }: Session,
  { message, digest }: SignableRotation,
  signatures: string[],
): Promise<TaskRecord> {
  const { committee } = licet;
  const attestations = signatures.map((signature) => ({ signer: signerOf(digest, signature), signature }));
  for (const { signer } of attestations) await requireMember(licet, signer);
  const sent = await send(
    committee.rotate,
    message.members,
    message.threshold,
    message.deadline,
    committeeProof(attestations),
  );
  const { number, since } = eventOf(sent, "RotationAnnounced");
  return { rotation: number, "in force from": dateOf(since), members: message.members, threshold: message.threshold };
}

function signerOf(digest: string, signature: string): string {
  try {
    return recoverAddress(digest, signature);
  } catch {
    throw new Problem(`--signatures: ${signature} is no signature of 65 bytes; it has ${getBytes(signature).length}.`);
  }
}

sendingTask("committee:rotate", {
  about: "Says what to sign for another committee, signs it, or with its signatures announces it",
  example: "--next committee.json --sign",
  parameters: {
    next: text(
      'JSON of the next committee: { "members": [{ "signer": "0x…", "payee": "0x…" }], "threshold": 2, "until": "2027-01-31" }',
    ),
    sign: flag("Sign it with your account, as a member of the present committee, and print the signature"),
    signatures: optional(listOf(bytes("As many of the present members' as must sign, with commas between them"))),
  },
  act: rotateCommittee,
});
