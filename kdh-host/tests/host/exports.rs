//! Keys of terminals for a payment switch: what two operators agree on, what leaves, what arrives, and what does not.

mod forged;
pub(crate) mod parties;

use hsm::KeyName;
use hsm_modules::{
    KRYOPTIC, SOFTHSM,
    makers::{key_unwrap, tr31_opened},
};
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        Approval, AskTargetRequest, ExportTarget, ListTargetsRequest, MakeFileRequest,
        RejectRequest, TargetStanding, export_target::Scope, file_part::Part,
    },
};
use sha2::{Digest as _, Sha256};

use self::parties::{
    KBPK, Party, STANDBY, ZMK, agreed, assert_arrived, bytes, cmac, in_best_form, joined, play,
    play_with, shared_key, to_files, to_switch,
};
use crate::{
    database::Database,
    derived_keys::{bring_bdks, derive_from_now_on, initial_key, register_bdks},
    keeper::{agree_on_rotation, keepers, reason},
    stage::Stage,
    world::{self, KEY, bring_key, bring_swapped_key, open},
};

/// Action, device and detail of what the trail has of exports.
async fn trail(database: &mut Database) -> Vec<(String, String)> {
    database
        .rows("SELECT action, device FROM audit WHERE action LIKE 'export.%' ORDER BY sequence")
        .await
}

#[test]
fn a_switch_gets_each_key_that_a_terminal_confirms() {
    world::on(&[&SOFTHSM, &KRYOPTIC], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, mut switch] = parties;
            let before = stage.load(0).await;
            let target = in_best_form(place, to_switch());
            let approval = agreed(&mut ada, &mut bob, target).await;
            assert_eq!(approval.state, "APPROVED");
            let standing = ada.show().await;
            assert_eq!(
                (standing.last, standing.acknowledged, standing.kept_from),
                (0, 0, 1)
            );
            let told = standing.target.unwrap();
            let certificate = stage.world.certificate("switch.pem");
            assert_eq!(
                (&*told.receiver, told.receiver_key_sha256),
                (
                    "switch",
                    hex::encode(certificate.public_key().fingerprint())
                )
            );

            // Confirmed from now on: it wakes the switch that waits.
            let mut line = switch.receive(0).await.unwrap();
            let own = stage.load(1).await;
            let first = line.next().await.unwrap();
            assert_eq!((first.position, &first.target), (1, &approval.id));
            assert_arrived(&first, 1, 1, &own);
            // Confirmed before.
            assert_eq!(ada.fill().await.unwrap(), 1);
            assert_eq!(ada.fill().await.unwrap(), 0, "both are in line");
            let second = line.next().await.unwrap();
            assert_eq!(second.position, 2);
            assert_arrived(&second, 0, 1, &before);
            line.acknowledge(1);
            let next = stage.load(0).await;
            assert_arrived(&line.next().await.unwrap(), 0, 2, &next);
            ada.until(|standing| standing.acknowledged == 1).await;
            drop(line);

            // From the mark on, and from before it. The host notices when it writes next.
            let mut line = world::until(async || {
                let line = switch.receive(0).await;
                line.inspect_err(|status| {
                    assert_eq!(status.reason(), Some(Reason::AlreadyExists));
                })
                .ok()
            })
            .await;
            assert_eq!(line.next().await.unwrap(), second);
            assert_eq!(
                reason(switch.receive(0).await.map(drop)),
                Reason::AlreadyExists
            );
            // Beyond what was sent.
            line.acknowledge(9);
            let third = line.next().await.unwrap();
            assert_eq!(third.position, 3);
            let refused = line.next().await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::RequestInvalid));
            assert_eq!(
                refused.message(),
                "record 9 for switch has not left: the last one that has is 3"
            );
            let mut again = switch.receive(1).await.unwrap();
            assert_eq!(again.next().await.unwrap(), first, "the same bytes");
            drop(again);

            let trail = trail(&mut database).await;
            let made: Vec<_> = trail
                .iter()
                .filter(|(action, _)| action == "export.made")
                .map(|(_, device)| &**device)
                .collect();
            assert_eq!(made, ["SN-2", "SN-1", "SN-1"]);
            let expected: String = hex::encode(Sha256::digest(bytes(&first)));
            let noted =
                "SELECT json_extract(detail, '$.sha256') FROM audit WHERE action = 'export.made'
                 ORDER BY sequence LIMIT 1";
            let noted: String = database.value(noted).await;
            assert_eq!(noted, expected);
            stage.host.stop().await;
        });
    });
}

