//! The sum of the components so far: in a session, or in the token between sittings.

use hsm::{ClearKey, Combination, Completion, HsmError, Kcv, KeyName, StoredSum};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::entry::Entry;

/// The sum while it grows.
pub(super) enum Growing {
    AtOneSitting(Box<Combination>),
    Stored(Box<StoredSum>),
}

impl Growing {
    /// Of earlier sittings, for the transcript.
    pub(super) fn components(&self) -> Vec<Value> {
        let Self::Stored(sum) = self else {
            return Vec::new();
        };
        let earlier = sum.summary().components.into_iter();
        earlier
            .map(|entered| {
                json!({
                    "custodian": entered.custodian,
                    "kcv": entered.kcv.to_string(),
                    "confirmed-by": "earlier sitting",
                })
            })
            .collect()
    }

    /// Destroys a sum that is kept in the token and has expired; says whether it did.
    pub(super) fn destroy_expired(&mut self, now: OffsetDateTime) -> Result<bool, HsmError> {
        match self {
            Self::Stored(sum) if sum.summary().is_expired(now) => sum.destroy().map(|()| true),
            Self::AtOneSitting(_) | Self::Stored(_) => Ok(false),
        }
    }

    pub(super) fn add(&mut self, component: ClearKey, entry: &Entry<'_>) -> Result<Kcv, HsmError> {
        match self {
            Self::AtOneSitting(sum) => sum.add(component),
            Self::Stored(sum) => sum.add(component, entry.number, entry.custodian),
        }
    }

    pub(super) fn complete(
        &mut self,
        last: ClearKey,
        entry: &Entry<'_>,
        name: &KeyName,
        kcv: &Kcv,
    ) -> Result<Completion, HsmError> {
        match self {
            Self::AtOneSitting(sum) => sum.complete(last, name, kcv),
            Self::Stored(sum) => sum.complete(last, entry.number, entry.custodian),
        }
    }
}
