//! The attributes of every key that is made, found or imported here, with the reason for each.
//!
//! Keys get the least usage that works, and no usage is left to a module's default. Session keys are
//! not modifiable where they are generated; `SoftHSM` cannot unwrap or copy into keys that are not.

use cryptoki::{
    mechanism::MechanismType,
    object::{Attribute, AttributeType, ObjectClass},
};
use mechanisms::AES_ECB_ENCRYPT_DATA;

/// A yes-or-no attribute of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flag {
    Private,
    Sensitive,
    Extractable,
    AlwaysSensitive,
    NeverExtractable,
    Modifiable,
    Encrypt,
    Decrypt,
    Sign,
    SignRecover,
    Verify,
    VerifyRecover,
    Wrap,
    Unwrap,
    Derive,
}

impl Flag {
    pub(crate) const ALL: [Self; 15] = [
        Self::Private,
        Self::Sensitive,
        Self::Extractable,
        Self::AlwaysSensitive,
        Self::NeverExtractable,
        Self::Modifiable,
        Self::Encrypt,
        Self::Decrypt,
        Self::Sign,
        Self::SignRecover,
        Self::Verify,
        Self::VerifyRecover,
        Self::Wrap,
        Self::Unwrap,
        Self::Derive,
    ];

    pub(crate) const fn set(self, value: bool) -> Attribute {
        match self {
            Self::Private => Attribute::Private(value),
            Self::Sensitive => Attribute::Sensitive(value),
            Self::Extractable => Attribute::Extractable(value),
            Self::AlwaysSensitive => Attribute::AlwaysSensitive(value),
            Self::NeverExtractable => Attribute::NeverExtractable(value),
            Self::Modifiable => Attribute::Modifiable(value),
            Self::Encrypt => Attribute::Encrypt(value),
            Self::Decrypt => Attribute::Decrypt(value),
            Self::Sign => Attribute::Sign(value),
            Self::SignRecover => Attribute::SignRecover(value),
            Self::Verify => Attribute::Verify(value),
            Self::VerifyRecover => Attribute::VerifyRecover(value),
            Self::Wrap => Attribute::Wrap(value),
            Self::Unwrap => Attribute::Unwrap(value),
            Self::Derive => Attribute::Derive(value),
        }
    }

    pub(crate) fn attribute_type(self) -> AttributeType {
        self.set(false).attribute_type()
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Private => "CKA_PRIVATE",
            Self::Sensitive => "CKA_SENSITIVE",
            Self::Extractable => "CKA_EXTRACTABLE",
            Self::AlwaysSensitive => "CKA_ALWAYS_SENSITIVE",
            Self::NeverExtractable => "CKA_NEVER_EXTRACTABLE",
            Self::Modifiable => "CKA_MODIFIABLE",
            Self::Encrypt => "CKA_ENCRYPT",
            Self::Decrypt => "CKA_DECRYPT",
            Self::Sign => "CKA_SIGN",
            Self::SignRecover => "CKA_SIGN_RECOVER",
            Self::Verify => "CKA_VERIFY",
            Self::VerifyRecover => "CKA_VERIFY_RECOVER",
            Self::Wrap => "CKA_WRAP",
            Self::Unwrap => "CKA_UNWRAP",
            Self::Derive => "CKA_DERIVE",
        }
    }
}

/// What an attribute has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// This, when the key is made and whenever it is found.
    Is(bool),
    /// This when the key is made; either afterwards.
    StartsAs(bool),
    /// Whoever makes the key says which.
    Either,
}

/// One attribute of a template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) flag: Flag,
    pub(crate) setting: Setting,
    pub(crate) reason: &'static str,
}

/// Which keys by a template a mechanism is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Rsa,
    /// RSA where the module hashes what is signed.
    HashingRsa,
    /// RSA where it does not.
    PlainRsa,
    P256,
    Aes,
    Tdea,
    /// From which keys are derived.
    Derive,
}

