//! What has to hold of an import before any key is touched.

use tr31::OptionalBlock;
use tr34::{Kbh, KeyKind};

use super::{ImportError, KeyImport, KeyWrap, WrappedKey};
use crate::{HsmError, KeyName, KeyRole};

/// RFC 3394, and RFC 5649 for keys of whole pieces: a wrapped key is this much longer.
const KEY_WRAP_OVERHEAD: usize = 8;

/// Optional blocks that say nothing of what the key may be used for: padding, a label, times, check values.
const HARMLESS: [&str; 6] = [OptionalBlock::PADDING, "LB", "TC", "TS", "KC", "KP"];

pub(super) fn require(import: &KeyImport, name: &KeyName) -> Result<(), HsmError> {
    let (label, role) = (name.label(), KeyRole::of_secret(name));
    let is_of_role = label.starts_with(role.label_prefix());
    if !is_of_role || !matches!(role, KeyRole::TransportKey | KeyRole::Bdk) {
        return Err(ImportError::Label {
            label: label.to_owned(),
            role: "master key",
            prefix: KeyRole::TransportKey.label_prefix(),
        }
        .into());
    }
    let kind = import.kind;
    let announced = import.header.as_ref();
    if let Some(announced) = announced {
        verify_announced_header(announced, kind, role)?;
    }
    match &import.wrapped {
        WrappedKey::RsaOaep { key, .. } | WrappedKey::Zmk { key, .. } => wrapped_len(key, kind)?,
        WrappedKey::Tr31 { block, .. } => {
            header(block.header(), announced)?;
            let mut optional = block.optional_blocks().iter();
            if let Some(other) = optional.find(|block| !HARMLESS.contains(&block.id())) {
                let id = other.id().to_owned();
                return Err(ImportError::OptionalBlock { id }.into());
            }
            if !block.has_room_for(kind) {
                let found = block.payload().len();
                return Err(ImportError::PayloadLength { kind, found }.into());
            }
        }
        WrappedKey::Tr34(arrived) => {
            // The signed header, round which the block is built.
            header(arrived.token().header(), announced)?;
            require_as_strong(arrived.token().enveloped().cipher().key_kind(), kind)?;
        }
    }
    Ok(())
}

/// Whether this can be announced of a key of this kind, a master key or a BDK.
///
/// # Errors
/// The header is for another kind of key, or lets no terminal have a master key.
pub fn verify_announced_header(
    header: &Kbh,
    kind: KeyKind,
    role: KeyRole,
) -> Result<(), ImportError> {
    if header.key_kind(kind.key_len()) != Ok(kind) {
        return Err(ImportError::HeaderOfOtherKind {
            algorithm: header.algorithm(),
            kind,
        });
    }
    if role == KeyRole::TransportKey && header.exportability() == "N" {
        return Err(ImportError::NotExportable);
    }
    Ok(())
}

/// Refuses a header that came with a key and is not the announced one, in what it says of the key's use.
fn header(found: &Kbh, announced: Option<&Kbh>) -> Result<(), ImportError> {
    let announced = announced.ok_or(ImportError::NoHeader)?;
    let algorithm = |header: &Kbh| header.algorithm().to_string();
    for (field, announced, found) in [
        (
            "key usage",
            announced.usage().to_owned(),
            found.usage().to_owned(),
        ),
        ("algorithm", algorithm(announced), algorithm(found)),
        (
            "mode of use",
            announced.mode().to_owned(),
            found.mode().to_owned(),
        ),
        (
            "exportability",
            announced.exportability().to_owned(),
            found.exportability().to_owned(),
        ),
    ] {
        if announced != found {
            return Err(ImportError::Header {
                field,
                announced,
                found,
            });
        }
    }
    Ok(())
}

fn wrapped_len(key: &KeyWrap, kind: KeyKind) -> Result<(), ImportError> {
    let (expected, found) = (kind.key_len() + KEY_WRAP_OVERHEAD, key.bytes.len());
    if found == expected {
        return Ok(());
    }
    Err(ImportError::WrappedLength {
        kind,
        expected,
        found,
    })
}

/// Refuses a key over another that is weaker than that one, or no AES key.
pub(super) fn require_over(
    under: KeyKind,
    kind: KeyKind,
    label: &str,
    form: &'static str,
) -> Result<(), ImportError> {
    if matches!(under, KeyKind::Tdea2 | KeyKind::Tdea3) {
        return Err(ImportError::NotAes {
            label: label.to_owned(),
            found: under,
            form,
        });
    }
    require_as_strong(under, kind)
}

/// Refuses a key over another that is weaker than that one.
fn require_as_strong(under: KeyKind, kind: KeyKind) -> Result<(), ImportError> {
    if is_as_strong(under, kind) {
        return Ok(());
    }
    Err(ImportError::Weak { kind, under })
}

/// Whether a key is as strong as another (NIST SP 800-57 part 1, table 2).
pub(crate) fn is_as_strong(under: KeyKind, kind: KeyKind) -> bool {
    let strength = |kind| match kind {
        KeyKind::Tdea2 => 80,
        KeyKind::Tdea3 => 112,
        KeyKind::Aes128 => 128,
        KeyKind::Aes192 => 192,
        KeyKind::Aes256 => 256,
    };
    strength(under) >= strength(kind)
}
