//! What Bind and Enroll bring: good answers pass, and each that differs in one thing is refused for
//! that thing.

use krd_client::{
    BindRefusal, CurrentKdhCredential, DeviceSerial, EnrollExpectation, EnrollRefusal, KdhRefusal,
    OwnCertificate, verify_enrollment, verify_kdh_credential,
};
use pki::{Certificate, CredentialError, CrlError, CrlNumber, Role, RoleError, Signer as _};
use tr34::{KdhCredentialToken, KrdCredentialToken, Profile};

use crate::world::{Ca, DAY, Known, NOW, SERIAL, WORLD, days, id, revoked};

// ---------------------------------------------------------------- Bind

/// What `CT_KDH` is made of.
struct SentKdh {
    certificate: Certificate,
    crl: Vec<u8>,
}

impl SentKdh {
    fn good() -> Self {
        Self {
            certificate: WORLD.kdh.clone(),
            crl: WORLD.ca_kdh.crl(NOW, |_| {}),
        }
    }

    fn token(&self) -> Vec<u8> {
        KdhCredentialToken::new(self.certificate.der(), &self.crl)
            .unwrap()
            .to_der(Profile::X9_2019)
    }
}

#[test]
fn a_good_kdh_passes() {
    let token = SentKdh::good().token();
    let kdh = verify_kdh_credential(&token, &Known::good().trust()).unwrap();
    assert_eq!(*kdh.id(), id(&WORLD.kdh));
    assert_eq!(kdh.role(), Role::Kdh);
}

#[test]
fn each_kdh_is_refused_for_its_own_reason() {
    type Change = fn(&mut SentKdh, &mut Known);
    let cases: Vec<(&str, Change, KdhRefusal)> = vec![
        (
            "a stale CRL",
            |_, known| known.now = NOW + DAY * 8,
            CrlError::Stale(NOW + DAY * 7).into(),
        ),
        (
            "an older CRL",
            |_, known| known.last_crl = Some(CrlNumber(8)),
            CrlError::OlderThanSeen {
                found: CrlNumber(7),
                seen: CrlNumber(8),
            }
            .into(),
        ),
        (
            "a forged CRL",
            |sent, _| *sent.crl.last_mut().unwrap() ^= 1,
            CrlError::BadSignature.into(),
        ),
        (
            "a CRL of another CA",
            |sent, _| sent.crl = WORLD.ca_krd.crl(NOW, |_| {}),
            CrlError::WrongIssuer.into(),
        ),
        (
            "a listed KDH",
            |sent, _| {
                sent.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
                });
            },
            KdhRefusal::Revoked,
        ),
        (
            "another CA",
            |sent, _| sent.certificate = WORLD.kdh_with(&WORLD.ca_krd, Role::Kdh, |_| {}),
            CredentialError::UntrustedIssuer.into(),
        ),
        (
            "a CA that took the name",
            |sent, _| sent.certificate = WORLD.kdh_with(&WORLD.impostor, Role::Kdh, |_| {}),
            CredentialError::BadSignature.into(),
        ),
        (
            "an expired certificate",
            |sent, _| {
                sent.certificate = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, -9, -1);
                });
            },
            CredentialError::Expired.into(),
        ),
        (
            "a certificate from the future",
            |sent, _| {
                sent.certificate = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, 1, 9);
                });
            },
            CredentialError::NotYetValid.into(),
        ),
        (
            "a terminal that plays the host",
            |sent, _| sent.certificate = WORLD.kdh_with(&WORLD.ca_kdh, Role::Krd, |_| {}),
            CredentialError::WrongRole(RoleError::KeyUsage).into(),
        ),
        (
            "a TLS server that plays the KDH",
            |sent, _| {
                let key = WORLD.tls_key.public_key();
                sent.certificate = WORLD
                    .ca_kdh
                    .certify(NOW, Role::HostTls, "KDH 1", key, |_| {});
            },
            CredentialError::WrongRole(RoleError::KeyKind).into(),
        ),
        (
            "a key that is too short",
            |_, known| known.min_rsa_bits = 3072,
            KdhRefusal::KeyTooWeak {
                bits: 2048,
                minimum: 3072,
            },
        ),
    ];
    for (case, change, refusal) in cases {
        let (mut sent, mut known) = (SentKdh::good(), Known::good());
        change(&mut sent, &mut known);
        let verified = verify_kdh_credential(&sent.token(), &known.trust());
        assert_eq!(verified.err(), Some(BindRefusal::Kdh(refusal)), "{case}");
    }
}

