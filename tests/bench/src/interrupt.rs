//! Nothing is left running: the host has a process group of its own, which Ctrl-C does not reach.

use std::{
    process,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use system_tests::{host::Host, process::terminate};
use tokio::signal::unix::{SignalKind, signal};

/// The process that runs now beside this one.
static RUNNING: Mutex<Option<u32>> = Mutex::new(None);

/// From now on the host ends with this process, if this one is asked to end.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminated.recv() => {}
            }
        });
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = *running {
            // Whether it was there still is of no matter.
            let _ = terminate(id);
        }
        process::exit(130);
    });
    Ok(())
}

/// A host that is known to [`watch`] while it runs.
pub(crate) struct Watched(Option<Host>);

impl Watched {
    pub(crate) fn new(host: Host) -> Self {
        remember(Some(host.id()));
        Self(Some(host))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Host::id)
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), Host::stop)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Killed, if it was not stopped.
        self.0 = None;
        remember(None);
    }
}

fn remember(id: Option<u32>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = id;
}
