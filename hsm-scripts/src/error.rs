//! Why a ceremony did not begin, or stopped.

use std::path::{Path, PathBuf};

use hsm::{HsmError, Kcv};

/// What went wrong, and what stands.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The plan is not executable; every fault is named. No HSM was opened.
    #[error(
        "the plan has faults:\n  {}\nNothing has happened. Mend them; the plan has another digest then: print and \
         review it again.",
        .0.join("\n  ")
    )]
    Plan(Vec<String>),
    /// The people in the room did not agree.
    #[error("stopped: {0}")]
    Declined(String),
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The HSM.
    #[error("HSM: {0}{next}", next = next_step(.0))]
    Hsm(HsmError),
    /// A certificate or revocation list could not be made.
    #[error("{0}")]
    Pki(String),
    /// Somebody could not take their turn.
    #[error("{name} cannot take part: token {token:?}: {cause}")]
    Participant {
        /// Who.
        name: String,
        /// The label of their token.
        token: String,
        /// What is in the way, and what to do.
        cause: String,
    },
    /// Somebody would hold two components of a key, or nobody could tell.
    #[error("custody: {0}")]
    Custody(String),
    /// A component that is not the one of the plan. It was not used.
    #[error(
        "component {number} of {custodian} has the check value {found}, and the plan says {expected}; it was not \
         used. Compare sheet and plan with whoever made the components"
    )]
    ComponentKcv {
        /// Whose it is.
        custodian: String,
        /// Counted from 1.
        number: u32,
        /// In the plan.
        expected: Kcv,
        /// What the HSM computed.
        found: Kcv,
    },
    /// Components from files do not make the announced key.
    #[error(
        "the sum of the components has the check value {found}, not {expected}: some component is not what it should \
         be, or the plan is wrong. No key was made; compare components and plan with whoever made them"
    )]
    SumKcv {
        /// What was announced.
        expected: Kcv,
        /// What the HSM computed.
        found: Kcv,
    },
    /// A key that arrived encrypted is another one than announced.
    #[error(
        "the key that arrived has the check value {found}, and the plan says {expected}; it was not kept. Compare it \
         with the sender, by another way than the key came, and have the key sent again or correct the plan"
    )]
    ArrivedKcv {
        /// What was announced.
        expected: Kcv,
        /// What the HSM computed.
        found: Kcv,
    },
    /// What the token keeps of a sum is not what the plan says of it.
    #[error(
        "the record of the partial sum of {key} does not agree with the plan: {what}. Somebody changed it who has the \
         token's PIN: find out who. `kdh-ceremony sums destroy` destroys the sum; start from the first component then"
    )]
    SumChanged {
        /// The key's label.
        key: String,
        /// What differs.
        what: &'static str,
    },
    /// A sum expired after its sitting had begun.
    #[error(
        "the partial sum of {key} expired while a component was waited for, and was destroyed. Start from the first \
         component"
    )]
    SumExpired {
        /// The key's label.
        key: String,
    },
    /// Every try to make the announced key of the components failed.
    #[error(
        "the combined check value is {found}, not {expected}, for the third time: what there was of the sum was \
         destroyed. Have each custodian compare component and check value with whoever made them, then start from \
         the first component"
    )]
    ThreeWrong {
        /// What was announced.
        expected: Kcv,
        /// What the HSM computed.
        found: Kcv,
    },
    /// The key was begun by another plan, or by this one before it was changed.
    #[error(
        "the token keeps a partial sum of {key} ({components} components) from another plan, digest {plan}, act \
         {act}. Go on with that plan as it was confirmed; or destroy the sum, `kdh-ceremony sums destroy`, and \
         start this plan from its first component"
    )]
    OtherPlan {
        /// The key's label.
        key: String,
        /// SHA-256, hex.
        plan: String,
        /// Counted from 1.
        act: u32,
        /// How many components are in it.
        components: usize,
    },
    /// Storage keys would be older by their number than some that are there.
    #[error(
        "the token holds {label} already, and numbers of storage keys are used in their order, each once; correct the plan's"
    )]
    LaterStorageKey {
        /// Of one of them.
        label: String,
    },
    /// The tokens are not as an act needs them. Nothing has happened.
    #[error("act {number} ({name}) cannot be done: {cause}\nNothing has happened.")]
    AtTheOutset {
        /// Counted from 1.
        number: usize,
        /// The kind of act.
        name: &'static str,
        /// What is in the way.
        cause: Box<CeremonyError>,
    },
    /// An act failed. What it had made was taken back; the acts before it stand.
    #[error("act {number} ({name}) failed: {cause}\n{}", way_on(*.number, .left, .standing))]
    Act {
        /// Counted from 1.
        number: usize,
        /// The kind of act.
        name: &'static str,
        /// What happened.
        cause: Box<CeremonyError>,
        /// What the act had made and could not be taken back.
        left: Vec<String>,
        /// The acts that stand, with what they made.
        standing: Vec<String>,
    },
}

