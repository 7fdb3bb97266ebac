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
//! | `KT_KDH` | host | [`KeyToken`] | `SignedData` over [`EnvelopedKeyBlock`], with [`Kbh`], [`Freshness`] and CRL |
//! | `UBT_KDH` | host | [`KdhUnbindToken`] | `SignedData` over the KRD's name, with nonce and CRL |
//! | `RBT_KDH` | host | [`KdhRebindToken`] | the same over the KRD's name and the new KDH's certificate |
//! | `UBT_CA` | `CA_KRD` | [`CaUnbindToken`] | `SignedData` over the names of KRD and KDH |
//! | `RBT_CA` | `CA_KRD` | [`CaRebindToken`] | the same with the new KDH's certificate and a time |
//! | key block | inside | [`KeyBlock`] | version, KDH ([`IssuerAndSerial`]), Kn and [`Kbh`], in clear |
//!
//! The host never has a [`KeyBlock`]: it has the [`KeyBlockFrame`] round a key that stays in the
//! HSM. A signed token is made in two steps, [`TokenDraft`] first, because the HSM signs in between.
//!
//! How a message is written is a [`Profile`]'s: `x9-2019` by default, which is [`RFC 5652`] CMS of the
//! versions that its rules give, signed attributes in DER order, RSAES-OAEP with tagged parameters, AES or
//! three-key TDEA in CBC mode (see `docs/protocol.md`). Each profile reads what it writes; whatever else a
//! peer may send breaks a [`Rule`] and is refused.
//!
//! [`RFC 5652`]: https://www.rfc-editor.org/rfc/rfc5652

mod attribute;
mod cipher;
mod credential;
mod credential_token;
mod departure;
mod encode;
mod enveloped;
mod error;
mod expect;
mod freshness;
mod identity;
mod kbh;
mod key_block;
mod key_kind;
mod key_token;
mod oaep;
mod oid;
mod optional_block;
mod order;
mod profile;
mod random_token;
mod read;
mod signed;
mod signed_attributes;
mod sound;

pub use cipher::{ContentCipher, ContentEncryption, OaepHash};
pub use credential_token::{KdhCredentialToken, KrdCredentialToken};
pub use departure::Departure;
pub use enveloped::EnvelopedKeyBlock;
pub use error::{MalformedToken, Rule, TokenKind};
pub use freshness::{Freshness, KrdNonce, SigningTime};
pub use identity::IssuerAndSerial;
pub use kbh::{Kbh, KbhError, KbhField, KeyAlgorithm};
pub use key_block::{KeyBlock, KeyBlockFrame, key_offset};
pub use key_kind::KeyKind;
pub use key_token::KeyToken;
pub use optional_block::OptionalBlock;
pub use order::{CaRebindToken, CaUnbindToken, KdhRebindToken, KdhUnbindToken};
pub use profile::{Profile, UnknownProfile};
pub use random_token::RandomToken;
pub use signed::{SignerPart, TokenDraft};

/// No token of this profile is longer; anything above is refused unread.
pub const MAX_TOKEN_LEN: usize = 64 * 1024;
/// A revocation list of this length fits into every token: what else is in one has less than 8 KiB,
/// also with RSA keys of 4096 bits.
pub const MAX_CRL_LEN: usize = MAX_TOKEN_LEN - 8 * 1024;
