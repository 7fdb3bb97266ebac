//! The samples printed in TR-34:2019 Annex B, and a token of the layout of 2012, where copies of them lie
//! beside the workspace; otherwise these tests say that they are skipped.
//!
//! Each sample is read under each profile, and built again from its values. Signatures, certificates
//! and ciphers are checked elsewhere: this crate has none.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use der::Document;
use sha2::{Digest as _, Sha256};
use tr34::{
    CaRebindToken, CaUnbindToken, ContentCipher, EnvelopedKeyBlock, Freshness, IssuerAndSerial,
    KdhCredentialToken, KdhRebindToken, KdhUnbindToken, KeyBlock, KeyBlockFrame, KeyToken,
    KrdCredentialToken, MalformedToken, OaepHash, Profile, RandomToken, Rule, SigningTime,
    TokenKind,
};

use Profile::{Aws2012, Clover, X9_2019, X9_2019AnnexD, X9_2019Samples};

/// Kn in every published key block.
const KN: [u8; 16] = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10,
];

/// The folder of one collection of samples, if it is there.
fn samples(collection: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors")
        .join(collection);
    if !folder.is_dir() {
        report_skipped(collection);
        return None;
    }
    Some(folder)
}

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn report_skipped(collection: &str) {
    eprintln!("skipped: no published samples {collection}");
}

/// TR-34:2019 Annex B.
fn annex_b(test: impl FnOnce(&Folder)) {
    if let Some(folder) = samples("tr34-2019") {
        test(&Folder(folder));
    }
}

struct Folder(PathBuf);

impl Folder {
    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.0.join(file)).expect(file)
    }

    fn pem(&self, file: &str) -> Vec<u8> {
        let text = fs::read_to_string(self.0.join(file)).expect(file);
        let (_, document) = Document::from_pem(&text).expect(file);
        document.as_bytes().to_vec()
    }

    fn id(&self, file: &str) -> IssuerAndSerial {
        IssuerAndSerial::parse(&self.read(file)).expect(file)
    }

    fn kdh_1(&self) -> IssuerAndSerial {
        self.id("b.2.2.1.4-kdh-1-iasn.der")
    }

    fn krd_1(&self) -> IssuerAndSerial {
        self.id("b.2.2.1.6-krd-1-iasn.der")
    }

    fn crl(&self) -> Vec<u8> {
        self.read("b.2.1.3-ca-kdh-crl.der")
    }
}

/// Whether a parser takes the bytes in each profile, in the order of [`Profile::ALL`].
fn taken<T>(parse: impl Fn(Profile) -> Result<T, MalformedToken>) -> [bool; 5] {
    Profile::ALL.map(|profile| parse(profile).is_ok())
}

#[track_caller]
fn assert_rule<T: std::fmt::Debug>(
    result: Result<T, MalformedToken>,
    token: TokenKind,
    at: usize,
) -> Rule {
    let error = result.unwrap_err();
    assert_eq!(error.token, token, "{error}");
    assert_eq!(error.offset, Some(at), "{error}");
    error.rule
}

#[test]
fn the_random_token_is_read_and_written() {
    annex_b(|folder| {
        let der = folder.read("b.12-rt-krd.der");
        let token = RandomToken::parse(X9_2019, &der).unwrap();
        let nonce = 0x167E_B0E7_2781_E494_0112_2334_4556_6778_u128;
        assert_eq!(token.nonce().as_bytes(), &nonce.to_be_bytes());
        assert_eq!(token.to_der(), der);
        let all_but_aws = [true, true, true, false, true];
        assert_eq!(
            taken(|profile| RandomToken::parse(profile, &der)),
            all_but_aws
        );
    });
}

