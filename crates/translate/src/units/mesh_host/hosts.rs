//! All hosts of the fleet, and which parent has which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use meshrelay_snapshot::Name;

use super::{MeshHost, federation, virtual_destination};
use crate::ResourceRef;
use crate::engine::{Round, Stage, Step};
use crate::input::Input;
use crate::model::Model;
use crate::reads::{Place, Taken, Thing, kinds, record, take, take_all, taking};
use crate::report::{Code, Notes, Severity};
use crate::unit::UnitKind;
use crate::vip::Allocations;

/// All hosts of the fleet.
#[derive(Debug)]
pub(crate) struct MeshHosts {
    winners: Step<Winners>,
    parents: Stage<MeshHost>,
}

/// Which parent has which host name.
#[derive(Debug, Default)]
struct Winners {
    by_host: BTreeMap<Name, ResourceRef>,
    /// The parents that keep others from hosts, and these.
    of_contested: Taken,
}

/// The same, as a result that is read name by name.
const CONTESTED: Thing<'static> = Thing::Kind("contested");
const WINNERS: &str = "host names";

impl Default for MeshHosts {
    fn default() -> Self {
        Self { winners: Step::new(WINNERS), parents: Stage::new(UnitKind::MeshHost, "mesh hosts") }
    }
}

impl MeshHosts {
    /// Brings all hosts up to date. Of two parents with the same host the older one keeps it.
    pub(crate) fn update(&mut self, round: &mut Round<'_>, allocations: &mut Allocations) {
        let model = round.model;
        let place = Place::results(WINNERS);
        let make = |notes: &mut Notes| {
            let mut claims = Claims::default();
            virtual_destination::claim(model, &mut claims);
            federation::claim(model, &mut claims, notes);
            claims.decide(notes)
        };
        self.winners.update(round, make, |before, after, changes| {
            allocations.allocate(&after.by_host.keys().cloned().collect());
            let none = Winners::default();
            let before = before.unwrap_or(&none);
            if before.of_contested != after.of_contested {
                changes.add(place, CONTESTED);
            }
            let (before, after) = (&before.by_host, &after.by_host);
            let hosts: BTreeSet<&Name> = before.keys().chain(after.keys()).collect();
            for host in hosts.into_iter().filter(|host| before.get(*host) != after.get(*host)) {
                changes.add(place, Thing::Object("", "", host));
            }
        });
        let none = Winners::default();
        let winners = &self.winners.get().unwrap_or(&none).by_host;
        let allocations = &*allocations;
        // The address of a host that the parent has won, which is given out before anybody asks.
        let address = |host: &Name, parent: &ResourceRef| {
            record(place, Thing::Object("", "", host));
            let winner = winners.get(host)?;
            take(winner);
            (winner == parent).then(|| allocations.get(host).unwrap_or(Ipv4Addr::UNSPECIFIED))
        };
        self.parents.update(
            round,
            |cluster| {
                let mut all = model.counting(&cluster.name, cluster.virtual_destinations().values());
                all.extend(federation::list(model, cluster));
                all
            },
            |parent, notes| {
                let (host, taken) = taking(|| match parent.key.gvk.kind.as_str() {
                    "Service" => federation::resolve(model, parent, &address, notes),
                    _ => virtual_destination::resolve(model, parent, &address, notes),
                });
                host.map(|host| MeshHost { taken, ..host })
            },
        );
    }

    /// The host names of a parent. What is made of them has taken all that stands behind them.
    pub(crate) fn get(&self, model: &Model, parent: &ResourceRef) -> Option<&Arc<MeshHost>> {
        let found = self.parents.get(parent);
        match found {
            Some(host) => take_all(host.reads()),
            None => self.take_winners(model, parent),
        }
        found
    }

    /// The host names of a parent, for what looks at single ones of the Services behind them.
    pub(crate) fn look(&self, model: &Model, parent: &ResourceRef) -> Option<&Arc<MeshHost>> {
        let found = self.parents.get(parent);
        match found {
            Some(host) => host.take(),
            None => self.take_winners(model, parent),
        }
        found
    }

    /// A parent may be without a host because others have those that it wants.
    fn take_winners(&self, model: &Model, parent: &ResourceRef) {
        let Some(input) = model.clusters.get(&parent.cluster) else { return };
        let wanted = match parent.key.gvk.kind.as_str() {
            "Service" => {
                // Other settings that wait behind these may federate it.
                let (namespace, _) = parent.place();
                model.owner(&parent.cluster, &namespace).into_iter().for_each(|owner| take_all(&owner.contested));
                federation::wanted(model, input, parent).into_iter().collect()
            }
            _ => virtual_destination::wanted(input, parent),
        };
        for host in wanted {
            record(Place::results(WINNERS), Thing::Object("", "", &host));
            if let Some(winner) = self.winners.get().and_then(|winners| winners.by_host.get(&host)) {
                take(winner);
            }
        }
    }

    /// The parents that keep others from hosts: what is made of all hosts would be made of more without them.
    pub(crate) fn of_contested(&self) -> Taken {
        record(Place::results(WINNERS), CONTESTED);
        self.winners.get().map(|winners| Arc::clone(&winners.of_contested)).unwrap_or_default()
    }

    /// The host names of all parents.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<MeshHost>> {
        self.parents.values()
    }
}

/// Which parents want which host names, with their age.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<Name, Vec<(AgeKey, ResourceRef)>>);

/// Creation time and place, see [`Input::age`](crate::input::Input::age).
type AgeKey = (bool, Option<jiff::Timestamp>, Name, Name, Name);

impl Claims {
    pub(super) fn add<T>(&mut self, host: &str, cluster: &Name, input: &Input<T>) {
        let created = input.object.created();
        let age = (created.is_none(), created, cluster.clone(), input.namespace().clone(), input.name().clone());
        self.0.entry(Name::from(host)).or_default().push((age, input.reference(cluster)));
    }

    /// The winner of each host.
    fn decide(self, notes: &mut Notes) -> Winners {
        let mut winners = BTreeMap::new();
        let mut contested = BTreeSet::new();
        for (host, mut claims) in self.0 {
            claims.sort_unstable();
            claims.dedup();
            let mut claims = claims.into_iter().map(|(_, parent)| parent);
            let Some(winner) = claims.next() else { continue };
            for loser in claims {
                let text = format!("host {host} is taken by the older {winner}: choose another name");
                notes.say(&loser, Severity::Warning, Code::HostTaken, text);
                contested.extend([winner.clone(), loser]);
            }
            winners.insert(host, winner);
        }
        Winners { by_host: winners, of_contested: kinds(&contested) }
    }
}
