//! A few threads that work for many callers: a bounded queue, a deadline for each answer, and
//! replacements for threads that do not come back.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_channel::oneshot;

use crate::HsmError;

/// Something to do, and how long it may take.
struct Job {
    work: Box<dyn FnOnce() + Send>,
    limit: Duration,
}

/// Threads that call into a module. They end when the pool is dropped, which waits for them: a process
/// that ends while a thread is inside of a module takes the module apart under it. No job may own
/// the pool.
pub(crate) struct Pool {
    /// `None` only while the pool is dropped.
    jobs: Option<SyncSender<Job>>,
    waiting: Arc<Mutex<Receiver<Job>>>,
    deadline: Duration,
    max_stuck: usize,
    crew: Arc<Crew>,
}

/// More threads are stuck in the module than are replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyStuck(pub(crate) usize);

/// Who works.
#[derive(Default)]
struct Crew {
    threads: Mutex<Threads>,
    /// Somebody has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Threads {
    last: u64,
    at_work: HashMap<u64, Thread>,
    /// Those that were given up and are still inside of the module.
    stuck: usize,
}

struct Thread {
    /// When its present job is given up, if it has one.
    until: Option<Instant>,
    /// It takes no more jobs.
    ended: bool,
    handle: JoinHandle<()>,
}

impl Pool {
    /// Starts this many threads, with room for `queue` jobs that wait. A job that takes longer than its
    /// limit is given up, which is `deadline` where somebody waits for an answer; and up to `max_stuck`
    /// threads that are lost so are replaced.
    pub(crate) fn start(
        threads: usize,
        queue: usize,
        deadline: Duration,
        max_stuck: usize,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(queue);
        let pool = Self {
            jobs: Some(jobs),
            waiting: Arc::new(Mutex::new(waiting)),
            deadline,
            max_stuck,
            crew: Arc::default(),
        };
        for _ in 0..threads.max(1) {
            pool.add_thread(&mut pool.crew.threads())?;
        }
        Ok(pool)
    }

    /// Has a thread do `work` and waits for the answer.
    ///
    /// A full queue answers at once; a job that waited until its deadline is never begun.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let asked = Instant::now();
        let (answer, answered) = sync_channel(1);
        self.submit_for(asked, work, move |result| {
            answer.send(result).unwrap_or_default();
        })?;
        match answered.recv_timeout(self.deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(self.unanswered(operation, asked)),
            Err(RecvTimeoutError::Timeout) => Err(late(operation)),
        }
    }

    /// As [`Self::run`], for callers that await the answer. For how long is theirs to say: one that does not
    /// come back is given up by [`Self::replace_stuck`] and its answer awaited still.
    pub(crate) async fn answer<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let asked = Instant::now();
        let (answer, answered) = oneshot::channel();
        self.submit_for(asked, work, move |result| drop(answer.send(result)))?;
        match answered.await {
            Ok(result) => result,
            Err(oneshot::Canceled) => Err(self.unanswered(operation, asked)),
        }
    }

    /// A job whose caller may have given up by the time it is begun, or does not want the answer any more.
    fn submit_for<T: 'static>(
        &self,
        asked: Instant,
        work: impl FnOnce() -> Result<T, HsmError> + Send + 'static,
        answer: impl FnOnce(Result<T, HsmError>) + Send + 'static,
    ) -> Result<(), HsmError> {
        let deadline = self.deadline;
        self.submit(deadline, move || {
            if asked.elapsed() < deadline {
                answer(work());
            }
        })
    }

    /// Why there will be no answer.
    fn unanswered(&self, operation: &'static str, asked: Instant) -> HsmError {
        if asked.elapsed() < self.deadline {
            return HsmError::Unavailable {
                operation,
                reason: "the call panicked".to_owned(),
            };
        }
        late(operation)
    }

    /// Has a thread do `work`, and waits for nothing. It is given up when it takes longer than `limit`.
    ///
    /// # Errors
    /// [`HsmError::Busy`]: the queue is full.
    pub(crate) fn submit(
        &self,
        limit: Duration,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), HsmError> {
        let jobs = self.jobs.as_ref().ok_or(HsmError::Busy)?;
        let work = Box::new(work);
        jobs.try_send(Job { work, limit })
            .map_err(|error| match error {
                // The pool itself holds the receiver.
                TrySendError::Full(_) | TrySendError::Disconnected(_) => HsmError::Busy,
            })
    }

    /// Gives up threads that have been in one job for longer than its limit, and starts others in their
    /// place. One that comes back later ends then.
    ///
    /// # Errors
    /// [`TooManyStuck`], every time, as long as there are: nobody was started in their place.
    pub(crate) fn replace_stuck(&self) -> Result<(), TooManyStuck> {
        let mut threads = self.crew.threads();
        let now = Instant::now();
        let is_stuck = |thread: &Thread| thread.until.is_some_and(|until| now > until);
        let late = threads.at_work.extract_if(|_, thread| is_stuck(thread));
        let late = late.count();
        threads.stuck += late;
        for _ in 0..late {
            if threads.stuck > self.max_stuck {
                break;
            }
            tracing::error!(
                stuck = threads.stuck,
                limit = self.max_stuck,
                "a call into the module does not come back; its thread is replaced"
            );
            if let Err(error) = self.add_thread(&mut threads) {
                tracing::error!(%error, "a thread that is stuck could not be replaced");
            }
        }
        if threads.stuck > self.max_stuck {
            return Err(TooManyStuck(threads.stuck));
        }
        Ok(())
    }

    fn add_thread(&self, threads: &mut Threads) -> io::Result<()> {
        threads.last += 1;
        let me = threads.last;
        let (waiting, crew) = (Arc::clone(&self.waiting), Arc::clone(&self.crew));
        let handle = thread::Builder::new()
            .name("hsm-worker".to_owned())
            .spawn(move || crew.work(me, &waiting))?;
        let thread = Thread {
            until: None,
            ended: false,
            handle,
        };
        threads.at_work.insert(me, thread);
        Ok(())
    }
}

