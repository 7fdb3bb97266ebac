//! A site with SoftHSM, its ceremonies, one terminal that is bound, and a model that carries a key profile.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hsm_modules::SOFTHSM;
use serde_json::Value;
use system_tests::{
    host::{Host, HostOptions},
    hostile::{SoftTerminal, load_certificate},
    own_keys::ProfileSlot,
    programs::Programs,
    site::{SWITCH, Site, Topology},
    targets::SharedKeys,
};

use super::MODEL;
use crate::{
    fleet,
    part::{load::Target, raw::RawToken},
    run::TOKEN,
    setup::{SLOT, enrol},
};

/// Sessions of the host with each token, and threads that use the module alone.
pub(super) const SESSIONS: usize = 4;
/// The first pair's key.
pub(super) const STORAGE_KEY: &str = "ksk.1";
/// The one that seals rows.
pub(super) const SEALING_KEY: &str = "ksm.1";
const TERMINAL: &str = "BENCH-1";

/// The payment switch to which keys go.
const TARGET: &str = "switch";

pub(super) struct Lab {
    pub(super) site: Site,
    fleet: PathBuf,
    /// The check values of the keys that are shared with the switch.
    shared: PathBuf,
}

/// A host that refuses nobody for coming too often, and makes keys as fast as it can.
pub(super) fn options() -> HostOptions {
    HostOptions {
        sessions: Some(SESSIONS),
        keys_per_second: Some(100_000),
        // The terminal's key is RSA-2048.
        key_policy: "lenient",
        ..crate::setup::options()
    }
}

impl Lab {
    /// A new one in this folder.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let programs = Programs::beside_this_one()?;
        let site = Site::create(folder, &programs, Topology::TwoSubCas, &SOFTHSM)?;
        site.make_tokens()?;
        site.hold_pki_ceremony()?;
        site.carry_tokens_away()?;
        let shared = SharedKeys::generate()?;
        site.bring_in(&shared.labelled())?;
        let lab = Self::of(site);
        fs::write(&lab.shared, serde_json::to_string(&shared.kcvs()?)?)?;
        Ok(lab)
    }

    /// The one that was made there before.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let programs = Programs::beside_this_one()?;
        let site = Site::open(folder, &programs, Topology::TwoSubCas, &SOFTHSM)?;
        Ok(Self::of(site))
    }

    fn of(site: Site) -> Self {
        Self {
            fleet: site.folder().join("fleet.json"),
            shared: site.folder().join("shared.json"),
            site,
        }
    }

    pub(super) fn start_host(&self, options: &HostOptions) -> Result<Host> {
        self.site.start_host(options)
    }

    /// Has the model carry a profile with one slot, whose key the HSM makes for each device.
    pub(super) fn put_profile(&self) -> Result<()> {
        let slot = ProfileSlot {
            name: SLOT.to_owned(),
            header: "D0000K0AD00N0000",
            kind: "AES-128".to_owned(),
            more: "",
        };
        self.site.carry_profile_at(["--model", MODEL], &[slot])
    }

    /// Enrols a terminal with the running host, binds it, writes it down, and gives it a key of its own.
    pub(super) fn enrol(&self) -> Result<()> {
        self.site
            .operate(&["device", "add", TERMINAL, "--model", MODEL])?;
        let code = self.site.activation_code(TERMINAL)?;
        let ca_ops = load_certificate(&self.site.pki("ca-ops.pem"))?;
        let address = self.site.addresses()?.terminals;
        let terminal = SoftTerminal::new(TERMINAL)?;
        let member =
            tokio::runtime::Runtime::new()?.block_on(enrol(&address, &ca_ops, terminal, &code))?;
        fleet::write(&self.fleet, &[member])?;
        let start = ["rollout", "start", "--device", TERMINAL];
        self.site
            .operate(&[&start[..], &["--why", "bench", "--yes"]].concat())?;
        while self.newest_rollout()?["state"] != "DONE" {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The terminal, for deliveries by this host.
    pub(super) fn target(&self, host: &Host) -> Result<Target> {
        Ok(Target {
            address: self.site.addresses()?.terminals,
            host: host.id(),
            ca_ops: self.site.pki("ca-ops.pem"),
            fleet: self.fleet.clone(),
            slot: SLOT.to_owned(),
        })
    }

    /// The token with the storage keys.
    pub(super) fn token(&self) -> Result<RawToken> {
        Ok(RawToken {
            module: self.site.module()?,
            label: TOKEN.to_owned(),
            pin_file: self.site.hsm()?.pin_file(TOKEN),
        })
    }

    /// The one for all devices, if it was started.
    pub(super) fn rollout(&self) -> Result<Option<Value>> {
        let newest = self.newest_rollout()?;
        Ok((newest["target"]["model"] == MODEL).then_some(newest))
    }

    fn newest_rollout(&self) -> Result<Value> {
        let listed = self.site.operate(&["rollout", "list", "--limit", "1"])?;
        let newest = listed.pointer("/rollouts/0").cloned();
        newest.context("no rollout")
    }

    pub(super) fn start_rollout(&self) -> Result<()> {
        let start = ["rollout", "start", "--model", MODEL];
        self.site
            .operate(&[&start[..], &["--why", "bench", "--yes"]].concat())?;
        Ok(())
    }

    pub(super) fn show_rollout(&self, number: u64) -> Result<Value> {
        self.site.operate(&["rollout", "show", &number.to_string()])
    }

    pub(super) fn storage(&self) -> Result<Value> {
        self.site.operate(&["storage", "status"])
    }

    /// How far keys have gone to the payment switch: how many records there are, and how many it has acknowledged.
    pub(super) fn exported(&self) -> Result<Option<(u64, u64)>> {
        let shown = self.site.operate(&["target", "list"])?;
        let Some(target) = shown.pointer("/targets/0") else {
            return Ok(None);
        };
        let number = |field: &str| target[field].as_u64().with_context(|| field.to_owned());
        Ok(Some((number("last")?, number("acknowledged")?)))
    }

    /// Two operators want keys to go to the payment switch.
    pub(super) fn agree_on_target(&self) -> Result<()> {
        let shared = serde_json::from_str(&fs::read_to_string(&self.shared)?)?;
        let way = ["--receiver", SWITCH.name];
        let agreed = self.site.agree_on_target(&shared, TARGET, "key-wrap", &way);
        agreed.map(drop)
    }

    /// Puts all confirmed keys in line.
    pub(super) fn fill(&self) -> Result<()> {
        self.site.operate(&["target", "fill", TARGET]).map(drop)
    }

    /// The switch fetches so many of them.
    pub(super) fn receive(&self, records: u64) -> Result<()> {
        let out = self.site.folder().join("switch.jsonl");
        let out = out.to_str().context("a folder's name")?;
        let count = records.to_string();
        let receive = ["target", "receive", TARGET, "--count", &count, "--out", out];
        self.site.operate_as(SWITCH, &receive).map(drop)
    }
}
