//! The measures, one after another.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use system_tests::host::{Host, HostOptions};

use crate::{
    chart::chart,
    interrupt,
    pace::{CONNECTIONS, Pace},
    part::{
        apart,
        count::{Count, Counted},
        load::{Closed, Connections, Delay, Latencies, Runs, Scheduled, Target},
        raw::RawToken,
        raw_sign::RawSign,
        tokens::Tokens,
    },
    print,
    process::{Machine, disk_syncs_per_s, open_files_limit, resident_kib, revision},
    race, report,
    report::{Bytes, CpuSplit, Latency, Level, Memory, NetworkPoint, Report, count, most},
    say,
    setup::{Lab, SLOT, options},
    stages::{self, Stages},
};

/// Labels in the token `kdh`.
pub(crate) const TOKEN: &str = "kdh";
const KDH_KEY: &str = "kdh-signing";

/// The site's folder, which is made anew in each run: a name that nobody else has.
const SITE: &str = "kdh-bench-site";

/// Files beside the connections.
const OTHER_FILES: u64 = 256;

/// Terminals that run at the same time, each with new connections.
const RUNNING: usize = 8;

/// Terminals for each session with an HSM that is far away: one at work, and one in the queue behind it.
const CALLERS_PER_SESSION: usize = 2;

/// Measures everything, with a site on this disk, and writes it down.
pub(crate) fn run(pace: &Pace, disk: Option<PathBuf>) -> Result<()> {
    if cfg!(debug_assertions) {
        say("bench: built without --release, so the figures say nothing about a host in use");
    }
    let files = open_files_limit()?;
    let needed = u64::try_from(CONNECTIONS)? + OTHER_FILES;
    ensure!(
        files >= needed,
        "{files} open files are too few for {CONNECTIONS} connections: ulimit -n {needed}"
    );
    interrupt::watch()?;
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let disk = disk.unwrap_or_else(|| folder.clone());
    let report = Run::new(pace, &disk)?.measure()?;
    let (json, svg) = (folder.join("report.json"), folder.join("throughput.svg"));
    fs::write(&json, serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(&svg, chart(&report))?;
    print(&report.table())?;
    print(&format!("{}\n{}", json.display(), svg.display()))
}

/// `target/bench`.
pub(crate) fn folder() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let target = this.parent().and_then(Path::parent);
    Ok(target
        .context("this program is in no build folder")?
        .join("bench"))
}

struct Run<'a> {
    pace: &'a Pace,
    machine: Machine,
    lab: Lab,
    start: Instant,
}

/// With the host under load.
struct Load {
    levels: Vec<Level>,
    disk_syncs_per_s: f64,
    runs_per_s: f64,
    connections_per_s: f64,
    rate: f64,
    latencies: Latencies,
    stages: Option<Stages>,
    memory: Memory,
}

impl<'a> Run<'a> {
    fn new(pace: &'a Pace, disk: &Path) -> Result<Self> {
        let start = Instant::now();
        say("    0 s  a site with SoftHSM, and its ceremonies");
        Ok(Self {
            pace,
            machine: Machine::look()?,
            lab: Lab::prepare(&disk.join(SITE))?,
            start,
        })
    }

    /// A line for each stage.
    fn stage(&self, title: &str) {
        say(&format!("{:>5} s  {title}", self.start.elapsed().as_secs()));
    }

