//! The database on real files: what it keeps apart, what it finds out, what survives.

mod acts;
mod approvals;
mod audit;
mod bdks;
mod binding;
mod deliveries;
mod devices;
mod durability;
mod exports;
mod few_rows;
mod key_profiles;
mod keys;
mod recorded;
mod rollouts;
mod shares;

use std::sync::Arc;

use hsm::{Kcv, KcvMethod, Mac, StorageNumber};
use pki::SerialNumber;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime, macros::datetime};
use tr34::{Freshness, KeyKind, KrdNonce, SigningTime};

use super::{
    both::{Place, on_both},
    *,
};
use crate::{
    names::{DeviceSerial, KeyAlias, Model, Slot, Why},
    state::{
        AuthorityState, BindingChange, BindingTokenState, DeliveryState, DeviceKeyState,
        DeviceState,
    },
};

const NOW: OffsetDateTime = datetime!(2026-01-01 12:00:00 UTC);

struct Database {
    store: Store,
    place: Place,
}

impl Database {
    async fn new(on: Dialect) -> Self {
        let place = Place::new(on);
        Self {
            store: Store::open(&place.settings).await.unwrap(),
            place,
        }
    }

    async fn tx(&self) -> Tx {
        self.store.write(NOW).await.unwrap()
    }

    /// Whoever gives their turn up leaves no word of where the trail ends.
    async fn leave_no_word(&self) {
        drop(self.store.writers.turn(BUSY_TIMEOUT).await.unwrap());
    }

    /// As the host's next start finds it.
    async fn restarted(self) -> Self {
        let Self { store, place } = self;
        store.close().await;
        drop(store);
        // A program that another test starts just then has the lock, too, until it is loaded.
        let open = async {
            loop {
                match Store::open(&place.settings).await {
                    Err(StoreError::InUse) => tokio::task::yield_now().await,
                    opened => return opened.unwrap(),
                }
            }
        };
        let store = timeout(std::time::Duration::from_mins(1), open)
            .await
            .unwrap();
        Self { store, place }
    }

    /// What somebody does who has the file and not this program.
    async fn tamper(&self, statement: &'static str) {
        sqlx::query(statement)
            .execute(&self.store.pool)
            .await
            .unwrap();
    }

    async fn with_devices(on: Dialect, serials: &[&str]) -> Self {
        let database = Self::new(on).await;
        let mut tx = database.tx().await;
        for serial in serials {
            let model = Model::parse("M1").unwrap();
            assert!(tx.insert_device(&device(serial), &model).await.unwrap());
        }
        tx.commit().await.unwrap();
        database
    }

    async fn with_trail(on: Dialect, records: usize) -> Self {
        let database = Self::new(on).await;
        let mut tx = database.tx().await;
        for _ in 0..records {
            tx.record(entry(&Actor::Host)).await.unwrap();
        }
        tx.commit().await.unwrap();
        database
    }
}

/// The same in a transaction: it has to change something.
async fn edit(tx: &mut Tx, statement: &str) {
    let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
    let done = statement.execute(tx.connection().await.unwrap()).await;
    assert_ne!(done.unwrap().rows_affected(), 0);
}

async fn verify(store: &Store) -> Result<Result<u64, String>, StoreError> {
    store.read(NOW).await?.verify_audit().await
}

/// Nobody is told how the commit has ended.
async fn leave_in_doubt(tx: Tx, is_there: bool) {
    let Tx {
        inner,
        put_off,
        memory,
        changes,
        ..
    } = tx;
    memory.expect(changes);
    if let Inner::Writing(turn) = inner
        && is_there
    {
        turn.commit(put_off).await.unwrap();
    }
}

fn device(serial: &str) -> DeviceSerial {
    DeviceSerial::parse(serial).unwrap()
}

fn entry(actor: &Actor) -> AuditEntry<'_> {
    AuditEntry {
        actor,
        action: "test.done",
        device: None,
        outcome: "ok",
        detail: json!({"a": 1}),
    }
}

fn nonce(byte: u8) -> KrdNonce {
    KrdNonce::from_bytes([byte; 16])
}

fn slot() -> Slot {
    Slot::parse("tmk").unwrap()
}

async fn claim(tx: &mut Tx, device: &DeviceSerial, nonce: &KrdNonce) -> bool {
    let claim = tx.claim_nonce(device, Some(&slot()), nonce).await.unwrap();
    claim.outcome
}

