//! `KT_KDH`: what is built, and each way in which a token can differ from a good one.

use der::Decode;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tr34::{
    ContentCipher, ContentEncryption, EnvelopedKeyBlock, IssuerAndSerial, Kbh, KbhError, KbhField,
    KeyToken, KeyTokenDraft, KrdNonce, MAX_CRL_LEN, MAX_TOKEN_LEN, OaepHash, Rule, TokenKind,
};

use crate::common::*;

/// A key token in pieces, each the whole encoding of a field; an absent field is empty.
struct Pieces {
    content_info_type: Vec<u8>,
    version: Vec<u8>,
    digest_algorithms: Vec<u8>,
    content_type: Vec<u8>,
    content: Vec<u8>,
    certificates: Vec<u8>,
    crls: Vec<u8>,
    signer_version: Vec<u8>,
    sid: Vec<u8>,
    digest_algorithm: Vec<u8>,
    attributes_tag: u16,
    attributes: Vec<Vec<u8>>,
    signature_algorithm: Vec<u8>,
    signature: Vec<u8>,
    unsigned_attributes: Vec<u8>,
    signer_infos: usize,
}

impl Pieces {
    fn good() -> Self {
        let content = enveloped().to_der();
        Self {
            content_info_type: oid(SIGNED_DATA),
            version: integer(3),
            digest_algorithms: set(&[&algorithm(SHA_256, &[])]),
            content_type: oid(ENVELOPED_DATA),
            certificates: Vec::new(),
            crls: tagged(1, &[CRL]),
            signer_version: integer(1),
            sid: kdh().to_der(),
            digest_algorithm: algorithm(SHA_256, &[]),
            attributes_tag: 0,
            attributes: vec![
                attribute(CONTENT_TYPE, &[&oid(ENVELOPED_DATA)]),
                attribute(DATA, &[&octets(HEADER.as_bytes())]),
                attribute(RANDOM_NONCE, &[&octets(&NONCE)]),
                attribute(MESSAGE_DIGEST, &[&octets(&Sha256::digest(&content))]),
            ],
            content: octets(&content),
            signature_algorithm: algorithm(RSA_ENCRYPTION, NULL),
            signature: octets(&SIGNATURE),
            unsigned_attributes: Vec::new(),
            signer_infos: 1,
        }
    }

    /// With another content, and its digest.
    fn with_content(mut self, content: &[u8]) -> Self {
        self.attributes[3] = attribute(MESSAGE_DIGEST, &[&octets(&Sha256::digest(content))]);
        self.content = octets(content);
        self
    }

    fn to_der(&self) -> Vec<u8> {
        let signer_info = sequence(&[
            &self.signer_version,
            &self.sid,
            &self.digest_algorithm,
            &tagged(self.attributes_tag, &[&self.attributes.concat()]),
            &self.signature_algorithm,
            &self.signature,
            &self.unsigned_attributes,
        ]);
        let content = match self.content[..] {
            [] => Vec::new(),
            _ => tagged(0, &[&self.content]),
        };
        let signed_data = sequence(&[
            &self.version,
            &self.digest_algorithms,
            &sequence(&[&self.content_type, &content]),
            &self.certificates,
            &self.crls,
            &set(&[&signer_info.repeat(self.signer_infos)]),
        ]);
        sequence(&[&self.content_info_type, &tagged(0, &[&signed_data])])
    }
}

#[test]
fn the_token_is_the_structure_of_the_profile() {
    let pieces = Pieces::good();
    let draft = KeyTokenDraft::new(&enveloped(), &header(), &nonce(), &kdh(), CRL).unwrap();
    assert_eq!(draft.to_be_signed(), set(&[&pieces.attributes.concat()]));
    assert_eq!(draft.into_token(&SIGNATURE).unwrap(), pieces.to_der());
}

#[test]
fn a_token_is_read_as_it_was_made() {
    let token = KeyToken::parse(&key_token()).unwrap();
    assert_eq!(token.signer(), &kdh());
    assert_eq!(
        token.signed_bytes(),
        set(&[&Pieces::good().attributes.concat()])
    );
    assert_eq!(token.signature(), SIGNATURE);
    assert_eq!(token.nonce(), &nonce());
    assert_eq!(token.header(), &header());
    assert_eq!(token.crl(), CRL);
    assert_eq!(token.enveloped(), &enveloped());
}

