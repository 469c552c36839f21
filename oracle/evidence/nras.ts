import { createHash } from "node:crypto";
import { dateOf, reasonOf, shown } from "../problem";
import { bytesOfBase64Url, fieldsOf, textOf } from "./bytes";
import { Refused, refuseUnless, Undecided, undecidedUnless, type Verdict, verdictOf } from "./verdict";

/** What NVIDIA's Remote Attestation Service says of GPUs: a token for all, and one for each that the first names by its hash. */
export interface NrasToken {
  overall: string;
  devices: Readonly<Record<string, string>>;
}

export interface NrasPolicy {
  issuer: string;
  /** Whom tokens must be for, or null where the service names nobody, as NVIDIA's does. */
  audience: string | null;
  /** Public keys of the service (JWK). The service changes keys: keep those that signed what is still looked at. */
  keys: readonly NrasKey[];
  models: readonly string[];
  firmware: readonly NrasFirmware[];
  /** How old a token may be, in seconds; it also ends when it says so itself. */
  maxAgeSeconds: number;
}

export interface NrasKey {
  kid: string;
  kty: string;
  crv: string;
  x: string;
  y: string;
}

export interface NrasFirmware {
  driverVersion: string;
  vbiosVersion: string;
}

export interface NrasClaims {
  kind: "nras";
  devices: string[];
  gpus: { model: string; driverVersion: string; vbiosVersion: string }[];
  issuedAt: number;
}

export interface NrasQuestion {
  /** What the GPUs were asked to sign, as hex with 0x. */
  nonce: string;
  at: number;
}

const ABOUT = "NVIDIA's token";
const ALGORITHM = "ES384";
/** Between the service's clock and ours. */
const CLOCK_SKEW = 60;

