//! The checks on a key token and on the key block in it. Pure functions: the terminal's state comes
//! in as an [`Expectation`], and what passed comes out as a value that only this module can make.

use hsm::{ClearKey, ExpectedKeyBlock, Kcv};
use pki::{Certificate, VerifiedCrl};
use tr34::{
    EnvelopedKeyBlock, Freshness, IssuerAndSerial, Kbh, KbhError, KeyBlock, KeyBlockFrame, KeyKind,
    KeyToken, KrdNonce, MalformedToken, OaepHash, Profile, SigningTime,
};

use crate::{AuthenticToken, Kdh, KdhRefusal, KdhTrust, SigningTimeBounds, SigningTimeRefusal};

/// Bytes of the keys that there are.
const KEY_LENS: [usize; 3] = [16, 24, 32];

/// What a key token has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// What the terminal knows of hosts.
    pub trust: KdhTrust<'a>,
    /// The certificate of the KDH that the terminal is bound to.
    pub kdh: &'a Certificate,
    /// By what it is known as fresh.
    pub freshness: ExpectedFreshness<'a>,
    /// How tokens name this terminal.
    pub own_id: &'a IssuerAndSerial,
    /// The hashes of RSA-OAEP that are accepted.
    pub oaep_hashes: &'a [OaepHash],
    /// The header that the host announced.
    pub header: &'a Kbh,
}

/// What keeps a key token from being taken twice.
#[derive(Clone, Copy, Debug)]
pub enum ExpectedFreshness<'a> {
    /// Two-pass: the nonce that was sent for it.
    Nonce(&'a KrdNonce),
    /// One-pass: a signing time within these bounds.
    SigningTime(SigningTimeBounds),
}

/// Why a key is not loaded. One variant for each check, in their order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadRefusal {
    /// The token does not parse.
    #[error("{0}")]
    Malformed(MalformedToken),
    /// The revocation list, or the KDH's certificate.
    #[error(transparent)]
    Kdh(#[from] KdhRefusal),
    /// The signature.
    #[error("the key token's signature does not verify")]
    Signature,
    /// The nonce.
    #[error("the key token answers another nonce than the one that was sent")]
    Nonce,
    /// A one-pass token where a nonce was sent.
    #[error("the key token answers no nonce")]
    OnePass,
    /// A two-pass token where none was asked for.
    #[error("the key token answers a nonce, and none was sent")]
    TwoPass,
    /// The signing time.
    #[error(transparent)]
    SigningTime(#[from] SigningTimeRefusal),
    /// The recipient.
    #[error("the key token is for another terminal")]
    Recipient,
    /// The hash in RSA-OAEP.
    #[error("the key token uses RSA-OAEP with {0:?}, which this terminal's configuration excludes")]
    OaepHash(OaepHash),
    /// The version that was delivered.
    #[error("version {found} of the key was delivered, version {announced} was announced")]
    KeyVersion {
        /// By the list of assignments.
        announced: u32,
        /// With the token.
        found: u32,
    },
    /// The version that was announced.
    #[error("version {announced} of the key was announced, but version {held} is held")]
    OlderKey {
        /// By the list of assignments.
        announced: u32,
        /// In the slot.
        held: u32,
    },
    /// Decryption. One answer for all of its faults.
    #[error("the key block does not open")]
    Opening,
    /// The opened block does not parse.
    #[error("{0}")]
    BlockMalformed(MalformedToken),
    /// The block's KDH.
    #[error("the key block names another KDH than the one that signed")]
    BlockKdh,
    /// The block's header.
    #[error("the header in the key block, {inside}, is not the one that was signed, {signed}")]
    BlockHeader {
        /// In the block.
        inside: Kbh,
        /// Among the signed attributes.
        signed: Kbh,
    },
    /// The announced header.
    #[error("the key's header is {found}, and {announced} was announced")]
    AnnouncedHeader {
        /// By the list of assignments.
        announced: Kbh,
        /// In token and block.
        found: Kbh,
    },
    /// The key's length.
    #[error("{0}")]
    KeyLength(KbhError),
    /// The cipher under Ke.
    #[error("the key block of {kind} key is encrypted under a key that is weaker than it", kind = .0)]
    EphemeralKeyTooWeak(KeyKind),
    /// The check value.
    #[error("the check value of the loaded key is {computed}, and {announced} was announced")]
    KcvMismatch {
        /// By the host.
        announced: Kcv,
        /// By the token.
        computed: Kcv,
    },
}

impl LoadRefusal {
    /// The stable word for it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token-malformed",
            Self::Kdh(refusal) => refusal.reason(),
            Self::Signature => "signature-invalid",
            Self::Nonce => "nonce-mismatch",
            Self::OnePass => "one-pass-token",
            Self::TwoPass => "two-pass-token",
            Self::SigningTime(refusal) => refusal.reason(),
            Self::Recipient => "other-recipient",
            Self::OaepHash(_) => "oaep-hash-excluded",
            Self::KeyVersion { .. } => "key-version-mismatch",
            Self::OlderKey { .. } => "key-version-older",
            Self::Opening => "opening-failed",
            Self::BlockMalformed(_) => "key-block-malformed",
            Self::BlockKdh => "key-block-other-kdh",
            Self::BlockHeader { .. } => "key-block-header-mismatch",
            Self::AnnouncedHeader { .. } => "header-mismatch",
            Self::KeyLength(_) => "key-length",
            Self::EphemeralKeyTooWeak(_) => "ephemeral-key-too-weak",
            Self::KcvMismatch { .. } => "kcv-mismatch",
        }
    }
}

