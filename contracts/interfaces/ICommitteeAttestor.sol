// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAttestor} from "./IAttestor.sol";

/// @title k-of-n attestors, each of whom is paid for the batches that it signed
interface ICommitteeAttestor is IAttestor {
    /// @param signer An ERC-7913 signer: an address, or a verifier's address and a key
    /// @param payee Who may withdraw what the member earns
    struct Member {
        bytes signer;
        address payee;
    }

    event IncomeShared(bytes32 indexed batchId, uint48 signers, uint256 amount);
    event IncomeWithdrawn(address indexed payee, address indexed to, uint256 amount);

    error CommitteeTooLarge(uint256 members, uint256 most);
    error IncomeEmpty(address payee);
    error PayeeZero(bytes signer);
    error ThresholdNotMajority(uint256 threshold, uint256 members);

    /// @notice Collects the committee's share of a released batch and credits it in equal parts to those who signed;
    /// what doesn't divide goes to the first of them. Anyone may call this.
    function shareIncome(bytes32 batchId) external returns (uint256 amount);

    /// @notice Sends all that the caller has earned to `to`.
    function withdraw(address to) external returns (uint256 amount);

    function members() external view returns (Member[] memory);

    /// @notice What a payee has earned and not yet withdrawn, in currency units.
    function incomeOf(address payee) external view returns (uint256);
}
