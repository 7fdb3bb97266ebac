//! What counts when a key is assigned: the profile as the trail has it, the policy of today, and the first enrolment.

use hsm_modules::SOFTHSM;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        AskAuthorityRequest, AssignKeyProfileRequest, AuditRecord, BindRequest, EnrollResponse,
        ExportDeviceRequest, IssueActivationCodeRequest, KeyProfileTarget, ListAssignmentsRequest,
        RemoveKeyProfileRequest, RevokeDeviceRequest, SetDeviceGroupRequest, UniqueKey,
        key_profile_slot::Source, key_profile_target::Target,
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    database::Database,
    forger::{append, forge, put_back},
    stage::{self, Stage, join, put_profile, requesting, slot, unique},
    world::{self, register_master_key},
};

impl Stage<'_> {
    async fn refuses_to_assign(&mut self, key_name: &str, (reason, cause): (Reason, &str)) {
        let refused = self
            .assign_named("SN-1", "tmk", key_name)
            .await
            .unwrap_err();
        assert_eq!((refused.reason(), refused.message()), (Some(reason), cause));
    }
}

/// Each with what the host says is not as the audit trail has it.
const EDITS: [(&str, &str); 13] = [
    (
        "UPDATE key_profiles SET document = replace(document, 'K0AB00E', 'P0AB00E')",
        "key profile own",
    ),
    ("UPDATE key_profiles SET document = 'x'", "key profile own"),
    ("UPDATE key_profiles SET put_by = 'eve'", "key profile own"),
    ("UPDATE key_profiles SET why = 'for me'", "key profile own"),
    (
        "INSERT INTO key_profiles SELECT name, 2, document, put_by, why, created_at FROM key_profiles",
        "key profile own",
    ),
    ("DELETE FROM key_profiles", "key profile own"),
    ("UPDATE key_profiles SET version = 2", "key profile own"),
    (
        "DELETE FROM key_profile_targets",
        "the key profile of model M1",
    ),
    (
        "UPDATE key_profile_targets SET profile = 'O W N'",
        "the key profile of model M1",
    ),
    (
        "UPDATE key_profile_targets SET assigned_by = 'eve'",
        "the key profile of model M1",
    ),
    (
        "UPDATE key_profile_targets SET profile = 'other'",
        "the key profile of model M1",
    ),
    (
        "UPDATE devices SET group_name = 'other' WHERE serial_number = 'SN-1'",
        "the model or the group of SN-1",
    ),
    (
        "UPDATE devices SET model = 'M2' WHERE serial_number = 'SN-1'",
        "the model or the group of SN-1",
    ),
];

const KEPT: [&str; 3] = ["key_profiles", "key_profile_targets", "devices"];