/// Else a host that is listed could make the terminal forget it by an older list.
#[test]
fn a_list_is_known_before_the_kdh_is_refused() {
    let sent = SentKdh {
        crl: WORLD.ca_kdh.crl(NOW, |crl| {
            crl.number = CrlNumber(9);
            crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
        }),
        ..SentKdh::good()
    };
    let known = Known::good();
    let credential = CurrentKdhCredential::verify(&sent.token(), &known.trust()).unwrap();
    assert_eq!(credential.crl().number(), CrlNumber(9));
    let refusal = credential.verify_kdh(&known.trust()).unwrap_err();
    assert_eq!(refusal, KdhRefusal::Revoked.into());
}

#[test]
fn a_damaged_ct_kdh_is_refused() {
    let good = SentKdh::good().token();
    let known = Known::good();
    let trust = known.trust();
    let verify = |token: &[u8]| verify_kdh_credential(token, &trust);
    assert!(verify(&good).is_ok());
    let ct_krd = KrdCredentialToken::new(WORLD.kdh.der())
        .unwrap()
        .to_der(Profile::X9_2019);
    let cases: [(&str, Vec<u8>); 4] = [
        ("nothing", vec![]),
        ("cut by a byte", good[..good.len() - 1].to_vec()),
        ("a byte more", [&good[..], &[0]].concat()),
        ("no CRL", ct_krd),
    ];
    for (case, token) in cases {
        let refusal = verify(&token).unwrap_err();
        assert!(
            matches!(refusal, BindRefusal::Malformed(_)),
            "{case}: {refusal}"
        );
        assert_eq!(refusal.reason(), "token-malformed", "{case}");
    }
    for position in 0..good.len() {
        let mut token = good.clone();
        token[position] ^= 1 << (position % 8);
        assert!(verify(&token).is_err(), "byte {position}");
    }
}

// ---------------------------------------------------------------- Enroll

/// What Enroll brings.
struct SentCertificates {
    encryption: Certificate,
    authentication: Certificate,
    chain: Vec<Vec<u8>>,
}

fn encryption_by(ca: &Ca, role: Role, serial: &str) -> Certificate {
    ca.certify(NOW, role, serial, WORLD.krd_key.public_key(), |_| {})
}

fn authentication_by(ca: &Ca, role: Role, serial: &str) -> Certificate {
    ca.certify(NOW, role, serial, WORLD.tls_key.public_key(), |_| {})
}

impl SentCertificates {
    fn good() -> Self {
        Self {
            encryption: WORLD.krd.clone(),
            authentication: authentication_by(&WORLD.ca_krd, Role::KrdTls, SERIAL),
            chain: vec![WORLD.ca_krd.certificate.der().to_vec()],
        }
    }

    fn verify(&self) -> Result<krd_client::Credentials, EnrollRefusal> {
        let ct_krd = KrdCredentialToken::new(self.encryption.der())
            .unwrap()
            .to_der(Profile::X9_2019);
        verify_enrollment(
            &ct_krd,
            self.authentication.der(),
            &self.chain,
            &expectation(&SERIAL.parse().unwrap()),
        )
    }
}

fn expectation(serial: &DeviceSerial) -> EnrollExpectation<'_> {
    EnrollExpectation {
        profile: Profile::X9_2019,
        ca: &WORLD.ca_krd.certificate,
        serial,
        encryption_key: WORLD.krd_key.public_key(),
        authentication_key: WORLD.tls_key.public_key(),
        now: NOW,
    }
}

#[test]
fn good_certificates_are_kept() {
    let sent = SentCertificates::good();
    let kept = sent.verify().unwrap();
    assert_eq!(kept.encryption, sent.encryption);
    assert_eq!(kept.authentication, sent.authentication);
    assert_eq!(kept.chain.len(), 1);
    assert_eq!(kept.chain[0], WORLD.ca_krd.certificate);
}

