//! `bench keys`: what a million devices with keys of their own cost.
//!
//! Everything goes through the real programs but for two things, which are written straight into the database while no
//! host runs: devices, since operators register them one by one; and that their keys are confirmed, since a million
//! terminals would take hours for it. These rows the HSM seals as for the host.

mod bar;
mod database;
mod lab;
mod measured;
mod report;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use system_tests::host::Host;

use self::{
    bar::Bar,
    database::{Databases, Which},
    lab::{Lab, SEALING_KEY, SESSIONS, STORAGE_KEY, options},
    measured::{Done, Measured, Start},
    report::Report,
};
use crate::{
    interrupt,
    part::{apart, load::Single, macs::Macs, raw_keys::RawKeys},
    print,
    process::{cpu_seconds, cpu_seconds_of_all, peak_kib},
    run::folder,
    say,
};

/// Of all devices.
const MODEL: &str = "Model X";
/// For the module alone, each time.
const MODULE_FOR: Duration = Duration::from_secs(4);
/// By the payment switch, before it is looked how far it has come.
const RECEIVED_AT_ONCE: u64 = 20_000;
/// Hosts with each of the two databases.
const STARTS: usize = 8;
/// Of each of these, and before them.
const DELIVERIES: u32 = 150;
const WARM_UP: u32 = 20;

/// Measures what a million devices with keys of their own cost: the host, its database, its HSM
#[derive(clap::Args)]
#[command(after_help = "\
Registers the devices, has the host make a key for each, delivers keys to a terminal with all of these in the \
database and with none, exports them to a payment switch, and rotates the storage keys. Prints a table, and writes \
target/bench/keys.json. A million devices take some GB and about a quarter of an hour for each store; with --devices 5000 it is a look of a minute, whose figures \
vary.

It may be interrupted at any time: run it again, and it goes on where it was.")]
pub(crate) struct Arguments {
    /// Devices, each with a key of its own
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    devices: u32,
    /// What the host keeps its keys in; PostgreSQL is started for it alone
    #[arg(long, value_enum, default_value_t)]
    store: Stores,
    /// Where the sites and databases are made, and stay [default: target/bench/keys, until it is done]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Stores {
    Sqlite,
    Postgresql,
    #[default]
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreKind {
    Sqlite,
    Postgresql,
}

impl StoreKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgresql => "postgresql",
        }
    }
}

impl Stores {
    const fn kinds(self) -> &'static [StoreKind] {
        match self {
            Self::Sqlite => &[StoreKind::Sqlite],
            Self::Postgresql => &[StoreKind::Postgresql],
            Self::Both => &[StoreKind::Sqlite, StoreKind::Postgresql],
        }
    }
}

/// Measures everything that is not known yet, and writes it down.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        say("bench: built without --release, so the figures say nothing about a host in use");
    }
    interrupt::watch()?;
    let results = folder()?;
    let sites = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => results.join("keys"),
    };
    fs::create_dir_all(&sites)?;
    let lock = File::create(sites.join("lock"))?;
    lock.try_lock().with_context(|| {
        format!(
            "another run is at work in {}: end that one first",
            sites.display()
        )
    })?;
    let mut report = Report::new(arguments.devices)?;
    for &kind in arguments.store.kinds() {
        let measured = Run::begin(kind, &sites.join(kind.name()), arguments.devices)?.measure()?;
        report.add(kind, &measured);
    }
    if arguments.folder.is_none() {
        fs::remove_dir_all(&sites)?;
    }
    fs::create_dir_all(&results)?;
    let file = results.join("keys.json");
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(&file, format!("{json}\n"))?;
    if arguments.json {
        return print(&json);
    }
    print(&report.table())?;
    print(&file.display().to_string())
}

/// With one store.
struct Run {
    kind: StoreKind,
    folder: PathBuf,
    lab: Lab,
    databases: Databases,
    measured: Measured,
    start: Instant,
}

