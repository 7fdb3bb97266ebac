//! Kn at rest: outside of the HSM, wrapped under a key that never leaves it.
//!
//! A pair of storage keys lies in the token: `ksk.N` wraps and unwraps Kn by AES key wrap (RFC 3394), `ksm.N` makes
//! AES-CMACs over what the host writes beside it. A stored Kn comes back as a session object for one
//! operation, and the HSM holds no more for a million of them than for one. What the bytes under a MAC say is the
//! caller's to decide; that they are what they were is seen here, before the key beside them is used.

mod batch;
mod error;
mod group;
mod kept;
mod pair;
mod source;
mod trial;

use std::{fmt, num::NonZeroU32};

use subtle::ConstantTimeEq;
use tr34::KeyKind;

use crate::{HsmError, Kcv, KeyName, KeyRole, NameError, SecretKey, worker::Worker};

pub(crate) use batch::each;
pub use error::StorageError;
pub(crate) use kept::sign as make_mac;
pub(crate) use pair::Proof;
pub use source::KnSource;
pub(crate) use trial::{Storing, trial};

/// Which pair of storage keys: N of `ksk.N` and `ksm.N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageNumber(NonZeroU32);

impl StorageNumber {
    /// Of both keys of a pair.
    pub const KIND: KeyKind = KeyKind::Aes256;

    /// The first pair.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The pair of this number.
    ///
    /// # Errors
    /// It is 0.
    pub fn new(number: u32) -> Result<Self, StorageError> {
        NonZeroU32::new(number)
            .map(Self)
            .ok_or(StorageError::Number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The pair that comes after it; none after the last.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    fn key_label(self) -> String {
        label(KeyRole::Storage, self)
    }

    fn mac_label(self) -> String {
        label(KeyRole::StorageMac, self)
    }

    /// Of the key that wraps.
    ///
    /// # Errors
    /// None: every number makes a name.
    pub fn key_name(self) -> Result<KeyName, NameError> {
        KeyName::new(&self.key_label())
    }

    /// Of the key that makes MACs.
    ///
    /// # Errors
    /// As [`Self::key_name`].
    pub fn mac_name(self) -> Result<KeyName, NameError> {
        KeyName::new(&self.mac_label())
    }
}

fn label(role: KeyRole, number: StorageNumber) -> String {
    format!("{}{number}", role.label_prefix())
}

impl fmt::Display for StorageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An AES-CMAC that the HSM made of bytes of the caller's.
#[derive(Clone, Copy, Debug)]
pub struct Mac([u8; Mac::LEN]);

impl Mac {
    /// Bytes.
    pub const LEN: usize = 16;

    /// From its bytes.
    ///
    /// # Errors
    /// They are not 16.
    pub fn new(bytes: &[u8]) -> Result<Self, StorageError> {
        let exact = bytes.try_into();
        exact
            .map(Self)
            .map_err(|_| StorageError::MacLen(bytes.len()))
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// In constant time.
impl PartialEq for Mac {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Mac {}

/// Bytes, and the MAC that they have to have.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Whose `ksm.N` made the MAC.
    pub number: StorageNumber,
    /// What stands in the record.
    pub bytes: Vec<u8>,
    /// Of these bytes.
    pub mac: Mac,
}

impl Authenticated {
    /// Refuses bytes that do not have their MAC.
    fn verify(&self, worker: &mut Worker) -> Result<(), HsmError> {
        let key = worker.key(KeyRole::StorageMac, &self.number.mac_name()?)?;
        kept::verify(&worker.session, key, self)
    }
}

/// A Kn at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKn {
    /// Under which `ksk.N`.
    pub number: StorageNumber,
    /// Algorithm and length.
    pub kind: KeyKind,
    /// The AES key wrap of Kn: 8 bytes longer than it. Equal for equal keys under one `ksk.N`.
    pub wrapped: Vec<u8>,
}

impl StoredKn {
    /// Refuses one that cannot be of this kind, or is not beside this record.
    fn require_beside(&self, record: &Authenticated) -> Result<(), StorageError> {
        let (expected, found) = (wrapped_len(self.kind), self.wrapped.len());
        if expected != found {
            return Err(StorageError::WrappedLen {
                kind: self.kind,
                expected,
                found,
            });
        }
        if record.number != self.number {
            return Err(StorageError::OtherPair {
                record: record.number,
                key: self.number,
            });
        }
        Ok(())
    }
}

/// A Kn that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Algorithm and length.
    pub kind: KeyKind,
    /// Bytes of its check value: 3 to 5.
    pub kcv_len: usize,
}

/// A Kn that the HSM has made, of which it keeps nothing.
#[derive(Clone, Debug)]
pub struct MadeKey {
    /// Its check value.
    pub kcv: Kcv,
    /// Under the `ksk.N` that was asked for.
    pub wrapped: Vec<u8>,
    /// By `ksm.N`, of what the caller said of it.
    pub mac: Mac,
}

/// A record that has come under another pair.
#[derive(Clone, Debug)]
pub struct Rewrapped {
    /// Its key, if one belongs to it.
    pub wrapped: Option<Vec<u8>>,
    /// Of what the caller said of it.
    pub mac: Mac,
}

/// A master key of which nothing is known but its kind.
pub(crate) const fn of_kind(name: KeyName, kind: KeyKind) -> SecretKey {
    SecretKey::new(name, KeyRole::TransportKey, kind, true)
}

/// RFC 3394.
const fn wrapped_len(kind: KeyKind) -> usize {
    kind.key_len() + 8
}
