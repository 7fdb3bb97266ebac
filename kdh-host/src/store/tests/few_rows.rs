//! Sealed rows of which there are few, whatever stands in them.

use super::{
    approvals::asked,
    bdks::bdk,
    rollouts::{devices, rollout},
    *,
};

on_both!("current_thread": a_row_that_no_host_has_written_is_named_and_hides_no_other);

/// The titles of those that are refused, of two.
async fn refused<R: FewRows>(tx: &mut Tx) -> Vec<String> {
    let rows = tx.few_rows::<R>().await.unwrap();
    assert_eq!(rows.len(), 2, "{}", R::TABLE);
    let refused = rows.into_iter().filter_map(Result::err);
    let titles = refused.map(|error| match error {
        StoreError::NotSealed(title) => title,
        other => panic!("{}: {other}", R::TABLE),
    });
    titles.collect()
}

async fn a_row_that_no_host_has_written_is_named_and_hides_no_other(on: Dialect) {
    let database = Database::with_devices(on, &["A", "B"]).await;
    let mut tx = database.tx().await;
    let other = StoredKey {
        name: KeyAlias::parse("other").unwrap(),
        hsm_label: "kn.other".to_owned(),
        ..stored_key()
    };
    for key in [stored_key(), other] {
        assert!(tx.insert_key(&sealed(key)).await.unwrap());
    }
    for bdk in [bdk("a", [1, 2, 3]), bdk("b", [4, 5, 6])] {
        assert!(tx.insert_bdk(&sealed(bdk)).await.unwrap());
    }
    let long = "b".repeat(100);
    for approval in [asked("a", "2"), asked(&long, "3")] {
        assert!(tx.insert_approval(&sealed(approval)).await.unwrap());
    }
    for (number, serial) in [(1, "A"), (2, "B")] {
        let rollout = rollout(number, devices(&[serial]));
        assert!(tx.insert_rollout(&sealed(rollout)).await.unwrap());
    }
    tx.commit().await.unwrap();

    let mut tx = database.tx().await;
    assert_eq!(tx.rows_by_storage_key().await.unwrap(), [(1, 8)]);
    assert_eq!(refused::<StoredKey>(&mut tx).await, [""; 0]);
    drop(tx);
    for spoilt in [
        "UPDATE keys SET kind = 'X' WHERE name = 'other'",
        "UPDATE bdks SET kind = 'X' WHERE name = 'b'",
        "UPDATE approvals SET act = 'X' WHERE id <> 'a'",
        "UPDATE rollouts SET kind = 'X' WHERE number = 2",
    ] {
        database.tamper(spoilt).await;
    }
    let mut tx = database.tx().await;
    assert_eq!(refused::<StoredKey>(&mut tx).await, ["key other"]);
    assert_eq!(refused::<StoredBdk>(&mut tx).await, ["BDK b"]);
    assert_eq!(refused::<Rollout>(&mut tx).await, ["rollout 2"]);
    // Hostile texts may be long.
    let title = format!("approval {}", &long[..64]);
    assert_eq!(refused::<Approval>(&mut tx).await, [&*title]);
    assert_eq!(asked(&long, "3").title(), title);
}
