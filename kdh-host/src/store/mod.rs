//! The database. Every change goes through a [`Tx`] together with its audit record.
//!
//! Queries are plain SQL that SQLite and PostgreSQL share; what differs stands in [`database`]. A row
//! whose key is taken is no error, which would spoil a transaction of PostgreSQL: it is not inserted,
//! and the caller is told.

mod act_trail;
mod activation;
mod approval_trail;
mod approvals;
mod audit;
mod authority;
mod batch;
mod bdks;
mod binding_orders;
mod binding_tokens;
mod certificates;
mod check_values;
mod commits;
mod crls;
mod database;
mod deliveries;
mod device_keys;
mod device_trail;
mod devices;
mod export_trail;
mod exports;
mod few_rows;
mod group_commit;
mod groups;
mod holders;
mod id_trail;
mod key_imports;
mod key_profiles;
mod keys;
mod many;
mod memory;
mod milestones;
mod profile_trail;
mod recorded;
mod rollouts;
mod sealed;
mod standing;

use std::{mem::take, sync::Arc};

pub(crate) use activation::EnrolmentClaim;
pub(crate) use approvals::Approval;
pub(crate) use audit::{Actor, AuditEntry, KEY_ASSIGNED, KEY_REGISTERED};
pub(crate) use authority::{AuthorityRequest, NewAuthorityRequest};
use batch::{Answer, Batch, Parameters};
pub(crate) use bdks::{
    BDK_REGISTERED, GivenOut, IDS_CLAIMED, KeySet, StoredBdk, title as bdk_title,
};
pub(crate) use binding_orders::{BindingOrder, NewBindingOrder, OrderEnd};
pub(crate) use binding_tokens::{BindingToken, MadeFor};
pub(crate) use certificates::{KeyClaim, Purpose, StoredCertificate};
use commits::Head;
use database::{BUSY_TIMEOUT, CONNECTIONS_OF_OPERATORS, Database, Dialect, Session};
pub(crate) use deliveries::{Delivery, NewDelivery};
pub(crate) use device_keys::{DeviceKey, KeyPlace, KeyRow, KeySource, place_of};
pub(crate) use device_trail::DeviceTrail;
pub(crate) use devices::Device;
pub(crate) use exports::{ExportLine, ExportMarks, ExportRow, Made, Owner};
pub(crate) use few_rows::{FewRows, for_each_kind_of_few};
use group_commit::{Turn, Writers};
pub(crate) use groups::Group;
pub(crate) use holders::KEYS_MADE;
pub(crate) use key_imports::{KeyImportRequest, NewKeyImport};
pub(crate) use key_profiles::{
    PROFILE_ASSIGNED, PROFILE_PUT, PROFILE_REMOVED, ProfileAssignment, ProfileVersion,
    assignment_record,
};
pub(crate) use keys::{Assignment, StoredKey, method_word};
use memory::{Changes, Memory};
pub(crate) use recorded::RecordedKey;
pub(crate) use rollouts::{
    Cohort, Outcome, Reach, Rollout, RolloutKey, RolloutKeys, RolloutRow, Seen, Wave, Waves,
    title as rollout_title,
};
pub(crate) use sealed::{Proven, Seal, Sealed, SealedRow, Verified};
use sqlx::{
    Any, AnyConnection, AssertSqlSafe, Pool, Row as _, Transaction,
    any::{AnyArguments, AnyRow},
    pool::PoolConnection,
    query::Query,
};
pub(crate) use standing::{Standing, Tried};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tr34::IssuerAndSerial;

use crate::config::StoreSettings;

// What the queries are written for. Nothing else in them names a database.
type Db = Any;
type Row = AnyRow;
type Arguments = AnyArguments;
type Connection = AnyConnection;

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
    /// What was committed would not be safe in it, or it cannot be opened as configured.
    #[error("{0}")]
    Unfit(String),
    /// The file that keeps other hosts away cannot be locked.
    #[error("the lock file {0}")]
    Lock(String),
    /// The HSM has never sealed this row, or not so.
    #[error(
        "{0} is not as the HSM has sealed it: its row was changed behind the host's back. Restore it from a backup of \
         the database. Of terminals' keys, kdhctl key refused lists such rows; two operators can also discard one \
         (kdhctl key discard), and its slot is then assigned anew"
    )]
    NotSealed(String),
    /// No operator has made this row what it is.
    #[error(
        "{0} is not as the audit trail has it: its row was changed behind the host's back. Restore it from a backup of \
         the database"
    )]
    NotRecorded(String),
    /// The audit trail does not end with this record any more, as the host has left it.
    #[error(
        "the audit trail does not end in the database as this host has left it, with record {0}: somebody else has added \
         or changed records, or taken some away. Nothing is changed from now on. If another kdh-host of yours has worked on \
         this database, restart this one. Otherwise start none before the trail is as it was: it would take what it finds \
         for its own. Compare the trail with an earlier export, and restore the database from a backup"
    )]
    ForeignTrail(u64),
    /// A slot has had as many versions as there can be.
    #[error("{0} is the last that there can be: have the profile put its key into another slot")]
    NoNextVersion(String),
    /// A row holds what this program did not write, or changed while it was worked on.
    #[error("the database holds a damaged {0}")]
    Damaged(&'static str),
}

