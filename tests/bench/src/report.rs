//! The figures, as JSON and as a table.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{part::load::Done, process::Machine, stages::Stages};

/// All that was measured in one run.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The revision of the source, where it is known.
    pub(crate) revision: Option<String>,
    /// Whether it was the short run, whose figures vary more.
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    /// Processors that other programs kept busy during a measure, at the most. Where this is much,
    /// compare figures for processor time alone.
    pub(crate) others: f64,
    /// The most signatures that the HSM makes with nothing before it: the limit.
    pub(crate) raw_sign_per_s: f64,
    /// By number of threads.
    pub(crate) raw_sign: BTreeMap<usize, f64>,
    /// The most key tokens that the host's libraries make, without the host.
    pub(crate) sealed_tokens_per_s: f64,
    /// By number of callers.
    pub(crate) sealed_tokens: BTreeMap<usize, f64>,
    /// The most deliveries of the host.
    pub(crate) deliveries_per_s: f64,
    /// By number of terminals at work.
    pub(crate) deliveries: Vec<Level>,
    /// Deliveries by raw signatures.
    pub(crate) ratio: f64,
    pub(crate) cpu_split: CpuSplit,
    /// Small writes that are on the disk of the host's database, in a second, one after another: the
    /// better of two looks, before and after the deliveries. The host's commits wait for them.
    pub(crate) disk_syncs_per_s: f64,
    pub(crate) terminal_runs_per_s: f64,
    /// New connections made in a second, each with a handshake and one call.
    pub(crate) connections_per_s: f64,
    pub(crate) latency_ms: Latency,
    /// By function.
    pub(crate) pkcs11_calls_per_delivery: BTreeMap<String, f64>,
    /// By function, in the module, when nothing else is under way.
    pub(crate) pkcs11_ms_per_delivery: BTreeMap<String, f64>,
    pub(crate) memory_kib: Memory,
    pub(crate) bytes_per_delivery: Bytes,
    pub(crate) network_hsm: Vec<NetworkPoint>,
    /// Where the time of a delivery goes at the rate of `latency_ms`, in milliseconds; nothing where the
    /// host does not say.
    pub(crate) stages: Option<Stages>,
}

/// Deliveries with so many terminals at work.
#[derive(Clone, Serialize)]
pub(crate) struct Level {
    pub(crate) terminals: usize,
    pub(crate) per_s: f64,
    #[serde(flatten)]
    pub(crate) done: Done,
}

/// Who used the processors at the best level. On a machine that the host has to itself, it has the
/// terminals' part too.
#[derive(Serialize)]
pub(crate) struct CpuSplit {
    pub(crate) terminals: usize,
    pub(crate) seconds: f64,
    pub(crate) host_cpu_seconds: f64,
    pub(crate) load_cpu_seconds: f64,
    pub(crate) other_cpu_seconds: f64,
    /// The host's time for one delivery in milliseconds, by the names of its threads.
    pub(crate) host_cpu_ms_per_delivery: BTreeMap<String, f64>,
    pub(crate) deliveries_per_host_cpu_s: f64,
    pub(crate) sealed_tokens_per_cpu_s: f64,
    pub(crate) raw_signs_per_cpu_s: f64,
    /// Deliveries by signatures, for the same processor time: which part of the host's is the
    /// signature itself.
    pub(crate) ratio_of_host_cpu: f64,
}

impl CpuSplit {
    pub(crate) fn new(
        level: &Level,
        raw_signs_per_cpu_s: f64,
        sealed_tokens_per_cpu_s: f64,
    ) -> Self {
        let done = &level.done;
        let count = f64::from(done.count);
        let deliveries_per_host_cpu_s = count / done.host_cpu_seconds;
        let threads = done.host_cpu_by_thread.iter();
        let threads = threads.map(|(name, seconds)| (name.clone(), seconds * 1000.0 / count));
        Self {
            terminals: level.terminals,
            seconds: done.seconds,
            host_cpu_seconds: done.host_cpu_seconds,
            load_cpu_seconds: done.load_cpu_seconds,
            other_cpu_seconds: done.other_cpu_seconds,
            host_cpu_ms_per_delivery: threads.collect(),
            deliveries_per_host_cpu_s,
            sealed_tokens_per_cpu_s,
            raw_signs_per_cpu_s,
            ratio_of_host_cpu: deliveries_per_host_cpu_s / raw_signs_per_cpu_s,
        }
    }
}

