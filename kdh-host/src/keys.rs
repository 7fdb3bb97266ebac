//! The host's keys in its tokens, checked against its certificates before anything is served.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hsm::{
    Authenticated, Failure, FoundKey, Health, HsmError, InitialKey, Kcv, KeyName, KeyRole,
    KnSource, Module, NewKey, Pin, SecretKey, SelfTestReport, SigningKey, StorageError,
    StorageNumber, StoredKn, Token, TokenGroup, UpstreamToken,
};
use kdh_proto::Reason;
use pki::{Certificate, PublicKey, Signer as _};
use tr34::{
    ContentCipher, Freshness, IssuerAndSerial, Kbh, KeyBlockFrame, KeyKind, KeyToken, KrdNonce,
    OaepHash, Profile, SigningTime, TokenDraft,
};

use crate::{
    administration::fault_of_key,
    bdks::{self, Bdks, DerivedKey},
    config::{Config, KeForTdea, KeySender, TokenSettings},
    device_keys::{Next, UniqueKey},
    error::{HostError, StartError, refused},
    kdh::{Kdh, Kdhs},
    key_import::{ImportOrder, ImportedKey},
    key_sender::{ArrivedToken, fault_of_token},
    names::KeyAlias,
    state::DeviceKeyState,
    store::{
        DeviceKey, KeySource, Proven, Seal, Sealed, SealedRow, StoreError, StoredBdk, StoredKey,
        Verified,
    },
};

/// Labels of the host's keys.
const CA_KRD: &str = "ca-krd";
const HOST_TLS: &str = "host-tls";

/// Keys or rows in one job of the HSM: others wait for its end.
const AT_ONCE: usize = 64;

/// The host's keys. Calls that are not async block until the HSM has answered;
/// [`off_the_async_threads`] moves them away.
#[derive(Clone, Debug)]
pub(crate) struct HostKeys {
    pub(crate) ca_krd: SigningKey,
    pub(crate) host_tls: SigningKey,
    kdhs: Kdhs,
    ca_krd_id: IssuerAndSerial,
    profiles: Vec<Profile>,
    issuing_tokens: TokenGroup,
    kdh_tokens: TokenGroup,
    oaep: OaepHash,
    ke_for_tdea: KeForTdea,
    pairs: Arc<Mutex<Pairs>>,
    bdks: Arc<Bdks>,
    held: Arc<Mutex<HashMap<KeyAlias, Held>>>,
}

/// The storage keys.
#[derive(Debug)]
struct Pairs {
    /// That the HSM has, the lowest number first.
    numbers: Vec<StorageNumber>,
    /// Under which what is new comes.
    present: Option<StorageNumber>,
    /// Rows that were found not to be as they were sealed, and not to be mended since.
    refused: HashSet<String>,
    /// All that ever were, each of which is on record once.
    named: HashSet<String>,
}

impl Pairs {
    /// The lowest is in use: a higher one was prepared, or its rows are being moved, which the database says.
    fn new(numbers: Vec<StorageNumber>) -> Self {
        Self {
            present: numbers.first().copied(),
            numbers,
            refused: HashSet::new(),
            named: HashSet::new(),
        }
    }
}

/// A registered key as it was when the HSM was asked about it. A row of the database that says something
/// else has been changed by somebody else.
#[derive(Debug)]
struct Held {
    stored: StoredKey,
    key: SecretKey,
}

/// A key token, and how long the HSM took over it.
#[derive(Debug)]
pub(crate) struct MadeToken {
    pub(crate) kt_kdh: Vec<u8>,
    pub(crate) queued: Duration,
    pub(crate) sealing: Duration,
    pub(crate) signing: Duration,
}

/// A key token without its signature, as the bytes that are to be signed.
struct Draft(TokenDraft);

impl AsRef<[u8]> for Draft {
    fn as_ref(&self) -> &[u8] {
        self.0.to_be_signed()
    }
}

/// What goes into a key token.
#[derive(Clone, Debug)]
pub(crate) struct TokenOrder {
    pub(crate) profile: Profile,
    /// Who signs.
    pub(crate) kdh: IssuerAndSerial,
    pub(crate) key: Sealed<DeviceKey>,
    pub(crate) freshness: Freshness,
    pub(crate) now: SigningTime,
    pub(crate) recipient: PublicKey,
    pub(crate) recipient_id: IssuerAndSerial,
    pub(crate) crl: Vec<u8>,
}

