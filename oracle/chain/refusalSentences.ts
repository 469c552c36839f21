/**
 * What each error of the contracts means, and what to do about it. A value stands in braces, by the name that the error gives
 * it; after a colon stands how it is said (`refusal.ts` knows the ways), or nothing where the value speaks for itself.
 * An error of several signatures has a sentence for each.
 */
export const REFUSAL_SENTENCES: Record<string, string> = {
  // AssetRegistry
  ApprovalsNotParallel:
    "{approvals} approvals stand beside {parents} parents: name one for each, all zero where none is needed",
  AssetUnknown: "There is no asset {assetId}",
  AssetUriEmpty: "An asset needs the address of its metadata: name one",
  CallerNotAssetOwner: "Asset {assetId} isn't {caller}'s: act as its owner, or have its owner approve {caller}",
  CallerNotRoyaltyReceiver: "The royalty on sales of asset {assetId} isn't {caller}'s: act as its receiver",
  DerivationExpired: "The approval of asset {parentId}'s owner counted until {deadline:time}: ask for a new one",
  DerivationNotApproved:
    "The owner of asset {parentId} didn't approve that {registrant} derives from it on these terms: ask for its approval",
  DerivationUsedBefore: "The approval {digest} of asset {parentId}'s owner was used or taken back: ask for a new one",
  DerivativesClosed: "Nothing may be derived from asset {parentId} but by its owner: its policy is closed",
  IncomeAboveWhole:
    "The parents' and payees' shares of the asset's income add up to {incomeBps:percent}, more than the whole: lower them",
  IncomeShareBelowMinimum:
    "Asset {parentId} asks for {minShareBps:percent} of the income of what comes from it, and not {incomeBps:percent}: give it " +
    "as much, or ask for its owner's approval",
  ManifestHashZero: "A version of asset {assetId} needs the hash of its manifest: name one",
  ManifestPublishedBefore:
    "Asset {assetId} has published the manifest {manifestHash} before, as {versionId:version}: there is nothing new to publish",
  MinShareAboveWhole: "A minimum share of {minShareBps:percent} is more than the whole: lower it",
  ParentsAboveLimit: "An asset has at most {most} parents, and not {parents}",
  ParentsNotAscending: "Parent {parentId} comes after parent {before}: name each once, ascending by id",
  RelationUnfit:
    "The asset would be {childKind:kind}, and its parent {parentId} is {parentKind:kind}: that isn't {relation:relation}",
  RoyaltyAboveBound: "A royalty of {royaltyBps:percent} is above its bound of {bound:percent}: lower it",
  UsesNotPermitted:
    "Asset {assetId} doesn't permit the uses {uses} (a bit field), so nothing that comes from it, and no plan of it, can",
  VerifierNotContract:
    "No contract is at {inferenceVerifier}, so it can't verify proofs for asset {assetId}: name a verifier's contract, or none",
  VerifierWithoutCommitment:
    "The verifier {inferenceVerifier} has nothing to check proofs against: publish the version of asset {assetId} with the " +
    "commitment to its weights, or without a verifier",
  VersionRecalledBefore:
    "{versionId:Version} was recalled before: that takes effect on {recallAt:time}, and can't be undone",
  VersionUnknown: "There is no {versionId:version}: see `model:show` for those that there are",

  // LicenseRegistry
  AttestorNotContract: "No contract is at {attestor}, so it can't vouch for batches: name an attestor's contract",
  BuyerZero: "An offer is for one buyer: name one",
  CallerNotPublisher:
    "Asset {assetId} isn't {caller}'s, and its owner alone says on what terms it is licensed: act as its owner",
  DiscountAboveOperatorShare:
    "The discounts add up to {discountBps:percent}, and the operator's share, which pays for them, may be no more than " +
    "{operatorBps:percent}: lower the discounts or the other shares",
  EvidenceTierUnknown:
    "There is no tier of evidence {tier}: a plan demands one from 0, signed receipts, to {highest}, proven answers",
  HoldPeriodOutOfRange: "A hold lasts {shortest:period} to {longest:period}, and not {holdPeriod:period}",
  LicenseNotMovable:
    "License {licenseId} can be transferred only once it was locked and its wait is over, which is {movableAt:waited}: see " +
    "`license:transfer`",
  MinimumAboveCap:
    "The minimum of {minimumSpend:money} a term is more than the cap of {cap:money}: lower the one or raise the other",
  OfferExpired: "The offer could be accepted until {deadline:time}, and it is {time:time}: ask for a new one",
  OfferNotSigned: "The offer {offerHash} isn't signed by {owner}, whose the model is now: ask its owner for one",
  OfferUsedBefore: "The offer {offerHash} was accepted or withdrawn before: ask for a new one",
  PlanForAnother: "Plan {planId} is an offer to {buyer} alone, and not to {to}: choose another",
  PlanIsClosed: "Plan {planId} is closed and sells no more licenses: choose another",
  PlanSoldOut: "Plan {planId} has sold all of its {supply} licenses: choose another",
  PlanUnknown: "There is no plan {planId}",
  ServiceLevelsNotOrdered:
    "The service levels aren't in order: the second tier must be at least as far out as the first and cost at least as much, " +
    "and none more than the whole",
  SharesAboveWhole:
    "The publisher's {publisherBps:percent}, the attestors' {attestorBps:percent} and a protocol fee of up to " +
    "{largestFeeBps:percent} are more than the whole, and leave the operator nothing: lower the shares",
  TermPeriodOutOfRange: "A term lasts {shortest:period} to {longest:period}, and not {termPeriod:period}",

  // RevenueWaterfall
  IncomeShareZero: "A payee of asset {assetId} gets a share of its income: name one above 0",
  PayeesAboveLimit: "Asset {assetId} has {most} payees, as many as it may: one must give up its share first",
  PotEmpty: "The pot of asset {assetId} is empty: the escrow's payAsset and its children's distributions fill it",

  // OperatorRegistry
  CallerNotOperator: "Operator {operatorId} isn't {caller}'s: act as its owner",
  EndpointEmpty: "An operator needs the address of its gateway: name one",
  KeyAddedBefore: "Operator {operatorId} has added the key {key} before, and a key can't come back: make a new one",
  KeyExpiryPast: "The key {key} would have expired already, on {expiresAt:time}: let it be valid for longer",
  KeyNotActive: "{key} is no key of operator {operatorId} that could be revoked: it was never added, or revoked before",
  KeyZero: "The zero address can't sign: name the key's address",
  OperatorUnknown: "There is no operator {operatorId}",

  // PerformanceStaking
  BeneficiaryZero: "What is slashed must go to somebody: name a beneficiary",
  CommissionAboveWhole: "A commission of {bps:percent} is more than the whole: set a lower one",
  FreezeTooLong: "Stake can be frozen until {latest:time} at the latest, and not until {until:time}",
  InFlightAboveActiveStake:
    "Operator {operatorId} would have {inFlight:money} of income in flight, and its active stake is {activeStake:money}: add " +
    "stake, or wait until earlier batches are released",
  PoolWornOut:
    "Operator {operatorId}'s pool was slashed so far down that it takes no more stake: its owner registers another operator",
  ProceedsEmpty: "Slashes have left nothing for {beneficiary} to withdraw",
  SharesAbovePosition:
    "{shares} shares of operator {operatorId}'s pool are more than the {held} that the account holds",
  SharesBelowLimit:
    "The stake would be worth {shares} shares, fewer than the {minShares} that were asked for: look at the pool again",
  StakeStillNeeded:
    "Operator {operatorId}'s stake would fall to {stake:money}, and {inFlight:money} of its income are in flight and " +
    "{frozen:money} frozen: wait until its batches are released and its disputes are over",
  StakeStillThawing: "The stake in operator {operatorId} thaws until {readyAt:time}: withdraw it from then on",
  StakeTooSmall: "{amount:money} is less than one share of the pool: stake more",
  "ThawEmpty(uint24,address)":
    "{holder} has no stake in operator {operatorId} on its way out: announce the withdrawal first",
  ThawsTooMany:
    "{holder} has {most} thaws in operator {operatorId} on their way already: withdraw those that are ready, or take one back",

  // UsageEscrow
  AmountZero: "The amount is 0: name a larger one",
  AssetIncomeEmpty: "Asset {assetId} has earned nothing that isn't in its pot yet: releases bring income",
  BatchNotHeld: "Batch {batchId} is {status:batch}: only a batch that is held can be released",
  BatchNotReleased: "Batch {batchId} is {status:batch}: the attestor's share is due once it is released, and once only",
  BatchNotSettled:
    "Batch {batchId} hasn't settled, so nothing was charged by it: see that the header is as it was signed",
  BatchNotVouchedFor:
    "The proof doesn't vouch for batch {batchId}: too few members of the committee {attestor} signed it, or another one",
  BatchOutOfSequence: "A batch of number {last} has settled in its lane, so one of number {sequence} comes too late",
  BatchSettledBefore: "Batch {batchId} has settled before: nothing is charged twice",
  CapCutNone: "No lower cap was announced for license {licenseId}: there is nothing to put in force",
  CapCutRunning: "The lower cap of license {licenseId} can be put in force from {readyAt:time} on",
  CallerNotAttestor: "The attestors' share of batch {batchId} goes to its plan's attestor, and not to {caller}",
  CallerNotOwner: "License {licenseId} isn't {caller}'s: act as its owner",
  CeilingNotRaised: "The deposit ceiling is {current:money} and can only be raised, and not set to {ceiling:money}",
  ChargeEmpty: "Charge {chargeId} is of nothing: there is nothing to freeze",
  ChargeNotFrozen: "Charge {chargeId} is {status:batch}: only a frozen one can be refunded or let go",
  ChargeNotHeld: "Charge {chargeId} is {status:batch}: only one whose hold is running can be frozen",
  CurrencyDecimalsUnsupported:
    "The currency has {decimals} decimals, and a market's currency must have {least} to {most}: choose another",
  CurrencyShort:
    "The escrow would hold {held:money} and owe {owed:money}: the currency takes fees or lets balances shrink, and can't be used",
  DeadlinePassed: "This counted until {deadline:time}, and it is {time:time}: do it anew, with a later deadline",
  DepositCeilingReached:
    "The escrow owes {owed:money} of the {ceiling:money} that it may owe: deposit less, or ask governance to raise the ceiling",
  DepositsPaused: "Purchases and deposits are paused until {until:time}: try again then",
  EarningsEmpty: "Operator {operatorId} has earned nothing that isn't withdrawn yet",
  EntriesMalformed: "Entries of {length} bytes are none: a batch has 1 to 2,000 entries of 28 bytes each",
  EntriesMismatch: "The entries' hash is {actual}, and the header says {signed}: settle the entries that were signed",
  EntriesOutOfOrder: "License {licenseId} comes after license {previous}: entries must ascend by license",
  EntryUnknown: "Batch {batchId} has no entry of license {licenseId}: it charged that license nothing",
  EpochInvalid:
    "An epoch from {epochStart:time} to {epochEnd:time} is none: it ends after it starts, and lasts at most {longest:period}",
  EpochNotEnded: "The epoch ends on {epochEnd:time}, and it is {time:time}: settle it then",
  EpochOverlaps:
    "The epoch starts on {epochStart:time}, and the lane's last one ended on {previousEnd:time}: they overlap",
  FeeAboveBound: "A protocol fee of {feeBps:percent} is above its bound of {bound:percent}",
  FeesEmpty: "No fees wait for the treasury",
  GenerationExhausted: "All generations of license {licenseId} are used up: buy another",
  HoldOver: "The hold of batch {batchId} was over on {releasableAt:time}: what it charged can't be frozen any more",
  HoldRunning: "Batch {batchId} is held until {releasableAt:time}: release it from then on",
  LicenseNotTransferable: "License {licenseId} can't be transferred: its plan doesn't allow it",
  LicenseStatusUnfit: "License {licenseId} {status:license}: this can't be done with it now",
  MinimumNone: "The plan of license {licenseId} has no minimum spend: its terms renew and close by themselves",
  MinimumNotCovered:
    "{available:money} would be there for a minimum of {minimumSpend:money} a term: fund it with the rest first",
  OperatorInJail:
    "Operator {operatorId} is in jail for bad service, and no license may choose it: take another, or wait",
  OutcomesMismatch:
    "The outcomes' hash is {actual}, and the batch's is {committed}: show those of the batch's BatchSettled event",
  PlanChangeNone: "License {licenseId} stays under its plan as it is: no other one was announced",
  PlanHasUpfrontPrice:
    "Plan {planId} has an upfront price of {upfrontPrice:money}, which a license that goes over to it can't pay: buy a new one",
  PlanNotServed: "Operator {operatorId} doesn't serve plan {planId}: choose one that does, with `operator:show`",
  PlanOfAnotherAsset: "Plan {planId} is for asset {assetId}, another one than the license's: buy a license of that",
  PayerNotBuyer:
    "Plan {planId} is an offer to {buyer}, who alone may pay for it, and not {payer}: fund the license later",
  PauseTooSoon: "Deposits may be paused again from {allowedAt:time} on",
  PeriodOutOfRange: "A period of {period:period} isn't within {shortest:period} and {longest:period}",
  PoolIncomeEmpty: "Nothing waits for the pool of operator {operatorId}: releases bring it income and bonuses",
  PriceAboveLimit:
    "It costs {price:money} in all, and you pay at most {limit:money}: look at the plan's price, or raise your limit",
  RenewalForOwner:
    "License {licenseId} can be renewed by its owner alone: its term ended longer than an epoch ago, or a version was recalled",
  ServiceChangeNone:
    "No other operator or road was announced for license {licenseId}: there is nothing to put in force",
  ServiceChangeRunning:
    "The other operator or road of license {licenseId} can be put in force after {readyAt:time}, when use by the present one " +
    "has settled",
  StakingOfAnotherMarket: "The staking contract {staking} is of another currency or another registry of operators",
  StakeThawTooShort:
    "Stake that thaws in {thawPeriod:period} could leave too soon: it takes at least {shortest:period}",
  SummaryInvalid:
    "A batch of {count} receipts with an availability of {availabilityBps:percent} is none: it has at least one receipt and at " +
    "most 100 %",
  TermClosedBefore: "The last term of license {licenseId} was closed before: nothing more is due",
  TermOpen: "The term of license {licenseId} can be closed after {closableAt:time}, when all use of it has settled",
  TermTooShort:
    "A plan with a minimum spend needs a term of at least {shortest:period}, in which its use can settle; this one has " +
    "{termPeriod:period}",
  ThawAboveBalance: "{amount:money} is more than the {balance:money} that license {licenseId} holds: announce less",
  "ThawEmpty(uint64)": "Nothing of license {licenseId} is on its way out: announce the withdrawal first",
  ThawCommitted:
    "{committed:money} of the {balance:money} that license {licenseId} holds are committed to its minimum spend, and stay until " +
    "its term is closed",
  ThawOpen:
    "{amount:money} of license {licenseId} are on their way out: withdraw them first, or take the withdrawal back with " +
    "`license:withdraw --cancel`",
  ThawRunning: "The money of license {licenseId} thaws until {readyAt:time}: withdraw it from then on",
  TotalsMismatch: "The entries don't add up to the header's totals: settle what was signed",
  TransferIncomplete:
    "{expected:money} were to arrive and {received:money} did: the currency takes a fee, and can't be used",
  TreasuryZero: "The protocol fee must go to somebody: name a treasury",
  UpfrontHeld: "The upfront price of license {licenseId} is held until {releasableAt:time}: release it from then on",
  UpfrontNone: "No upfront price of license {licenseId} waits: none was due, or it was released before",
  VersionNotOfModel: "{versionId:Version} isn't one of asset {assetId}, the plan's model",
  VersionNotUsable:
    "{versionId:Version} can't be charged for after {usableUntil:time}, and the epoch ends on {epochEnd:time}",
  VoucherCapNotRaised:
    "The key may bring a term's spending to {current:money} already, and a cap can only be raised, not set to {cap:money}: " +
    "revoke the key and add another",
  VoucherKeyInvalid: "{key} is no key: one has 20 bytes, an address, or 64, a point on the curve P-256",
  VoucherKeyRevoked: "The key {key} of license {licenseId} was revoked, and can't come back: add another",
  VoucherKeyUnknown: "{key} is no key of license {licenseId} in its present generation",
  VouchersMalformed:
    "Vouchers of {length} bytes are none: a call has 1 to 2,000 of them, each of 84 bytes (ECDSA) or 148 (P-256)",
  VouchersOutOfOrder: "License {licenseId} comes after license {previous}: vouchers must ascend by license",
  WaterfallOfAnotherMarket: "The waterfall {waterfall} is of another currency or another registry of assets",
  WindowClosed: "The batch could settle until {closedAt:time}, and it is {time:time}: it is never charged",

  // CommitteeAttestor
  BatchesAgree: "Both are the batch {batchId}: who signs one twice contradicts nothing",
  BatchesOfTwoNumbers:
    "The batches {firstBatchId} and {secondBatchId} are of two numbers, or of two lanes: a signer may sign both",
  BatchNotSigned: "The batch {batchId} isn't signed by {signer}: show its own signature",
  BondNone: "{holder} has no bond for {signer}: it was never posted, or withdrawn, or lost",
  BondNotRaised:
    "The bond for {signer} covers a weight of {present} already, and {weight} isn't more: name a greater one",
  BondNotThawed:
    "The bond for {signer} can be withdrawn only once its wait is over, which is {readyAt:waited}: `committee:thaw` begins it",
  BondThawing: "The bond for {signer} is on its way out already: withdraw it after {readyAt:time}",
  BondUnitZero: "A bond must be something for each unit of weight: name an amount",
  CommitteeEmpty: "A committee needs members: name some",
  CommitteeTooLarge: "A committee of {members} members is too large: it has at most {most}",
  IncomeEmpty: "{payee} has earned nothing here that isn't withdrawn yet",
  PayeeZero: "The member {signer} must be paid to somebody: name its payee",
  RotationNotSigned:
    "The rotation {digest} isn't signed by as many of the present committee as must: gather more signatures",
  RotationTooLate: "The rotation's signatures counted until {deadline:time}: have it signed anew, with a later one",
  RotationsExhausted: "The committee has rotated {number} times, as often as it can: deploy another",
  SignerEquivocated:
    "{signer} was shown to have signed two batches for one number: it counts no more, and can't be bonded; take another key",
  SignerInvalid: "{signer} can't sign: a member is an address, or a verifier's address and a key",
  SignerTwice: "{signer} is named twice: a committee has each member once",
  ThresholdNotMajority:
    "A threshold of {threshold} of a weight of {weight} must be more than half of it, and at most all",
  WeightZero: "The member {signer} must weigh something: name a weight of 1 or more",
  // Authority, and whoever asks it
  AccessManagedInvalidAuthority: "{authority} can't be the authority",
  AccessManagedRequiredDelay: "{caller} must schedule this first: it waits for {delay:period}",
  AccessManagedUnauthorized: "{caller} doesn't hold the role that this takes: deploy/roles.ts says which",
  AccessManagerAlreadyScheduled: "The act {operationId} is scheduled already",
  AccessManagerBadConfirmation: "A role is given up by naming one's own address, and no other",
  AccessManagerExpired: "The act {operationId} was scheduled too long ago: schedule it again",
  AccessManagerInvalidInitialAdmin: "{initialAdmin} can't be the first admin",
  AccessManagerLockedFunction: "The function {selector} belongs to the authority itself",
  AccessManagerLockedRole: "Role {roleId} can't be changed",
  AccessManagerNotReady: "The act {operationId} still waits: do it when its delay is over",
  AccessManagerNotScheduled: "The act {operationId} must be scheduled first, and then waits for its delay",
  AccessManagerUnauthorizedAccount: "{msgsender} doesn't hold role {roleId:role}, which this takes",
  AccessManagerUnauthorizedCall:
    "{caller} may not call the function {selector} of {target}: deploy/roles.ts says who may",
  AccessManagerUnauthorizedCancel: "{msgsender} may not cancel what {caller} scheduled for {target} ({selector})",
  AccessManagerUnauthorizedConsume: "Only {target} itself may say that an act that was scheduled for it is done",

  // Timelock
  AccessControlBadConfirmation: "A role is given up by naming one's own address, and no other",
  AccessControlUnauthorizedAccount:
    "{account} doesn't hold the role {neededRole} of the timelock: `roles:check` says who does",
  DelayOutOfRange:
    "Governance's delay can only be lengthened, to at most {longest:period}: it is {shortest:period} now, and {delay:period} isn't between them",
  TimelockInsufficientDelay: "A delay of {delay:period} is too short: an act waits for at least {minDelay:period}",
  TimelockInvalidOperationLength:
    "Of the acts' {targets} targets, {payloads} calls and {values} values there must be as many of each",
  TimelockUnauthorizedCaller: "{caller} isn't the timelock itself: schedule it as an act of governance",
  TimelockUnexecutedPredecessor: "The act {predecessorId} must be done before this one",
  TimelockUnexpectedOperationState:
    "The act {operationId} isn't in the state that this takes: `governance:show` says what waits, and what is ready",

  // ReportCourt
  BreachNone: "The report of charge {chargeId} shows no breach of that kind ({breach}): look at what it is made of",
  ChargeReportedBefore: "A breach of charge {chargeId} was reported before: one is enough",
  GrantNotOfReceipt: "The receipt came under the grant {wanted}, and not under {grantHash}: show that one",
  LeafBeyondTree: "There is no leaf {index} among the batch's {count}",
  LeavesNotAround:
    "The leaves of the licenses {before} and {behind} don't enclose those of license {licenseId}: take one before it and one behind it",
  PathLengthWrong: "The path has {length} bytes where {needed} are needed: take that of the batch's own tree",
  PathNotOfBatch:
    "The path leads to the root {root}, and the batch's is {attested}: it isn't of this batch, or was changed",
  ReceiptNotOfLicense: "The receipt {receiptHash} isn't one of license {licenseId} by the batch's operator",
  ReceiptNotSigned:
    "The receipt {receiptHash} is signed by {signer}, which wasn't a key of its operator's then, or was revoked since",
  ReportTooLate: "Breaches of charge {chargeId} could be reported until {deadline:time}",
  RewardZero: "A report needs a reward: name the least",
  SignatureMalformed: "The signature has {length} bytes: one has {needed}",

  // DisputeCourt
  AppealClosed: "Challenge {challengeId} can be appealed by that side from {start:time} to {end:time}",
  AppealPaidBefore: "That side's appeal of challenge {challengeId} is paid for, or it is nobody's side ({side})",
  ArbitratorNone: "The plan of challenge {challengeId} names no arbitrator: the operator's answer stands",
  ArbitratorNotContract: "No contract is at {arbitrator}, so it can't rule: name an arbitrator's contract, or none",
  BondZero: "Challenges need a bond: name the least",
  CallerNotArbitrator: "{caller} has no dispute {disputeId} of the court's to rule on",
  CallerNotChallenger: "Challenge {challengeId} isn't {caller}'s: act as who opened it",
  CallerNotParty: "{caller} is neither side of challenge {challengeId}",
  ChallengeStatusUnfit: "Challenge {challengeId} is {status:challenge}: this can't be done with it now",
  ChargeProvenBefore: "Charge {chargeId} was proven before",
  DisputeTaken:
    "The arbitrator {arbitrator} gave the dispute's number {disputeId} twice: it can't be trusted with this one",
  FeeTooSmall: "The fee is {cost} wei, and {paid} came along: send that much",
  GrantNotSigned: "The grant {grantHash} isn't signed by the license's owner {owner}",
  GrantWithoutKey: "The grant {grantHash} is a bearer's: it names no key that signs requests",
  ProofInvalid: "The proof isn't one of receipt {receiptHash} by the version's weights: prove that receipt",
  ProofNeeded:
    "Challenge {challengeId} doubts the receipt {receiptHash}, which can be proven: answer it with its proof",
  ProofsMismatch: "{proofs} proofs came for {receipts} receipts: send one for each",
  ReceiptNotChallenged: "The receipt {receiptHash} isn't the one that is challenged, {challenged}",
  ReceiptNotOfEntry: "The receipt {receiptHash} isn't one of the entry's license, operator, plan, version and epoch",
  ReceiptEmpty: "A receipt of nothing can't be doubted: name one that was charged",
  ReceiptOfMany: "A receipt that a signature stands for is of one request, and not of {requests}",
  RequestNotSigned:
    "The request of receipt {receiptHash} isn't signed by {key}, or the receipt names another signature",
  RequestOutOfEpoch: "The request of receipt {receiptHash} was signed at {at:time}, out of the entry's epoch",
  RequestsAboveEntry: "The receipts add up to {shown}, more than the entry's {entry}: leave out what isn't its own",
  RequestsNotShown: "The license demands signed requests: those of {shown} are shown, and the entry has {entry}",
  RequestsOutOfOrder:
    "The request signature {requestSignatureHash} comes after {previous}: name each once, ascending by hash",
  TurnOver: "The turn in challenge {challengeId} ended {deadline:time}: `dispute:close` decides it",
  TurnRunning: "The turn in challenge {challengeId} runs until {deadline:time}: wait until then",
  VerifierNone: "The version of receipt {receiptHash} names no verifier of proofs",
  WithdrawalEmpty: "Nothing waits here for {holder}",

  // The currency
  AuthorizationExpired: "The authorization was valid until {validBefore:time}: sign a new one",
  AuthorizationNotYetValid: "The authorization is valid after {validAfter:time}: wait until then",
  AuthorizationUsedBefore: "{authorizer}'s authorization {nonce} was used or cancelled: sign a new one",
  CallerNotPayee: "Only {payee}, whom the authorization pays, may execute it, and not {caller}",
  ECDSAInvalidSignature: "The signature is no valid one",
  ECDSAInvalidSignatureLength: "The signature has {length} bytes: one has 65",
  ECDSAInvalidSignatureS: "The signature's s is {s}, in the upper half: sign anew with the lower one",
  ERC20InsufficientAllowance:
    "{spender} may take {allowance:money}, and {needed:money} are needed: approve that much first",
  ERC20InsufficientBalance: "{sender} has {balance:money} and needs {needed:money}: send it the rest",
  ERC20InvalidApprover: "{approver} can't approve anything",
  ERC20InvalidReceiver: "{receiver} can't be sent money: name another address",
  ERC20InvalidSender: "{sender} can't send money",
  ERC20InvalidSpender: "{spender} can't be approved",
  ERC2612ExpiredSignature: "The permit was valid until {deadline:time}: sign a new one",
  ERC2612InvalidSigner: "The permit is signed by {signer}, and not by {owner}",
  InvalidAccountNonce: "The next number of {account}'s permits is {currentNonce}: sign a new one",
  SafeERC20FailedOperation: "The currency {token} refused to move the money: look at what it holds against either side",
  SignatureInvalid: "The signature isn't {signer}'s",

  // Tokens of AssetRegistry, LicenseRegistry and RevenueWaterfall
  ERC2981InvalidDefaultRoyalty: "A royalty of {numerator} in {denominator} is more than the whole",
  ERC2981InvalidDefaultRoyaltyReceiver: "A royalty can't go to {receiver}: name another address",
  ERC2981InvalidTokenRoyalty:
    "A royalty of {numerator} in {denominator} on sales of token {tokenId} is more than the whole",
  ERC2981InvalidTokenRoyaltyReceiver:
    "The royalty on sales of token {tokenId} can't go to {receiver}: name another address",
  ERC721IncorrectOwner: "Token {tokenId} is {owner}'s, and not {sender}'s",
  ERC721InsufficientApproval:
    "Token {tokenId} isn't {operator}'s: act as its owner, or have its owner approve {operator}",
  ERC721InvalidApprover: "{approver} may not approve anybody for the token: its owner may",
  ERC721InvalidOperator: "{operator} can't be approved",
  ERC721InvalidOwner: "{owner} can't own anything",
  ERC721InvalidReceiver: "{receiver} can't own it: name another address",
  ERC721InvalidSender: "The token exists already",
  ERC721NonexistentToken: "There is no token {tokenId}",

  // What no user should ever see
  CheckpointUnorderedInsertion: "Recalls must be noted in the order of their times",
  AddressEmptyCode: "No contract is at {target}",
  FailedCall: "The inner call failed without saying why",
  InsufficientBalance: "The contract has {balance} wei and needs {needed}",
  InvalidShortString: "A name that is kept in the contract is malformed",
  ReentrancyGuardReentrantCall: "The contract was called again while it was at work",
  SafeCastOverflowedUintDowncast: "{value} doesn't fit in {bits} bits: name a smaller number",
  StringTooLong: "“{str}” is too long: it may have 31 bytes",
};