/// A key token that was read, and nothing more: whoever made it.
#[derive(Clone, Debug)]
pub(crate) struct ReadKeyToken {
    profile: Profile,
    token: KeyToken,
}

/// A key token that parsed and whose revocation list is good.
#[derive(Clone, Debug)]
#[must_use]
pub struct CurrentKeyToken {
    read: ReadKeyToken,
    crl: VerifiedCrl,
}

/// A key token that may be opened.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedKeyToken {
    read: ReadKeyToken,
    signer: Kdh,
    announced: Kbh,
}

/// A key that may be loaded. Its bytes are wiped on drop.
#[derive(Debug)]
#[must_use]
pub struct VerifiedKey {
    key: ClearKey,
    kind: KeyKind,
}

/// Checks `KT_KDH`, in this order: it parses; the revocation list's signature, freshness and number;
/// the KDH is not listed; its certificate's path and role; it is the KDH that the terminal is bound
/// to; its signature; the nonce or the signing time; the recipient; the hash in RSA-OAEP; a cipher that
/// can carry some key with its header.
///
/// # Errors
/// The first check that fails.
pub fn verify_key_token(
    token: &[u8],
    expected: &Expectation<'_>,
) -> Result<VerifiedKeyToken, LoadRefusal> {
    CurrentKeyToken::verify(token, &expected.trust)?.verify_origin(expected)
}

/// Checks an opened key block, in this order: it parses; its KDH is the one that signed; its header
/// is the one that was signed; the key's length fits the header; Ke is not weaker than the key; the
/// header is the one that was announced.
///
/// # Errors
/// The first check that fails.
pub fn verify_key_block(
    clear_block: &[u8],
    token: &VerifiedKeyToken,
) -> Result<VerifiedKey, LoadRefusal> {
    let key = token.read.verify_block(clear_block)?;
    token.require_announced_header()?;
    Ok(key)
}

impl ReadKeyToken {
    /// # Errors
    /// [`LoadRefusal::Malformed`].
    pub(crate) fn parse(profile: Profile, token: &[u8]) -> Result<Self, LoadRefusal> {
        let token = KeyToken::parse(profile, token).map_err(LoadRefusal::Malformed)?;
        Ok(Self { profile, token })
    }

    pub(crate) const fn token(&self) -> &KeyToken {
        &self.token
    }

    /// What the key block has to be, for a token that opens it inside: one for each kind of key that
    /// goes with the header. Whatever opens as one of them has the KDH and the header that were signed.
    pub(crate) fn expected_blocks(&self) -> Vec<ExpectedKeyBlock> {
        let (kdh, header) = (self.token.signed_by().signer(), self.token.header());
        let of_kind = |kind: KeyKind| ExpectedKeyBlock {
            kind,
            frame: KeyBlockFrame::new(self.profile, kdh, header, kind.key_len()),
        };
        kinds_with(header).map(of_kind).collect()
    }

    /// Checks an opened key block against the token that it came in.
    ///
    /// # Errors
    /// The first check that fails.
    pub(crate) fn verify_block(&self, clear_block: &[u8]) -> Result<VerifiedKey, LoadRefusal> {
        let block =
            KeyBlock::parse(self.profile, clear_block).map_err(LoadRefusal::BlockMalformed)?;
        if block.kdh() != self.token.signed_by().signer() {
            return Err(LoadRefusal::BlockKdh);
        }
        if block.header() != self.token.header() {
            return Err(LoadRefusal::BlockHeader {
                inside: block.header().clone(),
                signed: self.token.header().clone(),
            });
        }
        let key = block.expose_clear();
        let kind = block
            .header()
            .key_kind(key.len())
            .map_err(LoadRefusal::KeyLength)?;
        self.verify_kind(kind)?;
        Ok(VerifiedKey {
            key: ClearKey::copy_from(key),
            kind,
        })
    }

