use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::contents::{Assembly, FileState, read_file};
use crate::folder::{Listing, Stamp, Walker};
use crate::{ClusterView, DirectoryOptions};

/// One file that is followed.
#[derive(Debug, Default)]
struct Followed {
    state: FileState,
    /// Stamp of the text that `state` accepted last.
    read: Option<Stamp>,
    /// What the last look saw that was not read yet.
    next: Next,
}

#[derive(Debug, Default, PartialEq)]
enum Next {
    #[default]
    Nothing,
    /// Another text, with this stamp. Read once a second look sees the same stamp.
    Changed(Stamp),
    /// The file is gone. Believed once a second look does not see it either: editors save by moving the old file away.
    Gone,
}

/// What came out of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// The view is another one.
    pub(super) changed: bool,
    /// Something changed that has to keep still before it is believed.
    pub(super) settling: bool,
}

/// Follows the folder of a cluster, one look at a time; knows no clock.
#[derive(Debug)]
pub(super) struct Follower {
    options: DirectoryOptions,
    /// Name of the folder, for messages.
    display: String,
    walker: Walker,
    files: BTreeMap<String, Followed>,
    unreadable: BTreeMap<String, String>,
    /// True if the last look saw something that has to keep still.
    settling: bool,
    view: Arc<ClusterView>,
}

impl Follower {
    /// Reads the folder as it is.
    pub(super) fn open(options: DirectoryOptions) -> Self {
        let display = options
            .folder
            .file_name()
            .map_or_else(|| options.folder.display().to_string(), |name| name.to_string_lossy().into_owned());
        let walker = Walker::new(options.folder.clone());
        let (files, unreadable) = (BTreeMap::new(), BTreeMap::new());
        let mut follower = Self { options, display, walker, files, unreadable, settling: false, view: Arc::default() };
        let Listing { files, unreadable } = follower.walker.list();
        for (path, stamp) in files {
            follower.read(&path, stamp);
        }
        follower.unreadable = unreadable;
        follower.settling = follower.files.values().any(|file| file.next != Next::Nothing);
        follower.assemble();
        follower
    }

