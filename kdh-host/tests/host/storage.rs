//! A new pair of storage keys in the place of the present one.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use hsm::Token;
use hsm_modules::{SOFTHSM, WHOLE};
use kdh_host::{Clock, SystemClock};
use kdh_proto::{
    Reason,
    v1::{
        AskTargetRequest, ExportKey, ExportTarget, KeyCheckValue, ShowStorageResponse,
        key_check_value::Method, key_exports_client::KeyExportsClient,
    },
};
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use crate::{
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    device_keys::{Stage, database, edit, execute},
    keeper::{OBSTACLE, keepers, reason},
    world::{
        self, MASTER_KEY_KCV, Running, World, assign_master_key, bring_key, open,
        register_master_key,
    },
};

pub(crate) fn pair(number: u32, state: &str, rows: u64) -> (u32, String, u64) {
    (number, state.to_owned(), rows)
}

/// How many of the first device's keys are under each pair.
async fn numbers(database: &mut SqliteConnection) -> Vec<(String, i64)> {
    sqlx::query_as(
        "SELECT 'device ' || storage_key, COUNT(*) FROM device_keys GROUP BY storage_key
         UNION ALL SELECT 'registered ' || storage_key, COUNT(*) FROM keys GROUP BY storage_key",
    )
    .fetch_all(database)
    .await
    .unwrap()
}

#[test]
fn what_two_operators_want_moves_every_key_and_destroys_the_old_pair() {
    world::on(&WHOLE, |place| {
        let world = World::with_kdh_token(place.folder(), bring_bdks);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let [mut ada, mut bob, mut cleo] = keepers(&world, &stage.host).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            let before = stage.assign(0).await;
            let issued = stage.request(0).await.unwrap();
            stage.confirm(0, &issued).await.unwrap();
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
            let over = |shown: &ShowStorageResponse| shown.rotation.is_none();
            assert_eq!(ada.until(over).await, [pair(2, "PRESENT", 9)]);
            let list = ada.list().await.unwrap();
            let list: Vec<_> = list
                .iter()
                .map(|one| (&*one.state, &*one.decided_by))
                .collect();
            assert_eq!(list, [("ENDED", "bob"), ("REJECTED", "ada")]);
            let mut database = database(&world).await;
            let moved = [("device 2".to_owned(), 4), ("registered 2".to_owned(), 1)];
            assert_eq!(numbers(&mut database).await, moved);

            // What was kept is what it was.
            let loaded = stage.request(0).await.unwrap();
            assert_ne!(loaded.kcv, before.kcv, "the version behind it");
            stage.confirm(0, &loaded).await.unwrap();
            assert_eq!(stage.request(1).await.unwrap().kcv, derived.kcv);
            let records: Vec<String> = sqlx::query_scalar(
                "SELECT action FROM audit WHERE action LIKE 'storage.%' ORDER BY sequence",
            )
            .fetch_all(&mut database)
            .await
            .unwrap();
            assert_eq!(records, ["storage.began", "storage.destroyed"]);
            stage.host.stop().await;
            world.serve().await.stop().await;
            assert_eq!(held(), ["ksk.2", "ksm.2"]);
        });
    });
}

fn share_keys(token: &Token) {
    bring_key(token, "zmkx.switch");
    bring_key(token, "zmac.switch");
}

fn shared_key(label: &str) -> ExportKey {
    ExportKey {
        label: label.to_owned(),
        kind: "AES-128".to_owned(),
        kcv: Some(KeyCheckValue {
            method: Method::AesCmac.into(),
            value: MASTER_KEY_KCV.to_vec(),
        }),
    }
}