#[test]
fn the_krd_credential_is_read_and_written() {
    annex_b(|folder| {
        let der = folder.read("b.7-ct-krd.der");
        let token = KrdCredentialToken::parse(X9_2019, &der).unwrap();
        assert_eq!(token.certificate(), folder.pem("b.2.1.7-krd-1.cert.pem"));
        for profile in [X9_2019, X9_2019AnnexD, X9_2019Samples, Aws2012] {
            assert_eq!(token.to_der(profile), der);
        }
        // Clover leaves the empty content out.
        let missing = assert_rule(
            KrdCredentialToken::parse(Clover, &der),
            TokenKind::KrdCredential,
            41,
        );
        assert_eq!(
            missing,
            Rule::Surplus {
                field: "encapContentInfo"
            }
        );
        let without = token.to_der(Clover);
        assert_eq!(without.len(), der.len() - 4);
        assert_eq!(KrdCredentialToken::parse(Clover, &without).unwrap(), token);
    });
}

#[test]
fn the_cas_come_in_the_same_token() {
    annex_b(|folder| {
        for (file, certificate) in [
            ("b.3-root.der", "b.2.1.1-root.cert.pem"),
            ("b.4-ca-kdh.der", "b.2.1.2-ca-kdh.cert.pem"),
            ("b.5-ca-krd.der", "b.2.1.4-ca-krd.cert.pem"),
        ] {
            let token = KrdCredentialToken::parse(X9_2019, &folder.read(file)).unwrap();
            assert_eq!(token.certificate(), folder.pem(certificate), "{file}");
            assert_eq!(token.to_der(X9_2019), folder.read(file), "{file}");
        }
    });
}

#[test]
fn der_and_pem_are_the_same_tokens() {
    annex_b(|folder| {
        for name in [
            "b.3-root",
            "b.4-ca-kdh",
            "b.5-ca-krd",
            "b.6-ct-kdh",
            "b.7-ct-krd",
            "b.8-one-pass-key-token",
            "b.8-one-pass-key-token-original-malformed",
            "b.9-two-pass-key-token",
            "b.9-two-pass-key-token-original-malformed",
            "b.10-rbt-ca",
            "b.11-rbt-kdh",
            "b.13-ubt-ca",
            "b.14-ubt-kdh",
            "b.2.1.3-ca-kdh-crl",
        ] {
            let [der, pem] = ["der", "pem"].map(|extension| format!("{name}.{extension}"));
            assert_eq!(folder.read(&der), folder.pem(&pem), "{name}");
        }
    });
}

#[test]
fn the_identities_are_those_of_the_certificates() {
    annex_b(|folder| {
        for (identity, certificate, serial) in [
            ("b.2.2.1.1-root-iasn.der", "b.2.1.1-root.cert.pem", 1),
            ("b.2.2.1.2-ca-kdh-iasn.der", "b.2.1.2-ca-kdh.cert.pem", 5),
            ("b.2.2.1.3-ca-krd-iasn.der", "b.2.1.4-ca-krd.cert.pem", 6),
            ("b.2.2.1.4-kdh-1-iasn.der", "b.2.1.5-kdh-1.cert.pem", 6),
            ("b.2.2.1.5-kdh-2-iasn.der", "b.2.1.6-kdh-2.cert.pem", 7),
            ("b.2.2.1.6-krd-1-iasn.der", "b.2.1.7-krd-1.cert.pem", 7),
        ] {
            let parsed = folder.id(identity);
            assert_eq!(parsed.to_der(), folder.read(identity), "{identity}");
            assert_eq!(parsed.serial_bytes(), [0x34, 0, 0, 0, serial], "{identity}");
            let of_certificate = IssuerAndSerial::of_certificate(&folder.pem(certificate));
            assert_eq!(of_certificate.unwrap(), parsed, "{certificate}");
        }
        // Serial numbers are unique for an issuer only: these two pairs differ in it alone.
        let ids = ["1.3-ca-krd", "1.4-kdh-1", "1.5-kdh-2", "1.6-krd-1"]
            .map(|name| folder.id(&format!("b.2.2.{name}-iasn.der")));
        assert_eq!(ids[0].serial_bytes(), ids[1].serial_bytes());
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[2].serial_bytes(), ids[3].serial_bytes());
        assert_ne!(ids[2], ids[3]);
    });
}

