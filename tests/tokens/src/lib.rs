//! Good tokens of every kind in every profile, for tests to start from, and how each is read and
//! written again.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

#[expect(missing_docs, reason = "names of the standards")]
pub mod der;
pub mod tree;

use std::fmt;

use tr34::{
    CaRebindToken, CaUnbindToken, ContentEncryption, EnvelopedKeyBlock, Freshness, IssuerAndSerial,
    Kbh, KdhCredentialToken, KdhRebindToken, KdhUnbindToken, KeyBlock, KeyBlockFrame, KeyToken,
    KrdCredentialToken, KrdNonce, MalformedToken, OaepHash, Profile, RandomToken, SignerPart,
    SigningTime, TokenDraft,
};

/// A KDH's certificate.
pub const CERTIFICATE: &[u8] = include_bytes!("../../../tr34/tests/data/kdh.cert.der");
/// The CRL of its CA.
pub const CRL: &[u8] = include_bytes!("../../../tr34/tests/data/ca-kdh.crl.der");
/// What stands where a signature is not looked at.
pub const SIGNATURE: [u8; 256] = [0x51; 256];
/// The key block header in all tokens.
pub const HEADER: &str = "D0000K0AB00E0000";
/// The nonce, where it is of full length; a shorter one is its beginning.
pub const NONCE: [u8; 16] = *b"sixteen bytes ok";
/// The key in all key blocks.
pub const KEY: [u8; 16] = [0xA5; 16];

