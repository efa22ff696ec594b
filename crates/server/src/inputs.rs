use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_relay::Held;
use meshrelay_snapshot::{Name, Snapshot};
use meshrelay_translate::{Inputs as TranslationInputs, Registered};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// The newest input of every cluster, and which clusters there are.
pub(crate) struct Inputs {
    management: Name,
    state: Mutex<State>,
    changed: watch::Sender<Instant>,
}

#[derive(Default)]
struct State {
    /// What the server itself sees of the management cluster.
    local: Option<Arc<Snapshot>>,
    /// Registered clusters and whether they skip warming.
    registered: BTreeMap<Name, bool>,
    warm: BTreeSet<Name>,
    held: BTreeMap<Name, Held>,
}

impl Inputs {
    pub(crate) fn new(management: Name, warm: BTreeSet<Name>) -> Self {
        let state = Mutex::new(State { warm, ..State::default() });
        Self { management, state, changed: watch::Sender::new(Instant::now()) }
    }

    /// When an input or the set of clusters changed last.
    pub(crate) fn changes(&self) -> watch::Receiver<Instant> {
        self.changed.subscribe()
    }

    /// Takes over what the management cluster holds. Returns the clusters that are no longer registered.
    pub(crate) fn set_management(&self, local: Arc<Snapshot>, registered: BTreeMap<Name, bool>) -> Vec<Name> {
        let mut state = self.state.lock();
        let removed: Vec<Name> =
            state.registered.keys().filter(|name| !registered.contains_key(*name)).cloned().collect();
        for name in &removed {
            state.held.remove(name);
            state.warm.remove(name);
        }
        state.registered = registered;
        state.local = Some(local);
        drop(state);
        self.changed.send_replace(Instant::now());
        removed
    }

    pub(crate) fn is_registered(&self, cluster: &str) -> bool {
        self.state.lock().registered.contains_key(cluster)
    }

    pub(crate) fn registered(&self) -> BTreeMap<Name, Registered> {
        let state = self.state.lock();
        let describe = |(name, skip_warming): (&Name, &bool)| {
            let registered = Registered {
                warm: state.warm.contains(name),
                skip_warming: *skip_warming,
                present: state.held.contains_key(name),
            };
            (name.clone(), registered)
        };
        state.registered.iter().map(describe).collect()
    }

    /// The clusters that have sent a snapshot at some time.
    pub(crate) fn warm(&self) -> BTreeSet<Name> {
        self.state.lock().warm.clone()
    }

    pub(crate) fn held(&self, cluster: &Name) -> Option<Held> {
        self.state.lock().held.get(cluster).cloned()
    }

    /// Takes a new input; its cluster is warm from now on.
    pub(crate) fn set(&self, cluster: &Name, input: Held) {
        let mut state = self.state.lock();
        if !state.registered.contains_key(cluster) {
            // Deregistered while the last transfer was under way.
            return;
        }
        state.held.insert(cluster.clone(), input);
        state.warm.insert(cluster.clone());
        drop(state);
        self.changed.send_replace(Instant::now());
    }

    /// The inputs for a translation; `None` before the management cluster was read.
    ///
    /// The management cluster's own view stands in until its agent, if it has one, has sent an input.
    pub(crate) fn for_translation(&self) -> Option<TranslationInputs> {
        let state = self.state.lock();
        let local = Arc::clone(state.local.as_ref()?);
        let mut clusters: BTreeMap<Name, Arc<Snapshot>> =
            state.held.iter().map(|(name, held)| (name.clone(), Arc::clone(held.visible()))).collect();
        clusters.entry(self.management.clone()).or_insert(local);
        Some(TranslationInputs { management_cluster: self.management.clone(), clusters })
    }
}