#[test]
fn the_key_blocks_are_read_and_written() {
    annex_b(|folder| {
        for (file, header) in [
            ("b.2.2.2.1-tdea-key-block.der", "A0256K0TB00E0000"),
            ("b.2.2.2.3-tdea-key-block.der", "A0256K0TB00E0000"),
            ("b.2.2.2.4-aes-key-block.der", "D0256K0AB00E0000"),
        ] {
            let der = folder.read(file);
            assert_key_block(&der, &folder.kdh_1(), header);
            let all_but_annex_d = [true, false, true, true, true];
            assert_eq!(
                taken(|profile| KeyBlock::parse(profile, &der)),
                all_but_annex_d
            );
        }
    });
}

fn assert_key_block(der: &[u8], kdh: &IssuerAndSerial, header: &str) {
    let block = KeyBlock::parse(X9_2019, der).unwrap();
    assert_eq!(block.expose_clear(), KN);
    assert_eq!(block.header().to_string(), header);
    assert_eq!(block.kdh(), kdh);
    let frame = KeyBlockFrame::new(X9_2019, block.kdh(), block.header(), KN.len());
    assert_eq!([frame.prefix(), &KN, frame.suffix()].concat(), der);
}

#[test]
fn the_kdh_credential_has_its_crl_behind_its_signers() {
    annex_b(|folder| {
        let printed = folder.read("b.6-ct-kdh.der");
        let kind = TokenKind::KdhCredential;
        let rule = assert_rule(KdhCredentialToken::parse(X9_2019, &printed), kind, 902);
        assert!(matches!(rule, Rule::Tag { field: "crls", .. }), "{rule}");

        let token = KdhCredentialToken::parse(X9_2019Samples, &printed).unwrap();
        assert_eq!(token.certificate(), folder.pem("b.2.1.5-kdh-1.cert.pem"));
        assert_eq!(token.crl(), folder.crl());
        assert_eq!(token.to_der(X9_2019Samples), printed);

        // CMS has them before: the two fields change places.
        let (before, signers, crls) = (&printed[..902], &printed[902..904], &printed[904..]);
        assert_eq!(signers, [0x31, 0x00]);
        assert_eq!(token.to_der(X9_2019), [before, crls, signers].concat());
        let samples_only = [false, false, true, false, false];
        assert_eq!(
            taken(|profile| KdhCredentialToken::parse(profile, &printed)),
            samples_only
        );
    });
}

/// Where the samples' key tokens have the version of `SignedData`.
const VERSION_AT: usize = 23;
const PRINTED_VERSION: Rule = Rule::Version {
    field: "SignedData",
    found: 1,
};

/// One pass: the signing time of the corrected sample and of the first print.
#[test]
fn the_one_pass_tokens_are_read_and_built_again() {
    annex_b(|folder| {
        for (file, envelope, time) in [
            (
                "b.8-one-pass-key-token.der",
                "b.2.2.3.1-tdea-enveloped-data.der",
                "2020-02-10T19:13:53Z",
            ),
            (
                "b.8-one-pass-key-token-original-malformed.der",
                "b.2.2.3.1-tdea-enveloped-data-original-malformed.der",
                "2019-06-12T17:04:43Z",
            ),
        ] {
            let token = assert_key_token(folder, file, envelope);
            let Freshness::SigningTime(signed_at) = token.freshness() else {
                panic!("{file}: a nonce in one pass");
            };
            assert_eq!(signed_at.to_string(), time, "{file}");
            assert_eq!(token.signing_time(), Some(*signed_at));
        }
    });
}

