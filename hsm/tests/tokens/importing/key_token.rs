//! Keys in TR-34 tokens from another host, whose key blocks are made in software.

use hsm::{
    HsmError, KeyImport, KeyRole, SigningKey, Token, TokenGroup, Upstream, UpstreamFreshness,
    WrappedKey,
};
use hsm_modules::{KRYOPTIC, KRYOPTIC_BARE, NSS, Place, SOFTHSM, TestModule};
use pki::{
    Certificate, CrlContents, CrlNumber, Issuer, RevokedCertificate, Role, SerialNumber,
    Signer as _, Subject, Validity, aligned_serial_length, issue_certificate, issue_crl,
    issue_root,
};
use time::{Duration, OffsetDateTime};
use tr34::{
    EnvelopedKeyBlock, Freshness, Kbh, KeyBlockFrame, KeyKind, KeyToken, KrdNonce, Profile,
    SigningTime,
};

use super::{
    PAIR, RSA_3072, assert_imported, assert_kcv_verified, assert_refused, founded, header, import,
    key_name, key_of, on, public_half,
};
use crate::{
    combining::component,
    common::{kinds, new_token},
    software,
    terminal::in_software,
};

/// The modules that open key blocks inside.
static INSIDE: [&TestModule; 3] = [&KRYOPTIC, &KRYOPTIC_BARE, &NSS];

const PROFILE: Profile = Profile::X9_2019;
const DAY: Duration = Duration::days(1);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

/// The other host with its CA, in the same token, and our pair, which that CA certified.
struct Other {
    ca: (Certificate, SigningKey),
    sender: (Certificate, SigningKey),
    own: Certificate,
}

impl Other {
    fn new(token: &Token, place: &Place) -> Self {
        let root_key = token
            .signing_key(KeyRole::RootCa, &key_name("root"))
            .unwrap();
        let root = subject(Role::RootCa, "Root", public_half(place, "root"), 16);
        let root = issue_root(&root_key, &root).unwrap();
        let ca = |role: Role, label, text: &str, len, by: (&Certificate, &SigningKey)| {
            let mut certificate = subject(role, text, public_half(place, label), len);
            if role != Role::SubCa {
                certificate.name = role.subject(by.0.subject(), text).unwrap();
            }
            let issuer = Issuer {
                certificate: by.0,
                signer: by.1,
            };
            issue_certificate(&issuer, &certificate).unwrap()
        };
        let sub_ca = ca(Role::SubCa, "ca", "Other bank", 16, (&root, &root_key));
        let ca_key = token
            .signing_key(KeyRole::IssuingCa, &key_name("ca"))
            .unwrap();
        let by = (&sub_ca, &ca_key);
        // Kn lies on a block boundary.
        let len = aligned_serial_length(sub_ca.subject(), &[16, 32], &[16], 16).unwrap();
        let sender = ca(Role::Kdh, "sender", "Other host", len, by);
        let own = ca(Role::Krd, PAIR, "Our host", 16, by);
        let sender_key = token
            .signing_key(KeyRole::KdhSigning, &key_name("sender"))
            .unwrap();
        Self {
            ca: (sub_ca, ca_key),
            sender: (sender, sender_key),
            own,
        }
    }

    fn crl(&self, revoked: &[&Certificate]) -> Vec<u8> {
        let issuer = Issuer {
            certificate: &self.ca.0,
            signer: &self.ca.1,
        };
        let entry = |certificate: &&Certificate| RevokedCertificate {
            serial: certificate.serial().clone(),
            at: now() - DAY,
            reason: None,
        };
        let contents = CrlContents {
            number: CrlNumber(1),
            this_update: now() - DAY,
            next_update: now() + DAY,
            revoked: revoked.iter().map(entry).collect(),
        };
        issue_crl(&issuer, &contents).unwrap()
    }

