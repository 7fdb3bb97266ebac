//! One session and what is known in it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cryptoki::{context::Pkcs11, mechanism::MechanismType, object::ObjectHandle, slot::Slot};

use crate::{
    HsmError, KeyName, KeyRole, Module, Operations,
    error::CallResult,
    inspect::{find_key, require_role},
    known::Known,
    session::Session,
    template::Case,
};

/// What all workers of a token share.
#[derive(Clone)]
pub(crate) struct Workplace {
    pub(crate) pkcs11: Pkcs11,
    /// The token's label.
    pub(crate) label: Arc<str>,
    /// Where the calls are counted, if they are.
    operations: Option<Operations>,
    known: Arc<Mutex<Known>>,
    /// Known as soon as there was a session.
    mechanisms: Arc<OnceLock<Vec<MechanismType>>>,
    pub(crate) accept_imported_keys: bool,
    /// Counts the keys that were destroyed: a handle from before may name another key now.
    pub(crate) destroyed: Arc<AtomicU64>,
}

impl Workplace {
    pub(crate) fn new(module: &Module, label: &str, accept_imported_keys: bool) -> Self {
        Self {
            pkcs11: module.pkcs11.clone(),
            operations: module.operations.clone(),
            label: label.into(),
            known: Arc::default(),
            mechanisms: Arc::default(),
            accept_imported_keys,
            destroyed: Arc::default(),
        }
    }

    /// Asks the token for its mechanisms, if they are not known.
    pub(crate) fn learn(&self, slot: Slot) -> Result<(), HsmError> {
        if self.mechanisms.get().is_none() {
            let mechanisms = self.pkcs11.get_mechanism_list(slot);
            let mechanisms = mechanisms.during("list the mechanisms")?;
            self.mechanisms.get_or_init(|| mechanisms);
        }
        Ok(())
    }

    /// What the token must be and hold.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the token lists.
    pub(crate) fn mechanisms(&self) -> &[MechanismType] {
        self.mechanisms.get().map_or(&[], Vec::as_slice)
    }

    /// A session that can make session objects only.
    pub(crate) fn session(&self, slot: Slot) -> Result<Session, HsmError> {
        let session = self.pkcs11.open_ro_session(slot);
        Ok(self.counted(session.during("open a session")?))
    }

    /// A session that can change what the token holds.
    pub(crate) fn writing_session(&self, slot: Slot) -> Result<Session, HsmError> {
        let session = self.pkcs11.open_rw_session(slot);
        Ok(self.counted(session.during("open a session")?))
    }

    fn counted(&self, session: cryptoki::session::Session) -> Session {
        Session::new(session, self.operations.clone())
    }

    pub(crate) fn has(&self, mechanism: MechanismType) -> bool {
        self.mechanisms().contains(&mechanism)
    }

    /// How RSA keys sign here: what the module does not hash is hashed outside.
    pub(crate) fn rsa(&self) -> Case {
        if self.has(MechanismType::SHA256_RSA_PKCS) {
            Case::HashingRsa
        } else {
            Case::PlainRsa
        }
    }

    /// Those of `mechanisms` that the module does not list, by name.
    pub(crate) fn lacks(&self, mechanisms: &[(MechanismType, &'static str)]) -> Vec<&'static str> {
        let missing = mechanisms.iter().filter(|(kind, _)| !self.has(*kind));
        missing.map(|(_, name)| *name).collect()
    }
}

/// A session, and handles of keys that have passed their role's check in it.
pub(crate) struct Worker {
    pub(crate) place: Workplace,
    pub(crate) session: Session,
    /// Of the token's sessions: counts its losses.
    pub(crate) generation: u64,
    handles: HashMap<(KeyRole, KeyName), ObjectHandle>,
    destroyed_seen: u64,
}

impl Worker {
    pub(crate) fn new(place: Workplace, session: Session, generation: u64) -> Self {
        Self {
            destroyed_seen: place.destroyed.load(Ordering::Acquire),
            place,
            session,
            generation,
            handles: HashMap::new(),
        }
    }

    /// The private or secret key of this name, which is not weaker than its role, and the one that is known by
    /// this name if one is.
    ///
    /// # Errors
    /// There is not exactly one, it is weaker, or another one.
    pub(crate) fn key(&mut self, role: KeyRole, name: &KeyName) -> Result<ObjectHandle, HsmError> {
        let destroyed = self.place.destroyed.load(Ordering::Acquire);
        if destroyed != self.destroyed_seen {
            self.handles.clear();
            self.destroyed_seen = destroyed;
        }
        let key = (role, name.clone());
        if let Some(handle) = self.handles.get(&key) {
            return Ok(*handle);
        }
        let handle = find_key(&self.session, role.template().class, name)?;
        require_role(&self.session, handle, role, name, &self.place)?;
        let known = self.place.known().key(name);
        if let Some(known) = known {
            known.require_same(self, handle, name)?;
        }
        self.handles.insert(key, handle);
        Ok(handle)
    }
}

/// An object that is destroyed when it goes out of scope, by an error too.
#[must_use]
pub(crate) struct Ephemeral<'s> {
    session: &'s Session,
    handle: ObjectHandle,
}

impl<'s> Ephemeral<'s> {
    pub(crate) const fn new(session: &'s Session, handle: ObjectHandle) -> Self {
        Self { session, handle }
    }

    pub(crate) const fn handle(&self) -> ObjectHandle {
        self.handle
    }

    /// Leaves the object to its session, or to whoever takes the handle.
    pub(crate) fn keep(self) -> ObjectHandle {
        let handle = self.handle;
        std::mem::forget(self);
        handle
    }
}

impl Drop for Ephemeral<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.session.destroy_object(self.handle) {
            tracing::warn!(%error, "an object could not be destroyed");
        }
    }
}
