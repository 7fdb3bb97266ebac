//! Key profiles, what carries them, and the devices that are concerned.

use super::*;
use crate::{
    key_profile::{Target, samples::sample},
    names::{GroupName, ProfileName},
};

on_both!(
"current_thread":
    devices_are_counted_where_their_profile_comes_from,
    the_profile_of_the_group_stands_in_place_of_the_models,
    every_change_of_profiles_behind_the_hosts_back_is_found,
    what_devices_hold_is_what_the_trail_says_last,
);

fn model(name: &str) -> Target {
    Target::Model(Model::parse(name).unwrap())
}

fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

fn name(name: &str) -> ProfileName {
    ProfileName::parse(name).unwrap()
}

fn ada() -> Actor {
    Actor::Operator("ada".to_owned())
}

fn version(profile: &str, version: u32) -> ProfileVersion {
    let mut slots = sample();
    slots.name = name(profile);
    ProfileVersion {
        name: name(profile),
        version,
        profile: Some(slots),
        put_by: "ada".to_owned(),
        why: "first".to_owned(),
        created_at: time_text(NOW).unwrap(),
    }
}

/// As an operator puts it, with its record.
async fn put(tx: &mut Tx, version: &ProfileVersion) {
    assert!(tx.insert_profile_version(version).await.unwrap());
    tx.record(AuditEntry {
        actor: &ada(),
        action: PROFILE_PUT,
        device: None,
        outcome: "ok",
        detail: version.record(),
    })
    .await
    .unwrap();
}

/// As an operator assigns it, with its record.
async fn assign(tx: &mut Tx, target: &Target, profile: Option<&str>) {
    let (profile, why) = (profile.map(name), Why::parse("first").unwrap());
    tx.assign_profile(target, profile.as_ref(), "ada", &why)
        .await
        .unwrap();
    tx.record(AuditEntry {
        actor: &ada(),
        action: PROFILE_ASSIGNED,
        device: None,
        outcome: "ok",
        detail: assignment_record(target, profile.as_ref(), "first"),
    })
    .await
    .unwrap();
}

/// Devices A to F of model M1: A and B in group one, C in group two, D revoked, E revoked and in group one. And G of
/// model M2, in group one.
async fn fleet(on: Dialect) -> Database {
    let database = Database::with_devices(on, &["A", "B", "C", "D", "E", "F"]).await;
    let mut tx = database.tx().await;
    let m2 = Model::parse("M2").unwrap();
    assert!(tx.insert_device(&device("G"), &m2).await.unwrap());
    for serial in ["D", "E"] {
        let device = tx.device(&device(serial)).await.unwrap().unwrap();
        tx.set_device_state(&device, DeviceState::Revoked)
            .await
            .unwrap();
    }
    for (serial, group) in [
        ("A", "one"),
        ("B", "one"),
        ("C", "two"),
        ("E", "one"),
        ("G", "one"),
    ] {
        let group = GroupName::parse(group).unwrap();
        tx.set_group(&device(serial), Some(&group));
    }
    tx.commit().await.unwrap();
    database
}

async fn devices_are_counted_where_their_profile_comes_from(on: Dialect) {
    let database = fleet(on).await;
    let mut tx = database.tx().await;
    let targets = [
        model("M1"),
        model("M2"),
        group("one"),
        group("two"),
        group("none"),
    ];
    let count = async |tx: &mut Tx| {
        let mut counts = Vec::new();
        for target in &targets {
            counts.push(tx.devices_at(target).await.unwrap());
        }
        counts
    };
    assert_eq!(
        count(&mut tx).await,
        [4, 1, 3, 1, 0],
        "no group carries one"
    );
    put(&mut tx, &version("p", 1)).await;
    assign(&mut tx, &group("one"), Some("p")).await;
    assert_eq!(count(&mut tx).await, [2, 0, 3, 1, 0], "group one does");
    assign(&mut tx, &group("two"), Some("p")).await;
    assert_eq!(count(&mut tx).await, [1, 0, 3, 1, 0], "both do");
    assign(&mut tx, &group("one"), None).await;
    assert_eq!(count(&mut tx).await, [3, 1, 3, 1, 0], "group two does");

    let one = GroupName::parse("one").unwrap();
    let listed = tx.devices(None, Some(&one), "A", 9).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|found| found.serial.as_str()).collect();
    assert_eq!(listed, ["B", "E", "G"]);
    let models = tx.models_of_group(&one).await.unwrap();
    let models: Vec<_> = models
        .iter()
        .map(|(model, devices)| (model.as_str(), *devices))
        .collect();
    assert_eq!(models, [("M1", 2), ("M2", 1)]);
    tx.set_group(&device("C"), None);
    assign(&mut tx, &group("later"), Some("p")).await;
    let groups = tx.groups().await.unwrap();
    let groups: Vec<_> = groups
        .iter()
        .map(|group| (group.name.as_str(), group.devices, group.profile.is_some()))
        .collect();
    let expected = [("later", 0, true), ("one", 3, false), ("two", 0, true)];
    assert_eq!(groups, expected);
}

