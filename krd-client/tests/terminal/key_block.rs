//! Opened key blocks: a good one passes, and each that differs in one thing is refused for that
//! thing.

use krd_client::{LoadRefusal, VerifiedKeyToken, verify_key_block, verify_key_token};
use tr34::{
    ContentCipher, IssuerAndSerial, KbhError, KeyAlgorithm, KeyBlockFrame, KeyKind, MalformedToken,
    Profile, Rule, TokenKind,
};

use crate::world::{HEADER, Known, OTHER_HEADER, Sent, TDEA_HEADER, WORLD, header, id};

/// With the id of an initial key, and with another one.
const INITIAL_KEY: &str = "D0000B1AX00N0200IK140A1B2C3D00000001PB0C00000000";
const OTHER_INITIAL_KEY: &str = "D0000B1AX00N0200IK140A1B2C3D00000002PB0C00000000";
const NO_INITIAL_KEY: &str = "D0000B1AX00N0000";
const HMAC_HEADER: &str = "D0000M7HG00E0000";

/// A key token with this header and this cipher, announced with `announced`.
fn token(signed: &str, announced: &str, cipher: ContentCipher) -> VerifiedKeyToken {
    let (mut sent, mut known) = (Sent::good(), Known::good());
    sent.header = header(signed);
    sent.cipher = cipher;
    known.header = header(announced);
    verify_key_token(&sent.token(), &known.expectation()).unwrap()
}

fn good_token() -> VerifiedKeyToken {
    token(HEADER, HEADER, ContentCipher::Aes128Cbc)
}

fn block(kdh: &IssuerAndSerial, inside: &str, key_len: usize) -> Vec<u8> {
    let frame = KeyBlockFrame::new(Profile::X9_2019, kdh, &header(inside), key_len);
    [frame.prefix(), &vec![0x4B; key_len], frame.suffix()].concat()
}

fn good_block() -> Vec<u8> {
    block(&id(&WORLD.kdh), HEADER, 16)
}

#[test]
fn good_blocks_pass() {
    let kdh = id(&WORLD.kdh);
    let cases = [
        (HEADER, ContentCipher::Aes128Cbc, KeyKind::Aes128),
        (HEADER, ContentCipher::Aes256Cbc, KeyKind::Aes128),
        (HEADER, ContentCipher::Aes256Cbc, KeyKind::Aes192),
        (HEADER, ContentCipher::Aes256Cbc, KeyKind::Aes256),
        (TDEA_HEADER, ContentCipher::Aes128Cbc, KeyKind::Tdea2),
        (TDEA_HEADER, ContentCipher::Aes256Cbc, KeyKind::Tdea3),
        (TDEA_HEADER, ContentCipher::DesEde3Cbc, KeyKind::Tdea2),
        (TDEA_HEADER, ContentCipher::DesEde3Cbc, KeyKind::Tdea3),
        (INITIAL_KEY, ContentCipher::Aes128Cbc, KeyKind::Aes128),
        (INITIAL_KEY, ContentCipher::Aes256Cbc, KeyKind::Aes256),
    ];
    for (header, cipher, kind) in cases {
        let token = token(header, header, cipher);
        let key = verify_key_block(&block(&kdh, header, kind.key_len()), &token).unwrap();
        assert_eq!(key.kind(), kind);
        assert_eq!(key.key().expose_clear(), vec![0x4B; kind.key_len()]);
    }
}

