/** What integrators use on a licensee's side. */
export { connectLicensee, licetFetch, type LicetFetch, type LicetFetchConfig } from "./licetFetch";
export { mintGrant, type GrantTerms, type MintedGrant } from "./mintGrant";
export { checkReceipts, type Charge, type CheckedReceipts } from "./receiptCheck";
export { listReceipts, type ListedReceipt } from "./receiptList";
export type { LicenseeChain, VoucherLimits } from "./voucherSigner";
