//! What the audit trail says beside the rows, and rows that the host cannot have written.

use super::*;
use crate::{
    names::GroupName,
    store::{Device, KeyPlace, RecordedKey, place_of},
};

on_both!("current_thread":
    a_row_that_no_host_has_written_hides_no_other,
    a_discarded_row_holds_nothing_and_keeps_its_version,
    a_key_is_held_elsewhere_if_another_device_has_ever_had_it,
    whoever_was_given_a_key_has_it_whatever_becomes_of_their_row,
    what_the_trail_says_of_a_device_and_of_its_keys,
    records_that_come_and_go_behind_the_hosts_back_say_nothing,
    only_a_host_that_seals_leaves_its_mark,
);

async fn say(tx: &mut Tx, device: Option<&str>, action: &'static str, detail: serde_json::Value) {
    let device = device.map(super::device);
    let entry = AuditEntry {
        actor: &Actor::Host,
        action,
        device: device.as_ref(),
        outcome: "ok",
        detail,
    };
    tx.record(entry).await.unwrap();
}

fn at(slot: &str, version: i64) -> KeyPlace {
    KeyPlace {
        device: "A".to_owned(),
        slot: slot.to_owned(),
        version,
    }
}

/// Three slots with a key each.
async fn with_keys(on: Dialect) -> Database {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    assert!(tx.insert_key(&sealed(stored_key())).await.unwrap());
    for slot in ["one", "three", "two"] {
        let row = device_key(&device("A"), &Slot::parse(slot).unwrap(), 1, None);
        assert!(tx.insert_device_key(&sealed(row)).await.unwrap());
    }
    tx.commit().await.unwrap();
    database
}

async fn a_row_that_no_host_has_written_hides_no_other(on: Dialect) {
    let database = with_keys(on).await;
    for change in [
        "state = 'X'",
        "source = 'OURS'",
        "source = 'UNIQUE'",
        "source = 'NONE'",
        "header = 'broken'",
        "kind = 'DES'",
        "kcv = '00'",
        "kcv_method = 'NONE'",
        "mac = NULL, storage_key = 1, kcv = ''",
        "storage_key = 0",
        "storage_key = -1",
        "version = -7",
        "slot = 'T W O'",
    ] {
        let mut tx = database.tx().await;
        edit(
            &mut tx,
            &format!("UPDATE device_keys SET {change} WHERE slot = 'two'"),
        )
        .await;
        let rows = tx.key_rows(None, &KeyPlace::default(), 9).await.unwrap();
        let (sound, bad): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
        let sound: Vec<_> = sound.iter().map(|row| place_of(row).slot).collect();
        assert_eq!(sound, ["one", "three"], "{change}");
        let [bad] = &bad[..] else {
            panic!("{change}: {bad:?}")
        };
        // It is found where it stands, and is what it is until it is changed again.
        let found = tx.key_row(&place_of(bad)).await.unwrap();
        assert_eq!(found.as_ref(), Some(bad), "{change}");
        let live = tx.live_key_rows(&device("A"), None).await.unwrap();
        let live = live.iter().filter(|row| row.is_ok()).count();
        assert_eq!(live, 2, "{change}");
        let under_older = tx.device_keys_under_older(2, &KeyPlace::default(), 9).await;
        assert_eq!(
            under_older
                .unwrap()
                .iter()
                .filter(|row| row.is_ok())
                .count(),
            2,
            "{change}"
        );
        let standing = tx.standing(&device("A"), None).await.unwrap().unwrap();
        assert_eq!(standing.assignments.len(), 2, "{change}");
        assert_eq!(
            standing.unreadable.len(),
            usize::from(change != "state = 'X'"),
            "{change}"
        );
        let (a, two) = (device("A"), Slot::parse("two").unwrap());
        let over = tx.newest_keys_that_are_over(std::slice::from_ref(&a)).await;
        let is_of_two = |row: &KeyRow| place_of(row).slot == two.as_str();
        assert!(
            !over
                .unwrap()
                .iter()
                .any(|row| is_of_two(row) && row.is_ok()),
            "{change}"
        );
        tx.rows_by_storage_key().await.unwrap();
        edit(
            &mut tx,
            "UPDATE device_keys SET created_at = 'later' WHERE slot NOT IN ('one', 'three')",
        )
        .await;
        assert_ne!(
            tx.key_row(&place_of(bad)).await.unwrap().as_ref(),
            Some(bad),
            "{change}"
        );
    }
}

