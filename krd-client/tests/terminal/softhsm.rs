//! Tests on a `SoftHSM` token directory of their own.
//!
//! `SoftHSM` reads `SOFTHSM2_CONF` once in a process, and no test may set it for its neighbours. So
//! such a test starts this binary again, for itself alone, with a temporary directory.

use std::{
    any::type_name,
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use hsm::{Module, Pin, Token, TokenConfig};

use crate::world::{KEYS, WORLD};

/// Where Debian and Ubuntu have it.
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

pub(crate) const PIN: &str = "1234";

/// Tells the child that it is one.
const CHILD: &str = "KRD_TEST_CHILD";

/// Runs the body of a test in a process and a token directory of its own.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the child printed is the test's output"
)]
pub(crate) fn alone<F: FnOnce()>(body: F) {
    if env::var_os(CHILD).is_some() {
        return body();
    }
    assert!(Path::new(SOFTHSM).exists(), "SoftHSM is not installed");
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\n", tokens.display());
    fs::write(&configuration, text).unwrap();

    WORLD.keep_keys(folder.path());

    let output = Command::new(env::current_exe().unwrap())
        .args([test_name::<F>(), "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", &configuration)
        .env(CHILD, "1")
        .env(KEYS, folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(printed.contains("1 passed"), "the test did not run");
}

/// A closure's type is named after the test in which it stands.
fn test_name<F>() -> &'static str {
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    path.split_once("::").unwrap().1
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
    Module::load(Path::new(SOFTHSM)).unwrap()
}

fn pin(digits: &str) -> Pin {
    Pin::new(digits.to_owned().into())
}
