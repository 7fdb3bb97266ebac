//! What a ceremony does: one file per kind of act.

mod certificates;
mod components;
mod crl;
mod give_out;
mod rehearsal;
mod storage;
mod token;
mod wrapped;

use serde_json::Value;
use time::OffsetDateTime;

use crate::{CeremonyError, ceremony::Ceremony, plan::Act};

/// An act that succeeded.
pub(crate) struct Done {
    /// For the people in the room.
    pub(crate) summary: String,
    /// For the transcript.
    pub(crate) record: Value,
    /// Until when what there is of it waits for the next sitting; none if it is done.
    pub(crate) continues_until: Option<OffsetDateTime>,
}

/// Performs an act; `number` counts from 1.
pub(crate) fn perform(
    ceremony: &mut Ceremony<'_>,
    act: &Act,
    number: u32,
) -> Result<Done, CeremonyError> {
    match act {
        Act::InitializeToken { token } => token::initialize(ceremony, token),
        Act::Ca(plan) => certificates::ca(ceremony, plan),
        Act::Credential(plan) => certificates::credential(ceremony, plan),
        Act::Crl(plan) => crl::issue(ceremony, plan),
        Act::ImportComponents(plan) => components::import(ceremony, plan, number),
        Act::GiveOutComponents(plan) => give_out::give_out(ceremony, plan, number),
        Act::ImportPair(plan) => certificates::import_pair(ceremony, plan),
        Act::ImportWrapped(plan) => wrapped::import(ceremony, plan),
        Act::StorageKeys(plan) => storage::make(ceremony, plan),
    }
}
