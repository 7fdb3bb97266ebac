//! A token that is logged in to.

use std::time::Duration;

use pki::PublicKey;
use tr34::{EnvelopedKeyBlock, KeyKind, OaepHash};

use crate::{
    Capabilities, ClearKey, ClearKeyBlock, Combination, DecryptionKey, HsmError,
    InProcessMemoryConsent, Kcv, KeyName, KeyPairKind, KeyRole, SealRequest, SealedKeyBlock,
    SelfTestReport, SigningKey, StagedKey, TokenInfo,
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
    /// Whether key pairs that were made outside of the token are accepted. Never on a host: such a
    /// key may have copies.
    pub accept_imported_keys: bool,
}

impl TokenConfig {
    /// The token called `label`, with the defaults: 4 threads, 64 calls, 5 seconds.
    pub fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            serial: None,
            workers: 4,
            queue: 64,
            deadline: Duration::from_secs(5),
            accept_imported_keys: false,
        }
    }
}

/// A token that is logged in to. Clones share it; the last one logs out.
#[derive(Clone)]
pub struct Token;

/// A secret key in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    name: KeyName,
    role: KeyRole,
    kind: KeyKind,
}

impl SecretKey {
    /// Its name in the token.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// What it is for.
    pub const fn role(&self) -> KeyRole {
        self.role
    }

    /// Algorithm and length.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }
}

/// The class of a key object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// The public half of a pair.
    Public,
    /// The private half of a pair.
    Private,
    /// A symmetric key.
    Secret,
}

/// A key as it stands in the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySummary {
    /// `CKA_LABEL`.
    pub label: String,
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// Class.
    pub class: KeyClass,
    /// Algorithm and length, as in `RSA-2048`.
    pub kind: String,
    /// The attributes that are true: usages, and `CKA_SENSITIVE`, `CKA_EXTRACTABLE` and the like.
    pub attributes: Vec<&'static str>,
}

#[expect(unused_variables, clippy::missing_errors_doc, reason = "interface only")]
impl Token {
    /// What the token says about itself.
    pub fn info(&self) -> &TokenInfo {
        unimplemented!()
    }
    /// Random bytes from the token.
    pub fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        unimplemented!()
    }
    /// Makes a key pair.
    pub fn generate_key_pair(
        &self,
        role: KeyRole,
        name: &KeyName,
        kind: KeyPairKind,
    ) -> Result<PublicKey, HsmError> {
        unimplemented!()
    }
    /// Finds a private key that signs.
    pub fn signing_key(&self, role: KeyRole, name: &KeyName) -> Result<SigningKey, HsmError> {
        unimplemented!()
    }
    /// Finds a terminal's RSA key.
    pub fn decryption_key(&self, name: &KeyName) -> Result<DecryptionKey, HsmError> {
        unimplemented!()
    }
    /// Takes the right to sign from a terminal's RSA key; returns whether the module let us.
    pub fn retire_signing(&self, name: &KeyName) -> Result<bool, HsmError> {
        unimplemented!()
    }
    /// Finds a secret key.
    pub fn secret_key(&self, role: KeyRole, name: &KeyName) -> Result<SecretKey, HsmError> {
        unimplemented!()
    }
    /// Every key in the token.
    pub fn list_keys(&self) -> Result<Vec<KeySummary>, HsmError> {
        unimplemented!()
    }
    /// Destroys a key, both halves of a pair.
    pub fn destroy_key(&self, name: &KeyName) -> Result<(), HsmError> {
        unimplemented!()
    }
    /// Reads a record.
    pub fn load_record(&self, label: &str) -> Result<Option<Vec<u8>>, HsmError> {
        unimplemented!()
    }
    /// Writes or replaces a record.
    pub fn store_record(&self, label: &str, content: &[u8]) -> Result<(), HsmError> {
        unimplemented!()
    }
    /// The labels of all records that start with `prefix`, sorted.
    pub fn list_records(&self, prefix: &str) -> Result<Vec<String>, HsmError> {
        unimplemented!()
    }
    /// Destroys a record.
    pub fn destroy_record(&self, label: &str) -> Result<(), HsmError> {
        unimplemented!()
    }
    /// What the module can do, found out once.
    pub fn capabilities(&self) -> Result<&Capabilities, HsmError> {
        unimplemented!()
    }
    /// Seals and opens throw-away keys.
    pub fn self_test(&self, oaep: OaepHash) -> Result<SelfTestReport, HsmError> {
        unimplemented!()
    }
    /// A key's check value.
    pub fn kcv(&self, key: &SecretKey) -> Result<Kcv, HsmError> {
        unimplemented!()
    }
    /// Seals a Kn for a terminal.
    pub fn seal(
        &self,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<SealedKeyBlock, HsmError> {
        unimplemented!()
    }
    /// Starts to combine components.
    pub fn combine_components(&self, kind: KeyKind) -> Result<Combination, HsmError> {
        unimplemented!()
    }
    /// Opens a key block in process memory.
    pub fn open_in_process_memory(
        &self,
        key: &DecryptionKey,
        enveloped: &EnvelopedKeyBlock,
        consent: InProcessMemoryConsent,
    ) -> Result<ClearKeyBlock, HsmError> {
        unimplemented!()
    }
    /// Loads clear key bytes as a session object.
    pub fn load_clear_key(&self, key: &ClearKey, kind: KeyKind) -> Result<StagedKey, HsmError> {
        unimplemented!()
    }
}
