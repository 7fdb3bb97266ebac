//! Tests on real tokens, each in a process of its own.

use hsm::{Module, Pin, Token, TokenConfig};
use hsm_modules::{Place, TERMINALS};

use crate::world::{KEYS, WORLD};

pub(crate) const PIN: &str = "1234";

/// Runs the body of a test for each module that a terminal can have, each time with no token yet.
pub(crate) fn on_every_module<F: FnOnce(&Place)>(body: F) {
    hsm_modules::on_prepared(
        &TERMINALS,
        |place, child| {
            WORLD.keep_keys(place.folder());
            child.env(KEYS, place.folder());
        },
        body,
    );
}

/// A new token that nobody is logged in to.
pub(crate) fn initialize(label: &str) {
    module()
        .initialize_token(label, &pin("12345678"), &pin(PIN))
        .unwrap();
}

/// A new token, logged in to.
pub(crate) fn new_token(label: &str) -> Token {
    initialize(label);
    module().open(&TokenConfig::new(label), &pin(PIN)).unwrap()
}

fn module() -> Module {
    Module::load(&hsm_modules::library()).unwrap()
}

fn pin(digits: &str) -> Pin {
    Pin::new(digits.to_owned().into())
}