#[test]
fn a_key_is_assigned_from_a_profile_that_the_trail_and_the_policy_of_today_know() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            database.execute("PRAGMA foreign_keys = OFF").await;
            for table in KEPT {
                database.keep(table, &format!("kept_{table}")).await;
            }
            for (change, what) in EDITS {
                database.edit(change).await;
                let cause = format!(
                    "{what} is not as the audit trail has it: its row was changed behind the host's back. Restore it from \
                     a backup of the database"
                );
                stage
                    .refuses_to_assign("", (Reason::WrongState, &cause))
                    .await;
                for table in KEPT {
                    database.put_back(table, &format!("kept_{table}")).await;
                }
            }
            // Nor by records that were changed as well, with hashes that fit.
            for (action, table, column, what) in [
                (
                    "key-profile.put",
                    "key_profiles",
                    "put_by",
                    "key profile own",
                ),
                (
                    "key-profile.assigned",
                    "key_profile_targets",
                    "assigned_by",
                    "the key profile of model M1",
                ),
            ] {
                forge(&mut database, action, |record| {
                    record.actor = record.actor.replace("ada", "eve");
                })
                .await;
                database
                    .edit(&format!("UPDATE {table} SET {column} = 'eve'"))
                    .await;
                let refused = stage.assign_named("SN-1", "tmk", "").await.unwrap_err();
                assert!(
                    refused.message().starts_with(&format!("{what} is not as")),
                    "{refused}"
                );
                put_back(&mut database).await;
                database
                    .edit(&format!("UPDATE {table} SET {column} = 'ada'"))
                    .await;
            }
            stage.assign(0).await;

            // A device that moved by an operator's word is where the trail says.
            for group in ["pilot", ""] {
                join(&mut stage.operator, group, &["SN-1"]).await;
                stage.assign(0).await;
            }
            what_rows_alone_say_already_is_put_on_record(&mut stage, &mut database).await;

            // A registered key goes through the same.
            let fits = "key profile own says that slot tmk holds a key of the kind AES-128 with the header \
                        D0000K0AB00N0000, and the key key is of the kind AES-128 with the header D0000K0AB00E0000: name \
                        another one, or put another version of the profile";
            register_master_key(&mut stage.operator).await;
            stage.assign_named("SN-1", "data", "key").await.unwrap();
            stage.assign_named("SN-1", "tmk", "key").await.unwrap();
            let other = slot("tmk", "D0000K0AB00N0000", Source::Unique(UniqueKey {}));
            put_profile(&mut stage.operator, "own", 1, vec![other])
                .await
                .unwrap();
            a_version_that_is_gone_is_not_followed_on(&mut stage, &mut database).await;
            stage
                .refuses_to_assign("key", (Reason::RequestInvalid, fits))
                .await;
            let is_shared = "the key key:\nslot data: all devices would get one key: one opened terminal would give away \
                             the key of all: take source = \"unique\", or set shared-keys = \"allow\" in the host's \
                             configuration (shared-keys-not-allowed)";
            database.keep("device_keys", "kept_keys").await;
            for hide in [
                None,
                Some("UPDATE device_keys SET key_name = NULL WHERE device = 'SN-1'"),
            ] {
                if let Some(hide) = hide {
                    database.edit(hide).await;
                }
                let shared = stage.assign_named("SN-2", "data", "key").await.unwrap_err();
                assert_eq!(
                    (shared.reason(), shared.message()),
                    (Some(Reason::RequestInvalid), is_shared)
                );
            }
            database.put_back("device_keys", "kept_keys").await;
            let own = stage.assign_named("SN-1", "other", "key").await;
            assert_eq!(own.unwrap().key_version, 1, "the terminal that has it");
            let none = stage
                .assign_named("SN-1", "data", "none")
                .await
                .unwrap_err();
            assert_eq!(none.message(), "there is no key none");
            refuses_what_the_configuration_refuses_by_now(stage, &mut database).await;
        });
    });
}

/// So that nothing is in force again when they are put back.
async fn what_rows_alone_say_already_is_put_on_record(
    stage: &mut Stage<'_>,
    database: &mut Database,
) {
    let not_recorded = |what: &str| {
        format!(
            "{what} is not as the audit trail has it: its row was changed behind the host's back. Restore it from a backup \
             of the database"
        )
    };
    let group = |group: &str| {
        format!("UPDATE devices SET group_name = {group} WHERE serial_number = 'SN-1'")
    };
    join(&mut stage.operator, "pilot", &["SN-1"]).await;
    database.edit(&group("NULL")).await;
    let out = SetDeviceGroupRequest {
        serial_numbers: ["SN-1", "SN-1", "SN-2"].map(str::to_owned).to_vec(),
        group: String::new(),
        why: "over".to_owned(),
    };
    for counts in [(1, 2), (0, 3)] {
        let grouped = stage.operator.set_device_group(out.clone()).await.unwrap();
        let grouped = grouped.into_inner();
        assert_eq!((grouped.moved, grouped.stayed), counts);
    }
    database.edit(&group("'pilot'")).await;
    let cause = not_recorded("the model or the group of SN-1");
    stage
        .refuses_to_assign("", (Reason::WrongState, &cause))
        .await;
    database.edit(&group("NULL")).await;

    database.keep("key_profile_targets", "carrying").await;
    database.edit("DELETE FROM key_profile_targets").await;
    let carry = |name: &str| AssignKeyProfileRequest {
        profile_name: name.to_owned(),
        target: Some(KeyProfileTarget {
            target: Some(Target::Model("M1".to_owned())),
        }),
        why: "from now on".to_owned(),
        dry_run: false,
    };
    stage.operator.assign_key_profile(carry("")).await.unwrap();
    let none = stage.operator.assign_key_profile(carry("")).await;
    let none = none.unwrap_err();
    assert_eq!(
        (none.reason(), none.message()),
        (Some(Reason::NotFound), "model M1 carries no key profile")
    );
    database.put_back("key_profile_targets", "carrying").await;
    let cause = not_recorded("the key profile of model M1");
    stage
        .refuses_to_assign("", (Reason::WrongState, &cause))
        .await;
    for unchanged in [false, true] {
        let carried = stage.operator.assign_key_profile(carry("own")).await;
        assert_eq!(carried.unwrap().into_inner().unchanged, unchanged);
    }
    stage.assign(0).await;
}

