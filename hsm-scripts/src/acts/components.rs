//! A key that comes in components: each goes into the HSM as its custodian enters it, and the sum is
//! formed there.

use hsm::{ClearKey, HsmError, Kcv, KeyName};
use serde_json::json;
use tr34::KeyKind;

use super::Done;
use crate::{
    CeremonyError,
    ceremony::{Ceremony, Mode},
    people::{ask_component, confirm_kcv},
    plan::{ComponentPlan, ComponentsPlan, load_component},
};

pub(super) fn import(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
) -> Result<Done, CeremonyError> {
    let unsound = || CeremonyError::Plan(vec!["kind or kcv of the components".to_owned()]);
    let kind = plan.kind().ok_or_else(unsound)?;
    let expected = plan.kcv().ok_or_else(unsound)?;
    let name = KeyName::new(&plan.key)?;
    let mut sum = ceremony.token(&plan.token)?.combine_components(kind)?;
    let mut record = Vec::new();
    let of = plan.components.len();
    for (index, component) in plan.components.iter().enumerate() {
        let clear = obtain(ceremony, plan, component, kind, (index + 1, of))?;
        let kcv = sum.add(clear)?;
        verify(ceremony, component, &kcv)?;
        record.push(json!({"custodian": component.custodian, "kcv": kcv.to_string()}));
    }
    // Nothing is kept unless the sum is the key that was announced.
    let outcome = match ceremony.mode {
        Mode::Real => sum.finish(&name, &expected).map(|_key| expected),
        Mode::Rehearsal => rehearse(ceremony, sum, plan, &name, &expected),
    };
    let kcv = outcome?;
    Ok(Done {
        summary: format!("key {name}, {kind}, check value {kcv}"),
        record: json!({
            "token": plan.token,
            "key": plan.key,
            "kind": kind.name(),
            "kcv": kcv.to_string(),
            "components": record,
        }),
    })
}

/// A component: typed in, from a file, or, in a rehearsal, made up.
fn obtain(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
    component: &ComponentPlan,
    kind: KeyKind,
    (number, of): (usize, usize),
) -> Result<ClearKey, CeremonyError> {
    if ceremony.mode == Mode::Rehearsal {
        let random = ceremony.token(&plan.token)?.random(kind.key_len())?;
        return Ok(ClearKey::copy_from(&random));
    }
    match &component.file {
        Some(file) => load_component(&ceremony.plan.folder.join(file)),
        None => ask_component(ceremony.people, &component.custodian, number, of),
    }
}

/// A component's check value: compared with the plan's, and confirmed by whoever typed it in.
fn verify(
    ceremony: &mut Ceremony<'_>,
    component: &ComponentPlan,
    kcv: &Kcv,
) -> Result<(), CeremonyError> {
    if ceremony.mode == Mode::Rehearsal {
        return Ok(());
    }
    if let Some(expected) = &component.kcv {
        let expected = Kcv::parse(kcv.method(), expected)
            .map_err(|error| CeremonyError::Plan(vec![error.to_string()]))?;
        if expected != *kcv {
            return Err(HsmError::KcvMismatch {
                expected,
                found: kcv.clone(),
            }
            .into());
        }
    }
    if component.file.is_none() {
        confirm_kcv(ceremony.people, &component.custodian, kcv)?;
    }
    Ok(())
}

/// Made-up components cannot have the announced check value, and the rehearsal shows just that: the
/// sum is refused and nothing is kept.
fn rehearse(
    ceremony: &mut Ceremony<'_>,
    sum: hsm::Combination,
    plan: &ComponentsPlan,
    name: &KeyName,
    expected: &Kcv,
) -> Result<Kcv, HsmError> {
    match sum.finish(name, expected) {
        Err(HsmError::KcvMismatch { found, .. }) => {
            ceremony.people.tell(&format!(
                "  rehearsed: made-up components gave {found}; {} was refused, as it must be",
                plan.key
            ));
            Ok(found)
        }
        Ok(_) => Ok(expected.clone()),
        Err(other) => Err(other),
    }
}
