//! Nothing is left running: the host has a process group of its own, which Ctrl-C does not reach.

use std::thread;

use anyhow::Result;
use system_tests::process::exit_with_all;
use tokio::signal::unix::{SignalKind, signal};

/// From now on the host ends with this process, if this one is asked to end, however far its start has come.
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
        exit_with_all(130);
    });
    Ok(())
}