    fn expected<'a>(
        &'a self,
        pair: &'a hsm::KeyName,
        freshness: UpstreamFreshness,
    ) -> Upstream<'a> {
        Upstream {
            profile: PROFILE,
            ca: &self.ca.0,
            sender: &self.sender.0,
            crl: None,
            own: &self.own,
            pair,
            freshness,
            now: now(),
        }
    }

    /// What a key block is in, before it is signed.
    fn envelope(&self, made: &Made<'_>) -> EnvelopedKeyBlock {
        let kdh = self.sender.0.issuer_and_serial().unwrap();
        let frame = KeyBlockFrame::new(PROFILE, &kdh, &made.inside, made.kind.key_len());
        let recipient = made.own.public_key();
        let sealed = in_software(recipient, &frame, &key_of(made.kind), made.ke);
        let mut encrypted = sealed.encrypted_key().to_vec();
        if let Some(ke) = made.other_ke {
            encrypted = software::encrypt_key(recipient, ke);
        }
        let mut ciphertext = sealed.ciphertext().to_vec();
        if let Some(at) = made.flip {
            ciphertext[at] ^= 0x80;
        }
        EnvelopedKeyBlock::new(
            made.own.issuer_and_serial().unwrap(),
            sealed.oaep_hash(),
            encrypted,
            *sealed.encryption(),
            ciphertext,
        )
        .unwrap()
    }

    fn token(&self, made: &Made<'_>) -> Vec<u8> {
        let seconds = now().unix_timestamp() + made.signed_after;
        let time = SigningTime::from_unix_seconds(seconds.try_into().unwrap()).unwrap();
        let freshness = match made.nonce {
            Some(nonce) => Freshness::Nonce(nonce.clone()),
            None => Freshness::SigningTime(time),
        };
        let kdh = self.sender.0.issuer_and_serial().unwrap();
        let crl = self.crl(made.revoked);
        let enveloped = self.envelope(made);
        let draft = KeyToken::draft(
            PROFILE,
            &enveloped,
            &made.outside,
            &freshness,
            time,
            &kdh,
            &crl,
        )
        .unwrap();
        let signature = self.sender.1.sign(draft.to_be_signed()).unwrap();
        draft.into_token(&signature).unwrap()
    }
}

fn subject(role: Role, name: &str, public_key: pki::PublicKey, serial_len: usize) -> Subject {
    let serial: Vec<u8> = (1..=20).take(serial_len).collect();
    // Each key has another number.
    let serial: Vec<u8> = serial
        .iter()
        .zip(public_key.fingerprint())
        .map(|(one, other)| one ^ other)
        .collect();
    Subject {
        role,
        name: format!("CN={name}").parse().unwrap(),
        public_key,
        serial: SerialNumber::from_random(&serial).unwrap(),
        validity: Validity {
            not_before: now() - DAY,
            not_after: now() + DAY,
        },
        hosts: Vec::new(),
    }
}

/// How a token is made; one thing may be wrong.
struct Made<'a> {
    kind: KeyKind,
    outside: Kbh,
    inside: Kbh,
    ke: &'a [u8],
    /// Encrypted instead of the right one.
    other_ke: Option<&'a [u8]>,
    flip: Option<usize>,
    own: &'a Certificate,
    nonce: Option<&'a KrdNonce>,
    /// Seconds.
    signed_after: i64,
    revoked: &'a [&'a Certificate],
}

/// As long as an AES key may be.
const KE: [u8; 32] = [5; 32];

fn made(own: &Certificate, kind: KeyKind) -> Made<'_> {
    Made {
        kind,
        outside: header(kind),
        inside: header(kind),
        ke: &KE,
        other_ke: None,
        flip: None,
        own,
        nonce: None,
        signed_after: -60,
        revoked: &[],
    }
}

const RECENT: UpstreamFreshness = UpstreamFreshness::SignedWithin(Duration::hours(1));

