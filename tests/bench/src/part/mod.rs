//! What is measured in a process of its own, so that its processor time and its memory can be told from
//! everything else: this program, started again, which reads what to do and prints what it found.

pub(crate) mod count;
pub(crate) mod load;
pub(crate) mod macs;
pub(crate) mod raw;
pub(crate) mod raw_keys;
pub(crate) mod raw_sign;
pub(crate) mod tokens;

use std::io;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use system_tests::site::Site;

use crate::print;

/// A measure, in words that the next process understands.
pub(crate) trait Measure: Into<Part> {
    /// What it finds.
    type Found: Serialize + DeserializeOwned;

    /// Takes it here and now.
    fn measure(self) -> Result<Self::Found>;
}

/// Any of them.
#[derive(Serialize, Deserialize)]
pub(crate) enum Part {
    Macs(macs::Macs),
    RawKeys(raw_keys::RawKeys),
    RawSign(raw_sign::RawSign),
    Tokens(tokens::Tokens),
    Closed(load::Closed),
    Scheduled(load::Scheduled),
    Single(load::Single),
    Runs(load::Runs),
    Connections(load::Connections),
    Count(count::Count),
}

/// Makes each measure a [`Part`], and finds out which one was asked for.
macro_rules! parts {
    ($($name:ident: $measure:ty),+ $(,)?) => {
        $(impl From<$measure> for Part {
            fn from(measure: $measure) -> Self {
                Self::$name(measure)
            }
        })+

        impl Part {
            fn measure(self) -> Result<String> {
                Ok(match self {
                    $(Self::$name(measure) => serde_json::to_string(&measure.measure()?)?,)+
                })
            }
        }
    };
}

parts! {
    Macs: macs::Macs,
    RawKeys: raw_keys::RawKeys,
    RawSign: raw_sign::RawSign,
    Tokens: tokens::Tokens,
    Closed: load::Closed,
    Scheduled: load::Scheduled,
    Single: load::Single,
    Runs: load::Runs,
    Connections: load::Connections,
    Count: count::Count,
}

/// Has a measure taken in a process that can reach the tokens of the site's HSM.
pub(crate) fn apart<M: Measure>(site: &Site, measure: M) -> Result<M::Found> {
    let this = std::env::current_exe()?;
    let part: Part = measure.into();
    let ended = site
        .hsm()?
        .program(this, &site.log("bench"))
        .arg("part")
        .input(&serde_json::to_vec(&part)?)
        .succeed()?;
    serde_json::from_str(&ended.stdout).with_context(|| ended.last_words())
}

/// What that process does.
pub(crate) fn run_this() -> Result<()> {
    let part: Part = serde_json::from_reader(io::stdin()).context("bench part is for bench")?;
    print(&part.measure()?)
}