/// Why an answer did not come.
pub(crate) const DEADLINE: &str = "deadline";

/// No answer has come in time.
pub(crate) fn late(operation: &'static str) -> HsmError {
    HsmError::Unavailable {
        operation,
        reason: DEADLINE.to_owned(),
    }
}

impl Crew {
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self, me: u64, waiting: &Mutex<Receiver<Job>>) {
        while let Some(Job { work, limit }) = next(waiting) {
            self.change(me, |thread| thread.until = Some(Instant::now() + limit));
            // Its caller learns of it: the answer's sender is gone.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("a call panicked");
            }
            if !self.change(me, |thread| thread.until = None) {
                self.threads().stuck -= 1;
                tracing::warn!("a call that was given up has come back");
                return;
            }
        }
        self.change(me, |thread| thread.ended = true);
        self.ended.notify_all();
    }

    /// Whether the thread still belongs to the crew.
    fn change(&self, me: u64, change: impl FnOnce(&mut Thread)) -> bool {
        self.threads().at_work.get_mut(&me).map(change).is_some()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Threads end when there is nothing more to do.
        self.jobs = None;
        let threads = self.crew.threads();
        if threads.stuck > 0 {
            tracing::warn!(stuck = threads.stuck, "threads are stuck in the module");
        }
        // One that is in a call is not waited for longer than a caller would have.
        let waited = self
            .crew
            .ended
            .wait_timeout_while(threads, self.deadline, |threads| {
                threads.at_work.values().any(|thread| !thread.ended)
            });
        let (mut threads, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            tracing::warn!("a thread is stuck in the module");
            return;
        }
        let at_work = std::mem::take(&mut threads.at_work);
        drop(threads);
        // The module's own clean-up for a thread runs after the thread's last line.
        for thread in at_work.into_values() {
            if thread.handle.join().is_err() {
                tracing::warn!("a worker panicked");
            }
        }
    }
}

