//! Issuer and serial number.

use proptest::prelude::*;
use tr34::IssuerAndSerial;

use crate::common::*;

const SERIAL: &[u8] = &[
    0x5A, 0x11, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18, 0x29, 0x3A,
];

fn relative_name(oids_and_values: &[(&str, &str)]) -> Vec<u8> {
    let attributes: Vec<_> = oids_and_values
        .iter()
        .map(|(kind, value)| {
            sequence(&[
                &oid(kind),
                &element(der::Tag::Utf8String, &[value.as_bytes()]),
            ])
        })
        .collect();
    set(&[&attributes.concat()])
}

#[test]
fn a_certificate_names_its_holder_by_issuer_and_serial() {
    let identity = IssuerAndSerial::of_certificate(CERTIFICATE).unwrap();
    assert_eq!(identity.serial_bytes(), SERIAL);
    assert!(
        CERTIFICATE
            .windows(identity.issuer_der().len())
            .any(|window| window == identity.issuer_der())
    );
    assert_eq!(
        identity.to_der(),
        sequence(&[identity.issuer_der(), &integer_of(SERIAL)])
    );
    assert_eq!(
        IssuerAndSerial::parse(&identity.to_der()).unwrap(),
        identity
    );
    assert_eq!(
        IssuerAndSerial::new(identity.issuer_der(), SERIAL).unwrap(),
        identity
    );
}

#[test]
fn either_part_tells_two_apart() {
    let one = IssuerAndSerial::new(&name("CA"), &[5]).unwrap();
    assert_ne!(one, IssuerAndSerial::new(&name("CA"), &[6]).unwrap());
    assert_ne!(one, IssuerAndSerial::new(&name("CB"), &[5]).unwrap());
}

#[test]
fn only_certificates_have_holders() {
    for (der, refusal) in [
        (
            &[][..],
            "IssuerAndSerialNumber, at byte 0: certificate expected, and nothing follows",
        ),
        (
            CRL,
            "IssuerAndSerialNumber, at byte 0: certificate is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got UTCTime",
        ),
        (
            &CERTIFICATE[1..],
            "IssuerAndSerialNumber, at byte 0: certificate is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got CONTEXT-SPECIFIC [2] (primitive)",
        ),
        (
            &[CERTIFICATE, &[0]].concat(),
            "IssuerAndSerialNumber, at byte 850: nothing more expected in token",
        ),
    ] {
        assert_refused(IssuerAndSerial::of_certificate(der), refusal);
    }
}

#[test]
fn parts_are_checked_as_the_whole_is() {
    let longer = [name("CA"), vec![0]].concat();
    for (issuer, serial, refusal) in [
        (
            &b""[..],
            SERIAL,
            "IssuerAndSerialNumber: issuer is not the DER expected: ASN.1 DER message is incomplete: expected 1, actual 0",
        ),
        (
            &longer,
            SERIAL,
            "IssuerAndSerialNumber: issuer is not the DER expected: trailing data at end of DER message: decoded 15 bytes, 1 bytes remaining",
        ),
        (
            &sequence(&[]),
            SERIAL,
            "IssuerAndSerialNumber: issuer has 0 bytes",
        ),
        (
            &sequence(&[&set(&[])]),
            SERIAL,
            "IssuerAndSerialNumber: issuer has a set without attributes",
        ),
        (
            &name("CA"),
            &[][..],
            "IssuerAndSerialNumber: serial number is not positive or too long",
        ),
        (
            &name("CA"),
            &[0x80][..],
            "IssuerAndSerialNumber: serial number is not positive or too long",
        ),
        (
            &name("CA"),
            &[1; 21][..],
            "IssuerAndSerialNumber: serial number is not positive or too long",
        ),
    ] {
        assert_refused(IssuerAndSerial::new(issuer, serial), refusal);
    }
}

#[test]
fn names_in_order_and_serials_at_the_limits_are_taken() {
    let issuer = sequence(&[&relative_name(&[
        ("2.5.4.6", "DE"),
        ("2.5.4.10", "Example"),
    ])]);
    for serial in [&[1][..], &[0x7F], &[0, 0x80], &[0x7F; 20]] {
        let identity = IssuerAndSerial::new(&issuer, serial).unwrap();
        assert_eq!(identity.serial_bytes(), serial);
    }
}

proptest! {
    #[test]
    fn identities_round_trip(
        common_name in "[ -~]{1,300}",
        first in 1u8..0x80,
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let serial = [&[first], &rest[..]].concat();
        let identity = IssuerAndSerial::new(&name(&common_name), &serial).unwrap();
        prop_assert_eq!(IssuerAndSerial::parse(&identity.to_der()).unwrap(), identity);
    }
}
