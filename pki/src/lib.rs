//! Certificates of the key distribution system: profiles, requests, revocation lists and path
//! validation.
//!
//! Signatures are made through [`Signer`], so no private key is ever seen here. Nothing here reads a
//! clock, a file or a random number: the caller passes them in. A check that passed is a value
//! ([`VerifiedCsr`], [`VerifiedCrl`], [`VerifiedCredential`]) that only this crate can make.

mod alignment;
mod certificate;
mod crl;
mod csr;
mod encoding;
mod issue;
mod name;
mod path;
mod profile;
mod public_key;
mod serial;
mod sign;
mod validity;

pub use alignment::aligned_serial_length;
pub use certificate::{Certificate, CertificateError};
pub use crl::{
    Crl, CrlContents, CrlError, CrlNumber, RevocationReason, RevokedCertificate, VerifiedCrl,
    issue_crl, verify_crl,
};
pub use csr::{CsrError, CsrKey, VerifiedCsr, issue_csr, verify_csr};
pub use issue::{IssueError, Issuer, Subject, issue_certificate, issue_root};
pub use name::{Name, NameError};
pub use path::{
    CredentialError, VerifiedCredential, verify_credential, verify_sub_ca, verify_unlisted,
};
pub use profile::{Role, RoleError};
pub use public_key::{BadSignature, KeyError, PublicKey, PublicKeyKind};
pub use serial::{SerialError, SerialNumber};
pub use sign::{SignatureAlgorithm, Signer};
pub use validity::{Validity, rfc3339};

/// RSA keys below this are refused everywhere.
pub const MIN_RSA_BITS: usize = 2048;