#[test]
fn an_initial_key_goes_out_with_its_id() {
    world::on(&[&SOFTHSM, &KRYOPTIC], |place| {
        play_with(place, bring_bdks, async |mut stage, parties, _| {
            let [mut ada, mut bob, _] = parties;
            register_bdks(&mut stage).await;
            // The terminal's own header does not say whose the key is.
            derive_from_now_on(&mut stage, false).await;
            let target = in_best_form(place, to_files());
            let is_block = target.form == "tr31";
            agreed(&mut ada, &mut bob, target).await;
            "D0000B1AX00N0000".clone_into(&mut stage.header);
            let kcv = stage.load(0).await;
            ada.until_made(1).await;
            let (_, records) = ada.file(0, 0).await.unwrap();
            let [record] = &records[..] else {
                panic!("{records:?}")
            };
            assert_eq!((&*record.state, &record.header), ("KEY", &stage.header));
            assert_eq!(record.kcv, hex::encode_upper(kcv));
            assert_eq!(record.mac, cmac(&KEY, &bytes(record)));
            let expected = initial_key(1);
            if is_block {
                let opened = tr31_opened(&KEY, std::slice::from_ref(&record.key)).remove(0);
                let words: Vec<_> = opened.split(' ').collect();
                assert_eq!(words[..2], [&*stage.header, "IK=1234567800000001"]);
                assert_eq!(words.last(), Some(&&*hex::encode(expected)));
            } else {
                let wrapped = hex::decode(&record.key).unwrap();
                assert_eq!(key_unwrap(&KEY, &wrapped), expected);
            }
            stage.host.stop().await;
        });
    });
}

