//! From a terminal's nonce to a token that leaves, whatever the token is. A terminal's credential is
//! validated before every transport, and again before what was made leaves.

use std::sync::Arc;

use kdh_proto::Reason;
use pki::VerifiedCredential;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tr34::{KrdNonce, Profile, RandomToken, Rule};

use crate::{
    Host, HostError,
    administration::Operator,
    binding::{self, AuthenticatedDevice},
    claims::Working,
    error::refused,
    host::random,
    names::DeviceSerial,
    stages::Laps,
    store::{Actor, AuditEntry, Standing, Tx},
};

/// Bytes of randomness in the id of a token.
const ID_LEN: usize = 16;

/// Who wants a token.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'r> {
    /// The device, with this random-number token.
    ByDevice(&'r [u8]),
    /// An operator: a key token without a nonce, to be brought to the device.
    ByOperator(&'r Operator),
}

impl Asked<'_> {
    fn actor(self, device: &AuthenticatedDevice) -> Actor {
        match self {
            Self::ByDevice(_) => Actor::Device(device.serial().clone()),
            Self::ByOperator(operator) => operator.actor(),
        }
    }
}

/// A nonce that is this device's alone, once it is written down, for a token under this id. Ends with
/// the token on record, or given back.
pub(crate) struct Claim<'d> {
    _working: Working,
    pub(crate) id: String,
    /// None if an operator wants the token.
    nonce: Option<KrdNonce>,
    actor: Actor,
    pub(crate) device: &'d AuthenticatedDevice,
    /// To which the token is made out.
    pub(crate) credential: Arc<VerifiedCredential>,
}

impl Claim<'_> {
    pub(crate) const fn serial(&self) -> &DeviceSerial {
        self.device.serial()
    }

    /// None for a token that an operator wants.
    pub(crate) const fn nonce(&self) -> Option<&KrdNonce> {
        self.nonce.as_ref()
    }

    /// The nonce of a token that only a device can ask for.
    pub(crate) fn device_nonce(&self) -> Result<&KrdNonce, HostError> {
        let nonce = self.nonce.as_ref();
        nonce.ok_or_else(|| HostError::Internal("a token that nobody asked for".to_owned()))
    }
}

/// What the audit trail calls the steps of a transport, in the past tense where it is one.
pub(crate) struct Steps {
    /// A refusal before anything was claimed.
    pub(crate) request: &'static str,
    pub(crate) intent: &'static str,
    pub(crate) issued: &'static str,
    pub(crate) withheld: &'static str,
    pub(crate) abandoned: &'static str,
    /// Under which name the id stands in the records.
    pub(crate) id: &'static str,
}

/// A kind of token that a terminal gets for a nonce.
pub(crate) trait Transport: Sync {
    const STEPS: Steps;

    /// What the token is to hold, found when its nonce was claimed.
    type Due: Sync;

    /// Claims the nonce and writes down what is to be made, if it is due. Says for the trail what that is.
    fn prepare(
        &self,
        host: &Host,
        tx: &mut Tx,
        claim: &Claim<'_>,
    ) -> impl Future<Output = Result<(Self::Due, Value), HostError>> + Send;

    /// Has the token made in the HSM.
    fn make(
        &self,
        host: &Host,
        claim: &Claim<'_>,
        due: &Self::Due,
        laps: &mut Laps,
    ) -> impl Future<Output = Result<Vec<u8>, HostError>> + Send;

    /// Writes down that the token exists, if it is still due. Says how the device stood then, and for the
    /// trail what changes with the token.
    fn issue(
        &self,
        host: &Host,
        tx: &mut Tx,
        claim: &Claim<'_>,
        due: &Self::Due,
        token_sha256: &[u8; 32],
    ) -> impl Future<Output = Result<(Standing, Value), HostError>> + Send;

    /// Takes back what [`Self::issue`] wrote: the token does not leave. The nonce stays used.
    fn withhold(
        &self,
        tx: &mut Tx,
        claim: &Claim<'_>,
        due: &Self::Due,
    ) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Gives back the nonce: no token exists. `false` if it stands otherwise by now.
    fn abandon(
        &self,
        tx: &mut Tx,
        claim: &Claim<'_>,
    ) -> impl Future<Output = Result<bool, HostError>> + Send;
}

/// Has a token made, which is on record before it is returned.
pub(crate) async fn carry<'d, T: Transport>(
    host: &Host,
    device: &'d AuthenticatedDevice,
    asked: Asked<'_>,
    transport: &T,
    laps: &mut Laps,
) -> Result<(Claim<'d>, T::Due, Vec<u8>), HostError> {
    let (claim, due) = match prepare(host, device, asked, transport, laps).await {
        Ok(prepared) => prepared,
        Err(error) => {
            // What an operator was refused is put down where they called.
            if let Asked::ByDevice(_) = asked {
                record_refusal(host, device.serial(), T::STEPS.request, &error).await?;
            }
            return Err(error);
        }
    };
    match deliver(host, &claim, transport, &due, laps).await {
        Ok(token) => Ok((claim, due, token)),
        Err(error) => {
            abandon(host, &claim, transport, &error).await?;
            Err(error)
        }
    }
}

