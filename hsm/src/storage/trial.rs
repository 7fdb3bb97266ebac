//! Whether a module stores keys: a throw-away pair makes, wraps, takes back and authenticates a throw-away key of
//! each kind.

use cryptoki::mechanism::MechanismType;
use tr34::KeyKind;

use super::{
    Authenticated, NewKey, StorageNumber,
    kept::{self, Pair},
};
use crate::{
    HsmError, Kcv, Missing, check_value,
    cipher::Named,
    error::CallResult,
    keys::generate_aes,
    self_test::{KINDS, attempt},
    template::{Flag, STORAGE_KEY, STORAGE_MAC_KEY, TRANSPORT_KEY},
    worker::Worker,
};

const KEY_WRAP: Named = (MechanismType::AES_KEY_WRAP, "CKM_AES_KEY_WRAP");
const CMAC: Named = (MechanismType::AES_CMAC, "CKM_AES_CMAC");

/// Which kinds of key a module stores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storing {
    kinds: Vec<KeyKind>,
    /// With the mechanisms that the module lacks for it, and why not in words.
    refused: Vec<(KeyKind, Vec<&'static str>, String)>,
}

impl Storing {
    /// The kinds, if there are any.
    pub(crate) fn kinds(&self) -> Result<Vec<KeyKind>, Missing> {
        if self.kinds.is_empty() {
            let mut reasons: Vec<String> = Vec::new();
            for (_, _, reason) in &self.refused {
                if !reasons.contains(reason) {
                    reasons.push(reason.clone());
                }
            }
            return Err(Missing(reasons));
        }
        Ok(self.kinds.clone())
    }

    /// Refuses a kind that the module does not store.
    pub(crate) fn require(&self, kind: KeyKind) -> Result<(), HsmError> {
        let mut refused = self.refused.iter();
        match refused.find(|(refused, ..)| *refused == kind) {
            None => Ok(()),
            Some((_, missing, _)) => Err(HsmError::Unsupported {
                operation: format!("storing a key of the kind {kind}"),
                missing: missing.clone(),
            }),
        }
    }
}

/// Which kinds pass.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn trial(worker: &Worker) -> Result<Storing, HsmError> {
    let mut found = Storing::default();
    for kind in KINDS {
        let way = format!("storing a key of the kind {kind}");
        let mut lacking = worker.place.lacks(&[KEY_WRAP, CMAC, generation(kind)]);
        match attempt(&way, &way, &lacking, || trial_of(worker, kind))? {
            Ok(()) => found.kinds.push(kind),
            Err(reason) => {
                if lacking.is_empty() {
                    lacking = vec!["CKM_AES_KEY_WRAP for such a key"];
                }
                found.refused.push((kind, lacking, reason));
            }
        }
    }
    Ok(found)
}

fn trial_of(worker: &Worker, kind: KeyKind) -> Result<(), HsmError> {
    let operation = "self-test: make a storage key";
    let session = &worker.session;
    let key = generate_aes(session, &STORAGE_KEY, 32).during(operation)?;
    let mac = generate_aes(session, &STORAGE_MAC_KEY, 32).during(operation)?;
    let number = StorageNumber::FIRST;
    let pair = Pair {
        number,
        key: key.handle(),
        mac: mac.handle(),
    };
    let new = NewKey {
        kind,
        kcv_len: Kcv::LEN,
    };
    let (kcv, wrapped) = kept::make(session, pair.key, new)?;
    let record = Authenticated {
        number,
        mac: kept::sign(session, pair.mac, &wrapped)?,
        bytes: wrapped,
    };
    kept::verify(session, pair.mac, &record)?;
    let template = (&TRANSPORT_KEY, &[Flag::Derive.set(false)][..]);
    let opened = kept::unwrap_by(session, pair, kind, &record.bytes, template)
        .map_err(|failed| kept::not_open(failed, pair))?;
    let found = check_value::of_copy(session, opened.handle(), kind, Kcv::LEN)?;
    if found == kcv {
        return Ok(());
    }
    Err(HsmError::KcvMismatch {
        expected: kcv,
        found,
    })
}

const fn generation(kind: KeyKind) -> Named {
    match kind {
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => {
            (MechanismType::AES_KEY_GEN, "CKM_AES_KEY_GEN")
        }
        KeyKind::Tdea2 => (MechanismType::DES2_KEY_GEN, "CKM_DES2_KEY_GEN"),
        KeyKind::Tdea3 => (MechanismType::DES3_KEY_GEN, "CKM_DES3_KEY_GEN"),
    }
}
