//! Sealing: the key block round Kn, encrypted under a fresh Ke, without Kn or Ke leaving the HSM in
//! clear.
//!
//! There is a ladder of ways, of which the first that is possible is taken; `splice` is the only
//! rung so far.

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
    template::{Lives, RECIPIENT_KEY, SEALING_KEY},
    worker::{Ephemeral, Workplace},
};

const OPERATION: &str = "seal";

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
    pub(crate) fn new(
        place: &Workplace,
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
        let way = choose(place)?;
        match way {
            SealingWay::Splice => splice::require_aligned(request.frame, request.cipher)?,
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
            way,
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
        let ke = self.generate_ke(session)?;
        let mut iv = [0; 16];
        session.generate_random_slice(&mut iv).during("seal: IV")?;
        let ciphertext = match self.way {
            SealingWay::Splice => splice::encrypt(session, &ke, iv, &self.frame, kn)?,
        };
        Ok(SealedKeyBlock {
            iv,
            ciphertext,
            encrypted_key: self.wrap_ke(session, &ke)?,
        })
    }

    fn generate_ke<'s>(&self, session: &'s Session) -> Result<Ephemeral<'s>, HsmError> {
        let operation = "seal: generate Ke";
        let mut template = SEALING_KEY.attributes(Lives::InSession);
        let len = self.cipher.key_len().try_into().during(operation)?;
        template.push(Attribute::ValueLen(len));
        let ke = session
            .generate_key(&Mechanism::AesKeyGen, &template)
            .during(operation)?;
        Ok(Ephemeral::new(session, ke))
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

/// The first rung that the module can stand on.
pub(crate) fn choose(place: &Workplace) -> Result<SealingWay, HsmError> {
    let mut missing = place.lacks(&COMMON_MECHANISMS);
    missing.extend(place.lacks(&splice::MECHANISMS));
    if missing.is_empty() {
        Ok(SealingWay::Splice)
    } else {
        Err(HsmError::Unsupported {
            operation: "sealing a key block".to_owned(),
            missing,
        })
    }
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
