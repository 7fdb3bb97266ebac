-- Times are RFC 3339 in UTC with whole seconds, so that text order is time order.
-- Uniqueness that the protocol relies on is the database's: public keys, serial numbers, nonces.

CREATE TABLE devices (
    serial_number TEXT PRIMARY KEY NOT NULL,
    model         TEXT NOT NULL,
    state         TEXT NOT NULL,
    -- Where a suspended or quarantined device came from.
    state_before  TEXT,
    created_at    TEXT NOT NULL,
    changed_at    TEXT NOT NULL
);

CREATE TABLE activation_codes (
    device      TEXT PRIMARY KEY NOT NULL REFERENCES devices (serial_number),
    code_sha256 BLOB NOT NULL,
    expires_at  TEXT NOT NULL,
    wrong_tries INTEGER NOT NULL DEFAULT 0,
    -- The enrolment that claimed the code: serial number of the encryption certificate to be, and
    -- SHA-256 over both public keys.
    claim       TEXT,
    claimed_by  BLOB,
    used_at     TEXT
);

CREATE INDEX unfinished_enrolments ON activation_codes (claim)
    WHERE claim IS NOT NULL AND used_at IS NULL;

CREATE TABLE certificates (
    serial      TEXT PRIMARY KEY NOT NULL,
    device      TEXT NOT NULL REFERENCES devices (serial_number),
    -- ENCRYPTION or AUTHENTICATION.
    purpose     TEXT NOT NULL,
    key_sha256  BLOB NOT NULL UNIQUE,
    -- CLAIMED (no certificate yet), CURRENT or SUPERSEDED.
    state       TEXT NOT NULL,
    der         BLOB,
    created_at  TEXT NOT NULL
);
CREATE UNIQUE INDEX one_current_certificate ON certificates (device, purpose) WHERE state = 'CURRENT';

CREATE TABLE nonces (
    device TEXT NOT NULL REFERENCES devices (serial_number),
    nonce  BLOB NOT NULL,
    at     TEXT NOT NULL,
    PRIMARY KEY (device, nonce)
);

CREATE TABLE keys (
    name       TEXT PRIMARY KEY NOT NULL,
    hsm_label  TEXT NOT NULL UNIQUE,
    header     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    kcv_method TEXT NOT NULL,
    kcv        TEXT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE TABLE assignments (
    device     TEXT NOT NULL REFERENCES devices (serial_number),
    slot       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    key_name   TEXT NOT NULL REFERENCES keys (name),
    created_at TEXT NOT NULL,
    -- The encryption key that the operator meant. Empty until the device has one: its first enrolment
    -- fills it in.
    recipient  BLOB,
    PRIMARY KEY (device, slot, version)
);

CREATE TABLE deliveries (
    -- The order in which they were prepared; times are too coarse to tell.
    sequence     INTEGER PRIMARY KEY NOT NULL,
    id           TEXT NOT NULL UNIQUE,
    device       TEXT NOT NULL REFERENCES devices (serial_number),
    slot         TEXT NOT NULL,
    version      INTEGER NOT NULL,
    key_name     TEXT NOT NULL REFERENCES keys (name),
    state        TEXT NOT NULL,
    nonce        BLOB NOT NULL,
    token_sha256 BLOB,
    expires_at   TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL
);
CREATE INDEX deliveries_of_a_slot ON deliveries (device, slot, state);
CREATE INDEX unfinished_deliveries ON deliveries (state) WHERE state = 'PREPARED';

-- The highest CRL number seen of each issuer.
CREATE TABLE crl_numbers (
    issuer_sha256 BLOB PRIMARY KEY NOT NULL,
    number        INTEGER NOT NULL
);

CREATE TABLE audit (
    sequence      INTEGER PRIMARY KEY NOT NULL,
    at            TEXT NOT NULL,
    actor         TEXT NOT NULL,
    action        TEXT NOT NULL,
    device        TEXT NOT NULL,
    outcome       TEXT NOT NULL,
    detail        TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash          TEXT NOT NULL
);
