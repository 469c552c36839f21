import { writeFileSync } from "node:fs";
import { Wallet } from "ethers";
import { Problem, reasonOf } from "../problem";
import { localSigner, type LocalSigner } from "./digestSigner";
import { readSecretFile } from "./secretFile";

const LEAST_PASSWORD = 12;

/**
 * The key in an encrypted keystore (Web3 Secret Storage, version 3).
 * @throws Problem if the file can't be read, everybody can read it, it is no keystore, or the password is another's
 */
export async function openKeystore(file: string, password: string): Promise<LocalSigner> {
  const json = readSecretFile(file, "Keystore");
  const wallet = await Wallet.fromEncryptedJson(json, password).catch((cause: Error) => {
    // Parsers repeat what they can't read, and that may be a bare key: they aren't quoted.
    throw /incorrect password/.test(cause.message)
      ? new Problem(`Keystore ${file} doesn't open with its password: check which password it was made with.`)
      : new Problem(`Keystore ${file} is none: name a file of Web3 Secret Storage, version 3, such as key:new makes.`);
  });
  return localSigner(wallet.privateKey);
}

/** @throws Problem if the file can't be read, everybody can read it, or it is empty */
export function readPassword(file: string): string {
  const password = readSecretFile(file, "Password file").replace(/\r?\n$/, "");
  if (password !== "") return password;
  throw new Problem(`Password file ${file} is empty: write the password into it.`);
}

/**
 * Makes a key, and a keystore with it that only this user can read.
 * @returns the key's address
 * @throws Problem if the file is there already or can't be written, or the password is short
 */
export async function newKeystore(file: string, password: string): Promise<string> {
  if (password.length < LEAST_PASSWORD) {
    throw new Problem(`The password has ${password.length} characters: take ${LEAST_PASSWORD} or more.`);
  }
  const wallet = Wallet.createRandom();
  const json = await new Wallet(wallet.privateKey).encrypt(password);
  try {
    writeFileSync(file, json, { flag: "wx", mode: 0o600 });
  } catch (cause) {
    throw new Problem(`Keystore ${file} can't be written (${reasonOf(cause)}): name a new file in a folder of yours.`, {
      cause,
    });
  }
  return wallet.address;
}
