//! A site's operators: the real `kdhctl`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    master_key::MasterKey,
    process::{Ended, Program},
    site::{MODEL, OPERATOR, Operator, Site},
};

impl Site {
    /// `kdhctl` as this operator.
    ///
    /// # Errors
    /// No host ever ran, or the configuration cannot be written.
    pub fn kdhctl(&self, operator: Operator, arguments: &[&str]) -> Result<Program> {
        let configuration = self.write_operator_configuration(operator)?;
        Ok(self
            .operators()?
            .program(self.programs().path("kdhctl"), &self.log("kdhctl"))
            .arg("--config")
            .arg(configuration)
            .arg("--json")
            .args(arguments))
    }

    /// Has the operator who may do everything do something.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn operate(&self, arguments: &[&str]) -> Result<Value> {
        let ended = self.kdhctl(OPERATOR, arguments)?.succeed()?;
        answer(&ended)
    }

    /// Makes a master key known to the host under its own name.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn register_key(&self, key: &MasterKey) -> Result<Value> {
        self.operate(&[
            "key",
            "register",
            &key.name,
            "--hsm-label",
            &key.label(),
            "--header",
            key.header(),
            "--kcv",
            &key.kcv()?,
        ])
    }

    /// Gives a device a key in a slot.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn assign_key(&self, serial: &str, slot: &str, key: &MasterKey) -> Result<Value> {
        let arguments = [
            "key", "assign", "--device", serial, "--slot", slot, "--key", &key.name,
        ];
        self.operate(&arguments)
    }

    /// Registers a device and issues its activation code.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn add_device(&self, serial: &str) -> Result<String> {
        self.operate(&["device", "add", serial, "--model", MODEL])?;
        self.activation_code(serial)
    }

    /// Issues an activation code.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn activation_code(&self, serial: &str) -> Result<String> {
        let issued = self.operate(&["device", "code", serial])?;
        Ok(text(&issued, "/code")?.to_owned())
    }

    /// The state of a device.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn device_state(&self, serial: &str) -> Result<String> {
        let shown = self.operate(&["device", "show", serial])?;
        Ok(text(&shown, "/device/state")?.to_owned())
    }

    /// The states of a device's deliveries, newest first.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn deliveries(&self, serial: &str) -> Result<Vec<String>> {
        let listed = self.operate(&["delivery", "list", "--device", serial])?;
        let deliveries = listed["deliveries"].as_array().context("no deliveries")?;
        let state = |delivery| Ok(text(delivery, "/state")?.to_owned());
        deliveries.iter().map(state).collect()
    }

    /// Verifies the audit trail, and says how many records it has.
    ///
    /// # Errors
    /// It does not hold.
    pub fn verify_audit(&self) -> Result<u64> {
        let verified = self.operate(&["audit", "verify"])?;
        verified["verified"]
            .as_u64()
            .context("no number of records")
    }

    /// `kdhctl`'s configuration for this operator.
    ///
    /// # Errors
    /// No host ever ran, or it cannot be written.
    pub fn write_operator_configuration(&self, operator: Operator) -> Result<PathBuf> {
        let text = format!(
            "address = \"{}\"\nserver-name = \"localhost\"\nserver-ca = \"../pki/ca-ops.pem\"\n\
             certificate = \"../pki/{}.pem\"\n\n[token]\nmodule = {}\nlabel = \"operator\"\n\
             pin-file = \"operator.pin\"\nkey-label = \"{}\"\n",
            self.addresses()?.administration,
            operator.name,
            toml_text(&self.hsm_module().library()?),
            operator.name
        );
        let file = self
            .folder()
            .join("operators")
            .join(format!("{}.toml", operator.name));
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// A path as TOML has it.
pub fn toml_text(path: &Path) -> String {
    toml::Value::from(path.to_string_lossy().into_owned()).to_string()
}

/// The JSON that a program printed.
///
/// # Errors
/// It printed none.
pub fn answer(ended: &Ended) -> Result<Value> {
    serde_json::from_str(&ended.stdout).with_context(|| format!("{}: no JSON", ended.command))
}

/// A text in a JSON document.
///
/// # Errors
/// There is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no {pointer} in {value}"))
}
