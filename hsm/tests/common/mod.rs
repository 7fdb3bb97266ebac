//! Tests on a `SoftHSM` token directory of their own.
//!
//! `SoftHSM` reads `SOFTHSM2_CONF` once per process, and a test must not set a variable for the
//! threads beside it. So each test runs its own binary again for itself alone, as a child process with a
//! temporary token directory:
//!
//! ```ignore
//! #[test]
//! fn signs() {
//!     in_token_directory(|| { ... });
//! }
//! ```

use std::{
    any::type_name,
    env,
    path::Path,
    process::{Command, Stdio},
};

use hsm::{Module, Pin, Token, TokenConfig};

/// Where Debian and Ubuntu have it.
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// `OpenSC`'s spy, which writes down every call; [`in_token_directory`] has it spy on `SoftHSM`.
pub(crate) const SPY: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so";
/// The variable that names the spy's log.
pub(crate) const SPY_LOG: &str = "PKCS11SPY_OUTPUT";

pub(crate) const SO_PIN: &str = "12345678";
pub(crate) const USER_PIN: &str = "1234";

const CONFIGURATION: &str = "SOFTHSM2_CONF";
/// Tells the child that it is one.
const CHILD: &str = "HSM_TEST_CHILD";

/// Runs the body of a test in a process and a token directory of its own.
///
/// # Panics
/// The body does, or `SoftHSM` is not installed: a missing module is a failure and not a skip.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the child printed is the test's output"
)]
pub(crate) fn in_token_directory<F: FnOnce()>(body: F) {
    if env::var_os(CHILD).is_some() {
        return body();
    }
    assert!(Path::new(SOFTHSM).exists(), "SoftHSM is not installed");
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let configuration = directory.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).unwrap();

    let output = Command::new(env::current_exe().unwrap())
        .args([
            &test_name::<F>(),
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CONFIGURATION, &configuration)
        .env("PKCS11SPY", SOFTHSM)
        .env(SPY_LOG, directory.path().join("spy.log"))
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(printed.contains("1 passed"), "the test did not run");
}

/// A closure's type is named after the function in which it stands: `binary::module::test::{{closure}}`.
fn test_name<F>() -> String {
    let name = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_binary, path) = name.split_once("::").unwrap();
    path.to_owned()
}

pub(crate) fn pin(pin: &str) -> Pin {
    Pin::new(pin.to_owned().into())
}

pub(crate) fn module() -> Module {
    Module::load(Path::new(SOFTHSM)).unwrap()
}

/// A new token, logged in to.
pub(crate) fn new_token(label: &str) -> Token {
    let module = module();
    module
        .initialize_token(label, &pin(SO_PIN), &pin(USER_PIN))
        .unwrap();
    module
        .open(&TokenConfig::new(label), &pin(USER_PIN))
        .unwrap()
}
