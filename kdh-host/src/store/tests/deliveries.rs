//! Nonces, deliveries, and the tokens that leave.

use super::*;

on_both!(
"current_thread":
    a_nonce_is_unique_for_its_device_until_it_is_given_back,
    a_delivery_goes_on_from_where_it_is_believed_to_be_or_not_at_all,
    how_a_device_stands_is_of_one_moment_and_of_the_slot_that_was_asked_for,
    signing_times_only_rise,
    versions_rise_and_a_newer_token_supersedes_the_one_before,
);

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
