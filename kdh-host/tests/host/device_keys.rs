//! Keys of a device's own: made, delivered, confirmed, replaced; and rows that are not as the HSM sealed them.

use hsm_modules::{SOFTHSM, WHOLE};
use kdh_host::StartError;
use kdh_proto::{
    RECEIPT_CONTEXT, Reason, ReasonedStatus as _,
    v1::{
        AssignKeyProfileRequest, AssignKeyRequest, Assignment, ConfirmRequest, KeyCheckValue,
        KeyProfile, KeyProfileSlot, KeyProfileTarget, ListAssignmentsRequest,
        ListDeliveriesRequest, ListKeysRequest, ListRefusedKeysRequest, PutKeyProfileRequest,
        ReceiptStatement, RequestKeyRequest, RequestKeyResponse, SharedKey, ShowDeviceRequest,
        ShowDeviceResponse, UniqueKey, administration_client::AdministrationClient,
        key_check_value::Method, key_profile_slot::Source, key_profile_target::Target,
        refused_keys_client::RefusedKeysClient,
    },
};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tonic::{Code, Status, transport::Channel};
use tr34::{KrdNonce, RandomToken};

use crate::{
    derived_keys::{bring_bdks, derive_from_now_on, register_bdks},
    world::{self, Bound, MASTER_KEY_KCV, Running, World, assign_master_key},
};

/// The master key has it as well.
pub(crate) const HEADER: &str = "D0000K0AB00E0000";

/// A host, its operator, and two terminals.
pub(crate) struct Stage<'w> {
    pub(crate) world: &'w World<'w>,
    pub(crate) host: Running,
    pub(crate) operator: AdministrationClient<Channel>,
    terminals: [Bound; 2],
    nonces: u8,
    /// With which terminals report that they have a key.
    pub(crate) header: String,
}

const SERIALS: [&str; 2] = ["SN-1", "SN-2"];

impl<'w> Stage<'w> {
    pub(crate) async fn set(world: &'w World<'w>) -> Self {
        Self::set_with(world, "").await
    }

    /// With something more in the configuration.
    pub(crate) async fn set_with(world: &'w World<'w>, more: &str) -> Self {
        // The terminals have RSA-2048.
        let lenient = "key-strength = \"warn\"\nkey-policy = \"lenient\"\n";
        world.configure(&format!("{lenient}{more}"));
        let host = world.serve().await;
        let mut operator = world.operator(&host).await;
        let unique = slot("tmk", HEADER, Source::Unique(UniqueKey {}));
        carry(&mut operator, vec![unique]).await;
        let terminals = [
            world.bound(&host, &mut operator, SERIALS[0]).await,
            world.bound(&host, &mut operator, SERIALS[1]).await,
        ];
        Self {
            world,
            host,
            operator,
            terminals,
            nonces: 0,
            header: HEADER.to_owned(),
        }
    }

    /// The host is stopped, and another one goes on where it has ended.
    pub(crate) async fn restart(self, meanwhile: impl AsyncFnOnce()) -> Self {
        self.host.stop().await;
        meanwhile().await;
        let world = self.world;
        let host = world.serve().await;
        let [one, other] = self.terminals.map(|bound| bound.enrolled);
        let bound = async |serial, enrolled| Bound {
            client: world.enrolled(&host, serial, &enrolled).await,
            enrolled,
        };
        let terminals = [bound(SERIALS[0], one).await, bound(SERIALS[1], other).await];
        Self {
            operator: world.operator(&host).await,
            terminals,
            host,
            ..self
        }
    }

    pub(crate) async fn assign(&mut self, terminal: usize) -> Assignment {
        self.try_to_assign(terminal).await.unwrap()
    }

    pub(crate) async fn try_to_assign(&mut self, terminal: usize) -> Result<Assignment, Status> {
        let assign = by_profile(SERIALS[terminal], "tmk");
        Ok(self.operator.assign_key(assign).await?.into_inner())
    }