/// Nor is it taken for one that was never there: it may come back.
async fn a_version_that_is_gone_is_not_followed_on(stage: &mut Stage<'_>, database: &mut Database) {
    database.keep("key_profiles", "both_versions").await;
    for (gone, number) in [("version = 2", 1), ("name = 'own'", 0)] {
        database
            .edit(&format!("DELETE FROM key_profiles WHERE {gone}"))
            .await;
        let operator = &mut stage.operator;
        let put = put_profile(operator, "own", number, vec![unique()]).await;
        let remove = RemoveKeyProfileRequest {
            profile_name: "own".to_owned(),
            why: "over".to_owned(),
        };
        let removed = operator.remove_key_profile(remove).await.map(drop);
        for refused in [put, removed].map(Result::unwrap_err) {
            assert_eq!(refused.reason(), Some(Reason::WrongState), "{gone}");
            let says = "key profile own is not as the audit trail has it";
            assert!(refused.message().starts_with(says), "{gone}: {refused}");
        }
        database.put_back("key_profiles", "both_versions").await;
    }
}

/// Whoever has put it when it was not refused.
async fn refuses_what_the_configuration_refuses_by_now(
    mut stage: Stage<'_>,
    database: &mut Database,
) {
    stage.host.stop().await;
    for (lines, by_profile, by_name) in [
        (
            "key-strength = \"warn\"\nkey-policy = \"strict\"\n",
            "stronger-than-what-wraps-it",
            "stronger-than-what-wraps-it",
        ),
        (
            "key-strength = \"warn\"\nkey-policy = \"strict\"\nshared-keys = \"allow\"\n",
            "stronger-than-what-wraps-it",
            "shared-pin-key",
        ),
    ] {
        stage.world.configure(lines);
        stage.host = stage.world.serve().await;
        stage.operator = stage.world.operator(&stage.host).await;
        let refused = stage.assign_named("SN-1", "tmk", "").await.unwrap_err();
        let begins = "the configuration refuses version 2 of key profile own by now, and no key is assigned from \
                      it: put another version:\nslot tmk: ";
        assert!(refused.message().starts_with(begins), "{refused}");
        assert!(
            refused.message().ends_with(&format!("({by_profile})")),
            "{refused}"
        );
        let refused = stage.assign_named("SN-2", "data", "key").await.unwrap_err();
        assert!(
            refused.message().contains(&format!("({by_name})")),
            "{refused}"
        );
        stage.host.stop().await;
    }
    stage
        .world
        .configure("key-strength = \"warn\"\nshared-keys = \"allow\"\n");
    stage.host = stage.world.serve().await;
    stage.operator = stage.world.operator(&stage.host).await;
    stage.assign_named("SN-2", "data", "key").await.unwrap();
    let warned =
        "SELECT json_extract(detail, '$.\"warned-of\"') FROM audit WHERE action = 'key.assigned'
         AND device = 'SN-2' ORDER BY sequence DESC LIMIT 1";
    let warned: Vec<Option<String>> = database.column(warned).await;
    let rules = r#"["stronger-than-what-wraps-it","shared-pin-key","shared-key"]"#;
    assert_eq!(warned, [Some(rules.to_owned())]);
    stage.host.stop().await;
}