/// A million devices are counted without a look at their rows.
#[tokio::test]
async fn counting_reads_nothing_but_indexes() {
    let database = fleet(Dialect::Sqlite).await;
    for query in [
        "EXPLAIN QUERY PLAN SELECT COUNT(*) FROM devices WHERE model = 'M1' AND state <> 'REVOKED'
             AND (group_name IS NULL OR group_name NOT IN
                 (SELECT name FROM key_profile_targets WHERE kind = 'GROUP'))",
        "EXPLAIN QUERY PLAN SELECT COUNT(*) FROM devices WHERE group_name = 'one' AND state <> 'REVOKED'",
        "EXPLAIN QUERY PLAN SELECT model, COUNT(*) FROM devices
             WHERE group_name = 'one' AND state <> 'REVOKED' GROUP BY model",
    ] {
        let plan = sqlx::query(query)
            .fetch_all(&database.store.pool)
            .await
            .unwrap();
        let details: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let of_devices = details.iter().find(|detail| detail.contains("devices"));
        let of_devices = of_devices.unwrap();
        assert!(
            of_devices.starts_with("SEARCH devices USING COVERING INDEX devices_of_a_"),
            "{details:?}"
        );
    }
}

async fn the_profile_of_the_group_stands_in_place_of_the_models(on: Dialect) {
    let database = fleet(on).await;
    let mut tx = database.tx().await;
    for profile in ["of-model", "of-group"] {
        put(&mut tx, &version(profile, 1)).await;
    }
    let mut newer = version("of-group", 2);
    newer.profile.as_mut().unwrap().slots.truncate(1);
    put(&mut tx, &newer).await;
    assert!(!tx.insert_profile_version(&newer).await.unwrap(), "taken");
    let of = async |tx: &mut Tx, serial: &str| {
        let device = tx.device(&device(serial)).await.unwrap().unwrap();
        let found = tx.profile_of(&device).await.unwrap();
        found.map(|(target, found)| {
            let slots = found.profile.map_or(0, |profile| profile.slots.len());
            format!("{} {} by {target}: {slots}", found.name, found.version)
        })
    };
    assert_eq!(of(&mut tx, "A").await, None);
    assign(&mut tx, &model("M1"), Some("of-model")).await;
    assign(&mut tx, &group("two"), Some("of-group")).await;
    let by_model = Some("of-model 1 by model M1: 3".to_owned());
    assert_eq!(of(&mut tx, "A").await, by_model, "its group carries none");
    assert_eq!(of(&mut tx, "F").await, by_model, "it is in no group");
    let by_group = Some("of-group 2 by group two: 1".to_owned());
    assert_eq!(of(&mut tx, "C").await, by_group);
    assert_eq!(of(&mut tx, "G").await, None, "another model");
    assign(&mut tx, &group("two"), None).await;
    assert_eq!(of(&mut tx, "C").await, by_model);
    tx.commit().await.unwrap();
    assert!(verify(&database.store).await.unwrap().is_ok());
}

