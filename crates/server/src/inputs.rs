use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use meshrelay_process::machine::Clock;
use meshrelay_relay::Held;
use meshrelay_snapshot::{Completeness, Name, Snapshot, carry_over};
use meshrelay_translate::{Inputs as TranslationInputs, Registered};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::management::kubernetes_cluster;
use crate::warm::{Registration, WarmClusters};

/// The newest input of every cluster, and which clusters there are.
pub(crate) struct Inputs {
    pub(crate) clock: Clock,
    management: Name,
    state: Mutex<State>,
    changed: watch::Sender<Instant>,
    unshared: watch::Sender<()>,
    registrations: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// What the server itself sees of the management cluster.
    local: Option<Arc<Snapshot>>,
    registered: BTreeMap<Name, Registration>,
    warm: WarmClusters,
    held: BTreeMap<Name, Held>,
    /// Version of the input of each cluster when it was deregistered. What is not newer counts for nothing when it is registered
    /// again: the store may have it still, if it was away.
    deregistered: BTreeMap<Name, u64>,
    /// There is a store.
    has_store: bool,
    /// There is a store, and what is in it was not read yet.
    store_unread: bool,
    /// Clusters of which the store lacks what we hold, or that are gone.
    unshared: BTreeSet<Name>,
    /// Why the input that the store has of a cluster cannot be read.
    unreadable: BTreeMap<Name, String>,
}

/// What is known of a registered cluster.
pub(crate) struct Known {
    /// Since when it is registered.
    pub(crate) registered: Timestamp,
    /// Since when it is warm.
    pub(crate) warm: Option<Timestamp>,
    /// Version of its input and number of objects in it.
    pub(crate) input: Option<(u64, usize)>,
    /// Why the input that the store has of it cannot be read.
    pub(crate) unreadable: Option<String>,
}

/// What there is for a translation, all as of one moment.
pub(crate) struct Picture {
    /// What the gate has to know of each registered cluster.
    pub(crate) registered: BTreeMap<Name, Registered>,
    pub(crate) inputs: TranslationInputs,
    /// Versions of the inputs that agents sent.
    pub(crate) versions: BTreeMap<Name, u64>,
    /// What other replicas know was not read yet.
    pub(crate) store_unread: bool,
    /// Why it is not known which clusters are registered: the server itself cannot see all of the management cluster.
    pub(crate) management_doubt: Option<String>,
}

impl Inputs {
    pub(crate) fn new(management: Name, warm: WarmClusters) -> Self {
        let state = Mutex::new(State { warm, ..State::default() });
        let changed = watch::Sender::new(Instant::now());
        let (unshared, registrations) = (watch::Sender::new(()), watch::Sender::new(()));
        Self { clock: Clock::default(), management, state, changed, unshared, registrations }
    }

    /// With another clock than the machine's.
    pub(crate) fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// When an input or the set of clusters changed last.
    pub(crate) fn changes(&self) -> watch::Receiver<Instant> {
        self.changed.subscribe()
    }

    /// Takes over what the management cluster holds. Returns the clusters that are no longer registered.
    pub(crate) fn set_management(&self, local: Arc<Snapshot>, registered: BTreeMap<Name, Registration>) -> Vec<Name> {
        let mut state = self.state.lock();
        let removed: Vec<Name> =
            state.registered.keys().filter(|name| !registered.contains_key(*name)).cloned().collect();
        for name in &removed {
            if let Some(held) = state.held.remove(name) {
                let last = state.deregistered.entry(name.clone()).or_default();
                *last = held.version().max(*last);
            }
            state.warm.remove(name);
        }
        // In the same step, so that nobody translates without a cluster that another process knows to be warm.
        for (name, registration) in &registered {
            if let Some(since) = registration.warm_since {
                state.warm.entry(name.clone()).or_insert(since);
            }
        }
        state.unshared.extend(removed.iter().cloned());
        // That there is none is news too, for whoever waits until it is known which there are.
        let is_news = state.local.is_none() || registered.keys().any(|name| !state.registered.contains_key(name));
        state.registered = registered;
        state.local = Some(local);
        drop(state);
        self.changed.send_replace(Instant::now());
        if !removed.is_empty() {
            self.unshared.send_replace(());
        }
        if is_news {
            self.registrations.send_replace(());
        }
        removed
    }

