import { localSigner, type DigestSigner } from "./digestSigner";
import type { KeySetting } from "./keySetting";
import { openKeystore } from "./keystore";
import { remoteSigner } from "./remoteSigner";

/** The key that a setting is of. @throws Problem if a keystore can't be opened; a signer isn't asked yet */
export async function openKey(setting: KeySetting): Promise<DigestSigner> {
  if ("privateKey" in setting) return localSigner(setting.privateKey);
  return "keystore" in setting ? openKeystore(setting.keystore, setting.password) : remoteSigner(setting);
}

/** Where it is, for people. */
export function describeKey(setting: KeySetting): string {
  if ("privateKey" in setting) return "in the environment";
  return "keystore" in setting ? `in keystore ${setting.keystore}` : `with the signer at ${setting.url}`;
}
