//! `CT_KRD` and `CT_KDH`.

use tr34::{KdhCredentialToken, KrdCredentialToken, MAX_TOKEN_LEN, Rule, TokenKind};

use crate::common::*;

/// A credential token in pieces, each the whole encoding of a field; an absent field is empty.
struct Pieces {
    content_info_type: Vec<u8>,
    version: Vec<u8>,
    digest_algorithms: Vec<u8>,
    encap_content_info: Vec<u8>,
    certificates: Vec<u8>,
    crls: Vec<u8>,
    signer_infos: Vec<u8>,
    behind: Vec<u8>,
}

impl Pieces {
    fn kdh() -> Self {
        Self {
            content_info_type: oid(SIGNED_DATA),
            version: integer(1),
            digest_algorithms: set(&[]),
            encap_content_info: sequence(&[&oid(DATA), &tagged(0, &[&octets(&[])])]),
            certificates: tagged(0, &[CERTIFICATE]),
            crls: tagged(1, &[CRL]),
            signer_infos: set(&[]),
            behind: Vec::new(),
        }
    }

    fn krd() -> Self {
        Self {
            crls: Vec::new(),
            ..Self::kdh()
        }
    }

    fn to_der(&self) -> Vec<u8> {
        let signed_data = sequence(&[
            &self.version,
            &self.digest_algorithms,
            &self.encap_content_info,
            &self.certificates,
            &self.crls,
            &self.signer_infos,
            &self.behind,
        ]);
        sequence(&[&self.content_info_type, &tagged(0, &[&signed_data])])
    }
}

#[test]
fn the_tokens_are_the_structures_of_the_profile() {
    let krd = KrdCredentialToken::new(CERTIFICATE).unwrap();
    assert_eq!(krd.to_der(), Pieces::krd().to_der());
    assert_eq!(KrdCredentialToken::parse(&krd.to_der()).unwrap(), krd);
    assert_eq!(krd.certificate(), CERTIFICATE);

    let kdh = KdhCredentialToken::new(CERTIFICATE, CRL).unwrap();
    assert_eq!(kdh.to_der(), Pieces::kdh().to_der());
    assert_eq!(KdhCredentialToken::parse(&kdh.to_der()).unwrap(), kdh);
    assert_eq!(kdh.certificate(), CERTIFICATE);
    assert_eq!(kdh.crl(), CRL);
}

