//! The shell around the domain: decode, identify the peer, call, map errors. No decision is made
//! here.

mod administration;
mod approvals;
mod base_derivation_keys;
mod key_distribution;
mod key_exports;
mod key_profiles;
mod key_storage;
mod operators;
mod refused_keys;
mod rollouts;

use pki::Certificate;
use tonic::{
    Extensions, Request, Response, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};

pub(crate) use administration::AdministrationService;
pub(crate) use approvals::ApprovalsService;
pub(crate) use base_derivation_keys::BaseDerivationKeysService;
pub(crate) use key_distribution::KeyDistributionService;
pub(crate) use key_exports::KeyExportsService;
pub(crate) use key_storage::KeyStorageService;
pub(crate) use operators::ToTheEnd;
pub(crate) use refused_keys::RefusedKeysService;
pub(crate) use rollouts::RolloutsService;

use crate::{
    Host, HostError,
    administration::{self as domain, Operator},
    config::OperatorRole,
    host::random,
    limits::{CallerKey, Places},
};

/// No message of this interface comes near; anything above is refused unread.
pub(crate) const MAX_MESSAGE_LEN: usize = 256 * 1024;
/// Bytes of a correlation id.
const CORRELATION_LEN: usize = 8;

/// The certificate that the peer's TLS handshake proved, DER.
fn peer<T>(request: &Request<T>) -> Option<Vec<u8>> {
    peer_of(request.extensions())
}

fn peer_of(extensions: &Extensions) -> Option<Vec<u8>> {
    let certificates = extensions
        .get::<TlsConnectInfo<TcpConnectInfo>>()?
        .peer_certs()?;
    certificates.first().map(|certificate| certificate.to_vec())
}

/// By which key a caller has a share of the places, whether or not anything is answered. Those without one share one.
fn caller(extensions: &Extensions) -> CallerKey {
    let certificate = peer_of(extensions).and_then(|der| Certificate::from_der(&der).ok());
    certificate.map_or_else(CallerKey::default, |certificate| {
        certificate.public_key().fingerprint()
    })
}

/// The operator who calls, with one of the roles that the call takes.
async fn operator<T>(
    host: &Host,
    request: &Request<T>,
    call: &'static str,
    allowed: &[OperatorRole],
) -> Result<Operator, HostError> {
    let peer = peer(request).and_then(|der| Certificate::from_der(&der).ok());
    domain::authenticate(host, peer.as_ref(), call, allowed).await
}

/// Ends an operator's call.
fn end<T>(call: &'static str, outcome: Result<T, HostError>) -> Result<Response<T>, Status> {
    outcome
        .map(Response::new)
        .map_err(|error| status(call, Audience::Operator, &error))
}

/// Runs a call to its end, also when the caller hangs up and nobody awaits it any more: what it has
/// claimed must be finished or given back. It keeps its place as long.
async fn to_the_end<T: Send + 'static>(
    places: &Places,
    call: impl Future<Output = Result<T, HostError>> + Send + 'static,
) -> Result<T, HostError> {
    let place = places.take()?;
    let call = async move {
        let outcome = call.await;
        drop(place);
        outcome
    };
    tokio::spawn(call)
        .await
        .map_err(|error| HostError::Internal(error.to_string()))?
}

/// Who learns how much of a refusal.
#[derive(Clone, Copy)]
enum Audience {
    /// A terminal: the reason, and nothing else.
    Terminal,
    /// A switch: also what its operators have to mend. By its reasons it tells whether its target is closed.
    Switch,
    /// An operator: what to mend.
    Operator,
}

/// Ends a call: the cause to the log, the reason to the caller.
fn status(call: &'static str, audience: Audience, error: &HostError) -> Status {
    let correlation_id = random::<CORRELATION_LEN>().map_or_else(|_| String::new(), hex::encode);
    let (for_operator, cause) = error.for_operator();
    let (reason, message) = match audience {
        Audience::Terminal => (error.reason(), String::new()),
        Audience::Switch => (error.reason(), cause),
        Audience::Operator => (for_operator, cause),
    };
    if error.is_ours() {
        tracing::error!(call, reason = reason.as_str(), correlation_id, %error, "call failed");
    } else {
        tracing::info!(call, reason = reason.as_str(), correlation_id, %error, "call refused");
    }
    reason.into_status(&message, &correlation_id, error.retry_after())
}

#[cfg(test)]
mod tests {
    use kdh_proto::{Reason, ReasonedStatus as _};

    use super::*;
    use crate::store::StoreError;

    #[test]
    fn only_operators_are_told_that_a_row_was_changed() {
        for change in [
            StoreError::NotSealed,
            StoreError::NotRecorded,
            StoreError::NoNextVersion,
        ] {
            let error = HostError::Store(change("key k".to_owned()));
            let told = |audience| {
                let status = status("Call", audience, &error);
                (status.reason(), status.message().to_owned())
            };
            let (reason, message) = told(Audience::Operator);
            assert_eq!(reason, Some(Reason::WrongState));
            assert!(message.starts_with("key k is "), "{message}");
            assert_eq!(told(Audience::Switch), (Some(Reason::Internal), message));
            let nothing = (Some(Reason::Internal), "INTERNAL".to_owned());
            assert_eq!(told(Audience::Terminal), nothing);
        }
        let ours = HostError::Internal("a secret of the program's".to_owned());
        let status = status("Call", Audience::Operator, &ours);
        assert_eq!(
            (status.reason(), status.message()),
            (Some(Reason::Internal), "INTERNAL")
        );
    }
}
