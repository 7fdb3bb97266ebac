//! A key that comes in components: each goes into the HSM as its custodian enters it, and the sum is
//! formed there, at one sitting or at several.

mod entry;
mod growing;
mod rehearsal;

use hsm::{Completion, Kcv, StoredSum, SumId, SumTarget, Token};
use pki::rfc3339;
use serde_json::{Value, json};
use time::OffsetDateTime;

use self::{growing::Growing, rehearsal::rehearse};
use super::Done;
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    custody::Custody,
    plan::{ComponentPlan, ComponentsPlan, Mode},
    sittings::sum_id,
};

pub(super) fn import(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
    act: u32,
) -> Result<Done, CeremonyError> {
    if ceremony.plan.mode == Mode::Rehearsal {
        let kcv = rehearse(ceremony, plan)?;
        let components = plan.components.iter().map(|component| {
            json!({"custodian": component.custodian, "kcv": null, "confirmed-by": "rehearsal"})
        });
        let components: Vec<_> = components.collect();
        return Ok(done(ceremony, plan, &kcv, &components, "rehearsal"));
    }
    let token = ceremony.token(&plan.place.token)?.clone();
    let import = Import {
        custody: Custody::of(&token, plan.custody)?,
        id: sum_id(ceremony.plan, act),
        token,
        plan,
    };
    let mut sum = import.growing(ceremony)?;
    if let Some(components) = Import::completed_before(ceremony, &mut sum)? {
        return Ok(done(
            ceremony,
            plan,
            &plan.kcv,
            &components,
            import.custody.word(),
        ));
    }
    let mut components = sum.components();
    let of = plan.components.len();
    for (index, component) in plan.components.iter().enumerate().skip(components.len()) {
        if component.sitting > ceremony.sitting {
            return import.to_be_continued(ceremony, &sum, &components);
        }
        let last = index + 1 == of;
        if last && plan.sittings() == 1 {
            ceremony.making_key(&plan.place)?;
        }
        let entered = if last {
            import.last(ceremony, &mut sum, component)?
        } else {
            import.one(ceremony, &mut sum, component, index + 1)?
        };
        components.push(entered);
    }
    Ok(done(
        ceremony,
        plan,
        &plan.kcv,
        &components,
        import.custody.word(),
    ))
}

fn done(
    ceremony: &mut Ceremony<'_>,
    plan: &ComponentsPlan,
    kcv: &Kcv,
    components: &[Value],
    custody: &str,
) -> Done {
    ceremony.made_key(&plan.place);
    Done {
        summary: format!("{}, {}, check value {kcv}", plan.place, plan.kind),
        record: json!({
            "token": plan.place.token,
            "key": plan.place.key.label(),
            "kind": plan.kind.name(),
            "kcv": kcv.to_string(),
            "custody": custody,
            "components": components,
        }),
        continues_until: None,
    }
}

/// One act of it.
struct Import<'a> {
    plan: &'a ComponentsPlan,
    token: Token,
    custody: Custody,
    id: SumId,
}

