-- Which KDH a device is bound to, what operators have ordered about that, and what was signed for it.

-- IssuerAndSerialNumber, DER, of the KDH to which the device is bound by its own word. Where a token left
-- that ends the binding, this is what it was bound to until the device has acknowledged it.
ALTER TABLE devices ADD COLUMN bound_kdh BLOB;
-- Since such a token left, until the device binds anew: ASSUMED_DESTROYED, DESTROYED or HANDED_OVER.
ALTER TABLE devices ADD COLUMN keys_fate TEXT;

CREATE TABLE binding_orders (
    number     INTEGER PRIMARY KEY NOT NULL,
    device     TEXT NOT NULL REFERENCES devices (serial_number),
    -- UNBIND or REBIND.
    kind       TEXT NOT NULL,
    -- Of a REBIND: the certificate of the KDH to which the device shall go.
    new_kdh    BLOB,
    state      TEXT NOT NULL,
    ordered_by TEXT NOT NULL,
    why        TEXT NOT NULL,
    created_at TEXT NOT NULL,
    changed_at TEXT NOT NULL
);
CREATE UNIQUE INDEX one_open_order ON binding_orders (device) WHERE state = 'OPEN';

-- What CA_KRD shall sign, if two operators want it.
CREATE TABLE authority_requests (
    -- The order in which they were asked for; times are too coarse to tell.
    sequence    INTEGER PRIMARY KEY NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    device      TEXT NOT NULL REFERENCES devices (serial_number),
    -- The encryption certificate that the token names.
    certificate TEXT NOT NULL REFERENCES certificates (serial),
    kind        TEXT NOT NULL,
    -- IssuerAndSerialNumber, DER, of the KDH that is lost.
    kdh         BLOB NOT NULL,
    new_kdh     BLOB,
    state       TEXT NOT NULL,
    asked_by    TEXT NOT NULL,
    why         TEXT NOT NULL,
    -- Who approved or rejected it.
    decided_by  TEXT,
    expires_at  TEXT NOT NULL,
    token       BLOB,
    created_at  TEXT NOT NULL,
    changed_at  TEXT NOT NULL
);
-- Nothing in such a token keeps it from being used again: for a pair there is one at most, ever.
CREATE UNIQUE INDEX one_authority_token ON authority_requests (certificate, kdh)
    WHERE state IN ('ASKED', 'APPROVED', 'SIGNED');
CREATE INDEX unfinished_approvals ON authority_requests (state) WHERE state = 'APPROVED';

-- Unbind and rebind tokens, by whomever they were signed.
CREATE TABLE binding_tokens (
    id           TEXT PRIMARY KEY NOT NULL,
    device       TEXT NOT NULL REFERENCES devices (serial_number),
    -- What it was made for: one of the two.
    order_number INTEGER REFERENCES binding_orders (number),
    authority    TEXT REFERENCES authority_requests (id),
    kind         TEXT NOT NULL,
    -- IssuerAndSerialNumbers, DER: of the KDH that is left, and of a REBIND the one that takes over.
    kdh          BLOB NOT NULL,
    new_kdh      BLOB,
    state        TEXT NOT NULL,
    -- Of the tokens that the KDH signs.
    nonce        BLOB,
    token_sha256 BLOB UNIQUE,
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL
);
CREATE INDEX tokens_of_a_device ON binding_tokens (device, state);
CREATE INDEX unfinished_tokens ON binding_tokens (state) WHERE state = 'PREPARED';
