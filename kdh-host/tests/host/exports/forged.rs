//! What somebody who writes to the database behind the host's back gets of exports: nothing.

use std::time::{Duration, Instant};

use hsm_modules::SOFTHSM;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{ExportRecord, ExportTarget, RevokeDeviceRequest, WithdrawRequest, export_target::Scope},
};
use tonic::Status;

use super::parties::{
    Party, SWITCH, agreed, assert_arrived, bytes, cmac, play, to_files, to_switch,
};
use crate::{
    database::Database,
    keeper::reason,
    stage::join,
    world::{self, KEY, assign_master_key},
};

/// A record in line, for whoever writes to the database.
fn line(target: &str, position: u64, device: &str, slot: &str, version: u32) -> String {
    format!("('{target}', {position}, '{device}', '{slot}', {version}, 'QUEUED', '', '')")
}

/// At once.
fn in_line(lines: &[String]) -> String {
    format!(
        "INSERT INTO export_records (target, position, device, slot, version, state, created_at, changed_at) VALUES {}",
        lines.join(", ")
    )
}

/// Of each record, in their order.
async fn states(database: &mut Database) -> Vec<String> {
    let states = "SELECT state FROM export_records ORDER BY target, position";
    database.column(states).await
}

/// Why records were skipped.
async fn reasons(database: &mut Database) -> Vec<String> {
    let reasons = "SELECT json_extract(detail, '$.why') FROM audit WHERE action = 'export.skipped' ORDER BY sequence";
    database.column(reasons).await
}

#[test]
fn what_was_destroyed_or_edited_before_it_was_made_is_skipped() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            stage.load(0).await;
            let good = stage.load(0).await;
            stage.load(1).await;
            stage.world.added(&mut stage.operator, "SN-3").await;
            assign_master_key(&mut stage.operator, "SN-3").await;
            let scoped = ExportTarget {
                scope: Some(Scope::Model("M1".to_owned())),
                slots: vec!["tmk".to_owned(), "pin".to_owned()],
                ..to_files()
            };
            let approval = agreed(&mut ada, &mut bob, scoped).await;

            // Lines that somebody else puts in: nothing is made of them but of the one that is good.
            database.keep("device_keys", "kept").await;
            database
                .edit("UPDATE device_keys SET header = 'D0000P0AB00E0000' WHERE device = 'SN-2'")
                .await;
            database
                .execute(&format!(
                    "INSERT INTO export_marks VALUES ('{}', 0, 0, 0)",
                    approval.id
                ))
                .await;
            let lines = [
                // What a newer version has replaced; good; changed behind the host's back; never confirmed; not there;
                // of a slot that it does not cover.
                line(&approval.id, 1, "SN-1", "tmk", 1),
                line(&approval.id, 2, "SN-1", "tmk", 2),
                line(&approval.id, 3, "SN-2", "tmk", 1),
                line(&approval.id, 4, "SN-3", "tmk", 1),
                line(&approval.id, 5, "SN-1", "tmk", 7),
                line(&approval.id, 6, "SN-1", "other", 1),
            ];
            database.edit(&in_line(&lines)).await;
            // It wakes who makes them.
            assert_eq!(ada.fill().await.unwrap(), 0);
            ada.until_made(6).await;
            assert_eq!(
                states(&mut database).await,
                [
                    "SKIPPED", "MADE", "SKIPPED", "SKIPPED", "SKIPPED", "SKIPPED"
                ]
            );
            let why = reasons(&mut database).await;
            assert_eq!(why[0], "it is DESTROYED", "{why:?}");
            assert!(why[1].contains("the MAC is not the one"), "{}", why[1]);
            assert_eq!(why[2], "it is PENDING");
            assert_eq!(why[3..], ["it is not in the database"; 2]);
            let (_, records) = ada.file(0, 0).await.unwrap();
            assert_eq!(records.len(), 6, "no position is missing");
            let skipped = &records[0];
            assert_eq!(
                (&*skipped.state, &*skipped.key, &*skipped.kcv),
                ("SKIPPED", "", "")
            );
            assert_eq!(skipped.mac, cmac(&KEY, &bytes(skipped)));
            assert_arrived(&records[1], 0, 2, &good);

            what_may_go_no_more_is_skipped(&mut ada, &approval.id, &mut database).await;

            // What was skipped for what was done to its row is put in line again when it is as it was, whatever was
            // done to the one before it.
            database
                .edit("UPDATE devices SET model = char(10) WHERE serial_number = 'SN-1'")
                .await;
            assert_eq!(ada.fill().await.unwrap(), 1);
            let standing = ada.until_made(9).await;
            assert_eq!(standing.last, 9);
            assert_eq!(states(&mut database).await[8], "MADE");
            database.edit("UPDATE devices SET model = 'M1'").await;

            // Nor what an operator has revoked and somebody else has put back.
            let revoke = RevokeDeviceRequest {
                serial_number: "SN-2".to_owned(),
                why: "stolen".to_owned(),
            };
            stage.operator.revoke_device(revoke).await.unwrap();
            database.edit("UPDATE devices SET state = 'BOUND'").await;
            database
                .edit("UPDATE export_records SET slot = 'no' WHERE position = 9")
                .await;
            let again = line(&approval.id, 10, "SN-2", "tmk", 1);
            database.edit(&in_line(&[again])).await;
            assert_eq!(ada.fill().await.unwrap(), 0);
            ada.until_made(10).await;
            assert_eq!(states(&mut database).await[9], "SKIPPED");
            let why = reasons(&mut database).await;
            assert_eq!(why.last().unwrap(), "its device was revoked");
            stage.host.stop().await;
        });
    });
}

