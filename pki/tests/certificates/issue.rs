//! Issuing: what is refused before and after the key signs.

use pki::{
    Certificate, CrlError, IssueError, Issuer, PublicKey, Role, RoleError, Signer, Subject,
    issue_certificate, issue_crl, issue_csr, issue_root,
};
use time::Duration;

use crate::common::{
    DAY, END_ENTITIES, NOW, PKI, SoftSigner, ca_subject, crl_contents, name, root_subject, serial,
    validity,
};

/// What a test's key does with a message.
enum Behaviour {
    Fails,
    Signs(fn(&SoftSigner, &[u8]) -> Vec<u8>),
}

/// The CA's key, misbehaving.
struct Faulty<'a> {
    key: &'a SoftSigner,
    behaviour: Behaviour,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key refused")]
struct Refused;

impl Signer for Faulty<'_> {
    type Error = Refused;

    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refused> {
        match self.behaviour {
            Behaviour::Fails => Err(Refused),
            Behaviour::Signs(sign) => Ok(sign(self.key, message)),
        }
    }
}

/// The variant by name, so that a table can hold what cannot be compared.
fn word<E: std::error::Error>(error: &IssueError<E>) -> &'static str {
    match error {
        IssueError::Signing(_) => "signing",
        IssueError::WrongSignature => "wrong signature",
        IssueError::IssuerKey => "issuer key",
        IssueError::IssuerRole(_) => "issuer role",
        IssueError::Validity => "validity",
        IssueError::Hosts(_) => "hosts",
        IssueError::Role(_) => "role",
        IssueError::Reread(_) => "reread",
        IssueError::Encoding(_) => "encoding",
        IssueError::Crl(_) => "crl",
    }
}

fn changed(role: Role, change: impl FnOnce(&mut Subject)) -> Subject {
    let mut subject = PKI.subject(role);
    change(&mut subject);
    subject
}

#[test]
fn every_role_is_issued_and_fits_itself_only() {
    for role in END_ENTITIES {
        let certificate = PKI.certificate(role);
        for other in END_ENTITIES.into_iter().chain([Role::RootCa, Role::SubCa]) {
            let fits = other.verify(&certificate).is_ok();
            assert_eq!(fits, other == role, "{role:?} as {other:?}");
        }
    }
    assert_eq!(Role::RootCa.verify(&PKI.root), Ok(()));
    assert_eq!(Role::SubCa.verify(&PKI.ca), Ok(()));
    for (ca, role) in [(&PKI.root, Role::SubCa), (&PKI.ca, Role::RootCa)] {
        assert_eq!(role.verify(ca), Err(RoleError::BasicConstraints));
    }
}

#[test]
fn serial_numbers_stand_in_certificates_as_long_as_asked() {
    for len in 8..=20 {
        let subject = changed(Role::Kdh, |subject| subject.serial = serial(0xF0, len));
        let certificate = issue_certificate(&PKI.issuer(), &subject).unwrap();
        assert_eq!(certificate.serial().content().len(), usize::from(len));
    }
}

#[test]
fn validity_after_2049_is_written_as_it_must_be() {
    for (until, form) in [
        (
            time::macros::datetime!(2049-12-31 23:59:59 UTC),
            &b"\x17\x0d491231235959Z"[..],
        ),
        (
            time::macros::datetime!(2050-01-01 00:00:00 UTC),
            b"\x18\x0f20500101000000Z",
        ),
    ] {
        let mut subject = root_subject(&PKI.root_key);
        subject.validity.not_after = until;
        let root = issue_root(&PKI.root_key, &subject).unwrap();
        assert!(
            root.der().windows(form.len()).any(|part| part == form),
            "{until}"
        );
        assert_eq!(root.not_after(), until);
    }
}

