use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, ObjectKey, Snapshot};
use rand::rngs::StdRng;

use super::fixture;
use crate::session::withhold::{Outgoing, RefusedObjects};
use crate::{Direction, Held, Memory};

/// A side's truth and what the other side holds of it.
pub(super) struct Mirror {
    pub(super) truth: Arc<Snapshot>,
    /// Digest of the newest version as it travels.
    pub(super) newest: ContentHash,
    /// Every version there ever was, as it travels.
    log: BTreeMap<ContentHash, Arc<Snapshot>>,
    pub(super) held: Option<Held>,
    /// What the sending process carries from one session to the next.
    pub(super) memory: Memory,
    /// Up to where the sender has noted on its disk that versions may be given.
    pub(super) noted: u64,
    /// Everything that was ever committed, from which a receiver may start again.
    pub(super) commits: Vec<Held>,
}

impl Mirror {
    pub(super) fn new(random: &mut StdRng) -> Self {
        let truth = Arc::new(fixture::start(random));
        let mut mirror = Self {
            truth,
            newest: ContentHash::default(),
            log: BTreeMap::new(),
            held: None,
            memory: Memory::default(),
            noted: 0,
            commits: Vec::new(),
        };
        mirror.record();
        mirror
    }

    pub(super) fn edit(&mut self, random: &mut StdRng) {
        let mut next = Snapshot::clone(&self.truth);
        fixture::edit(&mut next, random);
        self.truth = Arc::new(next);
        self.record();
    }

    fn record(&mut self) {
        let outgoing = Outgoing::new(&self.truth, None, fixture::OBJECT_LIMIT, &RefusedObjects::new());
        assert!(outgoing.snapshot.iter().all(|object| object.pieces().len() <= fixture::OBJECT_LIMIT));
        self.newest = outgoing.digest;
        self.log.insert(outgoing.digest, outgoing.snapshot);
    }
}

/// What is held is one version of the cluster, and withheld objects are as the cluster had them once.
pub(super) fn check(cluster: &str, direction: Direction, held: &Held, mirror: &Mirror) -> Result<(), String> {
    let what = format!("{direction:?} of {cluster}: version {}", held.version());
    let Some(logged) = mirror.log.get(&held.digest()) else {
        return Err(format!("{what} with {} objects was never the state of its cluster", held.sent().len()));
    };
    if logged != held.sent() {
        return Err(format!("{what} has the digest of another snapshot"));
    }
    let keeps = |key: &ObjectKey| held.withheld().iter().any(|withheld| withheld.key == *key);
    for object in held.visible().iter() {
        let sent = held.sent().get(object.key()).is_some_and(|sent| sent == object);
        let kept = || {
            keeps(object.key())
                && mirror.log.values().any(|version| version.get(object.key()).is_some_and(|old| old == object))
        };
        if !sent && !kept() {
            return Err(format!("{what} shows {:?}, which was not sent and is not withheld", object.key()));
        }
    }
    if direction == Direction::Push
        && let Some(newer) = mirror.commits.iter().find(|commit| commit.version() >= held.version())
    {
        return Err(format!("{what} came after version {}", newer.version()));
    }
    if held.visible().len() < held.sent().len() {
        return Err(format!("{what} does not show everything that was sent"));
    }
    Ok(())
}
