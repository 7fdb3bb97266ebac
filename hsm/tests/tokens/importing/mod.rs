//! Keys that arrive encrypted, made by independent programs.

mod key_block;
mod key_token;
mod key_wrap;

use std::fs;

use cryptoki::object::Attribute;
use hsm::{
    HsmError, ImportForm, Kcv, KcvMethod, KeyImport, KeyName, KeyPairKind, KeyRole, Token,
    TokenConfig, WrappedKey,
};
use hsm_modules::{ALL, Place, TestModule};
use pki::PublicKey;
use tr34::{Kbh, KeyKind};

use crate::{
    combining::{component, kcv_of},
    common::{USER_PIN, module, new_token, pin},
    raw,
    sealing::import_raw,
};

/// The pair to which keys are sent.
const PAIR: &str = "import-pair";
const RSA_3072: KeyPairKind = KeyPairKind::Rsa { bits: 3072 };

/// The pairs of those who send and receive keys.
const PAIRS: [(&str, KeyRole, KeyPairKind); 4] = [
    ("root", KeyRole::RootCa, KeyPairKind::Rsa { bits: 2048 }),
    ("ca", KeyRole::IssuingCa, KeyPairKind::Rsa { bits: 2048 }),
    (
        "sender",
        KeyRole::KdhSigning,
        KeyPairKind::Rsa { bits: 2048 },
    ),
    (PAIR, KeyRole::ImportPair, RSA_3072),
];

/// The test that makes them.
const FOUNDING: &str = "importing::pairs_are_made";

/// Tests begin with copies of what this leaves: RSA keys take their time.
#[test]
fn pairs_are_made() {
    if let Some(place) = Place::of_this_process() {
        make_pairs(&new_token("kdh"), &place);
        return;
    }
    for module in ALL {
        hsm_modules::founded(FOUNDING, module);
    }
}

/// Makes them in a token, their public halves in files.
fn make_pairs(token: &Token, place: &Place) {
    for (label, role, kind) in PAIRS {
        let name = key_name(label);
        let public = token.generate_key_pair(role, &name, kind).unwrap();
        fs::write(public_file(place, label), public.as_spki_der()).unwrap();
    }
}

fn public_file(place: &Place, label: &str) -> std::path::PathBuf {
    place.folder().join(format!("{label}.spki"))
}

fn public_half(place: &Place, label: &str) -> PublicKey {
    PublicKey::from_spki_der(&fs::read(public_file(place, label)).unwrap()).unwrap()
}

/// Runs the body of a test on each of the modules, where the pairs are in a token already.
fn on<F: FnOnce(&Place)>(modules: &[&'static TestModule], body: F) {
    hsm_modules::on_founded(FOUNDING, modules, body);
}

/// That token.
fn founded() -> Token {
    let config = TokenConfig::new("kdh");
    module().open(&config, &pin(USER_PIN)).unwrap()
}

fn key_name(label: &str) -> KeyName {
    KeyName::new(label).unwrap()
}

/// Where the key goes.
pub(crate) fn kn() -> KeyName {
    key_name("kn.imported")
}

/// The header that goes with a kind, as announced.
fn header(kind: KeyKind) -> Kbh {
    let header = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => "D0000P0TE00E0000",
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => "D0000K0AB00E0000",
    };
    header.parse().unwrap()
}

/// The key that arrives, of this kind, which is the same in every test.
fn key_of(kind: KeyKind) -> Vec<u8> {
    component(kind, 5)
}

/// What is announced of it, rightly.
fn import(wrapped: WrappedKey, kind: KeyKind) -> KeyImport {
    KeyImport {
        wrapped,
        kind,
        kcv: kcv_of(kind, &key_of(kind)),
        header: Some(header(kind)),
    }
}

/// The value of a key over others.
fn over(kind: KeyKind) -> Vec<u8> {
    component(kind, 9)
}

