//! A token that is logged in to.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use pki::PublicKey;
use time::OffsetDateTime;
use tr34::{ContentCipher, EnvelopedKeyBlock, KeyKind, KrdNonce, OaepHash, Profile};

use crate::{
    Capabilities, ClearKey, ClearKeyBlock, Combination, CombiningWay, DecryptionKey, Health,
    HsmError, ImportForm, InProcessMemoryConsent, Kcv, KeyImport, KeyName, KeyPairKind, KeyRole,
    KeyStrength, KeySummary, Missing, Module, OpeningWay, Pin, SealRequest, SealedKeyBlock,
    SecretKey, SelfTestReport, SigningKey, Speed, StagedKey, StorageNumber, StoredSum,
    StoredSumSummary, SumId, SumTarget, TokenGroup, TokenInfo, Upstream, UpstreamToken,
    check_value, combine,
    derive::{self, Derivations},
    error::CallResult,
    export::{self, Exports},
    import::{self, Imports},
    keys,
    known::Known,
    name::{MAX_RECORD_LABEL_LEN, validate_label},
    open::{self, ExpectedKeyBlock, Opening},
    pool::Pool,
    records, seal, self_test,
    sessions::Sessions,
    signing, speed,
    storage::{self, Proof, Storing},
    warden::Warden,
    worker::{Worker, Workplace},
};

/// Which token, and how it is worked.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Label.
    pub label: String,
    /// Serial number, where labels are not unique.
    pub serial: Option<String>,
    /// Threads, each with a session.
    pub workers: usize,
    /// Calls that may wait for a thread.
    pub queue: usize,
    /// How long a call may take, waiting included.
    pub deadline: Duration,
    /// A token from which nothing was heard for this long is asked whether it is there, for a process that
    /// others rely on. Others see it when they want something.
    pub probe_after: Option<Duration>,
    /// How long it may take to open the token again after a loss, self-test included, which makes an RSA pair.
    /// A token that takes longer fails.
    pub longest_try: Duration,
    /// Threads that are replaced when a call does not come back to them. Past that the token fails.
    pub max_stuck: usize,
    /// Whether key pairs that were made outside of the token are accepted. Never on a host: such a
    /// key may have copies.
    pub accept_imported_keys: bool,
}

impl TokenConfig {
    /// The token called `label`, with the defaults: 4 threads, 64 calls, 10 seconds (a minute to open it
    /// again), 8 replacements.
    pub fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            serial: None,
            workers: 4,
            queue: 64,
            deadline: Duration::from_secs(10),
            probe_after: None,
            longest_try: Duration::from_mins(1),
            max_stuck: 8,
            accept_imported_keys: false,
        }
    }
}

/// A token that is logged in to. Clones share it; the last one logs out.
///
/// Keys and staged keys that were had from it keep it open.
#[derive(Clone)]
pub struct Token {
    shared: Arc<Shared>,
}

/// The warden goes before what it looks after, and the pool before the sessions that its threads use.
struct Shared {
    opening: OnceLock<Opening>,
    combining: OnceLock<Result<CombiningWay, Missing>>,
    limiting: OnceLock<Result<(), Missing>>,
    recording: OnceLock<Result<(), Missing>>,
    imports: OnceLock<Imports>,
    storing: OnceLock<Storing>,
    derivations: OnceLock<Derivations>,
    exports: OnceLock<Exports>,
    _warden: Warden,
    pool: Arc<Pool>,
    sessions: Arc<Sessions>,
}

impl Token {
    pub(crate) fn open(module: &Module, config: &TokenConfig, pin: &Pin) -> Result<Self, HsmError> {
        let sessions = Arc::new(Sessions::new(module, config, pin));
        sessions.connect()?;
        let pool = start_pool(config)?;
        Self::start(sessions, pool)
    }

    pub(crate) fn open_or_await(
        module: &Module,
        config: &TokenConfig,
        pin: &Pin,
    ) -> Result<Self, HsmError> {
        let sessions = Arc::new(Sessions::new(module, config, pin));
        let pool = start_pool(config)?;
        // By a thread that may hang.
        let trying = Arc::clone(&sessions);
        let opened = pool.run("open the token", move || {
            trying.try_connect().unwrap_or(Ok(()))
        });
        match opened {
            Ok(()) => {}
            Err(error) if error.is_absence() => sessions.miss(&error),
            Err(error) => return Err(error),
        }
        Self::start(sessions, pool)
    }

