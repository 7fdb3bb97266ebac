//! The threads that own the sessions, and the bounded queue in front of them.
//!
//! A session serves one operation at a time, so each worker has its own. None of them logs in: login
//! is per application and token, and the anchor session holds it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use cryptoki::{
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session,
};

use crate::{HsmError, KeyName, lookup};

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// What an operation works with.
pub(crate) struct Worker {
    pub(crate) session: Session,
    /// Handles that were looked up. Valid as long as the session is.
    handles: HashMap<(&'static str, KeyName), ObjectHandle>,
}

impl Worker {
    /// The only object of a class with this name.
    pub(crate) fn find(
        &mut self,
        class: ObjectClass,
        name: &KeyName,
    ) -> Result<ObjectHandle, HsmError> {
        let key = (lookup::class_name(class), name.clone());
        if let Some(handle) = self.handles.get(&key) {
            return Ok(*handle);
        }
        let handle = lookup::exactly_one(&self.session, class, name)?;
        self.handles.insert(key, handle);
        Ok(handle)
    }

    /// Forgets what was looked up: an object was destroyed, or the session is another one.
    pub(crate) fn forget_handles(&mut self) {
        self.handles.clear();
    }

    /// A session object that goes when the guard does, also on the way out of an error.
    pub(crate) fn temporary(&self, handle: ObjectHandle) -> Temporary<'_> {
        Temporary::new(&self.session, handle)
    }
}

/// A session object with an end.
pub(crate) struct Temporary<'a> {
    session: &'a Session,
    handle: ObjectHandle,
}

impl<'a> Temporary<'a> {
    pub(crate) const fn new(session: &'a Session, handle: ObjectHandle) -> Self {
        Self { session, handle }
    }

    pub(crate) const fn handle(&self) -> ObjectHandle {
        self.handle
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.session.destroy_object(self.handle) {
            // The session takes it along when it is closed.
            tracing::warn!(%error, "a session object could not be destroyed");
        }
    }
}

/// Creates, copies or derives session objects: what every template of one begins with.
pub(crate) fn session_object(rest: &[Attribute]) -> Vec<Attribute> {
    let mut template = vec![Attribute::Token(false), Attribute::Private(true)];
    template.extend_from_slice(rest);
    template
}

/// The workers of one token.
pub(crate) struct Pool {
    queue: SyncSender<Job>,
    deadline: Duration,
}

impl Pool {
    /// Starts one thread per session; they end when the pool is dropped.
    pub(crate) fn start(
        sessions: Vec<Session>,
        queue_len: usize,
        deadline: Duration,
    ) -> Result<Self, HsmError> {
        let (queue, jobs) = mpsc::sync_channel::<Job>(queue_len);
        let jobs = Arc::new(Mutex::new(jobs));
        for session in sessions {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name("hsm-worker".to_owned())
                .spawn(move || work(session, &jobs))
                .map_err(|error| HsmError::Unavailable(error.to_string()))?;
        }
        Ok(Self { queue, deadline })
    }

    /// Runs an operation on a worker and waits for its result.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Worker) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |worker| {
            let outcome = operation(worker);
            if matches!(outcome, Err(HsmError::Unavailable(_))) {
                worker.forget_handles();
            }
            // Nobody waits any more once the deadline has passed.
            drop(answer.send(outcome));
        });
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => HsmError::Busy,
            TrySendError::Disconnected(_) => HsmError::Unavailable("no worker is left".to_owned()),
        })?;
        result
            .recv_timeout(self.deadline)
            .unwrap_or_else(|error| match error {
                RecvTimeoutError::Timeout => {
                    Err(HsmError::Unavailable("no answer in time".to_owned()))
                }
                RecvTimeoutError::Disconnected => {
                    Err(HsmError::Unavailable("the worker has ended".to_owned()))
                }
            })
    }
}

fn work(session: Session, jobs: &Mutex<Receiver<Job>>) {
    let mut worker = Worker {
        session,
        handles: HashMap::new(),
    };
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut worker),
            Err(mpsc::RecvError) => return,
        }
    }
}
