//! What a key is for.

use std::fmt;

use pki::MIN_RSA_BITS;

use crate::{
    KeyName,
    template::{
        BDK, EXPORT_MAC_KEY, EXPORT_ZMK, IMPORT_PAIR, KEY_BLOCK_PROTECTION_KEY, KRD_ENCRYPTION_KEY,
        LOADED_KEY, SIGNING_KEY, STORAGE_KEY, STORAGE_MAC_KEY, TRANSPORT_KEY, Template, ZMK,
    },
};

/// PKCS#11 modules commonly stop here, and so do key tokens.
const MAX_RSA_BITS: usize = 4096;

/// The least that keys are sent to us under, since master keys of every length come this way.
const MIN_IMPORT_RSA_BITS: usize = 3072;

/// What a key is for. It decides every attribute of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// The root CA: signs certificates and CRLs.
    RootCa,
    /// A sub-CA: signs certificates and CRLs.
    IssuingCa,
    /// The KDH: signs key tokens.
    KdhSigning,
    /// The host's TLS key.
    TlsServer,
    /// An operator's TLS key.
    Operator,
    /// The key of somebody who takes part in ceremonies: signs their steps.
    Custodian,
    /// The audit key: seals transcripts.
    Audit,
    /// The terminal's RSA key: unwraps Ke; before that, signs its one certificate request.
    KrdEncryption,
    /// The terminal's P-256 key: TLS and receipts.
    KrdAuthentication,
    /// A master Kn on the host: may only be wrapped.
    TransportKey,
    /// A Kn on the terminal.
    LoadedKey,
    /// The host's RSA key under which others send keys: may only unwrap.
    ImportPair,
    /// A key that the host shares with another system, under which that one sends keys: may only unwrap.
    Zmk,
    /// The key block protection key (KBPK) of TR-31 under which another system sends keys: the keys of a block
    /// are derived from it.
    KeyBlockProtection,
    /// A storage key: wraps and unwraps the Kn that lie outside of the HSM.
    Storage,
    /// The storage key's other half: makes the MACs of what is stored.
    StorageMac,
    /// A base derivation key of DUKPT: initial keys are derived from it.
    Bdk,
    /// A key that the host shares with another system, under which keys go there: may only wrap.
    ExportZmk,
    /// The KBPK under which keys go to another system in TR-31 blocks.
    ExportKeyBlockProtection,
    /// Authenticates to another system what it is sent: may only sign.
    ExportMac,
}

/// The key pairs that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPairKind {
    /// RSA with the public exponent 65537.
    Rsa {
        /// Bits of the modulus: 2048 to 4096.
        bits: usize,
    },
    /// NIST P-256.
    P256,
}