fn arrived(token: &Token, other: &Other, der: &[u8], kind: KeyKind) -> KeyImport {
    let pair = key_name(PAIR);
    let verified = token.verify_upstream(der, &other.expected(&pair, RECENT));
    import(WrappedKey::Tr34(Box::new(verified.unwrap())), kind)
}

fn refusal(token: &Token, der: &[u8], expected: &Upstream<'_>) -> String {
    match token.verify_upstream(der, expected) {
        Err(error @ HsmError::Upstream(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// One, Ke as it is encrypted, and Ke.
pub(super) fn one(token: &Token, place: &Place) -> (KeyImport, Vec<u8>, Vec<u8>) {
    let other = Other::new(token, place);
    let ke = component(KeyKind::Aes256, 7);
    let kind = KeyKind::Aes128;
    let der = other.token(&Made {
        ke: &ke,
        ..made(&other.own, kind)
    });
    let import = arrived(token, &other, &der, kind);
    let WrappedKey::Tr34(verified) = &import.wrapped else {
        unreachable!()
    };
    let encrypted = verified.token().enveloped().encrypted_key().to_vec();
    (import, encrypted, ke)
}

/// A key of 24 bytes ends in the middle of a block, whatever stands before it.
fn openable(place: &Place) -> Vec<KeyKind> {
    let mut kinds = kinds(place);
    kinds.retain(|kind| place.module().can.opening.len() == 2 || kind.key_len() != 24);
    kinds
}

fn does_not_open(kind: KeyKind) -> String {
    format!(
        "the key block of the token does not open under import pair import-pair as one of the kind {kind} \
         with the token's header: have the sender make the token for the certificate of this pair, and \
         correct the kind if that is wrong"
    )
}

#[test]
fn the_key_of_a_token_becomes_a_master_key() {
    on(&INSIDE, |place| {
        let token = founded();
        let other = Other::new(&token, place);
        for kind in openable(place) {
            let der = other.token(&made(&other.own, kind));
            assert_imported(&token, place, &arrived(&token, &other, &der, kind));
            assert_kcv_verified(&token, &arrived(&token, &other, &der, kind));
        }
    });
}

#[test]
fn a_token_that_is_not_what_was_announced_is_refused() {
    on(&INSIDE, |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let kind = KeyKind::Aes128;
        let good = || made(&other.own, kind);
        let refused = |made: &Made<'_>, expected: &str| {
            let der = other.token(made);
            assert_refused(&token, &arrived(&token, &other, &der, kind), expected);
        };

        // Ke of another length than its cipher says, or another one.
        for ke in [&KE[..31], &KE[..16], &[6; 32]] {
            let other_ke = Some(ke);
            refused(&Made { other_ke, ..good() }, &does_not_open(kind));
        }
        // A byte changed: of the frame, of the key, of the header.
        let len = other.envelope(&good()).ciphertext().len();
        for at in [0, 16, len / 2, len - 20, len - 1] {
            let flip = Some(at);
            refused(&Made { flip, ..good() }, &does_not_open(kind));
        }
        // A header outside that contradicts the one inside.
        let inside = "D0000D0AB00E0000".parse().unwrap();
        refused(&Made { inside, ..good() }, &does_not_open(kind));
        // Both are another one than was announced.
        for (header, expected) in [
            (
                "D0000D0AB00E0000",
                "the header says D0 of key usage, and K0 was announced: ask the sender which is right",
            ),
            (
                "D0000K0TB00E0000",
                "the header says TDEA of algorithm, and AES was announced: ask the sender which is right",
            ),
            (
                "D0000K0AD00E0000",
                "the header says D of mode of use, and B was announced: ask the sender which is right",
            ),
            (
                "D0000K0AB00S0000",
                "the header says S of exportability, and E was announced: ask the sender which is right",
            ),
        ] {
            let header: Kbh = header.parse().unwrap();
            let (outside, inside) = (header.clone(), header);
            refused(
                &Made {
                    outside,
                    inside,
                    ..good()
                },
                expected,
            );
        }
        // A strong key under a weaker Ke: it is as good as that one.
        let weak = |kind, ke| {
            let der = other.token(&Made {
                ke,
                ..made(&other.own, kind)
            });
            assert_refused(
                &token,
                &arrived(&token, &other, &der, kind),
                &format!(
                    "a key of the kind {kind} does not come under one of the kind {}, which is weaker: have the \
                     sender use a key that is at least as strong",
                    if ke.len() == 24 {
                        "TDEA-3KEY"
                    } else {
                        "AES-128"
                    }
                ),
            );
        };
        weak(KeyKind::Aes256, &KE[..16]);
        weak(KeyKind::Aes128, &component(KeyKind::Tdea3, 7));
        // Another length than announced.
        if place.module().can.opening.len() == 2 {
            refused(&made(&other.own, KeyKind::Aes192), &does_not_open(kind));
        }
        // None was announced.
        let der = other.token(&good());
        let import = KeyImport {
            header: None,
            ..arrived(&token, &other, &der, kind)
        };
        let expected = "the key comes with a header, and none was announced: say which is right";
        assert_refused(&token, &import, expected);

        // Another pair has taken the place of the certified one.
        token.destroy_key(&key_name(PAIR)).unwrap();
        let import = arrived(&token, &other, &der, kind);
        assert_refused(&token, &import, "no key is called import-pair");
        token
            .generate_key_pair(KeyRole::ImportPair, &key_name(PAIR), RSA_3072)
            .unwrap();
        let expected = "the certificate does not belong to import pair import-pair: name the certificate \
                        that was made for it";
        assert_refused(&token, &import, expected);
    });
}

#[test]
fn a_token_of_another_sender_or_for_another_receiver_or_stale_is_refused() {
    on(&[&KRYOPTIC], |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let kind = KeyKind::Aes128;
        let pair = key_name(PAIR);
        let expected = other.expected(&pair, RECENT);
        let good = || made(&other.own, kind);
        let der = other.token(&good());
        let _ = token.verify_upstream(&der, &expected).unwrap();

        let starts = |der: &[u8], expected: &Upstream<'_>, start: &str| {
            let found = refusal(&token, der, expected);
            assert!(found.starts_with(start), "{found}");
        };
        starts(&der[..der.len() - 1], &expected, "KT_KDH, at byte");
        starts(&[&der[..], &[0]].concat(), &expected, "KT_KDH, at byte");
        let clover = Upstream {
            profile: Profile::Clover,
            ..expected
        };
        starts(&der, &clover, "KT_KDH, at byte");
        let own_is_sender = Upstream {
            own: &other.sender.0,
            ..expected
        };
        starts(
            &der,
            &own_is_sender,
            "the certificate of import pair import-pair is none of a receiver (KRD): ",
        );
        let late = Upstream {
            now: now() + DAY * 2,
            ..expected
        };
        starts(&der, &late, "the revocation list of the sender's CA: ");
        let revoked = other.token(&Made {
            revoked: &[&other.sender.0],
            ..good()
        });
        starts(&revoked, &expected, "the sender's certificate: ");
        let sender_is_own = Upstream {
            sender: &other.own,
            ..expected
        };
        starts(&der, &sender_is_own, "the sender's certificate: ");
        let ca_is_sender = Upstream {
            ca: &other.sender.0,
            ..expected
        };
        starts(
            &der,
            &ca_is_sender,
            "the revocation list of the sender's CA: ",
        );

        let mut forged = der.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(
            refusal(&token, &forged, &expected),
            "the token's signature does not verify: it was changed, or is not the sender's; have it sent \
             again"
        );
        let for_sender = other.token(&Made {
            own: &other.sender.0,
            ..good()
        });
        assert_eq!(
            refusal(&token, &for_sender, &expected),
            "the token is for another receiver than the certificate of import pair import-pair: have the \
             sender make it for that certificate"
        );
        for (signed_after, at) in [
            (-3601, "2027-01-15T06:59:59Z"),
            (301, "2027-01-15T08:05:01Z"),
        ] {
            let der = other.token(&Made {
                signed_after,
                ..good()
            });
            let found = refusal(&token, &der, &expected);
            assert_eq!(
                found,
                format!(
                    "the token was signed at {at}, which is not within 1 hours: have it made again"
                )
            );
        }
    });
}

