//! How long each measure takes, and at which points.

use std::time::Duration;

/// Connections that are open at once, at most.
pub(crate) const CONNECTIONS: usize = 2000;

/// The pace of a run.
pub(crate) struct Pace {
    /// Whether it is the short one.
    pub(crate) quick: bool,
    /// Terminals with keys of their own.
    pub(crate) terminals: usize,
    /// Threads that sign, or seal and sign.
    pub(crate) threads: &'static [usize],
    /// Terminals at work at the same time.
    pub(crate) callers: &'static [usize],
    /// Sessions with an HSM that is far away.
    pub(crate) sessions: &'static [usize],
    /// What each call to it takes.
    pub(crate) latencies: &'static [Duration],
    /// Before figures are taken.
    pub(crate) warm_up: Duration,
    /// At each number of threads.
    pub(crate) threads_for: Duration,
    /// At each number of terminals.
    pub(crate) load_for: Duration,
    /// Deliveries on a schedule.
    pub(crate) schedule_for: Duration,
    /// At each number of sessions and each latency.
    pub(crate) network_for: Duration,
}

impl Pace {
    pub(crate) fn new(quick: bool) -> Self {
        const LATENCIES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];
        if quick {
            Self {
                quick,
                terminals: 16,
                threads: &[1, 2, 4],
                callers: &[1, 4, 16],
                sessions: &[1, 4, 16, 64],
                latencies: &LATENCIES,
                warm_up: Duration::from_millis(500),
                threads_for: Duration::from_secs(1),
                load_for: Duration::from_secs(2),
                schedule_for: Duration::from_secs(4),
                network_for: Duration::from_millis(1500),
            }
        } else {
            Self {
                quick,
                terminals: 32,
                threads: &[1, 2, 4, 8],
                callers: &[1, 2, 4, 8, 16, 32],
                sessions: &[1, 2, 4, 8, 16, 32, 64],
                latencies: &LATENCIES,
                warm_up: Duration::from_secs(1),
                threads_for: Duration::from_secs(4),
                load_for: Duration::from_secs(8),
                schedule_for: Duration::from_secs(20),
                network_for: Duration::from_secs(5),
            }
        }
    }
}
