//! A new pair of storage keys in the place of the present one.

use hsm_modules::{SOFTHSM, WHOLE};
use kdh_proto::{Reason, v1::ShowStorageResponse};

use crate::{
    credential::Forward,
    database::Database,
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    exports::parties::{Party, share_keys, to_files},
    keeper::{OBSTACLE, agree_on_rotation, keepers, reason},
    stage::{self, LENIENT, Stage},
    world::{self, Running, World, assign_master_key, open, register_master_key},
};

pub(crate) fn pair(number: u32, state: &str, rows: u64) -> (u32, String, u64) {
    (number, state.to_owned(), rows)
}

/// How many of the first device's keys are under each pair.
async fn numbers(database: &mut Database) -> Vec<(String, i64)> {
    database
        .rows(
            "SELECT 'device ' || storage_key, COUNT(*) FROM device_keys GROUP BY storage_key
         UNION ALL SELECT 'registered ' || storage_key, COUNT(*) FROM keys GROUP BY storage_key",
        )
        .await
}

#[test]
fn what_two_operators_want_moves_every_key_and_destroys_the_old_pair() {
    world::on(&WHOLE, |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            let [mut ada, mut bob, mut cleo] = keepers(stage.world, &stage.host).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            let before = stage.assign(0).await;
            stage.fetch(0).await;
            stage.assign(0).await;
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, false).await;
            let derived = stage.assign(1).await;

            // One asks, and nobody else may.
            assert_eq!(reason(cleo.ask().await), Reason::RoleMissing);
            let first = ada.ask().await.unwrap();
            assert_eq!(
                (&*first.act, &*first.subject, &*first.state),
                ("STORAGE_ROTATION", "2", "ASKED")
            );
            assert_eq!(reason(bob.ask().await), Reason::AlreadyExists);
            assert_eq!(reason(ada.approve(&first.id).await), Reason::SameOperator);
            assert_eq!(reason(cleo.approve(&first.id).await), Reason::RoleMissing);
            assert_eq!(reason(bob.approve("00000000").await), Reason::NotFound);
            assert_eq!(ada.reject(&first.id).await.unwrap().state, "REJECTED");
            assert_eq!(reason(bob.approve(&first.id).await), Reason::WrongState);
            let pairs = ada.until(|_| true).await;
            assert_eq!(
                pairs,
                [pair(1, "PRESENT", 8)],
                "four of devices, one registered, two BDKs, and the approval"
            );

            let asked = ada.ask().await.unwrap();
            assert_eq!(bob.approve(&asked.id).await.unwrap().state, "APPROVED");
            assert_eq!(ada.until(is_over).await, [pair(2, "PRESENT", 9)]);
            let list = ada.list().await.unwrap();
            let list: Vec<_> = list
                .iter()
                .map(|one| (&*one.state, &*one.decided_by))
                .collect();
            assert_eq!(list, [("ENDED", "bob"), ("REJECTED", "ada")]);
            let moved = [("device 2".to_owned(), 4), ("registered 2".to_owned(), 1)];
            assert_eq!(numbers(&mut database).await, moved);

            // What was kept is what it was.
            let loaded = stage.fetch(0).await;
            assert_ne!(loaded.kcv, before.kcv, "the version behind it");
            assert_eq!(stage.request(1).await.unwrap().kcv, derived.kcv);
            let records: Vec<String> = database
                .column("SELECT action FROM audit WHERE action LIKE 'storage.%' ORDER BY sequence")
                .await;
            assert_eq!(records, ["storage.began", "storage.destroyed"]);
            stage.host.stop().await;
            stage.world.serve().await.stop().await;
            assert_eq!(held(), ["ksk.2", "ksm.2"]);
        });
    });
}