/// What a target does not cover any more, and a device that nobody trusts any more.
async fn what_may_go_no_more_is_skipped(ada: &mut Party, target: &str, database: &mut Database) {
    database.put_back("device_keys", "kept").await;
    for (position, change, back, expected) in [
        (
            7,
            "model = 'M2'",
            "model = 'M1'",
            "the target does not cover it",
        ),
        (
            8,
            "state = 'REVOKED'",
            "state = 'BOUND'",
            "its device was revoked",
        ),
    ] {
        let change_it = |to| format!("UPDATE devices SET {to} WHERE serial_number = 'SN-2'");
        database.edit(&change_it(change)).await;
        database
            .edit(&in_line(&[line(target, position, "SN-2", "tmk", 1)]))
            .await;
        assert_eq!(ada.fill().await.unwrap(), 0);
        ada.until_made(position).await;
        database.edit(&change_it(back)).await;
        assert_eq!(reasons(database).await.last().unwrap(), expected);
    }
}

/// Each column of a record that is made, with another value that could stand there.
const EDITS: &[(&str, &str)] = &[
    ("target", "'00000000'"),
    ("position", "7"),
    ("device", "'SN-2'"),
    ("slot", "'pin'"),
    ("version", "7"),
    ("state", "'SKIPPED'"),
    ("state", "'ERASED'"),
    ("header", "'D0000P0AB00E0000'"),
    ("header", "NULL"),
    ("kind", "'AES-256'"),
    ("kcv_method", "'TDEA_ECB'"),
    ("kcv", "'A1B2C3D4E5'"),
    (
        "exported",
        "'00112233445566778899AABBCCDDEEFF0011223344556677'",
    ),
    ("exported", "NULL"),
    ("mac", "x'00112233445566778899aabbccddeeff'"),
    ("mac", "x'00'"),
    ("mac", "NULL"),
];

/// These say nothing of what leaves.
const HARMLESS: [&str; 3] = ["created_at", "changed_at", "acknowledged_at"];

