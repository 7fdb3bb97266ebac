//! Public keys and names.

use der::{
    Any, Encode,
    asn1::{BitString, Null, ObjectIdentifier, UintRef},
};
use pki::{BadSignature, KeyError, Name, NameError, PublicKey, PublicKeyKind, Signer};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::common::{
    PKI, SoftSigner, ec_pem, name, openssl_in, rsa_pem, sequence, with_long_length,
    with_trailing_byte, without_last_byte,
};

const RSA: ObjectIdentifier = const_oid::db::rfc5912::RSA_ENCRYPTION;
const EC: ObjectIdentifier = const_oid::db::rfc5912::ID_EC_PUBLIC_KEY;
const P256: ObjectIdentifier = const_oid::db::rfc5912::SECP_256_R_1;
const P384: ObjectIdentifier = const_oid::db::rfc5912::SECP_384_R_1;

fn spki(oid: ObjectIdentifier, parameters: Option<Any>, key: &[u8]) -> Vec<u8> {
    SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid, parameters },
        subject_public_key: BitString::from_bytes(key).unwrap(),
    }
    .to_der()
    .unwrap()
}

/// An RSA key of any numbers, as its `SubjectPublicKeyInfo`.
pub(crate) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let number = |bytes| UintRef::new(bytes).unwrap().to_der().unwrap();
    let key = sequence(&[&number(modulus), &number(exponent)]);
    spki(RSA, Some(Null.into()), &key)
}

/// A P-256 key of any point, as its `SubjectPublicKeyInfo`.
pub(crate) fn ec_spki(curve: ObjectIdentifier, point: &[u8]) -> Vec<u8> {
    spki(EC, Some(curve.into()), point)
}

/// A public key that `openssl` made.
pub(crate) fn public(pem: &str) -> Vec<u8> {
    openssl_in(&["pkey", "-pubout", "-outform", "DER"], pem.as_bytes())
}

fn modulus(bytes: usize, last: u8) -> Vec<u8> {
    let mut modulus = vec![0xC5; bytes];
    modulus[bytes - 1] = last;
    modulus
}

const F4: &[u8] = &[1, 0, 1];

#[test]
fn keys_made_by_openssl_are_read() {
    for (pem, kind) in [
        (rsa_pem(2048), PublicKeyKind::Rsa { bits: 2048 }),
        (rsa_pem(3072), PublicKeyKind::Rsa { bits: 3072 }),
        (ec_pem("P-256"), PublicKeyKind::P256),
    ] {
        let der = public(&pem);
        let key = PublicKey::from_spki_der(&der).unwrap();
        assert_eq!(key.kind(), kind);
        assert_eq!(key.as_spki_der(), der);
        let digest = openssl_in(&["dgst", "-sha256", "-binary"], &der);
        assert_eq!(key.fingerprint()[..], digest[..]);
    }
}

#[test]
fn a_token_s_numbers_make_the_same_key() {
    let key = PKI.rsa.public_key();
    let (modulus, exponent) = key.rsa_components().unwrap();
    assert_eq!(PublicKey::from_rsa(&modulus, &exponent).as_ref(), Ok(key));
    let padded = [&[0][..], &modulus].concat();
    assert_eq!(PublicKey::from_rsa(&padded, &exponent).as_ref(), Ok(key));

    let key = PKI.p256.public_key();
    assert_eq!(key.rsa_components(), None);
    let spki = key.as_spki_der();
    let point = &spki[spki.len() - 65..];
    assert_eq!(PublicKey::from_p256_point(point).as_ref(), Ok(key));
}

