//! Tokens that hold the same keys, worked as one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tr34::OaepHash;

use crate::{
    Failure, Health, HsmError, Kcv, KeyName, KeyRole, SealRequest, SealedKeyBlock, SecretKey,
    SelfTestReport, SigningKey, Token, known::Known, pool::DEADLINE, worker::Worker,
};

/// A token, or several in as many HSMs or slots that hold the same keys: of the same names, and the
/// same by their public halves and check values. Clones share them.
///
/// Work goes to those that are healthy, in turn. What one could not take or lost at once goes to
/// another; what one did not answer in time has failed. One that was lost takes part again when it is back
/// and holds the keys that the others hold.
#[derive(Clone)]
pub struct TokenGroup {
    members: Arc<[Token]>,
    turn: Arc<AtomicUsize>,
}

/// What was sealed, drafted and signed, and how long that took.
#[derive(Clone, Debug)]
pub struct SignedDraft<D> {
    /// The draft.
    pub draft: D,
    /// The signature of its bytes.
    pub signature: Vec<u8>,
    /// Until a thread of the token took it up.
    pub queued: Duration,
    /// In the module, for sealing.
    pub sealing: Duration,
    /// In the module, for the signature.
    pub signing: Duration,
}

impl From<Token> for TokenGroup {
    fn from(token: Token) -> Self {
        Self::new(token, Vec::new())
    }
}

impl TokenGroup {
    /// These tokens. Whether they hold the same is seen key by key, as each is asked for.
    pub fn new(token: Token, replicas: Vec<Token>) -> Self {
        let mut members = vec![token];
        members.extend(replicas);
        Self {
            members: members.into(),
            turn: Arc::default(),
        }
    }

    /// The tokens.
    pub fn members(&self) -> &[Token] {
        &self.members
    }

    /// How long a call may take, waiting included: where they differ, the longest.
    pub fn deadline(&self) -> Duration {
        let deadlines = self.members().iter().map(Token::deadline);
        deadlines.max().unwrap_or_default()
    }

    /// Ready if any of them is; failed if all of them are.
    pub fn health(&self) -> Health {
        let mut failed: Option<Failure> = None;
        let mut lost = None;
        for member in self.members() {
            match member.health() {
                Health::Ready => return Health::Ready,
                Health::Lost { reason } => lost = Some(Health::Lost { reason }),
                Health::Failed(failure) => failed = Some(failure),
            }
        }
        match (lost, failed) {
            (None, Some(failure)) => Health::Failed(failure),
            (lost, _) => lost.unwrap_or(Health::Ready),
        }
    }

    /// Has `watcher` called after each change of any token's health, on a thread that it must not hold
    /// up.
    pub fn watch(&self, watcher: impl Fn() + Clone + Send + 'static) {
        for member in self.members() {
            member.watch(watcher.clone());
        }
    }

    /// The private key of this name, for signing. A token that was lost is not back before it holds the
    /// same one again.
    ///
    /// # Errors
    /// In some token there is not exactly one, or it is weaker than its role, does not sign (any more),
    /// or is another one than elsewhere.
    pub fn signing_key(&self, role: KeyRole, name: &KeyName) -> Result<SigningKey, HsmError> {
        let public_key = self.on_each(name, |token| token.public_key(role, name))?;
        self.remember(|known| known.pair(role, name.clone(), public_key.clone()));
        // Has turns of its own: who seals and signs by turns would have one seal and another one sign.
        let tokens = Self {
            members: Arc::clone(&self.members),
            turn: Arc::default(),
        };
        Ok(SigningKey::new(tokens, role, name.clone(), public_key))
    }

    /// The secret key of this name, and its check value.
    ///
    /// # Errors
    /// In some token there is not exactly one, or it is weaker than its role, or another one than
    /// elsewhere; the role is not a secret key's.
    pub fn secret_key(&self, role: KeyRole, name: &KeyName) -> Result<(SecretKey, Kcv), HsmError> {
        self.on_each(name, |token| {
            let key = token.secret_key(role, name)?;
            let kcv = token.kcv(&key)?;
            Ok((key, kcv))
        })
    }

    /// A token that was lost is not back before it holds this key again, with this check value.
    pub fn require_from_now_on(&self, key: &SecretKey, kcv: &Kcv) {
        self.remember(|known| known.secret(key.clone(), kcv.clone()));
    }

    /// As [`Token::self_test`], of each.
    ///
    /// # Errors
    /// One of them fails.
    pub fn self_test(&self, oaep: OaepHash) -> Result<Vec<&SelfTestReport>, HsmError> {
        let tests = self.members().iter().map(|token| token.self_test(oaep));
        tests.collect()
    }