impl Import<'_> {
    /// The sum as earlier sittings have left it.
    fn growing(&self, ceremony: &Ceremony<'_>) -> Result<Growing, CeremonyError> {
        let (plan, now) = (self.plan, ceremony.plan.now);
        if plan.sittings() == 1 {
            let sum = self.token.combine_components(plan.kind)?;
            return Ok(Growing::AtOneSitting(Box::new(sum)));
        }
        let target = SumTarget {
            name: plan.place.key.clone(),
            kind: plan.kind,
            kcv: plan.kcv.clone(),
        };
        if let Some(sum) = self.token.resume_stored_sum(&self.id, now)? {
            self.require_unchanged(&sum, &target, now)?;
            return Ok(Growing::Stored(Box::new(sum)));
        }
        let expires_at = now + plan.kept_for;
        let sum = self.token.begin_stored_sum(self.id, target, expires_at)?;
        Ok(Growing::Stored(Box::new(sum)))
    }

    /// Refuses a sum of which the token's record says something else than the plan: its digest is in the record, so
    /// it is the record that was changed, by somebody who has the PIN.
    fn require_unchanged(
        &self,
        sum: &StoredSum,
        target: &SumTarget,
        now: OffsetDateTime,
    ) -> Result<(), CeremonyError> {
        let found = sum.summary();
        let entered = found.components.iter();
        let of_the_plan = self.plan.components.iter().zip(1..);
        let same_people = entered.len() < self.plan.components.len()
            && entered
                .zip(of_the_plan)
                .all(|(entered, (component, number))| {
                    entered.number == number
                        && entered.custodian == component.custodian
                        && component.kcv.as_ref().is_none_or(|kcv| *kcv == entered.kcv)
                });
        let what = if found.target != *target {
            "it is of another key"
        } else if !same_people {
            "others entered its components"
        } else if found.expires_at > now + self.plan.kept_for {
            "it expires later"
        } else {
            return Ok(());
        };
        Err(CeremonyError::SumChanged {
            key: target.name.label().to_owned(),
            what,
        })
    }

    /// The components of a key that was made at a sitting that was stopped before it said so.
    fn completed_before(
        ceremony: &mut Ceremony<'_>,
        sum: &mut Growing,
    ) -> Result<Option<Vec<Value>>, CeremonyError> {
        let mut components = sum.components();
        let Growing::Stored(sum) = sum else {
            return Ok(None);
        };
        let Some((_key, last)) = sum.completed()? else {
            return Ok(None);
        };
        ceremony.people.tell(&format!(
            "The key was made before the last sitting was stopped, from a component of {}. Nobody enters one again.",
            ceremony.plan.name_of(&last.custodian)
        ));
        components.push(json!({
            "custodian": last.custodian,
            "kcv": last.kcv.to_string(),
            "confirmed-by": "earlier sitting",
        }));
        Ok(Some(components))
    }

    fn to_be_continued(
        &self,
        ceremony: &mut Ceremony<'_>,
        sum: &Growing,
        components: &[Value],
    ) -> Result<Done, CeremonyError> {
        let Growing::Stored(sum) = sum else {
            return Err(CeremonyError::pki("one sitting that is several"));
        };
        let until = sum.summary().expires_at;
        let (sitting, of) = (ceremony.sitting, self.plan.sittings());
        let count = components.len();
        Ok(Done {
            summary: format!(
                "{count} of {} components are in the token; no key was made yet",
                self.plan.components.len()
            ),
            record: json!({
                "sitting": sitting,
                "of": of,
                "token": self.plan.place.token,
                "key": self.plan.place.key.label(),
                "custody": self.custody.word(),
                "components": components,
                "expires": rfc3339(until),
            }),
            continues_until: Some(until),
        })
    }

    /// Refuses to go on with a sum that expired while its custodians were waited for, and destroys it.
    fn require_unexpired(
        &self,
        ceremony: &mut Ceremony<'_>,
        sum: &mut Growing,
    ) -> Result<(), CeremonyError> {
        if !sum.destroy_expired(ceremony.now())? {
            return Ok(());
        }
        ceremony.record("partial-sum-destroyed", json!({"cause": "it has expired"}))?;
        Err(CeremonyError::SumExpired {
            key: self.plan.place.key.label().to_owned(),
        })
    }

    /// Has a component entered that is not the last.
    fn one(
        &self,
        ceremony: &mut Ceremony<'_>,
        sum: &mut Growing,
        component: &ComponentPlan,
        number: usize,
    ) -> Result<Value, CeremonyError> {
        let (clear, entry) = self.entered(ceremony, component, number)?;
        self.require_unexpired(ceremony, sum)?;
        sum.add(clear, &entry)?;
        Ok(entry.to_record())
    }

    /// Has the last component entered, until it makes the key that was announced.
    fn last(
        &self,
        ceremony: &mut Ceremony<'_>,
        sum: &mut Growing,
        component: &ComponentPlan,
    ) -> Result<Value, CeremonyError> {
        let (name, expected) = (&self.plan.place.key, &self.plan.kcv);
        loop {
            let (clear, entry) = self.entered(ceremony, component, self.plan.components.len())?;
            self.require_unexpired(ceremony, sum)?;
            let (found, tries_left) = match sum.complete(clear, &entry, name, expected)? {
                Completion::Key(_) => return Ok(entry.to_record()),
                Completion::Wrong { found, tries_left } => (found, tries_left),
            };
            let detail = json!({
                "expected": expected.to_string(),
                "found": found.to_string(),
                "tries-left": tries_left,
            });
            ceremony.record("combined-kcv-wrong", detail)?;
            if tries_left == 0 {
                let cause = "three wrong combined check values";
                ceremony.record("partial-sum-destroyed", json!({"cause": cause}))?;
                return Err(CeremonyError::ThreeWrong {
                    expected: expected.clone(),
                    found,
                });
            }
            // A file holds the same the next time.
            if component.file.is_some() {
                let expected = expected.clone();
                return Err(CeremonyError::SumKcv { expected, found });
            }
            ceremony.people.tell(&format!(
                "The sum of the components has the check value {found}, not {expected}: some component is not what \
                 it should be. {} may type theirs again: {tries_left} of 3 tries are left.",
                ceremony.plan.name_of(&component.custodian)
            ));
        }
    }
}
