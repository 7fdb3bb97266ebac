//! Tests on real tokens.

use std::{
    path::PathBuf,
    pin::pin as pinned,
    process::Command,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use hsm::{Module, Pin, Token, TokenConfig};
use hsm_modules::{
    ALL, Place, TestModule, WHOLE,
    faults::{self, Faults, faulty_module},
    spy_variables,
};
use tr34::KeyKind;

pub(crate) const SO_PIN: &str = "12345678";
pub(crate) const USER_PIN: &str = "1234";

/// Runs the body of a test for each module, each time with no token yet.
pub(crate) fn on_every_module<F: FnOnce(&Place)>(body: F) {
    hsm_modules::on(&ALL, body);
}

/// The kinds of key that the module can hold.
pub(crate) fn kinds(place: &Place) -> Vec<KeyKind> {
    let mut kinds = vec![KeyKind::Aes128, KeyKind::Aes192, KeyKind::Aes256];
    if place.module().can.tdea {
        kinds.extend([KeyKind::Tdea2, KeyKind::Tdea3]);
    }
    kinds
}

/// Those of them that it can seal.
pub(crate) fn sealable_kinds(place: &Place) -> Vec<KeyKind> {
    let mut kinds = kinds(place);
    kinds.retain(|kind| place.module().can.unaligned || kind.key_len() != 24);
    kinds
}

/// What the module has of a key that was brought in as `value`.
pub(crate) fn as_held(place: &Place, kind: KeyKind, value: &[u8]) -> Vec<u8> {
    match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => place.module().can.tdea_key(value),
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => value.to_vec(),
    }
}

/// Without what a key's past says: modules differ in what they keep of it for keys that were derived.
pub(crate) fn without_history(attributes: &[&'static str]) -> Vec<&'static str> {
    let history = ["CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE"];
    let mut attributes = attributes.to_vec();
    attributes.retain(|name| !history.contains(name));
    attributes
}

pub(crate) fn pin(pin: &str) -> Pin {
    Pin::new(pin.to_owned().into())
}

pub(crate) fn module() -> Module {
    Module::load(&hsm_modules::library()).unwrap()
}

/// What the spy writes down.
pub(crate) fn spy_log(place: &Place) -> PathBuf {
    place.folder().join("spy.log")
}

/// As [`on_every_module`], with a spy ready for each.
pub(crate) fn with_spy_on_every_module<F: FnOnce(&Place)>(body: F) {
    let spy = |place: &Place, child: &mut Command| {
        child.envs(spy_variables(place.module(), &spy_log(place)).unwrap());
    };
    hsm_modules::on_prepared(&ALL, spy, body);
}

/// As [`on_every_module`], on each as it is shipped, with the module with faults before it.
pub(crate) fn with_faults<F: FnOnce(&Place)>(body: F) {
    with_faults_on(&WHOLE, body);
}

/// As [`with_faults`], on these.
pub(crate) fn with_faults_on<F: FnOnce(&Place)>(modules: &[&'static TestModule], body: F) {
    faulty_module().unwrap();
    let variables = |place: &Place, child: &mut Command| {
        child.envs(faults::variables(place.module(), &control(place)).unwrap());
    };
    hsm_modules::on_prepared(modules, variables, body);
}

/// The module with faults, which fails at the command of the other one.
pub(crate) fn faulty(place: &Place) -> (Module, Faults) {
    let module = Module::load(&faulty_module().unwrap()).unwrap();
    (module, Faults::connect(&control(place)).unwrap())
}

fn control(place: &Place) -> PathBuf {
    place.folder().join("faults")
}

/// Waits for what a thread of a token answers.
pub(crate) fn block_on<T>(answer: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut answer = pinned!(answer);
    loop {
        match answer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// A new token, logged in to.
pub(crate) fn new_token(label: &str) -> Token {
    new_token_of(&module(), label)
}

/// The same of another module.
pub(crate) fn new_token_of(module: &Module, label: &str) -> Token {
    module
        .initialize_token(label, &pin(SO_PIN), &pin(USER_PIN))
        .unwrap();
    module
        .open(&TokenConfig::new(label), &pin(USER_PIN))
        .unwrap()
}