#[test]
fn a_record_or_a_target_that_was_edited_is_refused_whatever_was_edited() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            agreed(&mut ada, &mut bob, to_files()).await;
            stage.load(0).await;
            ada.until_made(1).await;
            let whole = ada.file(1, 1).await.unwrap();
            let columns = database.columns("export_records").await;
            for column in &columns {
                let edited = EDITS.iter().any(|(edited, _)| edited == column);
                assert!(edited || HARMLESS.contains(&&**column), "{column}");
            }
            database.keep("export_records", "kept").await;
            for (column, value) in EDITS {
                database
                    .edit(&format!("UPDATE export_records SET {column} = {value}"))
                    .await;
                let refused = ada.file(1, 1).await.map(drop).unwrap_err();
                let expected = match (*column, *value) {
                    // It is not in this line any more.
                    ("target", _) => Reason::NotFound,
                    // There is none at its position that could be read.
                    ("position", _)
                    | ("state", "'ERASED'")
                    | ("header", "NULL")
                    | ("mac", "x'00'" | "NULL") => Reason::Internal,
                    _ => Reason::WrongState,
                };
                assert_eq!(refused.reason(), Some(expected), "{column} = {value}");
                database.put_back("export_records", "kept").await;
            }
            assert_eq!(ada.file(1, 1).await.unwrap(), whole);

            // The target: wider, redirected, under another key, of another form, by others.
            for (from, to) in [
                (
                    r#""receiver":null"#,
                    r#""receiver":{"name":"standby","key-sha256":"00"}"#,
                ),
                (r#""slots":[]"#, r#""slots":["pin"]"#),
                (r#""model":null"#, r#""model":"M2""#),
                ("zmkx.switch", "zmkx.other"),
                ("key-wrap", "tr31"),
            ] {
                let swap = |from: &str, to: &str| {
                    format!("UPDATE approvals SET subject = REPLACE(subject, '{from}', '{to}')")
                };
                database.edit(&swap(from, to)).await;
                let refused = ada.file(1, 1).await.map(drop).unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::NotFound), "{to}");
                // A terminal is not kept waiting by it, and nothing is made.
                stage.load(1).await;
                database.edit(&swap(to, from)).await;
            }
            for change in [
                "decided_by = 'cleo'",
                "asked_by = 'cleo'",
                "created_at = ''",
            ] {
                database.keep("approvals", "sealed").await;
                database
                    .edit(&format!("UPDATE approvals SET {change}"))
                    .await;
                let refused = ada.file(1, 1).await.map(drop).unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::NotFound), "{change}");
                database.put_back("approvals", "sealed").await;
            }
            a_closed_target_stays_closed(&mut ada, &mut bob, &mut database).await;
            a_hidden_target_is_closed_for_good(&mut ada, &mut bob, &mut database).await;
            // It starts without the rows of what is closed.
            database.edit("DELETE FROM approvals").await;
            stage.restart(async || {}).await.host.stop().await;
        });
    });
}

/// Whatever somebody who writes to the database says.
async fn a_closed_target_stays_closed(ada: &mut Party, bob: &mut Party, database: &mut Database) {
    // A closed one that somebody says is in force; and its row as it was, which the HSM has sealed.
    database.keep("approvals", "sealed").await;
    bob.close().await.unwrap();
    database
        .edit("UPDATE approvals SET state = 'APPROVED'")
        .await;
    assert_eq!(reason(ada.file(1, 1).await.map(drop)), Reason::NotFound);
    assert_eq!(reason(ada.fill().await), Reason::NotFound);
    database.put_back("approvals", "sealed").await;
    assert_eq!(reason(ada.file(1, 1).await.map(drop)), Reason::NotFound);
    assert_eq!(reason(ada.fill().await), Reason::NotFound);
    let standing = ada.show().await;
    assert!(standing.fault.contains("audit trail"), "{}", standing.fault);
}

/// Whether its row is gone, says that it is closed, or is from when it was to be approved.
async fn a_hidden_target_is_closed_for_good(
    ada: &mut Party,
    bob: &mut Party,
    database: &mut Database,
) {
    let delete = "DELETE FROM approvals";
    let to_be_approved = "INSERT INTO approvals SELECT * FROM asked";
    for (hide, by_name) in [
        (&[delete][..], true),
        (&[delete], false),
        (&["UPDATE approvals SET state = 'WITHDRAWN'"], true),
        (&[delete, to_be_approved], true),
        (&[delete, to_be_approved], false),
    ] {
        database.edit(delete).await;
        let id = ada.ask(to_files()).await.unwrap().id;
        database.keep("approvals", "asked").await;
        bob.approve(&id).await.unwrap();
        database.keep("approvals", "sealed").await;
        for hide in hide {
            database.edit(hide).await;
        }
        assert_eq!(reason(ada.file(1, 1).await.map(drop)), Reason::NotFound);
        let withdraw = WithdrawRequest {
            id: id.clone(),
            why: "another acquirer".to_owned(),
        };
        if by_name {
            assert_eq!(ada.close().await.unwrap(), id);
        } else {
            let withdrawn = ada.approvals.withdraw(withdraw.clone()).await.unwrap();
            let withdrawn = withdrawn.into_inner();
            assert_eq!(
                (&*withdrawn.state, &*withdrawn.ended_by),
                ("WITHDRAWN", "ada")
            );
        }
        let last = "SELECT action || json_extract(detail, '$.approval') FROM audit
                    WHERE action = 'approval.withdrawn' ORDER BY sequence DESC LIMIT 1";
        let last: String = database.value(last).await;
        assert_eq!(last, format!("approval.withdrawn{id}"));
        let again = reason(ada.close().await);
        assert_eq!(again, Reason::NotFound, "{hide:?}");
        // By its row it is in force again.
        database.execute(delete).await;
        database.put_back("approvals", "sealed").await;
        assert_eq!(reason(ada.file(1, 1).await.map(drop)), Reason::NotFound);
        assert_eq!(reason(ada.fill().await), Reason::NotFound, "{hide:?}");
        // It is put away as others are.
        bob.approvals.withdraw(withdraw).await.unwrap();
    }
}

