//! TR-31/X9.143 key blocks: bytes to values and back.
//!
//! Pure functions. No input or output, no randomness, no keys: a block is opened and its MAC verified where
//! its key block protection key (KBPK) is, with what this crate says of bytes.
//!
//! ```text
//! header (16 characters, optional blocks) | payload, encrypted, hex | MAC, hex
//! ```
//!
//! Versions B (TDEA) and D (AES), in which the keys of a block are derived from the KBPK by CMAC
//! ([`Derivation`]), the MAC is a CMAC of the header and the clear payload, and the payload is encrypted in
//! CBC mode with the MAC as its IV. The header's fields and optional blocks are TR-34's: [`tr34::Kbh`].

mod derivation;
mod error;
mod key_block;
mod version;

pub use derivation::{BlockKey, Derivation, KbpkError, cmac_subkey};
pub use error::KeyBlockError;
pub use key_block::{KeyBlock, MAX_LEN, Protected};
pub use tr34::OptionalBlock;
pub use version::Version;
