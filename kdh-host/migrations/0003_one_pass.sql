-- Key tokens that nobody asked for: they carry a time instead of a nonce.

-- Seconds since 1970 in the last such token for the device. Each later one has a later time, whatever the
-- clock does: the device takes no other.
ALTER TABLE devices ADD COLUMN last_signing_time INTEGER;

-- Of a delivery without a nonce, which is then empty.
ALTER TABLE deliveries ADD COLUMN signing_time INTEGER;