/// What an enrolment leaves in the database, without a certificate that could be read.
async fn enrol(tx: &mut Tx, device: &DeviceSerial, number: u8) {
    let claim = KeyClaim {
        purpose: Purpose::Encryption,
        serial: SerialNumber::from_content(&[number; 8]).unwrap(),
        key_sha256: [number; 32],
    };
    assert!(tx.claim_certificate(device, &claim).await.unwrap());
    for statement in [
        "UPDATE certificates SET state = 'SUPERSEDED' WHERE state = 'CURRENT'",
        "UPDATE certificates SET state = 'CURRENT' WHERE state = 'CLAIMED'",
    ] {
        sqlx::query(statement)
            .execute(tx.connection().await.unwrap())
            .await
            .unwrap();
    }
    for unpinned in tx.live_device_keys(device, None).await.unwrap() {
        let row = unpinned.unproven();
        if row.recipient.is_none() {
            let recipient = Some(claim.key_sha256.to_vec());
            let pinned = sealed(DeviceKey {
                recipient,
                ..row.clone()
            });
            assert!(tx.replace_device_key(&unpinned, &pinned).await.unwrap());
        }
    }
}

/// What a device shall hold.
async fn assignments(tx: &mut Tx, device: &DeviceSerial) -> Vec<Assignment> {
    let standing = tx.standing(device, None).await.unwrap();
    standing.map_or_else(Vec::new, |standing| standing.assignments)
}

/// Gives a device the next version of a registered key in a slot, for the encryption key that it has.
async fn assign(tx: &mut Tx, device: &DeviceSerial, slot: &Slot) {
    for pending in tx.live_device_keys(device, Some(slot)).await.unwrap() {
        let row = pending.unproven();
        let withdrawn = sealed(row.moved_to(DeviceKeyState::Withdrawn, ""));
        assert!(tx.replace_device_key(&pending, &withdrawn).await.unwrap());
    }
    let recipient: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT key_sha256 FROM certificates WHERE device = $1 AND purpose = 'ENCRYPTION' AND state = 'CURRENT'",
    )
    .bind(device.as_str())
    .fetch_optional(tx.connection().await.unwrap())
    .await
    .unwrap();
    let version = newest(tx, device, slot).await + 1;
    let row = device_key(device, slot, version, recipient);
    assert!(tx.insert_device_key(&sealed(row)).await.unwrap());
}

/// The newest version in a slot; 0 for none.
async fn newest(tx: &mut Tx, device: &DeviceSerial, slot: &Slot) -> u32 {
    let mut rows = tx.live_key_rows(device, Some(slot)).await.unwrap();
    let over = tx
        .newest_keys_that_are_over(std::slice::from_ref(device))
        .await;
    rows.extend(over.unwrap());
    let places = rows.iter().map(place_of);
    let versions = places
        .filter(|place| place.slot == slot.as_str())
        .map(|place| place.version);
    u32::try_from(versions.max().unwrap_or_default()).unwrap()
}

fn device_key(
    device: &DeviceSerial,
    slot: &Slot,
    version: u32,
    recipient: Option<Vec<u8>>,
) -> DeviceKey {
    let key = stored_key();
    DeviceKey {
        device: device.clone(),
        slot: slot.clone(),
        version,
        state: DeviceKeyState::Pending,
        source: KeySource::Shared { name: key.name },
        header: key.header,
        kind: KeyKind::Aes128,
        kcv: key.kcv,
        recipient,
        created_at: String::new(),
        changed_at: String::new(),
    }
}

/// As if the HSM had sealed it: the database does not verify.
fn sealed<R: SealedRow>(row: R) -> Sealed<R> {
    let digest = Sha256::digest(row.to_be_sealed());
    let seal = Seal {
        number: StorageNumber::FIRST,
        mac: Mac::new(&digest[..Mac::LEN]).unwrap(),
    };
    Sealed::new(row, Some(seal))
}

/// Of version 2, and not after now.
fn delivery<'a>(
    id: &'a str,
    device: &'a DeviceSerial,
    slot: &'a Slot,
    freshness: &'a Freshness,
) -> NewDelivery<'a> {
    NewDelivery {
        id,
        device,
        slot,
        version: 2,
        freshness,
        expires_at: NOW,
    }
}

fn stored_key() -> StoredKey {
    StoredKey {
        name: KeyAlias::parse("tmk").unwrap(),
        hsm_label: "kn.tmk".to_owned(),
        header: "D0000K0AB00E0000".parse().unwrap(),
        kind: KeyKind::Aes128,
        kcv: Kcv::parse(KcvMethod::AesCmac, "A1B2C3").unwrap(),
        created_at: String::new(),
    }
}

/// A KDH by a CA named A.
fn kdh(serial: u8) -> IssuerAndSerial {
    let name = b"\x30\x0C\x31\x0A\x30\x08\x06\x03\x55\x04\x03\x0C\x01A";
    IssuerAndSerial::new(name, &[serial]).unwrap()
}

fn why() -> Why {
    Why::parse("because").unwrap()
}