    fn measure(self) -> Result<Report> {
        let counted = self.count()?;
        let raw = self.raw_sign(counted.signed_len)?;
        let sealed = self.tokens()?;
        let load = self.load()?;
        let calls = counted.calls.values().sum();
        let network_hsm = self.network(calls)?;
        self.stage("done");

        let raw_sign_per_s = most(raw.values().map(|pace| pace.per_s));
        let best = load
            .levels
            .iter()
            .max_by(|a, b| a.per_s.total_cmp(&b.per_s));
        let best = best.context("no load")?.clone();
        let others = load
            .levels
            .iter()
            .map(|level| level.done.other_cpu_seconds / level.done.seconds);
        let others = others.chain(raw.values().chain(sealed.values()).map(|pace| pace.others));
        let per_cpu_s = |figures: &BTreeMap<usize, race::Pace>| {
            most(figures.values().map(|pace| pace.per_cpu_s))
        };
        let per_s = |figures: &BTreeMap<usize, race::Pace>| {
            let figures = figures.iter().map(|(number, pace)| (*number, pace.per_s));
            figures.collect::<BTreeMap<_, _>>()
        };
        let latencies = load.latencies;
        Ok(Report {
            revision: revision(),
            quick: self.pace.quick,
            machine: self.machine,
            others: most(others),
            raw_sign_per_s,
            raw_sign: per_s(&raw),
            sealed_tokens_per_s: most(sealed.values().map(|pace| pace.per_s)),
            sealed_tokens: per_s(&sealed),
            deliveries_per_s: best.per_s,
            ratio: best.per_s / raw_sign_per_s,
            cpu_split: CpuSplit::new(&best, per_cpu_s(&raw), per_cpu_s(&sealed)),
            disk_syncs_per_s: load.disk_syncs_per_s,
            deliveries: load.levels,
            terminal_runs_per_s: load.runs_per_s,
            connections_per_s: load.connections_per_s,
            latency_ms: Latency {
                p50: latencies.p50,
                p95: latencies.p95,
                p99: latencies.p99,
                max: latencies.max,
                rate: load.rate,
                count: latencies.count,
            },
            pkcs11_calls_per_delivery: counted.calls,
            pkcs11_ms_per_delivery: counted.call_ms,
            memory_kib: load.memory,
            bytes_per_delivery: Bytes {
                sent: counted.bytes_sent,
                received: counted.bytes_received,
            },
            network_hsm,
            stages: load.stages,
        })
    }

    fn target(&self, host: &Host) -> Result<Target> {
        Ok(Target {
            address: self.lab.site.addresses()?.terminals,
            host: host.id(),
            ca_ops: self.lab.site.pki("ca-ops.pem"),
            fleet: self.lab.fleet.clone(),
            slot: SLOT.to_owned(),
        })
    }

    /// Also makes the terminals, which the other measures take for granted.
    fn count(&self) -> Result<Counted> {
        let terminals = self.pace.terminals;
        self.stage(&format!(
            "{terminals} terminals: registered, enrolled, bound"
        ));
        let host = self.lab.start_host(&HostOptions {
            faulty: true,
            ..options()
        })?;
        self.lab.enrol(terminals)?;
        self.stage("calls of PKCS#11 and bytes of one delivery");
        let counted = apart(
            &self.lab.site,
            Count {
                target: self.target(&host)?,
                control: self.lab.site.control(),
            },
        )?;
        host.stop()?;
        Ok(counted)
    }

    fn raw_sign(&self, message_len: usize) -> Result<BTreeMap<usize, race::Pace>> {
        let hsm = self.lab.site.hsm()?;
        let mut found = BTreeMap::new();
        for &threads in self.pace.threads {
            self.stage(&format!(
                "HSM alone: signatures, {}",
                count(threads, "thread")
            ));
            let measure = RawSign {
                token: RawToken {
                    module: self.lab.site.module()?,
                    label: TOKEN.to_owned(),
                    pin_file: hsm.pin_file(TOKEN),
                },
                key: KDH_KEY.to_owned(),
                message_len,
                threads,
                length: self.pace.threads_for,
            };
            found.insert(threads, apart(&self.lab.site, measure)?);
        }
        Ok(found)
    }

    fn tokens(&self) -> Result<BTreeMap<usize, race::Pace>> {
        let site = &self.lab.site;
        let hsm = site.hsm()?;
        let mut found = BTreeMap::new();
        for &callers in self.pace.threads {
            self.stage(&format!(
                "libraries alone: key tokens, {}",
                count(callers, "caller")
            ));
            let measure = Tokens {
                module: site.module()?,
                token: TOKEN.to_owned(),
                pin_file: hsm.pin_file(TOKEN),
                kdh_key: KDH_KEY.to_owned(),
                kn: self.lab.key.label(),
                header: self.lab.key.header().to_owned(),
                oaep_sha256: site.hsm_module().can.oaep_sha256,
                certificate: site.pki("kdh.pem"),
                crl: site.pki(site.topology().crl_ca_kdh()),
                fleet: self.lab.fleet.clone(),
                callers,
                length: self.pace.threads_for,
            };
            found.insert(callers, apart(site, measure)?);
        }
        Ok(found)
    }

