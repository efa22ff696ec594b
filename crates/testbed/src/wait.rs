use std::fmt::Display;
use std::time::{Duration, Instant};

/// Longest wait for anything: far above what an idle machine needs, so that a busy one passes too.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two looks at what is waited for.
pub const STEP: Duration = Duration::from_millis(10);

/// Looks until it finds what is waited for; until then `look` says what it found instead.
pub fn wait_for<T>(what: impl Display, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(found) if Instant::now() >= end => panic!("waited in vain for {what}; found {found}"),
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
