//! What the host believes of the binding of a device, and of the keys that hang on it.
//!
//! A token that ends a binding changes that when it leaves: whether it arrived, the device alone can say, and
//! until it does, it may still be bound. So no key is delivered any more, and the device may ask for the token
//! again, until it acknowledges or binds anew.

use kdh_proto::{
    Reason,
    v1::{BindingStatement, Receipt},
};
use serde_json::{Value, json};
use tr34::IssuerAndSerial;

use crate::{
    Host, HostError,
    binding::{self, AuthenticatedDevice},
    error::refused,
    kdh::Kdh,
    names::{DeviceSerial, Slot},
    orders,
    receipt::SignedStatement,
    state::{BindingChange, BindingTokenState, DeviceEvent, DeviceState, KeysFate},
    store::{Actor, AuditEntry, BindingToken, Device, MadeFor, OrderEnd, StoreError, Tx},
    transport::record_refusal,
};

/// More keys than any terminal has slots for.
const MAX_DESTROYED_KEYS: usize = 256;

/// A token leaves, or may leave from now on. Returns how the device stands then.
///
/// # Errors
/// The device's state does not allow it.
pub(crate) async fn leave(
    host: &Host,
    tx: &mut Tx,
    token: &BindingToken,
) -> Result<DeviceState, HostError> {
    let device = require_device(tx, &token.device).await?;
    binding::require_running(&device.serial, device.state).map_err(|_| wrong_state(&device))?;
    if !lets_go(host, &device, token) {
        return Ok(device.state);
    }
    let bound_kdh = device.bound_kdh.as_ref();
    end_binding(tx, &device, token, bound_kdh, KeysFate::AssumedDestroyed).await
}

/// The only token that would have ended a device's binding did not leave after all.
pub(crate) async fn stay(tx: &mut Tx, serial: &DeviceSerial) -> Result<(), HostError> {
    let device = require_device(tx, serial).await?;
    let state = device
        .state
        .after(DeviceEvent::StillBound, device.state_before);
    let Some(state) = state else { return Ok(()) };
    if tx.has_binding_tokens(serial).await? {
        return Ok(());
    }
    tx.set_device_state(&device, state).await?;
    Ok(tx
        .set_binding(serial, device.bound_kdh.as_ref(), None)
        .await?)
}

/// A device is bound to this KDH of the host from now on. If it had let go, it holds none of the keys that it
/// had. Returns what changes for the trail.
///
/// # Errors
/// The device's state does not allow it.
pub(crate) async fn bind(
    tx: &mut Tx,
    device: &Device,
    kdh: &IssuerAndSerial,
) -> Result<Value, HostError> {
    let state = state_after(device, DeviceEvent::Bound)?;
    let serial = &device.serial;
    tx.set_device_state(device, state).await?;
    tx.set_binding(serial, Some(kdh), None).await?;
    if device.keys_fate.is_none() {
        return Ok(json!({}));
    }
    Ok(json!({
        "superseded": tx.supersede_deliveries(serial).await?,
        "ended": tx.end_deliveries(serial).await?,
    }))
}

/// Takes a device's word that it obeyed a token. The same word again is taken as before.
pub(crate) async fn acknowledge(
    host: &Host,
    device: &AuthenticatedDevice,
    receipt: &Receipt,
) -> Result<(), HostError> {
    let outcome = match SignedStatement::verify(device, receipt) {
        Ok(statement) => settle(host, device.serial(), statement.statement()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        record_refusal(host, device.serial(), "binding.acknowledge", error).await?;
    }
    outcome
}

async fn settle(
    host: &Host,
    serial: &DeviceSerial,
    statement: &BindingStatement,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let device = require_device(&mut tx, serial).await?;
    binding::require_running(serial, device.state)?;
    let token = tx
        .binding_token_by_digest(serial, &statement.token_sha256)
        .await?
        .filter(|token| {
            matches!(
                token.state,
                BindingTokenState::Issued | BindingTokenState::Obeyed
            )
        })
        .ok_or_else(|| {
            let digest = hex::encode(&statement.token_sha256);
            let cause = format!("{serial} got no unbind or rebind token with the digest {digest}");
            refused(Reason::TokenUnknown, cause)
        })?;
    let destroyed = destroyed_keys(serial, statement, &token)?;
    let digest = hex::encode(&statement.token_sha256);
    if host.store().was_acknowledged(&digest) {
        // The answer was lost, and this is the same word again.
        return Ok(());
    }
    // A row that has it already says nothing.
    let (issued, obeyed) = (BindingTokenState::Issued, BindingTokenState::Obeyed);
    tx.set_binding_token_state(&token.id, issued, obeyed)
        .await?;
    let order = order_of(host, &token)?;
    if let Some(number) = order {
        // An operator may have cancelled it when the token had left.
        tx.close_order(number, OrderEnd::Done).await?;
    }
    let state = obey(host, &mut tx, &device, &token).await?;
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action: "binding.acknowledged",
        device: Some(serial),
        outcome: "ok",
        detail: json!({
            "token": token.id,
            "token-sha256": digest,
            "kind": token.change.kind().as_str(),
            "order": order,
            "state": state.as_str(),
            "destroyed-keys": destroyed,
        }),
    })
    .await?;
    if order.is_some() {
        end_other_order(&mut tx, serial).await?;
    }
    record_retirement(host, &mut tx, &device).await?;
    Ok(tx.commit().await?)
}

