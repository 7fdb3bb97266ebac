//! The database of a host that does not run: devices by the million are written straight into it, and its size is looked
//! at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use kdh_proto::{audit_hash, to_hex, v1::AuditRecord};
use private_postgres::Postgres;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{
    AnyConnection, AssertSqlSafe, Connection as _, Row as _,
    any::{AnyRow, install_default_drivers},
};
use system_tests::host::{HostOptions, PostgresDatabase};
use tokio::runtime::Runtime;

use super::{MODEL, StoreKind, bar::Bar};

/// Devices in one transaction.
const AT_ONCE: u32 = 20_000;
/// Names of databases, and of SQLite's files.
const FULL: (&str, &str) = ("all_keys", "all-keys.sqlite");
const EMPTY: (&str, &str) = ("one_key", "one-key.sqlite");
/// What their serial numbers begin with.
const SERIALS: &str = "KEYS-";

/// When they were registered.
const REGISTERED_AT: &str = "2026-01-01T00:00:00Z";
/// Audit records in one statement.
const ROWS_AT_ONCE: usize = 64;

/// The one that gets a million devices, and another one that stays as it is before.
pub(super) enum Databases {
    Sqlite {
        /// The folder of both.
        folder: PathBuf,
    },
    Postgres(Postgres),
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Which {
    Full,
    Empty,
}

/// What it takes on the disk, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Size {
    /// SQLite: the file. PostgreSQL: `pg_database_size`.
    pub(super) total: i64,
    /// By table, with its indexes.
    pub(super) tables: BTreeMap<String, i64>,
}

impl Databases {
    /// Starts the server, if there is one. `folder` is the store's, and `host` the one of the site's host.
    pub(super) fn open(kind: StoreKind, folder: &Path, host: PathBuf) -> Result<Self> {
        Ok(match kind {
            StoreKind::Sqlite => Self::Sqlite { folder: host },
            StoreKind::Postgresql => {
                Self::Postgres(Postgres::start_in(&folder.join("postgresql"))?)
            }
        })
    }

    /// Before the first start of a host.
    pub(super) fn make(&self) -> Result<()> {
        match self {
            Self::Sqlite { .. } => Ok(()),
            Self::Postgres(server) => server.make_database(FULL.0),
        }
    }

    /// Makes the empty one what the full one is now.
    pub(super) fn copy(&self) -> Result<()> {
        match self {
            Self::Sqlite { folder } => {
                self.on_disk()?;
                fs::copy(folder.join(FULL.1), folder.join(EMPTY.1))?;
                Ok(())
            }
            Self::Postgres(server) => {
                let copy = format!("CREATE DATABASE {} TEMPLATE {}", EMPTY.0, FULL.0);
                server.sql("postgres", &copy).map(drop)
            }
        }
    }

    /// A host with one of them.
    pub(super) fn options(&self, which: Which, options: HostOptions) -> HostOptions {
        let (name, sqlite) = match which {
            Which::Full => FULL,
            Which::Empty => EMPTY,
        };
        let postgres = match self {
            Self::Sqlite { .. } => None,
            Self::Postgres(server) => Some(PostgresDatabase {
                socket: server.socket().to_owned(),
                name: name.to_owned(),
            }),
        };
        HostOptions {
            postgres,
            sqlite,
            ..options
        }
    }

    /// Registers devices, as far as they are not yet there, with their records in the audit trail.
    pub(super) fn register(&self, devices: u32) -> Result<()> {
        self.connected(async |connection| {
            let there = "SELECT COUNT(*) FROM devices WHERE serial_number LIKE $1";
            let there: i64 = sqlx::query_scalar(there)
                .bind(format!("{SERIALS}%"))
                .fetch_one(&mut *connection)
                .await?;
            let mut there = u32::try_from(there)?;
            let mut bar = Bar::new("devices registered", devices.into(), there.into())?;
            let mut trail = Trail::read(connection).await?;
            while there < devices {
                let last = devices.min(there + AT_ONCE);
                let mut transaction = connection.begin().await?;
                sqlx::query(
                    "WITH RECURSIVE numbers (n) AS (
                         SELECT CAST($1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < $2
                     )
                     INSERT INTO devices (serial_number, model, state, created_at, changed_at)
                     SELECT $3 || CAST(1000000000 + n AS TEXT), $4, 'REGISTERED', $5, $5 FROM numbers",
                )
                .bind(i64::from(there + 1))
                .bind(i64::from(last))
                .bind(SERIALS)
                .bind(MODEL)
                .bind(REGISTERED_AT)
                .execute(&mut *transaction)
                .await?;
                let serials: Vec<_> = (there + 1..=last).map(|n| serial(n.into())).collect();
                for serials in serials.chunks(ROWS_AT_ONCE) {
                    trail.add(&mut transaction, serials).await?;
                }
                transaction.commit().await?;
                there = last;
                bar.at(there.into());
            }
            Ok(())
        })
    }

