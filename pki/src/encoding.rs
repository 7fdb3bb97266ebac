//! Structures that are signed: written here in the order of RFC 5280 and RFC 2986, because the
//! library's own types keep their fields to themselves or to a builder with keys in memory.

use der::{Encode, Sequence, asn1::BitString};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::{
    Version, ext::Extensions, name::Name, serial_number::SerialNumber, time::Validity,
};

use crate::{PublicKey, Signer};

/// RFC 5280 4.1, without the unique identifiers, which nobody should use.
#[derive(Sequence)]
pub(crate) struct TbsCertificate {
    #[asn1(
        context_specific = "0",
        tag_mode = "EXPLICIT",
        default = "Default::default"
    )]
    pub(crate) version: Version,
    pub(crate) serial_number: SerialNumber,
    pub(crate) signature: AlgorithmIdentifierOwned,
    pub(crate) issuer: Name,
    pub(crate) validity: Validity,
    pub(crate) subject: Name,
    pub(crate) subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    pub(crate) extensions: Extensions,
}

/// What certificates, requests and revocation lists have in common: `SIGNED{}` of X.509.
#[derive(Sequence)]
struct Signed<'a> {
    content: der::asn1::AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// Why a structure could not be signed.
pub(crate) enum SignFailure<E> {
    /// The key did not sign.
    Key(E),
    /// The structure does not encode.
    Encoding(der::Error),
    /// The key made a signature that its own public key refuses.
    WrongSignature,
}

impl<E> From<der::Error> for SignFailure<E> {
    fn from(error: der::Error) -> Self {
        Self::Encoding(error)
    }
}

/// Signs the DER of `content`, checks the signature and returns the DER of the signed structure.
pub(crate) fn sign<S: Signer>(
    signer: &S,
    content: &impl Encode,
) -> Result<Vec<u8>, SignFailure<S::Error>> {
    let content = content.to_der()?;
    let public_key: &PublicKey = signer.public_key();
    let signature = signer.sign(&content).map_err(SignFailure::Key)?;
    public_key
        .verify(&content, &signature)
        .map_err(|_| SignFailure::WrongSignature)?;
    Ok(assemble(public_key, &content, &signature)?)
}

/// The signed structure with no signature in it, to be looked at before a key signs it.
pub(crate) fn unsigned(issuer_key: &PublicKey, content: &impl Encode) -> der::Result<Vec<u8>> {
    assemble(issuer_key, &content.to_der()?, &[])
}

fn assemble(key: &PublicKey, content: &[u8], signature: &[u8]) -> der::Result<Vec<u8>> {
    Signed {
        content: content.try_into()?,
        algorithm: key.signature_algorithm().identifier(),
        signature: BitString::from_bytes(signature)?,
    }
    .to_der()
}
