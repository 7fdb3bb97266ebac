//! Devices, their certificates and activation codes.

use super::*;

on_both!(
"current_thread":
    a_device_is_registered_once_and_listed_in_order,
    a_suspended_device_remembers_where_it_came_from,
    a_key_and_a_serial_number_are_certified_once,
    an_activation_code_counts_claims_and_is_replaced,
    a_code_expires_after_its_last_second,
);

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
