//! A limit on registration attempts per source, so that nobody guesses tokens or keeps the server busy with signatures.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::error::PkiError;

/// Rate and memory of a [`RateLimiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Attempts at once from a source that was quiet.
    pub burst: u32,
    /// Time after which one more attempt is allowed.
    pub refill: SignedDuration,
    /// Sources that are told apart; further ones share one allowance.
    pub max_sources: usize,
}

impl Default for RateLimit {
    /// Ten at once, then one every six seconds: an agent's retries with backoff stay below. 4096 sources take about 0.5 MiB.
    fn default() -> Self {
        Self { burst: 10, refill: SignedDuration::from_secs(6), max_sources: 4096 }
    }
}

/// A source made more attempts than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many registration attempts from this address; try again in {} s (MR0334)", retry_after.as_secs().max(1))]
pub struct RateExceeded {
    /// When the next attempt would be allowed.
    pub retry_after: SignedDuration,
}

impl RateExceeded {
    /// The code of this refusal.
    pub fn code(&self) -> &'static str {
        "MR0334"
    }
}

/// Token buckets per source, bounded in number.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    sources: BTreeMap<IpAddr, Bucket>,
    /// Shared by the sources that found no room: many addresses do not buy more attempts.
    overflow: Bucket,
}

/// A bucket is known by the time at which it will be full: no counting, no drift.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Timestamp,
}

impl RateLimiter {
    /// An empty limiter.
    ///
    /// # Errors
    /// [`PkiError::Setting`] when burst, refill or the number of sources is not positive.
    pub fn new(limit: RateLimit) -> Result<Self, PkiError> {
        if limit.burst == 0 || limit.refill <= SignedDuration::ZERO || limit.max_sources == 0 {
            return Err(PkiError::Setting {
                setting: "registration rate limit",
                found: format!("burst {}, refill {}, sources {}", limit.burst, limit.refill, limit.max_sources),
                expected: "three positive values",
            });
        }
        Ok(Self { limit, sources: BTreeMap::new(), overflow: Bucket { full_at: Timestamp::MIN } })
    }

    /// Counts one attempt.
    ///
    /// # Errors
    /// [`RateExceeded`] when the source has used its allowance; such an attempt costs nothing further.
    pub fn check(&mut self, source: IpAddr, now: Timestamp) -> Result<(), RateExceeded> {
        let limit = self.limit;
        let source = network_of(source);
        if !self.sources.contains_key(&source) && self.sources.len() >= limit.max_sources {
            self.sources.retain(|_, bucket| bucket.full_at > now);
        }
        let room = self.sources.len() < limit.max_sources;
        match self.sources.get_mut(&source) {
            Some(bucket) => bucket.take(limit, now),
            None if room => self.sources.entry(source).or_insert(Bucket { full_at: now }).take(limit, now),
            None => self.overflow.take(limit, now),
        }
    }

    /// Takes an attempt back: it turned out to be somebody who may. All agents may come from one address, of a proxy or
    /// of the machine that everything runs on, and only guesses are to be limited.
    pub fn give_back(&mut self, source: IpAddr) {
        if let Some(bucket) = self.sources.get_mut(&network_of(source)) {
            bucket.full_at = bucket.full_at.checked_sub(self.limit.refill).unwrap_or(Timestamp::MIN);
        }
    }
}

impl Bucket {
    fn take(&mut self, limit: RateLimit, now: Timestamp) -> Result<(), RateExceeded> {
        let capacity = limit.refill.saturating_mul(i32::try_from(limit.burst).unwrap_or(i32::MAX));
        let horizon = now.checked_add(capacity).unwrap_or(Timestamp::MAX);
        // A clock that was set back must not lock a source out for longer than an empty bucket takes.
        let full_at = self.full_at.clamp(now, horizon);
        let next = full_at.checked_add(limit.refill).unwrap_or(Timestamp::MAX);
        if next > horizon {
            self.full_at = full_at;
            return Err(RateExceeded { retry_after: next.duration_since(horizon) });
        }
        self.full_at = next;
        Ok(())
    }
}

/// The unit that is limited: an IPv4 address, or the /64 network in which one host may choose its IPv6 address freely.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter(max_sources: usize) -> RateLimiter {
        RateLimiter::new(RateLimit { burst: 3, refill: SignedDuration::from_secs(10), max_sources }).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn ip(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn those_who_may_register_do_not_use_the_allowance_of_their_neighbours_up() {
        let mut limiter = limiter(10);
        for _ in 0..100 {
            limiter.check(ip(1), at(0)).unwrap();
            limiter.give_back(ip(1));
        }
        for _ in 0..3 {
            limiter.check(ip(1), at(0)).unwrap();
        }
        assert!(limiter.check(ip(1), at(0)).is_err(), "what is given back is not more than was taken");
    }

    #[test]
    fn a_burst_then_one_per_refill_per_source() {
        let mut limiter = limiter(10);
        for _ in 0..3 {
            limiter.check(ip(1), at(0)).unwrap();
        }
        assert_eq!(limiter.check(ip(1), at(4)).unwrap_err().retry_after, SignedDuration::from_secs(6));
        limiter.check(ip(2), at(4)).unwrap();
        limiter.check(ip(1), at(10)).unwrap();
        assert!(limiter.check(ip(1), at(10)).is_err());
        for _ in 0..3 {
            limiter.check(ip(1), at(1000)).unwrap();
        }
        assert!(limiter.check(ip(1), at(-100_000)).is_err(), "setting the clock back gives nothing");
        limiter.check(ip(1), at(-100_000 + 10)).unwrap();
    }

    #[test]
    fn many_sources_share_what_is_left_and_idle_ones_make_room() {
        let mut limiter = limiter(2);
        limiter.check(ip(1), at(0)).unwrap();
        limiter.check(ip(2), at(0)).unwrap();
        let passed = (3..=250).filter(|n| limiter.check(ip(*n), at(1)).is_ok()).count();
        assert_eq!(passed, 3, "all further sources together get one burst");
        limiter.check(ip(1), at(1)).unwrap();
        limiter.check(ip(3), at(100)).unwrap();
        assert!(limiter.sources.len() <= 2);
    }

    #[test]
    fn one_host_with_many_addresses_is_one_source() {
        let mut limiter = limiter(10);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 1..=3 {
            limiter.check(v6(&format!("2001:db8::{n}")), at(0)).unwrap();
        }
        assert!(limiter.check(v6("2001:db8::4"), at(0)).is_err());
        limiter.check(v6("2001:db8:0:1::4"), at(0)).unwrap();
        for _ in 0..3 {
            limiter.check(v6("::ffff:10.0.0.1"), at(0)).unwrap();
        }
        assert!(limiter.check(ip(1), at(0)).is_err(), "a mapped address is the IPv4 address");
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_refills(mut times in prop::collection::vec(0i64..500, 1..200)) {
            times.sort_unstable();
            let mut limiter = limiter(1);
            let passed: Vec<_> = times.iter().copied().filter(|t| limiter.check(ip(1), at(*t)).is_ok()).collect();
            for (n, start) in passed.iter().enumerate() {
                for (m, end) in passed.iter().enumerate().skip(n) {
                    prop_assert!((m - n + 1) as i64 <= 3 + (end - start) / 10);
                }
            }
        }
    }
}
