//! Keys of terminals' own: their profile, their versions, and the storage keys that they lie under.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    operator::{answer, text},
    site::{KEY_OFFICER, MODEL, OPERATOR, Operator, Site},
};

/// A slot of a key profile.
#[derive(Clone, Debug)]
pub struct ProfileSlot {
    /// Its name.
    pub name: String,
    /// The header with which terminals receive the key.
    pub header: &'static str,
    /// As profiles name it.
    pub kind: String,
    /// Further lines: where the key comes from, if the HSM does not make it for each terminal.
    pub more: &'static str,
}

impl Site {
    /// `kdhctl` as this operator, which has to succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn operate_as(&self, operator: Operator, arguments: &[&str]) -> Result<Value> {
        answer(&self.kdhctl(operator, arguments)?.succeed()?)
    }

    /// Has the terminals of the site's model carry a profile with these slots.
    ///
    /// # Errors
    /// `kdhctl` fails, for example because they carry one.
    pub fn carry_profile(&self, slots: &[ProfileSlot]) -> Result<()> {
        self.carry_profile_at(["--model", MODEL], slots)
    }

    /// The same, of another model or of a group.
    ///
    /// # Errors
    /// `kdhctl` fails, for example because there is such a profile.
    pub fn carry_profile_at(&self, target: [&str; 2], slots: &[ProfileSlot]) -> Result<()> {
        let mut profile = "name = \"own\"\n".to_owned();
        for slot in slots {
            write!(
                profile,
                "\n[[slots]]\nslot = \"{}\"\nheader = \"{}\"\nkind = \"{}\"\nvalidity-days = 365\n{}\n",
                slot.name, slot.header, slot.kind, slot.more
            )?;
        }
        let file = self.folder().join("own.toml");
        fs::write(&file, profile)?;
        let file = file.to_str().context("the folder's name")?;
        self.operate(&["profile", "put", file, "--yes", "--why", "a key for each"])?;
        let assign = [
            "profile",
            "assign",
            "own",
            "--yes",
            "--why",
            "a key for each",
        ];
        self.operate(&[&assign[..], &target].concat())?;
        Ok(())
    }

    /// Gives a terminal the next version that its profile says, and says which one that is.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn assign_by_profile(&self, serial: &str, slot: &str) -> Result<u64> {
        let device = ["--device", serial, "--slot", slot, "--by-profile"];
        let assigned = self.operate(&[&["key", "assign"][..], &device].concat())?;
        assigned["key_version"].as_u64().context("no version")
    }

    /// One operator asks for new storage keys, and another one approves.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn approve_rotation(&self) -> Result<()> {
        let asked = self.operate_as(OPERATOR, &["storage", "rotate", "--why", "yearly"])?;
        self.approve(&asked)
    }

    /// Another operator than the one who has asked for something approves it.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn approve(&self, asked: &Value) -> Result<()> {
        let approve = ["approval", "approve", text(asked, "/id")?];
        self.operate_as(KEY_OFFICER, &approve).map(drop)
    }

    /// Waits for the end of what [`Self::approve_rotation`] began. Says which pairs there are then.
    ///
    /// # Errors
    /// `kdhctl` fails.
    pub fn watch_rotation(&self) -> Result<Value> {
        let watched = self.operate(&["storage", "watch", "--seconds", "1"])?;
        Ok(watched["pairs"].clone())
    }
}
