//! The figures of `bench keys`, as JSON and as a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;

use super::{
    StoreKind,
    database::Which,
    measured::{Measured, mean, rows},
};
use crate::{
    percentiles::Sorted,
    process::{Machine, revision},
    report::{Table, most, small},
};

/// Creation by what the module does alone, at the least.
const CREATION: f64 = 0.5;
/// Latency with all keys by the latency with one, at the most.
const LATENCY: f64 = 1.2;

#[derive(Serialize)]
pub(super) struct Report {
    revision: Option<String>,
    machine: Machine,
    devices: u32,
    /// What was written straight into the database.
    written: &'static str,
    /// By store.
    stores: BTreeMap<&'static str, Figures>,
}

/// With one store.
#[derive(Serialize)]
struct Figures {
    /// Keys that the module makes and wraps in a second, with nothing before it.
    module_keys_per_s: f64,
    keys_per_s: f64,
    creation_seconds: f64,
    creation_ratio: Bounded,
    /// The same for a second of processor time of the host alone, where others kept the processors busy. PostgreSQL's
    /// own is not the host's.
    creation_ratio_of_host_cpu: f64,
    /// Processors that others kept busy meanwhile.
    creation_others: f64,
    database_bytes: i64,
    bytes_per_key: f64,
    /// By table with its indexes.
    bytes_per_key_by_table: BTreeMap<String, f64>,
    host_peak_kib: Peak,
    latency_ms: Latency,
    start_seconds: Pair,
    /// `kdhctl rollout show` with all keys made.
    rollout_show_seconds: Option<f64>,
    rewrapped_per_s: f64,
    rewrap_seconds: f64,
    exported_per_s: f64,
    export_seconds: f64,
}

/// A figure that has to stay on one side of a bound.
#[derive(Clone, Copy, Serialize)]
struct Bounded {
    ratio: f64,
    bound: f64,
    kept: bool,
}

/// The most memory that a host held.
#[derive(Serialize)]
struct Peak {
    creating: u64,
    exporting: u64,
    rewrapping: u64,
    /// While it delivered.
    empty: u64,
    full: u64,
}

/// With hardly any key, and with all.
#[derive(Clone, Copy, Serialize)]
struct Pair {
    empty: f64,
    full: f64,
}

/// From the request for a key to the token.
#[derive(Serialize)]
struct Latency {
    p50: Pair,
    p95: Pair,
    p50_ratio: Bounded,
    p95_ratio: Bounded,
    deliveries: usize,
}

impl Bounded {
    fn at_least(ratio: f64, bound: f64) -> Self {
        let kept = ratio >= bound;
        Self { ratio, bound, kept }
    }

    fn under(pair: Pair, bound: f64) -> Self {
        let ratio = pair.full / pair.empty;
        let kept = ratio < bound;
        Self { ratio, bound, kept }
    }

    fn words(self, side: &str) -> String {
        let kept = if self.kept { "kept" } else { "NOT KEPT" };
        format!("has to be {side} {}: {kept}", self.bound)
    }
}

impl Pair {
    fn of(figure: impl Fn(Which) -> f64) -> Self {
        Self {
            empty: figure(Which::Empty),
            full: figure(Which::Full),
        }
    }
}

impl Latency {
    fn of(measured: &Measured) -> Self {
        let sorted = |which| {
            let starts = measured.of(which);
            let all: Vec<Duration> = starts.flat_map(|start| start.deliveries.clone()).collect();
            Sorted::new(all)
        };
        let percentile =
            |percent| Pair::of(|which| sorted(which).percentile(percent).as_secs_f64() * 1000.0);
        let (p50, p95) = (percentile(50), percentile(95));
        Self {
            p50,
            p95,
            p50_ratio: Bounded::under(p50, LATENCY),
            p95_ratio: Bounded::under(p95, LATENCY),
            deliveries: measured
                .of(Which::Full)
                .map(|start| start.deliveries.len())
                .sum(),
        }
    }
}

