import { getBytes, recoverAddress, type Signer, TypedDataEncoder, type TypedDataDomain } from "ethers";
import type { CommitteeMember } from "../deploy/deploy";
import { AS_OF_NOW, statusName } from "../oracle/chain/statuses";
import { headerFromJson } from "../oracle/protocol/messages";
import type { BatchHeader } from "../oracle/protocol/types";
import { committeeProof } from "../oracle/settler/attestorPool";
import { CommitteeAttestor__factory, type CommitteeAttestor } from "../typechain-types";
import {
  address,
  allow,
  CallFailed,
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
  requireFunds,
  send,
  sendingTask,
  text,
  wholeNumber,
  type Session,
  type TaskRecord,
} from "./support";

/** Which committee a task is about. */
interface Of {
  /** Its address; the deployment's committee if it isn't named. */
  attestor?: string;
}

const OF = { attestor: optional(address("The committee's address (default: the deployment's)")) };

/** @throws Problem if no committee is there */
export async function committeeOf({ book, licet }: Session, { attestor }: Of): Promise<CommitteeAttestor> {
  const at = attestor ?? book.contracts.CommitteeAttestor;
  const committee = CommitteeAttestor__factory.connect(at, licet.committee.runner);
  const escrow = await committee.ESCROW().catch(() => undefined);
  if (escrow !== undefined) return committee;
  throw new Problem(`--attestor ${at}: no committee is there; another kind of attestor may be.`);
}

const MOST_WEIGHT = 65_535;

/** Members and threshold, as a file names them. */
function readMembers(name: string, { members, threshold }: Record<string, unknown>) {
  if (!Array.isArray(members)) {
    throw new Problem(`${name}: members must be a list of { "signer", "weight", "payee" }.`);
  }
  const parsed = members.map((member: Partial<Record<keyof CommitteeMember, unknown>> | null, i): CommitteeMember => ({
    signer: parseBytes(member?.signer, `members[${i}].signer`),
    weight: wholeNumber("", 1, MOST_WEIGHT).parse(String(member?.weight ?? 1), `members[${i}].weight`),
    payee: parseAddress(String(member?.payee), `members[${i}].payee`),
  }));
  const total = parsed.reduce((sum, { weight }) => sum + weight, 0);
  return { members: parsed, threshold: wholeNumber("", 1, total).parse(String(threshold), "threshold") };
}

// Deploying

/** Deploys another committee for the market, for plans that name it. */
export async function deployCommittee(
  session: Session,
  { committee: file }: { committee: string },
): Promise<TaskRecord> {
  const { licet, money } = session;
  const content = readJson(file, "--committee") as Record<string, unknown>;
  const { members, threshold } = readMembers(`--committee ${file}`, content);
  const bond = money.parse(content.bond, "bond");
  const factory = new CommitteeAttestor__factory(licet.committee.runner as Signer);
  const deployed = await factory.deploy(await licet.escrow.getAddress(), bond, members, threshold).catch((cause) => {
    throw new CallFailed("CommitteeAttestor", cause);
  });
  await deployed.waitForDeployment();
  return {
    attestor: await deployed.getAddress(),
    members,
    threshold,
    "bond a unit of weight": money.of(bond),
    next: "each payee posts its bond, with committee:bond; plan:create --attestor names the committee",
  };
}

// Rotating

export interface RotateCommittee extends Of {
  /** JSON of the next committee, which all sign alike: its members, threshold, and until when signatures count. */
  next: string;
  /** Sign it with the account that acts, and print the signature. */
  sign?: boolean;
  /** Of members of the present committee, as much weight as must sign. */
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
    { name: "weight", type: "uint16" },
    { name: "payee", type: "address" },
  ],
};

/**
 * Announces the next committee, in force after a wait. Without signatures says what to sign; with `sign` signs it; with the
 * signatures sends it.
 */
export async function rotateCommittee(session: Session, args: RotateCommittee): Promise<TaskRecord> {
  const committee = await committeeOf(session, args);
  const rotation = await readRotation(session, committee, args.next);
  if (args.signatures !== undefined) return announce(committee, rotation, args.signatures);
  const { members, threshold, nonce, deadline } = rotation.message;
  return {
    "to sign": rotation.digest,
    "weight that must sign": await committee.threshold(AS_OF_NOW),
    members,
    threshold,
    nonce,
    "signatures count until": dateOf(deadline),
    ...(args.sign === true ? await sign(session, committee, rotation) : {}),
  };
}

async function sign(
  { signer }: Session,
  committee: CommitteeAttestor,
  { domain, message }: SignableRotation,
): Promise<TaskRecord> {
  await requireMember(committee, signer.address);
  return { signer: signer.address, signature: await signer.signTypedData(domain, ROTATION_TYPES, message) };
}

