//! What translation has to remember, so that the next process, and other replicas, go on where this one is: on disk before
//! anybody sees an output that follows from it, and shared through the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meshrelay_snapshot::Name;
use meshrelay_translate::{Allocations, Inputs, LastAccepted, ResourceRef, Translation, Translator};

use crate::ServerError;
use crate::sharing::{RightTree, Shareable, SharedMemory};
use crate::state_file::StateFile;
use crate::translation::Translate;

/// File in the state folder with the virtual addresses in use.
const ALLOCATIONS_FILE: &str = "allocations.json";

/// File in the state folder with what trees of RouteTables that freeze keep while something in them is wrong.
const LAST_ACCEPTED_FILE: &str = "last-accepted.json";

/// The memory of the translator of one process.
pub(crate) struct Memory {
    allocations_file: StateFile,
    last_accepted_file: StateFile,
    /// As on disk.
    allocations: Allocations,
    /// As on disk.
    last_accepted: LastAccepted,
    /// Version of the input with the root of each tree when nothing was wrong with the tree last.
    right_at: BTreeMap<ResourceRef, u64>,
    /// Where there are replicas.
    shared: Option<Arc<SharedMemory>>,
    how: Translate,
}

impl Memory {
    /// Reads what is on disk.
    ///
    /// # Errors
    /// [`ServerError`] for files that cannot be read.
    pub(crate) fn load(state_directory: &Path, shared: Option<Arc<SharedMemory>>) -> Result<Self, ServerError> {
        let allocations_file = StateFile::new(state_directory, ALLOCATIONS_FILE);
        let allocations = allocations_file.load()?;
        let last_accepted_file = StateFile::new(state_directory, LAST_ACCEPTED_FILE);
        let trees: Vec<RightTree> = last_accepted_file.load()?;
        let mut last_accepted = LastAccepted::default();
        let mut right_at = BTreeMap::new();
        for RightTree { version, tree } in trees {
            right_at.insert(tree.root().clone(), version);
            last_accepted.adopt(tree);
        }
        let how = Translate::default();
        Ok(Self { allocations_file, last_accepted_file, allocations, last_accepted, right_at, shared, how })
    }

    /// Translates in another way.
    pub(crate) fn with(self, how: Translate) -> Self {
        Self { how, ..self }
    }

    /// Has a translator remember it.
    pub(crate) fn remind(&self, translator: Translator) -> Translator {
        translator.with_allocations(self.allocations.clone()).with_last_accepted(self.last_accepted.clone())
    }

    /// Translates inputs of these versions, with what other replicas remember where this one does not or is behind.
    ///
    /// # Errors
    /// When what the outputs follow from could not be kept: they must not be seen yet.
    pub(crate) fn translate(
        &mut self,
        translator: &mut Translator,
        inputs: &Inputs,
        versions: &BTreeMap<Name, u64>,
    ) -> std::io::Result<Translation> {
        let how = self.how.clone();
        let mut translation = how.0(translator, inputs, versions);
        if let Some(shared) = self.shared.clone()
            && let Some((allocations, last_accepted)) = self.adopt(translator, shared.theirs())
        {
            // Seldom enough: two hosts fell on one address, or replicas saw a tree break from different states.
            *translator = translator.anew(allocations, last_accepted);
            translation = how.0(translator, inputs, versions);
        }
        for (root, _) in translator.freezing_trees().filter(|(_, is_right)| *is_right) {
            self.right_at.insert(root.clone(), versions.get(&root.cluster).copied().unwrap_or_default());
        }
        self.keep(translator)?;
        Ok(translation)
    }

    /// What the translator has to remember instead, if that is something else.
    fn adopt(&mut self, translator: &Translator, theirs: Shareable) -> Option<(Allocations, LastAccepted)> {
        let mut allocations = translator.allocations().clone();
        let mut differs = allocations.adopt(&theirs.moved);
        let mut last_accepted = translator.last_accepted().clone();
        for (root, _) in translator.freezing_trees().filter(|(_, is_right)| !*is_right) {
            let Some(tree) = theirs.trees.get(root) else { continue };
            let ours = translator.last_accepted().tree(root);
            let is_newer = self.right_at.get(root).is_none_or(|version| *version < tree.version);
            if is_newer && ours.as_ref() != Some(&tree.tree) {
                last_accepted.adopt(tree.tree.clone());
                self.right_at.insert(root.clone(), tree.version);
                differs = true;
            }
        }
        differs.then_some((allocations, last_accepted))
    }

