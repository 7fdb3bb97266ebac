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

    /// That there are none: a name that is mistyped looks no different.
    pub(super) fn none_yet(&self) -> String {
        format!(
            "There is no terminal of {self} yet. Names count as they are written: see kdhctl device list."
        )
    }

    /// As commands take them.
    pub(super) fn as_option(&self) -> String {
        match self {
            Self::OfModel(name) => format!("--model {}", quoted(name)),
            Self::InGroup(name) => format!("--group {}", quoted(name)),
        }
    }
}

/// For a shell, which is to take nothing in it for its own.
fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', r"'\''"))
}

impl fmt::Display for Terminals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfModel(name) => write!(f, "model {name}"),
            Self::InGroup(name) => write!(f, "group {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_name_as_it_is() {
        for (name, option) in [
            ("Model X", "--model 'Model X'"),
            ("X$(id)`id`", "--model 'X$(id)`id`'"),
            ("Bob's \"X\"", r#"--model 'Bob'\''s "X"'"#),
        ] {
            assert_eq!(Terminals::OfModel(name).as_option(), option);
        }
        assert_eq!(Terminals::InGroup("pilot").as_option(), "--group 'pilot'");
    }
}
