//! The attributes that a token's signature covers (RFC 5652 5.3 and 11).

use der::{Tag, asn1::ObjectIdentifier};

use crate::{
    Kbh, KrdNonce, MalformedToken, Profile, Rule, SigningTime,
    attribute::Attribute,
    encode, expect, oid,
    profile::AttributeOrder,
    read::{Element, Fields},
};

/// Bytes of a SHA-256 digest.
pub(crate) const DIGEST_LEN: usize = 32;

/// What a signature is for; this decides which attributes there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A key token: a header, and a nonce or a time.
    Key,
    /// What the bound KDH orders: a nonce.
    KdhOrder,
    /// What the higher authority orders: a time, since it has had no nonce.
    CaOrder,
}

/// Whether an attribute is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    Perhaps,
    Never,
}

/// One line of the table of attributes.
struct Row {
    oid: ObjectIdentifier,
    name: &'static str,
    need: Need,
}

const CONTENT_TYPE: usize = 0;
const NONCE: usize = 1;
const TIME: usize = 2;
const HEADER: usize = 3;
const PROTECTION: usize = 4;
const DIGEST: usize = 5;

impl Purpose {
    /// The attributes that there are, in the order in which the samples print them.
    fn rows(self, profile: Profile) -> [Row; 6] {
        let layout = profile.layout();
        let when = |holds| if holds { Need::Always } else { Need::Never };
        let nonce = match self {
            Self::Key => Need::Perhaps,
            Self::KdhOrder => Need::Always,
            Self::CaOrder => Need::Never,
        };
        let time = match self {
            _ if layout.always_signing_time => Need::Always,
            Self::Key => Need::Perhaps,
            Self::KdhOrder => Need::Never,
            Self::CaOrder => Need::Always,
        };
        [
            (oid::CONTENT_TYPE, "contentType", Need::Always),
            (oid::RANDOM_NONCE, "randomNonce", nonce),
            (oid::SIGNING_TIME, "signingTime", time),
            (
                oid::KEY_BLOCK_HEADER,
                "key block header",
                when(self == Self::Key),
            ),
            (
                oid::ALGORITHM_PROTECTION,
                "CMSAlgorithmProtection",
                when(layout.algorithm_protection),
            ),
            (oid::MESSAGE_DIGEST, "messageDigest", Need::Always),
        ]
        .map(|(oid, name, need)| Row { oid, name, need })
    }
}

/// What a kind of token has its signer sign, besides content type and digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignedAttributes {
    pub(crate) header: Option<Kbh>,
    pub(crate) nonce: Option<KrdNonce>,
    pub(crate) signing_time: Option<SigningTime>,
}

impl SignedAttributes {
    /// The attributes one after another: a set's content without tag and length, which differ between
    /// what is signed and what is sent.
    pub(crate) fn to_set_content(
        &self,
        profile: Profile,
        content_type: ObjectIdentifier,
        message_digest: &[u8; DIGEST_LEN],
    ) -> Vec<u8> {
        let layout = profile.layout();
        let protection = layout
            .algorithm_protection
            .then(|| encode::attribute(oid::ALGORITHM_PROTECTION, &protection(profile)));
        let printed = [
            Some(encode::attribute(
                oid::CONTENT_TYPE,
                &encode::object_identifier(content_type),
            )),
            self.nonce.as_ref().map(KrdNonce::to_attribute),
            self.signing_time.map(SigningTime::to_attribute),
            self.header.as_ref().map(Kbh::to_attribute),
            protection,
            Some(encode::attribute(
                oid::MESSAGE_DIGEST,
                &encode::octet_string(message_digest),
            )),
        ];
        let mut attributes: Vec<_> = printed.into_iter().flatten().collect();
        if layout.attribute_order == AttributeOrder::Der {
            attributes.sort();
        }
        attributes.concat()
    }

