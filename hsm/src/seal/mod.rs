//! Sealing: the key block round Kn, encrypted under a fresh Ke, without Kn or Ke leaving the HSM in
//! clear.
//!
//! There is a ladder of ways. Which of them a module can really do is found out by a self-test, and
//! the first one that suits key and frame is taken.

mod concatenate;
#[cfg(feature = "leak-kn-for-boundary-test")]
pub(crate) mod leak;
mod splice;

pub(crate) use self::concatenate::put_together;
use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, KeyType, ObjectHandle},
};
use pki::PublicKey;
use tr34::{ContentCipher, ContentEncryption, KeyBlockFrame, OaepHash};

use crate::{
    HsmError, KeyRole, SealingWay, SecretKey, SelfTestReport,
    answer::wrap,
    cipher::{self, Named},
    error::CallResult,
    session::Session,
    template::{Flag, Lives, RECIPIENT_KEY, SEALING_KEY},
    worker::{Ephemeral, Workplace},
};

const OPERATION: &str = "seal";

/// The ladder.
pub(crate) const LADDER: [SealingWay; 2] = [SealingWay::Concatenate, SealingWay::Splice];

/// For Ke.
pub(crate) const OAEP: Named = (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP");

/// What to seal a Kn into, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct SealRequest<'a> {
    /// The key block round Kn.
    pub frame: &'a KeyBlockFrame,
    /// The terminal's RSA key.
    pub recipient: &'a PublicKey,
    /// The cipher under Ke.
    pub cipher: ContentCipher,
    /// The hash in RSA-OAEP.
    pub oaep: OaepHash,
}

/// A request that is kept.
#[derive(Clone)]
pub(crate) struct OwnedRequest {
    frame: KeyBlockFrame,
    recipient: PublicKey,
    cipher: ContentCipher,
    oaep: OaepHash,
}

impl From<&SealRequest<'_>> for OwnedRequest {
    fn from(request: &SealRequest<'_>) -> Self {
        Self {
            frame: request.frame.clone(),
            recipient: request.recipient.clone(),
            cipher: request.cipher,
            oaep: request.oaep,
        }
    }
}

impl OwnedRequest {
    pub(crate) const fn borrow(&self) -> SealRequest<'_> {
        SealRequest {
            frame: &self.frame,
            recipient: &self.recipient,
            cipher: self.cipher,
            oaep: self.oaep,
        }
    }
}

/// What goes into a key token's `EnvelopedData`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKeyBlock {
    /// The cipher with its IV.
    pub encryption: ContentEncryption,
    /// The key block under Ke, padding included.
    pub ciphertext: Vec<u8>,
    /// Ke under the recipient's key.
    pub encrypted_key: Vec<u8>,
}

/// A request that was found possible before any key is touched.
pub(crate) struct Plan {
    way: SealingWay,
    frame: KeyBlockFrame,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    cipher: ContentCipher,
    oaep: OaepHash,
}

impl Plan {
    /// By a way that passed the self-test with this kind of key under this cipher.
    pub(crate) fn passed(
        report: &SelfTestReport,
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<Self, HsmError> {
        let (kind, cipher) = (key.kind(), request.cipher);
        let ways = report.ways_for(kind, cipher);
        if !ways.is_empty() {
            return Self::new(&ways, key, request);
        }
        // Whether it would be another way's in any case, or is refused by the module alone.
        let all: Vec<SealingWay> = report.ways.iter().map(|passed| passed.way).collect();
        Self::new(&all, key, request)?;
        Err(HsmError::Unsupported {
            operation: format!("sealing a key of the kind {kind} under {cipher}"),
            missing: wrapping_with(&all, cipher),
        })
    }

    /// By the first of `ways` that suits key and frame; if none does, why the first one does not.
    pub(crate) fn new(
        ways: &[SealingWay],
        key: &SecretKey,
        request: &SealRequest<'_>,
    ) -> Result<Self, HsmError> {
        if key.role() != KeyRole::TransportKey {
            return Err(HsmError::WrongRole {
                operation: OPERATION,
                role: key.role(),
            });
        }
        if request.frame.key_len() != key.kind().key_len() {
            return Err(HsmError::KeyLength {
                expected: request.frame.key_len(),
                found: key.kind().key_len(),
            });
        }
        let (modulus, exponent) =
            request
                .recipient
                .rsa_components()
                .ok_or_else(|| HsmError::Unsupported {
                    operation: "sealing for a key that is not RSA".to_owned(),
                    missing: vec!["key agreement"],
                })?;
        if !request.cipher.carries(key.kind()) {
            return Err(HsmError::WeakCipher {
                kind: key.kind(),
                cipher: request.cipher,
            });
        }
        Ok(Self {
            way: suitable(ways, key, request)?,
            frame: request.frame.clone(),
            modulus,
            exponent,
            cipher: request.cipher,
            oaep: request.oaep,
        })
    }

    /// Whether Kn is derived from.
    pub(crate) fn derives(&self) -> bool {
        self.way == SealingWay::Concatenate
    }

    /// Ke is made, used and destroyed here.
    pub(crate) fn seal(
        &self,
        session: &Session,
        kn: ObjectHandle,
    ) -> Result<SealedKeyBlock, HsmError> {
        #[cfg(feature = "leak-kn-for-boundary-test")]
        leak::kn(session, kn)?;
        let ke = cipher::generate_ke(session, &SEALING_KEY, self.cipher);
        let ke = ke.during("seal: generate Ke")?;
        let encryption = cipher::with_random_iv(session, self.cipher, "seal: IV")?;
        Ok(SealedKeyBlock {
            encryption,
            ciphertext: encrypt(self.way, session, ke.handle(), &encryption, &self.frame, kn)?,
            encrypted_key: self.wrap_ke(session, &ke)?,
        })
    }

    fn wrap_ke(&self, session: &Session, ke: &Ephemeral<'_>) -> Result<Vec<u8>, HsmError> {
        let (modulus, exponent) = (&self.modulus, &self.exponent);
        wrap_for(session, (modulus, exponent), self.oaep, ke)
    }
}

/// A key under somebody's RSA key, by RSA-OAEP.
pub(crate) fn wrap_for(
    session: &Session,
    (modulus, exponent): (&[u8], &[u8]),
    hash: OaepHash,
    key: &Ephemeral<'_>,
) -> Result<Vec<u8>, HsmError> {
    let mut template = RECIPIENT_KEY.attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(KeyType::RSA));
    template.push(Attribute::Modulus(modulus.to_vec()));
    template.push(Attribute::PublicExponent(exponent.to_vec()));
    let recipient = session
        .create_object(&template)
        .during("seal: import the recipient's key")?;
    let recipient = Ephemeral::new(session, recipient);
    wrap(
        session,
        &oaep(hash),
        recipient.handle(),
        key.handle(),
        modulus.len(),
        "seal: wrap Ke",
    )
}

