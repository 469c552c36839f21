import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Problem } from "../oracle/problem";

/** Where a deployment's contracts are: the content of `deployments/<network>.json`. */
export interface AddressBook {
  chainId: string;
  /** The block from which on its events are. */
  block: number;
  contracts: {
    TestCurrency?: string;
    Authority: string;
    Timelock: string;
    AssetRegistry: string;
    LicenseRegistry: string;
    OperatorRegistry: string;
    PerformanceStaking: string;
    RevenueWaterfall: string;
    UsageEscrow: string;
    ReportCourt: string;
    DisputeCourt: string;
    CommitteeAttestor: string;
  };
  /** The currency of the market: `TestCurrency`, or what was there before. */
  currency: string;
  parameters: Record<string, string>;
}

export const addressBookPath = (root: string, network: string) => path.join(root, "deployments", `${network}.json`);

export function writeAddressBook(root: string, network: string, book: AddressBook): string {
  const file = addressBookPath(root, network);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(book, null, 2)}\n`);
  return file;
}

/** @throws Problem if there is no deployment on that network, with what to do */
export function readAddressBook(root: string, network: string): AddressBook {
  const file = addressBookPath(root, network);
  try {
    return JSON.parse(readFileSync(file, "utf8")) as AddressBook;
  } catch (cause) {
    throw new Problem(
      `There is no readable address book at ${file}: deploy first, with \`npx hardhat deploy --network ${network}\`.`,
      { cause },
    );
  }
}