    pub(crate) async fn list(&mut self, terminal: usize) -> Result<Vec<Assignment>, Status> {
        let client = &mut self.terminals[terminal].client;
        let listed = client.list_assignments(ListAssignmentsRequest {}).await?;
        Ok(listed.into_inner().assignments)
    }

    pub(crate) async fn request(&mut self, terminal: usize) -> Result<RequestKeyResponse, Status> {
        self.nonces += 1;
        let nonce = KrdNonce::from_bytes([self.nonces; 16]);
        let request = RequestKeyRequest {
            slot: "tmk".to_owned(),
            rt_krd: RandomToken::new(nonce).to_der(),
        };
        let client = &mut self.terminals[terminal].client;
        Ok(client.request_key(request).await?.into_inner())
    }

    pub(crate) async fn confirm(
        &mut self,
        terminal: usize,
        issued: &RequestKeyResponse,
    ) -> Result<(), Status> {
        self.report(terminal, issued, issued.kcv.clone()).await
    }

    /// The terminal says that what it has loaded has this check value.
    pub(crate) async fn report(
        &mut self,
        terminal: usize,
        issued: &RequestKeyResponse,
        kcv: Option<KeyCheckValue>,
    ) -> Result<(), Status> {
        let statement = ReceiptStatement {
            context: RECEIPT_CONTEXT.to_owned(),
            serial_number: SERIALS[terminal].to_owned(),
            delivery_id: issued.delivery_id.clone(),
            slot: "tmk".to_owned(),
            key_version: issued.key_version,
            header: self.header.clone(),
            kcv,
            kt_kdh_sha256: Sha256::digest(&issued.kt_kdh).to_vec(),
        };
        let confirm = ConfirmRequest {
            receipt: Some(self.world.receipt(SERIALS[terminal], &statement)),
        };
        self.terminals[terminal]
            .client
            .confirm(confirm)
            .await
            .map(drop)
    }

    pub(crate) async fn show(&mut self, terminal: usize) -> ShowDeviceResponse {
        let show = ShowDeviceRequest {
            serial_number: SERIALS[terminal].to_owned(),
        };
        self.operator.show_device(show).await.unwrap().into_inner()
    }

    /// Serial number, slot and version of the rows that the HSM refuses.
    pub(crate) async fn refused(&self) -> Vec<(String, String, i64)> {
        let channel = self.world.operators_channel(&self.host, 0).await;
        let list = ListRefusedKeysRequest::default();
        let listed = RefusedKeysClient::new(channel)
            .list_refused_keys(list)
            .await;
        let rows = listed.unwrap().into_inner().refused.into_iter();
        rows.map(|row| (row.serial_number, row.slot, row.key_version))
            .collect()
    }
}

/// The next key by the device's profile.
fn by_profile(serial_number: &str, slot: &str) -> AssignKeyRequest {
    AssignKeyRequest {
        serial_number: serial_number.to_owned(),
        slot: slot.to_owned(),
        ..AssignKeyRequest::default()
    }
}

pub(crate) fn slot(slot: &str, header: &str, source: Source) -> KeyProfileSlot {
    KeyProfileSlot {
        slot: slot.to_owned(),
        header: header.to_owned(),
        kind: "AES-128".to_owned(),
        source: Some(source),
        kcv_method: Method::AesCmac.into(),
        kcv_length: 5,
        validity_days: 400,
        renewal_days: 0,
    }
}

/// The model of the terminals carries a profile with these slots.
pub(crate) async fn carry(
    operator: &mut AdministrationClient<Channel>,
    slots: Vec<KeyProfileSlot>,
) {
    let profile = KeyProfile {
        name: "own".to_owned(),
        slots,
    };
    let put = PutKeyProfileRequest {
        profile: Some(profile),
        why: "a key of its own for each".to_owned(),
        ..PutKeyProfileRequest::default()
    };
    operator.put_key_profile(put).await.unwrap();
    let assign = AssignKeyProfileRequest {
        profile_name: "own".to_owned(),
        target: Some(KeyProfileTarget {
            target: Some(Target::Model("M1".to_owned())),
        }),
        why: "as above".to_owned(),
        dry_run: false,
    };
    operator.assign_key_profile(assign).await.unwrap();
}

