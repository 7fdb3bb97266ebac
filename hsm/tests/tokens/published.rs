//! The key block under TDEA that is printed in TR-34:2019 Annex B, where a copy of it lies beside the
//! workspace; otherwise this test says that it is skipped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hsm::{ExpectedKeyBlock, InProcessMemoryConsent, Kcv};
use hsm_modules::{NSS, SOFTHSM};
use tr34::{
    ContentCipher, EnvelopedKeyBlock, IssuerAndSerial, Kbh, KeyBlock, KeyBlockFrame, KeyKind,
    OaepHash, Profile,
};

use crate::{common::new_token, software, terminal::terminal};

/// Under the printed terminal's key it stands in the sample. That does not open as OAEP, with whatever
/// hash: its two masks are made with two hashes. So it is encrypted anew here.
const KE: [u8; 24] = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10\
    \xff\xee\xdd\xcc\xbb\xaa\x99\x88";

/// Where the pieces are in the sample.
const IV: std::ops::Range<usize> = 453..461;
const CIPHERTEXT: std::ops::Range<usize> = 464..600;

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn samples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/tr34-2019");
    if !folder.is_dir() {
        eprintln!("skipped: no published samples");
        return None;
    }
    Some(folder)
}

#[test]
fn the_key_block_under_tdea_opens_to_the_printed_one() {
    let Some(folder) = samples() else {
        return;
    };
    hsm_modules::on(&[&SOFTHSM, &NSS], |place| {
        let read = |file: &str| fs::read(folder.join(file)).unwrap();
        let id = |file: &str| IssuerAndSerial::parse(&read(file)).unwrap();
        let token = new_token("krd");
        let key = terminal(&token);
        let sample = read("b.2.2.3.1-tdea-enveloped-data.der");
        let envelope = EnvelopedKeyBlock::new(
            id("b.2.2.1.6-krd-1-iasn.der"),
            OaepHash::Sha1,
            software::encrypt_key(key.public_key(), &KE),
            ContentCipher::DesEde3Cbc.with_iv(&sample[IV]).unwrap(),
            sample[CIPHERTEXT].to_vec(),
        )
        .unwrap();

        let consent = InProcessMemoryConsent::from_configuration("accepted").unwrap();
        let opened = token.open_in_process_memory(&key, &envelope, consent);
        let printed = read("b.2.2.2.1-tdea-key-block.der");
        assert_eq!(opened.unwrap().expose_clear(), printed);

        if place.module().can.opening.is_empty() {
            return;
        }
        let kn = KeyBlock::parse(Profile::X9_2019, &printed)
            .unwrap()
            .expose_clear();
        let header = Kbh::parse(b"A0256K0TB00E0000").unwrap();
        let open_as = |kdh: &str| {
            let expected = ExpectedKeyBlock {
                kind: KeyKind::Tdea2,
                frame: KeyBlockFrame::new(Profile::X9_2019, &id(kdh), &header, kn.len()),
            };
            token.open_inside(&key, &envelope, &[expected])
        };
        let staged = open_as("b.2.2.1.4-kdh-1-iasn.der").unwrap();
        let kcv = software::kcv(KeyKind::Tdea2, kn);
        assert_eq!(staged.kcv(Kcv::LEN).unwrap().value(), kcv);
        open_as("b.2.2.1.5-kdh-2-iasn.der").unwrap_err();
    });
}