/// What somebody changes, and what the host says of it.
const EDITS: [(&str, &str); 17] = [
        (
            "UPDATE key_profiles SET document = REPLACE(document, 'K0AD00N', 'K0AD00E')",
            "key profile p: no operator put its version 1 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET document = REPLACE(document, '730', '731')",
            "key profile p: no operator put its version 1 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET document = NULL WHERE name = 'p'",
            "key profile p: no operator put its version 1 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET document = (SELECT document FROM key_profiles WHERE name = 'p')
             WHERE document IS NULL",
            "key profile q: no operator put its version 2 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET version = 7 WHERE name = 'p'",
            "key profile p: no operator put its version 7 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET name = 'r' WHERE name = 'p'",
            "key profile r: no operator put its version 1 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET put_by = 'eve' WHERE name = 'p'",
            "key profile p: no operator put its version 1 as its row in the database says",
        ),
        (
            "UPDATE key_profiles SET why = 'for me' WHERE name = 'p'",
            "key profile p: no operator put its version 1 as its row in the database says",
        ),
        (
            "INSERT INTO key_profiles SELECT name, 2, document, put_by, why, created_at FROM key_profiles
             WHERE name = 'p'",
            "key profile p: no operator put its version 2 as its row in the database says",
        ),
        ("DELETE FROM key_profiles WHERE version = 2", GONE),
        ("DELETE FROM key_profiles WHERE name = 'p'", GONE),
        (
            "UPDATE key_profile_targets SET profile = 'q' WHERE kind = 'MODEL'",
            "model M1: no operator assigned it the key profile that its row in the database says",
        ),
        (
            "UPDATE key_profile_targets SET name = 'M2' WHERE kind = 'MODEL'",
            "model M2: no operator assigned it the key profile that its row in the database says",
        ),
        (
            "UPDATE key_profile_targets SET assigned_by = 'eve' WHERE kind = 'GROUP'",
            "group one: no operator assigned it the key profile that its row in the database says",
        ),
        (
            "UPDATE key_profile_targets SET why = 'for me' WHERE kind = 'GROUP'",
            "group one: no operator assigned it the key profile that its row in the database says",
        ),
        (
            "INSERT INTO key_profile_targets SELECT kind, 'two', profile, assigned_by, why, created_at
             FROM key_profile_targets WHERE kind = 'GROUP'",
            "group two: no operator assigned it the key profile that its row in the database says",
        ),
        (
            "DELETE FROM key_profile_targets WHERE kind = 'GROUP'",
            "group one: the key profile that an operator assigned it is gone from the database",
        ),
    ];

const GONE: &str = "key profiles: a version that an operator put is gone from the database";

/// Who writes to the database and not to the trail decides nothing of what devices hold.
async fn every_change_of_profiles_behind_the_hosts_back_is_found(on: Dialect) {
    let database = fleet(on).await;
    let mut tx = database.tx().await;
    put(&mut tx, &version("p", 1)).await;
    let removed = ProfileVersion {
        profile: None,
        ..version("q", 2)
    };
    put(&mut tx, &version("q", 1)).await;
    put(&mut tx, &removed).await;
    assign(&mut tx, &model("M1"), Some("p")).await;
    assign(&mut tx, &group("one"), Some("p")).await;
    assign(&mut tx, &group("two"), Some("p")).await;
    assign(&mut tx, &group("two"), None).await;
    tx.commit().await.unwrap();
    assert!(verify(&database.store).await.unwrap().is_ok());

    for table in ["key_profiles", "key_profile_targets"] {
        let keep = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}");
        let keep = sqlx::AssertSqlSafe(keep);
        sqlx::query(keep)
            .execute(&database.store.pool)
            .await
            .unwrap();
    }
    for (edit, expected) in EDITS {
        database.tamper(edit).await;
        let found = verify(&database.store).await.unwrap().unwrap_err();
        assert_eq!(found, expected, "{edit}");
        for back in [
            "DELETE FROM key_profiles",
            "INSERT INTO key_profiles SELECT * FROM kept_key_profiles",
            "DELETE FROM key_profile_targets",
            "INSERT INTO key_profile_targets SELECT * FROM kept_key_profile_targets",
        ] {
            database.tamper(back).await;
        }
        assert!(verify(&database.store).await.unwrap().is_ok(), "{edit}");
    }
    // What is no profile at all is damage.
    database
        .tamper("UPDATE key_profiles SET document = '[]' WHERE name = 'p'")
        .await;
    let damaged = verify(&database.store).await.unwrap_err();
    assert_eq!(
        damaged.to_string(),
        "the database holds a damaged key profile"
    );
}

/// The version that devices of model M1 in no group hold.
async fn held(database: &Database) -> Result<Option<u32>, String> {
    held_by(&mut database.tx().await).await
}

