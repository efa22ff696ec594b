//! Safe mode of a running server: asks the gate, and says what it answers in log, status and readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_process::readiness::Readiness;
use meshrelay_snapshot::Name;
use meshrelay_translate::{Gate, GateEvent, Inputs, Verdict, ways_out};
use tokio::time::Instant;

use crate::Settings;
use crate::doubts::{Doubts, SafeModeScope};
use crate::hub::ServerHub;

/// How often the log says again what ends a halt that lasts.
const REMINDER: Duration = Duration::from_secs(300);

/// How long the first look into the store may take before anybody is told: usually it is a matter of milliseconds.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What ends a wait for the store.
const STORE_WAY_OUT: &str = "bring Redis back, or correct redis.address in the server's settings; without it nobody knows here \
                             which clusters other replicas have served";

/// What readiness calls the note on a halt.
const NOTE: &str = "safe mode";

/// The gate with its clock, and where its answers go.
pub(crate) struct SafeMode {
    hub: Arc<ServerHub>,
    readiness: Readiness,
    gate: Gate,
    scope: SafeModeScope,
    started: Instant,
    /// The same moment, for people.
    started_at: Timestamp,
    told: Reminder,
}

/// What the loop does next.
pub(super) enum Answer {
    /// Wait for a change; with a time, until then at most.
    Wait {
        until: Option<Instant>,
        /// It is for inputs, which agents send.
        for_clusters: bool,
    },
    /// Translate.
    Translate {
        inputs: Inputs,
        /// Versions of the inputs.
        versions: BTreeMap<Name, u64>,
        /// What the inputs lack.
        doubts: Doubts,
    },
}

impl SafeMode {
    /// Begins with the process: so does the window of the settings.
    pub(crate) fn new(hub: Arc<ServerHub>, settings: &Settings, readiness: Readiness) -> Self {
        let started_at = hub.inputs.clock.now();
        Self {
            hub,
            readiness,
            gate: Gate::new(settings.gate()),
            scope: settings.safe_mode_scope,
            started: Instant::now(),
            started_at,
            told: Reminder::default(),
        }
    }

    /// Looks at what there is now.
    pub(super) fn ask(&mut self) -> Answer {
        // What other replicas told, as far as nobody has noted and shown it yet.
        self.hub.keep_warm();
        self.hub.show_known();
        let Some(picture) = self.hub.inputs.for_translation() else {
            return Answer::Wait { until: None, for_clusters: false };
        };
        let now = self.started.elapsed();
        self.gate.on(GateEvent::Time(now));
        self.gate.on(GateEvent::StoreUnread(picture.store_unread));
        self.gate.follow(&picture.registered);
        let verdict = self.gate.verdict();
        self.report(&verdict, now);
        match verdict {
            Verdict::Halt { until, for_store, waiting_for, .. } => {
                let mut again = self.told.next(now).min(until.unwrap_or(Duration::MAX));
                if for_store && now < STORE_PATIENCE {
                    again = again.min(STORE_PATIENCE);
                }
                let for_clusters = !for_store && !waiting_for.is_empty();
                Answer::Wait { until: self.started.checked_add(again), for_clusters }
            }
            Verdict::Translate { .. } => {
                let doubts = Doubts::of(&picture, self.scope);
                Answer::Translate { inputs: picture.inputs, versions: picture.versions, doubts }
            }
        }
    }

    /// Wall time of a moment since the start.
    fn time(&self, since_start: Duration) -> Option<Timestamp> {
        self.started_at.checked_add(jiff::SignedDuration::try_from(since_start).ok()?).ok()
    }

