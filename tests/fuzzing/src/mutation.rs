//! Bad bytes from good ones. Half of the changes know of DER: they leave lengths right, and may put the
//! digest right that a token's signer signed, so that what is behind such checks is reached too.

use good_tokens::{der::octets, tree::Node};
use sha2::{Digest as _, Sha256};

/// Numbers that only look random: from the same seed the same ones (splitmix64).
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        let number = self.next() as usize;
        number % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// One of some values.
    pub fn of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}

/// Bytes that mean something in DER or lie at an edge.
const TELLING: [u8; 16] = [
    0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x17, 0x30, 0x31, 0x7F, 0x80, 0x81, 0xA0, 0xA1, 0xFF,
];

/// One of the seeds with one to three changes.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.of(seeds).clone();
    for _ in 0..=random.below(3) {
        if random.one_in(2) {
            change_bytes(&mut bytes, random);
        } else {
            bytes = with_field_changed(&bytes, seeds, random);
        }
    }
    if random.one_in(2) {
        bytes = with_right_digest(&bytes);
    }
    bytes
}

fn change_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return bytes.push(random.byte());
    }
    let at = random.below(bytes.len());
    match random.below(8) {
        0..3 => bytes[at] ^= 1 << random.below(8),
        3 => bytes[at] = *random.of(&TELLING),
        4 => bytes[at] = bytes[at].wrapping_add(*random.of(&[1, 0xFF])),
        5 => bytes.truncate(at),
        6 => bytes.insert(at, *random.of(&TELLING)),
        _ => drop(bytes.remove(at)),
    }
}

/// With one element changed, and all lengths round it.
fn with_field_changed(bytes: &[u8], seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut tree = Node::parse(bytes);
    open(&mut tree, random);
    let number = random.below(tree.count());
    let other = random.of(seeds).clone();
    let other = random_element(&other, random);
    let Some(node) = tree.numbered(number) else {
        return bytes.to_vec();
    };
    let der = node.to_der();
    let content = node.content();
    match random.below(8) {
        // What is in the way of a reader: gone, twice, or something else in its place.
        0 => *node = Node::Bytes(Vec::new()),
        1 => *node = Node::Bytes(der.repeat(2)),
        2 => *node = Node::Bytes([der, other].concat()),
        3 => *node = Node::Bytes(other),
        4 => {
            if let Some(inside) = node.inside()
                && inside.len() > 1
            {
                let (one, two) = (random.below(inside.len()), random.below(inside.len()));
                inside.swap(one, two);
            }
        }
        5 => *node = Node::Bytes(with_other_length(der, random)),
        6 => *node = Node::Bytes(retagged(der, random)),
        _ => *node = Node::Bytes(with_content_tweaked(&der, content, random)),
    }
    tree.to_der()
}

/// Looks into an OCTET STRING too, as tokens have them in each other.
fn open(tree: &mut Node, random: &mut Random) {
    if random.one_in(2)
        && let Some(content) = tree.at("content")
    {
        content.inside();
    }
}

fn random_element(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut tree = Node::parse(bytes);
    let number = random.below(tree.count());
    tree.numbered(number)
        .map(|node| node.to_der())
        .unwrap_or_default()
}

/// A length that is a little off, in long form, or of no known end.
fn with_other_length(mut der: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if let Some(length) = der.get_mut(1) {
        match random.below(5) {
            0 => *length = length.wrapping_add(1),
            1 => *length = length.wrapping_sub(1),
            2 => *length = 0x80,
            3 => *length = *random.of(&TELLING),
            _ => der.insert(1, 0x81),
        }
    }
    der
}

fn retagged(mut der: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if let Some(tag) = der.first_mut() {
        match random.below(3) {
            0 => *tag ^= 0x20,
            1 => *tag ^= 0x80,
            _ => *tag = *random.of(&TELLING),
        }
    }
    der
}

/// The same element with a content of another length or value; for integers this is one more, one less,
/// negative or padded.
fn with_content_tweaked(der: &[u8], mut content: Vec<u8>, random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => content.insert(0, 0),
        1 => content.insert(0, 0xFF),
        2 => content.clear(),
        3 => content.push(random.byte()),
        4 => content.extend_from_within(..),
        _ => {
            if let Some(last) = content.last_mut() {
                *last = last.wrapping_add(*random.of(&[1, 0xFF, 0x80]));
            }
        }
    }
    let mut tweaked = octets(&content);
    if let Some(tag) = der.first() {
        tweaked[0] = *tag;
    }
    tweaked
}

/// With the digest of the content as it is now, if these bytes have the form of a signed token.
pub fn with_right_digest(bytes: &[u8]) -> Vec<u8> {
    let mut token = Node::parse(bytes);
    let Some(content) = token.at("content") else {
        return bytes.to_vec();
    };
    let digest = octets(&Sha256::digest(content.content()));
    match token.at("attrs/@messageDigest/1/0") {
        Some(signed) => {
            *signed = Node::Bytes(digest);
            token.to_der()
        }
        None => bytes.to_vec(),
    }
}
