//! Revocation lists.

use std::{collections::BTreeSet, path::Path};

use pki::{Crl, CrlNumber, RevocationReason, RevokedCertificate, Role, SerialNumber};

use super::Check;
use crate::{
    CeremonyError,
    plan::{CrlPlan, IssuerCertificate, IssuerPlan, raw},
};

const FIRST: CrlNumber = CrlNumber(1);

impl<'a> Check<'a> {
    pub(super) fn crl(&mut self, place: &str, act: &'a raw::Crl) -> Option<CrlPlan> {
        let issuer = self.issuer_plan(place, &act.issuer, &[Role::RootCa, Role::SubCa]);
        if !self.lists.insert((&act.issuer.token, &act.issuer.key)) {
            self.fault(place, "a CA issues one list in a ceremony");
        }
        if !(1..=400).contains(&act.days) {
            self.fault(place, "days: a revocation list is good for 1 to 400 days");
        }
        let revoked: Vec<_> = act
            .revoked
            .iter()
            .filter_map(|entry| self.revoked(place, entry))
            .collect();
        let serials: BTreeSet<_> = revoked.iter().map(|entry| &entry.serial).collect();
        if serials.len() < revoked.len() {
            self.fault(place, "revoked: a serial number is listed twice");
        }
        let number = CrlNumber(act.number);
        if number < FIRST {
            self.fault(place, "number: begins with 1");
        }
        match &act.previous {
            Some(previous) => {
                let issuer = issuer.as_ref()?;
                self.previous(place, previous, issuer, number, &serials);
            }
            None if number > FIRST => self.fault(
                place,
                "previous: every list but the first names the one before",
            ),
            None => {}
        }
        self.new_file(&format!("{place}: file"), &act.file);
        Some(CrlPlan {
            issuer: issuer?,
            number,
            next_update: self.now + time::Duration::days(act.days.into()),
            revoked,
            file: act.file.clone(),
        })
    }

    fn revoked(&mut self, place: &str, entry: &raw::Revoked) -> Option<RevokedCertificate> {
        if entry.at > self.now {
            let cause = format!("revoked: {} lies in the future", entry.at);
            self.fault(place, cause);
        }
        let serial = SerialNumber::from_hex(&entry.serial);
        let serial = self.sound(&format!("{place}: revoked: {:?}", entry.serial), serial)?;
        Some(RevokedCertificate {
            serial,
            at: entry.at,
            reason: entry.reason.map(|reason| match reason {
                raw::Reason::KeyCompromise => RevocationReason::KeyCompromise,
                raw::Reason::Superseded => RevocationReason::Superseded,
                raw::Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
            }),
        })
    }

    /// The list before is this CA's, its number is lower, and what it revoked stays revoked.
    fn previous(
        &mut self,
        place: &str,
        file: &Path,
        issuer: &IssuerPlan,
        number: CrlNumber,
        serials: &BTreeSet<&SerialNumber>,
    ) {
        let place = format!("{place}: previous");
        self.plain_path(&place, file);
        let Some(previous) = self.sound(&place, load_crl(&self.folder.join(file))) else {
            return;
        };
        let IssuerCertificate::Earlier(certificate) = &issuer.certificate else {
            self.fault(&place, "a CA that is made in this plan has no list before");
            return;
        };
        // It may be stale by now, so it is verified as of its own making.
        let verified = pki::verify_crl(previous.der(), certificate, previous.this_update(), None);
        let Some(verified) = self.sound(&place, verified) else {
            return;
        };
        if verified.number() >= number {
            let cause = format!(
                "has number {}; that of this list is higher",
                verified.number()
            );
            self.fault(&place, cause);
        }
        for serial in previous.revoked() {
            if !serials.contains(serial) {
                self.fault(
                    &place,
                    format!("revokes {serial}, which this list leaves out"),
                );
            }
        }
    }
}

fn load_crl(path: &Path) -> Result<Crl, CeremonyError> {
    let bytes = std::fs::read(path).map_err(|error| CeremonyError::file(path, error))?;
    Crl::from_pem_or_der(&bytes).map_err(|error| CeremonyError::file(path, error))
}
