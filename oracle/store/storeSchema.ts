/**
 * The store's tables, one migration a version; a migration that has shipped never changes.
 * Money and ids are INTEGER, which holds 63 bits (ids count from 1 and a balance of 2^63 units doesn't exist), and are
 * read as bigint. Hashes and signatures are lowercase hex. Messages are kept whole as the JSON of `messages.ts`, receipts in
 * the binary form of `receiptBytes.ts`; what an older version wrote of them is JSON, and their record NULL.
 */
export const MIGRATIONS = [
  `
  CREATE TABLE grants (
    grant_hash TEXT PRIMARY KEY,
    license_id INTEGER NOT NULL,
    body TEXT NOT NULL,
    used INTEGER NOT NULL DEFAULT 0
  ) STRICT;

  CREATE TABLE revoked_grants (
    grant_hash TEXT PRIMARY KEY,
    revoked_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE open_requests (
    request_id TEXT PRIMARY KEY,
    license_id INTEGER NOT NULL,
    operator_id INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    manifest_hash TEXT NOT NULL,
    generation INTEGER NOT NULL,
    grant_hash TEXT NOT NULL REFERENCES grants,
    request_hash TEXT NOT NULL,
    request_signature_hash TEXT NOT NULL,
    opened_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE batches (
    batch_id TEXT PRIMARY KEY,
    operator_id INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    epoch_end INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('drafted', 'attested', 'submitted', 'settled', 'expired')),
    header TEXT NOT NULL,
    entries TEXT NOT NULL,
    measurements TEXT NOT NULL,
    proof TEXT,
    raw_transaction TEXT,
    transaction_hash TEXT
  ) STRICT;
  CREATE UNIQUE INDEX batches_by_sequence ON batches (operator_id, plan_id, version_id, sequence);
  CREATE INDEX batches_by_epoch ON batches (operator_id, plan_id, version_id, epoch_end);
  CREATE INDEX batches_by_state ON batches (state);

  CREATE TABLE receipts (
    receipt_hash TEXT PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    grant_hash TEXT NOT NULL REFERENCES grants,
    finished_at INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('unbatched', 'batched', 'settled', 'void')),
    batch_id TEXT REFERENCES batches,
    body TEXT NOT NULL,
    signature TEXT NOT NULL,
    UNIQUE (operator_id, license_id, sequence)
  ) STRICT;
  CREATE INDEX receipts_unbatched ON receipts (operator_id, plan_id, version_id, finished_at) WHERE state = 'unbatched';
  CREATE INDEX receipts_unsettled ON receipts (license_id, cost) WHERE state IN ('unbatched', 'batched');
  CREATE INDEX receipts_by_batch ON receipts (batch_id);

  CREATE TABLE attested_batches (
    operator_id INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    epoch_end INTEGER NOT NULL,
    batch_id TEXT NOT NULL UNIQUE,
    PRIMARY KEY (operator_id, plan_id, version_id, sequence)
  ) STRICT;

  CREATE TABLE seen_receipts (
    receipt_hash TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    previous_hash TEXT NOT NULL,
    grant_hash TEXT NOT NULL,
    cost INTEGER NOT NULL,
    batch_id TEXT NOT NULL REFERENCES attested_batches (batch_id),
    UNIQUE (operator_id, request_id),
    UNIQUE (operator_id, license_id, sequence)
  ) STRICT;
  CREATE INDEX seen_receipts_by_grant ON seen_receipts (grant_hash, batch_id, cost);

  CREATE TABLE canaries (
    operator_id INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    ok INTEGER NOT NULL,
    ttft_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX canaries_by_time ON canaries (operator_id, plan_id, version_id, at);
  `,
  `
  CREATE TABLE owner (
    what TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT;
  `,
  `
  ALTER TABLE receipts ADD COLUMN signer TEXT;
  CREATE INDEX receipts_unbatched_by_signer ON receipts (operator_id, signer) WHERE state = 'unbatched';
  `,
  `
  CREATE TABLE signatures (
    batch_id TEXT NOT NULL REFERENCES batches,
    signer TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (batch_id, signer)
  ) STRICT;
  `,
  `
  CREATE TABLE transactions (
    account TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    raw TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('open', 'confirmed', 'reverted', 'replaced')),
    block INTEGER,
    PRIMARY KEY (account, nonce, attempt)
  ) STRICT;
  CREATE INDEX transactions_by_purpose ON transactions (account, purpose, nonce);
  CREATE INDEX transactions_open ON transactions (account, nonce) WHERE state = 'open';
  `,
  `
  ALTER TABLE seen_receipts ADD COLUMN finished_at INTEGER;
  ALTER TABLE canaries ADD COLUMN tokens_per_second INTEGER;

  CREATE TABLE measured (
    what TEXT PRIMARY KEY,
    until INTEGER NOT NULL
  ) STRICT;
  `,
  `
  CREATE TABLE voucher_terms (
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    term INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    owed INTEGER NOT NULL,
    signed INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    voucher TEXT,
    unposted_since INTEGER,
    is_closed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (operator_id, license_id, term)
  ) STRICT;
  CREATE INDEX voucher_terms_unposted ON voucher_terms (unposted_since) WHERE unposted_since IS NOT NULL;

  ALTER TABLE open_requests ADD COLUMN on_voucher_road INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE receipts ADD COLUMN term INTEGER;
  `,
  `
  ALTER TABLE batches DROP COLUMN raw_transaction;
  ALTER TABLE batches DROP COLUMN transaction_hash;
  `,
  `
  DROP TABLE revoked_grants;
  CREATE TABLE revoked_grants (
    license_id INTEGER NOT NULL,
    grant_hash TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (license_id, grant_hash)
  ) STRICT;
  `,
  `
  ALTER TABLE receipts ADD COLUMN record BLOB;
  ALTER TABLE receipts ADD COLUMN position INTEGER;
  CREATE UNIQUE INDEX receipts_by_position ON receipts (position);

  CREATE TABLE feeds (
    attestor TEXT PRIMARY KEY,
    position INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE copies (
    position INTEGER PRIMARY KEY,
    receipt_hash BLOB NOT NULL UNIQUE,
    operator_id INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    arrived_at INTEGER NOT NULL,
    signer TEXT NOT NULL,
    record BLOB NOT NULL
  ) STRICT;
  CREATE INDEX copies_by_operator ON copies (operator_id, position);
  CREATE INDEX copies_by_time ON copies (finished_at);
  `,
  `
  CREATE TABLE evidence_seeds (
    seed TEXT PRIMARY KEY,
    operator_id INTEGER NOT NULL,
    receipt_signer TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    used INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX evidence_seeds_by_signer ON evidence_seeds (operator_id, receipt_signer);

  CREATE TABLE evidence_devices (
    device TEXT PRIMARY KEY,
    operator_id INTEGER NOT NULL,
    held_until INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE evidence_findings (
    evidence_hash TEXT PRIMARY KEY,
    operator_id INTEGER NOT NULL,
    receipt_signer TEXT NOT NULL,
    tier INTEGER NOT NULL,
    from_time INTEGER NOT NULL,
    until_time INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX evidence_findings_by_operator ON evidence_findings (operator_id, until_time);
  `,
  `
  ALTER TABLE batches ADD COLUMN released INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX batches_unreleased ON batches (epoch_end) WHERE state = 'settled' AND released = 0;
  `,
  `
  ALTER TABLE receipts ADD COLUMN requests INTEGER;
  ALTER TABLE receipts ADD COLUMN input_tokens INTEGER;
  ALTER TABLE receipts ADD COLUMN cached_input_tokens INTEGER;
  ALTER TABLE receipts ADD COLUMN output_tokens INTEGER;
  ALTER TABLE receipts ADD COLUMN compute_ms INTEGER;
  DROP INDEX receipts_unbatched;
  CREATE INDEX receipts_unbatched ON receipts (operator_id, plan_id, version_id, license_id, finished_at,
    requests, input_tokens, cached_input_tokens, output_tokens, compute_ms) WHERE state = 'unbatched';
  `,
  `
  CREATE TABLE canary_answers (
    operator_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    request_hash TEXT NOT NULL,
    response_hash TEXT NOT NULL,
    most_input INTEGER NOT NULL,
    most_output INTEGER NOT NULL,
    is_counted INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX canary_answers_by_time ON canary_answers (operator_id, at);
  `,
  `
  CREATE TABLE prepayments (
    payer TEXT NOT NULL,
    nonce TEXT NOT NULL,
    payment TEXT NOT NULL,
    plan_id INTEGER NOT NULL,
    deposit INTEGER NOT NULL,
    price INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('accepted', 'paid', 'bought', 'refunding', 'refunded', 'failed')),
    payment_hash TEXT,
    result_hash TEXT,
    license_id INTEGER,
    reason TEXT,
    PRIMARY KEY (payer, nonce)
  ) STRICT;
  CREATE INDEX prepayments_unfinished ON prepayments (accepted_at) WHERE state IN ('accepted', 'paid', 'refunding');
  CREATE INDEX prepayments_by_time ON prepayments (accepted_at);
  `,
  `
  CREATE TABLE tallies (
    what TEXT NOT NULL CHECK (what IN ('license', 'all')),
    id INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    freed INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    PRIMARY KEY (what, id)
  ) STRICT;
  INSERT INTO tallies SELECT 'license', license_id, sum(cost), 0, 0 FROM receipts
    WHERE state IN ('unbatched', 'batched') GROUP BY license_id;
  INSERT INTO tallies SELECT 'all', 0, coalesce(sum(cost), 0), 0, 0 FROM receipts WHERE state IN ('unbatched', 'batched');

  ALTER TABLE grants ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE open_requests ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE open_requests ADD COLUMN gateway TEXT NOT NULL DEFAULT '';

  CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    token INTEGER NOT NULL,
    until INTEGER NOT NULL
  ) STRICT;
  `,
  `
  CREATE TABLE request_signatures (
    operator_id INTEGER NOT NULL,
    request_signature_hash TEXT NOT NULL,
    packed BLOB NOT NULL,
    used_by TEXT NOT NULL,
    signed_at INTEGER NOT NULL,
    PRIMARY KEY (request_signature_hash, operator_id)
  ) STRICT;
  CREATE INDEX request_signatures_by_use ON request_signatures (used_by);
  CREATE INDEX request_signatures_by_time ON request_signatures (signed_at);
  `,
  `
  ALTER TABLE receipts ADD COLUMN leaf BLOB;
  ALTER TABLE copies ADD COLUMN leaf BLOB;
  DROP INDEX receipts_unsettled;
  DROP INDEX receipts_by_batch;
  CREATE INDEX receipts_by_batch ON receipts (batch_id) WHERE batch_id IS NOT NULL;

  ALTER TABLE attested_batches ADD COLUMN number INTEGER;
  UPDATE attested_batches SET number = numbered.number
    FROM (SELECT batch_id, row_number() OVER (ORDER BY epoch_end, batch_id) AS number FROM attested_batches) AS numbered
    WHERE numbered.batch_id = attested_batches.batch_id;
  CREATE UNIQUE INDEX attested_batches_by_number ON attested_batches (number);

  CREATE TABLE seen_spans (
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    last INTEGER NOT NULL,
    first INTEGER NOT NULL,
    number INTEGER NOT NULL,
    previous_hash TEXT NOT NULL,
    last_hash TEXT NOT NULL,
    first_finished_at INTEGER,
    last_finished_at INTEGER,
    PRIMARY KEY (operator_id, license_id, last)
  ) STRICT;
  INSERT INTO seen_spans SELECT seen_receipts.operator_id, license_id, seen_receipts.sequence, seen_receipts.sequence,
    number, previous_hash, receipt_hash, finished_at, finished_at FROM seen_receipts JOIN attested_batches USING (batch_id);

  CREATE TABLE seen_requests (
    operator_id INTEGER NOT NULL,
    request_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (operator_id, request_id)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO seen_requests SELECT seen_receipts.operator_id, unhex(substr(request_id, 3)), number
    FROM seen_receipts JOIN attested_batches USING (batch_id);

  CREATE TABLE seen_costs (
    grant_hash TEXT NOT NULL,
    number INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    PRIMARY KEY (grant_hash, number)
  ) STRICT;
  INSERT INTO seen_costs SELECT grant_hash, number, sum(cost) FROM seen_receipts JOIN attested_batches USING (batch_id)
    GROUP BY grant_hash, number;
  DROP TABLE seen_receipts;
  `,
  `
  ALTER TABLE attested_batches ADD COLUMN body TEXT;

  CREATE TABLE grant_copies (
    operator_id INTEGER NOT NULL,
    grant_hash TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (operator_id, grant_hash)
  ) STRICT;
  CREATE INDEX grant_copies_by_end ON grant_copies (expires_at);

  CREATE TABLE last_copies (
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (operator_id, license_id)
  ) STRICT;

  CREATE TABLE recovery (
    what TEXT PRIMARY KEY CHECK (what IN ('incomplete since', 'rebuilt at')),
    at INTEGER NOT NULL
  ) STRICT;
  `,
  `
  CREATE INDEX open_requests_by_voucher ON open_requests (license_id) WHERE on_voucher_road = 1;
  `,
  `
  CREATE TABLE disclosures (
    request_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    request BLOB NOT NULL,
    response BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    kept_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX disclosures_by_time ON disclosures (kept_at, bytes);

  CREATE TABLE audits (
    receipt_hash TEXT PRIMARY KEY,
    operator_id INTEGER NOT NULL,
    plan_id INTEGER NOT NULL,
    manifest_hash TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    record BLOB NOT NULL,
    tries INTEGER NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('due', 'agree', 'disagree', 'unknown')),
    reason TEXT NOT NULL
  ) STRICT;
  CREATE INDEX audits_due ON audits (tries, finished_at) WHERE verdict = 'due';
  CREATE INDEX audits_by_lane ON audits (operator_id, plan_id, manifest_hash, finished_at);
  `,
  `
  CREATE TABLE wanted_renewals (
    license_id INTEGER PRIMARY KEY
  ) STRICT;
  `,
  `
  CREATE TABLE archives (
    name TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    receipts INTEGER NOT NULL,
    archived_at INTEGER NOT NULL,
    is_moved INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE archived_spans (
    name TEXT NOT NULL REFERENCES archives,
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (operator_id, license_id, name)
  ) STRICT;
  CREATE INDEX archived_spans_by_last ON archived_spans (operator_id, license_id, last);
  CREATE INDEX archived_spans_by_name ON archived_spans (name);

  CREATE TABLE archived_requests (
    request_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL
  ) STRICT;

  CREATE INDEX receipts_unbatchable ON receipts (finished_at) WHERE (state = 'void' OR term IS NOT NULL);
  `,
  `
  CREATE TABLE challenges_over (
    what TEXT PRIMARY KEY,
    up_to INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE provable_inputs (
    request_id TEXT PRIMARY KEY,
    input BLOB NOT NULL
  ) STRICT;
  `,
  `
  ALTER TABLE canary_answers ADD COLUMN difference TEXT;
  `,
  `
  ALTER TABLE grants ADD COLUMN expires_at INTEGER;
  CREATE INDEX grants_by_end ON grants (expires_at);
  `,
  `
  ALTER TABLE attested_batches ADD COLUMN receipts BLOB;
  CREATE INDEX attested_batches_unarchived ON attested_batches (epoch_end) WHERE receipts IS NOT NULL;
  `,
  `
  CREATE TABLE copies_by_number (
    position INTEGER PRIMARY KEY,
    operator_id INTEGER NOT NULL,
    license_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    receipt_hash BLOB NOT NULL,
    finished_at INTEGER NOT NULL,
    arrived_at INTEGER NOT NULL,
    signer TEXT NOT NULL,
    record BLOB NOT NULL,
    leaf BLOB,
    UNIQUE (operator_id, license_id, sequence, receipt_hash)
  ) STRICT;
  INSERT INTO copies_by_number SELECT position, operator_id, integer_of(substr(record, 1, 8)),
    integer_of(substr(record, 82, 8)), receipt_hash, finished_at, arrived_at, signer, record, leaf FROM copies;
  DROP TABLE copies;
  ALTER TABLE copies_by_number RENAME TO copies;
  CREATE INDEX copies_by_time ON copies (finished_at);
  `,
  `
  DROP INDEX copies_by_time;
  `,
  `
  CREATE TABLE proofs (
    receipt_hash TEXT PRIMARY KEY,
    proof BLOB NOT NULL
  ) STRICT;

  CREATE TABLE proven_receipts (
    receipt_hash TEXT PRIMARY KEY,
    finished_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX proven_receipts_by_time ON proven_receipts (finished_at);
  `,
  `
  ALTER TABLE canary_answers ADD COLUMN plan_id INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE canary_answers ADD COLUMN version_id INTEGER NOT NULL DEFAULT 0;
  `,
];
