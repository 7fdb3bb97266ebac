//! What is known already, on file, so that a run that was interrupted goes on.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::database::{Size, Which};
use crate::race::Pace;

const FILE: &str = "measured.json";

/// Of one store.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) devices: u32,
    /// With all devices, and hardly any key.
    pub(super) before: Option<Size>,
    /// With a key for each.
    pub(super) after: Option<Size>,
    /// Keys made and wrapped by the module alone, before and after each piece of [`Self::created`].
    pub(super) module: Vec<Pace>,
    pub(super) created: Done,
    /// Hosts with one of the databases.
    pub(super) starts: Vec<Start>,
    /// Of a rollout with all keys made, as `kdhctl rollout show` counts them.
    pub(super) show_seconds: Option<f64>,
    /// Put in line for a payment switch, made, sent and acknowledged.
    pub(super) exported: Done,
    pub(super) rewrapped: Done,
}

/// What the host has done with rows, as often as it was started for that.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) seconds: f64,
    pub(super) host_cpu_seconds: f64,
    /// Processor time of everything else on the machine.
    pub(super) other_cpu_seconds: f64,
    /// The most memory that it held.
    pub(super) peak_kib: u64,
    pub(super) all: bool,
}

impl Done {
    pub(super) fn per_s(&self) -> f64 {
        rows(self.rows) / self.seconds
    }

    pub(super) fn per_host_cpu_s(&self) -> f64 {
        rows(self.rows) / self.host_cpu_seconds
    }

    pub(super) fn others(&self) -> f64 {
        self.other_cpu_seconds / self.seconds
    }
}

/// A host that was started to deliver keys to one terminal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) which: Which,
    /// Until it served.
    pub(super) took: Duration,
    pub(super) deliveries: Vec<Duration>,
    pub(super) peak_kib: u64,
}

/// A number of rows, which is far from where `f64` has gaps.
pub(super) fn rows(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

impl Measured {
    /// Nothing, if nothing was begun in this folder.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path)?;
        let measured = serde_json::from_str(&text);
        Ok(Some(measured.with_context(|| path.display().to_string())?))
    }

    /// Whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let new = folder.join("measured.new");
        fs::write(&new, serde_json::to_string_pretty(self)?)?;
        Ok(fs::rename(new, folder.join(FILE))?)
    }

    /// The module's own rate.
    pub(super) fn module_per_s(&self) -> f64 {
        mean(self.module.iter().map(|pace| pace.per_s))
    }

    pub(super) fn module_per_cpu_s(&self) -> f64 {
        mean(self.module.iter().map(|pace| pace.per_cpu_s))
    }

    pub(super) fn of(&self, which: Which) -> impl Iterator<Item = &Start> {
        self.starts.iter().filter(move |start| start.which == which)
    }
}

pub(super) fn mean(figures: impl Iterator<Item = f64>) -> f64 {
    let figures: Vec<f64> = figures.collect();
    figures.iter().sum::<f64>() / crate::report::small(figures.len())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Measured::read(folder.path()).unwrap().is_none());
        let measured = Measured {
            devices: 7,
            created: Done {
                rows: 6,
                seconds: 3.0,
                ..Done::default()
            },
            ..Measured::default()
        };
        measured.write(folder.path()).unwrap();
        let found = Measured::read(folder.path()).unwrap().unwrap();
        assert_eq!(found.devices, 7);
        assert!((found.created.per_s() - 2.0).abs() < 1e-9);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Measured::read(folder.path()).is_err());
    }
}
