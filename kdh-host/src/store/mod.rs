//! The database. Every change goes through a [`Tx`] together with its audit record.
//!
//! Queries are plain SQL that SQLite and PostgreSQL share, apart from how a connection is opened. A
//! row whose key is taken is no error, which would spoil a transaction of PostgreSQL: it is not
//! inserted, and the caller is told.

mod activation;
mod audit;
mod authority;
mod batch;
mod binding_orders;
mod binding_tokens;
mod certificates;
mod crls;
mod deliveries;
mod devices;
mod group_commit;
mod key_imports;
mod keys;
mod standing;

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
    time::Duration,
};

pub(crate) use activation::EnrolmentClaim;
use audit::Head;
pub(crate) use audit::{Actor, AuditEntry, KEY_REGISTERED};
pub(crate) use authority::{AuthorityRequest, NewAuthorityRequest};
use batch::{Answer, Batch, Parameters};
pub(crate) use binding_orders::{BindingOrder, NewBindingOrder, OrderEnd};
pub(crate) use binding_tokens::{BindingToken, MadeFor};
pub(crate) use certificates::{KeyClaim, Purpose, StoredCertificate};
pub(crate) use deliveries::{Delivery, NewDelivery};
pub(crate) use devices::Device;
use group_commit::{Turn, Writers};
pub(crate) use key_imports::{KeyImportRequest, NewKeyImport};
pub(crate) use keys::{Assignment, StoredKey, method_word};
use sqlx::{
    Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};
pub(crate) use standing::{Standing, Tried};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tr34::IssuerAndSerial;

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 8;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// What was written did not come onto the disk.
    #[error("the transaction could not be committed: {0}")]
    NotCommitted(String),
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
    /// For readers.
    pool: SqlitePool,
    writers: Writers,
    /// Keeps other hosts away for as long as this one lives: each would take the other's claims for
    /// what a crash left behind.
    _lock: Arc<File>,
}

/// A transaction, and the time at which everything in it happened. Dropped without
/// [`Self::commit`], it leaves nothing.
pub(crate) struct Tx {
    inner: Inner,
    /// Statements whose answers nobody needs. They go with the next one, or with the commit.
    put_off: Batch,
    now: String,
}

enum Inner {
    Asking(PoolConnection<Sqlite>),
    Reading(Transaction<'static, Sqlite>),
    Writing(Turn),
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
            // For when the checkpoints beside the writers do not keep up.
            .pragma("wal_autocheckpoint", "20000")
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            // A file does not go away as a server does.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(sqlx::Error::from)?;
        Ok(Self {
            pool,
            writers: Writers::connect(options).await?,
            _lock: lock,
        })
    }

    /// Begins a transaction that writes. Writers follow one another, so that what a transaction has
    /// read is still true when it commits.
    pub(crate) async fn write(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        let turn = self.writers.turn(BUSY_TIMEOUT).await?;
        Tx::new(Inner::Writing(turn), now)
    }

    /// For questions whose answers need not be of one moment, which spares a transaction.
    pub(crate) async fn ask(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        Tx::new(Inner::Asking(self.pool.acquire().await?), now)
    }

    /// Begins a transaction that only reads.
    pub(crate) async fn read(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        Tx::new(Inner::Reading(self.pool.begin().await?), now)
    }

    /// Brings what the log of changes holds into the database file, while others read and write. Done often,
    /// it spares writers from doing it.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.writers.flush().await;
        self.pool.close().await;
    }
}

impl Tx {
    fn new(inner: Inner, now: OffsetDateTime) -> Result<Self, StoreError> {
        let now = time_text(now)?;
        Ok(Self {
            inner,
            put_off: Batch::default(),
            now,
        })
    }

    /// Puts a statement off whose answer nobody needs.
    fn later(&mut self, statement: &'static str) -> Parameters<'_> {
        self.put_off.add(statement)
    }

    /// The answers to the last statements that were put off, which go to the database now, and all before them.
    async fn answers<const N: usize>(&mut self) -> Result<[Answer; N], StoreError> {
        let batch = std::mem::take(&mut self.put_off);
        let mut answers = match &mut self.inner {
            Inner::Asking(connection) => batch.send(connection).await,
            Inner::Reading(tx) => batch.send(tx).await,
            Inner::Writing(turn) => turn.send(batch).await,
        }?;
        let last = answers.split_off(answers.len().saturating_sub(N));
        last.try_into().map_err(|_| StoreError::Damaged("answer"))
    }

    /// The connection, after what was put off.
    async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if !self.put_off.is_empty() {
            let [] = self.answers().await?;
        }
        Ok(match &mut self.inner {
            Inner::Asking(connection) => connection,
            Inner::Reading(tx) => tx,
            Inner::Writing(turn) => turn.connection().await?,
        })
    }

    /// Runs a statement that has to change one row: `what`, as it was when it was read.
    async fn exactly_one(
        &mut self,
        statement: Query<'_, Sqlite, SqliteArguments>,
        what: &'static str,
    ) -> Result<(), StoreError> {
        let done = statement.execute(self.connection().await?).await?;
        if done.rows_affected() == 1 {
            Ok(())
        } else {
            Err(StoreError::Damaged(what))
        }
    }

    /// Where the trail ends, if a writer before has left word: nobody else writes to it.
    fn take_head(&mut self) -> Option<Head> {
        match &mut self.inner {
            Inner::Writing(turn) => turn.head().take(),
            Inner::Asking(_) | Inner::Reading(_) => None,
        }
    }

    fn leave_head(&mut self, head: Head) {
        if let Inner::Writing(turn) = &mut self.inner {
            *turn.head() = Some(head);
        }
    }

    /// Makes it so: returns when it is on disk.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Asking(mut connection) => self.put_off.send(&mut connection).await.map(drop)?,
            Inner::Reading(mut tx) => {
                self.put_off.send(&mut tx).await?;
                tx.commit().await?;
            }
            Inner::Writing(turn) => turn.commit(self.put_off).await?,
        }
        Ok(())
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

/// The KDH that a column names, if it names one.
fn kdh_id(row: &SqliteRow, column: &'static str) -> Result<Option<IssuerAndSerial>, StoreError> {
    let der: Option<Vec<u8>> = row.try_get(column)?;
    let id = der.map(|der| IssuerAndSerial::parse(&der));
    id.transpose().map_err(|_| StoreError::Damaged(column))
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
