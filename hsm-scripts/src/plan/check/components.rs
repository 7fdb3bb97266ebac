//! Keys that come in components.

use std::collections::BTreeSet;

use hsm::{Kcv, KcvMethod};
use tr34::KeyKind;

use super::{Check, MASTER_KEY_PREFIX};
use crate::plan::{ComponentPlan, ComponentsPlan, Mode, load_component, raw};

const MIN_COMPONENTS: usize = 2;

impl<'a> Check<'a> {
    pub(super) fn components(
        &mut self,
        place: &str,
        act: &'a raw::ImportComponents,
    ) -> Option<ComponentsPlan> {
        let key = self.new_key(place, &act.token, &act.key);
        let name = act.key.strip_prefix(MASTER_KEY_PREFIX);
        if name.is_none_or(str::is_empty) {
            self.fault(place, "key: a master key's label is kn.NAME");
        }
        if act.components.len() < MIN_COMPONENTS {
            self.fault(place, "components: a key comes in two components or more");
        }
        let custodians: BTreeSet<_> = act.components.iter().map(|c| c.custodian.trim()).collect();
        if custodians.len() < act.components.len() {
            self.fault(place, "components: nobody holds two components of a key");
        }
        let files: Vec<_> = act
            .components
            .iter()
            .filter_map(|c| c.file.as_ref())
            .collect();
        if files.iter().collect::<BTreeSet<_>>().len() < files.len() {
            self.fault(place, "components: two of them come from the same file");
        }
        let Some(kind) = kind(&act.kind) else {
            self.fault(place, format!("kind: {:?} is no kind of key", act.kind));
            return None;
        };
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
        })
    }

    fn component(
        &mut self,
        place: &str,
        raw: &raw::Component,
        kind: KeyKind,
    ) -> Option<ComponentPlan> {
        let place = format!("{place}: component of {:?}", raw.custodian);
        self.plain_text(&place, &raw.custodian);
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
            file: raw.file.as_ref().map(|file| self.folder.join(file)),
            kcv,
        })
    }
}

fn kind(name: &str) -> Option<KeyKind> {
    [
        KeyKind::Tdea2,
        KeyKind::Tdea3,
        KeyKind::Aes128,
        KeyKind::Aes192,
        KeyKind::Aes256,
    ]
    .into_iter()
    .find(|kind| kind.name() == name)
}