/// A mechanism that keys may be used with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) mechanism: MechanismType,
    pub(crate) case: Case,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for readers, of this table and of the pinned one")
    )]
    pub(crate) reason: &'static str,
}

/// For keys that go with their session, in which each is used for one thing; or for which others have to
/// decide.
const UNLIMITED: &[Allowance] = &[];

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) class: ObjectClass,
    pub(crate) rules: &'static [Rule],
    /// Empty if its keys are not limited.
    pub(crate) allowances: &'static [Allowance],
}

/// Whether an object stays in the token or goes with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lives {
    InToken,
    InSession,
}

impl Template {
    /// The attributes without what tells one key from another: type, length, name, value.
    pub(crate) fn attributes(&self, lives: Lives) -> Vec<Attribute> {
        let flags = self.rules.iter().filter_map(|rule| match rule.setting {
            Setting::Is(value) | Setting::StartsAs(value) => Some(rule.flag.set(value)),
            Setting::Either => None,
        });
        [Attribute::Token(lives == Lives::InToken)]
            .into_iter()
            .chain(flags)
            .collect()
    }

    /// The mechanisms of some cases.
    pub(crate) fn allowed(&self, is: impl Fn(Case) -> bool) -> Vec<MechanismType> {
        let allowances = self.allowances.iter();
        let allowed = allowances.filter(|allowance| is(allowance.case));
        allowed.map(|allowance| allowance.mechanism).collect()
    }

    /// Whether it leaves this attribute to whoever makes the key.
    pub(crate) fn leaves_open(&self, flag: Flag) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.flag == flag && rule.setting == Setting::Either)
    }

    /// As [`Self::attributes`], for calls that do not know the class by themselves.
    pub(crate) fn attributes_with_class(&self, lives: Lives) -> Vec<Attribute> {
        let mut attributes = self.attributes(lives);
        attributes.push(Attribute::Class(self.class));
        attributes
    }
}

const fn on(flag: Flag, reason: &'static str) -> Rule {
    Rule {
        flag,
        setting: Setting::Is(true),
        reason,
    }
}

const fn off(flag: Flag, reason: &'static str) -> Rule {
    Rule {
        flag,
        setting: Setting::Is(false),
        reason,
    }
}

const fn on_at_first(flag: Flag, reason: &'static str) -> Rule {
    Rule {
        flag,
        setting: Setting::StartsAs(true),
        reason,
    }
}

const fn either(flag: Flag, reason: &'static str) -> Rule {
    Rule {
        flag,
        setting: Setting::Either,
        reason,
    }
}

const fn allow(mechanism: MechanismType, case: Case, reason: &'static str) -> Allowance {
    Allowance {
        mechanism,
        case,
        reason,
    }
}

/// Private keys of CAs, of the KDH, for TLS, and of those who sign transcripts.
pub(crate) const SIGNING_KEY: Template = Template {
    class: ObjectClass::PRIVATE_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "nothing about it ever changes"),
        on(Flag::Sign, "its one usage"),
        off(Flag::SignRecover, "signatures are over digests"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Unwrap, "one usage"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: &[
        allow(
            MechanismType::SHA256_RSA_PKCS,
            Case::HashingRsa,
            "certificates, revocation lists, key tokens",
        ),
        allow(
            MechanismType::RSA_PKCS,
            Case::PlainRsa,
            "the same, where the module does not hash",
        ),
        allow(
            MechanismType::ECDSA,
            Case::P256,
            "certificates, TLS, receipts, transcripts; of digests",
        ),
    ],
};

