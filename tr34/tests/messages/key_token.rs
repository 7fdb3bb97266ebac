//! `KT_KDH`: what is built, and from what.

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tr34::{
    ContentCipher, ContentEncryption, EnvelopedKeyBlock, Freshness, IssuerAndSerial, Kbh, KeyToken,
    KrdNonce, MAX_CRL_LEN, MAX_TOKEN_LEN, OaepHash,
};

use crate::common::*;

/// What is signed: the attributes in the order of DER.
fn signed_attributes() -> Vec<u8> {
    let digest = Sha256::digest(enveloped().to_der(P).unwrap());
    [
        attribute(CONTENT_TYPE, &[&oid(ENVELOPED_DATA)]),
        attribute(DATA, &[&octets(HEADER.as_bytes())]),
        attribute(RANDOM_NONCE, &[&octets(&NONCE)]),
        attribute(MESSAGE_DIGEST, &[&octets(&digest)]),
    ]
    .concat()
}

#[test]
fn the_token_is_the_structure_of_the_profile() {
    let sha256 = algorithm(SHA_256, &[]);
    let signer_info = sequence(&[
        &integer(1),
        &kdh().to_der(),
        &sha256,
        &tagged(0, &[&signed_attributes()]),
        &algorithm(RSA_ENCRYPTION, NULL),
        &octets(&SIGNATURE),
    ]);
    let content = octets(&enveloped().to_der(P).unwrap());
    let signed_data = sequence(&[
        &integer(3),
        &set(&[&sha256]),
        &sequence(&[&oid(ENVELOPED_DATA), &tagged(0, &[&content])]),
        &tagged(1, &[CRL]),
        &set(&[&signer_info]),
    ]);
    let token = sequence(&[&oid(SIGNED_DATA), &tagged(0, &[&signed_data])]);
    let draft = draft(&enveloped(), CRL).unwrap();
    assert_eq!(draft.to_be_signed(), set(&[&signed_attributes()]));
    assert_eq!(draft.into_token(&SIGNATURE).unwrap(), token);
}

#[test]
fn a_token_is_read_as_it_was_made() {
    let token = KeyToken::parse(P, &good(Kind::TwoPassKey)).unwrap();
    assert_eq!(token.signed_by().signer(), &kdh());
    assert_eq!(
        token.signed_by().signed_bytes(),
        set(&[&signed_attributes()])
    );
    assert_eq!(token.signed_by().signature(), SIGNATURE);
    assert_eq!(token.freshness(), &Freshness::Nonce(nonce()));
    assert_eq!(token.signing_time(), None);
    assert_eq!(token.header(), &header());
    assert_eq!(token.crl(), Some(CRL));
    assert_eq!(token.enveloped(), &enveloped());
}

#[test]
fn a_draft_takes_only_a_crl_and_a_signature_of_rsa_length() {
    for (crl, refusal) in [
        (
            CERTIFICATE,
            "KT_KDH: crls is not the DER expected: unexpected ASN.1 DER tag: expected INTEGER, got CONTEXT-SPECIFIC [0] (constructed)",
        ),
        (&[], "KT_KDH: crls expected, and nothing follows"),
        (
            &[CRL, CRL].concat(),
            "KT_KDH: nothing more expected in token",
        ),
        (
            &CRL[..200],
            "KT_KDH: crls is not the DER expected: ASN.1 DER message is incomplete: expected 475, actual 200",
        ),
    ] {
        assert_refused(draft(&enveloped(), crl), refusal);
    }
    for len in [0, 128, 255, 513] {
        let result = draft(&enveloped(), CRL).unwrap().into_token(&vec![1; len]);
        assert_refused(result, &format!("KT_KDH: signature has {len} bytes"));
    }
}

