-- Keys that arrived encrypted, and that the HSM shall unwrap if two operators want it.
CREATE TABLE key_imports (
    -- The order in which they were asked for; times are too coarse to tell.
    sequence   INTEGER PRIMARY KEY NOT NULL,
    id         TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    header     TEXT NOT NULL,
    kcv_method TEXT NOT NULL,
    kcv        TEXT NOT NULL,
    -- kdh.v1.WrappedKey: under a key in the HSM, so of no use to a thief.
    wrapped    BLOB NOT NULL,
    state      TEXT NOT NULL,
    asked_by   TEXT NOT NULL,
    why        TEXT NOT NULL,
    -- Who approved or rejected it.
    decided_by TEXT,
    expires_at TEXT NOT NULL,
    created_at TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    -- Of a TR-34 token: SHA-256 over what its sender signed, hex.
    signed_sha256 TEXT
);
CREATE UNIQUE INDEX one_import_of_a_name ON key_imports (name) WHERE state IN ('ASKED', 'APPROVED');
-- Rows stay, so that a token is imported once for all time.
CREATE UNIQUE INDEX one_import_of_a_token ON key_imports (signed_sha256)
    WHERE state IN ('ASKED', 'APPROVED', 'IMPORTED');
CREATE INDEX unfinished_imports ON key_imports (state) WHERE state = 'APPROVED';
