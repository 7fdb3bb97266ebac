//! Initial keys of AES DUKPT: derived, delivered, replaced; ids that are never given out twice; and BDKs.

use hsm::{KeyName, Token};
use hsm_modules::{KRYOPTIC, SOFTHSM, WHOLE, makers::openssl};
use kdh_host::StartError;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        AuditRecord, Bdk, DerivedKey, KeyCheckValue, KeyProfileSlot, ListBdksRequest,
        MakeOnePassTokenRequest, RegisterBdkRequest,
        base_derivation_keys_client::BaseDerivationKeysClient, key_profile_slot::Source,
    },
};
use tonic::{Status, transport::Channel};
use tr34::{KeyToken, Profile};

use crate::{
    database::Database,
    forger::append,
    stage::{self, Stage, put_profile, slot},
    world::{
        self, BDK, BDK_KCV, KEY, MASTER_KEY_KCV, World, bring, bring_bdk, open, registering_bdk,
    },
};

const HEADER: &str = "D0000B1AX00N0000";
/// The examples of ANSI X9.24-3-2017 have this initial key for this id.
const KEY_SET: &str = "12345678";
const DERIVATION_ID: u32 = 0x9012_3456;
const INITIAL_KEY: &str = "1273671EA26AC29AFA4D1084127652A1";

/// The BDK of the examples, and another one.
pub(crate) fn bring_bdks(token: &Token) {
    bring_bdk(token);
    bring(token, "bdk.other", &KEY, &MASTER_KEY_KCV);
}

pub(crate) async fn register_bdks(stage: &mut Stage<'_>) {
    let mut bdks = stage.world.bdks(&stage.host).await;
    for (name, kcv) in [("acquirer", BDK_KCV), ("other", MASTER_KEY_KCV)] {
        let bdk = registering_bdk(name, "AES-128", &kcv);
        bdks.register_bdk(bdk).await.unwrap();
    }
}

/// The slot of the stage's terminals gets initial keys.
pub(crate) async fn derive_from_now_on(stage: &mut Stage<'_>, ksn_in_header: bool) {
    put(stage, 1, derived("acquirer", ksn_in_header))
        .await
        .unwrap();
}

pub(crate) fn derived(bdk: &str, ksn_in_header: bool) -> KeyProfileSlot {
    let derived = DerivedKey {
        bdk: bdk.to_owned(),
        key_set_id: hex::decode(KEY_SET).unwrap(),
        ksn_in_header,
    };
    slot("tmk", HEADER, Source::Derived(derived))
}

/// The next version of the stage's profile.
async fn put(stage: &mut Stage<'_>, based_on: u32, slot: KeyProfileSlot) -> Result<(), Status> {
    put_profile(&mut stage.operator, "own", based_on, vec![slot]).await
}

async fn listed(stage: &Stage<'_>) -> Vec<Bdk> {
    let mut bdks = stage.world.bdks(&stage.host).await;
    let listed = bdks.list_bdks(ListBdksRequest {}).await.unwrap();
    listed.into_inner().bdks
}

/// The initial key, by OpenSSL and what the standard says.
pub(crate) fn initial_key(derivation_id: u32) -> Vec<u8> {
    let data = format!("0101800100020080{KEY_SET}{derivation_id:08X}");
    let data = hex::decode(data).unwrap();
    let bdk = hex::encode(BDK);
    openssl(&["enc", "-aes-128-ecb", "-nopad", "-K", &bdk], &data)
}

/// Its check value of five bytes.
pub(crate) fn kcv(derivation_id: u32) -> Vec<u8> {
    let key = format!("hexkey:{}", hex::encode(initial_key(derivation_id)));
    let mac = ["mac", "-cipher", "AES-128-CBC", "-macopt", &key];
    let mac = openssl(&[&mac[..], &["-in", "-", "CMAC"]].concat(), &[0; 16]);
    hex::decode(&mac[..10]).unwrap()
}

fn value(kcv: Option<KeyCheckValue>) -> Vec<u8> {
    kcv.unwrap().value
}

/// With the initial key id, filled up to whole blocks of AES.
fn header(derivation_id: u32) -> String {
    format!("D0000B1AX00N0200IK14{KEY_SET}{derivation_id:08X}PB0C00000000")
}

