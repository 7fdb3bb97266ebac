//! DER as a tree, to change a field and have all lengths round it follow.

use crate::der::{
    ALGORITHM_PROTECTION, CONTENT_TYPE, DATA, MESSAGE_DIGEST, RANDOM_NONCE, SIGNING_TIME, octets,
    oid,
};

/// An element, or whatever stands in its place.
#[derive(Clone)]
pub enum Node {
    /// An element that is looked into.
    Element {
        /// Its tag.
        tag: u8,
        /// The elements inside.
        inside: Vec<Self>,
    },
    /// Any other bytes, also such as are no DER.
    Bytes(Vec<u8>),
}

impl Node {
    /// From any bytes. Where they are no constructed element they are left as they are.
    pub fn parse(bytes: &[u8]) -> Self {
        match split(bytes) {
            Some((content, [])) if bytes[0] & 0x20 != 0 => Self::Element {
                tag: bytes[0],
                inside: elements(content),
            },
            _ => Self::Bytes(bytes.to_vec()),
        }
    }

    /// The bytes.
    pub fn to_der(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Element { tag, inside } => {
                // The length is that of an OCTET STRING with the same inside.
                let mut der = octets(&inside.iter().flat_map(Self::to_der).collect::<Vec<_>>());
                der[0] = *tag;
                der
            }
        }
    }

    /// The bytes inside.
    pub fn content(&self) -> Vec<u8> {
        let der = self.to_der();
        split(&der)
            .map(|(content, _)| content.to_vec())
            .unwrap_or_default()
    }

    /// The elements inside, of an OCTET STRING too.
    pub fn inside(&mut self) -> Option<&mut Vec<Self>> {
        if let Self::Bytes(bytes) = self {
            let (content, []) = split(bytes)? else {
                return None;
            };
            *self = Self::Element {
                tag: bytes[0],
                inside: elements(content),
            };
        }
        match self {
            Self::Element { inside, .. } => Some(inside),
            Self::Bytes(_) => None,
        }
    }

    /// The field to which a way leads, in steps with a slash between: the number of a child; `x` with a tag,
    /// the last child under it; `@` with a name, the attribute. A way may begin with a place that signed
    /// tokens have: `data`, the `SignedData`; `content`, the OCTET STRING in it; `signer`, the `SignerInfo`;
    /// `attrs`, its signed attributes. The empty way is the whole.
    pub fn at(&mut self, way: &str) -> Option<&mut Self> {
        steps(way).iter().try_fold(self, |node, step| {
            let inside = node.inside()?;
            let child = child(inside, step)?;
            inside.get_mut(child)
        })
    }

    /// The fields beside one, and where among them it is.
    pub fn beside(&mut self, way: &str) -> Option<(&mut Vec<Self>, usize)> {
        let steps = steps(way);
        let (last, before) = steps.split_last()?;
        let inside = self.at(&before.join("/"))?.inside()?;
        let child = child(inside, last)?;
        Some((inside, child))
    }

    /// How many elements there are in the tree.
    pub fn count(&self) -> usize {
        match self {
            Self::Bytes(_) => 1,
            Self::Element { inside, .. } => 1 + inside.iter().map(Self::count).sum::<usize>(),
        }
    }

    /// The element of this number, each being counted before those inside.
    pub fn numbered(&mut self, number: usize) -> Option<&mut Self> {
        if number == 0 {
            return Some(self);
        }
        let Self::Element { inside, .. } = self else {
            return None;
        };
        let mut before = 1;
        for node in inside {
            let count = node.count();
            if number < before + count {
                return node.numbered(number - before);
            }
            before += count;
        }
        None
    }

    fn tag(&self) -> Option<u8> {
        match self {
            Self::Element { tag, .. } => Some(*tag),
            Self::Bytes(bytes) => bytes.first().copied(),
        }
    }
}

/// The steps of a way, where a place has become the way to it.
fn steps(way: &str) -> Vec<&str> {
    let step = |step| match step {
        "data" => "1/0",
        "content" => "1/0/2/1/0",
        "signer" => "1/0/x31/0",
        "attrs" => "1/0/x31/0/xA0",
        other => other,
    };
    let steps = way.split('/').map(step).flat_map(|step| step.split('/'));
    steps.filter(|step| !step.is_empty()).collect()
}

/// Where a step leads.
fn child(inside: &[Node], step: &str) -> Option<usize> {
    if let Some(tag) = step.strip_prefix('x') {
        let tag = u8::from_str_radix(tag, 16).unwrap();
        return inside.iter().rposition(|node| node.tag() == Some(tag));
    }
    if let Some(name) = step.strip_prefix('@') {
        let of_type = oid(match name {
            "contentType" => CONTENT_TYPE,
            "nonce" => RANDOM_NONCE,
            "header" => DATA,
            "time" => SIGNING_TIME,
            "protection" => ALGORITHM_PROTECTION,
            "messageDigest" => MESSAGE_DIGEST,
            other => panic!("no attribute is called {other}"),
        });
        return inside
            .iter()
            .position(|node| node.content().starts_with(&of_type));
    }
    let place: usize = step.parse().unwrap();
    (place < inside.len()).then_some(place)
}

/// All elements of a content, and as the last one what is no DER.
fn elements(mut content: &[u8]) -> Vec<Node> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let rest = split(content).map_or(&[][..], |(_, rest)| rest);
        let (element, rest) = content.split_at(content.len() - rest.len());
        elements.push(Node::parse(element));
        content = rest;
    }
    elements
}

/// The content of the first element, and what is behind it. Only lengths as DER has them are taken, so that
/// what is put together again is the same.
fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, len) = match der {
        [_, len @ 0..=0x7F, ..] => (2, usize::from(*len)),
        [_, 0x81, len @ 0x80..=0xFF, ..] => (3, usize::from(*len)),
        [_, 0x82, high @ 1..=0xFF, low, ..] => (4, usize::from(*high) << 8 | usize::from(*low)),
        [_, 0x83, high @ 1..=0xFF, middle, low, ..] => {
            let number = [0, *high, *middle, *low];
            (5, u32::from_be_bytes(number) as usize)
        }
        _ => return None,
    };
    der.get(header..)?.split_at_checked(len)
}
