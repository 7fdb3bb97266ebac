//! The host is killed with SIGKILL after each step of a terminal, and in the middle of calls, in both
//! topologies. The terminal resumes, nothing is delivered without a record, and the audit trail
//! holds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod database;
mod exports;
mod rollout;
mod rotation;
mod step;
mod update;

use std::time::Duration;

use hsm_modules::{SOFTHSM, TestModule};
use kdh_proto::v1::{
    BindRequest, ConfirmRequest, EnrollResponse, RequestKeyRequest, RequestKeyResponse,
    key_distribution_client::KeyDistributionClient,
};
use private_postgres::Postgres;
use system_tests::{
    fixture::Fixture,
    host::{Host, HostOptions},
    hostile::{Identity, SoftTerminal, connect, load_certificate},
    on_every_module,
    own_keys::ProfileSlot,
    site::Topology,
    terminal::{Terminal, TerminalOptions},
};
use tokio::{runtime::Runtime, time::timeout};
use tonic::transport::Channel;
use tr34::{KrdNonce, RandomToken};

const SLOT: &str = "tmk";
/// For keys of its own a terminal has a pair that is as strong.
const TERMINAL: TerminalOptions = TerminalOptions {
    rsa_bits: 3072,
    ..TerminalOptions::DEFAULT
};
/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(2);
/// How many times a call is cut off at another moment.
const ROUNDS: u8 = 6;

/// A site whose host comes and goes.
struct Fragile {
    site: Fixture,
    options: HostOptions,
    host: Option<Host>,
    kills: u64,
}

impl Fragile {
    fn new(module: &'static TestModule, topology: Topology) -> Self {
        Self::with(module, topology, HostOptions::default())
    }

    fn with(module: &'static TestModule, topology: Topology, options: HostOptions) -> Self {
        let mut fragile = Self::of(Fixture::new(module, topology), options);
        fragile.start();
        fragile
            .site
            .register_key(&fragile.site.keys.aes_128)
            .unwrap();
        fragile
    }

    /// Its HSM can be told to fail, and makes a key for each terminal.
    fn with_own_keys(site: Fixture, options: HostOptions) -> Self {
        let options = HostOptions {
            faulty: true,
            key_strength: "require",
            ..options
        };
        let mut fragile = Self::of(site, options);
        fragile.start();
        let slot = ProfileSlot {
            name: SLOT.to_owned(),
            header: "D0000K0AB00N0000",
            kind: "AES-128".to_owned(),
            more: "",
        };
        fragile.site.carry_profile(&[slot]).unwrap();
        fragile
    }

    /// Without a host yet.
    const fn of(site: Fixture, options: HostOptions) -> Self {
        Self {
            site,
            options,
            host: None,
            kills: 0,
        }
    }

    /// A device that shall have a key. Returns its activation code.
    fn add_device(&self, serial: &str) -> String {
        let code = self.site.add_device(serial).unwrap();
        let key = &self.site.keys.aes_128;
        self.site.assign_key(serial, SLOT, key).unwrap();
        code
    }

    fn start(&mut self) {
        self.host = Some(self.site.start_host(&self.options).unwrap());
    }

    /// SIGKILL, and a new process on the same database and tokens. The trail must hold, or the host
    /// would not start.
    fn kill_and_restart(&mut self) {
        self.host.take().unwrap().kill().unwrap();
        self.kills += 1;
        self.start();
        self.site.verify_audit().unwrap();
    }

    /// The new process listens elsewhere.
    fn restart_for(&mut self, terminal: &Terminal) {
        self.kill_and_restart();
        let options = TerminalOptions::default();
        self.site.configure_terminal(terminal, options).unwrap();
    }

    async fn connect(&self, identity: Option<&Identity>) -> KeyDistributionClient<Channel> {
        let ca_ops = load_certificate(&self.site.pki("ca-ops.pem")).unwrap();
        let address = self.site.addresses().unwrap().terminals;
        connect(&address, &ca_ops, identity).await.unwrap()
    }

