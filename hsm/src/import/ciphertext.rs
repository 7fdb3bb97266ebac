//! Ciphertext as it comes in files.

/// Why what a file holds is no ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CiphertextError {
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// Text, of which no ciphertext consists.
    #[error("is text, and not hexadecimal digits: have it sent as bytes or as those")]
    NoDigits,
}

/// What a file with ciphertext holds: bytes as they are, or hexadecimal digits if it is text, whose blanks and
/// line ends do not count.
///
/// # Errors
/// It is empty, or other text.
pub fn read_ciphertext(file: Vec<u8>) -> Result<Vec<u8>, CiphertextError> {
    if file.is_empty() {
        return Err(CiphertextError::Empty);
    }
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if !file.iter().all(is_text) {
        return Ok(file);
    }
    let digits: Vec<u8> = file
        .into_iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    hex::decode(digits).map_err(|_| CiphertextError::NoDigits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_digits_are_told_apart() {
        for (file, expected) in [
            (&b"\x00\x01\xFF"[..], Ok(vec![0x00, 0x01, 0xFF])),
            (b"0001ff", Ok(vec![0x00, 0x01, 0xFF])),
            (b" 00 01\r\nFF\n", Ok(vec![0x00, 0x01, 0xFF])),
            // Bytes keep their line ends.
            (b"\xFF\n\n", Ok(vec![0xFF, 0x0A, 0x0A])),
            (b"", Err(CiphertextError::Empty)),
            (b"000", Err(CiphertextError::NoDigits)),
            (b"0g", Err(CiphertextError::NoDigits)),
            (b"0x00", Err(CiphertextError::NoDigits)),
            (b"-----BEGIN CMS-----", Err(CiphertextError::NoDigits)),
        ] {
            assert_eq!(read_ciphertext(file.to_vec()), expected, "{file:?}");
        }
    }
}
