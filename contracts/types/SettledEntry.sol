// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {BatchHeader} from "../interfaces/IUsageEscrow.sol";
import {LicenseId} from "./Ids.sol";

/// @dev One license's entry of a settled batch, with what shows it to the chain.
struct SettledEntry {
    BatchHeader header;
    /// All entries of the batch, packed as they were settled.
    bytes entries;
    /// As the batch's event has them, where some entry wasn't charged in full; else they may be left out.
    bytes outcomes;
    LicenseId licenseId;
}
