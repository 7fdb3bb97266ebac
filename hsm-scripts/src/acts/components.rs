//! A key that comes in components: each goes into the HSM as its custodian enters it, and the sum is
//! formed there.

use hsm::{ClearKey, HsmError, Kcv, Token};
use serde_json::{Value, json};
use tr34::KeyKind;
use zeroize::Zeroizing;

use super::Done;
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    people::{KcvAnswer, ask_component, confirm_kcv},
    plan::{ComponentPlan, ComponentsPlan, Mode, load_component},
};

pub(super) fn import(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
) -> Result<Done, CeremonyError> {
    let (kcv, components) = match ceremony.plan.mode {
        Mode::Real => combine(ceremony, plan)?,
        Mode::Rehearsal => rehearse(ceremony, plan)?,
    };
    ceremony.made_key(&plan.place);
    Ok(Done {
        summary: format!("{}, {}, check value {kcv}", plan.place, plan.kind),
        record: json!({
            "token": plan.place.token,
            "key": plan.place.key.label(),
            "kind": plan.kind.name(),
            "kcv": kcv.to_string(),
            "components": components,
        }),
    })
}

/// Has the components entered, and keeps their sum if it is the key that was announced.
fn combine(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
) -> Result<(Kcv, Vec<Value>), CeremonyError> {
    let token = ceremony.token(&plan.place.token)?.clone();
    let mut sum = token.combine_components(plan.kind)?;
    let mut record = Vec::new();
    let of = plan.components.len();
    for (index, component) in plan.components.iter().enumerate() {
        let (clear, confirmed_by) = if let Some(file) = &component.file {
            (load_component(file, plan.kind)?, "plan")
        } else {
            let number = (index + 1, of);
            let clear = typed(ceremony, &token, component, plan.kind, number)?;
            (clear, "custodian")
        };
        let kcv = sum.add(clear)?;
        require_kcv(component.kcv.as_ref(), &kcv)?;
        record.push(json!({
            "custodian": component.custodian,
            "kcv": kcv.to_string(),
            "confirmed-by": confirmed_by,
        }));
    }
    let _key = sum.finish(&plan.place.key, &plan.kcv)?;
    Ok((plan.kcv.clone(), record))
}

/// Has a custodian type a component until its check value is the one on their sheet. Until then it
/// is in the HSM only for that check value, apart from the sum.
fn typed(
    ceremony: &mut Ceremony<'_>,
    token: &Token,
    component: &ComponentPlan,
    kind: KeyKind,
    (number, of): (usize, usize),
) -> Result<ClearKey, CeremonyError> {
    let custodian = &component.custodian;
    ceremony.people.part();
    ceremony.people.tell(&format!(
        "Component {number} of {of}, {kind}. Only {custodian} looks at the screen and the keyboard."
    ));
    loop {
        let clear = ask_component(ceremony.people, custodian, kind)?;
        let kcv = token.load_clear_key(&clear, kind)?.kcv()?;
        match confirm_kcv(ceremony.people, custodian, &kcv)? {
            KcvAnswer::Yes => {
                ceremony.people.part();
                return Ok(clear);
            }
            KcvAnswer::TypeAgain => {}
        }
    }
}

/// Rehearses with made-up components: the plan's check value has to refuse them, their own has to
/// accept them.
fn rehearse(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
) -> Result<(Kcv, Vec<Value>), CeremonyError> {
    ceremony.people.tell(
        "  Rehearsal: made-up components take the place of the custodians'. Sheets stay closed.",
    );
    let token = ceremony.token(&plan.place.token)?;
    let made_up = plan
        .components
        .iter()
        .map(|_| token.random(plan.kind.key_len()).map(Zeroizing::new))
        .collect::<Result<Vec<_>, _>>()?;
    let combined = || {
        let mut sum = token.combine_components(plan.kind)?;
        for component in &made_up {
            sum.add(ClearKey::copy_from(component))?;
        }
        Ok::<_, HsmError>(sum)
    };
    let kcv = match combined()?.finish(&plan.place.key, &plan.kcv) {
        Err(HsmError::KcvMismatch { found, .. }) => {
            let _key = combined()?.finish(&plan.place.key, &found)?;
            found
        }
        // One in millions.
        Ok(_) => plan.kcv.clone(),
        Err(other) => return Err(other.into()),
    };
    ceremony.people.tell(&format!(
        "  Rehearsal: {} was refused with the plan's check value, and made with {kcv}, its own.",
        plan.place.key
    ));
    let record = plan.components.iter().map(|component| {
        json!({"custodian": component.custodian, "kcv": null, "confirmed-by": "rehearsal"})
    });
    Ok((kcv, record.collect()))
}

fn require_kcv(expected: Option<&Kcv>, found: &Kcv) -> Result<(), HsmError> {
    match expected {
        Some(expected) if expected != found => Err(HsmError::KcvMismatch {
            expected: expected.clone(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}
