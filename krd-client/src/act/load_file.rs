//! Loading a key from a file: one-pass, off line.

use crate::{
    CurrentKeyToken, Delivery, Expectation, ExpectedFreshness, KrdError, Line, LoadRefusal,
    OnePassFile, SlotName, SlotOutcome, SlotReport, Terminal, TokenFileError,
    receipt::sign_receipt,
};

impl Terminal {
    /// Loads the key in a one-pass key token that came as a file, if its lines and the token bear each
    /// other out. The receipt waits for the next [`Terminal::load`], in the place of one of this slot that
    /// waits already: what counts is the key that is held.
    ///
    /// # Errors
    /// The key is refused; the slot holds what it held before. Unlike with a key that was asked for, a
    /// wrong check value is not reported: it may be the file's line that is wrong, which nobody signed.
    pub fn load_file(
        &self,
        file: &OnePassFile,
        only: Option<&SlotName>,
    ) -> Result<SlotReport, KrdError> {
        let (_, credentials) = self.credentials()?;
        let binding = self.settled_binding()?.binding;
        let kdh = binding.kdh()?;
        if let Some(named) = only.filter(|named| **named != file.slot) {
            return Err(KrdError::OtherSlot {
                named: named.clone(),
                in_file: file.slot.clone(),
            });
        }
        if file.device != self.config.serial {
            return Err(LoadRefusal::Recipient.into());
        }
        let opener = self.opener(self.encryption_key()?)?;
        self.keyring().sweep()?;

        self.evidence.keep("kt-kdh.der", &file.kt_kdh)?;
        let remembered = self.memory().crl()?;
        let last = self.memory().last_signing_time()?;
        let expected = Expectation {
            trust: self.kdh_trust(remembered.as_ref()),
            kdh: kdh.certificate(),
            freshness: ExpectedFreshness::SigningTime(self.signing_time_bounds(&credentials, last)),
            own_id: &Self::own_id(&credentials)?,
            oaep_hashes: &self.config.oaep_hashes,
            header: &file.header,
        };
        let token = CurrentKeyToken::verify(&file.kt_kdh, &expected.trust)?;
        self.memory().keep_crl(token.crl())?;
        let token = token.verify_origin(&expected)?;
        binding.after(&token.as_authentic())?;
        if let Some(held) = self.keyring().slot(&file.slot)?.held {
            if held.outdates(file.key_version, kdh.id()) {
                return Err(KrdError::Load(LoadRefusal::OlderKey {
                    announced: file.key_version,
                    held: held.key_version,
                }));
            }
            // Two deliveries never share a name, and the key's name is made of it.
            if held.key_version == file.key_version && held.delivery_id == file.delivery_id {
                return Err(TokenFileError::Senseless(Line::Delivery).into());
            }
        }

        let staged = opener.open(token.to_open()?)?;
        let computed = staged.kcv(file.kcv.value().len())?;
        if computed != file.kcv {
            return Err(KrdError::Load(LoadRefusal::KcvMismatch {
                announced: file.kcv.clone(),
                computed,
            }));
        }
        let delivery = Delivery {
            slot: file.slot.clone(),
            id: file.delivery_id.clone(),
            key_version: file.key_version,
            header: token.header().clone(),
            kdh: kdh.id().clone(),
        };
        let receipt = sign_receipt(
            &self.authentication_key()?,
            &self.config.serial,
            &delivery,
            &computed,
            &file.kt_kdh,
        )?;
        // Before the key counts: cut off in between, the token is used up and another one is needed.
        if let Some(at) = token.signing_time() {
            self.memory().raise_signing_time(at)?;
        }
        self.keyring()
            .commit(staged, &delivery, &computed, receipt)?;
        Ok(SlotReport {
            slot: delivery.slot,
            key_version: delivery.key_version,
            outcome: Ok(SlotOutcome::LoadedOffLine {
                header: delivery.header.to_string(),
                kcv: computed.to_string(),
            }),
        })
    }
}
