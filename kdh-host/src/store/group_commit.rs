//! One writer at a time, and one commit for several of them.
//!
//! A commit waits for the disk, and writers that wait for their turn meanwhile would each wait for the
//! disk again. So a writer that is done leaves its changes in a transaction that is still open, lets
//! those have their turn who queued before it was done, and then commits for all of them. Nobody is told
//! that their changes are there before they are on disk.
//!
//! ```text
//! BEGIN
//!                   ...                       one writer's changes
//!   SAVEPOINT turn  ...  ROLLBACK TO turn     another's, who gave up
//!   SAVEPOINT turn  ...  RELEASE turn         a third one's
//! COMMIT                                      the first and the third are told
//! ```
//!
//! On PostgreSQL the first has a savepoint as well. What opens and closes a turn goes to SQLite together with the
//! turn's own statements.
//!
//! On PostgreSQL the connection holds the lock that keeps other hosts away: what loses the lock is the only thing
//! that writes, and what takes its place has to get the lock first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::Connection as _;
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, oneshot},
};

use super::{
    Connection, StoreError,
    batch::{self, Answer, Batch},
    commits::Head,
    database::{BUSY_TIMEOUT, Database, Dialect, Session, in_time},
};

/// Those who write.
#[derive(Clone, Debug)]
pub(super) struct Writers {
    line: Arc<Mutex<Line>>,
    /// How many wait for a turn.
    queued: Arc<AtomicUsize>,
}

/// What is handed from writer to writer.
#[derive(Debug)]
struct Line {
    database: Database,
    /// None after it was lost, or when nobody knew what state it was in.
    connection: Option<Connection>,
    open: Open,
    /// Whose changes are in the open transaction.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    /// The end of the audit trail, if it is known.
    head: Option<Head>,
}

/// What is open in the database. Said before it is so: if a writer goes away in the middle, it is cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    /// A turn that began the transaction: nobody else's changes are in it.
    FirstTurn,
    /// A transaction with the changes of those who wait for its commit.
    Transaction,
    /// Behind their changes, a turn in a savepoint.
    LaterTurn,
}

/// A turn to write. If it is dropped, its changes were never there.
pub(super) struct Turn {
    // The line goes first: whoever is left behind needs it.
    line: OwnedMutexGuard<Line>,
    /// The end of the audit trail, if it is known. Forgotten with the turn if that is dropped.
    head: Option<Head>,
    end: End,
}

/// Sees to it that a turn which was dropped leaves nothing open.
struct End {
    writers: Writers,
    committed: bool,
}

/// One in the queue.
struct Queued<'w>(&'w AtomicUsize);

impl Writers {
    /// With a connection of their own.
    pub(super) fn new(database: Database, connection: Connection) -> Self {
        let line = Line {
            database,
            connection: Some(connection),
            open: Open::Nothing,
            waiting: Vec::new(),
            head: None,
        };
        Self {
            line: Arc::new(Mutex::new(line)),
            queued: Arc::default(),
        }
    }

    /// Waits for a turn: first come, first served.
    ///
    /// # Errors
    /// It did not come in time; the database does not answer.
    pub(super) async fn turn(&self, limit: Duration) -> Result<Turn, StoreError> {
        let line = {
            let _queued = Queued::new(&self.queued);
            tokio::time::timeout(limit, Arc::clone(&self.line).lock_owned()).await
        };
        let mut line = line.map_err(|_| sqlx::Error::PoolTimedOut)?;
        if !line.is_ready() {
            // To the end, also when nobody waits for the turn any more: others' changes depend on it.
            let readied = tokio::spawn(async move {
                line.make_ready().await?;
                Ok(line)
            });
            line = readied
                .await
                .unwrap_or_else(|error| Err(StoreError::NotCommitted(error.to_string())))?;
        }
        Ok(Turn {
            head: line.head.take(),
            line,
            end: End {
                writers: self.clone(),
                committed: false,
            },
        })
    }

    /// Leaves nothing open.
    pub(super) async fn flush(&self) {
        self.line.lock().await.flush().await;
    }

