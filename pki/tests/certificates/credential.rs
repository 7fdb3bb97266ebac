//! Path, revocation and role.

use const_oid::{AssociatedOid, ObjectIdentifier, db::rfc5280};
use der::{Decode, Encode, asn1::OctetString};
use pki::{
    Certificate, CredentialError, CrlContents, Issuer, Role, RoleError, Subject, VerifiedCrl,
    issue_certificate, issue_crl, issue_root, verify_credential, verify_crl, verify_sub_ca,
    verify_unlisted,
};
use time::{Duration, OffsetDateTime};
use x509_cert::ext::{
    Extension,
    pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
        SubjectAltName, SubjectKeyIdentifier,
    },
};

use crate::common::{
    END_ENTITIES, NOW, PKI, Tbs, ca_subject, crl_contents, name, root_subject, seal, serial,
    validity, with_last_bit_flipped,
};

/// A role's good certificate with one thing changed, soundly signed again by the CA.
fn altered(role: Role, change: impl FnOnce(&mut Tbs)) -> Certificate {
    let mut tbs = Tbs::of(&PKI.certificate(role));
    change(&mut tbs);
    Certificate::from_der(&seal(&PKI.ca_key, &tbs)).unwrap()
}

fn verify(leaf: &Certificate, role: Role) -> Result<(), CredentialError> {
    verify_credential(leaf, &PKI.ca, role, &PKI.verified_crl(&[]), NOW).map(|_| ())
}

fn value(value: &impl Encode) -> OctetString {
    OctetString::new(value.to_der().unwrap()).unwrap()
}

fn extended(usages: &[ObjectIdentifier]) -> Extension {
    Extension {
        extn_id: ExtendedKeyUsage::OID,
        critical: false,
        extn_value: value(&ExtendedKeyUsage(usages.to_vec())),
    }
}

#[test]
fn every_role_is_accepted_as_itself_and_as_nothing_else() {
    let crl = PKI.verified_crl(&[serial(0x77, 16)]);
    for role in END_ENTITIES {
        let leaf = PKI.certificate(role);
        let credential = verify_credential(&leaf, &PKI.ca, role, &crl, NOW).unwrap();
        assert_eq!(credential.certificate(), &leaf);
        assert_eq!(credential.role(), role);
        assert_eq!(credential.public_key(), leaf.public_key());
        assert_eq!(credential.id(), &leaf.issuer_and_serial().unwrap());
        assert_eq!(verify_unlisted(&leaf, &PKI.ca, role, NOW), Ok(()));
        for other in END_ENTITIES.into_iter().filter(|other| *other != role) {
            let found = verify_credential(&leaf, &PKI.ca, other, &crl, NOW).map(|_| ());
            assert!(
                matches!(found, Err(CredentialError::WrongRole(_))),
                "{role:?} as {other:?}"
            );
            let found = verify_unlisted(&leaf, &PKI.ca, other, NOW);
            assert!(
                matches!(found, Err(CredentialError::WrongRole(_))),
                "{role:?} as {other:?}"
            );
        }
    }
}

