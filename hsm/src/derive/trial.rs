//! Which initial keys a module can derive inside, found out with BDKs that everybody knows: what comes out has to
//! be the initial key of the standards' examples.

use tr34::KeyKind;

use super::{InitialKey, InitialKeyId, aes, tdea};
use crate::{
    HsmError, Kcv, KcvMethod, Missing, SealingWay,
    self_test::{create, name},
    template::BDK,
    worker::Worker,
};

/// A known initial key: its kind, the BDK, the id, and its check value.
type Example = (KeyKind, &'static [u8], [u8; 8], [u8; Kcv::LEN]);

/// ANSI X9.24-3-2017, supplement; of AES-192, for which there is no example, the same by OpenSSL.
const AES_BDK: &[u8; 32] = b"\xFE\xDC\xBA\x98\x76\x54\x32\x10\xF1\xF1\xF1\xF1\xF1\xF1\xF1\xF1\
                             \xFE\xDC\xBA\x98\x76\x54\x32\x10\xF1\xF1\xF1\xF1\xF1\xF1\xF1\xF1";
const AES_ID: [u8; 8] = *b"\x12\x34\x56\x78\x90\x12\x34\x56";
/// ANSI X9.24-1-2009 A.4.
const TDEA_BDK: &[u8; 16] = b"\x01\x23\x45\x67\x89\xAB\xCD\xEF\xFE\xDC\xBA\x98\x76\x54\x32\x10";
const TDEA_ID: [u8; 8] = *b"\xFF\xFF\x98\x76\x54\x32\x10\xE0";

const EXAMPLES: [Example; 4] = [
    (
        KeyKind::Aes128,
        AES_BDK.split_at(16).0,
        AES_ID,
        [0x05, 0xef, 0x45],
    ),
    (
        KeyKind::Aes192,
        AES_BDK.split_at(24).0,
        AES_ID,
        [0x07, 0x00, 0x90],
    ),
    (KeyKind::Aes256, AES_BDK, AES_ID, [0x3f, 0x43, 0xb9]),
    (KeyKind::Tdea2, TDEA_BDK, TDEA_ID, [0xaf, 0x8c, 0x07]),
];

/// Of each kind that there are initial keys of, whether the module derives them, or what it lacks.
pub(crate) struct Derivations(Vec<(KeyKind, Result<(), Vec<&'static str>>)>);

/// Finds it out.
///
/// # Errors
/// The HSM is unavailable, which says nothing of what it can do.
pub(crate) fn derivations(worker: &Worker) -> Result<Derivations, HsmError> {
    let mut found = Derivations(Vec::new());
    for example in EXAMPLES {
        let kind = example.0;
        let outcome = match trial(worker, &example) {
            Ok(true) => Ok(()),
            Err(lost @ HsmError::Unavailable { .. }) => return Err(lost),
            // Whatever a module answers to a mechanism that it does not have, or does not do as it should.
            Ok(false) | Err(_) => Err(found.lacking(worker, kind)),
        };
        found.0.push((kind, outcome));
    }
    Ok(found)
}

impl Derivations {
    /// Refuses a kind that is not derived inside.
    pub(crate) fn require(&self, kind: KeyKind) -> Result<(), HsmError> {
        match self.0.iter().find(|(known, _)| *known == kind) {
            Some((_, Err(missing))) => Err(HsmError::Unsupported {
                operation: format!("deriving an initial key of the kind {kind} inside"),
                missing: missing.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Each kind, with what is lacking for it.
    pub(crate) fn kinds(&self) -> Vec<(KeyKind, Result<(), Missing>)> {
        let kinds = self.0.iter().map(|(kind, outcome)| {
            let missing =
                |lacking: &Vec<_>| Missing(vec![format!("needs {}", lacking.join(" and "))]);
            (*kind, outcome.as_ref().copied().map_err(missing))
        });
        kinds.collect()
    }

    /// What the module would have to have. Lists do not show the mechanisms that the binding does not know.
    fn lacking(&self, worker: &Worker, kind: KeyKind) -> Vec<&'static str> {
        let encrypts = self.0.iter().any(|(_, outcome)| outcome.is_ok());
        let [encrypting, others @ ..] = tdea::MECHANISMS;
        match kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => {
                let lacking = worker.place.lacks(&others);
                if lacking.is_empty() {
                    vec![encrypting.1]
                } else {
                    lacking
                }
            }
            KeyKind::Aes192 if encrypts => vec![aes::CUTTING.1],
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => vec![aes::MECHANISM.1],
        }
    }
}

/// Whether it is the known one.
fn trial(worker: &Worker, (kind, value, id, kcv): &Example) -> Result<bool, HsmError> {
    let session = &worker.session;
    let bdk = create(session, *kind, &BDK, SealingWay::Splice, value)?;
    let key = InitialKey {
        bdk: name()?,
        under: *kind,
        kind: *kind,
        id: InitialKeyId::new(*id),
    };
    let found = key.kcv(session, bdk.handle(), Kcv::LEN)?;
    Ok(Kcv::new(KcvMethod::for_key(*kind), kcv).is_ok_and(|expected| expected == found))
}
