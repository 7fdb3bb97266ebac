//! The database. Every change goes through a [`Tx`] together with its audit record.
//!
//! Queries are plain SQL that SQLite and PostgreSQL share, apart from how a connection is opened. A
//! row whose key is taken is no error, which would spoil a transaction of PostgreSQL: it is not
//! inserted, and the caller is told.

mod activation;
mod audit;
mod certificates;
mod crls;
mod deliveries;
mod devices;
mod keys;

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) use activation::EnrolmentClaim;
pub(crate) use audit::{Actor, AuditEntry, KEY_REGISTERED};
pub(crate) use certificates::{KeyClaim, Purpose, StoredCertificate};
pub(crate) use deliveries::{Delivery, NewDelivery};
pub(crate) use devices::Device;
pub(crate) use keys::{Assignment, StoredKey};

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 8;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Another host works on it.
    #[error("another kdh-host is using this database; stop that one first")]
    InUse,
    /// The file that keeps other hosts away cannot be locked.
    #[error("the lock file {0}")]
    Lock(String),
    /// A row holds what this program did not write, or changed while it was worked on.
    #[error("the database holds a damaged {0}")]
    Damaged(&'static str),
}

/// The host's database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    /// Writers queue here, each in its turn, and not for connections that readers need.
    writer: Arc<Mutex<()>>,
    /// Keeps other hosts away for as long as this one lives: each would take the other's claims for
    /// what a crash left behind.
    _lock: Arc<File>,
}

/// A transaction, and the time at which everything in it happened. Dropped without
/// [`Self::commit`], it leaves nothing.
pub(crate) struct Tx {
    inner: Transaction<'static, Sqlite>,
    now: String,
    _writing: Option<OwnedMutexGuard<()>>,
}

impl Store {
    /// Opens the SQLite file, making or migrating it, for this host alone.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = Arc::new(lock(path)?);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was acknowledged survives a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(sqlx::Error::from)?;
        Ok(Self {
            pool,
            writer: Arc::default(),
            _lock: lock,
        })
    }

    /// Begins a transaction that writes. Writers follow one another, so that what a transaction has
    /// read is still true when it commits.
    pub(crate) async fn write(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        let turn = Arc::clone(&self.writer).lock_owned();
        let turn = tokio::time::timeout(BUSY_TIMEOUT, turn)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?;
        Tx::new(
            self.pool.begin_with("BEGIN IMMEDIATE").await?,
            now,
            Some(turn),
        )
    }

    /// Begins a transaction that only reads.
    pub(crate) async fn read(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        Tx::new(self.pool.begin().await?, now, None)
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Tx {
    fn new(
        tx: Transaction<'static, Sqlite>,
        now: OffsetDateTime,
        writing: Option<OwnedMutexGuard<()>>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            inner: tx,
            now: time_text(now)?,
            _writing: writing,
        })
    }

    /// Runs a statement that has to change one row: `what`, as it was when it was read.
    async fn exactly_one(
        &mut self,
        statement: Query<'_, Sqlite, SqliteArguments>,
        what: &'static str,
    ) -> Result<(), StoreError> {
        let done = statement.execute(&mut *self.inner).await?;
        if done.rows_affected() == 1 {
            Ok(())
        } else {
            Err(StoreError::Damaged(what))
        }
    }

    /// Makes it so.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }
}

/// Locks the file beside the database for as long as the returned handle is open.
fn lock(database: &Path) -> Result<File, StoreError> {
    // Of the file that is meant, under whatever name.
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut path = OsString::from(real);
    path.push(".lock");
    let failed = |error: std::io::Error| {
        StoreError::Lock(format!("{}: {error}", Path::new(&path).display()))
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// As times stand in the database: whole seconds, UTC, so that text order is time order.
pub(crate) fn time_text(at: OffsetDateTime) -> Result<String, StoreError> {
    at.to_offset(time::UtcOffset::UTC)
        .replace_nanosecond(0)
        .map_err(|_| StoreError::Damaged("time"))?
        .format(&Rfc3339)
        .map_err(|_| StoreError::Damaged("time"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
