//! The terminal's memory: records in its token.

use hsm::Token;
use pki::{Certificate, CrlNumber, VerifiedCrl};
use serde::{Serialize, de::DeserializeOwned};
use tr34::{IssuerAndSerial, KdhCredentialToken, SigningTime};

use crate::{
    Binding, BindingState, Kdh, KrdError, SlotName, TokenDigest, Withdrawal,
    record::{
        self, BindingRecord, BindingStateRecord, CredentialBindingRecord, CrlRecord, DestroyedKey,
        FoundBinding, HexBytes, IdentityRecord, PendingAcknowledgement, RECORD_PROFILE,
        SigningTimeRecord, SlotRecord, WithdrawalRecord,
    },
    terminal::damaged,
};

const IDENTITY: &str = "krd.identity";
const BINDING: &str = "krd.kdh";
const CRL: &str = "krd.crl";
const SIGNING_TIME: &str = "krd.signing-time";
const SLOT_PREFIX: &str = "krd.slot.";

/// The binding, with what has to be remembered and changed together with it: one record.
#[derive(Clone, Debug, Default)]
pub(crate) struct RememberedBinding {
    pub(crate) binding: Binding,
    /// While it is unbinding, what the terminal held when that began.
    pub(crate) keys: Vec<DestroyedKey>,
    /// What the host has still to be told, in order.
    pub(crate) acknowledgements: Vec<PendingAcknowledgement>,
}

/// Reads and writes the records. Each write replaces a whole record or leaves the old one.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'t> {
    token: &'t Token,
}

impl<'t> Memory<'t> {
    pub(crate) const fn new(token: &'t Token) -> Self {
        Self { token }
    }

    pub(crate) fn identity(self) -> Result<Option<IdentityRecord>, KrdError> {
        self.load(IDENTITY)
    }

    pub(crate) fn keep_identity(self, record: &IdentityRecord) -> Result<(), KrdError> {
        self.store(IDENTITY, record)
    }

    /// Unbound, if there is no record.
    pub(crate) fn binding(self) -> Result<RememberedBinding, KrdError> {
        match self.load(BINDING)? {
            None => Ok(RememberedBinding::default()),
            Some(FoundBinding::Present(record)) => record.try_into(),
            Some(FoundBinding::ByCredential(record)) => record.try_into(),
        }
    }

    pub(crate) fn keep_binding(self, remembered: RememberedBinding) -> Result<(), KrdError> {
        self.store(BINDING, &BindingRecord::from(remembered))
    }

    /// The mark: only one-pass key tokens that were signed later are taken.
    pub(crate) fn last_signing_time(self) -> Result<Option<SigningTime>, KrdError> {
        let record: Option<SigningTimeRecord> = self.load(SIGNING_TIME)?;
        record
            .map(|record| SigningTime::from_unix_seconds(record.last).map_err(damaged))
            .transpose()
    }

    /// To be called before the key of a token with this signing time is kept. The time is never set
    /// back, whatever becomes of the binding.
    pub(crate) fn raise_signing_time(self, at: SigningTime) -> Result<(), KrdError> {
        if self.last_signing_time()?.is_some_and(|last| last >= at) {
            return Ok(());
        }
        let record = SigningTimeRecord {
            last: at.unix_seconds(),
        };
        self.store(SIGNING_TIME, &record)
    }

    pub(crate) fn crl(self) -> Result<Option<CrlRecord>, KrdError> {
        self.load(CRL)
    }

    /// Keeps a verified revocation list if its number is higher than that of the one kept.
    ///
    /// To be called as soon as a list is verified, whatever becomes of the message that brought it:
    /// once the terminal has seen that a host is listed, an older list must not make it forget.
    pub(crate) fn keep_crl(self, crl: &VerifiedCrl) -> Result<(), KrdError> {
        let CrlNumber(number) = crl.number();
        if self.crl()?.is_some_and(|kept| kept.number >= number) {
            return Ok(());
        }
        let record = CrlRecord {
            number,
            crl: HexBytes(crl.crl().der().to_vec()),
        };
        self.store(CRL, &record)
    }

    pub(crate) fn slot(self, slot: &SlotName) -> Result<SlotRecord, KrdError> {
        let record = self.load(&slot_label(slot))?;
        Ok(record.unwrap_or_else(|| SlotRecord {
            slot: slot.clone(),
            held: None,
            report: None,
        }))
    }

    /// All slots, sorted by name.
    pub(crate) fn slots(self) -> Result<Vec<SlotRecord>, KrdError> {
        let labels = self.token.list_records(SLOT_PREFIX)?;
        let mut slots = Vec::with_capacity(labels.len());
        for label in labels {
            slots.extend(self.load(&label)?);
        }
        Ok(slots)
    }

