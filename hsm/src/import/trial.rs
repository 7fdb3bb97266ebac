//! Which forms a module can do, found out with keys that everybody knows: what independent programs made is
//! unwrapped as a real import would, and has to be the key that they took.

use cryptoki::object::{Attribute, KeyType, ObjectHandle};
use tr31::KeyBlock;
use tr34::{ContentCipher, KeyKind, OaepHash};

use super::{ImportForm, KeyWrap, WrappedKey, key_block, key_wrap};
use crate::{
    HsmError, Missing, check_value,
    error::CallResult,
    inspect::public_key,
    kcv::{Kcv, KcvMethod},
    open::Opening,
    seal::{self, OAEP},
    secret::SecretTemplate,
    self_test::{attempt, generate_rsa, name},
    template::{
        ARRIVED_KEY, IMPORT_PAIR, KEY_BLOCK_PROTECTION_KEY, Lives, SEALING_KEY, Template, ZMK,
    },
    worker::{Ephemeral, Worker},
};

/// RFC 3394 4.3: a key of 128 bits under one of 256, and its check value.
pub(crate) const OVER_KIND: KeyKind = KeyKind::Aes256;
pub(crate) const OVER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub(crate) const WRAPPED: &str = "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7";
/// The same key, by OpenSSL as in RFC 5649.
const WRAPPED_PADDED: &str = "afc860015ffe2d75bedf43c444fe58f4ad9d89c4ec71e23b";
pub(crate) const WRAPPED_KCV: [u8; Kcv::LEN] = [0x53, 0xe1, 0x07];

/// A KBPK, and a block that psec made under it, with the check value of its key.
pub(crate) const KBPK: &str = "6fc8267fd8368fe8469ff856af0d66bf";
const BLOCK: &str = "D0112K0AB00E0000C2EEFB4B455B95997E365125A4DE1AA742457F4E\
                     7C97EECE42299CCFAE7C2E70C57356CF82CD474C5270D57F5BDFBD1D";
const BLOCK_KCV: [u8; Kcv::LEN] = [0xe5, 0x3f, 0x4f];

/// Of all of them.
pub(crate) const KIND: KeyKind = KeyKind::Aes128;

/// What a module can import inside, or what it lacks for it.
pub(crate) struct Imports {
    /// For each hash of RSA-OAEP.
    rsa_oaep: [(OaepHash, Result<(), Missing>); 2],
    /// Without padding, and with.
    key_wrap: [(bool, Result<(), Missing>); 2],
    tr31: Result<(), Missing>,
    /// What the module does not list for TR-31.
    tr31_lacks: Vec<&'static str>,
}

/// Finds it out.
///
/// # Errors
/// The HSM is unavailable, which says nothing of what it can do.
pub(crate) fn imports(worker: &Worker) -> Result<Imports, HsmError> {
    let lacking = worker.place.lacks(&key_block::MECHANISMS);
    let tr31 = attempt("TR-31 version D", "TR-31 version D", &lacking, || {
        key_block(worker)
    })?;
    Ok(Imports {
        rsa_oaep: [
            (OaepHash::Sha256, rsa_oaep(worker, OaepHash::Sha256)?),
            (OaepHash::Sha1, rsa_oaep(worker, OaepHash::Sha1)?),
        ],
        key_wrap: [
            (false, key_wrap(worker, false)?),
            (true, key_wrap(worker, true)?),
        ],
        tr31: as_missing(tr31),
        tr31_lacks: lacking,
    })
}

