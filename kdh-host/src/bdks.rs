//! BDKs, and the initial keys that are derived from them for devices (ANSI X9.24-3).
//!
//! An initial key is known by its id: the key set id, which the acquirer has assigned, and the derivation id, which
//! is given out here. No two keys of a BDK ever have the same id, whatever becomes of devices, profiles and this
//! program: derivation ids of a key set are counted, they are given out on the record before the HSM derives
//! anything, and what was given out and not used stays unused.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hsm::{HsmError, InitialKey, InitialKeyId, Kcv, KeyName, KeyRole, SecretKey};
use kdh_proto::Reason;
use tr34::{Kbh, KbhError, KeyKind};

use crate::{
    Host, HostError,
    administration::{Operator, fault_of_key, parse_kind},
    alarms::Alarms,
    error::refused,
    key_profile::profile::{Derivation, ProfileSlot},
    names::BdkName,
    refused_rows,
    store::{
        Actor, AuditEntry, BDK_REGISTERED, GivenOut, IDS_CLAIMED, KeySet, Proven, Sealed,
        StoreError, StoredBdk, bdk_title, time_text,
    },
};

/// What kind of initial key devices shall get.
#[derive(Clone, Debug)]
pub(crate) struct DerivedKey {
    pub(crate) key_set: KeySet,
    pub(crate) header: Kbh,
    /// Whether the header says whose the key is.
    pub(crate) id_in_header: bool,
    pub(crate) kind: KeyKind,
    /// Bytes of its check value.
    pub(crate) kcv_len: usize,
}

impl DerivedKey {
    pub(crate) fn new(slot: &ProfileSlot, derivation: &Derivation) -> Self {
        Self {
            key_set: KeySet {
                bdk: derivation.bdk.clone(),
                id: derivation.key_set_id,
            },
            header: slot.header.clone(),
            id_in_header: derivation.ksn_in_header,
            kind: slot.kind,
            kcv_len: usize::try_from(slot.kcv.len).unwrap_or_default(),
        }
    }

    /// The header with which a device gets this one of them.
    ///
    /// # Errors
    /// None: there is room for it.
    pub(crate) fn header_of(&self, key: &InitialKey) -> Result<Kbh, KbhError> {
        if !self.id_in_header {
            return Ok(self.header.clone());
        }
        self.header.with_optional_blocks(&[key.optional_block()])
    }
}

/// The BDKs that the HSM was seen to hold.
#[derive(Debug, Default)]
pub(crate) struct Bdks {
    held: Mutex<HashMap<BdkName, SecretKey>>,
    /// Those that are registered, and those that were to be, whatever has become of that.
    named: Mutex<HashMap<BdkName, StoredBdk>>,
}

impl Bdks {
    pub(crate) fn hold(&self, bdk: &StoredBdk, key: SecretKey) {
        lock(&self.named).insert(bdk.name.clone(), bdk.clone());
        lock(&self.held).insert(bdk.name.clone(), key);
    }

    /// From now on the key has this name and no other, whatever the database says.
    ///
    /// # Errors
    /// [`Reason::AlreadyExists`]: it has another one.
    fn name(&self, bdk: &StoredBdk) -> Result<(), HostError> {
        let mut named = lock(&self.named);
        let is_other = |named: &StoredBdk| named.name != bdk.name && named.is_same_key(bdk);
        if named.values().any(is_other) {
            return Err(named_twice(bdk));
        }
        named.insert(bdk.name.clone(), bdk.clone());
        Ok(())
    }

    /// Those that are known.
    pub(crate) fn names(&self) -> BTreeSet<BdkName> {
        lock(&self.held).keys().cloned().collect()
    }

    pub(crate) fn holds(&self, name: &BdkName) -> bool {
        lock(&self.held).contains_key(name)
    }

