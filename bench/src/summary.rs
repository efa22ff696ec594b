//! What is printed of many measured values.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

/// Measured times, in order of size.
#[derive(Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The smallest time that `share` (0 to 1) of all times do not exceed; zero without any.
    fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |share| self.quantile(share).as_secs_f64() * 1000.0;
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(milliseconds);
        let count = self.0.len();
        write!(f, "p50 {p50:8.1} ms  p90 {p90:8.1} ms  p99 {p99:8.1} ms  max {max:8.1} ms  n {count}")
    }
}

/// Writes one line of results.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        let quantiles = [0.5, 0.9, 0.99, 1.0].map(|share| times.quantile(share).as_millis());
        assert_eq!(quantiles, [100, 180, 198, 200]);
        assert_eq!(Times::new(Vec::new()).quantile(0.5), Duration::ZERO);
        assert_eq!(Times::new(vec![Duration::from_secs(1)]).quantile(0.0), Duration::from_secs(1));
    }
}
