//! Revocation lists.

use pki::{CrlContents, issue_crl, rfc3339};
use serde_json::json;

use super::{Done, certificates::OpenIssuer};
use crate::{CeremonyError, ceremony::Ceremony, plan::CrlPlan};

/// Makes a list. It was verified as a reader would before it is written.
pub(super) fn issue(ceremony: &mut Ceremony<'_>, plan: &CrlPlan) -> Result<Done, CeremonyError> {
    let issuer = OpenIssuer::open(ceremony, &plan.issuer)?;
    let contents = CrlContents {
        number: plan.number,
        this_update: ceremony.plan.now,
        next_update: plan.next_update,
        revoked: plan.revoked.clone(),
    };
    let der = issue_crl(&issuer.as_issuer(), &contents)?;
    let digest = ceremony.write(&plan.file, &der)?;
    let serials = plan.revoked.iter().map(|entry| entry.serial.to_string());
    Ok(Done {
        summary: format!(
            "revocation list {} of {}, {} revoked: {}",
            plan.number,
            plan.issuer.name,
            plan.revoked.len(),
            plan.file.display()
        ),
        record: json!({
            "file": plan.file,
            "file-sha256": digest,
            "issuer": plan.issuer.name.to_string(),
            "number": plan.number.0,
            "next-update": rfc3339(plan.next_update),
            "revoked": serials.collect::<Vec<_>>(),
        }),
        continues_until: None,
    })
}