pub(crate) async fn database(world: &World<'_>) -> SqliteConnection {
    let path = world.path("host.db");
    SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap()
}

pub(crate) async fn execute(database: &mut SqliteConnection, statement: &str) {
    let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
    statement.execute(database).await.unwrap();
}

/// The same, for what has to change rows.
pub(crate) async fn edit(database: &mut SqliteConnection, statement: &str) {
    let statement = sqlx::query(AssertSqlSafe(statement.to_owned()));
    let done = statement.execute(database).await.unwrap();
    assert_ne!(done.rows_affected(), 0);
}

/// Version, state, and whether the host has the key, of each row of the first device.
async fn rows(database: &mut SqliteConnection) -> Vec<(i64, String, bool)> {
    sqlx::query_as(
        "SELECT version, state, wrapped IS NOT NULL FROM device_keys WHERE device = 'SN-1' ORDER BY version",
    )
    .fetch_all(database)
    .await
    .unwrap()
}

fn expected(rows: &[(i64, &str, bool)]) -> Vec<(i64, String, bool)> {
    let rows = rows.iter();
    rows.map(|(version, state, held)| (*version, (*state).to_owned(), *held))
        .collect()
}

#[test]
fn a_key_of_its_own_is_good_until_the_next_one_is_confirmed() {
    world::on(&WHOLE, |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let mut database = database(&world).await;
            let [first, other] = [stage.assign(0).await, stage.assign(1).await];
            assert_eq!((first.key_version, &*first.header), (1, HEADER));
            let [kcv, other_kcv] = [first.kcv.clone().unwrap(), other.kcv.unwrap()];
            assert_eq!(kcv.value.len(), 5);
            assert_ne!(kcv, other_kcv, "no two devices have the same key");
            assert_eq!(rows(&mut database).await, expected(&[(1, "PENDING", true)]));

            let issued = stage.request(0).await.unwrap();
            assert_eq!(issued.kcv, Some(kcv));
            stage.confirm(0, &issued).await.unwrap();
            // Its answer may have been lost.
            stage.confirm(0, &issued).await.unwrap();
            assert_eq!(rows(&mut database).await, expected(&[(1, "ACTIVE", true)]));

            // One that the device never asks for, and the one in its place.
            stage.assign(0).await;
            assert_eq!(stage.assign(0).await.key_version, 3);
            let both = [
                (1, "ACTIVE", true),
                (2, "WITHDRAWN", false),
                (3, "PENDING", true),
            ];
            assert_eq!(rows(&mut database).await, expected(&both));
            let listed = stage.list(0).await.unwrap();
            let listed: Vec<_> = listed
                .iter()
                .map(|one| (one.key_version, one.confirmed))
                .collect();
            assert_eq!(listed, [(3, false)]);
            let late = stage.request(0).await.unwrap();
            stage.confirm(0, &late).await.unwrap();
            let replaced = [
                (1, "DESTROYED", false),
                (2, "WITHDRAWN", false),
                (3, "ACTIVE", true),
            ];
            assert_eq!(rows(&mut database).await, expected(&replaced));

            // Delivered, then withdrawn, then confirmed: the device holds it, and gets the next.
            let slow = {
                stage.assign(0).await;
                stage.request(0).await.unwrap()
            };
            stage.assign(0).await;
            stage.confirm(0, &slow).await.unwrap();
            let now = rows(&mut database).await;
            let now = now[2..].to_vec();
            let behind = [
                (3, "ACTIVE", true),
                (4, "WITHDRAWN", false),
                (5, "PENDING", true),
            ];
            assert_eq!(now, expected(&behind));

            let deliveries = stage
                .operator
                .list_deliveries(ListDeliveriesRequest::default());
            let deliveries = deliveries.await.unwrap().into_inner().deliveries;
            assert!(
                deliveries
                    .iter()
                    .all(|delivery| delivery.key_name.is_empty())
            );
            let destroyed: Vec<String> = sqlx::query_scalar(
                "SELECT json_extract(detail, '$.\"destroyed-versions\"') FROM audit
                 WHERE action = 'delivery.confirmed' ORDER BY sequence",
            )
            .fetch_all(&mut database)
            .await
            .unwrap();
            assert_eq!(destroyed, ["[]", "[1]", "[]"]);
            stage.host.stop().await;
            // What the HSM sealed it takes again.
            world.serve().await.stop().await;
        });
    });
}

