//! This host's KDH credentials: the present one, to which terminals are bound from now on, and those
//! before it, to which some still are until they are handed over.

use hsm::SigningKey;
use pki::Certificate;
use tr34::IssuerAndSerial;

use crate::{Host, HostError};

/// A credential: the key in the HSM and its certificate.
#[derive(Clone, Debug)]
pub(crate) struct Kdh {
    pub(crate) key: SigningKey,
    pub(crate) certificate: Certificate,
    /// How tokens name it.
    pub(crate) id: IssuerAndSerial,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Kdhs {
    pub(crate) present: Kdh,
    pub(crate) retiring: Vec<Kdh>,
}

impl Kdhs {
    /// Each, the present one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Kdh> {
        [&self.present].into_iter().chain(&self.retiring)
    }

    /// The one that is named.
    pub(crate) fn find(&self, id: &IssuerAndSerial) -> Option<&Kdh> {
        self.all().find(|kdh| kdh.id == *id)
    }

    /// Whether a terminal that is bound to this one is to be handed over.
    pub(crate) fn is_retiring(&self, id: &IssuerAndSerial) -> bool {
        self.retiring.iter().any(|kdh| kdh.id == *id)
    }
}

/// How a KDH stands with this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KdhState {
    /// Terminals are bound to it.
    Present,
    /// Terminals are handed over from it.
    Retiring,
    /// The last terminal has left it.
    Retired,
    /// Terminals are bound to it, and this host does not have it.
    Absent,
}

impl KdhState {
    /// The word in answers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "PRESENT",
            Self::Retiring => "RETIRING",
            Self::Retired => "RETIRED",
            Self::Absent => "ABSENT",
        }
    }
}

/// A KDH, and how many devices are bound to it.
#[derive(Debug)]
pub(crate) struct KdhStanding {
    pub(crate) id: IssuerAndSerial,
    /// If it is one of this host's.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) state: KdhState,
    pub(crate) devices: i64,
}

/// This host's KDHs, the present one first, and others to which its devices are bound.
pub(crate) async fn list(host: &Host) -> Result<Vec<KdhStanding>, HostError> {
    let mut bound = host.store().read(host.now()).await?.bound_kdhs().await?;
    let kdhs = host.keys().kdhs();
    let mut take = |kdh: &IssuerAndSerial| {
        let at = bound.iter().position(|bound| bound.id == *kdh);
        at.map_or(0, |at| bound.swap_remove(at).devices)
    };
    let mut list: Vec<_> = kdhs
        .all()
        .map(|kdh| {
            let devices = take(&kdh.id);
            let state = match (kdhs.is_retiring(&kdh.id), devices) {
                (false, _) => KdhState::Present,
                (true, 0) => KdhState::Retired,
                (true, _) => KdhState::Retiring,
            };
            KdhStanding {
                id: kdh.id.clone(),
                certificate: Some(kdh.certificate.clone()),
                state,
                devices,
            }
        })
        .collect();
    // Who was handed over to another host is bound to that one's.
    bound.retain(|bound| bound.devices > bound.rebound);
    list.extend(bound.into_iter().map(|bound| KdhStanding {
        id: bound.id,
        certificate: None,
        state: KdhState::Absent,
        devices: bound.devices - bound.rebound,
    }));
    Ok(list)
}
