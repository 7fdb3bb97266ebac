//! CAs and credentials.

use std::{borrow::Cow, path::Path};

use pki::{Certificate, Name, Role, aligned_serial_length};
use time::OffsetDateTime;

use super::{Check, MadeCa};
use crate::{
    outputs::load_certificate,
    plan::{
        CaPlan, CredentialPlan, Holder, IssuerCertificate, IssuerPlan, KeyPlace, PairPlan, raw,
    },
};

/// Content bytes of a serial number whose length nobody else decides.
const SERIAL_LEN: usize = 16;
/// Key blocks that a KDH certificate must fit (see the decision records, number 1): Kn of these
/// lengths, a header of 16 characters, AES blocks.
const KN_LENGTHS: [usize; 2] = [16, 32];
/// And, where that can be had, a header that names the initial key too.
const HEADER_LENGTHS: [usize; 2] = [16, 48];
const BLOCK_LEN: usize = 16;
/// The label of the CA that certifies hosts, in the naming scheme of keys.
const CA_KDH: &str = "ca-kdh";
const MIN_CA_RSA_BITS: u16 = 3072;
const MIN_KDH_RSA_BITS: u16 = 2048;
const MIN_IMPORT_RSA_BITS: u16 = 3072;
const DAYS_PER_YEAR: i64 = 365;

/// An issuer, and until when it can issue.
struct Found {
    issuer: IssuerPlan,
    not_after: OffsetDateTime,
}

impl<'a> Check<'a> {
    pub(super) fn root_ca(&mut self, place: &str, act: &'a raw::RootCa) -> Option<CaPlan> {
        let key = self.new_key_pair(place, &act.token, &act.key);
        let subject = self.ca_subject(place, &act.subject);
        let rsa_bits = self.rsa(place, act.rsa_bits, MIN_CA_RSA_BITS);
        let not_after = self.years(place, act.years, None);
        let ca = key.zip(subject).map(|(place, subject)| CaPlan {
            place,
            issuer: None,
            subject,
            not_after,
            rsa_bits,
            certificate: act.certificate.clone(),
        });
        self.ca(place, ca, Role::RootCa, &act.certificate)
    }

    pub(super) fn sub_ca(&mut self, place: &str, act: &'a raw::SubCa) -> Option<CaPlan> {
        let issuer = self.issuer(place, &act.issuer, &[Role::RootCa]);
        let key = self.new_key_pair(place, &act.token, &act.key);
        let subject = self.ca_subject(place, &act.subject);
        if act.key == CA_KDH
            && let Some(subject) = &subject
        {
            self.kdh_serial_len(place, subject);
        }
        let rsa_bits = self.rsa(place, act.rsa_bits, MIN_CA_RSA_BITS);
        let not_after = self.years(place, act.years, issuer.as_ref());
        let ca = key.zip(subject).zip(issuer);
        let ca = ca.map(|((place, subject), found)| CaPlan {
            place,
            issuer: Some(found.issuer),
            subject,
            not_after,
            rsa_bits,
            certificate: act.certificate.clone(),
        });
        self.ca(place, ca, Role::SubCa, &act.certificate)
    }

    /// Keeps a CA for the acts behind this one; a faulty one too, so that its fault is named once.
    fn ca(
        &mut self,
        place: &str,
        ca: Option<CaPlan>,
        role: Role,
        certificate: &'a Path,
    ) -> Option<CaPlan> {
        self.new_file(&format!("{place}: certificate"), certificate);
        let made = ca.as_ref().map(|ca| MadeCa {
            place: ca.place.clone(),
            name: ca.subject.clone(),
            role,
            not_after: ca.not_after,
        });
        let mut others = self.cas.values().flatten();
        if let Some(made) = &made
            && others.any(|other| other.name == made.name)
        {
            self.fault(place, format!("subject: {} is another CA's", made.name));
        }
        self.cas.insert(certificate.to_owned(), made);
        ca
    }

    pub(super) fn kdh(&mut self, place: &str, act: &'a raw::Credential) -> Option<CredentialPlan> {
        let bits = act.rsa_bits.unwrap_or(MIN_KDH_RSA_BITS);
        let rsa_bits = self.rsa(place, bits, MIN_KDH_RSA_BITS);
        self.no_hosts(place, act);
        let mut plan = self.credential(place, act, Holder::Kdh { rsa_bits })?;
        plan.serial_len = self.kdh_serial_len(place, &plan.issuer.name)?;
        Some(plan)
    }