    /// Checks that Ke is not weaker than the key: under TDEA no AES key is loaded.
    ///
    /// # Errors
    /// It is.
    pub(crate) fn verify_kind(&self, kind: KeyKind) -> Result<(), LoadRefusal> {
        if self.token.enveloped().cipher().carries(kind) {
            return Ok(());
        }
        Err(LoadRefusal::EphemeralKeyTooWeak(kind))
    }
}

/// The kinds of key that go with a header.
fn kinds_with(header: &Kbh) -> impl Iterator<Item = KeyKind> {
    let of_len = |len| header.key_kind(len).ok();
    KEY_LENS.into_iter().filter_map(of_len)
}

/// Refuses, before any key is touched, a cipher that is too weak for every key with the signed header: TDEA
/// for AES.
fn require_strong_cipher(token: &KeyToken) -> Result<(), LoadRefusal> {
    let cipher = token.enveloped().cipher();
    let kinds: Vec<KeyKind> = kinds_with(token.header()).collect();
    match kinds.first() {
        Some(weakest) if !kinds.iter().any(|kind| cipher.carries(*kind)) => {
            Err(LoadRefusal::EphemeralKeyTooWeak(*weakest))
        }
        _ => Ok(()),
    }
}

impl ExpectedFreshness<'_> {
    fn verify(&self, found: &Freshness) -> Result<(), LoadRefusal> {
        match (self, found) {
            (Self::Nonce(sent), Freshness::Nonce(found)) if *sent == found => Ok(()),
            (Self::Nonce(_), Freshness::Nonce(_)) => Err(LoadRefusal::Nonce),
            (Self::SigningTime(bounds), Freshness::SigningTime(found)) => {
                Ok(bounds.verify(*found)?)
            }
            (Self::Nonce(_), Freshness::SigningTime(_)) => Err(LoadRefusal::OnePass),
            (Self::SigningTime(_), Freshness::Nonce(_)) => Err(LoadRefusal::TwoPass),
        }
    }
}

impl CurrentKeyToken {
    /// The first half of [`verify_key_token`].
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(token: &[u8], trust: &KdhTrust<'_>) -> Result<Self, LoadRefusal> {
        let read = ReadKeyToken::parse(trust.profile, token)?;
        let crl = trust.verify_crl(read.token.crl())?;
        Ok(Self { read, crl })
    }

    /// The list, to be remembered before anything else is looked at.
    pub const fn crl(&self) -> &VerifiedCrl {
        &self.crl
    }

    /// The second half.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify_origin(
        self,
        expected: &Expectation<'_>,
    ) -> Result<VerifiedKeyToken, LoadRefusal> {
        let Self { read, crl } = self;
        let token = &read.token;
        let kdh = expected.trust.verify_certificate(expected.kdh, &crl)?;
        let signed = token.signed_by();
        if signed.signer() != kdh.id() {
            return Err(KdhRefusal::OtherKdh.into());
        }
        kdh.public_key()
            .verify(signed.signed_bytes(), signed.signature())
            .map_err(|_| LoadRefusal::Signature)?;
        expected.freshness.verify(token.freshness())?;
        if token.enveloped().recipient() != expected.own_id {
            return Err(LoadRefusal::Recipient);
        }
        let hash = token.enveloped().oaep_hash();
        if !expected.oaep_hashes.contains(&hash) {
            return Err(LoadRefusal::OaepHash(hash));
        }
        require_strong_cipher(token)?;
        Ok(VerifiedKeyToken {
            read,
            signer: Kdh::from(&kdh),
            announced: expected.header.clone(),
        })
    }
}

impl VerifiedKeyToken {
    /// What is to be opened.
    pub const fn enveloped(&self) -> &EnvelopedKeyBlock {
        self.read.token.enveloped()
    }

    /// The signed header.
    pub const fn header(&self) -> &Kbh {
        self.read.token.header()
    }

    /// When it was signed, if it says so.
    pub const fn signing_time(&self) -> Option<SigningTime> {
        self.read.token.signing_time()
    }

    /// What it says about the binding.
    pub const fn as_authentic(&self) -> AuthenticToken<'_> {
        AuthenticToken::Key {
            signer: &self.signer,
        }
    }

    /// The token, to be opened.
    ///
    /// # Errors
    /// Its header is not the one that was announced.
    pub(crate) fn to_open(&self) -> Result<&ReadKeyToken, LoadRefusal> {
        self.require_announced_header()?;
        Ok(&self.read)
    }

    fn require_announced_header(&self) -> Result<(), LoadRefusal> {
        if *self.header() == self.announced {
            return Ok(());
        }
        Err(LoadRefusal::AnnouncedHeader {
            announced: self.announced.clone(),
            found: self.header().clone(),
        })
    }
}

impl VerifiedKey {
    /// The key.
    pub const fn key(&self) -> &ClearKey {
        &self.key
    }

    /// Algorithm and length, as the header has it.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }
}
