//! Reading certificates.

use const_oid::AssociatedOid;
use der::{Any, Decode, Encode, Tag, asn1::OctetString};
use pki::{Certificate, CertificateError, KeyError, NameError, Role, SerialError, Signer};
use x509_cert::{
    Version,
    ext::{Extension, pkix::KeyUsage},
};

use crate::{
    common::{
        PKI, Tbs, algorithm, openssl_in, rsa_pem, run_openssl, seal, tampered,
        with_indefinite_length, with_last_bit_flipped, with_long_length, with_trailing_byte,
        without_last_byte,
    },
    key::public,
};

/// The good certificate with one thing changed, soundly signed again.
fn altered(change: impl FnOnce(&mut Tbs)) -> Vec<u8> {
    let mut tbs = Tbs::of(&PKI.certificate(Role::Kdh));
    change(&mut tbs);
    seal(&PKI.ca_key, &tbs)
}

fn integer(content: &[u8]) -> Any {
    Any::new(Tag::Integer, content).unwrap()
}

#[test]
fn what_was_certified_is_read_back() {
    for role in crate::common::END_ENTITIES {
        let subject = PKI.subject(role);
        let certificate = PKI.certificate(role);
        assert_eq!(certificate.subject(), &subject.name);
        assert_eq!(certificate.issuer(), PKI.ca.subject());
        assert_eq!(certificate.serial(), &subject.serial);
        assert_eq!(certificate.public_key(), &subject.public_key);
        assert_eq!(certificate.validity(), subject.validity);
        assert_eq!(certificate.not_before(), subject.validity.not_before);
        assert_eq!(certificate.not_after(), subject.validity.not_after);
        assert_eq!(certificate.common_name().as_deref(), Some("SN-0001"));
        let id = certificate.issuer_and_serial().unwrap();
        assert_eq!(
            id,
            tr34::IssuerAndSerial::of_certificate(certificate.der()).unwrap()
        );
    }
}

#[test]
fn pem_comes_and_goes() {
    let certificate = PKI.certificate(Role::Kdh);
    let pem = certificate.to_pem();
    assert_eq!(Certificate::from_pem(&pem).unwrap(), certificate);
    let openssl = openssl_in(&["x509", "-inform", "DER"], certificate.der());
    assert_eq!(pem.as_bytes(), openssl, "the same text as openssl's");
    for (case, text) in [
        ("empty", String::new()),
        ("no block", "certificate".to_owned()),
        ("another label", pem.replace("CERTIFICATE", "X509 CRL")),
        ("a private key", rsa_pem(2048)),
        ("no end", pem.replace("-----END", "-----")),
        ("two blocks", format!("{pem}{pem}")),
        ("text in the block", pem.replacen("MII", "M*I", 1)),
    ] {
        assert_eq!(
            Certificate::from_pem(&text),
            Err(CertificateError::Pem),
            "{case}"
        );
    }
}