async fn a_discarded_row_holds_nothing_and_keeps_its_version(on: Dialect) {
    let database = with_keys(on).await;
    let mut tx = database.tx().await;
    let slot = Slot::parse("two").unwrap();
    edit(
        &mut tx,
        "UPDATE device_keys SET state = 'X' WHERE slot = 'two'",
    )
    .await;
    let discarded = DeviceKey::discarded(device("A"), slot.clone(), 1, "now").unwrap();
    let discarded = sealed(discarded);
    tx.discard_key_row(&at("two", 1), Some(&discarded))
        .await
        .unwrap();
    let row = tx.key_row(&at("two", 1)).await.unwrap();
    assert_eq!(row, Some(Ok(discarded)));
    assert!(
        tx.live_key_rows(&device("A"), Some(&slot))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(newest(&mut tx, &device("A"), &slot).await, 1);
    assign(&mut tx, &device("A"), &slot).await;
    assert_eq!(newest(&mut tx, &device("A"), &slot).await, 2);
    // One that was no version goes.
    tx.discard_key_row(&at("two", 2), None).await.unwrap();
    assert_eq!(tx.key_row(&at("two", 2)).await.unwrap(), None);
    tx.discard_key_row(&at("two", 2), None).await.unwrap_err();
}

async fn a_key_is_held_elsewhere_if_another_device_has_ever_had_it(on: Dialect) {
    let database = with_keys(on).await;
    let mut tx = database.tx().await;
    let name = stored_key().name;
    let (a, b) = (device("A"), device("B"));
    assert!(!tx.is_held_elsewhere(&name, &a).await.unwrap());
    assert!(tx.is_held_elsewhere(&name, &b).await.unwrap());
    let mut row = device_key(&b, &slot(), 1, None);
    row.state = DeviceKeyState::Destroyed;
    assert!(tx.insert_device_key(&sealed(row)).await.unwrap());
    assert!(tx.is_held_elsewhere(&name, &a).await.unwrap());
}

async fn whoever_was_given_a_key_has_it_whatever_becomes_of_their_row(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let held = async |database: &Database| {
        let mut tx = database.tx().await;
        let name = stored_key().name;
        let mut held = Vec::new();
        for device in ["A", "B", "C"] {
            held.push(
                tx.is_held_elsewhere(&name, &super::device(device))
                    .await
                    .unwrap(),
            );
        }
        held
    };
    let mut tx = database.tx().await;
    for of_none in [
        json!({"slot": "tmk", "version": 1, "key": null}),
        json!({"slot": "tmk", "version": 1}),
        json!({"slot": "tmk", "version": 1, "key": "other"}),
    ] {
        say(&mut tx, Some("B"), "key.assigned", of_none).await;
    }
    tx.commit().await.unwrap();
    assert_eq!(held(&database).await, [false, false, false]);
    let mut tx = database.tx().await;
    let given = json!({"slot": "tmk", "version": 2, "key": "tmk"});
    say(&mut tx, Some("A"), "key.assigned", given).await;
    drop(tx);
    assert_eq!(held(&database).await, [false, false, false], "it was not");
    let mut tx = database.tx().await;
    let given = json!({"slot": "tmk", "version": 2, "key": "tmk"});
    say(&mut tx, Some("A"), "key.assigned", given).await;
    tx.commit().await.unwrap();
    assert_eq!(held(&database).await, [false, true, true]);
    let made = json!({"rollout": 1, "wave": 1, "skipped": [], "keys": [
        {"slot": "pin", "key": null, "made": ["C 1 0A1B2C"]},
        {"slot": "tmk", "key": "tmk", "made": ["A 3 0A1B2C", "B 12 0A1B2C"]},
    ]});
    let mut tx = database.tx().await;
    say(&mut tx, None, "rollout.keys-made", made).await;
    // Whether it is so or not, nobody else is given it.
    leave_in_doubt(tx, true).await;
    let tx = database.store.read(NOW).await.unwrap();
    assert!(tx.was_given_elsewhere(&stored_key().name, &device("A")));
    drop(tx);
    assert_eq!(held(&database).await, [true, true, true]);
    let database = database.restarted().await;
    assert_eq!(
        held(&database).await,
        [false, false, false],
        "not followed yet"
    );
    verify(&database.store).await.unwrap().unwrap();
    assert_eq!(held(&database).await, [true, true, true]);
}

async fn what_the_trail_says_of_a_device_and_of_its_keys(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    assert!(!tx.trail_of(&device("A")).has_enrolled());
    let slot = |slot| Slot::parse(slot).unwrap();
    let (a, tmk) = (device("A"), slot("tmk"));
    assert!(!tx.was_assigned(&a, &tmk, 1).await.unwrap());
    say(&mut tx, Some("A"), "device.added", json!({"model": "M1"})).await;
    say(&mut tx, Some("B"), "device.added", json!({"model": "M2"})).await;
    say(
        &mut tx,
        Some("A"),
        "key.assigned",
        json!({"slot": "tmk", "version": 1, "key": "k", "encryption-key": null}),
    )
    .await;
    say(
        &mut tx,
        Some("B"),
        "device.enrolled",
        json!({"encryption-key": "0b"}),
    )
    .await;
    tx.commit().await.unwrap();
    let mut tx = database.tx().await;
    assert!(tx.trail_of(&device("B")).has_enrolled());
    assert!(!tx.trail_of(&device("A")).has_enrolled(), "another one has");
    // By a rollout, whose record is of many.
    let made = json!({"rollout": 1, "wave": 1, "skipped": ["B tmk ROW_CHANGED"], "keys": [
        {"slot": "tmk", "made": ["A 3 0A1B2C", "B 12 0A1B2C"]},
        {"slot": "pin", "made": ["A 4 0A1B2C"]},
    ]});
    say(&mut tx, None, "rollout.keys-made", made).await;
    tx.commit().await.unwrap();
    let mut tx = database.tx().await;
    for (of, slot, version, was_assigned) in [
        (&a, &tmk, 1, true),
        (&a, &tmk, 3, true),
        (&a, &slot("pin"), 4, true),
        (&device("B"), &tmk, 12, true),
        (&a, &tmk, 2, false),
        (&a, &tmk, 4, false),
        (&a, &slot("tm"), 1, false),
        (&device("B"), &tmk, 1, false),
        (&device("B"), &tmk, 3, false),
    ] {
        let said = tx.was_assigned(of, slot, version).await.unwrap();
        assert_eq!(said, was_assigned, "{of} {slot} {version}");
    }
    say(
        &mut tx,
        Some("A"),
        "device.enrolled",
        json!({"encryption-key": "0a"}),
    )
    .await;
    say(
        &mut tx,
        Some("A"),
        "device.enrolled",
        json!({"encryption-key": "0c"}),
    )
    .await;
    let second = json!({"slot": "tmk", "version": 2, "kcv": "A1B2C3", "encryption-key": "0c"});
    say(&mut tx, Some("A"), "key.assigned", second).await;
    tx.commit().await.unwrap();
    let mut tx = database.tx().await;
    assert!(tx.trail_of(&device("A")).has_enrolled());
    let keys = tx.recorded_keys().await.unwrap();
    let key = |version| keys.get(&("A".to_owned(), "tmk".to_owned(), version));
    let text = |text: &str| Some(text.to_owned());
    let first = RecordedKey {
        name: text("k"),
        kcv: None,
        recipient: text("0a"),
    };
    assert_eq!(key(1), Some(&first), "for the first that it enrolled with");
    let second = RecordedKey {
        name: None,
        kcv: text("A1B2C3"),
        recipient: text("0c"),
    };
    assert_eq!((key(2), keys.len()), (Some(&second), 2));
    // Where the device belongs is what the trail says.
    let stored = tx.device(&device("A")).await.unwrap().unwrap();
    assert!(tx.recorded_profile_of(&stored).await.unwrap().is_none());
    for moved in [
        Device {
            model: "M2".to_owned(),
            ..stored.clone()
        },
        Device {
            group: Some(GroupName::parse("g").unwrap()),
            ..stored.clone()
        },
    ] {
        let refused = tx.recorded_profile_of(&moved).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::NotRecorded(what) if what == "the model or the group of A")
        );
    }
}

