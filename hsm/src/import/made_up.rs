//! What a rehearsal imports: a made-up key under another one. Neither protects anything.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
};
use tr34::{KeyKind, OaepHash};
use zeroize::Zeroizing;

use super::{ImportError, ImportForm, KeyImport, KeyWrap, WrappedKey, key_wrap::OPERATION, trial};
use crate::{
    HsmError, Kcv, KcvMethod, KeyName, KeyPairKind, KeyRole, Token, answer,
    error::CallResult,
    inspect::{find_keys, key_type, public_key},
    seal::wrap_for,
    secret::SecretTemplate,
    template::{Flag, KEY_BLOCK_PROTECTION_KEY, Lives, SEALING_KEY, TRANSPORT_KEY, Template, ZMK},
    worker::{Ephemeral, Worker},
};

/// Bytes of the made-up key over the other one.
const OVER_LEN: usize = 32;

pub(crate) fn make_up(
    token: &Token,
    form: ImportForm,
    under: &KeyName,
    kind: KeyKind,
) -> Result<KeyImport, HsmError> {
    let imports = token.imports()?;
    let over = token.random(OVER_LEN).map(Zeroizing::new)?;
    let wrapped = match form {
        ImportForm::Zmk => {
            let worker = token.writer()?;
            create_over_kn(&worker, &ZMK, under, &over)?;
            WrappedKey::Zmk {
                zmk: under.clone(),
                key: wrapped(token, &worker, &over, kind)?,
            }
        }
        ImportForm::RsaOaep => {
            let oaep = imports.oaep().unwrap_or(OaepHash::Sha256);
            let mut worker = token.writer()?;
            if find_keys(&worker.session, ObjectClass::PRIVATE_KEY, under)?.is_empty() {
                let pair = KeyPairKind::Rsa { bits: 3072 };
                token.generate_key_pair(KeyRole::ImportPair, under, pair)?;
            }
            let pair = worker.key(KeyRole::ImportPair, under)?;
            let public = public_key(&worker.session, pair, under)?;
            let (modulus, exponent) = public.rsa_components().unwrap_or_default();
            let sent = create_over(&worker, &over)?;
            WrappedKey::RsaOaep {
                pair: under.clone(),
                oaep,
                transport_key: wrap_for(&worker.session, (&modulus, &exponent), oaep, &sent)?,
                key: wrapped(token, &worker, &over, kind)?,
            }
        }
        // A block of the trial's, and none for other kinds of key.
        ImportForm::Tr31 if kind == trial::KIND => {
            let wrapped = WrappedKey::Tr31 {
                kbpk: under.clone(),
                block: trial::block()?,
            };
            imports.require(&wrapped)?;
            let kbpk = trial::known(trial::KBPK)?;
            create_over_kn(&token.writer()?, &KEY_BLOCK_PROTECTION_KEY, under, &kbpk)?;
            wrapped
        }
        ImportForm::Tr31 | ImportForm::Tr34 => {
            let what = format!("a key of the kind {kind} in the form {form}");
            return Err(ImportError::NotMadeUp { what }.into());
        }
    };
    imports.require(&wrapped)?;
    let method = KcvMethod::for_key(kind);
    Ok(KeyImport {
        wrapped,
        kind,
        kcv: Kcv::new(method, &[0; Kcv::LEN]).map_err(|error| HsmError::SelfTest {
            what: error.to_string(),
        })?,
        header: None,
    })
}

/// A made-up key under the other one.
fn wrapped(
    token: &Token,
    worker: &Worker,
    over: &[u8],
    kind: KeyKind,
) -> Result<KeyWrap, HsmError> {
    let session = &worker.session;
    let over = create_over(worker, over)?;
    let value = token.random(kind.key_len()).map(Zeroizing::new)?;
    let mut template = TRANSPORT_KEY.attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(key_type(kind)));
    template.push(Flag::Derive.set(false));
    let template = SecretTemplate::new(template, &value);
    let key = session
        .create_object(template.as_slice())
        .during(OPERATION)?;
    let key = Ephemeral::new(session, key);
    let (mechanism, len) = (Mechanism::AesKeyWrap, kind.key_len() + 8);
    let bytes = answer::wrap(
        session,
        &mechanism,
        over.handle(),
        key.handle(),
        len,
        OPERATION,
    )?;
    Ok(KeyWrap {
        padded: false,
        bytes,
    })
}

/// The key over the other, as its sender has it.
fn create_over<'s>(worker: &'s Worker, value: &[u8]) -> Result<Ephemeral<'s>, HsmError> {
    let mut template = SEALING_KEY.attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(KeyType::AES));
    let template = SecretTemplate::new(template, value);
    let over = worker.session.create_object(template.as_slice());
    Ok(Ephemeral::new(&worker.session, over.during(OPERATION)?))
}

/// The same as we have it.
fn create_over_kn(
    worker: &Worker,
    template: &Template,
    name: &KeyName,
    value: &[u8],
) -> Result<(), HsmError> {
    let label = name.label();
    if !find_keys(&worker.session, ObjectClass::SECRET_KEY, name)?.is_empty() {
        let what = format!("a key under {label}, which is in the token already");
        return Err(ImportError::NotMadeUp { what }.into());
    }
    let mut template = template.attributes_with_class(Lives::InToken);
    template.extend([
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(label.into()),
        Attribute::Id(name.id().to_vec()),
    ]);
    let template = SecretTemplate::new(template, value);
    let created = worker.session.create_object(template.as_slice());
    created.with_key(OPERATION, label).map(drop)
}
