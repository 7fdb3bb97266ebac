//! What the audit trail says of devices: of which model each is, in which group, with which keys it has enrolled last,
//! which activation code an operator has issued for it last, and whether it was revoked.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes: some 200
//! bytes for each device. A record that comes or goes behind the host's back changes nothing here.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use kdh_proto::v1::AuditRecord;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Purpose, Store, Tx,
    memory::{Learns, Memory, Remembered},
};
use crate::names::{DeviceSerial, GroupName};

/// A device, by the beginning of SHA-256 of its serial number, which spares its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct DeviceId([u8; 16]);

impl DeviceId {
    fn of(serial: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(serial)[..16]);
        Self(id)
    }
}

/// A name of a model or a group, by its place among all of them; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(NonZeroU32);

/// The beginning of a SHA-256, which is enough to know it again: nobody finds another text for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digest([u8; 16]);

impl Digest {
    fn of(sha256: &[u8]) -> Option<Self> {
        sha256.first_chunk().copied().map(Self)
    }

    /// Of what a record says in hexadecimal digits.
    fn read(said: &Value) -> Option<Self> {
        Self::of(&hex::decode(said.as_str()?).ok()?)
    }
}

/// An activation code that was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    sha256: Digest,
    /// Seconds since 1970.
    expires: i64,
}

impl Code {
    /// Early hosts did not say which code they issued: such a code is none.
    fn read(detail: &Value) -> Option<Self> {
        let expires = OffsetDateTime::parse(detail["expires-at"].as_str()?, &Rfc3339).ok()?;
        Some(Self {
            sha256: Digest::read(&detail["code-sha256"])?,
            expires: expires.unix_timestamp(),
        })
    }
}

/// What an operator has said last of whether a device may enrol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leave {
    #[default]
    None,
    WithCode(Code),
    /// It was revoked, which is final.
    Revoked,
}

/// Public keys that a device has enrolled with. One that a record does not say is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Keys {
    encryption: Digest,
    authentication: Digest,
}

impl Keys {
    fn read(detail: &Value) -> Self {
        let key = |field| Digest::read(&detail[field]).unwrap_or_default();
        Self {
            encryption: key("encryption-key"),
            authentication: key("authentication-key"),
        }
    }
}

/// What is said of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted {
    model: Option<Word>,
    group: Option<Word>,
    leave: Leave,
    /// With which it has enrolled last; none if it never has.
    keys: Option<Keys>,
}

impl Noted {
    /// A code is spent by that.
    fn enrolled(self, keys: Keys) -> Self {
        let leave = match self.leave {
            Leave::Revoked => Leave::Revoked,
            Leave::None | Leave::WithCode(_) => Leave::None,
        };
        Self {
            keys: Some(keys),
            leave,
            ..self
        }
    }

    const fn is_revoked(&self) -> bool {
        matches!(self.leave, Leave::Revoked)
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
enum News {
    Added(Option<Word>),
    /// From another host, with the keys that it had there.
    Admitted(Option<Word>, Keys),
    Enrolled(Keys),
    CodeIssued(Code),
    Grouped(Option<Word>),
    Revoked,
}

/// What a transaction adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    device: DeviceId,
    news: News,
}

impl Change {
    fn apply(&self, noted: Noted) -> Noted {
        match self.news {
            News::Added(model) => Noted { model, ..noted },
            News::Admitted(model, keys) => Noted {
                model,
                ..noted.enrolled(keys)
            },
            News::Enrolled(keys) => noted.enrolled(keys),
            News::CodeIssued(_) if noted.is_revoked() => noted,
            News::CodeIssued(code) => Noted {
                leave: Leave::WithCode(code),
                ..noted
            },
            News::Grouped(group) => Noted { group, ..noted },
            News::Revoked => Noted {
                leave: Leave::Revoked,
                ..noted
            },
        }
    }
}

/// What is known of all devices.
pub(super) type DeviceTrails = Remembered<Known>;

#[derive(Debug, Default)]
pub(super) struct Known {
    devices: HashMap<DeviceId, Noted>,
    words: Vec<Arc<str>>,
    places: HashMap<Arc<str>, Word>,
}

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let Some(change) = self.read(record) {
            self.apply(change);
        }
    }

    /// What a record says of a device, if it says something.
    fn read(&mut self, record: &AuditRecord) -> Option<Change> {
        let detail = || serde_json::from_str::<Value>(&record.detail).unwrap_or_default();
        let news = match &*record.action {
            "device.added" => News::Added(self.word(&detail()["model"])),
            "device.admitted" => {
                let detail = detail();
                News::Admitted(self.word(&detail["model"]), Keys::read(&detail))
            }
            "device.enrolled" => News::Enrolled(Keys::read(&detail())),
            "device.code-issued" => News::CodeIssued(Code::read(&detail())?),
            "device.grouped" => News::Grouped(self.word(&detail()["to"])),
            "device.revoked" => News::Revoked,
            _ => return None,
        };
        Some(Change {
            device: DeviceId::of(&record.device),
            news,
        })
    }

    fn word(&mut self, name: &Value) -> Option<Word> {
        let name = name.as_str()?;
        if let Some(word) = self.places.get(name) {
            return Some(*word);
        }
        let name: Arc<str> = name.into();
        self.words.push(Arc::clone(&name));
        let place = u32::try_from(self.words.len()).ok()?;
        let word = Word(NonZeroU32::new(place)?);
        self.places.insert(name, word);
        Some(word)
    }

    fn text(&self, word: Option<Word>) -> Option<Arc<str>> {
        let place = usize::try_from(word?.0.get()).ok()?;
        self.words.get(place - 1).cloned()
    }
}