    /// An initial key of a BDK that is known.
    pub(crate) fn initial_key(
        &self,
        bdk: &BdkName,
        kind: KeyKind,
        id: InitialKeyId,
    ) -> Result<InitialKey, HostError> {
        let held = lock(&self.held);
        let key = held.get(bdk).ok_or_else(|| unknown(bdk))?;
        InitialKey::new(key, kind, id).map_err(|error| match error {
            HsmError::Derivation(error) => refused(Reason::RequestInvalid, error),
            other => other.into(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(bdk: &BdkName) -> HostError {
    let cause = format!("there is no BDK {bdk}: register it first, by kdhctl bdk register");
    refused(Reason::NotFound, cause)
}

fn named_twice(bdk: &StoredBdk) -> HostError {
    let cause = format!(
        "another BDK of the kind {} has the check value {}: if it is the same key, it would give out each initial key \
         twice; use that one",
        bdk.kind, bdk.kcv
    );
    refused(Reason::AlreadyExists, cause)
}

/// The BDK's name in the HSM.
pub(crate) fn label(bdk: &BdkName) -> Result<KeyName, HostError> {
    let label = format!("{}{bdk}", KeyRole::Bdk.label_prefix());
    Ok(KeyName::new(&label).map_err(HsmError::from)?)
}

/// What an operator says of a BDK in the HSM.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) kcv: Option<Kcv>,
}

/// Makes a BDK known: it must be in the HSM, strong enough, and with the check value that the ceremony reported.
pub(crate) async fn register(
    host: &Host,
    operator: &Operator,
    request: Registration<'_>,
) -> Result<StoredBdk, HostError> {
    let name = BdkName::parse(request.name)?;
    let kind = parse_kind(request.kind)?;
    let missing = || {
        let cause = "a key check value of 3 bytes is needed: the ceremony's transcript has it";
        refused(Reason::RequestInvalid, cause)
    };
    let expected = request.kcv.ok_or_else(missing)?;
    let mut tx = host.store().read(host.now()).await?;
    let known = tx.bdks().await?;
    drop(tx);
    if known.iter().any(|known| {
        known
            .as_ref()
            .err()
            .is_some_and(|known| known == name.as_str())
    }) {
        return Err(StoreError::NotSealed(bdk_title(name.as_str())).into());
    }
    let mut known = known.iter().flatten().map(Sealed::unproven);
    if let Some(known) = known.find(|known| known.name == name) {
        let cause = format!(
            "there is a BDK {name} already, with the check value {}",
            known.kcv
        );
        return Err(refused(Reason::AlreadyExists, cause));
    }
    let bdk = StoredBdk {
        name,
        kind,
        kcv: expected,
        created_at: time_text(host.now())?,
    };
    let wanted = bdk.clone();
    let found = host.in_hsm(move |keys| keys.find_bdk(&wanted).map_err(fault));
    let found = found.await?;
    match commit(host, operator, &bdk).await {
        Ok(()) => host.keys().bdks().hold(&bdk, found),
        Err(error) => {
            host.keys().forget_bdk(&bdk, &found);
            return Err(error);
        }
    }
    Ok(bdk)
}

async fn commit(host: &Host, operator: &Operator, bdk: &StoredBdk) -> Result<(), HostError> {
    let sealed = host.keys().seal_one(bdk.clone()).await?;
    let mut tx = host.store().write(host.now()).await?;
    if !host.keys().is_under_present(&sealed) {
        let cause = "the storage keys were changed at the same time: try again";
        return Err(refused(Reason::WrongState, cause));
    }
    host.keys().bdks().name(bdk)?;
    if !tx.insert_bdk(&sealed).await? {
        return Err(named_twice(bdk));
    }
    tx.record(AuditEntry {
        actor: &operator.actor(),
        action: BDK_REGISTERED,
        device: None,
        outcome: "ok",
        detail: bdk.registration(),
    })
    .await?;
    Ok(tx.commit().await?)
}

/// What an operator learns of a key that will not do.
fn fault(error: HostError) -> HostError {
    match error {
        HostError::Hsm(error @ (HsmError::KeyKind { .. } | HsmError::Name(_))) => {
            refused(Reason::RequestInvalid, error)
        }
        HostError::Hsm(error) => fault_of_key(error),
        other => other,
    }
}

/// What is known of BDKs.
#[derive(Debug)]
pub(crate) struct Known {
    /// By their names; of each that is not as the HSM has sealed it, the name alone.
    pub(crate) bdks: Vec<Result<Proven<StoredBdk>, String>>,
    pub(crate) given_out: Vec<GivenOut>,
}

/// All BDKs that are known, and what was given out of each.
pub(crate) async fn list(host: &Host) -> Result<Known, HostError> {
    let mut tx = host.store().read(host.now()).await?;
    let (rows, given_out) = (tx.bdks().await?, tx.given_out().await?);
    drop(tx);
    let name = |bdk: &StoredBdk| bdk.name.to_string();
    let bdks = refused_rows::sift_others(host, rows, name, |name| bdk_title(name)).await?;
    Ok(Known { bdks, given_out })
}

/// Gives out as many derivation ids of a key set, one after the other, and returns the first. They are given out
/// when this returns, whatever becomes of them.
///
/// # Errors
/// [`Reason::WrongState`]: there are not as many left. [`HostError::Internal`]: somebody has changed the counter.
pub(crate) async fn claim(host: &Host, key_set: &KeySet, count: usize) -> Result<u32, HostError> {
    let mut tx = host.store().write(host.now()).await?;
    let counter = tx.last_derivation_id(key_set).await?;
    let given_out = tx.ids_given_out(key_set);
    require_as_given_out(host.alarms(), key_set, counter, &given_out)?;
    // Behind all that any writer was to give out, also where the database has nothing of it.
    let before = *given_out.end();
    let exhausted = || {
        let left = u32::MAX - before;
        let cause = format!(
            "{key_set} has {left} derivation ids left, and {count} are needed: put a profile with another key set id, \
             which the acquirer has to assign, or with another BDK"
        );
        refused(Reason::WrongState, cause)
    };
    let count = u32::try_from(count).map_err(|_| exhausted())?;
    let last = before.checked_add(count).ok_or_else(exhausted)?;
    let first = before.saturating_add(1);
    tx.give_derivation_ids(key_set, last).await?;
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action: IDS_CLAIMED,
        device: None,
        outcome: "ok",
        detail: key_set.claim(first, last),
    })
    .await?;
    tx.commit().await?;
    Ok(first)
}

/// The counter in the database says that derivation ids are given out to there. They are, as far as this host remembers; or
/// it was to give them out, and does not know what became of that.
fn require_as_given_out(
    alarms: &Alarms,
    key_set: &KeySet,
    counter: u32,
    given_out: &RangeInclusive<u32>,
) -> Result<(), HostError> {
    if given_out.contains(&counter) {
        return Ok(());
    }
    let remembered = given_out.start();
    let alarm = format!(
        "{key_set}: the database says that the derivation ids to {counter} are given out, and they are to {remembered}: \
         somebody has changed the counter, so that initial keys would be given out twice, or none any more. Nothing is \
         derived from it before that is explained, and the counter is as the audit trail has it"
    );
    alarms.raise(&alarm);
    Err(HostError::Internal(alarm))
}