/// All checks again, then the guard: the nonce and the intent are in the database, or nothing is.
async fn prepare<'d, T: Transport>(
    host: &Host,
    device: &'d AuthenticatedDevice,
    asked: Asked<'_>,
    transport: &T,
    laps: &mut Laps,
) -> Result<(Claim<'d>, T::Due), HostError> {
    let serial = device.serial();
    let credential = binding::encryption_credential(host, device).await?;
    laps.end("2 verify the credential");
    let nonce = match asked {
        Asked::ByDevice(rt_krd) => Some(parse_nonce(device.profile(), rt_krd)?),
        Asked::ByOperator(_) => None,
    };
    let id = hex::encode(random::<ID_LEN>()?);
    laps.end("3 parse");
    let claim = Claim {
        _working: host.under_way().begin(id.clone()),
        id,
        nonce,
        actor: asked.actor(device),
        device,
        credential,
    };
    let mut tx = host.store().write(host.now()).await?;
    let (due, detail) = transport.prepare(host, &mut tx, &claim).await?;
    tx.record(AuditEntry {
        actor: &claim.actor,
        action: T::STEPS.intent,
        device: Some(serial),
        outcome: "ok",
        detail,
    })
    .await?;
    laps.end("4 check and claim");
    tx.commit().await?;
    laps.end("5 commit the intent");
    Ok((claim, due))
}

fn parse_nonce(profile: Profile, rt_krd: &[u8]) -> Result<KrdNonce, HostError> {
    RandomToken::parse(profile, rt_krd)
        .map(|token| token.nonce().clone())
        .map_err(|error| {
            let reason = match error.rule {
                Rule::Length { .. } => Reason::NonceInvalid,
                _ => Reason::TokenMalformed,
            };
            refused(reason, error)
        })
}

/// Refuses a nonce that its device has used before.
pub(crate) fn require_fresh(fresh: bool, serial: &DeviceSerial) -> Result<(), HostError> {
    if fresh {
        return Ok(());
    }
    Err(refused(
        Reason::NonceReused,
        format!("{serial} has used this nonce before"),
    ))
}

/// From a claim to a token that is on record, and only then may leave.
async fn deliver<T: Transport>(
    host: &Host,
    claim: &Claim<'_>,
    transport: &T,
    due: &T::Due,
    laps: &mut Laps,
) -> Result<Vec<u8>, HostError> {
    let (device, credential) = (claim.device, &claim.credential);
    let serial = device.serial();
    let token = transport.make(host, claim, due, laps).await?;
    let token_sha256 = Sha256::digest(&token).into();
    // Whoever was stopped, listed or enrolled anew since the intent is never sent the token.
    binding::recheck(host, device, credential).await?;
    let mut tx = host.store().write(host.now()).await?;
    let (standing, detail) = transport
        .issue(host, &mut tx, claim, due, &token_sha256)
        .await?;
    binding::require_current(&standing, device, credential)?;
    tx.record(AuditEntry {
        actor: &claim.actor,
        action: T::STEPS.issued,
        device: Some(serial),
        outcome: "ok",
        detail,
    })
    .await?;
    laps.end("A check again and record");
    tx.commit().await?;
    // The commit may have had to wait, and a revocation list may have come meanwhile.
    if let Err(error) = binding::recheck(host, device, credential).await {
        withhold(host, claim, transport, due, &error).await?;
        return Err(error);
    }
    laps.end("B commit the issue");
    Ok(token)
}

/// A token that is on record does not leave.
async fn withhold<T: Transport>(
    host: &Host,
    claim: &Claim<'_>,
    transport: &T,
    due: &T::Due,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    transport.withhold(&mut tx, claim, due).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: T::STEPS.withheld,
        device: Some(claim.serial()),
        outcome: error.reason().as_str(),
        detail: json!({T::STEPS.id: claim.id}),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// No token left: the nonce is given back, on the record. Should the database not answer, the claim is
/// nobody's from here on, and is given back soon.
async fn abandon<T: Transport>(
    host: &Host,
    claim: &Claim<'_>,
    transport: &T,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    if !transport.abandon(&mut tx, claim).await? {
        return Ok(());
    }
    tx.record(AuditEntry {
        actor: &claim.actor,
        action: T::STEPS.abandoned,
        device: Some(claim.serial()),
        outcome: error.reason().as_str(),
        detail: json!({T::STEPS.id: claim.id}),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// Puts down that a device was refused something.
pub(crate) async fn record_refusal(
    host: &Host,
    serial: &DeviceSerial,
    action: &'static str,
    error: &HostError,
) -> Result<(), HostError> {
    let mut tx = host.store().write(host.now()).await?;
    tx.record(AuditEntry {
        actor: &Actor::Device(serial.clone()),
        action,
        device: Some(serial),
        outcome: error.reason().as_str(),
        detail: json!({}),
    })
    .await?;
    Ok(tx.commit().await?)
}
