//! Where the audit trail ends, and what is in doubt about it.
//!
//! Between the moment in which a commit is asked for and the one in which somebody is told that it is there, the database
//! may have it or not. Where nobody is told, the next writer that reads where the trail ends finds it out: there is no
//! other end than one that the host has left, and the records of each transaction follow on those before.

use kdh_proto::FIRST_PREVIOUS_HASH;

use super::{
    StoreError,
    memory::{Changes, Remembered},
};

/// The last record of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) hash: [u8; 32],
}

impl Head {
    /// Of a trail without records.
    pub(super) const NONE: Self = Self {
        sequence: 0,
        hash: FIRST_PREVIOUS_HASH,
    };
}

/// The records of a transaction, from the end of those before to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) behind: Head,
    pub(super) last: Head,
}

/// What is known of all commits.
pub(super) type Commits = Remembered<Known>;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where the trail ended for certain; none before it was followed or looked at.
    end: Option<Head>,
    /// Behind that, what the database may have. There are few.
    expected: Vec<(Records, Changes)>,
}

impl Known {
    /// From now on, the trail ends there.
    pub(super) fn learn(&mut self, end: Head) {
        *self = Self {
            end: Some(end),
            expected: Vec::new(),
        };
    }

    /// Where the trail ends for certain.
    pub(super) fn end(&self) -> Head {
        self.end.unwrap_or(Head::NONE)
    }

    /// Whether the database may have something or not.
    pub(super) const fn is_in_doubt(&self) -> bool {
        !self.expected.is_empty()
    }

    /// What is about to be committed: from now on, the database may have it or not.
    pub(super) fn expect(&mut self, records: Records, changes: Changes) {
        self.expected.push((records, changes));
    }

    /// All that may be so, given what is so for certain without what is expected, and what each transaction makes of it.
    /// The newest comes last.
    pub(super) fn possible<S>(&self, certain: S, then: impl Fn(&S, &Changes) -> S) -> Vec<S> {
        let mut possible = vec![(self.end(), certain)];
        for (records, changes) in &self.expected {
            let before = possible.iter().rfind(|(last, _)| *last == records.behind);
            if let Some((_, before)) = before {
                let then = then(before, changes);
                possible.push((records.last, then));
            }
        }
        possible.into_iter().map(|(_, then)| then).collect()
    }

    /// It has everything up to this record. Returns what is certain by that and was not before, in its order; what
    /// cannot be there any more is forgotten.
    pub(super) fn settle(&mut self, last: Head) -> Vec<Changes> {
        let mut there = Vec::new();
        let mut wanted = last;
        while let Some(place) = self.place_of(wanted) {
            let (records, changes) = self.expected.remove(place);
            wanted = records.behind;
            there.push(changes);
        }
        if !there.is_empty() {
            self.end = Some(last);
            // Where their first records would be, there are others.
            self.expected
                .retain(|(records, _)| records.behind.sequence >= last.sequence);
        }
        there.reverse();
        there
    }

    /// A writer has read that the trail ends there: nothing of others is uncommitted, if `alone`. Returns as
    /// [`Self::settle`] does.
    ///
    /// # Errors
    /// The host has not left it so.
    pub(super) fn find(&mut self, last: Head, alone: bool) -> Result<Vec<Changes>, StoreError> {
        let end = *self.end.get_or_insert(last);
        if last != end && self.place_of(last).is_none() {
            return Err(StoreError::ForeignTrail(end.sequence));
        }
        if !alone {
            return Ok(Vec::new());
        }
        let there = self.settle(last);
        self.expected.clear();
        Ok(there)
    }

