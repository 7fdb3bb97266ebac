//! PKCS#11 past the crate under test: for keys that it would not make, and to look behind it.

use cryptoki::{
    context::Pkcs11,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use hsm::KeyName;
use hsm_modules::Place;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};

/// A session with the only initialized token. The crate under test has logged in to it.
pub(crate) fn session() -> Session {
    let pkcs11 = Pkcs11::new(hsm_modules::library()).unwrap();
    let slots = pkcs11.get_slots_with_initialized_token().unwrap();
    assert_eq!(slots.len(), 1);
    pkcs11.open_rw_session(slots[0]).unwrap()
}

/// All keys and data, of the token and of every session. Modules describe themselves in further
/// objects.
pub(crate) fn objects(session: &Session) -> Vec<ObjectHandle> {
    let classes = [
        ObjectClass::DATA,
        ObjectClass::PUBLIC_KEY,
        ObjectClass::PRIVATE_KEY,
        ObjectClass::SECRET_KEY,
    ];
    let of = |class| session.find_objects(&[Attribute::Class(class)]).unwrap();
    classes.into_iter().flat_map(of).collect()
}

pub(crate) fn count_objects() -> usize {
    objects(&session()).len()
}

pub(crate) fn named(name: &KeyName) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
    ]
}

/// `template` with `changes` in place of what it says about the same attributes.
pub(crate) fn changed(mut template: Vec<Attribute>, changes: &[Attribute]) -> Vec<Attribute> {
    for change in changes {
        template.retain(|attribute| attribute.attribute_type() != change.attribute_type());
        template.push(change.clone());
    }
    template
}

/// A private RSA key's attributes as the crate would set them, for signing.
pub(crate) fn signing_attributes(name: &KeyName) -> Vec<Attribute> {
    let mut template = named(name);
    template.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Sign(true),
        Attribute::SignRecover(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]);
    template
}

/// Brings an RSA key in from outside, with these attributes.
pub(crate) fn import_rsa(attributes: &[Attribute], key: &rsa::PrivateKey) {
    let bytes = |number: &rsa::BoxedUint| number.to_be_bytes_trimmed_vartime().to_vec();
    let numbers = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Modulus(key.n_bytes().to_vec()),
        Attribute::PublicExponent(key.e_bytes().to_vec()),
        Attribute::PrivateExponent(bytes(key.d())),
        Attribute::Prime1(bytes(&key.primes()[0])),
        Attribute::Prime2(bytes(&key.primes()[1])),
        Attribute::Exponent1(bytes(key.dp().unwrap())),
        Attribute::Exponent2(bytes(key.dq().unwrap())),
        Attribute::Coefficient(bytes(&key.crt_coefficient().unwrap())),
    ];
    let template = [attributes, &numbers].concat();
    session().create_object(&template).unwrap();
}

/// A secret key's attributes as the crate would set them, for being wrapped.
pub(crate) fn transport_attributes(name: &KeyName) -> Vec<Attribute> {
    let sealing = Place::of_this_process().unwrap().module().can.sealing;
    let mut template = named(name);
    template.extend([
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(true),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(sealing == "concatenate"),
    ]);
    template
}
