import { newKeystore, readPassword } from "../oracle/keys/keystore";
import { defineTask, text } from "./support";

export interface NewKey {
  /** Where the keystore is written. */
  keystore: string;
  passwordFile: string;
}

/** Makes a key, in a keystore that its password encrypts. Nothing shows the key itself. */
export async function newKey({ keystore, passwordFile }: NewKey): Promise<{ address: string; keystore: string }> {
  return { address: await newKeystore(keystore, readPassword(passwordFile)), keystore };
}

defineTask<NewKey, object>(
  "key:new",
  {
    about: "Makes a key, in an encrypted keystore, and shows its address",
    example: "--keystore signing-key.json --password-file password",
    parameters: {
      keystore: text("The keystore, a file that isn't there yet"),
      passwordFile: text("The file that holds its password, of 12 characters or more"),
    },
  },
  {},
  (_hre, args) => newKey(args),
);
