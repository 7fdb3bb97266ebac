//! Certificate requests.

use der::{
    Any, Decode, Encode,
    asn1::{BitString, Null, ObjectIdentifier, SetOfVec},
};
use pki::{CsrError, CsrKey, Signer, issue_csr, verify_csr};
use spki::AlgorithmIdentifierOwned;
use x509_cert::{
    attr::Attribute,
    request::{CertReqInfo, Version},
};

use crate::{
    common::{
        PKI, SoftSigner, algorithm, ec_pem, name, openssl_in, rsa_pem, run_openssl, seal, seal_der,
        tampered, with_indefinite_length, with_last_bit_flipped, with_long_length,
        with_trailing_byte, without_last_byte,
    },
    key::{ec_spki, rsa_spki},
};

const ENCRYPTION: CsrKey = CsrKey::Encryption { min_rsa_bits: 2048 };

fn info(spki: &[u8]) -> CertReqInfo {
    CertReqInfo {
        version: Version::V1,
        subject: Decode::from_der(name("CN=SN-0001").der()).unwrap(),
        public_key: Decode::from_der(spki).unwrap(),
        attributes: SetOfVec::new(),
    }
}

/// A request for a key that need not be the signer's.
fn request_for(spki: &[u8], signer: &SoftSigner) -> Vec<u8> {
    seal(signer, &info(spki))
}

fn with_attributes(signer: &SoftSigner, value_len: usize) -> Vec<u8> {
    let mut info = info(signer.public_key().as_spki_der());
    let value = Any::new(der::Tag::Utf8String, vec![b'x'; value_len]).unwrap();
    let attribute = Attribute {
        oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7"),
        values: [value].into_iter().collect::<Vec<_>>().try_into().unwrap(),
    };
    info.attributes.insert(attribute).unwrap();
    seal(signer, &info)
}

/// A request that `openssl` makes.
fn openssl_request(key_pem: &str, more: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.pem"), key_pem).unwrap();
    let arguments = [
        &[
            "req",
            "-new",
            "-key",
            "key.pem",
            "-subj",
            "/CN=SN-0001",
            "-outform",
            "DER",
        ],
        more,
    ]
    .concat();
    let output = run_openssl(folder.path(), &arguments, &[]);
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn sound_requests_give_their_key() {
    for (case, signer, expected) in [
        ("RSA", &PKI.rsa, ENCRYPTION),
        ("P-256", &PKI.p256, CsrKey::Authentication),
    ] {
        let ours = issue_csr(signer, &name("CN=SN-0001")).unwrap();
        let requests = [
            ("ours", ours),
            ("with an attribute", with_attributes(signer, 8)),
            ("openssl's", openssl_request(signer.pem(), &[])),
            (
                "openssl's with extensions",
                openssl_request(
                    signer.pem(),
                    &["-addext", "basicConstraints=critical,CA:true"],
                ),
            ),
        ];
        for (form, der) in requests {
            let verified = verify_csr(&der, expected).expect(form);
            assert_eq!(verified.public_key(), signer.public_key(), "{case}, {form}");
            assert_eq!(verified.into_public_key(), *signer.public_key());
        }
    }
}

#[test]
fn openssl_verifies_our_requests() {
    for signer in [&PKI.rsa, &PKI.p256] {
        let der = issue_csr(signer, &name("CN=SN-0001,O=Example Bank,C=DE")).unwrap();
        let text = openssl_in(
            &[
                "req", "-verify", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253",
            ],
            &der,
        );
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.trim(), "subject=CN=SN-0001,O=Example Bank,C=DE");
    }
}