/// A good token with one thing changed.
type Case = (&'static str, fn(&mut Pieces), Expect);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_departure_from_the_signed_data_is_refused() {
    let cases: &[Case] = &[
        (
            "ContentInfo of another type",
            |p| p.content_info_type = oid(ENVELOPED_DATA),
            content_type("ContentInfo", ENVELOPED_DATA),
        ),
        (
            "SignedData v1, as printed",
            |p| p.version = integer(1),
            version("SignedData", 1),
        ),
        (
            "SignedData v4",
            |p| p.version = integer(4),
            version("SignedData", 4),
        ),
        ("no version", |p| p.version.clear(), Expect::Der),
        (
            "version in two bytes",
            |p| p.version = vec![2, 2, 0, 3],
            Expect::Der,
        ),
        (
            "no digest algorithm",
            |p| p.digest_algorithms = set(&[]),
            not_one("digestAlgorithms", 0),
        ),
        (
            "two digest algorithms",
            |p| p.digest_algorithms = set(&[&algorithm(SHA_256, &[]).repeat(2)]),
            not_one("digestAlgorithms", 2),
        ),
        (
            "another digest",
            |p| p.digest_algorithms = set(&[&algorithm(SHA_384, &[])]),
            wrong_algorithm("digestAlgorithms"),
        ),
        (
            "digest with parameters",
            |p| p.digest_algorithms = set(&[&algorithm(SHA_256, NULL)]),
            wrong_algorithm("digestAlgorithms"),
        ),
        (
            "content of another type",
            |p| p.content_type = oid(DATA),
            content_type("encapContentInfo", DATA),
        ),
        ("no content", |p| p.content.clear(), Expect::Der),
        (
            "content bare, not in an OCTET STRING",
            |p| p.content = enveloped().to_der(),
            Expect::Der,
        ),
        (
            "the KDH's certificate",
            |p| p.certificates = tagged(0, &[CERTIFICATE]),
            Rule::Unexpected {
                field: "certificates",
            }
            .into(),
        ),
        (
            "an empty set of certificates",
            |p| p.certificates = tagged(0, &[]),
            Rule::Unexpected {
                field: "certificates",
            }
            .into(),
        ),
        ("no CRL", |p| p.crls.clear(), not_one("crls", 0)),
        (
            "an empty set of CRLs",
            |p| p.crls = tagged(1, &[]),
            not_one("crls", 0),
        ),
        (
            "two CRLs",
            |p| p.crls = tagged(1, &[CRL, CRL]),
            not_one("crls", 2),
        ),
        (
            "a certificate for a CRL",
            |p| p.crls = tagged(1, &[CERTIFICATE]),
            Expect::Der,
        ),
        (
            "revocation data of another kind",
            |p| p.crls = tagged(1, &[&tagged(1, &[CRL])]),
            Expect::Der,
        ),
        (
            "an unknown field",
            |p| p.crls.extend(tagged(2, &[NULL])),
            Expect::Der,
        ),
        (
            "no signer",
            |p| p.signer_infos = 0,
            not_one("signerInfos", 0),
        ),
        (
            "two signers",
            |p| p.signer_infos = 2,
            not_one("signerInfos", 2),
        ),
    ];
    assert_each_refused(cases);
}

