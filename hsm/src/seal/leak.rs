//! A deliberate leak, compiled only for the test that has to notice it: Kn is wrapped under a key
//! that may also decrypt, and decrypted into this process.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
};

use crate::{HsmError, error::CallResult, session::Session, worker::Ephemeral};

const OPERATION: &str = "leak Kn";

pub(crate) fn kn(session: &Session, kn: ObjectHandle) -> Result<(), HsmError> {
    let key = session
        .generate_key(
            &Mechanism::AesKeyGen,
            &[
                Attribute::Token(false),
                Attribute::Wrap(true),
                Attribute::Decrypt(true),
                Attribute::ValueLen(16.into()),
            ],
        )
        .during(OPERATION)?;
    let key = Ephemeral::new(session, key);
    let wrapped = session
        .wrap_key(&Mechanism::AesCbc([0; 16]), key.handle(), kn)
        .during(OPERATION)?;
    session
        .decrypt(&Mechanism::AesCbc([0; 16]), key.handle(), &wrapped)
        .during(OPERATION)?;
    Ok(())
}