#[test]
fn a_certificate_made_by_openssl_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.pem"), PKI.rsa.pem()).unwrap();
    let output = run_openssl(
        folder.path(),
        &[
            "req",
            "-x509",
            "-key",
            "key.pem",
            "-subj",
            "/C=DE/O=Example Bank/CN=Root",
            "-days",
            "30",
            "-set_serial",
            "0x4142434445464748",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-outform",
            "DER",
        ],
        &[],
    );
    assert!(output.status.success(), "{output:?}");
    let certificate = Certificate::from_der(&output.stdout).unwrap();
    assert_eq!(
        certificate.subject().to_string(),
        "CN=Root,O=Example Bank,C=DE"
    );
    assert_eq!(certificate.serial().to_string(), "4142434445464748");
    assert_eq!(certificate.public_key(), PKI.rsa.public_key());
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    use CertificateError::{Key, Malformed, Name, Serial, TooLong, Version as WrongVersion};
    let certificate = PKI.certificate(Role::Kdh);
    let good = certificate.der();
    let not_positive = Serial(SerialError::NotPositive);
    let short = Key(KeyError::TooShort {
        bits: 1024,
        minimum: 2048,
    });
    let key_is = |spki: &[u8]| altered(|tbs| tbs.spki = Decode::from_der(spki).unwrap());
    let ed25519 = openssl_in(&["genpkey", "-algorithm", "ED25519"], &[]);
    let empty_name = || Decode::from_der(&[0x30, 0]).unwrap();
    let repeated = |oid| {
        altered(|tbs| {
            let extension = tbs.extension(oid).clone();
            tbs.extensions().push(extension);
        })
    };
    for (case, der, expected) in [
        ("empty", Vec::new(), Malformed),
        ("truncated", without_last_byte(good), Malformed),
        ("trailing byte", with_trailing_byte(good), Malformed),
        ("twice", [good, good].concat(), Malformed),
        ("long length", with_long_length(good), Malformed),
        ("indefinite length", with_indefinite_length(good), Malformed),
        ("PEM", certificate.to_pem().into_bytes(), Malformed),
        (
            "a request",
            pki::issue_csr(&PKI.rsa, certificate.subject()).unwrap(),
            Malformed,
        ),
        ("a revocation list", PKI.crl(&[]), Malformed),
        ("too long", [good, &[0; 16 * 1024]].concat(), TooLong),
        (
            "other algorithm outside",
            tampered(good, |signed| signed.algorithm = algorithm(&PKI.p256)),
            Malformed,
        ),
        (
            "other algorithm inside",
            altered(|tbs| tbs.signature = algorithm(&PKI.p256)),
            Malformed,
        ),
        (
            "version 2",
            altered(|tbs| tbs.version = Version::V2),
            WrongVersion,
        ),
        (
            "version 1",
            altered(|tbs| {
                tbs.version = Version::V1;
                tbs.extensions = None;
            }),
            WrongVersion,
        ),
        (
            "serial 0",
            altered(|tbs| tbs.serial_number = integer(&[0])),
            not_positive.clone(),
        ),
        (
            "serial negative",
            altered(|tbs| tbs.serial_number = integer(&[0xC1; 16])),
            not_positive.clone(),
        ),
        (
            "serial of 21 bytes",
            altered(|tbs| tbs.serial_number = integer(&[0x41; 21])),
            not_positive,
        ),
        (
            "serial of 22 bytes",
            altered(|tbs| tbs.serial_number = integer(&[0x41; 22])),
            Malformed,
        ),
        (
            "serial padded",
            altered(|tbs| tbs.serial_number = integer(&[0, 1, 2, 3, 4, 5, 6, 7, 8])),
            Malformed,
        ),
        (
            "no subject",
            altered(|tbs| tbs.subject = empty_name()),
            Name(NameError::Empty),
        ),
        (
            "no issuer",
            altered(|tbs| tbs.issuer = empty_name()),
            Name(NameError::Empty),
        ),
        ("RSA-1024", key_is(&public(&rsa_pem(1024))), short),
        (
            "Ed25519",
            key_is(&public(std::str::from_utf8(&ed25519).unwrap())),
            Key(KeyError::UnsupportedAlgorithm),
        ),
        ("key usage twice", repeated(KeyUsage::OID), Malformed),
        (
            "basic constraints twice",
            repeated(const_oid::db::rfc5280::ID_CE_BASIC_CONSTRAINTS),
            Malformed,
        ),
        (
            "key usage not DER",
            altered(|tbs| tbs.extension(KeyUsage::OID).extn_value = OctetString::new([3]).unwrap()),
            Malformed,
        ),
    ] {
        assert_eq!(Certificate::from_der(&der), Err(expected), "{case}");
    }
}

#[test]
fn an_unknown_extension_may_stand_but_not_be_critical() {
    let with = |critical| {
        altered(|tbs| {
            tbs.extensions().push(Extension {
                extn_id: const_oid::ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1"),
                critical,
                extn_value: OctetString::new([5, 0]).unwrap(),
            });
        })
    };
    assert!(Certificate::from_der(&with(false)).is_ok());
    let refused = Certificate::from_der(&with(true));
    assert_eq!(refused, Err(CertificateError::CriticalExtension));
}

#[test]
fn a_certificate_is_read_whatever_its_signature() {
    // Trust is the business of path validation, not of parsing.
    let good = PKI.certificate(Role::Kdh);
    let flipped = Certificate::from_der(&with_last_bit_flipped(good.der())).unwrap();
    assert_ne!(flipped, good);
    assert_eq!(flipped.serial(), good.serial());
}

#[test]
fn encoding_again_gives_the_same_bytes() {
    for role in crate::common::END_ENTITIES {
        let certificate = PKI.certificate(role);
        let decoded = x509_cert::Certificate::from_der(certificate.der()).unwrap();
        assert_eq!(decoded.to_der().unwrap(), certificate.der(), "{role:?}");
    }
}