/// The terminal's RSA private key.
pub(crate) const KRD_ENCRYPTION_KEY: Template = Template {
    class: ObjectClass::PRIVATE_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(Flag::Modifiable, "so that CKA_SIGN can be taken away"),
        on_at_first(Flag::Sign, "for its certificate request, then taken away"),
        off(Flag::SignRecover, "signatures are over digests"),
        off(Flag::Decrypt, "would show Ke to the process"),
        on(
            Flag::Unwrap,
            "its usage: Ke goes from the key token into the token",
        ),
        off(Flag::Derive, "never derived from"),
    ],
    allowances: &[
        allow(MechanismType::RSA_PKCS_OAEP, Case::Rsa, "Ke"),
        allow(
            MechanismType::SHA256_RSA_PKCS,
            Case::HashingRsa,
            "its certificate request",
        ),
        allow(
            MechanismType::RSA_PKCS,
            Case::PlainRsa,
            "the same, where the module does not hash",
        ),
    ],
};

/// Public halves. The public key is used from its certificate, and from the token by nobody but the module.
pub(crate) const PUBLIC_HALF: Template = Template {
    class: ObjectClass::PUBLIC_KEY,
    rules: &[
        off(Flag::Private, "public"),
        off(Flag::Modifiable, "nothing about it ever changes"),
        off(Flag::Encrypt, "no usage"),
        on(
            Flag::Verify,
            "modules that try a new pair sign and verify with it",
        ),
        off(Flag::VerifyRecover, "no usage"),
        off(Flag::Wrap, "no usage"),
        off(Flag::Derive, "no usage"),
    ],
    allowances: UNLIMITED,
};

/// A master Kn on the host.
pub(crate) const TRANSPORT_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "only because C_WrapKey under Ke demands it; CKA_WRAP_WITH_TRUSTED would limit it to \
             keys that the security officer marked, and Ke is new each time",
        ),
        on(
            Flag::Modifiable,
            "its check value is made on a copy with another usage",
        ),
        off(Flag::Encrypt, "may only be wrapped"),
        off(Flag::Decrypt, "may only be wrapped"),
        off(Flag::Sign, "may only be wrapped"),
        off(Flag::Verify, "may only be wrapped"),
        off(Flag::Wrap, "may only be wrapped"),
        off(Flag::Unwrap, "may only be wrapped"),
        either(
            Flag::Derive,
            "where the module puts the key block together inside, which takes a base key",
        ),
    ],
    allowances: &[
        allow(
            MechanismType::AES_CMAC,
            Case::Aes,
            "its check value, on a copy, which has the same limit",
        ),
        allow(
            MechanismType::DES3_ECB,
            Case::Tdea,
            "its check value, on a copy, which has the same limit",
        ),
        allow(
            MechanismType::CONCATENATE_DATA_AND_BASE,
            Case::Derive,
            "where the module puts the key block together inside",
        ),
    ],
};

/// A Kn on the terminal.
///
/// Not limited: by which mechanism working keys come under it is for the payment application to say.
pub(crate) const LOADED_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(
            Flag::Modifiable,
            "its check value is made on a copy with another usage",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "would show working keys to the process"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        on(
            Flag::Unwrap,
            "its one usage: a master key brings working keys into the token",
        ),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// The host's RSA private key under which others send keys.
pub(crate) const IMPORT_PAIR: Template = Template {
    class: ObjectClass::PRIVATE_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "nothing about it ever changes"),
        off(Flag::Sign, "its certificate is made without a request"),
        off(Flag::SignRecover, "one usage"),
        off(Flag::Decrypt, "would show transport keys to the process"),
        on(
            Flag::Unwrap,
            "its one usage: a transport key goes into the HSM",
        ),
        off(Flag::Derive, "one usage"),
    ],
    allowances: &[allow(
        MechanismType::RSA_PKCS_OAEP,
        Case::Rsa,
        "transport keys, and Ke of key tokens from upstream",
    )],
};

