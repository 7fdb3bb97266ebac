//! Unbind and rebind tokens: good ones pass, and each that differs in one thing is refused for that
//! thing.

use der::{Decode as _, Tag, Tagged as _, asn1::AnyRef};
use krd_client::{
    AuthenticToken, BindingTokenRefusal, CaTokenExpectation, KdhRefusal, KdhTokenExpectation,
    SigningTimeBounds, SigningTimeRefusal, TokenDigest, VerifiedBindingToken, verify_ca_rebind,
    verify_ca_unbind, verify_kdh_rebind, verify_kdh_unbind,
};
use pki::{Certificate, CredentialError, CrlError, CrlNumber, Role, RoleError, Signer as _};
use time::OffsetDateTime;
use tr34::{
    CaRebindToken, CaUnbindToken, IssuerAndSerial, KdhRebindToken, KdhUnbindToken, KrdNonce,
    Profile, TokenDraft,
};

use crate::world::{
    DAY, Known, NONCE, NOW, Sent, SoftSigner, WORLD, days, id, revoked, sign, signing_time,
};

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    KdhUnbind,
    KdhRebind,
    CaUnbind,
    CaRebind,
}

use Kind::{CaRebind, CaUnbind, KdhRebind, KdhUnbind};

const ALL: &[Kind] = &[KdhUnbind, KdhRebind, CaUnbind, CaRebind];
const BY_KDH: &[Kind] = &[KdhUnbind, KdhRebind];
const BY_CA: &[Kind] = &[CaUnbind, CaRebind];
const REBIND: &[Kind] = &[KdhRebind, CaRebind];

/// What a token is made of.
pub(crate) struct Order {
    pub(crate) profile: Profile,
    pub(crate) krd: IssuerAndSerial,
    /// Whom a CA takes the terminal from.
    pub(crate) kdh: IssuerAndSerial,
    pub(crate) new_kdh: Certificate,
    pub(crate) nonce: KrdNonce,
    pub(crate) at: OffsetDateTime,
    pub(crate) crl: Vec<u8>,
    pub(crate) signer: IssuerAndSerial,
    pub(crate) key: &'static SoftSigner,
}

impl Order {
    pub(crate) fn good(kind: Kind) -> Self {
        let by_ca = BY_CA.contains(&kind);
        Self {
            profile: Profile::X9_2019,
            krd: id(&WORLD.krd),
            kdh: id(&WORLD.kdh),
            new_kdh: WORLD.other_kdh.clone(),
            nonce: KrdNonce::from_bytes(NONCE),
            at: NOW,
            crl: WORLD.ca_kdh.crl(NOW, |_| {}),
            signer: id(if by_ca {
                &WORLD.ca_krd.certificate
            } else {
                &WORLD.kdh
            }),
            key: if by_ca {
                &WORLD.ca_krd.key
            } else {
                &WORLD.kdh_key
            },
        }
    }

    pub(crate) fn token(&self, kind: Kind) -> Vec<u8> {
        sign(self.draft(kind), self.key)
    }

    fn draft(&self, kind: Kind) -> TokenDraft {
        let at = signing_time(self.at);
        let (profile, krd, nonce, signer) = (self.profile, &self.krd, &self.nonce, &self.signer);
        let new_kdh = self.new_kdh.der();
        let draft = match kind {
            KdhUnbind => KdhUnbindToken::draft(profile, krd, nonce, at, signer, &self.crl),
            KdhRebind => KdhRebindToken::draft(profile, krd, new_kdh, nonce, at, signer, &self.crl),
            CaUnbind => CaUnbindToken::draft(profile, krd, &self.kdh, at, signer),
            CaRebind => CaRebindToken::draft(profile, krd, &self.kdh, new_kdh, at, signer),
        };
        draft.unwrap()
    }
}

/// What a terminal knows that is bound to a KDH.
struct Terminal {
    known: Known,
    ca: Certificate,
    since: OffsetDateTime,
}

