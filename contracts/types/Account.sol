// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {OperatorId, PlanId} from "./Ids.sol";

/// @dev A license's account: everything that settlement reads or writes about a license, in one storage word.
///
/// | bits    | field      | unit                                                       |
/// | ------- | ---------- | ---------------------------------------------------------- |
/// | 0–63    | balance    | currency units                                             |
/// | 64–119  | spent      | currency units, in the running term                        |
/// | 120–127 | cap code   | the licensee's own cap a term, see `capOf`                 |
/// | 128–143 | term       | number of the running term, from 0                         |
/// | 144–175 | plan       | PlanId                                                     |
/// | 176–207 | expiry     | Unix seconds, end of the running term                      |
/// | 208–231 | operator   | OperatorId                                                 |
/// | 232–247 | generation | raised to end all grants                                   |
/// | 248–255 | flags      | see below                                                  |
///
/// | flag | meaning                                                                              |
/// | ---- | ------------------------------------------------------------------------------------ |
/// | 0    | on the voucher road                                                                  |
/// | 1    | something stands in the license's second word, `Aside`: settlement must look at it   |
/// | 2    | doesn't renew                                                                        |
/// | 3    | the term that the word is about is closed: nothing is owed to its minimum any more   |
///
/// The word is zero if and only if the license was never bought: plan ids count from 1.
type Account is uint256;

/// @dev What is rare about a license, in its second storage word.
struct Aside {
    /// From when on there is no new use, in Unix seconds: none of another term than the present one, if it goes over to
    /// another plan then; 0 is never.
    uint40 stoppedAt;
    /// Whether it was stopped for ever, and not for a transfer.
    bool isEnded;
    /// End of the term before the running one, in Unix seconds, while that isn't closed; else 0.
    uint40 endedAt;
    /// Currency units that were spent in that term.
    uint56 endedSpent;
    /// The plan that it goes over to when it stops; 0 is none.
    PlanId nextPlanId;
    /// The plan of the term before, if that is another than the account's; else 0.
    PlanId formerPlanId;
}

using AccountLib for Account global;

