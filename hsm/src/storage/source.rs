//! Where Kn comes from when it is sealed or exported.

use cryptoki::object::ObjectHandle;
use tr34::KeyKind;

use super::{
    Authenticated, StorageError, StoredKn,
    kept::{self, Pair},
    of_kind,
};
use crate::{
    HsmError, InitialKey, SealedKeyBlock, SecretKey, Token,
    seal::Plan,
    session::Session,
    worker::{Ephemeral, Worker},
};

/// Where Kn comes from for one operation.
#[derive(Clone, Debug)]
pub enum KnSource {
    /// It is a master key in the token.
    InToken(SecretKey),
    /// It lies outside, and is a session object for as long as the operation takes.
    Stored(StoredKn),
    /// It is derived in the token, and a session object for as long as the operation takes.
    Derived(InitialKey),
}

/// What a Kn comes of, in one session.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// Itself, or its BDK.
    Key(ObjectHandle),
    /// The pair of storage keys under which it lies.
    Pair(Pair),
}

/// Kn in a session, and what is not to stay there goes with it.
pub(crate) enum Kn<'s> {
    InToken(ObjectHandle),
    InSession(Ephemeral<'s>),
}

impl Kn<'_> {
    pub(crate) const fn handle(&self) -> ObjectHandle {
        match self {
            Self::InToken(kn) => *kn,
            Self::InSession(kn) => kn.handle(),
        }
    }
}

impl KnSource {
    /// Algorithm and length.
    pub const fn kind(&self) -> KeyKind {
        match self {
            Self::InToken(key) => key.kind(),
            Self::Stored(stored) => stored.kind,
            Self::Derived(key) => key.kind(),
        }
    }

    /// As who plans to seal it sees it.
    pub(crate) fn to_be_sealed(&self) -> Result<SecretKey, HsmError> {
        match self {
            Self::InToken(key) => Ok(key.clone()),
            // Derived from as the way of sealing has it.
            Self::Stored(stored) => Ok(of_kind(stored.number.key_name()?, stored.kind)),
            Self::Derived(key) => Ok(of_kind(key.bdk().clone(), key.kind())),
        }
    }

    /// Refuses what this token does not make a session object of.
    pub(crate) fn require_possible(&self, token: &Token) -> Result<(), HsmError> {
        match self {
            Self::InToken(_) | Self::Stored(_) => Ok(()),
            Self::Derived(key) => token.derivations()?.require(key.kind()),
        }
    }

    /// Refuses a key without the record that it has to have.
    pub(crate) fn require_record(
        &self,
        record: Option<&Authenticated>,
    ) -> Result<(), StorageError> {
        match (self, record) {
            (Self::InToken(_) | Self::Derived(_), _) => Ok(()),
            (Self::Stored(stored), Some(record)) => stored.require_beside(record),
            (Self::Stored(_), None) => Err(StorageError::NoRecord),
        }
    }

    /// What Kn comes of, once the record that it belongs to is verified.
    pub(crate) fn find(
        &self,
        worker: &mut Worker,
        record: Option<&Authenticated>,
    ) -> Result<Origin, HsmError> {
        self.require_record(record)?;
        if let Some(record) = record {
            record.verify(worker)?;
        }
        match self {
            Self::InToken(key) => worker.key(key.role(), key.name()).map(Origin::Key),
            Self::Stored(stored) => Pair::of(worker, stored.number).map(Origin::Pair),
            Self::Derived(key) => key.find_bdk(worker).map(Origin::Key),
        }
    }

    /// Kn, of what it comes of. `derives` says whether it is derived from.
    pub(crate) fn open<'s>(
        &self,
        session: &'s Session,
        origin: Origin,
        derives: bool,
    ) -> Result<Kn<'s>, HsmError> {
        let kn = match (self, origin) {
            (Self::Stored(stored), Origin::Pair(pair)) => {
                kept::unwrap(session, pair, stored.kind, &stored.wrapped, derives)?
            }
            (Self::Derived(key), Origin::Key(bdk)) => key.derive(session, bdk, derives)?,
            (_, Origin::Key(key) | Origin::Pair(Pair { key, .. })) => return Ok(Kn::InToken(key)),
        };
        Ok(Kn::InSession(kn))
    }

    /// Has Kn sealed, once the record that it belongs to is verified. It is in the session for as long as that
    /// takes.
    pub(crate) fn seal(
        &self,
        worker: &mut Worker,
        record: Option<&Authenticated>,
        plan: &Plan,
    ) -> Result<SealedKeyBlock, HsmError> {
        let origin = self.find(worker, record)?;
        let session = &worker.session;
        let kn = self.open(session, origin, plan.derives())?;
        plan.seal(session, kn.handle())
    }
}
