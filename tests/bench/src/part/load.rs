//! Terminals at work, with their keys in memory and without opening what they receive: what they do
//! themselves shall take as little of the processor as possible.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use kdh_proto::v1::{
    BindRequest, ConfirmRequest, ListAssignmentsRequest, RequestKeyRequest, RequestKeyResponse,
    key_distribution_client::KeyDistributionClient,
};
use pki::Certificate;
use serde::{Deserialize, Serialize};
use system_tests::{
    faults::Faults,
    hostile::{connect, load_certificate},
    secret_file::random_bytes,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::transport::Channel;
use tr34::{Freshness, KeyToken, KrdNonce, Profile, RandomToken};

use super::Measure;
use crate::{
    fleet::{self, Member},
    percentiles::Sorted,
    process::{cpu_seconds, cpu_seconds_by_thread, cpu_seconds_of_all, resident_kib},
};

/// How many connections are made at the same time.
const CONNECTING: usize = 16;
/// For what is under way when nothing is begun any more.
const LAST: Duration = Duration::from_secs(30);

pub(crate) type Client = KeyDistributionClient<Channel>;

/// Where the host is, and who comes to it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Address of its listener for terminals.
    pub(crate) address: String,
    /// Its process.
    pub(crate) host: u32,
    /// Who certified it for TLS.
    pub(crate) ca_ops: PathBuf,
    pub(crate) fleet: PathBuf,
    pub(crate) slot: String,
}

/// A target as it is worked with.
pub(crate) struct Opened {
    address: String,
    ca_ops: Certificate,
    members: Vec<Member>,
    slot: String,
}

impl Target {
    pub(crate) fn open(&self) -> Result<Arc<Opened>> {
        Ok(Arc::new(Opened {
            address: self.address.clone(),
            ca_ops: load_certificate(&self.ca_ops)?,
            members: fleet::read(&self.fleet)?,
            slot: self.slot.clone(),
        }))
    }
}

impl Opened {
    /// Terminals in turn.
    fn member(&self, number: usize) -> Result<&Member> {
        let index = number.checked_rem(self.members.len());
        let member = index.and_then(|index| self.members.get(index));
        member.context("no terminals")
    }

    /// A new connection of a terminal, perhaps by a relay.
    pub(crate) async fn connect(&self, number: usize, relay: Option<&str>) -> Result<Client> {
        let identity = &self.member(number)?.identity;
        connect(relay.unwrap_or(&self.address), &self.ca_ops, Some(identity)).await
    }

    /// Kept connections of the first `callers` terminals; where these are more than there are terminals,
    /// some share one. A connection carries at most 16 calls at once.
    async fn clients(&self, callers: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for number in 0..callers.min(self.members.len()) {
            clients.push(self.connect(number, None).await?);
        }
        Ok(clients.into_iter().cycle().take(callers).collect())
    }

    /// One delivery, of which the answer is looked at, but not opened.
    pub(crate) async fn deliver(
        &self,
        client: &mut Client,
    ) -> Result<(RequestKeyResponse, KeyToken)> {
        let nonce = KrdNonce::from_bytes(random_bytes()?);
        let request = RequestKeyRequest {
            slot: self.slot.clone(),
            rt_krd: RandomToken::new(nonce.clone()).to_der(),
        };
        let answer = client.request_key(request).await?.into_inner();
        let token = KeyToken::parse(Profile::X9_2019, &answer.kt_kdh)?;
        ensure!(
            *token.freshness() == Freshness::Nonce(nonce),
            "a key token for another nonce"
        );
        Ok((answer, token))
    }

    /// All that a terminal does to get a key once it is enrolled, on a new connection.
    async fn run(&self, number: usize) -> Result<()> {
        let member = self.member(number)?;
        let mut client = self.connect(number, None).await?;
        let ct_krd = member.ct_krd.clone();
        client.bind(BindRequest { ct_krd }).await?;
        let assignments = client.list_assignments(ListAssignmentsRequest {}).await?;
        let assignments = assignments.into_inner().assignments;
        let assignment = assignments.iter().find(|one| one.slot == self.slot);
        let header = &assignment.context("no key is assigned")?.header;
        let (issued, _) = self.deliver(&mut client).await?;
        let statement = member.terminal.statement(&self.slot, header, &issued);
        let receipt = Some(member.terminal.receipt(&statement));
        client.confirm(ConfirmRequest { receipt }).await?;
        Ok(())
    }
}