    /// How often an action stands on the trail with an outcome.
    fn recorded(&self, action: &str) -> usize {
        let listed = self.site.operate(&["audit", "list"]).unwrap();
        let records = listed["records"].as_array().unwrap();
        records
            .iter()
            .filter(|record| record["action"] == action)
            .count()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The real terminal, the host killed after each of its steps.
fn killed_after_each_step(mut fragile: Fragile) {
    let serial = "KILL-1";
    let code = fragile.add_device(serial);
    let terminal = fragile
        .site
        .make_terminal(serial, TerminalOptions::default())
        .unwrap();
    terminal.act(&["keygen"]).unwrap();

    fragile.restart_for(&terminal);
    assert_eq!(fragile.site.device_state(serial).unwrap(), "REGISTERED");
    terminal.take_code(&code).unwrap();
    terminal.enroll().succeed().unwrap();

    fragile.restart_for(&terminal);
    assert_eq!(fragile.site.device_state(serial).unwrap(), "ENROLLED");
    terminal.act(&["bind"]).unwrap();

    fragile.restart_for(&terminal);
    assert_eq!(fragile.site.device_state(serial).unwrap(), "BOUND");
    terminal.act(&["load"]).unwrap();

    fragile.restart_for(&terminal);
    assert_eq!(fragile.site.deliveries(serial).unwrap(), ["CONFIRMED"]);
    // What is held is not delivered again.
    terminal.act(&["load"]).unwrap();
    assert_eq!(fragile.site.deliveries(serial).unwrap(), ["CONFIRMED"]);
    let held = terminal.slot(SLOT).unwrap().unwrap();
    assert_eq!(held["kcv"], fragile.site.keys.aes_128.kcv().unwrap());
    // The trail tells of every start, also of those that no stop preceded.
    assert_eq!(fragile.recorded("host.started") as u64, fragile.kills + 1);
    assert_eq!(fragile.recorded("host.stopped"), 0);
}

fn a_terminal_resumes_when_the_host_is_killed_after_each_step_under_two_sub_cas(
    module: &'static TestModule,
) {
    killed_after_each_step(Fragile::new(module, Topology::TwoSubCas));
}

fn a_terminal_resumes_when_the_host_is_killed_after_each_step_under_a_single_sub_ca(
    module: &'static TestModule,
) {
    killed_after_each_step(Fragile::new(module, Topology::SingleSubCa));
}

/// A host with a database of PostgreSQL's.
fn with_postgres() -> Fragile {
    let options = HostOptions::with_postgres(Postgres::shared()).unwrap();
    Fragile::with(&SOFTHSM, Topology::TwoSubCas, options)
}

#[test]
fn a_terminal_resumes_when_the_host_is_killed_after_each_step_with_postgresql() {
    killed_after_each_step(with_postgres());
}

/// Every answer is lost, because the host is killed before the terminal has stored it: the same
/// calls again lead on, and what was done once is not done twice.
fn every_answer_is_lost(module: &'static TestModule, topology: Topology) {
    let mut fragile = Fragile::new(module, topology);
    let runtime = runtime();
    let serial = "LOST-1";
    let code = fragile.add_device(serial);
    let terminal = SoftTerminal::new(serial).unwrap();

    let request = terminal.enroll_request(&code).unwrap();
    let enrol = |fragile: &Fragile| -> EnrollResponse {
        runtime.block_on(async {
            let mut client = fragile.connect(None).await;
            client.enroll(request.clone()).await.unwrap().into_inner()
        })
    };
    let lost = enrol(&fragile);
    fragile.kill_and_restart();
    let enrolled = enrol(&fragile);
    assert_eq!(enrolled, lost, "the very same certificates");
    assert_eq!(fragile.recorded("device.enrolled"), 1);

    let identity = terminal.identity(&enrolled).unwrap();
    let bind = |fragile: &Fragile| {
        runtime.block_on(async {
            let ct_krd = enrolled.ct_krd.clone();
            let mut client = fragile.connect(Some(&identity)).await;
            client
                .bind(BindRequest { ct_krd })
                .await
                .unwrap()
                .into_inner()
        })
    };
    let lost = bind(&fragile);
    fragile.kill_and_restart();
    assert_eq!(bind(&fragile), lost);

    let request_key = |fragile: &Fragile, nonce: u8| -> RequestKeyResponse {
        runtime.block_on(async {
            let mut client = fragile.connect(Some(&identity)).await;
            client
                .request_key(key_request(nonce))
                .await
                .unwrap()
                .into_inner()
        })
    };
    request_key(&fragile, 1);
    fragile.kill_and_restart();
    let second = request_key(&fragile, 2);
    assert_eq!(
        fragile.site.deliveries(serial).unwrap(),
        ["ISSUED", "SUPERSEDED"],
        "the lost token is on record, and counts no more"
    );

    let header = fragile.site.keys.aes_128.header();
    let receipt = terminal.receipt(&terminal.statement(SLOT, header, &second));
    let confirm = |fragile: &Fragile| {
        runtime.block_on(async {
            let receipt = Some(receipt.clone());
            let mut client = fragile.connect(Some(&identity)).await;
            client.confirm(ConfirmRequest { receipt }).await.unwrap();
        });
    };
    confirm(&fragile);
    fragile.kill_and_restart();
    confirm(&fragile);
    assert_eq!(fragile.recorded("delivery.confirmed"), 1);
    assert_eq!(
        fragile.site.deliveries(serial).unwrap(),
        ["CONFIRMED", "SUPERSEDED"]
    );
}

fn lost_answers_are_made_up_for_under_two_sub_cas(module: &'static TestModule) {
    every_answer_is_lost(module, Topology::TwoSubCas);
}

fn lost_answers_are_made_up_for_under_a_single_sub_ca(module: &'static TestModule) {
    every_answer_is_lost(module, Topology::SingleSubCa);
}

fn key_request(nonce: u8) -> RequestKeyRequest {
    RequestKeyRequest {
        slot: SLOT.to_owned(),
        rt_krd: RandomToken::new(KrdNonce::from_bytes([nonce; 16])).to_der(),
    }
}

/// The host is killed while it enrols: whatever it had claimed is given back or finished.
fn an_enrolment_that_was_cut_off_can_be_repeated(module: &'static TestModule) {
    let mut fragile = Fragile::new(module, Topology::TwoSubCas);
    let runtime = runtime();
    for round in 0..ROUNDS {
        let serial = format!("CUT-{round}");
        let code = fragile.site.add_device(&serial).unwrap();
        let terminal = SoftTerminal::new(&serial).unwrap();
        let request = terminal.enroll_request(&code).unwrap();
        runtime.block_on(async {
            let mut client = fragile.connect(None).await;
            // Whether the answer came in time does not matter: any moment is a good one to die.
            let moment = Duration::from_millis(u64::from(round) * 7);
            drop(timeout(moment, client.enroll(request.clone())).await);
        });
        fragile.kill_and_restart();
        let state = fragile.site.device_state(&serial).unwrap();
        assert!(
            ["REGISTERED", "ENROLLED"].contains(&state.as_str()),
            "{state}"
        );
        runtime.block_on(async {
            let mut client = fragile.connect(None).await;
            client.enroll(request.clone()).await.unwrap();
        });
        assert_eq!(fragile.site.device_state(&serial).unwrap(), "ENROLLED");
    }
    assert_eq!(fragile.recorded("device.enrolled"), usize::from(ROUNDS));
}

/// The host is killed while it makes a key token: no delivery is left open, and each token that may
/// have left is on record.
fn deliveries_are_cut_off(mut fragile: Fragile) {
    let runtime = runtime();
    let serial = "CUT-KEY";
    let code = fragile.add_device(serial);
    let terminal = SoftTerminal::new(serial).unwrap();
    let identity = runtime.block_on(async {
        let mut client = fragile.connect(None).await;
        let request = terminal.enroll_request(&code).unwrap();
        let enrolled = client.enroll(request).await.unwrap().into_inner();
        let identity = terminal.identity(&enrolled).unwrap();
        let mut client = fragile.connect(Some(&identity)).await;
        let ct_krd = enrolled.ct_krd;
        client.bind(BindRequest { ct_krd }).await.unwrap();
        identity
    });
    let mut answered = 0;
    for round in 0..ROUNDS {
        answered += runtime.block_on(async {
            let mut client = fragile.connect(Some(&identity)).await;
            let moment = Duration::from_millis(u64::from(round) * 5);
            let outcome = timeout(moment, client.request_key(key_request(round))).await;
            usize::from(matches!(outcome, Ok(Ok(_))))
        });
        fragile.kill_and_restart();
        let states = fragile.site.deliveries(serial).unwrap();
        assert!(!states.contains(&"PREPARED".to_owned()), "{states:?}");
    }
    let states = fragile.site.deliveries(serial).unwrap();
    let issued = states.iter().filter(|state| *state != "ABANDONED").count();
    let abandoned = states.len() - issued;
    assert!(issued >= answered, "every token that arrived is on record");
    assert_eq!(fragile.recorded("delivery.issued"), issued);
    assert_eq!(fragile.recorded("delivery.abandoned"), abandoned);
    assert_eq!(fragile.recorded("delivery.intent"), states.len());
    // And the terminal gets its key in the end.
    runtime.block_on(async {
        let mut client = fragile.connect(Some(&identity)).await;
        let response = client
            .request_key(key_request(0xFF))
            .await
            .unwrap()
            .into_inner();
        let header = fragile.site.keys.aes_128.header();
        let receipt = Some(terminal.receipt(&terminal.statement(SLOT, header, &response)));
        client.confirm(ConfirmRequest { receipt }).await.unwrap();
    });
    assert_eq!(fragile.site.deliveries(serial).unwrap()[0], "CONFIRMED");
}

fn a_delivery_that_was_cut_off_is_accounted_for(module: &'static TestModule) {
    deliveries_are_cut_off(Fragile::new(module, Topology::TwoSubCas));
}

#[test]
fn a_delivery_that_was_cut_off_is_accounted_for_with_postgresql() {
    deliveries_are_cut_off(with_postgres());
}

on_every_module!(
    a_terminal_resumes_when_the_host_is_killed_after_each_step_under_two_sub_cas,
    a_terminal_resumes_when_the_host_is_killed_after_each_step_under_a_single_sub_ca,
    lost_answers_are_made_up_for_under_two_sub_cas,
    lost_answers_are_made_up_for_under_a_single_sub_ca,
    an_enrolment_that_was_cut_off_can_be_repeated,
    a_delivery_that_was_cut_off_is_accounted_for,
);
