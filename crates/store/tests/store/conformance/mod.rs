//! What every adapter has to do. Each function is one test, over two replicas of one plane.

mod changes;
mod documents;
mod races;
mod replicas;
mod snapshots;

use std::any::Any;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_store::SnapshotStore;
use tokio::time::Instant;

pub(crate) use changes::*;
pub(crate) use documents::*;
pub(crate) use races::*;
pub(crate) use replicas::*;
pub(crate) use snapshots::*;

/// How many changes the feeds of the suite keep.
pub(crate) const FEED: usize = 50;

/// Longest wait for anything: far above what an idle machine needs, so that a busy one passes too.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two looks at what is waited for.
const STEP: Duration = Duration::from_millis(10);

/// Two replicas that share one empty plane, and what has to live as long as they do.
pub(crate) struct Plane {
    pub(crate) one: Arc<dyn SnapshotStore>,
    pub(crate) two: Arc<dyn SnapshotStore>,
    #[allow(dead_code, reason = "held, not used")]
    pub(crate) server: Box<dyn Any + Send + Sync>,
}

/// Looks until it finds what is waited for; until then `look` says what it found instead.
pub(crate) async fn wait_for<T>(what: impl Display, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(found) if Instant::now() >= end => panic!("waited in vain for {what}; found {found}"),
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}

/// Gives each case, by name, to a macro, such as [`each_a_test`].
macro_rules! cases {
    ($with:ident $(, $argument:tt)*) => {
        $with! {
            ($($argument),*)
            a_snapshot_comes_back_as_it_was_put
            versions_only_grow
            of_one_version_the_greater_digest_stays
            what_did_not_change_is_shared_with_the_base
            snapshots_of_all_shapes_replace_each_other
            a_removed_snapshot_leaves_nothing
            a_secret_is_refused_by_name
            snapshots_of_one_cluster_do_not_touch_each_other
            a_document_is_written_only_over_what_was_expected
            documents_can_have_any_name_and_be_large
            counters_in_one_document_lose_no_count
            live_state_goes_when_its_time_is_over
            a_lease_has_one_holder_at_a_time
            tokens_of_leases_grow
            the_feed_tells_what_others_changed
            a_wait_ends_with_a_change_or_with_its_time
            who_is_too_far_behind_catches_up
            two_writers_end_with_the_same
            followers_end_with_what_is_there
            readers_never_see_a_mix
        }
    };
}
pub(crate) use cases;

/// Makes each case a test of its own, over a plane that a function makes.
macro_rules! each_a_test {
    (($plane:tt) $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let plane = $plane().await;
                $crate::conformance::$name(&plane).await;
            }
        )*
    };
}
pub(crate) use each_a_test;

/// Runs all cases one after the other, over planes that a closure makes by their names.
macro_rules! one_after_the_other {
    (($plane:tt) $($name:ident)*) => {
        $(
            let plane = $plane(&stringify!($name).replace('_', "-")).await;
            $crate::conformance::$name(&plane).await;
        )*
    };
}
pub(crate) use one_after_the_other;