/// Each has a record that left under a position made anew with another key, unless the trail is asked.
const MADE_ANEW: [&str; 4] = [
    "UPDATE export_records SET state = 'QUEUED' WHERE position = 1",
    "UPDATE export_records SET state = 'QUEUED', header = NULL, kind = NULL, kcv_method = NULL, kcv = NULL,
         exported = NULL, mac = NULL WHERE position = 1",
    "UPDATE export_records SET state = 'QUEUED', version = 2 WHERE position = 1",
    "UPDATE export_records SET state = 'QUEUED', device = 'SN-2', version = 1 WHERE position = 1",
];

#[test]
fn what_was_made_is_never_made_anew_under_its_position() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, mut switch] = parties;
            agreed(&mut ada, &mut bob, to_switch()).await;
            stage.load(0).await;
            ada.until_made(1).await;
            let first = switch.receive(0).await.unwrap().next().await.unwrap();
            // Keys that are as good, which nobody has put in line.
            database.edit("UPDATE approvals SET state = 'ASKED'").await;
            stage.load(0).await;
            stage.load(1).await;
            database
                .edit("UPDATE approvals SET state = 'APPROVED'")
                .await;
            database.keep("export_records", "kept").await;
            let refused = "store: record 1 for export target switch is not as the audit trail has it: its row was changed \
                           behind the host's back. Restore it from a backup of the database";
            for put_back in MADE_ANEW {
                database
                    .execute("DELETE FROM export_records WHERE position > 1")
                    .await;
                database.edit("UPDATE export_marks SET sent = 0").await;
                database.edit(put_back).await;
                ada.fill().await.unwrap();
                let standing = ada.until(|standing| !standing.fault.is_empty()).await;
                assert_eq!(
                    (&*standing.fault, standing.made),
                    (refused, 0),
                    "{put_back}"
                );
                // What is behind it is made, and does not overtake it.
                until_finished(&mut database).await;
                let refused = receive(&mut switch, 1).await.unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::Internal), "{put_back}");
                database
                    .execute("DELETE FROM export_records WHERE position = 1")
                    .await;
                database
                    .execute("INSERT INTO export_records SELECT * FROM kept")
                    .await;
                ada.fill().await.unwrap();
                ada.until(|standing| standing.fault.is_empty() && standing.made == standing.last)
                    .await;
                assert_eq!(receive(&mut switch, 1).await.unwrap(), first, "{put_back}");
            }

            // A host that did not see it happen.
            let put_back = "UPDATE export_records SET state = 'QUEUED' WHERE position = 1";
            let stage = stage.restart(async || database.edit(put_back).await).await;
            let mut ada = Party::new(stage.world, &stage.host, 0).await;
            let standing = ada.until(|standing| !standing.fault.is_empty()).await;
            assert_eq!((&*standing.fault, standing.made), (refused, 0));
            // Positions are not given out twice either.
            let last = standing.last;
            database.edit("DELETE FROM export_records").await;
            assert_eq!(ada.fill().await.unwrap(), 2);
            // The fault is over when the round is in which they are made.
            let standing = ada
                .until(|standing| standing.made == last + 2 && standing.fault.is_empty())
                .await;
            assert_eq!(standing.last, last + 2);
            let made =
                "SELECT json_extract(detail, '$.position') FROM audit WHERE action = 'export.made'
                     ORDER BY sequence";
            let made: Vec<i64> = database.column(made).await;
            assert!(made.is_sorted_by(|one, next| one < next), "{made:?}");

            // What has left was made, also when the trail does not say it.
            let cut = "DELETE FROM audit WHERE sequence >= (SELECT MAX(sequence) FROM audit WHERE action = 'export.made')";
            let stage = stage.restart(async || database.edit(cut).await).await;
            let mut ada = Party::new(stage.world, &stage.host, 0).await;
            let mut switch = Party::new(stage.world, &stage.host, SWITCH).await;
            let next = receive(&mut switch, last + 1).await.unwrap();
            assert_eq!(next.position, last + 1);
            let put_back = format!(
                "UPDATE export_records SET state = 'QUEUED' WHERE position = {}",
                last + 2
            );
            database.edit(&put_back).await;
            let standing = ada.until(|standing| !standing.fault.is_empty()).await;
            let refused = refused.replace("record 1", &format!("record {}", last + 2));
            assert_eq!((standing.fault, standing.made), (refused, last + 1));
            stage.host.stop().await;
        });
    });
}

