//! `KT_KDH`: an [`EnvelopedKeyBlock`], signed by the KDH together with the key's header and the
//! terminal's nonce (two-pass) or the time (one-pass).

use crate::{
    EnvelopedKeyBlock, Freshness, IssuerAndSerial, Kbh, MalformedToken, Profile, SignerPart,
    SigningTime, TokenDraft, TokenKind, oid,
    signed::{Signed, SignedForm},
    signed_attributes::{Purpose, SignedAttributes},
};

/// A key token that was read. Everything about it is checked except its signature, its CRL and
/// whether its signer, recipient and freshness are the right ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyToken {
    signed_by: SignerPart,
    freshness: Freshness,
    signing_time: Option<SigningTime>,
    header: Kbh,
    crl: Option<Vec<u8>>,
    enveloped: EnvelopedKeyBlock,
}

const fn form(profile: Profile) -> SignedForm {
    SignedForm {
        kind: TokenKind::KeyToken,
        content_type: oid::ENVELOPED_DATA,
        purpose: Purpose::Key,
        profile,
    }
}

impl KeyToken {
    /// A token for the terminal that `enveloped` names; `header` is the one inside the encrypted block,
    /// `kdh` whose key will sign, `crl_der` the current CRL of its CA, left out where the profile has
    /// none. `now` is used where the profile has a signing time beside the nonce.
    ///
    /// # Errors
    /// `crl_der` is not one CRL, or the nonce has a length, or RSAES-OAEP a hash, that the profile has
    /// not.
    pub fn draft(
        profile: Profile,
        enveloped: &EnvelopedKeyBlock,
        header: &Kbh,
        freshness: &Freshness,
        now: SigningTime,
        kdh: &IssuerAndSerial,
        crl_der: &[u8],
    ) -> Result<TokenDraft, MalformedToken> {
        let beside = profile.layout().always_signing_time.then_some(now);
        let (nonce, signing_time) = match freshness {
            Freshness::Nonce(nonce) => (Some(nonce.clone()), beside),
            Freshness::SigningTime(time) => (None, Some(*time)),
        };
        if let Some(nonce) = &nonce {
            nonce.check(profile).map_err(TokenKind::KeyToken.breaks())?;
        }
        let attributes = SignedAttributes {
            header: Some(header.clone()),
            nonce,
            signing_time,
        };
        let content = enveloped.to_content(profile)?;
        TokenDraft::new(form(profile), &content, &attributes, kdh, crl_der)
    }

    /// From DER.
    ///
    /// # Errors
    /// The bytes are not one key token of this profile (RFC 5652 5): one signer, one CRL if the profile
    /// has one, no certificates; the signed attributes contentType, header, nonce or signing time, and
    /// messageDigest, each once, in the profile's order; a messageDigest that is the SHA-256 of the
    /// content as received; the content as [`EnvelopedKeyBlock::parse`] takes it.
    pub fn parse(profile: Profile, der: &[u8]) -> Result<Self, MalformedToken> {
        let signed = Signed::read(form(profile), der)?;
        let SignedAttributes {
            header,
            nonce,
            signing_time,
        } = signed.attributes.clone();
        let header = header.ok_or_else(|| signed.not_one("key block header", 0))?;
        let beside = profile.layout().always_signing_time;
        // A token says in one way how fresh it is.
        let not_one = |found| Err(signed.not_one("randomNonce or signingTime", found));
        let freshness = match (nonce, signing_time) {
            (Some(nonce), None) => Freshness::Nonce(nonce),
            (Some(nonce), Some(_)) if beside => Freshness::Nonce(nonce),
            (None, Some(time)) => Freshness::SigningTime(time),
            (None, None) => return not_one(0),
            (Some(_), Some(_)) => return not_one(2),
        };
        Ok(Self {
            freshness,
            signing_time,
            header,
            crl: signed.crl,
            enveloped: EnvelopedKeyBlock::of_content(profile, signed.content)?,
            signed_by: signed.by,
        })
    }

    /// The signature.
    pub const fn signed_by(&self) -> &SignerPart {
        &self.signed_by
    }

    /// The signed nonce, or the time.
    pub const fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// When it was signed, if it says so: always in one pass, in two passes where the profile has it.
    pub const fn signing_time(&self) -> Option<SigningTime> {
        self.signing_time
    }

    /// The signed header.
    pub const fn header(&self) -> &Kbh {
        &self.header
    }

    /// The CRL as received; `None` in profiles without one.
    pub fn crl(&self) -> Option<&[u8]> {
        self.crl.as_deref()
    }

    /// The encrypted key block.
    pub const fn enveloped(&self) -> &EnvelopedKeyBlock {
        &self.enveloped
    }
}
