//! BDKs, and derivation ids that are given out once.

use hsm::InitialKeyId;

use super::*;
use crate::names::BdkName;

on_both!(
"current_thread":
    an_initial_key_is_one_devices,
    a_bdk_has_one_name,
    ids_are_given_out_once_by_writers_in_a_line_whatever_becomes_of_the_counter,
    what_the_trail_does_not_say_of_derivation_ids_is_found,
    one_bdk_that_was_registered_twice_is_found,
);

pub(super) fn bdk(name: &str, kcv: [u8; 3]) -> StoredBdk {
    StoredBdk {
        name: BdkName::parse(name).unwrap(),
        kind: KeyKind::Aes128,
        kcv: Kcv::new(KcvMethod::AesCmac, &kcv).unwrap(),
        created_at: time_text(NOW).unwrap(),
    }
}

fn key_set() -> KeySet {
    KeySet {
        bdk: BdkName::parse("a").unwrap(),
        id: [1, 2, 3, 0xFF],
    }
}

async fn record(tx: &mut Tx, action: &'static str, detail: serde_json::Value) {
    tx.record(AuditEntry {
        actor: &Actor::Host,
        action,
        device: None,
        outcome: "ok",
        detail,
    })
    .await
    .unwrap();
}

/// As the host does it.
async fn register(tx: &mut Tx, bdk: &StoredBdk) {
    assert!(tx.insert_bdk(&sealed(bdk.clone())).await.unwrap());
    record(tx, BDK_REGISTERED, bdk.registration()).await;
}

async fn claim(tx: &mut Tx, first: u32, last: u32) {
    tx.give_derivation_ids(&key_set(), last).await.unwrap();
    record(tx, IDS_CLAIMED, key_set().claim(first, last)).await;
}

fn derived(serial: &str, version: u32, derivation_id: u32) -> Sealed<DeviceKey> {
    let mut row = device_key(&device(serial), &slot(), version, None);
    row.source = KeySource::Derived {
        bdk: key_set().bdk,
        id: key_set().initial_key(derivation_id),
    };
    sealed(row)
}

