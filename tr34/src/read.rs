//! DER, element by element. Each element knows where it stands in the bytes that were given, so that a
//! refusal says where.
//!
//! What an element is for is said by its name, which is that of RFC 5652. Nothing is skipped: a
//! structure is refused if something is left when its reader ends.

use der::{
    AnyRef, Decode, Reader as _, SliceReader, Tag, TagNumber, Tagged, asn1::ObjectIdentifier,
};
use x509_cert::{Certificate, crl::CertificateList};

use crate::{MalformedToken, Rule, TokenKind, expect, profile::Embedding, sound::require_name};

/// `[number]`, constructed.
pub(crate) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

/// `[0]`, primitive.
pub(crate) const CONTEXT_0_PRIMITIVE: Tag = Tag::ContextSpecific {
    constructed: false,
    number: TagNumber(0),
};

/// A refusal of the bytes at `offset`.
const fn refused(token: TokenKind, offset: usize, rule: Rule) -> MalformedToken {
    MalformedToken {
        token,
        offset: Some(offset),
        rule,
    }
}

/// The elements of a structure, of which some may have been read.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    token: TokenKind,
    /// Of the structure.
    name: &'static str,
    rest: &'a [u8],
    offset: usize,
}

/// One element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    token: TokenKind,
    name: &'static str,
    whole: &'a [u8],
    content: AnyRef<'a>,
    offset: usize,
}

impl<'a> Fields<'a> {
    /// A whole token: `read` has to use up all of it.
    pub(crate) fn of_token<T>(
        token: TokenKind,
        der: &'a [u8],
        read: impl FnOnce(&mut Self) -> Result<T, MalformedToken>,
    ) -> Result<T, MalformedToken> {
        expect::token_len(der).map_err(|rule| refused(token, 0, rule))?;
        let mut fields = Self::of_part(token, "token", der);
        let read = read(&mut fields)?;
        fields.end()?;
        Ok(read)
    }

    /// The fields of a structure by itself.
    pub(crate) const fn of_part(token: TokenKind, name: &'static str, der: &'a [u8]) -> Self {
        Self {
            token,
            name,
            rest: der,
            offset: 0,
        }
    }

    /// Reads the next element, whatever its tag.
    pub(crate) fn any(&mut self, name: &'static str) -> Result<Element<'a>, MalformedToken> {
        let refused = |rule| refused(self.token, self.offset, rule);
        if self.rest.is_empty() {
            return Err(refused(Rule::Missing { field: name }));
        }
        let read = || {
            let mut reader = SliceReader::new(self.rest)?;
            let content = AnyRef::decode(&mut reader)?;
            Ok((content, usize::try_from(reader.position())?))
        };
        let (content, len) = read().map_err(|error: der::Error| {
            refused(Rule::Der {
                field: name,
                error: error.kind(),
            })
        })?;
        let (whole, rest) = self.rest.split_at(len);
        let element = Element {
            token: self.token,
            name,
            whole,
            content,
            offset: self.offset,
        };
        self.rest = rest;
        self.offset += len;
        Ok(element)
    }

    /// Reads the next element, which must have this tag.
    pub(crate) fn next(
        &mut self,
        name: &'static str,
        tag: Tag,
    ) -> Result<Element<'a>, MalformedToken> {
        self.any(name)?.tagged(tag)
    }

    /// Reads a SEQUENCE.
    pub(crate) fn sequence(&mut self, name: &'static str) -> Result<Self, MalformedToken> {
        Ok(self.next(name, Tag::Sequence)?.fields())
    }

    /// The fields of a structure that is embedded in the content of this OCTET STRING.
    pub(crate) fn embedded(
        token: TokenKind,
        embedding: Embedding,
        name: &'static str,
        octets: Element<'a>,
    ) -> Result<Self, MalformedToken> {
        let mut inside = octets.within(token).named(name).fields();
        match embedding {
            Embedding::Content => Ok(inside),
            Embedding::Element => {
                let fields = inside.sequence(name)?;
                inside.end()?;
                Ok(fields)
            }
        }
    }

    /// Reads an INTEGER that is this version of the structure.
    pub(crate) fn version(&mut self, expected: u8) -> Result<(), MalformedToken> {
        let structure = self.name;
        let element = self.next("version", Tag::Integer)?;
        let found: u8 = element.decode()?;
        expect::version(structure, found, expected).map_err(|rule| element.refused(rule))
    }

    /// Reads an OBJECT IDENTIFIER.
    pub(crate) fn oid(&mut self, name: &'static str) -> Result<ObjectIdentifier, MalformedToken> {
        self.next(name, Tag::ObjectIdentifier)?.decode()
    }

    /// Reads the OBJECT IDENTIFIER of a content, which must be this one.
    pub(crate) fn content_type(
        &mut self,
        field: &'static str,
        expected: ObjectIdentifier,
    ) -> Result<(), MalformedToken> {
        let element = self.next("contentType", Tag::ObjectIdentifier)?;
        expect::content_type(field, element.decode()?, expected)
            .map_err(|rule| element.refused(rule))
    }

