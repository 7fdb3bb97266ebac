-- What the slots of devices hold, and the models and groups that carry it.

-- The group that a device is in, if it is in one.
ALTER TABLE devices ADD COLUMN group_name TEXT;
-- For counting devices without reading them.
CREATE INDEX devices_of_a_model ON devices (model, group_name, state);
CREATE INDEX devices_of_a_group ON devices (group_name, model, state) WHERE group_name IS NOT NULL;

-- Every version stays.
CREATE TABLE key_profiles (
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    -- Canonical JSON. None: the profile was removed by this version.
    document   TEXT,
    put_by     TEXT NOT NULL,
    why        TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE key_profile_targets (
    -- MODEL or GROUP.
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    profile     TEXT NOT NULL,
    assigned_by TEXT NOT NULL,
    why         TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX targets_of_a_profile ON key_profile_targets (profile);
