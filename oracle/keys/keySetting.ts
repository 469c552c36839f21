import { ConfigError, type Section } from "../configSection";
import { Problem } from "../problem";
import { readSecretFile } from "./secretFile";

/** Where a key is: here, in an encrypted keystore, or with a signer that never gives it away. */
export type KeySetting = { privateKey: string } | KeystoreSetting | SignerSetting;

export interface KeystoreSetting {
  keystore: string;
  password: string;
}

export interface SignerSetting {
  /** Its root, or `unix:` and the path of its socket. */
  url: string;
  /** Of the key that it is to sign with. */
  address: string;
  token: string;
}

/**
 * A key, by one of
 *
 *     "keyVariable": "NAME"                                          an environment variable that holds the key itself
 *     "key": { "keystore": FILE, "passwordFile": FILE }              or "passwordVariable"
 *     "key": { "signer": { "url": …, "address": …, "tokenFile": FILE } }   or "tokenVariable"
 *
 * @param name `key` or another name that stands in its place
 * @throws ConfigError
 */
export function keySettingOf(section: Section, name: string): KeySetting {
  const variable = `${name}Variable`;
  const found = section.optional(name, (key) =>
    key.has("signer") ? key.optional("signer", signerOf)! : keystoreOf(key),
  );
  if (found === undefined) return { privateKey: section.privateKey(variable) };
  if (!section.has(variable)) return found;
  throw new ConfigError(`${section.at(name)} and ${section.at(variable)} both name a key: leave one of them out.`);
}

/** A keystore and its password. @throws ConfigError */
export function keystoreOf(section: Section): KeystoreSetting {
  return { keystore: section.text("keystore"), password: secretOf(section, "password") };
}

/** A secret that an environment variable or a file holds, without the file's last line end. @throws ConfigError */
export function secretOf(section: Section, name: string): string {
  const file = `${name}File`;
  const variable = `${name}Variable`;
  if (!section.has(file)) return section.secret(variable);
  if (section.has(variable)) {
    throw new ConfigError(`${section.at(file)} and ${section.at(variable)} both name a secret: leave one of them out.`);
  }
  const secret = inSection(section.at(file), () => readSecretFile(section.text(file), "The file"));
  if (secret.trim() !== "") return secret.replace(/\r?\n$/, "");
  throw new ConfigError(`${section.at(file)} names ${section.text(file)}, which is empty.`);
}

function inSection<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof Problem) throw new ConfigError(`${place}: ${cause.message}`, { cause });
    throw cause;
  }
}

/** As long as nobody guesses it, and fit for a header. */
const TOKEN = /^[\x21-\x7e]{32,}$/;

/** What a signer knows its callers by. @throws ConfigError */
export function tokenOf(section: Section): string {
  const token = secretOf(section, "token");
  if (TOKEN.test(token)) return token;
  throw new ConfigError(
    `${section.at("token")}: its file or variable must hold 32 or more letters and digits: openssl rand -hex 32.`,
  );
}

const HERE = ["localhost", "127.0.0.1", "[::1]"];
const SOCKET = /^unix:\/./;

function signerOf(section: Section): SignerSetting {
  const url = section.text("url");
  if (!SOCKET.test(url)) {
    section.url("url");
    const { protocol, hostname } = new URL(url);
    if (protocol !== "https:" && !HERE.includes(hostname)) {
      throw new ConfigError(`${section.at("url")} is ${hostname}'s: from another machine, keys sign by https only.`);
    }
  }
  return { url: url.replace(/\/+$/, ""), address: section.address("address"), token: tokenOf(section) };
}
