//! Key tokens: a good one passes, and each that differs in one thing is refused for that thing.

use krd_client::{
    KdhRefusal, LoadRefusal, SigningTimeBounds, SigningTimeRefusal, verify_key_token,
};
use pki::{CredentialError, CrlError, CrlNumber, Role, RoleError, Signer as _};
use time::{Duration, OffsetDateTime};
use tr34::{
    ContentCipher, IssuerAndSerial, KeyKind, KrdNonce, MalformedToken, OaepHash, Profile, Rule,
    TokenKind,
};

use crate::world::{
    DAY, HEADER, Known, NONCE, NOW, OTHER_HEADER, Sent, TDEA_HEADER, WORLD, days, header, id,
    revoked, signing_time,
};

#[test]
fn a_good_token_passes() {
    let token = Sent::good().token();
    let verified = verify_key_token(&token, &Known::good().expectation()).unwrap();
    assert_eq!(*verified.header(), header(HEADER));
    assert_eq!(*verified.enveloped().recipient(), id(&WORLD.krd));
}

type Change = fn(&mut Sent, &mut Known);

/// What may differ without harm.
#[test]
fn these_pass_too() {
    let cases: [(&str, Change); 11] = [
        ("no list seen before", |_, known| known.last_crl = None),
        ("a newer list than seen", |sent, _| {
            sent.crl = WORLD.ca_kdh.crl(NOW, |crl| crl.number = CrlNumber(8));
        }),
        ("a list with another KDH on it", |sent, _| {
            sent.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                crl.revoked = vec![revoked(&WORLD.other_kdh, NOW)];
            });
        }),
        ("the list's last second", |sent, _| {
            sent.crl = WORLD
                .ca_kdh
                .crl(NOW, |crl| crl.next_update = NOW + Duration::SECOND);
        }),
        ("SHA-1 where it is allowed", |sent, known| {
            sent.oaep = OaepHash::Sha1;
            known.oaep_hashes.push(OaepHash::Sha1);
        }),
        ("a longer Ke than needed", |sent, _| {
            sent.cipher = ContentCipher::Aes256Cbc;
        }),
        ("a TDEA key under TDEA", |sent, known| {
            sent.cipher = ContentCipher::DesEde3Cbc;
            sent.header = header(TDEA_HEADER);
            known.header = header(TDEA_HEADER);
        }),
        ("a one-pass token", |sent, known| {
            sent.signed_at = Some(NOW);
            known.signing_time = Some(one_pass(None));
        }),
        (
            "a one-pass token that is later than the last",
            |sent, known| {
                sent.signed_at = Some(NOW + Duration::minutes(5));
                known.signing_time = Some(one_pass(Some(NOW + Duration::seconds(299))));
            },
        ),
        ("no list, where the profile has none", |sent, known| {
            sent.profile = Profile::Aws2012;
            sent.nonce = KrdNonce::new(&NONCE[..8]).unwrap();
            (known.profile, known.nonce) = (sent.profile, sent.nonce.clone());
        }),
        ("another header, announced", |sent, known| {
            sent.header = header(OTHER_HEADER);
            known.header = header(OTHER_HEADER);
        }),
    ];
    for (case, change) in cases {
        let (mut sent, mut known) = (Sent::good(), Known::good());
        change(&mut sent, &mut known);
        let verified = verify_key_token(&sent.token(), &known.expectation());
        assert_eq!(verified.err(), None, "{case}");
    }
}

/// Of a terminal that was certified a day ago.
fn one_pass(last: Option<OffsetDateTime>) -> SigningTimeBounds {
    SigningTimeBounds {
        since: NOW - DAY,
        last: last.map(signing_time),
        now: NOW,
        skew: Duration::minutes(5),
    }
}

/// A token of a profile that has no revocation list in it.
fn without_list(sent: &mut Sent, known: &mut Known) {
    (sent.profile, known.profile) = (Profile::Clover, Profile::Clover);
}

