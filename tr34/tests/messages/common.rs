//! Good tokens to start from, and DER written by other code than the crate's.

use der::{Any, Decode, Encode, Tag, TagNumber, asn1::ObjectIdentifier};
use tr34::{
    ContentEncryption, EnvelopedKeyBlock, IssuerAndSerial, Kbh, KeyTokenDraft, KrdNonce,
    MAX_TOKEN_LEN, MalformedToken, NONCE_LEN, OaepHash, Rule, TokenKind,
};
use x509_cert::{certificate::Rfc5280, crl::CertificateList};

pub(crate) const CERTIFICATE: &[u8] = include_bytes!("../data/kdh.cert.der");
pub(crate) const CRL: &[u8] = include_bytes!("../data/ca-kdh.crl.der");
pub(crate) const SIGNATURE: [u8; 256] = [0x51; 256];
pub(crate) const HEADER: &str = "D0000K0AB00E0000";
pub(crate) const NONCE: [u8; NONCE_LEN] = *b"sixteen bytes ok";

pub(crate) const DATA: &str = "1.2.840.113549.1.7.1";
pub(crate) const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
pub(crate) const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
pub(crate) const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
pub(crate) const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
pub(crate) const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
pub(crate) const RANDOM_NONCE: &str = "1.2.840.113549.1.9.25.3";
pub(crate) const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
pub(crate) const RSAES_OAEP: &str = "1.2.840.113549.1.1.7";
pub(crate) const MGF1: &str = "1.2.840.113549.1.1.8";
pub(crate) const P_SPECIFIED: &str = "1.2.840.113549.1.1.9";
pub(crate) const SHA_1: &str = "1.3.14.3.2.26";
pub(crate) const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
pub(crate) const SHA_384: &str = "2.16.840.1.101.3.4.2.2";
pub(crate) const DES_EDE3_CBC: &str = "1.2.840.113549.3.7";
pub(crate) const DES_CBC: &str = "1.3.14.3.2.7";
pub(crate) const AES_128_CBC: &str = "2.16.840.1.101.3.4.1.2";
pub(crate) const AES_192_CBC: &str = "2.16.840.1.101.3.4.1.22";

pub(crate) const NULL: &[u8] = &[0x05, 0x00];

pub(crate) fn header() -> Kbh {
    HEADER.parse().unwrap()
}

pub(crate) fn nonce() -> KrdNonce {
    KrdNonce::from_bytes(NONCE)
}

pub(crate) fn kdh() -> IssuerAndSerial {
    IssuerAndSerial::of_certificate(CERTIFICATE).unwrap()
}

pub(crate) fn krd() -> IssuerAndSerial {
    IssuerAndSerial::new(&name("CA KRD"), &[0x3B; 9]).unwrap()
}

pub(crate) fn enveloped() -> EnvelopedKeyBlock {
    EnvelopedKeyBlock::new(
        krd(),
        OaepHash::Sha256,
        vec![0xE1; 256],
        ContentEncryption::Aes128Cbc([0x1F; 16]),
        vec![0xC1; 144],
    )
    .unwrap()
}

pub(crate) fn key_token() -> Vec<u8> {
    KeyTokenDraft::new(&enveloped(), &header(), &nonce(), &kdh(), CRL)
        .unwrap()
        .into_token(&SIGNATURE)
        .unwrap()
}

/// The CRL with its one entry repeated.
pub(crate) fn crl_with(revoked: usize) -> Vec<u8> {
    let mut crl = CertificateList::<Rfc5280>::from_der(CRL).unwrap();
    let entries = crl.tbs_cert_list.revoked_certificates.as_mut().unwrap();
    *entries = vec![entries[0].clone(); revoked];
    crl.to_der().unwrap()
}

/// More entries than a token has room for, though the CRL alone is short enough.
pub(crate) const TOO_MANY_REVOKED: usize = 2150;

