//! Opening, on the terminal: Kn goes out of its key block into the token.
//!
//! There is a ladder, as for sealing. On its rungs Kn and Ke stay inside; nobody can look at what
//! stands round Kn in the block, so the block that it should be is built round the key and encrypted
//! again, and has to come out the same. Where a token can do neither, the block is opened in process
//! memory, with consent.

mod aligned;
mod extract;
mod memory;

use cryptoki::object::{Attribute, KeyType, ObjectHandle};
use subtle::ConstantTimeEq;
use tr34::{ContentCipher, ContentEncryption, EnvelopedKeyBlock, KeyBlockFrame, KeyKind, OaepHash};

pub use memory::{DecryptionKey, InProcessMemoryConsent};
pub(crate) use memory::{open_in_process_memory, without_detail};

use crate::{
    HsmError, KeyName, KeyRole, Missing, OpeningWay, SealingWay, cipher,
    error::CallResult,
    inspect::{key_type, measure, stated_len, value_len},
    seal,
    session::Session,
    template::{Flag, LOADED_KEY, LOADING_KEY, Lives, MEASURED_KEY, REBUILDING_KEY, Template},
    worker::{Ephemeral, Worker, Workplace},
};

const OPERATION: &str = "open a key block";

/// The ladder.
pub(crate) const LADDER: [OpeningWay; 2] = [OpeningWay::Aligned, OpeningWay::Extract];

/// What a key block is, if it is what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedKeyBlock {
    /// Of the key.
    pub kind: KeyKind,
    /// What stands round it.
    pub frame: KeyBlockFrame,
}

/// How a token opens, by the algorithm of Ke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) aes: Result<Means, Missing>,
    pub(crate) tdea: Result<Means, Missing>,
}

/// Each way of opening that passed, with the ways of sealing that rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    pub(crate) opening: Vec<OpeningWay>,
    pub(crate) sealing: Vec<SealingWay>,
}

/// A key block under its Ke.
pub(crate) struct Encrypted<'a> {
    pub(crate) encryption: ContentEncryption,
    pub(crate) ciphertext: &'a [u8],
}

/// A Ke under a terminal's key.
pub(crate) struct EncryptedKe<'a> {
    pub(crate) cipher: ContentCipher,
    pub(crate) oaep: OaepHash,
    pub(crate) encrypted_key: &'a [u8],
}

impl<'a> EncryptedKe<'a> {
    pub(crate) fn of(enveloped: &'a EnvelopedKeyBlock) -> Self {
        Self {
            cipher: enveloped.cipher(),
            oaep: enveloped.oaep_hash(),
            encrypted_key: enveloped.encrypted_key(),
        }
    }
}

impl Opening {
    pub(crate) const fn under(&self, cipher: ContentCipher) -> &Result<Means, Missing> {
        match cipher {
            ContentCipher::Aes128Cbc | ContentCipher::Aes256Cbc => &self.aes,
            ContentCipher::DesEde3Cbc => &self.tdea,
        }
    }

    /// How the token opens under a cipher.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn means(&self, cipher: ContentCipher) -> Result<&Means, HsmError> {
        let means = self.under(cipher).as_ref();
        means.map_err(|_| HsmError::Unsupported {
            operation: format!("opening a key block under {cipher} inside"),
            missing: vec![cipher::cbc(cipher).1, extract::EXTRACT.1],
        })
    }

    /// The preferred way first.
    pub(crate) fn ways(&self, cipher: ContentCipher) -> Result<Vec<OpeningWay>, Missing> {
        match self.under(cipher) {
            Ok(means) => Ok(means.opening.clone()),
            Err(missing) => Err(missing.clone()),
        }
    }
}

/// The mechanisms that the module would have to list for a way under a cipher, and does not.
pub(crate) fn missing(
    place: &Workplace,
    way: OpeningWay,
    cipher: ContentCipher,
) -> Vec<&'static str> {
    place.lacks(&match way {
        OpeningWay::Aligned => vec![seal::OAEP, cipher::cbc(cipher)],
        OpeningWay::Extract => vec![seal::OAEP, cipher::cbc_pad(cipher), extract::EXTRACT],
    })
}

/// Kn as a session key, from the one of `expected` that the block turns out to be.
///
/// # Errors
/// [`HsmError::OpeningFailed`] for whatever is wrong with Ke or the block. [`HsmError::Unsupported`] if
/// it is none of those that can be opened, and may be one that cannot.
pub(crate) fn open(
    worker: &mut Worker,
    opening: &Opening,
    name: &KeyName,
    enveloped: &EnvelopedKeyBlock,
    expected: &[ExpectedKeyBlock],
) -> Result<(ObjectHandle, KeyKind), HsmError> {
    let cipher = enveloped.cipher();
    let means = opening.means(cipher)?;
    let private = worker.key(KeyRole::KrdEncryption, name)?;
    let session = &worker.session;
    let ke = unwrap_whole_ke(session, private, &EncryptedKe::of(enveloped), &LOADING_KEY)
        .map_err(without_detail)?;
    let encrypted = Encrypted {
        encryption: *enveloped.encryption(),
        ciphertext: enveloped.ciphertext(),
    };
    let mut outcome = HsmError::OpeningFailed;
    for candidate in expected {
        match open_as(session, means, ke.handle(), &encrypted, candidate) {
            Ok(Some(kn)) => return Ok((kn.keep(), candidate.kind)),
            Ok(None) => {}
            Err(impossible @ HsmError::Unsupported { .. }) => outcome = impossible,
            Err(error) => return Err(without_detail(error)),
        }
    }
    Err(outcome)
}

