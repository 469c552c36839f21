// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ChallengeStatus, IDisputeCourt, RequestProof, Side} from "../../contracts/interfaces/IDisputeCourt.sol";
import {IArbitrator} from "../../contracts/interfaces/IArbitrator.sol";
import {BatchStatus} from "../../contracts/interfaces/IUsageEscrow.sol";
import {InferenceProofs} from "../../contracts/libraries/InferenceProofs.sol";
import {SignedReceipts} from "../../contracts/libraries/SignedReceipts.sol";
import {OperatorId, PlanId} from "../../contracts/types/Ids.sol";
import {Receipt, SignedReceipt} from "../../contracts/types/Receipt.sol";
import {SettledEntry} from "../../contracts/types/SettledEntry.sol";
import {Charges} from "./Charges.sol";
import {Count} from "./Ledger.sol";
import {Usage} from "./Model.sol";
import {Machine, Verb} from "./Statuses.sol";

/// @title Charges in dispute: challenged by who was charged, answered, brought before the arbitrator, decided; and paid for
/// @dev As docs/disputes.md has it. `litigate` takes a challenge some steps on: mostly such as it waits for.
abstract contract Courts is Charges {
    uint256 private constant RULING_TIME = 60 days;
    /// @dev More requests than this aren't demanded in an answer, and more than that nobody shows here.
    uint256 private constant MOST_DEMANDED = 200;
    uint256 internal constant MOST_SHOWN = 5;

    // What licensees and operators do

    /// @dev Mostly of what a batch that is held has charged to one of its licenses; now and then of what can't be frozen.
    function challenge(uint256 seed) external attempt(seed) {
        _challengeAny();
    }

    /// @dev A few steps of one challenge, some hours apart: mostly of one that waits for a step, else of a new one.
    function litigate(uint256 seed) external attempt(seed) {
        uint256 n = _caseInTime();
        if (n == 0) {
            n = cases.length + 1;
            _challengeAny();
            if (n > cases.length) return;
        }
        for (uint256 i = 1 + _draw(8); i > 0 && !_isDecided(n); --i) {
            _step(n);
            if (_draw(3) == 0) _pass(_draw(3 hours));
        }
    }

    /// @dev One that is due, mostly; else one whose time is run out.
    function closeChallenge(uint256 seed) external attempt(seed) {
        if (pending.length == 0) return _settle(_draft(false));
        uint256 start = _draw(pending.length);
        for (uint256 i; i < pending.length; ++i) {
            uint256 n = pending[(start + i) % pending.length];
            if (_isDue(n)) return _close(n);
        }
        if (_draw(8) == 0) return _close(1 + _draw(cases.length + 1));
        if (cases[pending[start] - 1].status == ChallengeStatus.Disputed) return _step(pending[start]);
        _runOut(pending[start]);
    }

    function demandSigning(uint256 seed) external attempt(seed) {
        uint256 id = _licenseThat(_isChargeable);
        bool isDemanded = _draw(5) != 0;
        bytes memory call = abi.encodeCall(court.demandSigning, (_id(id), isDemanded));
        _mustLand(ledger[id - 1].owner, address(court), call, "10: a demand of signatures");
        if (!isDemanded) demandedAt[id] = 0;
        else if (_signedSince(id) == 0) demandedAt[id] = clock;
        require(court.signedSince(_id(id)) == _signedSince(id), "10: signatures are demanded from another time on");
    }

    /// @dev Bonds that were won, and fees: of somebody who has some, mostly.
    function withdrawFromCourt(uint256 seed) external attempt(seed) {
        uint256 start = _draw(litigants.length);
        for (uint256 i; i < litigants.length; ++i) {
            address holder = litigants[(start + i) % litigants.length];
            if (bondsDue[holder] > 0) return _withdrawBonds(holder);
            if (feesDue[holder] > 0) return _withdrawCourtFees(holder);
        }
        if (_draw(8) != 0) return _settle(_draft(false));
        if (_draw(2) == 0) _withdrawBonds(litigants[start]);
        else _withdrawCourtFees(litigants[start]);
    }

    // What the acts above are made of

    function _challengeAny() private {
        uint256 i = _draw(12) == 0 ? _batchThat(BatchStatus(1 + _draw(6))) : _batchWorth();
        if (i == batches.length) return _settle(_draft(false));
        i = _wholeOf(i);
        _challenge(i, _anyEntry(i));
    }

    function _challenge(uint256 i, uint256 id) internal {
        Charged memory charged = _chargedTo(i, id);
        Refusals memory refusals = _freezeRefusals(batches[i], id, charged);
        SignedReceipt memory doubted;
        if (_draw(2) == 0) doubted = _doubt(batches[i], id, refusals);
        address sender = _challengerOf(id, refusals);
        uint256 place = placeOf[charged.id];
        if (place > 0) _watch(Machine.Batch, place - 1);
        if (!_doChallenge(_entryOf(i, id, charged), doubted, sender, _bondFor(charged.amount), refusals)) return;
        place = _freezeCharge(i, id, charged);
        _see(Machine.Batch, place, Verb.FreezeCharge);
        _openCase(place, sender, doubted);
        _requireFrozen(i, id, place, charged);
    }

    function _doChallenge(
        SettledEntry memory entry,
        SignedReceipt memory doubted,
        address sender,
        uint256 bond,
        Refusals memory refusals
    ) private returns (bool) {
        _mint(sender, bond, address(court));
        bytes memory call = abi.encodeCall(court.challenge, (entry, doubted, _draw(2) == 0 ? "ipfs://reasons" : ""));
        bytes memory result = _do(sender, address(court), call, refusals, "9: a challenge");
        if (refusals.count > 0) return false;
        require(abi.decode(result, (uint256)) == cases.length + 1, "9: a challenge's number was used before");
        return true;
    }

    function _openCase(uint256 place, address challenger, SignedReceipt memory doubted) private {
        Batch storage charge = batches[place];
        uint256 since = _signedSince(charge.licenseId);
        Case storage opened = cases.push();
        (opened.place, opened.challenger, opened.bond) = (place, challenger, _bondFor(charge.charged));
        (opened.status, opened.deadline) = (ChallengeStatus.Open, clock + TURN);
        opened.names = doubted.signature.length > 0;
        if (opened.names) opened.receipt = doubted.receipt;
        opened.isSigned =
            since != 0 &&
            charge.header.epochStart >= since &&
            _usageIn(charge.entries, charge.licenseId).requests <= MOST_DEMANDED;
        pending.push(cases.length);
        bondsAtStake += opened.bond;
        _see(Machine.Challenge, cases.length, Verb.Challenge);
        _requireCase(cases.length);
        _count(Count.Challenges);
    }

    /// @dev What a challenge in its status waits for, mostly; or that its time runs out.
    function _step(uint256 n) private {
        uint256 kind = _draw(16);
        if (kind == 0) return _misstep(n);
        if (kind == 1) return _submitEvidence(n);
        ChallengeStatus status = cases[n - 1].status;
        if (status == ChallengeStatus.Disputed) return _stepBeforeArbitrator(n, kind);
        if (kind < 4) return _runOut(n);
        if (status == ChallengeStatus.Open) _stepToAnswer(n, kind);
        else if (status == ChallengeStatus.Answered) _escalate(n);
        else _payOtherSide(n);
    }

    function _stepToAnswer(uint256 n, uint256 kind) private {
        Case storage opened = cases[n - 1];
        bool needsProof = opened.names && _isProvableCharge(batches[opened.place]);
        if (kind == 4 || (needsProof && kind < 14)) return _answerWithProof(n);
        if (opened.isSigned && !opened.isShown && kind < 14) _showRequests(n);
        _answer(n);
    }

    function _stepBeforeArbitrator(uint256 n, uint256 kind) private {
        uint256 disputeId = cases[n - 1].disputeId;
        bool isRuled = arbitrator.disputeStatus(disputeId) == IArbitrator.DisputeStatus.Appealable;
        if (kind == 2) return _runOut(n);
        if (!isRuled) {
            bytes memory call = abi.encodeCall(arbitrator.giveRuling, (disputeId, _draw(4)));
            _mustLand(address(this), address(arbitrator), call, "9: a ruling");
        } else if (kind < 10) {
            Side appellant = cases[n - 1].appellant;
            bool isSecond = appellant != Side.None && kind > 4;
            _payAppeal(n, isSecond ? Side(3 - uint8(appellant)) : Side(kind == 3 ? 0 : 1 + _draw(2)));
        } else {
            _executeRuling(n);
        }
    }

    /// @dev Something that it doesn't wait for, mostly.
    function _misstep(uint256 n) private {
        uint256 kind = _draw(8);
        if (kind == 0) _answer(n);
        if (kind == 1) _answerWithProof(n);
        if (kind == 2) _escalate(n);
        if (kind == 3) _payOtherSide(n);
        if (kind == 4) _payAppeal(n, Side(_draw(3)));
        if (kind == 5) _close(n);
        if (kind == 6) _showRequests(n);
        // What arbitrators ask changes.
        if (kind == 7) arbitrator.setFee(_draw(4) == 0 ? 0 : 0.01 ether + _draw(0.1 ether));
    }

    /// @dev Its last second is still its side's.
    function _runOut(uint256 n) private {
        uint256 deadline = cases[n - 1].deadline;
        if (clock <= deadline) {
            if (_draw(2) == 0) {
                _pass(deadline - clock);
                _close(n);
                if (_isDecided(n)) return;
            }
            _pass(deadline + 1 - clock);
        }
        _close(n);
    }

    /// @dev All requests that the entry rests on, mostly, in one call or two.
    function _showRequests(uint256 n) private {
        Case storage opened = cases[n - 1];
        Batch memory charge = batches[opened.place];
        Usage memory usage = _usageIn(charge.entries, charge.licenseId);
        if (opened.isShown || usage.requests > MOST_SHOWN) return;
        uint256 operator = OperatorId.unwrap(charge.header.operatorId);
        uint256 key = _keyFor(operator, charge.header.epochEnd - 1);
        RequestProof[] memory proofs = _requestsOf(charge.header, usage, opened.challenger, key);
        address sender = _operatorOr(operator, _draw(8));
        Refusals memory refusals = _turnRefusals(n, ChallengeStatus.Open);
        _unlessOperator(refusals, operator, sender);
        _unlessSigned(refusals, proofs, opened.challenger, operator, key);
        if (refusals.count == 0 && proofs.length > 1 && _draw(2) == 0) {
            RequestProof[] memory first = new RequestProof[](1);
            RequestProof[] memory rest = new RequestProof[](proofs.length - 1);
            first[0] = proofs[0];
            for (uint256 i; i < rest.length; ++i) rest[i] = proofs[i + 1];
            _do(sender, address(court), abi.encodeCall(court.showRequests, (n, first)), refusals, "9: a first request");
            proofs = rest;
        }
        _do(sender, address(court), abi.encodeCall(court.showRequests, (n, proofs)), refusals, "9: requests shown");
        if (refusals.count == 0) opened.isShown = true;
    }

    function _answer(uint256 n) private {
        Case storage opened = cases[n - 1];
        Batch storage charge = batches[opened.place];
        uint256 operator = OperatorId.unwrap(charge.header.operatorId);
        address sender = _operatorOr(operator, _draw(12));
        Refusals memory refusals = _turnRefusals(n, ChallengeStatus.Open);
        _unlessOperator(refusals, operator, sender);
        if (opened.names && _isProvableCharge(charge)) {
            bytes4 selector = IDisputeCourt.ProofNeeded.selector;
            _unless(refusals, false, abi.encodeWithSelector(selector, n, _receiptHash(opened.receipt)));
        }
        if (opened.isSigned && !opened.isShown) {
            IDisputeCourt.Challenge memory actual = court.challengeOf(n);
            bytes4 selector = IDisputeCourt.RequestsNotShown.selector;
            _unless(refusals, false, abi.encodeWithSelector(selector, actual.shown, actual.usage));
        }
        _watchCase(n);
        _do(sender, address(court), abi.encodeCall(court.answer, (n, "ipfs://data")), refusals, "9: an answer");
        if (refusals.count == 0) _advance(n, ChallengeStatus.Answered, TURN, Verb.Answer);
    }

    /// @dev By anybody, of the receipt that was named, mostly.
    function _answerWithProof(uint256 n) private {
        Case storage opened = cases[n - 1];
        Batch storage charge = batches[opened.place];
        Receipt memory receipt = opened.receipt;
        if (_draw(8) == 0) receipt.responseHash = bytes32(_draw(type(uint256).max));
        bytes32 hash = _receiptHash(receipt);
        bytes memory proof = _inferenceProof(charge.header.versionId, receipt);
        bool isForged = _draw(8) == 0;
        if (isForged) proof = abi.encode(hash);
        Refusals memory refusals = _turnRefusals(n, ChallengeStatus.Open);
        bytes32 named = opened.names ? _receiptHash(opened.receipt) : bytes32(0);
        bytes4 selector = IDisputeCourt.ReceiptNotChallenged.selector;
        _unless(refusals, hash == named, abi.encodeWithSelector(selector, hash, named));
        bool isProvable = _isProvableCharge(charge);
        _unless(refusals, isProvable, abi.encodeWithSelector(InferenceProofs.VerifierNone.selector, hash));
        _unless(refusals, !isForged, abi.encodeWithSelector(InferenceProofs.ProofInvalid.selector, hash));
        _watchCase(n);
        bytes memory call = abi.encodeCall(court.answerWithProof, (n, receipt, proof));
        _do(_anybody(), address(court), call, refusals, "9: an answer with a proof");
        if (refusals.count > 0) return;
        require(court.isProven(charge.id), "9: a proof is forgotten");
        _decide(n, ChallengeStatus.Rejected, Verb.AnswerWithProof);
    }

    function _escalate(uint256 n) private {
        Case storage opened = cases[n - 1];
        address sender = _draw(12) == 0 ? _anybody() : opened.challenger;
        Refusals memory refusals = _turnRefusals(n, ChallengeStatus.Answered);
        bytes4 selector = IDisputeCourt.CallerNotChallenger.selector;
        _unless(refusals, sender == opened.challenger, abi.encodeWithSelector(selector, n, sender));
        bool isArbitrated = plans[PlanId.unwrap(batches[opened.place].header.planId) - 1].arbitrator != address(0);
        _unless(refusals, isArbitrated, abi.encodeWithSelector(IDisputeCourt.ArbitratorNone.selector, n));
        _watchCase(n);
        if (!_doPaying(sender, abi.encodeCall(court.escalate, (n)), refusals, "9: an escalation")) return;
        opened.pool = arbitrator.fee();
        _advance(n, ChallengeStatus.Escalated, TURN, Verb.Escalate);
        _count(Count.Escalations);
    }

    /// @dev By anybody.
    function _payOtherSide(uint256 n) private {
        Case storage opened = cases[n - 1];
        Refusals memory refusals = _turnRefusals(n, ChallengeStatus.Escalated);
        address sender = litigants[_draw(litigants.length)];
        _watchCase(n);
        if (!_doPaying(sender, abi.encodeCall(court.payFee, (n)), refusals, "9: the other side's fee")) return;
        feesSpent += arbitrator.fee();
        opened.disputeId = court.arbitrationOf(n).disputeId;
        require(
            arbitrator.disputeStatus(opened.disputeId) == IArbitrator.DisputeStatus.Waiting,
            "9: a dispute is another one's"
        );
        _advance(n, ChallengeStatus.Disputed, RULING_TIME, Verb.PayFee);
    }

    /// @dev By anybody, for either side. The dispute begins anew once both have paid.
    function _payAppeal(uint256 n, Side side) private {
        Case storage opened = cases[n - 1];
        Refusals memory refusals = _turnRefusals(n, ChallengeStatus.Disputed);
        if (opened.status == ChallengeStatus.Disputed) {
            bytes4 selector = IDisputeCourt.AppealPaidBefore.selector;
            bool isNew = side != Side.None && side != opened.appellant;
            _unless(refusals, isNew, abi.encodeWithSelector(selector, n, side));
            _unlessAppealable(refusals, n, side);
        }
        address sender = litigants[_draw(litigants.length)];
        _watchCase(n);
        if (!_doPaying(sender, abi.encodeCall(court.payAppeal, (n, side)), refusals, "9: an appeal")) return;
        if (opened.appellant == Side.None) {
            (opened.appellant, opened.appealPool) = (side, arbitrator.fee());
            _requireCase(n);
        } else {
            opened.pool += opened.appealPool;
            (opened.appellant, opened.appealPool) = (Side.None, 0);
            feesSpent += arbitrator.fee();
            _advance(n, ChallengeStatus.Disputed, RULING_TIME, Verb.Nothing);
        }
    }

    /// @dev Who alone has paid for an appeal wins, whatever was ruled.
    function _executeRuling(uint256 n) private {
        Case storage opened = cases[n - 1];
        (, uint256 end) = arbitrator.appealPeriod(opened.disputeId);
        if (clock < end) _pass(end - clock);
        uint256 ruling = arbitrator.currentRuling(opened.disputeId);
        _watchCase(n);
        bytes memory call = abi.encodeCall(arbitrator.executeRuling, (opened.disputeId));
        _mustLand(OUTSIDER, address(arbitrator), call, "9: a final ruling");
        _heed(address(court), abi.encodeCall(court.rule, (opened.disputeId, ruling)), true);
        uint256 winner = opened.appellant == Side.None ? ruling : uint256(opened.appellant);
        ChallengeStatus status = ChallengeStatus.Undecided;
        if (winner == 1) status = ChallengeStatus.Upheld;
        if (winner == 2) status = ChallengeStatus.Rejected;
        _decide(n, status, Verb.Rule);
        _count(Count.Rulings);
    }

    function _submitEvidence(uint256 n) private {
        Case storage opened = cases[n - 1];
        uint256 operator = OperatorId.unwrap(batches[opened.place].header.operatorId);
        address sender = _draw(2) == 0 ? opened.challenger : _operatorOr(operator, _draw(8));
        Refusals memory refusals;
        bytes memory refusal = abi.encodeWithSelector(IDisputeCourt.CallerNotParty.selector, n, sender);
        _unless(refusals, sender == opened.challenger || _speaksFor(operator, sender), refusal);
        bytes memory call = abi.encodeCall(court.submitEvidence, (n, "ipfs://evidence"));
        _do(sender, address(court), call, refusals, "9: evidence");
    }

    /// @dev By anybody, the second after its deadline, or as soon as a breach of its charge was reported.
    function _close(uint256 n) internal {
        ChallengeStatus status = _challengeStatus(n);
        Refusals memory refusals;
        bytes4 selector = IDisputeCourt.ChallengeStatusUnfit.selector;
        bool isPending = status != ChallengeStatus.None && status < ChallengeStatus.Upheld;
        _unless(refusals, isPending, abi.encodeWithSelector(selector, n, status));
        if (isPending) {
            uint256 deadline = cases[n - 1].deadline;
            selector = IDisputeCourt.TurnRunning.selector;
            _unless(refusals, _isDue(n), abi.encodeWithSelector(selector, n, deadline));
            _watchCase(n);
        }
        _do(_anybody(), address(court), abi.encodeCall(court.close, (n)), refusals, "9: the end of a challenge");
        if (refusals.count > 0) return;
        ChallengeStatus outcome = ChallengeStatus.Upheld;
        if (status == ChallengeStatus.Answered) outcome = ChallengeStatus.Rejected;
        if (status == ChallengeStatus.Disputed) outcome = ChallengeStatus.Undecided;
        _decide(n, outcome, Verb.Close);
    }

    function _advance(uint256 n, ChallengeStatus status, uint256 period, Verb verb) private {
        (cases[n - 1].status, cases[n - 1].deadline) = (status, clock + period);
        _see(Machine.Challenge, n, verb);
        _requireCase(n);
    }

    /// @dev What was found of the charge decides, whatever else would. The loser has paid as much as the other's bond, unless a
    /// report decided, or it neither signed nor answered anything.
    function _decide(uint256 n, ChallengeStatus status, Verb verb) private {
        Case storage opened = cases[n - 1];
        Batch storage charge = batches[opened.place];
        uint256 operator = OperatorId.unwrap(charge.header.operatorId);
        bool isReported = findings[charge.id] != Finding.None;
        if (isReported) status = ChallengeStatus.Upheld;
        bool isGuilty = !isReported && (opened.names || opened.status != ChallengeStatus.Open);
        bool isRejected = status == ChallengeStatus.Rejected;
        bondsAtStake -= opened.bond;
        bondsDue[isRejected ? operatorOwners[operator - 1] : opened.challenger] += opened.bond;
        _divideFees(opened, status, operatorOwners[operator - 1]);
        opened.status = status;
        _drop(n);
        frozen -= charge.charged;
        if (status == ChallengeStatus.Upheld) {
            charge.status = BatchStatus.Refunded;
            _bookRefund(charge);
            if (isGuilty) _bookSlash(operator, opened.bond, opened.challenger);
        } else {
            charge.status = BatchStatus.Held;
            charge.releasableAt = _min(charge.releasableAt, clock);
        }
        _seeCase(n, verb);
    }

    /// @dev What both have paid and the arbitrator hasn't got is the winner's: the challenger's, before the other side has paid.
    /// Without a winner, each gets half, and who alone paid for an appeal that.
    function _divideFees(Case storage opened, ChallengeStatus status, address owner) private {
        (uint256 pool, uint256 appealPool) = (opened.pool, opened.appealPool);
        (opened.pool, opened.appealPool) = (0, 0);
        if (opened.status != ChallengeStatus.Disputed || status == ChallengeStatus.Upheld) {
            feesDue[opened.challenger] += pool + appealPool;
        } else if (status == ChallengeStatus.Rejected) {
            feesDue[owner] += pool + appealPool;
        } else {
            feesDue[opened.challenger] += pool / 2;
            feesDue[owner] += pool - pool / 2;
            feesDue[opened.appellant == Side.Challenger ? opened.challenger : owner] += appealPool;
        }
    }

    function _drop(uint256 n) private {
        uint256 place;
        while (pending[place] != n) ++place;
        pending[place] = pending[pending.length - 1];
        pending.pop();
    }

    /// @dev A call of the court that costs what its arbitrator asks; now and then less is sent, or more.
    function _doPaying(
        address sender,
        bytes memory call,
        Refusals memory refusals,
        string memory act
    ) private returns (bool) {
        uint256 fee = arbitrator.fee();
        uint256 value = fee + (_draw(6) == 0 ? _draw(1 gwei) : 0);
        if (_draw(12) == 0 && fee > 0) value = fee - 1;
        _unless(refusals, value >= fee, abi.encodeWithSelector(IDisputeCourt.FeeTooSmall.selector, value, fee));
        _doWith(value, sender, address(court), call, refusals, act);
        if (refusals.count > 0) return false;
        feesPaid += value;
        feesDue[sender] += value - fee;
        return true;
    }

    function _withdrawBonds(address holder) internal {
        Refusals memory refusals = _emptyRefusals(holder, bondsDue[holder]);
        bytes memory call = abi.encodeCall(court.withdrawBonds, (WALLET));
        bytes memory result = _do(holder, address(court), call, refusals, "7: a bond that was won");
        if (refusals.count > 0) return;
        _requireReceived(abi.decode(result, (uint256)), WALLET, bondsDue[holder]);
        bondsDue[holder] = 0;
    }

    function _withdrawCourtFees(address holder) internal {
        Refusals memory refusals = _emptyRefusals(holder, feesDue[holder]);
        bytes memory call = abi.encodeCall(court.withdrawFees, (payable(WALLET)));
        uint256 before = WALLET.balance;
        bytes memory result = _do(holder, address(court), call, refusals, "7: a fee that came back");
        if (refusals.count > 0) return;
        uint256 due = feesDue[holder];
        require(
            abi.decode(result, (uint256)) == due && WALLET.balance == before + due,
            "7: somebody was paid more or less than was due"
        );
        feesReturned += due;
        feesDue[holder] = 0;
        _count(Count.Withdrawals);
    }

    // What a challenge is compared with

    function _watchCase(uint256 n) private {
        Batch storage charge = batches[cases[n - 1].place];
        _watch(Machine.Challenge, n);
        _watch(Machine.Batch, cases[n - 1].place);
        _watch(Machine.Operator, OperatorId.unwrap(charge.header.operatorId));
        _watch(Machine.License, charge.licenseId);
    }

    /// @dev After one that was decided.
    function _seeCase(uint256 n, Verb verb) private {
        Case storage opened = cases[n - 1];
        Batch storage charge = batches[opened.place];
        uint256 operator = OperatorId.unwrap(charge.header.operatorId);
        bool isUpheld = opened.status == ChallengeStatus.Upheld;
        _see(Machine.Challenge, n, verb);
        _see(Machine.Batch, opened.place, isUpheld ? Verb.RefundCharge : Verb.ReleaseCharge);
        _see(Machine.Operator, operator, isUpheld ? Verb.Slash : Verb.Nothing);
        _see(Machine.License, charge.licenseId, Verb.Nothing);
        _requireCase(n);
        if (isUpheld) _requireRefunded(charge);
        else _requireBatch(charge);
        if (isUpheld) _requireSlashed(operator, opened.challenger);
    }

    // What it is refused for

    /// @dev It must wait for a side's step, in time.
    function _turnRefusals(uint256 n, ChallengeStatus status) private view returns (Refusals memory refusals) {
        Case storage opened = cases[n - 1];
        bytes4 selector = IDisputeCourt.ChallengeStatusUnfit.selector;
        _unless(refusals, opened.status == status, abi.encodeWithSelector(selector, n, opened.status));
        selector = IDisputeCourt.TurnOver.selector;
        _unless(refusals, clock <= opened.deadline, abi.encodeWithSelector(selector, n, opened.deadline));
    }

    function _emptyRefusals(address holder, uint256 due) private pure returns (Refusals memory refusals) {
        _unless(refusals, due > 0, abi.encodeWithSelector(IDisputeCourt.WithdrawalEmpty.selector, holder));
    }

    function _unlessOperator(Refusals memory refusals, uint256 operator, address sender) private view {
        bytes4 selector = IDisputeCourt.CallerNotOperator.selector;
        _unless(refusals, _speaksFor(operator, sender), abi.encodeWithSelector(selector, operator, sender));
    }

    /// @dev Requests that the keys of a license's owner have signed, and receipts that the operator's key could sign.
    function _unlessSigned(
        Refusals memory refusals,
        RequestProof[] memory proofs,
        address owner,
        uint256 operator,
        uint256 key
    ) internal view {
        bytes32 grantHash = proofs[0].receipt.grantHash;
        bytes4 selector = IDisputeCourt.GrantNotSigned.selector;
        // Its code doesn't know of signatures.
        _unless(refusals, owner != address(reenterer), abi.encodeWithSelector(selector, grantHash, owner));
        _unlessKey(refusals, proofs[0].receipt, operator, key);
    }

    function _unlessKey(Refusals memory refusals, Receipt memory receipt, uint256 operator, uint256 key) internal view {
        bool counts = _couldSign(operator, key, receipt.finishedAt);
        bytes4 selector = SignedReceipts.ReceiptNotSigned.selector;
        _unless(refusals, counts, abi.encodeWithSelector(selector, _receiptHash(receipt), _signerOf(operator, key)));
    }

    /// @dev Either side can pay in the first half of the arbitrator's time, and who isn't losing until its end; where nobody is,
    /// who pays second.
    function _unlessAppealable(Refusals memory refusals, uint256 n, Side side) private view {
        Case storage opened = cases[n - 1];
        (uint256 start, uint256 end) = arbitrator.appealPeriod(opened.disputeId);
        uint256 ruling = arbitrator.currentRuling(opened.disputeId);
        bool isHalved = ruling == 0 ? opened.appellant == Side.None : ruling != uint256(side);
        if (isHalved) end = (start + end) / 2;
        bytes4 selector = IDisputeCourt.AppealClosed.selector;
        bool isTime = clock >= start && clock < end;
        _unless(refusals, isTime, abi.encodeWithSelector(selector, n, start, end));
    }

    /// @dev A license's owner, mostly.
    function _challengerOf(uint256 id, Refusals memory refusals) private returns (address sender) {
        if (id > ledger.length) {
            _unless(refusals, false, abi.encodeWithSignature("ERC721NonexistentToken(uint256)", id));
            return OUTSIDER;
        }
        address owner = ledger[id - 1].owner;
        sender = _draw(16) == 0 ? _anybody() : owner;
        bytes4 selector = IDisputeCourt.CallerNotOwner.selector;
        _unless(refusals, sender == owner, abi.encodeWithSelector(selector, id, sender));
    }

    /// @dev A receipt of the license and the epoch, that the operator has signed, mostly.
    function _doubt(
        Batch storage batch,
        uint256 id,
        Refusals memory refusals
    ) private returns (SignedReceipt memory doubted) {
        Usage memory usage = _usageIn(batch.entries, id);
        usage.licenseId = id;
        uint256 operator = OperatorId.unwrap(batch.header.operatorId);
        uint256 kind = _draw(16);
        doubted.receipt = _receiptOf(batch.header, usage);
        if (kind == 0) doubted.receipt.manifestHash = bytes32(uint256(99));
        if (kind > 1 && doubted.receipt.requests == 0) doubted.receipt.requests = 1;
        uint256 key = _keyFor(operator, doubted.receipt.finishedAt);
        doubted.signature = _signReceipt(doubted.receipt, key);
        bytes4 selector = IDisputeCourt.ReceiptNotOfEntry.selector;
        _unless(refusals, kind > 0, abi.encodeWithSelector(selector, _receiptHash(doubted.receipt)));
        selector = IDisputeCourt.ReceiptEmpty.selector;
        _unless(refusals, doubted.receipt.requests > 0, abi.encodeWithSelector(selector));
        _unlessKey(refusals, doubted.receipt, operator, key);
    }

    // What there is

    function _bondFor(uint256 charged) private pure returns (uint256) {
        uint256 share = charged / 10;
        return share < LEAST_PENALTY ? LEAST_PENALTY : share;
    }

    /// @dev A challenge that waits for a step, from a random one on; now and then one whose time is over. 0 is none.
    function _caseInTime() private returns (uint256) {
        uint256 start = _draw(pending.length);
        bool isAny = _draw(12) == 0;
        for (uint256 i; i < pending.length; ++i) {
            uint256 n = pending[(start + i) % pending.length];
            if (isAny || !_isDue(n)) return n;
        }
        return 0;
    }

    function _isDecided(uint256 n) internal view returns (bool) {
        return cases[n - 1].status >= ChallengeStatus.Upheld;
    }

    /// @dev Whether nothing more is waited for.
    function _isDue(uint256 n) private view returns (bool) {
        Case storage opened = cases[n - 1];
        return clock > opened.deadline || findings[batches[opened.place].id] != Finding.None;
    }

    /// @dev Whether somebody is an operator's owner or one of its keys of now.
    function _speaksFor(uint256 operator, address who) private view returns (bool) {
        if (who == operatorOwners[operator - 1]) return true;
        for (uint256 key; key < SIGNING_KEYS; ++key) {
            if (who == _signerOf(operator, key)) return _couldSign(operator, key, clock);
        }
        return false;
    }

    /// @dev Its owner, one of its keys, or now and then anybody.
    function _operatorOr(uint256 operator, uint256 kind) private returns (address) {
        if (kind == 0) return _anybody();
        return kind < 3 ? _signerOf(operator, _keyFor(operator, clock)) : operatorOwners[operator - 1];
    }
}
