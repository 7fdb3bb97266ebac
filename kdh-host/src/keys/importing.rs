//! Keys that arrive encrypted, which the HSM takes in.

use hsm::{FoundKey, HsmError, KeyName, Token, UpstreamToken};
use tr34::{KrdNonce, Profile};

use super::{HostKeys, no_token};
use crate::{
    administration::fault_of_key,
    error::HostError,
    key_import::{ImportOrder, ImportedKey},
    key_sender::{ArrivedToken, fault_of_token},
};

impl HostKeys {
    /// Verifies a key token that another host sent.
    pub(crate) fn verify_arrived(
        &self,
        arrived: &ArrivedToken,
    ) -> Result<UpstreamToken, HostError> {
        let members = self.kdh_tokens.members();
        let ready = members.iter().find(|token| token.health().is_ready());
        let token = ready.or(members.first()).ok_or_else(no_token)?;
        arrived.verify(token).map_err(fault_of_token)
    }

    /// Makes a nonce for a key token to an import pair, in every token that shares the work.
    pub(crate) fn make_import_nonce(
        &self,
        pair: &KeyName,
        profile: Profile,
    ) -> Result<KrdNonce, HostError> {
        let nonce = self.kdh_tokens.make_import_nonce(pair, profile);
        nonce.map_err(fault_of_token)
    }

    /// Refuses a name under which a token has a key.
    pub(crate) fn require_free(&self, name: &KeyName) -> Result<(), HostError> {
        for token in self.kdh_tokens.members() {
            let keys = token.list_keys()?;
            if keys.iter().any(|key| key.label == name.label()) {
                let label = name.label().to_owned();
                return Err(fault_of_key(HsmError::KeyExists { label }));
            }
        }
        Ok(())
    }

    /// The host serves the key from now on: no killed ceremony that is started again takes it for its own.
    pub(crate) fn forget_unfinished(&self, name: &KeyName) -> Result<(), HsmError> {
        let members = self.kdh_tokens.members().iter();
        let mut ready = members.filter(|token| token.health().is_ready());
        ready.try_for_each(|token| token.forget_unfinished(name))
    }

    /// Has the HSM unwrap a key that arrived encrypted, in every token that shares the work. Nothing is kept if
    /// one of them cannot, or if the key cannot be sealed for terminals. What an earlier try left behind is taken
    /// as it is.
    pub(crate) fn import(&self, order: &ImportOrder) -> Result<FoundKey, HostError> {
        let name = &order.key.name;
        self.forget_unfinished(name)?;
        let mut ours = Vec::new();
        let mut import = || {
            let members = self.kdh_tokens.members();
            let mut lacking: Vec<_> = members.iter().collect();
            if order.tried_before {
                (ours, lacking) = self.tokens_with(&order.key)?;
            }
            // A nonce is spent in one after the other: what the last has kept is still good.
            let Some(last) = lacking.last() else {
                return Ok(());
            };
            let import = order.opened_by(last).map_err(fault_of_token)?;
            for token in lacking {
                // Some HSMs give one another their keys by themselves.
                if !ours.is_empty() && order.key.is_in(token)? {
                    continue;
                }
                let key = token.import_key(&import, name).map_err(fault_of_token)?;
                ours.push(token);
                self.verify_sealable(&key, &order.header)?;
            }
            Ok(())
        };
        let found = import().and_then(|()| Ok(self.master_key(name.label())?));
        if found.is_err() {
            destroy(name, ours)?;
        }
        found
    }

    /// Destroys what an earlier try of an import left behind.
    pub(crate) fn destroy_left(&self, key: &ImportedKey) -> Result<(), HostError> {
        let (with, _) = self.tokens_with(key)?;
        Ok(destroy(&key.name, with)?)
    }

    /// The tokens with a key, and those without.
    fn tokens_with(&self, key: &ImportedKey) -> Result<(Vec<&Token>, Vec<&Token>), HostError> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for token in self.kdh_tokens.members() {
            let side = if key.is_in(token)? {
                &mut with
            } else {
                &mut without
            };
            side.push(token);
        }
        Ok((with, without))
    }
}

/// In each of them, whatever the others say.
fn destroy(name: &KeyName, tokens: Vec<&Token>) -> Result<(), HsmError> {
    let mut outcome = Ok(());
    for token in tokens {
        if let Err(error) = token.destroy_key(name) {
            tracing::error!(%name, %error, "an import failed, and its key is still in a token");
            outcome = Err(error);
        }
    }
    outcome
}
