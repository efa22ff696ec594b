//! What keeps deletions from being carried out, between two outputs and over restarts.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use meshrelay_cluster::{ApplyMode, ApplyOutcome, Cluster};
use meshrelay_process::machine::{self, Clock};
use meshrelay_snapshot::{ContentHash, Frozen, ObjectKey};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Outputs, Plan, is_frozen};
use crate::AgentError;
use crate::brake::Recent;
use crate::deletions::{Approval, DeletionFiles, HeldDeletions};

/// How often it is looked for an approval while deletions are held: a person waits for it.
const APPROVAL_CHECK: Duration = Duration::from_secs(1);

/// What keeps deletions from being carried out, between two outputs.
pub(crate) struct Hold {
    /// What the brake holds, as on disk.
    pub(super) held: watch::Sender<Option<HeldDeletions>>,
    /// What was deleted of late, as on disk.
    pub(super) recent: Mutex<Recent>,
    /// The approval that was looked at last, so that one that does not help is not tried again and again.
    pub(super) tried: Mutex<Option<Approval>>,
    /// The last output was applied while the server that made it was in doubt.
    pub(super) in_doubt: AtomicBool,
}

impl Hold {
    /// Goes on from what is on disk.
    pub(crate) async fn load(files: &DeletionFiles, clock: &Clock) -> Self {
        let held = blocking(files, DeletionFiles::held).await.unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known which deletions are held, so those that are due wait for approval");
            // Of nothing, every share is too much.
            let (since, objects) = (clock.now(), Default::default());
            Some(HeldDeletions { since, present: 0, output: ContentHash::default(), objects })
        });
        let recent = blocking(files, DeletionFiles::recent).await.unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known what was deleted of late, so the delete brake begins to count anew");
            Recent::default()
        });
        let held = watch::Sender::new(held);
        Self { held, recent: Mutex::new(recent), tried: Mutex::default(), in_doubt: AtomicBool::new(false) }
    }
}

impl<C: Cluster> Outputs<C> {
    /// Puts what the brake holds on disk, before anything of the output is applied. An error means that the next process would not
    /// know of the hold, and take what is new in the cluster for a reason to end it. Otherwise false if only details are not kept.
    pub(super) async fn hold(&self, held: &HeldDeletions, reason: &str) -> Result<bool, AgentError> {
        let before = self.hold.held.borrow().clone();
        if before.as_ref() == Some(held) {
            return Ok(true);
        }
        let is_on_disk =
            before.as_ref().is_some_and(|before| before.since == held.since && before.present <= held.present);
        let kept = held.clone();
        if let Err(error) = blocking(&self.deletions, move |files| files.keep_held(Some(&kept))).await {
            tracing::error!(%error, "what is held could not be kept for the next start");
            return if is_on_disk { Ok(false) } else { Err(error) };
        }
        self.hold.held.send_replace(Some(held.clone()));
        if before.is_none_or(|before| before.objects != held.objects) {
            let digest = held.digest().short();
            tracing::warn!(code = "MR0705", digest, since = %held.since, reason, "deletions wait for meshctl approve");
        }
        Ok(true)
    }

    /// Puts what is going to be deleted on disk, so that an agent that dies meanwhile counts it.
    pub(super) async fn count(&self, recent: &Recent) -> Result<(), AgentError> {
        if *self.hold.recent.lock() == *recent {
            return Ok(());
        }
        let kept = recent.clone();
        blocking(&self.deletions, move |files| files.keep_recent(&kept)).await?;
        *self.hold.recent.lock() = recent.clone();
        Ok(())
    }

    /// Lets go of what was held and of the approval, once it is done. What failed, or is kept for another reason too, goes
    /// later under the same approval.
    pub(super) async fn settle(&self, plan: &Plan, frozen: &Frozen, outcome: &ApplyOutcome) {
        let Some(held) = &plan.braked else { return };
        let was_held = |key: &ObjectKey| {
            self.hold.held.borrow().as_ref().is_some_and(|held| held.objects.contains(key))
                || matches!(&plan.mode, ApplyMode::Only(keys) if keys.contains(key))
        };
        let mut stay = outcome
            .failed
            .iter()
            .map(|failure| &failure.key)
            .chain(frozen.kept.keys().filter(|key| is_frozen(frozen, key)));
        if stay.any(was_held) {
            return;
        }
        let mut done = Ok(());
        if held.is_none() && self.hold.held.borrow().is_some() {
            done = blocking(&self.deletions, |files| files.keep_held(None)).await;
            self.hold.held.send_replace(None);
            tracing::info!(deleted = outcome.deleted.len(), "no deletions are held any more");
        }
        let approval = self.hold.tried.lock().take();
        if let (Some(approval), Ok(())) = (approval, &done) {
            done = blocking(&self.deletions, move |files| files.forget_approval(&approval)).await;
        }
        if let Err(error) = done {
            tracing::error!(%error, "an approval that was carried out could not be removed");
        }
    }

    /// Ends when there is an approval that was not tried yet.
    pub(super) async fn approved(&self) {
        let mut held = self.hold.held.subscribe();
        loop {
            // The sender lives as long as `self`, so the wait cannot fail.
            let since = held.wait_for(Option::is_some).await.ok().and_then(|held| Some(held.as_ref()?.since));
            tokio::time::sleep(APPROVAL_CHECK).await;
            let approval = blocking(&self.deletions, DeletionFiles::approval).await.unwrap_or_default();
            if approval.as_ref().is_some_and(|approval| Some(approval.since) == since)
                && approval != *self.hold.tried.lock()
            {
                return;
            }
        }
    }
}

/// Does something with files where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    files: &DeletionFiles,
    work: impl FnOnce(&DeletionFiles) -> Result<T, AgentError> + Send + 'static,
) -> Result<T, AgentError> {
    let files = files.clone();
    let done = machine::blocking(move || work(&files)).await;
    done.unwrap_or_else(|error| Err(AgentError::System(error)))
}
