//! The storage keys: made inside the HSM, where they stay.

use hsm::StorageNumber;
use serde_json::json;

use super::Done;
use crate::{CeremonyError, ceremony::Ceremony, plan::StoragePlan};

pub(super) fn make(ceremony: &mut Ceremony<'_>, plan: &StoragePlan) -> Result<Done, CeremonyError> {
    let [key, mac] = &plan.pair;
    ceremony.making_key(key)?;
    ceremony.token(&key.token)?.make_storage_keys(plan.number)?;
    for place in &plan.pair {
        ceremony.made_key(place);
    }
    Ok(Done {
        summary: format!("{plan}, made inside the HSM and never extractable"),
        record: json!({
            "token": key.token,
            "number": plan.number.get(),
            "key": key.key.label(),
            "mac-key": mac.key.label(),
            "kind": StorageNumber::KIND.name(),
        }),
        continues_until: None,
    })
}
