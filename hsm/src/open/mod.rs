//! Opening, on the terminal: Kn goes out of its key block into the token.
//!
//! There is a ladder, as for sealing. On its rungs Kn and Ke stay inside; nobody can look at what
//! stands round Kn in the block, so the block that it should be is built round the key and encrypted
//! again, and has to come out the same. Where a token can do neither, the block is opened in process
//! memory, with consent.

mod aligned;
mod extract;
mod memory;

use cryptoki::{
    mechanism::MechanismType,
    object::{Attribute, AttributeType, KeyType, ObjectHandle},
    session::Session,
};
use subtle::ConstantTimeEq;
use tr34::{ContentCipher, EnvelopedKeyBlock, KeyBlockFrame, KeyKind, OaepHash};

pub use memory::{DecryptionKey, InProcessMemoryConsent};
pub(crate) use memory::{open_in_process_memory, without_detail};

use crate::{
    HsmError, KeyName, KeyRole, OpeningWay, SealingWay,
    error::CallResult,
    inspect::key_type,
    seal,
    template::{Flag, LOADED_KEY, LOADING_KEY, Lives, REBUILDING_KEY, Template},
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

/// How a token opens: each way that it can, with the way of sealing that rebuilds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    pub(crate) opening: Vec<OpeningWay>,
    pub(crate) sealing: Vec<SealingWay>,
}

/// A key block under its Ke.
pub(crate) struct Encrypted<'a> {
    pub(crate) cipher: ContentCipher,
    pub(crate) iv: [u8; 16],
    pub(crate) ciphertext: &'a [u8],
}

/// The mechanisms that the module would have to list for a way, and does not.
pub(crate) fn missing(place: &Workplace, way: OpeningWay) -> Vec<&'static str> {
    let mut missing = place.lacks(&[(MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP")]);
    missing.extend(match way {
        OpeningWay::Aligned => place.lacks(&aligned::MECHANISMS),
        OpeningWay::Extract => place.lacks(&extract::MECHANISMS),
    });
    missing
}

/// Kn as a session key, from the one of `expected` that the block turns out to be.
///
/// # Errors
/// [`HsmError::OpeningFailed`] for whatever is wrong with Ke or the block. [`HsmError::Unsupported`] if
/// it is none of those that can be opened, and may be one that cannot.
pub(crate) fn open(
    worker: &mut Worker,
    means: &Means,
    name: &KeyName,
    enveloped: &EnvelopedKeyBlock,
    expected: &[ExpectedKeyBlock],
) -> Result<(ObjectHandle, KeyKind), HsmError> {
    let private = worker.key(KeyRole::KrdEncryption, name)?;
    let session = &worker.session;
    let (oaep, encrypted_key) = (enveloped.oaep_hash(), enveloped.encrypted_key());
    let ke = unwrap_ke(session, private, oaep, encrypted_key, &LOADING_KEY)
        .during(OPERATION)
        .map_err(without_detail)?;
    require_len(session, &ke, enveloped.cipher()).map_err(without_detail)?;
    let encrypted = Encrypted {
        cipher: enveloped.cipher(),
        iv: *enveloped.iv(),
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
    oaep: OaepHash,
    encrypted_key: &[u8],
    template: &Template,
) -> cryptoki::error::Result<Ephemeral<'s>> {
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(KeyType::AES));
    let ke = session.unwrap_key(&seal::oaep(oaep), private, encrypted_key, &attributes)?;
    Ok(Ephemeral::new(session, ke))
}

fn require_len(
    session: &Session,
    ke: &Ephemeral<'_>,
    cipher: ContentCipher,
) -> Result<(), HsmError> {
    // A shorter Ke than the cipher's; not every module states the length of a key that it unwrapped.
    let stated = session
        .get_attributes(ke.handle(), &[AttributeType::ValueLen])
        .during(OPERATION)?;
    let other = |attribute: &Attribute| match attribute {
        Attribute::ValueLen(len) => ![0, cipher.key_len()]
            .map(u64::try_from)
            .contains(&Ok(**len)),
        _ => false,
    };
    if stated.iter().any(other) {
        return Err(HsmError::OpeningFailed);
    }
    Ok(())
}

/// `None` if the block is not `expected`.
pub(crate) fn open_as<'s>(
    session: &'s Session,
    means: &Means,
    ke: ObjectHandle,
    block: &Encrypted<'_>,
    expected: &ExpectedKeyBlock,
) -> Result<Option<Ephemeral<'s>>, HsmError> {
    let frame = &expected.frame;
    if block.ciphertext.len() != seal::padded_len(frame.total_len()) {
        return Ok(None);
    }
    let opening = means.opening.iter().find(|way| match way {
        OpeningWay::Aligned => seal::is_aligned(frame, block.cipher),
        OpeningWay::Extract => true,
    });
    let fits = |way: &&SealingWay| seal::fits(**way, frame, block.cipher);
    let (Some(opening), Some(rebuilding)) = (opening, means.sealing.iter().find(fits)) else {
        return Err(HsmError::Unsupported {
            operation: "opening a key block that is not aligned".to_owned(),
            missing: vec!["CKM_EXTRACT_KEY_FROM_KEY"],
        });
    };
    let bring = |template: &Template, change: &[Attribute]| {
        let mut attributes = template.attributes_with_class(Lives::InSession);
        attributes.push(Attribute::KeyType(key_type(expected.kind)));
        attributes.extend_from_slice(change);
        match opening {
            OpeningWay::Aligned => aligned::bring(session, ke, block, frame, &attributes),
            OpeningWay::Extract => {
                extract::bring(session, ke, block, frame, expected.kind, attributes)
            }
        }
    };

    let derives = Flag::Derive.set(*rebuilding == SealingWay::Concatenate);
    let kn = bring(&REBUILDING_KEY, &[derives])?;
    let rebuilt = seal::encrypt(*rebuilding, session, ke, block.iv, frame, kn.handle())?;
    drop(kn);
    if !bool::from(rebuilt.ct_eq(block.ciphertext)) {
        return Ok(None);
    }
    // Once more, now that it is known for what it is: as a key that never comes out again.
    bring(&LOADED_KEY, &[]).map(Some)
}