    fn load(&self) -> Result<Load> {
        let (site, pace) = (&self.lab.site, self.pace);
        let host = self.lab.start_host(&options())?;
        let rest = resident_kib(host.id())?;
        let target = self.target(&host)?;
        self.stage("the disk of the host's database");
        let syncs_before = disk_syncs_per_s(site.folder())?;
        let mut levels = Vec::new();
        for &callers in pace.callers {
            self.stage(&format!("host: deliveries, {}", count(callers, "terminal")));
            let closed = Closed {
                target: target.clone(),
                callers,
                warm_up: pace.warm_up,
                length: pace.load_for,
                delay: None,
            };
            let done = apart(site, closed)?;
            levels.push(Level {
                terminals: callers,
                per_s: done.per_s(),
                done,
            });
        }
        let disk_syncs_per_s = syncs_before.max(disk_syncs_per_s(site.folder())?);
        let memory_under_load = levels.iter().map(|level| level.done.host_resident_kib);
        let memory_under_load = memory_under_load.max().unwrap_or(rest);

        host.stop()?;

        // A host of its own: what it says of its stages when it stops is of these deliveries alone.
        let host = self.lab.start_host(&options())?;
        let rate = most(levels.iter().map(|level| level.per_s)) / 2.0;
        self.stage(&format!("latency at {rate:.0} deliveries a second"));
        let scheduled = Scheduled {
            target: self.target(&host)?,
            per_s: rate,
            callers: pace.terminals,
            warm_up: pace.warm_up,
            length: pace.schedule_for,
        };
        let latencies = apart(site, scheduled)?;
        host.stop()?;
        let log = fs::read_to_string(site.log("kdh-host")).unwrap_or_default();
        let stages = stages::of_log(&log);

        let host = self.lab.start_host(&options())?;
        let target = self.target(&host)?;

        self.stage("whole runs of terminals, each with a new connection");
        let runs = Runs {
            target: target.clone(),
            callers: RUNNING,
            warm_up: pace.warm_up,
            length: pace.load_for,
        };
        let runs = apart(site, runs)?;

        self.stage(&format!("{CONNECTIONS} connections"));
        let connected = apart(
            site,
            Connections {
                target,
                count: CONNECTIONS,
            },
        )?;
        host.stop()?;
        Ok(Load {
            levels,
            disk_syncs_per_s,
            runs_per_s: runs.per_s(),
            connections_per_s: connected.per_s,
            rate,
            latencies,
            stages,
            memory: Memory {
                rest,
                load: memory_under_load,
                connected_2000: connected.host_resident_kib,
            },
        })
    }

    /// `calls` of PKCS#11 are those of a delivery.
    fn network(&self, calls: f64) -> Result<Vec<NetworkPoint>> {
        let (site, pace) = (&self.lab.site, self.pace);
        let mut points = Vec::new();
        for &sessions in pace.sessions {
            let host = self.lab.start_host(&HostOptions {
                faulty: true,
                sessions: Some(sessions),
                ..options()
            })?;
            for &latency in pace.latencies {
                let milliseconds = latency.as_secs_f64() * 1000.0;
                self.stage(&format!(
                    "HSM {milliseconds} ms away, {}",
                    count(sessions, "session")
                ));
                let closed = Closed {
                    target: self.target(&host)?,
                    callers: CALLERS_PER_SESSION * sessions,
                    warm_up: settling(pace.warm_up, calls, latency),
                    length: pace.network_for,
                    delay: Some(Delay {
                        control: site.control(),
                        latency,
                    }),
                };
                let per_s = apart(site, closed)?.per_s();
                points.push(NetworkPoint::new(sessions, milliseconds, calls, per_s));
            }
            host.stop()?;
        }
        points.sort_by(|a, b| a.latency_ms.total_cmp(&b.latency_ms));
        Ok(points)
    }
}

/// Long enough for every terminal to have had an answer from a slow HSM.
fn settling(least: Duration, calls: f64, latency: Duration) -> Duration {
    least.max(latency.mul_f64(calls * report::small(CALLERS_PER_SESSION)))
}
