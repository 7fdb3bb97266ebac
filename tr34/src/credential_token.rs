//! `CT_KRD` and `CT_KDH`: a certificate, and for the KDH the CRL of its CA, in an unsigned
//! `SignedData`. What makes a credential trustworthy is its chain, not its token.

use crate::{MalformedToken, Rule, TokenKind, encode, expect, oid, wire};

/// RFC 5652 5.1: certificates and CRLs only, no signers.
const VERSION: u8 = 1;

/// `CT_KRD`, as in TR-34 B.7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrdCredentialToken {
    certificate: Vec<u8>,
}

impl KrdCredentialToken {
    /// The token that carries this certificate, given in DER.
    ///
    /// # Errors
    /// The bytes are not one certificate, or too many for a token.
    pub fn new(certificate_der: &[u8]) -> Result<Self, MalformedToken> {
        let read = || {
            let token = Self {
                certificate: wire::certificate(certificate_der)?,
            };
            expect::token_len(&token.to_der())?;
            Ok(token)
        };
        read().map_err(TokenKind::KrdCredential.breaks())
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one `SignedData` with exactly one certificate and nothing else in it.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        let read = || {
            let fields = credential(der)?;
            if fields.crls.is_some() {
                return Err(Rule::Unexpected { field: "crls" });
            }
            Ok(Self {
                certificate: wire::only_certificate(&fields)?,
            })
        };
        read().map_err(TokenKind::KrdCredential.breaks())
    }

    /// To DER.
    pub fn to_der(&self) -> Vec<u8> {
        encode_credential(&self.certificate, None)
    }

    /// The KRD's certificate as received.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

/// `CT_KDH`: TR-34 B.6 with its fields in the order that CMS gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdhCredentialToken {
    certificate: Vec<u8>,
    crl: Vec<u8>,
}

impl KdhCredentialToken {
    /// The token that carries this certificate and this CRL, both given in DER.
    ///
    /// # Errors
    /// The bytes are not one certificate and one CRL, or too many for a token.
    pub fn new(certificate_der: &[u8], crl_der: &[u8]) -> Result<Self, MalformedToken> {
        let read = || {
            let token = Self {
                certificate: wire::certificate(certificate_der)?,
                crl: wire::crl(crl_der)?,
            };
            expect::token_len(&token.to_der())?;
            Ok(token)
        };
        read().map_err(TokenKind::KdhCredential.breaks())
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one `SignedData` with exactly one certificate, one CRL and nothing else in
    /// it.
    pub fn parse(der: &[u8]) -> Result<Self, MalformedToken> {
        let read = || {
            let fields = credential(der)?;
            Ok(Self {
                certificate: wire::only_certificate(&fields)?,
                crl: wire::only_crl(&fields)?,
            })
        };
        read().map_err(TokenKind::KdhCredential.breaks())
    }

    /// To DER.
    pub fn to_der(&self) -> Vec<u8> {
        encode_credential(&self.certificate, Some(&self.crl))
    }

    /// The KDH's certificate as received.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The CRL of the KDH's CA as received.
    pub fn crl(&self) -> &[u8] {
        &self.crl
    }
}

/// What both tokens have in common: no digests, no content, no signers.
///
/// RFC 5652 5.2 would leave the empty content out; the published samples have it.
fn credential(der: &[u8]) -> Result<wire::SignedData<'_>, Rule> {
    let fields = wire::signed_data(der, VERSION)?;
    let content = &fields.encap_content_info;
    expect::content_type("encapContentInfo", content.content_type, oid::DATA)?;
    let absent = [
        ("digestAlgorithms", fields.digest_algorithms.is_empty()),
        ("eContent", content.content.is_empty()),
        ("signerInfos", fields.signer_infos.is_empty()),
    ];
    match absent.iter().find(|(_, is_absent)| !is_absent) {
        Some((field, _)) => Err(Rule::Unexpected { field }),
        None => Ok(fields),
    }
}

fn encode_credential(certificate: &[u8], crl: Option<&[u8]>) -> Vec<u8> {
    let crls = crl.map(|crl| encode::element(encode::CONTEXT_1, &[crl]));
    encode::content_info(
        oid::SIGNED_DATA,
        &encode::sequence(&[
            &encode::version(VERSION),
            &encode::set(&[]),
            &encode::content_info(oid::DATA, &encode::octet_string(&[])),
            &encode::element(encode::CONTEXT_0, &[certificate]),
            &crls.unwrap_or_default(),
            &encode::set(&[]),
        ]),
    )
}