async fn records_that_come_and_go_behind_the_hosts_back_say_nothing(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    say(&mut tx, Some("A"), "device.added", json!({"model": "M1"})).await;
    say(&mut tx, Some("B"), "device.added", json!({"model": "M2"})).await;
    say(&mut tx, Some("B"), "device.enrolled", json!({})).await;
    tx.commit().await.unwrap();
    for change in [
        "INSERT INTO audit SELECT 1000, at, actor, 'device.enrolled', 'C', outcome, detail, previous_hash, hash
             FROM audit WHERE sequence = 1",
        "INSERT INTO audit SELECT 1001, at, actor, 'key.assigned', 'C', outcome,
             '{\"slot\":\"tmk\",\"version\":1}', previous_hash, hash FROM audit WHERE sequence = 1",
        "DELETE FROM audit WHERE action = 'device.enrolled' AND device = 'B'",
        "UPDATE audit SET detail = '{\"model\":\"M2\"}' WHERE action = 'device.added' AND device = 'A'",
    ] {
        database.tamper(change).await;
    }
    let mut tx = database.tx().await;
    assert!(!tx.trail_of(&device("C")).has_enrolled());
    assert!(!tx.was_assigned(&device("C"), &slot(), 1).await.unwrap());
    assert!(tx.trail_of(&device("B")).has_enrolled());
    assert!(tx.trail_of(&device("A")).belongs_to("M1", None));
    // At the next start they are what is followed.
    drop(tx);
    assert!(verify(&database.store).await.unwrap().is_err());
}

