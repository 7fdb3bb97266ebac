//! Callers on threads, each as fast as it can.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::process::{cpu_seconds, cpu_seconds_of_all};

/// How often each acts before it counts: finds keys, fills caches.
const WARM_UP: u32 = 3;

/// What callers did together.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Of all of them.
    pub(crate) per_s: f64,
    /// By a second of processor time of this process.
    pub(crate) per_cpu_s: f64,
    /// Processors that others kept busy meanwhile.
    pub(crate) others: f64,
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
        let (start, cpu, all) = (Instant::now(), cpu_seconds(this)?, cpu_seconds_of_all()?);
        let mut count = 0;
        for thread in threads {
            count += thread.join().ok().context("a caller panicked")??;
        }
        let (count, seconds) = (f64::from(count), start.elapsed().as_secs_f64());
        let cpu = cpu_seconds(this)? - cpu;
        Ok(Pace {
            per_s: count / seconds,
            per_cpu_s: count / cpu,
            others: ((cpu_seconds_of_all()? - all - cpu) / seconds).max(0.0),
        })
    })
}
