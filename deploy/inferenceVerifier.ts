/** Deploys the verifier of inference proofs: the one generated for the shipped model's architecture, and its adapter. */
import { ContractFactory, type Signer } from "ethers";
import type { Artifacts } from "hardhat/types";
import { UltraHonkInferenceVerifier__factory, type UltraHonkInferenceVerifier } from "../typechain-types";
import { isLocalChain } from "./deploy";
import { Problem } from "../oracle/problem";
import { DIGITS, type Architecture } from "../zk/architecture";
import { CANONICAL_POWER_IN_G2, DEVELOPMENT_SETUP, loadPowers, setupIdOf } from "../zk/setup/files";
import { verifierName } from "../zk/verifierContract";

export interface VerifierDeployment {
  architecture: Architecture;
  /** What models of the architecture point to. */
  verifier: UltraHonkInferenceVerifier;
  /** The generated contract behind it. */
  honk: string;
  setupId: string;
}

/** @throws Problem on a chain that isn't local, if the verifier was generated with a setup made for development */
export async function deployInferenceVerifier(
  artifacts: Artifacts,
  deployer: Signer,
  architecture: Architecture = DIGITS,
): Promise<VerifierDeployment> {
  const name = verifierName(architecture);
  const { abi, bytecode } = await artifacts.readArtifact(name);
  const setupId = setupOf(name, bytecode);
  const { chainId } = await deployer.provider!.getNetwork();
  requireSetup(setupId, chainId);
  const honk = await new ContractFactory(abi, bytecode, deployer).deploy();
  await honk.waitForDeployment();
  const factory = new UltraHonkInferenceVerifier__factory(deployer);
  const verifier = await factory.deploy(await honk.getAddress(), setupId);
  await verifier.waitForDeployment();
  return { architecture, verifier, honk: await honk.getAddress(), setupId };
}

/** @throws Problem if the setup isn't one for this chain */
export function requireSetup(setupId: string, chainId: bigint): void {
  if (isLocalChain(chainId) || setupId === setupIdOf(CANONICAL_POWER_IN_G2)) return;
  throw new Problem(
    `The verifier was generated with a setup made for development (${setupId}), and chain ${chainId} isn't a local one: ` +
      "whoever made that setup could prove what isn't true. Generate it anew with Aztec's, as docs/trust.md says.",
  );
}

/** By the words that the verifier's code holds. */
function setupOf(name: string, bytecode: string): string {
  const known = [CANONICAL_POWER_IN_G2, loadPowers(DEVELOPMENT_SETUP).powerInG2];
  const found = known.find((powerInG2) => wordsOf(powerInG2).every((word) => bytecode.includes(word)));
  if (found !== undefined) return setupIdOf(found);
  throw new Problem(`${name} holds no setup that is known here: generate it anew, by zk:verifier.`);
}

function wordsOf(powerInG2: Uint8Array): string[] {
  const hex = Buffer.from(powerInG2).toString("hex");
  return [0, 1, 2, 3].map((at) => hex.slice(at * 64, at * 64 + 64).replace(/^(00)+/, ""));
}
