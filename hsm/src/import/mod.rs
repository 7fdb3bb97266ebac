//! Keys that arrive encrypted: unwrapped, checked and kept inside the HSM.
//!
//! ```text
//! ciphertext  what files hold of it
//! policy      what has to hold of an import before any key is touched
//! key_wrap    Kn under AES key wrap; its key held (ZMK), or arrived under RSA-OAEP
//! key_block   Kn in a TR-31 block
//! upstream    who signed a TR-34 token, for whom it is, and that it is fresh
//! key_token   Kn in such a token
//! made_up     what a rehearsal imports
//! trial       which forms a module can do, by known answers
//! ```
//!
//! Whatever a key arrives in, it stays inside from the first unwrapping on; what a module cannot do there is
//! refused, and never done in this process.

mod ciphertext;
mod error;
mod key_block;
mod key_token;
mod key_wrap;
mod made_up;
mod policy;
pub(crate) mod trial;
mod upstream;

use std::fmt;

use tr34::{Freshness, Kbh, KeyKind, OaepHash};

pub(crate) use self::made_up::make_up;
pub(crate) use self::policy::is_as_strong;
pub(crate) use self::trial::{Imports, imports};
pub(crate) use self::upstream::{make_nonce, require_receiver, verify as verify_upstream};
pub use self::{
    ciphertext::{CiphertextError, read_ciphertext},
    error::ImportError,
    policy::verify_announced_header,
    upstream::{Upstream, UpstreamError, UpstreamFreshness, UpstreamToken},
};
use crate::{HsmError, Kcv, KeyName, KeyRole, SecretKey, Token, self_test};

/// A key that arrived encrypted, and what was announced of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyImport {
    /// As it arrived.
    pub wrapped: WrappedKey,
    /// What it is.
    pub kind: KeyKind,
    /// Its check value.
    pub kcv: Kcv,
    /// What it may be used for. What arrives with a header has to have this one, in usage, algorithm, mode
    /// and exportability; what arrives without may go without.
    pub header: Option<Kbh>,
}

/// An encrypted key, in one of the forms in which keys arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrappedKey {
    /// A transport key under an import pair by RSA-OAEP, and the key under the transport key.
    RsaOaep {
        /// The import pair.
        pair: KeyName,
        /// The hash in RSA-OAEP.
        oaep: OaepHash,
        /// The transport key, an AES key, encrypted.
        transport_key: Vec<u8>,
        /// The key under it.
        key: KeyWrap,
    },
    /// The key under a ZMK.
    Zmk {
        /// The ZMK.
        zmk: KeyName,
        /// The key under it.
        key: KeyWrap,
    },
    /// A TR-31 block.
    Tr31 {
        /// The key block protection key.
        kbpk: KeyName,
        /// The block.
        block: tr31::KeyBlock,
    },
    /// A TR-34 token from another host, that was verified.
    Tr34(Box<UpstreamToken>),
}

/// A form in which keys arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImportForm {
    /// [`WrappedKey::RsaOaep`].
    RsaOaep,
    /// [`WrappedKey::Zmk`].
    Zmk,
    /// [`WrappedKey::Tr31`].
    Tr31,
    /// [`WrappedKey::Tr34`].
    Tr34,
}

/// A key under AES key wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyWrap {
    /// With the padding of RFC 5649, or, without, as in RFC 3394. Keys are whole pieces of 8 bytes, so that
    /// either is 8 bytes longer than the key.
    pub padded: bool,
    /// The wrapped key.
    pub bytes: Vec<u8>,
}

impl WrappedKey {
    /// In which form.
    pub const fn form(&self) -> ImportForm {
        match self {
            Self::RsaOaep { .. } => ImportForm::RsaOaep,
            Self::Zmk { .. } => ImportForm::Zmk,
            Self::Tr31 { .. } => ImportForm::Tr31,
            Self::Tr34(_) => ImportForm::Tr34,
        }
    }

    /// The key in the HSM that opens it.
    pub fn under(&self) -> &KeyName {
        match self {
            Self::RsaOaep { pair, .. } => pair,
            Self::Tr34(token) => token.pair(),
            Self::Zmk { zmk, .. } => zmk,
            Self::Tr31 { kbpk, .. } => kbpk,
        }
    }
}

impl KeyImport {
    /// Whether what arrived can be what was announced, as far as that is seen without the HSM. [`Token::import_key`]
    /// looks again.
    ///
    /// # Errors
    /// [`HsmError::Import`].
    pub fn verify_announced(&self, name: &KeyName) -> Result<(), HsmError> {
        policy::require(self, name)
    }
}

impl ImportForm {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::RsaOaep, Self::Zmk, Self::Tr31, Self::Tr34];

    /// As plans and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaOaep => "rsa-oaep+key-wrap",
            Self::Zmk => "zmk+key-wrap",
            Self::Tr31 => "tr31",
            Self::Tr34 => "tr34",
        }
    }

    /// The role of the key in the HSM that opens it.
    pub const fn under(self) -> KeyRole {
        match self {
            Self::RsaOaep | Self::Tr34 => KeyRole::ImportPair,
            Self::Zmk => KeyRole::Zmk,
            Self::Tr31 => KeyRole::KeyBlockProtection,
        }
    }
}

impl fmt::Display for ImportForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Makes the key a master key in the token.
pub(crate) fn import(
    token: &Token,
    import: &KeyImport,
    name: &KeyName,
) -> Result<SecretKey, HsmError> {
    policy::require(import, name)?;
    let imports = token.imports()?;
    imports.require(&import.wrapped)?;
    let mut worker = token.writer()?;
    let derives = self_test::assembles(&worker)?;
    match &import.wrapped {
        WrappedKey::RsaOaep {
            pair,
            oaep,
            transport_key,
            key,
        } => {
            let sender = key_wrap::Arrived {
                pair,
                oaep: *oaep,
                encrypted: transport_key,
            };
            key_wrap::import_arrived(&mut worker, &sender, key, import, name, derives)
        }
        WrappedKey::Zmk { zmk, key } => {
            key_wrap::import_under(&mut worker, zmk, key, import, name, derives)
        }
        WrappedKey::Tr31 { kbpk, block } => {
            key_block::import(&mut worker, kbpk, block, import, name, derives)
        }
        WrappedKey::Tr34(arrived) => {
            let nonce = match arrived.token().freshness() {
                Freshness::Nonce(nonce) => Some(nonce),
                Freshness::SigningTime(_) => None,
            };
            if let Some(nonce) = nonce {
                // It may have been used since it was verified.
                upstream::require_nonce(token, arrived.pair(), nonce)?;
            }
            let opening = token.how_it_opens()?;
            let key = key_token::import(&mut worker, opening, arrived, import, name, derives)?;
            if nonce.is_some()
                && let Err(error) = upstream::spend_nonce(token, arrived.pair())
            {
                // What could be used again was not used.
                token.destroy_key(name)?;
                return Err(error);
            }
            Ok(key)
        }
    }
}