#[test]
fn only_the_first_enrolment_ever_says_for_whom_earlier_keys_are_meant() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let code = stage.world.added(&mut stage.operator, "SN-5").await;
            stage.assign_named("SN-5", "tmk", "").await.unwrap();
            database
                .execute("CREATE TABLE kept AS SELECT * FROM device_keys WHERE device = 'SN-5'")
                .await;
            let mut stranger = stage.world.terminal(&stage.host).await;
            let enrolled = stranger
                .enroll(stage.world.enrollment("SN-5", &code))
                .await
                .unwrap();
            let recipient =
                "SELECT recipient FROM device_keys WHERE device = 'SN-5' AND version = 1";
            let pinned: Option<Vec<u8>> = database.value(recipient).await;
            assert!(pinned.is_some());
            drop(enrolled);

            // The row from before, put back; and no trace of the enrolment but in the trail.
            let no_certificate = "DELETE FROM certificates WHERE device = 'SN-5'";
            let no_record =
                "DELETE FROM audit WHERE device = 'SN-5' AND action = 'device.enrolled'";
            for (number, changes) in [
                &["UPDATE devices SET model = model"][..],
                &[no_certificate],
                &["UPDATE certificates SET state = 'SUPERSEDED' WHERE device = 'SN-5'"],
                // And none in the trail either, while the host runs that has learnt it from there.
                &[no_certificate, no_record],
            ]
            .into_iter()
            .enumerate()
            {
                database
                    .edit("DELETE FROM device_keys WHERE device = 'SN-5'")
                    .await;
                database
                    .edit("INSERT INTO device_keys SELECT * FROM kept")
                    .await;
                for change in changes {
                    database.edit(change).await;
                }
                let code = stage
                    .operator
                    .issue_activation_code(IssueActivationCodeRequest {
                        serial_number: "SN-5".to_owned(),
                    });
                let code = code.await.unwrap().into_inner().code;
                if number > 0 {
                    // Nobody is given a key for whoever comes first.
                    let refused = stage.assign_named("SN-5", "pin", "").await.unwrap_err();
                    assert_eq!(refused.reason(), Some(Reason::NotFound), "{refused}");
                    let refused = stage.assign_named("SN-5", "tmk", "").await.unwrap_err();
                    let says =
                        "the encryption certificate of SN-5 is not as the audit trail has it";
                    assert!(refused.message().starts_with(says), "{refused}");
                }
                let mut enrollment = stage.world.enrollment(&format!("SN-5-{number}"), &code);
                "SN-5".clone_into(&mut enrollment.serial_number);
                stranger.enroll(enrollment).await.unwrap();
                let pinned: Option<Vec<u8>> = database.value(recipient).await;
                assert_eq!(pinned, None, "{changes:?}");
            }
            // A row that was edited keeps nobody from enrolling, and is meant for nobody.
            let code = stage.world.added(&mut stage.operator, "SN-6").await;
            stage.assign_named("SN-6", "tmk", "").await.unwrap();
            database
                .edit("UPDATE device_keys SET kcv = 'A1B2C3D4E5' WHERE device = 'SN-6'")
                .await;
            stranger
                .enroll(stage.world.enrollment("SN-6", &code))
                .await
                .unwrap();
            let rows = stage.refused().await;
            assert_eq!(rows, [("SN-6".to_owned(), "tmk".to_owned(), 1)]);
            stage.host.stop().await;
        });
    });
}

/// A terminal's answer to whoever comes with this code, under other keys each time.
async fn try_to_enrol(
    stage: &Stage<'_>,
    keys: &str,
    code: &str,
) -> Result<EnrollResponse, Option<Reason>> {
    let mut enrollment = stage.world.enrollment(keys, code);
    "SN-5".clone_into(&mut enrollment.serial_number);
    let mut stranger = stage.world.terminal(&stage.host).await;
    let enrolled = stranger.enroll(enrollment).await;
    let enrolled = enrolled.map(tonic::Response::into_inner);
    enrolled.map_err(|refused| refused.reason())
}