#[test]
fn a_credential_that_differs_from_its_role_is_refused() {
    use KeyUsages::{DataEncipherment, DigitalSignature, KeyEncipherment, NonRepudiation};
    use RoleError::{ExtendedKeyUsage as Extended, KeyUsage as Usage, Unit};
    let usage = |role, flags: der::flagset::FlagSet<KeyUsages>| {
        altered(role, |tbs| {
            tbs.extension(KeyUsage::OID).extn_value = value(&KeyUsage(flags));
        })
    };
    let with = |role, usages: &[ObjectIdentifier]| {
        altered(role, |tbs| {
            tbs.drop_extension(ExtendedKeyUsage::OID);
            tbs.extensions().push(extended(usages));
        })
    };
    let named = |role, text: &str| {
        let subject = Decode::from_der(name(text).der()).unwrap();
        altered(role, |tbs| tbs.subject = subject)
    };
    let (client, server) = (rfc5280::ID_KP_CLIENT_AUTH, rfc5280::ID_KP_SERVER_AUTH);
    let any = rfc5280::ANY_EXTENDED_KEY_USAGE;
    for (case, role, leaf, expected) in [
        (
            "no key usage",
            Role::Kdh,
            altered(Role::Kdh, |tbs| tbs.drop_extension(KeyUsage::OID)),
            Usage,
        ),
        (
            "key usage not critical",
            Role::Kdh,
            altered(Role::Kdh, |tbs| {
                tbs.extension(KeyUsage::OID).critical = false;
            }),
            Usage,
        ),
        (
            "KDH that enciphers",
            Role::Kdh,
            usage(Role::Kdh, DigitalSignature | KeyEncipherment),
            Usage,
        ),
        (
            "KDH that commits",
            Role::Kdh,
            usage(Role::Kdh, DigitalSignature | NonRepudiation),
            Usage,
        ),
        (
            "KDH with a terminal's usage",
            Role::Kdh,
            usage(Role::Kdh, KeyEncipherment.into()),
            Usage,
        ),
        (
            "KRD that signs",
            Role::Krd,
            usage(Role::Krd, KeyEncipherment | DigitalSignature),
            Usage,
        ),
        (
            "KRD that enciphers data",
            Role::Krd,
            usage(Role::Krd, KeyEncipherment | DataEncipherment),
            Usage,
        ),
        (
            "KRD with a KDH's usage",
            Role::Krd,
            usage(Role::Krd, DigitalSignature.into()),
            Usage,
        ),
        (
            "operator that signs certificates",
            Role::Operator,
            usage(Role::Operator, DigitalSignature | KeyUsages::KeyCertSign),
            Usage,
        ),
        (
            "KDH with client usage",
            Role::Kdh,
            with(Role::Kdh, &[client]),
            Extended,
        ),
        (
            "KDH with any usage",
            Role::Kdh,
            with(Role::Kdh, &[any]),
            Extended,
        ),
        (
            "KRD with client usage",
            Role::Krd,
            with(Role::Krd, &[client]),
            Extended,
        ),
        (
            "terminal without client usage",
            Role::KrdTls,
            altered(Role::KrdTls, |tbs| {
                tbs.drop_extension(ExtendedKeyUsage::OID);
            }),
            Extended,
        ),
        (
            "terminal with server usage",
            Role::KrdTls,
            with(Role::KrdTls, &[server]),
            Extended,
        ),
        (
            "terminal with both usages",
            Role::KrdTls,
            with(Role::KrdTls, &[client, server]),
            Extended,
        ),
        (
            "terminal with any usage",
            Role::KrdTls,
            with(Role::KrdTls, &[any]),
            Extended,
        ),
        (
            "server with both usages",
            Role::HostTls,
            with(Role::HostTls, &[server, client]),
            Extended,
        ),
        (
            "server with client usage",
            Role::HostTls,
            with(Role::HostTls, &[client]),
            Extended,
        ),
        (
            "terminal without a unit",
            Role::KrdTls,
            named(Role::KrdTls, "CN=SN-0001"),
            Unit,
        ),
        (
            "terminal with the other unit",
            Role::KrdTls,
            named(Role::KrdTls, "CN=SN-0001,OU=KRD"),
            Unit,
        ),
        (
            "terminal with an operator's unit",
            Role::KrdTls,
            named(Role::KrdTls, "CN=SN-0001,OU=Operator"),
            Unit,
        ),
        (
            "unit in another case",
            Role::Krd,
            named(Role::Krd, "CN=SN-0001,OU=krd"),
            Unit,
        ),
        (
            "unit twice",
            Role::Krd,
            named(Role::Krd, "CN=SN-0001,OU=KRD,OU=KRD"),
            Unit,
        ),
        (
            "operator with a terminal's unit",
            Role::Operator,
            named(Role::Operator, "CN=a,OU=KRD-TLS"),
            Unit,
        ),
        (
            "custodian that commits",
            Role::Custodian,
            usage(Role::Custodian, DigitalSignature | NonRepudiation),
            Usage,
        ),
        (
            "custodian with client usage",
            Role::Custodian,
            with(Role::Custodian, &[client]),
            Extended,
        ),
        (
            "custodian with any usage",
            Role::Custodian,
            with(Role::Custodian, &[any]),
            Extended,
        ),
        (
            "custodian with an operator's unit",
            Role::Custodian,
            named(Role::Custodian, "CN=a,OU=Operator"),
            Unit,
        ),
        (
            "custodian with the audit key's unit",
            Role::Custodian,
            named(Role::Custodian, "CN=a,OU=Audit"),
            Unit,
        ),
        (
            "custodian without a unit",
            Role::Custodian,
            named(Role::Custodian, "CN=a"),
            Unit,
        ),
        (
            "audit key that signs certificates",
            Role::Audit,
            usage(Role::Audit, DigitalSignature | KeyUsages::KeyCertSign),
            Usage,
        ),
        (
            "audit key with server usage",
            Role::Audit,
            with(Role::Audit, &[server]),
            Extended,
        ),
        (
            "audit key with a custodian's unit",
            Role::Audit,
            named(Role::Audit, "CN=a,OU=Custodian"),
            Unit,
        ),
        (
            "audit key with both units",
            Role::Audit,
            named(Role::Audit, "CN=a,OU=Audit,OU=Custodian"),
            Unit,
        ),
    ] {
        assert_eq!(
            verify(&leaf, role),
            Err(CredentialError::WrongRole(expected)),
            "{case}"
        );
        let unlisted = verify_unlisted(&leaf, &PKI.ca, role, NOW);
        assert_eq!(
            unlisted,
            Err(CredentialError::WrongRole(expected)),
            "{case}"
        );
    }
}

