//! Independent programs that make what arrives encrypted, and open what leaves so: psec, in Python, and the
//! `openssl` command line.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, ensure};

use crate::{build_folder, workspace};

/// The Python that sees Debian's packages, whichever comes first on the path.
const PYTHON: &str = "/usr/bin/python3";

/// What of TR-31's form is left to whoever makes a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockForm<'a> {
    /// The length in bytes that the payload shows for a key; psec's own choice if there is none.
    pub masked_len: Option<usize>,
    /// Optional blocks, `ID=DATA`.
    pub optional: &'a [&'a str],
}

/// Has psec make a TR-31 block.
///
/// # Panics
/// It does not, or is not there.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn tr31_block(kbpk: &[u8], header: &str, key: &[u8], form: BlockForm<'_>) -> String {
    let masked_len = form
        .masked_len
        .map_or("-".to_owned(), |len| len.to_string());
    let output = Command::new(psec().expect("psec is there"))
        .arg(workspace().join("tests/makers/psec/tr31_maker.py"))
        .args([
            &hex::encode_upper(kbpk),
            header,
            &hex::encode_upper(key),
            &masked_len,
        ])
        .args(form.optional)
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What psec says of TR-31 blocks, one line each: the header, in 16 characters as if it had neither length nor
/// optional blocks, each optional block as `ID=DATA`, and the key in hexadecimal; or `refused:` and why.
///
/// # Panics
/// It says nothing, or is not there.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn tr31_opened(kbpk: &[u8], blocks: &[String]) -> Vec<String> {
    let output = Command::new(psec().expect("psec is there"))
        .arg(workspace().join("tests/makers/psec/tr31_reader.py"))
        .arg(hex::encode_upper(kbpk))
        .args(blocks)
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().map(str::to_owned).collect()
}

/// What psec and Python's cryptography say of exported keys in a file, one line each: position, device, slot, version,
/// header and check value, or `refused:` and why.
///
/// # Panics
/// They say nothing, or are not there.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn exported_keys(under: &[u8], mac: &[u8], file: &Path) -> Vec<String> {
    let output = Command::new(psec().expect("psec is there"))
        .arg(workspace().join("tests/makers/psec/export_reader.py"))
        .args([hex::encode_upper(under), hex::encode_upper(mac)])
        .arg(file)
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().map(str::to_owned).collect()
}

/// What `openssl` makes of `input`.
///
/// # Panics
/// It fails.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
pub fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

/// `key` under `kek`, by OpenSSL: as in RFC 5649 with padding, as in RFC 3394 without.
///
/// # Panics
/// As for [`openssl`].
pub fn key_wrap(kek: &[u8], key: &[u8], padded: bool) -> Vec<u8> {
    let bits = kek.len() * 8;
    let (cipher, iv) = if padded {
        (format!("-id-aes{bits}-wrap-pad"), "A65959A6")
    } else {
        (format!("-id-aes{bits}-wrap"), "A6A6A6A6A6A6A6A6")
    };
    openssl(
        &["enc", &cipher, "-K", &hex::encode_upper(kek), "-iv", iv],
        key,
    )
}

/// The key that is wrapped under `kek` as in RFC 3394, by OpenSSL.
///
/// # Panics
/// As for [`openssl`]: it is not.
pub fn key_unwrap(kek: &[u8], wrapped: &[u8]) -> Vec<u8> {
    let cipher = format!("-id-aes{}-wrap", kek.len() * 8);
    let (kek, iv) = (hex::encode_upper(kek), "A6A6A6A6A6A6A6A6");
    openssl(&["enc", "-d", &cipher, "-K", &kek, "-iv", iv], wrapped)
}

/// `key` under the RSA key of this PEM file, by OpenSSL: RSA-OAEP with `hash` in MGF1 too.
///
/// # Panics
/// As for [`openssl`].
pub fn rsa_oaep(public_key: &Path, hash: &str, key: &[u8]) -> Vec<u8> {
    let (oaep, mask) = (format!("rsa_oaep_md:{hash}"), format!("rsa_mgf1_md:{hash}"));
    let file = public_key.to_string_lossy();
    let key_file: &[&str] = &["pkeyutl", "-encrypt", "-pubin", "-inkey", &file];
    let padding: &[&str] = &["-pkeyopt", "rsa_padding_mode:oaep"];
    let hashes: &[&str] = &["-pkeyopt", &oaep, "-pkeyopt", &mask];
    openssl(&[key_file, padding, hashes].concat(), key)
}

/// The Python with psec: a virtual environment beside what is built, made if need be.
///
/// # Errors
/// It cannot be made.
pub fn psec() -> Result<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| make_psec().map_err(|error| format!("{error:#}")));
    made.clone().map_err(anyhow::Error::msg)
}

fn make_psec() -> Result<PathBuf> {
    let folder = build_folder()?;
    let target = folder.parent().context("no folder of builds")?;
    let python = target.join("psec/bin/python");
    if has_psec(&python) {
        return Ok(python);
    }
    // Another test may be making it; a folder is moved into its place as a whole.
    let script = workspace().join("tests/makers/psec/install");
    let output = Command::new(script).arg(target).arg(PYTHON).output()?;
    ensure!(
        has_psec(&python),
        "psec could not be installed into {}: {}",
        target.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(python)
}

fn has_psec(python: &Path) -> bool {
    let mut import = Command::new(python);
    import
        .args(["-c", "import psec.tr31"])
        .stderr(Stdio::null());
    import.status().is_ok_and(|status| status.success())
}
