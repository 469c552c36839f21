// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {TestCurrency} from "./TestCurrency.sol";

/// @title A currency that tells its EIP-712 domain as USDC does: by name and version, not by ERC-5267
contract CurrencyOfOldDomain is TestCurrency {
    string public version;

    constructor(string memory told) {
        version = told;
    }

    function eip712Domain()
        public
        pure
        override
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        revert("it tells none");
    }
}