/// Version, state, and derivation id of each row of a device.
async fn rows(database: &mut Database, device: &str) -> Vec<(i64, String, Option<i64>)> {
    let rows = format!(
        "SELECT version, state, derivation_id FROM device_keys WHERE device = '{device}' ORDER BY version"
    );
    database.rows(&rows).await
}

/// As a host that has given them out leaves the database.
async fn give_out_on_record(database: &mut Database, first: u32, last: u32) {
    let detail =
        format!(r#"{{"bdk":"acquirer","first":{first},"key-set-id":"{KEY_SET}","last":{last}}}"#);
    let record = AuditRecord {
        at: "2026-01-01T00:00:00Z".to_owned(),
        actor: "host".to_owned(),
        action: "bdk.ids-claimed".to_owned(),
        outcome: "ok".to_owned(),
        detail,
        ..AuditRecord::default()
    };
    append(database, record).await;
    give_out(database, last).await;
}

/// Behind the host's back.
async fn give_out(database: &mut Database, last: u32) {
    let all = format!(
        "INSERT INTO derivation_ids VALUES ('acquirer', '{KEY_SET}', {last})
         ON CONFLICT DO UPDATE SET last = excluded.last"
    );
    database.edit(&all).await;
}

#[test]
fn initial_keys_are_the_standards_and_each_has_an_id_of_its_own() {
    assert_eq!(hex::encode_upper(initial_key(DERIVATION_ID)), INITIAL_KEY);
    world::on(&WHOLE, |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, true).await;
            let given_out = give_out_on_record(&mut database, 1, DERIVATION_ID - 1);
            let mut stage = stage.restart(async || given_out.await).await;

            for (version, id) in [(1, DERIVATION_ID), (2, DERIVATION_ID + 1)] {
                let assigned = stage.assign(0).await;
                assert_eq!(assigned.key_version, version);
                assert_eq!(assigned.header, header(id));
                assert_eq!(value(assigned.kcv), kcv(id));
                stage.header = assigned.header;
                let issued = stage.request(0).await.unwrap();
                let token = KeyToken::parse(Profile::default(), &issued.kt_kdh).unwrap();
                assert_eq!(token.header().to_string(), header(id));
                assert_eq!(value(issued.kcv.clone()), kcv(id));
                stage.confirm(0, &issued).await.unwrap();
            }
            let (first, second) = (i64::from(DERIVATION_ID), i64::from(DERIVATION_ID) + 1);
            assert_eq!(
                rows(&mut database, "SN-1").await,
                [
                    (1, "DESTROYED".to_owned(), Some(first)),
                    (2, "ACTIVE".to_owned(), Some(second)),
                ]
            );
            // One that is withdrawn before anybody asked for it, and without the id in the header.
            stage.assign(1).await;
            put(&mut stage, 2, derived("acquirer", false))
                .await
                .unwrap();
            let assigned = stage.assign(1).await;
            let fourth = DERIVATION_ID + 3;
            assert_eq!(
                (&*assigned.header, value(assigned.kcv)),
                (HEADER, kcv(fourth))
            );
            let brought = MakeOnePassTokenRequest {
                serial_number: "SN-2".to_owned(),
                slot: "tmk".to_owned(),
            };
            let brought = stage.operator.make_one_pass_token(brought).await.unwrap();
            assert_eq!(value(brought.into_inner().kcv), kcv(fourth));

            let bdks = listed(&stage).await;
            let names: Vec<_> = bdks.iter().map(|bdk| &*bdk.name).collect();
            assert_eq!(names, ["acquirer", "other"]);
            let [set] = &bdks[0].key_sets[..] else {
                panic!("{bdks:?}")
            };
            assert_eq!(hex::encode_upper(&set.id), KEY_SET);
            assert_eq!((set.last_derivation_id, set.keys), (fourth, 4));
            assert!(bdks[1].key_sets.is_empty());
            let claimed: Vec<String> = database
                .column(
                    "SELECT detail FROM audit WHERE action = 'bdk.ids-claimed' ORDER BY sequence",
                )
                .await;
            let claim = |id| {
                format!(r#"{{"bdk":"acquirer","first":{id},"key-set-id":"{KEY_SET}","last":{id}}}"#)
            };
            assert_eq!(claimed[1..], [0, 1, 2, 3].map(|n| claim(DERIVATION_ID + n)));
            stage.host.stop().await;
        });
    });
}

