//! Rows that the HSM does not vouch for: they hide no others, and two operators have them discarded.

use hsm_modules::SOFTHSM;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        Approval, AskDiscardRequest, ListApprovalsRequest, ListKeysRequest, ShowStorageResponse,
        refused_keys_client::RefusedKeysClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    database::Database,
    keeper::{Keeper, agree_on_rotation, keepers, reason},
    stage::{self, Stage},
    storage::pair,
    world::{self, assign_master_key},
};

/// Asks that rows are discarded.
struct Discarder(RefusedKeysClient<Channel>);

impl Discarder {
    async fn new(stage: &Stage<'_>, operator: usize) -> Self {
        let channel = stage.world.operators_channel(&stage.host, operator).await;
        Self(RefusedKeysClient::new(channel))
    }

    async fn ask(&mut self, device: &str, slot: &str, version: u32) -> Result<Approval, Status> {
        let ask = AskDiscardRequest {
            serial_number: device.to_owned(),
            slot: slot.to_owned(),
            key_version: version,
            why: "edited".to_owned(),
        };
        Ok(self.0.ask_discard(ask).await?.into_inner())
    }

    async fn refuses(&mut self, row: (&str, &str, u32), reason: Reason, cause: &str) {
        let refused = self.ask(row.0, row.1, row.2).await.unwrap_err();
        assert_eq!((refused.reason(), refused.message()), (Some(reason), cause));
    }
}

/// What an intruder makes of the row of a unique key.
const EDITS: [&str; 8] = [
    "state = 'X'",
    "header = 'broken'",
    "kind = 'DES'",
    "source = 'NONE'",
    "kcv = '00'",
    "wrapped = NULL",
    "storage_key = 0, mac = NULL",
    "storage_key = 9",
];

/// What is said behind the name of a changed row.
const CHANGED: &str = " is not as the HSM has sealed it: its row was changed behind the host's back. Restore it from a \
                       backup of the database. Of terminals' keys, kdhctl key refused lists such rows; two operators can \
                       also discard one (kdhctl key discard), and its slot is then assigned anew";

/// Nothing is assigned over a row that was changed. The operator is told what to do, and the terminal no more than ever.
async fn refuses_the_next_version(stage: &mut Stage<'_>, database: &mut Database) {
    let refused = stage.try_to_assign(0).await.unwrap_err();
    let says = format!("version 1 of the key of SN-1 in slot tmk{CHANGED}");
    let told = (refused.reason(), refused.message());
    assert_eq!(told, (Some(Reason::WrongState), &*says));
    let last = "SELECT outcome, detail FROM audit WHERE action = 'operator.refused' ORDER BY sequence DESC LIMIT 1";
    let last: (String, String) = database.row(last).await;
    assert_eq!(last.0, "WRONG_STATE");
    assert!(last.1.contains(&says), "{}", last.1);
    let refused = stage.request(0).await.unwrap_err();
    let told = (refused.reason(), refused.message());
    assert_eq!(told, (Some(Reason::Internal), "INTERNAL"));
}

