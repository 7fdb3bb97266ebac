//! How much of something each may have at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Shares of what many want, so that one of them cannot take all. Clones count together.
#[derive(Clone, Debug)]
pub struct Shares<K> {
    limit: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// One of its owner's share. It is given back when this is dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    owner: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Each may have so many at the same time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Arc::default(),
        }
    }

    /// Takes one for this owner; none if all of the owner's share is taken.
    #[must_use]
    pub fn take(&self, owner: K) -> Option<Share<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&owner).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        taken.insert(owner.clone(), count + 1);
        Some(Share {
            owner,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_share_and_gives_it_back() {
        let shares = Shares::new(2);
        let first = shares.take("here");
        let second = shares.take("here");
        assert!(first.is_some() && second.is_some());
        assert!(shares.take("here").is_none());
        assert!(shares.take("there").is_some());
        drop(first);
        assert!(shares.clone().take("here").is_some());
        drop(second);
        assert!(shares.taken.lock().is_ok_and(|taken| taken.is_empty()));
        assert!(Shares::new(0).take("here").is_none());
        assert!(shares.taken.lock().is_ok_and(|taken| taken.is_empty()));
    }
}