#[test]
fn each_is_refused_for_its_own_reason() {
    let kdh = id(&WORLD.kdh);
    let serial_elsewhere = IssuerAndSerial::new(
        WORLD.ca_krd.certificate.subject().der(),
        WORLD.kdh.serial().content(),
    )
    .unwrap();
    let length = |key_len| {
        LoadRefusal::KeyLength(KbhError::KeyLength {
            algorithm: KeyAlgorithm::Aes,
            key_len,
        })
    };
    let inside = |inside: &str, signed: &str| LoadRefusal::BlockHeader {
        inside: header(inside),
        signed: header(signed),
    };
    let mut version_0 = good_block();
    let version = version_0
        .windows(3)
        .position(|window| window == [2, 1, 1])
        .unwrap();
    version_0[version + 2] = 0;
    let good = good_token;
    let cases = vec![
        (
            "another KDH in the block",
            good(),
            block(&id(&WORLD.other_kdh), HEADER, 16),
            LoadRefusal::BlockKdh,
        ),
        (
            "the KDH's serial number under another issuer",
            good(),
            block(&serial_elsewhere, HEADER, 16),
            LoadRefusal::BlockKdh,
        ),
        (
            "the terminal in the KDH's place",
            good(),
            block(&id(&WORLD.krd), HEADER, 16),
            LoadRefusal::BlockKdh,
        ),
        (
            "another header inside",
            good(),
            block(&kdh, OTHER_HEADER, 16),
            inside(OTHER_HEADER, HEADER),
        ),
        (
            "another header outside",
            token(OTHER_HEADER, HEADER, ContentCipher::Aes128Cbc),
            good_block(),
            inside(HEADER, OTHER_HEADER),
        ),
        (
            "another initial key id inside",
            token(INITIAL_KEY, INITIAL_KEY, ContentCipher::Aes128Cbc),
            block(&kdh, OTHER_INITIAL_KEY, 16),
            inside(OTHER_INITIAL_KEY, INITIAL_KEY),
        ),
        (
            "no initial key id inside",
            token(INITIAL_KEY, INITIAL_KEY, ContentCipher::Aes128Cbc),
            block(&kdh, NO_INITIAL_KEY, 16),
            inside(NO_INITIAL_KEY, INITIAL_KEY),
        ),
        (
            "an initial key id inside alone",
            token(NO_INITIAL_KEY, NO_INITIAL_KEY, ContentCipher::Aes128Cbc),
            block(&kdh, INITIAL_KEY, 16),
            inside(INITIAL_KEY, NO_INITIAL_KEY),
        ),
        (
            "another initial key id announced",
            token(INITIAL_KEY, OTHER_INITIAL_KEY, ContentCipher::Aes128Cbc),
            block(&kdh, INITIAL_KEY, 16),
            LoadRefusal::AnnouncedHeader {
                announced: header(OTHER_INITIAL_KEY),
                found: header(INITIAL_KEY),
            },
        ),
        (
            "another algorithm inside",
            good(),
            block(&kdh, TDEA_HEADER, 16),
            inside(TDEA_HEADER, HEADER),
        ),
        (
            "another header announced",
            token(HEADER, OTHER_HEADER, ContentCipher::Aes128Cbc),
            good_block(),
            LoadRefusal::AnnouncedHeader {
                announced: header(OTHER_HEADER),
                found: header(HEADER),
            },
        ),
        ("no key", good(), block(&kdh, HEADER, 0), length(0)),
        (
            "a key of 8 bytes",
            good(),
            block(&kdh, HEADER, 8),
            length(8),
        ),
        (
            "a key of 15 bytes",
            good(),
            block(&kdh, HEADER, 15),
            length(15),
        ),
        (
            "a key of 17 bytes",
            good(),
            block(&kdh, HEADER, 17),
            length(17),
        ),
        (
            "a key of 33 bytes",
            good(),
            block(&kdh, HEADER, 33),
            length(33),
        ),
        (
            "a TDEA key of 32 bytes",
            token(TDEA_HEADER, TDEA_HEADER, ContentCipher::Aes256Cbc),
            block(&kdh, TDEA_HEADER, 32),
            LoadRefusal::KeyLength(KbhError::KeyLength {
                algorithm: KeyAlgorithm::Tdea,
                key_len: 32,
            }),
        ),
        (
            "a single DEA key",
            token(TDEA_HEADER, TDEA_HEADER, ContentCipher::Aes128Cbc),
            block(&kdh, TDEA_HEADER, 8),
            LoadRefusal::KeyLength(KbhError::KeyLength {
                algorithm: KeyAlgorithm::Tdea,
                key_len: 8,
            }),
        ),
        (
            "an HMAC key",
            token(HMAC_HEADER, HMAC_HEADER, ContentCipher::Aes128Cbc),
            block(&kdh, HMAC_HEADER, 16),
            LoadRefusal::KeyLength(KbhError::NotLoadable {
                algorithm: KeyAlgorithm::Hmac,
            }),
        ),
        (
            "AES-256 under an AES-128 Ke",
            good(),
            block(&kdh, HEADER, 32),
            LoadRefusal::EphemeralKeyTooWeak(KeyKind::Aes256),
        ),
        (
            "three-key TDEA under an AES-128 Ke",
            token(TDEA_HEADER, TDEA_HEADER, ContentCipher::Aes128Cbc),
            block(&kdh, TDEA_HEADER, 24),
            LoadRefusal::EphemeralKeyTooWeak(KeyKind::Tdea3),
        ),
        (
            "an AES key inside of a token for a TDEA key under TDEA",
            token(TDEA_HEADER, TDEA_HEADER, ContentCipher::DesEde3Cbc),
            good_block(),
            inside(HEADER, TDEA_HEADER),
        ),
        (
            "an AES-256 key inside of a token for a TDEA key under TDEA",
            token(TDEA_HEADER, TDEA_HEADER, ContentCipher::DesEde3Cbc),
            block(&kdh, HEADER, 32),
            inside(HEADER, TDEA_HEADER),
        ),
        (
            "32 bytes called TDEA under TDEA",
            token(TDEA_HEADER, TDEA_HEADER, ContentCipher::DesEde3Cbc),
            block(&kdh, TDEA_HEADER, 32),
            LoadRefusal::KeyLength(KbhError::KeyLength {
                algorithm: KeyAlgorithm::Tdea,
                key_len: 32,
            }),
        ),
        (
            "version 0",
            good(),
            version_0,
            LoadRefusal::BlockMalformed(MalformedToken {
                token: TokenKind::KeyBlock,
                offset: Some(version),
                rule: Rule::Version {
                    field: "key block",
                    found: 0,
                },
            }),
        ),
    ];
    for (case, token, block, refusal) in cases {
        let verified = verify_key_block(&block, &token);
        assert_eq!(verified.err(), Some(refusal), "{case}");
    }
}