impl HostKeys {
    /// Opens the tokens, finds the keys, and seals and opens a throw-away key.
    ///
    /// # Errors
    /// Every fault that can be found: a token that does not open, a key that is missing, weak or not
    /// the certificate's, an HSM that cannot seal.
    pub(crate) fn open(config: &Config) -> Result<Self, StartError> {
        let mut opened = Opened::default();
        let issuing_tokens = opened.group("issuing-token", &config.issuing_token)?;
        let kdh_tokens = opened.group("kdh-token", &config.kdh_token)?;
        let certificates = &config.certificates;
        let mut faults = Vec::new();
        let mut find = |tokens: &TokenGroup, role, label: &str, certificate: &Certificate| {
            signing_key(tokens, role, label, certificate)
                .map_err(|fault| faults.push(fault))
                .ok()
        };
        let ca_krd = find(
            &issuing_tokens,
            KeyRole::IssuingCa,
            CA_KRD,
            &certificates.ca_krd,
        );
        let mut kdh = |key: &KeyName, certificate: &Certificate| {
            Some(Kdh {
                key: find(&kdh_tokens, KeyRole::KdhSigning, key.label(), certificate)?,
                certificate: certificate.clone(),
                id: certificate.issuer_and_serial().ok()?,
            })
        };
        let present = kdh(&config.kdh_key, &certificates.kdh);
        let retiring = config.retiring_kdhs.iter();
        let retiring: Vec<_> = retiring
            .map(|settings| kdh(&settings.key, &settings.certificate))
            .collect();
        let host_tls = find(
            &kdh_tokens,
            KeyRole::TlsServer,
            HOST_TLS,
            &certificates.host_tls,
        );
        let retiring: Option<Vec<Kdh>> = retiring.into_iter().collect();
        let (Some(ca_krd), Some(present), Some(retiring), Some(host_tls)) =
            (ca_krd, present, retiring, host_tls)
        else {
            return Err(StartError(faults));
        };
        if config.oaep_hash == OaepHash::Sha1 {
            tracing::warn!("oaep-hash = \"sha1\": Ke travels under RSA-OAEP with SHA-1");
        }
        let reports = kdh_tokens.self_test(config.oaep_hash).map_err(|error| {
            StartError::one(format!(
                "kdh-token: this HSM cannot seal key tokens: {error}"
            ))
        })?;
        for report in &reports {
            tracing::info!("self-test of kdh-token: {report}");
        }
        if config.ke_for_tdea == KeForTdea::Tdea {
            require_tdea(&reports)?;
            tracing::warn!("ke-for-tdea = \"tdea\": TDEA keys travel under a Ke for TDEA");
        }
        require_receivers(&kdh_tokens, &config.key_senders)?;
        let storage = storage_keys(&kdh_tokens)?;
        let ca_krd_id = certificates.ca_krd.issuer_and_serial();
        let ca_krd_id = ca_krd_id.map_err(StartError::one)?;
        Ok(Self {
            ca_krd,
            host_tls,
            kdhs: Kdhs { present, retiring },
            profiles: config.profiles.in_use().collect(),
            ca_krd_id,
            issuing_tokens,
            kdh_tokens,
            oaep: config.oaep_hash,
            ke_for_tdea: config.ke_for_tdea,
            pairs: Arc::new(Mutex::new(Pairs::new(storage))),
            bdks: Arc::default(),
            held: Arc::default(),
        })
    }

    /// This host's KDH credentials.
    pub(crate) const fn kdhs(&self) -> &Kdhs {
        &self.kdhs
    }

    /// How tokens name `CA_KRD` as the one who signed.
    pub(crate) const fn ca_krd_id(&self) -> &IssuerAndSerial {
        &self.ca_krd_id
    }

    /// Signs a token without a key as this KDH.
    pub(crate) fn sign_as_kdh(
        &self,
        kdh: &IssuerAndSerial,
        draft: TokenDraft,
    ) -> Result<Vec<u8>, HostError> {
        sign(&self.kdh(kdh)?.key, draft)
    }

    /// The credential of this KDH, which is one of this host's.
    pub(crate) fn kdh(&self, id: &IssuerAndSerial) -> Result<&Kdh, HostError> {
        let kdh = self.kdhs.find(id);
        kdh.ok_or_else(|| HostError::Internal("the KDH is not one of this host's".to_owned()))
    }

    /// Signs a token as `CA_KRD`, the authority over terminals.
    pub(crate) fn sign_as_ca_krd(&self, draft: TokenDraft) -> Result<Vec<u8>, HostError> {
        sign(&self.ca_krd, draft)
    }

    /// Finds a master key and computes its check value.
    pub(crate) fn master_key(&self, label: &str) -> Result<FoundKey, HsmError> {
        self.kdh_tokens
            .secret_key(KeyRole::TransportKey, &KeyName::new(label)?)
    }

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

    /// Tokens without which a host would start, in words.
    pub(crate) fn absences(&self) -> Vec<String> {
        let groups = [
            ("issuing-token", &self.issuing_tokens),
            ("kdh-token", &self.kdh_tokens),
        ];
        let absent = |(section, tokens): (&str, &TokenGroup)| {
            let reasons = tokens.members().iter().filter_map(|token| match token.health() {
                Health::Lost { reason } => Some(format!(
                    "{section}: {token:?} is not there ({reason}): a host would start without it"
                )),
                Health::Ready | Health::Failed(_) => None,
            });
            reasons.collect::<Vec<_>>()
        };
        groups.into_iter().flat_map(absent).collect()
    }

    /// Whether key tokens can be made.
    pub(crate) fn health(&self) -> Health {
        self.kdh_tokens.health()
    }

