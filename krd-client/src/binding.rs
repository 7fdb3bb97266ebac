//! Whom the terminal is bound to, and what each token may change about that: one table, as a pure
//! function. That a token is authentic is verified before it comes here.

use pki::{Certificate, VerifiedCredential};
use sha2::{Digest as _, Sha256};
use tr34::{IssuerAndSerial, MalformedToken};

/// Far more often than this no terminal loses its KDH. The list is never shortened, since a KDH that
/// dropped out of it could be gone back to.
const MAX_WITHDRAWALS: usize = 32;

/// A KDH, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kdh {
    certificate: Certificate,
    id: IssuerAndSerial,
}

impl Kdh {
    /// The KDH of this certificate, of whose trust this says nothing.
    ///
    /// # Errors
    /// Never for a certificate that was parsed; the message library has the last word.
    pub fn new(certificate: Certificate) -> Result<Self, MalformedToken> {
        Ok(Self {
            id: certificate.issuer_and_serial()?,
            certificate,
        })
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// How tokens name it.
    pub const fn id(&self) -> &IssuerAndSerial {
        &self.id
    }
}

impl From<&VerifiedCredential> for Kdh {
    fn from(credential: &VerifiedCredential) -> Self {
        Self {
            certificate: credential.certificate().clone(),
            id: credential.id().clone(),
        }
    }
}

/// SHA-256 of a token: how terminal and host speak about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of these bytes.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// From its own bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The binding of a terminal: where it stands, and what it has behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Where it stands.
    pub state: BindingState,
    /// What `CA_KRD` has taken it away from, in their order.
    pub withdrawals: Vec<Withdrawal>,
}

/// Where a terminal stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BindingState {
    /// Bound to nobody, and without any key: from the start, or since it was unbound.
    #[default]
    Unbound,
    /// Bound to this KDH, which the keys belong to: by `CT_KDH`, or by a rebind token, and then the
    /// keys were kept.
    Bound(Kdh),
    /// It has taken a token that unbinds it, and has not destroyed all of its keys yet. It takes
    /// nothing before that is done.
    Unbinding {
        /// The KDH that it was bound to.
        from: Kdh,
        /// The token that unbinds it.
        token: TokenDigest,
    },
}

/// A token of `CA_KRD` that was obeyed.
///
/// These tokens carry nothing fresh, so that anybody may send them again. What they name is therefore
/// never gone back to: they are for a KDH that is lost, and one that is found again gets another
/// certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The token.
    pub token: TokenDigest,
    /// The KDH that it took the terminal away from.
    pub kdh: IssuerAndSerial,
}

/// What an authentic token says about the binding.
#[derive(Clone, Copy, Debug)]
pub enum AuthenticToken<'a> {
    /// `CT_KDH`: here is this KDH.
    KdhCredential {
        /// Whose credential it is.
        kdh: &'a Kdh,
    },
    /// `KT_KDH`, one-pass or two-pass: load this key.
    Key {
        /// Who signed it.
        signer: &'a Kdh,
    },
    /// `UBT_KDH`: be unbound.
    KdhUnbind {
        /// Which one it is.
        token: TokenDigest,
        /// Who signed it.
        signer: &'a Kdh,
    },
    /// `RBT_KDH`: be bound to another KDH.
    KdhRebind {
        /// Who signed it.
        signer: &'a Kdh,
        /// The other one.
        new: &'a Kdh,
    },
    /// `UBT_CA`: be unbound, says `CA_KRD`.
    CaUnbind {
        /// Which one it is.
        token: TokenDigest,
        /// The KDH that it is about.
        kdh: &'a IssuerAndSerial,
    },
    /// `RBT_CA`: be bound to another KDH, says `CA_KRD`.
    CaRebind {
        /// Which one it is.
        token: TokenDigest,
        /// The KDH that it is about.
        kdh: &'a IssuerAndSerial,
        /// The other one.
        new: &'a Kdh,
    },
}

/// Why an authentic token is refused in the present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingRefusal {
    /// Nobody has anything to say to it but who binds it.
    #[error("the terminal is not bound: run \"krd bind\" first")]
    NotBound,
    /// The terminal is bound to another one.
    #[error("this is not the KDH that the terminal is bound to")]
    OtherKdh,
    /// It is to be bound to the KDH that it is bound to.
    #[error("the terminal is bound to this KDH already")]
    SameKdh,
    /// `CA_KRD` took it away from there.
    #[error("CA_KRD took the terminal away from this KDH, and it does not go back there")]
    WithdrawnKdh,
    /// The token of `CA_KRD` was obeyed before.
    #[error("this token was obeyed before")]
    ObeyedBefore,
    /// There is no room to remember another token of `CA_KRD`, and none is obeyed unremembered.
    #[error("the terminal was taken away from {MAX_WITHDRAWALS} KDHs and can remember no more")]
    TooManyWithdrawals,
    /// An earlier token is being obeyed still.
    #[error("the terminal is being unbound, and has keys to destroy yet")]
    Unbinding,
}

impl BindingRefusal {
    /// The stable word for it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotBound => "not-bound",
            Self::OtherKdh => "other-kdh",
            Self::SameKdh => "same-kdh",
            Self::WithdrawnKdh => "withdrawn-kdh",
            Self::ObeyedBefore => "token-obeyed-before",
            Self::TooManyWithdrawals => "too-many-withdrawals",
            Self::Unbinding => "unbinding",
        }
    }
}

