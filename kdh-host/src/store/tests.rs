//! The database on real files: what it keeps apart, what it finds out, what survives.

use std::{path::PathBuf, sync::Arc};

use hsm::{Kcv, KcvMethod};
use pki::SerialNumber;
use serde_json::json;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime, macros::datetime};
use tr34::{Freshness, KrdNonce, SigningTime};

use super::*;
use crate::{
    names::{DeviceSerial, KeyAlias, Model, Slot, Why},
    state::{AuthorityState, BindingChange, BindingTokenState, DeliveryState, DeviceState},
};

const NOW: OffsetDateTime = datetime!(2026-01-01 12:00:00 UTC);

struct Database {
    store: Store,
    path: PathBuf,
    _folder: TempDir,
}

impl Database {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.db");
        Self {
            store: Store::open(&path).await.unwrap(),
            path,
            _folder: folder,
        }
    }

    async fn tx(&self) -> Tx {
        self.store.write(NOW).await.unwrap()
    }

    /// What somebody does who has the file and not this program.
    async fn tamper(&self, statement: &'static str) {
        sqlx::query(statement)
            .execute(&self.store.pool)
            .await
            .unwrap();
    }

    async fn with_devices(serials: &[&str]) -> Self {
        let database = Self::new().await;
        let mut tx = database.tx().await;
        for serial in serials {
            let model = Model::parse("M1").unwrap();
            assert!(tx.insert_device(&device(serial), &model).await.unwrap());
        }
        tx.commit().await.unwrap();
        database
    }

    async fn with_trail(records: usize) -> Self {
        let database = Self::new().await;
        let mut tx = database.tx().await;
        for _ in 0..records {
            tx.record(entry(&Actor::Host)).await.unwrap();
        }
        tx.commit().await.unwrap();
        database
    }
}

async fn verify(store: &Store) -> Result<Result<u64, String>, StoreError> {
    store.read(NOW).await?.verify_audit().await
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

#[tokio::test]
async fn the_file_is_durable_and_its_references_hold() {
    let database = Database::new().await;
    let pragma = async |name: &'static str| -> String {
        let row = sqlx::query(name)
            .fetch_one(&database.store.pool)
            .await
            .unwrap();
        sqlx::Row::try_get::<String, _>(&row, 0)
            .or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).map(|number| number.to_string()))
            .unwrap()
    };
    assert_eq!(pragma("PRAGMA journal_mode").await, "wal");
    assert_eq!(pragma("PRAGMA synchronous").await, "2", "FULL");
    assert_eq!(pragma("PRAGMA foreign_keys").await, "1");

    let orphan = database
        .tx()
        .await
        .claim_nonce(&device("NOBODY"), Some(&slot()), &nonce(1))
        .await;
    assert!(orphan.is_err(), "a nonce of no device");
}

/// Two threads of SQLite 3.51.0 and 3.51.1, one of which opens a database while the other one closes it, can wait
/// for each other for ever.
#[tokio::test]
async fn sqlite_is_none_of_the_versions_that_deadlock() {
    let database = Database::new().await;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&database.store.pool)
        .await
        .unwrap();
    assert!(!["3.51.0", "3.51.1"].contains(&&*version), "{version}");
}