#[test]
fn the_two_pass_tokens_are_read_and_built_again() {
    annex_b(|folder| {
        for (file, envelope) in [
            (
                "b.9-two-pass-key-token.der",
                "b.2.2.3.1-tdea-enveloped-data.der",
            ),
            (
                "b.9-two-pass-key-token-original-malformed.der",
                "b.2.2.3.1-tdea-enveloped-data-original-malformed.der",
            ),
        ] {
            let token = assert_key_token(folder, file, envelope);
            let rt_krd = RandomToken::parse(X9_2019, &folder.read("b.12-rt-krd.der")).unwrap();
            assert_eq!(
                token.freshness(),
                &Freshness::Nonce(rt_krd.nonce().clone()),
                "{file}"
            );
            assert_eq!(token.signing_time(), None);
        }
    });
}

/// What both kinds of key token have in common. The corrected ones are written as they are; the first
/// prints have the ciphertext in the algorithm identifier, which is read and not written.
fn assert_key_token(folder: &Folder, file: &str, envelope: &str) -> KeyToken {
    let der = folder.read(file);
    let rule = assert_rule(
        KeyToken::parse(X9_2019, &der),
        TokenKind::KeyToken,
        VERSION_AT,
    );
    assert_eq!(rule, PRINTED_VERSION, "{file}");
    let samples_only = [false, false, true, false, false];
    assert_eq!(
        taken(|profile| KeyToken::parse(profile, &der)),
        samples_only,
        "{file}"
    );

    let token = KeyToken::parse(X9_2019Samples, &der).unwrap();
    assert_eq!(token.signed_by().signer(), &folder.kdh_1());
    assert_eq!(token.header().to_string(), "A0256K0TB00E0000");
    assert_eq!(token.crl(), Some(&folder.crl()[..]));
    let enveloped = token.enveloped();
    assert_eq!(enveloped.recipient(), &folder.krd_1());
    assert_eq!(enveloped.oaep_hash(), OaepHash::Sha256);
    assert_eq!(enveloped.cipher(), ContentCipher::DesEde3Cbc);
    assert_eq!(
        enveloped.encryption().iv(),
        [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]
    );
    let by_itself = EnvelopedKeyBlock::parse(X9_2019Samples, &folder.read(envelope));
    assert_eq!(&by_itself.unwrap(), enveloped, "{file}");

    let draft = KeyToken::draft(
        X9_2019Samples,
        enveloped,
        token.header(),
        token.freshness(),
        SigningTime::from_unix_seconds(0).unwrap(),
        token.signed_by().signer(),
        &folder.crl(),
    )
    .unwrap();
    if !file.contains("malformed") {
        assert_eq!(
            draft.to_be_signed(),
            token.signed_by().signed_bytes(),
            "{file}"
        );
        assert_eq!(
            draft.into_token(token.signed_by().signature()).unwrap(),
            der,
            "{file}"
        );
    }
    token
}

/// The attributes by themselves, under the tag of the message or of what is signed.
#[test]
fn the_signed_attributes_are_those_of_the_tokens() {
    annex_b(|folder| {
        for (attributes, token) in [
            (
                "b.2.2.4-signed-attrs-one-pass.der",
                "b.8-one-pass-key-token.der",
            ),
            (
                "b.2.2.5-signed-attrs-two-pass.der",
                "b.9-two-pass-key-token.der",
            ),
        ] {
            let printed = folder.read(attributes);
            let token = KeyToken::parse(X9_2019Samples, &folder.read(token)).unwrap();
            assert_eq!(
                printed[1..],
                token.signed_by().signed_bytes()[1..],
                "{attributes}"
            );
        }
    });
}

