//! Who knows everything: what each cluster ever held, and whether what disappears from a cluster may disappear.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{Name, ObjectKey, SnapshotMeta};

use crate::fleet::{CLUSTERS, Code, MANAGEMENT, complete, is_registered, unseen};
use crate::picture::{Codes, Content, picture};

/// Most combinations of states that are looked at for one loss.
const COMBINATIONS: usize = 4_000;

/// Numbers of states, by cluster: the oldest that count.
type Basis = BTreeMap<Name, usize>;

/// By entry, `None` for the object itself.
type Confirmed = BTreeMap<Option<String>, Arc<Basis>>;

#[derive(Default)]
pub(crate) struct Oracle {
    /// All states that each cluster ever had, the present one last.
    states: BTreeMap<Name, Vec<Code>>,
    /// The state that each version of an input shows.
    versions: BTreeMap<(Name, u64), usize>,
    /// The first state of the management cluster under which outputs were made from inputs of these versions.
    management: BTreeMap<BTreeMap<Name, u64>, usize>,
    /// By cluster and object: the newest states that had a part in the outputs that had it.
    confirmed: BTreeMap<Name, BTreeMap<ObjectKey, Confirmed>>,
}

impl Oracle {
    /// A cluster has another state. Gives its number.
    pub(crate) fn state(&mut self, cluster: &str, code: Code) -> usize {
        let states = self.states.entry(cluster.into()).or_default();
        states.push(code);
        states.len() - 1
    }

    pub(crate) fn code(&self, cluster: &str) -> Code {
        self.states[cluster].last().copied().unwrap()
    }

    /// The present variants of all clusters.
    pub(crate) fn codes(&self) -> Codes {
        self.states.keys().map(|name| (name.clone(), self.code(name))).collect()
    }

    /// A server translates inputs of these versions that show these states.
    pub(crate) fn translated(&mut self, versions: &BTreeMap<Name, u64>, states: &Basis) {
        for (cluster, version) in versions {
            self.versions.insert((cluster.clone(), *version), states[cluster]);
        }
        self.management.entry(versions.clone()).or_insert_with(|| states[MANAGEMENT]);
    }

    /// This is put in force, each object with whether it is new or another one: then it was made without the clusters that were
    /// missing, and otherwise it may have been kept.
    pub(crate) fn wanted<'a>(
        &mut self,
        cluster: &Name,
        meta: &SnapshotMeta,
        objects: impl Iterator<Item = (&'a ObjectKey, Arc<Content>, bool)>,
    ) {
        let versions = &meta.basis;
        let mut basis: Basis = versions
            .iter()
            .filter_map(|(name, version)| Some((name.clone(), *self.versions.get(&(name.clone(), *version))?)))
            .collect();
        if let Some(state) = self.management.get(versions) {
            basis.insert(MANAGEMENT.into(), *state);
        }
        // It may be unknown that the last one is registered; what is kept has its version still.
        let is_unheard_of =
            |name: &Name| meta.doubts.contains_key(MANAGEMENT) && CLUSTERS.last() == Some(&name.as_str());
        basis.retain(|name, _| !meta.doubts.contains_key(name) && !is_unheard_of(name));
        let basis = Arc::new(basis);
        let confirmed = self.confirmed.entry(cluster.clone()).or_default();
        for (key, content, is_another) in objects {
            let confirmed = confirmed.entry(key.clone()).or_default();
            for entry in std::iter::once(None).chain(content.entries.iter().cloned().map(Some)) {
                let newest = confirmed.entry(entry).or_default();
                *newest = if is_another { Arc::clone(&basis) } else { newer(newest, &basis) };
            }
        }
    }