impl Binding {
    /// What becomes of the binding by a token:
    ///
    /// | token | unbound | bound | unbinding |
    /// |---|---|---|---|
    /// | `CT_KDH` | bound to its KDH, unless withdrawn from it | of the bound KDH: as before | refused |
    /// | `KT_KDH` | refused | by the bound KDH: as before | refused |
    /// | `UBT_KDH` | refused | by the bound KDH: unbinding | refused |
    /// | `RBT_KDH` | refused | by the bound KDH: bound to the new one, unless withdrawn from it | refused |
    /// | `UBT_CA` | refused | about the bound KDH: unbinding, withdrawn | refused |
    /// | `RBT_CA` | refused | about the bound KDH: bound to the new one, unless withdrawn from it; withdrawn | refused |
    ///
    /// # Errors
    /// The token is not to be obeyed, and everything stays as it is.
    pub fn after(&self, token: &AuthenticToken<'_>) -> Result<Self, BindingRefusal> {
        let bound = match &self.state {
            BindingState::Unbinding { .. } => return Err(BindingRefusal::Unbinding),
            BindingState::Unbound => None,
            BindingState::Bound(kdh) => Some(kdh),
        };
        match *token {
            AuthenticToken::KdhCredential { kdh } => match bound {
                None => self.bound_to(kdh),
                Some(bound) => require_same(bound, kdh).map(|()| self.clone()),
            },
            AuthenticToken::Key { signer } => {
                require_same(require_bound(bound)?, signer)?;
                Ok(self.clone())
            }
            AuthenticToken::KdhUnbind { token, signer } => {
                let bound = require_bound(bound)?;
                require_same(bound, signer)?;
                Ok(self.unbinding(bound, token))
            }
            AuthenticToken::KdhRebind { signer, new } => {
                let bound = require_bound(bound)?;
                require_same(bound, signer)?;
                self.moved(bound, new)
            }
            AuthenticToken::CaUnbind { token, kdh } => {
                let (bound, after) = self.withdrawn(bound, token, kdh)?;
                Ok(after.unbinding(bound, token))
            }
            AuthenticToken::CaRebind { token, kdh, new } => {
                let (bound, after) = self.withdrawn(bound, token, kdh)?;
                after.moved(bound, new)
            }
        }
    }

    /// What becomes of an unbinding once the last key is destroyed.
    #[must_use]
    pub fn after_destruction(&self) -> Self {
        match self.state {
            BindingState::Unbinding { .. } => Self {
                state: BindingState::Unbound,
                withdrawals: self.withdrawals.clone(),
            },
            BindingState::Unbound | BindingState::Bound(_) => self.clone(),
        }
    }

    /// The KDH that the terminal is bound to.
    ///
    /// # Errors
    /// It is bound to none.
    pub const fn kdh(&self) -> Result<&Kdh, BindingRefusal> {
        match &self.state {
            BindingState::Bound(kdh) => Ok(kdh),
            BindingState::Unbound => Err(BindingRefusal::NotBound),
            BindingState::Unbinding { .. } => Err(BindingRefusal::Unbinding),
        }
    }

    fn bound_to(&self, kdh: &Kdh) -> Result<Self, BindingRefusal> {
        if self.withdrawals.iter().any(|left| left.kdh == kdh.id) {
            return Err(BindingRefusal::WithdrawnKdh);
        }
        Ok(Self {
            state: BindingState::Bound(kdh.clone()),
            withdrawals: self.withdrawals.clone(),
        })
    }

    fn moved(&self, bound: &Kdh, new: &Kdh) -> Result<Self, BindingRefusal> {
        if new.id == bound.id {
            return Err(BindingRefusal::SameKdh);
        }
        self.bound_to(new)
    }

    fn unbinding(&self, from: &Kdh, token: TokenDigest) -> Self {
        Self {
            state: BindingState::Unbinding {
                from: from.clone(),
                token,
            },
            withdrawals: self.withdrawals.clone(),
        }
    }

    /// The bound KDH, and the binding with the withdrawal from it noted.
    fn withdrawn<'k>(
        &self,
        bound: Option<&'k Kdh>,
        token: TokenDigest,
        kdh: &IssuerAndSerial,
    ) -> Result<(&'k Kdh, Self), BindingRefusal> {
        if self.withdrawals.iter().any(|obeyed| obeyed.token == token) {
            return Err(BindingRefusal::ObeyedBefore);
        }
        let bound = require_bound(bound)?;
        if bound.id != *kdh {
            return Err(BindingRefusal::OtherKdh);
        }
        if self.withdrawals.len() >= MAX_WITHDRAWALS {
            return Err(BindingRefusal::TooManyWithdrawals);
        }
        let mut after = self.clone();
        after.withdrawals.push(Withdrawal {
            token,
            kdh: kdh.clone(),
        });
        Ok((bound, after))
    }
}

fn require_bound(bound: Option<&Kdh>) -> Result<&Kdh, BindingRefusal> {
    bound.ok_or(BindingRefusal::NotBound)
}

/// The same to the byte: a certificate that shares issuer and serial number with the bound one and is
/// another is somebody else's.
fn require_same(bound: &Kdh, other: &Kdh) -> Result<(), BindingRefusal> {
    if bound == other {
        return Ok(());
    }
    Err(BindingRefusal::OtherKdh)
}
