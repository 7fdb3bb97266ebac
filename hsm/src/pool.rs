//! A few threads that work for many callers: a bounded queue, and a deadline for each answer.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::HsmError;

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// Threads that each own a `W`. They end when the pool is dropped, which waits for them: a process
/// that ends while a thread is inside of a module takes the module apart under it.
pub(crate) struct Pool<W> {
    /// `None` only while the pool is dropped.
    jobs: Option<SyncSender<Job<W>>>,
    deadline: Duration,
    /// Disconnected when the last thread has given up its `W`.
    ended: Mutex<Receiver<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Send + 'static> Pool<W> {
    /// Starts a thread for each of `workers`, with room for `queue` jobs that wait.
    pub(crate) fn start(workers: Vec<W>, queue: usize, deadline: Duration) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job<W>>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        let (running, ended) = sync_channel(0);
        let mut threads = Vec::new();
        for mut worker in workers {
            let waiting = Arc::clone(&waiting);
            let running = running.clone();
            let thread = thread::Builder::new()
                .name("hsm-worker".to_owned())
                .spawn(move || {
                    while let Some(job) = next(&waiting) {
                        job(&mut worker);
                    }
                    drop(worker);
                    drop(running);
                })?;
            threads.push(thread);
        }
        Ok(Self {
            jobs: Some(jobs),
            deadline,
            ended: Mutex::new(ended),
            threads,
        })
    }

    /// Has a worker do `work` and waits for the answer.
    ///
    /// A full queue answers at once; a job that waited until its deadline is never begun.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut W) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let unavailable = |reason: &str| HsmError::Unavailable {
            operation,
            reason: reason.to_owned(),
        };
        let asked = Instant::now();
        let deadline = self.deadline;
        let (answer, answered) = sync_channel(1);
        let job = Box::new(move |worker: &mut W| {
            if asked.elapsed() < deadline {
                // A caller that has given up does not want the answer.
                answer.send(work(worker)).unwrap_or_default();
            }
        });
        let gone = || unavailable("no worker is left");
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => HsmError::Busy,
            TrySendError::Disconnected(_) => gone(),
        })?;
        match answered.recv_timeout(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) if asked.elapsed() < deadline => {
                Err(unavailable("the worker ended"))
            }
            Err(_) => Err(unavailable("deadline")),
        }
    }
}

impl<W> Drop for Pool<W> {
    fn drop(&mut self) {
        self.jobs = None;
        // Nothing is ever sent. A thread that is stuck in the module is not waited for longer than a
        // caller would have.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(self.deadline) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a worker is stuck in the module");
            return;
        }
        // The module's own clean-up for a thread runs after the thread's last line.
        let this = thread::current().id();
        for thread in self
            .threads
            .drain(..)
            .filter(|thread| thread.thread().id() != this)
        {
            if thread.join().is_err() {
                tracing::warn!("a worker panicked");
            }
        }
    }
}

/// The next job; `None` when the pool is gone. One idle worker waits for the queue, the others for
/// their turn to wait.
fn next<W>(waiting: &Mutex<Receiver<Job<W>>>) -> Option<Job<W>> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.recv().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc::{TryRecvError, channel};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn reason(result: Result<(), HsmError>) -> String {
        match result {
            Err(HsmError::Unavailable { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_queue_is_busy_at_once_and_free_again_later() {
        let pool = Arc::new(Pool::start(vec![()], 1, LONG).unwrap());
        let (begun, has_begun) = channel();
        let (finish, may_finish) = channel::<()>();

        // The first job occupies the worker ...
        let first = thread::spawn({
            let pool = Arc::clone(&pool);
            move || {
                pool.run("test", move |()| {
                    begun.send(()).unwrap();
                    may_finish.recv().unwrap();
                    Ok(())
                })
            }
        });
        has_begun.recv().unwrap();
        // ... the second one the queue. It is put there directly: to wait for its answer would need
        // a thread of which nobody knows when it has asked.
        let jobs = pool.jobs.as_ref().unwrap();
        jobs.try_send(Box::new(|()| ())).unwrap();

        assert!(matches!(pool.run("test", |()| Ok(())), Err(HsmError::Busy)));

        finish.send(()).unwrap();
        first.join().unwrap().unwrap();
        let (emptied, is_empty) = channel();
        jobs.send(Box::new(move |()| emptied.send(()).unwrap()))
            .unwrap();
        is_empty.recv().unwrap();
        pool.run("test", |()| Ok(())).unwrap();
    }

    #[test]
    fn a_late_answer_is_not_waited_for() {
        let pool = Pool::start(vec![()], 1, Duration::from_millis(1)).unwrap();
        let (finish, may_finish) = channel::<()>();
        let late = pool.run("test", move |()| {
            may_finish.recv().unwrap_or_default();
            Ok(())
        });
        assert_eq!(reason(late), "deadline");
        drop(finish);
    }

    #[test]
    fn a_job_past_its_deadline_is_never_begun() {
        let pool = Pool::start(vec![()], 1, Duration::ZERO).unwrap();
        let (begun, has_begun) = channel();
        let late = pool.run("test", move |()| {
            begun.send(()).unwrap();
            Ok(())
        });
        assert_eq!(reason(late), "deadline");
        // The job was dropped unbegun, and `begun` with it.
        assert!(has_begun.recv().is_err());
    }

    #[test]
    fn a_worker_that_dies_is_told_from_one_that_is_slow() {
        let pool = Pool::start(vec![()], 1, LONG).unwrap();
        let died = pool.run("test", |()| panic!("a test"));
        assert_eq!(reason(died), "the worker ended");
        // Its thread may still be about to end.
        let gone = pool.run("test", |()| Ok(()));
        assert!(["no worker is left", "the worker ended"].contains(&reason(gone).as_str()));
    }

    #[test]
    fn errors_pass_through() {
        let pool = Pool::start(vec![0], 1, LONG).unwrap();
        let error = pool.run::<()>("test", |_| Err(HsmError::OpeningFailed));
        assert!(matches!(error, Err(HsmError::OpeningFailed)));
    }

    #[test]
    fn workers_end_with_the_pool() {
        let (gone, is_gone) = channel::<()>();
        drop(Pool::start(vec![gone], 1, LONG).unwrap());
        // The thread owned the only sender, and was waited for.
        assert_eq!(is_gone.try_recv(), Err(TryRecvError::Disconnected));
    }
}