impl Figures {
    fn of(measured: &Measured) -> Self {
        let (created, rewrapped) = (&measured.created, &measured.rewrapped);
        let exported = &measured.exported;
        let devices = rows(measured.devices.into());
        let (before, after) = (measured.before.as_ref(), measured.after.as_ref());
        let tables = |size: Option<&super::database::Size>| {
            size.map(|size| size.tables.clone()).unwrap_or_default()
        };
        let (tables_before, tables_after) = (tables(before), tables(after));
        let names: BTreeSet<&String> = tables_after.keys().collect();
        let per_key = |before: i64, after: i64| bytes(after - before) / devices;
        let by_table = names.into_iter().filter_map(|name| {
            let of = |tables: &BTreeMap<String, i64>| tables.get(name).copied().unwrap_or_default();
            let per_key = per_key(of(&tables_before), of(&tables_after));
            (per_key >= 1.0).then(|| (name.clone(), per_key))
        });
        let total = |size: Option<&super::database::Size>| size.map_or(0, |size| size.total);
        let peak = |which| measured.of(which).map(|start| start.peak_kib).max();
        Self {
            module_keys_per_s: measured.module_per_s(),
            keys_per_s: created.per_s(),
            creation_seconds: created.seconds,
            creation_ratio: Bounded::at_least(created.per_s() / measured.module_per_s(), CREATION),
            creation_ratio_of_host_cpu: created.per_host_cpu_s() / measured.module_per_cpu_s(),
            creation_others: most(
                measured
                    .module
                    .iter()
                    .map(|pace| pace.others)
                    .chain([created.others()]),
            ),
            database_bytes: total(after),
            bytes_per_key: per_key(total(before), total(after)),
            bytes_per_key_by_table: by_table.collect(),
            host_peak_kib: Peak {
                creating: created.peak_kib,
                exporting: exported.peak_kib,
                rewrapping: rewrapped.peak_kib,
                empty: peak(Which::Empty).unwrap_or_default(),
                full: peak(Which::Full).unwrap_or_default(),
            },
            latency_ms: Latency::of(measured),
            start_seconds: Pair::of(|which| {
                mean(measured.of(which).map(|start| start.took.as_secs_f64()))
            }),
            rollout_show_seconds: measured.show_seconds,
            rewrapped_per_s: rewrapped.per_s(),
            rewrap_seconds: rewrapped.seconds,
            exported_per_s: exported.per_s(),
            export_seconds: exported.seconds,
        }
    }

    fn lines(&self, table: &mut Table) {
        table.line("module alone: make and wrap", self.module_keys_per_s, "/s");
        table.line(
            "keys made for devices",
            self.keys_per_s,
            &format!("/s in {:.0} s", self.creation_seconds),
        );
        table.line(
            "ratio",
            self.creation_ratio.ratio,
            &self.creation_ratio.words("at least"),
        );
        table.line(
            "ratio of the host's CPU",
            self.creation_ratio_of_host_cpu,
            &format!("while others kept {:.1} cores busy", self.creation_others),
        );
        let megabytes = bytes(self.database_bytes) / 1e6;
        table.line(
            "database for a key",
            self.bytes_per_key,
            &format!("bytes of {megabytes:.0} MB"),
        );
        for (name, bytes) in &self.bytes_per_key_by_table {
            table.line(&format!("  {name}"), *bytes, "bytes, with its indexes");
        }
        let peak = &self.host_peak_kib;
        for (when, kib) in [
            ("memory while making keys", peak.creating),
            ("memory while exporting", peak.exporting),
            ("memory while rewrapping", peak.rewrapping),
            ("memory at work, empty store", peak.empty),
            ("memory at work, full store", peak.full),
        ] {
            table.text(when, &format!("{kib:>9}    KiB at the most"));
        }
        let latency = &self.latency_ms;
        for (name, pair, ratio) in [
            ("p50", latency.p50, latency.p50_ratio),
            ("p95", latency.p95, latency.p95_ratio),
        ] {
            table.line(&format!("request to token {name}, empty"), pair.empty, "ms");
            let of = format!("ms of {} each", latency.deliveries);
            table.line(&format!("request to token {name}, full"), pair.full, &of);
            table.line("ratio", ratio.ratio, &ratio.words("under"));
        }
        table.line("start-up, empty store", self.start_seconds.empty, "s");
        table.line("start-up, full store", self.start_seconds.full, "s");
        if let Some(seconds) = self.rollout_show_seconds {
            table.line("kdhctl rollout show, full store", seconds, "s");
        }
        table.line(
            "rows rewrapped",
            self.rewrapped_per_s,
            &format!("/s in {:.0} s", self.rewrap_seconds),
        );
        table.line(
            "exported to a payment switch",
            self.exported_per_s,
            &format!("/s in {:.0} s", self.export_seconds),
        );
    }
}