/// Ke as a session key by this template.
pub(crate) fn unwrap_ke<'s>(
    session: &'s Session,
    private: ObjectHandle,
    ke: &EncryptedKe<'_>,
    template: &Template,
) -> cryptoki::error::Result<Ephemeral<'s>> {
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(cipher::key_type(ke.cipher)));
    let oaep = seal::oaep(ke.oaep);
    let ke = session.unwrap_key(&oaep, private, ke.encrypted_key, &attributes)?;
    Ok(Ephemeral::new(session, ke))
}

/// As [`unwrap_ke`], if Ke is as long as its cipher says: a shorter one would be weaker than what was
/// checked.
pub(crate) fn unwrap_whole_ke<'s>(
    session: &'s Session,
    private: ObjectHandle,
    encrypted: &EncryptedKe<'_>,
    template: &Template,
) -> Result<Ephemeral<'s>, HsmError> {
    let ke = unwrap_ke(session, private, encrypted, template).during(OPERATION)?;
    let stated = stated_len(session, ke.handle()).during(OPERATION)?;
    let len = if let Some(len) = stated {
        len
    } else {
        // SoftHSM takes a key of any length and states none.
        let measured = unwrap_ke(session, private, encrypted, &MEASURED_KEY);
        measure(session, measured.during(OPERATION)?.handle(), "Ke")?
    };
    if len == encrypted.cipher.key_len() {
        Ok(ke)
    } else {
        Err(HsmError::OpeningFailed)
    }
}

/// `None` if the block is not `expected`.
pub(crate) fn open_as<'s>(
    session: &'s Session,
    means: &Means,
    ke: ObjectHandle,
    block: &Encrypted<'_>,
    expected: &ExpectedKeyBlock,
) -> Result<Option<Ephemeral<'s>>, HsmError> {
    let Some(way) = verify(session, means, ke, block, expected)? else {
        return Ok(None);
    };
    // Once more, now that it is known for what it is: as a key that never comes out again.
    let attributes = LOADED_KEY.attributes_with_class(Lives::InSession);
    let key_type = key_type(expected.kind);
    bring(session, way, ke, block, expected, key_type, attributes).map(Some)
}

/// How Kn is brought out of the block, if the block is `expected`: it is built round Kn and encrypted again.
pub(crate) fn verify(
    session: &Session,
    means: &Means,
    ke: ObjectHandle,
    block: &Encrypted<'_>,
    expected: &ExpectedKeyBlock,
) -> Result<Option<OpeningWay>, HsmError> {
    let frame = &expected.frame;
    let cipher = block.encryption.cipher();
    if block.ciphertext.len() != cipher.padded_len(frame.total_len()) {
        return Ok(None);
    }
    let opening = means.opening.iter().find(|way| match way {
        OpeningWay::Aligned => seal::is_aligned(frame, cipher),
        OpeningWay::Extract => true,
    });
    let fits = |way: &&SealingWay| seal::fits(**way, frame, cipher);
    let (Some(opening), Some(rebuilding)) = (opening, means.sealing.iter().find(fits)) else {
        return Err(HsmError::Unsupported {
            operation: "opening a key block that is not aligned".to_owned(),
            missing: vec![extract::EXTRACT.1],
        });
    };
    let mut attributes = REBUILDING_KEY.attributes_with_class(Lives::InSession);
    attributes.push(Flag::Derive.set(*rebuilding == SealingWay::Concatenate));
    let key_type = rebuilding_type(expected.kind);
    let kn = bring(session, *opening, ke, block, expected, key_type, attributes)?;
    let rebuilt = seal::encrypt(
        *rebuilding,
        session,
        ke,
        &block.encryption,
        frame,
        kn.handle(),
    )?;
    Ok(bool::from(rebuilt.ct_eq(block.ciphertext)).then_some(*opening))
}

/// Kn, of this type and with these attributes, out of a block that is taken for `expected`.
pub(crate) fn bring<'s>(
    session: &'s Session,
    way: OpeningWay,
    ke: ObjectHandle,
    block: &Encrypted<'_>,
    expected: &ExpectedKeyBlock,
    key_type: KeyType,
    mut attributes: Vec<Attribute>,
) -> Result<Ephemeral<'s>, HsmError> {
    let frame = &expected.frame;
    attributes.push(Attribute::KeyType(key_type));
    match way {
        OpeningWay::Aligned => aligned::bring(session, ke, block, frame, &attributes),
        OpeningWay::Extract => {
            attributes.extend(value_len(key_type, frame.key_len()).during(OPERATION)?);
            extract::bring(session, ke, block, frame, &attributes)
        }
    }
}

/// What Kn is to the token while its key block is rebuilt. A module may set the parity of what it takes
/// for a TDEA key, and the block would come out as another one.
pub(crate) const fn rebuilding_type(kind: KeyKind) -> KeyType {
    match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => KeyType::GENERIC_SECRET,
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => KeyType::AES,
    }
}