impl Imports {
    /// Refuses what the module cannot do inside.
    pub(super) fn require(&self, wrapped: &WrappedKey) -> Result<(), HsmError> {
        let refused = |what: &str, missing: Vec<&'static str>| {
            Err(HsmError::Unsupported {
                operation: format!("importing a key {what} inside"),
                missing,
            })
        };
        let key_wrap = |key: &KeyWrap| match &self.key_wrap[usize::from(key.padded)].1 {
            Ok(()) => Ok(()),
            Err(_) => refused(
                &format!("under AES key wrap ({})", key.rfc()),
                vec![KeyWrap::named(key.padded).1],
            ),
        };
        match wrapped {
            WrappedKey::RsaOaep { oaep, key, .. } => {
                let passed = self.rsa_oaep.iter().find(|(hash, _)| hash == oaep);
                if passed.is_none_or(|(_, passed)| passed.is_err()) {
                    let hash = match oaep {
                        OaepHash::Sha1 => "CKM_RSA_PKCS_OAEP with CKM_SHA_1",
                        OaepHash::Sha256 => "CKM_RSA_PKCS_OAEP with CKM_SHA256",
                    };
                    return refused("under RSA-OAEP", vec![hash]);
                }
                key_wrap(key)
            }
            WrappedKey::Zmk { key, .. } => key_wrap(key),
            WrappedKey::Tr31 { block, .. } if block.version() != tr31::Version::D => {
                Err(key_block::unsupported_version(block))
            }
            WrappedKey::Tr31 { .. } if self.tr31.is_err() => match &self.tr31_lacks[..] {
                // All are listed, and one does not do what it should.
                [] => refused(
                    "in a TR-31 block",
                    key_block::MECHANISMS.map(|(_, name)| name).into(),
                ),
                lacking => refused("in a TR-31 block", lacking.to_vec()),
            },
            // What opens a key token was found out for terminals.
            WrappedKey::Tr31 { .. } | WrappedKey::Tr34(_) => Ok(()),
        }
    }

    /// A hash of RSA-OAEP with which a transport key can come, the stronger one if both can.
    pub(super) fn oaep(&self) -> Option<OaepHash> {
        let passed = self.rsa_oaep.iter().find(|(_, passed)| passed.is_ok());
        passed.map(|(hash, _)| *hash)
    }

    /// Each form, with what of it is possible.
    pub(crate) fn forms(&self, opening: &Opening) -> Vec<(ImportForm, Result<String, Missing>)> {
        let key_wrap = joined(&self.key_wrap, |padded| {
            if *padded { "RFC 5649" } else { "RFC 3394" }
        });
        let oaep = joined(&self.rsa_oaep, |hash| hash.name());
        let both = oaep.and_then(|oaep| Ok(format!("{oaep}; {}", key_wrap.clone()?)));
        let ways = opening.ways(ContentCipher::Aes128Cbc).map(|ways| {
            let ways: Vec<_> = ways.iter().map(ToString::to_string).collect();
            ways.join(", ")
        });
        let version = self.tr31.clone().map(|()| "version D".to_owned());
        vec![
            (ImportForm::RsaOaep, both),
            (ImportForm::Zmk, key_wrap),
            (ImportForm::Tr31, version),
            (ImportForm::Tr34, ways),
        ]
    }
}

/// What passed, with why the rest did not; or why nothing did.
fn joined<T>(
    trials: &[(T, Result<(), Missing>)],
    name: impl Fn(&T) -> &'static str,
) -> Result<String, Missing> {
    let passed = trials.iter().filter(|(_, outcome)| outcome.is_ok());
    let passed: Vec<_> = passed.map(|(what, _)| name(what)).collect();
    let failed = trials
        .iter()
        .filter_map(|(_, outcome)| outcome.as_ref().err());
    let missing = Missing(failed.flat_map(|missing| missing.0.clone()).collect());
    match (&passed[..], &missing.0[..]) {
        ([], _) => Err(missing),
        (_, []) => Ok(passed.join(", ")),
        _ => Ok(format!("{} ({missing})", passed.join(", "))),
    }
}

fn as_missing(outcome: Result<(), String>) -> Result<(), Missing> {
    outcome.map_err(|why_not| Missing(vec![why_not]))
}

/// A transport key that came to a throw-away pair unwraps what is under it.
fn rsa_oaep(worker: &Worker, oaep: OaepHash) -> Result<Result<(), Missing>, HsmError> {
    let lacking = worker.place.lacks(&[OAEP]);
    let way = format!("RSA-OAEP with {}", oaep.name());
    let trial = || {
        let session = &worker.session;
        let pair = generate_rsa(session, &IMPORT_PAIR).during("self-test: generate a pair")?;
        let public = public_key(session, pair.handle(), &name()?)?;
        let sent = create(worker, &SEALING_KEY, OVER)?;
        let (modulus, exponent) = public
            .rsa_components()
            .ok_or_else(|| failed("a pair that is not RSA".to_owned()))?;
        let encrypted = seal::wrap_for(session, (&modulus, &exponent), oaep, &sent)?;
        let arrived =
            key_wrap::unwrap_arrived(session, pair.handle(), oaep, &encrypted, &ARRIVED_KEY)?;
        unwrap_known(worker, &arrived, false)
    };
    Ok(as_missing(attempt(&way, &way, &lacking, trial)?))
}

