use std::collections::BTreeSet;

use crate::reads::{Changes, Key, Reads};

/// Who reads what: finds those that a change touches without a look at all the others.
///
/// Readers are numbers. Most are in a sorted list that is made anew now and then; what comes between is in a set. What a
/// reader does not read any longer is forgotten with the next list only, so a reader that is found may be untouched.
#[derive(Debug, Default)]
pub(super) struct Readers {
    sorted: Vec<(Key, u32)>,
    newer: BTreeSet<(Key, u32)>,
}

impl Readers {
    pub(super) fn add(&mut self, reader: u32, reads: &Reads) {
        self.newer.extend(reads.keys().iter().map(|key| (*key, reader)));
    }

    /// Readers that something may have changed for.
    pub(super) fn touched(&self, changes: &Changes) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for key in changes.keys() {
            let from = self.sorted.partition_point(|(other, _)| *other < key);
            let here = self.sorted[from..].iter().take_while(|(other, _)| *other == key);
            found.extend(here.map(|(_, reader)| *reader));
            found.extend(self.newer.range((key, 0)..=(key, u32::MAX)).map(|(_, reader)| *reader));
        }
        found
    }

    /// Whether so much came since the last list that a new one is worth its time.
    pub(super) fn is_old(&self) -> bool {
        self.newer.len() > self.sorted.len() / 8 + 1024
    }

    /// Makes the list anew from what all readers read.
    pub(super) fn rebuild<'a>(&mut self, all: impl Iterator<Item = (u32, &'a Reads)>) {
        self.newer.clear();
        self.sorted.clear();
        for (reader, reads) in all {
            self.sorted.extend(reads.keys().iter().map(|key| (*key, reader)));
        }
        self.sorted.sort_unstable();
        self.sorted.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::{Place, Thing, record, recorded};

    #[test]
    fn readers_are_found_before_and_after_a_new_list() {
        let place = Place::results("test");
        let thing = |number: &'static str| Thing::Kind(number);
        let reads = |number| recorded(|| record(place, thing(number))).1;
        let changed = |number| {
            let mut changes = Changes::default();
            changes.add(place, thing(number));
            changes
        };
        let (one, two) = (reads("1"), reads("2"));
        let mut readers = Readers::default();
        readers.rebuild([(1, &one)].into_iter());
        readers.add(2, &two);
        readers.add(3, &one);
        assert_eq!(readers.touched(&changed("1")), BTreeSet::from([1, 3]));
        assert_eq!(readers.touched(&changed("2")), BTreeSet::from([2]));
        assert_eq!(readers.touched(&changed("3")), BTreeSet::new());
        assert!(!readers.is_old());
        readers.rebuild([(2, &two), (3, &one)].into_iter());
        assert_eq!(readers.touched(&changed("1")), BTreeSet::from([3]));
    }
}