/// The first record from a position on, as soon as the host has noticed that the call before is gone.
async fn receive(switch: &mut Party, position: u64) -> Result<ExportRecord, Status> {
    let mut line = world::until(async || {
        let line = switch.receive(position).await;
        line.inspect_err(|status| assert_eq!(status.reason(), Some(Reason::AlreadyExists)))
            .ok()
    })
    .await;
    line.next().await
}

/// Once no record waits but the first one.
async fn until_finished(database: &mut Database) {
    let waiting = "export_records WHERE state = 'QUEUED' AND position > 1";
    world::until(async || {
        let waiting = database.count(waiting).await;
        (waiting == 0).then_some(())
    })
    .await;
}

#[test]
fn a_device_counts_as_the_trail_says() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            let pilot = ExportTarget {
                scope: Some(Scope::Group("pilot".to_owned())),
                ..to_files()
            };
            agreed(&mut ada, &mut bob, pilot).await;
            let (first, second) = (stage.load(0).await, stage.load(1).await);
            assert_eq!(ada.fill().await.unwrap(), 0, "none of them is in it");
            let columns = |serial: &str, columns: &str| {
                format!("UPDATE devices SET {columns} WHERE serial_number = '{serial}'")
            };
            // Nobody has put it there; and of another model than it was, there rightly.
            join(&mut stage.operator, "pilot", &["SN-1"]).await;
            let forged = columns("SN-2", "group_name = 'pilot'");
            database.edit(&forged).await;
            database.edit(&columns("SN-1", "model = 'M2'")).await;
            assert_eq!(ada.fill().await.unwrap(), 2);
            ada.until_made(2).await;
            assert_eq!(states(&mut database).await, ["SKIPPED", "SKIPPED"]);
            let expected = ["SN-1", "SN-2"].map(|serial| {
                format!(
                    "the model or the group of {serial} is not as the audit trail has it: its row was changed behind \
                     the host's back. Restore it from a backup of the database"
                )
            });
            assert_eq!(reasons(&mut database).await, expected);
            // As operators have them.
            database.edit(&columns("SN-1", "model = 'M1'")).await;
            database.edit(&columns("SN-2", "group_name = NULL")).await;
            join(&mut stage.operator, "pilot", &["SN-2"]).await;
            assert_eq!(ada.fill().await.unwrap(), 2);
            ada.until_made(4).await;
            let (_, records) = ada.file(0, 0).await.unwrap();
            assert_arrived(&records[2], 0, 1, &first);
            assert_arrived(&records[3], 1, 1, &second);

            // The target of a model in the same way.
            bob.close().await.unwrap();
            let other = ExportTarget {
                scope: Some(Scope::Model("M2".to_owned())),
                ..to_files()
            };
            agreed(&mut ada, &mut bob, other).await;
            database.edit(&columns("SN-2", "model = 'M2'")).await;
            assert_eq!(ada.fill().await.unwrap(), 1);
            ada.until_made(1).await;
            assert_eq!(reasons(&mut database).await[2..], expected[1..]);
            stage.host.stop().await;
        });
    });
}