    /// On disk first.
    fn keep(&mut self, translator: &Translator) -> std::io::Result<()> {
        let (allocations, last_accepted) = (translator.allocations(), translator.last_accepted());
        let addresses_differ = *allocations != self.allocations;
        if addresses_differ {
            self.allocations_file.store(allocations)?;
            self.allocations = allocations.clone();
        }
        let trees_differ = *last_accepted != self.last_accepted;
        if trees_differ {
            self.right_at.retain(|root, _| last_accepted.tree(root).is_some());
            self.last_accepted_file.store(&self.trees(last_accepted).collect::<Vec<_>>())?;
            self.last_accepted = last_accepted.clone();
        }
        if let Some(shared) = &self.shared {
            let moved = allocations.moved().map(|(host, address)| (host.clone(), address)).collect();
            let trees = self.trees(last_accepted).map(|tree| (tree.tree.root().clone(), tree)).collect();
            shared.set_ours(Shareable { moved, trees });
        }
        Ok(())
    }

    fn trees<'a>(&'a self, last_accepted: &'a LastAccepted) -> impl Iterator<Item = RightTree> + 'a {
        last_accepted.trees().map(|tree| {
            let version = self.right_at.get(tree.root()).copied().unwrap_or_default();
            RightTree { version, tree }
        })
    }
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::{Object, Snapshot};
    use meshrelay_store::{MemoryStore, SnapshotStore as _};
    use meshrelay_translate::Options;
    use serde_json::{Value, json};

    use super::*;

