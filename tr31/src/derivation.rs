//! How the keys of a block follow from the KBPK (ANSI X9.143 8.3.2 and 8.3.3; TR-31 5.3.2): by CMAC, which is
//! also the PRF of a key derivation in counter mode (NIST SP 800-108 4.1).

use tr34::KeyKind;

use crate::Version;

/// A key of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKey {
    /// KBEK: encrypts the payload.
    Encryption,
    /// KBAK: authenticates header and payload.
    Authentication,
}

/// The derivation of a key of a block, which is of the same kind as the KBPK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derivation {
    version: Version,
    kbpk: KeyKind,
    key: BlockKey,
}

/// A KBPK of another cipher than the version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key block of version {version} is not under a key of the kind {kbpk}")]
pub struct KbpkError {
    /// Of the key block.
    pub version: Version,
    /// Of the key block protection key.
    pub kbpk: KeyKind,
}

impl Derivation {
    /// Of `key`, from a KBPK of this kind.
    ///
    /// # Errors
    /// Version B takes TDEA, version D AES.
    pub const fn new(version: Version, kbpk: KeyKind, key: BlockKey) -> Result<Self, KbpkError> {
        if version.is_under(kbpk) {
            Ok(Self { version, kbpk, key })
        } else {
            Err(KbpkError { version, kbpk })
        }
    }

    /// The kind of the KBPK, and of the key.
    pub const fn kbpk(&self) -> KeyKind {
        self.kbpk
    }

    /// What stands before the separator in the input of the PRF, behind its counter of one byte.
    pub const fn label(&self) -> [u8; 2] {
        match self.key {
            BlockKey::Encryption => [0x00, 0x00],
            BlockKey::Authentication => [0x00, 0x01],
        }
    }

    /// What stands behind the separator, a zero byte: the algorithm, and bits of the key.
    pub const fn context(&self) -> [u8; 4] {
        match self.kbpk {
            KeyKind::Tdea2 => [0x00, 0x00, 0x00, 0x80],
            KeyKind::Tdea3 => [0x00, 0x01, 0x00, 0xC0],
            KeyKind::Aes128 => [0x00, 0x02, 0x00, 0x80],
            KeyKind::Aes192 => [0x00, 0x03, 0x00, 0xC0],
            KeyKind::Aes256 => [0x00, 0x04, 0x01, 0x00],
        }
    }

    /// The inputs of the PRF. Their CMACs, one behind the other and cut to its length, are the key.
    pub fn inputs(&self) -> Vec<[u8; 8]> {
        let count = self.kbpk.key_len().div_ceil(self.version.block_len());
        let [l0, l1] = self.label();
        let [c0, c1, c2, c3] = self.context();
        (1..)
            .take(count)
            .map(|counter| [counter, l0, l1, 0x00, c0, c1, c2, c3])
            .collect()
    }

    /// The same for who has the cipher only: the blocks whose encryptions under the KBPK are the CMACs of
    /// [`Self::inputs`], one behind the other. `l` is the encryption of a block of zeros.
    pub fn cipher_blocks(&self, l: &[u8]) -> Vec<u8> {
        let block_len = self.version.block_len();
        let mut blocks = Vec::new();
        for input in self.inputs() {
            // An input is a whole block of TDEA, and half of one of AES, which is padded with a one bit and
            // zeros (NIST SP 800-38B 6.2).
            let mut block = input.to_vec();
            let mut subkey = cmac_subkey(l);
            if block.len() < block_len {
                block.push(0x80);
                block.resize(block_len, 0);
                subkey = doubled(&subkey);
            }
            blocks.extend(block.iter().zip(subkey).map(|(byte, mask)| byte ^ mask));
        }
        blocks
    }
}

/// The subkey that CMAC adds to the last block of a message of whole blocks (NIST SP 800-38B 6.1). `l` is the
/// encryption of a block of zeros, of 8 or 16 bytes.
pub fn cmac_subkey(l: &[u8]) -> Vec<u8> {
    doubled(l)
}

/// In the field of 2^64 or 2^128 elements.
fn doubled(block: &[u8]) -> Vec<u8> {
    let mut doubled = Vec::with_capacity(block.len());
    for (position, byte) in block.iter().enumerate() {
        let carry = block.get(position + 1).map_or(0, |next| next >> 7);
        doubled.push(byte << 1 | carry);
    }
    let reduction = if block.len() == 8 { 0x1B } else { 0x87 };
    // Without a branch on what is secret.
    let overflow = block.first().map_or(0, |first| first >> 7);
    if let Some(last) = doubled.last_mut() {
        *last ^= reduction & 0_u8.wrapping_sub(overflow);
    }
    doubled
}