#[test]
fn nothing_of_the_old_pair_goes_while_a_row_is_hidden() {
    world::on(&[&SOFTHSM], |place| {
        stage::play_with(place, share_keys, async |mut stage, mut database| {
            let [mut ada, mut bob, _] = keepers(stage.world, &stage.host).await;
            register_master_key(&mut stage.operator).await;
            stage.assign(0).await;
            let mut exporter = Party::new(stage.world, &stage.host, 0).await;
            let target = exporter.ask(to_files()).await.unwrap().id;
            database.keep("approvals", "asked").await;
            bob.approve(&target).await.unwrap();
            database.keep("approvals", "kept").await;
            database.keep("keys", "kept_keys").await;

            // One row is gone, and another one is what it was before it was approved.
            database.edit("DELETE FROM keys").await;
            database.put_back("approvals", "asked").await;
            agree_on_rotation(&mut ada, &mut bob).await;
            let stuck = |shown: &ShowStorageResponse| shown.refused_rows == 2 && stopped(shown);
            let pairs = ada.until(stuck).await;
            assert_eq!(
                pairs[0],
                pair(1, "RETIRING", 3),
                "nothing is moved: a device's, the target's and its own"
            );
            let named = "SELECT json_extract(detail, '$.row') FROM audit WHERE action = 'storage.row-refused'
                 ORDER BY 1";
            let named: Vec<String> = database.column(named).await;
            assert_eq!(named, [format!("approval {target}"), "key key".to_owned()]);

            // From a backup, under the pair that is still there.
            database
                .edit("INSERT INTO keys SELECT * FROM kept_keys")
                .await;
            let one = |shown: &ShowStorageResponse| shown.refused_rows == 1 && stopped(shown);
            assert_eq!(ada.until(one).await[0].0, 1);
            let gone = format!("DELETE FROM approvals WHERE id = '{target}'");
            database.edit(&gone).await;
            database
                .edit("INSERT INTO approvals SELECT * FROM kept")
                .await;
            let pairs = ada.until(is_over).await;
            assert_eq!(pairs, [pair(2, "PRESENT", 4)]);
            stage.host.stop().await;
            stage.world.serve().await.stop().await;
        });
    });
}

/// Numbers of the pairs of which the HSM holds a key.
fn held() -> Vec<String> {
    let labels = open("kdh").list_keys().unwrap().into_iter();
    let mut labels: Vec<_> = labels
        .map(|key| key.label)
        .filter(|label| label.starts_with("ks"))
        .collect();
    labels.sort_unstable();
    labels
}

#[test]
fn a_rotation_stops_at_what_is_edited_says_so_and_goes_on_when_it_is_mended() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            stage.assign(0).await;
            stage.assign(1).await;
            let world = stage.world;
            let id = kept_from_beginning(stage, &mut database).await;
            let host = stuck_at_edited_rows(world, &mut database, &id).await;
            put_back_from_before(world, host, &mut database, &id).await;
            let two_days = "storage.keep-old-pair-hours = 48\n";
            world.configure(&format!("{LENIENT}{two_days}"));
            moved_and_kept(world, &mut database, &id).await;
        });
    });
}

fn stopped(shown: &ShowStorageResponse) -> bool {
    !shown.next_try_at.is_empty()
}

fn is_over(shown: &ShowStorageResponse) -> bool {
    shown.rotation.is_none()
}

fn is_kept(shown: &ShowStorageResponse) -> bool {
    !shown.destroyed_at.is_empty()
}

/// Says of which approval.
async fn kept_from_beginning(stage: Stage<'_>, database: &mut Database) -> String {
    // What somebody has put under the pair to come keeps it from beginning.
    database.execute(OBSTACLE).await;
    let [mut ada, mut bob, _] = keepers(stage.world, &stage.host).await;
    let approved = agree_on_rotation(&mut ada, &mut bob).await;
    assert_eq!(ada.until(stopped).await.len(), 2);
    let shown = ada.show().await;
    assert!(
        shown
            .fault
            .contains("1 rows are under pair 2 of storage keys"),
        "{}",
        shown.fault
    );
    assert_eq!(shown.rotation.unwrap().progress, "");
    database.keep("approvals", "not_begun").await;
    database.edit("DELETE FROM keys WHERE name = 'none'").await;
    stage.host.stop().await;
    approved.id
}

async fn stuck_at_edited_rows(world: &World<'_>, database: &mut Database, id: &str) -> Running {
    // Rows that the HSM has not sealed so stay, and the old pair with them.
    database.keep("device_keys", "kept").await;
    database
        .edit("UPDATE device_keys SET header = 'D0000P0AB00E0000'")
        .await;
    let host = world.serve().await;
    let [mut ada, mut bob, _] = keepers(world, &host).await;
    let stuck =
        |rows| move |shown: &ShowStorageResponse| shown.refused_rows == rows && stopped(shown);
    let pairs = ada.until(stuck(2)).await;
    assert_eq!(pairs, [pair(1, "RETIRING", 2), pair(2, "PRESENT", 1)]);
    let shown = ada.show().await;
    assert_eq!(
        shown.fault,
        "rows that are not as the HSM has sealed them, and are not moved: 2"
    );
    assert_eq!(
        reason(bob.ask().await),
        Reason::AlreadyExists,
        "it is under way"
    );
    let begun = ada.withdraw(id, "no").await.unwrap_err();
    assert!(
        begun.message().contains("rows are being moved already"),
        "{begun}"
    );
    // A row that is mended is not counted any more; another try follows by itself.
    let mend = "UPDATE device_keys SET header = (SELECT header FROM kept LIMIT 1)";
    database
        .edit(&format!("{mend} WHERE device = 'SN-1'"))
        .await;
    let pairs = ada.until(stuck(1)).await;
    assert_eq!(pairs, [pair(1, "RETIRING", 1), pair(2, "PRESENT", 2)]);
    assert_eq!(
        refusals(database).await,
        ["SN-1", "SN-2"],
        "each is named once"
    );
    host
}

