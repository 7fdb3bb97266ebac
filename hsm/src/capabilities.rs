//! What a token can do, by its own list and by trying.

use std::fmt;

use cryptoki::mechanism::MechanismType;
use tr34::{ContentCipher, KeyKind, OaepHash};

use crate::{ExportForm, ImportForm, open::Opening, self_test};

/// How key blocks are sealed. [`crate::Token::seal`] prefers the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealingWay {
    /// The block put together inside the module, and wrapped.
    Concatenate,
    /// CBC in three parts, the middle one by wrapping Kn.
    Splice,
}

/// How key blocks are opened inside a terminal's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpeningWay {
    /// The ciphertext blocks of Kn unwrapped, where Kn lies on block boundaries.
    Aligned,
    /// The whole block unwrapped, and Kn extracted from it.
    Extract,
}

/// How components are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CombiningWay {
    /// `CKM_XOR_BASE_AND_DATA`.
    Xor,
    /// AES key wrap, computed from CBC wrapping.
    KeyWrap,
}

/// What a token would have to offer, or what it did when it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<String>);

/// What a token can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How key blocks are sealed.
    pub sealing: Result<SealingWay, Missing>,
    /// How key blocks under AES are opened inside, the preferred way first; never empty.
    pub opening: Result<Vec<OpeningWay>, Missing>,
    /// As `opening`, under TDEA.
    pub opening_under_tdea: Result<Vec<OpeningWay>, Missing>,
    /// The hashes with which a throw-away key could be sealed and opened.
    pub oaep: Vec<OaepHash>,
    /// How components are combined.
    pub combining: Result<CombiningWay, Missing>,
    /// Whether a key that is limited to a mechanism (`CKA_ALLOWED_MECHANISMS`) is used with no other.
    pub limiting: Result<(), Missing>,
    /// The forms in which keys that arrive encrypted are imported, with what of each is possible.
    pub imports: Vec<(ImportForm, Result<String, Missing>)>,
    /// The kinds of key that can be made inside and stored outside, wrapped.
    pub storing: Result<Vec<KeyKind>, Missing>,
    /// The kinds of initial key that are derived inside.
    pub derivations: Vec<(KeyKind, Result<(), Missing>)>,
    /// The forms in which keys go to other systems.
    pub exports: Vec<(ExportForm, Result<(), Missing>)>,
    /// The mechanisms that the token lists, `CKM_...`, sorted.
    pub mechanisms: Vec<String>,
}

/// A self-test that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTestReport {
    /// The hash in RSA-OAEP.
    pub oaep: OaepHash,
    /// The ways that passed, the preferred one first; never empty.
    pub ways: Vec<PassedWay>,
    /// Why the other ways did not pass.
    pub missing: Missing,
}

/// A way of sealing that passed the self-test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedWay {
    /// The way.
    pub way: SealingWay,
    /// The kinds of key that were sealed and opened, with the cipher.
    pub sealed: Vec<(KeyKind, ContentCipher)>,
    /// What the module refused, and why.
    pub refused: Vec<(KeyKind, ContentCipher, String)>,
}

impl Capabilities {
    pub(crate) fn new(
        self_tests: &self_test::Sealing,
        opening: &Opening,
        combining: Result<CombiningWay, Missing>,
        limiting: Result<(), Missing>,
        imports: Vec<(ImportForm, Result<String, Missing>)>,
        storing: Result<Vec<KeyKind>, Missing>,
        mechanisms: &[MechanismType],
    ) -> Self {
        let passed = || self_tests.iter().filter_map(|(_, test)| test.as_ref().ok());
        let sealing = passed().find_map(SelfTestReport::way);
        let mut mechanisms: Vec<String> = mechanisms.iter().map(ToString::to_string).collect();
        mechanisms.sort();
        Self {
            sealing: sealing.ok_or_else(|| Missing(why_not(self_tests))),
            opening: opening.ways(ContentCipher::Aes128Cbc),
            opening_under_tdea: opening.ways(ContentCipher::DesEde3Cbc),
            oaep: passed().map(|report| report.oaep).collect(),
            combining,
            limiting,
            imports,
            storing,
            derivations: Vec::new(),
            exports: Vec::new(),
            mechanisms,
        }
    }

