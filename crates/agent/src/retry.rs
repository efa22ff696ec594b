//! When an output that could not be applied completely is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use meshrelay_cluster::{ApplyError, ApplyFailure};
use meshrelay_snapshot::ObjectKey;
use tokio::time::Instant;

/// The first pause: a full disk or a busy API server may be well again at once.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause: somebody who has made room does not wait long, and a log that repeats itself can be read.
const LONGEST: Duration = Duration::from_secs(60);

/// What failed last, and when it is tried again.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: BTreeMap<ObjectKey, ApplyError>,
    pause: Option<Duration>,
    at: Option<Instant>,
}

impl Retry {
    /// Takes note of how an attempt ended: what was not applied, and whether something else went wrong. Gives the failures that
    /// nobody was told of yet.
    pub(crate) fn attempted<'a>(
        &mut self,
        failed: &'a [ApplyFailure],
        otherwise: bool,
        now: Instant,
    ) -> Vec<&'a ApplyFailure> {
        let failures = failed.iter().map(|failure| (failure.key.clone(), failure.error.clone()));
        let before = std::mem::replace(&mut self.failures, failures.collect());
        let again = otherwise || failed.iter().any(|failure| may_pass(&failure.error));
        self.pause = again.then(|| self.pause.map_or(FIRST, |pause| pause.saturating_mul(2).min(LONGEST)));
        self.at = self.pause.and_then(|pause| now.checked_add(pause));
        failed.iter().filter(|failure| before.get(&failure.key) != self.failures.get(&failure.key)).collect()
    }

    /// When the output is to be tried again; `None` if there is no need.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }
}

/// Whether it is worth trying again what failed so. The others are wrong in themselves until there is another output.
fn may_pass(error: &ApplyError) -> bool {
    !matches!(error, ApplyError::TwoVersions { .. } | ApplyError::Malformed { .. })
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Gvk;

    use super::*;

    fn failure(name: &str, reason: &str) -> ApplyFailure {
        let key = ObjectKey::new(Gvk::new("", "v1", "ConfigMap"), "n", name);
        ApplyFailure { key, error: ApplyError::Failed { place: "a file".to_owned(), reason: reason.to_owned() } }
    }

    #[test]
    fn pauses_double_until_all_is_well_and_each_failure_is_told_once() {
        let start = Instant::now();
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for attempt in 0..9 {
            let failed = [failure("a", "full"), failure("b", if attempt < 2 { "full" } else { "broken" })];
            let told = retry.attempted(&failed, false, start).len();
            assert_eq!(told, [2, 0, 1, 0][attempt.min(3)], "attempt {attempt}");
            pauses.push(retry.at().unwrap().duration_since(start).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(retry.attempted(&[], false, start).is_empty() && retry.at().is_none());
        retry.attempted(&[], true, start);
        assert_eq!(retry.at(), Some(start + FIRST), "anew");
        let malformed =
            ApplyFailure { error: ApplyError::Malformed { reason: "a list".to_owned() }, ..failure("a", "") };
        assert_eq!((retry.attempted(&[malformed], false, start).len(), retry.at()), (1, None));
    }
}
