//! What a certificate is for: one row per role.

use const_oid::{ObjectIdentifier, db::rfc5280};
use der::flagset::FlagSet;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};

use crate::{Certificate, Name, PublicKeyKind};

/// The part that a certificate's holder plays. Enforced on issue and on every use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The offline root: certifies sub-CAs.
    RootCa,
    /// `CA_KRD`, `CA_KDH`, `CA_OPS`: certify end entities only.
    SubCa,
    /// The key distribution host: signs key tokens.
    Kdh,
    /// A terminal's encryption key: receives Ke.
    Krd,
    /// A terminal's authentication key: TLS client and receipts.
    KrdTls,
    /// A TLS server of the host.
    HostTls,
    /// An operator of the host: TLS client of the administration.
    Operator,
    /// Somebody who takes part in key ceremonies: signs their own steps in the transcript.
    Custodian,
    /// The HSM's audit key: seals transcripts.
    Audit,
}

/// The public key that a role demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyDemand {
    Rsa,
    P256,
}

/// One row of the table.
struct Profile {
    key: KeyDemand,
    usage: &'static [KeyUsages],
    extended_usage: Option<ObjectIdentifier>,
    ca: Option<BasicConstraints>,
    /// The organizational unit that tells certificates of one CA apart for a reader; only where
    /// profiles of the same CA are alike.
    unit: Option<&'static str>,
}

/// How a certificate differs from its role's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// RSA where P-256 is demanded, or the other way round.
    #[error("the public key is of the wrong kind for the role")]
    KeyKind,
    /// Key usage absent, not critical, or not exactly the role's.
    #[error("the key usage is not the role's")]
    KeyUsage,
    /// Extended key usage absent, present, or not exactly the role's.
    #[error("the extended key usage is not the role's")]
    ExtendedKeyUsage,
    /// A CA where an end entity is demanded, the other way round, or another path length.
    #[error("the basic constraints are not the role's")]
    BasicConstraints,
    /// No subject or authority key identifier; only a root may leave the latter out.
    #[error("a key identifier is missing")]
    KeyIdentifiers,
    /// No host names for a TLS server, or host names for another role.
    #[error("the host names are not the role's")]
    Hosts,
    /// Another organizational unit.
    #[error("the organizational unit is not the role's")]
    Unit,
}

impl Role {
    /// The table. Nothing else in the system knows what a role's certificate looks like.
    fn profile(self) -> Profile {
        use KeyUsages::{CRLSign, DigitalSignature, KeyCertSign, KeyEncipherment};
        let ca = |path_len_constraint| {
            Some(BasicConstraints {
                ca: true,
                path_len_constraint,
            })
        };
        let end_entity = |key, usage, extended_usage, unit| Profile {
            key,
            usage,
            extended_usage,
            ca: None,
            unit,
        };
        let client = Some(rfc5280::ID_KP_CLIENT_AUTH);
        match self {
            Self::RootCa => Profile {
                key: KeyDemand::Rsa,
                usage: &[KeyCertSign, CRLSign],
                extended_usage: None,
                ca: ca(Some(1)),
                unit: None,
            },
            Self::SubCa => Profile {
                key: KeyDemand::Rsa,
                usage: &[KeyCertSign, CRLSign],
                extended_usage: None,
                ca: ca(Some(0)),
                unit: None,
            },
            // No extended usage, and RSA: no TLS certificate can pass for a KDH certificate, even
            // where one sub-CA issues both.
            Self::Kdh => end_entity(KeyDemand::Rsa, &[DigitalSignature], None, None),
            Self::Krd => end_entity(KeyDemand::Rsa, &[KeyEncipherment], None, Some("KRD")),
            Self::KrdTls => end_entity(
                KeyDemand::P256,
                &[DigitalSignature],
                client,
                Some("KRD-TLS"),
            ),
            Self::HostTls => end_entity(
                KeyDemand::P256,
                &[DigitalSignature],
                Some(rfc5280::ID_KP_SERVER_AUTH),
                None,
            ),
            Self::Operator => end_entity(
                KeyDemand::P256,
                &[DigitalSignature],
                client,
                Some("Operator"),
            ),
            // No extended usage: neither opens a TLS connection, and no TLS certificate signs a
            // transcript.
            Self::Custodian => end_entity(
                KeyDemand::P256,
                &[DigitalSignature],
                None,
                Some("Custodian"),
            ),
            Self::Audit => end_entity(KeyDemand::P256, &[DigitalSignature], None, Some("Audit")),
        }
    }