impl Report {
    pub(super) fn new(devices: u32) -> Result<Self> {
        Ok(Self {
            revision: revision(),
            machine: Machine::look()?,
            devices,
            written: "devices registered, and their keys confirmed before the export, while no host ran",
            stores: BTreeMap::new(),
        })
    }

    pub(super) fn add(&mut self, kind: StoreKind, measured: &Measured) {
        self.stores.insert(kind.name(), Figures::of(measured));
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = Table::default();
        table.title("Machine");
        table.text("processor", &self.machine.cpu_model);
        table.line("cores", small(self.machine.cores), "");
        if let Some(revision) = &self.revision {
            table.text("revision", revision);
        }
        table.line("devices", f64::from(self.devices), "");
        table.text("written into the database", self.written);
        for (store, figures) in &self.stores {
            table.title(&format!("Keys in {store}"));
            figures.lines(&mut table);
        }
        table.0
    }
}

/// A number of bytes, which is far from where `f64` has gaps.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn bytes(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        keys::{
            database::Size,
            measured::{Done, Start},
        },
        race::Pace,
    };

    #[test]
    fn figures_are_ratios_with_their_bounds() {
        let size = |total, keys| {
            Some(Size {
                total,
                tables: [("device_keys".to_owned(), keys), ("keys".to_owned(), 9)].into(),
            })
        };
        let start = |which, milliseconds| Start {
            which,
            took: Duration::from_secs(1),
            deliveries: vec![Duration::from_millis(milliseconds)],
            peak_kib: 1,
        };
        let measured = Measured {
            devices: 100,
            before: size(1000, 0),
            after: size(41_000, 30_000),
            module: vec![1000.0, 3000.0]
                .into_iter()
                .map(|per_s| Pace {
                    per_s,
                    per_cpu_s: per_s,
                    others: 0.0,
                })
                .collect(),
            created: Done {
                rows: 100,
                seconds: 0.1,
                host_cpu_seconds: 0.05,
                ..Done::default()
            },
            starts: vec![start(Which::Empty, 10), start(Which::Full, 12)],
            exported: Done {
                rows: 100,
                seconds: 0.2,
                ..Done::default()
            },
            ..Measured::default()
        };
        let figures = Figures::of(&measured);
        assert!((figures.creation_ratio.ratio - 0.5).abs() < 1e-9);
        assert!((figures.creation_ratio_of_host_cpu - 1.0).abs() < 1e-9);
        assert!((figures.bytes_per_key - 400.0).abs() < 1e-9);
        assert!((figures.exported_per_s - 500.0).abs() < 1e-9);
        let by_table = [("device_keys".to_owned(), 300.0)].into();
        assert_eq!(figures.bytes_per_key_by_table, by_table);
        assert!((figures.latency_ms.p50_ratio.ratio - 1.2).abs() < 1e-9);
        for (ratio, bound, at_least, under) in [
            (0.5, 0.5, true, false),
            (0.49, 0.5, false, true),
            (1.19, 1.2, false, true),
            (1.21, 1.2, true, false),
        ] {
            let pair = Pair {
                empty: 1.0,
                full: ratio,
            };
            assert_eq!(Bounded::at_least(ratio, bound).kept, at_least, "{ratio}");
            assert_eq!(Bounded::under(pair, bound).kept, under, "{ratio}");
        }
        let mut report = Report::new(100).unwrap();
        report.add(StoreKind::Sqlite, &measured);
        let table = report.table();
        for part in [
            "has to be at least 0.5",
            "has to be under 1.2",
            "exported to a payment switch",
        ] {
            assert!(table.contains(part), "{table}");
        }
    }
}
