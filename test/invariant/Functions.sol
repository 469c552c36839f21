// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {Market} from "./Market.sol";
import {say, VM} from "./Vm.sol";

/// @title Every function that changes anything, as the compiler lists them, and how often each was called
/// @dev Counted from `_listFunctions` on: what sets a market up doesn't count.
abstract contract Functions is Market {
    uint256 private constant SUBJECTS = 11;
    string private constant CHANGING =
        "$.abi[?(@.type == 'function' && @.stateMutability != 'view' && @.stateMutability != 'pure')].name";

    struct Function {
        uint256 subject;
        string name;
        /// Whether nobody may call it but another contract of the market's, or nobody at all.
        bool isSealed;
        uint256 landed;
        uint256 refused;
    }

    Function[] internal functions;
    /// @dev Where a function of a contract stands among them, from 1 on.
    mapping(address target => mapping(bytes4 selector => uint256)) private _places;

    function _subjects() private pure returns (string[SUBJECTS] memory) {
        return
            [
                "UsageEscrow",
                "LicenseRegistry",
                "AssetRegistry",
                "OperatorRegistry",
                "PerformanceStaking",
                "RevenueWaterfall",
                "CommitteeAttestor",
                "DisputeCourt",
                "ReportCourt",
                "Timelock",
                "Authority"
            ];
    }

    function _listFunctions() internal {
        string[SUBJECTS] memory names = _subjects();
        address[SUBJECTS] memory targets = [
            address(escrow),
            address(licenses),
            address(assets),
            address(operators),
            address(staking),
            address(waterfall),
            address(committee),
            address(court),
            address(reports),
            address(timelock),
            address(authority)
        ];
        for (uint256 i; i < SUBJECTS; ++i) {
            string memory path = string.concat("cache/forge/out/", names[i], ".sol/", names[i], ".json");
            string memory artifact = VM.readFile(path);
            string[] memory changing = abi.decode(VM.parseJson(artifact, CHANGING), (string[]));
            string[] memory signatures = VM.parseJsonKeys(artifact, "$.methodIdentifiers");
            for (uint256 j; j < signatures.length; ++j) {
                string memory name = _nameOf(signatures[j]);
                if (_isAmong(changing, name)) _list(i, targets[i], name, bytes4(keccak256(bytes(signatures[j]))));
            }
        }
    }

    function _list(uint256 subject, address target, string memory name, bytes4 selector) private {
        functions.push(Function(subject, name, _isSealed(target, selector), 0, 0));
        _places[target][selector] = functions.length;
        if (target == address(committee)) _places[address(lone)][selector] = functions.length;
    }

    /// @dev Functions of UsageEscrow's role and of the courts', and whatever would rewire the market. Nobody has a role with a delay
    /// of its own.
    function _isSealed(address target, bytes4 selector) private view returns (bool) {
        if (target == address(authority)) {
            return
                selector != IAccessManager.grantRole.selector &&
                selector != IAccessManager.revokeRole.selector &&
                selector != IAccessManager.renounceRole.selector &&
                selector != IAccessManager.execute.selector &&
                selector != Multicall.multicall.selector;
        }
        uint64 role = authority.getTargetFunctionRole(target, selector);
        return role == ESCROW_ROLE || role == COURT_ROLE || selector == IAccessManaged.setAuthority.selector;
    }

    /// @inheritdoc Market
    function _heed(address target, bytes memory call, bool landed) internal override {
        uint256 place = _places[target][bytes4(call)];
        if (place == 0) return;
        Function storage function_ = functions[place - 1];
        if (landed) ++function_.landed;
        else ++function_.refused;
    }

    /// @dev No function is left out: each one has landed, and what is sealed was tried in vain.
    /// @param sums How often each has landed, and was refused
    function _requireCovered(uint256[] memory sums) internal view {
        for (uint256 i; i < functions.length; ++i) {
            Function storage function_ = functions[i];
            (uint256 landed, uint256 refused) = (sums[2 * i], sums[2 * i + 1]);
            if (function_.isSealed) {
                require(landed == 0, string.concat("11: somebody called ", _titleOf(function_)));
                require(refused > 0, string.concat("the campaign idled: nobody tried ", _titleOf(function_)));
            } else {
                require(landed > 0, string.concat("the campaign idled: nobody called ", _titleOf(function_)));
            }
        }
    }

    /// @dev A line a contract.
    function _tellFunctions(uint256[] memory sums) internal view {
        string[SUBJECTS] memory names = _subjects();
        say("calls of each function, landed/refused:");
        for (uint256 i; i < SUBJECTS; ++i) {
            string memory line = string.concat(names[i], ":");
            for (uint256 j; j < functions.length; ++j) {
                if (functions[j].subject != i) continue;
                string memory counts = string.concat(VM.toString(sums[2 * j]), "/", VM.toString(sums[2 * j + 1]));
                line = string.concat(line, " ", functions[j].name, " ", counts);
            }
            say(line);
        }
    }

    function _titleOf(Function storage function_) private view returns (string memory) {
        return string.concat(_subjects()[function_.subject], ".", function_.name);
    }

    /// @dev What stands before the parenthesis.
    function _nameOf(string memory signature) private pure returns (string memory) {
        bytes memory all = bytes(signature);
        uint256 length;
        while (all[length] != "(") ++length;
        bytes memory name = new bytes(length);
        for (uint256 i; i < length; ++i) name[i] = all[i];
        return string(name);
    }

    function _isAmong(string[] memory names, string memory name) private pure returns (bool) {
        for (uint256 i; i < names.length; ++i) {
            if (keccak256(bytes(names[i])) == keccak256(bytes(name))) return true;
        }
        return false;
    }
}
