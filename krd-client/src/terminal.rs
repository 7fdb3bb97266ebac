//! A terminal: its configuration, its token, its clock. The acts stand in `act/`.

use std::sync::Arc;

use hsm::{DecryptionKey, HsmError, KeyName, KeyRole, Module, Pin, SigningKey, Token, TokenConfig};
use pki::CrlNumber;
use token_tls::TlsIdentity;
use tr34::{IssuerAndSerial, KrdCredentialToken, KrdNonce, Profile, SigningTime};

use crate::{
    Clock, Config, Credentials, Evidence, KdhTrust, Keyring, KrdError, RememberedCrl,
    SigningTimeBounds,
    memory::Memory,
    record::{CredentialsRecord, CrlRecord, IdentityRecord, RECORD_PROFILE},
};

const ENCRYPTION_KEY: &str = "krd-encryption";
const AUTHENTICATION_KEY: &str = "krd-authentication";

/// A terminal, with its token open.
pub struct Terminal {
    pub(crate) config: Config,
    pub(crate) token: Token,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) evidence: Evidence,
}

impl Terminal {
    /// Opens the configured token.
    ///
    /// # Errors
    /// The module, the token or the PIN; the token belongs to another terminal.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        evidence: Evidence,
    ) -> Result<Self, KrdError> {
        let access = &config.token;
        let token_config = TokenConfig {
            serial: access.serial.clone(),
            workers: 1,
            accept_imported_keys: access.accept_imported_keys,
            ..TokenConfig::new(&access.label)
        };
        let pin = Pin::from_file(&access.pin_file)?;
        let token = Module::load(&access.module)?.open(&token_config, &pin)?;
        Self::with_token(config, token, clock, evidence)
    }

    /// For a token that is open already; [`Config::token`] is not looked at.
    ///
    /// # Errors
    /// The token belongs to another terminal.
    pub fn with_token(
        config: Config,
        token: Token,
        clock: Arc<dyn Clock>,
        evidence: Evidence,
    ) -> Result<Self, KrdError> {
        let terminal = Self {
            config,
            token,
            clock,
            evidence,
        };
        terminal.warn_of_unsafe_choices();
        terminal.verify_owner()?;
        Ok(terminal)
    }

    /// The unsafe choices are said aloud at every start.
    fn warn_of_unsafe_choices(&self) {
        if self.config.oaep_hashes.contains(&tr34::OaepHash::Sha1) {
            tracing::warn!("RSA-OAEP with SHA-1 is accepted (oaep-hashes)");
        }
        if !self.config.profile.carries_crl() {
            tracing::warn!(
                profile = %self.config.profile,
                "tokens bring no revocation list: a current one comes with krd bind only (profile)"
            );
        }
        if self.config.token.accept_imported_keys {
            tracing::warn!("keys that were not made in the token are accepted (imported-keys)");
        }
    }

    /// A token goes with one serial number for good.
    fn verify_owner(&self) -> Result<(), KrdError> {
        match self.memory().identity()? {
            Some(identity) if identity.serial_number != self.config.serial => {
                Err(KrdError::OtherTerminal {
                    in_token: identity.serial_number,
                    configured: self.config.serial.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    pub(crate) const fn memory(&self) -> Memory<'_> {
        Memory::new(&self.token)
    }

    /// The slots and the keys in them.
    pub const fn keyring(&self) -> Keyring<'_> {
        Keyring::new(&self.token)
    }

    pub(crate) fn encryption_key_name() -> Result<KeyName, KrdError> {
        Ok(KeyName::new(ENCRYPTION_KEY)?)
    }

    pub(crate) fn authentication_key_name() -> Result<KeyName, KrdError> {
        Ok(KeyName::new(AUTHENTICATION_KEY)?)
    }

    pub(crate) fn encryption_key(&self) -> Result<DecryptionKey, KrdError> {
        Ok(self.token.decryption_key(&Self::encryption_key_name()?)?)
    }

    pub(crate) fn authentication_key(&self) -> Result<SigningKey, KrdError> {
        let name = Self::authentication_key_name()?;
        Ok(self.token.signing_key(KeyRole::KrdAuthentication, &name)?)
    }

    /// The record of the terminal's keys.
    pub(crate) fn identity(&self) -> Result<IdentityRecord, KrdError> {
        self.memory().identity()?.ok_or(KrdError::NoKeys)
    }

    /// The terminal's certificates, as they are kept.
    pub(crate) fn credentials(&self) -> Result<(CredentialsRecord, Credentials), KrdError> {
        let record = self.identity()?.credentials.ok_or(KrdError::NotEnrolled)?;
        let credentials = record.parse()?;
        Ok((record, credentials))
    }

    pub(crate) fn tls_identity(&self, credentials: &Credentials) -> Result<TlsIdentity, KrdError> {
        let leaf = std::iter::once(&credentials.authentication);
        Ok(TlsIdentity {
            chain: leaf.chain(&credentials.chain).cloned().collect(),
            key: self.authentication_key()?,
        })
    }

    /// What the terminal knows of hosts now. `remembered` comes from [`Memory::crl`].
    pub(crate) fn kdh_trust<'a>(&'a self, remembered: Option<&'a CrlRecord>) -> KdhTrust<'a> {
        KdhTrust {
            profile: self.config.profile,
            ca: &self.config.trust.kdh,
            last_crl: remembered.map(|crl| RememberedCrl {
                number: CrlNumber(crl.number),
                der: &crl.crl.0,
            }),
            min_rsa_bits: self.config.min_rsa_bits,
            now: self.clock.now(),
        }
    }

    /// For a token that was signed later than `last`, if there is one.
    pub(crate) fn signing_time_bounds(
        &self,
        credentials: &Credentials,
        last: Option<SigningTime>,
    ) -> SigningTimeBounds {
        SigningTimeBounds {
            since: credentials.encryption.not_before(),
            last,
            now: self.clock.now(),
            skew: self.config.signing_time_skew,
        }
    }

    /// From here on no one-pass key token counts that was signed before now, as far as two clocks can tell:
    /// one that was never loaded must not bring back a key that was replaced or destroyed since.
    pub(crate) fn outdate_one_pass_tokens(&self) -> Result<(), KrdError> {
        let at = self.clock.now() - self.config.signing_time_skew;
        let seconds = u64::try_from(at.unix_timestamp()).unwrap_or_default();
        let at = SigningTime::from_unix_seconds(seconds).map_err(damaged)?;
        self.memory().raise_signing_time(at)
    }

    /// How tokens name the terminal.
    pub(crate) fn own_id(credentials: &Credentials) -> Result<IssuerAndSerial, KrdError> {
        credentials.encryption.issuer_and_serial().map_err(damaged)
    }

    /// Made by the token, as long as the profile has it.
    pub(crate) fn fresh_nonce(&self) -> Result<KrdNonce, KrdError> {
        let bytes = self.token.random(self.config.profile.nonce_len())?;
        KrdNonce::new(&bytes).map_err(|_| {
            KrdError::Token(HsmError::BadAnswer {
                operation: "random",
                what: "another number of bytes".to_owned(),
            })
        })
    }
}

impl CredentialsRecord {
    /// From the terminal's own memory, where only damage can make it fail.
    pub(crate) fn parse(&self) -> Result<Credentials, KrdError> {
        Credentials::parse(
            RECORD_PROFILE,
            &self.ct_krd.0,
            &self.authentication_certificate.0,
            &self.chain,
        )
        .map_err(damaged)
    }
}

/// `CT_KRD`.
pub(crate) fn ct_krd(credentials: &Credentials, profile: Profile) -> Result<Vec<u8>, KrdError> {
    let token = KrdCredentialToken::new(credentials.encryption.der()).map_err(damaged)?;
    Ok(token.to_der(profile))
}

pub(crate) fn damaged(error: impl std::fmt::Display) -> KrdError {
    KrdError::DamagedMemory(error.to_string())
}

/// Turns "there is none" into `None`.
pub(crate) fn if_found<T>(found: Result<T, KrdError>) -> Result<Option<T>, KrdError> {
    match found {
        Ok(key) => Ok(Some(key)),
        Err(KrdError::Token(HsmError::KeyNotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}