#[test]
fn a_token_has_a_size_limit() {
    let token = |revoked| {
        let crl = crl_with(revoked);
        draft(&enveloped(), &crl).unwrap().into_token(&SIGNATURE)
    };
    let long = token(2000).unwrap();
    assert_eq!(
        Kind::TwoPassKey.read_and_write(P, &long).as_ref(),
        Ok(&long)
    );
    assert_refused(
        token(TOO_MANY_REVOKED),
        "KT_KDH: 66057 bytes, more than 65536",
    );

    let padded = [&long[..], &vec![0; MAX_TOKEN_LEN]].concat();
    for (len, refusal) in [
        (
            MAX_TOKEN_LEN,
            format!(
                "KT_KDH, at byte {}: nothing more expected in token",
                long.len()
            ),
        ),
        (
            MAX_TOKEN_LEN + 1,
            "KT_KDH, at byte 0: 65537 bytes, more than 65536".to_owned(),
        ),
    ] {
        assert_refused(KeyToken::parse(P, &padded[..len]), &refusal);
    }
}

#[test]
fn the_longest_list_fits_beside_the_longest_keys_and_names() {
    let fits = |revoked: &usize| crl_with(*revoked).len() <= MAX_CRL_LEN;
    let revoked = (1..TOO_MANY_REVOKED).rev().find(fits).unwrap();
    // Distinguished names of this length are longer than any in use.
    let id = |byte| IssuerAndSerial::new(&name(&"N".repeat(1000)), &[byte; 20]).unwrap();
    let enveloped = EnvelopedKeyBlock::new(
        id(0x3B),
        OaepHash::Sha256,
        vec![0xE1; 512],
        ContentEncryption::Aes256Cbc([0x1F; 16]),
        vec![0xC1; 2048],
    )
    .unwrap();
    let crl = crl_with(revoked);
    let fresh = Freshness::Nonce(nonce());
    let draft = KeyToken::draft(P, &enveloped, &header(), &fresh, now(), &id(0x3C), &crl).unwrap();
    let token = draft.into_token(&[0x51; 512]).unwrap();
    assert!(token.len() + 256 < MAX_TOKEN_LEN, "{} bytes", token.len());
    assert!(crl_with(revoked + 1).len() > MAX_CRL_LEN);
}

prop_compose! {
    fn any_identity()(
        common_name in "[ -~]{1,200}",
        first in 1u8..0x80,
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) -> IssuerAndSerial {
        IssuerAndSerial::new(&name(&common_name), &[&[first], &rest[..]].concat()).unwrap()
    }
}

prop_compose! {
    fn any_encryption()(
        cipher in prop::sample::select(&ContentCipher::ALL[..]),
        iv in any::<[u8; 16]>(),
    ) -> ContentEncryption {
        cipher.with_iv(&iv[..cipher.block_len()]).unwrap()
    }
}

proptest! {
    #[test]
    fn tokens_round_trip(
        recipient in any_identity(),
        kdh in any_identity(),
        sha256 in any::<bool>(),
        encrypted_key in prop::collection::vec(any::<u8>(), 256..=512),
        encryption in any_encryption(),
        ciphertext in prop::collection::vec(any::<[u8; 16]>(), 1..40),
        header in "[A-D][0-9]{4}(P0|K0|B1|D0)[AT][BDENX][0-9A-Z]{2}[ENS]0000",
        nonce in any::<[u8; 16]>(),
        signature in prop::collection::vec(any::<u8>(), 256..=512),
    ) {
        let enveloped = EnvelopedKeyBlock::new(
            recipient,
            if sha256 { OaepHash::Sha256 } else { OaepHash::Sha1 },
            encrypted_key,
            encryption,
            ciphertext.concat(),
        ).unwrap();
        let header: Kbh = header.parse().unwrap();
        let fresh = Freshness::Nonce(KrdNonce::from_bytes(nonce));
        let draft = KeyToken::draft(P, &enveloped, &header, &fresh, now(), &kdh, CRL).unwrap();
        let to_be_signed = draft.to_be_signed().to_vec();
        let token = KeyToken::parse(P, &draft.into_token(&signature).unwrap()).unwrap();

        prop_assert_eq!(token.signed_by().signed_bytes(), to_be_signed);
        prop_assert_eq!(token.signed_by().signature(), signature);
        prop_assert_eq!(token.enveloped(), &enveloped);
        prop_assert_eq!(token.header(), &header);
        prop_assert_eq!(token.freshness(), &fresh);
        prop_assert_eq!(token.signed_by().signer(), &kdh);
        prop_assert_eq!(token.crl(), Some(CRL));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(KeyToken::parse(P, &bytes).is_err());
    }
}
