//! Revocation lists.

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::{Any, Decode, Encode, Sequence, asn1::OctetString, flagset::FlagSet};
use pki::{Certificate, Crl, CrlError, CrlNumber, issue_crl, verify_crl};
use spki::AlgorithmIdentifierOwned;
use time::Duration;
use x509_cert::{
    ext::{
        Extension,
        pkix::{AuthorityKeyIdentifier, CrlNumber as NumberExtension, KeyUsage, KeyUsages},
    },
    name::Name as X509Name,
    time::Time,
};

use crate::common::{
    DAY, NOW, PKI, Signed, Tbs, algorithm, crl_contents, openssl_in, seal, serial, tampered,
    with_indefinite_length, with_last_bit_flipped, with_long_length, with_trailing_byte,
    without_last_byte,
};

/// RFC 5280 5.1 with every field open to tampering.
#[derive(Clone, Sequence)]
struct TbsList {
    version: Option<u8>,
    signature: AlgorithmIdentifierOwned,
    issuer: X509Name,
    this_update: Time,
    next_update: Option<Time>,
    revoked: Option<Vec<Entry>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

#[derive(Clone, Sequence)]
struct Entry {
    serial: Any,
    date: Time,
    extensions: Option<Vec<Extension>>,
}

impl TbsList {
    fn extensions(&mut self) -> &mut Vec<Extension> {
        self.extensions.as_mut().unwrap()
    }

    fn entry(&mut self) -> &mut Entry {
        &mut self.revoked.as_mut().unwrap()[0]
    }

    fn drop_extension(&mut self, oid: ObjectIdentifier) {
        self.extensions()
            .retain(|extension| extension.extn_id != oid);
    }

    fn number_is(&mut self, content: &[u8]) {
        let number = Any::new(der::Tag::Integer, content).unwrap();
        let of_number = |extension: &&mut Extension| extension.extn_id == NumberExtension::OID;
        let extension = self.extensions().iter_mut().find(of_number).unwrap();
        extension.extn_value = OctetString::new(number.to_der().unwrap()).unwrap();
    }
}

/// The good list with one thing changed, soundly signed again by the CA.
fn altered(change: impl FnOnce(&mut TbsList)) -> Vec<u8> {
    let signed = Signed::from_der(&PKI.crl(&[serial(0x31, 16)])).unwrap();
    let mut tbs: TbsList = signed.content.decode_as().unwrap();
    change(&mut tbs);
    seal(&PKI.ca_key, &tbs)
}

fn extension(oid: &str, critical: bool, value: &[u8]) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::new_unwrap(oid),
        critical,
        extn_value: OctetString::new(value).unwrap(),
    }
}

fn verify(der: &[u8]) -> Result<(), CrlError> {
    verify_crl(der, &PKI.ca, NOW, None).map(|_| ())
}

#[test]
fn what_was_issued_verifies_and_reads_back() {
    let serials: Vec<_> = [0x35, 0x31, 0x33].map(|seed| serial(seed, 16)).into();
    for revoked in [&serials[..], &serials[..1], &[]] {
        let der = PKI.crl(revoked);
        let verified = verify_crl(&der, &PKI.ca, NOW, Some(CrlNumber(7))).unwrap();
        assert_eq!(verified.number(), CrlNumber(7));
        let crl = verified.crl();
        assert_eq!(crl.der(), der);
        assert_eq!(crl.number(), Some(CrlNumber(7)));
        assert_eq!(crl.issuer(), PKI.ca.subject());
        assert_eq!(crl.this_update(), NOW - DAY);
        assert_eq!(crl.next_update(), NOW + DAY * 7);
        assert_eq!(crl.revoked().len(), revoked.len());
        assert!(revoked.iter().all(|serial| crl.lists(serial)));
        assert!(!crl.lists(&serial(0x34, 16)));
    }
}

#[test]
fn every_ca_issues_lists_and_any_number_fits() {
    for number in [0, 1, 127, 128, 255, 256, u64::from(u32::MAX), u64::MAX] {
        let mut contents = crl_contents(&[]);
        contents.number = CrlNumber(number);
        for issuer in [PKI.root_issuer(), PKI.issuer(), PKI.other_issuer()] {
            let der = issue_crl(&issuer, &contents).unwrap();
            let verified = verify_crl(&der, issuer.certificate, NOW, None).unwrap();
            assert_eq!(verified.number(), CrlNumber(number));
        }
    }
}

