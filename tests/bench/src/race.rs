//! Callers on threads, each as fast as it can.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::process::cpu_seconds;

/// How often each acts before it counts: finds keys, fills caches.
const WARM_UP: u32 = 3;

/// What callers did together.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Of all of them.
    pub(crate) per_s: f64,
    /// By a second of processor time of this process.
    pub(crate) per_cpu_s: f64,
}

/// Has each of `callers` act again and again for so long, all at the same time.
pub(crate) fn race<F: FnMut() -> Result<()> + Send>(
    callers: Vec<F>,
    length: Duration,
) -> Result<Pace> {
    let this = std::process::id();
    let line = Barrier::new(callers.len() + 1);
    thread::scope(|scope| {
        let line = &line;
        let threads: Vec<_> = callers
            .into_iter()
            .map(|mut act| {
                scope.spawn(move || {
                    let warm = (0..WARM_UP).try_for_each(|_| act());
                    // Whoever failed keeps nobody waiting.
                    line.wait();
                    warm?;
                    let (start, mut count) = (Instant::now(), 0_u32);
                    while start.elapsed() < length {
                        act()?;
                        count += 1;
                    }
                    Ok::<u32, anyhow::Error>(count)
                })
            })
            .collect();
        line.wait();
        let (start, cpu) = (Instant::now(), cpu_seconds(this)?);
        let mut count = 0;
        for thread in threads {
            count += thread.join().ok().context("a caller panicked")??;
        }
        let count = f64::from(count);
        Ok(Pace {
            per_s: count / start.elapsed().as_secs_f64(),
            per_cpu_s: count / (cpu_seconds(this)? - cpu),
        })
    })
}