impl Terminal {
    fn good() -> Self {
        Self {
            known: Known::good(),
            ca: WORLD.ca_krd.certificate.clone(),
            since: NOW - DAY,
        }
    }

    fn verify(
        &self,
        kind: Kind,
        token: &[u8],
    ) -> Result<VerifiedBindingToken, BindingTokenRefusal> {
        let known = &self.known;
        let by_kdh = KdhTokenExpectation {
            trust: known.trust(),
            kdh: &known.kdh,
            nonce: &known.nonce,
            own_id: &known.own_id,
        };
        let by_ca = CaTokenExpectation {
            trust: known.trust(),
            ca: &self.ca,
            own_id: &known.own_id,
            signing_time: SigningTimeBounds {
                since: self.since,
                last: None,
                now: known.now,
                skew: time::Duration::minutes(5),
            },
        };
        match kind {
            KdhUnbind => verify_kdh_unbind(token, &by_kdh),
            KdhRebind => verify_kdh_rebind(token, &by_kdh),
            CaUnbind => verify_ca_unbind(token, &by_ca),
            CaRebind => verify_ca_rebind(token, &by_ca),
        }
    }
}

#[test]
fn good_tokens_say_what_they_are() {
    for kind in ALL.iter().copied() {
        let token = Order::good(kind).token(kind);
        let verified = Terminal::good().verify(kind, &token).unwrap();
        let digest = TokenDigest::of(&token);
        assert_eq!(verified.digest(), digest);
        let (kdh, new) = (id(&WORLD.kdh), id(&WORLD.other_kdh));
        match (kind, verified.as_authentic()) {
            (KdhUnbind, AuthenticToken::KdhUnbind { token, signer }) => {
                assert_eq!((token, signer.id()), (digest, &kdh));
            }
            (KdhRebind, AuthenticToken::KdhRebind { signer, new: to }) => {
                assert_eq!((signer.id(), to.id()), (&kdh, &new));
            }
            (CaUnbind, AuthenticToken::CaUnbind { token, kdh: from }) => {
                assert_eq!((token, from), (digest, &kdh));
            }
            (
                CaRebind,
                AuthenticToken::CaRebind {
                    token,
                    kdh: from,
                    new: to,
                },
            ) => assert_eq!((token, from, to.id()), (digest, &kdh, &new)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn tokens_of_every_profile_pass_in_their_own() {
    for profile in Profile::ALL {
        for kind in ALL.iter().copied() {
            let (mut order, mut terminal) = (Order::good(kind), Terminal::good());
            order.profile = profile;
            order.nonce = KrdNonce::new(&NONCE[..profile.nonce_len()]).unwrap();
            terminal.known.profile = profile;
            terminal.known.nonce = order.nonce.clone();
            let verified = terminal.verify(kind, &order.token(kind));
            assert_eq!(verified.err(), None, "{kind:?} of {profile}");
        }
    }
}

/// The key of `CA_KRD` signs certificates and lists, too, each of which is one SEQUENCE; signed attributes are
/// one SET. What is signed without attributes is two SEQUENCEs: no signature is good for another purpose.
#[test]
fn what_a_ca_signs_in_a_token_is_nothing_else_that_it_signs() {
    for profile in Profile::ALL {
        for kind in BY_CA.iter().copied() {
            let order = Order {
                profile,
                ..Order::good(kind)
            };
            let draft = order.draft(kind);
            let one = AnyRef::from_der(draft.to_be_signed());
            if kind == CaUnbind && profile != Profile::Clover {
                assert_eq!(draft.to_be_signed()[0], 0x30, "{profile}");
                assert!(one.is_err(), "{profile}: one element");
            } else {
                assert_eq!(one.unwrap().tag(), Tag::Set, "{kind:?} of {profile}");
            }
        }
    }
}

type Change = fn(&mut Order, &mut Terminal);

/// Signed soundly, by whoever it is, and still not to be obeyed.
#[test]
fn each_is_refused_for_its_own_reason() {
    use BindingTokenRefusal as Refusal;
    let crl = |error: CrlError| Refusal::Kdh(error.into());
    let certificate = |error: CredentialError| Refusal::Kdh(error.into());
    let new_kdh = |error: CredentialError| Refusal::NewKdh(error.into());
    let cases: Vec<(&str, &[Kind], Change, Refusal)> = vec![
        // The revocation list.
        (
            "a stale CRL",
            BY_KDH,
            |order, _| {
                order.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.this_update = NOW - DAY * 9;
                    crl.next_update = NOW - DAY;
                });
            },
            crl(CrlError::Stale(NOW - DAY)),
        ),
        (
            "an older CRL",
            BY_KDH,
            |_, terminal| terminal.known.last_crl = Some(CrlNumber(8)),
            crl(CrlError::OlderThanSeen {
                found: CrlNumber(7),
                seen: CrlNumber(8),
            }),
        ),
        (
            "a CRL of the CA of terminals",
            BY_KDH,
            |order, _| order.crl = WORLD.ca_krd.crl(NOW, |_| {}),
            crl(CrlError::WrongIssuer),
        ),
        (
            "a forged CRL",
            BY_KDH,
            |order, _| *order.crl.last_mut().unwrap() ^= 1,
            crl(CrlError::BadSignature),
        ),
        (
            "a remembered CRL that has gone stale",
            &[CaRebind],
            |_, terminal| {
                terminal.known.crl = WORLD.ca_kdh.crl(NOW, |crl| crl.next_update = NOW - DAY / 2);
            },
            KdhRefusal::RememberedCrl(CrlError::Stale(NOW - DAY / 2)).into(),
        ),
        (
            "no remembered CRL",
            &[CaRebind],
            |_, terminal| terminal.known.last_crl = None,
            KdhRefusal::NoCrl.into(),
        ),
        // The signer.
        (
            "a KDH that is listed",
            BY_KDH,
            |order, _| {
                order.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
                });
            },
            KdhRefusal::Revoked.into(),
        ),
        (
            "a KDH that has expired",
            BY_KDH,
            |order, terminal| {
                terminal.known.kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, -9, -1);
                });
                order.signer = id(&terminal.known.kdh);
            },
            certificate(CredentialError::Expired),
        ),
        (
            "another KDH of the same CA",
            BY_KDH,
            |order, _| {
                order.signer = id(&WORLD.other_kdh);
                order.key = &WORLD.other_kdh_key;
                order.new_kdh = WORLD.kdh.clone();
            },
            KdhRefusal::OtherKdh.into(),
        ),
        (
            "the KDH's serial number under another issuer",
            BY_KDH,
            |order, _| {
                let issuer = WORLD.ca_krd.certificate.subject().der();
                order.signer = IssuerAndSerial::new(issuer, WORLD.kdh.serial().content()).unwrap();
            },
            KdhRefusal::OtherKdh.into(),
        ),
        (
            "the CA of hosts in the place of the KDH",
            BY_KDH,
            |order, _| {
                order.signer = id(&WORLD.ca_kdh.certificate);
                order.key = &WORLD.ca_kdh.key;
            },
            KdhRefusal::OtherKdh.into(),
        ),
        (
            "the CA of hosts in the place of that of terminals",
            BY_CA,
            |order, _| {
                order.signer = id(&WORLD.ca_kdh.certificate);
                order.key = &WORLD.ca_kdh.key;
            },
            Refusal::OtherCa,
        ),
        (
            "the KDH in the place of the CA",
            BY_CA,
            |order, _| {
                order.signer = id(&WORLD.kdh);
                order.key = &WORLD.kdh_key;
            },
            Refusal::OtherCa,
        ),
        (
            "the CA's serial number under another issuer",
            BY_CA,
            |order, _| {
                let issuer = WORLD.ca_krd.certificate.subject().der();
                let serial = WORLD.ca_krd.certificate.serial().content();
                order.signer = IssuerAndSerial::new(issuer, serial).unwrap();
            },
            Refusal::OtherCa,
        ),
        (
            "a CA that has expired",
            BY_CA,
            |_, terminal| terminal.known.now = NOW + DAY * 1001,
            Refusal::CaValidity,
        ),
        (
            "a CA that is not valid yet",
            BY_CA,
            |_, terminal| terminal.known.now = NOW - DAY * 31,
            Refusal::CaValidity,
        ),
        // The signature.
        (
            "a signature by another KDH's key",
            ALL,
            |order, _| order.key = &WORLD.other_kdh_key,
            Refusal::Signature,
        ),
        (
            "a signature by the terminal's key",
            ALL,
            |order, _| order.key = &WORLD.krd_key,
            Refusal::Signature,
        ),
        (
            "a signature by the CA of hosts",
            ALL,
            |order, _| order.key = &WORLD.ca_kdh.key,
            Refusal::Signature,
        ),
        // Nonce and terminal.
        (
            "another nonce",
            BY_KDH,
            |order, _| order.nonce = KrdNonce::from_bytes([0x77; 16]),
            Refusal::Nonce,
        ),
        (
            "a token that answered an earlier nonce",
            BY_KDH,
            |_, terminal| terminal.known.nonce = KrdNonce::from_bytes([0x77; 16]),
            Refusal::Nonce,
        ),
        (
            "another terminal",
            ALL,
            |order, _| {
                let key = WORLD.krd_key.public_key();
                let neighbour = WORLD
                    .ca_krd
                    .certify(NOW, Role::Krd, "KRD-000002", key, |_| {});
                order.krd = id(&neighbour);
            },
            Refusal::OtherKrd,
        ),
        (
            "this terminal's serial number under another issuer",
            ALL,
            |order, _| {
                let issuer = WORLD.ca_kdh.certificate.subject().der();
                order.krd = IssuerAndSerial::new(issuer, WORLD.krd.serial().content()).unwrap();
            },
            Refusal::OtherKrd,
        ),
        (
            "an earlier certificate of this terminal",
            ALL,
            |_, terminal| {
                let key = WORLD.krd_key.public_key();
                let renewed = WORLD
                    .ca_krd
                    .certify(NOW, Role::Krd, "KRD-000009", key, |_| {});
                terminal.known.own_id = id(&renewed);
            },
            Refusal::OtherKrd,
        ),
        // The signing time.
        (
            "a time far ahead",
            &[CaRebind],
            |order, _| order.at = NOW + DAY,
            SigningTimeRefusal::Ahead(signing_time(NOW + DAY)).into(),
        ),
        (
            "a time before the terminal had its certificate",
            &[CaRebind],
            |order, _| order.at = NOW - DAY * 2,
            SigningTimeRefusal::TooEarly(signing_time(NOW - DAY * 2)).into(),
        ),
        // The new KDH.
        (
            "a new KDH that is listed",
            &[KdhRebind],
            |order, _| {
                order.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.other_kdh, NOW)];
                });
            },
            Refusal::NewKdh(KdhRefusal::Revoked),
        ),
        (
            "a new KDH that is on the remembered list",
            &[CaRebind],
            |_, terminal| {
                terminal.known.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.other_kdh, NOW)];
                });
            },
            Refusal::NewKdh(KdhRefusal::Revoked),
        ),
        (
            "a new KDH by the CA of terminals",
            REBIND,
            |order, _| order.new_kdh = WORLD.kdh_with(&WORLD.ca_krd, Role::Kdh, |_| {}),
            new_kdh(CredentialError::UntrustedIssuer),
        ),
        (
            "a new KDH by a CA that took the name",
            REBIND,
            |order, _| order.new_kdh = WORLD.kdh_with(&WORLD.impostor, Role::Kdh, |_| {}),
            new_kdh(CredentialError::BadSignature),
        ),
        (
            "a new KDH that has expired",
            REBIND,
            |order, _| {
                order.new_kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, -9, -1);
                });
            },
            new_kdh(CredentialError::Expired),
        ),
        (
            "a new KDH that is not valid yet",
            REBIND,
            |order, _| {
                order.new_kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, 1, 9);
                });
            },
            new_kdh(CredentialError::NotYetValid),
        ),
        (
            "a terminal that plays the new KDH",
            REBIND,
            |order, _| order.new_kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Krd, |_| {}),
            new_kdh(CredentialError::WrongRole(RoleError::KeyUsage)),
        ),
        (
            "the CA as new KDH",
            REBIND,
            |order, _| order.new_kdh = WORLD.ca_kdh.certificate.clone(),
            new_kdh(CredentialError::WrongRole(RoleError::BasicConstraints)),
        ),
    ];
    for (case, kinds, change, refusal) in cases {
        for kind in kinds.iter().copied() {
            let (mut order, mut terminal) = (Order::good(kind), Terminal::good());
            change(&mut order, &mut terminal);
            let verified = terminal.verify(kind, &order.token(kind));
            assert_eq!(verified.err(), Some(refusal.clone()), "{case}: {kind:?}");
        }
    }
}

