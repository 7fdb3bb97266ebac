-- Rows of device_keys that the HSM does not vouch for can be discarded by two operators: such a row is DISCARDED from
-- then on, its source is NONE, it holds no key, and what else it says of one says nothing.

-- Which devices have a registered key.
CREATE INDEX devices_of_a_key ON device_keys (key_name) WHERE key_name IS NOT NULL;

-- What is looked up in the audit trail while keys are assigned and devices enrol. Other records, which are most of
-- them, are in neither of these.
CREATE INDEX audit_of_devices ON audit (device)
    WHERE action IN ('device.added', 'device.admitted', 'device.enrolled', 'device.grouped', 'key.assigned');
CREATE INDEX audit_of_profiles ON audit (action, sequence)
    WHERE action IN ('key-profile.put', 'key-profile.removed', 'key-profile.assigned');