impl Learns for Known {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        let noted = self.devices.entry(change.device).or_default();
        *noted = change.apply(*noted);
    }
}

impl DeviceTrails {
    /// What a record that is written adds, if it adds something.
    pub(super) fn change(&self, record: &AuditRecord) -> Option<Change> {
        self.known().read(record)
    }
}

impl Memory {
    fn trail_of(&self, device: &DeviceSerial) -> DeviceTrail {
        let id = DeviceId::of(device.as_str());
        let devices = &self.devices;
        let possible = self.possible(
            || {
                devices
                    .known()
                    .devices
                    .get(&id)
                    .copied()
                    .unwrap_or_default()
            },
            |noted, changes| {
                let changes = changes.devices.iter().filter(|change| change.device == id);
                changes.fold(*noted, |noted, change| change.apply(noted))
            },
        );
        let known = devices.known();
        let possible = possible.iter().map(|noted| Said {
            model: known.text(noted.model),
            group: known.text(noted.group),
            keys: noted.keys,
            unspent: match noted.leave {
                Leave::WithCode(code) => Some(code),
                Leave::None | Leave::Revoked => None,
            },
            is_revoked: noted.is_revoked(),
        });
        DeviceTrail {
            possible: possible.collect(),
        }
    }
}

/// What the trail says of a device: several things for as long as it is not known which of them the database has.
#[derive(Debug)]
pub(crate) struct DeviceTrail {
    possible: Vec<Said>,
}

#[derive(Debug)]
struct Said {
    model: Option<Arc<str>>,
    group: Option<Arc<str>>,
    keys: Option<Keys>,
    unspent: Option<Code>,
    is_revoked: bool,
}

impl DeviceTrail {
    /// Whether there is such a device, or may be.
    pub(crate) fn is_known(&self) -> bool {
        self.possible.iter().any(|said| said.model.is_some())
    }

    /// Whether it is of this model and in this group.
    pub(crate) fn belongs_to(&self, model: &str, group: Option<&GroupName>) -> bool {
        let group = group.map(GroupName::as_str);
        let mut possible = self.possible.iter();
        possible.any(|said| said.model.as_deref() == Some(model) && said.group.as_deref() == group)
    }

    /// Whether it was revoked, or may have been.
    pub(crate) fn is_revoked(&self) -> bool {
        self.possible.iter().any(|said| said.is_revoked)
    }

    /// Whether it was revoked for certain.
    pub(crate) fn is_revoked_for_certain(&self) -> bool {
        self.possible.iter().all(|said| said.is_revoked)
    }

    /// Whether it is in this group, or in none, for certain.
    pub(crate) fn is_in(&self, group: Option<&GroupName>) -> bool {
        let group = group.map(GroupName::as_str);
        let mut possible = self.possible.iter();
        possible.all(|said| said.group.as_deref() == group)
    }

    /// Whether it has ever had an encryption key here.
    pub(crate) fn has_enrolled(&self) -> bool {
        self.possible.iter().all(|said| said.keys.is_some())
    }

    /// Whether it has enrolled last with this public key, given by its SHA-256.
    pub(crate) fn has_key(&self, purpose: Purpose, sha256: &[u8]) -> bool {
        let keys = self.possible.iter().filter_map(|said| said.keys);
        let mut keys = keys.map(|keys| match purpose {
            Purpose::Encryption => keys.encryption,
            Purpose::Authentication => keys.authentication,
        });
        Digest::of(sha256).is_some_and(|sha256| keys.any(|key| key == sha256))
    }

