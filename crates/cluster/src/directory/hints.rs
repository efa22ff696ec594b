//! Hints from the operating system that something in a folder may have changed. They make the next look come sooner and
//! decide nothing: a hint that never comes costs time only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// The hints for the folders of one cluster.
#[derive(Debug)]
pub(super) struct Hints {
    /// `None` if the system gives no hints, or not for all folders.
    watcher: Option<RecommendedWatcher>,
    /// Watched folders with the inode that they had: a watch belongs to the folder and not to its name.
    watched: BTreeMap<PathBuf, u64>,
    hint: Arc<Notify>,
}

impl Hints {
    /// No folder is watched yet, or ever if hints are not `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        let hint = Arc::new(Notify::new());
        let mut hints = Self { watcher: None, watched: BTreeMap::new(), hint: Arc::clone(&hint) };
        if wanted {
            let on_event = move |event: notify::Result<Event>| {
                if event.is_ok_and(|event| is_hint(&event)) {
                    hint.notify_one();
                }
            };
            match notify::recommended_watcher(on_event) {
                Ok(watcher) => hints.watcher = Some(watcher),
                Err(error) => hints.give_up(&error),
            }
        }
        hints
    }

    /// Woken by each hint; one that comes while nobody waits is kept.
    pub(super) fn hint(&self) -> Arc<Notify> {
        Arc::clone(&self.hint)
    }

    /// True if a change of any known folder gives a hint, as far as its file system does.
    pub(super) fn in_force(&self) -> bool {
        self.watcher.is_some() && !self.watched.is_empty()
    }

    /// Watches exactly these folders, each with its inode. True if one of them was not watched before, so that what
    /// changed in it until now gave no hint. Blocks for some system calls.
    pub(super) fn follow<'a>(&mut self, folders: impl Iterator<Item = (&'a Path, u64)>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let folders: BTreeMap<&Path, u64> = folders.collect();
        self.watched.retain(|path, inode| {
            let known = folders.get(path.as_path()) == Some(inode);
            if !known {
                // The watch of a deleted folder went with it.
                let _ = watcher.unwatch(path);
            }
            known
        });
        let mut new = false;
        for (path, inode) in folders {
            if self.watched.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.to_owned(), inode);
                    new = true;
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    self.give_up(&error);
                    return false;
                }
            }
        }
        new
    }

    fn give_up(&mut self, error: &notify::Error) {
        tracing::info!(%error, "the system does not tell of changes in this folder, so it is only looked at regularly");
        self.watcher = None;
        self.watched.clear();
    }
}

fn is_absent(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Whether a folder or file may be another one now. Files that are being written are not looked at before they are
/// closed, where the system tells of that.
fn is_hint(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Data(_)) => !cfg!(target_os = "linux"),
        _ => true,
    }
}
