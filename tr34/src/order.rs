//! Unbind and rebind tokens: orders to a terminal about the KDH that it is bound to. `UBT_KDH` and
//! `RBT_KDH` come from that KDH, `UBT_CA` and `RBT_CA` from the CA above the terminal when it is lost.

use der::Tag;

use crate::{
    IssuerAndSerial, KrdNonce, MalformedToken, Profile, Rule, SignerPart, SigningTime, TokenDraft,
    TokenKind,
    credential::{self, CredentialForm, Crls},
    credential_token::certificate,
    encode, oid,
    read::{Element, Fields},
    signed::{Signed, SignedForm},
    signed_attributes::{Purpose, SignedAttributes},
};

/// `UBT_KDH`, as in TR-34 B.14: the bound KDH lets a terminal go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdhUnbindToken {
    signed_by: SignerPart,
    nonce: KrdNonce,
    signing_time: Option<SigningTime>,
    crl: Option<Vec<u8>>,
    krd: IssuerAndSerial,
}

/// `RBT_KDH`, as in TR-34 B.11: the bound KDH hands a terminal over to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdhRebindToken {
    signed_by: SignerPart,
    nonce: KrdNonce,
    signing_time: Option<SigningTime>,
    crl: Option<Vec<u8>>,
    krd: IssuerAndSerial,
    new_kdh: Vec<u8>,
}

/// `UBT_CA`, as in TR-34 B.13: the higher authority takes a terminal from its KDH. Nothing in it keeps it
/// from being sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaUnbindToken {
    signed_by: SignerPart,
    signing_time: Option<SigningTime>,
    krd: IssuerAndSerial,
    kdh: IssuerAndSerial,
}

/// `RBT_CA`, as in TR-34 B.10: the higher authority gives a terminal to another KDH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaRebindToken {
    signed_by: SignerPart,
    signing_time: SigningTime,
    krd: IssuerAndSerial,
    kdh: IssuerAndSerial,
    new_kdh: Vec<u8>,
}

const fn form(kind: TokenKind, profile: Profile) -> SignedForm {
    let (content_type, purpose) = match kind {
        TokenKind::KdhRebind => (oid::SIGNED_DATA, Purpose::KdhOrder),
        TokenKind::CaUnbind => (oid::DATA, Purpose::CaOrder),
        TokenKind::CaRebind => (oid::SIGNED_DATA, Purpose::CaOrder),
        _ => (oid::DATA, Purpose::KdhOrder),
    };
    SignedForm {
        kind,
        content_type,
        purpose,
        profile,
    }
}

impl KdhUnbindToken {
    /// A token for the terminal `krd`, which sent `nonce`; `kdh` will sign, `crl_der` is the current CRL
    /// of its CA, left out where the profile has none. `now` is used where the profile has a signing
    /// time beside the nonce.
    ///
    /// # Errors
    /// `crl_der` is not one CRL, or the nonce has a length that the profile has not.
    pub fn draft(
        profile: Profile,
        krd: &IssuerAndSerial,
        nonce: &KrdNonce,
        now: SigningTime,
        kdh: &IssuerAndSerial,
        crl_der: &[u8],
    ) -> Result<TokenDraft, MalformedToken> {
        let kind = TokenKind::KdhUnbind;
        let attributes = kdh_attributes(kind, profile, nonce, now)?;
        TokenDraft::new(
            form(kind, profile),
            &krd.to_der(),
            &attributes,
            kdh,
            crl_der,
        )
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one such token of this profile: as for [`KeyToken`](crate::KeyToken), with the
    /// signed attributes contentType, nonce and messageDigest, and the terminal's name for content.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let signed = Signed::read(form(TokenKind::KdhUnbind, profile), der)?;
        let mut content = signed.content.fields();
        let krd = named(&mut content, "KRD")?;
        content.end()?;
        Ok(Self {
            krd,
            nonce: nonce(&signed)?,
            signing_time: signed.attributes.signing_time,
            signed_by: signed.by,
            crl: signed.crl,
        })
    }

    /// The signature.
    pub const fn signed_by(&self) -> &SignerPart {
        &self.signed_by
    }

    /// The signed nonce.
    pub const fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }

    /// When it was signed, in profiles where it says so.
    pub const fn signing_time(&self) -> Option<SigningTime> {
        self.signing_time
    }

    /// The CRL as received; `None` in profiles without one.
    pub fn crl(&self) -> Option<&[u8]> {
        self.crl.as_deref()
    }

    /// The terminal that is let go.
    pub const fn krd(&self) -> &IssuerAndSerial {
        &self.krd
    }
}