/// A key over others in the token.
fn create_over(label: &str, kind: KeyKind, value: &[u8]) -> KeyName {
    let name = key_name(label);
    let usage = match KeyRole::of_secret(&name) {
        KeyRole::Zmk => [Attribute::Unwrap(true), Attribute::Derive(false)],
        _ => [Attribute::Unwrap(false), Attribute::Derive(true)],
    };
    let changes = [&[Attribute::Extractable(false)], &usage[..]].concat();
    import_raw(&name, kind, value, &changes);
    name
}

/// Imports what was announced rightly, and takes it out again.
fn assert_imported(token: &Token, place: &Place, import: &KeyImport) {
    let before = raw::count_objects();
    let key = token.import_key(import, &kn()).unwrap();
    let what = format!("{} on {}", import.kind, place.module().name);
    assert_eq!(
        (key.kind(), key.role()),
        (import.kind, KeyRole::TransportKey)
    );
    assert_eq!(token.kcv(&key).unwrap(), import.kcv, "{what}");
    assert_eq!(token.secret_key(KeyRole::TransportKey, &kn()).unwrap(), key);
    assert_eq!(
        raw::count_objects(),
        before + 1,
        "{what}: nothing but the key is left"
    );
    for key in token.key_strengths().unwrap() {
        assert_eq!(key.weaknesses, [""; 0], "{what}: {}", key.key.label);
    }
    let again = token.import_key(import, &kn()).unwrap_err();
    assert_eq!(again.to_string(), "a key called kn.imported exists");
    token.destroy_key(&kn()).unwrap();
}

/// An import in each form that the module can do, something of it that crosses to the module, and what must
/// not cross. The keys over it are created past the spy.
pub(crate) fn one_of_each_form(
    token: &Token,
    place: &Place,
) -> Vec<(KeyImport, Vec<u8>, Vec<Vec<u8>>)> {
    make_pairs(token, place);
    let possible = token.capabilities().unwrap().imports;
    let possible = possible.into_iter().filter(|(_, outcome)| outcome.is_ok());
    let kind = KeyKind::Aes128;
    let secrets = || vec![key_of(kind), over(KeyKind::Aes256)];
    let one = possible.map(|(form, _)| match form {
        ImportForm::RsaOaep => {
            let (import, encrypted) = key_wrap::one_under_pair(place);
            (import, encrypted, secrets())
        }
        ImportForm::Zmk => {
            let (import, wrapped) = key_wrap::one_under_zmk();
            (import, wrapped, secrets())
        }
        ImportForm::Tr31 => {
            let (import, last_block, derived) = key_block::one();
            (import, last_block, [secrets(), derived].concat())
        }
        ImportForm::Tr34 => {
            let (import, encrypted, ke) = key_token::one(token, place);
            (import, encrypted, vec![key_of(kind), ke])
        }
    });
    one.collect()
}

/// A refusal in these words, which leaves nothing.
fn assert_refused(token: &Token, import: &KeyImport, expected: &str) {
    let before = raw::count_objects();
    let refused = token.import_key(import, &kn());
    assert_eq!(refused.unwrap_err().to_string(), expected);
    assert_eq!(raw::count_objects(), before, "{expected}");
}

/// A wrong check value, of the same method, of another, and of another length, is refused.
fn assert_kcv_verified(token: &Token, import: &KeyImport) {
    let right = import.kcv.value();
    let method = import.kcv.method();
    let other_method = match method {
        KcvMethod::AesCmac => KcvMethod::TdeaEcb,
        KcvMethod::TdeaEcb => KcvMethod::AesCmac,
    };
    let mut flipped = right.to_vec();
    flipped[2] ^= 1;
    for wrong in [
        Kcv::new(method, &flipped).unwrap(),
        Kcv::new(other_method, right).unwrap(),
        Kcv::new(method, &[right, &[0]].concat()).unwrap(),
    ] {
        let import = KeyImport {
            kcv: wrong.clone(),
            ..import.clone()
        };
        let before = raw::count_objects();
        match token.import_key(&import, &kn()) {
            Err(HsmError::KcvMismatch { expected, found }) => {
                assert_eq!(expected, wrong);
                assert_eq!(found.value()[..3], right[..3]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(raw::count_objects(), before);
    }
}
