//! What operators order about the binding of a device, and the tokens with which this KDH tells the device.

use kdh_proto::Reason;
use pki::Certificate;
use serde_json::{Value, json};
use tr34::{KdhRebindToken, KdhUnbindToken};

use crate::{
    Host, HostError,
    administration::{Operator, require_device},
    binding::{self, AuthenticatedDevice},
    error::refused,
    mirror,
    names::{DeviceSerial, Why},
    other_kdh,
    stages::Laps,
    state::{BindingChange, BindingTokenState, DeviceState, EndOfBinding},
    store::{
        Actor, AuditEntry, BindingOrder, BindingToken, Device, MadeFor, NewBindingOrder, OrderEnd,
        Standing, StoreError, Tx,
    },
    transport::{self, Asked, Claim, Steps, Transport},
};

/// Orders that a device shall be unbound, or be bound to the KDH with this certificate, DER.
pub(crate) async fn order(
    host: &Host,
    operator: &Operator,
    serial: &str,
    change: BindingChange<&[u8]>,
    why: &str,
) -> Result<Device, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let why = Why::parse(why)?;
    if let BindingChange::Rebind(der) = change {
        let credential = other_kdh::verify_new(host, der).await?;
        if host.keys().kdhs().find(credential.id()).is_some() {
            return Err(refused(
                Reason::RequestInvalid,
                "this is the certificate of this host itself",
            ));
        }
    }
    let mut tx = host.store().write(host.now()).await?;
    let device = require_device(&mut tx, &serial).await?;
    if device.state != DeviceState::Bound {
        let state = device.state.as_str();
        let cause = format!("{serial} is {state}: only a device that is BOUND can be told to go");
        return Err(refused(Reason::WrongState, cause));
    }
    let order = NewBindingOrder {
        device: &serial,
        change,
        by: operator.name(),
        why: &why,
    };
    let number = tx.insert_binding_order(&order).await?.ok_or_else(|| {
        let cause = format!("{serial} has an open order already: cancel that one first");
        refused(Reason::AlreadyExists, cause)
    })?;
    let actor = operator.actor();
    let record = record_of(&actor, &serial, number, order.change, why.as_str())?;
    tx.record(record).await?;
    tx.commit().await?;
    Ok(device)
}

/// What the audit trail says of an order.
fn record_of<'a>(
    actor: &'a Actor,
    serial: &'a DeviceSerial,
    number: i64,
    change: BindingChange<&[u8]>,
    why: &str,
) -> Result<AuditEntry<'a>, HostError> {
    let new_kdh = change.new_kdh().map(|der| Certificate::from_der(der));
    let new_kdh = new_kdh.transpose();
    let new_kdh = new_kdh.map_err(|_| StoreError::Damaged("order"))?;
    let new_kdh = new_kdh.map(|certificate| certificate.serial().to_string());
    Ok(AuditEntry {
        actor,
        action: match change.kind() {
            EndOfBinding::Unbind => "device.unbind-ordered",
            EndOfBinding::Rebind => "device.rebind-ordered",
        },
        device: Some(serial),
        outcome: "ok",
        detail: json!({"order": number, "why": why, "new-kdh": new_kdh}),
    })
}

/// An order must be what an operator has ordered: whoever can write to the database must not have a device
/// bound to a KDH that nobody named, nor bring back an order that is done or was cancelled.
fn require_recorded(
    host: &Host,
    serial: &DeviceSerial,
    order: &BindingOrder,
) -> Result<(), HostError> {
    let is_recorded = if order.ordered_by == HOST {
        // It can be told from the host's configuration.
        names_present_kdh(host, order)
    } else {
        let actor = Actor::Operator(order.ordered_by.clone());
        let change = order.change.as_deref();
        let record = record_of(&actor, serial, order.number, change, &order.why)?;
        host.store().is_open(&record)
    };
    if is_recorded {
        return Ok(());
    }
    Err(StoreError::Damaged("order").into())
}

fn names_present_kdh(host: &Host, order: &BindingOrder) -> bool {
    let present = host.keys().kdhs().present.certificate.der();
    order.change.new_kdh().map(Vec::as_slice) == Some(present)
}

/// Takes a device's open order back. A token that has left for it may still be obeyed.
pub(crate) async fn cancel(
    host: &Host,
    operator: &Operator,
    serial: &str,
) -> Result<Device, HostError> {
    let serial = DeviceSerial::parse(serial)?;
    let mut tx = host.store().write(host.now()).await?;
    let device = require_device(&mut tx, &serial).await?;
    let actor = operator.actor();
    match tx.open_order(&serial).await? {
        Some(order) => cancel_open(&mut tx, &actor, &serial, &order).await?,
        // By its row it is over, or there is no row. One that says otherwise may come back.
        None if host.store().may_have_open_order(&serial) => {
            record_cancelled(&mut tx, &actor, &serial, json!({"row": "not open"})).await?;
        }
        None => {
            let cause = format!("there is no open order for {serial}");
            return Err(refused(Reason::NotFound, cause));
        }
    }
    tx.commit().await?;
    Ok(device)
}

