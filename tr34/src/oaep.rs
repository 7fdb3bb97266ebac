//! RSAES-OAEP's parameters (RFC 4055 4.1).

use der::{AnyRef, Sequence};
use spki::{AlgorithmIdentifier, AlgorithmIdentifierRef};

use crate::{OaepHash, Rule, encode, oid};

/// The explicit tags are what tells these parameters from those printed in TR-34's samples. A
/// library that is handed untagged ones may fall back to PKCS#1 v1.5, so they are refused here.
/// The third field is not declared: its only allowed value is the default, which DER leaves out.
#[derive(Sequence)]
struct Parameters<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifier<AlgorithmIdentifierRef<'a>>>,
}

/// `AlgorithmIdentifier` of RSAES-OAEP with this hash, in MGF1 as well, and the empty label.
///
/// As in the published samples the hash has a NULL and the hash of MGF1 has not.
pub(crate) fn algorithm(hash: OaepHash) -> Vec<u8> {
    let parameters = match hash {
        OaepHash::Sha1 => encode::sequence(&[]),
        OaepHash::Sha256 => {
            let hash = encode::algorithm(oid::SHA_256, encode::NULL);
            let mask = encode::algorithm(oid::MGF1, &encode::algorithm(oid::SHA_256, &[]));
            encode::sequence(&[
                &encode::element(encode::CONTEXT_0, &[&hash]),
                &encode::element(encode::CONTEXT_1, &[&mask]),
            ])
        }
    };
    encode::algorithm(oid::RSAES_OAEP, &parameters)
}

/// The hash that both the label and MGF1 use.
pub(crate) fn parse(algorithm: AlgorithmIdentifierRef<'_>) -> Result<OaepHash, Rule> {
    let refused = Rule::Algorithm {
        field: "keyEncryptionAlgorithm",
    };
    let (oid::RSAES_OAEP, Some(parameters)) = (algorithm.oid, algorithm.parameters) else {
        return Err(refused);
    };
    let Ok(parameters) = parameters.decode_as::<Parameters<'_>>() else {
        return Err(refused);
    };
    match (parameters.hash, parameters.mask) {
        (None, None) => Ok(OaepHash::Sha1),
        (Some(hash), Some(mask))
            if is_sha256(hash)
                && mask.oid == oid::MGF1
                && mask.parameters.is_some_and(is_sha256) =>
        {
            Ok(OaepHash::Sha256)
        }
        _ => Err(refused),
    }
}

/// RFC 4055 2.1: absent parameters and NULL are both legal and mean the same.
fn is_sha256(algorithm: AlgorithmIdentifierRef<'_>) -> bool {
    algorithm.oid == oid::SHA_256 && algorithm.parameters.is_none_or(AnyRef::is_null)
}
