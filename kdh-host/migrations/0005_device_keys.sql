-- What each device holds, or shall hold, in each slot: a row for each version. The HSM seals every row: all of
-- its columns stand under a MAC by a key that lies there. A row without a right one is refused; rows from
-- before have none, and `kdh-host adopt-keys` has the HSM seal them.

-- N of ksm.N, under which the MAC is made, and the MAC over the other columns.
ALTER TABLE keys ADD COLUMN storage_key INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN mac BLOB;

CREATE TABLE device_keys (
    device      TEXT NOT NULL REFERENCES devices (serial_number),
    slot        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    -- PENDING (offered), ACTIVE (confirmed), DESTROYED (was replaced) or WITHDRAWN (was never confirmed).
    state       TEXT NOT NULL,
    -- UNIQUE or SHARED.
    source      TEXT NOT NULL,
    -- Of a SHARED one.
    key_name    TEXT REFERENCES keys (name),
    -- Of a UNIQUE one, as long as it is PENDING or ACTIVE: the key under ksk.N, by AES key wrap.
    wrapped     BLOB,
    header      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    kcv_method  TEXT NOT NULL,
    kcv         TEXT NOT NULL,
    -- The encryption key that the operator meant. Empty until the device has one: its first enrolment
    -- fills it in.
    recipient   BLOB,
    created_at  TEXT NOT NULL,
    changed_at  TEXT NOT NULL,
    -- N of ksk.N and ksm.N.
    storage_key INTEGER NOT NULL,
    mac         BLOB,
    PRIMARY KEY (device, slot, version)
);
CREATE UNIQUE INDEX one_pending_key ON device_keys (device, slot) WHERE state = 'PENDING';
CREATE UNIQUE INDEX one_active_key ON device_keys (device, slot) WHERE state = 'ACTIVE';
-- AES key wrap gives the same for the same key: no two devices are ever made the same one.
CREATE UNIQUE INDEX no_equal_keys ON device_keys (wrapped) WHERE wrapped IS NOT NULL;
CREATE INDEX keys_by_storage_key ON device_keys (storage_key);

INSERT INTO device_keys
SELECT a.device, a.slot, a.version,
    CASE
        WHEN EXISTS (SELECT 1 FROM deliveries d WHERE d.device = a.device AND d.slot = a.slot
                AND d.version = a.version AND d.state = 'CONFIRMED')
            THEN CASE WHEN EXISTS (SELECT 1 FROM deliveries d WHERE d.device = a.device AND d.slot = a.slot
                AND d.version > a.version AND d.state = 'CONFIRMED') THEN 'DESTROYED' ELSE 'ACTIVE' END
        WHEN a.version < (SELECT MAX(b.version) FROM assignments b WHERE b.device = a.device AND b.slot = a.slot)
            THEN 'WITHDRAWN'
        ELSE 'PENDING'
    END,
    'SHARED', a.key_name, NULL, k.header, k.kind, k.kcv_method, k.kcv, a.recipient, a.created_at, a.created_at,
    0, NULL
FROM assignments a JOIN keys k ON k.name = a.key_name;
DROP TABLE assignments;

-- A delivery is of a row of device_keys, which says what key that is.
CREATE TABLE new_deliveries (
    -- The order in which they were prepared; times are too coarse to tell.
    sequence     INTEGER PRIMARY KEY NOT NULL,
    id           TEXT NOT NULL UNIQUE,
    device       TEXT NOT NULL REFERENCES devices (serial_number),
    slot         TEXT NOT NULL,
    version      INTEGER NOT NULL,
    state        TEXT NOT NULL,
    nonce        BLOB NOT NULL,
    token_sha256 BLOB,
    expires_at   TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL,
    -- Of a delivery without a nonce, which is then empty.
    signing_time INTEGER
);
INSERT INTO new_deliveries
SELECT sequence, id, device, slot, version, state, nonce, token_sha256, expires_at, created_at, changed_at,
    signing_time
FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE new_deliveries RENAME TO deliveries;
CREATE INDEX deliveries_of_a_slot ON deliveries (device, slot, state);
CREATE INDEX unfinished_deliveries ON deliveries (state) WHERE state = 'PREPARED';
