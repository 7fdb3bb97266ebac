//! Good tokens to start from.

use der::{Decode, Encode};
use tr34::{EnvelopedKeyBlock, Freshness, KeyToken, KrdNonce, MalformedToken, Profile, TokenDraft};
use x509_cert::{certificate::Rfc5280, crl::CertificateList};

pub(crate) use good_tokens::{
    CERTIFICATE, CRL, HEADER, Kind, Maker, NONCE, SIGNATURE, der::*, enveloped, header, kdh, krd,
    now,
};

/// The profile of these tests, unless they say another.
pub(crate) const P: Profile = Profile::X9_2019;

pub(crate) fn nonce() -> KrdNonce {
    good_tokens::nonce(P)
}

/// A two-pass key token of the default profile, with this content and CRL.
pub(crate) fn draft(
    enveloped: &EnvelopedKeyBlock,
    crl: &[u8],
) -> Result<TokenDraft, MalformedToken> {
    KeyToken::draft(
        P,
        enveloped,
        &header(),
        &Freshness::Nonce(nonce()),
        now(),
        &kdh(),
        crl,
    )
}

pub(crate) fn good(kind: Kind) -> Vec<u8> {
    Maker::default().token(kind, P)
}

/// The CRL with its one entry repeated.
pub(crate) fn crl_with(revoked: usize) -> Vec<u8> {
    let mut crl = CertificateList::<Rfc5280>::from_der(CRL).unwrap();
    let entries = crl.tbs_cert_list.revoked_certificates.as_mut().unwrap();
    *entries = vec![entries[0].clone(); revoked];
    crl.to_der().unwrap()
}

/// More entries than a token has room for, though the CRL alone is short enough.
pub(crate) const TOO_MANY_REVOKED: usize = 2150;

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, MalformedToken>, refusal: &str) {
    assert_eq!(result.unwrap_err().to_string(), refusal);
}
