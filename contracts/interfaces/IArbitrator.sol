// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title Who rules on disputes: ERC-792's arbitrator
/// @dev https://eips.ethereum.org/EIPS/eip-792
interface IArbitrator {
    enum DisputeStatus {
        Waiting,
        Appealable,
        Solved
    }

    event DisputeCreation(uint256 indexed _disputeID, IArbitrable indexed _arbitrable);
    event AppealPossible(uint256 indexed _disputeID, IArbitrable indexed _arbitrable);
    event AppealDecision(uint256 indexed _disputeID, IArbitrable indexed _arbitrable);

    /// @notice Opens a dispute of the caller's between `_choices` rulings, for `arbitrationCost`.
    function createDispute(uint256 _choices, bytes calldata _extraData) external payable returns (uint256 disputeID);

    /// @notice What a dispute costs, in wei.
    function arbitrationCost(bytes calldata _extraData) external view returns (uint256 cost);

    /// @notice Has a ruling looked at again, for `appealCost`.
    function appeal(uint256 _disputeID, bytes calldata _extraData) external payable;

    /// @notice What an appeal costs, in wei.
    function appealCost(uint256 _disputeID, bytes calldata _extraData) external view returns (uint256 cost);

    /// @notice When the present ruling can be appealed, in Unix seconds; both 0 if it can't.
    function appealPeriod(uint256 _disputeID) external view returns (uint256 start, uint256 end);

    /// @notice Where a dispute stands.
    function disputeStatus(uint256 _disputeID) external view returns (DisputeStatus status);

    /// @notice What would be ruled if nobody appealed.
    function currentRuling(uint256 _disputeID) external view returns (uint256 ruling);
}

/// @title What an arbitrator rules on: ERC-792's arbitrable
interface IArbitrable {
    event Ruling(IArbitrator indexed _arbitrator, uint256 indexed _disputeID, uint256 _ruling);

    /// @notice Gives the ruling of a dispute; its arbitrator alone may call this.
    function rule(uint256 _disputeID, uint256 _ruling) external;
}

/// @title What an arbitrator looks at: ERC-1497's evidence
/// @dev https://eips.ethereum.org/EIPS/eip-1497
interface IEvidence {
    event MetaEvidence(uint256 indexed _metaEvidenceID, string _evidence);
    event Evidence(
        IArbitrator indexed _arbitrator,
        uint256 indexed _evidenceGroupID,
        address indexed _party,
        string _evidence
    );
    event Dispute(
        IArbitrator indexed _arbitrator,
        uint256 indexed _disputeID,
        uint256 _metaEvidenceID,
        uint256 _evidenceGroupID
    );
}
