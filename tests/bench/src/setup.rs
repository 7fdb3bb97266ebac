//! A site with SoftHSM, its ceremonies, and terminals that are bound and have a key assigned.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result};
use hsm_modules::SOFTHSM;
use kdh_proto::v1::BindRequest;
use pki::Certificate;
use system_tests::{
    host::{Host, HostOptions},
    hostile::{SoftTerminal, connect, load_certificate},
    master_key::MasterKey,
    programs::Programs,
    site::{Site, Topology},
};
use tr34::KeyKind;

use crate::{
    fleet::{self, Member},
    pace::CONNECTIONS,
};

/// Where terminals hold the key.
pub(crate) const SLOT: &str = "tmk";

/// How many terminals make keys and enrol at the same time.
const AT_ONCE: usize = 4;

/// All that the measures need.
pub(crate) struct Lab {
    pub(crate) site: Site,
    pub(crate) key: MasterKey,
    /// The terminals, for the parts.
    pub(crate) fleet: PathBuf,
}

/// A host that refuses nobody for coming too often.
pub(crate) fn options() -> HostOptions {
    let places = CONNECTIONS + 100;
    HostOptions {
        queue: 512,
        connections: places,
        connections_per_address: places,
        device_calls_per_minute: 1_000_000,
        ..HostOptions::default()
    }
}

impl Lab {
    /// A site in `folder`, which is made anew.
    pub(crate) fn prepare(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).context("the site of an earlier run cannot be removed")?;
        }
        let programs = Programs::beside_this_one()?;
        let site = Site::create(folder, &programs, Topology::TwoSubCas, &SOFTHSM)?;
        let key = MasterKey::generate("aes-128", KeyKind::Aes128)?;
        site.make_tokens()?;
        site.hold_pki_ceremony()?;
        site.hold_key_ceremony(std::slice::from_ref(&key))?;
        site.carry_tokens_away()?;
        Ok(Self {
            fleet: site.folder().join("fleet.json"),
            site,
            key,
        })
    }

    /// Starts its host.
    pub(crate) fn start_host(&self, options: &HostOptions) -> Result<Host> {
        self.site.start_host(options)
    }

    /// Enrols so many terminals with the running host, binds them, and writes them down.
    pub(crate) fn enrol(&self, terminals: usize) -> Result<()> {
        self.site.register_key(&self.key)?;
        // Operators act one after another: they share a token's configuration, which is written anew
        // for each.
        let expected = (1..=terminals).map(|number| {
            let serial = format!("BENCH-{number}");
            let code = self.site.add_device(&serial)?;
            Ok((serial, code))
        });
        let expected = expected.collect::<Result<Vec<_>>>()?;
        let share = expected.len().div_ceil(AT_ONCE).max(1);
        let members = thread::scope(|scope| {
            let threads: Vec<_> = expected
                .chunks(share)
                .map(|expected| scope.spawn(|| self.enrol_some(expected)))
                .collect();
            let mut members = Vec::new();
            for thread in threads {
                members.extend(thread.join().ok().context("enrolling panicked")??);
            }
            Ok::<_, anyhow::Error>(members)
        })?;
        for member in &members {
            let serial = &member.terminal.serial;
            self.site.assign_key(serial, SLOT, &self.key)?;
        }
        fleet::write(&self.fleet, &members)
    }

    fn enrol_some(&self, expected: &[(String, String)]) -> Result<Vec<Member>> {
        let ca_ops = load_certificate(&self.site.pki("ca-ops.pem"))?;
        let address = self.site.addresses()?.terminals;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let enrol = |(serial, code): &(String, String)| {
            let terminal = SoftTerminal::new(serial)?;
            runtime.block_on(enrol(&address, &ca_ops, terminal, code))
        };
        expected.iter().map(enrol).collect()
    }
}

/// Enrols a terminal with the host at `address`, and binds it.
pub(crate) async fn enrol(
    address: &str,
    ca_ops: &Certificate,
    terminal: SoftTerminal,
    code: &str,
) -> Result<Member> {
    let mut stranger = connect(address, ca_ops, None).await?;
    let enrolled = stranger.enroll(terminal.enroll_request(code)?).await?;
    let enrolled = enrolled.into_inner();
    let identity = terminal.identity(&enrolled)?;
    let ct_krd = enrolled.ct_krd;
    let mut client = connect(address, ca_ops, Some(&identity)).await?;
    let bind = BindRequest {
        ct_krd: ct_krd.clone(),
    };
    client.bind(bind).await?;
    Ok(Member {
        terminal,
        identity,
        ct_krd,
    })
}