#[test]
fn what_no_two_operators_have_agreed_on_leaves_nothing() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, mut switch] = parties;
            let mut cleo = Party::new(stage.world, &stage.host, 2).await;
            let mut standby = Party::new(stage.world, &stage.host, STANDBY).await;

            refuses_targets(&mut ada).await;
            for nobody in [&mut cleo, &mut switch] {
                assert_eq!(reason(nobody.ask(to_switch()).await), Reason::RoleMissing);
            }
            // One operator is not enough.
            let asked = ada.ask(to_switch()).await.unwrap();
            assert_eq!(reason(ada.approve(&asked.id).await), Reason::SameOperator);
            assert_eq!(reason(cleo.approve(&asked.id).await), Reason::RoleMissing);
            assert_eq!(reason(switch.approve(&asked.id).await), Reason::RoleMissing);
            assert_eq!(reason(bob.ask(to_files()).await), Reason::AlreadyExists);
            stage.load(0).await;
            assert_eq!(reason(ada.fill().await), Reason::NotFound);
            assert_eq!(reason(switch.receive(0).await.map(drop)), Reason::NotFound);
            assert_eq!(ada.show().await.last, 0);

            bob.approve(&asked.id).await.unwrap();
            // Somebody else's certificate.
            for operator in [&mut ada, &mut cleo] {
                assert_eq!(
                    reason(operator.receive(0).await.map(drop)),
                    Reason::RoleMissing
                );
            }
            assert_eq!(
                reason(standby.receive(0).await.map(drop)),
                Reason::IdentityMismatch
            );
            for (call, refused) in [
                ("file", reason(ada.file(0, 0).await.map(drop))),
                ("ack", reason(ada.acknowledge_file(0).await)),
            ] {
                assert_eq!(refused, Reason::WrongState, "{call}");
            }
            assert_eq!(ada.fill().await.unwrap(), 1);
            ada.until_made(1).await;
            // Where there is nothing yet, and behind one that has not left.
            for position in [3, 2] {
                let refused = switch.receive(position).await.map(drop).unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::RequestInvalid));
                assert_eq!(
                    refused.message(),
                    "records for switch leave one after another: begin with 1, or before it"
                );
            }
            let mut line = switch.receive(0).await.unwrap();
            assert_eq!(line.next().await.unwrap().position, 1);
            // A second one.
            assert_eq!(
                reason(switch.receive(0).await.map(drop)),
                Reason::AlreadyExists
            );

            // Closed: the call ends, nothing is left, and it does not come back.
            for nobody in [&mut cleo, &mut switch] {
                assert_eq!(reason(nobody.close().await), Reason::RoleMissing);
            }
            assert_eq!(bob.close().await.unwrap(), asked.id);
            assert_eq!(
                line.next().await.unwrap_err().reason(),
                Some(Reason::WrongState)
            );
            assert_eq!(reason(bob.close().await), Reason::NotFound);
            assert_eq!(reason(switch.receive(1).await.map(drop)), Reason::NotFound);
            assert_eq!(reason(bob.approve(&asked.id).await), Reason::WrongState);
            stage.load(1).await;
            let standing = ada.until(|standing| standing.kept_from == 2).await;
            assert_eq!(standing.last, 1);
            let kept: i64 = database
                .value("SELECT COUNT(*) FROM export_records WHERE exported IS NOT NULL")
                .await;
            assert_eq!(kept, 0);
            assert_eq!(standing.approval.unwrap().state, "WITHDRAWN");
            // A new one begins anew.
            let again = ada.ask(to_files()).await.unwrap();
            let reject = RejectRequest { id: again.id };
            ada.approvals.reject(reject).await.unwrap();
            let again = agreed(&mut ada, &mut bob, to_files()).await;
            assert_ne!(again.id, asked.id);
            assert_eq!(ada.show().await.last, 0);
            targets_come_in_pages(&mut ada).await;
            a_spoilt_target_hides_no_other(&mut ada, &mut database).await;
            an_operator_asks_for_so_many_at_a_time(&mut ada, &mut bob, &mut database).await;
            stage.host.stop().await;
        });
    });
}

