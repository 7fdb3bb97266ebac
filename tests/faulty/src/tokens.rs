//! Which session is with which slot, and what is wrong with the tokens in them. No PKCS#11 here.

use std::collections::{BTreeMap, BTreeSet};

use cryptoki_sys::{
    CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT,
};

use crate::functions::{Function, Subject};

/// The sessions, and the tokens that are not as they should be.
pub(crate) struct Tokens {
    /// Sessions of a removed token stay here until it is back, to be told from those that never were.
    sessions: BTreeMap<CK_SESSION_HANDLE, CK_SLOT_ID>,
    /// By label.
    troubled: BTreeMap<String, Trouble>,
}

#[derive(Default)]
struct Trouble {
    /// None if no slot has the token any more.
    slot: Option<CK_SLOT_ID>,
    removed: bool,
    failing: Option<CK_RV>,
}

impl Tokens {
    pub(crate) const fn new() -> Self {
        Self {
            sessions: BTreeMap::new(),
            troubled: BTreeMap::new(),
        }
    }

    /// Lets a call through if what it is about is there and well.
    ///
    /// # Errors
    /// What it has to return instead.
    pub(crate) fn pass(&self, function: Function, subject: Subject) -> Result<(), CK_RV> {
        match subject {
            Subject::Session(session) => {
                let slot = self.sessions.get(&session);
                match slot.and_then(|slot| self.trouble(*slot)) {
                    Some(Trouble { removed: true, .. }) => Err(CKR_DEVICE_REMOVED),
                    Some(trouble) => trouble.failing.map_or(Ok(()), Err),
                    None => Ok(()),
                }
            }
            Subject::Slot(slot) => match self.trouble(slot) {
                // The slot is there, and says itself that it is empty.
                _ if function == Function::C_GetSlotInfo => Ok(()),
                Some(Trouble { removed: true, .. }) => Err(CKR_TOKEN_NOT_PRESENT),
                Some(trouble) if function == Function::C_OpenSession => {
                    trouble.failing.map_or(Ok(()), Err)
                }
                _ => Ok(()),
            },
            Subject::Module => Ok(()),
        }
    }

    pub(crate) fn opened(&mut self, session: CK_SESSION_HANDLE, slot: CK_SLOT_ID) {
        self.sessions.insert(session, slot);
    }

    pub(crate) fn slot_of(&self, session: CK_SESSION_HANDLE) -> Option<CK_SLOT_ID> {
        self.sessions.get(&session).copied()
    }

    pub(crate) fn closed(&mut self, session: CK_SESSION_HANDLE) {
        self.sessions.remove(&session);
    }

    pub(crate) fn closed_all(&mut self, slot: CK_SLOT_ID) {
        self.sessions.retain(|_, of| *of != slot);
    }

    /// After `C_Finalize`, which ends all sessions and mends no token.
    pub(crate) fn finalized(&mut self) {
        self.sessions.clear();
    }

    /// The labels of the tokens that are not as they should be.
    pub(crate) fn troubled(&self) -> Vec<String> {
        self.troubled.keys().cloned().collect()
    }

    /// Such a token is in this slot now.
    pub(crate) fn locate(&mut self, label: &str, slot: Option<CK_SLOT_ID>) {
        if let Some(trouble) = self.troubled.get_mut(label) {
            trouble.slot = slot;
        }
    }

    /// The slots with sessions that can be lost: those of removed tokens are already.
    pub(crate) fn slots_with_sessions(&self) -> BTreeSet<CK_SLOT_ID> {
        let slots = self.sessions.values().copied();
        slots.filter(|slot| !self.is_removed(*slot)).collect()
    }

    pub(crate) fn are_all_there(&self) -> bool {
        !self.troubled.values().any(|trouble| trouble.removed)
    }

    pub(crate) fn is_removed(&self, slot: CK_SLOT_ID) -> bool {
        self.trouble(slot).is_some_and(|trouble| trouble.removed)
    }

    pub(crate) fn remove(&mut self, label: &str, slot: CK_SLOT_ID) {
        self.trouble_mut(label, slot).removed = true;
    }

    /// # Errors
    /// It was not removed.
    pub(crate) fn insert(&mut self, label: &str) -> Result<(), String> {
        let trouble = self.troubled.get_mut(label);
        let Some(trouble) = trouble.filter(|trouble| trouble.removed) else {
            return Err(format!("{label:?} is not removed"));
        };
        trouble.removed = false;
        if let Some(slot) = trouble.slot {
            self.closed_all(slot);
        }
        self.forget_the_well();
        Ok(())
    }

