//! In which of TR-34's forms devices speak: chosen for each model.

use std::collections::BTreeMap;

use tr34::Profile;

/// The forms of the models that do not speak the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// Of these models.
    pub(crate) const fn new(by_model: BTreeMap<String, Profile>) -> Self {
        Self(by_model)
    }

    /// Of a model's tokens, both ways.
    pub fn of(&self, model: &str) -> Profile {
        self.0.get(model).copied().unwrap_or_default()
    }

    /// Every form that some device may speak.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = Profile> {
        let others = self.0.values().copied();
        let used = move |profile: &Profile| {
            *profile == Profile::default() || others.clone().any(|other| other == *profile)
        };
        Profile::ALL.into_iter().filter(used)
    }
}