export function verifyNrasToken(
  evidence: NrasToken,
  policy: NrasPolicy,
  question: NrasQuestion,
): Promise<Verdict<NrasClaims>> {
  return verdictOf(
    ABOUT,
    async () => {
      const overall = await claimsOf(evidence.overall, policy, question, ABOUT);
      refuseUnless(
        overall["x-nvidia-overall-att-result"] === true,
        `${ABOUT} says that the attestation failed as a whole. Its parts say why.`,
      );
      const digests = submodulesOf(overall.submods);
      const names = Object.keys(evidence.devices);
      refuseUnless(
        names.length > 0 && names.length === digests.size && names.every((name) => digests.has(name)),
        `${ABOUT} is of ${[...digests.keys()].join(", ") || "nothing"}, and the parts that come with it are ${names.join(", ") || "none"}.`,
      );
      const gpus = [];
      const devices = [];
      for (const [name, token] of Object.entries(evidence.devices)) {
        const about = `${ABOUT} of ${name}`;
        refuseUnless(
          createHash("sha256").update(token).digest("hex") === digests.get(name),
          `${about} isn't the one whose hash the token for all names.`,
        );
        const claims = await claimsOf(token, policy, question, about);
        gpus.push(gpuOf(claims, policy, about));
        devices.push(`nvidia-ueid:${textOf(claims.ueid, `${about}'s ueid`)}`);
      }
      return { kind: "nras" as const, devices, gpus, issuedAt: overall.iat as number };
    },
    ({ gpus }) =>
      `NVIDIA's service verified ${gpus.length} GPU(s) under this nonce: ${gpus.map(({ model }) => model).join(", ")}.`,
  );
}

/**
 * The detached form (EAT) that the service answers with: `[["JWT", token], {"GPU-0": token, …}]`.
 * @throws Refused
 */
export function nrasTokenOf(json: unknown): NrasToken {
  const [overall, devices, ...rest] = Array.isArray(json) ? json : [];
  const [type, token, ...more] = Array.isArray(overall) ? overall : [];
  refuseUnless(
    rest.length === 0 && more.length === 0 && type === "JWT",
    `${ABOUT} must have the form [["JWT", token], {"GPU-0": token, …}].`,
  );
  const names = typeof devices === "object" && devices !== null ? Object.keys(devices) : [];
  const tokens = fieldsOf(devices, names, `${ABOUT}'s list of parts`);
  return {
    overall: textOf(token, `${ABOUT} for all`),
    devices: Object.fromEntries(names.map((name) => [name, textOf(tokens[name], `${ABOUT} of ${name}`)])),
  };
}

type Claims = Record<string, unknown>;

/** Claims that a key of the policy signed, for this nonce, now. */
async function claimsOf(
  token: string,
  policy: NrasPolicy,
  { nonce, at }: NrasQuestion,
  about: string,
): Promise<Claims> {
  const claims = await signedClaims(token, policy.keys, about);
  refuseUnless(
    claims.iss === policy.issuer,
    `${about} was issued by ${shown(claims.iss)}, not by ${shown(policy.issuer)}.`,
  );
  refuseUnless(
    policy.audience === null || claims.aud === policy.audience,
    `${about} is for ${shown(claims.aud)}, not for ${shown(policy.audience)}.`,
  );
  const issuedAt = secondsOf(claims.iat, `${about}'s time of issue`);
  const begins = secondsOf(claims.nbf, `${about}'s beginning`);
  const ends = secondsOf(claims.exp, `${about}'s end`);
  refuseUnless(
    issuedAt <= at + CLOCK_SKEW && begins <= at + CLOCK_SKEW,
    `${about} isn't valid before ${dateOf(Math.max(issuedAt, begins))}, and it is ${dateOf(at)}. Check the clock.`,
  );
  refuseUnless(at < ends, `${about} ended at ${dateOf(ends)}, and it is ${dateOf(at)}. Attest anew.`);
  refuseUnless(
    at - issuedAt <= policy.maxAgeSeconds,
    `${about} is ${at - issuedAt} seconds old, and the policy accepts ${policy.maxAgeSeconds}. Attest anew.`,
  );
  refuseUnless(
    claims.eat_nonce === nonce.slice(2),
    `${about} has the nonce ${shown(claims.eat_nonce)}, and this seed asks for ${nonce.slice(2)}: it was made for something ` +
      `else. Attest again, with the nonce of this seed.`,
  );
  return claims;
}

/** The signature counts before anything that is signed. One algorithm, and only keys that the policy holds. */
async function signedClaims(token: string, keys: readonly NrasKey[], about: string): Promise<Claims> {
  const parts = token.split(".");
  refuseUnless(parts.length === 3, `${about} has ${parts.length} parts where a signed token has 3.`);
  const [head] = parts.map((part) => bytesOfBase64Url(part, about));
  const header = fieldsOf(JSON.parse(head.toString("utf8")), ["alg", "kid", "typ"], `${about}'s header`, ["typ"]);
  refuseUnless(header.alg === ALGORITHM, `${about} is signed by ${shown(header.alg)}; only ${ALGORITHM} is accepted.`);
  const kid = textOf(header.kid, `${about}'s key id`);
  const [key, ...others] = keys.filter((candidate) => candidate.kid === kid);
  undecidedUnless(
    key !== undefined,
    `${about} is signed with the key ${shown(kid)}, which the attestor doesn't have: its policy needs the service's key set of that ` +
      `day. Services change keys.`,
  );
  refuseUnless(others.length === 0, `The attestor's policy has the key ${shown(kid)} twice.`);
  refuseUnless(
    key.kty === "EC" && key.crv === "P-384",
    `The attestor's policy has the key ${shown(kid)} as ${key.kty} ${key.crv}; ${ALGORITHM} needs EC P-384.`,
  );
  const { compactVerify, importJWK } = await import("jose");
  try {
    const { payload } = await compactVerify(token, await importJWK({ ...key }, ALGORITHM), { algorithms: [ALGORITHM] });
    const claims: unknown = JSON.parse(Buffer.from(payload).toString("utf8"));
    refuseUnless(typeof claims === "object" && claims !== null && !Array.isArray(claims), `${about} holds no claims.`);
    return claims as Claims;
  } catch (cause) {
    if (cause instanceof Refused || cause instanceof Undecided) throw cause;
    throw new Refused(`${about} isn't signed by the key ${shown(kid)}: it was altered (${reasonOf(cause)}).`);
  }
}

function secondsOf(value: unknown, about: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new Refused(`${about} is ${shown(value)}, not a time in seconds.`);
  }
  return value;
}

