//! Initial keys of DUKPT, derived from a BDK inside the module.
//!
//! ```text
//! aes    ANSI X9.24-3: the encryption of one or two blocks that say what is derived for whom
//! tdea   ANSI X9.24-1: each half the encryption of the key serial number, the right one under a variant
//! trial  which kinds a module can derive, by the standards' own examples
//! ```
//!
//! An initial key is a session key with a master key's attributes, and is made again whenever it is needed: nothing
//! of it is kept anywhere.

mod aes;
mod error;
mod tdea;
mod trial;

use std::{fmt, sync::Arc};

use cryptoki::object::{Attribute, ObjectHandle};
use tr31::OptionalBlock;
use tr34::KeyKind;

pub use self::error::DerivationError;
pub(crate) use self::{
    aes::try_to_derive,
    trial::{Derivations, derivations},
};
use crate::{
    HsmError, Kcv, KeyName, KeyRole, KnSource, SealRequest, SecretKey, StorageError, Token,
    TokenGroup, check_value,
    error::CallResult,
    inspect::{key_type, require_kind, value_len},
    session::Session,
    template::{Flag, Lives, TRANSPORT_KEY, Template},
    worker::{Ephemeral, Worker},
};

const OPERATION: &str = "derive an initial key";

/// Whose an initial key is. For AES the initial key id: 4 bytes for the BDK or key set, 4 for the terminal. For
/// TDEA the first 8 bytes of the key serial number, with the bits of its counter zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InitialKeyId([u8; 8]);

/// An initial key that a BDK may have: what it takes to derive it, whenever it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialKey {
    bdk: KeyName,
    under: KeyKind,
    kind: KeyKind,
    id: InitialKeyId,
}

impl InitialKeyId {
    /// From its bytes.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// In upper-case hexadecimal digits, as in a header's optional block.
impl fmt::Display for InitialKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for InitialKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InitialKeyId({self})")
    }
}

impl InitialKey {
    /// Of this kind, for this id.
    ///
    /// # Errors
    /// [`HsmError::Derivation`]: a BDK of that kind derives no such key, or the id is none.
    /// [`HsmError::WrongRole`]: not a BDK.
    pub fn new(bdk: &SecretKey, kind: KeyKind, id: InitialKeyId) -> Result<Self, HsmError> {
        if bdk.role() != KeyRole::Bdk {
            return Err(HsmError::WrongRole {
                operation: OPERATION,
                role: bdk.role(),
            });
        }
        require_derivable(bdk.name(), bdk.kind(), kind)?;
        if kind == KeyKind::Tdea2 && id.0[7] & tdea::COUNTER_BITS != 0 {
            return Err(DerivationError::Counter { id: id.to_string() }.into());
        }
        Ok(Self {
            bdk: bdk.name().clone(),
            under: bdk.kind(),
            kind,
            id,
        })
    }

    /// The BDK.
    pub const fn bdk(&self) -> &KeyName {
        &self.bdk
    }

    /// Algorithm and length.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whose it is.
    pub const fn id(&self) -> InitialKeyId {
        self.id
    }

