//! The database on real files: what it keeps apart, what it finds out, what survives.

mod approvals;
mod bdks;
mod exports;
mod key_profiles;
mod recorded;
mod rollouts;

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

on_both!(
"current_thread":
    what_is_not_committed_is_not_there,
    what_was_committed_is_there_after_a_restart,
    every_change_of_the_trail_is_found,
    the_trail_is_read_in_pages,
    what_stands_in_a_records_detail_is_found,
    a_nonce_is_unique_for_its_device_until_it_is_given_back,
    a_delivery_goes_on_from_where_it_is_believed_to_be_or_not_at_all,
    how_a_device_stands_is_of_one_moment_and_of_the_slot_that_was_asked_for,
    an_assignment_is_meant_for_one_key_of_its_device,
    signing_times_only_rise,
    a_key_and_a_serial_number_are_certified_once,
    an_activation_code_counts_claims_and_is_replaced,
    a_code_expires_after_its_last_second,
    a_device_is_registered_once_and_listed_in_order,
    a_suspended_device_remembers_where_it_came_from,
    versions_rise_and_a_newer_token_supersedes_the_one_before,
    a_slot_has_one_key_in_each_state_and_no_two_devices_the_same,
    a_device_has_one_open_order,
    an_unbind_token_goes_on_from_where_it_is_believed_to_be_or_not_at_all,
    for_a_certificate_and_a_kdh_the_authority_is_asked_once,
    damaged_rows_are_named_and_not_guessed,
    a_key_is_what_an_operator_registered,
    a_database_is_one_hosts_alone,
);

mod at_once {
    use super::*;

    on_both!("multi_thread": writers_follow_one_another);
}

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
    let database = Database::new(Dialect::Sqlite).await;
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
    let database = Database::new(Dialect::Sqlite).await;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&database.store.pool)
        .await
        .unwrap();
    assert!(!["3.51.0", "3.51.1"].contains(&&*version), "{version}");
}

async fn what_is_not_committed_is_not_there(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
    tx.record(entry(&Actor::Host)).await.unwrap();
    drop(tx);
    assert_eq!(verify(&database.store).await.unwrap(), Ok(0));
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
}

async fn what_was_committed_is_there_after_a_restart(on: Dialect) {
    let database = Database::with_trail(on, 2).await;
    let Database { store, place } = database;
    store.close().await;
    drop(store);
    let again = Store::open(&place.settings).await.unwrap();
    assert_eq!(verify(&again).await.unwrap(), Ok(2));
    let mut tx = again.write(NOW).await.unwrap();
    tx.record(entry(&Actor::Host)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(verify(&again).await.unwrap(), Ok(3));
}

async fn every_change_of_the_trail_is_found(on: Dialect) {
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
    let database = Database::with_trail(on, 3).await;
    for (case, statement) in cases {
        // Dropped behind each case.
        let mut tx = database.tx().await;
        let changed = sqlx::raw_sql(statement).execute(tx.connection().await.unwrap());
        changed.await.unwrap();
        let found = tx.verify_audit().await.unwrap();
        assert!(found.is_err(), "{case}");
    }
    assert_eq!(verify(&database.store).await.unwrap(), Ok(3));
}

#[tokio::test]
async fn a_record_that_is_no_record_is_an_error() {
    let database = Database::with_trail(Dialect::Sqlite, 2).await;
    database
        .tamper("UPDATE audit SET detail = x'FF' WHERE sequence = 2")
        .await;
    assert!(verify(&database.store).await.is_err());
}

async fn the_trail_is_read_in_pages(on: Dialect) {
    let database = Database::with_trail(on, 1003).await;
    assert_eq!(verify(&database.store).await.unwrap(), Ok(1003));
    let mut tx = database.store.read(NOW).await.unwrap();
    let page = tx.audit_records(1000, 10).await.unwrap();
    let sequences: Vec<_> = page.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1001, 1002, 1003]);
}

