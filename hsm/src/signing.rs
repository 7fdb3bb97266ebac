//! Signatures.

use std::fmt;

use cryptoki::{mechanism::Mechanism, object::ObjectHandle};
use der::{Encode, Sequence, asn1::UintRef};
use pki::{PublicKey, PublicKeyKind, Signer};
use sha2::{Digest, Sha256};

use crate::{
    HsmError, KeyName, KeyRole, TokenGroup,
    error::CallResult,
    inspect::public_key,
    keys::may,
    known::differs,
    template::{Case, Flag},
    worker::Worker,
};

const OPERATION: &str = "sign";

/// DER of `DigestInfo` up to the digest, for SHA-256 (RFC 8017 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// Bytes of each of the two numbers of a P-256 signature.
const P256_SCALAR_LEN: usize = 32;

/// A private key in a token, or in several that hold it, for signing. Clones share the tokens.
#[derive(Clone)]
pub struct SigningKey {
    tokens: TokenGroup,
    key: PrivateKey,
}

/// Which private key. Unlike [`SigningKey`] it does not keep its tokens open: a thread that works for them may
/// have it.
#[derive(Clone)]
pub(crate) struct PrivateKey {
    role: KeyRole,
    name: KeyName,
    public_key: PublicKey,
}

impl SigningKey {
    pub(crate) const fn new(
        tokens: TokenGroup,
        role: KeyRole,
        name: KeyName,
        public_key: PublicKey,
    ) -> Self {
        Self {
            tokens,
            key: PrivateKey::new(role, name, public_key),
        }
    }

    /// Its name in the token.
    pub const fn name(&self) -> &KeyName {
        &self.key.name
    }

    /// What it is for.
    pub const fn role(&self) -> KeyRole {
        self.key.role
    }

    pub(crate) const fn private_key(&self) -> &PrivateKey {
        &self.key
    }
}

impl PrivateKey {
    pub(crate) const fn new(role: KeyRole, name: KeyName, public_key: PublicKey) -> Self {
        Self {
            role,
            name,
            public_key,
        }
    }

    /// Signs in a session of one of its tokens. A signature that is not this key's, or that was disturbed while
    /// it was computed and could betray the key, does not leave.
    pub(crate) fn sign_by(&self, worker: &mut Worker, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        let key = worker.key(self.role, &self.name)?;
        let signature = match self.public_key.kind() {
            PublicKeyKind::Rsa { bits } => sign_rsa(worker, key, &self.name, message, bits),
            PublicKeyKind::P256 => sign_p256(worker, key, &self.name, message),
        }?;
        match self.public_key.verify(message, &signature) {
            Ok(()) => Ok(signature),
            Err(_) => Err(differs(worker, &self.name)),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} in {:?})", self.key.name, self.tokens)
    }
}

impl Signer for SigningKey {
    type Error = HsmError;

    fn public_key(&self) -> &PublicKey {
        &self.key.public_key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.tokens.on_one(|token| {
            let (key, message) = (self.key.clone(), message.to_vec());
            token.run(OPERATION, move |worker| key.sign_by(worker, &message))
        })
    }
}

/// The public half of a key that may sign.
pub(crate) fn public_half(
    worker: &mut Worker,
    role: KeyRole,
    name: &KeyName,
) -> Result<PublicKey, HsmError> {
    if !role.is_pair() {
        return Err(HsmError::WrongRole {
            operation: OPERATION,
            role,
        });
    }
    let key = worker.key(role, name)?;
    if !may(&worker.session, key, Flag::Sign, name)? {
        return Err(HsmError::UsageNotAllowed {
            label: name.label().to_owned(),
            usage: Flag::Sign.name(),
        });
    }
    public_key(&worker.session, key, name)
}

pub(crate) fn sign_rsa(
    worker: &Worker,
    key: ObjectHandle,
    name: &KeyName,
    message: &[u8],
    bits: usize,
) -> Result<Vec<u8>, HsmError> {
    let signature = if worker.place.rsa() == Case::HashingRsa {
        worker.session.sign(&Mechanism::Sha256RsaPkcs, key, message)
    } else {
        let digest_info = sha256_digest_info(message);
        worker.session.sign(&Mechanism::RsaPkcs, key, &digest_info)
    }
    .with_key(OPERATION, name.label())?;
    require_len(&signature, bits.div_ceil(8))?;
    Ok(signature)
}

fn sha256_digest_info(message: &[u8]) -> Vec<u8> {
    [&SHA256_DIGEST_INFO[..], &Sha256::digest(message)].concat()
}

fn sign_p256(
    worker: &Worker,
    key: ObjectHandle,
    name: &KeyName,
    message: &[u8],
) -> Result<Vec<u8>, HsmError> {
    // Hashed here: modules that hash for ECDSA are fewer than modules that sign digests.
    let digest = Sha256::digest(message);
    let signature = worker
        .session
        .sign(&Mechanism::Ecdsa, key, &digest)
        .with_key(OPERATION, name.label())?;
    require_len(&signature, 2 * P256_SCALAR_LEN)?;
    ecdsa_sig_value(&signature).map_err(|error| HsmError::BadAnswer {
        operation: OPERATION,
        what: error.to_string(),
    })
}

/// RFC 3279 2.2.3.
#[derive(Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// DER of PKCS#11's `r || s`.
fn ecdsa_sig_value(signature: &[u8]) -> der::Result<Vec<u8>> {
    let (r, s) = signature.split_at(signature.len() / 2);
    EcdsaSigValue {
        r: UintRef::new(r)?,
        s: UintRef::new(s)?,
    }
    .to_der()
}

fn require_len(signature: &[u8], expected: usize) -> Result<(), HsmError> {
    if signature.len() == expected {
        return Ok(());
    }
    Err(HsmError::BadAnswer {
        operation: OPERATION,
        what: format!("a signature of {} bytes, not {expected}", signature.len()),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rsa::pkcs1v15::Pkcs1v15Sign;

    use super::*;

    #[test]
    fn digest_info_is_that_of_an_independent_library() {
        let independent = Pkcs1v15Sign::new::<Sha256>();
        assert_eq!(independent.prefix.as_ref(), SHA256_DIGEST_INFO);
        assert_eq!(sha256_digest_info(b"message").len(), 19 + 32);
    }

    #[test]
    fn ecdsa_numbers_are_positive_and_minimal() {
        let mut signature = [0_u8; 64];
        signature[30..32].copy_from_slice(&[0x00, 0x7f]);
        signature[32] = 0x80;
        signature[63] = 0x01;
        let der = ecdsa_sig_value(&signature).unwrap();
        assert_eq!(der[..8], [0x30, 38, 0x02, 1, 0x7f, 0x02, 33, 0x00]);
        assert_eq!((der[8], der[39], der.len()), (0x80, 0x01, 40));
    }
}
