-- What takes two operators: one asks for it, and another one approves. The HSM seals each row.
CREATE TABLE approvals (
    -- The order in which they were asked for; times are too coarse to tell.
    sequence    INTEGER PRIMARY KEY NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    -- STORAGE_ROTATION.
    act         TEXT NOT NULL,
    -- Of a rotation: the number of the new pair of storage keys.
    subject     TEXT NOT NULL,
    -- ASKED, APPROVED (in force), ENDED, REJECTED or EXPIRED.
    state       TEXT NOT NULL,
    asked_by    TEXT NOT NULL,
    why         TEXT NOT NULL,
    -- Who approved or rejected it.
    decided_by  TEXT,
    expires_at  TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    changed_at  TEXT NOT NULL,
    storage_key INTEGER NOT NULL,
    mac         BLOB
);
CREATE UNIQUE INDEX one_open_approval ON approvals (act, subject) WHERE state IN ('ASKED', 'APPROVED');
