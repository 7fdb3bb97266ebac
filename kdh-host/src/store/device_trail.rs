//! What the audit trail says of devices: of which model each is, in which group, with which keys it has enrolled last, and
//! which activation code an operator has issued for it last.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes: some 200
//! bytes for each device. A record that comes or goes behind the host's back changes nothing here.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kdh_proto::v1::AuditRecord;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Purpose, Store, Tx};
use crate::names::{DeviceSerial, GroupName};

/// So many states of a device may be in doubt. Beyond that its whole trail is, until the next start.
const MOST_IN_DOUBT: usize = 64;

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

/// What is said of a device, each with the record that says so; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted {
    model: Option<Word>,
    group: Option<Word>,
    grouped: u64,
    code: Option<Code>,
    coded: u64,
    keys: Keys,
    enrolled: u64,
}

impl Noted {
    const fn has_enrolled(&self) -> bool {
        self.enrolled > 0
    }

    /// The code with which nobody has enrolled yet.
    fn unspent(&self) -> Option<Code> {
        self.code.filter(|_| self.coded > self.enrolled)
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
}

/// What a transaction adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    device: DeviceId,
    news: News,
    sequence: u64,
}

impl Change {
    /// Two may be heard of in another order than they were committed. Of two with one number only one can have been.
    fn apply(&self, noted: Noted) -> Noted {
        let sequence = self.sequence;
        match self.news {
            News::Added(model) => Noted { model, ..noted },
            News::Admitted(model, keys) => {
                let news = News::Enrolled(keys);
                let noted = Self { news, ..*self }.apply(noted);
                Noted { model, ..noted }
            }
            News::Enrolled(keys) if sequence >= noted.enrolled => Noted {
                keys,
                enrolled: sequence,
                ..noted
            },
            News::CodeIssued(code) if sequence >= noted.coded => Noted {
                code: Some(code),
                coded: sequence,
                ..noted
            },
            News::Grouped(to) if sequence >= noted.grouped => Noted {
                group: to,
                grouped: sequence,
                ..noted
            },
            News::Enrolled(_) | News::CodeIssued(_) | News::Grouped(_) => noted,
        }
    }
}