async fn held_by(tx: &mut Tx) -> Result<Option<u32>, String> {
    let held = tx.recorded_profile_at("M1", None).await;
    let held = held.map(|found| found.map(|(_, version)| version.version));
    held.map_err(|error| match error {
        StoreError::NotRecorded(what) => what,
        other => panic!("{other}"),
    })
}

async fn what_devices_hold_is_what_the_trail_says_last(on: Dialect) {
    let mut database = fleet(on).await;
    assert_eq!(held(&database).await, Ok(None));
    let mut tx = database.tx().await;
    put(&mut tx, &version("p", 1)).await;
    put(&mut tx, &version("q", 1)).await;
    assign(&mut tx, &model("M1"), Some("q")).await;
    assign(&mut tx, &model("M1"), Some("p")).await;
    tx.commit().await.unwrap();
    let tables = ["key_profiles", "key_profile_targets", "audit"];
    let execute = async |database: &Database, statement: String| {
        let statement = sqlx::AssertSqlSafe(statement);
        let done = sqlx::query(statement).execute(&database.store.pool);
        done.await.unwrap();
    };
    for table in tables {
        let keep = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}");
        execute(&database, keep).await;
    }
    let (profile, carrier) = ("key profile p", "the key profile of model M1");
    for restarted in [false, true] {
        if restarted {
            database = database.restarted().await;
            assert_eq!(verify(&database.store).await.unwrap(), Ok(4));
        }
        assert_eq!(held(&database).await, Ok(Some(1)));
        for (edits, expected) in [
            // With the records of the trail, which are not asked.
            (
                &[
                    "UPDATE key_profiles SET put_by = 'eve'",
                    "UPDATE audit SET actor = 'operator:eve'",
                ][..],
                Err(profile),
            ),
            (&["DELETE FROM key_profiles WHERE name = 'p'"], Err(profile)),
            (
                &[
                    "DELETE FROM key_profile_targets",
                    "DELETE FROM audit WHERE action = 'key-profile.assigned'",
                ],
                Err(carrier),
            ),
            // What was so before.
            (
                &[
                    "UPDATE key_profile_targets SET profile = 'q'",
                    "DELETE FROM audit WHERE sequence = 4",
                ],
                Err(carrier),
            ),
            (&["DELETE FROM audit"], Ok(Some(1))),
        ] {
            for edit in edits {
                database.tamper(edit).await;
            }
            let expected = expected.map_err(ToOwned::to_owned);
            assert_eq!(held(&database).await, expected, "{edits:?}");
            for table in tables {
                execute(&database, format!("DELETE FROM {table}")).await;
                let back = format!("INSERT INTO {table} SELECT * FROM kept_{table}");
                execute(&database, back).await;
            }
        }
    }
    // Nobody was told how a commit ended: either may be there, until that is known.
    for (is_there, newest) in [(false, 1), (true, 2)] {
        let mut tx = database.tx().await;
        put(&mut tx, &version("p", 2)).await;
        leave_in_doubt(tx, is_there).await;
        assert_eq!(held(&database).await, Ok(Some(newest)));
        let mut tx = database.tx().await;
        tx.record(entry(&Actor::Host)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(held(&database).await, Ok(Some(newest)));
    }
    // Whoever has begun to read sees what was so then, and nobody has changed that behind the host's back.
    for (first, removes) in [(3, false), (5, true)] {
        let mut reading = database.store.read(NOW).await.unwrap();
        assert_eq!(held_by(&mut reading).await, Ok(Some(first - 1)));
        for next in [first, first + 1] {
            let mut tx = database.tx().await;
            put(&mut tx, &version("p", next)).await;
            assign(&mut tx, &model("M1"), (!removes).then_some("p")).await;
            tx.commit().await.unwrap();
            assert_eq!(held_by(&mut reading).await, Ok(Some(first - 1)));
        }
        drop(reading);
        let newest = (!removes).then_some(first + 1);
        assert_eq!(held(&database).await, Ok(newest));
    }
    let mut tx = database.tx().await;
    assign(&mut tx, &model("M1"), Some("p")).await;
    tx.commit().await.unwrap();
    let older = "DELETE FROM key_profiles WHERE version = 6";
    database.tamper(older).await;
    assert_eq!(held(&database).await, Err(profile.to_owned()));
}
