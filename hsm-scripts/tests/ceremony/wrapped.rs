//! Keys that arrive encrypted.

use std::fs;

use hsm::{
    HsmError, ImportForm, Kcv, KcvMethod, KeyName, KeyRole, Pin, SealRequest, Token, TokenConfig,
    WrappedKey,
};
use hsm_modules::{
    ALL, KRYOPTIC, KRYOPTIC_BARE, NSS, Place, SOFTHSM, TestModule,
    makers::{BlockForm, key_wrap, rsa_oaep, tr31_block},
};
use kdh_ceremony::verify_transcript;
use pki::Signer as _;
use serde_json::Value;
use tr34::{
    ContentCipher, EnvelopedKeyBlock, Freshness, Kbh, KeyBlockFrame, KeyKind, KeyToken, OaepHash,
    Profile, RandomToken, SigningTime,
};

use crate::{
    common::{module, on_every_module},
    pki::TOKENS,
    site::{
        IMPORT_PAIR, IMPORT_WRAPPED, Site, TWO_SUB_CAS, assert_refused, assert_success, change,
        printed, unattended,
    },
};

/// Key and check value (computed with OpenSSL), and what they come under.
const KN: [u8; 16] = *b"\x4B\x13\x97\x37\xDD\xCC\xC0\x83\x1A\xF3\xAB\xDB\x3F\x3F\x76\x67";
const KCV: &str = "CBDF95";
const OVER: [u8; 32] = [0x7E; 32];
const TRANSCRIPT: &str = "switch-keys-transcript.jsonl";
const HEADER: &str = "D0000K0AB00E0000";

/// A sample plan with one of its acts, counted from 0.
pub(crate) fn act_of(plan: &str, number: usize) -> String {
    let (head, acts) = plan.split_once("[[acts]]").unwrap();
    let act = acts.split("[[acts]]").nth(number).unwrap();
    unattended(&format!("{head}[[acts]]{act}"))
}

/// The plan of one import, with the check value.
pub(crate) fn plan(number: usize) -> String {
    act_of(IMPORT_WRAPPED, number).replace("\"A1B2C3\"", &format!("\"{KCV}\""))
}

fn token(site: &Site) -> Token {
    let pin = Pin::from_file(&site.path("kdh.pin")).unwrap();
    module().open(&TokenConfig::new("kdh"), &pin).unwrap()
}

fn name(label: &str) -> KeyName {
    KeyName::new(label).unwrap()
}

fn assert_imported(site: &Site, label: &str) {
    let token = token(site);
    let key = token
        .secret_key(KeyRole::TransportKey, &name(label))
        .unwrap();
    let expected = Kcv::parse(KcvMethod::AesCmac, KCV).unwrap();
    assert_eq!(
        (token.kcv(&key).unwrap(), key.kind()),
        (expected, KeyKind::Aes128)
    );
}

/// The record of an act.
fn record(site: &Site, act: &str) -> Value {
    let text = site.read(TRANSCRIPT);
    verify_transcript(&text).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|line| line["event"] == act).unwrap()["detail"].clone()
}

/// An import pair that a ceremony made, and what is sent to it.
fn send_to_pair(site: &Site, hash: &str) {
    site.write_plan("pair.toml", &act_of(IMPORT_PAIR, 0));
    assert_success(&site.execute("pair.toml"));
    assert_eq!(site.keys("kdh"), ["import-pair", "import-pair"]);
    let transport = rsa_oaep(&site.path("import-pair.pem"), hash, &OVER);
    fs::write(site.path("transport-key.bin"), transport).unwrap();
    fs::write(site.path("switch-one.bin"), key_wrap(&OVER, &KN, false)).unwrap();
}

pub(crate) fn hash(place: &Place) -> &'static str {
    if place.module().can.oaep_sha256 {
        "sha256"
    } else {
        "sha1"
    }
}

fn under_pair(hash: &str) -> String {
    change(
        &plan(0),
        "oaep-hash = \"sha256\"",
        &format!("oaep-hash = \"{hash}\""),
    )
}

