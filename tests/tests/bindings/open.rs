//! `krd token open` on a published token, where a copy of it lies beside the workspace; otherwise this test says
//! that it is skipped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hsm_modules::{KRYOPTIC, NSS, SOFTHSM, TestModule};
use serde_json::{Value, json};
use system_tests::{
    host::HostOptions,
    operator::answer,
    process::{Ended, Program},
    terminal::{Terminal, TerminalOptions, refusal},
};

use super::{Scene, refused};

/// In clear, as the README of the token prints it.
const KN: &str = "0123456789ABCDEFFEDCBA9876543210";
const LABEL: &str = "annex-b-krd-1";

#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn vectors() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    if !folder.is_dir() {
        eprintln!("skipped: no published samples");
        return None;
    }
    Some(folder)
}

/// A terminal with the key of the sample's recipient.
fn recipient(scene: &Scene, module: &'static TestModule, key: &Path) -> Terminal {
    let options = TerminalOptions {
        imported_keys: true,
        module: Some(module),
        ..TerminalOptions::default()
    };
    let serial = module.name.to_uppercase();
    let terminal = scene.site.make_terminal(&serial, options).unwrap();
    terminal.import_key(LABEL, key).unwrap();
    terminal
}

fn open(terminal: &Terminal, file: &Path, more: &[&str]) -> Program {
    let open = terminal.krd(&["token", "open", "--profile", "aws-2012"]);
    open.args(more).arg(file)
}

fn assert_shows_no_key(ended: &Ended) {
    let shown = (ended.stdout.clone() + &ended.stderr).to_uppercase();
    assert!(!shown.contains(&KN[..16]), "{shown}");
    assert!(!shown.contains(&KN[16..]), "{shown}");
}

#[test]
fn a_published_token_is_opened_and_its_key_not_shown() {
    let Some(folder) = vectors() else { return };
    let scene = Scene::of(&KRYOPTIC, HostOptions::default());
    let key = folder.join("tr34-2019/b.2.1.7-krd-1.key.pem");
    let token = folder.join("aws-2012/tdes-k1.token.der");
    let labelled = ["--key-label", LABEL];

    // The only one that has both TDEA and SHA-256 in RSA-OAEP.
    let terminal = recipient(&scene, &NSS, &key);
    let ended = open(&terminal, &token, &labelled).succeed().unwrap();
    assert_shows_no_key(&ended);
    let opened = answer(&ended).unwrap();
    for (name, expected) in [
        ("token", json!("kt-kdh-two-pass")),
        ("profile", json!("aws-2012")),
        ("key-len", json!(16)),
        ("kcv", json!("08D7B4")),
        ("kcv-method", json!("tdea-ecb")),
        ("signing-time", Value::Null),
    ] {
        assert_eq!(opened[name], expected, "{opened}");
    }
    assert_eq!(opened["header"]["text"], "D9999K1TB00E0000");
    assert_eq!(opened["signer"]["serial"], "00C8");
    assert_eq!(opened["recipient"]["serial"], "3400000007");
    assert_eq!(opened["not-checked"].as_array().unwrap().len(), 4);

    let mut bytes = fs::read(&token).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = scene.file(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let longer = write("longer.der", &[&bytes[..], &[0]].concat());
    let cut = write("cut.der", &bytes[..bytes.len() - 1]);
    let text = write("text", b"no token");
    // Nobody looks at the signature.
    *bytes.last_mut().unwrap() ^= 1;
    let unsigned = write("unsigned.der", &bytes);
    open(&terminal, &unsigned, &labelled).succeed().unwrap();
    // What is signed has a digest, which is wrong now: this is in Ke as it is encrypted.
    let ke = [0x04, 0x82, 0x01, 0x00];
    let ke = bytes.windows(4).position(|at| at == ke).unwrap();
    bytes[ke + 100] ^= 1;
    let flipped = write("flipped.der", &bytes);
    for (case, file, more, reason) in [
        ("a byte more", &longer, &labelled[..], "token-malformed"),
        ("a byte less", &cut, &labelled, "token-malformed"),
        ("no token", &text, &labelled, "file-malformed"),
        ("a bit of Ke", &flipped, &labelled, "token-malformed"),
    ] {
        let ended = open(&terminal, file, more).run().unwrap();
        assert_shows_no_key(&ended);
        assert_eq!(refusal(&ended).unwrap(), reason, "{case}");
    }
    let other = terminal.krd(&["token", "open", "--profile", "clover"]);
    let other = refused(other.args(labelled).arg(&token));
    assert_eq!(other, "token-malformed");
    for label in [&["--key-label", "nobody"][..], &[]] {
        let missing = open(&terminal, &token, label).run().unwrap();
        assert!(!missing.status.success(), "{}", missing.stdout);
        assert_shows_no_key(&missing);
    }

    for (module, reason) in [(&SOFTHSM, "opening-failed"), (&KRYOPTIC, "cannot-open")] {
        let terminal = recipient(&scene, module, &key);
        let ended = open(&terminal, &token, &labelled).run().unwrap();
        assert_shows_no_key(&ended);
        assert_eq!(refusal(&ended).unwrap(), reason, "{}", module.name);
    }
    scene.end();
}