library AccountLib {
    uint256 internal constant MAX_BALANCE = type(uint64).max;
    uint256 internal constant MAX_SPENT = type(uint56).max;

    uint256 private constant SPENT = 64;
    uint256 private constant CAP_CODE = 120;
    uint256 private constant TERM = 128;
    uint256 private constant PLAN = 144;
    uint256 private constant EXPIRY = 176;
    uint256 private constant OPERATOR = 208;
    uint256 private constant GENERATION = 232;
    uint256 private constant VOUCHER_ROAD = 1 << 248;
    uint256 private constant ASIDE = 1 << 249;
    uint256 private constant NOT_RENEWING = 1 << 250;
    uint256 private constant CLOSED = 1 << 251;

    /// @dev Plan, operator and road: what must be as a batch says for the batch to charge an account.
    uint256 private constant PARTY_MASK =
        (uint256(type(uint32).max) << PLAN) | (uint256(type(uint24).max) << OPERATOR) | VOUCHER_ROAD;

    function opened(PlanId plan, OperatorId operator, uint256 expiry, uint8 code) internal pure returns (Account) {
        return
            Account.wrap(
                attestedParties(plan, operator) | (uint256(uint32(expiry)) << EXPIRY) | (uint256(code) << CAP_CODE)
            );
    }

    function exists(Account account) internal pure returns (bool) {
        return Account.unwrap(account) != 0;
    }

    function balance(Account account) internal pure returns (uint256) {
        return uint64(Account.unwrap(account));
    }

    function spent(Account account) internal pure returns (uint256) {
        return uint56(Account.unwrap(account) >> SPENT);
    }

    function capCode(Account account) internal pure returns (uint256) {
        return uint8(Account.unwrap(account) >> CAP_CODE);
    }

    function term(Account account) internal pure returns (uint256) {
        return uint16(Account.unwrap(account) >> TERM);
    }

    function planId(Account account) internal pure returns (PlanId) {
        return PlanId.wrap(uint32(Account.unwrap(account) >> PLAN));
    }

    function expiresAt(Account account) internal pure returns (uint256) {
        return uint32(Account.unwrap(account) >> EXPIRY);
    }

    /// @dev Whether `time` is within the running term, if terms have that length.
    function isInTerm(Account account, uint256 time, uint256 termPeriod) internal pure returns (bool) {
        unchecked {
            // At or after the expiry, this wraps around to more than any period.
            return account.expiresAt() - time - 1 < termPeriod;
        }
    }

    function operatorId(Account account) internal pure returns (OperatorId) {
        return OperatorId.wrap(uint24(Account.unwrap(account) >> OPERATOR));
    }

    function generation(Account account) internal pure returns (uint256) {
        return uint16(Account.unwrap(account) >> GENERATION);
    }

    function onVoucherRoad(Account account) internal pure returns (bool) {
        return Account.unwrap(account) & VOUCHER_ROAD != 0;
    }

    function hasAside(Account account) internal pure returns (bool) {
        return Account.unwrap(account) & ASIDE != 0;
    }

    function isRenewing(Account account) internal pure returns (bool) {
        return Account.unwrap(account) & NOT_RENEWING == 0;
    }

    function isClosed(Account account) internal pure returns (bool) {
        return Account.unwrap(account) & CLOSED != 0;
    }

    /// @dev The parties of an account, to compare with `attestedParties` or `voucherParties`.
    function parties(Account account) internal pure returns (uint256) {
        return Account.unwrap(account) & PARTY_MASK;
    }

    /// @dev As `parties`, and whether something stands aside: equal to the parties of a batch only where nothing does.
    function partiesAndAside(Account account) internal pure returns (uint256) {
        return Account.unwrap(account) & (PARTY_MASK | ASIDE);
    }

    function attestedParties(PlanId plan, OperatorId operator) internal pure returns (uint256) {
        return (uint256(PlanId.unwrap(plan)) << PLAN) | (uint256(OperatorId.unwrap(operator)) << OPERATOR);
    }

    function voucherParties(PlanId plan, OperatorId operator) internal pure returns (uint256) {
        return attestedParties(plan, operator) | VOUCHER_ROAD;
    }

    /// @dev `amount` is at most MAX_BALANCE.
    function withBalance(Account account, uint256 amount) internal pure returns (Account) {
        return Account.wrap((Account.unwrap(account) & ~MAX_BALANCE) | amount);
    }

    /// @dev `amount` is at most MAX_SPENT.
    function withSpent(Account account, uint256 amount) internal pure returns (Account) {
        return Account.wrap((Account.unwrap(account) & ~(MAX_SPENT << SPENT)) | (amount << SPENT));
    }

    function withCapCode(Account account, uint8 code) internal pure returns (Account) {
        uint256 cleared = Account.unwrap(account) & ~(uint256(type(uint8).max) << CAP_CODE);
        return Account.wrap(cleared | (uint256(code) << CAP_CODE));
    }

    function withGeneration(Account account, uint16 value) internal pure returns (Account) {
        uint256 cleared = Account.unwrap(account) & ~(uint256(type(uint16).max) << GENERATION);
        return Account.wrap(cleared | (uint256(value) << GENERATION));
    }

    function withPlan(Account account, PlanId plan) internal pure returns (Account) {
        uint256 cleared = Account.unwrap(account) & ~(uint256(type(uint32).max) << PLAN);
        return Account.wrap(cleared | (uint256(PlanId.unwrap(plan)) << PLAN));
    }

    function withService(Account account, OperatorId operator, bool voucherRoad) internal pure returns (Account) {
        uint256 cleared = Account.unwrap(account) & ~((uint256(type(uint24).max) << OPERATOR) | VOUCHER_ROAD);
        uint256 road = voucherRoad ? VOUCHER_ROAD : 0;
        return Account.wrap(cleared | (uint256(OperatorId.unwrap(operator)) << OPERATOR) | road);
    }

    function withAside(Account account, bool present) internal pure returns (Account) {
        return _withFlag(account, ASIDE, present);
    }

    function withRenewing(Account account, bool renews) internal pure returns (Account) {
        return _withFlag(account, NOT_RENEWING, !renews);
    }

    function withClosed(Account account, bool closed) internal pure returns (Account) {
        return _withFlag(account, CLOSED, closed);
    }

    /// @dev The account as it was in the term that ended at `endedAt` with `endedSpent` spent, but with today's balance.
    function inEndedTerm(Account account, uint256 endedAt, uint256 endedSpent) internal pure returns (Account) {
        uint256 cleared = Account.unwrap(account) & ~((MAX_SPENT << SPENT) | (uint256(type(uint32).max) << EXPIRY));
        unchecked {
            // Only the terms that a license starts are counted, and `renewed` counted one from that term to this.
            cleared = (cleared & ~(uint256(type(uint16).max) << TERM)) | (uint256(uint16(account.term() - 1)) << TERM);
        }
        return Account.wrap(cleared | (endedSpent << SPENT) | (uint256(uint32(endedAt)) << EXPIRY));
    }

    /// @dev Moves `amount` from balance to spent. It is at most the balance and at most MAX_SPENT − spent, so neither
    /// field can borrow from or carry into its neighbour.
    function charged(Account account, uint256 amount) internal pure returns (Account) {
        unchecked {
            return Account.wrap(Account.unwrap(account) + (amount << SPENT) - amount);
        }
    }

    /// @dev Starts the term that ends at `newExpiry`, `terms` terms after the running one: nothing of it is spent.
    /// Terms are counted modulo 2^16: terms of a day wrap after 179 years.
    function renewed(Account account, uint256 terms, uint256 newExpiry) internal pure returns (Account) {
        unchecked {
            uint256 cleared =
                Account.unwrap(account) &
                    ~((MAX_SPENT << SPENT) |
                        (uint256(type(uint16).max) << TERM) |
                        (uint256(type(uint32).max) << EXPIRY));
            uint256 number = uint16(account.term() + terms);
            return Account.wrap(cleared | (number << TERM) | (uint256(uint32(newExpiry)) << EXPIRY));
        }
    }

    /// @dev The cap that a code stands for, in currency units, where `unit` is one whole unit of the currency: none
    /// (the highest number) for 0, else (8 | code & 7) << (code >> 3) whole units, so 9 to 32 billion in steps of
    /// at most an eighth.
    function capOf(uint256 code, uint256 unit) internal pure returns (uint256) {
        return code == 0 ? type(uint256).max : ((8 | (code & 7)) << (code >> 3)) * unit;
    }

    function _withFlag(Account account, uint256 flag, bool isSet) private pure returns (Account) {
        uint256 word = Account.unwrap(account);
        return Account.wrap(isSet ? word | flag : word & ~flag);
    }
}