/// A key that the host shares with another system, under which that one sends keys.
pub(crate) const ZMK: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(
            Flag::Modifiable,
            "its check value is made on a copy with another usage",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "would show keys to the process"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(
            Flag::Wrap,
            "one usage: under it keys come in and do not go out",
        ),
        on(Flag::Unwrap, "its one usage: Kn goes into the HSM"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: &[
        allow(MechanismType::AES_KEY_WRAP, Case::Aes, "Kn, as in RFC 3394"),
        allow(
            MechanismType::AES_KEY_WRAP_PAD,
            Case::Aes,
            "Kn, as in RFC 5649",
        ),
        allow(
            MechanismType::AES_CMAC,
            Case::Aes,
            "its check value, on a copy, which has the same limit",
        ),
    ],
};

/// The key of TR-31 from which the keys of a block are derived.
pub(crate) const KEY_BLOCK_PROTECTION_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(
            Flag::Modifiable,
            "its check value is made on a copy with another usage",
        ),
        off(Flag::Encrypt, "would show the keys of a block"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "would show the keys of a block"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: the keys of a block"),
    ],
    allowances: &[
        allow(
            MechanismType::SP800_108_COUNTER_KDF,
            Case::Aes,
            "the keys of a block",
        ),
        allow(
            MechanismType::AES_CMAC,
            Case::Aes,
            "its check value, on a copy, which has the same limit",
        ),
    ],
};

/// A key under which Kn lie outside of the HSM.
pub(crate) const STORAGE_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "nothing about it ever changes"),
        off(Flag::Encrypt, "no other usage"),
        off(Flag::Decrypt, "would show Kn to the process"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        on(Flag::Wrap, "Kn goes out to be stored"),
        on(Flag::Unwrap, "and comes back to be used"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: &[allow(
        MechanismType::AES_KEY_WRAP,
        Case::Aes,
        "Kn, as in RFC 3394, which shows when it was changed",
    )],
};

/// A key that binds stored Kn to what is written beside them.
pub(crate) const STORAGE_MAC_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "nothing about it ever changes"),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        on(
            Flag::Sign,
            "its one usage: for what is written, and for what is read again, to compare",
        ),
        off(Flag::Verify, "one usage: not every module verifies CMACs"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: &[allow(
        MechanismType::AES_CMAC,
        Case::Aes,
        "its one mechanism",
    )],
};

/// A new Kn of AES until it is wrapped to be stored.
pub(crate) const NEW_AES_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(Flag::Extractable, "it is wrapped under the storage key"),
        off(Flag::Modifiable, "its usage stays as it is"),
        off(Flag::Encrypt, "no other usage"),
        off(Flag::Decrypt, "no other usage"),
        on(Flag::Sign, "for its check value, a CMAC"),
        off(Flag::Verify, "no other usage"),
        off(Flag::Wrap, "no other usage"),
        off(Flag::Unwrap, "no other usage"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// A new Kn of TDEA until it is wrapped to be stored.
pub(crate) const NEW_TDEA_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(Flag::Extractable, "it is wrapped under the storage key"),
        off(Flag::Modifiable, "its usage stays as it is"),
        on(Flag::Encrypt, "for its check value, 8 zero bytes"),
        off(Flag::Decrypt, "no other usage"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        off(Flag::Wrap, "no other usage"),
        off(Flag::Unwrap, "no other usage"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// A base derivation key.
///
/// One of TDEA is not limited: the modules that derive from it inside do not limit keys.
pub(crate) const BDK: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(
            Flag::Modifiable,
            "its check value is made on a copy with another usage",
        ),
        off(Flag::Encrypt, "would show initial keys"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: initial keys"),
    ],
    allowances: &[
        allow(
            MechanismType::AES_CMAC,
            Case::Aes,
            "its check value, on a copy, which has the same limit",
        ),
        allow(AES_ECB_ENCRYPT_DATA, Case::Aes, "initial keys"),
    ],
};

/// The BDK of TDEA under which the right half of an initial key is encrypted. Destroyed when that is done.
pub(crate) const BDK_VARIANT: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Encrypt, "would show half an initial key"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: half an initial key"),
    ],
    allowances: UNLIMITED,
};

/// What was derived and is not an initial key yet: a half of one, or more than one.
pub(crate) const INITIAL_KEY_PART: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "a derived key inherits it, and the initial key is wrapped",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: the initial key"),
    ],
    allowances: UNLIMITED,
};

