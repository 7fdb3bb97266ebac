//! The partial sums that a token keeps between sittings: listed, and destroyed when nobody will go on with one.

use hsm::{StoredSumSummary, Token};
use pki::rfc3339;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::CeremonyError;

/// Characters of a plan's digest that name it at least.
const MIN_DIGEST_LEN: usize = 8;

/// The sums of a token, expired ones too.
///
/// # Errors
/// A record is damaged; the token does not answer.
pub fn list(token: &Token) -> Result<Vec<StoredSumSummary>, CeremonyError> {
    Ok(token.stored_sums()?)
}

/// A sum in words: whose it is, what is in it, and until when it can be used.
pub fn describe(sum: &StoredSumSummary, now: OffsetDateTime) -> String {
    let mut lines = vec![
        format!(
            "{}, {}, check value {}",
            sum.target.name, sum.target.kind, sum.target.kcv
        ),
        format!("  plan {}", hex::encode(sum.id.plan())),
        format!("  act {}", sum.id.act()),
    ];
    for entered in &sum.components {
        lines.push(format!(
            "  component {} of {}, check value {}",
            entered.number, entered.custodian, entered.kcv
        ));
    }
    if sum.tries > 0 {
        lines.push(format!(
            "  the last component was tried {} times",
            sum.tries
        ));
    }
    let verb = if sum.is_expired(now) {
        "has expired"
    } else {
        "expires"
    };
    let at = rfc3339(sum.expires_at);
    lines.push(format!("  {verb} at {at}"));
    lines.join("\n")
}

/// The same for programs.
pub fn to_json(sum: &StoredSumSummary, now: OffsetDateTime) -> Value {
    let components = sum.components.iter().map(|entered| {
        json!({
            "number": entered.number,
            "custodian": entered.custodian,
            "kcv": entered.kcv.to_string(),
        })
    });
    json!({
        "key": sum.target.name.label(),
        "kind": sum.target.kind.name(),
        "kcv": sum.target.kcv.to_string(),
        "plan-sha256": hex::encode(sum.id.plan()),
        "act": sum.id.act(),
        "components": components.collect::<Vec<_>>(),
        "tries": sum.tries,
        "expires": rfc3339(sum.expires_at),
        "expired": sum.is_expired(now),
    })
}

/// Destroys the one sum of the plan whose digest begins so, and of this act if one is named.
///
/// # Errors
/// There is none, or more than one; the token refuses.
pub fn destroy(
    token: &Token,
    digest: &str,
    act: Option<u32>,
) -> Result<StoredSumSummary, CeremonyError> {
    let declined = |cause: String| Err(CeremonyError::Declined(cause));
    let digest = digest.replace([' ', '-'], "").to_ascii_lowercase();
    if digest.len() < MIN_DIGEST_LEN {
        return declined(format!(
            "a plan is named by the first {MIN_DIGEST_LEN} characters of its digest at least; name it by more \
             (`kdh-ceremony sums list` shows it)"
        ));
    }
    let mut sums = token.stored_sums()?;
    sums.retain(|sum| {
        let is_plan = hex::encode(sum.id.plan()).starts_with(&digest);
        is_plan && act.is_none_or(|act| sum.id.act() == act)
    });
    match <[StoredSumSummary; 1]>::try_from(sums) {
        Ok([sum]) => {
            token.destroy_stored_sum(&sum.id)?;
            Ok(sum)
        }
        Err(none) if none.is_empty() => declined(format!(
            "the token keeps no partial sum of a plan whose digest begins with {digest}; name one that \
             `kdh-ceremony sums list` shows"
        )),
        Err(several) => declined(format!(
            "{} sums are of such plans; type more of the digest, or name the act with --act",
            several.len()
        )),
    }
}