#[test]
fn what_no_profile_says_is_refused() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::new(place.folder());
        world.configure(
            "key-strength = \"warn\"\nkey-policy = \"lenient\"\nshared-keys = \"allow\"\n",
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            world.added(&mut operator, "SN-1").await;
            let nothing = "neither the group nor the model of SN-1 carries a key profile: name a key, or have one \
                           carry a profile";
            refuses_to_assign(&mut operator, "SN-1", "tmk", Reason::NotFound, nothing).await;
            assign_master_key(&mut operator, "SN-1").await;
            let shared = SharedKey {
                key_name: "key".to_owned(),
            };
            let mut data = slot("tmk", "D0000K0AB00E0000", Source::Shared(shared));
            data.kcv_length = 3;
            carry(&mut operator, vec![data]).await;
            let no_slot = "key profile own of SN-1 has no slot pin";
            refuses_to_assign(&mut operator, "SN-1", "pin", Reason::NotFound, no_slot).await;
            let nobody = "there is no device SN-9";
            refuses_to_assign(&mut operator, "SN-9", "tmk", Reason::NotFound, nobody).await;
            let assigned = operator.assign_key(by_profile("SN-1", "tmk")).await.unwrap();
            let assigned = assigned.into_inner();
            assert_eq!(assigned.kcv.unwrap().value, MASTER_KEY_KCV);
            assert_eq!(assigned.key_version, 2);
            host.stop().await;
        });
    });
}

async fn refuses_to_assign(
    operator: &mut AdministrationClient<Channel>,
    serial_number: &str,
    slot: &str,
    reason: Reason,
    cause: &str,
) {
    let request = by_profile(serial_number, slot);
    let refused = operator.assign_key(request).await.unwrap_err();
    assert_eq!((refused.reason(), refused.message()), (Some(reason), cause));
}

/// Each column of a row of `device_keys`, with another value that could stand there.
const EDITS: &[(&str, &str)] = &[
    ("device", "'SN-3'"),
    ("slot", "'pin'"),
    ("version", "7"),
    ("state", "'PENDING'"),
    ("source", "'SHARED'"),
    ("key_name", "'key'"),
    (
        "wrapped",
        "x'00112233445566778899aabbccddeeff0011223344556677'",
    ),
    ("wrapped", "NULL"),
    ("header", "'D0000P0AB00E0000'"),
    ("kind", "'AES-256'"),
    ("kcv_method", "'TDEA_ECB'"),
    ("kcv", "'A1B2C3D4E5'"),
    ("recipient", "NULL"),
    ("created_at", "'2020-01-01T00:00:00Z'"),
    ("changed_at", "'2020-01-01T00:00:00Z'"),
    ("storage_key", "2"),
    ("storage_key", "0"),
    ("mac", "x'00112233445566778899aabbccddeeff'"),
    ("mac", "x'00'"),
    ("mac", "NULL"),
    ("bdk", "'other'"),
    ("key_set_id", "'12345679'"),
    ("derivation_id", "7"),
];

