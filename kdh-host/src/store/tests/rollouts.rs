//! Rollouts, their rows, and check values that many keys share.

use hsm::{Kcv, KcvMethod};

use super::super::rollouts::LOOK;
use super::*;
use crate::state::{RolloutKind, RolloutState};

on_both!(
"current_thread":
    no_column_of_a_rollout_is_changed_unnoticed,
    a_rollout_is_open_once_for_its_devices_and_comes_to_each_slot_once,
    no_more_is_looked_at_for_a_page_than_a_page_may_cost,
    keys_that_share_a_check_value_are_counted,
    a_device_that_was_moved_meanwhile_stays_in_the_queue,
);

pub(super) fn rollout(number: u32, reach: Reach) -> Rollout {
    Rollout {
        number,
        kind: RolloutKind::Command,
        reach,
        slots: vec![slot()],
        waves: Waves {
            devices: 10,
            proceed_at: 95,
            stop_after: Some(2),
            forgiven: 0,
        },
        state: RolloutState::Paused,
        state_why: "a question".to_owned(),
        started_by: "ada".to_owned(),
        why: "yearly".to_owned(),
        created_at: time_text(NOW).unwrap(),
        changed_at: time_text(NOW).unwrap(),
    }
}

pub(super) fn devices(serials: &[&str]) -> Reach {
    Reach::Devices(serials.iter().map(|serial| device(serial)).collect())
}

async fn no_column_of_a_rollout_is_changed_unnoticed(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let original = sealed(rollout(1, devices(&["A", "B"])));
    let other = sealed(rollout(2, devices(&["B"])));
    let mut tx = database.tx().await;
    assert!(tx.insert_rollout(&original).await.unwrap());
    assert!(tx.insert_rollout(&other).await.unwrap());
    tx.commit().await.unwrap();
    let read = |row: Option<Sealed<Rollout>>| row.unwrap();
    let mut tx = database.tx().await;
    assert_eq!(read(tx.rollout(1).await.unwrap()), original);
    drop(tx);
    for change in [
        "kind = 'FILLING'",
        "target_kind = 'ANY'",
        "target = 'A'",
        "devices = 'A'",
        "slots = ''",
        "slots = 'pin'",
        "wave_devices = 0",
        "proceed_at = 1",
        "stop_after = NULL",
        "stop_after = 100",
        "forgiven = 100",
        "state = 'RUNNING'",
        "state_why = ''",
        "started_by = 'bob'",
        "why = 'another'",
        "created_at = ''",
        "changed_at = ''",
        "storage_key = 2",
        "mac = NULL",
        "mac = (SELECT mac FROM rollouts WHERE number = 2)",
    ] {
        let mut tx = database.tx().await;
        let statement = format!("UPDATE rollouts SET {change} WHERE number = 1");
        edit(&mut tx, &statement).await;
        // The name of a list of devices is made of the list: the one without the other says nothing.
        let is_told_by_the_list = change == "target = 'A'";
        match tx.rollout(1).await {
            Ok(row) => {
                let differs = read(row) != original;
                assert_eq!(differs, !is_told_by_the_list, "{change}");
            }
            Err(StoreError::NotSealed(row)) => {
                assert_eq!(row, "rollout 1", "{change}");
                // It hides no other.
                let mut rows = tx.rollouts(0, 9).await.unwrap();
                rows.retain(|row| *row != Err(1));
                assert_eq!(rows, [Ok(other.clone())], "{change}");
                let open = tx.open_rollouts().await.unwrap();
                assert!(open.contains(&Ok(other.clone())), "{change}");
            }
            Err(error) => panic!("{change}: {error}"),
        }
    }
}

async fn a_rollout_is_open_once_for_its_devices_and_comes_to_each_slot_once(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let first = sealed(rollout(1, devices(&["A"])));
    assert!(tx.insert_rollout(&first).await.unwrap());
    for (refused, why) in [
        (rollout(1, devices(&["B"])), "the number is taken"),
        (rollout(2, devices(&["A"])), "it is paused for the same"),
    ] {
        assert!(!tx.insert_rollout(&sealed(refused)).await.unwrap(), "{why}");
    }
    assert_eq!(tx.next_rollout_number().await.unwrap(), 2);
    let mut stopped = first.unproven().clone();
    stopped.state = RolloutState::Stopped;
    let stopped = sealed(stopped);
    assert!(tx.is_unchanged(&first).await.unwrap());
    assert!(tx.replace_rollout(&first, &stopped).await.unwrap());
    assert!(!tx.replace_rollout(&first, &stopped).await.unwrap());
    assert!(!tx.is_unchanged(&first).await.unwrap());
    let again = sealed(rollout(2, devices(&["A"])));
    assert!(tx.insert_rollout(&again).await.unwrap());

    let made = |serial, version| RolloutKey {
        device: device(serial),
        slot: Some(slot()),
        outcome: Outcome::Made(version),
    };
    let insert = async |tx: &mut Tx, keys: &[RolloutKey], again| {
        tx.insert_rollout_keys(2, keys, again).await.unwrap()
    };
    assert!(insert(&mut tx, &[made("A", 1), made("B", 1)], false).await);
    assert!(!insert(&mut tx, &[made("A", 2)], false).await);
    assert!(insert(&mut tx, &[made("A", 2)], true).await);
    let keys = tx.rollout_keys(2, ("", ""), 9, false).await.unwrap();
    let versions: Vec<_> = keys.keys.iter().map(|key| key.version).collect();
    assert_eq!(versions, [2, 1]);

    let wave = Wave {
        number: 1,
        ..Wave::default()
    };
    let further = Wave {
        last_device: "A".to_owned(),
        devices: 1,
        made: 1,
        ..wave.clone()
    };
    assert!(tx.insert_wave(2, &wave).await.unwrap());
    assert!(!tx.insert_wave(2, &wave).await.unwrap());
    assert!(tx.advance_wave(2, &wave, &further).await.unwrap());
    assert!(!tx.advance_wave(2, &wave, &further).await.unwrap());
    assert_eq!(tx.last_wave(2).await.unwrap(), Some(further));
}

