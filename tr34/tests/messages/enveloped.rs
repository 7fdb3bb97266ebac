//! The `EnvelopedData` of a key token: each departure from the profile.

use tr34::{ContentCipher, ContentEncryption, EnvelopedKeyBlock, KeyKind, OaepHash, TokenKind};

use crate::common::*;

/// An `EnvelopedData` in pieces, each the whole encoding of a field; an absent field is empty.
struct Pieces {
    version: Vec<u8>,
    originator: Vec<u8>,
    recipient_version: Vec<u8>,
    rid: Vec<u8>,
    key_encryption: Vec<u8>,
    encrypted_key: Vec<u8>,
    recipients: usize,
    content_type: Vec<u8>,
    content_encryption: Vec<u8>,
    ciphertext: Vec<u8>,
    unprotected: Vec<u8>,
}

impl Pieces {
    fn good() -> Self {
        Self {
            version: integer(0),
            originator: Vec::new(),
            recipient_version: integer(0),
            rid: krd().to_der(),
            key_encryption: oaep(&oaep_sha256(NULL, &[])),
            encrypted_key: octets(&[0xE1; 256]),
            recipients: 1,
            content_type: oid(DATA),
            content_encryption: algorithm(AES_128_CBC, &octets(&[0x1F; 16])),
            ciphertext: context(0, false, &[&[0xC1; 144]]),
            unprotected: Vec::new(),
        }
    }

    fn to_der(&self) -> Vec<u8> {
        let recipient = sequence(&[
            &self.recipient_version,
            &self.rid,
            &self.key_encryption,
            &self.encrypted_key,
        ]);
        sequence(&[
            &self.version,
            &self.originator,
            &set(&[&recipient.repeat(self.recipients)]),
            &sequence(&[
                &self.content_type,
                &self.content_encryption,
                &self.ciphertext,
            ]),
            &self.unprotected,
        ])
    }
}

fn oaep(parameters: &[u8]) -> Vec<u8> {
    algorithm(RSAES_OAEP, parameters)
}

/// RFC 4055 parameters; the hashes' own parameters are given.
fn oaep_sha256(hash_parameters: &[u8], mask_hash_parameters: &[u8]) -> Vec<u8> {
    sequence(&[
        &tagged(0, &[&algorithm(SHA_256, hash_parameters)]),
        &tagged(
            1,
            &[&algorithm(MGF1, &algorithm(SHA_256, mask_hash_parameters))],
        ),
    ])
}

#[test]
fn the_structure_is_that_of_the_profile() {
    assert_eq!(enveloped().to_der(), Pieces::good().to_der());
    assert_eq!(
        EnvelopedKeyBlock::parse(&Pieces::good().to_der()).unwrap(),
        enveloped()
    );
}