#[test]
fn the_enveloped_data_are_read_and_written() {
    const OAEP: Rule = Rule::Algorithm {
        field: "keyEncryptionAlgorithm",
    };
    annex_b(|folder| {
        for (name, cipher) in [
            ("b.2.2.3.1-tdea-enveloped-data", ContentCipher::DesEde3Cbc),
            ("b.2.2.3.2-aes-enveloped-data", ContentCipher::Aes128Cbc),
        ] {
            let der = folder.read(&format!("{name}.der"));
            let refused = assert_rule(
                EnvelopedKeyBlock::parse(X9_2019, &der),
                TokenKind::EnvelopedData,
                94,
            );
            assert_eq!(refused, OAEP, "{name}");
            let enveloped = EnvelopedKeyBlock::parse(X9_2019Samples, &der).unwrap();
            assert_eq!(enveloped.cipher(), cipher);
            assert_eq!(enveloped.recipient(), &folder.krd_1());
            assert_eq!(enveloped.to_der(X9_2019Samples).unwrap(), der, "{name}");

            let first_print = folder.read(&format!("{name}-original-malformed.der"));
            let read = EnvelopedKeyBlock::parse(X9_2019Samples, &first_print);
            assert_eq!(read.unwrap(), enveloped, "{name}");
            let samples_only = [false, false, true, false, false];
            assert_eq!(
                taken(|profile| EnvelopedKeyBlock::parse(profile, &der)),
                samples_only
            );
        }

        // The AES sample's IV has 8 bytes. It is filled up with zeros, and nowhere but here.
        let aes = folder.read("b.2.2.3.2-aes-enveloped-data.der");
        let enveloped = EnvelopedKeyBlock::parse(X9_2019Samples, &aes).unwrap();
        let mut iv = [0; 16];
        iv[..8].copy_from_slice(&KN[..8]);
        assert_eq!(enveloped.encryption().iv(), iv);
        let strict = enveloped.to_der(X9_2019).unwrap();
        assert_eq!(
            EnvelopedKeyBlock::parse(X9_2019, &strict).unwrap(),
            enveloped
        );
    });
}

/// The first print followed the rule of 2012, in the place of the ciphertext and in what was digested.
#[test]
fn the_first_prints_are_of_the_layout_of_2012() {
    annex_b(|folder| {
        let in_algorithm = Rule::Surplus {
            field: "contentEncryptionAlgorithm",
        };
        let short_iv = Rule::Length {
            field: "IV",
            found: 8,
        };
        for (name, strict_rule) in [
            ("b.2.2.3.1-tdea-enveloped-data", in_algorithm),
            ("b.2.2.3.2-aes-enveloped-data", short_iv),
        ] {
            let der = folder.read(&format!("{name}-original-malformed.der"));
            let sound = EnvelopedKeyBlock::parse(X9_2019Samples, &der).unwrap();
            let rule = assert_rule(
                EnvelopedKeyBlock::parse(X9_2019, &der),
                TokenKind::EnvelopedData,
                94,
            );
            let field = "keyEncryptionAlgorithm";
            assert_eq!(rule, Rule::Algorithm { field }, "{name}");
            // With OAEP's parameters put right, and nothing else.
            let strict = sound.to_der(X9_2019).unwrap();
            let oaep = |der: &[u8]| der[94..96 + usize::from(der[95])].to_vec();
            let mended = replaced(&der, &oaep(&der), &oaep(&strict));
            let rule = EnvelopedKeyBlock::parse(X9_2019, &mended).unwrap_err().rule;
            assert_eq!(rule, strict_rule, "{name}");

            if name.contains("tdea") {
                assert_eq!(EnvelopedKeyBlock::parse(Aws2012, &der).unwrap(), sound);
                assert_eq!(sound.to_der(Aws2012).unwrap(), der);
                let digest: [u8; 32] = Sha256::digest(&der[4..]).into();
                for attributes in [
                    "b.2.2.4-signed-attrs-one-pass-original.der",
                    "b.2.2.5-signed-attrs-two-pass-original.der",
                ] {
                    assert!(folder.read(attributes).ends_with(&digest), "{attributes}");
                }
            }
        }
    });
}