#[test]
fn what_the_hsm_does_not_vouch_for_is_discarded_by_two_operators() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let mut ada = Discarder::new(&stage, 0).await;
            let [mut approvals, mut bob, _] = keepers(stage.world, &stage.host).await;
            let mut cleo = Discarder::new(&stage, 2).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            stage.assign(0).await;

            let proven = "version 1 of the key of SN-1 in slot tmk is as the HSM has sealed it: nothing is discarded. To \
                          withdraw a key, assign another one to its slot";
            ada.refuses(("SN-1", "tmk", 1), Reason::WrongState, proven)
                .await;
            let none = "there is no version 2 of the key of SN-1 in slot tmk";
            ada.refuses(("SN-1", "tmk", 2), Reason::NotFound, none)
                .await;
            let no_slot = "\"TMK\" is no slot: 1 to 24 of a-z, 0-9 and '-'";
            ada.refuses(("SN-1", "TMK", 1), Reason::RequestInvalid, no_slot)
                .await;
            assert_eq!(
                reason(cleo.ask("SN-1", "tmk", 1).await),
                Reason::RoleMissing
            );

            // A row that stands in the way of the next one, until it is restored or discarded.
            database.keep("device_keys", "kept").await;
            database
                .edit("UPDATE device_keys SET kcv = 'A1B2C3D4E5' WHERE device = 'SN-1'")
                .await;
            refuses_the_next_version(&mut stage, &mut database).await;
            let asked = ada.ask("SN-1", "tmk", 1).await.unwrap();
            assert_eq!(
                (&*asked.act, &*asked.subject, &*asked.state),
                ("KEY_DISCARD", "SN-1 tmk 1", "ASKED")
            );
            assert_eq!(
                reason(ada.ask("SN-1", "tmk", 1).await),
                Reason::AlreadyExists
            );
            assert_eq!(
                reason(approvals.approve(&asked.id).await),
                Reason::SameOperator
            );
            // Restored meanwhile.
            database.put_back("device_keys", "kept").await;
            let restored = bob.approve(&asked.id).await.unwrap_err();
            assert_eq!(
                (restored.reason(), restored.message()),
                (Some(Reason::WrongState), proven)
            );
            assert_eq!(approvals.reject(&asked.id).await.unwrap().state, "REJECTED");

            for (version, changed) in (1..).zip(EDITS) {
                let delivered = stage.request(0).await.unwrap();
                database.edit(&format!(
                    "UPDATE device_keys SET {changed} WHERE device = 'SN-1' AND version = {version}"
                )).await;
                let row = ("SN-1".to_owned(), "tmk".to_owned(), i64::from(version));
                assert_eq!(stage.refused().await, [row], "{changed}");
                assert_eq!(stage.show(0).await.refused.len(), 1, "{changed}");
                let asked = ada.ask("SN-1", "tmk", version).await.unwrap();
                let done = bob.approve(&asked.id).await.unwrap();
                assert_eq!(
                    (&*done.state, &*done.decided_by),
                    ("ENDED", "bob"),
                    "{changed}"
                );
                assert_eq!(stage.refused().await, [], "{changed}");
                assert_eq!(stage.list(0).await.unwrap(), [], "{changed}");
                let late = stage.confirm(0, &delivered).await;
                assert_eq!(reason(late), Reason::DeliveryUnknown, "{changed}");
                assert_eq!(stage.assign(0).await.key_version, version + 1, "{changed}");
            }
            let row = "SELECT state, source, wrapped IS NULL AND key_name IS NULL AND recipient IS NULL, storage_key
                 FROM device_keys WHERE device = 'SN-1' AND version = 1";
            let row: (String, String, bool, i64) = database.row(row).await;
            assert_eq!(row, ("DISCARDED".to_owned(), "NONE".to_owned(), true, 1));
            // It is sealed as well.
            let back =
                "UPDATE device_keys SET state = 'WITHDRAWN' WHERE device = 'SN-1' AND version = 1";
            database.edit(back).await;
            assert_eq!(stage.refused().await.len(), 1);
            database.edit(&back.replace("WITHDRAWN", "DISCARDED")).await;
            ada.refuses(("SN-1", "tmk", 1), Reason::WrongState, proven)
                .await;

            takes_no_version_that_was_made_up(&mut stage, &mut ada, &mut bob, &mut database).await;
            assert_eq!(
                stage.request(1).await.unwrap().key_version,
                1,
                "another terminal's"
            );
            stage.host.stop().await;
            stage.world.serve().await.stop().await;
        });
    });
}

