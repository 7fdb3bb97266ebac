//! Revocation lists.

use hsm::KeyRole;
use pki::{CrlContents, CrlNumber, RevocationReason, RevokedCertificate, SerialNumber, issue_crl};
use serde_json::json;

use super::{Done, certificates::OpenIssuer};
use crate::{
    CeremonyError,
    ceremony::Ceremony,
    outputs::write_new,
    plan::{CrlPlan, ReasonPlan, RevokedPlan},
};

pub(super) fn issue(ceremony: &mut Ceremony<'_>, plan: &CrlPlan) -> Result<Done, CeremonyError> {
    let issuer = OpenIssuer::open(ceremony, &plan.issuer, KeyRole::IssuingCa)?;
    let contents = CrlContents {
        number: CrlNumber(plan.number),
        this_update: ceremony.now,
        next_update: ceremony.now + time::Duration::days(i64::from(plan.days)),
        revoked: plan.revoked.iter().map(entry).collect::<Result<_, _>>()?,
    };
    let der = issue_crl(&issuer.as_issuer(), &contents)?;
    let path = ceremony.plan.output(&plan.file);
    write_new(&path, &der)?;
    Ok(Done {
        summary: format!(
            "CRL {} of {}, {} entries -> {}",
            plan.number,
            issuer.certificate.subject(),
            contents.revoked.len(),
            path.display()
        ),
        record: json!({
            "file": plan.file,
            "issuer": issuer.certificate.subject().to_string(),
            "number": plan.number,
            "next-update": contents.next_update.to_string(),
            "revoked": plan.revoked.iter().map(|revoked| &revoked.serial).collect::<Vec<_>>(),
        }),
    })
}

fn entry(revoked: &RevokedPlan) -> Result<RevokedCertificate, CeremonyError> {
    Ok(RevokedCertificate {
        serial: SerialNumber::from_hex(&revoked.serial)
            .map_err(|error| CeremonyError::Pki(error.to_string()))?,
        at: revoked.at,
        reason: revoked.reason.map(|reason| match reason {
            ReasonPlan::KeyCompromise => RevocationReason::KeyCompromise,
            ReasonPlan::Superseded => RevocationReason::Superseded,
            ReasonPlan::CessationOfOperation => RevocationReason::CessationOfOperation,
        }),
    })
}