/// The mechanisms that the module would have to list for a way under a cipher, and does not.
pub(crate) fn missing(
    place: &Workplace,
    way: SealingWay,
    cipher: ContentCipher,
) -> Vec<&'static str> {
    let mut missing = place.lacks(&[cipher::key_gen(cipher), OAEP]);
    missing.extend(missing_to_encrypt(place, way, cipher));
    missing
}

/// As [`missing`], where Ke is there already.
pub(crate) fn missing_to_encrypt(
    place: &Workplace,
    way: SealingWay,
    cipher: ContentCipher,
) -> Vec<&'static str> {
    place.lacks(&mechanisms_to_encrypt(way, cipher))
}

/// What Kn is wrapped with by these ways, for who is told that the module refuses it.
pub(crate) fn wrapping_with(ways: &[SealingWay], cipher: ContentCipher) -> Vec<&'static str> {
    let mechanism = |way: &SealingWay| match way {
        SealingWay::Concatenate => cipher::cbc_pad(cipher).1,
        SealingWay::Splice => cipher::cbc(cipher).1,
    };
    ways.iter().map(mechanism).collect()
}

fn mechanisms_to_encrypt(way: SealingWay, cipher: ContentCipher) -> Vec<Named> {
    let mut mechanisms = vec![cipher::cbc_pad(cipher)];
    match way {
        SealingWay::Concatenate => mechanisms.extend(concatenate::MECHANISMS),
        SealingWay::Splice => mechanisms.push(cipher::cbc(cipher)),
    }
    mechanisms
}

fn suitable(
    ways: &[SealingWay],
    key: &SecretKey,
    request: &SealRequest<'_>,
) -> Result<SealingWay, HsmError> {
    let mut refusal = None;
    for way in ways {
        let suits = match way {
            SealingWay::Concatenate if key.may_derive() => Ok(()),
            // Made when the module had no better way than splicing.
            SealingWay::Concatenate => Err(HsmError::UsageNotAllowed {
                label: key.name().label().to_owned(),
                usage: Flag::Derive.name(),
            }),
            SealingWay::Splice => splice::require_aligned(request.frame, request.cipher),
        };
        match suits {
            Ok(()) => return Ok(*way),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| HsmError::Unsupported {
        operation: "sealing a key block".to_owned(),
        missing: vec!["every way of sealing"],
    }))
}

/// The key block under Ke. `frame` is one that suits the way.
pub(crate) fn encrypt(
    way: SealingWay,
    session: &Session,
    ke: ObjectHandle,
    encryption: &ContentEncryption,
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<Vec<u8>, HsmError> {
    match way {
        SealingWay::Concatenate => concatenate::encrypt(session, ke, encryption, frame, kn),
        SealingWay::Splice => splice::encrypt(session, ke, encryption, frame, kn),
    }
}

/// Puts a key block together inside, and destroys it: whether the module can.
pub(crate) fn try_to_assemble(
    session: &Session,
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<(), HsmError> {
    concatenate::assemble(session, frame, kn).map(drop)
}

/// Whether a way can seal into the frame.
pub(crate) fn fits(way: SealingWay, frame: &KeyBlockFrame, cipher: ContentCipher) -> bool {
    match way {
        SealingWay::Concatenate => true,
        SealingWay::Splice => is_aligned(frame, cipher),
    }
}

/// Whether Kn starts and ends on a block boundary.
pub(crate) fn is_aligned(frame: &KeyBlockFrame, cipher: ContentCipher) -> bool {
    splice::require_aligned(frame, cipher).is_ok()
}

/// RSA-OAEP with the same hash in MGF1, and the empty label.
pub(crate) fn oaep(hash: OaepHash) -> Mechanism<'static> {
    let (hash, mask) = match hash {
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
}