/// The plan's digest covers no file that the plan names: each is told by its own, before anybody confirms, and goes on
/// record.
fn assert_files_are_told(record: &Value, output: &std::process::Output, files: &[&str]) {
    let digests = record["files-sha256"].as_object().unwrap();
    assert_eq!(digests.keys().collect::<Vec<_>>(), files);
    let printed = printed(output);
    let (before, _) = printed.split_once("begins").unwrap();
    for (file, digest) in digests {
        let told = format!("{file} with SHA-256 {}", digest.as_str().unwrap());
        assert!(before.contains(&told), "{told}: {before}");
    }
}

#[test]
fn a_key_that_openssl_sends_to_an_import_pair_is_imported() {
    on_every_module(|place| {
        let site = Site::new(&["kdh", "issuing"]);
        let hash = hash(place);
        send_to_pair(&site, hash);
        site.write_plan("plan.toml", &under_pair(hash));
        let output = site.execute("plan.toml");
        assert_success(&output);
        assert_imported(&site, "kn.switch-one");
        let record = record(&site, "import-wrapped");
        assert_eq!(record["form"], "rsa-oaep+key-wrap");
        assert_eq!(record["under"], "import-pair");
        assert_eq!(record["kcv"], KCV);
        assert_files_are_told(&record, &output, &["switch-one.bin", "transport-key.bin"]);
    });
}

/// One thing is wrong in each, and nothing is kept.
#[test]
fn what_is_not_as_announced_leaves_no_key() {
    on_every_module(|place| {
        let site = Site::new(&["kdh", "issuing"]);
        let hash = hash(place);
        send_to_pair(&site, hash);
        let transport = fs::read(site.path("transport-key.bin")).unwrap();
        let good = fs::read(site.path("switch-one.bin")).unwrap();
        let mut flipped = good.clone();
        flipped[5] ^= 1;
        let hex = hex::encode(&good);
        let wrong_kcv = change(&under_pair(hash), KCV, "CBDF96");
        let other_pair = change(
            &under_pair(hash),
            "under = \"import-pair\"",
            "under = \"other\"",
        );
        let plan = under_pair(hash);
        for (case, plan, transport, wrapped, because) in [
            (
                "kcv",
                &wrong_kcv,
                &transport[..],
                &good[..],
                "the key that arrived has the check value CBDF95, and the plan says CBDF96",
            ),
            (
                "flipped",
                &plan,
                &transport,
                &flipped,
                "the wrapped key does not open under the transport key",
            ),
            (
                "short",
                &plan,
                &transport,
                &good[..16],
                "the wrapped key has 16 bytes, and one of the kind AES-128 has 24",
            ),
            (
                "trailing",
                &plan,
                &transport,
                &[&good[..], b"\n\n"].concat(),
                "the wrapped key has 26 bytes",
            ),
            (
                "transport",
                &plan,
                &transport[1..],
                &good,
                "the encrypted transport key has 383 bytes",
            ),
            (
                "pair",
                &other_pair,
                &transport,
                &good,
                "cannot be done: HSM: no key is called other",
            ),
        ] {
            fs::write(site.path("transport-key.bin"), transport).unwrap();
            fs::write(site.path("switch-one.bin"), wrapped).unwrap();
            site.write_plan(
                "plan.toml",
                &change(plan, TRANSCRIPT, &format!("{case}.jsonl")),
            );
            assert_refused(&site.execute("plan.toml"), because);
            assert_eq!(site.keys("kdh"), ["import-pair", "import-pair"], "{case}");
        }
        // In hexadecimal digits it is the same.
        fs::write(site.path("transport-key.bin"), &transport).unwrap();
        fs::write(site.path("switch-one.bin"), format!("{hex}\n")).unwrap();
        site.write_plan("plan.toml", &plan);
        assert_success(&site.execute("plan.toml"));
        assert_imported(&site, "kn.switch-one");
    });
}

#[test]
fn a_key_under_a_zmk_is_imported() {
    on_every_module(|_| {
        let site = Site::new(&["kdh"]);
        let (wrapped, kcv) = {
            let token = token(&site);
            let kind = KeyKind::Aes256;
            let made = token
                .make_up_import(ImportForm::Zmk, &name("zmk.switch"), kind)
                .unwrap();
            let Err(HsmError::KcvMismatch { found, .. }) =
                token.import_key(&made, &name("kn.none"))
            else {
                panic!("another check value than that of the key")
            };
            let WrappedKey::Zmk { key, .. } = made.wrapped else {
                panic!("another form than was asked for")
            };
            (key.bytes, found)
        };
        fs::write(site.path("switch-two.bin"), wrapped).unwrap();
        site.write_plan("plan.toml", &change(&plan(1), KCV, &kcv.to_string()));
        assert_success(&site.execute("plan.toml"));
        assert_eq!(site.keys("kdh"), ["kn.switch-two", "zmk.switch"]);
    });
}

