use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Waits between attempts to connect: doubling, with jitter, so that the agents of a fleet do not return at one
/// moment after their server restarts.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
    random: StdRng,
}

impl Backoff {
    /// Waits from `first` up to `longest`; the same seed gives the same waits.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, attempts: 0, random: StdRng::seed_from_u64(seed) }
    }

    /// How long to wait before the next attempt: between a half and the whole of the doubled time.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        whole.mul_f64(self.random.random_range(0.5..=1.0))
    }

    /// Starts anew after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_up_to_the_longest() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, longest, 7);
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait()).collect();
        for (attempt, wait) in waits.iter().enumerate() {
            let whole = first.saturating_mul(1 << attempt.min(20)).min(longest);
            assert!(*wait >= whole / 2 && *wait <= whole, "attempt {attempt}: {wait:?}");
        }
        assert_ne!(waits[38], waits[39], "there is jitter");
        backoff.reset();
        assert!(backoff.next_wait() <= first);
        let mut again = Backoff::new(first, longest, 7);
        assert_eq!(again.next_wait(), waits[0], "the seed decides");
    }
}