#[test]
fn requests_that_are_not_der_are_refused() {
    let good = issue_csr(&PKI.rsa, &name("CN=SN-0001")).unwrap();
    let info_der = info(PKI.rsa.public_key().as_spki_der()).to_der().unwrap();
    // The version is the first field of the info: 30 82 xx xx 02 01 00.
    assert_eq!(info_der[4..7], [2, 1, 0]);
    let version = |version: u8| {
        let mut der = info_der.clone();
        der[6] = version;
        seal_der(&PKI.rsa, &der)
    };
    let unused_bits = tampered(&good, |signed| {
        let bytes = signed.signature.as_bytes().unwrap().to_vec();
        let even = [&bytes[..255], &[0]].concat();
        signed.signature = BitString::new(1, even).unwrap();
    });
    let unsorted_attributes = {
        // Two attributes in the wrong order: decoding would sort them.
        let a = [
            0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x0D, 0x31, 0x02, 0x05, 0x00,
        ];
        let b = [
            0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x03, 0x31, 0x02, 0x05, 0x00,
        ];
        let attributes = [&[0xA0, 22][..], &a, &b].concat();
        let body = [&info_der[4..info_der.len() - 2], &attributes].concat();
        seal_der(&PKI.rsa, &crate::common::sequence(&[&body]))
    };
    for (case, der) in [
        ("empty", Vec::new()),
        ("truncated", without_last_byte(&good)),
        ("trailing byte", with_trailing_byte(&good)),
        ("twice", [good.clone(), good.clone()].concat()),
        ("long length", with_long_length(&good)),
        ("indefinite length", with_indefinite_length(&good)),
        ("version 2", version(1)),
        ("version -1", version(0xFF)),
        ("too long", with_attributes(&PKI.rsa, 8 * 1024)),
        ("PEM", openssl_in(&["req", "-inform", "DER"], &good)),
        ("a certificate", PKI.ca.der().to_vec()),
        ("only the info", info_der),
        ("unused bits in the signature", unused_bits),
        ("attributes not sorted", unsorted_attributes),
    ] {
        let found = verify_csr(&der, ENCRYPTION).map(|_| ());
        assert_eq!(found, Err(CsrError::Malformed), "{case}");
    }
}

#[test]
fn requests_without_proof_of_possession_are_refused() {
    let good = issue_csr(&PKI.rsa, &name("CN=SN-0001")).unwrap();
    let spki = PKI.rsa.public_key().as_spki_der();
    let algorithm_is = |algorithm: AlgorithmIdentifierOwned| {
        tampered(&good, |signed| signed.algorithm = algorithm)
    };
    let oid_is = |oid| {
        algorithm_is(AlgorithmIdentifierOwned {
            oid,
            parameters: Some(Null.into()),
        })
    };
    let subject_changed = {
        let mut der = good.clone();
        let at = der.windows(7).position(|part| part == b"SN-0001").unwrap();
        der[at + 6] = b'2';
        der
    };
    let attribute_added = {
        let attributes = with_attributes(&PKI.rsa, 8);
        let signature = tampered(&good, |_| ());
        let original = crate::common::Signed::from_der(&signature)
            .unwrap()
            .signature;
        tampered(&attributes, |signed| signed.signature = original)
    };
    let empty_signature = tampered(&good, |signed| {
        signed.signature = BitString::from_bytes(&[]).unwrap();
    });
    for (case, der) in [
        ("flipped bit", with_last_bit_flipped(&good)),
        ("signed by another key", request_for(spki, &PKI.ca_key)),
        (
            "another's key",
            request_for(PKI.ca_key.public_key().as_spki_der(), &PKI.rsa),
        ),
        ("signed by a P-256 key", request_for(spki, &PKI.p256)),
        ("subject changed", subject_changed),
        ("attribute added", attribute_added),
        ("no signature", empty_signature),
        ("ECDSA named", algorithm_is(algorithm(&PKI.p256))),
        (
            "SHA-1 named",
            oid_is(const_oid::db::rfc5912::SHA_1_WITH_RSA_ENCRYPTION),
        ),
        (
            "SHA-512 named",
            oid_is(const_oid::db::rfc5912::SHA_512_WITH_RSA_ENCRYPTION),
        ),
        ("PSS named", oid_is(const_oid::db::rfc5912::ID_RSASSA_PSS)),
        (
            "algorithm without NULL",
            algorithm_is(AlgorithmIdentifierOwned {
                parameters: None,
                ..algorithm(&PKI.rsa)
            }),
        ),
        (
            "made with SHA-1",
            openssl_request(PKI.rsa.pem(), &["-sha1"]),
        ),
        (
            "made with SHA-384",
            openssl_request(PKI.rsa.pem(), &["-sha384"]),
        ),
    ] {
        let found = verify_csr(&der, ENCRYPTION).map(|_| ());
        assert_eq!(found, Err(CsrError::ProofOfPossession), "{case}");
    }
    let off_the_curve = ec_spki(const_oid::db::rfc5912::SECP_256_R_1, &[4; 65]);
    for (case, der) in [
        (
            "a point off the curve",
            request_for(&off_the_curve, &PKI.p256),
        ),
        (
            "a flipped bit",
            with_last_bit_flipped(&issue_csr(&PKI.p256, &name("CN=SN-0001")).unwrap()),
        ),
        (
            "ECDSA with SHA-384",
            openssl_request(PKI.p256.pem(), &["-sha384"]),
        ),
    ] {
        let found = verify_csr(&der, CsrKey::Authentication).map(|_| ());
        assert_eq!(found, Err(CsrError::ProofOfPossession), "{case}");
    }
}