/// The host's database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dialect: Dialect,
    /// For readers.
    pool: Pool<Db>,
    /// For those who have only a share of them.
    share: Option<Arc<Semaphore>>,
    writers: Writers,
    memory: Arc<Memory>,
}

/// A transaction, and the time at which everything in it happened. Dropped without
/// [`Self::commit`], it leaves nothing.
pub(crate) struct Tx {
    inner: Inner,
    /// Statements whose answers nobody needs. They go with the next one, or with the commit.
    put_off: Batch,
    now: String,
    /// The last record of the trail that was there for certain when it began.
    began: u64,
    memory: Arc<Memory>,
    /// What it adds there.
    changes: Changes,
    /// Given back after the connection.
    _of_share: Option<OwnedSemaphorePermit>,
}

enum Inner {
    Asking(PoolConnection<Db>),
    Reading(Transaction<'static, Db>),
    Writing(Turn),
}

impl Store {
    /// Opens the database, making its tables or migrating them, for this host alone: each would take the
    /// other's claims for what a crash left behind.
    pub(crate) async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let database = Database::new(settings)?;
        let mut writer = database.writer().await?;
        database.migrate(&mut writer).await?;
        Ok(Self {
            dialect: database.dialect,
            pool: database.pool().await?,
            share: None,
            writers: Writers::new(database, writer),
            memory: Arc::default(),
        })
    }

    /// The same for operators: of the connections that read they have a share, all of them together, and the others are left
    /// to terminals and to the host itself.
    pub(crate) fn for_operators(&self) -> Self {
        Self {
            share: Some(Arc::new(Semaphore::new(CONNECTIONS_OF_OPERATORS))),
            ..self.clone()
        }
    }

    /// Begins a transaction that writes. Writers follow one another, so that what a transaction has
    /// read is still true when it commits. So is what the trail says: how earlier commits have ended is found out first,
    /// if it is in doubt and not for the writers in the line to say.
    ///
    /// # Errors
    /// [`StoreError::ForeignTrail`], if that was in doubt and the trail ends otherwise.
    pub(crate) async fn write(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        let mut turn = self.writers.turn(BUSY_TIMEOUT).await?;
        let look = turn.head().is_none() && self.memory.commits.known().is_in_doubt();
        let mut tx = self.tx(Inner::Writing(turn), None, now)?;
        if look {
            let head = tx.head().await?;
            tx.leave_head(head);
        }
        Ok(tx)
    }

    /// For questions whose answers need not be of one moment, which spares a transaction.
    pub(crate) async fn ask(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        let of_share = self.of_share().await?;
        self.tx(Inner::Asking(self.pool.acquire().await?), of_share, now)
    }

    /// Begins a transaction that only reads.
    pub(crate) async fn read(&self, now: OffsetDateTime) -> Result<Tx, StoreError> {
        let of_share = self.of_share().await?;
        let tx = self.pool.begin_with(self.dialect.begin_reading()).await?;
        self.tx(Inner::Reading(tx), of_share, now)
    }