    /// A fleet of one cluster whose only RouteTable freezes, and is right if it leads to the Service.
    fn fleet(path: &str, service: &str) -> Inputs {
        let object = |api_version: &str, kind: &str, namespace: &str, name: &str, spec: Value| json!({"apiVersion": api_version, "kind": kind, "spec": spec, "metadata": {"name": name, "namespace": namespace}});
        let ports = json!([{"name": "http", "port": 80}]);
        let destinations = json!([{"ref": {"name": service}}]);
        let route = json!({"matchers": [{"uri": {"exact": path}}], "forwardTo": {"destinations": destinations}});
        let table = json!({"hosts": ["shop.mesh"], "failureMode": "FREEZE_CONFIG", "http": [route]});
        let namespaces = json!([{"name": "*", "namespaces": [{"name": "shop"}]}]);
        let objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
            object("internal.gloo.solo.io/v2", "Mesh", "gloo-mesh", "istiod", json!({"trustDomain": "c"})),
            object("v1", "Service", "shop", "web", json!({"selector": {"app": "web"}, "ports": ports})),
            object(
                "apps/v1",
                "Deployment",
                "shop",
                "web",
                json!({"template": {"metadata": {"labels": {"app": "web"}}}}),
            ),
            object("admin.gloo.solo.io/v2", "Workspace", "gloo-mesh", "shop", json!({"workloadClusters": namespaces})),
            object("networking.gloo.solo.io/v2", "RouteTable", "shop", "root", table),
        ];
        let snapshot: Snapshot = objects.iter().map(|object| Arc::new(Object::from_value(object).unwrap())).collect();
        Inputs { management_cluster: "c".into(), clusters: [("c".into(), Arc::new(snapshot))].into() }
    }

    struct Replica {
        memory: Memory,
        translator: Translator,
        shared: Arc<SharedMemory>,
        state: tempfile::TempDir,
    }

    impl Replica {
        fn start(state: tempfile::TempDir) -> Self {
            let shared = Arc::<SharedMemory>::default();
            let memory = Memory::load(state.path(), Some(Arc::clone(&shared))).unwrap();
            let translator = memory.remind(Translator::new(Options::default()));
            Self { memory, translator, shared, state }
        }

        fn new() -> Self {
            Self::start(tempfile::tempdir().unwrap())
        }

        /// The path that is routed.
        fn translate(&mut self, inputs: &Inputs, version: u64) -> Option<String> {
            let versions = [("c".into(), version)].into();
            let outputs = self.memory.translate(&mut self.translator, inputs, &versions).unwrap().outputs;
            let mut paths = outputs["c"].iter().filter_map(|object| {
                Some(object.value().pointer("/spec/http/0/match/0/uri/exact")?.as_str()?.to_owned())
            });
            let path = paths.next();
            // A route that leads nowhere answers itself.
            path.filter(|_| outputs["c"].iter().any(|object| object.value().pointer("/spec/http/0/route").is_some()))
        }
    }

    #[tokio::test]
    async fn what_one_replica_saw_right_another_keeps_when_it_starts_with_it_broken() {
        let store = MemoryStore::default();
        let mut first = Replica::new();
        assert_eq!(first.translate(&fleet("/one", "web"), 5).as_deref(), Some("/one"));
        first.shared.write(&store).await.unwrap();
        let broken = fleet("/two", "nowhere");
        assert_eq!(first.translate(&broken, 6).as_deref(), Some("/one"), "it freezes");
        assert_eq!(Replica::new().translate(&broken, 6), None, "who never saw it right has nothing to keep");

        let mut second = Replica::new();
        second.shared.read_all(&store).await.unwrap();
        assert_eq!(second.translate(&broken, 6).as_deref(), Some("/one"));
        // It is on its disk, too.
        let mut again = Replica::start(second.state);
        assert_eq!(again.translate(&broken, 6).as_deref(), Some("/one"));

        // The first one sees a newer state that is right, and the others go from the older one to the broken one.
        assert_eq!(first.translate(&fleet("/three", "web"), 7).as_deref(), Some("/three"));
        first.shared.write(&store).await.unwrap();
        again.shared.read_all(&store).await.unwrap();
        assert_eq!(again.translate(&broken, 8).as_deref(), Some("/three"));
        // What is older does not come back, whoever writes it.
        assert!(!again.shared.write(&store).await.unwrap());
        let mut behind = Replica::new();
        assert_eq!(behind.translate(&fleet("/two", "web"), 6).as_deref(), Some("/two"));
        behind.shared.write(&store).await.unwrap();
        first.shared.read_all(&store).await.unwrap();
        assert_eq!(first.translate(&broken, 8).as_deref(), Some("/three"));
        behind.shared.read_all(&store).await.unwrap();
        assert_eq!(behind.translate(&broken, 8).as_deref(), Some("/three"));
    }

    #[tokio::test]
    async fn a_tree_that_is_gone_leaves_the_store_and_a_store_that_lost_it_gets_it_again() {
        let store = MemoryStore::default();
        let mut replica = Replica::new();
        replica.translate(&fleet("/one", "web"), 5);
        replica.shared.write(&store).await.unwrap();
        assert_eq!(store.documents().await.unwrap().len(), 1);
        let other = MemoryStore::default();
        replica.shared.read_all(&other).await.unwrap();
        replica.shared.write(&other).await.unwrap();
        assert_eq!(other.documents().await.unwrap().len(), 1);
        let mut without = fleet("/one", "web");
        let snapshot = Arc::make_mut(without.clusters.get_mut("c").unwrap());
        let table = snapshot.iter().find(|object| object.key().gvk.kind == "RouteTable").unwrap().key().clone();
        snapshot.remove(&table);
        replica.translate(&without, 6);
        replica.shared.write(&other).await.unwrap();
        assert_eq!(other.documents().await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn of_two_who_moved_hosts_the_first_is_right() {
        let store = MemoryStore::default();
        let share = |host: &str, address: [u8; 4]| Shareable {
            moved: [(Name::from(host), address.into())].into(),
            ..Shareable::default()
        };
        let (one, two) = (SharedMemory::default(), SharedMemory::default());
        one.set_ours(share("a.mesh", [240, 0, 0, 1]));
        two.set_ours(share("b.mesh", [240, 0, 0, 1]));
        assert!(!one.write(&store).await.unwrap());
        assert!(two.write(&store).await.unwrap(), "it is told that another was faster");
        assert_eq!(two.theirs().moved, one.theirs().moved);
        let mut allocations = Allocations::default();
        assert!(allocations.adopt(&two.theirs().moved));
        assert_eq!(allocations.get("a.mesh"), Some([240, 0, 0, 1].into()));
        two.set_ours(share("b.mesh", [240, 0, 0, 2]));
        assert!(!two.write(&store).await.unwrap());
        one.read_all(&store).await.unwrap();
        assert_eq!(one.theirs().moved.len(), 2);
    }
}
