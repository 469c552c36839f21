// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC721Receiver} from "@openzeppelin/contracts/token/ERC721/IERC721Receiver.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {TestCurrency} from "../../contracts/mocks/TestCurrency.sol";

/// @title A currency that calls its holders in the middle of a transfer, and that some may not have any more
contract HostileCurrency is TestCurrency {
    mapping(address account => bool) public isBlocked;
    Reenterer private _called;

    error AccountBlocked(address account);

    /// @notice Says whether an account may have it.
    function setBlocked(address account, bool blocked) external {
        isBlocked[account] = blocked;
    }

    /// @notice Has the next transfer call `called`.
    function arm(Reenterer called) external {
        _called = called;
    }

    function _update(address from, address to, uint256 value) internal override {
        require(!isBlocked[from], AccountBlocked(from));
        require(!isBlocked[to], AccountBlocked(to));
        super._update(from, to, value);
        Reenterer called = _called;
        if (address(called) == address(0)) return;
        delete _called;
        called.strike();
    }
}

/// @title A licensee that does something else whenever it is called
contract Reenterer is IERC721Receiver {
    address private _target;
    bytes private _data;

    /// @notice Says what it does when it is called next. It reverts as that does.
    function prepare(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    function strike() public {
        address target = _target;
        if (target == address(0)) return;
        delete _target;
        Address.functionCall(target, _data);
    }

    /// @inheritdoc IERC721Receiver
    function onERC721Received(address, address, uint256, bytes calldata) external returns (bytes4) {
        strike();
        return this.onERC721Received.selector;
    }
}