#[test]
fn nothing_of_the_old_pair_goes_while_a_row_is_hidden() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::with_kdh_token(place.folder(), share_keys);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let [mut ada, mut bob, _] = keepers(&world, &stage.host).await;
            let mut database = database(&world).await;
            register_master_key(&mut stage.operator).await;
            stage.assign(0).await;
            let channel = world.operators_channel(&stage.host, 0).await;
            let switch = ExportTarget {
                name: "switch".to_owned(),
                form: "key-wrap".to_owned(),
                under: Some(shared_key("zmkx.switch")),
                mac: Some(shared_key("zmac.switch")),
                ..ExportTarget::default()
            };
            let ask = AskTargetRequest {
                target: Some(switch),
                why: "the acquirer's".to_owned(),
            };
            let target = KeyExportsClient::new(channel).ask_target(ask).await;
            let target = target.unwrap().into_inner().id;
            execute(&mut database, "CREATE TABLE asked AS SELECT * FROM approvals").await;
            bob.approve(&target).await.unwrap();
            execute(&mut database, "CREATE TABLE kept AS SELECT * FROM approvals").await;
            execute(&mut database, "CREATE TABLE kept_keys AS SELECT * FROM keys").await;

            // One row is gone, and another one is what it was before it was approved.
            edit(&mut database, "DELETE FROM keys").await;
            put_back(&mut database, "asked").await;
            let asked = ada.ask().await.unwrap();
            bob.approve(&asked.id).await.unwrap();
            let stuck = |shown: &ShowStorageResponse| shown.refused_rows == 2 && stopped(shown);
            let pairs = ada.until(stuck).await;
            assert_eq!(pairs[0], pair(1, "RETIRING", 3), "nothing is moved: a device's, the target's and its own");
            let named: Vec<String> = sqlx::query_scalar(
                "SELECT json_extract(detail, '$.row') FROM audit WHERE action = 'storage.row-refused' ORDER BY 1",
            )
            .fetch_all(&mut database)
            .await
            .unwrap();
            assert_eq!(named, [format!("approval {target}"), "key key".to_owned()]);

            // From a backup, under the pair that is still there.
            edit(&mut database, "INSERT INTO keys SELECT * FROM kept_keys").await;
            let one = |shown: &ShowStorageResponse| shown.refused_rows == 1 && stopped(shown);
            assert_eq!(ada.until(one).await[0].0, 1);
            let gone = format!("DELETE FROM approvals WHERE id = '{target}'");
            edit(&mut database, &gone).await;
            edit(&mut database, "INSERT INTO approvals SELECT * FROM kept").await;
            let over = |shown: &ShowStorageResponse| shown.rotation.is_none();
            let pairs = ada.until(over).await;
            assert_eq!(pairs, [pair(2, "PRESENT", 4)]);
            stage.host.stop().await;
            world.serve().await.stop().await;
        });
    });
}

/// So many hours ahead of the system's clock.
#[derive(Clone, Debug, Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + time::Duration::hours(self.0.load(Ordering::Relaxed))
    }
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
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            stage.assign(0).await;
            stage.assign(1).await;
            let mut database = database(&world).await;
            let id = kept_from_beginning(stage, &mut database).await;
            let host = stuck_at_edited_rows(&world, &mut database, &id).await;
            put_back_from_before(&world, host, &mut database, &id).await;
            keep_old_pairs(&world);
            moved_and_kept(&world, &mut database, &id).await;
        });
    });
}

fn stopped(shown: &ShowStorageResponse) -> bool {
    !shown.next_try_at.is_empty()
}

fn is_kept(shown: &ShowStorageResponse) -> bool {
    !shown.destroyed_at.is_empty()
}

/// The approvals as they were then.
async fn put_back(database: &mut SqliteConnection, copy: &str) {
    edit(database, "DELETE FROM approvals").await;
    edit(
        database,
        &format!("INSERT INTO approvals SELECT * FROM {copy}"),
    )
    .await;
}

/// Says of which approval.
async fn kept_from_beginning(stage: Stage<'_>, database: &mut SqliteConnection) -> String {
    // What somebody has put under the pair to come keeps it from beginning.
    execute(database, OBSTACLE).await;
    let [mut ada, mut bob, _] = keepers(stage.world, &stage.host).await;
    let asked = ada.ask().await.unwrap();
    bob.approve(&asked.id).await.unwrap();
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
    execute(
        database,
        "CREATE TABLE not_begun AS SELECT * FROM approvals",
    )
    .await;
    edit(database, "DELETE FROM keys WHERE name = 'none'").await;
    stage.host.stop().await;
    asked.id
}