/// A key that the host shares with another system, under which keys go there.
pub(crate) const EXPORT_ZMK: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(
            Flag::Modifiable,
            "its check value is made on a copy with another usage",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "would show keys to the process"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        on(Flag::Wrap, "its one usage: Kn goes to another system"),
        off(
            Flag::Unwrap,
            "one usage: under it keys go out and do not come in",
        ),
        off(Flag::Derive, "one usage"),
    ],
    allowances: &[
        allow(MechanismType::AES_KEY_WRAP, Case::Aes, "Kn, as in RFC 3394"),
        allow(
            MechanismType::AES_CMAC,
            Case::Aes,
            "its check value, on a copy, which has the same limit",
        ),
    ],
};

/// The key that authenticates to another system what it is sent.
pub(crate) const EXPORT_MAC_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(
            Flag::Modifiable,
            "its check value is made on a copy, as any other's",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        on(Flag::Sign, "its one usage: CMACs of records"),
        off(Flag::Verify, "the other system verifies"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: &[allow(
        MechanismType::AES_CMAC,
        Case::Aes,
        "CMACs of records, and its check value",
    )],
};

/// KBEK of a TR-31 block that is made here.
pub(crate) const BLOCK_WRAPPING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Encrypt, "no other usage"),
        off(Flag::Decrypt, "would show Kn to the process"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        on(Flag::Wrap, "its one usage: the payload"),
        off(Flag::Unwrap, "no other usage"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// A key that arrived under an import pair, under which Kn arrived. Destroyed with the import.
pub(crate) const ARRIVED_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "would show Kn to the process"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        on(Flag::Unwrap, "its one usage: Kn goes into the HSM"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// KBEK of a TR-31 block, for one import.
pub(crate) const BLOCK_ENCRYPTION_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Encrypt, "no other usage"),
        off(Flag::Decrypt, "would show Kn to the process"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        on(
            Flag::Wrap,
            "to rebuild the payload's first block, which holds the key's length",
        ),
        on(Flag::Unwrap, "the payload goes into the HSM"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// KBAK of a TR-31 block, as long as that is opened or made.
pub(crate) const BLOCK_AUTHENTICATION_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(Flag::Encrypt, "for the header, and for CMAC's subkey"),
        off(Flag::Decrypt, "would show the payload to the process"),
        off(
            Flag::Sign,
            "what is authenticated is not to be seen, and so not to be signed",
        ),
        off(Flag::Verify, "as above"),
        on(Flag::Wrap, "for the clear payload"),
        off(Flag::Unwrap, "no other usage"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// Ke on the host, for one key token.
pub(crate) const SEALING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "only because OAEP wrapping to the terminal demands it",
        ),
        off(Flag::Modifiable, "its usage stays as it is"),
        on(Flag::Encrypt, "for what stands before and behind Kn"),
        off(Flag::Decrypt, "would open the key block"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        on(Flag::Wrap, "for Kn"),
        off(Flag::Unwrap, "would load the key block"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// The terminal's public key on the host, for one key token.
pub(crate) const RECIPIENT_KEY: Template = Template {
    class: ObjectClass::PUBLIC_KEY,
    rules: &[
        off(Flag::Private, "public"),
        off(Flag::Modifiable, "nothing about it ever changes"),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::VerifyRecover, "one usage"),
        on(Flag::Wrap, "its one usage: Ke"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// A key block on its way to be wrapped, all but its end.
pub(crate) const KEY_BLOCK_WITHOUT_END: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "a derived key inherits it, and the whole block is wrapped",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: the end is put behind it"),
    ],
    allowances: UNLIMITED,
};

/// A whole key block, for one wrapping.
pub(crate) const KEY_BLOCK: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(Flag::Extractable, "it is wrapped under Ke"),
        off(Flag::Encrypt, "may only be wrapped"),
        off(Flag::Decrypt, "may only be wrapped"),
        off(Flag::Sign, "may only be wrapped"),
        off(Flag::Verify, "may only be wrapped"),
        off(Flag::Wrap, "may only be wrapped"),
        off(Flag::Unwrap, "may only be wrapped"),
        off(Flag::Derive, "may only be wrapped"),
    ],
    allowances: UNLIMITED,
};

/// Ke on a terminal that opens key blocks inside its token.
pub(crate) const LOADING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(Flag::Encrypt, "to rebuild what stands before and behind Kn"),
        off(Flag::Decrypt, "would show Kn to the process"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        on(Flag::Wrap, "to rebuild the key block round Kn"),
        on(Flag::Unwrap, "Kn goes from the key block into the token"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// A key block inside the terminal's token, from which Kn is extracted.
pub(crate) const OPENED_KEY_BLOCK: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "a derived key inherits it, and the key for the rebuilding is wrapped",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: Kn"),
    ],
    allowances: UNLIMITED,
};

/// Kn on the terminal while its key block is rebuilt. Destroyed before it is loaded.
pub(crate) const REBUILDING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(Flag::Extractable, "the key block is rebuilt by wrapping it"),
        off(Flag::Encrypt, "no other usage"),
        off(Flag::Decrypt, "no other usage"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        off(Flag::Wrap, "no other usage"),
        off(Flag::Unwrap, "no other usage"),
        either(
            Flag::Derive,
            "where the module puts the key block together inside, which takes a base key",
        ),
    ],
    allowances: UNLIMITED,
};

/// Ke on a terminal that opens key blocks in process memory, or in a self-test.
pub(crate) const OPENING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Encrypt, "one usage"),
        on(Flag::Decrypt, "its one usage: the key block"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// The private key of a self-test's recipient.
pub(crate) const TRIAL_RECIPIENT_KEY: Template = Template {
    class: ObjectClass::PRIVATE_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "its usage stays as it is"),
        off(Flag::Sign, "one usage"),
        off(Flag::SignRecover, "one usage"),
        off(Flag::Decrypt, "one usage"),
        on(Flag::Unwrap, "its one usage: Ke"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// A copy of an AES key for its check value.
pub(crate) const AES_CHECK_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        on(Flag::Sign, "its one usage: a CMAC"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// A copy of a TDEA key for its check value.
pub(crate) const TDEA_CHECK_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        on(Flag::Encrypt, "its one usage: 8 zero bytes"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// A key that measures others by the length of their wrapping.
pub(crate) const MEASURING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "its usage stays as it is"),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "would open what was wrapped"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        on(Flag::Wrap, "its one usage"),
        off(Flag::Unwrap, "would load what was wrapped"),
        off(Flag::Derive, "one usage"),
    ],
    allowances: UNLIMITED,
};

/// Ke once more, where the token states no length of a key that it unwrapped. Destroyed as soon as it is
/// measured.
pub(crate) const MEASURED_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "it is measured by wrapping it under a key that opens nothing",
        ),
        off(Flag::Encrypt, "may only be wrapped"),
        off(Flag::Decrypt, "may only be wrapped"),
        off(Flag::Sign, "may only be wrapped"),
        off(Flag::Verify, "may only be wrapped"),
        off(Flag::Wrap, "may only be wrapped"),
        off(Flag::Unwrap, "may only be wrapped"),
        off(Flag::Derive, "may only be wrapped"),
    ],
    allowances: UNLIMITED,
};