#[test]
fn requests_for_unsuitable_keys_are_refused() {
    let rsa = issue_csr(&PKI.rsa, &name("CN=SN-0001")).unwrap();
    let p256 = issue_csr(&PKI.p256, &name("CN=SN-0001")).unwrap();
    let rsa_1024 = openssl_request(&rsa_pem(1024), &[]);
    let p384 = openssl_request(&ec_pem("P-384"), &[]);
    let weak = |bits, minimum| CsrError::KeyTooWeak { bits, minimum };
    let (modulus, exponent) = PKI.rsa.public_key().rsa_components().unwrap();
    let mut even = modulus.clone();
    *even.last_mut().unwrap() ^= 1;
    let with_key =
        |modulus: &[u8], exponent: &[u8]| request_for(&rsa_spki(modulus, exponent), &PKI.rsa);
    let at_least = |min_rsa_bits| CsrKey::Encryption { min_rsa_bits };
    for (case, der, expected, error) in [
        ("RSA-1024", &rsa_1024, ENCRYPTION, weak(1024, 2048)),
        (
            "RSA-2048 below 3072",
            &rsa,
            at_least(3072),
            weak(2048, 3072),
        ),
        (
            "RSA-2048 below 2049",
            &rsa,
            at_least(2049),
            weak(2048, 2049),
        ),
        (
            "even modulus",
            &with_key(&even, &exponent),
            ENCRYPTION,
            CsrError::KeyUnsound,
        ),
        (
            "exponent 3",
            &with_key(&modulus, &[3]),
            ENCRYPTION,
            CsrError::KeyUnsound,
        ),
        (
            "P-256 to encrypt",
            &p256,
            ENCRYPTION,
            CsrError::WrongKeyKind,
        ),
        (
            "P-384 to encrypt",
            &p384,
            ENCRYPTION,
            CsrError::WrongKeyKind,
        ),
        (
            "RSA to authenticate",
            &rsa,
            CsrKey::Authentication,
            CsrError::WrongKeyKind,
        ),
        (
            "RSA-1024 to authenticate",
            &rsa_1024,
            CsrKey::Authentication,
            CsrError::WrongKeyKind,
        ),
        (
            "P-384 to authenticate",
            &p384,
            CsrKey::Authentication,
            CsrError::WrongKeyKind,
        ),
    ] {
        assert_eq!(verify_csr(der, expected).map(|_| ()), Err(error), "{case}");
    }
    // A configured minimum below the system's own does not lower it.
    let found = verify_csr(&rsa_1024, at_least(512)).map(|_| ());
    assert_eq!(found, Err(weak(1024, 2048)));
}
