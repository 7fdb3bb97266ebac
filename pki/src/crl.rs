//! Revocation lists (RFC 5280 5).

use std::fmt;

use const_oid::AssociatedOid;
use der::{Decode, Encode};
use time::OffsetDateTime;
use x509_cert::{
    Version,
    crl::{CertificateList, RevokedCert, TbsCertList},
    ext::{
        Extension,
        pkix::{AuthorityKeyIdentifier, CrlNumber as CrlNumberExtension, CrlReason},
    },
};

use crate::{
    Certificate, IssueError, Issuer, Name, Role, SerialNumber, Signer, encoding,
    issue::{authority_key_identifier, extension, key_identifier},
    validity::{from_x509, rfc3339, to_x509},
};

/// Room for some thousands of entries; a key token carries the whole list.
const MAX_LEN: usize = 1024 * 1024;

/// The number of a revocation list: each new one of an issuer has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrlNumber(pub u64);

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a certificate was revoked (RFC 5280 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationReason {
    /// The key is or may be known to others.
    KeyCompromise,
    /// Replaced by another certificate.
    Superseded,
    /// The device or host is no longer in use.
    CessationOfOperation,
}

impl RevocationReason {
    fn to_x509(self) -> CrlReason {
        match self {
            Self::KeyCompromise => CrlReason::KeyCompromise,
            Self::Superseded => CrlReason::Superseded,
            Self::CessationOfOperation => CrlReason::CessationOfOperation,
        }
    }
}

/// An entry of a list to be issued.
#[derive(Clone, Debug)]
pub struct RevokedCertificate {
    /// Whose certificate.
    pub serial: SerialNumber,
    /// Since when.
    pub at: OffsetDateTime,
    /// Why; left out where nobody said.
    pub reason: Option<RevocationReason>,
}

/// What a revocation list shall say.
#[derive(Clone, Debug)]
pub struct CrlContents {
    /// Higher than that of the issuer's list before.
    pub number: CrlNumber,
    /// When it was made.
    pub this_update: OffsetDateTime,
    /// Until when it is good.
    pub next_update: OffsetDateTime,
    /// Who is on it.
    pub revoked: Vec<RevokedCertificate>,
}

/// Why bytes are not an acceptable revocation list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Not the DER of one version 2 list with a next update, or too long.
    #[error("the CRL is not well-formed")]
    Malformed,
    /// A critical extension: a delta, partitioned or indirect list, or something unknown.
    #[error("the CRL has a critical extension, which is not supported")]
    CriticalExtension,
    /// No number (RFC 5280 5.2.3 demands one), so that a list cannot be told from an older one.
    #[error("the CRL has no number")]
    NoNumber,
    /// Issued by somebody else.
    #[error("the CRL is not by the expected issuer")]
    WrongIssuer,
    /// The signature does not verify.
    #[error("the CRL's signature does not verify")]
    BadSignature,
    /// Its next update lies in the past.
    #[error("the CRL is stale: its next update was due at {}", rfc3339(*.0))]
    Stale(OffsetDateTime),
    /// Made in the future.
    #[error("the CRL is not valid before {}", rfc3339(*.0))]
    NotYetValid(OffsetDateTime),
    /// Older than one that was seen before.
    #[error("the CRL has number {found}, but number {seen} was seen before")]
    OlderThanSeen {
        /// The number in the list.
        found: CrlNumber,
        /// The highest number seen.
        seen: CrlNumber,
    },
    /// To be issued: the next update is not after this update.
    #[error("a CRL's next update lies after its making")]
    Dates,
    /// To be issued: a serial number stands there twice.
    #[error("serial number {0} is listed twice")]
    Duplicate(SerialNumber),
}

impl From<der::Error> for CrlError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// A well-formed revocation list; trusted only as a [`VerifiedCrl`].
#[derive(Clone, Debug)]
pub struct Crl {
    der: Vec<u8>,
    list: CertificateList,
    issuer: Name,
    number: Option<CrlNumber>,
    next_update: OffsetDateTime,
    revoked: Vec<SerialNumber>,
}

/// A revocation list that its issuer signed, fresh, and no older than the last one seen.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedCrl {
    crl: Crl,
    number: CrlNumber,
}

