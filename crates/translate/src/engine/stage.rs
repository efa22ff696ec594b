//! Parents of one kind, resolved one by one and again only when something that was read has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Name};

use super::readers::Readers;
use crate::ResourceRef;
use crate::input::ClusterInput;
use crate::model::Model;
use crate::reads::{Changes, Place, Reads, Thing, record, recorded};
use crate::report::Notes;
use crate::unit::{BatchId, ParentInput, UnitKind};

/// One translation: what changed since the last one, and what that leads to.
#[derive(Debug)]
pub(crate) struct Round<'m> {
    pub(crate) model: &'m Model,
    /// Grows as steps give other results than last time.
    pub(crate) changes: Changes,
    /// Whether everything counts as changed, because who owns and sees what did.
    pub(crate) everything: bool,
    pub(crate) events: Vec<Event>,
}

/// What a step found out.
#[derive(Debug)]
pub(crate) enum Event {
    /// What there is to say about resources while a parent, or something else of that name, was resolved.
    Noted(Origin, Notes),
    /// A parent has other inputs than last time.
    Changed(Arc<dyn ParentInput>),
    /// A parent is gone.
    Gone(BatchId),
}

/// What said something about a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A step as a whole.
    Step(&'static str),
    /// A step for one cluster.
    Cluster(&'static str, Name),
    /// A parent that was resolved.
    Resolved(BatchId),
    /// A parent that was translated.
    Translated(BatchId),
}

impl Round<'_> {
    /// Whether a step that read this must be repeated.
    pub(crate) fn touches(&self, reads: &Reads) -> bool {
        self.everything || reads.changed(&self.changes)
    }
}

/// All parents of one kind.
#[derive(Debug)]
pub(crate) struct Stage<V> {
    kind: UnitKind,
    place: Place,
    lists: BTreeMap<Name, (BTreeSet<ResourceRef>, Reads)>,
    entries: BTreeMap<ResourceRef, Entry<V>>,
    readers: Readers,
    /// The parents by their numbers among the readers.
    numbered: BTreeMap<u32, ResourceRef>,
    next: u32,
}

#[derive(Debug)]
struct Entry<V> {
    number: u32,
    value: Option<(Arc<V>, ContentHash)>,
    reads: Reads,
}

impl<V: ParentInput + 'static> Stage<V> {
    pub(crate) fn new(kind: UnitKind, name: &'static str) -> Self {
        Self {
            kind,
            place: Place::results(name),
            lists: BTreeMap::new(),
            entries: BTreeMap::new(),
            readers: Readers::default(),
            numbered: BTreeMap::new(),
            next: 0,
        }
    }

    /// Brings the parents up to date: `list` names those of a cluster, `resolve` makes one of them.
    pub(crate) fn update(
        &mut self,
        round: &mut Round<'_>,
        list: impl Fn(&ClusterInput) -> BTreeSet<ResourceRef>,
        resolve: impl Fn(&ResourceRef, &mut Notes) -> Option<V>,
    ) {
        let mut dirty: BTreeSet<ResourceRef> = BTreeSet::new();
        let gone: Vec<Name> =
            self.lists.keys().filter(|cluster| !round.model.clusters.contains_key(*cluster)).cloned().collect();
        for cluster in gone {
            let (parents, _) = self.lists.remove(&cluster).unwrap_or_default();
            parents.iter().for_each(|parent| self.remove(parent, round));
        }
        for (cluster, input) in &round.model.clusters {
            if self.lists.get(cluster).is_some_and(|(_, reads)| !round.touches(reads)) {
                continue;
            }
            let (parents, reads) = recorded(|| list(input));
            let before = self.lists.remove(cluster).unwrap_or_default().0;
            before.difference(&parents).for_each(|parent| self.remove(parent, round));
            dirty.extend(parents.difference(&before).cloned());
            self.lists.insert(cluster.clone(), (parents, reads));
        }
        if round.everything {
            dirty.extend(self.entries.keys().cloned());
        } else {
            let touched = self.readers.touched(&round.changes);
            let touched = touched.iter().filter_map(|number| self.numbered.get(number));
            let is_touched = |parent: &&ResourceRef| {
                self.entries.get(*parent).is_some_and(|entry| entry.reads.changed(&round.changes))
            };
            dirty.extend(touched.filter(is_touched).cloned());
        }
        // So many that a new list of readers takes less time than to note each.
        let are_many = dirty.len() > self.entries.len() / 8;
        for parent in dirty {
            let mut notes = Notes::default();
            let (value, reads) = recorded(|| resolve(&parent, &mut notes));
            round.events.push(Event::Noted(Origin::Resolved((self.kind, parent.clone())), notes));
            let number = self.number(&parent);
            if !are_many {
                self.readers.add(number, &reads);
            }
            self.set(parent, number, value.map(Arc::new), reads, round);
        }
        if are_many || self.readers.is_old() {
            self.readers.rebuild(self.entries.values().map(|entry| (entry.number, &entry.reads)));
        }
    }

    /// The number of a parent among the readers.
    fn number(&mut self, parent: &ResourceRef) -> u32 {
        if let Some(entry) = self.entries.get(parent) {
            return entry.number;
        }
        let number = self.next;
        self.next += 1;
        self.numbered.insert(number, parent.clone());
        number
    }

    fn set(&mut self, parent: ResourceRef, number: u32, value: Option<Arc<V>>, reads: Reads, round: &mut Round<'_>) {
        let value = value.map(|value| {
            let fingerprint = value.fingerprint();
            (value, fingerprint)
        });
        let before = self.entries.get(&parent).and_then(|entry| entry.value.as_ref());
        let same = match (before, &value) {
            (None, None) => true,
            (Some((_, before)), Some((_, after))) => before == after,
            _ => false,
        };
        if same {
            // The parent of before stands for the new one, so that whoever holds it holds one only.
            if let Some(entry) = self.entries.get_mut(&parent) {
                entry.reads = reads;
            } else {
                self.entries.insert(parent, Entry { number, value, reads });
            }
            return;
        }
        self.say_changed(&parent, round);
        round.events.push(match &value {
            Some((value, _)) => Event::Changed(Arc::clone(value) as _),
            None => Event::Gone((self.kind, parent.clone())),
        });
        self.entries.insert(parent, Entry { number, value, reads });
    }

    fn remove(&mut self, parent: &ResourceRef, round: &mut Round<'_>) {
        let entry = self.entries.remove(parent);
        if let Some(entry) = &entry {
            self.numbered.remove(&entry.number);
        }
        if entry.is_some_and(|entry| entry.value.is_some()) {
            self.say_changed(parent, round);
            round.events.push(Event::Gone((self.kind, parent.clone())));
        }
        round.events.push(Event::Noted(Origin::Resolved((self.kind, parent.clone())), Notes::default()));
    }

    fn say_changed(&self, parent: &ResourceRef, round: &mut Round<'_>) {
        round.changes.add(self.place, thing(parent));
        round.changes.add(self.place, Thing::Kind(""));
    }

    /// A parent.
    pub(crate) fn get(&self, parent: &ResourceRef) -> Option<&Arc<V>> {
        record(self.place, thing(parent));
        self.entries.get(parent)?.value.as_ref().map(|(value, _)| value)
    }

    /// All parents, in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        record(self.place, Thing::Kind(""));
        self.entries.values().filter_map(|entry| entry.value.as_ref()).map(|(value, _)| value)
    }
}

