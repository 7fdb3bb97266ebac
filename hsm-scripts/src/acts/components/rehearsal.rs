//! A rehearsal of it, with made-up components.

use hsm::{ClearKey, HsmError, Kcv};
use zeroize::Zeroizing;

use crate::{
    CeremonyError,
    acts::rehearsal::{refused_and_made, tell},
    ceremony::Ceremony,
    plan::ComponentsPlan,
};

/// Rehearses with made-up components: the plan's check value has to refuse them, their own has to
/// accept them.
pub(super) fn rehearse(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
) -> Result<Kcv, CeremonyError> {
    ceremony.people.tell(
        "Rehearsal: made-up components take the place of the custodians'. Sheets stay closed.",
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
    let name = &plan.place.key;
    let kcv = refused_and_made(&plan.kcv, |kcv| combined()?.finish(name, kcv))?;
    tell(ceremony.people, name, &kcv);
    Ok(kcv)
}
