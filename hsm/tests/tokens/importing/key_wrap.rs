//! Keys under AES key wrap, which OpenSSL makes; their keys held as ZMKs, or sent beside them.

use std::fs;

use cryptoki::object::Attribute;
use hsm::{KeyImport, KeyName, KeyPairKind, KeyRole, KeyWrap, WrappedKey};
use hsm_modules::{
    ALL, KRYOPTIC, KRYOPTIC_BARE, NSS, Place, SOFTHSM, TestModule,
    makers::{key_wrap, rsa_oaep},
};
use tr34::{KeyKind, OaepHash};

use super::{
    PAIR, assert_imported, assert_kcv_verified, assert_refused, create_over, founded, import,
    key_name, key_of, on, over, public_half,
};
use crate::{
    combining::component,
    common::{kinds, new_token, on_every_module},
    raw,
    sealing::import_raw,
};

const ZMK: &str = "zmk.switch";

/// Whether the module knows the padding of RFC 5649.
fn pads(place: &Place) -> bool {
    place.module() == &SOFTHSM
}

fn under_zmk(padded: bool, bytes: Vec<u8>, kind: KeyKind) -> KeyImport {
    let zmk = key_name(ZMK);
    let key = KeyWrap { padded, bytes };
    import(WrappedKey::Zmk { zmk, key }, kind)
}

fn made_under_zmk(padded: bool, kind: KeyKind) -> KeyImport {
    let bytes = key_wrap(&over(KeyKind::Aes256), &key_of(kind), padded);
    under_zmk(padded, bytes, kind)
}

/// One, and the wrapped key.
pub(super) fn one_under_zmk() -> (KeyImport, Vec<u8>) {
    create_over(ZMK, KeyKind::Aes256, &over(KeyKind::Aes256));
    let import = made_under_zmk(false, KeyKind::Aes128);
    let wrapped = key_wrap(&over(KeyKind::Aes256), &key_of(KeyKind::Aes128), false);
    (import, wrapped)
}

/// One, and the encrypted transport key.
pub(super) fn one_under_pair(place: &Place) -> (KeyImport, Vec<u8>) {
    let sender = Sender::to(place);
    let import = sender.made(OaepHash::Sha1, KeyKind::Aes256, false, KeyKind::Aes128);
    let encrypted = match &import.wrapped {
        WrappedKey::RsaOaep { transport_key, .. } => transport_key.clone(),
        _ => unreachable!(),
    };
    (import, encrypted)
}

/// An import pair, and its public half in a file.
struct Sender {
    pair: KeyName,
    public_key: std::path::PathBuf,
}

impl Sender {
    fn to(place: &Place) -> Self {
        let public_key = place.folder().join("import-pair.pem");
        let spki = public_half(place, PAIR);
        fs::write(&public_key, pem(spki.as_spki_der())).unwrap();
        Self {
            pair: key_name(PAIR),
            public_key,
        }
    }

    fn send(&self, oaep: OaepHash, transport_key: &[u8], key: KeyWrap, kind: KeyKind) -> KeyImport {
        let wrapped = WrappedKey::RsaOaep {
            pair: self.pair.clone(),
            oaep,
            transport_key: rsa_oaep(&self.public_key, oaep.name(), transport_key),
            key,
        };
        import(wrapped, kind)
    }

    /// Rightly.
    fn made(&self, oaep: OaepHash, transport: KeyKind, padded: bool, kind: KeyKind) -> KeyImport {
        let transport_key = over(transport);
        let bytes = key_wrap(&transport_key, &key_of(kind), padded);
        self.send(oaep, &transport_key, KeyWrap { padded, bytes }, kind)
    }
}

/// Of nobody here.
fn other_public_key(place: &Place) -> std::path::PathBuf {
    let path = place.folder().join("other.pem");
    let generate = [
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:3072",
    ];
    let private = hsm_modules::makers::openssl(&generate, b"");
    let public = hsm_modules::makers::openssl(&["pkey", "-pubout"], &private);
    fs::write(&path, public).unwrap();
    path
}

fn pem(spki: &[u8]) -> Vec<u8> {
    hsm_modules::makers::openssl(&["pkey", "-pubin", "-inform", "DER", "-pubout"], spki)
}

fn hashes(place: &Place) -> Vec<OaepHash> {
    let mut hashes = vec![OaepHash::Sha1];
    hashes.extend(place.module().can.oaep_sha256.then_some(OaepHash::Sha256));
    hashes
}