async fn refuses_to_assign(stage: &mut Stage<'_>, reason: Reason, cause: &str) {
    let refused = stage.try_to_assign(0).await.unwrap_err();
    assert_eq!((refused.reason(), refused.message()), (Some(reason), cause));
}

#[test]
fn no_id_is_given_out_twice_whatever_the_database_says() {
    world::on(&[&SOFTHSM], |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, false).await;
            for _ in 0..2 {
                stage.assign(0).await;
            }
            // Set back, or gone, behind the back of a host that runs.
            for change in [
                "UPDATE derivation_ids SET last = 1",
                "UPDATE derivation_ids SET last = 0",
                "UPDATE derivation_ids SET key_set_id = '12345679'",
                "DELETE FROM derivation_ids",
            ] {
                database.edit(change).await;
                refuses_to_assign(&mut stage, Reason::Internal, "INTERNAL").await;
                database.execute("DELETE FROM derivation_ids").await;
                give_out(&mut database, 2).await;
            }
            // The rows that have them are gone, and the ids are not to be had again.
            database
                .edit("DELETE FROM device_keys WHERE derivation_id = 2")
                .await;
            assert_eq!(value(stage.assign(0).await.kcv), kcv(3));
            // Set forward, nothing is derived either: else all that are left would be lost.
            give_out(&mut database, u32::MAX - 1).await;
            refuses_to_assign(&mut stage, Reason::Internal, "INTERNAL").await;
            give_out(&mut database, 3).await;
            assert_eq!(value(stage.assign(0).await.kcv), kcv(4));
            // What one was to get who did not is nobody's: the database may have it all the same.
            database
                .execute(
                    "CREATE TRIGGER fails BEFORE INSERT ON audit WHEN NEW.action = 'bdk.ids-claimed'
                     BEGIN SELECT RAISE(ABORT, 'fails'); END",
                )
                .await;
            let fails = "STORE_UNAVAILABLE";
            refuses_to_assign(&mut stage, Reason::StoreUnavailable, fails).await;
            database.execute("DROP TRIGGER fails").await;
            assert_eq!(value(stage.assign(0).await.kcv), kcv(6));
            // None is left.
            let given_out = give_out_on_record(&mut database, 7, u32::MAX);
            let mut stage = stage.restart(async || given_out.await).await;
            let none = "key set 12345678 of bdk.acquirer has 0 derivation ids left, and 1 are needed: put a profile \
                        with another key set id, which the acquirer has to assign, or with another BDK";
            refuses_to_assign(&mut stage, Reason::WrongState, none).await;

            // Two devices never have the same, and a copied row is nobody else's.
            let copy = "INSERT INTO device_keys SELECT 'SN-2', slot, version, state, source, key_name, wrapped, header,
                 kind, kcv_method, kcv, recipient, created_at, changed_at, storage_key, mac, bdk, key_set_id,
                 derivation_id FROM device_keys WHERE device = 'SN-1' AND state = 'PENDING'";
            let refused = sqlx::query(copy).execute(database.connection()).await;
            let refused = refused.unwrap_err();
            assert!(refused.to_string().contains("UNIQUE"), "{refused}");
            database.execute("DROP INDEX no_equal_initial_keys").await;
            database.edit(copy).await;
            let recipient =
                "UPDATE device_keys SET recipient = (SELECT key_sha256 FROM certificates
                 WHERE device = 'SN-2' AND purpose = 'ENCRYPTION') WHERE device = 'SN-2'";
            database.edit(recipient).await;
            let refused = stage.request(1).await.unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::Internal));
            stage.host.stop().await;
        });
    });
}

