-- What goes to payment switches: a line of records for each target, which is an approval of the act EXPORT_TARGET.
--
-- A record in line gives nothing away: the HSM verifies the target and the device's key before it makes one of it,
-- and only what the target covers goes. A record that is made stands under a MAC by the target's own key.
CREATE TABLE export_records (
    -- The approval's id.
    target          TEXT NOT NULL,
    -- From 1, without gaps.
    position        INTEGER NOT NULL,
    device          TEXT NOT NULL,
    slot            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    -- QUEUED, MADE, SKIPPED (there was nothing to be exported any more) or ERASED (it has arrived, and its key is
    -- not kept any longer).
    state           TEXT NOT NULL,
    -- From here on, of one that is MADE; of one that is ERASED, without the key.
    header          TEXT,
    kind            TEXT,
    kcv_method      TEXT,
    kcv             TEXT,
    exported        TEXT,
    -- Of one that is SKIPPED, too.
    mac             BLOB,
    created_at      TEXT NOT NULL,
    changed_at      TEXT NOT NULL,
    acknowledged_at TEXT,
    PRIMARY KEY (target, position)
);
CREATE UNIQUE INDEX exported_once ON export_records (target, device, slot, version) WHERE state <> 'SKIPPED';
CREATE INDEX queued_exports ON export_records (target, position) WHERE state = 'QUEUED';

-- How far a target's receiver has come.
CREATE TABLE export_marks (
    target       TEXT PRIMARY KEY NOT NULL,
    -- The last record that left.
    sent         INTEGER NOT NULL,
    -- Up to which all have arrived.
    acknowledged INTEGER NOT NULL,
    -- Up to which none has its key any more.
    erased       INTEGER NOT NULL
);
