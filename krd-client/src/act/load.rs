use hsm::{DecryptionKey, InProcessMemoryConsent, Kcv, StagedKey};
use kdh_proto::{Reason, v1::Assignment};
use pki::Certificate;
use tr34::{IssuerAndSerial, Kbh, KrdNonce, NONCE_LEN, RandomToken};

use crate::{
    CurrentKeyToken, Delivery, Expectation, KrdError, LoadRefusal, SlotName, Terminal,
    VerifiedKeyToken, expected_key_blocks,
    host::Host,
    receipt::{kcv_from_wire, sign_receipt},
    terminal::damaged,
    verify_key_block, verify_key_kind,
};

/// What became of the slots.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Receipts of an earlier run that were sent now.
    pub receipts_sent: Vec<SlotName>,
    /// Each slot that the host has a key for, or the one that was asked for.
    pub slots: Vec<SlotReport>,
}

/// What became of a slot.
#[derive(Debug)]
pub struct SlotReport {
    /// The slot.
    pub slot: SlotName,
    /// The version that the host assigned.
    pub key_version: u32,
    /// What was done, or why it was not.
    pub outcome: Result<SlotOutcome, KrdError>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotOutcome {
    /// The slot holds this version already, confirmed.
    Held,
    /// The key was loaded and the host has confirmed it.
    Loaded {
        /// Key block header.
        header: String,
        /// Check value, as the token computed it.
        kcv: String,
    },
}

/// What a terminal needs for loading.
struct Loader<'a> {
    terminal: &'a Terminal,
    host: Host,
    kdh: Certificate,
    own_id: IssuerAndSerial,
    decryption_key: DecryptionKey,
    opening: Opening,
}

/// Where key blocks are opened.
#[derive(Clone, Copy)]
enum Opening {
    /// In the token; what it cannot open there, in process memory if that is accepted.
    Inside(Option<InProcessMemoryConsent>),
    InProcessMemory(InProcessMemoryConsent),
}

/// What the host has for a slot.
struct Assigned {
    slot: SlotName,
    key_version: u32,
    header: Kbh,
    confirmed: bool,
}

/// A key token that passed, with what the host said about it.
struct Received {
    kt_kdh: Vec<u8>,
    token: VerifiedKeyToken,
    delivery: Delivery,
    announced: Kcv,
}

impl Terminal {
    /// Loads what the host has assigned: for each slot, or only for `only`, the key that is not held
    /// and confirmed yet. Before that, it clears up behind a load that was cut off: sweeps key objects
    /// that no slot names, and sends receipts that the host has not acknowledged.
    ///
    /// # Errors
    /// Nothing could be loaded at all. That one slot was refused stands in the report.
    pub async fn load(&self, only: Option<&SlotName>) -> Result<LoadReport, KrdError> {
        let (_, credentials) = self.credentials()?;
        let kdh = self.bound_kdh()?.ok_or(KrdError::NotBound)?;
        let opening = self.opening()?;
        self.keyring().sweep()?;

        let identity = self.tls_identity(&credentials)?;
        let mut loader = Loader {
            terminal: self,
            host: Host::connect(&self.config, Some(&identity)).await?,
            kdh,
            own_id: IssuerAndSerial::of_certificate(credentials.encryption.der())
                .map_err(damaged)?,
            decryption_key: self.encryption_key()?,
            opening,
        };
        let mut report = LoadReport {
            receipts_sent: loader.send_pending_receipts().await?,
            slots: Vec::new(),
        };
        for assigned in loader.assigned(only).await? {
            let outcome = match loader.bring_up_to_date(&assigned).await {
                // Whatever is no refusal of this one key would stop the others as well.
                Err(error) if error.reason().is_none() => return Err(error),
                outcome => outcome,
            };
            report.slots.push(SlotReport {
                slot: assigned.slot,
                key_version: assigned.key_version,
                outcome,
            });
        }
        Ok(report)
    }

    /// By what the token can do. Process memory is the last resort, and said aloud each time.
    fn opening(&self) -> Result<Opening, KrdError> {
        let consent = self.config.in_process_memory;
        match (self.token.opening()?, consent) {
            (Ok(_), consent) => Ok(Opening::Inside(consent)),
            (Err(missing), Some(consent)) => {
                tracing::warn!(%missing, "key blocks are opened in process memory (open-in-process-memory)");
                Ok(Opening::InProcessMemory(consent))
            }
            (Err(missing), None) => Err(KrdError::CannotOpen {
                missing: missing.to_string(),
            }),
        }
    }
}

