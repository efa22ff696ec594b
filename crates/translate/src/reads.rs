//! What a step of translation reads, recorded while it runs: a step need not be repeated before something that it read
//! has changed.
//!
//! Everything that a step can read is a [`Place`] (a cluster, or the results of an earlier step) and something in it.
//! Both are condensed to numbers; should two things ever get the same one, a step is repeated without need.
//!
//! What is read is one thing, what is taken another: a step that looks for something in all clusters has read all of
//! them, and taken something from those where it found it. Without one of these the result would be another one; without
//! one in which nothing was found it would be the same. So the objects that come of it depend on what was [`Taken`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use meshrelay_snapshot::{Gvk, Name};

use crate::ResourceRef;

/// Where something is read: see [`Reads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

impl Place {
    pub(crate) fn cluster(name: &str) -> Self {
        Self(condensed(&("cluster", name)))
    }

    /// The results of an earlier step.
    pub(crate) fn results(step: &'static str) -> Self {
        Self(condensed(&("results", step)))
    }
}

/// Something that can be read in a place.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Thing<'a> {
    /// Any object of a kind.
    Kind(&'a str),
    /// Any object of a kind in a namespace.
    Namespace(&'a str, &'a str),
    /// Any object of a kind with a label.
    Label(&'a str, &'a str, &'a str),
    /// One object of a kind, by namespace and name.
    Object(&'a str, &'a str, &'a str),
    /// The result for one resource: its cluster, kind, namespace and name.
    Result(&'a str, &'a str, &'a str, &'a str),
}

/// A thing in a place.
pub(crate) type Key = (Place, u64);

thread_local! {
    static RECORDED: RefCell<Option<BTreeSet<Key>>> = const { RefCell::new(None) };
}

/// Notes that the step that runs reads something. A step sees absence too: what is not there is read like what is.
pub(crate) fn record(place: Place, thing: Thing<'_>) {
    RECORDED.with_borrow_mut(|recorded| {
        if let Some(recorded) = recorded {
            recorded.insert((place, condensed(&thing)));
        }
    });
}

/// Runs a step and tells what it read.
pub(crate) fn recorded<T>(step: impl FnOnce() -> T) -> (T, Reads) {
    let outer = RECORDED.replace(Some(BTreeSet::new()));
    let result = step();
    let reads = RECORDED.replace(outer).unwrap_or_default();
    // What a part of a step reads, the step reads.
    RECORDED.with_borrow_mut(|outer| {
        if let Some(outer) = outer {
            outer.extend(&reads);
        }
    });
    (result, Reads(reads.into_iter().collect()))
}

/// What a step read, ordered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads(Box<[Key]>);

impl Reads {
    pub(crate) fn keys(&self) -> &[Key] {
        &self.0
    }

    /// Whether any of it changed.
    pub(crate) fn changed(&self, changes: &Changes) -> bool {
        let Self(keys) = self;
        changes.0.iter().any(|(place, things)| {
            let from = keys.partition_point(|(other, _)| other < place);
            let here = keys[from..].partition_point(|(other, _)| other == place);
            let here = &keys[from..from + here];
            if here.len() < things.len() {
                here.iter().any(|(_, thing)| things.contains(thing))
            } else {
                things.iter().any(|thing| here.binary_search(&(*place, *thing)).is_ok())
            }
        })
    }
}

/// What changed since the last translation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(BTreeMap<Place, BTreeSet<u64>>);

impl Changes {
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.0.iter().flat_map(|(place, things)| things.iter().map(|thing| (*place, *thing)))
    }

    pub(crate) fn add(&mut self, place: Place, thing: Thing<'_>) {
        self.0.entry(place).or_default().insert(condensed(&thing));
    }

    /// An object was added, removed or changed; `labels` are those of before and after.
    pub(crate) fn add_object<'a>(
        &mut self,
        place: Place,
        kind: &str,
        (namespace, name): (&str, &str),
        labels: impl Iterator<Item = (&'a Name, &'a Name)>,
    ) {
        self.add(place, Thing::Kind(kind));
        self.add(place, Thing::Namespace(kind, namespace));
        self.add(place, Thing::Object(kind, namespace, name));
        for (key, value) in labels {
            self.add(place, Thing::Label(kind, key, value));
        }
    }
}

/// Kinds of clusters of which something had a part in a result.
pub(crate) type Taken = Arc<BTreeSet<(Name, Gvk)>>;