/// Of made-up imports, which everybody knows.
const KBPK: &str = "6fc8267fd8368fe8469ff856af0d66bf";

#[test]
fn a_key_in_a_block_that_psec_made_is_imported() {
    hsm_modules::on(&[&KRYOPTIC], |_| {
        let site = Site::new(&["kdh"]);
        let kbpk = name("kbpk.switch");
        let _made = token(&site)
            .make_up_import(ImportForm::Tr31, &kbpk, KeyKind::Aes128)
            .unwrap();
        let block = tr31_block(
            &hex::decode(KBPK).unwrap(),
            HEADER,
            &KN,
            BlockForm::default(),
        );
        let mut other = block.clone();
        other.replace_range(5..7, "D0");
        let last = block.len() - 1;
        let mut flipped = block.clone();
        flipped.replace_range(last.., if block.ends_with('0') { "1" } else { "0" });
        for (case, block, because) in [
            (
                "mac",
                &flipped,
                "the MAC of the key block is not one of kbpk.switch",
            ),
            (
                "usage",
                &other,
                "the header says D0 of key usage, and K0 was announced",
            ),
            (
                "cut",
                &block[..last].to_owned(),
                "file: the key block says that it has 144 characters, and has 143",
            ),
            (
                "more",
                &format!("{block}0"),
                "file: the key block says that it has 144 characters, and has 145",
            ),
        ] {
            fs::write(site.path("switch-three.txt"), block).unwrap();
            site.write_plan(
                "plan.toml",
                &change(&plan(2), TRANSCRIPT, &format!("{case}.jsonl")),
            );
            assert_refused(&site.execute("plan.toml"), because);
            assert_eq!(site.keys("kdh"), ["kbpk.switch"], "{case}");
        }
        fs::write(site.path("switch-three.txt"), format!("{block}\n")).unwrap();
        site.write_plan("plan.toml", &plan(2));
        assert_success(&site.execute("plan.toml"));
        assert_imported(&site, "kn.switch-three");
        assert_eq!(record(&site, "import-wrapped")["header"], HEADER);
    });
}

/// CAs, another host, and our pair certified as a receiver, by the sample plans; all in a few tokens.
pub(crate) fn other_host() -> Site {
    let site = Site::new(&TOKENS);
    site.write_plan("pki.toml", &unattended(TWO_SUB_CAS));
    assert_success(&site.execute("pki.toml"));
    site.write_plan("pair.toml", &act_of(IMPORT_PAIR, 1));
    assert_success(&site.execute("pair.toml"));
    for (from, to) in [
        ("kdh.pem", "switch.pem"),
        ("ca-kdh.pem", "switch-ca.pem"),
        ("crl-ca-kdh.der", "switch-ca.crl"),
    ] {
        fs::copy(site.path(from), site.path(to)).unwrap();
    }
    site
}

