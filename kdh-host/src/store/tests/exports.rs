//! What goes to payment switches: the line of a target.

use super::*;
use crate::state::ExportState::{self, Made as MADE, Queued as QUEUED, Skipped as SKIPPED};
use crate::store::exports::Confirmed;

on_both!(
"current_thread":
    a_line_has_no_gaps_and_each_key_once,
    marks_and_keys_go_their_way,
    what_was_made_is_never_in_line_again,
    confirmed_keys_come_in_pages,
);

fn serial(number: u32) -> DeviceSerial {
    device(&format!("SN-{number}"))
}

async fn queue(tx: &mut Tx, target: &str, device: u32, version: u32) -> bool {
    let (device, slot) = (serial(device), slot());
    let queued = tx.queue_export(target, &device, &slot, version);
    queued.await.unwrap()
}

fn finished(row: &ExportRow, state: ExportState) -> ExportRow {
    let made = (state == ExportState::Made).then(|| Made {
        header: "D0000K0AB00N0000".to_owned(),
        kind: "AES-128".to_owned(),
        kcv_method: "AES_CMAC".to_owned(),
        kcv: "A1B2C3".to_owned(),
        exported: Some("00".to_owned()),
    });
    ExportRow {
        state,
        made,
        mac: Some(Mac::new(&[7; 16]).unwrap()),
        ..row.clone()
    }
}

async fn positions(tx: &mut Tx, target: &str) -> Vec<(u64, ExportState)> {
    let rows = tx.export_records(target, 1, 100).await.unwrap();
    rows.iter().map(|row| (row.position, row.state)).collect()
}

async fn a_line_has_no_gaps_and_each_key_once(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    for (device, is_new) in [(1, true), (2, true), (1, false), (3, true)] {
        assert_eq!(queue(&mut tx, "a", device, 1).await, is_new);
    }
    assert!(queue(&mut tx, "b", 1, 1).await, "another target's line");
    assert!(queue(&mut tx, "a", 1, 2).await, "another version");
    let rows = tx.queued_exports("a", 3).await.unwrap();
    let places: Vec<_> = rows.iter().map(|row| row.position).collect();
    assert_eq!(places, [1, 2, 3]);
    let line = tx.export_line("a").await.unwrap();
    assert_eq!((line.last, line.made), (4, 0));
    // What is finished is so once, and the first that is not ends what is made.
    let made = finished(&rows[0], ExportState::Made);
    assert_eq!(tx.finish_exports(&[&made]).await.unwrap(), [1].into());
    assert_eq!(tx.finish_exports(&[&made]).await.unwrap(), [].into());
    let skipped = finished(&rows[2], ExportState::Skipped);
    // Those that are in line no more change nothing.
    let both = [&made, &skipped];
    assert_eq!(tx.finish_exports(&both).await.unwrap(), [3].into());
    let line = tx.export_line("a").await.unwrap();
    assert_eq!((line.last, line.made), (4, 1));
    assert_eq!(tx.export_records("a", 1, 1).await.unwrap(), [made]);
    let macs = tx.export_macs("a", 1, 3).await.unwrap();
    assert_eq!(macs.len(), 2);
    // One that was skipped may be put in line again, at its end.
    assert!(queue(&mut tx, "a", 3, 1).await);
    assert!(!queue(&mut tx, "a", 3, 1).await);
    let expected = [
        (1, MADE),
        (2, QUEUED),
        (3, SKIPPED),
        (4, QUEUED),
        (5, QUEUED),
    ];
    assert_eq!(positions(&mut tx, "a").await, expected);
    let empty = tx.export_line("c").await.unwrap();
    assert_eq!((empty.last, empty.made), (0, 0));
}