    /// From the content of the set as received, with the signed digest.
    ///
    /// # Errors
    /// An attribute that this purpose does not have in this profile, one that is missing, stands twice,
    /// out of order or with another number of values than one; another contentType than this.
    pub(crate) fn read(
        set: Fields<'_>,
        profile: Profile,
        purpose: Purpose,
        content_type: ObjectIdentifier,
    ) -> Result<(Self, [u8; DIGEST_LEN]), MalformedToken> {
        let found = Found::read(set, profile, purpose)?;
        let of_type = found.value(CONTENT_TYPE)?;
        let of_type = of_type.map(|element| {
            let found = element.tagged(Tag::ObjectIdentifier)?.decode()?;
            element.check(expect::content_type("contentType", found, content_type))
        });
        of_type.transpose()?;
        if let Some(element) = found.value(PROTECTION)?
            && element.whole() != protection(profile)
        {
            let field = "CMSAlgorithmProtection";
            return Err(element.refused(Rule::Algorithm { field }));
        }
        let header = found.octets(HEADER)?.map(Kbh::read).transpose()?;
        let nonce = found.octets(NONCE)?;
        let nonce = nonce.map(|octets| KrdNonce::read(profile, octets));
        let signing_time = found.value(TIME)?.map(SigningTime::read).transpose()?;
        let digest = found.octets(DIGEST)?;
        let digest = digest.map_or_else(|| Err(found.missing(DIGEST)), digest_of)?;
        let attributes = Self {
            header,
            nonce: nonce.transpose()?,
            signing_time,
        };
        Ok((attributes, digest))
    }
}

/// The attributes that there are, each in its row.
struct Found<'a> {
    set: Fields<'a>,
    rows: [Row; 6],
    attributes: [Option<Attribute<'a>>; 6],
}

impl<'a> Found<'a> {
    fn read(set: Fields<'a>, profile: Profile, purpose: Purpose) -> Result<Self, MalformedToken> {
        let rows = purpose.rows(profile);
        let mut attributes = [const { None }; 6];
        let mut order = Vec::new();
        for element in set.all()? {
            let attribute = Attribute::read(element.tagged(Tag::Sequence)?)?;
            let row = rows
                .iter()
                .position(|row| row.need != Need::Never && row.oid == attribute.oid())
                .ok_or_else(|| attribute.unknown())?;
            order.push((row, attribute.whole()));
            if attributes[row].is_some() {
                let field = rows[row].name;
                return Err(attribute.refused(Rule::NotExactlyOne { field, found: 2 }));
            }
            attributes[row] = Some(attribute);
        }
        let ordered = match profile.layout().attribute_order {
            AttributeOrder::Der => order.is_sorted_by_key(|(_, whole)| *whole),
            AttributeOrder::Printed => order.is_sorted_by_key(|(row, _)| *row),
        };
        if !ordered {
            return Err(set.refused(Rule::AttributeOrder));
        }
        let found = Self {
            set,
            rows,
            attributes,
        };
        found.complete()
    }

    /// Whether what must be there is there.
    fn complete(self) -> Result<Self, MalformedToken> {
        let missing =
            |(row, attribute): (&Row, &Option<_>)| row.need == Need::Always && attribute.is_none();
        match self.rows.iter().zip(&self.attributes).position(missing) {
            Some(row) => Err(self.missing(row)),
            None => Ok(self),
        }
    }

    fn missing(&self, row: usize) -> MalformedToken {
        self.set.refused(Rule::NotExactlyOne {
            field: self.rows[row].name,
            found: 0,
        })
    }

    /// The value of an attribute, if it is there.
    fn value(&self, row: usize) -> Result<Option<Element<'a>>, MalformedToken> {
        let attribute = self.attributes[row].as_ref();
        let value = attribute.map(|attribute| attribute.value(self.rows[row].name));
        value.transpose()
    }

    /// The same, an OCTET STRING.
    fn octets(&self, row: usize) -> Result<Option<Element<'a>>, MalformedToken> {
        let value = self.value(row)?;
        value
            .map(|value| value.tagged(Tag::OctetString))
            .transpose()
    }
}

fn digest_of(octets: Element<'_>) -> Result<[u8; DIGEST_LEN], MalformedToken> {
    let digest = octets.content();
    octets.check(digest.try_into().map_err(|_| Rule::Length {
        field: "messageDigest",
        found: digest.len(),
    }))
}

/// The value of RFC 6211's attribute: the digest and the signature algorithm once more.
fn protection(profile: Profile) -> Vec<u8> {
    let signature = encode::signature_algorithm(profile);
    encode::sequence(&[
        &encode::algorithm(oid::SHA_256, &[]),
        &encode::retagged(encode::CONTEXT_1, &signature),
    ])
}