/// What no operator has ever assigned is no version.
async fn takes_no_version_that_was_made_up(
    stage: &mut Stage<'_>,
    asking: &mut Discarder,
    approving: &mut Keeper,
    database: &mut Database,
) {
    let change = "INSERT INTO device_keys SELECT device, slot, 4294967295, 'DESTROYED', source, key_name, NULL, header, kind,
         kcv_method, kcv, recipient, created_at, changed_at, storage_key, mac, NULL, NULL, NULL
         FROM kept WHERE device = 'SN-1'";
    database.edit(change).await;
    let refused = stage.try_to_assign(0).await.unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("version 4294967295 of the key of SN-1"),
        "{refused}"
    );
    let asked = asking.ask("SN-1", "tmk", u32::MAX).await.unwrap();
    approving.approve(&asked.id).await.unwrap();
    assert_eq!(stage.assign(0).await.key_version, 10);

    let records = "SELECT actor, device, detail FROM audit WHERE action = 'key.discarded'
         ORDER BY sequence DESC LIMIT 2";
    let records: Vec<(String, String, String)> = database.rows(records).await;
    let [forged, last] = &records[..] else {
        panic!("{records:?}")
    };
    assert!(
        forged
            .2
            .contains(r#""version":4294967295,"was-assigned":false"#),
        "{}",
        forged.2
    );
    assert_eq!((&*last.0, &*last.1), ("operator:bob", "SN-1"));
    let says = r#""asked-by":"ada","slot":"tmk","version":8,"was-assigned":true,"why":"edited""#;
    assert!(last.2.contains(says), "{}", last.2);
}

async fn listed(keeper: &mut Keeper) -> Vec<Approval> {
    let list = ListApprovalsRequest::default();
    let list = keeper.approvals.list_approvals(list).await.unwrap();
    list.into_inner().approvals
}