#[test]
fn unacceptable_public_keys_are_refused() {
    use KeyError::{Malformed, Unsound, UnsupportedAlgorithm};
    let good = rsa_spki(&modulus(256, 1), F4);
    assert!(PublicKey::from_spki_der(&good).is_ok());
    let point = {
        let spki = PKI.p256.public_key().as_spki_der();
        spki[spki.len() - 65..].to_vec()
    };
    let compressed = [&[0x02], &point[1..33]].concat();
    let hybrid = [&[0x06], &point[1..]].concat();
    let short = |bits| KeyError::TooShort {
        bits,
        minimum: 2048,
    };
    let rsa_key = good[good.len() - 270..].to_vec();
    let top_bit_off = {
        let mut modulus = modulus(256, 1);
        modulus[0] = 0x7F;
        modulus
    };
    let cases: Vec<(&str, Vec<u8>, KeyError)> = vec![
        ("empty", Vec::new(), Malformed),
        ("truncated", without_last_byte(&good), Malformed),
        ("trailing byte", with_trailing_byte(&good), Malformed),
        ("long length", with_long_length(&good), Malformed),
        ("RSA without NULL", spki(RSA, None, &rsa_key), Malformed),
        (
            "RSA, not numbers",
            spki(RSA, Some(Null.into()), &[0x30, 0]),
            Malformed,
        ),
        ("RSA-1024", public(&rsa_pem(1024)), short(1024)),
        ("RSA-2047", rsa_spki(&top_bit_off, F4), short(2047)),
        ("even modulus", rsa_spki(&modulus(256, 2), F4), Unsound),
        ("RSA-8200", rsa_spki(&modulus(1025, 1), F4), Unsound),
        ("exponent 1", rsa_spki(&modulus(256, 1), &[1]), Unsound),
        ("exponent 3", rsa_spki(&modulus(256, 1), &[3]), Unsound),
        (
            "exponent 65535",
            rsa_spki(&modulus(256, 1), &[0xFF, 0xFF]),
            Unsound,
        ),
        (
            "even exponent",
            rsa_spki(&modulus(256, 1), &[1, 0, 2]),
            Unsound,
        ),
        (
            "exponent of 5 bytes",
            rsa_spki(&modulus(256, 1), &[1, 0, 0, 0, 1]),
            Unsound,
        ),
        (
            "exponent like a modulus",
            rsa_spki(&modulus(256, 1), &modulus(256, 1)),
            Unsound,
        ),
        ("P-384", public(&ec_pem("P-384")), UnsupportedAlgorithm),
        (
            "P-384 point said to be P-256",
            ec_spki(P256, &[4; 97]),
            Malformed,
        ),
        (
            "P-256 point said to be P-384",
            ec_spki(P384, &point),
            UnsupportedAlgorithm,
        ),
        (
            "EC without a curve",
            spki(EC, None, &point),
            UnsupportedAlgorithm,
        ),
        ("compressed point", ec_spki(P256, &compressed), Malformed),
        ("hybrid point", ec_spki(P256, &hybrid), Malformed),
        ("point at infinity", ec_spki(P256, &[0]), Malformed),
        ("short point", ec_spki(P256, &point[..64]), Malformed),
        (
            "Ed25519",
            public(
                &String::from_utf8(openssl_in(&["genpkey", "-algorithm", "ED25519"], &[])).unwrap(),
            ),
            UnsupportedAlgorithm,
        ),
        (
            "RSASSA-PSS",
            spki(
                const_oid::db::rfc5912::ID_RSASSA_PSS,
                Some(Null.into()),
                &rsa_key,
            ),
            UnsupportedAlgorithm,
        ),
    ];
    for (case, der, expected) in cases {
        assert_eq!(PublicKey::from_spki_der(&der), Err(expected), "{case}");
    }
}

#[test]
fn signatures_verify_only_as_they_were_made() {
    let message = b"message";
    for signer in [&PKI.rsa, &PKI.p256] {
        let key = signer.public_key();
        let good = signer.raw_sign(message);
        assert_eq!(key.verify(message, &good), Ok(()));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let other = SoftSigner::raw_sign(&PKI.ca_key, message);
        for (case, text, signature) in [
            ("another message", &b"massage"[..], &good),
            ("a flipped bit", message, &flipped),
            ("a byte less", message, &without_last_byte(&good)),
            ("a byte more", message, &with_trailing_byte(&good)),
            ("another key's", message, &other),
            ("none", message, &Vec::new()),
        ] {
            assert_eq!(key.verify(text, signature), Err(BadSignature), "{case}");
        }
    }
}

#[test]
fn a_subject_s_name_is_under_its_ca_s_organization() {
    let ca = name("CN=CA KRD,O=Example Bank,C=DE");
    let device = Name::under(&ca, Some("KRD"), "SN-0001").unwrap();
    assert_eq!(device.to_string(), "CN=SN-0001,OU=KRD,O=Example Bank,C=DE");
    assert_eq!(device.common_name().as_deref(), Some("SN-0001"));
    assert_eq!(device.unit().as_deref(), Some("KRD"));
    assert_eq!(Name::from_der(device.der()).as_ref(), Ok(&device));
}

#[test]
fn a_common_name_cannot_smuggle_in_other_attributes() {
    let ca = name("CN=CA KRD,O=Example Bank,C=DE");
    for common_name in [
        "a,OU=Operator",
        "a+OU=Operator",
        "a;OU=Operator",
        "\"a",
        "a=b",
        "#0500",
        "<a>",
        " a ",
    ] {
        let name = Name::under(&ca, Some("KRD"), common_name).unwrap();
        assert_eq!(name.common_name().as_deref(), Some(common_name));
        assert_eq!(name.unit().as_deref(), Some("KRD"), "{common_name}");
    }
    for (common_name, expected) in [
        ("a\\,OU=Operator", NameError::Malformed),
        ("a/OU=Operator", NameError::Malformed),
        ("", NameError::Empty),
    ] {
        assert_eq!(
            Name::under(&ca, Some("KRD"), common_name),
            Err(expected),
            "{common_name:?}"
        );
    }
}

#[test]
fn unacceptable_names_are_refused() {
    for text in ["", "CN", "=x", "nonsense", "CN=a,,", "XX=a"] {
        assert!(text.parse::<Name>().is_err(), "{text:?}");
    }
    let good = name("CN=a,O=b");
    assert_eq!(Name::from_der(&[0x30, 0]), Err(NameError::Empty));
    for (case, der) in [
        ("empty", Vec::new()),
        ("truncated", without_last_byte(good.der())),
        ("trailing byte", with_trailing_byte(good.der())),
        ("no sequence", vec![0x31, 0]),
    ] {
        assert_eq!(Name::from_der(&der), Err(NameError::Malformed), "{case}");
    }
}
