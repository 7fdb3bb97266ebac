//! Issuer and serial number.

use proptest::prelude::*;
use tr34::{IssuerAndSerial, Rule, TokenKind};

use crate::common::*;

const SERIAL: &[u8] = &[
    0x5A, 0x11, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18, 0x29, 0x3A,
];

fn serial(content: &[u8]) -> Vec<u8> {
    element(der::Tag::Integer, &[content])
}

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
        sequence(&[identity.issuer_der(), &serial(SERIAL)])
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
    for der in [
        &[][..],
        CRL,
        &CERTIFICATE[1..],
        &[CERTIFICATE, &[0]].concat(),
    ] {
        let result = IssuerAndSerial::of_certificate(der);
        assert_refused("certificate", result, TokenKind::Identity, &Expect::Der);
    }
}

#[test]
fn each_departure_is_refused() {
    let issuer = name("CA");
    let serial_number = || Expect::from(Rule::SerialNumber);
    let (country, organization) = (("2.5.4.6", "DE"), ("2.5.4.10", "Example"));
    let cases: &[(&str, Vec<u8>, Expect)] = &[
        ("nothing", Vec::new(), Expect::Der),
        ("the issuer alone", sequence(&[&issuer]), Expect::Der),
        (
            "the serial alone",
            sequence(&[&serial(SERIAL)]),
            Expect::Der,
        ),
        (
            "a third field",
            sequence(&[&issuer, &serial(SERIAL), NULL]),
            Expect::Der,
        ),
        (
            "the other way round",
            sequence(&[&serial(SERIAL), &issuer]),
            Expect::Der,
        ),
        (
            "an empty issuer",
            sequence(&[&sequence(&[]), &serial(SERIAL)]),
            length("issuer", 0),
        ),
        (
            "an issuer that is no name",
            sequence(&[&set(&[]), &serial(SERIAL)]),
            Expect::Der,
        ),
        (
            "an issuer whose set is out of order",
            sequence(&[
                &sequence(&[&relative_name(&[organization, country])]),
                &serial(SERIAL),
            ]),
            Rule::NotCanonical { field: "issuer" }.into(),
        ),
        (
            "serial of another type",
            sequence(&[&issuer, &octets(SERIAL)]),
            Expect::Der,
        ),
        (
            "serial zero",
            sequence(&[&issuer, &serial(&[0])]),
            serial_number(),
        ),
        (
            "serial negative",
            sequence(&[&issuer, &serial(&[0x80, 1])]),
            serial_number(),
        ),
        (
            "serial padded",
            sequence(&[&issuer, &serial(&[0, 1])]),
            serial_number(),
        ),
        (
            "serial empty",
            sequence(&[&issuer, &serial(&[])]),
            serial_number(),
        ),
        (
            "serial of 21 bytes",
            sequence(&[&issuer, &serial(&[1; 21])]),
            serial_number(),
        ),
    ];
    for (case, der, expected) in cases {
        assert_refused(
            case,
            IssuerAndSerial::parse(der),
            TokenKind::Identity,
            expected,
        );
    }
}

#[test]
fn parts_are_checked_as_the_whole_is() {
    let longer = [name("CA"), vec![0]].concat();
    for (issuer, serial, expected) in [
        (&b""[..], SERIAL, Expect::Der),
        (&longer, SERIAL, Expect::Der),
        (&sequence(&[]), SERIAL, length("issuer", 0)),
        (&name("CA"), &[][..], Rule::SerialNumber.into()),
        (&name("CA"), &[0x80][..], Rule::SerialNumber.into()),
        (&name("CA"), &[1; 21][..], Rule::SerialNumber.into()),
    ] {
        let result = IssuerAndSerial::new(issuer, serial);
        assert_refused("parts", result, TokenKind::Identity, &expected);
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

#[test]
fn no_cut_extended_or_flipped_identity_is_taken_for_another() {
    assert_reads_exactly(
        &kdh().to_der(),
        IssuerAndSerial::parse,
        IssuerAndSerial::to_der,
    );
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