/// From the scheduled start of a delivery to its answer.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// Deliveries that were begun in a second.
    pub(crate) rate: f64,
    /// Deliveries in all.
    pub(crate) count: usize,
}

/// What the host holds.
#[derive(Serialize)]
pub(crate) struct Memory {
    /// After its start.
    pub(crate) rest: u64,
    /// With deliveries under way, at the most.
    pub(crate) load: u64,
    /// With 2,000 connections open.
    pub(crate) connected_2000: u64,
}

/// What TCP carries for a delivery on a kept connection.
#[derive(Serialize)]
pub(crate) struct Bytes {
    pub(crate) sent: f64,
    pub(crate) received: f64,
}

/// Deliveries with an HSM that is far away.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct NetworkPoint {
    /// Of each call.
    pub(crate) latency_ms: f64,
    pub(crate) sessions: usize,
    pub(crate) deliveries_per_s: f64,
    /// With nothing but that latency: sessions / (calls of a delivery x latency).
    pub(crate) ideal_per_s: f64,
    pub(crate) ratio: f64,
}

impl NetworkPoint {
    pub(crate) fn new(sessions: usize, latency_ms: f64, calls: f64, deliveries_per_s: f64) -> Self {
        let ideal_per_s = small(sessions) * 1000.0 / (calls * latency_ms);
        Self {
            latency_ms,
            sessions,
            deliveries_per_s,
            ideal_per_s,
            ratio: deliveries_per_s / ideal_per_s,
        }
    }
}