/// The token's own list says nothing of it.
#[test]
fn a_sender_that_is_on_the_other_list_is_refused() {
    on(&[&KRYOPTIC], |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let pair = key_name(PAIR);
        let expected = other.expected(&pair, RECENT);
        let der = other.token(&made(&other.own, KeyKind::Aes128));
        let list = other.crl(&[&other.sender.0]);
        let revoked_since = Upstream {
            crl: Some(&list),
            ..expected
        };
        assert_eq!(
            refusal(&token, &der, &revoked_since),
            "the sender's certificate: the certificate was revoked: ask the sender for its present one"
        );
        let no_list = Upstream {
            crl: Some(b"x"),
            ..expected
        };
        assert_eq!(
            refusal(&token, &der, &no_list),
            "the revocation list of the sender's CA: the CRL is not well-formed: have it sent with a current one"
        );
        let list = other.crl(&[]);
        let both = Upstream {
            crl: Some(&list),
            ..expected
        };
        let _ = token.verify_upstream(&der, &both).unwrap();
    });
}

/// Each keeps it, so that the token can be imported into each.
#[test]
fn tokens_that_share_the_work_share_a_nonce() {
    hsm_modules::on(&[&KRYOPTIC], |_| {
        let (one, two) = (new_token("one"), new_token("two"));
        let pair = key_name(PAIR);
        let role = KeyRole::ImportPair;
        one.generate_key_pair(role, &pair, RSA_3072).unwrap();
        let group = TokenGroup::new(one.clone(), vec![two.clone()]);
        let kept = |token: &Token| token.load_record("import-nonce:import-pair").unwrap();
        // One has no such pair: none keeps a nonce.
        let missing = group.make_import_nonce(&pair, PROFILE).unwrap_err();
        assert_eq!(missing.to_string(), "no key is called import-pair");
        assert_eq!((kept(&one), kept(&two)), (None, None));

        two.generate_key_pair(role, &pair, RSA_3072).unwrap();
        let first = group.make_import_nonce(&pair, PROFILE).unwrap();
        let nonce = group.make_import_nonce(&pair, PROFILE).unwrap();
        assert_ne!(first, nonce);
        let bytes = Some(nonce.as_bytes().to_vec());
        assert_eq!((kept(&one), kept(&two)), (bytes.clone(), bytes));
        // As long as the sender's dialect has it.
        let short = group.make_import_nonce(&pair, Profile::Aws2012).unwrap();
        assert_eq!(short.as_bytes().len(), 8);
    });
}