/// Makes a revocation list. Before it returns, the list was verified as a reader would.
///
/// # Errors
/// The issuer is no CA, the contents are not acceptable, or the key did not sign.
pub fn issue_crl<S: Signer>(
    issuer: &Issuer<'_, S>,
    contents: &CrlContents,
) -> Result<Vec<u8>, IssueError<S::Error>> {
    if contents.next_update <= contents.this_update {
        return Err(CrlError::Dates.into());
    }
    let is_ca = [Role::RootCa, Role::SubCa]
        .iter()
        .any(|role| role.verify(issuer.certificate).is_ok());
    if !is_ca || issuer.certificate.public_key() != issuer.signer.public_key() {
        return Err(IssueError::IssuerKey);
    }
    let mut revoked: Vec<&RevokedCertificate> = contents.revoked.iter().collect();
    revoked.sort_by(|one, other| one.serial.cmp(&other.serial));
    if let Some([twice, _]) = revoked.array_windows().find(|[a, b]| a.serial == b.serial) {
        return Err(CrlError::Duplicate(twice.serial.clone()).into());
    }
    let entries = revoked
        .into_iter()
        .map(entry)
        .collect::<der::Result<Vec<_>>>()?;
    let tbs = TbsCertList {
        version: Version::V2,
        signature: issuer
            .signer
            .public_key()
            .signature_algorithm()
            .identifier(),
        issuer: issuer.certificate.subject().as_x509().clone(),
        this_update: to_x509(contents.this_update)?,
        next_update: Some(to_x509(contents.next_update)?),
        // RFC 5280 5.1.2.6: an empty list is left out.
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(vec![
            authority_key_identifier(issuer.certificate.subject_key_identifier().map_or_else(
                || key_identifier(issuer.signer.public_key()),
                <[u8]>::to_vec,
            ))?,
            extension(false, &CrlNumberExtension::try_from(contents.number.0)?)?,
        ]),
    };
    let der = encoding::sign(issuer.signer, &tbs)?;
    let _: VerifiedCrl = verify_crl(&der, issuer.certificate, contents.this_update, None)?;
    Ok(der)
}

fn entry(revoked: &RevokedCertificate) -> der::Result<RevokedCert> {
    let reason = revoked
        .reason
        .map(|reason| extension(false, &reason.to_x509()));
    Ok(RevokedCert {
        serial_number: revoked.serial.to_x509()?,
        revocation_date: to_x509(revoked.at)?,
        crl_entry_extensions: reason.transpose()?.map(|reason| vec![reason]),
    })
}

impl Crl {
    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one well-formed list of version 2 with a next update, or it
    /// has a critical extension.
    pub fn from_der(der: &[u8]) -> Result<Self, CrlError> {
        if der.len() > MAX_LEN {
            return Err(CrlError::Malformed);
        }
        let list = CertificateList::from_der(der)?;
        if list.to_der()? != der {
            return Err(CrlError::Malformed);
        }
        let tbs = &list.tbs_cert_list;
        if tbs.version != Version::V2 || tbs.signature != list.signature_algorithm {
            return Err(CrlError::Malformed);
        }
        let extensions = tbs.crl_extensions.as_deref().unwrap_or_default();
        let entries = tbs.revoked_certificates.as_deref().unwrap_or_default();
        let mut entry_extensions = entries
            .iter()
            .flat_map(|entry| entry.crl_entry_extensions.iter().flatten());
        if extensions.iter().any(|e| e.critical) || entry_extensions.any(|e| e.critical) {
            return Err(CrlError::CriticalExtension);
        }
        let revoked = entries.iter().map(|entry| {
            let serial = entry.serial_number.to_der()?;
            let serial = der::asn1::AnyRef::from_der(&serial)?;
            SerialNumber::from_content(serial.value()).map_err(|_| CrlError::Malformed)
        });
        let mut revoked: Vec<SerialNumber> = revoked.collect::<Result<_, CrlError>>()?;
        // To be searched: lists grow long.
        revoked.sort();
        Ok(Self {
            issuer: Name::from_x509(tbs.issuer.clone()).map_err(|_| CrlError::Malformed)?,
            number: number(extensions)?,
            next_update: from_x509(tbs.next_update.ok_or(CrlError::Malformed)?),
            revoked,
            der: der.to_vec(),
            list,
        })
    }

    /// From PEM or DER, as files come.
    ///
    /// # Errors
    /// As [`Self::from_der`].
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Self, CrlError> {
        match der::pem::decode_vec(bytes) {
            Ok(("X509 CRL", der)) => Self::from_der(&der),
            Ok(_) => Err(CrlError::Malformed),
            Err(_) => Self::from_der(bytes),
        }
    }

    /// The DER, as it was parsed.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Who issued it.
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// Its number; a list without one does not verify.
    pub const fn number(&self) -> Option<CrlNumber> {
        self.number
    }

