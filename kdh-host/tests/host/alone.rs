//! One process, and with it one set of tokens, per test: SoftHSM reads its configuration once.

use std::{any::type_name, env, fs, path::Path, process::Command};

const INSIDE: &str = "KDH_HOST_TEST_DIRECTORY";

/// Runs `body`, a closure of the calling test, in a process of its own, with a SoftHSM that has no
/// token yet and an empty directory.
pub(crate) fn alone<F: FnOnce(&Path)>(body: F) {
    if let Some(directory) = env::var_os(INSIDE) {
        return body(Path::new(&directory));
    }
    // "host::module::test::{{closure}}"
    let test = type_name::<F>()
        .trim_start_matches("host::")
        .trim_end_matches("::{{closure}}");
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = directory.path().join("softhsm2.conf");
    let content = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&configuration, content).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", &configuration)
        .env(INSIDE, directory.path())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    // A name that is wrong runs no test, successfully.
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{test}: {}\n{out}\n{err}",
        output.status
    );
}