async fn stuck_at_edited_rows(
    world: &World<'_>,
    database: &mut SqliteConnection,
    id: &str,
) -> Running {
    // Rows that the HSM has not sealed so stay, and the old pair with them.
    execute(database, "CREATE TABLE kept AS SELECT * FROM device_keys").await;
    edit(
        database,
        "UPDATE device_keys SET header = 'D0000P0AB00E0000'",
    )
    .await;
    let host = world.serve().await;
    let [mut ada, mut bob, _] = keepers(world, &host).await;
    let stuck =
        |rows| move |shown: &ShowStorageResponse| shown.refused_rows == rows && stopped(shown);
    let pairs = ada.until(stuck(2)).await;
    assert_eq!(pairs, [pair(1, "RETIRING", 2), pair(2, "PRESENT", 1)]);
    let shown = ada.show().await;
    assert!(
        shown
            .fault
            .starts_with("2 rows are not as the HSM has sealed them"),
        "{}",
        shown.fault
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
    edit(database, &format!("{mend} WHERE device = 'SN-1'")).await;
    let pairs = ada.until(stuck(1)).await;
    assert_eq!(pairs, [pair(1, "RETIRING", 1), pair(2, "PRESENT", 2)]);
    assert_eq!(
        refusals(database).await,
        ["SN-1", "SN-2"],
        "each is named once"
    );
    host
}

async fn put_back_from_before(
    world: &World<'_>,
    host: Running,
    database: &mut SqliteConnection,
    id: &str,
) {
    let [mut ada, _, _] = keepers(world, &host).await;
    // As it was before it had begun, it could be withdrawn.
    execute(database, "CREATE TABLE begun AS SELECT * FROM approvals").await;
    put_back(database, "not_begun").await;
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
    put_back(database, "begun").await;
}

async fn moved_and_kept(world: &World<'_>, database: &mut SqliteConnection, id: &str) {
    let mend = "UPDATE device_keys SET header = (SELECT header FROM kept LIMIT 1)";
    // As all rows were, they are moved, by a host that takes up what another one left. It keeps the old pair.
    edit(database, mend).await;
    let ahead = Ahead::default();
    let host = world.serve_by(ahead.clone()).await;
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
    execute(database, "CREATE TABLE moved AS SELECT * FROM approvals").await;
    edit(
        database,
        "UPDATE approvals SET progress = 'MOVED 2020-01-01T00:00:00Z'",
    )
    .await;
    let refused = world.host().await.map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("is in force, and its row in the database"),
        "{refused}"
    );
    put_back(database, "moved").await;
    ahead.0.store(47, Ordering::Relaxed);
    let host = world.serve_by(ahead.clone()).await;
    let [mut ada, _, _] = keepers(world, &host).await;
    ada.until(is_kept).await;
    let again = ada.show().await;
    assert_eq!(again.destroyed_at, shown.destroyed_at);
    assert_eq!(again.pairs.len(), 2);
    host.stop().await;
    assert_eq!(held(), ["ksk.1", "ksk.2", "ksm.1", "ksm.2"]);
    ahead.0.store(49, Ordering::Relaxed);
    // A row that says that it is under another pair keeps the old one.
    execute(
        database,
        "CREATE TABLE under AS SELECT device, version, storage_key FROM device_keys",
    )
    .await;
    edit(database, "UPDATE device_keys SET storage_key = 3").await;
    let host = world.serve_by(ahead.clone()).await;
    let [mut ada, _, _] = keepers(world, &host).await;
    ada.until(|shown| shown.refused_rows > 0 && stopped(shown))
        .await;
    host.stop().await;
    assert_eq!(held(), ["ksk.1", "ksk.2", "ksm.1", "ksm.2"]);
    let back = "UPDATE device_keys SET storage_key = (SELECT storage_key FROM under u
         WHERE u.device = device_keys.device AND u.version = device_keys.version)";
    edit(database, back).await;
    let host = world.serve_by(ahead).await;
    let [mut ada, _, _] = keepers(world, &host).await;
    let over = |shown: &ShowStorageResponse| shown.rotation.is_none();
    assert_eq!(ada.until(over).await, [pair(2, "PRESENT", 3)]);
    host.stop().await;
    assert_eq!(held(), ["ksk.2", "ksm.2"]);
}

/// The host keeps old pairs for two days.
fn keep_old_pairs(world: &World<'_>) {
    world.configure(
        "key-strength = \"warn\"\nkey-policy = \"lenient\"\nstorage.keep-old-pair-hours = 48\n",
    );
}

/// The devices whose rows were refused, as the trail has it.
async fn refusals(database: &mut SqliteConnection) -> Vec<String> {
    let refused = "SELECT device FROM audit WHERE action = 'storage.row-refused' ORDER BY device";
    let refused = sqlx::query_scalar(refused).fetch_all(database);
    refused.await.unwrap()
}