/// A token as our own host makes it, for the receiver of the certificate.
pub(crate) fn key_token(site: &Site, nonce: &tr34::KrdNonce) -> Vec<u8> {
    let certificate = |file: &str| pki::Certificate::from_pem(&site.read(file)).unwrap();
    let (sender, receiver) = (certificate("switch.pem"), certificate("import-krd.pem"));
    let kdh = sender.issuer_and_serial().unwrap();
    let token = token(site);
    // The key to be sent is a made-up one that was imported.
    let pair = name("sender-pair");
    let kind = KeyKind::Aes128;
    let mut made = token
        .make_up_import(ImportForm::RsaOaep, &pair, kind)
        .unwrap();
    let key = name("kn.sent");
    let found = match token.import_key(&made, &key) {
        Err(HsmError::KcvMismatch { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    made.kcv = found;
    let key = token.import_key(&made, &key).unwrap();
    fs::write(site.path("kcv"), made.kcv.to_string()).unwrap();
    let header: Kbh = HEADER.parse().unwrap();
    let profile = Profile::X9_2019;
    let frame = KeyBlockFrame::new(profile, &kdh, &header, kind.key_len());
    let sealed = token
        .seal(
            &key,
            &SealRequest {
                frame: &frame,
                recipient: receiver.public_key(),
                cipher: ContentCipher::Aes128Cbc,
                oaep: OaepHash::Sha256,
            },
        )
        .unwrap();
    let enveloped = EnvelopedKeyBlock::new(
        receiver.issuer_and_serial().unwrap(),
        OaepHash::Sha256,
        sealed.encrypted_key,
        sealed.encryption,
        sealed.ciphertext,
    )
    .unwrap();
    let crl = fs::read(site.path("switch-ca.crl")).unwrap();
    let now = SigningTime::from_unix_seconds(1_800_000_000).unwrap();
    let freshness = Freshness::Nonce(nonce.clone());
    let draft = KeyToken::draft(profile, &enveloped, &header, &freshness, now, &kdh, &crl).unwrap();
    let signer = token
        .signing_key(KeyRole::KdhSigning, &name("kdh-signing"))
        .unwrap();
    let signature = signer.sign(draft.to_be_signed()).unwrap();
    draft.into_token(&signature).unwrap()
}

pub(crate) fn make_nonce(site: &Site, pair: &str, file: &str) -> std::process::Output {
    let library = hsm_modules::library();
    let library = library.to_str().unwrap();
    let of: &[&str] = &["import", "nonce", "--module", library, "--label", "kdh"];
    let to: &[&str] = &["--pin-file", "kdh.pin", "--pair", pair, "--out", file];
    site.program(&[of, to].concat(), "")
}

#[test]
fn a_key_from_another_host_is_imported_once() {
    static WITH_RECORDS: [&TestModule; 2] = [&KRYOPTIC, &KRYOPTIC_BARE];
    hsm_modules::on(&WITH_RECORDS, |_| {
        let site = other_host();
        assert_refused(
            &make_nonce(&site, "no-pair", "rt.der"),
            "no key is called no-pair",
        );
        let output = make_nonce(&site, "import-krd", "rt.der");
        assert_success(&output);
        assert_refused(
            &make_nonce(&site, "import-krd", "rt.der"),
            "rt.der: exists already",
        );
        let nonce = RandomToken::parse(Profile::X9_2019, &fs::read(site.path("rt.der")).unwrap());
        let nonce = nonce.unwrap().nonce().clone();
        let shown = hex::encode_upper(nonce.as_bytes());
        assert!(printed(&output).contains(&shown));

        let der = key_token(&site, &nonce);
        fs::write(site.path("switch-four.der"), &der).unwrap();
        let plan = change(&plan(3), KCV, &site.read("kcv"));
        let mut forged = der.clone();
        *forged.last_mut().unwrap() ^= 1;
        for (case, plan, der, because) in [
            (
                "forged",
                &plan,
                &forged,
                "the token's signature does not verify",
            ),
            (
                "receiver",
                &change(
                    &plan,
                    "receiver = \"import-krd.pem\"",
                    "receiver = \"switch.pem\"",
                ),
                &der,
                "the certificate of import pair import-krd is none of a receiver (KRD)",
            ),
            (
                "sender",
                &change(
                    &plan,
                    "certificate = \"switch.pem\"",
                    "certificate = \"import-krd.pem\"",
                ),
                &der,
                "the sender's certificate: ",
            ),
            (
                "time",
                &change(&plan, "# signed-within-hours", "signed-within-hours"),
                &der,
                "the token answers a nonce: have freshness be known by it",
            ),
            (
                "profile",
                &change(&plan, "profile = \"x9-2019\"", "profile = \"clover\""),
                &der,
                "ask the sender for the token again, and for its profile",
            ),
        ] {
            fs::write(site.path("switch-four.der"), der).unwrap();
            site.write_plan(
                "plan.toml",
                &change(plan, TRANSCRIPT, &format!("{case}.jsonl")),
            );
            assert_refused(&site.execute("plan.toml"), because);
        }
        fs::write(site.path("switch-four.der"), &der).unwrap();
        site.write_plan("plan.toml", &plan);
        let output = site.execute("plan.toml");
        assert_success(&output);
        assert_files_are_told(
            &record(&site, "import-wrapped"),
            &output,
            &[
                "import-krd.pem",
                "switch-ca.crl",
                "switch-ca.pem",
                "switch-four.der",
                "switch.pem",
            ],
        );
        let again = change(
            &change(&plan, TRANSCRIPT, "again.jsonl"),
            "kn.switch-four",
            "kn.again",
        );
        site.write_plan("again.toml", &again);
        assert_refused(
            &site.execute("again.toml"),
            "no nonce of import pair import-krd waits for a token",
        );
        assert!(site.keys("kdh").contains(&"kn.switch-four".to_owned()));
        assert!(!site.keys("kdh").contains(&"kn.again".to_owned()));
    });
}

#[test]
fn what_a_module_cannot_do_inside_is_refused_by_mechanism() {
    static OTHERS: [&TestModule; 3] = [&SOFTHSM, &KRYOPTIC_BARE, &NSS];
    hsm_modules::on(&OTHERS, |place| {
        let site = Site::new(&["kdh", "issuing"]);
        send_to_pair(&site, "sha1");
        let padded = key_wrap(&OVER, &KN, true);
        fs::write(site.path("switch-one.bin"), padded).unwrap();
        let (plan, lacking) = if place.module() == &SOFTHSM {
            (plan(0), "CKM_RSA_PKCS_OAEP with CKM_SHA256")
        } else {
            let padded = change(&under_pair("sha1"), "\"rfc3394\"", "\"rfc5649\"");
            (padded, "CKM_AES_KEY_WRAP_PAD")
        };
        site.write_plan("plan.toml", &plan);
        assert_refused(
            &site.execute("plan.toml"),
            &format!("inside is not possible with this module, which lacks {lacking}"),
        );
        assert_eq!(site.keys("kdh"), ["import-pair", "import-pair"]);
    });
}

#[test]
fn a_token_that_keeps_no_data_makes_no_nonce() {
    hsm_modules::on(&[&NSS], |_| {
        let site = Site::new(&["kdh", "issuing"]);
        send_to_pair(&site, "sha1");
        assert_refused(
            &make_nonce(&site, "import-pair", "rt.der"),
            "store a record",
        );
        assert!(!site.exists("rt.der"));
    });
}

/// What can be done, without why other things cannot.
fn without_reasons(with: &str) -> String {
    let parts = with
        .split("; ")
        .map(|part| part.split(" (").next().unwrap());
    parts.collect::<Vec<_>>().join("; ")
}

#[test]
fn what_it_can_import_is_in_the_report() {
    hsm_modules::on(&ALL, |place| {
        let site = Site::new(&["kdh"]);
        let library = hsm_modules::library();
        let arguments = [
            "hsm",
            "check",
            "--label",
            "kdh",
            "--pin-file",
            "kdh.pin",
            "--json",
        ];
        let output = site.program(
            &[&arguments[..], &["--module", library.to_str().unwrap()]].concat(),
            "",
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let with: Vec<_> = report["imports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|import| import["with"].as_str().unwrap_or("-"))
            .map(without_reasons)
            .collect();
        let expected = match place.module().name {
            "softhsm" => ["sha1; RFC 3394, RFC 5649", "RFC 3394, RFC 5649", "-", "-"],
            "kryoptic-bare" => ["sha256, sha1; RFC 3394", "RFC 3394", "-", "aligned"],
            _ => [
                "sha256, sha1; RFC 3394",
                "RFC 3394",
                "version D",
                "aligned, extract",
            ],
        };
        assert_eq!(with, expected);
    });
}

#[test]
fn an_import_is_rehearsed_with_made_up_keys() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh"]);
        site.write_plan("plan.toml", &unattended(IMPORT_WRAPPED));
        let output = site.program(&["run", "plan.toml", "--rehearse"], "");
        assert_success(&output);
        let shown = printed(&output);
        for part in [
            "kn.switch-one was refused with the plan's check value, and made with",
            "kn.switch-two was refused with the plan's check value, and made with",
            "key kn.switch-three in token kdh is not rehearsed",
            "key kn.switch-four in token kdh is not rehearsed: only its sender can make a key of the kind AES-128 in \
             the form tr34",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(site.keys("kdh"), [""; 0]);
    });
}