/// What somebody else says of the line, and the trail does not.
async fn what_was_made_is_never_in_line_again(on: Dialect) {
    let mut database = Database::new(on).await;
    let mut tx = database.tx().await;
    for device in 1..=3 {
        queue(&mut tx, "a", device, 1).await;
    }
    queue(&mut tx, "b", 1, 1).await;
    for row in tx.queued_exports("a", 2).await.unwrap() {
        let state = if row.position == 2 { SKIPPED } else { MADE };
        let row = finished(&row, state);
        assert_eq!(tx.finish_exports(&[&row]).await.unwrap().len(), 1);
        tx.record_export("switch", &row, "00", "it is gone")
            .await
            .unwrap();
    }
    assert_eq!(tx.exported_up_to("a"), 0, "not yet");
    tx.commit().await.unwrap();
    for restarted in [false, true] {
        if restarted {
            database = database.restarted().await;
            assert_eq!(verify(&database.store).await.unwrap(), Ok(2));
        }
        let mut tx = database.tx().await;
        assert_eq!(tx.exported_up_to("a"), 2);
        assert_eq!(tx.exported_up_to("b"), 0);
        assert_eq!(tx.export_put_back("a").await.unwrap(), None);
        edit(&mut tx, "UPDATE export_records SET state = 'QUEUED'").await;
        assert_eq!(tx.export_put_back("a").await.unwrap(), Some(1));
        assert_eq!(tx.export_put_back("b").await.unwrap(), None);
        let rows = tx.queued_exports("a", 9).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| row.position).collect();
        assert_eq!(rows, [3]);
        // A position is given out once.
        edit(&mut tx, "DELETE FROM export_records WHERE target = 'a'").await;
        assert!(queue(&mut tx, "a", 1, 1).await);
        assert_eq!(positions(&mut tx, "a").await, [(3, QUEUED)]);
    }
    // Nobody was told how a commit ended: it counts as made until that is known, by the next one that writes.
    let reader = async || database.store.read(NOW).await.unwrap();
    for (is_there, position) in [(false, 2), (true, 3)] {
        let mut tx = database.tx().await;
        let row = finished(&tx.queued_exports("a", 1).await.unwrap()[0], MADE);
        assert_eq!(row.position, 3);
        assert_eq!(tx.finish_exports(&[&row]).await.unwrap(), [3].into());
        tx.record_export("switch", &row, "00", "").await.unwrap();
        leave_in_doubt(tx, is_there).await;
        database.leave_no_word().await;
        let mut tx = reader().await;
        assert_eq!(tx.exported_up_to("a"), 3);
        assert!(tx.queued_exports("a", 9).await.unwrap().is_empty());
        drop(tx);
        database.store.settle_exports("b", NOW).await.unwrap();
        assert_eq!(reader().await.exported_up_to("a"), 3);
        database.store.settle_exports("a", NOW).await.unwrap();
        assert_eq!(database.tx().await.exported_up_to("a"), position);
        assert_eq!(database.store.known_exported_up_to("a"), position);
    }
    // Nobody takes the records away meanwhile and puts them back then.
    let mut tx = database.tx().await;
    assert!(queue(&mut tx, "a", 2, 1).await);
    tx.commit().await.unwrap();
    let mut tx = database.tx().await;
    let row = finished(&tx.queued_exports("a", 1).await.unwrap()[0], MADE);
    tx.record_export("switch", &row, "00", "").await.unwrap();
    leave_in_doubt(tx, true).await;
    database
        .tamper("CREATE TABLE kept AS SELECT * FROM audit")
        .await;
    let cut = "DELETE FROM audit WHERE sequence = (SELECT MAX(sequence) FROM audit)";
    database.tamper(cut).await;
    drop(database.tx().await);
    database.store.settle_exports("a", NOW).await.unwrap();
    assert_eq!(
        database.tx().await.exported_up_to("a"),
        3,
        "as if it had never been"
    );
    for back in ["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept"] {
        database.tamper(back).await;
    }
    drop(database.tx().await);
    let mut tx = database.tx().await;
    let refused = tx
        .record_export("switch", &row, "00", "")
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::ForeignTrail(_)), "{refused}");
    drop(tx);
    // As their MACs say.
    for (noted, expected) in [(6, 6), (4, 6)] {
        database.store.note_exported("a", noted);
        assert_eq!(database.store.known_exported_up_to("a"), expected);
    }
}