#[test]
fn a_credential_that_is_a_ca_or_lacks_an_extension_is_refused() {
    let ca = altered(Role::Kdh, |tbs| {
        let constraints = BasicConstraints {
            ca: true,
            path_len_constraint: None,
        };
        tbs.extension(BasicConstraints::OID).extn_value = value(&constraints);
    });
    let without = |role, oid| altered(role, |tbs| tbs.drop_extension(oid));
    let hosts = altered(Role::Kdh, |tbs| {
        let mut server = Tbs::of(&PKI.certificate(Role::HostTls));
        let names = server.extension(SubjectAltName::OID).clone();
        tbs.extensions().push(names);
    });
    for (case, role, leaf, expected) in [
        ("a CA", Role::Kdh, ca, RoleError::BasicConstraints),
        (
            "no key identifier",
            Role::Kdh,
            without(Role::Kdh, SubjectKeyIdentifier::OID),
            RoleError::KeyIdentifiers,
        ),
        (
            "no issuer's key identifier",
            Role::Kdh,
            without(Role::Kdh, AuthorityKeyIdentifier::OID),
            RoleError::KeyIdentifiers,
        ),
        (
            "server without hosts",
            Role::HostTls,
            without(Role::HostTls, SubjectAltName::OID),
            RoleError::Hosts,
        ),
        ("KDH with hosts", Role::Kdh, hosts, RoleError::Hosts),
    ] {
        assert_eq!(
            verify(&leaf, role),
            Err(CredentialError::WrongRole(expected)),
            "{case}"
        );
    }
}

#[test]
fn a_credential_without_a_path_is_refused() {
    use CredentialError::{BadSignature, UntrustedIssuer};
    let leaf = PKI.certificate(Role::Kdh);
    let crl = PKI.verified_crl(&[]);
    let from = |certificate, signer| {
        let issuer = Issuer {
            certificate,
            signer,
        };
        issue_certificate(&issuer, &PKI.subject(Role::Kdh)).unwrap()
    };
    // A CA of the same name with another key.
    let twin =
        issue_certificate(&PKI.root_issuer(), &ca_subject(&PKI.rsa, "CA KRD", 0x55)).unwrap();
    let tampered = |der: &[u8]| Certificate::from_der(&with_last_bit_flipped(der)).unwrap();
    let renamed = {
        let mut der = leaf.der().to_vec();
        let at = der.windows(7).position(|part| part == b"SN-0001").unwrap();
        der[at + 6] = b'2';
        Certificate::from_der(&der).unwrap()
    };
    for (case, leaf, issuer, expected) in [
        (
            "another CA's",
            from(&PKI.other_ca, &PKI.other_ca_key),
            &PKI.ca,
            UntrustedIssuer,
        ),
        ("a CA's twin", from(&twin, &PKI.rsa), &PKI.ca, BadSignature),
        ("flipped bit", tampered(leaf.der()), &PKI.ca, BadSignature),
        ("renamed", renamed, &PKI.ca, BadSignature),
        (
            "another CA expected",
            leaf.clone(),
            &PKI.other_ca,
            UntrustedIssuer,
        ),
        (
            "the root expected",
            leaf.clone(),
            &PKI.root,
            UntrustedIssuer,
        ),
        (
            "an end entity expected",
            leaf.clone(),
            &leaf,
            UntrustedIssuer,
        ),
    ] {
        let found = verify_credential(&leaf, issuer, Role::Kdh, &crl, NOW).map(|_| ());
        assert_eq!(found, Err(expected), "{case}");
        let found = verify_unlisted(&leaf, issuer, Role::Kdh, NOW);
        assert_eq!(found, Err(expected), "unlisted: {case}");
    }
}