async fn only_a_host_that_seals_leaves_its_mark(on: Dialect) {
    for (action, detail, marks) in [
        ("host.started", json!({"version": "1"}), false),
        (
            "host.started",
            json!({"version": "1", "storage-key": 1}),
            true,
        ),
        ("key.assigned", json!({"slot": "tmk", "key": "a"}), false),
        (
            "key.assigned",
            json!({"slot": "tmk", "key": "\"source\":"}),
            false,
        ),
        (
            "key.assigned",
            json!({"slot": "tmk", "source": "SHARED"}),
            true,
        ),
        ("keys.adopted", json!({}), true),
        ("storage.row-refused", json!({}), true),
        ("approval.asked", json!({}), true),
        ("key.discarded", json!({}), true),
        ("key.registered", json!({}), false),
    ] {
        let database = Database::with_devices(on, &[]).await;
        let mut tx = database.tx().await;
        say(&mut tx, None, action, detail).await;
        let found = tx.sealing_record().await.unwrap();
        assert_eq!(found.is_some(), marks, "{action}");
    }
    let database = Database::with_devices(on, &[]).await;
    let mut tx = database.tx().await;
    for (number, was) in [(1, true), (2, false), (12, false)] {
        assert_eq!(tx.was_storage_key(number).await.unwrap(), was, "{number}");
    }
    say(&mut tx, None, "storage.began", json!({"storage-key": 12})).await;
    assert!(!tx.was_storage_key(2).await.unwrap());
    assert!(tx.was_storage_key(12).await.unwrap());
    say(
        &mut tx,
        None,
        "storage.destroyed",
        json!({"storage-key": 1}),
    )
    .await;
    assert!(!tx.was_storage_key(1).await.unwrap());
}

/// A long trail costs an assignment nothing.
#[tokio::test]
async fn what_is_asked_at_an_assignment_is_found_by_indexes() {
    let database = Database::with_devices(Dialect::Sqlite, &["A"]).await;
    for (query, index) in [
        (
            "EXPLAIN QUERY PLAN SELECT * FROM audit
             WHERE action IN ('device.added', 'device.admitted', 'device.enrolled', 'device.grouped', 'key.assigned')
                 AND action = 'key.assigned' AND device = $1 ORDER BY sequence",
            "audit_of_devices",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT device FROM device_keys WHERE key_name = $1 AND device <> $2 LIMIT 1",
            "devices_of_a_key",
        ),
    ] {
        let plan = sqlx::query(query).fetch_all(&database.store.pool).await;
        let details: Vec<String> = plan.unwrap().iter().map(|row| row.get("detail")).collect();
        assert!(details[0].contains(index), "{details:?}");
    }
}