impl Run {
    /// Goes on with what is in the folder, or begins.
    fn begin(kind: StoreKind, folder: &Path, devices: u32) -> Result<Self> {
        let start = Instant::now();
        let site = folder.join("site");
        let known = Measured::read(folder)?;
        let goes_on = known.is_some();
        let lab = if let Some(known) = &known {
            ensure!(
                known.devices == devices,
                "{} has a run with {} devices: go on with that one, or remove it",
                folder.display(),
                known.devices
            );
            say(&format!("{}: goes on", kind.name()));
            Lab::open(&site)?
        } else {
            if folder.exists() {
                // It was interrupted before there was anything to keep.
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
            say(&format!(
                "{}: a site with SoftHSM, and its ceremonies",
                kind.name()
            ));
            Lab::make(&site)?
        };
        let folder = folder.canonicalize()?;
        let databases = Databases::open(kind, &folder, lab.site.folder().join("host"))?;
        let mut run = Self {
            kind,
            folder,
            lab,
            databases,
            measured: known.unwrap_or_default(),
            start,
        };
        if !goes_on {
            run.measured.devices = devices;
            run.first()?;
            run.keep()?;
        }
        Ok(run)
    }

    fn stage(&self, title: &str) {
        let (kind, seconds) = (self.kind.name(), self.start.elapsed().as_secs());
        say(&format!("{seconds:>5} s  {kind}: {title}"));
    }

    fn keep(&self) -> Result<()> {
        self.measured.write(&self.folder)
    }

    fn start_host(&self, which: Which) -> Result<Host> {
        self.lab
            .start_host(&self.databases.options(which, options()))
    }

    /// The terminal, in both databases.
    fn first(&self) -> Result<()> {
        self.databases.make()?;
        let host = self.start_host(Which::Full)?;
        self.lab.put_profile()?;
        self.lab.enrol()?;
        host.stop()?;
        self.databases.copy()
    }

    fn measure(mut self) -> Result<Measured> {
        if self.measured.before.is_none() {
            let devices = self.measured.devices;
            self.stage(&format!("{devices} devices, written into the database"));
            self.databases.register(devices)?;
            self.measured.before = Some(self.databases.size()?);
            self.keep()?;
        }
        if !self.measured.created.all {
            self.create()?;
        }
        if self.measured.after.is_none() {
            self.measured.after = Some(self.databases.size()?);
            self.keep()?;
        }
        while self.measured.starts.len() < 2 * STARTS {
            self.deliver()?;
        }
        if !self.measured.exported.all {
            self.export()?;
        }
        if !self.measured.rewrapped.all {
            self.rewrap()?;
        }
        self.stage("done");
        Ok(self.measured)
    }

    /// The module alone.
    fn module(&mut self) -> Result<()> {
        self.stage(&format!("HSM alone: keys, {SESSIONS} threads"));
        let pace = apart(
            &self.lab.site,
            RawKeys {
                token: self.lab.token()?,
                storage_key: STORAGE_KEY.to_owned(),
                threads: SESSIONS,
                length: MODULE_FOR,
            },
        )?;
        self.measured.module.push(pace);
        self.keep()
    }

    /// A key for each device, by a rollout.
    fn create(&mut self) -> Result<()> {
        self.module()?;
        let host = self.start_host(Which::Full)?;
        self.stage("host: a key for each device");
        // The terminal has a second one then.
        let devices = u64::from(self.measured.devices) + 1;
        let mut piece = None;
        if self.lab.rollout()?.is_none() {
            piece = Some(Piece::begin(&host, 0)?);
            self.lab.start_rollout()?;
        }
        let mut bar = Bar::new("keys made", devices, 0)?;
        let number = loop {
            let rollout = self.lab.rollout()?.context("no rollout")?;
            let number = rollout["number"].as_u64().context("no number")?;
            let made = rollout["done"].as_u64().context("no count")?;
            let piece = match &mut piece {
                Some(piece) => piece,
                None => piece.insert(Piece::begin(&host, made)?),
            };
            piece.add_to(&mut self.measured.created, &host, made)?;
            bar.at(made);
            match rollout["state"].as_str() {
                Some("RUNNING") => {}
                Some("DONE") => break number,
                state => anyhow::bail!("the rollout is {state:?}"),
            }
            self.keep()?;
            thread::sleep(self.pause());
        };
        drop(bar);
        let start = Instant::now();
        self.lab.show_rollout(number)?;
        self.measured.show_seconds = Some(start.elapsed().as_secs_f64());
        host.stop()?;
        self.module()?;
        self.measured.created.all = true;
        self.keep()
    }

    /// Keys for the terminal, with a host of one of the databases, in turn.
    fn deliver(&mut self) -> Result<()> {
        let number = self.measured.starts.len();
        // One after the other, and neither always first.
        let which = if matches!(number % 4, 0 | 3) {
            Which::Empty
        } else {
            Which::Full
        };
        self.stage(&format!("deliveries to a terminal, {which:?}").to_lowercase());
        let start = Instant::now();
        let host = self.start_host(which)?;
        let took = start.elapsed();
        let single = Single {
            target: self.lab.target(&host)?,
            warm_up: WARM_UP,
            deliveries: DELIVERIES,
        };
        let deliveries = apart(&self.lab.site, single)?;
        self.measured.starts.push(Start {
            which,
            took,
            deliveries,
            peak_kib: peak_kib(host.id())?,
        });
        host.stop()?;
        self.keep()
    }

    /// The keys of all devices go to a payment switch.
    fn export(&mut self) -> Result<()> {
        self.stage("keys confirmed, in the database");
        let keys = self.measured.devices;
        self.databases.confirm(keys, |messages| {
            apart(
                &self.lab.site,
                Macs {
                    token: self.lab.token()?,
                    key: SEALING_KEY.to_owned(),
                    messages,
                },
            )
        })?;
        let host = self.start_host(Which::Full)?;
        self.stage("host: keys to a payment switch");
        if self.lab.exported()?.is_none() {
            self.lab.agree_on_target()?;
        }
        let (_, done) = self.lab.exported()?.unwrap_or_default();
        let mut piece = Piece::begin(&host, done)?;
        self.lab.fill()?;
        let mut bar = Bar::new("keys exported", u64::from(keys) + 1, done)?;
        loop {
            let (last, done) = self.lab.exported()?.context("no target")?;
            piece.add_to(&mut self.measured.exported, &host, done)?;
            bar.at(done);
            self.keep()?;
            if done == last {
                break;
            }
            self.lab.receive((last - done).min(RECEIVED_AT_ONCE))?;
        }
        drop(bar);
        host.stop()?;
        self.measured.exported.all = true;
        self.keep()
    }

    /// All rows come under a new pair of storage keys.
    fn rewrap(&mut self) -> Result<()> {
        let host = self.start_host(Which::Full)?;
        self.stage("host: rows under a new pair of storage keys");
        let rows = u64::from(self.measured.devices) + 1;
        let (mut bar, mut piece) = (Bar::new("rows moved", rows, 0)?, None);
        loop {
            let storage = self.lab.storage()?;
            let rotation = &storage["rotation"];
            let moved = moved(&storage)?;
            match rotation["state"].as_str() {
                Some("APPROVED") => {}
                Some(_) => {
                    self.lab.site.approve(rotation)?;
                    continue;
                }
                None if is_rotated(&storage) => {
                    let mut piece = match piece {
                        Some(piece) => piece,
                        None => Piece::begin(&host, moved)?,
                    };
                    piece.add_to(&mut self.measured.rewrapped, &host, moved)?;
                    break;
                }
                None => {
                    piece = Some(Piece::begin(&host, 0)?);
                    self.lab.site.approve_rotation()?;
                    continue;
                }
            }
            let piece = match &mut piece {
                Some(piece) => piece,
                None => piece.insert(Piece::begin(&host, moved)?),
            };
            piece.add_to(&mut self.measured.rewrapped, &host, moved)?;
            bar.at(moved);
            self.keep()?;
            thread::sleep(self.pause());
        }
        host.stop()?;
        self.measured.rewrapped.all = true;
        self.keep()
    }

    /// Each look takes time from the host.
    fn pause(&self) -> Duration {
        Duration::from_millis(u64::from(self.measured.devices) / 200)
            .clamp(Duration::from_millis(300), Duration::from_secs(5))
    }
}

/// The present pair is not the first one.
fn is_rotated(storage: &serde_json::Value) -> bool {
    storage["pairs"]
        .as_array()
        .is_some_and(|pairs| pairs.iter().all(|pair| pair["number"] != 1))
}

/// Rows under another pair than the first.
fn moved(storage: &serde_json::Value) -> Result<u64> {
    let pairs = storage["pairs"].as_array().context("no pairs")?;
    let moved = pairs.iter().filter(|pair| pair["number"] != 1);
    Ok(moved.filter_map(|pair| pair["rows"].as_u64()).sum())
}

/// What one host does of the work.
struct Piece {
    at: Instant,
    host_cpu: f64,
    all_cpu: f64,
    rows: u64,
}

impl Piece {
    /// From here on, with so much done.
    fn begin(host: &Host, rows: u64) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            host_cpu: cpu_seconds(host.id())?,
            all_cpu: cpu_seconds_of_all()?,
            rows,
        })
    }

    /// What was done since it was asked last.
    fn add_to(&mut self, done: &mut Done, host: &Host, rows: u64) -> Result<()> {
        let now = Self::begin(host, rows)?;
        let host_cpu = now.host_cpu - self.host_cpu;
        done.rows += rows.saturating_sub(self.rows);
        done.seconds += (now.at - self.at).as_secs_f64();
        done.host_cpu_seconds += host_cpu;
        done.other_cpu_seconds += (now.all_cpu - self.all_cpu - host_cpu).max(0.0);
        done.peak_kib = done.peak_kib.max(peak_kib(host.id())?);
        *self = now;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rotation_is_over_when_the_first_pair_has_gone() {
        let pair = |number: u32, rows: u32| json!({"number": number, "rows": rows});
        for (pairs, expected, over) in [
            (vec![pair(1, 7)], 0, false),
            (vec![pair(1, 5), pair(2, 2)], 2, false),
            (vec![pair(1, 0), pair(2, 7)], 7, false),
            (vec![pair(2, 7)], 7, true),
        ] {
            let storage = json!({"pairs": pairs});
            assert_eq!(moved(&storage).unwrap(), expected, "{storage}");
            assert_eq!(is_rotated(&storage), over, "{storage}");
        }
        assert!(moved(&json!({})).is_err());
    }
}