/// The number of the order for which a token was made, if it is none of `CA_KRD`'s. The row alone does not make it one.
fn order_of(host: &Host, token: &BindingToken) -> Result<Option<i64>, StoreError> {
    let digest = token.sha256.as_deref().map(hex::encode);
    match token.made_for {
        MadeFor::Order(number) => Ok(Some(number)),
        MadeFor::Authority(_)
            if digest.is_some_and(|digest| host.store().was_signed_by_authority(&digest)) =>
        {
            Ok(None)
        }
        MadeFor::Authority(_) => Err(StoreError::Damaged("binding token")),
    }
}

/// By the audit trail, a device that obeys an order has none that is open: which one it was, only rows say. One that was
/// given meanwhile has to be given anew.
async fn end_other_order(tx: &mut Tx, serial: &DeviceSerial) -> Result<(), StoreError> {
    match tx.open_order(serial).await? {
        Some(order) => orders::cancel_open(tx, &Actor::Host, serial, &order).await,
        None => Ok(()),
    }
}

/// Puts down, when a device has left its KDH, that it was the last one there, if all are handed over from
/// that. The device is given as it was before.
pub(crate) async fn record_retirement(
    host: &Host,
    tx: &mut Tx,
    before: &Device,
) -> Result<(), HostError> {
    let kdhs = host.keys().kdhs();
    let left = before.bound_kdh.as_ref();
    let Some(kdh) = left.filter(|kdh| kdhs.is_retiring(kdh)) else {
        return Ok(());
    };
    if tx.has_devices(kdh).await? {
        return Ok(());
    }
    let serial = hex::encode_upper(kdh.serial_bytes());
    tracing::info!(kdh = serial, "no terminal is bound to this KDH any more");
    Ok(tx
        .record(AuditEntry {
            actor: &Actor::Host,
            action: "kdh.retired",
            device: None,
            outcome: "ok",
            detail: json!({"kdh": serial}),
        })
        .await?)
}

/// What a statement says was destroyed, if it fits the token that it names.
fn destroyed_keys(
    serial: &DeviceSerial,
    statement: &BindingStatement,
    token: &BindingToken,
) -> Result<Vec<Value>, HostError> {
    let keys = &statement.destroyed_keys;
    let bound_to = token.change.new_kdh().map(IssuerAndSerial::to_der);
    let fits = statement.previous_kdh == token.kdh.to_der()
        && statement.kdh == bound_to.unwrap_or_default()
        && keys.len() <= MAX_DESTROYED_KEYS
        // A device that goes over to another KDH takes its keys with it.
        && (keys.is_empty() || token.change == BindingChange::Unbind)
        && keys.iter().all(|key| Slot::parse(&key.slot).is_ok());
    if !fits {
        return Err(refused(
            Reason::ReceiptInvalid,
            format!("{serial}: the statement does not fit token {}", token.id),
        ));
    }
    let keys = keys.iter();
    Ok(keys
        .map(|key| json!({"slot": key.slot, "version": key.key_version}))
        .collect())
}

/// The device has done what a token says. Returns how it stands now.
async fn obey(
    host: &Host,
    tx: &mut Tx,
    device: &Device,
    token: &BindingToken,
) -> Result<DeviceState, HostError> {
    if let Some(kdh) = takes_over(host, token) {
        bind(tx, device, &kdh.id).await?;
        Ok(DeviceState::Bound)
    } else if lets_go(host, device, token) {
        // As when it left. It may have bound again in between: then it has to do so once more.
        let bound_kdh = token.change.new_kdh();
        end_binding(tx, device, token, bound_kdh, KeysFate::Destroyed).await
    } else {
        Ok(device.state)
    }
}

/// Puts down that a token ends a device's binding, and what becomes of its keys if they do not go with it.
async fn end_binding(
    tx: &mut Tx,
    device: &Device,
    token: &BindingToken,
    bound_kdh: Option<&IssuerAndSerial>,
    unbound_keys: KeysFate,
) -> Result<DeviceState, HostError> {
    let (event, fate) = match token.change {
        BindingChange::Unbind => (DeviceEvent::Unbound, unbound_keys),
        BindingChange::Rebind(_) => (DeviceEvent::Rebound, KeysFate::HandedOver),
    };
    let state = state_after(device, event)?;
    tx.set_device_state(device, state).await?;
    tx.set_binding(&device.serial, bound_kdh, Some(fate))
        .await?;
    Ok(state)
}

/// Whether a token ends the binding that a device has to this host.
fn lets_go(host: &Host, device: &Device, token: &BindingToken) -> bool {
    device.bound_kdh.as_ref() == Some(&token.kdh) && takes_over(host, token).is_none()
}

/// The KDH to which a token binds, if it is one of this host's: the present one, or one that was when the
/// token was made.
fn takes_over<'h>(host: &'h Host, token: &BindingToken) -> Option<&'h Kdh> {
    host.keys().kdhs().find(token.change.new_kdh()?)
}

fn state_after(device: &Device, event: DeviceEvent) -> Result<DeviceState, HostError> {
    let state = device.state.after(event, device.state_before);
    state.ok_or_else(|| wrong_state(device))
}

fn wrong_state(device: &Device) -> HostError {
    let cause = format!("{} is {}", device.serial, device.state.as_str());
    refused(Reason::WrongState, cause)
}

async fn require_device(tx: &mut Tx, serial: &DeviceSerial) -> Result<Device, HostError> {
    let device = tx.device(serial).await?;
    device.ok_or_else(|| HostError::Internal(format!("the device {serial} is gone")))
}