/// What is known of all devices.
#[derive(Debug, Default)]
pub(super) struct DeviceTrails(Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known {
    devices: HashMap<DeviceId, Noted>,
    /// Of which it is not known what the database has: all that it may have, or nothing where that would be too much.
    /// There are few.
    in_doubt: HashMap<DeviceId, Vec<Noted>>,
    words: Vec<Arc<str>>,
    places: HashMap<Arc<str>, Word>,
}

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let Some(change) = self.read(record) {
            let noted = self.devices.entry(change.device).or_default();
            *noted = change.apply(*noted);
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
            _ => return None,
        };
        Some(Change {
            device: DeviceId::of(&record.device),
            news,
            sequence: record.sequence,
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

    /// All that may be said of a device.
    fn possible(&self, device: DeviceId) -> Vec<Noted> {
        let settled = self.devices.get(&device).copied().unwrap_or_default();
        let in_doubt = self.in_doubt.get(&device).cloned();
        in_doubt.unwrap_or_else(|| vec![settled])
    }
}

impl DeviceTrails {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a record that is written adds, if it adds something.
    pub(super) fn change(&self, record: &AuditRecord) -> Option<Change> {
        self.known().read(record)
    }

    /// These changes are about to be committed: from now on, the database may have them or not.
    pub(super) fn expect(&self, changes: &[Change]) {
        let mut known = self.known();
        for change in changes {
            let mut possible = known.possible(change.device);
            for place in 0..possible.len() {
                let then = change.apply(possible[place]);
                if !possible.contains(&then) {
                    possible.push(then);
                }
            }
            if possible.len() > MOST_IN_DOUBT {
                possible.clear();
            }
            known.in_doubt.insert(change.device, possible);
        }
    }

    /// They are committed.
    pub(super) fn settle(&self, changes: &[Change]) {
        let mut known = self.known();
        for change in changes {
            let mut settled = Vec::new();
            for noted in known.possible(change.device) {
                let then = change.apply(noted);
                if !settled.contains(&then) {
                    settled.push(then);
                }
            }
            if let [noted] = settled[..] {
                known.devices.insert(change.device, noted);
                known.in_doubt.remove(&change.device);
            } else {
                known.in_doubt.insert(change.device, settled);
            }
        }
    }

    fn of(&self, device: &DeviceSerial) -> DeviceTrail {
        let known = self.known();
        let possible = known.possible(DeviceId::of(device.as_str()));
        let possible = possible.iter().map(|noted| Said {
            model: known.text(noted.model),
            group: known.text(noted.group),
            keys: noted.has_enrolled().then_some(noted.keys),
            unspent: noted.unspent(),
        });
        DeviceTrail {
            possible: possible.collect(),
        }
    }
}

/// What the trail says of a device: several things for as long as it is not known which of them the database has, and
/// nothing if there would be too many.
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
}

impl DeviceTrail {
    /// Whether it is of this model and in this group.
    pub(crate) fn belongs_to(&self, model: &str, group: Option<&GroupName>) -> bool {
        let group = group.map(GroupName::as_str);
        let mut possible = self.possible.iter();
        possible.any(|said| said.model.as_deref() == Some(model) && said.group.as_deref() == group)
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
    /// since, and it is good at this time.
    pub(crate) fn awaits(&self, code_sha256: &[u8], now: OffsetDateTime) -> bool {
        let mut unspent = self.possible.iter().filter_map(|said| said.unspent);
        let now = now.unix_timestamp();
        Digest::of(code_sha256)
            .is_some_and(|sha256| unspent.any(|code| code.sha256 == sha256 && now <= code.expires))
    }
}

impl Tx {
    /// What the trail says of a device. That is not of the moment that this transaction sees, but of now.
    pub(crate) fn trail_of(&self, device: &DeviceSerial) -> DeviceTrail {
        self.memory.devices.of(device)
    }
}

impl Store {
    /// What the trail says of a device now.
    pub(crate) fn trail_of(&self, device: &DeviceSerial) -> DeviceTrail {
        self.memory.devices.of(device)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(sequence: u64, action: &str, detail: &Value) -> AuditRecord {
        AuditRecord {
            sequence,
            action: action.to_owned(),
            device: "A".to_owned(),
            detail: detail.to_string(),
            ..AuditRecord::default()
        }
    }

    fn grouped(trails: &DeviceTrails, sequence: u64, to: &str) -> [Change; 1] {
        let record = record(sequence, "device.grouped", &json!({"to": to}));
        [trails.change(&record).unwrap()]
    }

    fn groups(trails: &DeviceTrails) -> Vec<String> {
        let known = trails.known();
        let possible = known.possible(DeviceId::of("A"));
        let groups = possible.iter().map(|noted| known.text(noted.group));
        groups
            .map(|name| name.unwrap_or_default().to_string())
            .collect()
    }

    #[test]
    fn either_may_be_there_until_one_of_them_is_known_to_be() {
        let trails = DeviceTrails::default();
        assert!(
            trails
                .change(&record(1, "key.assigned", &json!({})))
                .is_none()
        );
        let first = grouped(&trails, 1, "a");
        trails.expect(&first);
        trails.settle(&first);
        assert_eq!(groups(&trails), ["a"]);
        // Nobody was told how that one ended.
        trails.expect(&grouped(&trails, 2, "b"));
        assert_eq!(groups(&trails), ["a", "b"]);
        // Who committed last is told first.
        let (third, fourth) = (grouped(&trails, 3, "c"), grouped(&trails, 4, "d"));
        trails.expect(&third);
        trails.expect(&fourth);
        trails.settle(&fourth);
        trails.settle(&third);
        assert_eq!(groups(&trails), ["d"]);
        assert!(trails.known().in_doubt.is_empty());
    }

    #[test]
    fn what_is_in_doubt_does_not_grow_without_end() {
        let trails = DeviceTrails::default();
        // The database is away, and the same thing is tried over and over: it is one that may be there.
        for _ in 0..30 {
            trails.expect(&grouped(&trails, 1, "a"));
        }
        assert_eq!(groups(&trails), ["", "a"]);
        // Others each time: each of them may be there.
        for number in 0..28 {
            trails.expect(&grouped(&trails, 2 + number, &number.to_string()));
        }
        assert_eq!(groups(&trails).len(), 30);
        let last = grouped(&trails, 40, "z");
        trails.expect(&last);
        trails.settle(&last);
        assert_eq!(groups(&trails), ["z"]);
        // Of too many nothing is known, and nothing goes that way.
        for number in 0..1000 {
            trails.expect(&grouped(&trails, 41 + number, &number.to_string()));
        }
        let last = grouped(&trails, 2000, "z");
        trails.expect(&last);
        trails.settle(&last);
        assert!(groups(&trails).is_empty());
        let trail = trails.of(&DeviceSerial::parse("A").unwrap());
        assert!(!trail.belongs_to("", None) && trail.has_enrolled());
        assert!(!trail.has_key(Purpose::Encryption, &[0; 32]));
    }

    #[test]
    fn of_two_records_in_one_place_the_one_that_is_there_counts() {
        let trails = DeviceTrails::default();
        trails.expect(&grouped(&trails, 2, "lost"));
        let there = grouped(&trails, 2, "there");
        trails.expect(&there);
        trails.settle(&there);
        assert_eq!(groups(&trails), ["there"]);
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
        let trails = DeviceTrails::default();
        for (place, (action, detail)) in records.iter().enumerate() {
            let sequence = u64::try_from(place).unwrap() + 1;
            trails.known().note(&record(sequence, action, detail));
        }
        trails.of(&DeviceSerial::parse("A").unwrap())
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
        // They may be heard of in another order.
        let trails = DeviceTrails::default();
        trails.known().note(&record(2, "device.enrolled", &keys(5)));
        trails
            .known()
            .note(&record(1, "device.code-issued", &code(CODE)));
        let trail = trails.of(&DeviceSerial::parse("A").unwrap());
        assert!(!trail.awaits(&CODE, at(0)));
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
        let trails = DeviceTrails::default();
        trails.known().note(&record(1, "device.enrolled", &keys(5)));
        let again = trails.change(&record(2, "device.enrolled", &keys(7)));
        trails.expect(&[again.unwrap()]);
        let trail = trails.of(&DeviceSerial::parse("A").unwrap());
        assert!(trail.has_key(encryption, &[5; 32]) && trail.has_key(encryption, &[7; 32]));
    }
}
