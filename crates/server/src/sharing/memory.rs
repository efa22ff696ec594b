//! What translation remembers, as the replicas of a plane share it: addresses that do not follow from names, and what trees of
//! tables that freeze last gave. A replica without it would give hosts other addresses than its peers do, and drop the routes
//! of a tree that was broken before it started.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshrelay_snapshot::Name;
use meshrelay_store::{Document, DocumentWritten, SnapshotStore, StoreError};
use meshrelay_translate::{AcceptedTree, ResourceRef};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Document with the hosts whose virtual address does not follow from their name.
const ADDRESSES: &str = "virtual-addresses";

/// Beginning of the names of documents with what one tree last gave.
const TREE: &str = "last-accepted:";

/// What one tree gave while nothing was wrong with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RightTree {
    /// Version of the input with its root table when that was seen: of two, the greater one counts.
    #[serde(default)]
    pub(crate) version: u64,
    #[serde(flatten)]
    pub(crate) tree: AcceptedTree,
}

/// What is to be shared of the memory of one translator.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shareable {
    /// The hosts whose address does not follow from their name.
    pub(crate) moved: BTreeMap<Name, Ipv4Addr>,
    pub(crate) trees: BTreeMap<ResourceRef, RightTree>,
}

/// Between the translation of one replica and the store.
#[derive(Default)]
pub(crate) struct SharedMemory {
    state: Mutex<State>,
    unwritten: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    ours: Shareable,
    /// What the store has, as far as it was read.
    theirs: Shareable,
    /// Revisions of documents that were read.
    revisions: BTreeMap<String, u64>,
    /// Trees that are remembered no more.
    gone: BTreeSet<ResourceRef>,
}

impl SharedMemory {
    /// What the store has.
    pub(crate) fn theirs(&self) -> Shareable {
        self.state.lock().theirs.clone()
    }

    /// Takes what the translator remembers now.
    pub(crate) fn set_ours(&self, ours: Shareable) {
        let mut state = self.state.lock();
        if state.ours == ours {
            return;
        }
        let gone: Vec<_> = state.ours.trees.keys().filter(|root| !ours.trees.contains_key(*root)).cloned().collect();
        state.gone.extend(gone);
        state.gone.retain(|root| !ours.trees.contains_key(root));
        state.ours = ours;
        drop(state);
        self.unwritten.send_replace(());
    }

    /// Tells when there may be something that the store lacks.
    pub(crate) fn unwritten(&self) -> watch::Receiver<()> {
        self.unwritten.subscribe()
    }

    /// Writes what the store lacks. What others agreed on before stays; tells whether there was such a thing.
    pub(crate) async fn write(&self, store: &dyn SnapshotStore) -> Result<bool, StoreError> {
        let mut is_news = false;
        while let Some((name, value)) = self.next_to_write() {
            let expected = self.state.lock().revisions.get(&name).copied().unwrap_or_default();
            match store.put_document(&name, Some(expected), &value).await? {
                DocumentWritten::Stored(revision) => {
                    self.state.lock().note(&name, &Document { revision, value: value.into() })
                }
                DocumentWritten::Conflict(there) => {
                    is_news = true;
                    self.state.lock().note_or_forget(&name, there.as_ref());
                }
            }
        }
        loop {
            let Some(root) = self.state.lock().gone.first().cloned() else { return Ok(is_news) };
            let name = tree_name(&root);
            let known = self.state.lock().revisions.get(&name).copied();
            // Another replica that has written it since still has it.
            let there = match known {
                Some(revision) => store.remove_document(&name, Some(revision)).await?,
                None => None,
            };
            let mut state = self.state.lock();
            state.gone.remove(&root);
            state.note_or_forget(&name, there.as_ref());
        }
    }

    /// Reads a document, if it is one of these. Tells whether it has something that was not known.
    pub(crate) async fn read(&self, store: &dyn SnapshotStore, name: &str) -> Result<bool, StoreError> {
        if name != ADDRESSES && !name.starts_with(TREE) {
            return Ok(false);
        }
        let document = store.document(name).await?;
        let mut state = self.state.lock();
        let before = state.theirs.clone();
        state.note_or_forget(name, document.as_ref());
        Ok(state.theirs != before)
    }

    /// Reads all documents, and has ours looked through for what the store lacks: it may be another one.
    pub(crate) async fn read_all(&self, store: &dyn SnapshotStore) -> Result<(), StoreError> {
        let there = store.documents().await?;
        let known: Vec<String> = self.state.lock().revisions.keys().cloned().collect();
        for name in known.iter().filter(|name| !there.contains_key(*name)) {
            self.state.lock().forget(name);
        }
        for name in there.keys() {
            self.read(store, name).await?;
        }
        self.unwritten.send_replace(());
        Ok(())
    }

    fn next_to_write(&self) -> Option<(String, Value)> {
        let state = self.state.lock();
        let State { ours, theirs, .. } = &*state;
        let lacking = |(host, _): &(&Name, &Ipv4Addr)| !theirs.moved.contains_key(*host);
        let taken: BTreeSet<&Ipv4Addr> = theirs.moved.values().collect();
        let more: Vec<_> = ours.moved.iter().filter(lacking).filter(|(_, address)| !taken.contains(address)).collect();
        if !more.is_empty() {
            let all = theirs.moved.iter().chain(more);
            let value = all.map(|(host, address)| (host.as_str(), Value::from(address.to_string()))).collect();
            return Some((ADDRESSES.to_owned(), value));
        }
        let newer = ours.trees.iter().find(|(root, ours)| {
            theirs.trees.get(*root).is_none_or(|theirs| theirs.version < ours.version && theirs.tree != ours.tree)
        });
        let (root, tree) = newer?;
        Some((tree_name(root), serde_json::to_value(tree).ok()?))
    }
}

impl State {
    fn note(&mut self, name: &str, document: &Document) {
        self.revisions.insert(name.to_owned(), document.revision);
        if name == ADDRESSES {
            self.theirs.moved = BTreeMap::deserialize(&*document.value).unwrap_or_default();
        } else if let Ok(tree) = RightTree::deserialize(&*document.value) {
            self.theirs.trees.insert(tree.tree.root().clone(), tree);
        }
    }

    fn note_or_forget(&mut self, name: &str, document: Option<&Document>) {
        match document {
            Some(document) => self.note(name, document),
            None => self.forget(name),
        }
    }

    fn forget(&mut self, name: &str) {
        self.revisions.remove(name);
        if name == ADDRESSES {
            self.theirs.moved.clear();
        } else {
            self.theirs.trees.retain(|root, _| tree_name(root) != name);
        }
    }
}

fn tree_name(root: &ResourceRef) -> String {
    format!("{TREE}{root}")
}