    /// The name of a certificate in this role: under the issuer's organization, with the role's unit.
    ///
    /// # Errors
    /// The common name cannot stand in a name.
    pub fn subject(self, issuer: &Name, common_name: &str) -> Result<Name, crate::NameError> {
        Name::under(issuer, self.profile().unit, common_name)
    }

    /// Checks a certificate against its role's row: every point exactly, none assumed.
    ///
    /// # Errors
    /// The first point that differs.
    pub fn verify(self, certificate: &Certificate) -> Result<(), RoleError> {
        let profile = self.profile();
        let kind_fits = match profile.key {
            KeyDemand::Rsa => matches!(certificate.public_key().kind(), PublicKeyKind::Rsa { .. }),
            KeyDemand::P256 => certificate.public_key().kind() == PublicKeyKind::P256,
        };
        if !kind_fits {
            return Err(RoleError::KeyKind);
        }
        if certificate.key_usage() != Some((true, self.key_usage())) {
            return Err(RoleError::KeyUsage);
        }
        let constraints_fit = match (profile.ca, certificate.basic_constraints()) {
            (Some(demanded), Some((critical, found))) => {
                // What a root says about lengths binds nobody: it is trusted as it is.
                let unlimited_root = self == Self::RootCa && found.path_len_constraint.is_none();
                let length_fits = found.path_len_constraint == demanded.path_len_constraint;
                critical && found.ca && (length_fits || unlimited_root)
            }
            (Some(_), None) => false,
            (None, found) => found.is_none_or(|(_, found)| !found.ca),
        };
        if !constraints_fit {
            return Err(RoleError::BasicConstraints);
        }
        if certificate.extended_key_usage() != self.extended_key_usage().as_ref() {
            return Err(RoleError::ExtendedKeyUsage);
        }
        // RFC 5280 4.2.1.1: a self-signed certificate need not say whose key signed it.
        let names_its_issuer_s_key =
            self == Self::RootCa || certificate.has_authority_key_identifier();
        if certificate.subject_key_identifier().is_none() || !names_its_issuer_s_key {
            return Err(RoleError::KeyIdentifiers);
        }
        if certificate.has_hosts() != (self == Self::HostTls) {
            return Err(RoleError::Hosts);
        }
        if profile.unit.is_some() && certificate.subject().unit().as_deref() != profile.unit {
            return Err(RoleError::Unit);
        }
        Ok(())
    }

    pub(crate) fn key_usage(self) -> KeyUsage {
        let flags = self.profile().usage.iter().copied();
        KeyUsage(flags.fold(FlagSet::default(), |set, flag| set | flag))
    }

    pub(crate) fn extended_key_usage(self) -> Option<ExtendedKeyUsage> {
        self.profile()
            .extended_usage
            .map(|usage| ExtendedKeyUsage(vec![usage]))
    }

    pub(crate) fn basic_constraints(self) -> BasicConstraints {
        self.profile().ca.unwrap_or(BasicConstraints {
            ca: false,
            path_len_constraint: None,
        })
    }

    /// Whether an issuer in this role may certify a subject in that one.
    pub(crate) const fn may_certify(self, subject: Self) -> bool {
        match self {
            Self::RootCa => matches!(subject, Self::SubCa),
            Self::SubCa => !matches!(subject, Self::RootCa | Self::SubCa),
            _ => false,
        }
    }
}
