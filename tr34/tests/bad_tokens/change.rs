//! Changes to a good token, said field by field. The ways to fields are those of [`Node::at`].

use good_tokens::{der::*, tree::Node};
use sha2::{Digest as _, Sha256};

/// One change, or several.
pub(crate) type Change = Box<dyn Fn(&mut Node)>;

/// The field to which a way leads.
fn at<'a>(token: &'a mut Node, way: &str) -> &'a mut Node {
    token.at(way).expect(way)
}

/// The fields beside it, and where among them it is.
fn beside<'a>(token: &'a mut Node, way: &str) -> (&'a mut Vec<Node>, usize) {
    token.beside(way).expect(way)
}

/// Another field in place of this one.
pub(crate) fn put(way: &'static str, field: impl AsRef<[u8]> + 'static) -> Change {
    Box::new(move |token| *at(token, way) = Node::Bytes(field.as_ref().to_vec()))
}

/// Without the field.
pub(crate) fn cut(way: &'static str) -> Change {
    Box::new(move |token| {
        let (parent, child) = beside(token, way);
        parent.remove(child);
    })
}

/// With one more field in front of this one.
pub(crate) fn before(way: &'static str, field: impl AsRef<[u8]> + 'static) -> Change {
    Box::new(move |token| {
        let (parent, child) = beside(token, way);
        parent.insert(child, Node::Bytes(field.as_ref().to_vec()));
    })
}

/// With one more field at the end of this one.
pub(crate) fn add(way: &'static str, field: impl AsRef<[u8]> + 'static) -> Change {
    Box::new(move |token| {
        let inside = at(token, way).inside().unwrap();
        inside.push(Node::Bytes(field.as_ref().to_vec()));
    })
}

/// With the field twice.
pub(crate) fn twice(way: &'static str) -> Change {
    Box::new(move |token| {
        let (parent, child) = beside(token, way);
        let again = Node::Bytes(parent[child].to_der());
        parent.insert(child, again);
    })
}

/// With the field where the one beside it is, and the other way round.
pub(crate) fn swap(way: &'static str, other: &'static str) -> Change {
    Box::new(move |token| {
        let (_, other) = beside(token, other);
        let (parent, child) = beside(token, way);
        parent.swap(child, other);
    })
}

/// The field under another tag.
pub(crate) fn retag(way: &'static str, tag: u8) -> Change {
    rewrite(way, move |der| [&[tag], &der[1..]].concat())
}

/// The field's bytes as they are made of those that it had.
pub(crate) fn rewrite(way: &'static str, change: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Change {
    Box::new(move |token| {
        let field = at(token, way);
        *field = Node::Bytes(change(&field.to_der()));
    })
}

/// The field with what is made of its content.
pub(crate) fn refill(way: &'static str, change: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Change {
    rewrite(way, move |der| {
        let mut refilled = octets(&change(&Node::parse(der).content()));
        refilled[0] = der[0];
        refilled
    })
}

pub(crate) fn both(one: Change, other: Change) -> Change {
    Box::new(move |token| {
        one(token);
        other(token);
    })
}

/// A change to what is signed, and the digest that goes with it: it is the content that is wrong then.
pub(crate) fn content(change: Change) -> Change {
    Box::new(move |token| {
        let content = at(token, "content");
        change(content);
        let digest = octets(&Sha256::digest(content.content()));
        if let Some(signed) = token.at("attrs/@messageDigest/1/0") {
            *signed = Node::Bytes(digest);
        }
    })
}

/// Cut to this many bytes.
pub(crate) fn first(len: usize) -> impl Fn(&[u8]) -> Vec<u8> {
    move |der| der[..len].to_vec()
}

/// A length of a byte or two in one byte more.
pub(crate) fn long_length(der: &[u8]) -> Vec<u8> {
    match der[1] {
        0x82 => [&[der[0], 0x83, 0], &der[2..]].concat(),
        0x81 => [&[der[0], 0x82, 0], &der[2..]].concat(),
        _ => [&[der[0], 0x81], &der[1..]].concat(),
    }
}

/// BER's indefinite length.
pub(crate) fn indefinite_length(der: &[u8]) -> Vec<u8> {
    let header = 2 + match der[1] {
        long @ 0x80.. => usize::from(long & 0x7F),
        _ => 0,
    };
    [&[der[0], 0x80], &der[header..], &[0, 0]].concat()
}