#[test]
fn validity_has_exact_edges() {
    let leaf = PKI.certificate(Role::Kdh);
    let (from, until) = (leaf.not_before(), leaf.not_after());
    for (case, now, expected) in [
        ("first second", from, Ok(())),
        ("last second", until, Ok(())),
        (
            "a second before",
            from - Duration::SECOND,
            Err(CredentialError::NotYetValid),
        ),
        (
            "a second after",
            until + Duration::SECOND,
            Err(CredentialError::Expired),
        ),
        (
            "after the issuer",
            PKI.ca.not_after() + Duration::SECOND,
            Err(CredentialError::UntrustedIssuer),
        ),
        (
            "before the issuer",
            PKI.ca.not_before() - Duration::SECOND,
            Err(CredentialError::UntrustedIssuer),
        ),
        (
            "before 1970",
            OffsetDateTime::UNIX_EPOCH - Duration::SECOND,
            Err(CredentialError::UntrustedIssuer),
        ),
    ] {
        assert_eq!(
            verify_unlisted(&leaf, &PKI.ca, Role::Kdh, now),
            expected,
            "{case}"
        );
    }
}

#[test]
fn a_credential_that_is_kept_does_not_outlive_its_validity() {
    let leaf = PKI.certificate(Role::Kdh);
    // One that is good at all of these times.
    let lists = |now: OffsetDateTime| {
        let contents = CrlContents {
            this_update: now,
            next_update: now + Duration::DAY,
            ..crl_contents(&[])
        };
        let der = issue_crl(&PKI.issuer(), &contents).unwrap();
        verify_crl(&der, &PKI.ca, now, None).unwrap()
    };
    let kept = verify_credential(&leaf, &PKI.ca, Role::Kdh, &lists(NOW), NOW).unwrap();
    for (case, now, expected) in [
        ("first second", leaf.not_before(), Ok(())),
        ("last second", leaf.not_after(), Ok(())),
        (
            "a second before",
            leaf.not_before() - Duration::SECOND,
            Err(CredentialError::NotYetValid),
        ),
        (
            "a second after",
            leaf.not_after() + Duration::SECOND,
            Err(CredentialError::Expired),
        ),
        (
            "after the issuer",
            PKI.ca.not_after() + Duration::SECOND,
            Err(CredentialError::UntrustedIssuer),
        ),
    ] {
        assert_eq!(kept.require_good(&lists(now), now), expected, "{case}");
    }
}

#[test]
fn revocation_is_by_the_credential_s_own_issuer() {
    let leaf = PKI.certificate(Role::Kdh);
    let kept = verify_credential(&leaf, &PKI.ca, Role::Kdh, &PKI.verified_crl(&[]), NOW).unwrap();
    let check = |crl: &VerifiedCrl, now| {
        let found = verify_credential(&leaf, &PKI.ca, Role::Kdh, crl, now).map(|_| ());
        // One that was verified before is judged alike.
        assert_eq!(kept.require_good(crl, now), found);
        found
    };
    let listed = PKI.verified_crl(&[serial(0x77, 16), leaf.serial().clone()]);
    assert_eq!(check(&listed, NOW), Err(CredentialError::Revoked));
    assert_eq!(check(&PKI.verified_crl(&[serial(0x77, 16)]), NOW), Ok(()));

    // The same serial number, listed by another CA, says nothing.
    let other = issue_crl(&PKI.other_issuer(), &crl_contents(&[leaf.serial().clone()])).unwrap();
    let other = verify_crl(&other, &PKI.other_ca, NOW, None).unwrap();
    assert_eq!(check(&other, NOW), Err(CredentialError::NoRevocationStatus));

    // A list that has grown stale since it was verified is no evidence any more.
    let stale = NOW + Duration::days(8);
    let found = check(&PKI.verified_crl(&[]), stale);
    assert_eq!(found, Err(CredentialError::StaleRevocationList));
    assert_eq!(verify_unlisted(&leaf, &PKI.ca, Role::Kdh, stale), Ok(()));
}

