//! Numbers that look random and repeat for a seed on every machine and for every version.

/// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>: good enough to choose edits, and short.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another one, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or_default()
    }

    /// One of some things; `None` when there are none.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let mut random = Random::new(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        let mut random = Random::new(1);
        let picked: Vec<usize> = (0..8).map(|_| random.below(10)).collect();
        let mut same = Random::new(1);
        assert_eq!(picked, (0..8).map(|_| same.below(10)).collect::<Vec<_>>());
        assert!(picked.iter().any(|number| *number != picked[0]));
        assert_eq!(random.pick::<u8>(&[]), None);
    }
}
