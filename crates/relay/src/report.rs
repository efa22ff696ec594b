use meshrelay_snapshot::{ContentHash, ObjectKey};

use crate::refusal::shortened;

/// Most bytes of names and messages in one report, so that it is always smaller than a message may be.
const MAX_BYTES: usize = 256 * 1024;
/// Longest message of one object, bytes.
const MAX_MESSAGE: usize = 512;

/// What came of applying a version in a cluster. Objects of the version that are not listed are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyReport {
    /// The version.
    pub version: u64,
    /// Its digest.
    pub digest: ContentHash,
    /// Number of objects that are in place.
    pub applied: u64,
    /// Objects with another outcome.
    pub results: Vec<ObjectResult>,
    /// Number of further objects with another outcome, which did not fit.
    pub omitted: u64,
}

impl ApplyReport {
    /// A report; lists as many results as travel at once and counts the others.
    pub fn new(version: u64, digest: ContentHash, applied: u64, mut results: Vec<ObjectResult>) -> Self {
        let all = results.len();
        let mut bytes = 0;
        for result in &mut results {
            result.message = shortened(std::mem::take(&mut result.message), MAX_MESSAGE);
        }
        let fits = results.iter().take_while(|result| {
            bytes += result.bytes();
            bytes <= MAX_BYTES
        });
        let listed = fits.count();
        results.truncate(listed);
        let omitted = (all - listed) as u64;
        Self { version, digest, applied, results, omitted }
    }
}

/// One object that is not simply applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectResult {
    /// The object.
    pub key: ObjectKey,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, for a person.
    pub message: String,
}

impl ObjectResult {
    fn bytes(&self) -> usize {
        let ObjectKey { gvk, namespace, name } = &self.key;
        let parts = [&*gvk.group, &*gvk.version, &*gvk.kind, &**namespace, &**name, &*self.message];
        parts.iter().map(|part| part.len()).sum()
    }
}

/// What came of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster did not accept it.
    Failed,
    /// Its deletion is held back.
    Held,
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Gvk;

    use super::*;

    #[test]
    fn a_report_lists_what_fits_and_counts_the_rest() {
        let result = |at: usize| ObjectResult {
            key: ObjectKey::new(Gvk::new("networking.istio.io", "v1", "VirtualService"), "n", format!("name-{at}")),
            outcome: Outcome::Failed,
            message: "x".repeat(2_000),
        };
        let report = ApplyReport::new(1, ContentHash::default(), 7, (0..2_000).map(result).collect());
        assert_eq!(report.results.len() as u64 + report.omitted, 2_000);
        assert!(report.results.iter().map(ObjectResult::bytes).sum::<usize>() <= MAX_BYTES);
        assert!(report.results.len() > 400, "{}", report.results.len());
        let report = ApplyReport::new(1, ContentHash::default(), 7, vec![result(1)]);
        assert_eq!((report.results.len(), report.omitted), (1, 0));
    }
}
