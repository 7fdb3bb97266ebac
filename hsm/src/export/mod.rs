//! Keys for another system, which shares a key with the host: wrapped inside the HSM, from wherever they come.
//!
//! ```text
//! key_wrap   Kn under AES key wrap
//! key_block  Kn in a TR-31 block
//! trial      in which forms a module can, by known answers
//! ```
//!
//! A key for export only exports: what arrives under a key goes under another one. With each key goes a MAC, over
//! what the caller says of it, by a key that the other system shares too.

mod error;
mod key_block;
mod key_wrap;
mod trial;

use std::{fmt, sync::Arc};

use cryptoki::object::ObjectHandle;
use tr31::OptionalBlock;
use tr34::{Kbh, KeyKind};

pub use self::error::ExportError;
pub(crate) use self::trial::{Exports, exports};
use crate::{
    Authenticated, HsmError, Kcv, KeyRole, KnSource, Mac, SecretKey, StorageError, Token,
    TokenGroup, check_value,
    import::is_as_strong,
    inspect::require_kind,
    session::Session,
    storage::{each, make_mac},
    template::Flag,
    worker::Worker,
};

const OPERATION: &str = "export a key";

/// The keys that the host shares with the system to which keys go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportTarget {
    form: ExportForm,
    under: SecretKey,
    mac: SecretKey,
}

/// A form in which keys go to another system. Which one says the role of the key over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExportForm {
    /// AES key wrap without padding (RFC 3394), under a key of [`KeyRole::ExportZmk`].
    KeyWrap,
    /// A TR-31 block of version D, under a key of [`KeyRole::ExportKeyBlockProtection`].
    Tr31,
}

/// A key that is to be exported.
#[derive(Clone, Debug)]
pub struct KeyExport {
    /// Where it comes from.
    pub kn: KnSource,
    /// The record that it belongs to, which a stored key has to have.
    pub record: Option<Authenticated>,
    /// What it may be used for. In a key block it stands with version D; AES key wrap holds none.
    pub header: Kbh,
    /// More of that, in a key block, without padding.
    pub optional: Vec<OptionalBlock>,
    /// Bytes of its check value: 3 to 5.
    pub kcv_len: usize,
}

/// A key as it goes to the other system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedKey {
    /// Its check value.
    pub kcv: Kcv,
    /// The key: 8 bytes longer than it under AES key wrap, the characters of a key block.
    pub wrapped: Vec<u8>,
    /// AES-CMAC by the target's MAC key, of what the caller said of it.
    pub mac: Mac,
}

impl ExportTarget {
    /// The key over the exported ones, whose role says in which form they go, and the one that makes MACs.
    ///
    /// # Errors
    /// [`HsmError::WrongRole`]: they are not for export. [`HsmError::Export`]: one is no AES key.
    pub fn new(under: &SecretKey, mac: &SecretKey) -> Result<Self, HsmError> {
        let form = ExportForm::of(under.role(), mac.role())?;
        for key in [under, mac] {
            if matches!(key.kind(), KeyKind::Tdea2 | KeyKind::Tdea3) {
                return Err(ExportError::NotAes {
                    label: key.name().label().to_owned(),
                    found: key.kind(),
                }
                .into());
            }
        }
        Ok(Self {
            form,
            under: under.clone(),
            mac: mac.clone(),
        })
    }

    /// In which form keys go there.
    pub const fn form(&self) -> ExportForm {
        self.form
    }

