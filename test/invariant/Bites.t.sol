// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {IAssetRegistry} from "../../contracts/interfaces/IAssetRegistry.sol";
import {ChallengeStatus, IDisputeCourt} from "../../contracts/interfaces/IDisputeCourt.sol";
import {IPerformanceStaking} from "../../contracts/interfaces/IPerformanceStaking.sol";
import {BatchStatus, IUsageEscrow, LicenseStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {AssetId, LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Parts} from "./Market.sol";
import {Campaign} from "./Money.t.sol";
import {VM} from "./Vm.sol";

/// @title Each invariant's check sees what it is there to see
/// @dev A contract says one thing that isn't so, and the campaign stops for just that.
contract BitesTest {
    OperatorId private constant OPERATOR = OperatorId.wrap(1);
    LicenseId private constant LICENSE = LicenseId.wrap(1);
    address private constant OPERATOR_OWNER = address(0xC001);

    Campaign private _campaign;
    Parts private _parts;

    function setUp() external {
        _campaign = Campaign(VM.deployCode("Money.t.sol:Campaign", abi.encode("BITES")));
        _parts = _campaign.parts();
    }

    function test_NothingIsAmissAtFirst() external view {
        _campaign.requireEverything();
    }

    function test_Invariant1IsChecked() external {
        bytes memory call = abi.encodeCall(IERC20.balanceOf, (address(_parts.escrow)));
        _lie(address(_parts.currency), call, abi.encode(0), "1: the escrow holds more or less than it owes");
    }

    function test_Invariant1IsCheckedOfBonds() external {
        bytes memory call = abi.encodeCall(IERC20.balanceOf, (address(_parts.court)));
        string memory rule = "1: the court holds more or less than bonds that are at stake or were won";
        _lie(address(_parts.currency), call, abi.encode(1), rule);
    }

    function test_Invariant1IsCheckedOfFees() external {
        VM.deal(address(_parts.court), 1);
        _mustSee("1: the court holds more or less than fees that are at stake or were won");
    }

    function test_Invariant1IsCheckedOfTheCourtOfReports() external {
        bytes memory call = abi.encodeCall(IERC20.balanceOf, (address(_parts.reports)));
        _lie(address(_parts.currency), call, abi.encode(1), "1: the court of reports holds money");
    }

    function test_Invariant2IsChecked() external {
        IUsageEscrow.AccountView memory account = _parts.escrow.accountOf(LICENSE);
        ++account.balance;
        bytes memory call = abi.encodeCall(IUsageEscrow.accountOf, (LICENSE));
        string memory rule = "2: a balance isn't what was paid in less what was due";
        _lie(address(_parts.escrow), call, abi.encode(account), rule);
    }

    function test_Invariant3IsChecked() external {
        PlanId plan = PlanId.wrap(1);
        VersionId version = VersionId.wrap((3 << 32) | 1);
        IUsageEscrow.Lane memory lane = _parts.escrow.laneOf(OPERATOR, plan, version);
        ++lane.sequence;
        bytes memory call = abi.encodeCall(IUsageEscrow.laneOf, (OPERATOR, plan, version));
        _lie(address(_parts.escrow), call, abi.encode(lane), "3: a lane isn't where its last batch left it");
    }

    function test_Invariant4IsChecked() external {
        bytes memory call = abi.encodeCall(IERC721.ownerOf, (1));
        _lie(address(_parts.licenses), call, abi.encode(this), "4: a license has another owner");
    }

    function test_Invariant5IsChecked() external {
        IPerformanceStaking.Pool memory pool = _parts.staking.poolOf(OPERATOR);
        ++pool.inFlight;
        bytes memory call = abi.encodeCall(IPerformanceStaking.poolOf, (OPERATOR));
        string memory rule = "5: in flight isn't what is charged and not released";
        _lie(address(_parts.staking), call, abi.encode(pool), rule);
    }

    function test_Invariant6IsChecked() external {
        IPerformanceStaking.Pool memory pool = _parts.staking.poolOf(OPERATOR);
        --pool.active;
        bytes memory call = abi.encodeCall(IPerformanceStaking.poolOf, (OPERATOR));
        string memory rule = "6: a pool's money isn't what was put in and earned less what was taken out";
        _lie(address(_parts.staking), call, abi.encode(pool), rule);
    }

    function test_Invariant7IsChecked() external {
        bytes memory call = abi.encodeCall(IUsageEscrow.protocolFees, ());
        _lie(address(_parts.escrow), call, abi.encode(1), "7: fees went elsewhere");
    }

    function test_Invariant7IsCheckedOfWhatWasWon() external {
        bytes memory call = abi.encodeCall(IDisputeCourt.bondsOf, (OPERATOR_OWNER));
        string memory rule = "7: somebody may take more or less from the court than was won there";
        _lie(address(_parts.court), call, abi.encode(1), rule);
    }

    function test_Invariant7IsCheckedOfFrozenCharges() external {
        bytes32 chargeId = _parts.court.challengeOf(_challenge()).chargeId;
        IUsageEscrow.Batch memory charge = _parts.escrow.batchOf(chargeId);
        ++charge.charged;
        bytes memory call = abi.encodeCall(IUsageEscrow.batchOf, (chargeId));
        _lie(address(_parts.escrow), call, abi.encode(charge), "7: more or less is frozen than is challenged");
    }

    function test_Invariant8IsChecked() external {
        AssetId model = AssetId.wrap(3);
        IAssetRegistry.Edge[] memory parents = _parts.assets.parentsOf(model);
        --parents[0].incomeBps;
        bytes memory call = abi.encodeCall(IAssetRegistry.parentsOf, (model));
        string memory rule = "8: an asset's parents, or their shares, aren't those of its registration";
        _lie(address(_parts.assets), call, abi.encode(parents), rule);
    }

    function test_Invariant9IsChecked() external {
        bytes memory call = abi.encodeCall(IUsageEscrow.statusOf, (LICENSE));
        string memory rule = "9: a status isn't what its facts and the time make it";
        _lie(address(_parts.escrow), call, abi.encode(LicenseStatus.Closed), rule);
    }

    function test_Invariant9IsCheckedOfChallenges() external {
        uint256 number = _challenge();
        IDisputeCourt.Challenge memory challenge = _parts.court.challengeOf(number);
        challenge.status = ChallengeStatus.Rejected;
        bytes memory call = abi.encodeCall(IDisputeCourt.challengeOf, (number));
        _lie(address(_parts.court), call, abi.encode(challenge), "9: a challenge's status is another one");
    }

    /// @dev A refund and a release of one charge.
    function test_Invariant9IsCheckedOfRefundedCharges() external {
        bytes32 chargeId = _parts.court.challengeOf(_challenge()).chargeId;
        for (uint256 seed; _parts.escrow.batchStatusOf(chargeId) != BatchStatus.Refunded; ++seed) {
            _campaign.closeChallenge(seed);
        }
        bytes memory call = abi.encodeCall(IUsageEscrow.batchStatusOf, (chargeId));
        string memory rule = "9: a status isn't what its facts and the time make it";
        _lie(address(_parts.escrow), call, abi.encode(BatchStatus.Released), rule);
    }

    function test_Invariant9IsCheckedOfEnds() external {
        bytes memory call = abi.encodeCall(IDisputeCourt.close, (_challenge()));
        VM.mockCallRevert(address(_parts.court), call, "stuck");
        (bool landed, bytes memory reason) = address(_campaign).call(abi.encodeCall(Campaign.windUp, ()));
        bytes memory due = abi.encodeWithSignature(
            "Error(string)",
            "9: the end of a challenge was refused for no good reason"
        );
        require(!landed && keccak256(reason) == keccak256(due), "a check didn't see what it is there to see");
    }

    function test_Invariant10IsChecked() external {
        bytes memory call = abi.encodeWithSignature("rotationNonce()");
        string memory rule = "10: a committee was announced once too often";
        _lie(address(_parts.committee), call, abi.encode(1), rule);
    }

    function test_Invariant11IsChecked() external {
        bytes memory call = abi.encodeCall(IUsageEscrow.feeBps, ());
        _lie(address(_parts.escrow), call, abi.encode(501), "11: the fee is above its bound");
    }

    /// @dev The number of a challenge that is open.
    function _challenge() private returns (uint256 number) {
        for (uint256 seed; number == 0; ++seed) {
            _campaign.challenge(seed);
            number = _parts.court.challengeCount();
        }
        _campaign.requireEverything();
    }

    function _lie(address contract_, bytes memory call, bytes memory answer, string memory rule) private {
        VM.mockCall(contract_, call, answer);
        _mustSee(rule);
    }

    function _mustSee(string memory rule) private view {
        (bool landed, bytes memory reason) = address(_campaign).staticcall(
            abi.encodeCall(Campaign.requireEverything, ())
        );
        bytes memory due = abi.encodeWithSignature("Error(string)", rule);
        require(!landed && keccak256(reason) == keccak256(due), "a check didn't see what it is there to see");
    }
}