    pub(crate) fn keep_slot(self, record: &SlotRecord) -> Result<(), KrdError> {
        self.store(&slot_label(&record.slot), record)
    }

    pub(crate) fn forget_slots(self) -> Result<(), KrdError> {
        for label in self.token.list_records(SLOT_PREFIX)? {
            self.token.destroy_record(&label)?;
        }
        Ok(())
    }

    fn load<T: DeserializeOwned>(self, label: &str) -> Result<Option<T>, KrdError> {
        let Some(bytes) = self.token.load_record(label)? else {
            return Ok(None);
        };
        Ok(Some(record::decode(label, &bytes)?))
    }

    fn store<T: Serialize>(self, label: &str, content: &T) -> Result<(), KrdError> {
        let bytes = record::encode(label, content)?;
        Ok(self.token.store_record(label, &bytes)?)
    }
}

fn slot_label(slot: &SlotName) -> String {
    format!("{SLOT_PREFIX}{slot}")
}

impl TryFrom<BindingRecord> for RememberedBinding {
    type Error = KrdError;

    /// From the terminal's own memory, where only damage can make it fail.
    fn try_from(record: BindingRecord) -> Result<Self, KrdError> {
        let (state, keys) = match record.state {
            BindingStateRecord::Unbound => (BindingState::Unbound, Vec::new()),
            BindingStateRecord::Bound { kdh } => (BindingState::Bound(to_kdh(&kdh.0)?), Vec::new()),
            BindingStateRecord::Unbinding {
                kdh,
                token_sha256,
                keys,
            } => {
                let from = to_kdh(&kdh.0)?;
                let token = to_digest(&token_sha256)?;
                (BindingState::Unbinding { from, token }, keys)
            }
        };
        let withdrawal = |record: WithdrawalRecord| -> Result<Withdrawal, KrdError> {
            Ok(Withdrawal {
                token: to_digest(&record.token_sha256)?,
                kdh: IssuerAndSerial::parse(&record.kdh.0).map_err(damaged)?,
            })
        };
        let withdrawals = record.withdrawals.into_iter().map(withdrawal);
        Ok(Self {
            binding: Binding {
                state,
                withdrawals: withdrawals.collect::<Result<_, _>>()?,
            },
            keys,
            acknowledgements: record.acknowledgements,
        })
    }
}

impl TryFrom<CredentialBindingRecord> for RememberedBinding {
    type Error = KrdError;

    fn try_from(record: CredentialBindingRecord) -> Result<Self, KrdError> {
        let credential = KdhCredentialToken::parse(RECORD_PROFILE, &record.ct_kdh.0);
        let kdh = to_kdh(credential.map_err(damaged)?.certificate())?;
        Ok(Self {
            binding: Binding {
                state: BindingState::Bound(kdh),
                withdrawals: Vec::new(),
            },
            ..Self::default()
        })
    }
}

impl From<RememberedBinding> for BindingRecord {
    fn from(remembered: RememberedBinding) -> Self {
        let certificate = |kdh: &Kdh| HexBytes(kdh.certificate().der().to_vec());
        let state = match remembered.binding.state {
            BindingState::Unbound => BindingStateRecord::Unbound,
            BindingState::Bound(kdh) => BindingStateRecord::Bound {
                kdh: certificate(&kdh),
            },
            BindingState::Unbinding { from, token } => BindingStateRecord::Unbinding {
                kdh: certificate(&from),
                token_sha256: token.into(),
                keys: remembered.keys,
            },
        };
        let withdrawal = |withdrawal: Withdrawal| WithdrawalRecord {
            token_sha256: withdrawal.token.into(),
            kdh: HexBytes(withdrawal.kdh.to_der()),
        };
        let withdrawals = remembered.binding.withdrawals.into_iter().map(withdrawal);
        Self {
            state,
            withdrawals: withdrawals.collect(),
            acknowledgements: remembered.acknowledgements,
        }
    }
}

impl From<TokenDigest> for HexBytes {
    fn from(digest: TokenDigest) -> Self {
        Self(digest.as_bytes().to_vec())
    }
}

fn to_kdh(certificate: &[u8]) -> Result<Kdh, KrdError> {
    let certificate = Certificate::from_der(certificate).map_err(damaged)?;
    Kdh::new(certificate).map_err(damaged)
}

fn to_digest(bytes: &HexBytes) -> Result<TokenDigest, KrdError> {
    let bytes: &[u8; 32] = bytes
        .0
        .as_slice()
        .try_into()
        .map_err(|_| damaged("a digest that is none"))?;
    Ok(TokenDigest::from_bytes(*bytes))
}