async fn what_stands_in_a_records_detail_is_found(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    for (action, detail) in [
        ("a.done", json!({"id": "1", "number": 7, "other": "2"})),
        ("b.done", json!({"id": "it's \"2\""})),
        ("c.done", json!({"id": "3"})),
    ] {
        let record = AuditEntry {
            action,
            detail,
            ..entry(&Actor::Host)
        };
        tx.record(record).await.unwrap();
    }
    for (actions, field, value, found) in [
        (&["a.done", "b.done"][..], "id", "1", true),
        (&["b.done", "a.done"], "id", "1", true),
        (&["b.done"], "id", "it's \"2\"", true),
        (&["b.done"], "id", "1", false),
        (&["a.done", "b.done"], "id", "3", false),
        (&["a.done"], "id", "2", false),
        (&["a.done"], "number", "7", false),
        (&["a.done"], "none", "1", false),
        (&[], "id", "1", false),
    ] {
        let noted = tx.is_noted(actions, field, value).await.unwrap();
        assert_eq!(noted, found, "{actions:?} {field} {value}");
        let chained = tx.is_chained_note(actions, field, value).await.unwrap();
        assert_eq!(chained, found, "{actions:?} {field} {value}");
    }
    let gone = "DELETE FROM audit WHERE sequence = 1";
    let gone = sqlx::query(gone).execute(tx.connection().await.unwrap());
    gone.await.unwrap();
    let actions = ["b.done"];
    let value = "it's \"2\"";
    assert!(tx.is_noted(&actions, "id", value).await.unwrap());
    let chained = tx.is_chained_note(&actions, "id", value).await.unwrap();
    assert!(!chained, "not in its place");
    let broken = sqlx::query("UPDATE audit SET detail = '{' WHERE action = 'c.done'");
    let broken = broken.execute(tx.connection().await.unwrap());
    broken.await.unwrap();
    tx.is_noted(&["c.done"], "id", "3").await.unwrap_err();
}