#[test]
fn nobody_enrols_or_comes_back_by_editing_the_database() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let issued = stage.world.added(&mut stage.operator, "SN-5").await;
            database.keep("activation_codes", "kept").await;
            // A code of the editor's own.
            let own = "ABCD-ABCD-ABCD-ABCD";
            let hash = hex::encode(Sha256::digest("SN-5\0ABCDABCDABCDABCD"));
            let refused = Err(Some(Reason::EnrollmentRefused));
            let put = format!(
                "UPDATE activation_codes SET code_sha256 = x'{hash}' WHERE device = 'SN-5'"
            );
            database.edit(&put).await;
            assert_eq!(try_to_enrol(&stage, "SN-5-0", own).await, refused);
            let why = "SELECT outcome || detail FROM audit ORDER BY sequence DESC LIMIT 1";
            let why: String = database.value(why).await;
            let says = "ENROLLMENT_REFUSED{\"why\":\"the audit trail knows no such activation code";
            assert!(why.starts_with(says), "{why}");
            database.put_back("activation_codes", "kept").await;
            let first = try_to_enrol(&stage, "SN-5-1", &issued).await.unwrap();

            // One that has done its work, put back as it was before.
            database.put_back("activation_codes", "kept").await;
            assert_eq!(try_to_enrol(&stage, "SN-5-2", &issued).await, refused);

            // The device is replaced, and whoever has the old one has its certificates put back.
            let code = IssueActivationCodeRequest {
                serial_number: "SN-5".to_owned(),
            };
            let code = stage.operator.issue_activation_code(code).await.unwrap();
            let second = try_to_enrol(&stage, "SN-5-3", &code.into_inner().code)
                .await
                .unwrap();
            let mut old = stage.world.enrolled(&stage.host, "SN-5-1", &first).await;
            let mut new = stage.world.enrolled(&stage.host, "SN-5-3", &second).await;
            stage.assign_named("SN-5", "tmk", "").await.unwrap();
            let ct_old = first.ct_krd.clone();
            new.bind(BindRequest {
                ct_krd: second.ct_krd.clone(),
            })
            .await
            .unwrap();
            let change =
                "CREATE TABLE old AS SELECT serial, purpose FROM certificates WHERE device = 'SN-5'
                 AND state = 'SUPERSEDED'";
            database.execute(change).await;
            let swap = async |database: &mut Database, purpose: &str, to: &str| {
                let this = format!("device = 'SN-5' AND purpose = '{purpose}'");
                for (state, which) in [
                    ("SUPERSEDED", "state = 'CURRENT'"),
                    ("CURRENT", &*format!("serial {to} (SELECT serial FROM old)")),
                ] {
                    let swap = format!(
                        "UPDATE certificates SET state = '{state}' WHERE {this} AND {which}"
                    );
                    database.edit(&swap).await;
                }
            };
            swap(&mut database, "ENCRYPTION", "IN").await;
            let says = "the encryption certificate of SN-5 is not as the audit trail has it";
            let refused = stage.assign_named("SN-5", "tmk", "").await.unwrap_err();
            assert!(refused.message().starts_with(says), "{refused}");
            let rejected = Some(Reason::CredentialRejected);
            let bind = new
                .bind(BindRequest {
                    ct_krd: ct_old.clone(),
                })
                .await;
            assert_eq!(bind.unwrap_err().reason(), rejected);
            let request = requesting("tmk", 1);
            let requested = new.request_key(request.clone()).await;
            assert_eq!(requested.unwrap_err().reason(), rejected);
            let exported = ExportDeviceRequest {
                serial_number: "SN-5".to_owned(),
            };
            let refused = stage.operator.export_device(exported).await.unwrap_err();
            assert_eq!(refused.reason(), rejected);
            let [mut bob, _] = stage.world.recoverers(&stage.host).await;
            let asked = bob.ask_authority(AskAuthorityRequest {
                serial_number: "SN-5".to_owned(),
                kdh: stage.world.certificate("kdh.pem").der().to_vec(),
                why: "for me".to_owned(),
                ..AskAuthorityRequest::default()
            });
            assert_eq!(asked.await.unwrap_err().reason(), rejected);
            swap(&mut database, "AUTHENTICATION", "IN").await;
            let listed = old.list_assignments(ListAssignmentsRequest {}).await;
            assert_eq!(listed.unwrap_err().reason(), rejected);
            let bind = old.bind(BindRequest { ct_krd: ct_old }).await;
            assert_eq!(bind.unwrap_err().reason(), rejected);

            // All of it is as it was, once the rows are.
            for purpose in ["ENCRYPTION", "AUTHENTICATION"] {
                swap(&mut database, purpose, "NOT IN").await;
            }
            new.request_key(request).await.unwrap();
            stage.host.stop().await;
        });
    });
}

