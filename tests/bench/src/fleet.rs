//! Terminals that are enrolled, on file for the parts that play them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use pki::Certificate;
use serde::{Deserialize, Serialize};
use system_tests::{
    hostile::{Identity, SoftKey, SoftTerminal},
    secret_file,
};
use tr34::{KrdCredentialToken, Profile};

/// A terminal with its certificates.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) terminal: SoftTerminal,
    /// For TLS.
    pub(crate) identity: Identity,
    pub(crate) ct_krd: Vec<u8>,
}

/// The same on file: hex.
#[derive(Serialize, Deserialize)]
struct Record {
    serial: String,
    encryption_key: String,
    authentication_key: String,
    certificate: String,
    ct_krd: String,
}

impl Member {
    /// The certificate of its RSA key.
    pub(crate) fn recipient(&self) -> Result<Certificate> {
        let token = KrdCredentialToken::parse(Profile::X9_2019, &self.ct_krd)?;
        Ok(Certificate::from_der(token.certificate())?)
    }

    fn to_record(&self) -> Result<Record> {
        Ok(Record {
            serial: self.terminal.serial.clone(),
            encryption_key: hex::encode(self.terminal.encryption.to_pkcs8()?),
            authentication_key: hex::encode(self.terminal.authentication.to_pkcs8()?),
            certificate: hex::encode(self.identity.certificate.der()),
            ct_krd: hex::encode(&self.ct_krd),
        })
    }

    fn from_record(record: &Record) -> Result<Self> {
        let key = |text: &str| SoftKey::from_pkcs8(&hex::decode(text)?);
        let authentication = key(&record.authentication_key)?;
        Ok(Self {
            identity: Identity {
                certificate: Certificate::from_der(&hex::decode(&record.certificate)?)?,
                key: authentication.clone(),
            },
            terminal: SoftTerminal {
                serial: record.serial.clone(),
                encryption: key(&record.encryption_key)?,
                authentication,
            },
            ct_krd: hex::decode(&record.ct_krd)?,
        })
    }
}

/// Writes terminals to a file that only its owner can read.
pub(crate) fn write(path: &Path, members: &[Member]) -> Result<()> {
    let records: Result<Vec<Record>> = members.iter().map(Member::to_record).collect();
    secret_file::write(path, &serde_json::to_string(&records?)?)
}

/// Reads them again.
pub(crate) fn read(path: &Path) -> Result<Vec<Member>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let records: Vec<Record> = serde_json::from_str(&text)?;
    records.iter().map(Member::from_record).collect()
}