    /// Has everything looked at again, though no input changed.
    pub(crate) fn look_again(&self) {
        self.changed.send_replace(Instant::now());
    }

    /// What is known of every registered cluster, for its status.
    pub(crate) fn known(&self) -> BTreeMap<Name, Known> {
        let state = self.state.lock();
        let known = |(name, registration): (&Name, &Registration)| {
            let held = state.held.get(name);
            let known = Known {
                registered: registration.since,
                warm: state.warm.get(name).copied(),
                input: held.map(|held| (held.version(), held.visible().len())),
                unreadable: state.unreadable.get(name).cloned(),
            };
            (name.clone(), known)
        };
        state.registered.iter().map(known).collect()
    }

    pub(crate) fn is_registered(&self, cluster: &str) -> bool {
        self.state.lock().registered.contains_key(cluster)
    }

    pub(crate) fn registered(&self) -> BTreeMap<Name, Registered> {
        self.state.lock().describe()
    }

    /// The clusters that have sent a snapshot at some time.
    pub(crate) fn warm(&self) -> WarmClusters {
        self.state.lock().warm.clone()
    }

    /// Since when a cluster is warm, if it is.
    pub(crate) fn warm_since(&self, cluster: &Name) -> Option<Timestamp> {
        self.state.lock().warm.get(cluster).copied()
    }

    pub(crate) fn held(&self, cluster: &Name) -> Option<Held> {
        self.state.lock().held.get(cluster).cloned()
    }

    /// Takes a new input; its cluster is warm from now on, and since then unless it was before. What could not be read of it is
    /// as it was.
    pub(crate) fn set(&self, cluster: &Name, input: Held, since: Timestamp) {
        let mut state = self.state.lock();
        if !state.registered.contains_key(cluster) {
            // Deregistered while the last transfer was under way.
            return;
        }
        state.hold(cluster, input);
        state.warm.entry(cluster.clone()).or_insert(since);
        state.unshared.insert(cluster.clone());
        drop(state);
        self.changed.send_replace(Instant::now());
        self.unshared.send_replace(());
    }

    /// Takes over an input that another replica has, if it is newer than what is held, and than what was when the cluster was
    /// deregistered.
    pub(crate) fn adopt(&self, cluster: &Name, input: Held) {
        let rank = |held: &Held| (held.version(), held.visible().digest());
        let mut state = self.state.lock();
        let is_newer = state.held.get(cluster).is_none_or(|held| rank(held) < rank(&input));
        if !is_newer || state.precedes_registration(cluster, input.version()) {
            return;
        }
        state.hold(cluster, input);
        state.warm.entry(cluster.clone()).or_insert_with(|| self.clock.now());
        drop(state);
        self.changed.send_replace(Instant::now());
    }

    /// Whether an input of that version is from before the cluster was registered, if it is.
    pub(crate) fn precedes_registration(&self, cluster: &Name, version: u64) -> bool {
        self.state.lock().precedes_registration(cluster, version)
    }

    /// Everything that is held.
    pub(crate) fn all_held(&self) -> BTreeMap<Name, Held> {
        self.state.lock().held.clone()
    }

    /// Takes over which clusters are warm as far as other replicas know, since when, and which one is not any more unless it is
    /// held here. Of two times the earlier one is right. Gives what there is to share.
    ///
    /// What is not registered here is warm for as long as the others say so: one of them may have seen its registration
    /// already, and here it is not to be done without when it comes. It is never said here, or it would be warm for ever.
    pub(crate) fn merge_warm(&self, mut theirs: WarmClusters, gone: Option<&Name>) -> WarmClusters {
        let mut state = self.state.lock();
        let before: Vec<Name> = state.warm.keys().cloned().collect();
        let knows_all = state.knows_all_registered();
        let State { registered, warm, held, .. } = &mut *state;
        theirs.retain(|name, _| Some(name) != gone);
        warm.retain(|name, _| {
            let is_gone = Some(name) == gone || (knows_all && !registered.contains_key(name));
            !is_gone || theirs.contains_key(name) || held.contains_key(name)
        });
        for (cluster, since) in &theirs {
            let known = warm.entry(cluster.clone()).or_insert(*since);
            *known = (*known).min(*since);
        }
        let ours = warm.iter().filter(|(name, _)| theirs.contains_key(*name) || registered.contains_key(*name));
        let all = ours.map(|(name, since)| (name.clone(), *since)).collect();
        let is_news = !before.iter().eq(warm.keys());
        drop(state);
        if is_news {
            self.look_again();
        }
        all
    }