/// Runs on as many threads as there are processors.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// What was done in a span of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) count: u32,
    pub(crate) seconds: f64,
    /// Processor time of the host.
    pub(crate) host_cpu_seconds: f64,
    /// Processor time of the terminals.
    pub(crate) load_cpu_seconds: f64,
    /// Processor time of everything else on the machine.
    pub(crate) other_cpu_seconds: f64,
    /// The host's by the names of its threads.
    pub(crate) host_cpu_by_thread: BTreeMap<String, f64>,
    /// Memory that the host held at the end.
    pub(crate) host_resident_kib: u64,
}

impl Done {
    pub(crate) fn per_s(&self) -> f64 {
        f64::from(self.count) / self.seconds
    }
}

/// The state at the beginning of a span of time.
struct Begun {
    at: Instant,
    host: u32,
    count: u32,
    host_cpu: f64,
    load_cpu: f64,
    all_cpu: f64,
    threads: BTreeMap<String, f64>,
}

impl Begun {
    fn now(host: u32, count: u32) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            host,
            count,
            host_cpu: cpu_seconds(host)?,
            load_cpu: cpu_seconds(std::process::id())?,
            all_cpu: cpu_seconds_of_all()?,
            threads: cpu_seconds_by_thread(host)?,
        })
    }

    fn end(&self, count: u32) -> Result<Done> {
        let now = Self::now(self.host, count)?;
        let (host, load) = (now.host_cpu - self.host_cpu, now.load_cpu - self.load_cpu);
        let threads = now.threads.into_iter().map(|(name, seconds)| {
            let before = self.threads.get(&name).unwrap_or(&0.0);
            (name, (seconds - before).max(0.0))
        });
        Ok(Done {
            count: now.count - self.count,
            seconds: (now.at - self.at).as_secs_f64(),
            host_cpu_seconds: host,
            load_cpu_seconds: load,
            other_cpu_seconds: (now.all_cpu - self.all_cpu - host - load).max(0.0),
            host_cpu_by_thread: threads.collect(),
            host_resident_kib: resident_kib(self.host)?,
        })
    }
}

/// What goes on without end until it is dropped, and fails as soon as any of it does.
struct Work {
    tasks: JoinSet<Result<()>>,
    done: Arc<AtomicU32>,
}

impl Work {
    /// Counts one for each time that a task has acted.
    fn start<F, A>(acts: impl IntoIterator<Item = F>) -> Self
    where
        F: FnMut() -> A + Send + 'static,
        A: Future<Output = Result<()>> + Send + 'static,
    {
        let done = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for mut act in acts {
            let done = Arc::clone(&done);
            tasks.spawn(async move {
                loop {
                    act().await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, done }
    }

    async fn go_on_for(&mut self, length: Duration) -> Result<()> {
        tokio::select! {
            () = sleep(length) => Ok(()),
            ended = self.tasks.join_next() => ended.context("nobody is at work")??,
        }
    }

    async fn measure(&mut self, host: u32, length: Duration) -> Result<Done> {
        let begun = Begun::now(host, self.done.load(Ordering::Relaxed))?;
        self.go_on_for(length).await?;
        begun.end(self.done.load(Ordering::Relaxed))
    }
}

/// What makes an HSM slow.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Delay {
    /// The control of the module with faults.
    pub(crate) control: PathBuf,
    /// Of each call.
    pub(crate) latency: Duration,
}

/// Deliveries on kept connections, each terminal asking again as soon as it has its answer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) target: Target,
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
    pub(crate) delay: Option<Delay>,
}

impl Measure for Closed {
    type Found = Done;

    fn measure(self) -> Result<Done> {
        block_on(async {
            let opened = self.target.open()?;
            let clients = opened.clients(self.callers).await?;
            let mut work = Work::start(clients.into_iter().map(|client| {
                let opened = Arc::clone(&opened);
                move || {
                    let (opened, mut client) = (Arc::clone(&opened), client.clone());
                    async move { opened.deliver(&mut client).await.map(drop) }
                }
            }));
            work.go_on_for(self.warm_up).await?;
            let Some(delay) = &self.delay else {
                return work.measure(self.target.host, self.length).await;
            };
            // Connections and first looks at keys are not what is measured here.
            let mut faults = Faults::connect(&delay.control)?;
            faults.tell(&format!("delay * {}", delay.latency.as_micros()))?;
            work.go_on_for(self.warm_up).await?;
            let done = work.measure(self.target.host, self.length).await?;
            faults.tell("clear")?;
            Ok(done)
        })
    }
}

/// Whole runs of terminals, each with a connection of its own.
#[derive(Serialize, Deserialize)]
pub(crate) struct Runs {
    pub(crate) target: Target,
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

impl Measure for Runs {
    type Found = Done;