/// A number that is far from where `f64` has gaps.
pub(crate) fn small(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// The greatest of these.
pub(crate) fn most(figures: impl IntoIterator<Item = f64>) -> f64 {
    figures.into_iter().fold(0.0, f64::max)
}

impl Report {
    /// All calls of a delivery.
    pub(crate) fn calls(&self) -> f64 {
        self.pkcs11_calls_per_delivery.values().sum()
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::default();
        let machine = &self.machine;
        table.title("Machine");
        table.text("processor", &machine.cpu_model);
        table.line("cores", small(machine.cores), "");
        table.line("cores that others kept busy", self.others, "at the most");
        if let Some(revision) = &self.revision {
            table.text("revision", revision);
        }

        table.title("HSM alone: RSA-2048 signatures");
        table.by_number("thread", &self.raw_sign, self.raw_sign_per_s);
        table.title("Libraries alone: key tokens, sealed and signed");
        table.by_number("caller", &self.sealed_tokens, self.sealed_tokens_per_s);

        table.title("Host: deliveries over gRPC with mutual TLS");
        for level in &self.deliveries {
            let (terminals, done) = (level.terminals, &level.done);
            table.line(
                &count(terminals, "terminal"),
                level.per_s,
                &format!(
                    "/s   processors: host {:.0} %, terminals {:.0} %, others {:.0} %",
                    100.0 * done.host_cpu_seconds / done.seconds,
                    100.0 * done.load_cpu_seconds / done.seconds,
                    100.0 * done.other_cpu_seconds / done.seconds,
                ),
            );
        }
        table.line("deliveries_per_s", self.deliveries_per_s, "/s");
        table.line("ratio to raw_sign_per_s", self.ratio, "");
        let split = &self.cpu_split;
        for (what, per_cpu_s) in [
            ("deliveries", split.deliveries_per_host_cpu_s),
            ("key tokens", split.sealed_tokens_per_cpu_s),
            ("signatures", split.raw_signs_per_cpu_s),
        ] {
            table.line(&format!("{what} per CPU second"), per_cpu_s, "");
        }
        table.line("ratio_of_host_cpu", split.ratio_of_host_cpu, "");
        for (thread, time) in &split.host_cpu_ms_per_delivery {
            table.line(&format!("  {thread}"), *time, "ms of CPU a delivery");
        }
        table.line("small writes on disk", self.disk_syncs_per_s, "/s");
        let runs = self.terminal_runs_per_s;
        table.line("whole runs, new connections", runs, "/s");
        table.line("connections made", self.connections_per_s, "/s");

        let latency = &self.latency_ms;
        let rate = latency.rate;
        table.title(&format!("Latency at {rate:.0} deliveries a second"));
        table.line("p50", latency.p50, "ms");
        table.line("p95", latency.p95, "ms");
        table.line("p99", latency.p99, "ms");
        table.line("max", latency.max, &format!("ms of {}", latency.count));
        for (stage, time) in self.stages.iter().flatten() {
            table.line(&format!("  {stage}"), *time, "ms");
        }

        table.title("One delivery");
        table.line("bytes sent", self.bytes_per_delivery.sent, "");
        table.line("bytes received", self.bytes_per_delivery.received, "");
        let times = &self.pkcs11_ms_per_delivery;
        for (function, calls) in &self.pkcs11_calls_per_delivery {
            let time = times.get(function).copied().unwrap_or_default();
            table.line(function, *calls, &format!("calls {time:7.3} ms"));
        }
        let time: f64 = times.values().sum();
        table.line(
            "all calls of PKCS#11",
            self.calls(),
            &format!("calls {time:7.3} ms"),
        );

        let memory = &self.memory_kib;
        table.title("Memory of the host");
        for (when, kib) in [
            ("at rest", memory.rest),
            ("under load", memory.load),
            ("2,000 connections", memory.connected_2000),
        ] {
            table.text(when, &format!("{kib:>11} KiB"));
        }

        table.title("HSM over a network");
        for point in &self.network_hsm {
            let sessions = count(point.sessions, "session");
            table.line(
                &format!("{} ms, {sessions}", point.latency_ms),
                point.deliveries_per_s,
                &format!("/s of {:.1}: {:.2}", point.ideal_per_s, point.ratio),
            );
        }
        table.0
    }
}

/// `1 thread`, `2 threads`.
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Lines in two columns.
#[derive(Default)]
pub(crate) struct Table(pub(crate) String);

impl Table {
    pub(crate) fn title(&mut self, title: &str) {
        let blank = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "{blank}{title}");
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "  {name:<32}{value}");
    }

    pub(crate) fn line(&mut self, name: &str, value: f64, unit: &str) {
        let value = if value.fract() == 0.0 {
            format!("{value:.0}   ")
        } else {
            format!("{value:.2}")
        };
        let line = format!("{value:>12} {unit}");
        self.text(name, line.trim_end());
    }

    fn by_number(&mut self, what: &str, figures: &BTreeMap<usize, f64>, most: f64) {
        for (number, per_s) in figures {
            self.line(&count(*number, what), *per_s, "/s");
        }
        self.line("most", most, "/s");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ideal_is_nothing_but_latency() {
        let point = NetworkPoint::new(4, 5.0, 20.0, 30.0);
        // A delivery takes 100 ms of a session's time.
        assert!((point.ideal_per_s - 40.0).abs() < 1e-9);
        assert!((point.ratio - 0.75).abs() < 1e-9);
    }

    #[test]
    fn processor_time_is_compared_by_the_second() {
        let done = Done {
            count: 100,
            seconds: 2.0,
            host_cpu_seconds: 1.0,
            load_cpu_seconds: 0.5,
            other_cpu_seconds: 0.0,
            host_cpu_by_thread: [("hsm-worker".to_owned(), 0.2)].into(),
            host_resident_kib: 1,
        };
        let level = Level {
            terminals: 4,
            per_s: done.per_s(),
            done,
        };
        assert!((level.per_s - 50.0).abs() < 1e-9);
        let split = CpuSplit::new(&level, 400.0, 200.0);
        assert!((split.ratio_of_host_cpu - 0.25).abs() < 1e-9);
        let hsm = split.host_cpu_ms_per_delivery["hsm-worker"];
        assert!((hsm - 2.0).abs() < 1e-9);
    }

    #[test]
    fn columns_are_straight() {
        let mut table = Table::default();
        table.title("Title");
        table.line("whole", 7.0, "");
        table.line("with a fraction", 1234.567, "/s");
        let lines: Vec<&str> = table.0.lines().collect();
        assert_eq!(
            lines[1].trim_end().len() + 3,
            lines[2].find(" /s").unwrap_or(0)
        );
    }
}
