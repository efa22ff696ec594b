//! What is said about connections to some pods: whether they must use mutual TLS.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::Tls;
use super::service::Peers;
use crate::ResourceRef;
use crate::report::{Code, Notes, Severity};

/// Who says which mode of TLS: the oldest wins. Isolation comes before all policies, whose modes it dictates.
#[derive(Clone, Debug)]
pub(super) struct Said<'a> {
    pub(super) rank: usize,
    pub(super) tls: Tls,
    pub(super) policy: Option<&'a ResourceRef>,
}

/// What is said about connections to some pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Speech<'a> {
    pub(super) wide: Option<Said<'a>>,
    pub(super) ports: BTreeMap<u32, Said<'a>>,
    pub(super) sources: BTreeSet<ResourceRef>,
}

impl<'a> Speech<'a> {
    /// Takes a mode for a port; of different ones the oldest holds.
    pub(super) fn say(&mut self, port: u32, said: &Said<'a>, target: &ResourceRef, notes: &mut Notes) {
        self.sources.extend(said.policy.cloned());
        let known = self.ports.remove(&port);
        let place = || format!("port {port} of {target}");
        self.ports.insert(port, decide(known, said.clone(), place, notes));
    }

    /// Takes a mode for all pods.
    pub(super) fn say_of_all(&mut self, said: Said<'a>, target: &ResourceRef, notes: &mut Notes) {
        self.sources.extend(said.policy.cloned());
        let place = || format!("workloads of {target}");
        self.wide = Some(decide(self.wide.take(), said, place, notes));
    }

    pub(super) fn end(self) -> Peers {
        Peers {
            wide: self.wide.map(|said| said.tls),
            ports: self.ports.into_iter().map(|(port, said)| (port, said.tls)).collect(),
            sources: self.sources,
        }
    }
}

/// Of two modes the older one.
fn decide<'a>(known: Option<Said<'a>>, new: Said<'a>, place: impl Fn() -> String, notes: &mut Notes) -> Said<'a> {
    let Some(known) = known else { return new };
    let (winner, loser) = if known.rank <= new.rank { (known, new) } else { (new, known) };
    if winner.tls != loser.tls
        && let Some(policy) = loser.policy
        && let Some(older) = winner.policy
    {
        let text = format!(
            "tlsMode {} conflicts with existing policy applied to {}: {} of the older {older} holds there",
            loser.tls.as_str(),
            place(),
            winner.tls.as_str()
        );
        notes.say(policy, Severity::Failed, Code::PolicyConflict, text);
    }
    winner
}