/// The key under which a sum of components is computed.
pub(crate) const SUMMING_KEY: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        off(Flag::Extractable, "nor wrapped"),
        off(Flag::Modifiable, "its usage stays as it is"),
        on(
            Flag::Encrypt,
            "for the steps of RFC 3394 behind the first pass",
        ),
        off(Flag::Decrypt, "would show the sum"),
        off(Flag::Sign, "no other usage"),
        off(Flag::Verify, "no other usage"),
        on(Flag::Wrap, "for the first pass, which holds the sum"),
        on(Flag::Unwrap, "makes the sum a key"),
        off(Flag::Derive, "no other usage"),
    ],
    allowances: UNLIMITED,
};

/// A part of a sum of components, 8 bytes of it, for recipes that wrap it.
pub(crate) const WRAPPED_PARTIAL_SUM: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "the next component is added by wrapping it",
        ),
        off(Flag::Encrypt, "may only be wrapped"),
        off(Flag::Decrypt, "may only be wrapped"),
        off(Flag::Sign, "may only be wrapped"),
        off(Flag::Verify, "may only be wrapped"),
        off(Flag::Wrap, "may only be wrapped"),
        off(Flag::Unwrap, "may only be wrapped"),
        off(Flag::Derive, "may only be wrapped"),
    ],
    allowances: UNLIMITED,
};