impl KeyRole {
    /// The attributes of its private or secret key.
    pub(crate) const fn template(self) -> &'static Template {
        match self {
            Self::RootCa
            | Self::IssuingCa
            | Self::KdhSigning
            | Self::TlsServer
            | Self::Operator
            | Self::Custodian
            | Self::Audit
            | Self::KrdAuthentication => &SIGNING_KEY,
            Self::KrdEncryption => &KRD_ENCRYPTION_KEY,
            Self::TransportKey => &TRANSPORT_KEY,
            Self::LoadedKey => &LOADED_KEY,
            Self::ImportPair => &IMPORT_PAIR,
            Self::Zmk => &ZMK,
            Self::KeyBlockProtection | Self::ExportKeyBlockProtection => &KEY_BLOCK_PROTECTION_KEY,
            Self::Storage => &STORAGE_KEY,
            Self::StorageMac => &STORAGE_MAC_KEY,
            Self::Bdk => &BDK,
            Self::ExportZmk => &EXPORT_ZMK,
            Self::ExportMac => &EXPORT_MAC_KEY,
        }
    }

    /// The roles of secret keys that are brought into the host's token.
    pub const SECRET: [Self; 7] = [
        Self::TransportKey,
        Self::Zmk,
        Self::KeyBlockProtection,
        Self::Bdk,
        Self::ExportZmk,
        Self::ExportKeyBlockProtection,
        Self::ExportMac,
    ];

    /// The roles of secret keys that are made in the host's token, and never brought into it.
    pub const MADE_INSIDE: [Self; 2] = [Self::Storage, Self::StorageMac];

    /// What labels of secret keys of the role begin with in the host's token; empty for other roles.
    pub const fn label_prefix(self) -> &'static str {
        match self {
            Self::TransportKey => "kn.",
            Self::Zmk => "zmk.",
            Self::KeyBlockProtection => "kbpk.",
            Self::Storage => "ksk.",
            Self::StorageMac => "ksm.",
            Self::Bdk => "bdk.",
            Self::ExportZmk => "zmkx.",
            Self::ExportKeyBlockProtection => "kbpkx.",
            Self::ExportMac => "zmac.",
            _ => "",
        }
    }

    /// The role of a secret key in the host's token of this name: that of its prefix, and under all other names a
    /// master key's.
    pub fn of_secret(name: &KeyName) -> Self {
        Self::of_label(name.label()).unwrap_or(Self::TransportKey)
    }

    /// The role of secret keys whose labels begin like this one.
    pub(crate) fn of_label(label: &str) -> Option<Self> {
        let mut roles = Self::SECRET.into_iter().chain(Self::MADE_INSIDE);
        roles.find(|role| label.starts_with(role.label_prefix()))
    }

    /// Whether keys of the role are pairs.
    pub(crate) const fn is_pair(self) -> bool {
        !matches!(self, Self::LoadedKey) && self.label_prefix().is_empty()
    }

    /// Whether keys of the role are made in the token, and were never anywhere else.
    pub(crate) fn is_made_inside(self) -> bool {
        self.is_pair() || Self::MADE_INSIDE.contains(&self)
    }

    /// Whether the role's key can be such a pair.
    pub(crate) fn allows(self, kind: KeyPairKind) -> bool {
        let sound_rsa = matches!(
            kind,
            KeyPairKind::Rsa { bits } if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)
        );
        match self {
            Self::RootCa | Self::IssuingCa => sound_rsa || kind == KeyPairKind::P256,
            Self::KdhSigning | Self::KrdEncryption => sound_rsa,
            Self::TlsServer
            | Self::Operator
            | Self::Custodian
            | Self::Audit
            | Self::KrdAuthentication => kind == KeyPairKind::P256,
            Self::ImportPair => {
                sound_rsa
                    && matches!(kind, KeyPairKind::Rsa { bits } if bits >= MIN_IMPORT_RSA_BITS)
            }
            Self::TransportKey
            | Self::LoadedKey
            | Self::Zmk
            | Self::KeyBlockProtection
            | Self::Storage
            | Self::StorageMac
            | Self::Bdk
            | Self::ExportZmk
            | Self::ExportKeyBlockProtection
            | Self::ExportMac => false,
        }
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RootCa => "root CA",
            Self::IssuingCa => "issuing CA",
            Self::KdhSigning => "KDH signing",
            Self::TlsServer => "TLS server",
            Self::Operator => "operator",
            Self::Custodian => "custodian",
            Self::Audit => "audit",
            Self::KrdEncryption => "KRD encryption",
            Self::KrdAuthentication => "KRD authentication",
            Self::TransportKey => "transport key",
            Self::LoadedKey => "loaded key",
            Self::ImportPair => "import pair",
            Self::Zmk => "ZMK",
            Self::KeyBlockProtection => "key block protection key",
            Self::Storage => "storage key",
            Self::StorageMac => "storage MAC key",
            Self::Bdk => "BDK",
            Self::ExportZmk => "ZMK for export",
            Self::ExportKeyBlockProtection => "key block protection key for export",
            Self::ExportMac => "MAC key for export",
        })
    }
}