/// And what only a derived key has.
const EDITS_OF_DERIVED: &[(&str, &str)] = &[
    ("source", "'UNIQUE'"),
    ("bdk", "NULL"),
    ("key_set_id", "NULL"),
    ("key_set_id", "'1234567'"),
    ("derivation_id", "NULL"),
    ("derivation_id", "-1"),
    ("derivation_id", "4294967296"),
];

#[test]
fn a_row_that_was_edited_is_refused_whatever_was_edited() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::with_kdh_token(place.folder(), bring_bdks);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            let mut database = database(&world).await;
            register_bdks(&mut stage).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            world.added(&mut stage.operator, "SN-3").await;
            stage.assign(0).await;
            let issued = stage.request(0).await.unwrap();
            stage.confirm(0, &issued).await.unwrap();
            stage.assign(1).await;
            execute(
                &mut database,
                "CREATE TABLE kept AS SELECT * FROM device_keys",
            )
            .await;
            let columns = columns(&mut database, "device_keys").await;
            for column in &columns {
                assert!(EDITS.iter().any(|(edited, _)| edited == column), "{column}");
            }
            for (column, value) in EDITS {
                for victim in ["SN-1", "SN-2"] {
                    if (*column, *value, victim) == ("state", "'PENDING'", "SN-2") {
                        continue;
                    }
                    let change = format!(
                        "UPDATE device_keys SET {column} = {value}
                         WHERE device = '{victim}' AND state IN ('PENDING', 'ACTIVE')"
                    );
                    edit(&mut database, &change).await;
                    refuses(&mut stage, victim, column, value, 1).await;
                    restore(&mut database).await;
                }
            }
            // A row in another's place, and keys that were swapped.
            let swapped = "UPDATE device_keys SET wrapped = (SELECT k.wrapped FROM kept k
                 WHERE k.device <> device_keys.device AND k.wrapped IS NOT NULL)
                 WHERE device = 'SN-1'";
            execute(
                &mut database,
                "UPDATE device_keys SET wrapped = NULL WHERE device = 'SN-2'",
            )
            .await;
            edit(&mut database, swapped).await;
            refuses(&mut stage, "SN-1", "wrapped", "the other's", 2).await;
            restore(&mut database).await;
            // Each row is on record once, whoever has seen it how often.
            let recorded: Vec<(String, i64)> = sqlx::query_as(
                "SELECT device || ' ' || detail, COUNT(*) FROM audit WHERE action = 'storage.row-refused'
                 GROUP BY device, detail ORDER BY 1",
            )
            .fetch_all(&mut database)
            .await
            .unwrap();
            let row = |device, slot, version| {
                let row = format!(r#"{device} {{"slot":"{slot}","version":{version}}}"#);
                (row, 1)
            };
            assert_eq!(
                recorded,
                [
                    row("SN-1", "pin", 1),
                    row("SN-1", "tmk", 1),
                    row("SN-1", "tmk", 7),
                    row("SN-2", "pin", 2),
                    row("SN-2", "tmk", 2),
                    row("SN-2", "tmk", 7),
                    row("SN-3", "tmk", 1),
                    row("SN-3", "tmk", 2),
                ]
            );
            for terminal in [0, 1] {
                let issued = stage.request(terminal).await.unwrap();
                stage.confirm(terminal, &issued).await.unwrap();
            }

            derive_from_now_on(&mut stage, true).await;
            stage.header = stage.assign(1).await.header;
            let issued = stage.request(1).await.unwrap();
            stage.confirm(1, &issued).await.unwrap();
            execute(&mut database, "DROP TABLE kept").await;
            execute(
                &mut database,
                "CREATE TABLE kept AS SELECT * FROM device_keys",
            )
            .await;
            for (column, value) in EDITS.iter().chain(EDITS_OF_DERIVED) {
                if (*column, *value) == ("wrapped", "NULL") {
                    continue;
                }
                let change = format!(
                    "UPDATE device_keys SET {column} = {value} WHERE device = 'SN-2' AND state = 'ACTIVE'"
                );
                edit(&mut database, &change).await;
                refuses(&mut stage, "SN-2", column, value, 1).await;
                restore(&mut database).await;
            }
            stage.request(1).await.unwrap();
            stage.host.stop().await;
        });
    });
}