async fn writers_follow_one_another(on: Dialect) {
    let database = Arc::new(Database::with_devices(on, &["A"]).await);
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

async fn a_nonce_is_unique_for_its_device_until_it_is_given_back(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    assert!(claim(&mut tx, &device("A"), &nonce(1)).await);
    assert!(!claim(&mut tx, &device("A"), &nonce(1)).await);
    assert!(claim(&mut tx, &device("A"), &nonce(2)).await);
    assert!(claim(&mut tx, &device("B"), &nonce(1)).await);

    let key = stored_key();
    tx.insert_key(&sealed(key.clone())).await.unwrap();
    let (a, slot, nonce) = (device("A"), Slot::parse("tmk").unwrap(), nonce(1));
    let fresh = Freshness::Nonce(nonce.clone());
    let delivery = delivery("1", &a, &slot, &fresh);
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

async fn a_delivery_goes_on_from_where_it_is_believed_to_be_or_not_at_all(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    tx.insert_key(&sealed(key.clone())).await.unwrap();
    let (a, slot, nonce) = (device("A"), Slot::parse("tmk").unwrap(), nonce(1));
    let fresh = Freshness::Nonce(nonce.clone());
    let delivery = delivery("1", &a, &slot, &fresh);
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

async fn how_a_device_stands_is_of_one_moment_and_of_the_slot_that_was_asked_for(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    tx.insert_key(&sealed(key.clone())).await.unwrap();
    let (a, b) = (device("A"), device("B"));
    let pin = Slot::parse("pin").unwrap();
    for (device, slot) in [(&a, &slot()), (&a, &pin), (&a, &pin), (&b, &pin)] {
        assign(&mut tx, device, slot).await;
    }
    let slots = |standing: &Standing| -> Vec<(String, u32)> {
        let assignments = standing.assignments.iter();
        let slots = assignments.map(|found| {
            (
                found.key.unproven().slot.to_string(),
                found.key.unproven().version,
            )
        });
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

async fn an_assignment_is_meant_for_one_key_of_its_device(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    tx.insert_key(&sealed(key.clone())).await.unwrap();
    let (a, b) = (device("A"), device("B"));
    let [early, late] = ["early", "late"].map(|slot| Slot::parse(slot).unwrap());
    assign(&mut tx, &a, &early).await;
    assign(&mut tx, &b, &early).await;
    let meant = async |tx: &mut Tx, device: &DeviceSerial| -> Vec<(String, bool)> {
        let assignments = assignments(tx, device).await;
        assignments
            .iter()
            .map(|found| {
                (
                    found.key.unproven().slot.to_string(),
                    found.meant_for_present_key,
                )
            })
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
    assign(&mut tx, &a, &late).await;
    let both = expected(&[("early", true), ("late", true)]);
    assert_eq!(meant(&mut tx, &a).await, both);

    enrol(&mut tx, &a, 2).await;
    let neither = expected(&[("early", false), ("late", false)]);
    assert_eq!(meant(&mut tx, &a).await, neither, "made for the first key");
    assign(&mut tx, &a, &late).await;
    let anew = expected(&[("early", false), ("late", true)]);
    assert_eq!(meant(&mut tx, &a).await, anew);
    sqlx::query("UPDATE device_keys SET recipient = NULL")
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
    let version = tx.last_version(device, slot).await.unwrap() + 1;
    let row = device_key(device, slot, version, recipient);
    assert!(tx.insert_device_key(&sealed(row)).await.unwrap());
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

/// What the database sees to, whoever writes.
async fn a_slot_has_one_key_in_each_state_and_no_two_devices_the_same(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let (a, b) = (device("A"), device("B"));
    let unique = |device: &DeviceSerial, version, state, wrapped: &[u8]| {
        let mut row = device_key(device, &slot(), version, None);
        row.state = state;
        let wrapped = Some(wrapped.to_vec());
        row.source = KeySource::Unique { wrapped };
        sealed(row)
    };
    let (active, pending) = (DeviceKeyState::Active, DeviceKeyState::Pending);
    let first = unique(&a, 1, active, b"one");
    assert!(tx.insert_device_key(&first).await.unwrap());
    assert!(
        tx.insert_device_key(&unique(&a, 2, pending, b"two"))
            .await
            .unwrap()
    );
    for (refused, why) in [
        (
            unique(&a, 1, DeviceKeyState::Destroyed, b"three"),
            "the version is taken",
        ),
        (unique(&a, 3, active, b"three"), "it has one that is active"),
        (
            unique(&a, 3, pending, b"three"),
            "it has one that is pending",
        ),
        (unique(&b, 1, pending, b"one"), "it is the key of A"),
        (
            unique(&a, 3, DeviceKeyState::Withdrawn, b"two"),
            "it is the key before",
        ),
    ] {
        assert!(!tx.insert_device_key(&refused).await.unwrap(), "{why}");
    }
    let of_b = |wrapped| unique(&b, 1, pending, wrapped).unproven().clone();
    let other = tx.equal_key(&of_b(b"one")).await.unwrap();
    assert_eq!(other, Some(first.unproven().place()));
    assert_eq!(tx.equal_key(&of_b(b"three")).await.unwrap(), None);
    assert_eq!(tx.equal_key(first.unproven()).await.unwrap(), None);
    let equal = unique(&a, 2, pending, b"one");
    let second = tx.key_row(&equal.unproven().place()).await.unwrap();
    let second = second.unwrap().unwrap();
    assert!(
        !tx.replace_device_key(&second, &equal).await.unwrap(),
        "it would be the key of the version before"
    );

    // Replaced as it was, once; what is destroyed is no key any more.
    let destroyed = sealed(first.unproven().moved_to(DeviceKeyState::Destroyed, ""));
    assert_eq!(destroyed.unproven().source.wrapped(), None);
    assert!(tx.replace_device_key(&first, &destroyed).await.unwrap());
    assert!(
        !tx.replace_device_key(&first, &destroyed).await.unwrap(),
        "it is another one by now"
    );
    assert!(
        tx.insert_device_key(&unique(&b, 1, pending, b"one"))
            .await
            .unwrap()
    );
    let live = tx.live_device_keys(&a, None).await.unwrap();
    let live: Vec<_> = live.iter().map(|key| key.unproven().version).collect();
    assert_eq!(live, [2]);
    assert_eq!(tx.last_version(&a, &slot()).await.unwrap(), 2);
    assert_eq!(tx.rows_by_storage_key().await.unwrap(), [(1, 3)]);
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

/// Each later than the one before, whatever the clock says.
async fn signing_times_only_rise(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
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

async fn a_key_and_a_serial_number_are_certified_once(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
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

async fn an_activation_code_counts_claims_and_is_replaced(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
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

async fn a_code_expires_after_its_last_second(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
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

async fn a_device_is_registered_once_and_listed_in_order(on: Dialect) {
    let database = Database::with_devices(on, &["B", "A", "C"]).await;
    let mut tx = database.tx().await;
    let model = Model::parse("M2").unwrap();
    assert!(!tx.insert_device(&device("A"), &model).await.unwrap());
    let b = tx.device(&device("B")).await.unwrap().unwrap();
    tx.set_device_state(&b, DeviceState::Suspended)
        .await
        .unwrap();
    let mut list = async |state, after: &str, limit| -> Vec<String> {
        let devices = tx.devices(state, None, after, limit).await.unwrap();
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

async fn a_suspended_device_remembers_where_it_came_from(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
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

async fn versions_rise_and_a_newer_token_supersedes_the_one_before(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let key = stored_key();
    assert!(tx.insert_key(&sealed(key.clone())).await.unwrap());
    assert!(
        !tx.insert_key(&sealed(key.clone())).await.unwrap(),
        "the name is taken"
    );
    let same_label = StoredKey {
        name: KeyAlias::parse("other").unwrap(),
        ..key
    };
    assert!(
        !tx.insert_key(&sealed(same_label)).await.unwrap(),
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
        assign(&mut tx, &device(serial), slot).await;
        let assignments = assignments(&mut tx, &device(serial)).await;
        let newest = assignments
            .iter()
            .find(|found| found.key.unproven().slot == *slot)
            .unwrap();
        assert_eq!(
            (newest.key.unproven().version, newest.confirmed),
            (version, false)
        );
    }

    let (a, b) = (device("A"), device("B"));
    let nonces = [1, 2, 3, 4].map(|byte| Freshness::Nonce(nonce(byte)));
    let deliveries = [
        delivery("1", &a, &slot, &nonces[0]),
        delivery("2", &a, &pin, &nonces[1]),
        delivery("3", &b, &slot, &nonces[2]),
        delivery("4", &a, &slot, &nonces[3]),
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
    let assignments = assignments(&mut tx, &a).await;
    let confirmed: Vec<_> = assignments
        .iter()
        .map(|found| (found.key.unproven().slot.as_str(), found.confirmed))
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
    let settings = StoreSettings::Sqlite(path);
    let database = database::Database::new(&settings).unwrap();
    let mut connection = database.writer().await.unwrap();
    let migrations = database.dialect.migrations();
    migrations.run_to(1, &mut connection).await.unwrap();
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
    .execute(&mut connection)
    .await
    .unwrap();
    drop((connection, database));

    let store = Store::open(&settings).await.unwrap();
    let mut tx = store.write(NOW).await.unwrap();
    assert!(assignments(&mut tx, &device("A")).await[0].confirmed);
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

async fn a_device_has_one_open_order(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
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

async fn an_unbind_token_goes_on_from_where_it_is_believed_to_be_or_not_at_all(on: Dialect) {
    use BindingTokenState::{Abandoned, Issued, Obeyed, Prepared};
    let database = Database::with_devices(on, &["A", "B"]).await;
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

async fn for_a_certificate_and_a_kdh_the_authority_is_asked_once(on: Dialect) {
    use AuthorityState::{Approved, Asked, Rejected};
    let database = Database::with_devices(on, &["A"]).await;
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

async fn damaged_rows_are_named_and_not_guessed(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
    database.tamper("UPDATE devices SET state = 'FINE'").await;
    let damaged = database.tx().await.device(&device("A")).await;
    assert!(matches!(damaged, Err(StoreError::Damaged("device"))));
}

async fn a_database_is_one_hosts_alone(on: Dialect) {
    let database = Database::new(on).await;
    let second = Store::open(&database.place.settings).await.unwrap_err();
    assert!(matches!(second, StoreError::InUse), "{second}");
    let Database { store, place } = database;
    drop(store);
    Store::open(&place.settings).await.unwrap();
}

#[tokio::test]
async fn a_file_is_the_same_under_another_name() {
    let database = Database::new(Dialect::Sqlite).await;
    let folder = database.place.folder.path();
    let link = folder.join("link.db");
    std::os::unix::fs::symlink(folder.join("host.db"), &link).unwrap();
    let linked = Store::open(&StoreSettings::Sqlite(link)).await.unwrap_err();
    assert!(matches!(linked, StoreError::InUse), "{linked}");
}

async fn a_key_is_what_an_operator_registered(on: Dialect) {
    let cases = [
        ("its label", "UPDATE keys SET hsm_label = 'kn.other'"),
        ("its header", "UPDATE keys SET header = 'P0AE00E00000000K'"),
        ("its check value", "UPDATE keys SET kcv = '000000'"),
        ("its kind", "UPDATE keys SET kind = 'AES-256'"),
        ("the method", "UPDATE keys SET kcv_method = 'TDEA_ECB'"),
        ("its name", "UPDATE keys SET name = 'other'"),
    ];
    let database = Database::new(on).await;
    let key = stored_key();
    let mut tx = database.tx().await;
    tx.insert_key(&sealed(key.clone())).await.unwrap();
    let registered = AuditEntry {
        action: KEY_REGISTERED,
        detail: key.registration(),
        ..entry(&Actor::Host)
    };
    tx.record(registered).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(verify(&database.store).await.unwrap(), Ok(1));
    for (case, statement) in cases {
        // Dropped behind each case.
        let mut tx = database.tx().await;
        let changed = sqlx::query(statement).execute(tx.connection().await.unwrap());
        changed.await.unwrap();
        let found = tx.verify_audit().await;
        assert!(!matches!(found, Ok(Ok(_))), "{case}: {found:?}");
    }
}
