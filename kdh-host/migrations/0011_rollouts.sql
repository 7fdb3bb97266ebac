-- Next versions of keys for many devices, as operators order them or as they fall due. The HSM seals each row; how
-- far a rollout has come is not sealed: nobody gains a key by changing that.
CREATE TABLE rollouts (
    number       INTEGER PRIMARY KEY NOT NULL,
    -- COMMAND, RENEWAL (keys that are due) or FILLING (devices that came later).
    kind         TEXT NOT NULL,
    -- MODEL, GROUP, DEVICES or ANY.
    target_kind  TEXT NOT NULL,
    -- The model, the group, or SHA-256 over the serial numbers, hex.
    target       TEXT NOT NULL,
    -- Of DEVICES: their serial numbers, one a line.
    devices      TEXT NOT NULL,
    -- One a line; none for all that the profiles of the devices have.
    slots        TEXT NOT NULL,
    -- Devices in a wave; 0 for all in one.
    wave_devices INTEGER NOT NULL,
    -- How many of a hundred keys of a wave are confirmed before the next one begins.
    proceed_at   INTEGER NOT NULL,
    -- It pauses when more devices than these have reported a wrong check value. None: it does not.
    stop_after   INTEGER,
    -- Of those, how many there were when an operator had it go on.
    forgiven     INTEGER NOT NULL,
    -- RUNNING, PAUSED, STOPPED or DONE.
    state        TEXT NOT NULL,
    -- Why it was paused or stopped.
    state_why    TEXT NOT NULL,
    started_by   TEXT NOT NULL,
    why          TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL,
    storage_key  INTEGER NOT NULL,
    mac          BLOB
);
CREATE UNIQUE INDEX one_open_rollout ON rollouts (kind, target_kind, target) WHERE state IN ('RUNNING', 'PAUSED');

-- Devices are taken in the order of their serial numbers: a wave is those behind one of them, up to another.
CREATE TABLE rollout_waves (
    rollout      INTEGER NOT NULL REFERENCES rollouts (number),
    wave         INTEGER NOT NULL,
    after_device TEXT NOT NULL,
    -- The last one that was looked at: the next batch begins behind it.
    last_device  TEXT NOT NULL,
    devices      INTEGER NOT NULL,
    made         INTEGER NOT NULL,
    skipped      INTEGER NOT NULL,
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL,
    PRIMARY KEY (rollout, wave)
);

-- What became of each slot. No slot gets two versions from one rollout.
CREATE TABLE rollout_keys (
    rollout INTEGER NOT NULL,
    device  TEXT NOT NULL,
    -- Empty: all of them.
    slot    TEXT NOT NULL,
    -- None: it was skipped.
    version INTEGER,
    -- Why it was skipped.
    skipped TEXT,
    PRIMARY KEY (rollout, device, slot)
);
CREATE INDEX skipped_by_rollouts ON rollout_keys (rollout, device) WHERE skipped IS NOT NULL;

CREATE INDEX devices_of_a_model_in_order ON devices (model, serial_number);
CREATE INDEX devices_of_a_group_in_order ON devices (group_name, serial_number) WHERE group_name IS NOT NULL;
CREATE INDEX mismatched_deliveries ON deliveries (device) WHERE state = 'MISMATCH';

-- How many keys share a check value. Keys that are equal by more than chance raise an alarm.
CREATE INDEX live_check_values ON device_keys (kcv_method, kcv)
    WHERE source = 'UNIQUE' AND state IN ('PENDING', 'ACTIVE');
-- Keys that are due, the oldest first.
CREATE INDEX live_keys_by_age ON device_keys (slot, created_at, device) WHERE state IN ('PENDING', 'ACTIVE');

-- Devices that have enrolled or came into a group since it was looked whether their slots have keys.
CREATE TABLE devices_to_fill (
    device TEXT PRIMARY KEY NOT NULL REFERENCES devices (serial_number)
);
