//! Master keys as they come into a ceremony: components on paper, each with its check value.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{Block, BlockCipherEncrypt, KeyInit},
};
use anyhow::{Result, anyhow};
use cmac::{Cmac, Mac};
use des::{TdesEde2, TdesEde3};
use hsm_modules::TestModule;
use tr34::KeyKind;

use crate::secret_file::random_bytes;

/// A key in two components, each for one custodian. Only a test, which plays all of them, knows both.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// The key's name; its label in the HSM is `kn.NAME`.
    pub name: String,
    /// Which kind it is.
    pub kind: KeyKind,
    /// The components.
    pub components: [Vec<u8>; 2],
}

impl MasterKey {
    /// Random components.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate(name: &str, kind: KeyKind) -> Result<Self> {
        let component = || Ok::<_, anyhow::Error>(random_bytes::<32>()?[..kind.key_len()].to_vec());
        Ok(Self {
            name: name.to_owned(),
            kind,
            components: [component()?, component()?],
        })
    }

    /// Its label in the HSM.
    pub fn label(&self) -> String {
        format!("kn.{}", self.name)
    }

    /// The header with which terminals receive it.
    pub const fn header(&self) -> &'static str {
        match self.kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => "D0000K0TB00E0000",
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => "D0000K0AB00E0000",
        }
    }

    /// The key itself: what must never be seen.
    pub fn value(&self) -> Vec<u8> {
        let [first, second] = &self.components;
        first.iter().zip(second).map(|(a, b)| a ^ b).collect()
    }

    /// The same as an HSM of this module has it.
    pub fn held_by(&self, module: &TestModule) -> Vec<u8> {
        match self.kind {
            KeyKind::Tdea2 | KeyKind::Tdea3 => module.can.tdea_key(&self.value()),
            KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => self.value(),
        }
    }

    /// Its check value, as it came with the components, hex.
    ///
    /// # Errors
    /// Never with components of the kind's length.
    pub fn kcv(&self) -> Result<String> {
        kcv(self.kind, &self.value())
    }
}

/// A check value, hex: TDEA the encryption of 8 zero bytes, AES the CMAC over 16; the first three
/// bytes of it.
///
/// # Errors
/// `key` is not of the kind's length.
pub fn kcv(kind: KeyKind, key: &[u8]) -> Result<String> {
    let result = match kind {
        KeyKind::Tdea2 => encrypt_zeros::<TdesEde2>(key),
        KeyKind::Tdea3 => encrypt_zeros::<TdesEde3>(key),
        KeyKind::Aes128 => mac_of_zeros::<Cmac<Aes128>>(key),
        KeyKind::Aes192 => mac_of_zeros::<Cmac<Aes192>>(key),
        KeyKind::Aes256 => mac_of_zeros::<Cmac<Aes256>>(key),
    }?;
    Ok(hex::encode_upper(&result[..3]))
}

fn encrypt_zeros<C: KeyInit + BlockCipherEncrypt>(key: &[u8]) -> Result<Vec<u8>> {
    let cipher = C::new_from_slice(key).map_err(|error| anyhow!("key length: {error}"))?;
    let mut block = Block::<C>::default();
    cipher.encrypt_block(&mut block);
    Ok(block.to_vec())
}

fn mac_of_zeros<M: Mac + KeyInit>(key: &[u8]) -> Result<Vec<u8>> {
    let mut mac =
        <M as KeyInit>::new_from_slice(key).map_err(|error| anyhow!("key length: {error}"))?;
    mac.update(&[0; 16]);
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_published_keys() {
        // RFC 4493, example 1 has the same key, another message; these were computed with OpenSSL.
        let aes = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap();
        let tdea = hex::decode("0123456789abcdeffedcba9876543210").unwrap();
        let cases = [
            ("AES-128", KeyKind::Aes128, &aes, AES_KCV),
            ("TDEA, two keys", KeyKind::Tdea2, &tdea, "08D7B4"),
        ];
        for (case, kind, key, expected) in cases {
            assert_eq!(kcv(kind, key).unwrap(), expected, "{case}");
        }
        assert!(kcv(KeyKind::Aes256, &aes).is_err(), "the length is checked");
    }

    const AES_KCV: &str = "7AD386";
}