#[test]
fn nobody_comes_back_who_was_revoked_by_editing_the_database() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let code = stage.world.added(&mut stage.operator, "SN-5").await;
            stage.assign(0).await;
            let revoke = |serial: &str| RevokeDeviceRequest {
                serial_number: serial.to_owned(),
                why: "stolen".to_owned(),
            };
            for restarted in [false, true] {
                if restarted {
                    stage = stage.restart(async || {}).await;
                } else {
                    // Nobody is told that a device is not there whose row is gone.
                    database.execute("PRAGMA foreign_keys = OFF").await;
                    database.keep("devices", "kept").await;
                    let gone = "DELETE FROM devices WHERE serial_number = 'SN-5'";
                    database.edit(gone).await;
                    let refused = stage.operator.revoke_device(revoke("SN-5")).await;
                    let refused = refused.unwrap_err();
                    let says = "device SN-5 is not as the audit trail has it";
                    assert!(refused.message().starts_with(says), "{refused}");
                    database.put_back("devices", "kept").await;
                    // A row that says so already keeps nothing off the trail.
                    let already =
                        "UPDATE devices SET state = 'REVOKED' WHERE serial_number = 'SN-1'";
                    database.edit(already).await;
                    for serial in ["SN-1", "SN-5"] {
                        let revoked = stage.operator.revoke_device(revoke(serial)).await;
                        revoked.unwrap();
                        let twice = stage.operator.revoke_device(revoke(serial)).await;
                        assert_eq!(twice.unwrap_err().reason(), Some(Reason::WrongState));
                    }
                }
                let again = "UPDATE devices SET state = CASE serial_number WHEN 'SN-1' THEN 'BOUND' ELSE 'REGISTERED' END
                    WHERE serial_number IN ('SN-1', 'SN-5')";
                database.edit(again).await;
                let revoked = Some(Reason::DeviceRevoked);
                let requested = stage.request(0).await.unwrap_err();
                assert_eq!(requested.reason(), revoked);
                let listed = stage.list(0).await.unwrap_err();
                assert_eq!(listed.reason(), revoked);
                let exported = ExportDeviceRequest {
                    serial_number: "SN-1".to_owned(),
                };
                let exported = stage.operator.export_device(exported).await.unwrap_err();
                assert_eq!(exported.reason(), revoked);
                let keys = |code: &str| format!("SN-5-{code}-{restarted}").to_lowercase();
                let refused = try_to_enrol(&stage, &keys("first"), &code).await;
                assert_eq!(refused.unwrap_err(), Some(Reason::EnrollmentRefused));
                // Another code does not help either.
                let other = IssueActivationCodeRequest {
                    serial_number: "SN-5".to_owned(),
                };
                let other = stage.operator.issue_activation_code(other).await.unwrap();
                let other = other.into_inner().code;
                let refused = try_to_enrol(&stage, &keys("other"), &other).await;
                assert_eq!(refused.unwrap_err(), Some(Reason::EnrollmentRefused));
            }
            stage.host.stop().await;
        });
    });
}

/// A record with hashes that fit, behind the last one, while the host runs.
#[test]
fn nothing_is_done_behind_a_record_that_the_host_has_not_written() {
    world::on(&[&SOFTHSM], |place| {
        stage::play(place, async |mut stage, mut database| {
            let hash = hex::encode(Sha256::digest("SN-5\0ABCDABCDABCDABCD"));
            let forged = AuditRecord {
                at: "2026-01-01T00:00:00Z".to_owned(),
                actor: "operator:ada".to_owned(),
                action: "device.code-issued".to_owned(),
                device: "SN-5".to_owned(),
                outcome: "ok".to_owned(),
                detail: format!(
                    r#"{{"code-sha256":"{hash}","expires-at":"2099-01-01T00:00:00Z"}}"#
                ),
                ..AuditRecord::default()
            };
            append(&mut database, forged).await;
            // The first one finds the place of its own record taken; those behind it find out why.
            stage.try_to_assign(0).await.unwrap_err();
            let says = "the audit trail does not end in the database as this host has left it, with record ";
            for _ in 0..2 {
                let refused = stage.try_to_assign(0).await.unwrap_err();
                assert_eq!(refused.reason(), Some(Reason::WrongState));
                assert!(refused.message().starts_with(says), "{refused}");
            }
            let newest = "SELECT action FROM audit ORDER BY sequence DESC LIMIT 1";
            let newest: String = database.value(newest).await;
            assert_eq!(newest, "device.code-issued", "nothing follows on it");
            database
                .edit("DELETE FROM audit WHERE device = 'SN-5'")
                .await;
            stage.assign(0).await;
            stage.host.stop().await;
        });
    });
}
