//! Obeying a token that unbinds or rebinds, so that being cut off anywhere ends the same.

use kdh_proto::Reason;
use serde::Serialize;

use crate::{
    Binding, BindingState, CallError, Credentials, Kdh, KrdError, Terminal, TokenDigest,
    VerifiedBindingToken,
    host::Host,
    memory::RememberedBinding,
    receipt::{Obeyed, sign_acknowledgement},
    record::DestroyedKey,
};

use super::status::CertificateStatus;

/// Of those that no host takes, the last ones are kept: a record that grew without end could not be
/// written any more when it counts.
const MAX_ACKNOWLEDGEMENTS: usize = 16;

/// What an unbind or rebind token did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moved {
    /// The KDH that the terminal was bound to.
    pub previous_kdh: CertificateStatus,
    /// The KDH that it is bound to now; `None` if it is unbound.
    pub kdh: Option<CertificateStatus>,
    /// The keys that it held and holds no more.
    pub destroyed_keys: Vec<DestroyedKey>,
    /// Whether the host has been told. If not, it will be when the terminal next speaks to it.
    pub acknowledged: bool,
}

impl Terminal {
    /// Does what an authentic token says, if the binding allows it. What was done is remembered to be
    /// acknowledged.
    ///
    /// A rebind is one write. An unbinding is written down before the first key goes: the terminal takes
    /// nothing more then, and goes on with it until it is done.
    pub(super) fn obey(&self, token: &VerifiedBindingToken) -> Result<Moved, KrdError> {
        let mut remembered = self.memory().binding()?;
        let after = remembered.binding.after(&token.as_authentic())?;
        self.outdate_one_pass_tokens()?;
        let previous = remembered.binding.kdh()?.clone();
        let kdh = after.kdh().ok().cloned();
        remembered.binding = after;
        if let Some(kdh) = kdh {
            return self.conclude(token.digest(), &previous, Some(&kdh), remembered);
        }
        remembered.keys = self.keyring().held()?;
        self.memory().keep_binding(remembered.clone())?;
        self.finish_unbinding(&previous, token.digest(), remembered)
    }

    /// The binding, after an unbinding that was cut off is finished.
    pub(super) fn settled_binding(&self) -> Result<RememberedBinding, KrdError> {
        let remembered = self.memory().binding()?;
        let BindingState::Unbinding { from, token } = remembered.binding.state.clone() else {
            return Ok(remembered);
        };
        tracing::warn!("the terminal was cut off while it was unbound, and goes on with that");
        self.finish_unbinding(&from, token, remembered)?;
        self.memory().binding()
    }

    /// The settled binding of a terminal that is bound. One that is not does at least say what it has still
    /// to say.
    pub(super) async fn bound(&self, credentials: &Credentials) -> Result<Binding, KrdError> {
        let RememberedBinding {
            binding,
            acknowledgements,
            ..
        } = self.settled_binding()?;
        if let Err(refusal) = binding.kdh() {
            if !acknowledgements.is_empty()
                && let Err(error) = self.connect(credentials).await
            {
                tracing::warn!(%error, "the host cannot be told of the unbinding yet");
            }
            return Err(refusal.into());
        }
        Ok(binding)
    }

    /// Connects, and tells the host what it has not been told yet.
    pub(super) async fn connect(&self, credentials: &Credentials) -> Result<Host, KrdError> {
        let identity = self.tls_identity(credentials)?;
        let mut host = Host::connect(&self.config, Some(&identity)).await?;
        self.send_acknowledgements(&mut host).await?;
        Ok(host)
    }

    /// Sends what is pending, in order. Each is forgotten once the host has dealt with it. One that does
    /// not get through holds nothing up: the next call tries again. Returns whether the host has
    /// accepted all of them.
    pub(super) async fn send_acknowledgements(&self, host: &mut Host) -> Result<bool, KrdError> {
        let mut accepted = true;
        for pending in self.memory().binding()?.acknowledgements {
            let sent = host.acknowledge_binding(pending.clone().into()).await;
            if let Err(error) = sent {
                tracing::warn!(%error, "what was done with an unbind or rebind token is not acknowledged");
                accepted = false;
                if !is_final(&error) {
                    break;
                }
            }
            let mut remembered = self.memory().binding()?;
            remembered.acknowledgements.retain(|kept| *kept != pending);
            self.memory().keep_binding(remembered)?;
        }
        Ok(accepted)
    }

    /// Keys first, then the slots, then the binding: as long as that says unbinding, all of it is done
    /// again.
    fn finish_unbinding(
        &self,
        previous: &Kdh,
        token: TokenDigest,
        mut remembered: RememberedBinding,
    ) -> Result<Moved, KrdError> {
        self.keyring().destroy_all()?;
        remembered.binding = remembered.binding.after_destruction();
        self.conclude(token, previous, None, remembered)
    }

    /// The last write of either.
    fn conclude(
        &self,
        token: TokenDigest,
        previous: &Kdh,
        kdh: Option<&Kdh>,
        mut remembered: RememberedBinding,
    ) -> Result<Moved, KrdError> {
        let destroyed = std::mem::take(&mut remembered.keys);
        let acknowledgement = sign_acknowledgement(
            &self.authentication_key()?,
            &self.config.serial,
            &Obeyed {
                token,
                previous,
                kdh,
                destroyed: &destroyed,
            },
        )?;
        let pending = &mut remembered.acknowledgements;
        pending.push(acknowledgement);
        pending.drain(..pending.len().saturating_sub(MAX_ACKNOWLEDGEMENTS));
        self.memory().keep_binding(remembered)?;
        Ok(Moved {
            previous_kdh: CertificateStatus::of(previous.certificate()),
            kdh: kdh.map(|kdh| CertificateStatus::of(kdh.certificate())),
            destroyed_keys: destroyed,
            acknowledged: false,
        })
    }
}

/// Whether the host has dealt with an acknowledgement for good, if not as we would like.
const fn is_final(error: &CallError) -> bool {
    matches!(
        error.reason(),
        Some(Reason::ReceiptInvalid | Reason::TokenUnknown)
    )
}
