//! What arrived, as a message and the database have it.

use hsm::{ImportForm, KeyName, KeyRole, KeyWrap, WrappedKey};
use kdh_proto::{
    Reason,
    v1::{self, wrapped_key::Form},
};
use prost::Message as _;
use sha2::{Digest, Sha256};
use tr34::OaepHash;

use crate::{
    Host, HostError,
    error::refused,
    store::{KeyImportRequest, StoreError},
};

pub(super) const NOTHING: &str = "there is no wrapped key: send it in one of the forms";

/// What arrived, as a message has it.
pub(super) enum Arrived<'a> {
    /// Whatever the key in the HSM opens that it names.
    Wrapped(WrappedKey),
    /// A TR-34 token of a sender, not verified.
    KeyToken { sender: &'a str, token: &'a [u8] },
}

/// In which form a key arrived, who sent it, and the label of the key that opens it, as far as they are known.
pub(crate) struct Description {
    pub(crate) form: ImportForm,
    pub(crate) sender: String,
    pub(crate) under: String,
    /// SHA-256 over what its sender sent, hex.
    pub(crate) sha256: String,
}

pub(crate) fn describe(host: &Host, import: &KeyImportRequest) -> Result<Description, HostError> {
    let message = message(import)?;
    let (form, sender, under) = match Arrived::parse(&message).map_err(|_| damaged())? {
        Arrived::Wrapped(wrapped) => {
            let under = wrapped.under().label().to_owned();
            (wrapped.form(), String::new(), under)
        }
        Arrived::KeyToken { sender, .. } => {
            let known = host.senders().find(sender);
            let under = known.map_or("", |known| known.pair()).to_owned();
            (ImportForm::Tr34, sender.to_owned(), under)
        }
    };
    Ok(Description {
        form,
        sender,
        under,
        sha256: digest(&sent(&message)),
    })
}

/// What the sender sent, so that their digest of it is the same: of a key under a transport key the one behind the
/// other.
fn sent(message: &v1::WrappedKey) -> Vec<u8> {
    match &message.form {
        None => Vec::new(),
        Some(Form::UnderZmk(it)) => it.key.clone(),
        Some(Form::UnderTransportKey(it)) => [&it.transport_key[..], &it.key].concat(),
        Some(Form::KeyBlock(it)) => it.block.clone().into_bytes(),
        Some(Form::KeyToken(it)) => it.token.clone(),
    }
}

pub(super) fn message(import: &KeyImportRequest) -> Result<v1::WrappedKey, HostError> {
    v1::WrappedKey::decode(&import.wrapped[..]).map_err(|_| damaged())
}

impl<'a> Arrived<'a> {
    /// As it came in a message.
    pub(super) fn parse(wrapped: &'a v1::WrappedKey) -> Result<Self, HostError> {
        use v1::wrapped_key::OaepHash as Hash;
        let invalid = |cause: String| refused(Reason::RequestInvalid, cause);
        let name = |label: &str| KeyName::new(label).map_err(|error| invalid(error.to_string()));
        let form = wrapped.form.as_ref();
        let wrapped = match form.ok_or_else(|| invalid(NOTHING.into()))? {
            Form::UnderZmk(it) => WrappedKey::Zmk {
                zmk: unwrapping(&it.zmk, KeyRole::Zmk)?,
                key: KeyWrap {
                    padded: it.padded,
                    bytes: it.key.clone(),
                },
            },
            Form::UnderTransportKey(it) => WrappedKey::RsaOaep {
                pair: name(&it.pair)?,
                oaep: match it.oaep_hash() {
                    Hash::Sha256 => OaepHash::Sha256,
                    Hash::Sha1 => OaepHash::Sha1,
                    Hash::Unspecified => {
                        return Err(invalid(
                            "the hash in RSA-OAEP is not said: it is SHA256 or SHA1".into(),
                        ));
                    }
                },
                transport_key: it.transport_key.clone(),
                key: KeyWrap {
                    padded: it.padded,
                    bytes: it.key.clone(),
                },
            },
            Form::KeyBlock(it) => WrappedKey::Tr31 {
                kbpk: unwrapping(&it.protection_key, KeyRole::KeyBlockProtection)?,
                block: tr31::KeyBlock::parse(it.block.as_bytes())
                    .map_err(|error| invalid(error.to_string()))?,
            },
            Form::KeyToken(it) => {
                return Ok(Self::KeyToken {
                    sender: &it.sender,
                    token: &it.token,
                });
            }
        };
        Ok(Self::Wrapped(wrapped))
    }
}

/// The label of a key that unwraps others, which says so.
fn unwrapping(label: &str, role: KeyRole) -> Result<KeyName, HostError> {
    let invalid = |cause: String| refused(Reason::RequestInvalid, cause);
    let name = KeyName::new(label).map_err(|error| invalid(error.to_string()))?;
    if KeyRole::of_secret(&name) == role {
        return Ok(name);
    }
    let prefix = role.label_prefix();
    Err(invalid(format!(
        "{label} is not the label of a {role}: name one that begins with {prefix:?}"
    )))
}

pub(super) fn damaged() -> HostError {
    StoreError::Damaged("key import").into()
}

pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