    /// When it was made.
    pub fn this_update(&self) -> OffsetDateTime {
        from_x509(self.list.tbs_cert_list.this_update)
    }

    /// Until when it is good.
    pub const fn next_update(&self) -> OffsetDateTime {
        self.next_update
    }

    /// The serial numbers on it, sorted.
    pub fn revoked(&self) -> &[SerialNumber] {
        &self.revoked
    }

    /// Whether a serial number is on it.
    pub fn lists(&self, serial: &SerialNumber) -> bool {
        self.revoked.binary_search(serial).is_ok()
    }
}

/// The only CRL number among the extensions, if there is one.
fn number(extensions: &[Extension]) -> der::Result<Option<CrlNumber>> {
    let mut found = extensions
        .iter()
        .filter(|e| e.extn_id == CrlNumberExtension::OID);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(extension), None) => {
            let number = u64::from_der(extension.extn_value.as_bytes())?;
            Ok(Some(CrlNumber(number)))
        }
        (Some(_), Some(_)) => Err(der::ErrorKind::Failed.into()),
    }
}

/// Checks a revocation list against the CA that must have issued it.
///
/// # Errors
/// The first check that fails: form, issuer, signature, freshness, number.
pub fn verify_crl(
    der: &[u8],
    issuer: &Certificate,
    now: OffsetDateTime,
    last_seen: Option<CrlNumber>,
) -> Result<VerifiedCrl, CrlError> {
    let crl = Crl::from_der(der)?;
    let key = issuer.public_key();
    if crl.issuer != *issuer.subject() || !names_key_of(&crl, issuer) || !may_sign_lists(issuer) {
        return Err(CrlError::WrongIssuer);
    }
    let message = crl.list.tbs_cert_list.to_der()?;
    let signature = crl.list.signature.as_bytes().ok_or(CrlError::Malformed)?;
    if crl.list.signature_algorithm != key.signature_algorithm().identifier() {
        return Err(CrlError::BadSignature);
    }
    key.verify(&message, signature)
        .map_err(|_| CrlError::BadSignature)?;
    let number = crl.number.ok_or(CrlError::NoNumber)?;
    let verified = VerifiedCrl { crl, number };
    verified.require_good(now, last_seen)?;
    Ok(verified)
}

/// RFC 5280 6.3.3 (f): where the issuer's key usage is limited, lists must be among its uses.
fn may_sign_lists(issuer: &Certificate) -> bool {
    issuer
        .key_usage()
        .is_none_or(|(_critical, usage)| usage.crl_sign())
}

/// Where the list names a key by its identifier, it must be the issuer's.
fn names_key_of(crl: &Crl, issuer: &Certificate) -> bool {
    let extensions = crl
        .list
        .tbs_cert_list
        .crl_extensions
        .as_deref()
        .unwrap_or_default();
    let named = extensions
        .iter()
        .find(|extension| extension.extn_id == AuthorityKeyIdentifier::OID)
        .map(|extension| AuthorityKeyIdentifier::from_der(extension.extn_value.as_bytes()));
    match (named, issuer.subject_key_identifier()) {
        (None, _) | (Some(_), None) => true,
        (Some(Err(_)), Some(_)) => false,
        (Some(Ok(named)), Some(identifier)) => named
            .key_identifier
            .is_none_or(|named| named.as_bytes() == identifier),
    }
}

impl VerifiedCrl {
    /// The list.
    pub const fn crl(&self) -> &Crl {
        &self.crl
    }

    /// Its number.
    pub const fn number(&self) -> CrlNumber {
        self.number
    }

    /// Checks freshness and number again, for a list that is kept for a while.
    ///
    /// # Errors
    /// [`CrlError::NotYetValid`], [`CrlError::Stale`], [`CrlError::OlderThanSeen`].
    pub fn require_good(
        &self,
        now: OffsetDateTime,
        last_seen: Option<CrlNumber>,
    ) -> Result<(), CrlError> {
        let crl = &self.crl;
        // Dates in a list are whole seconds.
        if crl.this_update().unix_timestamp() > now.unix_timestamp() {
            return Err(CrlError::NotYetValid(crl.this_update()));
        }
        if crl.next_update < now {
            return Err(CrlError::Stale(crl.next_update));
        }
        match last_seen {
            Some(seen) if self.number < seen => Err(CrlError::OlderThanSeen {
                found: self.number,
                seen,
            }),
            _ => Ok(()),
        }
    }
}
