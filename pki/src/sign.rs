//! Signing through a trait: the key stays where it is.

use der::asn1::{Any, Null, ObjectIdentifier};
use spki::AlgorithmIdentifierOwned;

use crate::PublicKey;

/// The two signature algorithms of this system. Each goes with one kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// sha256WithRSAEncryption: PKCS#1 v1.5.
    RsaPkcs1Sha256,
    /// ecdsa-with-SHA256 on P-256.
    EcdsaP256Sha256,
}

impl SignatureAlgorithm {
    /// As it stands in certificates, requests and revocation lists: RSA with NULL (RFC 4055 5), ECDSA
    /// without parameters (RFC 5758 3.2).
    pub(crate) fn identifier(self) -> AlgorithmIdentifierOwned {
        let (oid, parameters): (ObjectIdentifier, Option<Any>) = match self {
            Self::RsaPkcs1Sha256 => (
                const_oid::db::rfc5912::SHA_256_WITH_RSA_ENCRYPTION,
                Some(Null.into()),
            ),
            Self::EcdsaP256Sha256 => (const_oid::db::rfc5912::ECDSA_WITH_SHA_256, None),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }
}

/// A private key that can be used but not seen.
pub trait Signer {
    /// Why a signature could not be made.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The public half; its kind decides the algorithm.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`, hashing it with SHA-256.
    ///
    /// RSA: the signature as long as the modulus. ECDSA: a DER `ECDSA-Sig-Value`.
    ///
    /// # Errors
    /// The key did not sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Self::Error>;
}