#[test]
fn a_bad_row_hides_no_other_and_a_bad_approval_neither() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let mut ada = Discarder::new(&stage, 0).await;
            let [mut approvals, mut bob, _] = keepers(stage.world, &stage.host).await;
            // A registered key in one slot, and one of its own in another.
            assign_master_key(&mut stage.operator, "SN-1").await;
            database.edit("UPDATE device_keys SET slot = 'data'").await;
            assert_eq!(stage.refused().await.len(), 1);
            database.edit("UPDATE device_keys SET slot = 'tmk'").await;
            stage.assign_named("SN-1", "data", "key").await.unwrap();
            stage.assign(0).await;
            stage.assign(1).await;
            let slots = |listed: Vec<kdh_proto::v1::Assignment>| -> Vec<String> {
                listed.into_iter().map(|one| one.slot).collect()
            };
            for changed in ["header = 'broken'", "kcv = 'A1B2C3'", "mac = NULL"] {
                database.keep("device_keys", "kept").await;
                let change = format!(
                    "UPDATE device_keys SET {changed} WHERE slot = 'data' AND device = 'SN-1'"
                );
                database.edit(&change).await;
                assert_eq!(slots(stage.list(0).await.unwrap()), ["tmk"], "{changed}");
                let shown = stage.show(0).await;
                assert_eq!(slots(shown.assignments), ["tmk"], "{changed}");
                assert_eq!(shown.refused[0].slot, "data", "{changed}");
                stage.request(0).await.unwrap();
                database.put_back("device_keys", "kept").await;
            }
            assert_eq!(slots(stage.list(0).await.unwrap()), ["data", "tmk"]);

            // An approval that was changed is listed as that, and keeps nobody from anything else.
            for (edited, version) in [("state = 'X'", 2), ("asked_by = 'eve'", 3)] {
                database
                    .edit(
                        "UPDATE device_keys SET kcv = 'A1B2C3D4E5' WHERE device = 'SN-1'
                     AND state = 'PENDING' AND slot = 'tmk'",
                    )
                    .await;
                let first = ada.ask("SN-1", "tmk", version).await.unwrap();
                database
                    .edit(&format!(
                        "UPDATE approvals SET {edited} WHERE id = '{}'",
                        first.id
                    ))
                    .await;
                let list = listed(&mut approvals).await;
                assert_eq!(list.len(), version as usize * 2 - 3);
                let expected = Approval {
                    id: first.id.clone(),
                    state: "REFUSED".to_owned(),
                    ..Approval::default()
                };
                assert_eq!(list[0], expected);
                let refused = bob.approve(&first.id).await.unwrap_err();
                let says = format!("approval {}{CHANGED}", first.id);
                assert_eq!(
                    (refused.reason(), refused.message()),
                    (Some(Reason::WrongState), &*says)
                );
                let again = format!(
                    "UPDATE approvals SET state = 'ASKED', asked_by = 'ada' WHERE id = '{}'",
                    first.id
                );
                database.edit(&again).await;
                bob.approve(&first.id).await.unwrap();
                assert_eq!(stage.assign(0).await.key_version, version + 1);
                let asked = approvals.ask().await.unwrap();
                approvals.reject(&asked.id).await.unwrap();
            }
            // A registered key that was changed.
            database.edit("UPDATE keys SET kind = 'DES'").await;
            let refused = stage
                .operator
                .list_keys(ListKeysRequest {})
                .await
                .unwrap_err();
            assert!(
                refused
                    .message()
                    .starts_with("key key is not as the HSM has sealed it"),
                "{refused}"
            );
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_rotation_ends_when_what_cannot_be_moved_is_discarded() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            stage.assign(0).await;
            stage.assign(1).await;
            database.keep("device_keys", "kept").await;
            database
                .edit("UPDATE device_keys SET state = 'X' WHERE device = 'SN-1'")
                .await;
            // Under a pair that never was, which keeps no host from starting.
            let change = "INSERT INTO device_keys SELECT device, slot, 2, 'DESTROYED', source, key_name, NULL, header, kind,
                 kcv_method, kcv, recipient, created_at, changed_at, 9, mac, NULL, NULL, NULL FROM kept
                 WHERE device = 'SN-2'";
            database.edit(change).await;
            stage.host.stop().await;
            stage.host = stage.world.serve().await;
            let [mut ada, mut bob, _] = keepers(stage.world, &stage.host).await;
            agree_on_rotation(&mut ada, &mut bob).await;
            let moved = |shown: &ShowStorageResponse| {
                shown.refused_rows == 1
                    && shown
                        .pairs
                        .iter()
                        .any(|pair| pair.number == 2 && pair.rows == 2)
            };
            let pairs = ada.until(moved).await;
            assert_eq!(
                pairs,
                [
                    pair(1, "RETIRING", 1),
                    pair(2, "PRESENT", 2),
                    pair(9, "ABSENT", 1)
                ]
            );
            stage.host.stop().await;

            // The row of SN-2 from before, while its key under the new pair stands in another row.
            let change = "CREATE TABLE moved AS SELECT wrapped FROM device_keys WHERE device = 'SN-2' AND version = 1";
            database.execute(change).await;
            database
                .edit(
                    "UPDATE device_keys SET (wrapped, storage_key, mac) =
                 (SELECT wrapped, storage_key, mac FROM kept WHERE device = 'SN-2')
                 WHERE device = 'SN-2' AND version = 1",
                )
                .await;
            let change = "UPDATE device_keys SET state = 'PENDING', storage_key = 2, wrapped = (SELECT wrapped
                 FROM moved)
                 WHERE device = 'SN-1'";
            database.edit(change).await;
            stage.host = stage.world.serve().await;
            let [mut ada, mut bob, _] = keepers(stage.world, &stage.host).await;
            let stuck = |shown: &ShowStorageResponse| {
                shown.refused_rows == 1 && !shown.next_try_at.is_empty()
            };
            ada.until(stuck).await;
            let recorded =
                "SELECT device FROM audit WHERE action = 'storage.row-refused' ORDER BY sequence";
            let recorded: Vec<String> = database.column(recorded).await;
            assert_eq!(recorded, ["SN-1", "SN-2"], "its equal is in the log");

            let mut discarder = Discarder::new(&stage, 0).await;
            for (device, version) in [("SN-1", 1), ("SN-2", 2)] {
                let asked = discarder.ask(device, "tmk", version).await.unwrap();
                bob.approve(&asked.id).await.unwrap();
            }
            let over = |shown: &ShowStorageResponse| shown.rotation.is_none();
            assert_eq!(ada.until(over).await, [pair(2, "PRESENT", 5)]);
            assert_eq!(ada.show().await.refused_rows, 0);
            stage.operator = stage.world.operator(&stage.host).await;
            let kept = stage.show(1).await;
            assert_eq!((kept.assignments.len(), kept.refused.len()), (1, 0));
            assert_eq!(stage.assign(0).await.key_version, 2);
            stage.host.stop().await;
        });
    });
}