    fn place_of(&self, last: Head) -> Option<usize> {
        let mut expected = self.expected.iter();
        expected.rposition(|(records, _)| records.last == last)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The record of this number, of one of several trails.
    const fn head(sequence: u64, trail: u8) -> Head {
        Head {
            sequence,
            hash: [trail; 32],
        }
    }

    /// Named by the position of an export.
    fn expect(known: &mut Known, behind: Head, last: Head, name: u64) {
        let changes = Changes {
            exports: vec![(String::new(), name)],
            ..Changes::default()
        };
        known.expect(Records { behind, last }, changes);
    }

    fn names(changes: &[Changes]) -> Vec<u64> {
        let exports = changes.iter().flat_map(|changes| &changes.exports);
        exports.map(|(_, name)| *name).collect()
    }

    /// All that the database may have.
    fn possible(known: &Known) -> Vec<Vec<u64>> {
        known.possible(Vec::new(), |before, changes| {
            let then = names(std::slice::from_ref(changes));
            [before.as_slice(), &then].concat()
        })
    }

    fn begun() -> Known {
        let mut known = Known::default();
        known.learn(head(5, 0));
        known
    }

    #[test]
    fn whoever_is_told_first_says_what_is_there_of_those_before() {
        let mut known = begun();
        expect(&mut known, head(5, 0), head(6, 0), 1);
        expect(&mut known, head(6, 0), head(8, 0), 2);
        expect(&mut known, head(8, 0), head(9, 0), 3);
        let all: [&[u64]; 4] = [&[], &[1], &[1, 2], &[1, 2, 3]];
        assert_eq!(possible(&known), all);
        assert_eq!(names(&known.settle(head(8, 0))), [1, 2]);
        assert_eq!(names(&known.settle(head(6, 0))), [0; 0], "told late");
        assert_eq!(possible(&known), [&[][..], &[3]]);
        assert_eq!(known.end(), head(8, 0));
    }

    #[test]
    fn of_two_in_one_place_the_one_that_is_there_counts() {
        let mut known = begun();
        expect(&mut known, head(5, 0), head(6, 0), 1);
        // It failed, behind the first one, which stays.
        expect(&mut known, head(6, 0), head(9, 1), 2);
        expect(&mut known, head(6, 0), head(7, 0), 3);
        let all: [&[u64]; 4] = [&[], &[1], &[1, 2], &[1, 3]];
        assert_eq!(possible(&known), all);
        assert_eq!(names(&known.settle(head(6, 0))), [1]);
        assert_eq!(possible(&known), [&[][..], &[2], &[3]]);
        assert_eq!(names(&known.settle(head(7, 0))), [3]);
        assert_eq!(possible(&known), [[0; 0]]);
    }

    #[test]
    fn the_end_that_is_read_says_what_has_become_of_all() {
        let doubtful = || {
            let mut known = begun();
            expect(&mut known, head(5, 0), head(6, 0), 1);
            expect(&mut known, head(6, 0), head(7, 0), 2);
            expect(&mut known, head(5, 0), head(6, 1), 3);
            known
        };
        for (last, there) in [
            (head(5, 0), &[][..]),
            (head(6, 0), &[1]),
            (head(7, 0), &[1, 2]),
            (head(6, 1), &[3]),
        ] {
            let mut known = doubtful();
            // Others' changes are not committed yet.
            assert_eq!(names(&known.find(last, false).unwrap()), [0; 0]);
            let all: [&[u64]; 4] = [&[], &[1], &[1, 2], &[3]];
            assert_eq!(possible(&known), all);
            assert_eq!(names(&known.find(last, true).unwrap()), there, "{last:?}");
            assert_eq!(possible(&known), [[0; 0]], "{last:?}");
            // It does not go back, nor over to another one.
            for other in [head(5, 0), head(6, 0), head(7, 0), head(6, 1)] {
                assert_eq!(known.find(other, true).is_ok(), other == last, "{other:?}");
            }
        }
    }

    #[test]
    fn no_end_is_taken_that_the_host_has_not_left() {
        for alone in [false, true] {
            let mut known = begun();
            expect(&mut known, head(5, 0), head(7, 0), 1);
            for foreign in [
                head(4, 0),
                head(5, 1),
                head(6, 0),
                head(7, 1),
                head(8, 0),
                head(1000, 0),
            ] {
                let refused = known.find(foreign, alone).unwrap_err();
                assert!(matches!(refused, StoreError::ForeignTrail(5)), "{refused}");
            }
            assert_eq!(possible(&known), [&[][..], &[1]]);
            known.find(head(5, 0), alone).unwrap();
        }
        // What was never followed is believed once.
        let mut known = Known::default();
        known.find(head(3, 0), true).unwrap();
        known.find(head(4, 0), true).unwrap_err();
    }
}
