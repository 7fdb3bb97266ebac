//! Distinguished names.

use std::{fmt, str::FromStr};

use const_oid::{ObjectIdentifier, db::rfc4519};
use der::{Decode, Encode};

/// A distinguished name that is not empty, with its DER.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    der: Vec<u8>,
    inner: x509_cert::name::Name,
}

/// Text or bytes that are not an acceptable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of the form `CN=…,O=…,C=…`.
    #[error("a name is written like \"CN=Example KDH,O=Example Bank,C=DE\"")]
    Malformed,
    /// No attribute at all, or no common name where there must be one.
    #[error("the name is empty")]
    Empty,
}

impl Name {
    /// The name that a CA gives a subject: the CA's own country and organization, then the unit and
    /// the common name.
    ///
    /// # Errors
    /// A part cannot stand in a name.
    pub fn under(issuer: &Self, unit: Option<&str>, common_name: &str) -> Result<Self, NameError> {
        if common_name.is_empty() {
            return Err(NameError::Empty);
        }
        // RFC 4514 2.1 writes the last attribute first.
        let parts = [
            Some(("CN", common_name.to_owned())),
            unit.map(|unit| ("OU", unit.to_owned())),
            issuer
                .attribute(rfc4519::ORGANIZATION_NAME)
                .map(|o| ("O", o)),
            issuer.attribute(rfc4519::COUNTRY_NAME).map(|c| ("C", c)),
        ];
        let text: Vec<String> = parts
            .into_iter()
            .flatten()
            .map(|(kind, value)| format!("{kind}={}", escape(&value)))
            .collect();
        text.join(",").parse()
    }

    pub(crate) fn from_x509(inner: x509_cert::name::Name) -> Result<Self, NameError> {
        if inner.is_empty() {
            return Err(NameError::Empty);
        }
        let der = inner.to_der().map_err(|_| NameError::Malformed)?;
        Ok(Self { der, inner })
    }

    /// From the DER of a `Name`.
    ///
    /// # Errors
    /// The bytes are not one name in DER, or the name is empty.
    pub fn from_der(der: &[u8]) -> Result<Self, NameError> {
        let inner = x509_cert::name::Name::from_der(der).map_err(|_| NameError::Malformed)?;
        let name = Self::from_x509(inner)?;
        // Decoding sorts sets; a name that was not sorted is not DER.
        (name.der == der)
            .then_some(name)
            .ok_or(NameError::Malformed)
    }

    /// The DER of the `Name`.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The common name, if there is one.
    pub fn common_name(&self) -> Option<String> {
        self.attribute(rfc4519::COMMON_NAME)
    }

    /// The organizational unit, if there is one.
    pub fn unit(&self) -> Option<String> {
        self.attribute(rfc4519::ORGANIZATIONAL_UNIT_NAME)
    }

    pub(crate) const fn as_x509(&self) -> &x509_cert::name::Name {
        &self.inner
    }

    /// The only value of an attribute; `None` if it is absent or stands there twice.
    fn attribute(&self, oid: ObjectIdentifier) -> Option<String> {
        let mut values = self.inner.iter().filter(|attribute| attribute.oid == oid);
        match (values.next(), values.next()) {
            (Some(attribute), None) => std::str::from_utf8(attribute.value.value())
                .ok()
                .map(str::to_owned),
            _ => None,
        }
    }
}

/// RFC 4514 2.4, for any character that could end an attribute value.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        if r#",+"\<>;=/#"#.contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

impl FromStr for Name {
    type Err = NameError;

    /// From text like `CN=Example KDH,O=Example Bank,C=DE`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::from_x509(text.parse().map_err(|_| NameError::Malformed)?)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
