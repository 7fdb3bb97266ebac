//! What one delivery takes that can be counted: calls of PKCS#11 with their time, and bytes on the wire.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use system_tests::faults::Faults;

use super::{
    Measure,
    load::{Target, one_by_one},
};
use crate::relay::relay;

/// Before anything is counted: every session of the host has looked at its keys.
const FIRST: u32 = 20;
/// Counted ones.
const DELIVERIES: u32 = 20;

/// Some deliveries on one connection, one after another.
#[derive(Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) target: Target,
    /// The control of the module with faults, which counts calls.
    pub(crate) control: PathBuf,
}

/// What each of them took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// By function, those without any left out.
    pub(crate) calls: BTreeMap<String, f64>,
    /// Milliseconds in the module, by function.
    pub(crate) call_ms: BTreeMap<String, f64>,
    /// That the terminal sent, TLS included.
    pub(crate) bytes_sent: f64,
    /// That it received.
    pub(crate) bytes_received: f64,
    /// What was signed in the last one.
    pub(crate) signed_len: usize,
}

impl Measure for Count {
    type Found = Counted;

    fn measure(self) -> Result<Counted> {
        let mut faults = Faults::connect(&self.control)?;
        one_by_one(&self.target, async |opened| {
            let (address, counters) = relay(&self.target.address).await?;
            let mut client = opened.connect(0, Some(&address)).await?;
            for _ in 0..FIRST {
                opened.deliver(&mut client).await?;
            }
            let (calls_before, times_before) = (faults.counts()?, faults.times()?);
            let bytes_before = counters.read();
            let mut signed_len = 0;
            for _ in 0..DELIVERIES {
                let (_, token) = opened.deliver(&mut client).await?;
                signed_len = token.signed_by().signed_bytes().len();
            }
            let (calls, times, bytes) = (faults.counts()?, faults.times()?, counters.read());
            let [sent, received] = [0, 1].map(|at| each(bytes[at] - bytes_before[at]));
            Ok(Counted {
                calls: more(&calls_before, &calls),
                call_ms: milliseconds(more(&times_before, &times)),
                bytes_sent: sent?,
                bytes_received: received?,
                signed_len,
            })
        })
    }
}

/// The share of one delivery.
fn each(all: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(all)?) / f64::from(DELIVERIES))
}

/// What has been added.
fn more(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    let calls = after.iter().filter_map(|(function, count)| {
        let added = count - before.get(function).unwrap_or(&0);
        let calls = each(added).ok().filter(|calls| *calls > 0.0)?;
        Some((function.clone(), calls))
    });
    calls.collect()
}

fn milliseconds(mut micros: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    for time in micros.values_mut() {
        *time /= 1000.0;
    }
    micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shared_out() {
        let counts = |counts: [(&str, u64); 2]| counts.map(|(name, n)| (name.to_owned(), n)).into();
        let before = counts([("C_Login", 2), ("C_Sign", 5)]);
        let after = counts([("C_Login", 2), ("C_Sign", 45)]);
        assert_eq!(more(&before, &after), [("C_Sign".to_owned(), 2.0)].into());
        let new = more(&BTreeMap::new(), &after);
        assert_eq!(new.len(), 2);
    }
}