/// With a KDH's key too short for both, the one that signs is refused first.
#[test]
fn both_kdhs_need_the_strength_that_is_demanded() {
    let weak = KdhRefusal::KeyTooWeak {
        bits: 2048,
        minimum: 3072,
    };
    let mut terminal = Terminal::good();
    terminal.known.min_rsa_bits = 3072;
    for (kind, refusal) in [
        (KdhUnbind, BindingTokenRefusal::Kdh(weak.clone())),
        (KdhRebind, BindingTokenRefusal::Kdh(weak.clone())),
        (CaRebind, BindingTokenRefusal::NewKdh(weak)),
    ] {
        let token = Order::good(kind).token(kind);
        assert_eq!(terminal.verify(kind, &token).err(), Some(refusal));
    }
}

/// A token that fits another purpose, or another profile, does not parse as this one.
#[test]
fn tokens_are_not_taken_for_each_other() {
    let tokens = ALL
        .iter()
        .map(|kind| (*kind, Order::good(*kind).token(*kind)));
    let tokens: Vec<(Kind, Vec<u8>)> = tokens.collect();
    let key_token = Sent::good().token();
    for kind in ALL.iter().copied() {
        let others = tokens.iter().filter(|(of, _)| *of != kind);
        for token in others.map(|(_, token)| token).chain([&key_token]) {
            let refusal = Terminal::good().verify(kind, token).unwrap_err();
            assert!(
                matches!(refusal, BindingTokenRefusal::Malformed(_)),
                "{kind:?}"
            );
            assert_eq!(refusal.reason(), "token-malformed");
        }
        let mut terminal = Terminal::good();
        terminal.known.profile = Profile::Clover;
        let token = Order::good(kind).token(kind);
        let refusal = terminal.verify(kind, &token).unwrap_err();
        assert!(
            matches!(refusal, BindingTokenRefusal::Malformed(_)),
            "{kind:?}"
        );
    }
}

#[test]
fn no_byte_of_a_token_can_be_changed_or_missing() {
    for kind in ALL.iter().copied() {
        let good = Order::good(kind).token(kind);
        let terminal = Terminal::good();
        for position in 0..good.len() {
            let mut token = good.clone();
            token[position] ^= 1 << (position % 8);
            assert!(
                terminal.verify(kind, &token).is_err(),
                "{kind:?}: byte {position}"
            );
            let refusal = terminal.verify(kind, &good[..position]).unwrap_err();
            assert!(matches!(refusal, BindingTokenRefusal::Malformed(_)));
        }
        let longer = [&good[..], &[0]].concat();
        assert!(terminal.verify(kind, &longer).is_err());
    }
}
