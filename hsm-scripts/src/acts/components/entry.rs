//! How a component is entered: typed or read, sound, confirmed, claimed by its custodian, and on the record; all before
//! it is used.

use hsm::{ClearKey, HsmError, Kcv, Token, require_sound_component};
use serde_json::{Value, json};
use tr34::KeyKind;

use super::Import;
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    custody::{Claim, How, Key},
    people::Component,
    plan::{ComponentPlan, load_component},
};

/// A component that was entered and is not used yet.
pub(super) struct Entry<'a> {
    pub(super) number: u32,
    pub(super) custodian: &'a str,
    kcv: Kcv,
    confirmed_by: &'static str,
}

impl Entry<'_> {
    /// For the transcript.
    pub(super) fn to_record(&self) -> Value {
        json!({
            "custodian": self.custodian,
            "kcv": self.kcv.to_string(),
            "confirmed-by": self.confirmed_by,
        })
    }
}

impl Import<'_> {
    /// A component that its custodian has entered and confirmed, and may enter.
    pub(super) fn entered<'c>(
        &self,
        ceremony: &mut Ceremony<'_>,
        component: &'c ComponentPlan,
        number: usize,
    ) -> Result<(ClearKey, Entry<'c>), CeremonyError> {
        let (plan, of) = (self.plan, self.plan.components.len());
        let custodian = &*component.custodian;
        ceremony.begin_turn(custodian)?;
        let (clear, confirmed_by) = if let Some(file) = &component.file {
            (load_component(file, plan.kind)?, "plan")
        } else {
            let asked = Component {
                custodian: &ceremony.plan.name_of(custodian),
                key: plan.place.key.label(),
                kind: plan.kind,
                number,
                of,
            };
            // Until it is confirmed, it is in the HSM only for its check value, apart from the sum.
            let mut check = |clear: &ClearKey| Ok(kcv_of(&self.token, clear, plan.kind)?);
            let clear = ceremony.people.enter_component(&asked, &mut check)?;
            (clear, "custodian")
        };
        let kcv = kcv_of(&self.token, &clear, plan.kind)?;
        let number = number.try_into().map_err(CeremonyError::pki)?;
        if let Some(expected) = &component.kcv
            && *expected != kcv
        {
            return Err(CeremonyError::ComponentKcv {
                custodian: ceremony.plan.name_of(custodian).into_owned(),
                number,
                expected: expected.clone(),
                found: kcv,
            });
        }
        let entry = Entry {
            number,
            custodian,
            kcv,
            confirmed_by,
        };
        let key = Key {
            kind: plan.kind,
            kcv: &plan.kcv,
            name: &plan.place.key,
        };
        let claim = Claim {
            person: ceremony.plan.person(custodian),
            name: &ceremony.plan.name_of(custodian),
            number: entry.number,
            kcv: &entry.kcv,
            how: How::Entered,
            act: self.id,
        };
        self.custody.claim(&key, &claim, ceremony.now())?;
        let detail = json!({
            "component": entry.number,
            "of": of,
            "kcv": entry.kcv.to_string(),
            "confirmed-by": entry.confirmed_by,
        });
        ceremony.sign_step(custodian, "component-entered", detail)?;
        Ok((clear, entry))
    }
}

/// The check value of a component that can be one.
fn kcv_of(token: &Token, component: &ClearKey, kind: KeyKind) -> Result<Kcv, HsmError> {
    require_sound_component(component, kind)?;
    token.load_clear_key(component, kind)?.kcv(Kcv::LEN)
}
