//! Puts an RSA key that was made outside into a token, as a terminal's encryption key.
//!
//! For tests with independent software only: a key that was outside may have copies. The crate itself
//! has no way to import a private key, and finds one only with `TokenConfig::accept_imported_keys`.
//!
//! ```text
//! openssl genrsa -traditional 2048 | openssl rsa -traditional -outform DER -out key.der
//! import-rsa-key MODULE TOKEN_LABEL PIN_FILE KEY_LABEL key.der
//! ```

use std::{env, error::Error, fs, path::Path};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, KeyType, ObjectClass},
    session::{Session, UserType},
    types::AuthPin,
};
use der::{Decode, Sequence, asn1::UintRef};
use hsm::KeyName;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [module, token, pin_file, label, key_file] = arguments.as_slice() else {
        return Err("usage: import-rsa-key MODULE TOKEN_LABEL PIN_FILE KEY_LABEL KEY.der".into());
    };
    let der = fs::read(key_file)?;
    let key = RsaPrivateKey::from_der(&der)?;
    let name = KeyName::new(label)?;
    let session = log_in(Path::new(module), token, Path::new(pin_file))?;
    session.create_object(&public(&name, &key))?;
    session.create_object(&private(&name, &key))?;
    Ok(())
}

/// RFC 8017 A.1.2, with two primes.
#[derive(Sequence)]
struct RsaPrivateKey<'a> {
    version: u8,
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
    private_exponent: UintRef<'a>,
    prime1: UintRef<'a>,
    prime2: UintRef<'a>,
    exponent1: UintRef<'a>,
    exponent2: UintRef<'a>,
    coefficient: UintRef<'a>,
}

fn log_in(module: &Path, token: &str, pin_file: &Path) -> Result<Session, Box<dyn Error>> {
    let pkcs11 = Pkcs11::new(module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    for slot in pkcs11.get_slots_with_initialized_token()? {
        if pkcs11.get_token_info(slot)?.label() == token {
            let session = pkcs11.open_rw_session(slot)?;
            let pin = fs::read_to_string(pin_file)?;
            let pin = AuthPin::from(pin.trim_end_matches('\n').to_owned());
            session.login(UserType::User, Some(&pin))?;
            return Ok(session);
        }
    }
    Err(format!("no token is called {token}").into())
}

fn common(name: &KeyName, key: &RsaPrivateKey<'_>, class: ObjectClass) -> Vec<Attribute> {
    vec![
        Attribute::Class(class),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(true),
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
        Attribute::Modulus(key.modulus.as_bytes().to_vec()),
        Attribute::PublicExponent(key.public_exponent.as_bytes().to_vec()),
        Attribute::Derive(false),
    ]
}

fn public(name: &KeyName, key: &RsaPrivateKey<'_>) -> Vec<Attribute> {
    let mut template = common(name, key, ObjectClass::PUBLIC_KEY);
    template.extend([
        Attribute::Private(false),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
        Attribute::VerifyRecover(false),
        Attribute::Wrap(false),
    ]);
    template
}

/// As the role of a terminal's encryption key has it.
fn private(name: &KeyName, key: &RsaPrivateKey<'_>) -> Vec<Attribute> {
    let mut template = common(name, key, ObjectClass::PRIVATE_KEY);
    template.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::SignRecover(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(true),
        Attribute::PrivateExponent(key.private_exponent.as_bytes().to_vec()),
        Attribute::Prime1(key.prime1.as_bytes().to_vec()),
        Attribute::Prime2(key.prime2.as_bytes().to_vec()),
        Attribute::Exponent1(key.exponent1.as_bytes().to_vec()),
        Attribute::Exponent2(key.exponent2.as_bytes().to_vec()),
        Attribute::Coefficient(key.coefficient.as_bytes().to_vec()),
    ]);
    template
}
