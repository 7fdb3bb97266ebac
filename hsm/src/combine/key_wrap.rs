//! XOR inside of a module that has no XOR: by way of AES key wrap (RFC 3394).
//!
//! CBC wrapping XORs the IV into a secret before it is encrypted, and key wrap is made of such
//! encryptions. The partial sum is kept as one AES-128 key for each 8 bytes of it, of the value
//! `00 * 8 || piece`. In the first of key wrap's six passes each step encrypts `A || piece`, which is
//! what `C_WrapKey` returns for that key under the IV `A`; under the IV `A || d` it returns the
//! encryption of `A || (piece ^ d)`. From the second pass on what is encrypted is ciphertext already.
//! The result is a valid key wrap of the sum, and `C_UnwrapKey` makes it a key.

use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, KeyType, ObjectHandle},
};
use zeroize::{Zeroize, Zeroizing};

use super::{Home, rules::PIECE_LEN};
use crate::{
    ClearKey, HsmError, answer,
    error::CallResult,
    keys::generate_aes,
    secret::SecretTemplate,
    session::Session,
    template::{SUMMING_KEY, WRAPPED_PARTIAL_SUM},
    worker::Ephemeral,
};

const OPERATION: &str = "combine components";

const BLOCK: usize = 16;

/// RFC 3394 2.2.3.1.
const INITIAL_VALUE: Piece = [0xa6; PIECE_LEN];

/// RFC 3394 2.2.1: each register is passed six times.
const PASSES: u64 = 6;

pub(super) const MECHANISMS: [(MechanismType, &str); 4] = [
    (MechanismType::AES_KEY_GEN, "CKM_AES_KEY_GEN"),
    (MechanismType::AES_ECB, "CKM_AES_ECB"),
    (MechanismType::AES_CBC, "CKM_AES_CBC"),
    (MechanismType::AES_KEY_WRAP, "CKM_AES_KEY_WRAP"),
];

type Piece = [u8; PIECE_LEN];

/// What stands in a register of key wrap at first.
enum Register<'a> {
    Zero,
    /// A piece of the partial sum XOR a piece of a component.
    Sum(ObjectHandle, &'a Piece),
}

/// The partial sum with `component` in it, one key for each piece. `partial` is empty at first.
pub(super) fn add<'s>(
    session: &'s Session,
    partial: &[ObjectHandle],
    component: &ClearKey,
    home: &Home,
) -> Result<Vec<Ephemeral<'s>>, HsmError> {
    let (pieces, _) = component.expose_clear().as_chunks::<PIECE_LEN>();
    let mut sum = Vec::with_capacity(pieces.len());
    for (position, piece) in pieces.iter().enumerate() {
        let mut template = home.attributes(&WRAPPED_PARTIAL_SUM, position);
        template.push(Attribute::KeyType(KeyType::AES));
        let part = match partial.get(position) {
            None => import(session, piece, &template)?,
            Some(part) => {
                let registers = [Register::Zero, Register::Sum(*part, piece)];
                wrap_and_unwrap(session, &registers, &template)?
            }
        };
        sum.push(part);
    }
    Ok(sum)
}

/// The sum as a key of its own.
pub(super) fn make<'s>(
    session: &'s Session,
    partial: &[ObjectHandle],
    template: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let nothing = [0; PIECE_LEN];
    let registers: Vec<_> = partial
        .iter()
        .map(|part| Register::Sum(*part, &nothing))
        .collect();
    wrap_and_unwrap(session, &registers, template)
}

/// Each piece of the sum, encrypted alone under a key that is thrown away: equal ones show as equal, and
/// nothing else shows.
pub(super) fn veiled_pieces(
    session: &Session,
    partial: &[ObjectHandle],
) -> Result<Vec<Vec<u8>>, HsmError> {
    let veil = generate_aes(session, &SUMMING_KEY, 32).during(OPERATION)?;
    let nothing = [0; PIECE_LEN];
    let veiled = partial.iter().map(|part| {
        let block = wrap(session, &veil, nothing, &nothing, *part)?;
        Ok(block.to_vec())
    });
    veiled.collect()
}

