//! Whether translation may run: never from half the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshrelay_snapshot::Name;
use serde::{Deserialize, Serialize};

/// What is held still while the input of a warm cluster is missing (`glooMgmtServer.safeModeScope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SafeModeScope {
    /// All outputs: translation halts, as far as safe mode or the safe start window says so.
    #[default]
    Fleet,
    /// What depends on that cluster, and nothing else: translation never halts, and agents keep what depends on it.
    Dependents,
}

/// How the gate was set (`glooMgmtServer.safeMode`, `glooMgmtServer.safeStartWindow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSettings {
    /// Halt for as long as the input of any warm cluster is missing.
    pub safe_mode: bool,
    /// Without safe mode: halt so long after the start at most, then go on with what is present. Zero does not wait.
    pub safe_start_window: Duration,
    /// Whether translation halts at all.
    pub scope: SafeModeScope,
}

impl Default for GateSettings {
    /// The documented defaults: no safe mode, a window of 180 s.
    fn default() -> Self {
        Self { safe_mode: false, safe_start_window: Duration::from_secs(180), scope: SafeModeScope::Fleet }
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

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Translate.
    Translate,
    /// Do not translate: outputs stay as they are.
    Halt {
        /// The clusters whose input is missing.
        waiting_for: BTreeSet<Name>,
        /// When translation goes on all the same, since the start; `None` if it waits for ever.
        until: Option<Duration>,
    },
}

/// Decides whether translation may run, so long after the start. A cluster that never connected is not waited for.
pub fn gate(settings: GateSettings, clusters: &BTreeMap<Name, Registered>, since_start: Duration) -> Verdict {
    let waiting_for: BTreeSet<Name> = clusters
        .iter()
        .filter(|(_, cluster)| cluster.warm && !cluster.skip_warming && !cluster.present)
        .map(|(name, _)| name.clone())
        .collect();
    let until = (!settings.safe_mode).then_some(settings.safe_start_window);
    let never = settings.scope == SafeModeScope::Dependents;
    if never || waiting_for.is_empty() || until.is_some_and(|until| since_start >= until) {
        Verdict::Translate
    } else {
        Verdict::Halt { waiting_for, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halted(settings: GateSettings, cluster: Registered, since_start: u64) -> bool {
        let clusters = BTreeMap::from([
            ("one".into(), Registered { warm: true, present: true, ..Registered::default() }),
            ("two".into(), cluster),
        ]);
        match gate(settings, &clusters, Duration::from_secs(since_start)) {
            Verdict::Translate => false,
            Verdict::Halt { waiting_for, .. } => {
                assert_eq!(waiting_for, BTreeSet::from(["two".into()]));
                true
            }
        }
    }

    #[test]
    fn documented_rules() {
        let warm = Registered { warm: true, ..Registered::default() };
        let window = GateSettings::default();
        let safe = GateSettings { safe_mode: true, ..window };
        let none = GateSettings { safe_mode: false, safe_start_window: Duration::ZERO, ..window };
        let dependents = GateSettings { scope: SafeModeScope::Dependents, ..safe };
        assert!(halted(window, warm, 0) && halted(window, warm, 179), "the window holds translation");
        assert!(!halted(window, warm, 180), "after the window it goes on");
        assert!(halted(safe, warm, 1_000_000), "safe mode has no window");
        assert!(!halted(none, warm, 0), "a window of zero does not wait");
        assert!(!halted(dependents, warm, 0), "only dependents are held still, and not here");
        assert!(!halted(safe, Registered::default(), 0), "never connected is not counted");
        assert!(!halted(safe, Registered { skip_warming: true, ..warm }, 0), "skipWarming is not waited for");
        assert!(!halted(safe, Registered { present: true, ..warm }, 0), "present is not missing");
    }
}
