//! A `SignedData` that nobody signed: a certificate, perhaps a CRL, perhaps a content. The credential
//! tokens are made of it, and a rebind token has one inside.

use der::Tag;

use crate::{
    MalformedToken, Rule, encode, oid,
    profile::CredentialCrl,
    read::{self, Element, Fields},
    signed::only_crl,
};

/// RFC 5652 5.1: certificates and CRLs only, no signers.
const VERSION: u8 = 1;

/// What such a `SignedData` has, or has to have.
#[derive(Clone, Copy)]
pub(crate) struct CredentialForm {
    /// Whether there is a content, be it empty.
    pub(crate) content: bool,
    pub(crate) crls: Crls,
}

/// The field for CRLs.
#[derive(Clone, Copy)]
pub(crate) enum Crls {
    /// Not there.
    None,
    /// There, and empty.
    Empty,
    /// One CRL.
    One(CredentialCrl),
}

/// Certificate, CRL and content, as received.
pub(crate) struct Credential<'a> {
    pub(crate) certificate: Vec<u8>,
    pub(crate) crl: Option<Vec<u8>>,
    pub(crate) content: Option<Element<'a>>,
}

/// The fields, one behind the other.
pub(crate) fn encode(
    form: CredentialForm,
    content: &[u8],
    certificate: &[u8],
    crl: &[u8],
) -> Vec<u8> {
    let info = if form.content {
        encode::content_info(oid::DATA, &encode::octet_string(content))
    } else {
        encode::sequence(&[&encode::object_identifier(oid::DATA)])
    };
    let crls = encode::element(encode::CONTEXT_1, &[crl]);
    let signers = encode::set(&[]);
    let (before, behind): (&[u8], &[u8]) = match form.crls {
        Crls::None => (&[], &[]),
        Crls::Empty | Crls::One(CredentialCrl::BeforeSigners) => (&crls, &[]),
        Crls::One(CredentialCrl::AfterSigners) => (&[], &crls),
    };
    [
        &encode::version(VERSION)[..],
        &encode::set(&[]),
        &info,
        &encode::element(encode::CONTEXT_0, &[certificate]),
        before,
        &signers,
        behind,
    ]
    .concat()
}

/// Reads all fields.
///
/// # Errors
/// They are not those of this form: no digests, no signers, exactly one certificate.
pub(crate) fn read(
    form: CredentialForm,
    mut fields: Fields<'_>,
) -> Result<Credential<'_>, MalformedToken> {
    fields.version(VERSION)?;
    expect_empty(&mut fields, "digestAlgorithms")?;
    let mut info = fields.sequence("encapContentInfo")?;
    info.content_type("encapContentInfo", oid::DATA)?;
    let content = if form.content {
        Some(info.explicit("eContent", 0, Tag::OctetString)?)
    } else {
        None
    };
    info.end()?;
    let certificates = fields.next("certificates", read::context(0))?;
    let certificate = certificates.fields().only()?.certificate()?;
    let mut crl = None;
    match form.crls {
        Crls::None | Crls::One(CredentialCrl::AfterSigners) => {}
        Crls::Empty => fields.next("crls", read::context(1))?.fields().end()?,
        Crls::One(CredentialCrl::BeforeSigners) => crl = Some(only_crl(&mut fields)?),
    }
    expect_empty(&mut fields, "signerInfos")?;
    if let Crls::One(CredentialCrl::AfterSigners) = form.crls {
        crl = Some(only_crl(&mut fields)?);
    }
    fields.end()?;
    Ok(Credential {
        certificate,
        crl,
        content,
    })
}

fn expect_empty(fields: &mut Fields<'_>, field: &'static str) -> Result<(), MalformedToken> {
    let set = fields.next(field, Tag::Set)?;
    if !set.content().is_empty() {
        return Err(set.refused(Rule::Unexpected { field }));
    }
    Ok(())
}
