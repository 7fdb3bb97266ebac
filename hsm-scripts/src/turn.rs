//! A participant's turn: their own token, open for as long as it lasts.

use std::fmt;

use hsm::{HsmError, KeyRole, Pin, SigningKey};
use pki::Signer as _;
use serde_json::{Value, json};

use crate::{
    CeremonyError, People, Plan, error,
    plan::ParticipantPlan,
    tokens::{self, Opened},
};

/// Whose turn it is. Their token is closed with it, so that nobody signs in their absence.
pub(crate) struct Turn {
    pub(crate) who: String,
    pub(crate) key: SigningKey,
    /// How their signatures name them.
    signer: Value,
}

/// Why a participant's turn did not begin. The ceremony goes no further.
#[derive(Debug)]
pub(crate) enum NoTurn {
    Token(CeremonyError),
    OtherKey,
}

impl Turn {
    /// Opens somebody's token, whose PIN is tried once, and finds the certified key in it.
    pub(crate) fn begin(
        plan: &Plan,
        who: &str,
        participant: &ParticipantPlan,
        people: &mut dyn People,
    ) -> Result<Self, CeremonyError> {
        let name = plan.name_of(who).into_owned();
        Self::open(&name, who, participant, people).map_err(|cause| CeremonyError::Participant {
            name,
            token: participant.token.label.clone(),
            cause: cause.to_string(),
        })
    }

    fn open(
        name: &str,
        who: &str,
        participant: &ParticipantPlan,
        people: &mut dyn People,
    ) -> Result<Self, NoTurn> {
        let settings = &participant.token;
        let pin = if let Some(file) = &settings.pin_file {
            Pin::from_file(file)?
        } else {
            people
                .ask_pin(&settings.label, Some(name))
                .map_err(NoTurn::Token)?
        };
        let Opened { token, info, .. } = tokens::open(settings, &pin, &hsm::Operations::default())?;
        let key = token.signing_key(KeyRole::Custodian, &participant.key)?;
        if key.public_key() != participant.certificate.public_key() {
            return Err(NoTurn::OtherKey);
        }
        Ok(Self {
            who: who.to_owned(),
            key,
            signer: json!({
                "by": who,
                "certificate-sha256": hex::encode(participant.certificate.fingerprint()),
                "token": info.label,
                "token-serial": info.serial,
            }),
        })
    }

    /// The detail of a signature of theirs.
    pub(crate) fn signer(&self) -> Value {
        self.signer.clone()
    }
}

impl From<HsmError> for NoTurn {
    fn from(error: HsmError) -> Self {
        Self::Token(error.into())
    }
}

impl fmt::Display for NoTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(CeremonyError::Hsm(error @ HsmError::KeyNotFound { .. })) => {
                write!(f, "{error}; bring the token whose key was certified, or correct the plan")
            }
            Self::Token(CeremonyError::Hsm(error)) => {
                write!(f, "{error}{}", error::next_step(error))
            }
            Self::Token(error) => error.fmt(f),
            Self::OtherKey => f.write_str(
                "its key is not the one of the certificate; bring the token whose key was certified, \
                 or correct the plan",
            ),
        }
    }
}