    pub(super) fn host_tls(
        &mut self,
        place: &str,
        act: &'a raw::Credential,
    ) -> Option<CredentialPlan> {
        self.no_rsa(place, act);
        let place_of_hosts = format!("{place}: hosts");
        if act.hosts.is_empty() {
            self.fault(&place_of_hosts, "a TLS server needs a name or an address");
        }
        for host in act.hosts.iter().filter(|host| !is_host(host)) {
            let cause = format!("{host:?} is neither a name nor an address");
            self.fault(&place_of_hosts, cause);
        }
        let hosts = act.hosts.clone();
        self.credential(place, act, Holder::TlsServer { hosts })
    }

    /// A credential with a P-256 key and no more than a name.
    pub(super) fn named(
        &mut self,
        place: &str,
        act: &'a raw::Credential,
        holder: Holder,
    ) -> Option<CredentialPlan> {
        self.no_rsa(place, act);
        self.no_hosts(place, act);
        self.credential(place, act, holder)
    }

    /// The host as a receiver of keys.
    pub(super) fn receiver(
        &mut self,
        place: &str,
        act: &'a raw::Credential,
    ) -> Option<CredentialPlan> {
        let bits = act.rsa_bits.unwrap_or(MIN_IMPORT_RSA_BITS);
        let rsa_bits = self.rsa(place, bits, MIN_IMPORT_RSA_BITS);
        self.no_hosts(place, act);
        self.credential(place, act, Holder::Receiver { rsa_bits })
    }

    pub(super) fn import_pair(
        &mut self,
        place: &str,
        act: &'a raw::ImportPair,
    ) -> Option<PairPlan> {
        let key = self.new_key_pair(place, &act.token, &act.key);
        let rsa_bits = self.rsa(place, act.rsa_bits, MIN_IMPORT_RSA_BITS);
        self.new_file(&format!("{place}: public-key"), &act.public_key);
        Some(PairPlan {
            place: key?,
            rsa_bits,
            public_key: act.public_key.clone(),
        })
    }

    fn credential(
        &mut self,
        place: &str,
        act: &'a raw::Credential,
        holder: Holder,
    ) -> Option<CredentialPlan> {
        let issuer = self.issuer(place, &act.issuer, &[Role::SubCa]);
        let key = self.new_key_pair(place, &act.token, &act.key);
        let place_of_name = format!("{place}: common-name");
        let is_plain = self.plain_text(&place_of_name, &act.common_name);
        let subject = issuer.as_ref().filter(|_| is_plain).and_then(|found| {
            let subject = holder.role().subject(&found.issuer.name, &act.common_name);
            self.sound(&place_of_name, subject)
        });
        let not_after = self.years(place, act.years, issuer.as_ref());
        self.new_file(&format!("{place}: certificate"), &act.certificate);
        Some(CredentialPlan {
            place: key?,
            issuer: issuer?.issuer,
            holder,
            subject: subject?,
            serial_len: SERIAL_LEN,
            not_after,
            certificate: act.certificate.clone(),
        })
    }

    fn no_rsa(&mut self, place: &str, act: &raw::Credential) {
        if act.rsa_bits.is_some() {
            self.fault(place, "rsa-bits: this key is a P-256 key");
        }
    }

    fn no_hosts(&mut self, place: &str, act: &raw::Credential) {
        if !act.hosts.is_empty() {
            self.fault(place, "hosts: are for a TLS server");
        }
    }

    fn ca_subject(&mut self, place: &str, subject: &str) -> Option<Name> {
        let place = format!("{place}: subject");
        if !self.plain_text(&place, subject) {
            return None;
        }
        let subject: Name = self.sound(&place, subject.parse())?;
        // An escape in it may stand for a character that is not plain.
        self.plain_text(&place, &subject.to_string())
            .then_some(subject)
    }

    /// How long a KDH certificate's serial number must be under this issuer.
    fn kdh_serial_len(&mut self, place: &str, issuer: &Name) -> Option<usize> {
        let aligned = |headers| aligned_serial_length(issuer, &KN_LENGTHS, headers, BLOCK_LEN);
        let len = aligned(&HEADER_LENGTHS).or_else(|| aligned(&HEADER_LENGTHS[..1]));
        if len.is_none() {
            self.fault(
                place,
                format!(
                    "no serial number length puts Kn on a block boundary under the issuer \
                     {issuer}: give that CA a longer or shorter name"
                ),
            );
        }
        len
    }