    fn start(sessions: Arc<Sessions>, pool: Arc<Pool>) -> Result<Self, HsmError> {
        Ok(Self {
            shared: Arc::new(Shared {
                opening: OnceLock::new(),
                combining: OnceLock::new(),
                limiting: OnceLock::new(),
                recording: OnceLock::new(),
                imports: OnceLock::new(),
                storing: OnceLock::new(),
                derivations: OnceLock::new(),
                exports: OnceLock::new(),
                _warden: Warden::start(&pool, &sessions).map_err(|error| not_started(&error))?,
                pool,
                sessions,
            }),
        })
    }

    /// What the token said about itself before the first login; none if it was never there.
    pub fn info(&self) -> Option<&TokenInfo> {
        self.shared.sessions.info()
    }

    /// Label and serial number, as far as they are known.
    pub(crate) fn title(&self) -> String {
        self.shared.sessions.title()
    }

    /// How long a call may take, waiting included.
    pub(crate) fn deadline(&self) -> Duration {
        self.shared.sessions.config().deadline
    }

    /// Whether it can be worked with. What is lost comes back by itself.
    pub fn health(&self) -> Health {
        self.shared.sessions.health()
    }

    /// Has `watcher` called after each change of [`Self::health`], on a thread that it must not hold up.
    pub fn watch(&self, watcher: impl Fn() + Send + 'static) {
        self.shared.sessions.watch(watcher);
    }