#[test]
fn unacceptable_subjects_are_refused() {
    let issuer = PKI.issuer();
    let hosts = |hosts: &[&str]| {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        changed(Role::HostTls, |subject| subject.hosts = hosts)
    };
    let key = |role, signer: &SoftSigner| {
        let key = signer.public_key().clone();
        changed(role, |subject| subject.public_key = key)
    };
    let until = PKI.ca.not_after();
    for (case, subject, expected) in [
        (
            "ends with its beginning",
            changed(Role::Kdh, |s| s.validity = validity(1, 1)),
            "validity",
        ),
        (
            "ends before its beginning",
            changed(Role::Kdh, |s| s.validity = validity(2, 1)),
            "validity",
        ),
        (
            "ends after its issuer",
            changed(Role::Kdh, |s| {
                s.validity.not_after = until + Duration::SECOND;
            }),
            "validity",
        ),
        (
            "before 1970",
            changed(Role::Kdh, |s| s.validity.not_before = NOW - DAY * 36_500),
            "encoding",
        ),
        ("TLS server without hosts", hosts(&[]), "hosts"),
        (
            "hosts for a KDH",
            changed(Role::Kdh, |s| s.hosts = vec!["kdh.example".into()]),
            "hosts",
        ),
        (
            "hosts for a terminal",
            changed(Role::KrdTls, |s| s.hosts = vec!["kdh.example".into()]),
            "hosts",
        ),
        ("empty host", hosts(&[""]), "hosts"),
        ("host with a space", hosts(&["kdh example"]), "hosts"),
        ("host with a port", hosts(&["kdh.example:443"]), "hosts"),
        ("host as a URL", hosts(&["https://kdh.example"]), "hosts"),
        ("host not in ASCII", hosts(&["kdh.exämple"]), "hosts"),
        (
            "host with a dot at its end",
            hosts(&["kdh.example."]),
            "hosts",
        ),
        ("wildcard host", hosts(&["*.example"]), "hosts"),
        ("network", hosts(&["192.0.2.0/24"]), "hosts"),
        (
            "a bad host after a good one",
            hosts(&["kdh.example", "-"]),
            "hosts",
        ),
        ("P-256 for a KDH", key(Role::Kdh, &PKI.p256), "role"),
        (
            "P-256 for a terminal's encryption",
            key(Role::Krd, &PKI.p256),
            "role",
        ),
        (
            "RSA for a terminal's TLS",
            key(Role::KrdTls, &PKI.rsa),
            "role",
        ),
        ("RSA for a TLS server", key(Role::HostTls, &PKI.rsa), "role"),
        ("RSA for an operator", key(Role::Operator, &PKI.rsa), "role"),
        (
            "RSA for a custodian",
            key(Role::Custodian, &PKI.rsa),
            "role",
        ),
        ("RSA for an audit key", key(Role::Audit, &PKI.rsa), "role"),
        (
            "custodian with the audit key's unit",
            changed(Role::Custodian, |s| {
                s.name = name("CN=a,OU=Audit,O=Example Bank");
            }),
            "role",
        ),
        (
            "audit key without a unit",
            changed(Role::Audit, |s| s.name = name("CN=a,O=Example Bank")),
            "role",
        ),
        (
            "terminal without a unit",
            changed(Role::Krd, |s| s.name = name("CN=SN-0001,O=Example Bank")),
            "role",
        ),
        (
            "terminal with another unit",
            changed(Role::Krd, |s| s.name = name("CN=SN-0001,OU=KRD-TLS")),
            "role",
        ),
        (
            "operator with two units",
            changed(Role::Operator, |s| {
                s.name = name("CN=a,OU=Operator,OU=Operator");
            }),
            "role",
        ),
        (
            "a root",
            changed(Role::Kdh, |s| s.role = Role::RootCa),
            "issuer role",
        ),
        (
            "a sub-CA",
            ca_subject(&PKI.rsa, "CA below a CA", 0x41),
            "issuer role",
        ),
    ] {
        let error = issue_certificate(&issuer, &subject).unwrap_err();
        assert_eq!(word(&error), expected, "{case}");
    }
}

#[test]
fn the_key_is_not_used_for_what_does_not_fit() {
    let ca = Faulty {
        key: &PKI.ca_key,
        behaviour: Behaviour::Fails,
    };
    let issuer = Issuer {
        certificate: &PKI.ca,
        signer: &ca,
    };
    let subject = changed(Role::Kdh, |s| s.public_key = PKI.p256.public_key().clone());
    let error = issue_certificate(&issuer, &subject).unwrap_err();
    // A key that had been asked would have refused.
    assert!(
        matches!(error, IssueError::Role(RoleError::KeyKind)),
        "{error}"
    );
}

#[test]
fn only_a_ca_issues_and_only_what_it_may() {
    let kdh = PKI.certificate(Role::Kdh);
    let issue = |certificate: &Certificate, signer: &SoftSigner, subject: &Subject| {
        let error = issue_certificate(
            &Issuer {
                certificate,
                signer,
            },
            subject,
        )
        .unwrap_err();
        word(&error)
    };
    for role in END_ENTITIES {
        let subject = PKI.subject(role);
        assert_eq!(
            issue(&PKI.root, &PKI.root_key, &subject),
            "issuer role",
            "root: {role:?}"
        );
        assert_eq!(
            issue(&kdh, &PKI.rsa, &subject),
            "issuer role",
            "KDH: {role:?}"
        );
        assert_eq!(
            issue(&PKI.ca, &PKI.other_ca_key, &subject),
            "issuer key",
            "{role:?}"
        );
    }
    assert_eq!(
        issue(&PKI.root, &PKI.root_key, &root_subject(&PKI.root_key)),
        "issuer role"
    );
}