/// Signed soundly, by whoever it is, and still not to be loaded.
#[test]
fn each_is_refused_for_its_own_reason() {
    let crl = |error: CrlError| LoadRefusal::Kdh(KdhRefusal::Crl(error));
    let certificate = |error| LoadRefusal::Kdh(KdhRefusal::Certificate(error));
    let other_kdh = LoadRefusal::Kdh(KdhRefusal::OtherKdh);
    let cases: Vec<(&str, Change, LoadRefusal)> = vec![
        // The revocation list.
        (
            "a stale CRL",
            |sent, _| {
                sent.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.this_update = NOW - DAY * 9;
                    crl.next_update = NOW - DAY;
                });
            },
            crl(CrlError::Stale(NOW - DAY)),
        ),
        (
            "a CRL that goes stale while the token travels",
            |_, known| known.now = NOW + DAY * 7 + Duration::SECOND,
            crl(CrlError::Stale(NOW + DAY * 7)),
        ),
        (
            "a CRL from the future",
            |sent, _| {
                sent.crl = WORLD.ca_kdh.crl(NOW, |crl| crl.this_update = NOW + DAY);
            },
            crl(CrlError::NotYetValid(NOW + DAY)),
        ),
        (
            "an older CRL",
            |sent, _| sent.crl = WORLD.ca_kdh.crl(NOW, |crl| crl.number = CrlNumber(6)),
            crl(CrlError::OlderThanSeen {
                found: CrlNumber(6),
                seen: CrlNumber(7),
            }),
        ),
        (
            "a CRL that is older than one seen since",
            |_, known| known.last_crl = Some(CrlNumber(8)),
            crl(CrlError::OlderThanSeen {
                found: CrlNumber(7),
                seen: CrlNumber(8),
            }),
        ),
        (
            "a CRL of the CA of terminals",
            |sent, _| sent.crl = WORLD.ca_krd.crl(NOW, |_| {}),
            crl(CrlError::WrongIssuer),
        ),
        (
            "a CRL of a CA that took the name",
            |sent, _| sent.crl = WORLD.impostor.crl(NOW, |_| {}),
            crl(CrlError::WrongIssuer),
        ),
        (
            "a forged CRL",
            |sent, _| *sent.crl.last_mut().unwrap() ^= 1,
            crl(CrlError::BadSignature),
        ),
        (
            "a CRL with its entry painted over",
            |sent, _| {
                sent.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
                });
                overwrite(&mut sent.crl, WORLD.kdh.serial().content(), |byte| byte ^ 1);
            },
            crl(CrlError::BadSignature),
        ),
        (
            "no CRL, and none remembered",
            |sent, known| {
                without_list(sent, known);
                known.last_crl = None;
            },
            LoadRefusal::Kdh(KdhRefusal::NoCrl),
        ),
        (
            "no CRL, and the remembered one is stale",
            |sent, known| {
                without_list(sent, known);
                known.now = NOW + DAY * 8;
            },
            LoadRefusal::Kdh(KdhRefusal::RememberedCrl(CrlError::Stale(NOW + DAY * 7))),
        ),
        (
            "no CRL, and the remembered one lists the KDH",
            |sent, known| {
                without_list(sent, known);
                known.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
                });
            },
            LoadRefusal::Kdh(KdhRefusal::Revoked),
        ),
        // The KDH.
        (
            "a CRL that lists the KDH",
            |sent, _| {
                sent.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
                });
            },
            LoadRefusal::Kdh(KdhRefusal::Revoked),
        ),
        (
            "a KDH certificate that has expired",
            |sent, known| {
                known.kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, -9, -1);
                });
                sent.signer = id(&known.kdh);
            },
            certificate(CredentialError::Expired),
        ),
        (
            "a KDH certificate that is not valid yet",
            |sent, known| {
                known.kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Kdh, |subject| {
                    subject.validity = days(NOW, 1, 9);
                });
                sent.signer = id(&known.kdh);
            },
            certificate(CredentialError::NotYetValid),
        ),
        (
            "a KDH certificate by the CA of terminals",
            |sent, known| {
                known.kdh = WORLD.kdh_with(&WORLD.ca_krd, Role::Kdh, |_| {});
                sent.signer = id(&known.kdh);
            },
            certificate(CredentialError::UntrustedIssuer),
        ),
        (
            "a KDH certificate by a CA that took the name",
            |sent, known| {
                known.kdh = WORLD.kdh_with(&WORLD.impostor, Role::Kdh, |_| {});
                sent.signer = id(&known.kdh);
            },
            certificate(CredentialError::BadSignature),
        ),
        (
            "a KRD certificate as KDH",
            |sent, known| {
                known.kdh = WORLD.kdh_with(&WORLD.ca_kdh, Role::Krd, |_| {});
                sent.signer = id(&known.kdh);
            },
            certificate(CredentialError::WrongRole(RoleError::KeyUsage)),
        ),
        (
            "a TLS certificate as KDH",
            |sent, known| {
                let key = WORLD.tls_key.public_key();
                known.kdh = WORLD
                    .ca_kdh
                    .certify(NOW, Role::HostTls, "KDH 1", key, |_| {});
                sent.signer = id(&known.kdh);
            },
            certificate(CredentialError::WrongRole(RoleError::KeyKind)),
        ),
        (
            "the CA's own certificate as KDH",
            |sent, known| {
                known.kdh = WORLD.ca_kdh.certificate.clone();
                sent.signer = id(&known.kdh);
                sent.key = &WORLD.ca_kdh.key;
            },
            certificate(CredentialError::WrongRole(RoleError::BasicConstraints)),
        ),
        (
            "the root as CA of KDHs",
            |sent, known| {
                known.ca = WORLD.root().clone();
                sent.crl = WORLD.ca_kdh.crl(NOW, |_| {});
            },
            crl(CrlError::WrongIssuer),
        ),
        (
            "a KDH key that is shorter than demanded",
            |_, known| known.min_rsa_bits = 3072,
            LoadRefusal::Kdh(KdhRefusal::KeyTooWeak {
                bits: 2048,
                minimum: 3072,
            }),
        ),
        (
            "another KDH of the same CA",
            |sent, _| {
                sent.signer = id(&WORLD.other_kdh);
                sent.key = &WORLD.other_kdh_key;
            },
            other_kdh.clone(),
        ),
        (
            "the KDH's serial number under another issuer",
            |sent, _| {
                let issuer = WORLD.ca_krd.certificate.subject();
                sent.signer =
                    IssuerAndSerial::new(issuer.der(), WORLD.kdh.serial().content()).unwrap();
            },
            other_kdh,
        ),
        // The signature.
        (
            "a signature by another KDH's key",
            |sent, _| sent.key = &WORLD.other_kdh_key,
            LoadRefusal::Signature,
        ),
        (
            "a signature by the terminal's key",
            |sent, _| sent.key = &WORLD.krd_key,
            LoadRefusal::Signature,
        ),
        // Nonce and recipient.
        (
            "another nonce",
            |sent, _| {
                let mut nonce = sent.nonce.as_bytes().to_vec();
                nonce[15] ^= 1;
                sent.nonce = KrdNonce::new(&nonce).unwrap();
            },
            LoadRefusal::Nonce,
        ),
        (
            "a token that answered an earlier nonce",
            |_, known| known.nonce = KrdNonce::from_bytes([0x77; 16]),
            LoadRefusal::Nonce,
        ),
        (
            "a one-pass token in answer to a nonce",
            |sent, _| sent.signed_at = Some(NOW),
            LoadRefusal::OnePass,
        ),
        (
            "a two-pass token that nobody asked for",
            |_, known| known.signing_time = Some(one_pass(None)),
            LoadRefusal::TwoPass,
        ),
        (
            "the last one-pass token again",
            |sent, known| {
                sent.signed_at = Some(NOW);
                known.signing_time = Some(one_pass(Some(NOW)));
            },
            SigningTimeRefusal::NotLater {
                found: signing_time(NOW),
                last: signing_time(NOW),
            }
            .into(),
        ),
        (
            "an earlier one-pass token",
            |sent, known| {
                sent.signed_at = Some(NOW - Duration::SECOND);
                known.signing_time = Some(one_pass(Some(NOW)));
            },
            SigningTimeRefusal::NotLater {
                found: signing_time(NOW - Duration::SECOND),
                last: signing_time(NOW),
            }
            .into(),
        ),
        (
            "a one-pass token from the future",
            |sent, known| {
                sent.signed_at = Some(NOW + Duration::seconds(301));
                known.signing_time = Some(one_pass(None));
            },
            SigningTimeRefusal::Ahead(signing_time(NOW + Duration::seconds(301))).into(),
        ),
        (
            "a one-pass token from before the terminal's certificate",
            |sent, known| {
                sent.signed_at = Some(NOW - DAY - Duration::SECOND);
                known.signing_time = Some(one_pass(None));
            },
            SigningTimeRefusal::TooEarly(signing_time(NOW - DAY - Duration::SECOND)).into(),
        ),
        (
            "another terminal",
            |sent, _| {
                let key = WORLD.krd_key.public_key();
                let other = WORLD
                    .ca_krd
                    .certify(NOW, Role::Krd, "KRD-000002", key, |_| {});
                sent.recipient = id(&other);
            },
            LoadRefusal::Recipient,
        ),
        (
            "this terminal's serial number under another issuer",
            |sent, _| {
                let issuer = WORLD.ca_kdh.certificate.subject();
                sent.recipient =
                    IssuerAndSerial::new(issuer.der(), WORLD.krd.serial().content()).unwrap();
            },
            LoadRefusal::Recipient,
        ),
        // The hash.
        (
            "OAEP with SHA-1 where SHA-256 is demanded",
            |sent, _| sent.oaep = OaepHash::Sha1,
            LoadRefusal::OaepHash(OaepHash::Sha1),
        ),
        (
            "OAEP with SHA-256 where SHA-1 is demanded",
            |_, known| known.oaep_hashes = vec![OaepHash::Sha1],
            LoadRefusal::OaepHash(OaepHash::Sha256),
        ),
        (
            "no OAEP hash is accepted",
            |_, known| known.oaep_hashes.clear(),
            LoadRefusal::OaepHash(OaepHash::Sha256),
        ),
        // The cipher.
        (
            "an AES key under TDEA",
            |sent, _| sent.cipher = ContentCipher::DesEde3Cbc,
            LoadRefusal::EphemeralKeyTooWeak(KeyKind::Aes128),
        ),
        (
            "an AES key under TDEA, announced as a TDEA key",
            |sent, known| {
                sent.cipher = ContentCipher::DesEde3Cbc;
                known.header = header(TDEA_HEADER);
            },
            LoadRefusal::EphemeralKeyTooWeak(KeyKind::Aes128),
        ),
    ];
    for (case, change, refusal) in cases {
        let (mut sent, mut known) = (Sent::good(), Known::good());
        change(&mut sent, &mut known);
        let verified = verify_key_token(&sent.token(), &known.expectation());
        assert_eq!(verified.err(), Some(refusal), "{case}");
    }
}