/// A piece of the first component.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "no copies of secrets")]
fn import<'s>(
    session: &'s Session,
    piece: &Piece,
    template: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let mut value = Zeroizing::new([0; BLOCK]);
    value[BLOCK - PIECE_LEN..].copy_from_slice(piece);
    let template = SecretTemplate::new(template.to_vec(), value.as_slice());
    let part = session
        .create_object(template.as_slice())
        .during("import a component")?;
    Ok(Ephemeral::new(session, part))
}

/// Under a key that is made for this and destroyed after it.
fn wrap_and_unwrap<'s>(
    session: &'s Session,
    registers: &[Register<'_>],
    template: &[Attribute],
) -> Result<Ephemeral<'s>, HsmError> {
    let summing = generate_aes(session, &SUMMING_KEY, 32).during(OPERATION)?;
    let wrapped = key_wrap(session, &summing, registers)?;
    let sum = session
        .unwrap_key(&Mechanism::AesKeyWrap, summing.handle(), &wrapped, template)
        .during(OPERATION)?;
    Ok(Ephemeral::new(session, sum))
}

/// RFC 3394 2.2.1, with its names: `A` is the integrity check register, `R` are the others, `t`
/// counts the steps.
fn key_wrap(
    session: &Session,
    key: &Ephemeral<'_>,
    registers: &[Register<'_>],
) -> Result<Vec<u8>, HsmError> {
    let mut a = INITIAL_VALUE;
    let mut r: Vec<Piece> = Vec::with_capacity(registers.len());
    let mut t = 0_u64;
    let mut absorb = |block: [u8; BLOCK]| {
        t += 1;
        let (high, low) = halves(&block);
        ((u64::from_be_bytes(high) ^ t).to_be_bytes(), low)
    };

    for register in registers {
        let block = match register {
            Register::Zero => encrypt(session, key, a, [0; PIECE_LEN])?,
            Register::Sum(part, mask) => wrap(session, key, a, mask, *part)?,
        };
        let (next, piece) = absorb(block);
        a = next;
        r.push(piece);
    }
    for _ in 1..PASSES {
        for piece in &mut r {
            (a, *piece) = absorb(encrypt(session, key, a, *piece)?);
        }
    }
    Ok([&[a], &r[..]].concat().concat())
}

fn encrypt(
    session: &Session,
    key: &Ephemeral<'_>,
    a: Piece,
    piece: Piece,
) -> Result<[u8; BLOCK], HsmError> {
    let block = session
        .encrypt(&Mechanism::AesEcb, key.handle(), [a, piece].as_flattened())
        .during(OPERATION)?;
    require_block(&block)
}

/// The encryption of `a || (piece ^ mask)`, of a piece that only the module knows.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "no copies of secrets")]
fn wrap(
    session: &Session,
    key: &Ephemeral<'_>,
    a: Piece,
    mask: &Piece,
    part: ObjectHandle,
) -> Result<[u8; BLOCK], HsmError> {
    let mut iv = [0; BLOCK];
    iv[..PIECE_LEN].copy_from_slice(&a);
    iv[PIECE_LEN..].copy_from_slice(mask);
    let mut mechanism = Mechanism::AesCbc(iv);
    iv.zeroize();
    let block = answer::wrap(session, &mechanism, key.handle(), part, BLOCK, OPERATION);
    // The mask is a piece of a component.
    if let Mechanism::AesCbc(iv) = &mut mechanism {
        iv.zeroize();
    }
    require_block(&block?)
}

fn require_block(answer: &[u8]) -> Result<[u8; BLOCK], HsmError> {
    answer.try_into().map_err(|_| HsmError::BadAnswer {
        operation: OPERATION,
        what: format!("{} bytes, not a block", answer.len()),
    })
}

fn halves(block: &[u8; BLOCK]) -> (Piece, Piece) {
    let (mut high, mut low) = ([0; PIECE_LEN], [0; PIECE_LEN]);
    high.copy_from_slice(&block[..PIECE_LEN]);
    low.copy_from_slice(&block[PIECE_LEN..]);
    (high, low)
}