    fn measure(self) -> Result<Done> {
        block_on(async {
            let opened = self.target.open()?;
            // Two runs of one terminal at a time would take each other's delivery away.
            let callers = self.callers.min(opened.members.len());
            let mut work = Work::start((0..callers).map(|number| {
                let opened = Arc::clone(&opened);
                move || {
                    let opened = Arc::clone(&opened);
                    async move { opened.run(number).await }
                }
            }));
            work.go_on_for(self.warm_up).await?;
            work.measure(self.target.host, self.length).await
        })
    }
}

/// Deliveries that begin on a schedule, whether or not those before have ended.
#[derive(Serialize, Deserialize)]
pub(crate) struct Scheduled {
    pub(crate) target: Target,
    pub(crate) per_s: f64,
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

/// From the moment at which a delivery was to begin, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) count: usize,
}

impl Measure for Scheduled {
    type Found = Latencies;

    fn measure(self) -> Result<Latencies> {
        block_on(async {
            let opened = self.target.open()?;
            let clients = opened.clients(self.callers).await?;
            let between = Duration::from_secs_f64(1.0 / self.per_s);
            let first = Instant::now() + between;
            let (counts_from, end) = (first + self.warm_up, first + self.warm_up + self.length);
            let mut under_way = JoinSet::new();
            let mut start = first;
            for client in clients.iter().cycle() {
                if start >= end {
                    break;
                }
                sleep_until(start).await;
                let (opened, mut client) = (Arc::clone(&opened), client.clone());
                under_way.spawn(async move {
                    opened.deliver(&mut client).await?;
                    Ok::<_, anyhow::Error>((start, start.elapsed()))
                });
                start += between;
            }
            let ended = timeout(LAST, under_way.join_all());
            let ended = ended.await.context("the host cannot keep up")?;
            let mut latencies = Vec::new();
            for ended in ended {
                let (start, latency) = ended?;
                if start >= counts_from {
                    latencies.push(latency);
                }
            }
            let count = latencies.len();
            let sorted = Sorted::new(latencies);
            let milliseconds = |percent| sorted.percentile(percent).as_secs_f64() * 1000.0;
            Ok(Latencies {
                p50: milliseconds(50),
                p95: milliseconds(95),
                p99: milliseconds(99),
                max: milliseconds(100),
                count,
            })
        })
    }
}

/// Deliveries to one terminal, each after the one before.
#[derive(Serialize, Deserialize)]
pub(crate) struct Single {
    pub(crate) target: Target,
    /// That do not count yet.
    pub(crate) warm_up: u32,
    pub(crate) deliveries: u32,
}

impl Measure for Single {
    /// What each of them took.
    type Found = Vec<Duration>;

    fn measure(self) -> Result<Vec<Duration>> {
        one_by_one(&self.target, async |opened| {
            let mut client = opened.connect(0, None).await?;
            for _ in 0..self.warm_up {
                opened.deliver(&mut client).await?;
            }
            let mut found = Vec::new();
            for _ in 0..self.deliveries {
                let start = Instant::now();
                opened.deliver(&mut client).await?;
                found.push(start.elapsed());
            }
            Ok(found)
        })
    }
}

/// Connections that are kept open, after one cheap call on each.
#[derive(Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) target: Target,
    pub(crate) count: usize,
}

/// What they cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Connections made in a second, each with a handshake.
    pub(crate) per_s: f64,
    /// Memory that the host holds with all of them.
    pub(crate) host_resident_kib: u64,
}

impl Measure for Connections {
    type Found = Connected;

    fn measure(self) -> Result<Connected> {
        block_on(async {
            let opened = self.target.open()?;
            let begun = Begun::now(self.target.host, 0)?;
            let mut connecting = JoinSet::new();
            for first in 0..CONNECTING {
                let opened = Arc::clone(&opened);
                connecting.spawn(async move {
                    let mut clients = Vec::new();
                    for number in (first..self.count).step_by(CONNECTING) {
                        let mut client = opened.connect(number, None).await?;
                        client.list_assignments(ListAssignmentsRequest {}).await?;
                        clients.push(client);
                    }
                    Ok::<_, anyhow::Error>(clients)
                });
            }
            // Held until the host has been looked at.
            let clients: Result<Vec<_>> = connecting.join_all().await.into_iter().collect();
            let clients = clients?.concat();
            let done = begun.end(u32::try_from(clients.len())?)?;
            Ok(Connected {
                per_s: done.per_s(),
                host_resident_kib: done.host_resident_kib,
            })
        })
    }
}

/// Has one terminal do things one after another, for what is counted and not timed.
pub(crate) fn one_by_one<T>(
    target: &Target,
    work: impl AsyncFnOnce(Arc<Opened>) -> Result<T>,
) -> Result<T> {
    let opened = target.open()?;
    block_on(work(opened))
}