#[tokio::test]
async fn what_is_not_committed_is_not_there() {
    let database = Database::with_devices(&["A"]).await;
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
    tx.record(entry(&Actor::Host)).await.unwrap();
    drop(tx);
    assert_eq!(verify(&database.store).await.unwrap(), Ok(0));
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let database = Database::with_trail(2).await;
    let Database {
        store,
        path,
        _folder,
    } = database;
    store.close().await;
    drop(store);
    let again = Store::open(&path).await.unwrap();
    assert_eq!(verify(&again).await.unwrap(), Ok(2));
    let mut tx = again.write(NOW).await.unwrap();
    tx.record(entry(&Actor::Host)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(verify(&again).await.unwrap(), Ok(3));
}

#[tokio::test]
async fn every_change_of_the_trail_is_found() {
    let cases = [
        (
            "sequence",
            "UPDATE audit SET sequence = 9 WHERE sequence = 3",
        ),
        (
            "at",
            "UPDATE audit SET at = '2027-01-01T00:00:00Z' WHERE sequence = 2",
        ),
        (
            "actor",
            "UPDATE audit SET actor = 'operator:eve' WHERE sequence = 2",
        ),
        (
            "action",
            "UPDATE audit SET action = 'key.assigned' WHERE sequence = 2",
        ),
        ("device", "UPDATE audit SET device = 'B' WHERE sequence = 2"),
        (
            "outcome",
            "UPDATE audit SET outcome = 'NOT_BOUND' WHERE sequence = 2",
        ),
        (
            "detail",
            "UPDATE audit SET detail = '{}' WHERE sequence = 2",
        ),
        (
            "previous_hash",
            "UPDATE audit SET previous_hash = hash WHERE sequence = 2",
        ),
        (
            "hash",
            "UPDATE audit SET hash = previous_hash WHERE sequence = 2",
        ),
        (
            "hash in capitals",
            "UPDATE audit SET hash = upper(hash) WHERE sequence = 2",
        ),
        (
            "the first taken out",
            "DELETE FROM audit WHERE sequence = 1",
        ),
        ("one taken out", "DELETE FROM audit WHERE sequence = 2"),
        (
            "one taken out and the rest moved up",
            "DELETE FROM audit WHERE sequence = 2; UPDATE audit SET sequence = 2 WHERE sequence = 3",
        ),
        (
            "one added",
            "INSERT INTO audit SELECT 4, at, actor, action, device, outcome, detail, hash, hash
             FROM audit WHERE sequence = 3",
        ),
    ];
    for (case, statement) in cases {
        let database = Database::with_trail(3).await;
        sqlx::raw_sql(statement)
            .execute(&database.store.pool)
            .await
            .unwrap();
        let found = verify(&database.store).await.unwrap();
        assert!(found.is_err(), "{case}");
    }
}

#[tokio::test]
async fn a_record_that_is_no_record_is_an_error() {
    let database = Database::with_trail(2).await;
    database
        .tamper("UPDATE audit SET detail = x'FF' WHERE sequence = 2")
        .await;
    assert!(verify(&database.store).await.is_err());
}

#[tokio::test]
async fn the_trail_is_read_in_pages() {
    let database = Database::with_trail(1003).await;
    assert_eq!(verify(&database.store).await.unwrap(), Ok(1003));
    let mut tx = database.store.read(NOW).await.unwrap();
    let page = tx.audit_records(1000, 10).await.unwrap();
    let sequences: Vec<_> = page.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1001, 1002, 1003]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_follow_one_another() {
    let database = Arc::new(Database::with_devices(&["A"]).await);
    let writers: Vec<_> = (0..100)
        .map(|_| {
            let database = Arc::clone(&database);
            tokio::spawn(async move {
                let mut tx = database.tx().await;
                let first = claim(&mut tx, &device("A"), &nonce(7)).await;
                if first {
                    tx.record(entry(&Actor::Device(device("A")))).await.unwrap();
                } else {
                    tx.record(entry(&Actor::Host)).await.unwrap();
                }
                tx.commit().await.unwrap();
                first
            })
        })
        .collect();
    let mut firsts = 0;
    for writer in writers {
        firsts += usize::from(writer.await.unwrap());
    }
    assert_eq!(
        firsts, 1,
        "a nonce is claimed once, whoever comes at the same time"
    );
    assert_eq!(verify(&database.store).await.unwrap(), Ok(100));
}

#[tokio::test]
async fn a_nonce_is_unique_for_its_device_until_it_is_given_back() {
    let database = Database::with_devices(&["A", "B"]).await;
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
    assert!(!claim(&mut tx, &device("A"), &nonce(1)).await);
    assert!(claim(&mut tx, &device("A"), &nonce(2)).await);
    assert!(claim(&mut tx, &device("B"), &nonce(1)).await);

    let key = stored_key();
    tx.insert_key(&key).await.unwrap();
    let (a, slot, nonce) = (device("A"), Slot::parse("tmk").unwrap(), nonce(1));
    let fresh = Freshness::Nonce(nonce.clone());
    let delivery = delivery("1", &a, &slot, &key.name, &fresh);
    tx.prepare_delivery(&delivery).unwrap();
    let unfinished = tx.unfinished_deliveries().await.unwrap();
    assert_eq!(unfinished.len(), 1);
    let bytes = nonce.as_bytes();
    assert!(tx.abandon_delivery(&a, "1", bytes).await.unwrap());
    assert!(tx.unfinished_deliveries().await.unwrap().is_empty());
    assert!(claim(&mut tx, &a, &nonce).await);
    assert!(!claim(&mut tx, &device("B"), &nonce).await);
    assert!(!tx.abandon_delivery(&a, "1", bytes).await.unwrap());
    assert!(
        !claim(&mut tx, &a, &nonce).await,
        "what was abandoned before gives nothing back"
    );
}

#[tokio::test]
async fn a_delivery_goes_on_from_where_it_is_believed_to_be_or_not_at_all() {
    let database = Database::with_devices(&["A"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    tx.insert_key(&key).await.unwrap();
    let (a, slot, nonce) = (device("A"), Slot::parse("tmk").unwrap(), nonce(1));
    let fresh = Freshness::Nonce(nonce.clone());
    let delivery = delivery("1", &a, &slot, &key.name, &fresh);
    tx.prepare_delivery(&delivery).unwrap();
    assert!(
        tx.abandon_delivery(&a, "1", nonce.as_bytes())
            .await
            .unwrap()
    );
    let (from, to) = (DeliveryState::Issued, DeliveryState::Confirmed);
    tx.set_delivery_state("1", from, to).await.unwrap_err();
    tx.set_delivery_state("2", from, to).await.unwrap_err();
    let issue = tx.issue_delivery(&delivery, &[1; 32]).await.unwrap();
    issue.outcome.unwrap_err();
    let stored = tx.delivery("1").await.unwrap().unwrap();
    assert_eq!(stored.state, DeliveryState::Abandoned);
}

#[tokio::test]
async fn how_a_device_stands_is_of_one_moment_and_of_the_slot_that_was_asked_for() {
    let database = Database::with_devices(&["A", "B"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    tx.insert_key(&key).await.unwrap();
    let (a, b) = (device("A"), device("B"));
    let pin = Slot::parse("pin").unwrap();
    for (device, slot) in [(&a, &slot()), (&a, &pin), (&a, &pin), (&b, &pin)] {
        tx.assign_key(device, slot, &key.name).await.unwrap();
    }
    let slots = |standing: &Standing| -> Vec<(String, u32)> {
        let assignments = standing.assignments.iter();
        let slots = assignments.map(|found| (found.slot.to_string(), found.version));
        slots.collect()
    };
    let all = tx.standing(&a, None).await.unwrap().unwrap();
    assert_eq!(slots(&all), [("pin".to_owned(), 2), ("tmk".to_owned(), 1)]);
    assert_eq!(all.state, DeviceState::Registered);
    assert_eq!((all.encryption, all.authentication), (None, None));
    let one = tx.standing(&a, Some(&pin)).await.unwrap().unwrap();
    assert_eq!(slots(&one), [("pin".to_owned(), 2)]);
    let none = tx.standing(&b, Some(&slot())).await.unwrap().unwrap();
    assert!(none.assignments.is_empty());
    assert!(tx.standing(&device("C"), None).await.unwrap().is_none());

    // Together with a claim it is the same.
    let claim = tx.claim_nonce(&a, Some(&pin), &nonce(1)).await.unwrap();
    assert_eq!(slots(&claim.standing.unwrap()), slots(&one));
    let stored = tx.device(&a).await.unwrap().unwrap();
    tx.set_device_state(&stored, DeviceState::Suspended)
        .await
        .unwrap();
    let claim = tx.claim_nonce(&a, Some(&pin), &nonce(2)).await.unwrap();
    assert_eq!(claim.standing.unwrap().state, DeviceState::Suspended);
}

#[tokio::test]
async fn an_assignment_is_meant_for_one_key_of_its_device() {
    let database = Database::with_devices(&["A", "B"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    tx.insert_key(&key).await.unwrap();
    let (a, b) = (device("A"), device("B"));
    let [early, late] = ["early", "late"].map(|slot| Slot::parse(slot).unwrap());
    tx.assign_key(&a, &early, &key.name).await.unwrap();
    tx.assign_key(&b, &early, &key.name).await.unwrap();
    let meant = async |tx: &mut Tx, device: &DeviceSerial| -> Vec<(String, bool)> {
        let assignments = tx.assignments(device).await.unwrap();
        assignments
            .iter()
            .map(|found| (found.slot.to_string(), found.meant_for_present_key))
            .collect()
    };
    let expected = |pairs: &[(&str, bool)]| -> Vec<(String, bool)> {
        pairs
            .iter()
            .map(|(slot, meant)| ((*slot).to_owned(), *meant))
            .collect()
    };
    assert_eq!(meant(&mut tx, &a).await, expected(&[("early", true)]));

    enrol(&mut tx, &a, 1).await;
    assert_eq!(meant(&mut tx, &a).await, expected(&[("early", true)]));
    tx.assign_key(&a, &late, &key.name).await.unwrap();
    let both = expected(&[("early", true), ("late", true)]);
    assert_eq!(meant(&mut tx, &a).await, both);

    enrol(&mut tx, &a, 2).await;
    let neither = expected(&[("early", false), ("late", false)]);
    assert_eq!(meant(&mut tx, &a).await, neither, "made for the first key");
    tx.assign_key(&a, &late, &key.name).await.unwrap();
    let anew = expected(&[("early", false), ("late", true)]);
    assert_eq!(meant(&mut tx, &a).await, anew);
    sqlx::query("UPDATE assignments SET recipient = NULL")
        .execute(tx.connection().await.unwrap())
        .await
        .unwrap();
    let unnamed = expected(&[("early", false), ("late", false)]);
    assert_eq!(meant(&mut tx, &a).await, unnamed, "meant for nobody");
    assert_eq!(
        meant(&mut tx, &b).await,
        expected(&[("early", true)]),
        "another device's enrolments change nothing"
    );
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
    tx.pin_assignments(device, &claim.key_sha256).await.unwrap();
}

/// Of version 2, and not after now.
fn delivery<'a>(
    id: &'a str,
    device: &'a DeviceSerial,
    slot: &'a Slot,
    key: &'a KeyAlias,
    freshness: &'a Freshness,
) -> NewDelivery<'a> {
    NewDelivery {
        id,
        device,
        slot,
        version: 2,
        key,
        freshness,
        expires_at: NOW,
    }
}

fn stored_key() -> StoredKey {
    StoredKey {
        name: KeyAlias::parse("tmk").unwrap(),
        hsm_label: "kn.tmk".to_owned(),
        header: "D0000K0AB00E0000".parse().unwrap(),
        kind: "AES-128".to_owned(),
        kcv: Kcv::parse(KcvMethod::AesCmac, "A1B2C3").unwrap(),
        created_at: String::new(),
    }
}

/// Each later than the one before, whatever the clock says.
#[tokio::test]
async fn signing_times_only_rise() {
    let database = Database::with_devices(&["A", "B"]).await;
    let at = |seconds| SigningTime::from_unix_seconds(seconds).unwrap();
    for (device_name, now, claimed) in [
        ("A", 1000, 1000),
        ("A", 1000, 1001),
        ("A", 1000, 1002),
        ("B", 1000, 1000),
        ("A", 900, 1003),
        ("A", 5000, 5000),
        ("A", 4999, 5001),
    ] {
        let mut tx = database.tx().await;
        let time = tx
            .claim_signing_time(&device(device_name), at(now))
            .await
            .unwrap();
        assert_eq!(time, at(claimed), "{device_name} at {now}");
        tx.commit().await.unwrap();
    }
    let mut tx = database.tx().await;
    tx.claim_signing_time(&device("NOBODY"), at(1))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_key_and_a_serial_number_are_certified_once() {
    let database = Database::with_devices(&["A", "B"]).await;
    let mut tx = database.tx().await;
    let claim = |serial: u8, key: u8, purpose| KeyClaim {
        purpose,
        serial: SerialNumber::from_content(&[serial; 8]).unwrap(),
        key_sha256: [key; 32],
    };
    let mut claimed = async |serial: &str, claim: KeyClaim| {
        tx.claim_certificate(&device(serial), &claim).await.unwrap()
    };
    assert!(claimed("A", claim(1, 1, Purpose::Encryption)).await);
    let cases = [
        ("the same key again", "A", claim(2, 1, Purpose::Encryption)),
        (
            "the key for another purpose",
            "A",
            claim(2, 1, Purpose::Authentication),
        ),
        (
            "another device's key",
            "B",
            claim(2, 1, Purpose::Encryption),
        ),
        (
            "the serial number again",
            "B",
            claim(1, 2, Purpose::Encryption),
        ),
    ];
    for (case, serial, claim) in cases {
        assert!(!claimed(serial, claim).await, "{case}");
    }
    assert!(claimed("B", claim(2, 2, Purpose::Encryption)).await);
    let (a, code) = (device("A"), SerialNumber::from_content(&[9; 8]).unwrap());
    tx.put_activation_code(&a, &[1; 32], NOW).await.unwrap();
    tx.claim_activation_code(&a, &code, &[1; 32]).await.unwrap();
    assert!(tx.release_enrolment(&a, &code.to_string()).await.unwrap());
    let again = claim(3, 1, Purpose::Encryption);
    assert!(tx.claim_certificate(&device("B"), &again).await.unwrap());
    let others = claim(4, 2, Purpose::Encryption);
    assert!(
        !tx.claim_certificate(&device("A"), &others).await.unwrap(),
        "B's claim stands"
    );
}

#[tokio::test]
async fn an_activation_code_counts_claims_and_is_replaced() {
    let database = Database::with_devices(&["A", "B"]).await;
    let a = device("A");
    let mut tx = database.tx().await;
    assert!(tx.activation_code(&a).await.unwrap().is_none());
    tx.put_activation_code(&a, &[1; 32], NOW).await.unwrap();
    for tries in 1..=5 {
        tx.count_wrong_code(&a).await.unwrap();
        assert_eq!(
            tx.activation_code(&a).await.unwrap().unwrap().wrong_tries,
            tries
        );
    }
    let [claim, other] =
        [[7; 8], [8; 8]].map(|content| SerialNumber::from_content(&content).unwrap());
    tx.claim_activation_code(&a, &claim, &[9; 32])
        .await
        .unwrap();
    let unfinished = [(a.clone(), claim.to_string())];
    assert_eq!(tx.unfinished_enrolments().await.unwrap(), unfinished);
    for taken in [&claim, &other] {
        tx.claim_activation_code(&a, taken, &[9; 32])
            .await
            .unwrap_err();
    }
    tx.spend_activation_code(&a, &other).await.unwrap_err();
    assert!(!tx.release_enrolment(&a, &other.to_string()).await.unwrap());
    assert_eq!(tx.unfinished_enrolments().await.unwrap(), unfinished);
    assert!(tx.release_enrolment(&a, &claim.to_string()).await.unwrap());
    tx.claim_activation_code(&a, &claim, &[9; 32])
        .await
        .unwrap();
    tx.spend_activation_code(&a, &claim).await.unwrap();
    tx.spend_activation_code(&a, &claim).await.unwrap_err();
    assert!(
        !tx.release_enrolment(&a, &claim.to_string()).await.unwrap(),
        "it is finished"
    );
    assert!(tx.unfinished_enrolments().await.unwrap().is_empty());
    assert!(tx.activation_code(&a).await.unwrap().unwrap().used);

    tx.put_activation_code(&a, &[2; 32], NOW).await.unwrap();
    let code = tx.activation_code(&a).await.unwrap().unwrap();
    assert_eq!(code.code_sha256, [2; 32]);
    assert!(code.wrong_tries == 0 && !code.used && code.claim.is_none());
    assert!(tx.activation_code(&device("B")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_code_expires_after_its_last_second() {
    let database = Database::with_devices(&["A"]).await;
    let mut tx = database.tx().await;
    tx.put_activation_code(&device("A"), &[1; 32], NOW)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for (later, expired) in [(0, false), (1, true)] {
        let now = NOW + Duration::seconds(later);
        let mut tx = database.store.write(now).await.unwrap();
        let code = tx.activation_code(&device("A")).await.unwrap().unwrap();
        assert_eq!(code.expired, expired, "{later} s later");
    }
}

#[tokio::test]
async fn a_device_is_registered_once_and_listed_in_order() {
    let database = Database::with_devices(&["B", "A", "C"]).await;
    let mut tx = database.tx().await;
    let model = Model::parse("M2").unwrap();
    assert!(!tx.insert_device(&device("A"), &model).await.unwrap());
    let b = tx.device(&device("B")).await.unwrap().unwrap();
    tx.set_device_state(&b, DeviceState::Suspended)
        .await
        .unwrap();
    let mut list = async |state, after: &str, limit| -> Vec<String> {
        let devices = tx.devices(state, after, limit).await.unwrap();
        devices
            .iter()
            .map(|device| device.serial.to_string())
            .collect()
    };
    assert_eq!(list(None, "", 9).await, ["A", "B", "C"]);
    assert_eq!(list(None, "A", 1).await, ["B"]);
    assert_eq!(list(None, "C", 9).await, [""; 0]);
    assert_eq!(list(Some(DeviceState::Suspended), "", 9).await, ["B"]);
}

#[tokio::test]
async fn a_suspended_device_remembers_where_it_came_from() {
    let database = Database::with_devices(&["A"]).await;
    let mut tx = database.tx().await;
    for (state, before) in [
        (DeviceState::Bound, None),
        (DeviceState::Suspended, Some(DeviceState::Bound)),
        (DeviceState::Bound, None),
        (DeviceState::Quarantined, None),
        (DeviceState::Suspended, Some(DeviceState::Quarantined)),
        (DeviceState::Quarantined, None),
        (DeviceState::Revoked, None),
    ] {
        let stored = tx.device(&device("A")).await.unwrap().unwrap();
        tx.set_device_state(&stored, state).await.unwrap();
        let stored = tx.device(&device("A")).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.state_before), (state, before));
    }
}

#[tokio::test]
async fn versions_rise_and_a_newer_token_supersedes_the_one_before() {
    let database = Database::with_devices(&["A", "B"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    let alias = key.name.clone();
    assert!(tx.insert_key(&key).await.unwrap());
    assert!(!tx.insert_key(&key).await.unwrap(), "the name is taken");
    let same_label = StoredKey {
        name: KeyAlias::parse("other").unwrap(),
        ..key
    };
    assert!(
        !tx.insert_key(&same_label).await.unwrap(),
        "the label is taken"
    );

    let slot = Slot::parse("tmk").unwrap();
    let pin = Slot::parse("pin").unwrap();
    for (serial, slot, version) in [
        ("A", &slot, 1),
        ("A", &slot, 2),
        ("A", &pin, 1),
        ("B", &slot, 1),
    ] {
        tx.assign_key(&device(serial), slot, &alias).await.unwrap();
        let assignments = tx.assignments(&device(serial)).await.unwrap();
        let newest = assignments
            .iter()
            .find(|found| found.slot == *slot)
            .unwrap();
        assert_eq!((newest.version, newest.confirmed), (version, false));
    }

    let (a, b) = (device("A"), device("B"));
    let nonces = [1, 2, 3, 4].map(|byte| Freshness::Nonce(nonce(byte)));
    let deliveries = [
        delivery("1", &a, &slot, &alias, &nonces[0]),
        delivery("2", &a, &pin, &alias, &nonces[1]),
        delivery("3", &b, &slot, &alias, &nonces[2]),
        delivery("4", &a, &slot, &alias, &nonces[3]),
    ];
    for (delivery, superseded) in deliveries.iter().zip([&[][..], &[], &[], &["1"]]) {
        tx.prepare_delivery(delivery).unwrap();
        let issue = tx.issue_delivery(delivery, &[1; 32]).await.unwrap();
        assert_eq!(issue.outcome.unwrap(), superseded);
    }
    let mut later = database.store.read(NOW + Duration::SECOND).await.unwrap();
    assert!(
        later.deliveries(None, "", 9).await.unwrap().is_empty(),
        "not committed yet"
    );
    let first = tx.delivery("1").await.unwrap().unwrap();
    assert_eq!(first.state, DeliveryState::Superseded);
    tx.set_delivery_state("4", DeliveryState::Issued, DeliveryState::Confirmed)
        .await
        .unwrap();
    let assignments = tx.assignments(&a).await.unwrap();
    let confirmed: Vec<_> = assignments
        .iter()
        .map(|found| (found.slot.as_str(), found.confirmed))
        .collect();
    assert_eq!(confirmed, [("pin", false), ("tmk", true)]);
    assert!(tx.unfinished_deliveries().await.unwrap().is_empty());
    tx.commit().await.unwrap();
    drop(later);

    let mut list = database.store.read(NOW + Duration::SECOND).await.unwrap();
    let list = list.deliveries(None, "", 9).await.unwrap();
    let states: Vec<_> = list
        .iter()
        .map(|found| (found.id.as_str(), found.state_now().as_str()))
        .collect();
    let expected = [
        ("4", "CONFIRMED"),
        ("3", "EXPIRED"),
        ("2", "EXPIRED"),
        ("1", "SUPERSEDED"),
    ];
    assert_eq!(
        states, expected,
        "newest first, as they stand a second later"
    );
}

#[tokio::test]
async fn a_database_of_the_first_version_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new()
        .connect_with(options)
        .await
        .unwrap();
    sqlx::migrate!().run_to(1, &pool).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO devices VALUES
             ('A', 'M1', 'BOUND', NULL, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
             ('B', 'M1', 'SUSPENDED', 'BOUND', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
             ('C', 'M1', 'ENROLLED', NULL, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z');
         INSERT INTO keys VALUES ('tmk', 'kn.tmk', 'D0000K0AB00E0000', 'AES-128', 'AES_CMAC',
             'A1B2C3', '2026-01-01T00:00:00Z');
         INSERT INTO assignments VALUES ('A', 'tmk', 2, 'tmk', '2026-01-01T00:00:00Z', NULL);
         INSERT INTO deliveries VALUES (1, '1', 'A', 'tmk', 2, 'tmk', 'CONFIRMED', x'01', NULL,
             '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z');",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;

    let store = Store::open(&path).await.unwrap();
    let mut tx = store.write(NOW).await.unwrap();
    assert!(tx.assignments(&device("A")).await.unwrap()[0].confirmed);
    let stored = tx.device(&device("A")).await.unwrap().unwrap();
    assert_eq!((stored.bound_kdh, stored.keys_fate), (None, None));
    assert_eq!(tx.complete_bindings(&kdh(1)).await.unwrap(), 2);
    let mut bound = async |serial| tx.device(&device(serial)).await.unwrap().unwrap().bound_kdh;
    assert_eq!(bound("A").await, Some(kdh(1)));
    assert_eq!(bound("B").await, Some(kdh(1)));
    assert_eq!(bound("C").await, None, "it never bound");
    assert_eq!(tx.complete_bindings(&kdh(2)).await.unwrap(), 0);
}

/// A KDH by a CA named A.
fn kdh(serial: u8) -> IssuerAndSerial {
    let name = b"\x30\x0C\x31\x0A\x30\x08\x06\x03\x55\x04\x03\x0C\x01A";
    IssuerAndSerial::new(name, &[serial]).unwrap()
}

fn why() -> Why {
    Why::parse("because").unwrap()
}

#[tokio::test]
async fn a_device_has_one_open_order() {
    let database = Database::with_devices(&["A", "B"]).await;
    let (a, b) = (device("A"), device("B"));
    let mut tx = database.tx().await;
    let why = why();
    let order = |device, change| NewBindingOrder {
        device,
        change,
        by: "ada",
        why: &why,
    };
    let unbind = order(&a, BindingChange::Unbind);
    let rebind = order(&a, BindingChange::Rebind(&[0x30][..]));
    assert!(tx.open_order(&a).await.unwrap().is_none());
    let first = tx.insert_binding_order(&unbind).await.unwrap().unwrap();
    for taken in [&unbind, &rebind] {
        assert_eq!(tx.insert_binding_order(taken).await.unwrap(), None);
    }
    let others = order(&b, BindingChange::Unbind);
    assert!(tx.insert_binding_order(&others).await.unwrap().is_some());
    assert!(tx.close_order(first, OrderEnd::Cancelled).await.unwrap());
    assert!(!tx.close_order(first, OrderEnd::Done).await.unwrap());
    let second = tx.insert_binding_order(&rebind).await.unwrap().unwrap();
    let open = tx.open_order(&a).await.unwrap().unwrap();
    assert_eq!(open.number, second);
    assert_eq!(open.change, BindingChange::Rebind(vec![0x30]));
    assert!(tx.close_order(second, OrderEnd::Done).await.unwrap());
    assert!(tx.open_order(&a).await.unwrap().is_none());
    assert!(tx.open_order(&b).await.unwrap().is_some());
}

#[tokio::test]
async fn an_unbind_token_goes_on_from_where_it_is_believed_to_be_or_not_at_all() {
    use BindingTokenState::{Abandoned, Issued, Obeyed, Prepared};
    let database = Database::with_devices(&["A", "B"]).await;
    let (a, nonce) = (device("A"), nonce(1));
    let mut tx = database.tx().await;
    let why = why();
    let order = NewBindingOrder {
        device: &a,
        change: BindingChange::Unbind,
        by: "ada",
        why: &why,
    };
    let number = tx.insert_binding_order(&order).await.unwrap().unwrap();
    let token = |id: &str| BindingToken {
        id: id.to_owned(),
        device: device("A"),
        made_for: MadeFor::Order(number),
        change: BindingChange::Unbind,
        kdh: kdh(1),
        state: Prepared,
        nonce: Some(nonce.as_bytes().to_vec()),
        sha256: None,
    };
    assert!(claim(&mut tx, &a, &nonce).await);
    tx.insert_binding_token(&token("1")).await.unwrap();
    assert_eq!(tx.unfinished_binding_tokens().await.unwrap().len(), 1);
    for (id, from, to) in [("1", Issued, Obeyed), ("2", Prepared, Issued)] {
        assert!(!tx.set_binding_token_state(id, from, to).await.unwrap());
    }
    let given_up = tx.abandon_binding_token(&a, "1", nonce.as_bytes()).await;
    assert!(given_up.unwrap());
    assert!(claim(&mut tx, &a, &nonce).await, "it was given back");
    let again = tx.abandon_binding_token(&a, "1", nonce.as_bytes()).await;
    assert!(!again.unwrap());
    assert!(!claim(&mut tx, &a, &nonce).await, "and not once more");
    tx.issue_binding_token("1", &[1; 32]).await.unwrap_err();
    assert!(!tx.has_binding_tokens(&a).await.unwrap());

    tx.insert_binding_token(&token("2")).await.unwrap();
    tx.issue_binding_token("2", &[2; 32]).await.unwrap();
    tx.issue_binding_token("2", &[3; 32]).await.unwrap_err();
    let late = tx.abandon_binding_token(&a, "2", nonce.as_bytes()).await;
    assert!(!late.unwrap(), "it exists");
    assert!(tx.has_binding_tokens(&a).await.unwrap());
    let mut found = async |serial, digest: &[u8]| {
        let token = tx.binding_token_by_digest(&device(serial), digest).await;
        token.unwrap().map(|token| (token.id, token.state))
    };
    assert_eq!(found("A", &[2; 32]).await, Some(("2".to_owned(), Issued)));
    for (serial, digest) in [
        ("B", &[2; 32][..]),
        ("A", &[3; 32]),
        ("A", &[2; 31]),
        ("A", &[]),
    ] {
        assert_eq!(found(serial, digest).await, None, "{serial} {digest:?}");
    }
    assert!(
        tx.set_binding_token_state("2", Issued, Obeyed)
            .await
            .unwrap()
    );
    assert!(
        !tx.set_binding_token_state("2", Issued, Abandoned)
            .await
            .unwrap()
    );
    assert!(!tx.has_binding_tokens(&a).await.unwrap());
    assert!(tx.unfinished_binding_tokens().await.unwrap().is_empty());

    tx.insert_binding_token(&token("3")).await.unwrap();
    let same = tx.issue_binding_token("3", &[2; 32]).await;
    assert!(same.is_err(), "a digest names one token");
}

#[tokio::test]
async fn for_a_certificate_and_a_kdh_the_authority_is_asked_once() {
    use AuthorityState::{Approved, Asked, Rejected};
    let database = Database::with_devices(&["A"]).await;
    let a = device("A");
    let mut tx = database.tx().await;
    for number in [1, 2] {
        enrol(&mut tx, &a, number).await;
    }
    let (why, [one, two]) = (why(), [kdh(1), kdh(2)]);
    let certificates = [1, 2].map(|number| {
        let serial = SerialNumber::from_content(&[number; 8]).unwrap();
        serial.to_string()
    });
    let request = |id, certificate: usize, kdh| NewAuthorityRequest {
        id,
        device: &a,
        certificate: &certificates[certificate],
        change: BindingChange::Unbind,
        kdh,
        by: "bob",
        why: &why,
        expires_at: NOW,
    };
    let ask = async |tx: &mut Tx, request: NewAuthorityRequest<'_>| {
        tx.insert_authority_request(&request).await.unwrap()
    };
    assert!(ask(&mut tx, request("1", 0, &one)).await);
    assert!(!ask(&mut tx, request("2", 0, &one)).await, "it is open");
    assert!(
        !ask(&mut tx, request("1", 1, &one)).await,
        "the id is taken"
    );
    assert!(ask(&mut tx, request("3", 1, &one)).await);
    assert!(ask(&mut tx, request("4", 0, &two)).await);

    tx.set_authority_state("1", Asked, Rejected, Some("bob"))
        .await
        .unwrap();
    tx.set_authority_state("1", Asked, Approved, Some("cleo"))
        .await
        .unwrap_err();
    tx.put_authority_token("1", &[0x30]).await.unwrap_err();
    assert!(ask(&mut tx, request("5", 0, &one)).await, "it was rejected");
    tx.put_authority_token("5", &[0x30]).await.unwrap_err();
    tx.set_authority_state("5", Asked, Approved, Some("cleo"))
        .await
        .unwrap();
    assert_eq!(tx.unfinished_approvals().await.unwrap().len(), 1);
    tx.put_authority_token("5", &[0x30]).await.unwrap();
    tx.put_authority_token("5", &[0x31]).await.unwrap_err();
    tx.set_authority_state("5", Approved, Asked, None)
        .await
        .unwrap_err();
    assert!(tx.unfinished_approvals().await.unwrap().is_empty());
    tx.commit().await.unwrap();

    // Only what was never decided on expires.
    let later = NOW + Duration::SECOND;
    let mut tx = database.store.write(later).await.unwrap();
    assert!(
        !ask(&mut tx, request("6", 0, &two)).await,
        "still on record"
    );
    let expired = tx.expire_authority_requests(&a).await.unwrap();
    assert_eq!(expired, ["3", "4"]);
    assert!(tx.expire_authority_requests(&a).await.unwrap().is_empty());
    assert!(!ask(&mut tx, request("6", 0, &one)).await, "it was signed");
    assert!(ask(&mut tx, request("6", 0, &two)).await);
    let requests = tx.authority_requests("", 9).await.unwrap();
    let states: Vec<_> = requests
        .iter()
        .map(|found| (found.id.as_str(), found.state_now().as_str()))
        .collect();
    let expected = [
        ("6", "EXPIRED"),
        ("5", "SIGNED"),
        ("4", "EXPIRED"),
        ("3", "EXPIRED"),
        ("1", "REJECTED"),
    ];
    assert_eq!(states, expected);
    let page = tx.authority_requests("5", 1).await.unwrap();
    assert_eq!(page[0].id, "4");
}

#[tokio::test]
async fn damaged_rows_are_named_and_not_guessed() {
    let database = Database::with_devices(&["A"]).await;
    database.tamper("UPDATE devices SET state = 'FINE'").await;
    let damaged = database.tx().await.device(&device("A")).await;
    assert!(matches!(damaged, Err(StoreError::Damaged("device"))));
}

#[tokio::test]
async fn a_database_is_one_hosts_alone() {
    let database = Database::new().await;
    let second = Store::open(&database.path).await.unwrap_err();
    assert!(matches!(second, StoreError::InUse), "{second}");
    let link = database.path.with_file_name("link.db");
    std::os::unix::fs::symlink(&database.path, &link).unwrap();
    let linked = Store::open(&link).await.unwrap_err();
    assert!(matches!(linked, StoreError::InUse), "{linked}");
    let Database {
        store,
        path,
        _folder,
    } = database;
    drop(store);
    Store::open(&path).await.unwrap();
}

#[tokio::test]
async fn a_key_is_what_an_operator_registered() {
    let cases = [
        ("its label", "UPDATE keys SET hsm_label = 'kn.other'"),
        ("its header", "UPDATE keys SET header = 'P0AE00E00000000K'"),
        ("its check value", "UPDATE keys SET kcv = '000000'"),
        ("its kind", "UPDATE keys SET kind = 'AES-256'"),
        ("the method", "UPDATE keys SET kcv_method = 'TDEA_ECB'"),
        ("its name", "UPDATE keys SET name = 'other'"),
    ];
    for (case, statement) in cases {
        let database = Database::new().await;
        let key = stored_key();
        let mut tx = database.tx().await;
        tx.insert_key(&key).await.unwrap();
        let registered = AuditEntry {
            action: KEY_REGISTERED,
            detail: key.registration(),
            ..entry(&Actor::Host)
        };
        tx.record(registered).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(verify(&database.store).await.unwrap(), Ok(1));
        database.tamper(statement).await;
        let found = verify(&database.store).await;
        assert!(!matches!(found, Ok(Ok(_))), "{case}: {found:?}");
    }
}
