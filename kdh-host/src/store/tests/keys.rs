//! Registered keys, and keys of devices.

use super::*;

on_both!(
"current_thread":
    a_key_is_what_an_operator_registered,
    an_assignment_is_meant_for_one_key_of_its_device,
    a_slot_has_one_key_in_each_state_and_no_two_devices_the_same,
);

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
        edit(&mut tx, statement).await;
        let found = tx.verify_audit().await;
        assert!(!matches!(found, Ok(Ok(_))), "{case}: {found:?}");
    }
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
    edit(&mut tx, "UPDATE device_keys SET recipient = NULL").await;
    let unnamed = expected(&[("early", false), ("late", false)]);
    assert_eq!(meant(&mut tx, &a).await, unnamed, "meant for nobody");
    assert_eq!(
        meant(&mut tx, &b).await,
        expected(&[("early", true)]),
        "another device's enrolments change nothing"
    );
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
    assert_eq!(newest(&mut tx, &a, &slot()).await, 2);
    assert_eq!(tx.rows_by_storage_key().await.unwrap(), [(1, 3)]);
    // What is over counts if nothing newer is there, and where a version can be.
    for (version, counts) in [
        ("4294967295", true),
        ("4294967296", false),
        ("-1", false),
        ("1", false),
    ] {
        let put = format!("UPDATE device_keys SET version = {version} WHERE state = 'DESTROYED'");
        edit(&mut tx, &put).await;
        let over = tx.newest_keys_that_are_over(&[a.clone(), b.clone()]).await;
        let over: Vec<_> = over.unwrap().iter().map(place_of).collect();
        assert_eq!(over.len(), usize::from(counts), "{version}");
        assert!(over.iter().all(|place| place.version == 4_294_967_295));
    }
    tx.commit().await.unwrap();
    rows_come_under_another_pair_all_or_none(&database).await;
}

/// Three rows: one without a key, and two with one.
async fn rows_come_under_another_pair_all_or_none(database: &Database) {
    let all = async |tx: &mut Tx| -> Vec<Sealed<DeviceKey>> {
        let rows = tx.key_rows(None, &KeyPlace::default(), 9).await.unwrap();
        rows.into_iter().map(Result::unwrap).collect()
    };
    let rewrapped = |row: &Sealed<DeviceKey>, wrapped: &[u8]| {
        let has_key = row.unproven().source.wrapped().is_some();
        let row = row.unproven().with_wrapped(has_key.then_some(wrapped));
        let seal = Seal {
            number: StorageNumber::FIRST.next().unwrap(),
            ..sealed(row.clone()).seal().unwrap().clone()
        };
        Sealed::new(row, Some(seal))
    };
    let mut tx = database.tx().await;
    let old = all(&mut tx).await;
    drop(tx);
    let [none, first, second] = &old[..] else {
        panic!("{old:?}")
    };
    let changed = sealed(second.unproven().moved_to(DeviceKeyState::Active, "later"));
    let new = |wrapped: [&[u8]; 3]| -> Vec<_> {
        old.iter()
            .zip(wrapped)
            .map(|(row, wrapped)| rewrapped(row, wrapped))
            .collect()
    };
    let sound = new([b"", b"four", b"five"]);
    for (old, new, why) in [
        (
            old.clone(),
            new([b"", b"six", b"six"]),
            "two would be the same key",
        ),
        (
            old.clone(),
            new([b"", b"four", b"two"]),
            "one would be the key that another row has",
        ),
        (
            vec![none.clone(), first.clone(), changed],
            sound.clone(),
            "one is another one by now",
        ),
    ] {
        let mut tx = database.tx().await;
        assert!(!tx.rewrap_device_keys(&old, &new).await.unwrap(), "{why}");
    }
    let mut tx = database.tx().await;
    assert!(tx.rewrap_device_keys(&old, &sound).await.unwrap());
    assert_eq!(all(&mut tx).await, sound);
    assert_eq!(tx.rows_by_storage_key().await.unwrap(), [(2, 3)]);
    let places = [none, first, second].map(|row| row.unproven().place());
    let missing = KeyPlace {
        version: 9,
        ..places[0].clone()
    };
    let asked = [&places[1..], &[missing]].concat();
    let mut found = tx.key_rows_at(&asked).await.unwrap();
    found.sort_by_key(|row| place_of(row).device);
    assert_eq!(
        found,
        sound[1..].iter().cloned().map(Ok).collect::<Vec<_>>()
    );
    assert!(tx.key_rows_at(&[]).await.unwrap().is_empty());
}
