//! Whether translation may run: never from half the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshrelay_snapshot::Name;

/// How long a start waits for the first look at the store when the window is shorter: the memory of the management plane is
/// there, and a store that answers at all has answered by then.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// How the gate was set (`glooMgmtServer.safeMode`, `glooMgmtServer.safeStartWindow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSettings {
    /// Halt for as long as the input of any warm cluster is missing.
    pub safe_mode: bool,
    /// Without safe mode: halt so long after the start at most, then go on with what is present. Zero does not wait.
    pub safe_start_window: Duration,
}

impl Default for GateSettings {
    /// The documented defaults: no safe mode, a window of 180 s.
    fn default() -> Self {
        Self { safe_mode: false, safe_start_window: Duration::from_secs(180) }
    }
}

/// What the gate knows of a registered cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// It has sent a snapshot at some time: condition `ClusterWarm` is true, which is final.
    pub warm: bool,
    /// `spec.skipWarming`: nobody waits for it.
    pub skip_warming: bool,
    /// Its input snapshot is there.
    pub present: bool,
}

impl Registered {
    /// Its input is missing, and that matters.
    fn is_missing(self) -> bool {
        self.warm && !self.skip_warming && !self.present
    }
}

/// Something that the gate has to know. What is said about a cluster that is not registered counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateEvent {
    /// There is a KubernetesCluster that was not there before; it has sent nothing as far as is known.
    Registered {
        /// Its name.
        cluster: Name,
        /// `spec.skipWarming`.
        skip_warming: bool,
    },
    /// A KubernetesCluster is gone, and with it that it was warm.
    Removed(Name),
    /// `spec.skipWarming` of a cluster is another.
    SkipWarming(Name, bool),
    /// A cluster is known to have sent a snapshot at some time, to whichever process.
    Warm(Name),
    /// The input of a cluster is there, which makes it warm.
    InputPresent(Name),
    /// The input of a cluster is there no more.
    InputLost(Name),
    /// Whether the memory of the management plane has still to be read: until then nobody knows which clusters are warm.
    StoreUnread(bool),
    /// So much time has passed since the start of the process; it never runs backwards.
    Time(Duration),
    /// The gate is set otherwise.
    Settings(GateSettings),
}

/// What the gate says. Times are since the start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Translate.
    Translate {
        /// The clusters whose input is missing although it is wanted: the window in which they were waited for is over.
        without: BTreeSet<Name>,
    },
    /// Do not translate: outputs stay as they are.
    Halt {
        /// The clusters whose input is missing.
        waiting_for: BTreeSet<Name>,
        /// The store was not read yet.
        for_store: bool,
        /// Since when without a break, whichever clusters were missing meanwhile.
        since: Duration,
        /// When translation goes on all the same; `None` if it waits for ever.
        until: Option<Duration>,
    },
}

/// Decides whether translation may run: a state machine without a clock. The window of [`GateSettings`] starts with the
/// process, so each replica has its own, and nothing that happens prolongs it.
#[derive(Clone, Debug)]
pub struct Gate {
    settings: GateSettings,
    clusters: BTreeMap<Name, Registered>,
    store_unread: bool,
    now: Duration,
    halted_since: Option<Duration>,
}

impl Gate {
    /// The gate of a process that has just started and knows of no cluster.
    pub fn new(settings: GateSettings) -> Self {
        Self { settings, clusters: BTreeMap::new(), store_unread: false, now: Duration::ZERO, halted_since: None }
    }

    /// Takes note of what happened.
    pub fn on(&mut self, event: GateEvent) {
        match event {
            GateEvent::Registered { cluster, skip_warming } => {
                self.clusters.entry(cluster).or_default().skip_warming = skip_warming;
            }
            GateEvent::Removed(cluster) => drop(self.clusters.remove(&cluster)),
            GateEvent::SkipWarming(cluster, skip) => self.change(&cluster, |known| known.skip_warming = skip),
            GateEvent::Warm(cluster) => self.change(&cluster, |known| known.warm = true),
            GateEvent::InputPresent(cluster) => self.change(&cluster, |known| {
                known.present = true;
                known.warm = true;
            }),
            GateEvent::InputLost(cluster) => self.change(&cluster, |known| known.present = false),
            GateEvent::StoreUnread(unread) => self.store_unread = unread,
            GateEvent::Time(since_start) => self.now = self.now.max(since_start),
            GateEvent::Settings(settings) => self.settings = settings,
        }
        let is_missing = self.clusters.values().any(|cluster| cluster.is_missing());
        let halted = (is_missing && !self.is_over(self.window())) || self.waits_for_store();
        self.halted_since = halted.then(|| self.halted_since.unwrap_or(self.now));
    }

