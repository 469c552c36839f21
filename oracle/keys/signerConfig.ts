import { ConfigError, parseJson, Section, type Environment } from "../configSection";
import { PURPOSES, type Purpose } from "./digestSigner";
import { keystoreOf, tokenOf, type KeystoreSetting } from "./keySetting";

export interface SignerConfig {
  /** Where it keeps what its attestors' keys have signed. */
  dataFolder: string;
  /** Of this machine alone: a port, or a socket's path. */
  place: { port: number } | { socket: string };
  chainId: bigint;
  escrow: string;
  keys: ServedKey[];
}

export interface ServedKey extends KeystoreSetting {
  /** Who has it may have the key sign. */
  token: string;
  /** What the key signs. */
  purposes: Purpose[];
  /** Whom its transactions may call. */
  calls: string[];
}

/** Reads the configuration of `licet-oracle signer`. @throws ConfigError */
export function parseSignerConfig(text: string, environment: Environment): SignerConfig {
  const root = new Section("", parseJson(text), environment);
  const escrow = root.address("escrow");
  const config = {
    dataFolder: root.text("dataFolder"),
    place: root.has("socket") ? { socket: root.text("socket") } : { port: root.count("port", [0, 65_535], 8_093) },
    chainId: root.id("chainId"),
    escrow,
    keys: root.listOf("keys", "keystore", (key) => servedKeyOf(key, escrow)),
  };
  root.end();
  return config;
}

function servedKeyOf(section: Section, escrow: string): ServedKey {
  const purposes = section.texts("purposes");
  const unknown = purposes.find((purpose) => !(PURPOSES as readonly string[]).includes(purpose));
  if (unknown !== undefined) {
    throw new ConfigError(`${section.at("purposes")} has ${unknown}, which is none of ${PURPOSES.join(", ")}.`);
  }
  return {
    ...keystoreOf(section),
    token: tokenOf(section),
    purposes: purposes as Purpose[],
    calls: section.has("calls") ? section.addresses("calls") : [escrow],
  };
}