/// Those that there are by now, of which the newest is in force.
async fn targets_come_in_pages(ada: &mut Party) {
    let other = ExportTarget {
        name: "switch-2".to_owned(),
        ..to_files()
    };
    let other = ada.ask(other).await.unwrap().id;
    let id = |standing: &TargetStanding| standing.approval.as_ref().unwrap().id.clone();
    let all: Vec<_> = ada.list("", "", 0).await.iter().map(id).collect();
    assert_eq!((all.len(), &all[0]), (4, &other));
    for (name, expected) in [
        ("", &all[..]),
        ("switch", &all[1..]),
        ("switch-2", &all[..1]),
    ] {
        let mut found = Vec::<String>::new();
        loop {
            let before = found.last().cloned().unwrap_or_default();
            let page = ada.list(name, &before, 2).await;
            found.extend(page.iter().map(id));
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(found, expected, "{name}");
    }
    assert!(ada.list("switc", "", 0).await.is_empty());
}

/// What an intruder makes of the row of a target.
const SPOILT: [&str; 5] = [
    "state = 'X'",
    "subject = subject || ' '",
    "asked_by = 'bob'",
    "storage_key = 9",
    "mac = NULL",
];

/// The newest is spoilt: it is told as that, and of the others everything.
async fn a_spoilt_target_hides_no_other(ada: &mut Party, database: &mut Database) {
    let before = ada.list("", "", 0).await;
    let id = before[0].approval.clone().unwrap().id;
    database.keep("approvals", "whole").await;
    database.keep("export_marks", "marks").await;
    for change in SPOILT {
        let spoil = format!("UPDATE approvals SET {change} WHERE id = '{id}'");
        database.edit(&spoil).await;
        let listed = ada.list("", "", 0).await;
        let refused = TargetStanding {
            approval: Some(Approval {
                id: id.clone(),
                state: "REFUSED".to_owned(),
                ..Approval::default()
            }),
            ..TargetStanding::default()
        };
        assert_eq!(listed[0], refused, "{change}");
        assert_eq!(listed[1..], before[1..], "{change}");
        database.put_back("approvals", "whole").await;
    }
    let named =
        "SELECT json_extract(detail, '$.row') FROM audit WHERE action = 'storage.row-refused'";
    let named: Vec<String> = database.column(named).await;
    assert_eq!(named, [format!("approval {id}")], "once");
    for value in ["-1", "'many'"] {
        let spoil = format!("UPDATE export_marks SET sent = {value}");
        database.edit(&spoil).await;
        let faults = ada.list("", "", 0).await.into_iter();
        let faults: Vec<_> = faults.map(|standing| standing.fault).collect();
        let fault = "the database holds a damaged export record";
        assert_eq!(faults, ["", "", "", fault], "{value}");
        database.put_back("export_marks", "marks").await;
    }
    assert_eq!(ada.list("", "", 0).await, before);
}

/// Whoever asks without end does not have the others go through all of it.
async fn an_operator_asks_for_so_many_at_a_time(
    ada: &mut Party,
    bob: &mut Party,
    database: &mut Database,
) {
    let called = |number: u32| ExportTarget {
        name: format!("many-{number}"),
        ..to_files()
    };
    // What somebody has made up in her name does not count.
    database.edit("WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 32)
         INSERT INTO approvals (id, act, subject, state, asked_by, why, expires_at, created_at, changed_at, storage_key,
             mac)
         SELECT 'forged-' || n, act, 'forged ' || n, state, asked_by, why, expires_at, created_at, changed_at,
             storage_key, mac FROM approvals, counted WHERE state = 'ASKED'")
    .await;
    // One waits already.
    let mut last = ada.ask(called(1)).await.unwrap().id;
    database
        .edit("DELETE FROM approvals WHERE id LIKE 'forged-%'")
        .await;
    for number in 2..32 {
        last = ada.ask(called(number)).await.unwrap().id;
    }
    let refused = ada.ask(called(32)).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::WrongState));
    assert_eq!(
        refused.message(),
        "ada has asked for 32 of this kind that nobody has decided: have them approved, or reject some (kdhctl approval \
         list)"
    );
    bob.ask(called(33)).await.unwrap();
    let reject = RejectRequest { id: last };
    ada.approvals.reject(reject).await.unwrap();
    ada.ask(called(32)).await.unwrap();
}

type Change = fn(&mut ExportTarget);

const UNSUPPORTED: &str = "exporting a key by tr31 inside is not possible with this module, which lacks \
                           CKM_SP800_108_COUNTER_KDF and CKM_CONCATENATE_DATA_AND_BASE and \
                           CKM_CONCATENATE_BASE_AND_DATA";