#[test]
fn a_host_does_not_start_with_other_bdks_or_ids_than_its_trail_says() {
    world::on(&[&SOFTHSM], |place| {
        stage::play_with(place, bring_bdks, async |mut stage, mut database| {
            register_bdks(&mut stage).await;
            derive_from_now_on(&mut stage, false).await;
            for terminal in [0, 0, 1] {
                stage.assign(terminal).await;
            }
            stage.host.stop().await;
            database.execute("PRAGMA foreign_keys = OFF").await;
            for table in ["bdks", "derivation_ids"] {
                database.keep(table, &format!("kept_{table}")).await;
            }
            let said = |last| {
                format!(
                    "store: key set 12345678 of bdk.acquirer: the database says that the derivation ids to {last} are given \
                     out, and the audit trail says to 3: somebody else has changed one of them, and initial keys could \
                     be given out twice. Restore the database from a backup that has all of the trail"
                )
            };
            let unlike =
                "store: BDK acquirer: no operator registered it as its row in the database says";
            let sealed = "BDK acquirer is not as the HSM has sealed it";
            for (change, expected) in [
                ("UPDATE derivation_ids SET last = 2", &*said(2)),
                ("UPDATE derivation_ids SET last = 4", &said(4)),
                ("DELETE FROM derivation_ids", &said(0)),
                (
                    "UPDATE derivation_ids SET last = -1",
                    "store: the database holds a damaged derivation id",
                ),
                (
                    "UPDATE bdks SET kind = 'AES-256' WHERE name = 'acquirer'",
                    unlike,
                ),
                (
                    "UPDATE bdks SET kcv = 'A1B2C3' WHERE name = 'acquirer'",
                    unlike,
                ),
                (
                    "UPDATE bdks SET kcv_method = 'TDEA_ECB' WHERE name = 'acquirer'",
                    unlike,
                ),
                (
                    "UPDATE bdks SET created_at = '' WHERE name = 'acquirer'",
                    sealed,
                ),
                (
                    "UPDATE bdks SET mac = x'00112233445566778899aabbccddeeff' WHERE name = 'acquirer'",
                    sealed,
                ),
                ("UPDATE bdks SET mac = NULL WHERE name = 'acquirer'", sealed),
                (
                    "UPDATE bdks SET storage_key = 2 WHERE name = 'acquirer'",
                    sealed,
                ),
                (
                    "UPDATE bdks SET name = 'third' WHERE name = 'acquirer'",
                    "store: BDK third: no operator registered it",
                ),
                (
                    "DELETE FROM bdks WHERE name = 'acquirer'",
                    "store: BDK acquirer: an operator registered it, and it is gone from the database: restore its row from a backup",
                ),
            ] {
                database.edit(change).await;
                refuses_to_start(stage.world, expected).await;
                for table in ["bdks", "derivation_ids"] {
                    database.put_back(table, &format!("kept_{table}")).await;
                }
            }

            // Another key under the name of the BDK, and none.
            let name = KeyName::new("bdk.acquirer").unwrap();
            let token = open("kdh");
            token.destroy_key(&name).unwrap();
            drop(token);
            refuses_to_start(
                stage.world,
                "BDK acquirer: HSM: no key is called bdk.acquirer",
            )
            .await;
            let token = open("kdh");
            let other = *b"another BDK here";
            bring(&token, "bdk.acquirer", &other, &check_value(&other));
            drop(token);
            refuses_to_start(stage.world, "BDK acquirer: HSM: ").await;
            let token = open("kdh");
            token.destroy_key(&name).unwrap();
            bring_bdk(&token);
            drop(token);
            let host = stage.world.serve().await;
            host.stop().await;
        });
    });
}

fn check_value(key: &[u8; 16]) -> Vec<u8> {
    let key = format!("hexkey:{}", hex::encode(key));
    let mac = [
        "mac",
        "-cipher",
        "AES-128-CBC",
        "-macopt",
        &key,
        "-in",
        "-",
        "CMAC",
    ];
    hex::decode(&openssl(&mac, &[0; 16])[..6]).unwrap()
}

async fn refuses_to_start(world: &World<'_>, expected: &str) {
    let StartError(faults) = world.host().await.map(drop).unwrap_err();
    let [fault] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert!(fault.contains(expected), "{fault}");
}