/// A host asks for it at its start.
#[test]
fn what_cannot_receive_tokens_says_so() {
    on(&[&KRYOPTIC, &NSS, &SOFTHSM], |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let group = TokenGroup::from(token);
        let require = |pair: &str, own: &Certificate, freshness| {
            let outcome = group.require_receiver(&key_name(pair), own, freshness);
            outcome.err().map(|error| error.to_string())
        };
        let not_the_pair = "the certificate does not belong to import pair import-pair: name the certificate that was \
                            made for it";
        assert_eq!(
            require(PAIR, &other.sender.0, RECENT).as_deref(),
            Some(not_the_pair)
        );
        assert_eq!(
            require("import-2", &other.own, RECENT).as_deref(),
            Some("no key is called import-2")
        );
        let (by_time, by_nonce) = if place.module() == &SOFTHSM {
            let inside = "opening a key block under AES-128-CBC inside is not possible with this module, which lacks \
                          CKM_AES_CBC and CKM_EXTRACT_KEY_FROM_KEY";
            (Some(inside), Some(inside))
        } else if place.module() == &NSS {
            let nonces = "keeping a nonce is not possible with this module, which lacks private data objects";
            (None, Some(nonces))
        } else {
            (None, None)
        };
        assert_eq!(require(PAIR, &other.own, RECENT).as_deref(), by_time);
        let nonce = UpstreamFreshness::Nonce;
        assert_eq!(require(PAIR, &other.own, nonce).as_deref(), by_nonce);
    });
}

