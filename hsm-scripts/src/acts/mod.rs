//! What a ceremony does: one file per kind of act.

mod certificates;
mod components;
mod crl;

use serde_json::Value;

use crate::{CeremonyError, ceremony::Ceremony, plan::Act};

/// An act that succeeded.
pub(crate) struct Done {
    /// For the people in the room.
    pub(crate) summary: String,
    /// For the transcript.
    pub(crate) record: Value,
}

pub(crate) fn perform(ceremony: &mut Ceremony<'_>, act: &Act) -> Result<Done, CeremonyError> {
    use pki::Role;
    match act {
        Act::RootCa(plan) => certificates::root_ca(ceremony, plan),
        Act::SubCa(plan) => certificates::sub_ca(ceremony, plan),
        Act::KdhCredential(plan) => certificates::credential(ceremony, plan, Role::Kdh),
        Act::HostTlsCredential(plan) => certificates::credential(ceremony, plan, Role::HostTls),
        Act::OperatorCredential(plan) => certificates::credential(ceremony, plan, Role::Operator),
        Act::Crl(plan) => crl::issue(ceremony, plan),
        Act::ImportComponents(plan) => components::import(ceremony, plan),
    }
}
