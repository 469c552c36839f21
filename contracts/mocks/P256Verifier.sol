// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ERC7913P256Verifier} from "@openzeppelin/contracts/utils/cryptography/verifiers/ERC7913P256Verifier.sol";

/// @title A verifier of P-256 keys: OpenZeppelin's, which stands on public chains already
contract P256Verifier is ERC7913P256Verifier {}