#[test]
fn pem_and_der_are_both_read() {
    let der = PKI.crl(&[]);
    let pem = openssl_in(&["crl", "-inform", "DER"], &der);
    for form in [&der, &pem] {
        assert_eq!(Crl::from_pem_or_der(form).unwrap().der(), der);
    }
    for (case, bytes) in [
        ("a certificate's PEM", PKI.ca.to_pem().into_bytes()),
        ("PEM that is cut", pem[..pem.len() / 2].to_vec()),
        ("text", b"crl".to_vec()),
    ] {
        let found = Crl::from_pem_or_der(&bytes).map(|_| ());
        assert_eq!(found, Err(CrlError::Malformed), "{case}");
    }
}

#[test]
fn freshness_and_number_have_exact_edges() {
    let der = PKI.crl(&[]);
    let (this_update, next_update) = (NOW - DAY, NOW + DAY * 7);
    let seen = |number| Some(CrlNumber(number));
    let older = CrlError::OlderThanSeen {
        found: CrlNumber(7),
        seen: CrlNumber(8),
    };
    for (case, now, last_seen, expected) in [
        ("at this update", this_update, None, Ok(())),
        (
            "a second before",
            this_update - Duration::SECOND,
            None,
            Err(CrlError::NotYetValid(this_update)),
        ),
        ("at next update", next_update, None, Ok(())),
        (
            "a second after",
            next_update + Duration::SECOND,
            None,
            Err(CrlError::Stale(next_update)),
        ),
        (
            "long after",
            next_update + DAY * 400,
            None,
            Err(CrlError::Stale(next_update)),
        ),
        ("an older one seen", NOW, seen(6), Ok(())),
        ("the same one seen", NOW, seen(7), Ok(())),
        ("a newer one seen", NOW, seen(8), Err(older.clone())),
    ] {
        let found = verify_crl(&der, &PKI.ca, now, last_seen).map(|_| ());
        assert_eq!(found, expected, "{case}");
        let kept = verify_crl(&der, &PKI.ca, NOW, None).unwrap();
        assert_eq!(kept.require_good(now, last_seen), expected, "kept: {case}");
    }
}

#[test]
fn bytes_that_are_no_list_are_refused() {
    let good = PKI.crl(&[serial(0x31, 16)]);
    for (case, der) in [
        ("empty", Vec::new()),
        ("truncated", without_last_byte(&good)),
        ("trailing byte", with_trailing_byte(&good)),
        ("twice", [good.clone(), good.clone()].concat()),
        ("long length", with_long_length(&good)),
        ("indefinite length", with_indefinite_length(&good)),
        ("too long", vec![0x30; 1024 * 1024 + 1]),
        ("PEM", openssl_in(&["crl", "-inform", "DER"], &good)),
        ("a certificate", PKI.ca.der().to_vec()),
        ("version 1", altered(|tbs| tbs.version = None)),
        ("version 3", altered(|tbs| tbs.version = Some(2))),
        ("no next update", altered(|tbs| tbs.next_update = None)),
        (
            "no issuer",
            altered(|tbs| tbs.issuer = Decode::from_der(&[0x30, 0]).unwrap()),
        ),
        (
            "other algorithm outside",
            tampered(&good, |signed| signed.algorithm = algorithm(&PKI.p256)),
        ),
        (
            "other algorithm inside",
            altered(|tbs| tbs.signature = algorithm(&PKI.p256)),
        ),
        (
            "a serial of zero",
            altered(|tbs| tbs.entry().serial = Any::new(der::Tag::Integer, [0]).unwrap()),
        ),
        (
            "a negative serial",
            altered(|tbs| tbs.entry().serial = Any::new(der::Tag::Integer, [0x80; 8]).unwrap()),
        ),
        ("a negative number", altered(|tbs| tbs.number_is(&[0xFF]))),
        (
            "a number above 64 bits",
            altered(|tbs| tbs.number_is(&[1; 9])),
        ),
        ("a number that is none", altered(|tbs| tbs.number_is(&[]))),
        ("a padded number", altered(|tbs| tbs.number_is(&[0, 1]))),
        (
            "two numbers",
            altered(|tbs| {
                let number = tbs.extensions().last().unwrap().clone();
                tbs.extensions().push(number);
            }),
        ),
    ] {
        assert_eq!(verify(&der), Err(CrlError::Malformed), "{case}");
    }
}

