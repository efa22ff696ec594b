//! Which clusters had a part in a generated object, on the object itself: an agent that holds it knows what it depends on
//! although no server remembers how it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Weak};

use meshrelay_snapshot::Name;
use parking_lot::Mutex;

use crate::output::quoted;

/// A list that is longer than this is one for all objects that have it: the same clusters come again in most of them.
const SHARED_FROM: usize = 64;

/// Number of lists from which on those that nobody has any more are looked for.
const SWEPT_FROM: usize = 1024;

/// The long lists in use, by their text, as names are one for all.
static LISTS: LazyLock<Mutex<Lists>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Lists {
    known: BTreeMap<Vec<u8>, Weak<[u8]>>,
    /// How many there were after the last sweep.
    swept: usize,
}

impl Lists {
    fn shared(&mut self, text: Vec<u8>) -> Arc<[u8]> {
        if let Some(list) = self.known.get(&text).and_then(Weak::upgrade) {
            return list;
        }
        if self.known.len() >= SWEPT_FROM.max(2 * self.swept) {
            self.known.retain(|_, list| list.strong_count() > 0);
            self.swept = self.known.len();
        }
        let list: Arc<[u8]> = text.as_slice().into();
        self.known.insert(text, Arc::downgrade(&list));
        list
    }
}

/// Clusters, and the list of them but one; `None` if there are no others.
type Listed = (BTreeSet<Name>, Option<Arc<[u8]>>);

/// The lists that one parent's objects need, by the cluster that they are for, written once.
#[derive(Debug, Default)]
pub(crate) struct DependsOn(BTreeMap<Name, Vec<Listed>>);

impl DependsOn {
    /// What [`meshrelay_snapshot::DEPENDS_ON`] says as JSON: the clusters but the one that the object is for; `None` if there are no others.
    pub(crate) fn written(&mut self, clusters: &BTreeSet<Name>, own: &Name) -> Option<Arc<[u8]>> {
        if clusters.len() < 2 && clusters.iter().all(|cluster| cluster == own) {
            return None;
        }
        let known = self.0.entry(own.clone()).or_default();
        if let Some((_, list)) = known.iter().rev().find(|(of, _)| of == clusters) {
            return list.clone();
        }
        let others: Vec<&str> = clusters.iter().filter(|cluster| *cluster != own).map(Name::as_str).collect();
        let list = (!others.is_empty()).then(|| {
            let text = quoted(&others.join(","));
            if text.len() < SHARED_FROM { text.into() } else { LISTS.lock().shared(text) }
        });
        known.push((clusters.clone(), list.clone()));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_leave_out_the_own_cluster_and_long_ones_are_one() {
        let own = Name::from("cluster-3");
        assert_eq!(DependsOn::default().written(&[own.clone()].into(), &own), None);
        assert_eq!(DependsOn::default().written(&BTreeSet::new(), &own), None);
        let all: BTreeSet<Name> = (0..9).map(|number| Name::from(format!("cluster-{number}"))).collect();
        let one = DependsOn::default().written(&all, &own).unwrap();
        let text: String = serde_json::from_slice(&one).unwrap();
        assert_eq!(text.split(',').count(), 8);
        assert!(text.starts_with("cluster-0,cluster-1,cluster-2,cluster-4"), "{text}");
        assert!(Arc::ptr_eq(&one, &DependsOn::default().written(&all, &own).unwrap()));
    }
}
