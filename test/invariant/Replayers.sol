// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ILicenseRegistry, Offer, PlanTerms} from "../../contracts/interfaces/ILicenseRegistry.sol";
import {Authorization, BatchHeader, IUsageEscrow, Purchase} from "../../contracts/interfaces/IUsageEscrow.sol";
import {TestCurrency} from "../../contracts/mocks/TestCurrency.sol";
import {LicenseId, OperatorId, PlanId, VersionId} from "../../contracts/types/Ids.sol";
import {Market} from "./Market.sol";
import {Usurpers} from "./Usurpers.sol";
import {VM} from "./Vm.sol";

/// @title Another market on the same chain, with the same people in it
/// @dev License 1 is there as here, of plan 1 and operator 1, and settles by vouchers.
contract Twin is Market {
    constructor() {
        _mint(licensees[0], 100 * USD, address(escrow));
        VM.startPrank(licensees[0]);
        escrow.buy(_purchase(PlanId.wrap(1), 1, licensees[0], 0, 100 * USD));
        escrow.addVoucherKey(LicenseId.wrap(1), abi.encodePacked(VM.addr(FIRST_VOUCHER_KEY)), uint56(100 * USD));
        escrow.changeService(LicenseId.wrap(1), OperatorId.wrap(1), true);
        VM.stopPrank();
        _pass(WAIT + 1);
        escrow.applyServiceChange(LicenseId.wrap(1));
    }

    function parts() external view returns (IUsageEscrow, ILicenseRegistry) {
        return (escrow, licenses);
    }
}

