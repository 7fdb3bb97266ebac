//! What a token can do, by its own list and by trying.

use std::fmt;

use tr34::OaepHash;

use crate::{HsmError, combine, seal, self_test, worker::Worker};

/// How key blocks are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealingWay {
    /// CBC in three parts, the middle one by wrapping Kn.
    Splice,
}

/// How components are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CombiningWay {
    /// `CKM_XOR_BASE_AND_DATA`.
    Xor,
    /// AES key wrap, computed from CBC wrapping.
    KeyWrap,
}

/// What a token would have to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<String>);

/// What a token can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How key blocks are sealed.
    pub sealing: Result<SealingWay, Missing>,
    /// The hashes with which a throw-away key could be sealed and opened.
    pub oaep: Vec<OaepHash>,
    /// How components are combined.
    pub combining: Result<CombiningWay, Missing>,
    /// The mechanisms that the token lists, `CKM_...`, sorted.
    pub mechanisms: Vec<String>,
}

/// A self-test that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTestReport {
    /// How key blocks are sealed.
    pub way: SealingWay,
    /// The hash in RSA-OAEP.
    pub oaep: OaepHash,
    /// Lengths of the keys that were sealed and opened.
    pub key_lengths: Vec<usize>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" and "))
    }
}

pub(crate) fn probe(worker: &Worker) -> Result<Capabilities, HsmError> {
    let place = &worker.place;
    let mut oaep = Vec::new();
    let mut faults = Vec::new();
    for hash in [OaepHash::Sha256, OaepHash::Sha1] {
        match self_test::run(worker, hash) {
            Ok(_) => oaep.push(hash),
            Err(lost @ HsmError::Unavailable { .. }) => return Err(lost),
            Err(HsmError::Unsupported { missing, .. }) => {
                faults = missing.into_iter().map(str::to_owned).collect();
            }
            Err(error) => faults.push(error.to_string()),
        }
    }
    let sealing = if oaep.is_empty() {
        Err(Missing(faults))
    } else {
        Ok(seal::choose(place)?)
    };
    let combining = combine::choose(place)
        .map_err(|missing| Missing(missing.into_iter().map(str::to_owned).collect()));
    let mut mechanisms: Vec<String> = place.mechanisms.iter().map(ToString::to_string).collect();
    mechanisms.sort();
    Ok(Capabilities {
        sealing,
        oaep,
        combining,
        mechanisms,
    })
}