/// A sum of components, for modules that derive the next one from it.
///
/// Extractable because a key that is derived from one that is not cannot be (PKCS#11 6.43.7), and
/// the finished master key has to be.
pub(crate) const DERIVED_PARTIAL_SUM: Template = Template {
    class: ObjectClass::SECRET_KEY,
    rules: &[
        on(Flag::Private, "not to be seen without login"),
        on(Flag::Sensitive, "never in clear outside of the token"),
        on(
            Flag::Extractable,
            "a derived key inherits it, and the finished one is wrapped",
        ),
        off(Flag::Encrypt, "one usage"),
        off(Flag::Decrypt, "one usage"),
        off(Flag::Sign, "one usage"),
        off(Flag::Verify, "one usage"),
        off(Flag::Wrap, "one usage"),
        off(Flag::Unwrap, "one usage"),
        on(Flag::Derive, "its one usage: the next component"),
    ],
    allowances: UNLIMITED,
};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fmt::Write;

    use super::*;

    const TABLE: &[(&str, &Template)] = &[
        ("signing key", &SIGNING_KEY),
        ("KRD encryption key", &KRD_ENCRYPTION_KEY),
        ("public half", &PUBLIC_HALF),
        ("transport key", &TRANSPORT_KEY),
        ("loaded key", &LOADED_KEY),
        ("sealing key", &SEALING_KEY),
        ("recipient key", &RECIPIENT_KEY),
        ("key block without its end", &KEY_BLOCK_WITHOUT_END),
        ("key block", &KEY_BLOCK),
        ("loading key", &LOADING_KEY),
        ("opened key block", &OPENED_KEY_BLOCK),
        ("rebuilding key", &REBUILDING_KEY),
        ("opening key", &OPENING_KEY),
        ("trial recipient key", &TRIAL_RECIPIENT_KEY),
        ("AES check key", &AES_CHECK_KEY),
        ("TDEA check key", &TDEA_CHECK_KEY),
        ("measuring key", &MEASURING_KEY),
        ("measured key", &MEASURED_KEY),
        ("summing key", &SUMMING_KEY),
        ("wrapped partial sum", &WRAPPED_PARTIAL_SUM),
        ("derived partial sum", &DERIVED_PARTIAL_SUM),
        ("import pair", &IMPORT_PAIR),
        ("ZMK", &ZMK),
        ("key block protection key", &KEY_BLOCK_PROTECTION_KEY),
        ("arrived key", &ARRIVED_KEY),
        ("block encryption key", &BLOCK_ENCRYPTION_KEY),
        ("block authentication key", &BLOCK_AUTHENTICATION_KEY),
        ("storage key", &STORAGE_KEY),
        ("storage MAC key", &STORAGE_MAC_KEY),
        ("new AES key", &NEW_AES_KEY),
        ("new TDEA key", &NEW_TDEA_KEY),
        ("BDK", &BDK),
        ("BDK variant", &BDK_VARIANT),
        ("initial key part", &INITIAL_KEY_PART),
        ("ZMK for export", &EXPORT_ZMK),
        ("MAC key for export", &EXPORT_MAC_KEY),
        ("block wrapping key", &BLOCK_WRAPPING_KEY),
    ];

    /// A change of the table shows in a reviewed file.
    #[test]
    #[expect(clippy::print_stdout, reason = "to be pinned, if it is right")]
    fn the_table_is_pinned() {
        let mut table = String::new();
        for (name, template) in TABLE {
            writeln!(table, "{name} ({})", template.class).unwrap();
            for rule in template.rules {
                let (name, reason) = (rule.flag.name(), rule.reason);
                let setting = match rule.setting {
                    Setting::Is(true) => "yes",
                    Setting::Is(false) => "no",
                    Setting::StartsAs(true) => "yes at first",
                    Setting::StartsAs(false) => "no at first",
                    Setting::Either => "either",
                };
                writeln!(table, "  {name:<18} {setting:<12} {reason}").unwrap();
            }
            for allowance in template.allowances {
                let (mechanism, case, reason) =
                    (allowance.mechanism, allowance.case, allowance.reason);
                let case = format!("{case:?}");
                writeln!(table, "  allows {case:<12} {mechanism}: {reason}").unwrap();
            }
        }
        println!("{table}");
        let pinned = include_str!("../tests/data/templates.txt");
        assert!(table == pinned, "the table above is not the pinned one");
    }

    #[test]
    fn no_private_key_is_extractable_and_no_key_in_clear() {
        for (name, template) in TABLE {
            let is = |flag| {
                template
                    .rules
                    .iter()
                    .find(|rule| rule.flag == flag)
                    .map(|rule| rule.setting)
            };
            if template.class == ObjectClass::PUBLIC_KEY {
                continue;
            }
            assert_eq!(is(Flag::Private), Some(Setting::Is(true)), "{name}");
            assert_eq!(is(Flag::Sensitive), Some(Setting::Is(true)), "{name}");
            if template.class == ObjectClass::PRIVATE_KEY {
                assert_eq!(is(Flag::Extractable), Some(Setting::Is(false)), "{name}");
            }
        }
    }

    /// An empty limit is none to some modules, and forbids everything to others.
    #[test]
    fn a_limit_is_never_empty_for_a_key_that_there_can_be() {
        let cases = [
            (&SIGNING_KEY, Case::HashingRsa),
            (&SIGNING_KEY, Case::PlainRsa),
            (&SIGNING_KEY, Case::P256),
            (&KRD_ENCRYPTION_KEY, Case::Rsa),
            (&TRANSPORT_KEY, Case::Aes),
            (&TRANSPORT_KEY, Case::Tdea),
            (&IMPORT_PAIR, Case::Rsa),
            (&ZMK, Case::Aes),
            (&KEY_BLOCK_PROTECTION_KEY, Case::Aes),
            (&STORAGE_KEY, Case::Aes),
            (&STORAGE_MAC_KEY, Case::Aes),
            (&BDK, Case::Aes),
            (&EXPORT_ZMK, Case::Aes),
            (&EXPORT_MAC_KEY, Case::Aes),
        ];
        for (template, case) in cases {
            assert!(!template.allowed(|other| other == case).is_empty());
        }
    }

    #[test]
    fn every_usage_is_decided() {
        use Flag::{Decrypt, Derive, Encrypt, Sign, SignRecover, Unwrap, Verify, Wrap};
        for (name, template) in TABLE {
            let usages: &[Flag] = match template.class {
                ObjectClass::PRIVATE_KEY => &[Sign, SignRecover, Decrypt, Unwrap, Derive],
                ObjectClass::PUBLIC_KEY => &[Encrypt, Verify, Flag::VerifyRecover, Wrap, Derive],
                _ => &[Encrypt, Decrypt, Sign, Verify, Wrap, Unwrap, Derive],
            };
            for usage in usages {
                let decided = template
                    .rules
                    .iter()
                    .filter(|rule| rule.flag == *usage)
                    .count();
                assert_eq!(decided, 1, "{name}: {}", usage.name());
            }
        }
    }
}