    /// What this process cannot mend, if anything is: of either role, since neither comes back.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let groups = [&self.kdh_tokens, &self.issuing_tokens];
        groups.into_iter().find_map(|tokens| match tokens.health() {
            Health::Failed(failure) => Some(failure),
            Health::Ready | Health::Lost { .. } => None,
        })
    }

    /// Has `watcher` called when any token's health has changed.
    pub(crate) fn watch(&self, watcher: impl Fn() + Clone + Send + 'static) {
        self.issuing_tokens.watch(watcher.clone());
        self.kdh_tokens.watch(watcher);
    }

    /// Whether the HSM holds a registered key, still the same one, and can seal it.
    pub(crate) fn verify_held(&self, stored: &StoredKey) -> Result<(), HostError> {
        let found = self.master_key(&stored.hsm_label)?;
        let key = found.key();
        if key.kind() != stored.kind {
            return Err(HostError::Internal(format!(
                "it is {} in the HSM, and {} in the database",
                key.kind(),
                stored.kind
            )));
        }
        if *found.kcv() != stored.kcv {
            return Err(HostError::Hsm(HsmError::KcvMismatch {
                expected: stored.kcv.clone(),
                found: found.kcv().clone(),
            }));
        }
        self.verify_sealable(key, &stored.header)?;
        self.hold(stored.clone(), &found);
        Ok(())
    }

    /// What is wrong with registered keys, in words: that the HSM does not hold them, still the same ones, or cannot
    /// seal them.
    pub(crate) fn faults_of<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k StoredKey>,
    ) -> Vec<String> {
        let faults = keys.into_iter().filter_map(|key| {
            let fault = self.verify_held(key).err()?;
            Some(format!("key {}: {fault}", key.name))
        });
        faults.collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<KeyAlias, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a key that was verified while it was registered.
    pub(crate) fn hold(&self, stored: StoredKey, found: &FoundKey) {
        let key = found.key().clone();
        let present = (&self.kdhs.present, Profile::default());
        self.with_request(present, key.kind(), &stored.header, |request| {
            self.kdh_tokens.require_from_now_on(found, request);
        });
        self.held()
            .insert(stored.name.clone(), Held { stored, key });
    }

    /// Takes note that a key was not registered after all.
    pub(crate) fn release(&self, name: &KeyAlias, key: &SecretKey) {
        self.kdh_tokens.require_no_more(key);
        self.held().remove(name);
    }

    /// The BDKs that are known.
    pub(crate) fn bdks(&self) -> &Bdks {
        &self.bdks
    }

    /// Takes note of a BDK that the HSM still holds.
    pub(crate) fn hold_bdk(&self, bdk: &StoredBdk) -> Result<(), HostError> {
        let found = self.find_bdk(bdk)?;
        self.bdks.hold(bdk.name.clone(), found);
        Ok(())
    }

    /// Finds a BDK in the HSM, the same one as at its registration. From now on a token that was lost is not back
    /// before it holds it, and no other key by its name is derived from.
    pub(crate) fn find_bdk(&self, bdk: &StoredBdk) -> Result<SecretKey, HostError> {
        let name = bdks::label(&bdk.name)?;
        Ok(self.agreed_key(KeyRole::Bdk, &name, bdk.kind, &bdk.kcv)?)
    }

    /// Finds a key in the HSM that others know by its check value. From now on a token that was lost is not back
    /// before it holds it.
    ///
    /// # Errors
    /// It is not there, or is another one, of which nothing is demanded any more.
    pub(crate) fn agreed_key(
        &self,
        role: KeyRole,
        name: &KeyName,
        kind: KeyKind,
        kcv: &Kcv,
    ) -> Result<SecretKey, HsmError> {
        let found = self.kdh_tokens.announced_key(role, name, kind)?;
        if found.kcv() == kcv {
            return Ok(found.key().clone());
        }
        self.kdh_tokens.require_no_more(found.key());
        Err(HsmError::KcvMismatch {
            expected: kcv.clone(),
            found: found.kcv().clone(),
        })
    }

    /// Takes note that a BDK was not registered after all, unless it was meanwhile.
    pub(crate) fn forget_bdk(&self, bdk: &StoredBdk, found: &SecretKey) {
        if !self.bdks.holds(&bdk.name) {
            self.kdh_tokens.require_no_more(found);
        }
    }

    /// The registered key of this name, if it is what a device's row says.
    fn require_held(&self, name: &KeyAlias, row: &DeviceKey) -> Result<SecretKey, HostError> {
        let held = self.held();
        let held = held.get(name).filter(|held| {
            let stored = &held.stored;
            stored.header == row.header && stored.kcv == row.kcv && held.key.kind() == row.kind
        });
        let held = held.ok_or_else(|| StoreError::NotSealed(row.title()))?;
        Ok(held.key.clone())
    }

    /// The tokens with the master keys, and with those that are shared with others.
    pub(crate) const fn kdh_tokens(&self) -> &TokenGroup {
        &self.kdh_tokens
    }

    /// Where the HSM finds the key of a row.
    pub(crate) fn source(&self, key: &Sealed<DeviceKey>) -> Result<KnSource, HostError> {
        let row = key.unproven();
        let unsealed = || StoreError::NotSealed(row.title());
        match &row.source {
            KeySource::Shared { name } => Ok(KnSource::InToken(self.require_held(name, row)?)),
            KeySource::Unique { wrapped } => Ok(KnSource::Stored(StoredKn {
                number: key.seal().ok_or_else(unsealed)?.number,
                kind: row.kind,
                wrapped: wrapped.clone().ok_or_else(unsealed)?,
            })),
            // Of the others nothing is left, and of this there is nothing that could go.
            KeySource::Derived { bdk, id } => match row.state {
                DeviceKeyState::Pending | DeviceKeyState::Active => {
                    // None was ever derived that this BDK does not derive.
                    let key = self.bdks.initial_key(bdk, row.kind, *id);
                    Ok(KnSource::Derived(key.map_err(|_| unsealed())?))
                }
                DeviceKeyState::Destroyed
                | DeviceKeyState::Withdrawn
                | DeviceKeyState::Discarded => Err(unsealed().into()),
            },
            KeySource::Nothing => Err(unsealed().into()),
        }
    }

    /// Under which pair keys are stored, and rows sealed, from now on.
    pub(crate) fn storage(&self) -> Result<StorageNumber, HostError> {
        let present = self.pairs().present;
        present.ok_or_else(|| HostError::Internal("there are no storage keys".to_owned()))
    }

    /// The pairs of storage keys that the HSM has, the lowest number first.
    pub(crate) fn storage_numbers(&self) -> Vec<StorageNumber> {
        self.pairs().numbers.clone()
    }

    /// Rows that were found not to be as the HSM has sealed them, and not to be mended since.
    pub(crate) fn refused_rows(&self) -> usize {
        self.pairs().refused.len()
    }

    /// Takes note of one; `false` if it was named before.
    pub(crate) fn note_refused(&self, row: String) -> bool {
        let mut pairs = self.pairs();
        pairs.refused.insert(row.clone());
        pairs.named.insert(row)
    }

    /// Whether it is known.
    pub(crate) fn is_refused(&self, row: &str) -> bool {
        self.pairs().refused.contains(row)
    }

    /// It is no more.
    pub(crate) fn forget_refused(&self, row: &str) {
        self.pairs().refused.remove(row);
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pair can be made, or is there.
    ///
    /// # Errors
    /// A token is not there; or the pair cannot be the same in every token: their own means have to bring it to
    /// each.
    pub(crate) fn require_makeable(&self, number: StorageNumber) -> Result<(), HostError> {
        let tokens = &self.kdh_tokens;
        let members = tokens.members();
        if let Some(absent) = members.iter().find(|token| !token.health().is_ready()) {
            let cause =
                format!("{absent:?} is not there: storage keys are changed in all tokens at once");
            return Err(HostError::Internal(cause));
        }
        if members.len() > 1 && !tokens.storage_numbers()?.contains(&number) {
            return Err(HostError::Internal(format!(
                "pair {number} is not whole in every token: make it by a ceremony, and copy it to each by the HSM's \
                 own means"
            )));
        }
        Ok(())
    }

    /// Has the HSM make a pair, if it is not there yet. The caller has seen that it can, and that nothing is under
    /// it.
    pub(crate) fn begin_storage(&self, number: StorageNumber) -> Result<(), HostError> {
        let tokens = &self.kdh_tokens;
        let mut numbers = tokens.storage_numbers()?;
        if !numbers.contains(&number) {
            let token = tokens.members().first().ok_or_else(no_token)?;
            // Of an earlier try there may be half; what is whole would have been found.
            self.destroy_pair(number)?;
            token.make_storage_keys(number)?;
            numbers = tokens.storage_numbers()?;
        }
        self.pairs().numbers = numbers;
        Ok(())
    }

    /// From now on, what is new comes under this pair, which the HSM has.
    pub(crate) fn use_storage(&self, number: StorageNumber) {
        let mut pairs = self.pairs();
        if pairs.numbers.contains(&number) {
            pairs.present = Some(number);
        }
    }

    /// Destroys a pair, or what is left of it: nothing is under it any more.
    pub(crate) fn destroy_storage(&self, number: StorageNumber) -> Result<(), HostError> {
        self.destroy_pair(number)?;
        self.pairs().numbers.retain(|held| *held != number);
        Ok(())
    }

    fn destroy_pair(&self, number: StorageNumber) -> Result<(), HostError> {
        match self.kdh_tokens.destroy_storage_keys(number) {
            Ok(()) | Err(HsmError::KeyNotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a row is sealed by the pair that is in use. Asked in the turn in which it is written: whatever is
    /// sealed by another pair may be too late.
    pub(crate) fn is_under_present<R: SealedRow>(&self, row: &Sealed<R>) -> bool {
        row.seal().map(|seal| seal.number) == self.pairs().present
    }

    /// Has the HSM bring rows under another pair.
    ///
    /// # Errors
    /// [`StorageError::At`]: the first that is not as it was sealed.
    pub(crate) async fn rewrap(
        &self,
        rows: &[Sealed<DeviceKey>],
        to: StorageNumber,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let same: Vec<_> = rows.iter().map(|row| row.unproven().clone()).collect();
        self.rewrap_as(rows, &same, to).await
    }

    /// The same, and makes each row what stands in `new` at its place, but for the key.
    async fn rewrap_as(
        &self,
        rows: &[Sealed<DeviceKey>],
        new: &[DeviceKey],
        to: StorageNumber,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let mut records = Vec::with_capacity(rows.len());
        for (index, (row, new)) in rows.iter().zip(new).enumerate() {
            let record = self.record_of(row).map_err(|_| StorageError::At {
                index,
                error: Box::new(StorageError::NoRecord),
            });
            let record = record.map_err(HsmError::from)?;
            let stored = match self.source(row) {
                Ok(KnSource::Stored(stored)) if new.source.wrapped().is_some() => Some(stored),
                _ => None,
            };
            records.push((record, stored));
        }
        let new: Arc<[DeviceKey]> = new.into();
        let rewritten = Arc::clone(&new);
        let bind = move |index: usize, wrapped: Option<&[u8]>| {
            rewritten[index].with_wrapped(wrapped).to_be_sealed()
        };
        let rewrapped = self
            .in_time(self.kdh_tokens.rewrap(to, records, bind))
            .await?;
        let sealed = new.iter().zip(rewrapped).map(|(new, rewrapped)| {
            let seal = Seal {
                number: to,
                mac: rewrapped.mac,
            };
            Sealed::new(new.with_wrapped(rewrapped.wrapped.as_deref()), Some(seal))
        });
        Ok(sealed.collect())
    }

    /// Has the HSM seal rows that take the place of others. A key that lies under an older pair comes under the present
    /// one with its row.
    pub(crate) async fn reseal(
        &self,
        old: &[Proven<DeviceKey>],
        new: Vec<DeviceKey>,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let present = self.storage()?;
        let old: Vec<_> = old.iter().map(|row| row.sealed().clone()).collect();
        let is_present = |row: &Sealed<DeviceKey>| {
            let seal = row.seal();
            seal.is_some_and(|seal| seal.number == present)
        };
        if old.iter().all(is_present) {
            return self.seal_under(present, new).await;
        }
        let mut sealed = Vec::with_capacity(new.len());
        for (old, new) in old.chunks(AT_ONCE).zip(new.chunks(AT_ONCE)) {
            sealed.extend(self.rewrap_as(old, new, present).await?);
        }
        Ok(sealed)
    }

    /// What the HSM has to verify of a row.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: it has no seal, or by no key that this HSM has.
    pub(crate) fn record_of<R: SealedRow>(
        &self,
        row: &Sealed<R>,
    ) -> Result<Authenticated, StoreError> {
        let record = row.authenticated();
        let record = record.filter(|record| self.pairs().numbers.contains(&record.number));
        record.ok_or_else(|| StoreError::NotSealed(row.unproven().title()))
    }

    /// An answer of the HSM about rows, for as long as anything waits for the HSM.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, HsmError>>,
    ) -> Result<T, HsmError> {
        let answer = tokio::time::timeout(self.kdh_tokens.deadline(), answer).await;
        answer.unwrap_or_else(|_| Err(too_late("rows of keys")))
    }

    /// Has the HSM seal rows. They hold no key that lies under another pair than the present one: see [`Self::reseal`].
    pub(crate) async fn seal<R: SealedRow>(
        &self,
        rows: Vec<R>,
    ) -> Result<Vec<Sealed<R>>, HostError> {
        self.seal_under(self.storage()?, rows).await
    }

    async fn seal_under<R: SealedRow>(
        &self,
        number: StorageNumber,
        rows: Vec<R>,
    ) -> Result<Vec<Sealed<R>>, HostError> {
        let mut sealed = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter();
        loop {
            let batch: Vec<R> = rows.by_ref().take(AT_ONCE).collect();
            if batch.is_empty() {
                return Ok(sealed);
            }
            let bytes = batch.iter().map(SealedRow::to_be_sealed).collect();
            let macs = self
                .in_time(self.kdh_tokens.authenticate(number, bytes))
                .await?;
            let batch = batch.into_iter().zip(macs);
            sealed.extend(batch.map(|(row, mac)| Sealed::new(row, Some(Seal { number, mac }))));
        }
    }

    /// The same, of one.
    pub(crate) async fn seal_one<R: SealedRow>(&self, row: R) -> Result<Sealed<R>, HostError> {
        let mut sealed = self.seal(vec![row]).await?;
        sealed.pop().ok_or_else(no_row)
    }

    /// Has the HSM verify rows.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: one is not as it was sealed.
    pub(crate) async fn prove<R: SealedRow>(
        &self,
        rows: Vec<Sealed<R>>,
    ) -> Result<Vec<Proven<R>>, HostError> {
        let not_sealed = |row: &Sealed<R>| StoreError::NotSealed(row.unproven().title());
        for batch in rows.chunks(AT_ONCE) {
            let macs = batch.iter().map(|row| self.record_of(row));
            let macs = macs.collect::<Result<_, _>>()?;
            let verified = self.in_time(self.kdh_tokens.verify_macs(macs)).await;
            verified.map_err(|error| {
                match unsealed(&error).and_then(|index| batch.get(index)) {
                    Some(row) => not_sealed(row).into(),
                    None => HostError::Hsm(error),
                }
            })?;
        }
        let proven = rows
            .into_iter()
            .map(|row| row.into_proven(Verified::by_hsm()));
        Ok(proven.collect())
    }

    /// The same, each for itself: one that is not as it was sealed is given back.
    pub(crate) async fn prove_each<R: SealedRow>(
        &self,
        rows: Vec<Sealed<R>>,
    ) -> Result<Vec<Result<Proven<R>, Sealed<R>>>, HostError> {
        let mut sound = vec![true; rows.len()];
        let mut from = 0;
        while from < rows.len() {
            let batch = &rows[from..rows.len().min(from + AT_ONCE)];
            let records = batch.iter().map_while(|row| self.record_of(row).ok());
            let records: Vec<_> = records.collect();
            let mut verified = records.len();
            if verified > 0 {
                let outcome = self.in_time(self.kdh_tokens.verify_macs(records)).await;
                if let Err(error) = outcome {
                    let first = unsealed(&error).filter(|index| *index < verified);
                    verified = first.ok_or(error)?;
                }
            }
            let all = verified == batch.len();
            from += verified;
            if !all {
                sound[from] = false;
                from += 1;
            }
        }
        let outcomes = rows.into_iter().zip(sound).map(|(row, sound)| {
            if sound {
                Ok(row.into_proven(Verified::by_hsm()))
            } else {
                Err(row)
            }
        });
        Ok(outcomes.collect())
    }

    /// The same, of one.
    pub(crate) async fn prove_one<R: SealedRow>(
        &self,
        row: Sealed<R>,
    ) -> Result<Proven<R>, HostError> {
        let mut proven = self.prove(vec![row]).await?;
        proven.pop().ok_or_else(no_row)
    }

    /// Has the HSM make a key for each of these, and seal its row.
    pub(crate) async fn make_unique(
        &self,
        next: Vec<Next>,
        key: &UniqueKey,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let number = self.storage()?;
        let mut sealed = Vec::with_capacity(next.len());
        for batch in next.chunks(AT_ONCE) {
            let batch: Arc<[Next]> = batch.into();
            let new = NewKey {
                kind: key.kind,
                kcv_len: key.kcv_len,
            };
            let keys = vec![new; batch.len()];
            let (rows, unique) = (Arc::clone(&batch), key.clone());
            let bind = move |index: usize, kcv: &Kcv, wrapped: &[u8]| {
                rows[index]
                    .unique(&unique, kcv.clone(), wrapped.to_vec())
                    .to_be_sealed()
            };
            let made = self
                .in_time(self.kdh_tokens.make_keys(number, keys, bind))
                .await?;
            let made = batch.iter().zip(made);
            sealed.extend(made.map(|(next, made)| {
                let seal = Seal {
                    number,
                    mac: made.mac,
                };
                Sealed::new(next.unique(key, made.kcv, made.wrapped), Some(seal))
            }));
        }
        Ok(sealed)
    }

    /// Has the HSM derive an initial key for each of these, with derivation ids from `first` on, and seal its row.
    pub(crate) async fn derive(
        &self,
        next: Vec<Next>,
        derived: &DerivedKey,
        first: u32,
    ) -> Result<Vec<Sealed<DeviceKey>>, HostError> {
        let key_set = &derived.key_set;
        let keys = (first..=u32::MAX).zip(&next).map(|(derivation_id, _)| {
            let id = key_set.initial_key(derivation_id);
            self.bdks.initial_key(&key_set.bdk, derived.kind, id)
        });
        let keys: Vec<InitialKey> = keys.collect::<Result<_, _>>()?;
        let mut sealed = Vec::with_capacity(next.len());
        for (next, keys) in next.chunks(AT_ONCE).zip(keys.chunks(AT_ONCE)) {
            let kcvs = self
                .kdh_tokens
                .initial_key_check_values(keys.to_vec(), derived.kcv_len);
            let kcvs = self.in_time(kcvs).await?;
            let rows = next.iter().zip(keys).zip(kcvs);
            let rows = rows.map(|((next, key), kcv)| next.derived(derived, key, kcv));
            sealed.extend(self.seal(rows.collect::<Result<_, _>>()?).await?);
        }
        Ok(sealed)
    }

    /// Whether this HSM can derive such initial keys, and seal them for any terminal. No key is used.
    pub(crate) fn verify_derivable(&self, derived: &DerivedKey) -> Result<(), HostError> {
        let any = derived.key_set.initial_key(1);
        let key = self
            .bdks
            .initial_key(&derived.key_set.bdk, derived.kind, any)?;
        let header = derived.header_of(&key).map_err(ours)?;
        self.for_each_form(derived.kind, &header, |request| {
            self.kdh_tokens.verify_derivable(&key, request)
        })
    }

    /// Whether this HSM can seal a key with this header for any terminal. No key is used.
    pub(crate) fn verify_sealable(&self, key: &SecretKey, header: &Kbh) -> Result<(), HostError> {
        self.for_each_form(key.kind(), header, |request| {
            self.kdh_tokens.verify_sealable(key, request)
        })
    }

    /// Whether what is `possible` for one form is so for each in which terminals get keys.
    fn for_each_form(
        &self,
        kind: KeyKind,
        header: &Kbh,
        possible: impl Fn(&hsm::SealRequest<'_>) -> Result<(), HsmError>,
    ) -> Result<(), HostError> {
        let profiles = self.profiles.iter();
        let mut each = profiles.flat_map(|profile| self.kdhs.all().map(move |kdh| (kdh, *profile)));
        each.try_for_each(|(kdh, profile)| {
            let verified = self.with_request((kdh, profile), kind, header, &possible);
            verified.map_err(|error| match error {
                HsmError::Unsupported { .. } => {
                    let cause = format!("for terminals of profile {profile}: {error}");
                    refused(Reason::HsmUnsupported, cause)
                }
                other => other.into(),
            })
        })
    }

    /// Whether this HSM can make such keys, keep them, and seal them for any terminal. No key is used.
    pub(crate) fn verify_makeable(&self, key: &UniqueKey) -> Result<(), HostError> {
        self.for_each_form(key.kind, &key.header, |request| {
            self.kdh_tokens.verify_storable(key.kind, request)
        })
    }

    /// A request to seal a key of this kind with this header, for any terminal that is bound to a KDH and speaks a form.
    fn with_request<T>(
        &self,
        (kdh, profile): (&Kdh, Profile),
        kind: KeyKind,
        header: &Kbh,
        act: impl FnOnce(&hsm::SealRequest<'_>) -> T,
    ) -> T {
        act(&hsm::SealRequest {
            frame: &KeyBlockFrame::new(profile, &kdh.id, header, kind.key_len()),
            // Stands for any RSA key.
            recipient: kdh.key.public_key(),
            cipher: self.cipher(kind),
            oaep: self.oaep,
        })
    }

    /// Makes a key token: verifies the key's row, seals Kn and signs, all in the HSM.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`]: the row is not as the HSM has sealed it, or its key is not.
    pub(crate) async fn make_token(&self, order: TokenOrder) -> Result<MadeToken, HostError> {
        let row = order.key.unproven();
        let not_sealed = || StoreError::NotSealed(row.title());
        let kn = self.source(&order.key)?;
        let record = self.record_of(&order.key)?;
        let kdh = self.kdh(&order.kdh)?;
        let key_len = row.kind.key_len();
        let frame = KeyBlockFrame::new(order.profile, &kdh.id, &row.header, key_len);
        let recipient = order.recipient.clone();
        let request = hsm::SealRequest {
            frame: &frame,
            recipient: &recipient,
            cipher: self.cipher(row.kind),
            oaep: self.oaep,
        };
        let (order, oaep) = (Arc::new(order.clone()), self.oaep);
        let draft = move |sealed: hsm::SealedKeyBlock| {
            let enveloped = tr34::EnvelopedKeyBlock::new(
                order.recipient_id.clone(),
                oaep,
                sealed.encrypted_key,
                sealed.encryption,
                sealed.ciphertext,
            )
            .map_err(ours)?;
            let draft = KeyToken::draft(
                order.profile,
                &enveloped,
                &order.key.unproven().header,
                &order.freshness,
                order.now,
                &order.kdh,
                &order.crl,
            );
            draft.map(Draft).map_err(ours)
        };
        let tokens = &self.kdh_tokens;
        let signed =
            tokens.seal_and_sign::<_, HostError>(&kn, Some(&record), &request, &kdh.key, draft);
        let signed = tokio::time::timeout(tokens.deadline(), signed).await;
        let signed = signed.map_err(|_| too_late("seal and sign"))?;
        let signed = signed.map_err(|error| match error {
            HostError::Hsm(HsmError::Storage(_)) => not_sealed().into(),
            other => other,
        })?;
        let Draft(draft) = signed.draft;
        Ok(MadeToken {
            kt_kdh: draft.into_token(&signed.signature).map_err(ours)?,
            queued: signed.queued,
            sealing: signed.sealing,
            signing: signed.signing,
        })
    }

    /// Under which a key of this kind travels.
    const fn cipher(&self, kind: KeyKind) -> ContentCipher {
        match (kind, self.ke_for_tdea) {
            (KeyKind::Tdea2 | KeyKind::Tdea3, KeForTdea::Tdea) => ContentCipher::DesEde3Cbc,
            _ => ContentCipher::for_key(kind),
        }
    }
}

fn no_row() -> HostError {
    HostError::Internal("the HSM has answered about no row".to_owned())
}

fn too_late(operation: &'static str) -> HsmError {
    HsmError::Unavailable {
        operation,
        reason: "deadline".to_owned(),
    }
}

/// Which of several rows is not as the HSM has sealed it, if that is what is wrong.
fn unsealed(error: &HsmError) -> Option<usize> {
    match error {
        HsmError::Storage(StorageError::At { index, .. }) => Some(*index),
        _ => None,
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

fn no_token() -> HostError {
    HostError::Internal("no token".to_owned())
}

/// The pairs of storage keys that the tokens have.
fn storage_keys(tokens: &TokenGroup) -> Result<Vec<StorageNumber>, StartError> {
    let numbers = tokens.storage_numbers();
    let numbers = numbers.map_err(|error| StartError::one(format!("kdh-token: {error}")))?;
    if numbers.is_empty() {
        return Err(StartError::one(
            "kdh-token: it has no storage keys (ksk.1 and ksm.1), under which the keys of terminals are kept: \
             make them by a ceremony with the act storage-keys",
        ));
    }
    Ok(numbers)
}

/// Refuses senders whose keys one of the HSMs cannot receive.
fn require_receivers(tokens: &TokenGroup, senders: &[KeySender]) -> Result<(), StartError> {
    let faults = senders.iter().filter_map(|sender| {
        let (pair, receiver) = (&sender.pair, &sender.receiver);
        let able = tokens.require_receiver(pair, receiver, sender.freshness);
        let fault = able.err()?;
        Some(format!("key-senders.{}: kdh-token: {fault}", sender.name))
    });
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(StartError(faults))
}

/// Refuses a configuration that needs what one of the HSMs cannot do.
fn require_tdea(reports: &[&SelfTestReport]) -> Result<(), StartError> {
    let able = |report: &&SelfTestReport| report.verify_cipher(ContentCipher::DesEde3Cbc);
    reports.iter().try_for_each(able).map_err(|missing| {
        StartError::one(format!(
            "ke-for-tdea = \"tdea\": kdh-token: this HSM cannot seal keys under TDEA: {missing}"
        ))
    })
}

fn sign(key: &SigningKey, draft: TokenDraft) -> Result<Vec<u8>, HostError> {
    let signature = key.sign(draft.to_be_signed())?;
    draft.into_token(&signature).map_err(ours)
}

fn ours(error: impl std::fmt::Display) -> HostError {
    HostError::Internal(error.to_string())
}

/// The tokens that are open: one may play both roles, and is opened once.
#[derive(Default)]
struct Opened(Vec<(TokenSettings, Token)>);

impl Opened {
    /// The tokens of a role. One that is not there is taken for lost if another one is there.
    fn group(&mut self, section: &str, settings: &TokenSettings) -> Result<TokenGroup, StartError> {
        let open = if settings.replicas.is_empty() {
            Module::open
        } else {
            Module::open_or_await
        };
        let replicas = settings.replicas.iter().enumerate();
        let sections = replicas.map(|(index, _)| format!("{section}.replicas[{index}]"));
        let sections: Vec<String> = [section.to_owned()].into_iter().chain(sections).collect();
        let token = self.token(section, settings, open)?;
        let replicas = sections[1..].iter().zip(&settings.replicas);
        let replicas = replicas.map(|(section, replica)| self.token(section, replica, open));
        let replicas: Result<Vec<Token>, StartError> = replicas.collect();
        let group = TokenGroup::new(token, replicas?);
        let mut faults = Vec::new();
        for (section, token) in sections.iter().zip(group.members()) {
            if let Health::Lost { reason } = token.health() {
                tracing::error!(
                    section,
                    ?token,
                    reason,
                    "a token is not there: it takes part when it is back"
                );
                faults.push(format!("{section}: {reason}"));
            }
        }
        if group.health().is_ready() {
            return Ok(group);
        }
        faults.push(format!(
            "{section}: one of its tokens has to be there: connect or insert one, or correct its label or \
             serial number in the configuration"
        ));
        Err(StartError(faults))
    }

    fn token(
        &mut self,
        section: &str,
        settings: &TokenSettings,
        open: impl Fn(&Module, &hsm::TokenConfig, &Pin) -> Result<Token, HsmError>,
    ) -> Result<Token, StartError> {
        let mut opened = self.0.iter();
        if let Some((_, token)) = opened.find(|(known, _)| known.is_same_token(settings)) {
            return Ok(token.clone());
        }
        let open = || {
            let pin = Pin::from_file(&settings.pin_file)?;
            open(&Module::load(&settings.module)?, &settings.token, &pin)
        };
        let token =
            open().map_err(|error: HsmError| StartError::one(format!("{section}: {error}")))?;
        self.0.push((settings.clone(), token.clone()));
        Ok(token)
    }
}

fn signing_key(
    tokens: &TokenGroup,
    role: KeyRole,
    label: &str,
    certificate: &Certificate,
) -> Result<SigningKey, String> {
    let find = || tokens.signing_key(role, &KeyName::new(label)?);
    let key = find().map_err(|error: HsmError| error.to_string())?;
    if key.public_key() != certificate.public_key() {
        return Err(format!(
            "key {label} is not the key of the certificate {}",
            certificate.subject()
        ));
    }
    Ok(key)
}

/// Runs what blocks on the HSM where blocking is allowed.
pub(crate) async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HostError::Internal(error.to_string()))?
}