#[test]
fn what_openssl_wraps_under_a_zmk_becomes_a_master_key() {
    on_every_module(|place| {
        let token = new_token("kdh");
        create_over(ZMK, KeyKind::Aes256, &over(KeyKind::Aes256));
        for kind in kinds(place) {
            assert_imported(&token, place, &made_under_zmk(false, kind));
            if pads(place) {
                assert_imported(&token, place, &made_under_zmk(true, kind));
            }
            assert_kcv_verified(&token, &made_under_zmk(false, kind));
        }
    });
}

#[test]
fn what_openssl_sends_to_an_import_pair_becomes_a_master_key() {
    on(&ALL, |place| {
        let token = founded();
        let sender = Sender::to(place);
        for oaep in hashes(place) {
            for kind in kinds(place) {
                for transport in [KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256] {
                    let weaker = matches!(kind, KeyKind::Aes192 | KeyKind::Aes256)
                        && transport.key_len() < kind.key_len();
                    if !weaker {
                        let import = sender.made(oaep, transport, false, kind);
                        assert_imported(&token, place, &import);
                    }
                }
                if pads(place) {
                    let import = sender.made(oaep, KeyKind::Aes256, true, kind);
                    assert_imported(&token, place, &import);
                }
                assert_kcv_verified(&token, &sender.made(oaep, KeyKind::Aes256, false, kind));
            }
        }
    });
}

#[test]
fn an_import_pair_may_only_unwrap() {
    on(&ALL, |place| {
        let token = founded();
        let pair = Sender::to(place).pair;
        let mut found = token.key_strengths().unwrap();
        found.retain(|found| found.key.label == PAIR);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].role, &found[0].weaknesses[..]),
            (KeyRole::ImportPair, &[][..])
        );
        let usages = |name: &&str| {
            [
                "CKA_SIGN",
                "CKA_DECRYPT",
                "CKA_UNWRAP",
                "CKA_DERIVE",
                "CKA_EXTRACTABLE",
            ]
            .contains(name)
        };
        let attributes = found[0].key.attributes.iter().copied();
        assert_eq!(
            attributes.filter(|name| usages(name)).collect::<Vec<_>>(),
            ["CKA_UNWRAP"]
        );
        assert!(token.signing_key(KeyRole::ImportPair, &pair).is_err());
        for bits in [2048, 3071] {
            let refused = token.generate_key_pair(
                KeyRole::ImportPair,
                &key_name("short"),
                KeyPairKind::Rsa { bits },
            );
            assert_eq!(
                refused.unwrap_err().to_string(),
                "generate a key pair is not for a key of the role import pair"
            );
        }
    });
}

const NOT_UNDER_ZMK: &str = "the wrapped key does not open under zmk.switch: compare that key's check value \
                             with the sender, and whether it was wrapped as in RFC 3394";

#[test]
fn what_is_wrong_with_a_wrapped_key_is_said() {
    on_every_module(|_| {
        let token = new_token("kdh");
        create_over(ZMK, KeyKind::Aes256, &over(KeyKind::Aes256));
        let kind = KeyKind::Aes128;
        let good = key_wrap(&over(KeyKind::Aes256), &key_of(kind), false);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            assert_refused(&token, &under_zmk(false, bytes, kind), NOT_UNDER_ZMK);
        }
        let other = key_wrap(&component(KeyKind::Aes256, 2), &key_of(kind), false);
        assert_refused(&token, &under_zmk(false, other, kind), NOT_UNDER_ZMK);
        let padded = key_wrap(&over(KeyKind::Aes256), &key_of(kind), true);
        assert_refused(&token, &under_zmk(false, padded, kind), NOT_UNDER_ZMK);

        for len in [0, 8, 16, 23] {
            let expected = format!(
                "the wrapped key has {len} bytes, and one of the kind AES-128 has 24: have it sent again, \
                 or correct the kind"
            );
            assert_refused(
                &token,
                &under_zmk(false, good[..len].to_vec(), kind),
                &expected,
            );
        }
        let trailing = [&good[..], &[0x0A]].concat();
        assert_refused(
            &token,
            &under_zmk(false, trailing, kind),
            "the wrapped key has 25 bytes, and one of the kind AES-128 has 24: have it sent again, or \
             correct the kind",
        );
        assert_refused(
            &token,
            &under_zmk(false, good, KeyKind::Aes192),
            "the wrapped key has 24 bytes, and one of the kind AES-192 has 32: have it sent again, or \
             correct the kind",
        );
    });
}