/// What can be read by itself. The two ways of key tokens are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of TR-34")]
pub enum Kind {
    RandomToken,
    KrdCredential,
    KdhCredential,
    TwoPassKey,
    OnePassKey,
    KdhUnbind,
    KdhRebind,
    CaUnbind,
    CaRebind,
    Enveloped,
    KeyBlock,
    Identity,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::RandomToken,
        Self::KrdCredential,
        Self::KdhCredential,
        Self::TwoPassKey,
        Self::OnePassKey,
        Self::KdhUnbind,
        Self::KdhRebind,
        Self::CaUnbind,
        Self::CaRebind,
        Self::Enveloped,
        Self::KeyBlock,
        Self::Identity,
    ];

    /// For the names of tests and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RandomToken => "rt-krd",
            Self::KrdCredential => "ct-krd",
            Self::KdhCredential => "ct-kdh",
            Self::TwoPassKey => "kt-kdh-two-pass",
            Self::OnePassKey => "kt-kdh-one-pass",
            Self::KdhUnbind => "ubt-kdh",
            Self::KdhRebind => "rbt-kdh",
            Self::CaUnbind => "ubt-ca",
            Self::CaRebind => "rbt-ca",
            Self::Enveloped => "enveloped-data",
            Self::KeyBlock => "key-block",
            Self::Identity => "issuer-and-serial",
        }
    }

    /// Reads a token and writes what was read.
    ///
    /// # Errors
    /// It is not one of this kind and profile.
    pub fn read_and_write(self, profile: Profile, der: &[u8]) -> Result<Vec<u8>, MalformedToken> {
        match self {
            Self::RandomToken => RandomToken::parse(profile, der).map(|token| token.to_der()),
            Self::KrdCredential => {
                KrdCredentialToken::parse(profile, der).map(|token| token.to_der(profile))
            }
            Self::KdhCredential => {
                KdhCredentialToken::parse(profile, der).map(|token| token.to_der(profile))
            }
            Self::TwoPassKey | Self::OnePassKey => rewritten_key_token(profile, der),
            Self::KdhUnbind => {
                let token = KdhUnbindToken::parse(profile, der)?;
                let (by, crl) = (token.signed_by(), token.crl().unwrap_or_default());
                let now = token.signing_time().unwrap_or_else(now);
                signed_again(
                    KdhUnbindToken::draft(
                        profile,
                        token.krd(),
                        token.nonce(),
                        now,
                        by.signer(),
                        crl,
                    ),
                    by,
                )
            }
            Self::KdhRebind => {
                let token = KdhRebindToken::parse(profile, der)?;
                let (by, crl) = (token.signed_by(), token.crl().unwrap_or_default());
                let now = token.signing_time().unwrap_or_else(now);
                signed_again(
                    KdhRebindToken::draft(
                        profile,
                        token.krd(),
                        token.new_kdh_certificate(),
                        token.nonce(),
                        now,
                        by.signer(),
                        crl,
                    ),
                    by,
                )
            }
            Self::CaUnbind => {
                let token = CaUnbindToken::parse(profile, der)?;
                let by = token.signed_by();
                let now = token.signing_time().unwrap_or_else(now);
                signed_again(
                    CaUnbindToken::draft(profile, token.krd(), token.kdh(), now, by.signer()),
                    by,
                )
            }
            Self::CaRebind => {
                let token = CaRebindToken::parse(profile, der)?;
                let by = token.signed_by();
                signed_again(
                    CaRebindToken::draft(
                        profile,
                        token.krd(),
                        token.kdh(),
                        token.new_kdh_certificate(),
                        token.signing_time(),
                        by.signer(),
                    ),
                    by,
                )
            }
            Self::Enveloped => EnvelopedKeyBlock::parse(profile, der)?.to_der(profile),
            Self::KeyBlock => KeyBlock::parse(profile, der).map(|block| {
                let key = block.expose_clear();
                let frame = KeyBlockFrame::new(profile, block.kdh(), block.header(), key.len());
                [frame.prefix(), key, frame.suffix()].concat()
            }),
            Self::Identity => IssuerAndSerial::parse(der).map(|identity| identity.to_der()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn rewritten_key_token(profile: Profile, der: &[u8]) -> Result<Vec<u8>, MalformedToken> {
    let token = KeyToken::parse(profile, der)?;
    let draft = KeyToken::draft(
        profile,
        token.enveloped(),
        token.header(),
        token.freshness(),
        token.signing_time().unwrap_or_else(now),
        token.signed_by().signer(),
        token.crl().unwrap_or_default(),
    );
    signed_again(draft, token.signed_by())
}

fn signed_again(
    draft: Result<TokenDraft, MalformedToken>,
    by: &SignerPart,
) -> Result<Vec<u8>, MalformedToken> {
    draft?.into_token(by.signature())
}

/// Who makes the tokens.
pub struct Maker<'a> {
    /// The name of the signer's certificate.
    pub signer: IssuerAndSerial,
    /// Signs.
    pub sign: &'a dyn Fn(&[u8]) -> Vec<u8>,
}

impl Default for Maker<'_> {
    /// Somebody whose signatures are all [`SIGNATURE`].
    fn default() -> Self {
        Self {
            signer: kdh(),
            sign: &|_| SIGNATURE.to_vec(),
        }
    }
}

impl Maker<'_> {
    /// A good token, in whose place [`SIGNER`](Self::signer) stands as KDH and as CA.
    pub fn token(&self, kind: Kind, profile: Profile) -> Vec<u8> {
        let nonce = nonce(profile);
        let key_token = |freshness| {
            let enveloped = enveloped();
            KeyToken::draft(
                profile,
                &enveloped,
                &header(),
                &freshness,
                now(),
                &self.signer,
                CRL,
            )
        };
        let draft = match kind {
            Kind::RandomToken => return RandomToken::new(nonce).to_der(),
            Kind::KrdCredential => {
                return KrdCredentialToken::new(CERTIFICATE)
                    .unwrap()
                    .to_der(profile);
            }
            Kind::KdhCredential => {
                return KdhCredentialToken::new(CERTIFICATE, CRL)
                    .unwrap()
                    .to_der(profile);
            }
            Kind::Enveloped => return enveloped().to_der(profile).unwrap(),
            Kind::KeyBlock => {
                let frame = KeyBlockFrame::new(profile, &self.signer, &header(), KEY.len());
                return [frame.prefix(), &KEY, frame.suffix()].concat();
            }
            Kind::Identity => return self.signer.to_der(),
            Kind::TwoPassKey => key_token(Freshness::Nonce(nonce)),
            Kind::OnePassKey => key_token(Freshness::SigningTime(now())),
            Kind::KdhUnbind => {
                KdhUnbindToken::draft(profile, &krd(), &nonce, now(), &self.signer, CRL)
            }
            Kind::KdhRebind => KdhRebindToken::draft(
                profile,
                &krd(),
                CERTIFICATE,
                &nonce,
                now(),
                &self.signer,
                CRL,
            ),
            Kind::CaUnbind => CaUnbindToken::draft(profile, &krd(), &kdh(), now(), &self.signer),
            Kind::CaRebind => {
                CaRebindToken::draft(profile, &krd(), &kdh(), CERTIFICATE, now(), &self.signer)
            }
        };
        let draft = draft.unwrap();
        let signature = (self.sign)(draft.to_be_signed());
        draft.into_token(&signature).unwrap()
    }
}

/// The one with the nonce of all tokens.
pub fn nonce(profile: Profile) -> KrdNonce {
    KrdNonce::new(&NONCE[..profile.nonce_len()]).unwrap()
}

/// The one in all tokens.
pub fn header() -> Kbh {
    HEADER.parse().unwrap()
}

/// A KDH, not the one of [`CERTIFICATE`].
pub fn kdh() -> IssuerAndSerial {
    IssuerAndSerial::new(&der::name("CA KDH"), &[0x4D; 9]).unwrap()
}

/// The terminal that all tokens are for.
pub fn krd() -> IssuerAndSerial {
    IssuerAndSerial::new(&der::name("CA KRD"), &[0x3B; 9]).unwrap()
}

/// 2026-01-01.
pub fn now() -> SigningTime {
    SigningTime::from_unix_seconds(1_767_225_600).unwrap()
}

/// The content of all key tokens.
pub fn enveloped() -> EnvelopedKeyBlock {
    EnvelopedKeyBlock::new(
        krd(),
        OaepHash::Sha256,
        vec![0xE1; 256],
        ContentEncryption::Aes128Cbc([0x1F; 16]),
        vec![0xC1; 144],
    )
    .unwrap()
}
