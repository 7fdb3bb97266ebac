//! Export targets: what two operators agree on, and the keys that the host shares with a payment switch.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tr34::KeyKind;

use crate::{
    master_key::MasterKey,
    operator::{answer, text},
    process::Program,
    site::{KEY_OFFICER, OPERATOR, Site},
};

/// The keys that are shared with a switch.
pub struct SharedKeys {
    /// Over the exported ones, by either form.
    pub under: MasterKey,
    /// Makes MACs.
    pub mac: MasterKey,
}

/// Their check values, by which operators name them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SharedKcvs {
    under: String,
    mac: String,
}

impl SharedKeys {
    /// Makes them, which no HSM has yet.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<Self> {
        let key = |name| MasterKey::generate(name, KeyKind::Aes256);
        Ok(Self {
            under: key("under")?,
            mac: key("mac")?,
        })
    }

    /// Their check values.
    ///
    /// # Errors
    /// One is no key.
    pub fn kcvs(&self) -> Result<SharedKcvs> {
        Ok(SharedKcvs {
            under: self.under.kcv()?,
            mac: self.mac.kcv()?,
        })
    }

    /// As a ceremony brings them in.
    pub fn labelled(&self) -> [(&str, &MasterKey); 3] {
        [
            ("zmkx.switch", &self.under),
            ("kbpkx.switch", &self.under),
            ("zmac.switch", &self.mac),
        ]
    }
}

impl Site {
    /// Asks for a target. `way` says how keys go there, and which.
    ///
    /// # Errors
    /// No host ever ran.
    pub fn ask_target(
        &self,
        shared: &SharedKcvs,
        name: &str,
        form: &str,
        way: &[&str],
    ) -> Result<Program> {
        let under = if form == "tr31" {
            "kbpkx.switch"
        } else {
            "zmkx.switch"
        };
        let under = ["--under", under, "--under-kcv", &shared.under];
        let mac = ["--mac", "zmac.switch", "--mac-kcv", &shared.mac];
        let what = ["target", "ask", name, "--form", form, "--why", "acquirer A"];
        self.kdhctl(OPERATOR, &[&what[..], &under, &mac, way].concat())
    }

    /// One operator asks for a target, and another one approves. Says what is in force then.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn agree_on_target(
        &self,
        shared: &SharedKcvs,
        name: &str,
        form: &str,
        way: &[&str],
    ) -> Result<Value> {
        let asked = answer(&self.ask_target(shared, name, form, way)?.succeed()?)?;
        let approve = ["approval", "approve", text(&asked, "/id")?];
        self.operate_as(KEY_OFFICER, &approve)
    }
}