#[test]
fn each_departure_from_the_signer_info_is_refused() {
    let cases: &[Case] = &[
        (
            "SignerInfo v3",
            |p| p.signer_version = integer(3),
            version("SignerInfo", 3),
        ),
        (
            "signer by key identifier",
            |p| p.sid = context(0, false, &[&[7; 20]]),
            Expect::Der,
        ),
        (
            "signer's serial zero",
            |p| p.sid = sequence(&[&name("CA"), &integer(0)]),
            Rule::SerialNumber.into(),
        ),
        (
            "signer's issuer empty",
            |p| p.sid = sequence(&[&sequence(&[]), &integer(1)]),
            length("issuer", 0),
        ),
        (
            "another digest",
            |p| p.digest_algorithm = algorithm(SHA_1, &[]),
            wrong_algorithm("digestAlgorithm"),
        ),
        (
            "digest with parameters",
            |p| p.digest_algorithm = algorithm(SHA_256, NULL),
            wrong_algorithm("digestAlgorithm"),
        ),
        (
            "signature algorithm with its digest",
            |p| p.signature_algorithm = algorithm("1.2.840.113549.1.1.11", NULL),
            wrong_algorithm("signatureAlgorithm"),
        ),
        (
            "signature algorithm PSS",
            |p| p.signature_algorithm = algorithm("1.2.840.113549.1.1.10", &sequence(&[])),
            wrong_algorithm("signatureAlgorithm"),
        ),
        (
            "signature algorithm without NULL",
            |p| p.signature_algorithm = algorithm(RSA_ENCRYPTION, &[]),
            wrong_algorithm("signatureAlgorithm"),
        ),
        ("no signature", |p| p.signature.clear(), Expect::Der),
        (
            "empty signature",
            |p| p.signature = octets(&[]),
            length("signature", 0),
        ),
        (
            "signature of RSA-1024",
            |p| p.signature = octets(&[1; 128]),
            length("signature", 128),
        ),
        (
            "signature of RSA-8192",
            |p| p.signature = octets(&[1; 1024]),
            length("signature", 1024),
        ),
        (
            "unsigned attributes",
            |p| p.unsigned_attributes = tagged(1, &[&attribute(DATA, &[NULL])]),
            Expect::Der,
        ),
        (
            "signed attributes under another tag",
            |p| p.attributes_tag = 1,
            Expect::Der,
        ),
    ];
    assert_each_refused(cases);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_departure_from_the_signed_attributes_is_refused() {
    let cases: &[Case] = &[
        (
            "no attributes",
            |p| p.attributes.clear(),
            not_one("contentType", 0),
        ),
        (
            "no contentType",
            |p| drop(p.attributes.remove(0)),
            not_one("contentType", 0),
        ),
        (
            "no header",
            |p| drop(p.attributes.remove(1)),
            not_one("key block header", 0),
        ),
        (
            "no nonce",
            |p| drop(p.attributes.remove(2)),
            not_one("randomNonce", 0),
        ),
        (
            "no messageDigest",
            |p| drop(p.attributes.remove(3)),
            not_one("messageDigest", 0),
        ),
        (
            "the nonce twice",
            |p| p.attributes.insert(2, p.attributes[2].clone()),
            not_one("randomNonce", 2),
        ),
        (
            "two headers",
            |p| {
                p.attributes
                    .insert(1, attribute(DATA, &[&octets(b"A0256K0TB00E0000")]));
            },
            not_one("key block header", 2),
        ),
        (
            "two values of the nonce",
            |p| p.attributes[2] = attribute(RANDOM_NONCE, &[&octets(&NONCE), &octets(&NONCE)]),
            // Longer than the digest's attribute now.
            Rule::AttributesUnsorted.into(),
        ),
        (
            "two values of the digest",
            |p| {
                p.attributes[3] =
                    attribute(MESSAGE_DIGEST, &[&octets(&[1; 32]), &octets(&[2; 32])]);
            },
            not_one("messageDigest", 2),
        ),
        (
            "no value of the content type",
            |p| p.attributes[0] = attribute(CONTENT_TYPE, &[]),
            not_one("contentType", 0),
        ),
        (
            "signingTime beside the nonce",
            |p| {
                p.attributes
                    .insert(1, attribute(SIGNING_TIME, &[b"\x17\x0D260101000000Z"]));
            },
            unknown_attribute(SIGNING_TIME),
        ),
        (
            "signingTime in the nonce's place, as in a one-pass token",
            |p| {
                p.attributes.remove(2);
                p.attributes
                    .insert(1, attribute(SIGNING_TIME, &[b"\x17\x0D260101000000Z"]));
            },
            unknown_attribute(SIGNING_TIME),
        ),
        (
            "nonce before header, as printed",
            |p| p.attributes.swap(1, 2),
            Rule::AttributesUnsorted.into(),
        ),
        (
            "digest first",
            |p| p.attributes.rotate_right(1),
            Rule::AttributesUnsorted.into(),
        ),
        (
            "contentType of another content",
            |p| p.attributes[0] = attribute(CONTENT_TYPE, &[&oid(DATA)]),
            content_type("contentType", DATA),
        ),
        (
            "contentType not an OID",
            |p| p.attributes[0] = attribute(CONTENT_TYPE, &[&octets(&[1; 9])]),
            Expect::Der,
        ),
        (
            "nonce of 8 bytes",
            |p| {
                p.attributes[2] = attribute(RANDOM_NONCE, &[&octets(&[1; 8])]);
                p.attributes.swap(1, 2);
            },
            length("randomNonce", 8),
        ),
        (
            "nonce of 17 bytes",
            |p| p.attributes[2] = attribute(RANDOM_NONCE, &[&octets(&[1; 17])]),
            length("randomNonce", 17),
        ),
        (
            "nonce not an OCTET STRING",
            |p| {
                p.attributes[2] =
                    attribute(RANDOM_NONCE, &[&element(der::Tag::Utf8String, &[&NONCE])]);
            },
            Expect::Der,
        ),
        (
            "header with an unknown algorithm",
            |p| p.attributes[1] = attribute(DATA, &[&octets(b"D0000K0ZB00E0000")]),
            Rule::Header(KbhError::UnknownValue(KbhField::Algorithm)).into(),
        ),
        (
            "header too short",
            |p| p.attributes[1] = attribute(DATA, &[&octets(b"D0000K0AB00E000")]),
            Rule::Header(KbhError::Length { found: 15 }).into(),
        ),
        (
            "digest of another algorithm",
            |p| p.attributes[3] = attribute(MESSAGE_DIGEST, &[&octets(&[1; 48])]),
            length("messageDigest", 48),
        ),
        (
            "digest of other bytes",
            |p| p.attributes[3] = attribute(MESSAGE_DIGEST, &[&octets(&[1; 32])]),
            Rule::DigestMismatch.into(),
        ),
        (
            "bytes that are no attribute",
            |p| p.attributes.push(integer(1)),
            // An INTEGER's tag sorts before a SEQUENCE's.
            Rule::AttributesUnsorted.into(),
        ),
        (
            "an attribute cut off",
            |p| p.attributes[3].truncate(20),
            Expect::Der,
        ),
    ];
    assert_each_refused(cases);
}

#[track_caller]
fn assert_each_refused(cases: &[Case]) {
    for (case, change, expected) in cases {
        let mut pieces = Pieces::good();
        change(&mut pieces);
        let result = KeyToken::parse(&pieces.to_der());
        assert_refused(case, result, TokenKind::KeyToken, expected);
    }
}

#[test]
fn the_content_is_one_enveloped_data_whose_digest_was_signed() {
    // Content that has its right digest is then read itself.
    let good = enveloped().to_der();
    let headerless = der::AnyRef::from_der(&good).unwrap().value();
    for (case, content) in [
        ("without its SEQUENCE header", headerless),
        ("with a byte behind it", &[&good, &[0u8][..]].concat()),
        ("empty", &[]),
    ] {
        let token = Pieces::good().with_content(content).to_der();
        let result = KeyToken::parse(&token);
        assert_refused(case, result, TokenKind::EnvelopedData, &Expect::Der);
    }

    let mut changed = Pieces::good();
    *changed.content.last_mut().unwrap() ^= 1;
    let result = KeyToken::parse(&changed.to_der());
    assert_refused(
        "ciphertext changed",
        result,
        TokenKind::KeyToken,
        &Rule::DigestMismatch.into(),
    );
}

#[test]
fn a_draft_takes_only_a_crl_and_a_signature_of_rsa_length() {
    let draft = |crl: &[u8]| KeyTokenDraft::new(&enveloped(), &header(), &nonce(), &kdh(), crl);
    for (case, crl) in [
        ("a certificate", CERTIFICATE),
        ("nothing", &[]),
        ("two CRLs", &[CRL, CRL].concat()),
        ("half a CRL", &CRL[..200]),
    ] {
        assert_refused(case, draft(crl), TokenKind::KeyToken, &Expect::Der);
    }
    for len in [0, 128, 255, 513] {
        let result = draft(CRL).unwrap().into_token(&vec![1; len]);
        assert_refused(
            "signature",
            result,
            TokenKind::KeyToken,
            &length("signature", len),
        );
    }
}

#[test]
fn a_token_has_a_size_limit() {
    let token = |revoked| {
        let crl = crl_with(revoked);
        let draft = KeyTokenDraft::new(&enveloped(), &header(), &nonce(), &kdh(), &crl).unwrap();
        draft.into_token(&SIGNATURE)
    };
    let long = token(2000).unwrap();
    assert_eq!(rebuilt(&KeyToken::parse(&long).unwrap()), long);
    let too_long = token(TOO_MANY_REVOKED);
    assert_refused("CRL", too_long, TokenKind::KeyToken, &Expect::TooLong);

    let padded = [long, vec![0; MAX_TOKEN_LEN]].concat();
    for (len, expected) in [
        (MAX_TOKEN_LEN, Expect::Der),
        (MAX_TOKEN_LEN + 1, Expect::TooLong),
    ] {
        let result = KeyToken::parse(&padded[..len]);
        assert_refused("padded", result, TokenKind::KeyToken, &expected);
    }
}

#[test]
fn the_longest_list_fits_beside_the_longest_keys_and_names() {
    let fits = |revoked: &usize| crl_with(*revoked).len() <= MAX_CRL_LEN;
    let revoked = (1..TOO_MANY_REVOKED).rev().find(fits).unwrap();
    // Distinguished names of this length are longer than any in use.
    let id = |byte| IssuerAndSerial::new(&name(&"N".repeat(1000)), &[byte; 20]).unwrap();
    let enveloped = EnvelopedKeyBlock::new(
        id(0x3B),
        OaepHash::Sha256,
        vec![0xE1; 512],
        ContentEncryption::Aes256Cbc([0x1F; 16]),
        vec![0xC1; 2048],
    )
    .unwrap();
    let crl = crl_with(revoked);
    let draft = KeyTokenDraft::new(&enveloped, &header(), &nonce(), &id(0x3C), &crl).unwrap();
    let token = draft.into_token(&[0x51; 512]).unwrap();
    assert!(token.len() + 256 < MAX_TOKEN_LEN, "{} bytes", token.len());
    assert!(crl_with(revoked + 1).len() > MAX_CRL_LEN);
}

/// What parses is what the builder makes of the values, so there is one encoding of each token.
fn rebuilt(token: &KeyToken) -> Vec<u8> {
    let draft = KeyTokenDraft::new(
        token.enveloped(),
        token.header(),
        token.nonce(),
        token.signer(),
        token.crl(),
    )
    .unwrap();
    assert_eq!(draft.to_be_signed(), token.signed_bytes());
    draft.into_token(token.signature()).unwrap()
}

#[test]
fn no_cut_extended_or_flipped_token_is_taken_for_another() {
    assert_reads_exactly(&key_token(), KeyToken::parse, rebuilt);
}

prop_compose! {
    fn any_identity()(
        common_name in "[ -~]{1,200}",
        first in 1u8..0x80,
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) -> IssuerAndSerial {
        IssuerAndSerial::new(&name(&common_name), &[&[first], &rest[..]].concat()).unwrap()
    }
}

prop_compose! {
    fn any_encryption()(
        cipher in prop::sample::select(&ContentCipher::ALL[..]),
        iv in any::<[u8; 16]>(),
    ) -> ContentEncryption {
        cipher.with_iv(&iv[..cipher.block_len()]).unwrap()
    }
}

proptest! {
    #[test]
    fn tokens_round_trip(
        recipient in any_identity(),
        kdh in any_identity(),
        sha256 in any::<bool>(),
        encrypted_key in prop::collection::vec(any::<u8>(), 256..=512),
        encryption in any_encryption(),
        ciphertext in prop::collection::vec(any::<[u8; 16]>(), 1..40),
        header in "[A-D][0-9]{4}(P0|K0|B1|D0)[AT][BDENX][0-9A-Z]{2}[ENS]0000",
        nonce in any::<[u8; 16]>(),
        signature in prop::collection::vec(any::<u8>(), 256..=512),
    ) {
        let enveloped = EnvelopedKeyBlock::new(
            recipient,
            if sha256 { OaepHash::Sha256 } else { OaepHash::Sha1 },
            encrypted_key,
            encryption,
            ciphertext.concat(),
        ).unwrap();
        let header: Kbh = header.parse().unwrap();
        let nonce = KrdNonce::from_bytes(nonce);
        let draft = KeyTokenDraft::new(&enveloped, &header, &nonce, &kdh, CRL).unwrap();
        let to_be_signed = draft.to_be_signed().to_vec();
        let token = KeyToken::parse(&draft.into_token(&signature).unwrap()).unwrap();

        prop_assert_eq!(token.signed_bytes(), to_be_signed);
        prop_assert_eq!(token.signature(), signature);
        prop_assert_eq!(token.enveloped(), &enveloped);
        prop_assert_eq!(token.header(), &header);
        prop_assert_eq!(token.nonce(), &nonce);
        prop_assert_eq!(token.signer(), &kdh);
        prop_assert_eq!(token.crl(), CRL);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(KeyToken::parse(&bytes).is_err());
    }
}