#[test]
fn a_root_limits_the_path_to_one_or_not_at_all() {
    let with = |ca, path_len_constraint, critical| {
        let mut tbs = Tbs::of(&PKI.root);
        let extension = tbs.extension(BasicConstraints::OID);
        extension.critical = critical;
        extension.extn_value = value(&BasicConstraints {
            ca,
            path_len_constraint,
        });
        let root = Certificate::from_der(&seal(&PKI.root_key, &tbs)).unwrap();
        verify_sub_ca(&PKI.ca, &root, NOW)
    };
    let refused = Err(CredentialError::WrongRole(RoleError::BasicConstraints));
    for (case, ca, length, critical, expected) in [
        ("one", true, Some(1), true, Ok(())),
        ("none", true, None, true, Ok(())),
        ("zero", true, Some(0), true, refused),
        ("two", true, Some(2), true, refused),
        ("not critical", true, Some(1), false, refused),
        ("no CA", false, None, true, refused),
    ] {
        assert_eq!(with(ca, length, critical), expected, "{case}");
    }
}

#[test]
fn a_sub_ca_is_a_sub_ca_of_its_root() {
    use CredentialError::{BadSignature, Expired, NotYetValid, UntrustedIssuer, WrongRole};
    assert_eq!(verify_sub_ca(&PKI.ca, &PKI.root, NOW), Ok(()));
    assert_eq!(verify_sub_ca(&PKI.other_ca, &PKI.root, NOW), Ok(()));
    let other_root = {
        let subject = Subject {
            name: name("CN=Other root"),
            ..root_subject(&PKI.rsa)
        };
        issue_root(&PKI.rsa, &subject).unwrap()
    };
    let twin_root = issue_root(&PKI.rsa, &root_subject(&PKI.rsa)).unwrap();
    let flipped = Certificate::from_der(&with_last_bit_flipped(PKI.ca.der())).unwrap();
    let kdh = PKI.certificate(Role::Kdh);
    let after_root = PKI.root.not_after() + Duration::SECOND;
    let outliving = {
        let mut tbs = Tbs::of(&PKI.ca);
        tbs.validity = x509_cert::time::Validity::new(
            tbs.validity.not_before,
            "2055-01-01T00:00:00Z".parse().unwrap(),
        );
        Certificate::from_der(&seal(&PKI.root_key, &tbs)).unwrap()
    };
    let later = {
        let subject = Subject {
            validity: validity(1, 2),
            ..ca_subject(&PKI.rsa, "CA later", 0x61)
        };
        issue_certificate(&PKI.root_issuer(), &subject).unwrap()
    };
    for (case, ca, root, now, expected) in [
        ("another root", &PKI.ca, &other_root, NOW, UntrustedIssuer),
        (
            "a root of the same name",
            &PKI.ca,
            &twin_root,
            NOW,
            BadSignature,
        ),
        ("flipped bit", &flipped, &PKI.root, NOW, BadSignature),
        (
            "a sub-CA for a root",
            &PKI.ca,
            &PKI.other_ca,
            NOW,
            WrongRole(RoleError::BasicConstraints),
        ),
        (
            "a root for a sub-CA",
            &PKI.root,
            &PKI.root,
            NOW,
            WrongRole(RoleError::BasicConstraints),
        ),
        (
            "an end entity for a sub-CA",
            &kdh,
            &PKI.root,
            NOW,
            WrongRole(RoleError::KeyUsage),
        ),
        (
            "an expired root",
            &outliving,
            &PKI.root,
            after_root,
            UntrustedIssuer,
        ),
        (
            "a root of the future",
            &PKI.ca,
            &PKI.root,
            NOW - Duration::days(11),
            UntrustedIssuer,
        ),
        ("not yet valid", &later, &PKI.root, NOW, NotYetValid),
        (
            "expired",
            &later,
            &PKI.root,
            NOW + Duration::days(3),
            Expired,
        ),
    ] {
        assert_eq!(verify_sub_ca(ca, root, now), Err(expected), "{case}");
    }
}
