//! New versions of keys for many devices.

use std::collections::{BTreeMap, BTreeSet};

use hsm_modules::SOFTHSM;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        EnrollRequest, KeyCheckValue, ListAssignmentsRequest, ListRolloutKeysRequest,
        ListRolloutsRequest, MoveRolloutRequest, RevokeDeviceRequest, Rollout, RolloutDevices,
        RolloutTarget, RolloutWaves, ShowDeviceRequest, ShowRolloutRequest, StartRolloutRequest,
        StartRolloutResponse, SuspendDeviceRequest, UniqueKey, key_check_value::Method,
        key_distribution_client::KeyDistributionClient, key_profile_slot::Source,
        rollout_target::Target, rollout_waves::Size, rollouts_client::RolloutsClient,
    },
};
use tonic::{Status, transport::Channel};

use crate::{
    credential::Forward,
    database::Database,
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    keeper::{agree_on_rotation, keepers},
    stage::{self, LENIENT, Stage, carry, join, requesting, slot, unique},
    world::{self, Bound, Running, World, add_device},
};

/// An operator who starts rollouts.
pub(crate) struct Conductor(pub(crate) RolloutsClient<Channel>);

impl Conductor {
    pub(crate) async fn new(world: &World<'_>, host: &Running, operator: usize) -> Self {
        let channel = world.operators_channel(host, operator).await;
        Self(RolloutsClient::new(channel))
    }

    pub(crate) async fn start(
        &mut self,
        request: StartRolloutRequest,
    ) -> Result<StartRolloutResponse, Status> {
        Ok(self.0.start_rollout(request).await?.into_inner())
    }

    /// Starts one that nothing speaks against. Its number.
    pub(crate) async fn begin(&mut self, request: StartRolloutRequest) -> u32 {
        self.start(request).await.unwrap().rollout.unwrap().number
    }

    /// The same, and waits until it is done.
    pub(crate) async fn complete(&mut self, request: StartRolloutRequest) -> Rollout {
        let number = self.begin(request).await;
        self.until(number, is_done).await
    }

    pub(crate) async fn show(&mut self, number: u32) -> Result<Rollout, Status> {
        let shown = self.0.show_rollout(ShowRolloutRequest { number }).await?;
        Ok(shown.into_inner())
    }

    pub(crate) async fn list(&mut self) -> Result<Vec<Rollout>, Status> {
        let listed = self.0.list_rollouts(ListRolloutsRequest::default()).await?;
        Ok(listed.into_inner().rollouts)
    }

    /// The rollout, once it is there and is so.
    pub(crate) async fn until(&mut self, number: u32, is: impl Fn(&Rollout) -> bool) -> Rollout {
        world::until(async || match self.show(number).await {
            Ok(shown) => Some(shown).filter(&is),
            Err(status) => {
                assert_eq!(status.reason(), Some(Reason::NotFound));
                None
            }
        })
        .await
    }

    /// Device, slot, state and why of what became of each.
    pub(crate) async fn report(&mut self, number: u32, troubled: bool) -> Vec<String> {
        let request = ListRolloutKeysRequest {
            number,
            troubled,
            ..ListRolloutKeysRequest::default()
        };
        let keys = self.0.list_rollout_keys(request).await.unwrap();
        let keys = keys.into_inner().keys.into_iter();
        let words = keys.map(|key| {
            let (serial, slot) = (key.serial_number, key.slot);
            format!("{serial} {slot} {} {} {}", key.version, key.state, key.why)
        });
        words.collect()
    }
}

pub(crate) fn order(number: u32) -> MoveRolloutRequest {
    MoveRolloutRequest {
        number,
        why: "a question".to_owned(),
    }
}

pub(crate) fn of(target: Target) -> StartRolloutRequest {
    StartRolloutRequest {
        target: Some(RolloutTarget {
            target: Some(target),
        }),
        why: "yearly".to_owned(),
        ..StartRolloutRequest::default()
    }
}

pub(crate) fn of_model() -> StartRolloutRequest {
    of(Target::Model("M1".to_owned()))
}

pub(crate) fn of_devices(serials: &[&str]) -> StartRolloutRequest {
    of(Target::Devices(RolloutDevices {
        serial_numbers: serials.iter().map(ToString::to_string).collect(),
    }))
}

/// The same in waves: how large, how many of a hundred confirm before the next one, and after how many wrong check
/// values there is none.
pub(crate) fn in_waves(
    size: Size,
    proceed_at: u32,
    stop_after: Option<u32>,
    request: StartRolloutRequest,
) -> StartRolloutRequest {
    let waves = RolloutWaves {
        size: Some(size),
        proceed_at,
        stop_after,
    };
    StartRolloutRequest {
        waves: Some(waves),
        ..request
    }
}

/// Devices that nobody has enrolled: D-00001 and so on.
pub(crate) async fn add_devices(stage: &mut Stage<'_>, devices: usize) {
    for number in 1..=devices {
        add_device(&mut stage.operator, &format!("D-{number:05}")).await;
    }
}