    /// An object of a cluster is gone, or became less.
    pub(crate) fn lost(
        &mut self,
        cluster: &Name,
        key: &ObjectKey,
        before: &Content,
        after: Option<&Content>,
    ) -> Result<(), String> {
        let mut confirmed = self.confirmed.get_mut(cluster).and_then(|objects| objects.remove(key)).unwrap_or_default();
        let lost: Vec<Option<String>> = match after {
            None => vec![None],
            Some(after) => before.entries.difference(&after.entries).cloned().map(Some).collect(),
        };
        for entry in lost {
            let since = confirmed.remove(&entry).unwrap_or_default();
            if !self.was_not_wanted(cluster, key, &entry, &since, before) {
                let what = entry.as_ref().map_or_else(|| "is gone".to_owned(), |entry| format!("has lost {entry}"));
                let now = self.codes();
                return Err(format!(
                    "{key} of cluster {cluster} {what}, which every complete picture since {since:?} has; now {now:?}"
                ));
            }
        }
        if after.is_some() {
            self.confirmed.entry(cluster.clone()).or_default().insert(key.clone(), confirmed);
        }
        Ok(())
    }

    /// Whether the object, or the entry of it, is missing in some complete picture of states since these.
    fn was_not_wanted(
        &self,
        cluster: &Name,
        key: &ObjectKey,
        entry: &Option<String>,
        since: &Basis,
        before: &Content,
    ) -> bool {
        let is_missing = |codes: &Codes| match picture(codes).get(cluster).and_then(|objects| objects.get(key)) {
            None => true,
            Some(content) => entry.as_ref().is_some_and(|entry| !content.entries.contains(entry)),
        };
        let names = || std::iter::once(MANAGEMENT).chain(CLUSTERS);
        let mut all: Vec<Codes> = vec![Codes::new()];
        let since_management = since.get(MANAGEMENT).copied().unwrap_or_default();
        for name in names() {
            let states = &self.states[name];
            let first = since.get(name).copied().unwrap_or_default();
            // The newest first: most often it is the present that lacks it.
            let mut choices: Vec<Option<Code>> = Vec::new();
            for code in (first..states.len()).rev().flat_map(|at| as_seen(name, &states[..=at], first)) {
                if !choices.contains(&Some(code)) {
                    choices.push(Some(code));
                }
            }
            // What it would have given since it was registered cannot be in force yet.
            let management = &self.states[MANAGEMENT][since_management..];
            let was_unregistered = || management.iter().any(|code| !is_registered(*code, name));
            // Nothing of it was known when the object was made, so the object does not name it.
            let was_unknown = || {
                !before.depends_on.contains(name)
                    && cluster != name
                    && (!since.contains_key(name) || states[first..].iter().any(|code| complete(name, *code) != *code))
            };
            if name != MANAGEMENT && (was_unregistered() || was_unknown()) {
                choices.push(None);
            }
            all = choices
                .iter()
                .flat_map(|code| {
                    all.iter().map(|codes| {
                        let mut codes = codes.clone();
                        codes.extend(code.map(|code| (name.into(), code)));
                        codes
                    })
                })
                .take(COMBINATIONS)
                .collect();
        }
        assert!(all.len() < COMBINATIONS, "too many states to look at: make COMBINATIONS larger");
        all.iter().any(is_missing)
    }
}

/// The last of these states as it is, and as it looks to those who know the state `first` or what came after it: what cannot be
/// read is as it was. What came to be while it could not be read was never in any picture.
fn as_seen(cluster: &str, states: &[Code], first: usize) -> Vec<Code> {
    let Some((last, earlier)) = states.split_last() else { return Vec::new() };
    let (last, unseen) = (complete(cluster, *last), unseen(cluster, *last));
    if unseen == 0 {
        return vec![last];
    }
    let is_readable = |at: &usize| complete(cluster, states[*at]) == states[*at];
    let known = (0..=first).rev().find(is_readable).unwrap_or_default();
    let before = earlier.iter().skip(known).rev().map(|code| (last & !unseen) | (code & unseen));
    std::iter::once(last).chain(before).collect()
}

fn newer(one: &Arc<Basis>, other: &Arc<Basis>) -> Arc<Basis> {
    if other.iter().all(|(name, number)| one.get(name).is_some_and(|known| known >= number)) {
        return Arc::clone(one);
    }
    let mut newest = Basis::clone(one);
    for (name, number) in &**other {
        let known = newest.entry(name.clone()).or_insert(*number);
        *known = (*known).max(*number);
    }
    Arc::new(newest)
}
