//! Bytes to start from: what our own builders make, what `openssl` makes, and the published samples where
//! they lie beside the workspace.

use std::{fs, path::Path, process::Command};

use good_tokens::{CERTIFICATE, CRL, HEADER, Kind, Maker};
use kdh_proto::{
    RECEIPT_CONTEXT,
    v1::{BindingStatement, DestroyedKey, ReceiptStatement},
};
use pki::Certificate;
use prost::Message as _;
use tr34::Profile;

/// Good tokens of all profiles, and the samples that are one in some profile.
pub(crate) fn tokens(kind: Kind) -> Vec<Vec<u8>> {
    let kinds = match kind {
        Kind::TwoPassKey => vec![kind, Kind::OnePassKey],
        _ => vec![kind],
    };
    let made = Profile::ALL.into_iter().flat_map(|profile| {
        let token = move |kind| Maker::default().token(kind, profile);
        kinds.clone().into_iter().map(token)
    });
    let taken = |der: &Vec<u8>| {
        let mut profiles = Profile::ALL.into_iter();
        profiles.any(|profile| kind.read_and_write(profile, der).is_ok())
    };
    distinct(made.chain(samples().into_iter().filter(taken)))
}

pub(crate) fn headers() -> Vec<Vec<u8>> {
    vec![HEADER.into(), b"A0256P0TE12S0000".to_vec()]
}

/// Of either version, with optional blocks and without.
pub(crate) fn tr31_key_blocks() -> Vec<Vec<u8>> {
    let blocks = include_str!("../../../tr31/tests/data/psec.txt").lines();
    let blocks = blocks.filter_map(|line| Some(line.rsplit_once(' ')?.1));
    let blocks = blocks.filter(|block| block.starts_with(['B', 'D']) && block.len() > 16);
    blocks.map(Into::into).collect()
}

pub(crate) fn certificates() -> Vec<Vec<u8>> {
    vec![CERTIFICATE.to_vec()]
}

pub(crate) fn crls() -> Vec<Vec<u8>> {
    vec![CRL.to_vec()]
}

/// One with each kind of key, if `openssl` is there.
pub(crate) fn certificate_requests() -> Vec<Vec<u8>> {
    let request = |key: &[&str]| {
        let arguments = ["req", "-new", "-nodes", "-keyout", "/dev/null"];
        let subject = ["-subj", "/CN=SN-1", "-outform", "DER"];
        let output = Command::new("openssl")
            .args([&arguments, key, &subject].concat())
            .output();
        output.map(|output| output.stdout).unwrap_or_default()
    };
    vec![
        request(&["-newkey", "rsa:2048"]),
        request(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ]
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    vec![certificate().subject().der().to_vec()]
}

pub(crate) fn public_keys() -> Vec<Vec<u8>> {
    vec![certificate().public_key().as_spki_der().to_vec()]
}

pub(crate) fn receipts() -> Vec<Vec<u8>> {
    let receipt = ReceiptStatement {
        context: RECEIPT_CONTEXT.to_owned(),
        key_version: 3,
        kt_kdh_sha256: vec![0xD1; 32],
        ..ReceiptStatement::default()
    };
    let binding = BindingStatement {
        context: "kdh.v1.BindingStatement".to_owned(),
        token_sha256: vec![0xD1; 32],
        kdh: good_tokens::kdh().to_der(),
        destroyed_keys: vec![DestroyedKey::default()],
        ..BindingStatement::default()
    };
    vec![receipt.encode_to_vec(), binding.encode_to_vec()]
}

/// One token of each kind in the default profile, and what else a file may have it as.
pub(crate) fn inspected() -> Vec<Vec<u8>> {
    let token = |kind| Maker::default().token(kind, Profile::X9_2019);
    let digits = hex::encode(token(Kind::RandomToken)).into_bytes();
    let pem = certificate().to_pem().into_bytes();
    Kind::ALL
        .into_iter()
        .map(token)
        .chain([digits, pem])
        .collect()
}

fn certificate() -> Certificate {
    Certificate::from_der(CERTIFICATE).unwrap()
}

/// All published samples in DER.
fn samples() -> Vec<Vec<u8>> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let mut files: Vec<_> = ["tr34-2019", "aws-2012"]
        .into_iter()
        .filter_map(|collection| fs::read_dir(vectors.join(collection)).ok())
        .flatten()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "der"))
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn distinct(all: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut distinct = Vec::new();
    for bytes in all {
        if !distinct.contains(&bytes) {
            distinct.push(bytes);
        }
    }
    distinct
}