pub(crate) fn is_done(rollout: &Rollout) -> bool {
    rollout.state == "DONE"
}

pub(crate) fn is_paused(rollout: &Rollout) -> bool {
    rollout.state == "PAUSED"
}

/// Device, version and check value of each key that a rollout has made, as the trail has them.
async fn recorded(database: &mut Database) -> BTreeSet<String> {
    let details: Vec<String> = database
        .column("SELECT detail FROM audit WHERE action = 'rollout.keys-made'")
        .await;
    let mut made = BTreeSet::new();
    for detail in details {
        let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
        for slot in detail["keys"].as_array().unwrap() {
            assert_eq!(
                (&slot["slot"], &slot["source"]),
                (&"tmk".into(), &"UNIQUE".into())
            );
            for key in slot["made"].as_array().unwrap() {
                let new = made.insert(key.as_str().unwrap().to_owned());
                assert!(new, "{key} is there twice");
            }
        }
    }
    made
}

#[test]
fn every_device_of_a_model_gets_a_key_once() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            // Two batches a second, of which the host is stopped in the middle.
            let mut stage = Stage::set_with(world, "limits.rollout-per-second = 128\n").await;
            let mut ada = Conductor::new(world, &stage.host, 0).await;
            let mut database = Database::open(world).await;
            add_devices(&mut stage, 300).await;
            // One that no operator has added.
            let forged = "INSERT INTO devices (serial_number, model, state, created_at, changed_at) \
                          SELECT 'D-FORGED', model, state, created_at, changed_at FROM devices WHERE serial_number = 'D-00001'";
            database.edit(forged).await;
            stage.load(0).await;
            stage.assign(1).await;
            let suspend = SuspendDeviceRequest {
                serial_number: "D-00007".to_owned(),
                why: "lost".to_owned(),
            };
            stage.operator.suspend_device(suspend).await.unwrap();

            // What it would do.
            let dry = StartRolloutRequest {
                dry_run: true,
                why: String::new(),
                ..of_model()
            };
            let planned = ada.start(dry).await.unwrap();
            assert_eq!(planned.rollout.unwrap().number, 0);
            let plan = planned.plan.unwrap();
            assert_eq!((plan.devices, plan.slots.len()), (303, 1));
            assert_eq!((&*plan.skips[0].why, plan.skips[0].devices), ("SUSPENDED", 1));
            let planned = &plan.slots[0];
            assert_eq!(
                (&*planned.slot, &*planned.profile, planned.profile_version, &*planned.source),
                ("tmk", "own", 1, "UNIQUE")
            );
            assert_eq!((planned.devices, planned.confirmed, planned.pending), (302, 1, 1));
            assert!(ada.list().await.unwrap().is_empty());
            assert_eq!(database.count("device_keys").await, 2);

            let number = ada.begin(of_model()).await;
            let status = ada.start(of_model()).await.unwrap_err();
            assert_eq!(status.reason(), Some(Reason::AlreadyExists));
            let mut done = 0;
            let mut stops = 0;
            while done < 303 {
                let now = ada.until(number, |shown| shown.done > done).await;
                done = now.done;
                stops += 1;
                // Wherever the engine is.
                stage.host.stop().await;
                stage.host = world.serve().await;
                ada = Conductor::new(world, &stage.host, 0).await;
            }
            assert!(stops > 1);
            let shown = ada.until(number, is_done).await;
            assert_eq!((shown.devices, shown.waves.len()), (303, 1));
            let wave = shown.waves[0];
            assert_eq!((wave.devices, wave.made, wave.skipped), (303, 301, 2));
            assert_eq!(
                ada.report(number, true).await,
                ["D-00007  0 SKIPPED SUSPENDED", "D-FORGED  0 SKIPPED NOT_RECORDED"]
            );

            let rows = "SELECT state, version, COUNT(*) FROM device_keys GROUP BY state, version
                 ORDER BY state, version";
            let rows: Vec<(String, i64, i64)> = database.rows(rows).await;
            let rows: Vec<_> = rows
                .iter()
                .map(|(state, version, keys)| (&**state, *version, *keys))
                .collect();
            let expected = [("ACTIVE", 1, 1), ("PENDING", 1, 299), ("PENDING", 2, 2), ("WITHDRAWN", 1, 1)];
            assert_eq!(rows, expected);
            let held = "SELECT device || ' ' || version || ' ' || kcv FROM device_keys WHERE state = 'PENDING'";
            let held: Vec<String> = database.column(held).await;
            assert_eq!(recorded(&mut database).await, held.into_iter().collect());
            stage.host.stop().await;
        });
    });
}