// Its message holds that of the HSM's error, which is therefore not its source.
impl From<HsmError> for CeremonyError {
    fn from(error: HsmError) -> Self {
        Self::Hsm(error)
    }
}

impl CeremonyError {
    pub(crate) fn file(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn pki(cause: impl std::fmt::Display) -> Self {
        Self::Pki(cause.to_string())
    }
}

/// What to do next, where the HSM's error does not say it itself.
pub(crate) const fn next_step(error: &HsmError) -> &'static str {
    match error {
        HsmError::ModuleNotLoaded { .. } => ". See to the library, or correct the plan",
        HsmError::PinIncorrect { .. } => {
            "; it was tried once: make sure of it, and of how many tries the token has left"
        }
        HsmError::PinLocked { .. } => ". Have the token's security officer unlock it",
        HsmError::PinFile { .. } => ". See to the file, and start again",
        HsmError::TokenNotFound { .. } => "; connect it, or correct the plan",
        HsmError::TokenNotUnique { .. } => "; name its serial number in the plan",
        HsmError::TokenExists { .. } => {
            "; choose another label, or correct the plan if it is the one that is meant"
        }
        HsmError::TokenInUse { .. } => "; name it once in the plan",
        HsmError::NoFreeSlot => "; have one freed, or connect another token",
        HsmError::KeyNotFound { .. } => "; bring the token that holds it, or correct the plan",
        HsmError::KeyNotUnique { .. } => "; find out who made the second one",
        HsmError::KeyExists { .. } => {
            "; find out which ceremony made it. No key is replaced: choose another label, or correct the plan"
        }
        HsmError::WeakKey { .. } => ". Find out who made it, and have it made again in a ceremony",
        HsmError::Unsupported { .. } => {
            ". Choose another way (docs/hsm-compatibility.md), or another HSM"
        }
        HsmError::SelfTest { .. } => ". Have `kdh-ceremony hsm check` say what the token can do",
        HsmError::Unavailable { .. } | HsmError::Busy | HsmError::Call { .. } => {
            ". See to the HSM and its connection, and start again"
        }
        HsmError::KcvMismatch { .. } => ". Compare it with whoever announced it",
        HsmError::BadComponent { .. } => {
            ". It cannot be what was given out: stop, and ask whoever made the components"
        }
        HsmError::BadSum { .. } => ". Ask whoever made the components for others",
        HsmError::SumExists { .. } => "; start again, and it is gone on with",
        HsmError::KeyDiffers { .. } => ". Find out which one is right",
        HsmError::KeyLength { .. } | HsmError::KeyKind { .. } => {
            ". Correct the kind, or have the key sent again"
        }
        HsmError::UsageNotAllowed { .. } | HsmError::WrongRole { .. } => {
            "; name the key that was made for this"
        }
        HsmError::OpeningFailed => ". Have it sent again",
        HsmError::Storage(_) => ". Find out who changed what is stored",
        // These say it themselves.
        HsmError::Name(_)
        | HsmError::WeakCipher { .. }
        | HsmError::Derivation(_)
        | HsmError::Export(_)
        | HsmError::Import(_)
        | HsmError::Upstream(_)
        | HsmError::BadAnswer { .. } => "",
    }
}

/// What stands, and how to go on from there.
fn way_on(failed: usize, left: &[String], standing: &[String]) -> String {
    let mut text = String::new();
    if !left.is_empty() {
        text = format!(
            "This could not be taken back; see to it by hand:\n  {}\n",
            left.join("\n  ")
        );
    }
    text + &if standing.is_empty() {
        "No act stands. Keep the transcript under another name, mend the cause, and execute the \
         same plan again."
            .to_owned()
    } else {
        format!(
            "These acts stand, and a plan that holds one of them is refused:\n  {}\nTo go on, mend \
             the cause and write a plan with act {failed} and those behind it, and another \
             transcript.",
            standing.join("\n  ")
        )
    }
}

impl From<hsm::NameError> for CeremonyError {
    fn from(error: hsm::NameError) -> Self {
        Self::Hsm(error.into())
    }
}

impl From<pki::IssueError<HsmError>> for CeremonyError {
    fn from(error: pki::IssueError<HsmError>) -> Self {
        match error {
            pki::IssueError::Signing(error) => Self::Hsm(error),
            other => Self::pki(other),
        }
    }
}
