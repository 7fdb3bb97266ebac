use hsm::{KeyPairKind, KeyRole};
use pki::{PublicKey, Signer, issue_csr};
use serde::Serialize;

use crate::{
    KrdError, Terminal,
    record::{HexBytes, IdentityRecord},
    terminal::if_found,
};

/// The terminal's keys, old or new.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Keys {
    /// Whether there were none, or not both, or not their requests.
    pub made: bool,
    /// SHA-256 of the RSA key's `SubjectPublicKeyInfo`, in hexadecimal digits.
    pub encryption_key_fingerprint: String,
    /// The same of the P-256 key.
    pub authentication_key_fingerprint: String,
    /// Whether the RSA key can do nothing but decrypt now.
    pub signing_retired: bool,
}

impl Terminal {
    /// Makes the two key pairs and their certificate requests, or what is missing of them. What is
    /// there is never made anew.
    ///
    /// The requests are made here and kept, so that the RSA key loses the right to sign at once.
    ///
    /// # Errors
    /// The token refuses. What was made until then is gone on with.
    pub fn keygen(&self) -> Result<Keys, KrdError> {
        let known = self.memory().identity()?;
        if known.is_none() {
            self.make_missing_pairs()?;
            self.memory().keep_identity(&self.make_requests()?)?;
        }
        let encryption = self.encryption_key()?;
        let signing_retired =
            !encryption.may_sign() || self.token.retire_signing(&Self::encryption_key_name()?)?;
        if !signing_retired {
            tracing::warn!("the token does not let the RSA key's right to sign be taken away");
        }
        Ok(Keys {
            made: known.is_none(),
            encryption_key_fingerprint: hex::encode(encryption.public_key().fingerprint()),
            authentication_key_fingerprint: fingerprint(self.authentication_key()?.public_key()),
            signing_retired,
        })
    }

    fn make_missing_pairs(&self) -> Result<(), KrdError> {
        if if_found(self.encryption_key())?.is_none() {
            self.token.generate_key_pair(
                KeyRole::KrdEncryption,
                &Self::encryption_key_name()?,
                KeyPairKind::Rsa {
                    bits: self.config.rsa_bits,
                },
            )?;
        }
        if if_found(self.authentication_key())?.is_none() {
            self.token.generate_key_pair(
                KeyRole::KrdAuthentication,
                &Self::authentication_key_name()?,
                KeyPairKind::P256,
            )?;
        }
        Ok(())
    }

    fn make_requests(&self) -> Result<IdentityRecord, KrdError> {
        let serial = &self.config.serial;
        let subject = format!("CN={serial}")
            .parse()
            .map_err(|error: pki::NameError| KrdError::Request(error.to_string()))?;
        let request = |key| {
            issue_csr(&key, &subject)
                .map(HexBytes)
                .map_err(|error| KrdError::Request(error.to_string()))
        };
        let encryption_key = self
            .token
            .signing_key(KeyRole::KrdEncryption, &Self::encryption_key_name()?)?;
        Ok(IdentityRecord {
            serial_number: serial.clone(),
            encryption_csr: request(encryption_key)?,
            authentication_csr: request(self.authentication_key()?)?,
            credentials: None,
        })
    }
}

fn fingerprint(key: &PublicKey) -> String {
    hex::encode(key.fingerprint())
}
