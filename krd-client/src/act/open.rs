//! Opening key blocks, in the token or, with consent, in process memory.

use hsm::{DecryptionKey, InProcessMemoryConsent, StagedKey};

use crate::{KrdError, LoadRefusal, Terminal, key_token::ReadKeyToken};

/// Where key blocks are opened.
#[derive(Clone, Copy)]
enum Place {
    /// In the token; what it cannot open there, in process memory if that is accepted.
    Inside(Option<InProcessMemoryConsent>),
    InProcessMemory(InProcessMemoryConsent),
}

/// Opens key blocks with one of the token's keys.
pub(super) struct Opener<'t> {
    terminal: &'t Terminal,
    key: DecryptionKey,
    place: Place,
}

impl Terminal {
    /// By what the token can do. Process memory is the last resort, and said aloud each time.
    pub(super) fn opener(&self, key: DecryptionKey) -> Result<Opener<'_>, KrdError> {
        let consent = self.config.in_process_memory;
        let place = match (self.token.opening()?, consent) {
            (Ok(_), consent) => Place::Inside(consent),
            (Err(missing), Some(consent)) => {
                tracing::warn!(%missing, "key blocks are opened in process memory (open-in-process-memory)");
                Place::InProcessMemory(consent)
            }
            (Err(missing), None) => {
                return Err(KrdError::CannotOpen {
                    missing: missing.to_string(),
                });
            }
        };
        Ok(Opener {
            terminal: self,
            key,
            place,
        })
    }
}

impl Opener<'_> {
    /// Opens the key block, checks it against its token, and brings the key into the HSM, for as long as
    /// it is not committed.
    pub(super) fn open(&self, token: &ReadKeyToken) -> Result<StagedKey, KrdError> {
        match self.place {
            Place::Inside(consent) => match self.open_inside(token) {
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
            Place::InProcessMemory(consent) => self.open_in_process_memory(token, consent),
        }
    }

    fn open_inside(&self, token: &ReadKeyToken) -> Result<StagedKey, KrdError> {
        let device = &self.terminal.token;
        let staged = device
            .open_inside(
                &self.key,
                token.token().enveloped(),
                &token.expected_blocks(),
            )
            .map_err(opening_error)?;
        token.verify_kind(staged.kind())?;
        Ok(staged)
    }

    /// Outside of the token the key lives for as long as this takes.
    fn open_in_process_memory(
        &self,
        token: &ReadKeyToken,
        consent: InProcessMemoryConsent,
    ) -> Result<StagedKey, KrdError> {
        let device = &self.terminal.token;
        let block = device
            .open_in_process_memory(&self.key, token.token().enveloped(), consent)
            .map_err(opening_error)?;
        let key = token.verify_block(block.expose_clear())?;
        Ok(device.load_clear_key(key.key(), key.kind())?)
    }
}

fn opening_error(error: hsm::HsmError) -> KrdError {
    match error {
        hsm::HsmError::OpeningFailed => KrdError::Load(LoadRefusal::Opening),
        other => KrdError::Token(other),
    }
}