#[test]
fn each_certificate_is_refused_for_its_own_reason() {
    use OwnCertificate::{Authentication, Encryption};
    type Change = fn(&mut SentCertificates);
    let role = |which, error| EnrollRefusal::Credential(which, CredentialError::WrongRole(error));
    let credential = EnrollRefusal::Credential;
    let cases: Vec<(&str, Change, EnrollRefusal)> = vec![
        (
            "encryption: somebody else's key",
            |sent| {
                let key = WORLD.other_kdh_key.public_key();
                sent.encryption = WORLD.ca_krd.certify(NOW, Role::Krd, SERIAL, key, |_| {});
            },
            EnrollRefusal::OtherKey(Encryption),
        ),
        (
            "authentication: the encryption key",
            |sent| sent.authentication = WORLD.krd.clone(),
            EnrollRefusal::OtherKey(Authentication),
        ),
        (
            "the two changed places",
            |sent| std::mem::swap(&mut sent.encryption, &mut sent.authentication),
            EnrollRefusal::OtherKey(Encryption),
        ),
        (
            "encryption: another serial number",
            |sent| sent.encryption = encryption_by(&WORLD.ca_krd, Role::Krd, "KRD-000002"),
            EnrollRefusal::OtherSerial(Encryption),
        ),
        (
            "authentication: another serial number",
            |sent| {
                sent.authentication = authentication_by(&WORLD.ca_krd, Role::KrdTls, "KRD-00000");
            },
            EnrollRefusal::OtherSerial(Authentication),
        ),
        (
            "encryption: the CA of hosts",
            |sent| sent.encryption = encryption_by(&WORLD.ca_kdh, Role::Krd, SERIAL),
            credential(Encryption, CredentialError::UntrustedIssuer),
        ),
        (
            "authentication: the CA of operators",
            |sent| sent.authentication = authentication_by(&WORLD.ca_ops, Role::KrdTls, SERIAL),
            credential(Authentication, CredentialError::UntrustedIssuer),
        ),
        (
            "encryption: a host's role",
            |sent| sent.encryption = encryption_by(&WORLD.ca_krd, Role::Kdh, SERIAL),
            role(Encryption, RoleError::KeyUsage),
        ),
        (
            "authentication: an operator's role",
            |sent| sent.authentication = authentication_by(&WORLD.ca_krd, Role::Operator, SERIAL),
            role(Authentication, RoleError::Unit),
        ),
        (
            "authentication: a server's role",
            |sent| {
                let key = WORLD.tls_key.public_key();
                let server = |subject: &mut pki::Subject| {
                    subject.hosts = vec!["127.0.0.1".to_owned()];
                };
                sent.authentication = WORLD
                    .ca_krd
                    .certify(NOW, Role::HostTls, SERIAL, key, server);
            },
            role(Authentication, RoleError::ExtendedKeyUsage),
        ),
        (
            "encryption: expired",
            |sent| {
                let key = WORLD.krd_key.public_key();
                sent.encryption = WORLD
                    .ca_krd
                    .certify(NOW, Role::Krd, SERIAL, key, |subject| {
                        subject.validity = days(NOW, -9, -1);
                    });
            },
            credential(Encryption, CredentialError::Expired),
        ),
        (
            "authentication: not valid yet",
            |sent| {
                let key = WORLD.tls_key.public_key();
                sent.authentication =
                    WORLD
                        .ca_krd
                        .certify(NOW, Role::KrdTls, SERIAL, key, |subject| {
                            subject.validity = days(NOW, 1, 9);
                        });
            },
            credential(Authentication, CredentialError::NotYetValid),
        ),
        ("no chain", |sent| sent.chain.clear(), EnrollRefusal::Chain),
        (
            "a chain to another CA",
            |sent| sent.chain[0] = WORLD.ca_kdh.certificate.der().to_vec(),
            EnrollRefusal::Chain,
        ),
        (
            "a chain without end",
            |sent| sent.chain = vec![sent.chain[0].clone(); 5],
            EnrollRefusal::Chain,
        ),
        (
            "a chain of something else",
            |sent| sent.chain[0].push(0),
            EnrollRefusal::Certificate(pki::CertificateError::Malformed),
        ),
    ];
    for (case, change, refusal) in cases {
        let mut sent = SentCertificates::good();
        change(&mut sent);
        assert_eq!(sent.verify().err(), Some(refusal), "{case}");
    }
}

#[test]
fn a_damaged_ct_krd_is_refused() {
    let good = KrdCredentialToken::new(WORLD.krd.der())
        .unwrap()
        .to_der(Profile::X9_2019);
    let authentication = SentCertificates::good().authentication;
    let chain = SentCertificates::good().chain;
    let serial = SERIAL.parse().unwrap();
    let cases: [(&str, Vec<u8>); 3] = [
        ("nothing", vec![]),
        ("cut by a byte", good[..good.len() - 1].to_vec()),
        ("a byte more", [&good[..], &[0]].concat()),
    ];
    for (case, token) in cases {
        let verified =
            verify_enrollment(&token, authentication.der(), &chain, &expectation(&serial));
        let refusal = verified.unwrap_err();
        assert!(
            matches!(refusal, EnrollRefusal::Malformed(_)),
            "{case}: {refusal}"
        );
    }
}