impl KdhRebindToken {
    /// A token that hands the terminal `krd`, which sent `nonce`, over to the KDH with this certificate;
    /// the rest as for [`KdhUnbindToken::draft`].
    ///
    /// # Errors
    /// As there; `new_kdh_der` is not one certificate, or is that of `kdh`.
    pub fn draft(
        profile: Profile,
        krd: &IssuerAndSerial,
        new_kdh_der: &[u8],
        nonce: &KrdNonce,
        now: SigningTime,
        kdh: &IssuerAndSerial,
        crl_der: &[u8],
    ) -> Result<TokenDraft, MalformedToken> {
        let kind = TokenKind::KdhRebind;
        let content = new_credential(kind, profile, &krd.to_der(), kdh, new_kdh_der)?;
        let attributes = kdh_attributes(kind, profile, nonce, now)?;
        TokenDraft::new(form(kind, profile), &content, &attributes, kdh, crl_der)
    }

    /// From DER.
    ///
    /// # Errors
    /// As for [`KdhUnbindToken::parse`]; the content is an unsigned `SignedData` with one certificate,
    /// which is not the signer's.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let kind = TokenKind::KdhRebind;
        let signed = Signed::read(form(kind, profile), der)?;
        let (mut named_in, new_kdh) = read_new_credential(kind, profile, signed.content)?;
        let krd = named(&mut named_in, "KRD")?;
        named_in.end()?;
        signed
            .content
            .check(other_than(signed.by.signer(), &new_kdh))?;
        Ok(Self {
            krd,
            new_kdh,
            nonce: nonce(&signed)?,
            signing_time: signed.attributes.signing_time,
            signed_by: signed.by,
            crl: signed.crl,
        })
    }

    /// The signature.
    pub const fn signed_by(&self) -> &SignerPart {
        &self.signed_by
    }

    /// The signed nonce.
    pub const fn nonce(&self) -> &KrdNonce {
        &self.nonce
    }

    /// When it was signed, in profiles where it says so.
    pub const fn signing_time(&self) -> Option<SigningTime> {
        self.signing_time
    }

    /// The CRL as received; `None` in profiles without one.
    pub fn crl(&self) -> Option<&[u8]> {
        self.crl.as_deref()
    }

    /// The terminal that is handed over.
    pub const fn krd(&self) -> &IssuerAndSerial {
        &self.krd
    }

    /// The certificate of the KDH that it is handed to, as received.
    pub fn new_kdh_certificate(&self) -> &[u8] {
        &self.new_kdh
    }
}

impl CaUnbindToken {
    /// A token that takes the terminal `krd` from `kdh`; `ca` names the certificate of the CA that will
    /// sign. `now` is used where the profile has a signing time.
    ///
    /// # Errors
    /// None at present: what can be refused is the signature, later.
    pub fn draft(
        profile: Profile,
        krd: &IssuerAndSerial,
        kdh: &IssuerAndSerial,
        now: SigningTime,
        ca: &IssuerAndSerial,
    ) -> Result<TokenDraft, MalformedToken> {
        let content = [krd.to_der(), kdh.to_der()].concat();
        let form = form(TokenKind::CaUnbind, profile);
        TokenDraft::new(form, &content, &ca_attributes(now), ca, &[])
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one such token of this profile: one signer, no CRL, and for content the names of
    /// terminal and KDH, one behind the other.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let signed = Signed::read(form(TokenKind::CaUnbind, profile), der)?;
        let mut content = signed.content.fields();
        let (krd, kdh) = pair(&mut content)?;
        content.end()?;
        Ok(Self {
            signing_time: signed.attributes.signing_time,
            signed_by: signed.by,
            krd,
            kdh,
        })
    }

    /// The signature.
    pub const fn signed_by(&self) -> &SignerPart {
        &self.signed_by
    }

    /// When it was signed, in profiles where it says so.
    pub const fn signing_time(&self) -> Option<SigningTime> {
        self.signing_time
    }

    /// The terminal.
    pub const fn krd(&self) -> &IssuerAndSerial {
        &self.krd
    }

    /// The KDH that it is taken from.
    pub const fn kdh(&self) -> &IssuerAndSerial {
        &self.kdh
    }
}

