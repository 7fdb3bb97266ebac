//! A key that is made in the HSM and leaves in components, for another bank's ceremony.
//!
//! The components are random numbers of the HSM, and the key is their sum, formed inside as for components that
//! come in. So nothing is ever computed from the key, and it is nowhere but in the HSM. Each component stands in
//! this process, alone, from when the HSM made it until its custodian has written it down.

use hsm::{ClearKey, HsmError, Kcv, Token, require_sound_component};
use serde_json::json;
use tr34::KeyKind;
use zeroize::Zeroizing;

use super::Done;
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    custody::{Claim, Custody, How, Key},
    people::Component,
    plan::{GiveOutPlan, Mode},
    sittings::sum_id,
};

pub(super) fn give_out(
    ceremony: &mut Ceremony<'_>,
    plan: &GiveOutPlan,
    act: u32,
) -> Result<Done, CeremonyError> {
    let token = ceremony.token(&plan.place.token)?.clone();
    let custody = Custody::of(&token, plan.custody)?;
    let mut sum = token.combine_components(plan.kind)?;
    let of = plan.custodians.len();
    if ceremony.plan.mode == Mode::Rehearsal {
        let rehearsal = "Rehearsal: the components are of a key that nobody uses.";
        ceremony.people.tell(rehearsal);
    }
    let mut kcvs = Vec::with_capacity(of);
    for (custodian, number) in plan.custodians.iter().zip(1_u32..) {
        let component = make_up(&token, plan.kind)?;
        let kcv = sum.add(ClearKey::copy_from(component.expose_clear()))?;
        ceremony.begin_turn(custodian)?;
        let given = Component {
            custodian: &ceremony.plan.name_of(custodian),
            key: plan.place.key.label(),
            kind: plan.kind,
            number: number as usize,
            of,
        };
        ceremony.people.give_component(&given, &component, &kcv)?;
        drop(component);
        let detail = json!({
            "component": number,
            "of": of,
            "kcv": kcv.to_string(),
            "confirmed-by": "custodian",
        });
        ceremony.sign_step(custodian, "component-shown", detail)?;
        kcvs.push(kcv);
    }
    // Who held what is on record before there is the key.
    let kcv = sum.kcv(Kcv::LEN)?;
    let key = Key {
        kind: plan.kind,
        kcv: &kcv,
        name: &plan.place.key,
    };
    for ((custodian, kcv), number) in plan.custodians.iter().zip(&kcvs).zip(1..) {
        let claim = Claim {
            person: ceremony.plan.person(custodian),
            name: &ceremony.plan.name_of(custodian),
            number,
            kcv,
            how: How::Shown,
            act: sum_id(ceremony.plan, act),
        };
        custody.claim(&key, &claim, ceremony.now())?;
    }
    ceremony.making_key(&plan.place)?;
    let _key = sum.finish(&plan.place.key, &kcv)?;
    ceremony.made_key(&plan.place);
    let components = plan.custodians.iter().zip(&kcvs);
    let components =
        components.map(|(custodian, kcv)| json!({"custodian": custodian, "kcv": kcv.to_string()}));
    Ok(Done {
        summary: format!(
            "{}, {}, check value of the whole key, to be announced with the components: {kcv}",
            plan.place, plan.kind
        ),
        record: json!({
            "token": plan.place.token,
            "key": plan.place.key.label(),
            "kind": plan.kind.name(),
            "kcv": kcv.to_string(),
            "custody": custody.word(),
            "components": components.collect::<Vec<_>>(),
        }),
        continues_until: None,
    })
}

/// A random component that every other HSM takes: TDEA's with odd parity.
fn make_up(token: &Token, kind: KeyKind) -> Result<ClearKey, HsmError> {
    loop {
        let mut bytes = Zeroizing::new(token.random(kind.key_len())?);
        if matches!(kind, KeyKind::Tdea2 | KeyKind::Tdea3) {
            for byte in bytes.iter_mut() {
                *byte ^= u8::from(byte.count_ones() % 2 == 0);
            }
        }
        let component = ClearKey::copy_from(&bytes);
        // Refused once in the life of the universe.
        if require_sound_component(&component, kind).is_ok() {
            return Ok(component);
        }
    }
}
