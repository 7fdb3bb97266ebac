//! What a key may be used with at all: `CKA_ALLOWED_MECHANISMS`.
//!
//! A usage says what a key may do, a limit by which mechanisms. Copies of a key have its limit, and not
//! every module lets them have another; so it holds what their check value takes as well. Modules that do
//! not know limits make keys without.

use cryptoki::{
    error::Error as CryptokiError,
    mechanism::MechanismType,
    object::{Attribute, AttributeInfo, AttributeType, ObjectHandle},
};
use mechanisms::AES_ECB_ENCRYPT_DATA;
use tr34::KeyKind;

use crate::{
    HsmError, Kcv, KeyPairKind, check_value, derive,
    error::CallResult,
    self_test,
    session::Session,
    template::{Case, Template},
};

/// What a key says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Nothing, or its module does not know limits.
    None,
    To(Vec<MechanismType>),
    /// To mechanisms of which one has no name here.
    Unnamed,
}

impl Limit {
    /// Of a key that should be one by this template.
    pub(crate) fn read(
        session: &Session,
        key: ObjectHandle,
        label: &str,
        template: &Template,
    ) -> Result<Self, HsmError> {
        let attributes = match session.get_attributes(key, &[AttributeType::AllowedMechanisms]) {
            // The binding has names for most mechanisms of PKCS#11, and for no vendor's.
            Err(CryptokiError::NotSupported | CryptokiError::InvalidValue) => {
                return Self::by_use(session, key, label, template);
            }
            read => read.with_key(READ, label)?,
        };
        Ok(match attributes.into_iter().next() {
            Some(Attribute::AllowedMechanisms(allowed)) if !allowed.is_empty() => Self::To(allowed),
            _ => Self::None,
        })
    }

    /// Where the binding cannot read it, because it does not know the mechanism by which initial keys are derived.
    /// If it is as long as the BDK's, and the key works by each of a BDK's mechanisms, there is room for no other.
    fn by_use(
        session: &Session,
        key: ObjectHandle,
        label: &str,
        template: &Template,
    ) -> Result<Self, HsmError> {
        let role = template.allowed(|case| case == Case::Aes);
        let info = session.get_attribute_info(key, &[AttributeType::AllowedMechanisms]);
        let info = info.with_key(READ, label)?;
        let as_long =
            matches!(info[..], [AttributeInfo::Available(len)] if len == size_of_val(&role[..]));
        if !as_long || role != [MechanismType::AES_CMAC, AES_ECB_ENCRYPT_DATA] {
            return Ok(Self::Unnamed);
        }
        let used = check_value::of_copy(session, key, KeyKind::Aes128, Kcv::LEN)
            .and_then(|_| derive::try_to_derive(session, key));
        match used {
            Ok(()) => Ok(Self::To(role)),
            Err(lost @ HsmError::Unavailable { .. }) => Err(lost),
            Err(_) => Ok(Self::Unnamed),
        }
    }

    /// The names of the mechanisms.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        match self {
            Self::None => None,
            Self::To(allowed) => Some(allowed.iter().map(ToString::to_string).collect()),
            Self::Unnamed => Some(vec![UNNAMED.to_owned()]),
        }
    }

    /// The first mechanism that no key by this template is used with, in a token where RSA keys sign so.
    pub(crate) fn excess(&self, template: &Template, rsa: Case) -> Option<String> {
        let role = template.allowed(|case| case != Case::PlainRsa || rsa == Case::PlainRsa);
        match self {
            Self::None => None,
            // One that is not limited is weaker by nothing.
            _ if role.is_empty() => None,
            Self::To(allowed) => {
                let mut excess = allowed.iter().filter(|allowed| !role.contains(allowed));
                excess.next().map(ToString::to_string)
            }
            Self::Unnamed => Some(UNNAMED.to_owned()),
        }
    }
}

const READ: &str = "read a key's attributes";

const UNNAMED: &str = "a mechanism that has no name here";

/// What a new private key is limited to, in a token where RSA keys sign so.
pub(crate) fn of_pair(template: &Template, kind: KeyPairKind, rsa: Case) -> Vec<MechanismType> {
    template.allowed(|case| match kind {
        KeyPairKind::Rsa { .. } => case == Case::Rsa || case == rsa,
        KeyPairKind::P256 => case == Case::P256,
    })
}