    /// Random bytes from the token.
    ///
    /// # Errors
    /// The token has no randomness to give.
    pub fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        self.run("random", move |worker| {
            let mut bytes = vec![0; len];
            worker
                .session
                .generate_random_slice(&mut bytes)
                .during("random")?;
            Ok(bytes)
        })
    }

    /// Makes a key pair in the token and returns its public half.
    ///
    /// # Errors
    /// The name is taken; the role has no such pairs; the module made a key that is weaker than its
    /// role. Nothing is kept then.
    pub fn generate_key_pair(
        &self,
        role: KeyRole,
        name: &KeyName,
        kind: KeyPairKind,
    ) -> Result<PublicKey, HsmError> {
        keys::generate_key_pair(&self.writer()?, role, name, kind)
    }

    /// The private key of this name, for signing.
    ///
    /// # Errors
    /// There is not exactly one, it is weaker than its role, or it does not sign (any more).
    pub fn signing_key(&self, role: KeyRole, name: &KeyName) -> Result<SigningKey, HsmError> {
        TokenGroup::from(self.clone()).signing_key(role, name)
    }

    pub(crate) fn public_key(&self, role: KeyRole, name: &KeyName) -> Result<PublicKey, HsmError> {
        let name = name.clone();
        self.run("find a signing key", move |worker| {
            signing::public_half(worker, role, &name)
        })
    }

    /// Which of its lives between losses this is; none while it is lost.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.shared.sessions.generation()
    }

    /// What it must be and hold whenever it comes back, and if it was not `asked` in this generation,
    /// before it does anything more.
    pub(crate) fn remember(&self, asked: Option<u64>, add: impl Fn(&mut Known)) {
        self.shared.sessions.remember(asked, add);
    }

    /// It need not hold this key any more.
    pub(crate) fn forget(&self, name: &KeyName) {
        self.shared.sessions.known().forget(name);
    }

    /// By what this pair is known to be the same whenever it comes back, if it was asked for.
    pub(crate) fn known_pair(&self, number: StorageNumber) -> Option<Arc<Proof>> {
        self.shared.sessions.known().pair_of_storage_keys(number)
    }

    /// The pairs that are known so.
    pub(crate) fn known_pairs(&self) -> Vec<StorageNumber> {
        self.shared.sessions.known().pairs_of_storage_keys()
    }

    /// It need not hold this pair any more.
    pub(crate) fn forget_pair(&self, number: StorageNumber) {
        self.shared.sessions.known().forget_storage_keys(number);
    }

    /// The terminal's RSA key of this name.
    ///
    /// # Errors
    /// There is not exactly one, or it is weaker than its role.
    pub fn decryption_key(&self, name: &KeyName) -> Result<DecryptionKey, HsmError> {
        DecryptionKey::find(self, name)
    }

    /// Takes the right to sign from a terminal's RSA key, once its certificate request is made.
    /// Returns whether the module let us.
    ///
    /// # Errors
    /// There is not exactly one such key, or it is weaker than its role.
    pub fn retire_signing(&self, name: &KeyName) -> Result<bool, HsmError> {
        keys::retire_signing(&mut self.writer()?, name)
    }

    /// The secret key of this name.
    ///
    /// # Errors
    /// There is not exactly one, it is weaker than its role, or the role is not a secret key's.
    pub fn secret_key(&self, role: KeyRole, name: &KeyName) -> Result<SecretKey, HsmError> {
        let name = name.clone();
        self.run("find a secret key", move |worker| {
            keys::secret_key(worker, role, &name)
        })
    }

    /// The same of a key of which the token may not state the length: it is of this kind, as was announced when it
    /// was brought in.
    ///
    /// # Errors
    /// As there; [`HsmError::KeyKind`]: the token states another one.
    pub fn announced_key(
        &self,
        role: KeyRole,
        name: &KeyName,
        kind: KeyKind,
    ) -> Result<SecretKey, HsmError> {
        let name = name.clone();
        self.run("find a secret key", move |worker| {
            keys::announced_key(worker, role, &name, kind)
        })
    }

    /// Every key in the token, both halves of a pair.
    ///
    /// # Errors
    /// The token does not answer.
    pub fn list_keys(&self) -> Result<Vec<KeySummary>, HsmError> {
        self.run("list the keys", |worker| keys::list(&worker.session))
    }

    /// Every private and secret key in the token, with how strong it is.
    ///
    /// # Errors
    /// The token does not answer.
    pub fn key_strengths(&self) -> Result<Vec<KeyStrength>, HsmError> {
        self.run("list the keys", |worker| keys::strengths(worker))
    }

    /// Destroys a key, both halves of a pair, and its like-named copies.
    ///
    /// # Errors
    /// There is none, or the token refuses.
    pub fn destroy_key(&self, name: &KeyName) -> Result<(), HsmError> {
        let destroyed = keys::destroy(&self.writer()?.session, name);
        self.place().destroyed.fetch_add(1, Ordering::Release);
        self.forget(name);
        destroyed
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// The label is not one; the token does not answer.
    pub fn load_record(&self, label: &str) -> Result<Option<Vec<u8>>, HsmError> {
        validate_label(label, MAX_RECORD_LABEL_LEN)?;
        let label = label.to_owned();
        self.run("load a record", move |worker| {
            records::load(&worker.session, &label)
        })
    }

    /// Writes a record, or replaces it: the new one is there before the old one goes, and a crash in
    /// between leaves the new one to be read.
    ///
    /// # Errors
    /// The label is not one; the token refuses.
    pub fn store_record(&self, label: &str, content: &[u8]) -> Result<(), HsmError> {
        validate_label(label, MAX_RECORD_LABEL_LEN)?;
        records::store(&self.writer()?.session, label, content)
    }

    /// The labels of all records that start with `prefix`, sorted.
    ///
    /// # Errors
    /// The token does not answer.
    pub fn list_records(&self, prefix: &str) -> Result<Vec<String>, HsmError> {
        let prefix = prefix.to_owned();
        self.run("list the records", move |worker| {
            records::list(&worker.session, &prefix)
        })
    }

    /// Destroys a record; it is no error if there is none.
    ///
    /// # Errors
    /// The label is not one; the token refuses.
    pub fn destroy_record(&self, label: &str) -> Result<(), HsmError> {
        validate_label(label, MAX_RECORD_LABEL_LEN)?;
        records::destroy(&self.writer()?.session, label)
    }

    /// Whether the token keeps records: modules exist that keep no data. Found out once, by a record that is
    /// written and destroyed.
    ///
    /// # Errors
    /// The HSM is unavailable. What the token does not keep is the inner error.
    pub fn keeps_records(&self) -> Result<&Result<(), Missing>, HsmError> {
        found_once(&self.shared.recording, || {
            records::trial(&self.writer()?.session)
        })
    }

    /// Refuses an operation that takes a token with records.
    pub(crate) fn require_records(&self, operation: &str) -> Result<(), HsmError> {
        match self.keeps_records()? {
            Ok(()) => Ok(()),
            Err(_) => Err(HsmError::Unsupported {
                operation: operation.to_owned(),
                missing: vec!["private data objects"],
            }),
        }
    }

    /// What the token can do, by its list of mechanisms and by trying: sealing, opening, combining,
    /// limiting, importing, storing, deriving, exporting.
    /// Each is found out once, which takes a second or two.
    ///
    /// # Errors
    /// The HSM is unavailable. What the token cannot do is no error.
    pub fn capabilities(&self) -> Result<Capabilities, HsmError> {
        Ok(Capabilities::new(
            self.sealing()?,
            self.how_it_opens()?,
            self.combining()?.clone(),
            self.limiting()?.clone(),
            self.imports()?.forms(self.how_it_opens()?),
            self.storing()?.kinds(),
            self.place().mechanisms(),
        )
        .and(self.derivations()?.kinds(), self.exports()?.forms()))
    }

    /// What became of the self-test with this hash: a throw-away key of each kind was sealed for a
    /// throw-away RSA key by each way, opened again inside of the HSM, and compared.
    ///
    /// # Errors
    /// [`HsmError::SelfTest`]: do not serve.
    pub fn self_test(&self, oaep: OaepHash) -> Result<&SelfTestReport, HsmError> {
        self_test::passed(self.sealing()?, oaep)
    }

    fn sealing(&self) -> Result<&self_test::Sealing, HsmError> {
        let sessions = &self.shared.sessions;
        found_once(sessions.sealing(), || {
            let outcome = self_test::sealing(&self.writer()?);
            if outcome.is_err() {
                // If the token is gone, it is lost from here on.
                drop(sessions.examine("self-test"));
            }
            outcome
        })
    }

    pub(crate) fn how_it_opens(&self) -> Result<&Opening, HsmError> {
        found_once(&self.shared.opening, || self_test::opening(&self.writer()?))
    }

    pub(crate) fn combining(&self) -> Result<&Result<CombiningWay, Missing>, HsmError> {
        found_once(&self.shared.combining, || {
            self_test::combining(&self.writer()?)
        })
    }

    fn limiting(&self) -> Result<&Result<(), Missing>, HsmError> {
        found_once(&self.shared.limiting, || {
            self_test::limiting(&self.writer()?)
        })
    }

    pub(crate) fn imports(&self) -> Result<&Imports, HsmError> {
        found_once(&self.shared.imports, || import::imports(&self.writer()?))
    }

    /// Which kinds of key it stores.
    pub(crate) fn storing(&self) -> Result<&Storing, HsmError> {
        found_once(&self.shared.storing, || storage::trial(&self.writer()?))
    }

    /// Which kinds of initial key it derives.
    pub(crate) fn derivations(&self) -> Result<&Derivations, HsmError> {
        found_once(&self.shared.derivations, || {
            derive::derivations(&self.writer()?)
        })
    }

    /// In which forms it exports.
    pub(crate) fn exports(&self) -> Result<&Exports, HsmError> {
        found_once(&self.shared.exports, || export::exports(&self.writer()?))
    }

    /// How fast the token is, measured with throw-away keys, which takes a second or two.
    ///
    /// # Errors
    /// It cannot seal.
    pub fn measure(&self) -> Result<Vec<Speed>, HsmError> {
        let found = self.capabilities()?;
        let way = found.sealing.as_ref().map_err(self_test_failed)?;
        let oaep = found.oaep.first().copied().unwrap_or(OaepHash::Sha256);
        speed::measure(&self.writer()?, *way, oaep)
    }

    /// A key's check value, [`Kcv::LEN`] bytes of it.
    ///
    /// # Errors
    /// The key is not there (any more), or the token does not compute it.
    pub fn kcv(&self, key: &SecretKey) -> Result<Kcv, HsmError> {
        self.kcv_of_len(key, Kcv::LEN)
    }

    /// The same, so many bytes of it: 3 to 5.
    ///
    /// # Errors
    /// As for [`Self::kcv`]; the length is another one.
    pub fn kcv_of_len(&self, key: &SecretKey, len: usize) -> Result<Kcv, HsmError> {
        let wanted = key.clone();
        self.run("kcv", move |worker| {
            let handle = worker.key(wanted.role(), wanted.name())?;
            check_value::of_copy(&worker.session, handle, wanted.kind(), len)
        })
    }

    /// Seals a Kn for a terminal, in the way that the module allows.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`], before any key is touched: no way of sealing is possible with this
    /// module, this key length and this frame. Otherwise the failed call; nothing is left behind.
    pub fn seal(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<SealedKeyBlock, HsmError> {
        let plan = self.plan(key, request)?;
        let key = key.clone();
        self.run("seal", move |worker| {
            let kn = worker.key(key.role(), key.name())?;
            plan.seal(&worker.session, kn)
        })
    }

    /// Says whether [`Self::seal`] could serve such a request, without using any key.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`], naming what is missing.
    pub fn verify_sealable(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<(), HsmError> {
        self.plan(key, request).map(drop)
    }

    pub(crate) fn plan(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<seal::Plan, HsmError> {
        seal::Plan::passed(self.self_test(request.oaep)?, key, request)
    }

    /// Starts to combine components into a key of this kind.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`]: the module has none of the ways to do it.
    pub fn combine_components(&self, kind: KeyKind) -> Result<Combination, HsmError> {
        Combination::start(self.clone(), kind)
    }

    /// Starts a sum that is kept in the token between sittings. Nothing is kept before the first component.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`]: the token keeps no data. [`HsmError::SelfTest`]: the module has none of the ways
    /// to combine components. [`HsmError::SumExists`]: it has begun before.
    pub fn begin_stored_sum(
        &self,
        id: SumId,
        target: SumTarget,
        expires_at: OffsetDateTime,
    ) -> Result<StoredSum, HsmError> {
        StoredSum::begin(self.clone(), id, target, expires_at)
    }

    /// A sum that was begun at an earlier sitting; `None` if there is none, or if it is expired or used up.
    ///
    /// # Errors
    /// What is in the token is not what its record says; the token does not answer.
    pub fn resume_stored_sum(
        &self,
        id: &SumId,
        now: OffsetDateTime,
    ) -> Result<Option<StoredSum>, HsmError> {
        combine::resume(self.clone(), id, now)
    }

    /// The sums that the token keeps, those that are expired too.
    ///
    /// # Errors
    /// A record is damaged; the token does not answer.
    pub fn stored_sums(&self) -> Result<Vec<StoredSumSummary>, HsmError> {
        self.run("list the partial sums", |worker| {
            combine::list(&worker.session)
        })
    }

    /// Destroys the sums that are expired or whose tries are used up, whatever plan they are of, and what a program
    /// that was stopped has left of others. Returns the sums that were destroyed.
    ///
    /// # Errors
    /// A record is damaged; the token refuses.
    pub fn sweep_stored_sums(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<StoredSumSummary>, HsmError> {
        combine::sweep(&self.writer()?.session, now)
    }

    /// Destroys a sum; says whether there was one.
    ///
    /// # Errors
    /// A record is damaged; the token refuses.
    pub fn destroy_stored_sum(&self, id: &SumId) -> Result<bool, HsmError> {
        combine::destroy(&self.writer()?.session, id)
    }

    /// Makes a key that arrived encrypted a master key in the token, if its check value is the announced one.
    /// It is unwrapped inside, with the key that the import names, and is never in this process.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`]: the module cannot do it inside. [`HsmError::Import`]: what arrived is not
    /// what was announced. [`HsmError::KcvMismatch`]; the name is taken; a key that the import names is not
    /// there, or weaker than its role. Nothing is kept then.
    pub fn import_key(&self, import: &KeyImport, name: &KeyName) -> Result<SecretKey, HsmError> {
        import::import(self, import, name)
    }

    /// A made-up key in one of the forms, under a made-up key of that name that this leaves in the token: for
    /// rehearsals. An import pair that is there is used as it is. The check value is not the key's.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`]: the module cannot import this form inside, or the key of that name is
    /// none under which this can be made up.
    pub fn make_up_import(
        &self,
        form: ImportForm,
        under: &KeyName,
        kind: KeyKind,
    ) -> Result<KeyImport, HsmError> {
        import::make_up(self, form, under, kind)
    }

    /// Checks a TR-34 token from another host, in this order: it parses; our certificate's role; the CA's
    /// revocation list; the sender's certificate; the signer; the signature; the recipient; freshness.
    ///
    /// # Errors
    /// [`HsmError::Upstream`]: the first check that fails.
    pub fn verify_upstream(
        &self,
        token: &[u8],
        expected: &Upstream<'_>,
    ) -> Result<UpstreamToken, HsmError> {
        import::verify_upstream(self, token, expected)
    }

    /// Makes a nonce for a TR-34 token to an import pair, as long as the sender's profile has it, and keeps it as a
    /// record until that token was imported. One that waited before is forgotten.
    ///
    /// # Errors
    /// The token keeps no records.
    pub fn make_import_nonce(
        &self,
        pair: &KeyName,
        profile: Profile,
    ) -> Result<KrdNonce, HsmError> {
        import::make_nonce(std::slice::from_ref(self), pair, profile)
    }

    /// Opens a key block inside the token, if it is one of `expected`, as a session object to be
    /// committed or dropped.
    ///
    /// # Errors
    /// [`HsmError::SelfTest`]: the token has none of the ways to do it. [`HsmError::Unsupported`]: it is
    /// none of those that the token can open, and may be one that it cannot.
    /// [`HsmError::OpeningFailed`] for whatever is wrong with Ke or the block.
    pub fn open_inside(
        &self,
        key: &DecryptionKey,
        enveloped: &EnvelopedKeyBlock,
        expected: &[ExpectedKeyBlock],
    ) -> Result<StagedKey, HsmError> {
        let opening = self.how_it_opens()?;
        opening.aes.as_ref().map_err(self_test_failed)?;
        StagedKey::open(self.clone(), opening, key.name(), enveloped, expected)
    }

    /// The ways in which the token opens key blocks under AES inside, the preferred one first. Found out
    /// once. One under TDEA may be refused by [`Self::open_inside`] still.
    ///
    /// # Errors
    /// The HSM is unavailable. Where it has no such way, that is the inner error.
    pub fn opening(&self) -> Result<Result<Vec<OpeningWay>, Missing>, HsmError> {
        Ok(self.how_it_opens()?.ways(ContentCipher::Aes128Cbc))
    }

    /// Opens a key block in process memory, for a terminal whose token cannot open it inside.
    ///
    /// # Errors
    /// [`HsmError::OpeningFailed`] for whatever is wrong with Ke or the block.
    pub fn open_in_process_memory(
        &self,
        key: &DecryptionKey,
        enveloped: &EnvelopedKeyBlock,
        consent: InProcessMemoryConsent,
    ) -> Result<ClearKeyBlock, HsmError> {
        let name = key.name().clone();
        let enveloped = enveloped.clone();
        self.run("open a key block", move |worker| {
            open::open_in_process_memory(worker, &name, &enveloped, consent)
        })
    }

    /// Loads clear key bytes as a session object, to be committed or dropped.
    ///
    /// # Errors
    /// The length is not the kind's; the token refuses.
    pub fn load_clear_key(&self, key: &ClearKey, kind: KeyKind) -> Result<StagedKey, HsmError> {
        StagedKey::load(self.clone(), key, kind)
    }

    /// Work for clients: by a worker of the pool, within the deadline.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Worker) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let sessions = Arc::clone(&self.shared.sessions);
        self.shared
            .pool
            .run(operation, move || sessions.work(operation, work))
    }

    /// As [`Self::run`], for callers that await the answer and say themselves for how long.
    pub(crate) async fn answer<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Worker) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let sessions = Arc::clone(&self.shared.sessions);
        let work = move || sessions.work(operation, work);
        self.shared.pool.answer(operation, work).await
    }

    /// Acts that change what the token holds: here and now, in a session of their own.
    pub(crate) fn writer(&self) -> Result<Worker, HsmError> {
        self.shared.sessions.writer()
    }

    fn place(&self) -> &Workplace {
        self.shared.sessions.place()
    }
}

fn start_pool(config: &TokenConfig) -> Result<Arc<Pool>, HsmError> {
    let (threads, queue) = (config.workers, config.queue);
    let pool = Pool::start(threads, queue, config.deadline, config.max_stuck);
    pool.map(Arc::new).map_err(|error| not_started(&error))
}

fn not_started(error: &std::io::Error) -> HsmError {
    HsmError::Unavailable {
        operation: "start a thread",
        reason: error.to_string(),
    }
}

/// What is found out once, as in the life of a token that is open.
pub(crate) fn found_once<T>(
    known: &OnceLock<T>,
    find: impl FnOnce() -> Result<T, HsmError>,
) -> Result<&T, HsmError> {
    if let Some(known) = known.get() {
        return Ok(known);
    }
    let found = find()?;
    Ok(known.get_or_init(|| found))
}

pub(crate) fn self_test_failed(missing: &Missing) -> HsmError {
    HsmError::SelfTest {
        what: missing.to_string(),
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.title())
    }
}