    /// Reads an OCTET STRING.
    pub(crate) fn octets(&mut self, name: &'static str) -> Result<Element<'a>, MalformedToken> {
        self.next(name, Tag::OctetString)
    }

    /// Reads the one element inside an explicit tag `[number]`.
    pub(crate) fn explicit(
        &mut self,
        name: &'static str,
        number: u32,
        tag: Tag,
    ) -> Result<Element<'a>, MalformedToken> {
        let mut inside = self.next(name, context(number))?.fields();
        let element = inside.next(name, tag)?;
        inside.end()?;
        Ok(element)
    }

    /// The one element that is left.
    pub(crate) fn only(mut self) -> Result<Element<'a>, MalformedToken> {
        let (field, offset) = (self.name, self.offset);
        let (mut found, mut first) = (0, None);
        while !self.rest.is_empty() {
            let element = self.any(field)?;
            first.get_or_insert(element);
            found += 1;
        }
        match first {
            Some(element) if found == 1 => Ok(element),
            _ => Err(refused(
                self.token,
                offset,
                Rule::NotExactlyOne { field, found },
            )),
        }
    }

    /// All elements that are left.
    pub(crate) fn all(mut self) -> Result<Vec<Element<'a>>, MalformedToken> {
        let mut elements = Vec::new();
        while !self.rest.is_empty() {
            elements.push(self.any(self.name)?);
        }
        Ok(elements)
    }

    /// Nothing is left.
    pub(crate) fn end(self) -> Result<(), MalformedToken> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.refused(Rule::Surplus { field: self.name }))
    }

    /// What the structure should be.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A refusal of what comes next.
    pub(crate) const fn refused(&self, rule: Rule) -> MalformedToken {
        refused(self.token, self.offset, rule)
    }
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub(crate) fn fields(self) -> Fields<'a> {
        Fields {
            token: self.token,
            name: self.name,
            rest: self.content(),
            offset: self.offset + self.whole.len() - self.content().len(),
        }
    }

    /// Under another name.
    pub(crate) const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// As part of another kind of token.
    pub(crate) const fn within(self, token: TokenKind) -> Self {
        Self { token, ..self }
    }

    pub(crate) fn tag(self) -> Tag {
        self.content.tag()
    }

    /// The element, if it has this tag.
    pub(crate) fn tagged(self, expected: Tag) -> Result<Self, MalformedToken> {
        let found = self.tag();
        if found != expected {
            let field = self.name;
            return Err(self.refused(Rule::Tag {
                field,
                expected,
                found,
            }));
        }
        Ok(self)
    }

    /// What it should be.
    pub(crate) const fn name(self) -> &'static str {
        self.name
    }

    /// The bytes inside.
    pub(crate) fn content(self) -> &'a [u8] {
        self.content.value()
    }

    /// The whole encoding, as received.
    pub(crate) const fn whole(self) -> &'a [u8] {
        self.whole
    }

    /// As a value of a type that `der` knows.
    pub(crate) fn decode<T>(self) -> Result<T, MalformedToken>
    where
        T: Decode<'a, Error = der::Error>,
    {
        T::from_der(self.whole).map_err(|error| {
            self.refused(Rule::Der {
                field: self.name,
                error: error.kind(),
            })
        })
    }

    /// A certificate that every reader takes.
    pub(crate) fn as_certificate(self) -> Result<Certificate, MalformedToken> {
        let certificate: Certificate = self.decode()?;
        self.fields().require_sound_values()?;
        let tbs = certificate.tbs_certificate();
        self.check(require_name("issuer", tbs.issuer()))?;
        self.check(require_name("subject", tbs.subject()))?;
        Ok(certificate)
    }

    /// The bytes of a certificate, if that is what they are. They are kept as they are: a decoded
    /// certificate written out again need not be what was signed.
    pub(crate) fn certificate(self) -> Result<Vec<u8>, MalformedToken> {
        self.as_certificate()?;
        Ok(self.whole.to_vec())
    }

    /// The bytes of a CRL, if that is what they are; kept like those of a certificate.
    pub(crate) fn crl(self) -> Result<Vec<u8>, MalformedToken> {
        let list: CertificateList = self.decode()?;
        self.fields().require_sound_values()?;
        self.check(require_name("issuer", &list.tbs_cert_list.issuer))?;
        Ok(self.whole.to_vec())
    }

    /// Refuses the element, unless the check holds.
    pub(crate) fn check<T>(self, result: Result<T, Rule>) -> Result<T, MalformedToken> {
        result.map_err(|rule| self.refused(rule))
    }

    /// A refusal of this element.
    pub(crate) const fn refused(self, rule: Rule) -> MalformedToken {
        refused(self.token, self.offset, rule)
    }
}