/// A parent among the results of a step: kinds are told apart by the step, or by names that say the kind.
fn thing(parent: &ResourceRef) -> Thing<'_> {
    let ResourceRef { cluster, key } = parent;
    Thing::Result(cluster, &key.gvk.kind, &key.namespace, &key.name)
}

/// Parents that are gathered from many others, all at once.
#[derive(Debug)]
pub(crate) struct Gathering<V> {
    stage: Stage<V>,
    name: &'static str,
    reads: Option<Reads>,
}

impl<V: ParentInput + 'static> Gathering<V> {
    pub(crate) fn new(kind: UnitKind, name: &'static str) -> Self {
        Self { stage: Stage::new(kind, name), name, reads: None }
    }

    /// Brings the parents up to date; `gather` makes all of them.
    pub(crate) fn update(&mut self, round: &mut Round<'_>, gather: impl FnOnce(&mut Notes) -> Vec<V>) {
        if self.reads.as_ref().is_some_and(|reads| !round.touches(reads)) {
            return;
        }
        let mut notes = Notes::default();
        let (values, reads) = recorded(|| gather(&mut notes));
        self.reads = Some(reads);
        round.events.push(Event::Noted(Origin::Step(self.name), notes));
        let mut gone: BTreeSet<ResourceRef> = self.stage.entries.keys().cloned().collect();
        for value in values {
            let (_, parent) = value.id();
            gone.remove(&parent);
            let number = self.stage.number(&parent);
            self.stage.set(parent, number, Some(Arc::new(value)), Reads::default(), round);
        }
        for parent in gone {
            self.stage.remove(&parent, round);
        }
    }
}

impl<V: ParentInput + 'static> Gathering<V> {
    /// All parents, in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.stage.values()
    }
}

/// The result of a step that is no parent, remembered.
#[derive(Debug)]
pub(crate) struct Step<T> {
    name: &'static str,
    remembered: Option<(T, Reads)>,
}

impl<T> Step<T> {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, remembered: None }
    }

    /// Makes the result anew if something that it reads changed; `compare` then says what differs between the result
    /// of before, if there was one, and the new one.
    pub(crate) fn update(
        &mut self,
        round: &mut Round<'_>,
        make: impl FnOnce(&mut Notes) -> T,
        compare: impl FnOnce(Option<&T>, &T, &mut Changes),
    ) {
        if self.remembered.as_ref().is_some_and(|(_, reads)| !round.touches(reads)) {
            return;
        }
        let mut notes = Notes::default();
        let (after, reads) = recorded(|| make(&mut notes));
        compare(self.get(), &after, &mut round.changes);
        self.remembered = Some((after, reads));
        round.events.push(Event::Noted(Origin::Step(self.name), notes));
    }

    /// The result of the last update.
    pub(crate) fn get(&self) -> Option<&T> {
        self.remembered.as_ref().map(|(result, _)| result)
    }
}