#[test]
fn critical_extensions_are_refused() {
    for (case, oid, value) in [
        ("delta list", "2.5.29.27", &[0x02, 0x01, 0x01][..]),
        (
            "partitioned or indirect list",
            "2.5.29.28",
            &[0x30, 0x03, 0x84, 0x01, 0xFF],
        ),
        ("unknown", "1.3.6.1.4.1.99999.1", &[0x05, 0x00]),
    ] {
        let der = altered(|tbs| tbs.extensions().push(extension(oid, true, value)));
        assert_eq!(verify(&der), Err(CrlError::CriticalExtension), "{case}");
    }
    for (case, oid) in [
        ("certificate issuer", "2.5.29.29"),
        ("unknown", "1.3.6.1.4.1.99999.1"),
    ] {
        let der = altered(|tbs| {
            tbs.entry()
                .extensions
                .get_or_insert_default()
                .push(extension(oid, true, &[0x30, 0]));
        });
        assert_eq!(
            verify(&der),
            Err(CrlError::CriticalExtension),
            "entry: {case}"
        );
    }
}

#[test]
fn lists_that_do_not_speak_for_the_issuer_are_refused() {
    let good = PKI.crl(&[serial(0x31, 16)]);
    let others = issue_crl(&PKI.other_issuer(), &crl_contents(&[])).unwrap();
    let signed_by = |signer, name_key: bool| {
        let signed = Signed::from_der(&good).unwrap();
        let mut tbs: TbsList = signed.content.decode_as().unwrap();
        if !name_key {
            tbs.drop_extension(AuthorityKeyIdentifier::OID);
        }
        seal(signer, &tbs)
    };
    let identifier = |value: &[u8]| {
        altered(|tbs| {
            tbs.drop_extension(AuthorityKeyIdentifier::OID);
            tbs.extensions().push(extension("2.5.29.35", false, value));
        })
    };
    let listed_removed = tampered(&good, |signed| {
        let mut tbs: TbsList = signed.content.decode_as().unwrap();
        tbs.revoked = None;
        signed.content = Any::encode_from(&tbs).unwrap();
    });
    for (case, der, expected) in [
        ("another CA's", others, CrlError::WrongIssuer),
        (
            "the root's",
            issue_crl(&PKI.root_issuer(), &crl_contents(&[])).unwrap(),
            CrlError::WrongIssuer,
        ),
        (
            "another name",
            altered(|tbs| tbs.issuer = Decode::from_der(PKI.other_ca.subject().der()).unwrap()),
            CrlError::WrongIssuer,
        ),
        (
            "another key identifier",
            identifier(&[0x30, 3, 0x80, 1, 7]),
            CrlError::WrongIssuer,
        ),
        (
            "a key identifier that is none",
            identifier(&[0x04, 0]),
            CrlError::WrongIssuer,
        ),
        (
            "forged with another key",
            signed_by(&PKI.other_ca_key, true),
            CrlError::BadSignature,
        ),
        (
            "forged, key not named",
            signed_by(&PKI.other_ca_key, false),
            CrlError::BadSignature,
        ),
        (
            "flipped bit",
            with_last_bit_flipped(&good),
            CrlError::BadSignature,
        ),
        ("entry taken out", listed_removed, CrlError::BadSignature),
        (
            "no number",
            altered(|tbs| tbs.drop_extension(NumberExtension::OID)),
            CrlError::NoNumber,
        ),
    ] {
        assert_eq!(verify(&der), Err(expected), "{case}");
    }
    let not_named = signed_by(&PKI.ca_key, false);
    assert_eq!(
        verify(&not_named),
        Ok(()),
        "a key identifier is not demanded"
    );
}

#[test]
fn a_certificate_that_may_not_sign_lists_speaks_for_none() {
    let with_usage = |usages: FlagSet<KeyUsages>| {
        let mut tbs = Tbs::of(&PKI.ca);
        let usage = KeyUsage(usages).to_der().unwrap();
        tbs.extension(KeyUsage::OID).extn_value = OctetString::new(usage).unwrap();
        Certificate::from_der(&seal(&PKI.root_key, &tbs)).unwrap()
    };
    let der = PKI.crl(&[]);
    for (case, usage, expected) in [
        ("lists", KeyUsages::CRLSign.into(), Ok(())),
        (
            "certificates only",
            KeyUsages::KeyCertSign.into(),
            Err(CrlError::WrongIssuer),
        ),
        (
            "messages only",
            KeyUsages::DigitalSignature.into(),
            Err(CrlError::WrongIssuer),
        ),
    ] {
        let found = verify_crl(&der, &with_usage(usage), NOW, None).map(|_| ());
        assert_eq!(found, expected, "{case}");
    }
}
