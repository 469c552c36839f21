// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Account, AccountLib} from "../types/Account.sol";
import {OperatorId, PlanId} from "../types/Ids.sol";

/// @title Account, for tests to call
contract AccountHarness {
    struct Fields {
        bool exists;
        uint256 balance;
        uint256 spent;
        uint256 capCode;
        uint256 term;
        PlanId planId;
        uint256 expiresAt;
        OperatorId operatorId;
        uint256 generation;
        bool onVoucherRoad;
        bool hasAside;
        bool isRenewing;
        bool isClosed;
        uint256 parties;
    }

    function fieldsOf(Account account) external pure returns (Fields memory) {
        return
            Fields({
                exists: account.exists(),
                balance: account.balance(),
                spent: account.spent(),
                capCode: account.capCode(),
                term: account.term(),
                planId: account.planId(),
                expiresAt: account.expiresAt(),
                operatorId: account.operatorId(),
                generation: account.generation(),
                onVoucherRoad: account.onVoucherRoad(),
                hasAside: account.hasAside(),
                isRenewing: account.isRenewing(),
                isClosed: account.isClosed(),
                parties: account.parties()
            });
    }

    function opened(PlanId plan, OperatorId operator, uint256 expiry, uint8 code) external pure returns (Account) {
        return AccountLib.opened(plan, operator, expiry, code);
    }

    function attestedParties(PlanId plan, OperatorId operator) external pure returns (uint256) {
        return AccountLib.attestedParties(plan, operator);
    }

    function withBalance(Account account, uint256 amount) external pure returns (Account) {
        return account.withBalance(amount);
    }

    function withSpent(Account account, uint256 amount) external pure returns (Account) {
        return account.withSpent(amount);
    }

    function withCapCode(Account account, uint8 code) external pure returns (Account) {
        return account.withCapCode(code);
    }

    function withGeneration(Account account, uint16 value) external pure returns (Account) {
        return account.withGeneration(value);
    }

    function withService(Account account, OperatorId operator, bool voucherRoad) external pure returns (Account) {
        return account.withService(operator, voucherRoad);
    }

    function withAside(Account account, bool present) external pure returns (Account) {
        return account.withAside(present);
    }

    function withRenewing(Account account, bool renews) external pure returns (Account) {
        return account.withRenewing(renews);
    }

    function withClosed(Account account, bool closed) external pure returns (Account) {
        return account.withClosed(closed);
    }

    function inEndedTerm(Account account, uint256 endedAt, uint256 endedSpent) external pure returns (Account) {
        return account.inEndedTerm(endedAt, endedSpent);
    }

    function charged(Account account, uint256 amount) external pure returns (Account) {
        return account.charged(amount);
    }

    function renewed(Account account, uint256 terms, uint256 newExpiry) external pure returns (Account) {
        return account.renewed(terms, newExpiry);
    }

    function capOf(uint256 code, uint256 unit) external pure returns (uint256) {
        return AccountLib.capOf(code, unit);
    }
}
