import { randomBytes, toBigInt, TypedDataEncoder, type TypedDataDomain } from "ethers";
import { writeFileSync } from "node:fs";
import { OFFER_TYPES, offerDomainOf } from "../../oracle/protocol/offers";
import type { OfferStruct } from "../../typechain-types/contracts/LicenseRegistry";
import {
  address,
  dateOf,
  eventOf,
  optional,
  parseBytes,
  period,
  Problem,
  readingTask,
  readJson,
  send,
  sendingTask,
  text,
  timeOf,
  toJson,
  type Session,
  type TaskRecord,
} from "../support";
import { TERMS_PARAMETERS, termsFrom, type TermsArguments } from "./create";
import { describeTerms } from "./show";

export interface OfferPlan extends TermsArguments {
  /** Whose the licenses will be. */
  buyer: string;
  /** How long it can be accepted, in seconds. */
  valid: number;
  /** Where the offer and its signature are written to. */
  out: string;
}

/** Signs an offer of licenses of the signer's model to one buyer. Nothing is sent to the chain. */
export async function offerPlan(session: Session, args: OfferPlan): Promise<TaskRecord> {
  const { buyer, valid, out } = args;
  const offer = {
    terms: termsFrom(session, args),
    buyer,
    salt: toBigInt(randomBytes(32)),
    deadline: (await timeOf(session.hre)) + valid,
    transferCount: await session.licet.assets.transferCountOf(args.asset),
  };
  await requireOwner(session, args.asset);
  const domain = await domainOf(session);
  const signature = await session.signer.signTypedData(domain, OFFER_TYPES, offer);
  writeFileSync(out, toJson({ offer, signature }));
  return {
    asset: args.asset,
    buyer,
    "can be accepted until": dateOf(offer.deadline),
    hash: TypedDataEncoder.hash(domain, OFFER_TYPES, offer),
    file: out,
  };
}

async function requireOwner({ licet, signer }: Session, asset: number): Promise<void> {
  const owner = await licet.assets.ownerOf(asset);
  if (owner === signer.address) return;
  throw new Problem(`Model ${asset} is ${owner}'s, whose signature alone makes an offer of it: sign as its owner.`);
}

async function domainOf({ hre, licet }: Session): Promise<TypedDataDomain> {
  const { chainId } = await hre.ethers.provider.getNetwork();
  return offerDomainOf(chainId, await licet.licenses.getAddress());
}

/** Has the plan of a signed offer created, or finds it if somebody has: then nothing is sent. */
export async function acceptOffer(
  session: Session,
  { file }: { file: string },
): Promise<TaskRecord & { plan: number }> {
  const { licenses } = session.licet;
  const { offer, signature } = readOffer(file);
  const hash = TypedDataEncoder.hash(await domainOf(session), OFFER_TYPES, offer);
  let planId = await licenses.planOfOffer(hash);
  if (planId === 0n) planId = eventOf(await send(licenses.acceptOffer, offer, signature), "OfferAccepted").planId;
  const terms = describeTerms(await licenses.termsOf(planId), session.money);
  return { plan: Number(planId), buyer: await licenses.buyerOf(planId), ...terms };
}

/** Makes a signed offer void that wasn't accepted. */
export async function withdrawOffer(session: Session, { file }: { file: string }): Promise<TaskRecord> {
  const { offer } = readOffer(file);
  const { offerHash, assetId } = eventOf(await send(session.licet.licenses.withdrawOffer, offer), "OfferWithdrawn");
  return { asset: assetId as bigint, offer: offerHash as string, status: "Withdrawn" };
}

function readOffer(file: string): { offer: OfferStruct; signature: string } {
  const { offer, signature } = readJson(file, "--file") as Record<string, unknown>;
  try {
    TypedDataEncoder.from(OFFER_TYPES).encode(offer as OfferStruct);
    return { offer: offer as OfferStruct, signature: parseBytes(signature, "signature") };
  } catch (cause) {
    throw new Problem(`--file ${file} is no offer: ${(cause as Error).message}`, { cause });
  }
}

const FILE = { file: text("What plan:offer wrote: JSON of the offer and its signature") };

readingTask("plan:offer", {
  about: "Signs an offer of licenses of your model to one buyer, for anybody to have accepted",
  example:
    "--asset 1 --terms models/lic380k-plan.json --license-text models/lic380k/LICENSE " +
    `--buyer 0x${"00".repeat(19)}a1 --out offer.json`,
  parameters: {
    ...TERMS_PARAMETERS,
    buyer: address("Whose the licenses will be"),
    valid: optional(period("How long it can be accepted, such as 12h or 30d"), "30d"),
    out: text("The file that the offer and its signature are written to"),
  },
  act: offerPlan,
});

sendingTask("plan:accept", {
  about:
    "Has the plan of a signed offer created, whose licenses its buyer may then buy; anybody may, and once is enough",
  example: "--file offer.json",
  parameters: FILE,
  act: acceptOffer,
});

sendingTask("plan:withdraw", {
  about: "Makes an offer of your model void that wasn't accepted",
  example: "--file offer.json",
  parameters: FILE,
  act: withdrawOffer,
});