    /// Waits as long as for a connection.
    async fn of_share(&self) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        let Some(share) = &self.share else {
            return Ok(None);
        };
        let limit = self.pool.options().get_acquire_timeout();
        let permit = timeout(limit, Arc::clone(share).acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(Some(permit)),
            Ok(Err(_)) => Err(sqlx::Error::PoolClosed.into()),
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    fn tx(
        &self,
        inner: Inner,
        of_share: Option<OwnedSemaphorePermit>,
        now: OffsetDateTime,
    ) -> Result<Tx, StoreError> {
        Ok(Tx {
            inner,
            put_off: Batch::new(self.dialect),
            now: time_text(now)?,
            began: self.memory.commits.known().end().sequence,
            memory: Arc::clone(&self.memory),
            changes: Changes::default(),
            _of_share: of_share,
        })
    }

    /// Does what keeps the database quick, while others read and write. Done often, it takes little each time.
    pub(crate) async fn keep_quick(&self) -> Result<(), StoreError> {
        match self.dialect {
            // Writers are spared from bringing what the log of changes holds into the database file.
            Dialect::Sqlite => {
                sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
                    .execute(&self.pool)
                    .await?;
            }
            Dialect::Postgres => self.know_what_has_grown().await?,
        }
        Ok(())
    }

    /// A server plans by what it last knew of a table. A rollout makes a table from nothing long before the server looks
    /// by itself, and would be read from end to end for a few devices.
    async fn know_what_has_grown(&self) -> Result<(), StoreError> {
        let grown: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(quote_ident(relname) AS TEXT) FROM pg_stat_user_tables
             WHERE schemaname = current_schema() AND n_mod_since_analyze > 500 + n_live_tup / 2",
        )
        .fetch_all(&self.pool)
        .await?;
        for table in grown {
            sqlx::query(AssertSqlSafe(format!("ANALYZE {table}")))
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.writers.close().await;
        // One that is in use keeps nobody from ending.
        timeout(BUSY_TIMEOUT, self.pool.close())
            .await
            .unwrap_or_default();
    }
}

impl Tx {
    /// Puts a statement off whose answer nobody needs.
    fn later(&mut self, statement: &'static str) -> Parameters<'_> {
        self.put_off.add(statement)
    }

    /// The answers to the last statements that were put off, which go to the database now, and all before them.
    async fn answers<const N: usize>(&mut self) -> Result<[Answer; N], StoreError> {
        let batch = self.put_off.take();
        let mut answers = match &mut self.inner {
            Inner::Asking(connection) => batch.send(Session(connection)).await?,
            Inner::Reading(tx) => batch.send(Session(tx)).await?,
            Inner::Writing(turn) => turn.send(batch).await?,
        };
        let last = answers.split_off(answers.len().saturating_sub(N));
        last.try_into().map_err(|_| StoreError::Damaged("answer"))
    }

    /// When everything in it happened, as the database has it.
    pub(crate) fn now(&self) -> &str {
        &self.now
    }

    /// The connection, after what was put off.
    async fn connection(&mut self) -> Result<Session<'_>, StoreError> {
        if !self.put_off.is_empty() {
            let [] = self.answers().await?;
        }
        Ok(match &mut self.inner {
            Inner::Asking(connection) => Session(connection),
            Inner::Reading(tx) => Session(tx),
            Inner::Writing(turn) => turn.connection().await?,
        })
    }

    /// Runs a statement that has to change one row: `what`, as it was when it was read.
    async fn exactly_one(
        &mut self,
        statement: Query<'_, Db, Arguments>,
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

    /// Whether nobody else's changes wait for their commit.
    fn is_alone(&self) -> bool {
        match &self.inner {
            Inner::Writing(turn) => turn.is_alone(),
            Inner::Asking(_) | Inner::Reading(_) => false,
        }
    }

    fn leave_head(&mut self, head: Head) {
        if let Inner::Writing(turn) = &mut self.inner {
            *turn.head() = Some(head);
        }
    }

    /// Makes it so: returns when it is on disk.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let changes = take(&mut self.changes);
        let last = changes.records.map(|records| records.last);
        let of_records_alone = changes.is_of_records_alone();
        self.memory.expect(changes);
        match self.inner {
            Inner::Asking(mut connection) => {
                self.put_off.send(Session(&mut connection)).await?;
            }
            Inner::Reading(mut tx) => {
                self.put_off.send(Session(&mut tx)).await?;
                tx.commit().await?;
            }
            Inner::Writing(turn) => {
                let commit = async move {
                    turn.commit(self.put_off).await?;
                    if let Some(last) = last {
                        self.memory.settle(last);
                    }
                    Ok::<(), StoreError>(())
                };
                if of_records_alone {
                    // If nobody awaits its end, the next one that is settled says how it was.
                    return commit.await;
                }
                // To the end, also when nobody awaits it any more: what the trail says has to be known.
                let committed = tokio::spawn(commit).await;
                committed.map_err(|error| StoreError::NotCommitted(error.to_string()))??;
            }
        }
        Ok(())
    }
}

/// The KDH that a column names, if it names one.
fn kdh_id(row: &Row, column: &'static str) -> Result<Option<IssuerAndSerial>, StoreError> {
    let der: Option<Vec<u8>> = row.try_get(column)?;
    let id = der.map(|der| IssuerAndSerial::parse(&der));
    id.transpose().map_err(|_| StoreError::Damaged(column))
}

/// A column that says yes or no, for which SQLite has numbers.
fn flag(row: &Row, column: &str) -> Result<bool, StoreError> {
    let truth = row.try_get::<bool, _>(column);
    Ok(truth.or_else(|_| row.try_get::<i64, _>(column).map(|number| number != 0))?)
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
mod both;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod server_tests;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