async fn an_initial_key_is_one_devices(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B", "C"]).await;
    let mut tx = database.tx().await;
    register(&mut tx, &bdk("a", [1, 2, 3])).await;
    assert_eq!(tx.last_derivation_id(&key_set()).await.unwrap(), 0);
    claim(&mut tx, 1, u32::MAX).await;
    assert_eq!(tx.last_derivation_id(&key_set()).await.unwrap(), u32::MAX);
    let last = derived("A", 1, u32::MAX);
    assert!(tx.insert_device_key(&last).await.unwrap());
    let read = tx.device_key(&device("A"), &slot(), 1).await.unwrap();
    assert_eq!(read, Some(last.clone()));
    assert!(
        !tx.insert_device_key(&derived("B", 1, u32::MAX))
            .await
            .unwrap()
    );
    // Nor when it is destroyed.
    let destroyed = sealed(last.unproven().moved_to(DeviceKeyState::Destroyed, ""));
    assert_eq!(destroyed.unproven().source, last.unproven().source);
    assert!(tx.replace_device_key(&last, &destroyed).await.unwrap());
    assert!(
        !tx.insert_device_key(&derived("B", 1, u32::MAX))
            .await
            .unwrap()
    );
    assert!(tx.insert_device_key(&derived("B", 1, 1)).await.unwrap());

    let id = InitialKeyId::new([1, 2, 3, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(key_set().initial_key(u32::MAX), id);
    assert_eq!(KeySet::of(&key_set().bdk, id), (key_set(), u32::MAX));
    let twice = derived("B", 1, u32::MAX);
    let holder = tx.equal_key(twice.unproven()).await.unwrap();
    assert_eq!(holder.unwrap().device, "A");
    // A row is not its own double.
    let own = tx.equal_key(destroyed.unproven()).await;
    assert_eq!(own.unwrap(), None);
    let mut other = twice.unproven().clone();
    let bdk = BdkName::parse("b").unwrap();
    other.source = KeySource::Derived { bdk, id };
    assert_eq!(tx.equal_key(&other).await.unwrap(), None);
    let given_out = GivenOut {
        key_set: key_set(),
        last: u32::MAX,
        keys: 2,
    };
    assert_eq!(tx.given_out().await.unwrap(), [given_out]);
    // Nor where the database takes it.
    let statement = sqlx::query("DROP INDEX no_equal_initial_keys");
    let dropped = statement.execute(tx.connection().await.unwrap()).await;
    dropped.unwrap();
    for (id, is_new) in [(u32::MAX, false), (1, false), (2, true)] {
        let inserted = tx.insert_device_key(&derived("C", 1, id)).await;
        assert_eq!(inserted.unwrap(), is_new, "{id}");
    }
}

async fn a_bdk_has_one_name(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    let first = sealed(bdk("a", [1, 2, 3]));
    assert!(tx.insert_bdk(&first).await.unwrap());
    for other in [bdk("a", [4, 5, 6]), bdk("b", [1, 2, 3])] {
        assert!(!tx.insert_bdk(&sealed(other)).await.unwrap());
    }
    assert!(tx.insert_bdk(&sealed(bdk("b", [4, 5, 6]))).await.unwrap());
    let rows = tx.bdks().await.unwrap();
    assert_eq!(rows[0].as_ref(), Ok(&first));
    let mut later = first.unproven().clone();
    later.created_at = String::new();
    assert!(tx.reseal_bdk(&sealed(later), &first).await.is_err());
    tx.reseal_bdk(&first, &first).await.unwrap();
    assert_eq!(tx.rows_by_storage_key().await.unwrap(), [(1, 2)]);
    tx.commit().await.unwrap();
    // One that no host has written hides no other.
    for change in [
        "kind = 'DES'",
        "kcv = 'A'",
        "kcv_method = 'NONE'",
        "storage_key = -1",
    ] {
        let mut tx = database.tx().await;
        let statement = format!("UPDATE bdks SET {change} WHERE name = 'a'");
        edit(&mut tx, &statement).await;
        let rows = tx.bdks().await.unwrap();
        assert_eq!(rows[0], Err("a".to_owned()), "{change}");
        assert!(rows[1].is_ok(), "{change}");
    }
}

async fn ids_are_given_out_once_by_writers_in_a_line_whatever_becomes_of_the_counter(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    register(&mut tx, &bdk("a", [1, 2, 3])).await;
    assert_eq!(tx.ids_given_out(&key_set()), 0..=0);
    claim(&mut tx, 1, 3).await;
    tx.commit().await.unwrap();

    let mut first = database.tx().await;
    assert_eq!(first.ids_given_out(&key_set()), 3..=3);
    claim(&mut first, 4, 6).await;
    // A trigger of somebody else's, as good as.
    edit(&mut first, "UPDATE derivation_ids SET last = 3").await;
    // Queues now, before the first is done.
    let mut second = Box::pin(database.store.write(NOW));
    assert!(futures_util::poll!(&mut second).is_pending());
    let mut commit = Box::pin(first.commit());
    assert!(futures_util::poll!(&mut commit).is_pending());
    let mut second = second.await.unwrap();
    assert_eq!(second.last_derivation_id(&key_set()).await.unwrap(), 3);
    assert_eq!(second.ids_given_out(&key_set()), 3..=6);
    claim(&mut second, 7, 7).await;
    second.commit().await.unwrap();
    commit.await.unwrap();
    assert_eq!(database.tx().await.ids_given_out(&key_set()), 7..=7);

    // What one was to give out who gave up, or whose end nobody knows, is never given out.
    let mut dropped = database.tx().await;
    claim(&mut dropped, 8, 9).await;
    drop(dropped);
    for (first, last, is_there) in [(10, 11, false), (12, 13, true)] {
        let mut tx = database.tx().await;
        assert_eq!(tx.ids_given_out(&key_set()), 7..=first - 1);
        claim(&mut tx, first, last).await;
        leave_in_doubt(tx, is_there).await;
    }
    database.leave_no_word().await;
    assert_eq!(database.tx().await.ids_given_out(&key_set()), 13..=13);
    assert_eq!(verify(&database.store).await.unwrap(), Ok(5));
}

async fn what_the_trail_does_not_say_of_derivation_ids_is_found(on: Dialect) {
    let database = Database::with_devices(on, &["A"]).await;
    let mut tx = database.tx().await;
    register(&mut tx, &bdk("a", [1, 2, 3])).await;
    claim(&mut tx, 1, 64).await;
    claim(&mut tx, 65, 70).await;
    assert!(tx.insert_device_key(&derived("A", 1, 70)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(verify(&database.store).await.unwrap(), Ok(3));

    // The end of the trail is cut, and the counter set back to where it was then.
    database
        .tamper("DELETE FROM audit WHERE sequence = 3")
        .await;
    database.tamper("UPDATE derivation_ids SET last = 64").await;
    let cut = "key set 010203FF of bdk.a: a device has the initial key of derivation id 70, and they are given out to \
               64: the audit trail was cut. Restore the database from a backup that has all of it";
    assert_eq!(verify(&database.store).await.unwrap(), Err(cut.to_owned()));

    // And a host went on from there.
    let database = database.restarted().await;
    let mut tx = database.tx().await;
    claim(&mut tx, 64, 70).await;
    tx.commit().await.unwrap();
    let twice = "record 3 of the audit trail: derivation ids were given out twice";
    assert_eq!(
        verify(&database.store).await.unwrap(),
        Err(twice.to_owned())
    );
}

async fn one_bdk_that_was_registered_twice_is_found(on: Dialect) {
    let database = Database::new(on).await;
    database.tamper("DROP INDEX no_bdk_twice").await;
    let mut tx = database.tx().await;
    let mut longer = bdk("c", [1, 2, 3]);
    longer.kind = KeyKind::Aes256;
    for other in [bdk("a", [1, 2, 3]), bdk("b", [1, 2, 4]), longer] {
        register(&mut tx, &other).await;
    }
    tx.commit().await.unwrap();
    assert_eq!(verify(&database.store).await.unwrap(), Ok(3));
    let mut tx = database.tx().await;
    register(&mut tx, &bdk("d", [1, 2, 3])).await;
    tx.commit().await.unwrap();
    let twice = "BDK d: it is of the same kind and has the same check value as BDK a: one key under two names would \
                 give out each initial key twice. Restore the database from a backup from before one of them was \
                 registered, and take a new key set id after that";
    assert_eq!(
        verify(&database.store).await.unwrap(),
        Err(twice.to_owned())
    );
}