    /// What the folder holds as far as it is known.
    pub(super) fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.view)
    }

    /// The folders that were found, each with its inode.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.walker.folders()
    }

    /// Looks at the folder once more.
    pub(super) fn poll(&mut self) -> Progress {
        if !self.settling && self.walker.is_unchanged() {
            return Progress { changed: false, settling: false };
        }
        let listing = self.walker.list();
        let mut dirty = listing.unreadable != self.unreadable;
        for (path, stamp) in &listing.files {
            let file = self.files.entry(path.clone()).or_default();
            if file.read == Some(*stamp) {
                file.next = Next::Nothing;
            } else if file.next == Next::Changed(*stamp) {
                dirty |= self.read(path, *stamp);
            } else {
                file.next = Next::Changed(*stamp);
            }
        }
        self.files.retain(|path, file| {
            if listing.files.contains_key(path) || !listing.knows(path) {
                return true;
            }
            let gone = file.next == Next::Gone || file.read.is_none();
            dirty |= gone && file.read.is_some();
            file.next = Next::Gone;
            !gone
        });
        self.unreadable = listing.unreadable;
        let changed = dirty && self.assemble();
        self.settling = self.files.values().any(|file| file.next != Next::Nothing);
        Progress { changed, settling: self.settling }
    }

    /// True if the file was read in one piece; if it changed meanwhile, the next look sees to it.
    fn read(&mut self, path: &str, stamp: Stamp) -> bool {
        let full = self.walker.full(path);
        let bytes = read_file(&full);
        let file = self.files.entry(path.to_owned()).or_default();
        match std::fs::metadata(&full).map(|metadata| Stamp::of(&metadata)) {
            Ok(after) if after != stamp => {
                file.next = Next::Changed(after);
                return false;
            }
            Ok(_) => {}
            Err(_) => {
                file.next = Next::Gone;
                return false;
            }
        }
        file.state.accept(path, bytes, &self.options.admission);
        file.read = Some(stamp);
        file.next = Next::Nothing;
        true
    }

    /// True if the view is another one than before.
    fn assemble(&mut self) -> bool {
        let assembly = Assembly {
            folder: &self.display,
            kinds: &self.options.kinds,
            admission: &self.options.admission,
            facts: &self.options.facts,
            unreadable: &self.unreadable,
        };
        let files = self.files.iter().map(|(path, file)| (path, &file.state));
        let view = assembly.view(files, &self.view.snapshot);
        let changed = view != *self.view;
        self.view = Arc::new(view);
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use meshrelay_snapshot::{Completeness, Gvk, ObjectKey};
    use proptest::prelude::*;

    use super::*;

    const ROUTE: &str = "apiVersion: networking.gloo.solo.io/v2\nkind: RouteTable\nmetadata: {name: NAME}\n";

    fn route(name: &str) -> String {
        ROUTE.replace("NAME", name)
    }

    fn kinds() -> Vec<Gvk> {
        vec![Gvk::new("", "v1", "Namespace"), Gvk::new("", "v1", "Service"), key("a").gvk]
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Gvk::new("networking.gloo.solo.io", "v2", "RouteTable"), "default", name)
    }

    fn follow(folder: &Path) -> Follower {
        let kinds = kinds();
        Follower::open(DirectoryOptions { kinds, ..DirectoryOptions::new("one", folder, folder.join(".meshrelay")) })
    }

    /// Looks until everything has settled; true if the view changed.
    fn settle(follower: &mut Follower) -> bool {
        let mut changed = false;
        loop {
            let progress = follower.poll();
            changed |= progress.changed;
            if !progress.settling {
                return changed;
            }
        }
    }

    fn names(follower: &Follower) -> Vec<String> {
        let view = follower.view();
        let routes = view.snapshot.sorted().into_iter().filter(|object| object.key().gvk == key("a").gvk);
        routes.map(|object| object.key().name.to_string()).collect()
    }

    fn completeness(follower: &Follower) -> Vec<bool> {
        let view = follower.view();
        kinds().iter().map(|kind| view.snapshot.meta().completeness[kind] == Completeness::Synced).collect()
    }

    #[test]
    fn added_changed_renamed_and_deleted_files_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), route("a")).unwrap();
        let mut follower = follow(folder.path());
        assert_eq!(names(&follower), ["a"]);
        assert_eq!(completeness(&follower), [true; 3]);
        assert!(!settle(&mut follower));

        fs::create_dir(folder.path().join("more")).unwrap();
        fs::write(folder.path().join("more/b.yml"), route("b")).unwrap();
        fs::write(folder.path().join("kustomization.yaml"), "resources: []").unwrap();
        fs::write(folder.path().join(".hidden.yaml"), "{").unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["a", "b"]);

        fs::rename(folder.path().join("more/b.yml"), folder.path().join("c.yaml")).unwrap();
        assert!(!settle(&mut follower), "a file under another name holds the same objects");
        fs::write(folder.path().join("c.yaml"), route("c")).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["a", "c"]);

        fs::remove_file(folder.path().join("a.yaml")).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["c"]);
        assert_eq!(completeness(&follower), [true; 3]);
    }

    #[test]
    fn a_file_is_read_only_after_it_kept_still() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, route("a")).unwrap();
        let mut follower = follow(folder.path());
        fs::write(&file, &route("b")[..20]).unwrap();
        assert_eq!(follower.poll(), Progress { changed: false, settling: true });
        fs::write(&file, route("longer")).unwrap();
        assert_eq!(follower.poll(), Progress { changed: false, settling: true }, "still being written");
        assert_eq!(follower.poll(), Progress { changed: true, settling: false });
        assert_eq!(names(&follower), ["longer"]);

        // An editor that saves by moving the old file away and writing a new one.
        fs::rename(&file, folder.path().join("a.yaml~")).unwrap();
        assert_eq!(follower.poll(), Progress { changed: false, settling: true });
        fs::write(&file, route("saved")).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["saved"]);
    }

    #[test]
    fn a_bad_edit_leaves_the_last_good_state_of_its_file_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, format!("{}---\n{}", route("a"), route("b"))).unwrap();
        fs::write(folder.path().join("z.yaml"), route("z")).unwrap();
        let mut follower = follow(folder.path());

        fs::write(&file, format!("{}---\nkind RouteTable\nmetadata: {{}}\n", route("c"))).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["a", "b", "z"]);
        assert_eq!(completeness(&follower), [true, true, false], "only the kinds of the file are in doubt");
        let display = folder.path().file_name().unwrap().to_str().unwrap();
        let problems: Vec<_> = follower.view().problems.iter().map(ToString::to_string).collect();
        let expected = "expected `key: value`, found `kind RouteTable` (MR0410)";
        let in_force = "the last good state of this file stays in force";
        assert_eq!(problems, [format!("{display}/a.yaml:5:1: {expected}; {in_force}")]);

        fs::write(&file, route("c")).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["c", "z"]);
        assert_eq!(follower.view().problems, []);
        assert_eq!(completeness(&follower), [true; 3]);
    }

    #[test]
    fn a_file_that_never_was_good_puts_everything_in_doubt_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, format!("{}---\nkind: [\n---\n{}", route("a"), route("b"))).unwrap();
        let mut follower = follow(folder.path());
        assert_eq!(names(&follower), ["a", "b"]);
        assert_eq!(completeness(&follower), [false; 3]);
        assert!(!follower.view().problems[0].last_good_in_force);

        fs::write(&file, format!("{}---\nkind: [\n---\n{}", "kind: {", route("c"))).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["a", "b", "c"]);
        fs::write(&file, route("a")).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["a"]);
        assert_eq!(completeness(&follower), [true; 3]);
    }

    #[test]
    fn a_folder_that_went_away_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let (root, aside) = (folder.path().join("one"), folder.path().join("aside"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.yaml"), route("a")).unwrap();
        let mut follower = follow(&root);
        fs::rename(&root, &aside).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(names(&follower), ["a"]);
        assert_eq!(completeness(&follower), [false; 3]);
        assert_eq!(follower.view().problems[0].problem.code, "MR0414");
        fs::rename(&aside, &root).unwrap();
        assert!(settle(&mut follower));
        assert_eq!(completeness(&follower), [true; 3]);
        assert_eq!(follower.view().problems, []);

        let mut never = follow(&folder.path().join("never"));
        assert_eq!(completeness(&never), [false; 3]);
        fs::create_dir(folder.path().join("never")).unwrap();
        assert!(settle(&mut never));
        assert_eq!(completeness(&never), [true; 3]);
    }

    #[test]
    fn the_first_of_two_equal_objects_wins_and_both_places_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), route("a")).unwrap();
        fs::write(folder.path().join("b.yaml"), format!("{}---\n{}spec: {{}}\n", route("b"), route("a"))).unwrap();
        fs::write(folder.path().join("c.yaml"), route("c").replace("/v2", "/v1")).unwrap();
        let follower = follow(folder.path());
        assert_eq!(names(&follower), ["a", "b"]);
        assert!(follower.view().snapshot.get(&key("a")).unwrap().value().get("spec").is_none());
        let display = folder.path().file_name().unwrap().to_str().unwrap();
        let problems: Vec<_> = follower.view().problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                format!(
                    "{display}/b.yaml:5:1: expected each object once, found RouteTable default/a again, already at \
                 {display}/a.yaml:1 (MR0413)"
                ),
                format!(
                    "{display}/c.yaml:1:1: expected apiVersion networking.gloo.solo.io/v2 for a RouteTable, found \
                 networking.gloo.solo.io/v1 (MR0415)"
                ),
            ]
        );
    }

    /// What is done to one of a few files: a text with these objects, with or without a broken document; or deletion.
    type Edit = (u8, Option<(Vec<u8>, bool)>);

    /// What should be known of one file: the objects in force, whether there ever was a good text, and the objects of
    /// the newest text if it is a broken one.
    type Model = (BTreeSet<String>, bool, Option<BTreeSet<String>>);

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let text = (proptest::collection::btree_set(0_u8..4, 0..4), any::<bool>());
        let text = text.prop_map(|(objects, broken)| (objects.into_iter().collect(), broken));
        proptest::collection::vec((0_u8..3, proptest::option::weighted(0.8, text)), 1..10)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_edited_only_good_texts_take_objects_away(edits in edits()) {
            let folder = tempfile::tempdir().unwrap();
            let mut follower = follow(folder.path());
            let mut model: BTreeMap<u8, Model> = BTreeMap::new();
            for (file, text) in edits {
                let path = folder.path().join(format!("{file}.yaml"));
                match text {
                    None => {
                        model.remove(&file);
                        fs::remove_file(&path).ok();
                    }
                    Some((objects, broken)) => {
                        let objects: BTreeSet<String> =
                            objects.iter().map(|object| format!("file{file}-{object}")).collect();
                        let mut documents: Vec<_> = objects.iter().map(|name| route(name)).collect();
                        if broken {
                            documents.insert(documents.len() / 2, "kind: [".to_owned());
                        }
                        fs::write(&path, documents.join("\n---\n")).unwrap();
                        let (in_force, was_good, newest) = model.entry(file).or_default();
                        *newest = broken.then(|| objects.clone());
                        match (broken, *was_good) {
                            (false, _) => *in_force = objects,
                            (true, false) => in_force.extend(objects),
                            (true, true) => {}
                        }
                        *was_good |= !broken;
                    }
                }
                settle(&mut follower);
                let expected: Vec<_> = model.values().flat_map(|(objects, ..)| objects.iter().cloned()).collect();
                prop_assert_eq!(names(&follower), expected);
                let good = model.values().all(|(.., broken)| broken.is_none());
                prop_assert_eq!(follower.view().problems.is_empty(), good);
                // A kind is in doubt if a broken file has it, now or before, or was never read in full.
                let in_doubt = model.values().any(|(in_force, was_good, broken)| {
                    broken.as_ref().is_some_and(|newest| !was_good || !in_force.is_empty() || !newest.is_empty())
                });
                prop_assert_eq!(completeness(&follower)[2], !in_doubt);
            }
        }
    }
}
