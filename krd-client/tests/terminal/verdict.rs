//! What `kdhctl token verify` says of a token: nothing is said to hold that a terminal refuses.

use inspector::{Evidence, verify};
use pki::{Role, Signer as _};
use time::Duration;
use tr34::{ContentCipher, KdhCredentialToken, KrdCredentialToken, KrdNonce, Profile};

use crate::{
    binding_token::{Kind, Order},
    stage::neighbour,
    world::{DAY, NONCE, NOW, Sent, WORLD, id, revoked},
};

/// Of a terminal that is bound to the KDH, and of its CAs.
fn evidence() -> Evidence {
    Evidence {
        anchors: [&WORLD.ca_krd, &WORLD.ca_kdh]
            .map(|ca| ca.certificate.clone())
            .into(),
        crl: Some(WORLD.ca_kdh.crl(NOW, |_| {})),
        nonce: Some(KrdNonce::from_bytes(NONCE)),
        kdh: Some(WORLD.kdh.clone()),
        krd: Some(WORLD.krd.clone()),
        at: NOW,
    }
}

/// The checks that do not hold.
fn failing(token: &[u8], evidence: &Evidence) -> Vec<&'static str> {
    let checks = verify(token, evidence).unwrap().into_iter();
    let failing = checks.filter(|check| !check.outcome.holds());
    failing.map(|check| check.check).collect()
}

fn token(kind: Kind, change: fn(&mut Order)) -> Vec<u8> {
    let mut order = Order::good(kind);
    change(&mut order);
    order.token(kind)
}

fn key_token(change: fn(&mut Sent)) -> Vec<u8> {
    let mut sent = Sent::good();
    change(&mut sent);
    sent.token()
}

#[test]
fn of_good_tokens_all_checks_hold() {
    let ct_kdh = KdhCredentialToken::new(WORLD.kdh.der(), &WORLD.ca_kdh.crl(NOW, |_| {}));
    let mut tokens = vec![
        key_token(|_| {}),
        key_token(|sent| sent.signed_at = Some(NOW)),
        ct_kdh.unwrap().to_der(Profile::X9_2019),
    ];
    let kinds = [
        Kind::KdhUnbind,
        Kind::KdhRebind,
        Kind::CaUnbind,
        Kind::CaRebind,
    ];
    tokens.extend(kinds.map(|kind| token(kind, |_| {})));
    let mut with_root = evidence();
    with_root.anchors.push(WORLD.root().clone());
    for token in tokens {
        for evidence in [&evidence(), &with_root] {
            assert_eq!(failing(&token, evidence), [""; 0]);
        }
    }
}

#[test]
fn what_a_terminal_refuses_does_not_hold() {
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "a key token for another terminal",
            key_token(|sent| sent.recipient = id(&neighbour())),
            &["recipient"],
        ),
        (
            "an AES key under TDEA",
            key_token(|sent| sent.cipher = ContentCipher::DesEde3Cbc),
            &["cipher"],
        ),
        (
            "a one-pass token from the future",
            key_token(|sent| sent.signed_at = Some(NOW + DAY)),
            &["signing-time"],
        ),
        (
            "another nonce",
            key_token(|sent| sent.nonce = KrdNonce::from_bytes([7; 16])),
            &["nonce"],
        ),
        (
            "a list by a CA of the same name",
            key_token(|sent| sent.crl = WORLD.impostor.crl(NOW, |_| {})),
            &["crl", "kdh-certificate"],
        ),
        (
            "a list of another CA",
            key_token(|sent| sent.crl = WORLD.ca_krd.crl(NOW, |_| {})),
            &["crl", "kdh-certificate"],
        ),
        (
            "another key of the same name",
            key_token(|sent| sent.key = &WORLD.other_kdh_key),
            &["signature"],
        ),
        (
            "UBT_KDH for another terminal",
            token(Kind::KdhUnbind, |order| order.krd = id(&neighbour())),
            &["recipient"],
        ),
        (
            "UBT_CA for another terminal",
            token(Kind::CaUnbind, |order| order.krd = id(&neighbour())),
            &["recipient"],
        ),
        (
            "UBT_CA about another KDH",
            token(Kind::CaUnbind, |order| order.kdh = id(&WORLD.other_kdh)),
            &["kdh"],
        ),
        (
            "UBT_CA by the CA of the hosts",
            token(Kind::CaUnbind, |order| {
                order.signer = id(&WORLD.ca_kdh.certificate);
                order.key = &WORLD.ca_kdh.key;
            }),
            &["signer"],
        ),
        (
            "RBT_CA from the future",
            token(Kind::CaRebind, |order| order.at = NOW + DAY),
            &["signing-time"],
        ),
        (
            "RBT_CA to a KDH by the CA of the terminals",
            token(Kind::CaRebind, |order| {
                let key = WORLD.other_kdh_key.public_key();
                let ca = &WORLD.ca_krd;
                order.new_kdh = ca.certify(NOW, Role::Kdh, "KDH 2", key, |_| {});
            }),
            &["new-kdh-certificate"],
        ),
        (
            "RBT_KDH to a listed KDH",
            token(Kind::KdhRebind, |order| {
                order.crl = WORLD.ca_kdh.crl(NOW, |crl| {
                    crl.revoked = vec![revoked(&WORLD.other_kdh, NOW)];
                    crl.number.0 += 1;
                });
            }),
            &["new-kdh-certificate"],
        ),
        (
            "CT_KRD without a list of its CA",
            KrdCredentialToken::new(WORLD.krd.der())
                .unwrap()
                .to_der(Profile::X9_2019),
            &["crl", "krd-certificate"],
        ),
    ];
    for (case, token, expected) in cases {
        assert_eq!(failing(&token, &evidence()), expected, "{case}");
    }
}

#[test]
fn what_is_not_given_does_not_hold() {
    let bare = Evidence {
        crl: None,
        nonce: None,
        kdh: None,
        krd: None,
        ..evidence()
    };
    let cases: [(Vec<u8>, &[&str]); 3] = [
        (
            key_token(|_| {}),
            &[
                "crl",
                "kdh-certificate",
                "signer",
                "signature",
                "nonce",
                "recipient",
            ],
        ),
        (token(Kind::CaUnbind, |_| {}), &["recipient", "kdh"]),
        (
            token(Kind::CaRebind, |_| {}),
            &["recipient", "kdh", "crl", "new-kdh-certificate"],
        ),
    ];
    for (token, expected) in cases {
        assert_eq!(failing(&token, &bare), expected);
    }
}

/// Tokens of a CA have no other certificate whose path would be checked.
#[test]
fn an_anchor_has_to_be_a_ca_that_holds() {
    let ubt_ca = token(Kind::CaUnbind, |_| {});
    for at in [NOW - DAY * 31, NOW + DAY * 1001] {
        let evidence = Evidence { at, ..evidence() };
        assert_eq!(failing(&ubt_ca, &evidence), ["ca-certificate"], "{at}");
    }
    let by_kdh = token(Kind::CaUnbind, |order| {
        order.signer = id(&WORLD.kdh);
        order.key = &WORLD.kdh_key;
    });
    let mut evidence = evidence();
    evidence.anchors.push(WORLD.kdh.clone());
    assert_eq!(failing(&by_kdh, &evidence), ["ca-certificate", "signer"]);
    evidence.at += Duration::SECOND;
    assert_eq!(failing(&ubt_ca, &evidence), [""; 0]);
}
