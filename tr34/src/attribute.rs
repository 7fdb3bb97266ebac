//! An attribute with its one value (RFC 5652 5.3).

use der::{Tag, asn1::ObjectIdentifier};

use crate::{
    MalformedToken, Rule,
    read::{Element, Fields},
};

/// An attribute whose value is still closed.
pub(crate) struct Attribute<'a> {
    element: Element<'a>,
    /// Where its type stands.
    type_element: Element<'a>,
    oid: ObjectIdentifier,
    values: Element<'a>,
}

impl<'a> Attribute<'a> {
    /// From its SEQUENCE.
    pub(crate) fn read(element: Element<'a>) -> Result<Self, MalformedToken> {
        let mut fields = element.fields();
        let type_element = fields.next("attrType", Tag::ObjectIdentifier)?;
        let values = fields.next("attrValues", Tag::Set)?;
        fields.end()?;
        Ok(Self {
            element,
            type_element,
            oid: type_element.decode()?,
            values,
        })
    }

    /// Reads the next of some fields as an attribute of this type.
    pub(crate) fn next(
        fields: &mut Fields<'a>,
        field: &'static str,
        oid: ObjectIdentifier,
    ) -> Result<Self, MalformedToken> {
        let attribute = Self::read(fields.next(field, Tag::Sequence)?)?;
        if attribute.oid != oid {
            return Err(attribute.unknown());
        }
        Ok(attribute)
    }

    pub(crate) const fn oid(&self) -> ObjectIdentifier {
        self.oid
    }

    /// The whole encoding, as received.
    pub(crate) const fn whole(&self) -> &'a [u8] {
        self.element.whole()
    }

    /// The one value.
    pub(crate) fn value(&self, field: &'static str) -> Result<Element<'a>, MalformedToken> {
        self.values.named(field).fields().only()
    }

    /// The one value, an OCTET STRING.
    pub(crate) fn octets(&self, field: &'static str) -> Result<Element<'a>, MalformedToken> {
        self.value(field)?.tagged(Tag::OctetString)
    }

    /// A refusal of the attribute.
    pub(crate) const fn refused(&self, rule: Rule) -> MalformedToken {
        self.element.refused(rule)
    }

    /// A refusal of its type.
    pub(crate) const fn unknown(&self) -> MalformedToken {
        self.type_element
            .refused(Rule::UnknownAttribute { found: self.oid })
    }
}