#[test]
fn what_does_not_parse_is_malformed() {
    let good = good_block();
    let token = good_token();
    let cases: [(&str, Vec<u8>); 5] = [
        ("nothing", vec![]),
        ("cut by a byte", good[..good.len() - 1].to_vec()),
        ("a byte more", [&good[..], &[0]].concat()),
        ("padding left behind it", [&good[..], &[16; 16]].concat()),
        ("something else", vec![0x5A; good.len()]),
    ];
    for (case, block) in cases {
        let refusal = verify_key_block(&block, &token).unwrap_err();
        assert!(matches!(refusal, LoadRefusal::BlockMalformed(_)), "{case}");
        assert_eq!(refusal.reason(), "key-block-malformed", "{case}");
    }
}

/// Every byte but the key's own, whose change the check value shows.
#[test]
fn no_byte_round_the_key_can_be_changed() {
    let good = good_block();
    let token = good_token();
    let key = good
        .windows(16)
        .position(|part| part == [0x4B; 16])
        .unwrap();
    for position in (0..good.len()).filter(|byte| !(key..key + 16).contains(byte)) {
        for bit in 0..8 {
            let mut block = good.clone();
            block[position] ^= 1 << bit;
            assert!(
                verify_key_block(&block, &token).is_err(),
                "bit {bit} of byte {position}"
            );
        }
    }
}

#[test]
fn debug_shows_no_key() {
    let key = verify_key_block(&good_block(), &good_token()).unwrap();
    assert_eq!(
        format!("{key:?}"),
        "VerifiedKey { key: ClearKey(16 bytes), kind: Aes128 }"
    );
}