#[test]
fn derived_keys_have_ids_of_their_own_and_a_rotation_moves_rollouts() {
    world::on(&[&SOFTHSM], |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
            add_devices(&mut stage, 98).await;
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, true).await;
            let planned = ada.start(of_model()).await.unwrap();
            assert_eq!(planned.plan.unwrap().slots[0].source, "DERIVED");
            let number = planned.rollout.unwrap().number;
            ada.until(number, is_done).await;
            assert_eq!(database.count("device_keys").await, 100);
            let ids: Vec<i64> = database
                .column("SELECT derivation_id FROM device_keys ORDER BY derivation_id")
                .await;
            assert_eq!(ids, (1..=100).collect::<Vec<_>>());
            let claimed = "audit WHERE action = 'bdk.ids-claimed'";
            assert_eq!(database.count(claimed).await, 2, "once for each batch");
            // The trail says which device has which one.
            let query = "SELECT device, version, kcv, derivation_id FROM device_keys WHERE device = 'D-00070'";
            let (device, version, kcv, id): (String, i64, String, i64) = database.row(query).await;
            let entry = format!("{device} {version} {kcv} 12345678{id:08X}");
            let details: Vec<String> = database
                .column("SELECT detail FROM audit WHERE action = 'rollout.keys-made'")
                .await;
            let of_bdk = |detail: &String| {
                let detail: serde_json::Value = serde_json::from_str(detail).unwrap();
                let keys = &detail["keys"];
                assert_eq!(keys.as_array().unwrap().len(), 1, "{detail}");
                assert_eq!(
                    (&keys[0]["source"], &keys[0]["bdk"]),
                    (&"DERIVED".into(), &"acquirer".into())
                );
                keys[0]["made"]
                    .as_array()
                    .unwrap()
                    .contains(&entry.clone().into())
            };
            assert_eq!(details.iter().filter(|detail| of_bdk(detail)).count(), 1);

            let [mut asking, mut approving, _] = keepers(stage.world, &stage.host).await;
            agree_on_rotation(&mut asking, &mut approving).await;
            let pairs = asking.until(|shown| shown.rotation.is_none()).await;
            // Of devices, two BDKs, the rollout, the approval.
            assert_eq!(pairs, [(2, "PRESENT".to_owned(), 104)]);
            assert!(is_done(&ada.show(number).await.unwrap()));
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_wave_waits_for_confirmations_and_stops_at_wrong_check_values() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
            let mut cleo = Conductor::new(stage.world, &stage.host, 2).await;
            add_device(&mut stage.operator, "SN-3").await;
            let waves = in_waves(
                Size::Percent(33),
                100,
                Some(0),
                of_devices(&["SN-3", "SN-1", "SN-2"]),
            );
            let status = cleo.start(waves.clone()).await.unwrap_err();
            assert_eq!(status.reason(), Some(Reason::RoleMissing));
            let number = ada.begin(waves).await;
            let waiting = ada.until(number, |shown| shown.waiting).await;
            assert_eq!(waiting.wave_devices, 1);
            let wave = waiting.waves[0];
            assert_eq!(
                (wave.number, wave.made, wave.offered, wave.confirmed),
                (1, 1, 0, 0)
            );
            let issued = stage.request(0).await.unwrap();
            assert_eq!(
                ada.until(number, |shown| shown.waves[0].offered == 1)
                    .await
                    .waves
                    .len(),
                1
            );
            stage.confirm(0, &issued).await.unwrap();
            let second = ada
                .until(number, |shown| shown.waves.len() == 2 && shown.waiting)
                .await;
            assert_eq!((second.waves[1].confirmed, second.waves[0].made), (1, 1));

            // The next one has loaded something else.
            let issued = stage.request(1).await.unwrap();
            let wrong = KeyCheckValue {
                method: Method::AesCmac.into(),
                value: vec![1, 2, 3, 4, 5],
            };
            let status = stage.report(1, &issued, Some(wrong)).await.unwrap_err();
            assert_eq!(status.reason(), Some(Reason::KcvMismatch));
            let paused = ada.until(number, is_paused).await;
            assert_eq!(
                paused.state_why,
                "1 devices have reported a wrong check value, more than 0"
            );
            assert_eq!((paused.waves.len(), paused.waves[0].failed), (2, 1));
            assert_eq!(ada.report(number, true).await, ["SN-2 tmk 1 FAILED "]);
            assert_eq!(database.count("device_keys").await, 2);

            // Whoever has looked at it lets it go on; the wave waits for the one that failed until that is revoked.
            let status = cleo.0.resume_rollout(order(number)).await.unwrap_err();
            assert_eq!(status.reason(), Some(Reason::RoleMissing));
            ada.0.resume_rollout(order(number)).await.unwrap();
            let status = ada.0.resume_rollout(order(number)).await.unwrap_err();
            assert_eq!(
                status.message(),
                format!("rollout {number} is RUNNING: this is not possible now")
            );
            ada.until(number, |shown| shown.waiting).await;
            let revoke = RevokeDeviceRequest {
                serial_number: "SN-2".to_owned(),
                why: "opened".to_owned(),
            };
            stage.operator.revoke_device(revoke).await.unwrap();
            let done = ada.until(number, is_done).await;
            assert_eq!(
                (done.waves.len(), done.waves[1].void, done.waves[0].made),
                (3, 1, 1)
            );
            assert_eq!(
                ada.report(number, false).await,
                [
                    "SN-1 tmk 1 CONFIRMED ",
                    "SN-2 tmk 1 VOID ",
                    "SN-3 tmk 1 MADE "
                ]
            );
            moves_no_more(&mut ada, number).await;
            let actions = "SELECT actor || ' ' || action FROM audit WHERE action LIKE 'rollout.%' ORDER BY sequence";
            let actions: Vec<String> = database.column(actions).await;
            let expected = [
                "operator:ada rollout.started",
                "host rollout.keys-made",
                "host rollout.keys-made",
                "host rollout.paused",
                "operator:ada rollout.resumed",
                "host rollout.keys-made",
                "host rollout.done",
            ];
            assert_eq!(actions, expected);
            stage.host.stop().await;
        });
    });
}

