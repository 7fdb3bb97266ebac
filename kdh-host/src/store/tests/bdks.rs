//! BDKs, and derivation ids that are given out once.

use hsm::InitialKeyId;

use super::*;
use crate::names::BdkName;

on_both!(
"current_thread":
    an_initial_key_is_one_devices,
    a_bdk_has_one_name,
    what_the_trail_does_not_say_of_derivation_ids_is_found,
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
    let database = Database::with_devices(on, &["A", "B"]).await;
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