async fn put_back_from_before(world: &World<'_>, host: Running, database: &mut Database, id: &str) {
    let [mut ada, _, _] = keepers(world, &host).await;
    // As it was before it had begun, it could be withdrawn.
    database.keep("approvals", "begun").await;
    database.put_back("approvals", "not_begun").await;
    let before = ada.withdraw(id, "no").await.unwrap_err();
    assert!(
        before.message().contains("its row was put back"),
        "{before}"
    );
    assert_eq!(ada.show().await.rotation, None);
    host.stop().await;
    let refused = world.host().await.map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("is in force, and its row in the database"),
        "{refused}"
    );
    database.put_back("approvals", "begun").await;
}

async fn moved_and_kept(world: &World<'_>, database: &mut Database, id: &str) {
    let mend = "UPDATE device_keys SET header = (SELECT header FROM kept LIMIT 1)";
    // As all rows were, they are moved, by a host that takes up what another one left. It keeps the old pair.
    database.edit(mend).await;
    let clock = Forward::default();
    let host = world.serve_by(clock.clone()).await;
    let [mut ada, mut bob, _] = keepers(world, &host).await;
    let pairs = ada.until(is_kept).await;
    assert_eq!(pairs, [pair(1, "MOVED", 0), pair(2, "PRESENT", 3)]);
    let shown = ada.show().await;
    let progress = shown.rotation.unwrap().progress;
    assert!(progress.starts_with("MOVED 20"), "{progress}");
    assert_eq!((shown.refused_rows, &*shown.fault), (0, ""));
    assert_eq!(reason(bob.ask().await), Reason::AlreadyExists);
    assert_eq!(reason(ada.withdraw(id, "no").await), Reason::WrongState);
    host.stop().await;

    // Nobody but the host says when they had moved.
    database.keep("approvals", "moved").await;
    database
        .edit("UPDATE approvals SET progress = 'MOVED 2020-01-01T00:00:00Z'")
        .await;
    let refused = world.host().await.map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("is in force, and its row in the database"),
        "{refused}"
    );
    database.put_back("approvals", "moved").await;
    clock.put_to(47);
    let host = world.serve_by(clock.clone()).await;
    let [mut ada, _, _] = keepers(world, &host).await;
    ada.until(is_kept).await;
    let again = ada.show().await;
    assert_eq!(again.destroyed_at, shown.destroyed_at);
    assert_eq!(again.pairs.len(), 2);
    host.stop().await;
    assert_eq!(held(), ["ksk.1", "ksk.2", "ksm.1", "ksm.2"]);
    clock.put_to(49);
    // A row that says that it is under another pair keeps the old one.
    database
        .execute("CREATE TABLE under AS SELECT device, version, storage_key FROM device_keys")
        .await;
    database
        .edit("UPDATE device_keys SET storage_key = 3")
        .await;
    let host = world.serve_by(clock.clone()).await;
    let [mut ada, _, _] = keepers(world, &host).await;
    ada.until(|shown| shown.refused_rows > 0 && stopped(shown))
        .await;
    host.stop().await;
    assert_eq!(held(), ["ksk.1", "ksk.2", "ksm.1", "ksm.2"]);
    let back = "UPDATE device_keys SET storage_key = (SELECT storage_key FROM under u
         WHERE u.device = device_keys.device AND u.version = device_keys.version)";
    database.edit(back).await;
    let host = world.serve_by(clock).await;
    let [mut ada, _, _] = keepers(world, &host).await;
    assert_eq!(ada.until(is_over).await, [pair(2, "PRESENT", 3)]);
    host.stop().await;
    assert_eq!(held(), ["ksk.2", "ksm.2"]);
}

/// The devices whose rows were refused, as the trail has it.
async fn refusals(database: &mut Database) -> Vec<String> {
    let refused = "SELECT device FROM audit WHERE action = 'storage.row-refused' ORDER BY device";
    database.column(refused).await
}