/// Each differs in one thing from what is asked for.
const BAD_TARGETS: [(Change, Reason, &str); 18] = [
    (
        |t| t.name = "Switch".into(),
        Reason::RequestInvalid,
        "\"Switch\" is no name of an export target: 1 to 64 of a-z, 0-9 and '-'",
    ),
    (
        |t| t.form = "pgp".into(),
        Reason::RequestInvalid,
        "form: \"pgp\" is not key-wrap or tr31",
    ),
    (
        |t| t.form = "tr31".into(),
        Reason::RequestInvalid,
        "zmkx.switch is a key for key-wrap, not for tr31",
    ),
    (
        |t| {
            t.form = "tr31".into();
            t.under = Some(shared_key(KBPK));
        },
        Reason::HsmUnsupported,
        UNSUPPORTED,
    ),
    (
        |t| t.under = None,
        Reason::RequestInvalid,
        "under: no key is named",
    ),
    (
        |t| t.under = Some(shared_key("zmkx.none")),
        Reason::NotFound,
        "no key is called zmkx.none",
    ),
    (
        |t| t.under = Some(shared_key("kn.test")),
        Reason::RequestInvalid,
        "export a key is not for a key of the role transport key",
    ),
    // The HSM is not asked for it.
    (
        |t| t.under = Some(shared_key("kn.none")),
        Reason::RequestInvalid,
        "export a key is not for a key of the role transport key",
    ),
    (
        |t| t.mac = Some(shared_key(ZMK)),
        Reason::RequestInvalid,
        "export a key is not for a key of the role ZMK for export",
    ),
    (
        |t| t.under.as_mut().unwrap().kind = "TDEA-3KEY".into(),
        Reason::RequestInvalid,
        "under: its kind is AES-128, AES-192 or AES-256",
    ),
    (
        |t| t.mac.as_mut().unwrap().kcv.as_mut().unwrap().value.push(0),
        Reason::RequestInvalid,
        "mac: its check value is 3 bytes by AES-CMAC, as the ceremony reported it",
    ),
    (
        |t| t.mac.as_mut().unwrap().kcv.as_mut().unwrap().value[0] ^= 1,
        Reason::KcvMismatch,
        "the key does not have the check value D5B1C0",
    ),
    (
        |t| t.under.as_mut().unwrap().kcv.as_mut().unwrap().value[2] ^= 1,
        Reason::KcvMismatch,
        "the key does not have the check value D4B1C1",
    ),
    (
        |t| t.scope = Some(Scope::Group("Pilot".to_owned())),
        Reason::RequestInvalid,
        "\"Pilot\" is no name of a device group: 1 to 64 of a-z, 0-9 and '-'",
    ),
    (
        |t| t.slots = vec!["TMK".to_owned()],
        Reason::RequestInvalid,
        "\"TMK\" is no slot: 1 to 24 of a-z, 0-9 and '-'",
    ),
    (
        |t| t.receiver = "nobody".into(),
        Reason::NotFound,
        "\"nobody\" is not in the host's configuration with the role switch: add its certificate there",
    ),
    (
        |t| t.receiver = "ada".into(),
        Reason::NotFound,
        "\"ada\" is not in the host's configuration with the role switch: add its certificate there",
    ),
    (
        |t| t.receiver_key_sha256 = "00".repeat(32),
        Reason::RequestInvalid,
        "the host takes the receiver's key from its configuration: leave it out",
    ),
];

async fn refuses_targets(ada: &mut Party) {
    for (change, reason, cause) in BAD_TARGETS {
        let mut target = to_switch();
        change(&mut target);
        let refused = ada.ask(target).await.unwrap_err();
        assert_eq!((refused.reason(), refused.message()), (Some(reason), cause));
    }
    let nothing = AskTargetRequest {
        target: None,
        why: "x".to_owned(),
    };
    let refused = ada.exports.ask_target(nothing).await.unwrap_err();
    assert_eq!(refused.message(), "no target is described");
}

/// Which records have left, as they did.
const SENT: &str =
    "SELECT json_extract(detail, '$.from') || '-' || json_extract(detail, '$.to') FROM audit
                    WHERE action = 'export.sent' ORDER BY sequence";

/// One record, and so many in line behind it that there are 300, of which nothing can be made.
async fn line_up(
    stage: &mut Stage<'_>,
    ada: &mut Party,
    database: &mut Database,
    approval: &Approval,
) {
    stage.load(0).await;
    ada.until_made(1).await;
    let many = format!(
        "WITH RECURSIVE counted (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM counted WHERE n < 300)
         INSERT INTO export_records (target, position, device, slot, version, state, created_at, changed_at)
         SELECT '{}', n, 'SN-9', 'tmk', n, 'QUEUED', '', '' FROM counted",
        approval.id
    );
    database.edit(&many).await;
    assert_eq!(ada.fill().await.unwrap(), 0);
    ada.until_made(300).await;
}

