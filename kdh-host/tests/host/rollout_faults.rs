//! Rollouts when something fails, is exchanged or is spoilt meanwhile.

use std::collections::BTreeSet;

use hsm_modules::SOFTHSM;
use kdh_proto::v1::{
    ListBdksRequest, SharedKey, ShowStorageResponse, administration_client::AdministrationClient,
    key_profile_slot::Source, key_profile_target, rollout_target::Target, rollout_waves::Size,
};

use crate::{
    credential::Forward,
    database::Database,
    derived_keys::{bring_bdks, derive_from_now_on, derived, kcv, register_bdks},
    keeper::{agree_on_rotation, keepers},
    rollouts::{Conductor, add_devices, in_waves, is_done, of, of_devices, of_model, order},
    stage::{self, HEADER, LENIENT, Stage, carry, carry_profile, join, put_profile, slot, unique},
    world::{self, World, add_device, register_master_key},
};

/// In one batch.
const DEVICES: usize = 64;

#[test]
fn no_id_is_given_out_twice_and_nobody_is_left_out_whatever_fails_or_is_exchanged() {
    world::on(&[&SOFTHSM], |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            add_devices(&mut stage, DEVICES - 2).await;
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, false).await;
            let mut stage = Box::pin(fails_behind_its_ids(stage, &mut database)).await;
            exchanges_the_bdk(&mut stage, &mut database).await;
            refuses_spoilt_rows(&mut stage, &mut database).await;
            stage.host.stop().await;
        });
    });
}

/// The ids of a batch are given out, and the host ends before its keys are written.
async fn fails_behind_its_ids<'w>(stage: Stage<'w>, database: &mut Database) -> Stage<'w> {
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON device_keys BEGIN SELECT RAISE(ABORT, 'a test'); END";
    database.execute(refuse).await;
    let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
    let number = ada.begin(of_model()).await;
    let claims = "audit WHERE action = 'bdk.ids-claimed'";
    while database.count(claims).await == 0 {
        tokio::task::yield_now().await;
    }
    let stage = stage
        .restart(async || {
            assert_eq!(database.count("device_keys").await, 0);
            database.execute("DROP TRIGGER refuse").await;
        })
        .await;
    let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
    let done = ada.until(number, is_done).await;
    assert_eq!(
        (done.waves[0].made, done.waves[0].skipped),
        (DEVICES as u64, 0)
    );
    let keys: Vec<(String, i64)> = database
        .rows("SELECT device, derivation_id FROM device_keys WHERE state = 'PENDING'")
        .await;
    let (devices, ids): (BTreeSet<_>, BTreeSet<_>) = keys.into_iter().unzip();
    assert_eq!((devices.len(), ids.len()), (DEVICES, DEVICES));
    // Those of the first attempts are nobody's.
    let batch = i64::try_from(DEVICES).unwrap();
    let last = batch * database.count(claims).await;
    assert!(last > batch);
    assert!(
        ids.iter().all(|id| (last - batch + 1..=last).contains(id)),
        "{ids:?}"
    );
    stage
}

/// Another operator exchanges the BDK while a rollout waits for its next wave.
async fn exchanges_the_bdk(stage: &mut Stage<'_>, database: &mut Database) {
    let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
    let channel = stage.world.operators_channel(&stage.host, 1).await;
    let mut bob = AdministrationClient::new(channel);
    let waves = in_waves(Size::Devices(1), 100, None, of_devices(&["SN-1", "SN-2"]));
    let number = ada.begin(waves).await;
    ada.until(number, |shown| shown.waiting).await;
    let other = vec![derived("other", false)];
    put_profile(&mut bob, "own", 2, other).await.unwrap();
    // What was made by the BDK from before is what is loaded.
    let before = "SELECT derivation_id FROM device_keys WHERE device = 'SN-1' AND state = 'PENDING'
         AND bdk = 'acquirer'";
    let before: i64 = database.value(before).await;
    let issued = stage.request(0).await.unwrap();
    let value = issued.kcv.clone().unwrap().value;
    assert_eq!(value, kcv(u32::try_from(before).unwrap()));
    stage.header = derived("acquirer", false).header;
    stage.confirm(0, &issued).await.unwrap();
    ada.until(number, is_done).await;
    let after =
        "SELECT bdk, derivation_id FROM device_keys WHERE device = 'SN-2' AND state = 'PENDING'";
    let after: (String, i64) = database.row(after).await;
    assert_eq!(after, ("other".to_owned(), 1));
}

