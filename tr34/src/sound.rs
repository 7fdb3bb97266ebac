//! What `x509-cert` takes in a certificate, a revocation list or a name, and other readers refuse with the
//! whole message: it leaves unread what X.509 lets be of any type.

use der::{Any, ErrorKind, Tag, Tagged as _, asn1::ObjectIdentifier};
use x509_cert::name::{Name, RelativeDistinguishedName};

use crate::{
    MalformedToken, Rule,
    read::{Element, Fields},
};

/// Refuses a name with a set that has no attribute (RFC 5280 4.1.2.4), or with a value that is no text.
pub(crate) fn require_name(field: &'static str, name: &Name) -> Result<(), Rule> {
    if name.iter_rdn().any(RelativeDistinguishedName::is_empty) {
        return Err(Rule::EmptySet { field });
    }
    if !name.iter().all(|attribute| is_text(&attribute.value)) {
        return Err(Rule::NotText { field });
    }
    Ok(())
}

/// RFC 5280's `DirectoryString`, and the strings of mail addresses and numbers.
fn is_text(value: &Any) -> bool {
    matches!(
        value.tag(),
        Tag::BmpString
            | Tag::Ia5String
            | Tag::NumericString
            | Tag::PrintableString
            | Tag::TeletexString
            | Tag::Utf8String
    )
}

impl Fields<'_> {
    /// Refuses any value, however deep it stands, that is none of its type.
    pub(crate) fn require_sound_values(self) -> Result<(), MalformedToken> {
        let name = self.name();
        // Not by recursion: the depth is the sender's choice.
        let mut open = vec![self];
        while let Some(mut fields) = open.pop() {
            if fields.is_empty() {
                continue;
            }
            let element = fields.any(name)?;
            open.push(fields);
            if element.tag().is_constructed() {
                open.push(element.fields());
            } else if !is_sound(element) {
                let error = ErrorKind::Value { tag: element.tag() };
                return Err(element.refused(Rule::Der { field: name, error }));
            }
        }
        Ok(())
    }
}

fn is_sound(element: Element<'_>) -> bool {
    let content = element.content();
    match element.tag() {
        Tag::Boolean => matches!(content, [0x00 | 0xFF]),
        Tag::Integer | Tag::Enumerated => match content {
            [0x00, second, ..] => *second >= 0x80,
            [0xFF, second, ..] => *second < 0x80,
            other => !other.is_empty(),
        },
        Tag::BitString => match content {
            [unused] => *unused == 0,
            [unused, ..] => *unused < 8,
            [] => false,
        },
        Tag::Null => content.is_empty(),
        Tag::ObjectIdentifier => is_object_identifier(content),
        Tag::Utf8String => str::from_utf8(content).is_ok(),
        Tag::BmpString => {
            let (characters, rest) = content.as_chunks();
            rest.is_empty() && characters.iter().copied().all(is_character)
        }
        _ => true,
    }
}

/// X.690 8.19.2: each number in its shortest form, which never starts with a byte of nothing but the bit
/// that says that more follow.
fn is_object_identifier(content: &[u8]) -> bool {
    let mut numbers = content.split_inclusive(|byte| byte & 0x80 == 0);
    ObjectIdentifier::from_bytes(content).is_ok()
        && numbers.all(|number| number.first() != Some(&0x80))
}

/// Of the basic multilingual plane: two bytes each, and no halves of others.
fn is_character(bytes: [u8; 2]) -> bool {
    char::from_u32(u16::from_be_bytes(bytes).into()).is_some()
}
