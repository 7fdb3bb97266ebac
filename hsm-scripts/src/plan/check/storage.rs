//! Keys under which others lie outside of the HSM.

use hsm::{NameError, StorageNumber};

use super::Check;
use crate::plan::{KeyPlace, StoragePlan, raw};

impl<'a> Check<'a> {
    pub(super) fn storage_keys(
        &mut self,
        place: &str,
        act: &'a raw::StorageKeys,
    ) -> Option<StoragePlan> {
        let number = StorageNumber::new(act.number);
        let Some(number) = self.sound(&format!("{place}: number"), number) else {
            // Its fault is named, too.
            self.token(place, &act.token);
            return None;
        };
        let pair = self.sound(place, pair(&act.token, number))?;
        // Nobody makes the other one alone.
        self.new_key(place, &act.token, pair[0].key.label().to_owned())?;
        let before = StorageNumber::new(act.number - 1).ok();
        let before = before.map(|before| self::pair(&act.token, before));
        Some(StoragePlan {
            number,
            pair,
            before: self.sound(place, before.transpose())?,
        })
    }
}

/// The one that wraps, and the one that makes MACs.
fn pair(token: &str, number: StorageNumber) -> Result<[KeyPlace; 2], NameError> {
    let place = |key| KeyPlace {
        token: token.to_owned(),
        key,
    };
    Ok([number.key_name()?, number.mac_name()?].map(place))
}
