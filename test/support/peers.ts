/** What others take for like jobs. */
export interface Peer {
  system: string;
  /** Gas, for each license, ticket or task where a call has several. */
  gas: number;
  /** The figures of ours that it stands beside. */
  beside: string[];
}

/**
 * Measured in November 2026 from the systems' own published contracts, on one EVM under the rules of Osaka, with balances and
 * slots that were used before. Of what comes in batches, the largest that was measured stands beside larger ones of ours.
 */
export const PEERS: Peer[] = [
  { system: "0G settleFeesWithTEE, alone", gas: 114_916, beside: ["settle.attested.1"] },
  {
    system: "0G settleFeesWithTEE, of 50",
    gas: 59_695,
    beside: ["settle.attested.50", "settle.attested.200", "settle.attested.1000"],
  },
  { system: "SingularityNET multiChannelClaim, alone", gas: 50_169, beside: ["settle.voucher.1"] },
  { system: "SingularityNET multiChannelClaim, of 10", gas: 27_461, beside: ["settle.voucher.10"] },
  { system: "SingularityNET multiChannelClaim, of 50", gas: 25_042, beside: ["settle.voucher.50"] },
  {
    system: "SingularityNET multiChannelClaim, of 190",
    gas: 24_682,
    beside: ["settle.voucher.200", "settle.voucher.1000"],
  },
  { system: "Swarm chequebook", gas: 73_771, beside: ["settle.voucher.1"] },
  { system: "x402 upto, one payment a call", gas: 82_129, beside: ["settle.voucher.1"] },
  { system: "x402 exact, one payment a call", gas: 86_128, beside: ["settle.voucher.1"] },
  { system: "The Graph Horizon collect", gas: 167_573, beside: ["settle.voucher.1"] },
  { system: "Livepeer ticket, alone", gas: 182_529, beside: ["settle.voucher.1"] },
  { system: "Livepeer ticket, of 50", gas: 81_387, beside: ["settle.voucher.50"] },
  { system: "AntSeed settle", gas: 237_143, beside: ["settle.voucher.1"] },
  { system: "Ocean Escrow lock and claim, alone", gas: 291_114, beside: ["settle.voucher.1"] },
  { system: "Ocean Escrow lock and claim, of 50", gas: 197_286, beside: ["settle.voucher.50"] },
  { system: "Olas request and deliver, alone", gas: 455_007, beside: ["settle.attested.1"] },
  { system: "Olas request and deliver, of 50", gas: 208_394, beside: ["settle.attested.50"] },
  { system: "iExec Boost, a task", gas: 504_399, beside: ["settle.attested.1"] },
  { system: "iExec PoCo, a task", gas: 1_302_445, beside: ["settle.attested.1"] },
  { system: "Morpheus, a session opened and closed", gas: 728_806, beside: ["settle.voucher.1"] },
  { system: "Ocean startOrder", gas: 112_536, beside: ["license.buy"] },
  { system: "Ocean buyFromFreAndOrder", gas: 302_462, beside: ["license.buy"] },
  { system: "Story mintLicenseTokens", gas: 707_203, beside: ["license.buy"] },
  { system: "0G deposit", gas: 53_752, beside: ["escrow.deposit"] },
  { system: "Ocean deposit", gas: 55_000, beside: ["escrow.deposit"] },
  { system: "SingularityNET deposit", gas: 56_041, beside: ["escrow.deposit"] },
  { system: "AntSeed deposit", gas: 61_352, beside: ["escrow.deposit"] },
  { system: "The Graph deposit", gas: 70_871, beside: ["escrow.deposit"] },
  { system: "Story, a royalty paid and pulled", gas: 258_574, beside: ["waterfall.distribute"] },
  { system: "The Graph stake", gas: 72_042, beside: ["stake.add"] },
  { system: "The Graph slash", gas: 97_680, beside: ["stake.slash"] },
];