/** `{"GPU-0": ["DIGEST", ["SHA-256", hex]]}` */
function submodulesOf(submods: unknown): Map<string, string> {
  const about = `${ABOUT}'s parts`;
  const names = typeof submods === "object" && submods !== null ? Object.keys(submods) : [];
  const fields = fieldsOf(submods, names, about);
  return new Map(
    names.map((name) => {
      const [kind, digest] = Array.isArray(fields[name]) ? fields[name] : [];
      const [algorithm, value] = Array.isArray(digest) ? digest : [];
      refuseUnless(
        kind === "DIGEST" && algorithm === "SHA-256",
        `${about} name ${name} by something else than its SHA-256.`,
      );
      return [name, textOf(value, `${about}: the hash of ${name}`)];
    }),
  );
}

/** What NVIDIA found, each of which must be so. */
const MUST_BE: Readonly<Record<string, unknown>> = {
  measres: "success",
  secboot: true,
  dbgstat: "disabled",
  "x-nvidia-gpu-arch-check": true,
  "x-nvidia-gpu-attestation-report-parsed": true,
  "x-nvidia-gpu-attestation-report-nonce-match": true,
  "x-nvidia-gpu-attestation-report-signature-verified": true,
  "x-nvidia-gpu-attestation-report-cert-chain-fwid-match": true,
  "x-nvidia-gpu-driver-rim-fetched": true,
  "x-nvidia-gpu-driver-rim-signature-verified": true,
  "x-nvidia-gpu-driver-rim-version-match": true,
  "x-nvidia-gpu-driver-rim-measurements-available": true,
  "x-nvidia-gpu-vbios-rim-fetched": true,
  "x-nvidia-gpu-vbios-rim-signature-verified": true,
  "x-nvidia-gpu-vbios-rim-version-match": true,
  "x-nvidia-gpu-vbios-rim-measurements-available": true,
  "x-nvidia-gpu-vbios-index-no-conflict": true,
};

const CHAINS = [
  "x-nvidia-gpu-attestation-report-cert-chain",
  "x-nvidia-gpu-driver-rim-cert-chain",
  "x-nvidia-gpu-vbios-rim-cert-chain",
];

function gpuOf(claims: Claims, policy: NrasPolicy, about: string) {
  for (const [name, expected] of Object.entries(MUST_BE)) {
    refuseUnless(
      claims[name] === expected,
      `${about} says that ${name} is ${shown(claims[name])}, where ${shown(expected)} is needed.`,
    );
  }
  for (const name of CHAINS) {
    const chain = (claims[name] ?? {}) as Claims;
    refuseUnless(
      chain["x-nvidia-cert-status"] === "valid" && chain["x-nvidia-cert-ocsp-status"] === "good",
      `${about} says that ${name} is ${shown(chain["x-nvidia-cert-status"])} and by OCSP ${shown(chain["x-nvidia-cert-ocsp-status"])}, ` +
        `where "valid" and "good" are needed.`,
    );
  }
  const warning = claims["x-nvidia-attestation-warning"] ?? null;
  refuseUnless(warning === null, `${about} comes with a warning: ${shown(warning)}. Do what it says and attest anew.`);
  const model = textOf(claims.hwmodel, `${about}'s model`);
  refuseUnless(
    policy.models.includes(model),
    `${about} is of a ${shown(model)}, which isn't on the allow-list (${policy.models.join(", ")}).`,
  );
  const driverVersion = textOf(claims["x-nvidia-gpu-driver-version"], `${about}'s driver version`);
  const vbiosVersion = textOf(claims["x-nvidia-gpu-vbios-version"], `${about}'s VBIOS version`);
  undecidedUnless(
    policy.firmware.length > 0,
    `The policy allows no GPU firmware yet, and this GPU runs driver ${driverVersion}.`,
  );
  refuseUnless(
    policy.firmware.some((allowed) => allowed.driverVersion === driverVersion && allowed.vbiosVersion === vbiosVersion),
    `${about}: driver ${shown(driverVersion)} with VBIOS ${shown(vbiosVersion)} isn't on the allow-list ` +
      `(${policy.firmware.map((allowed) => `${allowed.driverVersion} with ${allowed.vbiosVersion}`).join(", ")}).`,
  );
  return { model, driverVersion, vbiosVersion };
}