#[test]
fn a_switch_gets_no_more_than_it_acknowledges_whatever_happens_meanwhile() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, mut switch] = parties;
            let approval = agreed(&mut ada, &mut bob, to_switch()).await;
            line_up(&mut stage, &mut ada, &mut database, &approval).await;

            let mut line = switch.receive(0).await.unwrap();
            for position in 1..=256 {
                assert_eq!(line.next().await.unwrap().position, position);
            }
            assert_eq!(ada.show().await.sent, 256);
            line.acknowledge(10);
            for position in 257..=266 {
                assert_eq!(line.next().await.unwrap().position, position);
            }
            assert_eq!(ada.show().await.sent, 266);
            // Whoever says much has little written.
            database.execute("BEGIN IMMEDIATE").await;
            for position in 11..=266 {
                line.acknowledge(position);
            }
            ada.show().await;
            database.execute("COMMIT").await;
            for position in 267..=300 {
                assert_eq!(line.next().await.unwrap().position, position);
            }
            ada.until(|standing| standing.acknowledged == 266).await;
            let written: i64 = database
                .value("SELECT COUNT(*) FROM audit WHERE action = 'export.acknowledged'")
                .await;
            assert!((2..32).contains(&written), "{written}");

            // What has left leaves again, which is put down once.
            drop(line);
            let before: Vec<String> = database.column(SENT).await;
            let mut line = world::until(async || switch.receive(1).await.ok()).await;
            for position in 1..=256 {
                assert_eq!(line.next().await.unwrap().position, position);
            }
            line.acknowledge(256);
            for position in 257..=300 {
                assert_eq!(line.next().await.unwrap().position, position);
            }
            let after: Vec<String> = database.column(SENT).await;
            assert_eq!(after[before.len()..], ["1-300"]);

            // The target stays in force, and the call goes on, when the storage keys are changed.
            let [mut asking, mut approving, _] = keepers(stage.world, &stage.host).await;
            agree_on_rotation(&mut asking, &mut approving).await;
            asking
                .until(|shown| {
                    let mut pairs = shown.pairs.iter();
                    pairs.any(|pair| pair.number == 2 && pair.state == "PRESENT")
                        && shown
                            .pairs
                            .iter()
                            .all(|pair| pair.number == 2 || pair.rows == 0)
                })
                .await;
            let kcv = stage.load(1).await;
            let record = line.next().await.unwrap();
            assert_eq!(record.position, 301);
            assert_arrived(&record, 1, 1, &kcv);

            // The host stops without waiting for the switch.
            stage.host.stop().await;
            let ended = line.next().await.unwrap_err();
            assert_eq!(ended.message(), "the host is stopping");
        });
    });
}

