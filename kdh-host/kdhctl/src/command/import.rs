//! Keys that arrived encrypted.

use std::{fs::File, io::Read as _, path::Path};

use hsm::{KcvMethod, read_ciphertext};
use inspector::Input;
use kdh_proto::v1::{
    ApproveKeyImportRequest, AskKeyImportRequest, KeyImport, ListKeyImportsRequest,
    MakeImportNonceRequest, RejectKeyImportRequest, WrappedKey,
    wrapped_key::{self, Form},
};

use super::key::check_value;
use crate::{
    cli::{Announced, ImportCommand, OaepHash},
    failure::Failure,
    pages::fetch_all,
    report::{self, Report},
    session::{Client, request},
    token_file,
};

/// More than any wrapped key takes, in hexadecimal digits, and any token with its revocation list.
const MAX_FILE_LEN: u64 = 128 * 1024;

pub(super) async fn run(command: ImportCommand, client: &mut Client) -> Result<Report, Failure> {
    let import = match command {
        ImportCommand::Zmk { ref key, .. }
        | ImportCommand::TransportKey { ref key, .. }
        | ImportCommand::KeyBlock { ref key, .. }
        | ImportCommand::KeyToken { ref key, .. } => {
            let message = asking(key, wrapped(&command)?)?;
            client.ask_key_import(request(message)).await?
        }
        ImportCommand::Nonce { sender, out } => return make_nonce(client, sender, &out).await,
        ImportCommand::List { page } => return list(client, page.limit).await,
        ImportCommand::Approve { id } => {
            let message = ApproveKeyImportRequest { id };
            client.approve_key_import(request(message)).await?
        }
        ImportCommand::Reject { id } => {
            let message = RejectKeyImportRequest { id };
            client.reject_key_import(request(message)).await?
        }
    };
    Ok(report::key_import(import.get_ref()))
}

/// Whether what the command names can be sent.
pub(super) fn read_files(command: &ImportCommand) -> Result<(), Failure> {
    match command {
        ImportCommand::Zmk { key, .. }
        | ImportCommand::TransportKey { key, .. }
        | ImportCommand::KeyBlock { key, .. }
        | ImportCommand::KeyToken { key, .. } => asking(key, wrapped(command)?).map(drop),
        ImportCommand::Nonce { .. }
        | ImportCommand::List { .. }
        | ImportCommand::Approve { .. }
        | ImportCommand::Reject { .. } => Ok(()),
    }
}

fn asking(key: &Announced, form: Option<Form>) -> Result<AskKeyImportRequest, Failure> {
    let method = key.kcv_method.map(KcvMethod::from);
    Ok(AskKeyImportRequest {
        name: key.name.clone(),
        kind: key.kind.clone(),
        header: key.header.to_string(),
        kcv: Some(check_value(&key.header, &key.kcv, method)?),
        wrapped: Some(WrappedKey { form }),
        why: key.why.clone(),
    })
}

/// The key as it arrived; `None` for a command that brings none.
fn wrapped(command: &ImportCommand) -> Result<Option<Form>, Failure> {
    Ok(match command {
        ImportCommand::Zmk { zmk, wrapped, .. } => Some(Form::UnderZmk(wrapped_key::UnderZmk {
            zmk: zmk.clone(),
            key: read_bytes("--wrapped", &wrapped.wrapped)?,
            padded: wrapped.padded,
        })),
        ImportCommand::TransportKey {
            pair,
            transport_key,
            oaep_hash,
            wrapped,
            ..
        } => {
            let hash = match oaep_hash {
                OaepHash::Sha256 => wrapped_key::OaepHash::Sha256,
                OaepHash::Sha1 => wrapped_key::OaepHash::Sha1,
            };
            Some(Form::UnderTransportKey(wrapped_key::UnderTransportKey {
                pair: pair.clone(),
                transport_key: read_bytes("--transport-key", transport_key)?,
                oaep_hash: hash.into(),
                key: read_bytes("--wrapped", &wrapped.wrapped)?,
                padded: wrapped.padded,
            }))
        }
        ImportCommand::KeyBlock {
            protection_key,
            block,
            ..
        } => {
            let text = String::from_utf8(read("--block", block)?);
            let text = text.map_err(|_| fault("--block", block, "is not text"))?;
            Some(Form::KeyBlock(wrapped_key::KeyBlock {
                protection_key: protection_key.clone(),
                block: text.trim().to_owned(),
            }))
        }
        ImportCommand::KeyToken { sender, token, .. } => {
            let input = Input::read(&read("--token", token)?);
            let input = input.map_err(|error| fault("--token", token, &error.to_string()))?;
            Some(Form::KeyToken(wrapped_key::KeyToken {
                sender: sender.clone(),
                token: input.der,
            }))
        }
        ImportCommand::Nonce { .. }
        | ImportCommand::List { .. }
        | ImportCommand::Approve { .. }
        | ImportCommand::Reject { .. } => None,
    })
}

/// Writes the random-number token for a sender. One that is not written was made all the same.
async fn make_nonce(client: &mut Client, sender: String, out: &Path) -> Result<Report, Failure> {
    let message = MakeImportNonceRequest {
        sender: sender.clone(),
    };
    let made = client
        .make_import_nonce(request(message))
        .await?
        .into_inner();
    token_file::write_new_bytes(out, &made.rt_krd, "make another nonce")?;
    Ok(report::import_nonce(&sender, &made.nonce, out))
}

async fn list(client: &mut Client, limit: Option<u32>) -> Result<Report, Failure> {
    let imports = fetch_all(limit, async |last: Option<&KeyImport>, limit| {
        let message = ListKeyImportsRequest {
            before: last.map_or_else(String::new, |last| last.id.clone()),
            limit,
        };
        let page = client.list_key_imports(request(message)).await?;
        Ok(page.into_inner().imports)
    });
    Ok(report::key_imports(&imports.await?))
}

/// What a file holds: as it is, or as hexadecimal digits if it is text.
fn read_bytes(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read(option, path)?;
    read_ciphertext(bytes).map_err(|error| fault(option, path, &error.to_string()))
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(option, path, &error.to_string()))?;
    match bytes.len() as u64 {
        0 => Err(fault(option, path, "is empty")),
        1..=MAX_FILE_LEN => Ok(bytes),
        _ => Err(fault(option, path, "is too long for a wrapped key")),
    }
}

fn fault(option: &str, path: &Path, fault: &str) -> Failure {
    Failure::usage(format!("{option} {}: {fault}", path.display()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_hold_bytes_or_digits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrapped");
        for (content, expected) in [
            (&b"\x00\x01\xFF"[..], &b"\x00\x01\xFF"[..]),
            (b"0001ff", b"\x00\x01\xFF"),
            (b" 00 01\r\nFF\n", b"\x00\x01\xFF"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(read_bytes("--wrapped", &path).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_wrapped_key_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrapped");
        let long = vec![0xFF; 128 * 1024 + 1];
        for (content, part) in [
            (&b""[..], "is empty"),
            (b"000", "not hexadecimal digits"),
            (b"0g", "not hexadecimal digits"),
            (b"-----BEGIN CMS-----", "not hexadecimal digits"),
            (&long, "is too long"),
        ] {
            fs::write(&path, content).unwrap();
            let failure = read_bytes("--wrapped", &path).unwrap_err();
            assert_eq!(failure.exit_code, 2);
            let text = failure.to_string();
            assert!(text.contains(part) && text.contains("--wrapped"), "{text}");
        }
        let missing = read("--block", &folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
