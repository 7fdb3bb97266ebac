//! What the audit trail says last of each key profile, and of what each model and group carries.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes. A row or
//! a record that comes, goes or comes back behind the host's back changes nothing here.

use std::collections::HashMap;

use kdh_proto::v1::AuditRecord;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Actor, PROFILE_ASSIGNED, PROFILE_PUT, PROFILE_REMOVED, ProfileAssignment, ProfileVersion, Tx,
    assignment_record,
    memory::{Learns, Remembered},
};
use crate::{key_profile::Target, names::ProfileName};

/// Of what a record is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Profile(String),
    /// By kind and name.
    Carrier(String, String),
}

/// What it says: SHA-256 of the operator and of the detail. None: there is no profile any more.
type Saying = Option<[u8; 32]>;

/// What a transaction adds.
#[derive(Debug)]
pub(super) struct Change {
    of: Subject,
    saying: Saying,
    /// The record that says so.
    sequence: u64,
}

/// So many sayings of one subject are known, the newest last: a transaction that has begun to read sees an older one.
const KNOWN_OF_ONE: usize = 8;

/// What is known of all of them.
pub(super) type NewestProfiles = Remembered<Known>;

#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Subject, Vec<(u64, Saying)>>);

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let Some(change) = change(record) {
            self.apply(change);
        }
    }

    /// What was said after this record, or has been said since.
    fn since(&self, of: &Subject, began: u64) -> Vec<Saying> {
        let known = self.0.get(of).map_or(&[][..], Vec::as_slice);
        let later = known.partition_point(|(sequence, _)| *sequence <= began);
        let first = known[..later].last().and_then(|(_, saying)| *saying);
        let later = known[later..].iter().map(|(_, saying)| *saying);
        std::iter::once(first).chain(later).collect()
    }
}

impl Learns for Known {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        let known = self.0.entry(change.of).or_default();
        known.push((change.sequence, change.saying));
        if known.len() > KNOWN_OF_ONE {
            known.remove(0);
        }
    }
}

/// What a record says of profiles, if it says something.
pub(super) fn change(record: &AuditRecord) -> Option<Change> {
    let is_assigned = match &*record.action {
        PROFILE_PUT | PROFILE_REMOVED => false,
        PROFILE_ASSIGNED => true,
        _ => return None,
    };
    let detail: Value = serde_json::from_str(&record.detail).unwrap_or_default();
    let text = |field: &str| detail[field].as_str().unwrap_or_default().to_owned();
    let said = saying(&record.actor, &record.detail);
    let (of, saying) = if is_assigned {
        let of = Subject::Carrier(text("kind"), text("name"));
        let is_there = !detail["profile"].is_null();
        (of, is_there.then_some(said))
    } else {
        (Subject::Profile(text("profile")), Some(said))
    };
    Some(Change {
        of,
        saying,
        sequence: record.sequence,
    })
}

fn saying(actor: &str, detail: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update((actor.len() as u64).to_be_bytes());
    digest.update(actor);
    digest.update(detail);
    digest.finalize().into()
}

fn by_operator(name: &str, detail: &Value) -> [u8; 32] {
    let actor = Actor::Operator(name.to_owned());
    saying(&actor.to_string(), &detail.to_string())
}

fn of_carrier(target: &Target, row: Option<&ProfileAssignment>) -> (Subject, Saying) {
    let saying = row.map(|row| {
        let record = assignment_record(target, Some(&row.profile), &row.why);
        by_operator(&row.assigned_by, &record)
    });
    let subject = Subject::Carrier(target.kind().to_owned(), target.name().to_owned());
    (subject, saying)
}

impl Tx {
    /// Whether this is the newest version of a profile, by the trail. None: there is none yet.
    pub(super) fn is_newest_profile(
        &self,
        name: &ProfileName,
        row: Option<&ProfileVersion>,
    ) -> bool {
        let saying = row.map(|row| by_operator(&row.put_by, &row.record()));
        self.may_be_said(&Subject::Profile(name.to_string()), saying)
    }

    /// Whether a model or a group carries this, by the trail.
    pub(super) fn is_carried(&self, target: &Target, row: Option<&ProfileAssignment>) -> bool {
        let (subject, saying) = of_carrier(target, row);
        self.may_be_said(&subject, saying)
    }

    /// The same, for certain, and now.
    pub(super) fn is_carried_for_certain(
        &self,
        target: &Target,
        row: Option<&ProfileAssignment>,
    ) -> bool {
        let (subject, saying) = of_carrier(target, row);
        let possible = self.sayings(&subject);
        possible.iter().all(|said| said.last() == Some(&saying))
    }

    /// Whether the trail has said this last at some time since this transaction began, which may see its rows as they were
    /// then; where it is not known what it says, whether it may. Operators have said all that it may be.
    fn may_be_said(&self, subject: &Subject, saying: Saying) -> bool {
        let possible = self.sayings(subject);
        possible.iter().any(|said| said.contains(&saying))
    }

    /// What the trail has said last since this transaction began, the newest last: all that may be so.
    fn sayings(&self, subject: &Subject) -> Vec<Vec<Saying>> {
        let profiles = &self.memory.profiles;
        self.memory.possible(
            || profiles.known().since(subject, self.began),
            |said, changes| {
                let mut newest = changes.profiles.iter().rev();
                let newest = newest.find(|change| change.of == *subject);
                newest.map_or_else(|| said.clone(), |change| vec![change.saying])
            },
        )
    }
}
