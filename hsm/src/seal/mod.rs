//! Sealing: the key block round Kn, encrypted under a fresh Ke, without Kn or Ke leaving the HSM in
//! clear.
//!
//! There is a ladder of ways. Which of them a module can really do is found out by a self-test, and
//! the first one that suits key and frame is taken.

mod concatenate;
#[cfg(feature = "leak-kn-for-boundary-test")]
mod leak;
mod splice;

use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, KeyType, ObjectHandle},
    session::Session,
};
use pki::PublicKey;
use tr34::{ContentCipher, KeyBlockFrame, OaepHash};

use crate::{
    HsmError, KeyRole, SealingWay, SecretKey,
    error::CallResult,
    keys::generate_aes,
    template::{Flag, Lives, RECIPIENT_KEY, SEALING_KEY},
    worker::{Ephemeral, Workplace},
};

const OPERATION: &str = "seal";

/// Bytes of a block of AES.
const BLOCK: usize = 16;

/// The ladder.
pub(crate) const LADDER: [SealingWay; 2] = [SealingWay::Concatenate, SealingWay::Splice];

/// What every way of sealing takes.
const COMMON_MECHANISMS: [(MechanismType, &str); 3] = [
    (MechanismType::AES_KEY_GEN, "CKM_AES_KEY_GEN"),
    (MechanismType::AES_CBC_PAD, "CKM_AES_CBC_PAD"),
    (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"),
];

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
    /// The cipher's IV.
    pub iv: [u8; 16],
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
        Ok(Self {
            way: suitable(ways, key, request)?,
            frame: request.frame.clone(),
            modulus,
            exponent,
            cipher: request.cipher,
            oaep: request.oaep,
        })
    }

    /// Ke is made, used and destroyed here.
    pub(crate) fn seal(
        &self,
        session: &Session,
        kn: ObjectHandle,
    ) -> Result<SealedKeyBlock, HsmError> {
        #[cfg(feature = "leak-kn-for-boundary-test")]
        leak::kn(session, kn)?;
        let ke = generate_aes(session, &SEALING_KEY, self.cipher.key_len());
        let ke = ke.during("seal: generate Ke")?;
        let mut iv = [0; 16];
        session.generate_random_slice(&mut iv).during("seal: IV")?;
        Ok(SealedKeyBlock {
            iv,
            ciphertext: encrypt(self.way, session, ke.handle(), iv, &self.frame, kn)?,
            encrypted_key: self.wrap_ke(session, &ke)?,
        })
    }

    fn wrap_ke(&self, session: &Session, ke: &Ephemeral<'_>) -> Result<Vec<u8>, HsmError> {
        let mut template = RECIPIENT_KEY.attributes_with_class(Lives::InSession);
        template.push(Attribute::KeyType(KeyType::RSA));
        template.push(Attribute::Modulus(self.modulus.clone()));
        template.push(Attribute::PublicExponent(self.exponent.clone()));
        let recipient = session
            .create_object(&template)
            .during("seal: import the recipient's key")?;
        let recipient = Ephemeral::new(session, recipient);
        let operation = "seal: wrap Ke";
        let wrapped = session
            .wrap_key(&oaep(self.oaep), recipient.handle(), ke.handle())
            .during(operation)?;
        require_len(&wrapped, self.modulus.len(), operation)?;
        Ok(wrapped)
    }
}

/// The mechanisms that the module would have to list for a way, and does not.
pub(crate) fn missing(place: &Workplace, way: SealingWay) -> Vec<&'static str> {
    let mut missing = place.lacks(&COMMON_MECHANISMS);
    missing.extend(missing_to_encrypt(place, way));
    missing
}

/// As [`missing`], where Ke is there already.
pub(crate) fn missing_to_encrypt(place: &Workplace, way: SealingWay) -> Vec<&'static str> {
    match way {
        SealingWay::Concatenate => place.lacks(&concatenate::MECHANISMS),
        SealingWay::Splice => place.lacks(&splice::MECHANISMS),
    }
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
    iv: [u8; BLOCK],
    frame: &KeyBlockFrame,
    kn: ObjectHandle,
) -> Result<Vec<u8>, HsmError> {
    match way {
        SealingWay::Concatenate => concatenate::encrypt(session, ke, iv, frame, kn),
        SealingWay::Splice => splice::encrypt(session, ke, iv, frame, kn),
    }
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

/// Bytes of a ciphertext with its padding (PKCS#7: a byte at least).
pub(crate) const fn padded_len(len: usize) -> usize {
    (len / BLOCK + 1) * BLOCK
}

/// RSA-OAEP with the same hash in MGF1, and the empty label.
pub(crate) fn oaep(hash: OaepHash) -> Mechanism<'static> {
    let (hash, mask) = match hash {
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
}

/// The binding returns the module's buffer as it is, so what comes back is measured.
fn require_len(answer: &[u8], expected: usize, operation: &'static str) -> Result<(), HsmError> {
    if answer.len() == expected {
        return Ok(());
    }
    Err(HsmError::BadAnswer {
        operation,
        what: format!("{} bytes, not {expected}", answer.len()),
    })
}