impl Loader<'_> {
    async fn send_pending_receipts(&mut self) -> Result<Vec<SlotName>, KrdError> {
        let mut sent = Vec::new();
        for record in self.terminal.keyring().slots()? {
            if record.report.is_none() {
                continue;
            }
            match self.confirm(&record.slot).await {
                Ok(()) => sent.push(record.slot),
                // Dealt with: what the slot should hold now is in the list of assignments.
                Err(error) if is_final(&error) => {
                    tracing::warn!(slot = %record.slot, %error, "an earlier receipt was not accepted");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    async fn assigned(&mut self, only: Option<&SlotName>) -> Result<Vec<Assigned>, KrdError> {
        let assignments = self.host.list_assignments().await?;
        let mut assigned = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            assigned.push(Assigned::from_wire(&assignment)?);
        }
        if let Some(only) = only {
            assigned.retain(|assigned| assigned.slot == *only);
            if assigned.is_empty() {
                return Err(KrdError::SlotNotAssigned(only.clone()));
            }
        }
        Ok(assigned)
    }

    async fn bring_up_to_date(&mut self, assigned: &Assigned) -> Result<SlotOutcome, KrdError> {
        let keyring = self.terminal.keyring();
        if let Some(held) = keyring.slot(&assigned.slot)?.held {
            if held.key_version > assigned.key_version {
                return Err(KrdError::Load(LoadRefusal::OlderKey {
                    announced: assigned.key_version,
                    held: held.key_version,
                }));
            }
            let current = held.key_version == assigned.key_version && assigned.confirmed;
            if current && keyring.is_intact(&assigned.slot, &held)? {
                return Ok(SlotOutcome::Held);
            }
        }
        self.load_key(assigned).await
    }

    async fn load_key(&mut self, assigned: &Assigned) -> Result<SlotOutcome, KrdError> {
        let terminal = self.terminal;
        let Received {
            kt_kdh,
            token,
            delivery,
            announced,
        } = self.receive(assigned).await?;
        let staged = self.stage(&token)?;
        let computed = staged.kcv()?;
        let receipt = sign_receipt(
            &terminal.authentication_key()?,
            &terminal.config.serial,
            &delivery,
            &computed,
            &kt_kdh,
        )?;
        if computed != announced {
            drop(staged);
            terminal.keyring().keep_report(&delivery.slot, receipt)?;
            return self
                .report_mismatch(&delivery.slot, announced, computed)
                .await;
        }
        terminal
            .keyring()
            .commit(staged, &delivery, &computed, receipt)?;
        self.confirm(&delivery.slot).await?;
        Ok(SlotOutcome::Loaded {
            header: delivery.header.to_string(),
            kcv: computed.to_string(),
        })
    }

    /// Asks for a key token with a fresh nonce, and checks what comes.
    async fn receive(&mut self, assigned: &Assigned) -> Result<Received, KrdError> {
        let terminal = self.terminal;
        let nonce = fresh_nonce(terminal)?;
        let rt_krd = RandomToken::new(nonce.clone()).to_der();
        terminal.evidence.keep("rt-krd.der", &rt_krd)?;
        let slot = assigned.slot.to_string();
        let answer = self.host.request_key(slot, rt_krd).await?;
        terminal.evidence.keep("kt-kdh.der", &answer.kt_kdh)?;

        let expected = Expectation {
            trust: terminal.kdh_trust()?,
            kdh: &self.kdh,
            nonce: &nonce,
            own_id: &self.own_id,
            oaep_hashes: &terminal.config.oaep_hashes,
            header: &assigned.header,
        };
        let token = CurrentKeyToken::verify(&answer.kt_kdh, &expected.trust)?;
        terminal.memory().keep_crl(token.crl())?;
        let token = token.verify_origin(&expected)?;
        if answer.key_version != assigned.key_version {
            return Err(KrdError::Load(LoadRefusal::KeyVersion {
                announced: assigned.key_version,
                found: answer.key_version,
            }));
        }
        if answer.delivery_id.is_empty() {
            return Err(bad_answer("RequestKey", "no delivery id"));
        }
        Ok(Received {
            announced: kcv_from_wire(answer.kcv.as_ref())
                .ok_or_else(|| bad_answer("RequestKey", "no sound check value"))?,
            delivery: Delivery {
                slot: assigned.slot.clone(),
                id: answer.delivery_id,
                key_version: answer.key_version,
                header: token.header().clone(),
            },
            kt_kdh: answer.kt_kdh,
            token,
        })
    }

    /// Opens the key block, checks it, and brings the key into the token.
    fn stage(&self, token: &VerifiedKeyToken) -> Result<StagedKey, KrdError> {
        match self.opening {
            Opening::Inside(consent) => match self.open_inside(token) {
                // A key that may not lie on block boundaries, and a token that cannot cut it out.
                Err(KrdError::Token(missing @ hsm::HsmError::Unsupported { .. })) => {
                    let cannot_open = KrdError::CannotOpen {
                        missing: missing.to_string(),
                    };
                    let consent = consent.ok_or(cannot_open)?;
                    tracing::warn!(%missing, "this key block is opened in process memory (open-in-process-memory)");
                    self.open_in_process_memory(token, consent)
                }
                opened => opened,
            },
            Opening::InProcessMemory(consent) => self.open_in_process_memory(token, consent),
        }
    }

    fn open_inside(&self, token: &VerifiedKeyToken) -> Result<StagedKey, KrdError> {
        let expected = expected_key_blocks(token)?;
        let device = &self.terminal.token;
        let staged = device
            .open_inside(&self.decryption_key, token.enveloped(), &expected)
            .map_err(opening_error)?;
        verify_key_kind(staged.kind(), token)?;
        Ok(staged)
    }

    /// Outside of the token the key lives for as long as this takes.
    fn open_in_process_memory(
        &self,
        token: &VerifiedKeyToken,
        consent: InProcessMemoryConsent,
    ) -> Result<StagedKey, KrdError> {
        let device = &self.terminal.token;
        let block = device
            .open_in_process_memory(&self.decryption_key, token.enveloped(), consent)
            .map_err(opening_error)?;
        let key = verify_key_block(block.expose_clear(), token)?;
        Ok(device.load_clear_key(key.key(), key.kind())?)
    }

    /// Tells the host what came out, so that it sets this terminal apart. The refusal is the same
    /// whether the host heard it now or will with the next load.
    async fn report_mismatch(
        &mut self,
        slot: &SlotName,
        announced: Kcv,
        computed: Kcv,
    ) -> Result<SlotOutcome, KrdError> {
        if let Err(error) = self.confirm(slot).await
            && !is_final(&error)
        {
            tracing::warn!(%slot, %error, "the wrong check value is not reported yet");
        }
        Err(KrdError::Load(LoadRefusal::KcvMismatch {
            announced,
            computed,
        }))
    }

    /// Sends a slot's receipt. It is forgotten once the host has accepted it, or has refused it in a
    /// way that sending it again cannot change.
    async fn confirm(&mut self, slot: &SlotName) -> Result<(), KrdError> {
        let keyring = self.terminal.keyring();
        let Some(report) = keyring.slot(slot)?.report else {
            return Ok(());
        };
        let sent = self
            .host
            .confirm(report.into())
            .await
            .map_err(KrdError::from);
        if sent.as_ref().err().is_none_or(is_final) {
            keyring.settle_report(slot, sent.is_ok())?;
        }
        sent
    }
}

impl Assigned {
    fn from_wire(assignment: &Assignment) -> Result<Self, KrdError> {
        let bad = |what: &str| bad_answer("ListAssignments", what);
        Ok(Self {
            slot: assignment
                .slot
                .parse()
                .map_err(|_| bad("a slot without a sound name"))?,
            key_version: assignment.key_version,
            header: assignment
                .header
                .parse()
                .map_err(|_| bad("an unknown key block header"))?,
            confirmed: assignment.confirmed,
        })
    }
}

fn fresh_nonce(terminal: &Terminal) -> Result<KrdNonce, KrdError> {
    let bytes: [u8; NONCE_LEN] =
        terminal
            .token
            .random(NONCE_LEN)?
            .try_into()
            .map_err(|_| hsm::HsmError::BadAnswer {
                operation: "random",
                what: "another number of bytes".to_owned(),
            })?;
    Ok(KrdNonce::from_bytes(bytes))
}

fn opening_error(error: hsm::HsmError) -> KrdError {
    match error {
        hsm::HsmError::OpeningFailed => KrdError::Load(LoadRefusal::Opening),
        other => KrdError::Token(other),
    }
}

fn bad_answer(call: &'static str, what: &str) -> KrdError {
    KrdError::BadAnswer {
        call,
        what: what.to_owned(),
    }
}

/// Whether the host has dealt with a receipt for good, if not as we would like.
const fn is_final(error: &KrdError) -> bool {
    let KrdError::Call(error) = error else {
        return false;
    };
    matches!(
        error.reason(),
        Some(Reason::KcvMismatch | Reason::DeliveryUnknown | Reason::ReceiptInvalid)
    )
}
