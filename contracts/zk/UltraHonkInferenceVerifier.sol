// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IInferenceVerifier} from "../interfaces/IInferenceVerifier.sol";

/// @notice A verifier that is generated for one circuit. It reverts on most proofs that are none.
interface IHonkVerifier {
    function verify(bytes calldata proof, bytes32[] calldata publicInputs) external view returns (bool);
}

/// @title Proofs of inference by networks of one architecture
/// @notice HOLDS nothing. Serves every model of the architecture whose circuit `HONK` was generated for: which model a
/// proof is of is one of its four public inputs, which are, in this order, the weights commitment, the request hash, the
/// response hash and the context, the highest 248 bits of the receipt's hash. ASSUMES that somebody of those who made the
/// setup forgot a secret; of a setup made for development nobody knows that, so it works on local chains only.
contract UltraHonkInferenceVerifier is IInferenceVerifier {
    /// @notice What names the setup of Aztec's ceremony: keccak256 of its power in G2, real parts first.
    bytes32 public constant CANONICAL_SETUP = 0x4cbe883928b39824c4f29e608118d04efe872e6873fdb369a166d15573871483;

    /// @notice Order of the field: a public input is below it.
    uint256 public constant FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    /// @notice Chains on one's own machine: Hardhat's and anvil's, and an older habit.
    uint256 private constant LOCAL_CHAIN = 31337;
    uint256 private constant OLD_LOCAL_CHAIN = 1337;

    /// @notice The circuit's verifier.
    IHonkVerifier public immutable HONK;

    /// @notice What names the setup that `HONK` was generated with.
    bytes32 public immutable SETUP_ID;

    /// @notice There is no code at the address of the circuit's verifier.
    error NoVerifier(address honk);

    /// @notice A setup that was made for development, on a chain that isn't a local one.
    error DevelopmentSetup(uint256 chainId, bytes32 setupId);

    /// @notice A public input, from 0, is no element of the field: it would be another name for one that is.
    error NotInField(uint256 index, bytes32 value);

    /// @param setupId_ As `honk_` holds it. Whoever deploys could say another than that: compare `HONK` with the generated
    /// one before you trust it.
    constructor(IHonkVerifier honk_, bytes32 setupId_) {
        require(address(honk_).code.length > 0, NoVerifier(address(honk_)));
        bool isLocal = block.chainid == LOCAL_CHAIN || block.chainid == OLD_LOCAL_CHAIN;
        require(isLocal || setupId_ == CANONICAL_SETUP, DevelopmentSetup(block.chainid, setupId_));
        HONK = honk_;
        SETUP_ID = setupId_;
    }

    /// @inheritdoc IInferenceVerifier
    function verify(
        bytes32 weightsCommitment,
        bytes32 requestHash,
        bytes32 responseHash,
        bytes32 receiptHash,
        bytes calldata proof
    ) external view returns (bool) {
        bytes32[] memory publicInputs = new bytes32[](4);
        publicInputs[0] = weightsCommitment;
        publicInputs[1] = requestHash;
        publicInputs[2] = responseHash;
        publicInputs[3] = receiptHash >> 8;
        for (uint256 i = 0; i < 3; ++i) {
            require(uint256(publicInputs[i]) < FIELD, NotInField(i, publicInputs[i]));
        }
        return HONK.verify(proof, publicInputs);
    }

    /// @notice Whether the setup was made for development: whoever made it may know how to prove what isn't true.
    function isDevelopmentSetup() external view returns (bool) {
        return SETUP_ID != CANONICAL_SETUP;
    }
}
