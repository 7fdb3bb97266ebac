//! A key that arrived encrypted: unwrapped inside the HSM.

use hsm::{HsmError, ImportError, KeyImport, Token, Upstream, WrappedKey};
use serde_json::json;

use super::{
    Done,
    rehearsal::{refused_and_made, tell},
};
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    plan::{Arrived, ArrivedKey, WrappedPlan},
};

pub(super) fn import(
    ceremony: &mut Ceremony<'_>,
    plan: &WrappedPlan,
) -> Result<Done, CeremonyError> {
    match &plan.arrived {
        Some(arrived) => import_arrived(ceremony, plan, arrived),
        None => rehearse(ceremony, plan),
    }
}

fn import_arrived(
    ceremony: &mut Ceremony<'_>,
    plan: &WrappedPlan,
    arrived: &Arrived,
) -> Result<Done, CeremonyError> {
    ceremony.making_key(&plan.place)?;
    let token = ceremony.token(&plan.place.token)?;
    let import = KeyImport {
        wrapped: wrapped(token, plan, &arrived.what, ceremony.plan.now)?,
        kind: plan.kind,
        kcv: plan.kcv.clone(),
        header: plan.header.clone(),
    };
    let imported = token.import_key(&import, &plan.place.key);
    let _key = imported.map_err(|error| match error {
        HsmError::KcvMismatch { expected, found } => CeremonyError::ArrivedKcv { expected, found },
        other => other.into(),
    })?;
    ceremony.made_key(&plan.place);
    Ok(Done {
        summary: format!(
            "{}, {}, check value {}, as {} under {}",
            plan.place, plan.kind, plan.kcv, plan.form, plan.under.key
        ),
        record: json!({
            "token": plan.place.token,
            "key": plan.place.key.label(),
            "kind": plan.kind.name(),
            "kcv": plan.kcv.to_string(),
            "header": plan.header.as_ref().map(ToString::to_string),
            "form": plan.form.name(),
            "under": plan.under.key.label(),
            "files-sha256": arrived.digests,
        }),
        continues_until: None,
    })
}

fn wrapped(
    token: &Token,
    plan: &WrappedPlan,
    arrived: &ArrivedKey,
    now: time::OffsetDateTime,
) -> Result<WrappedKey, HsmError> {
    let upstream = match arrived {
        ArrivedKey::Wrapped(wrapped) => return Ok(wrapped.clone()),
        ArrivedKey::KeyToken(upstream) => upstream,
    };
    let expected = Upstream {
        profile: upstream.profile,
        ca: &upstream.ca,
        sender: &upstream.sender,
        crl: upstream.crl.as_deref(),
        own: &upstream.receiver,
        pair: &plan.under.key,
        freshness: upstream.freshness,
        now,
    };
    let verified = token.verify_upstream(&upstream.token, &expected)?;
    Ok(WrappedKey::Tr34(Box::new(verified)))
}

/// Rehearses with a made-up key under a made-up one: the plan's check value has to refuse it, its own has to
/// accept it. What the rehearsal's module cannot do is said, and not done.
fn rehearse(ceremony: &mut Ceremony<'_>, plan: &WrappedPlan) -> Result<Done, CeremonyError> {
    let token = ceremony.token(&plan.place.token)?;
    let record = |kcv: Option<String>, not_rehearsed: Option<String>| {
        json!({
            "token": plan.place.token,
            "key": plan.place.key.label(),
            "kind": plan.kind.name(),
            "kcv": kcv,
            "form": plan.form.name(),
            "under": plan.under.key.label(),
            "not-rehearsed": not_rehearsed,
        })
    };
    let made_up = match token.make_up_import(plan.form, &plan.under.key, plan.kind) {
        Ok(made_up) => made_up,
        Err(
            impossible @ (HsmError::Unsupported { .. }
            | HsmError::Import(ImportError::NotMadeUp { .. })),
        ) => {
            let cause = impossible.to_string();
            return Ok(Done {
                summary: format!("{} is not rehearsed: {cause}", plan.place),
                record: record(None, Some(cause)),
                continues_until: None,
            });
        }
        Err(other) => return Err(other.into()),
    };
    let name = &plan.place.key;
    let kcv = refused_and_made(&plan.kcv, |kcv| {
        let import = KeyImport {
            kcv: kcv.clone(),
            header: plan.header.clone(),
            ..made_up.clone()
        };
        token.import_key(&import, name)
    })?;
    ceremony.made_key(&plan.place);
    tell(ceremony.people, name, &kcv);
    Ok(Done {
        summary: format!("{}, {}, made up, check value {kcv}", plan.place, plan.kind),
        record: record(Some(kcv.to_string()), None),
        continues_until: None,
    })
}
