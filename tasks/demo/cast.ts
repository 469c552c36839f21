import { parseEther, Wallet, type HDNodeWallet } from "ethers";
import type { HardhatRuntimeEnvironment } from "hardhat/types";
import type { AddressBook } from "../../deploy/addressBook";
import { DEFAULT_BOND, DEFAULT_PARAMETERS, deployLicet } from "../../deploy/deploy";
import { sessionOf, type Session } from "../support";

/** Who plays which part: numbers of the network's accounts. */
const ACCOUNTS = {
  deployer: 0,
  publisher: 1,
  operator: 2,
  licensee: 3,
  secondLicensee: 4,
  treasury: 5,
  outsider: 6,
  subscriber: 10,
  buyer: 11,
  curator: 12,
  tuner: 13,
  integrator: 14,
  backer: 15,
  cheat: 16,
};
const ATTESTOR_ACCOUNTS = [7, 8, 9];

/** An attestor: who owns its licenses and is paid, and the key that signs for it. */
export interface AttestorPart {
  session: Session;
  wallet: HDNodeWallet;
}

export type Cast = Record<keyof typeof ACCOUNTS, Session> & {
  book: AddressBook;
  attestors: AttestorPart[];
  /** Signs the operator's receipts. */
  receiptKey: HDNodeWallet;
  /** Sends the operator's settlements. */
  settlerKey: HDNodeWallet;
};

/** Deploys a market with short epochs and brings everybody on, with keys and with ether for gas. */
export async function castOf(hre: HardhatRuntimeEnvironment): Promise<Cast> {
  const signers = await hre.ethers.getSigners();
  const wallets = ATTESTOR_ACCOUNTS.map(() => Wallet.createRandom());
  const governance = signers[ACCOUNTS.deployer].address;
  const windowPeriod = 2 * HOUR;
  const book = await deployLicet(hre, {
    ...DEFAULT_PARAMETERS,
    treasury: signers[ACCOUNTS.treasury].address,
    governor: governance,
    guardian: governance,
    epochPeriod: HOUR,
    windowPeriod,
    stakeThawPeriod: 30 * DAY + windowPeriod,
    committee: {
      members: wallets.map(({ address }, i) => ({
        signer: address,
        weight: 1,
        payee: signers[ATTESTOR_ACCOUNTS[i]].address,
      })),
      threshold: 2,
      bond: DEFAULT_BOND,
    },
  });

  const settlerKey = Wallet.createRandom();
  await signers[ACCOUNTS.operator].sendTransaction({ to: settlerKey.address, value: parseEther("10") });
  const sessions = await Promise.all(
    Object.entries(ACCOUNTS).map(async ([part, account]) => [part, await sessionOf(hre, book, account)] as const),
  );
  const attestors = await Promise.all(
    wallets.map(async (wallet, i) => ({ wallet, session: await sessionOf(hre, book, ATTESTOR_ACCOUNTS[i]) })),
  );
  return {
    ...(Object.fromEntries(sessions) as Record<keyof typeof ACCOUNTS, Session>),
    book,
    attestors,
    receiptKey: Wallet.createRandom(),
    settlerKey,
  };
}

export const HOUR = 3600;
export const DAY = 24 * HOUR;