/// Once it is done.
async fn moves_no_more(ada: &mut Conductor, number: u32) {
    for moved in [
        ada.0.pause_rollout(order(number)).await,
        ada.0.resume_rollout(order(number)).await,
        ada.0.stop_rollout(order(number)).await,
    ] {
        let status = moved.unwrap_err();
        let cause = format!("rollout {number} is DONE: this is not possible now");
        assert_eq!(
            (status.reason(), status.message()),
            (Some(Reason::WrongState), &*cause)
        );
    }
}

#[test]
fn what_somebody_writes_into_the_database_makes_no_key() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let mut ada = Conductor::new(stage.world, &stage.host, 0).await;
            add_device(&mut stage.operator, "SN-3").await;
            refuses_bad_requests(&mut ada).await;

            // A key whose row was edited is not replaced by another, and nobody else waits for it.
            stage.assign(1).await;
            database
                .edit("UPDATE device_keys SET header = 'D0000P0AE00N0000' WHERE device = 'SN-2'")
                .await;
            let number = ada.complete(of_model()).await.number;
            assert_eq!(
                ada.report(number, false).await,
                [
                    "SN-1 tmk 1 MADE ",
                    "SN-2 tmk 0 SKIPPED ROW_CHANGED",
                    "SN-3 tmk 1 MADE "
                ]
            );

            skips_a_forged_device(&mut ada, &mut database).await;
            follows_on_no_version_that_was_made_up(&mut ada, &mut database).await;

            // One that is paused is not made to run, nor to reach others, by who can write to its row.
            let paused = in_waves(Size::Devices(1), 100, None, of_devices(&["SN-1", "SN-3"]));
            let number = ada.begin(paused).await;
            ada.until(number, |shown| shown.waiting).await;
            ada.0.pause_rollout(order(number)).await.unwrap();
            database.keep("rollouts", "kept").await;
            for change in [
                "state = 'RUNNING'",
                "state = 'RUNNING', wave_devices = 0, proceed_at = 0",
                "state = 'RUNNING', kind = 'RENEWAL', target_kind = 'ANY', target = '', devices = ''",
                "state = 'RUNNING', slots = 'tmk'",
                "state = 'RUNNING', started_by = 'bob'",
                "why = 'another one'",
                // What no host has written hides no other either.
                "kind = 'NONE'",
                "state = 'RUNNING', devices = 'sn-1'",
            ] {
                let kept = database.count("device_keys").await;
                database
                    .edit(&format!(
                        "UPDATE rollouts SET {change} WHERE number = {number}"
                    ))
                    .await;
                let listed = ada.list().await.unwrap();
                let refused = listed.iter().filter(|listed| listed.state == "REFUSED");
                let refused: Vec<u32> = refused.map(|refused| refused.number).collect();
                assert_eq!(refused, [number], "{change}");
                let status = ada.0.resume_rollout(order(number)).await.unwrap_err();
                assert_eq!(status.reason(), Some(Reason::WrongState), "{change}");
                // Another one is done meanwhile: the engine has been at all of them.
                ada.complete(of_devices(&["SN-1"])).await;
                assert_eq!(database.count("device_keys").await, kept + 1, "{change}");
                database.edit(&format!(
                        "UPDATE rollouts SET (kind, target_kind, target, devices, slots, wave_devices, proceed_at,
                             state, started_by, why) = (SELECT kind, target_kind, target, devices, slots,
                             wave_devices, proceed_at, state, started_by, why FROM kept k
                             WHERE k.number = rollouts.number) WHERE number = {number}"
                    ),
                )
                .await;
            }

            // Put back to its beginning it does not give anybody a second key.
            let kept = database.count("device_keys").await;
            database.edit(&format!("UPDATE rollout_waves SET last_device = '', devices = 0 WHERE rollout = {number}"),
            )
            .await;
            ada.0.resume_rollout(order(number)).await.unwrap();
            let stopped = ada.until(number, is_paused).await;
            let cause = format!(
                "internal: rollout {number} has come to one of SN-1 to SN-1 before, and its rows do not say so: \
                 somebody else has changed them"
            );
            assert_eq!(stopped.state_why, cause);
            assert_eq!(database.count("device_keys").await, kept);
            ada.0.stop_rollout(order(number)).await.unwrap();

            skips_what_was_revoked(&mut stage, &mut ada, &mut database).await;
            raises_the_alarm_for_equal_check_values(&mut ada, &mut database).await;
            raises_the_alarm_for_twins(&mut stage, &mut ada, &mut database).await;
            stage.host.stop().await;
        });
    });
}

