//! Certificates of KDHs that operators name, all of them under `CA_KDH`.

use kdh_proto::Reason;
use pki::{Certificate, Role, VerifiedCredential};
use tr34::IssuerAndSerial;

use crate::{Host, HostError, error::refused, state::BindingChange, store::StoreError};

/// The KDH to which a device shall go: its certificate is good now.
///
/// # Errors
/// It is not: by another CA, of another role, listed, or outside its validity.
pub(crate) async fn verify_new(host: &Host, der: &[u8]) -> Result<VerifiedCredential, HostError> {
    let certificate = parse("new", der)?;
    // It is needed most when this host's own KDH is on it.
    let crl = host.list_of_ca_kdh().await?;
    let issuer = &host.config().certificates.ca_kdh;
    pki::verify_credential(&certificate, issuer, Role::Kdh, &crl, host.now())
        .map_err(|error| unacceptable("new", error))
}

/// The KDH that is lost. Its certificate was good once: it may have expired since, or been revoked because of
/// the loss.
///
/// # Errors
/// It never was: by another CA, or of another role.
pub(crate) fn verify_lost(host: &Host, der: &[u8]) -> Result<IssuerAndSerial, HostError> {
    let certificate = parse("lost", der)?;
    let issuer = &host.config().certificates.ca_kdh;
    // The CA's validity is checked with the leaf's: some moment of the one is in the other.
    let once = certificate.not_before().max(issuer.not_before());
    pki::verify_unlisted(&certificate, issuer, Role::Kdh, once)
        .map_err(|error| unacceptable("lost", error))?;
    let id = certificate.issuer_and_serial();
    id.map_err(|error| unacceptable("lost", error))
}

/// The KDH that takes over by its name instead of its certificate, DER, as the registry keeps it.
///
/// # Errors
/// What the registry keeps is no certificate.
pub(crate) fn by_name(
    change: &BindingChange<Vec<u8>>,
) -> Result<BindingChange<IssuerAndSerial>, StoreError> {
    Ok(match change {
        BindingChange::Unbind => BindingChange::Unbind,
        BindingChange::Rebind(der) => BindingChange::Rebind(
            IssuerAndSerial::of_certificate(der)
                .map_err(|_| StoreError::Damaged("KDH certificate"))?,
        ),
    })
}

fn parse(which: &str, der: &[u8]) -> Result<Certificate, HostError> {
    Certificate::from_der(der).map_err(|error| unacceptable(which, error))
}

fn unacceptable(which: &str, error: impl std::fmt::Display) -> HostError {
    refused(
        Reason::RequestInvalid,
        format!("the certificate of the {which} KDH: {error}"),
    )
}