/// The next job; `None` when the pool is gone. One idle worker waits for the queue, the others for
/// their turn to wait.
fn next(waiting: &Mutex<Receiver<Job>>) -> Option<Job> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.recv().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc::{TryRecvError, channel};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn start(threads: usize, deadline: Duration) -> Pool {
        Pool::start(threads, 1, deadline, 1).unwrap()
    }

    fn reason(result: Result<(), HsmError>) -> String {
        match result {
            Err(HsmError::Unavailable { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_queue_is_busy_at_once_and_free_again_later() {
        let pool = start(1, LONG);
        let (begun, has_begun) = channel();
        let (finish, may_finish) = channel::<()>();

        // The first job occupies the thread, the second one the queue.
        pool.submit(LONG, move || {
            begun.send(()).unwrap();
            may_finish.recv().unwrap();
        })
        .unwrap();
        has_begun.recv().unwrap();
        let (emptied, is_empty) = channel();
        pool.submit(LONG, move || emptied.send(()).unwrap())
            .unwrap();
        assert!(matches!(pool.run("test", || Ok(())), Err(HsmError::Busy)));

        finish.send(()).unwrap();
        is_empty.recv().unwrap();
        pool.run("test", || Ok(())).unwrap();
    }

    #[test]
    fn a_late_answer_is_not_waited_for() {
        let pool = start(1, Duration::from_millis(1));
        let (finish, may_finish) = channel::<()>();
        let late = pool.run("test", move || {
            may_finish.recv().unwrap_or_default();
            Ok(())
        });
        assert_eq!(reason(late), DEADLINE);
        drop(finish);
    }

    #[test]
    fn a_job_past_its_deadline_is_never_begun() {
        let pool = start(1, Duration::ZERO);
        let (begun, has_begun) = channel();
        let late = pool.run("test", move || {
            begun.send(()).unwrap();
            Ok(())
        });
        assert_eq!(reason(late), DEADLINE);
        // The job was dropped unbegun, and `begun` with it.
        assert!(has_begun.recv().is_err());
    }

    #[test]
    fn a_call_that_panics_is_told_from_one_that_is_slow_and_costs_no_thread() {
        let pool = start(1, LONG);
        let died = pool.run("test", || panic!("a test"));
        assert_eq!(reason(died), "the call panicked");
        pool.run("test", || Ok(())).unwrap();
    }

    #[test]
    fn errors_pass_through() {
        let pool = start(1, LONG);
        let error = pool.run::<()>("test", || Err(HsmError::OpeningFailed));
        assert!(matches!(error, Err(HsmError::OpeningFailed)));
    }

    #[test]
    fn threads_end_with_the_pool() {
        let pool = start(2, LONG);
        let (gone, is_gone) = channel::<()>();
        pool.submit(LONG, move || drop(gone)).unwrap();
        drop(pool);
        assert_eq!(is_gone.try_recv(), Err(TryRecvError::Disconnected));
    }

    /// Gives up what does not come back, once its time is over.
    fn give_up(pool: &Pool) -> Result<(), TooManyStuck> {
        let until = |pool: &Pool| {
            let threads = pool.crew.threads();
            threads
                .at_work
                .values()
                .filter_map(|thread| thread.until)
                .max()
        };
        while until(pool).is_some_and(|until| Instant::now() <= until) {
            thread::yield_now();
        }
        pool.replace_stuck()
    }

    /// A call that hangs until the sender is used or dropped.
    fn hang(pool: &Pool) -> SyncSender<()> {
        let (finish, may_finish) = sync_channel::<()>(1);
        let late = pool.run("test", move || {
            may_finish.recv().unwrap_or_default();
            Ok(())
        });
        assert_eq!(reason(late), DEADLINE);
        finish
    }

    #[test]
    fn threads_that_do_not_come_back_are_replaced_up_to_a_limit() {
        let pool = start(1, Duration::from_millis(50));
        let first = hang(&pool);
        assert_eq!(give_up(&pool), Ok(()));
        // Another thread works in its place ...
        pool.run("test", || Ok(())).unwrap();
        // ... and hangs too.
        let second = hang(&pool);
        assert_eq!(give_up(&pool), Err(TooManyStuck(2)));
        assert_eq!(pool.replace_stuck(), Err(TooManyStuck(2)));
        drop((first, second));
    }

    #[test]
    fn a_thread_that_comes_back_late_counts_no_more() {
        let pool = start(1, Duration::from_millis(50));
        let finish = hang(&pool);
        assert_eq!(give_up(&pool), Ok(()));
        assert_eq!(pool.crew.threads().stuck, 1);
        drop(finish);
        while pool.crew.threads().stuck > 0 {
            thread::yield_now();
        }
        pool.run("test", || Ok(())).unwrap();
    }

    #[test]
    fn a_job_that_may_take_longer_than_the_deadline_is_not_given_up_at_it() {
        let pool = start(1, Duration::ZERO);
        let (begun, has_begun) = channel();
        let (finish, may_finish) = channel::<()>();
        pool.submit(LONG, move || {
            begun.send(()).unwrap();
            may_finish.recv().unwrap_or_default();
        })
        .unwrap();
        has_begun.recv().unwrap();
        assert_eq!(pool.replace_stuck(), Ok(()));
        assert_eq!(pool.crew.threads().stuck, 0);
        drop(finish);
    }

    #[test]
    fn a_job_that_waits_long_is_not_taken_for_stuck() {
        let pool = start(1, LONG);
        pool.run("test", || Ok(())).unwrap();
        assert_eq!(pool.replace_stuck(), Ok(()));
        assert_eq!(pool.crew.threads().stuck, 0);
    }
}