async fn no_more_is_looked_at_for_a_page_than_a_page_may_cost(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    let key = |number, outcome| RolloutKey {
        device: device(&format!("D-{number:05}")),
        slot: Some(slot()),
        outcome,
    };
    // The first one, the last one of the first page and the second one of the next were skipped.
    let skipped = [1, LOOK, LOOK + 2];
    let keys: Vec<_> = (1..=LOOK + 3)
        .map(|number| {
            let outcome = if skipped.contains(&number) {
                Outcome::Skipped("SUSPENDED".to_owned())
            } else {
                Outcome::Made(1)
            };
            key(number, outcome)
        })
        .collect();
    for some in keys.chunks(1000) {
        assert!(tx.insert_rollout_keys(1, some, false).await.unwrap());
    }
    let mut page = async |(device, slot): (&str, &str), limit, troubled| {
        let page = tx.rollout_keys(1, (device, slot), limit, troubled).await;
        let page = page.unwrap();
        let serials = page.keys.into_iter().map(|key| key.serial_number);
        let further = page.ask_behind.map(|(device, in_slot)| {
            assert_eq!(in_slot, slot_text());
            device
        });
        (serials.collect::<Vec<_>>(), further)
    };
    let [first, last, next, end] = [1, LOOK, LOOK + 2, LOOK + 3].map(|n| format!("D-{n:05}"));
    let (found, further) = page(("", ""), 9, true).await;
    assert_eq!(found, [first.clone(), last.clone()]);
    assert_eq!(further, Some(last.clone()), "as far as was looked");
    let found = page((&last, slot_text()), 9, true).await;
    assert_eq!(found, (vec![next.clone()], None));
    let found = page((&first, slot_text()), LOOK, true).await.1;
    assert_eq!(found, Some(format!("D-{:05}", LOOK + 1)));
    let found = page(("", ""), 1, true).await;
    assert_eq!(found, (vec![first.clone()], Some(first)), "no more wanted");
    let found = page((&last, ""), 1, false).await;
    assert_eq!(
        found,
        (vec![last.clone()], Some(last)),
        "in the same device"
    );
    let found = page((&next, slot_text()), 9, false).await;
    assert_eq!(found, (vec![end], None));
}

fn slot_text() -> &'static str {
    "tmk"
}

async fn keys_that_share_a_check_value_are_counted(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B", "C"]).await;
    let mut tx = database.tx().await;
    let kcv = |text| Kcv::parse(KcvMethod::AesCmac, text).unwrap();
    let (one, other, long) = (kcv("AAAAAA"), kcv("BBBBBB"), kcv("AAAAAAAAAA"));
    let key = |serial, version, state, kcv: &Kcv| {
        let mut row = device_key(&device(serial), &slot(), version, None);
        let wrapped = Some(format!("{serial}{version}").into_bytes());
        (row.state, row.kcv) = (state, kcv.clone());
        row.source = KeySource::Unique { wrapped };
        sealed(row.moved_to(state, ""))
    };
    let keys = [
        key("A", 1, DeviceKeyState::Destroyed, &one),
        key("A", 2, DeviceKeyState::Active, &one),
        key("A", 3, DeviceKeyState::Pending, &long),
        key("B", 1, DeviceKeyState::Pending, &one),
        key("C", 1, DeviceKeyState::Pending, &other),
    ];
    assert!(tx.insert_device_keys(&keys).await.unwrap());
    for (len, expected) in [(3, 3), (5, 1), (4, 0)] {
        let live = tx.live_check_values(KcvMethod::AesCmac, len).await.unwrap();
        assert_eq!(live, expected, "{len}");
    }
    let equal = tx.equal_check_values(vec![&one, &other, &long]).await;
    assert_eq!(equal.unwrap(), [("AAAAAA".to_owned(), 2)]);
}

async fn a_device_that_was_moved_meanwhile_stays_in_the_queue(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let queue = "INSERT INTO devices_to_fill (device) VALUES ('A'), ('B')";
    edit(&mut tx, queue).await;
    let judged = tx.unfilled("", 9).await.unwrap();
    assert_eq!(judged.len(), 2);
    for change in [
        "model = 'M2'",
        "group_name = 'pilot'",
        "state = 'SUSPENDED'",
    ] {
        tx.commit().await.unwrap();
        tx = database.tx().await;
        let change = format!("UPDATE devices SET {change} WHERE serial_number = 'B'");
        edit(&mut tx, &change).await;
        assert!(!tx.unqueue_as_seen(&judged).await.unwrap(), "{change}");
        drop(tx);
        tx = database.tx().await;
        assert_eq!(tx.unfilled("", 9).await.unwrap(), judged);
    }
    assert!(tx.unqueue_as_seen(&judged[..1]).await.unwrap());
    assert_eq!(tx.unfilled("", 9).await.unwrap(), judged[1..]);
}
