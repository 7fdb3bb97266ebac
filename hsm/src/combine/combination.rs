//! A sum at one sitting.

use tr34::KeyKind;

use super::{
    Completion, Sum, component_kcv, finish,
    rules::{self, Fingerprint, MAX_TRIES},
};
use crate::{
    ClearKey, HsmError, Kcv, KeyName, SecretKey, Token, self_test, token::self_test_failed,
    worker::Worker,
};

/// A key that grows from components. Dropped before [`Self::finish`], it leaves nothing.
#[must_use = "nothing is kept before it is finished"]
pub struct Combination {
    /// The partial sum lives in a session of its own, and goes with it.
    worker: Worker,
    sum: Sum,
    /// Whether the key may be derived from, for a module that seals that way.
    derives: bool,
    /// Of the components so far: what tells that one comes a second time.
    fingerprints: Vec<Fingerprint>,
    /// How often a last component made another key than was announced.
    wrong: u32,
    /// Keeps the login.
    token: Token,
}

impl Combination {
    pub(crate) fn start(token: Token, kind: KeyKind) -> Result<Self, HsmError> {
        let way = *token.combining()?.as_ref().map_err(self_test_failed)?;
        let worker = token.writer()?;
        let derives = self_test::assembles(&worker)?;
        Ok(Self {
            worker,
            sum: Sum::new(way, kind),
            derives,
            fingerprints: Vec::new(),
            wrong: 0,
            token,
        })
    }

    /// Components so far.
    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Whether there is no component yet.
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    /// Adds a component and returns its own check value, for its custodian to confirm.
    ///
    /// # Errors
    /// The component is of another length, zero in a piece of 8 bytes, of parts of which two are equal, the
    /// sixth, or one that was added before; or a call failed. The sum is what it was then.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a component is spent by adding it"
    )]
    pub fn add(&mut self, component: ClearKey) -> Result<Kcv, HsmError> {
        let fingerprint = self.require_sound(&component)?;
        let session = &self.worker.session;
        let kcv = component_kcv(session, &component, self.sum.kind)?;
        self.sum.add(session, &component)?;
        self.fingerprints.push(fingerprint);
        Ok(kcv)
    }

    /// The check value of the sum so far, of `len` bytes (3 to 5).
    ///
    /// # Errors
    /// There is no component; the token does not compute it.
    pub fn kcv(&self, len: usize) -> Result<Kcv, HsmError> {
        rules::require_enough(self.len())?;
        self.sum.check_value(&self.worker.session, len)
    }

    /// Makes the sum a master key in the token, if its check value is `expected`.
    ///
    /// # Errors
    /// Fewer than two components; [`HsmError::KcvMismatch`]; [`HsmError::BadSum`]; the name is taken.
    /// Nothing is kept then.
    pub fn finish(self, name: &KeyName, expected: &Kcv) -> Result<SecretKey, HsmError> {
        rules::require_enough(self.len())?;
        finish::enter(&self.worker, &self.sum, name, expected, self.derives)
    }

    /// Makes the sum with `last` a master key in the token, if its check value is `expected`. If not, `last`
    /// may be entered anew: three times in all.
    ///
    /// # Errors
    /// As for [`Self::add`] and [`Self::finish`]; the sum is what it was then.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a component is spent by adding it"
    )]
    pub fn complete(
        &mut self,
        last: ClearKey,
        name: &KeyName,
        expected: &Kcv,
    ) -> Result<Completion, HsmError> {
        self.require_sound(&last)?;
        rules::require_enough(self.len() + 1)?;
        match finish::enter_with(&self.worker, &self.sum, &last, name, expected, self.derives) {
            Ok(key) => Ok(Completion::Key(key)),
            Err(HsmError::KcvMismatch { found, .. }) => {
                self.wrong += 1;
                let tries_left = MAX_TRIES.saturating_sub(self.wrong);
                if tries_left == 0 {
                    self.sum.destroy(&self.worker.session);
                    self.fingerprints.clear();
                }
                Ok(Completion::Wrong { found, tries_left })
            }
            Err(error) => Err(error),
        }
    }

    fn require_sound(&self, component: &ClearKey) -> Result<Fingerprint, HsmError> {
        rules::require_sound_component(component, self.sum.kind)?;
        let fingerprint = rules::fingerprint(&[], component);
        rules::require_new(&fingerprint, &self.fingerprints)?;
        Ok(fingerprint)
    }
}

impl std::fmt::Debug for Combination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Combination({} of {} components in {:?})",
            self.sum.kind,
            self.len(),
            self.token
        )
    }
}
