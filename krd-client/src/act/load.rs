use hsm::Kcv;
use kdh_proto::{
    Reason,
    v1::{Assignment, BindingOrder, ListAssignmentsResponse, binding_order::Kind},
};
use tr34::{IssuerAndSerial, Kbh, RandomToken};

use crate::{
    Binding, Credentials, CurrentKeyToken, Delivery, Expectation, ExpectedFreshness, KrdError,
    LoadRefusal, SlotName, Terminal, VerifiedKeyToken,
    host::Host,
    receipt::{kcv_from_wire, sign_receipt},
};

use super::{obey::Moved, open::Opener, rebind::Move};

/// What became of the slots.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Receipts of an earlier run that were sent now.
    pub receipts_sent: Vec<SlotName>,
    /// What was done to the binding, because the host wants it. A terminal that is unbound loads nothing in
    /// the same call, and one that is rebound only if its new KDH is the same host.
    pub moved: Option<Moved>,
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
    /// The key was loaded off line; its receipt goes to the host with the next load on line.
    LoadedOffLine {
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
    credentials: Credentials,
    binding: Binding,
    own_id: IssuerAndSerial,
    opener: Opener<'a>,
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
    /// that no slot names, and sends receipts that the host has not acknowledged. If the host wants
    /// the terminal unbound or rebound, it obeys first.
    ///
    /// # Errors
    /// Nothing could be loaded at all. That one slot was refused stands in the report.
    pub async fn load(&self, only: Option<&SlotName>) -> Result<LoadReport, KrdError> {
        let (_, credentials) = self.credentials()?;
        let binding = self.bound(&credentials).await?;
        let opener = self.opener(self.encryption_key()?)?;
        self.keyring().sweep()?;

        let mut loader = Loader {
            terminal: self,
            host: self.connect(&credentials).await?,
            own_id: Self::own_id(&credentials)?,
            credentials,
            binding,
            opener,
        };
        let mut report = LoadReport {
            receipts_sent: loader.send_pending_receipts().await?,
            ..LoadReport::default()
        };
        let mut listed = loader.host.list_assignments().await?;
        if let Some(order) = listed.order {
            let moved = loader.obey(order).await?;
            let may_go_on = moved.kdh.is_some() && moved.acknowledged;
            report.moved = Some(moved);
            if !may_go_on {
                return Ok(report);
            }
            match loader.list_after_rebind().await? {
                Some(listed_now) => listed = listed_now,
                None => return Ok(report),
            }
        }
        for assigned in assigned(&listed, only)? {
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
}

impl Loader<'_> {
    /// What the new KDH has for this terminal, if it is this host, too. If it listens elsewhere, the terminal is
    /// no more this host's.
    async fn list_after_rebind(&mut self) -> Result<Option<ListAssignmentsResponse>, KrdError> {
        self.binding = self.terminal.memory().binding()?.binding;
        match self.host.list_assignments().await {
            Ok(listed) => Ok(Some(listed)),
            Err(error) if error.reason() == Some(Reason::NotBound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

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
                // The host has made a token that lets this terminal go, and it may have been lost: what is
                // ordered is in the list of assignments as well.
                Err(KrdError::Call(error)) if error.reason() == Some(Reason::NotBound) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Does what an operator has ordered, by a token of the bound KDH.
    async fn obey(&mut self, order: BindingOrder) -> Result<Moved, KrdError> {
        let how = match order.kind() {
            Kind::Unbind => Move::Unbind,
            Kind::Rebind => Move::Rebind,
            Kind::Unspecified => return Err(bad_answer("ListAssignments", "an unknown order")),
        };
        let terminal = self.terminal;
        let kdh = self.binding.kdh()?;
        let token = terminal
            .request_move(how, &mut self.host, kdh, &self.credentials)
            .await?;
        terminal.obey_and_report(&token, &mut self.host).await
    }

    async fn bring_up_to_date(&mut self, assigned: &Assigned) -> Result<SlotOutcome, KrdError> {
        let keyring = self.terminal.keyring();
        // What the host has not confirmed may be another key than the version says: nobody has signed the
        // lines of the file that it came in.
        let held = keyring.slot(&assigned.slot)?.held;
        if let Some(held) = held.filter(|held| held.confirmed) {
            if held.outdates(assigned.key_version, self.binding.kdh()?.id()) {
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
        let staged = self.opener.open(token.to_open()?)?;
        let computed = staged.kcv(announced.value().len())?;
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
        terminal.outdate_one_pass_tokens()?;
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
        let nonce = terminal.fresh_nonce()?;
        let rt_krd = RandomToken::new(nonce.clone()).to_der();
        terminal.evidence.keep("rt-krd.der", &rt_krd)?;
        let slot = assigned.slot.to_string();
        let answer = self.host.request_key(slot, rt_krd).await?;
        terminal.evidence.keep("kt-kdh.der", &answer.kt_kdh)?;

        let remembered = terminal.memory().crl()?;
        let expected = Expectation {
            trust: terminal.kdh_trust(remembered.as_ref()),
            kdh: self.binding.kdh()?.certificate(),
            freshness: ExpectedFreshness::Nonce(&nonce),
            own_id: &self.own_id,
            oaep_hashes: &terminal.config.oaep_hashes,
            header: &assigned.header,
        };
        let token = CurrentKeyToken::verify(&answer.kt_kdh, &expected.trust)?;
        terminal.memory().keep_crl(token.crl())?;
        let token = token.verify_origin(&expected)?;
        self.binding.after(&token.as_authentic())?;
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
                kdh: self.binding.kdh()?.id().clone(),
            },
            kt_kdh: answer.kt_kdh,
            token,
        })
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

/// What the host has for each slot, or for `only`.
fn assigned(
    listed: &ListAssignmentsResponse,
    only: Option<&SlotName>,
) -> Result<Vec<Assigned>, KrdError> {
    let assigned = listed.assignments.iter().map(Assigned::from_wire);
    let mut assigned = assigned.collect::<Result<Vec<_>, _>>()?;
    if let Some(only) = only {
        assigned.retain(|assigned| assigned.slot == *only);
        if assigned.is_empty() {
            return Err(KrdError::SlotNotAssigned(only.clone()));
        }
    }
    Ok(assigned)
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