#[test]
fn what_was_padded_is_taken_as_padded_only() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let token = new_token("kdh");
        create_over(ZMK, KeyKind::Aes256, &over(KeyKind::Aes256));
        let kind = KeyKind::Aes128;
        let unpadded = key_wrap(&over(KeyKind::Aes256), &key_of(kind), false);
        // As long as a padded key of 16 bytes is one of 15.
        let shorter = key_wrap(&over(KeyKind::Aes256), &key_of(kind)[..15], true);
        let expected = "the wrapped key does not open under zmk.switch: compare that key's check value with \
                        the sender, and whether it was wrapped as in RFC 5649";
        assert_refused(&token, &under_zmk(true, unpadded, kind), expected);
        let import = under_zmk(true, shorter, kind);
        let before = raw::count_objects();
        assert!(token.import_key(&import, &super::kn()).is_err());
        assert_eq!(raw::count_objects(), before);
    });
}

#[test]
fn a_module_without_a_form_of_key_wrap_refuses_it_by_mechanism() {
    static OTHERS: [&TestModule; 3] = [&KRYOPTIC, &KRYOPTIC_BARE, &NSS];
    on(&OTHERS, |place| {
        let token = founded();
        create_over(ZMK, KeyKind::Aes256, &over(KeyKind::Aes256));
        let sender = Sender::to(place);
        let expected = "importing a key under AES key wrap (RFC 5649) inside is not possible with this \
                        module, which lacks CKM_AES_KEY_WRAP_PAD";
        let kind = KeyKind::Aes128;
        assert_refused(&token, &made_under_zmk(true, kind), expected);
        let import = sender.made(OaepHash::Sha1, KeyKind::Aes256, true, kind);
        assert_refused(&token, &import, expected);
    });
}

#[test]
fn a_module_without_sha_256_refuses_it_by_mechanism() {
    on(&[&SOFTHSM], |place| {
        let token = founded();
        let sender = Sender::to(place);
        let import = sender.made(OaepHash::Sha256, KeyKind::Aes256, false, KeyKind::Aes128);
        assert_refused(
            &token,
            &import,
            "importing a key under RSA-OAEP inside is not possible with this module, which lacks \
             CKM_RSA_PKCS_OAEP with CKM_SHA256",
        );
    });
}

#[test]
fn what_is_wrong_with_a_transport_key_is_said() {
    on(&ALL, |place| {
        let token = founded();
        let sender = Sender::to(place);
        let other = Sender {
            pair: key_name(PAIR),
            public_key: other_public_key(place),
        };
        let (oaep, kind) = (OaepHash::Sha1, KeyKind::Aes128);
        let good = || sender.made(oaep, KeyKind::Aes256, false, kind);
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut import = good();
            if let WrappedKey::RsaOaep { transport_key, .. } = &mut import.wrapped {
                change(transport_key);
            }
            import
        };
        let does_not_open = "the transport key does not open under import pair import-pair: have the sender \
                             encrypt it to the certificate of this pair, by RSA-OAEP with sha1 in MGF1 too \
                             and the empty label";
        for at in [0, 1, 200, 383] {
            assert_refused(&token, &with(&|key| key[at] ^= 1), does_not_open);
        }
        let to_another = KeyImport {
            wrapped: match (
                good().wrapped,
                other.made(oaep, KeyKind::Aes256, false, kind).wrapped,
            ) {
                (
                    WrappedKey::RsaOaep {
                        pair, oaep, key, ..
                    },
                    WrappedKey::RsaOaep { transport_key, .. },
                ) => WrappedKey::RsaOaep {
                    pair,
                    oaep,
                    transport_key,
                    key,
                },
                _ => unreachable!(),
            },
            ..good()
        };
        assert_refused(&token, &to_another, does_not_open);
        for len in [0, 256, 383, 385] {
            let expected = format!(
                "the encrypted transport key has {len} bytes, and import pair import-pair has 384: have \
                 the sender use the certificate of this pair"
            );
            assert_refused(&token, &with(&|key| key.resize(len, 1)), &expected);
        }
        // Kn under another transport key than the one that came.
        let mut mixed = good();
        if let WrappedKey::RsaOaep { key, .. } = &mut mixed.wrapped {
            key.bytes = key_wrap(&component(KeyKind::Aes256, 3), &key_of(kind), false);
        }
        assert_refused(
            &token,
            &mixed,
            "the wrapped key does not open under the transport key: compare that key's check value with \
             the sender, and whether it was wrapped as in RFC 3394",
        );
        // A transport key that is weaker than what it carries, or none of AES.
        let bytes = key_wrap(&over(KeyKind::Aes128), &key_of(KeyKind::Aes256), false);
        let key = KeyWrap {
            padded: false,
            bytes,
        };
        let weak = sender.send(oaep, &over(KeyKind::Aes128), key.clone(), KeyKind::Aes256);
        assert_refused(
            &token,
            &weak,
            "a key of the kind AES-256 does not come under one of the kind AES-128, which is weaker: have \
             the sender use a key that is at least as strong",
        );
        for len in [8, 33] {
            let odd = sender.send(oaep, &vec![0x5A; len], key.clone(), KeyKind::Aes256);
            assert_refused(&token, &odd, does_not_open);
        }
    });
}

