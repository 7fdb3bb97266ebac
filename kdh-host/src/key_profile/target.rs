//! What carries a key profile.

use std::fmt;

use kdh_proto::{
    Reason,
    v1::{KeyProfileTarget, key_profile_target},
};

use crate::{
    HostError,
    error::refused,
    names::{GroupName, Model},
};

/// What carries a key profile. That of a group stands in place of that of a model, whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Model(Model),
    Group(GroupName),
}

impl Target {
    /// From the database. `None` if it names nothing that can carry a profile.
    pub(crate) fn of_parts(kind: &str, name: &str) -> Option<Self> {
        match kind {
            "MODEL" => Model::parse(name).ok().map(Self::Model),
            "GROUP" => GroupName::parse(name).ok().map(Self::Group),
            _ => None,
        }
    }

    /// The word in the database and in the audit trail.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "MODEL",
            Self::Group(_) => "GROUP",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Model(name) => name.as_str(),
            Self::Group(name) => name.as_str(),
        }
    }

    /// As an operator names it.
    pub(crate) fn parse(message: Option<&KeyProfileTarget>) -> Result<Self, HostError> {
        match message.and_then(|message| message.target.as_ref()) {
            Some(key_profile_target::Target::Model(name)) => Ok(Self::Model(Model::parse(name)?)),
            Some(key_profile_target::Target::Group(name)) => {
                Ok(Self::Group(GroupName::parse(name)?))
            }
            None => Err(refused(
                Reason::RequestInvalid,
                "nothing is named that shall carry it: name a model or a group",
            )),
        }
    }

    pub(crate) fn to_message(&self) -> KeyProfileTarget {
        let name = self.name().to_owned();
        KeyProfileTarget {
            target: Some(match self {
                Self::Model(_) => key_profile_target::Target::Model(name),
                Self::Group(_) => key_profile_target::Target::Group(name),
            }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(name) => write!(f, "model {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}