#[test]
fn tokens_of_another_profile_are_malformed() {
    for profile in Profile::ALL {
        let mut sent = Sent::good();
        sent.profile = profile;
        sent.nonce = KrdNonce::new(&NONCE[..profile.nonce_len()]).unwrap();
        // Two that differ only inside of the key block.
        let alike = [Profile::X9_2019, Profile::X9_2019AnnexD].contains(&profile);
        let verified = verify_key_token(&sent.token(), &Known::good().expectation());
        match verified {
            Ok(_) => assert!(alike, "{profile}"),
            Err(refusal) => {
                assert!(!alike, "{profile}");
                assert!(matches!(refusal, LoadRefusal::Malformed(_)), "{profile}");
            }
        }
    }
}

/// A token that differs in two things is refused for the one that is checked first.
#[test]
fn the_checks_have_their_order() {
    let changes: [(&str, Change); 7] = [
        ("crl-older-than-seen", |_, known| {
            known.last_crl = Some(CrlNumber(8));
        }),
        ("kdh-revoked", |sent, _| {
            sent.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                crl.revoked = vec![revoked(&WORLD.kdh, NOW)];
            });
        }),
        ("kdh-key-too-weak", |_, known| known.min_rsa_bits = 4096),
        ("signature-invalid", |sent, _| {
            sent.key = &WORLD.other_kdh_key;
        }),
        ("nonce-mismatch", |_, known| {
            known.nonce = KrdNonce::from_bytes([0x77; 16]);
        }),
        ("other-recipient", |_, known| {
            known.own_id = id(&WORLD.kdh);
        }),
        ("oaep-hash-excluded", |_, known| known.oaep_hashes.clear()),
    ];
    for first in 0..changes.len() {
        let (mut sent, mut known) = (Sent::good(), Known::good());
        for (_, change) in &changes[first..] {
            change(&mut sent, &mut known);
        }
        let refusal = verify_key_token(&sent.token(), &known.expectation()).unwrap_err();
        assert_eq!(refusal.reason(), changes[first].0);
    }
}

