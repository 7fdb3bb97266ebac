//! A fresh token.

use hsm::{Module, Operations};
use serde_json::json;

use super::Done;
use crate::{CeremonyError, ceremony::Ceremony, token_init};

/// Initializes a token and opens it for the acts that follow. What was initialized stays so.
pub(super) fn initialize(ceremony: &mut Ceremony<'_>, name: &str) -> Result<Done, CeremonyError> {
    let unsound = || CeremonyError::Plan(vec![format!("token {name:?} has no PIN files")]);
    let token = ceremony.plan.tokens.get(name).ok_or_else(unsound)?;
    let pin_file = token.pin_file.as_ref().ok_or_else(unsound)?;
    let so_pin_file = token.so_pin_file.as_ref().ok_or_else(unsound)?;
    let operations = Operations::default();
    let module = Module::load(&token.module)?.counted_by(&operations);
    let info = token_init::init_in(&module, &token.label, Some(pin_file), so_pin_file)?;
    ceremony.open_initialized(name, &operations)?;
    Ok(Done {
        summary: format!("token {}, serial {}", info.label, info.serial),
        record: json!({"name": name, "label": info.label, "serial": info.serial}),
        continues_until: None,
    })
}