/// A device that somebody has put there, with a record in the trail that says that an operator did.
async fn skips_a_forged_device(ada: &mut Conductor, database: &mut Database) {
    let forged = "INSERT INTO devices (serial_number, model, state, created_at, changed_at) \
                  SELECT 'D-FORGED', model, state, created_at, changed_at FROM devices WHERE serial_number = 'SN-3'";
    database.edit(forged).await;
    let record = "INSERT INTO audit SELECT -1, at, actor, action, 'D-FORGED', outcome, detail, previous_hash,
         hash FROM audit WHERE action = 'device.added' AND device = 'SN-3'";
    database.edit(record).await;
    let number = ada.complete(of_devices(&["D-FORGED", "SN-3"])).await.number;
    assert_eq!(
        ada.report(number, false).await,
        ["D-FORGED  0 SKIPPED NOT_RECORDED", "SN-3 tmk 2 MADE "]
    );
    database.edit("DELETE FROM audit WHERE sequence = -1").await;
}

/// A device that an operator has revoked, and that somebody has put back.
async fn skips_what_was_revoked(
    stage: &mut Stage<'_>,
    ada: &mut Conductor,
    database: &mut Database,
) {
    stage.world.added(&mut stage.operator, "SN-9").await;
    let revoke = kdh_proto::v1::RevokeDeviceRequest {
        serial_number: "SN-9".to_owned(),
        why: "stolen".to_owned(),
    };
    stage.operator.revoke_device(revoke).await.unwrap();
    let again = "UPDATE devices SET state = 'REGISTERED' WHERE serial_number = 'SN-9'";
    database.edit(again).await;
    let number = ada.complete(of_devices(&["SN-9"])).await.number;
    assert_eq!(
        ada.report(number, false).await,
        ["SN-9  0 SKIPPED NOT_RECORDED"]
    );
}

/// Rows that use a slot's version numbers up, or that stand where no host puts one.
async fn follows_on_no_version_that_was_made_up(ada: &mut Conductor, database: &mut Database) {
    let made_up = async |database: &mut Database, device: &str, slot: &str, version: u64| {
        let insert = format!(
            "INSERT INTO device_keys SELECT device, '{slot}', {version}, 'DESTROYED', source, key_name, NULL, header,
             kind, kcv_method, kcv, recipient, created_at, changed_at, storage_key, mac, NULL, NULL, NULL
             FROM device_keys WHERE device = '{device}' AND version = 1"
        );
        database.edit(&insert).await;
    };
    let largest = u64::from(u32::MAX);
    made_up(database, "SN-1", "tmk", largest + 7).await;
    made_up(database, "SN-1", "TMK!", 1).await;
    for version in [largest - 1, largest, 3, 700] {
        made_up(database, "SN-3", "tmk", version).await;
        let number = ada.begin(of_devices(&["SN-1", "SN-3"])).await;
        let shown = ada
            .until(number, |shown| is_done(shown) || is_paused(shown))
            .await;
        assert!(is_done(&shown), "{version}: {}", shown.state_why);
        let report = ada.report(number, false).await;
        assert!(
            report[0].starts_with("SN-1 tmk ") && report[0].ends_with(" MADE "),
            "{report:?}"
        );
        assert_eq!(report[1], "SN-3 tmk 0 SKIPPED ROW_CHANGED", "{version}");
        let named = format!(
            "audit WHERE action = 'storage.row-refused' AND device = 'SN-3' AND detail LIKE '%:{version}}}'"
        );
        world::until(async || (database.count(&named).await == 1).then_some(())).await;
        database
            .edit(&format!(
                "DELETE FROM device_keys WHERE device = 'SN-3' AND version = {version}"
            ))
            .await;
    }
    database
        .edit(&format!(
            "DELETE FROM device_keys WHERE slot = 'TMK!' OR version > {largest}"
        ))
        .await;
    let number = ada.complete(of_devices(&["SN-1", "SN-3"])).await.number;
    assert_eq!(
        ada.report(number, false).await,
        ["SN-1 tmk 6 MADE ", "SN-3 tmk 3 MADE "]
    );
}