#[test]
fn the_same_records_make_the_same_file() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            let approval = agreed(&mut ada, &mut bob, to_files()).await;
            assert_eq!(reason(ada.file(0, 0).await.map(drop)), Reason::NotFound);
            let mut kcvs = Vec::new();
            for terminal in [0, 1, 0] {
                kcvs.push(stage.load(terminal).await);
                ada.until_made(kcvs.len() as u64).await;
            }
            // One that is left out would count as arrived.
            let early = ada.file(2, 3).await.unwrap_err();
            assert_eq!(early.reason(), Some(Reason::RequestInvalid));
            // Behind one that is not as it was made, none has left.
            database
                .execute("CREATE TABLE macs AS SELECT position, mac FROM export_records")
                .await;
            database
                .edit("UPDATE export_records SET mac = zeroblob(16) WHERE position = 2")
                .await;
            assert_eq!(reason(ada.file(0, 0).await.map(drop)), Reason::WrongState);
            let early = ada.acknowledge_file(2).await.unwrap_err();
            assert_eq!(
                early.message(),
                "record 2 for switch has not left: the last one that has is 1"
            );
            database.edit("UPDATE export_records SET mac = (SELECT mac FROM macs WHERE macs.position = export_records.position)")
            .await;
            let (header, records) = ada.file(0, 2).await.unwrap();
            assert_eq!(records.len(), 2);
            assert_arrived(&records[0], 0, 1, &kcvs[0]);
            assert_arrived(&records[1], 1, 1, &kcvs[1]);
            let digest = Sha256::new()
                .chain_update(&records[0].mac)
                .chain_update(&records[1].mac);
            let digest = hex::encode(digest.finalize());
            assert_eq!(
                (header.from, header.to, header.count, &header.records_sha256),
                (1, 2, 2, &digest)
            );
            let expected = joined(&[
                "kdh-export-file-1",
                &approval.id,
                "switch",
                "key-wrap",
                "D4B1C0",
                "1",
                "2",
                "2",
                &digest,
            ]);
            assert_eq!(header.mac, cmac(&KEY, &expected));
            let same = ada.file(1, 2).await.unwrap();
            assert_eq!(same, (header, records));

            // What has not left has not arrived, and what has arrived does not come back.
            let early = ada.acknowledge_file(3).await.unwrap_err();
            assert_eq!(
                early.message(),
                "record 3 for switch has not left: the last one that has is 2"
            );
            // Nor has what was never made left, whatever the mark says.
            database
                .edit("UPDATE export_marks SET sent = 9223372036854775807")
                .await;
            assert_eq!(reason(ada.file(1, 2).await), Reason::WrongState);
            assert_eq!(reason(ada.acknowledge_file(3).await), Reason::WrongState);
            database.edit("UPDATE export_marks SET sent = 2").await;
            assert_eq!(ada.acknowledge_file(2).await.unwrap(), 2);
            assert_eq!(ada.acknowledge_file(1).await.unwrap(), 2);
            let (next, records) = ada.file(0, 0).await.unwrap();
            assert_eq!((next.from, next.to, records.len()), (3, 3, 1));
            for (from, to) in [(4, 0), (2, 4), (4, 2)] {
                assert_eq!(reason(ada.file(from, to).await.map(drop)), Reason::NotFound);
            }
            let backwards = ada.file(3, 2).await.map(drop);
            assert_eq!(reason(backwards), Reason::RequestInvalid);

            // When they are kept no more.
            stage.host.stop().await;
            database
                .edit(
                    "UPDATE export_records SET acknowledged_at = '2020-01-01T00:00:00Z'
                 WHERE acknowledged_at IS NOT NULL",
                )
                .await;
            let host = stage.world.serve().await;
            let mut ada = Party::new(stage.world, &host, 0).await;
            ada.until(|standing| standing.kept_from == 3).await;
            let gone = ada.file(2, 3).await.unwrap_err();
            assert_eq!(gone.reason(), Some(Reason::WrongState));
            assert_eq!(
                gone.message(),
                "records for switch up to 2 are not kept any more: begin with 3"
            );
            let kept: Vec<i64> = database
                .column("SELECT position FROM export_records WHERE exported IS NOT NULL")
                .await;
            assert_eq!(kept, [3]);
            assert_eq!(ada.file(3, 3).await.unwrap().1, records);
            host.stop().await;
        });
    });
}

/// Whatever it is that others send meanwhile.
#[test]
fn what_leaves_again_is_put_down_each_time_that_others_were_quicker() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            let approval = agreed(&mut ada, &mut bob, to_files()).await;
            line_up(&mut stage, &mut ada, &mut database, &approval).await;
            database
                .execute(
                    "CREATE TRIGGER quicker AFTER INSERT ON audit WHEN NEW.action = 'export.sent' BEGIN
                     UPDATE export_marks SET sent = CASE (SELECT COUNT(*) FROM audit WHERE action = 'export.sent')
                     WHEN 1 THEN 192 WHEN 3 THEN 300 ELSE sent END; END",
                )
                .await;
            let (_, records) = ada.file(0, 0).await.unwrap();
            assert_eq!(records.len(), 300);
            let sent: Vec<String> = database.column(SENT).await;
            assert_eq!(sent, ["1-64", "65-128", "129-192", "193-256", "257-300"]);
            stage.host.stop().await;
        });
    });
}

