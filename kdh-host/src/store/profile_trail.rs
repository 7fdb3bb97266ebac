//! What the audit trail says last of each key profile, and of what each model and group carries.
//!
//! It is learnt from the trail at the start, which is followed whole, and kept in memory as the host writes. A row or
//! a record that comes, goes or comes back behind the host's back changes nothing here.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kdh_proto::v1::AuditRecord;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Actor, PROFILE_ASSIGNED, PROFILE_PUT, PROFILE_REMOVED, ProfileAssignment, ProfileVersion, Tx,
    assignment_record,
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
pub(super) struct Change(Subject, Saying);

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct NewestProfiles(Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Subject, Saying>);

impl Known {
    /// Takes note of a record, which follows on those before.
    pub(super) fn note(&mut self, record: &AuditRecord) {
        if let Some(Change(subject, saying)) = change(record) {
            self.0.insert(subject, saying);
        }
    }
}

impl NewestProfiles {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They are committed.
    pub(super) fn settle(&self, changes: Vec<Change>) {
        let changes = changes.into_iter();
        let changes = changes.map(|Change(subject, saying)| (subject, saying));
        self.known().0.extend(changes);
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
    let saying = saying(&record.actor, &record.detail);
    Some(if is_assigned {
        let carries = !detail["profile"].is_null();
        let subject = Subject::Carrier(text("kind"), text("name"));
        Change(subject, carries.then_some(saying))
    } else {
        Change(Subject::Profile(text("profile")), Some(saying))
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

impl Tx {
    /// Whether this is the newest version of a profile, by the trail.
    pub(super) fn is_newest_profile(&self, name: &ProfileName, row: &ProfileVersion) -> bool {
        let saying = by_operator(&row.put_by, &row.record());
        self.may_be_said(&Subject::Profile(name.to_string()), Some(saying))
    }

    /// Whether a model or a group carries this, by the trail.
    pub(super) fn is_carried(&self, target: &Target, row: Option<&ProfileAssignment>) -> bool {
        let saying = row.map(|row| {
            let record = assignment_record(target, Some(&row.profile), &row.why);
            by_operator(&row.assigned_by, &record)
        });
        let subject = Subject::Carrier(target.kind().to_owned(), target.name().to_owned());
        self.may_be_said(&subject, saying)
    }

    /// Whether this is what the trail says last; where it is not known what that is, whether it may be. Operators have
    /// said all that it may be.
    fn may_be_said(&self, subject: &Subject, saying: Saying) -> bool {
        let possible = self.memory.possible(
            || {
                self.memory
                    .profiles
                    .known()
                    .0
                    .get(subject)
                    .copied()
                    .flatten()
            },
            |said, changes| {
                let mut newest = changes.profiles.iter().rev();
                let newest = newest.find(|Change(of, _)| of == subject);
                newest.map_or(*said, |Change(_, saying)| *saying)
            },
        );
        possible.contains(&saying)
    }
}