/// How many there were since the host was started.
async fn alarms_of(ada: &mut Conductor) -> u64 {
    let listed = ada.0.list_rollouts(ListRolloutsRequest::default()).await;
    listed.unwrap().into_inner().alarms
}

/// Two keys with one check value of five bytes, among a handful of keys.
async fn raises_the_alarm_for_equal_check_values(ada: &mut Conductor, database: &mut Database) {
    // As if the HSM had made them.
    let twin = "CREATE TRIGGER twin AFTER INSERT ON device_keys WHEN NEW.device = 'SN-3' BEGIN
         INSERT INTO device_keys (device, slot, version, state, source, wrapped, header, kind, kcv_method, kcv,
             created_at, changed_at, storage_key, mac)
         VALUES ('SN-2', 'twin', 1, 'PENDING', 'UNIQUE', randomblob(24), NEW.header, NEW.kind, NEW.kcv_method, NEW.kcv,
             NEW.created_at, NEW.changed_at, NEW.storage_key, randomblob(16)); END";
    database.execute(twin).await;
    assert_eq!(alarms_of(ada).await, 0);
    let number = ada.begin(of_devices(&["SN-3"])).await;
    let paused = ada.until(number, is_paused).await;
    assert_eq!(
        paused.state_why,
        "internal: more keys have one check value than chance gives: see alarm.equal-check-values in the audit trail"
    );
    assert_eq!(alarms_of(ada).await, 1);
    let (actor, outcome, detail): (String, String, String) = database
        .row("SELECT actor, outcome, detail FROM audit WHERE action = 'alarm.equal-check-values'")
        .await;
    let kcv: String = database
        .value("SELECT kcv FROM device_keys WHERE slot = 'twin'")
        .await;
    assert_eq!((&*actor, &*outcome), ("host", "ok"));
    let says = format!(r#"{{"alarm":"2 keys of devices have the check value {kcv}, of "#);
    assert!(detail.starts_with(&says), "{detail}");
    database.execute("DROP TRIGGER twin").await;
    database
        .edit("DELETE FROM device_keys WHERE slot = 'twin'")
        .await;
    ada.0.stop_rollout(order(number)).await.unwrap();
}

/// Two devices with one public key.
async fn raises_the_alarm_for_twins(
    stage: &mut Stage<'_>,
    ada: &mut Conductor,
    database: &mut Database,
) {
    let code = stage.world.added(&mut stage.operator, "SN-4").await;
    let enrollment = stage.world.enrollment("SN-4", &code);
    let mut stranger = stage.world.terminal(&stage.host).await;
    stranger.enroll(enrollment.clone()).await.unwrap();
    let twin = EnrollRequest {
        serial_number: "SN-5".to_owned(),
        activation_code: stage.world.added(&mut stage.operator, "SN-5").await,
        ..enrollment
    };
    stranger.enroll(twin).await.unwrap_err();
    let alarms: Vec<(String, String)> = database
        .rows("SELECT device, detail FROM audit WHERE action = 'alarm.public-key-in-use'")
        .await;
    let detail = r#"{"alarm":"SN-5 came to enrol with a public key of SN-4"}"#;
    assert_eq!(alarms, [("SN-5".to_owned(), detail.to_owned())]);
    assert_eq!(alarms_of(ada).await, 2);
}

type Refusal = (StartRolloutRequest, Reason, &'static str);

fn bad_waves() -> Vec<Refusal> {
    let invalid = Reason::RequestInvalid;
    let waves = |size, proceed_at| StartRolloutRequest {
        waves: Some(RolloutWaves {
            size,
            proceed_at,
            stop_after: None,
        }),
        ..of_model()
    };
    vec![
        (
            waves(None, 1),
            invalid,
            "there is one wave, and none behind it to proceed to",
        ),
        (
            waves(Some(Size::Devices(0)), 95),
            invalid,
            "a wave has 1 to 10000000 devices, not 0",
        ),
        (
            waves(Some(Size::Percent(0)), 95),
            invalid,
            "a wave is 1 to 100 percent, not 0",
        ),
        (
            waves(Some(Size::Percent(101)), 95),
            invalid,
            "a wave is 1 to 100 percent, not 101",
        ),
        (
            waves(Some(Size::Devices(1)), 0),
            invalid,
            "the next wave begins when 1 to 100 percent have confirmed, not 0",
        ),
        (
            waves(Some(Size::Devices(1)), 101),
            invalid,
            "the next wave begins when 1 to 100 percent have confirmed, not 101",
        ),
    ]
}

fn bad_targets() -> Vec<Refusal> {
    let invalid = Reason::RequestInvalid;
    let many: Vec<String> = (0..=1000).map(|number| format!("N-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let slots = |slots: &[&str]| StartRolloutRequest {
        slots: slots.iter().map(ToString::to_string).collect(),
        ..of_model()
    };
    vec![
        (
            StartRolloutRequest::default(),
            invalid,
            "nothing is named that shall get keys: name a model, a group or devices",
        ),
        (
            of_devices(&[]),
            invalid,
            "a rollout names 1 to 1000 devices, not 0: put more of them into a group",
        ),
        (
            of_devices(&many),
            invalid,
            "a rollout names 1 to 1000 devices, not 1001: put more of them into a group",
        ),
        (
            of_devices(&["SN-1", "SN-2", "SN-1"]),
            invalid,
            "SN-1 is named twice",
        ),
        (
            of_devices(&["sn-1"]),
            invalid,
            "\"sn-1\" is no serial number: 1 to 32 of A-Z, 0-9 and '-', not beginning with '-'",
        ),
        (
            of_devices(&["SN-9"]),
            Reason::NotFound,
            "there is no such device",
        ),
        (
            of(Target::Model("M9".to_owned())),
            Reason::NotFound,
            "there is no such device",
        ),
        (
            of(Target::Group("pilot".to_owned())),
            Reason::NotFound,
            "there is no such device",
        ),
        (
            of(Target::Group("Pilot".to_owned())),
            invalid,
            "\"Pilot\" is no name of a device group: 1 to 64 of a-z, 0-9 and '-'",
        ),
        (slots(&["tmk", "tmk"]), invalid, "slot tmk is named twice"),
        (
            slots(&["TMK"]),
            invalid,
            "\"TMK\" is no slot: 1 to 24 of a-z, 0-9 and '-'",
        ),
        (
            slots(&["pin"]),
            Reason::NotFound,
            "nobody would get a key: of 3 devices 3 NO_SLOT",
        ),
        (
            StartRolloutRequest {
                why: String::new(),
                ..of_model()
            },
            invalid,
            "\"\" is no reason: 1 to 200 printable characters",
        ),
    ]
}

async fn refuses_bad_requests(ada: &mut Conductor) {
    for (request, reason, message) in bad_targets().into_iter().chain(bad_waves()) {
        let status = ada.start(request).await.unwrap_err();
        assert_eq!((status.reason(), status.message()), (Some(reason), message));
    }
    let status = ada.0.stop_rollout(order(7)).await.unwrap_err();
    assert_eq!(
        (status.reason(), status.message()),
        (Some(Reason::NotFound), "there is no rollout 7")
    );
    let no_why = MoveRolloutRequest {
        number: 1,
        why: String::new(),
    };
    let status = ada.0.pause_rollout(no_why).await.unwrap_err();
    assert_eq!(status.reason(), Some(Reason::RequestInvalid));
    assert!(ada.list().await.unwrap().is_empty());
}

/// A device by itself: enrolled by now, bound, and asked for the key in a slot.
async fn request(
    client: &mut KeyDistributionClient<Channel>,
    slot: &str,
    nonce: u8,
) -> Result<u32, Status> {
    let request = requesting(slot, nonce);
    Ok(client.request_key(request).await?.into_inner().key_version)
}

#[test]
fn the_host_makes_by_itself_what_is_missing_and_what_is_due() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            world.configure(&format!("{LENIENT}keys-for-new-devices = \"make\"\n"));
            // Terminals come back after days.
            let configuration = std::fs::read_to_string(world.path("kdh-host.toml")).unwrap();
            let longer = configuration.replace("validity-days = 1\n", "validity-days = 9\n");
            std::fs::write(world.path("kdh-host.toml"), longer).unwrap();
            let clock = Forward::default();
            let host = world.serve_by(clock.clone()).await;
            let mut operator = world.operator(&host).await;
            let mut ada = Conductor::new(world, &host, 0).await;
            let mut renewed = unique();
            (renewed.renewal_days, renewed.validity_days) = (1, 2);
            let mut short = slot("data", "D0000D0AB00N0000", Source::Unique(UniqueKey {}));
            short.validity_days = 1;
            carry(&mut operator, vec![short, renewed]).await;

            // One that enrols, one that comes into a group, and one that is only registered.
            let Bound {
                mut client,
                enrolled,
            } = world.bound(&host, &mut operator, "SN-2").await;
            let first = loop {
                let rollouts = ada.list().await.unwrap();
                if let Some(first) = rollouts.into_iter().find(is_done) {
                    break first;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(
                (&*first.kind, &*first.started_by, &first.target),
                ("FILLING", "host", &None)
            );
            assert_eq!(
                ada.report(first.number, false).await,
                ["SN-2 data 1 MADE ", "SN-2 tmk 1 MADE "]
            );
            let listed = client
                .list_assignments(ListAssignmentsRequest {})
                .await
                .unwrap();
            assert_eq!(listed.into_inner().assignments.len(), 2);
            assert_eq!(request(&mut client, "tmk", 1).await.unwrap(), 1);
            for serial_number in ["SN-1", "SN-3"] {
                world.added(&mut operator, serial_number).await;
            }
            join(&mut operator, "pilot", &["SN-2", "SN-3"]).await;
            let second = ada.until(first.number + 1, is_done).await;
            assert_eq!(
                ada.report(second.number, false).await,
                ["SN-3 data 1 MADE ", "SN-3 tmk 1 MADE "],
                "SN-2 has its keys, and nobody has given SN-1 any"
            );
            host.stop().await;

            // Two days later what is renewed daily is due, and what is valid for a day is delivered no more.
            clock.put_to(49);
            let host = world.serve_by(clock.clone()).await;
            let mut operator = world.operator(&host).await;
            let mut ada = Conductor::new(world, &host, 0).await;
            let renewal = ada.until(second.number + 1, is_done).await;
            assert_eq!((&*renewal.kind, &*renewal.started_by), ("RENEWAL", "host"));
            assert_eq!(
                ada.report(renewal.number, false).await,
                ["SN-2 tmk 2 MADE ", "SN-3 tmk 2 MADE "]
            );
            let show = ShowDeviceRequest {
                serial_number: "SN-2".to_owned(),
            };
            let shown = operator.show_device(show.clone()).await.unwrap();
            assert_eq!(shown.into_inner().expired_slots, ["data"]);
            let mut client = world.enrolled(&host, "SN-2", &enrolled).await;
            let status = request(&mut client, "data", 2).await.unwrap_err();
            assert_eq!(status.reason(), Some(Reason::KeyExpired));
            let listed = client
                .list_assignments(ListAssignmentsRequest {})
                .await
                .unwrap();
            let listed = listed.into_inner().assignments;
            let listed: Vec<_> = listed
                .iter()
                .map(|one| (&*one.slot, one.key_version))
                .collect();
            assert_eq!(listed, [("tmk", 2)]);
            learns_nothing_by_another_profile(world, &mut client).await;
            let named = StartRolloutRequest {
                slots: vec!["data".to_owned()],
                ..of_devices(&["SN-2"])
            };
            ada.complete(named).await;
            assert_eq!(request(&mut client, "data", 5).await.unwrap(), 2);
            let shown = operator.show_device(show).await.unwrap().into_inner();
            assert!(shown.expired_slots.is_empty());
            host.stop().await;
        });
    });
}

