//! `CT_KRD` and `CT_KDH`.

use tr34::{KdhCredentialToken, KrdCredentialToken, MAX_TOKEN_LEN};

use crate::common::*;

/// An unsigned `SignedData` with the certificate, and this field for CRLs.
fn structure(crls: &[u8]) -> Vec<u8> {
    let signed_data = sequence(&[
        &integer(1),
        &set(&[]),
        &sequence(&[&oid(DATA), &tagged(0, &[&octets(&[])])]),
        &tagged(0, &[CERTIFICATE]),
        crls,
        &set(&[]),
    ]);
    sequence(&[&oid(SIGNED_DATA), &tagged(0, &[&signed_data])])
}

#[test]
fn the_tokens_are_the_structures_of_the_profile() {
    let krd = KrdCredentialToken::new(CERTIFICATE).unwrap();
    assert_eq!(krd.to_der(P), structure(&[]));
    assert_eq!(KrdCredentialToken::parse(P, &krd.to_der(P)).unwrap(), krd);
    assert_eq!(krd.certificate(), CERTIFICATE);

    let kdh = KdhCredentialToken::new(CERTIFICATE, CRL).unwrap();
    assert_eq!(kdh.to_der(P), structure(&tagged(1, &[CRL])));
    assert_eq!(KdhCredentialToken::parse(P, &kdh.to_der(P)).unwrap(), kdh);
    assert_eq!(kdh.certificate(), CERTIFICATE);
    assert_eq!(kdh.crl(), CRL);
}

#[test]
fn only_a_certificate_and_a_crl_make_a_token() {
    let longer = |der: &[u8]| [der, &[0]].concat();
    for (certificate, refusal) in [
        (&[][..], "certificate expected, and nothing follows"),
        (
            CRL,
            "certificate is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got UTCTime",
        ),
        (
            &CERTIFICATE[..300],
            "certificate is not the DER expected: ASN.1 DER message is incomplete: expected 850, actual 300",
        ),
        (&longer(CERTIFICATE), "nothing more expected in token"),
    ] {
        assert_refused(
            KrdCredentialToken::new(certificate),
            &format!("CT_KRD: {refusal}"),
        );
        assert_refused(
            KdhCredentialToken::new(certificate, CRL),
            &format!("CT_KDH: {refusal}"),
        );
    }
    for (crl, refusal) in [
        (&[][..], "CT_KDH: crl expected, and nothing follows"),
        (
            CERTIFICATE,
            "CT_KDH: crl is not the DER expected: unexpected ASN.1 DER tag: expected INTEGER, got CONTEXT-SPECIFIC [0] (constructed)",
        ),
        (
            &CRL[..300],
            "CT_KDH: crl is not the DER expected: ASN.1 DER message is incomplete: expected 475, actual 300",
        ),
        (&longer(CRL), "CT_KDH: nothing more expected in token"),
    ] {
        assert_refused(KdhCredentialToken::new(CERTIFICATE, crl), refusal);
    }
}

#[test]
fn a_token_has_a_size_limit() {
    assert!(KdhCredentialToken::new(CERTIFICATE, &crl_with(2000)).is_ok());
    let longest = crl_with(TOO_MANY_REVOKED);
    assert_refused(
        KdhCredentialToken::new(CERTIFICATE, &longest),
        "CT_KDH: 65856 bytes, more than 65536",
    );

    let long = vec![0x30; MAX_TOKEN_LEN + 1];
    let refusal = "65537 bytes, more than 65536";
    assert_refused(
        KrdCredentialToken::new(&long),
        &format!("CT_KRD: {refusal}"),
    );
    assert_refused(
        KrdCredentialToken::parse(P, &long),
        &format!("CT_KRD, at byte 0: {refusal}"),
    );
    assert_refused(
        KdhCredentialToken::parse(P, &long),
        &format!("CT_KDH, at byte 0: {refusal}"),
    );
}