#[test]
fn a_bdk_is_known_by_its_check_value_and_by_one_name() {
    // Which states the kinds of keys that came in components, too.
    world::on(&[&KRYOPTIC], |place| {
        let bring_three = |token: &Token| {
            bring_bdks(token);
            bring(token, "bdk.again", &BDK, &BDK_KCV);
        };
        stage::play_with(place, bring_three, async |mut stage, mut database| {
            let unregistered = put(&mut stage, 1, derived("acquirer", true)).await;
            let unknown =
                "slot tmk: there is no BDK acquirer: register it first, by kdhctl bdk register";
            assert_eq!(unregistered.unwrap_err().message(), unknown);
            let mut bdks = stage.world.bdks(&stage.host).await;
            let right = || registering_bdk("acquirer", "AES-128", &BDK_KCV);
            let again = || registering_bdk("again", "AES-128", &BDK_KCV);
            refuses_bdks(&mut bdks).await;
            assert!(listed(&stage).await.is_empty());
            let registered = bdks.register_bdk(right()).await.unwrap().into_inner();
            assert_eq!(
                (&*registered.name, &*registered.kind),
                ("acquirer", "AES-128")
            );
            assert_eq!(value(registered.kcv), BDK_KCV);
            let twice = "another BDK of the kind AES-128 has the check value FF0BD7: if it is the same key, it would give \
                         out each initial key twice; use that one";
            let known = "there is a BDK acquirer already, with the check value FF0BD7";
            // Whatever the database takes, and says of the other one.
            database.execute("DROP INDEX no_bdk_twice").await;
            for (says, request, cause) in [
                ("FF0BD7", right(), known),
                ("FF0BD7", again(), twice),
                ("A1B2C3", again(), twice),
            ] {
                let says = format!("UPDATE bdks SET kcv = '{says}'");
                database.edit(&says).await;
                let refused = bdks.register_bdk(request).await.unwrap_err();
                assert_eq!(
                    (refused.reason(), refused.message()),
                    (Some(Reason::AlreadyExists), cause)
                );
            }
            database.edit("UPDATE bdks SET kcv = 'FF0BD7'").await;
            let channel = stage.world.operators_channel(&stage.host, 2).await;
            let mut hers = BaseDerivationKeysClient::new(channel);
            let refused = [
                hers.register_bdk(right()).await.map(drop),
                hers.list_bdks(ListBdksRequest {}).await.map(drop),
            ];
            for refused in refused {
                assert_eq!(refused.unwrap_err().reason(), Some(Reason::RoleMissing));
            }

            // What a BDK of its kind does not derive.
            let mut longer = derived("acquirer", true);
            longer.kind = "AES-256".to_owned();
            let refused = put(&mut stage, 1, longer).await.unwrap_err();
            let weak = "slot tmk: an initial key of the kind AES-256 is not derived from bdk.acquirer, which is of the \
                        kind AES-128 and weaker";
            assert!(refused.message().starts_with(weak), "{refused}");
            derive_from_now_on(&mut stage, true).await;
            stage.host.stop().await;
        });
    });
}

/// Each differs in one thing from what is registered.
async fn refuses_bdks(bdks: &mut BaseDerivationKeysClient<Channel>) {
    let right = || registering_bdk("acquirer", "AES-128", &BDK_KCV);
    let method = |method: i32| {
        let mut request = right();
        request.kcv.as_mut().unwrap().method = method;
        request
    };
    let refusals: [(RegisterBdkRequest, Reason, &str); 9] = [
        (
            registering_bdk("bdk.acquirer", "AES-128", &BDK_KCV),
            Reason::RequestInvalid,
            "\"bdk.acquirer\" is no name of a base derivation key",
        ),
        (
            registering_bdk("nobody", "AES-128", &BDK_KCV),
            Reason::NotFound,
            "no key is called bdk.nobody",
        ),
        (
            registering_bdk("acquirer", "AES", &BDK_KCV),
            Reason::RequestInvalid,
            "\"AES\" is no kind of key",
        ),
        (
            registering_bdk("acquirer", "AES-256", &BDK_KCV),
            Reason::RequestInvalid,
            "bdk.acquirer is of the kind AES-128, not AES-256",
        ),
        (
            registering_bdk("acquirer", "AES-128", &MASTER_KEY_KCV),
            Reason::KcvMismatch,
            "the key does not have the check value D4B1C0",
        ),
        (
            registering_bdk("acquirer", "AES-128", &[]),
            Reason::RequestInvalid,
            "a key check value of 3 bytes is needed",
        ),
        (
            RegisterBdkRequest {
                kcv: None,
                ..right()
            },
            Reason::RequestInvalid,
            "a key check value of 3 bytes is needed",
        ),
        (
            method(0),
            Reason::RequestInvalid,
            "a key check value of 3 bytes is needed",
        ),
        (
            method(1),
            Reason::KcvMismatch,
            "the key does not have the check value FF0BD7",
        ),
    ];
    for (request, reason, cause) in refusals {
        let refused = bdks.register_bdk(request).await.unwrap_err();
        assert_eq!(refused.reason(), Some(reason), "{refused}");
        assert!(refused.message().starts_with(cause), "{refused}");
    }
}
