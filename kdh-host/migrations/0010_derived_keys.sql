-- BDKs, from which the HSM derives initial keys of devices (AES DUKPT). The HSM seals each row.
CREATE TABLE bdks (
    -- Its label in the HSM is bdk.NAME.
    name        TEXT PRIMARY KEY NOT NULL,
    kind        TEXT NOT NULL,
    kcv_method  TEXT NOT NULL,
    kcv         TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    storage_key INTEGER NOT NULL,
    mac         BLOB
);
-- One key under two names would give out each initial key twice.
CREATE UNIQUE INDEX no_bdk_twice ON bdks (kind, kcv_method, kcv);

-- Up to which one the derivation ids of a key set are given out; the audit trail has each step.
CREATE TABLE derivation_ids (
    bdk        TEXT NOT NULL REFERENCES bdks (name),
    -- Eight hexadecimal digits.
    key_set_id TEXT NOT NULL,
    last       INTEGER NOT NULL,
    PRIMARY KEY (bdk, key_set_id)
);

-- Of a DERIVED key: whose it is. It is derived again whenever it is needed.
ALTER TABLE device_keys ADD COLUMN bdk TEXT REFERENCES bdks (name);
ALTER TABLE device_keys ADD COLUMN key_set_id TEXT;
ALTER TABLE device_keys ADD COLUMN derivation_id INTEGER;
-- No initial key is ever given out twice.
CREATE UNIQUE INDEX no_equal_initial_keys ON device_keys (bdk, key_set_id, derivation_id) WHERE bdk IS NOT NULL;