#[test]
fn a_root_is_a_root_with_its_own_key() {
    let key = &PKI.root_key;
    let good = root_subject(key);
    let with = |change: fn(&mut Subject)| {
        let mut subject = good.clone();
        change(&mut subject);
        word(&issue_root(key, &subject).unwrap_err())
    };
    assert_eq!(with(|s| s.role = Role::SubCa), "issuer role");
    assert_eq!(with(|s| s.role = Role::Kdh), "issuer role");
    assert_eq!(
        with(|s| s.public_key = PKI.rsa.public_key().clone()),
        "issuer key"
    );
    assert_eq!(with(|s| s.validity = validity(3, 2)), "validity");
    assert_eq!(with(|s| s.hosts = vec!["root.example".into()]), "hosts");
    let p256 = root_subject(&PKI.p256);
    assert_eq!(word(&issue_root(&PKI.p256, &p256).unwrap_err()), "role");
}

#[test]
fn a_key_that_fails_or_signs_wrongly_issues_nothing() {
    let flip = |key: &SoftSigner, message: &[u8]| {
        let mut signature = key.raw_sign(message);
        signature[100] ^= 1;
        signature
    };
    let cases: [(&str, Behaviour, &str); 5] = [
        ("fails", Behaviour::Fails, "signing"),
        (
            "signs nothing",
            Behaviour::Signs(|_, _| Vec::new()),
            "wrong signature",
        ),
        ("flips a bit", Behaviour::Signs(flip), "wrong signature"),
        (
            "signs something else",
            Behaviour::Signs(|key, _| key.raw_sign(b"x")),
            "wrong signature",
        ),
        (
            "is another key",
            Behaviour::Signs(|_, m| PKI.rsa.raw_sign(m)),
            "wrong signature",
        ),
    ];
    for (case, behaviour, expected) in cases {
        let ca = Faulty {
            key: &PKI.ca_key,
            behaviour,
        };
        let issuer = Issuer {
            certificate: &PKI.ca,
            signer: &ca,
        };
        let certificate = issue_certificate(&issuer, &PKI.subject(Role::Kdh)).unwrap_err();
        assert_eq!(word(&certificate), expected, "certificate: {case}");
        let crl = issue_crl(&issuer, &crl_contents(&[])).unwrap_err();
        assert_eq!(word(&crl), expected, "revocation list: {case}");
        let csr = issue_csr(&ca, &name("CN=SN-0001")).unwrap_err();
        assert_eq!(word(&csr), expected, "request: {case}");
        let mut subject = root_subject(&PKI.ca_key);
        subject.public_key = PKI.ca_key.public_key().clone();
        let root = issue_root(&ca, &subject).unwrap_err();
        assert_eq!(word(&root), expected, "root: {case}");
    }
}

#[test]
fn the_cause_of_a_failed_signature_is_kept() {
    let ca = Faulty {
        key: &PKI.ca_key,
        behaviour: Behaviour::Fails,
    };
    let error = issue_csr(&ca, &name("CN=SN-0001")).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.downcast_ref(), Some(&Refused));
}

#[test]
fn unacceptable_revocation_lists_are_not_issued() {
    let twice = serial(0x31, 16);
    let kdh = PKI.certificate(Role::Kdh);
    let dated = |next_update| {
        let mut contents = crl_contents(&[]);
        contents.next_update = next_update;
        contents
    };
    let this_update = crl_contents(&[]).this_update;
    let issuer = PKI.issuer();
    for (case, contents, expected) in [
        ("next update now", dated(this_update), CrlError::Dates),
        (
            "next update before",
            dated(this_update - DAY),
            CrlError::Dates,
        ),
        (
            "listed twice",
            crl_contents(&[twice.clone(), serial(0x32, 16), twice.clone()]),
            CrlError::Duplicate(twice.clone()),
        ),
    ] {
        let error = issue_crl(&issuer, &contents).unwrap_err();
        assert!(
            matches!(&error, IssueError::Crl(found) if *found == expected),
            "{case}: {error}"
        );
    }
    for (case, certificate, signer) in [
        ("a KDH", &kdh, &PKI.rsa),
        ("a key of another CA", &PKI.ca, &PKI.other_ca_key),
        ("a P-256 key", &PKI.ca, &PKI.p256),
    ] {
        let error = issue_crl(
            &Issuer {
                certificate,
                signer,
            },
            &crl_contents(&[]),
        )
        .unwrap_err();
        assert_eq!(word(&error), "issuer key", "{case}");
    }
}