/// Rows of rollouts and BDKs that no host has written, or that are gone, hide no other, and keep the old storage keys.
async fn refuses_spoilt_rows(stage: &mut Stage<'_>, database: &mut Database) {
    database.execute("PRAGMA foreign_keys = OFF").await;
    let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
    let waves = in_waves(
        Size::Devices(1),
        100,
        None,
        of_devices(&["D-00001", "D-00002"]),
    );
    let spoilt = ada.begin(waves).await;
    ada.until(spoilt, |shown| shown.waiting).await;
    database.keep("bdks", "kept_bdks").await;
    database
        .edit(&format!(
            "UPDATE rollouts SET kind = 'NONE' WHERE number = {spoilt}"
        ))
        .await;
    database
        .edit("UPDATE bdks SET kind = 'DES' WHERE name = 'other'")
        .await;
    let mut bdks = stage.world.bdks(&stage.host).await;
    let listed = bdks
        .list_bdks(ListBdksRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((listed.bdks.len(), &*listed.bdks[0].name), (1, "acquirer"));
    assert_eq!(listed.refused, ["other"]);
    // The host has known it since before it was spoilt.
    ada.complete(of_devices(&["D-00003"])).await;
    let status = ada.0.stop_rollout(order(spoilt)).await.unwrap_err();
    let says = format!("rollout {spoilt} is not as the HSM has sealed it: ");
    assert!(status.message().starts_with(&says), "{status}");

    database
        .edit("DELETE FROM bdks WHERE name = 'acquirer'")
        .await;
    let [mut asking, mut approving, _] = keepers(stage.world, &stage.host).await;
    agree_on_rotation(&mut asking, &mut approving).await;
    let stuck =
        |shown: &ShowStorageResponse| shown.refused_rows == 3 && !shown.next_try_at.is_empty();
    asking.until(stuck).await;
    let named = "SELECT json_extract(detail, '$.row') FROM audit WHERE action = 'storage.row-refused' ORDER BY 1";
    let named: Vec<String> = database.column(named).await;
    let rollout = format!("rollout {spoilt}");
    assert_eq!(named, ["BDK acquirer", "BDK other", &*rollout]);
    // From the backup, under the pair that is still there.
    let back = "INSERT INTO bdks SELECT * FROM kept_bdks WHERE name = 'acquirer'";
    database.edit(back).await;
    database.edit("UPDATE bdks SET kind = 'AES-128'").await;
    database.edit("UPDATE rollouts SET kind = 'COMMAND'").await;
    asking.until(|shown| shown.rotation.is_none()).await;
    assert_eq!(asking.show().await.pairs.len(), 1);
    let listed = bdks
        .list_bdks(ListBdksRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((listed.bdks.len(), listed.refused.len()), (2, 0));
    ada.0.stop_rollout(order(spoilt)).await.unwrap();
}

#[test]
fn a_profile_that_is_refused_by_now_keeps_no_other_from_renewal() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            world.configure(&format!("{LENIENT}shared-keys = \"allow\"\n"));
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let mut ada = Conductor::new(world, &host, 0).await;
            let mut own = unique();
            own.renewal_days = 1;
            carry(&mut operator, vec![own.clone()]).await;
            register_master_key(&mut operator).await;
            let key_name = "key".to_owned();
            let mut shared = slot("data", HEADER, Source::Shared(SharedKey { key_name }));
            shared.kcv_length = 3;
            let both = put_profile(&mut operator, "shared", 0, vec![shared, own]);
            both.await.unwrap();
            for serial in ["D-1", "D-2"] {
                add_device(&mut operator, serial).await;
            }
            join(&mut operator, "a-pilot", &["D-1"]).await;
            let pilot = key_profile_target::Target::Group("a-pilot".to_owned());
            carry_profile(&mut operator, "shared", pilot).await;
            for target in [
                Target::Group("a-pilot".to_owned()),
                Target::Model("M1".to_owned()),
            ] {
                ada.complete(of(target)).await;
            }
            host.stop().await;

            world.configure(LENIENT);
            let clock = Forward::default();
            clock.put_to(25);
            let host = world.serve_by(clock).await;
            let mut ada = Conductor::new(world, &host, 0).await;
            let renewal = ada.until(3, is_done).await;
            assert_eq!(renewal.kind, "RENEWAL");
            assert_eq!(ada.report(3, false).await, ["D-2 tmk 2 MADE "]);
            let mut database = Database::open(world).await;
            let named: Vec<String> = database
                .column("SELECT detail FROM audit WHERE action = 'rollout.profile-refused'")
                .await;
            let [named] = &named[..] else {
                panic!("{named:?}")
            };
            assert!(named.contains("(shared-keys-not-allowed)"), "{named}");
            assert!(named.ends_with(r#""of":"group a-pilot"}"#), "{named}");
            assert_eq!(
                ada.list().await.unwrap().len(),
                3,
                "it is not tried again and again"
            );
            host.stop().await;
        });
    });
}