fn key_wrap(worker: &Worker, padded: bool) -> Result<Result<(), Missing>, HsmError> {
    let named = KeyWrap::named(padded);
    let lacking = worker.place.lacks(&[named]);
    let way = if padded { "RFC 5649" } else { "RFC 3394" };
    let trial = || {
        let zmk = create(worker, &ZMK, OVER)?;
        unwrap_known(worker, &zmk, padded)
    };
    Ok(as_missing(attempt(way, way, &lacking, trial)?))
}

fn unwrap_known(worker: &Worker, over: &Ephemeral<'_>, padded: bool) -> Result<(), HsmError> {
    let wrapped = KeyWrap {
        padded,
        bytes: known(if padded { WRAPPED_PADDED } else { WRAPPED })?,
    };
    let to = (check_value::template(KIND), Lives::InSession);
    let key = key_wrap::unwrap(&worker.session, over.handle(), &wrapped, KIND, to, &[])?;
    require_key(worker, &key, WRAPPED_KCV)
}

/// Refuses a module that opens no key block, or another than psec made.
pub(crate) fn key_block(worker: &Worker) -> Result<(), HsmError> {
    let kbpk = create(worker, &KEY_BLOCK_PROTECTION_KEY, KBPK)?;
    let block = block()?;
    let key = open(worker, kbpk.handle(), &block)?;
    require_key(worker, &key, BLOCK_KCV)?;
    // The same block says another length than that of this kind.
    let under = under(kbpk.handle());
    if key_block::open(&worker.session, under, &block, KeyKind::Tdea3).is_ok() {
        return Err(failed(
            "a key block was taken for that of another key".to_owned(),
        ));
    }
    Ok(())
}

/// The key of a block under the known KBPK, which can make its check value.
pub(crate) fn open<'s>(
    worker: &'s Worker,
    kbpk: ObjectHandle,
    block: &KeyBlock,
) -> Result<Ephemeral<'s>, HsmError> {
    let session = &worker.session;
    let payload = key_block::open(session, under(kbpk), block, KIND)?;
    let attributes = check_value::template(KIND).attributes_with_class(Lives::InSession);
    key_block::extract(session, &payload, KeyType::AES, KIND, attributes)
}

const fn under(kbpk: ObjectHandle) -> (ObjectHandle, KeyKind, &'static str) {
    (kbpk, KIND, "the self-test's")
}

/// What psec made.
pub(super) fn block() -> Result<KeyBlock, HsmError> {
    KeyBlock::parse(BLOCK.as_bytes()).map_err(|error| failed(error.to_string()))
}

pub(crate) fn require_key(
    worker: &Worker,
    key: &Ephemeral<'_>,
    kcv: [u8; Kcv::LEN],
) -> Result<(), HsmError> {
    let found = check_value::of(key, &worker.session, KIND, Kcv::LEN)?;
    let expected = Kcv::new(KcvMethod::AesCmac, &kcv).map_err(|error| failed(error.to_string()))?;
    if found == expected {
        return Ok(());
    }
    Err(failed(
        "another key than the known one was unwrapped".to_owned(),
    ))
}

/// An AES key that protects nothing.
fn create<'s>(
    worker: &'s Worker,
    template: &Template,
    value: &str,
) -> Result<Ephemeral<'s>, HsmError> {
    let mut attributes = template.attributes_with_class(Lives::InSession);
    attributes.push(Attribute::KeyType(KeyType::AES));
    let template = SecretTemplate::new(attributes, &known(value)?);
    let created = worker.session.create_object(template.as_slice());
    let created = created.during("self-test: create a key")?;
    Ok(Ephemeral::new(&worker.session, created))
}

pub(crate) fn known(hex: &str) -> Result<Vec<u8>, HsmError> {
    hex::decode(hex).map_err(|error| failed(error.to_string()))
}

pub(crate) const fn failed(what: String) -> HsmError {
    HsmError::SelfTest { what }
}