/// Takes an open order back, on record.
pub(crate) async fn cancel_open(
    tx: &mut Tx,
    actor: &Actor,
    serial: &DeviceSerial,
    order: &BindingOrder,
) -> Result<(), StoreError> {
    tx.close_order(order.number, OrderEnd::Cancelled).await?;
    let detail = json!({"order": order.number, "kind": order.change.kind().as_str()});
    record_cancelled(tx, actor, serial, detail).await
}

async fn record_cancelled(
    tx: &mut Tx,
    actor: &Actor,
    serial: &DeviceSerial,
    detail: Value,
) -> Result<(), StoreError> {
    tx.record(AuditEntry {
        actor,
        action: "device.order-cancelled",
        device: Some(serial),
        outcome: "ok",
        detail,
    })
    .await
}

/// Exchanges a random-number token for the token of a device's open order, if that is of this kind.
pub(crate) async fn request(
    host: &Host,
    device: &AuthenticatedDevice,
    kind: EndOfBinding,
    rt_krd: &[u8],
) -> Result<Vec<u8>, HostError> {
    let transport = BindingTransport { kind };
    let mut laps = Laps::begin();
    let asked = Asked::ByDevice(rt_krd);
    let (_, _, token) = transport::carry(host, device, asked, &transport, &mut laps).await?;
    Ok(token)
}

/// The transport of an unbind or a rebind token.
struct BindingTransport {
    kind: EndOfBinding,
}

/// A token that is on record, and its order.
struct DueToken {
    order: BindingOrder,
    token: BindingToken,
}

/// What this host wants of a device that nobody has ordered anything of: to go over to its present KDH.
pub(crate) fn standing_order(host: &Host, standing: &Standing) -> Option<EndOfBinding> {
    let bound = standing.bound_kdh.as_ref()?;
    let hand_over = standing.state == DeviceState::Bound && host.keys().kdhs().is_retiring(bound);
    hand_over.then_some(EndOfBinding::Rebind)
}

/// The open order of a device.
pub(crate) async fn open_order(
    host: &Host,
    tx: &mut Tx,
    serial: &DeviceSerial,
    standing: &Standing,
) -> Result<Option<BindingOrder>, HostError> {
    let order = tx.open_order(serial).await?;
    Ok(order.filter(|order| is_in_force(host, standing, order)))
}

/// Whether an order still holds: the host's own may be from before its configuration was changed.
fn is_in_force(host: &Host, standing: &Standing, order: &BindingOrder) -> bool {
    order.ordered_by != HOST
        || standing_order(host, standing) == Some(order.change.kind())
            && names_present_kdh(host, order)
}

/// Who gives standing orders. No operator has this name: theirs come from certificates.
const HOST: &str = "";

impl BindingTransport {
    /// Writes the host's own order down, as it is asked for. An earlier one that is out of date ends.
    async fn give_standing_order(
        &self,
        host: &Host,
        tx: &mut Tx,
        serial: &DeviceSerial,
        standing: &Standing,
    ) -> Result<(), HostError> {
        if let Some(order) = tx.open_order(serial).await? {
            if is_in_force(host, standing, &order) {
                return Ok(());
            }
            if !tx.close_order(order.number, OrderEnd::Cancelled).await? {
                return Err(StoreError::Damaged("order").into());
            }
        }
        if standing_order(host, standing) != Some(self.kind) {
            return Ok(());
        }
        let why = Why::parse("this host has a new KDH credential")?;
        let present = host.keys().kdhs().present.certificate.der();
        let order = NewBindingOrder {
            device: serial,
            change: BindingChange::Rebind(present),
            by: HOST,
            why: &why,
        };
        let Some(number) = tx.insert_binding_order(&order).await? else {
            return Ok(());
        };
        let record = record_of(&Actor::Host, serial, number, order.change, why.as_str())?;
        Ok(tx.record(record).await?)
    }

    /// The open order, if it is of the kind that is asked for.
    async fn ordered(
        &self,
        host: &Host,
        tx: &mut Tx,
        serial: &DeviceSerial,
        standing: &Standing,
    ) -> Result<BindingOrder, HostError> {
        let order = open_order(host, tx, serial, standing).await?;
        let order = order.filter(|order| order.change.kind() == self.kind);
        let kind = self.kind.as_str();
        order.ok_or_else(|| {
            refused(
                Reason::NotOrdered,
                format!("there is no {kind} order for {serial}"),
            )
        })
    }
}

impl Transport for BindingTransport {
    const STEPS: Steps = Steps {
        request: "binding.request",
        intent: "binding.intent",
        issued: "binding.issued",
        withheld: "binding.withheld",
        abandoned: "binding.abandoned",
        id: "token",
    };