/// What is taken while a result is made.
#[derive(Default)]
struct Taking {
    each: BTreeSet<(Name, Gvk)>,
    /// What other results took that this one is made from.
    with: Vec<Taken>,
}

thread_local! {
    static TAKING: RefCell<Option<Taking>> = const { RefCell::new(None) };
}

/// Notes that the result that is being made would be another one without an object.
pub(crate) fn take(source: &ResourceRef) {
    take_kind(&source.cluster, &source.key.gvk);
}

/// As [`take`], for any object of a kind.
pub(crate) fn take_kind(cluster: &Name, kind: &Gvk) {
    TAKING.with_borrow_mut(|taking| {
        if let Some(taking) = taking {
            taking.each.insert((cluster.clone(), kind.clone()));
        }
    });
}

/// Notes that the result that is being made is made from one that took this.
pub(crate) fn take_all(taken: &Taken) {
    TAKING.with_borrow_mut(|taking| {
        if let Some(taking) = taking.as_mut().filter(|_| !taken.is_empty())
            && !taking.with.iter().any(|known| Arc::ptr_eq(known, taken))
        {
            taking.with.push(Arc::clone(taken));
        }
    });
}

/// Makes a result and tells what it took. If another one is made from it, that has taken this too only where
/// [`take_all`] says so.
pub(crate) fn taking<T>(make: impl FnOnce() -> T) -> (T, Taken) {
    let outer = TAKING.replace(Some(Taking::default()));
    let result = make();
    let Taking { each, with } = TAKING.replace(outer).unwrap_or_default();
    (result, joined(each, &with))
}

fn joined(mut each: BTreeSet<(Name, Gvk)>, with: &[Taken]) -> Taken {
    if let ([one], true) = (with, each.is_empty()) {
        return Arc::clone(one);
    }
    with.iter().for_each(|taken| each.extend(taken.iter().cloned()));
    Arc::new(each)
}

/// What several results took.
pub(crate) fn together<'a>(all: impl IntoIterator<Item = &'a Taken>) -> Taken {
    let mut with: Vec<Taken> = Vec::new();
    for taken in all.into_iter().filter(|taken| !taken.is_empty()) {
        if !with.iter().any(|known| Arc::ptr_eq(known, taken)) {
            with.push(Arc::clone(taken));
        }
    }
    joined(BTreeSet::new(), &with)
}

/// The kinds of some objects.
pub(crate) fn kinds<'a>(sources: impl IntoIterator<Item = &'a ResourceRef>) -> Taken {
    Arc::new(sources.into_iter().map(|source| (source.cluster.clone(), source.key.gvk.clone())).collect())
}

fn condensed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_taken_what_it_and_those_that_it_is_made_from_took() {
        let kind = |cluster: &str| (Name::from(cluster), Gvk::new("", "v1", "Service"));
        let take = |cluster: &str| take_kind(&kind(cluster).0, &kind(cluster).1);
        let (other, unused) = (Arc::new(BTreeSet::from([kind("other")])), Arc::new(BTreeSet::from([kind("unused")])));
        let ((), taken) = taking(|| {
            take("one");
            let ((), inner) = taking(|| take_all(&other));
            assert!(Arc::ptr_eq(&inner, &other), "the same is shared");
            let ((), _) = taking(|| take_all(&unused));
            take_all(&inner);
        });
        assert_eq!(*taken, BTreeSet::from([kind("one"), kind("other")]));
        assert_eq!(together([&taken, &unused, &taken]).len(), 3);
        take("nobody listens");
    }

    #[test]
    fn a_step_is_touched_by_changes_of_what_it_read_only() {
        let (one, other) = (Place::cluster("one"), Place::cluster("other"));
        let (result, reads) = recorded(|| {
            record(one, Thing::Object("Service", "n", "a"));
            let (_, inner) = recorded(|| record(other, Thing::Namespace("Service", "n")));
            assert!(inner.0.len() == 1);
            7
        });
        assert_eq!(result, 7);
        let touched = |place, kind: &str, name: (&str, &str)| {
            let mut changes = Changes::default();
            changes.add_object(place, kind, name, std::iter::empty());
            reads.changed(&changes)
        };
        assert!(touched(one, "Service", ("n", "a")));
        assert!(!touched(one, "Service", ("n", "b")));
        assert!(touched(other, "Service", ("n", "b")));
        assert!(!touched(other, "Service", ("m", "b")));
        assert!(!touched(other, "Deployment", ("n", "b")));
        assert!(!reads.changed(&Changes::default()));
        record(one, Thing::Kind("nobody listens"));
    }
}
