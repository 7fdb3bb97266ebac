//! A host whose HSM fails at command, and terminals with kept connections.

use std::{fs, ops::Deref, time::Duration};

use hsm_modules::TestModule;
use kdh_proto::{
    Reason, ReasonedStatus as _,
    v1::{
        BindRequest, RequestKeyRequest, RequestKeyResponse,
        key_distribution_client::KeyDistributionClient,
    },
};
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use system_tests::{
    faults::Faults,
    fixture::Fixture,
    host::{Host, HostOptions},
    hostile::{SoftTerminal, connect, load_certificate, open_channel},
    process::poll,
    site::Topology,
};
use tokio::runtime::Runtime;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tr34::{KrdNonce, RandomToken};

pub(crate) const SLOT: &str = "tmk";

/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(2);

pub(crate) struct Lab {
    pub(crate) site: Fixture,
    pub(crate) host: Host,
    runtime: Runtime,
}

/// A bound terminal that holds its connection.
pub(crate) struct Bound<'l> {
    lab: &'l Lab,
    pub(crate) serial: String,
    client: KeyDistributionClient<Channel>,
    channel: Channel,
}

/// The host's readiness, as whoever balances its load sees it.
pub(crate) struct Readiness<'l> {
    lab: &'l Lab,
    news: Streaming<HealthCheckResponse>,
}

impl Lab {
    pub(crate) fn open(module: &'static TestModule, options: &HostOptions) -> Self {
        Self::of(Fixture::new(module, Topology::TwoSubCas), options)
    }

    /// A host that never ran before.
    pub(crate) fn of(site: Fixture, options: &HostOptions) -> Self {
        let lab = Self::restart(site, options);
        lab.site.register_key(&lab.site.keys.aes_128).unwrap();
        lab
    }

    pub(crate) fn restart(site: Fixture, options: &HostOptions) -> Self {
        let host = site.start_host(options).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            site,
            host,
            runtime,
        }
    }

    /// The commands that break it.
    pub(crate) fn faults(&self) -> Faults {
        self.site.faults().unwrap()
    }

    pub(crate) fn tell(&self, command: &str) {
        self.faults().tell(command).unwrap();
    }

    /// An enrolled and bound terminal with a key assigned.
    pub(crate) fn terminal(&self, serial: &str) -> Bound<'_> {
        let code = self.site.add_device(serial).unwrap();
        self.site
            .assign_key(serial, SLOT, &self.site.keys.aes_128)
            .unwrap();
        let terminal = SoftTerminal::new(serial).unwrap();
        let ca_ops = load_certificate(&self.site.pki("ca-ops.pem")).unwrap();
        let address = self.site.addresses().unwrap().terminals;
        self.runtime.block_on(async {
            let mut stranger = connect(&address, &ca_ops, None).await.unwrap();
            let request = terminal.enroll_request(&code).unwrap();
            let enrolled = stranger.enroll(request).await.unwrap().into_inner();
            let identity = terminal.identity(&enrolled).unwrap();
            let channel = open_channel(&address, &ca_ops, Some(&identity)).await;
            let channel = channel.unwrap();
            let mut client = KeyDistributionClient::new(channel.clone());
            let ct_krd = enrolled.ct_krd;
            client.bind(BindRequest { ct_krd }).await.unwrap();
            Bound {
                lab: self,
                serial: serial.to_owned(),
                client,
                channel,
            }
        })
    }

    /// A registered terminal and its code, and a connection on which it can enrol.
    pub(crate) fn stranger(&self, serial: &str) -> (SoftTerminal, String, Stranger<'_>) {
        let code = self.site.add_device(serial).unwrap();
        let ca_ops = load_certificate(&self.site.pki("ca-ops.pem")).unwrap();
        let address = self.site.addresses().unwrap().terminals;
        let client = self
            .runtime
            .block_on(connect(&address, &ca_ops, None))
            .unwrap();
        let terminal = SoftTerminal::new(serial).unwrap();
        (terminal, code, Stranger { lab: self, client })
    }

    pub(crate) fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Another process that writes, as good as: for as long as the connection is open.
    pub(crate) fn hold_database(&self) -> SqliteConnection {
        let path = self.folder().join("host").join("kdh.sqlite");
        let url = format!("sqlite://{}", path.display());
        self.wait_for(async {
            let mut holder = SqliteConnection::connect(&url).await.unwrap();
            holder.execute("BEGIN EXCLUSIVE").await.unwrap();
            holder
        })
    }

    /// The host's log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.site.log("kdh-host")).unwrap()
    }

    pub(crate) fn wait_for_log(&self, words: &str) {
        let said = || Ok(self.log().contains(words).then_some(()));
        poll(LONG, said).unwrap_or_else(|_| panic!("not in the log: {words}\n{}", self.log()));
    }
}

/// A connection without a client certificate.
pub(crate) struct Stranger<'l> {
    lab: &'l Lab,
    client: KeyDistributionClient<Channel>,
}

impl Stranger<'_> {
    pub(crate) fn enroll(&self, terminal: &SoftTerminal, code: &str) -> Result<(), Reason> {
        let request = terminal.enroll_request(code).unwrap();
        let mut client = self.client.clone();
        let outcome = self.lab.runtime.block_on(client.enroll(request));
        outcome.map(drop).map_err(|status| status.reason().unwrap())
    }
}

impl Bound<'_> {
    /// Asks for a key with this nonce.
    pub(crate) fn request_key(&self, nonce: u8) -> Result<RequestKeyResponse, Reason> {
        let mut client = self.client.clone();
        let outcome = self
            .lab
            .runtime
            .block_on(client.request_key(request(nonce)));
        outcome
            .map(tonic::Response::into_inner)
            .map_err(|status| status.reason().unwrap())
    }

    /// The same in the background.
    pub(crate) fn begin_request(
        &self,
        nonce: u8,
    ) -> impl FnOnce() -> Result<RequestKeyResponse, Reason> + '_ {
        let mut client = self.client.clone();
        let call = async move { client.request_key(request(nonce)).await };
        let call = self.lab.runtime.spawn(call);
        move || {
            let outcome = self.lab.runtime.block_on(call).unwrap();
            outcome
                .map(tonic::Response::into_inner)
                .map_err(|status| status.reason().unwrap())
        }
    }

    /// The host's readiness, from now on.
    pub(crate) fn readiness(&self) -> Readiness<'_> {
        let mut client = HealthClient::new(self.channel.clone());
        let request = HealthCheckRequest {
            service: "kdh.v1.KeyDistribution".to_owned(),
        };
        let news = self.lab.runtime.block_on(client.watch(request));
        Readiness {
            lab: self.lab,
            news: news.unwrap().into_inner(),
        }
    }

    /// States of its deliveries, newest first.
    pub(crate) fn deliveries(&self) -> Vec<String> {
        self.lab.site.deliveries(&self.serial).unwrap()
    }
}

impl Readiness<'_> {
    /// The next change.
    fn next(&mut self) -> ServingStatus {
        let next = self.lab.runtime.block_on(self.news.message());
        next.unwrap().unwrap().status()
    }

    pub(crate) fn rises(&mut self) {
        assert_eq!(self.next(), ServingStatus::Serving);
    }

    pub(crate) fn drops(&mut self) {
        assert_eq!(self.next(), ServingStatus::NotServing);
    }
}

impl Deref for Lab {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.site
    }
}

fn request(nonce: u8) -> RequestKeyRequest {
    RequestKeyRequest {
        slot: SLOT.to_owned(),
        rt_krd: RandomToken::new(KrdNonce::from_bytes([nonce; 16])).to_der(),
    }
}
