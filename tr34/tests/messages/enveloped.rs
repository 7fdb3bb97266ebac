//! The `EnvelopedData` of a key token.

use tr34::{ContentCipher, ContentEncryption, EnvelopedKeyBlock, KeyKind, OaepHash};

use crate::common::*;

/// The structure with these parameters of OAEP, this content encryption and this ciphertext.
fn structure(oaep: &[u8], content_encryption: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let recipient = sequence(&[
        &integer(0),
        &krd().to_der(),
        &algorithm(RSAES_OAEP, oaep),
        &octets(&[0xE1; 256]),
    ]);
    sequence(&[
        &integer(0),
        &set(&[&recipient]),
        &sequence(&[
            &oid(DATA),
            content_encryption,
            &context(0, false, &[ciphertext]),
        ]),
    ])
}

/// That of all tokens, but for the parameters of OAEP.
fn with_oaep(oaep: &[u8]) -> Vec<u8> {
    let aes = algorithm(AES_128_CBC, &octets(&[0x1F; 16]));
    structure(oaep, &aes, &[0xC1; 144])
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
    let good = with_oaep(&oaep_sha256(NULL, &[]));
    assert_eq!(enveloped().to_der(P).unwrap(), good);
    assert_eq!(EnvelopedKeyBlock::parse(P, &good).unwrap(), enveloped());
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
        .to_der(P)
        .unwrap()
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
        let der = with_oaep(&oaep_sha256(hash, mask_hash));
        assert_eq!(EnvelopedKeyBlock::parse(P, &der).unwrap(), enveloped());
    }
}

#[test]
fn parts_of_wrong_length_make_no_enveloped_data() {
    for (encrypted_key, ciphertext, refusal) in [
        (255, 16, "EnvelopedData: encryptedKey has 255 bytes"),
        (513, 16, "EnvelopedData: encryptedKey has 513 bytes"),
        (256, 0, "EnvelopedData: encryptedContent has 0 bytes"),
        (256, 17, "EnvelopedData: encryptedContent has 17 bytes"),
    ] {
        let result = EnvelopedKeyBlock::new(
            krd(),
            OaepHash::Sha256,
            vec![1; encrypted_key],
            ContentEncryption::Aes128Cbc([1; 16]),
            vec![1; ciphertext],
        );
        assert_refused(result, refusal);
    }
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
    let tdea = algorithm(DES_EDE3_CBC, &octets(&[0x1F; 8]));
    let der = structure(&oaep_sha256(NULL, &[]), &tdea, &[0xC1; 136]);
    assert_eq!(under_tdea().to_der(P).unwrap(), der);
    assert_eq!(EnvelopedKeyBlock::parse(P, &der).unwrap(), under_tdea());
    let identifier = hex::decode("301406082a864886f70d0307").unwrap();
    assert!(contains(&der, &identifier));
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
                assert_refused(made, &format!("EnvelopedData: IV has {len} bytes"));
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