    type Due = DueToken;

    async fn prepare(
        &self,
        host: &Host,
        tx: &mut Tx,
        claim: &Claim<'_>,
    ) -> Result<(DueToken, Value), HostError> {
        let serial = claim.serial();
        let nonce = claim.device_nonce()?;
        let tried = tx.claim_nonce(serial, None, nonce).await?;
        let standing = binding::require_maybe_bound(serial, tried.standing)?;
        self.give_standing_order(host, tx, serial, &standing)
            .await?;
        let order = self.ordered(host, tx, serial, &standing).await?;
        let kdh = binding::kdh_of(host, serial, &standing)?.id.clone();
        transport::require_fresh(tried.outcome, serial)?;
        let token = BindingToken {
            id: claim.id.clone(),
            device: serial.clone(),
            made_for: MadeFor::Order(order.number),
            change: other_kdh::by_name(&order.change)?,
            kdh,
            state: BindingTokenState::Prepared,
            nonce: Some(nonce.as_bytes().to_vec()),
            sha256: None,
        };
        tx.insert_binding_token(&token).await?;
        let detail = json!({
            "token": token.id,
            "kind": self.kind.as_str(),
            "order": order.number,
            "certificate": claim.credential.certificate().serial().to_string(),
        });
        Ok((DueToken { order, token }, detail))
    }

    async fn make(
        &self,
        host: &Host,
        claim: &Claim<'_>,
        due: &DueToken,
        _: &mut Laps,
    ) -> Result<Vec<u8>, HostError> {
        require_recorded(host, claim.serial(), &due.order)?;
        let kdh = host.keys().kdh(&due.token.kdh)?;
        let crl = host.crl_ca_kdh(kdh).await?;
        let (profile, now) = (claim.device.profile(), host.signing_time()?);
        let (krd, nonce) = (claim.credential.id(), claim.device_nonce()?);
        let (kdh, crl) = (&kdh.id, crl.crl().der());
        let draft = match &due.order.change {
            BindingChange::Unbind => KdhUnbindToken::draft(profile, krd, nonce, now, kdh, crl),
            BindingChange::Rebind(new_kdh) => {
                // It may have been revoked since it was ordered.
                let new_kdh = other_kdh::verify_new(host, new_kdh).await;
                let new_kdh = new_kdh.map_err(|error| match error {
                    HostError::Refused { cause, .. } => refused(Reason::NotOrdered, cause),
                    ours => ours,
                })?;
                let new_kdh = new_kdh.certificate().der();
                KdhRebindToken::draft(profile, krd, new_kdh, nonce, now, kdh, crl)
            }
        };
        let draft = draft.map_err(|error| HostError::Internal(error.to_string()))?;
        let kdh = kdh.clone();
        host.in_hsm(move |keys| keys.sign_as_kdh(&kdh, draft)).await
    }

    async fn issue(
        &self,
        host: &Host,
        tx: &mut Tx,
        claim: &Claim<'_>,
        due: &DueToken,
        token_sha256: &[u8; 32],
    ) -> Result<(Standing, Value), HostError> {
        let serial = claim.serial();
        let standing = tx.standing(serial, None).await?;
        let standing = binding::require_maybe_bound(serial, standing)?;
        // It may have been cancelled, and another one given.
        let order = self.ordered(host, tx, serial, &standing).await?;
        if order.number != due.order.number {
            let cause = format!("{serial} has another order since the intent");
            return Err(refused(Reason::NotOrdered, cause));
        }
        require_recorded(host, serial, &due.order)?;
        if standing.bound_kdh.as_ref() != Some(&due.token.kdh) {
            let cause = format!("{serial} has gone over to another KDH since the intent");
            return Err(refused(Reason::NotBound, cause));
        }
        tx.issue_binding_token(&claim.id, token_sha256).await?;
        let state = mirror::leave(host, tx, &due.token).await?;
        let detail = json!({
            "token": claim.id,
            "token-sha256": hex::encode(token_sha256),
            "from": standing.state.as_str(),
            "to": state.as_str(),
        });
        Ok((standing, detail))
    }

    async fn withhold(
        &self,
        tx: &mut Tx,
        claim: &Claim<'_>,
        _: &DueToken,
    ) -> Result<(), HostError> {
        let (issued, abandoned) = (BindingTokenState::Issued, BindingTokenState::Abandoned);
        tx.set_binding_token_state(&claim.id, issued, abandoned)
            .await?;
        mirror::stay(tx, claim.serial()).await
    }

    async fn abandon(&self, tx: &mut Tx, claim: &Claim<'_>) -> Result<bool, HostError> {
        let nonce = claim.device_nonce()?.as_bytes();
        Ok(tx
            .abandon_binding_token(claim.serial(), &claim.id, nonce)
            .await?)
    }
}