type Case = (&'static str, fn(&mut Pieces), Expect);

fn unexpected(field: &'static str) -> Expect {
    Rule::Unexpected { field }.into()
}

/// What is wrong in either token.
#[test]
fn each_departure_from_a_credential_is_refused() {
    let cases: &[Case] = &[
        (
            "ContentInfo of another type",
            |p| p.content_info_type = oid(DATA),
            content_type("ContentInfo", DATA),
        ),
        (
            "version 3",
            |p| p.version = integer(3),
            version("SignedData", 3),
        ),
        (
            "version 0",
            |p| p.version = integer(0),
            version("SignedData", 0),
        ),
        (
            "a digest algorithm",
            |p| p.digest_algorithms = set(&[&algorithm(SHA_256, &[])]),
            unexpected("digestAlgorithms"),
        ),
        (
            "content of another type",
            |p| {
                p.encap_content_info = sequence(&[&oid(SIGNED_DATA), &tagged(0, &[&octets(&[])])]);
            },
            content_type("encapContentInfo", SIGNED_DATA),
        ),
        (
            "content not there at all",
            |p| p.encap_content_info = sequence(&[&oid(DATA)]),
            Expect::Der,
        ),
        (
            "content not empty",
            |p| p.encap_content_info = sequence(&[&oid(DATA), &tagged(0, &[&octets(b"x")])]),
            unexpected("eContent"),
        ),
        (
            "a signer",
            |p| p.signer_infos = set(&[&sequence(&[])]),
            unexpected("signerInfos"),
        ),
        ("no set of signers", |p| p.signer_infos.clear(), Expect::Der),
        (
            "no certificate",
            |p| p.certificates.clear(),
            not_one("certificates", 0),
        ),
        (
            "an empty set of certificates",
            |p| p.certificates = tagged(0, &[]),
            not_one("certificates", 0),
        ),
        (
            "two certificates",
            |p| p.certificates = tagged(0, &[CERTIFICATE, CERTIFICATE]),
            not_one("certificates", 2),
        ),
        (
            "a CRL for a certificate",
            |p| p.certificates = tagged(0, &[CRL]),
            Expect::Der,
        ),
        (
            "a certificate of another kind",
            |p| p.certificates = tagged(0, &[&tagged(1, &[CERTIFICATE])]),
            Expect::Der,
        ),
        (
            "certificates under a SET's own tag",
            |p| p.certificates = set(&[CERTIFICATE]),
            Expect::Der,
        ),
        (
            "an unknown field",
            |p| p.behind = tagged(2, &[NULL]),
            Expect::Der,
        ),
        (
            "certificates behind the signers",
            |p| p.behind = std::mem::take(&mut p.certificates),
            Expect::Der,
        ),
    ];
    for (case, change, expected) in cases {
        let mut krd = Pieces::krd();
        change(&mut krd);
        let result = KrdCredentialToken::parse(&krd.to_der());
        assert_refused(case, result, TokenKind::KrdCredential, expected);

        let mut kdh = Pieces::kdh();
        change(&mut kdh);
        let result = KdhCredentialToken::parse(&kdh.to_der());
        assert_refused(case, result, TokenKind::KdhCredential, expected);
    }
}

#[test]
fn a_crl_belongs_to_the_kdh_only() {
    for crls in [tagged(1, &[CRL]), tagged(1, &[])] {
        let krd = Pieces {
            crls,
            ..Pieces::krd()
        };
        let result = KrdCredentialToken::parse(&krd.to_der());
        assert_refused(
            "CT_KRD",
            result,
            TokenKind::KrdCredential,
            &unexpected("crls"),
        );
    }

    let cases: &[Case] = &[
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
            "CRL before the certificate",
            |p| std::mem::swap(&mut p.crls, &mut p.certificates),
            Expect::Der,
        ),
        (
            "CRL behind the signers, as printed",
            |p| p.behind = std::mem::take(&mut p.crls),
            Expect::Der,
        ),
    ];
    for (case, change, expected) in cases {
        let mut kdh = Pieces::kdh();
        change(&mut kdh);
        let result = KdhCredentialToken::parse(&kdh.to_der());
        assert_refused(case, result, TokenKind::KdhCredential, expected);
    }
}

#[test]
fn only_a_certificate_and_a_crl_make_a_token() {
    let longer = |der: &[u8]| [der, &[0]].concat();
    for certificate in [&[], CRL, &CERTIFICATE[..300], &longer(CERTIFICATE)] {
        let result = KrdCredentialToken::new(certificate);
        assert_refused(
            "certificate",
            result,
            TokenKind::KrdCredential,
            &Expect::Der,
        );
        let result = KdhCredentialToken::new(certificate, CRL);
        assert_refused(
            "certificate",
            result,
            TokenKind::KdhCredential,
            &Expect::Der,
        );
    }
    for crl in [&[], CERTIFICATE, &CRL[..300], &longer(CRL)] {
        let result = KdhCredentialToken::new(CERTIFICATE, crl);
        assert_refused("CRL", result, TokenKind::KdhCredential, &Expect::Der);
    }
}

#[test]
fn a_token_has_a_size_limit() {
    assert!(KdhCredentialToken::new(CERTIFICATE, &crl_with(2000)).is_ok());
    let result = KdhCredentialToken::new(CERTIFICATE, &crl_with(TOO_MANY_REVOKED));
    assert_refused("CRL", result, TokenKind::KdhCredential, &Expect::TooLong);

    let padded = vec![0x30; MAX_TOKEN_LEN + 1];
    let result = KrdCredentialToken::new(&padded);
    assert_refused("padded", result, TokenKind::KrdCredential, &Expect::TooLong);
    let result = KrdCredentialToken::parse(&padded);
    assert_refused("padded", result, TokenKind::KrdCredential, &Expect::TooLong);
    let result = KdhCredentialToken::parse(&padded);
    assert_refused("padded", result, TokenKind::KdhCredential, &Expect::TooLong);
}

#[test]
fn no_cut_extended_or_flipped_token_is_taken_for_another() {
    assert_reads_exactly(
        &Pieces::krd().to_der(),
        KrdCredentialToken::parse,
        KrdCredentialToken::to_der,
    );
    assert_reads_exactly(
        &Pieces::kdh().to_der(),
        KdhCredentialToken::parse,
        KdhCredentialToken::to_der,
    );
}