/// What a new secret key is limited to.
pub(crate) fn of_secret(template: &Template, kind: KeyKind, derives: bool) -> Vec<MechanismType> {
    let cipher = match kind {
        KeyKind::Tdea2 | KeyKind::Tdea3 => Case::Tdea,
        KeyKind::Aes128 | KeyKind::Aes192 | KeyKind::Aes256 => Case::Aes,
    };
    template.allowed(|case| case == cipher || (derives && case == Case::Derive))
}

/// How often a module is asked for a key with a limit. `CKR_GENERAL_ERROR` and `CKR_TEMPLATE_INCONSISTENT` SoftHSM also
/// answers by chance, when another thread looks for keys meanwhile.
const TRIES: usize = 3;

/// A key with this limit; or without, if there is none to set, or the module refuses the attribute and knows no limits.
///
/// # Errors
/// `make`'s, which makes a key with one more attribute, or without.
pub(crate) fn make<T>(
    session: &Session,
    limit: &[MechanismType],
    make: impl Fn(Option<Attribute>) -> Result<T, HsmError>,
) -> Result<T, HsmError> {
    if limit.is_empty() {
        return make(None);
    }
    let limited = || make(Some(Attribute::AllowedMechanisms(limit.to_vec())));
    let mut key = limited();
    for _ in 1..TRIES {
        if is_refused(&key) {
            key = limited();
        }
    }
    if !is_refused(&key) {
        return key;
    }
    // No key loses its limit where others have theirs.
    match self_test::limiting_by(session) {
        Ok(()) => key,
        Err(lost @ HsmError::Unavailable { .. }) => Err(lost),
        Err(_) => make(None),
    }
}

fn is_refused<T>(key: &Result<T, HsmError>) -> bool {
    key.as_ref().is_err_and(HsmError::is_refused_attribute)
}

/// Refuses a new key that its module has limited to something else than it was asked to.
pub(crate) fn require(
    session: &Session,
    key: ObjectHandle,
    limit: &[MechanismType],
    (label, template): (&str, &Template),
) -> Result<(), HsmError> {
    match Limit::read(session, key, label, template)? {
        Limit::None => Ok(()),
        Limit::To(found) if limit.iter().all(|asked| found.contains(asked)) => Ok(()),
        found => Err(HsmError::BadAnswer {
            operation: "limit a key",
            what: format!(
                "a key limited to {}",
                found.names().unwrap_or_default().join(", ")
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{KRD_ENCRYPTION_KEY, LOADED_KEY, SIGNING_KEY, TRANSPORT_KEY};

    const RSA: KeyPairKind = KeyPairKind::Rsa { bits: 2048 };

    #[test]
    fn an_rsa_key_signs_digests_that_are_made_outside_only_where_it_has_to() {
        let signing = |rsa| of_pair(&SIGNING_KEY, RSA, rsa);
        assert_eq!(signing(Case::HashingRsa), [MechanismType::SHA256_RSA_PKCS]);
        assert_eq!(signing(Case::PlainRsa), [MechanismType::RSA_PKCS]);
        assert_eq!(
            of_pair(&KRD_ENCRYPTION_KEY, RSA, Case::PlainRsa),
            [MechanismType::RSA_PKCS_OAEP, MechanismType::RSA_PKCS]
        );

        let plain = Limit::To(vec![MechanismType::RSA_PKCS]);
        assert_eq!(plain.excess(&SIGNING_KEY, Case::PlainRsa), None);
        let excess = plain.excess(&SIGNING_KEY, Case::HashingRsa);
        assert_eq!(excess.as_deref(), Some("CKM_RSA_PKCS"));
    }

    #[test]
    fn a_master_key_derives_only_where_sealing_does() {
        let derive = MechanismType::CONCATENATE_DATA_AND_BASE;
        for (kind, cipher) in [
            (KeyKind::Aes192, MechanismType::AES_CMAC),
            (KeyKind::Tdea2, MechanismType::DES3_ECB),
        ] {
            assert_eq!(of_secret(&TRANSPORT_KEY, kind, false), [cipher]);
            assert_eq!(of_secret(&TRANSPORT_KEY, kind, true), [cipher, derive]);
        }
    }

    #[test]
    fn keys_without_a_limit_and_roles_without_one_have_no_excess() {
        let ecb = Limit::To(vec![MechanismType::AES_ECB]);
        for limit in [&ecb, &Limit::Unnamed] {
            assert_eq!(limit.excess(&LOADED_KEY, Case::HashingRsa), None);
            assert!(limit.excess(&TRANSPORT_KEY, Case::HashingRsa).is_some());
        }
        assert_eq!(Limit::None.excess(&SIGNING_KEY, Case::HashingRsa), None);
    }
}