/// With one part replaced by another, in a structure of two levels round it whose lengths follow.
fn replaced(der: &[u8], part: &[u8], with: &[u8]) -> Vec<u8> {
    let at = der
        .windows(part.len())
        .position(|window| window == part)
        .unwrap();
    let mut changed = [&der[..at], with, &der[at + part.len()..]].concat();
    // SEQUENCE, SET and SEQUENCE round it have lengths of two bytes.
    for length_at in [2, 9, 13] {
        let length = u16::from_be_bytes([der[length_at], der[length_at + 1]]);
        let length = usize::from(length) + with.len() - part.len();
        let length = u16::try_from(length).unwrap().to_be_bytes();
        changed[length_at..length_at + 2].copy_from_slice(&length);
    }
    changed
}

#[test]
fn the_unbind_token_of_the_kdh_is_read_and_built_again() {
    annex_b(|folder| {
        let der = folder.read("b.14-ubt-kdh.der");
        let kind = TokenKind::KdhUnbind;
        let token = KdhUnbindToken::parse(X9_2019Samples, &der).unwrap();
        assert_eq!(token.signed_by().signer(), &folder.kdh_1());
        assert_eq!(token.krd(), &folder.krd_1());
        assert_eq!(token.crl(), Some(&folder.crl()[..]));
        assert_eq!(token.nonce().as_bytes().len(), 8);
        // Of another profile in one thing: a nonce of 8 bytes.
        let error = KdhUnbindToken::parse(X9_2019, &der).unwrap_err();
        assert_eq!(error.token, kind);
        let nonce = Rule::Length {
            field: "randomNonce",
            found: 8,
        };
        assert_eq!(error.rule, nonce);

        let draft = KdhUnbindToken::draft(
            X9_2019Samples,
            token.krd(),
            token.nonce(),
            SigningTime::from_unix_seconds(0).unwrap(),
            token.signed_by().signer(),
            &folder.crl(),
        )
        .unwrap();
        assert_eq!(draft.to_be_signed(), token.signed_by().signed_bytes());
        assert_eq!(
            draft.into_token(token.signed_by().signature()).unwrap(),
            der
        );
    });
}

#[test]
fn the_rebind_token_of_the_kdh_is_read_and_built_again() {
    annex_b(|folder| {
        let der = folder.read("b.11-rbt-kdh.der");
        let token = KdhRebindToken::parse(X9_2019Samples, &der).unwrap();
        assert_eq!(token.signed_by().signer(), &folder.kdh_1());
        assert_eq!(token.krd(), &folder.krd_1());
        assert_eq!(
            token.new_kdh_certificate(),
            folder.pem("b.2.1.6-kdh-2.cert.pem")
        );
        assert_eq!(
            token.nonce().as_bytes(),
            0x7DEA_1C00_894E_246A_u64.to_be_bytes()
        );
        let rule = assert_rule(
            KdhRebindToken::parse(X9_2019, &der),
            TokenKind::KdhRebind,
            VERSION_AT,
        );
        assert_eq!(rule, PRINTED_VERSION);

        let draft = KdhRebindToken::draft(
            X9_2019Samples,
            token.krd(),
            token.new_kdh_certificate(),
            token.nonce(),
            SigningTime::from_unix_seconds(0).unwrap(),
            token.signed_by().signer(),
            &folder.crl(),
        )
        .unwrap();
        assert_eq!(draft.to_be_signed(), token.signed_by().signed_bytes());
        assert_eq!(
            draft.into_token(token.signed_by().signature()).unwrap(),
            der
        );
    });
}