    /// Confirms the keys of these devices, as far as they are not yet. `macs` has the HSM make MACs of messages, all of
    /// them hex.
    pub(super) fn confirm(
        &self,
        devices: u32,
        macs: impl Fn(Vec<String>) -> Result<Vec<String>>,
    ) -> Result<()> {
        self.connected(async |connection| {
            let mut bar = Bar::new("keys confirmed", devices.into(), 0)?;
            let (mut after, mut done) = (String::new(), 0);
            loop {
                let rows: Vec<AnyRow> = sqlx::query(
                    "SELECT * FROM device_keys WHERE device > $1 AND device LIKE $2 ORDER BY device LIMIT $3",
                )
                .bind(after)
                .bind(format!("{SERIALS}%"))
                .bind(i64::from(AT_ONCE))
                .fetch_all(&mut *connection)
                .await?;
                let Some(last) = rows.last() else {
                    return Ok(());
                };
                after = last.try_get("device")?;
                done += rows.len() as u64;
                let mut places = Vec::with_capacity(rows.len());
                let mut messages = Vec::with_capacity(rows.len());
                for row in &rows {
                    if row.try_get::<String, _>("state")? == "PENDING" {
                        places.push((row.try_get("device")?, row.try_get("slot")?));
                        messages.push(hex::encode(confirmed(row)?));
                    }
                }
                let macs = macs(messages)?;
                let mut transaction = connection.begin().await?;
                let rows: Vec<_> = places.iter().zip(&macs).collect();
                for rows in rows.chunks(ROWS_AT_ONCE) {
                    put_confirmed(&mut transaction, rows).await?;
                }
                transaction.commit().await?;
                bar.at(done);
            }
        })
    }

    /// How large the full one is, with nothing left in a log of changes.
    pub(super) fn size(&self) -> Result<Size> {
        self.on_disk()?;
        let by_table = match self {
            Self::Sqlite { .. } => {
                "SELECT s.tbl_name, SUM(d.pgsize) FROM dbstat d JOIN sqlite_schema s ON s.name = d.name
                 GROUP BY s.tbl_name"
            }
            Self::Postgres(_) => {
                "SELECT CAST(relname AS TEXT), pg_total_relation_size(oid) FROM pg_class
                 WHERE relkind = 'r' AND relnamespace = CAST('public' AS regnamespace)"
            }
        };
        self.connected(async |connection| {
            let tables: Vec<(String, i64)> =
                sqlx::query_as(by_table).fetch_all(&mut *connection).await?;
            let total = match self {
                Self::Sqlite { folder } => i64::try_from(fs::metadata(folder.join(FULL.1))?.len())?,
                Self::Postgres(_) => {
                    sqlx::query_scalar("SELECT pg_database_size(current_database())")
                        .fetch_one(&mut *connection)
                        .await?
                }
            };
            Ok(Size {
                total,
                tables: tables.into_iter().collect(),
            })
        })
    }

    /// Empties the log of changes. A server is asked for the same, so that it does not do it while something is
    /// measured.
    fn on_disk(&self) -> Result<()> {
        let statement = match self {
            Self::Sqlite { .. } => "PRAGMA wal_checkpoint(TRUNCATE)",
            Self::Postgres(_) => "CHECKPOINT",
        };
        self.connected(async |connection| {
            let _: Vec<AnyRow> = sqlx::query(statement).fetch_all(connection).await?;
            Ok(())
        })
    }

    fn connected<T>(&self, work: impl AsyncFnOnce(&mut AnyConnection) -> Result<T>) -> Result<T> {
        install_default_drivers();
        let url = match self {
            Self::Sqlite { folder } => {
                let path = folder.join(FULL.1);
                format!(
                    "sqlite:{}?mode=rw",
                    path.to_str().context("a folder's name")?
                )
            }
            Self::Postgres(server) => {
                let socket = server.socket().to_str().context("a folder's name")?;
                let user = private_postgres::USER;
                format!(
                    "postgres:///?host={socket}&user={user}&dbname={}&sslmode=disable",
                    FULL.0
                )
            }
        };
        Runtime::new()?.block_on(async {
            let mut connection = AnyConnection::connect(&url).await?;
            let found = work(&mut connection).await?;
            connection.close().await?;
            Ok(found)
        })
    }
}

