use std::time::Duration;

/// A lease as it is after somebody asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who has it.
    pub holder: String,
    /// Whether that is who asked.
    pub is_ours: bool,
    /// Grows with every change of holder, so that what a former holder still does can be told from the present one's.
    pub token: u64,
    /// For how long it holds, by the store's clock. Whoever asked should count from before the question.
    pub expires_in: Duration,
}
