//! How fast a token does what a delivery takes, on one session.

use std::time::{Duration, Instant};

use tr34::{ContentCipher, KeyKind, OaepHash};

use crate::{
    HsmError, KeyName, SealingWay,
    error::CallResult,
    self_test::{RSA_BITS, Recipient, Trial, generate_rsa},
    signing::sign_rsa,
    template::SIGNING_KEY,
    worker::Worker,
};

/// Long enough for a figure of two digits.
const EACH: Duration = Duration::from_millis(300);

/// How often in a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// What.
    pub operation: &'static str,
    /// On one session that does nothing else.
    pub per_second: f64,
}

/// With throw-away keys.
pub(crate) fn measure(
    worker: &Worker,
    way: SealingWay,
    oaep: OaepHash,
) -> Result<Vec<Speed>, HsmError> {
    let session = &worker.session;
    let started = Instant::now();
    let private = generate_rsa(session, &SIGNING_KEY).during("speed: generate a key pair")?;
    let generated = rate(1, started);
    let name = KeyName::new("speed")?;
    let signed =
        repeat(|| sign_rsa(worker, private.handle(), &name, b"speed", RSA_BITS).map(drop))?;

    let recipient = Recipient::generate(session)?;
    let usual = (KeyKind::Aes128, ContentCipher::Aes128Cbc);
    let trial = Trial::new(session, &recipient, way, usual, oaep)?;
    let sealed = repeat(|| trial.seal(session).map(drop))?;
    let mut ke = vec![0; ContentCipher::Aes128Cbc.key_len()];
    let random = repeat(|| {
        session
            .generate_random_slice(&mut ke)
            .during("speed: random")
    })?;
    Ok([
        ("RSA-2048 signatures", signed),
        ("sealed key blocks", sealed),
        ("RSA-2048 key pairs", generated),
        ("16 random bytes", random),
    ]
    .map(|(operation, per_second)| Speed {
        operation,
        per_second,
    })
    .into())
}

fn repeat(mut act: impl FnMut() -> Result<(), HsmError>) -> Result<f64, HsmError> {
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < EACH {
        act()?;
        count += 1;
    }
    Ok(rate(count, started))
}

fn rate(count: u32, started: Instant) -> f64 {
    f64::from(count) / started.elapsed().as_secs_f64()
}