/// The serial number of a device.
fn serial(number: u64) -> String {
    format!("{SERIALS}{}", 1_000_000_000 + number)
}

/// When they were confirmed.
const CONFIRMED_AT: &str = "2026-01-02T00:00:00Z";

/// What the MAC of a key's row goes over once its device has confirmed it: the table and all columns but those of the
/// seal, each with its length before it.
fn confirmed(row: &AnyRow) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut add = |bytes: Option<&[u8]>| match bytes {
        None => message.push(0),
        Some(bytes) => {
            message.push(1);
            message.extend((bytes.len() as u64).to_be_bytes());
            message.extend(bytes);
        }
    };
    add(Some(b"device_keys"));
    for column in COLUMNS {
        match column {
            "state" => add(Some(b"ACTIVE")),
            "changed_at" => add(Some(CONFIRMED_AT.as_bytes())),
            "wrapped" | "recipient" => add(row.try_get::<Option<Vec<u8>>, _>(column)?.as_deref()),
            "version" | "derivation_id" => {
                let number: Option<i64> = row.try_get(column)?;
                let number = number.map(u32::try_from).transpose()?.map(u32::to_be_bytes);
                add(number.as_ref().map(<[u8; 4]>::as_slice));
            }
            _ => add(row
                .try_get::<Option<String>, _>(column)?
                .as_deref()
                .map(str::as_bytes)),
        }
    }
    Ok(message)
}

/// Of a key's row, but for those of the seal.
const COLUMNS: [&str; 17] = [
    "device",
    "slot",
    "version",
    "state",
    "source",
    "key_name",
    "wrapped",
    "header",
    "kind",
    "kcv_method",
    "kcv",
    "recipient",
    "created_at",
    "changed_at",
    "bdk",
    "key_set_id",
    "derivation_id",
];

async fn put_confirmed(
    connection: &mut AnyConnection,
    rows: &[(&(String, String), &String)],
) -> Result<()> {
    let values = parameters(rows.len(), 3);
    let statement = format!(
        "UPDATE device_keys SET state = 'ACTIVE', changed_at = '{CONFIRMED_AT}', mac = n.column3
         FROM (VALUES {values}) AS n WHERE device_keys.device = n.column1 AND device_keys.slot = n.column2"
    );
    let mut statement = sqlx::query(AssertSqlSafe(statement));
    for ((device, slot), mac) in rows {
        statement = statement
            .bind(device.clone())
            .bind(slot.clone())
            .bind(hex::decode(mac)?);
    }
    statement.execute(connection).await?;
    Ok(())
}

/// `($1, …), …`.
fn parameters(rows: usize, columns: usize) -> String {
    let rows = (0..rows).map(|row| {
        let row = (1..=columns).map(|column| format!("${}", row * columns + column));
        format!("({})", row.collect::<Vec<_>>().join(", "))
    });
    rows.collect::<Vec<_>>().join(", ")
}

/// The end of the audit trail, to which records are chained as the host does it.
struct Trail {
    sequence: u64,
    head: [u8; 32],
}

impl Trail {
    async fn read(connection: &mut AnyConnection) -> Result<Self> {
        let last: (i64, String) =
            sqlx::query_as("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
                .fetch_one(connection)
                .await?;
        let mut head = [0; 32];
        hex::decode_to_slice(&last.1, &mut head)?;
        Ok(Self {
            sequence: u64::try_from(last.0)?,
            head,
        })
    }

    /// That an operator has registered these devices.
    async fn add(&mut self, connection: &mut AnyConnection, serials: &[String]) -> Result<()> {
        let statement = format!("INSERT INTO audit VALUES {}", parameters(serials.len(), 9));
        let mut statement = sqlx::query(AssertSqlSafe(statement));
        for serial in serials {
            let mut record = AuditRecord {
                sequence: self.sequence + 1,
                at: REGISTERED_AT.to_owned(),
                actor: "operator:bench".to_owned(),
                action: "device.added".to_owned(),
                device: serial.clone(),
                outcome: "ok".to_owned(),
                detail: json!({"model": MODEL}).to_string(),
                previous_hash: to_hex(&self.head),
                hash: String::new(),
            };
            self.head = audit_hash(&self.head, &record);
            self.sequence = record.sequence;
            record.hash = to_hex(&self.head);
            statement = statement
                .bind(i64::try_from(record.sequence)?)
                .bind(record.at)
                .bind(record.actor)
                .bind(record.action)
                .bind(record.device)
                .bind(record.outcome)
                .bind(record.detail)
                .bind(record.previous_hash)
                .bind(record.hash);
        }
        statement.execute(connection).await?;
        Ok(())
    }
}