#[test]
fn the_unbind_token_of_the_ca_is_read_and_built_again() {
    annex_b(|folder| {
        let der = folder.read("b.13-ubt-ca.der");
        // The one signed token of the samples that is sound CMS, and so of the strict profile too.
        let ubt_ca = [true, true, true, true, false];
        assert_eq!(taken(|profile| CaUnbindToken::parse(profile, &der)), ubt_ca);
        let token = CaUnbindToken::parse(X9_2019, &der).unwrap();
        assert_eq!(
            token.signed_by().signer(),
            &folder.id("b.2.2.1.3-ca-krd-iasn.der")
        );
        assert_eq!(token.krd(), &folder.krd_1());
        assert_eq!(token.kdh(), &folder.kdh_1());
        let content = [folder.krd_1().to_der(), folder.kdh_1().to_der()].concat();
        assert_eq!(token.signed_by().signed_bytes(), content);

        let draft = CaUnbindToken::draft(
            X9_2019,
            token.krd(),
            token.kdh(),
            SigningTime::from_unix_seconds(0).unwrap(),
            token.signed_by().signer(),
        )
        .unwrap();
        assert_eq!(draft.to_be_signed(), content);
        assert_eq!(
            draft.into_token(token.signed_by().signature()).unwrap(),
            der
        );
    });
}

#[test]
fn the_rebind_token_of_the_ca_is_read_and_built_again() {
    annex_b(|folder| {
        let der = folder.read("b.10-rbt-ca.der");
        let token = CaRebindToken::parse(X9_2019Samples, &der).unwrap();
        assert_eq!(
            token.signed_by().signer(),
            &folder.id("b.2.2.1.3-ca-krd-iasn.der")
        );
        assert_eq!(token.krd(), &folder.krd_1());
        assert_eq!(token.kdh(), &folder.kdh_1());
        assert_eq!(
            token.new_kdh_certificate(),
            folder.pem("b.2.1.6-kdh-2.cert.pem")
        );
        assert_eq!(token.signing_time().to_string(), "2012-01-31T13:22:14Z");
        let rule = assert_rule(
            CaRebindToken::parse(X9_2019, &der),
            TokenKind::CaRebind,
            VERSION_AT,
        );
        assert_eq!(rule, PRINTED_VERSION);

        let draft = CaRebindToken::draft(
            X9_2019Samples,
            token.krd(),
            token.kdh(),
            token.new_kdh_certificate(),
            token.signing_time(),
            token.signed_by().signer(),
        )
        .unwrap();
        assert_eq!(draft.to_be_signed(), token.signed_by().signed_bytes());
        assert_eq!(
            draft.into_token(token.signed_by().signature()).unwrap(),
            der
        );
    });
}

#[test]
fn the_token_of_2012_is_read_and_built_again() {
    let Some(folder) = samples("aws-2012").map(Folder) else {
        return;
    };
    let der = folder.read("tdes-k1.token.der");
    let aws_only = [false, false, false, true, false];
    assert_eq!(taken(|profile| KeyToken::parse(profile, &der)), aws_only);
    let token = KeyToken::parse(Aws2012, &der).unwrap();
    let kdh = IssuerAndSerial::of_certificate(&folder.pem("tdes-k1.kdh.cert.pem")).unwrap();
    assert_eq!(token.signed_by().signer(), &kdh);
    assert_eq!(token.header().to_string(), "D9999K1TB00E0000");
    assert_eq!(token.crl(), None);
    let Freshness::Nonce(nonce) = token.freshness() else {
        panic!("no nonce");
    };
    let printed = String::from_utf8(folder.read("tdes-k1.nonce.hex")).unwrap();
    assert_eq!(
        hex::encode_upper(nonce.as_bytes()),
        printed.trim().to_uppercase()
    );
    assert_eq!(token.enveloped().oaep_hash(), OaepHash::Sha256);
    assert_eq!(
        hex::encode_upper(token.enveloped().encryption().iv()),
        "BAF6C0F177590324"
    );
    assert_key_block(&folder.read("tdes-k1.be.der"), &kdh, "D9999K1TB00E0000");

    let draft = KeyToken::draft(
        Aws2012,
        token.enveloped(),
        token.header(),
        token.freshness(),
        SigningTime::from_unix_seconds(0).unwrap(),
        &kdh,
        &[],
    )
    .unwrap();
    assert_eq!(draft.to_be_signed(), token.signed_by().signed_bytes());
    assert_eq!(
        draft.into_token(token.signed_by().signature()).unwrap(),
        der
    );
}