    pub(crate) fn fail(&mut self, label: &str, slot: CK_SLOT_ID, code: CK_RV) {
        self.trouble_mut(label, slot).failing = Some(code);
    }

    /// # Errors
    /// It does not fail.
    pub(crate) fn heal(&mut self, label: &str) -> Result<(), String> {
        let trouble = self.troubled.get_mut(label);
        let healed = trouble.and_then(|trouble| trouble.failing.take());
        self.forget_the_well();
        healed
            .map(|_| ())
            .ok_or_else(|| format!("{label:?} does not fail"))
    }

    pub(crate) fn clear(&mut self) {
        for trouble in std::mem::take(&mut self.troubled).into_values() {
            if let (true, Some(slot)) = (trouble.removed, trouble.slot) {
                self.closed_all(slot);
            }
        }
    }

    fn trouble(&self, slot: CK_SLOT_ID) -> Option<&Trouble> {
        let mut all = self.troubled.values();
        all.find(|trouble| trouble.slot == Some(slot))
    }

    fn trouble_mut(&mut self, label: &str, slot: CK_SLOT_ID) -> &mut Trouble {
        let trouble = self.troubled.entry(label.to_owned()).or_default();
        trouble.slot = Some(slot);
        trouble
    }

    fn forget_the_well(&mut self) {
        self.troubled
            .retain(|_, trouble| trouble.removed || trouble.failing.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: (Subject, Subject) = (Subject::Slot(1), Subject::Session(11));
    const OTHER: (Subject, Subject) = (Subject::Slot(2), Subject::Session(22));

    fn tokens() -> Tokens {
        let mut tokens = Tokens::new();
        tokens.opened(11, 1);
        tokens.opened(22, 2);
        tokens
    }

    /// What `C_OpenSession`, `C_GetTokenInfo` and `C_Sign` return, if anything.
    fn codes(tokens: &Tokens, (slot, session): (Subject, Subject)) -> [Option<CK_RV>; 3] {
        [
            tokens.pass(Function::C_OpenSession, slot).err(),
            tokens.pass(Function::C_GetTokenInfo, slot).err(),
            tokens.pass(Function::C_Sign, session).err(),
        ]
    }

    const WELL: [Option<CK_RV>; 3] = [None; 3];
    const GONE: [Option<CK_RV>; 3] = [
        Some(CKR_TOKEN_NOT_PRESENT),
        Some(CKR_TOKEN_NOT_PRESENT),
        Some(CKR_DEVICE_REMOVED),
    ];

    #[test]
    fn a_removed_token_is_gone_until_it_is_inserted() {
        let mut tokens = tokens();
        tokens.remove("ours", 1);
        assert_eq!(codes(&tokens, OURS), GONE);
        assert_eq!(codes(&tokens, OTHER), WELL);
        assert_eq!(tokens.pass(Function::C_GetSlotInfo, OURS.0), Ok(()));
        assert_eq!(tokens.pass(Function::C_GetInfo, Subject::Module), Ok(()));
        assert_eq!(tokens.slots_with_sessions(), [2].into());
        assert!(tokens.insert("other").is_err());
        tokens.insert("ours").unwrap();
        assert_eq!(codes(&tokens, OURS), WELL);
        assert!(
            !tokens.sessions.contains_key(&11),
            "the real one refuses it"
        );
        assert!(tokens.insert("ours").is_err());
    }

    #[test]
    fn a_failing_token_fails_sessions_and_their_opening() {
        let mut tokens = tokens();
        tokens.fail("ours", 1, 0x30);
        assert_eq!(codes(&tokens, OURS), [Some(0x30), None, Some(0x30)]);
        assert_eq!(codes(&tokens, OTHER), WELL);
        tokens.remove("ours", 1);
        assert_eq!(codes(&tokens, OURS), GONE);
        tokens.insert("ours").unwrap();
        tokens.opened(12, 1);
        assert_eq!(
            tokens.pass(Function::C_Sign, Subject::Session(12)),
            Err(0x30)
        );
        tokens.heal("ours").unwrap();
        assert_eq!(codes(&tokens, OURS), WELL);
        assert!(tokens.heal("ours").is_err());
    }

    #[test]
    fn initializing_anew_mends_nothing() {
        let mut tokens = tokens();
        tokens.remove("ours", 1);
        tokens.finalized();
        assert_eq!(tokens.troubled(), ["ours"]);
        tokens.locate("ours", Some(3));
        assert!(tokens.is_removed(3) && !tokens.is_removed(1));
        tokens.clear();
        assert!(tokens.are_all_there());
    }
}
