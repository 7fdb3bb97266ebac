//! The samples printed in TR-34:2019 Annex B, where a copy of them lies beside the workspace;
//! otherwise these tests say that they are skipped.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use der::{Document, asn1::ObjectIdentifier};
use tr34::{
    EnvelopedKeyBlock, IssuerAndSerial, KdhCredentialToken, KeyBlock, KeyBlockFrame, KeyToken,
    KrdCredentialToken, RandomToken, Rule, TokenKind,
};

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

fn read(folder: &Path, file: &str) -> Vec<u8> {
    fs::read(folder.join(file)).expect(file)
}

fn read_pem(folder: &Path, file: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder.join(file)).expect(file);
    let (_, document) = Document::from_pem(&text).expect(file);
    document.as_bytes().to_vec()
}

#[test]
fn the_random_token_is_read_and_written() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let der = read(&folder, "b.12-rt-krd.der");
    let token = RandomToken::parse(&der).unwrap();
    let nonce = 0x167E_B0E7_2781_E494_0112_2334_4556_6778_u128;
    assert_eq!(token.nonce().as_bytes(), &nonce.to_be_bytes());
    assert_eq!(token.to_der(), der);
}

#[test]
fn the_krd_credential_is_read_and_written() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let der = read(&folder, "b.7-ct-krd.der");
    let token = KrdCredentialToken::parse(&der).unwrap();
    assert_eq!(
        token.certificate(),
        read_pem(&folder, "b.2.1.7-krd-1.cert.pem")
    );
    assert_eq!(token.to_der(), der);
}

#[test]
fn the_identities_are_those_of_the_certificates() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    for (identity, certificate) in [
        ("b.2.2.1.1-root-iasn.der", "b.2.1.1-root.cert.pem"),
        ("b.2.2.1.2-ca-kdh-iasn.der", "b.2.1.2-ca-kdh.cert.pem"),
        ("b.2.2.1.3-ca-krd-iasn.der", "b.2.1.4-ca-krd.cert.pem"),
        ("b.2.2.1.4-kdh-1-iasn.der", "b.2.1.5-kdh-1.cert.pem"),
        ("b.2.2.1.5-kdh-2-iasn.der", "b.2.1.6-kdh-2.cert.pem"),
        ("b.2.2.1.6-krd-1-iasn.der", "b.2.1.7-krd-1.cert.pem"),
    ] {
        let der = read(&folder, identity);
        let parsed = IssuerAndSerial::parse(&der).unwrap();
        assert_eq!(parsed.to_der(), der, "{identity}");
        let of_certificate = IssuerAndSerial::of_certificate(&read_pem(&folder, certificate));
        assert_eq!(of_certificate.unwrap(), parsed, "{certificate}");
    }
}

#[test]
fn the_key_blocks_are_read_and_written() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let kdh_1 = IssuerAndSerial::parse(&read(&folder, "b.2.2.1.4-kdh-1-iasn.der")).unwrap();
    for (file, header) in [
        ("b.2.2.2.1-tdea-key-block.der", "A0256K0TB00E0000"),
        ("b.2.2.2.3-tdea-key-block.der", "A0256K0TB00E0000"),
        ("b.2.2.2.4-aes-key-block.der", "D0256K0AB00E0000"),
    ] {
        assert_key_block(&read(&folder, file), &kdh_1, header);
    }
}

fn assert_key_block(der: &[u8], kdh: &IssuerAndSerial, header: &str) {
    let block = KeyBlock::parse(der).unwrap();
    assert_eq!(block.expose_clear(), KN);
    assert_eq!(block.header().to_string(), header);
    assert_eq!(block.kdh(), kdh);
    let frame = KeyBlockFrame::new(block.kdh(), block.header(), KN.len());
    assert_eq!([frame.prefix(), &KN, frame.suffix()].concat(), der);
}