/// Calls of one operator that may be under way.
const PLACES: usize = 16;

#[test]
fn a_file_keeps_its_callers_place_until_it_is_made_and_others_are_served() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            let mut elsewhere = Party::new(stage.world, &stage.host, 0).await;
            agreed(&mut ada, &mut bob, to_files()).await;
            stage.load(0).await;
            ada.until_made(1).await;

            // Nothing leaves before it is put down.
            database.execute("BEGIN IMMEDIATE").await;
            let make = MakeFileRequest {
                name: "switch".to_owned(),
                ..MakeFileRequest::default()
            };
            let mut files = Vec::new();
            for _ in 0..PLACES {
                let file = ada.exports.make_file(make.clone()).await;
                let mut file = file.unwrap().into_inner();
                let first = file.message().await.unwrap().unwrap();
                assert!(matches!(first.part, Some(Part::Header(_))), "{first:?}");
                files.push(file);
            }
            let list = ListTargetsRequest::default();
            for refused in [
                ada.exports.make_file(make).await.map(drop),
                ada.exports.list_targets(list.clone()).await.map(drop),
                elsewhere.exports.list_targets(list.clone()).await.map(drop),
                // Before it is seen that she is no switch.
                elsewhere.receive(0).await.map(drop),
            ] {
                let refused = refused.unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::Overloaded));
                assert_eq!(
                    refused.message(),
                    "too many calls of yours are under way: wait until one of them ends"
                );
            }
            bob.show().await;
            stage.list(0).await.unwrap();

            database.execute("COMMIT").await;
            for mut file in files {
                let record = file.message().await.unwrap().unwrap();
                assert!(matches!(record.part, Some(Part::Record(_))), "{record:?}");
                assert_eq!(file.message().await.unwrap(), None);
            }
            let mut is_served = async || ada.exports.list_targets(list.clone()).await.ok();
            world::until(async || is_served().await.map(drop)).await;
            stage.host.stop().await;
        });
    });
}

#[test]
fn another_key_by_the_name_of_the_zmk_exports_nothing() {
    world::on(&[&SOFTHSM], |place| {
        play(place, async |mut stage, parties, mut database| {
            let [mut ada, mut bob, _] = parties;
            agreed(&mut ada, &mut bob, to_files()).await;
            let kcv = stage.load(0).await;
            ada.until_made(1).await;
            stage.host.stop().await;
            let label = KeyName::new(ZMK).unwrap();
            {
                let token = open("kdh");
                token.destroy_key(&label).unwrap();
                let swapped = [&KEY[8..], &KEY[..8]].concat();
                bring_swapped_key(&token, ZMK, &cmac(&swapped, &[0; 16])[..3]);
            }
            let host = stage.world.serve().await;
            let mut ada = Party::new(stage.world, &host, 0).await;
            // The next position has a key to be made, which it would go under.
            database.edit("DELETE FROM export_records").await;
            assert_eq!(ada.fill().await.unwrap(), 1);
            let standing = ada.until(|standing| !standing.fault.is_empty()).await;
            assert!(standing.fault.contains("D4B1C0"), "{}", standing.fault);
            assert_eq!((standing.last, standing.made), (2, 1));
            assert_eq!(reason(ada.file(2, 2).await.map(drop)), Reason::Internal);
            host.stop().await;

            // The right one is back.
            {
                let token = open("kdh");
                token.destroy_key(&label).unwrap();
                bring_key(&token, ZMK);
            }
            let host = stage.world.serve().await;
            let mut ada = Party::new(stage.world, &host, 0).await;
            ada.until_made(2).await;
            let (_, records) = ada.file(2, 2).await.unwrap();
            assert_arrived(&records[0], 0, 1, &kcv);
            host.stop().await;
        });
    });
}