/// Bytes that were changed on the way.
#[test]
fn damage_is_found_where_it_is() {
    let sent = Sent::good();
    let good = sent.token();
    let signature = good.len() - 256;
    let changed = |position: usize| {
        let mut token = good.clone();
        token[position] ^= 1;
        token
    };
    let at = |part: &[u8]| find(&good, part);
    let broken = |token, rule| malformed(token, rule);
    let crl_end = at(&sent.crl) + sent.crl.len() - 1;
    let cases = [
        (
            "nonce",
            changed(at(b"sixteen bytes ok")),
            LoadRefusal::Signature,
        ),
        (
            "header",
            // ...K0AB to ...K0AC, which is a header too.
            changed(at(HEADER.as_bytes()) + 8),
            LoadRefusal::Signature,
        ),
        ("signature", changed(signature), LoadRefusal::Signature),
        (
            "end of signature",
            changed(good.len() - 1),
            LoadRefusal::Signature,
        ),
        (
            "ciphertext",
            changed(at(&[0xC1; 144])),
            broken(TokenKind::KeyToken, Rule::DigestMismatch),
        ),
        (
            "encrypted Ke",
            changed(at(&[0xE1; 256])),
            broken(TokenKind::KeyToken, Rule::DigestMismatch),
        ),
        (
            "end of CRL",
            changed(crl_end),
            LoadRefusal::Kdh(KdhRefusal::Crl(CrlError::BadSignature)),
        ),
        (
            "no CRL",
            with_crls(&good, &sent.crl, 0),
            broken(
                TokenKind::KeyToken,
                Rule::NotExactlyOne {
                    field: "crls",
                    found: 0,
                },
            ),
        ),
        (
            "two CRLs",
            with_crls(&good, &sent.crl, 2),
            broken(
                TokenKind::KeyToken,
                Rule::NotExactlyOne {
                    field: "crls",
                    found: 2,
                },
            ),
        ),
        (
            "far too long",
            vec![0x30; 64 * 1024 + 1],
            broken(
                TokenKind::KeyToken,
                Rule::TooLong {
                    found: 64 * 1024 + 1,
                },
            ),
        ),
    ];
    let known = Known::good();
    for (case, token, refusal) in cases {
        let verified = verify_key_token(&token, &known.expectation());
        assert_eq!(verified.err().map(anywhere), Some(refusal), "{case}");
    }
}