    /// As [`Token::verify_sealable`], by each.
    ///
    /// # Errors
    /// One of them could not.
    pub fn verify_sealable(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<(), HsmError> {
        let mut members = self.members().iter();
        members.try_for_each(|token| token.verify_sealable(key, request))
    }

    /// As [`Token::seal`], by one of them.
    ///
    /// # Errors
    /// As there.
    pub fn seal(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<SealedKeyBlock, HsmError> {
        self.on_one(|token| token.seal(key, request))
    }

    /// Seals as [`Self::seal`] does and signs what `draft` makes of the key block, as one job of one token:
    /// who asks waits once. `signer` is a key of these tokens.
    ///
    /// No thread waits with the caller, so [`Self::deadline`] is the caller's to keep: a call into the module
    /// that never returns is awaited for ever.
    ///
    /// # Errors
    /// As [`Token::seal`], `draft`'s own, and what signing can fail with.
    pub async fn seal_and_sign<D, E>(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
        signer: &SigningKey,
        draft: impl Fn(SealedKeyBlock) -> Result<D, E> + Clone + Send + 'static,
    ) -> Result<SignedDraft<D>, E>
    where
        D: AsRef<[u8]> + Send + 'static,
        E: From<HsmError> + Send + 'static,
    {
        let mut failed = None;
        for token in self.candidates() {
            let asked = Instant::now();
            let plan = token.plan(key, request)?;
            let (key, signer, draft) = (key.clone(), signer.clone(), draft.clone());
            let work = move |worker: &mut Worker| {
                let queued = asked.elapsed();
                let begun = Instant::now();
                let kn = worker.key(key.role(), key.name())?;
                let sealed = plan.seal(&worker.session, kn)?;
                let sealing = begun.elapsed();
                let draft = match draft(sealed) {
                    Ok(draft) => draft,
                    Err(error) => return Ok(Err(error)),
                };
                let begun = Instant::now();
                let signature = signer.sign_by(worker, draft.as_ref())?;
                Ok(Ok(SignedDraft {
                    draft,
                    signature,
                    queued,
                    sealing,
                    signing: begun.elapsed(),
                }))
            };
            match token.answer("seal and sign", work).await {
                Err(error) if may_succeed_elsewhere(&error) => failed = Some(error),
                outcome => return outcome?,
            }
        }
        Err(failed.unwrap_or(HsmError::Busy).into())
    }

    /// By a healthy one, each in its turn. If there is none, one says why.
    pub(crate) fn on_one<T>(
        &self,
        work: impl Fn(&Token) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let mut failed = None;
        for token in self.candidates() {
            match work(token) {
                Err(error) if may_succeed_elsewhere(&error) => failed = Some(error),
                outcome => return outcome,
            }
        }
        Err(failed.unwrap_or(HsmError::Busy))
    }

    /// Those that are healthy, from the one whose turn it is; if none is, that one.
    fn candidates(&self) -> impl Iterator<Item = &Token> + use<'_> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len();
        let (before, from) = self.members.split_at(turn);
        let in_turn = from.iter().chain(before);
        let none = !self.members.iter().any(|token| token.health().is_ready());
        let first = from.iter().take(usize::from(none));
        in_turn
            .filter(|token| token.health().is_ready())
            .chain(first)
    }

    /// By each that is healthy, with one result. If there is none, one says why.
    fn on_each<T: PartialEq>(
        &self,
        name: &KeyName,
        work: impl Fn(&Token) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let mut members = self.members().iter();
        let mut found = None;
        for token in members.by_ref().filter(|token| token.health().is_ready()) {
            let this = work(token)?;
            if found.as_ref().is_some_and(|found| *found != this) {
                return Err(HsmError::KeyDiffers {
                    label: name.label().to_owned(),
                    token: format!("{} ({})", token.info().label, token.info().serial),
                });
            }
            found = Some(this);
        }
        found.map_or_else(|| self.on_one(work), Ok)
    }

    /// What each must hold, those that are away as well when they are back.
    fn remember(&self, key: impl Fn(&mut Known)) {
        for member in self.members() {
            member.remember(&key);
        }
    }
}

fn may_succeed_elsewhere(error: &HsmError) -> bool {
    match error {
        HsmError::Busy => true,
        HsmError::Unavailable { reason, .. } => reason != DEADLINE,
        _ => false,
    }
}

impl fmt::Debug for TokenGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members()).finish()
    }
}
