//! What calls have claimed, and how it is given back when a call could not do so itself: the host was
//! killed, or the database did not answer.
//!
//! A claim in the database that no call of this process is working on is nobody's: the store is this
//! process's alone.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::json;

use crate::{
    Host, HostError, authority, key_import,
    names::DeviceSerial,
    store::{Actor, AuditEntry, AuthorityRequest, BindingToken, Delivery, KeyImportRequest, Tx},
};

/// The claims that calls are working on.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Mutex<HashSet<String>>>);

/// A call is working on a claim for as long as this lives. Made before the claim is written.
#[derive(Debug)]
pub(crate) struct Working {
    under_way: UnderWay,
    claim: String,
}

impl UnderWay {
    /// Announces a claim.
    pub(crate) fn begin(&self, claim: String) -> Working {
        self.claims().insert(claim.clone());
        Working {
            under_way: self.clone(),
            claim,
        }
    }

    /// Whether a call is working on it.
    pub(crate) fn contains(&self, claim: &str) -> bool {
        self.claims().contains(claim)
    }

    fn claims(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.under_way.claims().remove(&self.claim);
    }
}

/// Claims that are nobody's.
struct Leftovers {
    enrolments: Vec<(DeviceSerial, String)>,
    deliveries: Vec<Delivery>,
    binding_tokens: Vec<BindingToken>,
    approvals: Vec<AuthorityRequest>,
    imports: Vec<KeyImportRequest>,
}

impl Leftovers {
    async fn find(host: &Host, tx: &mut Tx) -> Result<Self, HostError> {
        let mut enrolments = tx.unfinished_enrolments().await?;
        enrolments.retain(|(_, claim)| !host.under_way().contains(claim));
        let mut deliveries = tx.unfinished_deliveries().await?;
        deliveries.retain(|delivery| !host.under_way().contains(&delivery.id));
        let mut binding_tokens = tx.unfinished_binding_tokens().await?;
        binding_tokens.retain(|token| !host.under_way().contains(&token.id));
        let mut approvals = tx.unfinished_approvals().await?;
        approvals.retain(|request| !host.under_way().contains(&request.id));
        let mut imports = tx.unfinished_imports().await?;
        imports.retain(|import| !host.under_way().contains(&import.id));
        Ok(Self {
            enrolments,
            deliveries,
            binding_tokens,
            approvals,
            imports,
        })
    }

    const fn is_empty(&self) -> bool {
        self.enrolments.is_empty()
            && self.deliveries.is_empty()
            && self.binding_tokens.is_empty()
            && self.approvals.is_empty()
            && self.imports.is_empty()
    }
}

/// Gives back, on the record, what was claimed and is nobody's.
pub(crate) async fn give_back_leftovers(host: &Host) -> Result<(), HostError> {
    // Most of the time there is nothing, and writers need not be held up to see that.
    let mut tx = host.store().read(host.now()).await?;
    if Leftovers::find(host, &mut tx).await?.is_empty() {
        return Ok(());
    }
    drop(tx);
    let mut tx = host.store().write(host.now()).await?;
    let leftovers = Leftovers::find(host, &mut tx).await?;
    for (device, claim) in &leftovers.enrolments {
        release_enrolment(&mut tx, device, claim).await?;
    }
    for delivery in &leftovers.deliveries {
        tx.abandon_delivery(&delivery.device, &delivery.id, &delivery.nonce)
            .await?;
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "delivery.abandoned",
            device: Some(&delivery.device),
            outcome: "ok",
            detail: json!({
                "delivery": delivery.id,
                "why": "the call ended before the token was recorded",
            }),
        })
        .await?;
    }
    for token in &leftovers.binding_tokens {
        let nonce = token.nonce.as_deref().unwrap_or_default();
        tx.abandon_binding_token(&token.device, &token.id, nonce)
            .await?;
        tx.record(AuditEntry {
            actor: &Actor::Host,
            action: "binding.abandoned",
            device: Some(&token.device),
            outcome: "ok",
            detail: json!({
                "token": token.id,
                "why": "the call ended before the token was recorded",
            }),
        })
        .await?;
    }
    for request in &leftovers.approvals {
        authority::release(&mut tx, request, "ok").await?;
    }
    for import in &leftovers.imports {
        key_import::release(&mut tx, import, "ok", key_import::Left::MayBe).await?;
    }
    Ok(tx.commit().await?)
}

/// Gives back an enrolment that is nobody's.
pub(crate) async fn release_enrolment(
    tx: &mut Tx,
    device: &DeviceSerial,
    claim: &str,
) -> Result<(), HostError> {
    tx.release_enrolment(device, claim).await?;
    Ok(tx
        .record(AuditEntry {
            actor: &Actor::Host,
            action: "device.enrol.released",
            device: Some(device),
            outcome: "ok",
            detail: json!({"why": "the call ended before it was finished"}),
        })
        .await?)
}