async fn columns(database: &mut SqliteConnection, table: &str) -> Vec<String> {
    let columns = format!("SELECT name FROM pragma_table_info('{table}')");
    let columns = sqlx::query_scalar(AssertSqlSafe(columns));
    columns.fetch_all(database).await.unwrap()
}

async fn restore(database: &mut SqliteConnection) {
    execute(database, "DELETE FROM device_keys").await;
    execute(database, "INSERT INTO device_keys SELECT * FROM kept").await;
}

/// Nothing is delivered from the row, and nothing is told of it but where it stands, to operators.
async fn refuses(stage: &mut Stage<'_>, victim: &str, column: &str, value: &str, rows: usize) {
    let terminal = usize::from(victim == "SN-2");
    let what = format!("{column} = {value} of {victim}");
    match stage.request(terminal).await {
        // The row is no more in the slot, or is meant for nobody.
        Err(status) if ["device", "slot", "recipient"].contains(&column) => {
            assert_eq!(status.reason(), Some(Reason::NoKeyAssigned), "{what}");
        }
        outcome => {
            let status = outcome.map(|_| &what).unwrap_err();
            assert_eq!(
                (status.code(), status.reason(), status.message()),
                (Code::Internal, Some(Reason::Internal), "INTERNAL"),
                "{what}"
            );
        }
    }
    assert_eq!(stage.list(terminal).await.unwrap(), [], "{what}");
    assert_eq!(stage.refused().await.len(), rows, "{what}");
    let shown = stage.show(terminal).await;
    assert_eq!(shown.assignments, [], "{what}");
    let here = usize::from(column != "device");
    assert_eq!(shown.refused.len(), here, "{what}");
}

#[test]
fn a_host_does_not_start_with_a_registered_key_whose_row_was_edited() {
    world::on(&[&SOFTHSM], |place| {
        let world = World::new(place.folder());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::set(&world).await;
            assign_master_key(&mut stage.operator, "SN-2").await;
            stage.host.stop().await;
            let mut database = database(&world).await;
            execute(&mut database, "CREATE TABLE kept AS SELECT * FROM keys").await;
            let edits = [
                ("name", "'other'"),
                ("hsm_label", "'zmk.switch'"),
                ("header", "'D0000P0AB00E0000'"),
                ("kind", "'AES-256'"),
                ("kcv_method", "'TDEA_ECB'"),
                ("kcv", "'A1B2C3'"),
                ("created_at", "'2020-01-01T00:00:00Z'"),
                ("storage_key", "2"),
                ("mac", "x'00112233445566778899aabbccddeeff'"),
                ("mac", "NULL"),
            ];
            let columns = columns(&mut database, "keys").await;
            for column in &columns {
                assert!(edits.iter().any(|(edited, _)| edited == column), "{column}");
            }
            execute(&mut database, "PRAGMA foreign_keys = OFF").await;
            for (column, value) in edits {
                execute(
                    &mut database,
                    &format!("UPDATE keys SET {column} = {value}"),
                )
                .await;
                let StartError(faults) = world.host().await.map(drop).unwrap_err();
                let [fault] = &faults[..] else {
                    panic!("{faults:?}")
                };
                let says = [
                    "no operator registered it as its row in the database says",
                    "is not as the HSM has sealed it",
                ];
                assert!(
                    says.iter().any(|text| fault.contains(text)),
                    "{column}: {fault}"
                );
                execute(&mut database, "DELETE FROM keys").await;
                execute(&mut database, "INSERT INTO keys SELECT * FROM kept").await;
            }
            let host = world.serve().await;
            let mut operator = world.operator(&host).await;
            let keys = operator.list_keys(ListKeysRequest {}).await.unwrap();
            assert_eq!(keys.into_inner().keys.len(), 1);
            host.stop().await;
        });
    });
}