    fn report(&mut self, verdict: &Verdict, now: Duration) {
        let nobody = BTreeSet::new();
        let (waiting_for, for_store, without, since, until) = match verdict {
            Verdict::Halt { waiting_for, for_store, since, until } => {
                (waiting_for, *for_store, &nobody, self.time(*since), *until)
            }
            Verdict::Translate { without } => (&nobody, false, without, None, None),
        };
        let until = until.and_then(|until| self.time(until));
        let missing = if waiting_for.is_empty() { without } else { waiting_for };
        let ways_out = match (missing.is_empty(), for_store) {
            (true, false) => None,
            (true, true) => Some(STORE_WAY_OUT.to_owned()),
            (false, _) => Some(ways_out(missing)),
        };
        let names = missing.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        let halt = match for_store {
            true if now >= STORE_PATIENCE => Some(Halt::ForStore),
            false if !waiting_for.is_empty() => Some(Halt::ForClusters),
            _ => None,
        };
        match self.told.say(halt, now) {
            Say::Nothing => {}
            Say::Halted if for_store => tracing::warn!(
                clusters = names,
                since = since.map(tracing::field::display),
                until = until.map(tracing::field::display),
                ways_out,
                "translation waits for a first look into the snapshot store; outputs stay as they are"
            ),
            Say::Halted => tracing::warn!(
                clusters = names,
                since = since.map(tracing::field::display),
                until = until.map(tracing::field::display),
                ways_out,
                "translation waits for the inputs of warm clusters; outputs stay as they are"
            ),
            Say::Over if missing.is_empty() => tracing::info!("no input is waited for any longer: translating"),
            Say::Over => tracing::warn!(
                clusters = names,
                ways_out,
                "the safe start window is over: translating without the inputs that are missing"
            ),
        }
        let note = since.zip(ways_out.as_ref()).filter(|_| halt.is_some()).map(|(since, ways_out)| {
            let end =
                until.map_or_else(|| "until they are there".to_owned(), |until| format!("until {until:.0} at most"));
            let what = if for_store {
                "the snapshot store was not read yet".to_owned()
            } else {
                format!("inputs are missing: {names}")
            };
            format!("translation is halted since {since:.0}, {end}, as {what}; to end it: {ways_out}")
        });
        self.readiness.note(NOTE, note);
        let waiting_for: Vec<Name> = waiting_for.iter().cloned().collect();
        let without: Vec<Name> = without.iter().cloned().collect();
        self.hub.status.send_if_modified(|status| {
            let changed = status.waiting_for != waiting_for
                || status.waiting_for_store != for_store
                || status.running_without != without
                || status.waiting_until != until;
            status.waiting_for = waiting_for;
            status.waiting_for_store = for_store;
            status.running_without = without;
            (status.waiting_since, status.waiting_until, status.ways_out) = (since, until, ways_out);
            changed
        });
    }
}

/// What a halt is for, as far as anybody is told: a store is given some time before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    ForStore,
    ForClusters,
}

/// What the log is told of a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    /// It began, is for something else now, or has lasted long since it was told last.
    Halted,
    /// It has ended.
    Over,
}

/// When the log was told last of the halt that lasts, and what it was for.
#[derive(Debug, Default)]
struct Reminder(Option<(Duration, Halt)>);

impl Reminder {
    fn say(&mut self, halt: Option<Halt>, now: Duration) -> Say {
        match (self.0, halt) {
            (None, None) => Say::Nothing,
            (Some(_), None) => {
                self.0 = None;
                Say::Over
            }
            (Some((told, of)), Some(halt)) if of == halt && now < told.saturating_add(REMINDER) => Say::Nothing,
            (_, Some(halt)) => {
                self.0 = Some((now, halt));
                Say::Halted
            }
        }
    }

    /// When there is something to say again.
    fn next(&self, now: Duration) -> Duration {
        self.0.map_or(now, |(told, _)| told).saturating_add(REMINDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_is_told_when_it_begins_and_every_five_minutes_while_it_lasts() {
        let at = Duration::from_secs;
        let mut told = Reminder::default();
        let mut say = |halt, second| told.say(halt, at(second));
        let clusters = Some(Halt::ForClusters);
        assert_eq!(say(None, 0), Say::Nothing);
        assert_eq!(say(clusters, 1), Say::Halted);
        assert_eq!(
            (say(clusters, 2), say(clusters, 300), say(clusters, 301)),
            (Say::Nothing, Say::Nothing, Say::Halted)
        );
        assert_eq!(say(clusters, 600), Say::Nothing);
        assert_eq!((say(None, 601), say(None, 602)), (Say::Over, Say::Nothing));
        assert_eq!(say(Some(Halt::ForStore), 603), Say::Halted, "another one");
        assert_eq!((say(clusters, 604), say(clusters, 605)), (Say::Halted, Say::Nothing), "it is for the clusters now");
        assert_eq!(told.next(at(606)), at(904));
    }
}
