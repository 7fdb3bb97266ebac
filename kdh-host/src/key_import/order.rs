//! What the HSM shall bring in.

use hsm::{HsmError, Kcv, KeyImport, KeyName, KeyRole, Token, WrappedKey};
use tr34::{Kbh, KeyKind};

use super::{
    arrived::{Arrived, damaged, message},
    label,
};
use crate::{Host, HostError, key_sender::ArrivedToken, store::KeyImportRequest};

/// What the HSM shall bring in.
pub(crate) struct ImportOrder {
    pub(crate) key: ImportedKey,
    pub(crate) header: Kbh,
    /// An earlier try may have left the key.
    pub(crate) tried_before: bool,
    wrapped: Wrapped,
}

/// A key that an import has brought in, as it is in the HSM.
pub(crate) struct ImportedKey {
    pub(crate) name: KeyName,
    kind: KeyKind,
    kcv: Kcv,
}

/// What arrived, ready for the HSM.
enum Wrapped {
    Key(WrappedKey),
    /// Verified by each of the HSM's tokens that opens it.
    Token(Box<ArrivedToken>),
}

/// What the HSM shall bring in for a request, by what holds now of whoever sent it.
pub(super) async fn order(
    host: &Host,
    request: &KeyImportRequest,
    tried_before: bool,
) -> Result<ImportOrder, HostError> {
    let message = message(request)?;
    let wrapped = match Arrived::parse(&message).map_err(|_| damaged())? {
        Arrived::Wrapped(wrapped) => Wrapped::Key(wrapped),
        Arrived::KeyToken { sender, token } => {
            Wrapped::Token(Box::new(ArrivedToken::new(host, sender, token).await?))
        }
    };
    Ok(ImportOrder {
        key: ImportedKey::of(request)?,
        header: request.header.clone(),
        tried_before,
        wrapped,
    })
}

impl ImportOrder {
    /// As this token of the HSM can open it: a key token is verified once more, now.
    pub(crate) fn opened_by(&self, token: &Token) -> Result<KeyImport, HsmError> {
        Ok(KeyImport {
            wrapped: match &self.wrapped {
                Wrapped::Key(wrapped) => wrapped.clone(),
                Wrapped::Token(arrived) => WrappedKey::Tr34(Box::new(arrived.verify(token)?)),
            },
            kind: self.key.kind,
            kcv: self.key.kcv.clone(),
            header: Some(self.header.clone()),
        })
    }
}

impl ImportedKey {
    pub(super) fn of(request: &KeyImportRequest) -> Result<Self, HostError> {
        Ok(Self {
            name: label(&request.name)?,
            kind: request.kind,
            kcv: request.kcv.clone(),
        })
    }

    /// Whether this token of the HSM has it.
    pub(crate) fn is_in(&self, token: &Token) -> Result<bool, HsmError> {
        let key = match token.secret_key(KeyRole::TransportKey, &self.name) {
            Ok(key) => key,
            Err(HsmError::KeyNotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let found = token.kcv(&key)?;
        let is_announced =
            found.method() == self.kcv.method() && self.kcv.value().starts_with(found.value());
        Ok(key.kind() == self.kind && is_announced)
    }
}