/// A `Name` with one common name.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let value = element(Tag::Utf8String, &[common_name.as_bytes()]);
    sequence(&[&set(&[&sequence(&[&oid("2.5.4.3"), &value])])])
}

pub(crate) fn element(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    Any::new(tag, parts.concat()).unwrap().to_der().unwrap()
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(Tag::Sequence, parts)
}

pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    element(Tag::Set, parts)
}

pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    element(Tag::OctetString, &[content])
}

pub(crate) fn integer(value: u8) -> Vec<u8> {
    value.to_der().unwrap()
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    ObjectIdentifier::new(dotted).unwrap().to_der().unwrap()
}

/// A context-specific tag.
pub(crate) fn context(number: u16, constructed: bool, parts: &[&[u8]]) -> Vec<u8> {
    let number = TagNumber(number.into());
    element(
        Tag::ContextSpecific {
            constructed,
            number,
        },
        parts,
    )
}

pub(crate) fn tagged(number: u16, parts: &[&[u8]]) -> Vec<u8> {
    context(number, true, parts)
}

pub(crate) fn algorithm(dotted: &str, parameters: &[u8]) -> Vec<u8> {
    sequence(&[&oid(dotted), parameters])
}

pub(crate) fn attribute(dotted: &str, values: &[&[u8]]) -> Vec<u8> {
    sequence(&[&oid(dotted), &set(values)])
}

/// What a case expects: a rule, some fault that `der` found, or too many bytes.
pub(crate) enum Expect {
    Rule(Rule),
    Der,
    TooLong,
}

impl From<Rule> for Expect {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}

pub(crate) fn not_one(field: &'static str, found: usize) -> Expect {
    Rule::NotExactlyOne { field, found }.into()
}

pub(crate) fn length(field: &'static str, found: usize) -> Expect {
    Rule::Length { field, found }.into()
}

pub(crate) fn wrong_algorithm(field: &'static str) -> Expect {
    Rule::Algorithm { field }.into()
}

pub(crate) fn version(field: &'static str, found: u8) -> Expect {
    Rule::Version { field, found }.into()
}

pub(crate) fn content_type(field: &'static str, found: &str) -> Expect {
    let found = ObjectIdentifier::new(found).unwrap();
    Rule::ContentType { field, found }.into()
}

pub(crate) fn unknown_attribute(found: &str) -> Expect {
    let found = ObjectIdentifier::new(found).unwrap();
    Rule::UnknownAttribute { found }.into()
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    case: &str,
    result: Result<T, MalformedToken>,
    token: TokenKind,
    expected: &Expect,
) {
    let error = result.expect_err(case);
    assert_eq!(error.token, token, "{case}");
    match expected {
        Expect::Rule(rule) => assert_eq!(&error.rule, rule, "{case}"),
        Expect::Der => assert!(matches!(error.rule, Rule::Der(_)), "{case}: {error}"),
        Expect::TooLong => assert!(
            matches!(error.rule, Rule::TooLong { found } if found > MAX_TOKEN_LEN),
            "{case}: {error}"
        ),
    }
}

/// Every shorter and some longer versions of a good token are refused; each that differs in one bit
/// is refused or read as what it is: it is written as the same bytes again.
pub(crate) fn assert_reads_exactly<T>(
    good: &[u8],
    parse: impl for<'a> Fn(&'a [u8]) -> Result<T, MalformedToken>,
    write: impl Fn(&T) -> Vec<u8>,
) {
    assert_eq!(write(&parse(good).unwrap()), good);
    for len in 0..good.len() {
        assert!(parse(&good[..len]).is_err(), "cut to {len} bytes");
    }
    for byte in [0x00, 0x05, 0x30, 0xFF] {
        assert!(parse(&[good, &[byte]].concat()).is_err(), "one byte longer");
    }
    let mut flipped = good.to_vec();
    for bit in 0..good.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(token) = parse(&flipped) {
            assert!(write(&token) == flipped, "bit {bit} flipped unnoticed");
        }
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}
