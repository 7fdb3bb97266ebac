//! The host that `up` leaves running, and `down` stops.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use system_tests::{
    host::Host,
    process::{poll, terminate},
    site::Site,
};

/// Longer than the host gives to calls in flight.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A host that runs without us.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Running {
    id: u32,
    /// By this we know that the process is ours: numbers are given again.
    configuration: PathBuf,
}

impl Running {
    /// Writes down which process it is.
    pub(crate) fn record(folder: &Path, site: &Site, host: &Host) -> Result<()> {
        let running = Self {
            id: host.id(),
            configuration: site.host_configuration(),
        };
        Ok(fs::write(file(folder), serde_json::to_vec(&running)?)?)
    }

    /// The host that was recorded, if it still runs.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>> {
        let Ok(text) = fs::read(file(folder)) else {
            return Ok(None);
        };
        let recorded: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", file(folder).display()))?;
        Ok(Some(recorded).filter(Self::runs))
    }

    /// Its process id.
    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Result<()> {
        terminate(self.id)?;
        poll(STOP_LIMIT, || Ok((!self.runs()).then_some(())))
            .with_context(|| format!("process {} does not stop", self.id))
    }

    /// Whether the process of this number is a `kdh-host` with this very configuration.
    fn runs(&self) -> bool {
        let command_line = fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        let arguments: Vec<_> = command_line.split(|byte| *byte == 0).collect();
        let is_host = arguments
            .first()
            .is_some_and(|program| program.ends_with(b"kdh-host"));
        let configuration = self.configuration.as_os_str().as_encoded_bytes();
        is_host && arguments.contains(&configuration)
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("host.json")
}