async fn marks_and_keys_go_their_way(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    let none = ExportMarks::default();
    assert_eq!(tx.export_marks("a").await.unwrap(), none);
    assert!(
        tx.set_export_marks("a", none).await.is_err(),
        "it has no line"
    );
    for device in 1..=4 {
        queue(&mut tx, "a", device, 1).await;
    }
    for row in tx.queued_exports("a", 3).await.unwrap() {
        let state = if row.position == 2 {
            ExportState::Skipped
        } else {
            ExportState::Made
        };
        let finished = finished(&row, state);
        assert_eq!(tx.finish_exports(&[&finished]).await.unwrap().len(), 1);
    }
    let marks = ExportMarks {
        sent: 3,
        acknowledged: 2,
        erased: 0,
    };
    tx.set_export_marks("a", marks).await.unwrap();
    assert_eq!(
        tx.export_targets().await.unwrap(),
        [("a".to_owned(), marks)]
    );
    for (sent, expected) in [(0, 1), (3, 4), (4, 5)] {
        assert_eq!(tx.first_unsent("a", sent).await.unwrap(), expected);
    }
    tx.note_arrived("a", 1, 2).await.unwrap();
    // What arrived before, and what did not.
    let later = "2027-01-01T00:00:00Z";
    for (behind, before, limit, expected) in [
        (0, Some(later), 10, Some(2)),
        (0, Some(later), 1, Some(1)),
        (2, Some(later), 10, None),
        (0, Some("2025-01-01T00:00:00Z"), 10, None),
        (0, None, 10, Some(4)),
        (4, None, 10, None),
    ] {
        let last = tx.last_to_erase("a", behind, before, limit).await.unwrap();
        assert_eq!(last, expected, "{behind} {before:?} {limit}");
    }
    tx.erase_exports("a", 1, 2).await.unwrap();
    let rows = tx.export_records("a", 1, 2).await.unwrap();
    let made = rows[0].made.as_ref().unwrap();
    assert_eq!(
        (rows[0].state, &*made.kcv, &made.exported),
        (ExportState::Erased, "A1B2C3", &None)
    );
    assert_eq!(rows[1].state, ExportState::Skipped);
    // What is in line when a target is closed.
    tx.erase_exports("a", 3, 4).await.unwrap();
    let states = positions(&mut tx, "a").await;
    assert_eq!(
        states[2..],
        [(3, ExportState::Erased), (4, ExportState::Erased)]
    );
    assert!(!queue(&mut tx, "a", 1, 1).await, "it has been there");
}

async fn confirmed_keys_come_in_pages(on: Dialect) {
    let database = Database::new(on).await;
    let mut tx = database.tx().await;
    assert!(tx.confirmed_keys("", "", 10).await.unwrap().is_empty());
    assert_eq!(tx.export_owner(&serial(1)).await.unwrap(), None);
    let model = Model::parse("M1").unwrap();
    for number in 1..=3 {
        tx.insert_device(&serial(number), &model).await.unwrap();
        for (version, state) in [(1, DeviceKeyState::Active), (2, DeviceKeyState::Pending)] {
            let key = DeviceKey {
                state,
                source: KeySource::Unique {
                    wrapped: Some(vec![u8::try_from(number).unwrap(), version]),
                },
                ..device_key(&serial(number), &slot(), version.into(), None)
            };
            assert!(tx.insert_device_key(&sealed(key)).await.unwrap());
        }
    }
    let page = tx.confirmed_keys("", "", 2).await.unwrap();
    let owner = tx.export_owner(&serial(3)).await.unwrap().unwrap();
    let confirmed = |number| {
        Ok(Confirmed {
            device: serial(number),
            slot: slot(),
            version: 1,
            owner: owner.clone(),
        })
    };
    assert_eq!(owner.model, model);
    assert_eq!(page, [confirmed(1), confirmed(2)]);
    let rest = tx.confirmed_keys("SN-2", "tmk", 2).await.unwrap();
    assert_eq!(rest, [confirmed(3)]);
    // Another's hand.
    let spoil = "UPDATE devices SET model = '\n' WHERE serial_number = 'SN-2'";
    edit(&mut tx, spoil).await;
    let all = tx.confirmed_keys("", "", 3).await.unwrap();
    let spoilt = Err(("SN-2".to_owned(), slot().to_string()));
    assert_eq!(all, [confirmed(1), spoilt, confirmed(3)]);
}