    /// Takes note of everything in which the clusters differ from what was known of them.
    pub fn follow(&mut self, clusters: &BTreeMap<Name, Registered>) {
        for event in differences(&self.clusters, clusters) {
            self.on(event);
        }
    }

    /// The answer as of the last event.
    pub fn verdict(&self) -> Verdict {
        let missing = self.clusters.iter().filter(|(_, cluster)| cluster.is_missing());
        let missing = missing.map(|(name, _)| name.clone()).collect();
        match self.halted_since {
            Some(since) => {
                let for_store = self.waits_for_store();
                let until = if for_store { self.store_window() } else { self.window() };
                Verdict::Halt { waiting_for: missing, for_store, since, until }
            }
            None => Verdict::Translate { without: missing },
        }
    }

    fn change(&mut self, cluster: &Name, change: impl FnOnce(&mut Registered)) {
        if let Some(known) = self.clusters.get_mut(cluster) {
            change(known);
        }
    }

    /// When no cluster is waited for any longer.
    fn window(&self) -> Option<Duration> {
        (!self.settings.safe_mode).then_some(self.settings.safe_start_window)
    }

    /// When the store is not waited for any longer.
    fn store_window(&self) -> Option<Duration> {
        self.window().map(|window| window.max(STORE_WAIT))
    }

    fn waits_for_store(&self) -> bool {
        self.store_unread && !self.is_over(self.store_window())
    }

    fn is_over(&self, window: Option<Duration>) -> bool {
        window.is_some_and(|until| self.now >= until)
    }
}

/// The events that lead from one state of the clusters to another.
fn differences(before: &BTreeMap<Name, Registered>, after: &BTreeMap<Name, Registered>) -> Vec<GateEvent> {
    let mut events = Vec::new();
    // Warm is final: one that is not warm any more was removed and registered again in between.
    let is_gone = |name, known: &Registered| after.get(name).is_none_or(|cluster| known.warm && !cluster.warm);
    events.extend(
        before.iter().filter(|(name, known)| is_gone(*name, known)).map(|(n, _)| GateEvent::Removed(n.clone())),
    );
    for (name, cluster) in after {
        let known = before.get(name).filter(|known| !is_gone(name, known));
        match known {
            None => events.push(GateEvent::Registered { cluster: name.clone(), skip_warming: cluster.skip_warming }),
            Some(known) if known.skip_warming != cluster.skip_warming => {
                events.push(GateEvent::SkipWarming(name.clone(), cluster.skip_warming));
            }
            Some(_) => {}
        }
        let known = known.copied().unwrap_or_default();
        if cluster.warm && !known.warm {
            events.push(GateEvent::Warm(name.clone()));
        }
        match (known.present, cluster.present) {
            (false, true) => events.push(GateEvent::InputPresent(name.clone())),
            (true, false) => events.push(GateEvent::InputLost(name.clone())),
            _ => {}
        }
    }
    events
}

/// The ways out of a wait for clusters that does not end by itself, for people. Empty without clusters.
pub fn ways_out<'a>(clusters: impl IntoIterator<Item = &'a Name>) -> String {
    let ways = clusters.into_iter().map(|name| {
        format!(
            "bring the agent of {name} back (is it scheduled, has it the memory it needs, does it reach the \
             server, does the server refuse it?), or delete the KubernetesCluster {name} if the cluster is gone, or set \
             spec.skipWarming: true in the KubernetesCluster {name} to go on without it"
        )
    });
    ways.collect::<Vec<_>>().join("; ")
}
