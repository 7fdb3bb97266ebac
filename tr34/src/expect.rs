//! Checks that several messages share, each with the rule that a failure breaks.

use der::asn1::ObjectIdentifier;

use crate::{MAX_TOKEN_LEN, Rule};

/// Nothing is read, and nothing leaves, that is longer than a token may be.
pub(crate) fn token_len(der: &[u8]) -> Result<(), Rule> {
    if der.len() > MAX_TOKEN_LEN {
        return Err(Rule::TooLong { found: der.len() });
    }
    Ok(())
}

/// The one version of a structure.
pub(crate) fn version(field: &'static str, found: u8, expected: u8) -> Result<(), Rule> {
    if found != expected {
        return Err(Rule::Version { field, found });
    }
    Ok(())
}

/// The one type of a content.
pub(crate) fn content_type(
    field: &'static str,
    found: ObjectIdentifier,
    expected: ObjectIdentifier,
) -> Result<(), Rule> {
    if found != expected {
        return Err(Rule::ContentType { field, found });
    }
    Ok(())
}

/// What RSA makes is as long as the modulus: 2048 to 4096 bits.
pub(crate) fn rsa_len(field: &'static str, bytes: &[u8]) -> Result<(), Rule> {
    let found = bytes.len();
    if !(256..=512).contains(&found) {
        return Err(Rule::Length { field, found });
    }
    Ok(())
}