impl CaRebindToken {
    /// A token that gives the terminal `krd`, bound to `kdh`, to the KDH with this certificate; `ca`
    /// names the certificate of the CA that will sign.
    ///
    /// # Errors
    /// `new_kdh_der` is not one certificate, or is that of `kdh`.
    pub fn draft(
        profile: Profile,
        krd: &IssuerAndSerial,
        kdh: &IssuerAndSerial,
        new_kdh_der: &[u8],
        now: SigningTime,
        ca: &IssuerAndSerial,
    ) -> Result<TokenDraft, MalformedToken> {
        let kind = TokenKind::CaRebind;
        let names = [krd.to_der(), kdh.to_der()].concat();
        let content = new_credential(kind, profile, &names, kdh, new_kdh_der)?;
        TokenDraft::new(form(kind, profile), &content, &ca_attributes(now), ca, &[])
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one such token of this profile: one signer, no CRL, the signed attributes
    /// contentType, signingTime and messageDigest, and for content an unsigned `SignedData` with one
    /// certificate, which is not that of the KDH that is named.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let kind = TokenKind::CaRebind;
        let signed = Signed::read(form(kind, profile), der)?;
        let (mut named_in, new_kdh) = read_new_credential(kind, profile, signed.content)?;
        let (krd, kdh) = pair(&mut named_in)?;
        named_in.end()?;
        signed.content.check(other_than(&kdh, &new_kdh))?;
        let signing_time = signed.attributes.signing_time;
        Ok(Self {
            signing_time: signing_time.ok_or_else(|| signed.not_one("signingTime", 0))?,
            signed_by: signed.by,
            krd,
            kdh,
            new_kdh,
        })
    }

    /// The signature.
    pub const fn signed_by(&self) -> &SignerPart {
        &self.signed_by
    }

    /// When it was signed.
    pub const fn signing_time(&self) -> SigningTime {
        self.signing_time
    }

    /// The terminal.
    pub const fn krd(&self) -> &IssuerAndSerial {
        &self.krd
    }

    /// The KDH that it is taken from.
    pub const fn kdh(&self) -> &IssuerAndSerial {
        &self.kdh
    }

    /// The certificate of the KDH that it is given to, as received.
    pub fn new_kdh_certificate(&self) -> &[u8] {
        &self.new_kdh
    }
}

fn kdh_attributes(
    kind: TokenKind,
    profile: Profile,
    nonce: &KrdNonce,
    now: SigningTime,
) -> Result<SignedAttributes, MalformedToken> {
    nonce.check(profile).map_err(kind.breaks())?;
    Ok(SignedAttributes {
        header: None,
        nonce: Some(nonce.clone()),
        signing_time: profile.layout().always_signing_time.then_some(now),
    })
}

const fn ca_attributes(now: SigningTime) -> SignedAttributes {
    SignedAttributes {
        header: None,
        nonce: None,
        signing_time: Some(now),
    }
}

/// The nonce, without which [`Signed::read`] has refused the token already.
fn nonce(signed: &Signed<'_>) -> Result<KrdNonce, MalformedToken> {
    let nonce = signed.attributes.nonce.clone();
    nonce.ok_or_else(|| signed.not_one("randomNonce", 0))
}

fn named(fields: &mut Fields<'_>, field: &'static str) -> Result<IssuerAndSerial, MalformedToken> {
    IssuerAndSerial::read(fields.next(field, Tag::Sequence)?)
}

/// Terminal and KDH, side by side.
fn pair(fields: &mut Fields<'_>) -> Result<(IssuerAndSerial, IssuerAndSerial), MalformedToken> {
    Ok((named(fields, "KRD")?, named(fields, "KDH")?))
}

const fn new_credential_form(profile: Profile) -> CredentialForm {
    CredentialForm {
        content: true,
        crls: if profile.layout().new_credential_crls {
            Crls::Empty
        } else {
            Crls::None
        },
    }
}

/// The new KDH's credential, with those that it is for, as the content of a rebind token.
fn new_credential(
    kind: TokenKind,
    profile: Profile,
    names: &[u8],
    kdh: &IssuerAndSerial,
    new_kdh_der: &[u8],
) -> Result<Vec<u8>, MalformedToken> {
    let new_kdh = certificate(kind, new_kdh_der)?;
    other_than(kdh, &new_kdh).map_err(kind.breaks())?;
    let fields = credential::encode(new_credential_form(profile), names, &new_kdh, &[]);
    Ok(encode::embedded(
        profile.layout().new_credential,
        &[&fields],
    ))
}

/// The fields of the content inside, and the certificate.
fn read_new_credential(
    kind: TokenKind,
    profile: Profile,
    content: Element<'_>,
) -> Result<(Fields<'_>, Vec<u8>), MalformedToken> {
    let embedding = profile.layout().new_credential;
    let fields = Fields::embedded(kind, embedding, "SignedData", content)?;
    let credential = credential::read(new_credential_form(profile), fields)?;
    match credential.content {
        Some(names) => Ok((names.fields(), credential.certificate)),
        None => Err(content.refused(Rule::Missing { field: "eContent" })),
    }
}

/// The new KDH's certificate has to be somebody else's.
fn other_than(kdh: &IssuerAndSerial, new_kdh: &[u8]) -> Result<(), Rule> {
    match IssuerAndSerial::of_certificate(new_kdh) {
        Ok(new) if new == *kdh => Err(Rule::SameKdh),
        Ok(_) => Ok(()),
        Err(error) => Err(error.rule),
    }
}
