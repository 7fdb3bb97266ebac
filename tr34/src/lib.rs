//! TR-34 messages: bytes to values and back.
//!
//! Pure functions. No input or output, no clock, no randomness, no keys: signatures are made and
//! checked elsewhere, over the bytes that this crate hands out. Reading is strict DER with nothing
//! behind it; bytes that were signed are kept as they were received.
//!
//! | message | from | type | made of |
//! |---|---|---|---|
//! | `RT_KRD` | terminal | [`RandomToken`] | the bare randomNonce attribute: a [`KrdNonce`] |
//! | `CT_KRD` | terminal | [`KrdCredentialToken`] | unsigned `SignedData` with the KRD's certificate |
//! | `CT_KDH` | host | [`KdhCredentialToken`] | the same with the KDH's certificate and its CA's CRL |
//! | `KT_KDH` | host | [`KeyToken`] | `SignedData` over [`EnvelopedKeyBlock`], with [`Kbh`], nonce and CRL |
//! | key block | inside | [`KeyBlock`] | version, KDH ([`IssuerAndSerial`]), Kn and [`Kbh`], in clear |
//!
//! The host never has a [`KeyBlock`]: it has the [`KeyBlockFrame`] round a key that stays in the
//! HSM. A `KT_KDH` is made in two steps, [`KeyTokenDraft`] first, because the HSM signs in between.
//!
//! The wire format is the profile `x9-2019` (see `docs/protocol.md`): two-pass, [`RFC 5652`] CMS of
//! the versions that its rules give, signed attributes in DER order, RSAES-OAEP with tagged
//! parameters, AES or three-key TDEA in CBC mode. Whatever else a peer may send breaks a [`Rule`] and is refused.
//!
//! [`RFC 5652`]: https://www.rfc-editor.org/rfc/rfc5652

mod cipher;
mod credential_token;
mod encode;
mod enveloped;
mod error;
mod expect;
mod identity;
mod kbh;
mod key_block;
mod key_kind;
mod key_token;
mod oaep;
mod oid;
mod random_token;
mod signed_attributes;
mod wire;

pub use cipher::{ContentCipher, ContentEncryption, OaepHash};
pub use credential_token::{KdhCredentialToken, KrdCredentialToken};
pub use enveloped::EnvelopedKeyBlock;
pub use error::{MalformedToken, Rule, TokenKind};
pub use identity::IssuerAndSerial;
pub use kbh::{Kbh, KbhError, KbhField, KeyAlgorithm};
pub use key_block::{KeyBlock, KeyBlockFrame, key_offset};
pub use key_kind::KeyKind;
pub use key_token::{KeyToken, KeyTokenDraft};
pub use random_token::{KrdNonce, NONCE_LEN, RandomToken};

/// No token of this profile is longer; anything above is refused unread.
pub const MAX_TOKEN_LEN: usize = 64 * 1024;
/// A revocation list of this length fits into every token: what else is in one has less than 8 KiB,
/// also with RSA keys of 4096 bits.
pub const MAX_CRL_LEN: usize = MAX_TOKEN_LEN - 8 * 1024;
