//! `CT_KRD` and `CT_KDH`: a certificate, and for the KDH the CRL of its CA, in an unsigned
//! `SignedData`. What makes a credential trustworthy is its chain, not its token.

use crate::{
    MalformedToken, Profile, Rule, TokenKind,
    credential::{self, Credential, CredentialForm, Crls},
    encode, expect, oid,
    read::Fields,
    signed::signed_data,
};

/// `CT_KRD`, as in TR-34 B.7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrdCredentialToken {
    certificate: Vec<u8>,
}

const fn krd_form(profile: Profile) -> CredentialForm {
    CredentialForm {
        content: profile.layout().credential_content,
        crls: Crls::None,
    }
}

const fn kdh_form(profile: Profile) -> CredentialForm {
    CredentialForm {
        content: profile.layout().credential_content,
        crls: Crls::One(profile.layout().credential_crl),
    }
}

impl KrdCredentialToken {
    /// The token that carries this certificate, given in DER.
    ///
    /// # Errors
    /// The bytes are not one certificate, or too many for a token.
    pub fn new(certificate_der: &[u8]) -> Result<Self, MalformedToken> {
        let kind = TokenKind::KrdCredential;
        let token = Self {
            certificate: certificate(kind, certificate_der)?,
        };
        expect_len(kind, &token.certificate, &[])?;
        Ok(token)
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one `SignedData` with exactly one certificate and nothing else in it.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let credential = read(TokenKind::KrdCredential, krd_form(profile), der)?;
        Ok(Self {
            certificate: credential.certificate,
        })
    }

    /// To DER.
    pub fn to_der(&self, profile: Profile) -> Vec<u8> {
        to_der(krd_form(profile), &self.certificate, &[])
    }

    /// The KRD's certificate as received.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

/// `CT_KDH`: TR-34 B.6, in the default profile with its fields in the order that CMS gives them.
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
        let kind = TokenKind::KdhCredential;
        let token = Self {
            certificate: certificate(kind, certificate_der)?,
            crl: crl(kind, crl_der)?,
        };
        expect_len(kind, &token.certificate, &token.crl)?;
        Ok(token)
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one `SignedData` with exactly one certificate, one CRL and nothing else in
    /// it.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let kind = TokenKind::KdhCredential;
        let credential = read(kind, kdh_form(profile), der)?;
        Ok(Self {
            certificate: credential.certificate,
            crl: credential.crl.ok_or_else(|| kind.breaks()(NO_CRL))?,
        })
    }

    /// To DER.
    pub fn to_der(&self, profile: Profile) -> Vec<u8> {
        to_der(kdh_form(profile), &self.certificate, &self.crl)
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

const NO_CRL: Rule = Rule::NotExactlyOne {
    field: "crls",
    found: 0,
};

/// The bytes of a certificate that a token shall carry.
pub(crate) fn certificate(kind: TokenKind, der: &[u8]) -> Result<Vec<u8>, MalformedToken> {
    Fields::of_token(kind, der, |fields| fields.any("certificate")?.certificate())
        .map_err(MalformedToken::of_part)
}

/// The bytes of a CRL that a token shall carry.
pub(crate) fn crl(kind: TokenKind, der: &[u8]) -> Result<Vec<u8>, MalformedToken> {
    Fields::of_token(kind, der, |fields| fields.any("crl")?.crl()).map_err(MalformedToken::of_part)
}

/// Whether the token is not too long, in the profile where it is longest.
fn expect_len(kind: TokenKind, certificate: &[u8], crl: &[u8]) -> Result<(), MalformedToken> {
    let longest = to_der(kdh_form(Profile::X9_2019), certificate, crl);
    expect::token_len(&longest).map_err(kind.breaks())
}

fn read(
    kind: TokenKind,
    form: CredentialForm,
    der: &[u8],
) -> Result<Credential<'_>, MalformedToken> {
    Fields::of_token(kind, der, |fields| {
        let credential = credential::read(form, signed_data(fields)?)?;
        match credential.content {
            // RFC 5652 5.2 would leave the empty content out; the published samples have it.
            Some(content) if !content.content().is_empty() => {
                Err(content.refused(Rule::Unexpected { field: "eContent" }))
            }
            _ => Ok(credential),
        }
    })
}

fn to_der(form: CredentialForm, certificate: &[u8], crl: &[u8]) -> Vec<u8> {
    encode::content_info(
        oid::SIGNED_DATA,
        &encode::sequence(&[&credential::encode(form, &[], certificate, crl)]),
    )
}
