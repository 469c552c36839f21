/** What an operator's store has of an entry: its receipts, the requests as their licensees' keys have signed them, and what they asked. */
import { requestProofOf } from "../../oracle/chain/ethersCourt";
import type { ShownRequest } from "../../oracle/disputes/court";
import { sameUsage, zeroUsage } from "../../oracle/protocol/meters";
import { readOnlySqlite } from "../../oracle/store/sqliteDatabase";
import { Store } from "../../oracle/store/store";
import type { StoredReceipt } from "../../oracle/store/receiptRows";
import type { RequestProofStruct } from "../../typechain-types/contracts/DisputeCourt";
import { Problem } from "../support";

/**
 * A license's receipts of a batch.
 * @param file an operator's store, which its processes may have open
 * @throws Problem if it has none
 */
export const receiptsIn = (file: string, batchId: string, licenseId: bigint): Promise<StoredReceipt[]> =>
  inStore(file, (store) => receiptsOf(store, file, batchId, licenseId));

/**
 * What shows that a license's receipts of a batch rest on signed requests, by ascending hash of these signatures. What was charged
 * nothing isn't shown.
 * @throws Problem if the store has no receipts of the license, or lacks what one of them needs
 */
export const requestProofsIn = (file: string, batchId: string, licenseId: bigint): Promise<RequestProofStruct[]> =>
  inStore(file, async (store) => {
    const receipts = await receiptsOf(store, file, batchId, licenseId);
    const charged = receipts.filter(({ receipt }) => !sameUsage(receipt, zeroUsage()));
    const hashes = charged.map(({ receipt }) => receipt.requestSignatureHash);
    const kept = await store.requestSignatures.of(receipts[0].receipt.operatorId, hashes);
    const requests: ShownRequest[] = [];
    for (const { receipt, signature } of charged) {
      const grant = await store.grants.find(receipt.grantHash);
      const requestSignature = kept.get(receipt.requestSignatureHash)?.packed;
      if (grant === null || requestSignature === undefined) {
        const lacking = grant === null ? `grant ${receipt.grantHash}` : "its request's signature";
        throw new Problem(
          `--store ${file} lacks ${lacking} of receipt ${receipt.sequence} of license ${licenseId}: it can't be shown that its ` +
            "licensee asked for it.",
        );
      }
      requests.push({ receipt, signature, grant, requestSignature });
    }
    const bySignature = ({ receipt: a }: ShownRequest, { receipt: b }: ShownRequest) =>
      a.requestSignatureHash < b.requestSignatureHash ? -1 : 1;
    return requests.sort(bySignature).map(requestProofOf);
  });

/**
 * What a request asked, and the salt of its grant.
 * @param receiptHash its receipt's EIP-712 digest
 * @throws Problem if the store lacks one of them
 */
export const inputIn = (file: string, receiptHash: string): Promise<{ input: number[]; salt: string }> =>
  inStore(file, async (store) => {
    const stored = await store.receipts.withHash(receiptHash);
    if (stored === null) throw new Problem(`--store ${file} has no receipt ${receiptHash}: is it another's?`);
    const { requestId, grantHash } = stored.receipt;
    const [input, grant] = await Promise.all([store.disputes.input(requestId), store.grants.find(grantHash)]);
    if (input === null) {
      throw new Problem(
        `--store ${file} hasn't kept what was asked for receipt ${receiptHash}: say --input and --salt. Gateways keep inputs of ` +
          'models whose section says "keepInputs": true.',
      );
    }
    if (grant !== null) return { input: [...input], salt: grant.grant.salt };
    throw new Problem(`--store ${file} lacks grant ${grantHash} of receipt ${receiptHash}: say --input and --salt.`);
  });

async function receiptsOf(store: Store, file: string, batchId: string, licenseId: bigint): Promise<StoredReceipt[]> {
  const receipts = await store.receipts.ofLicense(batchId, licenseId);
  if (receipts.length > 0) return receipts;
  throw new Problem(`--store ${file} has no receipts of license ${licenseId} in batch ${batchId}: is it another's?`);
}

async function inStore<T>(file: string, read: (store: Store) => Promise<T>): Promise<T> {
  const store = new Store(readOnlySqlite(file));
  try {
    return await read(store);
  } finally {
    await store.close();
  }
}