    /// An issuer in one of these roles: of an act before, or of an earlier ceremony.
    pub(super) fn issuer_plan(
        &mut self,
        place: &str,
        raw: &'a raw::Issuer,
        roles: &[Role],
    ) -> Option<IssuerPlan> {
        self.issuer(place, raw, roles).map(|found| found.issuer)
    }

    fn issuer(&mut self, place: &str, raw: &'a raw::Issuer, roles: &[Role]) -> Option<Found> {
        let place = format!("{place}: issuer");
        self.plain_path(&format!("{place}: certificate"), &raw.certificate);
        let key = self.key(&place, &raw.token, &raw.key)?;
        let found = if self.cas.contains_key(&raw.certificate) {
            self.made_here(&place, raw, key)?
        } else {
            self.earlier(&place, raw, key)?
        };
        if !roles.contains(&found.issuer.role) {
            self.fault(
                &place,
                format!("{} is not the kind of CA that does this", found.issuer.name),
            );
        }
        Some(found)
    }

    fn made_here(&mut self, place: &str, raw: &'a raw::Issuer, key: KeyPlace) -> Option<Found> {
        let ca = self.cas.get(&raw.certificate)?.as_ref()?;
        let found = Found {
            issuer: IssuerPlan {
                name: ca.name.clone(),
                role: ca.role,
                certificate: IssuerCertificate::MadeHere(raw.certificate.clone()),
                place: key,
            },
            not_after: ca.not_after,
        };
        if ca.place != found.issuer.place {
            let cause = format!("{} belongs to the {}", raw.certificate.display(), ca.place);
            self.fault(place, cause);
        }
        Some(found)
    }

    fn earlier(&mut self, place: &str, raw: &'a raw::Issuer, key: KeyPlace) -> Option<Found> {
        if self.later_files.contains(&*raw.certificate) {
            let cause = format!("{} is made by an act behind", raw.certificate.display());
            self.fault(place, cause);
            return None;
        }
        if self.keys.contains(&(&*raw.token, Cow::Borrowed(&*raw.key))) {
            let cause = format!(
                "{} is not the certificate of this key",
                raw.certificate.display()
            );
            self.fault(place, cause);
        }
        let loaded = load_certificate(&self.folder.join(&raw.certificate));
        let certificate = self.sound(place, loaded)?;
        let Some(role) = ca_role(&certificate) else {
            self.fault(place, format!("{} is no CA", certificate.subject()));
            return None;
        };
        // It is shown, though it does not stand in the plan.
        let name = certificate.subject().to_string();
        self.plain_text(&format!("{place}: certificate: subject"), &name);
        if !(certificate.not_before()..=certificate.not_after()).contains(&self.now) {
            self.fault(place, format!("{} is not valid now", certificate.subject()));
        }
        Some(Found {
            not_after: certificate.not_after(),
            issuer: IssuerPlan {
                place: key,
                name: certificate.subject().clone(),
                role,
                certificate: IssuerCertificate::Earlier(Box::new(certificate)),
            },
        })
    }

    /// The end of a validity, which is not behind the issuer's.
    fn years(&mut self, place: &str, years: u16, issuer: Option<&Found>) -> OffsetDateTime {
        if !(1..=30).contains(&years) {
            self.fault(place, "years: a certificate is good for 1 to 30 years");
        }
        let not_after = self.now + time::Duration::days(i64::from(years) * DAYS_PER_YEAR);
        if let Some(found) = issuer
            && not_after > found.not_after
        {
            let cause = format!(
                "years: the issuer is good until {} only",
                found.not_after.date()
            );
            self.fault(place, cause);
        }
        not_after
    }

    fn rsa(&mut self, place: &str, bits: u16, min: u16) -> usize {
        if !(min..=4096).contains(&bits) || !bits.is_multiple_of(1024) {
            self.fault(
                place,
                format!("rsa-bits: {bits} is not one of {min} to 4096, in steps of 1024"),
            );
        }
        bits.into()
    }
}

fn ca_role(certificate: &Certificate) -> Option<Role> {
    [Role::RootCa, Role::SubCa]
        .into_iter()
        .find(|role| role.verify(certificate).is_ok())
}

/// Whether it can stand in a certificate as what a TLS client looks for.
fn is_host(host: &str) -> bool {
    let is_name = !host.ends_with('.') && rustls_pki_types::DnsName::try_from(host).is_ok();
    is_name || host.parse::<std::net::IpAddr>().is_ok()
}