    /// Forgets which clusters were warm that were deregistered while no server ran. With a store that is done with what it says.
    pub(crate) fn forget_gone_warm(&self) {
        let mut state = self.state.lock();
        if !state.has_store && state.knows_all_registered() {
            let State { registered, warm, .. } = &mut *state;
            warm.retain(|name, _| registered.contains_key(name));
        }
    }

    /// Notes why the input that the store has of a cluster cannot be read; `None` when it was.
    pub(crate) fn note_unreadable(&self, cluster: &Name, reason: Option<String>) {
        let mut state = self.state.lock();
        let before = match &reason {
            Some(reason) => state.unreadable.insert(cluster.clone(), reason.clone()),
            None => state.unreadable.remove(cluster),
        };
        drop(state);
        if before != reason {
            self.look_again();
        }
    }

    /// There is a store, whose content is not known yet.
    pub(crate) fn expect_store(&self) {
        let mut state = self.state.lock();
        (state.has_store, state.store_unread) = (true, true);
    }

    /// Whether it is known which clusters are registered, so that what the store has of them can be taken over.
    pub(crate) fn knows_registered(&self) -> bool {
        self.state.lock().local.is_some()
    }

    /// Whether the registered clusters that are known are all there are. Not if none was ever seen: that may be a folder
    /// that is yet to be filled.
    pub(crate) fn knows_all_registered(&self) -> bool {
        self.state.lock().knows_all_registered()
    }

    /// Whether it is known that there is no such cluster.
    pub(crate) fn is_known_gone(&self, cluster: &Name) -> bool {
        let state = self.state.lock();
        state.knows_all_registered() && !state.registered.contains_key(cluster)
    }

    /// All that the store has of registered clusters was taken over.
    pub(crate) fn store_is_read(&self) {
        if std::mem::take(&mut self.state.lock().store_unread) {
            self.look_again();
        }
    }

    /// Tells when there is something that the store lacks.
    pub(crate) fn unshared_changes(&self) -> watch::Receiver<()> {
        self.unshared.subscribe()
    }

    /// The clusters of which the store lacks something.
    pub(crate) fn take_unshared(&self) -> BTreeSet<Name> {
        std::mem::take(&mut self.state.lock().unshared)
    }

    /// Notes that the store lacks something of these.
    pub(crate) fn put_back_unshared(&self, clusters: BTreeSet<Name>) {
        if !clusters.is_empty() {
            self.state.lock().unshared.extend(clusters);
            self.unshared.send_replace(());
        }
    }

    /// Tells when clusters are registered.
    pub(crate) fn registrations(&self) -> watch::Receiver<()> {
        self.registrations.subscribe()
    }

    /// What there is for a translation; `None` before the management cluster was read.
    ///
    /// The management cluster's own view stands in until its agent, if it has one, has sent an input.
    pub(crate) fn for_translation(&self) -> Option<Picture> {
        let state = self.state.lock();
        let local = Arc::clone(state.local.as_ref()?);
        let versions = state.held.iter().map(|(name, held)| (name.clone(), held.version())).collect();
        let mut clusters: BTreeMap<Name, Arc<Snapshot>> =
            state.held.iter().map(|(name, held)| (name.clone(), Arc::clone(held.visible()))).collect();
        let management_doubt = local.meta().any_doubt().map(str::to_owned);
        clusters.entry(self.management.clone()).or_insert(local);
        let inputs = TranslationInputs { management_cluster: self.management.clone(), clusters };
        let (registered, store_unread) = (state.describe(), state.store_unread);
        Some(Picture { registered, inputs, versions, store_unread, management_doubt })
    }
}

impl State {
    fn hold(&mut self, cluster: &Name, input: Held) {
        let carried = self.held.get(cluster).and_then(|before| carry_over(with_version(before), with_version(&input)));
        let input = match carried {
            Some(carried) => Held::restored(Arc::new(carried), input.version()),
            None => input,
        };
        self.held.insert(cluster.clone(), input);
    }

    fn precedes_registration(&self, cluster: &Name, version: u64) -> bool {
        !self.registered.contains_key(cluster) || self.deregistered.get(cluster).is_some_and(|last| version <= *last)
    }