/// Whatever somebody makes of the profile behind the host's back, a terminal is neither told of the key that has expired
/// nor given it.
async fn learns_nothing_by_another_profile(
    world: &World<'_>,
    client: &mut KeyDistributionClient<Channel>,
) {
    let mut database = Database::open(world).await;
    for (nonce, table, change) in [
        (3, "key_profile_targets", "DELETE FROM key_profile_targets"),
        (
            4,
            "key_profiles",
            "UPDATE key_profiles SET document = replace(document, '\"validity-days\":1', '\"validity-days\":9')",
        ),
    ] {
        database.keep(table, "kept").await;
        database.edit(change).await;
        let asked = request(client, "data", nonce).await.unwrap_err();
        let listed = client.list_assignments(ListAssignmentsRequest {}).await;
        for status in [asked, listed.unwrap_err()] {
            assert_eq!(status.reason(), Some(Reason::Internal), "{change}");
        }
        database.put_back(table, "kept").await;
    }
}

#[test]
fn the_same_on_a_server() {
    world::on(&[&SOFTHSM], |place| {
        World::new(place.folder()).play(async |world| {
            world.configure(&format!("{LENIENT}keys-for-new-devices = \"make\"\n"));
            world.use_postgres();
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let mut ada = Conductor::new(world, &host, 0).await;
            let mut renewed = unique();
            renewed.renewal_days = 1;
            carry(&mut operator, vec![renewed]).await;
            for number in 1..=5 {
                add_device(&mut operator, &format!("D-{number}")).await;
            }
            let waves = in_waves(Size::Devices(3), 1, Some(1), of_model());
            let number = ada.begin(waves).await;
            let waiting = ada.until(number, |shown| shown.waiting).await;
            assert_eq!((waiting.devices, waiting.done), (5, 3));
            ada.0.stop_rollout(order(number)).await.unwrap();
            join(&mut operator, "pilot", &["D-4"]).await;
            let filled = ada.until(number + 1, is_done).await;
            assert_eq!(ada.report(filled.number, false).await, ["D-4 tmk 1 MADE "]);
            host.stop().await;
            let clock = Forward::default();
            clock.put_to(25);
            let host = world.serve_by(clock).await;
            let mut ada = Conductor::new(world, &host, 0).await;
            let renewal = ada.until(number + 2, is_done).await;
            assert_eq!(renewal.waves[0].made, 4);
            let all = ada.complete(of_model()).await.number;
            let report = ada.report(all, false).await;
            let versions: BTreeMap<&str, &str> =
                report.iter().map(|line| line.split_at(3)).collect();
            assert_eq!(versions["D-1"], " tmk 3 MADE ");
            assert_eq!(versions["D-5"], " tmk 1 MADE ");
            host.stop().await;
        });
    });
}