/// @title Those who have seen what others signed, and bring it again, elsewhere, or for something else
abstract contract Replayers is Usurpers {
    Twin private immutable TWIN = Twin(VM.deployCode("Replayers.sol:Twin"));

    /// @dev A payment that was taken, once more, by anybody.
    function replayPayment(uint256 seed) external attack(seed) {
        if (payments.length == 0) return;
        SignedPayment memory payment = payments[_draw(payments.length)];
        Refusals memory refusals;
        bytes32 nonce = payment.nonce;
        if (payment.licenseId == 0) {
            PlanTerms memory terms = plans[PlanId.unwrap(payment.purchase.planId) - 1];
            refusals = _purchaseRefusals(payment.purchase, terms, payment.authorization.from);
        } else {
            _unlessPaused(refusals);
            _unlessIn(refusals, payment.licenseId, IN_USE | LOCKED);
            _unlessRoom(refusals, payment.amount);
            address owner = licenses.ownerOf(payment.licenseId);
            bytes32 salt = payment.authorization.salt;
            nonce = escrow.depositHash(_id(payment.licenseId), owner, uint64(payment.amount), salt);
        }
        _unlessInTime(refusals, payment.authorization);
        address from = payment.authorization.from;
        // A license that was sold since isn't the one that the payment was for.
        bytes memory refusal =
            nonce == payment.nonce
                ? abi.encodeWithSelector(TestCurrency.AuthorizationUsedBefore.selector, from, nonce)
                : abi.encodeWithSelector(TestCurrency.SignatureInvalid.selector, from);
        _unless(refusals, false, refusal);
        _mustRefuseFor(_anybody(), address(escrow), payment.call, refusals, "10: a payment was taken twice");
    }

    /// @dev A payment brought by one who changed what it is for: another license, another purchase, or for nothing at all.
    function divertPayment(uint256 seed) external attack(seed) {
        if (payments.length == 0) return;
        SignedPayment memory payment = payments[_draw(payments.length)];
        Authorization memory authorization = payment.authorization;
        bytes memory refusal = abi.encodeWithSelector(TestCurrency.SignatureInvalid.selector, authorization.from);
        Refusals memory refusals;
        _unlessInTime(refusals, authorization);
        _unless(refusals, false, refusal);
        uint256 kind = _draw(3);
        if (kind == 0) {
            uint256 id = _licenseThat(_isNotOver);
            uint256 amount = 1 + _draw(USD);
            if (id == payment.licenseId && amount == payment.amount) return;
            _unlessPaused(refusals);
            _unlessIn(refusals, id, IN_USE | LOCKED);
            _unlessRoom(refusals, amount);
            bytes memory call = abi.encodeCall(
                escrow.depositWithAuthorization,
                (_id(id), uint64(amount), authorization)
            );
            return _mustRefuseFor(OUTSIDER, address(escrow), call, refusals, "10: a payment was diverted");
        }
        if (kind == 1) {
            uint256 plan = _anyPlan();
            Purchase memory purchase = _purchase(PlanId.wrap(uint32(plan)), _anyOperator(), OUTSIDER, 0, USD);
            Refusals memory more = _purchaseRefusals(purchase, plans[plan - 1], authorization.from);
            for (uint256 i; i < refusals.count; ++i) _unless(more, false, refusals.reasons[i]);
            bytes memory call = abi.encodeCall(escrow.buyWithAuthorization, (purchase, authorization));
            return _mustRefuseFor(OUTSIDER, address(escrow), call, more, "10: a payment was diverted");
        }
        bytes memory stock = abi.encodeWithSignature(
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
            authorization.from,
            escrow,
            payment.amount,
            authorization.validAfter,
            authorization.validBefore,
            bytes32(_draw(type(uint256).max)),
            authorization.signature
        );
        _mustRefuseFor(OUTSIDER, address(currency), stock, refusals, "10: a payment arrived for nothing");
    }

    /// @dev An offer that was accepted, once more; maybe after the model was sold, and even came back.
    function replayOffer(uint256 seed) external attack(seed) {
        if (offers.length == 0) return;
        SignedOffer memory signed = offers[_draw(offers.length)];
        bytes32 hash = licenses.offerHash(signed.offer);
        Refusals memory refusals;
        if (hash == signed.hash) {
            bytes memory used = abi.encodeWithSelector(ILicenseRegistry.OfferUsedBefore.selector, hash);
            _unless(refusals, false, used);
        } else {
            address owner = assets.ownerOf(signed.assetId);
            bytes4 late = ILicenseRegistry.OfferExpired.selector;
            uint256 deadline = signed.offer.deadline;
            _unless(refusals, clock <= deadline, abi.encodeWithSelector(late, deadline, clock));
            _unless(refusals, false, abi.encodeWithSelector(ILicenseRegistry.OfferNotSigned.selector, hash, owner));
        }
        bytes memory call = abi.encodeCall(licenses.acceptOffer, (signed.offer, signed.signature));
        _mustRefuseFor(_anybody(), address(licenses), call, refusals, "10: an offer was accepted twice");
    }

    /// @dev What was signed for this market, at its twin; or here, once the chain is another one.
    function replayElsewhere(uint256 seed) external attack(seed) {
        if (_draw(2) == 0) {
            (IUsageEscrow otherEscrow, ILicenseRegistry otherLicenses) = TWIN.parts();
            _replayAt(otherEscrow, otherLicenses);
        } else {
            uint256 chain = block.chainid;
            VM.chainId(chain + 1 + _draw(1_000));
            _replayAt(escrow, licenses);
            VM.chainId(chain);
        }
    }

    /// @dev A voucher for license 1 of here, at the twin, where the same one signed for there would be charged.
    function replayVoucherElsewhere(uint256 seed) external attack(seed) {
        (IUsageEscrow otherEscrow, ) = TWIN.parts();
        IUsageEscrow.AccountView memory account = otherEscrow.accountOf(_id(1));
        uint256 ahead = clock < account.expiresAt ? 0 : 1 + (clock - account.expiresAt) / plans[0].termPeriod;
        Voucher memory voucher;
        (voucher.licenseId, voucher.operator, voucher.term) = (1, 1, account.term + ahead);
        voucher.spent = (ahead == 0 ? account.spent : 0) + 1 + _draw(USD);
        bytes memory theirs = _sign(voucher, _voucherDigest(voucher, block.chainid, address(otherEscrow)));
        bytes memory ours = _sign(voucher, _voucherDigest(voucher, block.chainid, address(escrow)));
        VM.startPrank(operatorOwners[0]);
        (uint256 charged, ) = otherEscrow.previewVouchers(_operatorId(1), PlanId.wrap(1), theirs);
        require(charged > 0, "10: the twin charges nothing at all");
        (charged, ) = otherEscrow.settleVouchers(_operatorId(1), PlanId.wrap(1), ours);
        require(charged == 0, "10: a voucher counted elsewhere");
        VM.stopPrank();
    }

    function _replayAt(IUsageEscrow escrow_, ILicenseRegistry licenses_) private {
        if (_draw(2) == 0) {
            if (offers.length == 0) return;
            SignedOffer memory signed = offers[_draw(offers.length)];
            // In time, and as if it hadn't been used: its hash is another one there.
            if (clock > signed.offer.deadline || licenses_.ASSETS().assetCount() < signed.assetId) return;
            bytes memory refusal = abi.encodeWithSelector(
                ILicenseRegistry.OfferNotSigned.selector,
                licenses_.offerHash(signed.offer),
                licenses_.ASSETS().ownerOf(signed.assetId)
            );
            bytes memory call = abi.encodeCall(licenses_.acceptOffer, (signed.offer, signed.signature));
            return _mustRefuse(OUTSIDER, address(licenses_), call, refusal, "10: an offer counted elsewhere");
        }
        if (batches.length == 0) return;
        Batch memory batch = _lastBatch();
        BatchHeader memory header = batch.header;
        // What another market can't know of, or is late everywhere, would be refused for that.
        bool isKnown = PlanId.unwrap(header.planId) <= FIRST_PLANS && uint32(VersionId.unwrap(header.versionId)) == 1;
        bool isHere = address(escrow_) == address(escrow);
        if (!isKnown || isHere || clock > header.epochEnd + WINDOW) return;
        bytes memory refused_ = abi.encodeWithSelector(
            IUsageEscrow.BatchNotVouchedFor.selector,
            escrow_.batchIdOf(header),
            licenses_.termsOf(header.planId).attestor
        );
        bytes memory settle = abi.encodeCall(escrow_.settle, (header, batch.entries, batch.proof));
        _mustRefuse(OUTSIDER, address(escrow_), settle, refused_, "10: a batch settled elsewhere");
    }
}