fn malformed(token: TokenKind, rule: Rule) -> LoadRefusal {
    LoadRefusal::Malformed(MalformedToken {
        token,
        offset: None,
        rule,
    })
}

/// Where a token breaks its rules is for the tests of its reader.
fn anywhere(refusal: LoadRefusal) -> LoadRefusal {
    match refusal {
        LoadRefusal::Malformed(MalformedToken { token, rule, .. }) => malformed(token, rule),
        other => other,
    }
}

#[test]
fn what_does_not_parse_is_malformed() {
    let good = Sent::good().token();
    let cases: [(&str, Vec<u8>); 7] = [
        ("nothing", vec![]),
        ("one byte", good[..1].to_vec()),
        ("cut by a byte", good[..good.len() - 1].to_vec()),
        ("cut in half", good[..good.len() / 2].to_vec()),
        ("a byte more", [&good[..], &[0]].concat()),
        ("twice", [&good[..], &good[..]].concat()),
        (
            "its length left open",
            [&[0x30, 0x80], &good[4..], &[0, 0]].concat(),
        ),
    ];
    let known = Known::good();
    for (case, token) in cases {
        let refusal = verify_key_token(&token, &known.expectation()).unwrap_err();
        assert!(
            matches!(refusal, LoadRefusal::Malformed(_)),
            "{case}: {refusal}"
        );
        assert_eq!(refusal.reason(), "token-malformed", "{case}");
    }
}