#[test]
fn with_another_hash_a_transport_key_does_not_open() {
    static BOTH: [&TestModule; 3] = [&KRYOPTIC, &KRYOPTIC_BARE, &NSS];
    on(&BOTH, |place| {
        let token = founded();
        let sender = Sender::to(place);
        let mut import = sender.made(OaepHash::Sha1, KeyKind::Aes256, false, KeyKind::Aes128);
        if let WrappedKey::RsaOaep { oaep, .. } = &mut import.wrapped {
            *oaep = OaepHash::Sha256;
        }
        assert_refused(
            &token,
            &import,
            "the transport key does not open under import pair import-pair: have the sender encrypt it to \
             the certificate of this pair, by RSA-OAEP with sha256 in MGF1 too and the empty label",
        );
    });
}

#[test]
fn a_zmk_that_is_no_zmk_is_refused() {
    hsm_modules::on(&ALL, |place| {
        let token = new_token("kdh");
        let kind = KeyKind::Aes128;
        let good = made_under_zmk(false, kind);
        assert_refused(&token, &good, "no key is called zmk.switch");
        let sound = [
            Attribute::Extractable(false),
            Attribute::Unwrap(true),
            Attribute::Derive(false),
        ];
        let name = key_name(ZMK);
        for (change, expected) in [
            (
                Attribute::Decrypt(true),
                "key zmk.switch is weaker than its role: CKA_DECRYPT is set (would show keys to the process)",
            ),
            (
                Attribute::Extractable(true),
                "key zmk.switch is weaker than its role: CKA_EXTRACTABLE is set (nor wrapped)",
            ),
            (
                Attribute::Wrap(true),
                "key zmk.switch is weaker than its role: CKA_WRAP is set (one usage: under it keys come in \
                 and do not go out)",
            ),
        ] {
            let changes = raw::changed(sound.to_vec(), &[change]);
            import_raw(&name, KeyKind::Aes256, &over(KeyKind::Aes256), &changes);
            assert_refused(&token, &good, expected);
            token.destroy_key(&name).unwrap();
        }
        create_over(ZMK, KeyKind::Aes128, &over(KeyKind::Aes128));
        let bytes = key_wrap(&over(KeyKind::Aes128), &key_of(KeyKind::Aes256), false);
        assert_refused(
            &token,
            &under_zmk(false, bytes, KeyKind::Aes256),
            "a key of the kind AES-256 does not come under one of the kind AES-128, which is weaker: have \
             the sender use a key that is at least as strong",
        );
        token.destroy_key(&name).unwrap();
        if place.module().can.tdea {
            create_over(ZMK, KeyKind::Tdea3, &over(KeyKind::Tdea3));
            assert_refused(
                &token,
                &good,
                "zmk.switch is of the kind TDEA-3KEY, and zmk+key-wrap takes an AES key: agree on one with \
                 the sender",
            );
        }
    });
}

/// It may say that it is not to be exported: no terminal gets it.
#[test]
fn a_bdk_arrives_as_a_master_key_does() {
    hsm_modules::on(&hsm_modules::WHOLE, |_| {
        let token = new_token("kdh");
        create_over(ZMK, KeyKind::Aes256, &over(KeyKind::Aes256));
        let mut import = made_under_zmk(false, KeyKind::Aes256);
        import.header = Some("D0000B0AX00N0000".parse().unwrap());
        let refused = |label| {
            let refused = token.import_key(&import, &key_name(label)).unwrap_err();
            refused.to_string()
        };
        assert!(refused("kn.fleet").contains("not exportable (N)"));
        for label in [
            "zmk.fleet",
            "kbpk.fleet",
            "zmkx.fleet",
            "kbpkx.fleet",
            "zmac.fleet",
        ] {
            let expected = format!(
                "{label} is not the label of a master key: choose one that begins with \"kn.\""
            );
            assert_eq!(refused(label), expected);
        }
        let bdk = token.import_key(&import, &key_name("bdk.fleet")).unwrap();
        assert_eq!((bdk.role(), bdk.kind()), (KeyRole::Bdk, KeyKind::Aes256));
        assert_eq!(token.kcv(&bdk).unwrap(), import.kcv);
    });
}
