//! When a certificate is renewed, and how worried to be about one that was not.

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::certificate;
use crate::error::PkiError;

/// Share of the life that is left when the alarm is raised.
const ALARM_SHARE: f64 = 0.2;

/// The part of a certificate's life, counted from its end, in which it is renewed
/// (`clientTlsSecretRotationGracePeriodRatio`): 0.3 of a year is the last 110 days.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct GraceRatio(f64);

impl GraceRatio {
    /// Checks a ratio.
    ///
    /// # Errors
    /// [`PkiError::Setting`] unless it lies strictly between 0 and 1.
    pub fn new(ratio: f64) -> Result<Self, PkiError> {
        if ratio > 0.0 && ratio < 1.0 {
            return Ok(Self(ratio));
        }
        Err(PkiError::Setting {
            setting: "clientTlsSecretRotationGracePeriodRatio",
            found: ratio.to_string(),
            expected: "a number between 0 and 1, both excluded",
        })
    }
}

impl Default for GraceRatio {
    /// 0.3, not the 0.1 that is usual elsewhere: renewal has to start well before the alarm at 20 % of life left, so that
    /// the alarm means that renewals fail.
    fn default() -> Self {
        Self(0.3)
    }
}

/// The time in which a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before: Timestamp,
    /// Last instant.
    pub not_after: Timestamp,
}

/// How much of a certificate's life is left, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiryState {
    /// Nothing to do.
    Ok,
    /// Inside the grace period: renew.
    RenewDue,
    /// At most a fifth of the life is left: renew, and tell somebody, because by now it should have been done.
    LastFifth,
    /// Past its end.
    Expired,
}

impl ExpiryState {
    /// The state as a metric label and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RenewDue => "renew-due",
            Self::LastFifth => "last-fifth",
            Self::Expired => "expired",
        }
    }
}

impl Validity {
    /// Reads the validity of a DER certificate.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when it does not parse.
    pub fn of(certificate: &CertificateDer<'_>, origin: &str) -> Result<Self, PkiError> {
        Ok(Self::of_parsed(&certificate::parse_x509(certificate, origin)?))
    }

    pub(crate) fn of_parsed(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Self {
        // The last second of the year 9999, which means "no end", is a day beyond what a timestamp holds.
        let time = |seconds| {
            Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
        };
        let validity = certificate.validity();
        Self { not_before: time(validity.not_before.timestamp()), not_after: time(validity.not_after.timestamp()) }
    }

    /// When renewal starts.
    pub fn renew_at(&self, ratio: GraceRatio) -> Timestamp {
        self.with_left(ratio.0)
    }

    /// Whether renewal should have started by `now`.
    pub fn renewal_due(&self, ratio: GraceRatio, now: Timestamp) -> bool {
        now >= self.renew_at(ratio)
    }

    /// The state at `now`. With a ratio below a fifth, [`ExpiryState::LastFifth`] comes before renewal is due; ask
    /// [`Validity::renewal_due`] to decide about renewing.
    pub fn state(&self, ratio: GraceRatio, now: Timestamp) -> ExpiryState {
        if now > self.not_after {
            ExpiryState::Expired
        } else if now >= self.with_left(ALARM_SHARE) {
            ExpiryState::LastFifth
        } else if self.renewal_due(ratio, now) {
            ExpiryState::RenewDue
        } else {
            ExpiryState::Ok
        }
    }

    /// The instant at which this share of the life is left; the end itself for a validity that runs backwards.
    fn with_left(&self, share: f64) -> Timestamp {
        let life = self.not_after.as_second().saturating_sub(self.not_before.as_second()).max(0);
        // Whole seconds suffice: certificates carry no fractions, and 2^53 seconds are beyond any date.
        let left = SignedDuration::from_secs((life as f64 * share) as i64);
        self.not_after.checked_sub(left).unwrap_or(self.not_before)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;

    fn year() -> Validity {
        let start = 1_700_000_000;
        Validity {
            not_before: Timestamp::from_second(start).unwrap(),
            not_after: Timestamp::from_second(start + 365 * DAY).unwrap(),
        }
    }

    fn day(n: i64) -> Timestamp {
        year().not_before + SignedDuration::from_secs(n * DAY)
    }

    #[test]
    fn a_year_passes_through_all_states() {
        let ratio = GraceRatio::default();
        let states = [0, 255, 256, 291, 292, 365, 366].map(|n| year().state(ratio, day(n)));
        use ExpiryState::*;
        assert_eq!(states, [Ok, Ok, RenewDue, RenewDue, LastFifth, LastFifth, Expired]);
        assert!(year().renewal_due(ratio, day(256)));
    }

    #[test]
    fn a_ratio_of_a_tenth_starts_36_and_a_half_days_before_the_end() {
        let ratio = GraceRatio::new(0.1).unwrap();
        assert_eq!(year().renew_at(ratio), year().not_after - SignedDuration::from_secs(36 * DAY + DAY / 2));
        assert!(!year().renewal_due(ratio, day(300)));
        assert_eq!(year().state(ratio, day(300)), ExpiryState::LastFifth);
    }

    #[test]
    fn a_ratio_outside_its_range_is_refused() {
        for bad in [0.0, 1.0, -0.1, 2.0, f64::NAN, f64::INFINITY] {
            assert_eq!(GraceRatio::new(bad).unwrap_err().code(), "MR0313");
        }
    }

    proptest! {
        #[test]
        fn states_never_go_back(start in -10_000_000_000i64..10_000_000_000, life in 0i64..1_000_000_000,
                                ratio in 0.001f64..0.999, mut at in prop::collection::vec(-100i64..1_100_000_000, 2..20)) {
            let validity = Validity {
                not_before: Timestamp::from_second(start).unwrap(),
                not_after: Timestamp::from_second(start + life).unwrap(),
            };
            let ratio = GraceRatio::new(ratio).unwrap();
            at.sort_unstable();
            let states: Vec<_> =
                at.iter().map(|s| validity.state(ratio, Timestamp::from_second(start + s).unwrap())).collect();
            prop_assert!(states.is_sorted(), "{states:?}");
            prop_assert!(validity.renew_at(ratio) >= validity.not_before && validity.renew_at(ratio) <= validity.not_after);
        }
    }
}