#[test]
fn a_nonce_is_good_for_one_token() {
    static WITH_RECORDS: [&TestModule; 2] = [&KRYOPTIC, &KRYOPTIC_BARE];
    on(&WITH_RECORDS, |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let kind = KeyKind::Aes128;
        let pair = key_name(PAIR);
        let expected = other.expected(&pair, UpstreamFreshness::Nonce);
        let answering = |nonce| {
            other.token(&Made {
                nonce,
                ..made(&other.own, kind)
            })
        };
        let none_waits = "no nonce of import pair import-pair waits for a token; each is good for one: make \
                          one with kdh-ceremony import nonce, and have the sender answer it";
        let another = "the token answers another nonce than the last that was made: have the sender answer \
                       that one";

        let stranger = KrdNonce::from_bytes([7; 16]);
        assert_eq!(
            refusal(&token, &answering(Some(&stranger)), &expected),
            none_waits
        );
        let first = token.make_import_nonce(&pair, PROFILE).unwrap();
        assert_eq!(
            refusal(&token, &answering(Some(&stranger)), &expected),
            another
        );
        let nonce = token.make_import_nonce(&pair, PROFILE).unwrap();
        assert_eq!(
            refusal(&token, &answering(Some(&first)), &expected),
            another
        );
        assert_eq!(
            refusal(&token, &answering(None), &expected),
            "the token answers no nonce: have the sender answer the one that was made, or accept a signing \
             time"
        );
        let der = answering(Some(&nonce));
        let by_time = other.expected(&pair, RECENT);
        assert_eq!(
            refusal(&token, &der, &by_time),
            "the token answers a nonce: have freshness be known by it"
        );

        let verified = Box::new(token.verify_upstream(&der, &expected).unwrap());
        let import = import(WrappedKey::Tr34(verified), kind);
        // A failed import does not spend it, a successful one does.
        assert_kcv_verified(&token, &import);
        token.import_key(&import, &super::kn()).unwrap();
        assert_eq!(refusal(&token, &der, &expected), none_waits);
        let again = token.import_key(&import, &key_name("kn.again"));
        assert_eq!(again.unwrap_err().to_string(), none_waits);
    });
}

#[test]
fn a_module_that_cannot_open_it_inside_refuses_it_by_mechanism() {
    on(&[&SOFTHSM], |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let kind = KeyKind::Aes128;
        let der = other.token(&made(&other.own, kind));
        assert_refused(
            &token,
            &arrived(&token, &other, &der, kind),
            "opening a key block under AES-256-CBC inside is not possible with this module, which lacks \
             CKM_AES_CBC and CKM_EXTRACT_KEY_FROM_KEY",
        );
    });
}

#[test]
fn a_module_that_opens_aligned_keys_only_refuses_others_by_mechanism() {
    on(&[&KRYOPTIC_BARE], |place| {
        let token = founded();
        let other = Other::new(&token, place);
        let kind = KeyKind::Aes192;
        let der = other.token(&made(&other.own, kind));
        assert_refused(
            &token,
            &arrived(&token, &other, &der, kind),
            "opening a key block that is not aligned is not possible with this module, which lacks \
             CKM_EXTRACT_KEY_FROM_KEY",
        );
    });
}
