//! What the audit trail says of devices: of which model each is, in which group, and whether it has enrolled.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes: some 80
//! bytes for each device. A record that comes or goes behind the host's back changes nothing here.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kdh_proto::v1::AuditRecord;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Tx;
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

/// What is said of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted {
    model: Option<Word>,
    group: Option<Word>,
    /// The record that says so.
    grouped: u64,
    has_enrolled: bool,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
enum News {
    Added(Option<Word>),
    /// From another host, with the encryption key that it had there.
    Admitted(Option<Word>),
    Enrolled,
    Grouped {
        to: Option<Word>,
        sequence: u64,
    },
}

impl News {
    /// Two may be heard of in another order than they were committed.
    fn apply(self, noted: Noted) -> Noted {
        match self {
            Self::Added(model) => Noted { model, ..noted },
            Self::Admitted(model) => Noted {
                model,
                has_enrolled: true,
                ..noted
            },
            Self::Enrolled => Noted {
                has_enrolled: true,
                ..noted
            },
            Self::Grouped { to, sequence } if sequence > noted.grouped => Noted {
                group: to,
                grouped: sequence,
                ..noted
            },
            Self::Grouped { .. } => noted,
        }
    }
}

/// What a transaction adds.
#[derive(Debug)]
pub(super) struct Change {
    device: DeviceId,
    news: News,
}

/// What is known of all devices.
#[derive(Debug, Default)]
pub(super) struct DeviceTrails(Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known {
    devices: HashMap<DeviceId, Noted>,
    /// Of which it is not known what the database has: all that it may have. There are few.
    in_doubt: HashMap<DeviceId, Vec<Noted>>,
    words: Vec<Arc<str>>,
    places: HashMap<Arc<str>, Word>,
}

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let Some(Change { device, news }) = self.read(record) {
            let noted = self.devices.entry(device).or_default();
            *noted = news.apply(*noted);
        }
    }

    /// What a record says of a device, if it says something.
    fn read(&mut self, record: &AuditRecord) -> Option<Change> {
        let detail = || serde_json::from_str::<Value>(&record.detail).unwrap_or_default();
        let news = match &*record.action {
            "device.added" => News::Added(self.word(&detail()["model"])),
            "device.admitted" => News::Admitted(self.word(&detail()["model"])),
            "device.enrolled" => News::Enrolled,
            "device.grouped" => News::Grouped {
                to: self.word(&detail()["to"]),
                sequence: record.sequence,
            },
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
        for Change { device, news } in changes {
            let mut possible = known.possible(*device);
            for place in 0..possible.len() {
                possible.push(news.apply(possible[place]));
            }
            known.in_doubt.insert(*device, possible);
        }
    }

    /// They are committed.
    pub(super) fn settle(&self, changes: &[Change]) {
        let mut known = self.known();
        for Change { device, news } in changes {
            let mut possible = known.possible(*device);
            for noted in &mut possible {
                *noted = news.apply(*noted);
            }
            possible.dedup();
            if let [noted] = possible[..] {
                known.devices.insert(*device, noted);
                known.in_doubt.remove(device);
            } else {
                known.in_doubt.insert(*device, possible);
            }
        }
    }
}

/// What the trail says of a device.
#[derive(Debug)]
pub(crate) struct DeviceTrail {
    /// Whether it has ever had an encryption key here.
    pub(crate) has_enrolled: bool,
    /// Its model and its group: several for as long as it is not known which of them the database has.
    places: Vec<Place>,
}

/// Where a device belongs.
#[derive(Debug)]
struct Place {
    model: Option<Arc<str>>,
    group: Option<Arc<str>>,
}

impl DeviceTrail {
    /// Whether it is of this model and in this group.
    pub(crate) fn belongs_to(&self, model: &str, group: Option<&GroupName>) -> bool {
        let group = group.map(GroupName::as_str);
        let mut places = self.places.iter();
        places.any(|place| place.model.as_deref() == Some(model) && place.group.as_deref() == group)
    }
}

impl Tx {
    /// What the trail says of a device. That is not of the moment that this transaction sees, but of now.
    pub(crate) fn trail_of(&self, device: &DeviceSerial) -> DeviceTrail {
        let known = self.device_trails.known();
        let possible = known.possible(DeviceId::of(device.as_str()));
        let places = possible.iter();
        DeviceTrail {
            has_enrolled: possible.iter().all(|noted| noted.has_enrolled),
            places: places
                .map(|noted| Place {
                    model: known.text(noted.model),
                    group: known.text(noted.group),
                })
                .collect(),
        }
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
}
