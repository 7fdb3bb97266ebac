//! Keys that come or go in components.

use std::collections::BTreeSet;

use hsm::{Kcv, KcvMethod, KeyRole};
use time::Duration;
use tr34::KeyKind;

use super::{Check, are_different_people};
use crate::plan::{
    ComponentPlan, ComponentsPlan, Custody, GiveOutPlan, KeyPlace, Mode, load_component, raw,
};

const MIN_COMPONENTS: usize = 2;
const MAX_COMPONENTS: usize = 5;
/// Three days: custodians who travel.
const DEFAULT_EXPIRES_HOURS: u32 = 72;
/// Thirty days.
const MAX_EXPIRES_HOURS: u32 = 720;

impl<'a> Check<'a> {
    pub(super) fn components(
        &mut self,
        place: &str,
        act: &'a raw::ImportComponents,
    ) -> Option<ComponentsPlan> {
        let key = self.secret_key(place, &act.token, &act.key);
        let custodians = act.components.iter().map(|c| &*c.custodian);
        self.custodians(place, &custodians.collect::<Vec<_>>());
        let files: Vec<_> = act
            .components
            .iter()
            .filter_map(|c| c.file.as_ref())
            .collect();
        if files.iter().collect::<BTreeSet<_>>().len() < files.len() {
            self.fault(place, "components: two of them come from the same file");
        }
        let kept_for = self.sittings(place, act);
        let kind = self.secret_kind(place, &act.key, &act.kind)?;
        let kcv = Kcv::parse(KcvMethod::for_key(kind), &act.kcv);
        let kcv = self.sound(&format!("{place}: kcv"), kcv);
        let components = act
            .components
            .iter()
            .filter_map(|component| self.component(place, component, kind))
            .collect();
        Some(ComponentsPlan {
            place: key?,
            kind,
            kcv: kcv?,
            components,
            kept_for,
            custody: act.custody.into(),
        })
    }

    pub(super) fn give_out(
        &mut self,
        place: &str,
        act: &'a raw::GiveOutComponents,
    ) -> Option<GiveOutPlan> {
        let key = self.secret_key(place, &act.token, &act.key);
        let custodians: Vec<_> = act.components.iter().map(|c| &*c.custodian).collect();
        self.custodians(place, &custodians);
        for custodian in &custodians {
            self.plain_text(&format!("{place}: component of {custodian:?}"), custodian);
        }
        if self.unattended {
            self.fault(place, "nobody is there to be shown a component");
        }
        let kind = self.secret_kind(place, &act.key, &act.kind)?;
        Some(GiveOutPlan {
            place: key?,
            kind,
            custodians: custodians.into_iter().map(str::to_owned).collect(),
            custody: act.custody.into(),
        })
    }

    /// A master key, or one that others arrive under.
    fn secret_key(&mut self, place: &str, token: &'a str, label: &'a str) -> Option<KeyPlace> {
        let key = self.new_key(place, token, label);
        let roles = KeyRole::SECRET.into_iter();
        let mut names = roles.filter_map(|role| label.strip_prefix(role.label_prefix()));
        if names.next().is_none_or(str::is_empty) {
            self.fault(
                place,
                "key: a master key's label is kn.NAME, a ZMK's zmk.NAME, that of a key block protection \
                 key kbpk.NAME, a BDK's bdk.NAME; of the keys for export zmkx.NAME, kbpkx.NAME and zmac.NAME",
            );
        }
        key
    }

    fn secret_kind(&mut self, place: &str, label: &str, name: &str) -> Option<KeyKind> {
        let kind = self.kind(place, name)?;
        let is_tdea = matches!(kind, KeyKind::Tdea2 | KeyKind::Tdea3);
        let may_be_tdea = [KeyRole::TransportKey, KeyRole::Bdk].map(KeyRole::label_prefix);
        if is_tdea && !may_be_tdea.iter().any(|prefix| label.starts_with(prefix)) {
            self.fault(place, "kind: a key over others is an AES key");
        }
        Some(kind)
    }

    fn custodians(&mut self, place: &str, custodians: &[&str]) {
        if !(MIN_COMPONENTS..=MAX_COMPONENTS).contains(&custodians.len()) {
            self.fault(place, "components: a key comes in two to five components");
        }
        if !are_different_people(custodians) {
            self.fault(place, "components: nobody holds two components of a key");
        }
    }

    pub(super) fn kind(&mut self, place: &str, name: &str) -> Option<KeyKind> {
        let kind = KeyKind::from_name(name);
        if kind.is_none() {
            self.fault(place, format!("kind: {name:?} is no kind of key"));
        }
        kind
    }

    /// How long the partial sum is kept.
    fn sittings(&mut self, place: &str, act: &raw::ImportComponents) -> Duration {
        let mut last = 0;
        for component in &act.components {
            let follows = component.sitting == last || component.sitting == last + 1;
            if !follows || component.sitting == 0 {
                let rule = "sitting: components stand in the order of their sittings, which count \
                            from 1 without a gap";
                self.fault(place, rule);
                break;
            }
            last = component.sitting;
        }
        let hours = act.expires_hours.unwrap_or(DEFAULT_EXPIRES_HOURS);
        if act.expires_hours.is_some() && last == 1 {
            self.fault(
                place,
                "expires-hours: nothing is kept after a single sitting",
            );
        }
        if !(1..=MAX_EXPIRES_HOURS).contains(&hours) {
            let rule = format!("expires-hours: is 1 to {MAX_EXPIRES_HOURS}, not {hours}");
            self.fault(place, rule);
        }
        Duration::hours(hours.into())
    }

    fn component(
        &mut self,
        place: &str,
        raw: &raw::Component,
        kind: KeyKind,
    ) -> Option<ComponentPlan> {
        let place = format!("{place}: component of {:?}", raw.custodian);
        if self.plain_text(&place, &raw.custodian) {
            self.person(&place, &raw.custodian);
        }
        let kcv = match &raw.kcv {
            Some(kcv) => {
                let place = format!("{place}: kcv");
                let kcv = Kcv::parse(KcvMethod::for_key(kind), kcv);
                let kcv = self.sound(&place, kcv)?;
                if kcv.value().len() != Kcv::LEN {
                    self.fault(&place, "of a component it has 3 bytes");
                }
                Some(kcv)
            }
            None => None,
        };
        if let Some(file) = &raw.file {
            self.plain_path(&format!("{place}: file"), file);
        }
        match &raw.file {
            None if self.unattended => {
                self.fault(&place, "nobody is there to type it; name its file");
            }
            Some(_) if kcv.is_none() => {
                self.fault(&place, "a component from a file needs its kcv");
            }
            // A rehearsal never looks at a real component.
            Some(file) if self.mode == Mode::Real => {
                self.sound(&place, load_component(&self.folder.join(file), kind));
            }
            None | Some(_) => {}
        }
        Some(ComponentPlan {
            custodian: raw.custodian.clone(),
            sitting: raw.sitting,
            file: raw.file.as_ref().map(|file| self.folder.join(file)),
            kcv,
        })
    }
}

impl From<raw::Custody> for Custody {
    fn from(custody: raw::Custody) -> Self {
        match custody {
            raw::Custody::Recorded => Self::Recorded,
            raw::Custody::Unrecorded => Self::Unrecorded,
        }
    }
}