#[test]
fn keys_are_erased_when_the_trail_says_that_a_target_is_closed_and_not_before() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            let mut ids = Vec::new();
            for name in ["switch", "batch"] {
                let target = ExportTarget {
                    name: name.to_owned(),
                    ..to_files()
                };
                ids.push(agreed(&mut ada, &mut bob, target).await.id);
            }
            stage.load(0).await;
            for name in ["switch", "batch"] {
                let mut is_made = async || ada.list(name, "", 1).await.remove(0).made == 1;
                world::until(async || is_made().await.then_some(())).await;
            }
            // They are looked at in this order.
            ids.sort_unstable();
            let [kept, closed] = &ids[..] else {
                unreachable!()
            };
            // Before its keys are erased, the one that is closed is as if it never was; and the other one is as if it was.
            database.execute("CREATE TRIGGER refused BEFORE UPDATE ON export_records WHEN NEW.state = 'ERASED'
                 BEGIN SELECT RAISE(ABORT, 'a test'); END",
            )
            .await;
            database.keep("approvals", "sealed").await;
            let withdraw = WithdrawRequest {
                id: closed.clone(),
                why: "over".to_owned(),
            };
            bob.approvals.withdraw(withdraw).await.unwrap();
            database.put_back("approvals", "sealed").await;
            let over = format!("UPDATE approvals SET state = 'WITHDRAWN' WHERE id = '{kept}'");
            database.edit(&over).await;
            database.execute("DROP TRIGGER refused").await;
            // It wakes who erases.
            let another = ExportTarget {
                name: "another".to_owned(),
                ..to_files()
            };
            agreed(&mut ada, &mut bob, another).await;
            let has_key =
                |id: &str| format!("export_records WHERE target = '{id}' AND exported IS NOT NULL");
            let of_closed = has_key(closed);
            world::until(async || (database.count(&of_closed).await == 0).then_some(())).await;
            assert_eq!(database.count(&has_key(kept)).await, 1);
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_long_line_does_not_keep_other_targets_waiting() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            let busy = agreed(&mut ada, &mut bob, to_files()).await.id;
            let other = ExportTarget {
                name: "other".to_owned(),
                ..to_files()
            };
            let other = agreed(&mut ada, &mut bob, other).await.id;
            // Of which nothing can be made, so that each is one more that is skipped. They are there when it is first
            // looked for them.
            let mut lines: Vec<_> = (1..=1100)
                .map(|position| line(&busy, position, "SN-9", "tmk", 1))
                .collect();
            lines.push(line(&other, 1, "SN-9", "tmk", 1));
            let put_in_line = async || {
                database.execute("DROP INDEX exported_once").await;
                for target in [&busy, &other] {
                    let marks = format!("INSERT INTO export_marks VALUES ('{target}', 0, 0, 0)");
                    database.edit(&marks).await;
                }
                database.edit(&in_line(&lines)).await;
            };
            let stage = stage.restart(put_in_line).await;
            let mut ada = Party::new(stage.world, &stage.host, 0).await;
            let mut bob = Party::new(stage.world, &stage.host, 1).await;
            ada.until_made(1100).await;
            let targets =
                "SELECT json_extract(detail, '$.target') FROM audit WHERE action = 'export.skipped'
                 ORDER BY sequence";
            let targets: Vec<String> = database.column(targets).await;
            let before = targets.iter().position(|target| *target == other);
            assert_eq!((before, targets.len()), (Some(1024), 1101));

            // Nor do other writers wait until all of it is put down as arrived.
            assert_eq!(ada.file(0, 0).await.unwrap().1.len(), 1100);
            // What has left before takes its time, and little of the HSM: 18 batches, of which 8 go at once.
            let begun = Instant::now();
            assert_eq!(ada.file(0, 0).await.unwrap().1.len(), 1100);
            assert!(begun.elapsed() >= Duration::from_secs(1));
            assert_eq!(ada.acknowledge_file(1100).await.unwrap(), 1100);
            let acknowledged =
                "SELECT json_extract(detail, '$.from') || '-' || json_extract(detail, '$.to')
                 FROM audit
                 WHERE action = 'export.acknowledged' ORDER BY sequence";
            let acknowledged: Vec<String> = database.column(acknowledged).await;
            assert_eq!(acknowledged, ["1-1000", "1001-1100"]);

            // Nor a target until all that was another's is erased.
            let mut lines: Vec<_> = (1101..=6000)
                .map(|position| {
                    line(&busy, position, "SN-9", "tmk", 1).replace("QUEUED", "SKIPPED")
                })
                .collect();
            lines.extend((2..=1100).map(|position| line(&other, position, "SN-9", "tmk", 1)));
            database.edit(&in_line(&lines)).await;
            bob.close().await.unwrap();
            let passed: Vec<(String, i64)> = world::until(async || {
                let passed = "SELECT action, COALESCE(json_extract(detail, '$.position'), json_extract(detail, '$.to'))
                              FROM audit WHERE action IN ('export.skipped', 'export.erased') ORDER BY sequence";
                let passed: Vec<(String, i64)> = database.rows(passed).await;
                let count = |action| passed.iter().filter(|(passed, _)| passed == action).count();
                (count("export.skipped") == 2200 && count("export.erased") == 6).then_some(passed)
            })
            .await;
            assert_eq!(passed.last().unwrap(), &("export.erased".to_owned(), 6000));
            stage.host.stop().await;
        });
    });
}
