//! Certificate requests (PKCS#10). Only the public key is taken from one, and only if the request
//! proves possession of the private key.

use der::{Decode, Encode, asn1::SetOfVec};
use x509_cert::request::{CertReq, CertReqInfo, Version};

use crate::{IssueError, KeyError, Name, PublicKey, PublicKeyKind, Signer, encoding};

/// Anything longer is refused unread.
const MAX_LEN: usize = 8 * 1024;

/// The key that a request must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsrKey {
    /// RSA of at least this many bits.
    Encryption {
        /// Length of the modulus.
        min_rsa_bits: usize,
    },
    /// P-256.
    Authentication,
}

/// A request that proved possession of a key of the demanded kind.
#[derive(Clone, Debug)]
pub struct VerifiedCsr {
    public_key: PublicKey,
}

impl VerifiedCsr {
    /// The key. Nothing else of a request is used.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The key, to go on with.
    pub fn into_public_key(self) -> PublicKey {
        self.public_key
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not the DER of one request and nothing else, or too long.
    #[error("the request is not well-formed DER")]
    Malformed,
    /// The signature is not by the key in the request, or by another algorithm than the key's.
    #[error("the request does not prove possession of its key")]
    ProofOfPossession,
    /// RSA below the demanded size.
    #[error("the key has {bits} bits; at least {minimum} are needed")]
    KeyTooWeak {
        /// What was found.
        bits: usize,
        /// What is needed.
        minimum: usize,
    },
    /// A key with an unsound modulus or exponent.
    #[error("the key is unsound")]
    KeyUnsound,
    /// Another algorithm than the one demanded.
    #[error("the key is of the wrong kind")]
    WrongKeyKind,
}

/// Makes a request for the signer's key.
///
/// # Errors
/// The key did not sign.
pub fn issue_csr<S: Signer>(signer: &S, name: &Name) -> Result<Vec<u8>, IssueError<S::Error>> {
    let info = CertReqInfo {
        version: Version::V1,
        subject: name.as_x509().clone(),
        public_key: Decode::from_der(signer.public_key().as_spki_der())?,
        attributes: SetOfVec::new(),
    };
    Ok(encoding::sign(signer, &info)?)
}

/// Checks a request: strict form, demanded kind and strength of key, proof of possession.
///
/// # Errors
/// The first check that fails.
pub fn verify_csr(der: &[u8], expected: CsrKey) -> Result<VerifiedCsr, CsrError> {
    if der.len() > MAX_LEN {
        return Err(CsrError::Malformed);
    }
    let malformed = |_: der::Error| CsrError::Malformed;
    let request = CertReq::from_der(der).map_err(malformed)?;
    if request.to_der().map_err(malformed)? != der {
        return Err(CsrError::Malformed);
    }
    let spki = request.info.public_key.to_der().map_err(malformed)?;
    let public_key = PublicKey::from_spki_der(&spki).map_err(|error| match (error, expected) {
        // Below the system's minimum means below any demanded one.
        (KeyError::TooShort { bits, minimum }, CsrKey::Encryption { min_rsa_bits }) => {
            CsrError::KeyTooWeak {
                bits,
                minimum: min_rsa_bits.max(minimum),
            }
        }
        (KeyError::Malformed, _) => CsrError::Malformed,
        (KeyError::Unsound, CsrKey::Encryption { .. }) => CsrError::KeyUnsound,
        (KeyError::UnsupportedAlgorithm | KeyError::TooShort { .. } | KeyError::Unsound, _) => {
            CsrError::WrongKeyKind
        }
    })?;
    match (expected, public_key.kind()) {
        (CsrKey::Encryption { min_rsa_bits }, PublicKeyKind::Rsa { bits }) => {
            if bits < min_rsa_bits {
                return Err(CsrError::KeyTooWeak {
                    bits,
                    minimum: min_rsa_bits,
                });
            }
        }
        (CsrKey::Authentication, PublicKeyKind::P256) => {}
        _ => return Err(CsrError::WrongKeyKind),
    }
    if request.algorithm != public_key.signature_algorithm().identifier() {
        return Err(CsrError::ProofOfPossession);
    }
    let message = request.info.to_der().map_err(malformed)?;
    let signature = request.signature.as_bytes().ok_or(CsrError::Malformed)?;
    public_key
        .verify(&message, signature)
        .map_err(|_| CsrError::ProofOfPossession)?;
    Ok(VerifiedCsr { public_key })
}