    /// Whether the last code that an operator has issued for it is this one, given by its hash, and nobody has enrolled
    /// since, nor may have, and it is good at this time, and the device was not revoked.
    pub(crate) fn awaits(&self, code_sha256: &[u8], now: OffsetDateTime) -> bool {
        let Some(sha256) = Digest::of(code_sha256) else {
            return false;
        };
        let now = now.unix_timestamp();
        let is_this = |code: Code| code.sha256 == sha256 && now <= code.expires;
        let mut possible = self.possible.iter();
        possible.all(|said| said.unspent.is_some_and(is_this) && !said.is_revoked)
    }
}

impl Tx {
    /// What the trail says of a device. That is not of the moment that this transaction sees, but of now.
    pub(crate) fn trail_of(&self, device: &DeviceSerial) -> DeviceTrail {
        self.memory.trail_of(device)
    }
}

impl Store {
    /// What the trail says of a device now.
    pub(crate) fn trail_of(&self, device: &DeviceSerial) -> DeviceTrail {
        self.memory.trail_of(device)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::{
        commits::{Head, Records},
        memory::Changes,
    };

    fn record(sequence: u64, action: &str, detail: &Value) -> AuditRecord {
        AuditRecord {
            sequence,
            action: action.to_owned(),
            device: "A".to_owned(),
            detail: detail.to_string(),
            ..AuditRecord::default()
        }
    }

    const fn head(sequence: u64) -> Head {
        Head {
            sequence,
            hash: [0; 32],
        }
    }

    /// A record of the trail.
    fn note(memory: &Memory, record: &AuditRecord) {
        memory.devices.known().note(record);
        memory.commits.known().learn(head(record.sequence));
    }

    /// A record that is about to be committed, behind the one before.
    fn expect(memory: &Memory, record: &AuditRecord) {
        let records = Records {
            behind: head(record.sequence - 1),
            last: head(record.sequence),
        };
        memory.expect(Changes {
            records: Some(records),
            devices: Vec::from_iter(memory.devices.change(record)),
            ..Changes::default()
        });
    }

    fn of(memory: &Memory) -> DeviceTrail {
        memory.trail_of(&DeviceSerial::parse("A").unwrap())
    }

    #[test]
    fn either_may_be_there_until_one_of_them_is_known_to_be() {
        let memory = Memory::default();
        let of_no_device = record(1, "key.assigned", &json!({}));
        assert!(memory.devices.change(&of_no_device).is_none());
        let grouped = |sequence, to: &str| record(sequence, "device.grouped", &json!({"to": to}));
        let groups = || {
            let possible = of(&memory).possible.into_iter();
            let names = possible.map(|said| said.group.unwrap_or_default().to_string());
            names.collect::<Vec<_>>()
        };
        note(&memory, &grouped(1, "a"));
        assert_eq!(groups(), ["a"]);
        for (sequence, to) in [(2, "b"), (3, "c"), (4, "d")] {
            expect(&memory, &grouped(sequence, to));
        }
        assert_eq!(groups(), ["a", "b", "c", "d"]);
        memory.settle(head(3));
        assert_eq!(groups(), ["c", "d"]);
        // The last one is not there.
        memory.find(head(3), true).unwrap();
        assert_eq!(groups(), ["c"]);
    }

    const CODE: [u8; 32] = [1; 32];

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn code(sha256: [u8; 32]) -> Value {
        json!({"code-sha256": hex::encode(sha256), "expires-at": "1970-01-01T00:01:00Z"})
    }

    fn keys(encryption: u8) -> Value {
        let key = |byte: u8| hex::encode([byte; 32]);
        json!({"encryption-key": key(encryption), "authentication-key": key(encryption + 1)})
    }

    /// What is known after these records.
    fn after(records: &[(&str, Value)]) -> DeviceTrail {
        let memory = Memory::default();
        for (place, (action, detail)) in records.iter().enumerate() {
            let sequence = u64::try_from(place).unwrap() + 1;
            note(&memory, &record(sequence, action, detail));
        }
        of(&memory)
    }

    #[test]
    fn a_code_counts_that_was_issued_last_and_that_nobody_has_enrolled_with() {
        let issued = || ("device.code-issued", code(CODE));
        let enrolled = || ("device.enrolled", keys(5));
        let admitted = || ("device.admitted", keys(5));
        for records in [&[issued()][..], &[enrolled(), issued()]] {
            assert!(after(records).awaits(&CODE, at(60)));
            assert!(!after(records).awaits(&CODE, at(61)), "expired");
            assert!(!after(records).awaits(&[2; 32], at(0)), "another one");
            assert!(!after(records).awaits(&[], at(0)), "none");
        }
        let mut without_hash = code(CODE);
        without_hash["code-sha256"].take();
        let mut half_a_hash = code(CODE);
        half_a_hash["code-sha256"] = json!("01".repeat(15));
        let mut without_end = code(CODE);
        without_end["expires-at"].take();
        for records in [
            &[][..],
            &[issued(), enrolled()],
            &[issued(), admitted()],
            &[issued(), ("device.code-issued", code([2; 32]))],
            // As early hosts wrote it.
            &[("device.code-issued", json!({}))],
            &[("device.code-issued", without_hash)],
            &[("device.code-issued", half_a_hash)],
            &[("device.code-issued", without_end)],
        ] {
            assert!(!after(records).awaits(&CODE, at(0)), "{records:?}");
        }
    }

    #[test]
    fn a_device_that_was_revoked_or_may_have_been_never_comes_back() {
        let issued = || ("device.code-issued", code(CODE));
        let revoked = || ("device.revoked", json!({}));
        let admitted = || ("device.admitted", keys(5));
        for records in [
            &[revoked()][..],
            &[issued(), revoked()],
            &[revoked(), issued()],
            &[issued(), revoked(), admitted(), issued()],
        ] {
            let trail = after(records);
            assert!(
                trail.is_revoked() && !trail.awaits(&CODE, at(0)),
                "{records:?}"
            );
        }
        assert!(!after(&[]).is_revoked());
        for stopped in ["device.suspended", "device.resumed", "device.moved"] {
            let trail = after(&[issued(), (stopped, json!({}))]);
            assert!(
                !trail.is_revoked() && trail.awaits(&CODE, at(0)),
                "{stopped}"
            );
        }
        // Nobody was told whether it was.
        let memory = Memory::default();
        note(&memory, &record(1, "device.code-issued", &code(CODE)));
        expect(&memory, &record(2, "device.revoked", &json!({})));
        assert!(of(&memory).is_revoked() && !of(&memory).awaits(&CODE, at(0)));
        memory.find(head(1), true).unwrap();
        assert!(!of(&memory).is_revoked() && of(&memory).awaits(&CODE, at(0)));
    }

    #[test]
    fn a_code_does_not_count_while_it_is_in_doubt_or_may_be_spent() {
        let issued = record(1, "device.code-issued", &code(CODE));
        let memory = Memory::default();
        expect(&memory, &issued);
        assert!(!of(&memory).awaits(&CODE, at(0)));
        let memory = Memory::default();
        note(&memory, &issued);
        expect(&memory, &record(2, "device.enrolled", &keys(5)));
        assert!(!of(&memory).awaits(&CODE, at(0)));
        memory.find(head(1), true).unwrap();
        assert!(of(&memory).awaits(&CODE, at(0)));
    }

    #[test]
    fn a_device_takes_little_memory() {
        assert!(size_of::<Noted>() <= 80, "{}", size_of::<Noted>());
    }

    #[test]
    fn the_keys_count_that_a_device_has_enrolled_with_last() {
        let (encryption, authentication) = (Purpose::Encryption, Purpose::Authentication);
        let none = after(&[("device.code-issued", code(CODE))]);
        assert!(!none.has_enrolled());
        assert!(!none.has_key(encryption, &[0; 32]));
        for first in ["device.enrolled", "device.admitted"] {
            let one = after(&[(first, keys(5))]);
            assert!(one.has_enrolled());
            assert!(one.has_key(encryption, &[5; 32]) && one.has_key(authentication, &[6; 32]));
            assert!(!one.has_key(encryption, &[6; 32]) && !one.has_key(authentication, &[5; 32]));
            assert!(!one.has_key(encryption, &[]));
            let other = after(&[(first, keys(5)), ("device.enrolled", keys(7))]);
            assert!(other.has_key(encryption, &[7; 32]) && !other.has_key(encryption, &[5; 32]));
        }
        // It has enrolled, nobody knows with what.
        let unknown = after(&[("device.enrolled", json!({}))]);
        assert!(unknown.has_enrolled() && !unknown.has_key(encryption, &[5; 32]));
        // While it is in doubt whether it has enrolled again, either key may be its.
        let memory = Memory::default();
        note(&memory, &record(1, "device.enrolled", &keys(5)));
        expect(&memory, &record(2, "device.enrolled", &keys(7)));
        let trail = of(&memory);
        assert!(trail.has_key(encryption, &[5; 32]) && trail.has_key(encryption, &[7; 32]));
    }
}