#[test]
fn the_kdh_credential_is_refused_for_its_order_alone() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let printed = read(&folder, "b.6-ct-kdh.der");
    let error = KdhCredentialToken::parse(&printed).unwrap_err();
    assert_eq!(error.token, TokenKind::KdhCredential);
    assert!(matches!(error.rule, Rule::Der(_)), "{error}");

    // The CRLs stand behind the empty signerInfos, where CMS has them before.
    let (before, signers, crls) = (&printed[..902], &printed[902..904], &printed[904..]);
    assert_eq!(signers, [0x31, 0x00]);
    let reordered = [before, crls, signers].concat();
    let token = KdhCredentialToken::parse(&reordered).unwrap();
    let certificate = read_pem(&folder, "b.2.1.5-kdh-1.cert.pem");
    assert_eq!(token.certificate(), certificate);
    assert_eq!(token.crl(), read(&folder, "b.2.1.3-ca-kdh-crl.der"));
    assert_eq!(token.to_der(), reordered);
}

/// Where the samples have the version of `SignedData`.
const VERSION_AT: usize = 25;

#[track_caller]
fn assert_refused(file: &str, token: &[u8], rule: &Rule) {
    let error = KeyToken::parse(token).unwrap_err();
    assert_eq!(error.token, TokenKind::KeyToken, "{file}");
    assert_eq!(&error.rule, rule, "{file}");
}

const PRINTED_VERSION: Rule = Rule::Version {
    field: "SignedData",
    found: 1,
};

#[test]
fn the_key_tokens_are_not_of_this_profile() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let one_pass = Rule::UnknownAttribute {
        found: ObjectIdentifier::new("1.2.840.113549.1.9.5").unwrap(),
    };
    for (file, behind_version) in [
        ("b.8-one-pass-key-token.der", one_pass.clone()),
        ("b.8-one-pass-key-token-original-malformed.der", one_pass),
        ("b.9-two-pass-key-token.der", Rule::AttributesUnsorted),
        (
            "b.9-two-pass-key-token-original-malformed.der",
            Rule::AttributesUnsorted,
        ),
    ] {
        let mut token = read(&folder, file);
        assert_refused(file, &token, &PRINTED_VERSION);
        token[VERSION_AT] = 3;
        assert_refused(file, &token, &behind_version);
    }
}

#[test]
fn the_two_pass_token_is_refused_for_its_version_order_and_oaep() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let mut token = read(&folder, "b.9-two-pass-key-token.der");
    token[VERSION_AT] = 3;
    // The nonce, 34 bytes, and the header, 33 bytes, change places.
    token[1269..1336].rotate_left(34);
    let error = KeyToken::parse(&token).unwrap_err();
    assert_eq!(error.token, TokenKind::EnvelopedData);
    assert_eq!(error.rule, OAEP);
}

const OAEP: Rule = Rule::Algorithm {
    field: "keyEncryptionAlgorithm",
};

#[test]
fn the_enveloped_data_are_not_of_this_profile() {
    let Some(folder) = samples("tr34-2019") else {
        return;
    };
    let refused = |file| {
        EnvelopedKeyBlock::parse(&read(&folder, file))
            .unwrap_err()
            .rule
    };
    assert_eq!(refused("b.2.2.3.1-tdea-enveloped-data.der"), OAEP);
    assert_eq!(refused("b.2.2.3.2-aes-enveloped-data.der"), OAEP);
    for malformed in [
        "b.2.2.3.1-tdea-enveloped-data-original-malformed.der",
        "b.2.2.3.2-aes-enveloped-data-original-malformed.der",
    ] {
        assert!(matches!(refused(malformed), Rule::Der(_)), "{malformed}");
    }
}

#[test]
fn the_layout_of_2012_is_refused_except_for_its_key_block() {
    let Some(folder) = samples("aws-2012") else {
        return;
    };
    let file = "tdes-k1.token.der";
    let mut token = read(&folder, file);
    assert_refused(file, &token, &PRINTED_VERSION);
    token[VERSION_AT] = 3;
    let nonce = Rule::Length {
        field: "randomNonce",
        found: 8,
    };
    assert_refused(file, &token, &nonce);

    let certificate = read_pem(&folder, "tdes-k1.kdh.cert.pem");
    let kdh = IssuerAndSerial::of_certificate(&certificate).unwrap();
    assert_key_block(&read(&folder, "tdes-k1.be.der"), &kdh, "D9999K1TB00E0000");
}