    /// Leaves nothing open, and ends the connection.
    pub(super) async fn close(&self) {
        let mut line = self.line.lock().await;
        line.flush().await;
        line.hang_up().await;
    }
}

impl<'w> Queued<'w> {
    fn new(queued: &'w AtomicUsize) -> Self {
        queued.fetch_add(1, Ordering::AcqRel);
        Self(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Turn {
    /// The end of the audit trail.
    pub(super) fn head(&mut self) -> &mut Option<Head> {
        &mut self.head
    }

    /// Whether it has begun, and nobody else's changes wait for their commit.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.line.open, Open::FirstTurn)
    }

    /// Runs these statements, in the turn.
    ///
    /// # Errors
    /// One of them failed; or the turn could not begin, because another process writes, if nothing worse.
    pub(super) async fn send(&mut self, batch: Batch) -> Result<Vec<Answer>, StoreError> {
        self.line.send(batch).await
    }

    /// The connection, for more of the turn.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub(super) async fn connection(&mut self) -> Result<Session<'_>, StoreError> {
        if self.line.is_ready() {
            let nothing = Batch::new(self.line.database.dialect);
            self.line.send(nothing).await?;
        }
        Ok(self.line.session()?)
    }

    /// Runs these statements and makes all the turn's changes last, together with those of whoever is in the
    /// line. Goes on to the end also when nobody waits for it any more.
    ///
    /// # Errors
    /// They are not on disk.
    pub(super) async fn commit(self, last: Batch) -> Result<(), StoreError> {
        let done = tokio::spawn(self.finish(last)).await;
        done.unwrap_or_else(|error| Err(StoreError::NotCommitted(error.to_string())))
    }

    async fn finish(self, last: Batch) -> Result<(), StoreError> {
        let Self {
            mut line,
            head,
            mut end,
        } = self;
        if last.is_empty() && line.is_ready() {
            // Nothing was done in it.
            line.head = head;
            end.committed = true;
            return Ok(());
        }
        let alone = end.writers.queued.load(Ordering::Acquire) == 0;
        line.end_turn(last, alone).await?;
        line.head = head;
        end.committed = true;
        if alone {
            return Ok(());
        }
        let (tell, mut told) = oneshot::channel();
        line.waiting.push(tell);
        drop(line);
        // Those who queue already have their turn before the lock is ours, and go into the same commit.
        let outcome = tokio::select! {
            biased;
            outcome = &mut told => outcome,
            mut line = end.writers.line.lock() => {
                line.clean_up(None).await;
                line.commit().await;
                drop(line);
                told.await
            }
        };
        match outcome {
            Ok(outcome) => outcome.map_err(StoreError::NotCommitted),
            Err(_) => Err(StoreError::NotCommitted(
                "the connection was lost".to_owned(),
            )),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Where there is no runtime any more, the connection ends, and what is open in it.
        if !self.committed
            && let Ok(runtime) = Handle::try_current()
        {
            let writers = self.writers.clone();
            runtime.spawn(async move { writers.flush().await });
        }
    }
}

impl Line {
    /// Whether a turn can begin.
    const fn is_ready(&self) -> bool {
        self.connection.is_some() && matches!(self.open, Open::Nothing | Open::Transaction)
    }

    /// For a turn.
    async fn make_ready(&mut self) -> Result<(), StoreError> {
        self.clean_up(None).await;
        if self.connection.is_none() {
            self.connection = Some(self.database.writer().await?);
        }
        Ok(())
    }

    fn session(&mut self) -> sqlx::Result<Session<'_>> {
        let connection = self.connection.as_mut();
        connection.map(Session).ok_or(sqlx::Error::PoolClosed)
    }

    /// Runs statements of a turn, which begins if it has not.
    async fn send(&mut self, batch: Batch) -> Result<Vec<Answer>, StoreError> {
        let batch = match self.open {
            Open::Nothing => {
                self.open = Open::FirstTurn;
                self.begin(batch).await?
            }
            Open::Transaction => {
                self.open = Open::LaterTurn;
                batch.behind("SAVEPOINT turn")
            }
            Open::FirstTurn | Open::LaterTurn => batch,
        };
        Ok(batch.send(self.session()?).await?)
    }

    /// Begins a transaction, at the latest with these statements. A server may have gone since the last one, and be
    /// there again.
    async fn begin(&mut self, batch: Batch) -> Result<Batch, StoreError> {
        let begin = self.database.dialect.begin_writing();
        if self.database.dialect == Dialect::Sqlite {
            return Ok(batch.behind(begin));
        }
        if self.execute(begin).await.is_err() {
            self.hang_up().await;
            self.connection = Some(self.database.writer().await?);
            self.execute(begin).await?;
        }
        Ok(batch)
    }

    /// Ends a turn with these statements, and the transaction too if it is to be committed. If that fails, the
    /// turn has left nothing.
    async fn end_turn(&mut self, last: Batch, commit: bool) -> Result<(), StoreError> {
        // Behind the statements that open the turn, if there were none before.
        let is_later = matches!(self.open, Open::Transaction | Open::LaterTurn);
        let release = is_later || self.database.dialect.has_savepoint_at_once();
        let batch = last.before(match (release, commit) {
            (true, true) => "RELEASE turn; COMMIT",
            (true, false) => "RELEASE turn",
            (false, true) => "COMMIT",
            (false, false) => "",
        });
        if let Err(error) = self.send(batch).await {
            self.clean_up(Some(&error)).await;
            return Err(error);
        }
        if commit {
            self.committed();
        } else {
            self.open = Open::Transaction;
        }
        Ok(())
    }

    async fn flush(&mut self) {
        self.clean_up(None).await;
        self.commit().await;
    }

    /// Takes back what a turn that is not to be has changed.
    async fn clean_up(&mut self, why: Option<&StoreError>) {
        let (undo, then) = match self.open {
            Open::Nothing | Open::Transaction => return,
            Open::FirstTurn => ("ROLLBACK", Open::Nothing),
            Open::LaterTurn => ("ROLLBACK TO turn; RELEASE turn", Open::Transaction),
        };
        match in_time(BUSY_TIMEOUT, self.execute(undo)).await {
            Ok(()) => self.open = then,
            // The database has taken back more than the turn, or the turn had not quite begun; or it was
            // the commit that failed; or nobody answers.
            Err(error) => self.give_up(why.unwrap_or(&error.into())).await,
        }
    }

    /// Puts on disk what there is, and tells those who wait for it.
    async fn commit(&mut self) {
        if self.open == Open::Nothing {
            return;
        }
        match self.execute("COMMIT").await {
            Ok(()) => self.committed(),
            Err(error) => self.give_up(&error.into()).await,
        }
    }

    fn committed(&mut self) {
        self.open = Open::Nothing;
        for waiting in self.waiting.drain(..) {
            // Who does not want to know is not told.
            waiting.send(Ok(())).unwrap_or_default();
        }
    }

    /// Never uses this connection again. With its end everything is rolled back that is open in it.
    async fn give_up(&mut self, error: &StoreError) {
        self.hang_up().await;
        self.open = Open::Nothing;
        self.head = None;
        for waiting in self.waiting.drain(..) {
            waiting.send(Err(error.to_string())).unwrap_or_default();
        }
    }

    /// Ends the connection. Before the next one is made: that one needs the lock.
    async fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            // A server that does not listen notices the end later.
            drop(in_time(BUSY_TIMEOUT, connection.close()).await);
        }
    }

    async fn execute(&mut self, statements: &'static str) -> sqlx::Result<()> {
        batch::run(self.session()?, statements).await
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sqlx::Executor as _;

    use super::*;
    use crate::store::both::{Place, on_both};

    on_both!(
    "current_thread":
        those_in_the_line_share_a_commit_and_are_told_after_it,
        a_turn_that_is_dropped_leaves_nothing_and_harms_nobody,
        a_turn_that_is_dropped_alone_keeps_nobody_out,
        a_writer_that_goes_away_in_the_middle_of_a_statement_leaves_nothing,
        a_commit_goes_on_when_nobody_waits_for_it,
        a_commit_that_fails_fails_everybody_in_it_and_nobody_after_it,
        a_commit_after_an_error_says_what_has_become_of_the_changes,
        another_process_that_writes_is_waited_for_and_outlived,
        a_turn_in_which_nothing_is_done_holds_nobody_up_and_is_not_held_up,
        a_clean_up_that_nobody_waits_for_costs_nobody_their_changes,
        a_turn_that_does_not_come_is_not_waited_for,
    );

    mod at_once {
        use super::*;

        on_both!("multi_thread": what_was_committed_is_there_for_everybody, turns_never_mix);
    }

    const LIMIT: Duration = Duration::from_secs(30);
    const WRITERS: i64 = 40;

    struct Lab {
        database: Database,
        writers: Writers,
        _place: Place,
    }

    impl Lab {
        async fn new(on: Dialect) -> Self {
            let place = Place::new(on);
            let database = Database::new(&place.settings).unwrap();
            let mut writer = database.writer().await.unwrap();
            let tables = "CREATE TABLE parents (id BIGINT PRIMARY KEY);
                 CREATE TABLE entries (id BIGINT PRIMARY KEY, parent BIGINT
                     REFERENCES parents(id) DEFERRABLE INITIALLY DEFERRED);
                 CREATE TABLE counter (value BIGINT);
                 INSERT INTO counter VALUES (0);";
            writer.execute(sqlx::raw_sql(tables)).await.unwrap();
            // What waits for others waits for a second.
            let limit = match on {
                Dialect::Sqlite => "PRAGMA busy_timeout = 1000",
                Dialect::Postgres => "SET lock_timeout = 1000",
            };
            writer.execute(limit).await.unwrap();
            Self {
                writers: Writers::new(database.clone(), writer),
                database,
                _place: place,
            }
        }

        fn nothing(&self) -> Batch {
            Batch::new(self.database.dialect)
        }

        /// Another process's connection, as good as.
        async fn outside(&self) -> Connection {
            self.database.outside().await
        }

        async fn entries(&self) -> Vec<i64> {
            let mut outside = self.outside().await;
            sqlx::query_scalar("SELECT id FROM entries ORDER BY id")
                .fetch_all(&mut outside)
                .await
                .unwrap()
        }

        async fn turn(&self) -> Turn {
            self.writers.turn(LIMIT).await.unwrap()
        }

        async fn insert(&self, id: i64) -> Result<(), StoreError> {
            let mut turn = self.writers.turn(LIMIT).await?;
            insert(&mut turn, id).await?;
            turn.commit(self.nothing()).await
        }
    }

    async fn insert(turn: &mut Turn, id: i64) -> Result<(), StoreError> {
        let mut batch = Batch::new(turn.line.database.dialect);
        batch.add("INSERT INTO entries (id) VALUES ($1)").bind(id);
        turn.send(batch).await.map(drop)
    }

    async fn what_was_committed_is_there_for_everybody(on: Dialect) {
        let lab = Lab::new(on).await;
        let lab = &lab;
        let writers = (0..WRITERS).map(|id| async move {
            lab.insert(id).await.unwrap();
            assert!(lab.entries().await.contains(&id));
        });
        futures_util::future::join_all(writers).await;
        assert_eq!(lab.entries().await, (0..WRITERS).collect::<Vec<_>>());
    }

    async fn turns_never_mix(on: Dialect) {
        let lab = Lab::new(on).await;
        let lab = &lab;
        let writers = (0..WRITERS).map(|_| async move {
            let mut turn = lab.turn().await;
            let read = sqlx::query_scalar::<_, i64>("SELECT value FROM counter");
            let value = read.fetch_one(turn.connection().await.unwrap());
            let value = value.await.unwrap();
            tokio::task::yield_now().await;
            let write = sqlx::query("UPDATE counter SET value = $1").bind(value + 1);
            let written = write.execute(turn.connection().await.unwrap());
            written.await.unwrap();
            turn.commit(lab.nothing()).await.unwrap();
        });
        futures_util::future::join_all(writers).await;
        let mut outside = lab.outside().await;
        let read = sqlx::query_scalar::<_, i64>("SELECT value FROM counter");
        assert_eq!(read.fetch_one(&mut outside).await.unwrap(), WRITERS);
    }

    async fn those_in_the_line_share_a_commit_and_are_told_after_it(on: Dialect) {
        let lab = Lab::new(on).await;
        let mut first = lab.turn().await;
        insert(&mut first, 1).await.unwrap();
        // Queues now, before the first is done.
        let mut second = Box::pin(lab.writers.turn(LIMIT));
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut commit = Box::pin(first.commit(lab.nothing()));
        assert!(futures_util::poll!(&mut commit).is_pending());

        let mut second = second.await.unwrap();
        insert(&mut second, 2).await.unwrap();
        // The first is done, and not on disk: nobody was told so.
        assert!(futures_util::poll!(&mut commit).is_pending());
        assert!(lab.entries().await.is_empty());
        second.commit(lab.nothing()).await.unwrap();
        commit.await.unwrap();
        assert_eq!(lab.entries().await, [1, 2]);
    }

    async fn a_turn_that_is_dropped_leaves_nothing_and_harms_nobody(on: Dialect) {
        let lab = Lab::new(on).await;
        let mut first = lab.turn().await;
        insert(&mut first, 1).await.unwrap();
        let mut second = Box::pin(lab.writers.turn(LIMIT));
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut commit = Box::pin(first.commit(lab.nothing()));
        assert!(futures_util::poll!(&mut commit).is_pending());
        let mut second = second.await.unwrap();
        insert(&mut second, 2).await.unwrap();
        drop(second);
        // Nobody else comes.
        commit.await.unwrap();
        assert_eq!(lab.entries().await, [1]);
        lab.insert(2).await.unwrap();
        assert_eq!(lab.entries().await, [1, 2]);
    }

    async fn a_turn_that_is_dropped_alone_keeps_nobody_out(on: Dialect) {
        let lab = Lab::new(on).await;
        let mut turn = lab.turn().await;
        insert(&mut turn, 1).await.unwrap();
        drop(turn);
        lab.writers.flush().await;
        let mut outside = lab.outside().await;
        outside
            .execute("INSERT INTO entries (id) VALUES (2)")
            .await
            .unwrap();
        assert_eq!(lab.entries().await, [2]);
    }

    async fn a_writer_that_goes_away_in_the_middle_of_a_statement_leaves_nothing(on: Dialect) {
        let lab = Lab::new(on).await;
        for id in 0..20 {
            let mut turn = lab.turn().await;
            {
                // However far it has come by then.
                let mut cut_off = Box::pin(insert(&mut turn, id));
                let _ = futures_util::poll!(&mut cut_off);
            }
            drop(turn);
            // And while it gets a turn.
            let mut cut_off = Box::pin(lab.writers.turn(LIMIT));
            let _ = futures_util::poll!(&mut cut_off);
        }
        lab.insert(100).await.unwrap();
        assert_eq!(lab.entries().await, [100]);
    }

    async fn a_commit_goes_on_when_nobody_waits_for_it(on: Dialect) {
        let lab = Lab::new(on).await;
        let mut turn = lab.turn().await;
        insert(&mut turn, 1).await.unwrap();
        {
            let mut commit = Box::pin(turn.commit(lab.nothing()));
            assert!(futures_util::poll!(&mut commit).is_pending());
        }
        // In the line behind it.
        lab.insert(2).await.unwrap();
        assert_eq!(lab.entries().await, [1, 2]);
    }

    async fn a_commit_that_fails_fails_everybody_in_it_and_nobody_after_it(on: Dialect) {
        let lab = Lab::new(on).await;
        let mut first = lab.turn().await;
        insert(&mut first, 1).await.unwrap();
        let mut second = Box::pin(lab.writers.turn(LIMIT));
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut commit = Box::pin(first.commit(lab.nothing()));
        assert!(futures_util::poll!(&mut commit).is_pending());
        let mut second = second.await.unwrap();
        // What is deferred is checked at the commit.
        let mut orphan = lab.nothing();
        orphan.add("INSERT INTO entries VALUES (2, 17)");
        second.send(orphan).await.unwrap();
        let failed = second.commit(lab.nothing()).await.unwrap_err();
        assert!(
            failed.to_string().to_lowercase().contains("foreign key"),
            "{failed}"
        );
        assert!(matches!(commit.await, Err(StoreError::NotCommitted(_))));
        assert!(lab.entries().await.is_empty());

        lab.insert(3).await.unwrap();
        assert_eq!(lab.entries().await, [3]);
    }

    /// A server takes the commit of a transaction in which something failed for a rollback, and says yes.
    async fn a_commit_after_an_error_says_what_has_become_of_the_changes(on: Dialect) {
        for behind_others in [false, true] {
            let lab = Lab::new(on).await;
            let mut first = lab.turn().await;
            insert(&mut first, 1).await.unwrap();
            let (mut turn, commit) = if behind_others {
                let mut second = Box::pin(lab.writers.turn(LIMIT));
                assert!(futures_util::poll!(&mut second).is_pending());
                let mut commit = Box::pin(first.commit(lab.nothing()));
                assert!(futures_util::poll!(&mut commit).is_pending());
                (second.await.unwrap(), Some(commit))
            } else {
                (first, None)
            };
            insert(&mut turn, 2).await.unwrap();
            insert(&mut turn, 1).await.unwrap_err();
            let committed = turn.commit(lab.nothing()).await.is_ok();
            assert_eq!(lab.entries().await.contains(&2), committed);
            if let Some(commit) = commit {
                commit.await.unwrap();
                assert!(lab.entries().await.contains(&1), "others are not harmed");
            }
            lab.insert(3).await.unwrap();
            assert!(lab.entries().await.contains(&3));
        }
    }

    async fn another_process_that_writes_is_waited_for_and_outlived(on: Dialect) {
        let lab = Lab::new(on).await;
        let mut outside = lab.outside().await;
        let hold = match on {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN; LOCK TABLE entries",
        };
        outside.execute(sqlx::raw_sql(hold)).await.unwrap();
        lab.insert(1).await.unwrap_err();
        outside.execute("ROLLBACK").await.unwrap();
        lab.insert(1).await.unwrap();
        assert_eq!(lab.entries().await, [1]);
        outside.close().await.unwrap();
    }

    async fn a_turn_in_which_nothing_is_done_holds_nobody_up_and_is_not_held_up(on: Dialect) {
        let lab = Lab::new(on).await;
        let idle = lab.turn().await;
        let mut next = Box::pin(lab.writers.turn(LIMIT));
        assert!(futures_util::poll!(&mut next).is_pending());
        let mut end = Box::pin(idle.commit(lab.nothing()));
        assert!(futures_util::poll!(&mut end).is_pending());
        drop(next);
        end.await.unwrap();
        lab.insert(1).await.unwrap();
        assert_eq!(lab.entries().await, [1]);
    }

    async fn a_clean_up_that_nobody_waits_for_costs_nobody_their_changes(on: Dialect) {
        // However far it has come when it is cut off.
        for polls in 0..12 {
            let lab = Lab::new(on).await;
            let mut first = lab.turn().await;
            insert(&mut first, 1).await.unwrap();
            let mut second = Box::pin(lab.writers.turn(LIMIT));
            assert!(futures_util::poll!(&mut second).is_pending());
            let mut commit = Box::pin(first.commit(lab.nothing()));
            assert!(futures_util::poll!(&mut commit).is_pending());
            let mut second = second.await.unwrap();
            insert(&mut second, 2).await.unwrap();
            let mut third = Box::pin(lab.writers.turn(LIMIT));
            assert!(futures_util::poll!(&mut third).is_pending());
            drop(second);
            for _ in 0..polls {
                if futures_util::poll!(&mut third).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(third);
            commit.await.unwrap();
            assert_eq!(lab.entries().await, [1], "{polls}");
        }
    }

    async fn a_turn_that_does_not_come_is_not_waited_for(on: Dialect) {
        let lab = Lab::new(on).await;
        let turn = lab.turn().await;
        let late = lab.writers.turn(Duration::from_millis(1)).await;
        assert!(matches!(
            late.err(),
            Some(StoreError::Database(sqlx::Error::PoolTimedOut))
        ));
        turn.commit(lab.nothing()).await.unwrap();
        lab.insert(1).await.unwrap();
    }
}