    /// With what it derives, and exports.
    pub(crate) fn and(
        self,
        derivations: Vec<(KeyKind, Result<(), Missing>)>,
        exports: Vec<(ExportForm, Result<(), Missing>)>,
    ) -> Self {
        Self {
            derivations,
            exports,
            ..self
        }
    }
}

impl SelfTestReport {
    /// The preferred way of sealing.
    pub fn way(&self) -> Option<SealingWay> {
        self.ways.first().map(|passed| passed.way)
    }

    /// The kinds of key that can be sealed one way or another, under one cipher or another.
    pub fn kinds(&self) -> Vec<KeyKind> {
        let sealed = |kind: &KeyKind| {
            let mut pairs = self.ways.iter().flat_map(|passed| &passed.sealed);
            pairs.any(|(sealed, _)| sealed == kind)
        };
        self_test::KINDS.into_iter().filter(sealed).collect()
    }

    /// The ciphers under which a key of one kind or another can be sealed.
    pub fn ciphers(&self) -> Vec<ContentCipher> {
        let possible = |cipher: &ContentCipher| self.verify_cipher(*cipher).is_ok();
        ContentCipher::ALL.into_iter().filter(possible).collect()
    }

    /// Whether a key of one kind or another can be sealed under a cipher.
    ///
    /// # Errors
    /// What each way of sealing lacks for it.
    pub fn verify_cipher(&self, cipher: ContentCipher) -> Result<(), Missing> {
        let mut reasons = Vec::new();
        for PassedWay {
            way,
            sealed,
            refused,
        } in &self.ways
        {
            if sealed.iter().any(|(_, passed)| *passed == cipher) {
                return Ok(());
            }
            let refused = refused.iter().filter(|(_, refused, _)| *refused == cipher);
            reasons.extend(refused.map(|(kind, _, why)| format!("{way} of {kind} {why}")));
        }
        reasons.extend(self.missing.0.iter().cloned());
        Err(Missing(reasons))
    }

    /// The ways in which a key of this kind can be sealed under a cipher, if it fits.
    pub(crate) fn ways_for(&self, kind: KeyKind, cipher: ContentCipher) -> Vec<SealingWay> {
        let passed = self.ways.iter();
        let passed = passed.filter(|passed| passed.sealed.contains(&(kind, cipher)));
        passed.map(|passed| passed.way).collect()
    }
}

impl fmt::Display for SelfTestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.oaep.name();
        write!(
            f,
            "throw-away keys were sealed and opened, Ke under RSA-OAEP with {hash}"
        )?;
        for PassedWay { way, sealed, .. } in &self.ways {
            for cipher in ContentCipher::ALL {
                let kinds = sealed.iter().filter(|(_, under)| *under == cipher);
                let kinds: Vec<_> = kinds.map(|(kind, _)| kind.name()).collect();
                if !kinds.is_empty() {
                    write!(f, "; by {way} under {cipher}: {}", kinds.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for SealingWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Concatenate => "concatenate",
            Self::Splice => "splice",
        })
    }
}

impl fmt::Display for OpeningWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aligned => "aligned",
            Self::Extract => "extract",
        })
    }
}

impl fmt::Display for CombiningWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xor => "xor",
            Self::KeyWrap => "key-wrap",
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Each reason once: what is missing is so for either hash.
fn why_not(self_tests: &self_test::Sealing) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for Missing(missing) in self_tests
        .iter()
        .filter_map(|(_, test)| test.as_ref().err())
    {
        for reason in missing {
            if !reasons.contains(reason) {
                reasons.push(reason.clone());
            }
        }
    }
    reasons
}