/** @throws Problem unless the signer is in the committee in force */
async function requireMember(committee: CommitteeAttestor, signer: string): Promise<void> {
  const present = await committee.members(AS_OF_NOW);
  if (present.some((member) => member.signer.toLowerCase() === signer.toLowerCase())) return;
  throw new Problem(`${signer} isn't in the present committee, or signed something else.`);
}

interface SignableRotation {
  domain: TypedDataDomain;
  message: { members: CommitteeMember[]; threshold: number; nonce: bigint; deadline: number };
  digest: string;
}

async function readRotation({ hre }: Session, committee: CommitteeAttestor, file: string): Promise<SignableRotation> {
  const content = readJson(file, "--next") as Record<string, unknown>;
  const message = {
    ...readMembers(`--next ${file}`, content),
    nonce: await committee.rotationNonce(),
    deadline: parseTime(content.until, "until"),
  };
  const { chainId } = await hre.ethers.provider.getNetwork();
  const domain = {
    name: "Licet CommitteeAttestor",
    version: "1",
    chainId,
    verifyingContract: await committee.getAddress(),
  };
  return { domain, message, digest: TypedDataEncoder.hash(domain, ROTATION_TYPES, message) };
}

async function announce(
  committee: CommitteeAttestor,
  { message, digest }: SignableRotation,
  signatures: string[],
): Promise<TaskRecord> {
  const attestations = signatures.map((signature) => ({ signer: signerOf(digest, signature), signature }));
  for (const { signer } of attestations) await requireMember(committee, signer);
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

// Bonds

/** A member, and whose bond for it. */
interface BondOf extends Of {
  /** The member's key or account; the acting account if it isn't named. */
  signer?: string;
}

const BOND_OF = {
  ...OF,
  signer: optional(bytes("The member that it is for: an address, or a verifier's and a key (default: you)")),
};

/** Posts the acting account's bond for a member whose payee it is, or raises it, or puts one that thaws in force again. */
export async function postBond(session: Session, args: BondOf & { weight?: number }): Promise<TaskRecord> {
  const { money, signer: holder } = session;
  const committee = await committeeOf(session, args);
  const signer = args.signer ?? holder.address;
  const weight = args.weight ?? (await weightToCover(committee, signer, holder.address));
  const [{ weight: present }, unit] = await Promise.all([committee.bondOf(signer, holder.address), committee.BOND()]);
  const missing = BigInt(weight) > present ? (BigInt(weight) - present) * unit : 0n;
  if (missing > 0n) {
    await requireFunds(session, missing);
    await allow(session, await committee.getAddress(), missing);
  }
  const { amount } = eventOf(await send(committee.postBond, signer, weight), "BondPosted");
  return { signer, weight, paid: money.of(amount as bigint), ...(await describeBond(session, committee, signer)) };
}

/** The greatest weight that a member has, or will have, with this payee. */
async function weightToCover(committee: CommitteeAttestor, signer: string, payee: string): Promise<number> {
  const memberships = (await liveMembers(committee)).filter((one) => one.payee === payee && isSame(one.signer, signer));
  if (memberships.length > 0) return Math.max(...memberships.map(({ weight }) => Number(weight)));
  throw new Problem(`${payee} isn't the payee of a member ${signer}: say --weight to post a bond for one to come.`);
}

const isSame = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

/** The members of the committee in force, and of those before and after it whose signatures count, or will. */
async function liveMembers(committee: CommitteeAttestor) {
  const present = await committee.presentRotation(AS_OF_NOW);
  const numbers = [present - 1n, present, present + 1n].filter((number) => number >= 0n);
  const rotations = await Promise.all(numbers.map((number) => committee.rotationOf(number)));
  return rotations.flatMap(({ members }) => [...members]);
}

async function describeBond(
  { money, signer: holder }: Session,
  committee: CommitteeAttestor,
  signer: string,
): Promise<TaskRecord> {
  const [{ weight, readyAt }, status, unit] = await Promise.all([
    committee.bondOf(signer, holder.address),
    committee.bondStatusOf(signer, holder.address, AS_OF_NOW),
    committee.BOND(),
  ]);
  return {
    bond: money.of(weight * unit),
    status: statusName("BondStatus", status),
    ...(readyAt === 0n ? {} : { "can be withdrawn after": dateOf(readyAt) }),
  };
}

/** Announces the withdrawal of a bond: its member's signatures count no more. */
export async function thawBond(session: Session, args: BondOf): Promise<TaskRecord> {
  const committee = await committeeOf(session, args);
  const signer = args.signer ?? session.signer.address;
  await send(committee.thawBond, signer);
  return { signer, ...(await describeBond(session, committee, signer)) };
}

/** Sends a bond whose wait is over. */
export async function withdrawBond(session: Session, args: BondOf & { to?: string }): Promise<TaskRecord> {
  const committee = await committeeOf(session, args);
  const signer = args.signer ?? session.signer.address;
  const to = args.to ?? session.signer.address;
  const { amount } = eventOf(await send(committee.withdrawBond, signer, to), "BondWithdrawn");
  return { signer, withdrawn: session.money.of(amount as bigint), to };
}

export interface ReportEquivocation extends Of {
  /** JSON of the member, whose its bond is, and the two batches with its signatures. */
  evidence: string;
}

/** A member, whose its bond is, and two batches that it signed for one number. */
export interface Equivocation {
  signer: string;
  holder: string;
  first: SignedBatch;
  second: SignedBatch;
}

interface SignedBatch {
  header: BatchHeader;
  signature: string;
}

/** Shows what a file tells of a member's equivocation. */
export async function reportEquivocation(session: Session, args: ReportEquivocation): Promise<TaskRecord> {
  const committee = await committeeOf(session, args);
  return showEquivocation(session, committee, await readEvidence(committee, args.evidence));
}

/** Shows that a member signed two batches for one number: its bond is lost, a part of it to who shows it. */
export async function showEquivocation(
  { money }: Session,
  committee: CommitteeAttestor,
  { signer, holder, first, second }: Equivocation,
): Promise<TaskRecord> {
  const sent = await send(
    committee.reportEquivocation,
    signer,
    holder,
    first.header,
    first.signature,
    second.header,
    second.signature,
  );
  const { amount, reward } = eventOf(sent, "BondSlashed");
  return { signer, holder, lost: money.of(amount as bigint), "of it yours": money.of(reward as bigint) };
}

async function readEvidence(committee: CommitteeAttestor, file: string): Promise<Equivocation> {
  const content = readJson(file, "--evidence") as Record<string, unknown>;
  const signer = parseBytes(content.signer, "signer");
  const batchIn = (name: string): SignedBatch => {
    const { header, signature } = (content[name] ?? {}) as Record<string, unknown>;
    return { header: headerFromJson(header), signature: parseBytes(signature, `${name}.signature`) };
  };
  const [first, second] = [batchIn("first"), batchIn("second")];
  if (content.holder !== undefined) {
    return { signer, holder: parseAddress(String(content.holder), "holder"), first, second };
  }
  const member = (await liveMembers(committee)).find((one) => isSame(one.signer, signer));
  if (member === undefined) throw new Problem(`${signer} isn't in the committee any more: name the bond's "holder".`);
  return { signer, holder: member.payee, first, second };
}

sendingTask("committee:deploy", {
  about: "Deploys another committee of attestors, for plans that will name it",
  example: "--committee committee.json",
  parameters: {
    committee: text(
      'JSON of it: { "members": [{ "signer": "0x…", "weight": 1, "payee": "0x…" }], "threshold": 2, "bond": "1000" }',
    ),
  },
  act: deployCommittee,
});

sendingTask("committee:rotate", {
  about: "Says what to sign for another committee, signs it, or with its signatures announces it",
  example: "--next committee.json --sign",
  parameters: {
    next: text(
      'JSON of the next committee: { "members": [{ "signer": "0x…", "weight": 1, "payee": "0x…" }], "threshold": 2, "until": "2027-01-31" }',
    ),
    sign: flag("Sign it with your account, as a member of the present committee, and print the signature"),
    signatures: optional(
      listOf(bytes("The present members', of as much weight as must sign, with commas between them")),
    ),
    ...OF,
  },
  act: rotateCommittee,
});

sendingTask("committee:bond", {
  about: "Posts your bond for a member whose payee you are, raises it, or puts one that thaws in force again",
  example: "--account 4",
  parameters: {
    ...BOND_OF,
    weight: optional(wholeNumber("The weight that it is to cover (default: the member's)", 1, MOST_WEIGHT)),
  },
  act: postBond,
});

sendingTask("committee:thaw", {
  about: "Announces the withdrawal of your bond: its member's signatures count no more",
  example: "--account 4",
  parameters: BOND_OF,
  act: thawBond,
});

sendingTask("committee:withdraw-bond", {
  about: "Sends you your bond, once its wait is over",
  example: "--account 4",
  parameters: { ...BOND_OF, to: optional(address("Who gets it (default: you)")) },
  act: withdrawBond,
});

sendingTask("committee:report", {
  about: "Shows that a member signed two batches for one number: it loses its bond, a tenth of it to you",
  example: "--evidence evidence.json",
  parameters: {
    evidence: text(
      'JSON: { "signer": "0x…", "first": { "header": {…}, "signature": "0x…" }, "second": {…} }, and "holder", whose bond it is, ' +
        "if the signer has left the committee",
    ),
    ...OF,
  },
  act: reportEquivocation,
});
