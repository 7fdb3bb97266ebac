//! Terminals that something is about, where those are a model's or a group's.

use std::fmt;

use serde_json::{Value, json};

pub(super) enum Terminals<'a> {
    OfModel(&'a str),
    InGroup(&'a str),
}

impl Terminals<'_> {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::OfModel(name) => json!({"model": name}),
            Self::InGroup(name) => json!({"group": name}),
        }
    }

    /// As commands take them.
    pub(super) fn as_option(&self) -> String {
        match self {
            Self::OfModel(name) => format!("--model \"{name}\""),
            Self::InGroup(name) => format!("--group \"{name}\""),
        }
    }
}

impl fmt::Display for Terminals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfModel(name) => write!(f, "model {name}"),
            Self::InGroup(name) => write!(f, "group {name}"),
        }
    }
}