#[test]
fn oaep_parameters_are_as_in_rfc_4055() {
    let with = |hash| {
        EnvelopedKeyBlock::new(
            krd(),
            hash,
            vec![1; 256],
            ContentEncryption::Aes256Cbc([2; 16]),
            vec![3; 16],
        )
        .unwrap()
        .to_der()
    };
    let sha1 = with(OaepHash::Sha1);
    let sha1_der = hex::decode("300d06092a864886f70d0101073000").unwrap();
    assert!(contains(&sha1, &sha1_der));
    let sha256_der = hex::decode(concat!(
        "303a06092a864886f70d010107302d",
        "a00f300d06096086480165030402010500",
        "a11a301806092a864886f70d010108300b0609608648016503040201",
    ))
    .unwrap();
    assert!(contains(&with(OaepHash::Sha256), &sha256_der));
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn null_and_absent_hash_parameters_mean_the_same() {
    for (hash, mask_hash) in [(&[][..], &[][..]), (NULL, &[]), (&[], NULL), (NULL, NULL)] {
        let mut pieces = Pieces::good();
        pieces.key_encryption = oaep(&oaep_sha256(hash, mask_hash));
        assert_eq!(
            EnvelopedKeyBlock::parse(&pieces.to_der()).unwrap(),
            enveloped()
        );
    }
}

type Case = (&'static str, fn(&mut Pieces), Expect);

fn key_encryption() -> Expect {
    wrong_algorithm("keyEncryptionAlgorithm")
}

fn content_encryption() -> Expect {
    wrong_algorithm("contentEncryptionAlgorithm")
}

#[test]
fn each_departure_from_oaep_is_refused() {
    let cases: &[Case] = &[
        (
            "PKCS#1 v1.5",
            |p| p.key_encryption = algorithm(RSA_ENCRYPTION, NULL),
            key_encryption(),
        ),
        (
            "OAEP without parameters",
            |p| p.key_encryption = oaep(&[]),
            key_encryption(),
        ),
        (
            "OAEP with NULL",
            |p| p.key_encryption = oaep(NULL),
            key_encryption(),
        ),
        (
            "untagged parameters, as printed",
            |p| {
                p.key_encryption = oaep(&sequence(&[
                    &algorithm(SHA_256, NULL),
                    &algorithm(MGF1, &algorithm(SHA_256, &[])),
                    &algorithm(P_SPECIFIED, &octets(&[])),
                ]));
            },
            key_encryption(),
        ),
        (
            "SHA-1 written out, though the default",
            |p| p.key_encryption = oaep(&sequence(&[&tagged(0, &[&algorithm(SHA_1, NULL)])])),
            key_encryption(),
        ),
        (
            "SHA-256 for the label, SHA-1 in MGF1",
            |p| p.key_encryption = oaep(&sequence(&[&tagged(0, &[&algorithm(SHA_256, &[])])])),
            key_encryption(),
        ),
        (
            "SHA-1 for the label, SHA-256 in MGF1",
            |p| {
                let mask = algorithm(MGF1, &algorithm(SHA_256, &[]));
                p.key_encryption = oaep(&sequence(&[&tagged(1, &[&mask])]));
            },
            key_encryption(),
        ),
        (
            "SHA-384 in MGF1",
            |p| {
                p.key_encryption = oaep(&sequence(&[
                    &tagged(0, &[&algorithm(SHA_256, &[])]),
                    &tagged(1, &[&algorithm(MGF1, &algorithm(SHA_384, &[]))]),
                ]));
            },
            key_encryption(),
        ),
        (
            "SHA-384",
            |p| {
                p.key_encryption = oaep(&sequence(&[
                    &tagged(0, &[&algorithm(SHA_384, &[])]),
                    &tagged(1, &[&algorithm(MGF1, &algorithm(SHA_384, &[]))]),
                ]));
            },
            key_encryption(),
        ),
        (
            "another mask function",
            |p| {
                p.key_encryption = oaep(&sequence(&[
                    &tagged(0, &[&algorithm(SHA_256, &[])]),
                    &tagged(1, &[&algorithm(P_SPECIFIED, &algorithm(SHA_256, &[]))]),
                ]));
            },
            key_encryption(),
        ),
        (
            "hash with other parameters",
            |p| p.key_encryption = oaep(&oaep_sha256(&octets(&[1]), &[])),
            key_encryption(),
        ),
        (
            "a label",
            |p| {
                let label = algorithm(P_SPECIFIED, &octets(b"label"));
                p.key_encryption = oaep(&sequence(&[
                    &tagged(0, &[&algorithm(SHA_256, &[])]),
                    &tagged(1, &[&algorithm(MGF1, &algorithm(SHA_256, &[]))]),
                    &tagged(2, &[&label]),
                ]));
            },
            key_encryption(),
        ),
    ];
    assert_each_refused(cases);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_departure_from_the_structure_is_refused() {
    let cases: &[Case] = &[
        (
            "EnvelopedData v2",
            |p| p.version = integer(2),
            version("EnvelopedData", 2),
        ),
        (
            "recipient v2",
            |p| p.recipient_version = integer(2),
            version("KeyTransRecipientInfo", 2),
        ),
        (
            "recipient by key identifier",
            |p| p.rid = context(0, false, &[&[7; 20]]),
            Expect::Der,
        ),
        (
            "no recipient",
            |p| p.recipients = 0,
            not_one("recipientInfos", 0),
        ),
        (
            "two recipients",
            |p| p.recipients = 2,
            not_one("recipientInfos", 2),
        ),
        (
            "an originator",
            |p| p.originator = tagged(0, &[]),
            Expect::Der,
        ),
        (
            "unprotected attributes",
            |p| p.unprotected = tagged(1, &[&attribute(DATA, &[NULL])]),
            Expect::Der,
        ),
        (
            "content of another type",
            |p| p.content_type = oid(SIGNED_DATA),
            content_type("encryptedContentInfo", SIGNED_DATA),
        ),
        (
            "single DES",
            |p| p.content_encryption = algorithm(DES_CBC, &octets(&[1; 8])),
            content_encryption(),
        ),
        (
            "TDEA without an IV",
            |p| p.content_encryption = algorithm(DES_EDE3_CBC, &[]),
            content_encryption(),
        ),
        (
            "TDEA with an empty IV",
            |p| p.content_encryption = algorithm(DES_EDE3_CBC, &octets(&[])),
            length("IV", 0),
        ),
        (
            "TDEA with an IV of AES's length",
            |p| p.content_encryption = algorithm(DES_EDE3_CBC, &octets(&[1; 16])),
            length("IV", 16),
        ),
        (
            "TDEA with an IV of a byte less",
            |p| p.content_encryption = algorithm(DES_EDE3_CBC, &octets(&[1; 7])),
            length("IV", 7),
        ),
        (
            "TDEA and a ciphertext of no whole block",
            |p| {
                p.content_encryption = algorithm(DES_EDE3_CBC, &octets(&[1; 8]));
                p.ciphertext = context(0, false, &[&[1; 140]]);
            },
            length("encryptedContent", 140),
        ),
        (
            "TDEA and an empty ciphertext",
            |p| {
                p.content_encryption = algorithm(DES_EDE3_CBC, &octets(&[1; 8]));
                p.ciphertext = context(0, false, &[]);
            },
            length("encryptedContent", 0),
        ),
        (
            "AES-192",
            |p| p.content_encryption = algorithm(AES_192_CBC, &octets(&[1; 16])),
            content_encryption(),
        ),
        (
            "no IV",
            |p| p.content_encryption = algorithm(AES_128_CBC, &[]),
            content_encryption(),
        ),
        (
            "IV of 8 bytes, as printed for AES",
            |p| p.content_encryption = algorithm(AES_128_CBC, &octets(&[1; 8])),
            length("IV", 8),
        ),
        (
            "IV not an OCTET STRING",
            |p| p.content_encryption = algorithm(AES_128_CBC, &integer(1)),
            Expect::Der,
        ),
        ("no ciphertext", |p| p.ciphertext.clear(), Expect::Der),
        (
            "ciphertext inside the AlgorithmIdentifier, as in the layout of 2012",
            |p| {
                p.content_encryption = algorithm(
                    AES_128_CBC,
                    &[octets(&[1; 16]), p.ciphertext.clone()].concat(),
                );
                p.ciphertext.clear();
            },
            Expect::Der,
        ),
        (
            "ciphertext constructed",
            |p| p.ciphertext = context(0, true, &[&octets(&[1; 16])]),
            Expect::Der,
        ),
        (
            "empty ciphertext",
            |p| p.ciphertext = context(0, false, &[]),
            length("encryptedContent", 0),
        ),
        (
            "ciphertext of no whole block",
            |p| p.ciphertext = context(0, false, &[&[1; 136]]),
            length("encryptedContent", 136),
        ),
        (
            "Ke under RSA-1024",
            |p| p.encrypted_key = octets(&[1; 128]),
            length("encryptedKey", 128),
        ),
        (
            "Ke under RSA-8192",
            |p| p.encrypted_key = octets(&[1; 1024]),
            length("encryptedKey", 1024),
        ),
    ];
    assert_each_refused(cases);
}

#[track_caller]
fn assert_each_refused(cases: &[Case]) {
    for (case, change, expected) in cases {
        let mut pieces = Pieces::good();
        change(&mut pieces);
        let result = EnvelopedKeyBlock::parse(&pieces.to_der());
        assert_refused(case, result, TokenKind::EnvelopedData, expected);
    }
}

#[test]
fn parts_of_wrong_length_make_no_enveloped_data() {
    for (encrypted_key, ciphertext, expected) in [
        (255, 16, length("encryptedKey", 255)),
        (513, 16, length("encryptedKey", 513)),
        (256, 0, length("encryptedContent", 0)),
        (256, 17, length("encryptedContent", 17)),
    ] {
        let result = EnvelopedKeyBlock::new(
            krd(),
            OaepHash::Sha256,
            vec![1; encrypted_key],
            ContentEncryption::Aes128Cbc([1; 16]),
            vec![1; ciphertext],
        );
        assert_refused("parts", result, TokenKind::EnvelopedData, &expected);
    }
}

#[test]
fn no_cut_extended_or_flipped_bytes_are_taken_for_others() {
    assert_reads_exactly(
        &enveloped().to_der(),
        EnvelopedKeyBlock::parse,
        EnvelopedKeyBlock::to_der,
    );
}

fn under_tdea() -> EnvelopedKeyBlock {
    EnvelopedKeyBlock::new(
        krd(),
        OaepHash::Sha256,
        vec![0xE1; 256],
        ContentEncryption::DesEde3Cbc([0x1F; 8]),
        vec![0xC1; 136],
    )
    .unwrap()
}

/// 136 bytes are whole blocks of TDEA, and not of AES.
#[test]
fn tdea_is_named_with_an_iv_of_its_block() {
    let mut pieces = Pieces::good();
    pieces.content_encryption = algorithm(DES_EDE3_CBC, &octets(&[0x1F; 8]));
    pieces.ciphertext = context(0, false, &[&[0xC1; 136]]);
    assert_eq!(under_tdea().to_der(), pieces.to_der());
    assert_eq!(
        EnvelopedKeyBlock::parse(&pieces.to_der()).unwrap(),
        under_tdea()
    );
    let identifier = hex::decode("301406082a864886f70d0307").unwrap();
    assert!(contains(&pieces.to_der(), &identifier));
    assert_reads_exactly(
        &under_tdea().to_der(),
        EnvelopedKeyBlock::parse,
        EnvelopedKeyBlock::to_der,
    );
}

#[test]
fn an_iv_has_the_length_of_its_ciphers_block() {
    for cipher in ContentCipher::ALL {
        for len in 0..=32 {
            let made = cipher.with_iv(&vec![1; len]);
            if len == cipher.block_len() {
                let made = made.unwrap();
                assert_eq!((made.cipher(), made.iv()), (cipher, &vec![1; len][..]));
            } else {
                let expected = length("IV", len);
                assert_refused(cipher.name(), made, TokenKind::EnvelopedData, &expected);
            }
        }
    }
}

#[test]
fn padding_is_always_added() {
    for (cipher, len, padded) in [
        (ContentCipher::Aes128Cbc, 0, 16),
        (ContentCipher::Aes128Cbc, 133, 144),
        (ContentCipher::Aes256Cbc, 144, 160),
        (ContentCipher::DesEde3Cbc, 0, 8),
        (ContentCipher::DesEde3Cbc, 133, 136),
        (ContentCipher::DesEde3Cbc, 136, 144),
        (ContentCipher::DesEde3Cbc, 143, 144),
    ] {
        assert_eq!(cipher.padded_len(len), padded, "{cipher} {len}");
    }
}

#[test]
fn ke_is_at_least_as_strong_as_kn() {
    use ContentCipher::{Aes128Cbc, Aes256Cbc, DesEde3Cbc};
    let cases: [(KeyKind, ContentCipher, &[ContentCipher]); 5] = [
        (
            KeyKind::Tdea2,
            Aes128Cbc,
            &[Aes128Cbc, Aes256Cbc, DesEde3Cbc],
        ),
        (KeyKind::Tdea3, Aes256Cbc, &[Aes256Cbc, DesEde3Cbc]),
        (KeyKind::Aes128, Aes128Cbc, &[Aes128Cbc, Aes256Cbc]),
        (KeyKind::Aes192, Aes256Cbc, &[Aes256Cbc]),
        (KeyKind::Aes256, Aes256Cbc, &[Aes256Cbc]),
    ];
    for (kind, usual, carrying) in cases {
        assert_eq!(ContentCipher::for_key(kind), usual);
        assert!(usual.key_len() >= kind.key_len());
        for cipher in ContentCipher::ALL {
            let carries = carrying.contains(&cipher);
            assert_eq!(cipher.carries(kind), carries, "{kind} under {cipher}");
        }
    }
}