    fn knows_all_registered(&self) -> bool {
        self.local.as_ref().is_some_and(|local| {
            let meta = local.meta();
            meta.doubt.is_none() && meta.completeness.get(&kubernetes_cluster()) == Some(&Completeness::Synced)
        })
    }

    fn describe(&self) -> BTreeMap<Name, Registered> {
        let describe = |(name, registration): (&Name, &Registration)| {
            let registered = Registered {
                warm: self.warm.contains_key(name),
                skip_warming: registration.skip_warming,
                present: self.held.contains_key(name),
            };
            (name.clone(), registered)
        };
        self.registered.iter().map(describe).collect()
    }
}

fn with_version(held: &Held) -> (&Snapshot, u64) {
    (held.visible(), held.version())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshrelay_snapshot::{Object, SnapshotMeta};
    use serde_json::json;

    use super::*;

    fn held(version: u64, names: &[&str], doubt: Option<&str>) -> Held {
        let object = |name: &&str| {
            let metadata = json!({"name": name, "namespace": "n"});
            Arc::new(Object::from_value(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).unwrap())
        };
        let mut snapshot: Snapshot = names.iter().map(object).collect();
        snapshot.set_meta(SnapshotMeta { doubt: doubt.map(str::to_owned), ..SnapshotMeta::default() });
        Held::restored(Arc::new(snapshot), version)
    }

    fn used(inputs: &Inputs) -> (BTreeSet<String>, Option<String>, u64) {
        let picture = inputs.for_translation().unwrap();
        let input = &picture.inputs.clusters["one"];
        let names = input.iter().map(|object| object.key().name.to_string()).collect();
        (names, input.meta().any_doubt().map(str::to_owned), picture.versions["one"])
    }

    #[test]
    fn what_cannot_be_read_of_a_cluster_is_as_it_was_whoever_brings_the_input() {
        let one = Name::from("one");
        let inputs = Inputs::new("mgmt".into(), WarmClusters::new());
        inputs.set_management(Arc::default(), [(one.clone(), Registration::default())].into());
        inputs.set(&one, held(1, &["a"], Some("broken")), Timestamp::UNIX_EPOCH);
        assert_eq!(used(&inputs), (["a".into()].into(), Some("broken".into()), 1), "nobody knows what it lacks");
        inputs.set(&one, held(2, &["a", "b"], None), Timestamp::UNIX_EPOCH);
        let all: BTreeSet<String> = ["a", "b", "c"].map(str::to_owned).into();
        inputs.set(&one, held(3, &["c"], Some("broken")), Timestamp::UNIX_EPOCH);
        assert_eq!(used(&inputs), (all.clone(), None, 3));
        inputs.adopt(&one, held(5, &["c"], Some("broken")));
        assert_eq!(used(&inputs), (all, None, 5));
        let carried = inputs.held(&one).and_then(|input| input.visible().meta().carried).unwrap();
        assert_eq!((carried.from, carried.until), (2, 5), "the fourth may have had more");
        inputs.set(&one, held(6, &["c"], None), Timestamp::UNIX_EPOCH);
        assert_eq!(used(&inputs), (["c".into()].into(), None, 6));
    }

    #[test]
    fn a_cluster_that_was_deregistered_while_no_server_ran_is_not_warm_when_it_is_registered_again() {
        let warm = ["gone", "one"].map(|name| (Name::from(name), Timestamp::UNIX_EPOCH));
        let inputs = Inputs::new("mgmt".into(), warm.into());
        let set = |completeness: &[(_, _)], clusters: &[&str]| {
            let mut view = Snapshot::default();
            let completeness = completeness.iter().cloned().collect();
            view.set_meta(SnapshotMeta { completeness, ..SnapshotMeta::default() });
            let clusters = clusters.iter().map(|name| (Name::from(*name), Registration::default()));
            inputs.set_management(Arc::new(view), clusters.collect());
            inputs.forget_gone_warm();
        };
        set(&[], &[]);
        assert_eq!(inputs.warm().len(), 2, "the folder may be yet to be filled");
        let synced = [(kubernetes_cluster(), Completeness::Synced)];
        set(&synced, &["one"]);
        set(&synced, &["gone", "one"]);
        let registered = inputs.registered();
        assert!(registered["one"].warm && !registered["gone"].warm);
    }
}