    /// What a key block says of whose it is (X9.143): `IK`, or for TDEA `KS`, the key serial number before any
    /// transaction.
    pub fn optional_block(&self) -> OptionalBlock {
        let id = self.id.as_bytes();
        match self.kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => {
                let mut serial = [0; 10];
                serial[..id.len()].copy_from_slice(id);
                OptionalBlock::key_serial_number(&serial)
            }
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => {
                OptionalBlock::initial_key_id(id)
            }
        }
    }

    /// The BDK in the token. It is still of the kind that it was.
    pub(crate) fn find_bdk(&self, worker: &mut Worker) -> Result<ObjectHandle, HsmError> {
        let bdk = worker.key(KeyRole::Bdk, &self.bdk)?;
        require_kind(&worker.session, bdk, self.bdk.label(), self.under)?;
        Ok(bdk)
    }

    /// The key, to be sealed or wrapped: as a master key is, but in the session. `derives` says whether it may be
    /// derived from, for a module that seals that way.
    pub(crate) fn derive<'s>(
        &self,
        session: &'s Session,
        bdk: ObjectHandle,
        derives: bool,
    ) -> Result<Ephemeral<'s>, HsmError> {
        self.derive_by(session, bdk, &TRANSPORT_KEY, &[Flag::Derive.set(derives)])
    }

    /// The same by a template, with more attributes.
    fn derive_by<'s>(
        &self,
        session: &'s Session,
        bdk: ObjectHandle,
        template: &Template,
        more: &[Attribute],
    ) -> Result<Ephemeral<'s>, HsmError> {
        let key_type = key_type(self.kind);
        let mut attributes = template.attributes_with_class(Lives::InSession);
        attributes.push(Attribute::KeyType(key_type));
        attributes.extend(value_len(key_type, self.kind.key_len()).during(OPERATION)?);
        attributes.extend_from_slice(more);
        match self.kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => tdea::derive(session, bdk, self.id, &attributes),
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => {
                aes::derive(session, bdk, self.kind, self.id, &attributes)
            }
        }
    }

    /// The check value, from a key that can do nothing else.
    fn kcv(&self, session: &Session, bdk: ObjectHandle, len: usize) -> Result<Kcv, HsmError> {
        let key = self.derive_by(session, bdk, check_value::template(self.kind), &[])?;
        check_value::of(&key, session, self.kind, len)
    }
}

/// Refuses what no BDK of its kind derives.
fn require_derivable(bdk: &KeyName, under: KeyKind, kind: KeyKind) -> Result<(), DerivationError> {
    let is_aes = |kind| !matches!(kind, KeyKind::Tdea2 | KeyKind::Tdea3);
    let bdk = || bdk.label().to_owned();
    match (is_aes(under), is_aes(kind)) {
        (true, true) if under.key_len() >= kind.key_len() => Ok(()),
        (true, true) => Err(DerivationError::Weak {
            kind,
            bdk: bdk(),
            under,
        }),
        (false, false) if (under, kind) == (KeyKind::Tdea2, KeyKind::Tdea2) => Ok(()),
        _ => Err(DerivationError::OtherCipher {
            kind,
            bdk: bdk(),
            under,
        }),
    }
}

impl TokenGroup {
    /// Whether each healthy token can derive such an initial key, and seal it for such a request. What it can is
    /// found out once, with throw-away keys.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`], naming what is missing, of one of them.
    pub fn verify_derivable(
        &self,
        key: &InitialKey,
        request: &SealRequest<'_>,
    ) -> Result<(), HsmError> {
        let source = KnSource::Derived(key.clone());
        let sealed = source.to_be_sealed()?;
        self.on_each("derive an initial key", |token| {
            source.require_possible(token)?;
            token.verify_sealable(&sealed, request)
        })
        .map(drop)
    }

    /// The check values of initial keys, of `len` bytes each, in their order: as one job of one token, in which
    /// each key is there for as long as that takes.
    ///
    /// No thread waits with the caller, so [`Self::deadline`] is the caller's to keep.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`]: the module does not derive such a key inside. The BDK is not there, weaker than
    /// its role, or of another kind than it was.
    pub async fn initial_key_check_values(
        &self,
        keys: Vec<InitialKey>,
        len: usize,
    ) -> Result<Vec<Kcv>, HsmError> {
        if !Kcv::LENS.contains(&len) {
            return Err(StorageError::KcvLen(len).into());
        }
        let kinds: Vec<_> = keys.iter().map(InitialKey::kind).collect();
        let able = |token: &Token| {
            let derivations = token.derivations()?;
            kinds.iter().try_for_each(|kind| derivations.require(*kind))
        };
        let keys = Arc::new(keys);
        let work = move |worker: &mut Worker| {
            let kcvs = keys.iter().map(|key| {
                let bdk = key.find_bdk(worker)?;
                key.kcv(&worker.session, bdk, len)
            });
            kcvs.collect()
        };
        self.answer_by_one(OPERATION, able, work).await
    }
}
