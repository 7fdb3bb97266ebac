//! Public keys: RSA and P-256, nothing else.

use der::{
    Decode, Encode, Sequence,
    asn1::{Any, BitString, Null, ObjectIdentifier, UintRef},
};
use rustls_pki_types::SignatureVerificationAlgorithm;
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::{MIN_RSA_BITS, sign::SignatureAlgorithm};

const P256: ObjectIdentifier = const_oid::db::rfc5912::SECP_256_R_1;
const EC: ObjectIdentifier = const_oid::db::rfc5912::ID_EC_PUBLIC_KEY;
const RSA: ObjectIdentifier = const_oid::db::rfc5912::RSA_ENCRYPTION;

/// What PKCS#11 modules and verifiers commonly stop at.
const MAX_RSA_BITS: usize = 8192;
/// The smallest and by far the most usual exponent that is safe.
const MIN_RSA_EXPONENT: u64 = 65537;
/// SEC 1 2.3.3: 0x04, x, y.
const P256_POINT_LEN: usize = 65;

/// What a public key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyKind {
    /// RSA with a modulus of this many bits.
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
    /// An uncompressed point of P-256.
    P256,
}

/// A sound RSA or P-256 public key, with the DER of its `SubjectPublicKeyInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: PublicKeyKind,
    spki: Vec<u8>,
    /// The content of the bit string.
    key: Vec<u8>,
}

/// RFC 8017 A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// Why bytes are not an acceptable public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the DER of a `SubjectPublicKeyInfo`.
    #[error("the public key is not well-formed")]
    Malformed,
    /// Neither RSA nor P-256.
    #[error("the public key's algorithm is not supported")]
    UnsupportedAlgorithm,
    /// RSA with a modulus that is too short.
    #[error("the RSA modulus has {bits} bits; at least {minimum} are needed")]
    TooShort {
        /// What was found.
        bits: usize,
        /// What is needed.
        minimum: usize,
    },
    /// RSA with an even or too long modulus, or an exponent that is even, small or too long.
    #[error("the RSA modulus or exponent is unsound")]
    Unsound,
}

/// A signature that does not verify. Says nothing more on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl PublicKey {
    /// From the DER of a `SubjectPublicKeyInfo` and nothing behind it.
    ///
    /// # Errors
    /// The encoding is not DER, or the key is not one that this system uses.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoOwned::from_der(der).map_err(|_| KeyError::Malformed)?;
        let key = info
            .subject_public_key
            .as_bytes()
            .ok_or(KeyError::Malformed)?;
        let parameters = info.algorithm.parameters.as_ref();
        let kind = if info.algorithm.oid == RSA {
            // RFC 4055 1.2: the parameters of rsaEncryption are NULL.
            if parameters != Some(&Any::from(Null)) {
                return Err(KeyError::Malformed);
            }
            rsa_kind(key)?
        } else if info.algorithm.oid == EC {
            if parameters != Some(&Any::from(P256)) {
                return Err(KeyError::UnsupportedAlgorithm);
            }
            if key.len() != P256_POINT_LEN || key.first() != Some(&0x04) {
                return Err(KeyError::Malformed);
            }
            PublicKeyKind::P256
        } else {
            return Err(KeyError::UnsupportedAlgorithm);
        };
        Ok(Self {
            kind,
            key: key.to_vec(),
            spki: der.to_vec(),
        })
    }

    /// From the big-endian numbers of an RSA key, as a token gives them.
    ///
    /// # Errors
    /// The key is unsound or too short.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let key = RsaPublicKey {
            modulus: UintRef::new(modulus).map_err(|_| KeyError::Malformed)?,
            public_exponent: UintRef::new(exponent).map_err(|_| KeyError::Malformed)?,
        };
        let key = key.to_der().map_err(|_| KeyError::Malformed)?;
        Self::assemble(RSA, Null.into(), &key)
    }

    /// From an uncompressed point of P-256: 0x04, x, y.
    ///
    /// # Errors
    /// The point has another form.
    pub fn from_p256_point(point: &[u8]) -> Result<Self, KeyError> {
        Self::assemble(EC, P256.into(), point)
    }

    fn assemble(oid: ObjectIdentifier, parameters: Any, key: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid,
                parameters: Some(parameters),
            },
            subject_public_key: BitString::from_bytes(key).map_err(|_| KeyError::Malformed)?,
        };
        Self::from_spki_der(&info.to_der().map_err(|_| KeyError::Malformed)?)
    }

    /// DER of the `SubjectPublicKeyInfo`.
    pub fn as_spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// As PEM, lines ended by line feeds.
    pub fn to_pem(&self) -> String {
        // A bounded length and a fixed label always encode; an empty text would be refused by every
        // reader.
        der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, self.as_spki_der())
            .unwrap_or_default()
    }

    /// Algorithm and size.
    pub const fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`: how the registry knows a key again.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }

    /// Big-endian modulus and exponent without leading zeros; `None` if the key is not RSA.
    pub fn rsa_components(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = RsaPublicKey::from_der(&self.key).ok()?;
        (self.kind != PublicKeyKind::P256).then(|| {
            (
                key.modulus.as_bytes().to_vec(),
                key.public_exponent.as_bytes().to_vec(),
            )
        })
    }

    /// The algorithm that goes with the key.
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        match self.kind {
            PublicKeyKind::Rsa { .. } => SignatureAlgorithm::RsaPkcs1Sha256,
            PublicKeyKind::P256 => SignatureAlgorithm::EcdsaP256Sha256,
        }
    }

    /// Checks a signature over `message`, in the form that [`crate::Signer::sign`] gives it.
    ///
    /// # Errors
    /// It does not verify.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.verifier()
            .verify_signature(&self.key, message, signature)
            .map_err(|_| BadSignature)
    }

    /// The content of the bit string: what a key identifier is made of.
    pub(crate) fn key_bits(&self) -> &[u8] {
        &self.key
    }

    fn verifier(&self) -> &'static dyn SignatureVerificationAlgorithm {
        match self.kind {
            PublicKeyKind::Rsa { .. } => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
            PublicKeyKind::P256 => webpki::ring::ECDSA_P256_SHA256,
        }
    }
}

fn rsa_kind(key: &[u8]) -> Result<PublicKeyKind, KeyError> {
    let key = RsaPublicKey::from_der(key).map_err(|_| KeyError::Malformed)?;
    let modulus = key.modulus.as_bytes();
    let leading_zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = modulus.len() * 8 - leading_zeros as usize;
    if bits < MIN_RSA_BITS {
        return Err(KeyError::TooShort {
            bits,
            minimum: MIN_RSA_BITS,
        });
    }
    let exponent = key.public_exponent.as_bytes();
    let small_exponent = exponent.len() <= 4;
    let exponent_value = exponent
        .iter()
        .take(5)
        .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    if bits > MAX_RSA_BITS
        || !odd(modulus)
        || !odd(exponent)
        || !small_exponent
        || exponent_value < MIN_RSA_EXPONENT
    {
        return Err(KeyError::Unsound);
    }
    Ok(PublicKeyKind::Rsa { bits })
}
