//! Keys that arrive encrypted, made by independent programs.

mod key_block;
mod key_token;
mod key_wrap;

use cryptoki::object::Attribute;
use hsm::{HsmError, ImportForm, Kcv, KcvMethod, KeyImport, KeyName, KeyRole, Token, WrappedKey};
use hsm_modules::Place;
use tr34::{Kbh, KeyKind};

use crate::{
    combining::{component, kcv_of},
    raw,
    sealing::import_raw,
};

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
    let possible = token.capabilities().unwrap().imports;
    let possible = possible.into_iter().filter(|(_, outcome)| outcome.is_ok());
    let kind = KeyKind::Aes128;
    let secrets = || vec![key_of(kind), over(KeyKind::Aes256)];
    let one = possible.map(|(form, _)| match form {
        ImportForm::RsaOaep => {
            let (import, encrypted) = key_wrap::one_under_pair(token, place);
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
            let (import, encrypted, ke) = key_token::one(token);
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
