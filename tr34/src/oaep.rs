//! RSAES-OAEP's parameters (RFC 4055 4.1), of which each profile has a few forms and reads no others.
//!
//! They are compared, not interpreted: a library that is handed untagged ones may fall back to
//! PKCS#1 v1.5.

use crate::{
    MalformedToken, OaepHash, Profile, Rule, encode, oid, profile::OaepForm, read::Element,
};

const NOT_OF_PROFILE: Rule = Rule::Algorithm {
    field: "keyEncryptionAlgorithm",
};

/// `AlgorithmIdentifier` of RSAES-OAEP with this hash, in MGF1 as well, and the empty label.
///
/// # Errors
/// The profile has no form for this hash.
pub(crate) fn algorithm(profile: Profile, hash: OaepHash) -> Result<Vec<u8>, Rule> {
    forms(profile, hash)
        .into_iter()
        .next()
        .ok_or(NOT_OF_PROFILE)
}

/// The hash that both the label and MGF1 use.
pub(crate) fn read(profile: Profile, algorithm: Element<'_>) -> Result<OaepHash, MalformedToken> {
    OaepHash::ALL
        .into_iter()
        .find(|hash| {
            let mut forms = forms(profile, *hash).into_iter();
            forms.any(|form| form == algorithm.whole())
        })
        .ok_or_else(|| algorithm.refused(NOT_OF_PROFILE))
}

/// The ways of writing it. The first is what is written.
fn forms(profile: Profile, hash: OaepHash) -> Vec<Vec<u8>> {
    let parameters = match (profile.layout().oaep, hash) {
        // Every parameter is the default then, and DER leaves it out.
        (OaepForm::Tagged | OaepForm::TaggedWithNull, OaepHash::Sha1) => {
            vec![encode::sequence(&[])]
        }
        // RFC 4055 2.1: absent parameters and NULL are both legal and mean the same.
        (OaepForm::Tagged, OaepHash::Sha256) => vec![
            tagged(encode::NULL, &[]),
            tagged(encode::NULL, encode::NULL),
            tagged(&[], &[]),
            tagged(&[], encode::NULL),
        ],
        (OaepForm::TaggedWithNull, OaepHash::Sha256) => vec![tagged(encode::NULL, encode::NULL)],
        (OaepForm::Untagged, OaepHash::Sha256) => vec![encode::sequence(&[
            &sha256(encode::NULL),
            &mgf1(&[]),
            &encode::algorithm(oid::P_SPECIFIED, &encode::octet_string(&[])),
        ])],
        (OaepForm::Untagged, OaepHash::Sha1) => Vec::new(),
    };
    let with_oid = |parameters: Vec<u8>| encode::algorithm(oid::RSAES_OAEP, &parameters);
    parameters.into_iter().map(with_oid).collect()
}

/// Under explicit tags, with these parameters of SHA-256 for the label and in MGF1.
fn tagged(label: &[u8], mask: &[u8]) -> Vec<u8> {
    encode::sequence(&[
        &encode::element(encode::CONTEXT_0, &[&sha256(label)]),
        &encode::element(encode::CONTEXT_1, &[&mgf1(mask)]),
    ])
}

fn sha256(parameters: &[u8]) -> Vec<u8> {
    encode::algorithm(oid::SHA_256, parameters)
}

fn mgf1(hash_parameters: &[u8]) -> Vec<u8> {
    encode::algorithm(oid::MGF1, &sha256(hash_parameters))
}
