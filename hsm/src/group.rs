//! Tokens that hold the same keys, worked as one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pki::Certificate;
use tr34::{KeyKind, KrdNonce, OaepHash, Profile};

use crate::{
    Authenticated, Failure, Health, HsmError, Kcv, KeyName, KeyRole, KnSource, SealRequest,
    SealedKeyBlock, SecretKey, SelfTestReport, SigningKey, Token, UpstreamFreshness, import,
    known::Known, worker::Worker,
};

/// A token, or several in as many HSMs or slots that hold the same keys: of the same names, and the
/// same by their public halves and check values. Clones share them.
///
/// Work goes to those that are healthy, in turn. What one could not take or lost at once goes to
/// another; what one did not answer in time has failed. One that was lost, or was not there from the
/// start, takes part when it is back and holds the keys that the others hold.
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

/// A secret key that every healthy token was seen to hold.
#[derive(Clone, Debug)]
pub struct FoundKey {
    key: SecretKey,
    kcv: Kcv,
    asked: Asked,
}

impl FoundKey {
    /// The key.
    pub const fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Its check value.
    pub const fn kcv(&self) -> &Kcv {
        &self.kcv
    }
}

/// Of each token, the generation in which it was asked for a key.
type Asked = Vec<Option<u64>>;

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
                // Where both are, only a new process is rid of what is stuck.
                Health::Failed(failure @ Failure::Stuck { .. }) => failed = Some(failure),
                Health::Failed(failure) => failed = failed.or(Some(failure)),
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
        let answers = self.on_each("find a signing key", |token| token.public_key(role, name))?;
        let (public_key, asked) = self.same(name, answers)?;
        self.remember(&asked, |known| {
            known.pair(role, name.clone(), public_key.clone());
        });
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
    pub fn secret_key(&self, role: KeyRole, name: &KeyName) -> Result<FoundKey, HsmError> {
        let answers = self.on_each("find a secret key", |token| {
            let key = token.secret_key(role, name)?;
            let kcv = token.kcv(&key)?;
            Ok((key, kcv))
        })?;
        let ((key, kcv), asked) = self.same(name, answers)?;
        Ok(FoundKey { key, kcv, asked })
    }

    /// The key of this name and this check value, over others, or a BDK, of which a token that unwrapped it may not
    /// state the length: it is of this kind, as was announced when it was brought in. From now on a token that was
    /// lost is not back before it holds the same one again.
    ///
    /// # Errors
    /// As [`Self::secret_key`]; [`HsmError::KeyKind`]: a token states another one; [`HsmError::KcvMismatch`]: it is
    /// another key. What is demanded of the tokens is what it was.
    pub fn agreed_key(
        &self,
        role: KeyRole,
        name: &KeyName,
        kind: KeyKind,
        expected: &Kcv,
    ) -> Result<SecretKey, HsmError> {
        let answers = self.on_each("find a secret key", |token| {
            let key = token.announced_key(role, name, kind)?;
            let kcv = token.kcv(&key)?;
            Ok((key, kcv))
        })?;
        let ((key, kcv), asked) = self.same(name, answers)?;
        if kcv != *expected {
            return Err(HsmError::KcvMismatch {
                expected: expected.clone(),
                found: kcv,
            });
        }
        self.remember(&asked, |known| known.announced(key.clone(), kcv.clone()));
        Ok(key)
    }

    /// A token that was lost is not back before it holds this key again, with this check value, and can
    /// serve such a request.
    pub fn require_from_now_on(&self, found: &FoundKey, request: &SealRequest<'_>) {
        self.remember(&found.asked, |known| {
            known.secret(found.key.clone(), found.kcv.clone(), request);
        });
    }

    /// Takes back what [`Self::require_from_now_on`] or [`Self::agreed_key`] demanded.
    pub fn require_no_more(&self, key: &SecretKey) {
        for member in self.members() {
            member.forget(key.name());
        }
    }

    /// As [`Token::self_test`], of each that is healthy. One that was not there is not back before it
    /// has passed as well.
    ///
    /// # Errors
    /// One of them fails, or there is none.
    pub fn self_test(&self, oaep: OaepHash) -> Result<Vec<&SelfTestReport>, HsmError> {
        // Those that come back meanwhile are asked below.
        for member in self.members() {
            member.remember(member.generation(), |known| known.self_test(oaep));
        }
        let answers = self.on_each("self-test", |token| token.self_test(oaep))?;
        let reports = answers.into_iter().flatten();
        Ok(reports.map(|(_, report)| report).collect())
    }

    /// As [`Token::verify_sealable`], by each that is healthy.
    ///
    /// # Errors
    /// One of them could not, or there is none.
    pub fn verify_sealable(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<(), HsmError> {
        self.on_each("seal", |token| token.verify_sealable(key, request))
            .map(drop)
    }

    /// Whether each that is healthy can receive TR-34 tokens for this pair: it holds the pair of the certificate,
    /// opens tokens inside, and keeps nonces if they are known as fresh by them.
    ///
    /// # Errors
    /// One of them cannot, or there is none.
    pub fn require_receiver(
        &self,
        pair: &KeyName,
        certificate: &Certificate,
        freshness: UpstreamFreshness,
    ) -> Result<(), HsmError> {
        self.on_each("receive keys", |token| {
            import::require_receiver(token, pair, certificate, freshness)
        })
        .map(drop)
    }

    /// As [`Token::make_import_nonce`], one for all of them: a token that answers it is imported once
    /// into each.
    ///
    /// # Errors
    /// One of them is not there, or keeps no records. No token can be imported into all of them then.
    pub fn make_import_nonce(
        &self,
        pair: &KeyName,
        profile: Profile,
    ) -> Result<KrdNonce, HsmError> {
        import::make_nonce(self.members(), pair, profile)
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
    /// who asks waits once. `signer` is a key of these tokens. `record` is what Kn belongs to; if there is one, its
    /// MAC is verified before Kn is touched.
    ///
    /// No thread waits with the caller, so [`Self::deadline`] is the caller's to keep: a call into the module
    /// that never returns is awaited for ever.
    ///
    /// # Errors
    /// As [`Token::seal`], `draft`'s own, and what signing can fail with. [`HsmError::Storage`]: Kn is stored
    /// and not what it was, or has no record; or the record is not what it was.
    pub async fn seal_and_sign<D, E>(
        &self,
        kn: &KnSource,
        record: Option<&Authenticated>,
        request: &SealRequest<'_>,
        signer: &SigningKey,
        draft: impl Fn(SealedKeyBlock) -> Result<D, E> + Clone + Send + 'static,
    ) -> Result<SignedDraft<D>, E>
    where
        D: AsRef<[u8]> + Send + 'static,
        E: From<HsmError> + Send + 'static,
    {
        let key = kn.to_be_sealed()?;
        let job = Arc::new((kn.clone(), record.cloned()));
        let mut failed = None;
        for token in self.candidates() {
            let asked = Instant::now();
            let plan = kn.require_possible(token);
            let plan = match plan.and_then(|()| token.plan(&key, request)) {
                Err(error) if error.may_succeed_elsewhere() => {
                    failed = Some(error);
                    continue;
                }
                plan => plan?,
            };
            let (job, signer) = (Arc::clone(&job), signer.private_key().clone());
            let draft = draft.clone();
            let work = move |worker: &mut Worker| {
                let queued = asked.elapsed();
                let begun = Instant::now();
                let (kn, record) = &*job;
                let sealed = kn.seal(worker, record.as_ref(), &plan)?;
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
                Err(error) if error.may_succeed_elsewhere() => failed = Some(error),
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
                Err(error) if error.may_succeed_elsewhere() => failed = Some(error),
                outcome => return outcome,
            }
        }
        Err(failed.unwrap_or(HsmError::Busy))
    }

    /// Those that are healthy, from the one whose turn it is; if none is, that one.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Token> + use<'_> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len();
        let (before, from) = self.members.split_at(turn);
        let in_turn = from.iter().chain(before);
        let none = !self.members.iter().any(|token| token.health().is_ready());
        let first = from.iter().take(usize::from(none));
        in_turn
            .filter(|token| token.health().is_ready())
            .chain(first)
    }

    /// By each that is healthy and stays so: of each what it said, and in which generation.
    ///
    /// # Errors
    /// `work`'s, of any of them; [`HsmError::Unavailable`] if there is none.
    pub(crate) fn on_each<'t, T>(
        &'t self,
        operation: &'static str,
        work: impl Fn(&'t Token) -> Result<T, HsmError>,
    ) -> Result<Vec<Option<(u64, T)>>, HsmError> {
        let ask = |token: &'t Token| {
            let Some(generation) = token.generation() else {
                return Ok(None);
            };
            match work(token) {
                Ok(answer) => Ok(Some((generation, answer))),
                Err(_) if !token.health().is_ready() => Ok(None),
                Err(error) => Err(error),
            }
        };
        let answers: Result<Vec<_>, HsmError> = self.members().iter().map(ask).collect();
        let answers = answers?;
        if answers.iter().all(Option::is_none) {
            return Err(HsmError::Unavailable {
                operation,
                reason: self.health().to_string(),
            });
        }
        Ok(answers)
    }

    /// What all that were asked say of a key.
    ///
    /// # Errors
    /// One says something else than another.
    fn same<T: PartialEq>(
        &self,
        name: &KeyName,
        answers: Vec<Option<(u64, T)>>,
    ) -> Result<(T, Asked), HsmError> {
        let mut found = None;
        let mut asked = Asked::new();
        for (token, answer) in self.members().iter().zip(answers) {
            asked.push(answer.as_ref().map(|(generation, _)| *generation));
            let Some((_, this)) = answer else { continue };
            if found.as_ref().is_some_and(|found| *found != this) {
                return Err(HsmError::KeyDiffers {
                    label: name.label().to_owned(),
                    token: token.title(),
                });
            }
            found = Some(this);
        }
        let found = found.ok_or_else(|| HsmError::KeyNotFound {
            label: name.label().to_owned(),
        });
        Ok((found?, asked))
    }

    /// What each must hold: those that were not asked before they do anything more.
    pub(crate) fn remember(&self, asked: &[Option<u64>], add: impl Fn(&mut Known)) {
        for (member, asked) in self.members().iter().zip(asked) {
            member.remember(*asked, &add);
        }
    }
}

impl fmt::Debug for TokenGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members()).finish()
    }
}