    /// Whether a key of this kind can go there under such a header, whatever the HSM can do.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn verify_exportable(
        &self,
        kind: KeyKind,
        header: &Kbh,
        optional: &[OptionalBlock],
    ) -> Result<(), ExportError> {
        if !is_as_strong(self.under.kind(), kind) {
            return Err(ExportError::Weak {
                kind,
                label: self.under.name().label().to_owned(),
                under: self.under.kind(),
            });
        }
        if header.key_kind(kind.key_len()) != Ok(kind) {
            return Err(ExportError::HeaderOfOtherKind {
                algorithm: header.algorithm(),
                kind,
            });
        }
        match self.form {
            ExportForm::KeyWrap => Ok(()),
            ExportForm::Tr31 => key_block::written_header(kind, header, optional).map(drop),
        }
    }

    fn require(&self, export: &KeyExport) -> Result<(), HsmError> {
        if !Kcv::LENS.contains(&export.kcv_len) {
            return Err(StorageError::KcvLen(export.kcv_len).into());
        }
        let KeyExport {
            kn,
            record,
            header,
            optional,
            ..
        } = export;
        kn.require_record(record.as_ref())?;
        self.verify_exportable(kn.kind(), header, optional)?;
        match kn {
            KnSource::InToken(key) if key.role() != KeyRole::TransportKey => {
                Err(HsmError::WrongRole {
                    operation: OPERATION,
                    role: key.role(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a key in the token round which no block is put together, though the module can.
    fn require_usage(&self, kn: &KnSource) -> Result<(), HsmError> {
        match kn {
            // Made when the module had no way of sealing that takes it.
            KnSource::InToken(key) if self.form.derives() && !key.may_derive() => {
                Err(HsmError::UsageNotAllowed {
                    label: key.name().label().to_owned(),
                    usage: Flag::Derive.name(),
                })
            }
            _ => Ok(()),
        }
    }

    /// One of its keys in the token, which is still of the kind that it was.
    fn find(key: &SecretKey, worker: &mut Worker) -> Result<ObjectHandle, HsmError> {
        let found = worker.key(key.role(), key.name())?;
        require_kind(&worker.session, found, key.name().label(), key.kind())?;
        Ok(found)
    }

    fn wrap(
        &self,
        session: &Session,
        under: ObjectHandle,
        kn: ObjectHandle,
        export: &KeyExport,
    ) -> Result<Vec<u8>, HsmError> {
        #[cfg(feature = "leak-kn-for-boundary-test")]
        crate::seal::leak::kn(session, kn)?;
        let kind = export.kn.kind();
        match self.form {
            ExportForm::KeyWrap => key_wrap::wrap(session, under, kn, kind),
            ExportForm::Tr31 => {
                let under = (under, self.under.kind());
                let (header, optional) = (&export.header, &export.optional);
                let block = key_block::make(session, under, (kn, kind), header, optional)?;
                Ok(block.to_string().into_bytes())
            }
        }
    }
}

impl ExportForm {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::KeyWrap, Self::Tr31];

    /// That of keys of these roles: of the one over the exported keys, and of the one that makes MACs.
    ///
    /// # Errors
    /// [`HsmError::WrongRole`]: they are not for export.
    pub fn of(under: KeyRole, mac: KeyRole) -> Result<Self, HsmError> {
        let wrong_role = |role| HsmError::WrongRole {
            operation: OPERATION,
            role,
        };
        let form = Self::ALL.into_iter().find(|form| form.under() == under);
        let form = form.ok_or_else(|| wrong_role(under))?;
        if mac == KeyRole::ExportMac {
            Ok(form)
        } else {
            Err(wrong_role(mac))
        }
    }

    /// As configurations and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyWrap => "key-wrap",
            Self::Tr31 => "tr31",
        }
    }

    /// The role of the key over the exported ones.
    pub const fn under(self) -> KeyRole {
        match self {
            Self::KeyWrap => KeyRole::ExportZmk,
            Self::Tr31 => KeyRole::ExportKeyBlockProtection,
        }
    }

    /// Whether it is put together round Kn, which takes a base key.
    const fn derives(self) -> bool {
        matches!(self, Self::Tr31)
    }
}

impl fmt::Display for ExportForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TokenGroup {
    /// Wraps keys for another system, as one job of one token: each with its check value, and with a MAC of what
    /// `record` makes of its index, its check value and the wrapped key.
    ///
    /// No thread waits with the caller, so [`Self::deadline`] is the caller's to keep.
    ///
    /// # Errors
    /// [`HsmError::Export`], of the first key that cannot go there; [`HsmError::Unsupported`]: the module cannot do
    /// it inside; [`HsmError::Storage`]: a stored key or its record is not what it was. Otherwise the failed call.
    pub async fn export(
        &self,
        target: &ExportTarget,
        keys: Vec<KeyExport>,
        record: impl Fn(usize, &Kcv, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Vec<ExportedKey>, HsmError> {
        for key in &keys {
            target.require(key)?;
        }
        let sources: Vec<_> = keys.iter().map(|key| key.kn.clone()).collect();
        let able = |token: &Token| {
            token.exports()?.require(target.form)?;
            sources.iter().try_for_each(|kn| {
                target.require_usage(kn)?;
                kn.require_possible(token)
            })
        };
        let job = Arc::new((target.clone(), keys, record));
        let work = move |worker: &mut Worker| {
            let (target, keys, record) = &*job;
            let under = ExportTarget::find(&target.under, worker)?;
            let mac = ExportTarget::find(&target.mac, worker)?;
            let origins = each(keys, |_, key| key.kn.find(worker, key.record.as_ref()))?;
            let (session, derives) = (&worker.session, target.form.derives());
            let opened = keys.iter().zip(origins);
            let opened = each(opened, |_, (key, origin)| {
                Ok((key, key.kn.open(session, origin, derives)?))
            })?;
            let kcvs = each(&opened, |_, (key, kn)| {
                check_value::of_copy(session, kn.handle(), key.kn.kind(), key.kcv_len)
            })?;
            let wrapped = each(&opened, |_, (key, kn)| {
                target.wrap(session, under, kn.handle(), key)
            })?;
            each(kcvs.into_iter().zip(wrapped), |index, (kcv, wrapped)| {
                let mac = make_mac(session, mac, &record(index, &kcv, &wrapped))?;
                Ok(ExportedKey { kcv, wrapped, mac })
            })
        };
        self.answer_by_one(OPERATION, able, work).await
    }

    /// The MACs by the target's MAC key of these bytes: of what goes there without a key, and of what went there, to
    /// be compared.
    ///
    /// # Errors
    /// The key is not there, or is another one's. Otherwise the failed call.
    pub async fn export_macs(
        &self,
        target: &ExportTarget,
        records: Vec<Vec<u8>>,
    ) -> Result<Vec<Mac>, HsmError> {
        let job = Arc::new((target.mac.clone(), records));
        let work = move |worker: &mut Worker| {
            let (mac, records) = &*job;
            let mac = ExportTarget::find(mac, worker)?;
            each(records, |_, bytes| make_mac(&worker.session, mac, bytes))
        };
        self.answer_by_one("make MACs for export", |_| Ok(()), work)
            .await
    }

    /// Whether each healthy token can export in a form. What it can is found out once, with throw-away keys.
    ///
    /// # Errors
    /// [`HsmError::Unsupported`], naming what is missing, of one of them.
    pub fn verify_export(&self, form: ExportForm) -> Result<(), HsmError> {
        self.on_each(OPERATION, |token| token.exports()?.require(form))
            .map(drop)
    }
}