#[test]
fn no_byte_of_a_token_can_be_changed() {
    let good = Sent::good().token();
    let known = Known::good();
    let expected = known.expectation();
    for position in 0..good.len() {
        let mut token = good.clone();
        token[position] ^= 1 << (position % 8);
        assert!(
            verify_key_token(&token, &expected).is_err(),
            "byte {position}"
        );
    }
}

#[test]
fn a_token_can_be_cut_nowhere() {
    let good = Sent::good().token();
    let known = Known::good();
    let expected = known.expectation();
    for len in 0..good.len() {
        let refusal = verify_key_token(&good[..len], &expected).unwrap_err();
        assert!(
            matches!(refusal, LoadRefusal::Malformed(_)),
            "{len}: {refusal}"
        );
    }
}

// ---------------------------------------------------------------- bytes

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}

fn overwrite(bytes: &mut [u8], part: &[u8], change: impl Fn(u8) -> u8) {
    let start = find(bytes, part);
    for byte in &mut bytes[start..start + part.len()] {
        *byte = change(*byte);
    }
}

/// The token with `count` copies of its CRL instead of one. The lengths of the four elements around
/// it, all written in two bytes, are set right.
fn with_crls(token: &[u8], crl: &[u8], count: usize) -> Vec<u8> {
    let start = find(token, crl);
    // ContentInfo, behind its OID [0], SignedData, and [1].
    let headers = [0, 15, 19, start - 4];
    let mut changed = [
        &token[..start],
        &crl.repeat(count),
        &token[start + crl.len()..],
    ]
    .concat();
    for header in headers {
        assert_eq!(token[header + 1], 0x82, "a length of two bytes");
        let len = u16::from_be_bytes([token[header + 2], token[header + 3]]);
        let len = usize::from(len) + crl.len() * count - crl.len();
        changed[header + 2..header + 4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    }
    if count == 0 {
        // DER has the shortest lengths: an empty [1].
        changed.splice(start - 4..start, [0xA1, 0x00]);
        for header in &headers[..3] {
            let len = u16::from_be_bytes([changed[header + 2], changed[header + 3]]) - 2;
            changed[header + 2..header + 4].copy_from_slice(&len.to_be_bytes());
        }
    }
    changed
}
